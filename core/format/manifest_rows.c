#include "core/format/manifest_rows.h"

#include "core/base/error.h"
#include "core/flat/build.h"

#include <string.h>

/* What a ref's table holds; each combination has one layout, and one vtable. */
enum {
	HAS_ID = 1,
	HAS_INLINE = 2,
	HAS_OFFSET = 4,
	HAS_ETAG = 8,
	HAS_MODIFIED = 16,
	IS_COMPRESSED = 32,
	N_LAYOUTS = 64,
};

/* A vtable of a ref, padded so that the table behind it is aligned. */
#define MAX_VTABLE ((4 + 2 * FIRN_MANIFEST_REF_N_FIELDS + 7) / 8 * 8)

/*
 * Every table starts with soffset and index; the vector of coordinates follows
 * the table, then inline bytes.  Offsets are from the table's start.
 */
typedef struct {
	bool made;
	size_t vtable;     /* position of the shared one */
	uint16_t own_size; /* of the vtable before each table; 0: it is shared */
	uint8_t own[MAX_VTABLE];
	uint16_t size; /* of the table: a multiple of 4 */
	uint16_t offset;
	uint16_t length;
	uint16_t content; /* chunk id, or the offset to inline bytes or location */
	uint16_t etag;
	uint16_t modified;
} Layout;

struct FirnManifestRows {
	FirnFlatBuilder *b;
	uint32_t rank;
	size_t refs; /* vector of offsets */
	Layout layouts[N_LAYOUTS];
	/* The strings that rows wait for, and the positions of their offsets (uint32_t). */
	GByteArray *location;
	GByteArray *etag;
	GArray *locations;
	GArray *etags;
	/* Of spliced rows; `b` has what comes behind the block. */
	const FirnManifestBlock *block; /* NULL: they are not */
	FirnFlatBuilder *head;          /* the tables above the refs */
	size_t block_at;                /* position of the block in the payload */
	size_t tail_at;                 /* and of what comes behind it */
};

/* A builder begins with as many bytes of its own, which are left out behind a block. */
#define BUILDER_HEADER 8u

/* The tables above the refs. */
static void
begin(FirnManifestRows *rows, const FirnId12 *id, const FirnId8 *node, uint32_t n_refs,
      FirnSpan dictionary)
{
	FirnFlatRow manifest = { 0 };
	FirnFlatRow array = { 0 };
	FirnFlatBuilder *b = rows->b;
	size_t root, arrays, table;

	firn_flat_row_id12(&manifest, FIRN_MANIFEST_ID, id);
	firn_flat_row_child(&manifest, FIRN_MANIFEST_ARRAYS);
	if (dictionary.len > 0)
		firn_flat_row_child(&manifest, FIRN_MANIFEST_DICTIONARY);
	else
		firn_flat_row_u8(&manifest, FIRN_MANIFEST_ALGORITHM, FIRN_MANIFEST_ALGORITHM_PLAIN);
	root = firn_flat_build_root(b, &manifest);
	if (dictionary.len > 0)
		firn_flat_link(b, root, FIRN_MANIFEST_DICTIONARY,
			       firn_flat_build_bytes(b, dictionary));
	arrays = firn_flat_build_offsets(b, 1);
	firn_flat_link(b, root, FIRN_MANIFEST_ARRAYS, arrays);
	firn_flat_row_id8(&array, FIRN_MANIFEST_ARRAY_NODE, node);
	firn_flat_row_child(&array, FIRN_MANIFEST_ARRAY_REFS);
	table = firn_flat_build_table(b, &array);
	firn_flat_link_item(b, arrays, 0, table);
	rows->refs = firn_flat_build_offsets(b, n_refs);
	firn_flat_link(b, table, FIRN_MANIFEST_ARRAY_REFS, rows->refs);
}

FirnManifestRows *
firn_manifest_rows_new(const FirnId12 *id, const FirnId8 *node, uint32_t rank, uint32_t n_refs,
		       FirnSpan dictionary, size_t reserve)
{
	FirnManifestRows *rows = g_new0(FirnManifestRows, 1);

	rows->rank = rank;
	rows->b = firn_flat_builder_new(reserve);
	rows->location = g_byte_array_new();
	rows->etag = g_byte_array_new();
	rows->locations = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	rows->etags = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	begin(rows, id, node, n_refs, dictionary);
	return rows;
}

void
firn_manifest_rows_free(FirnManifestRows *rows)
{
	if (rows == NULL)
		return;
	firn_flat_builder_free(rows->b);
	firn_flat_builder_free(rows->head);
	g_byte_array_unref(rows->location);
	g_byte_array_unref(rows->etag);
	g_array_unref(rows->locations);
	g_array_unref(rows->etags);
	g_free(rows);
}

bool
firn_manifest_rows_failed(const FirnManifestRows *rows)
{
	if (firn_flat_builder_failed(rows->b))
		return true;
	return rows->block != NULL &&
	       (firn_flat_builder_failed(rows->head) ||
		rows->tail_at + firn_flat_builder_len(rows->b) > FIRN_FLAT_MAX_SIZE);
}

static uint16_t
put(Layout *l, uint16_t slots[FIRN_MANIFEST_REF_N_FIELDS], unsigned field, unsigned size)
{
	uint16_t at = l->size;

	slots[field] = at;
	l->size = (uint16_t)(l->size + size);
	return at;
}

static void
store16(uint8_t *p, size_t value)
{
	uint16_t v = (uint16_t)value;

	memcpy(p, &v, sizeof v);
}

static void
store32(uint8_t *p, size_t value)
{
	uint32_t v = (uint32_t)value;

	memcpy(p, &v, sizeof v);
}

/* The vtable that goes before each table. */
static void
make_own(Layout *l, const uint16_t slots[FIRN_MANIFEST_REF_N_FIELDS])
{
	size_t n = FIRN_MANIFEST_REF_N_FIELDS;

	while (n > 0 && slots[n - 1] == 0)
		n--;
	store16(l->own, 4 + 2 * n);
	store16(l->own + 2, l->size);
	for (size_t i = 0; i < n; i++)
		store16(l->own + 4 + 2 * i, slots[i]);
	l->own_size = (uint16_t)((4 + 2 * n + 7) / 8 * 8);
}

static const Layout *
layout_for(FirnManifestRows *rows, unsigned has)
{
	Layout *l = &rows->layouts[has];
	uint16_t slots[FIRN_MANIFEST_REF_N_FIELDS] = { 0 };

	if (l->made)
		return l;
	*l = (Layout){ .made = true, .size = 4 };
	(void)put(l, slots, FIRN_MANIFEST_REF_INDEX, 4);
	/* The eight-byte fields come where they are aligned. */
	if ((has & HAS_INLINE) == 0)
		l->length = put(l, slots, FIRN_MANIFEST_REF_LENGTH, 8);
	if (has & HAS_OFFSET)
		l->offset = put(l, slots, FIRN_MANIFEST_REF_OFFSET, 8);
	if (has & HAS_ID)
		l->content = put(l, slots, FIRN_MANIFEST_REF_CHUNK_ID, sizeof(FirnId12));
	else if (has & HAS_INLINE)
		l->content = put(l, slots, FIRN_MANIFEST_REF_INLINE, 4);
	else if (has & IS_COMPRESSED)
		l->content = put(l, slots, FIRN_MANIFEST_REF_COMPRESSED, 4);
	else
		l->content = put(l, slots, FIRN_MANIFEST_REF_LOCATION, 4);
	if (has & HAS_ETAG)
		l->etag = put(l, slots, FIRN_MANIFEST_REF_ETAG, 4);
	if (has & HAS_MODIFIED)
		l->modified = put(l, slots, FIRN_MANIFEST_REF_LAST_MODIFIED, 4);
	if (has & (HAS_ID | HAS_INLINE))
		l->vtable = firn_flat_build_vtable(rows->b, l->size, slots, G_N_ELEMENTS(slots));
	else
		make_own(l, slots);
	return l;
}

static unsigned
fields_of(const FirnRef *ref)
{
	unsigned has = 0;

	if (ref->kind == FIRN_REF_INLINE)
		return HAS_INLINE;
	if (ref->offset != 0)
		has |= HAS_OFFSET;
	if (ref->kind == FIRN_REF_NATIVE)
		return has | HAS_ID;
	if (ref->etag.len > 0)
		has |= HAS_ETAG;
	if (ref->last_modified != 0)
		has |= HAS_MODIFIED;
	if (ref->location_compressed)
		has |= IS_COMPRESSED;
	return has;
}

/* ---- strings that rows share ---- */

/* Append the string that the offsets at `links` wait for, and link them to it. */
static void
settle(FirnManifestRows *rows, const GByteArray *text, GArray *links)
{
	FirnSpan span = { text->data, text->len };
	size_t at;

	if (links->len == 0)
		return;
	at = firn_flat_build_string(rows->b, span);
	for (guint i = 0; at != 0 && i < links->len; i++) {
		size_t link = g_array_index(links, uint32_t, i);

		store32(firn_flat_builder_at(rows->b, link), at - link);
	}
	g_array_set_size(links, 0);
}

/* Let the offset at `link` refer to `wanted`, once a row wants another text. */
static void
share(FirnManifestRows *rows, GByteArray *text, GArray *links, FirnSpan wanted, size_t link)
{
	uint32_t position = (uint32_t)link;

	if (text->len != wanted.len || memcmp(text->data, wanted.data, wanted.len) != 0) {
		settle(rows, text, links);
		g_byte_array_set_size(text, 0);
		g_byte_array_append(text, wanted.data, (guint)wanted.len);
	}
	g_array_append_val(links, position);
}

/* ---- rows ---- */

/* Bytes of a vector of bytes and a NUL, padded for the next one. */
static size_t
room_for(FirnSpan bytes)
{
	return (4 + bytes.len + 1 + 3) / 4 * 4;
}

/* Write the vector at `at` of the row and let the field at `field` refer to it. */
static void
write_bytes(uint8_t *row, size_t field, size_t at, FirnSpan bytes)
{
	store32(row + field, at - field);
	store32(row + at, bytes.len);
	memcpy(row + at + 4, bytes.data, bytes.len);
}

/* What all rows have: vtable, coordinates, numbers. */
static uint8_t *
begin_row(FirnManifestRows *rows, const Layout *l, size_t table, const uint32_t *coords,
	  const FirnRef *ref)
{
	uint8_t *row = firn_flat_builder_at(rows->b, table);

	if (l->own_size > 0)
		memcpy(row - l->own_size, l->own, l->own_size);
	store32(row, l->own_size > 0 ? l->own_size : table - l->vtable);
	store32(row + 4, l->size - 4u);
	store32(row + l->size, rows->rank);
	memcpy(row + l->size + 4, coords, 4 * (size_t)rows->rank);
	if (l->length != 0)
		memcpy(row + l->length, &ref->length, 8);
	if (l->offset != 0)
		memcpy(row + l->offset, &ref->offset, 8);
	if (l->modified != 0)
		store32(row + l->modified, ref->last_modified);
	return row;
}

/* Let offset `i` refer to the row at `table` of what is being added. */
static void
link_row(FirnManifestRows *rows, uint32_t i, size_t table)
{
	size_t at = rows->refs + 4 + 4 * (size_t)i;

	if (rows->block == NULL)
		firn_flat_link_item(rows->b, rows->refs, i, table);
	else if (!firn_flat_builder_failed(rows->head))
		store32(firn_flat_builder_at(rows->head, at),
			rows->tail_at + table - BUILDER_HEADER - at);
}

void
firn_manifest_rows_add(FirnManifestRows *rows, uint32_t i, const uint32_t *coords,
		       const FirnRef *ref)
{
	unsigned has = fields_of(ref);
	const Layout *l = layout_for(rows, has);
	size_t at = l->size + 4 + 4 * (size_t)rows->rank;
	size_t size = l->own_size + at + (has & HAS_INLINE ? room_for(ref->bytes) : 0);
	size_t table;
	uint8_t *row;

	table = firn_flat_build_reserve(rows->b, size, l->own_size, has & HAS_INLINE ? 4 : 8);
	if (table == 0)
		return;
	table += l->own_size;
	link_row(rows, i, table);
	row = begin_row(rows, l, table, coords, ref);
	if (has & HAS_ID)
		memcpy(row + l->content, ref->id.bytes, sizeof ref->id.bytes);
	else if (has & HAS_INLINE)
		write_bytes(row, l->content, at, ref->bytes);
	else
		share(rows, rows->location, rows->locations, ref->location, table + l->content);
	if (has & HAS_ETAG)
		share(rows, rows->etag, rows->etags, ref->etag, table + l->etag);
}

void
firn_manifest_rows_splice(FirnManifestRows *rows, const FirnManifestBlock *block)
{
	size_t size = block->refs.manifest->b.len - block->begin;

	g_assert(rows->block == NULL && block->begin % 8 == 0);
	rows->block = block;
	rows->head = rows->b;
	rows->b = firn_flat_builder_new(0);
	/* All parts begin at a multiple of eight: what is aligned in them stays so. */
	rows->block_at = (firn_flat_builder_len(rows->head) + 7) / 8 * 8;
	rows->tail_at = rows->block_at + (size + 7) / 8 * 8;
}

void
firn_manifest_rows_take(FirnManifestRows *rows, uint32_t i, uint32_t from, uint32_t n)
{
	const FirnManifestBlock *block = rows->block;
	size_t source = block->refs.position + 4 + 4 * (size_t)from;
	size_t target = rows->refs + 4 + 4 * (size_t)i;
	const uint32_t *offsets;
	uint32_t moved;
	uint32_t *out;

	if (firn_flat_builder_failed(rows->head) || n == 0)
		return;
	/* An offset counts from where it stands: both that and what it refers to have moved. */
	moved = (uint32_t)(rows->block_at - block->begin + source - target);
	offsets = (const uint32_t *)(const void *)(block->refs.manifest->b.data + source);
	out = (uint32_t *)(void *)firn_flat_builder_at(rows->head, target);
	for (uint32_t j = 0; j < n; j++)
		out[j] = offsets[j] + moved;
}

static FirnSpan
built(FirnFlatBuilder *b)
{
	return (FirnSpan){ firn_flat_builder_at(b, 0), firn_flat_builder_len(b) };
}

bool
firn_manifest_rows_parts(FirnManifestRows *rows, FirnSpan parts[FIRN_MANIFEST_PARTS],
			 GError **error)
{
	static const uint8_t zeros[8];
	FirnSpan b = rows->block->refs.manifest->b;
	size_t size = b.len - rows->block->begin;

	settle(rows, rows->location, rows->locations);
	settle(rows, rows->etag, rows->etags);
	if (firn_manifest_rows_failed(rows)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "the payload would be too large");
		return false;
	}
	parts[0] = built(rows->head);
	parts[1] = (FirnSpan){ zeros, rows->block_at - parts[0].len };
	parts[2] = (FirnSpan){ b.data + rows->block->begin, size };
	parts[3] = (FirnSpan){ zeros, rows->tail_at - rows->block_at - size };
	parts[4] = built(rows->b);
	parts[4].data += BUILDER_HEADER;
	parts[4].len -= BUILDER_HEADER;
	return true;
}

GBytes *
firn_manifest_rows_finish(FirnManifestRows *rows, GError **error)
{
	GBytes *payload;

	settle(rows, rows->location, rows->locations);
	settle(rows, rows->etag, rows->etags);
	payload = firn_flat_builder_finish(g_steal_pointer(&rows->b), error);
	firn_manifest_rows_free(rows);
	return payload;
}
