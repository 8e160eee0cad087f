#ifndef FIRN_FS_CTL_H
#define FIRN_FS_CTL_H

#include "fs/control.h"

/*
 * The control file `ctl`: one JSON request written, one JSON reply to read,
 * then the next (fs/README.md).  A commit that was begun on an open ctl ends
 * with it.  Any thread.
 */
FirnCtl *firn_ctl_new(FirnDriver *driver);
void firn_ctl_free(FirnCtl *ctl); /* NULL is a no-op */

/* Do what `data` asks for; how it went is in the reply. */
void firn_ctl_request(FirnCtl *ctl, const char *data, size_t size);
/* The reply to the last request, NULL before the first.  Caller owns. */
GBytes *firn_ctl_dup_reply(FirnCtl *ctl);

#endif
