#ifndef FIRN_CORE_REPO_CHUNK_MAP_H
#define FIRN_CORE_REPO_CHUNK_MAP_H

#include "core/repo/chunk_store.h"

/*
 * The changed chunks of one array, ordered by coordinates: a B+tree whose
 * leaves hold packed rows of coordinates and changes, so that a million
 * changes cost little more than their bytes, point look-ups are logarithmic
 * and listing a directory reads neighbours.  Appending in order fills leaves.
 * One thread at a time (its owner locks).
 */
typedef struct FirnChunkMap FirnChunkMap;

FirnChunkMap *firn_chunk_map_new(uint32_t rank);
void firn_chunk_map_free(FirnChunkMap *map); /* NULL is a no-op */
uint32_t firn_chunk_map_rank(const FirnChunkMap *map);
size_t firn_chunk_map_size(const FirnChunkMap *map); /* entries */

/* NULL if there is no entry.  The pointer is valid until the next insert or remove. */
FirnChunkChange *firn_chunk_map_find(FirnChunkMap *map, const uint32_t *coords);
/* The entry for `coords`, made (all zero: "deleted") if missing; `*out_new` may be NULL. */
FirnChunkChange *firn_chunk_map_insert(FirnChunkMap *map, const uint32_t *coords, bool *out_new);
bool firn_chunk_map_remove(FirnChunkMap *map, const uint32_t *coords);

/* firn_chunk_change_set() of an entry of `map`.  What was borrowed from its entries is no more. */
void firn_chunk_map_set(FirnChunkMap *map, FirnChunkChange *change, const FirnRef *ref);
/* Bytes kept for what entries link to; at most about as many again are not linked to any more. */
size_t firn_chunk_map_content_size(const FirnChunkMap *map);
/* Let entries of `other` be copied to `map` as they are. */
void firn_chunk_map_share(FirnChunkMap *map, const FirnChunkMap *other);

/* A position; any insert or remove invalidates it. */
typedef struct {
	FirnChunkMap *map;
	void *leaf;
	uint32_t at;
	bool drains;
	bool holds; /* what it gives stays until firn_chunk_map_release() */
	bool reads; /* private: it is one of those that read the (folded) leaf */
} FirnChunkIter;

/* The same, to be kept: any number of iterators may begin there. */
typedef struct {
	void *leaf;
	uint32_t at;
} FirnChunkPlace;

/* Position at the first entry whose leading `n` coordinates are >= `coords` (n 0: the first). */
void firn_chunk_iter_seek(FirnChunkIter *iter, FirnChunkMap *map, const uint32_t *coords,
			  uint32_t n);
/* Position at a place of `map`; with `holds` entries stay when they are stepped over. */
void firn_chunk_iter_begin(FirnChunkIter *iter, FirnChunkMap *map, const FirnChunkPlace *place,
			   bool holds);
/* Where the next entry is, if there is one. */
FirnChunkPlace firn_chunk_iter_place(FirnChunkIter *iter);
/*
 * The entry there, then step; false at the end.  Both pointers are good until the next step (what
 * was folded up is read into memory for as long); in a map without folded leaves until it changes.
 */
bool firn_chunk_iter_next(FirnChunkIter *iter, const uint32_t **out_coords,
			  FirnChunkChange **out_change);

/*
 * Give up a map, which is empty then: its entries are the iterator's, which frees them as it
 * steps from leaf to leaf, and the rest when it is cleared.
 */
void firn_chunk_iter_drain(FirnChunkIter *iter, FirnChunkMap *map);
void firn_chunk_iter_clear(FirnChunkIter *iter);
/* Let the entry that was stepped over last be copied to `map` as it is. */
void firn_chunk_iter_share(const FirnChunkIter *iter, FirnChunkMap *map);
/*
 * Of the entry that was stepped over last and those behind it: how many lie one behind the other
 * from `*out_coords` and `*out_changes` on, and before `limit` (NULL: none); 1 or more.
 */
uint32_t firn_chunk_iter_run(const FirnChunkIter *iter, const uint32_t *limit,
			     const uint32_t **out_coords, FirnChunkChange **out_changes);
/* Move `n` of these to the end of `map`, which shares what they link to, and whose entries all
 * come before them; the iterator, which drains, is behind them then. */
void firn_chunk_map_take(FirnChunkMap *map, FirnChunkIter *iter, uint32_t n);

#endif
