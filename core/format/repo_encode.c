#include "core/format/repo_private.h"

#include "core/base/error.h"
#include "core/flat/flex.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"
#include "core/format/unknown.h"

#include <string.h>

#define UNKNOWN_SPARE (1u << 20)

struct encode {
	FirnFlatBuilder *builder;
	const FirnRepoInfo *info;
	FirnUnknown unknown;
	GError *error; /* the first */
};

/* The table a record was decoded from; `table` 0: none. */
struct origin {
	FirnSpan b;
	size_t table;
};

/* A table under construction. */
struct table {
	size_t at;
	FirnSpan b;
	FirnUnknownChildren children;
};

static const struct origin no_origin;

static struct origin
origin_of(const FirnRepoRaw *raw)
{
	struct origin origin = { 0 };

	if (raw != NULL && raw->payload != NULL) {
		origin.b.data = g_bytes_get_data(raw->payload, &origin.b.len);
		origin.table = raw->table;
	}
	return origin;
}

/* The table that field `id` refers to. */
static struct origin
child_of(struct origin origin, unsigned id)
{
	if (origin.table != 0)
		origin.table = firn_flat_get_child(origin.b, origin.table, id);
	return origin;
}

static FirnSpan
bytes_of(struct origin origin, unsigned id)
{
	return origin.table != 0 ? firn_flat_get_bytes(origin.b, origin.table, id)
				 : (FirnSpan){ NULL, 0 };
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static void
begin_table(struct encode *e, FirnFlatRow *row, struct origin origin, unsigned n_known,
	    struct table *out)
{
	out->b = origin.b;
	out->children.n = 0;
	if (origin.table != 0)
		firn_unknown_add(&e->unknown, origin.b, origin.table, n_known, row, &out->children);
	out->at = firn_flat_build_table(e->builder, row);
}

static size_t
end_table(struct encode *e, const struct table *table)
{
	if (table->children.n > 0)
		firn_unknown_append(&e->unknown, e->builder, table->at, table->b, &table->children);
	return table->at;
}

/* A text of the model; with what a C string cannot show of the one it was read from. */
static void
put_text(struct encode *e, size_t table, unsigned id, const char *text, FirnSpan before)
{
	size_t len = strlen(text);
	FirnSpan span = { (const uint8_t *)text, len };

	if (before.data != NULL && before.len > len && memcmp(before.data, text, len) == 0 &&
	    before.data[len] == 0)
		span = before;
	firn_flat_link(e->builder, table, id, firn_flat_build_string(e->builder, span));
}

/* ---- metadata ---- */

static size_t
put_item(struct encode *e, FirnSpan name, FirnSpan value, struct origin origin)
{
	FirnFlatRow row = { 0 };
	struct table table;

	firn_flat_row_child(&row, FIRN_ITEM_NAME);
	firn_flat_row_child(&row, FIRN_ITEM_VALUE);
	begin_table(e, &row, origin, FIRN_ITEM_N_FIELDS, &table);
	firn_flat_link(e->builder, table.at, FIRN_ITEM_NAME,
		       firn_flat_build_string(e->builder, name));
	firn_flat_link(e->builder, table.at, FIRN_ITEM_VALUE,
		       firn_flat_build_bytes(e->builder, value));
	return end_table(e, &table);
}

/* The items as they were. */
static size_t
repeat_metadata(struct encode *e, FirnSpan b, size_t before)
{
	uint32_t n = firn_flat_count(b, before);
	size_t vector = firn_flat_build_offsets(e->builder, n);

	for (uint32_t i = 0; i < n; i++) {
		struct origin item = { b, firn_flat_item(b, before, i) };

		firn_flat_link_item(e->builder, vector, i,
				    put_item(e, bytes_of(item, FIRN_ITEM_NAME),
					     bytes_of(item, FIRN_ITEM_VALUE), item));
	}
	return vector;
}

/*
 * The bytes of a value: those it was read from if they still mean the same (they
 * may hold what JSON cannot), else new ones.  Caller owns.
 */
static GBytes *
value_bytes(JsonNode *value, FirnSpan before)
{
	g_autoptr(JsonNode) then = NULL;

	if (before.data != NULL)
		then = firn_flex_read(before, NULL);
	if (then != NULL && json_node_equal(then, value))
		return g_bytes_new(before.data, before.len);
	return firn_flex_build(value);
}

/* Whether the items still say what they were read as. */
static bool
metadata_unchanged(JsonObject *metadata, FirnSpan b, size_t before)
{
	g_autoptr(JsonObject) then = json_object_new();

	for (uint32_t i = 0; i < firn_flat_count(b, before); i++) {
		size_t item = firn_flat_item(b, before, i);
		FirnSpan name = firn_flat_get_bytes(b, item, FIRN_ITEM_NAME);
		FirnSpan bytes = firn_flat_get_bytes(b, item, FIRN_ITEM_VALUE);
		JsonNode *value = firn_flex_read(bytes, NULL);
		/* As it was read: up to a NUL. */
		g_autofree char *text = g_strndup((const char *)name.data, name.len);

		if (value == NULL)
			return false;
		json_object_set_member(then, text, value);
	}
	return json_object_equal(then, metadata);
}

static struct origin
find_item(FirnSpan b, size_t vector, const char *name)
{
	for (uint32_t i = 0; i < firn_flat_count(b, vector); i++) {
		struct origin item = { b, firn_flat_item(b, vector, i) };
		FirnSpan text = bytes_of(item, FIRN_ITEM_NAME);

		if (text.len == strlen(name) && memcmp(text.data, name, text.len) == 0)
			return item;
	}
	return no_origin;
}

/* `before` is the vector the members were read from, 0 if there was none. */
static size_t
put_metadata(struct encode *e, JsonObject *metadata, FirnSpan b, size_t before)
{
	g_autoptr(GList) names = NULL;
	size_t vector;
	size_t i = 0;

	if (metadata == NULL)
		return firn_flat_build_offsets(e->builder, 0);
	/* The names too may hold what a C string cannot. */
	if (before != 0 && metadata_unchanged(metadata, b, before))
		return repeat_metadata(e, b, before);
	names = g_list_sort(json_object_get_members(metadata), (GCompareFunc)strcmp);
	vector = firn_flat_build_offsets(e->builder, json_object_get_size(metadata));
	for (GList *at = names; at != NULL; at = at->next) {
		struct origin item = find_item(b, before, at->data);
		g_autoptr(GBytes) value = value_bytes(json_object_get_member(metadata, at->data),
						      bytes_of(item, FIRN_ITEM_VALUE));
		FirnSpan name = { at->data, strlen(at->data) };

		firn_flat_link_item(e->builder, vector, i++,
				    put_item(e, name, span_of(value), item));
	}
	return vector;
}

/* ---- snapshots ---- */

/* The position of a snapshot, or -1. */
static int64_t
index_of(const FirnRepoInfo *info, const FirnId12 *id)
{
	guint from = 0;
	guint to = info->snapshots->len;

	while (from < to) {
		guint middle = from + (to - from) / 2;
		const FirnSnapshotInfo *snapshot = info->snapshots->pdata[middle];
		int order = firn_id12_compare(&snapshot->id, id);

		if (order == 0)
			return middle;
		if (order < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return -1;
}

static uint32_t
require_index(struct encode *e, const FirnId12 *id, const char *who)
{
	int64_t index = index_of(e->info, id);
	char text[FIRN_ID12_TEXT + 1];

	if (index >= 0)
		return (uint32_t)index;
	firn_id12_format(id, text);
	if (e->error == NULL)
		g_set_error(&e->error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "repo info: \"%s\" refers to snapshot %s, which is not listed", who,
			    text);
	return 0;
}

static size_t
put_snapshot(struct encode *e, const FirnSnapshotInfo *snapshot)
{
	const FirnRepoRaw *raw = snapshot->raw;
	struct origin origin = origin_of(raw);
	bool has_pruned = snapshot->pruned != NULL && snapshot->pruned->len > 0;
	FirnFlatRow row = { 0 };
	struct table table;
	size_t metadata;

	firn_flat_row_id12(&row, FIRN_INFO_ID, &snapshot->id);
	/* Absent would mean the first snapshot. */
	firn_flat_row_i32(&row, FIRN_INFO_PARENT,
			  snapshot->has_parent
				  ? (int32_t)require_index(e, &snapshot->parent, snapshot->message)
				  : -1);
	firn_flat_row_u64(&row, FIRN_INFO_FLUSHED_AT, snapshot->flushed_at);
	firn_flat_row_child(&row, FIRN_INFO_MESSAGE);
	firn_flat_row_child(&row, FIRN_INFO_METADATA);
	if (has_pruned)
		firn_flat_row_child(&row, FIRN_INFO_PRUNED);
	begin_table(e, &row, origin, FIRN_INFO_N_FIELDS, &table);
	put_text(e, table.at, FIRN_INFO_MESSAGE, snapshot->message,
		 bytes_of(origin, FIRN_INFO_MESSAGE));
	if (origin.table != 0 && snapshot->metadata != NULL && raw->metadata == snapshot->metadata)
		metadata = repeat_metadata(e, origin.b, child_of(origin, FIRN_INFO_METADATA).table);
	else
		metadata = put_metadata(e, snapshot->metadata, origin.b, 0);
	firn_flat_link(e->builder, table.at, FIRN_INFO_METADATA, metadata);
	if (has_pruned)
		firn_flat_link(e->builder, table.at, FIRN_INFO_PRUNED,
			       firn_flat_build_vector(e->builder, snapshot->pruned->data,
						      snapshot->pruned->len, sizeof(FirnId12), 1));
	return end_table(e, &table);
}

static size_t
put_snapshots(struct encode *e)
{
	const GPtrArray *list = e->info->snapshots;
	size_t vector = firn_flat_build_offsets(e->builder, list->len);

	for (guint i = 0; i < list->len; i++)
		firn_flat_link_item(e->builder, vector, i, put_snapshot(e, list->pdata[i]));
	return vector;
}

/* ---- refs ---- */

static size_t
put_refs(struct encode *e, const GPtrArray *list)
{
	size_t vector = firn_flat_build_offsets(e->builder, list->len);

	for (guint i = 0; i < list->len; i++) {
		const FirnRefInfo *ref = list->pdata[i];
		struct origin origin = origin_of(ref->raw);
		FirnFlatRow row = { 0 };
		struct table table;

		firn_flat_row_child(&row, FIRN_REF_NAME);
		firn_flat_row_u32(&row, FIRN_REF_SNAPSHOT,
				  require_index(e, &ref->snapshot, ref->name));
		begin_table(e, &row, origin, FIRN_REF_N_FIELDS, &table);
		put_text(e, table.at, FIRN_REF_NAME, ref->name, bytes_of(origin, FIRN_REF_NAME));
		firn_flat_link_item(e->builder, vector, i, end_table(e, &table));
	}
	return vector;
}

static size_t
put_texts(struct encode *e, const GPtrArray *list)
{
	size_t vector = firn_flat_build_offsets(e->builder, list->len);

	for (guint i = 0; i < list->len; i++) {
		FirnSpan text = { list->pdata[i], strlen(list->pdata[i]) };

		firn_flat_link_item(e->builder, vector, i,
				    firn_flat_build_string(e->builder, text));
	}
	return vector;
}

/* ---- updates ---- */

static size_t
put_status(struct encode *e, const FirnStatus *status, struct origin origin)
{
	FirnFlatRow row = { 0 };
	struct table table;

	firn_flat_row_u8(&row, FIRN_STATUS_AVAILABILITY, status->availability);
	firn_flat_row_u64(&row, FIRN_STATUS_SET_AT, status->set_at);
	if (status->reason != NULL)
		firn_flat_row_child(&row, FIRN_STATUS_REASON);
	begin_table(e, &row, origin, FIRN_STATUS_N_FIELDS, &table);
	if (status->reason != NULL)
		put_text(e, table.at, FIRN_STATUS_REASON, status->reason,
			 bytes_of(origin, FIRN_STATUS_REASON));
	return end_table(e, &table);
}

/* The fields of a variant that are not in the model. */
static void
add_extras(FirnFlatRow *row, const FirnUpdateInfo *update, const FirnRepoRaw *raw)
{
	if (raw == NULL)
		return;
	if (update->kind == FIRN_UPDATE_REPO_MIGRATED) {
		firn_flat_row_u8(row, 0, raw->from_version);
		firn_flat_row_u8(row, 1, raw->to_version);
	} else if (update->kind == FIRN_UPDATE_FEATURE_FLAG_CHANGED) {
		firn_flat_row_u16(row, 0, raw->flag);
		firn_flat_row_u8(row, 1, raw->flag_value ? 1 : 0);
		firn_flat_row_u8(row, 2, raw->flag_is_set ? 1 : 0);
	} else if (update->kind == FIRN_UPDATE_REPO_STATUS_CHANGED) {
		firn_flat_row_child(row, 0);
	}
}

static size_t
put_variant(struct encode *e, const FirnUpdateInfo *update, struct origin origin)
{
	const FirnUpdateLayout *layout = firn_update_layout(update->kind);
	const FirnRepoRaw *raw = update->raw;
	FirnFlatRow row = { 0 };
	struct table table;

	if (layout == NULL)
		return firn_unknown_copy_table(&e->unknown, e->builder, origin.b, origin.table);
	if (layout->name >= 0)
		firn_flat_row_child(&row, (unsigned)layout->name);
	if (layout->previous >= 0)
		firn_flat_row_id12(&row, (unsigned)layout->previous, &update->previous);
	if (layout->snapshot >= 0)
		firn_flat_row_id12(&row, (unsigned)layout->snapshot, &update->snapshot);
	add_extras(&row, update, raw);
	begin_table(e, &row, origin, layout->n_fields, &table);
	if (layout->name >= 0)
		put_text(e, table.at, (unsigned)layout->name,
			 update->name != NULL ? update->name : "",
			 bytes_of(origin, (unsigned)layout->name));
	if (update->kind == FIRN_UPDATE_REPO_STATUS_CHANGED && raw != NULL)
		firn_flat_link(e->builder, table.at, 0,
			       put_status(e, &raw->status, child_of(origin, 0)));
	return end_table(e, &table);
}

static size_t
put_update(struct encode *e, const FirnUpdateInfo *update)
{
	struct origin origin = origin_of(update->raw);
	FirnFlatRow row = { 0 };
	struct table table;
	size_t variant;

	if (firn_update_layout(update->kind) == NULL && origin.table == 0) {
		if (e->error == NULL)
			g_set_error(&e->error, FIRN_ERROR, FIRN_ERROR_INVALID,
				    "repo info: an update of the unknown kind %u", update->kind);
		return 0;
	}
	firn_flat_row_u8(&row, FIRN_UPDATE_KIND, update->kind);
	firn_flat_row_child(&row, FIRN_UPDATE_VALUE);
	firn_flat_row_u64(&row, FIRN_UPDATE_AT, update->updated_at);
	if (update->backup_path != NULL)
		firn_flat_row_child(&row, FIRN_UPDATE_BACKUP);
	begin_table(e, &row, origin, FIRN_UPDATE_N_FIELDS, &table);
	if (update->backup_path != NULL)
		put_text(e, table.at, FIRN_UPDATE_BACKUP, update->backup_path,
			 bytes_of(origin, FIRN_UPDATE_BACKUP));
	variant = put_variant(e, update, child_of(origin, FIRN_UPDATE_VALUE));
	if (e->unknown.error == NULL)
		firn_flat_link(e->builder, table.at, FIRN_UPDATE_VALUE, variant);
	return end_table(e, &table);
}

static size_t
put_updates(struct encode *e)
{
	const GPtrArray *list = e->info->updates;
	size_t vector = firn_flat_build_offsets(e->builder, list->len);

	for (guint i = 0; i < list->len && e->error == NULL; i++) {
		size_t update = put_update(e, list->pdata[i]);

		if (e->error == NULL)
			firn_flat_link_item(e->builder, vector, i, update);
	}
	return vector;
}

/* ---- the root ---- */

static size_t
put_flags(struct encode *e, const GArray *flags)
{
	return firn_flat_build_vector(e->builder, flags->data, flags->len, sizeof(uint16_t),
				      sizeof(uint16_t));
}

static void
declare_root(struct encode *e, struct origin origin, FirnFlatRow *row)
{
	const FirnRepoInfo *info = e->info;

	firn_flat_row_u8(row, FIRN_REPO_SPEC_VERSION, info->spec_version);
	firn_flat_row_child(row, FIRN_REPO_TAGS);
	firn_flat_row_child(row, FIRN_REPO_BRANCHES);
	firn_flat_row_child(row, FIRN_REPO_DELETED_TAGS);
	firn_flat_row_child(row, FIRN_REPO_SNAPSHOTS);
	firn_flat_row_child(row, FIRN_REPO_STATUS);
	firn_flat_row_child(row, FIRN_REPO_METADATA);
	firn_flat_row_child(row, FIRN_REPO_UPDATES);
	if (info->repo_before_updates != NULL)
		firn_flat_row_child(row, FIRN_REPO_BEFORE_UPDATES);
	if (info->config != NULL)
		firn_flat_row_child(row, FIRN_REPO_CONFIG);
	if (info->enabled_flags != NULL)
		firn_flat_row_child(row, FIRN_REPO_ENABLED_FLAGS);
	if (info->disabled_flags != NULL)
		firn_flat_row_child(row, FIRN_REPO_DISABLED_FLAGS);
	if (bytes_of(origin, FIRN_REPO_EXTRA).data != NULL)
		firn_flat_row_child(row, FIRN_REPO_EXTRA);
}

static void
put_optional(struct encode *e, size_t root, struct origin origin)
{
	const FirnRepoInfo *info = e->info;
	FirnSpan extra = bytes_of(origin, FIRN_REPO_EXTRA);

	if (info->repo_before_updates != NULL)
		put_text(e, root, FIRN_REPO_BEFORE_UPDATES, info->repo_before_updates,
			 bytes_of(origin, FIRN_REPO_BEFORE_UPDATES));
	if (info->config != NULL) {
		g_autoptr(GBytes) config =
			value_bytes(info->config, bytes_of(origin, FIRN_REPO_CONFIG));

		firn_flat_link(e->builder, root, FIRN_REPO_CONFIG,
			       firn_flat_build_bytes(e->builder, span_of(config)));
	}
	if (info->enabled_flags != NULL)
		firn_flat_link(e->builder, root, FIRN_REPO_ENABLED_FLAGS,
			       put_flags(e, info->enabled_flags));
	if (info->disabled_flags != NULL)
		firn_flat_link(e->builder, root, FIRN_REPO_DISABLED_FLAGS,
			       put_flags(e, info->disabled_flags));
	if (extra.data != NULL)
		firn_flat_link(e->builder, root, FIRN_REPO_EXTRA,
			       firn_flat_build_bytes(e->builder, extra));
}

static void
put_root(struct encode *e)
{
	const FirnRepoInfo *info = e->info;
	FirnFlatBuilder *b = e->builder;
	struct origin origin = origin_of(info->raw);
	FirnStatus status = { info->availability, info->status_set_at, info->status_reason };
	FirnUnknownChildren children = { 0 };
	FirnFlatRow row = { 0 };
	size_t root;

	declare_root(e, origin, &row);
	if (origin.table != 0)
		firn_unknown_add(&e->unknown, origin.b, origin.table, FIRN_REPO_N_FIELDS, &row,
				 &children);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, FIRN_REPO_TAGS, put_refs(e, info->tags));
	firn_flat_link(b, root, FIRN_REPO_BRANCHES, put_refs(e, info->branches));
	firn_flat_link(b, root, FIRN_REPO_DELETED_TAGS, put_texts(e, info->deleted_tags));
	firn_flat_link(b, root, FIRN_REPO_SNAPSHOTS, put_snapshots(e));
	firn_flat_link(b, root, FIRN_REPO_STATUS,
		       put_status(e, &status, child_of(origin, FIRN_REPO_STATUS)));
	firn_flat_link(b, root, FIRN_REPO_METADATA,
		       put_metadata(e, info->metadata, origin.b,
				    child_of(origin, FIRN_REPO_METADATA).table));
	firn_flat_link(b, root, FIRN_REPO_UPDATES, put_updates(e));
	put_optional(e, root, origin);
	firn_unknown_append(&e->unknown, b, root, origin.b, &children);
}

GBytes *
firn_repo_info_encode(const FirnRepoInfo *info, int level, GError **error)
{
	static const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	struct origin origin = origin_of(info->raw);
	struct encode e = { .info = info };
	g_autoptr(GBytes) payload = NULL;

	e.builder = firn_flat_builder_new(4096 + 192 * (size_t)info->snapshots->len);
	/* Looking at something costs like copying it: hence a few times the file's size. */
	e.unknown.bytes_left = 16 * (uint64_t)origin.b.len + UNKNOWN_SPARE;
	put_root(&e);
	if (e.error != NULL)
		g_clear_error(&e.unknown.error);
	else
		e.error = g_steal_pointer(&e.unknown.error);
	if (e.error != NULL) {
		firn_flat_builder_free(e.builder);
		g_propagate_error(error, e.error);
		return NULL;
	}
	payload = firn_flat_builder_finish(e.builder, error);
	if (payload == NULL)
		return NULL;
	return firn_envelope_seal(&envelope, span_of(payload), level);
}
