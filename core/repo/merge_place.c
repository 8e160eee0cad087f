#include "core/repo/merge_priv.h"
#include "core/zarr/name.h"

#include <string.h>

/* Sequence number of a chunk in an outcome that was written under its array's document. */
#define SEQ_CHUNK 3u

static void
base_array(const FirnMerging *m, size_t index, FirnMergePlace *out_place)
{
	FirnSnapshotNode base;

	firn_snapshot_node(m->base, index, &base);
	out_place->id = base.id;
	out_place->rank = base.rank;
	for (uint32_t i = 0; i < base.rank; i++)
		firn_snapshot_node_shape(m->base, &base, i, &(uint64_t){ 0 }, &out_place->grid[i]);
}

/* The array of the outcome at `path`. */
static bool
find_array(const FirnMerging *m, const char *path, FirnMergePlace *out_place)
{
	const FirnMergeNode *node = g_hash_table_lookup(m->live, path);
	FirnSnapshotNode base;
	size_t index;

	if (node == NULL) {
		if (!firn_snapshot_find_path(m->base, path, strlen(path), &index))
			return false;
		firn_snapshot_node(m->base, index, &base);
		if (base.kind != FIRN_NODE_ARRAY || g_hash_table_contains(m->nodes, &base.id))
			return false;
		base_array(m, index, out_place);
		return true;
	}
	if (firn_merge_node_kind(m, node) != FIRN_NODE_ARRAY)
		return false;
	if (node->meta == NULL)
		base_array(m, node->base_index, out_place);
	out_place->id = node->id;
	if (node->meta == NULL)
		return true;
	out_place->rank = node->meta->rank;
	if (node->meta->rank > 0)
		memcpy(out_place->grid, node->meta->n_chunks,
		       node->meta->rank * sizeof out_place->grid[0]);
	return true;
}

char *
firn_merge_find_place(const FirnMerging *m, const char *path, FirnMergePlace *out_place)
{
	g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
	guint n = g_strv_length(names), at = n;
	g_autofree char *above = NULL;
	g_autofree char *array = NULL;

	while (at > 0 && n - at <= FIRN_MAX_RANK && firn_name_parse_index(names[at - 1], NULL))
		at--;
	if (at == 0 || n - at > FIRN_MAX_RANK || strcmp(names[at - 1], "c") != 0)
		return NULL;
	for (guint i = at; i < n; i++)
		(void)!firn_name_parse_index(names[i], &out_place->coords[i - at]);
	g_clear_pointer(&names[at - 1], g_free);
	above = g_strjoinv("/", names);
	/* The vector's own end is at the cut now: what is behind it is freed here. */
	for (guint i = at; i < n; i++)
		g_clear_pointer(&names[i], g_free);
	array = g_strconcat("/", above, NULL);
	if (!find_array(m, array, out_place) || out_place->rank != n - at)
		return NULL;
	for (uint32_t i = 0; i < out_place->rank; i++)
		if (out_place->coords[i] >= out_place->grid[i])
			return NULL;
	return g_steal_pointer(&array);
}

bool
firn_merge_adopt(FirnMerging *m, const FirnPending *pending)
{
	const FirnNodeChange *entry;
	g_autofree char *array = NULL;
	FirnMergePlace place = { .rank = 0 };
	FirnRef ref;

	firn_chunk_change_get(&pending->content, &ref);
	if (ref.length == 0)
		return false;
	array = firn_merge_find_place(m, pending->path, &place);
	if (array == NULL)
		return false;
	entry = firn_changes_find(m->out, &place.id);
	if (entry != NULL && entry->chunks != NULL &&
	    firn_chunk_map_find(entry->chunks, place.coords) != NULL)
		return false;
	(void)firn_changes_put_chunk(m->out, &place.id, array, place.rank, place.coords, &ref,
				     SEQ_CHUNK);
	return true;
}
