#include "core/repo/journal_file.h"

#include "core/base/error.h"
#include "core/base/outfile.h"
#include "core/repo/journal_fold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ_STEP (1u << 20)

GBytes *
firn_journal_file_read_all(int fd, const char *path, GError **error)
{
	uint8_t *data = NULL;
	size_t len = 0, size = 0;

	for (;;) {
		uint8_t *bigger;
		ssize_t n;

		if (len == size) {
			size += MAX(size / 2, READ_STEP);
			bigger = g_try_realloc(data, size);
			if (bigger == NULL) {
				g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
					    "journal %s does not fit into memory", path);
				g_free(data);
				return NULL;
			}
			data = bigger;
		}
		n = pread(fd, data + len, size - len, (off_t)len);
		if (n == 0)
			return g_bytes_new_take(data, len);
		if (n > 0)
			len += (size_t)n;
		else if (errno != EINTR)
			break;
	}
	firn_error_set_errno(error, errno, "cannot read journal %s", path);
	g_free(data);
	return NULL;
}

GPtrArray *
firn_journal_read_fd(int fd, const char *name, uint64_t *out_torn, GError **error)
{
	g_autoptr(GPtrArray) sections = firn_journal_fold(fd, name);
	g_autoptr(GBytes) bytes = NULL;

	if (out_torn != NULL)
		*out_torn = 0;
	if (sections == NULL)
		bytes = firn_journal_file_read_all(fd, name, error);
	close(fd);
	if (bytes != NULL)
		sections = firn_journal_decode(bytes, name, out_torn, error);
	return g_steal_pointer(&sections);
}

static int
open_journal(const char *path, GError **error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		firn_error_set_errno(error, errno, "cannot open journal %s", path);
	return fd;
}

GPtrArray *
firn_journal_read(const char *path, uint64_t *out_torn, GError **error)
{
	int fd = open_journal(path, error);

	return fd >= 0 ? firn_journal_read_fd(fd, path, out_torn, error) : NULL;
}

GPtrArray *
firn_journal_read_stopped(const char *path, uint64_t *out_torn, GError **error)
{
	int fd = open_journal(path, error);
	g_autoptr(GBytes) bytes = NULL;

	if (fd < 0)
		return NULL;
	bytes = firn_journal_file_read_all(fd, path, error);
	close(fd);
	return bytes != NULL ? firn_journal_decode_stopped(bytes, path, out_torn, error) : NULL;
}

bool
firn_journal_file_sync_directory(const char *path, GError **error)
{
	g_autofree char *directory = g_path_get_dirname(path);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);

	if (!done)
		firn_error_set_errno(error, errno, "cannot sync directory %s", directory);
	if (fd >= 0)
		close(fd);
	return done;
}

static bool
write_piece(void *data, FirnSpan bytes, GError **error)
{
	return firn_outfile_write(data, bytes, error);
}

static bool
write_sections(FirnOutfile *file, GPtrArray *sections, GError **error)
{
	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = sections->pdata[i];

		if (!firn_journal_encode_to(section->header, section->changes, section->last_seq,
					    write_piece, file, error) ||
		    !firn_changes_check(section->changes, error))
			return false;
	}
	return true;
}

bool
firn_journal_write(const char *path, GPtrArray *sections, GError **error)
{
	FirnOutfile file;

	return firn_outfile_open(&file, path, FIRN_JOURNAL_MODE, error) &&
	       firn_outfile_end(&file, write_sections(&file, sections, error), error);
}
