#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/store/local_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * Above this many objects one syncfs(2) is cheaper than a journal commit for each.  Up to here it
 * is not (measured with and without a journal), and waits for what others have written, too.
 */
#define SYNC_EACH_MAX 256

/* Worth an early start of the disk. */
#define LARGE ((size_t)64 * 1024)

/* The name an object has before it is published: a temporary's. */
#define UNPUBLISHED "#unpublished"

/*
 * Threads that wait for the disk, at most, besides the caller: it flushes its cache once for all that
 * ask meanwhile, which takes the more time the more others have written.
 */
#define MAX_HELPERS 31

static GHashTable *
dirs_of(const char *const *keys, size_t n_keys)
{
	GHashTable *dirs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	for (size_t i = 0; i < n_keys; i++)
		g_hash_table_add(dirs, firn_local_dir_of(keys[i]));
	return dirs;
}

/* Files and directories, synced by several threads: the disk does in one go what it has at once. */
typedef struct {
	FirnLocal *local;
	GPtrArray *paths; /* const char *: `n_files` files, then directories */
	guint n_files;
	pthread_mutex_t lock; /* protects all below */
	guint next;
	int failed;  /* an errno */
	guint which; /* of the paths */
} Syncing;

static int
sync_path(FirnLocal *local, const char *path, bool is_file)
{
	int fd, failed;

	if (!is_file)
		return firn_local_sync_dir(local, path);
	fd = firn_local_openat(local->root, path, O_RDONLY | O_NONBLOCK, 0);
	failed = fd < 0 ? errno : firn_local_fsync(fd);
	if (fd >= 0)
		close(fd);
	return failed;
}

static void *
sync_some(void *data)
{
	Syncing *s = data;

	pthread_mutex_lock(&s->lock);
	while (s->failed == 0 && s->next < s->paths->len) {
		guint i = s->next++;
		int failed;

		pthread_mutex_unlock(&s->lock);
		failed = sync_path(s->local, s->paths->pdata[i], i < s->n_files);
		pthread_mutex_lock(&s->lock);
		if (failed != 0 && s->failed == 0) {
			s->failed = failed;
			s->which = i;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static bool
sync_paths(Syncing *s, GError **error)
{
	guint n_helpers = MIN(s->paths->len / 2, MAX_HELPERS);
	pthread_t helpers[MAX_HELPERS];
	guint n = 0;

	/* A file and its directory are as soon done as a thread is there. */
	if (s->paths->len <= 2)
		n_helpers = 0;
	pthread_mutex_init(&s->lock, NULL);
	/* Without help it takes longer. */
	while (n < n_helpers && pthread_create(&helpers[n], NULL, sync_some, s) == 0)
		n++;
	(void)sync_some(s);
	for (guint i = 0; i < n; i++)
		pthread_join(helpers[i], NULL);
	pthread_mutex_destroy(&s->lock);
	if (s->failed != 0)
		firn_local_fail(s->local, error, s->failed, "sync", s->paths->pdata[s->which]);
	return s->failed == 0;
}

/* One file system at a time: a directory of the root may be a link to another one. */
static bool
sync_file_systems(FirnLocal *local, GHashTable *dirs, GError **error)
{
	g_autoptr(GArray) seen = g_array_new(FALSE, FALSE, sizeof(dev_t));
	GHashTableIter iter;
	gpointer dir;

	g_hash_table_iter_init(&iter, dirs);
	while (g_hash_table_iter_next(&iter, &dir, NULL)) {
		int fd = firn_local_openat(local->root, dir, O_RDONLY | O_DIRECTORY, 0);
		struct stat st = { 0 };
		bool known = false;
		int failed = fd < 0 || fstat(fd, &st) != 0 ? errno : 0;

		for (guint i = 0; failed == 0 && i < seen->len; i++)
			known = known || g_array_index(seen, dev_t, i) == st.st_dev;
		if (failed == 0 && !known) {
			failed = syncfs(fd) != 0 ? errno : 0;
			g_array_append_val(seen, st.st_dev);
		}
		if (fd >= 0)
			close(fd);
		if (failed != 0) {
			firn_local_fail(local, error, failed, "sync", dir);
			return false;
		}
	}
	return true;
}

/* Files by their names, and `dirs` of them (NULL: not these). */
static bool
sync_each(FirnLocal *local, const char *const *names, size_t n_names, GHashTable *dirs,
	  GError **error)
{
	g_autoptr(GPtrArray) paths = g_ptr_array_new();
	Syncing syncing = { .local = local, .paths = paths, .n_files = (guint)n_names };
	GHashTableIter iter;
	gpointer dir;

	for (size_t i = 0; i < n_names; i++)
		g_ptr_array_add(paths, (gpointer)(uintptr_t)names[i]);
	if (dirs != NULL) {
		g_hash_table_iter_init(&iter, dirs);
		while (g_hash_table_iter_next(&iter, &dir, NULL))
			g_ptr_array_add(paths, dir);
	}
	return sync_paths(&syncing, error);
}

bool
firn_local_sync(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	g_autoptr(GHashTable) dirs = dirs_of(keys, n_keys);

	if (n_keys == 0)
		return true;
	if (n_keys > SYNC_EACH_MAX)
		return sync_file_systems(local, dirs, error);
	return sync_each(local, keys, n_keys, dirs, error);
}

/* ---- new objects ---- */

static char *
unpublished(const char *key)
{
	return g_strconcat(key, UNPUBLISHED, NULL);
}

/* Write, and let the disk begin; closing tells of what a network file system could not write. */
static int
fill(int fd, GBytes *data)
{
	gsize len;
	const void *bytes = g_bytes_get_data(data, &len);
	int failed = firn_local_write_all(fd, bytes, len, 0);

	if (failed == 0 && len >= LARGE)
		(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	if (close(fd) != 0 && errno != EINTR && failed == 0)
		failed = errno;
	return failed;
}

bool
firn_local_put_new(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	g_autofree char *name = unpublished(key);
	int fd = firn_local_create(local, name, O_WRONLY | O_EXCL, error);
	int failed;

	if (fd < 0)
		return false;
	failed = fill(fd, data);
	if (failed != 0) {
		firn_local_fail(local, error, failed, "write", key);
		(void)unlinkat(local->root, name, 0);
		return false;
	}
	firn_crash_point(FIRN_CRASH_PUT_WRITTEN);
	return true;
}

static bool
name_all(FirnLocal *local, const char *const *names, const char *const *keys, size_t n_keys,
	 GError **error)
{
	for (size_t i = 0; i < n_keys; i++) {
		if (renameat(local->root, names[i], local->root, keys[i]) == 0)
			continue;
		firn_local_fail(local, error, errno, "create", keys[i]);
		return false;
	}
	firn_crash_point(FIRN_CRASH_PUT_NAMED);
	return true;
}

bool
firn_local_publish(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	g_autoptr(GHashTable) dirs = dirs_of(keys, n_keys);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	const char *const *all;
	bool whole;

	if (n_keys == 0)
		return true;
	for (size_t i = 0; i < n_keys; i++)
		g_ptr_array_add(names, unpublished(keys[i]));
	all = (const char *const *)names->pdata;
	/* What has its name is whole, also after a power cut. */
	whole = n_keys > SYNC_EACH_MAX ? sync_file_systems(local, dirs, error)
				       : sync_each(local, all, n_keys, NULL, error);
	return whole && name_all(local, all, keys, n_keys, error) &&
	       sync_each(local, NULL, 0, dirs, error);
}

bool
firn_local_withdraw(FirnStore *store, const char *key, GError **error)
{
	FirnLocal *local = firn_local_of(store);
	g_autofree char *name = unpublished(key);

	(void)unlinkat(local->root, name, 0);
	return firn_store_remove(store, key, error);
}
