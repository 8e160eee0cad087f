#ifndef FIRN_FS_NOTIFY_H
#define FIRN_FS_NOTIFY_H

#include "core/base/error.h"
#include "core/view/view.h"
#include "fs/succession.h"

struct fuse_session;

/*
 * Telling the kernel what to forget.  A thread of its own does it, holding no
 * lock: the kernel may take the locks of the directories concerned, whose
 * holders may be waiting for an answer from another thread of this process.
 */
typedef struct FirnNotify FirnNotify;

FirnNotify *firn_notify_new(void);
/* Begin telling; what was queued before is told then. */
bool firn_notify_start(FirnNotify *notify, struct fuse_session *fuse, FirnView *view,
		       FirnSuccession *succession, GError **error) FIRN_MUST_USE;
/* Queue `invalidations` (FirnInvalidation *; taken; NULL is a no-op).  Any thread, any lock. */
void firn_notify_push(FirnNotify *notify, GPtrArray *invalidations);
/* Wait until all that was queued before is told, or for `timeout_ms`.  False: it is not. */
bool firn_notify_wait(FirnNotify *notify, unsigned timeout_ms);
/*
 * Stop; what is still queued is dropped.  False if the thread is stuck in the
 * kernel after `timeout_ms`: then the connection must be aborted, and this called again.
 */
bool firn_notify_stop(FirnNotify *notify, unsigned timeout_ms);
void firn_notify_free(FirnNotify *notify); /* after a stop that succeeded */

#endif
