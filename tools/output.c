#include "tools/output.h"

#include <stdio.h>
#include <string.h>

static GOptionContext *
make_context(FirnCli *cli, const GOptionEntry *entries, gboolean *json, gboolean *help)
{
	GOptionContext *context = g_option_context_new(cli->command->usage);
	GOptionEntry common[] = {
		{ "json", 0, 0, G_OPTION_ARG_NONE, json, "Print the result as JSON", NULL },
		{ "help", 'h', 0, G_OPTION_ARG_NONE, help, "Show this help", NULL },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};

	g_option_context_set_help_enabled(context, FALSE);
	g_option_context_set_summary(context, cli->command->summary);
	if (entries)
		g_option_context_add_main_entries(context, entries, NULL);
	g_option_context_add_main_entries(context, common, NULL);
	return context;
}

int
firn_cli_parse(FirnCli *cli, int *argc, char ***argv, const GOptionEntry *entries)
{
	gboolean json = FALSE, help = FALSE;
	g_autofree char *program = g_strdup_printf("firn %s", cli->command->name);
	g_autoptr(GOptionContext) context = make_context(cli, entries, &json, &help);
	g_autoptr(GError) error = NULL;

	g_set_prgname(program);
	if (!g_option_context_parse(context, argc, argv, &error))
		return firn_cli_usage(cli, "%s", error->message);
	cli->json = json;
	if (help) {
		g_autofree char *text = g_option_context_get_help(context, TRUE, NULL);

		fputs(text, stdout);
		return FIRN_EXIT_DONE;
	}
	if (*argc > 1 && !strcmp((*argv)[1], "--")) {
		memmove(*argv + 1, *argv + 2, sizeof(char *) * (size_t)(*argc - 1));
		(*argc)--;
	}
	return -1;
}

int
firn_cli_parse_args(FirnCli *cli, int *argc, char ***argv, const GOptionEntry *entries, int min,
		    int max)
{
	int result = firn_cli_parse(cli, argc, argv, entries);

	if (result >= 0)
		return result;
	if (*argc - 1 < min)
		return firn_cli_usage(cli, "an argument is missing: %s", cli->command->usage);
	if (*argc - 1 > max)
		return firn_cli_usage(cli, "one argument too many: '%s'", (*argv)[max + 1]);
	return -1;
}

FirnExit
firn_exit_of(const GError *error)
{
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT))
		return FIRN_EXIT_CONFLICT;
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOTHING))
		return FIRN_EXIT_NOTHING;
	return FIRN_EXIT_FAILED;
}

const char *
firn_error_word(const GError *error)
{
	if (error->domain != FIRN_ERROR)
		return "failed";
	switch ((FirnError)error->code) {
	case FIRN_ERROR_FORMAT:
		return "format";
	case FIRN_ERROR_UNSUPPORTED:
		return "unsupported";
	case FIRN_ERROR_NOT_FOUND:
		return "not-found";
	case FIRN_ERROR_EXISTS:
		return "exists";
	case FIRN_ERROR_CONFLICT:
		return "conflict";
	case FIRN_ERROR_BUSY:
		return "busy";
	case FIRN_ERROR_NOTHING:
		return "nothing";
	case FIRN_ERROR_INVALID:
		return "invalid";
	case FIRN_ERROR_LIMIT:
		return "limit";
	case FIRN_ERROR_DENIED:
		return "denied";
	case FIRN_ERROR_READ_ONLY:
		return "read-only";
	case FIRN_ERROR_NO_SPACE:
		return "no-space";
	case FIRN_ERROR_QUOTA:
		return "quota";
	case FIRN_ERROR_STORE:
		return "failed";
	}
	return "failed";
}

int
firn_cli_fail(const FirnCli *cli, const GError *error)
{
	fprintf(stderr, "firn: %s\n", error->message);
	firn_cli_json_error(cli, error->message, firn_error_word(error));
	return (int)firn_exit_of(error);
}

void
firn_cli_json_error(const FirnCli *cli, const char *text, const char *code)
{
	JsonBuilder *builder;

	if (!cli->json)
		return;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "error", text);
	firn_json_string(builder, "code", code);
	if (!strcmp(code, "conflict")) {
		/* None about a node or a chunk. */
		json_builder_set_member_name(builder, "conflicts");
		json_builder_begin_array(builder);
		json_builder_end_array(builder);
	}
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

int
firn_cli_usage(const FirnCli *cli, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	fprintf(stderr, "firn: %s\n", text);
	if (cli->command)
		fprintf(stderr, "firn: 'firn %s --help' says how\n", cli->command->name);
	else
		fputs("firn: 'firn --help' lists the commands\n", stderr);
	firn_cli_json_error(cli, text, "usage");
	return FIRN_EXIT_USAGE;
}

void
firn_cli_note(const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	fprintf(stderr, "firn: note: %s\n", text);
}

void
firn_cli_warn(const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	fprintf(stderr, "firn: warning: %s\n", text);
}

void
firn_cli_json(JsonNode *node)
{
	g_autofree char *text = json_to_string(node, TRUE);

	puts(text);
	json_node_unref(node);
}

void
firn_cli_json_builder(JsonBuilder *builder)
{
	firn_cli_json(json_builder_get_root(builder));
	g_object_unref(builder);
}

void
firn_json_string(JsonBuilder *builder, const char *name, const char *value)
{
	json_builder_set_member_name(builder, name);
	if (value) {
		g_autofree char *valid = g_utf8_make_valid(value, -1);

		json_builder_add_string_value(builder, valid);
	} else {
		json_builder_add_null_value(builder);
	}
}

void
firn_json_int(JsonBuilder *builder, const char *name, int64_t value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_int_value(builder, value);
}

void
firn_json_bool(JsonBuilder *builder, const char *name, bool value)
{
	json_builder_set_member_name(builder, name);
	json_builder_add_boolean_value(builder, value);
}

char *
firn_text_list(const GPtrArray *names, guint shown)
{
	GString *list = g_string_new(NULL);

	for (guint i = 0; i < MIN(names->len, shown); i++) {
		const char *name = g_ptr_array_index(names, i);
		g_autofree char *escaped = firn_text_escape(name, strlen(name));

		g_string_append_printf(list, "%s%s", i ? ", " : "", escaped);
	}
	if (names->len > shown)
		g_string_append_printf(list, " and %u more", names->len - shown);
	return g_string_free(list, FALSE);
}

char *
firn_text_escape(const char *text, size_t len)
{
	GString *out = g_string_sized_new(len);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n')
			g_string_append(out, "\\n");
		else if (c < 0x20 || c == 0x7f)
			g_string_append_printf(out, "\\x%02x", c);
		else
			g_string_append_c(out, (char)c);
	}
	return g_string_free(out, FALSE);
}
