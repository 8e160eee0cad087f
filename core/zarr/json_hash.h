#ifndef FIRN_CORE_ZARR_JSON_HASH_H
#define FIRN_CORE_ZARR_JSON_HASH_H

#include <json-glib/json-glib.h>
#include <xxhash.h>

/*
 * A hash of what JSON says, not of how it is spelled: white space, escapes and the order of
 * members do not count, and neither does {"name": N, "configuration": {}} instead of "N"
 * (Zarr v3 allows both for data types, codecs and grids).
 */

/* Add a value to the hash.  Its depth bounds the recursion: check it first. */
void firn_json_hash(XXH3_state_t *state, JsonNode *node);

/* Add a text, with a letter for what it stands for. */
void firn_json_hash_text(XXH3_state_t *state, char tag, const char *text);

#endif
