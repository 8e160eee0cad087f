#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/zarr/name.h"

/* Chunks whose objects are checked and synced at a time. */
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

/* What was found out about the objects of one batch. */
typedef struct {
	FirnStore *store;
	GHashTable *sizes; /* FirnId12 * -> uint64_t *, NULL: missing */
	GPtrArray *keys;   /* of the objects; owned */
} Objects;

/* The size of an object, asked for once however many chunks it has. */
static bool
size_of(Objects *objects, const FirnChunkChange *change, uint64_t **out_size, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	gpointer known = NULL;
	uint64_t size = 0;
	bool exists;
	char *key;

	if (g_hash_table_lookup_extended(objects->sizes, &change->u.id, NULL, &known)) {
		*out_size = known;
		return true;
	}
	firn_id12_format(&change->u.id, text);
	key = g_strconcat("chunks/", text, NULL);
	g_ptr_array_add(objects->keys, key);
	if (!firn_store_stat(objects->store, key, &exists, &size, NULL, error))
		return false;
	*out_size = exists ? g_memdup2(&size, sizeof size) : NULL;
	g_hash_table_insert(objects->sizes, g_memdup2(&change->u.id, sizeof change->u.id),
			    *out_size);
	return true;
}

static bool
check_native(Objects *objects, const Native *native, GError **error)
{
	const FirnChunkChange *change = native->change;
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *chunk = NULL;
	uint64_t *size;

	if (!size_of(objects, change, &size, error))
		return false;
	if (size != NULL && change->length > 0 && change->offset <= *size &&
	    change->length <= *size - change->offset)
		return true;
	chunk = firn_name_format_chunk(native->coords, native->array->rank);
	firn_id12_format(&change->u.id, text);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "%s %s: its object chunks/%s %s: write the chunk again", native->array->path,
		    chunk, text, size != NULL ? "is shorter than the journal says" : "is missing");
	return false;
}

static bool
check_batch(size_t index, void *data, GError **error)
{
	const Verify *verify = data;
	guint from = (guint)index * BATCH;
	guint to = MIN(from + BATCH, verify->natives->len);
	g_autoptr(GHashTable) sizes =
		g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, g_free);
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	Objects objects = { firn_repo_store(verify->c->repo), sizes, keys };

	for (guint i = from; i < to; i++)
		if (!check_native(&objects, &g_array_index(verify->natives, Native, i), error))
			return false;
	return firn_store_sync(objects.store, (const char *const *)keys->pdata, keys->len, error);
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
