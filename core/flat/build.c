#include "core/flat/build.h"

#include "core/base/error.h"

#include <string.h>

#define FIRST_SIZE 1024u
/* Distinct vtables compared with; a schema has a dozen. */
#define MAX_SHARED 64u

typedef struct {
	uint16_t slots[FIRN_FLAT_ROW_FIELDS];  /* by field id */
	uint16_t placed[FIRN_FLAT_ROW_FIELDS]; /* by position in the row, 0: not yet */
	size_t n_slots;
	uint16_t size;
	uint8_t align;
} Layout;

/* What a table of these fields looks like: tables follow many others of their kind. */
typedef struct {
	unsigned n_fields;
	uint32_t fields[FIRN_FLAT_ROW_FIELDS]; /* id, size and alignment */
	Layout layout;
	size_t vtable; /* 0: unknown */
} Shape;

/* As many kinds take turns. */
#define N_SHAPES 4u

struct FirnFlatBuilder {
	uint8_t *data;
	size_t len;
	size_t cap;
	bool failed;
	unsigned n_vtables;
	uint32_t vtables[MAX_SHARED]; /* positions */
	unsigned next_shape;
	Shape shapes[N_SHAPES];
};

static void
store16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

static void
store32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
}

static uint16_t
load16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

FirnFlatBuilder *
firn_flat_builder_new(size_t reserve)
{
	FirnFlatBuilder *b = g_new0(FirnFlatBuilder, 1);

	b->cap = CLAMP(reserve, FIRST_SIZE, FIRN_FLAT_MAX_SIZE);
	b->data = g_try_malloc(b->cap);
	if (b->data == NULL) {
		b->cap = 0;
		b->failed = true;
		return b;
	}
	memcpy(b->data, "\0\0\0\0Ichk", 8);
	b->len = 8;
	return b;
}

void
firn_flat_builder_free(FirnFlatBuilder *b)
{
	if (b == NULL)
		return;
	g_free(b->data);
	g_free(b);
}

GBytes *
firn_flat_builder_finish(FirnFlatBuilder *b, GError **error)
{
	GBytes *bytes = NULL;

	if (b->failed)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "the file would be larger than the %u bytes the format allows, "
			    "or than the memory there is",
			    FIRN_FLAT_MAX_SIZE);
	else
		bytes = g_bytes_new_take(g_steal_pointer(&b->data), b->len);
	firn_flat_builder_free(b);
	return bytes;
}

bool
firn_flat_builder_failed(const FirnFlatBuilder *b)
{
	return b->failed;
}

size_t
firn_flat_builder_len(const FirnFlatBuilder *b)
{
	return b->len;
}

uint8_t *
firn_flat_builder_at(FirnFlatBuilder *b, size_t position)
{
	g_assert(!b->failed && position < b->len);
	return b->data + position;
}

static bool
grow(FirnFlatBuilder *b, size_t need)
{
	size_t cap = MIN(MAX(b->cap * 2, need), (size_t)FIRN_FLAT_MAX_SIZE);
	uint8_t *data = g_try_realloc(b->data, cap);

	if (data == NULL)
		return false;
	b->data = data;
	b->cap = cap;
	return true;
}

/* As firn_flat_build_reserve(), but only what is skipped is zero. */
static size_t
make_room(FirnFlatBuilder *b, size_t size, size_t lead, size_t align)
{
	size_t pad;
	size_t at;

	if (b->failed)
		return 0;
	pad = (align - (b->len + lead) % align) % align;
	if (size > FIRN_FLAT_MAX_SIZE || b->len + pad + size > FIRN_FLAT_MAX_SIZE ||
	    (b->len + pad + size > b->cap && !grow(b, b->len + pad + size))) {
		b->failed = true;
		return 0;
	}
	memset(b->data + b->len, 0, pad);
	at = b->len + pad;
	b->len = at + size;
	return at;
}

size_t
firn_flat_build_reserve(FirnFlatBuilder *b, size_t size, size_t lead, size_t align)
{
	size_t at = make_room(b, size, lead, align);

	if (at != 0)
		memset(b->data + at, 0, size);
	return at;
}

/* ---- tables ---- */

void
firn_flat_row_put(FirnFlatRow *row, unsigned id, const void *value, size_t size, size_t align)
{
	g_assert(row->n_fields < FIRN_FLAT_ROW_FIELDS && id < FIRN_FLAT_ROW_FIELDS);
	g_assert(size <= FIRN_FLAT_ROW_BYTES);
	row->fields[row->n_fields].id = (uint16_t)id;
	row->fields[row->n_fields].size = (uint8_t)size;
	row->fields[row->n_fields].align = (uint8_t)align;
	memcpy(row->fields[row->n_fields].bytes, value, size);
	row->n_fields++;
}

void
firn_flat_row_u8(FirnFlatRow *row, unsigned id, uint8_t value)
{
	firn_flat_row_put(row, id, &value, 1, 1);
}

void
firn_flat_row_u16(FirnFlatRow *row, unsigned id, uint16_t value)
{
	firn_flat_row_put(row, id, &value, 2, 2);
}

void
firn_flat_row_u32(FirnFlatRow *row, unsigned id, uint32_t value)
{
	firn_flat_row_put(row, id, &value, 4, 4);
}

void
firn_flat_row_i32(FirnFlatRow *row, unsigned id, int32_t value)
{
	firn_flat_row_put(row, id, &value, 4, 4);
}

void
firn_flat_row_u64(FirnFlatRow *row, unsigned id, uint64_t value)
{
	firn_flat_row_put(row, id, &value, 8, 8);
}

void
firn_flat_row_id12(FirnFlatRow *row, unsigned id, const FirnId12 *value)
{
	firn_flat_row_put(row, id, value->bytes, sizeof value->bytes, 1);
}

void
firn_flat_row_id8(FirnFlatRow *row, unsigned id, const FirnId8 *value)
{
	firn_flat_row_put(row, id, value->bytes, sizeof value->bytes, 1);
}

void
firn_flat_row_child(FirnFlatRow *row, unsigned id)
{
	firn_flat_row_u32(row, id, 0);
}

static void
place(Layout *layout, const FirnFlatRow *row, unsigned i)
{
	uint16_t id = row->fields[i].id;
	unsigned align = row->fields[i].align;

	layout->size = (uint16_t)((layout->size + align - 1) / align * align);
	layout->placed[i] = layout->size;
	layout->slots[id] = layout->size;
	layout->size = (uint16_t)(layout->size + row->fields[i].size);
	layout->n_slots = MAX(layout->n_slots, id + 1u);
}

/* Largest alignment first, but for one 4-aligned field to fill the gap after the soffset. */
static void
lay_out(const FirnFlatRow *row, Layout *layout)
{
	*layout = (Layout){ .size = 4, .align = 4 };
	for (unsigned i = 0; i < row->n_fields; i++)
		if (row->fields[i].align == 8)
			layout->align = 8;
	for (unsigned i = 0; layout->align == 8 && i < row->n_fields; i++) {
		if (row->fields[i].align == 4 && row->fields[i].size == 4) {
			place(layout, row, i);
			break;
		}
	}
	for (unsigned align = 8; align > 0; align /= 2)
		for (unsigned i = 0; i < row->n_fields; i++)
			if (row->fields[i].align == align && layout->placed[i] == 0)
				place(layout, row, i);
}

size_t
firn_flat_build_vtable(FirnFlatBuilder *b, uint16_t inline_size, const uint16_t *slots, size_t n)
{
	uint8_t wanted[4 + 2 * FIRN_FLAT_ROW_FIELDS];
	size_t size, at;

	g_assert(n <= FIRN_FLAT_ROW_FIELDS);
	while (n > 0 && slots[n - 1] == 0)
		n--;
	size = 4 + 2 * n;
	store16(wanted, (uint16_t)size);
	store16(wanted + 2, inline_size);
	for (size_t i = 0; i < n; i++)
		store16(wanted + 4 + 2 * i, slots[i]);
	for (unsigned i = 0; !b->failed && i < b->n_vtables; i++) {
		const uint8_t *known = b->data + b->vtables[i];

		if (load16(known) == size && memcmp(known, wanted, size) == 0)
			return b->vtables[i];
	}
	at = firn_flat_build_reserve(b, size, 0, 2);
	if (at == 0)
		return 0;
	memcpy(b->data + at, wanted, size);
	if (b->n_vtables < MAX_SHARED)
		b->vtables[b->n_vtables++] = (uint32_t)at;
	return at;
}

static uint32_t
field_of(const FirnFlatRow *row, unsigned i)
{
	return (uint32_t)row->fields[i].id << 16 | (uint32_t)row->fields[i].size << 8 |
	       row->fields[i].align;
}

static bool
has_shape(const FirnFlatRow *row, const Shape *shape)
{
	if (shape->vtable == 0 || shape->n_fields != row->n_fields)
		return false;
	for (unsigned i = 0; i < row->n_fields; i++)
		if (shape->fields[i] != field_of(row, i))
			return false;
	return true;
}

static const Shape *
shape_of(FirnFlatBuilder *b, const FirnFlatRow *row)
{
	Shape *shape;

	for (unsigned i = 0; i < N_SHAPES; i++)
		if (has_shape(row, &b->shapes[i]))
			return &b->shapes[i];
	shape = &b->shapes[b->next_shape++ % N_SHAPES];
	shape->n_fields = row->n_fields;
	for (unsigned i = 0; i < row->n_fields; i++)
		shape->fields[i] = field_of(row, i);
	lay_out(row, &shape->layout);
	shape->vtable = firn_flat_build_vtable(b, shape->layout.size, shape->layout.slots,
					       shape->layout.n_slots);
	return shape;
}

size_t
firn_flat_build_table(FirnFlatBuilder *b, const FirnFlatRow *row)
{
	const Shape *shape = shape_of(b, row);
	const Layout *layout = &shape->layout;
	size_t at = firn_flat_build_reserve(b, layout->size, 0, layout->align);

	if (at == 0)
		return 0;
	store32(b->data + at, (uint32_t)(at - shape->vtable));
	for (unsigned i = 0; i < row->n_fields; i++)
		memcpy(b->data + at + layout->placed[i], row->fields[i].bytes, row->fields[i].size);
	return at;
}

size_t
firn_flat_build_root(FirnFlatBuilder *b, const FirnFlatRow *row)
{
	size_t at = firn_flat_build_table(b, row);

	if (at != 0)
		store32(b->data, (uint32_t)at);
	return at;
}

static void
link_at(FirnFlatBuilder *b, size_t at, size_t child)
{
	g_assert(child > at && child < b->len);
	store32(b->data + at, (uint32_t)(child - at));
}

void
firn_flat_link(FirnFlatBuilder *b, size_t table, unsigned id, size_t child)
{
	size_t at = 4 + 2 * (size_t)id;
	size_t vtable;
	uint32_t soffset;

	if (b->failed)
		return;
	memcpy(&soffset, b->data + table, sizeof soffset);
	vtable = table - soffset;
	g_assert(at + 2 <= load16(b->data + vtable));
	g_assert(load16(b->data + vtable + at) != 0);
	link_at(b, table + load16(b->data + vtable + at), child);
}

/* ---- vectors and strings ---- */

size_t
firn_flat_build_vector(FirnFlatBuilder *b, const void *items, size_t count, size_t size,
		       size_t align)
{
	size_t at;

	if (count > FIRN_FLAT_MAX_SIZE / size) {
		b->failed = true;
		return 0;
	}
	/* The count is 4-aligned, the items behind it as they ask for. */
	at = make_room(b, 4 + count * size, 4, MAX(align, 4u));
	if (at == 0)
		return 0;
	store32(b->data + at, (uint32_t)count);
	if (count > 0)
		memcpy(b->data + at + 4, items, count * size);
	return at;
}

size_t
firn_flat_build_bytes(FirnFlatBuilder *b, FirnSpan bytes)
{
	return firn_flat_build_vector(b, bytes.data, bytes.len, 1, 1);
}

size_t
firn_flat_build_string(FirnFlatBuilder *b, FirnSpan text)
{
	size_t at = firn_flat_build_bytes(b, text);

	(void)firn_flat_build_reserve(b, 1, 0, 1);
	return b->failed ? 0 : at;
}

size_t
firn_flat_build_offsets(FirnFlatBuilder *b, size_t count)
{
	size_t at;

	if (count > FIRN_FLAT_MAX_SIZE / 4) {
		b->failed = true;
		return 0;
	}
	at = firn_flat_build_reserve(b, 4 + 4 * count, 0, 4);
	if (at != 0)
		store32(b->data + at, (uint32_t)count);
	return at;
}

void
firn_flat_link_item(FirnFlatBuilder *b, size_t vector, size_t index, size_t child)
{
	if (!b->failed)
		link_at(b, vector + 4 + 4 * index, child);
}
