#include "core/repo/pool.h"

#define MAX_THREADS 8u

typedef struct {
	size_t n;
	FirnPoolTask fn;
	void *data;
	FirnPoolStep step;
	void *step_data;
	pthread_mutex_t lock; /* protects all below */
	size_t next;
	size_t done;
	GError *error;
} Pool;

/* False if there is no more to do; also counts what was done before. */
static bool
take(Pool *pool, bool did_one, size_t *out_index)
{
	FIRN_LOCK_SCOPE(&pool->lock);

	pool->done += did_one;
	if (pool->error != NULL || pool->next == pool->n)
		return false;
	*out_index = pool->next++;
	return true;
}

static void
fail(Pool *pool, GError *error)
{
	FIRN_LOCK_SCOPE(&pool->lock);

	if (pool->error == NULL)
		pool->error = error;
	else
		g_error_free(error);
}

static size_t
count_done(Pool *pool)
{
	FIRN_LOCK_SCOPE(&pool->lock);

	return pool->done;
}

static void
work(Pool *pool, bool reports)
{
	bool did_one = false;
	size_t index;

	while (take(pool, did_one, &index)) {
		GError *error = NULL;

		did_one = pool->fn(index, pool->data, &error);
		if (!did_one)
			fail(pool, error);
		else if (reports && pool->step != NULL)
			pool->step(count_done(pool), pool->step_data);
	}
}

static void *
worker(void *pool)
{
	work(pool, false);
	return NULL;
}

bool
firn_pool_run(size_t n, size_t max_threads, FirnPoolTask fn, void *data, FirnPoolStep step,
	      void *step_data, GError **error)
{
	Pool pool = { .n = n, .fn = fn, .data = data, .step = step, .step_data = step_data };
	size_t wanted = MIN(MIN(n, g_get_num_processors()), MIN(max_threads, MAX_THREADS));
	pthread_t threads[MAX_THREADS];
	size_t started = 0;

	pthread_mutex_init(&pool.lock, NULL);
	/* The calling thread is one of them: it alone calls back for progress. */
	while (started + 1 < wanted && pthread_create(&threads[started], NULL, worker, &pool) == 0)
		started++;
	work(&pool, true);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&pool.lock);
	if (pool.error != NULL) {
		g_propagate_error(error, pool.error);
		return false;
	}
	if (n > 0 && step != NULL)
		step(n, step_data);
	return true;
}
