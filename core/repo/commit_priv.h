#ifndef FIRN_CORE_REPO_COMMIT_PRIV_H
#define FIRN_CORE_REPO_COMMIT_PRIV_H

#include "core/repo/commit.h"
#include "core/repo/conflict.h"

/*
 * The parts of a commit, shared by its files only:
 *
 *   commit.c          the order of things, trying again
 *   commit_publish.c  the objects, durable; then `repo`, which names them
 *   commit_rows.c     the nodes of the new snapshot
 *   commit_array.c    which manifests of an array are touched, and how it is split
 *   commit_cell.c     what one manifest becomes
 *   commit_splice.c   the same of few changes to many refs
 *   commit_manifest.c writing one
 *   commit_verify.c   are the chunks there, do they fit their array's geometry
 *   commit_log.c      the transaction log
 *   commit_encode.c   the snapshot
 *   commit_rebase.c   conflicts with what was committed meanwhile: nodes
 *   commit_collide.c  the same: chunks
 *   commit_pool.c     work on all cores
 */

typedef struct FirnCommitArray FirnCommitArray;

/* One node of the new snapshot. */
typedef struct {
	FirnId8 id;
	FirnNodeKind kind;
	char *path; /* in `strings` */
	bool in_parent;
	size_t index;                 /* in the parent snapshot */
	const FirnNodeChange *change; /* NULL: untouched, or only implied */
	FirnMeta *meta;               /* its new document, owned; NULL: as in the parent snapshot */
	GBytes *raw;                  /* bytes of the new document, owned; NULL likewise */
	FirnCommitArray *array;       /* owned; NULL: manifests as in the parent snapshot */
} FirnCommitRow;

/* A manifest of the new snapshot. */
typedef struct {
	FirnManifestFile file;
	size_t listed;       /* in the parent's list, plus 1; 0: it is new */
	FirnExtent *extents; /* rank items, owned */
} FirnCommitManifest;

/* Changed chunks of one array in the log. */
typedef struct {
	FirnId8 node;
	uint32_t rank;
	size_t n;
	GArray *coords; /* uint32_t, rank a chunk, sorted and unique; owned */
} FirnCommitLogArray;

typedef struct {
	FirnRepo *repo;
	const FirnChanges *changes;
	const FirnCommitOptions *options;
	FirnConfig *config;
	int level;            /* of compression */
	FirnId12 id;          /* of the new snapshot */
	FirnSnapshot *start;  /* what `changes` is relative to */
	FirnSnapshot *parent; /* what is built on: differs after a rebase */
	/* After a rebase: */
	GHashTable *
		aliases; /* id of a node the branch made -> our FirnNodeChange that made the same */
	GHashTable *adopted; /* set: those FirnNodeChange */
	GHashTable *
		reverted; /* set: FirnNodeChange whose document is the base's; the branch's counts */
	GHashTable *theirs; /* our node id -> FirnChunkMap: chunks of ours that give way */
	/* The outcome: */
	GStringChunk *strings;
	GArray *rows;                        /* FirnCommitRow, by path */
	GArray *log_ids[FIRN_TXLOG_N_LISTS]; /* FirnId8, sorted */
	GArray *log_arrays;                  /* FirnCommitLogArray, by node */
	GArray *splits;     /* FirnConfigSplit: rules to add to the configuration */
	uint64_t n_nodes;   /* created, changed or deleted */
	uint64_t n_chunks;  /* changed */
	uint64_t n_settled; /* collisions of chunks, by the policy of the rebase */
	uint32_t n_written; /* manifests */
	uint64_t flushed_at;
	bool many_tasks;      /* manifests are written on all threads at once */
	pthread_mutex_t lock; /* protects all below */
	GPtrArray *written;   /* char *: keys of objects that nobody refers to before `repo` does */
	guint n_published;    /* of these, or somebody is about it */
} FirnCommitting;

/* A manifest of the parent snapshot. */
typedef struct {
	FirnManifestFile file;
	size_t listed;       /* in the parent's list */
	FirnExtent *extents; /* rank items */
	bool taken;          /* all it has is in a new manifest, or gone */
	bool broken;         /* some of it is */
} FirnCommitOld;

/* Changes that follow each other in the chunk map, all of one cell. */
typedef struct {
	FirnChunkPlace first;
	size_t n;
} FirnCommitSegment;

/* A cell of the array's grid of manifests, with changes. */
typedef struct {
	FirnCommitArray *array;
	uint32_t *from;   /* rank items */
	uint32_t *to;     /* rank items */
	GArray *segments; /* FirnCommitSegment, by coordinates */
	size_t n_changes; /* in all of them */
	bool effective;   /* something became different */
} FirnCommitCell;

/* The changes of a cell, by coordinates; borrowed from the chunk map (which it reads as it goes). */
typedef struct {
	const FirnCommitCell *cell;
	bool holds;    /* all of them stay until firn_commit_walk_release() */
	guint segment; /* the next one */
	size_t left;   /* of the last one */
	FirnChunkIter iter;
	const uint32_t *coords; /* the one in turn */
	const FirnChunkChange *change;
} FirnCommitWalk;

/* What became of a cell, or of what was left of a broken manifest. */
typedef struct {
	GArray *manifests; /* FirnCommitManifest */
	GArray *coords;    /* uint32_t, rank a chunk: changed ones, for the log */
	size_t n_changed;
} FirnCommitPart;

struct FirnCommitArray {
	FirnCommitting *c;
	FirnId8 id;
	const char *path;
	uint32_t rank;
	uint32_t grid[FIRN_MAX_RANK];  /* chunks along each axis */
	uint32_t split[FIRN_MAX_RANK]; /* chunks a manifest along each axis */
	const FirnNodeChange *change;
	FirnChunkMap *skip; /* changes that give way; NULL: none.  Borrowed. */
	bool in_parent;
	FirnSnapshotNode node; /* in the parent snapshot */
	bool keeps;            /* any of the parent snapshot's refs may be kept */
	uint32_t old_grid[FIRN_MAX_RANK];
	uint32_t bounds[FIRN_MAX_RANK]; /* the parent snapshot's refs outside are dropped */
	FirnCommitOld *olds;
	uint32_t n_olds;
	FirnExtent *old_extents;
	uint32_t axis;       /* `order` is by `from` along this */
	uint32_t *order;     /* of olds */
	uint32_t *reach;     /* greatest `to` along the axis among order[0..i] */
	GHashTable *by_cell; /* set of FirnCommitCell, owned */
	GPtrArray *cells;    /* the same, by coordinates */
	GArray *parts;       /* FirnCommitPart */
	GArray *manifests;   /* FirnCommitManifest: the outcome */
	size_t n_changed;
};

/* ---- small things ---- */

static inline FirnCommitRow *
firn_commit_row(const FirnCommitting *c, guint i)
{
	return &g_array_index(c->rows, FirnCommitRow, i);
}

static inline bool
firn_commit_inside(const uint32_t *coords, const uint32_t *grid, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (coords[i] >= grid[i])
			return false;
	return true;
}

static inline bool
firn_commit_in_cell(const FirnCommitCell *cell, const uint32_t *coords)
{
	for (uint32_t i = 0; i < cell->array->rank; i++)
		if (coords[i] < cell->from[i] || coords[i] >= cell->to[i])
			return false;
	return true;
}

/* Chunks along each axis of an array of `snapshot`. */
void firn_commit_node_grid(const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
			   uint32_t *out_grid);
/* The document of a node, parsed (caller owns), or NULL if it is beyond us. */
FirnMeta *firn_commit_node_meta(const FirnSnapshotNode *node);
/* Whether a node's document is `meta`'s, as far as it is kept. */
bool firn_commit_same_document(FirnSpan document, const FirnMeta *meta);
/* Sort rows of `rank` coordinates and drop repeated ones; `n` rows; returns how many are left. */
size_t firn_commit_sort_coords(GArray *coords, uint32_t rank, size_t n);
/* Put a new object under `<prefix><id>`, remembering it as garbage in waiting; it is published later. */
bool firn_commit_put(FirnCommitting *c, const char *prefix, const FirnId12 *id, GBytes *file,
		     GError **error) FIRN_MUST_USE;
/* Nobody refers to what was written: take it away as far as possible. */
void firn_commit_discard(FirnCommitting *c);
/*
 * Make the objects durable, and let `repo` name the new snapshot, on top of `tip`.  `*out_moved`:
 * it failed because the branch did not end there any more.  After a failure nothing that was
 * written is left, unless it is not known whether `repo` names it.
 */
bool firn_commit_publish(FirnCommitting *c, const FirnId12 *tip, FirnId12 *out_parent,
			 bool *out_moved, GError **error) FIRN_MUST_USE;
/* The error of a branch that ends in `tip` now. */
bool firn_commit_fail_moved(const FirnCommitOptions *options, const FirnId12 *tip, GError **error);
void firn_commit_progress(const FirnCommitting *c, const char *what, uint64_t done, uint64_t total);

/* Call `fn` for 0..n-1 on several threads; the first failure stops it. */
typedef bool (*FirnCommitTask)(size_t index, void *data, GError **error);
bool firn_commit_pool(const FirnCommitting *c, const char *what, size_t n, FirnCommitTask fn,
		      void *data, GError **error) FIRN_MUST_USE;

static inline bool
firn_commit_walk_next(FirnCommitWalk *walk)
{
	FirnChunkChange *change;

	if (walk->left == 0) {
		const FirnCommitSegment *segment;

		if (walk->segment == walk->cell->segments->len)
			return false;
		segment = &g_array_index(walk->cell->segments, FirnCommitSegment, walk->segment++);
		firn_chunk_iter_begin(&walk->iter, walk->cell->array->change->chunks,
				      &segment->first, walk->holds);
		walk->left = segment->n;
	}
	walk->left--;
	if (!firn_chunk_iter_next(&walk->iter, &walk->coords, &change))
		return false;
	walk->change = change;
	return true;
}

/* After a walk to the end. */
static inline void
firn_commit_walk_release(const FirnCommitWalk *walk)
{
	const GArray *segments = walk->cell->segments;

	for (guint i = 0; walk->holds && i < segments->len; i++) {
		const FirnCommitSegment *segment = &g_array_index(segments, FirnCommitSegment, i);

		firn_chunk_map_release(&segment->first, segment->n);
	}
}

/* ---- steps, in order ---- */

/*
 * Compare with what the branch has since `base`, up to `tip`; set `start`, `parent`,
 * `aliases`, `theirs`.  False: `error`, or, for collisions, `conflicts` too.
 */
bool firn_commit_rebase(FirnCommitting *c, const FirnRepoInfo *info, const FirnId12 *tip,
			FirnConflicts *conflicts, GError **error) FIRN_MUST_USE;
bool firn_commit_rows(FirnCommitting *c, GError **error) FIRN_MUST_USE;
/* Plan an array whose chunks or document changed; NULL with `error`.  Caller owns. */
FirnCommitArray *firn_commit_array_new(FirnCommitting *c, const FirnCommitRow *row, GError **error)
	FIRN_MUST_USE;
void firn_commit_array_free(FirnCommitArray *array);
bool firn_commit_verify(FirnCommitting *c, GError **error) FIRN_MUST_USE;
/* Write all manifests. */
bool firn_commit_manifests(FirnCommitting *c, GError **error) FIRN_MUST_USE;
/* The log; with `amended` (may be NULL), what that one says too.  Caller owns. */
GBytes *firn_commit_encode_log(FirnCommitting *c, const FirnTxlog *amended, GError **error)
	FIRN_MUST_USE;
GBytes *firn_commit_encode_snapshot(FirnCommitting *c, GError **error) FIRN_MUST_USE;

/* ---- manifests ---- */

/* A ref of a manifest to be written: a change, or ref `index` of `refs`. */
typedef struct {
	const uint32_t *coords;
	const FirnChunkChange *change; /* NULL: an old ref */
	const FirnRefs *refs;
	uint32_t index;
} FirnCommitItem;

/* Begin a manifest of `n` > 0 refs. */
FirnManifestWriter *firn_commit_manifest_writer(FirnCommitArray *array, size_t n, FirnId12 *out_id,
						GError **error) FIRN_MUST_USE;
/* Store one that has all its refs, and free the writer; extents are the caller's to set. */
bool firn_commit_put_manifest(FirnCommitArray *array, FirnManifestWriter *writer,
			      const FirnId12 *id, size_t n, FirnCommitManifest *out_manifest,
			      GError **error) FIRN_MUST_USE;
/* Let extents, which are not empty, take in `coords`. */
void firn_commit_add_extents(FirnExtent *extents, const uint32_t *coords, uint32_t rank);
/* Whether a change says what ref `index` says. */
bool firn_commit_same_ref(const FirnRefs *refs, uint32_t index, const FirnChunkChange *change);
/* Write `n` > 0 items, by coordinates, as one manifest. */
bool firn_commit_write_manifest(FirnCommitArray *array, const FirnCommitItem *items, size_t n,
				FirnCommitManifest *out_manifest, GError **error) FIRN_MUST_USE;
/* The cell `coords` is in: its `from`, rank items. */
void firn_commit_cell_of(const FirnCommitArray *array, const uint32_t *coords, uint32_t *out_from);
/* The effective cell `coords` is in; NULL: none. */
const FirnCommitCell *firn_commit_find_cell(const FirnCommitArray *array, const uint32_t *coords);
/* Olds whose extents meet [from, to); indices, ascending (caller owns). */
GArray *firn_commit_olds_meeting(const FirnCommitArray *array, const uint32_t *from,
				 const uint32_t *to);
/* Whether the changes of a cell are few next to the refs of its one manifest. */
bool firn_commit_can_splice(const FirnCommitCell *cell, const FirnRefs *refs);
/* Settle such a cell; `*out_done` false: nothing was done, each ref is to be looked at. */
bool firn_commit_splice(FirnCommitCell *cell, const FirnCommitOld *old, const FirnRefs *refs,
			FirnCommitPart *part, bool *out_done, GError **error) FIRN_MUST_USE;
/* Settle one cell / what is left of a broken manifest. */
bool firn_commit_cell_run(FirnCommitCell *cell, FirnCommitPart *part, GError **error) FIRN_MUST_USE;
bool firn_commit_rest_run(FirnCommitArray *array, FirnCommitOld *old, FirnCommitPart *part,
			  GError **error) FIRN_MUST_USE;

/* ---- collisions of chunks ---- */

typedef struct {
	FirnCommitting *c;
	FirnConflicts *conflicts;
	const char *snapshot; /* name of the tip, for messages */
	GHashTable *chunks;   /* node id -> FirnChunkMap: coordinates the branch changed; owned */
} FirnCommitCompare;

void firn_commit_clash(const FirnCommitCompare *x, FirnConflictKind kind, const char *path,
		       const uint32_t *coords, uint32_t rank, bool swapped);
/* Our chunks of `change` against those the branch has for `node` (its id, and if `all`,
 * every one it has; else those it changed). */
bool firn_commit_collide(const FirnCommitCompare *x, const FirnNodeChange *change,
			 const FirnSnapshotNode *node, bool all, GError **error) FIRN_MUST_USE;
/* What the branch wrote against the grid and geometry our document gives the array. */
bool firn_commit_check_theirs(const FirnCommitCompare *x, const FirnNodeChange *change,
			      const FirnSnapshotNode *old, const FirnSnapshotNode *node,
			      GError **error) FIRN_MUST_USE;
/* What we wrote against the grid and geometry the branch gave the array. */
void firn_commit_check_ours(const FirnCommitCompare *x, const FirnNodeChange *change,
			    const FirnSnapshotNode *old, const FirnSnapshotNode *node);

#endif
