#include "fs/notify.h"

#include "core/base/deadline.h"

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
#include <string.h>

struct FirnNotify {
	struct fuse_session *fuse;
	FirnView *view;
	FirnSuccession *succession;
	pthread_t thread;
	bool said_waiting; /* the thread's own */

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t changed;
	GQueue queue; /* FirnInvalidation * */
	uint64_t n_pushed;
	uint64_t n_told;
	bool running;
	bool stop;
};

FirnNotify *
firn_notify_new(void)
{
	FirnNotify *notify = g_new0(FirnNotify, 1);

	pthread_mutex_init(&notify->lock, NULL);
	firn_deadline_cond_init(&notify->changed);
	g_queue_init(&notify->queue);
	return notify;
}

/* ENOENT, the usual failure, says that the kernel knows nothing of it. */
static void
tell(struct fuse_session *fuse, const FirnInvalidation *what)
{
	if (what->name)
		fuse_lowlevel_notify_inval_entry(fuse, what->ino, what->name, strlen(what->name));
	else
		fuse_lowlevel_notify_inval_inode(fuse, what->ino, 0, 0);
}

/*
 * The kernel takes a lock whose holder may wait for an answer of ours, and no
 * signal ends that: the supervisor must know, in case we are killed meanwhile.
 */
static void
say_waiting(FirnNotify *notify, bool waiting)
{
	if (notify->said_waiting != waiting)
		firn_succession_waits(notify->succession, waiting ? gettid() : 0);
	notify->said_waiting = waiting;
}

static void *
run(void *data)
{
	FirnNotify *notify = data;

	pthread_mutex_lock(&notify->lock);
	while (!notify->stop) {
		FirnInvalidation *what = g_queue_pop_head(&notify->queue);

		if (!what && notify->said_waiting) {
			pthread_mutex_unlock(&notify->lock);
			say_waiting(notify, false);
			pthread_mutex_lock(&notify->lock);
			continue;
		}
		if (!what) {
			pthread_cond_wait(&notify->changed, &notify->lock);
			continue;
		}
		pthread_mutex_unlock(&notify->lock);
		say_waiting(notify, true);
		tell(notify->fuse, what);
		firn_view_told(notify->view, what);
		firn_invalidation_free(what);
		pthread_mutex_lock(&notify->lock);
		notify->n_told++;
		pthread_cond_broadcast(&notify->changed);
	}
	notify->running = false;
	pthread_cond_broadcast(&notify->changed);
	pthread_mutex_unlock(&notify->lock);
	return NULL;
}

bool
firn_notify_start(FirnNotify *notify, struct fuse_session *fuse, FirnView *view,
		  FirnSuccession *succession, GError **error)
{
	int errnum;

	notify->fuse = fuse;
	notify->view = view;
	notify->succession = succession;
	notify->running = true;
	errnum = pthread_create(&notify->thread, NULL, run, notify);
	if (errnum) {
		notify->running = false;
		notify->fuse = NULL;
		firn_error_set_errno(error, errnum, "cannot start a thread");
	}
	return errnum == 0;
}

void
firn_notify_push(FirnNotify *notify, GPtrArray *invalidations)
{
	if (!invalidations)
		return;
	g_ptr_array_set_free_func(invalidations, NULL);
	{
		FIRN_LOCK_SCOPE(&notify->lock);

		for (guint i = 0; i < invalidations->len; i++)
			g_queue_push_tail(&notify->queue, g_ptr_array_index(invalidations, i));
		notify->n_pushed += invalidations->len;
		pthread_cond_broadcast(&notify->changed);
	}
	g_ptr_array_unref(invalidations);
}

bool
firn_notify_wait(FirnNotify *notify, unsigned timeout_ms)
{
	struct timespec at = firn_deadline_in(timeout_ms);
	uint64_t wanted;
	FIRN_LOCK_SCOPE(&notify->lock);

	wanted = notify->n_pushed;
	while (notify->running && notify->n_told < wanted)
		if (pthread_cond_timedwait(&notify->changed, &notify->lock, &at))
			break;
	return notify->n_told >= wanted;
}

bool
firn_notify_stop(FirnNotify *notify, unsigned timeout_ms)
{
	struct timespec at = firn_deadline_in(timeout_ms);
	bool running;

	if (!notify->fuse)
		return true;
	{
		FIRN_LOCK_SCOPE(&notify->lock);

		notify->stop = true;
		pthread_cond_broadcast(&notify->changed);
		while (notify->running &&
		       !pthread_cond_timedwait(&notify->changed, &notify->lock, &at))
			;
		running = notify->running;
	}
	if (running)
		return false;
	pthread_join(notify->thread, NULL);
	notify->fuse = NULL;
	return true;
}

void
firn_notify_free(FirnNotify *notify)
{
	if (!notify)
		return;
	g_queue_clear_full(&notify->queue, (GDestroyNotify)firn_invalidation_free);
	pthread_cond_destroy(&notify->changed);
	pthread_mutex_destroy(&notify->lock);
	g_free(notify);
}
