#include "fs/reply.h"
#include "fs/resend.h"

#include <sys/statvfs.h>

/* Requests about names and attributes. */

static void
lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	FirnDriver *driver = firn_driver_of(req);
	struct fuse_entry_param absent = { .entry_timeout = FIRN_FOREVER };
	struct stat attr;
	double timeout = FIRN_FOREVER;
	int errnum;

	if (firn_name_too_long(name))
		return (void)fuse_reply_err(req, ENAMETOOLONG);
	if (firn_control_owns(parent) || firn_name_is_control(parent, name)) {
		errnum = firn_control_lookup(driver, parent, name, &attr, &timeout);
		return firn_reply_entry(req, errnum, &attr, timeout);
	}
	errnum = firn_view_lookup(driver->view, parent, name, &attr);
	/* Remembering that a name is not there saves most of what tools probe for. */
	if (errnum == ENOENT)
		return (void)fuse_reply_entry(req, &absent);
	if (!errnum)
		firn_advice_looked_up(&driver->advice, parent, attr.st_mode);
	firn_reply_entry(req, errnum, &attr, timeout);
}

static void
forget_one(FirnDriver *driver, fuse_ino_t ino, uint64_t n)
{
	if (ino > FIRN_INO_RESERVED)
		firn_view_forget(driver->view, ino, n);
}

static void
forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	forget_one(firn_driver_of(req), ino, n);
	fuse_reply_none(req);
}

static void
forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget_one(firn_driver_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/*
 * A request that comes again after the driver died may have been done.  The
 * kernel holds the directory locked until it is answered, so nobody else can
 * have changed what it finds there.
 */
static int
made_before(FirnDriver *driver, int errnum, fuse_ino_t parent, const char *name,
	    struct stat *out_attr)
{
	if (errnum != EEXIST || !firn_resend_is_again())
		return errnum;
	return firn_view_lookup(driver->view, parent, name, out_attr);
}

static int
gone_before(int errnum)
{
	return errnum == ENOENT && firn_resend_is_again() ? 0 : errnum;
}

static bool
is_there(FirnDriver *driver, fuse_ino_t parent, const char *name)
{
	struct stat attr;

	if (firn_view_lookup(driver->view, parent, name, &attr))
		return false;
	firn_view_forget(driver->view, attr.st_ino, 1);
	return true;
}

static void
getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle *handle = fi ? firn_handle_of(req, fi) : NULL;
	bool control = firn_control_owns(ino);
	struct stat attr;
	int errnum;

	if (control)
		errnum = firn_control_getattr(driver, ino, &attr);
	else
		errnum = firn_view_getattr(driver->view, ino, handle ? handle->file : NULL, &attr);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	/* A stat of the mount point is how others find out that the driver is gone. */
	fuse_reply_attr(req, &attr, control || ino == FIRN_INO_TOP ? 0 : FIRN_FOREVER);
}

static unsigned
wanted_changes(int to_set, struct stat *values)
{
	unsigned what = 0;

	if (to_set & FUSE_SET_ATTR_SIZE)
		what |= FIRN_SET_SIZE;
	if (to_set & FUSE_SET_ATTR_MODE)
		what |= FIRN_SET_MODE;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		what |= FIRN_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &values->st_mtim);
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		what |= FIRN_SET_OWNER;
		/* As with chown(2): -1 leaves it as it is. */
		if (!(to_set & FUSE_SET_ATTR_UID))
			values->st_uid = (uid_t)-1;
		if (!(to_set & FUSE_SET_ATTR_GID))
			values->st_gid = (gid_t)-1;
	}
	return what;
}

static void
setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle *handle = fi ? firn_handle_of(req, fi) : NULL;
	struct stat values = *attr;
	unsigned what = wanted_changes(to_set, &values);
	struct stat result;
	int errnum;

	if (firn_control_owns(ino)) {
		/* A shell's `>` truncates what it opens. */
		errnum = (what & ~FIRN_SET_SIZE) ? EPERM
						 : firn_control_getattr(driver, ino, &result);
		if (errnum)
			return (void)fuse_reply_err(req, errnum);
		return (void)fuse_reply_attr(req, &result, 0);
	}
	if ((what & FIRN_SET_SIZE) && driver->passthrough &&
	    firn_passthrough_is_read(driver->passthrough, ino)) {
		/* Looked up again, it has a number nobody reads under. */
		firn_view_renumber(driver->view, ino);
		return (void)fuse_reply_err(req, ESTALE);
	}
	if (what)
		errnum = firn_view_setattr(driver->view, ino, handle ? handle->file : NULL, what,
					   &values, &result);
	else
		errnum =
			firn_view_getattr(driver->view, ino, handle ? handle->file : NULL, &result);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	fuse_reply_attr(req, &result, FIRN_FOREVER);
}

static void
mkdir_(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct stat attr;
	int errnum = firn_name_refused(parent, name);

	if (!errnum)
		errnum = firn_view_mkdir(firn_driver_of(req)->view, parent, name, mode, &attr);
	errnum = made_before(firn_driver_of(req), errnum, parent, name, &attr);
	firn_reply_entry(req, errnum, &attr, FIRN_FOREVER);
}

static void
mknod_(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnFile *file = NULL;
	struct stat attr;
	int errnum = firn_name_refused(parent, name);

	(void)device;
	if (!errnum && !S_ISREG(mode))
		errnum = EPERM;
	if (!errnum)
		errnum = firn_view_create(driver->view, parent, name, O_CREAT | O_EXCL | O_WRONLY,
					  mode, fuse_req_ctx(req)->pid, &attr, &file);
	if (file)
		firn_view_release(driver->view, file);
	errnum = made_before(driver, errnum, parent, name, &attr);
	firn_reply_entry(req, errnum, &attr, FIRN_FOREVER);
}

static void
symlink_(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void
unlink_(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int errnum = firn_name_refused(parent, name);

	if (!errnum)
		errnum = firn_view_unlink(firn_driver_of(req)->view, parent, name);
	fuse_reply_err(req, gone_before(errnum));
}

static void
rmdir_(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int errnum = firn_name_refused(parent, name);

	if (!errnum)
		errnum = firn_view_rmdir(firn_driver_of(req)->view, parent, name);
	fuse_reply_err(req, gone_before(errnum));
}

static void
rename_(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	FirnDriver *driver = firn_driver_of(req);
	int errnum = firn_name_refused(parent, name);

	if (!errnum)
		errnum = firn_name_refused(new_parent, new_name);
	if (!errnum && firn_resend_is_again() && !is_there(driver, parent, name) &&
	    is_there(driver, new_parent, new_name))
		return (void)fuse_reply_err(req, 0);
	if (!errnum)
		errnum = firn_view_rename(driver->view, parent, name, new_parent, new_name, flags);
	fuse_reply_err(req, errnum);
}

static void
link_(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct stat attr;
	int errnum = firn_name_refused(new_parent, new_name);

	if (!errnum && firn_control_owns(ino))
		errnum = EPERM;
	if (!errnum)
		errnum =
			firn_view_link(firn_driver_of(req)->view, ino, new_parent, new_name, &attr);
	errnum = made_before(firn_driver_of(req), errnum, new_parent, new_name, &attr);
	firn_reply_entry(req, errnum, &attr, FIRN_FOREVER);
}

static void
access_(fuse_req_t req, fuse_ino_t ino, int mask)
{
	/* A writable mount has nothing to say: the kernel need not ask again. */
	if (!firn_driver_is_read_only(firn_driver_of(req)))
		return (void)fuse_reply_err(req, ENOSYS);
	fuse_reply_err(req, (mask & W_OK) && !firn_control_owns(ino) ? EROFS : 0);
}

static void
statfs_(fuse_req_t req, fuse_ino_t ino)
{
	const char *url = firn_repo_url(firn_driver_of(req)->repo);
	const char *path = g_str_has_prefix(url, "file://") ? url + strlen("file://") : NULL;
	struct statvfs status = { .f_bsize = 4096, .f_frsize = 4096 };

	(void)ino;
	if (path && statvfs(path, &status))
		return (void)fuse_reply_err(req, errno);
	status.f_namemax = NAME_MAX;
	fuse_reply_statfs(req, &status);
}

void
firn_ops_name(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = lookup;
	ops->forget = forget;
	ops->forget_multi = forget_multi;
	ops->getattr = getattr;
	ops->setattr = setattr;
	ops->mkdir = mkdir_;
	ops->mknod = mknod_;
	ops->symlink = symlink_;
	ops->unlink = unlink_;
	ops->rmdir = rmdir_;
	ops->rename = rename_;
	ops->link = link_;
	ops->access = access_;
	ops->statfs = statfs_;
}
