#ifndef FIRN_CORE_REPO_CHUNK_FOLD_H
#define FIRN_CORE_REPO_CHUNK_FOLD_H

#include "core/repo/chunk_map.h"

/*
 * Folded leaves of a chunk map: entries that lie in a file, in order, and are
 * read when they are wanted.  What is kept of sixty-four of them is where they
 * are and a summary, so that ten million changes of many journals are merged and
 * committed in the memory that one manifest takes.
 */
typedef struct FirnChunkFile FirnChunkFile;

/* A pack (an object that many chunks share), and the end of the last part that is asked of it. */
typedef struct {
	FirnId12 id;
	uint64_t end;
} FirnChunkPack;

/* Chunks that were written one after the other are in one pack, or two. */
#define FIRN_CHUNK_FOLD_PACKS 2u

/* Where `n` entries that follow each other are, and what holds of all of them. */
typedef struct {
	uint64_t offset; /* in the file */
	uint32_t size;   /* bytes */
	uint32_t n;      /* 1 to FIRN_CHUNK_FOLD_MAX */
	uint32_t kinds;  /* 1 << FirnRefKind of each kind there is */
	uint32_t
		n_packs; /* all objects there are; 0, though there are some: not that few, or no packs */
} FirnChunkSpan;
#define FIRN_CHUNK_FOLD_MAX 64u

/*
 * Decode the `span->n` entries in `bytes`, with `rank` coordinates each, as they
 * were when they were folded; false: they are something else.  Their contents go
 * to `store`.  Called from any thread.
 */
typedef bool (*FirnChunkUnfold)(FirnSpan bytes, const FirnChunkSpan *span, uint32_t rank,
				uint64_t seed, uint32_t *out_coords, FirnChunkChange *out_changes,
				FirnChunkStore *store);

/* Takes over `fd`.  `name` is for messages; `seed` is handed to `unfold`. */
FirnChunkFile *firn_chunk_file_new(int fd, const char *name, uint64_t seed, FirnChunkUnfold unfold);
/* Another part of the same file, with a seed of its own. */
FirnChunkFile *firn_chunk_file_part(FirnChunkFile *file, uint64_t seed);
FirnChunkFile *firn_chunk_file_ref(FirnChunkFile *file);
void firn_chunk_file_unref(FirnChunkFile *file); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnChunkFile, firn_chunk_file_unref)

/*
 * Append entries that come after all there are.  `bounds`: three rows of rank
 * coordinates, the first, the last, and the greatest along each axis.  `packs`:
 * `span->n_packs` of them.
 */
void firn_chunk_map_append_folded(FirnChunkMap *map, FirnChunkFile *file, const FirnChunkSpan *span,
				  const uint32_t *bounds, const FirnChunkPack *packs);

/*
 * False with STORE or FORMAT if a folded leaf of `map` could not be read when it
 * was wanted: then iterators came to an end before it, and look-ups found
 * nothing in it.  To be asked before anything is made of what they said.
 */
bool firn_chunk_map_check(const FirnChunkMap *map, GError **error) FIRN_MUST_USE;

/* A folded leaf that an iterator is about to read.  Borrowed. */
typedef struct {
	uint32_t n;
	uint32_t kinds;
	const uint32_t *first;
	const uint32_t *last;
	const uint32_t *most;
	uint32_t n_packs; /* as FirnChunkSpan says */
	const FirnChunkPack *packs;
} FirnChunkBlock;

/* Whether the next entry is the first of a folded leaf that has not been read for `iter`. */
bool firn_chunk_iter_block(FirnChunkIter *iter, FirnChunkBlock *out_block);
/* Step over what is left of the leaf of the next entry, without reading it; how many. */
uint32_t firn_chunk_iter_skip(FirnChunkIter *iter);
/*
 * Move it to the end of `map`, as firn_chunk_map_take() does; the sequence numbers of its
 * entries become `older` if they are less than `limit`, else `newer`; their inode numbers 0.
 */
void firn_chunk_map_take_folded(FirnChunkMap *map, FirnChunkIter *iter, uint64_t limit,
				uint64_t older, uint64_t newer);

/*
 * Let go of the leaves that a holding iterator read: those of the `n` entries at
 * and behind `place`.
 */
void firn_chunk_map_release(const FirnChunkPlace *place, size_t n);

#endif
