#ifndef FIRN_FS_REPLY_H
#define FIRN_FS_REPLY_H

#include "fs/driver.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* What all requests share: finding the driver, checking names, saying how long an answer holds. */

/*
 * Everything in a hierarchy changes through the mount or is announced
 * (notify.h), so entries, attributes and pages need not expire.
 */
#define FIRN_FOREVER (365.0 * 86400.0)

static inline FirnDriver *
firn_driver_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* NULL: it ended already, or could not be opened again after the driver died. */
static inline FirnHandle *
firn_handle_of(fuse_req_t req, const struct fuse_file_info *fi)
{
	return firn_handles_find(firn_driver_of(req)->handles, fi->fh);
}

/* The kernel lets longer names through than any file system beside us takes. */
static inline bool
firn_name_too_long(const char *name)
{
	return strlen(name) > NAME_MAX;
}

/* The mount's own directory, which no request may change. */
static inline bool
firn_name_is_control(uint64_t parent, const char *name)
{
	return parent == FIRN_INO_TOP && !strcmp(name, FIRN_CONTROL_NAME);
}

/* Whether a change of `name` in `parent` is none of the view's: 0, or the answer. */
static inline int
firn_name_refused(uint64_t parent, const char *name)
{
	if (firn_name_too_long(name))
		return ENAMETOOLONG;
	return firn_control_owns(parent) || firn_name_is_control(parent, name) ? EPERM : 0;
}

static inline struct fuse_entry_param
firn_entry(const struct stat *attr, double timeout)
{
	return (struct fuse_entry_param){ .ino = attr->st_ino,
					  .attr = *attr,
					  .attr_timeout = timeout,
					  .entry_timeout = timeout };
}

static inline void
firn_reply_entry(fuse_req_t req, int errnum, const struct stat *attr, double timeout)
{
	struct fuse_entry_param entry;

	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	entry = firn_entry(attr, timeout);
	/* The kernel is gone with the look-up it asked for: it will not forget it either. */
	if (fuse_reply_entry(req, &entry) && !firn_control_owns(attr->st_ino))
		firn_view_forget(firn_driver_of(req)->view, attr->st_ino, 1);
}

#endif
