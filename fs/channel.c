#include "fs/channel.h"

#include "fs/caller.h"
#include "fs/daemon.h"
#include "fs/passthrough.h"
#include "fs/resend.h"
#include "fs/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * What linux/fuse.h has since Linux 6.9; the headers of the system may be
 * older than its kernel.
 */
#define INIT_EXT         (UINT32_C(1) << 30)
#define INIT_PASSTHROUGH (UINT64_C(1) << 37)
#define INIT_OVER_URING  (UINT64_C(1) << 41)
#define DEFAULT_PAGES    32u
#define OPEN_KEEP_CACHE  (UINT32_C(1) << 1)
#define OPEN_PASSTHROUGH (UINT32_C(1) << 7)

typedef struct {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
} InitOut;

typedef struct {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing;
} OpenOut;

typedef struct {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
} BackingMap;

#define IOC_BACKING_OPEN  _IOW(229, 1, BackingMap)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* The reply being sent by this thread is one of an open with this backing; 0: it is not. */
static _Thread_local int32_t reply_backing;

bool
firn_channel_take_init(FirnDriver *driver, const void *request, size_t len)
{
	struct fuse_in_header header;
	struct fuse_init_in init = { 0 };

	if (len < sizeof header)
		return false;
	memcpy(&header, request, sizeof header);
	if (header.opcode != FUSE_INIT)
		return false;
	/* Older kernels say less. */
	memcpy(&init, (const uint8_t *)request + sizeof header,
	       MIN(len - sizeof header, sizeof init));
	driver->init_flags = init.flags;
	if (init.flags & INIT_EXT)
		driver->init_flags |= (uint64_t)init.flags2 << 32;
	return true;
}

static ssize_t
receive(int fd, void *buffer, size_t size, void *data)
{
	FirnDriver *driver = data;
	ssize_t n;

	firn_resend_have_pages(buffer, size);
	n = firn_readers_take(&driver->readers, fd, buffer, size);
	/* Unmounted while a request was handed over: no failure, as libfuse would take it. */
	if (n < 0 && errno == ECONNABORTED)
		errno = ENODEV;
	if (n <= 0)
		return n;
	firn_resend_received(buffer, (size_t)n);
	firn_caller_set(buffer, (size_t)n);
	if (!driver->init_answered && firn_channel_take_init(driver, buffer, (size_t)n))
		firn_resend_keep_init(driver, buffer, (size_t)n);
	return n;
}

static ssize_t
put(int fd, const struct iovec *iov, int count)
{
	size_t size = 0;

	if (!firn_ring_takes(iov, count))
		return writev(fd, iov, count);
	for (int i = 0; i < count; i++)
		size += iov[i].iov_len;
	return (ssize_t)size;
}

/* Where requests are to come from; NULL: the device. */
static FirnRing *
make_ring(FirnDriver *driver, const InitOut *out)
{
	size_t pages = out->flags & FUSE_MAX_PAGES ? out->max_pages : DEFAULT_PAGES;
	size_t most = MAX(out->max_write, pages * (size_t)sysconf(_SC_PAGESIZE));
	g_autoptr(GError) error = NULL;
	FirnRing *ring = firn_ring_new(driver, most, &error);

	if (ring == NULL)
		firn_daemon_log("requests come through the device: %s", error->message);
	return ring;
}

/* The answer to INIT as libfuse made it, with what we want besides. */
static ssize_t
send_init(int fd, const struct iovec *iov, FirnDriver *driver)
{
	InitOut out;
	struct iovec patched[2] = { iov[0], { &out, sizeof out } };
	FirnRing *ring = NULL;
	ssize_t n;

	driver->init_answered = true;
	memcpy(&out, iov[1].iov_base, sizeof out);
	if (driver->passthrough != NULL && (driver->init_flags & INIT_PASSTHROUGH)) {
		out.flags |= INIT_EXT;
		out.flags2 |= (uint32_t)(INIT_PASSTHROUGH >> 32);
		/* Not over another stacked file system (overlayfs). */
		out.max_stack_depth = 1;
		firn_passthrough_enable(driver->passthrough);
	}
	if (driver->wants_ring && (driver->init_flags & INIT_OVER_URING))
		ring = make_ring(driver, &out);
	if (ring != NULL) {
		out.flags |= INIT_EXT;
		out.flags2 |= (uint32_t)(INIT_OVER_URING >> 32);
	}
	/* It was answered before, by a driver that died. */
	if (driver->muted)
		return (ssize_t)(iov[0].iov_len + iov[1].iov_len);
	n = writev(fd, patched, 2);
	if (ring != NULL)
		firn_ring_start(ring, n > 0);
	__atomic_store_n(&driver->ring, ring, __ATOMIC_RELEASE);
	return n;
}

static ssize_t
send_open(int fd, struct iovec *iov, int count)
{
	struct iovec *last = &iov[count - 1];
	OpenOut out;
	struct iovec patched[2] = { iov[0], { &out, sizeof out } };

	if (count != 2 || last->iov_len != sizeof out)
		return put(fd, iov, count);
	memcpy(&out, last->iov_base, sizeof out);
	/* No page cache, so nothing to be kept in it: the kernel refuses both at once. */
	out.open_flags = (out.open_flags & ~OPEN_KEEP_CACHE) | OPEN_PASSTHROUGH;
	out.backing = reply_backing;
	return put(fd, patched, 2);
}

static ssize_t
send(int fd, struct iovec *iov, int count, void *data)
{
	FirnDriver *driver = data;

	if (reply_backing > 0)
		return send_open(fd, iov, count);
	if (!driver->init_answered && count == 2 && iov[1].iov_len == sizeof(InitOut))
		return send_init(fd, iov, driver);
	return put(fd, iov, count);
}

bool
firn_channel_install(FirnDriver *driver, int fuse_fd, GError **error)
{
	static const struct fuse_custom_io io = { .writev = send, .read = receive };
	int errnum = -fuse_session_custom_io(driver->fuse, &io, fuse_fd);

	/* Who reads waits by itself (readers.c). */
	if (errnum == 0 && fcntl(fuse_fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
		errnum = errno;
	if (errnum > 0)
		firn_error_set_errno(error, errnum, "the connection to the kernel");
	return errnum == 0;
}

int
firn_channel_reply_open(fuse_req_t req, const struct fuse_file_info *fi, int32_t backing)
{
	int result;

	reply_backing = backing;
	result = fuse_reply_open(req, fi);
	reply_backing = 0;
	return result;
}

int32_t
firn_channel_add_backing(FirnDriver *driver, int fd)
{
	BackingMap map = { .fd = fd };
	int id = ioctl(fuse_session_fd(driver->fuse), IOC_BACKING_OPEN, &map);

	return id >= 0 ? id : -errno;
}

void
firn_channel_remove_backing(FirnDriver *driver, int32_t backing)
{
	uint32_t id = (uint32_t)backing;

	(void)ioctl(fuse_session_fd(driver->fuse), IOC_BACKING_CLOSE, &id);
}
