#ifndef FIRN_CORE_REPO_SESSION_H
#define FIRN_CORE_REPO_SESSION_H

#include "core/repo/journal.h"
#include "core/repo/repo.h"
#include "core/repo/state.h"

/*
 * A session: a base snapshot, the overlay of what changed since, and the
 * journal that makes it durable.  Plain data and the transitions between its
 * states; whoever uses it (the view) holds a lock.
 */
typedef struct {
	FirnRepo *repo; /* borrowed */
	/* What it is called, as its state directory; its journal has another id (`header->session`)
	 * after changes were dropped: what comes then is not what earlier forks started from. */
	FirnId12 id;
	FirnSnapshot *base;
	FirnConfig *config;
	FirnChanges *
		changes; /* the overlay, relative to `base`: parents' changes with seq 0, our own */
	FirnJournalHeader *header;
	FirnJournal *journal; /* NULL: read-only */
	GPtrArray *parents;   /* FirnSection: what a fork started from; may be empty, never NULL */
	char *directory;      /* state directory; NULL if read-only */
	int lock_fd;          /* -1 if read-only */
	uint64_t torn;        /* bytes of a torn journal tail dropped on resume */
	uint64_t
		durable_seq; /* objects named by records up to here are durable, and the journal says so */
} FirnSession;

/*
 * Start a writable session on `branch` (at its tip), with a new state directory
 * under `state_root` (firn_state_root()).  Errors: NOT_FOUND (branch), READ_ONLY, STORE.
 */
FirnSession *firn_session_start(FirnRepo *repo, const char *branch, const char *state_root,
				GError **error) FIRN_MUST_USE;
/* Start a fork from a token.  Errors also: CONFLICT (token of another repository). */
FirnSession *firn_session_start_fork(FirnRepo *repo, const FirnForkToken *token,
				     const char *state_root, GError **error) FIRN_MUST_USE;
/*
 * Take up a session whose driver died: replay its journal.  A commit that was
 * begun and turns out to be in the repository is completed (its changes
 * dropped, the base moved).  Errors: BUSY (live), CONFLICT (another repository), FORMAT.
 */
FirnSession *firn_session_resume(FirnRepo *repo, const FirnSessionInfo *info, GError **error)
	FIRN_MUST_USE;
/*
 * Go on for a driver that died, whose journal was the file with inode number
 * `file` and had `end` bytes when it last answered anybody: what is behind is
 * dropped, a move to another base that was under way undone.  `lock_fd`: the
 * state directory's lock, held; taken on success.  `committing`: a commit had begun.
 */
FirnSession *firn_session_take_over(FirnRepo *repo, const FirnId12 *id, const char *directory,
				    int lock_fd, uint64_t file, uint64_t end, bool committing,
				    GError **error) FIRN_MUST_USE;
/* A token for workers, as firn_fork_token_new(): it is recorded that there is a fork. */
FirnForkToken *firn_session_fork(FirnSession *session, GError **error) FIRN_MUST_USE;
/* A move (or a reset) is known to whoever might take over: it will not be undone. */
void firn_session_forget_previous(FirnSession *session);

/* A read-only "session": a base, no changes. */
FirnSession *firn_session_read_only(FirnRepo *repo, FirnSnapshot *base);
void firn_session_free(FirnSession *session); /* the state directory stays; NULL is a no-op */
/* What its journal was before its end, which did not survive that the machine stopped, was cut off:
 * a file (the first, if that happened more than once); NULL: nothing was cut off.  Caller owns. */
char *firn_session_cut(const FirnSession *session);
/* Remove the state directory (after a commit or discard with nothing left). */
bool firn_session_remove_state(FirnSession *session, GError **error) FIRN_MUST_USE;

/* The journal of the session's own changes in net form (caller owns); seals at the last seq.
 * Errors: LIMIT. */
GBytes *firn_session_encode(const FirnSession *session, GError **error) FIRN_MUST_USE;
/* The same; NULL: it does not fit into memory, or something into a record. */
GBytes *firn_session_image(const FirnSession *session) FIRN_MUST_USE;

/*
 * The session's changes up to `seq` are in `snapshot`: what came later (chunks
 * only) is carried over to a new journal on that base, which replaces the old.
 * `session->base`, `changes`, `header` and `journal` are replaced.  On failure
 * nothing changed.  Chunks whose array is gone are kept as pending files.
 * `out_old` (may be NULL): the overlay as it was (caller owns).  `session->durable_seq` is that of the new journal.
 */
bool firn_session_move(FirnSession *session, FirnSnapshot *snapshot, uint64_t seq,
		       FirnChanges **out_old, GError **error) FIRN_MUST_USE;

/* Whether nothing came after `seq` that a move does not carry over: documents, removed nodes. */
bool firn_session_can_move(const FirnSession *session, uint64_t seq);

/* Drop all changes of the session's own: a new, empty journal on the same start, with a new id. */
bool firn_session_reset(FirnSession *session, GError **error) FIRN_MUST_USE;

#endif
