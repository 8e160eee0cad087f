#include "core/base/error.h"
#include "core/base/sort.h"
#include "core/repo/commit_priv.h"
#include "core/zarr/name.h"

#include <stdlib.h>
#include <string.h>

/* Refs a manifest is to hold, at least and at most, where we choose. */
#define REFS_GOOD  100000.0
#define REFS_LARGE 200000.0
#define REFS_MANY  1000000.0
#define REFS_MAX   10000000.0
/* Most of a grid that large may be empty; readers and writers look at every cell of one. */
#define CELLS_MAX 16384u

static void
clear_part(gpointer data)
{
	FirnCommitPart *part = data;

	g_clear_pointer(&part->manifests, g_array_unref);
	g_clear_pointer(&part->coords, g_array_unref);
}

static void
clear_manifest(gpointer data)
{
	g_free(((FirnCommitManifest *)data)->extents);
}

static void
free_cell(gpointer data)
{
	FirnCommitCell *cell = data;

	g_free(cell->from);
	g_free(cell->to);
	g_array_unref(cell->segments);
	g_free(cell);
}

void
firn_commit_array_free(FirnCommitArray *array)
{
	if (array == NULL)
		return;
	g_free(array->olds);
	g_free(array->old_extents);
	g_free(array->order);
	g_free(array->reach);
	g_ptr_array_unref(array->cells);
	g_hash_table_unref(array->by_cell);
	g_array_unref(array->parts);
	g_array_unref(array->manifests);
	g_free(array);
}

/* ---- cells ---- */

/* Keys are cells; all keys of a table have one rank. */
static guint
cell_hash(gconstpointer key)
{
	const FirnCommitCell *cell = key;
	guint hash = 5381;

	for (uint32_t i = 0; i < cell->array->rank; i++)
		hash = hash * 33 + cell->from[i];
	return hash;
}

static gboolean
cell_equal(gconstpointer a, gconstpointer b)
{
	const FirnCommitCell *x = a, *y = b;

	return firn_coords_compare(x->from, y->from, x->array->rank) == 0;
}

void
firn_commit_cell_of(const FirnCommitArray *array, const uint32_t *coords, uint32_t *out_from)
{
	for (uint32_t i = 0; i < array->rank; i++)
		out_from[i] = coords[i] - coords[i] % array->split[i];
}

static FirnCommitCell *
find_cell(const FirnCommitArray *array, const uint32_t *coords)
{
	uint32_t from[FIRN_MAX_RANK];
	FirnCommitCell key = { .from = from };

	memcpy(&key.array, &array, sizeof array);
	firn_commit_cell_of(array, coords, from);
	return g_hash_table_lookup(array->by_cell, &key);
}

const FirnCommitCell *
firn_commit_find_cell(const FirnCommitArray *array, const uint32_t *coords)
{
	const FirnCommitCell *cell = find_cell(array, coords);

	return cell != NULL && cell->effective ? cell : NULL;
}

static FirnCommitCell *
make_cell(FirnCommitArray *array, const uint32_t *coords)
{
	FirnCommitCell *cell = find_cell(array, coords);

	if (cell != NULL)
		return cell;
	cell = g_new0(FirnCommitCell, 1);
	cell->array = array;
	cell->from = g_new0(uint32_t, MAX(array->rank, 1));
	cell->to = g_new0(uint32_t, MAX(array->rank, 1));
	cell->segments = g_array_new(FALSE, FALSE, sizeof(FirnCommitSegment));
	firn_commit_cell_of(array, coords, cell->from);
	for (uint32_t i = 0; i < array->rank; i++)
		cell->to[i] = array->split[i] > UINT32_MAX - cell->from[i]
				      ? UINT32_MAX
				      : cell->from[i] + array->split[i];
	g_hash_table_add(array->by_cell, cell);
	g_ptr_array_add(array->cells, cell);
	return cell;
}

static gint
compare_cells(gconstpointer a, gconstpointer b)
{
	const FirnCommitCell *x = *(const FirnCommitCell *const *)a;
	const FirnCommitCell *y = *(const FirnCommitCell *const *)b;

	return firn_coords_compare(x->from, y->from, x->array->rank);
}

static bool
fail_outside(const FirnCommitArray *array, const uint32_t *coords, uint32_t rank, GError **error)
{
	g_autofree char *chunk = firn_name_format_chunk(coords, rank);

	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s: chunk %s lies outside the array's grid: delete it, or give the array a "
		    "shape that has a place for it",
		    array->path, chunk);
	return false;
}

/* Give a cell the `n` changes at `at`; `follow`: right behind the last one it got. */
static void
add_changes(FirnCommitCell *cell, const FirnChunkPlace *at, uint32_t n, bool follow)
{
	const FirnCommitSegment segment = { .first = *at, .n = n };

	if (follow)
		g_array_index(cell->segments, FirnCommitSegment, cell->segments->len - 1).n += n;
	else
		g_array_append_val(cell->segments, segment);
	cell->n_changes += n;
}

/* What has been put into cells. */
typedef struct {
	FirnCommitArray *array;
	FirnCommitCell *cell; /* the last one that got something */
	FirnCommitCell *last; /* of the change right before, if that is in one */
} Bucket;

static void
put_changes(Bucket *bucket, const uint32_t *coords, const FirnChunkPlace *at, uint32_t n)
{
	if (bucket->cell == NULL || !firn_commit_in_cell(bucket->cell, coords))
		bucket->cell = make_cell(bucket->array, coords);
	g_assert(bucket->cell != NULL);
	add_changes(bucket->cell, at, n, bucket->cell == bucket->last);
	bucket->last = bucket->cell;
}

/*
 * Whether the whole of a folded leaf is of one cell.  Between its first and its
 * last row, a coordinate behind one in which they differ can be anything.
 */
static bool
is_of_one_cell(const FirnCommitArray *array, const FirnChunkBlock *block)
{
	bool same = true;

	if (array->skip != NULL || !firn_commit_inside(block->most, array->grid, array->rank))
		return false;
	for (uint32_t i = 0; i < array->rank; i++) {
		if (same ? block->first[i] / array->split[i] != block->last[i] / array->split[i]
			 : block->most[i] >= array->split[i])
			return false;
		same = same && block->first[i] == block->last[i];
	}
	return true;
}

static bool
put_one(Bucket *bucket, FirnChunkIter *iter, const FirnChunkPlace *at, GError **error)
{
	FirnCommitArray *array = bucket->array;
	FirnChunkChange *change;
	const uint32_t *coords;

	if (!firn_chunk_iter_next(iter, &coords, &change))
		return true;
	if (!firn_commit_inside(coords, array->grid, array->rank)) {
		bucket->last = NULL;
		return change->kind == FIRN_REF_NONE ||
		       fail_outside(array, coords, array->rank, error);
	}
	if (array->skip != NULL && firn_chunk_map_find(array->skip, coords) != NULL)
		bucket->last = NULL;
	else
		put_changes(bucket, coords, at, 1);
	return true;
}

/* Changes of another rank: none may be more than a deletion. */
static bool
check_other_rank(const FirnCommitArray *array, GError **error)
{
	FirnChunkMap *map = array->change->chunks;
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;

	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change))
		if (change->kind != FIRN_REF_NONE)
			return fail_outside(array, coords, firn_chunk_map_rank(map), error);
	return true;
}

/* Put each change into its cell. */
static bool
bucket_all(FirnCommitArray *array, GError **error)
{
	FirnChunkMap *map = array->change->chunks;
	Bucket bucket = { .array = array };
	FirnChunkBlock block;
	FirnChunkPlace at;
	FirnChunkIter iter;

	if (map == NULL)
		return true;
	if (firn_chunk_map_rank(map) != array->rank)
		return check_other_rank(array, error);
	firn_chunk_iter_seek(&iter, map, NULL, 0);
	for (at = firn_chunk_iter_place(&iter); at.leaf != NULL;
	     at = firn_chunk_iter_place(&iter)) {
		if (firn_chunk_iter_block(&iter, &block) && is_of_one_cell(array, &block)) {
			put_changes(&bucket, block.first, &at, block.n);
			firn_chunk_iter_skip(&iter);
		} else if (!put_one(&bucket, &iter, &at, error)) {
			return false;
		}
	}
	g_ptr_array_sort(array->cells, compare_cells);
	return true;
}

/* ---- manifests there are ---- */

typedef struct {
	const FirnCommitArray *array;
	uint32_t axis;
} Order;

static int
compare_from(const void *a, const void *b, void *data)
{
	const Order *order = data;
	const FirnCommitOld *x = &order->array->olds[*(const uint32_t *)a];
	const FirnCommitOld *y = &order->array->olds[*(const uint32_t *)b];
	uint32_t p = x->extents[order->axis].from, q = y->extents[order->axis].from;

	return (p > q) - (p < q);
}

/* Sort along `axis`; returns how many different starts there are. */
static uint32_t
sort_olds(FirnCommitArray *array, uint32_t axis)
{
	Order order = { array, axis };
	uint32_t n_starts = 0;

	(void)firn_sort(array->order, array->n_olds, sizeof *array->order, compare_from, &order);
	for (uint32_t i = 0; i < array->n_olds; i++)
		n_starts +=
			i == 0 || compare_from(&array->order[i - 1], &array->order[i], &order) != 0;
	return n_starts;
}

/* Sort along the axis that tells most manifests apart: finding those of a cell is a search then. */
static void
order_olds(FirnCommitArray *array)
{
	uint32_t most = 0;
	uint32_t reach = 0;

	array->order = g_new(uint32_t, MAX(array->n_olds, 1));
	array->reach = g_new(uint32_t, MAX(array->n_olds, 1));
	for (uint32_t i = 0; i < array->n_olds; i++)
		array->order[i] = i;
	if (array->rank == 0)
		return;
	for (uint32_t axis = 0; axis < array->rank; axis++) {
		uint32_t n_starts = sort_olds(array, axis);

		if (n_starts > most) {
			most = n_starts;
			array->axis = axis;
		}
	}
	(void)sort_olds(array, array->axis);
	for (uint32_t i = 0; i < array->n_olds; i++) {
		reach = MAX(reach, array->olds[array->order[i]].extents[array->axis].to);
		array->reach[i] = reach;
	}
}

static bool
meets(const FirnCommitOld *old, const uint32_t *from, const uint32_t *to, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (old->extents[i].from >= to[i] || old->extents[i].to <= from[i])
			return false;
	return true;
}

static gint
compare_u32(gconstpointer a, gconstpointer b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

GArray *
firn_commit_olds_meeting(const FirnCommitArray *array, const uint32_t *from, const uint32_t *to)
{
	GArray *found = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	uint32_t low = 0, high = array->n_olds;

	/* The first that starts behind the cell; all before it that reach into it may meet it. */
	while (array->rank > 0 && low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (array->olds[array->order[middle]].extents[array->axis].from < to[array->axis])
			low = middle + 1;
		else
			high = middle;
	}
	for (uint32_t i = array->rank > 0 ? low : array->n_olds; i-- > 0;) {
		if (array->rank > 0 && array->reach[i] <= from[array->axis])
			break;
		if (meets(&array->olds[array->order[i]], from, to, array->rank))
			g_array_append_val(found, array->order[i]);
	}
	g_array_sort(found, compare_u32);
	return found;
}

static bool
load_olds(FirnCommitArray *array, GError **error)
{
	const FirnSnapshotNode *node = &array->node;

	array->n_olds = array->in_parent ? node->n_manifests : 0;
	if (array->in_parent && node->rank != array->rank)
		array->n_olds = 0;
	array->olds = g_new0(FirnCommitOld, MAX(array->n_olds, 1));
	array->old_extents = g_new0(FirnExtent, MAX((size_t)array->n_olds * array->rank, 1));
	for (uint32_t i = 0; i < array->n_olds; i++) {
		FirnCommitOld *old = &array->olds[i];
		char text[FIRN_ID12_TEXT + 1];
		FirnId12 id;

		old->extents = array->old_extents + (size_t)i * array->rank;
		firn_snapshot_node_manifest(array->c->parent, node, i, &id, old->extents);
		if (firn_snapshot_find_manifest_file(array->c->parent, &id, &old->listed)) {
			firn_snapshot_manifest_file(array->c->parent, old->listed, &old->file);
			continue;
		}
		firn_id12_format(&id, text);
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s: the snapshot has no record of its manifest %s", array->path, text);
		return false;
	}
	order_olds(array);
	return true;
}

/* ---- grids ---- */

/*
 * What of the parent snapshot's refs stays: what is inside the new grid, and
 * was not shrunk away.  A `keep` is about the grid of the start state: where it is no
 * smaller, it says nothing (and the branch may have grown since).
 */
static void
set_bounds(FirnCommitArray *array)
{
	const FirnNodeChange *change = array->change;
	uint32_t start_grid[FIRN_MAX_RANK];
	FirnSnapshotNode start;
	size_t index;

	array->keeps = array->in_parent && array->node.rank == array->rank;
	if (!array->keeps)
		return;
	firn_commit_node_grid(array->c->parent, &array->node, array->old_grid);
	for (uint32_t i = 0; i < array->rank; i++)
		array->bounds[i] = MIN(array->old_grid[i], array->grid[i]);
	if (change->keep == NULL || !firn_snapshot_find_id(array->c->start, &change->id, &index))
		return;
	firn_snapshot_node(array->c->start, index, &start);
	if (change->keep_rank != start.rank || start.rank != array->rank) {
		array->keeps = false;
		return;
	}
	firn_commit_node_grid(array->c->start, &start, start_grid);
	for (uint32_t i = 0; i < array->rank; i++)
		if (change->keep[i] < start_grid[i])
			array->bounds[i] = MIN(array->bounds[i], change->keep[i]);
}

static double
product(const uint32_t *grid, uint32_t rank)
{
	double n = 1;

	for (uint32_t i = 0; i < rank; i++)
		n *= grid[i];
	return n;
}

static uint32_t
longest_axis(const FirnCommitArray *array)
{
	uint32_t longest = UINT32_MAX;

	for (uint32_t i = 0; i < array->rank; i++)
		if (array->split[i] == UINT32_MAX &&
		    (longest == UINT32_MAX || array->grid[i] > array->grid[longest]))
			longest = i;
	return longest;
}

static void
split_along(FirnCommitArray *array, uint32_t axis, double *refs, uint32_t *cells)
{
	double slice = *refs / array->grid[axis];
	FirnConfigSplit split = { .path = array->path, .axis = axis };

	split.size = slice >= REFS_GOOD ? 1 : (uint32_t)(REFS_GOOD / slice);
	split.size = MAX(split.size, (array->grid[axis] - 1) / (CELLS_MAX / *cells) + 1);
	*cells *= (array->grid[axis] - 1) / split.size + 1;
	*refs = slice * split.size;
	array->split[axis] = split.size;
	g_array_append_val(array->c->splits, split);
}

/* Choose a split along the axis that grew, or else the first, unless that is too short. */
static void
choose_split(FirnCommitArray *array)
{
	double refs = product(array->grid, array->rank);
	uint32_t cells = 1;
	uint32_t axis = 0;

	for (uint32_t i = 0; array->keeps && i < array->rank; i++)
		if (array->grid[i] > array->old_grid[i]) {
			axis = i;
			break;
		}
	if (refs / array->grid[axis] > REFS_MANY)
		axis = longest_axis(array);
	split_along(array, axis, &refs, &cells);
	while (refs > REFS_MAX && cells <= CELLS_MAX / 2 && longest_axis(array) != UINT32_MAX)
		split_along(array, longest_axis(array), &refs, &cells);
}

/*
 * An array that nobody split is when it is made or grows, and when its one manifest has become
 * large: written anew once in parts, each later commit touches one part of it.
 */
static bool
needs_split(const FirnCommitArray *array)
{
	double refs = array->change->chunks != NULL
			      ? (double)firn_chunk_map_size(array->change->chunks)
			      : 0;
	bool grown = !array->keeps;

	for (uint32_t i = 0; i < array->rank; i++) {
		if (array->split[i] != UINT32_MAX)
			return false;
		grown = grown || array->grid[i] > array->old_grid[i];
	}
	for (uint32_t i = 0; i < array->n_olds; i++)
		refs += array->olds[i].file.n_refs;
	return array->rank > 0 && product(array->grid, array->rank) > REFS_GOOD &&
	       (grown || refs > REFS_LARGE);
}

static void
set_split(FirnCommitArray *array, const FirnMeta *meta)
{
	g_autofree char **names = NULL;

	if (meta == NULL)
		names = firn_snapshot_node_dimension_names(array->c->parent, &array->node);
	firn_config_split_sizes(array->c->config, array->path, array->rank,
				meta != NULL && meta->has_dimension_names ? meta->dimension_names
									  : names,
				array->split);
	for (uint32_t i = 0; i < array->rank; i++)
		array->split[i] = MAX(array->split[i], 1);
	if (needs_split(array))
		choose_split(array);
}

FirnCommitArray *
firn_commit_array_new(FirnCommitting *c, const FirnCommitRow *row, GError **error)
{
	FirnCommitArray *array = g_new0(FirnCommitArray, 1);

	array->c = c;
	array->id = row->id;
	array->path = row->path;
	array->change = row->change;
	array->in_parent = row->in_parent;
	array->by_cell = g_hash_table_new_full(cell_hash, cell_equal, free_cell, NULL);
	array->cells = g_ptr_array_new();
	array->parts = g_array_new(FALSE, TRUE, sizeof(FirnCommitPart));
	g_array_set_clear_func(array->parts, clear_part);
	array->manifests = g_array_new(FALSE, FALSE, sizeof(FirnCommitManifest));
	g_array_set_clear_func(array->manifests, clear_manifest);
	if (c->theirs != NULL)
		array->skip = g_hash_table_lookup(c->theirs, &row->change->id);
	if (row->in_parent)
		firn_snapshot_node(c->parent, row->index, &array->node);
	array->rank = row->meta != NULL ? row->meta->rank : array->node.rank;
	if (row->meta == NULL)
		firn_commit_node_grid(c->parent, &array->node, array->grid);
	else if (array->rank > 0)
		memcpy(array->grid, row->meta->n_chunks, array->rank * sizeof array->grid[0]);
	set_bounds(array);
	if (!load_olds(array, error)) {
		firn_commit_array_free(array);
		return NULL;
	}
	set_split(array, row->meta);
	if (!bucket_all(array, error)) {
		firn_commit_array_free(array);
		return NULL;
	}
	return array;
}
