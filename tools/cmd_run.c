#include "tools/commands.h"
#include "tools/committing.h"
#include "tools/driver.h"
#include "tools/umounting.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_CANNOT_RUN 127

typedef struct {
	char *message, *branch, *state_dir;
	char **options;
} Options;

/* The command with {} replaced.  Caller owns. */
static char **
command_with_path(char **command, const char *path)
{
	g_autoptr(GStrvBuilder) words = g_strv_builder_new();

	for (; *command; command++) {
		g_auto(GStrv) parts = g_strsplit(*command, "{}", -1);
		g_autofree char *word = g_strjoinv(path, parts);

		g_strv_builder_add(words, word);
	}
	return g_strv_builder_end(words);
}

static _Noreturn void
become(char **argv, char **environment)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;

	sigemptyset(&none);
	sigaction(SIGPIPE, &usual, NULL);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	execvpe(argv[0], argv, environment);
	dprintf(STDERR_FILENO, "firn: cannot run %s: %s\n", argv[0], g_strerror(errno));
	_exit(EXIT_CANNOT_RUN);
}

/* The terminal's signals reach the command by themselves; others are passed on. */
static void
pass_signal(int signal_fd, pid_t child)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP || info.ssi_code == SI_USER)
		kill(child, (int)info.ssi_signo);
}

static int
wait_for_command(pid_t child, int signal_fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN },
				{ .fd = pidfd, .events = POLLIN } };
	int status;

	while (pidfd >= 0 && (poll(fds, 2, -1) >= 0 || errno == EINTR)) {
		if (fds[0].revents)
			pass_signal(signal_fd, child);
		if (fds[1].revents)
			break;
	}
	if (pidfd >= 0)
		close(pidfd);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return FIRN_EXIT_FAILED;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Exit code of the command; -1 with `error`. */
static int
run_command(char **command, const char *path, GError **error)
{
	g_auto(GStrv) argv = command_with_path(command, path);
	g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "FIRN_MOUNT", path, TRUE);
	sigset_t caught;
	int signal_fd, result;
	pid_t child;

	sigemptyset(&caught);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGQUIT);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &caught, NULL);
	signal_fd = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
	child = signal_fd < 0 ? -1 : fork();
	if (child == 0)
		become(argv, environment);
	if (child < 0) {
		firn_error_set_errno(error, errno, "cannot run %s", argv[0]);
		result = -1;
	} else {
		result = wait_for_command(child, signal_fd);
	}
	if (signal_fd >= 0)
		close(signal_fd);
	/* They stay blocked: what is left to do is short, and must not end half way. */
	return result;
}

static int
commit_mount(FirnCli *cli, const FirnMount *mount, const Options *options)
{
	FirnCommitRequest request = { .message = options->message };
	g_autofree char *root = firn_state_root(options->state_dir);
	g_autoptr(GPtrArray) origins =
		g_ptr_array_new_with_free_func((GDestroyNotify)firn_origin_free);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	FirnOrigin *origin = firn_origin_resolve(mount->root, root, &error);

	if (!origin)
		return firn_cli_fail(cli, error);
	g_ptr_array_add(origins, origin);
	repo = firn_repo_open(origin->repository, &error);
	if (!repo)
		return firn_cli_fail(cli, error);
	return firn_committing_run(cli, repo, origins, &request);
}

static int
in_mount(FirnCli *cli, const char *mountpoint, const Options *options, char **command)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GError) unmount_error = NULL;
	g_autoptr(FirnMount) mount = firn_mount_find(mountpoint, &error);
	g_autofree char *path = mount ? firn_mount_hierarchy(mount, &error) : NULL;
	int result = path ? run_command(command, path, &error) : -1;
	bool left;

	if (result < 0)
		result = firn_cli_fail(cli, error);
	else if (result == 0)
		result = commit_mount(cli, mount, options);
	if (mount && !firn_umount_reporting(mount, "MOUNTPOINT", false, &left, &unmount_error)) {
		firn_cli_warn("%s", unmount_error->message);
		result = result ? result : FIRN_EXIT_FAILED;
	}
	return result;
}

static int
run(FirnCli *cli, const char *repo, const Options *options, char **command)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *mountpoint = g_dir_make_tmp("firn-XXXXXX", &error);
	g_autofree char *url =
		strstr(repo, "://") ? g_strdup(repo) : g_canonicalize_filename(repo, NULL);
	g_autofree char *state = NULL;
	GString *text = g_string_new(NULL);
	int result = -1;

	if (options->branch)
		firn_driver_option(text, "branch", options->branch);
	if (options->state_dir) {
		state = g_canonicalize_filename(options->state_dir, NULL);
		firn_driver_option(text, "state_dir", state);
	}
	for (char **p = options->options; p && *p; p++)
		g_string_append_printf(text, "%s%s", text->len ? "," : "", *p);
	if (mountpoint && firn_driver_check(mountpoint, &error))
		result = firn_driver_start(url, mountpoint, text->str, false, &error);
	g_string_free(text, TRUE);
	if (result < 0)
		result = firn_cli_fail(cli, error);
	else if (result == 0)
		result = in_mount(cli, mountpoint, options, command);
	if (mountpoint && rmdir(mountpoint) != 0 && errno != EBUSY && errno != ENOENT)
		firn_cli_warn("cannot remove %s: %s", mountpoint, g_strerror(errno));
	return result;
}

int
firn_cmd_run(FirnCli *cli, int argc, char **argv)
{
	Options options = { 0 };
	const GOptionEntry entries[] = {
		{ "message", 'm', 0, G_OPTION_ARG_FILENAME, &options.message, "What the commit is",
		  "MSG" },
		{ "branch", 'b', 0, G_OPTION_ARG_FILENAME, &options.branch,
		  "The branch (default main)", "BRANCH" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.state_dir,
		  "Where sessions keep their state", "DIR" },
		{ "options", 'o', 0, G_OPTION_ARG_FILENAME_ARRAY, &options.options,
		  "Options for the driver, as mount(8) takes them", "OPTS" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	char **command = NULL;
	int result;

	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--")) {
			command = argv + i + 1;
			argc = i;
			break;
		}
	if (command)
		command[-1] = NULL;
	result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 1);
	if (result < 0 && (!command || !*command))
		result = firn_cli_usage(cli, "a command is missing: -- COMMAND...");
	if (result < 0 && (!options.message || !g_utf8_validate(options.message, -1, NULL)))
		result = firn_cli_usage(cli, options.message ? "the message is not UTF-8"
							     : "a message is missing: -m MSG");
	if (result < 0 && command)
		result = run(cli, argv[1], &options, command);
	g_free(options.message);
	g_free(options.branch);
	g_free(options.state_dir);
	g_strfreev(options.options);
	return result;
}
