#ifndef FIRN_CORE_REPO_TEXT_H
#define FIRN_CORE_REPO_TEXT_H

#include "core/repo/changes.h"
#include "core/repo/refs.h"

/*
 * The text that `firn status`, `firn diff` and `firn log` print and that a
 * mount's control files of these names hold: one place, so that both agree.
 * Pure functions; results are the caller's (g_free).  Names are shown with
 * control characters escaped, one name a line.
 */

/* What a status says; everything borrowed.  NULL lists are empty. */
typedef struct {
	const char *repository; /* URL */
	const char *branch;     /* NULL or "": none */
	const char *session;    /* id; NULL: read-only */
	const char *fork_of;    /* fork id; NULL: none */
	FirnId12 base;
	uint64_t n_changed_chunks;
	const GPtrArray *nodes;   /* char *: "new array /a", ... */
	const GPtrArray *pending; /* char * */
	const GPtrArray *scratch; /* char * */
	const GPtrArray *writers; /* char * */
	unsigned restarts;        /* of the driver */
} FirnTextStatus;

char *firn_text_status(const FirnTextStatus *status);

/*
 * A session's changes as a diff against what it started from.  `base` (may be
 * NULL) tells the kind of nodes `changes` itself does not.  Sorted by path.
 */
FirnDiff *firn_text_diff_of_changes(const FirnChanges *changes, const FirnSnapshot *base);

/* Coordinates listed for an array unless asked for more. */
#define FIRN_TEXT_DIFF_CHUNKS 20u

/* One line a node, below it up to `max_chunks` of its changed chunks.  "" for no difference. */
char *firn_text_diff(const FirnDiff *diff, size_t max_chunks);
/* The same as an array of {"path", "kind", "change", "metadata", "chunks": [[...]...]}.  Caller owns. */
JsonArray *firn_text_diff_json(const FirnDiff *diff);

/*
 * The history of `from`, newest first: id, date, branches and tags there, message;
 * further lines of a message indented.  `limit`: at most so many (0: all).
 */
char *firn_text_log(const FirnRepoInfo *info, const FirnId12 *from, size_t limit);
/* The same as an array of {"id", "parent", "date", "message", "metadata", "branches", "tags"}.  Caller owns. */
JsonArray *firn_text_log_json(const FirnRepoInfo *info, const FirnId12 *from, size_t limit);

#endif
