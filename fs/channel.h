#ifndef FIRN_FS_CHANNEL_H
#define FIRN_FS_CHANNEL_H

#include "fs/driver.h"

/*
 * What passes between the kernel and libfuse, on its way: features of the
 * protocol that are newer than the libfuse firn is built with are negotiated
 * and used here (protocol 7.40, Linux 6.9: reads of a file served from another
 * file, without a request).
 */

/*
 * Stand between them from now on; after mounting, before the first request.
 * `fuse_fd` is the connection, which may have been another process's.
 */
bool firn_channel_install(FirnDriver *driver, int fuse_fd, GError **error) FIRN_MUST_USE;

/* Note what the kernel can do, if `request` is its INIT.  False: it is not. */
bool firn_channel_take_init(FirnDriver *driver, const void *request, size_t len);

/*
 * fuse_reply_open() of a file the kernel reads from the file it knows by
 * `backing`.  Returns what that returns.
 */
int firn_channel_reply_open(fuse_req_t req, const struct fuse_file_info *fi, int32_t backing);

/* Tell the kernel of a file to read from.  Returns its number, or -errno. */
int32_t firn_channel_add_backing(FirnDriver *driver, int fd);
void firn_channel_remove_backing(FirnDriver *driver, int32_t backing);

#endif
