#include "core/zarr/meta.h"

#include "core/base/error.h"
#include "core/base/json_check.h"
#include "core/zarr/edges.h"
#include "core/zarr/json_hash.h"

#include <json-glib/json-glib.h>
#include <string.h>
#include <xxhash.h>

#define MAX_DEPTH 128u

/* The members that are looked at, as written; a name given twice means the last. */
struct members {
	FirnSpan zarr_format;
	FirnSpan node_type;
	FirnSpan shape;
	FirnSpan data_type;
	FirnSpan chunk_grid;
	FirnSpan chunk_key_encoding;
	FirnSpan codecs;
	FirnSpan dimension_names;
	FirnSpan consolidated;
};

static bool refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool
refuse(GError **error, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "zarr.json: %s", text);
	return false;
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static void
collect(FirnSpan text, struct members *out)
{
	const struct {
		const char *name;
		FirnSpan *to;
	} wanted[] = {
		{ "zarr_format", &out->zarr_format },
		{ "node_type", &out->node_type },
		{ "shape", &out->shape },
		{ "data_type", &out->data_type },
		{ "chunk_grid", &out->chunk_grid },
		{ "chunk_key_encoding", &out->chunk_key_encoding },
		{ "codecs", &out->codecs },
		{ "dimension_names", &out->dimension_names },
		{ "consolidated_metadata", &out->consolidated },
	};
	FirnJsonMembers members = firn_json_members(text);

	while (firn_json_members_next(&members))
		for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++)
			if (firn_json_members_named(&members, wanted[i].name))
				*wanted[i].to = members.value;
}

/* Only the few members that matter become trees: attributes can be megabytes. */
static JsonNode *
tree_of(FirnSpan value, const char *name, GError **error)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autoptr(GError) why = NULL;
	JsonNode *root;

	if (value.data == NULL) {
		refuse(error, "the member \"%s\" is missing", name);
		return NULL;
	}
	if (!json_parser_load_from_data(parser, (const char *)value.data, (gssize)value.len,
					&why)) {
		refuse(error, "the member \"%s\" cannot be read: %s", name, why->message);
		return NULL;
	}
	root = json_parser_steal_root(parser);
	if (root == NULL)
		refuse(error, "the member \"%s\" is empty", name);
	return root;
}

static bool
is_string(JsonNode *node)
{
	return node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
	       json_node_get_value_type(node) == G_TYPE_STRING;
}

/* A whole number that is not negative. */
static bool
get_count(JsonNode *node, uint64_t *out)
{
	if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_INT64 || json_node_get_int(node) < 0)
		return false;
	*out = (uint64_t)json_node_get_int(node);
	return true;
}

/* ---- shape and chunk grid ---- */

static bool
read_shape(FirnMeta *meta, FirnSpan value, GError **error)
{
	g_autoptr(JsonNode) node = tree_of(value, "shape", error);
	JsonArray *shape;

	if (node == NULL)
		return false;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return refuse(error, "\"shape\" is not a list");
	shape = json_node_get_array(node);
	if (json_array_get_length(shape) > FIRN_MAX_RANK)
		return refuse(error, "\"shape\" has %u axes, %u is the most",
			      json_array_get_length(shape), FIRN_MAX_RANK);
	meta->rank = json_array_get_length(shape);
	meta->lengths = g_new0(uint64_t, meta->rank + 1);
	meta->n_chunks = g_new0(uint32_t, meta->rank + 1);
	for (uint32_t i = 0; i < meta->rank; i++)
		if (!get_count(json_array_get_element(shape, i), &meta->lengths[i]))
			return refuse(error, "\"shape\" item %u is no length", i);
	return true;
}

static bool
set_chunks(FirnMeta *meta, uint32_t axis, uint64_t n, GError **error)
{
	if (n > UINT32_MAX)
		return refuse(error, "axis %u has more than %u chunks; use larger chunks", axis,
			      UINT32_MAX);
	meta->n_chunks[axis] = (uint32_t)n;
	return true;
}

/* Chunks of one size along an axis. */
static bool
set_even(FirnMeta *meta, uint32_t axis, uint64_t size, GError **error)
{
	uint64_t n = 0;

	if (size != 0 && meta->lengths[axis] != 0)
		n = (meta->lengths[axis] - 1) / size + 1;
	return set_chunks(meta, axis, n, error);
}

static bool
read_regular(FirnMeta *meta, JsonArray *sizes, GError **error)
{
	for (uint32_t i = 0; i < meta->rank; i++) {
		uint64_t size;

		if (!get_count(json_array_get_element(sizes, i), &size))
			return refuse(error, "\"chunk_shape\" item %u is no length", i);
		if (!set_even(meta, i, size, error))
			return false;
	}
	return true;
}

/* The chunks an item stands for: a length is one, [length, count] is count. */
static bool
read_edge(JsonNode *edge, uint64_t *out_size, uint64_t *out_count)
{
	JsonArray *pair;

	*out_count = 1;
	if (get_count(edge, out_size))
		return true;
	if (edge == NULL || !JSON_NODE_HOLDS_ARRAY(edge))
		return false;
	pair = json_node_get_array(edge);
	return json_array_get_length(pair) == 2 &&
	       get_count(json_array_get_element(pair, 0), out_size) &&
	       get_count(json_array_get_element(pair, 1), out_count);
}

static bool
read_edges(FirnMeta *meta, uint32_t i, JsonArray *edges, GError **error)
{
	uint64_t n = 0;

	for (guint k = 0; k < json_array_get_length(edges); k++) {
		uint64_t size;
		uint64_t count;

		if (!read_edge(json_array_get_element(edges, k), &size, &count))
			return refuse(error, "\"chunk_shapes\" item %u is not a list of lengths",
				      i);
		/* Bounded after each step, so that the sum cannot wrap. */
		n += MIN(count, (uint64_t)UINT32_MAX + 1);
		if (!set_chunks(meta, i, n, error))
			return false;
		firn_edges_add(meta->edges, i, size, (uint32_t)count);
	}
	return true;
}

static bool
read_rectilinear(FirnMeta *meta, JsonArray *axes, GError **error)
{
	meta->edges = g_array_new(FALSE, FALSE, sizeof(FirnEdgeRun));
	for (uint32_t i = 0; i < meta->rank; i++) {
		JsonNode *axis = json_array_get_element(axes, i);
		uint64_t size;

		/* A bare length is an axis cut evenly, as zarr-python writes it. */
		if (get_count(axis, &size)) {
			if (!set_even(meta, i, size, error))
				return false;
			firn_edges_add(meta->edges, i, size, meta->n_chunks[i]);
			continue;
		}
		if (!JSON_NODE_HOLDS_ARRAY(axis))
			return refuse(error, "\"chunk_shapes\" item %u is not a list of lengths",
				      i);
		if (!read_edges(meta, i, json_node_get_array(axis), error))
			return false;
	}
	return true;
}

static bool
read_grid(FirnMeta *meta, JsonNode *node, GError **error)
{
	JsonObject *grid;
	JsonNode *name;
	JsonNode *config;
	JsonNode *list;
	const char *member;
	bool regular;

	if (!JSON_NODE_HOLDS_OBJECT(node))
		return refuse(error, "\"chunk_grid\" is not an object");
	grid = json_node_get_object(node);
	name = json_object_get_member(grid, "name");
	if (!is_string(name))
		return refuse(error, "\"chunk_grid\" has no name");
	regular = strcmp(json_node_get_string(name), "regular") == 0;
	if (!regular && strcmp(json_node_get_string(name), "rectilinear") != 0)
		return refuse(error, "\"chunk_grid\" is neither regular nor rectilinear: \"%s\"",
			      json_node_get_string(name));
	member = regular ? "chunk_shape" : "chunk_shapes";
	config = json_object_get_member(grid, "configuration");
	list = config != NULL && JSON_NODE_HOLDS_OBJECT(config)
		       ? json_object_get_member(json_node_get_object(config), member)
		       : NULL;
	if (list == NULL || !JSON_NODE_HOLDS_ARRAY(list))
		return refuse(error, "\"chunk_grid\" has no list \"%s\"", member);
	if (json_array_get_length(json_node_get_array(list)) != meta->rank)
		return refuse(error, "\"%s\" has %u items, \"shape\" has %u", member,
			      json_array_get_length(json_node_get_array(list)), meta->rank);
	return regular ? read_regular(meta, json_node_get_array(list), error)
		       : read_rectilinear(meta, json_node_get_array(list), error);
}

static bool
read_dimension_names(FirnMeta *meta, FirnSpan value, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonArray *names;

	if (value.data == NULL)
		return true;
	node = tree_of(value, "dimension_names", error);
	if (node == NULL)
		return false;
	if (JSON_NODE_HOLDS_NULL(node))
		return true;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return refuse(error, "\"dimension_names\" is not a list");
	names = json_node_get_array(node);
	if (json_array_get_length(names) != meta->rank)
		return refuse(error, "\"dimension_names\" has %u items, \"shape\" has %u",
			      json_array_get_length(names), meta->rank);
	meta->has_dimension_names = true;
	meta->dimension_names = g_new0(char *, meta->rank + 1);
	for (uint32_t i = 0; i < meta->rank; i++) {
		JsonNode *name = json_array_get_element(names, i);

		if (JSON_NODE_HOLDS_NULL(name))
			continue;
		if (!is_string(name) || !g_utf8_validate(json_node_get_string(name), -1, NULL))
			return refuse(error, "\"dimension_names\" item %u is no text", i);
		meta->dimension_names[i] = g_strdup(json_node_get_string(name));
	}
	return true;
}

/* Only `default` with "/", which is also what an absent member means. */
static bool
check_encoding(FirnSpan value, GError **error)
{
	static const char hint[] =
		"\"chunk_key_encoding\" must be \"default\" with the separator \"/\"";
	g_autoptr(JsonNode) node = NULL;
	JsonNode *name;
	JsonNode *config;
	JsonNode *separator;

	if (value.data == NULL)
		return true;
	node = tree_of(value, "chunk_key_encoding", error);
	if (node == NULL)
		return false;
	name = JSON_NODE_HOLDS_OBJECT(node)
		       ? json_object_get_member(json_node_get_object(node), "name")
		       : node;
	if (!is_string(name) || strcmp(json_node_get_string(name), "default") != 0)
		return refuse(error, "%s", hint);
	config = JSON_NODE_HOLDS_OBJECT(node)
			 ? json_object_get_member(json_node_get_object(node), "configuration")
			 : NULL;
	if (config == NULL)
		return true;
	if (!JSON_NODE_HOLDS_OBJECT(config))
		return refuse(error, "%s", hint);
	separator = json_object_get_member(json_node_get_object(config), "separator");
	if (separator == NULL)
		return true;
	if (!is_string(separator) || strcmp(json_node_get_string(separator), "/") != 0)
		return refuse(error, "%s", hint);
	return true;
}

/* ---- geometry ---- */

static bool
hash_member(XXH3_state_t *state, FirnSpan value, const char *name, GError **error)
{
	g_autoptr(JsonNode) node = NULL;

	firn_json_hash_text(state, 'm', name);
	if (value.data == NULL)
		return true;
	node = tree_of(value, name, error);
	if (node == NULL)
		return false;
	firn_json_hash(state, node);
	return true;
}

static bool
hash_geometry(FirnMeta *meta, const struct members *members, JsonNode *grid, GError **error)
{
	XXH3_state_t *state = XXH3_createState();
	bool ok;

	g_assert(state != NULL);
	XXH3_64bits_reset(state);
	XXH3_64bits_update(state, &meta->rank, sizeof meta->rank);
	/* Edges are compared one by one. */
	if (meta->edges != NULL)
		firn_json_hash_text(state, 'm', "rectilinear");
	else
		firn_json_hash(state, grid);
	/* One chunk key encoding is accepted, so it adds nothing. */
	ok = hash_member(state, members->data_type, "data_type", error) &&
	     hash_member(state, members->codecs, "codecs", error);
	meta->geometry = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return ok;
}

/* ---- documents ---- */

static bool
read_array(FirnMeta *meta, const struct members *members, GError **error)
{
	g_autoptr(JsonNode) grid = NULL;

	meta->kind = FIRN_NODE_ARRAY;
	if (!read_shape(meta, members->shape, error))
		return false;
	grid = tree_of(members->chunk_grid, "chunk_grid", error);
	return grid != NULL && read_grid(meta, grid, error) &&
	       read_dimension_names(meta, members->dimension_names, error) &&
	       check_encoding(members->chunk_key_encoding, error) &&
	       hash_geometry(meta, members, grid, error);
}

static bool
read_document(FirnMeta *meta, const struct members *members, GError **error)
{
	g_autoptr(JsonNode) format = tree_of(members->zarr_format, "zarr_format", error);
	g_autoptr(JsonNode) type = NULL;
	uint64_t version;

	if (format == NULL)
		return false;
	if (!get_count(format, &version) || version != 3)
		return refuse(error, "\"zarr_format\" is not 3; only Zarr version 3 can be stored");
	type = tree_of(members->node_type, "node_type", error);
	if (type == NULL)
		return false;
	if (is_string(type) && strcmp(json_node_get_string(type), "array") == 0)
		return read_array(meta, members, error);
	if (!is_string(type) || strcmp(json_node_get_string(type), "group") != 0)
		return refuse(error, "\"node_type\" is neither \"array\" nor \"group\"");
	meta->kind = FIRN_NODE_GROUP;
	meta->has_consolidated = members->consolidated.data != NULL;
	return true;
}

FirnMeta *
firn_meta_parse(GBytes *raw, GError **error)
{
	g_autoptr(FirnMeta) meta = NULL;
	struct members members = { 0 };
	FirnSpan text = span_of(raw);
	size_t offset;
	const char *wrong = firn_json_check(text, MAX_DEPTH, &offset);

	if (wrong != NULL) {
		refuse(error, "not JSON: %s at byte %zu", wrong, offset);
		return NULL;
	}
	collect(text, &members);
	if (members.node_type.data == NULL && members.zarr_format.data == NULL) {
		refuse(error, "not an object with \"zarr_format\" and \"node_type\"");
		return NULL;
	}
	meta = g_new0(FirnMeta, 1);
	g_atomic_ref_count_init(&meta->ref_count);
	meta->raw = g_bytes_ref(raw);
	if (!read_document(meta, &members, error))
		return NULL;
	return g_steal_pointer(&meta);
}

FirnMeta *
firn_meta_ref(FirnMeta *meta)
{
	g_atomic_ref_count_inc(&meta->ref_count);
	return meta;
}

void
firn_meta_unref(FirnMeta *meta)
{
	if (meta == NULL || !g_atomic_ref_count_dec(&meta->ref_count))
		return;
	/* Names may be missing in the middle, so the list is no string vector. */
	for (uint32_t i = 0; meta->dimension_names != NULL && i < meta->rank; i++)
		g_free(meta->dimension_names[i]);
	g_free(meta->dimension_names);
	g_free(meta->lengths);
	g_free(meta->n_chunks);
	g_clear_pointer(&meta->edges, g_array_unref);
	g_bytes_unref(meta->raw);
	g_free(meta);
}

bool
firn_meta_equal(const FirnMeta *a, const FirnMeta *b)
{
	return a == b || g_bytes_equal(a->raw, b->raw);
}

bool
firn_meta_same_geometry(const FirnMeta *a, const FirnMeta *b)
{
	if (a->geometry != b->geometry || (a->edges == NULL) != (b->edges == NULL))
		return false;
	return a->edges == NULL || firn_edges_match(a->edges, b->edges, a->rank);
}

bool
firn_meta_contains(const FirnMeta *meta, const uint32_t *coords, uint32_t rank)
{
	if (meta->kind != FIRN_NODE_ARRAY || rank != meta->rank)
		return false;
	for (uint32_t i = 0; i < rank; i++)
		if (coords[i] >= meta->n_chunks[i])
			return false;
	return true;
}

GBytes *
firn_meta_strip_consolidated(GBytes *raw)
{
	g_autoptr(GBytes) current = g_bytes_ref(raw);
	size_t from;
	size_t to;

	/* Once more if the name is there twice: nothing of it may stay. */
	while (firn_json_find_member(span_of(current), "consolidated_metadata", &from, &to)) {
		FirnSpan text = span_of(current);
		GByteArray *kept = g_byte_array_sized_new((guint)(text.len - (to - from)));

		g_byte_array_append(kept, text.data, (guint)from);
		g_byte_array_append(kept, text.data + to, (guint)(text.len - to));
		g_bytes_unref(current);
		current = g_byte_array_free_to_bytes(kept);
	}
	return g_steal_pointer(&current);
}

FirnMeta *
firn_meta_minimal_group(void)
{
	static const char text[] = "{\"zarr_format\":3,\"node_type\":\"group\"}";
	g_autoptr(GBytes) raw = g_bytes_new_static(text, sizeof text - 1);
	FirnMeta *meta = firn_meta_parse(raw, NULL);

	g_assert(meta != NULL);
	return meta;
}
