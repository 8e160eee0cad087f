#ifndef FIRN_CORE_FLAT_READER_H
#define FIRN_CORE_FLAT_READER_H

#include "core/base/id.h"

#include <string.h>

/*
 * Getters over a FlatBuffer that firn_flat_verify() has accepted.  Nothing is
 * checked here: use them only with the schema the buffer was verified against.
 *
 * Everything is a position, in bytes from the start of the buffer; 0 means
 * "absent" (no table, vector or field can lie there).  A field id is the number
 * in the schema, not the slot's offset.
 *
 *   size_t t = firn_flat_root(b);
 *   uint64_t when = firn_flat_get_u64(b, t, 3, 0);
 *   size_t nodes = firn_flat_get_child(b, t, 2);
 *   for (uint32_t i = 0; i < firn_flat_count(b, nodes); i++)
 *           visit(b, firn_flat_item(b, nodes, i));
 */
_Static_assert(G_BYTE_ORDER == G_LITTLE_ENDIAN, "vectors are handed out as they are in the buffer");

static inline uint16_t
firn_flat_load16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint32_t
firn_flat_load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t
firn_flat_load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* What the offset stored at `at` refers to. */
static inline size_t
firn_flat_follow(FirnSpan b, size_t at)
{
	return at + firn_flat_load32(b.data + at);
}

/* The root table. */
static inline size_t
firn_flat_root(FirnSpan b)
{
	return firn_flat_follow(b, 0);
}

/* ---- the raw vtable: also for fields that the schema does not know ---- */

static inline size_t
firn_flat_vtable(FirnSpan b, size_t table)
{
	return (size_t)((int64_t)table - (int32_t)firn_flat_load32(b.data + table));
}

/* Number of field ids the table's vtable has a slot for (present or not). */
static inline unsigned
firn_flat_n_slots(FirnSpan b, size_t table)
{
	return (firn_flat_load16(b.data + firn_flat_vtable(b, table)) - 4u) / 2u;
}

/* Bytes of the table itself, from its first; the verifier saw them to be in the buffer. */
static inline unsigned
firn_flat_inline_size(FirnSpan b, size_t table)
{
	return firn_flat_load16(b.data + firn_flat_vtable(b, table) + 2);
}

/*
 * Offset of field `id` from the start of the table, 0 if absent.  For ids that
 * the schema does not know it may be anything below 2^16.
 */
static inline unsigned
firn_flat_slot(FirnSpan b, size_t table, unsigned id)
{
	size_t vtable = firn_flat_vtable(b, table);
	unsigned slot = 4 + 2 * id;

	if (slot + 2 > firn_flat_load16(b.data + vtable))
		return 0;
	return firn_flat_load16(b.data + vtable + slot);
}

/* ---- fields ---- */

/* Position of the inline part of a field, 0 if absent. */
static inline size_t
firn_flat_field(FirnSpan b, size_t table, unsigned id)
{
	unsigned offset = firn_flat_slot(b, table, id);

	return offset != 0 ? table + offset : 0;
}

static inline bool
firn_flat_has(FirnSpan b, size_t table, unsigned id)
{
	return firn_flat_slot(b, table, id) != 0;
}

static inline uint8_t
firn_flat_get_u8(FirnSpan b, size_t table, unsigned id, uint8_t absent)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? b.data[at] : absent;
}

static inline uint16_t
firn_flat_get_u16(FirnSpan b, size_t table, unsigned id, uint16_t absent)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? firn_flat_load16(b.data + at) : absent;
}

static inline uint32_t
firn_flat_get_u32(FirnSpan b, size_t table, unsigned id, uint32_t absent)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? firn_flat_load32(b.data + at) : absent;
}

static inline int32_t
firn_flat_get_i32(FirnSpan b, size_t table, unsigned id, int32_t absent)
{
	return (int32_t)firn_flat_get_u32(b, table, id, (uint32_t)absent);
}

static inline uint64_t
firn_flat_get_u64(FirnSpan b, size_t table, unsigned id, uint64_t absent)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? firn_flat_load64(b.data + at) : absent;
}

/* A struct field in place, NULL if absent; any alignment. */
static inline const uint8_t *
firn_flat_get_struct(FirnSpan b, size_t table, unsigned id)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? b.data + at : NULL;
}

/* Ids in place, NULL if absent (the types are bytes: no alignment). */
static inline const FirnId12 *
firn_flat_get_id12(FirnSpan b, size_t table, unsigned id)
{
	return (const FirnId12 *)firn_flat_get_struct(b, table, id);
}

static inline const FirnId8 *
firn_flat_get_id8(FirnSpan b, size_t table, unsigned id)
{
	return (const FirnId8 *)firn_flat_get_struct(b, table, id);
}

/* The table, vector, string or union value a field refers to; 0 if absent. */
static inline size_t
firn_flat_get_child(FirnSpan b, size_t table, unsigned id)
{
	size_t at = firn_flat_field(b, table, id);

	return at != 0 ? firn_flat_follow(b, at) : 0;
}

/* ---- vectors and strings ---- */

/* Number of items; 0 for an absent vector. */
static inline uint32_t
firn_flat_count(FirnSpan b, size_t vector)
{
	return vector != 0 ? firn_flat_load32(b.data + vector) : 0;
}

/* First byte of the items (scalars, structs) of a vector that is not absent. */
static inline const uint8_t *
firn_flat_items(FirnSpan b, size_t vector)
{
	return b.data + vector + 4;
}

/* Item `i` of a vector of tables or strings: the table, or the string. */
static inline size_t
firn_flat_item(FirnSpan b, size_t vector, uint32_t i)
{
	return firn_flat_follow(b, vector + 4 + 4 * (size_t)i);
}

/* The bytes of a string or byte vector; { NULL, 0 } for position 0. */
static inline FirnSpan
firn_flat_bytes(FirnSpan b, size_t vector)
{
	if (vector == 0)
		return (FirnSpan){ NULL, 0 };
	return (FirnSpan){ b.data + vector + 4, firn_flat_load32(b.data + vector) };
}

/* The bytes of a string or byte vector field; data == NULL if absent (empty is not NULL). */
static inline FirnSpan
firn_flat_get_bytes(FirnSpan b, size_t table, unsigned id)
{
	return firn_flat_bytes(b, firn_flat_get_child(b, table, id));
}

#endif
