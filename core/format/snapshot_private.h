#ifndef FIRN_CORE_FORMAT_SNAPSHOT_PRIVATE_H
#define FIRN_CORE_FORMAT_SNAPSHOT_PRIVATE_H

#include "core/flat/reader.h"
#include "core/format/snapshot.h"

/* What the snapshot's reading files share. */

/* Field ids, as the schema numbers them. */
enum {
	FIRN_SNAP_ID,
	FIRN_SNAP_PARENT,
	FIRN_SNAP_NODES,
	FIRN_SNAP_FLUSHED,
	FIRN_SNAP_MESSAGE,
	FIRN_SNAP_META,
	FIRN_SNAP_FILES_V1,
	FIRN_SNAP_FILES
};
enum {
	FIRN_SNAP_NODE_ID,
	FIRN_SNAP_NODE_PATH,
	FIRN_SNAP_NODE_META,
	FIRN_SNAP_NODE_KIND,
	FIRN_SNAP_NODE_DATA
};
enum {
	FIRN_SNAP_ARRAY_SHAPE_V1,
	FIRN_SNAP_ARRAY_DIM_NAMES,
	FIRN_SNAP_ARRAY_MANIFESTS,
	FIRN_SNAP_ARRAY_SHAPE
};
enum {
	FIRN_SNAP_DIM_LENGTH,
	FIRN_SNAP_DIM_CHUNKS
};
enum {
	FIRN_SNAP_REF_ID,
	FIRN_SNAP_REF_EXTENTS
};
enum {
	FIRN_SNAP_FILE_ID,
	FIRN_SNAP_FILE_SIZE,
	FIRN_SNAP_FILE_REFS
};
enum {
	FIRN_SNAP_ITEM_NAME,
	FIRN_SNAP_ITEM_VALUE
};

/* Version 1 structs: offsets of their members. */
#define FIRN_SNAP_FILE_V1_SIZE     32u
#define FIRN_SNAP_FILE_V1_BYTES_AT 16u
#define FIRN_SNAP_FILE_V1_REFS_AT  24u
#define FIRN_SNAP_DIM_V1_SIZE      16u
#define FIRN_SNAP_DIM_V1_CHUNK_AT  8u
#define FIRN_SNAP_EXTENT_SIZE      8u

/* An order other than the stored one; built under `lock`, then never changed. */
typedef struct {
	pthread_mutex_t lock;
	_Atomic(uint32_t *) nodes; /* by id; NULL: not built yet */
} IdIndex;

struct FirnSnapshot {
	gint refs;
	GBytes *payload;
	FirnSpan b;
	size_t root;
	size_t nodes;
	size_t files; /* of tables, or of structs if `files_v1` */
	bool files_v1;
	uint8_t spec_version;
	char *message;
	uint32_t *files_by_id; /* NULL: they are stored in that order */
	IdIndex *by_id;
};

/* ---- shape ---- */

static inline size_t
firn_snapshot_private_array(const FirnSnapshot *s, size_t table)
{
	return firn_flat_get_child(s->b, table, FIRN_SNAP_NODE_DATA);
}

static inline uint32_t
firn_snapshot_private_rank(const FirnSnapshot *s, size_t array)
{
	if (firn_flat_has(s->b, array, FIRN_SNAP_ARRAY_SHAPE))
		return firn_flat_count(s->b,
				       firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_SHAPE));
	return firn_flat_count(s->b, firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_SHAPE_V1));
}

/* False if a version 1 shape makes no sense. */
static inline bool
firn_snapshot_private_dim(const FirnSnapshot *s, size_t array, uint32_t axis, uint64_t *out_length,
			  uint32_t *out_n_chunks)
{
	size_t shape = firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_SHAPE);
	const uint8_t *dim;
	uint64_t chunk, n;

	if (shape != 0) {
		size_t table = firn_flat_item(s->b, shape, axis);

		*out_length = firn_flat_get_u64(s->b, table, FIRN_SNAP_DIM_LENGTH, 0);
		*out_n_chunks = firn_flat_get_u32(s->b, table, FIRN_SNAP_DIM_CHUNKS, 0);
		return true;
	}
	dim = firn_flat_items(s->b, firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_SHAPE_V1)) +
	      (size_t)axis * FIRN_SNAP_DIM_V1_SIZE;
	*out_length = firn_flat_load64(dim);
	*out_n_chunks = 0;
	chunk = firn_flat_load64(dim + FIRN_SNAP_DIM_V1_CHUNK_AT);
	if (*out_length == 0)
		return true;
	if (chunk == 0)
		return false;
	n = (*out_length - 1) / chunk + 1;
	*out_n_chunks = (uint32_t)n;
	return n <= UINT32_MAX;
}

#endif
