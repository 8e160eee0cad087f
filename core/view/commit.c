#include "core/view/internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/*
 * A commit seen from the mount: a journal image is taken, documents are held
 * back, somebody else commits, and the mount moves to the new snapshot.
 *
 * Inodes of chunks that did not change keep their meaning: a computed number
 * stands for a chunk of the snapshot its slot was made for, for ever.  What
 * changed is announced, name by name.
 */
#define FINE_LIMIT 20000u /* chunks of one array announced one by one; more: the whole tree */

static GPtrArray *
open_writers(FirnView *view)
{
	GPtrArray *writers = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, view->inodes);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnLeaf *leaf = value;
		g_autofree char *path = NULL;

		if (leaf->inode.directory || leaf->n_writers == 0 || leaf->inode.dead ||
		    leaf->kind == FIRN_LEAF_SCRATCH)
			continue;
		path = firn_inode_path(&leaf->inode);
		g_ptr_array_add(writers, g_strdup_printf("%s (pid %d)", path, (int)leaf->writer));
	}
	return writers;
}

static bool
wait_for_writers(FirnView *view, unsigned wait_ms, GError **error)
{
	g_autoptr(GPtrArray) writers = NULL;
	g_autofree char *list = NULL;
	struct timespec until;
	int waited = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	for (;;) {
		if (writers != NULL)
			g_ptr_array_unref(writers);
		writers = open_writers(view);
		if (writers->len == 0)
			return true;
		if (waited == ETIMEDOUT)
			break;
		firn_view_checkpoint(view);
		waited = pthread_cond_timedwait(&view->changed, &view->lock, &until);
	}
	g_ptr_array_add(writers, NULL);
	list = g_strjoinv(", ", (char **)writers->pdata);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "files are open for writing: %s; close them first", list);
	return false;
}

static bool
settle_documents(FirnView *view, GError **error)
{
	g_autoptr(GPtrArray) homeless = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *list = NULL;
	int failed = firn_node_settle(view, homeless);

	if (failed != 0) {
		firn_error_set_errno(error, failed, "cannot settle removed documents");
		return false;
	}
	if (homeless->len == 0)
		return true;
	g_ptr_array_add(homeless, NULL);
	list = g_strjoinv(", ", (char **)homeless->pdata);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "arrays with chunks but without zarr.json: %s; write the document again, or "
		    "remove the chunks",
		    list);
	return false;
}

static bool
check_session(FirnView *view, GError **error)
{
	if (view->read_only) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY, "the mount is read-only");
		return false;
	}
	if (view->committing) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "another commit of this mount is under way");
		return false;
	}
	return true;
}

bool
firn_view_commit_begin(FirnView *view, unsigned wait_ms, GBytes **out_image, uint64_t *out_seq,
		       GError **error)
{
	bool ok;

	if (firn_view_fsync_all(view) != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "written data cannot be made durable: see .firn/errors");
		return false;
	}
	pthread_mutex_lock(&view->lock);
	ok = check_session(view, error) && wait_for_writers(view, wait_ms, error) &&
	     check_session(view, error) && settle_documents(view, error);
	if (ok) {
		view->committing = true;
		view->commit_seq = firn_journal_last_seq(view->session->journal);
		view->exported_seq = view->commit_seq;
		*out_seq = view->commit_seq;
		*out_image = firn_session_image(view->session);
	}
	firn_view_unlock(view);
	return ok;
}

bool
firn_view_commit_intent(FirnView *view, const FirnId12 *snapshot, GError **error)
{
	bool ok = false;

	/* Records came after the sync that the commit began with. */
	if (firn_view_fsync_all(view) != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "written data cannot be made durable: see .firn/errors");
		return false;
	}
	pthread_mutex_lock(&view->lock);
	if (!view->committing)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "no commit was begun");
	else
		ok = firn_journal_intent(view->session->journal, view->commit_seq, snapshot, error);
	firn_view_unlock(view);
	return ok;
}

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
		firn_view_invalidate(view, array->inode.ino, "c");
		return;
	}
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change))
		announce_chunk(view, array, coords);
}

/* Whether the commit's log names chunks of the array that are not our own. */
static bool
others_changed(const FirnDir *array, const FirnNodeChange *own, const FirnTxlog *log)
{
	size_t mine = own != NULL && own->chunks != NULL ? firn_chunk_map_size(own->chunks) : 0;
	size_t index;
	size_t n = 0;
	FirnId8 id;

	if (log == NULL)
		return true;
	if (firn_txlog_find_array(log, &array->id, &index))
		firn_txlog_array(log, index, &id, &n);
	return n > mine;
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
	bool chunks;
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
	chunks = !was_in_base || own != NULL ||
		 !same_manifests(move->from, was_index, move->to, index);
	if (dir->has_node && firn_dir_is_array(dir) && chunks)
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
	if (dir->removed != NULL)
		g_hash_table_remove_all(dir->removed);
	/* Directories the kernel thinks missing may be there now, too. */
	if (chunks && others_changed(dir, own, move->log))
		firn_view_invalidate(view, dir->inode.ino, "c");
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
	gpointer value;

	g_hash_table_iter_init(&iter, view->inodes);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnLeaf *leaf = value;
		g_autofree char *path = NULL;

		if (leaf->inode.directory || leaf->kind != FIRN_LEAF_PENDING || leaf->inode.dead ||
		    leaf->n_open > 0)
			continue;
		path = firn_inode_path(&leaf->inode);
		if (!g_hash_table_contains(view->session->changes->pending, path))
			g_ptr_array_add(dropped, leaf);
	}
	for (guint i = 0; i < dropped->len; i++) {
		FirnLeaf *leaf = dropped->pdata[i];

		firn_view_invalidate(view, leaf->inode.parent->inode.ino, leaf->inode.name);
		firn_inode_unlink(view, &leaf->inode);
	}
}

/* The log between two snapshots, if exactly one commit lies between. */
static FirnTxlog *
log_between(FirnView *view, FirnSnapshot *from, FirnSnapshot *to)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(view->repo, NULL);
	FirnSnapshotInfo *found;

	if (info == NULL)
		return NULL;
	found = firn_repo_info_find_snapshot(info, firn_snapshot_id(to));
	if (found == NULL || !found->has_parent ||
	    firn_id12_compare(&found->parent, firn_snapshot_id(from)) != 0)
		return NULL;
	return firn_repo_get_txlog(view->repo, firn_snapshot_id(to), NULL);
}

static bool
move_to(FirnView *view, FirnSnapshot *to, FirnTxlog *log, GError **error)
{
	Move move = { .view = view, .to = to, .log = log };
	FirnSession *session = view->session;
	bool ok;

	move.from = firn_snapshot_ref(view->tree->base);
	ok = firn_session_move(session, to, view->commit_seq, &move.own, error);
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

bool
firn_view_commit_end(FirnView *view, const FirnId12 *snapshot, GPtrArray **out_invalidations,
		     GError **error)
{
	g_autoptr(FirnSnapshot) to = NULL;
	g_autoptr(FirnSnapshot) from = NULL;
	g_autoptr(FirnTxlog) log = NULL;
	bool ok = true;

	if (snapshot != NULL) {
		to = firn_repo_get_snapshot(view->repo, snapshot, error);
		if (to == NULL)
			return false;
		pthread_mutex_lock(&view->lock);
		from = firn_snapshot_ref(view->tree->base);
		firn_view_unlock(view);
		log = log_between(view, from, to);
		/* Chunks of the next commit are carried over as durable as they are. */
		(void)firn_view_fsync_all(view);
	}
	pthread_mutex_lock(&view->lock);
	if (!view->committing && to != NULL &&
	    firn_id12_compare(firn_snapshot_id(view->tree->base), snapshot) == 0) {
		/* Asked again because nobody had heard the answer: it is done. */
	} else if (!view->committing) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "no commit was begun");
		ok = false;
	} else if (to != NULL) {
		ok = move_to(view, to, log, error);
	}
	view->committing = false;
	pthread_cond_broadcast(&view->changed);
	firn_view_unlock(view);
	if (ok && to != NULL)
		firn_session_forget_previous(view->session);
	*out_invalidations = firn_view_take_stale(view);
	firn_view_sweep(view);
	return ok;
}

static void
kill_tree(FirnDir *dir)
{
	GHashTableIter iter;
	gpointer value;

	dir->inode.dead = true;
	firn_keep_mark(&dir->inode);
	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		child->dead = true;
		firn_keep_mark(child);
		if (child->directory)
			kill_tree((FirnDir *)child);
	}
}

bool
firn_view_discard(FirnView *view, GPtrArray **out_invalidations, GError **error)
{
	g_autoptr(GArray) own = NULL;
	FirnTree *old;
	bool ok;

	pthread_mutex_lock(&view->lock);
	ok = check_session(view, error) && wait_for_writers(view, 0, error);
	if (ok) {
		own = firn_chunk_own_objects(view);
		ok = firn_session_reset(view->session, error);
	}
	if (ok) {
		firn_chunk_retire_objects(view, own);
		old = view->tree;
		view->exported_seq = 0;
		firn_view_forget_unsynced(view);
		firn_view_build(view);
		if (old->root != NULL) {
			kill_tree(old->root);
			firn_inode_unref(view, &old->root->inode);
		}
		old->root = NULL;
		firn_keep_tree(view, old, FIRN_KEPT_TREE_OLD);
		firn_keep_all_changes(view);
		g_ptr_array_add(view->old_trees, old);
		firn_view_invalidate(view, FIRN_INO_TOP, view->name);
	}
	firn_view_unlock(view);
	if (ok)
		firn_session_forget_previous(view->session);
	*out_invalidations = firn_view_take_stale(view);
	firn_view_sweep(view);
	return ok;
}

FirnForkToken *
firn_view_fork(FirnView *view, GError **error)
{
	FirnSession *session = view->session;
	FirnForkToken *token = NULL;

	if (firn_view_fsync_all(view) != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "written data cannot be made durable: see .firn/errors");
		return NULL;
	}
	pthread_mutex_lock(&view->lock);
	if (check_session(view, error) && settle_documents(view, error)) {
		uint64_t seq = firn_journal_last_seq(session->journal);

		view->exported_seq = seq;
		token = firn_fork_token_new(view->repo, session->header, seq, session->changes,
					    session->parents, error);
	}
	firn_view_unlock(view);
	return token;
}

GBytes *
firn_view_image(FirnView *view)
{
	g_autoptr(GPtrArray) homeless = g_ptr_array_new_with_free_func(g_free);
	GBytes *image;

	pthread_mutex_lock(&view->lock);
	if (!view->read_only) {
		if (!view->committing)
			(void)firn_node_settle(view, homeless);
		view->exported_seq = firn_journal_last_seq(view->session->journal);
	}
	image = firn_session_image(view->session);
	firn_view_unlock(view);
	(void)firn_view_fsync_all(view);
	return image;
}

GBytes *
firn_view_peek_image(FirnView *view)
{
	FIRN_LOCK_SCOPE(&view->lock);

	return firn_session_image(view->session);
}
