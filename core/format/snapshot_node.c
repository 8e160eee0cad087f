#include "core/format/payload.h"
#include "core/format/snapshot_private.h"

#include <stdlib.h>
#include <string.h>

/* ---- nodes ---- */

size_t
firn_snapshot_n_nodes(const FirnSnapshot *s)
{
	return firn_flat_count(s->b, s->nodes);
}

void
firn_snapshot_node(const FirnSnapshot *s, size_t index, FirnSnapshotNode *out_node)
{
	size_t table;

	g_assert(index < firn_snapshot_n_nodes(s));
	table = firn_flat_item(s->b, s->nodes, (uint32_t)index);
	*out_node = (FirnSnapshotNode){
		.id = *firn_flat_get_id8(s->b, table, FIRN_SNAP_NODE_ID),
		.kind = (FirnNodeKind)firn_flat_get_u8(s->b, table, FIRN_SNAP_NODE_KIND, 0),
		.path = firn_flat_get_bytes(s->b, table, FIRN_SNAP_NODE_PATH),
		.meta = firn_flat_get_bytes(s->b, table, FIRN_SNAP_NODE_META),
		.position = table,
	};
	if (out_node->kind == FIRN_NODE_ARRAY) {
		size_t array = firn_snapshot_private_array(s, table);

		out_node->rank = firn_snapshot_private_rank(s, array);
		out_node->n_manifests = firn_flat_count(
			s->b, firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_MANIFESTS));
	}
}

bool
firn_snapshot_find_path(const FirnSnapshot *s, const char *path, size_t len, size_t *out_index)
{
	FirnSpan wanted = { (const uint8_t *)path, len };
	size_t low = 0;
	size_t high = firn_snapshot_n_nodes(s);
	bool found = false;

	while (low < high && !found) {
		size_t middle = low + (high - low) / 2;
		size_t table = firn_flat_item(s->b, s->nodes, (uint32_t)middle);
		int order =
			firn_payload_compare(firn_flat_get_bytes(s->b, table, FIRN_SNAP_NODE_PATH),
					     wanted);

		found = order == 0;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*out_index = found ? high : low;
	return found;
}

static const FirnId8 *
node_id(const FirnSnapshot *s, uint32_t index)
{
	return firn_flat_get_id8(s->b, firn_flat_item(s->b, s->nodes, index), FIRN_SNAP_NODE_ID);
}

typedef struct {
	const FirnSnapshot *snapshot;
} NodeOrder;

static int
compare_nodes(const void *a, const void *b, void *order)
{
	const FirnSnapshot *s = ((const NodeOrder *)order)->snapshot;
	uint32_t i = *(const uint32_t *)a;
	uint32_t k = *(const uint32_t *)b;
	int by_id = firn_id8_compare(node_id(s, i), node_id(s, k));

	/* Ids are unique in sound files; the first of equal ones is found. */
	return by_id != 0 ? by_id : (i > k) - (i < k);
}

static const uint32_t *
nodes_by_id(const FirnSnapshot *s)
{
	NodeOrder order = { s };
	uint32_t n = (uint32_t)firn_snapshot_n_nodes(s);
	uint32_t *nodes = s->by_id->nodes;

	if (nodes != NULL)
		return nodes;
	FIRN_LOCK_SCOPE(&s->by_id->lock);
	nodes = s->by_id->nodes;
	if (nodes != NULL)
		return nodes;
	/* At most a twelfth of the file's own size, which is in memory. */
	nodes = g_new(uint32_t, MAX(n, 1u));
	for (uint32_t i = 0; i < n; i++)
		nodes[i] = i;
	qsort_r(nodes, n, sizeof *nodes, compare_nodes, &order);
	s->by_id->nodes = nodes;
	return nodes;
}

bool
firn_snapshot_find_id(const FirnSnapshot *s, const FirnId8 *id, size_t *out_index)
{
	const uint32_t *nodes = nodes_by_id(s);
	size_t n = firn_snapshot_n_nodes(s);
	size_t low = 0;
	size_t high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (firn_id8_compare(node_id(s, nodes[middle]), id) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == n || firn_id8_compare(node_id(s, nodes[low]), id) != 0)
		return false;
	*out_index = nodes[low];
	return true;
}

void
firn_snapshot_node_shape(const FirnSnapshot *s, const FirnSnapshotNode *node, uint32_t axis,
			 uint64_t *out_length, uint32_t *out_n_chunks)
{
	g_assert(axis < node->rank);
	if (!firn_snapshot_private_dim(s, firn_snapshot_private_array(s, node->position), axis,
				       out_length, out_n_chunks))
		g_assert_not_reached();
}

/* The name of one dimension; no data if it has none, or an empty one. */
static FirnSpan
dim_name(const FirnSnapshot *s, size_t names, uint32_t axis)
{
	FirnSpan none = { NULL, 0 };
	FirnSpan name;

	if (axis >= firn_flat_count(s->b, names))
		return none;
	name = firn_flat_get_bytes(s->b, firn_flat_item(s->b, names, axis), 0);
	return name.len > 0 ? name : none;
}

char **
firn_snapshot_node_dimension_names(const FirnSnapshot *s, const FirnSnapshotNode *node)
{
	size_t size = sizeof(char *) * (node->rank + 1u);
	size_t names;
	char **block;
	char *text;

	if (node->kind != FIRN_NODE_ARRAY)
		return NULL;
	names = firn_flat_get_child(s->b, firn_snapshot_private_array(s, node->position),
				    FIRN_SNAP_ARRAY_DIM_NAMES);
	if (names == 0)
		return NULL;
	for (uint32_t axis = 0; axis < node->rank; axis++)
		size += dim_name(s, names, axis).len + 1;
	block = g_malloc0(size);
	text = (char *)(block + node->rank + 1);
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		FirnSpan name = dim_name(s, names, axis);

		if (name.data == NULL)
			continue;
		block[axis] = memcpy(text, name.data, name.len);
		text += name.len + 1;
	}
	return block;
}

void
firn_snapshot_node_manifest(const FirnSnapshot *s, const FirnSnapshotNode *node, uint32_t index,
			    FirnId12 *out_id, FirnExtent *out_extents)
{
	size_t array = firn_snapshot_private_array(s, node->position);
	size_t ref, extents;

	g_assert(index < node->n_manifests);
	ref = firn_flat_item(s->b, firn_flat_get_child(s->b, array, FIRN_SNAP_ARRAY_MANIFESTS),
			     index);
	*out_id = *firn_flat_get_id12(s->b, ref, FIRN_SNAP_REF_ID);
	if (out_extents == NULL)
		return;
	extents = firn_flat_get_child(s->b, ref, FIRN_SNAP_REF_EXTENTS);
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		const uint8_t *at =
			firn_flat_items(s->b, extents) + (size_t)axis * FIRN_SNAP_EXTENT_SIZE;

		out_extents[axis] = (FirnExtent){ 0, UINT32_MAX };
		if (firn_flat_count(s->b, extents) != 0)
			out_extents[axis] =
				(FirnExtent){ firn_flat_load32(at), firn_flat_load32(at + 4) };
	}
}
