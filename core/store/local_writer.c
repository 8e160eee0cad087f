#include "core/base/error.h"
#include "core/store/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

typedef struct {
	FirnStoreWriter base;
	FirnLocal *local;
	char *key;
	int fd;
	bool local_fs;
	int lost; /* errno of a failed sync: the kernel drops the pages, a second one would lie */
} LocalWriter;

static void
release(LocalWriter *writer)
{
	close(writer->fd);
	g_free(writer->key);
	g_free(writer);
}

static bool
answer(LocalWriter *writer, int failed, const char *doing, GError **error)
{
	if (failed != 0)
		firn_local_fail(writer->local, error, failed, doing, writer->key);
	return failed == 0;
}

static bool
writer_write(FirnStoreWriter *base, uint64_t offset, const void *data, size_t len, GError **error)
{
	LocalWriter *writer = (LocalWriter *)base;

	return answer(writer, firn_local_write_all(writer->fd, data, len, offset), "write", error);
}

static bool
writer_read(FirnStoreWriter *base, uint64_t offset, void *out, size_t len, size_t *out_len,
	    GError **error)
{
	LocalWriter *writer = (LocalWriter *)base;

	return answer(writer, firn_local_read_all(writer->fd, out, len, offset, out_len), "read",
		      error);
}

static bool
writer_truncate(FirnStoreWriter *base, uint64_t size, GError **error)
{
	LocalWriter *writer = (LocalWriter *)base;

	if (size > INT64_MAX)
		return answer(writer, EFBIG, "resize", error);
	while (ftruncate(writer->fd, (off_t)size) != 0)
		if (errno != EINTR)
			return answer(writer, errno, "resize", error);
	return true;
}

/* Whether close(2) has nothing to tell.  Others than these may write to a network. */
static bool
is_local(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
	       fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC;
}

/* Network file systems tell of failed writes when a descriptor is closed: close a second one. */
static int
flush(const LocalWriter *writer)
{
	int other;

	if (writer->local_fs)
		return 0;
	other = fcntl(writer->fd, F_DUPFD_CLOEXEC, 0);
	if (other < 0)
		return errno;
	return close(other) != 0 && errno != EINTR ? errno : 0;
}

static bool
writer_flush(FirnStoreWriter *base, GError **error)
{
	LocalWriter *writer = (LocalWriter *)base;

	return answer(writer, flush(writer), "write", error);
}

static bool
writer_finish(FirnStoreWriter *base, bool durable, GError **error)
{
	LocalWriter *writer = (LocalWriter *)base;

	if (writer->lost == 0)
		writer->lost = flush(writer);
	if (writer->lost == 0 && durable)
		writer->lost = firn_local_fsync(writer->fd);
	if (!answer(writer, writer->lost, "finish", error))
		return false;
	if (durable && !answer(writer, firn_local_sync_dir_of(writer->local, writer->key),
			       "sync the directory of", error))
		return false;
	release(writer);
	return true;
}

static void
writer_leave(FirnStoreWriter *base)
{
	release((LocalWriter *)base);
}

static void
writer_abort(FirnStoreWriter *base)
{
	LocalWriter *writer = (LocalWriter *)base;

	(void)unlinkat(writer->local->root, writer->key, 0);
	release(writer);
}

static const FirnStoreWriterOps writer_ops = {
	.write = writer_write,
	.read = writer_read,
	.truncate = writer_truncate,
	.flush = writer_flush,
	.finish = writer_finish,
	.leave = writer_leave,
	.abort = writer_abort,
};

static FirnStoreWriter *
writer_new(FirnLocal *local, const char *key, int fd)
{
	LocalWriter *writer = g_new0(LocalWriter, 1);
	writer->base.ops = &writer_ops;
	writer->local = local;
	writer->key = g_strdup(key);
	writer->fd = fd;
	writer->local_fs = is_local(fd);
	return &writer->base;
}

FirnStoreWriter *
firn_local_writer_open(FirnStore *store, const char *key, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	int fd = firn_local_create(local, key, O_RDWR | O_EXCL, error);

	return fd < 0 ? NULL : writer_new(local, key, fd);
}

FirnStoreWriter *
firn_local_writer_reopen(FirnStore *store, const char *key, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	int fd = firn_local_openat(local->root, key, O_RDWR, 0);

	if (fd < 0) {
		firn_local_fail(local, error, errno, "open", key);
		return NULL;
	}
	return writer_new(local, key, fd);
}
