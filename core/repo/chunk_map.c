#include "core/repo/chunk_map.h"

#include <string.h>

#define LEAF_MAX  64u
#define INNER_MAX 64u
/* Each level takes 32 splits of the one below: 12 are out of reach. */
#define DEPTH_MAX 12u

typedef struct Leaf {
	struct Leaf *prev;
	struct Leaf *next;
	uint32_t n;
	uint32_t capacity;
	FirnChunkChange changes[]; /* `capacity` of them, then as many rows of coordinates */
} Leaf;

typedef struct {
	uint32_t n;
	void *children[INNER_MAX];
	uint32_t keys
		[]; /* INNER_MAX rows: no entry of child i is less than row i; row 0 is unused */
} Inner;

struct FirnChunkMap {
	uint32_t rank;
	uint32_t depth; /* levels of Inner above the leaves */
	void *root;     /* NULL: empty */
	size_t size;
	Leaf *hint; /* where the last insert went, NULL: unknown */
	uint32_t hint_at;
};

/* The way from the root to a leaf: at each level the node and the child taken. */
typedef struct {
	Inner *nodes[DEPTH_MAX];
	uint32_t at[DEPTH_MAX];
} Path;

static uint32_t *
leaf_row(const FirnChunkMap *map, Leaf *leaf, uint32_t i)
{
	return (uint32_t *)(void *)(leaf->changes + leaf->capacity) + (size_t)i * map->rank;
}

static uint32_t *
inner_key(const FirnChunkMap *map, Inner *inner, uint32_t i)
{
	return inner->keys + (size_t)i * map->rank;
}

static size_t
row_bytes(const FirnChunkMap *map, uint32_t n)
{
	return (size_t)n * map->rank * sizeof(uint32_t);
}

static Leaf *
leaf_new(const FirnChunkMap *map, uint32_t capacity)
{
	Leaf *leaf = g_malloc(sizeof *leaf + capacity * sizeof leaf->changes[0] +
			      row_bytes(map, capacity));

	leaf->prev = NULL;
	leaf->next = NULL;
	leaf->n = 0;
	leaf->capacity = capacity;
	return leaf;
}

static Inner *
inner_new(const FirnChunkMap *map)
{
	Inner *inner = g_malloc(sizeof *inner + row_bytes(map, INNER_MAX));

	inner->n = 0;
	return inner;
}

/* ---- entries ---- */

static void
change_clear(FirnChunkChange *change)
{
	if (change->kind == FIRN_REF_INLINE) {
		g_free(change->u.bytes);
	} else if (change->kind == FIRN_REF_VIRTUAL) {
		g_free(change->u.virtual);
	}
}

static FirnVirtual *
virtual_new(const FirnRef *ref)
{
	FirnVirtual *virtual = g_malloc(sizeof *virtual + ref->location.len + ref->etag.len);

	/* Both are bounded by what a journal record can hold. */
	g_assert(!ref->location_compressed && ref->location.len <= UINT32_MAX &&
		 ref->etag.len <= UINT32_MAX);
	virtual->offset = ref->offset;
	virtual->last_modified = ref->last_modified;
	virtual->location_len = (uint32_t)ref->location.len;
	virtual->etag_len = (uint32_t)ref->etag.len;
	if (ref->location.len > 0)
		memcpy(virtual->text, ref->location.data, ref->location.len);
	if (ref->etag.len > 0)
		memcpy(virtual->text + ref->location.len, ref->etag.data, ref->etag.len);
	return virtual;
}

void
firn_chunk_change_set(FirnChunkChange *change, const FirnRef *ref)
{
	FirnChunkChange old = *change;

	/* `ref` may borrow from `change` itself: copy first, free last. */
	change->kind = (uint32_t)ref->kind;
	change->length = ref->length;
	change->offset = 0;
	memset(&change->u, 0, sizeof change->u);
	switch (ref->kind) {
	case FIRN_REF_NONE:
		change->length = 0;
		break;
	case FIRN_REF_INLINE:
		change->length = ref->bytes.len;
		change->u.bytes = g_memdup2(ref->bytes.data, ref->bytes.len);
		break;
	case FIRN_REF_NATIVE:
		change->u.id = ref->id;
		change->offset = ref->offset;
		break;
	case FIRN_REF_VIRTUAL:
		change->u.virtual = virtual_new(ref);
		break;
	}
	change_clear(&old);
}

void
firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref)
{
	FirnRef ref = { .kind = (FirnRefKind)change->kind, .length = change->length };
	const FirnVirtual *virtual;

	switch (ref.kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		ref.bytes = (FirnSpan){ change->u.bytes, (size_t)change->length };
		break;
	case FIRN_REF_NATIVE:
		ref.id = change->u.id;
		ref.offset = change->offset;
		break;
	case FIRN_REF_VIRTUAL:
		virtual = change->u.virtual;
		ref.offset = virtual->offset;
		ref.last_modified = virtual->last_modified;
		ref.location = (FirnSpan){ (const uint8_t *)virtual->text, virtual->location_len };
		ref.etag.len = virtual->etag_len;
		if (ref.etag.len > 0)
			ref.etag.data = ref.location.data + ref.location.len;
		break;
	}
	*out_ref = ref;
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
	if (depth > 0) {
		Inner *inner = node;

		for (uint32_t i = 0; i < inner->n; i++)
			node_free(inner->children[i], depth - 1);
	} else {
		Leaf *leaf = node;

		for (uint32_t i = 0; i < leaf->n; i++)
			change_clear(&leaf->changes[i]);
	}
	g_free(node);
}

void
firn_chunk_map_free(FirnChunkMap *map)
{
	if (map == NULL)
		return;
	if (map->root != NULL)
		node_free(map->root, map->depth);
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

/* First row >= coords; `*out_equal` whether it is the same. */
static uint32_t
leaf_search(const FirnChunkMap *map, Leaf *leaf, const uint32_t *coords, bool *out_equal)
{
	uint32_t from = 0, to = leaf->n;

	*out_equal = false;
	/* A run of inserts at the end goes on there. */
	if (map->hint == leaf && map->hint_at + 1 == leaf->n &&
	    firn_coords_compare(leaf_row(map, leaf, leaf->n - 1), coords, map->rank) < 0)
		return leaf->n;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		int order = firn_coords_compare(leaf_row(map, leaf, mid), coords, map->rank);

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
inner_search(const FirnChunkMap *map, Inner *inner, const uint32_t *coords)
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
static Leaf *
descend(const FirnChunkMap *map, const uint32_t *coords, Path *path)
{
	void *node = map->root;

	for (uint32_t level = 0; level < map->depth; level++) {
		Inner *inner = node;
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
static Leaf *
find_leaf(const FirnChunkMap *map, const uint32_t *coords)
{
	Leaf *leaf = map->hint;

	if (leaf != NULL) {
		bool after_first =
			leaf->prev == NULL ||
			firn_coords_compare(leaf_row(map, leaf, 0), coords, map->rank) <= 0;
		bool before_last =
			leaf->next == NULL || firn_coords_compare(leaf_row(map, leaf, leaf->n - 1),
								  coords, map->rank) >= 0;

		if (after_first && before_last)
			return leaf;
	}
	return descend(map, coords, NULL);
}

FirnChunkChange *
firn_chunk_map_find(FirnChunkMap *map, const uint32_t *coords)
{
	Leaf *leaf = find_leaf(map, coords);
	bool equal;
	uint32_t at;

	if (leaf == NULL)
		return NULL;
	at = leaf_search(map, leaf, coords, &equal);
	return equal ? &leaf->changes[at] : NULL;
}

/* ---- insert ---- */

/* Move rows [from, from + n) of `source` to `at` of `target`, which is made to end there. */
static void
move_rows(const FirnChunkMap *map, Leaf *target, uint32_t at, Leaf *source, uint32_t from,
	  uint32_t n)
{
	memcpy(&target->changes[at], &source->changes[from], n * sizeof source->changes[0]);
	memcpy(leaf_row(map, target, at), leaf_row(map, source, from), row_bytes(map, n));
	target->n = at + n;
}

static FirnChunkChange *
insert_row(FirnChunkMap *map, Leaf *leaf, uint32_t at, const uint32_t *coords)
{
	uint32_t n = leaf->n - at;

	memmove(&leaf->changes[at + 1], &leaf->changes[at], n * sizeof leaf->changes[0]);
	memmove(leaf_row(map, leaf, at + 1), leaf_row(map, leaf, at), row_bytes(map, n));
	memcpy(leaf_row(map, leaf, at), coords, row_bytes(map, 1));
	memset(&leaf->changes[at], 0, sizeof leaf->changes[at]);
	leaf->n++;
	map->size++;
	map->hint = leaf;
	map->hint_at = at;
	return &leaf->changes[at];
}

static void
insert_child(const FirnChunkMap *map, Inner *inner, uint32_t at, const uint32_t *key, void *child)
{
	uint32_t n = inner->n - at;

	memmove(&inner->children[at + 1], &inner->children[at], n * sizeof inner->children[0]);
	memmove(inner_key(map, inner, at + 1), inner_key(map, inner, at), row_bytes(map, n));
	memcpy(inner_key(map, inner, at), key, row_bytes(map, 1));
	inner->children[at] = child;
	inner->n++;
}

/*
 * Split a full node and insert `child` at `at`; `key` becomes the key of the
 * new right node.  At its end it is left full: in-order writers fill the tree.
 */
static Inner *
split_inner(const FirnChunkMap *map, Inner *inner, uint32_t at, uint32_t *key, void *child)
{
	Inner *right = inner_new(map);
	uint32_t half = at == inner->n ? inner->n : inner->n / 2;
	uint32_t n = inner->n - half;
	uint32_t separator[FIRN_MAX_RANK];

	if (n == 0) {
		insert_child(map, right, 0, key, child);
		return right;
	}
	memcpy(separator, inner_key(map, inner, half), row_bytes(map, 1));
	memcpy(right->children, &inner->children[half], n * sizeof inner->children[0]);
	memcpy(right->keys, inner_key(map, inner, half), row_bytes(map, n));
	right->n = n;
	inner->n = half;
	if (at <= half)
		insert_child(map, inner, at, key, child);
	else
		insert_child(map, right, at - half, key, child);
	memcpy(key, separator, row_bytes(map, 1));
	return right;
}

/* Hang `child`, whose entries are >= `key` (overwritten), right of the one `path` leads to. */
static void
add_node(FirnChunkMap *map, const Path *path, uint32_t *key, void *child)
{
	Inner *root;

	for (uint32_t level = map->depth; level-- > 0;) {
		Inner *inner = path->nodes[level];
		uint32_t at = path->at[level] + 1;

		if (inner->n < INNER_MAX) {
			insert_child(map, inner, at, key, child);
			return;
		}
		child = split_inner(map, inner, at, key, child);
	}
	g_assert(map->depth < DEPTH_MAX);
	root = inner_new(map);
	insert_child(map, root, 0, key, map->root);
	insert_child(map, root, 1, key, child);
	map->root = root;
	map->depth++;
}

/* A map of one leaf grows it in steps: most arrays have few changes. */
static Leaf *
grow_leaf(FirnChunkMap *map, Leaf *leaf)
{
	Leaf *bigger = leaf_new(map, MIN(leaf->capacity * 4, LEAF_MAX));

	g_assert(map->depth == 0);
	move_rows(map, bigger, 0, leaf, 0, leaf->n);
	g_free(leaf);
	map->root = bigger;
	return bigger;
}

/* Make room for `coords`, which goes to `*at` of the full `leaf`; returns its leaf, updates `*at`. */
static Leaf *
split_leaf(FirnChunkMap *map, Leaf *leaf, const uint32_t *coords, uint32_t *at)
{
	bool run = *at == leaf->n &&
		   (leaf->next == NULL || (map->hint == leaf && map->hint_at + 1 == *at));
	uint32_t half = run ? leaf->n : leaf->n / 2;
	Leaf *right = leaf_new(map, LEAF_MAX);
	uint32_t key[FIRN_MAX_RANK];
	Path path;

	(void)descend(map, coords, &path);
	move_rows(map, right, 0, leaf, half, leaf->n - half);
	leaf->n = half;
	right->prev = leaf;
	right->next = leaf->next;
	if (right->next != NULL)
		right->next->prev = right;
	leaf->next = right;
	memcpy(key, run ? coords : leaf_row(map, right, 0), row_bytes(map, 1));
	add_node(map, &path, key, right);
	if (!run && *at <= half)
		return leaf;
	*at -= half;
	return right;
}

FirnChunkChange *
firn_chunk_map_insert(FirnChunkMap *map, const uint32_t *coords, bool *out_new)
{
	Leaf *leaf = find_leaf(map, coords);
	bool equal = false;
	uint32_t at = 0;

	if (leaf == NULL)
		map->root = leaf = leaf_new(map, 1);
	else
		at = leaf_search(map, leaf, coords, &equal);
	if (out_new != NULL)
		*out_new = !equal;
	if (equal)
		return &leaf->changes[at];
	if (leaf->n == leaf->capacity)
		leaf = leaf->capacity < LEAF_MAX ? grow_leaf(map, leaf)
						 : split_leaf(map, leaf, coords, &at);
	return insert_row(map, leaf, at, coords);
}

/* ---- remove ---- */

/* Take child `at` out of the node at `level` of `path`, and nodes that become empty out of theirs. */
static void
remove_child(FirnChunkMap *map, const Path *path, uint32_t level, uint32_t at)
{
	for (;;) {
		Inner *inner = path->nodes[level];
		uint32_t n = inner->n - at - 1;

		memmove(&inner->children[at], &inner->children[at + 1],
			n * sizeof inner->children[0]);
		memmove(inner_key(map, inner, at), inner_key(map, inner, at + 1),
			row_bytes(map, n));
		inner->n--;
		if (inner->n > 0 || level == 0)
			break;
		g_free(inner);
		level--;
		at = path->at[level];
	}
	while (map->depth > 0 && ((Inner *)map->root)->n <= 1) {
		Inner *root = map->root;

		map->root = root->n == 1 ? root->children[0] : NULL;
		map->depth = root->n == 1 ? map->depth - 1 : 0;
		g_free(root);
	}
}

static void
drop_leaf(FirnChunkMap *map, Leaf *leaf, const Path *path, uint32_t at)
{
	if (leaf->prev != NULL)
		leaf->prev->next = leaf->next;
	if (leaf->next != NULL)
		leaf->next->prev = leaf->prev;
	g_free(leaf);
	if (map->depth > 0)
		remove_child(map, path, map->depth - 1, at);
	else
		map->root = NULL;
}

/* Join a leaf that became small with a neighbour of the same parent. */
static void
merge_leaf(FirnChunkMap *map, Leaf *leaf, const Path *path)
{
	uint32_t at = path->at[map->depth - 1];
	Inner *parent = path->nodes[map->depth - 1];
	Leaf *left = leaf;

	if (at + 1 == parent->n) {
		if (at == 0)
			return;
		at--;
		left = parent->children[at];
	}
	leaf = parent->children[at + 1];
	if (left->n + leaf->n > LEAF_MAX / 4 * 3)
		return;
	move_rows(map, left, left->n, leaf, 0, leaf->n);
	drop_leaf(map, leaf, path, at + 1);
}

bool
firn_chunk_map_remove(FirnChunkMap *map, const uint32_t *coords)
{
	Path path;
	Leaf *leaf = descend(map, coords, &path);
	bool equal;
	uint32_t at, n;

	if (leaf == NULL)
		return false;
	at = leaf_search(map, leaf, coords, &equal);
	if (!equal)
		return false;
	change_clear(&leaf->changes[at]);
	n = leaf->n - at - 1;
	memmove(&leaf->changes[at], &leaf->changes[at + 1], n * sizeof leaf->changes[0]);
	memmove(leaf_row(map, leaf, at), leaf_row(map, leaf, at + 1), row_bytes(map, n));
	leaf->n--;
	map->size--;
	map->hint = NULL;
	if (leaf->n == 0)
		drop_leaf(map, leaf, &path, map->depth > 0 ? path.at[map->depth - 1] : 0);
	else if (leaf->n < LEAF_MAX / 4 && map->depth > 0)
		merge_leaf(map, leaf, &path);
	return true;
}

/* ---- iteration ---- */

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
	if (iter->leaf != NULL)
		iter->at = leaf_search(map, iter->leaf, least, &equal);
}

bool
firn_chunk_iter_next(FirnChunkIter *iter, const uint32_t **out_coords, FirnChunkChange **out_change)
{
	Leaf *leaf = iter->leaf;

	while (leaf != NULL && iter->at == leaf->n) {
		iter->leaf = leaf = leaf->next;
		iter->at = 0;
	}
	if (leaf == NULL)
		return false;
	if (out_coords != NULL)
		*out_coords = leaf_row(iter->map, leaf, iter->at);
	if (out_change != NULL)
		*out_change = &leaf->changes[iter->at];
	iter->at++;
	return true;
}
