#ifndef FIRN_CORE_REPO_CHUNK_STORE_H
#define FIRN_CORE_REPO_CHUNK_STORE_H

#include "core/format/types.h"

/* More records than these a journal cannot have, and is refused if it says so. */
#define FIRN_CHUNK_SEQ_BITS 48
#define FIRN_CHUNK_SEQ_MAX  ((UINT64_C(1) << FIRN_CHUNK_SEQ_BITS) - 1)

/*
 * What became of one chunk, in 40 bytes of its own; what has no fixed size (inline bytes,
 * locations) or an uncommon one lies in a store that many entries share, so that a million of
 * them cost no million allocations.  Entries may be copied as they are: they are good as long as
 * the store is.
 */
typedef struct {
	uint64_t ino;     /* used by the mount; else 0 */
	int64_t mtime_ns; /* used by the mount; else 0 */
	/* Journal sequence number of the last change; 0: inherited from a parent. */
	uint64_t seq : FIRN_CHUNK_SEQ_BITS;
	uint64_t kind : 2;  /* FirnRefKind; FIRN_REF_NONE: deleted */
	uint64_t form : 2;  /* private: what the next two, and `spare`, say of sizes */
	uint64_t high : 12; /* private */
	uint32_t low;       /* private */
	union {
		FirnId12 id; /* private: native, but for the form that is far */
		struct {
			uint8_t link[sizeof(void *)]; /* a pointer into the store */
			uint32_t spare;
		} far;
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
/* Its sequence number: at most FIRN_CHUNK_SEQ_MAX. */
static inline void
firn_chunk_change_number(FirnChunkChange *change, uint64_t seq)
{
	change->seq = seq & FIRN_CHUNK_SEQ_MAX;
}

/* Bytes of the chunk; 0 if deleted. */
uint64_t firn_chunk_change_length(const FirnChunkChange *change);
/* In its object, native (0: whole object, unless it says more) or virtual; else 0. */
uint64_t firn_chunk_change_offset(const FirnChunkChange *change);
/* The object of a native change: good as long as the entry and the store are. */
const FirnId12 *firn_chunk_change_id(const FirnChunkChange *change);
/* The ref, its spans borrowed from the entry's store. */
void firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref);

#endif
