#include "core/format/snapshot.h"

#include "core/base/error.h"
#include "core/flat/flex.h"
#include "core/flat/reader.h"
#include "core/format/payload.h"
#include "core/format/snapshot_private.h"

#include <stdlib.h>
#include <string.h>

static const FirnFlatField ref_fields[] = {
	[FIRN_SNAP_REF_ID] = FIRN_FLAT_STRUCT_FIELD("object_id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_REF_EXTENTS] =
		FIRN_FLAT_VECTOR_FIELD("extents", FIRN_SNAP_EXTENT_SIZE, 1, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable ref_table = FIRN_FLAT_TABLE("ManifestRef", ref_fields);

static const FirnFlatField dim_fields[] = {
	[FIRN_SNAP_DIM_LENGTH] = FIRN_FLAT_SCALAR_FIELD("array_length", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_SNAP_DIM_CHUNKS] = FIRN_FLAT_SCALAR_FIELD("num_chunks", 4, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable dim_table = FIRN_FLAT_TABLE("DimensionShapeV2", dim_fields);

static const FirnFlatField dim_name_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable dim_name_table = FIRN_FLAT_TABLE("DimensionName", dim_name_fields);

static const FirnFlatField array_fields[] = {
	[FIRN_SNAP_ARRAY_SHAPE_V1] =
		FIRN_FLAT_VECTOR_FIELD("shape", FIRN_SNAP_DIM_V1_SIZE, 1, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_ARRAY_DIM_NAMES] =
		FIRN_FLAT_TABLES_FIELD("dimension_names", &dim_name_table, FIRN_FLAT_OPTIONAL),
	[FIRN_SNAP_ARRAY_MANIFESTS] =
		FIRN_FLAT_TABLES_FIELD("manifests", &ref_table, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_ARRAY_SHAPE] =
		FIRN_FLAT_TABLES_FIELD("shape_v2", &dim_table, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable array_table = FIRN_FLAT_TABLE("ArrayNodeData", array_fields);
static const FirnFlatTable group_table = FIRN_FLAT_EMPTY_TABLE("GroupNodeData");
static const FirnFlatTable *const node_data[] = { &array_table, &group_table };

static const FirnFlatField node_fields[] = {
	[FIRN_SNAP_NODE_ID] = FIRN_FLAT_STRUCT_FIELD("id", 8, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_NODE_PATH] = FIRN_FLAT_STRING_FIELD("path", FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_NODE_META] = FIRN_FLAT_VECTOR_FIELD("user_data", 1, 1, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_NODE_KIND] = FIRN_FLAT_UNION_FIELD("node_data", node_data, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_NODE_DATA] = FIRN_FLAT_SKIP_FIELD,
};
static const FirnFlatTable node_table = FIRN_FLAT_TABLE("NodeSnapshot", node_fields);

static const FirnFlatField file_fields[] = {
	[FIRN_SNAP_FILE_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_FILE_SIZE] = FIRN_FLAT_SCALAR_FIELD("size_bytes", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_SNAP_FILE_REFS] = FIRN_FLAT_SCALAR_FIELD("num_chunk_refs", 4, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable file_table = FIRN_FLAT_TABLE("ManifestFileInfoV2", file_fields);

static const FirnFlatField snapshot_fields[] = {
	[FIRN_SNAP_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_PARENT] = FIRN_FLAT_STRUCT_FIELD("parent_id", 12, FIRN_FLAT_OPTIONAL),
	[FIRN_SNAP_NODES] = FIRN_FLAT_TABLES_FIELD("nodes", &node_table, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_FLUSHED] = FIRN_FLAT_SCALAR_FIELD("flushed_at", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_SNAP_MESSAGE] = FIRN_FLAT_STRING_FIELD("message", FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_META] =
		FIRN_FLAT_TABLES_FIELD("metadata", &firn_payload_metadata_item, FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_FILES_V1] = FIRN_FLAT_VECTOR_FIELD("manifest_files", FIRN_SNAP_FILE_V1_SIZE, 1,
						      FIRN_FLAT_REQUIRED),
	[FIRN_SNAP_FILES] =
		FIRN_FLAT_TABLES_FIELD("manifest_files_v2", &file_table, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable snapshot_table = FIRN_FLAT_TABLE("Snapshot", snapshot_fields);

static bool bad(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool
bad(GError **error, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "damaged snapshot: %s", text);
	return false;
}

/* ---- checks ---- */

/* "/" or "/a/b": no empty, "." or ".." component, no NUL. */
static bool
is_path(FirnSpan path)
{
	const char *at = (const char *)path.data;
	const char *end = at + path.len;

	if (path.len == 0 || *at != '/' || memchr(at, '\0', path.len) != NULL)
		return false;
	if (path.len == 1)
		return true;
	while (at < end) {
		const char *name = at + 1;
		size_t len;

		at = memchr(name, '/', (size_t)(end - name));
		if (at == NULL)
			at = end;
		len = (size_t)(at - name);
		if (len == 0 || (len == 1 && name[0] == '.') ||
		    (len == 2 && name[0] == '.' && name[1] == '.'))
			return false;
	}
	return true;
}

static bool
check_array(const FirnSnapshot *s, size_t array, GError **error)
{
	size_t manifests = firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_MANIFESTS);
	uint32_t rank = firn_snapshot_private_rank(s, array);

	if (rank > FIRN_MAX_RANK)
		return bad(error, "an array has %u dimensions", rank);
	for (uint32_t axis = 0; axis < rank; axis++) {
		uint64_t length;
		uint32_t n_chunks;

		if (!firn_snapshot_private_dim(s, array, axis, &length, &n_chunks))
			return bad(error, "an array has an impossible shape");
	}
	for (uint32_t i = 0; i < firn_flat_count(s->b, manifests); i++) {
		size_t ref = firn_flat_item(s->b, manifests, i);
		uint32_t n = firn_flat_count(s->b,
					     firn_flat_get_child(s->b, ref, FIRN_SNAP_REF_EXTENTS));

		/* Empty extents hold everything, for the official reader too. */
		if (n != rank && n != 0)
			return bad(error, "a manifest of an array of rank %u has %u extents", rank,
				   n);
	}
	return true;
}

static bool
check_nodes(const FirnSnapshot *s, GError **error)
{
	FirnSpan previous = { NULL, 0 };

	for (uint32_t i = 0; i < firn_flat_count(s->b, s->nodes); i++) {
		size_t table = firn_flat_item(s->b, s->nodes, i);
		uint8_t kind = firn_flat_get_u8(s->b, table, FIRN_SNAP_NODE_KIND, 0);
		FirnSpan path = firn_flat_get_bytes(s->b, table, FIRN_SNAP_NODE_PATH);

		if (kind != FIRN_NODE_ARRAY && kind != FIRN_NODE_GROUP)
			return bad(error, "node %u has the unknown kind %u", i, kind);
		if (!is_path(path))
			return bad(error, "node %u has an impossible path", i);
		if (i > 0 && firn_payload_compare(previous, path) >= 0)
			return bad(error, "node %u is out of order", i);
		previous = path;
		if (kind == FIRN_NODE_ARRAY &&
		    !check_array(s, firn_snapshot_private_array(s, table), error)) {
			g_prefix_error(error, "%.*s: ", (int)MIN(path.len, 4096),
				       (const char *)path.data);
			return false;
		}
	}
	return true;
}

/* ---- manifest files ---- */

static const FirnId12 *
file_id(const FirnSnapshot *s, size_t index)
{
	const FirnId12 *id;

	if (s->files_v1)
		return (const FirnId12 *)(firn_flat_items(s->b, s->files) +
					  index * FIRN_SNAP_FILE_V1_SIZE);
	id = firn_flat_get_id12(s->b, firn_flat_item(s->b, s->files, (uint32_t)index),
				FIRN_SNAP_FILE_ID);
	/* Required: the file was refused without. */
	g_assert(id != NULL);
	return id;
}

static int
compare_files(const void *a, const void *b, void *snapshot)
{
	return firn_id12_compare(file_id(snapshot, *(const uint32_t *)a),
				 file_id(snapshot, *(const uint32_t *)b));
}

/* Older libraries look through the list, so it need not be sorted. */
static bool
order_files(FirnSnapshot *s, GError **error)
{
	size_t n = firn_snapshot_n_manifest_files(s);
	bool sorted = true;

	for (size_t i = 1; i < n && sorted; i++)
		sorted = firn_id12_compare(file_id(s, i - 1), file_id(s, i)) < 0;
	if (sorted)
		return true;
	s->files_by_id = g_try_new(uint32_t, n);
	if (s->files_by_id == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "no memory for %zu manifests", n);
		return false;
	}
	for (size_t i = 0; i < n; i++)
		s->files_by_id[i] = (uint32_t)i;
	qsort_r(s->files_by_id, n, sizeof *s->files_by_id, compare_files, s);
	return true;
}

size_t
firn_snapshot_n_manifest_files(const FirnSnapshot *s)
{
	return firn_flat_count(s->b, s->files);
}

static size_t
listed(const FirnSnapshot *s, size_t index)
{
	return s->files_by_id != NULL ? s->files_by_id[index] : index;
}

void
firn_snapshot_manifest_file(const FirnSnapshot *s, size_t index, FirnManifestFile *out_file)
{
	g_assert(index < firn_snapshot_n_manifest_files(s));
	index = listed(s, index);
	*out_file = (FirnManifestFile){ .id = *file_id(s, index) };
	if (s->files_v1) {
		const uint8_t *file =
			firn_flat_items(s->b, s->files) + index * FIRN_SNAP_FILE_V1_SIZE;

		out_file->size_bytes = firn_flat_load64(file + FIRN_SNAP_FILE_V1_BYTES_AT);
		out_file->n_refs = firn_flat_load32(file + FIRN_SNAP_FILE_V1_REFS_AT);
	} else {
		size_t table = firn_flat_item(s->b, s->files, (uint32_t)index);

		out_file->size_bytes = firn_flat_get_u64(s->b, table, FIRN_SNAP_FILE_SIZE, 0);
		out_file->n_refs = firn_flat_get_u32(s->b, table, FIRN_SNAP_FILE_REFS, 0);
	}
}

/* Ids are random, so their value tells where they are; halved every other time for those of which
   it does not. */
static size_t
guess(size_t low, size_t high, uint64_t from, uint64_t to, uint64_t key, unsigned try)
{
	double part = to > from ? (double)(key - from) / (double)(to - from) : 0.5;

	if (try % 2 != 0)
		part = 0.5;
	return MIN(low + (size_t)((double)(high - low) * part), high - 1);
}

bool
firn_snapshot_find_manifest_file(const FirnSnapshot *s, const FirnId12 *id, size_t *out_index)
{
	size_t low = 0, high = firn_snapshot_n_manifest_files(s);
	uint64_t from = 0, to = UINT64_MAX; /* what is between low and high leads with */

	for (unsigned try = 0; low < high; try++) {
		size_t middle = guess(low, high, from, to, firn_id12_leading(id), try);
		const FirnId12 *found = file_id(s, listed(s, middle));
		int order = firn_id12_compare(found, id);

		if (order == 0) {
			*out_index = middle;
			return true;
		}
		if (order < 0) {
			low = middle + 1;
			from = firn_id12_leading(found);
		} else {
			high = middle;
			to = firn_id12_leading(found);
		}
	}
	return false;
}

/* ---- opening ---- */

static bool
take_message(FirnSnapshot *s, GError **error)
{
	FirnSpan text = firn_flat_get_bytes(s->b, s->root, FIRN_SNAP_MESSAGE);

	/* The verifier lets pass a string without its NUL. */
	s->message = g_try_malloc(text.len + 1);
	if (s->message == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "no memory for the message");
		return false;
	}
	if (text.len > 0)
		memcpy(s->message, text.data, text.len);
	s->message[text.len] = '\0';
	return true;
}

FirnSnapshot *
firn_snapshot_open(GBytes *file, GError **error)
{
	g_autoptr(FirnSnapshot) s = NULL;
	uint8_t version;
	GBytes *payload = firn_payload_open(file, FIRN_KIND_SNAPSHOT, &snapshot_table,
					    FIRN_PAYLOAD_MAX_TABLES, &version, error);

	if (payload == NULL)
		return NULL;
	s = g_new0(FirnSnapshot, 1);
	s->refs = 1;
	s->payload = payload;
	s->spec_version = version;
	s->b = firn_payload_span(payload);
	s->root = firn_flat_root(s->b);
	s->nodes = firn_flat_get_child(s->b, s->root, FIRN_SNAP_NODES);
	s->files_v1 = !firn_flat_has(s->b, s->root, FIRN_SNAP_FILES);
	s->files = firn_flat_get_child(s->b, s->root,
				       s->files_v1 ? FIRN_SNAP_FILES_V1 : FIRN_SNAP_FILES);
	s->by_id = g_new0(IdIndex, 1);
	pthread_mutex_init(&s->by_id->lock, NULL);
	if (firn_snapshot_flushed_at(s) > INT64_MAX)
		bad(error, "impossible time");
	else if (take_message(s, error) && check_nodes(s, error) && order_files(s, error))
		return g_steal_pointer(&s);
	return NULL;
}

FirnSnapshot *
firn_snapshot_ref(FirnSnapshot *s)
{
	g_atomic_int_inc(&s->refs);
	return s;
}

void
firn_snapshot_unref(FirnSnapshot *s)
{
	if (s == NULL || !g_atomic_int_dec_and_test(&s->refs))
		return;
	g_free(s->by_id->nodes);
	pthread_mutex_destroy(&s->by_id->lock);
	g_free(s->by_id);
	g_free(s->files_by_id);
	g_free(s->message);
	g_bytes_unref(s->payload);
	g_free(s);
}

/* ---- the snapshot itself ---- */

size_t
firn_snapshot_size(const FirnSnapshot *s)
{
	size_t n_files = s->files_by_id != NULL ? firn_snapshot_n_manifest_files(s) : 0;

	/* The index of nodes by id is made on first use. */
	return s->b.len + (n_files + firn_snapshot_n_nodes(s)) * sizeof(uint32_t);
}

const FirnId12 *
firn_snapshot_id(const FirnSnapshot *s)
{
	return firn_flat_get_id12(s->b, s->root, FIRN_SNAP_ID);
}

uint8_t
firn_snapshot_spec_version(const FirnSnapshot *s)
{
	return s->spec_version;
}

uint64_t
firn_snapshot_flushed_at(const FirnSnapshot *s)
{
	return firn_flat_get_u64(s->b, s->root, FIRN_SNAP_FLUSHED, 0);
}

const char *
firn_snapshot_message(const FirnSnapshot *s)
{
	return s->message;
}

bool
firn_snapshot_parent(const FirnSnapshot *s, FirnId12 *out_parent)
{
	const FirnId12 *parent = firn_flat_get_id12(s->b, s->root, FIRN_SNAP_PARENT);

	if (parent == NULL)
		return false;
	*out_parent = *parent;
	return true;
}

JsonObject *
firn_snapshot_metadata(const FirnSnapshot *s, GError **error)
{
	size_t items = firn_flat_get_child(s->b, s->root, FIRN_SNAP_META);
	g_autoptr(JsonObject) metadata = json_object_new();

	for (uint32_t i = 0; i < firn_flat_count(s->b, items); i++) {
		size_t item = firn_flat_item(s->b, items, i);
		FirnSpan name = firn_flat_get_bytes(s->b, item, FIRN_SNAP_ITEM_NAME);
		FirnSpan bytes = firn_flat_get_bytes(s->b, item, FIRN_SNAP_ITEM_VALUE);
		g_autofree char *key = g_try_malloc(name.len + 1);
		JsonNode *value = NULL;

		if (key == NULL) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "no memory for a name");
			return NULL;
		}
		if (name.len > 0)
			memcpy(key, name.data, name.len);
		key[name.len] = '\0';
		value = s->spec_version == 1 ? firn_flex_read_msgpack(bytes, error)
					     : firn_flex_read(bytes, error);
		if (value == NULL) {
			g_prefix_error(error, "snapshot metadata '%.200s': ", key);
			return NULL;
		}
		json_object_set_member(metadata, key, value);
	}
	return g_steal_pointer(&metadata);
}
