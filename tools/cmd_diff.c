#include "core/repo/text.h"
#include "tools/commands.h"
#include "tools/source.h"
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

static void
print_diff(const FirnCli *cli, const FirnDiff *diff, bool chunks)
{
	if (cli->json) {
		JsonNode *node = json_node_alloc();

		json_node_init(node, JSON_NODE_ARRAY);
		json_node_take_array(node, firn_text_diff_json(diff));
		firn_cli_json(node);
	} else {
		g_autofree char *text =
			firn_text_diff(diff, chunks ? SIZE_MAX : FIRN_TEXT_DIFF_CHUNKS);

		fputs(text, stdout);
	}
}

static int
diff_snapshots(FirnCli *cli, int argc, char **argv, bool chunks)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnTarget) target = NULL;
	g_autoptr(FirnDiff) diff = NULL;
	FirnId12 from, to;
	int next, result;

	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	if (argc - next != 2)
		return firn_cli_usage(cli, "two snapshots are needed: A B");
	if (firn_target_resolve(target, argv[next], &from, &error) &&
	    firn_target_resolve(target, argv[next + 1], &to, &error))
		diff = firn_refs_diff(target->repo, &from, &to, &error);
	if (!diff)
		return firn_cli_fail(cli, error);
	print_diff(cli, diff, chunks);
	return FIRN_EXIT_DONE;
}

/* What the sessions in a journal changed, as one diff.  Caller owns. */
static FirnDiff *
diff_of_sections(GPtrArray *sections, const FirnSnapshot *base)
{
	FirnDiff *all = NULL;

	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);
		FirnDiff *diff = firn_text_diff_of_changes(section->changes, base);

		if (!all) {
			all = diff;
			continue;
		}
		while (diff->lines->len)
			g_ptr_array_add(all->lines, g_ptr_array_steal_index(diff->lines, 0));
		firn_diff_free(diff);
	}
	return all;
}

static int
diff_journal(FirnCli *cli, FirnOrigin *origin, const char *repo_name, bool chunks)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(FirnSnapshot) base = NULL;
	g_autoptr(FirnDiff) diff = NULL;
	const FirnSection *first;

	if (!firn_origin_read(origin, NULL, &error))
		return firn_cli_fail(cli, error);
	first = origin->sections->len ? g_ptr_array_index(origin->sections, 0) : NULL;
	repo = firn_origin_open_repo(origin, repo_name, &error);
	if (repo && first)
		base = firn_repo_get_snapshot(repo, &first->header->base, &error);
	if (!base)
		return firn_cli_fail(cli, error);
	diff = diff_of_sections(origin->sections, base);
	print_diff(cli, diff, chunks);
	return FIRN_EXIT_DONE;
}

static int
diff_uncommitted(FirnCli *cli, const char *source, const char *state_dir, const char *repo_name,
		 bool chunks)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *root = firn_state_root(state_dir);
	g_autoptr(FirnOrigin) origin = firn_origin_resolve(source ? source : ".", root, &error);
	g_autoptr(GBytes) text = NULL;

	if (!origin)
		return firn_cli_fail(cli, error);
	if (origin->kind != FIRN_ORIGIN_MOUNT || cli->json || chunks)
		return diff_journal(cli, origin, repo_name, chunks);
	text = firn_mount_read(origin->mount, "diff", &error);
	if (!text)
		return firn_cli_fail(cli, error);
	fwrite(g_bytes_get_data(text, NULL), 1, g_bytes_get_size(text), stdout);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_diff(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *state_dir = NULL;
	g_autofree char *repo = NULL;
	gboolean chunks = FALSE;
	const GOptionEntry entries[] = {
		{ "chunks", 'c', 0, G_OPTION_ARG_NONE, &chunks, "List every changed chunk", NULL },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &repo,
		  "Of SOURCE: the repository, if it moved since", "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 3);

	if (result >= 0)
		return result;
	if (argc - 1 <= 1)
		return diff_uncommitted(cli, argc > 1 ? argv[1] : NULL, state_dir, repo, chunks);
	if (repo)
		return firn_cli_usage(cli, "--repo goes with a SOURCE");
	return diff_snapshots(cli, argc, argv, chunks);
}
