#ifndef FIRN_CORE_REPO_MERGE_H
#define FIRN_CORE_REPO_MERGE_H

#include "core/repo/journal.h"
#include "core/repo/repo.h"

/*
 * Merging the sections of many journals of one lineage into one change set,
 * strictly: what two sessions did to one thing without knowing of each other,
 * and differently, is a conflict.  A record happened before another session's
 * records if that session descends from its session at or after its sequence
 * number.  The result depends on the set of sections only, not on their order
 * (but for `favor`).  Who wrote a document as it was when the session began
 * did not change it, where another did.  Documents of groups are the same, or
 * unchanged, if they are so without consolidated metadata, which a commit leaves out.
 */
typedef enum {
	FIRN_CONFLICT_CHUNK,          /* one chunk written by two with different content        */
	FIRN_CONFLICT_CHUNK_DELETED,  /* chunk written by one, erased by the other              */
	FIRN_CONFLICT_CHUNK_NO_ARRAY, /* chunk written, array deleted (or replaced)             */
	FIRN_CONFLICT_CHUNK_OUTSIDE,  /* chunk written, array shrunk past it                    */
	FIRN_CONFLICT_CHUNK_GEOMETRY, /* chunk written, array given another grid, type or codecs */
	FIRN_CONFLICT_META,           /* document changed two ways                              */
	FIRN_CONFLICT_META_DELETED,   /* document changed by one, node deleted by the other     */
	FIRN_CONFLICT_KIND,           /* an array and a group at one path                       */
	FIRN_CONFLICT_CREATED,        /* node created by both with different documents          */
	FIRN_CONFLICT_PARENT, /* a new node below what the other deleted or renamed, or below an array */
	FIRN_CONFLICT_MOVED, /* the branch's history has moves over which nothing can be rebased */
} FirnConflictKind;

typedef struct {
	FirnConflictKind kind;
	char *path;
	uint32_t rank;    /* chunks: number of coordinates */
	uint32_t *coords; /* NULL if not about a chunk */
	char *first;      /* names of the two sources (journals, or a snapshot) */
	char *second;
	bool swapped; /* of "written by A, deleted by B" and the like, A is `second` */
} FirnConflict;
void firn_conflict_free(FirnConflict *conflict); /* NULL is a no-op */

/* As many are listed; those beyond are only counted. */
#define FIRN_CONFLICTS_LISTED 1000000u
const char *firn_conflict_kind_name(FirnConflictKind kind); /* "chunk", "chunk-deleted", ... */
/* One line: "/a c/0/1: written by w1.journal and w2.journal with different content".  Caller owns. */
char *firn_conflict_format(const FirnConflict *conflict);

typedef enum {
	FIRN_FAVOR_NONE,
	FIRN_FAVOR_FIRST,
	FIRN_FAVOR_LAST
} FirnFavor;

/* One journal given to a merge. */
typedef struct {
	char *name;          /* as the user wrote it, for messages */
	GPtrArray *sections; /* FirnSection * */
} FirnSource;
FirnSource *firn_source_new(const char *name, GPtrArray *sections); /* takes `sections` */
void firn_source_free(FirnSource *source);

typedef struct {
	FirnJournalHeader *header;     /* repository, branch, base common to all */
	FirnChanges *changes;          /* relative to the base snapshot; what a commit needs */
	GPtrArray *conflicts;          /* FirnConflict *, by path and coordinates; empty: merged */
	uint64_t n_conflicts;          /* all of them: the list stops at FIRN_CONFLICTS_LISTED */
	uint64_t n_collisions_settled; /* chunk conflicts settled by `favor` */
} FirnMerge;
void firn_merge_free(FirnMerge *merge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnMerge, firn_merge_free)

/*
 * Merge `sources` (FirnSource *).  Sections are consumed (their entries may be moved); of one
 * that came along with its forks in more than one source, the longest copy counts.
 * Content of native chunks with the same length is compared by reading them.
 * Errors, all naming the sources: CONFLICT (another repository; another
 * branch or base; an ancestor with changes is missing; a session twice),
 * FORMAT, STORE.  Collisions are not an error: they are in `conflicts`.
 */
FirnMerge *firn_merge_sources(FirnRepo *repo, GPtrArray *sources, FirnFavor favor, GError **error)
	FIRN_MUST_USE;

/*
 * The sections of all sources as one journal, sorted by session, after the
 * same checks (losers of settled conflicts removed): `firn merge -o`.  Caller
 * owns (FirnSection *).  `*out_conflicts` (FirnConflict *) as above, NULL result with
 * `error` unset if it is not empty.
 */
GPtrArray *firn_merge_to_journal(FirnRepo *repo, GPtrArray *sources, FirnFavor favor,
				 GPtrArray **out_conflicts, GError **error) FIRN_MUST_USE;

#endif
