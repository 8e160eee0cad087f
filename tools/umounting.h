#ifndef FIRN_TOOLS_UMOUNTING_H
#define FIRN_TOOLS_UMOUNTING_H

#include "tools/mountpoint.h"

/* Stop the driver, then say how to go on with what is uncommitted (`*out_left`: something is). */
bool firn_umount_reporting(const FirnMount *mount, bool discard, bool *out_left, GError **error)
	FIRN_MUST_USE;

#endif
