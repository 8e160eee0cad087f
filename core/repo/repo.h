#ifndef FIRN_CORE_REPO_REPO_H
#define FIRN_CORE_REPO_REPO_H

#include "core/format/config.h"
#include "core/format/manifest.h"
#include "core/format/repo_info.h"
#include "core/format/snapshot.h"
#include "core/format/txlog.h"
#include "core/repo/cache.h"
#include "core/repo/shared.h"
#include "core/store/store.h"

/*
 * A repository: a store, its spec version, and a cache of decoded objects.
 * Version 1 repositories are presented as a FirnRepoInfo too (built from
 * refs/ and the snapshots); they cannot be written.  Any thread.
 */
typedef struct FirnRepo FirnRepo;

/*
 * Open the repository at `url`.  Errors: NOT_FOUND ("... is no Icechunk
 * repository", with the way out), INVALID (a file), UNSUPPORTED, FORMAT, STORE.  Caller owns.
 */
FirnRepo *firn_repo_open(const char *url, GError **error) FIRN_MUST_USE;
/* As open, on a store (takes ownership, also on failure). */
FirnRepo *firn_repo_open_store(FirnStore *store, GError **error) FIRN_MUST_USE;
void firn_repo_free(FirnRepo *repo); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnRepo, firn_repo_free)

/*
 * Create a version 2 repository (initial snapshot, its log, then `repo`,
 * create-only).  Errors: EXISTS (anything is there), DENIED, STORE...
 */
bool firn_repo_create(const char *url, GError **error) FIRN_MUST_USE;

FirnStore *firn_repo_store(FirnRepo *repo);           /* borrowed */
const char *firn_repo_url(const FirnRepo *repo);      /* canonical, borrowed */
uint8_t firn_repo_spec_version(const FirnRepo *repo); /* 1 or 2 */

/* Whether it can be written: format 1 is only read.  Errors: READ_ONLY, with the way out. */
bool firn_repo_check_writable(const FirnRepo *repo, GError **error) FIRN_MUST_USE;
/* What tells two repositories apart: flushed_at (us) of the root snapshot. */
uint64_t firn_repo_identity(const FirnRepo *repo);

/* The repo info as it is now (read again, conditional where that is cheaper).  Caller owns. */
FirnRepoInfo *firn_repo_read_info(FirnRepo *repo, GError **error) FIRN_MUST_USE;
/* The configuration as of now.  Caller owns. */
FirnConfig *firn_repo_read_config(FirnRepo *repo, GError **error) FIRN_MUST_USE;

/* Objects, cached by bytes (least recently used go first), one fetch at a time per id.
 * Errors: NOT_FOUND (names the object), FORMAT (names the object), STORE.  Caller owns. */
FirnSnapshot *firn_repo_get_snapshot(FirnRepo *repo, const FirnId12 *id, GError **error)
	FIRN_MUST_USE;
/* `size_bytes`: of the stored file as the snapshot says, 0 = unknown. */
FirnManifest *firn_repo_get_manifest(FirnRepo *repo, const FirnId12 *id, uint64_t size_bytes,
				     FirnCacheUse use, GError **error) FIRN_MUST_USE;
/* Not cached. */
FirnTxlog *firn_repo_get_txlog(FirnRepo *repo, const FirnId12 *id, GError **error) FIRN_MUST_USE;
/* Bound of the manifest cache, bytes; default FIRN_REPO_CACHE_BYTES. */
void firn_repo_set_cache_size(FirnRepo *repo, size_t bytes);
/* Before the first manifest: have them in memory once for all that use `shared` (takes it). */
void firn_repo_share_manifests(FirnRepo *repo, FirnShared *shared);
/* How many manifests were decompressed here so far, and how many others had in memory. */
void firn_repo_count_manifests(FirnRepo *repo, uint64_t *out_read, uint64_t *out_shared);
#define FIRN_REPO_CACHE_BYTES ((size_t)256 << 20)

/*
 * Change `repo` with a compare-and-swap loop: read, check the status is online,
 * call `fn` (which checks its preconditions, changes the model and pushes its
 * update with `backup_name`), back up, conditional put; again if another writer
 * was faster.  `fn` may be called several times, each time on a fresh model.
 * Errors: fn's, READ_ONLY (status, or version 1), CONFLICT (retries used up), STORE...
 */
typedef bool (*FirnRepoUpdateFn)(FirnRepoInfo *info, const char *backup_name, void *data,
				 GError **error);
bool firn_repo_update(FirnRepo *repo, FirnRepoUpdateFn fn, void *data, GError **error)
	FIRN_MUST_USE;

/*
 * The same in two steps: all but the put itself, while the caller does something else that must be
 * done before; then the put, and the loop where another writer was faster.  The version 2
 * repository is checked by the caller (firn_repo_check_writable).  Caller owns the update: end it,
 * or drop it (NULL is a no-op), and nothing has changed.
 */
typedef struct FirnRepoUpdate FirnRepoUpdate;
FirnRepoUpdate *firn_repo_update_begin(FirnRepo *repo, FirnRepoUpdateFn fn, void *data,
				       GError **error) FIRN_MUST_USE;
bool firn_repo_update_end(FirnRepo *repo, FirnRepoUpdate *update, FirnRepoUpdateFn fn, void *data,
			  GError **error) FIRN_MUST_USE;
void firn_repo_update_drop(FirnRepo *repo, FirnRepoUpdate *update);

/*
 * Find the ref of a chunk of `node` in `snapshot` (format section 5.2).  False
 * with `error` unset: no such chunk.  The ref's spans are borrowed from
 * `*out_manifest` (caller owns).  Errors: NOT_FOUND/FORMAT/STORE of the manifest.
 */
bool firn_repo_find_chunk(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			  const uint32_t *coords, FirnRef *out_ref, FirnManifest **out_manifest,
			  GError **error) FIRN_MUST_USE;

/*
 * Iterate, in coordinate order, the refs of `node` whose first `n_prefix`
 * coordinates equal `prefix` (n_prefix 0: all), inside the node's grid and its
 * manifests' extents only.  Loads one manifest at a time where extents allow.
 */
typedef struct FirnRefIter FirnRefIter;
FirnRefIter *firn_ref_iter_new(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			       const uint32_t *prefix, uint32_t n_prefix);
/*
 * Next ref: 1 and outputs (borrowed until the next call), 0 at the end, -1 with
 * `error`.  `out_manifest` may be NULL.
 */
int firn_ref_iter_next(FirnRefIter *iter, const uint32_t **out_coords, FirnRef *out_ref,
		       FirnManifest **out_manifest, GError **error);
/* Skip to the first ref whose leading `n` coordinates are >= `coords`. */
void firn_ref_iter_seek(FirnRefIter *iter, const uint32_t *coords, uint32_t n);
void firn_ref_iter_free(FirnRefIter *iter); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnRefIter, firn_ref_iter_free)

/*
 * True: such an iterator yields something, as the extents of one of the node's
 * manifests tell, which are those of refs there are (format section 5.2); none is
 * loaded.  False: only the iterator knows.
 */
bool firn_repo_implies_chunk(FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			     const uint32_t *prefix, uint32_t n_prefix);

#endif
