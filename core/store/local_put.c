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

/* ---- put ---- */

typedef struct {
	FirnLocal *local;
	const char *key;
	char *name; /* of the temporary */
	int fd;
} Temporary;

static void
temporary_end(Temporary *temporary)
{
	if (temporary->fd >= 0) {
		close(temporary->fd);
		(void)unlinkat(temporary->local->root, temporary->name, 0);
	}
	g_free(temporary->name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Temporary, temporary_end)

/* Write and sync the whole object under a name beside its own. */
static bool
temporary_begin(Temporary *temporary, GBytes *data, GError **error)
{
	gsize len;
	const void *bytes = g_bytes_get_data(data, &len);
	int failed;

	temporary->name = temporary_name(temporary->key);
	temporary->fd =
		firn_local_create(temporary->local, temporary->name, O_RDWR | O_EXCL, error);
	if (temporary->fd < 0)
		return false;
	failed = firn_local_write_all(temporary->fd, bytes, len, 0);
	if (failed == 0)
		failed = firn_local_fsync(temporary->fd);
	if (failed != 0)
		firn_local_fail(temporary->local, error, failed, "write", temporary->key);
	return failed == 0;
}

/* After the temporary got the object's name: nothing to remove any more. */
static bool
temporary_published(Temporary *temporary, FirnVersion *out_version, GError **error)
{
	struct stat st;
	int failed = fstat(temporary->fd, &st) != 0 ? errno : 0;

	close(temporary->fd);
	temporary->fd = -1;
	if (failed == 0)
		failed = firn_local_sync_dir_of(temporary->local, temporary->key);
	if (failed != 0) {
		firn_local_fail(temporary->local, error, failed, "sync", temporary->key);
		return false;
	}
	if (out_version != NULL)
		*out_version = firn_local_version(&st);
	return true;
}

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
replace_locked(Temporary *temporary, const FirnVersion *expected, GError **error)
{
	FirnLocal *local = temporary->local;
	struct stat old;
	int failed;

	if (!check_version(local, temporary->key, expected, &old, error))
		return false;
	failed = make_newer(temporary->fd, &old);
	if (failed != 0) {
		firn_local_fail(local, error, failed, "write", temporary->key);
		return false;
	}
	/* The official library takes no lock: look once more as late as can be. */
	if (!check_version(local, temporary->key, expected, &old, error))
		return false;
	if (renameat(local->root, temporary->name, local->root, temporary->key) == 0)
		return true;
	firn_local_fail(local, error, errno, "replace", temporary->key);
	return false;
}

static bool
publish_if_match(Temporary *temporary, const FirnVersion *expected, GError **error)
{
	int lock = firn_local_lock(temporary->local, error);
	bool ok;

	if (lock < 0)
		return false;
	ok = replace_locked(temporary, expected, error);
	firn_local_unlock(lock);
	return ok;
}

static bool
publish_any(Temporary *temporary, GError **error)
{
	FirnLocal *local = temporary->local;

	if (renameat(local->root, temporary->name, local->root, temporary->key) == 0)
		return true;
	firn_local_fail(local, error, errno, "replace", temporary->key);
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
publish_if_absent(Temporary *temporary, GError **error)
{
	FirnLocal *local = temporary->local;
	const char *name = temporary->name;
	const char *key = temporary->key;
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

bool
firn_local_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
	       const FirnVersion *expected, FirnVersion *out_version, GError **error)
{
	g_auto(Temporary) temporary = { .local = firn_local_of(store), .key = key, .fd = -1 };
	struct stat st;
	bool ok = false;

	if (mode == FIRN_PUT_IF_MATCH && expected->tag[0] == '\0')
		mode = FIRN_PUT_IF_ABSENT;
	/* A race already lost is not worth a sync. */
	if (mode == FIRN_PUT_IF_MATCH && !check_version(temporary.local, key, expected, &st, error))
		return false;
	if (!temporary_begin(&temporary, data, error))
		return false;
	firn_crash_point(FIRN_CRASH_PUT_WRITTEN);
	switch (mode) {
	case FIRN_PUT_ANY:
		ok = publish_any(&temporary, error);
		break;
	case FIRN_PUT_IF_ABSENT:
		ok = publish_if_absent(&temporary, error);
		break;
	case FIRN_PUT_IF_MATCH:
		ok = publish_if_match(&temporary, expected, error);
		break;
	}
	if (!ok)
		return false;
	firn_crash_point(FIRN_CRASH_PUT_NAMED);
	return temporary_published(&temporary, out_version, error);
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
