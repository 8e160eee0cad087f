#include "fs/channel.h"
#include "fs/reply.h"
#include "fs/resend.h"

#include <fcntl.h>

/* Requests about open files. */

/* Smaller files are read with one request, and found in the page cache after it. */
#define PASSTHROUGH_MIN ((off_t)128 * 1024)
/* For how long a writer waits for the kernel to forget pages. */
#define FORGET_MS 1000

static bool
is_write_only(int flags)
{
	return (flags & O_ACCMODE) == O_WRONLY;
}

static bool
is_read_only(int flags)
{
	return (flags & O_ACCMODE) == O_RDONLY;
}

static void
open_control(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle what = { .ino = ino, .request = firn_resend_id() };
	FirnHandle *handle = firn_opened_before(driver);
	int errnum = 0;

	if (!handle)
		errnum = firn_control_open(driver, ino, fi->flags, fuse_req_ctx(req)->uid,
					   &what.control);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	if (!handle) {
		handle = firn_handles_add(driver->handles, &what);
		firn_control_keep(driver, handle->id, handle->control);
	}
	fi->fh = handle->id;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi))
		firn_handle_end(driver, handle);
}

/* The descriptor of a file of which the kernel may read all by itself, or -1. */
static int
backing_of(FirnFile *file)
{
	int fd = firn_view_file_fd(file);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= PASSTHROUGH_MIN ? fd : -1;
}

/* The kernel asks for the name again, and finds it under another number. */
static int
stale(FirnDriver *driver, const FirnHandle *handle)
{
	if (handle->file)
		firn_view_release(driver->view, handle->file);
	firn_view_renumber(driver->view, handle->ino);
	return ESTALE;
}

/* Open `handle->ino`; who writes is counted before anything happens to the file. */
static int
open_file(FirnDriver *driver, int flags, pid_t pid, FirnHandle *handle, int32_t *out_backing)
{
	bool count = driver->passthrough && firn_view_is_computed(handle->ino);
	FirnWay way = FIRN_WAY_NONE;
	int errnum;

	if (count && !is_read_only(flags))
		way = firn_passthrough_enter(driver->passthrough, handle->ino, -1, out_backing);
	if (way == FIRN_WAY_STALE)
		return stale(driver, handle);
	handle->counted = way != FIRN_WAY_NONE;
	errnum = firn_view_open(driver->view, handle->ino, flags, pid, &handle->file);
	if (errnum) {
		if (handle->counted)
			firn_passthrough_leave(driver->passthrough, handle->ino);
		return errnum;
	}
	if (!count || way != FIRN_WAY_NONE)
		return 0;
	way = firn_passthrough_enter(driver->passthrough, handle->ino, backing_of(handle->file),
				     out_backing);
	if (way == FIRN_WAY_STALE)
		return stale(driver, handle);
	handle->counted = true;
	return 0;
}

/* Whether somebody may be writing to the file past the page cache. */
static bool
is_direct(FirnDriver *driver, fuse_ino_t ino)
{
	if (!firn_handles_is_direct(driver->handles, ino))
		return false;
	firn_handles_find_renamed(driver->handles, driver->view);
	return firn_handles_is_direct(driver->handles, ino);
}

static void
open_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle what = { .ino = ino, .request = firn_resend_id() };
	FirnHandle *handle;
	int32_t backing = 0;
	int errnum = 0;

	if (firn_control_owns(ino))
		return open_control(req, ino, fi);
	handle = firn_opened_before(driver);
	if (!handle)
		errnum = open_file(driver, fi->flags, fuse_req_ctx(req)->pid, &what, &backing);
	else if (handle->counted)
		backing = firn_passthrough_backing(driver->passthrough, ino);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	what.direct = is_direct(driver, ino);
	if (!handle)
		handle = firn_handles_add(driver->handles, &what);
	fi->fh = handle->id;
	fi->direct_io = handle->direct;
	/* Pages of an inode change through the kernel only, or with a notification. */
	fi->keep_cache = !handle->direct;
	fi->noflush = is_read_only(fi->flags);
	if (driver->prefill && backing <= 0)
		firn_prefill(driver->prefill, driver->fuse, driver->view, ino, handle->file,
			     (size_t)PASSTHROUGH_MIN);
	if (backing > 0 ? firn_channel_reply_open(req, fi, backing) : fuse_reply_open(req, fi))
		firn_handle_end(driver, handle);
}

static void
create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	struct fuse_entry_param entry;
	FirnHandle what = { .request = firn_resend_id() };
	FirnHandle *handle = firn_opened_before(driver);
	/* It can be there already, because we made it. */
	int flags = firn_resend_is_again() ? fi->flags & ~O_EXCL : fi->flags;
	struct stat attr;
	int32_t backing;
	int errnum = firn_name_refused(parent, name);

	if (handle)
		errnum = firn_view_getattr(driver->view, handle->ino, handle->file, &attr);
	else if (!errnum)
		errnum = firn_view_create(driver->view, parent, name, flags, mode,
					  fuse_req_ctx(req)->pid, &attr, &what.file);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	what.ino = attr.st_ino;
	/* Somebody was faster, and others read it already. */
	if (!handle && driver->passthrough && firn_view_is_computed(what.ino)) {
		if (firn_passthrough_enter(driver->passthrough, what.ino, -1, &backing) ==
		    FIRN_WAY_STALE)
			return (void)fuse_reply_err(req, stale(driver, &what));
		what.counted = true;
	}
	/* No pages of it can be cached yet, and such a descriptor cannot be mapped. */
	what.direct = driver->direct_writes && is_write_only(fi->flags);
	/* A temporary name is published by its rename, and cannot be mapped: its close says nothing. */
	what.unflushed =
		what.direct && !handle && firn_view_file_is_scratch(driver->view, what.file);
	if (!handle)
		handle = firn_handles_add(driver->handles, &what);
	fi->fh = handle->id;
	fi->direct_io = handle->direct;
	fi->keep_cache = !handle->direct;
	fi->noflush = handle->unflushed;
	entry = firn_entry(&attr, FIRN_FOREVER);
	if (fuse_reply_create(req, &entry, fi)) {
		firn_handle_end(driver, handle);
		firn_view_forget(driver->view, attr.st_ino, 1);
	}
}

static void
read_control(fuse_req_t req, FirnControlFile *file, size_t size, off_t offset)
{
	g_autoptr(GBytes) bytes = firn_control_read(file, size, (uint64_t)offset);
	size_t len;
	const char *data = g_bytes_get_data(bytes, &len);

	fuse_reply_buf(req, data, len);
}

static void
read_(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	FirnHandle *handle = firn_handle_of(req, fi);
	g_autofree char *buffer = NULL;
	size_t len = 0;
	int errnum;

	(void)ino;
	if (!handle)
		return (void)fuse_reply_err(req, EIO);
	if (handle->control)
		return read_control(req, handle->control, size, offset);
	buffer = g_try_malloc(size);
	if (size && !buffer)
		return (void)fuse_reply_err(req, ENOMEM);
	errnum = firn_view_read(firn_driver_of(req)->view, handle->file, buffer, size,
				(uint64_t)offset, &len);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	fuse_reply_buf(req, buffer, len);
}

static int
write_file(FirnDriver *driver, FirnHandle *handle, const char *data, size_t size, off_t offset)
{
	bool mixed = firn_handles_writes(driver->handles, handle);
	int errnum = firn_view_write(driver->view, handle->file, data, size, (uint64_t)offset);

	/* The end of the last page would be zeros for whoever has it, once the file is longer. */
	if (mixed) {
		firn_view_forget_pages(driver->view, handle->ino);
		(void)firn_notify_wait(driver->notify, FORGET_MS);
	}
	return errnum;
}

static void
write_(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
       struct fuse_file_info *fi)
{
	FirnHandle *handle = firn_handle_of(req, fi);
	int errnum;

	(void)ino;
	if (!handle)
		return (void)fuse_reply_err(req, EIO);
	if (handle->control)
		errnum = firn_control_write(firn_driver_of(req), handle->id, handle->control,
					    firn_resend_id(), data, size);
	else
		errnum = write_file(firn_driver_of(req), handle, data, size, offset);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	fuse_reply_write(req, size);
}

static void
flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle *handle = firn_handle_of(req, fi);
	int errnum = handle ? 0 : EIO;

	(void)ino;
	if (handle && handle->file) {
		errnum = firn_view_flush(driver->view, handle->file);
		firn_handles_closed_once(driver->handles, handle);
	}
	fuse_reply_err(req, errnum);
}

static void
fsync_(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
	FirnHandle *handle = firn_handle_of(req, fi);
	int errnum = handle ? 0 : EIO;

	(void)ino;
	(void)data_only;
	if (handle && handle->file)
		errnum = firn_view_fsync(firn_driver_of(req)->view, handle->file);
	fuse_reply_err(req, errnum);
}

static void
release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnHandle *handle = firn_handle_of(req, fi);

	(void)ino;
	if (handle)
		firn_handle_end(firn_driver_of(req), handle);
	fuse_reply_err(req, 0);
}

/* ---- extended attributes ---- */

static void
reply_xattr(fuse_req_t req, const void *data, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, data, len);
}

static void
getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	g_autofree char *value = NULL;
	int errnum;

	/* ENOSYS, and the kernel never asks again: for any attribute of any file. */
	if (firn_driver_of(req)->options->no_xattr)
		return (void)fuse_reply_err(req, ENOSYS);
	/* What the kernel asks of its own before a write, and ls -l of each file until it hears that
	   the whole file system has no such thing (ENODATA: this file has none). */
	if (g_str_has_prefix(name, "security.") || g_str_has_prefix(name, "system."))
		return (void)fuse_reply_err(req, ENOTSUP);
	if (ino <= FIRN_INO_RESERVED && g_str_has_prefix(name, "user.firn."))
		return (void)fuse_reply_err(req, ENODATA);
	if (ino <= FIRN_INO_RESERVED)
		return (void)fuse_reply_err(req, ENOTSUP);
	errnum = firn_view_getxattr(firn_driver_of(req)->view, ino, name, &value);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	reply_xattr(req, value, strlen(value), size);
}

static void
listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	g_autoptr(GByteArray) names = NULL;
	int errnum;

	if (firn_driver_of(req)->options->no_xattr)
		return (void)fuse_reply_err(req, ENOSYS);
	if (ino <= FIRN_INO_RESERVED)
		return reply_xattr(req, "", 0, size);
	errnum = firn_view_listxattr(firn_driver_of(req)->view, ino, &names);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	reply_xattr(req, names->data, names->len, size);
}

static void
setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
	 int flags)
{
	(void)ino;
	(void)name;
	(void)value;
	(void)size;
	(void)flags;
	fuse_reply_err(req, ENOTSUP);
}

static void
removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino;
	(void)name;
	fuse_reply_err(req, ENOTSUP);
}

void
firn_ops_file(struct fuse_lowlevel_ops *ops)
{
	ops->open = open_;
	ops->create = create;
	ops->read = read_;
	ops->write = write_;
	ops->flush = flush;
	ops->fsync = fsync_;
	ops->release = release;
	ops->getxattr = getxattr;
	ops->listxattr = listxattr;
	ops->setxattr = setxattr;
	ops->removexattr = removexattr;
}
