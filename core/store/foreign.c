#include "core/store/foreign.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *
firn_foreign_redact(const char *url)
{
	const char *host = strstr(url, "://");
	size_t len;
	const char *at = NULL;

	if (host == NULL)
		return g_strdup(url);
	host += strlen("://");
	len = strcspn(host, "/?#");
	/* The last one: a password may hold another. */
	for (size_t i = 0; i < len; i++)
		if (host[i] == '@')
			at = host + i;
	if (at == NULL)
		return g_strdup(url);
	return g_strdup_printf("%.*s...%s", (int)MIN(host - url, 64), url, at);
}

bool
firn_foreign_check_prefix(const char *prefix, GError **error)
{
	g_autofree char *path = g_str_has_prefix(prefix, "file:///")
					? g_filename_from_uri(prefix, NULL, NULL)
					: NULL;
	g_autofree char *shown = path == NULL ? firn_foreign_redact(prefix) : NULL;

	if (path != NULL)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "virtual chunks are read from below file:// and an absolute path, such as "
		    "file:///data/, not from '%s'",
		    shown);
	return false;
}

static bool
is_below(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	return strncmp(path, directory, len) == 0 &&
	       (path[len] == '/' || path[len] == '\0' || strcmp(directory, "/") == 0);
}

/* Whether `path` lies below a prefix; `real`: as links in the prefix lead. */
static bool
is_authorised(const char *path, char *const *prefixes, size_t n, bool real)
{
	for (size_t i = 0; i < n; i++) {
		g_autofree char *prefix = g_filename_from_uri(prefixes[i], NULL, NULL);
		g_autofree char *plain = NULL;
		char resolved[PATH_MAX];

		if (prefix == NULL)
			continue;
		plain = g_canonicalize_filename(prefix, "/");
		if (!real && is_below(path, plain))
			return true;
		if (real && realpath(plain, resolved) != NULL && is_below(path, resolved))
			return true;
	}
	return false;
}

static bool
deny(const char *url, const char *where, GError **error)
{
	g_autofree char *shown = firn_foreign_redact(url);

	g_set_error(error, FIRN_ERROR, FIRN_ERROR_DENIED,
		    "reading virtual chunks from here is not authorised: %s%s%s", shown,
		    where != NULL ? " leads to " : "", where != NULL ? where : "");
	return false;
}

/* What is opened is what is checked, whatever happens to the names meanwhile. */
static bool
check_opened(int fd, const char *url, char *const *prefixes, size_t n, struct stat *out_stat,
	     GError **error)
{
	char link[32], where[PATH_MAX];
	ssize_t len;

	g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	len = readlink(link, where, sizeof where - 1);
	if (len < 0 || fstat(fd, out_stat) != 0) {
		firn_error_set_errno(error, errno, "%s", url);
		return false;
	}
	where[len] = '\0';
	if (!is_authorised(where, prefixes, n, true))
		return deny(url, where, error);
	if (S_ISREG(out_stat->st_mode))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "%s is no regular file", url);
	return false;
}

int
firn_foreign_open(const char *url, char *const *prefixes, size_t n, struct stat *out_stat,
		  GError **error)
{
	g_autofree char *path = NULL;
	g_autofree char *plain = NULL;
	char link[32];
	int place, fd = -1;

	if (!g_str_has_prefix(url, "file://")) {
		g_autofree char *shown = firn_foreign_redact(url);

		g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			    "virtual chunks can be read from file:// only, and this one is in %s",
			    shown);
		return -1;
	}
	path = g_filename_from_uri(url, NULL, NULL);
	/* Normalised before it is compared: ".." must not leave the prefix. */
	plain = path != NULL ? g_canonicalize_filename(path, "/") : NULL;
	if (plain == NULL || !is_authorised(plain, prefixes, n, false)) {
		(void)deny(url, NULL, error);
		return -1;
	}
	/* O_PATH neither waits for a pipe's writer nor touches a device. */
	place = open(plain, O_PATH | O_CLOEXEC);
	if (place < 0) {
		firn_error_set_errno(error, errno, "%s: cannot open", url);
		return -1;
	}
	g_snprintf(link, sizeof link, "/proc/self/fd/%d", place);
	if (check_opened(place, url, prefixes, n, out_stat, error)) {
		fd = open(link, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			firn_error_set_errno(error, errno, "%s: cannot open", url);
	}
	close(place);
	return fd;
}
