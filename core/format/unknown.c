#include "core/format/unknown.h"

#include "core/base/error.h"
#include "core/flat/reader.h"

#define MAX_DEPTH  16u
#define ITEM_BYTES 32u /* of the largest struct the format has */

/* What a reference may lead to. */
typedef enum {
	THING_NONE,
	THING_TEXT,
	THING_TABLE,
	THING_REFERENCES,
	THING_SCALARS,
} Thing;

static size_t copy_thing(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t at,
			 unsigned depth);

static void
give_up(FirnUnknown *u, const char *what)
{
	if (u->error == NULL)
		g_set_error(&u->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "the file holds data of a later format version that cannot be kept "
			    "(%s); change it with the software that wrote it",
			    what);
}

static bool
spend(FirnUnknown *u, uint64_t bytes)
{
	if (u->error != NULL)
		return false;
	if (bytes > u->bytes_left) {
		give_up(u, "too much of it");
		return false;
	}
	u->bytes_left -= bytes;
	return true;
}

/* ---- what lies at a position ---- */

/* Looking costs as much as copying: many references may lead to one text. */
static bool
is_text(FirnUnknown *u, FirnSpan b, size_t at)
{
	uint32_t n = firn_flat_load32(b.data + at);
	const uint8_t *text = b.data + at + 4;

	if (n == 0 || n >= b.len - at - 4 || text[n] != 0 || !spend(u, n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (text[i] < 0x20 && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
			return false;
	return g_utf8_validate_len((const char *)text, n, NULL);
}

static bool
is_table(FirnSpan b, size_t at)
{
	int64_t vtable = (int64_t)at - (int32_t)firn_flat_load32(b.data + at);
	unsigned size;
	unsigned inline_size;

	if (vtable < 8 || vtable % 2 != 0 || (uint64_t)vtable > b.len - 4 || (size_t)vtable == at)
		return false;
	size = firn_flat_load16(b.data + vtable);
	inline_size = firn_flat_load16(b.data + vtable + 2);
	if (size < 4 || size % 2 != 0 || size > b.len - (size_t)vtable || inline_size < 4 ||
	    inline_size > b.len - at)
		return false;
	for (unsigned i = 4; i < size; i += 2) {
		unsigned offset = firn_flat_load16(b.data + vtable + i);

		if (offset != 0 && (offset < 4 || offset >= inline_size))
			return false;
	}
	return true;
}

/* Where the reference at `at` leads to; 0 if it can be none. */
static size_t
target_of(FirnSpan b, size_t at)
{
	uint32_t offset;

	if (at % 4 != 0 || at > b.len - 4)
		return 0;
	offset = firn_flat_load32(b.data + at);
	if (offset < 4 || offset % 4 != 0 || offset > b.len - 4 - at)
		return 0;
	return at + offset;
}

static Thing
thing_at(FirnUnknown *u, FirnSpan b, size_t at)
{
	uint32_t n = firn_flat_load32(b.data + at);
	size_t rest = b.len - at - 4;

	if (is_text(u, b, at))
		return THING_TEXT;
	if (is_table(b, at))
		return THING_TABLE;
	if (n > rest)
		return THING_NONE;
	if (n == 0 || n > rest / 4)
		return THING_SCALARS;
	for (uint32_t i = 0; i < n; i++) {
		size_t target = target_of(b, at + 4 + 4 * (size_t)i);

		/* Items that are vectors themselves are not told from numbers. */
		if (target == 0 || !(is_text(u, b, target) || is_table(b, target)))
			return THING_SCALARS;
	}
	return THING_REFERENCES;
}

/* ---- fields of a table ---- */

/* Bytes from the field at `offset` to the next one, or to the end of the table. */
static unsigned
gap_behind(FirnSpan b, size_t table, unsigned offset)
{
	unsigned end = firn_flat_inline_size(b, table);
	unsigned n = firn_flat_n_slots(b, table);

	for (unsigned id = 0; id < n; id++) {
		unsigned other = firn_flat_slot(b, table, id);

		if (other > offset && other < end)
			end = other;
	}
	return end > offset ? end - offset : 0;
}

static void
add_field(FirnUnknown *u, FirnSpan b, size_t table, unsigned id, FirnFlatRow *row,
	  FirnUnknownChildren *children)
{
	unsigned offset = firn_flat_slot(b, table, id);
	unsigned gap = gap_behind(b, table, offset);
	size_t at = table + offset;
	size_t align = 8;
	size_t target;

	if (offset < 4 || gap == 0) {
		give_up(u, "a field outside its table");
		return;
	}
	if (id >= FIRN_FLAT_ROW_FIELDS || gap > FIRN_FLAT_ROW_BYTES ||
	    row->n_fields >= FIRN_FLAT_ROW_FIELDS) {
		give_up(u, "a field too large");
		return;
	}
	target = gap >= 4 && gap < 8 ? target_of(b, at) : 0;
	if (target != 0 && thing_at(u, b, target) != THING_NONE) {
		children->ids[children->n] = id;
		children->targets[children->n++] = target;
		firn_flat_row_child(row, id);
		return;
	}
	while (align > 1 && (align > gap || at % align != 0))
		align /= 2;
	firn_flat_row_put(row, id, b.data + at, gap, align);
}

void
firn_unknown_add(FirnUnknown *u, FirnSpan b, size_t table, unsigned n_known, FirnFlatRow *row,
		 FirnUnknownChildren *out_children)
{
	unsigned n = firn_flat_n_slots(b, table);

	out_children->n = 0;
	for (unsigned id = n_known; id < n && u->error == NULL; id++)
		if (firn_flat_has(b, table, id))
			add_field(u, b, table, id, row, out_children);
}

static void
append_children(FirnUnknown *u, FirnFlatBuilder *builder, size_t table, FirnSpan b,
		const FirnUnknownChildren *children, unsigned depth)
{
	for (unsigned i = 0; i < children->n; i++) {
		size_t copy = copy_thing(u, builder, b, children->targets[i], depth);

		if (u->error != NULL)
			return;
		firn_flat_link(builder, table, children->ids[i], copy);
	}
}

void
firn_unknown_append(FirnUnknown *u, FirnFlatBuilder *builder, size_t table, FirnSpan b,
		    const FirnUnknownChildren *children)
{
	append_children(u, builder, table, b, children, MAX_DEPTH);
}

/* ---- copies ---- */

static size_t
copy_table(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t table, unsigned depth)
{
	FirnFlatRow row = { 0 };
	FirnUnknownChildren children;
	size_t copy;

	if (!spend(u, 4 + (uint64_t)firn_flat_inline_size(b, table)))
		return 0;
	firn_unknown_add(u, b, table, 0, &row, &children);
	if (u->error != NULL)
		return 0;
	copy = firn_flat_build_table(builder, &row);
	append_children(u, builder, copy, b, &children, depth);
	return copy;
}

static size_t
copy_references(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t at, unsigned depth)
{
	uint32_t n = firn_flat_count(b, at);
	size_t copy;

	if (!spend(u, 4 + 4 * (uint64_t)n))
		return 0;
	copy = firn_flat_build_offsets(builder, n);
	for (uint32_t i = 0; i < n; i++) {
		size_t item = copy_thing(u, builder, b, firn_flat_item(b, at, i), depth);

		if (u->error != NULL)
			return 0;
		firn_flat_link_item(builder, copy, i, item);
	}
	return copy;
}

/* The items' size is unknown: what follows them goes along, up to the largest there is. */
static size_t
copy_scalars(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t at)
{
	uint64_t n = firn_flat_count(b, at);
	size_t bytes = (size_t)MIN(n * ITEM_BYTES, (uint64_t)(b.len - at - 4));
	size_t copy;

	if (!spend(u, 4 + (uint64_t)bytes))
		return 0;
	copy = firn_flat_build_reserve(builder, 4 + bytes, 4, (at + 4) % 8 == 0 ? 8 : 4);
	if (copy != 0)
		memcpy(firn_flat_builder_at(builder, copy), b.data + at, 4 + bytes);
	return copy;
}

static size_t
copy_thing(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t at, unsigned depth)
{
	if (depth == 0)
		give_up(u, "too deep");
	if (u->error != NULL)
		return 0;
	switch (thing_at(u, b, at)) {
	case THING_TEXT:
		if (!spend(u, 5 + (uint64_t)firn_flat_count(b, at)))
			return 0;
		return firn_flat_build_string(builder, firn_flat_bytes(b, at));
	case THING_TABLE:
		return copy_table(u, builder, b, at, depth - 1);
	case THING_REFERENCES:
		return copy_references(u, builder, b, at, depth - 1);
	case THING_SCALARS:
		return copy_scalars(u, builder, b, at);
	case THING_NONE:
		break;
	}
	give_up(u, "a reference to nothing");
	return 0;
}

size_t
firn_unknown_copy_table(FirnUnknown *u, FirnFlatBuilder *builder, FirnSpan b, size_t table)
{
	/* The verifier has seen the table; its fields it has not. */
	if (!is_table(b, table)) {
		give_up(u, "a damaged table");
		return 0;
	}
	return copy_table(u, builder, b, table, MAX_DEPTH);
}
