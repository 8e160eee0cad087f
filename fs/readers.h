#ifndef FIRN_FS_READERS_H
#define FIRN_FS_READERS_H

#include "core/base/error.h"

#include <pthread.h>
#include <sys/types.h>

/*
 * Which of the driver's threads waits for the kernel's next request.
 *
 * Waking a thread can cost more than all else a small request needs, so one
 * thread reads, answers, and reads again, and while requests follow each other
 * closely it looks for the next one without going to sleep.  The others are
 * woken when there is more to do than it can: a request of a kind that took
 * long of late, or a queue of short ones; and by a timer, should a short one
 * take long after all.
 */
#define FIRN_READERS_SPIN_US 200u
#define FIRN_READERS_KINDS   64

typedef struct {
	int64_t spin_max_ns;
	int timer;      /* timerfd */
	int load_fd;    /* of /proc/loadavg; -1: there is none */
	uint64_t crowd; /* more threads that want to run are too many */
	bool watching;
	pthread_t watcher;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t needed;
	bool reading;      /* a thread waits for a request, or takes one */
	bool armed;        /* the timer: */
	uint64_t armed_at; /* `n_taken` then */
	uint64_t n_taken;  /* requests */
	unsigned n_waiting;
	/* By opcode, a bit for each of the last requests: whether it was answered quickly. */
	uint16_t quick[FIRN_READERS_KINDS];
	/* The reading thread's: */
	int64_t spin_ns;   /* how long it is worth to look */
	bool crowded;      /* nobody gains by looking: when that was found out last */
	unsigned n_looked; /* waits since it was, modulo a few */
	uint16_t soon;     /* a bit for each of the last waits: whether it was short */
	unsigned n_queued; /* requests in a row that were there already */
} FirnReaders;

/* `spin_us`: at most so long is looked for a request before sleeping; 0: never. */
bool firn_readers_start(FirnReaders *readers, unsigned spin_us, GError **error) FIRN_MUST_USE;
/* When no thread reads any more.  No-op if it was not started. */
void firn_readers_stop(FirnReaders *readers);

/*
 * The next request, as read(2) says it (errno too); `fd` does not block.  A
 * cancellation point.
 */
ssize_t firn_readers_take(FirnReaders *readers, int fd, void *buffer, size_t size);

#endif
