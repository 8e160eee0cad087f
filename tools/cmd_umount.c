#include "core/repo/state.h"
#include "tools/commands.h"
#include "tools/ctl_client.h"
#include "tools/driver.h"
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

/* Where the session's state is, also if `.firn/session` names the directory above.  Caller owns. */
static char *
state_directory(const FirnMount *mount)
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

static bool
report_left(const FirnMount *mount, const char *again_at)
{
	g_autofree char *directory = state_directory(mount);
	g_autofree char *option = NULL;
	const char *id = firn_mount_string(mount, "id");

	if (!directory || !has_changes(directory))
		return false;
	option = state_option(directory);
	firn_cli_note("session %s has uncommitted changes; go on with 'firn mount --resume %s%s "
		      "%s', commit with 'firn commit %s%s -m MSG', drop with 'firn discard %s%s'",
		      id, id, option, again_at, id, option, id, option);
	return true;
}

bool
firn_umount_reporting(const FirnMount *mount, const char *again_at, bool discard, bool *out_left,
		      GError **error)
{
	*out_left = false;
	if (!firn_driver_stop(mount, discard, error))
		return false;
	*out_left = report_left(mount, again_at);
	return true;
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

static bool
export_journal(const FirnMount *mount, const char *path, GError **error)
{
	g_autoptr(GBytes) journal = firn_mount_read(mount, "journal", error);

	return journal && firn_file_write(path, journal, FIRN_JOURNAL_MODE, error);
}

static int
umount_live(FirnCli *cli, const FirnMount *mount, const char *file, bool discard)
{
	g_autoptr(GError) error = NULL;
	JsonBuilder *builder;
	bool left;

	if (!check_writers(mount, &error) || (file && !export_journal(mount, file, &error)) ||
	    !firn_umount_reporting(mount, mount->root, discard, &left, &error))
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
