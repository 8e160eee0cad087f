#include "core/base/error.h"
#include "core/flat/build.h"
#include "core/flat/flex.h"
#include "core/format/envelope.h"
#include "core/format/payload.h"
#include "core/format/snapshot.h"

#include <string.h>

static FirnSpan
span_of(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

static void
assert_sorted(const FirnSnapshotContent *c)
{
	for (size_t i = 1; i < c->n_rows; i++)
		g_assert(firn_payload_compare(c->rows[i - 1].path, c->rows[i].path) < 0);
	for (size_t i = 1; i < c->n_files; i++)
		g_assert(firn_id12_compare(&c->files[i - 1].id, &c->files[i].id) < 0);
}

static size_t
build_dims(FirnFlatBuilder *b, const FirnSnapshotRow *row)
{
	size_t vector = firn_flat_build_offsets(b, row->rank);

	for (uint32_t i = 0; i < row->rank; i++) {
		FirnFlatRow dim = { 0 };

		if (row->lengths[i] != 0)
			firn_flat_row_u64(&dim, 0, row->lengths[i]);
		if (row->n_chunks[i] != 0)
			firn_flat_row_u32(&dim, 1, row->n_chunks[i]);
		firn_flat_link_item(b, vector, i, firn_flat_build_table(b, &dim));
	}
	return vector;
}

static size_t
build_dim_names(FirnFlatBuilder *b, const FirnSnapshotRow *row)
{
	size_t vector = firn_flat_build_offsets(b, row->rank);

	for (uint32_t i = 0; i < row->rank; i++) {
		const char *name = row->dimension_names[i];
		FirnFlatRow dim = { 0 };
		size_t table;

		if (name != NULL)
			firn_flat_row_child(&dim, 0);
		table = firn_flat_build_table(b, &dim);
		firn_flat_link_item(b, vector, i, table);
		if (name != NULL)
			firn_flat_link(b, table, 0, firn_flat_build_string(b, span_of(name)));
	}
	return vector;
}

static size_t
build_manifest_refs(FirnFlatBuilder *b, const FirnSnapshotRow *row)
{
	size_t vector = firn_flat_build_offsets(b, row->n_manifests);

	for (uint32_t i = 0; i < row->n_manifests; i++) {
		const FirnExtent *extents = row->manifest_extents + (size_t)i * row->rank;
		FirnFlatRow ref = { 0 };
		size_t table;

		firn_flat_row_id12(&ref, 0, &row->manifest_ids[i]);
		firn_flat_row_child(&ref, 1);
		table = firn_flat_build_table(b, &ref);
		firn_flat_link_item(b, vector, i, table);
		firn_flat_link(b, table, 1,
			       firn_flat_build_vector(b, extents, row->rank, sizeof *extents, 4));
	}
	return vector;
}

static size_t
build_array(FirnFlatBuilder *b, const FirnSnapshotRow *row)
{
	FirnFlatRow data = { 0 };
	size_t table;

	firn_flat_row_child(&data, 0);
	if (row->has_dimension_names)
		firn_flat_row_child(&data, 1);
	firn_flat_row_child(&data, 2);
	firn_flat_row_child(&data, 3);
	table = firn_flat_build_table(b, &data);
	/* The version 1 shape: required, and empty. */
	firn_flat_link(b, table, 0, firn_flat_build_vector(b, NULL, 0, 16, 8));
	if (row->has_dimension_names)
		firn_flat_link(b, table, 1, build_dim_names(b, row));
	firn_flat_link(b, table, 2, build_manifest_refs(b, row));
	firn_flat_link(b, table, 3, build_dims(b, row));
	return table;
}

static size_t
build_node(FirnFlatBuilder *b, const FirnSnapshotRow *row)
{
	FirnFlatRow empty = { 0 };
	FirnFlatRow node = { 0 };
	size_t table;

	g_assert(row->kind == FIRN_NODE_ARRAY || row->kind == FIRN_NODE_GROUP);
	g_assert(row->rank <= FIRN_MAX_RANK);
	firn_flat_row_id8(&node, 0, &row->id);
	firn_flat_row_child(&node, 1);
	firn_flat_row_child(&node, 2);
	firn_flat_row_u8(&node, 3, (uint8_t)row->kind);
	firn_flat_row_child(&node, 4);
	table = firn_flat_build_table(b, &node);
	firn_flat_link(b, table, 1, firn_flat_build_string(b, row->path));
	firn_flat_link(b, table, 2, firn_flat_build_bytes(b, row->meta));
	firn_flat_link(b, table, 4,
		       row->kind == FIRN_NODE_ARRAY ? build_array(b, row)
						    : firn_flat_build_table(b, &empty));
	return table;
}

static size_t
build_nodes(FirnFlatBuilder *b, const FirnSnapshotContent *c)
{
	size_t vector = firn_flat_build_offsets(b, c->n_rows);

	for (size_t i = 0; i < c->n_rows && !firn_flat_builder_failed(b); i++)
		firn_flat_link_item(b, vector, i, build_node(b, &c->rows[i]));
	return vector;
}

static int
compare_keys(gconstpointer a, gconstpointer b)
{
	return strcmp(a, b);
}

static size_t
build_metadata(FirnFlatBuilder *b, JsonObject *metadata)
{
	g_autoptr(GList) keys = metadata != NULL ? json_object_get_members(metadata) : NULL;
	size_t vector;
	size_t i = 0;

	keys = g_list_sort(keys, compare_keys);
	vector = firn_flat_build_offsets(b, g_list_length(keys));
	for (GList *at = keys; at != NULL; at = at->next, i++) {
		g_autoptr(GBytes) value =
			firn_flex_build(json_object_get_member(metadata, at->data));
		FirnFlatRow item = { 0 };
		size_t table;

		firn_flat_row_child(&item, 0);
		firn_flat_row_child(&item, 1);
		table = firn_flat_build_table(b, &item);
		firn_flat_link_item(b, vector, i, table);
		firn_flat_link(b, table, 0, firn_flat_build_string(b, span_of(at->data)));
		firn_flat_link(b, table, 1, firn_flat_build_bytes(b, firn_payload_span(value)));
	}
	return vector;
}

static size_t
build_files(FirnFlatBuilder *b, const FirnSnapshotContent *c)
{
	size_t vector = firn_flat_build_offsets(b, c->n_files);

	for (size_t i = 0; i < c->n_files; i++) {
		FirnFlatRow file = { 0 };

		firn_flat_row_id12(&file, 0, &c->files[i].id);
		firn_flat_row_u64(&file, 1, c->files[i].size_bytes);
		firn_flat_row_u32(&file, 2, c->files[i].n_refs);
		firn_flat_link_item(b, vector, i, firn_flat_build_table(b, &file));
	}
	return vector;
}

GBytes *
firn_snapshot_encode(const FirnSnapshotContent *c, int level, GError **error)
{
	static const FirnEnvelope envelope = { 2, FIRN_KIND_SNAPSHOT };
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root;

	assert_sorted(c);
	firn_flat_row_id12(&row, 0, &c->id);
	firn_flat_row_child(&row, 2);
	firn_flat_row_u64(&row, 3, c->flushed_at);
	for (unsigned id = 4; id <= 7; id++)
		firn_flat_row_child(&row, id);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 4, firn_flat_build_string(b, span_of(c->message)));
	firn_flat_link(b, root, 5, build_metadata(b, c->metadata));
	/* The version 1 list of manifests: required, and empty. */
	firn_flat_link(b, root, 6, firn_flat_build_vector(b, NULL, 0, 32, 8));
	firn_flat_link(b, root, 7, build_files(b, c));
	firn_flat_link(b, root, 2, build_nodes(b, c));
	payload = firn_flat_builder_finish(b, error);
	if (payload == NULL) {
		g_prefix_error(error, "snapshot: ");
		return NULL;
	}
	return firn_envelope_seal(&envelope, firn_payload_span(payload), level);
}
