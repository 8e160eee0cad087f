#include "core/view/internal.h"

#include "core/base/clock.h"

#include <string.h>

/*
 * Computed numbers: bit 63, then 19 bits of slot, 4 bits of depth, 40 bits of
 * the row-major index of the leading coordinates in the slot's grid.
 */
#define SLOT_SHIFT   44
#define DEPTH_SHIFT  40
#define SLOT_MAX     ((UINT32_C(1) << 19) - 1)
#define DEPTH_MAX    15u
#define LINEAR_LIMIT (UINT64_C(1) << DEPTH_SHIFT)

uint64_t
firn_inode_next(FirnView *view)
{
	return view->next_ino++;
}

void
firn_inode_init(FirnView *view, FirnInode *inode, uint64_t ino, bool directory)
{
	inode->view = view;
	inode->ino = ino != 0 ? ino : firn_inode_next(view);
	inode->directory = directory;
	inode->refs = 1;
	inode->mode = directory ? 0755 : 0644;
	inode->mtime_ns = firn_clock_now_ns();
	g_hash_table_insert(view->inodes, &inode->ino, inode);
	firn_keep_mark(inode);
}

FirnInode *
firn_inode_ref(FirnInode *inode)
{
	inode->refs++;
	return inode;
}

/* What an inode owns, but for its references to other inodes. */
static void
inode_dispose(FirnView *view, FirnInode *inode)
{
	FirnDir *dir = (FirnDir *)inode;
	FirnLeaf *leaf = (FirnLeaf *)inode;

	g_free(inode->name);
	if (inode->directory) {
		g_hash_table_unref(dir->children);
		firn_dir_forget_removed(dir, UINT64_MAX);
		firn_meta_unref(dir->meta);
	} else {
		firn_chunk_release_retired(view, leaf);
		firn_chunk_drop_moved(view, leaf);
		firn_leaf_drop_spool(leaf);
		if (leaf->content != NULL && !leaf->content->published)
			leaf->content->disposable = true;
		firn_content_unref(leaf->content);
		firn_content_unref(leaf->previous);
		firn_content_unref(leaf->refused);
		g_free(leaf->coords);
		pthread_mutex_destroy(&leaf->lock);
	}
	g_free(inode);
}

void
firn_inode_unref(FirnView *view, FirnInode *inode)
{
	FirnDir *parent = inode->parent;
	FirnDir *array = NULL;
	FirnLeaf *doc = NULL;

	g_assert(inode->refs > 0);
	if (--inode->refs > 0)
		return;
	/* Children hold their parent: a directory that ends has none left. */
	g_hash_table_remove(view->inodes, &inode->ino);
	firn_keep_gone(inode);
	if (inode->directory)
		doc = ((FirnDir *)inode)->doc;
	else
		array = ((FirnLeaf *)inode)->array;
	inode_dispose(view, inode);
	if (doc != NULL)
		firn_inode_unref(view, &doc->inode);
	if (array != NULL)
		firn_inode_unref(view, &array->inode);
	if (parent != NULL)
		firn_inode_unref(view, &parent->inode);
}

void
firn_inode_dispose_all(FirnView *view)
{
	GHashTableIter iter;
	gpointer value;

	view->keep = NULL;
	g_hash_table_iter_init(&iter, view->inodes);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		g_hash_table_iter_steal(&iter);
		inode_dispose(view, value);
	}
}

FirnLeaf *
firn_leaf_next(GHashTableIter *iter)
{
	gpointer value;

	while (g_hash_table_iter_next(iter, NULL, &value)) {
		const FirnInode *inode = value;

		if (!inode->directory && !inode->dead)
			return value;
	}
	return NULL;
}

char *
firn_leaf_writer(const FirnLeaf *leaf)
{
	g_autofree char *path = NULL;

	if (leaf->n_writers == 0 || leaf->kind == FIRN_LEAF_SCRATCH)
		return NULL;
	path = firn_inode_path(&leaf->inode);
	return g_strdup_printf("%s (pid %d)", path, (int)leaf->writer);
}

FirnInode *
firn_inode_find(FirnView *view, uint64_t ino)
{
	return g_hash_table_lookup(view->inodes, &ino);
}

void
firn_inode_looked_up(FirnInode *inode)
{
	/* It may have been told of again while the kernel was asked to forget it. */
	if (inode->n_lookup++ > 0) {
		firn_prune_known(inode->view, inode);
		return;
	}
	inode->refs++;
	inode->view->n_known += !inode->directory;
	firn_keep_mark(inode);
	firn_prune_known(inode->view, inode);
}

void
firn_inode_unlook(FirnView *view, FirnInode *inode)
{
	if (inode->n_lookup == 0 || --inode->n_lookup > 0)
		return;
	view->n_known -= !inode->directory;
	firn_keep_mark(inode);
	firn_inode_unref(view, inode);
}

void
firn_inode_renumber(FirnView *view, FirnInode *inode)
{
	if (view->keep != NULL)
		firn_keep_drop(view->batch, FIRN_KEPT_INODE, inode->ino);
	g_hash_table_steal(view->inodes, &inode->ino);
	inode->ino = firn_inode_next(view);
	g_hash_table_insert(view->inodes, &inode->ino, inode);
	firn_keep_mark(inode);
	inode->queued = false;
	inode->stays = false;
	if (inode->n_lookup > 0) {
		inode->n_lookup = 0;
		view->n_known -= !inode->directory;
		firn_inode_unref(view, inode);
	}
}

static void
leave_tree(FirnView *view, FirnInode *inode)
{
	FirnDir *parent = inode->parent;

	inode->dead = true;
	firn_keep_mark(inode);
	if (parent == NULL)
		return;
	firn_keep_mark(&parent->inode);
	if (g_hash_table_lookup(parent->children, inode->name) == inode) {
		g_hash_table_remove(parent->children, inode->name);
		firn_inode_unref(view, inode);
	}
}

static void
forget(FirnView *view, FirnInode *inode, uint64_t n)
{
	FirnLeaf *leaf = inode->directory ? NULL : (FirnLeaf *)inode;

	if (inode->n_lookup == 0)
		return;
	if (inode->restored && inode->n_lookup > 1)
		/* Which ones are gone cannot be told: it stays. */
		n = inode->n_lookup - 1;
	if (inode->stays)
		n = MIN(n, inode->n_lookup - 1);
	inode->n_lookup -= MIN(n, inode->n_lookup);
	if (inode->n_lookup > 0)
		return;
	view->n_known -= leaf != NULL;
	firn_keep_mark(inode);
	/* A base chunk that got an entry only to have a number, or whose change
	 * the overlay keeps anyway, need not stay. */
	if (leaf != NULL && leaf->transient && leaf->n_open == 0 && !inode->dead)
		leave_tree(view, inode);
	firn_inode_unref(view, inode);
}

void
firn_view_forget(FirnView *view, uint64_t ino, uint64_t n)
{
	FirnInode *inode;

	pthread_mutex_lock(&view->lock);
	inode = firn_inode_find(view, ino);
	if (inode != NULL)
		forget(view, inode, n);
	firn_view_unlock(view);
	firn_view_sweep(view);
}

void
firn_inode_link(FirnDir *parent, const char *name, FirnInode *inode)
{
	char *copy = g_strdup(name); /* `name` may be the old one */

	g_assert(!inode->dead && inode->parent == NULL);
	firn_inode_ref(&parent->inode);
	inode->parent = parent;
	g_free(inode->name);
	inode->name = copy;
	g_hash_table_insert(parent->children, inode->name, inode);
	firn_inode_ref(inode);
	firn_keep_mark(inode);
	firn_keep_mark(&parent->inode);
}

void
firn_inode_unlink(FirnView *view, FirnInode *inode)
{
	if (inode->dead)
		return;
	if (inode->parent != NULL)
		firn_inode_touch(&inode->parent->inode);
	leave_tree(view, inode);
}

void
firn_inode_touch(FirnInode *inode)
{
	inode->mtime_ns = firn_clock_now_ns();
}

FirnDir *
firn_dir_new(FirnView *view, FirnTree *tree, FirnDir *parent, const char *name, uint64_t ino)
{
	FirnDir *dir = g_new0(FirnDir, 1);

	firn_inode_init(view, &dir->inode, ino, true);
	dir->tree = tree;
	dir->children = g_hash_table_new(g_str_hash, g_str_equal);
	if (parent != NULL) {
		firn_inode_link(parent, name, &dir->inode);
		firn_inode_unref(view, &dir->inode);
	}
	return dir;
}

FirnLeaf *
firn_leaf_new(FirnView *view, FirnDir *parent, const char *name, FirnLeafKind kind, uint64_t ino)
{
	FirnLeaf *leaf = g_new0(FirnLeaf, 1);

	firn_inode_init(view, &leaf->inode, ino, false);
	pthread_mutex_init(&leaf->lock, NULL);
	leaf->kind = kind;
	leaf->key = (leaf->inode.ino & FIRN_INO_COMPUTED) != 0 ? firn_inode_next(view)
							       : leaf->inode.ino;
	leaf->inode.name = g_strdup(name);
	if (parent != NULL) {
		firn_inode_ref(&parent->inode);
		leaf->inode.parent = parent;
	}
	return leaf;
}

char *
firn_dir_path(const FirnDir *dir)
{
	GString *path = g_string_new(NULL);

	for (; dir->inode.parent != NULL; dir = dir->inode.parent) {
		g_string_prepend(path, dir->inode.name);
		g_string_prepend_c(path, '/');
	}
	if (path->len == 0)
		g_string_append_c(path, '/');
	return g_string_free(path, FALSE);
}

char *
firn_inode_path(const FirnInode *inode)
{
	g_autofree char *parent = NULL;

	if (inode->directory)
		return firn_dir_path((const FirnDir *)inode);
	if (inode->parent == NULL)
		return g_strdup(inode->name);
	parent = firn_dir_path(inode->parent);
	return g_strconcat(strcmp(parent, "/") == 0 ? "" : parent, "/", inode->name, NULL);
}

FirnSlot *
firn_slot_add_lost(FirnView *view, const FirnId12 *snapshot, size_t node_index, FirnDir *dir)
{
	FirnSlot *slot = g_new0(FirnSlot, 1);

	slot->number = view->slots->len + 1;
	slot->snapshot = *snapshot;
	slot->node_index = node_index;
	slot->dir = dir;
	slot->retired = true;
	firn_inode_ref(&dir->inode);
	g_ptr_array_add(view->slots, slot);
	firn_keep_slot(view, slot);
	firn_keep_mark(&dir->inode);
	return slot;
}

FirnSlot *
firn_slot_add(FirnView *view, FirnSnapshot *snapshot, size_t node_index, FirnDir *dir)
{
	FirnSlot *slot = firn_slot_add_lost(view, firn_snapshot_id(snapshot), node_index, dir);
	FirnSnapshotNode node;

	firn_snapshot_node(snapshot, node_index, &node);
	slot->retired = false;
	slot->flushed_at = firn_snapshot_flushed_at(snapshot);
	slot->rank = node.rank;
	slot->n_chunks = g_new0(uint32_t, MAX(node.rank, 1));
	for (uint32_t axis = 0; axis < node.rank; axis++) {
		uint64_t length;

		firn_snapshot_node_shape(snapshot, &node, axis, &length, &slot->n_chunks[axis]);
	}
	return slot;
}

FirnSnapshot *
firn_slot_snapshot(FirnView *view, const FirnSlot *slot, GError **error)
{
	FirnSnapshot *base = slot->dir->tree->base;
	FirnId12 id = slot->snapshot;

	if (firn_id12_compare(firn_snapshot_id(base), &id) == 0)
		return firn_snapshot_ref(base);
	firn_view_unlock(view);
	base = firn_repo_get_snapshot(view->repo, &id, error);
	pthread_mutex_lock(&view->lock);
	return base;
}

static FirnSlot *
slot_new(FirnView *view, FirnDir *array)
{
	if (!array->in_base || view->slots->len >= SLOT_MAX)
		return NULL;
	return firn_slot_add(view, array->tree->base, array->base_index, array);
}

FirnSlot *
firn_slot_of_dirs(FirnView *view, FirnDir *array)
{
	if (array->dir_slot == NULL) {
		array->dir_slot =
			array->file_slot != NULL ? array->file_slot : slot_new(view, array);
		firn_keep_mark(&array->inode);
	}
	return array->dir_slot;
}

FirnSlot *
firn_slot_of_files(FirnView *view, FirnDir *array)
{
	if (array->file_slot == NULL && array->in_base)
		array->file_slot = slot_new(view, array);
	return array->file_slot;
}

uint64_t
firn_slot_ino(const FirnSlot *slot, const uint32_t *coords, uint32_t depth)
{
	uint64_t linear = 0;

	if (slot == NULL || depth > DEPTH_MAX || depth > slot->rank)
		return 0;
	for (uint32_t i = 0; i < depth; i++) {
		if (coords[i] >= slot->n_chunks[i])
			return 0;
		linear = linear * slot->n_chunks[i] + coords[i];
		if (linear >= LINEAR_LIMIT)
			return 0;
	}
	return FIRN_INO_COMPUTED | (uint64_t)slot->number << SLOT_SHIFT |
	       (uint64_t)depth << DEPTH_SHIFT | linear;
}

bool
firn_view_is_computed(uint64_t ino)
{
	return (ino & FIRN_INO_COMPUTED) != 0;
}

FirnSlot *
firn_slot_decode(FirnView *view, uint64_t ino, uint32_t *coords, uint32_t *out_depth)
{
	uint32_t number = (uint32_t)(ino >> SLOT_SHIFT) & SLOT_MAX;
	uint32_t depth = (uint32_t)(ino >> DEPTH_SHIFT) & DEPTH_MAX;
	uint64_t linear = ino & (LINEAR_LIMIT - 1);
	FirnSlot *slot;

	if ((ino & FIRN_INO_COMPUTED) == 0 || number == 0 || number > view->slots->len)
		return NULL;
	slot = g_ptr_array_index(view->slots, number - 1);
	if (slot->n_chunks == NULL || depth > slot->rank)
		return NULL;
	for (uint32_t i = depth; i-- > 0;) {
		if (slot->n_chunks[i] == 0)
			return NULL;
		coords[i] = (uint32_t)(linear % slot->n_chunks[i]);
		linear /= slot->n_chunks[i];
	}
	*out_depth = depth;
	return slot;
}
