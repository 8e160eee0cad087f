#ifndef FIRN_FS_RESEND_H
#define FIRN_FS_RESEND_H

#include "fs/driver.h"

/*
 * Requests between kernel and libfuse: what a driver that dies was asked is
 * asked of its successor once more.  A request that comes again may have been
 * done already; that it comes again can be asked here.
 */

/* About a buffer a request is about to be read into / a request that was read. */
void firn_resend_have_pages(void *buffer, size_t size);
void firn_resend_received(const void *request, size_t len);
/* The request is INIT, which a successor will need; or no successor shall follow. */
void firn_resend_keep_init(FirnDriver *driver, const void *request, size_t len);
/*
 * In a successor: make `driver->fuse` what the first session had become by its
 * INIT.  Then the loop can begin, and firn_resend_ask().
 */
bool firn_resend_replay_init(FirnDriver *driver, const FirnKept *kept, GError **error)
	FIRN_MUST_USE;
/* Have the kernel send again what was not answered. */
bool firn_resend_ask(int fuse_fd, GError **error) FIRN_MUST_USE;

/* About the request this thread answers. */
bool firn_resend_is_again(void);
/* The same for a request and its repetition, and for no other. */
uint64_t firn_resend_id(void);
/* What it opened before the driver died, whose answer nobody got; NULL: nothing. */
static inline FirnHandle *
firn_opened_before(FirnDriver *driver)
{
	return firn_resend_is_again() ? firn_handles_of_request(driver->handles, firn_resend_id())
				      : NULL;
}

#endif
