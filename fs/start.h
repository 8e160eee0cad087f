#ifndef FIRN_FS_START_H
#define FIRN_FS_START_H

#include "fs/driver.h"

/*
 * Open what the options name: repository, session, view.  Fills in `driver`
 * all but the FUSE session and what answers its requests.  Errors: as of
 * firn_repo_open() and firn_session_*(), READ_ONLY, INVALID.
 */
bool firn_start_open(FirnDriver *driver, GError **error) FIRN_MUST_USE;

#endif
