#ifndef FIRN_FS_DRIVER_H
#define FIRN_FS_DRIVER_H

#define FUSE_USE_VERSION 314

#include "core/view/view.h"
#include "fs/advice.h"
#include "fs/control.h"
#include "fs/handle.h"
#include "fs/notify.h"
#include "fs/options.h"
#include "fs/passthrough.h"
#include "fs/prefill.h"
#include "fs/readers.h"
#include "fs/succession.h"

#include <fuse_lowlevel.h>
#include <unistd.h>

/*
 * One mount.  What is above the lock is set before the first request and
 * constant from then on.
 */
struct FirnDriver {
	FirnOptions *options;
	FirnSuccession succession;
	int fuse_fd; /* with a succession: borrowed from `fuse` */
	bool muted;  /* replies go nowhere: INIT is replayed, before the first request */
	FirnRepo *repo;
	FirnView *view;
	FirnSession *session; /* the view's; its constant parts may be read by any thread */
	struct fuse_session *fuse;
	FirnNotify *notify;
	FirnHandles *handles;
	FirnReaders readers;
	FirnAdvice advice;
	FirnPassthrough *passthrough; /* NULL: not wanted */
	FirnPrefill *prefill;         /* NULL: not wanted, or files change */
	bool wants_ring;
	struct FirnRing *ring; /* NULL: requests come through the device; atomic, set after INIT */
	char *name;            /* of the hierarchy in the top directory */
	char *branch;          /* NULL: a tag or a snapshot is mounted */
	char *session_id;      /* text; NULL: read-only */
	char *fork_of;         /* NULL: no fork */
	uint64_t started_us;
	uid_t uid;
	gid_t gid;
	bool direct_writes;  /* new files may be written past the page cache */
	bool init_answered;  /* the first exchange with the kernel is over */
	uint64_t init_flags; /* what it offered in it (FUSE_INIT) */

	pthread_mutex_t lock;   /* protects all below */
	FirnId12 base;          /* that is recorded for `firn sessions` */
	pthread_cond_t yielded; /* `committing` became NULL */
	FirnCtl *committing;    /* the control file in whose name a commit was begun; NULL: none */
	bool discard;           /* drop everything at the end */
};

/* The process that ends last, and that a signal ends. */
static inline pid_t
firn_driver_pid(const FirnDriver *driver)
{
	return driver->succession.keep ? driver->succession.pid : getpid();
}

static inline bool
firn_driver_is_read_only(const FirnDriver *driver)
{
	return !driver->session_id;
}

/* The requests, by what they are about: each file fills in its own. */
void firn_ops_name(struct fuse_lowlevel_ops *ops);
void firn_ops_file(struct fuse_lowlevel_ops *ops);
void firn_ops_dir(struct fuse_lowlevel_ops *ops);

#endif
