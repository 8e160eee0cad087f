#include "core/format/repo_info.h"

#include "core/format/repo_private.h"

#include <string.h>

FirnRepoRaw *
firn_repo_raw_new(GBytes *payload, size_t table)
{
	FirnRepoRaw *raw = g_new0(FirnRepoRaw, 1);

	raw->payload = payload != NULL ? g_bytes_ref(payload) : NULL;
	raw->table = table;
	return raw;
}

void
firn_repo_raw_free(gpointer data)
{
	FirnRepoRaw *raw = data;

	if (raw == NULL)
		return;
	g_clear_pointer(&raw->payload, g_bytes_unref);
	g_clear_pointer(&raw->metadata, json_object_unref);
	g_free(raw->status.reason);
	g_free(raw);
}

void
firn_ref_info_free(gpointer data)
{
	FirnRefInfo *ref = data;

	g_free(ref->name);
	g_free(ref->damage);
	firn_repo_raw_free(ref->raw);
	g_free(ref);
}

void
firn_snapshot_info_free(gpointer data)
{
	FirnSnapshotInfo *snapshot = data;

	g_free(snapshot->message);
	g_clear_pointer(&snapshot->metadata, json_object_unref);
	g_clear_pointer(&snapshot->pruned, g_array_unref);
	firn_repo_raw_free(snapshot->raw);
	g_free(snapshot);
}

void
firn_update_info_free(gpointer data)
{
	FirnUpdateInfo *update = data;

	g_free(update->name);
	g_free(update->backup_path);
	firn_repo_raw_free(update->raw);
	g_free(update);
}

FirnRepoInfo *
firn_repo_info_alloc(void)
{
	FirnRepoInfo *info = g_new0(FirnRepoInfo, 1);

	info->spec_version = 2;
	info->tags = g_ptr_array_new_with_free_func(firn_ref_info_free);
	info->branches = g_ptr_array_new_with_free_func(firn_ref_info_free);
	info->deleted_tags = g_ptr_array_new_with_free_func(g_free);
	info->snapshots = g_ptr_array_new_with_free_func(firn_snapshot_info_free);
	info->updates = g_ptr_array_new_with_free_func(firn_update_info_free);
	return info;
}

void
firn_repo_info_free(FirnRepoInfo *info)
{
	if (info == NULL)
		return;
	g_ptr_array_unref(info->tags);
	g_ptr_array_unref(info->branches);
	g_ptr_array_unref(info->deleted_tags);
	g_ptr_array_unref(info->snapshots);
	g_ptr_array_unref(info->updates);
	g_free(info->status_reason);
	g_free(info->repo_before_updates);
	g_clear_pointer(&info->metadata, json_object_unref);
	g_clear_pointer(&info->config, json_node_unref);
	g_clear_pointer(&info->enabled_flags, g_array_unref);
	g_clear_pointer(&info->disabled_flags, g_array_unref);
	firn_repo_raw_free(info->raw);
	g_free(info);
}

FirnRepoInfo *
firn_repo_info_new(uint64_t now_us, JsonNode *config)
{
	FirnRepoInfo *info = firn_repo_info_alloc();
	g_autoptr(JsonObject) metadata = json_object_new();
	JsonObject *mark = json_object_new();
	bool added;

	json_object_set_boolean_member(mark, "is_root", TRUE);
	json_object_set_object_member(metadata, "__icechunk", mark);
	info->status_set_at = now_us;
	info->config = config != NULL ? json_node_ref(config) : NULL;
	added = firn_repo_info_add_snapshot(info, &firn_id_initial_snapshot, NULL, now_us,
					    "Repository initialized", metadata) &&
		firn_repo_info_add_branch(info, "main", &firn_id_initial_snapshot);
	g_assert(added);
	firn_repo_info_push_update(info, FIRN_UPDATE_REPO_INITIALIZED, NULL, NULL, NULL, NULL,
				   now_us, 1000);
	return info;
}

/* ---- look-ups ---- */

/* The first position whose item is not below `key`. */
static guint
lower_bound(const GPtrArray *list, int (*compare)(gconstpointer item, gconstpointer key),
	    gconstpointer key)
{
	guint from = 0;
	guint to = list->len;

	while (from < to) {
		guint middle = from + (to - from) / 2;

		if (compare(list->pdata[middle], key) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Where `key` is or belongs. */
static bool
find(const GPtrArray *list, int (*compare)(gconstpointer item, gconstpointer key),
     gconstpointer key, guint *out_index)
{
	*out_index = lower_bound(list, compare, key);
	return *out_index < list->len && compare(list->pdata[*out_index], key) == 0;
}

static int
compare_snapshot(gconstpointer item, gconstpointer key)
{
	return firn_id12_compare(&((const FirnSnapshotInfo *)item)->id, key);
}

static int
compare_ref(gconstpointer item, gconstpointer key)
{
	return strcmp(((const FirnRefInfo *)item)->name, key);
}

static int
compare_text(gconstpointer item, gconstpointer key)
{
	return strcmp(item, key);
}

FirnSnapshotInfo *
firn_repo_info_find_snapshot(const FirnRepoInfo *info, const FirnId12 *id)
{
	guint i;

	return find(info->snapshots, compare_snapshot, id, &i) ? info->snapshots->pdata[i] : NULL;
}

FirnRefInfo *
firn_repo_info_find_branch(const FirnRepoInfo *info, const char *name)
{
	guint i;

	return find(info->branches, compare_ref, name, &i) ? info->branches->pdata[i] : NULL;
}

FirnRefInfo *
firn_repo_info_find_tag(const FirnRepoInfo *info, const char *name)
{
	guint i;

	return find(info->tags, compare_ref, name, &i) ? info->tags->pdata[i] : NULL;
}

bool
firn_repo_info_tag_was_deleted(const FirnRepoInfo *info, const char *name)
{
	guint i;

	return find(info->deleted_tags, compare_text, name, &i);
}

static bool
has_flag(const GArray *flags, uint16_t flag)
{
	for (guint i = 0; flags != NULL && i < flags->len; i++)
		if (g_array_index(flags, uint16_t, i) == flag)
			return true;
	return false;
}

bool
firn_repo_info_flag_enabled(const FirnRepoInfo *info, uint16_t flag)
{
	return has_flag(info->enabled_flags, flag) || !has_flag(info->disabled_flags, flag);
}

/* ---- changes ---- */

bool
firn_repo_info_add_snapshot(FirnRepoInfo *info, const FirnId12 *id, const FirnId12 *parent,
			    uint64_t flushed_at, const char *message, JsonObject *metadata)
{
	FirnSnapshotInfo *snapshot;
	guint i;

	if (find(info->snapshots, compare_snapshot, id, &i))
		return false;
	snapshot = g_new0(FirnSnapshotInfo, 1);
	snapshot->id = *id;
	snapshot->has_parent = parent != NULL;
	if (parent != NULL)
		snapshot->parent = *parent;
	snapshot->flushed_at = flushed_at;
	snapshot->message = g_strdup(message);
	snapshot->metadata = metadata != NULL ? json_object_ref(metadata) : NULL;
	g_ptr_array_insert(info->snapshots, (gint)i, snapshot);
	return true;
}

static bool
add_ref(GPtrArray *list, const char *name, const FirnId12 *snapshot)
{
	FirnRefInfo *ref;
	guint i;

	if (find(list, compare_ref, name, &i))
		return false;
	ref = g_new0(FirnRefInfo, 1);
	ref->name = g_strdup(name);
	ref->snapshot = *snapshot;
	g_ptr_array_insert(list, (gint)i, ref);
	return true;
}

bool
firn_repo_info_add_branch(FirnRepoInfo *info, const char *name, const FirnId12 *snapshot)
{
	return add_ref(info->branches, name, snapshot);
}

bool
firn_repo_info_add_tag(FirnRepoInfo *info, const char *name, const FirnId12 *snapshot)
{
	return add_ref(info->tags, name, snapshot);
}

bool
firn_repo_info_remove_branch(FirnRepoInfo *info, const char *name)
{
	guint i;

	if (!find(info->branches, compare_ref, name, &i))
		return false;
	g_ptr_array_remove_index(info->branches, i);
	return true;
}

bool
firn_repo_info_remove_tag(FirnRepoInfo *info, const char *name)
{
	guint i;
	guint k;

	if (!find(info->tags, compare_ref, name, &i))
		return false;
	/* Before the tag goes: the name may be the tag's own. */
	if (!find(info->deleted_tags, compare_text, name, &k))
		g_ptr_array_insert(info->deleted_tags, (gint)k, g_strdup(name));
	g_ptr_array_remove_index(info->tags, i);
	return true;
}

/* Drop what is beyond `max_length`, from an entry on that says where it can be read. */
static void
spill(FirnRepoInfo *info, uint32_t max_length)
{
	for (guint i = MAX(max_length, 1u); i < info->updates->len; i++) {
		FirnUpdateInfo *first = info->updates->pdata[i];

		if (first->backup_path == NULL)
			continue;
		g_free(info->repo_before_updates);
		info->repo_before_updates = g_strdup(first->backup_path);
		g_ptr_array_set_size(info->updates, (gint)i);
		return;
	}
}

/* What some kinds record besides: the status is a copy of what it was changed to. */
static FirnRepoRaw *
extras_of(const FirnRepoInfo *info, FirnUpdateKind kind)
{
	FirnRepoRaw *raw;

	if (kind != FIRN_UPDATE_REPO_STATUS_CHANGED && kind != FIRN_UPDATE_REPO_MIGRATED &&
	    kind != FIRN_UPDATE_FEATURE_FLAG_CHANGED)
		return NULL;
	raw = firn_repo_raw_new(NULL, 0);
	raw->from_version = 1;
	raw->to_version = 2;
	raw->status.availability = info->availability;
	raw->status.set_at = info->status_set_at;
	raw->status.reason = g_strdup(info->status_reason);
	return raw;
}

void
firn_repo_info_push_update(FirnRepoInfo *info, FirnUpdateKind kind, const char *name,
			   const FirnId12 *previous, const FirnId12 *snapshot,
			   const char *backup_name, uint64_t now_us, uint32_t max_length)
{
	FirnUpdateInfo *newest = info->updates->len > 0 ? info->updates->pdata[0] : NULL;
	FirnUpdateInfo *update = g_new0(FirnUpdateInfo, 1);

	update->kind = (uint8_t)kind;
	update->name = g_strdup(name);
	if (previous != NULL)
		update->previous = *previous;
	if (snapshot != NULL)
		update->snapshot = *snapshot;
	update->updated_at = now_us;
	update->raw = extras_of(info, kind);
	if (newest != NULL)
		update->updated_at = MAX(now_us, newest->updated_at + 1);
	if (newest != NULL && backup_name != NULL) {
		g_free(newest->backup_path);
		newest->backup_path = g_strdup(backup_name);
	}
	g_ptr_array_insert(info->updates, 0, update);
	spill(info, max_length);
}

/* Ascending, without doubles. */
static void
list_flag(GArray **flags, uint16_t flag, bool wanted)
{
	guint at = 0;

	if (*flags == NULL && wanted)
		*flags = g_array_new(FALSE, FALSE, sizeof(uint16_t));
	while (*flags != NULL && at < (*flags)->len && g_array_index(*flags, uint16_t, at) < flag)
		at++;
	if (has_flag(*flags, flag) == wanted)
		return;
	if (wanted)
		g_array_insert_val(*flags, at, flag);
	else
		g_array_remove_index(*flags, at);
}

void
firn_repo_info_set_flag(FirnRepoInfo *info, uint16_t flag, bool value, bool is_set,
			const char *backup_name, uint64_t now_us, uint32_t max_length)
{
	FirnUpdateInfo *update;
	FirnRepoRaw *raw;

	list_flag(&info->enabled_flags, flag, is_set && value);
	list_flag(&info->disabled_flags, flag, is_set && !value);
	firn_repo_info_push_update(info, FIRN_UPDATE_FEATURE_FLAG_CHANGED, NULL, NULL, NULL,
				   backup_name, now_us, max_length);
	update = info->updates->pdata[0];
	raw = update->raw;
	raw->flag = flag;
	raw->flag_value = value;
	raw->flag_is_set = is_set;
}
