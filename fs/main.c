#include "core/base/deadline.h"
#include "fs/caller.h"
#include "fs/channel.h"
#include "fs/daemon.h"
#include "fs/driver.h"
#include "fs/finish.h"
#include "fs/mountpoint.h"
#include "fs/resend.h"
#include "fs/restore.h"
#include "fs/ring.h"
#include "fs/start.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* firnfs: mount an Icechunk repository. */

enum {
	EXIT_USAGE = 2,
	EXIT_CONFLICT = 3,
};

/* Threads that stay; and at most, as who writes a document during a commit waits in one. */
#define N_THREADS      10u
#define MAX_THREADS    4096u
#define MAX_BACKGROUND 64u
#define STOP_MS        2000u

static int
exit_code(const GError *error)
{
	return g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT) ? EXIT_CONFLICT
								       : EXIT_FAILURE;
}

/*
 * Since protocol 7.39 (Linux 6.6) a direct write drops the cached pages it
 * overwrites; before, a private mapping made meanwhile could go stale.
 */
#define PROTO_MINOR_DIRECT_WRITES 39u
/*
 * Since 7.44 (Linux 6.16) a listing's requests are as large as the caller's buffer: names without
 * attributes then lose nothing by room for attributes, and which to tell is our decision (`advice`).  Before,
 * with 4 KiB a request, the kernel decides.
 */
#define PROTO_MINOR_LARGE_LISTINGS 44u

static bool
has_proto(const struct fuse_conn_info *conn, unsigned minor)
{
	return conn->proto_major > 7 || conn->proto_minor >= minor;
}

static void
init(void *data, struct fuse_conn_info *conn)
{
	FirnDriver *driver = data;

	driver->direct_writes = has_proto(conn, PROTO_MINOR_DIRECT_WRITES);
	if (has_proto(conn, PROTO_MINOR_LARGE_LISTINGS))
		conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO;
	/* Pages stay until we say otherwise, whatever a time stamp says. */
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
	if (conn->capable & FUSE_CAP_EXPLICIT_INVAL_DATA)
		conn->want |= FUSE_CAP_EXPLICIT_INVAL_DATA;
	/* Measured slower than a copy here. */
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_background = MAX_BACKGROUND;
}

/* libfuse says what is wrong with the options to a log only, which takes no context, in pieces. */
static _Thread_local char fuse_said[400];

static void keep_message(enum fuse_log_level level, const char *format, va_list args)
	G_GNUC_PRINTF(2, 0);

static void
keep_message(enum fuse_log_level level, const char *format, va_list args)
{
	size_t len = strlen(fuse_said);

	if (level <= FUSE_LOG_ERR)
		(void)vsnprintf(fuse_said + len, sizeof fuse_said - len, format, args);
}

/* "fuse: unknown option(s): `-o a,b'": the options; NULL if something else is wrong.  Caller owns. */
static char *
unknown_options(void)
{
	const char *list = strstr(fuse_said, "unknown option(s): `");
	g_auto(GStrv) words = NULL;
	g_autofree char *text = NULL;

	if (!list)
		return NULL;
	text = g_strdup(list + strlen("unknown option(s): `"));
	text[strcspn(text, "'\n")] = '\0';
	words = g_strsplit(text, "-o ", -1);
	return g_strstrip(g_strjoinv("", words));
}

static struct fuse_session *
session_of(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, void *data, GError **error)
{
	struct fuse_session *fuse;
	g_autofree char *unknown = NULL;

	fuse_said[0] = '\0';
	fuse_set_log_func(keep_message);
	fuse = fuse_session_new(args, ops, sizeof(*ops), data);
	fuse_set_log_func(NULL);
	if (fuse)
		return fuse;
	unknown = unknown_options();
	if (unknown)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "there is no option '%s', neither here nor in libfuse", unknown);
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "%s",
			    *fuse_said ? g_strstrip(fuse_said) : "FUSE cannot be set up");
	return NULL;
}

/* Before anything is begun: whether libfuse takes the options we do not know. */
static bool
check_options(const struct fuse_args *args, GError **error)
{
	const struct fuse_lowlevel_ops ops = { .init = init };
	struct fuse_args copy = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *fuse;

	for (int i = 0; i < args->argc; i++)
		if (fuse_opt_add_arg(&copy, args->argv[i])) {
			g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_STORE, "out of memory");
			fuse_opt_free_args(&copy);
			return false;
		}
	fuse = session_of(&copy, &ops, NULL, error);
	fuse_opt_free_args(&copy);
	if (fuse)
		fuse_session_destroy(fuse);
	return fuse != NULL;
}

static struct fuse_session *
new_session(FirnDriver *driver, struct fuse_args *args, GError **error)
{
	struct fuse_lowlevel_ops ops = { .init = init };
	g_autofree char *name = g_strconcat("fsname=", firn_repo_url(driver->repo), NULL);
	char *options = NULL;

	firn_ops_name(&ops);
	firn_ops_file(&ops);
	firn_ops_dir(&ops);
	if (fuse_opt_add_opt_escaped(&options, name) ||
	    fuse_opt_add_opt(&options, "subtype=firn") ||
	    (driver->options->allow_other && !driver->options->default_permissions &&
	     fuse_opt_add_opt(&options, "default_permissions")) ||
	    fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, options) ||
	    (driver->options->debug && fuse_opt_add_arg(args, "-d"))) {
		free(options);
		g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_STORE, "out of memory");
		return NULL;
	}
	free(options);
	return session_of(args, &ops, driver, error);
}

static int
serve(struct fuse_session *fuse)
{
	sigset_t ending;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int result;

	sigemptyset(&ending);
	firn_succession_add_signals(&ending);
	(void)pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
	fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
	fuse_loop_cfg_set_idle_threads(config, N_THREADS);
	result = fuse_session_loop_mt(fuse, config);
	fuse_loop_cfg_destroy(config);
	return result;
}

/* On the only processor, who looks for a request keeps others from making it. */
static unsigned
spin_us(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? FIRN_READERS_SPIN_US : 0;
}

static void
stop_notify(FirnDriver *driver)
{
	if (firn_notify_stop(driver->notify, STOP_MS))
		return;
	/* It waits in the kernel for a lock whose holder waits for us. */
	firn_mountpoint_abort(driver->options->mountpoint);
	while (!firn_notify_stop(driver->notify, STOP_MS))
		firn_daemon_log("waiting for the kernel to let go of %s",
				driver->options->mountpoint);
}

static void
notify_kernel(GPtrArray *invalidations, void *data)
{
	firn_notify_push(data, invalidations);
}

/* What libfuse, and the program it may call, say about a mount that fails; "" otherwise. */
static char *
mount_quietly(FirnDriver *driver, int *out_failed)
{
	int said = memfd_create("said", MFD_CLOEXEC);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	char text[400] = "";
	ssize_t n = 0;

	if (said >= 0 && saved >= 0)
		dup2(said, STDERR_FILENO);
	*out_failed = fuse_session_mount(driver->fuse, driver->options->mountpoint);
	if (saved >= 0)
		dup2(saved, STDERR_FILENO);
	if (said >= 0)
		n = pread(said, text, sizeof text - 1, 0);
	text[MAX(n, 0)] = '\0';
	if (said >= 0)
		close(said);
	if (saved >= 0)
		close(saved);
	return g_strdup(g_strdelimit(g_strstrip(text), "\n", ' '));
}

static bool
mount_here(FirnDriver *driver, GError **error)
{
	const char *mountpoint = driver->options->mountpoint;
	g_autofree char *said = NULL;
	int failed, claim;

	if (!firn_mountpoint_claim(mountpoint, &claim, error))
		return false;
	said = mount_quietly(driver, &failed);
	firn_mountpoint_release(claim);
	if (failed)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "cannot mount on %s: %s ('firn doctor' tells what is missing)",
			    mountpoint, *said ? said : "libfuse does not say why");
	return !failed;
}

/* Be connected to the kernel: by mounting, or as the driver was that died. */
static bool
connect_kernel(FirnDriver *driver, const FirnKept *kept, GError **error)
{
	FirnSuccession *succession = &driver->succession;
	int fd = succession->fuse_fd;

	if (!kept && !mount_here(driver, error))
		return false;
	driver->fuse_fd = kept ? fd : fuse_session_fd(driver->fuse);
	if (!firn_channel_install(driver, driver->fuse_fd, error))
		return false;
	return !kept || firn_resend_replay_init(driver, kept, error);
}

/* Let those know who wait for it. */
static bool
say_ready(FirnDriver *driver, FirnDaemon *daemon, GError **error)
{
	const char *directory = driver->session->directory;
	g_autofree char *log = directory ? g_build_filename(directory, "log", NULL) : NULL;

	if (!firn_succession_hand_over(&driver->succession, driver->fuse_fd,
				       driver->session->lock_fd, log)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "the supervisor is gone");
		return false;
	}
	firn_daemon_ready(daemon);
	if (driver->options->foreground)
		return true;
	firn_daemon_detach(log);
	firn_daemon_log("%s is mounted on %s (process %ld)", firn_repo_url(driver->repo),
			driver->options->mountpoint, (long)firn_driver_pid(driver));
	return true;
}

/* The one before died: tell whoever looks, and have the kernel repeat what it was asked. */
static bool
go_on(FirnDriver *driver, GError **error)
{
	firn_view_note(driver->view, NULL,
		       "the driver died of signal %d (%s); another one goes on (restart %u)",
		       driver->succession.signal, g_strsignal(driver->succession.signal),
		       driver->succession.n_restarts);
	firn_daemon_log("process %ld goes on", (long)getpid());
	firn_restore_record(driver);
	return firn_resend_ask(driver->fuse_fd, error);
}

static void
end_mount(FirnDriver *driver, bool successor)
{
	firn_succession_end(&driver->succession);
	if (successor)
		firn_mountpoint_unmount(driver->options->mountpoint, driver->fuse_fd);
	else
		fuse_session_unmount(driver->fuse);
}

/* Answer until unmounted or told to end, unmount. */
static bool
run_mounted(FirnDriver *driver, FirnDaemon *daemon, const FirnKept *kept, GError **error)
{
	int result = -1;
	bool ok;

	if (!connect_kernel(driver, kept, error))
		return false;
	ok = firn_readers_start(&driver->readers, driver->options->no_spin ? 0 : spin_us(),
				error) &&
	     firn_notify_start(driver->notify, driver->fuse, driver->view, &driver->succession,
			       error);
	if (ok) {
		firn_view_set_notify(driver->view, notify_kernel, driver->notify);
		firn_view_set_killed(driver->view, firn_caller_is_killed);
		if (kept)
			firn_restore_handles(driver, kept);
		ok = kept ? go_on(driver, error) : say_ready(driver, daemon, error);
	}
	if (ok)
		result = serve(driver->fuse);
	firn_readers_stop(&driver->readers);
	/* Before the connection is closed, which they use. */
	firn_ring_stop(driver->ring);
	driver->ring = NULL;
	stop_notify(driver);
	end_mount(driver, kept != NULL);
	/* Positive: the signal that ended it. */
	if (ok && result < 0)
		firn_error_set_errno(error, -result, "the connection to the kernel failed");
	return ok && result >= 0;
}

static bool
mount_and_serve(FirnDriver *driver, FirnDaemon *daemon, struct fuse_args *args, GError **error)
{
	bool successor = driver->succession.fuse_fd >= 0;
	g_autoptr(FirnKept) kept = NULL;
	bool ok;

	if (successor) {
		kept = firn_keep_read(driver->succession.keep, error);
		if (!kept || !firn_restore_open(driver, kept, error))
			return false;
	} else if (!firn_start_open(driver, error)) {
		return false;
	}
	/* Not after a restart: pages may be waited for. */
	if (!successor && firn_driver_is_read_only(driver) && !driver->options->no_prefill)
		driver->prefill = firn_prefill_new();
	if (!driver->options->foreground && chdir("/")) {
		firn_error_set_errno(error, errno, "cannot leave the working directory");
		return false;
	}
	driver->fuse = new_session(driver, args, error);
	if (!driver->fuse)
		return false;
	ok = fuse_set_signal_handlers(driver->fuse) == 0;
	if (!ok)
		g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_STORE,
				    "signal handlers cannot be set");
	ok = ok && run_mounted(driver, daemon, kept, error);
	fuse_remove_signal_handlers(driver->fuse);
	return ok;
}

static bool
wants_supervisor(const FirnOptions *options)
{
	if (options->io_uring && !strcmp(options->io_uring, "on"))
		return false;
	/* libfuse's helper unmounts as soon as who mounted is gone. */
	return !options->foreground && !options->auto_unmount &&
	       g_strcmp0(options->restart, "off") != 0;
}

/* Where nobody would go on with what a ring holds anyhow, unless it was asked for. */
static bool
wants_ring(const FirnOptions *options, GError **error)
{
	bool allowed = firn_ring_is_allowed();

	if (!options->io_uring)
		return allowed && firn_options_are_read_only(options) && !wants_supervisor(options);
	if (!strcmp(options->io_uring, "off"))
		return false;
	if (!allowed)
		g_set_error(
			error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			"io_uring=on: the kernel does not let drivers use it; it needs Linux 6.14, "
			"and an administrator's 'echo Y > " FIRN_RING_PARAMETER "'");
	return allowed;
}

static int
run(FirnOptions *options, struct fuse_args *args)
{
	FirnDriver driver = { .options = options, .succession = FIRN_SUCCESSION_NONE };
	FirnDaemon daemon = { .fd = -1 };
	g_autoptr(GError) error = NULL;
	bool detached;
	int code = EXIT_SUCCESS;

	driver.wants_ring = wants_ring(options, &error);
	if (error || !firn_mountpoint_prepare(options->mountpoint, &detached, &error) ||
	    (!options->foreground && !firn_daemon_fork(&daemon, options->mountpoint, &error))) {
		fprintf(stderr, "firnfs: %s\n", error->message);
		return exit_code(error);
	}
	if (detached)
		fprintf(stderr, "firnfs: detached a mount at %s whose driver was gone\n",
			options->mountpoint);
	firn_daemon_set_limits();
	if (wants_supervisor(options) &&
	    !firn_succession_start(&driver.succession, &daemon.fd, &error)) {
		fprintf(stderr, "firnfs: %s\n", error->message);
		firn_daemon_failed(&daemon, EXIT_FAILURE);
		return EXIT_FAILURE;
	}
	pthread_mutex_init(&driver.lock, NULL);
	firn_deadline_cond_init(&driver.yielded);
	driver.notify = firn_notify_new();
	driver.handles = firn_handles_new(driver.succession.keep, driver.succession.n_restarts);
	if (!options->no_passthrough)
		driver.passthrough = firn_passthrough_new(&driver);
	if (!mount_and_serve(&driver, &daemon, args, &error)) {
		fprintf(stderr, "firnfs: %s\n", error->message);
		code = exit_code(error);
	}
	if (!firn_finish(&driver) && !code)
		code = EXIT_FAILURE;
	firn_daemon_failed(&daemon, code);
	if (driver.fuse)
		fuse_session_destroy(driver.fuse);
	firn_notify_free(driver.notify);
	firn_handles_free(driver.handles);
	firn_passthrough_free(driver.passthrough);
	firn_prefill_free(driver.prefill);
	firn_succession_free(&driver.succession);
	pthread_cond_destroy(&driver.yielded);
	pthread_mutex_destroy(&driver.lock);
	g_free(driver.name);
	g_free(driver.branch);
	g_free(driver.session_id);
	g_free(driver.fork_of);
	return code;
}

int
main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnOptions) options = firn_options_parse(&args, &error);
	int code = EXIT_SUCCESS;

	if (!options || (!options->help && !options->version && !check_options(&args, &error))) {
		fprintf(stderr, "firnfs: %s (firnfs -h tells more)\n", error->message);
		code = EXIT_USAGE;
	} else if (options->help) {
		fputs(firn_options_usage, stdout);
	} else if (options->version) {
		printf("firnfs %s (libfuse %s)\n", FIRN_VERSION, fuse_pkgversion());
	} else {
		code = run(options, &args);
	}
	fuse_opt_free_args(&args);
	return code;
}
