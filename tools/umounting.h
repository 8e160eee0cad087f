#ifndef FIRN_TOOLS_UMOUNTING_H
#define FIRN_TOOLS_UMOUNTING_H

#include "tools/mountpoint.h"

/*
 * Stop the driver, then say how to go on, at the mount point `again_at`, with what
 * is uncommitted (`*out_left`: something is).
 */
bool firn_umount_reporting(const FirnMount *mount, const char *again_at, bool discard,
			   bool *out_left, GError **error) FIRN_MUST_USE;

/* Where the session's state is, also if `.firn/session` names the directory above; NULL: nowhere.  Caller owns. */
char *firn_umount_state_directory(const FirnMount *mount);

/* Say what sessions without a driver, last mounted at `mountpoint`, have uncommitted. */
void firn_umount_report_others(const char *mountpoint, const char *state_root);

#endif
