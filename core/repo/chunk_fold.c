#include "core/base/error.h"
#include "core/repo/chunk_map_priv.h"

#include <errno.h>
#include <stdalign.h>
#include <unistd.h>

struct FirnChunkFile {
	gint refs; /* atomic */
	int fd;
	FirnChunkFile *whole; /* whose descriptor it is, held; NULL: its own */
	char *name;
	uint64_t seed;
	FirnChunkUnfold unfold;
	int failed; /* atomic: errno, or -1 for other bytes than there were; 0: not so far */
};

/* Which leaves are read by whom; one lock a leaf would be half of what is kept of it. */
#define N_LOCKS 16u
static pthread_mutex_t locks[N_LOCKS] = {
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER,
};

static pthread_mutex_t *
lock_of(const FirnChunkLeaf *leaf)
{
	return &locks[((uintptr_t)leaf >> 6) % N_LOCKS];
}

/* ---- files ---- */

FirnChunkFile *
firn_chunk_file_new(int fd, const char *name, uint64_t seed, FirnChunkUnfold unfold)
{
	FirnChunkFile *file = g_new0(FirnChunkFile, 1);

	file->refs = 1;
	file->fd = fd;
	file->name = g_strdup(name);
	file->seed = seed;
	file->unfold = unfold;
	return file;
}

FirnChunkFile *
firn_chunk_file_part(FirnChunkFile *file, uint64_t seed)
{
	FirnChunkFile *part = firn_chunk_file_new(file->fd, file->name, seed, file->unfold);

	part->whole = firn_chunk_file_ref(file);
	return part;
}

FirnChunkFile *
firn_chunk_file_ref(FirnChunkFile *file)
{
	g_atomic_int_inc(&file->refs);
	return file;
}

void
firn_chunk_file_unref(FirnChunkFile *file)
{
	if (file == NULL || !g_atomic_int_dec_and_test(&file->refs))
		return;
	if (file->whole == NULL)
		close(file->fd);
	firn_chunk_file_unref(file->whole);
	g_free(file->name);
	g_free(file);
}

static void
unref_file(gpointer file)
{
	firn_chunk_file_unref(file);
}

static void
hold_file(FirnChunkMap *map, FirnChunkFile *file)
{
	if (map->files == NULL)
		map->files = g_ptr_array_new_with_free_func(unref_file);
	if (map->files->len > 0 && map->files->pdata[map->files->len - 1] == file)
		return;
	g_ptr_array_add(map->files, firn_chunk_file_ref(file));
}

void
firn_chunk_map_share_files(FirnChunkMap *map, const FirnChunkMap *other)
{
	for (guint i = 0; other->files != NULL && i < other->files->len; i++)
		hold_file(map, other->files->pdata[i]);
}

bool
firn_chunk_map_check(const FirnChunkMap *map, GError **error)
{
	for (guint i = 0; map != NULL && map->files != NULL && i < map->files->len; i++) {
		FirnChunkFile *file = map->files->pdata[i];
		int failed = __atomic_load_n(&file->failed, __ATOMIC_RELAXED);

		if (failed == 0)
			continue;
		if (failed > 0)
			firn_error_set_errno(error, failed, "cannot read journal %s", file->name);
		else
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
				    "journal %s changed while it was read: try again when nobody "
				    "writes it any more",
				    file->name);
		return false;
	}
	return true;
}

/* 0, an errno, or -1: the file is shorter than it was. */
static int
read_span(const FirnChunkFile *file, const FirnChunkSpan *span, uint8_t *buffer)
{
	size_t done = 0;

	while (done < span->size) {
		ssize_t n = pread(file->fd, buffer + done, span->size - done,
				  (off_t)(span->offset + done));

		if (n < 0 && errno != EINTR)
			return errno;
		if (n == 0)
			return -1;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

/* ---- leaves ---- */

void
firn_chunk_fold_free(FirnChunkFold *fold)
{
	if (fold == NULL)
		return;
	firn_chunk_store_unref(fold->store);
	g_free(fold);
}

/* In one piece, as there may be millions. */
static FirnChunkFold *
new_fold(const FirnChunkMap *map, const FirnChunkSpan *span, const uint32_t *bounds,
	 const FirnChunkPack *packs)
{
	size_t bytes = firn_chunk_map_row_bytes(map, 3);
	size_t at = offsetof(FirnChunkFold, bounds) + bytes;
	FirnChunkFold *fold;

	at += -at % alignof(FirnChunkPack);
	fold = g_malloc0(at + span->n_packs * sizeof *packs);
	fold->span = *span;
	if (bytes > 0)
		memcpy(fold->bounds, bounds, bytes);
	if (span->n_packs > 0) {
		fold->packs = (FirnChunkPack *)(void *)((uint8_t *)fold + at);
		memcpy(fold->packs, packs, span->n_packs * sizeof *packs);
	}
	return fold;
}

void
firn_chunk_map_append_folded(FirnChunkMap *map, FirnChunkFile *file, const FirnChunkSpan *span,
			     const uint32_t *bounds, const FirnChunkPack *packs)
{
	FirnChunkLeaf *leaf = g_new0(FirnChunkLeaf, 1);

	g_assert(span->n > 0 && span->n <= FIRN_CHUNK_FOLD_MAX);
	leaf->n = span->n;
	leaf->capacity = span->n;
	leaf->fold = new_fold(map, span, bounds, packs);
	leaf->fold->file = file;
	hold_file(map, file);
	map->size += span->n;
	map->hint = NULL;
	firn_chunk_map_append_leaf(map, leaf, leaf->fold->bounds);
}

static void
relabel(const FirnChunkFold *fold, FirnChunkChange *changes)
{
	for (uint32_t i = 0; fold->relabelled && i < fold->span.n; i++) {
		firn_chunk_change_number(&changes[i],
					 changes[i].seq < fold->limit ? fold->older : fold->newer);
		changes[i].ino = 0;
	}
}

/* What the tree relies on, whatever the file says by now. */
static bool
fits(const FirnChunkMap *map, const FirnChunkFold *fold, const uint32_t *rows)
{
	uint32_t rank = map->rank;
	const uint32_t *last = rows + (size_t)(fold->span.n - 1) * rank;

	for (uint32_t i = 1; i < fold->span.n; i++)
		if (firn_coords_compare(rows + (size_t)(i - 1) * rank, rows + (size_t)i * rank,
					rank) >= 0)
			return false;
	return firn_coords_compare(rows, fold->bounds, rank) == 0 &&
	       firn_coords_compare(last, fold->bounds + rank, rank) == 0;
}

/* The changes of a folded leaf; NULL: they cannot be read any more. */
static FirnChunkChange *
unfold(const FirnChunkMap *map, FirnChunkFold *fold)
{
	uint32_t n = fold->span.n;
	g_autofree uint8_t *bytes = g_malloc(fold->span.size);
	g_autofree FirnChunkChange *changes =
		g_malloc0(n * sizeof *changes + firn_chunk_map_row_bytes(map, n));
	uint32_t *rows = (uint32_t *)(void *)(changes + n);
	FirnChunkStore *store = firn_chunk_store_new();
	int failed = read_span(fold->file, &fold->span, bytes);
	FirnSpan span = { bytes, fold->span.size };

	if (failed == 0 && (!fold->file->unfold(span, &fold->span, map->rank, fold->file->seed,
						rows, changes, store) ||
			    !fits(map, fold, rows)))
		failed = -1;
	if (failed != 0) {
		__atomic_store_n(&fold->file->failed, failed, __ATOMIC_RELAXED);
		firn_chunk_store_unref(store);
		return NULL;
	}
	relabel(fold, changes);
	fold->store = store;
	return g_steal_pointer(&changes);
}

bool
firn_chunk_leaf_open(const FirnChunkMap *map, FirnChunkLeaf *leaf)
{
	FirnChunkFold *fold = leaf->fold;

	if (fold == NULL)
		return true;
	FIRN_LOCK_SCOPE(lock_of(leaf));
	if (fold->uses == 0)
		leaf->changes = unfold(map, fold);
	if (leaf->changes == NULL)
		return false;
	fold->uses++;
	return true;
}

void
firn_chunk_leaf_close(FirnChunkLeaf *leaf)
{
	FirnChunkFold *fold = leaf->fold;

	if (fold == NULL)
		return;
	FIRN_LOCK_SCOPE(lock_of(leaf));
	/* Who did not get to a leaf because one could not be read does not use it. */
	if (__atomic_load_n(&fold->file->failed, __ATOMIC_RELAXED) != 0)
		return;
	g_assert(fold->uses > 0);
	if (--fold->uses > 0)
		return;
	g_clear_pointer(&leaf->changes, g_free);
	g_clear_pointer(&fold->store, firn_chunk_store_unref);
}

/* As large as other leaves, which are split when they are full. */
static FirnChunkChange *
new_room(const FirnChunkMap *map)
{
	return g_malloc(FIRN_CHUNK_LEAF_MAX * sizeof(FirnChunkChange) +
			firn_chunk_map_row_bytes(map, FIRN_CHUNK_LEAF_MAX));
}

bool
firn_chunk_leaf_own(FirnChunkMap *map, FirnChunkLeaf *leaf)
{
	FirnChunkLeaf room = { .capacity = FIRN_CHUNK_LEAF_MAX };

	if (leaf->fold == NULL)
		return true;
	if (!firn_chunk_leaf_open(map, leaf))
		return false;
	room.changes = new_room(map);
	firn_chunk_map_leaf_move(map, &room, 0, leaf, 0, leaf->n);
	g_free(leaf->changes);
	leaf->changes = room.changes;
	leaf->capacity = room.capacity;
	firn_chunk_map_share_store(map, leaf->fold->store);
	g_clear_pointer(&leaf->fold, firn_chunk_fold_free);
	return true;
}

void
firn_chunk_leaf_give_up(FirnChunkMap *map, FirnChunkLeaf *leaf)
{
	map->size -= leaf->n;
	leaf->n = 0;
	leaf->capacity = FIRN_CHUNK_LEAF_MAX;
	leaf->changes = new_room(map);
	g_clear_pointer(&leaf->fold, firn_chunk_fold_free);
}

/* ---- iterators ---- */

void
firn_chunk_iter_share(const FirnChunkIter *iter, FirnChunkMap *map)
{
	const FirnChunkLeaf *leaf = iter->leaf;

	if (leaf == NULL || leaf->fold == NULL || leaf->fold->store == NULL)
		return;
	if (map->shared == NULL || map->shared->len == 0 ||
	    map->shared->pdata[map->shared->len - 1] != leaf->fold->store)
		firn_chunk_map_share_store(map, leaf->fold->store);
}

bool
firn_chunk_iter_block(FirnChunkIter *iter, FirnChunkBlock *out_block)
{
	const FirnChunkLeaf *leaf;
	const FirnChunkFold *fold;
	uint32_t rank = iter->map != NULL ? iter->map->rank : 0;

	while (iter->leaf != NULL && iter->at == ((FirnChunkLeaf *)iter->leaf)->n)
		firn_chunk_iter_step(iter);
	leaf = iter->leaf;
	if (leaf == NULL || leaf->fold == NULL || iter->at > 0 || iter->reads)
		return false;
	fold = leaf->fold;
	*out_block = (FirnChunkBlock){ .n = leaf->n,
				       .kinds = fold->span.kinds,
				       .first = fold->bounds,
				       .last = fold->bounds + rank,
				       .most = fold->bounds + 2 * (size_t)rank,
				       .n_packs = fold->span.n_packs,
				       .packs = fold->packs };
	return true;
}

uint32_t
firn_chunk_iter_skip(FirnChunkIter *iter)
{
	FirnChunkPlace place = firn_chunk_iter_place(iter);
	const FirnChunkLeaf *leaf = place.leaf;
	uint32_t n = leaf != NULL ? leaf->n - place.at : 0;

	if (leaf != NULL)
		firn_chunk_iter_step(iter);
	return n;
}

void
firn_chunk_map_take_folded(FirnChunkMap *map, FirnChunkIter *iter, uint64_t limit, uint64_t older,
			   uint64_t newer)
{
	FirnChunkLeaf *leaf = iter->leaf;
	FirnChunkFold *fold = leaf->fold;

	g_assert(iter->drains && iter->at == 0 && !iter->reads && fold->uses == 0 &&
		 !fold->relabelled);
	fold->relabelled = true;
	fold->limit = limit;
	fold->older = older;
	fold->newer = newer;
	iter->leaf = leaf->next;
	if (leaf->next != NULL)
		leaf->next->prev = NULL;
	map->size += leaf->n;
	map->hint = NULL;
	firn_chunk_map_append_leaf(map, leaf, fold->bounds);
}

void
firn_chunk_map_release(const FirnChunkPlace *place, size_t n)
{
	FirnChunkLeaf *leaf = place->leaf;
	uint32_t at = place->at;

	while (n > 0 && leaf != NULL) {
		size_t part = MIN(n, (size_t)(leaf->n - at));

		if (part > 0)
			firn_chunk_leaf_close(leaf);
		n -= part;
		leaf = leaf->next;
		at = 0;
	}
}
