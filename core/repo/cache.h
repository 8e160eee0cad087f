#ifndef FIRN_CORE_REPO_CACHE_H
#define FIRN_CORE_REPO_CACHE_H

#include "core/base/id.h"

/*
 * A cache of reference-counted objects by id, bounded by bytes; the least
 * recently used go first, the one fetched last always stays.  One fetch at a
 * time per id: others that want it wait for it and share its result or error.
 * No lock is held while fetching.  Any thread.
 */
typedef struct FirnCache FirnCache;

typedef struct {
	/* Fetch the object; `*out_bytes` is what it costs.  NULL with `error`. */
	gpointer (*fetch)(const FirnId12 *id, void *data, size_t *out_bytes, GError **error);
	gpointer (*ref)(gpointer object);
	void (*unref)(gpointer object);
} FirnCacheType;

/* How an object is used. */
typedef enum {
	FIRN_CACHE_KEEP, /* it will be wanted again */
	FIRN_CACHE_SCAN, /* one of many that are looked through: an eighth of the bound is for these */
} FirnCacheUse;

FirnCache *firn_cache_new(const FirnCacheType *type, size_t max_bytes);
void firn_cache_free(FirnCache *cache); /* NULL is a no-op; no fetch may be under way */
/* `data` is passed to fetch.  Caller owns (unref). */
gpointer firn_cache_get(FirnCache *cache, const FirnId12 *id, FirnCacheUse use, void *data,
			GError **error) FIRN_MUST_USE;
void firn_cache_set_max_bytes(FirnCache *cache, size_t max_bytes);

#endif
