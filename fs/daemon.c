#include "fs/daemon.h"

#include "core/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY         0xff
#define OOM_SCORE_ADJ "-500"

/* The child answers one byte; then the kernel must have its answers too. */
G_GNUC_NORETURN static void
wait_for_child(int fd, pid_t child, const char *mountpoint)
{
	unsigned char answer;
	struct stat st;
	ssize_t n;

	do
		n = read(fd, &answer, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1) {
		fprintf(stderr, "firnfs: the driver (process %ld) ended before %s was mounted\n",
			(long)child, mountpoint);
		_exit(EXIT_FAILURE);
	}
	if (answer != READY) {
		waitpid(child, NULL, 0);
		_exit(answer);
	}
	/* Waits until the driver has answered INIT and this. */
	if (stat(mountpoint, &st)) {
		fprintf(stderr, "firnfs: %s was mounted, but does not answer: %s\n", mountpoint,
			g_strerror(errno));
		_exit(EXIT_FAILURE);
	}
	_exit(EXIT_SUCCESS);
}

bool
firn_daemon_fork(FirnDaemon *daemon, const char *mountpoint, GError **error)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC)) {
		firn_error_set_errno(error, errno, "cannot go to the background");
		return false;
	}
	fflush(NULL);
	child = fork();
	if (child < 0) {
		firn_error_set_errno(error, errno, "cannot go to the background");
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	if (child > 0) {
		close(ends[1]);
		wait_for_child(ends[0], child, mountpoint);
	}
	close(ends[0]);
	daemon->fd = ends[1];
	setsid();
	return true;
}

static void
answer(FirnDaemon *daemon, unsigned char byte)
{
	ssize_t n;

	if (daemon->fd < 0)
		return;
	do
		n = write(daemon->fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	close(daemon->fd);
	daemon->fd = -1;
}

void
firn_daemon_ready(FirnDaemon *daemon)
{
	answer(daemon, READY);
}

void
firn_daemon_failed(FirnDaemon *daemon, int code)
{
	fflush(NULL);
	answer(daemon, (unsigned char)code);
}

void
firn_daemon_detach(const char *log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

	fflush(NULL);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(fd >= 0 ? fd : null, STDERR_FILENO);
	}
	if (null > STDERR_FILENO)
		close(null);
	if (fd > STDERR_FILENO)
		close(fd);
}

void
firn_daemon_log(const char *format, ...)
{
	g_autofree char *now = firn_clock_format_us(firn_clock_now_us());
	g_autofree char *line = NULL;
	va_list args;

	va_start(args, format);
	line = g_strdup_vprintf(format, args);
	va_end(args);
	fprintf(stderr, "%s %s\n", now, line);
}

void
firn_daemon_set_limits(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	struct rlimit files;

	if (fd >= 0) {
		/* Only the privileged may; for others it stays as it is. */
		if (write(fd, OOM_SCORE_ADJ, strlen(OOM_SCORE_ADJ)) < 0)
			errno = 0;
		close(fd);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}
