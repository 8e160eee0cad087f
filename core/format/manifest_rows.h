#ifndef FIRN_CORE_FORMAT_MANIFEST_ROWS_H
#define FIRN_CORE_FORMAT_MANIFEST_ROWS_H

#include "core/format/manifest_private.h"

/*
 * The payload of a manifest of one array (the format's tables Manifest,
 * ArrayManifest and ChunkRef), laid out in one pass.  It knows neither order nor compression:
 * refs are stored as they are given.
 *
 * A virtual ref has a vtable of its own right before its table, and refs to one
 * file in a row share the strings behind the last of them.  The bytes of such
 * rows differ in little but their coordinates, so that zstd needs two thirds of
 * the time for them, and half of it to expand them.  In other rows there is too
 * much between two vtables for that; they share one.
 */
typedef struct FirnManifestRows FirnManifestRows;

/*
 * Begin the payload of manifest `id`, with room for `reserve` bytes: the tables
 * above `n_refs` refs to chunks of `node`.  `dictionary` (empty: none) is what
 * compressed locations among them are of.  Caller owns.
 */
FirnManifestRows *firn_manifest_rows_new(const FirnId12 *id, const FirnId8 *node, uint32_t rank,
					 uint32_t n_refs, FirnSpan dictionary, size_t reserve)
	FIRN_MUST_USE;
void firn_manifest_rows_free(FirnManifestRows *rows); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnManifestRows, firn_manifest_rows_free)

/* Append ref number `i`, of which nothing is kept; what goes wrong sticks. */
void firn_manifest_rows_add(FirnManifestRows *rows, uint32_t i, const uint32_t *coords,
			    const FirnRef *ref);
/*
 * Take over the rows of `block`, which outlives `rows`: they come right behind the tables above, and
 * refs added now behind them.  Before the first ref, if at all.  Refs `from` .. `from` + `n` - 1 of
 * the block become those from `i` on with firn_manifest_rows_take().
 */
void firn_manifest_rows_splice(FirnManifestRows *rows, const FirnManifestBlock *block);
void firn_manifest_rows_take(FirnManifestRows *rows, uint32_t i, uint32_t from, uint32_t n);
/* Whether something went wrong: the payload would be too large. */
bool firn_manifest_rows_failed(const FirnManifestRows *rows);
/* The payload of spliced rows, in parts that `rows` and the block own.  Errors: LIMIT. */
#define FIRN_MANIFEST_PARTS 5u
bool firn_manifest_rows_parts(FirnManifestRows *rows, FirnSpan parts[FIRN_MANIFEST_PARTS],
			      GError **error) FIRN_MUST_USE;
/* That of others; frees `rows` in every case.  Errors: LIMIT.  Caller owns (g_bytes_unref). */
GBytes *firn_manifest_rows_finish(FirnManifestRows *rows, GError **error) FIRN_MUST_USE;

#endif
