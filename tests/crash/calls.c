/*
 * Preloaded into firn and firnfs: every call that changes a file or directory
 * below FIRN_CALLS_ROOT is counted, and can be recorded, made to fail, or be
 * the last thing the process does.  FIRN_CALLS_CONTROL names a file of one
 * `Control`, shared with the test; FIRN_CALLS_LOG, if set, a log of `Entry`s.
 *
 * Calls are made one at a time, over all processes, and logged when they have
 * succeeded: the log is in the order in which things happened.
 *
 * With FIRN_CALLS_UNREADABLE, "N:PATH", the N-th pread of that file and all behind it fail.
 * With FIRN_CALLS_ABORTED, who reads from a mount that is gone gets ECONNABORTED.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DELAY  1000
#define EXPORT __attribute__((visibility("default")))

typedef struct {
	uint64_t count; /* calls so far */
	uint64_t at;    /* number of the first call that fails, from 1; 0: none */
	uint64_t times; /* how many fail */
	int32_t errnum; /* as what; 0: the process dies instead of the call; -1: after it; DELAY + n:
			    the call begins n ms late */
	uint32_t failed; /* calls that failed so far */
	char what[16];   /* the last of them */
	char path[200];
} Control;

typedef struct {
	char what[8];
	uint64_t ino, offset, len;
	uint32_t path_len, path2_len, data_len, flags;
} Entry; /* followed by path, path2, data */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Control *control;
static int log_fd = -1;
static const char *root;
static bool aborted;
static const char *unreadable; /* a path; NULL: none */
static long reads_left;

static void *
real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}
#define REAL(name) ((__typeof__(&name))real(#name))

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("FIRN_CALLS_CONTROL");
	const char *log = getenv("FIRN_CALLS_LOG");
	void *memory;
	int fd;

	aborted = getenv("FIRN_CALLS_ABORTED") != NULL;
	unreadable = getenv("FIRN_CALLS_UNREADABLE");
	if (unreadable != NULL) {
		reads_left = strtol(unreadable, NULL, 10);
		unreadable = strchr(unreadable, ':') + 1;
	}
	root = getenv("FIRN_CALLS_ROOT");
	if (root == NULL || path == NULL)
		return;
	fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
	memory = fd < 0 ? MAP_FAILED
			: mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		abort();
	close(fd);
	control = memory;
	if (log != NULL)
		log_fd = REAL(open)(log, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static bool
below_root(const char *path)
{
	size_t len = root != NULL ? strlen(root) : 0;

	return control != NULL && strncmp(path, root, len) == 0 &&
	       (path[len] == '/' || path[len] == '\0');
}

/* The absolute path of a name in a directory. */
static bool
path_at(int dir, const char *name, char out[PATH_MAX])
{
	char link[40], base[PATH_MAX] = "";
	ssize_t len;

	if (control == NULL || name == NULL)
		return false;
	if (name[0] != '/') {
		(void)snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
		if (dir == AT_FDCWD)
			(void)strcpy(link, "/proc/self/cwd");
		len = readlink(link, base, sizeof base - 1);
		if (len < 0)
			return false;
		base[len] = '\0';
	}
	return snprintf(out, PATH_MAX, "%s%s%s", base, name[0] != '/' ? "/" : "", name) <
		       PATH_MAX &&
	       below_root(out);
}

static bool
path_of(int fd, char out[PATH_MAX])
{
	char link[40];
	ssize_t len;

	if (control == NULL)
		return false;
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	len = readlink(link, out, PATH_MAX - 1);
	if (len < 0)
		return false;
	out[len] = '\0';
	return below_root(out);
}

static void
die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static bool dies_after;

/* Before a call: false, with errno, if it is to fail. */
static bool
enter(const char *what, const char *path)
{
	uint64_t n;

	pthread_mutex_lock(&mutex);
	if (log_fd >= 0)
		(void)flock(log_fd, LOCK_EX);
	n = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
	if (control->at == 0 || n < control->at || n - control->at >= control->times)
		return true;
	(void)snprintf(control->what, sizeof control->what, "%s", what);
	(void)snprintf(control->path, sizeof control->path, "%s", path);
	__atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
	if (control->errnum == 0)
		die();
	if (control->errnum < 0) {
		dies_after = true;
		return true;
	}
	if (control->errnum >= DELAY) {
		(void)usleep((unsigned)(control->errnum - DELAY) * 1000);
		return true;
	}
	errno = control->errnum;
	return false;
}

static void
note(const Entry *entry, const char *path, const char *path2, const void *data)
{
	Entry full = *entry;
	size_t size;
	char *all, *at;

	if (log_fd < 0)
		return;
	full.path_len = (uint32_t)strlen(path);
	full.path2_len = path2 != NULL ? (uint32_t)strlen(path2) : 0;
	full.data_len = data != NULL ? (uint32_t)entry->len : 0;
	size = sizeof full + full.path_len + full.path2_len + full.data_len;
	at = all = malloc(size);
	if (all == NULL)
		abort();
	memcpy(at, &full, sizeof full);
	at += sizeof full;
	memcpy(at, path, full.path_len);
	at += full.path_len;
	if (path2 != NULL)
		memcpy(at, path2, full.path2_len);
	at += full.path2_len;
	if (data != NULL)
		memcpy(at, data, full.data_len);
	if (REAL(write)(log_fd, all, size) != (ssize_t)size)
		abort();
	free(all);
}

/* After a call that was entered; keeps errno. */
static void
leave(void)
{
	int errnum = errno;

	if (dies_after)
		die();
	if (log_fd >= 0)
		(void)flock(log_fd, LOCK_UN);
	pthread_mutex_unlock(&mutex);
	errno = errnum;
}

static uint64_t
ino_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* ---- files ---- */

static int
open_any(int dir, const char *name, int flags, mode_t mode)
{
	char path[PATH_MAX];
	bool made;
	int fd = -1;

	if ((flags & (O_CREAT | O_TRUNC)) == 0 || (flags & O_DIRECTORY) != 0 ||
	    !path_at(dir, name, path))
		return REAL(openat)(dir, name, flags, mode);
	if (enter("open", path)) {
		struct stat st;

		made = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0;
		fd = REAL(openat)(dir, name, flags, mode);
		if (fd >= 0 && made)
			note(&(Entry){ .what = "create", .ino = ino_of(fd) }, path, NULL, NULL);
		else if (fd >= 0 && (flags & O_TRUNC) != 0)
			note(&(Entry){ .what = "trunc", .ino = ino_of(fd) }, path, NULL, NULL);
	}
	leave();
	return fd;
}

static mode_t
mode_of(int flags, va_list args)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE
		       ? (mode_t)va_arg(args, unsigned)
		       : 0;
}

#define OPEN(name)                                            \
	EXPORT int name(const char *path, int flags, ...)     \
	{                                                     \
		va_list args;                                 \
		mode_t mode;                                  \
                                                              \
		va_start(args, flags);                        \
		mode = mode_of(flags, args);                  \
		va_end(args);                                 \
		return open_any(AT_FDCWD, path, flags, mode); \
	}
#define OPENAT(name)                                               \
	EXPORT int name(int dir, const char *path, int flags, ...) \
	{                                                          \
		va_list args;                                      \
		mode_t mode;                                       \
                                                                   \
		va_start(args, flags);                             \
		mode = mode_of(flags, args);                       \
		va_end(args);                                      \
		return open_any(dir, path, flags, mode);           \
	}
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* glibc's own makes its names by system calls that nobody can step in front of. */
EXPORT int
mkostemp(char *template, int flags)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	char *tail = template + strlen(template) - 6;
	static _Atomic unsigned n;

	for (unsigned tries = 0; tries < 1000; tries++) {
		unsigned v = (unsigned)getpid() * 7919 + n++ * 104729 + tries;
		int fd;

		for (int i = 0; i < 6; i++, v = v / 3 + v * 31)
			tail[i] = letters[v % 36];
		fd = open_any(AT_FDCWD, template, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

static ssize_t
write_any(int fd, const void *data, size_t len, off_t offset, bool at_offset)
{
	char path[PATH_MAX];
	ssize_t n = -1;

	if (!path_of(fd, path))
		return at_offset ? REAL(pwrite)(fd, data, len, offset) : REAL(write)(fd, data, len);
	if (enter("write", path)) {
		if (!at_offset)
			offset = lseek(fd, 0, SEEK_CUR);
		n = REAL(pwrite)(fd, data, len, offset);
		if (n > 0 && !at_offset)
			(void)lseek(fd, n, SEEK_CUR);
		if (n > 0)
			note(&(Entry){ .what = "write",
				       .ino = ino_of(fd),
				       .offset = (uint64_t)offset,
				       .len = (uint64_t)n },
			     path, NULL, data);
	} else if (errno == ENOSPC && at_offset) {
		/* A disk that is full has taken a part of it. */
		(void)REAL(pwrite)(fd, data, len / 2, offset);
		errno = ENOSPC;
	}
	leave();
	return n;
}

EXPORT ssize_t
write(int fd, const void *data, size_t len)
{
	return write_any(fd, data, len, 0, false);
}

EXPORT ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
	return write_any(fd, data, len, offset, true);
}

EXPORT ssize_t
pwrite64(int fd, const void *data, size_t len, off_t offset)
{
	return write_any(fd, data, len, offset, true);
}

EXPORT ssize_t
read(int fd, void *data, size_t len)
{
	ssize_t n = REAL(read)(fd, data, len);

	if (n < 0 && errno == ENODEV && aborted)
		errno = ECONNABORTED;
	return n;
}

static int
truncate_any(int fd, off_t size)
{
	char path[PATH_MAX];
	int result = -1;

	if (!path_of(fd, path))
		return REAL(ftruncate)(fd, size);
	if (enter("truncate", path)) {
		result = REAL(ftruncate)(fd, size);
		if (result == 0)
			note(&(Entry){ .what = "trunc",
				       .ino = ino_of(fd),
				       .offset = (uint64_t)size },
			     path, NULL, NULL);
	}
	leave();
	return result;
}

EXPORT int
ftruncate(int fd, off_t size)
{
	return truncate_any(fd, size);
}

EXPORT int
ftruncate64(int fd, off_t size)
{
	return truncate_any(fd, size);
}

static int
allocate_any(int fd, int mode, off_t offset, off_t len)
{
	char path[PATH_MAX];
	int result = -1;

	if (!path_of(fd, path))
		return REAL(fallocate)(fd, mode, offset, len);
	if (enter("punch", path)) {
		result = REAL(fallocate)(fd, mode, offset, len);
		if (result == 0 && (mode & FALLOC_FL_PUNCH_HOLE) != 0)
			note(&(Entry){ .what = "punch",
				       .ino = ino_of(fd),
				       .offset = (uint64_t)offset,
				       .len = (uint64_t)len },
			     path, NULL, NULL);
	}
	leave();
	return result;
}

EXPORT int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	return allocate_any(fd, mode, offset, len);
}

EXPORT int
fallocate64(int fd, int mode, off_t offset, off_t len)
{
	return allocate_any(fd, mode, offset, len);
}

#define SYNC(name, text)                                                                     \
	EXPORT int name(int fd)                                                              \
	{                                                                                    \
		char path[PATH_MAX];                                                         \
		int result = -1;                                                             \
                                                                                             \
		if (!path_of(fd, path))                                                      \
			return REAL(name)(fd);                                               \
		if (enter(text, path)) {                                                     \
			result = 0; /* what is not on a disk yet is the test's business */   \
			note(&(Entry){ .what = text, .ino = ino_of(fd) }, path, NULL, NULL); \
		}                                                                            \
		leave();                                                                     \
		return result;                                                               \
	}
SYNC(fsync, "fsync")
SYNC(fdatasync, "fsync")
SYNC(syncfs, "syncfs")

/* ---- names ---- */

#define NAMED(text, call, path, path2)                                             \
	do {                                                                       \
		int result = -1;                                                   \
                                                                                   \
		if (enter(text, path)) {                                           \
			result = (call);                                           \
			if (result == 0)                                           \
				note(&(Entry){ .what = text }, path, path2, NULL); \
		}                                                                  \
		leave();                                                           \
		return result;                                                     \
	} while (0)

EXPORT int
renameat2(int dir, const char *from, int dir2, const char *to, unsigned flags)
{
	char path[PATH_MAX], path2[PATH_MAX];

	if (!path_at(dir, from, path) || !path_at(dir2, to, path2))
		return REAL(renameat2)(dir, from, dir2, to, flags);
	NAMED("rename", REAL(renameat2)(dir, from, dir2, to, flags), path, path2);
}

EXPORT int
renameat(int dir, const char *from, int dir2, const char *to)
{
	return renameat2(dir, from, dir2, to, 0);
}

EXPORT int
rename(const char *from, const char *to)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int
linkat(int dir, const char *from, int dir2, const char *to, int flags)
{
	char path[PATH_MAX], path2[PATH_MAX];

	if (!path_at(dir, from, path) || !path_at(dir2, to, path2))
		return REAL(linkat)(dir, from, dir2, to, flags);
	NAMED("link", REAL(linkat)(dir, from, dir2, to, flags), path, path2);
}

EXPORT int
unlinkat(int dir, const char *name, int flags)
{
	char path[PATH_MAX];

	if (!path_at(dir, name, path))
		return REAL(unlinkat)(dir, name, flags);
	NAMED("unlink", REAL(unlinkat)(dir, name, flags), path, NULL);
}

EXPORT int
unlink(const char *name)
{
	return unlinkat(AT_FDCWD, name, 0);
}

EXPORT int
rmdir(const char *name)
{
	return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

EXPORT int
mkdirat(int dir, const char *name, mode_t mode)
{
	char path[PATH_MAX];

	if (!path_at(dir, name, path))
		return REAL(mkdirat)(dir, name, mode);
	NAMED("mkdir", REAL(mkdirat)(dir, name, mode), path, NULL);
}

EXPORT int
mkdir(const char *name, mode_t mode)
{
	return mkdirat(AT_FDCWD, name, mode);
}

static ssize_t
pread_any(int fd, void *data, size_t len, off_t offset)
{
	char link[40], path[PATH_MAX];
	ssize_t n = 0;
	bool fails;

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (unreadable != NULL)
		n = readlink(link, path, sizeof path - 1);
	if (n <= 0 || (size_t)n != strlen(unreadable) || memcmp(path, unreadable, (size_t)n) != 0)
		return REAL(pread)(fd, data, len, offset);
	pthread_mutex_lock(&mutex);
	fails = --reads_left <= 0;
	pthread_mutex_unlock(&mutex);
	if (!fails)
		return REAL(pread)(fd, data, len, offset);
	errno = EIO;
	return -1;
}

EXPORT ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
	return pread_any(fd, data, len, offset);
}

EXPORT ssize_t
pread64(int fd, void *data, size_t len, off_t offset)
{
	return pread_any(fd, data, len, offset);
}
