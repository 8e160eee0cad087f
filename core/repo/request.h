#ifndef FIRN_CORE_REPO_REQUEST_H
#define FIRN_CORE_REPO_REQUEST_H

#include "core/base/id.h"

#include <json-glib/json-glib.h>

/*
 * Requests to a mount's control file: one JSON object with a member "op"
 * (fs/CONTROL.md).  Whoever may open the file may write anything into it.
 */
#define FIRN_REQUEST_LIMIT 65536u /* bytes */

/*
 * Parse one request, strictly.  `*out_op` is borrowed from the result.
 * Errors: INVALID.  Caller owns (json_object_unref).
 */
JsonObject *firn_request_parse(FirnSpan text, const char **out_op, GError **error) FIRN_MUST_USE;

/* A number, brought into [min, max]; `absent` if there is none. */
int64_t firn_request_number(JsonObject *request, const char *name, int64_t min, int64_t max,
			    int64_t absent);
/* Whether the member is there and true. */
bool firn_request_flag(JsonObject *request, const char *name);
/* An id; false with `error` unset if there is none or it is null.  Errors: INVALID. */
bool firn_request_id(JsonObject *request, const char *name, FirnId12 *out_id, GError **error);

#endif
