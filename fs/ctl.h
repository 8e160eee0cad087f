#ifndef FIRN_FS_CTL_H
#define FIRN_FS_CTL_H

#include "core/base/keep.h"
#include "fs/control.h"

/*
 * The control file `ctl`: one JSON request written, one JSON reply to read,
 * then the next (fs/CONTROL.md).  A commit that was begun on an open ctl ends
 * with it.  Any thread.
 */
FirnCtl *firn_ctl_new(FirnDriver *driver);
void firn_ctl_free(FirnCtl *ctl); /* NULL is a no-op */

/*
 * Do what `data` asks for; how it went is in the reply.  `request`
 * (firn_resend_id(), 0: unknown): one that was answered already is not done again.
 */
void firn_ctl_request(FirnCtl *ctl, uint64_t request, const char *data, size_t size);
/* What a successor needs, and what it makes of that. */
void firn_ctl_keep(FirnCtl *ctl, GByteArray *out);
FirnCtl *firn_ctl_restore(FirnDriver *driver, FirnKeepReader *reader);
/* In a successor: a commit was begun, but whoever asked for it was not told. */
void firn_ctl_forget_commit(FirnDriver *driver);
/* Up to `size` bytes of the reply to the last request, none at its end.  Caller owns. */
GBytes *firn_ctl_read(FirnCtl *ctl, size_t size, uint64_t offset);

#endif
