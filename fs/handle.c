#include "fs/handle.h"

#include "fs/deadline.h"
#include "fs/driver.h"

struct FirnHandles {
	pthread_mutex_t lock; /* protects all below, and the handles' private members */
	FirnHandle *first;
	GHashTable *direct; /* ino -> number of handles */
	pthread_cond_t ended;
	unsigned n_closing;
};

FirnHandles *
firn_handles_new(void)
{
	FirnHandles *handles = g_new0(FirnHandles, 1);
	pthread_condattr_t monotonic;

	pthread_mutex_init(&handles->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&handles->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	handles->direct = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	return handles;
}

void
firn_handles_free(FirnHandles *handles)
{
	g_assert(!handles->first);
	g_hash_table_unref(handles->direct);
	pthread_cond_destroy(&handles->ended);
	pthread_mutex_destroy(&handles->lock);
	g_free(handles);
}

static void
add_direct(FirnHandles *handles, uint64_t ino, int step)
{
	int n = GPOINTER_TO_INT(g_hash_table_lookup(handles->direct, &ino)) + step;
	gpointer value;

	if (n == 0) {
		g_hash_table_remove(handles->direct, &ino);
		return;
	}
	value = GINT_TO_POINTER(n);
	g_hash_table_replace(handles->direct, g_memdup2(&ino, sizeof(ino)), value);
}

FirnHandle *
firn_handles_add(FirnHandles *handles, const FirnHandle *what)
{
	FirnHandle *handle = g_memdup2(what, sizeof(*what));
	FIRN_LOCK_SCOPE(&handles->lock);

	handle->previous = NULL;
	handle->next = handles->first;
	if (handles->first)
		handles->first->previous = handle;
	handles->first = handle;
	if (handle->direct)
		add_direct(handles, handle->ino, 1);
	return handle;
}

static void
end_direct(FirnHandles *handles, FirnHandle *handle)
{
	if (!handle->direct)
		return;
	handle->direct = false;
	add_direct(handles, handle->ino, -1);
}

void
firn_handles_remove(FirnHandles *handles, FirnHandle *handle)
{
	{
		FIRN_LOCK_SCOPE(&handles->lock);

		end_direct(handles, handle);
		handles->n_closing -= handle->closing;
		pthread_cond_broadcast(&handles->ended);
		if (handle->previous)
			handle->previous->next = handle->next;
		else
			handles->first = handle->next;
		if (handle->next)
			handle->next->previous = handle->previous;
	}
	g_free(handle);
}

FirnHandle *
firn_handles_any(FirnHandles *handles)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	return handles->first;
}

bool
firn_handles_is_direct(FirnHandles *handles, uint64_t ino)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	return g_hash_table_contains(handles->direct, &ino);
}

void
firn_handles_closed_once(FirnHandles *handles, FirnHandle *handle)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	end_direct(handles, handle);
	handles->n_closing += !handle->closing;
	handle->closing = true;
}

void
firn_handles_settle(FirnHandles *handles, unsigned timeout_ms)
{
	struct timespec until = firn_deadline_in(timeout_ms);
	FIRN_LOCK_SCOPE(&handles->lock);

	while (handles->n_closing &&
	       !pthread_cond_timedwait(&handles->ended, &handles->lock, &until))
		;
}

void
firn_handle_end(FirnDriver *driver, FirnHandle *handle)
{
	if (handle->file)
		firn_view_release(driver->view, handle->file);
	else if (handle->dir)
		firn_view_closedir(driver->view, handle->dir);
	else if (handle->control)
		firn_control_release(handle->control);
	else
		firn_control_closedir(handle->listing);
	if (handle->counted)
		firn_passthrough_leave(driver->passthrough, handle->ino);
	firn_handles_remove(driver->handles, handle);
}
