#include "core/format/repo_private.h"

#include "core/base/error.h"
#include "core/flat/flex.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"

#include <string.h>

#define MAX_PAYLOAD (1u << 30) /* bytes; a snapshot takes about a hundred */

struct decode {
	GBytes *payload;
	FirnSpan b;
	size_t root;
	FirnRepoInfo *info;
	GError **error;
};

static bool broken(struct decode *d, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool
broken(struct decode *d, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(d->error, FIRN_ERROR, FIRN_ERROR_FORMAT, "repo info: %s", text);
	return false;
}

/* A copy of a string field, NULL if absent. */
static char *
text_at(struct decode *d, size_t table, unsigned id)
{
	FirnSpan text = firn_flat_get_bytes(d->b, table, id);

	return text.data != NULL ? g_strndup((const char *)text.data, text.len) : NULL;
}

/* Times have 63 bits: others use them signed. */
static bool
time_at(struct decode *d, size_t table, unsigned id, uint64_t *out)
{
	*out = firn_flat_get_u64(d->b, table, id, 0);
	return *out <= INT64_MAX || broken(d, "a time beyond the year 290000");
}

/* NULL in `*out` for an absent or empty list. */
static bool
read_metadata(struct decode *d, size_t vector, JsonObject **out)
{
	uint32_t n = firn_flat_count(d->b, vector);
	g_autoptr(JsonObject) object = NULL;

	if (n == 0)
		return true;
	object = json_object_new();
	for (uint32_t i = 0; i < n; i++) {
		size_t item = firn_flat_item(d->b, vector, i);
		g_autofree char *name = text_at(d, item, FIRN_ITEM_NAME);
		JsonNode *value =
			firn_flex_read(firn_flat_get_bytes(d->b, item, FIRN_ITEM_VALUE), d->error);

		if (value == NULL) {
			g_prefix_error(d->error, "repo info: metadata \"%s\": ", name);
			return false;
		}
		json_object_set_member(object, name, value);
	}
	*out = g_steal_pointer(&object);
	return true;
}

/* ---- snapshots ---- */

static bool
read_snapshot(struct decode *d, size_t table)
{
	FirnSnapshotInfo *snapshot = g_new0(FirnSnapshotInfo, 1);
	FirnRepoRaw *raw = firn_repo_raw_new(d->payload, table);
	size_t pruned = firn_flat_get_child(d->b, table, FIRN_INFO_PRUNED);
	uint32_t n_pruned = firn_flat_count(d->b, pruned);

	g_ptr_array_add(d->info->snapshots, snapshot);
	snapshot->raw = raw;
	snapshot->id = *firn_flat_get_id12(d->b, table, FIRN_INFO_ID);
	snapshot->message = text_at(d, table, FIRN_INFO_MESSAGE);
	if (!time_at(d, table, FIRN_INFO_FLUSHED_AT, &snapshot->flushed_at))
		return false;
	if (n_pruned > 0) {
		snapshot->pruned = g_array_sized_new(FALSE, FALSE, sizeof(FirnId12), n_pruned);
		g_array_append_vals(snapshot->pruned, firn_flat_items(d->b, pruned), n_pruned);
	}
	if (!read_metadata(d, firn_flat_get_child(d->b, table, FIRN_INFO_METADATA),
			   &snapshot->metadata))
		return false;
	if (snapshot->metadata != NULL)
		raw->metadata = json_object_ref(snapshot->metadata);
	return true;
}

/* The parent of every snapshot, by position; no snapshot is its own ancestor. */
static bool
resolve_parents(struct decode *d, size_t vector)
{
	uint32_t n = firn_flat_count(d->b, vector);
	/* By position: 0 not looked at, else the number of the walk that came by. */
	g_autofree uint32_t *walked = g_try_new0(uint32_t, n + 1);

	if (walked == NULL)
		return broken(d, "no memory for %u snapshots", n);
	for (uint32_t i = 0; i < n; i++) {
		int32_t parent = firn_flat_get_i32(d->b, firn_flat_item(d->b, vector, i),
						   FIRN_INFO_PARENT, 0);
		FirnSnapshotInfo *snapshot = g_ptr_array_index(d->info->snapshots, i);

		if (parent < -1 || parent >= (int64_t)n)
			return broken(d, "a snapshot's parent is number %d of %u", parent, n);
		snapshot->has_parent = parent >= 0;
		if (parent >= 0)
			snapshot->parent =
				((FirnSnapshotInfo *)g_ptr_array_index(d->info->snapshots, parent))
					->id;
	}
	for (uint32_t i = 0; i < n; i++) {
		int32_t at = (int32_t)i;

		while (at >= 0 && walked[at] == 0) {
			walked[at] = i + 1;
			at = firn_flat_get_i32(d->b, firn_flat_item(d->b, vector, (uint32_t)at),
					       FIRN_INFO_PARENT, 0);
		}
		if (at >= 0 && walked[at] == i + 1)
			return broken(d, "a snapshot is its own ancestor");
	}
	return true;
}

static gint
compare_snapshots(gconstpointer a, gconstpointer b)
{
	const FirnSnapshotInfo *const *x = a;
	const FirnSnapshotInfo *const *y = b;

	return firn_id12_compare(&(*x)->id, &(*y)->id);
}

static gint
compare_refs(gconstpointer a, gconstpointer b)
{
	const FirnRefInfo *const *x = a;
	const FirnRefInfo *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
	const char *const *x = a;
	const char *const *y = b;

	return strcmp(*x, *y);
}

/* Everything is searched by halves, so an order that is wrong is put right. */
static bool
put_in_order(struct decode *d, GPtrArray *list, GCompareFunc compare, const char *what)
{
	bool sorted = true;

	for (guint i = 1; i < list->len && sorted; i++)
		sorted = compare(&list->pdata[i - 1], &list->pdata[i]) < 0;
	if (sorted)
		return true;
	g_ptr_array_sort(list, compare);
	for (guint i = 1; i < list->len; i++)
		if (compare(&list->pdata[i - 1], &list->pdata[i]) == 0)
			return broken(d, "two %s have one name", what);
	return true;
}

static bool
read_snapshots(struct decode *d)
{
	size_t vector = firn_flat_get_child(d->b, d->root, FIRN_REPO_SNAPSHOTS);
	uint32_t n = firn_flat_count(d->b, vector);

	for (uint32_t i = 0; i < n; i++)
		if (!read_snapshot(d, firn_flat_item(d->b, vector, i)))
			return false;
	return resolve_parents(d, vector);
}

/* ---- refs ---- */

/* Snapshots are still in the order of the file: refs name them by position. */
static bool
read_refs(struct decode *d, unsigned id, GPtrArray *out)
{
	size_t vector = firn_flat_get_child(d->b, d->root, id);
	uint32_t n = firn_flat_count(d->b, vector);

	for (uint32_t i = 0; i < n; i++) {
		size_t table = firn_flat_item(d->b, vector, i);
		uint32_t index = firn_flat_get_u32(d->b, table, FIRN_REF_SNAPSHOT, 0);
		FirnRefInfo *ref = g_new0(FirnRefInfo, 1);

		g_ptr_array_add(out, ref);
		ref->name = text_at(d, table, FIRN_REF_NAME);
		ref->raw = firn_repo_raw_new(d->payload, table);
		if (index >= d->info->snapshots->len)
			return broken(d, "\"%s\" refers to snapshot number %u of %u", ref->name,
				      index, d->info->snapshots->len);
		ref->snapshot =
			((FirnSnapshotInfo *)g_ptr_array_index(d->info->snapshots, index))->id;
	}
	return put_in_order(d, out, compare_refs, "branches or tags");
}

static bool
read_deleted_tags(struct decode *d)
{
	size_t vector = firn_flat_get_child(d->b, d->root, FIRN_REPO_DELETED_TAGS);
	uint32_t n = firn_flat_count(d->b, vector);

	for (uint32_t i = 0; i < n; i++) {
		FirnSpan name = firn_flat_bytes(d->b, firn_flat_item(d->b, vector, i));

		g_ptr_array_add(d->info->deleted_tags,
				g_strndup((const char *)name.data, name.len));
	}
	return put_in_order(d, d->info->deleted_tags, compare_texts, "deleted tags");
}

/* ---- updates ---- */

static bool
read_status(struct decode *d, size_t table, FirnStatus *out)
{
	out->availability = firn_flat_get_u8(d->b, table, FIRN_STATUS_AVAILABILITY, 0);
	out->reason = text_at(d, table, FIRN_STATUS_REASON);
	return time_at(d, table, FIRN_STATUS_SET_AT, &out->set_at);
}

/* What the variant holds beyond the model's members. */
static bool
read_variant(struct decode *d, size_t value, uint8_t kind, FirnRepoRaw *raw)
{
	size_t status;

	switch ((FirnUpdateKind)kind) {
	case FIRN_UPDATE_REPO_MIGRATED:
		raw->from_version = firn_flat_get_u8(d->b, value, 0, 0);
		raw->to_version = firn_flat_get_u8(d->b, value, 1, 0);
		return true;
	case FIRN_UPDATE_FEATURE_FLAG_CHANGED:
		raw->flag = firn_flat_get_u16(d->b, value, 0, 0);
		raw->flag_value = firn_flat_get_u8(d->b, value, 1, 0) != 0;
		raw->flag_is_set = firn_flat_get_u8(d->b, value, 2, 0) != 0;
		return true;
	case FIRN_UPDATE_REPO_STATUS_CHANGED:
		status = firn_flat_get_child(d->b, value, 0);
		return status == 0 || read_status(d, status, &raw->status);
	case FIRN_UPDATE_REPO_INITIALIZED:
	case FIRN_UPDATE_CONFIG_CHANGED:
	case FIRN_UPDATE_METADATA_CHANGED:
	case FIRN_UPDATE_TAG_CREATED:
	case FIRN_UPDATE_TAG_DELETED:
	case FIRN_UPDATE_BRANCH_CREATED:
	case FIRN_UPDATE_BRANCH_DELETED:
	case FIRN_UPDATE_BRANCH_RESET:
	case FIRN_UPDATE_NEW_COMMIT:
	case FIRN_UPDATE_COMMIT_AMENDED:
	case FIRN_UPDATE_NEW_DETACHED_SNAPSHOT:
	case FIRN_UPDATE_GC_RAN:
	case FIRN_UPDATE_EXPIRATION_RAN:
	default:
		return true;
	}
}

static bool
read_update(struct decode *d, size_t table)
{
	FirnUpdateInfo *update = g_new0(FirnUpdateInfo, 1);
	FirnRepoRaw *raw = firn_repo_raw_new(d->payload, table);
	size_t value = firn_flat_get_child(d->b, table, FIRN_UPDATE_VALUE);
	const FirnUpdateLayout *layout;

	g_ptr_array_add(d->info->updates, update);
	update->raw = raw;
	update->kind = firn_flat_get_u8(d->b, table, FIRN_UPDATE_KIND, 0);
	update->backup_path = text_at(d, table, FIRN_UPDATE_BACKUP);
	if (!time_at(d, table, FIRN_UPDATE_AT, &update->updated_at))
		return false;
	if (update->kind == 0)
		return broken(d, "an entry of the operations log has no kind");
	layout = firn_update_layout(update->kind);
	if (layout == NULL)
		return true;
	if (layout->name >= 0)
		update->name = text_at(d, value, (unsigned)layout->name);
	if (layout->previous >= 0)
		update->previous = *firn_flat_get_id12(d->b, value, (unsigned)layout->previous);
	if (layout->snapshot >= 0)
		update->snapshot = *firn_flat_get_id12(d->b, value, (unsigned)layout->snapshot);
	return read_variant(d, value, update->kind, raw);
}

static bool
read_updates(struct decode *d)
{
	size_t vector = firn_flat_get_child(d->b, d->root, FIRN_REPO_UPDATES);
	uint32_t n = firn_flat_count(d->b, vector);

	for (uint32_t i = 0; i < n; i++)
		if (!read_update(d, firn_flat_item(d->b, vector, i)))
			return false;
	d->info->repo_before_updates = text_at(d, d->root, FIRN_REPO_BEFORE_UPDATES);
	return true;
}

/* ---- the rest ---- */

static GArray *
read_flags(struct decode *d, unsigned id)
{
	size_t vector = firn_flat_get_child(d->b, d->root, id);
	uint32_t n = firn_flat_count(d->b, vector);
	GArray *flags;

	if (vector == 0)
		return NULL;
	flags = g_array_sized_new(FALSE, FALSE, sizeof(uint16_t), n);
	g_array_append_vals(flags, firn_flat_items(d->b, vector), n);
	return flags;
}

static bool
read_config(struct decode *d)
{
	FirnSpan bytes = firn_flat_get_bytes(d->b, d->root, FIRN_REPO_CONFIG);

	if (bytes.data == NULL)
		return true;
	d->info->config = firn_flex_read(bytes, d->error);
	if (d->info->config == NULL)
		g_prefix_error(d->error, "repo info: config: ");
	return d->info->config != NULL;
}

static bool
read_version(struct decode *d)
{
	uint8_t version = firn_flat_get_u8(d->b, d->root, FIRN_REPO_SPEC_VERSION, 0);

	if (version < 2)
		return broken(d, "format version %u where 2 is the least", version);
	if (version > 2) {
		g_set_error(
			d->error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			"the repository has format version %u; this firn reads 1 and 2: upgrade it",
			version);
		return false;
	}
	d->info->spec_version = version;
	return true;
}

static bool
read_all(struct decode *d)
{
	FirnRepoInfo *info = d->info;
	FirnStatus status = { 0 };
	bool ok = read_version(d) && read_snapshots(d) &&
		  read_refs(d, FIRN_REPO_TAGS, info->tags) &&
		  read_refs(d, FIRN_REPO_BRANCHES, info->branches) && read_deleted_tags(d) &&
		  put_in_order(d, info->snapshots, compare_snapshots, "snapshots") &&
		  read_updates(d) && read_config(d) &&
		  read_metadata(d, firn_flat_get_child(d->b, d->root, FIRN_REPO_METADATA),
				&info->metadata) &&
		  read_status(d, firn_flat_get_child(d->b, d->root, FIRN_REPO_STATUS), &status);

	info->availability = status.availability;
	info->status_set_at = status.set_at;
	info->status_reason = status.reason;
	info->enabled_flags = read_flags(d, FIRN_REPO_ENABLED_FLAGS);
	info->disabled_flags = read_flags(d, FIRN_REPO_DISABLED_FLAGS);
	return ok;
}

FirnRepoInfo *
firn_repo_info_decode(GBytes *file, GError **error)
{
	static const FirnFlatLimits limits = {
		.max_depth = 10,
		.max_tables = 50000000,
		.max_bytes = UINT64_C(1) << 32,
	};
	FirnEnvelope envelope;
	g_autoptr(GBytes) payload = firn_envelope_open(file, MAX_PAYLOAD, &envelope, error);
	g_autoptr(FirnRepoInfo) info = NULL;
	struct decode d = { .payload = payload, .error = error };

	if (payload == NULL)
		return NULL;
	d.b.data = g_bytes_get_data(payload, &d.b.len);
	if (envelope.kind != FIRN_KIND_REPO_INFO || envelope.spec_version < 2) {
		broken(&d, "the file has another kind or version (%d, %u)", (int)envelope.kind,
		       envelope.spec_version);
		return NULL;
	}
	if (!firn_flat_verify(d.b, &firn_repo_table, &limits, error)) {
		g_prefix_error(error, "repo info: ");
		return NULL;
	}
	d.root = firn_flat_root(d.b);
	info = firn_repo_info_alloc();
	info->raw = firn_repo_raw_new(payload, d.root);
	d.info = info;
	return read_all(&d) ? g_steal_pointer(&info) : NULL;
}
