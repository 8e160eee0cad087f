#ifndef FIRN_CORE_REPO_REPO_INTERNAL_H
#define FIRN_CORE_REPO_REPO_INTERNAL_H

#include "core/repo/cache.h"
#include "core/repo/repo.h"
#include "core/repo/shared.h"

/* Shared by the files of FirnRepo; nobody else includes this. */
struct FirnRepo {
	FirnStore *store;
	uint8_t spec_version;
	uint64_t identity;
	FirnCache *snapshots;
	FirnCache *manifests;
	FirnShared *shared; /* where manifests are for others too; may be NULL */
	gint n_read;        /* manifests decompressed; atomic */
	gint n_shared;      /* found in `shared`; atomic */
	FirnCache *indexes; /* of nodes with many manifests, see find.c */
	pthread_mutex_t mutex;
	GBytes *info_file;        /* of `repo` as last read, or NULL; under mutex */
	FirnVersion info_version; /* of info_file; under mutex */
	FirnRepoInfo *spare;      /* nobody's: the next reader's, if it is of spare_version */
	FirnVersion spare_version;
};

#define FIRN_REPO_KEY       "repo"
#define FIRN_REPO_V1_PREFIX "refs/"
#define FIRN_REPO_V1_MAIN   "refs/branch.main/ref.json"
#define FIRN_REPO_V1_CONFIG "config.yaml"

/* "snapshots/<id>" and so on.  Caller owns. */
char *firn_repo_key(const char *folder, const FirnId12 *id);
/* The object's bytes; NOT_FOUND if there is none.  `len` 0 means all of it.  Caller owns. */
GBytes *firn_repo_fetch(FirnRepo *repo, const char *key, uint64_t len, GError **error);

/* Where earlier versions of `repo` are, under names that say when they were replaced. */
#define FIRN_REPO_BACKUPS "overwritten/"
/* When, of "repo.<14 digits>.<id>": milliseconds since the epoch.  False: it is no such name. */
bool firn_repo_backup_time(const char *name, uint64_t *out_ms);

/* Writing takes seconds, a commit minutes: what is older than this belongs to nobody. */
#define FIRN_ABANDONED_US ((int64_t)24 * 3600 * 1000000)

/* Remove an object nobody refers to; if that fails it stays as garbage for a gc. */
void firn_repo_discard(FirnStore *store, const char *key);

/* Repo info of a version 2 repository, and the version of its object.  Caller owns. */
FirnRepoInfo *firn_repo_read_info_versioned(FirnRepo *repo, FirnVersion *out_version,
					    GError **error);
/* Done with, and unchanged: another one reads it without decoding.  Takes `info`. */
void firn_repo_leave_info(FirnRepo *repo, FirnRepoInfo *info, const FirnVersion *version);

/* Of the stored file; 0 = unknown. */
uint64_t firn_repo_manifest_size(FirnSnapshot *snapshot, const FirnId12 *id);

extern const FirnCacheType firn_repo_index_type;

static inline bool
firn_repo_contains(const FirnExtent *extents, const uint32_t *coords, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (coords[i] < extents[i].from || coords[i] >= extents[i].to)
			return false;
	return true;
}

/* What a version 1 repository's refs and snapshots say.  Caller owns. */
FirnRepoInfo *firn_repo_read_info_v1(FirnRepo *repo, GError **error);

#endif
