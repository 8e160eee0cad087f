#include "core/repo/session_priv.h"

#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *
firn_session_journal_path(const char *directory, const char *suffix)
{
	return g_strconcat(directory, "/journal", suffix, NULL);
}

static FirnSession *
session_new(FirnRepo *repo)
{
	FirnSession *session = g_new0(FirnSession, 1);

	session->repo = repo;
	session->lock_fd = -1;
	session->changes = firn_changes_new();
	session->parents = g_ptr_array_new_with_free_func((GDestroyNotify)firn_section_free);
	return session;
}

void
firn_session_free(FirnSession *session)
{
	if (session == NULL)
		return;
	firn_journal_close(session->journal);
	firn_snapshot_unref(session->base);
	firn_config_free(session->config);
	firn_changes_free(session->changes);
	firn_journal_header_free(session->header);
	g_ptr_array_unref(session->parents);
	g_free(session->directory);
	if (session->lock_fd >= 0)
		close(session->lock_fd);
	g_free(session);
}

/* Base snapshot and configuration, as the header says. */
static bool
load_base(FirnSession *session, GError **error)
{
	session->base = firn_repo_get_snapshot(session->repo, &session->header->base, error);
	if (session->base == NULL)
		return false;
	session->config = firn_repo_read_config(session->repo, error);
	return session->config != NULL;
}

bool
firn_session_inherit(FirnSession *session, GError **error)
{
	for (guint i = 0; i < session->parents->len; i++) {
		FirnSection *section = session->parents->pdata[i];

		if (!firn_changes_apply(session->changes, section->changes, true)) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
				    "the journals this fork starts from do not fit together");
			return false;
		}
	}
	return true;
}

bool
firn_session_write_info(FirnSession *session, GError **error)
{
	g_autoptr(FirnSessionInfo) old = firn_state_read_info(session->directory, NULL);
	FirnSessionInfo info = {
		.id = session->id,
		.directory = session->directory,
		.repository = session->header->repository,
		.branch = session->header->branch,
		.base = session->header->base,
		.fork_of = session->header->fork,
		.mode = (char *)(uintptr_t) "rw",
		.mountpoint = old != NULL ? old->mountpoint : NULL,
		.pid = old != NULL && old->pid != 0 ? old->pid : getpid(),
		.restarts = old != NULL ? old->restarts : 0,
		.started_us = session->header->created_us,
	};

	return firn_state_write_info(&info, error);
}

static bool
write_parents(FirnSession *session, GError **error)
{
	g_autofree char *path = g_strconcat(session->directory, "/parent", NULL);

	return session->parents->len == 0 || firn_journal_write(path, session->parents, error);
}

/* A new state directory, locked, with an empty journal. */
static bool
begin(FirnSession *session, const char *state_root, GError **error)
{
	g_autofree char *path = NULL;

	session->id = session->header->session;
	if (!firn_state_create(state_root, &session->id, &session->directory, error))
		return false;
	session->lock_fd = firn_state_lock(session->directory, error);
	if (session->lock_fd < 0)
		return false;
	firn_crash_point(FIRN_CRASH_STATE_MADE);
	path = firn_session_journal_path(session->directory, "");
	if (!write_parents(session, error) || !firn_session_write_info(session, error))
		return false;
	session->journal = firn_journal_create(path, session->header, error);
	return session->journal != NULL;
}

FirnSession *
firn_session_start(FirnRepo *repo, const char *branch, const char *state_root, GError **error)
{
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnSession *session;
	FirnRefInfo *ref;

	if (!firn_repo_check_writable(repo, error))
		return NULL;
	info = firn_repo_read_info(repo, error);
	if (info == NULL)
		return NULL;
	if (info->availability != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY,
			    "%s is set to read-only%s%s: mount it with --read-only",
			    firn_repo_url(repo), info->status_reason != NULL ? ": " : "",
			    info->status_reason != NULL ? info->status_reason : "");
		return NULL;
	}
	ref = firn_repo_info_find_branch(info, branch);
	if (ref == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s has no branch \"%s\": see `firn branch list`", firn_repo_url(repo),
			    branch);
		return NULL;
	}
	session = session_new(repo);
	session->header = g_new0(FirnJournalHeader, 1);
	session->header->repository = g_strdup(firn_repo_url(repo));
	session->header->identity = firn_repo_identity(repo);
	session->header->spec_version = firn_repo_spec_version(repo);
	session->header->branch = g_strdup(branch);
	session->header->base = ref->snapshot;
	session->header->session = firn_id12_random();
	session->header->ancestors = g_array_new(FALSE, FALSE, sizeof(FirnAncestor));
	session->header->created_us = firn_clock_now_us();
	if (load_base(session, error) && begin(session, state_root, error))
		return session;
	firn_session_free(session);
	return NULL;
}

FirnSession *
firn_session_start_fork(FirnRepo *repo, const FirnForkToken *token, const char *state_root,
			GError **error)
{
	FirnSession *session;
	GPtrArray *parents;

	if (!firn_repo_check_writable(repo, error))
		return NULL;
	if (token->start->identity != firn_repo_identity(repo)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "the fork token was made for another repository (%s) than %s",
			    token->start->repository, firn_repo_url(repo));
		return NULL;
	}
	parents = firn_fork_token_parents(repo, token, error);
	if (parents == NULL)
		return NULL;
	session = session_new(repo);
	g_ptr_array_unref(session->parents);
	session->parents = parents;
	session->header = firn_journal_header_copy(token->start);
	g_free(session->header->fork);
	session->header->fork = g_strdup(token->fork);
	session->header->session = firn_id12_random();
	session->header->created_us = firn_clock_now_us();
	if (load_base(session, error) && firn_session_inherit(session, error) &&
	    begin(session, state_root, error))
		return session;
	firn_session_free(session);
	return NULL;
}

static bool
read_parents(FirnSession *session, GError **error)
{
	g_autofree char *path = g_strconcat(session->directory, "/parent", NULL);
	GPtrArray *sections;

	/* Of a session that moved since, the file may be left over: the base has it all. */
	if (session->header->ancestors->len == 0 || access(path, F_OK) != 0)
		return true;
	sections = firn_journal_read(path, NULL, error);
	if (sections == NULL)
		return false;
	g_ptr_array_unref(session->parents);
	session->parents = sections;
	return true;
}

bool
firn_session_can_move(const FirnSession *session, uint64_t seq)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, session->changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *node = value;

		if (node->kind != FIRN_CHANGE_CHUNKS && node->seq > seq)
			return false;
	}
	return true;
}

/* A commit that was begun: did it happen? */
static bool
finish_intent(FirnSession *session, const FirnSection *section, GError **error)
{
	static const FirnId12 none = { { 0 } };
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autoptr(FirnSnapshot) snapshot = NULL;

	if (firn_id12_compare(&section->intent, &none) == 0)
		return true;
	info = firn_repo_read_info(session->repo, error);
	if (info == NULL)
		return false;
	if (firn_repo_info_find_snapshot(info, &section->intent) == NULL)
		return true;
	/* A mount went on after a commit of whose end it was not told: see firn_session_can_move(). */
	if (!firn_session_can_move(session, section->intent_seq))
		return true;
	snapshot = firn_repo_get_snapshot(session->repo, &section->intent, error);
	return snapshot != NULL &&
	       firn_session_move(session, snapshot, section->intent_seq, NULL, error);
}

/* Chunks that were both made and deleted since the start say nothing, but to forks that may have them. */
static void
prune(FirnChanges *changes)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(changes);

	for (guint i = 0; i < nodes->len; i++) {
		FirnNodeChange *node = nodes->pdata[i];
		g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(uint32_t));
		FirnChunkChange *change;
		const uint32_t *coords;
		FirnChunkIter iter;
		uint32_t rank;

		if (node->created_seq <= changes->fork_seq || node->chunks == NULL)
			continue;
		rank = firn_chunk_map_rank(node->chunks);
		firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
		while (rank > 0 && firn_chunk_iter_next(&iter, &coords, &change))
			if (change->kind == FIRN_REF_NONE)
				g_array_append_vals(gone, coords, rank);
		for (guint at = 0; rank > 0 && at < gone->len; at += rank)
			firn_changes_forget_chunk(changes, node,
						  &g_array_index(gone, uint32_t, at));
	}
}

/* Everything but the lock, from the journal.  `out_section`: caller owns. */
static bool
load(FirnSession *session, bool stopped, FirnSection **out_section, GError **error)
{
	g_autofree char *path = firn_session_journal_path(session->directory, "");
	FirnSection *section;

	session->journal = firn_journal_resume(path, stopped, out_section, &session->torn, error);
	if (session->journal == NULL)
		return false;
	section = *out_section;
	session->header = firn_journal_header_copy(section->header);
	session->durable_seq = section->durable_seq;
	if (session->header->identity != firn_repo_identity(session->repo)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "session %s belongs to another repository (%s) than %s",
			    session->directory, session->header->repository,
			    firn_repo_url(session->repo));
		return false;
	}
	if (!load_base(session, error) || !read_parents(session, error) ||
	    !firn_session_inherit(session, error))
		return false;
	if (!firn_changes_apply(session->changes, section->changes, false)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the journal %s does not fit what it was forked from", path);
		return false;
	}
	firn_session_limit_forked(session, section->changes->fork_seq);
	return true;
}

FirnSession *
firn_session_resume(FirnRepo *repo, const FirnSessionInfo *info, GError **error)
{
	FirnSession *session = session_new(repo);
	g_autoptr(FirnSessionInfo) now = NULL;
	g_autoptr(FirnSection) section = NULL;

	session->id = info->id;
	session->directory = g_strdup(info->directory);
	session->lock_fd = firn_state_lock(info->directory, error);
	/* It may have been taken up since `info` was read. */
	if (session->lock_fd >= 0)
		now = firn_state_read_info(info->directory, error);
	/* What an intent's commit took in and was deleted since, the next commit has to delete. */
	if (now != NULL && load(session, now->stopped, &section, error) &&
	    finish_intent(session, section, error)) {
		prune(session->changes);
		if (firn_session_write_info(session, error))
			return session;
	}
	firn_session_free(session);
	return NULL;
}

/* The journal the driver knew last, cut to what it told anybody of. */
static bool
roll_back(const char *directory, uint64_t file, uint64_t end, GError **error)
{
	g_autofree char *path = firn_session_journal_path(directory, "");
	g_autofree char *previous = firn_session_journal_path(directory, FIRN_SESSION_PREVIOUS);
	g_autofree char *parent = g_strconcat(directory, "/parent", NULL);
	g_autofree char *previous_parent = g_strconcat(parent, FIRN_SESSION_PREVIOUS, NULL);
	struct stat st;

	if (stat(path, &st) == 0 && st.st_ino != file && stat(previous, &st) == 0 &&
	    st.st_ino == file) {
		/* It was about to move to another base, and will do so again. */
		if (rename(previous, path) != 0) {
			firn_error_set_errno(error, errno, "cannot take up %s", previous);
			return false;
		}
		(void)rename(previous_parent, parent);
	}
	if (stat(path, &st) != 0 || st.st_ino != file || (uint64_t)st.st_size < end) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the journal %s is not as its driver left it", path);
		return false;
	}
	if ((uint64_t)st.st_size > end && truncate(path, (off_t)end) != 0) {
		firn_error_set_errno(error, errno, "cannot cut the journal %s", path);
		return false;
	}
	return true;
}

FirnSession *
firn_session_take_over(FirnRepo *repo, const FirnId12 *id, const char *directory, int lock_fd,
		       uint64_t file, uint64_t end, bool committing, GError **error)
{
	FirnSession *session = session_new(repo);
	g_autoptr(FirnSection) section = NULL;

	session->id = *id;
	session->directory = g_strdup(directory);
	session->lock_fd = lock_fd;
	if (roll_back(directory, file, end, error) && load(session, false, &section, error)) {
		if (!committing)
			prune(session->changes);
		return session;
	}
	/* The lock goes on being the caller's. */
	session->lock_fd = -1;
	firn_session_free(session);
	return NULL;
}

FirnSession *
firn_session_read_only(FirnRepo *repo, FirnSnapshot *base)
{
	FirnSession *session = session_new(repo);
	GError *error = NULL;

	session->header = g_new0(FirnJournalHeader, 1);
	session->header->repository = g_strdup(firn_repo_url(repo));
	session->header->identity = firn_repo_identity(repo);
	session->header->spec_version = firn_repo_spec_version(repo);
	session->header->branch = g_strdup("");
	session->header->base = *firn_snapshot_id(base);
	session->header->session = firn_id12_random();
	session->id = session->header->session;
	session->header->ancestors = g_array_new(FALSE, FALSE, sizeof(FirnAncestor));
	session->header->created_us = firn_clock_now_us();
	session->base = firn_snapshot_ref(base);
	session->config = firn_repo_read_config(repo, &error);
	if (session->config == NULL) {
		/* Reading needs nothing of it but the names of virtual containers. */
		g_error_free(error);
		session->config = firn_config_parse(NULL, NULL);
	}
	return session;
}

char *
firn_session_cut(const FirnSession *session)
{
	g_autofree char *path = NULL;

	if (session->directory == NULL)
		return NULL;
	path = firn_session_journal_path(session->directory, FIRN_JOURNAL_CUT);
	return g_file_test(path, G_FILE_TEST_EXISTS) ? g_steal_pointer(&path) : NULL;
}

bool
firn_session_remove_state(FirnSession *session, GError **error)
{
	bool done;

	if (session->directory == NULL)
		return true;
	firn_journal_close(session->journal);
	session->journal = NULL;
	done = firn_state_remove_locked(session->directory, error);
	close(session->lock_fd);
	session->lock_fd = -1;
	return done;
}

GBytes *
firn_session_encode(const FirnSession *session, GError **error)
{
	uint64_t seq = session->journal != NULL ? firn_journal_last_seq(session->journal) : 0;
	FirnJournalImage image = { NULL, 0, 0 };

	if (firn_journal_image_add(&image, session->header, session->changes, seq, error))
		return firn_journal_image_end(&image);
	firn_journal_image_clear(&image);
	return NULL;
}

GBytes *
firn_session_image(const FirnSession *session)
{
	return firn_session_encode(session, NULL);
}
