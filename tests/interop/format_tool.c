/*
 * Shows metadata files to the interoperability tests as our decoder sees them,
 * and writes them as our encoder does.
 *
 *   format_tool dump FILE            JSON, in the terms of tests/oracle/icedump.py
 *   format_tool reencode FILE OUT [MANIFESTS]
 *                                    decode, encode again; the sizes of manifests
 *                                    as they are in the directory MANIFESTS
 *   format_tool virtual OUT N        a manifest of N virtual refs
 */
#include "core/format/envelope.h"
#include "core/format/manifest.h"
#include "core/format/snapshot.h"
#include "core/format/txlog.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void
add_text(JsonArray *array, FirnSpan text)
{
	g_autofree char *copy = g_strndup((const char *)text.data, text.len);

	json_array_add_string_element(array, copy);
}

static void
set_text(JsonObject *object, const char *name, FirnSpan text)
{
	g_autofree char *copy = g_strndup((const char *)text.data, text.len);

	json_object_set_string_member(object, name, copy);
}

static void
set_id12(JsonObject *object, const char *name, const FirnId12 *id)
{
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(id, text);
	json_object_set_string_member(object, name, text);
}

static void
set_id8(JsonObject *object, const char *name, const FirnId8 *id)
{
	char text[FIRN_ID8_TEXT + 1];

	firn_id8_format(id, text);
	json_object_set_string_member(object, name, text);
}

static JsonArray *
coords_json(const uint32_t *coords, uint32_t rank)
{
	JsonArray *array = json_array_new();

	for (uint32_t i = 0; i < rank; i++)
		json_array_add_int_element(array, coords[i]);
	return array;
}

/* ---- snapshot ---- */

static void
add_array_json(FirnSnapshot *s, const FirnSnapshotNode *node, JsonObject *out)
{
	g_autofree char **names = firn_snapshot_node_dimension_names(s, node);
	JsonArray *shape = json_array_new();
	JsonArray *manifests = json_array_new();
	JsonArray *dims = names != NULL ? json_array_new() : NULL;

	for (uint32_t axis = 0; axis < node->rank; axis++) {
		JsonObject *dim = json_object_new();
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(s, node, axis, &length, &n_chunks);
		json_object_set_int_member(dim, "array_length", (gint64)length);
		json_object_set_int_member(dim, "num_chunks", n_chunks);
		json_array_add_object_element(shape, dim);
		if (dims != NULL && names[axis] != NULL)
			json_array_add_string_element(dims, names[axis]);
		else if (dims != NULL)
			json_array_add_null_element(dims);
	}
	for (uint32_t i = 0; i < node->n_manifests; i++) {
		JsonObject *manifest = json_object_new();
		JsonArray *list = json_array_new();
		FirnExtent extents[FIRN_MAX_RANK];
		FirnId12 id;

		firn_snapshot_node_manifest(s, node, i, &id, extents);
		for (uint32_t axis = 0; axis < node->rank; axis++)
			json_array_add_array_element(list, coords_json(&extents[axis].from, 2));
		set_id12(manifest, "id", &id);
		json_object_set_array_member(manifest, "extents", list);
		json_array_add_object_element(manifests, manifest);
	}
	json_object_set_array_member(out, "shape", shape);
	json_object_set_array_member(out, "manifests", manifests);
	if (dims != NULL)
		json_object_set_array_member(out, "dimension_names", dims);
	else
		json_object_set_null_member(out, "dimension_names");
}

static JsonArray *
nodes_json(FirnSnapshot *s)
{
	JsonArray *nodes = json_array_new();

	for (size_t i = 0; i < firn_snapshot_n_nodes(s); i++) {
		JsonObject *out = json_object_new();
		FirnSnapshotNode node;

		firn_snapshot_node(s, i, &node);
		set_id8(out, "id", &node.id);
		set_text(out, "path", node.path);
		set_text(out, "user_data", node.meta);
		json_object_set_string_member(out, "type",
					      node.kind == FIRN_NODE_ARRAY ? "array" : "group");
		if (node.kind == FIRN_NODE_ARRAY)
			add_array_json(s, &node, out);
		json_array_add_object_element(nodes, out);
	}
	return nodes;
}

static bool
dump_snapshot(GBytes *file, JsonObject *out, GError **error)
{
	g_autoptr(FirnSnapshot) s = firn_snapshot_open(file, error);
	JsonArray *files = json_array_new();
	JsonObject *metadata;
	FirnId12 parent;

	json_object_set_array_member(out, "manifest_files", files);
	if (s == NULL)
		return false;
	metadata = firn_snapshot_metadata(s, error);
	if (metadata == NULL)
		return false;
	set_id12(out, "id", firn_snapshot_id(s));
	if (firn_snapshot_parent(s, &parent))
		set_id12(out, "parent_id", &parent);
	else
		json_object_set_null_member(out, "parent_id");
	json_object_set_int_member(out, "flushed_at", (gint64)firn_snapshot_flushed_at(s));
	json_object_set_string_member(out, "message", firn_snapshot_message(s));
	json_object_set_object_member(out, "metadata", metadata);
	json_object_set_array_member(out, "nodes", nodes_json(s));
	for (size_t i = 0; i < firn_snapshot_n_manifest_files(s); i++) {
		JsonObject *item = json_object_new();
		FirnManifestFile f;

		firn_snapshot_manifest_file(s, i, &f);
		set_id12(item, "id", &f.id);
		json_object_set_int_member(item, "size_bytes", (gint64)f.size_bytes);
		json_object_set_int_member(item, "num_chunk_refs", f.n_refs);
		json_array_add_object_element(files, item);
	}
	return true;
}

/* Everything an encoder row points to lives in `pool` until the end. */
static void
fill_row(FirnSnapshot *s, size_t i, FirnSnapshotRow *row, GPtrArray *pool)
{
	FirnSnapshotNode node;
	uint64_t *lengths = g_new0(uint64_t, FIRN_MAX_RANK);
	uint32_t *n_chunks = g_new0(uint32_t, FIRN_MAX_RANK);
	FirnId12 *ids;
	FirnExtent *extents;
	char **names;

	firn_snapshot_node(s, i, &node);
	ids = g_new0(FirnId12, node.n_manifests + 1);
	extents = g_new0(FirnExtent, (gsize)node.n_manifests * node.rank + 1);
	names = firn_snapshot_node_dimension_names(s, &node);
	for (uint32_t axis = 0; axis < node.rank; axis++)
		firn_snapshot_node_shape(s, &node, axis, &lengths[axis], &n_chunks[axis]);
	for (uint32_t m = 0; m < node.n_manifests; m++)
		firn_snapshot_node_manifest(s, &node, m, &ids[m], extents + (size_t)m * node.rank);
	*row = (FirnSnapshotRow){ node.id,   node.kind,        node.path, node.meta,
				  node.rank, lengths,          n_chunks,  names != NULL,
				  names,     node.n_manifests, ids,       extents };
	g_ptr_array_add(pool, lengths);
	g_ptr_array_add(pool, n_chunks);
	g_ptr_array_add(pool, ids);
	g_ptr_array_add(pool, extents);
	g_ptr_array_add(pool, names);
}

static void
measure(FirnManifestFile *file, const char *dir)
{
	char name[FIRN_ID12_TEXT + 1];
	g_autofree char *path = NULL;
	struct stat st;

	firn_id12_format(&file->id, name);
	path = g_build_filename(dir, name, NULL);
	g_assert(stat(path, &st) == 0);
	file->size_bytes = (uint64_t)st.st_size;
}

static GBytes *
reencode_snapshot(GBytes *file, const char *manifests, GError **error)
{
	g_autoptr(FirnSnapshot) s = firn_snapshot_open(file, error);
	g_autoptr(GPtrArray) pool = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(JsonObject) metadata = NULL;
	g_autofree FirnSnapshotRow *rows = NULL;
	g_autofree FirnManifestFile *files = NULL;
	FirnSnapshotContent content = { 0 };

	if (s == NULL || (metadata = firn_snapshot_metadata(s, error)) == NULL)
		return NULL;
	rows = g_new0(FirnSnapshotRow, firn_snapshot_n_nodes(s) + 1);
	files = g_new0(FirnManifestFile, firn_snapshot_n_manifest_files(s) + 1);
	for (size_t i = 0; i < firn_snapshot_n_nodes(s); i++)
		fill_row(s, i, &rows[i], pool);
	for (size_t i = 0; i < firn_snapshot_n_manifest_files(s); i++)
		firn_snapshot_manifest_file(s, i, &files[i]);
	for (size_t i = 0; manifests != NULL && i < firn_snapshot_n_manifest_files(s); i++)
		measure(&files[i], manifests);
	content = (FirnSnapshotContent){ .id = *firn_snapshot_id(s),
					 .flushed_at = firn_snapshot_flushed_at(s),
					 .message = firn_snapshot_message(s),
					 .metadata = metadata,
					 .rows = rows,
					 .n_rows = firn_snapshot_n_nodes(s),
					 .files = files,
					 .n_files = firn_snapshot_n_manifest_files(s) };
	return firn_snapshot_encode(&content, 3, error);
}

/* ---- manifest ---- */

static bool
ref_json(const FirnRefs *refs, uint32_t i, JsonObject *out, GError **error)
{
	g_autoptr(GString) hex = g_string_new(NULL);
	g_autofree char *location = NULL;
	FirnRef ref;

	firn_refs_get(refs, i, &ref);
	json_object_set_array_member(out, "index",
				     coords_json(firn_refs_coords(refs, i), refs->rank));
	json_object_set_int_member(out, "length", (gint64)ref.length);
	if (ref.kind == FIRN_REF_INLINE) {
		for (size_t k = 0; k < ref.bytes.len; k++)
			g_string_append_printf(hex, "%02x", ref.bytes.data[k]);
		json_object_set_string_member(out, "hex", hex->str);
		json_object_set_string_member(out, "kind", "inline");
		return true;
	}
	json_object_set_int_member(out, "offset", (gint64)ref.offset);
	if (ref.kind == FIRN_REF_NATIVE) {
		json_object_set_string_member(out, "kind", "native");
		set_id12(out, "chunk_id", &ref.id);
		return true;
	}
	json_object_set_string_member(out, "kind", "virtual");
	location = firn_manifest_location(refs->manifest, &ref, error);
	if (location == NULL)
		return false;
	json_object_set_string_member(out, "location", location);
	if (ref.etag.data != NULL)
		set_text(out, "etag", ref.etag);
	else if (ref.last_modified != 0)
		json_object_set_int_member(out, "last_modified", ref.last_modified);
	return true;
}

static bool
dump_manifest(GBytes *file, JsonObject *out, GError **error)
{
	g_autoptr(FirnManifest) m = firn_manifest_open(file, error);
	JsonArray *arrays = json_array_new();

	json_object_set_array_member(out, "arrays", arrays);
	if (m == NULL)
		return false;
	set_id12(out, "id", firn_manifest_id(m));
	for (size_t a = 0; a < firn_manifest_n_arrays(m); a++) {
		JsonObject *array = json_object_new();
		JsonArray *list = json_array_new();
		FirnRefs refs;
		FirnId8 node;

		firn_manifest_array(m, a, &node, &refs);
		set_id8(array, "node_id", &node);
		json_object_set_array_member(array, "refs", list);
		json_array_add_object_element(arrays, array);
		for (uint32_t i = 0; i < refs.count; i++) {
			JsonObject *ref = json_object_new();

			json_array_add_object_element(list, ref);
			if (!ref_json(&refs, i, ref, error))
				return false;
		}
	}
	return true;
}

static GBytes *
reencode_manifest(GBytes *file, GError **error)
{
	g_autoptr(FirnManifest) m = firn_manifest_open(file, error);
	g_autoptr(FirnManifestWriter) w = NULL;
	FirnRefs refs;
	FirnId8 node;

	if (m == NULL)
		return NULL;
	g_assert(firn_manifest_n_arrays(m) == 1);
	firn_manifest_array(m, 0, &node, &refs);
	w = firn_manifest_writer_new(firn_manifest_id(m), &node, refs.rank, refs.count);
	for (uint32_t i = 0; i < refs.count; i++) {
		g_autofree char *location = NULL;
		FirnRef ref;

		firn_refs_get(&refs, i, &ref);
		if (ref.kind == FIRN_REF_VIRTUAL) {
			location = firn_manifest_location(m, &ref, error);
			if (location == NULL)
				return NULL;
			ref.location = (FirnSpan){ (const uint8_t *)location, strlen(location) };
			ref.location_compressed = false;
		}
		if (!firn_manifest_writer_add(w, firn_refs_coords(&refs, i), &ref, error))
			return NULL;
	}
	return firn_manifest_writer_finish(g_steal_pointer(&w), 3, error);
}

static GBytes *
virtual_manifest(uint32_t n, GError **error)
{
	static const FirnId8 node = { { 1, 2, 3, 4, 5, 6, 7, 8 } };
	g_autoptr(FirnManifestWriter) w =
		firn_manifest_writer_new(&firn_id_initial_snapshot, &node, 2, n);

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t coords[] = { i / 7, i % 7 };
		g_autofree char *location =
			g_strdup_printf("s3://bucket/model/run-%05u/temperature.nc", i / 3);
		g_autofree char *etag = g_strdup_printf("\"etag-%u\"", i);
		FirnRef ref = { .kind = FIRN_REF_VIRTUAL,
				.offset = (uint64_t)(i % 3) * 1000,
				.length = 1000 + i };

		ref.location = (FirnSpan){ (const uint8_t *)location, strlen(location) };
		if (i % 4 == 1)
			ref.etag = (FirnSpan){ (const uint8_t *)etag, strlen(etag) };
		else if (i % 4 == 2)
			ref.last_modified = 1700000000 + i;
		if (!firn_manifest_writer_add(w, coords, &ref, error))
			return NULL;
	}
	return firn_manifest_writer_finish(g_steal_pointer(&w), 3, error);
}

/* ---- transaction log ---- */

static const char *const list_names[FIRN_TXLOG_N_LISTS] = {
	"new_groups",     "new_arrays",     "deleted_groups",
	"deleted_arrays", "updated_arrays", "updated_groups",
};

static JsonArray *
moves_json(FirnTxlog *t)
{
	JsonArray *moves = json_array_new();

	for (size_t i = 0; i < firn_txlog_n_moves(t); i++) {
		JsonObject *out = json_object_new();
		FirnMove move;

		firn_txlog_move(t, i, &move);
		set_text(out, "from", move.from);
		set_text(out, "to", move.to);
		set_id8(out, "node_id", &move.node);
		json_object_set_string_member(out, "node_type",
					      move.kind == FIRN_NODE_ARRAY ? "array" : "group");
		json_array_add_object_element(moves, out);
	}
	return moves;
}

static bool
dump_txlog(GBytes *file, JsonObject *out, GError **error)
{
	g_autoptr(FirnTxlog) t = firn_txlog_open(file, error);
	JsonArray *arrays = json_array_new();

	json_object_set_array_member(out, "updated_chunks", arrays);
	if (t == NULL)
		return false;
	set_id12(out, "id", firn_txlog_id(t));
	json_object_set_array_member(out, "moved_nodes", moves_json(t));
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		JsonArray *ids = json_array_new();
		size_t n;
		const FirnId8 *at = firn_txlog_ids(t, (FirnTxlogList)list, &n);

		for (size_t i = 0; i < n; i++) {
			char text[FIRN_ID8_TEXT + 1];

			firn_id8_format(&at[i], text);
			add_text(ids, (FirnSpan){ (const uint8_t *)text, FIRN_ID8_TEXT });
		}
		json_object_set_array_member(out, list_names[list], ids);
	}
	for (size_t a = 0; a < firn_txlog_n_arrays(t); a++) {
		JsonObject *array = json_object_new();
		JsonArray *chunks = json_array_new();
		FirnId8 node;
		size_t n;

		firn_txlog_array(t, a, &node, &n);
		set_id8(array, "node_id", &node);
		json_object_set_array_member(array, "chunks", chunks);
		json_array_add_object_element(arrays, array);
		for (size_t i = 0; i < n; i++) {
			uint32_t rank;
			const uint32_t *coords = firn_txlog_chunk(t, a, i, &rank);

			json_array_add_array_element(chunks, coords_json(coords, rank));
		}
	}
	return true;
}

static int
compare_coords(const void *a, const void *b, void *rank)
{
	return firn_coords_compare(a, b, *(uint32_t *)rank);
}

static GBytes *
reencode_txlog(GBytes *file, GError **error)
{
	g_autoptr(FirnTxlog) t = firn_txlog_open(file, error);
	g_autoptr(GPtrArray) pool = g_ptr_array_new_with_free_func(g_free);
	g_autofree FirnTxlogArray *arrays = NULL;
	g_autofree FirnMove *moves = NULL;
	FirnTxlogContent content = { 0 };

	if (t == NULL)
		return NULL;
	content.id = *firn_txlog_id(t);
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		content.ids[list] = firn_txlog_ids(t, (FirnTxlogList)list, &content.n_ids[list]);
	content.n_moves = firn_txlog_n_moves(t);
	content.moves = moves = g_new0(FirnMove, content.n_moves + 1);
	for (size_t i = 0; i < content.n_moves; i++)
		firn_txlog_move(t, i, &moves[i]);
	content.n_arrays = firn_txlog_n_arrays(t);
	content.arrays = arrays = g_new0(FirnTxlogArray, content.n_arrays + 1);
	for (size_t a = 0; a < content.n_arrays; a++) {
		uint32_t *coords;
		uint32_t rank = 0;

		firn_txlog_array(t, a, &arrays[a].node, &arrays[a].n_chunks);
		coords = g_new0(uint32_t, arrays[a].n_chunks * FIRN_MAX_RANK + 1);
		g_ptr_array_add(pool, coords);
		for (size_t i = 0; i < arrays[a].n_chunks; i++) {
			const uint32_t *at = firn_txlog_chunk(t, a, i, &rank);

			memcpy(coords + i * rank, at, sizeof *at * rank);
		}
		if (rank > 0)
			qsort_r(coords, arrays[a].n_chunks, sizeof *coords * rank, compare_coords,
				&rank);
		arrays[a].rank = rank;
		arrays[a].coords = coords;
	}
	return firn_txlog_encode(&content, 3, error);
}

/* ---- commands ---- */

static bool
dump(GBytes *file, FirnKind kind, GError **error)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autoptr(JsonObject) out = json_object_new();
	g_autofree char *text = NULL;
	bool ok = false;

	if (kind == FIRN_KIND_SNAPSHOT)
		ok = dump_snapshot(file, out, error);
	else if (kind == FIRN_KIND_MANIFEST)
		ok = dump_manifest(file, out, error);
	else if (kind == FIRN_KIND_TXLOG)
		ok = dump_txlog(file, out, error);
	if (!ok)
		return false;
	json_node_set_object(node, out);
	text = json_to_string(node, FALSE);
	puts(text);
	return true;
}

static bool
reencode(GBytes *file, FirnKind kind, const char *path, const char *manifests, GError **error)
{
	g_autoptr(GBytes) out = NULL;

	if (kind == FIRN_KIND_SNAPSHOT)
		out = reencode_snapshot(file, manifests, error);
	else if (kind == FIRN_KIND_MANIFEST)
		out = reencode_manifest(file, error);
	else
		out = reencode_txlog(file, error);
	return out != NULL && g_file_set_contents(path, g_bytes_get_data(out, NULL),
						  (gssize)g_bytes_get_size(out), error);
}

static bool
run(int argc, char **argv, GError **error)
{
	g_autoptr(GBytes) file = NULL;
	g_autoptr(GBytes) payload = NULL;
	FirnEnvelope envelope;
	char *data;
	gsize size;

	if (argc == 4 && strcmp(argv[1], "virtual") == 0) {
		file = virtual_manifest((uint32_t)strtoul(argv[3], NULL, 10), error);
		return file != NULL && g_file_set_contents(argv[2], g_bytes_get_data(file, NULL),
							   (gssize)g_bytes_get_size(file), error);
	}
	if (argc < 3 || !g_file_get_contents(argv[2], &data, &size, error))
		return false;
	file = g_bytes_new_take(data, size);
	payload = firn_envelope_open(file, 0x7fffffff, &envelope, error);
	if (payload == NULL)
		return false;
	if (argc >= 4 && strcmp(argv[1], "reencode") == 0)
		return reencode(file, envelope.kind, argv[3], argc > 4 ? argv[4] : NULL, error);
	return dump(file, envelope.kind, error);
}

int
main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;

	if (run(argc, argv, &error))
		return 0;
	fprintf(stderr, "format_tool: %s\n", error != NULL ? error->message : "usage");
	return 1;
}
