#include "core/base/error.h"

#include <errno.h>
#include <stdarg.h>

G_DEFINE_QUARK(firn - error - quark, firn_error)

int
firn_error_to_errno(const GError *error)
{
	if (error == NULL || error->domain != FIRN_ERROR)
		return EIO;

	switch ((FirnError)error->code) {
	case FIRN_ERROR_NOT_FOUND:
		return ENOENT;
	case FIRN_ERROR_EXISTS:
		return EEXIST;
	case FIRN_ERROR_CONFLICT:
	case FIRN_ERROR_BUSY:
		return EBUSY;
	case FIRN_ERROR_NOTHING:
	case FIRN_ERROR_INVALID:
		return EINVAL;
	case FIRN_ERROR_LIMIT:
		return EFBIG;
	case FIRN_ERROR_DENIED:
		return EACCES;
	case FIRN_ERROR_READ_ONLY:
		return EROFS;
	case FIRN_ERROR_NO_SPACE:
		return ENOSPC;
	case FIRN_ERROR_QUOTA:
		return EDQUOT;
	case FIRN_ERROR_UNSUPPORTED:
		return ENOTSUP;
	case FIRN_ERROR_FORMAT:
	case FIRN_ERROR_STORE:
		return EIO;
	}
	return EIO;
}

static FirnError
code_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ENOTDIR:
		return FIRN_ERROR_NOT_FOUND;
	case EEXIST:
		return FIRN_ERROR_EXISTS;
	case EACCES:
	case EPERM:
		return FIRN_ERROR_DENIED;
	case EROFS:
		return FIRN_ERROR_READ_ONLY;
	case ENOSPC:
		return FIRN_ERROR_NO_SPACE;
	case EDQUOT:
		return FIRN_ERROR_QUOTA;
	default:
		return FIRN_ERROR_STORE;
	}
}

void
firn_error_set_errno(GError **error, int errnum, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FIRN_ERROR, (int)code_of_errno(errnum), "%s: %s", text,
		    g_strerror(errnum));
}
