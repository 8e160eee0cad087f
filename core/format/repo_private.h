#ifndef FIRN_CORE_FORMAT_REPO_PRIVATE_H
#define FIRN_CORE_FORMAT_REPO_PRIVATE_H

#include "core/flat/verify.h"
#include "core/format/repo_info.h"

/*
 * Shared by the parts of the repo info: field ids (format section 3.7), and
 * what the model's `raw` members point to.
 */
enum {
	FIRN_REPO_SPEC_VERSION,
	FIRN_REPO_TAGS,
	FIRN_REPO_BRANCHES,
	FIRN_REPO_DELETED_TAGS,
	FIRN_REPO_SNAPSHOTS,
	FIRN_REPO_STATUS,
	FIRN_REPO_METADATA,
	FIRN_REPO_UPDATES,
	FIRN_REPO_BEFORE_UPDATES,
	FIRN_REPO_CONFIG,
	FIRN_REPO_ENABLED_FLAGS,
	FIRN_REPO_DISABLED_FLAGS,
	FIRN_REPO_EXTRA,
	FIRN_REPO_N_FIELDS,
};

enum {
	FIRN_REF_NAME,
	FIRN_REF_SNAPSHOT,
	FIRN_REF_N_FIELDS,
};

enum {
	FIRN_INFO_ID,
	FIRN_INFO_PARENT,
	FIRN_INFO_FLUSHED_AT,
	FIRN_INFO_MESSAGE,
	FIRN_INFO_METADATA,
	FIRN_INFO_PRUNED,
	FIRN_INFO_N_FIELDS,
};

enum {
	FIRN_STATUS_AVAILABILITY,
	FIRN_STATUS_SET_AT,
	FIRN_STATUS_REASON,
	FIRN_STATUS_N_FIELDS,
};

enum {
	FIRN_UPDATE_KIND,
	FIRN_UPDATE_VALUE,
	FIRN_UPDATE_AT,
	FIRN_UPDATE_BACKUP,
	FIRN_UPDATE_N_FIELDS,
};

enum {
	FIRN_ITEM_NAME,
	FIRN_ITEM_VALUE,
	FIRN_ITEM_N_FIELDS,
};

/* Which of the model's members a variant of Update has, by field id; -1: not. */
typedef struct {
	int8_t name;
	int8_t previous;
	int8_t snapshot;
	uint8_t n_fields;
} FirnUpdateLayout;

/* NULL for a kind of a later version. */
const FirnUpdateLayout *firn_update_layout(uint8_t kind);

extern const FirnFlatTable firn_repo_table;

typedef struct {
	uint8_t availability;
	uint64_t set_at;
	char *reason;
} FirnStatus;

/* A table the model was decoded from. */
typedef struct {
	GBytes *payload; /* reference; NULL: the update was made here */
	size_t table;
	JsonObject *metadata; /* snapshots: what `metadata` was, so that its bytes can be reused */
	/* What else the variants of an update hold: */
	uint8_t from_version;
	uint8_t to_version;
	uint16_t flag;
	bool flag_value;
	bool flag_is_set;
	FirnStatus status;
} FirnRepoRaw;

FirnRepoRaw *firn_repo_raw_new(GBytes *payload, size_t table);
void firn_repo_raw_free(gpointer data); /* NULL is a no-op */

/* Empty, with its lists. */
FirnRepoInfo *firn_repo_info_alloc(void);
void firn_ref_info_free(gpointer data);
void firn_snapshot_info_free(gpointer data);
void firn_update_info_free(gpointer data);

#endif
