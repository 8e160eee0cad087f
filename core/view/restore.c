#include "core/view/restore_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A view as one that died had it: the reader of what keep.c writes. */

bool
firn_restore_refuse(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
		    "what the driver left does not fit together: %s", what);
	return false;
}

bool
firn_view_kept(const FirnKept *kept, FirnViewKept *out, GError **error)
{
	GBytes *record = firn_kept_find(kept, FIRN_KEPT_VIEW, 0);
	FirnKeepReader reader = firn_keep_reader(record);

	out->next_ino = firn_keep_take(&reader);
	out->next_tree = firn_keep_take(&reader);
	out->journal_file = firn_keep_take(&reader);
	out->journal_end = firn_keep_take(&reader);
	firn_keep_take_fixed(&reader, &out->base, sizeof out->base);
	out->committing = firn_keep_take(&reader) != 0;
	out->commit_seq = firn_keep_take(&reader);
	out->intended = firn_keep_take(&reader) != 0;
	firn_keep_take_fixed(&reader, &out->intent, sizeof out->intent);
	out->intent_seq = firn_keep_take(&reader);
	out->root = firn_keep_take(&reader);
	return !reader.bad || firn_restore_refuse(error, "nothing of the view");
}

/* ---- content ---- */

static void
own(FirnRestore *restore, const FirnChunkChange *change)
{
	FirnPart part = firn_change_part(change);

	if (change->kind == FIRN_REF_NATIVE)
		g_hash_table_add(restore->owned, firn_part_copy(&part));
}

/* The number of a change, which no journal has. */
static void
restore_change(FirnView *view, FirnChunkChange *change, void *data)
{
	FirnRestore *restore = data;
	GBytes *record = firn_kept_find(restore->kept, FIRN_KEPT_CHANGE, change->seq);
	FirnKeepReader reader = firn_keep_reader(record);

	(void)view;
	change->ino = firn_keep_take(&reader);
	change->mtime_ns = (int64_t)firn_keep_take(&reader);
	own(restore, change);
}

/* Objects of the overlay, and the numbers of its changes. */
static void
restore_changes(FirnRestore *restore)
{
	FirnView *view = restore->view;
	GHashTableIter pending;
	gpointer value;

	firn_chunk_each_change(view, restore_change, restore);
	g_hash_table_iter_init(&pending, view->session->changes->pending);
	while (g_hash_table_iter_next(&pending, NULL, &value))
		own(restore, &((FirnPending *)value)->content);
}

static FirnContent *
take_content(FirnRestore *restore, FirnKeepReader *reader)
{
	FirnContent *content = firn_content_restore(restore->view, reader);
	FirnContent *same;
	FirnPart part;

	if (content == NULL || content->kind != FIRN_CONTENT_NATIVE)
		return content;
	part = firn_content_part(content);
	same = g_hash_table_lookup(restore->objects, &part);
	if (same != NULL && same->length == content->length) {
		firn_content_unref(content);
		return firn_content_ref(same);
	}
	if (g_hash_table_contains(restore->owned, &part))
		content->published = true;
	g_hash_table_insert(restore->objects, firn_part_copy(&part), content);
	return content;
}

static void
restore_content(FirnRestore *restore, FirnLeaf *leaf)
{
	FirnKeepReader content =
		firn_keep_reader(firn_kept_find(restore->kept, FIRN_KEPT_CONTENT, leaf->key));
	FirnKeepReader spool =
		firn_keep_reader(firn_kept_find(restore->kept, FIRN_KEPT_SPOOL, leaf->key));
	GBytes *mtime = firn_kept_find(restore->kept, FIRN_KEPT_MTIME, leaf->key);
	FirnKeepReader time = firn_keep_reader(mtime);

	leaf->unpublished = firn_keep_take(&content) != 0;
	leaf->content = take_content(restore, &content);
	leaf->refused = take_content(restore, &content);
	leaf->previous = take_content(restore, &content);
	leaf->size = firn_keep_take(&spool);
	leaf->touched = firn_keep_take(&spool) != 0;
	leaf->dirty = firn_keep_take(&spool) != 0;
	if (mtime != NULL)
		leaf->inode.mtime_ns = (int64_t)firn_keep_take(&time);
	if (content.bad || spool.bad || !firn_spool_restore(restore->view, &spool, &leaf->spool)) {
		g_autofree char *path = firn_inode_path(&leaf->inode);

		firn_view_note(restore->view, path,
			       "what was being written when the driver died is lost");
		leaf->lost = true;
		leaf->dirty = false;
	} else if (leaf->spool != NULL && !leaf->dirty) {
		/* It had become content already. */
		firn_leaf_drop_spool(leaf);
	}
}

/* ---- what was said ---- */

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
restore_errors(FirnRestore *restore)
{
	g_autoptr(GPtrArray) lines = g_ptr_array_new();
	FirnView *view = restore->view;
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_ERROR]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		gsize len;
		const char *text = g_bytes_get_data(value, &len);

		g_ptr_array_add(lines, g_strndup(text, len));
	}
	/* They begin with their time. */
	g_ptr_array_sort(lines, compare_texts);
	for (guint i = 0; i < lines->len; i++)
		g_queue_push_tail(&view->errors, lines->pdata[i]);
	view->n_notes = lines->len;
}

static void
restore_stale(FirnRestore *restore)
{
	FirnView *view = restore->view;
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_STALE]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		FirnKeepReader reader = firn_keep_reader(value);
		FirnInvalidation *invalidation = g_new0(FirnInvalidation, 1);
		bool named;

		invalidation->number = *(const uint64_t *)key;
		invalidation->ino = firn_keep_take(&reader);
		named = firn_keep_take(&reader) != 0;
		invalidation->name = firn_keep_take_text(&reader);
		if (!named)
			g_clear_pointer(&invalidation->name, g_free);
		view->n_stale = MAX(view->n_stale, invalidation->number + 1);
		g_ptr_array_add(view->stale, invalidation);
	}
}

/* ---- all ---- */

static bool
restore_all(FirnRestore *restore, const FirnViewKept *head, GError **error)
{
	FirnView *view = restore->view;
	FirnKeep *keep = view->keep;
	bool ok;

	/* What is restored is kept already. */
	view->keep = NULL;
	view->next_ino = head->next_ino;
	view->next_tree = head->next_tree;
	view->committing = head->committing;
	view->commit_seq = head->commit_seq;
	view->intended = head->intended;
	view->intent = head->intent;
	view->intent_seq = head->intent_seq;
	restore->root = head->root;
	/* Whether a base chunk was ever edited in place is not known: look. */
	view->n_edited = 1;
	ok = firn_restore_trees(restore, &head->base, error) &&
	     firn_restore_inodes(restore, error) && firn_restore_removed(restore, error) &&
	     firn_restore_roots(restore, error);
	view->keep = keep;
	if (!ok)
		return false;
	restore_errors(restore);
	restore_stale(restore);
	restore_changes(restore);
	if (view->session->journal != NULL)
		firn_view_find_unsynced(view);
	for (guint i = 0; i < view->held->len; i++) {
		FirnInode *inode = view->held->pdata[i];

		if (!inode->directory)
			restore_content(restore, (FirnLeaf *)inode);
	}
	return true;
}

FirnView *
firn_view_restore(FirnSession *session, const FirnViewOptions *options, const FirnKept *kept,
		  GError **error)
{
	FirnRestore restore = { .kept = kept };
	FirnViewKept head;
	bool ok;

	if (!firn_view_kept(kept, &head, error))
		return NULL;
	restore.view = firn_view_alloc(session, options);
	restore.view->held = g_ptr_array_new();
	restore.view->held_leaves = g_hash_table_new(g_int64_hash, g_int64_equal);
	restore.trees = g_hash_table_new(g_int64_hash, g_int64_equal);
	restore.objects = g_hash_table_new_full(firn_part_hash, firn_part_equal, g_free, NULL);
	restore.owned = g_hash_table_new_full(firn_part_hash, firn_part_equal, g_free, NULL);
	ok = restore_all(&restore, &head, error);
	g_hash_table_unref(restore.trees);
	g_hash_table_unref(restore.objects);
	g_hash_table_unref(restore.owned);
	/* What was read so far is left alone: freeing it would remove objects. */
	return ok ? restore.view : NULL;
}

void
firn_view_restored(FirnView *view)
{
	GPtrArray *held;

	pthread_mutex_lock(&view->lock);
	held = view->held;
	view->held = NULL;
	if (view->held_leaves != NULL)
		g_hash_table_unref(view->held_leaves);
	view->held_leaves = NULL;
	for (guint i = 0; held != NULL && i < held->len; i++)
		firn_inode_unref(view, held->pdata[i]);
	firn_view_unlock(view);
	if (held != NULL)
		g_ptr_array_unref(held);
	firn_view_sweep(view);
	firn_view_notify(view);
}

int
firn_view_reopen(FirnView *view, uint64_t ino, const FirnFileKept *kept, FirnFile **out_file)
{
	FirnLeaf *leaf;

	if (kept->base)
		return firn_view_open_base(view, ino, out_file);
	pthread_mutex_lock(&view->lock);
	leaf = g_hash_table_lookup(view->held_leaves, &kept->key);
	firn_view_unlock(view);
	if (leaf == NULL)
		return ESTALE;
	return firn_view_open_leaf(view, leaf, kept->writable ? O_RDWR : O_RDONLY, kept->pid,
				   out_file);
}
