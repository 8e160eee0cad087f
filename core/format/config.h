#ifndef FIRN_CORE_FORMAT_CONFIG_H
#define FIRN_CORE_FORMAT_CONFIG_H

#include "core/format/types.h"

#include <json-glib/json-glib.h>

/*
 * The part of a repository's configuration that changes what is written
 * (format sections 6.6 and 8).  Parsed from the JSON view of Repo.config
 * (FlexBuffers) or of version 1's config.yaml.  Immutable after parsing.
 */
typedef struct FirnConfig FirnConfig;

/* NULL `json` means all defaults.  Unknown keys are ignored.  Errors: FORMAT.  Caller owns. */
FirnConfig *firn_config_parse(JsonNode *json, GError **error) FIRN_MUST_USE;
/* config.yaml of a version 1 repository.  Caller owns. */
JsonNode *firn_config_from_yaml(FirnSpan yaml, GError **error) FIRN_MUST_USE;
void firn_config_free(FirnConfig *config); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnConfig, firn_config_free)

uint32_t firn_config_inline_threshold(const FirnConfig *config); /* bytes; default 512 */
int firn_config_compression_level(const FirnConfig *config);     /* zstd; default 3 */
uint32_t firn_config_ops_log_length(const FirnConfig *config);   /* default 1000 */

/*
 * Chunks per manifest along each axis of an array: `out_sizes` receives `rank`
 * items, UINT32_MAX where the axis is not split.  `dimension_names` may be NULL.
 */
void firn_config_split_sizes(const FirnConfig *config, const char *path, uint32_t rank,
			     char *const *dimension_names, uint32_t *out_sizes);

/* The configuration a new repository of ours starts with.  Caller owns. */
JsonNode *firn_config_initial(void);

/* Rules a configuration can have; with more of them it is refused. */
#define FIRN_CONFIG_MAX_RULES 10000u

/* That the array at `path` is split every `size` chunks along `axis`. */
typedef struct {
	const char *path;
	uint32_t axis;
	uint32_t size;
} FirnConfigSplit;

/*
 * A copy of `json` (NULL: the empty configuration) with rules put first that
 * split arrays, as if one after the other were added; those there is no room for are
 * left out.  Caller owns.
 */
JsonNode *firn_config_with_splits(JsonNode *json, const FirnConfigSplit *splits, size_t n);
JsonNode *firn_config_with_split(JsonNode *json, const char *path, uint32_t axis, uint32_t size);

/*
 * Where virtual chunks may lie: the containers' names and prefixes.  Resolve a
 * `vcc://name/rest` location to its URL; other locations are returned as they
 * are.  Caller owns (g_free).  Errors: NOT_FOUND (no such container).
 */
char *firn_config_resolve_location(const FirnConfig *config, const char *location, GError **error)
	FIRN_MUST_USE;

#endif
