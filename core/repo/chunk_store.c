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

/* The sizes of a change that has no room for them. */
typedef struct {
	uint64_t offset;
	uint64_t length;
	const void *target; /* virtual: a Location */
	FirnId12 id;        /* native */
} Far;

/* How a change says its sizes, in the 44 bits of `high` and `low`. */
typedef enum {
	FORM_WHOLE, /* the length; the offset is 0 */
	FORM_PART,  /* the offset above PART_LENGTH_BITS, and the length */
	FORM_SPLIT, /* the offset; the length is in `spare` (virtual) */
	FORM_FAR,   /* nothing: the link leads to a Far */
} Form;

#define VALUE_BITS       44
#define PART_LENGTH_BITS 20
#define PART_OFFSET_BITS (VALUE_BITS - PART_LENGTH_BITS)

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
	memcpy(change->u.far.link, &target, sizeof target);
}

static const void *
linked(const FirnChunkChange *change)
{
	const void *target;

	memcpy(&target, change->u.far.link, sizeof target);
	return target;
}

/* ---- sizes ---- */

static const Far *
far_of(const FirnChunkChange *change)
{
	return linked(change);
}

static uint64_t
value_of(const FirnChunkChange *change)
{
	return (uint64_t)change->high << 32 | change->low;
}

static void
set_value(FirnChunkChange *change, Form form, uint64_t value)
{
	change->form = form;
	change->high = value >> 32 & 0xfff;
	change->low = (uint32_t)value;
}

static bool
fits(uint64_t number, unsigned bits)
{
	return number >> bits == 0;
}

/* False: they do not fit. */
static bool
set_sizes(FirnChunkChange *change, FirnRefKind kind, uint64_t offset, uint64_t length)
{
	if (offset == 0 && fits(length, VALUE_BITS))
		set_value(change, FORM_WHOLE, length);
	else if (fits(offset, PART_OFFSET_BITS) && fits(length, PART_LENGTH_BITS))
		set_value(change, FORM_PART, offset << PART_LENGTH_BITS | length);
	else if (kind == FIRN_REF_VIRTUAL && fits(offset, VALUE_BITS) && fits(length, 32))
		set_value(change, FORM_SPLIT, offset);
	else
		return false;
	if (change->form == FORM_SPLIT)
		change->u.far.spare = (uint32_t)length;
	return true;
}

uint64_t
firn_chunk_change_length(const FirnChunkChange *change)
{
	switch ((Form)change->form) {
	case FORM_WHOLE:
		break;
	case FORM_PART:
		return value_of(change) & ((UINT64_C(1) << PART_LENGTH_BITS) - 1);
	case FORM_SPLIT:
		return change->u.far.spare;
	case FORM_FAR:
		return far_of(change)->length;
	}
	return value_of(change);
}

uint64_t
firn_chunk_change_offset(const FirnChunkChange *change)
{
	switch ((Form)change->form) {
	case FORM_WHOLE:
		break;
	case FORM_PART:
		return value_of(change) >> PART_LENGTH_BITS;
	case FORM_SPLIT:
		return value_of(change);
	case FORM_FAR:
		return far_of(change)->offset;
	}
	return 0;
}

const FirnId12 *
firn_chunk_change_id(const FirnChunkChange *change)
{
	return change->form == FORM_FAR ? &far_of(change)->id : &change->u.id;
}

/* ---- refs ---- */

static void
set_far(FirnChunkChange *change, const FirnRef *ref, const void *target, FirnChunkStore *store)
{
	Far *far = (Far *)(void *)reserve(store, sizeof *far, sizeof(void *));

	*far = (Far){ .offset = ref->offset, .length = ref->length, .target = target };
	if (ref->kind == FIRN_REF_NATIVE)
		far->id = ref->id;
	set_value(change, FORM_FAR, 0);
	link_to(change, far);
}

void
firn_chunk_change_set(FirnChunkChange *change, const FirnRef *ref, FirnChunkStore *store)
{
	const void *target = NULL;
	uint64_t offset = 0, length = ref->length;

	/* `ref` may borrow from the entry: it stays until what it says is copied. */
	if (ref->kind == FIRN_REF_INLINE)
		target = add_bytes(store, ref->bytes);
	else if (ref->kind == FIRN_REF_VIRTUAL)
		target = add_location(store, ref);
	if (ref->kind == FIRN_REF_INLINE)
		length = ref->bytes.len;
	else if (ref->kind != FIRN_REF_NONE)
		offset = ref->offset;
	else
		length = 0;
	change->kind = (unsigned)ref->kind & 3;
	memset(&change->u, 0, sizeof change->u);
	if (!set_sizes(change, ref->kind, offset, length))
		set_far(change, ref, target, store);
	else if (ref->kind == FIRN_REF_NATIVE)
		change->u.id = ref->id;
	else
		link_to(change, target);
}

static void
get_virtual(const Location *location, FirnRef *out_ref)
{
	out_ref->last_modified = location->last_modified;
	out_ref->location = (FirnSpan){ (const uint8_t *)location->text, location->location_len };
	out_ref->etag.len = location->etag_len;
	if (location->etag_len > 0)
		out_ref->etag.data = out_ref->location.data + out_ref->location.len;
}

void
firn_chunk_change_get(const FirnChunkChange *change, FirnRef *out_ref)
{
	/* Field by field where it is wanted: a copy of what was just written waits for it. */
	memset(out_ref, 0, sizeof *out_ref);
	out_ref->kind = (FirnRefKind)change->kind;
	out_ref->length = firn_chunk_change_length(change);
	out_ref->offset = firn_chunk_change_offset(change);
	switch (out_ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		out_ref->bytes = (FirnSpan){ linked(change), (size_t)out_ref->length };
		break;
	case FIRN_REF_NATIVE:
		out_ref->id = *firn_chunk_change_id(change);
		break;
	case FIRN_REF_VIRTUAL:
		get_virtual(change->form == FORM_FAR ? far_of(change)->target : linked(change),
			    out_ref);
		break;
	}
}
