#include "core/store/local.h"

#include "core/base/error.h"
#include "core/store/local_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Deeper than any key of the format; keeps a loop of symbolic links finite. */
#define MAX_DEPTH 16

void
firn_local_fail(const FirnLocal *local, GError **error, int errnum, const char *doing,
		const char *key)
{
	firn_error_set_errno(error, errnum, "%s/%s: cannot %s", local->path, key, doing);
}

/*
 * No ctime: the hard link that makes a backup changes it, and the version read
 * before the backup must still match after it.
 */
FirnVersion
firn_local_version(const struct stat *st)
{
	FirnVersion version;

	g_snprintf(version.tag, sizeof version.tag, "%" PRIx64 "-%" PRIx64 ".%lx-%" PRIx64,
		   (uint64_t)st->st_ino, (uint64_t)st->st_mtim.tv_sec,
		   (unsigned long)st->st_mtim.tv_nsec, (uint64_t)st->st_size);
	return version;
}

int
firn_local_openat(int dir, const char *path, int flags, mode_t mode)
{
	/* A file replaced on an NFS server between look-up and open is ESTALE once. */
	for (int tries = 0;; tries++) {
		int fd = openat(dir, path, flags | O_CLOEXEC | O_NOCTTY, mode);

		if (fd >= 0 || (errno != EINTR && (errno != ESTALE || tries >= 3)))
			return fd;
	}
}

char *
firn_local_dir_of(const char *key)
{
	const char *slash = strrchr(key, '/');

	return slash != NULL ? g_strndup(key, (gsize)(slash - key)) : g_strdup(".");
}

int
firn_local_fsync(int fd)
{
	while (fsync(fd) != 0)
		if (errno != EINTR)
			return errno;
	return 0;
}

int
firn_local_sync_dir(FirnLocal *local, const char *dir)
{
	int fd = firn_local_openat(local->root, dir, O_RDONLY | O_DIRECTORY, 0);
	int result;

	if (fd < 0)
		return errno;
	result = firn_local_fsync(fd);
	close(fd);
	/* Some network file systems have no fsync for directories: names are synchronous there. */
	return result == EINVAL || result == ENOSYS || result == EOPNOTSUPP ? 0 : result;
}

int
firn_local_sync_dir_of(FirnLocal *local, const char *key)
{
	g_autofree char *dir = firn_local_dir_of(key);

	return firn_local_sync_dir(local, dir);
}

/* Make the directories above `key` and sync each one's parent, so that they stay. */
static int
make_parents(FirnLocal *local, const char *key)
{
	g_autofree char *path = g_strdup(key);

	for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		int failed = 0;

		*slash = '\0';
		if (mkdirat(local->root, path, 0777) == 0)
			failed = firn_local_sync_dir_of(local, path);
		else if (errno != EEXIST)
			failed = errno;
		*slash = '/';
		if (failed != 0)
			return failed;
	}
	return 0;
}

int
firn_local_create(FirnLocal *local, const char *key, int flags, GError **error)
{
	int fd = firn_local_openat(local->root, key, flags | O_CREAT, 0666);
	int failed = fd < 0 ? errno : 0;

	if (failed == ENOENT) {
		failed = make_parents(local, key);
		if (failed == 0) {
			fd = firn_local_openat(local->root, key, flags | O_CREAT, 0666);
			failed = fd < 0 ? errno : 0;
		}
	}
	if (failed != 0)
		firn_local_fail(local, error, failed, "create", key);
	return fd;
}

int
firn_local_write_all(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	if (offset > INT64_MAX || len > (uint64_t)INT64_MAX - offset)
		return EFBIG;
	while (len > 0) {
		ssize_t n = pwrite(fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		at += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int
firn_local_read_all(int fd, void *out, size_t len, uint64_t offset, size_t *out_len)
{
	uint8_t *at = out;
	size_t done = 0;

	while (done < len && offset <= INT64_MAX) {
		ssize_t n = pread(fd, at + done, len - done, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			break;
		done += (size_t)n;
		offset += (uint64_t)n;
	}
	*out_len = done;
	return 0;
}

/* Open a regular file for reading; -1 and *out_failed 0 if there is no such object. */
static int
open_object(FirnLocal *local, const char *key, struct stat *out_st, int *out_failed)
{
	int fd = firn_local_openat(local->root, key, O_RDONLY | O_NONBLOCK, 0);

	*out_failed = 0;
	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			*out_failed = errno;
		return -1;
	}
	if (fstat(fd, out_st) != 0)
		*out_failed = errno;
	else if (S_ISREG(out_st->st_mode))
		return fd;
	close(fd);
	return -1;
}

static bool
read_range(FirnLocal *local, const char *key, int fd, uint64_t offset, uint64_t len,
	   GBytes **out_data, GError **error)
{
	uint8_t *data;
	size_t done = 0;
	int failed;

	data = len > 0 && len <= SIZE_MAX ? g_try_malloc((size_t)len) : NULL;
	if (len > 0 && data == NULL) {
		firn_local_fail(local, error, ENOMEM, "read", key);
		return false;
	}
	failed = firn_local_read_all(fd, data, (size_t)len, offset, &done);
	if (failed != 0) {
		firn_local_fail(local, error, failed, "read", key);
		g_free(data);
		return false;
	}
	*out_data = g_bytes_new_take(data, done);
	return true;
}

static bool
local_get(FirnStore *store, const char *key, uint64_t offset, uint64_t len, GBytes **out_data,
	  FirnVersion *out_version, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	struct stat st;
	int failed;
	uint64_t size;
	bool ok;
	int fd = open_object(local, key, &st, &failed);

	if (fd < 0) {
		if (failed != 0) {
			firn_local_fail(local, error, failed, "open", key);
			return false;
		}
		*out_data = NULL;
		if (out_version != NULL)
			memset(out_version, 0, sizeof *out_version);
		return true;
	}
	size = (uint64_t)st.st_size;
	len = offset < size ? MIN(len, size - offset) : 0;
	ok = read_range(local, key, fd, offset, len, out_data, error);
	close(fd);
	if (ok && out_version != NULL)
		*out_version = firn_local_version(&st);
	return ok;
}

static bool
local_remove(FirnStore *store, const char *key, GError **error)
{
	FirnLocal *local = firn_local_of(store);

	if (unlinkat(local->root, key, 0) == 0 || errno == ENOENT || errno == ENOTDIR)
		return true;
	firn_local_fail(local, error, errno, "remove", key);
	return false;
}

static bool
local_free_range(FirnStore *store, const char *key, uint64_t offset, uint64_t len, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	int failed = 0;
	int fd;

	if (offset > INT64_MAX || len == 0 || len > (uint64_t)INT64_MAX - offset)
		return true;
	fd = firn_local_openat(local->root, key, O_WRONLY | O_NONBLOCK, 0);
	if (fd < 0) {
		failed = errno;
	} else {
		/* A file system that cannot keeps the bytes, which harms nobody. */
		(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				(off_t)len);
		close(fd);
	}
	if (failed == 0 || failed == ENOENT || failed == ENOTDIR)
		return true;
	firn_local_fail(local, error, failed, "free bytes of", key);
	return false;
}

static int64_t
mtime_us(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
}

static bool
local_stat(FirnStore *store, const char *key, bool *out_exists, uint64_t *out_size,
	   int64_t *out_mtime_us, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	struct stat st = { 0 };
	bool there = fstatat(local->root, key, &st, 0) == 0;

	if (!there && errno != ENOENT && errno != ENOTDIR) {
		firn_local_fail(local, error, errno, "look at", key);
		return false;
	}
	*out_exists = there && S_ISREG(st.st_mode);
	*out_size = *out_exists ? (uint64_t)st.st_size : 0;
	*out_mtime_us = *out_exists ? mtime_us(&st) : 0;
	return true;
}

typedef struct {
	FirnLocal *local;
	FirnStoreListFn fn;
	void *data;
	GString *key;     /* of the directory being read, with its '/' */
	bool temporaries; /* these instead of the objects */
	bool stopped;
} Listing;

static bool list_dir(Listing *listing, unsigned depth, GError **error);

static bool
list_entry(Listing *listing, int dir, const char *name, unsigned depth, GError **error)
{
	size_t len = listing->key->len;
	struct stat st;
	bool ok = true;

	bool temporary = strchr(name, '#') != NULL;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    (temporary && !listing->temporaries))
		return true;
	if (fstatat(dir, name, &st, 0) != 0) {
		if (errno == ENOENT)
			return true;
		g_string_append(listing->key, name);
		firn_local_fail(listing->local, error, errno, "look at", listing->key->str);
		return false;
	}
	g_string_append(listing->key, name);
	if (S_ISREG(st.st_mode) && temporary == listing->temporaries) {
		listing->stopped = !listing->fn(listing->key->str, (uint64_t)st.st_size,
						mtime_us(&st), listing->data);
	} else if (S_ISDIR(st.st_mode) && !temporary) {
		g_string_append_c(listing->key, '/');
		ok = list_dir(listing, depth + 1, error);
	}
	g_string_truncate(listing->key, len);
	return ok;
}

static DIR *
open_dir(Listing *listing, GError **error)
{
	const char *path = listing->key->len > 0 ? listing->key->str : ".";
	int fd = firn_local_openat(listing->local->root, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir;

	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			firn_local_fail(listing->local, error, errno, "list", path);
		return NULL;
	}
	dir = fdopendir(fd);
	if (dir == NULL) {
		firn_local_fail(listing->local, error, errno, "list", path);
		close(fd);
	}
	return dir;
}

static bool
list_dir(Listing *listing, unsigned depth, GError **error)
{
	GError *failed = NULL;
	DIR *dir;

	if (depth > MAX_DEPTH) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%s/%s: directories nested more than %d deep", listing->local->path,
			    listing->key->str, MAX_DEPTH);
		return false;
	}
	dir = open_dir(listing, &failed);
	while (dir != NULL && failed == NULL && !listing->stopped) {
		struct dirent *entry;

		errno = 0;
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
		entry = readdir(dir);
		if (entry == NULL) {
			if (errno != 0)
				firn_local_fail(listing->local, &failed, errno, "list",
						listing->key->str);
			break;
		}
		(void)list_entry(listing, dirfd(dir), entry->d_name, depth, &failed);
	}
	if (dir != NULL)
		closedir(dir);
	if (failed == NULL)
		return true;
	g_propagate_error(error, failed);
	return false;
}

static bool
local_list(FirnStore *store, const char *prefix, FirnStoreListFn fn, void *data, GError **error)
{
	Listing listing = { .local = firn_local_of(store), .fn = fn, .data = data };
	bool ok;

	listing.key = g_string_new(prefix);
	ok = list_dir(&listing, 0, error);
	g_string_free(listing.key, TRUE);
	return ok;
}

static bool
local_list_temporaries(FirnStore *store, FirnStoreListFn fn, void *data, GError **error)
{
	Listing listing = {
		.local = firn_local_of(store), .fn = fn, .data = data, .temporaries = true
	};
	bool ok;

	listing.key = g_string_new(NULL);
	ok = list_dir(&listing, 0, error);
	g_string_free(listing.key, TRUE);
	return ok;
}

static int
local_open_fd(FirnStore *store, const char *key, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	struct stat st;
	int failed;
	int fd = open_object(local, key, &st, &failed);

	if (fd < 0)
		firn_local_fail(local, error, failed != 0 ? failed : ENOENT, "open", key);
	return fd;
}

static void
local_free(FirnStore *store)
{
	FirnLocal *local = firn_local_of(store);

	close(local->root);
	g_free(local->path);
	g_free(local->base.url);
	g_free(local);
}

static const FirnStoreOps local_ops = {
	.name = "local",
	.get = local_get,
	.put = firn_local_put,
	.stage = firn_local_stage,
	.put_staged = firn_local_put_staged,
	.unstage = firn_local_unstage,
	.put_new = firn_local_put_new,
	.publish = firn_local_publish,
	.withdraw = firn_local_withdraw,
	.copy = firn_local_copy,
	.remove = local_remove,
	.stat = local_stat,
	.list = local_list,
	.list_temporaries = local_list_temporaries,
	.free_range = local_free_range,
	.sync = firn_local_sync,
	.open_fd = local_open_fd,
	.writer_open = firn_local_writer_open,
	.writer_reopen = firn_local_writer_reopen,
	.free = local_free,
};

/* mkdir -p, syncing the parent of each directory that was made. */
static int
make_root(const char *path)
{
	g_autofree char *absolute = g_canonicalize_filename(path, NULL);
	FirnLocal host = { .root = firn_local_openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0) };
	g_autofree char *below = g_strconcat(absolute + 1, "/", NULL);
	int failed;

	if (host.root < 0)
		return errno;
	failed = absolute[1] != '\0' ? make_parents(&host, below) : 0;
	close(host.root);
	return failed;
}

FirnStore *
firn_local_open(const char *path, bool create, GError **error)
{
	FirnLocal *local;
	char *real;
	int root = -1;
	int failed = create ? make_root(path) : 0;

	if (failed == 0)
		root = firn_local_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (failed == 0 && root < 0)
		failed = errno;
	if (failed == ENOTDIR) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s is no directory (it is a file, or something above it is), and a "
			    "repository is one",
			    path);
		return NULL;
	}
	if (failed != 0) {
		firn_error_set_errno(error, failed, "%s: cannot open the directory", path);
		return NULL;
	}
	real = realpath(path, NULL);
	if (real == NULL) {
		firn_error_set_errno(error, errno, "%s: cannot resolve the path", path);
		close(root);
		return NULL;
	}
	local = g_new0(FirnLocal, 1);
	local->base.ops = &local_ops;
	local->root = root;
	local->path = g_strdup(real);
	local->base.url = g_filename_to_uri(real, NULL, NULL);
	free(real);
	return &local->base;
}
