#ifndef FIRN_CORE_FLAT_FLEX_H
#define FIRN_CORE_FLAT_FLEX_H

#include "core/base/base.h"

#include <json-glib/json-glib.h>

/*
 * FlexBuffers <-> JSON (format section 5.5), and MessagePack -> JSON (5.6).
 * Nothing in the input is trusted: depth <= FIRN_FLEX_MAX_DEPTH, every offset
 * checked, and the number of values visited is bounded (shared references cannot
 * explode).  What JSON cannot hold is shown as well as can be: a NUL in a text as
 * U+FFFD, a number that is none or infinite as null, bytes as a list of numbers.
 * Whoever writes back what was read keeps the bytes.
 * Pure functions; any thread.
 */

/* Texts and keys count, numbers need not; 256 KiB of stack suffice to read, write and compare. */
#define FIRN_FLEX_MAX_DEPTH 256u

/* Errors: FORMAT, LIMIT.  Caller owns (json_node_unref). */
JsonNode *firn_flex_read(FirnSpan bytes, GError **error) FIRN_MUST_USE;
/* Minimal-width encoding, byte for byte what the official library writes.  Caller owns. */
GBytes *firn_flex_build(JsonNode *value) FIRN_MUST_USE;
/* One MessagePack value that fills `bytes`.  Errors: FORMAT, LIMIT.  Caller owns. */
JsonNode *firn_flex_read_msgpack(FirnSpan bytes, GError **error) FIRN_MUST_USE;

#endif
