#ifndef FIRN_TOOLS_DRIVER_H
#define FIRN_TOOLS_DRIVER_H

#include "tools/mountpoint.h"
#include "tools/output.h"

/* Starting and stopping the driver, `firnfs`. */

/* Append "name=value" to mount options, escaping what would end the value. */
void firn_driver_option(GString *options, const char *name, const char *value);

/* $FIRNFS, else `firnfs` beside this program, else in PATH.  Errors: NOT_FOUND.  Caller owns. */
char *firn_driver_path(GError **error) FIRN_MUST_USE;

/* Whether something can be mounted on `mountpoint`: a directory, no mount of ours, /dev/fuse there. */
bool firn_driver_check(const char *mountpoint, GError **error) FIRN_MUST_USE;

/*
 * Run the driver and wait until the mount is usable (`foreground`: until it
 * ends), `repo` NULL if the options name it; it says itself what went wrong, and with --json that is the result.
 * The exit code.
 */
int firn_driver_start(const FirnCli *cli, const char *repo, const char *mountpoint,
		      const char *options, bool foreground);

/*
 * Unmount, and wait until the driver has exited.  `discard`: its state
 * directory goes too.  Errors: BUSY (in use), STORE.
 */
bool firn_driver_stop(const FirnMount *mount, bool discard, GError **error) FIRN_MUST_USE;
/* Detach a mount whose driver is gone. */
bool firn_driver_detach(const char *mountpoint, GError **error) FIRN_MUST_USE;

#endif
