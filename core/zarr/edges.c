#include "core/zarr/edges.h"

/* A place in the runs of a grid. */
struct place {
	const GArray *runs;
	guint at;
	uint32_t used; /* chunks of that run that are behind us */
};

void
firn_edges_add(GArray *runs, uint32_t axis, uint64_t size, uint32_t count)
{
	FirnEdgeRun run = { size, axis, count };

	if (count == 0)
		return;
	if (runs->len > 0) {
		FirnEdgeRun *last = &g_array_index(runs, FirnEdgeRun, runs->len - 1);

		if (last->axis == axis && last->size == size && last->count <= UINT32_MAX - count) {
			last->count += count;
			return;
		}
	}
	g_array_append_val(runs, run);
}

/* The run of the next chunk along `axis`; NULL if there is no more. */
static const FirnEdgeRun *
next_run(struct place *p, uint32_t axis)
{
	for (; p->at < p->runs->len; p->at++, p->used = 0) {
		const FirnEdgeRun *run = &g_array_index(p->runs, FirnEdgeRun, p->at);

		if (run->axis > axis)
			return NULL;
		if (run->axis == axis && p->used < run->count)
			return run;
	}
	return NULL;
}

bool
firn_edges_match(const GArray *a, const GArray *b, uint32_t rank)
{
	struct place in_a = { .runs = a };
	struct place in_b = { .runs = b };

	for (uint32_t axis = 0; axis < rank; axis++) {
		const FirnEdgeRun *x;
		const FirnEdgeRun *y;

		while ((x = next_run(&in_a, axis)) != NULL && (y = next_run(&in_b, axis)) != NULL) {
			uint32_t both = MIN(x->count - in_a.used, y->count - in_b.used);

			if (x->size != y->size)
				return false;
			in_a.used += both;
			in_b.used += both;
		}
	}
	return true;
}
