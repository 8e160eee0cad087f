#include "tools/changes_text.h"

#include "core/zarr/name.h"

#include <stdio.h>
#include <string.h>

const char *
firn_ref_kind_name(FirnRefKind kind)
{
	switch (kind) {
	case FIRN_REF_NONE:
		return "deleted";
	case FIRN_REF_INLINE:
		return "inline";
	case FIRN_REF_NATIVE:
		return "native";
	case FIRN_REF_VIRTUAL:
		return "virtual";
	}
	return "unknown";
}

static const char *
change_name(const FirnNodeChange *node)
{
	switch (node->kind) {
	case FIRN_CHANGE_CHUNKS:
		return "chunks";
	case FIRN_CHANGE_PUT:
		return node->created ? "new" : "changed";
	case FIRN_CHANGE_DELETE:
		return "deleted";
	}
	return "unknown";
}

static const char *
node_kind(const FirnNodeChange *node)
{
	if (node->meta)
		return node->meta->kind == FIRN_NODE_ARRAY ? "array" : "group";
	return node->kind == FIRN_CHANGE_CHUNKS ? "array" : "node";
}

static void
print_chunks(const FirnNodeChange *node, const char *indent)
{
	FirnChunkIter iter;
	FirnChunkChange *change;
	const uint32_t *coords;

	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		g_autofree char *name =
			firn_name_format_chunk(coords, firn_chunk_map_rank(node->chunks));

		printf("%s    %s  %s", indent, name, firn_ref_kind_name((FirnRefKind)change->kind));
		if (change->kind != FIRN_REF_NONE)
			printf("  %" G_GUINT64_FORMAT, firn_chunk_change_length(change));
		putchar('\n');
	}
}

void
firn_changes_print(const FirnChanges *changes, bool chunks, const char *indent)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(changes);
	GHashTableIter iter;
	gpointer key;

	for (guint i = 0; i < nodes->len; i++) {
		const FirnNodeChange *node = g_ptr_array_index(nodes, i);
		g_autofree char *path = firn_text_escape(node->path, strlen(node->path));
		size_t n = node->chunks ? firn_chunk_map_size(node->chunks) : 0;

		printf("%s%-7s %s %s", indent, change_name(node), node_kind(node), path);
		if (n)
			printf("  %" G_GSIZE_FORMAT " chunk%s", n, n == 1 ? "" : "s");
		putchar('\n');
		if (chunks && node->chunks)
			print_chunks(node, indent);
	}
	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		g_autofree char *path = firn_text_escape(key, strlen(key));

		printf("%spending file %s\n", indent, path);
	}
	g_hash_table_iter_init(&iter, changes->dropped);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		g_autofree char *path = firn_text_escape(key, strlen(key));

		printf("%spending file %s: gone\n", indent, path);
	}
}

void
firn_json_coords(JsonBuilder *builder, const uint32_t *coords, uint32_t rank)
{
	json_builder_set_member_name(builder, "coords");
	json_builder_begin_array(builder);
	for (uint32_t i = 0; i < rank; i++)
		json_builder_add_int_value(builder, coords[i]);
	json_builder_end_array(builder);
}

static void
chunks_to_json(FirnChunkMap *map, JsonBuilder *builder)
{
	FirnChunkIter iter;
	FirnChunkChange *change;
	const uint32_t *coords;

	json_builder_set_member_name(builder, "chunks");
	json_builder_begin_array(builder);
	if (map)
		firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (map && firn_chunk_iter_next(&iter, &coords, &change)) {
		char id[FIRN_ID12_TEXT + 1];

		json_builder_begin_object(builder);
		firn_json_coords(builder, coords, firn_chunk_map_rank(map));
		firn_json_string(builder, "ref", firn_ref_kind_name((FirnRefKind)change->kind));
		if (change->kind != FIRN_REF_NONE)
			firn_json_int(builder, "length", (int64_t)firn_chunk_change_length(change));
		if (change->kind == FIRN_REF_NATIVE) {
			firn_id12_format(firn_chunk_change_id(change), id);
			firn_json_string(builder, "id", id);
		} else if (change->kind == FIRN_REF_VIRTUAL) {
			g_autofree char *location = NULL;
			FirnRef ref;

			firn_chunk_change_get(change, &ref);
			location = g_strndup((const char *)ref.location.data, ref.location.len);
			firn_json_string(builder, "location", location);
			firn_json_int(builder, "offset", (int64_t)ref.offset);
		}
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
}

static void
document_to_json(const FirnMeta *meta, JsonBuilder *builder)
{
	size_t len;
	const char *text = g_bytes_get_data(meta->raw, &len);
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonNode *root = NULL;

	if (json_parser_load_from_data(parser, text, (gssize)len, NULL))
		root = json_parser_steal_root(parser);
	if (!root)
		return;
	json_builder_set_member_name(builder, "document");
	json_builder_add_value(builder, root);
}

void
firn_changes_to_json(const FirnChanges *changes, JsonBuilder *builder)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(changes);
	GHashTableIter iter;
	gpointer key;

	json_builder_set_member_name(builder, "nodes");
	json_builder_begin_array(builder);
	for (guint i = 0; i < nodes->len; i++) {
		const FirnNodeChange *node = g_ptr_array_index(nodes, i);
		char id[FIRN_ID8_TEXT + 1];

		firn_id8_format(&node->id, id);
		json_builder_begin_object(builder);
		firn_json_string(builder, "path", node->path);
		firn_json_string(builder, "id", id);
		firn_json_string(builder, "kind", node_kind(node));
		firn_json_string(builder, "change", change_name(node));
		if (node->meta)
			document_to_json(node->meta, builder);
		chunks_to_json(node->chunks, builder);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
	json_builder_set_member_name(builder, "pending");
	json_builder_begin_array(builder);
	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		g_autofree char *valid = g_utf8_make_valid(key, -1);

		json_builder_add_string_value(builder, valid);
	}
	json_builder_end_array(builder);
	json_builder_set_member_name(builder, "dropped");
	json_builder_begin_array(builder);
	g_hash_table_iter_init(&iter, changes->dropped);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		g_autofree char *valid = g_utf8_make_valid(key, -1);

		json_builder_add_string_value(builder, valid);
	}
	json_builder_end_array(builder);
}
