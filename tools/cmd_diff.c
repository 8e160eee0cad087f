#include "core/zarr/name.h"
#include "tools/changes_text.h"
#include "tools/commands.h"
#include "tools/source.h"
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

static const char *
entry_change(const FirnDiffEntry *entry)
{
	switch (entry->change) {
	case FIRN_DIFF_ADDED:
		return "new";
	case FIRN_DIFF_DELETED:
		return "deleted";
	case FIRN_DIFF_CHANGED:
		return entry->meta_changed ? "changed" : "chunks";
	}
	return "unknown";
}

static guint
entry_chunks(const FirnDiffEntry *entry)
{
	return entry->chunks ? entry->chunks->len / MAX(entry->rank, 1) : 0;
}

static const uint32_t *
entry_chunk(const FirnDiffEntry *entry, guint i)
{
	return (const uint32_t *)(const void *)entry->chunks->data + (size_t)i * entry->rank;
}

static void
print_entry(const FirnDiffEntry *entry, bool chunks)
{
	g_autofree char *path = firn_text_escape(entry->path, strlen(entry->path));
	guint n = entry_chunks(entry);

	printf("%-7s %s %s", entry_change(entry),
	       entry->kind == FIRN_NODE_ARRAY ? "array" : "group", path);
	if (n)
		printf("  %u chunk%s", n, n == 1 ? "" : "s");
	putchar('\n');
	for (guint i = 0; chunks && i < n; i++) {
		g_autofree char *name = firn_name_format_chunk(entry_chunk(entry, i), entry->rank);

		printf("    %s\n", name);
	}
}

static void
entry_to_json(JsonBuilder *builder, const FirnDiffEntry *entry)
{
	json_builder_begin_object(builder);
	firn_json_string(builder, "path", entry->path);
	firn_json_string(builder, "kind", entry->kind == FIRN_NODE_ARRAY ? "array" : "group");
	firn_json_string(builder, "change", entry_change(entry));
	json_builder_set_member_name(builder, "chunks");
	json_builder_begin_array(builder);
	for (guint i = 0; i < entry_chunks(entry); i++) {
		json_builder_begin_array(builder);
		for (uint32_t axis = 0; axis < entry->rank; axis++)
			json_builder_add_int_value(builder, entry_chunk(entry, i)[axis]);
		json_builder_end_array(builder);
	}
	json_builder_end_array(builder);
	json_builder_end_object(builder);
}

static int
print_diff(FirnCli *cli, const FirnDiff *diff, bool chunks)
{
	JsonBuilder *builder;

	for (guint i = 0; !cli->json && i < diff->lines->len; i++)
		print_entry(g_ptr_array_index(diff->lines, i), chunks);
	if (!cli->json)
		return FIRN_EXIT_DONE;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	json_builder_set_member_name(builder, "nodes");
	json_builder_begin_array(builder);
	for (guint i = 0; i < diff->lines->len; i++)
		entry_to_json(builder, g_ptr_array_index(diff->lines, i));
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
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
	return diff ? print_diff(cli, diff, chunks) : firn_cli_fail(cli, error);
}

static int
diff_uncommitted(FirnCli *cli, const char *source, const char *state_dir, bool chunks)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *root = firn_state_root(state_dir);
	g_autoptr(FirnOrigin) origin = firn_origin_resolve(source ? source : ".", root, &error);
	JsonBuilder *builder;

	if (!origin || !firn_origin_read(origin, NULL, &error))
		return firn_cli_fail(cli, error);
	if (!cli->json) {
		for (guint i = 0; i < origin->sections->len; i++) {
			const FirnSection *section = g_ptr_array_index(origin->sections, i);

			firn_changes_print(section->changes, chunks, "");
		}
		return FIRN_EXIT_DONE;
	}
	builder = json_builder_new();
	if (origin->sections->len != 1)
		json_builder_begin_array(builder);
	for (guint i = 0; i < origin->sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(origin->sections, i);

		json_builder_begin_object(builder);
		firn_changes_to_json(section->changes, builder);
		json_builder_end_object(builder);
	}
	if (origin->sections->len != 1)
		json_builder_end_array(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_diff(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *state_dir = NULL;
	gboolean chunks = FALSE;
	const GOptionEntry entries[] = {
		{ "chunks", 'c', 0, G_OPTION_ARG_NONE, &chunks, "List every changed chunk", NULL },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 3);

	if (result >= 0)
		return result;
	if (argc - 1 <= 1)
		return diff_uncommitted(cli, argc > 1 ? argv[1] : NULL, state_dir, chunks);
	return diff_snapshots(cli, argc, argv, chunks);
}
