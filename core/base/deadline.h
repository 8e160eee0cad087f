#ifndef FIRN_CORE_BASE_DEADLINE_H
#define FIRN_CORE_BASE_DEADLINE_H

#include <pthread.h>
#include <time.h>

/* Waits with an end, by the clock that nobody sets. */

/* A condition to wait for until a deadline. */
static inline void
firn_deadline_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

/* The time `ms` from now, for pthread_cond_timedwait() of such a condition. */
static inline struct timespec
firn_deadline_in(unsigned ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += ms / 1000;
	at.tv_nsec += (long)(ms % 1000) * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}

#endif
