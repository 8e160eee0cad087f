#include "core/repo/refs.h"
#include "tools/commands.h"

int
firn_cmd_init(FirnCli *cli, int argc, char **argv)
{
	int result = firn_cli_parse_args(cli, &argc, &argv, NULL, 1, 1);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	JsonBuilder *builder;

	if (result >= 0)
		return result;
	if (!firn_repo_create(argv[1], &error))
		return firn_cli_fail(cli, error);
	repo = firn_repo_open(argv[1], &error);
	if (!repo)
		return firn_cli_fail(cli, error);
	if (!cli->json) {
		firn_cli_note("created %s", firn_repo_url(repo));
		return FIRN_EXIT_DONE;
	}
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "repository", firn_repo_url(repo));
	firn_json_string(builder, "branch", "main");
	firn_json_int(builder, "spec_version", firn_repo_spec_version(repo));
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
}
