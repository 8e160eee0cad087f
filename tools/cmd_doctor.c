#include "core/repo/repo.h"
#include "core/repo/state.h"
#include "tools/commands.h"
#include "tools/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LOW_SPACE    ((uint64_t)1 << 30)
#define URING        "/sys/module/fuse/parameters/enable_uring"
#define IDLE_DRIVER  "/sys/devices/system/cpu/cpuidle/current_driver"
#define HALT_POLL_NS "/sys/module/haltpoll/parameters/guest_halt_poll_ns"

typedef enum {
	GOOD,
	WARN,
	BAD
} Verdict;

typedef struct {
	FirnCli *cli;
	JsonBuilder *builder;
	bool failed;
} Doctor;

static void report(Doctor *doctor, Verdict verdict, const char *check, const char *format, ...)
	G_GNUC_PRINTF(4, 5);

static void
report(Doctor *doctor, Verdict verdict, const char *check, const char *format, ...)
{
	static const char *const words[] = { "ok", "warning", "failed" };
	g_autofree char *detail = NULL;
	va_list args;

	va_start(args, format);
	detail = g_strdup_vprintf(format, args);
	va_end(args);
	doctor->failed = doctor->failed || verdict == BAD;
	if (!doctor->cli->json) {
		printf("%-8s %-18s %s\n", words[verdict], check, detail);
		return;
	}
	json_builder_begin_object(doctor->builder);
	firn_json_string(doctor->builder, "check", check);
	firn_json_string(doctor->builder, "result", words[verdict]);
	firn_json_string(doctor->builder, "detail", detail);
	json_builder_end_object(doctor->builder);
}

/* First line of what a program prints; NULL if it does not run.  Caller owns. */
static char *
first_line(const char *program, const char *option)
{
	g_autofree char *command = g_strconcat(program, " ", option, NULL);
	g_autofree char *errors = NULL;
	char *output = NULL;
	int status = 0;

	if (!g_spawn_command_line_sync(command, &output, &errors, &status, NULL) || status != 0) {
		g_free(output);
		return NULL;
	}
	output[strcspn(output, "\n")] = '\0';
	return output;
}

static void
check_device(Doctor *doctor)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		report(doctor, GOOD, "/dev/fuse", "can be opened");
	} else if (errno == ENOENT) {
		report(doctor, BAD, "/dev/fuse",
		       "missing: 'modprobe fuse', or start the container with the device");
	} else {
		report(doctor, BAD, "/dev/fuse", "cannot be opened: %s", g_strerror(errno));
	}
}

static void
check_fusermount(Doctor *doctor)
{
	g_autofree char *path = g_find_program_in_path("fusermount3");
	g_autofree char *version = NULL;
	struct stat st;

	if (!path) {
		report(doctor, geteuid() == 0 ? WARN : BAD, "fusermount3",
		       "not in PATH: install the package fuse3");
		return;
	}
	if (stat(path, &st) != 0 || !(st.st_mode & S_ISUID) || st.st_uid != 0)
		report(doctor, geteuid() == 0 ? WARN : BAD, "fusermount3",
		       "%s is not setuid root: only root can mount", path);
	else
		report(doctor, GOOD, "fusermount3", "%s, setuid root", path);
	version = first_line(path, "--version");
	if (version)
		report(doctor, GOOD, "libfuse", "%s", version);
}

/* The first two numbers of "6.18.4-x". */
static bool
parse_version(const char *text, uint64_t *out_major, uint64_t *out_minor)
{
	char *end;

	*out_major = g_ascii_strtoull(text, &end, 10);
	*out_minor = *end == '.' ? g_ascii_strtoull(end + 1, NULL, 10) : 0;
	return end != text;
}

/* The driver asks the kernel itself: any libfuse will do. */
static void
check_passthrough(Doctor *doctor, bool kernel_has_it)
{
	report(doctor, GOOD, "passthrough", "%s",
	       !kernel_has_it   ? "no (Linux 6.9 has it): reads go through the driver"
	       : geteuid() == 0 ? "the kernel reads large chunks by itself"
				: "no (only for mounts made by root): reads go through the driver");
}

/* Off unless an administrator wants it. */
static void
check_uring(Doctor *doctor)
{
	g_autofree char *allowed = NULL;

	if (!g_file_get_contents(URING, &allowed, NULL, NULL))
		report(doctor, GOOD, "io_uring", "no (Linux 6.14 has it)");
	else if (*allowed == 'Y' || *allowed == '1')
		report(doctor, GOOD, "io_uring",
		       "for read-only mounts with -o io_uring=on: many small files faster");
	else
		report(doctor, GOOD, "io_uring",
		       "not allowed: 'echo Y > " URING
		       "' as root changes that, for read-only mounts "
		       "with -o io_uring=on");
}

static void
check_kernel(Doctor *doctor)
{
	struct utsname name;
	uint64_t major, minor;

	if (uname(&name) != 0 || !parse_version(name.release, &major, &minor)) {
		report(doctor, WARN, "kernel", "its version cannot be told");
		return;
	}
	report(doctor, major > 4 || (major == 4 && minor >= 20) ? GOOD : WARN, "kernel", "%s",
	       name.release);
	check_passthrough(doctor, major > 6 || (major == 6 && minor >= 9));
	check_uring(doctor);
	report(doctor, GOOD, "restart", "%s",
	       major > 6 || (major == 6 && minor >= 9)
		       ? "a driver that dies is replaced: its mount goes on"
		       : "no (Linux 6.9 has it): a mount ends with its driver");
}

/*
 * In a virtual machine, waking a processor that has halted costs more than all else a small request
 * needs: a driver and a client that wait for each other do little else.  One that looks for work a
 * moment longer needs no waking.
 */
static void
check_idle(Doctor *doctor)
{
	g_autofree char *driver = NULL;
	g_autofree char *text = NULL;
	uint64_t ns;

	if (!g_file_get_contents(IDLE_DRIVER, &driver, NULL, NULL) ||
	    strcmp(g_strstrip(driver), "haltpoll") != 0 ||
	    !g_file_get_contents(HALT_POLL_NS, &text, NULL, NULL))
		return;
	ns = g_ascii_strtoull(text, NULL, 10);
	if (ns > 0)
		report(doctor, GOOD, "idle processors",
		       "look for work for up to %" G_GUINT64_FORMAT " us before they halt",
		       ns / 1000);
	else
		report(doctor, WARN, "idle processors",
		       "halt at once: many small files can take three times as long; "
		       "'echo 200000 > " HALT_POLL_NS "' as root changes that");
}

static void
check_allow_other(Doctor *doctor)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	bool allowed = false;

	if (g_file_get_contents("/etc/fuse.conf", &text, NULL, NULL))
		lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; line && *line; line++)
		allowed = allowed || !strcmp(g_strstrip(*line), "user_allow_other");
	report(doctor, GOOD, "user_allow_other", "%s",
	       allowed ? "set: '-o allow_other' works for users"
		       : "not set in /etc/fuse.conf: only root can use '-o allow_other'");
}

static void
check_driver(Doctor *doctor)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = firn_driver_path(&error);

	if (!path)
		report(doctor, BAD, "driver", "%s", error->message);
	else if (access(path, X_OK) != 0)
		report(doctor, BAD, "driver", "%s cannot be run: %s", path, g_strerror(errno));
	else
		report(doctor, GOOD, "driver", "%s", path);
}

static void
check_state(Doctor *doctor, const char *state_dir)
{
	g_autofree char *root = firn_state_root(state_dir);
	g_autofree char *probe = g_build_filename(root, ".probe-XXXXXX", NULL);
	int fd;

	if (g_mkdir_with_parents(root, 0700) != 0) {
		report(doctor, BAD, "state directory", "%s: %s; --state-dir names another", root,
		       g_strerror(errno));
		return;
	}
	fd = g_mkstemp(probe);
	if (fd < 0) {
		report(doctor, BAD, "state directory", "%s: %s; --state-dir names another", root,
		       g_strerror(errno));
		return;
	}
	close(fd);
	unlink(probe);
	report(doctor, GOOD, "state directory", "%s is writable", root);
}

static bool
put_text(FirnStore *store, const char *key, const char *text, FirnPutMode mode,
	 const FirnVersion *expected, FirnVersion *out_version, GError **error)
{
	g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

	return firn_store_put(store, key, bytes, mode, expected, out_version, error);
}

/* A conditional write that must lose did lose. */
static bool
is_refused(FirnStore *store, const char *key, FirnPutMode mode, const FirnVersion *expected,
	   GError **error)
{
	g_autoptr(GError) local = NULL;

	if (put_text(store, key, "never", mode, expected, NULL, &local)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
			    "a conditional write that should lose went through: concurrent commits "
			    "would lose work here");
		return false;
	}
	if (g_error_matches(local, FIRN_ERROR, FIRN_ERROR_CONFLICT))
		return true;
	g_propagate_error(error, g_steal_pointer(&local));
	return false;
}

static void
check_conditional_writes(Doctor *doctor, FirnStore *store)
{
	FirnId12 random = firn_id12_random();
	char id[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;
	g_autoptr(GError) error = NULL;
	FirnVersion first, second;
	bool made, ok;

	firn_id12_format(&random, id);
	key = g_strconcat("firn/probe-", id, NULL);
	made = put_text(store, key, "one", FIRN_PUT_IF_ABSENT, NULL, &first, &error);
	ok = made && is_refused(store, key, FIRN_PUT_IF_ABSENT, NULL, &error) &&
	     put_text(store, key, "second", FIRN_PUT_IF_MATCH, &first, &second, &error) &&
	     is_refused(store, key, FIRN_PUT_IF_MATCH, &first, &error);
	/* Also what was made by a write that failed, unless nothing can be written at all. */
	if (!firn_store_remove(store, key, NULL) && made)
		firn_cli_warn("%s/%s was left behind", firn_store_url(store), key);
	if (ok)
		report(doctor, GOOD, "conditional writes", "locking and compare-and-swap work");
	else
		report(doctor, BAD, "conditional writes", "%s", error->message);
}

static void
check_space(Doctor *doctor, const char *url)
{
	g_autofree char *path =
		g_str_has_prefix(url, "file://") ? g_filename_from_uri(url, NULL, NULL) : NULL;
	g_autofree char *text = NULL;
	struct statvfs fs;
	uint64_t free_bytes;

	if (!path || statvfs(path, &fs) != 0)
		return;
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	text = g_format_size(free_bytes);
	report(doctor, free_bytes < LOW_SPACE ? WARN : GOOD, "free space", "%s", text);
}

static void
check_repository(Doctor *doctor, const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = firn_repo_open(name, &error);
	g_autoptr(FirnRepoInfo) info = repo ? firn_repo_read_info(repo, &error) : NULL;

	if (!info) {
		report(doctor, BAD, "repository", "%s", error->message);
		return;
	}
	report(doctor, GOOD, "repository", "%s, format %u, %u branches, %u snapshots",
	       firn_repo_url(repo), firn_repo_spec_version(repo), info->branches->len,
	       info->snapshots->len);
	if (firn_repo_spec_version(repo) < 2)
		report(doctor, WARN, "writing", "repositories of format 1 are read only");
	else if (info->availability)
		report(doctor, WARN, "writing", "the repository is set %s%s%s",
		       info->availability == 1 ? "read-only" : "offline",
		       info->status_reason ? ": " : "",
		       info->status_reason ? info->status_reason : "");
	else
		check_conditional_writes(doctor, firn_repo_store(repo));
	check_space(doctor, firn_repo_url(repo));
}

static int
doctor_command(FirnCli *cli, const char *repo, const char *state_dir)
{
	Doctor doctor = { .cli = cli };

	if (cli->json) {
		doctor.builder = json_builder_new();
		json_builder_begin_object(doctor.builder);
		json_builder_set_member_name(doctor.builder, "checks");
		json_builder_begin_array(doctor.builder);
	}
	check_device(&doctor);
	check_fusermount(&doctor);
	check_kernel(&doctor);
	check_idle(&doctor);
	check_allow_other(&doctor);
	check_driver(&doctor);
	check_state(&doctor, state_dir);
	if (repo)
		check_repository(&doctor, repo);
	if (cli->json) {
		json_builder_end_array(doctor.builder);
		firn_json_bool(doctor.builder, "ok", !doctor.failed);
		json_builder_end_object(doctor.builder);
		firn_cli_json_builder(doctor.builder);
	}
	return doctor.failed ? FIRN_EXIT_FAILED : FIRN_EXIT_DONE;
}

int
firn_cmd_doctor(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *state_dir = NULL;
	const GOptionEntry entries[] = {
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);

	return result >= 0 ? result : doctor_command(cli, argc > 1 ? argv[1] : NULL, state_dir);
}
