#ifndef FIRN_FS_FINISH_H
#define FIRN_FS_FINISH_H

#include "fs/driver.h"

/*
 * The end of a mount, after the last request: close what is still open;
 * publish a fork's journal; remove the state directory if nothing uncommitted
 * is left in it (or all is to be dropped), else say how to go on.  Frees the
 * view and the repository.  False if something could not be saved; it is in the log.
 */
bool firn_finish(FirnDriver *driver);

#endif
