#ifndef FIRN_CORE_ZARR_EDGES_H
#define FIRN_CORE_ZARR_EDGES_H

#include "core/base/base.h"

/*
 * The lengths of the chunks of a rectilinear grid, as runs of equal ones: the axes in turn,
 * and never two runs of one length next to each other.  An axis without chunks has none.
 */
typedef struct {
	uint64_t size; /* elements of each chunk */
	uint32_t axis;
	uint32_t count; /* chunks; not 0 */
} FirnEdgeRun;

/* Add `count` chunks, 0 for nothing, at the end of `axis`, the last one so far or a later one. */
void firn_edges_add(GArray *runs, uint32_t axis, uint64_t size, uint32_t count);

/*
 * Whether along each axis the chunks of one grid are the first ones of the other: then what
 * is in both lies at the same place.
 */
bool firn_edges_match(const GArray *a, const GArray *b, uint32_t rank);

#endif
