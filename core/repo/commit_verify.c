#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/zarr/name.h"

/* Chunk objects checked and synced at a time. */
#define BATCH 512u

/* ---- geometry ---- */

static bool
fail_geometry(const FirnCommitArray *array, const uint32_t *coords, GError **error)
{
	g_autofree char *chunk = firn_name_format_chunk(coords, array->rank);

	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s: its chunk grid, data type or codecs changed, but %s was written before "
		    "that and would be misread: write or delete all its old chunks, or delete the "
		    "array and make it anew",
		    array->path, chunk);
	return false;
}

static bool
geometry_changed(const FirnCommitArray *array, const FirnMeta *meta)
{
	g_autoptr(FirnMeta) old = NULL;

	if (!array->in_parent || meta == NULL)
		return false;
	old = firn_commit_node_meta(&array->node);
	return old == NULL || old->geometry != meta->geometry;
}

static bool
overwritten(const FirnCommitArray *array, const uint32_t *coords)
{
	FirnChunkMap *map = array->change->chunks;

	if (map == NULL || firn_chunk_map_find(map, coords) == NULL)
		return false;
	return array->skip == NULL || firn_chunk_map_find(array->skip, coords) == NULL;
}

/* No chunk of before may be left. */
static bool
check_old_refs(const FirnCommitArray *array, GError **error)
{
	g_autoptr(FirnRefIter) iter = NULL;
	const uint32_t *coords;
	FirnRef ref;
	int got;

	if (!array->keeps)
		return true;
	iter = firn_ref_iter_new(array->c->repo, array->c->parent, &array->node, NULL, 0);
	while ((got = firn_ref_iter_next(iter, &coords, &ref, NULL, error)) == 1)
		if (firn_commit_inside(coords, array->bounds, array->rank) &&
		    !overwritten(array, coords))
			return fail_geometry(array, coords, error);
	return got == 0;
}

static bool
check_geometry(const FirnCommitArray *array, const FirnMeta *meta, GError **error)
{
	if (!geometry_changed(array, meta))
		return true;
	for (guint i = 0; i < array->cells->len; i++) {
		const FirnCommitCell *cell = array->cells->pdata[i];

		FirnCommitWalk walk = { .cell = cell };

		while (firn_commit_walk_next(&walk))
			if (walk.change->kind != FIRN_REF_NONE &&
			    walk.change->seq < array->change->seq)
				return fail_geometry(array, walk.coords, error);
	}
	return check_old_refs(array, error);
}

/* ---- chunk objects ---- */

typedef struct {
	const FirnCommitArray *array;
	const uint32_t *coords;
	const FirnChunkChange *change;
} Native;

typedef struct {
	FirnCommitting *c;
	GArray *natives; /* Native */
} Verify;

static void
collect(GArray *natives, const FirnCommitArray *array)
{
	for (guint i = 0; i < array->cells->len; i++) {
		const FirnCommitCell *cell = array->cells->pdata[i];

		FirnCommitWalk walk = { .cell = cell };

		while (firn_commit_walk_next(&walk)) {
			Native native = { array, walk.coords, walk.change };

			if (walk.change->kind == FIRN_REF_NATIVE)
				g_array_append_val(natives, native);
		}
	}
}

static bool
check_native(FirnStore *store, const Native *native, const char *key, GError **error)
{
	const FirnChunkChange *change = native->change;
	g_autofree char *chunk = NULL;
	uint64_t size = 0;
	bool exists;

	if (!firn_store_stat(store, key, &exists, &size, NULL, error))
		return false;
	if (exists && change->length > 0 && change->offset <= size &&
	    change->length <= size - change->offset)
		return true;
	chunk = firn_name_format_chunk(native->coords, native->array->rank);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "%s %s: its object %s %s: write the chunk again", native->array->path, chunk,
		    key, exists ? "is shorter than the journal says" : "is missing");
	return false;
}

static bool
check_batch(size_t index, void *data, GError **error)
{
	const Verify *verify = data;
	FirnStore *store = firn_repo_store(verify->c->repo);
	guint from = (guint)index * BATCH;
	guint to = MIN(from + BATCH, verify->natives->len);
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

	for (guint i = from; i < to; i++) {
		const Native *native = &g_array_index(verify->natives, Native, i);
		char text[FIRN_ID12_TEXT + 1];
		char *key;

		firn_id12_format(&native->change->u.id, text);
		key = g_strconcat("chunks/", text, NULL);
		g_ptr_array_add(keys, key);
		if (!check_native(store, native, key, error))
			return false;
	}
	return firn_store_sync(store, (const char *const *)keys->pdata, keys->len, error);
}

bool
firn_commit_verify(FirnCommitting *c, GError **error)
{
	Verify verify = { .c = c, .natives = g_array_new(FALSE, FALSE, sizeof(Native)) };
	bool done = true;

	for (guint i = 0; i < c->rows->len && done; i++) {
		const FirnCommitRow *row = firn_commit_row(c, i);

		if (row->array == NULL)
			continue;
		done = check_geometry(row->array, row->meta, error);
		collect(verify.natives, row->array);
	}
	done = done && firn_commit_pool(c, "chunks", (verify.natives->len + BATCH - 1) / BATCH,
					check_batch, &verify, error);
	g_array_unref(verify.natives);
	return done;
}
