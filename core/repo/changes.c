#include "core/repo/changes.h"

#include <string.h>

static void
node_change_free(gpointer data)
{
	FirnNodeChange *node = data;

	g_free(node->path);
	firn_meta_unref(node->meta);
	g_free(node->keep);
	g_free(node->own_keep);
	firn_chunk_map_free(node->chunks);
	g_free(node);
}

static void
pending_free(gpointer data)
{
	FirnPending *pending = data;

	firn_chunk_store_unref(pending->store);
	g_free(pending->path);
	g_free(pending);
}

FirnChanges *
firn_changes_new(void)
{
	FirnChanges *changes = g_new0(FirnChanges, 1);

	changes->by_id =
		g_hash_table_new_full(firn_id8_hash, firn_id8_equal, NULL, node_change_free);
	changes->by_path = g_hash_table_new(g_str_hash, g_str_equal);
	changes->pending = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, pending_free);
	changes->dropped = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, pending_free);
	return changes;
}

void
firn_changes_free(FirnChanges *changes)
{
	if (changes == NULL)
		return;
	g_hash_table_unref(changes->by_path);
	g_hash_table_unref(changes->by_id);
	g_hash_table_unref(changes->pending);
	g_hash_table_unref(changes->dropped);
	g_free(changes);
}

bool
firn_changes_is_empty(const FirnChanges *changes)
{
	return g_hash_table_size(changes->by_id) == 0 && g_hash_table_size(changes->pending) == 0 &&
	       g_hash_table_size(changes->dropped) == 0;
}

bool
firn_changes_check(const FirnChanges *changes, GError **error)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (!firn_chunk_map_check(((const FirnNodeChange *)value)->chunks, error))
			return false;
	return true;
}

FirnNodeChange *
firn_changes_find(const FirnChanges *changes, const FirnId8 *id)
{
	return g_hash_table_lookup(changes->by_id, id);
}

FirnNodeChange *
firn_changes_find_path(const FirnChanges *changes, const char *path)
{
	return g_hash_table_lookup(changes->by_path, path);
}

/* ---- entries and their paths ---- */

static void
release_path(FirnChanges *changes, FirnNodeChange *node)
{
	if (g_hash_table_lookup(changes->by_path, node->path) == node)
		g_hash_table_remove(changes->by_path, node->path);
}

static void
take_path(FirnChanges *changes, FirnNodeChange *node, const char *path)
{
	char *copy = g_strdup(path); /* `path` may be the node's own */

	release_path(changes, node);
	g_free(node->path);
	node->path = copy;
	g_assert(g_hash_table_lookup(changes->by_path, copy) == NULL);
	g_hash_table_insert(changes->by_path, node->path, node);
}

static FirnNodeChange *
add_entry(FirnChanges *changes, const FirnId8 *id, const char *path, FirnChangeKind kind)
{
	FirnNodeChange *node = g_new0(FirnNodeChange, 1);

	node->id = *id;
	node->kind = kind;
	node->path = g_strdup(path);
	g_hash_table_insert(changes->by_id, &node->id, node);
	if (kind != FIRN_CHANGE_DELETE) {
		g_assert(g_hash_table_lookup(changes->by_path, path) == NULL);
		g_hash_table_insert(changes->by_path, node->path, node);
	}
	return node;
}

static void
drop_chunks(FirnChanges *changes, FirnNodeChange *node)
{
	if (node->chunks == NULL)
		return;
	changes->n_chunks -= firn_chunk_map_size(node->chunks);
	firn_chunk_map_free(node->chunks);
	node->chunks = NULL;
}

/* ---- grids ---- */

static bool
inside(const uint32_t *coords, const uint32_t *grid, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (coords[i] >= grid[i])
			return false;
	return true;
}

static void
drop_chunks_outside(FirnChanges *changes, FirnNodeChange *node, const uint32_t *grid, uint32_t rank)
{
	g_autoptr(GArray) outside = NULL;
	const uint32_t *coords;
	FirnChunkIter iter;

	if (node->chunks == NULL)
		return;
	/* Removing invalidates the iterator: collect first. */
	outside = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, NULL))
		if (!inside(coords, grid, rank))
			g_array_append_vals(outside, coords, rank);
	for (guint i = 0; i < outside->len; i += rank)
		firn_changes_forget_chunk(changes, node, &g_array_index(outside, uint32_t, i));
}

static void
keep_set(uint32_t **keep, uint32_t *keep_rank, const uint32_t *grid, uint32_t rank)
{
	g_free(*keep);
	/* Never NULL, which says "all kept", not even at rank 0. */
	*keep = g_new0(uint32_t, MAX(rank, 1));
	if (grid != NULL)
		memcpy(*keep, grid, rank * sizeof *grid);
	*keep_rank = rank;
}

/* `grid` NULL: nothing is kept. */
static void
keep_shrink(uint32_t **keep, uint32_t *keep_rank, const uint32_t *grid, uint32_t rank)
{
	if (*keep == NULL || *keep_rank != rank || grid == NULL) {
		bool first = *keep == NULL;

		keep_set(keep, keep_rank, first ? grid : NULL, rank);
		return;
	}
	for (uint32_t i = 0; i < rank; i++)
		(*keep)[i] = MIN((*keep)[i], grid[i]);
}

/* What keeps track of the start state's refs; `own`: also relative to where this session began. */
static void
entry_shrink(FirnNodeChange *node, const uint32_t *grid, uint32_t rank, bool own)
{
	if (!node->created)
		keep_shrink(&node->keep, &node->keep_rank, grid, rank);
	if (own)
		keep_shrink(&node->own_keep, &node->own_keep_rank, grid, rank);
}

static void
keep_forget(FirnNodeChange *node)
{
	g_clear_pointer(&node->keep, g_free);
	g_clear_pointer(&node->own_keep, g_free);
	node->keep_rank = 0;
	node->own_keep_rank = 0;
}

static bool
rank_differs(const FirnNodeChange *node, uint32_t rank)
{
	if (node->meta != NULL)
		return node->meta->kind != FIRN_NODE_ARRAY || node->meta->rank != rank;
	return node->chunks != NULL && firn_chunk_map_rank(node->chunks) != rank;
}

static bool
may_shrink(const FirnNodeChange *node, const FirnMeta *meta)
{
	if (node->meta == NULL)
		return true;
	for (uint32_t i = 0; i < meta->rank; i++)
		if (meta->n_chunks[i] < node->meta->n_chunks[i])
			return true;
	return false;
}

/* Give an existing entry the grid of `meta`. */
static void
regrid(FirnChanges *changes, FirnNodeChange *node, const FirnMeta *meta, bool own)
{
	if (meta->kind != FIRN_NODE_ARRAY) {
		drop_chunks(changes, node);
		keep_forget(node);
		return;
	}
	if (node->kind == FIRN_CHANGE_DELETE || rank_differs(node, meta->rank)) {
		drop_chunks(changes, node);
		entry_shrink(node, NULL, meta->rank, own);
		return;
	}
	if (may_shrink(node, meta))
		drop_chunks_outside(changes, node, meta->n_chunks, meta->rank);
	/* The first document recorded over another one: the smaller grid counts. */
	if (own && node->own_keep == NULL && node->meta != NULL)
		keep_set(&node->own_keep, &node->own_keep_rank, node->meta->n_chunks, meta->rank);
	if (!node->created && node->keep == NULL && node->meta != NULL)
		keep_set(&node->keep, &node->keep_rank, node->meta->n_chunks, meta->rank);
	entry_shrink(node, meta->n_chunks, meta->rank, own);
}

/* ---- nodes ---- */

/* Whether `meta` may be of another geometry than what the entry had. */
static bool
changes_geometry(const FirnNodeChange *node, const FirnMeta *meta)
{
	return node->kind != FIRN_CHANGE_PUT || node->seq == 0 || node->meta->kind != meta->kind ||
	       !firn_meta_same_geometry(node->meta, meta);
}

FirnNodeChange *
firn_changes_put_node(FirnChanges *changes, const FirnId8 *id, const char *path, FirnMeta *meta,
		      bool created, uint64_t seq)
{
	FirnNodeChange *node = firn_changes_find(changes, id);
	FirnMeta *old;

	if (node == NULL) {
		node = add_entry(changes, id, path, FIRN_CHANGE_PUT);
		node->created = created;
		node->created_seq = created ? seq : 0;
		if (meta->kind == FIRN_NODE_ARRAY)
			entry_shrink(node, meta->n_chunks, meta->rank, false);
		node->geometry_seq = seq;
	} else {
		bool inherited = node->kind != FIRN_CHANGE_CHUNKS && node->seq == 0;

		if (changes_geometry(node, meta))
			node->geometry_seq = seq;
		regrid(changes, node, meta, node->own_keep != NULL || (inherited && seq != 0));
		if (strcmp(node->path, path) != 0 || node->kind == FIRN_CHANGE_DELETE)
			take_path(changes, node, path);
	}
	old = node->meta;
	node->meta = firn_meta_ref(meta);
	firn_meta_unref(old);
	node->kind = FIRN_CHANGE_PUT;
	node->seq = seq;
	return node;
}

FirnNodeChange *
firn_changes_delete_node(FirnChanges *changes, const FirnId8 *id, const char *path, bool created,
			 uint64_t seq)
{
	FirnNodeChange *node = firn_changes_find(changes, id);

	if (node == NULL) {
		node = add_entry(changes, id, path, FIRN_CHANGE_DELETE);
		node->created = created;
		node->created_seq = created ? seq : 0;
	} else {
		release_path(changes, node);
		drop_chunks(changes, node);
		keep_forget(node);
		firn_meta_unref(node->meta);
		node->meta = NULL;
		node->kind = FIRN_CHANGE_DELETE;
	}
	node->seq = seq;
	return node;
}

void
firn_changes_move_node(FirnChanges *changes, const FirnId8 *id, const char *to, uint64_t seq)
{
	FirnNodeChange *node = firn_changes_find(changes, id);

	g_assert(node != NULL && node->kind != FIRN_CHANGE_DELETE);
	take_path(changes, node, to);
	node->seq = seq;
}

/* ---- chunks ---- */

FirnNodeChange *
firn_changes_add_array(FirnChanges *changes, const FirnId8 *id, const char *path)
{
	return add_entry(changes, id, path, FIRN_CHANGE_CHUNKS);
}

FirnChunkChange *
firn_changes_put_chunk(FirnChanges *changes, const FirnId8 *id, const char *path, uint32_t rank,
		       const uint32_t *coords, const FirnRef *ref, uint64_t seq)
{
	FirnNodeChange *node = firn_changes_find(changes, id);

	if (node == NULL)
		node = add_entry(changes, id, path, FIRN_CHANGE_CHUNKS);
	return firn_changes_put_chunk_of(changes, node, rank, coords, ref, seq);
}

FirnChunkChange *
firn_changes_put_chunk_of(FirnChanges *changes, FirnNodeChange *node, uint32_t rank,
			  const uint32_t *coords, const FirnRef *ref, uint64_t seq)
{
	FirnChunkChange *change;
	bool made;

	g_assert(node->kind != FIRN_CHANGE_DELETE && !rank_differs(node, rank));
	if (node->chunks == NULL)
		node->chunks = firn_chunk_map_new(rank);
	change = firn_chunk_map_insert(node->chunks, coords, &made);
	changes->n_chunks += made;
	firn_chunk_map_set(node->chunks, change, ref);
	firn_chunk_change_number(change, seq);
	return change;
}

void
firn_changes_forget_chunk(FirnChanges *changes, FirnNodeChange *node, const uint32_t *coords)
{
	if (node->chunks != NULL && firn_chunk_map_remove(node->chunks, coords))
		changes->n_chunks--;
}

/* ---- pending files ---- */

static FirnPending *
pending_in(GHashTable *table, const char *path)
{
	FirnPending *pending = g_hash_table_lookup(table, path);

	if (pending == NULL) {
		pending = g_new0(FirnPending, 1);
		pending->path = g_strdup(path);
		g_hash_table_insert(table, pending->path, pending);
	}
	return pending;
}

static void
pending_set(FirnPending *pending, const FirnRef *ref)
{
	FirnChunkStore *store = firn_chunk_store_new();

	/* `ref` may borrow from the old one. */
	firn_chunk_change_set(&pending->content, ref, store);
	firn_chunk_store_unref(pending->store);
	pending->store = store;
}

static void
drop_pending(FirnChanges *changes, const char *path, uint64_t seq)
{
	const FirnPending *pending = g_hash_table_lookup(changes->pending, path);

	if (seq != 0 && (changes->forked || (pending != NULL && pending->inherited)))
		pending_in(changes->dropped, path)->seq = seq;
	g_hash_table_remove(changes->pending, path);
}

void
firn_changes_put_pending(FirnChanges *changes, const char *path, const FirnRef *ref, uint64_t seq)
{
	bool inherited = seq == 0 || g_hash_table_contains(changes->dropped, path);
	FirnPending *pending;

	if (ref->kind == FIRN_REF_NONE) {
		drop_pending(changes, path, seq);
		return;
	}
	g_hash_table_remove(changes->dropped, path);
	pending = pending_in(changes->pending, path);
	pending->inherited = pending->inherited || inherited;
	pending_set(pending, ref);
	firn_chunk_change_number(&pending->content, seq);
	pending->seq = seq;
}

/* ---- one change set after another ---- */

static bool
apply_put(FirnChanges *changes, const FirnNodeChange *later, uint64_t seq)
{
	FirnNodeChange *node = firn_changes_find(changes, &later->id);
	const FirnNodeChange *there = firn_changes_find_path(changes, later->path);
	bool is_new = node == NULL;

	if (there != NULL && there != node)
		return false;
	/* What was dropped at some time is gone, even if the grid has grown again since. */
	if (!is_new && node->kind != FIRN_CHANGE_DELETE && later->keep != NULL) {
		bool own = node->own_keep != NULL ||
			   (seq != 0 && node->meta != NULL && node->seq == 0);

		if (rank_differs(node, later->keep_rank))
			drop_chunks(changes, node);
		else
			drop_chunks_outside(changes, node, later->keep, later->keep_rank);
		entry_shrink(node, later->keep, later->keep_rank, own);
	}
	node = firn_changes_put_node(changes, &later->id, later->path, later->meta, later->created,
				     seq);
	/* The geometry may have changed there and back. */
	node->geometry_seq = seq != 0 ? later->geometry_seq : 0;
	if (!is_new)
		return true;
	node->created_seq = seq != 0 ? later->created_seq : 0;
	if (later->keep != NULL)
		keep_set(&node->keep, &node->keep_rank, later->keep, later->keep_rank);
	else
		keep_forget(node);
	return true;
}

static bool
apply_chunks(FirnChanges *changes, const FirnNodeChange *later, bool inherit)
{
	const FirnNodeChange *node = firn_changes_find(changes, &later->id);
	const FirnNodeChange *there = firn_changes_find_path(changes, later->path);
	uint32_t rank = firn_chunk_map_rank(later->chunks);
	const uint32_t *coords;
	FirnChunkChange *change;
	FirnChunkIter iter;

	if (node == NULL ? there != NULL
			 : node->kind == FIRN_CHANGE_DELETE || rank_differs(node, rank))
		return false;
	firn_chunk_iter_seek(&iter, later->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		FirnRef ref;

		firn_chunk_change_get(change, &ref);
		(void)firn_changes_put_chunk(changes, &later->id, later->path, rank, coords, &ref,
					     inherit ? 0 : change->seq);
	}
	return true;
}

static void
apply_deletes(FirnChanges *changes, const FirnChanges *later, bool inherit)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, later->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *from = value;
		bool is_new = firn_changes_find(changes, &from->id) == NULL;
		FirnNodeChange *node;

		if (from->kind != FIRN_CHANGE_DELETE)
			continue;
		node = firn_changes_delete_node(changes, &from->id, from->path, from->created,
						inherit ? 0 : from->seq);
		if (is_new)
			node->created_seq = inherit ? 0 : from->created_seq;
	}
}

bool
firn_changes_apply(FirnChanges *changes, const FirnChanges *later, bool inherit)
{
	g_autoptr(GPtrArray) live = firn_changes_sorted_by_path(later);
	GHashTableIter iter;
	gpointer value;

	/* Deletes first: they free the paths. */
	apply_deletes(changes, later, inherit);
	for (guint i = 0; i < live->len; i++) {
		const FirnNodeChange *from = live->pdata[i];

		if (from->kind == FIRN_CHANGE_PUT &&
		    !apply_put(changes, from, inherit ? 0 : from->seq))
			return false;
		if (from->chunks != NULL && !apply_chunks(changes, from, inherit))
			return false;
	}
	g_hash_table_iter_init(&iter, later->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnPending *pending = value;
		FirnRef ref;

		firn_chunk_change_get(&pending->content, &ref);
		firn_changes_put_pending(changes, pending->path, &ref, inherit ? 0 : pending->seq);
	}
	g_hash_table_iter_init(&iter, later->dropped);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnPending *dropped = value;

		drop_pending(changes, dropped->path, inherit ? 0 : dropped->seq);
	}
	return true;
}

/* ---- order ---- */

static gint
compare_id(gconstpointer a, gconstpointer b)
{
	const FirnNodeChange *const *x = a, *const *y = b;

	return firn_id8_compare(&(*x)->id, &(*y)->id);
}

static gint
compare_path(gconstpointer a, gconstpointer b)
{
	const FirnNodeChange *const *x = a, *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

static GPtrArray *
values_sorted(GHashTable *table, GCompareFunc compare)
{
	GPtrArray *sorted = g_ptr_array_sized_new(g_hash_table_size(table));
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, table);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(sorted, value);
	g_ptr_array_sort(sorted, compare);
	return sorted;
}

GPtrArray *
firn_changes_sorted_by_id(const FirnChanges *changes)
{
	return values_sorted(changes->by_id, compare_id);
}

GPtrArray *
firn_changes_sorted_by_path(const FirnChanges *changes)
{
	return values_sorted(changes->by_path, compare_path);
}
