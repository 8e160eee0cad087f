#ifndef FIRN_CORE_REPO_COMMIT_H
#define FIRN_CORE_REPO_COMMIT_H

#include "core/repo/merge.h"

/*
 * Commit: change set -> manifests (only those touched) -> snapshot ->
 * transaction log -> one conditional update of `repo`.  Everything is durable
 * before `repo` names it; killed before the last step, the branch is as it was.
 */
typedef enum {
	FIRN_REBASE_OFF,    /* a branch that moved is a conflict     */
	FIRN_REBASE_FAIL,   /* rebase when nothing collides          */
	FIRN_REBASE_OURS,   /* chunk collisions: what we commit wins */
	FIRN_REBASE_THEIRS, /* chunk collisions: the branch wins     */
} FirnRebase;

typedef struct {
	const char *branch;
	FirnId12 base; /* the snapshot `changes` is relative to */
	const char *message;
	JsonObject *metadata; /* may be NULL */
	FirnRebase rebase;
	bool amend;
	bool allow_empty;
	bool force; /* drop pending files instead of refusing */
	/* Called once, after everything is written and before `repo` is updated, with the id the
	 * snapshot will have (again after a rebase); false aborts.  May be NULL. */
	bool (*intent)(const FirnId12 *snapshot, void *data, GError **error);
	/* May be NULL.  Steps done of total, for a progress bar. */
	void (*progress)(const char *what, uint64_t done, uint64_t total, void *data);
	void *data;
} FirnCommitOptions;

typedef struct {
	FirnId12 snapshot;
	FirnId12 parent; /* what it was put on: differs from options->base after a rebase */
	uint64_t n_chunks;
	uint64_t n_nodes;
	uint64_t n_settled; /* chunks both sides wrote, settled by FIRN_REBASE_OURS or _THEIRS */
	uint32_t n_manifests_written;
} FirnCommitResult;

/*
 * Commit `changes` (borrowed, untouched).  On CONFLICT `*out_conflicts` (may be NULL;
 * FirnConflict *, caller owns) is the full list, empty if only the branch moved.
 * Errors: CONFLICT (branch moved, collisions), NOTHING (nothing to commit; out_result->parent says on
 * top of what), INVALID (the
 * result would be no valid hierarchy, changed geometry with old chunks left, pending
 * files: names them), NOT_FOUND (branch gone; a native chunk is missing), READ_ONLY, STORE...
 */
bool firn_commit(FirnRepo *repo, const FirnChanges *changes, const FirnCommitOptions *options,
		 FirnCommitResult *out_result, GPtrArray **out_conflicts, GError **error)
	FIRN_MUST_USE;

#endif
