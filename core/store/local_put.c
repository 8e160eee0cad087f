#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/base/id.h"
#include "core/store/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static char *
temporary_name(const char *key)
{
	FirnId8 id = firn_id8_random();
	char text[FIRN_ID8_TEXT + 1];

	firn_id8_format(&id, text);
	return g_strconcat(key, "#", text, NULL);
}

static bool
lost_race(const FirnLocal *local, const char *key, GError **error)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s/%s: another writer changed it first; try again", local->path, key);
	return false;
}

/* ---- the lock ---- */

static int
retry_flock(int fd)
{
	while (flock(fd, LOCK_EX) != 0)
		if (errno != EINTR)
			return errno;
	return 0;
}

/* Open-file-description locks: as flock(2), not shared by a process's threads. */
static int
retry_record_lock(int fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	while (fcntl(fd, F_OFD_SETLKW, &whole) != 0)
		if (errno != EINTR)
			return errno;
	return 0;
}

static int
open_lock(FirnLocal *local, GError **error)
{
	GError *failed = NULL;
	int fd = firn_local_create(local, FIRN_LOCAL_LOCK, O_RDWR, &failed);

	if (fd >= 0)
		return fd;
	/* Another user's lock file: enough for flock(2) on a local file system. */
	fd = firn_local_openat(local->root, FIRN_LOCAL_LOCK, O_RDONLY, 0);
	if (fd >= 0)
		g_clear_error(&failed);
	else
		g_propagate_error(error, failed);
	return fd;
}

/* Whether the locked file is still the one others would lock. */
static bool
lock_is_current(FirnLocal *local, int fd)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && fstatat(local->root, FIRN_LOCAL_LOCK, &named, 0) == 0 &&
	       held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

int
firn_local_lock(FirnLocal *local, GError **error)
{
	for (;;) {
		int fd = open_lock(local, error);
		int by_file, by_record;

		if (fd < 0)
			return -1;
		/* NFS clients before Linux 2.6.12 and some other network file systems have
		 * only one kind; every writer takes all kinds it can get, in this order. */
		by_file = retry_flock(fd);
		by_record = retry_record_lock(fd);
		if (by_file != 0 && by_record != 0) {
			firn_error_set_errno(error, by_record,
					     "%s/" FIRN_LOCAL_LOCK
					     ": the file system has no working "
					     "locks, so commits could be lost",
					     local->path);
			close(fd);
			return -1;
		}
		if (lock_is_current(local, fd))
			return fd;
		close(fd);
	}
}

void
firn_local_unlock(int lock)
{
	struct flock whole = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	/* A child forked meanwhile has the descriptor too: closing alone could leave it locked. */
	(void)fcntl(lock, F_OFD_SETLK, &whole);
	(void)flock(lock, LOCK_UN);
	close(lock);
}

/* ---- what is not published yet ---- */

struct FirnStaged {
	FirnLocal *local;
	char *key;
	char *name; /* of the temporary */
	int fd;     /* -1: it has the object's name */
};

void
firn_local_unstage(FirnStore *store, FirnStaged *staged)
{
	(void)store;
	if (staged->fd >= 0) {
		close(staged->fd);
		(void)unlinkat(staged->local->root, staged->name, 0);
	}
	g_free(staged->key);
	g_free(staged->name);
	g_free(staged);
}

/* Write and sync the whole object under a name beside its own. */
FirnStaged *
firn_local_stage(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	FirnStaged *staged = g_new0(FirnStaged, 1);
	gsize len;
	const void *bytes = g_bytes_get_data(data, &len);
	int failed;

	staged->local = local;
	staged->key = g_strdup(key);
	staged->name = temporary_name(key);
	staged->fd = firn_local_create(local, staged->name, O_RDWR | O_EXCL, error);
	if (staged->fd >= 0) {
		failed = firn_local_write_all(staged->fd, bytes, len, 0);
		if (failed == 0)
			failed = firn_local_fsync(staged->fd);
		if (failed == 0)
			return staged;
		firn_local_fail(local, error, failed, "write", key);
	}
	firn_local_unstage(store, staged);
	return NULL;
}

/* After it got the object's name: nothing to remove any more. */
static bool
published(FirnStaged *staged, FirnVersion *out_version, GError **error)
{
	struct stat st;
	int failed = fstat(staged->fd, &st) != 0 ? errno : 0;

	close(staged->fd);
	staged->fd = -1;
	if (failed == 0)
		failed = firn_local_sync_dir_of(staged->local, staged->key);
	if (failed != 0) {
		firn_local_fail(staged->local, error, failed, "sync", staged->key);
		return false;
	}
	if (out_version != NULL)
		*out_version = firn_local_version(&st);
	return true;
}

/* ---- put ---- */

/* The version of `key` now, "" if there is none.  0 or an errno. */
static int
current_version(FirnLocal *local, const char *key, FirnVersion *out_version, struct stat *out_st)
{
	memset(out_version, 0, sizeof *out_version);
	if (fstatat(local->root, key, out_st, 0) != 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : errno;
	*out_version = firn_local_version(out_st);
	return 0;
}

static bool
check_version(FirnLocal *local, const char *key, const FirnVersion *expected, struct stat *out_st,
	      GError **error)
{
	FirnVersion now;
	int failed = current_version(local, key, &now, out_st);

	if (failed != 0) {
		firn_local_fail(local, error, failed, "look at", key);
		return false;
	}
	return strcmp(now.tag, expected->tag) == 0 || lost_race(local, key, error);
}

/*
 * Let times grow with every replacement: an inode number can be used again
 * within one tick of the file system's clock, and must not repeat a version.
 */
static int
make_newer(int fd, const struct stat *old)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, old->st_mtim };
	struct stat st;

	if (fstat(fd, &st) != 0)
		return errno;
	if (st.st_mtim.tv_sec > old->st_mtim.tv_sec ||
	    (st.st_mtim.tv_sec == old->st_mtim.tv_sec && st.st_mtim.tv_nsec > old->st_mtim.tv_nsec))
		return 0;
	/* A whole microsecond: not every file system stores nanoseconds. */
	times[1].tv_nsec += 1000;
	if (times[1].tv_nsec >= 1000000000) {
		times[1].tv_nsec -= 1000000000;
		times[1].tv_sec++;
	}
	if (futimens(fd, times) != 0)
		return errno;
	return firn_local_fsync(fd);
}

static bool
replace_locked(FirnStaged *staged, const FirnVersion *expected, GError **error)
{
	FirnLocal *local = staged->local;
	struct stat old;
	int failed;

	if (!check_version(local, staged->key, expected, &old, error))
		return false;
	failed = make_newer(staged->fd, &old);
	if (failed != 0) {
		firn_local_fail(local, error, failed, "write", staged->key);
		return false;
	}
	/* The official library takes no lock: look once more as late as can be. */
	if (!check_version(local, staged->key, expected, &old, error))
		return false;
	if (renameat(local->root, staged->name, local->root, staged->key) == 0)
		return true;
	firn_local_fail(local, error, errno, "replace", staged->key);
	return false;
}

static bool
publish_if_match(FirnStaged *staged, const FirnVersion *expected, GError **error)
{
	int lock = firn_local_lock(staged->local, error);
	bool ok;

	if (lock < 0)
		return false;
	ok = replace_locked(staged, expected, error);
	firn_local_unlock(lock);
	return ok;
}

static bool
publish_any(FirnStaged *staged, GError **error)
{
	FirnLocal *local = staged->local;

	if (renameat(local->root, staged->name, local->root, staged->key) == 0)
		return true;
	firn_local_fail(local, error, errno, "replace", staged->key);
	return false;
}

static bool
link_is_refused(int errnum)
{
	return errnum == EPERM || errnum == EOPNOTSUPP || errnum == ENOSYS || errnum == EMLINK ||
	       errnum == EACCES;
}

/* For file systems that have neither hard links nor the rename that refuses. */
static int
create_locked(FirnLocal *local, const char *name, const char *key, GError **error)
{
	int lock = firn_local_lock(local, error);
	struct stat st;
	int failed = EEXIST;

	if (lock < 0)
		return -1;
	if (fstatat(local->root, key, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		failed = errno;
		if (failed == ENOENT)
			failed = renameat(local->root, name, local->root, key) != 0 ? errno : 0;
	}
	firn_local_unlock(lock);
	return failed;
}

static bool
publish_if_absent(FirnStaged *staged, GError **error)
{
	FirnLocal *local = staged->local;
	const char *name = staged->name;
	const char *key = staged->key;
	int failed = linkat(local->root, name, local->root, key, 0) != 0 ? errno : 0;

	if (failed == 0)
		(void)unlinkat(local->root, name, 0);
	else if (link_is_refused(failed))
		failed = renameat2(local->root, name, local->root, key, RENAME_NOREPLACE) != 0
				 ? errno
				 : 0;
	if (failed == EINVAL || failed == ENOSYS)
		failed = create_locked(local, name, key, error);
	if (failed == EEXIST)
		return lost_race(local, key, error);
	if (failed > 0)
		firn_local_fail(local, error, failed, "create", key);
	return failed == 0;
}

static bool
publish(FirnStaged *staged, FirnPutMode mode, const FirnVersion *expected, GError **error)
{
	switch (mode) {
	case FIRN_PUT_ANY:
		return publish_any(staged, error);
	case FIRN_PUT_IF_ABSENT:
		return publish_if_absent(staged, error);
	case FIRN_PUT_IF_MATCH:
		return publish_if_match(staged, expected, error);
	}
	g_return_val_if_reached(false);
}

/* Ends `staged`. */
static bool
put(FirnStaged *staged, FirnPutMode mode, const FirnVersion *expected, FirnVersion *out_version,
    GError **error)
{
	bool ok;

	firn_crash_point(FIRN_CRASH_PUT_WRITTEN);
	if (mode == FIRN_PUT_IF_MATCH && expected->tag[0] == '\0')
		mode = FIRN_PUT_IF_ABSENT;
	ok = publish(staged, mode, expected, error);
	if (ok) {
		firn_crash_point(FIRN_CRASH_PUT_NAMED);
		ok = published(staged, out_version, error);
	}
	firn_local_unstage(&staged->local->base, staged);
	return ok;
}

bool
firn_local_put_staged(FirnStore *store, FirnStaged *staged, const FirnVersion *expected,
		      FirnVersion *out_version, GError **error)
{
	(void)store;
	return put(staged, FIRN_PUT_IF_MATCH, expected, out_version, error);
}

bool
firn_local_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
	       const FirnVersion *expected, FirnVersion *out_version, GError **error)
{
	FirnStaged *staged;
	struct stat st;

	/* A race already lost is not worth a sync. */
	if (mode == FIRN_PUT_IF_MATCH && expected->tag[0] != '\0' &&
	    !check_version(firn_local_of(store), key, expected, &st, error))
		return false;
	staged = firn_local_stage(store, key, data, error);
	return staged != NULL && put(staged, mode, expected, out_version, error);
}

/* ---- copy ---- */

static bool
copy_bytes(FirnStore *store, const char *from, const char *to, const FirnVersion *expected,
	   GError **error)
{
	g_autoptr(GBytes) data = NULL;
	FirnVersion version;

	if (!firn_store_get(store, from, 0, UINT64_MAX, &data, &version, error))
		return false;
	if (data == NULL || strcmp(version.tag, expected->tag) != 0)
		return lost_race(firn_local_of(store), from, error);
	return firn_local_put(store, to, data, FIRN_PUT_IF_ABSENT, NULL, NULL, error);
}

static int
link_object(FirnLocal *local, const char *from, const char *to, GError **error)
{
	int made;

	if (linkat(local->root, from, local->root, to, 0) == 0)
		return 0;
	if (errno != ENOENT)
		return errno;
	/* The first object of its directory: making a file there makes the directory. */
	g_autofree char *name = temporary_name(to);

	made = firn_local_create(local, name, O_WRONLY | O_EXCL, error);
	if (made < 0)
		return -1;
	close(made);
	(void)unlinkat(local->root, name, 0);
	return linkat(local->root, from, local->root, to, 0) == 0 ? 0 : errno;
}

/* The object may come from a writer that never syncs. */
static int
sync_copy(FirnLocal *local, const char *key)
{
	int fd = firn_local_openat(local->root, key, O_RDONLY, 0);
	int failed = fd < 0 ? errno : firn_local_fsync(fd);

	if (fd >= 0)
		close(fd);
	return failed != 0 ? failed : firn_local_sync_dir_of(local, key);
}

bool
firn_local_copy(FirnStore *store, const char *from, const char *to, const FirnVersion *expected,
		GError **error)
{
	FirnLocal *local = firn_local_of(store);
	struct stat st;
	int failed;

	if (expected->tag[0] == '\0' || !check_version(local, from, expected, &st, error))
		return expected->tag[0] == '\0' ? lost_race(local, from, error) : false;
	failed = link_object(local, from, to, error);
	if (failed < 0)
		return false;
	if (failed == ENOENT)
		return lost_race(local, from, error);
	if (failed == EEXIST)
		return lost_race(local, to, error);
	if (failed != 0 && link_is_refused(failed))
		return copy_bytes(store, from, to, expected, error);
	if (failed == 0) {
		/* `from` may have been replaced between the look and the link. */
		if (!check_version(local, to, expected, &st, error)) {
			(void)unlinkat(local->root, to, 0);
			return false;
		}
		failed = sync_copy(local, to);
	}
	if (failed != 0)
		firn_local_fail(local, error, failed, "copy to", to);
	return failed == 0;
}
