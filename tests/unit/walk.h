#ifndef FIRN_TESTS_UNIT_WALK_H
#define FIRN_TESTS_UNIT_WALK_H

#include "core/base/error.h"
#include "core/format/envelope.h"
#include "core/format/manifest.h"
#include "core/format/snapshot.h"
#include "core/format/txlog.h"

#include <string.h>

/*
 * Calls everything there is to call on an opened file and asserts what its
 * header promises: for fuzz targets and for sweeps over damaged files.
 */

/* A file with `payload` as it is, uncompressed.  Caller owns. */
static inline GBytes *
walk_wrap(const uint8_t *payload, size_t size, uint8_t version, FirnKind kind)
{
	uint8_t *file = g_malloc(FIRN_ENVELOPE_SIZE + size);

	memcpy(file,
	       "ICE\xF0\x9F\xA7\x8A"
	       "CHUNK",
	       12);
	memset(file + 12, ' ', 24);
	file[36] = version;
	file[37] = (uint8_t)kind;
	file[38] = 0;
	if (size > 0)
		memcpy(file + FIRN_ENVELOPE_SIZE, payload, size);
	return g_bytes_new_take(file, FIRN_ENVELOPE_SIZE + size);
}

static inline uint64_t
walk_bytes(FirnSpan bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < bytes.len; i++)
		sum = sum * 31 + bytes.data[i];
	return sum;
}

static inline void
walk_error(const void *result, const GError *error)
{
	g_assert((result == NULL) == (error != NULL));
	if (error != NULL)
		g_assert(error->domain == FIRN_ERROR && error->message[0] != '\0' &&
			 (error->code == FIRN_ERROR_FORMAT || error->code == FIRN_ERROR_LIMIT ||
			  error->code == FIRN_ERROR_UNSUPPORTED));
}

static inline uint64_t
walk_node(FirnSnapshot *s, size_t index, FirnSpan previous)
{
	FirnSnapshotNode node;
	uint64_t sum;
	size_t at;
	g_autofree char **names = NULL;

	firn_snapshot_node(s, index, &node);
	sum = walk_bytes(node.path) + walk_bytes(node.meta);
	g_assert(node.path.len > 0 && node.path.data[0] == '/' && node.rank <= FIRN_MAX_RANK);
	g_assert(index == 0 ||
		 memcmp(previous.data, node.path.data, MIN(previous.len, node.path.len)) <= 0);
	g_assert(firn_snapshot_find_path(s, (const char *)node.path.data, node.path.len, &at) &&
		 at == index);
	g_assert(firn_snapshot_find_id(s, &node.id, &at) && at <= index);
	names = firn_snapshot_node_dimension_names(s, &node);
	for (uint32_t axis = 0; axis < node.rank; axis++) {
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(s, &node, axis, &length, &n_chunks);
		sum += length + n_chunks;
		if (names != NULL && names[axis] != NULL)
			sum += strlen(names[axis]);
	}
	for (uint32_t i = 0; i < node.n_manifests; i++) {
		FirnExtent extents[FIRN_MAX_RANK] = { { 0, 0 } };
		FirnId12 id;

		firn_snapshot_node_manifest(s, &node, i, &id, extents);
		sum += id.bytes[0] + extents[0].to;
	}
	return sum;
}

static inline uint64_t
walk_snapshot(GBytes *file)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) s = firn_snapshot_open(file, &error);
	g_autoptr(GError) meta_error = NULL;
	FirnSpan previous = { NULL, 0 };
	FirnId12 parent;
	JsonObject *metadata;
	uint64_t sum = 0;
	size_t at;

	walk_error(s, error);
	if (s == NULL)
		return 0;
	metadata = firn_snapshot_metadata(s, &meta_error);
	walk_error(metadata, meta_error);
	g_clear_pointer(&metadata, json_object_unref);
	sum += firn_snapshot_id(s)->bytes[0] + firn_snapshot_flushed_at(s);
	sum += strlen(firn_snapshot_message(s)) + firn_snapshot_parent(s, &parent);
	for (size_t i = 0; i < firn_snapshot_n_nodes(s); i++) {
		FirnSnapshotNode node;

		sum += walk_node(s, i, previous);
		firn_snapshot_node(s, i, &node);
		previous = node.path;
	}
	for (size_t i = 0; i < firn_snapshot_n_manifest_files(s); i++) {
		FirnManifestFile f, again;

		firn_snapshot_manifest_file(s, i, &f);
		g_assert(firn_snapshot_find_manifest_file(s, &f.id, &at));
		firn_snapshot_manifest_file(s, at, &again);
		g_assert(firn_id12_compare(&f.id, &again.id) == 0);
	}
	(void)firn_snapshot_find_path(s, "/no/such/node", 13, &at);
	g_assert(at <= firn_snapshot_n_nodes(s));
	return sum + 1;
}

static inline uint64_t
walk_refs(const FirnRefs *refs)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < refs->count; i++) {
		const uint32_t *coords = firn_refs_coords(refs, i);
		g_autofree char *location = NULL;
		g_autoptr(GError) error = NULL;
		FirnRef ref;
		uint32_t at = UINT32_MAX;

		g_assert(firn_refs_find(refs, coords, &at) && at == i);
		g_assert(firn_refs_lower_bound(refs, coords, refs->rank / 2) <= i);
		firn_refs_get(refs, i, &ref);
		g_assert(ref.kind != FIRN_REF_NONE && ref.offset + ref.length <= INT64_MAX);
		sum += walk_bytes(ref.bytes) + walk_bytes(ref.etag) + ref.id.bytes[0];
		if (ref.kind != FIRN_REF_VIRTUAL)
			continue;
		location = firn_manifest_location(refs->manifest, &ref, &error);
		walk_error(location, error);
		sum += location != NULL ? strlen(location) : 0;
	}
	return sum;
}

/* Whatever is taken over as a block says the same where it comes to lie. */
static inline void
walk_block(const FirnRefs *refs, const FirnId8 *node, uint64_t sum)
{
	g_autoptr(FirnManifest) m = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnManifestWriter *writer;
	FirnManifestBlock block;
	FirnRefs again;

	if (!firn_manifest_block(refs, &block))
		return;
	writer = firn_manifest_writer_new(firn_manifest_id(refs->manifest), node, refs->rank,
					  refs->count);
	firn_manifest_writer_splice(writer, &block);
	firn_manifest_writer_take(writer, 0, refs->count);
	file = firn_manifest_writer_finish(writer, 1, &error);
	g_assert(file != NULL);
	m = firn_manifest_open(file, &error);
	g_assert(m != NULL || error->code == FIRN_ERROR_LIMIT);
	if (m == NULL)
		return;
	g_assert(firn_manifest_find(m, node, &again) && again.count == refs->count);
	g_assert(walk_refs(&again) == sum);
}

static inline uint64_t
walk_manifest(GBytes *file)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnManifest) m = firn_manifest_open(file, &error);
	uint64_t sum = 0;

	walk_error(m, error);
	if (m == NULL)
		return 0;
	sum += firn_manifest_id(m)->bytes[0] + firn_manifest_size(m);
	for (size_t i = 0; i < firn_manifest_n_arrays(m); i++) {
		FirnRefs refs, again;
		uint64_t of_refs;
		FirnId8 node;

		firn_manifest_array(m, i, &node, &refs);
		g_assert(refs.rank <= FIRN_MAX_RANK);
		g_assert(firn_manifest_find(m, &node, &again) && again.position == refs.position);
		of_refs = walk_refs(&refs);
		walk_block(&refs, &node, of_refs);
		sum += of_refs;
	}
	return sum + 1;
}

static inline uint64_t
walk_txlog(GBytes *file)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnTxlog) t = firn_txlog_open(file, &error);
	uint64_t sum = 1;

	walk_error(t, error);
	if (t == NULL)
		return 0;
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(t, (FirnTxlogList)list, &n);

		for (size_t i = 0; i < n; i++)
			g_assert(firn_txlog_has_id(t, (FirnTxlogList)list, &ids[i]));
	}
	for (size_t i = 0; i < firn_txlog_n_arrays(t); i++) {
		FirnId8 node;
		size_t n, at;

		firn_txlog_array(t, i, &node, &n);
		g_assert(firn_txlog_find_array(t, &node, &at) && at == i);
		for (size_t k = 0; k < n; k++) {
			uint32_t rank;
			const uint32_t *coords = firn_txlog_chunk(t, i, k, &rank);

			g_assert(rank <= FIRN_MAX_RANK);
			for (uint32_t axis = 0; axis < rank; axis++)
				sum += coords[axis];
		}
	}
	for (size_t i = 0; i < firn_txlog_n_moves(t); i++) {
		FirnMove move;

		firn_txlog_move(t, i, &move);
		g_assert(move.kind == FIRN_NODE_ARRAY || move.kind == FIRN_NODE_GROUP);
		sum += walk_bytes(move.from) + walk_bytes(move.to) + move.node.bytes[0];
	}
	return sum;
}

#endif
