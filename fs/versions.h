#ifndef FIRN_FS_VERSIONS_H
#define FIRN_FS_VERSIONS_H

#include "fs/control.h"

/*
 * The other versions of the hierarchy, below `.firn`: branches/NAME,
 * tags/NAME, snapshots/ID.  In a name, "/" is shown as "%2F" and "%" as "%25".
 */
enum {
	FIRN_VERSIONS_BRANCHES,
	FIRN_VERSIONS_TAGS,
	FIRN_VERSIONS_SNAPSHOTS,
	FIRN_N_VERSIONS,
};
#define FIRN_VERSIONS_FIRST 3u /* inode of the first of these directories */

const char *firn_versions_directory(unsigned kind);
/* The root of a version's hierarchy as of now; counts as a look-up. */
int firn_versions_lookup(FirnDriver *driver, unsigned kind, const char *name,
			 struct stat *out_attr);
/* Names (char *), as they are shown.  Caller owns. */
int firn_versions_list(FirnDriver *driver, unsigned kind, GPtrArray **out_names);

#endif
