#ifndef FIRN_CORE_FLAT_BUILD_H
#define FIRN_CORE_FLAT_BUILD_H

#include "core/base/id.h"

/*
 * A forward FlatBuffers builder: parents first.  A table or a vector of offsets
 * is appended with empty offsets; each child is appended later and linked:
 *
 *   FirnFlatBuilder *b = firn_flat_builder_new(0);
 *   FirnFlatRow row = { 0 };
 *
 *   firn_flat_row_u64(&row, 3, flushed_at);
 *   firn_flat_row_child(&row, 4);
 *   t = firn_flat_build_root(b, &row);
 *   firn_flat_link(b, t, 4, firn_flat_build_string(b, message));
 *   GBytes *payload = firn_flat_builder_finish(b, &error);
 *
 * Every child declared must be linked before finish.  Fields not set are
 * absent; there are no implied defaults: leave a field out to omit it.
 * Equal calls give equal bytes; vtables are shared; strings get a NUL.
 *
 * Failure (payload over 2^31 - 1 bytes, or no memory) sticks: later calls do
 * nothing and return position 0, and finish reports it.
 * One thread at a time.
 */
typedef struct FirnFlatBuilder FirnFlatBuilder;

#define FIRN_FLAT_MAX_SIZE   0x7fffffffu /* bytes of a payload */
#define FIRN_FLAT_ROW_FIELDS 32u
#define FIRN_FLAT_ROW_BYTES  16u /* of the largest inline struct */

/* `reserve`: expected payload bytes, 0 = unknown. */
FirnFlatBuilder *firn_flat_builder_new(size_t reserve) FIRN_MUST_USE;
void firn_flat_builder_free(FirnFlatBuilder *builder); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnFlatBuilder, firn_flat_builder_free)
/* The payload; frees the builder in every case.  Errors: LIMIT.  Caller owns (g_bytes_unref). */
GBytes *firn_flat_builder_finish(FirnFlatBuilder *builder, GError **error) FIRN_MUST_USE;
bool firn_flat_builder_failed(const FirnFlatBuilder *builder);
/* Bytes so far. */
size_t firn_flat_builder_len(const FirnFlatBuilder *builder);

/* ---- tables ---- */

/* The fields of a table to be built; start with { 0 }.  Ids in any order, each once. */
typedef struct {
	unsigned n_fields;
	struct {
		uint16_t id;
		uint8_t size;
		uint8_t align;
		uint8_t bytes[FIRN_FLAT_ROW_BYTES];
	} fields[FIRN_FLAT_ROW_FIELDS];
} FirnFlatRow;

/* An inline struct, or a scalar of any size: `size` <= 16 bytes, `align` 1, 2, 4 or 8. */
void firn_flat_row_put(FirnFlatRow *row, unsigned id, const void *value, size_t size, size_t align);
void firn_flat_row_u8(FirnFlatRow *row, unsigned id, uint8_t value);
void firn_flat_row_u16(FirnFlatRow *row, unsigned id, uint16_t value);
void firn_flat_row_u32(FirnFlatRow *row, unsigned id, uint32_t value);
void firn_flat_row_i32(FirnFlatRow *row, unsigned id, int32_t value);
void firn_flat_row_u64(FirnFlatRow *row, unsigned id, uint64_t value);
void firn_flat_row_id12(FirnFlatRow *row, unsigned id, const FirnId12 *value);
void firn_flat_row_id8(FirnFlatRow *row, unsigned id, const FirnId8 *value);
/* A string, vector, table or union value, to be linked. */
void firn_flat_row_child(FirnFlatRow *row, unsigned id);

/* Append a table; returns its position.  The row may be used again. */
size_t firn_flat_build_table(FirnFlatBuilder *builder, const FirnFlatRow *row);
/* The same, and make it the root. */
size_t firn_flat_build_root(FirnFlatBuilder *builder, const FirnFlatRow *row);
/* Let child field `id` of `table` refer to `child`, which lies behind it. */
void firn_flat_link(FirnFlatBuilder *builder, size_t table, unsigned id, size_t child);

/* ---- vectors and strings ---- */

size_t firn_flat_build_string(FirnFlatBuilder *builder, FirnSpan text);
size_t firn_flat_build_bytes(FirnFlatBuilder *builder, FirnSpan bytes);
/* `count` items of `size` bytes, the first at a multiple of `align` (1, 2, 4, 8). */
size_t firn_flat_build_vector(FirnFlatBuilder *builder, const void *items, size_t count,
			      size_t size, size_t align);
/* A vector of `count` offsets, each to be linked to a table or string. */
size_t firn_flat_build_offsets(FirnFlatBuilder *builder, size_t count);
void firn_flat_link_item(FirnFlatBuilder *builder, size_t vector, size_t index, size_t child);

/* ---- raw access, for templates laid out by hand ---- */

/*
 * Append `size` zero bytes so that byte `lead` of them falls on a multiple of
 * `align` (1, 2, 4, 8); returns the position of the first, 0 on failure.
 */
size_t firn_flat_build_reserve(FirnFlatBuilder *builder, size_t size, size_t lead, size_t align);
/* The byte at `position`; valid until the next append.  Not for a failed builder. */
uint8_t *firn_flat_builder_at(FirnFlatBuilder *builder, size_t position);
/* A vtable of `n` slots (offsets by field id), shared with an equal one. */
size_t firn_flat_build_vtable(FirnFlatBuilder *builder, uint16_t inline_size, const uint16_t *slots,
			      size_t n);

#endif
