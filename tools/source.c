#include "tools/source.h"

#include "tools/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
replace(GPtrArray **list, GPtrArray *by)
{
	if (*list)
		g_ptr_array_unref(*list);
	*list = by;
}

/*
 * Closing would do, but the kernel tells the driver of a close some time later,
 * and whoever commits next should not find the mount busy.
 */
static void
give_up(FirnOrigin *origin)
{
	JsonObject *reply;

	if (!origin->ctl || !origin->begun)
		return;
	reply = firn_ctl_call(origin->ctl, firn_ctl_request("commit-end"), NULL);
	if (reply)
		json_object_unref(reply);
	origin->begun = false;
}

void
firn_origin_free(FirnOrigin *origin)
{
	if (!origin)
		return;
	give_up(origin);
	firn_ctl_close(origin->ctl);
	firn_session_free(origin->session);
	firn_mount_free(origin->mount);
	if (origin->info)
		firn_session_info_free(origin->info);
	replace(&origin->sections, NULL);
	replace(&origin->pending, NULL);
	replace(&origin->scratch, NULL);
	replace(&origin->taken, NULL);
	g_free(origin->name);
	g_free(origin->repository);
	g_free(origin->path);
	g_free(origin->cut);
	g_free(origin);
}

static FirnOrigin *
origin_new(FirnOriginKind kind, const char *name)
{
	FirnOrigin *origin = g_new0(FirnOrigin, 1);

	origin->kind = kind;
	origin->name = g_strdup(name);
	origin->taken = firn_taken_new();
	return origin;
}

static FirnOrigin *
origin_of_mount(const char *name, FirnMount *mount)
{
	FirnOrigin *origin = origin_new(FIRN_ORIGIN_MOUNT, name);

	origin->mount = mount;
	origin->repository = g_strdup(firn_mount_string(mount, "repository"));
	return origin;
}

/* A session by its description: its mount if it is live. */
static FirnOrigin *
origin_of_info(const char *name, FirnSessionInfo *info, GError **error)
{
	char id[FIRN_ID12_TEXT + 1];
	FirnOrigin *origin;
	FirnMount *mount;

	if (!info->live) {
		origin = origin_new(FIRN_ORIGIN_SESSION, name);
		if (*info->repository)
			origin->repository = g_strdup(info->repository);
		origin->info = info;
		return origin;
	}
	firn_id12_format(&info->id, id);
	mount = firn_mount_find_session(id, info->mountpoint, info->repository);
	if (mount) {
		firn_session_info_free(info);
		return origin_of_mount(name, mount);
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "session %s is live (process %" G_GINT64_FORMAT
		    "), and its mount cannot be reached at %s: name its mount point",
		    id, info->pid, info->mountpoint ? info->mountpoint : "an unknown place");
	firn_session_info_free(info);
	return NULL;
}

static FirnOrigin *
origin_of_state_directory(const char *name, GError **error)
{
	g_autofree char *full = g_canonicalize_filename(name, NULL);
	g_autofree char *root = g_path_get_dirname(full);
	g_autofree char *id = g_path_get_basename(full);
	FirnSessionInfo *info = firn_state_find(root, id, error);

	return info ? origin_of_info(name, info, error) : NULL;
}

static bool
looks_like_id(const char *name)
{
	size_t len = strlen(name);

	if (len < 4 || len > FIRN_ID12_TEXT)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!g_ascii_isalnum(name[i]))
			return false;
	return true;
}

static FirnOrigin *
origin_of_id(const char *name, const char *state_root, GError **error)
{
	g_autoptr(GError) local = NULL;
	FirnSessionInfo *info = NULL;

	if (looks_like_id(name))
		info = firn_state_find(state_root, name, &local);
	if (info)
		return origin_of_info(name, info, error);
	if (local && !g_error_matches(local, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_propagate_error(error, g_steal_pointer(&local));
		return NULL;
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "'%s' is no mount, no journal file, and no session in %s", name, state_root);
	return NULL;
}

FirnOrigin *
firn_origin_resolve(const char *name, const char *state_root, GError **error)
{
	g_autoptr(GError) local = NULL;
	g_autofree char *state_journal = g_build_filename(name, "session.json", NULL);
	g_autoptr(FirnMount) mount = NULL;
	FirnOrigin *origin;
	struct stat st = { 0 };
	bool hidden = false;

	/* What cannot be looked at may be another user's mount. */
	if (stat(name, &st) != 0) {
		hidden = errno == EACCES;
		if (errno != ENOTCONN && !hidden)
			return origin_of_id(name, state_root, error);
	}
	mount = firn_mount_find(name, &local);
	/* A copy of a journal somewhere below a mount is that copy; the mount's own is the mount. */
	if (mount && (!S_ISREG(st.st_mode) || !strcmp(mount->inner, "/.firn/journal")))
		return origin_of_mount(name, g_steal_pointer(&mount));
	if (local && !g_error_matches(local, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_propagate_error(error, g_steal_pointer(&local));
		return NULL;
	}
	if (hidden) {
		firn_error_set_errno(error, EACCES, "cannot look at %s", name);
		return NULL;
	}
	if (S_ISDIR(st.st_mode) && g_file_test(state_journal, G_FILE_TEST_EXISTS))
		return origin_of_state_directory(name, error);
	if (S_ISDIR(st.st_mode)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is a directory, but not in a firn mount", name);
		return NULL;
	}
	origin = origin_new(FIRN_ORIGIN_FILE, name);
	origin->path = g_strdup(name);
	return origin;
}

FirnOrigin *
firn_origin_published(const char *key, const char *repository)
{
	FirnOrigin *origin = origin_new(FIRN_ORIGIN_PUBLISHED, key);

	origin->path = g_strdup(key);
	origin->repository = g_strdup(repository);
	return origin;
}

/* Of a session, in full: what it says to people who have its id only. */
static void
warn_torn(const FirnOrigin *origin, bool stopped)
{
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(&origin->info->id, id);
	if (origin->cut)
		firn_cli_warn("%s: the machine stopped, and the end of the session's journal did "
			      "not survive: it is left out, and kept in %s until 'firn discard %s'",
			      origin->name, origin->cut, id);
	else if (stopped && origin->torn)
		firn_cli_warn("%s: the machine stopped, and the last %" G_GUINT64_FORMAT
			      " bytes of the session's journal did not survive: they are left out",
			      origin->name, origin->torn);
	else if (origin->torn)
		firn_cli_warn("%s ends in the middle of a record: %" G_GUINT64_FORMAT
			      " bytes are left out",
			      origin->name, origin->torn);
}

/* Nobody takes it up, and cuts or adds to it, meanwhile. */
static GPtrArray *
read_session_journal(FirnOrigin *origin, uint64_t *out_torn, GError **error)
{
	const char *directory = origin->info->directory;
	g_autofree char *path = g_build_filename(directory, "journal", NULL);
	g_autoptr(FirnSessionInfo) info = NULL;
	GPtrArray *sections = NULL;
	int lock = firn_state_lock_reading(directory, error);

	if (lock < 0)
		return NULL;
	/* It may have been taken up since we looked. */
	info = firn_state_read_info(directory, error);
	if (info)
		sections = info->stopped ? firn_journal_read_stopped(path, out_torn, error)
					 : firn_journal_read(path, out_torn, error);
	close(lock);
	if (sections) {
		origin->torn = *out_torn;
		warn_torn(origin, info->stopped);
	}
	return sections;
}

static GPtrArray *
read_published(FirnOrigin *origin, FirnStore *store, GError **error)
{
	g_autoptr(GBytes) nothing = NULL;

	return firn_store_get(store, origin->path, 0, 0, &nothing, &origin->version, error)
		       ? firn_fork_read(store, origin->path, error)
		       : NULL;
}

bool
firn_origin_read(FirnOrigin *origin, FirnRepo *repo, GError **error)
{
	g_autoptr(GBytes) bytes = NULL;
	uint64_t torn = 0;

	if (origin->sections)
		return true;
	switch (origin->kind) {
	case FIRN_ORIGIN_MOUNT:
		bytes = firn_mount_read(origin->mount, "journal", error);
		if (bytes)
			origin->sections = firn_journal_decode(bytes, origin->name, &torn, error);
		break;
	case FIRN_ORIGIN_FILE:
		origin->sections = firn_journal_read(origin->path, &torn, error);
		break;
	case FIRN_ORIGIN_SESSION:
		origin->sections = read_session_journal(origin, &torn, error);
		break;
	case FIRN_ORIGIN_PUBLISHED:
		origin->sections = read_published(origin, firn_repo_store(repo), error);
		break;
	}
	origin->torn = torn;
	return origin->sections != NULL;
}

bool
firn_origin_check_whole(const FirnOrigin *origin, GError **error)
{
	guint n = origin->sections->len;
	const FirnSection *last = n ? g_ptr_array_index(origin->sections, n - 1) : NULL;

	if (origin->kind != FIRN_ORIGIN_FILE || (last && last->sealed && !origin->torn))
		return true;
	g_set_error(
		error, FIRN_ERROR, FIRN_ERROR_FORMAT,
		"%s has no end: it was not copied whole, or is the working file of a session "
		"whose driver died.  Copy it again; or, if this is all there is of it, cut it at "
		"the last whole record with 'firn journal export %s -o FILE' and use FILE",
		origin->name, origin->name);
	return false;
}

void
firn_origins_torn_to_json(JsonBuilder *builder, GPtrArray *origins)
{
	json_builder_set_member_name(builder, "torn");
	json_builder_begin_array(builder);
	for (guint i = 0; i < origins->len; i++) {
		const FirnOrigin *origin = g_ptr_array_index(origins, i);

		if (!origin->torn && !origin->cut)
			continue;
		json_builder_begin_object(builder);
		firn_json_string(builder, "source", origin->name);
		firn_json_int(builder, "bytes", (int64_t)origin->torn);
		firn_json_string(builder, "kept", origin->cut);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
}

const char *
firn_origin_repository(FirnOrigin *origin, GError **error)
{
	const FirnSection *section;

	if (origin->repository)
		return origin->repository;
	if (!firn_origin_read(origin, NULL, error))
		return NULL;
	if (!origin->sections->len) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "%s is empty", origin->name);
		return NULL;
	}
	section = g_ptr_array_index(origin->sections, 0);
	origin->repository = g_strdup(section->header->repository);
	return origin->repository;
}

FirnRepo *
firn_source_open_repo(const char *url, const char *who, const char *how, GError **error)
{
	GError *failed = NULL;
	FirnRepo *repo = firn_repo_open(url, &failed);

	if (repo)
		return repo;
	if (!g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_propagate_error(error, failed);
		return NULL;
	}
	g_error_free(failed);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "%s is of the repository %s, and there is none (any more): if it was moved, "
		    "name its new place %s",
		    who, url, how);
	return NULL;
}

FirnRepo *
firn_origin_open_repo(FirnOrigin *origin, const char *given, GError **error)
{
	const char *url = given ? NULL : firn_origin_repository(origin, error);

	if (given)
		return firn_repo_open(given, error);
	return url ? firn_source_open_repo(url, origin->name, "with --repo", error) : NULL;
}

static bool
begin_mount(FirnOrigin *origin, unsigned wait_ms, GError **error)
{
	JsonObject *request = firn_ctl_request("commit-begin");
	g_autoptr(JsonObject) reply = NULL;
	const char *path;

	json_object_set_int_member(request, "wait_ms", wait_ms);
	json_object_set_boolean_member(request, "alone", origin->alone);
	origin->ctl = firn_ctl_open(origin->mount, error);
	if (!origin->ctl) {
		json_object_unref(request);
		return false;
	}
	reply = firn_ctl_call(origin->ctl, request, error);
	if (!reply) {
		g_prefix_error(error, "%s: ", origin->name);
		return false;
	}
	origin->begun = true;
	path = firn_reply_string(reply, "journal");
	origin->seq = firn_reply_uint(reply, "seq");
	origin->pending = firn_reply_strings(reply, "pending");
	origin->scratch = firn_reply_strings(reply, "scratch");
	replace(&origin->sections, firn_journal_read(path ? path : "", NULL, error));
	return origin->sections != NULL;
}

static bool
begin_session(FirnOrigin *origin, FirnRepo *repo, GError **error)
{
	g_autoptr(GBytes) image = NULL;

	origin->session = firn_session_resume(repo, origin->info, error);
	if (!origin->session)
		return false;
	if (!origin->session->journal) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY, "session %s is read-only",
			    origin->name);
		return false;
	}
	origin->torn = origin->session->torn;
	origin->cut = firn_session_cut(origin->session);
	warn_torn(origin, false);
	origin->seq = firn_journal_last_seq(origin->session->journal);
	if (origin->alone)
		origin->session->changes->fork_seq = 0;
	image = firn_session_encode(origin->session, error);
	if (!image)
		return false;
	replace(&origin->sections, firn_journal_decode(image, origin->name, NULL, error));
	return origin->sections != NULL;
}

/*
 * A worker's mount publishes its journal also where a copy was handed back: it is of no use any
 * more.  What is published ends with the section of who published it.
 */
static void
note_taken(FirnOrigin *origin)
{
	guint n = origin->sections->len;

	for (guint i = origin->kind == FIRN_ORIGIN_PUBLISHED && n ? n - 1 : 0; i < n; i++)
		firn_taken_add(origin->taken, g_ptr_array_index(origin->sections, i));
}

bool
firn_origin_begin(FirnOrigin *origin, FirnRepo *repo, unsigned wait_ms, GError **error)
{
	if (origin->kind == FIRN_ORIGIN_MOUNT)
		return begin_mount(origin, wait_ms, error);
	if (origin->kind == FIRN_ORIGIN_SESSION)
		return begin_session(origin, repo, error);
	if (!firn_origin_read(origin, repo, error) || !firn_origin_check_whole(origin, error))
		return false;
	note_taken(origin);
	return true;
}

static bool
tell_mount(FirnOrigin *origin, const char *op, const FirnId12 *snapshot, GError **error)
{
	JsonObject *request = firn_ctl_request(op);
	g_autoptr(JsonObject) reply = NULL;
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(snapshot, id);
	json_object_set_string_member(request, "snapshot", id);
	reply = firn_ctl_call(origin->ctl, request, error);
	if (!reply)
		g_prefix_error(error, "%s: ", origin->name);
	return reply != NULL;
}

bool
firn_origin_intent(FirnOrigin *origin, const FirnId12 *snapshot, GError **error)
{
	if (origin->ctl)
		return tell_mount(origin, "commit-intent", snapshot, error);
	if (origin->session)
		return firn_journal_intent(origin->session->journal, origin->seq, snapshot, error);
	return true;
}

/* Unless it was published again since it was read, it need not be read again. */
static bool
is_as_read(const FirnOrigin *origin, FirnStore *store)
{
	g_autoptr(GBytes) nothing = NULL;
	FirnVersion now;

	return origin->kind == FIRN_ORIGIN_PUBLISHED &&
	       firn_store_get(store, origin->path, 0, 0, &nothing, &now, NULL) &&
	       !strcmp(now.tag, origin->version.tag);
}

static bool
remove_published(const FirnOrigin *origin, FirnStore *store, GError **error)
{
	if (is_as_read(origin, store))
		return firn_store_remove(store, origin->path, error);
	for (guint i = 0; i < origin->taken->len; i++)
		if (!firn_taken_remove(store, g_ptr_array_index(origin->taken, i), error))
			return false;
	return true;
}

/* What was cut off it is all that may be left of somebody's work. */
static bool
end_session(FirnOrigin *origin, FirnRepo *repo, const FirnId12 *id, GError **error)
{
	g_autoptr(FirnSnapshot) snapshot = NULL;

	if (!origin->cut)
		return firn_session_remove_state(origin->session, error);
	snapshot = firn_repo_get_snapshot(repo, id, error);
	if (!snapshot || !firn_session_move(origin->session, snapshot, origin->seq, NULL, error))
		return false;
	firn_session_forget_previous(origin->session);
	return true;
}

bool
firn_origin_end(FirnOrigin *origin, FirnRepo *repo, const FirnId12 *snapshot, GError **error)
{
	if (origin->ctl) {
		origin->begun = false;
		return tell_mount(origin, "commit-end", snapshot, error);
	}
	if (origin->session)
		return end_session(origin, repo, snapshot, error);
	return remove_published(origin, firn_repo_store(repo), error);
}
