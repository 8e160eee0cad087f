#include "core/view/group.h"

#include "core/base/deadline.h"
#include "core/zarr/name.h"

#include <errno.h>
#include <string.h>

/* How often a caller that waits is looked after. */
#define KILLED_MS 100

static bool
wait_for_commit(FirnView *view, bool killable)
{
	struct timespec until = firn_deadline_in(KILLED_MS);

	firn_view_checkpoint(view);
	if (!killable || view->killed == NULL) {
		pthread_cond_wait(&view->changed, &view->lock);
		return true;
	}
	return pthread_cond_timedwait(&view->changed, &view->lock, &until) != ETIMEDOUT ||
	       !view->killed();
}

static int
wait_for_turn(FirnView *view, bool killable)
{
	GError *error = NULL;
	bool ok = true;

	while (view->committing || (view->intended && ok)) {
		if (view->committing) {
			if (!wait_for_commit(view, killable))
				return EINTR;
			continue;
		}
		/* What is written now could not be carried over to that commit. */
		firn_view_unlock(view);
		ok = firn_view_settle_intent(view, &error);
		if (!ok)
			(void)firn_view_fail(view, "commit", error);
		pthread_mutex_lock(&view->lock);
	}
	return 0;
}

void
firn_node_wait(FirnView *view)
{
	(void)wait_for_turn(view, false);
}

int
firn_node_wait_killable(FirnView *view)
{
	return wait_for_turn(view, true);
}

int
firn_node_parse(FirnView *view, const char *path, FirnContent *content, FirnMeta **out_meta)
{
	g_autoptr(GBytes) raw = NULL;
	GError *error = NULL;

	if (content == NULL) {
		firn_view_note(view, path, "an empty zarr.json is no document");
		return EINVAL;
	}
	if (content->kind == FIRN_CONTENT_BYTES) {
		raw = g_bytes_ref(content->bytes);
	} else {
		g_autofree char *buffer = g_try_malloc((size_t)content->length);
		size_t got;
		int failed;

		if (buffer == NULL)
			return EFBIG;
		failed = firn_content_read(content, NULL, buffer, (size_t)content->length, 0, &got);
		if (failed != 0)
			return failed;
		raw = g_bytes_new_take(g_steal_pointer(&buffer), got);
	}
	*out_meta = firn_meta_parse(raw, &error);
	if (*out_meta == NULL) {
		(void)firn_view_fail(view, path, error);
		return EINVAL;
	}
	return 0;
}

bool
firn_node_is_foreign(const FirnContent *content)
{
	const char *text;
	gsize len;

	if (content == NULL)
		return true;
	if (content->kind != FIRN_CONTENT_BYTES)
		return false;
	text = g_bytes_get_data(content->bytes, &len);
	while (len > 0 && g_ascii_isspace(*text)) {
		text++;
		len--;
	}
	return len == 0 || *text != '{';
}

/* Whether a node lies somewhere below: the base's, or one made here. */
static bool
has_nodes_below(FirnView *view, FirnDir *dir)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		if (child->directory &&
		    (((FirnDir *)child)->has_node || has_nodes_below(view, (FirnDir *)child)))
			return true;
	}
	return false;
}

static int
check_place(FirnView *view, FirnDir *dir, const FirnMeta *meta, const char *path)
{
	for (FirnDir *at = dir->inode.parent; at != NULL; at = at->inode.parent)
		if (firn_dir_is_array(at) && !at->doc_missing) {
			firn_view_note(view, path, "a node below an array cannot be stored");
			return EINVAL;
		}
	if (meta->kind == FIRN_NODE_ARRAY &&
	    (has_nodes_below(view, dir) || firn_tree_has_base_below(view, dir))) {
		firn_view_note(view, path, "nodes lie below: a group cannot become an array");
		return EINVAL;
	}
	return 0;
}

static int
record_put(FirnView *view, FirnDir *dir, const FirnId8 *id, FirnMeta *meta, bool created)
{
	FirnSession *session = view->session;
	g_autofree char *path = firn_dir_path(dir);
	GError *error = NULL;
	uint64_t seq;

	if (!firn_journal_put_node(session->journal, id, path, meta, created, &seq, &error))
		return firn_view_fail(view, path, error);
	firn_view_recorded(view);
	(void)firn_changes_put_node(session->changes, id, path, meta, created, seq);
	return 0;
}

/* Record that a node is gone; and, with `meta`, that another one, `id`, is at its path: both or neither. */
static int
record_end(FirnView *view, FirnDir *dir, const FirnId8 *id, FirnMeta *meta)
{
	FirnSession *session = view->session;
	g_autofree char *path = firn_dir_path(dir);
	FirnNodeChange *change = firn_changes_find(session->changes, &dir->id);
	bool created = change != NULL && change->created_seq > 0;
	GError *error = NULL;
	uint64_t seq, put_seq = 0;
	bool ok;

	firn_journal_mark(session->journal);
	ok = firn_journal_delete_node(session->journal, &dir->id, path, created, &seq, &error) &&
	     (meta == NULL ||
	      firn_journal_put_node(session->journal, id, path, meta, true, &put_seq, &error));
	firn_journal_unmark(session->journal, !ok);
	if (!ok)
		return firn_view_fail(view, path, error);
	firn_view_recorded(view);
	(void)firn_changes_delete_node(session->changes, &dir->id, path, created, seq);
	if (meta != NULL)
		(void)firn_changes_put_node(session->changes, id, path, meta, true, put_seq);
	dir->n_changes++;
	dir->has_node = false;
	dir->doc_missing = false;
	dir->in_base = false;
	dir->dir_slot = NULL;
	dir->file_slot = NULL;
	firn_keep_mark(&dir->inode);
	return 0;
}

static int
record_delete(FirnView *view, FirnDir *dir)
{
	return record_end(view, dir, NULL, NULL);
}

/* Pending files in the chunk tree of what is now an array that have a place in its grid. */
static void
adopt_below(FirnView *view, FirnDir *array, FirnDir *dir, uint32_t *coords, uint32_t depth)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	gpointer name;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, &name, NULL))
		g_ptr_array_add(names, g_strdup(name));
	for (guint i = 0; i < names->len; i++) {
		FirnInode *child = g_hash_table_lookup(dir->children, names->pdata[i]);
		g_autofree char *path = NULL;

		if (child == NULL || depth >= FIRN_MAX_RANK ||
		    !firn_name_parse_index(names->pdata[i], &coords[depth]))
			continue;
		if (child->directory) {
			adopt_below(view, array, (FirnDir *)child, coords, depth + 1);
			continue;
		}
		path = firn_inode_path(child);
		if (((FirnLeaf *)child)->kind == FIRN_LEAF_PENDING &&
		    firn_meta_contains(array->meta, coords, depth + 1))
			(void)firn_leaf_adopt(view, array, path, coords);
	}
}

static void
adopt(FirnView *view, FirnDir *array)
{
	FirnInode *child = g_hash_table_lookup(array->children, "c");
	uint32_t coords[FIRN_MAX_RANK];

	if (child == NULL)
		return;
	if (child->directory) {
		adopt_below(view, array, (FirnDir *)child, coords, 0);
	} else if (array->meta->rank == 0 && ((FirnLeaf *)child)->kind == FIRN_LEAF_PENDING) {
		g_autofree char *path = firn_inode_path(child);

		(void)firn_leaf_adopt(view, array, path, coords);
	}
}

/* The kernel may know chunks that a smaller grid just dropped. */
static void
forget_dropped(FirnView *view, FirnDir *dir, const FirnMeta *old)
{
	bool shrunk = false;

	for (uint32_t i = 0; i < old->rank && !shrunk; i++)
		shrunk = dir->meta->n_chunks[i] < old->n_chunks[i];
	if (!shrunk)
		return;
	dir->n_changes++;
	firn_view_invalidate(view, dir->inode.ino, "c");
	firn_tree_forget_outside(view, dir);
}

/* 1: some chunk is live; 0: none; < 0: -errno. */
static int
has_chunks(FirnView *view, FirnDir *dir)
{
	return firn_dir_is_array(dir) ? firn_chunk_any_below(view, dir, NULL, 0) : 0;
}

/* Whether directories below hold files that no chunk stands for. */
static bool
has_files_below(const FirnDir *dir)
{
	GHashTableIter iter, below;
	gpointer value, child;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnDir *directory = value;

		if (!((const FirnInode *)value)->directory)
			continue;
		g_hash_table_iter_init(&below, directory->children);
		while (g_hash_table_iter_next(&below, NULL, &child))
			if (!((const FirnInode *)child)->directory)
				return true;
		if (has_files_below(directory))
			return true;
	}
	return false;
}

static int
replace_node(FirnView *view, FirnDir *dir, const char *path, const FirnId8 *id, FirnMeta *meta)
{
	int chunks = has_chunks(view, dir);
	int failed;

	if (chunks < 0)
		return -chunks;
	if (chunks > 0) {
		firn_view_note(view, path,
			       "the array still has chunks: remove them before it becomes "
			       "something else");
		return EINVAL;
	}
	failed = record_end(view, dir, id, meta);
	/* Directories of chunks, empty by now, would be in the way of what is there next. */
	if (failed == 0 && !has_files_below(dir))
		firn_tree_end_below(view, dir);
	return failed;
}

/* Whether this session wrote a chunk since the array's geometry is what it is. */
static bool
wrote_since(const FirnNodeChange *change)
{
	FirnChunkChange *chunk;
	FirnChunkIter iter;

	firn_chunk_iter_seek(&iter, change->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, NULL, &chunk))
		if (chunk->kind != FIRN_REF_NONE && chunk->seq > 0 &&
		    chunk->seq >= change->geometry_seq)
			return true;
	return false;
}

static bool
is_base_geometry(const FirnDir *dir, const FirnMeta *meta)
{
	g_autoptr(FirnMeta) base = NULL;
	g_autoptr(GBytes) raw = NULL;
	FirnSnapshotNode node;

	if (!dir->in_base)
		return false;
	firn_snapshot_node(dir->tree->base, dir->base_index, &node);
	raw = g_bytes_new(node.meta.data, node.meta.len);
	base = firn_meta_parse(raw, NULL);
	return base != NULL && firn_meta_same_geometry(base, meta);
}

/*
 * Chunks written under another geometry would be misread.  For an array that is
 * in the base a commit can tell, but not once it has the base's geometry again;
 * one made here has only its last document.
 */
static int
check_geometry(FirnView *view, FirnDir *dir, const FirnMeta *meta, const char *path)
{
	FirnNodeChange *change = firn_changes_find(view->session->changes, &dir->id);
	bool misread;

	if (!firn_dir_is_array(dir) || change == NULL || firn_meta_same_geometry(dir->meta, meta))
		return 0;
	if (change->created)
		misread = firn_chunk_any_changed(view, dir, NULL, 0);
	else
		misread = change->meta != NULL && change->chunks != NULL &&
			  is_base_geometry(dir, meta) && wrote_since(change);
	if (!misread)
		return 0;
	firn_view_note(view, path,
		       "the array has chunks written under another chunk grid, data type or "
		       "codecs: remove them first");
	return EINVAL;
}

int
firn_node_put(FirnView *view, FirnDir *dir, FirnMeta *meta)
{
	g_autofree char *path = NULL;
	g_autoptr(FirnMeta) old = NULL;
	FirnId8 id = firn_id8_random();
	int failed;

	firn_node_wait(view);
	if (dir->inode.dead)
		return ENOENT;
	path = firn_dir_path(dir);
	failed = check_place(view, dir, meta, path);
	if (failed != 0)
		return failed;
	if (dir->has_node && !dir->doc_missing && firn_meta_equal(dir->meta, meta))
		return 0;
	if (dir->has_node && (dir->meta->kind != meta->kind || dir->meta->rank != meta->rank)) {
		failed = replace_node(view, dir, path, &id, meta);
	} else if (dir->has_node) {
		id = dir->id;
		old = firn_meta_ref(dir->meta);
		failed = check_geometry(view, dir, meta, path);
		if (failed == 0)
			failed = record_put(view, dir, &id, meta, false);
	} else {
		failed = record_put(view, dir, &id, meta, true);
	}
	if (failed != 0)
		return failed;
	firn_dir_set_node(dir, &id, meta);
	if (old != NULL)
		forget_dropped(view, dir, old);
	if (meta->kind == FIRN_NODE_ARRAY)
		adopt(view, dir);
	return 0;
}

void
firn_node_doc_gone(FirnView *view, FirnDir *dir)
{
	FirnLeaf *doc = dir->doc;

	dir->doc_missing = true;
	dir->doc = NULL;
	if (doc != NULL) {
		firn_keep_mark(&doc->inode);
		firn_inode_unref(view, &doc->inode);
	}
	firn_inode_touch(&dir->inode);
	firn_keep_mark(&dir->inode);
}

int
firn_node_delete(FirnView *view, FirnDir *dir)
{
	int failed = firn_node_wait_killable(view);

	return failed == 0 && dir->has_node ? record_delete(view, dir) : failed;
}

bool
firn_node_movable(FirnView *view, FirnDir *dir)
{
	FirnNodeChange *change;
	GHashTableIter iter;
	gpointer value;

	if (dir->in_base || firn_tree_has_base_below(view, dir))
		return false;
	if (dir->has_node) {
		change = firn_changes_find(view->session->changes, &dir->id);
		if (change == NULL || change->created_seq == 0)
			return false;
	}
	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		if (child->directory && !firn_node_movable(view, (FirnDir *)child))
			return false;
	}
	return true;
}

int
firn_node_move_tree(FirnView *view, FirnDir *dir)
{
	FirnSession *session = view->session;
	GHashTableIter iter;
	gpointer value;
	GError *error = NULL;
	uint64_t seq;
	int failed = 0;

	if (dir->has_node) {
		g_autofree char *path = firn_dir_path(dir);

		if (!firn_journal_move_node(session->journal, &dir->id, path, &seq, &error))
			return firn_view_fail(view, path, error);
		firn_view_recorded(view);
		firn_group_was_at(view, &dir->id);
		firn_changes_move_node(session->changes, &dir->id, path, seq);
	}
	g_hash_table_iter_init(&iter, dir->children);
	while (failed == 0 && g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		if (child->directory)
			failed = firn_node_move_tree(view, (FirnDir *)child);
	}
	return failed;
}

int
firn_node_settle(FirnView *view, GPtrArray *homeless)
{
	g_autoptr(GPtrArray) dirs = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;
	int failed = 0;

	g_hash_table_iter_init(&iter, view->inodes);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnDir *dir = value;

		if (((FirnInode *)value)->directory && dir->has_node && dir->doc_missing &&
		    !dir->inode.dead && dir->tree == view->tree)
			g_ptr_array_add(dirs, firn_inode_ref(&dir->inode));
	}
	for (guint i = 0; i < dirs->len; i++) {
		FirnDir *dir = dirs->pdata[i];
		int chunks = failed == 0 ? has_chunks(view, dir) : 0;

		if (chunks > 0)
			g_ptr_array_add(homeless, firn_dir_path(dir));
		else if (chunks < 0)
			failed = -chunks;
		else if (failed == 0)
			failed = record_delete(view, dir);
		firn_inode_unref(view, &dir->inode);
	}
	return failed;
}
