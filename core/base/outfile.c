#include "core/base/outfile.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_AT_ONCE ((size_t)1 << 20)
#define PRIVATE      0600u

static bool
fail(const FirnOutfile *file, int errnum, GError **error)
{
	firn_error_set_errno(error, errnum, "cannot write %s", file->path);
	return false;
}

static void
clear(FirnOutfile *file)
{
	if (file->fd >= 0)
		close(file->fd);
	g_clear_pointer(&file->path, g_free);
	g_clear_pointer(&file->temporary, g_free);
	file->fd = -1;
}

/* Where a new file goes: the file a link names stays one.  NULL: what is there is written into. */
static char *
place_of_new(const char *path)
{
	char *target;
	char *place;
	struct stat st;

	if (lstat(path, &st) != 0 || S_ISREG(st.st_mode))
		return g_strdup(path);
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return NULL;
	/* A link in /proc may name what has no name. */
	target = realpath(path, NULL);
	place = g_strdup(target);
	free(target);
	return place;
}

bool
firn_outfile_open(FirnOutfile *file, const char *path, mode_t mode, GError **error)
{
	g_autofree char *place = place_of_new(path);

	*file = (FirnOutfile){ .fd = -1, .path = g_strdup(place != NULL ? place : path) };
	if (place != NULL) {
		file->temporary = g_strconcat(place, ".XXXXXX", NULL);
		file->fd = mkostemp(file->temporary, O_CLOEXEC);
	} else {
		file->fd = open(path, O_WRONLY | O_TRUNC | O_NOCTTY | O_CLOEXEC);
	}
	if (file->fd < 0) {
		(void)fail(file, errno, error);
	} else if (file->temporary != NULL && mode != PRIVATE && fchmod(file->fd, mode) != 0) {
		(void)fail(file, errno, error);
		unlink(file->temporary);
	} else {
		return true;
	}
	clear(file);
	return false;
}

bool
firn_outfile_write(FirnOutfile *file, FirnSpan bytes, GError **error)
{
	while (bytes.len > 0) {
		ssize_t n = write(file->fd, bytes.data, MIN(bytes.len, MOST_AT_ONCE));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(file, n < 0 ? errno : EIO, error);
		bytes.data += n;
		bytes.len -= (size_t)n;
	}
	return true;
}

static bool
sync_directory_of(const char *path)
{
	g_autofree char *directory = g_path_get_dirname(path);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
	int errnum = errno;

	if (fd >= 0)
		close(fd);
	errno = errnum;
	return done;
}

/* Devices and pipes are as durable as they are. */
static bool
sync_file(const FirnOutfile *file)
{
	return fsync(file->fd) == 0 ||
	       (file->temporary == NULL && (errno == EINVAL || errno == EROFS || errno == ENOTSUP));
}

bool
firn_outfile_end(FirnOutfile *file, bool whole, GError **error)
{
	if (whole && !sync_file(file))
		whole = fail(file, errno, error);
	if (whole && file->temporary != NULL && rename(file->temporary, file->path) != 0)
		whole = fail(file, errno, error);
	if (!whole && file->temporary != NULL)
		unlink(file->temporary);
	if (whole && file->temporary != NULL && !sync_directory_of(file->path))
		whole = fail(file, errno, error);
	clear(file);
	return whole;
}
