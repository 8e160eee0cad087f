#ifndef FIRN_CORE_REPO_POOL_H
#define FIRN_CORE_REPO_POOL_H

#include "core/base/base.h"

/* Task `index`, on any thread.  False with `error` set ends the run. */
typedef bool (*FirnPoolTask)(size_t index, void *data, GError **error);
/* Tasks done so far; called by the calling thread only. */
typedef void (*FirnPoolStep)(uint64_t done, void *data);

/*
 * Run tasks 0..n-1 on the calling thread and up to `max_threads` - 1 (at most 7)
 * others, as many as there are processors; returns when all have ended.
 * `step` may be NULL; it is also called at the end, unless n is 0.
 * Errors: the first of a task; those not begun are left out then.
 */
bool firn_pool_run(size_t n, size_t max_threads, FirnPoolTask fn, void *data, FirnPoolStep step,
		   void *step_data, GError **error) FIRN_MUST_USE;

#endif
