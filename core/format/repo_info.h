#ifndef FIRN_CORE_FORMAT_REPO_INFO_H
#define FIRN_CORE_FORMAT_REPO_INFO_H

#include "core/format/types.h"

#include <json-glib/json-glib.h>

/*
 * Repo info (file type 6): the one mutable object of a version 2 repository.
 * Decoded to a plain, id-based model, changed, and encoded again; everything
 * unknown (fields beyond the schema, `extra`, unknown updates) is carried over,
 * by the rule in unknown.h.  A `raw` belongs to its record and goes with it;
 * records made by others have none.
 *
 * `metadata` of a decoded snapshot is to be replaced, never changed in place:
 * the bytes it was read from are written again as long as it is the same
 * object.
 * One thread at a time.
 */
typedef struct {
	FirnId12 id;
	bool has_parent;
	FirnId12 parent;
	uint64_t flushed_at; /* us */
	char *message;
	JsonObject *metadata; /* may be NULL: none recorded */
	GArray *pruned;       /* of FirnId12, oldest first; NULL: none */
	gpointer raw;         /* private: what else the table carried */
} FirnSnapshotInfo;

typedef struct {
	char *name;
	FirnId12 snapshot;
	char *damage; /* why nobody can say what it is (`snapshot` is zero then); NULL: one can */
	gpointer raw; /* private */
} FirnRefInfo;

typedef enum {
	FIRN_UPDATE_REPO_INITIALIZED = 1,
	FIRN_UPDATE_REPO_MIGRATED = 2,
	FIRN_UPDATE_CONFIG_CHANGED = 3,
	FIRN_UPDATE_METADATA_CHANGED = 4,
	FIRN_UPDATE_TAG_CREATED = 5,
	FIRN_UPDATE_TAG_DELETED = 6,
	FIRN_UPDATE_BRANCH_CREATED = 7,
	FIRN_UPDATE_BRANCH_DELETED = 8,
	FIRN_UPDATE_BRANCH_RESET = 9,
	FIRN_UPDATE_NEW_COMMIT = 10,
	FIRN_UPDATE_COMMIT_AMENDED = 11,
	FIRN_UPDATE_NEW_DETACHED_SNAPSHOT = 12,
	FIRN_UPDATE_GC_RAN = 13,
	FIRN_UPDATE_EXPIRATION_RAN = 14,
	FIRN_UPDATE_FEATURE_FLAG_CHANGED = 15,
	FIRN_UPDATE_REPO_STATUS_CHANGED = 16,
} FirnUpdateKind;

/* One entry of the operations log; fields apply as format section 4.4 says. */
typedef struct {
	uint8_t kind;        /* FirnUpdateKind, or a later one (kept as it is) */
	char *name;          /* branch or tag; NULL if none */
	FirnId12 previous;   /* previous_snap_id */
	FirnId12 snapshot;   /* new_snap_id */
	uint64_t updated_at; /* us */
	char *backup_path;   /* NULL: absent */
	gpointer raw;        /* private */
} FirnUpdateInfo;

#define FIRN_FLAG_MOVE_NODE  3
#define FIRN_FLAG_CREATE_TAG 4
#define FIRN_FLAG_DELETE_TAG 5

typedef struct {
	uint8_t spec_version;
	GPtrArray *tags;         /* FirnRefInfo, sorted by name bytes */
	GPtrArray *branches;     /* FirnRefInfo, sorted by name bytes */
	GPtrArray *deleted_tags; /* char *, sorted by bytes */
	GPtrArray *snapshots;    /* FirnSnapshotInfo, sorted by id */
	uint8_t availability;    /* 0 online, 1 read-only, 2 offline */
	uint64_t status_set_at;
	char *status_reason;       /* NULL: none */
	JsonObject *metadata;      /* may be NULL */
	GPtrArray *updates;        /* FirnUpdateInfo, newest first */
	char *repo_before_updates; /* NULL: absent */
	JsonNode *config;          /* NULL: absent */
	GArray *enabled_flags;     /* uint16_t ascending; NULL: absent */
	GArray *disabled_flags;    /* uint16_t ascending; NULL: absent */
	gpointer raw;              /* private: extra and unknown fields */
} FirnRepoInfo;

/* Errors: FORMAT, UNSUPPORTED, LIMIT.  Caller owns (firn_repo_info_free). */
FirnRepoInfo *firn_repo_info_decode(GBytes *file, GError **error) FIRN_MUST_USE;
/* A new repository: main at the initial snapshot, status online, RepoInitialized. */
FirnRepoInfo *firn_repo_info_new(uint64_t now_us, JsonNode *config);
/*
 * File bytes.  Sorts nothing: keep the model sorted (the helpers below do).
 * Errors: LIMIT, INVALID (a ref or a parent that is no listed snapshot).
 */
GBytes *firn_repo_info_encode(const FirnRepoInfo *info, int level, GError **error) FIRN_MUST_USE;
void firn_repo_info_free(FirnRepoInfo *info); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnRepoInfo, firn_repo_info_free)

/* Look-ups; NULL if absent.  Borrowed. */
FirnSnapshotInfo *firn_repo_info_find_snapshot(const FirnRepoInfo *info, const FirnId12 *id);
FirnRefInfo *firn_repo_info_find_branch(const FirnRepoInfo *info, const char *name);
FirnRefInfo *firn_repo_info_find_tag(const FirnRepoInfo *info, const char *name);
bool firn_repo_info_tag_was_deleted(const FirnRepoInfo *info, const char *name);
bool firn_repo_info_flag_enabled(const FirnRepoInfo *info, uint16_t flag);

/* Insert keeping the order; `metadata` is referenced, the rest copied.  False if it exists. */
bool firn_repo_info_add_snapshot(FirnRepoInfo *info, const FirnId12 *id, const FirnId12 *parent,
				 uint64_t flushed_at, const char *message, JsonObject *metadata)
	FIRN_MUST_USE;
bool firn_repo_info_add_branch(FirnRepoInfo *info, const char *name, const FirnId12 *snapshot)
	FIRN_MUST_USE;
bool firn_repo_info_add_tag(FirnRepoInfo *info, const char *name, const FirnId12 *snapshot)
	FIRN_MUST_USE;
/* False if there is none of that name. */
bool firn_repo_info_remove_branch(FirnRepoInfo *info, const char *name) FIRN_MUST_USE;
/* Also records the name among the deleted tags. */
bool firn_repo_info_remove_tag(FirnRepoInfo *info, const char *name) FIRN_MUST_USE;

/*
 * Prepend an operation, stamped max(now, newest + 1) us: give the entry that
 * was newest `backup_name` (the name, inside overwritten/, the current object is
 * copied to), spill beyond `max_length` (format section 4.3).  Strings are copied.
 * REPO_STATUS_CHANGED records the model's status, REPO_MIGRATED "from 1 to 2";
 * for FEATURE_FLAG_CHANGED use firn_repo_info_set_flag().
 */
void firn_repo_info_push_update(FirnRepoInfo *info, FirnUpdateKind kind, const char *name,
				const FirnId12 *previous, const FirnId12 *snapshot,
				const char *backup_name, uint64_t now_us, uint32_t max_length);

/*
 * Set a feature flag to `value`, or back to its default (`is_set` false), and
 * record it as push_update does.
 */
void firn_repo_info_set_flag(FirnRepoInfo *info, uint16_t flag, bool value, bool is_set,
			     const char *backup_name, uint64_t now_us, uint32_t max_length);

#endif
