#ifndef FIRN_CORE_BASE_OUTFILE_H
#define FIRN_CORE_BASE_OUTFILE_H

#include "core/base/base.h"

#include <sys/types.h>

/*
 * A file somebody asked for by name.  It is written beside the name and gets it
 * when it is whole and durable; a link to a file stays a link.  What is no regular
 * file (a device, a pipe) is written into, as cp does.
 */
typedef struct {
	int fd;
	char *path;
	char *temporary; /* NULL: written straight into `path` */
} FirnOutfile;

/* A new file gets `mode`; 0600: less what the umask takes.  Errors: as open(2). */
bool firn_outfile_open(FirnOutfile *file, const char *path, mode_t mode, GError **error)
	FIRN_MUST_USE;
bool firn_outfile_write(FirnOutfile *file, FirnSpan bytes, GError **error) FIRN_MUST_USE;
/* `whole`: give it its name, durably; else, and on failure, a new file is removed, what was there
 * stays.  False if not whole, or with an error.  To be called once after a successful open. */
bool firn_outfile_end(FirnOutfile *file, bool whole, GError **error) FIRN_MUST_USE;

#endif
