#include "core/base/json_check.h"
#include "tools/commands.h"
#include "tools/committing.h"
#include "tools/fork_arg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of metadata: what is deeper than others may read stays a text. */
#define JSON_DEPTH 64u
/* Where journals of workers come from. */
#define HINT                                                                               \
	"workers publish theirs with 'firn umount'; 'firn sessions' where they ran lists " \
	"those whose driver is gone: 'firn mount --resume' them, and unmount"

/* What the command line of `commit` says, before it is understood. */
typedef struct {
	char *message, *repo, *favor, *rebase, *state_dir;
	char **metadata, **forks;
	int expect;
	gboolean amend, allow_empty, force;
} Options;

static void
options_clear(Options *options)
{
	g_free(options->message);
	g_free(options->repo);
	g_free(options->favor);
	g_free(options->rebase);
	g_free(options->state_dir);
	g_strfreev(options->metadata);
	g_strfreev(options->forks);
}

/* What the escape at `at` is for, if it is a \u of four digits; else something harmless. */
static guint
escaped(const char *at)
{
	guint code = 0;

	if (at[0] != '\\' || at[1] != 'u')
		return 'x';
	for (unsigned i = 2; i < 6; i++)
		code = code * 16 + (guint)g_ascii_xdigit_value(at[i]);
	return code;
}

/* Behind a valid string that begins at `at`; `*out_kept` false: it is no text without NUL. */
static const char *
skip_string(const char *at, bool *out_kept)
{
	for (at++; *at != '"'; at++) {
		guint code = escaped(at);

		if (*at == '\\')
			at += at[1] == 'u' ? 5 : 1;
		if ((code & 0xfc00) == 0xd800 && (escaped(at + 1) & 0xfc00) == 0xdc00)
			at += 6;
		else if (code == 0 || (code & 0xf800) == 0xd800)
			*out_kept = false;
	}
	return at + 1;
}

static const char *
skip_number(const char *at, bool *out_kept)
{
	size_t len = strspn(at, "+-.eE0123456789");
	g_autofree char *number = g_strndup(at, len);

	if (strpbrk(number, ".eE") != NULL
		    ? !isfinite(g_ascii_strtod(number, NULL))
		    : !g_ascii_string_to_signed(number, 10, G_MININT64, G_MAXINT64, NULL, NULL))
		*out_kept = false;
	return at + len;
}

/* Whether `text` is JSON all of which can be kept: numbers of 64 bits, texts without NUL. */
static bool
is_kept_as_json(const char *text)
{
	bool kept = true;

	if (firn_json_check((FirnSpan){ (const uint8_t *)text, strlen(text) }, JSON_DEPTH, NULL))
		return false;
	while (*text != '\0' && kept) {
		if (*text == '"')
			text = skip_string(text, &kept);
		else if (*text == '-' || g_ascii_isdigit(*text))
			text = skip_number(text, &kept);
		else
			text++;
	}
	return kept;
}

/* "K=V": V as JSON if it is JSON that can be kept, else as text. */
static bool
add_metadata(JsonObject *object, const char *pair, GError **error)
{
	const char *equals = strchr(pair, '=');
	g_autofree char *key = equals ? g_strndup(pair, (gsize)(equals - pair)) : NULL;
	JsonNode *value;

	if (!equals || equals == pair || !g_utf8_validate(pair, -1, NULL)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "--metadata takes KEY=VALUE in UTF-8, not '%s'", pair);
		return false;
	}
	equals++;
	if (is_kept_as_json(equals))
		value = json_from_string(equals, NULL);
	else
		value = json_node_init_string(json_node_alloc(), equals);
	if (!value)
		value = json_node_init_null(json_node_alloc());
	json_object_set_member(object, key, value);
	return true;
}

static bool
parse_metadata(char **pairs, JsonObject *object, GError **error)
{
	for (; pairs && *pairs; pairs++)
		if (!add_metadata(object, *pairs, error))
			return false;
	return true;
}

static GPtrArray *
resolve_sources(int argc, char **argv, const Options *options, GError **error)
{
	g_autoptr(GPtrArray) origins =
		g_ptr_array_new_with_free_func((GDestroyNotify)firn_origin_free);
	g_autofree char *root = firn_state_root(options->state_dir);
	bool here = argc == 1 && !options->forks;

	for (int i = 1; i < argc || here; i++) {
		FirnOrigin *origin = firn_origin_resolve(here ? "." : argv[i], root, error);

		if (!origin)
			return NULL;
		g_ptr_array_add(origins, origin);
		here = false;
	}
	return g_steal_pointer(&origins);
}

/* "fork A", "forks A, B".  Caller owns. */
static char *
name_forks(GPtrArray *forks)
{
	GString *names = g_string_new(forks->len > 1 ? "forks" : "fork");

	for (guint i = 0; i < forks->len; i++)
		g_string_append_printf(names, "%s %s", i ? "," : "",
				       ((const FirnForkArg *)g_ptr_array_index(forks, i))->id);
	return g_string_free(names, FALSE);
}

static bool
check_expected(GPtrArray *forks, GPtrArray *keys, int expect, GError **error)
{
	g_autoptr(GString) there = g_string_new(NULL);
	g_autofree char *names = NULL;

	if (keys->len >= (guint)MAX(expect, 1))
		return true;
	names = name_forks(forks);
	for (guint i = 0; i < keys->len; i++) {
		g_autofree char *name = g_path_get_basename(g_ptr_array_index(keys, i));

		if (g_str_has_suffix(name, ".journal"))
			name[strlen(name) - strlen(".journal")] = '\0';
		g_string_append_printf(there, "%s%s", i ? ", " : "", name);
	}
	if (expect)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s: %u of %d journals are published, %d missing (there: %s); " HINT,
			    names, keys->len, expect, expect - (int)keys->len,
			    there->len ? there->str : "none");
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s: no worker has published a journal; " HINT, names);
	return false;
}

static bool
add_forks(FirnRepo *repo, GPtrArray *forks, int expect, GPtrArray *origins, GError **error)
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < forks->len; i++) {
		const FirnForkArg *fork = g_ptr_array_index(forks, i);
		GPtrArray *keys = firn_fork_list(repo, fork->id, error);

		if (!keys)
			return false;
		g_ptr_array_extend_and_steal(all, keys);
	}
	if (forks->len && !check_expected(forks, all, expect, error))
		return false;
	for (guint i = 0; i < all->len; i++)
		g_ptr_array_add(origins, firn_origin_published(g_ptr_array_index(all, i),
							       firn_repo_url(repo)));
	return true;
}

/* A worker's mount shows its part only: whoever made the fork puts the parts together. */
static bool
check_not_only_forks(GPtrArray *origins, GError **error)
{
	const FirnOrigin *first = origins->len ? g_ptr_array_index(origins, 0) : NULL;

	for (guint i = 0; i < origins->len; i++) {
		const FirnOrigin *origin = g_ptr_array_index(origins, i);

		if (origin->kind != FIRN_ORIGIN_MOUNT ||
		    !*firn_mount_string(origin->mount, "fork_of"))
			return true;
	}
	if (!first)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s is the mount of a fork, which does not commit by itself: unmount it, then "
		    "'firn commit MOUNT --fork %s -m MSG' with the mount the fork was made from",
		    first->name, firn_mount_string(first->mount, "fork_of"));
	return false;
}

static int
commit(FirnCli *cli, int argc, char **argv, const Options *options, FirnCommitRequest *request)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonObject) metadata = json_object_new();
	g_autoptr(GPtrArray) forks = NULL;
	g_autoptr(GPtrArray) origins = NULL;
	g_autoptr(FirnRepo) repo = NULL;

	if (!parse_metadata(options->metadata, metadata, &error))
		return firn_cli_usage(cli, "%s", error->message);
	request->metadata = metadata;
	origins = resolve_sources(argc, argv, options, &error);
	if (!origins || !check_not_only_forks(origins, &error))
		return firn_cli_fail(cli, error);
	forks = firn_fork_args(options->forks, &error);
	if (forks && !options->repo && origins->len)
		repo = firn_origin_open_repo(g_ptr_array_index(origins, 0), NULL, &error);
	else if (forks)
		repo = firn_fork_args_open_repo(forks, options->repo, &error);
	if (!repo || !add_forks(repo, forks, options->expect, origins, &error))
		return firn_cli_fail(cli, error);
	return firn_committing_run(cli, repo, origins, request);
}

int
firn_cmd_commit(FirnCli *cli, int argc, char **argv)
{
	Options options = { 0 };
	FirnCommitRequest request = { 0 };
	const GOptionEntry entries[] = {
		{ "message", 'm', 0, G_OPTION_ARG_FILENAME, &options.message, "What this commit is",
		  "MSG" },
		{ "metadata", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.metadata,
		  "Add to the snapshot's metadata; VALUE as JSON if it is", "KEY=VALUE" },
		{ "rebase", 0, 0, G_OPTION_ARG_FILENAME, &options.rebase,
		  "If the branch moved: put the commit on top (collisions: fail, ours, theirs)",
		  "[POLICY]" },
		{ "favor", 0, 0, G_OPTION_ARG_FILENAME, &options.favor,
		  "Settle chunks that several sources wrote", "first|last" },
		{ "amend", 0, 0, G_OPTION_ARG_NONE, &options.amend,
		  "Replace the branch's last commit", NULL },
		{ "allow-empty", 0, 0, G_OPTION_ARG_NONE, &options.allow_empty,
		  "Commit even if nothing changed", NULL },
		{ "force", 0, 0, G_OPTION_ARG_NONE, &options.force,
		  "Drop files without a place instead of refusing", NULL },
		{ "fork", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.forks,
		  "Also what the workers of a fork published (token file or id)", "FORK" },
		{ "expect", 0, 0, G_OPTION_ARG_INT, &options.expect,
		  "Fail if fewer workers have published", "N" },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &options.repo,
		  "The repository, if it moved since", "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result;

	firn_rebase_prepare(argc, argv);
	result = firn_cli_parse(cli, &argc, &argv, entries);
	request.message = options.message;
	request.amend = options.amend;
	request.allow_empty = options.allow_empty;
	request.force = options.force;
	if (result < 0 && (!options.message || !g_utf8_validate(options.message, -1, NULL)))
		result = firn_cli_usage(cli, options.message ? "the message is not UTF-8"
							     : "a message is missing: -m MSG");
	if (result < 0 && !firn_rebase_parse(options.rebase, &request.rebase))
		result = firn_cli_usage(cli, "--rebase: 'fail', 'ours' or 'theirs', not '%s'",
					options.rebase);
	if (result < 0 && !firn_favor_parse(options.favor, &request.favor))
		result = firn_cli_usage(cli, "--favor: 'first' or 'last', not '%s'", options.favor);
	if (result < 0 && options.expect && (!options.forks || options.expect < 0))
		result = firn_cli_usage(cli, "--expect takes a number of workers of --fork");
	if (result < 0)
		result = commit(cli, argc, argv, &options, &request);
	options_clear(&options);
	return result;
}
