#include "fs/finish.h"

#include "core/base/crash.h"

#include "fs/content.h"
#include "fs/daemon.h"

static bool
has_own_chunks(const FirnNodeChange *change, bool inherits)
{
	FirnChunkIter iter;
	const uint32_t *coords;
	FirnChunkChange *chunk;

	if (!change->chunks)
		return false;
	if (!inherits)
		return firn_chunk_map_size(change->chunks) > 0;
	firn_chunk_iter_seek(&iter, change->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &chunk))
		if (chunk->seq)
			return true;
	return false;
}

/* What a fork inherited has sequence number 0 and is its parent's to commit. */
static bool
has_changes(const FirnSession *session)
{
	bool inherits = session->parents->len > 0;
	GHashTableIter iter;
	gpointer value;

	if (g_hash_table_size(session->changes->dropped) > 0)
		return true;
	g_hash_table_iter_init(&iter, session->changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (!inherits || ((const FirnPending *)value)->seq)
			return true;
	g_hash_table_iter_init(&iter, session->changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *change = value;
		/* Made here and gone again. */
		bool nothing = change->kind == FIRN_CHANGE_DELETE && change->created &&
			       change->created_seq;

		if (change->kind != FIRN_CHANGE_CHUNKS && !nothing && (change->seq || !inherits))
			return true;
		if (has_own_chunks(change, inherits))
			return true;
	}
	return false;
}

static bool
publish(FirnDriver *driver)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) image = NULL;
	int errnum = firn_view_fsync_all(driver->view);

	if (errnum) {
		firn_daemon_log("the chunks of session %s cannot be made durable: %s",
				driver->session_id, g_strerror(errnum));
		return false;
	}
	image = firn_content_journal(driver, &error);
	if (!image || !firn_fork_publish(driver->repo, driver->fork_of, &driver->session->id, image,
					 &error)) {
		firn_daemon_log("the journal of session %s cannot be published: %s",
				driver->session_id, error->message);
		return false;
	}
	firn_crash_point(FIRN_CRASH_FORK_PUBLISHED);
	firn_daemon_log("the journal of session %s is published for fork %s", driver->session_id,
			driver->fork_of);
	return true;
}

static bool
remove_state(FirnDriver *driver)
{
	g_autoptr(GError) error = NULL;

	if (firn_session_remove_state(driver->session, &error))
		return true;
	firn_daemon_log("the state of session %s cannot be removed: %s", driver->session_id,
			error->message);
	return false;
}

static bool
discard_all(FirnDriver *driver)
{
	g_autoptr(GError) error = NULL;
	GPtrArray *stale = NULL;

	/* Also removes the chunk objects this session wrote. */
	if (!firn_view_discard(driver->view, &stale, &error))
		firn_daemon_log("dropping the changes of session %s: %s", driver->session_id,
				error->message);
	firn_notify_push(driver->notify, stale);
	return remove_state(driver);
}

static bool
keep_state(FirnDriver *driver)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = NULL;
	int errnum = firn_view_fsync_all(driver->view);

	if (errnum)
		firn_daemon_log("the changes of session %s may not outlive a power cut: %s",
				driver->session_id, g_strerror(errnum));
	info = firn_state_read_info(driver->session->directory, &error);
	if (info)
		info->pid = 0;
	if (!info || !firn_state_write_info(info, &error))
		firn_daemon_log("session.json: %s", error->message);
	firn_daemon_log(
		"uncommitted changes are kept: 'firn mount --resume %s %s' goes on with them",
		driver->session_id, driver->options->mountpoint);
	return !errnum;
}

static bool
conclude_session(FirnDriver *driver)
{
	bool discard, changed;

	if (firn_driver_is_read_only(driver))
		return true;
	{
		FIRN_LOCK_SCOPE(&driver->lock);

		discard = driver->discard;
	}
	if (discard)
		return discard_all(driver);
	changed = has_changes(driver->session);
	/* Whoever counts the workers waits for one without changes, too, but not for one whose
	 * mount was committed as it was: its journal has a start of its own since. */
	if (driver->fork_of && (changed || driver->session->header->ancestors->len > 0)) {
		if (publish(driver))
			return remove_state(driver);
		(void)(changed ? keep_state(driver) : remove_state(driver));
		return false;
	}
	return changed ? keep_state(driver) : remove_state(driver);
}

bool
firn_finish(FirnDriver *driver)
{
	FirnHandle *handle;
	bool ok = true;

	while ((handle = firn_handles_any(driver->handles)))
		firn_handle_end(driver, handle);
	if (driver->view) {
		firn_view_stop_flushing(driver->view);
		ok = conclude_session(driver);
		firn_view_free(driver->view);
	}
	firn_repo_free(driver->repo);
	return ok;
}
