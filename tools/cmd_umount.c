#include "core/repo/state.h"
#include "tools/commands.h"
#include "tools/ctl_client.h"
#include "tools/driver.h"
#include "tools/source.h"
#include "tools/umounting.h"

#include <string.h>
#include <unistd.h>

/* A short list for a message.  Caller owns. */
static char *
join(GPtrArray *names)
{
	g_ptr_array_add(names, NULL);
	return g_strjoinv(", ", (char **)names->pdata);
}

static bool
check_writers(const FirnMount *mount, GError **error)
{
	g_autoptr(FirnCtl) ctl = firn_ctl_open(mount, error);
	g_autoptr(JsonObject) reply = NULL;
	g_autoptr(GPtrArray) writers = NULL;
	g_autofree char *names = NULL;

	if (!ctl)
		return false;
	reply = firn_ctl_call(ctl, firn_ctl_request("status"), error);
	if (!reply)
		return false;
	writers = firn_reply_strings(reply, "writers");
	if (!writers->len)
		return true;
	names = join(writers);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "%s: files are open for writing: %s; end the writers first", mount->root,
		    names);
	return false;
}

static int
umount_dead(FirnCli *cli, const char *mountpoint)
{
	g_autoptr(GError) error = NULL;

	if (!firn_driver_detach(mountpoint, &error))
		return firn_cli_fail(cli, error);
	firn_cli_note("%s: the driver was gone; 'firn sessions' lists the work that can be resumed",
		      mountpoint);
	return FIRN_EXIT_DONE;
}

/* The journal as it is now.  Caller owns. */
static GBytes *
read_journal(const FirnMount *mount, const char *path, GError **error)
{
	g_autofree char *below = g_strconcat(mount->root, "/", NULL);

	if (firn_mount_is_read_only(mount)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY,
			    "%s is mounted read-only: it has no journal, 'firn umount %s' is all "
			    "there is to do",
			    mount->root, mount->root);
		return NULL;
	}
	if (g_str_has_prefix(path, below)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s would be gone with the mount: export to another place", path);
		return NULL;
	}
	return firn_mount_read(mount, "journal", error);
}

/* A pipe takes it once. */
static bool
is_written_twice(const char *path)
{
	return !g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

/* What a fork's driver published is taken out of the repository: the file is what is handed back. */
static bool
take_published(const FirnMount *mount, const char *path, bool *out_nothing, GError **error)
{
	g_autofree char *key = firn_fork_journal_key(firn_mount_string(mount, "fork_of"),
						     firn_mount_string(mount, "id"));
	g_autoptr(FirnRepo) repo = firn_repo_open(firn_mount_string(mount, "repository"), error);
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(GError) local = NULL;

	if (!repo)
		return false;
	sections = firn_fork_read(firn_repo_store(repo), key, &local);
	*out_nothing = g_error_matches(local, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	if (*out_nothing)
		return true;
	if (!sections) {
		g_propagate_error(error, g_steal_pointer(&local));
		return false;
	}
	return firn_journal_write(path, sections, error) &&
	       firn_store_remove(firn_repo_store(repo), key, error);
}

/* Files may have been closed between the copy and the end: what the driver left has them. */
static bool
export_left(const FirnMount *mount, const char *path, GBytes *before, GError **error)
{
	g_autofree char *directory = firn_umount_state_directory(mount);
	g_autofree char *journal = directory ? g_build_filename(directory, "journal", NULL) : NULL;
	g_autoptr(FirnOrigin) origin = NULL;
	bool nothing = false, ok = true;

	if (journal && g_file_test(journal, G_FILE_TEST_EXISTS)) {
		origin = firn_origin_resolve(directory, NULL, error);
		ok = origin && firn_origin_read(origin, NULL, error) &&
		     firn_journal_write(path, origin->sections, error);
	} else if (*firn_mount_string(mount, "fork_of")) {
		ok = take_published(mount, path, &nothing, error);
	} else {
		nothing = true;
	}
	if (nothing && !is_written_twice(path))
		ok = firn_file_write(path, before, FIRN_JOURNAL_MODE, error);
	if (!ok)
		g_prefix_error(error, "unmounted, but %s lacks what was written last: ", path);
	return ok;
}

static bool
umount_exporting(const FirnMount *mount, const char *path, bool *out_left, GError **error)
{
	g_autoptr(GBytes) before = read_journal(mount, path, error);

	/* What cannot be written is known while the mount is there. */
	return before &&
	       (!is_written_twice(path) ||
		firn_file_write(path, before, FIRN_JOURNAL_MODE, error)) &&
	       firn_umount_reporting(mount, mount->root, false, out_left, error) &&
	       export_left(mount, path, before, error);
}

static int
umount_live(FirnCli *cli, const FirnMount *mount, const char *file, bool discard)
{
	g_autoptr(GError) error = NULL;
	JsonBuilder *builder;
	bool left, ok = check_writers(mount, &error);

	if (ok && file)
		ok = umount_exporting(mount, file, &left, &error);
	else if (ok)
		ok = firn_umount_reporting(mount, mount->root, discard, &left, &error);
	if (!ok)
		return firn_cli_fail(cli, error);
	if (!cli->json)
		return FIRN_EXIT_DONE;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "mountpoint", mount->root);
	firn_json_string(builder, "session", firn_mount_string(mount, "id"));
	firn_json_bool(builder, "resumable", left);
	firn_json_string(builder, "journal", file);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
}

static int
umount(FirnCli *cli, const char *mountpoint, const char *file, bool discard)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnMount) mount = NULL;

	if (mountpoint && firn_mount_is_dead(mountpoint))
		return umount_dead(cli, mountpoint);
	mount = firn_mount_find(mountpoint, &error);
	if (!mount)
		return firn_cli_fail(cli, error);
	/* Or our own working directory would keep it busy. */
	if (!mountpoint && chdir("/") != 0)
		firn_cli_warn("cannot leave %s", mount->root);
	return umount_live(cli, mount, file, discard);
}

int
firn_cmd_umount(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *file = NULL;
	g_autofree char *absolute = NULL;
	gboolean discard = FALSE;
	const GOptionEntry entries[] = {
		{ "export", 0, 0, G_OPTION_ARG_FILENAME, &file,
		  "Copy the session's journal to FILE first", "FILE" },
		{ "discard", 0, 0, G_OPTION_ARG_NONE, &discard, "Drop the uncommitted changes",
		  NULL },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);

	if (result >= 0)
		return result;
	if (file && discard)
		return firn_cli_usage(cli, "--export and --discard exclude each other");
	if (file)
		absolute = g_canonicalize_filename(file, NULL);
	return umount(cli, argc > 1 ? argv[1] : NULL, absolute, discard);
}
