#ifndef FIRN_CORE_FORMAT_MANIFEST_PRIVATE_H
#define FIRN_CORE_FORMAT_MANIFEST_PRIVATE_H

#include "core/format/manifest.h"

/* What the two manifest files share. */

/* Field ids, as the schema numbers them. */
enum {
	FIRN_MANIFEST_ID,
	FIRN_MANIFEST_ARRAYS,
	FIRN_MANIFEST_DICTIONARY,
	FIRN_MANIFEST_ALGORITHM,
};

enum {
	FIRN_MANIFEST_ARRAY_NODE,
	FIRN_MANIFEST_ARRAY_REFS,
};

enum {
	FIRN_MANIFEST_REF_INDEX,
	FIRN_MANIFEST_REF_INLINE,
	FIRN_MANIFEST_REF_OFFSET,
	FIRN_MANIFEST_REF_LENGTH,
	FIRN_MANIFEST_REF_CHUNK_ID,
	FIRN_MANIFEST_REF_LOCATION,
	FIRN_MANIFEST_REF_ETAG,
	FIRN_MANIFEST_REF_LAST_MODIFIED,
	FIRN_MANIFEST_REF_COMPRESSED,
	FIRN_MANIFEST_REF_N_FIELDS,
};

#define FIRN_MANIFEST_ALGORITHM_PLAIN 0u
#define FIRN_MANIFEST_ALGORITHM_ZSTD  1u /* also where the field is absent */

/* A longer location is stored as it is: official readers stop there. */
#define FIRN_MANIFEST_MAX_LOCATION 1024u

/* When and how locations are compressed: the official library's defaults. */
#define FIRN_MANIFEST_COMPRESS_FROM 1000u /* virtual refs */
/* A larger dictionary of somebody else is not carried along. */
#define FIRN_MANIFEST_MAX_KEPT_DICTIONARY 65536u

typedef struct FirnManifestLocator FirnManifestLocator;

struct FirnManifest {
	gint refs;
	GBytes *payload;
	FirnSpan b; /* of `payload` */
	size_t root;
	size_t arrays;
	FirnManifestLocator *locator; /* NULL: no usable dictionary */
};

#endif
