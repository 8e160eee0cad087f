#ifndef FIRN_FS_READERS_H
#define FIRN_FS_READERS_H

#include <pthread.h>

/*
 * Who waits in the kernel for a request.  It wakes those who wait in turn, so
 * that with all threads waiting each request would find another, cold one: only
 * FIRN_READERS wait there, and the others until they are needed.
 */
#define FIRN_READERS 2u

typedef struct {
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t needed;
	unsigned n_reading;
	unsigned n_waiting;
} FirnReaders;

void firn_readers_init(FirnReaders *readers);

/* Before a request is read; returns when it may be.  A cancellation point. */
void firn_readers_enter(FirnReaders *readers);
/* It was read, or could not be. */
void firn_readers_leave(FirnReaders *readers);

#endif
