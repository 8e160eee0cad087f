#include "core/base/error.h"
#include "core/base/sort.h"
#include "core/repo/commit_priv.h"

#include <stdlib.h>
#include <string.h>

/* So many manifests keep all threads busy, each with one. */
#define MANY_TASKS 4u

/* ---- one manifest ---- */

/*
 * An item's ref, its location plain unless it is of `kept`; `*out_location`: what it borrows from,
 * NULL: nothing.
 */
static bool
get_item(const FirnCommitItem *item, const FirnManifest *kept, FirnRef *out_ref,
	 char **out_location, GError **error)
{
	*out_location = NULL;
	if (item->change != NULL) {
		firn_chunk_change_get(item->change, out_ref);
		return true;
	}
	firn_refs_get(item->refs, item->index, out_ref);
	if (out_ref->kind != FIRN_REF_VIRTUAL || !out_ref->location_compressed ||
	    item->refs->manifest == kept)
		return true;
	*out_location = firn_manifest_location(item->refs->manifest, out_ref, error);
	if (*out_location == NULL)
		return false;
	out_ref->location = (FirnSpan){ (const uint8_t *)*out_location, strlen(*out_location) };
	out_ref->location_compressed = false;
	return true;
}

static bool
add_item(FirnManifestWriter *writer, const FirnCommitItem *item, const FirnManifest *kept,
	 GError **error)
{
	g_autofree char *location = NULL;
	FirnRef ref;

	return get_item(item, kept, &ref, &location, error) &&
	       firn_manifest_writer_add(writer, item->coords, &ref, error);
}

static bool
is_virtual(const FirnCommitItem *item)
{
	FirnRef ref;

	if (item->change != NULL)
		return item->change->kind == FIRN_REF_VIRTUAL;
	firn_refs_get(item->refs, item->index, &ref);
	return ref.kind == FIRN_REF_VIRTUAL;
}

/* Let the writer see what locations are like, if there are many. */
static bool
train(FirnManifestWriter *writer, const FirnCommitItem *items, size_t n, GError **error)
{
	FirnManifestSample sample = { .n = 0 };
	FirnSpan samples[FIRN_MANIFEST_SAMPLES];
	char *locations[FIRN_MANIFEST_SAMPLES] = { NULL };
	bool done = true;

	for (size_t i = 0; i < n; i++)
		if (is_virtual(&items[i]))
			firn_manifest_sample_add(&sample, (uint32_t)i);
	if (!firn_manifest_sample_is_enough(&sample))
		return true;
	for (unsigned i = 0; i < FIRN_MANIFEST_SAMPLES && done; i++) {
		FirnRef ref;

		done = get_item(&items[sample.indices[i]], NULL, &ref, &locations[i], error);
		samples[i] = ref.location;
	}
	if (done)
		firn_manifest_writer_train(writer, samples);
	for (unsigned i = 0; i < FIRN_MANIFEST_SAMPLES; i++)
		g_free(locations[i]);
	return done;
}

static const FirnManifest *
manifest_of(const FirnCommitItem *item)
{
	return item->refs != NULL ? item->refs->manifest : NULL;
}

/* The manifest that more than half of the items come from, or NULL. */
static const FirnManifest *
find_main(const FirnCommitItem *items, size_t n)
{
	const FirnManifest *candidate = NULL;
	size_t lead = 0, count = 0;

	/* Boyer and Moore: whatever has the majority is left over when others cancel out. */
	for (size_t i = 0; i < n; i++) {
		if (lead == 0)
			candidate = manifest_of(&items[i]);
		lead = manifest_of(&items[i]) == candidate ? lead + 1 : lead - 1;
	}
	for (size_t i = 0; i < n; i++)
		count += manifest_of(&items[i]) == candidate;
	return count > n / 2 ? candidate : NULL;
}

/*
 * Most of a manifest that is written anew is what it was: with the dictionary it had, locations
 * are copied, neither expanded nor compressed.  Where most is new, a new dictionary pays.
 */
static bool
prepare(FirnManifestWriter *writer, const FirnCommitItem *items, size_t n,
	const FirnManifest **out_kept, GError **error)
{
	const FirnManifest *old = find_main(items, n);

	*out_kept = NULL;
	if (old == NULL || !firn_manifest_writer_keep(writer, old))
		return train(writer, items, n, error);
	*out_kept = old;
	return true;
}

void
firn_commit_add_extents(FirnExtent *extents, const uint32_t *coords, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++) {
		extents[i].from = MIN(extents[i].from, coords[i]);
		extents[i].to = MAX(extents[i].to, coords[i] + 1);
	}
}

FirnManifestWriter *
firn_commit_manifest_writer(FirnCommitArray *array, size_t n, FirnId12 *out_id, GError **error)
{
	FirnManifestWriter *writer;

	if (n > UINT32_MAX) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%s: too many chunks for one manifest: set a smaller split",
			    array->path);
		return NULL;
	}
	*out_id = firn_id12_random();
	writer = firn_manifest_writer_new(out_id, &array->id, array->rank, (uint32_t)n);
	if (array->c->many_tasks)
		firn_manifest_writer_alone(writer);
	return writer;
}

bool
firn_commit_put_manifest(FirnCommitArray *array, FirnManifestWriter *writer, const FirnId12 *id,
			 size_t n, FirnCommitManifest *out_manifest, GError **error)
{
	g_autoptr(GBytes) file = firn_manifest_writer_finish(writer, array->c->level, error);

	if (file == NULL) {
		g_prefix_error(error, "%s: ", array->path);
		return false;
	}
	if (!firn_commit_put(array->c, "manifests/", id, file, error))
		return false;
	*out_manifest = (FirnCommitManifest){
		.file = { .id = *id, .size_bytes = g_bytes_get_size(file), .n_refs = (uint32_t)n },
	};
	return true;
}

/* Append all items, with no more of their locations plain than need be. */
static bool
add_items(FirnManifestWriter *writer, const FirnCommitItem *items, size_t n, uint32_t rank,
	  FirnExtent *extents, GError **error)
{
	const FirnManifest *kept;

	if (!prepare(writer, items, n, &kept, error))
		return false;
	for (uint32_t i = 0; i < rank; i++)
		extents[i] = (FirnExtent){ items[0].coords[i], items[0].coords[i] + 1 };
	for (size_t i = 0; i < n; i++) {
		if (!add_item(writer, &items[i], kept, error))
			return false;
		firn_commit_add_extents(extents, items[i].coords, rank);
	}
	return true;
}

bool
firn_commit_write_manifest(FirnCommitArray *array, const FirnCommitItem *items, size_t n,
			   FirnCommitManifest *out_manifest, GError **error)
{
	g_autofree FirnExtent *extents = g_new0(FirnExtent, MAX(array->rank, 1));
	g_autoptr(FirnManifestWriter) writer = NULL;
	FirnId12 id;

	writer = firn_commit_manifest_writer(array, n, &id, error);
	if (writer == NULL)
		return false;
	if (!add_items(writer, items, n, array->rank, extents, error)) {
		g_prefix_error(error, "%s: ", array->path);
		return false;
	}
	if (!firn_commit_put_manifest(array, g_steal_pointer(&writer), &id, n, out_manifest, error))
		return false;
	out_manifest->extents = g_steal_pointer(&extents);
	return true;
}

/* ---- all manifests ---- */

typedef struct {
	FirnCommitArray *array;
	FirnCommitCell *cell; /* or NULL: what is left of a manifest */
	FirnCommitOld *old;
	guint part;
} Task;

static bool
run_task(size_t index, void *data, GError **error)
{
	Task *task = &g_array_index((GArray *)data, Task, index);
	FirnCommitPart *part = &g_array_index(task->array->parts, FirnCommitPart, task->part);

	return task->cell != NULL ? firn_commit_cell_run(task->cell, part, error)
				  : firn_commit_rest_run(task->array, task->old, part, error);
}

static void
clear_manifest(gpointer data)
{
	g_free(((FirnCommitManifest *)data)->extents);
}

static void
add_task(GArray *tasks, FirnCommitArray *array, FirnCommitCell *cell, FirnCommitOld *old)
{
	Task task = { .array = array, .cell = cell, .old = old, .part = array->parts->len };
	FirnCommitPart part = {
		.manifests = g_array_new(FALSE, FALSE, sizeof(FirnCommitManifest)),
		.coords = g_array_new(FALSE, FALSE, sizeof(uint32_t)),
	};

	g_array_set_clear_func(part.manifests, clear_manifest);
	g_array_append_val(array->parts, part);
	g_array_append_val(tasks, task);
}

static bool
run_cells(FirnCommitting *c, GError **error)
{
	g_autoptr(GArray) tasks = g_array_new(FALSE, FALSE, sizeof(Task));

	for (guint i = 0; i < c->rows->len; i++) {
		FirnCommitArray *array = firn_commit_row(c, i)->array;

		for (guint j = 0; array != NULL && j < array->cells->len; j++)
			add_task(tasks, array, array->cells->pdata[j], NULL);
	}
	c->many_tasks = tasks->len >= MANY_TASKS;
	return firn_commit_pool(c, "manifests", tasks->len, run_task, tasks, error);
}

/* Whether `old` lies in the cell as a whole. */
static bool
within(const FirnCommitOld *old, const FirnCommitCell *cell)
{
	for (uint32_t i = 0; i < cell->array->rank; i++)
		if (old->extents[i].from < cell->from[i] || old->extents[i].to > cell->to[i])
			return false;
	return true;
}

/* Which old manifests are used up, and which only in part. */
static void
mark_olds(FirnCommitArray *array)
{
	for (guint i = 0; i < array->cells->len; i++) {
		const FirnCommitCell *cell = array->cells->pdata[i];
		g_autoptr(GArray) met = NULL;

		if (!cell->effective)
			continue;
		met = firn_commit_olds_meeting(array, cell->from, cell->to);
		for (guint j = 0; j < met->len; j++) {
			FirnCommitOld *old = &array->olds[g_array_index(met, uint32_t, j)];

			if (within(old, cell))
				old->taken = true;
			else
				old->broken = true;
		}
	}
	for (uint32_t i = 0; i < array->n_olds; i++) {
		FirnCommitOld *old = &array->olds[i];

		old->broken = old->broken || !array->keeps;
		for (uint32_t j = 0; j < array->rank; j++)
			old->broken = old->broken || old->extents[j].to > array->bounds[j];
		old->broken = old->broken && !old->taken;
	}
}

static bool
run_rests(FirnCommitting *c, GError **error)
{
	g_autoptr(GArray) tasks = g_array_new(FALSE, FALSE, sizeof(Task));

	for (guint i = 0; i < c->rows->len; i++) {
		FirnCommitArray *array = firn_commit_row(c, i)->array;

		if (array == NULL)
			continue;
		mark_olds(array);
		for (uint32_t j = 0; j < array->n_olds; j++)
			if (array->olds[j].broken)
				add_task(tasks, array, NULL, &array->olds[j]);
	}
	c->many_tasks = tasks->len >= MANY_TASKS;
	return firn_commit_pool(c, "manifests", tasks->len, run_task, tasks, error);
}

/* ---- the outcome ---- */

static int
compare_rows(const void *a, const void *b, void *rank)
{
	return firn_coords_compare(a, b, *(const uint32_t *)rank);
}

size_t
firn_commit_sort_coords(GArray *coords, uint32_t rank, size_t n)
{
	uint32_t *rows = (uint32_t *)(void *)coords->data;
	size_t left = 0;

	if (rank == 0)
		return MIN(n, 1);
	if (firn_sort(rows, n, rank * sizeof *rows, compare_rows, &rank))
		return n;
	for (size_t i = 0; i < n; i++) {
		if (left > 0 &&
		    firn_coords_compare(rows + (left - 1) * rank, rows + i * rank, rank) == 0)
			continue;
		memmove(rows + left * rank, rows + i * rank, rank * sizeof *rows);
		left++;
	}
	g_array_set_size(coords, (guint)(left * rank));
	return left;
}

static int
compare_manifests(const void *a, const void *b, void *rank)
{
	const FirnCommitManifest *x = a, *y = b;

	for (uint32_t i = 0; i < *(const uint32_t *)rank; i++)
		if (x->extents[i].from != y->extents[i].from)
			return x->extents[i].from < y->extents[i].from ? -1 : 1;
	return firn_id12_compare(&x->file.id, &y->file.id);
}

static void
keep_olds(FirnCommitArray *array)
{
	for (uint32_t i = 0; i < array->n_olds; i++) {
		const FirnCommitOld *old = &array->olds[i];
		FirnCommitManifest manifest = { .file = old->file, .listed = old->listed + 1 };

		if (old->taken || old->broken)
			continue;
		manifest.extents = g_new0(FirnExtent, MAX(array->rank, 1));
		if (array->rank > 0)
			memcpy(manifest.extents, old->extents,
			       array->rank * sizeof *manifest.extents);
		g_array_append_val(array->manifests, manifest);
	}
}

static void
gather(FirnCommitting *c, FirnCommitArray *array)
{
	FirnCommitLogArray log = { .node = array->id, .rank = array->rank };
	guint n = 0;

	for (guint i = 0; i < array->parts->len; i++)
		n += g_array_index(array->parts, FirnCommitPart, i).coords->len;
	log.coords = g_array_sized_new(FALSE, FALSE, sizeof(uint32_t), n);
	/* Those first: they are in order. */
	keep_olds(array);
	for (guint i = 0; i < array->parts->len; i++) {
		FirnCommitPart *part = &g_array_index(array->parts, FirnCommitPart, i);

		log.n += part->n_changed;
		g_array_append_vals(log.coords, part->coords->data, part->coords->len);
		g_clear_pointer(&part->coords, g_array_unref);
		g_array_append_vals(array->manifests, part->manifests->data, part->manifests->len);
		c->n_written += part->manifests->len;
		/* The extents are the array's now. */
		g_array_set_clear_func(part->manifests, NULL);
	}
	(void)firn_sort(array->manifests->data, array->manifests->len, sizeof(FirnCommitManifest),
			compare_manifests, &array->rank);
	log.n = firn_commit_sort_coords(log.coords, log.rank, log.n);
	array->n_changed = log.n;
	c->n_chunks += log.n;
	if (log.n > 0)
		g_array_append_val(c->log_arrays, log);
	else
		g_array_unref(log.coords);
}

bool
firn_commit_manifests(FirnCommitting *c, GError **error)
{
	if (!run_cells(c, error) || !run_rests(c, error))
		return false;
	for (guint i = 0; i < c->rows->len; i++)
		if (firn_commit_row(c, i)->array != NULL)
			gather(c, firn_commit_row(c, i)->array);
	return true;
}
