#ifndef FIRN_CORE_REPO_CHANGES_H
#define FIRN_CORE_REPO_CHANGES_H

#include "core/repo/chunk_fold.h"
#include "core/zarr/meta.h"

/*
 * A net change set: what became of nodes and chunks relative to a start state.
 * A session's overlay (start: its base snapshot), what one journal says (start:
 * the state it was forked from), and what a merge hands to a commit are all
 * this one thing.  One thread at a time (its owner locks).
 *
 * Invariants: at most one live (not deleted) entry a path; every entry is
 * found by its id; chunks hang only on entries of arrays.
 */
typedef enum {
	FIRN_CHANGE_CHUNKS, /* document untouched, only chunks      */
	FIRN_CHANGE_PUT,    /* document created or replaced (`meta`) */
	FIRN_CHANGE_DELETE, /* the node is gone (with all its chunks) */
} FirnChangeKind;

typedef struct {
	FirnId8 id;
	FirnChangeKind kind;
	char *path;     /* absolute; where the node is (was, if deleted) */
	FirnMeta *meta; /* PUT: the document; else NULL */
	bool created;   /* the id is not in the start state */
	uint64_t seq;   /* of the last node record; 0: inherited */
	/* PUT: of the first document, or the last one of another geometry than that before it: what
	 * chunks were written since is of this geometry.  0: inherited. */
	uint64_t geometry_seq;
	uint64_t created_seq; /* of the record that created it; 0: inherited or not created here */
	/* Of an array that is in the start state: refs of the start state with any
	 * coordinate >= keep[axis] are dropped (shrunk at some time).  NULL: all kept. */
	uint32_t *keep;
	uint32_t keep_rank; /* differs from the rank in the start state: nothing is kept */
	/* The same relative to where this session began, for an entry inherited from its parents
	 * (whose `keep` is relative to theirs); what an encoded journal says.  NULL: see `keep`. */
	uint32_t *own_keep;
	uint32_t own_keep_rank;
	FirnChunkMap *chunks; /* NULL: none */
} FirnNodeChange;

typedef struct {
	GHashTable *by_id; /* FirnId8 * -> FirnNodeChange *, owns the changes */
	GHashTable
		*by_path; /* path -> FirnNodeChange *, live (not deleted) entries only; borrowed */
	GHashTable *pending; /* path below the root -> FirnPending *, owned */
	/* Pending files of the start state that are gone: path -> FirnPending *, no content; owned. */
	GHashTable *dropped;
	bool forked; /* the start state may have pending files: whatever goes is in `dropped` */
	/* Of a session's own: forks may have been made of it up to here; what a fork knew of is told by
	 * sequence numbers. */
	uint64_t fork_seq;
	uint64_t n_chunks; /* entries in all chunk maps; kept by firn_changes_put_chunk & co. */
} FirnChanges;

/* A file named like a chunk that has no place yet. */
typedef struct {
	char *path; /* "/a/c/0/0" */
	uint64_t seq;
	bool inherited; /* the start state has one, too */
	FirnChunkChange content;
	FirnChunkStore *store; /* what it links to; NULL: no content */
} FirnPending;

FirnChanges *firn_changes_new(void);
void firn_changes_free(FirnChanges *changes); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnChanges, firn_changes_free)

bool firn_changes_is_empty(const FirnChanges *changes);
/* firn_chunk_map_check() of all arrays: to be asked when chunks were read, before that is used. */
bool firn_changes_check(const FirnChanges *changes, GError **error) FIRN_MUST_USE;

FirnNodeChange *firn_changes_find(const FirnChanges *changes, const FirnId8 *id); /* NULL: none */
FirnNodeChange *firn_changes_find_path(const FirnChanges *changes,
				       const char *path); /* live; NULL: none */

/*
 * Record a document (referenced) for node `id` at `path`.  `created`: the id is
 * new in this change set (ignored if the entry exists).  A document with a
 * smaller grid drops this set's chunks outside it and, for a node of the start
 * state, shrinks `keep`; a document of another rank empties `keep` (all dropped).
 * The first document of a start-state array sets `keep` to its own grid: what
 * lies outside is dropped whatever the grid was.  A deleted `id` comes back with
 * nothing kept.  No other live entry may be at `path`.  Returns the entry (borrowed).
 */
FirnNodeChange *firn_changes_put_node(FirnChanges *changes, const FirnId8 *id, const char *path,
				      FirnMeta *meta, bool created, uint64_t seq);
/* Record that `id` at `path` is gone; its chunks are dropped.  A node created here stays as a tombstone. */
FirnNodeChange *firn_changes_delete_node(FirnChanges *changes, const FirnId8 *id, const char *path,
					 bool created, uint64_t seq);
/* Move a node made here to another path, at which there must be no live entry. */
void firn_changes_move_node(FirnChanges *changes, const FirnId8 *id, const char *to, uint64_t seq);
/* The entry of an array of the start state, of which only chunks change; there must be none. */
FirnNodeChange *firn_changes_add_array(FirnChanges *changes, const FirnId8 *id, const char *path);
/*
 * Record a chunk (kind NONE: deleted) of array `id`, `path`, `rank`; returns the
 * entry (borrowed).  `path` is read only if there is no entry of `id` yet; an
 * entry must be live, an array and of that rank.
 */
FirnChunkChange *firn_changes_put_chunk(FirnChanges *changes, const FirnId8 *id, const char *path,
					uint32_t rank, const uint32_t *coords, const FirnRef *ref,
					uint64_t seq);
/* The same of an entry that was found before. */
FirnChunkChange *firn_changes_put_chunk_of(FirnChanges *changes, FirnNodeChange *node,
					   uint32_t rank, const uint32_t *coords,
					   const FirnRef *ref, uint64_t seq);
/* Forget what is recorded of a chunk (it was made and deleted here). */
void firn_changes_forget_chunk(FirnChanges *changes, FirnNodeChange *node, const uint32_t *coords);
/* Sequence number 0: inherited.  Kind NONE: gone, which is remembered of an inherited one. */
void firn_changes_put_pending(FirnChanges *changes, const char *path, const FirnRef *ref,
			      uint64_t seq);

/*
 * Apply what happened later: `later`'s start state is what `changes` describes.
 * `inherit`: as inherited (sequence numbers 0), else with its own numbers.
 * `later` stays as it is.  False, and `changes` half done, if `later` cannot
 * have happened after it (a path taken twice, chunks of a deleted node).
 */
bool firn_changes_apply(FirnChanges *changes, const FirnChanges *later, bool inherit) FIRN_MUST_USE;

/* All entries, sorted by id bytes; caller frees the array only. */
GPtrArray *firn_changes_sorted_by_id(const FirnChanges *changes);
/* Live entries sorted by path bytes; caller frees the array only. */
GPtrArray *firn_changes_sorted_by_path(const FirnChanges *changes);

#endif
