#include "tools/commands.h"
#include "tools/nodepath.h"
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

typedef struct {
	FirnCli *cli;
	const FirnSnapshot *snapshot;
	JsonBuilder *builder;
	bool details;
	bool recursive;
} Listing;

/* Chunks the array has refs for cannot be told without its manifests: this is its grid. */
static void
print_details(const FirnSnapshot *snapshot, const FirnSnapshotNode *node)
{
	char id[FIRN_ID8_TEXT + 1];
	GString *shape = g_string_new(NULL);
	GString *grid = g_string_new(NULL);

	firn_id8_format(&node->id, id);
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(snapshot, node, axis, &length, &n_chunks);
		g_string_append_printf(shape, "%s%" G_GUINT64_FORMAT, axis ? "x" : "", length);
		g_string_append_printf(grid, "%s%u", axis ? "x" : "", n_chunks);
	}
	if (node->kind == FIRN_NODE_ARRAY)
		printf("array  %s  %-20s  %-12s  ", id, shape->len ? shape->str : "()",
		       grid->len ? grid->str : "1");
	else
		printf("group  %s  %-20s  %-12s  ", id, "", "");
	g_string_free(shape, TRUE);
	g_string_free(grid, TRUE);
}

static void
node_to_json(JsonBuilder *builder, const FirnSnapshot *snapshot, const FirnSnapshotNode *node)
{
	char id[FIRN_ID8_TEXT + 1];
	g_autofree char *path = g_strndup((const char *)node->path.data, node->path.len);

	firn_id8_format(&node->id, id);
	json_builder_begin_object(builder);
	firn_json_string(builder, "path", path);
	firn_json_string(builder, "id", id);
	firn_json_string(builder, "kind", node->kind == FIRN_NODE_ARRAY ? "array" : "group");
	for (int what = 0; node->kind == FIRN_NODE_ARRAY && what < 2; what++) {
		json_builder_set_member_name(builder, what ? "chunks" : "shape");
		json_builder_begin_array(builder);
		for (uint32_t axis = 0; axis < node->rank; axis++) {
			uint64_t length;
			uint32_t n_chunks;

			firn_snapshot_node_shape(snapshot, node, axis, &length, &n_chunks);
			json_builder_add_int_value(builder, what ? n_chunks : (int64_t)length);
		}
		json_builder_end_array(builder);
	}
	if (node->kind == FIRN_NODE_ARRAY)
		firn_json_int(builder, "manifests", node->n_manifests);
	json_builder_end_object(builder);
}

static void
list_node(Listing *listing, const FirnSnapshotNode *node)
{
	g_autofree char *path = NULL;

	if (listing->cli->json) {
		node_to_json(listing->builder, listing->snapshot, node);
		return;
	}
	path = firn_text_escape((const char *)node->path.data, node->path.len);
	if (listing->details)
		print_details(listing->snapshot, node);
	puts(path);
}

/* Paths are sorted by bytes, so what lies below `path` is one run, but "/a-b" may come between. */
static void
list_below(Listing *listing, const char *path)
{
	g_autofree char *prefix =
		g_strcmp0(path, "/") ? g_strconcat(path, "/", NULL) : g_strdup("/");
	size_t len = strlen(prefix);
	size_t n = firn_snapshot_n_nodes(listing->snapshot);
	size_t i;

	if (firn_snapshot_find_path(listing->snapshot, prefix, len, &i))
		i++; /* the root itself */
	for (; i < n; i++) {
		FirnSnapshotNode node;

		firn_snapshot_node(listing->snapshot, i, &node);
		if (node.path.len < len || memcmp(node.path.data, prefix, len) != 0)
			break;
		if (listing->recursive || !memchr(node.path.data + len, '/', node.path.len - len))
			list_node(listing, &node);
	}
}

static int
list(Listing *listing, const char *path, GError **error)
{
	FirnSnapshotNode node = { .kind = FIRN_NODE_GROUP };
	bool found;
	size_t i;

	/* The root of a new repository is a group without a document. */
	found = firn_snapshot_find_path(listing->snapshot, path, strlen(path), &i);
	if (!found && strcmp(path, "/") != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND, "there is no node %s", path);
		return -1;
	}
	if (listing->cli->json) {
		listing->builder = json_builder_new();
		json_builder_begin_array(listing->builder);
	}
	if (found)
		firn_snapshot_node(listing->snapshot, i, &node);
	if (node.kind == FIRN_NODE_ARRAY)
		list_node(listing, &node);
	else
		list_below(listing, path);
	if (listing->cli->json) {
		json_builder_end_array(listing->builder);
		firn_cli_json_builder(listing->builder);
	}
	return FIRN_EXIT_DONE;
}

int
firn_cmd_ls(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *ref = NULL;
	gboolean details = FALSE, recursive = FALSE;
	const GOptionEntry entries[] = {
		{ "ref", 'b', 0, G_OPTION_ARG_FILENAME, &ref, "Of this branch, tag or snapshot",
		  "REF" },
		{ "long", 'l', 0, G_OPTION_ARG_NONE, &details,
		  "Also kind, id, shape and chunk grid", NULL },
		{ "recursive", 'R', 0, G_OPTION_ARG_NONE, &recursive, "Everything below", NULL },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 2);
	Listing listing = { .cli = cli };
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnTarget) target = NULL;
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autofree char *path = NULL;
	int next;

	if (result >= 0)
		return result;
	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	path = firn_node_path(target->inner, next < argc ? argv[next] : NULL);
	snapshot = firn_target_snapshot(target, ref, &error);
	listing.snapshot = snapshot;
	listing.details = details;
	listing.recursive = recursive;
	result = snapshot ? list(&listing, path, &error) : -1;
	return result < 0 ? firn_cli_fail(cli, error) : result;
}
