#include "core/base/clock.h"
#include "core/repo/text.h"
#include "tools/commands.h"
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

/* What nobody asks for. */
#define NO_LIMIT G_MININT

/* "(main, tag v1)": the names that point at a snapshot; NULL if none do.  Caller owns. */
static char *
names_of(const FirnRepoInfo *info, const FirnId12 *id)
{
	GString *names = g_string_new(NULL);

	for (guint i = 0; i < info->branches->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(info->branches, i);

		if (!firn_id12_compare(&ref->snapshot, id))
			g_string_append_printf(names, "%s%s", names->len ? ", " : "", ref->name);
	}
	for (guint i = 0; i < info->tags->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(info->tags, i);

		if (!firn_id12_compare(&ref->snapshot, id))
			g_string_append_printf(names, "%stag %s", names->len ? ", " : "",
					       ref->name);
	}
	return g_string_free(names, names->len == 0);
}

static void
names_to_json(JsonBuilder *builder, const char *member, GPtrArray *refs, const FirnId12 *id)
{
	json_builder_set_member_name(builder, member);
	json_builder_begin_array(builder);
	for (guint i = 0; i < refs->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(refs, i);

		if (!firn_id12_compare(&ref->snapshot, id))
			json_builder_add_string_value(builder, ref->name);
	}
	json_builder_end_array(builder);
}

static void
metadata_to_json(JsonBuilder *builder, JsonObject *metadata)
{
	json_builder_set_member_name(builder, "metadata");
	if (metadata) {
		JsonNode *node = json_node_init_object(json_node_alloc(), metadata);

		json_builder_add_value(builder, node);
	} else {
		json_builder_begin_object(builder);
		json_builder_end_object(builder);
	}
}

static void
info_to_json(JsonBuilder *builder, const FirnRepoInfo *info, const FirnSnapshotInfo *snapshot)
{
	char id[FIRN_ID12_TEXT + 1], parent[FIRN_ID12_TEXT + 1];
	g_autofree char *time = firn_clock_format_us(snapshot->flushed_at);

	firn_id12_format(&snapshot->id, id);
	firn_id12_format(&snapshot->parent, parent);
	firn_json_string(builder, "id", id);
	firn_json_string(builder, "parent", snapshot->has_parent ? parent : NULL);
	firn_json_string(builder, "date", time);
	firn_json_string(builder, "message", snapshot->message);
	names_to_json(builder, "branches", info->branches, &snapshot->id);
	names_to_json(builder, "tags", info->tags, &snapshot->id);
}

static int
print_log(FirnCli *cli, const FirnTarget *target, const char *ref, size_t most)
{
	g_autoptr(GError) error = NULL;
	FirnId12 id;

	if (!firn_target_resolve(target, ref, &id, &error))
		return firn_cli_fail(cli, error);
	if (cli->json) {
		JsonNode *node = json_node_alloc();

		json_node_init(node, JSON_NODE_ARRAY);
		json_node_take_array(node, firn_text_log_json(target->info, &id, most));
		firn_cli_json(node);
	} else {
		g_autofree char *text = firn_text_log(target->info, &id, most);

		fputs(text, stdout);
	}
	return FIRN_EXIT_DONE;
}

int
firn_cmd_log(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *ref = NULL;
	gint limit = NO_LIMIT;
	const GOptionEntry entries[] = {
		{ "ref", 'b', 0, G_OPTION_ARG_FILENAME, &ref,
		  "Start at this branch, tag or snapshot", "REF" },
		{ "number", 'n', 0, G_OPTION_ARG_INT, &limit, "At most N snapshots", "N" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);
	g_autoptr(FirnTarget) target = NULL;
	int next;

	if (result >= 0)
		return result;
	if (limit != NO_LIMIT && limit < 1)
		return firn_cli_usage(cli, "-n takes how many snapshots to show at most, from 1");
	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	if (next < argc)
		return firn_cli_usage(cli,
				      "'%s' is neither a repository nor a mount; "
				      "-b takes a branch, tag or snapshot",
				      argv[next]);
	return print_log(cli, target, ref, limit == NO_LIMIT ? 0 : (size_t)limit);
}

/* ---- show ---- */

typedef struct {
	size_t groups;
	size_t arrays;
	uint64_t refs;
	uint64_t manifest_bytes;
} Counts;

static Counts
count(const FirnSnapshot *snapshot)
{
	Counts counts = { 0 };

	for (size_t i = 0; i < firn_snapshot_n_nodes(snapshot); i++) {
		FirnSnapshotNode node;

		firn_snapshot_node(snapshot, i, &node);
		if (node.kind == FIRN_NODE_ARRAY)
			counts.arrays++;
		else
			counts.groups++;
	}
	for (size_t i = 0; i < firn_snapshot_n_manifest_files(snapshot); i++) {
		FirnManifestFile file;

		firn_snapshot_manifest_file(snapshot, i, &file);
		counts.refs += file.n_refs;
		counts.manifest_bytes += file.size_bytes;
	}
	return counts;
}

static void
show_text(const FirnTarget *target, const FirnSnapshotInfo *info, const FirnSnapshot *snapshot,
	  JsonObject *metadata)
{
	Counts counts = count(snapshot);
	g_autofree char *names = names_of(target->info, &info->id);
	g_autofree char *time = firn_clock_format_us(info->flushed_at);
	g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), metadata);
	g_autofree char *text = json_to_string(node, TRUE);
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(&info->id, id);
	printf("snapshot   %s%s%s%s\n", id, names ? " (" : "", names ? names : "",
	       names ? ")" : "");
	firn_id12_format(&info->parent, id);
	printf("parent     %s\n", info->has_parent ? id : "-");
	printf("date       %s\n", time);
	printf("nodes      %" G_GSIZE_FORMAT " groups, %" G_GSIZE_FORMAT " arrays\n", counts.groups,
	       counts.arrays);
	printf("manifests  %" G_GSIZE_FORMAT " with %" G_GUINT64_FORMAT
	       " chunks, %" G_GUINT64_FORMAT " bytes\n",
	       firn_snapshot_n_manifest_files(snapshot), counts.refs, counts.manifest_bytes);
	if (json_object_get_size(metadata))
		printf("metadata   %s\n", text);
	printf("\n%s\n", info->message);
}

static void
show_json(const FirnTarget *target, const FirnSnapshotInfo *info, const FirnSnapshot *snapshot,
	  JsonObject *metadata)
{
	Counts counts = count(snapshot);
	JsonBuilder *builder = json_builder_new();

	json_builder_begin_object(builder);
	info_to_json(builder, target->info, info);
	metadata_to_json(builder, metadata);
	firn_json_int(builder, "groups", (int64_t)counts.groups);
	firn_json_int(builder, "arrays", (int64_t)counts.arrays);
	firn_json_int(builder, "manifests", (int64_t)firn_snapshot_n_manifest_files(snapshot));
	firn_json_int(builder, "chunks", (int64_t)counts.refs);
	firn_json_int(builder, "manifest_bytes", (int64_t)counts.manifest_bytes);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

static int
show(FirnCli *cli, const FirnTarget *target, const char *ref)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot = firn_target_snapshot(target, ref, &error);
	g_autoptr(JsonObject) metadata = NULL;
	const FirnSnapshotInfo *info;

	if (snapshot)
		metadata = firn_snapshot_metadata(snapshot, &error);
	if (!metadata)
		return firn_cli_fail(cli, error);
	info = firn_repo_info_find_snapshot(target->info, firn_snapshot_id(snapshot));
	if (!info) {
		g_set_error(&error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "the snapshot is no longer part of the repository's history");
		return firn_cli_fail(cli, error);
	}
	if (cli->json)
		show_json(target, info, snapshot, metadata);
	else
		show_text(target, info, snapshot, metadata);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_show(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *ref = NULL;
	const GOptionEntry entries[] = {
		{ "ref", 'b', 0, G_OPTION_ARG_FILENAME, &ref, "A branch, tag or snapshot", "REF" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 2);
	g_autoptr(FirnTarget) target = NULL;
	int next;

	if (result >= 0)
		return result;
	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	if (argc - next > (ref ? 0 : 1))
		return firn_cli_usage(cli, "one argument too many: '%s'", argv[argc - 1]);
	return show(cli, target, next < argc ? argv[next] : ref);
}
