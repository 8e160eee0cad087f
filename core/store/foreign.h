#ifndef FIRN_CORE_STORE_FOREIGN_H
#define FIRN_CORE_STORE_FOREIGN_H

#include "core/base/base.h"

#include <sys/stat.h>

/*
 * Files outside the repository, which virtual chunks lie in.  Their locations
 * come from the repository and are not trusted: what may be read is what the
 * user authorised, and nothing else.  Pure functions; any thread.
 */

/*
 * Open the regular file that `url` (file://) names for reading.  It must lie
 * below one of the `n` prefixes (file:// URLs; others are passed over), both as
 * it is written, with ".." resolved, and where links in it lead; neither
 * devices nor pipes are ever opened.  `*out_stat` is the file's.
 * Returns a descriptor (caller closes), or -1.  Errors: DENIED (not authorised),
 * UNSUPPORTED (no file:// URL), INVALID (no regular file), NOT_FOUND, STORE.
 */
int firn_foreign_open(const char *url, char *const *prefixes, size_t n, struct stat *out_stat,
		      GError **error);

/* Whether `prefix` can be one of those: file:// and an absolute path.  Errors: INVALID (shows how). */
bool firn_foreign_check_prefix(const char *prefix, GError **error) FIRN_MUST_USE;

/* `url` without the user and password it may name, for messages.  Caller owns (g_free). */
char *firn_foreign_redact(const char *url);

#endif
