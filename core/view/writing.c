#include "core/view/writing.h"

#include <string.h>

/*
 * Chunks that are open.  The file of a chunk is found by the change recorded for it, and without
 * one by the number its place has.  Neither says anything of a file that is being written while a
 * commit takes its record away, or gives the array's files other numbers: so files with writers
 * are found by their place, and what one place shows is always one inode.
 *
 * Who opened a chunk for reading while it was as in the base has no leaf.  But the kernel keeps one
 * set of pages an inode, whichever handle filled them: when somebody begins to write, all who have
 * that inode open must read what he writes, or their old bytes would be what others read.
 */

static guint
hash_place(gconstpointer key)
{
	const FirnLeaf *leaf = key;
	guint hash = g_direct_hash(leaf->array);

	for (uint32_t i = 0; i < leaf->rank; i++)
		hash = hash * 31 + leaf->coords[i];
	return hash;
}

static gboolean
same_place(gconstpointer a, gconstpointer b)
{
	const FirnLeaf *x = a;
	const FirnLeaf *y = b;

	return x->array == y->array && x->rank == y->rank &&
	       memcmp(x->coords, y->coords, x->rank * sizeof *x->coords) == 0;
}

GHashTable *
firn_writing_new(void)
{
	return g_hash_table_new(hash_place, same_place);
}

void
firn_writing_add(FirnView *view, FirnLeaf *leaf)
{
	if (leaf->kind == FIRN_LEAF_CHUNK && leaf->n_writers > 0 && !leaf->inode.dead)
		g_hash_table_add(view->writing, leaf);
}

void
firn_writing_remove(FirnView *view, FirnLeaf *leaf)
{
	if (leaf->kind == FIRN_LEAF_CHUNK && g_hash_table_lookup(view->writing, leaf) == leaf)
		g_hash_table_remove(view->writing, leaf);
}

FirnLeaf *
firn_writing_find(FirnView *view, FirnDir *array, const uint32_t *coords)
{
	uint32_t place[FIRN_MAX_RANK];
	FirnLeaf probe = { .array = array, .coords = place };
	FirnLeaf *leaf;

	if (g_hash_table_size(view->writing) == 0 || !firn_dir_is_array(array))
		return NULL;
	probe.rank = array->meta->rank;
	memcpy(place, coords, probe.rank * sizeof *coords);
	leaf = g_hash_table_lookup(view->writing, &probe);
	return leaf != NULL && !leaf->inode.dead ? leaf : NULL;
}

FirnInode *
firn_chunk_entry(FirnView *view, FirnDir *array, const uint32_t *coords, uint64_t ino)
{
	FirnLeaf *leaf = firn_writing_find(view, array, coords);
	FirnInode *inode;

	if (leaf != NULL)
		return &leaf->inode;
	if (ino == 0 || view->n_edited == 0)
		return NULL;
	inode = firn_inode_find(view, ino);
	leaf = (FirnLeaf *)inode;
	/* A file that was renamed has its number still, which is that of another place. */
	return inode != NULL && !inode->directory && !inode->dead && leaf->array == array &&
			       leaf->kind == FIRN_LEAF_CHUNK && leaf->rank == array->meta->rank &&
			       memcmp(leaf->coords, coords, leaf->rank * sizeof *coords) == 0
		       ? inode
		       : NULL;
}

bool
firn_chunk_is_current(FirnView *view, const FirnLeaf *leaf)
{
	FirnDir *array = leaf->array;
	const FirnLeaf *writing;

	if (leaf->dropped)
		return false;
	if (leaf->kind != FIRN_LEAF_CHUNK || leaf->transient || leaf->inode.dead ||
	    array->inode.dead || !firn_dir_is_array(array) || array->meta->rank != leaf->rank)
		return true;
	if (firn_chunk_change(view, array, leaf->coords) != NULL)
		return !firn_chunk_displaced(view, leaf);
	writing = firn_writing_find(view, array, leaf->coords);
	if (writing != NULL)
		return writing == leaf;
	return leaf->inode.ino == firn_slot_ino(array->file_slot, leaf->coords, leaf->rank);
}

/* ---- who reads ---- */

void
firn_readers_add(FirnView *view, FirnFile *file)
{
	FirnFile *first;

	if (view->read_only)
		return;
	first = g_hash_table_lookup(view->readers, &file->ino);
	if (first == NULL) {
		g_hash_table_insert(view->readers, &file->ino, file);
		return;
	}
	file->previous = first;
	file->next = first->next;
	if (file->next != NULL)
		file->next->previous = file;
	first->next = file;
}

void
firn_readers_remove(FirnView *view, FirnFile *file)
{
	FirnFile *next = file->next;

	if (view->read_only)
		return;
	if (next != NULL)
		next->previous = file->previous;
	if (file->previous != NULL)
		file->previous->next = next;
	else if (next != NULL)
		g_hash_table_replace(view->readers, &next->ino, next);
	else
		g_hash_table_remove(view->readers, &file->ino);
	file->next = file->previous = NULL;
}

bool
firn_readers_have_leaf(FirnView *view, uint64_t ino)
{
	return firn_inode_find(view, ino) != NULL || firn_chunk_is_changed(view, ino);
}

void
firn_readers_follow(FirnView *view, uint64_t ino, FirnLeaf *leaf)
{
	FirnFile *file;

	while ((file = g_hash_table_lookup(view->readers, &ino)) != NULL) {
		firn_readers_remove(view, file);
		firn_inode_ref(&leaf->inode);
		leaf->n_open++;
		__atomic_store_n(&file->leaf, leaf, __ATOMIC_RELEASE);
	}
}
