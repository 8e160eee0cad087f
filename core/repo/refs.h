#ifndef FIRN_CORE_REPO_REFS_H
#define FIRN_CORE_REPO_REFS_H

#include "core/repo/repo.h"

/*
 * Branches, tags and snapshots by name (format section 4.5, semantics 3.7).
 * Branch and tag names: 1..255 bytes of UTF-8 without control characters,
 * no leading or trailing '/', no empty, "." or ".." component.
 */

/*
 * What REF means: "branch:NAME", "tag:NAME", "snapshot:ID" say it; else a branch, then
 * a tag, then a snapshot id (a unique prefix of at least 4 characters is enough);
 * "REF~N" is the Nth ancestor.  `out_id` is the snapshot.  Errors: NOT_FOUND, INVALID.
 */
bool firn_refs_resolve(const FirnRepoInfo *info, const char *ref, FirnId12 *out_id, GError **error)
	FIRN_MUST_USE;
/* The newest snapshot of `branch` flushed at or before `time_us`.  Errors: NOT_FOUND. */
bool firn_refs_resolve_as_of(const FirnRepoInfo *info, const char *branch, uint64_t time_us,
			     FirnId12 *out_id, GError **error) FIRN_MUST_USE;

/* Each is one repo update.  Errors: EXISTS, NOT_FOUND, INVALID, CONFLICT, READ_ONLY... */
bool firn_refs_create_branch(FirnRepo *repo, const char *name, const FirnId12 *snapshot,
			     GError **error) FIRN_MUST_USE;
bool firn_refs_delete_branch(FirnRepo *repo, const char *name, GError **error) FIRN_MUST_USE;
/* `expected` (may be NULL): refuse with CONFLICT unless the branch is there. */
bool firn_refs_reset_branch(FirnRepo *repo, const char *name, const FirnId12 *snapshot,
			    const FirnId12 *expected, GError **error) FIRN_MUST_USE;
bool firn_refs_create_tag(FirnRepo *repo, const char *name, const FirnId12 *snapshot,
			  GError **error) FIRN_MUST_USE;
bool firn_refs_delete_tag(FirnRepo *repo, const char *name, GError **error) FIRN_MUST_USE;

/* What changed from the ancestor `from` to `to`: the union of the logs in between. */
typedef struct {
	GPtrArray *lines; /* FirnDiffEntry, sorted by path */
} FirnDiff;
typedef struct {
	char *path;
	FirnNodeKind kind;
	enum {
		FIRN_DIFF_ADDED,
		FIRN_DIFF_DELETED,
		FIRN_DIFF_CHANGED
	} change;
	bool meta_changed;
	uint32_t rank;
	GArray *chunks; /* uint32_t, rank per chunk, sorted and unique; NULL: none
			 * (of rank 0 one item for the chunk) */
} FirnDiffEntry;
/* Errors: INVALID (`from` is no ancestor), NOT_FOUND, FORMAT, STORE.  Caller owns. */
FirnDiff *firn_refs_diff(FirnRepo *repo, const FirnId12 *from, const FirnId12 *to, GError **error)
	FIRN_MUST_USE;
void firn_diff_free(FirnDiff *diff);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnDiff, firn_diff_free)

#endif
