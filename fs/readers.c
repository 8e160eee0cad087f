#include "fs/readers.h"

void
firn_readers_init(FirnReaders *readers)
{
	*readers = (FirnReaders){ .n_reading = 0 };
	pthread_mutex_init(&readers->lock, NULL);
	pthread_cond_init(&readers->needed, NULL);
}

/* libfuse cancels its threads where they wait. */
static void
unlock(void *lock)
{
	pthread_mutex_unlock(lock);
}

void
firn_readers_enter(FirnReaders *readers)
{
	pthread_mutex_lock(&readers->lock);
	pthread_cleanup_push(unlock, &readers->lock);
	readers->n_waiting++;
	while (readers->n_reading >= FIRN_READERS)
		pthread_cond_wait(&readers->needed, &readers->lock);
	readers->n_waiting--;
	readers->n_reading++;
	pthread_cleanup_pop(1);
}

void
firn_readers_leave(FirnReaders *readers)
{
	pthread_mutex_lock(&readers->lock);
	/* While one is left, the others sleep on. */
	if (--readers->n_reading == 0 && readers->n_waiting > 0)
		pthread_cond_signal(&readers->needed);
	pthread_mutex_unlock(&readers->lock);
}
