#include "core/repo/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Locked, shared, by every process that uses the directory. */
#define USERS      "users"
#define UNFINISHED ".new"
/* What begins otherwise is not ours, and stays. */
#define PREFIX "content-"

/* Content is there after some milliseconds, unless whoever makes it was stopped. */
#define PATIENCE_US ((int64_t)100 * 1000)
#define POLL_US     1000u

/* Behind the content, which begins with a page. */
typedef struct {
	char magic[8];
	uint64_t len;
	uint64_t checksum; /* of the content, seeded with its name */
} Trailer;

static const char trailer_magic[8] = "FIRNSH1";

struct FirnShared {
	int directory;
	int users;
	size_t max_bytes;
};

struct FirnSharedTurn {
	FirnShared *shared;
	char *name;
	int fd;       /* locked */
	void *memory; /* of what was made; NULL: nothing was */
	size_t size;  /* mapped there */
};

static int
open_at(FirnShared *shared, const char *name, int flags)
{
	return openat(shared->directory, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static char *
unfinished_name(const char *name)
{
	return g_strconcat(name, UNFINISHED, NULL);
}

/* ---- mapping ---- */

typedef struct {
	void *at;
	size_t len;
} Mapping;

static void
unmap(gpointer data)
{
	Mapping *mapping = data;

	munmap(mapping->at, mapping->len);
	g_free(mapping);
}

/*
 * The first `len` bytes of a file of `size`; NULL if they cannot be mapped.  `out_memory`: all of
 * them will be written there; NULL: nothing will be.  Caller owns.
 */
static GBytes *
map_content(int fd, size_t len, size_t size, void **out_memory)
{
	int writing = out_memory != NULL ? PROT_WRITE : 0;
	Mapping *mapping;
	void *at = mmap(NULL, size, PROT_READ | writing, MAP_SHARED | (writing ? MAP_POPULATE : 0),
			fd, 0);

	if (at == MAP_FAILED)
		return NULL;
	if (out_memory != NULL)
		*out_memory = at;
	mapping = g_new(Mapping, 1);
	*mapping = (Mapping){ at, size };
	return g_bytes_new_with_free_func(at, len, unmap, mapping);
}

static uint64_t
checksum_of(const char *name, FirnSpan content)
{
	return XXH3_64bits_withSeed(content.data, content.len, XXH3_64bits(name, strlen(name)));
}

/* Map what `fd` holds if it is whole, and is the content of `name`. */
static GBytes *
map_checked(int fd, const char *name)
{
	GBytes *content;
	FirnSpan span;
	Trailer trailer;
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_size <= (off_t)sizeof trailer)
		return NULL;
	span.len = (size_t)st.st_size - sizeof trailer;
	content = map_content(fd, span.len, (size_t)st.st_size, NULL);
	if (content == NULL)
		return NULL;
	span.data = g_bytes_get_data(content, NULL);
	memcpy(&trailer, span.data + span.len, sizeof trailer);
	if (memcmp(trailer.magic, trailer_magic, sizeof trailer_magic) == 0 &&
	    trailer.len == span.len && trailer.checksum == checksum_of(name, span))
		return content;
	g_bytes_unref(content);
	return NULL;
}

/* The content of `name`; what is no such thing goes, so that it can be made again. */
static GBytes *
look(FirnShared *shared, const char *name)
{
	int fd = open_at(shared, name, O_RDONLY);
	GBytes *content;

	if (fd < 0)
		return NULL;
	content = map_checked(fd, name);
	/* When it was used last decides what goes first. */
	if (content != NULL)
		(void)futimens(fd, NULL);
	else
		(void)unlinkat(shared->directory, name, 0);
	close(fd);
	return content;
}

/* ---- turns ---- */

/* Whether `fd` still is what `name` leads to. */
static bool
is_there(FirnShared *shared, const char *name, int fd)
{
	struct stat mine, there;

	return fstat(fd, &mine) == 0 &&
	       fstatat(shared->directory, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

/* NULL, and `*out_busy`: somebody else has it, or just had. */
static FirnSharedTurn *
take_turn(FirnShared *shared, const char *name, bool *out_busy)
{
	g_autofree char *unfinished = unfinished_name(name);
	int fd = open_at(shared, unfinished, O_RDWR | O_CREAT);
	FirnSharedTurn *turn;

	*out_busy = fd >= 0;
	if (fd < 0)
		return NULL;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || !is_there(shared, unfinished, fd)) {
		close(fd);
		return NULL;
	}
	turn = g_new(FirnSharedTurn, 1);
	*turn = (FirnSharedTurn){ .shared = shared, .name = g_strdup(name), .fd = fd };
	return turn;
}

static void
end_turn(FirnSharedTurn *turn)
{
	close(turn->fd);
	g_free(turn->name);
	g_free(turn);
}

void
firn_shared_turn_drop(FirnSharedTurn *turn)
{
	g_autofree char *unfinished = NULL;

	if (turn == NULL)
		return;
	unfinished = unfinished_name(turn->name);
	(void)unlinkat(turn->shared->directory, unfinished, 0);
	end_turn(turn);
}

GBytes *
firn_shared_find(FirnShared *shared, const char *name, FirnSharedTurn **out_turn)
{
	int64_t give_up = g_get_monotonic_time() + PATIENCE_US;
	bool busy = true;

	if (out_turn == NULL)
		return look(shared, name);
	*out_turn = NULL;
	for (;;) {
		GBytes *content = look(shared, name);

		/* Also with a turn: it may have been made right before. */
		if (content != NULL) {
			firn_shared_turn_drop(*out_turn);
			*out_turn = NULL;
		}
		if (content != NULL || *out_turn != NULL)
			return content;
		*out_turn = take_turn(shared, name, &busy);
		if (*out_turn != NULL)
			continue;
		if (!busy || g_get_monotonic_time() >= give_up)
			return NULL;
		g_usleep(POLL_US);
	}
}

/* ---- room ---- */

typedef struct {
	char *name;
	uint64_t bytes;
	struct timespec used;
} File;

static void
clear_file(gpointer data)
{
	g_free(((File *)data)->name);
}

static gint
by_use(gconstpointer a, gconstpointer b)
{
	const struct timespec *s = &((const File *)a)->used;
	const struct timespec *t = &((const File *)b)->used;

	if (s->tv_sec != t->tv_sec)
		return s->tv_sec < t->tv_sec ? -1 : 1;
	return s->tv_nsec < t->tv_nsec ? -1 : s->tv_nsec > t->tv_nsec;
}

/* Of somebody who was killed. */
static bool
is_abandoned(FirnShared *shared, const char *unfinished)
{
	int fd = open_at(shared, unfinished, O_RDWR);
	bool abandoned = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;

	/* Still locked when it goes: who opened it meanwhile sees that it is gone. */
	if (abandoned && is_there(shared, unfinished, fd))
		(void)unlinkat(shared->directory, unfinished, 0);
	if (fd >= 0)
		close(fd);
	return abandoned;
}

/* What is in the directory, but for what is being made; NULL if it cannot be listed.  Caller owns. */
static GArray *
list_files(FirnShared *shared)
{
	int fd = open_at(shared, ".", O_RDONLY | O_DIRECTORY);
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	GArray *files;

	if (directory == NULL) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	files = g_array_new(FALSE, FALSE, sizeof(File));
	g_array_set_clear_func(files, clear_file);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while ((entry = readdir(directory)) != NULL) {
		struct stat st;
		File file;

		if (!g_str_has_prefix(entry->d_name, PREFIX) ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    (g_str_has_suffix(entry->d_name, UNFINISHED) &&
		     is_abandoned(shared, entry->d_name)))
			continue;
		file.name = g_strdup(entry->d_name);
		file.bytes = (uint64_t)st.st_blocks * 512;
		file.used = st.st_mtim;
		g_array_append_val(files, file);
	}
	closedir(directory);
	return files;
}

/* Remove what was not used for longest, until there is room for `wanted` bytes; SIZE_MAX: all. */
static void
make_room(FirnShared *shared, size_t wanted)
{
	g_autoptr(GArray) files = list_files(shared);
	uint64_t room = shared->max_bytes - MIN(wanted, shared->max_bytes);
	uint64_t used = 0;

	if (files == NULL)
		return;
	for (guint i = 0; i < files->len; i++)
		used += g_array_index(files, File, i).bytes;
	g_array_sort(files, by_use);
	for (guint i = 0; i < files->len && (used > room || wanted == SIZE_MAX); i++) {
		const File *file = &g_array_index(files, File, i);

		if (g_str_has_suffix(file->name, UNFINISHED))
			continue;
		if (unlinkat(shared->directory, file->name, 0) == 0)
			used -= file->bytes;
	}
}

GBytes *
firn_shared_make(FirnSharedTurn *turn, size_t size, void **out_memory)
{
	FirnShared *shared = turn->shared;
	size_t all = size + sizeof(Trailer);
	GBytes *content;

	/* What takes most of the room would push out all else. */
	if (size == 0 || size > shared->max_bytes / 2)
		return NULL;
	make_room(shared, all);
	/* A killed predecessor may have left something.  Memory that is not there would kill us later. */
	if (ftruncate(turn->fd, 0) != 0 || posix_fallocate(turn->fd, 0, (off_t)all) != 0)
		return NULL;
	turn->size = all;
	content = map_content(turn->fd, size, all, &turn->memory);
	*out_memory = turn->memory;
	return content;
}

bool
firn_shared_publish(FirnSharedTurn *turn, GBytes *content)
{
	g_autofree char *unfinished = unfinished_name(turn->name);
	int directory = turn->shared->directory;
	FirnSpan span = { .data = g_bytes_get_data(content, &span.len) };
	Trailer trailer = { .len = span.len };
	bool ok;

	/* There was no room for it. */
	if (turn->memory == NULL || turn->memory != span.data) {
		firn_shared_turn_drop(turn);
		return false;
	}
	memcpy(trailer.magic, trailer_magic, sizeof trailer_magic);
	trailer.checksum = checksum_of(turn->name, span);
	memcpy((uint8_t *)turn->memory + span.len, &trailer, sizeof trailer);
	ok = mprotect(turn->memory, turn->size, PROT_READ) == 0 &&
	     renameat(directory, unfinished, directory, turn->name) == 0;
	if (ok)
		end_turn(turn);
	else
		firn_shared_turn_drop(turn);
	return ok;
}

char *
firn_shared_name(int fd, uint64_t *out_size)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return NULL;
	*out_size = (uint64_t)st.st_size;
	return g_strdup_printf(PREFIX "%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%lx-%" PRIx64
				      ".%lx",
			       (uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size,
			       (uint64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			       (uint64_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

/* ---- the directory ---- */

static int
open_directory(const char *path, GError **error)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		firn_error_set_errno(error, errno, "cannot make the directory %s", path);
		return -1;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) != 0) {
		firn_error_set_errno(error, errno, "cannot open the directory %s", path);
	} else if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_DENIED,
			    "%s is not yours alone: remove it, or name another directory", path);
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Whoever ends as the last one removes files under this lock, and that does not take long. */
static bool
lock_users(int users)
{
	int64_t give_up = g_get_monotonic_time() + PATIENCE_US;

	while (flock(users, LOCK_SH | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK || g_get_monotonic_time() >= give_up)
			return false;
		g_usleep(POLL_US);
	}
	return true;
}

FirnShared *
firn_shared_open(const char *directory, size_t max_bytes, GError **error)
{
	int fd = open_directory(directory, error);
	FirnShared *shared;

	if (fd < 0)
		return NULL;
	shared = g_new(FirnShared, 1);
	*shared = (FirnShared){ .directory = fd, .max_bytes = max_bytes };
	shared->users = open_at(shared, USERS, O_RDWR | O_CREAT);
	if (shared->users >= 0 && lock_users(shared->users))
		return shared;
	firn_error_set_errno(error, errno, "cannot lock %s/" USERS, directory);
	if (shared->users >= 0)
		close(shared->users);
	close(shared->directory);
	g_free(shared);
	return NULL;
}

void
firn_shared_free(FirnShared *shared)
{
	if (shared == NULL)
		return;
	/* Another user, also one that comes right now, makes this fail. */
	if (flock(shared->users, LOCK_EX | LOCK_NB) == 0)
		make_room(shared, SIZE_MAX);
	close(shared->users);
	close(shared->directory);
	g_free(shared);
}
