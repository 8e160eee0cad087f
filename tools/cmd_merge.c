#include "tools/commands.h"
#include "tools/committing.h"

static bool
read_all(FirnRepo **out_repo, GPtrArray *origins, const char *repo_name, GError **error)
{
	*out_repo = firn_origin_open_repo(origins->pdata[0], repo_name, error);
	if (!*out_repo)
		return false;
	for (guint i = 0; i < origins->len; i++)
		if (!firn_origin_read(g_ptr_array_index(origins, i), *out_repo, error) ||
		    !firn_origin_check_whole(g_ptr_array_index(origins, i), error))
			return false;
	return true;
}

static int
merge_origins(FirnCli *cli, GPtrArray *origins, const char *output, const char *repo_name,
	      FirnFavor favor)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(GPtrArray) sources = NULL;
	g_autoptr(GPtrArray) conflicts = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	JsonBuilder *builder;

	if (!firn_committing_check_distinct(origins, &error) ||
	    !read_all(&repo, origins, repo_name, &error))
		return firn_cli_fail(cli, error);
	sources = firn_committing_sources(origins);
	sections = firn_merge_to_journal(repo, sources, favor, &conflicts, &error);
	if (!sections && !error) {
		g_set_error(&error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "%u conflicts between the sources; nothing was written",
			    conflicts->len);
		return firn_committing_conflicts(cli, conflicts, error);
	}
	if (!sections || !firn_journal_write(output, sections, &error))
		return firn_cli_fail(cli, error);
	if (!cli->json)
		return FIRN_EXIT_DONE;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "journal", output);
	firn_json_int(builder, "sessions", sections->len);
	firn_origins_torn_to_json(builder, origins);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
}

static int
merge(FirnCli *cli, int argc, char **argv, const char *state_dir, const char *output,
      const char *repo, FirnFavor favor)
{
	g_autofree char *root = firn_state_root(state_dir);
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) origins =
		g_ptr_array_new_with_free_func((GDestroyNotify)firn_origin_free);

	for (int i = 1; i < argc; i++) {
		FirnOrigin *origin = firn_origin_resolve(argv[i], root, &error);

		if (!origin)
			return firn_cli_fail(cli, error);
		g_ptr_array_add(origins, origin);
	}
	return merge_origins(cli, origins, output, repo, favor);
}

int
firn_cmd_merge(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *output = NULL;
	g_autofree char *favor_name = NULL;
	g_autofree char *state_dir = NULL;
	g_autofree char *repo = NULL;
	const GOptionEntry entries[] = {
		{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "The journal to write", "OUT" },
		{ "favor", 0, 0, G_OPTION_ARG_FILENAME, &favor_name,
		  "Settle chunks that several sources wrote", "first|last" },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &repo, "The repository, if it moved since",
		  "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, G_MAXINT - 1);
	FirnFavor favor;

	if (result >= 0)
		return result;
	if (!output)
		return firn_cli_usage(cli, "where to? -o OUT");
	if (!firn_favor_parse(favor_name, &favor))
		return firn_cli_usage(cli, "--favor: 'first' or 'last', not '%s'", favor_name);
	return merge(cli, argc, argv, state_dir, output, repo, favor);
}
