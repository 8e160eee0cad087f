#include "core/view/internal.h"

#include <string.h>

/*
 * The mount moves to a new snapshot.
 *
 * Inodes of chunks that did not change keep their meaning: a computed number
 * stands for a chunk of the snapshot its slot was made for, for ever.  What
 * changed is announced, name by name.
 */
#define FINE_LIMIT 20000u /* chunks of one array announced one by one; more: the whole tree */

/* ---- announcing what changed ---- */

/* The number of the directory a chunk lies in, if the kernel can know it; else 0. */
static uint64_t
chunk_parent(FirnDir *array, const uint32_t *coords)
{
	uint32_t depth = array->meta->rank - 1;
	FirnInode *at = &array->inode;
	char name[16] = "c";

	for (uint32_t i = 0; i <= depth; i++) {
		if (i > 0)
			(void)g_snprintf(name, sizeof name, "%u", coords[i - 1]);
		at = g_hash_table_lookup(((FirnDir *)at)->children, name);
		if (at == NULL || !at->directory)
			return firn_slot_ino(array->dir_slot, coords, depth);
	}
	return at->ino;
}

static void
announce_chunk(FirnView *view, FirnDir *array, const uint32_t *coords)
{
	uint32_t rank = array->meta->rank;
	char name[16];
	uint64_t parent;

	if (rank == 0) {
		firn_view_invalidate(view, array->inode.ino, "c");
		return;
	}
	parent = chunk_parent(array, coords);
	(void)g_snprintf(name, sizeof name, "%u", coords[rank - 1]);
	if (parent != 0)
		firn_view_invalidate(view, parent, name);
}

/*
 * Too much of an array changed to name it.  The kernel keeps a directory some of whose files are in use,
 * and what it knows of these: they are named.
 */
static void
announce_all(FirnView *view, FirnDir *array)
{
	uint32_t coords[FIRN_MAX_RANK];
	GHashTableIter iter;
	FirnLeaf *leaf;
	gpointer ino;

	g_hash_table_iter_init(&iter, view->readers);
	while (g_hash_table_iter_next(&iter, &ino, NULL)) {
		uint32_t depth;
		const FirnSlot *slot = firn_slot_decode(view, *(uint64_t *)ino, coords, &depth);

		if (slot != NULL && slot->dir == array && depth == array->meta->rank)
			announce_chunk(view, array, coords);
	}
	g_hash_table_iter_init(&iter, view->inodes);
	while ((leaf = firn_leaf_next(&iter)) != NULL)
		if (leaf->n_open > 0 && leaf->kind == FIRN_LEAF_CHUNK && leaf->array == array &&
		    leaf->rank == array->meta->rank)
			announce_chunk(view, array, leaf->coords);
	firn_view_invalidate(view, array->inode.ino, "c");
}

/* Own changes: the kernel knows their inodes, which end with the overlay. */
static void
announce_own(FirnView *view, FirnDir *array, FirnNodeChange *node)
{
	const uint32_t *coords;
	FirnChunkChange *change;
	FirnChunkIter iter;

	if (node == NULL || node->chunks == NULL ||
	    firn_chunk_map_rank(node->chunks) != array->meta->rank)
		return;
	if (firn_chunk_map_size(node->chunks) > FINE_LIMIT) {
		announce_all(view, array);
		return;
	}
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change))
		announce_chunk(view, array, coords);
}

/* Whether the commit's log names chunks of the array that are not our own. */
static bool
others_changed(const FirnDir *array, FirnNodeChange *own, const FirnTxlog *log)
{
	size_t mine = own != NULL && own->chunks != NULL ? firn_chunk_map_size(own->chunks) : 0;
	size_t index = 0;
	size_t n = 0;
	FirnId8 id;

	if (log == NULL)
		return true;
	if (firn_txlog_find_array(log, &array->id, &index))
		firn_txlog_array(log, index, &id, &n);
	if (n > mine)
		return true;
	/* Some of ours may have come to nothing: as many need not be the same. */
	for (size_t i = 0; i < n; i++) {
		uint32_t rank;
		const uint32_t *coords = firn_txlog_chunk(log, index, i, &rank);

		if (rank != firn_chunk_map_rank(own->chunks) ||
		    firn_chunk_map_find(own->chunks, coords) == NULL)
			return true;
	}
	return false;
}

static bool
same_manifests(FirnSnapshot *a, size_t a_index, FirnSnapshot *b, size_t b_index)
{
	FirnSnapshotNode x;
	FirnSnapshotNode y;

	firn_snapshot_node(a, a_index, &x);
	firn_snapshot_node(b, b_index, &y);
	if (x.n_manifests != y.n_manifests || x.rank != y.rank)
		return false;
	for (uint32_t i = 0; i < x.n_manifests; i++) {
		FirnId12 p;
		FirnId12 q;

		firn_snapshot_node_manifest(a, &x, i, &p, NULL);
		firn_snapshot_node_manifest(b, &y, i, &q, NULL);
		if (firn_id12_compare(&p, &q) != 0)
			return false;
	}
	return true;
}

typedef struct {
	FirnView *view;
	FirnSnapshot *from;
	FirnSnapshot *to;
	FirnTxlog *log;   /* NULL: more than one commit lies between, or none is known */
	FirnChanges *own; /* what this session had changed */
} Move;

static void
rebind_doc(Move *move, FirnDir *dir, const FirnSnapshotNode *node)
{
	const void *raw;
	gsize len;

	if (dir->has_node && !dir->doc_missing) {
		raw = g_bytes_get_data(dir->meta->raw, &len);
		if (len == node->meta.len && memcmp(raw, node->meta.data, len) == 0)
			return;
	}
	if (dir->doc != NULL) {
		FirnLeaf *doc = dir->doc;

		dir->doc = NULL;
		doc->inode.dead = true;
		firn_keep_mark(&doc->inode);
		firn_inode_unref(move->view, &doc->inode);
	}
	firn_view_invalidate(move->view, dir->inode.ino, "zarr.json");
}

/* Whether a path has a node of another kind or shape now: nothing below it means what it did. */
static bool
is_replaced(const FirnDir *dir, const FirnSnapshotNode *node)
{
	bool array = node->kind == FIRN_NODE_ARRAY;

	return dir->has_node &&
	       (firn_id8_compare(&dir->id, &node->id) != 0 || firn_dir_is_array(dir) != array ||
		(array && dir->meta->rank != node->rank));
}

static void
rebind(Move *move, FirnDir *dir)
{
	g_autofree char *path = firn_dir_path(dir);
	FirnView *view = move->view;
	FirnNodeChange *own = dir->has_node ? firn_changes_find(move->own, &dir->id) : NULL;
	bool was_in_base = dir->in_base;
	size_t was_index = dir->base_index;
	FirnSnapshotNode node;
	FirnMeta *meta;
	bool chunks, replaced, others;
	size_t index;

	dir->in_base = false;
	firn_keep_mark(&dir->inode);
	if (!firn_snapshot_find_path(move->to, path, strlen(path), &index)) {
		if (dir->has_node && dir->inode.parent != NULL) {
			firn_view_invalidate(view, dir->inode.parent->inode.ino, dir->inode.name);
			if (dir->doc != NULL)
				dir->doc->inode.dead = true;
			firn_node_doc_gone(view, dir);
			firn_inode_unlink(view, &dir->inode);
		}
		dir->has_node = false;
		return;
	}
	firn_snapshot_node(move->to, index, &node);
	replaced = is_replaced(dir, &node);
	if (replaced)
		firn_tree_end_below(view, dir);
	chunks = !was_in_base || replaced || own != NULL ||
		 !same_manifests(move->from, was_index, move->to, index);
	if (dir->has_node && firn_dir_is_array(dir) && chunks && !replaced)
		announce_own(view, dir, own);
	rebind_doc(move, dir, &node);
	meta = firn_tree_base_meta(move->to, &node);
	firn_dir_set_node(dir, &node.id, meta);
	firn_meta_unref(meta);
	dir->in_base = true;
	dir->base_index = index;
	if (!firn_dir_is_array(dir))
		return;
	if (chunks) {
		dir->file_slot = NULL;
		dir->n_changes++;
	}
	/* Directories the kernel thinks missing may be there now, too. */
	others = chunks && others_changed(dir, own, move->log);
	if (others)
		announce_all(view, dir);
	/* What was removed since the commit began is still to be committed. */
	firn_dir_forget_removed(dir,
				others || view->commit_ino == 0 ? UINT64_MAX : view->commit_ino);
}

static void
rebind_tree(Move *move, FirnDir *dir)
{
	g_autoptr(GPtrArray) children = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;

	rebind(move, dir);
	if (firn_dir_is_array(dir))
		return;
	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (((FirnInode *)value)->directory)
			g_ptr_array_add(children, firn_inode_ref(value));
	for (guint i = 0; i < children->len; i++) {
		rebind_tree(move, children->pdata[i]);
		firn_inode_unref(move->view, children->pdata[i]);
	}
}

/* Names that were not there before, where the kernel may have looked for them in vain. */
static void
announce_new_nodes(Move *move)
{
	FirnView *view = move->view;

	for (size_t i = 0; i < firn_snapshot_n_nodes(move->to); i++) {
		g_autofree char *path = NULL;
		g_auto(GStrv) parts = NULL;
		FirnDir *dir = view->tree->root;
		FirnSnapshotNode node;
		size_t index;

		firn_snapshot_node(move->to, i, &node);
		if (firn_snapshot_find_path(move->from, (const char *)node.path.data, node.path.len,
					    &index))
			continue;
		path = g_strndup((const char *)node.path.data, node.path.len);
		parts = g_strsplit(path + 1, "/", -1);
		for (char **part = parts; *part != NULL && **part != '\0' && dir != NULL; part++) {
			FirnInode *child = g_hash_table_lookup(dir->children, *part);

			if (child == NULL || !child->directory) {
				firn_view_invalidate(view, dir->inode.ino, *part);
				dir = NULL;
			} else {
				dir = (FirnDir *)child;
			}
		}
	}
}

/* Pending files that a commit was told to drop. */
static void
drop_pending(FirnView *view)
{
	g_autoptr(GPtrArray) dropped = g_ptr_array_new();
	GHashTableIter iter;
	FirnLeaf *leaf;

	g_hash_table_iter_init(&iter, view->inodes);
	while ((leaf = firn_leaf_next(&iter)) != NULL) {
		g_autofree char *path = NULL;

		if (leaf->kind != FIRN_LEAF_PENDING || leaf->n_open > 0)
			continue;
		path = firn_inode_path(&leaf->inode);
		if (!g_hash_table_contains(view->session->changes->pending, path))
			g_ptr_array_add(dropped, leaf);
	}
	for (guint i = 0; i < dropped->len; i++) {
		leaf = dropped->pdata[i];
		firn_view_invalidate(view, leaf->inode.parent->inode.ino, leaf->inode.name);
		firn_inode_unlink(view, &leaf->inode);
	}
}

bool
firn_view_move_to(FirnView *view, FirnSnapshot *to, uint64_t seq, FirnTxlog *log, GError **error)
{
	Move move = { .view = view, .to = to, .log = log };
	FirnSession *session = view->session;
	bool ok;

	move.from = firn_snapshot_ref(view->tree->base);
	ok = firn_session_move(session, to, seq, &move.own, error);
	if (ok) {
		firn_snapshot_unref(view->tree->base);
		view->tree->base = firn_snapshot_ref(to);
		view->exported_seq = firn_journal_last_seq(session->journal);
		view->n_journals++;
		view->dirty = false;
		if (view->exported_seq > session->durable_seq)
			firn_view_recorded(view);
		if (view->tree->root == NULL)
			view->tree->root = firn_dir_new(view, view->tree, NULL, NULL, 0);
		rebind_tree(&move, view->tree->root);
		announce_new_nodes(&move);
		drop_pending(view);
		firn_keep_all_changes(view);
	}
	firn_changes_free(move.own);
	firn_snapshot_unref(move.from);
	return ok;
}
