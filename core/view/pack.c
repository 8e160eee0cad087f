#include "core/view/pack.h"

#include "core/view/internal.h"

#include <stdlib.h>

/* A pack is full from here on: few enough for one fsync each, small enough to be collected. */
#define PACK_MAX ((uint64_t)4 * 1024 * 1024)

/* From here on a file of its own costs little beside the bytes. */
#define CHUNK_MAX ((size_t)64 * 1024)

/* Whoever lives in whole blocks can be freed without the rest of the pack. */
#define BLOCK UINT64_C(4096)

/* No chunk begins at the start. */
#define FIRST UINT64_C(16)

/* Chunks begin at multiples of 8. */
#define DROPPED UINT32_C(1)

typedef struct {
	FirnId12 id;
	int refs;        /* of `current`, `own`, and who is appending */
	GArray *offsets; /* uint32_t, ascending: where its chunks begin; 1 is added to those dropped */
	unsigned n_used; /* of them that were not dropped; one more while it is current */
	unsigned n_appending;
	uint64_t end;            /* reserved up to here */
	FirnStoreWriter *writer; /* NULL: closed */
	pthread_mutex_t flushing;
	bool broken; /* under `flushing`: what was written may be lost, of whomever */
} Pack;

/* A part some contents refer to. */
typedef struct {
	FirnPart part;
	unsigned n;
	bool garbage;
} Used;

struct FirnPacks {
	pthread_mutex_t lock; /* only the side lock is taken with it held */
	Pack *current;        /* being added to; NULL: none */
	GHashTable *own;      /* &id -> Pack *: those that nobody else can know */
	GHashTable *used;     /* &part -> Used * */
};

guint
firn_part_hash(gconstpointer data)
{
	const FirnPart *part = data;

	return firn_id12_hash(&part->id) + (guint)part->offset;
}

gboolean
firn_part_equal(gconstpointer a, gconstpointer b)
{
	const FirnPart *x = a;
	const FirnPart *y = b;

	return x->offset == y->offset && firn_id12_compare(&x->id, &y->id) == 0;
}

FirnPart *
firn_part_copy(const FirnPart *part)
{
	return g_memdup2(part, sizeof *part);
}

/* ---- packs; the lock is held for all of these ---- */

static void
pack_unref(Pack *pack)
{
	if (--pack->refs > 0)
		return;
	g_array_unref(pack->offsets);
	pthread_mutex_destroy(&pack->flushing);
	g_free(pack);
}

static void
pack_unref_value(gpointer pack)
{
	pack_unref(pack);
}

static void
close_unneeded(const FirnPacks *packs, Pack *pack)
{
	if (pack == packs->current || pack->n_appending > 0 || pack->writer == NULL)
		return;
	firn_store_writer_leave(pack->writer);
	pack->writer = NULL;
}

/* One use less.  True: there is nothing in it any more, and nobody will put anything into it. */
static bool
pack_unuse(FirnPacks *packs, Pack *pack)
{
	return --pack->n_used == 0 && g_hash_table_remove(packs->own, &pack->id);
}

static int
compare_offsets(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a & ~DROPPED;
	uint32_t y = *(const uint32_t *)b & ~DROPPED;

	return (x > y) - (x < y);
}

/* As above, for a chunk in it; who says it twice, says it once. */
static bool
pack_drop(FirnPacks *packs, Pack *pack, uint64_t offset)
{
	uint32_t key = (uint32_t)offset;
	uint32_t *found =
		bsearch(&key, pack->offsets->data, pack->offsets->len, sizeof key, compare_offsets);

	if (offset > PACK_MAX || found == NULL || *found != key)
		return false;
	*found |= DROPPED;
	return pack_unuse(packs, pack);
}

/* The object of an empty pack is garbage. */
static void
discard_pack(FirnView *view, const FirnId12 *id)
{
	FirnPart whole = { .id = *id };

	firn_view_discard_part(view, &whole);
}

static void
close_current(FirnView *view)
{
	FirnPacks *packs = view->packs;
	Pack *pack = packs->current;

	if (pack == NULL)
		return;
	packs->current = NULL;
	close_unneeded(packs, pack);
	if (pack_unuse(packs, pack))
		discard_pack(view, &pack->id);
	pack_unref(pack);
}

static Pack *
begin_pack(FirnView *view, int *out_failed)
{
	FirnPacks *packs = view->packs;
	FirnId12 id = firn_id12_random();
	g_autofree char *key = firn_content_key(&id);
	FirnStoreWriter *writer;
	GError *error = NULL;
	Pack *pack;

	writer = firn_store_writer_open(firn_repo_store(view->repo), key, &error);
	if (writer == NULL) {
		*out_failed = firn_view_fail(view, key, error);
		return NULL;
	}
	pack = g_new0(Pack, 1);
	pack->id = id;
	pack->refs = 2;
	pack->n_used = 1;
	pack->end = FIRST;
	pack->offsets = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	pack->writer = writer;
	pthread_mutex_init(&pack->flushing, NULL);
	packs->current = pack;
	g_hash_table_insert(packs->own, &pack->id, pack);
	return pack;
}

/* ---- adding ---- */

bool
firn_pack_takes(size_t len)
{
	return len > 0 && len <= CHUNK_MAX;
}

uint64_t
firn_pack_align(uint64_t offset, uint64_t len)
{
	uint64_t step = len >= BLOCK ? BLOCK : 8;

	return (offset + step - 1) / step * step;
}

/* A place for so many bytes; the pack is referenced. */
static Pack *
reserve(FirnView *view, size_t len, uint64_t *out_offset, int *out_failed)
{
	FirnPacks *packs = view->packs;
	uint32_t start;
	Pack *pack;
	FIRN_LOCK_SCOPE(&packs->lock);

	if (packs->current != NULL && firn_pack_align(packs->current->end, len) + len > PACK_MAX)
		close_current(view);
	pack = packs->current != NULL ? packs->current : begin_pack(view, out_failed);
	if (pack == NULL)
		return NULL;
	*out_offset = firn_pack_align(pack->end, len);
	pack->end = *out_offset + len;
	start = (uint32_t)*out_offset;
	g_array_append_val(pack->offsets, start);
	pack->n_used++;
	pack->n_appending++;
	pack->refs++;
	return pack;
}

/*
 * Network file systems tell of failed writes when a descriptor is closed, and only once: so one
 * append asks at a time, and a failure is one of all that come after.
 */
static bool
flush(Pack *pack, GError **error)
{
	FIRN_LOCK_SCOPE(&pack->flushing);

	if (pack->broken)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "bytes that were written to the same object are lost");
	else
		pack->broken = !firn_store_writer_flush(pack->writer, error);
	return !pack->broken;
}

/* A part of the bytes may be there. */
static int
fail_append(FirnView *view, const FirnPart *part, GError *error)
{
	g_autofree char *key = firn_content_key(&part->id);
	int failed = firn_view_fail(view, key, error);
	GError *other = NULL;

	if (!firn_store_free_range(firn_repo_store(view->repo), key, part->offset, part->length,
				   &other))
		g_error_free(other);
	return failed;
}

int
firn_pack_append(FirnView *view, const void *data, size_t len, FirnPart *out_part)
{
	FirnPacks *packs = view->packs;
	GError *error = NULL;
	uint64_t offset = 0;
	int failed = 0;
	Pack *pack = reserve(view, len, &offset, &failed);
	bool flushed = true;
	bool done;

	if (pack == NULL)
		return failed;
	*out_part = (FirnPart){ .id = pack->id, .offset = offset, .length = len };
	done = firn_store_writer_write(pack->writer, offset, data, len, &error);
	if (done)
		done = flushed = flush(pack, &error);
	pthread_mutex_lock(&packs->lock);
	pack->n_appending--;
	if (!flushed && pack == packs->current)
		close_current(view);
	/* Its place stays empty. */
	if (!done && pack_drop(packs, pack, offset))
		discard_pack(view, &pack->id);
	close_unneeded(packs, pack);
	pack_unref(pack);
	pthread_mutex_unlock(&packs->lock);
	return done ? 0 : fail_append(view, out_part, error);
}

void
firn_packs_close(FirnView *view)
{
	FIRN_LOCK_SCOPE(&view->packs->lock);

	close_current(view);
}

void
firn_packs_give_away(FirnView *view)
{
	FIRN_LOCK_SCOPE(&view->packs->lock);

	close_current(view);
	g_hash_table_remove_all(view->packs->own);
}

/* ---- who needs what is there ---- */

void
firn_pack_use(FirnView *view, const FirnPart *part)
{
	FirnPacks *packs = view->packs;
	Used *used;
	FIRN_LOCK_SCOPE(&packs->lock);

	used = g_hash_table_lookup(packs->used, part);
	if (used == NULL) {
		used = g_new0(Used, 1);
		used->part = *part;
		g_hash_table_insert(packs->used, &used->part, used);
	}
	used->n++;
}

bool
firn_pack_unuse(FirnView *view, const FirnPart *part)
{
	FirnPacks *packs = view->packs;
	bool garbage;
	Used *used;
	FIRN_LOCK_SCOPE(&packs->lock);

	used = g_hash_table_lookup(packs->used, part);
	g_assert(used != NULL && used->n > 0);
	if (--used->n > 0)
		return false;
	garbage = used->garbage;
	g_hash_table_remove(packs->used, part);
	return garbage;
}

FirnPackRest
firn_pack_drop(FirnView *view, const FirnPart *part)
{
	FirnPacks *packs = view->packs;
	Used *used;
	Pack *pack;
	FIRN_LOCK_SCOPE(&packs->lock);

	used = g_hash_table_lookup(packs->used, part);
	if (used != NULL) {
		used->garbage = true;
		return FIRN_PACK_IN_USE;
	}
	pack = g_hash_table_lookup(packs->own, &part->id);
	return pack != NULL && pack_drop(packs, pack, part->offset) ? FIRN_PACK_EMPTY
								    : FIRN_PACK_HOLE;
}

FirnPacks *
firn_packs_new(void)
{
	FirnPacks *packs = g_new0(FirnPacks, 1);

	pthread_mutex_init(&packs->lock, NULL);
	packs->own = g_hash_table_new_full(firn_id12_hash, firn_id12_equal, NULL, pack_unref_value);
	packs->used = g_hash_table_new_full(firn_part_hash, firn_part_equal, NULL, g_free);
	return packs;
}

void
firn_packs_free(FirnPacks *packs)
{
	g_assert(packs->current == NULL);
	g_hash_table_unref(packs->own);
	g_hash_table_unref(packs->used);
	pthread_mutex_destroy(&packs->lock);
	g_free(packs);
}
