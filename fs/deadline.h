#ifndef FIRN_FS_DEADLINE_H
#define FIRN_FS_DEADLINE_H

#include <time.h>

/* The monotonic time `ms` from now, for pthread_cond_timedwait(). */
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
