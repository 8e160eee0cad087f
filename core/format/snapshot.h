#ifndef FIRN_CORE_FORMAT_SNAPSHOT_H
#define FIRN_CORE_FORMAT_SNAPSHOT_H

#include "core/format/types.h"

#include <json-glib/json-glib.h>

/*
 * Snapshot (file type 1): one immutable state of the hierarchy.  A view over
 * the decompressed, verified payload; look-ups are binary searches in place.
 * Immutable, reference counted; any thread.
 */
typedef struct FirnSnapshot FirnSnapshot;

/*
 * Open the file bytes of `snapshots/<id>` (envelope version 1 or 2).  Checks
 * everything the accessors rely on: the flatbuffer, strictly ascending paths,
 * ranks, that manifest extents have one item per axis, known node kinds.
 * Errors: FORMAT, UNSUPPORTED, LIMIT.  Caller owns (firn_snapshot_unref).
 */
FirnSnapshot *firn_snapshot_open(GBytes *file, GError **error) FIRN_MUST_USE;
FirnSnapshot *firn_snapshot_ref(FirnSnapshot *snapshot);
void firn_snapshot_unref(FirnSnapshot *snapshot); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnSnapshot, firn_snapshot_unref)

const FirnId12 *firn_snapshot_id(const FirnSnapshot *snapshot);
size_t firn_snapshot_size(const FirnSnapshot *snapshot);          /* bytes of memory held */
uint8_t firn_snapshot_spec_version(const FirnSnapshot *snapshot); /* of the file: 1 or 2 */
uint64_t firn_snapshot_flushed_at(const FirnSnapshot *snapshot);  /* us since 1970 */
const char *firn_snapshot_message(const FirnSnapshot *snapshot);  /* NUL-terminated, borrowed */
/* Parent, recorded in version 1 files only; false if there is none. */
bool firn_snapshot_parent(const FirnSnapshot *snapshot, FirnId12 *out_parent);
/* Metadata as a JSON object (FlexBuffers or MessagePack inside).  Caller owns. */
JsonObject *firn_snapshot_metadata(const FirnSnapshot *snapshot, GError **error) FIRN_MUST_USE;

/* One node; pointers are borrowed from the snapshot. */
typedef struct {
	FirnId8 id;
	FirnNodeKind kind;
	FirnSpan path; /* absolute, "/" is the root; no NUL */
	FirnSpan meta; /* bytes of zarr.json */
	uint32_t rank; /* arrays; 0 for groups */
	uint32_t n_manifests;
	size_t position; /* private: of the node's table */
} FirnSnapshotNode;

size_t firn_snapshot_n_nodes(const FirnSnapshot *snapshot);
void firn_snapshot_node(const FirnSnapshot *snapshot, size_t index, FirnSnapshotNode *out_node);
/* Binary search by path; `*out_index` is the lower bound also when false is returned. */
bool firn_snapshot_find_path(const FirnSnapshot *snapshot, const char *path, size_t len,
			     size_t *out_index);
/* Find a node by id (index built on first use). */
bool firn_snapshot_find_id(const FirnSnapshot *snapshot, const FirnId8 *id, size_t *out_index);
/* Shape of an array along `axis` < rank: elements, chunks. */
void firn_snapshot_node_shape(const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			      uint32_t axis, uint64_t *out_length, uint32_t *out_n_chunks);
/*
 * The dimension names recorded for an array: `rank` strings, NULL for an
 * unnamed dimension, all in one block (caller owns; g_free).  NULL if none are
 * recorded.
 */
char **firn_snapshot_node_dimension_names(const FirnSnapshot *snapshot,
					  const FirnSnapshotNode *node) FIRN_MUST_USE;
/* Manifest ref `index` < n_manifests; `out_extents` receives `rank` items (may be NULL). */
void firn_snapshot_node_manifest(const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
				 uint32_t index, FirnId12 *out_id, FirnExtent *out_extents);

typedef struct {
	FirnId12 id;
	uint64_t size_bytes; /* of the stored file, header included; 0 = unknown */
	uint32_t n_refs;
} FirnManifestFile;

/* Indexes are those of the list in the order of ids, whatever the file's is. */
size_t firn_snapshot_n_manifest_files(const FirnSnapshot *snapshot);
void firn_snapshot_manifest_file(const FirnSnapshot *snapshot, size_t index,
				 FirnManifestFile *out_file);
bool firn_snapshot_find_manifest_file(const FirnSnapshot *snapshot, const FirnId12 *id,
				      size_t *out_index);

/* ---- writing (version 2) ---- */

typedef struct {
	FirnId8 id;
	FirnNodeKind kind;
	FirnSpan path;
	FirnSpan meta;
	uint32_t rank;
	const uint64_t *lengths;  /* rank items: elements */
	const uint32_t *n_chunks; /* rank items: chunks   */
	bool has_dimension_names;
	char *const *dimension_names; /* rank items, each may be NULL */
	uint32_t n_manifests;
	const FirnId12 *manifest_ids;       /* n_manifests items */
	const FirnExtent *manifest_extents; /* n_manifests * rank items */
} FirnSnapshotRow;

typedef struct {
	FirnId12 id;
	uint64_t flushed_at; /* us */
	const char *message;
	JsonObject *metadata;        /* may be NULL: empty */
	const FirnSnapshotRow *rows; /* strictly ascending by path bytes (asserted) */
	size_t n_rows;
	const FirnManifestFile *files; /* strictly ascending by id (asserted) */
	size_t n_files;
} FirnSnapshotContent;

/* File bytes (envelope + zstd at `level`).  Errors: LIMIT (payload over 2^31).  Caller owns. */
GBytes *firn_snapshot_encode(const FirnSnapshotContent *content, int level, GError **error)
	FIRN_MUST_USE;

#endif
