#ifndef FIRN_FS_STUCK_H
#define FIRN_FS_STUCK_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Whether a process was ended but for its thread `tid`, which waits in the
 * kernel where no signal reaches it.  How it ended, as wait() says, in
 * `*out_status`.
 */
bool firn_stuck_is(pid_t process, pid_t tid, int *out_status);

#endif
