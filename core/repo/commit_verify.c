#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/repo/repo_internal.h"
#include "core/zarr/name.h"

/* Chunks whose objects are checked at a time. */
#define BATCH 512u

/* Objects that are synced at a time: many together cost little more than one. */
#define SYNC_BATCH 4096u

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
	return old == NULL || !firn_meta_same_geometry(old, meta);
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

/* Changes of one array that follow each other. */
typedef struct {
	const FirnCommitArray *array;
	FirnChunkPlace first;
	size_t n;
} Run;

typedef struct {
	FirnCommitting *c;
	GArray *runs; /* Run */
	GHashTable
		*packs;   /* FirnId12 -> uint64_t, or NULL: objects of many runs, and their sizes */
	GArray *unsynced; /* FirnId12: objects that were found */
	pthread_mutex_t *lock; /* protects the packs and the unsynced */
} Verify;

static void
add_run(GArray *runs, const Run *run)
{
	if (run->n > 0)
		g_array_append_val(runs, *run);
}

/* Cut a segment into runs of some BATCH; folded leaves without objects are left out, unread. */
static void
plan_segment(GArray *runs, const FirnCommitArray *array, const FirnCommitSegment *segment)
{
	Run run = { .array = array };
	FirnChunkIter iter;
	size_t left = segment->n;

	firn_chunk_iter_begin(&iter, array->change->chunks, &segment->first, false);
	while (left > 0) {
		FirnChunkPlace at = firn_chunk_iter_place(&iter);
		FirnChunkBlock block;
		bool none = firn_chunk_iter_block(&iter, &block) &&
			    (block.kinds & 1u << FIRN_REF_NATIVE) == 0;

		size_t n = firn_chunk_iter_skip(&iter);

		if (n == 0)
			break;
		n = MIN(n, left);
		left -= n;
		if (run.n >= BATCH || none) {
			add_run(runs, &run);
			run.n = 0;
		}
		if (none)
			continue;
		if (run.n == 0)
			run.first = at;
		run.n += n;
	}
	add_run(runs, &run);
}

static void
plan(GArray *runs, const FirnCommitArray *array)
{
	for (guint i = 0; i < array->cells->len; i++) {
		const FirnCommitCell *cell = array->cells->pdata[i];

		for (guint j = 0; j < cell->segments->len; j++)
			plan_segment(runs, array,
				     &g_array_index(cell->segments, FirnCommitSegment, j));
	}
}

/* What was found out about the objects of one run. */
typedef struct {
	const Verify *verify;
	FirnStore *store;
	const FirnCommitArray *array;
	GHashTable *sizes; /* FirnId12 * -> uint64_t *, NULL: missing */
	GArray *found;     /* FirnId12: those that this run is to sync */
	bool has_last;
	FirnId12 last; /* asked for last: chunks that follow each other share packs */
	uint64_t *last_size;
} Objects;

/* The size of an object, NULL: it is missing.  Caller owns. */
static bool
ask_size(const Objects *objects, const FirnId12 *id, uint64_t **out_size, GError **error)
{
	g_autofree char *key = firn_repo_key("chunks", id);
	uint64_t size = 0;
	bool exists;

	if (!firn_store_stat(objects->store, key, &exists, &size, NULL, error))
		return false;
	*out_size = exists ? g_memdup2(&size, sizeof size) : NULL;
	return true;
}

/* Who asks first has its size, and syncs it: `*out_size` is owned by the table from then on. */
static bool
note_size(GHashTable *sizes, const FirnId12 *id, uint64_t **out_size)
{
	gpointer known = NULL;

	if (g_hash_table_lookup_extended(sizes, id, NULL, &known)) {
		g_free(*out_size);
		*out_size = known;
		return false;
	}
	return g_hash_table_insert(sizes, g_memdup2(id, sizeof *id), *out_size);
}

static bool
find_size(GHashTable *sizes, const FirnId12 *id, uint64_t **out_size)
{
	gpointer known = NULL;
	bool found = g_hash_table_lookup_extended(sizes, id, NULL, &known);

	*out_size = known;
	return found;
}

/* Of a pack, in many runs. */
static bool
size_of_shared(Objects *objects, const FirnId12 *id, uint64_t **out_size, GError **error)
{
	const Verify *verify = objects->verify;
	bool first;

	{
		FIRN_LOCK_SCOPE(verify->lock);

		if (find_size(verify->packs, id, out_size))
			return true;
	}
	if (!ask_size(objects, id, out_size, error))
		return false;
	{
		FIRN_LOCK_SCOPE(verify->lock);

		first = note_size(verify->packs, id, out_size);
	}
	if (first)
		g_array_append_val(objects->found, *id);
	return true;
}

static bool
size_of_own(Objects *objects, const FirnId12 *id, uint64_t **out_size, GError **error)
{
	if (find_size(objects->sizes, id, out_size))
		return true;
	if (!ask_size(objects, id, out_size, error))
		return false;
	(void)note_size(objects->sizes, id, out_size);
	g_array_append_val(objects->found, *id);
	return true;
}

/* The size of an object, asked for once however many chunks it has. */
static bool
size_of(Objects *objects, const FirnId12 *id, bool is_pack, uint64_t **out_size, GError **error)
{
	bool ok;

	*out_size = objects->last_size;
	if (objects->has_last && firn_id12_compare(&objects->last, id) == 0)
		return true;
	ok = is_pack ? size_of_shared(objects, id, out_size, error)
		     : size_of_own(objects, id, out_size, error);
	objects->has_last = ok;
	objects->last = *id;
	objects->last_size = *out_size;
	return ok;
}

static bool
check_native(Objects *objects, const uint32_t *coords, const FirnChunkChange *change,
	     GError **error)
{
	const FirnCommitArray *array = objects->array;
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *chunk = NULL;
	const FirnId12 *id = firn_chunk_change_id(change);
	uint64_t offset = firn_chunk_change_offset(change);
	uint64_t length = firn_chunk_change_length(change);
	uint64_t *size;

	if (!size_of(objects, id, offset > 0, &size, error))
		return false;
	if (size != NULL && length > 0 && offset <= *size && length <= *size - offset)
		return true;
	chunk = firn_name_format_chunk(coords, array->rank);
	firn_id12_format(id, text);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "%s %s: its object chunks/%s %s: write the chunk again", array->path, chunk,
		    text, size != NULL ? "is shorter than the journal says" : "is missing");
	return false;
}

static GHashTable *
new_sizes(void)
{
	return g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, g_free);
}

/* Whether all objects of a folded leaf are there, as far as that is known without reading it. */
static bool
are_there(Objects *objects, const FirnChunkBlock *block)
{
	for (uint32_t i = 0; i < block->n_packs; i++) {
		const FirnChunkPack *pack = &block->packs[i];
		uint64_t *size;

		if (!size_of(objects, &pack->id, true, &size, NULL) || size == NULL ||
		    *size < pack->end)
			return false;
	}
	return block->n_packs > 0;
}

/* What is missing is found, and named, by looking at the chunks. */
static bool
check_chunks(Objects *objects, const Run *run, GError **error)
{
	FirnChunkBlock block;
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;
	size_t left = run->n;
	bool ok = true;

	firn_chunk_iter_begin(&iter, run->array->change->chunks, &run->first, false);
	while (ok && left > 0) {
		if (firn_chunk_iter_block(&iter, &block) && block.n <= left &&
		    are_there(objects, &block)) {
			left -= firn_chunk_iter_skip(&iter);
			continue;
		}
		if (!firn_chunk_iter_next(&iter, &coords, &change))
			break;
		ok = change->kind != FIRN_REF_NATIVE ||
		     check_native(objects, coords, change, error);
		left--;
	}
	firn_chunk_iter_clear(&iter);
	return ok;
}

static bool
sync_objects(FirnStore *store, const GArray *ids, GError **error)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < ids->len; i++)
		g_ptr_array_add(keys, firn_repo_key("chunks", &g_array_index(ids, FirnId12, i)));
	return keys->len == 0 ||
	       firn_store_sync(store, (const char *const *)keys->pdata, keys->len, error);
}

/* When there are enough of them, or `all`. */
static bool
sync_found(Verify *verify, const GArray *found, bool all, GError **error)
{
	g_autoptr(GArray) due = NULL;

	{
		FIRN_LOCK_SCOPE(verify->lock);

		if (found != NULL)
			g_array_append_vals(verify->unsynced, found->data, found->len);
		if (all || verify->unsynced->len >= SYNC_BATCH) {
			due = verify->unsynced;
			verify->unsynced = g_array_new(FALSE, FALSE, sizeof(FirnId12));
		}
	}
	return due == NULL || sync_objects(firn_repo_store(verify->c->repo), due, error);
}

static bool
check_run(size_t index, void *data, GError **error)
{
	Verify *verify = data;
	const Run *run = &g_array_index(verify->runs, Run, index);
	g_autoptr(GHashTable) sizes = new_sizes();
	g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(FirnId12));
	Objects objects = { .verify = verify,
			    .store = firn_repo_store(verify->c->repo),
			    .array = run->array,
			    .sizes = sizes,
			    .found = found };

	return check_chunks(&objects, run, error) && sync_found(verify, found, false, error);
}

bool
firn_commit_verify(FirnCommitting *c, GError **error)
{
	g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(Run));
	g_autoptr(GHashTable) packs = new_sizes();
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	Verify verify = { .c = c,
			  .runs = runs,
			  .packs = packs,
			  .unsynced = g_array_new(FALSE, FALSE, sizeof(FirnId12)),
			  .lock = &lock };
	bool ok = true;

	for (guint i = 0; ok && i < c->rows->len; i++) {
		const FirnCommitRow *row = firn_commit_row(c, i);

		if (row->array == NULL)
			continue;
		ok = check_geometry(row->array, row->meta, error);
		if (ok)
			plan(runs, row->array);
	}
	ok = ok && firn_commit_pool(c, "chunks", runs->len, check_run, &verify, error) &&
	     sync_found(&verify, NULL, true, error);
	g_array_unref(verify.unsynced);
	return ok;
}
