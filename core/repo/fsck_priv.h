#ifndef FIRN_CORE_REPO_FSCK_PRIV_H
#define FIRN_CORE_REPO_FSCK_PRIV_H

#include "core/format/config.h"
#include "core/format/manifest.h"
#include "core/format/repo_info.h"
#include "core/format/snapshot.h"
#include "core/format/txlog.h"
#include "core/repo/fsck.h"
#include "core/store/store.h"

/* Shared by the files of fsck; nobody else includes this. */

/* What an array needs a manifest for: the union of what all snapshots say. */
typedef struct {
	FirnId8 node;
	char *path;
	uint32_t rank;
	uint32_t *grid;      /* rank items: chunks along each axis, the least of all snapshots */
	FirnExtent *extents; /* rank items: what the extents of all snapshots have in common */
} FirnFsckUse;

typedef struct {
	FirnId12 id;
	bool stated; /* a snapshot said the two below */
	uint64_t size_bytes;
	uint32_t n_refs;
	GPtrArray *uses; /* FirnFsckUse, owned by the table of uses */
} FirnFsckManifest;

typedef struct {
	FirnId12 id;
	uint64_t size;
} FirnFsckChunk;

typedef struct {
	FirnStore *store;
	const FirnFsckOptions *options;
	uint8_t spec_version;
	FirnRepoInfo *info; /* version 2 */
	FirnConfig *config; /* NULL: unreadable */
	GHashTable *labels; /* FirnId12 -> char *: "branch main~2" */
	GArray *chunks;     /* FirnFsckChunk by id; NULL unless deep */

	pthread_mutex_t lock;     /* protects all below */
	GHashTable *manifests;    /* FirnId12 -> FirnFsckManifest */
	GPtrArray *manifest_list; /* the same */
	GHashTable *uses;         /* manifest and node id -> FirnFsckUse */
	FirnFsckReport *report;
} FirnFsck;

/* One finding; the strings are copied, `kind` is static, `path` may be NULL. */
typedef struct {
	const char *kind;
	const char *object;
	const char *path;
	const char *remedy;
} FirnFsckAbout;

void firn_fsck_find(FirnFsck *f, const FirnFsckAbout *about, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
/*
 * The object's bytes; NULL if it is missing or cannot be read, which is a
 * finding then.  Caller owns.
 */
GBytes *firn_fsck_fetch(FirnFsck *f, const FirnFsckAbout *about);
/* "branch main~2" or "snapshot ID".  Caller owns (g_free). */
char *firn_fsck_label(const FirnFsck *f, const FirnId12 *id);
void firn_fsck_count(FirnFsck *f, uint64_t *counter, uint64_t n);

/* ---- fsck_info.c: what names snapshots ---- */

/* Read and check `repo`, or the refs of version 1; true if there is something to go on with. */
bool firn_fsck_read_info(FirnFsck *f, GError **error);
/* Check every snapshot that is listed (version 2), or that the refs lead to. */
void firn_fsck_walk(FirnFsck *f);

/* ---- fsck_snapshot.c, fsck_log.c ---- */

/*
 * Check a snapshot and its transaction log, and note the manifests it needs.
 * The snapshot, if it can be decoded; caller owns.
 */
FirnSnapshot *firn_fsck_snapshot(FirnFsck *f, const FirnId12 *id, const char *label);
/* `snapshot` may be NULL: it is damaged.  The log alone is checked then. */
void firn_fsck_log(FirnFsck *f, const FirnId12 *id, const FirnSnapshot *snapshot,
		   const char *label);
/* Whether two of the manifests of `node` hold one place. */
bool firn_fsck_overlap(const FirnSnapshot *snapshot, const FirnSnapshotNode *node);

/* ---- fsck_leftover.c ---- */

/* Report what killed writers left, and remove it if asked to. */
void firn_fsck_leftovers(FirnFsck *f);

/* ---- fsck_manifest.c ---- */

/* Note that `node` needs a manifest with these extents (rank items). */
void firn_fsck_need(FirnFsck *f, const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
		    const FirnId12 *manifest, const FirnExtent *extents);
/* Note what a snapshot says of a manifest. */
void firn_fsck_state(FirnFsck *f, const FirnManifestFile *file, const char *label);
void firn_fsck_manifests(FirnFsck *f);
void firn_fsck_manifest_free(FirnFsckManifest *manifest);

#endif
