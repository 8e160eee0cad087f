#include "core/view/writing.h"

#include "core/base/clock.h"
#include "core/base/deadline.h"

#include <stdarg.h>
#include <string.h>

#define ERRORS_KEPT 200u

static void
replay(FirnView *view)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_path(view->session->changes);
	GHashTableIter iter;
	gpointer value;

	for (guint i = 0; i < nodes->len; i++) {
		FirnNodeChange *change = nodes->pdata[i];
		FirnDir *dir;

		if (change->kind != FIRN_CHANGE_PUT)
			continue;
		dir = firn_tree_make_path(view, view->tree, change->path);
		if (!dir->has_node || firn_id8_compare(&dir->id, &change->id) != 0) {
			dir->in_base = false;
			firn_dir_set_node(dir, &change->id, change->meta);
		}
	}
	g_hash_table_iter_init(&iter, view->session->changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnPending *pending = value;
		g_autofree char *parent = g_path_get_dirname(pending->path);
		g_autofree char *name = g_path_get_basename(pending->path);
		FirnDir *dir = firn_tree_make_path(view, view->tree, parent);
		FirnLeaf *leaf = firn_leaf_new(view, NULL, name, FIRN_LEAF_PENDING, 0);

		if (firn_chunk_change_length(&pending->content) > 0)
			leaf->content = firn_content_from_change(view, &pending->content);
		leaf->size = firn_chunk_change_length(&pending->content);
		firn_inode_link(dir, name, &leaf->inode);
		firn_inode_unref(view, &leaf->inode);
	}
}

/* Everything is rebuilt from the session's base and overlay. */
void
firn_view_build(FirnView *view)
{
	FirnTree *tree = g_new0(FirnTree, 1);

	tree->session = true;
	tree->number = view->next_tree++;
	tree->base = firn_snapshot_ref(view->session->base);
	view->tree = tree;
	tree->root = firn_dir_new(view, tree, NULL, NULL, 0);
	firn_tree_bind(view, tree->root);
	replay(view);
}

static void
find_unsynced(FirnView *view, FirnChunkChange *change, void *data)
{
	(void)data;
	if (change->kind == FIRN_REF_NATIVE && change->seq > view->session->durable_seq)
		firn_view_unsynced(view, firn_chunk_change_id(change));
}

void
firn_view_find_unsynced(FirnView *view)
{
	const FirnSession *session = view->session;
	GHashTableIter iter;
	gpointer value;

	if (firn_journal_last_seq(session->journal) <= session->durable_seq)
		return;
	firn_chunk_each_change(view, find_unsynced, NULL);
	g_hash_table_iter_init(&iter, session->changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnPending *pending = value;

		if (pending->content.kind == FIRN_REF_NATIVE && pending->seq > session->durable_seq)
			firn_view_unsynced(view, firn_chunk_change_id(&pending->content));
	}
	firn_view_recorded(view);
}

FirnView *
firn_view_alloc(FirnSession *session, const FirnViewOptions *options)
{
	FirnView *view = g_new0(FirnView, 1);

	view->session = session;
	view->repo = session->repo;
	view->name = g_strdup(options->name);
	view->uid = options->uid;
	view->gid = options->gid;
	view->virtual_prefixes = options->virtual_prefixes != NULL
					 ? g_ptr_array_ref(options->virtual_prefixes)
					 : g_ptr_array_new_with_free_func(g_free);
	view->read_only = session->journal == NULL;
	view->inline_threshold = firn_config_inline_threshold(session->config);
	pthread_mutex_init(&view->lock, NULL);
	pthread_mutex_init(&view->side_lock, NULL);
	firn_deadline_cond_init(&view->changed);
	firn_view_flusher_init(view);
	view->inodes = g_hash_table_new(g_int64_hash, g_int64_equal);
	view->writing = firn_writing_new();
	view->readers = g_hash_table_new(g_int64_hash, g_int64_equal);
	view->next_ino = FIRN_INO_RESERVED + 1;
	view->old_trees = g_ptr_array_new();
	view->snapshots = g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, NULL);
	view->max_known = options->max_known;
	view->known = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	view->slots = g_ptr_array_new();
	view->shared = g_hash_table_new_full(firn_part_hash, firn_part_equal, g_free, NULL);
	view->packs = firn_packs_new();
	view->pack_fds = firn_pack_fds_new();
	/* What is in the journal now may have been copied by anybody. */
	view->exported_seq = session->journal != NULL ? firn_journal_last_seq(session->journal) : 0;
	g_queue_init(&view->errors);
	view->garbage = g_array_new(FALSE, FALSE, sizeof(FirnPart));
	view->unsynced = g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, NULL);
	view->stale = g_ptr_array_new();
	view->keep = options->keep;
	view->marked = g_ptr_array_new();
	view->batch = g_byte_array_new();
	view->record = g_byte_array_new();
	view->kept_view = g_byte_array_new();
	return view;
}

FirnView *
firn_view_new(FirnSession *session, const FirnViewOptions *options)
{
	FirnView *view = firn_view_alloc(session, options);

	firn_view_build(view);
	if (session->journal != NULL)
		firn_view_find_unsynced(view);
	pthread_mutex_lock(&view->lock);
	firn_view_unlock(view);
	if (session->torn > 0)
		firn_view_note(view, "journal",
			       "%" G_GUINT64_FORMAT " bytes of a torn tail were dropped",
			       session->torn);
	return view;
}

static void
tree_free(FirnTree *tree)
{
	firn_snapshot_unref(tree->base);
	g_free(tree);
}

void
firn_view_free(FirnView *view)
{
	GHashTableIter iter;
	gpointer value;

	if (view == NULL)
		return;
	firn_view_flusher_end(view);
	/* Without its journal, nothing needs what was replaced. */
	view->dirty = view->dirty && view->session->journal != NULL;
	/* The kernel is gone, and with it all it knew. */
	firn_inode_dispose_all(view);
	for (guint i = 0; i < view->slots->len; i++) {
		FirnSlot *slot = view->slots->pdata[i];

		g_free(slot->n_chunks);
		g_free(slot);
	}
	g_array_unref(view->known);
	g_ptr_array_unref(view->slots);
	if (view->tree != NULL)
		tree_free(view->tree);
	for (guint i = 0; i < view->old_trees->len; i++)
		tree_free(view->old_trees->pdata[i]);
	g_ptr_array_unref(view->old_trees);
	g_hash_table_iter_init(&iter, view->snapshots);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		tree_free(value);
	g_hash_table_unref(view->snapshots);
	firn_packs_close(view);
	firn_view_sweep(view);
	firn_packs_free(view->packs);
	firn_pack_fds_free(view->pack_fds);
	g_hash_table_unref(view->inodes);
	g_hash_table_unref(view->writing);
	g_hash_table_unref(view->readers);
	g_hash_table_unref(view->shared);
	g_queue_clear_full(&view->errors, g_free);
	g_array_unref(view->garbage);
	g_hash_table_unref(view->unsynced);
	g_ptr_array_set_free_func(view->stale, (GDestroyNotify)firn_invalidation_free);
	g_ptr_array_unref(view->stale);
	g_ptr_array_unref(view->virtual_prefixes);
	g_ptr_array_unref(view->marked);
	if (view->held != NULL)
		g_ptr_array_unref(view->held);
	if (view->held_leaves != NULL)
		g_hash_table_unref(view->held_leaves);
	g_byte_array_unref(view->batch);
	g_byte_array_unref(view->record);
	g_byte_array_unref(view->kept_view);
	g_free(view->name);
	firn_session_free(view->session);
	pthread_mutex_destroy(&view->lock);
	pthread_mutex_destroy(&view->side_lock);
	pthread_cond_destroy(&view->changed);
	g_free(view);
}

const FirnSession *
firn_view_session(const FirnView *view)
{
	return view->session;
}

int
firn_view_snapshot_root(FirnView *view, const FirnId12 *snapshot, struct stat *out_attr)
{
	g_autoptr(FirnSnapshot) base = NULL;
	GError *error = NULL;
	FirnTree *tree;

	base = firn_repo_get_snapshot(view->repo, snapshot, &error);
	if (base == NULL)
		return firn_view_fail(view, "snapshot", error);
	pthread_mutex_lock(&view->lock);
	tree = g_hash_table_lookup(view->snapshots, snapshot);
	if (tree == NULL) {
		tree = g_new0(FirnTree, 1);
		tree->base = firn_snapshot_ref(base);
		tree->number = view->next_tree++;
		tree->root = firn_dir_new(view, tree, NULL, NULL, 0);
		firn_tree_bind(view, tree->root);
		tree->root->inode.mtime_ns = (int64_t)(firn_snapshot_flushed_at(base) * 1000);
		g_hash_table_insert(view->snapshots, g_memdup2(snapshot, sizeof *snapshot), tree);
		firn_keep_tree(view, tree, FIRN_KEPT_TREE_SNAPSHOT);
	}
	firn_inode_looked_up(&tree->root->inode);
	firn_attr_of_inode(view, &tree->root->inode, out_attr);
	firn_view_unlock(view);
	return 0;
}

/* ---- errors ---- */

void
firn_view_note(FirnView *view, const char *path, const char *format, ...)
{
	g_autofree char *now = firn_clock_format_us(firn_clock_now_us());
	g_autofree char *text = NULL;
	va_list args;
	char *line;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	line = g_strdup_printf("%s %s%s%s\n", now, path != NULL ? path : "",
			       path != NULL ? ": " : "", text);
	pthread_mutex_lock(&view->side_lock);
	if (view->keep != NULL)
		firn_keep_put_now(view->keep, FIRN_KEPT_ERROR, view->n_notes++ % ERRORS_KEPT, line,
				  strlen(line));
	g_queue_push_tail(&view->errors, line);
	if (g_queue_get_length(&view->errors) > ERRORS_KEPT)
		g_free(g_queue_pop_head(&view->errors));
	pthread_mutex_unlock(&view->side_lock);
	__atomic_add_fetch(&view->stats.errors, 1, __ATOMIC_RELAXED);
}

int
firn_view_fail(FirnView *view, const char *path, GError *error)
{
	int failed = firn_error_to_errno(error);

	firn_view_note(view, path, "%s", error->message);
	g_error_free(error);
	return failed;
}

char *
firn_view_errors(FirnView *view)
{
	GString *text = g_string_new(NULL);

	pthread_mutex_lock(&view->side_lock);
	for (GList *at = view->errors.head; at != NULL; at = at->next)
		g_string_append(text, at->data);
	pthread_mutex_unlock(&view->side_lock);
	return g_string_free(text, FALSE);
}

/* ---- what the kernel must forget ---- */

void
firn_invalidation_free(FirnInvalidation *invalidation)
{
	g_free(invalidation->name);
	g_free(invalidation);
}

void
firn_view_set_notify(FirnView *view, FirnViewNotifyFn fn, void *data)
{
	pthread_mutex_lock(&view->side_lock);
	view->notify = fn;
	view->notify_data = data;
	pthread_mutex_unlock(&view->side_lock);
}

void
firn_view_set_killed(FirnView *view, FirnViewKilledFn killed)
{
	view->killed = killed;
}

/* It may be told twice, but not never. */
static void
keep_stale(FirnView *view, const FirnInvalidation *invalidation)
{
	g_autoptr(GByteArray) out = NULL;

	if (view->keep == NULL)
		return;
	out = g_byte_array_new();
	firn_keep_add(out, invalidation->ino);
	firn_keep_add(out, invalidation->name != NULL);
	firn_keep_add_text(out, invalidation->name);
	firn_keep_put_now(view->keep, FIRN_KEPT_STALE, invalidation->number, out->data, out->len);
}

void
firn_view_told(FirnView *view, const FirnInvalidation *invalidation)
{
	FirnKeep *keep = view->keep;

	if (keep != NULL)
		firn_keep_drop_now(keep, FIRN_KEPT_STALE, invalidation->number);
}

void
firn_view_invalidate(FirnView *view, uint64_t ino, const char *name)
{
	FirnInvalidation *invalidation = g_new0(FirnInvalidation, 1);

	invalidation->ino = ino;
	invalidation->name = g_strdup(name);
	pthread_mutex_lock(&view->side_lock);
	invalidation->number = view->n_stale++;
	keep_stale(view, invalidation);
	g_ptr_array_add(view->stale, invalidation);
	pthread_mutex_unlock(&view->side_lock);
}

void
firn_view_forget_pages(FirnView *view, uint64_t ino)
{
	firn_view_invalidate(view, ino, NULL);
	firn_view_notify(view);
}

GPtrArray *
firn_view_take_stale(FirnView *view)
{
	GPtrArray *stale;

	pthread_mutex_lock(&view->side_lock);
	stale = view->stale;
	view->stale = g_ptr_array_new();
	pthread_mutex_unlock(&view->side_lock);
	g_ptr_array_set_free_func(stale, (GDestroyNotify)firn_invalidation_free);
	return stale;
}

void
firn_view_notify(FirnView *view)
{
	FirnViewNotifyFn fn = NULL;
	void *data = NULL;

	pthread_mutex_lock(&view->side_lock);
	if (view->stale->len > 0) {
		fn = view->notify;
		data = view->notify_data;
	}
	pthread_mutex_unlock(&view->side_lock);
	if (fn != NULL)
		fn(firn_view_take_stale(view), data);
}

void
firn_view_get_stats(FirnView *view, FirnViewStats *out_stats)
{
	pthread_mutex_lock(&view->lock);
	*out_stats = view->stats;
	out_stats->inodes = g_hash_table_size(view->inodes);
	out_stats->open_files = view->n_open_files;
	out_stats->changed_chunks = view->session->changes->n_chunks;
	firn_view_unlock(view);
}
