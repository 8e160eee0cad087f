#include "tools/driver.h"

#include "core/base/clock.h"
#include "tools/ctl_client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOTE_AFTER_MS 5000
#define SAID_LIMIT    ((size_t)16 << 10)

void
firn_driver_option(GString *options, const char *name, const char *value)
{
	if (options->len)
		g_string_append_c(options, ',');
	g_string_append(options, name);
	if (!value)
		return;
	g_string_append_c(options, '=');
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			g_string_append_c(options, '\\');
		g_string_append_c(options, *value);
	}
}

char *
firn_driver_path(GError **error)
{
	const char *given = g_getenv("FIRNFS");
	g_autofree char *self = NULL;
	g_autofree char *beside = NULL;
	char *found;

	if (given && *given)
		return g_strdup(given);
	self = g_file_read_link("/proc/self/exe", NULL);
	if (self) {
		g_autofree char *directory = g_path_get_dirname(self);

		beside = g_build_filename(directory, "firnfs", NULL);
		if (access(beside, X_OK) == 0)
			return g_steal_pointer(&beside);
	}
	found = g_find_program_in_path("firnfs");
	if (!found)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "the driver 'firnfs' is neither beside firn nor in PATH; "
			    "$FIRNFS says where it is");
	return found;
}

bool
firn_driver_check(const char *mountpoint, GError **error)
{
	g_autoptr(FirnMount) mount = NULL;
	struct stat st;

	/* The driver detaches what a dead one left. */
	if (firn_mount_is_dead(mountpoint))
		return true;
	if (stat(mountpoint, &st) != 0) {
		firn_error_set_errno(error, errno, "cannot mount on %s", mountpoint);
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "cannot mount on %s: it is not a directory", mountpoint);
		return false;
	}
	mount = firn_mount_find(mountpoint, NULL);
	if (mount) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "%s is in use: session %s is mounted at %s ('firn umount %s' ends it)",
			    mountpoint, firn_mount_string(mount, "id"), mount->root, mount->root);
		return false;
	}
	if (access("/dev/fuse", F_OK) != 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "/dev/fuse is missing: load the 'fuse' module, or give the container "
			    "the device; 'firn doctor' tells more");
		return false;
	}
	return true;
}

/* `said`: what becomes its standard error; -1: ours. */
static bool
spawn(char **argv, bool quiet, int said, pid_t *out_pid, GError **error)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t defaults, mask;
	int errnum;

	sigemptyset(&mask);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setsigmask(&attributes, &mask);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	if (quiet) {
		posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
		posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	}
	if (said >= 0)
		posix_spawn_file_actions_adddup2(&actions, said, STDERR_FILENO);
	errnum = posix_spawnp(out_pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (errnum)
		firn_error_set_errno(error, errnum, "cannot run %s", argv[0]);
	return errnum == 0;
}

/* Run a program with signals as usual; its exit code (128 + signal), -1 with `error`. */
static int
spawn_wait(char **argv, bool quiet, int said, GError **error)
{
	pid_t pid;
	int status;

	if (!spawn(argv, quiet, said, &pid, error))
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) {
			firn_error_set_errno(error, errno, "cannot wait for %s", argv[0]);
			return -1;
		}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Pass on what the driver said; the last of it, which is why it failed.  Caller owns. */
static char *
pass_on(int said)
{
	g_autofree char *text = g_malloc0(SAID_LIMIT + 1);
	ssize_t n = pread(said, text, SAID_LIMIT, 0);
	const char *last;

	if (n > 0)
		fputs(text, stderr);
	g_strchomp(text);
	last = strrchr(text, '\n');
	last = last ? last + 1 : text;
	return g_strdup(g_str_has_prefix(last, "firnfs: ") ? last + strlen("firnfs: ") : last);
}

static char **
driver_command(const char *program, const char *repo, const char *mountpoint, const char *options,
	       bool foreground)
{
	g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

	g_strv_builder_add(builder, program);
	if (foreground)
		g_strv_builder_add(builder, "-f");
	if (*options) {
		g_strv_builder_add(builder, "-o");
		g_strv_builder_add(builder, options);
	}
	if (repo)
		g_strv_builder_add(builder, repo);
	g_strv_builder_add(builder, mountpoint);
	return g_strv_builder_end(builder);
}

int
firn_driver_start(const FirnCli *cli, const char *repo, const char *mountpoint, const char *options,
		  bool foreground)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *program = firn_driver_path(&error);
	g_auto(GStrv) argv = NULL;
	g_autofree char *why = NULL;
	int said = -1, result = -1;

	if (program) {
		argv = driver_command(program, repo, mountpoint, options, foreground);
		if (cli->json && !foreground)
			said = memfd_create("said", MFD_CLOEXEC);
		result = spawn_wait(argv, false, said, &error);
	}
	if (said >= 0) {
		why = pass_on(said);
		close(said);
	}
	if (result < 0)
		return firn_cli_fail(cli, error);
	if (result)
		firn_cli_json_error(cli,
				    why && *why ? why
						: "the driver failed: standard error says why",
				    result == FIRN_EXIT_USAGE      ? "usage"
				    : result == FIRN_EXIT_CONFLICT ? "conflict"
								   : "failed");
	return result;
}

static int
fusermount(const char *mountpoint, bool lazy, GError **error)
{
	g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
	g_auto(GStrv) argv = NULL;

	g_strv_builder_add(builder, "fusermount3");
	g_strv_builder_add(builder, "-u");
	if (lazy)
		g_strv_builder_add(builder, "-z");
	g_strv_builder_add(builder, "--");
	g_strv_builder_add(builder, mountpoint);
	argv = g_strv_builder_end(builder);
	return spawn_wait(argv, true, -1, error);
}

/* `lazy`: also when it is in use, or dead. */
static bool
unmount(const char *mountpoint, bool lazy, GError **error)
{
	int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
	int status = 0;

	if (geteuid() == 0 && umount2(mountpoint, flags) == 0)
		return true;
	if (geteuid() != 0 || errno != EBUSY)
		status = fusermount(mountpoint, lazy, error);
	else
		status = 1;
	if (status > 0)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "%s cannot be unmounted: is a shell or a program working in it? "
			    "('fuser -vm %s' names them)",
			    mountpoint, mountpoint);
	return status == 0;
}

static bool
tell_shutdown(const FirnMount *mount, bool discard, GError **error)
{
	g_autoptr(FirnCtl) ctl = firn_ctl_open(mount, error);
	JsonObject *request;
	g_autoptr(JsonObject) reply = NULL;

	if (!ctl)
		return false;
	request = firn_ctl_request("shutdown");
	json_object_set_boolean_member(request, "discard", discard);
	reply = firn_ctl_call(ctl, request, error);
	return reply != NULL;
}

static void
wait_for(int pidfd, int64_t pid)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	bool noted = false;

	for (;;) {
		int n = poll(&poll_fd, 1, NOTE_AFTER_MS);

		if (n > 0 || (n < 0 && errno != EINTR))
			return;
		if (n == 0 && !noted)
			firn_cli_note("waiting for the driver (process %" G_GINT64_FORMAT
				      ") to finish",
				      pid);
		noted = noted || n == 0;
	}
}

bool
firn_driver_stop(const FirnMount *mount, bool discard, GError **error)
{
	int64_t pid = firn_mount_int(mount, "pid");
	int pidfd = -1;

	/* Before the unmount: afterwards the number may be another process's. */
	if (pid > 0 && pid <= INT_MAX)
		pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (!tell_shutdown(mount, discard, error))
		goto failed;
	if (!unmount(mount->root, false, error)) {
		if (discard && !tell_shutdown(mount, false, NULL))
			firn_cli_warn("%s: its changes will be dropped when it is unmounted",
				      mount->root);
		goto failed;
	}
	if (pidfd >= 0) {
		wait_for(pidfd, pid);
		close(pidfd);
	}
	return true;
failed:
	if (pidfd >= 0)
		close(pidfd);
	return false;
}

bool
firn_driver_detach(const char *mountpoint, GError **error)
{
	return unmount(mountpoint, true, error);
}
