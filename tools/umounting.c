#include "tools/umounting.h"

#include "core/repo/state.h"
#include "tools/ctl_client.h"
#include "tools/driver.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_SHOWN 3u

char *
firn_umount_state_directory(const FirnMount *mount)
{
	const char *directory = firn_mount_string(mount, "state_dir");
	const char *id = firn_mount_string(mount, "id");
	g_autofree char *last = g_path_get_basename(directory);

	if (!*directory)
		return NULL;
	return strcmp(last, id) ? g_build_filename(directory, id, NULL) : g_strdup(directory);
}

static bool
has_changes(const char *directory)
{
	g_autofree char *journal = g_build_filename(directory, "journal", NULL);
	g_autoptr(GPtrArray) sections = firn_journal_read(journal, NULL, NULL);

	for (guint i = 0; sections && i < sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);

		if (!firn_changes_is_empty(section->changes))
			return true;
	}
	return false;
}

/* The " --state-dir DIR" a later command needs to find `directory`.  Caller owns. */
static char *
state_option(const char *directory)
{
	g_autofree char *root = g_path_get_dirname(directory);
	g_autofree char *usual = firn_state_root(NULL);
	g_autofree char *quoted = NULL;

	if (!strcmp(root, usual))
		return g_strdup("");
	quoted = g_shell_quote(root);
	return g_strconcat(" --state-dir ", quoted, NULL);
}

/* Whether the branch is not where the session started any more; false if it cannot be told. */
static bool
has_moved(const char *directory)
{
	g_autoptr(FirnSessionInfo) info = firn_state_read_info(directory, NULL);
	g_autoptr(FirnRepo) repo = info ? firn_repo_open(info->repository, NULL) : NULL;
	g_autoptr(FirnRepoInfo) now = repo ? firn_repo_read_info(repo, NULL) : NULL;
	const FirnRefInfo *branch = now ? firn_repo_info_find_branch(now, info->branch) : NULL;

	return branch && firn_id12_compare(&branch->snapshot, &info->base) != 0;
}

/* "go on with...", of a session with changes. */
static bool
report_left(const char *directory, const char *id, const char *again_at)
{
	g_autofree char *option = NULL;

	if (!has_changes(directory))
		return false;
	option = state_option(directory);
	firn_cli_note("session %s has uncommitted changes; go on with 'firn mount --resume %s%s "
		      "%s', commit with 'firn commit %s%s%s -m MSG', drop with 'firn discard "
		      "%s%s'",
		      id, id, option, again_at, id, option, has_moved(directory) ? " --rebase" : "",
		      id, option);
	return true;
}

/* The files that live in the mount only; NULL: not known. */
static GPtrArray *
scratch_of(const FirnMount *mount)
{
	g_autoptr(FirnCtl) ctl = firn_ctl_open(mount, NULL);
	g_autoptr(JsonObject) reply =
		ctl ? firn_ctl_call(ctl, firn_ctl_request("status"), NULL) : NULL;

	return reply ? firn_reply_strings(reply, "scratch") : NULL;
}

bool
firn_umount_reporting(const FirnMount *mount, const char *again_at, bool discard, bool *out_left,
		      GError **error)
{
	g_autofree char *directory = firn_umount_state_directory(mount);
	g_autoptr(GPtrArray) scratch = scratch_of(mount);

	*out_left = false;
	if (!firn_driver_stop(mount, discard, error))
		return false;
	if (scratch && scratch->len) {
		g_autofree char *names = firn_text_list(scratch, SCRATCH_SHOWN);

		firn_cli_note("%u %s (no part of the hierarchy) went with the mount: %s",
			      scratch->len, scratch->len > 1 ? "scratch files" : "scratch file",
			      names);
	}
	*out_left = directory && report_left(directory, firn_mount_string(mount, "id"), again_at);
	return true;
}

void
firn_umount_report_others(const char *mountpoint, const char *state_root)
{
	char *real = realpath(mountpoint, NULL);
	g_autoptr(GPtrArray) sessions = firn_state_list(state_root, NULL);
	char id[FIRN_ID12_TEXT + 1];

	for (guint i = 0; sessions && i < sessions->len; i++) {
		const FirnSessionInfo *info = g_ptr_array_index(sessions, i);

		firn_id12_format(&info->id, id);
		if (!info->live && !g_strcmp0(info->mountpoint, real))
			(void)report_left(info->directory, id, "MOUNTPOINT");
	}
	free(real);
}
