#include "core/base/error.h"
#include "core/base/sort.h"
#include "core/repo/commit_priv.h"

#include <stdlib.h>
#include <string.h>

/* With as many refs there are, still less than an array can have. */
#define MAX_CHANGES ((size_t)1 << 30)

/* The refs of one old manifest while they are being merged. */
typedef struct {
	FirnManifest *manifest;
	FirnRefs refs;
} Loaded;

typedef struct {
	FirnCommitArray *array;
	FirnCommitPart *part;
	Loaded *loaded; /* one for each of `n_loaded` manifests: pointers into it stay valid */
	guint n_loaded;
	/*
	 * FirnCommitItem, by coordinates.  For a cell: as many free places as it has changes, then
	 * the refs there are; the outcome is laid over both from the start, and cannot catch up.
	 */
	GArray *items;
	guint n_free;
	guint n_items; /* of the outcome */
} Work;

static void
work_init(Work *w, FirnCommitArray *array, FirnCommitPart *part, guint n_olds)
{
	*w = (Work){ .array = array, .part = part };
	w->loaded = g_new0(Loaded, MAX(n_olds, 1));
	w->items = g_array_new(FALSE, FALSE, sizeof(FirnCommitItem));
}

static void
work_clear(Work *w)
{
	for (guint i = 0; i < w->n_loaded; i++)
		firn_manifest_unref(w->loaded[i].manifest);
	g_free(w->loaded);
	g_array_unref(w->items);
}

/* The refs of an old manifest; NULL with `error`. */
static const FirnRefs *
load(Work *w, const FirnCommitOld *old, GError **error)
{
	Loaded *loaded = &w->loaded[w->n_loaded];

	loaded->manifest = firn_repo_get_manifest(w->array->c->repo, &old->file.id,
						  old->file.size_bytes, FIRN_CACHE_SCAN, error);
	if (loaded->manifest == NULL)
		return NULL;
	w->n_loaded++;
	if (!firn_manifest_find(loaded->manifest, &w->array->id, &loaded->refs) ||
	    loaded->refs.rank != w->array->rank)
		loaded->refs.count = 0;
	return &loaded->refs;
}

/* Whether readers see what an old manifest has at `coords`. */
static bool
visible(const FirnCommitArray *array, const FirnCommitOld *old, const uint32_t *coords)
{
	for (uint32_t i = 0; i < array->rank; i++)
		if (coords[i] < old->extents[i].from || coords[i] >= old->extents[i].to ||
		    coords[i] >= array->old_grid[i])
			return false;
	return true;
}

static void
log_chunk(Work *w, const uint32_t *coords)
{
	g_array_append_vals(w->part->coords, coords, w->array->rank);
	w->part->n_changed++;
}

/* ---- a cell ---- */

/* Gather the refs of a manifest that lie in the cell. */
static void
gather(Work *w, const FirnCommitCell *cell, const FirnCommitOld *old, const FirnRefs *refs)
{
	uint32_t n = MIN(w->array->rank, 1);

	for (uint32_t i = firn_refs_lower_bound(refs, cell->from, n); i < refs->count; i++) {
		FirnCommitItem item = { .coords = firn_refs_coords(refs, i),
					.refs = refs,
					.index = i };

		if (n > 0 && item.coords[0] >= cell->to[0])
			break;
		if (firn_commit_in_cell(cell, item.coords) && visible(w->array, old, item.coords))
			g_array_append_val(w->items, item);
	}
}

static int
compare_items(const void *a, const void *b, void *rank)
{
	const FirnCommitItem *x = a, *y = b;
	int order = firn_coords_compare(x->coords, y->coords, *(const uint32_t *)rank);

	/* Of the same chunk in two manifests, readers see the first. */
	return order != 0 ? order : (x->refs > y->refs) - (x->refs < y->refs);
}

static void
sort_olds(Work *w)
{
	uint32_t rank = w->array->rank;
	FirnCommitItem *items = (FirnCommitItem *)(void *)w->items->data + w->n_free;
	guint n = w->items->len - w->n_free;
	guint left = 0;

	if (firn_sort(items, n, sizeof *items, compare_items, &rank))
		return;
	for (guint i = 0; i < n; i++)
		if (left == 0 ||
		    firn_coords_compare(items[left - 1].coords, items[i].coords, rank) != 0)
			items[left++] = items[i];
	g_array_set_size(w->items, w->n_free + left);
}

static bool
span_equal(FirnSpan a, FirnSpan b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
same_virtual(const FirnManifest *manifest, const FirnRef *a, const FirnRef *b)
{
	g_autofree char *location = NULL;

	if (a->offset != b->offset || a->length != b->length ||
	    a->last_modified != b->last_modified || !span_equal(a->etag, b->etag))
		return false;
	location = firn_manifest_location(manifest, a, NULL);
	return location != NULL && strlen(location) == b->location.len &&
	       memcmp(location, b->location.data, b->location.len) == 0;
}

bool
firn_commit_same_ref(const FirnRefs *refs, uint32_t index, const FirnChunkChange *change)
{
	FirnRef a, b;

	firn_refs_get(refs, index, &a);
	firn_chunk_change_get(change, &b);
	if (a.kind != b.kind)
		return false;
	if (a.kind == FIRN_REF_INLINE)
		return span_equal(a.bytes, b.bytes);
	if (a.kind == FIRN_REF_NATIVE)
		return a.offset == b.offset && a.length == b.length &&
		       firn_id12_compare(&a.id, &b.id) == 0;
	return same_virtual(refs->manifest, &a, &b);
}

static void
add_item(Work *w, FirnCommitItem item)
{
	g_assert(w->n_items < w->items->len && w->items->data != NULL);
	g_array_index(w->items, FirnCommitItem, w->n_items++) = item;
}

/* `old`, `change`: at the same coordinates; either may be NULL. */
static void
settle(Work *w, const FirnCommitItem *old, const FirnCommitWalk *change)
{
	bool kept = old != NULL && w->array->keeps &&
		    firn_commit_inside(old->coords, w->array->bounds, w->array->rank);

	if (kept &&
	    (change == NULL || firn_commit_same_ref(old->refs, old->index, change->change))) {
		add_item(w, *old);
		return;
	}
	if (change == NULL) {
		g_assert(old != NULL);
		log_chunk(w, old->coords);
		return;
	}
	g_assert(change->change != NULL);
	if (change->change->kind != FIRN_REF_NONE) {
		add_item(w, (FirnCommitItem){ .coords = change->coords, .change = change->change });
		log_chunk(w, change->coords);
	} else if (old != NULL) {
		log_chunk(w, change->coords);
	}
}

static void
overlay(Work *w, FirnCommitWalk *walk)
{
	bool more = firn_commit_walk_next(walk);
	guint i = w->n_free;

	while (i < w->items->len || more) {
		const FirnCommitItem *old =
			i < w->items->len ? &g_array_index(w->items, FirnCommitItem, i) : NULL;
		int order = old != NULL ? -1 : 1;

		if (old != NULL && more)
			order = firn_coords_compare(old->coords, walk->coords, w->array->rank);
		settle(w, order <= 0 ? old : NULL, order >= 0 ? walk : NULL);
		i += order <= 0;
		if (order >= 0)
			more = firn_commit_walk_next(walk);
	}
}

static bool
write_items(Work *w, const FirnCommitItem *items, guint n, GError **error)
{
	FirnCommitManifest manifest;

	if (n == 0)
		return true;
	if (!firn_commit_write_manifest(w->array, items, n, &manifest, error))
		return false;
	g_array_append_val(w->part->manifests, manifest);
	return true;
}

/* Set places for the changes free. */
static bool
make_room(Work *w, const FirnCommitCell *cell, GError **error)
{
	if (cell->n_changes > MAX_CHANGES) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%s: too many chunks for one manifest: set a smaller split",
			    w->array->path);
		return false;
	}
	w->n_free = (guint)cell->n_changes;
	g_array_set_size(w->items, w->n_free);
	return true;
}

/* Look at each ref the cell has, in the `n_loaded` manifests of `olds`. */
static bool
settle_cell(Work *w, FirnCommitCell *cell, const GArray *olds, GError **error)
{
	FirnCommitWalk walk = { .cell = cell, .holds = true };
	bool ok = true;

	if (!make_room(w, cell, error))
		return false;
	for (guint i = 0; i < w->n_loaded; i++)
		gather(w, cell, &w->array->olds[g_array_index(olds, uint32_t, i)],
		       &w->loaded[i].refs);
	sort_olds(w);
	overlay(w, &walk);
	cell->effective = w->part->n_changed > 0;
	if (cell->effective)
		ok = write_items(w, (FirnCommitItem *)(void *)w->items->data, w->n_items, error);
	firn_commit_walk_release(&walk);
	return ok;
}

bool
firn_commit_cell_run(FirnCommitCell *cell, FirnCommitPart *part, GError **error)
{
	FirnCommitArray *array = cell->array;
	g_autoptr(GArray) met = firn_commit_olds_meeting(array, cell->from, cell->to);
	bool spliced = false;
	bool ok = true;
	Work w;

	work_init(&w, array, part, met->len);
	for (guint i = 0; i < met->len && ok; i++)
		ok = load(&w, &array->olds[g_array_index(met, uint32_t, i)], error) != NULL;
	if (ok && met->len == 1 && firn_commit_can_splice(cell, &w.loaded[0].refs))
		ok = firn_commit_splice(cell, &array->olds[g_array_index(met, uint32_t, 0)],
					&w.loaded[0].refs, part, &spliced, error);
	if (ok && !spliced)
		ok = settle_cell(&w, cell, met, error);
	work_clear(&w);
	return ok;
}

/* ---- what is left of a broken manifest ---- */

static int
compare_places(const void *a, const void *b, void *data)
{
	const FirnCommitArray *array = data;
	const FirnCommitItem *x = a, *y = b;
	uint32_t p[FIRN_MAX_RANK], q[FIRN_MAX_RANK];
	int order;

	firn_commit_cell_of(array, x->coords, p);
	firn_commit_cell_of(array, y->coords, q);
	order = firn_coords_compare(p, q, array->rank);
	return order != 0 ? order : firn_coords_compare(x->coords, y->coords, array->rank);
}

static bool
same_cell(const FirnCommitArray *array, const FirnCommitItem *a, const FirnCommitItem *b)
{
	uint32_t p[FIRN_MAX_RANK], q[FIRN_MAX_RANK];

	firn_commit_cell_of(array, a->coords, p);
	firn_commit_cell_of(array, b->coords, q);
	return firn_coords_compare(p, q, array->rank) == 0;
}

/* One manifest a cell. */
static bool
write_pieces(Work *w, GError **error)
{
	FirnCommitItem *items = (FirnCommitItem *)(void *)w->items->data;
	guint from = 0;

	if (w->items->len == 0)
		return true;
	qsort_r(items, w->items->len, sizeof *items, compare_places, w->array);
	for (guint i = 1; i <= w->items->len; i++) {
		if (i < w->items->len && same_cell(w->array, &items[from], &items[i]))
			continue;
		if (!write_items(w, items + from, i - from, error))
			return false;
		from = i;
	}
	return true;
}

bool
firn_commit_rest_run(FirnCommitArray *array, FirnCommitOld *old, FirnCommitPart *part,
		     GError **error)
{
	const FirnRefs *refs;
	bool done;
	Work w;

	work_init(&w, array, part, 1);
	refs = load(&w, old, error);
	done = refs != NULL;
	for (uint32_t i = 0; done && i < refs->count; i++) {
		FirnCommitItem item = { .coords = firn_refs_coords(refs, i),
					.refs = refs,
					.index = i };

		if (!visible(array, old, item.coords) ||
		    firn_commit_find_cell(array, item.coords) != NULL)
			continue;
		if (array->keeps && firn_commit_inside(item.coords, array->bounds, array->rank))
			g_array_append_val(w.items, item);
		else
			log_chunk(&w, item.coords);
	}
	done = done && write_pieces(&w, error);
	work_clear(&w);
	return done;
}
