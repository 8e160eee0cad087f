#include "tools/commands.h"
#include "tools/committing.h"
#include "tools/driver.h"
#include "tools/umounting.h"

#include <errno.h>
#include <fcntl.h>
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
/* Above it: the signal that ended the command. */
#define SIGNALLED 128

typedef struct {
	char *message, *branch, *rebase_name, *state_dir;
	char **options;
	FirnRebase rebase;
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

/* In a child: run it; if that fails, the reason goes to `failed`. */
static _Noreturn void
become(char **argv, char **environment, int failed)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;
	int errnum;

	sigemptyset(&none);
	sigaction(SIGPIPE, &usual, NULL);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	execvpe(argv[0], argv, environment);
	errnum = errno;
	/* If it cannot be told, the exit code remains. */
	if (write(failed, &errnum, sizeof(errnum)) != sizeof(errnum))
		_exit(EXIT_CANNOT_RUN);
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
	return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Start it: its process id, -1 with `error` (also if there is no such program). */
static pid_t
start_command(const FirnCli *cli, char **command, const char *path, GError **error)
{
	g_auto(GStrv) argv = command_with_path(command, path);
	g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "FIRN_MOUNT", path, TRUE);
	int failed[2], errnum = 0;
	pid_t child = pipe2(failed, O_CLOEXEC) == 0 ? fork() : -1;

	if (child == 0) {
		/* The one thing on our standard output is the result. */
		if (cli->json)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		become(argv, environment, failed[1]);
	}
	if (child < 0) {
		firn_error_set_errno(error, errno, "cannot run %s", argv[0]);
		return -1;
	}
	close(failed[1]);
	if (read(failed[0], &errnum, sizeof(errnum)) == sizeof(errnum)) {
		firn_error_set_errno(error, errnum, "cannot run %s", argv[0]);
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		child = -1;
	}
	close(failed[0]);
	return child;
}

/* Exit code of the command; with `error` if it could not be run. */
static int
run_command(const FirnCli *cli, char **command, const char *path, GError **error)
{
	int signal_fd, result = EXIT_CANNOT_RUN;
	sigset_t caught;
	pid_t child;

	sigemptyset(&caught);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGQUIT);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGHUP);
	/* They stay blocked: what is left to do then is short, and must not end half way. */
	pthread_sigmask(SIG_BLOCK, &caught, NULL);
	signal_fd = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0) {
		firn_error_set_errno(error, errno, "cannot run %s", command[0]);
		return result;
	}
	child = start_command(cli, command, path, error);
	if (child >= 0)
		result = wait_for_command(child, signal_fd);
	close(signal_fd);
	return result;
}

/* `*out_told`: what to print with --json, unless that is done. */
static int
commit_mount(FirnCli *cli, const FirnMount *mount, const Options *options, JsonObject **out_told)
{
	FirnCommitRequest request = { .message = options->message,
				      .rebase = options->rebase,
				      .out_result = cli->json ? out_told : NULL };
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

/* The command's own exit code says the rest. */
static JsonObject *
told_of_failure(const FirnMount *mount, const char *command, int code)
{
	g_autofree char *text =
		code > SIGNALLED ? g_strdup_printf("%s was ended by signal %d (%s)", command,
						   code - SIGNALLED, g_strsignal(code - SIGNALLED))
				 : g_strdup_printf("%s exited with code %d", command, code);
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	JsonObject *told = json_object_new();

	json_object_set_string_member(told, "error", valid);
	json_object_set_string_member(told, "code", "failed");
	json_object_set_int_member(told, "exit_code", code);
	json_object_set_string_member(told, "session", firn_mount_string(mount, "id"));
	return told;
}

/* Unmount; the result of the command stands if that is not possible. */
static void
end_mount(const FirnMount *mount, bool committed, JsonObject *told)
{
	g_autoptr(GError) error = NULL;
	bool left = false;
	bool ended = firn_umount_reporting(mount, "MOUNTPOINT", false, &left, &error);

	if (!ended)
		firn_cli_warn("%s%s; 'firn umount %s' unmounts it when nothing does any more",
			      committed ? "committed, but " : "", error->message, mount->root);
	if (!told)
		return;
	if (ended)
		json_object_set_null_member(told, "mountpoint");
	else
		json_object_set_string_member(told, "mountpoint", mount->root);
	if (!committed)
		json_object_set_boolean_member(told, "resumable", left);
}

static int
in_mount(FirnCli *cli, const char *mountpoint, const Options *options, char **command)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnMount) mount = firn_mount_find(mountpoint, &error);
	g_autofree char *path = mount ? firn_mount_hierarchy(mount, &error) : NULL;
	JsonObject *told = NULL;
	int result = path ? run_command(cli, command, path, &error) : FIRN_EXIT_FAILED;

	if (error)
		(void)firn_cli_fail(cli, error);
	else if (result == 0)
		result = commit_mount(cli, mount, options, &told);
	else if (cli->json)
		told = told_of_failure(mount, command[0], result);
	if (mount)
		end_mount(mount, result == 0, told);
	if (told)
		firn_cli_json(json_node_init_object(json_node_alloc(), told));
	g_clear_pointer(&told, json_object_unref);
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
	int result;

	if (options->branch)
		firn_driver_option(text, "branch", options->branch);
	if (options->state_dir) {
		state = g_canonicalize_filename(options->state_dir, NULL);
		firn_driver_option(text, "state_dir", state);
	}
	for (char **p = options->options; p && *p; p++)
		g_string_append_printf(text, "%s%s", text->len ? "," : "", *p);
	if (mountpoint && firn_driver_check(mountpoint, &error))
		result = firn_driver_start(cli, url, mountpoint, text->str, false);
	else
		result = firn_cli_fail(cli, error);
	g_string_free(text, TRUE);
	if (result == 0)
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
		{ "rebase", 0, 0, G_OPTION_ARG_FILENAME, &options.rebase_name,
		  "If the branch moved: put the commit on top (collisions: fail, ours, theirs)",
		  "[POLICY]" },
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
	firn_rebase_prepare(argc, argv);
	result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 1);
	if (result < 0 && (!command || !*command))
		result = firn_cli_usage(cli, "a command is missing: -- COMMAND...");
	if (result < 0 && (!options.message || !g_utf8_validate(options.message, -1, NULL)))
		result = firn_cli_usage(cli, options.message ? "the message is not UTF-8"
							     : "a message is missing: -m MSG");
	if (result < 0 && !firn_rebase_parse(options.rebase_name, &options.rebase))
		result = firn_cli_usage(cli, "--rebase: 'fail', 'ours' or 'theirs', not '%s'",
					options.rebase_name);
	if (result < 0 && command)
		result = run(cli, argv[1], &options, command);
	g_free(options.message);
	g_free(options.branch);
	g_free(options.rebase_name);
	g_free(options.state_dir);
	g_strfreev(options.options);
	return result;
}
