#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/zarr/name.h"

#include <string.h>

FirnMeta *
firn_commit_node_meta(const FirnSnapshotNode *node)
{
	g_autoptr(GBytes) raw = g_bytes_new(node->meta.data, node->meta.len);

	return firn_meta_parse(raw, NULL);
}

void
firn_commit_node_grid(const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
		      uint32_t *out_grid)
{
	uint64_t length;

	for (uint32_t i = 0; i < node->rank; i++)
		firn_snapshot_node_shape(snapshot, node, i, &length, &out_grid[i]);
}

static void
log_node(FirnCommitting *c, FirnTxlogList groups, FirnTxlogList arrays, FirnNodeKind kind,
	 const FirnId8 *id)
{
	g_array_append_val(c->log_ids[kind == FIRN_NODE_GROUP ? groups : arrays], *id);
	c->n_nodes++;
}

static bool
fail_node(GError **error, FirnError code, const char *path, const char *what)
{
	g_set_error(error, FIRN_ERROR, (int)code, "%s: %s", path, what);
	return false;
}

/* ---- nodes there are ---- */

/* The change of a node of the parent snapshot; NULL: none. */
static const FirnNodeChange *
change_of(const FirnCommitting *c, const FirnId8 *id, bool *out_alias)
{
	const FirnNodeChange *change = firn_changes_find(c->changes, id);

	*out_alias = false;
	if (change == NULL && c->aliases != NULL) {
		change = g_hash_table_lookup(c->aliases, id);
		*out_alias = change != NULL;
	}
	return change;
}

static bool
span_is(FirnSpan span, GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return span.len == len && (len == 0 || memcmp(span.data, data, len) == 0);
}

/* Consolidated metadata does not count: it is never served, nor committed by us. */
static bool
same_group(FirnSpan old, GBytes *stripped)
{
	g_autoptr(GBytes) raw = g_bytes_new(old.data, old.len);
	g_autoptr(FirnMeta) meta = firn_meta_parse(raw, NULL);
	g_autoptr(GBytes) other = NULL;

	if (meta == NULL)
		return span_is(old, stripped);
	other = firn_meta_strip_consolidated(raw);
	return g_bytes_equal(other, stripped);
}

bool
firn_commit_same_document(FirnSpan document, const FirnMeta *meta)
{
	g_autoptr(GBytes) raw = NULL;

	if (meta->kind != FIRN_NODE_GROUP)
		return span_is(document, meta->raw);
	raw = firn_meta_strip_consolidated(meta->raw);
	return same_group(document, raw);
}

/* Give a row the document of its change, if it differs from what is there. */
static bool
set_document(FirnCommitting *c, FirnCommitRow *row, const FirnSnapshotNode *old, GError **error)
{
	FirnMeta *meta = row->change->meta;
	g_autoptr(GBytes) raw = NULL;

	if (meta->kind != row->kind)
		return fail_node(error, FIRN_ERROR_INVALID, row->path,
				 "a group cannot become an array, or an array a group, without "
				 "being deleted first");
	raw = meta->kind == FIRN_NODE_GROUP ? firn_meta_strip_consolidated(meta->raw)
					    : g_bytes_ref(meta->raw);
	if (old != NULL && firn_commit_same_document(old->meta, meta))
		return true;
	row->meta = firn_meta_ref(meta);
	row->raw = g_steal_pointer(&raw);
	if (old != NULL)
		log_node(c, FIRN_TXLOG_UPDATED_GROUPS, FIRN_TXLOG_UPDATED_ARRAYS, row->kind,
			 &row->id);
	return true;
}

static bool
add_old(FirnCommitting *c, size_t index, GError **error)
{
	FirnSnapshotNode node;
	FirnCommitRow row = { .in_parent = true, .index = index };
	bool alias;

	firn_snapshot_node(c->parent, index, &node);
	row.id = node.id;
	row.kind = node.kind;
	row.change = change_of(c, &node.id, &alias);
	if (row.change != NULL && row.change->kind == FIRN_CHANGE_DELETE) {
		log_node(c, FIRN_TXLOG_DELETED_GROUPS, FIRN_TXLOG_DELETED_ARRAYS, node.kind,
			 &node.id);
		return true;
	}
	row.path = g_string_chunk_insert_len(c->strings, (const char *)node.path.data,
					     (gssize)node.path.len);
	if (row.change != NULL && !alias && strcmp(row.change->path, row.path) != 0)
		return fail_node(error, FIRN_ERROR_INVALID, row.change->path,
				 "a committed node cannot be moved");
	if (row.change != NULL && !alias && row.change->kind == FIRN_CHANGE_PUT &&
	    !(c->reverted != NULL && g_hash_table_contains(c->reverted, row.change)) &&
	    !set_document(c, &row, &node, error))
		return false;
	g_array_append_val(c->rows, row);
	return true;
}

/* ---- new nodes ---- */

static bool
check_path(const char *path, GError **error)
{
	g_auto(GStrv) names = NULL;

	if (strcmp(path, "/") == 0)
		return true;
	names = g_strsplit(path, "/", -1);
	for (guint i = 1; path[0] == '/' && firn_name_is_valid(names[i]); i++)
		if (names[i + 1] == NULL)
			return true;
	return fail_node(error, FIRN_ERROR_INVALID, path, "this is no path of a node");
}

static bool
add_new(FirnCommitting *c, const FirnNodeChange *change, GError **error)
{
	FirnCommitRow row = { .id = change->id, .change = change };
	char text[FIRN_ID8_TEXT + 1];

	if (change->kind != FIRN_CHANGE_PUT || !change->created) {
		firn_id8_format(&change->id, text);
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "%s: node %s is changed, but is not in the snapshot this is based on",
			    change->path, text);
		return false;
	}
	if (!check_path(change->path, error))
		return false;
	row.kind = change->meta->kind;
	row.path = g_string_chunk_insert(c->strings, change->path);
	if (!set_document(c, &row, NULL, error))
		return false;
	g_array_append_val(c->rows, row);
	log_node(c, FIRN_TXLOG_NEW_GROUPS, FIRN_TXLOG_NEW_ARRAYS, row.kind, &row.id);
	return true;
}

static bool
add_all(FirnCommitting *c, GError **error)
{
	g_autoptr(GPtrArray) live = firn_changes_sorted_by_path(c->changes);
	size_t n = firn_snapshot_n_nodes(c->parent);
	size_t index;

	for (size_t i = 0; i < n; i++)
		if (!add_old(c, i, error))
			return false;
	for (guint i = 0; i < live->len; i++) {
		const FirnNodeChange *change = live->pdata[i];

		if (firn_snapshot_find_id(c->parent, &change->id, &index) ||
		    (c->adopted != NULL && g_hash_table_contains(c->adopted, change)))
			continue;
		if (!add_new(c, change, error))
			return false;
	}
	return true;
}

/* ---- the hierarchy ---- */

static gint
compare_rows(gconstpointer a, gconstpointer b)
{
	const FirnCommitRow *x = a, *y = b;

	return strcmp(x->path, y->path);
}

/* path -> row number + 1 */
static GHashTable *
index_rows(const FirnCommitting *c)
{
	GHashTable *index = g_hash_table_new(g_str_hash, g_str_equal);

	for (guint i = 0; i < c->rows->len; i++)
		g_hash_table_insert(index, firn_commit_row(c, i)->path, GUINT_TO_POINTER(i + 1));
	return index;
}

static void
add_implied(FirnCommitting *c, GHashTable *index, const char *path)
{
	FirnCommitRow row = { .id = firn_id8_random(), .kind = FIRN_NODE_GROUP };

	row.path = g_string_chunk_insert(c->strings, path);
	row.meta = firn_meta_minimal_group();
	row.raw = g_bytes_ref(row.meta->raw);
	g_array_append_val(c->rows, row);
	g_array_append_val(c->log_ids[FIRN_TXLOG_NEW_GROUPS], row.id);
	g_hash_table_insert(index, row.path, GUINT_TO_POINTER(c->rows->len));
}

/* Make the groups above row `i` that are missing; what is there must be a group. */
static bool
check_above(FirnCommitting *c, GHashTable *index, guint i, GError **error)
{
	g_autofree char *path = g_strdup(firn_commit_row(c, i)->path);
	size_t len = strlen(path);

	while (firn_conflict_parent_path(path, &len)) {
		const FirnCommitRow *row = firn_commit_row(c, i), *above;
		guint at;

		path[len] = '\0';
		at = GPOINTER_TO_UINT(g_hash_table_lookup(index, path));
		if (at == 0) {
			add_implied(c, index, path);
			continue;
		}
		above = firn_commit_row(c, at - 1);
		/* What others left below an array is not ours to refuse. */
		if (above->kind == FIRN_NODE_ARRAY && !(row->in_parent && above->in_parent)) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
				    "%s: there cannot be a node below the array %s: delete one of "
				    "them",
				    row->path, path);
			return false;
		}
		return true;
	}
	return true;
}

static bool
check_hierarchy(FirnCommitting *c, GError **error)
{
	g_autoptr(GHashTable) index = index_rows(c);
	guint n = c->rows->len;

	for (guint i = 0; i < n; i++)
		if (!check_above(c, index, i, error))
			return false;
	g_array_sort(c->rows, compare_rows);
	for (guint i = 1; i < c->rows->len; i++)
		if (strcmp(firn_commit_row(c, i - 1)->path, firn_commit_row(c, i)->path) == 0)
			return fail_node(error, FIRN_ERROR_INVALID, firn_commit_row(c, i)->path,
					 "there would be two nodes of this path: delete the one "
					 "that is there first");
	return true;
}

/* ---- arrays ---- */

static bool
plan_arrays(FirnCommitting *c, GError **error)
{
	for (guint i = 0; i < c->rows->len; i++) {
		FirnCommitRow *row = firn_commit_row(c, i);

		if (row->change == NULL)
			continue;
		if (row->kind != FIRN_NODE_ARRAY && row->change->chunks != NULL &&
		    firn_chunk_map_size(row->change->chunks) > 0)
			return fail_node(error, FIRN_ERROR_INVALID, row->path,
					 "chunks are written below it, but it is a group");
		if (row->kind != FIRN_NODE_ARRAY)
			continue;
		row->array = firn_commit_array_new(c, row, error);
		if (row->array == NULL)
			return false;
	}
	return true;
}

bool
firn_commit_rows(FirnCommitting *c, GError **error)
{
	return add_all(c, error) && check_hierarchy(c, error) && plan_arrays(c, error);
}
