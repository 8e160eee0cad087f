#ifndef FIRN_CORE_REPO_CHUNK_MAP_H
#define FIRN_CORE_REPO_CHUNK_MAP_H

#include "core/format/types.h"

/*
 * The changed chunks of one array, ordered by coordinates: a B+tree whose
 * leaves hold packed rows of coordinates and changes, so that a million
 * changes cost little more than their bytes, point look-ups are logarithmic
 * and listing a directory reads neighbours.  Appending in order fills leaves.
 * One thread at a time (its owner locks).
 */
typedef struct FirnChunkMap FirnChunkMap;

/* The rarer parts of a virtual ref. */
typedef struct {
	uint64_t offset;
	uint32_t last_modified;
	uint32_t location_len;
	uint32_t etag_len; /* 0: none */
	char text[];       /* the location, then the ETag */
} FirnVirtual;

typedef struct {
	uint64_t length; /* bytes of the chunk; 0 if deleted */
	uint64_t seq; /* journal sequence number of the last change; 0: inherited from a parent */
	uint64_t ino; /* used by the mount; else 0 */
	int64_t mtime_ns; /* used by the mount; else 0 */
	union {
		FirnId12 id;    /* native (whole object: offset 0 unless `offset` says more) */
		uint8_t *bytes; /* inline: `length` bytes, owned */
		FirnVirtual *virtual; /* owned */
	} u;
	uint32_t kind;   /* FirnRefKind; FIRN_REF_NONE: deleted */
	uint64_t offset; /* native */
} FirnChunkChange;

FirnChunkMap *firn_chunk_map_new(uint32_t rank);
void firn_chunk_map_free(FirnChunkMap *map); /* NULL is a no-op */
uint32_t firn_chunk_map_rank(const FirnChunkMap *map);
size_t firn_chunk_map_size(const FirnChunkMap *map); /* entries */

/* NULL if there is no entry.  The pointer is valid until the next insert or remove. */
FirnChunkChange *firn_chunk_map_find(FirnChunkMap *map, const uint32_t *coords);
/* The entry for `coords`, made (all zero: "deleted") if missing; `*out_new` may be NULL. */
FirnChunkChange *firn_chunk_map_insert(FirnChunkMap *map, const uint32_t *coords, bool *out_new);
bool firn_chunk_map_remove(FirnChunkMap *map, const uint32_t *coords);

/* Replace an entry's ref by a copy of `ref` (kind NONE: deleted); seq, ino, mtime are kept. */
void firn_chunk_change_set(FirnChunkChange *change, const FirnRef *ref);
/* The ref, its spans borrowed from the entry. */
void firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref);

/* A position; any insert or remove invalidates it. */
typedef struct {
	FirnChunkMap *map;
	void *leaf;
	uint32_t at;
} FirnChunkIter;

/* Position at the first entry whose leading `n` coordinates are >= `coords` (n 0: the first). */
void firn_chunk_iter_seek(FirnChunkIter *iter, FirnChunkMap *map, const uint32_t *coords,
			  uint32_t n);
/* The entry there, then step; false at the end. */
bool firn_chunk_iter_next(FirnChunkIter *iter, const uint32_t **out_coords,
			  FirnChunkChange **out_change);

#endif
