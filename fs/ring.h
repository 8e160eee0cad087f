#ifndef FIRN_FS_RING_H
#define FIRN_FS_RING_H

#include "fs/driver.h"

#include <sys/uio.h>

/*
 * Requests through io_uring (protocol 7.42, Linux 6.14): the kernel hands each
 * to a thread on the processor of who asked, so that nobody wakes another
 * processor, and one system call answers it and waits for the next.
 *
 * Each processor has a few threads, each of which has one request at a time, in
 * memory of its own.  What is not answered when the driver dies is never asked
 * again, and who waits in all threads of a processor keeps others there from
 * being heard: only for mounts without restarts on which nothing waits.
 */
typedef struct FirnRing FirnRing;

/* Whether this system lets drivers do that; it has to be allowed by an administrator. */
#define FIRN_RING_PARAMETER "/sys/module/fuse/parameters/enable_uring"
bool firn_ring_is_allowed(void);
/*
 * Make all that is needed, for requests with up to `payload_size` bytes behind their header and first
 * argument; before INIT is answered, because who consents in that and registers nothing is never
 * asked anything.  Errors: no io_uring, no memory, no threads.
 */
FirnRing *firn_ring_new(FirnDriver *driver, size_t payload_size, GError **error) FIRN_MUST_USE;
/* When INIT was answered, with the kernel's consent or (false) without: requests come, or never. */
void firn_ring_start(FirnRing *ring, bool consent);
/* Before the connection is closed.  NULL is a no-op. */
void firn_ring_stop(FirnRing *ring);
uint64_t firn_ring_count(const FirnRing *ring); /* requests answered so far; NULL: 0 */

/* Whether what is to be sent answers the request that this thread has from a ring; it is then. */
bool firn_ring_takes(const struct iovec *iov, int count);

#endif
