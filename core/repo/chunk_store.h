#ifndef FIRN_CORE_REPO_CHUNK_STORE_H
#define FIRN_CORE_REPO_CHUNK_STORE_H

#include "core/format/types.h"

/*
 * What became of one chunk, in a few bytes of its own; what has no fixed size
 * (inline bytes, locations) lies in a store that many entries share, so that a
 * million of them cost no million allocations.  Entries may be copied as they
 * are: they are good as long as the store is.
 */
typedef struct {
	uint64_t length; /* bytes of the chunk; 0 if deleted */
	uint64_t seq; /* journal sequence number of the last change; 0: inherited from a parent */
	uint64_t ino; /* used by the mount; else 0 */
	int64_t mtime_ns; /* used by the mount; else 0 */
	uint64_t offset;  /* native (0: whole object, unless it says more), virtual */
	uint32_t kind;    /* FirnRefKind; FIRN_REF_NONE: deleted */
	union {
		FirnId12 id;                  /* native */
		uint8_t link[sizeof(void *)]; /* private: a pointer into the store */
	} u;
} FirnChunkChange;

/* Grows, and goes as a whole.  One thread at a time; references from any. */
typedef struct FirnChunkStore FirnChunkStore;

FirnChunkStore *firn_chunk_store_new(void);
FirnChunkStore *firn_chunk_store_ref(FirnChunkStore *store);
void firn_chunk_store_unref(FirnChunkStore *store);        /* NULL is a no-op */
size_t firn_chunk_store_size(const FirnChunkStore *store); /* bytes handed out */

/* Replace an entry's ref by a copy of `ref` (kind NONE: deleted); seq, ino, mtime are kept. */
void firn_chunk_change_set(FirnChunkChange *change, const FirnRef *ref, FirnChunkStore *store);
/* The ref, its spans borrowed from the entry's store. */
void firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref);

#endif
