#include "core/repo/commit_priv.h"
#include "core/repo/pool.h"

#define MAX_THREADS 8u

typedef struct {
	const FirnCommitting *c;
	const char *what;
	size_t n;
} Steps;

static void
step(uint64_t done, void *data)
{
	const Steps *steps = data;

	firn_commit_progress(steps->c, steps->what, done, steps->n);
}

bool
firn_commit_pool(const FirnCommitting *c, const char *what, size_t n, FirnCommitTask fn, void *data,
		 GError **error)
{
	Steps steps = { .c = c, .what = what, .n = n };

	return firn_pool_run(n, MAX_THREADS, fn, data, step, &steps, error);
}
