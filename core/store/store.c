#include "core/store/store.h"

#include "core/base/error.h"
#include "core/store/local.h"

#include <string.h>

static bool
component_is_valid(const char *at, size_t len)
{
	if (len == 0)
		return false;
	return !(len <= 2 && at[0] == '.' && (len == 1 || at[1] == '.'));
}

static bool
path_is_valid(const char *key, size_t len)
{
	size_t from = 0;

	for (size_t i = 0; i <= len; i++) {
		if (i < len && key[i] != '/')
			continue;
		if (!component_is_valid(key + from, i - from))
			return false;
		from = i + 1;
	}
	return true;
}

/* This is what keeps every backend inside its root. */
static bool
check_key(const FirnStore *store, const char *key, GError **error)
{
	if (path_is_valid(key, strlen(key)))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s: the key '%s' has an empty, '.' or '..' component", store->url, key);
	return false;
}

static bool
check_prefix(const FirnStore *store, const char *prefix, GError **error)
{
	size_t len = strlen(prefix);

	if (len == 0 || (prefix[len - 1] == '/' && path_is_valid(prefix, len - 1)))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s: the prefix '%s' must be empty or a key followed by '/'", store->url,
		    prefix);
	return false;
}

/* Length of the scheme of `url` without "://", 0 if it is a plain path. */
static size_t
scheme_length(const char *url)
{
	size_t n = 0;

	if (!g_ascii_isalpha(url[0]))
		return 0;
	while (g_ascii_isalnum(url[n]) || url[n] == '+' || url[n] == '-' || url[n] == '.')
		n++;
	return g_str_has_prefix(url + n, "://") ? n : 0;
}

/* The path in "file://[localhost]/path", percent-decoded. */
static char *
path_of_file_url(const char *url, GError **error)
{
	const char *rest = url + strlen("file://");
	char *path;

	if (g_ascii_strncasecmp(rest, "localhost/", strlen("localhost/")) == 0)
		rest += strlen("localhost");
	if (rest[0] != '/') {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s: a file URL has an absolute path on this host: file:///path", url);
		return NULL;
	}
	path = g_uri_unescape_string(rest, NULL);
	if (path == NULL)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s: '%%' must be followed by two hexadecimal digits, and not by 00",
			    url);
	return path;
}

FirnStore *
firn_store_open(const char *url, bool create, GError **error)
{
	size_t scheme = scheme_length(url);

	if (url[0] == '\0') {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "the repository's name is empty; give a path or a file:// URL");
		return NULL;
	}
	if (scheme == 0)
		return firn_local_open(url, create, error);
	if (scheme == strlen("file") && g_ascii_strncasecmp(url, "file", scheme) == 0) {
		g_autofree char *path = path_of_file_url(url, error);

		return path != NULL ? firn_local_open(path, create, error) : NULL;
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
		    "%s: '%.*s://' repositories are not supported; use a path or file:// URL on a "
		    "local or shared file system",
		    url, (int)scheme, url);
	return NULL;
}

void
firn_store_free(FirnStore *store)
{
	if (store != NULL)
		store->ops->free(store);
}

const char *
firn_store_url(const FirnStore *store)
{
	return store->url;
}

bool
firn_store_get(FirnStore *store, const char *key, uint64_t offset, uint64_t len, GBytes **out_data,
	       FirnVersion *out_version, GError **error)
{
	if (!check_key(store, key, error))
		return false;
	return store->ops->get(store, key, offset, len, out_data, out_version, error);
}

bool
firn_store_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
	       const FirnVersion *expected, FirnVersion *out_version, GError **error)
{
	g_assert(mode != FIRN_PUT_IF_MATCH || expected != NULL);
	if (!check_key(store, key, error))
		return false;
	return store->ops->put(store, key, data, mode, expected, out_version, error);
}

FirnStaged *
firn_store_stage(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	return check_key(store, key, error) ? store->ops->stage(store, key, data, error) : NULL;
}

bool
firn_store_put_staged(FirnStore *store, FirnStaged *staged, const FirnVersion *expected,
		      FirnVersion *out_version, GError **error)
{
	g_assert(expected != NULL);
	return store->ops->put_staged(store, staged, expected, out_version, error);
}

void
firn_store_unstage(FirnStore *store, FirnStaged *staged)
{
	if (staged != NULL)
		store->ops->unstage(store, staged);
}

bool
firn_store_put_new(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	return check_key(store, key, error) && store->ops->put_new(store, key, data, error);
}

bool
firn_store_publish(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	for (size_t i = 0; i < n_keys; i++)
		if (!check_key(store, keys[i], error))
			return false;
	return store->ops->publish(store, keys, n_keys, error);
}

bool
firn_store_withdraw(FirnStore *store, const char *key, GError **error)
{
	return check_key(store, key, error) && store->ops->withdraw(store, key, error);
}

bool
firn_store_copy(FirnStore *store, const char *from, const char *to, const FirnVersion *expected,
		GError **error)
{
	g_assert(expected != NULL);
	if (!check_key(store, from, error) || !check_key(store, to, error))
		return false;
	return store->ops->copy(store, from, to, expected, error);
}

bool
firn_store_remove(FirnStore *store, const char *key, GError **error)
{
	return check_key(store, key, error) && store->ops->remove(store, key, error);
}

bool
firn_store_stat(FirnStore *store, const char *key, bool *out_exists, uint64_t *out_size,
		int64_t *out_mtime_us, GError **error)
{
	bool exists;
	uint64_t size;
	int64_t mtime;

	if (!check_key(store, key, error))
		return false;
	if (!store->ops->stat(store, key, &exists, &size, &mtime, error))
		return false;
	if (out_exists != NULL)
		*out_exists = exists;
	if (out_size != NULL)
		*out_size = size;
	if (out_mtime_us != NULL)
		*out_mtime_us = mtime;
	return true;
}

bool
firn_store_list(FirnStore *store, const char *prefix, FirnStoreListFn fn, void *data,
		GError **error)
{
	return check_prefix(store, prefix, error) &&
	       store->ops->list(store, prefix, fn, data, error);
}

typedef struct {
	GPtrArray *keys;
	const char *suffix;
} KeyList;

static bool
add_key(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	KeyList *list = data;

	(void)size;
	(void)mtime_us;
	if (g_str_has_suffix(key, list->suffix))
		g_ptr_array_add(list->keys, g_strdup(key));
	return true;
}

static gint
compare_keys(gconstpointer a, gconstpointer b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

GPtrArray *
firn_store_list_keys(FirnStore *store, const char *prefix, const char *suffix, GError **error)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	KeyList list = { keys, suffix };

	if (!firn_store_list(store, prefix, add_key, &list, error))
		return NULL;
	g_ptr_array_sort(keys, compare_keys);
	return g_steal_pointer(&keys);
}

bool
firn_store_list_temporaries(FirnStore *store, FirnStoreListFn fn, void *data, GError **error)
{
	return store->ops->list_temporaries == NULL ||
	       store->ops->list_temporaries(store, fn, data, error);
}

bool
firn_store_free_range(FirnStore *store, const char *key, uint64_t offset, uint64_t len,
		      GError **error)
{
	return check_key(store, key, error) &&
	       (store->ops->free_range == NULL ||
		store->ops->free_range(store, key, offset, len, error));
}

bool
firn_store_sync(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	for (size_t i = 0; i < n_keys; i++)
		if (!check_key(store, keys[i], error))
			return false;
	return store->ops->sync(store, keys, n_keys, error);
}

int
firn_store_open_fd(FirnStore *store, const char *key, GError **error)
{
	return check_key(store, key, error) ? store->ops->open_fd(store, key, error) : -1;
}

FirnStoreWriter *
firn_store_writer_open(FirnStore *store, const char *key, GError **error)
{
	return check_key(store, key, error) ? store->ops->writer_open(store, key, error) : NULL;
}

FirnStoreWriter *
firn_store_writer_reopen(FirnStore *store, const char *key, GError **error)
{
	return check_key(store, key, error) ? store->ops->writer_reopen(store, key, error) : NULL;
}

bool
firn_store_writer_write(FirnStoreWriter *writer, uint64_t offset, const void *data, size_t len,
			GError **error)
{
	return writer->ops->write(writer, offset, data, len, error);
}

bool
firn_store_writer_read(FirnStoreWriter *writer, uint64_t offset, void *out, size_t len,
		       size_t *out_len, GError **error)
{
	return writer->ops->read(writer, offset, out, len, out_len, error);
}

bool
firn_store_writer_truncate(FirnStoreWriter *writer, uint64_t size, GError **error)
{
	return writer->ops->truncate(writer, size, error);
}

bool
firn_store_writer_flush(FirnStoreWriter *writer, GError **error)
{
	return writer->ops->flush(writer, error);
}

void
firn_store_writer_leave(FirnStoreWriter *writer)
{
	writer->ops->leave(writer);
}

bool
firn_store_writer_finish(FirnStoreWriter *writer, bool durable, GError **error)
{
	return writer->ops->finish(writer, durable, error);
}

void
firn_store_writer_abort(FirnStoreWriter *writer)
{
	if (writer != NULL)
		writer->ops->abort(writer);
}
