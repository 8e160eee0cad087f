#ifndef FIRN_CORE_REPO_FSCK_H
#define FIRN_CORE_REPO_FSCK_H

#include "core/base/base.h"

/*
 * Check a repository: every object that a branch, a tag or a listed snapshot
 * leads to is read, decoded, and compared with what refers to it.  Manifests
 * are read one at a time a thread, and only what arrays need them for is
 * remembered, so that memory does not grow with the number of chunks (but for
 * 20 bytes per chunk object with `deep`).  Nothing is deleted that a reader or
 * a writer could miss, and no object is ever changed.
 */
typedef enum {
	FIRN_FSCK_DAMAGE,   /* something cannot be read, or reads as something else */
	FIRN_FSCK_LEFTOVER, /* a file that nothing needs; a repair removes it */
} FirnFsckSeverity;

typedef struct {
	FirnFsckSeverity severity;
	const char *kind; /* "missing", "damaged", "unreadable", "mismatch", "range", "leftover" */
	char *object;     /* key in the repository */
	char *path;       /* what it affects: a node's path, "branch NAME~2"...; NULL: everything */
	char *what;       /* what is wrong */
	char *remedy;     /* the way out */
	bool repaired;
} FirnFsckFinding;

typedef struct {
	GPtrArray *findings; /* FirnFsckFinding *, by object and path */
	uint64_t n_damages;  /* findings that are not leftovers, the omitted ones included */
	uint64_t n_omitted;  /* findings above the limit of 10000 */
	uint64_t n_snapshots;
	uint64_t n_logs;
	uint64_t n_manifests;
	uint64_t n_refs;
	uint64_t n_chunks; /* chunk objects looked at; 0 unless `deep` */
} FirnFsckReport;

typedef struct {
	bool deep;   /* also compare native references with the chunk objects there are */
	bool repair; /* remove what writers left that died a day ago or earlier: temporary files,
			 backups of `repo` that no update followed and another one equals, and
			 published journals that are committed (taken.h) */
	/* May be NULL.  Steps done of total (0: unknown); called by the calling thread. */
	void (*progress)(const char *what, uint64_t done, uint64_t total, void *data);
	void *data; /* for progress */
} FirnFsckOptions;

/*
 * Check the repository at `url`.  Damage is in the report; an error is what
 * keeps from looking at all: NOT_FOUND (no repository), UNSUPPORTED, STORE...
 * Caller owns (firn_fsck_report_free).
 */
FirnFsckReport *firn_fsck(const char *url, const FirnFsckOptions *options, GError **error)
	FIRN_MUST_USE;
void firn_fsck_report_free(FirnFsckReport *report); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnFsckReport, firn_fsck_report_free)

#endif
