#ifndef FIRN_CORE_FORMAT_TYPES_H
#define FIRN_CORE_FORMAT_TYPES_H

#include "core/base/id.h"

/* Numbered as the union NodeData of the snapshot. */
typedef enum {
	FIRN_NODE_ARRAY = 1,
	FIRN_NODE_GROUP = 2,
} FirnNodeKind;

/* Half-open range of chunk indices along one axis. */
typedef struct {
	uint32_t from;
	uint32_t to;
} FirnExtent;

typedef enum {
	FIRN_REF_NONE,    /* no chunk, or a chunk deleted in a change set */
	FIRN_REF_INLINE,  /* the bytes are here                           */
	FIRN_REF_NATIVE,  /* a range of the object chunks/<id>            */
	FIRN_REF_VIRTUAL, /* a range of a foreign object                  */
} FirnRefKind;

/*
 * Where one chunk's bytes are.  All spans are borrowed from whoever handed the
 * ref out (a manifest, a change set).  `length` is the chunk's length in bytes
 * for every kind.
 */
typedef struct {
	FirnRefKind kind;
	uint64_t offset;   /* native, virtual */
	uint64_t length;   /* all             */
	FirnId12 id;       /* native          */
	FirnSpan bytes;    /* inline          */
	FirnSpan location; /* virtual: URL, UTF-8, no NUL; or a zstd frame if location_compressed */
	bool location_compressed;
	FirnSpan etag;          /* virtual: empty = none */
	uint32_t last_modified; /* virtual: s since 1970, 0 = none */
} FirnRef;

/* Largest rank accepted anywhere: numpy stops at 64. */
#define FIRN_MAX_RANK 64u

/* Compare two coordinate vectors of `rank` items, numerically, first axis first. */
static inline int
firn_coords_compare(const uint32_t *a, const uint32_t *b, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return 0;
}

#endif
