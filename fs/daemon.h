#ifndef FIRN_FS_DAEMON_H
#define FIRN_FS_DAEMON_H

#include "core/base/error.h"

/*
 * Going to the background: the parent stays until the mount is usable, so that
 * whoever started it may use it at once, and knows if it failed.
 */
typedef struct {
	int fd; /* to the waiting parent; -1: there is none */
} FirnDaemon;

/*
 * Fork.  Returns in the child; in the parent, does not return but exits with
 * what the child said.  Before any thread is started.
 */
bool firn_daemon_fork(FirnDaemon *daemon, const char *mountpoint, GError **error) FIRN_MUST_USE;
/* The mount is there and requests are about to be answered. */
void firn_daemon_ready(FirnDaemon *daemon);
/* It failed: the parent exits with `code`. */
void firn_daemon_failed(FirnDaemon *daemon, int code);

/* From here on, stdin and stdout are /dev/null, stderr is appended to `log` (NULL: /dev/null). */
void firn_daemon_detach(const char *log);

/* A line with the time to stderr. */
void firn_daemon_log(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Be no first choice when memory runs out; open as many files as we may. */
void firn_daemon_set_limits(void);

#endif
