#ifndef FIRN_FS_RESTORE_H
#define FIRN_FS_RESTORE_H

#include "fs/driver.h"

/* What a successor needs beyond the view: records of the keep, and taking them up again. */
enum {
	FIRN_KEPT_INIT = FIRN_VIEW_KINDS, /* 0: the kernel's request */
	FIRN_KEPT_DRIVER,                 /* 0: what was mounted */
	FIRN_KEPT_DISCARD,                /* 0: there if all is to be dropped */
	FIRN_KEPT_HANDLE,                 /* its number */
	FIRN_KEPT_NAMES,                  /* number of the handle of a directory being listed */
	FIRN_KEPT_CONTROL,                /* number of the handle of a control file */
	FIRN_KEPT_BACKING,                /* number of an inode the kernel reads by itself */
};

/* Keep what is mounted, once it is. */
void firn_restore_keep_driver(FirnDriver *driver);
/* Repository, session and view, as the driver that died had them. */
bool firn_restore_open(FirnDriver *driver, const FirnKept *kept, GError **error) FIRN_MUST_USE;
/* Where `firn sessions` looks. */
void firn_restore_record(FirnDriver *driver);
/* What the kernel has open. */
void firn_restore_handles(FirnDriver *driver, const FirnKept *kept);

#endif
