#ifndef FIRN_CORE_ZARR_JSON_CHECK_H
#define FIRN_CORE_ZARR_JSON_CHECK_H

#include "core/base/base.h"

/*
 * Whether `text` is exactly one RFC 8259 value (json-glib also accepts
 * comments, several values, and recurses without limit).  `max_depth` bounds
 * nesting.  On failure `*out_offset` (may be NULL) is the byte it is seen at,
 * and the result a static text saying what is wrong; NULL means valid.
 */
const char *firn_json_check(FirnSpan text, unsigned max_depth, size_t *out_offset);

/*
 * The extent of the value and of the whole `"name": value` member (with the
 * comma that goes with it) of the top-level object in `text`, which must be
 * valid.  False if there is no such member.
 */
bool firn_json_find_member(FirnSpan text, const char *name, size_t *out_member_from,
			   size_t *out_member_to);

#endif
