#ifndef FIRN_CORE_FORMAT_MANIFEST_H
#define FIRN_CORE_FORMAT_MANIFEST_H

#include "core/format/envelope.h"
#include "core/format/types.h"

/*
 * Manifest (file type 2): chunk refs, sorted, of one or more arrays.  A view
 * over the decompressed, verified payload: nothing is unpacked per ref.
 * Immutable, reference counted; any thread.
 */
typedef struct FirnManifest FirnManifest;

/* Errors: FORMAT, UNSUPPORTED, LIMIT.  Caller owns (firn_manifest_unref). */
FirnManifest *firn_manifest_open(GBytes *file, GError **error) FIRN_MUST_USE;
/* The same of what such a file decompresses to, at a multiple of 8 in memory. */
FirnManifest *firn_manifest_open_payload(GBytes *payload, GError **error) FIRN_MUST_USE;
/* The same of a file, which is decompressed into `room` if there is any. */
FirnManifest *firn_manifest_open_in(GBytes *file, const FirnRoom *room, GError **error)
	FIRN_MUST_USE;
GBytes *firn_manifest_payload(const FirnManifest *manifest); /* what is viewed; borrowed */
FirnManifest *firn_manifest_ref(FirnManifest *manifest);
void firn_manifest_unref(FirnManifest *manifest); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnManifest, firn_manifest_unref)

const FirnId12 *firn_manifest_id(const FirnManifest *manifest);
size_t firn_manifest_size(const FirnManifest *manifest); /* bytes of memory held */
size_t firn_manifest_n_arrays(const FirnManifest *manifest);

/* The sorted refs of one array in one manifest; a borrowed cursor, valid with the manifest. */
typedef struct {
	const FirnManifest *manifest;
	size_t position; /* private: of the vector of refs */
	uint32_t count;
	uint32_t rank; /* of the first ref; all have it (checked at open) */
} FirnRefs;

/* The refs of array number `index`, and (may be NULL) its node id. */
void firn_manifest_array(const FirnManifest *manifest, size_t index, FirnId8 *out_node,
			 FirnRefs *out_refs);
/* The refs of `node`; false (and count 0) if the manifest has none. */
bool firn_manifest_find(const FirnManifest *manifest, const FirnId8 *node, FirnRefs *out_refs);

/* Coordinates of ref `i` < count: `rank` items, borrowed, 4-aligned. */
const uint32_t *firn_refs_coords(const FirnRefs *refs, uint32_t i);
void firn_refs_get(const FirnRefs *refs, uint32_t i, FirnRef *out_ref);
/* First ref whose first `n` <= rank coordinates are >= `coords` (lexicographic). */
uint32_t firn_refs_lower_bound(const FirnRefs *refs, const uint32_t *coords, uint32_t n);
/* Exact look-up of `rank` coordinates. */
bool firn_refs_find(const FirnRefs *refs, const uint32_t *coords, uint32_t *out_index);

/*
 * The location of a virtual ref of this manifest, decompressed if need be
 * (limit 1024 bytes then).  NUL-terminated, caller owns (g_free).  Errors: FORMAT.
 */
char *firn_manifest_location(const FirnManifest *manifest, const FirnRef *ref, GError **error)
	FIRN_MUST_USE;

/* ---- writing (version 2, one array a manifest) ---- */

/*
 * One pass: refs are appended in strictly ascending order straight into the
 * payload.  One thread at a time.
 */
typedef struct FirnManifestWriter FirnManifestWriter;

/* `n_refs`: exact number of refs that will be added, > 0. */
FirnManifestWriter *firn_manifest_writer_new(const FirnId12 *id, const FirnId8 *node, uint32_t rank,
					     uint32_t n_refs);
/* Virtual refs chosen uniformly, the same of the same refs: add the index of each, in order. */
#define FIRN_MANIFEST_SAMPLES 100u
typedef struct {
	uint32_t n; /* added */
	uint32_t indices[FIRN_MANIFEST_SAMPLES];
	uint64_t random;
} FirnManifestSample;
void firn_manifest_sample_add(FirnManifestSample *sample, uint32_t index);
/* Whether there are so many that their locations are stored with a dictionary. */
bool firn_manifest_sample_is_enough(const FirnManifestSample *sample);
/*
 * Before the first ref: say the locations of the chosen ones (FIRN_MANIFEST_SAMPLES of them), so
 * that locations are compressed as they come.  Without, they are in a second pass.
 */
void firn_manifest_writer_train(FirnManifestWriter *writer, const FirnSpan *samples);
/*
 * Instead, before the first ref: compress locations with the dictionary of `source`, whose refs
 * can then be added with their locations as they are there (`location_compressed`).  Refs of
 * other manifests still need plain ones; `source` outlives the writer.  False, and nothing done: there are few refs, or
 * `source` has no dictionary that is usable.
 */
bool firn_manifest_writer_keep(FirnManifestWriter *writer, const FirnManifest *source)
	FIRN_MUST_USE;
/*
 * Refs whose rows lie in one block behind the vector of offsets to them, of which nearly all is
 * in use: a manifest that differs in few refs takes the block over as it is.
 */
typedef struct {
	FirnRefs refs; /* all of their manifest; a borrowed cursor */
	size_t begin;  /* private: of the block, to the end of the payload; a multiple of eight */
	uint32_t least[FIRN_MAX_RANK]; /* coordinates along each axis */
	uint32_t most[FIRN_MAX_RANK];
} FirnManifestBlock;
/*
 * One pass over `refs`: false if they cannot be taken over, or are better written anew (the
 * manifest has other arrays, much of it is unused, locations should be compressed and are not).
 */
bool firn_manifest_block(const FirnRefs *refs, FirnManifestBlock *out_block) FIRN_MUST_USE;
/*
 * Instead of firn_manifest_writer_keep(), before the first ref: take over the rows of `block` and the
 * dictionary of its manifest; both outlive the writer.  Refs of the block come with
 * firn_manifest_writer_take() then.
 */
void firn_manifest_writer_splice(FirnManifestWriter *writer, const FirnManifestBlock *block);
/* Append refs `from` .. `from` + `n` - 1 of the block. */
void firn_manifest_writer_take(FirnManifestWriter *writer, uint32_t from, uint32_t n);
/* Compress on the calling thread only: others write manifests meanwhile. */
void firn_manifest_writer_alone(FirnManifestWriter *writer);
/*
 * Append a ref (kind inline, native or virtual; virtual locations plain, but for
 * firn_manifest_writer_keep()).  Copies what it needs.  Errors: LIMIT (payload over 2^31 - 1).
 */
bool firn_manifest_writer_add(FirnManifestWriter *writer, const uint32_t *coords,
			      const FirnRef *ref, GError **error) FIRN_MUST_USE;
/*
 * The file bytes, zstd at `level`; locations are stored with a zstd dictionary
 * when there are at least 1000 virtual refs (format section 6.4).  Frees the
 * writer in every case.  Caller owns the result.
 */
GBytes *firn_manifest_writer_finish(FirnManifestWriter *writer, int level, GError **error)
	FIRN_MUST_USE;
void firn_manifest_writer_free(FirnManifestWriter *writer); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnManifestWriter, firn_manifest_writer_free)

#endif
