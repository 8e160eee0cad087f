#include "core/repo/chunk_store.h"

#include <string.h>

#define FIRST_BLOCK ((size_t)512)
#define LARGE_BLOCK ((size_t)256 * 1024)

typedef struct Block {
	struct Block *next;
	uint8_t bytes[];
} Block;

/* What virtual refs to one version of one foreign object have in common. */
typedef struct {
	uint32_t last_modified;
	uint32_t location_len;
	uint32_t etag_len; /* 0: none */
	char text[];       /* the location, then the ETag */
} Location;

struct FirnChunkStore {
	gint refs; /* atomic */
	Block *blocks;
	uint8_t *at; /* free bytes of the first block */
	size_t left;
	size_t next_size;
	size_t size;
	Location *last; /* chunks of one object come in runs */
};

FirnChunkStore *
firn_chunk_store_new(void)
{
	FirnChunkStore *store = g_new0(FirnChunkStore, 1);

	store->refs = 1;
	store->next_size = FIRST_BLOCK;
	return store;
}

FirnChunkStore *
firn_chunk_store_ref(FirnChunkStore *store)
{
	g_atomic_int_inc(&store->refs);
	return store;
}

void
firn_chunk_store_unref(FirnChunkStore *store)
{
	if (store == NULL || !g_atomic_int_dec_and_test(&store->refs))
		return;
	while (store->blocks != NULL) {
		Block *block = store->blocks;

		store->blocks = block->next;
		g_free(block);
	}
	g_free(store);
}

size_t
firn_chunk_store_size(const FirnChunkStore *store)
{
	return store->size;
}

static uint8_t *
add_block(FirnChunkStore *store, size_t size)
{
	Block *block = g_malloc(sizeof *block + size);

	block->next = store->blocks;
	store->blocks = block;
	return block->bytes;
}

/* `align`: a power of two, not above that of a pointer. */
static uint8_t *
reserve(FirnChunkStore *store, size_t size, size_t align)
{
	size_t pad = -(uintptr_t)store->at & (align - 1);
	uint8_t *bytes;

	store->size += size;
	if (size > LARGE_BLOCK / 4)
		return add_block(store, size);
	if (pad + size > store->left) {
		size_t block = MAX(store->next_size, size);

		store->at = add_block(store, block);
		store->left = block;
		store->next_size = MIN(store->next_size * 2, LARGE_BLOCK);
		pad = 0;
	}
	bytes = store->at + pad;
	store->at = bytes + size;
	store->left -= pad + size;
	return bytes;
}

/* ---- what lies there ---- */

static bool
is_location(const Location *location, const FirnRef *ref)
{
	return location != NULL && location->location_len == ref->location.len &&
	       location->etag_len == ref->etag.len &&
	       location->last_modified == ref->last_modified &&
	       memcmp(location->text, ref->location.data, ref->location.len) == 0 &&
	       (ref->etag.len == 0 ||
		memcmp(location->text + ref->location.len, ref->etag.data, ref->etag.len) == 0);
}

static const Location *
add_location(FirnChunkStore *store, const FirnRef *ref)
{
	Location *location;

	/* Both are bounded by what a journal record can hold. */
	g_assert(!ref->location_compressed && ref->location.len <= UINT32_MAX &&
		 ref->etag.len <= UINT32_MAX);
	if (is_location(store->last, ref))
		return store->last;
	location = (Location *)(void *)reserve(store,
					       sizeof *location + ref->location.len + ref->etag.len,
					       sizeof(uint32_t));
	location->last_modified = ref->last_modified;
	location->location_len = (uint32_t)ref->location.len;
	location->etag_len = (uint32_t)ref->etag.len;
	if (ref->location.len > 0)
		memcpy(location->text, ref->location.data, ref->location.len);
	if (ref->etag.len > 0)
		memcpy(location->text + ref->location.len, ref->etag.data, ref->etag.len);
	store->last = location;
	return location;
}

static const uint8_t *
add_bytes(FirnChunkStore *store, FirnSpan bytes)
{
	uint8_t *copy;

	if (bytes.len == 0)
		return NULL;
	copy = reserve(store, bytes.len, 1);
	memcpy(copy, bytes.data, bytes.len);
	return copy;
}

static void
link_to(FirnChunkChange *change, const void *target)
{
	memcpy(change->u.link, &target, sizeof target);
}

static const void *
linked(const FirnChunkChange *change)
{
	const void *target;

	memcpy(&target, change->u.link, sizeof target);
	return target;
}

void
firn_chunk_change_set(FirnChunkChange *change, const FirnRef *ref, FirnChunkStore *store)
{
	const void *target = NULL;

	/* `ref` may borrow from the entry: it stays until what it says is copied. */
	if (ref->kind == FIRN_REF_INLINE)
		target = add_bytes(store, ref->bytes);
	else if (ref->kind == FIRN_REF_VIRTUAL)
		target = add_location(store, ref);
	change->kind = (uint32_t)ref->kind;
	change->length = ref->kind == FIRN_REF_NONE ? 0 : ref->length;
	change->offset = 0;
	memset(&change->u, 0, sizeof change->u);
	switch (ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		change->length = ref->bytes.len;
		link_to(change, target);
		break;
	case FIRN_REF_NATIVE:
		change->u.id = ref->id;
		change->offset = ref->offset;
		break;
	case FIRN_REF_VIRTUAL:
		change->offset = ref->offset;
		link_to(change, target);
		break;
	}
}

void
firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref)
{
	const Location *location;

	/* Field by field where it is wanted: a copy of what was just written waits for it. */
	memset(out_ref, 0, sizeof *out_ref);
	out_ref->kind = (FirnRefKind)change->kind;
	out_ref->length = change->length;
	out_ref->offset = change->offset;
	switch (out_ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		out_ref->bytes = (FirnSpan){ linked(change), (size_t)change->length };
		break;
	case FIRN_REF_NATIVE:
		out_ref->id = change->u.id;
		break;
	case FIRN_REF_VIRTUAL:
		location = linked(change);
		out_ref->last_modified = location->last_modified;
		out_ref->location =
			(FirnSpan){ (const uint8_t *)location->text, location->location_len };
		out_ref->etag.len = location->etag_len;
		if (location->etag_len > 0)
			out_ref->etag.data = out_ref->location.data + out_ref->location.len;
		break;
	}
}
