#ifndef FIRN_CORE_REPO_STATE_H
#define FIRN_CORE_REPO_STATE_H

#include "core/repo/journal.h"
#include "core/repo/repo.h"

/*
 * A session's state directory, `<root>/<session id>/`:
 *
 *   journal       its journal
 *   parent        the journal image of the state it was forked from (forks of
 *                 sessions with uncommitted changes only); sections, sealed
 *   forked        up to which record forks were made of the session (session_fork.c)
 *   session.json  id, repository, branch, base, mode, fork_of, pid, mountpoint,
 *                 started, version: what `firn sessions` shows; host and boot: where the
 *                 driver ran, and since when that machine runs
 *   lock          flock'ed by the live driver; there from the beginning, removed last
 *   journal.cut   what the journal was before the end of it was cut off that did not survive that
 *                 the machine stopped; journal.cut.1 and so on if that happened again
 *
 * `<root>` is $XDG_STATE_HOME/firn/sessions (or ~/.local/state/...), or --state-dir.
 */
char *firn_state_root(const char *state_dir); /* NULL: the default.  Caller owns. */

typedef struct {
	FirnId12 id;
	char *directory;
	char *repository;
	char *branch;
	FirnId12 base;
	char *fork_of;    /* fork id; NULL: none */
	char *mountpoint; /* last one; NULL: none */
	char *mode;       /* "rw", or what the driver wrote; NULL: unknown */
	int64_t pid;      /* of the driver, 0 if not live */
	bool stopped; /* this machine stopped since the driver wrote: see firn_journal_decode_stopped() */
	int64_t restarts; /* how often that driver died and was replaced */
	bool live;        /* the lock is held */
	uint64_t started_us;
	uint64_t journal_bytes;
} FirnSessionInfo;
void firn_session_info_free(FirnSessionInfo *info); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnSessionInfo, firn_session_info_free)

/* Make `<root>/<id>/` (mode 0700, `root` too).  `*out_directory`: caller owns.  Errors: EXISTS, STORE... */
bool firn_state_create(const char *root, const FirnId12 *id, char **out_directory, GError **error)
	FIRN_MUST_USE;
/* Hold the lock of a state directory: a descriptor (close it to let go), or -1.  Errors: BUSY (live),
 * NOT_FOUND (it is gone). */
int firn_state_lock(const char *directory, GError **error) FIRN_MUST_USE;
/* The same for who only reads, beside others who do. */
int firn_state_lock_reading(const char *directory, GError **error) FIRN_MUST_USE;
/* Write a file of a state directory: all of it or none, durably.  Errors: NO_SPACE, STORE. */
bool firn_state_write(const char *path, const char *text, GError **error) FIRN_MUST_USE;
/*
 * Write `<info->directory>/session.json` (atomically) / read it.  `live` and
 * `journal_bytes` are not in the file: found out.  A directory whose session.json
 * is damaged or missing is read as one with empty `repository` and `branch`.
 */
bool firn_state_write_info(const FirnSessionInfo *info, GError **error) FIRN_MUST_USE;
FirnSessionInfo *firn_state_read_info(const char *directory, GError **error) FIRN_MUST_USE;

/* Sessions with a state directory under `root` (FirnSessionInfo *), newest first. */
GPtrArray *firn_state_list(const char *root, GError **error) FIRN_MUST_USE;
/* The one whose id is `id` or starts with it; if its driver was killed and is on its way out, when
 * it has ended.  Errors: NOT_FOUND, INVALID (not unique). */
FirnSessionInfo *firn_state_find(const char *root, const char *id, GError **error) FIRN_MUST_USE;
/* Remove a state directory that is not live.  Errors: BUSY, STORE. */
bool firn_state_remove(const FirnSessionInfo *info, GError **error) FIRN_MUST_USE;
/* The same by who holds its lock (and closes it afterwards): nobody takes it up meanwhile. */
bool firn_state_remove_locked(const char *directory, GError **error) FIRN_MUST_USE;

/* ---- forks ---- */

/*
 * A fork token: JSON {"firn_fork":1, "fork", "repository", "identity", "spec_version",
 * "branch", "base", "ancestors":[{"session","seq"}...], "parent": key or null, "created"}.
 * `parent` names an object in the repository, "firn/sessions/<fork>/parent", that
 * holds the journal sections (of the whole ancestry) the fork starts from.
 */
typedef struct {
	char *fork;               /* id text */
	FirnJournalHeader *start; /* what a session started from it has, but for the session id */
	char *parent_key;         /* NULL: nothing uncommitted */
} FirnForkToken;
void firn_fork_token_free(FirnForkToken *token);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnForkToken, firn_fork_token_free)

/*
 * Make a token: start from `header`'s session at `seq`, whose own changes are `changes` (which
 * remember that there is a fork), on top of `parents` (FirnSection *, may be NULL).  Publishes the parent object if anything is
 * uncommitted.  Caller owns.
 */
FirnForkToken *firn_fork_token_new(FirnRepo *repo, const FirnJournalHeader *header, uint64_t seq,
				   FirnChanges *changes, GPtrArray *parents, GError **error)
	FIRN_MUST_USE;
char *firn_fork_token_to_json(const FirnForkToken *token); /* caller owns */
/* `name` is for messages.  Errors: FORMAT, UNSUPPORTED. */
FirnForkToken *firn_fork_token_from_json(const char *json, const char *name, GError **error)
	FIRN_MUST_USE;
/* The parent sections, read from the repository; an empty array if there are none. */
GPtrArray *firn_fork_token_parents(FirnRepo *repo, const FirnForkToken *token, GError **error)
	FIRN_MUST_USE;

/* The keys of what a fork starts from, and of what a session (its id) of it published.  Caller owns. */
char *firn_fork_parent_key(const char *fork);
char *firn_fork_journal_key(const char *fork, const char *session);

/* Publish a fork's journal as "firn/sessions/<fork>/<session>.journal" / list the published ones'
 * keys (char *) / read one. */
bool firn_fork_publish(FirnRepo *repo, const char *fork, const FirnId12 *session, GBytes *journal,
		       GError **error) FIRN_MUST_USE;
GPtrArray *firn_fork_list(FirnRepo *repo, const char *fork, GError **error) FIRN_MUST_USE;
GPtrArray *firn_fork_read(FirnStore *store, const char *key, GError **error) FIRN_MUST_USE;

#endif
