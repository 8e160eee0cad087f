#include "fs/succession.h"

#include "fs/daemon.h"
#include "fs/stuck.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * A request that kills whoever reads it would kill every successor.  Deaths of
 * the last WINDOW_S seconds count: by a fault of our own as FAULT_WEIGHT, by a
 * kill from outside as 1.
 */
#define WINDOW_S     60
#define FAULT_WEIGHT 100u
#define WEIGHT_LIMIT 500u
#define MAX_DEATHS   WEIGHT_LIMIT
#define MESSAGE_SIZE 4096u

/* While a thread waits for the kernel: how often we look whether it alone is left. */
#define LOOK_MS 100

/* First byte of a message of the worker; text follows. */
enum {
	HAND_OVER = 'H', /* with descriptors; text: the log */
	REFUSE = 'R',    /* text: the reason */
	END = 'E',       /* answered when everything is let go */
	WAITS = 'W',     /* text: a thread (0: none) that waits for the kernel */
};

typedef struct {
	FirnSuccession *succession;
	int signals; /* signalfd */
	int channel; /* to the worker */
	pid_t worker;
	pid_t waiting; /* its thread that waits for the kernel; 0: none */
	bool serving;  /* there is a mount */
	bool stopping; /* told to end */
	bool ending;   /* the worker is about to end */
	char *refused; /* why no worker shall follow; NULL: one may */
	struct {
		time_t at;
		unsigned weight;
	} deaths[MAX_DEATHS];
	unsigned n_deaths; /* ever */
} Supervisor;

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
firn_succession_free(FirnSuccession *succession)
{
	close_fd(&succession->channel);
	close_fd(&succession->lock_fd);
	firn_keep_free(succession->keep);
	succession->keep = NULL;
}

/* ---- messages ---- */

static bool
send_message(int channel, char what, const char *text, const int *fds, size_t n_fds)
{
	g_autofree char *data = g_strdup_printf("%c%s", what, text != NULL ? text : "");
	struct iovec iov = { .iov_base = data, .iov_len = MIN(strlen(data), MESSAGE_SIZE) };
	union {
		char buffer[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = { .buffer = "" };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header;
	ssize_t n;

	if (n_fds > 0) {
		message.msg_control = control.buffer;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(channel, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n >= 0;
}

static bool
wait_for_answer(int channel)
{
	char answer;
	ssize_t n;

	do
		n = recv(channel, &answer, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

bool
firn_succession_hand_over(FirnSuccession *succession, int fuse_fd, int lock_fd, const char *log)
{
	int fds[2] = { fuse_fd, lock_fd };

	return succession->channel < 0 ||
	       (send_message(succession->channel, HAND_OVER, log, fds, lock_fd >= 0 ? 2 : 1) &&
		wait_for_answer(succession->channel));
}

void
firn_succession_refuse(FirnSuccession *succession, const char *reason)
{
	if (succession->channel >= 0)
		(void)send_message(succession->channel, REFUSE, reason, NULL, 0);
}

void
firn_succession_waits(FirnSuccession *succession, pid_t tid)
{
	char text[16];

	if (succession->channel < 0)
		return;
	g_snprintf(text, sizeof text, "%d", (int)tid);
	(void)send_message(succession->channel, WAITS, text, NULL, 0);
}

void
firn_succession_end(FirnSuccession *succession)
{
	if (succession->channel >= 0 && send_message(succession->channel, END, NULL, NULL, 0))
		(void)wait_for_answer(succession->channel);
	/* Nobody is left who would read it. */
	close_fd(&succession->channel);
}

/* ---- the supervisor ---- */

static void
let_go(FirnSuccession *succession)
{
	close_fd(&succession->fuse_fd);
	close_fd(&succession->lock_fd);
}

static void
take_descriptors(Supervisor *supervisor, struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fds[2] = { -1, -1 };
	size_t n;

	if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return;
	n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(header), MIN(n, 2) * sizeof(int));
	let_go(supervisor->succession);
	supervisor->succession->fuse_fd = fds[0];
	supervisor->succession->lock_fd = fds[1];
	supervisor->serving = true;
}

static void
take_message(Supervisor *supervisor)
{
	char text[MESSAGE_SIZE + 1];
	struct iovec iov = { .iov_base = text, .iov_len = MESSAGE_SIZE };
	union {
		char buffer[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.buffer,
				  .msg_controllen = sizeof control.buffer };
	ssize_t n = recvmsg(supervisor->channel, &message, MSG_CMSG_CLOEXEC);

	if (n <= 0) {
		close_fd(&supervisor->channel);
		return;
	}
	text[n] = '\0';
	switch (text[0]) {
	case HAND_OVER:
		take_descriptors(supervisor, &message);
		firn_daemon_detach(text[1] != '\0' ? text + 1 : NULL);
		/* Where it was started may be unmounted. */
		(void)(chdir("/") == 0);
		(void)send(supervisor->channel, "", 1, MSG_NOSIGNAL);
		break;
	case REFUSE:
		g_free(supervisor->refused);
		supervisor->refused = g_strdup(text + 1);
		break;
	case WAITS:
		supervisor->waiting = (pid_t)g_ascii_strtoll(text + 1, NULL, 10);
		break;
	case END:
		supervisor->ending = true;
		let_go(supervisor->succession);
		(void)send(supervisor->channel, "", 1, MSG_NOSIGNAL);
		break;
	default:
		break;
	}
}

/* Workers of before that were stuck end when they can. */
static bool
reap(const Supervisor *supervisor, int *out_status)
{
	bool ended = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != supervisor->worker)
			continue;
		*out_status = status;
		ended = true;
	}
	return ended;
}

/* Whether the worker ended: how. */
static bool
take_signal(Supervisor *supervisor, int *out_status)
{
	struct signalfd_siginfo info;

	if (read(supervisor->signals, &info, sizeof info) != (ssize_t)sizeof info)
		return false;
	if (info.ssi_signo == SIGCHLD)
		return reap(supervisor, out_status);
	supervisor->stopping = true;
	kill(supervisor->worker, (int)info.ssi_signo);
	return false;
}

static bool
has_message(int channel)
{
	struct pollfd fd = { .fd = channel, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

/* How the worker ended. */
static int
watch(Supervisor *supervisor)
{
	int status = 0;

	for (;;) {
		struct pollfd fds[2] = { { .fd = supervisor->channel, .events = POLLIN },
					 { .fd = supervisor->signals, .events = POLLIN } };

		int n = poll(fds, 2, supervisor->waiting != 0 ? LOOK_MS : -1);

		if (n < 0 && errno != EINTR)
			return 0;
		if (n == 0 && firn_stuck_is(supervisor->worker, supervisor->waiting, &status))
			break;
		if ((fds[0].revents & (POLLIN | POLLHUP)) != 0)
			take_message(supervisor);
		if ((fds[1].revents & POLLIN) != 0 && take_signal(supervisor, &status))
			break;
	}
	/* What it said last.  A thread that is stuck keeps the other end open. */
	while (supervisor->channel >= 0 && has_message(supervisor->channel))
		take_message(supervisor);
	close_fd(&supervisor->channel);
	supervisor->waiting = 0;
	return status;
}

static bool
dies_too_often(Supervisor *supervisor, int signum)
{
	struct timespec now;
	unsigned weight = 0;

	clock_gettime(CLOCK_MONOTONIC, &now);
	supervisor->deaths[supervisor->n_deaths % MAX_DEATHS].at = now.tv_sec;
	supervisor->deaths[supervisor->n_deaths++ % MAX_DEATHS].weight =
		signum == SIGKILL ? 1 : FAULT_WEIGHT;
	for (unsigned i = 0; i < MIN(supervisor->n_deaths, MAX_DEATHS); i++)
		if (now.tv_sec - supervisor->deaths[i].at <= WINDOW_S)
			weight += supervisor->deaths[i].weight;
	return weight >= WEIGHT_LIMIT;
}

/* Why the worker that died of a signal shall have no successor; NULL: it shall. */
static const char *
objection(Supervisor *supervisor, int signum)
{
	if (!supervisor->serving)
		return "it had not mounted yet";
	if (supervisor->refused != NULL)
		return supervisor->refused;
	if (supervisor->ending || supervisor->stopping)
		return "it was ending";
	if (firn_keep_is_broken(supervisor->succession->keep))
		return "there was no memory to keep its state in";
	if (dies_too_often(supervisor, signum))
		return "it dies again and again";
	return NULL;
}

void
firn_succession_add_signals(sigset_t *set)
{
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

/* In the supervisor: the pid of the worker; 0 in the worker; -1: errno. */
static pid_t
fork_worker(Supervisor *supervisor)
{
	FirnSuccession *succession = supervisor->succession;
	int ends[2];
	sigset_t ending;
	pid_t worker;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return -1;
	fflush(NULL);
	worker = fork();
	if (worker != 0) {
		close(ends[1]);
		supervisor->channel = ends[0];
		if (worker < 0)
			close_fd(&supervisor->channel);
		return worker;
	}
	/* A mount without a supervisor could not be ended by its pid. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != succession->pid)
		_exit(EXIT_FAILURE);
	close(ends[0]);
	close(supervisor->signals);
	g_free(supervisor->refused);
	succession->channel = ends[1];
	/* A successor can end properly only when it has taken over: until then they wait. */
	sigemptyset(&ending);
	if (supervisor->serving)
		firn_succession_add_signals(&ending);
	(void)pthread_sigmask(SIG_SETMASK, &ending, NULL);
	return 0;
}

G_GNUC_NORETURN static void
give_up(int signum, const char *why)
{
	firn_daemon_log("the driver died of signal %d (%s) and is not replaced: %s; its work "
			"is kept: 'firn mount --resume' goes on with it",
			signum, g_strsignal(signum), why);
	/* The mount answers ENOTCONN when the last descriptor is gone. */
	_exit(EXIT_FAILURE);
}

/* Ends as the worker did, which has told whoever mounted why it could not. */
G_GNUC_NORETURN static void
follow(const Supervisor *supervisor, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;

	if (supervisor->serving && code != EXIT_SUCCESS)
		firn_daemon_log("the driver (process %ld) ended with exit code %d",
				(long)supervisor->worker, code);
	_exit(code);
}

static bool
start_signals(Supervisor *supervisor, GError **error)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	firn_succession_add_signals(&set);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	supervisor->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (supervisor->signals < 0)
		firn_error_set_errno(error, errno, "cannot watch the driver");
	return supervisor->signals >= 0;
}

bool
firn_succession_start(FirnSuccession *succession, int *ready_fd, GError **error)
{
	Supervisor supervisor = { .succession = succession, .channel = -1 };

	succession->keep = firn_keep_new(error);
	succession->pid = getpid();
	if (succession->keep == NULL || !start_signals(&supervisor, error))
		return false;
	for (;;) {
		const char *why;
		int status;

		supervisor.worker = fork_worker(&supervisor);
		if (supervisor.worker == 0)
			return true;
		if (supervisor.worker < 0) {
			firn_error_set_errno(error, errno, "cannot start the driver");
			return false;
		}
		close_fd(ready_fd);
		status = watch(&supervisor);
		if (!WIFSIGNALED(status))
			follow(&supervisor, status);
		why = objection(&supervisor, WTERMSIG(status));
		if (why != NULL)
			give_up(WTERMSIG(status), why);
		succession->signal = WTERMSIG(status);
		succession->n_restarts++;
		firn_daemon_log("the driver (process %ld) died of signal %d (%s): another one "
				"goes on (restart %u)",
				(long)supervisor.worker, succession->signal,
				g_strsignal(succession->signal), succession->n_restarts);
	}
}
