#ifndef FIRN_CORE_STORE_STORE_H
#define FIRN_CORE_STORE_STORE_H

#include "core/base/base.h"

/*
 * A store of immutable objects plus a few conditionally-written ones.
 *
 * Keys are '/'-separated UTF-8, relative to the repository root; a key with an
 * empty, "." or ".." component is refused (INVALID).  All calls block, may be
 * made from any thread at once, and retry transient failures themselves.  "Not
 * found" is an answer here, not an error.  Errors carry the key.
 */
typedef struct FirnStore FirnStore;
typedef struct FirnStoreWriter FirnStoreWriter;
typedef struct FirnStaged FirnStaged;

/* Opaque version of one object (an ETag, or a file's stamp); compare only. */
typedef struct {
	char tag[64]; /* NUL-terminated; "" means "no such object" */
} FirnVersion;

typedef enum {
	FIRN_PUT_ANY,       /* overwrite freely                          */
	FIRN_PUT_IF_ABSENT, /* only if there is no such object           */
	FIRN_PUT_IF_MATCH,  /* only while the object still has `expected` */
} FirnPutMode;

/* Called for each object under a prefix; return false to stop the listing. */
typedef bool (*FirnStoreListFn)(const char *key, uint64_t size, int64_t mtime_us, void *data);

/* What a backend implements: one static const table per backend. */
typedef struct {
	const char *name; /* "local", "s3", "fault" */
	bool (*get)(FirnStore *, const char *key, uint64_t offset, uint64_t len, GBytes **out_data,
		    FirnVersion *out_version, GError **);
	bool (*put)(FirnStore *, const char *key, GBytes *data, FirnPutMode,
		    const FirnVersion *expected, FirnVersion *out_version, GError **);
	FirnStaged *(*stage)(FirnStore *, const char *key, GBytes *data, GError **);
	bool (*put_staged)(FirnStore *, FirnStaged *, const FirnVersion *expected,
			   FirnVersion *out_version, GError **);
	void (*unstage)(FirnStore *, FirnStaged *);
	bool (*put_new)(FirnStore *, const char *key, GBytes *data, GError **);
	bool (*publish)(FirnStore *, const char *const *keys, size_t n_keys, GError **);
	bool (*withdraw)(FirnStore *, const char *key, GError **);
	bool (*copy)(FirnStore *, const char *from, const char *to, const FirnVersion *expected,
		     GError **);
	bool (*remove)(FirnStore *, const char *key, GError **);
	bool (*stat)(FirnStore *, const char *key, bool *out_exists, uint64_t *out_size,
		     int64_t *out_mtime_us, GError **);
	bool (*list)(FirnStore *, const char *prefix, FirnStoreListFn, void *data, GError **);
	/* May be NULL: puts leave nothing behind. */
	bool (*list_temporaries)(FirnStore *, FirnStoreListFn, void *data, GError **);
	/* May be NULL: nothing can be freed. */
	bool (*free_range)(FirnStore *, const char *key, uint64_t offset, uint64_t len, GError **);
	bool (*sync)(FirnStore *, const char *const *keys, size_t n_keys, GError **);
	int (*open_fd)(FirnStore *, const char *key, GError **);
	FirnStoreWriter *(*writer_open)(FirnStore *, const char *key, GError **);
	FirnStoreWriter *(*writer_reopen)(FirnStore *, const char *key, GError **);
	void (*free)(FirnStore *);
} FirnStoreOps;

/* Embedded as the first member of every backend's own struct. */
struct FirnStore {
	const FirnStoreOps *ops;
	char *url; /* canonical: "file:///abs/path" or "s3://bucket/prefix"; owned */
};

/*
 * Open the store `url` names: a path, `file://...`, (later) `s3://...`.
 * `create`: make the root directory if missing.  Errors: NOT_FOUND, INVALID (a file), DENIED,
 * UNSUPPORTED (scheme), STORE.  Caller owns (firn_store_free).
 */
FirnStore *firn_store_open(const char *url, bool create, GError **error) FIRN_MUST_USE;
void firn_store_free(FirnStore *store); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnStore, firn_store_free)

const char *firn_store_url(const FirnStore *store); /* borrowed */

/*
 * Read bytes [offset, offset + len) of `key`, fewer at its end; len ==
 * UINT64_MAX means "to the end".  On success `*out_data` is the bytes (caller
 * owns), or NULL if there is no such object; `*out_version` (may be NULL) is
 * the version read.  Errors: STORE, DENIED, INVALID.
 */
bool firn_store_get(FirnStore *store, const char *key, uint64_t offset, uint64_t len,
		    GBytes **out_data, FirnVersion *out_version, GError **error) FIRN_MUST_USE;

/*
 * Write all of `data` (borrowed) durably (file and directory synced), as one
 * atomic step.  `expected` is read only with FIRN_PUT_IF_MATCH; `out_version`
 * may be NULL.  Conditional puts are safe among processes, and hosts that share
 * the file system.  Errors: CONFLICT (lost the race, nothing was written),
 * NO_SPACE, QUOTA, READ_ONLY, DENIED, STORE, INVALID.
 */
bool firn_store_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
		    const FirnVersion *expected, FirnVersion *out_version, GError **error)
	FIRN_MUST_USE;

/*
 * A conditional put in two steps, for who can wait for the disk before it knows that it may: write
 * `data` (borrowed) durably, under no name that a reader looks at; then let it be `key`, while that
 * has the version `expected`, or take it away.  The caller owns what is staged, until one of
 * firn_store_put_staged() (also when that fails) and firn_store_unstage() (NULL is a no-op) ends
 * it.  Errors as for put.
 */
FirnStaged *firn_store_stage(FirnStore *store, const char *key, GBytes *data, GError **error)
	FIRN_MUST_USE;
bool firn_store_put_staged(FirnStore *store, FirnStaged *staged, const FirnVersion *expected,
			   FirnVersion *out_version, GError **error) FIRN_MUST_USE;
void firn_store_unstage(FirnStore *store, FirnStaged *staged);

/*
 * Put several new objects, with names that nobody else knows, and wait for the disk once: what
 * firn_store_put_new() writes has no name, and is not durable, before firn_store_publish() gives it
 * both.  firn_store_withdraw() removes it, published or not.  Errors as for put.
 */
bool firn_store_put_new(FirnStore *store, const char *key, GBytes *data, GError **error)
	FIRN_MUST_USE;
bool firn_store_publish(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
	FIRN_MUST_USE;
bool firn_store_withdraw(FirnStore *store, const char *key, GError **error) FIRN_MUST_USE;

/*
 * Copy `from` to the new key `to`, only while `from` has version `expected`.
 * Errors as for put; CONFLICT if `from` changed.
 */
bool firn_store_copy(FirnStore *store, const char *from, const char *to,
		     const FirnVersion *expected, GError **error) FIRN_MUST_USE;

/* Delete; no error if it is not there. */
bool firn_store_remove(FirnStore *store, const char *key, GError **error) FIRN_MUST_USE;

/*
 * Nobody reads these bytes of an object any more: give their space back, where
 * that can be done, and leave the rest as it is.  No error if it is not there.
 */
bool firn_store_free_range(FirnStore *store, const char *key, uint64_t offset, uint64_t len,
			   GError **error) FIRN_MUST_USE;

/* Size (bytes) and time (us) of an object; outputs may be NULL. */
bool firn_store_stat(FirnStore *store, const char *key, bool *out_exists, uint64_t *out_size,
		     int64_t *out_mtime_us, GError **error) FIRN_MUST_USE;

/*
 * Every object whose key starts with `prefix` ("" or ending in "/"), in any
 * order; temporaries (a name holding '#') are left out.
 */
bool firn_store_list(FirnStore *store, const char *prefix, FirnStoreListFn fn, void *data,
		     GError **error) FIRN_MUST_USE;

/* The keys of those that end in `suffix` ("": all), sorted; NULL: failed.  Caller owns. */
GPtrArray *firn_store_list_keys(FirnStore *store, const char *prefix, const char *suffix,
				GError **error) FIRN_MUST_USE;

/* The temporaries that the list leaves out: of puts under way, and of those that were killed. */
bool firn_store_list_temporaries(FirnStore *store, FirnStoreListFn fn, void *data, GError **error)
	FIRN_MUST_USE;

/* Make objects written with a writer that was finished without `durable` durable. */
bool firn_store_sync(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
	FIRN_MUST_USE;

/*
 * A read-only descriptor on the object where it is a local file (caller
 * closes), or -1 with `error` unset where the backend has no files, or -1 with
 * NOT_FOUND, DENIED, STORE.
 */
int firn_store_open_fd(FirnStore *store, const char *key, GError **error);

/*
 * Streamed writing of one new object with a name nobody else knows (a chunk):
 * random access until finished, invisible to nobody but unreferenced.  One
 * thread at a time, but any number of them write to different places and flush.
 */
typedef struct {
	bool (*write)(FirnStoreWriter *, uint64_t offset, const void *data, size_t len, GError **);
	bool (*read)(FirnStoreWriter *, uint64_t offset, void *out, size_t len, size_t *out_len,
		     GError **);
	bool (*truncate)(FirnStoreWriter *, uint64_t size, GError **);
	bool (*flush)(FirnStoreWriter *, GError **);
	bool (*finish)(FirnStoreWriter *, bool durable, GError **);
	void (*leave)(FirnStoreWriter *);
	void (*abort)(FirnStoreWriter *);
} FirnStoreWriterOps;
struct FirnStoreWriter {
	const FirnStoreWriterOps *ops;
};

/* Caller owns: end it with finish, leave or abort. */
FirnStoreWriter *firn_store_writer_open(FirnStore *store, const char *key, GError **error)
	FIRN_MUST_USE;
/* Go on where a process that died had stopped, with all it had written.  NOT_FOUND: nothing. */
FirnStoreWriter *firn_store_writer_reopen(FirnStore *store, const char *key, GError **error)
	FIRN_MUST_USE;
bool firn_store_writer_write(FirnStoreWriter *writer, uint64_t offset, const void *data, size_t len,
			     GError **error) FIRN_MUST_USE;
/* Up to `len` bytes; `*out_len` is short only at the end. */
bool firn_store_writer_read(FirnStoreWriter *writer, uint64_t offset, void *out, size_t len,
			    size_t *out_len, GError **error) FIRN_MUST_USE;
bool firn_store_writer_truncate(FirnStoreWriter *writer, uint64_t size, GError **error)
	FIRN_MUST_USE;
/* Fail if a write so far failed after it had returned, as network file systems can. */
bool firn_store_writer_flush(FirnStoreWriter *writer, GError **error) FIRN_MUST_USE;
/* Publish; with `durable` synced as well.  On failure the writer stays usable. */
bool firn_store_writer_finish(FirnStoreWriter *writer, bool durable, GError **error) FIRN_MUST_USE;
/* No more is written; what was flushed stays, as durable as it is. */
void firn_store_writer_leave(FirnStoreWriter *writer);
void firn_store_writer_abort(FirnStoreWriter *writer); /* removes the object; NULL is a no-op */

#endif
