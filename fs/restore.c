#include "fs/restore.h"

#include "fs/ctl.h"

#include <string.h>
#include <unistd.h>

void
firn_restore_keep_driver(FirnDriver *driver)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	const char *texts[] = { firn_repo_url(driver->repo),
				driver->session->directory,
				driver->name,
				driver->branch,
				driver->session_id,
				driver->fork_of };

	if (!driver->succession.keep)
		return;
	firn_keep_add(out, driver->started_us);
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		firn_keep_add(out, texts[i] != NULL);
		firn_keep_add_text(out, texts[i]);
	}
	firn_keep_put_now(driver->succession.keep, FIRN_KEPT_DRIVER, 0, out->data, out->len);
}

/* NULL if there was none.  Caller owns. */
static char *
take_text(FirnKeepReader *reader)
{
	bool there = firn_keep_take(reader) != 0;
	char *text = firn_keep_take_text(reader);

	if (there)
		return text;
	g_free(text);
	return NULL;
}

static bool
take_over(FirnDriver *driver, const FirnKept *kept, const char *directory, GError **error)
{
	g_autoptr(FirnSnapshot) snapshot = NULL;
	FirnViewKept view;
	FirnId12 id;

	if (!firn_view_kept(kept, &view, error))
		return false;
	driver->base = view.base;
	if (directory) {
		if (!firn_id12_parse(driver->session_id, strlen(driver->session_id), &id))
			return false;
		driver->session =
			firn_session_take_over(driver->repo, &id, directory,
					       driver->succession.lock_fd, view.journal_file,
					       view.journal_end, view.committing, error);
		if (driver->session)
			driver->succession.lock_fd = -1;
		return driver->session != NULL;
	}
	snapshot = firn_repo_get_snapshot(driver->repo, &view.base, error);
	if (!snapshot)
		return false;
	driver->session = firn_session_read_only(driver->repo, snapshot);
	return true;
}

bool
firn_restore_open(FirnDriver *driver, const FirnKept *kept, GError **error)
{
	const FirnOptions *options = driver->options;
	FirnKeepReader reader = firn_keep_reader(firn_kept_find(kept, FIRN_KEPT_DRIVER, 0));
	FirnViewOptions view_options = { .virtual_prefixes = options->virtual_prefixes,
					 .keep = driver->succession.keep,
					 .max_known = options->max_inodes };
	g_autofree char *directory = NULL;
	g_autofree char *url = NULL;

	driver->started_us = firn_keep_take(&reader);
	url = take_text(&reader);
	directory = take_text(&reader);
	driver->name = take_text(&reader);
	driver->branch = take_text(&reader);
	driver->session_id = take_text(&reader);
	driver->fork_of = take_text(&reader);
	if (reader.bad || !url || !driver->name) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the driver that died had not said what it mounted");
		return false;
	}
	driver->uid = view_options.uid = getuid();
	driver->gid = view_options.gid = getgid();
	driver->discard = firn_kept_find(kept, FIRN_KEPT_DISCARD, 0) != NULL;
	/* No manifests shared: a file cut off under its predecessor may be what that died of. */
	driver->repo = firn_repo_open(url, error);
	if (!driver->repo)
		return false;
	if (options->cache_bytes)
		firn_repo_set_cache_size(driver->repo, options->cache_bytes);
	if (!take_over(driver, kept, directory, error))
		return false;
	view_options.name = driver->name;
	driver->view = firn_view_restore(driver->session, &view_options, kept, error);
	return driver->view != NULL;
}

void
firn_restore_record(FirnDriver *driver)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = NULL;

	if (firn_driver_is_read_only(driver))
		return;
	info = firn_state_read_info(driver->session->directory, &error);
	if (info)
		info->restarts = driver->succession.n_restarts;
	if (!info || !firn_state_write_info(info, &error))
		firn_view_note(driver->view, NULL, "session.json: %s", error->message);
}

/* ---- handles ---- */

static int
reopen(FirnDriver *driver, const FirnKept *kept, FirnHandle *what, FirnHandleKind kind,
       const FirnFileKept *file)
{
	GBytes *names = firn_kept_find(kept, FIRN_KEPT_NAMES, what->id);
	int errnum = 0;

	switch (kind) {
	case FIRN_HANDLE_FILE:
		return firn_view_reopen(driver->view, what->ino, file, &what->file);
	case FIRN_HANDLE_DIR:
		errnum = firn_view_opendir(driver->view, what->ino, &what->dir);
		if (!errnum && names)
			firn_view_dir_restore(driver->view, what->dir, names);
		return errnum;
	case FIRN_HANDLE_CONTROL:
		what->control = firn_control_restore(driver, firn_kept_find(kept, FIRN_KEPT_CONTROL,
									    what->id));
		return 0;
	case FIRN_HANDLE_LISTING:
		return firn_control_opendir(driver, what->ino, &what->listing);
	}
	return EBADF;
}

static void
restore_handle(FirnDriver *driver, const FirnKept *kept, uint64_t id, GBytes *record)
{
	FirnKeepReader reader = firn_keep_reader(record);
	FirnHandle what = { .id = id };
	FirnHandleKind kind = (FirnHandleKind)firn_keep_take(&reader);
	FirnFileKept file;
	int errnum;

	what.ino = firn_keep_take(&reader);
	what.request = firn_keep_take(&reader);
	what.direct = firn_keep_take(&reader) != 0;
	what.closing = firn_keep_take(&reader) != 0;
	file.base = firn_keep_take(&reader) != 0;
	file.writable = firn_keep_take(&reader) != 0;
	file.pid = (pid_t)firn_keep_take(&reader);
	file.key = firn_keep_take(&reader);
	what.counted = firn_keep_take(&reader) != 0 && driver->passthrough;
	what.unflushed = firn_keep_take(&reader) != 0;
	what.bypass = firn_keep_take(&reader) != 0;
	errnum = reader.bad ? EBADF : reopen(driver, kept, &what, kind, &file);
	if (errnum)
		firn_view_note(driver->view, NULL,
			       "a file that was open when the driver died (inode %" G_GUINT64_FORMAT
			       ") cannot be opened again: %s",
			       what.ino, g_strerror(errnum));
	if (errnum)
		return;
	if (what.counted)
		firn_passthrough_restore(driver->passthrough, what.ino,
					 firn_kept_find(kept, FIRN_KEPT_BACKING, what.ino));
	firn_handles_add(driver->handles, &what);
}

void
firn_restore_handles(FirnDriver *driver, const FirnKept *kept)
{
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, kept->kinds[FIRN_KEPT_HANDLE]);
	while (g_hash_table_iter_next(&iter, &key, &value))
		restore_handle(driver, kept, *(const uint64_t *)key, value);
	firn_view_restored(driver->view);
	/* A commit that nobody has heard of was not begun. */
	if (!driver->committing)
		firn_ctl_forget_commit(driver);
}
