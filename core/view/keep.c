#include "core/view/internal.h"

#include <string.h>

/*
 * What a successor of a driver that died needs to know, beyond the journal: the
 * tables as they are whenever the view's lock is let go, and with them how
 * long the journal was then.  What came after, nobody was told of.  restore.c
 * reads it.
 */

void
firn_keep_mark(FirnInode *inode)
{
	FirnView *view = inode->view;

	if (view->keep == NULL || inode->marked)
		return;
	inode->marked = true;
	g_ptr_array_add(view->marked, inode);
}

void
firn_keep_gone(FirnInode *inode)
{
	FirnView *view = inode->view;
	const FirnLeaf *leaf = (const FirnLeaf *)inode;

	if (view->keep == NULL)
		return;
	if (inode->marked)
		g_ptr_array_remove_fast(view->marked, inode);
	/* For good. */
	inode->marked = true;
	firn_keep_drop(view->batch, FIRN_KEPT_INODE, inode->ino);
	if (inode->directory)
		return;
	firn_keep_drop(view->batch, FIRN_KEPT_CONTENT, leaf->key);
	firn_keep_drop(view->batch, FIRN_KEPT_SPOOL, leaf->key);
	firn_keep_drop(view->batch, FIRN_KEPT_MTIME, leaf->key);
}

static void
add_dir(GByteArray *out, const FirnDir *dir)
{
	firn_keep_add(out, dir->tree->number);
	firn_keep_add_bytes(out, &dir->id, sizeof dir->id);
	firn_keep_add(out, dir->base_index);
	firn_keep_add(out, dir->dir_slot != NULL ? dir->dir_slot->number : 0);
	firn_keep_add(out, dir->file_slot != NULL ? dir->file_slot->number : 0);
}

static void
add_leaf(GByteArray *out, const FirnLeaf *leaf)
{
	uint32_t rank = leaf->array != NULL ? leaf->rank : 0;

	firn_keep_add(out, leaf->kind);
	firn_keep_add(out, leaf->key);
	firn_keep_add(out, leaf->array != NULL ? leaf->array->inode.ino : 0);
	firn_keep_add_bytes(out, leaf->coords, rank * sizeof *leaf->coords);
	firn_keep_add_bytes(out, leaf->retired != NULL ? leaf->retired->data : NULL,
			    leaf->retired != NULL ? leaf->retired->len * sizeof(FirnPart) : 0);
}

static uint64_t
inode_flags(const FirnInode *inode)
{
	const FirnDir *dir = (const FirnDir *)inode;
	const FirnLeaf *leaf = (const FirnLeaf *)inode;
	FirnDir *parent = inode->parent;
	uint64_t flags = (inode->directory ? FIRN_KEPT_IS_DIR : 0) |
			 (inode->dead ? FIRN_KEPT_IS_DEAD : 0) |
			 (inode->n_lookup > 0 ? FIRN_KEPT_IS_KNOWN : 0);

	if (parent != NULL && g_hash_table_lookup(parent->children, inode->name) == inode)
		flags |= FIRN_KEPT_IS_LINKED;
	if (inode->directory)
		return flags | (dir->has_node ? FIRN_KEPT_HAS_NODE : 0) |
		       (dir->doc_missing ? FIRN_KEPT_DOC_MISSING : 0) |
		       (dir->in_base ? FIRN_KEPT_IN_BASE : 0);
	return flags | (leaf->is_lock ? FIRN_KEPT_IS_LOCK : 0) |
	       (leaf->transient ? FIRN_KEPT_IS_TRANSIENT : 0) |
	       (parent != NULL && parent->doc == leaf ? FIRN_KEPT_IS_DOC : 0);
}

static void
put_inode(FirnView *view, FirnInode *inode)
{
	GByteArray *out = view->record;

	g_byte_array_set_size(out, 0);
	firn_keep_add(out, inode_flags(inode));
	firn_keep_add(out, inode->parent != NULL ? inode->parent->inode.ino : 0);
	firn_keep_add_text(out, inode->name);
	firn_keep_add(out, inode->mode);
	firn_keep_add(out, (uint64_t)inode->mtime_ns);
	if (inode->directory)
		add_dir(out, (const FirnDir *)inode);
	else
		add_leaf(out, (const FirnLeaf *)inode);
	firn_keep_put(view->batch, FIRN_KEPT_INODE, inode->ino, out->data, out->len);
}

/* ---- content ---- */

static void
add_content(GByteArray *out, const FirnContent *content)
{
	if (content == NULL) {
		firn_keep_add(out, FIRN_KEPT_NO_CONTENT);
		return;
	}
	firn_keep_add(out, content->kind);
	firn_keep_add(out, content->length);
	firn_keep_add(out, content->published);
	switch (content->kind) {
	case FIRN_CONTENT_BYTES:
		firn_keep_add_bytes(out, g_bytes_get_data(content->bytes, NULL),
				    (size_t)content->length);
		break;
	case FIRN_CONTENT_NATIVE:
		firn_keep_add_bytes(out, &content->id, sizeof content->id);
		firn_keep_add(out, content->offset);
		break;
	case FIRN_CONTENT_VIRTUAL:
		firn_keep_add_text(out, content->location);
		firn_keep_add(out, content->offset);
		firn_keep_add(out, content->etag != NULL);
		firn_keep_add_text(out, content->etag);
		firn_keep_add(out, content->last_modified);
		break;
	}
}

static void
put_content(GByteArray *batch, const FirnLeaf *leaf)
{
	g_autoptr(GByteArray) out = g_byte_array_new();

	firn_keep_add(out, leaf->unpublished);
	add_content(out, leaf->content);
	add_content(out, leaf->refused);
	add_content(out, leaf->previous);
	firn_keep_put(batch, FIRN_KEPT_CONTENT, leaf->key, out->data, out->len);
}

static void
put_spool(GByteArray *batch, const FirnLeaf *leaf)
{
	uint64_t mtime = (uint64_t)leaf->inode.mtime_ns;
	uint64_t values[] = { leaf->size, leaf->touched, leaf->dirty };
	g_autoptr(GByteArray) out = g_byte_array_new();

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++)
		firn_keep_add(out, values[i]);
	firn_spool_keep(leaf->spool, out);
	firn_keep_put(batch, FIRN_KEPT_SPOOL, leaf->key, out->data, out->len);
	firn_keep_put(batch, FIRN_KEPT_MTIME, leaf->key, &mtime, sizeof mtime);
}

void
firn_keep_content(FirnLeaf *leaf)
{
	g_autoptr(GByteArray) batch = NULL;

	if (leaf->inode.view->keep == NULL)
		return;
	batch = g_byte_array_new();
	put_content(batch, leaf);
	put_spool(batch, leaf);
	firn_keep_commit(leaf->inode.view->keep, batch);
}

void
firn_keep_content_locked(FirnLeaf *leaf)
{
	if (leaf->inode.view->keep != NULL) {
		put_content(leaf->inode.view->batch, leaf);
		put_spool(leaf->inode.view->batch, leaf);
	}
}

void
firn_keep_spool(FirnLeaf *leaf)
{
	g_autoptr(GByteArray) batch = NULL;

	if (leaf->inode.view->keep == NULL)
		return;
	batch = g_byte_array_new();
	put_spool(batch, leaf);
	firn_keep_commit(leaf->inode.view->keep, batch);
}

void
firn_keep_mtime(FirnInode *inode)
{
	uint64_t mtime = (uint64_t)inode->mtime_ns;

	firn_keep_mark(inode);
	if (inode->view->keep != NULL && !inode->directory)
		firn_keep_put(inode->view->batch, FIRN_KEPT_MTIME, ((const FirnLeaf *)inode)->key,
			      &mtime, sizeof mtime);
}

/* ---- tables ---- */

void
firn_keep_change(FirnView *view, const FirnChunkChange *change)
{
	uint64_t values[] = { change->ino, (uint64_t)change->mtime_ns };

	if (view->keep != NULL && change->seq != 0)
		firn_keep_put(view->batch, FIRN_KEPT_CHANGE, change->seq, values, sizeof values);
}

void
firn_keep_change_gone(FirnView *view, uint64_t seq)
{
	if (view->keep != NULL && seq != 0)
		firn_keep_drop(view->batch, FIRN_KEPT_CHANGE, seq);
}

void
firn_keep_removed(FirnView *view, uint64_t number, const FirnDir *array, const char *key)
{
	g_autoptr(GByteArray) out = NULL;

	if (view->keep == NULL)
		return;
	out = g_byte_array_new();
	firn_keep_add(out, array->inode.ino);
	firn_keep_add_text(out, key);
	firn_keep_put(view->batch, FIRN_KEPT_REMOVED, number, out->data, out->len);
}

void
firn_keep_removed_gone(FirnView *view, uint64_t number)
{
	if (view->keep != NULL)
		firn_keep_drop(view->batch, FIRN_KEPT_REMOVED, number);
}

static void
keep_numbered(FirnView *view, FirnChunkChange *change, void *data)
{
	(void)data;
	if (change->ino != 0 || change->mtime_ns != 0)
		firn_keep_change(view, change);
}

void
firn_keep_all_changes(FirnView *view)
{
	if (view->keep == NULL)
		return;
	firn_keep_drop_all(view->batch, FIRN_KEPT_CHANGE);
	firn_chunk_each_change(view, keep_numbered, NULL);
}

void
firn_keep_slot(FirnView *view, const FirnSlot *slot)
{
	g_autoptr(GByteArray) out = NULL;

	if (view->keep == NULL)
		return;
	out = g_byte_array_new();
	firn_keep_add_bytes(out, &slot->snapshot, sizeof slot->snapshot);
	firn_keep_add(out, slot->node_index);
	firn_keep_add(out, slot->dir->inode.ino);
	firn_keep_put(view->batch, FIRN_KEPT_SLOT, slot->number, out->data, out->len);
}

void
firn_keep_tree(FirnView *view, const FirnTree *tree, FirnKeptTree role)
{
	g_autoptr(GByteArray) out = NULL;

	if (view->keep == NULL)
		return;
	out = g_byte_array_new();
	firn_keep_add(out, role);
	firn_keep_add_bytes(out, firn_snapshot_id(tree->base), sizeof(FirnId12));
	firn_keep_add(out, tree->root != NULL ? tree->root->inode.ino : 0);
	firn_keep_put(view->batch, FIRN_KEPT_TREE, tree->number, out->data, out->len);
}

static void
put_view(FirnView *view)
{
	FirnJournal *journal = view->session->journal;
	GByteArray *out = view->record;
	const FirnTree *tree = view->tree;

	g_byte_array_set_size(out, 0);
	firn_keep_add(out, view->next_ino);
	firn_keep_add(out, view->next_tree);
	firn_keep_add(out, journal != NULL ? firn_journal_file(journal) : 0);
	firn_keep_add(out, journal != NULL ? firn_journal_end(journal) : 0);
	firn_keep_add_bytes(out, firn_snapshot_id(tree->base), sizeof(FirnId12));
	firn_keep_add(out, view->committing);
	firn_keep_add(out, view->commit_seq);
	firn_keep_add(out, view->intended);
	firn_keep_add_bytes(out, &view->intent, sizeof view->intent);
	firn_keep_add(out, view->intent_seq);
	firn_keep_add(out, tree->root != NULL ? tree->root->inode.ino : 0);
	if (out->len == view->kept_view->len &&
	    memcmp(out->data, view->kept_view->data, out->len) == 0)
		return;
	g_byte_array_set_size(view->kept_view, 0);
	g_byte_array_append(view->kept_view, out->data, out->len);
	firn_keep_put(view->batch, FIRN_KEPT_VIEW, 0, out->data, out->len);
	firn_keep_tree(view, tree, FIRN_KEPT_TREE_CURRENT);
}

void
firn_view_checkpoint(FirnView *view)
{
	if (view->keep == NULL)
		return;
	for (guint i = 0; i < view->marked->len; i++) {
		FirnInode *inode = view->marked->pdata[i];
		FirnLeaf *leaf = inode->directory ? NULL : (FirnLeaf *)inode;

		inode->marked = false;
		put_inode(view, inode);
		if (leaf != NULL && !leaf->kept) {
			/* Nobody but us can know it yet. */
			leaf->kept = true;
			firn_keep_content_locked(leaf);
		}
	}
	g_ptr_array_set_size(view->marked, 0);
	put_view(view);
	firn_keep_commit(view->keep, view->batch);
}

void
firn_view_unlock(FirnView *view)
{
	firn_view_checkpoint(view);
	pthread_mutex_unlock(&view->lock);
}
