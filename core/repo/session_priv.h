#ifndef FIRN_CORE_REPO_SESSION_PRIV_H
#define FIRN_CORE_REPO_SESSION_PRIV_H

#include "core/repo/session.h"

/*
 * The parts of a session, shared by its files only:
 *
 *   session.c        beginning, resuming, taking over, ending
 *   session_move.c   onto another base, or back to an empty overlay
 *   session_fork.c   tokens, and what of the session forks may know
 */

/* What a move to another base replaced, until nobody would go back to it: a suffix of names. */
#define FIRN_SESSION_PREVIOUS ".previous"

/* The journal in a state directory, or a file beside it.  Caller owns (g_free). */
char *firn_session_journal_path(const char *directory, const char *suffix);
/* Let the overlay, which is empty, start as what the parents left. */
bool firn_session_inherit(FirnSession *session, GError **error) FIRN_MUST_USE;
/* After a log was read, which has `most` records: say of the changes how much forks may know of. */
void firn_session_limit_forked(FirnSession *session, uint64_t most);
/* Write session.json; the driver's process and the mount point stay, as the driver's to say. */
bool firn_session_write_info(FirnSession *session, GError **error) FIRN_MUST_USE;

#endif
