#include "core/repo/chunk_map_priv.h"

static void
free_inner(void *node, uint32_t depth)
{
	FirnChunkInner *inner = node;

	for (uint32_t i = 0; depth > 1 && i < inner->n; i++)
		free_inner(inner->children[i], depth - 1);
	g_free(inner);
}

void
firn_chunk_iter_begin(FirnChunkIter *iter, FirnChunkMap *map, const FirnChunkPlace *place,
		      bool holds)
{
	*iter = (FirnChunkIter){ .map = map, .leaf = place->leaf, .at = place->at, .holds = holds };
}

FirnChunkPlace
firn_chunk_iter_place(FirnChunkIter *iter)
{
	while (iter->leaf != NULL && iter->at == ((FirnChunkLeaf *)iter->leaf)->n)
		firn_chunk_iter_step(iter);
	return (FirnChunkPlace){ iter->leaf, iter->at };
}

void
firn_chunk_iter_drain(FirnChunkIter *iter, FirnChunkMap *map)
{
	firn_chunk_iter_seek(iter, map, NULL, 0);
	iter->drains = true;
	if (map->depth > 0)
		free_inner(map->root, map->depth);
	map->root = NULL;
	map->depth = 0;
	map->size = 0;
	map->hint = NULL;
}

void
firn_chunk_iter_clear(FirnChunkIter *iter)
{
	while (iter->drains && iter->leaf != NULL)
		firn_chunk_iter_step(iter);
	if (iter->reads && !iter->holds && iter->leaf != NULL)
		firn_chunk_leaf_close(iter->leaf);
	iter->reads = false;
	iter->leaf = NULL;
}

uint32_t
firn_chunk_iter_run(const FirnChunkIter *iter, const uint32_t *limit, const uint32_t **out_coords,
		    FirnChunkChange **out_changes)
{
	FirnChunkLeaf *leaf = iter->leaf;
	uint32_t first = iter->at - 1, from = iter->at, to = leaf->n;
	uint32_t rank = iter->map->rank;

	*out_coords = firn_chunk_map_leaf_row(iter->map, leaf, first);
	*out_changes = &leaf->changes[first];
	if (limit == NULL ||
	    firn_coords_compare(firn_chunk_map_leaf_row(iter->map, leaf, to - 1), limit, rank) < 0)
		return to - first;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;

		if (firn_coords_compare(firn_chunk_map_leaf_row(iter->map, leaf, mid), limit,
					rank) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from - first;
}

static FirnChunkLeaf *
last_leaf(const FirnChunkMap *map, FirnChunkPath *path)
{
	void *node = map->root;

	for (uint32_t level = 0; level < map->depth; level++) {
		path->nodes[level] = node;
		path->at[level] = path->nodes[level]->n - 1;
		node = path->nodes[level]->children[path->at[level]];
	}
	return node;
}

void
firn_chunk_map_append_leaf(FirnChunkMap *map, FirnChunkLeaf *leaf, const uint32_t *first)
{
	uint32_t key[FIRN_MAX_RANK];
	FirnChunkPath path;
	FirnChunkLeaf *last = last_leaf(map, &path);

	/* Only a map of one leaf has a small one. */
	while (last != NULL && last->fold == NULL && last->capacity < FIRN_CHUNK_LEAF_MAX)
		last = firn_chunk_map_leaf_grow(map, last);
	leaf->prev = last;
	leaf->next = NULL;
	if (last == NULL) {
		map->root = leaf;
		return;
	}
	last->next = leaf;
	memcpy(key, first, firn_chunk_map_row_bytes(map, 1));
	firn_chunk_map_add_leaf(map, &path, key, leaf);
}

static void
append_rows(FirnChunkMap *map, FirnChunkLeaf *source, uint32_t from, uint32_t n)
{
	FirnChunkLeaf *leaf = map->hint;
	FirnChunkPath path;

	if (leaf == NULL || leaf->next != NULL)
		leaf = last_leaf(map, &path);
	if (leaf != NULL && leaf->fold != NULL)
		leaf = NULL;
	if (leaf != NULL && leaf->capacity < FIRN_CHUNK_LEAF_MAX)
		while (leaf->capacity < FIRN_CHUNK_LEAF_MAX && leaf->capacity - leaf->n < n)
			leaf = firn_chunk_map_leaf_grow(map, leaf);
	while (n > 0) {
		uint32_t part;

		if (leaf == NULL || leaf->n == leaf->capacity) {
			leaf = firn_chunk_map_leaf_new(map, FIRN_CHUNK_LEAF_MAX);
			firn_chunk_map_append_leaf(map, leaf,
						   firn_chunk_map_leaf_row(map, source, from));
		}
		part = MIN(n, leaf->capacity - leaf->n);
		firn_chunk_map_leaf_move(map, leaf, leaf->n, source, from, part);
		from += part;
		n -= part;
	}
	map->hint = leaf;
	map->hint_at = leaf->n - 1;
}

void
firn_chunk_map_take(FirnChunkMap *map, FirnChunkIter *iter, uint32_t n)
{
	FirnChunkLeaf *leaf = iter->leaf;

	g_assert(iter->drains && n > 0 && iter->at - 1 + n <= leaf->n);
	map->size += n;
	/* What they link to goes with the leaf. */
	if (leaf->fold != NULL && leaf->fold->store != NULL) {
		firn_chunk_map_share_store(map, leaf->fold->store);
		g_clear_pointer(&leaf->fold->store, firn_chunk_store_unref);
	}
	/* Small ones are filled up rather. */
	if (leaf->fold != NULL || n < leaf->n || n < FIRN_CHUNK_LEAF_MAX / 2) {
		append_rows(map, leaf, iter->at - 1, n);
		iter->at += n - 1;
		return;
	}
	iter->leaf = leaf->next;
	iter->at = 0;
	if (leaf->next != NULL)
		leaf->next->prev = NULL;
	firn_chunk_map_append_leaf(map, leaf, firn_chunk_map_leaf_row(map, leaf, 0));
	map->hint = leaf;
	map->hint_at = leaf->n - 1;
}
