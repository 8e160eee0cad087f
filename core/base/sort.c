#include "core/base/sort.h"

#include <stdlib.h>
#include <string.h>

/* A tail of at most this part of the items is merged; of a longer one sorting all is as fast. */
#define TAIL_PART 8

/* Both parts are in order; the second is short. */
static void
merge(uint8_t *items, size_t n_first, size_t n, size_t size,
      int (*compare)(const void *, const void *, void *), void *data)
{
	size_t n_tail = n - n_first;
	g_autofree uint8_t *tail = g_malloc_n(n_tail, size);

	memcpy(tail, items + n_first * size, n_tail * size);
	/* From the end: the place that is filled next is free. */
	for (size_t at = n; n_tail > 0; at--) {
		const uint8_t *last = tail + (n_tail - 1) * size;

		if (n_first > 0 && compare(items + (n_first - 1) * size, last, data) > 0)
			memcpy(items + (at - 1) * size, items + --n_first * size, size);
		else
			memcpy(items + (at - 1) * size, tail + --n_tail * size, size);
	}
}

bool
firn_sort(void *items, size_t n, size_t size,
	  int (*compare)(const void *a, const void *b, void *data), void *data)
{
	uint8_t *bytes = items;
	bool strict = true;
	size_t sorted = 1;

	while (sorted < n) {
		int order = compare(bytes + (sorted - 1) * size, bytes + sorted * size, data);

		if (order > 0)
			break;
		strict = strict && order < 0;
		sorted++;
	}
	if (sorted >= n)
		return strict;
	if (n - sorted > n / TAIL_PART) {
		qsort_r(items, n, size, compare, data);
		return false;
	}
	qsort_r(bytes + sorted * size, n - sorted, size, compare, data);
	merge(bytes, sorted, n, size, compare, data);
	return false;
}
