#ifndef FIRN_CORE_FORMAT_PAYLOAD_H
#define FIRN_CORE_FORMAT_PAYLOAD_H

#include "core/flat/verify.h"
#include "core/format/envelope.h"

/*
 * What all metadata files have in common: envelope, kind, one verified
 * FlatBuffer.  Pure functions; any thread.
 */

/* Tables in one file, as the official reader bounds them. */
#define FIRN_PAYLOAD_MAX_TABLES          50000000u
#define FIRN_PAYLOAD_MAX_TABLES_MANIFEST 500000000u

/* `{ name (required), value (required) }`: an item of every metadata list. */
extern const FirnFlatTable firn_payload_metadata_item;

/*
 * Open `file`, which must be of kind `kind`, and verify its payload against
 * `root`.  The returned bytes begin at a multiple of 8 in memory, so that items
 * of verified vectors may be read in place.
 * Errors: FORMAT, UNSUPPORTED, LIMIT.  Caller owns (g_bytes_unref).
 * out_spec_version: of the file; may be NULL.
 */
GBytes *firn_payload_open(GBytes *file, FirnKind kind, const FirnFlatTable *root,
			  uint64_t max_tables, uint8_t *out_spec_version, GError **error)
	FIRN_MUST_USE;

/* The same, with its bytes in `room` (may be NULL) if there is any. */
GBytes *firn_payload_open_in(GBytes *file, FirnKind kind, const FirnFlatTable *root,
			     uint64_t max_tables, const FirnRoom *room, uint8_t *out_spec_version,
			     GError **error) FIRN_MUST_USE;

/* Verify what was such a file's payload, at a multiple of 8.  Errors: FORMAT, LIMIT. */
bool firn_payload_verify(FirnSpan payload, const FirnFlatTable *root, uint64_t max_tables,
			 GError **error) FIRN_MUST_USE;

/* The bytes as a span, borrowed from `bytes`. */
FirnSpan firn_payload_span(GBytes *bytes);

/* Order of strings in sorted vectors: bytewise, a prefix first. */
int firn_payload_compare(FirnSpan a, FirnSpan b);

#endif
