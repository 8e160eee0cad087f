#ifndef FIRN_CORE_ZARR_NAME_H
#define FIRN_CORE_ZARR_NAME_H

#include "core/base/base.h"

/*
 * What a single name in a Zarr v3 directory tree may be.  Pure functions.
 */
typedef enum {
	FIRN_NAME_META,   /* "zarr.json"                                                   */
	FIRN_NAME_V2,     /* ".zarray" ".zgroup" ".zattrs" ".zmetadata": refused           */
	FIRN_NAME_CHUNKS, /* "c": root of a chunk tree, the chunk of a scalar, or a node   */
	FIRN_NAME_INDEX,  /* canonical decimal < 2^32 - 1: a chunk index, or a node        */
	FIRN_NAME_LOCK,   /* "*.__lock": scratch that goes with its last handle            */
	FIRN_NAME_OTHER,  /* a node's name if a directory, scratch if a file               */
} FirnNameKind;

/* `out_index` (may be NULL) is set for FIRN_NAME_INDEX. */
FirnNameKind firn_name_classify(const char *name, uint32_t *out_index);

/* Canonical decimal without sign or leading zeros, < 2^32 - 1; NUL-terminated input. */
bool firn_name_parse_index(const char *name, uint32_t *out_index) FIRN_MUST_USE;

/*
 * Whether a file of this name is some tool's temporary, lock, swap, backup or
 * side file: it is found by look-up, but not listed.
 */
bool firn_name_is_scratch(const char *name);

/* Whether `name` can be a path component of a node: valid UTF-8, 1..255 bytes, no '/', not "." "..". */
bool firn_name_is_valid(const char *name);

/* "12" for 12, with a NUL. */
#define FIRN_NAME_INDEX_MAX 10
void firn_name_format_index(uint32_t index, char out[FIRN_NAME_INDEX_MAX + 1]);

/* "c/0/12" (rank 0: "c") for `coords`.  Caller owns (g_free). */
char *firn_name_format_chunk(const uint32_t *coords, uint32_t rank);

#endif
