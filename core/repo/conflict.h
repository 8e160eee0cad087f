#ifndef FIRN_CORE_REPO_CONFLICT_H
#define FIRN_CORE_REPO_CONFLICT_H

#include "core/repo/merge.h"

/* Conflicts being collected: the first FIRN_CONFLICTS_LISTED, and how many there were. */
typedef struct {
	GPtrArray *list; /* FirnConflict *, owned */
	uint64_t n;
} FirnConflicts;

void firn_conflicts_init(FirnConflicts *conflicts);
void firn_conflicts_clear(FirnConflicts *conflicts);

/* What is in conflict; strings and coordinates are borrowed. */
typedef struct {
	FirnConflictKind kind;
	const char *path;
	uint32_t rank;
	const uint32_t *coords; /* NULL: not about a chunk */
	const char *first;
	const char *second;
	bool swapped;
} FirnClash;

void firn_conflicts_add(FirnConflicts *conflicts, const FirnClash *clash);
/* Sort by path, coordinates, kind and names; hand over the list (caller owns). */
GPtrArray *firn_conflicts_steal(FirnConflicts *conflicts);

/*
 * Whether two refs have the same content: 1, 0, or -1 with `error` set.  Chunks of
 * the same length that are bytes in the repository are compared by their bytes;
 * virtual ones by where they are, which must be plain (not compressed).
 */
int firn_conflict_compare_refs(FirnRepo *repo, const FirnRef *a, const FirnRef *b, GError **error)
	FIRN_MUST_USE;

/* The parent of an absolute path: shortens `*len`; false at the root. */
bool firn_conflict_parent_path(const char *path, size_t *len);

#endif
