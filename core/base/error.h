#ifndef FIRN_CORE_BASE_ERROR_H
#define FIRN_CORE_BASE_ERROR_H

#include "core/base/base.h"

#define FIRN_ERROR (firn_error_quark())
GQuark firn_error_quark(void);

/* Closed set: a new code needs a row in firn_error_to_errno() and in its test. */
typedef enum {
	FIRN_ERROR_FORMAT,      /* bytes violate the format              -> EIO     */
	FIRN_ERROR_UNSUPPORTED, /* valid, but newer than we understand   -> ENOTSUP */
	FIRN_ERROR_NOT_FOUND,   /* object, node or ref absent            -> ENOENT  */
	FIRN_ERROR_EXISTS,      /* what should be created is there       -> EEXIST  */
	FIRN_ERROR_CONFLICT,    /* concurrent change; nothing was changed -> EBUSY  */
	FIRN_ERROR_BUSY,        /* in use: open writers, a live session  -> EBUSY   */
	FIRN_ERROR_NOTHING,     /* there is nothing to commit            -> EINVAL  */
	FIRN_ERROR_INVALID,     /* the caller's input breaks a rule      -> EINVAL  */
	FIRN_ERROR_LIMIT,       /* refused: above a documented limit     -> EFBIG   */
	FIRN_ERROR_DENIED,      /* permission                            -> EACCES  */
	FIRN_ERROR_READ_ONLY,   /* store or repository is read-only      -> EROFS   */
	FIRN_ERROR_NO_SPACE,    /* store is full                         -> ENOSPC  */
	FIRN_ERROR_QUOTA,       /* quota exceeded                        -> EDQUOT  */
	FIRN_ERROR_STORE,       /* backend failed after retries          -> EIO     */
} FirnError;

/* errno for a FUSE reply.  Never 0; EIO for foreign domains. */
int firn_error_to_errno(const GError *error);

/*
 * Set `error` from a failed system call: `errnum` chooses the code (ENOENT,
 * EEXIST, EACCES/EPERM, EROFS, ENOSPC, EDQUOT have their own, all else is
 * FIRN_ERROR_STORE); the message is "<formatted>: <strerror>".
 */
void firn_error_set_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
