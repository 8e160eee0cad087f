#ifndef FIRN_FS_CONTENT_H
#define FIRN_FS_CONTENT_H

#include "fs/control.h"

#include <json-glib/json-glib.h>

/* What the control files say: each function makes the whole content.  Caller owns. */
GBytes *firn_content_session(FirnDriver *driver, GError **error) FIRN_MUST_USE;
#define FIRN_CONTENT_TOO_MUCH                                                             \
	"the changes do not fit into memory as a journal, or one of them into a record: " \
	"remove some of them, or free memory"
/* Errors: LIMIT (FIRN_CONTENT_TOO_MUCH). */
GBytes *firn_content_journal(FirnDriver *driver, GError **error) FIRN_MUST_USE;
/* For its size: does not count as given away. */
GBytes *firn_content_journal_peek(FirnDriver *driver, GError **error) FIRN_MUST_USE;
GBytes *firn_content_status(FirnDriver *driver, GError **error) FIRN_MUST_USE;
GBytes *firn_content_diff(FirnDriver *driver, GError **error) FIRN_MUST_USE;
GBytes *firn_content_log(FirnDriver *driver, GError **error) FIRN_MUST_USE;
GBytes *firn_content_errors(FirnDriver *driver, GError **error) FIRN_MUST_USE;
GBytes *firn_content_stats(FirnDriver *driver, GError **error) FIRN_MUST_USE;

/* Pretty-printed, with a newline at the end.  Takes `object`.  Caller owns. */
char *firn_content_json(JsonObject *object);

#endif
