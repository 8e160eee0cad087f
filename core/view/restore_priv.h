#ifndef FIRN_CORE_VIEW_RESTORE_PRIV_H
#define FIRN_CORE_VIEW_RESTORE_PRIV_H

#include "core/view/internal.h"

/* What the files that make a view from what is kept share. */
typedef struct FirnRestore {
	FirnView *view;
	const FirnKept *kept;
	GHashTable *trees;   /* &number -> FirnTree * */
	GHashTable *objects; /* FirnPart * -> FirnContent *: one part, one content; borrowed */
	GHashTable *owned;   /* FirnPart *: what records name */
	uint64_t root;       /* inode of the session's; 0: removed */
	const char *wrong;   /* what does not fit; NULL: nothing */
} FirnRestore;

/* Always false: says what does not fit. */
bool firn_restore_refuse(GError **error, const char *what);
/* The hierarchies: the session's, and those of snapshots that are in use. */
bool firn_restore_trees(FirnRestore *restore, const FirnId12 *base, GError **error);
/* Directories and files, their places, and the numbers computed for chunks. */
bool firn_restore_inodes(FirnRestore *restore, GError **error);
/* Chunk directories that were removed. */
bool firn_restore_removed(FirnRestore *restore, GError **error);
/* The root of each hierarchy, when its inodes are there. */
bool firn_restore_roots(FirnRestore *restore, GError **error);

#endif
