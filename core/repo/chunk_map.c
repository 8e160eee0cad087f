#include "core/repo/chunk_map_priv.h"

#include <string.h>

/* Bytes nothing links to any more, at least, before the rest is moved together. */
#define WASTE_MIN ((size_t)64 * 1024)

static uint32_t *
inner_key(const FirnChunkMap *map, FirnChunkInner *inner, uint32_t i)
{
	return inner->keys + (size_t)i * map->rank;
}

FirnChunkLeaf *
firn_chunk_map_leaf_new(const FirnChunkMap *map, uint32_t capacity)
{
	FirnChunkLeaf *leaf = g_malloc(sizeof *leaf + capacity * sizeof leaf->changes[0] +
				       firn_chunk_map_row_bytes(map, capacity));

	*leaf = (FirnChunkLeaf){ .capacity = capacity };
	leaf->changes = (FirnChunkChange *)(void *)(leaf + 1);
	return leaf;
}

void
firn_chunk_map_leaf_free(FirnChunkLeaf *leaf)
{
	/* Changes that were read are a block of their own. */
	if ((void *)leaf->changes != (void *)(leaf + 1))
		g_free(leaf->changes);
	firn_chunk_fold_free(leaf->fold);
	g_free(leaf);
}

static FirnChunkInner *
inner_new(const FirnChunkMap *map)
{
	FirnChunkInner *inner =
		g_malloc(sizeof *inner + firn_chunk_map_row_bytes(map, FIRN_CHUNK_INNER_MAX));

	inner->n = 0;
	return inner;
}

/* ---- the map ---- */

FirnChunkMap *
firn_chunk_map_new(uint32_t rank)
{
	FirnChunkMap *map = g_new0(FirnChunkMap, 1);

	g_assert(rank <= FIRN_MAX_RANK);
	map->rank = rank;
	return map;
}

static void
node_free(void *node, uint32_t depth)
{
	FirnChunkInner *inner = node;

	if (depth == 0) {
		firn_chunk_map_leaf_free(node);
		return;
	}
	for (uint32_t i = 0; i < inner->n; i++)
		node_free(inner->children[i], depth - 1);
	g_free(inner);
}

void
firn_chunk_map_free(FirnChunkMap *map)
{
	if (map == NULL)
		return;
	if (map->root != NULL)
		node_free(map->root, map->depth);
	firn_chunk_store_unref(map->store);
	g_clear_pointer(&map->shared, g_ptr_array_unref);
	g_clear_pointer(&map->files, g_ptr_array_unref);
	g_free(map);
}

uint32_t
firn_chunk_map_rank(const FirnChunkMap *map)
{
	return map->rank;
}

size_t
firn_chunk_map_size(const FirnChunkMap *map)
{
	return map->size;
}

/* ---- what entries link to ---- */

static void
note_waste(FirnChunkMap *map, const FirnChunkChange *change)
{
	if (change->kind == FIRN_REF_INLINE)
		map->waste += firn_chunk_change_length(change);
}

/* Copy what is still linked to into a new store. */
static void
compact(FirnChunkMap *map)
{
	FirnChunkStore *store = firn_chunk_store_new();
	FirnChunkChange *change;
	FirnChunkIter iter;
	FirnRef ref;

	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_next(&iter, NULL, &change)) {
		firn_chunk_change_get(change, &ref);
		firn_chunk_change_set(change, &ref, store);
	}
	firn_chunk_store_unref(map->store);
	g_clear_pointer(&map->shared, g_ptr_array_unref);
	map->store = store;
	map->waste = 0;
}

void
firn_chunk_map_set(FirnChunkMap *map, FirnChunkChange *change, const FirnRef *ref)
{
	if (map->store == NULL)
		map->store = firn_chunk_store_new();
	note_waste(map, change);
	firn_chunk_change_set(change, ref, map->store);
	if (map->waste > WASTE_MIN && map->waste > firn_chunk_store_size(map->store) / 2)
		compact(map);
}

size_t
firn_chunk_map_content_size(const FirnChunkMap *map)
{
	return map->store != NULL ? firn_chunk_store_size(map->store) : 0;
}

static void
unref_store(gpointer store)
{
	firn_chunk_store_unref(store);
}

void
firn_chunk_map_share_store(FirnChunkMap *map, FirnChunkStore *store)
{
	if (map->shared == NULL)
		map->shared = g_ptr_array_new_with_free_func(unref_store);
	g_ptr_array_add(map->shared, firn_chunk_store_ref(store));
}

void
firn_chunk_map_share(FirnChunkMap *map, const FirnChunkMap *other)
{
	if (other->store != NULL)
		firn_chunk_map_share_store(map, other->store);
	for (guint i = 0; other->shared != NULL && i < other->shared->len; i++)
		firn_chunk_map_share_store(map, other->shared->pdata[i]);
	firn_chunk_map_share_files(map, other);
}

/* ---- look-up ---- */

/* First row >= coords; `*out_equal` whether it is the same. */
static uint32_t
leaf_search(const FirnChunkMap *map, FirnChunkLeaf *leaf, const uint32_t *coords, bool *out_equal)
{
	uint32_t from = 0, to = leaf->n;

	*out_equal = false;
	/* A run of inserts at the end goes on there. */
	if (map->hint == leaf && map->hint_at + 1 == leaf->n &&
	    firn_coords_compare(firn_chunk_map_leaf_row(map, leaf, leaf->n - 1), coords,
				map->rank) < 0)
		return leaf->n;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		int order = firn_coords_compare(firn_chunk_map_leaf_row(map, leaf, mid), coords,
						map->rank);

		if (order == 0) {
			*out_equal = true;
			return mid;
		}
		if (order < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/* The child that holds `coords`, if any does: the last whose key is <= coords. */
static uint32_t
inner_search(const FirnChunkMap *map, FirnChunkInner *inner, const uint32_t *coords)
{
	uint32_t from = 1, to = inner->n;

	while (from < to) {
		uint32_t mid = from + (to - from) / 2;

		if (firn_coords_compare(inner_key(map, inner, mid), coords, map->rank) <= 0)
			from = mid + 1;
		else
			to = mid;
	}
	return from - 1;
}

/* The leaf `coords` belongs in (NULL: empty map); `path` may be NULL. */
static FirnChunkLeaf *
descend(const FirnChunkMap *map, const uint32_t *coords, FirnChunkPath *path)
{
	void *node = map->root;

	for (uint32_t level = 0; level < map->depth; level++) {
		FirnChunkInner *inner = node;
		uint32_t at = inner_search(map, inner, coords);

		if (path != NULL) {
			path->nodes[level] = inner;
			path->at[level] = at;
		}
		node = inner->children[at];
	}
	return node;
}

/* Writers go from neighbour to neighbour: try where the last insert went first. */
static FirnChunkLeaf *
find_leaf(const FirnChunkMap *map, const uint32_t *coords)
{
	FirnChunkLeaf *leaf = map->hint;

	/* A hint is where something was inserted: it is not folded. */
	if (leaf != NULL) {
		bool after_first = leaf->prev == NULL ||
				   firn_coords_compare(firn_chunk_map_leaf_row(map, leaf, 0),
						       coords, map->rank) <= 0;
		bool before_last =
			leaf->next == NULL ||
			firn_coords_compare(firn_chunk_map_leaf_row(map, leaf, leaf->n - 1), coords,
					    map->rank) >= 0;

		if (after_first && before_last)
			return leaf;
	}
	return descend(map, coords, NULL);
}

FirnChunkChange *
firn_chunk_map_find(FirnChunkMap *map, const uint32_t *coords)
{
	FirnChunkLeaf *leaf = find_leaf(map, coords);
	bool equal;
	uint32_t at;

	/* What is found may be changed. */
	if (leaf == NULL || !firn_chunk_leaf_own(map, leaf))
		return NULL;
	at = leaf_search(map, leaf, coords, &equal);
	return equal ? &leaf->changes[at] : NULL;
}

/* ---- insert ---- */

void
firn_chunk_map_leaf_move(const FirnChunkMap *map, FirnChunkLeaf *target, uint32_t at,
			 FirnChunkLeaf *source, uint32_t from, uint32_t n)
{
	memcpy(&target->changes[at], &source->changes[from], n * sizeof source->changes[0]);
	memcpy(firn_chunk_map_leaf_row(map, target, at), firn_chunk_map_leaf_row(map, source, from),
	       firn_chunk_map_row_bytes(map, n));
	target->n = at + n;
}

static FirnChunkChange *
insert_row(FirnChunkMap *map, FirnChunkLeaf *leaf, uint32_t at, const uint32_t *coords)
{
	uint32_t n = leaf->n - at;

	memmove(&leaf->changes[at + 1], &leaf->changes[at], n * sizeof leaf->changes[0]);
	memmove(firn_chunk_map_leaf_row(map, leaf, at + 1), firn_chunk_map_leaf_row(map, leaf, at),
		firn_chunk_map_row_bytes(map, n));
	memcpy(firn_chunk_map_leaf_row(map, leaf, at), coords, firn_chunk_map_row_bytes(map, 1));
	memset(&leaf->changes[at], 0, sizeof leaf->changes[at]);
	leaf->n++;
	map->size++;
	map->hint = leaf;
	map->hint_at = at;
	return &leaf->changes[at];
}

static void
insert_child(const FirnChunkMap *map, FirnChunkInner *inner, uint32_t at, const uint32_t *key,
	     void *child)
{
	uint32_t n = inner->n - at;

	memmove(&inner->children[at + 1], &inner->children[at], n * sizeof inner->children[0]);
	memmove(inner_key(map, inner, at + 1), inner_key(map, inner, at),
		firn_chunk_map_row_bytes(map, n));
	memcpy(inner_key(map, inner, at), key, firn_chunk_map_row_bytes(map, 1));
	inner->children[at] = child;
	inner->n++;
}

/*
 * Split a full node and insert `child` at `at`; `key` becomes the key of the
 * new right node.  At its end it is left full: in-order writers fill the tree.
 */
static FirnChunkInner *
split_inner(const FirnChunkMap *map, FirnChunkInner *inner, uint32_t at, uint32_t *key, void *child)
{
	FirnChunkInner *right = inner_new(map);
	uint32_t half = at == inner->n ? inner->n : inner->n / 2;
	uint32_t n = inner->n - half;
	uint32_t separator[FIRN_MAX_RANK];

	if (n == 0) {
		insert_child(map, right, 0, key, child);
		return right;
	}
	memcpy(separator, inner_key(map, inner, half), firn_chunk_map_row_bytes(map, 1));
	memcpy(right->children, &inner->children[half], n * sizeof inner->children[0]);
	memcpy(right->keys, inner_key(map, inner, half), firn_chunk_map_row_bytes(map, n));
	right->n = n;
	inner->n = half;
	if (at <= half)
		insert_child(map, inner, at, key, child);
	else
		insert_child(map, right, at - half, key, child);
	memcpy(key, separator, firn_chunk_map_row_bytes(map, 1));
	return right;
}

/* Hang `child`, whose entries are >= `key` (overwritten), right of the one `path` leads to. */
void
firn_chunk_map_add_leaf(FirnChunkMap *map, const FirnChunkPath *path, uint32_t *key, void *child)
{
	FirnChunkInner *root;

	for (uint32_t level = map->depth; level-- > 0;) {
		FirnChunkInner *inner = path->nodes[level];
		uint32_t at = path->at[level] + 1;

		if (inner->n < FIRN_CHUNK_INNER_MAX) {
			insert_child(map, inner, at, key, child);
			return;
		}
		child = split_inner(map, inner, at, key, child);
	}
	g_assert(map->depth < FIRN_CHUNK_DEPTH_MAX);
	root = inner_new(map);
	insert_child(map, root, 0, key, map->root);
	insert_child(map, root, 1, key, child);
	map->root = root;
	map->depth++;
}

FirnChunkLeaf *
firn_chunk_map_leaf_grow(FirnChunkMap *map, FirnChunkLeaf *leaf)
{
	FirnChunkLeaf *bigger =
		firn_chunk_map_leaf_new(map, MIN(leaf->capacity * 4, FIRN_CHUNK_LEAF_MAX));

	g_assert(map->depth == 0);
	firn_chunk_map_leaf_move(map, bigger, 0, leaf, 0, leaf->n);
	firn_chunk_map_leaf_free(leaf);
	map->root = bigger;
	return bigger;
}

/* Make room for `coords`, which goes to `*at` of the full `leaf`; returns its leaf, updates `*at`. */
static FirnChunkLeaf *
split_leaf(FirnChunkMap *map, FirnChunkLeaf *leaf, const uint32_t *coords, uint32_t *at)
{
	bool run = *at == leaf->n &&
		   (leaf->next == NULL || (map->hint == leaf && map->hint_at + 1 == *at));
	uint32_t half = run ? leaf->n : leaf->n / 2;
	FirnChunkLeaf *right = firn_chunk_map_leaf_new(map, FIRN_CHUNK_LEAF_MAX);
	uint32_t key[FIRN_MAX_RANK];
	FirnChunkPath path;

	(void)descend(map, coords, &path);
	firn_chunk_map_leaf_move(map, right, 0, leaf, half, leaf->n - half);
	leaf->n = half;
	right->prev = leaf;
	right->next = leaf->next;
	if (right->next != NULL)
		right->next->prev = right;
	leaf->next = right;
	memcpy(key, run ? coords : firn_chunk_map_leaf_row(map, right, 0),
	       firn_chunk_map_row_bytes(map, 1));
	firn_chunk_map_add_leaf(map, &path, key, right);
	if (!run && *at <= half)
		return leaf;
	*at -= half;
	return right;
}

FirnChunkChange *
firn_chunk_map_insert(FirnChunkMap *map, const uint32_t *coords, bool *out_new)
{
	FirnChunkLeaf *leaf = find_leaf(map, coords);
	bool equal = false;
	uint32_t at = 0;

	if (leaf == NULL)
		map->root = leaf = firn_chunk_map_leaf_new(map, 1);
	else if (firn_chunk_leaf_own(map, leaf))
		at = leaf_search(map, leaf, coords, &equal);
	else
		firn_chunk_leaf_give_up(map, leaf);
	if (out_new != NULL)
		*out_new = !equal;
	if (equal)
		return &leaf->changes[at];
	if (leaf->n == leaf->capacity)
		leaf = leaf->capacity < FIRN_CHUNK_LEAF_MAX ? firn_chunk_map_leaf_grow(map, leaf)
							    : split_leaf(map, leaf, coords, &at);
	return insert_row(map, leaf, at, coords);
}

/* ---- remove ---- */

/* Take child `at` out of the node at `level` of `path`, and nodes that become empty out of theirs. */
static void
remove_child(FirnChunkMap *map, const FirnChunkPath *path, uint32_t level, uint32_t at)
{
	for (;;) {
		FirnChunkInner *inner = path->nodes[level];
		uint32_t n = inner->n - at - 1;

		memmove(&inner->children[at], &inner->children[at + 1],
			n * sizeof inner->children[0]);
		memmove(inner_key(map, inner, at), inner_key(map, inner, at + 1),
			firn_chunk_map_row_bytes(map, n));
		inner->n--;
		if (inner->n > 0 || level == 0)
			break;
		g_free(inner);
		level--;
		at = path->at[level];
	}
	while (map->depth > 0 && ((FirnChunkInner *)map->root)->n <= 1) {
		FirnChunkInner *root = map->root;

		map->root = root->n == 1 ? root->children[0] : NULL;
		map->depth = root->n == 1 ? map->depth - 1 : 0;
		g_free(root);
	}
}

static void
drop_leaf(FirnChunkMap *map, FirnChunkLeaf *leaf, const FirnChunkPath *path, uint32_t at)
{
	if (leaf->prev != NULL)
		leaf->prev->next = leaf->next;
	if (leaf->next != NULL)
		leaf->next->prev = leaf->prev;
	firn_chunk_map_leaf_free(leaf);
	if (map->depth > 0)
		remove_child(map, path, map->depth - 1, at);
	else
		map->root = NULL;
}

/* Join a leaf that became small with a neighbour of the same parent. */
static void
merge_leaf(FirnChunkMap *map, FirnChunkLeaf *leaf, const FirnChunkPath *path)
{
	uint32_t at = path->at[map->depth - 1];
	FirnChunkInner *parent = path->nodes[map->depth - 1];
	FirnChunkLeaf *left = leaf;

	if (at + 1 == parent->n) {
		if (at == 0)
			return;
		at--;
		left = parent->children[at];
	}
	leaf = parent->children[at + 1];
	if (left->n + leaf->n > FIRN_CHUNK_LEAF_MAX / 4 * 3 || !firn_chunk_leaf_own(map, left) ||
	    !firn_chunk_leaf_own(map, leaf))
		return;
	firn_chunk_map_leaf_move(map, left, left->n, leaf, 0, leaf->n);
	drop_leaf(map, leaf, path, at + 1);
}

bool
firn_chunk_map_remove(FirnChunkMap *map, const uint32_t *coords)
{
	FirnChunkPath path;
	FirnChunkLeaf *leaf = descend(map, coords, &path);
	bool equal;
	uint32_t at, n;

	if (leaf == NULL || !firn_chunk_leaf_own(map, leaf))
		return false;
	at = leaf_search(map, leaf, coords, &equal);
	if (!equal)
		return false;
	note_waste(map, &leaf->changes[at]);
	n = leaf->n - at - 1;
	memmove(&leaf->changes[at], &leaf->changes[at + 1], n * sizeof leaf->changes[0]);
	memmove(firn_chunk_map_leaf_row(map, leaf, at), firn_chunk_map_leaf_row(map, leaf, at + 1),
		firn_chunk_map_row_bytes(map, n));
	leaf->n--;
	map->size--;
	map->hint = NULL;
	if (leaf->n == 0)
		drop_leaf(map, leaf, &path, map->depth > 0 ? path.at[map->depth - 1] : 0);
	else if (leaf->n < FIRN_CHUNK_LEAF_MAX / 4 && map->depth > 0)
		merge_leaf(map, leaf, &path);
	return true;
}

/* ---- iteration ---- */

/* Read the iterator's leaf, if it is folded; where that fails, the iterator is at its end. */
static bool
open_leaf(FirnChunkIter *iter)
{
	FirnChunkLeaf *leaf = iter->leaf;

	if (leaf->fold == NULL || iter->reads)
		return true;
	iter->reads = firn_chunk_leaf_open(iter->map, leaf);
	if (iter->reads)
		return true;
	/* Those behind it stay the map's, unless there is none. */
	firn_chunk_iter_clear(iter);
	return false;
}

void
firn_chunk_iter_seek(FirnChunkIter *iter, FirnChunkMap *map, const uint32_t *coords, uint32_t n)
{
	/* The first row with a prefix is the first >= the prefix and zeros. */
	uint32_t least[FIRN_MAX_RANK] = { 0 };
	bool equal;

	*iter = (FirnChunkIter){ .map = map };
	if (map == NULL)
		return;
	g_assert(n <= map->rank);
	if (n > 0)
		memcpy(least, coords, n * sizeof *coords);
	iter->leaf = descend(map, least, NULL);
	/* The first is the first, folded or not. */
	if (iter->leaf == NULL || n == 0 || !open_leaf(iter))
		return;
	iter->at = leaf_search(map, iter->leaf, least, &equal);
}

void
firn_chunk_iter_step(FirnChunkIter *iter)
{
	FirnChunkLeaf *passed = iter->leaf;

	iter->leaf = passed->next;
	iter->at = 0;
	if (iter->reads && !iter->holds && !iter->drains)
		firn_chunk_leaf_close(passed);
	iter->reads = false;
	if (!iter->drains)
		return;
	if (passed->next != NULL)
		passed->next->prev = NULL;
	firn_chunk_map_leaf_free(passed);
}

bool
firn_chunk_iter_next(FirnChunkIter *iter, const uint32_t **out_coords, FirnChunkChange **out_change)
{
	FirnChunkLeaf *leaf;

	while (iter->leaf != NULL && iter->at == ((FirnChunkLeaf *)iter->leaf)->n)
		firn_chunk_iter_step(iter);
	leaf = iter->leaf;
	if (leaf == NULL || !open_leaf(iter))
		return false;
	if (out_coords != NULL)
		*out_coords = firn_chunk_map_leaf_row(iter->map, leaf, iter->at);
	if (out_change != NULL)
		*out_change = &leaf->changes[iter->at];
	iter->at++;
	return true;
}
