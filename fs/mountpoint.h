#ifndef FIRN_FS_MOUNTPOINT_H
#define FIRN_FS_MOUNTPOINT_H

#include "core/base/error.h"

/*
 * Check, before anything is mounted, that it can be: /dev/fuse is there,
 * `mountpoint` is a directory and no mount of ours.  A mount whose driver is
 * gone is detached first, which `*out_detached` tells.  Errors say the way out.
 */
bool firn_mountpoint_prepare(const char *mountpoint, bool *out_detached, GError **error)
	FIRN_MUST_USE;

/*
 * Keep others of us from mounting there until firn_mountpoint_release(), unless one of them has since it
 * was checked (BUSY).
 */
bool firn_mountpoint_claim(const char *mountpoint, int *out_fd, GError **error) FIRN_MUST_USE;
void firn_mountpoint_release(int fd);

/* Unmount what another process has mounted; `fuse_fd` is ours, and closed by this. */
void firn_mountpoint_unmount(const char *mountpoint, int fuse_fd);

/* Break the connection of our mount at `mountpoint`: who waits for the driver gets an error. */
void firn_mountpoint_abort(const char *mountpoint);

#endif
