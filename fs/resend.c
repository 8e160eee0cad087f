#include "fs/resend.h"

#include "fs/channel.h"
#include "fs/daemon.h"
#include "fs/restore.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

/* Linux 6.9; the headers of Debian 12 are older. */
#define NOTIFY_RESEND 7
#define UNIQUE_RESEND (UINT64_C(1) << 63)
#define HAS_RESEND    (UINT64_C(1) << 39)

/* libfuse tells an operation neither; it runs in the thread that read the request. */
static _Thread_local uint64_t request_unique;

bool
firn_resend_is_again(void)
{
	return (request_unique & UNIQUE_RESEND) != 0;
}

uint64_t
firn_resend_id(void)
{
	return request_unique & ~UNIQUE_RESEND;
}

void
firn_resend_keep_init(FirnDriver *driver, const void *request, size_t len)
{
	int errnum = errno;

	if (!driver->succession.keep)
		return;
	firn_keep_put_now(driver->succession.keep, FIRN_KEPT_INIT, 0, request, len);
	if (!(driver->init_flags & HAS_RESEND)) {
		firn_daemon_log("this kernel cannot send requests again (Linux 6.9 can): if the "
				"driver dies, the mount ends");
		firn_succession_refuse(&driver->succession,
				       "this kernel cannot send requests again (Linux 6.9 can)");
	}
	errno = errnum;
}

/*
 * A request that is being copied when its reader is killed fails with EIO if a
 * page of the buffer is not there yet: the kernel gives up faulting it in.
 */
void
firn_resend_have_pages(void *buffer, size_t size)
{
	static _Thread_local const void *there;

	if (there != buffer)
		memset(buffer, 0, size);
	there = buffer;
}

void
firn_resend_received(const void *request, size_t len)
{
	struct fuse_in_header header;

	if (len < sizeof header)
		return;
	memcpy(&header, request, sizeof header);
	request_unique = header.unique;
}

bool
firn_resend_replay_init(FirnDriver *driver, const FirnKept *kept, GError **error)
{
	GBytes *init = firn_kept_find(kept, FIRN_KEPT_INIT, 0);
	g_autofree void *copy = NULL;
	struct fuse_buf buffer = { 0 };
	const void *data;
	gsize len;

	if (init == NULL) {
		/* The kernel's is still on its way: it will be sent again. */
		return true;
	}
	data = g_bytes_get_data(init, &len);
	copy = g_memdup2(data, len);
	buffer.mem = copy;
	buffer.size = len;
	(void)firn_channel_take_init(driver, copy, len);
	driver->muted = true;
	fuse_session_process_buf(driver->fuse, &buffer);
	driver->muted = false;
	if (!fuse_session_exited(driver->fuse))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "the connection cannot be taken up");
	return false;
}

bool
firn_resend_ask(int fuse_fd, GError **error)
{
	struct fuse_out_header notice = { .len = sizeof notice, .error = NOTIFY_RESEND };

	if (write(fuse_fd, &notice, sizeof notice) == (ssize_t)sizeof notice)
		return true;
	/* The mount may be gone meanwhile, which the loop finds out. */
	if (errno == ENODEV || errno == ENOTCONN)
		return true;
	firn_error_set_errno(error, errno, "the kernel does not send requests again");
	return false;
}
