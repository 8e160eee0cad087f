#include "core/repo/merge_priv.h"
#include "core/zarr/name.h"

#include <string.h>

/* Sequence number of a chunk in an outcome that was written under its array's document. */
#define SEQ_CHUNK 3u

static bool
settle_pending(FirnMerging *m, unsigned y, const FirnPending *pending, GHashTable *owners,
	       GError **error)
{
	gpointer value;
	unsigned x;
	const FirnPending *other;
	FirnRef a, b;
	int same;

	if (!g_hash_table_lookup_extended(owners, pending->path, NULL, &value)) {
		g_hash_table_insert(owners, pending->path, GUINT_TO_POINTER(y));
		return true;
	}
	x = GPOINTER_TO_UINT(value);
	other = g_hash_table_lookup(firn_merge_party(m, x)->section->changes->pending,
				    pending->path);
	if (firn_merge_before(m, y, pending->seq, x))
		return true;
	if (firn_merge_before(m, x, other->seq, y)) {
		g_hash_table_insert(owners, pending->path, GUINT_TO_POINTER(y));
		return true;
	}
	firn_chunk_change_get(&pending->content, &a);
	firn_chunk_change_get(&other->content, &b);
	same = firn_conflict_compare_refs(m->repo, &a, &b, error);
	if (same == 0)
		firn_conflicts_add(&m->conflicts,
				   &(FirnClash){ .kind = FIRN_CONFLICT_CHUNK,
						 .path = pending->path,
						 .first = firn_merge_party(m, x)->name,
						 .second = firn_merge_party(m, y)->name });
	return same >= 0;
}

/* Files of its parents that one party took away. */
static void
settle_dropped(FirnMerging *m, unsigned y, GHashTable *owners)
{
	GHashTableIter iter;
	gpointer key, value, owner;

	g_hash_table_iter_init(&iter, firn_merge_party(m, y)->section->changes->dropped);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		const FirnPending *there, *dropped = value;
		unsigned x;

		if (!g_hash_table_lookup_extended(owners, key, NULL, &owner))
			continue;
		x = GPOINTER_TO_UINT(owner);
		there = g_hash_table_lookup(firn_merge_party(m, x)->section->changes->pending, key);
		if (firn_merge_before(m, x, there->seq, y))
			g_hash_table_remove(owners, key);
		else if (!firn_merge_before(m, y, dropped->seq, x))
			firn_conflicts_add(&m->conflicts,
					   &(FirnClash){ .kind = FIRN_CONFLICT_CHUNK_DELETED,
							 .path = key,
							 .first = firn_merge_party(m, x)->name,
							 .second = firn_merge_party(m, y)->name });
	}
}

/* ---- files that have a place now ---- */

typedef struct {
	FirnId8 id;
	uint32_t rank;
	uint32_t grid[FIRN_MAX_RANK];
	uint32_t coords[FIRN_MAX_RANK];
} Place;

static void
base_array(const FirnMerging *m, size_t index, Place *out_place)
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
find_array(const FirnMerging *m, const char *path, Place *out_place)
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

/* The place a file's name says, if it is in the grid of an array of the outcome; and the array's path. */
static char *
find_place(const FirnMerging *m, const char *path, Place *out_place)
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

/* One journal's file is another's chunk, if that one made the array. */
static bool
adopt(FirnMerging *m, const FirnPending *pending)
{
	const FirnNodeChange *entry;
	g_autofree char *array = NULL;
	Place place = { .rank = 0 };
	FirnRef ref;

	firn_chunk_change_get(&pending->content, &ref);
	if (ref.length == 0)
		return false;
	array = find_place(m, pending->path, &place);
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

/* ---- the whole ---- */

static void
put_outcome(FirnMerging *m, GHashTable *owners)
{
	GHashTableIter iter;
	gpointer key, value;

	g_hash_table_iter_init(&iter, owners);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		const FirnMergeParty *party = firn_merge_party(m, GPOINTER_TO_UINT(value));
		const FirnPending *pending =
			g_hash_table_lookup(party->section->changes->pending, key);
		FirnRef ref;

		if (adopt(m, pending))
			continue;
		firn_chunk_change_get(&pending->content, &ref);
		firn_changes_put_pending(m->out, key, &ref, pending->seq);
	}
}

/* Before the others' documents are known they have no place: only files of the same name can collide. */
bool
firn_merge_pending(FirnMerging *m, GError **error)
{
	g_autoptr(GHashTable) owners = g_hash_table_new(g_str_hash, g_str_equal);
	GHashTableIter iter;
	gpointer value;

	for (guint i = 0; i < m->parties->len; i++) {
		g_hash_table_iter_init(&iter, firn_merge_party(m, i)->section->changes->pending);
		while (g_hash_table_iter_next(&iter, NULL, &value))
			if (!settle_pending(m, i, value, owners, error))
				return false;
	}
	for (guint i = 0; i < m->parties->len; i++)
		settle_dropped(m, i, owners);
	if (m->out != NULL && m->conflicts.n == 0)
		put_outcome(m, owners);
	return true;
}
