#include "core/repo/repo_internal.h"

#include <string.h>

/*
 * One manifest of the node.  Parts wait in a heap ordered by the least
 * coordinates they can yield next: an unloaded part by the corner of its
 * extents, a loaded one by its current ref.  So a manifest is loaded only when
 * its turn comes and dropped when it is used up: with extents one after the
 * other that is one at a time, with interleaved ones it is a merge.
 */
typedef struct {
	FirnId12 id;
	uint32_t index;         /* in the node's list: the first match wins */
	FirnExtent *extents;    /* rank items, borrowed from the iterator */
	uint32_t *key;          /* rank items, borrowed from the iterator */
	FirnManifest *manifest; /* NULL: not loaded */
	FirnRefs refs;          /* of the node, once loaded */
	uint32_t at;            /* current ref */
	GArray *rivals;         /* uint32_t: parts before it in the list that overlap; NULL: none */
} Part;

struct FirnRefIter {
	FirnRepo *repo;
	FirnSnapshot *snapshot;
	FirnSnapshotNode node;
	uint32_t rank;
	uint32_t n_prefix;
	uint32_t prefix[FIRN_MAX_RANK];
	uint32_t n_chunks[FIRN_MAX_RANK];
	uint32_t floor[FIRN_MAX_RANK]; /* nothing below is wanted */
	uint32_t n_floor;
	Part *parts;
	FirnExtent *extents; /* n_parts * rank */
	uint32_t *keys;      /* n_parts * rank */
	uint32_t n_parts;
	uint32_t *heap; /* part numbers */
	uint32_t n_heap;
	bool yielded; /* the top of the heap is what the caller has */
};

static bool
overlap(const FirnExtent *a, const FirnExtent *b, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (a[i].from >= b[i].to || b[i].from >= a[i].to)
			return false;
	return true;
}

/* ---- the heap ---- */

static bool
before(const FirnRefIter *iter, uint32_t a, uint32_t b)
{
	int order = firn_coords_compare(iter->parts[a].key, iter->parts[b].key, iter->rank);

	return order != 0 ? order < 0 : iter->parts[a].index < iter->parts[b].index;
}

static void
sift_down(FirnRefIter *iter, uint32_t at)
{
	for (;;) {
		uint32_t least = at;

		for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++)
			if (child < iter->n_heap &&
			    before(iter, iter->heap[child], iter->heap[least]))
				least = child;
		if (least == at)
			return;
		uint32_t moved = iter->heap[at];
		iter->heap[at] = iter->heap[least];
		iter->heap[least] = moved;
		at = least;
	}
}

static void
part_unload(Part *part)
{
	g_clear_pointer(&part->manifest, firn_manifest_unref);
	g_clear_pointer(&part->rivals, g_array_unref);
}

static void
drop_top(FirnRefIter *iter)
{
	part_unload(&iter->parts[iter->heap[0]]);
	iter->heap[0] = iter->heap[--iter->n_heap];
	sift_down(iter, 0);
}

/* ---- one part ---- */

/* Place the loaded top at its first ref from `at` on that may be wanted, or drop it. */
static void
settle_top(FirnRefIter *iter)
{
	Part *part = &iter->parts[iter->heap[0]];
	const uint32_t *coords;

	if (part->at >= part->refs.count) {
		drop_top(iter);
		return;
	}
	coords = firn_refs_coords(&part->refs, part->at);
	if (firn_coords_compare(coords, iter->prefix, iter->n_prefix) > 0) {
		drop_top(iter);
		return;
	}
	if (iter->rank > 0)
		memcpy(part->key, coords, iter->rank * sizeof *coords);
	sift_down(iter, 0);
}

static void
note_rivals(FirnRefIter *iter, Part *part)
{
	for (uint32_t i = 0; i < iter->n_parts; i++) {
		const Part *other = &iter->parts[i];

		if (other->index >= part->index ||
		    !overlap(other->extents, part->extents, iter->rank))
			continue;
		if (part->rivals == NULL)
			part->rivals = g_array_new(FALSE, FALSE, sizeof(uint32_t));
		g_array_append_val(part->rivals, i);
	}
}

static bool
load_top(FirnRefIter *iter, GError **error)
{
	Part *part = &iter->parts[iter->heap[0]];

	part->manifest = firn_repo_get_manifest(iter->repo, &part->id,
						firn_repo_manifest_size(iter->snapshot, &part->id),
						FIRN_CACHE_SCAN, error);
	if (part->manifest == NULL)
		return false;
	if (!firn_manifest_find(part->manifest, &iter->node.id, &part->refs) ||
	    part->refs.rank != iter->rank) {
		drop_top(iter);
		return true;
	}
	note_rivals(iter, part);
	/* Its key is the corner of its extents, or where the caller has skipped to. */
	part->at = firn_refs_lower_bound(&part->refs, part->key, iter->rank);
	settle_top(iter);
	return true;
}

/* Move the top up to the floor the caller has set.  True if it was below it. */
static bool
raise_top(FirnRefIter *iter)
{
	Part *part = &iter->parts[iter->heap[0]];

	if (firn_coords_compare(part->key, iter->floor, iter->n_floor) >= 0)
		return false;
	if (part->manifest != NULL) {
		part->at = firn_refs_lower_bound(&part->refs, iter->floor, iter->n_floor);
		settle_top(iter);
		return true;
	}
	/* Not loaded: skip it altogether if its last corner is below, too. */
	for (uint32_t i = 0; i < iter->n_floor; i++) {
		if (part->extents[i].to - 1 == iter->floor[i])
			continue;
		if (part->extents[i].to - 1 < iter->floor[i]) {
			drop_top(iter);
			return true;
		}
		break;
	}
	memset(part->key, 0, iter->rank * sizeof *part->key);
	memcpy(part->key, iter->floor, iter->n_floor * sizeof *part->key);
	sift_down(iter, 0);
	return true;
}

static bool
is_visible(const FirnRefIter *iter, const Part *part)
{
	if (!firn_repo_contains(part->extents, part->key, iter->rank))
		return false;
	for (guint i = 0; part->rivals != NULL && i < part->rivals->len; i++) {
		uint32_t rival = g_array_index(part->rivals, uint32_t, i);

		if (firn_repo_contains(iter->parts[rival].extents, part->key, iter->rank))
			return false;
	}
	return true;
}

static void
advance_top(FirnRefIter *iter)
{
	iter->parts[iter->heap[0]].at++;
	settle_top(iter);
}

int
firn_ref_iter_next(FirnRefIter *iter, const uint32_t **out_coords, FirnRef *out_ref,
		   FirnManifest **out_manifest, GError **error)
{
	if (iter->yielded)
		advance_top(iter);
	iter->yielded = false;
	while (iter->n_heap > 0) {
		Part *part = &iter->parts[iter->heap[0]];

		if (raise_top(iter))
			continue;
		if (part->manifest == NULL) {
			if (!load_top(iter, error))
				return -1;
			continue;
		}
		if (!is_visible(iter, part)) {
			advance_top(iter);
			continue;
		}
		*out_coords = firn_refs_coords(&part->refs, part->at);
		firn_refs_get(&part->refs, part->at, out_ref);
		if (out_manifest != NULL)
			*out_manifest = part->manifest;
		iter->yielded = true;
		return 1;
	}
	return 0;
}

void
firn_ref_iter_seek(FirnRefIter *iter, const uint32_t *coords, uint32_t n)
{
	g_assert(n <= iter->rank);
	if (n > 0)
		memcpy(iter->floor, coords, n * sizeof *coords);
	iter->n_floor = n;
}

/* ---- making one ---- */

/* Cut `extents` to the grid and the prefix; false if nothing is left. */
static bool
clip(FirnExtent *extents, uint32_t rank, const uint32_t *n_chunks, const uint32_t *prefix,
     uint32_t n_prefix)
{
	for (uint32_t i = 0; i < rank; i++) {
		extents[i].to = MIN(extents[i].to, n_chunks[i]);
		if (i < n_prefix) {
			if (prefix[i] < extents[i].from || prefix[i] >= extents[i].to)
				return false;
			extents[i].from = prefix[i];
			extents[i].to = prefix[i] + 1;
		}
		if (extents[i].from >= extents[i].to)
			return false;
	}
	return true;
}

static void
get_grid(FirnSnapshot *snapshot, const FirnSnapshotNode *node, uint32_t *out_n_chunks)
{
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		uint64_t length;

		firn_snapshot_node_shape(snapshot, node, axis, &length, &out_n_chunks[axis]);
	}
}

static void
add_parts(FirnRefIter *iter)
{
	uint32_t n = iter->node.n_manifests;
	size_t cells = (size_t)n * iter->rank;

	iter->parts = g_new0(Part, n);
	iter->extents = g_new0(FirnExtent, cells);
	iter->keys = g_new0(uint32_t, cells);
	iter->heap = g_new0(uint32_t, n);
	for (uint32_t i = 0; i < n; i++) {
		Part *part = &iter->parts[iter->n_parts];
		size_t offset = (size_t)iter->n_parts * iter->rank;

		/* With rank 0 there are no extents, and nothing to point at. */
		part->extents = iter->rank > 0 ? iter->extents + offset : NULL;
		part->key = iter->rank > 0 ? iter->keys + offset : NULL;
		firn_snapshot_node_manifest(iter->snapshot, &iter->node, i, &part->id,
					    part->extents);
		if (!clip(part->extents, iter->rank, iter->n_chunks, iter->prefix, iter->n_prefix))
			continue;
		part->index = i;
		for (uint32_t axis = 0; axis < iter->rank; axis++)
			part->key[axis] = part->extents[axis].from;
		iter->heap[iter->n_heap++] = iter->n_parts++;
	}
	for (uint32_t i = iter->n_heap / 2; i-- > 0;)
		sift_down(iter, i);
}

FirnRefIter *
firn_ref_iter_new(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
		  const uint32_t *prefix, uint32_t n_prefix)
{
	FirnRefIter *iter = g_new0(FirnRefIter, 1);

	iter->repo = repo;
	iter->snapshot = firn_snapshot_ref(snapshot);
	iter->node = *node;
	iter->rank = node->rank;
	if (n_prefix > node->rank || node->rank > FIRN_MAX_RANK)
		return iter;
	iter->n_prefix = n_prefix;
	if (n_prefix > 0)
		memcpy(iter->prefix, prefix, n_prefix * sizeof *prefix);
	get_grid(snapshot, node, iter->n_chunks);
	add_parts(iter);
	return iter;
}

void
firn_ref_iter_free(FirnRefIter *iter)
{
	if (iter == NULL)
		return;
	for (uint32_t i = 0; i < iter->n_parts; i++)
		part_unload(&iter->parts[i]);
	g_free(iter->parts);
	g_free(iter->extents);
	g_free(iter->keys);
	g_free(iter->heap);
	firn_snapshot_unref(iter->snapshot);
	g_free(iter);
}

/* ---- without one ---- */

bool
firn_repo_implies_chunk(FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			const uint32_t *prefix, uint32_t n_prefix)
{
	size_t size = node->rank * sizeof(FirnExtent);
	FirnExtent extents[FIRN_MAX_RANK], cut[FIRN_MAX_RANK];
	uint32_t n_chunks[FIRN_MAX_RANK];

	if (n_prefix > node->rank || node->rank > FIRN_MAX_RANK)
		return false;
	get_grid(snapshot, node, n_chunks);
	for (uint32_t i = 0; i < node->n_manifests; i++) {
		FirnId12 id;

		firn_snapshot_node_manifest(snapshot, node, i, &id, extents);
		memcpy(cut, extents, size);
		/* The first that can have any; no other is seen where it is. */
		if (clip(cut, node->rank, n_chunks, prefix, n_prefix))
			return memcmp(cut, extents, size) == 0;
	}
	return false;
}
