#include "core/view/internal.h"

#include "core/base/crash.h"
#include "core/base/deadline.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/*
 * Durability.  Objects first, then the journal, in which a note says up to
 * where objects are durable: after a power cut a record behind the last note
 * may name an object without its bytes (core/JOURNAL.md).  Replaced objects are
 * removed after that: until the record that replaces them is durable, an older
 * one may be what is found.
 */
#define PERIOD_MS       1000u
#define LONGEST_WAIT_MS 30000u

/* What one flush makes durable, and then removes. */
typedef struct {
	uint64_t seq; /* the last record */
	uint64_t n_journals;
	int journal;          /* descriptor; survives that the journal is replaced meanwhile */
	GHashTable *unsynced; /* FirnId12 * */
	GArray *garbage;      /* FirnPart */
} Flush;

void
firn_view_unsynced(FirnView *view, const FirnId12 *object)
{
	FIRN_LOCK_SCOPE(&view->side_lock);

	/* A pack comes once for each chunk in it. */
	if (!g_hash_table_contains(view->unsynced, object))
		g_hash_table_add(view->unsynced, g_memdup2(object, sizeof *object));
}

void
firn_view_forget_unsynced(FirnView *view)
{
	view->n_journals++;
	view->dirty = false;
	pthread_mutex_lock(&view->side_lock);
	g_hash_table_remove_all(view->unsynced);
	pthread_mutex_unlock(&view->side_lock);
}

static void
give_back(FirnView *view, Flush *flush)
{
	GHashTableIter iter;
	gpointer object;
	FIRN_LOCK_SCOPE(&view->side_lock);

	g_hash_table_iter_init(&iter, flush->unsynced);
	while (g_hash_table_iter_next(&iter, &object, NULL)) {
		g_hash_table_iter_steal(&iter);
		g_hash_table_add(view->unsynced, object);
	}
	g_array_append_vals(view->garbage, flush->garbage->data, flush->garbage->len);
	g_array_set_size(flush->garbage, 0);
}

/* Take what there is to do; false: nothing.  View lock held. */
static bool
take(FirnView *view, Flush *flush)
{
	FirnJournal *journal = view->session->journal;

	*flush = (Flush){ .journal = -1 };
	if (!view->dirty || journal == NULL)
		return false;
	flush->seq = firn_journal_last_seq(journal);
	flush->n_journals = view->n_journals;
	flush->journal = firn_journal_dup(journal);
	pthread_mutex_lock(&view->side_lock);
	flush->unsynced = g_steal_pointer(&view->unsynced);
	view->unsynced = g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, NULL);
	flush->garbage = g_steal_pointer(&view->garbage);
	view->garbage = g_array_new(FALSE, FALSE, sizeof(FirnPart));
	pthread_mutex_unlock(&view->side_lock);
	return true;
}

/* An object that somebody removed must not keep the others from being synced. */
static int
sync_each(FirnView *view, GPtrArray *keys)
{
	int failed = 0;

	for (guint i = 0; i < keys->len; i++) {
		const char *key = keys->pdata[i];
		GError *error = NULL;

		if (firn_store_sync(firn_repo_store(view->repo), &key, 1, &error))
			continue;
		if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
			firn_view_note(view, key, "the object of a chunk is missing");
			g_error_free(error);
		} else {
			failed = firn_view_fail(view, key, error);
		}
	}
	return failed;
}

static int
sync_objects(FirnView *view, const Flush *flush)
{
	g_autoptr(GHashTable) gone = g_hash_table_new(firn_id12_hash, firn_id12_equal);
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	GError *error = NULL;
	gpointer id;

	for (guint i = 0; i < flush->garbage->len; i++) {
		FirnPart *part = &g_array_index(flush->garbage, FirnPart, i);

		/* The rest of a pack stays. */
		if (part->offset == 0)
			g_hash_table_add(gone, &part->id);
	}
	g_hash_table_iter_init(&iter, flush->unsynced);
	while (g_hash_table_iter_next(&iter, &id, NULL))
		if (!g_hash_table_contains(gone, id))
			g_ptr_array_add(keys, firn_content_key(id));
	if (keys->len == 0 || firn_store_sync(firn_repo_store(view->repo),
					      (const char *const *)keys->pdata, keys->len, &error))
		return 0;
	if (!g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND))
		return firn_view_fail(view, "chunks", error);
	g_error_free(error);
	return sync_each(view, keys);
}

/* The journal may be another one by now: then there is nothing to say in it. */
static int
note_durable(FirnView *view, const Flush *flush)
{
	FirnSession *session = view->session;
	GError *error = NULL;
	FIRN_LOCK_SCOPE(&view->lock);

	if (view->n_journals != flush->n_journals || session->durable_seq >= flush->seq)
		return 0;
	if (!firn_journal_durable(session->journal, flush->seq, &error))
		return firn_view_fail(view, "journal", error);
	session->durable_seq = flush->seq;
	return 0;
}

static int
sync_journal(FirnView *view, const Flush *flush)
{
	GError *error = NULL;

	if (flush->journal >= 0 && fdatasync(flush->journal) == 0)
		return 0;
	firn_error_set_errno(&error, errno, "cannot sync the journal");
	return firn_view_fail(view, "journal", error);
}

/* Whether all that is recorded is durable now. */
static void
settle(FirnView *view, const Flush *flush)
{
	FIRN_LOCK_SCOPE(&view->lock);

	if (view->n_journals == flush->n_journals &&
	    firn_journal_last_seq(view->session->journal) == flush->seq)
		view->dirty = false;
}

int
firn_view_fsync_all(FirnView *view)
{
	Flush flush;
	bool todo;
	int failed;
	/* Who comes while another flushes finds its own records durable, or flushes the rest. */
	FIRN_LOCK_SCOPE(&view->flush_lock);

	if (view->read_only)
		return 0;
	pthread_mutex_lock(&view->lock);
	todo = take(view, &flush);
	pthread_mutex_unlock(&view->lock);
	if (!todo)
		return 0;
	failed = sync_objects(view, &flush);
	if (failed == 0) {
		firn_crash_point(FIRN_CRASH_OBJECTS_SYNCED);
		failed = note_durable(view, &flush);
	}
	if (failed == 0) {
		firn_crash_point(FIRN_CRASH_DURABLE_NOTED);
		failed = sync_journal(view, &flush);
	}
	if (failed == 0) {
		settle(view, &flush);
		firn_view_remove_parts(view, flush.garbage);
	} else {
		give_back(view, &flush);
	}
	if (flush.journal >= 0)
		close(flush.journal);
	g_hash_table_unref(flush.unsynced);
	g_array_unref(flush.garbage);
	return failed;
}

/* ---- once a second ---- */

/* Sleep; the view lock is held but for that.  False: the end. */
static bool
pause_for(FirnView *view, unsigned ms)
{
	struct timespec until = firn_deadline_in(ms);

	while (!view->flusher_stop)
		if (pthread_cond_timedwait(&view->flusher_wake, &view->lock, &until) == ETIMEDOUT)
			return true;
	return false;
}

static void *
flusher(void *data)
{
	FirnView *view = data;
	unsigned wait_ms = PERIOD_MS;

	pthread_mutex_lock(&view->lock);
	while (!view->flusher_stop) {
		int failed;

		if (!view->dirty) {
			pthread_cond_wait(&view->flusher_wake, &view->lock);
			continue;
		}
		if (!pause_for(view, wait_ms))
			break;
		pthread_mutex_unlock(&view->lock);
		failed = firn_view_fsync_all(view);
		pthread_mutex_lock(&view->lock);
		/* A full disk is not asked every second, nor told of as often. */
		wait_ms = failed == 0 ? PERIOD_MS : MIN(wait_ms * 2, LONGEST_WAIT_MS);
	}
	pthread_mutex_unlock(&view->lock);
	return NULL;
}

static void
start_flusher(FirnView *view)
{
	sigset_t all, old;

	/* Signals are for the driver's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	view->flusher_runs = pthread_create(&view->flusher, NULL, flusher, view) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void
firn_view_recorded(FirnView *view)
{
	if (view->dirty)
		return;
	view->dirty = true;
	/* Without the thread (there may be too many), fsync and commit are durable all the same. */
	if (!view->flusher_runs && !view->flusher_stop)
		start_flusher(view);
	else
		pthread_cond_broadcast(&view->flusher_wake);
}

void
firn_view_flusher_init(FirnView *view)
{
	firn_deadline_cond_init(&view->flusher_wake);
	pthread_mutex_init(&view->flush_lock, NULL);
}

void
firn_view_stop_flushing(FirnView *view)
{
	bool stopped;

	pthread_mutex_lock(&view->lock);
	stopped = view->flusher_stop;
	view->flusher_stop = true;
	pthread_cond_broadcast(&view->flusher_wake);
	pthread_mutex_unlock(&view->lock);
	if (view->flusher_runs && !stopped)
		pthread_join(view->flusher, NULL);
}

void
firn_view_flusher_end(FirnView *view)
{
	firn_view_stop_flushing(view);
	pthread_cond_destroy(&view->flusher_wake);
	pthread_mutex_destroy(&view->flush_lock);
}
