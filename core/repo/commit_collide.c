#include "core/repo/commit_priv.h"

#include <string.h>

static const char ours[] = "these changes";

void
firn_commit_clash(const FirnCommitCompare *x, FirnConflictKind kind, const char *path,
		  const uint32_t *coords, uint32_t rank, bool swapped)
{
	firn_conflicts_add(x->conflicts, &(FirnClash){ .kind = kind,
						       .path = path,
						       .rank = rank,
						       .coords = coords,
						       .first = ours,
						       .second = x->snapshot,
						       .swapped = swapped });
}

/* The branch's ref, with its location plain.  1, 0 (no such chunk), -1 with `error`. */
static int
their_ref(const FirnCommitCompare *x, const FirnSnapshotNode *node, const uint32_t *coords,
	  FirnRef *out_ref, FirnManifest **out_manifest, char **out_location, GError **error)
{
	GError *failed = NULL;

	*out_ref = (FirnRef){ .kind = FIRN_REF_NONE };
	if (!firn_repo_find_chunk(x->c->repo, x->c->parent, node, coords, out_ref, out_manifest,
				  &failed)) {
		if (failed == NULL)
			return 0;
		g_propagate_error(error, failed);
		return -1;
	}
	if (out_ref->kind != FIRN_REF_VIRTUAL || !out_ref->location_compressed)
		return 1;
	*out_location = firn_manifest_location(*out_manifest, out_ref, error);
	if (*out_location == NULL)
		return -1;
	out_ref->location = (FirnSpan){ (const uint8_t *)*out_location, strlen(*out_location) };
	out_ref->location_compressed = false;
	return 1;
}

static void
give_way(FirnCommitting *c, const FirnNodeChange *change, const uint32_t *coords)
{
	FirnChunkMap *map = g_hash_table_lookup(c->theirs, &change->id);

	if (map == NULL) {
		map = firn_chunk_map_new(firn_chunk_map_rank(change->chunks));
		g_hash_table_insert(c->theirs, g_memdup2(&change->id, sizeof change->id), map);
	}
	(void)firn_chunk_map_insert(map, coords, NULL);
}

/* Whether there was a chunk to erase.  1, 0, -1 with `error`. */
static int
was_there(const FirnCommitCompare *x, const FirnNodeChange *change, const uint32_t *coords,
	  GError **error)
{
	g_autoptr(FirnManifest) manifest = NULL;
	FirnSnapshotNode node;
	GError *failed = NULL;
	FirnRef ref;
	size_t index;

	if (!firn_snapshot_find_id(x->c->start, &change->id, &index))
		return 0;
	firn_snapshot_node(x->c->start, index, &node);
	if (node.rank != firn_chunk_map_rank(change->chunks))
		return 0;
	if (firn_repo_find_chunk(x->c->repo, x->c->start, &node, coords, &ref, &manifest, &failed))
		return 1;
	if (failed == NULL)
		return 0;
	g_propagate_error(error, failed);
	return -1;
}

static bool
collide_one(const FirnCommitCompare *x, const FirnNodeChange *change, const FirnSnapshotNode *node,
	    const uint32_t *coords, const FirnChunkChange *chunk, GError **error)
{
	g_autoptr(FirnManifest) manifest = NULL;
	g_autofree char *location = NULL;
	FirnRef mine, their;
	bool erased;
	int there, same;

	firn_chunk_change_get(chunk, &mine);
	there = mine.kind == FIRN_REF_NONE ? was_there(x, change, coords, error) : 1;
	if (there < 0)
		return false;
	/* Written and removed again: the outcome is nothing, and erases nothing. */
	if (there == 0) {
		give_way(x->c, change, coords);
		return true;
	}
	if (their_ref(x, node, coords, &their, &manifest, &location, error) < 0)
		return false;
	same = firn_conflict_compare_refs(x->c->repo, &mine, &their, error);
	if (same < 0)
		return false;
	if (same == 1)
		return true;
	if (x->c->options->rebase == FIRN_REBASE_OURS ||
	    x->c->options->rebase == FIRN_REBASE_THEIRS) {
		x->c->n_settled++;
		if (x->c->options->rebase == FIRN_REBASE_THEIRS)
			give_way(x->c, change, coords);
		return true;
	}
	erased = mine.kind == FIRN_REF_NONE || their.kind == FIRN_REF_NONE;
	firn_commit_clash(x, erased ? FIRN_CONFLICT_CHUNK_DELETED : FIRN_CONFLICT_CHUNK,
			  change->path, coords, node->rank, mine.kind == FIRN_REF_NONE);
	return true;
}

bool
firn_commit_collide(const FirnCommitCompare *x, const FirnNodeChange *change,
		    const FirnSnapshotNode *node, bool all, GError **error)
{
	FirnChunkMap *theirs = g_hash_table_lookup(x->chunks, &node->id);
	const uint32_t *coords;
	FirnChunkChange *chunk;
	FirnChunkIter iter;

	if (change->chunks == NULL || firn_chunk_map_rank(change->chunks) != node->rank)
		return true;
	if (!all && (theirs == NULL || firn_chunk_map_rank(theirs) != node->rank))
		return true;
	firn_chunk_iter_seek(&iter, change->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &chunk)) {
		g_autoptr(FirnManifest) manifest = NULL;
		FirnRef ref;
		GError *failed = NULL;

		if (!all && firn_chunk_map_find(theirs, coords) == NULL)
			continue;
		/* All the branch has of an array it made are its writes, and only those. */
		if (all && !firn_repo_find_chunk(x->c->repo, x->c->parent, node, coords, &ref,
						 &manifest, &failed)) {
			if (failed == NULL)
				continue;
			g_propagate_error(error, failed);
			return false;
		}
		if (!collide_one(x, change, node, coords, chunk, error))
			return false;
	}
	return true;
}

/* ---- grids and geometry ---- */

/* Where our document would drop, or have misread, what is at `coords`. */
typedef struct {
	bool other_geometry;
	bool drops_all;
	uint32_t bounds[FIRN_MAX_RANK]; /* chunks outside are dropped */
} Effect;

/* Of the documents of the base and the branch, `old` and `node`, when ours counts. */
static Effect
effect_of(const FirnCommitCompare *x, const FirnNodeChange *change, const FirnSnapshotNode *old,
	  const FirnSnapshotNode *node)
{
	g_autoptr(FirnMeta) before = firn_commit_node_meta(old);
	g_autoptr(FirnMeta) theirs = firn_commit_node_meta(node);
	uint32_t start[FIRN_MAX_RANK];
	const FirnMeta *meta = change->meta;
	Effect effect = { .drops_all = meta->rank != node->rank };

	effect.other_geometry = (before == NULL || !firn_meta_same_geometry(before, meta)) &&
				(theirs == NULL || !firn_meta_same_geometry(theirs, meta));
	if (change->keep != NULL && (change->keep_rank != old->rank || old->rank != node->rank))
		effect.drops_all = true;
	if (effect.drops_all)
		return effect;
	firn_commit_node_grid(x->c->start, old, start);
	for (uint32_t i = 0; i < meta->rank; i++) {
		effect.bounds[i] = meta->n_chunks[i];
		if (change->keep != NULL && old->rank == meta->rank && change->keep[i] < start[i])
			effect.bounds[i] = MIN(effect.bounds[i], change->keep[i]);
	}
	return effect;
}

/* Whether ours takes the place of the branch's chunk at `coords`; -1 with `error`. */
static int
replaces(const FirnCommitCompare *x, const FirnNodeChange *change, const uint32_t *coords,
	 const FirnRef *their, GError **error)
{
	const FirnChunkChange *chunk =
		change->chunks != NULL ? firn_chunk_map_find(change->chunks, coords) : NULL;
	FirnRef mine;

	if (chunk == NULL || x->c->options->rebase != FIRN_REBASE_THEIRS)
		return chunk != NULL;
	firn_chunk_change_get(chunk, &mine);
	return firn_conflict_compare_refs(x->c->repo, &mine, their, error);
}

/* The branch's chunk at `coords`, which our document drops, or else would have misread. */
static bool
check_their_chunk(const FirnCommitCompare *x, const FirnNodeChange *change,
		  const FirnSnapshotNode *node, const uint32_t *coords, const Effect *effect,
		  bool outside, GError **error)
{
	g_autoptr(FirnManifest) manifest = NULL;
	g_autofree char *location = NULL;
	FirnRef their;
	int there = their_ref(x, node, coords, &their, &manifest, &location, error);
	int replaced = 0;

	if (there == 1 && !outside)
		replaced = replaces(x, change, coords, &their, error);
	if (there < 0 || replaced < 0)
		return false;
	if (there == 1 && replaced == 0)
		firn_commit_clash(x,
				  effect->other_geometry ? FIRN_CONFLICT_CHUNK_GEOMETRY
							 : FIRN_CONFLICT_CHUNK_OUTSIDE,
				  change->path, coords, node->rank, true);
	return true;
}

bool
firn_commit_check_theirs(const FirnCommitCompare *x, const FirnNodeChange *change,
			 const FirnSnapshotNode *old, const FirnSnapshotNode *node, GError **error)
{
	FirnChunkMap *theirs = g_hash_table_lookup(x->chunks, &node->id);
	const uint32_t *coords;
	FirnChunkIter iter;
	Effect effect;

	if (theirs == NULL || firn_chunk_map_rank(theirs) != node->rank)
		return true;
	effect = effect_of(x, change, old, node);
	firn_chunk_iter_seek(&iter, theirs, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, NULL)) {
		bool outside =
			effect.drops_all || !firn_commit_inside(coords, effect.bounds, node->rank);

		if ((outside || effect.other_geometry) &&
		    !check_their_chunk(x, change, node, coords, &effect, outside, error))
			return false;
	}
	return true;
}

void
firn_commit_check_ours(const FirnCommitCompare *x, const FirnNodeChange *change,
		       const FirnSnapshotNode *old, const FirnSnapshotNode *node)
{
	g_autoptr(FirnMeta) before = firn_commit_node_meta(old);
	g_autoptr(FirnMeta) after = firn_commit_node_meta(node);
	bool geometry = before == NULL || after == NULL || !firn_meta_same_geometry(before, after);
	uint32_t grid[FIRN_MAX_RANK];
	const uint32_t *coords;
	FirnChunkChange *chunk;
	FirnChunkIter iter;
	uint32_t rank;

	if (change->chunks == NULL)
		return;
	rank = firn_chunk_map_rank(change->chunks);
	firn_commit_node_grid(x->c->parent, node, grid);
	firn_chunk_iter_seek(&iter, change->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &chunk)) {
		if (chunk->kind == FIRN_REF_NONE)
			continue;
		if (geometry || rank != node->rank)
			firn_commit_clash(x, FIRN_CONFLICT_CHUNK_GEOMETRY, change->path, coords,
					  rank, false);
		else if (!firn_commit_inside(coords, grid, rank))
			firn_commit_clash(x, FIRN_CONFLICT_CHUNK_OUTSIDE, change->path, coords,
					  rank, false);
	}
}
