#ifndef FIRN_CORE_BASE_SORT_H
#define FIRN_CORE_BASE_SORT_H

#include "core/base/base.h"

/*
 * As qsort_r(3), with the same arguments: what is in order already, or all but a few items at the
 * end, costs a look at each item.  Not stable.  True: nothing was to be done, and no two are equal.
 */
bool firn_sort(void *items, size_t n, size_t size,
	       int (*compare)(const void *a, const void *b, void *data), void *data);

#endif
