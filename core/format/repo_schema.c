#include "core/format/repo_private.h"

static const FirnFlatField item_fields[] = {
	[FIRN_ITEM_NAME] = FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	[FIRN_ITEM_VALUE] = FIRN_FLAT_VECTOR_FIELD("value", 1, 1, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable item_table = FIRN_FLAT_TABLE("MetadataItem", item_fields);

static const FirnFlatField ref_fields[] = {
	[FIRN_REF_NAME] = FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	[FIRN_REF_SNAPSHOT] = FIRN_FLAT_SCALAR_FIELD("snapshot_index", 4, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable ref_table = FIRN_FLAT_TABLE("Ref", ref_fields);

static const FirnFlatField info_fields[] = {
	[FIRN_INFO_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_INFO_PARENT] = FIRN_FLAT_SCALAR_FIELD("parent_offset", 4, FIRN_FLAT_OPTIONAL),
	[FIRN_INFO_FLUSHED_AT] = FIRN_FLAT_SCALAR_FIELD("flushed_at", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_INFO_MESSAGE] = FIRN_FLAT_STRING_FIELD("message", FIRN_FLAT_REQUIRED),
	[FIRN_INFO_METADATA] = FIRN_FLAT_TABLES_FIELD("metadata", &item_table, FIRN_FLAT_OPTIONAL),
	[FIRN_INFO_PRUNED] =
		FIRN_FLAT_VECTOR_FIELD("pruned_ancestor_tx_logs", 12, 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable info_table = FIRN_FLAT_TABLE("SnapshotInfo", info_fields);

static const FirnFlatField status_fields[] = {
	[FIRN_STATUS_AVAILABILITY] = FIRN_FLAT_SCALAR_FIELD("availability", 1, FIRN_FLAT_OPTIONAL),
	[FIRN_STATUS_SET_AT] = FIRN_FLAT_SCALAR_FIELD("set_at", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_STATUS_REASON] =
		FIRN_FLAT_STRING_FIELD("limited_availability_reason", FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable status_table = FIRN_FLAT_TABLE("RepoStatus", status_fields);

/* ---- variants of an update ---- */

static const FirnFlatTable empty_update = FIRN_FLAT_EMPTY_TABLE("Update variant");

static const FirnFlatField migrated_fields[] = {
	FIRN_FLAT_SCALAR_FIELD("from_version", 1, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("to_version", 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable migrated_update = FIRN_FLAT_TABLE("RepoMigratedUpdate", migrated_fields);

static const FirnFlatField named_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable named_update = FIRN_FLAT_TABLE("Update of a ref", named_fields);

static const FirnFlatField moved_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	FIRN_FLAT_STRUCT_FIELD("snapshot id", 12, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable moved_update = FIRN_FLAT_TABLE("Update of a ref", moved_fields);

static const FirnFlatField amended_fields[] = {
	FIRN_FLAT_STRING_FIELD("branch", FIRN_FLAT_REQUIRED),
	FIRN_FLAT_STRUCT_FIELD("previous_snap_id", 12, FIRN_FLAT_REQUIRED),
	FIRN_FLAT_STRUCT_FIELD("new_snap_id", 12, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable amended_update = FIRN_FLAT_TABLE("CommitAmendedUpdate", amended_fields);

static const FirnFlatField detached_fields[] = {
	FIRN_FLAT_STRUCT_FIELD("new_snap_id", 12, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable detached_update =
	FIRN_FLAT_TABLE("NewDetachedSnapshotUpdate", detached_fields);

static const FirnFlatField flag_fields[] = {
	FIRN_FLAT_SCALAR_FIELD("id", 2, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("new_value", 1, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("is_set", 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable flag_update = FIRN_FLAT_TABLE("FeatureFlagChangedUpdate", flag_fields);

static const FirnFlatField status_changed_fields[] = {
	FIRN_FLAT_CHILD_FIELD("status", &status_table, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable status_update =
	FIRN_FLAT_TABLE("RepoStatusChangedUpdate", status_changed_fields);

static const FirnFlatTable *const update_variants[] = {
	[FIRN_UPDATE_REPO_INITIALIZED - 1] = &empty_update,
	[FIRN_UPDATE_REPO_MIGRATED - 1] = &migrated_update,
	[FIRN_UPDATE_CONFIG_CHANGED - 1] = &empty_update,
	[FIRN_UPDATE_METADATA_CHANGED - 1] = &empty_update,
	[FIRN_UPDATE_TAG_CREATED - 1] = &named_update,
	[FIRN_UPDATE_TAG_DELETED - 1] = &moved_update,
	[FIRN_UPDATE_BRANCH_CREATED - 1] = &named_update,
	[FIRN_UPDATE_BRANCH_DELETED - 1] = &moved_update,
	[FIRN_UPDATE_BRANCH_RESET - 1] = &moved_update,
	[FIRN_UPDATE_NEW_COMMIT - 1] = &moved_update,
	[FIRN_UPDATE_COMMIT_AMENDED - 1] = &amended_update,
	[FIRN_UPDATE_NEW_DETACHED_SNAPSHOT - 1] = &detached_update,
	[FIRN_UPDATE_GC_RAN - 1] = &empty_update,
	[FIRN_UPDATE_EXPIRATION_RAN - 1] = &empty_update,
	[FIRN_UPDATE_FEATURE_FLAG_CHANGED - 1] = &flag_update,
	[FIRN_UPDATE_REPO_STATUS_CHANGED - 1] = &status_update,
};

static const FirnUpdateLayout update_layouts[] = {
	[FIRN_UPDATE_REPO_INITIALIZED - 1] = { -1, -1, -1, 0 },
	[FIRN_UPDATE_REPO_MIGRATED - 1] = { -1, -1, -1, 2 },
	[FIRN_UPDATE_CONFIG_CHANGED - 1] = { -1, -1, -1, 0 },
	[FIRN_UPDATE_METADATA_CHANGED - 1] = { -1, -1, -1, 0 },
	[FIRN_UPDATE_TAG_CREATED - 1] = { 0, -1, -1, 1 },
	[FIRN_UPDATE_TAG_DELETED - 1] = { 0, 1, -1, 2 },
	[FIRN_UPDATE_BRANCH_CREATED - 1] = { 0, -1, -1, 1 },
	[FIRN_UPDATE_BRANCH_DELETED - 1] = { 0, 1, -1, 2 },
	[FIRN_UPDATE_BRANCH_RESET - 1] = { 0, 1, -1, 2 },
	[FIRN_UPDATE_NEW_COMMIT - 1] = { 0, -1, 1, 2 },
	[FIRN_UPDATE_COMMIT_AMENDED - 1] = { 0, 1, 2, 3 },
	[FIRN_UPDATE_NEW_DETACHED_SNAPSHOT - 1] = { -1, -1, 0, 1 },
	[FIRN_UPDATE_GC_RAN - 1] = { -1, -1, -1, 0 },
	[FIRN_UPDATE_EXPIRATION_RAN - 1] = { -1, -1, -1, 0 },
	[FIRN_UPDATE_FEATURE_FLAG_CHANGED - 1] = { -1, -1, -1, 3 },
	[FIRN_UPDATE_REPO_STATUS_CHANGED - 1] = { -1, -1, -1, 1 },
};

const FirnUpdateLayout *
firn_update_layout(uint8_t kind)
{
	if (kind == 0 || kind > G_N_ELEMENTS(update_layouts))
		return NULL;
	return &update_layouts[kind - 1];
}

static const FirnFlatField update_fields[] = {
	[FIRN_UPDATE_KIND] =
		FIRN_FLAT_UNION_FIELD("update_type", update_variants, FIRN_FLAT_REQUIRED),
	[FIRN_UPDATE_VALUE] = FIRN_FLAT_SKIP_FIELD,
	[FIRN_UPDATE_AT] = FIRN_FLAT_SCALAR_FIELD("updated_at", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_UPDATE_BACKUP] = FIRN_FLAT_STRING_FIELD("backup_path", FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable update_table = FIRN_FLAT_TABLE("Update", update_fields);

static const FirnFlatField repo_fields[] = {
	[FIRN_REPO_SPEC_VERSION] = FIRN_FLAT_SCALAR_FIELD("spec_version", 1, FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_TAGS] = FIRN_FLAT_TABLES_FIELD("tags", &ref_table, FIRN_FLAT_REQUIRED),
	[FIRN_REPO_BRANCHES] = FIRN_FLAT_TABLES_FIELD("branches", &ref_table, FIRN_FLAT_REQUIRED),
	[FIRN_REPO_DELETED_TAGS] = FIRN_FLAT_STRINGS_FIELD("deleted_tags", FIRN_FLAT_REQUIRED),
	[FIRN_REPO_SNAPSHOTS] =
		FIRN_FLAT_TABLES_FIELD("snapshots", &info_table, FIRN_FLAT_REQUIRED),
	[FIRN_REPO_STATUS] = FIRN_FLAT_CHILD_FIELD("status", &status_table, FIRN_FLAT_REQUIRED),
	[FIRN_REPO_METADATA] = FIRN_FLAT_TABLES_FIELD("metadata", &item_table, FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_UPDATES] =
		FIRN_FLAT_TABLES_FIELD("latest_updates", &update_table, FIRN_FLAT_REQUIRED),
	[FIRN_REPO_BEFORE_UPDATES] =
		FIRN_FLAT_STRING_FIELD("repo_before_updates", FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_CONFIG] = FIRN_FLAT_VECTOR_FIELD("config", 1, 1, FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_ENABLED_FLAGS] =
		FIRN_FLAT_VECTOR_FIELD("enabled_feature_flags", 2, 2, FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_DISABLED_FLAGS] =
		FIRN_FLAT_VECTOR_FIELD("disabled_feature_flags", 2, 2, FIRN_FLAT_OPTIONAL),
	[FIRN_REPO_EXTRA] = FIRN_FLAT_VECTOR_FIELD("extra", 1, 1, FIRN_FLAT_OPTIONAL),
};
const FirnFlatTable firn_repo_table = FIRN_FLAT_TABLE("Repo", repo_fields);
