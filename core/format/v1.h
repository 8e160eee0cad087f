#ifndef FIRN_CORE_FORMAT_V1_H
#define FIRN_CORE_FORMAT_V1_H

#include "core/base/id.h"

/*
 * The references of a version 1 repository (format section 4.6): one small JSON
 * object, `ref.json`, per branch and tag.  Pure functions.
 */
#define FIRN_V1_REFS         "refs/"
#define FIRN_V1_CONFIG       "config.yaml"
#define FIRN_V1_MAX_REF_SIZE 65536u /* bytes of a ref.json; official ones have 35 */

typedef enum {
	FIRN_V1_BRANCH,      /* refs/branch.NAME/ref.json      */
	FIRN_V1_TAG,         /* refs/tag.NAME/ref.json         */
	FIRN_V1_TAG_DELETED, /* refs/tag.NAME/ref.json.deleted */
} FirnV1RefKind;

/* The snapshot a ref.json names; unknown members are ignored.  Errors: FORMAT, LIMIT. */
bool firn_v1_ref_parse(FirnSpan text, FirnId12 *out_snapshot, GError **error) FIRN_MUST_USE;
/* {"snapshot":"..."} as the official library writes it.  Caller owns. */
GBytes *firn_v1_ref_format(const FirnId12 *snapshot);

/* Whether a branch or tag can have this name: not empty, no '/', UTF-8. */
bool firn_v1_ref_name_is_valid(const char *name);
/* The key of a ref, from the repository's root.  Caller owns (g_free). */
char *firn_v1_ref_key(FirnV1RefKind kind, const char *name);
/*
 * What ref `key`, from the repository's root, is; false if it is none.  Caller
 * owns `*out_name` (g_free).
 */
bool firn_v1_ref_parse_key(const char *key, FirnV1RefKind *out_kind, char **out_name) FIRN_MUST_USE;

#endif
