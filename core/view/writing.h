#ifndef FIRN_CORE_VIEW_WRITING_H
#define FIRN_CORE_VIEW_WRITING_H

#include "core/view/internal.h"

/* Chunks that are open for writing, by their place, and who reads them meanwhile.  View lock held. */

GHashTable *firn_writing_new(void);
/* Its writers, kind or place changed: after that / before that. */
void firn_writing_add(FirnView *view, FirnLeaf *leaf);
void firn_writing_remove(FirnView *view, FirnLeaf *leaf);
/* NULL: nobody writes there.  Borrowed. */
FirnLeaf *firn_writing_find(FirnView *view, FirnDir *array, const uint32_t *coords);
/* The table entry of a chunk without a change, if it has one; its number would be `ino`.  Borrowed. */
FirnInode *firn_chunk_entry(FirnView *view, FirnDir *array, const uint32_t *coords, uint64_t ino);
/*
 * The file of a chunk, base or changed: to be asked before another takes its place, and told when
 * it has; it is gone for its name, then, unless it is `but`.  View lock held all along.
 */
typedef struct {
	FirnInode *recorded; /* NULL: not in the table */
	FirnLeaf *writing;   /* NULL: nobody writes there */
} FirnChunkThere;
FirnChunkThere firn_chunk_there(FirnView *view, FirnDir *array, const uint32_t *coords);
void firn_chunk_mark_dead(const FirnChunkThere *there, const FirnInode *but);
/* A file without leaf was opened / ends, or got one. */
void firn_readers_add(FirnView *view, FirnFile *file);
void firn_readers_remove(FirnView *view, FirnFile *file);
/* Whether what has a number is to be opened as a leaf, or else as the base has it. */
bool firn_readers_have_leaf(FirnView *view, uint64_t ino);
/* Who has `ino` open reads what is written to the leaf. */
void firn_readers_follow(FirnView *view, uint64_t ino, FirnLeaf *leaf);
/* Whether a leaf is what its name shows, or has none: else nobody may begin to write to it. */
bool firn_chunk_is_current(FirnView *view, const FirnLeaf *leaf);

#endif
