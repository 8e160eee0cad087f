#include "core/view/writing.h"

#include <errno.h>

/*
 * What the number of a chunk's file stands for.  Numbers of base chunks are computed from
 * their place (slot.c) and need no table; the kernel keeps them for as long as it likes.
 */

/* The change made in place to the chunk with a computed number. */
static FirnChunkChange *
change_in_place(FirnView *view, uint64_t ino, FirnDir **out_array, uint32_t *coords)
{
	FirnChunkChange *change;
	uint32_t depth;
	FirnSlot *slot = firn_slot_decode(view, ino, coords, &depth);

	if (slot == NULL || depth < slot->rank || slot->dir->inode.dead ||
	    !firn_dir_is_array(slot->dir) || slot->dir->meta->rank != slot->rank)
		return NULL;
	change = firn_chunk_change(view, slot->dir, coords);
	*out_array = slot->dir;
	return change != NULL && change->ino == ino && change->kind != FIRN_REF_NONE ? change
										     : NULL;
}

bool
firn_chunk_is_changed(FirnView *view, uint64_t ino)
{
	uint32_t coords[FIRN_MAX_RANK];
	FirnDir *array;

	return change_in_place(view, ino, &array, coords) != NULL;
}

bool
firn_inode_is_snapshot(FirnView *view, uint64_t ino)
{
	FirnInode *inode = firn_inode_find(view, ino);
	uint32_t coords[FIRN_MAX_RANK];
	FirnSlot *slot;
	uint32_t depth;

	if (inode != NULL && inode->directory)
		return !((FirnDir *)inode)->tree->session;
	if (inode != NULL)
		return inode->parent != NULL && !inode->parent->tree->session;
	slot = firn_slot_decode(view, ino, coords, &depth);
	return slot != NULL && !slot->dir->tree->session;
}

int
firn_chunk_peek_base(FirnView *view, uint64_t ino, FirnContent **out_content)
{
	uint32_t coords[FIRN_MAX_RANK];
	FirnChunkLookup found = { 0 };
	FirnSnapshot *base;
	GError *error = NULL;
	FirnSlot *slot;
	uint32_t depth;
	int failed;

	slot = firn_slot_decode(view, ino, coords, &depth);
	if (slot == NULL)
		return ESTALE;
	if (depth < slot->rank)
		return EISDIR;
	base = firn_slot_snapshot(view, slot, &error);
	if (base == NULL)
		return firn_view_fail(view, slot->dir->inode.name, error);
	firn_view_unlock(view);
	failed = firn_chunk_look_up(view, base, slot->node_index, coords, depth, true, &found);
	pthread_mutex_lock(&view->lock);
	firn_snapshot_unref(base);
	if (failed == 0 && !found.found)
		failed = ESTALE;
	*out_content = found.content;
	return failed;
}

static bool
same_content(const FirnContent *a, const FirnContent *b)
{
	if (a == NULL || b == NULL || a->kind != b->kind || a->length != b->length)
		return false;
	switch (a->kind) {
	case FIRN_CONTENT_BYTES:
		return g_bytes_equal(a->bytes, b->bytes);
	case FIRN_CONTENT_NATIVE:
		return a->offset == b->offset && firn_id12_compare(&a->id, &b->id) == 0;
	case FIRN_CONTENT_VIRTUAL:
		return a->offset == b->offset && g_strcmp0(a->location, b->location) == 0;
	}
	return false;
}

/* Whether the base shows the same chunk as the snapshot that the slot is of. */
static int
compare_with_base(FirnView *view, uint64_t ino, FirnSlot *slot, const uint32_t *coords)
{
	FirnChunkLookup now = { 0 };
	FirnContent *then = NULL;
	int failed = firn_chunk_find_base(view, slot->dir, coords, slot->rank, true, &now);

	/* What it was then may be gone for good. */
	if (failed == 0 &&
	    (firn_chunk_peek_base(view, ino, &then) != 0 || !same_content(now.content, then)))
		failed = ESTALE;
	firn_content_unref(now.content);
	firn_content_unref(then);
	return failed == EAGAIN ? ESTALE : failed;
}

int
firn_chunk_check_number(FirnView *view, uint64_t ino, bool to_write)
{
	uint32_t coords[FIRN_MAX_RANK];
	const FirnChunkChange *change;
	uint32_t depth;
	FirnSlot *slot = firn_slot_decode(view, ino, coords, &depth);
	FirnDir *dir;

	if (slot == NULL || depth < slot->rank || !slot->dir->tree->session ||
	    firn_inode_find(view, ino) != NULL)
		return 0;
	dir = slot->dir;
	if (slot->retired || dir->inode.dead || !firn_dir_is_array(dir) ||
	    dir->meta->rank != slot->rank)
		return ESTALE;
	change = firn_chunk_change(view, dir, coords);
	if (change != NULL)
		return change->ino == ino && change->kind != FIRN_REF_NONE ? 0 : ESTALE;
	if (firn_writing_find(view, dir, coords) != NULL || (to_write && slot != dir->file_slot))
		return ESTALE;
	return slot == dir->file_slot ? 0 : compare_with_base(view, ino, slot, coords);
}

int
firn_chunk_take_leaf(FirnView *view, uint64_t ino, FirnLeaf **out_leaf)
{
	uint32_t coords[FIRN_MAX_RANK];
	FirnInode *inode = firn_inode_find(view, ino);
	FirnContent *content = NULL;
	FirnChunkChange *change;
	FirnDir *array;
	FirnLeaf *leaf;
	FirnSlot *slot;
	uint32_t depth;
	int failed;

	if (inode == NULL && !firn_chunk_is_changed(view, ino)) {
		failed = firn_chunk_peek_base(view, ino, &content);
		if (failed != 0)
			return failed;
		inode = firn_inode_find(view, ino);
	}
	/* Asked again: another may have opened, written and closed while the base was read. */
	change = inode == NULL ? change_in_place(view, ino, &array, coords) : NULL;
	if (change != NULL) {
		inode = &firn_chunk_leaf(view, array, coords, change)->inode;
	} else if (inode == NULL) {
		/* The number is computed: the entry goes with the handles that need it. */
		slot = firn_slot_decode(view, ino, coords, &depth);
		g_assert(slot != NULL && content != NULL);
		leaf = firn_chunk_leaf_new(view, slot->dir, coords, ino);
		leaf->content = firn_content_ref(content);
		leaf->size = content->length;
		leaf->inode.mtime_ns = (int64_t)(slot->flushed_at * 1000);
		leaf->inode.refs = 0;
		inode = &leaf->inode;
	}
	firn_content_unref(content);
	if (inode->directory)
		return EISDIR;
	*out_leaf = (FirnLeaf *)inode;
	return 0;
}

/* The change that has a computed number: of its place, or of the one that its file was renamed to. */
static FirnChunkChange *
change_of(FirnView *view, const FirnInode *inode, uint64_t ino)
{
	const FirnLeaf *leaf = (const FirnLeaf *)inode;
	uint32_t coords[FIRN_MAX_RANK];
	FirnChunkChange *change;
	FirnDir *array;

	if (inode == NULL || inode->directory || leaf->kind != FIRN_LEAF_CHUNK)
		return change_in_place(view, ino, &array, coords);
	if (leaf->array->meta->rank != leaf->rank)
		return NULL;
	change = firn_chunk_change(view, leaf->array, leaf->coords);
	return change != NULL && change->ino == ino ? change : NULL;
}

void
firn_view_renumber(FirnView *view, uint64_t ino)
{
	uint32_t coords[FIRN_MAX_RANK];
	FirnChunkChange *change;
	FirnInode *inode;
	FirnSlot *slot;
	uint32_t depth;

	pthread_mutex_lock(&view->lock);
	slot = firn_slot_decode(view, ino, coords, &depth);
	if (slot != NULL)
		slot->retired = true;
	if (slot != NULL && slot->dir->file_slot == slot) {
		slot->dir->file_slot = NULL;
		firn_keep_mark(&slot->dir->inode);
	}
	inode = slot != NULL ? firn_inode_find(view, ino) : NULL;
	change = slot != NULL ? change_of(view, inode, ino) : NULL;
	if (change != NULL)
		change->ino = 0;
	if (inode != NULL) {
		firn_inode_ref(inode);
		firn_inode_renumber(view, inode);
		if (change != NULL)
			change->ino = inode->ino;
		firn_inode_unref(view, inode);
	}
	if (change != NULL)
		firn_keep_change(view, change);
	firn_view_unlock(view);
}
