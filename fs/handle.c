#include "fs/handle.h"

#include "core/base/deadline.h"
#include "fs/driver.h"
#include "fs/restore.h"

struct FirnHandles {
	pthread_mutex_t lock; /* protects all below, and the handles' private members */
	FirnKeep *keep;
	FirnHandle *first;
	GHashTable *by_id; /* &id -> FirnHandle * */
	uint64_t next_id;
	GHashTable *direct; /* ino -> number of handles */
	GHashTable *late;  /* ino -> number of those closed once that may write on past the cache */
	GHashTable *mixed; /* ino: opened through the cache while there were such ones */
	pthread_cond_t ended;
	unsigned n_closing;
};

FirnHandles *
firn_handles_new(FirnKeep *keep, unsigned generation)
{
	FirnHandles *handles = g_new0(FirnHandles, 1);

	pthread_mutex_init(&handles->lock, NULL);
	firn_deadline_cond_init(&handles->ended);
	handles->keep = keep;
	handles->next_id = ((uint64_t)generation << 32) + 1;
	handles->by_id = g_hash_table_new(g_int64_hash, g_int64_equal);
	handles->direct = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	handles->late = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	handles->mixed = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	return handles;
}

void
firn_handles_free(FirnHandles *handles)
{
	g_assert(!handles->first);
	g_hash_table_unref(handles->direct);
	g_hash_table_unref(handles->late);
	g_hash_table_unref(handles->mixed);
	g_hash_table_unref(handles->by_id);
	pthread_cond_destroy(&handles->ended);
	pthread_mutex_destroy(&handles->lock);
	g_free(handles);
}

static void
count(GHashTable *table, uint64_t ino, int step)
{
	int n = GPOINTER_TO_INT(g_hash_table_lookup(table, &ino)) + step;
	gpointer value;

	if (n == 0) {
		g_hash_table_remove(table, &ino);
		return;
	}
	value = GINT_TO_POINTER(n);
	g_hash_table_replace(table, g_memdup2(&ino, sizeof(ino)), value);
}

static void
set_mixed(FirnHandles *handles, uint64_t ino)
{
	g_hash_table_add(handles->mixed, g_memdup2(&ino, sizeof(ino)));
}

/* How a file that is opened goes with those that are open.  The lock is held. */
static void
begin_direct(FirnHandles *handles, FirnHandle *handle)
{
	bool again = handle->id != 0;

	if (handle->file && !again && g_hash_table_contains(handles->direct, &handle->ino))
		handle->direct = true;
	if (handle->direct)
		handle->bypass = true;
	if (handle->bypass)
		count(handle->direct ? handles->direct : handles->late, handle->ino, 1);
	/* Of a predecessor's files it is not known. */
	if (handle->bypass ? again
			   : handle->file && g_hash_table_contains(handles->late, &handle->ino))
		set_mixed(handles, handle->ino);
}

static FirnHandleKind
kind_of(const FirnHandle *handle)
{
	if (handle->file)
		return FIRN_HANDLE_FILE;
	if (handle->dir)
		return FIRN_HANDLE_DIR;
	return handle->control ? FIRN_HANDLE_CONTROL : FIRN_HANDLE_LISTING;
}

static void
keep_handle(FirnHandles *handles, const FirnHandle *handle)
{
	g_autoptr(GByteArray) out = NULL;
	FirnFileKept file = { 0 };

	if (!handles->keep)
		return;
	out = g_byte_array_new();
	if (handle->file)
		firn_view_file_kept(handle->file, &file);
	firn_keep_add(out, kind_of(handle));
	firn_keep_add(out, handle->ino);
	firn_keep_add(out, handle->request);
	firn_keep_add(out, handle->direct);
	firn_keep_add(out, handle->closing);
	firn_keep_add(out, file.base);
	firn_keep_add(out, file.writable);
	firn_keep_add(out, (uint64_t)file.pid);
	firn_keep_add(out, file.key);
	firn_keep_add(out, handle->counted);
	firn_keep_add(out, handle->unflushed);
	firn_keep_add(out, handle->bypass);
	firn_keep_put_now(handles->keep, FIRN_KEPT_HANDLE, handle->id, out->data, out->len);
}

static void
forget_kept(FirnHandles *handles, const FirnHandle *handle)
{
	g_autoptr(GByteArray) batch = NULL;

	if (!handles->keep)
		return;
	batch = g_byte_array_new();
	firn_keep_drop(batch, FIRN_KEPT_HANDLE, handle->id);
	if (handle->dir)
		firn_keep_drop(batch, FIRN_KEPT_NAMES, handle->id);
	if (handle->control)
		firn_keep_drop(batch, FIRN_KEPT_CONTROL, handle->id);
	firn_keep_commit(handles->keep, batch);
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
	begin_direct(handles, handle);
	if (!handle->id)
		handle->id = handles->next_id;
	handles->next_id = MAX(handles->next_id, handle->id + 1);
	handles->n_closing += handle->closing;
	g_hash_table_insert(handles->by_id, &handle->id, handle);
	keep_handle(handles, handle);
	return handle;
}

FirnHandle *
firn_handles_find(FirnHandles *handles, uint64_t id)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	return g_hash_table_lookup(handles->by_id, &id);
}

FirnHandle *
firn_handles_of_request(FirnHandles *handles, uint64_t request)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	for (FirnHandle *handle = handles->first; handle; handle = handle->next)
		if (handle->request == request)
			return handle;
	return NULL;
}

static void
end_direct(FirnHandles *handles, FirnHandle *handle)
{
	if (!handle->bypass)
		return;
	count(handle->direct ? handles->direct : handles->late, handle->ino, -1);
	handle->direct = false;
	handle->bypass = false;
	if (!g_hash_table_contains(handles->direct, &handle->ino) &&
	    !g_hash_table_contains(handles->late, &handle->ino))
		g_hash_table_remove(handles->mixed, &handle->ino);
}

/* The lock is held. */
static void
set_direct(FirnHandles *handles, FirnHandle *handle, bool direct)
{
	if (handle->direct == direct)
		return;
	handle->direct = direct;
	count(handles->direct, handle->ino, direct ? 1 : -1);
	count(handles->late, handle->ino, direct ? -1 : 1);
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
		g_hash_table_remove(handles->by_id, &handle->id);
		forget_kept(handles, handle);
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

/* The lock is held. */
static void
closed_once(FirnHandles *handles, FirnHandle *handle)
{
	if (handle->closing && !handle->direct)
		return;
	set_direct(handles, handle, false);
	handles->n_closing += !handle->closing;
	handle->closing = true;
	keep_handle(handles, handle);
}

void
firn_handles_closed_once(FirnHandles *handles, FirnHandle *handle)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	closed_once(handles, handle);
}

bool
firn_handles_writes(FirnHandles *handles, FirnHandle *handle)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	if (!handle->bypass)
		return false;
	if (!handle->direct) {
		set_direct(handles, handle, true);
		keep_handle(handles, handle);
	}
	return g_hash_table_contains(handles->mixed, &handle->ino);
}

void
firn_handles_find_renamed(FirnHandles *handles, FirnView *view)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	for (FirnHandle *handle = handles->first; handle; handle = handle->next)
		if (handle->unflushed && !handle->closing &&
		    !firn_view_file_is_scratch(view, handle->file))
			closed_once(handles, handle);
}

void
firn_handles_settle(FirnHandles *handles, FirnView *view, unsigned timeout_ms)
{
	struct timespec until = firn_deadline_in(timeout_ms);

	firn_handles_find_renamed(handles, view);
	FIRN_LOCK_SCOPE(&handles->lock);

	while (handles->n_closing &&
	       !pthread_cond_timedwait(&handles->ended, &handles->lock, &until))
		;
}

/* Nobody can write to it any more, and who asks next may be answered while it ends. */
static void
begin_end(FirnHandles *handles, FirnHandle *handle)
{
	FIRN_LOCK_SCOPE(&handles->lock);

	end_direct(handles, handle);
	handle->unflushed = false;
}

void
firn_handle_end(FirnDriver *driver, FirnHandle *handle)
{
	begin_end(driver->handles, handle);
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
