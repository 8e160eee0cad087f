#ifndef FIRN_CORE_FORMAT_UNKNOWN_H
#define FIRN_CORE_FORMAT_UNKNOWN_H

#include "core/flat/build.h"

/*
 * Carrying fields that a later version of the format added to a table through
 * a rewrite, without their schema.  What a vtable tells is where a field
 * starts; the rest is a rule:
 *
 *   - A field ends where the next one of the table starts, or the table ends.
 *     It is copied with its padding, at the alignment it had.
 *   - A field of 4 to 7 bytes at a multiple of 4 that holds the offset of
 *     something (in bounds, a multiple of 4, and a text, a table or a vector
 *     lies there) is a reference; all else is a scalar or struct.
 *   - A reference is followed: to a text (UTF-8 without control characters,
 *     a NUL behind it), else a table (a vtable that makes sense; its fields by
 *     this rule), else a vector of references (each item is one), else a vector
 *     of scalars, copied as if its items had 32 bytes: a few bytes more than
 *     needed do no harm.
 *
 * A number below the file's size may be taken for a reference when by chance it
 * points to something: official builders make such fields rarely.  What cannot
 * be carried (deeper than 16, more than the budget, a field of more than 16
 * bytes, field ids of 32 and more) is an error, never dropped.
 */
typedef struct {
	uint64_t bytes_left; /* that may still be written, over the whole file */
	GError *error;       /* the first; later calls do nothing */
} FirnUnknown;

/* References of one table, to be appended behind it. */
typedef struct {
	unsigned n;
	unsigned ids[FIRN_FLAT_ROW_FIELDS];
	size_t targets[FIRN_FLAT_ROW_FIELDS];
} FirnUnknownChildren;

/*
 * Add to `row` the fields of `table`, in the verified buffer `b`, with ids of
 * `n_known` and more; the references among them also to `out_children`.
 */
void firn_unknown_add(FirnUnknown *unknown, FirnSpan b, size_t table, unsigned n_known,
		      FirnFlatRow *row, FirnUnknownChildren *out_children);
/* Append what the fields refer to, and link it; `table` was built from the row. */
void firn_unknown_append(FirnUnknown *unknown, FirnFlatBuilder *builder, size_t table, FirnSpan b,
			 const FirnUnknownChildren *children);
/* Append a copy of a whole table of unknown type; its position. */
size_t firn_unknown_copy_table(FirnUnknown *unknown, FirnFlatBuilder *builder, FirnSpan b,
			       size_t table);

#endif
