#ifndef FIRN_CORE_STORE_LOCAL_H
#define FIRN_CORE_STORE_LOCAL_H

#include "core/store/store.h"

/*
 * Objects as files under a directory of a local or shared file system.
 *
 * A put writes a temporary `<name>#<random>` beside the target, syncs it,
 * renames it (or links it, IF_ABSENT), and syncs the directory.  Conditional
 * puts of a key hold an exclusive lock on `<root>/firn/lock` around compare and
 * rename; a version is inode, mtime (ns) and size.  A copy is a hard link, so
 * no object is ever modified in place.
 */
FirnStore *firn_local_open(const char *path, bool create, GError **error) FIRN_MUST_USE;

#endif
