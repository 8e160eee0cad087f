#ifndef FIRN_TOOLS_OUTPUT_H
#define FIRN_TOOLS_OUTPUT_H

#include "core/base/error.h"

#include <json-glib/json-glib.h>

/*
 * What a command says, and how.  Results go to stdout: as text, or with --json
 * as exactly one JSON value.  Notes, warnings, errors and progress go to stderr.
 */
typedef enum {
	FIRN_EXIT_DONE = 0,
	FIRN_EXIT_FAILED = 1,
	FIRN_EXIT_USAGE = 2,
	FIRN_EXIT_CONFLICT = 3,
	FIRN_EXIT_NOTHING = 4,
} FirnExit;

typedef struct FirnCli FirnCli;

/* A row of the command table. */
typedef struct {
	const char *name;
	int (*run)(FirnCli *cli, int argc, char **argv); /* argv[0] is the command's name */
	const char *usage;                               /* arguments, as --help shows them */
	const char *summary;
} FirnCommand;

struct FirnCli {
	const FirnCommand *command;
	bool json; /* before the options are parsed: as it seems */
};

/*
 * Parse the options of a command (`entries`, NULL-terminated, all strings as
 * G_OPTION_ARG_FILENAME so that no locale converts them) plus --json and --help;
 * what is left in `*argv` are the arguments from index 1 on.  -1: go on; else
 * the exit code to return.
 */
int firn_cli_parse(FirnCli *cli, int *argc, char ***argv, const GOptionEntry *entries);
/* As above; also 2 unless the number of arguments is in [min, max]. */
int firn_cli_parse_args(FirnCli *cli, int *argc, char ***argv, const GOptionEntry *entries, int min,
			int max);

/* The exit code that goes with an error. */
FirnExit firn_exit_of(const GError *error);
/* "not-found", "conflict"...: the word for an error in JSON. */
const char *firn_error_word(const GError *error);

/* Report `error` (and, with --json, {"error", "code"} on stdout); returns the exit code. */
int firn_cli_fail(const FirnCli *cli, const GError *error);
/* With --json, {"error", "code"} on stdout, of a failure that has been told on stderr. */
void firn_cli_json_error(const FirnCli *cli, const char *text, const char *code);
/* Report wrong usage, as firn_cli_fail() does with the code "usage"; returns FIRN_EXIT_USAGE. */
int firn_cli_usage(const FirnCli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
void firn_cli_note(const char *format, ...) G_GNUC_PRINTF(1, 2);
void firn_cli_warn(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Print to stdout.  `node` is consumed. */
void firn_cli_json(JsonNode *node);
/* The same of a builder, consumed too. */
void firn_cli_json_builder(JsonBuilder *builder);

/* `builder`: member `name` with a value; a NULL string is null. */
void firn_json_string(JsonBuilder *builder, const char *name, const char *value);
void firn_json_int(JsonBuilder *builder, const char *name, int64_t value);
void firn_json_bool(JsonBuilder *builder, const char *name, bool value);

/* "A, B, C and 7 more": at most `shown` of `names` (char *), escaped.  Caller owns. */
char *firn_text_list(const GPtrArray *names, guint shown);

/* `text` with control characters escaped, so that one name stays on one line.  Caller owns. */
char *firn_text_escape(const char *text, size_t len);

#endif
