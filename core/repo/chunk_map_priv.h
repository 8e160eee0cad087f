#ifndef FIRN_CORE_REPO_CHUNK_MAP_PRIV_H
#define FIRN_CORE_REPO_CHUNK_MAP_PRIV_H

#include "core/repo/chunk_fold.h"

#include <string.h>

/*
 * The tree, shared by its files only: chunk_map.c (look up, insert, remove,
 * iterate), chunk_move.c (from one map to another) and chunk_fold.c (leaves
 * that are in a file).
 */
#define FIRN_CHUNK_LEAF_MAX  64u
#define FIRN_CHUNK_INNER_MAX 64u
/* Each level takes 32 splits of the one below: 12 are out of reach. */
#define FIRN_CHUNK_DEPTH_MAX 12u

/* What is in a file; changes of its leaf are read for those who use them. */
typedef struct {
	FirnChunkFile *file; /* the map holds it */
	FirnChunkSpan span;
	uint32_t uses;         /* readers of the changes; 0: there are none */
	FirnChunkStore *store; /* what they link to */
	/* Of a leaf that was merged: */
	bool relabelled;
	uint64_t limit, older, newer;
	FirnChunkPack *packs; /* span.n_packs, behind the bounds */
	uint32_t bounds[];    /* 3 rows: first, last, most */
} FirnChunkFold;

typedef struct FirnChunkLeaf {
	struct FirnChunkLeaf *prev;
	struct FirnChunkLeaf *next;
	uint32_t n;
	uint32_t capacity;
	FirnChunkChange *changes; /* `capacity` of them, then as many rows of coordinates */
	FirnChunkFold *fold;      /* NULL: it is not, or no more, folded */
} FirnChunkLeaf;

typedef struct {
	uint32_t n;
	void *children[FIRN_CHUNK_INNER_MAX];
	uint32_t keys
		[]; /* FIRN_CHUNK_INNER_MAX rows: no entry of child i is less than row i; row 0 is unused */
} FirnChunkInner;

struct FirnChunkMap {
	uint32_t rank;
	uint32_t depth; /* levels of FirnChunkInner above the leaves */
	void *root;     /* NULL: empty */
	size_t size;
	FirnChunkLeaf *hint; /* where the last insert went, NULL: unknown */
	uint32_t hint_at;
	FirnChunkStore *store; /* NULL: not needed yet */
	size_t waste;          /* bytes in it that nothing links to */
	GPtrArray *shared;     /* FirnChunkStore *: what entries taken over link to; NULL: none */
	GPtrArray *files;      /* FirnChunkFile *: of folded leaves; NULL: none */
};

/* The way from the root to a leaf: at each level the node and the child taken. */
typedef struct {
	FirnChunkInner *nodes[FIRN_CHUNK_DEPTH_MAX];
	uint32_t at[FIRN_CHUNK_DEPTH_MAX];
} FirnChunkPath;

static inline uint32_t *
firn_chunk_map_leaf_row(const FirnChunkMap *map, FirnChunkLeaf *leaf, uint32_t i)
{
	return (uint32_t *)(void *)(leaf->changes + leaf->capacity) + (size_t)i * map->rank;
}

static inline size_t
firn_chunk_map_row_bytes(const FirnChunkMap *map, uint32_t n)
{
	return (size_t)n * map->rank * sizeof(uint32_t);
}

FirnChunkLeaf *firn_chunk_map_leaf_new(const FirnChunkMap *map, uint32_t capacity);
void firn_chunk_map_leaf_free(FirnChunkLeaf *leaf);
/* Let `map` own what entries of a store link to, too. */
void firn_chunk_map_share_store(FirnChunkMap *map, FirnChunkStore *store);
void firn_chunk_map_share_files(FirnChunkMap *map, const FirnChunkMap *other);
/* Hang `leaf`, whose entries (`first` is the first) come after all there are, at the end. */
void firn_chunk_map_append_leaf(FirnChunkMap *map, FirnChunkLeaf *leaf, const uint32_t *first);

/* Read a folded leaf for one more user, if that can be done; a no-op for others. */
bool firn_chunk_leaf_open(const FirnChunkMap *map, FirnChunkLeaf *leaf) FIRN_MUST_USE;
void firn_chunk_leaf_close(FirnChunkLeaf *leaf);
/* Make a folded leaf one of the map's own, to be changed. */
bool firn_chunk_leaf_own(FirnChunkMap *map, FirnChunkLeaf *leaf) FIRN_MUST_USE;
/* The same of one that cannot be read, which firn_chunk_map_check() says: it is empty then. */
void firn_chunk_leaf_give_up(FirnChunkMap *map, FirnChunkLeaf *leaf);
void firn_chunk_fold_free(FirnChunkFold *fold);
/* A map of one leaf grows it in steps: most arrays have few changes. */
FirnChunkLeaf *firn_chunk_map_leaf_grow(FirnChunkMap *map, FirnChunkLeaf *leaf);
/* Move rows [from, from + n) of `source` to `at` of `target`, which is made to end there. */
void firn_chunk_map_leaf_move(const FirnChunkMap *map, FirnChunkLeaf *target, uint32_t at,
			      FirnChunkLeaf *source, uint32_t from, uint32_t n);
/* Hang `child`, whose entries are >= `key` (overwritten), right of the one `path` leads to. */
void firn_chunk_map_add_leaf(FirnChunkMap *map, const FirnChunkPath *path, uint32_t *key,
			     void *child);
/* Behind the last entry of its leaf: go to the next, or to the end. */
void firn_chunk_iter_step(FirnChunkIter *iter);

#endif
