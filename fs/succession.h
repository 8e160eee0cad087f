#ifndef FIRN_FS_SUCCESSION_H
#define FIRN_FS_SUCCESSION_H

#include "core/base/keep.h"

#include <signal.h>
#include <sys/types.h>

/*
 * Restart without anybody noticing.  A mount in the background has two
 * processes: a supervisor, which does next to nothing and so does not die, and
 * a worker, the driver proper.  The supervisor holds the descriptor of
 * /dev/fuse, so the connection outlives the worker, the lock of the session,
 * so nobody else takes it up, and the keep.  When a worker dies of a signal,
 * another one is forked, which takes over.
 */
typedef struct {
	FirnKeep *keep; /* NULL: there is no supervisor */
	pid_t pid;      /* of the supervisor */
	int channel;    /* to the supervisor; -1: none */
	int fuse_fd;    /* of the mount; -1: this worker is the first */
	int lock_fd;    /* of the session; -1: read-only, or the first */
	unsigned n_restarts;
	int signal; /* what the one before died of */
} FirnSuccession;

#define FIRN_SUCCESSION_NONE                                \
	{                                                   \
		.channel = -1, .fuse_fd = -1, .lock_fd = -1 \
	}

/*
 * Become a supervisor with a worker.  Returns in each worker; the supervisor
 * exits with the code of the worker that ended.  `*ready_fd` is the first
 * worker's (-1 in others).  Before any thread is started.
 */
bool firn_succession_start(FirnSuccession *succession, int *ready_fd, GError **error) FIRN_MUST_USE;
void firn_succession_free(FirnSuccession *succession);
/* The signals that end a driver: a successor has them blocked until it can obey. */
void firn_succession_add_signals(sigset_t *set);

/*
 * From now on the worker is replaced if it dies: give the supervisor what must
 * outlive it.  `lock_fd` may be -1, `log` NULL.  False: it did not take it.
 */
bool firn_succession_hand_over(FirnSuccession *succession, int fuse_fd, int lock_fd,
			       const char *log) FIRN_MUST_USE;
/* The worker must not be replaced (any more), for `reason`. */
void firn_succession_refuse(FirnSuccession *succession, const char *reason);
/*
 * In the worker: its thread `tid` is about to wait for the kernel, which may
 * wait for an answer of ours; 0: no more.  If the worker is killed then, that
 * thread stays, until a successor has answered.
 */
void firn_succession_waits(FirnSuccession *succession, pid_t tid);
/* The mount is about to end: returns when the supervisor has let go of everything. */
void firn_succession_end(FirnSuccession *succession);

#endif
