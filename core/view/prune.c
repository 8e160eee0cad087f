#include "core/view/internal.h"

/*
 * The kernel remembers whatever it ever looked up until it needs the memory, and we what it may ask
 * for by number: some 400 bytes a file that was changed, while its change itself takes 60.  So who
 * writes millions of chunks has the kernel asked to forget the first ones.  They are looked up again when
 * somebody wants them.  (What is as it was in the base has a computed number, and costs nothing.)
 */

/* What a program lists before it looks at the first of it (fts of the C library: 100,000) fits in. */
#define MAX_KNOWN (1u << 17)
/* Asking wakes a thread: several at once. */
#define BATCHES 64u

/* The file number `i` of those that were looked up, if the kernel still knows it; NULL. */
static FirnInode *
known_at(FirnView *view, guint i)
{
	FirnInode *inode = firn_inode_find(view, g_array_index(view->known, uint64_t, i));

	return inode != NULL && inode->n_lookup > 0 ? inode : NULL;
}

static void
let_go(FirnView *view, guint n)
{
	for (guint i = 0; i < n; i++) {
		FirnInode *inode = known_at(view, i);
		const FirnLeaf *leaf = (const FirnLeaf *)inode;

		if (inode == NULL)
			continue;
		inode->queued = false;
		if (leaf->kind == FIRN_LEAF_CHUNK && leaf->n_open == 0 && !inode->dead &&
		    inode->parent != NULL)
			firn_view_invalidate(view, inode->parent->inode.ino, inode->name);
	}
	g_array_remove_range(view->known, 0, n);
}

/* Those the kernel forgot by itself; and numbers that are there twice, forgotten and known again. */
static void
drop_forgotten(FirnView *view)
{
	FirnInode *inode;
	guint n = 0;

	for (guint i = 0; i < view->known->len; i++)
		if ((inode = known_at(view, i)) != NULL)
			inode->queued = false;
	for (guint i = 0; i < view->known->len; i++) {
		if ((inode = known_at(view, i)) == NULL || inode->queued)
			continue;
		inode->queued = true;
		g_array_index(view->known, uint64_t, n++) = inode->ino;
	}
	g_array_set_size(view->known, n);
}

void
firn_prune_known(FirnView *view, FirnInode *inode)
{
	guint max = view->max_known != 0 ? view->max_known : MAX_KNOWN;
	guint batch = max / BATCHES + 1;

	if (inode->directory || inode->queued)
		return;
	inode->queued = true;
	g_array_append_val(view->known, inode->ino);
	if (view->known->len < max + batch)
		return;
	if (view->n_known > max)
		let_go(view, batch);
	else
		drop_forgotten(view);
}
