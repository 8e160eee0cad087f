#include "core/repo/repo_internal.h"

#include <string.h>

/* Up to here looking at each manifest's extents is as fast as keeping an index. */
#define SCAN_MAX 16u

/*
 * The extents of one node's manifests in order of their first corners.  The
 * manifests that can hold a place are those whose first corner is not above it
 * and whose last corner is not below it; `reach` says where, walking back, the
 * last corners have all been passed.
 */
typedef struct {
	int ref_count;
	FirnId12 snapshot;
	FirnId8 node;
	uint32_t rank;
	uint32_t n;
	uint32_t *listed;    /* n: number in the node's list */
	FirnExtent *extents; /* n * rank */
	uint32_t *reach;     /* n: which of those up to here has the greatest last corner */
} Index;

typedef struct {
	FirnSnapshot *snapshot;
	const FirnSnapshotNode *node;
} IndexRequest;

uint64_t
firn_repo_manifest_size(FirnSnapshot *snapshot, const FirnId12 *id)
{
	FirnManifestFile file;
	size_t index;

	if (!firn_snapshot_find_manifest_file(snapshot, id, &index))
		return 0;
	firn_snapshot_manifest_file(snapshot, index, &file);
	return file.size_bytes;
}

static const FirnExtent *
extents_at(const Index *index, uint32_t i)
{
	return index->extents + (size_t)i * index->rank;
}

/* ---- making one ---- */

static gint
compare_first_corners(gconstpointer a, gconstpointer b, gpointer data)
{
	const Index *index = data;
	const FirnExtent *left = extents_at(index, *(const uint32_t *)a);
	const FirnExtent *right = extents_at(index, *(const uint32_t *)b);

	for (uint32_t i = 0; i < index->rank; i++)
		if (left[i].from != right[i].from)
			return left[i].from < right[i].from ? -1 : 1;
	return 0;
}

static bool
last_corner_above(const FirnExtent *a, const FirnExtent *b, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (a[i].to != b[i].to)
			return a[i].to > b[i].to;
	return false;
}

/* All manifests but those that hold no place at all. */
static void
collect(Index *index, const IndexRequest *request)
{
	for (uint32_t i = 0; i < request->node->n_manifests; i++) {
		FirnExtent *extents = index->extents + (size_t)index->n * index->rank;
		bool empty = false;
		FirnId12 id;

		firn_snapshot_node_manifest(request->snapshot, request->node, i, &id, extents);
		for (uint32_t axis = 0; axis < index->rank; axis++)
			empty = empty || extents[axis].from >= extents[axis].to;
		if (!empty)
			index->listed[index->n++] = i;
	}
}

static void
sort(Index *index)
{
	size_t row = index->rank * sizeof(FirnExtent);
	g_autofree uint32_t *order = g_new(uint32_t, index->n);
	uint32_t *listed = g_new(uint32_t, index->n);
	FirnExtent *extents = g_new(FirnExtent, (size_t)index->n * index->rank);

	for (uint32_t i = 0; i < index->n; i++)
		order[i] = i;
	g_qsort_with_data(order, (gint)index->n, sizeof *order, compare_first_corners, index);
	for (uint32_t i = 0; i < index->n; i++) {
		listed[i] = index->listed[order[i]];
		memcpy(extents + (size_t)i * index->rank, extents_at(index, order[i]), row);
	}
	g_free(index->listed);
	g_free(index->extents);
	index->listed = listed;
	index->extents = extents;
}

static gpointer
index_fetch(const FirnId12 *key, void *data, size_t *out_bytes, GError **error)
{
	const IndexRequest *request = data;
	Index *index = g_new0(Index, 1);
	uint32_t n = request->node->n_manifests;

	(void)key;
	(void)error;
	index->ref_count = 1;
	index->snapshot = *firn_snapshot_id(request->snapshot);
	index->node = request->node->id;
	index->rank = request->node->rank;
	index->listed = g_new(uint32_t, n);
	index->extents = g_new(FirnExtent, (size_t)n * index->rank);
	collect(index, request);
	sort(index);
	index->reach = g_new(uint32_t, index->n);
	for (uint32_t i = 0; i < index->n; i++) {
		index->reach[i] = i;
		if (i > 0 &&
		    !last_corner_above(extents_at(index, i), extents_at(index, index->reach[i - 1]),
				       index->rank))
			index->reach[i] = index->reach[i - 1];
	}
	*out_bytes = sizeof *index +
		     index->n * (2 * sizeof(uint32_t) + index->rank * sizeof(FirnExtent));
	return index;
}

static gpointer
index_ref(gpointer object)
{
	Index *index = object;

	g_atomic_int_inc(&index->ref_count);
	return index;
}

static void
index_unref(gpointer object)
{
	Index *index = object;

	if (!g_atomic_int_dec_and_test(&index->ref_count))
		return;
	g_free(index->listed);
	g_free(index->extents);
	g_free(index->reach);
	g_free(index);
}

const FirnCacheType firn_repo_index_type = { index_fetch, index_ref, index_unref };

/* ---- using it ---- */

static bool
first_corner_above(const FirnExtent *extents, const uint32_t *coords, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (extents[i].from != coords[i])
			return extents[i].from > coords[i];
	return false;
}

static bool
last_corner_below(const FirnExtent *extents, const uint32_t *coords, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (extents[i].to - 1 != coords[i])
			return extents[i].to - 1 < coords[i];
	return false;
}

/* Number in the node's list of the first manifest that can hold the place; n if none. */
static uint32_t
find_in_index(const Index *index, const uint32_t *coords, uint32_t none)
{
	uint32_t best = none;
	uint32_t from = 0;
	uint32_t to = index->n;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (first_corner_above(extents_at(index, middle), coords, index->rank))
			to = middle;
		else
			from = middle + 1;
	}
	while (from-- > 0) {
		if (last_corner_below(extents_at(index, index->reach[from]), coords, index->rank))
			break;
		if (index->listed[from] < best &&
		    firn_repo_contains(extents_at(index, from), coords, index->rank))
			best = index->listed[from];
	}
	return best;
}

static uint32_t
find_by_scan(FirnSnapshot *snapshot, const FirnSnapshotNode *node, const uint32_t *coords)
{
	FirnExtent extents[FIRN_MAX_RANK];
	uint32_t i;

	for (i = 0; i < node->n_manifests; i++) {
		FirnId12 id;

		firn_snapshot_node_manifest(snapshot, node, i, &id, extents);
		if (firn_repo_contains(extents, coords, node->rank))
			break;
	}
	return i;
}

/* The first manifest in the node's list whose extents hold the place; n_manifests if none. */
static uint32_t
find_manifest(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
	      const uint32_t *coords)
{
	IndexRequest request = { .snapshot = snapshot, .node = node };
	const FirnId12 *snapshot_id = firn_snapshot_id(snapshot);
	FirnId12 key = *snapshot_id;
	uint32_t found;
	Index *index;

	if (node->n_manifests <= SCAN_MAX || node->rank == 0)
		return find_by_scan(snapshot, node, coords);
	for (size_t i = 0; i < sizeof node->id.bytes; i++)
		key.bytes[i] ^= node->id.bytes[i];
	index = firn_cache_get(repo->indexes, &key, FIRN_CACHE_KEEP, &request, NULL);
	/* Ids made to collide cost time only. */
	if (firn_id12_equal(&index->snapshot, snapshot_id) &&
	    firn_id8_equal(&index->node, &node->id) && index->rank == node->rank)
		found = find_in_index(index, coords, node->n_manifests);
	else
		found = find_by_scan(snapshot, node, coords);
	index_unref(index);
	return found;
}

static bool
is_in_grid(FirnSnapshot *snapshot, const FirnSnapshotNode *node, const uint32_t *coords)
{
	if (node->rank > FIRN_MAX_RANK)
		return false;
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(snapshot, node, axis, &length, &n_chunks);
		if (coords[axis] >= n_chunks)
			return false;
	}
	return true;
}

bool
firn_repo_find_chunk(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
		     const uint32_t *coords, FirnRef *out_ref, FirnManifest **out_manifest,
		     GError **error)
{
	g_autoptr(FirnManifest) manifest = NULL;
	FirnId12 id;
	FirnRefs refs;
	uint32_t number, at;

	if (!is_in_grid(snapshot, node, coords))
		return false;
	number = find_manifest(repo, snapshot, node, coords);
	if (number == node->n_manifests)
		return false;
	firn_snapshot_node_manifest(snapshot, node, number, &id, NULL);
	manifest = firn_repo_get_manifest(repo, &id, firn_repo_manifest_size(snapshot, &id),
					  FIRN_CACHE_KEEP, error);
	if (manifest == NULL || !firn_manifest_find(manifest, &node->id, &refs) ||
	    refs.rank != node->rank || !firn_refs_find(&refs, coords, &at))
		return false;
	firn_refs_get(&refs, at, out_ref);
	*out_manifest = g_steal_pointer(&manifest);
	return true;
}
