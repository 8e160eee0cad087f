#ifndef FIRN_CORE_BASE_KEEP_H
#define FIRN_CORE_BASE_KEEP_H

#include "core/base/error.h"

/*
 * A keep: small records, each under a kind and a key, in memory that outlives
 * the process that writes them (its parent holds it as well).  What a successor
 * needs to go on where a process that died had stopped.
 *
 * Records are collected in a batch and committed as one: a successor sees all
 * of a batch or nothing of it, whenever its writer was killed.  Beside them
 * there are slots, blocks of FIRN_KEEP_SLOT_SIZE bytes for data being written.
 *
 * Made before fork(); one process at a time uses it, any number of threads.
 */
typedef struct FirnKeep FirnKeep;

#define FIRN_KEEP_KINDS     32u
#define FIRN_KEEP_SLOT_SIZE ((size_t)256 * 1024)

FirnKeep *firn_keep_new(GError **error) FIRN_MUST_USE;
void firn_keep_free(FirnKeep *keep); /* NULL is a no-op */

/* ---- writing ---- */

/* Add to `batch`: the record of `kind` (below FIRN_KEEP_KINDS) and `key` is `data` from now on. */
void firn_keep_put(GByteArray *batch, unsigned kind, uint64_t key, const void *data, size_t len);
/* ... there is none from now on. */
void firn_keep_drop(GByteArray *batch, unsigned kind, uint64_t key);
/* ... there is none of `kind` from now on. */
void firn_keep_drop_all(GByteArray *batch, unsigned kind);
/* Commit a batch, which is emptied. */
void firn_keep_commit(FirnKeep *keep, GByteArray *batch);
/* A batch of one. */
void firn_keep_put_now(FirnKeep *keep, unsigned kind, uint64_t key, const void *data, size_t len);
void firn_keep_drop_now(FirnKeep *keep, unsigned kind, uint64_t key);

/*
 * Memory ran out: what is kept is no longer what was written, and nobody must
 * go on from it.  Stays so.
 */
bool firn_keep_is_broken(const FirnKeep *keep);

/* A free slot; of what it holds, only what is written counts. */
uint64_t firn_keep_slot_take(FirnKeep *keep);
void firn_keep_slot_release(FirnKeep *keep, uint64_t slot);
/* In a successor: a slot that is in use.  Before the first is taken. */
void firn_keep_slot_claim(FirnKeep *keep, uint64_t slot);
void firn_keep_slot_write(FirnKeep *keep, uint64_t slot, const void *data, size_t len,
			  size_t offset);
/* False: it cannot be read. */
bool firn_keep_slot_read(FirnKeep *keep, uint64_t slot, void *data, size_t len) FIRN_MUST_USE;

/* ---- reading ---- */

/* What was committed last: kind -> (uint64_t * -> GBytes *).  Caller owns. */
typedef struct {
	GHashTable *kinds[FIRN_KEEP_KINDS];
} FirnKept;
FirnKept *firn_keep_read(FirnKeep *keep, GError **error) FIRN_MUST_USE;
void firn_kept_free(FirnKept *kept); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnKept, firn_kept_free)
GBytes *firn_kept_find(const FirnKept *kept, unsigned kind,
		       uint64_t key); /* NULL: none; borrowed */

/* ---- what is in a record: numbers and runs of bytes, one after another ---- */

void firn_keep_add(GByteArray *out, uint64_t number);
void firn_keep_add_bytes(GByteArray *out, const void *data, size_t len);
void firn_keep_add_text(GByteArray *out, const char *text); /* NULL: as "" */

typedef struct {
	FirnSpan rest;
	bool bad; /* something was asked for that is not there */
} FirnKeepReader;
FirnKeepReader firn_keep_reader(GBytes *record);       /* NULL: an empty one */
uint64_t firn_keep_take(FirnKeepReader *reader);       /* 0 if there is none */
FirnSpan firn_keep_take_bytes(FirnKeepReader *reader); /* empty if there is none; borrowed */
char *firn_keep_take_text(FirnKeepReader *reader);     /* caller owns */
/* Exactly `len` bytes; else `out` is zeroed. */
void firn_keep_take_fixed(FirnKeepReader *reader, void *out, size_t len);

#endif
