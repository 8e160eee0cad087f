#ifndef FIRN_CORE_ZARR_META_H
#define FIRN_CORE_ZARR_META_H

#include "core/format/types.h"

/*
 * One `zarr.json`: the bytes as they were written, and what the repository
 * needs to know of them.  Immutable, reference counted (atomic); any thread.
 */
typedef struct {
	GBytes *raw; /* the document, byte for byte */
	FirnNodeKind kind;
	uint32_t rank;     /* arrays; groups 0 */
	uint64_t *lengths; /* rank items: elements along each axis */
	uint32_t *
		n_chunks; /* rank items: chunks along each axis; 0 where length or chunk length is 0 */
	bool has_dimension_names;
	char **dimension_names; /* rank items, each may be NULL */
	uint64_t geometry; /* hash of rank, data_type, chunk_grid, chunk_key_encoding, codecs, but
			    * not of edges: see firn_meta_same_geometry() */
	GArray *edges;     /* of FirnEdgeRun: those of a rectilinear grid; NULL for any other */
	bool has_consolidated; /* a group with a `consolidated_metadata` member */
	int ref_count;         /* private */
} FirnMeta;

/*
 * Parse strictly (RFC 8259, depth <= 128, no NaN, no trailing bytes, valid
 * UTF-8).  `raw` is referenced.  Refused with INVALID and a message that names
 * the member: no object, `zarr_format` other than 3, unknown node_type, missing
 * or malformed shape / chunk_grid (regular, rectilinear) / rank mismatch,
 * dimension_names of another length, chunk_key_encoding other than default
 * with "/", more than 2^32 - 1 chunks along an axis, rank over FIRN_MAX_RANK.
 * Any fill_value, data type and codec is accepted.  Caller owns (firn_meta_unref).
 */
FirnMeta *firn_meta_parse(GBytes *raw, GError **error) FIRN_MUST_USE;
FirnMeta *firn_meta_ref(FirnMeta *meta);
void firn_meta_unref(FirnMeta *meta); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnMeta, firn_meta_unref)

/* Same bytes? */
bool firn_meta_equal(const FirnMeta *a, const FirnMeta *b);

/*
 * Whether chunks written under one document decode under the other: rank, data type, codecs
 * and chunk grid say the same.  A rectilinear axis grows by further edges at its end, which
 * leave the chunks there are where they are: along each axis the edges of one document are
 * to be the first of the other's.  All edges given count, also those behind the array's end;
 * of a length that repeats, as many as there are chunks.  Not transitive: [1,2] and [1,3]
 * differ, and both are the same as [1].  Two groups are the same.
 */
bool firn_meta_same_geometry(const FirnMeta *a, const FirnMeta *b);

/* Whether `coords` (`rank` items) names a place in the array's grid; a rank-0 array has one. */
bool firn_meta_contains(const FirnMeta *meta, const uint32_t *coords, uint32_t rank);

/*
 * `raw` without its top-level `consolidated_metadata` member, all else byte
 * for byte; `raw` itself (a new reference) if it has none.  Caller owns.
 */
GBytes *firn_meta_strip_consolidated(GBytes *raw);

/* The document of a group that was only implied: {"zarr_format":3,"node_type":"group"}.  Caller owns. */
FirnMeta *firn_meta_minimal_group(void);

#endif
