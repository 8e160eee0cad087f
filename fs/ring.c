#include "fs/ring.h"

#include "fs/caller.h"
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

/* What linux/fuse.h has since Linux 6.14; the system's may be older than its kernel. */
#define CMD_REGISTER         1u
#define CMD_COMMIT_AND_FETCH 2u

typedef struct {
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
} EntryHeader;

typedef struct {
	uint8_t in_out[128]; /* header of the request, then of its answer */
	uint8_t op_in[128];  /* the first argument */
	EntryHeader entry;
} Headers;

typedef struct {
	uint64_t flags, commit_id;
	uint16_t queue;
	uint8_t padding[6];
} Command;

/* Of one processor: so many can wait for a disk at once. */
#define MAX_PER_QUEUE 4u
#define MIN_PER_QUEUE 2u
#define MAX_IN_ALL    64u

/* In front of the payload, so that a whole request lies in one piece: header, first argument. */
#define HEADROOM     4096u
#define MAX_IN_FRONT (sizeof(struct fuse_in_header) + sizeof((Headers *)NULL)->op_in)

/* The mark of what wakes a thread that shall end. */
#define STOPPING ((void *)1)

typedef struct {
	FirnRing *ring;
	pthread_t thread;
	bool started;
	unsigned queue; /* the processor's */
	struct io_uring uring;
	bool is_set_up;
	Headers *headers;
	uint8_t *buffer; /* HEADROOM, then the payload */
	struct iovec memory[2];
	unsigned op; /* the command given last */
	uint64_t commit_id;
	uint64_t unique;   /* of the request that is being served; 0: none */
	uint64_t n_served; /* atomic */
} Server;

struct FirnRing {
	FirnDriver *driver;
	size_t payload_size;
	int starting; /* eventfd: readable from then on */
	int stopping; /* the same */
	unsigned n_servers;
	Server *servers;
};

static _Thread_local Server *current;

bool
firn_ring_is_allowed(void)
{
	g_autofree char *text = NULL;

	return g_file_get_contents(FIRN_RING_PARAMETER, &text, NULL, NULL) &&
	       (*text == 'Y' || *text == '1');
}

/* ---- one request ---- */

/* Ask for the first one, or answer the last one and ask for the next. */
static void
prepare_command(Server *server, unsigned op, uint64_t commit_id)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&server->uring);
	Command command = { .commit_id = commit_id, .queue = (uint16_t)server->queue };

	server->op = op;
	server->commit_id = commit_id;
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, server->ring->driver->fuse_fd, NULL, 0, 0);
	sqe->cmd_op = op;
	if (op == CMD_REGISTER) {
		sqe->addr = (uint64_t)(uintptr_t)server->memory;
		sqe->len = G_N_ELEMENTS(server->memory);
	}
	/* Goes on behind the structure: entries are twice as large here. */
	memcpy((uint8_t *)sqe + offsetof(struct io_uring_sqe, cmd), &command, sizeof command);
	io_uring_sqe_set_data(sqe, server);
}

static void
answer(Server *server, const struct fuse_out_header *header, size_t payload_size)
{
	memcpy(server->headers->in_out, header, sizeof *header);
	server->headers->entry.payload_size = (uint32_t)payload_size;
	server->unique = 0;
}

static void
answer_error(Server *server, int errnum)
{
	const struct fuse_out_header header = { .len = sizeof header,
						.error = -errnum,
						.unique = server->unique };

	answer(server, &header, 0);
}

bool
firn_ring_takes(const struct iovec *iov, int count)
{
	Server *server = current;
	struct fuse_out_header header;
	size_t size = 0;

	if (server == NULL || server->unique == 0 || iov[0].iov_len != sizeof header)
		return false;
	memcpy(&header, iov[0].iov_base, sizeof header);
	/* A notification. */
	if (header.unique != server->unique)
		return false;
	for (int i = 1; i < count; i++) {
		if (iov[i].iov_len > server->ring->payload_size - size) {
			answer_error(server, EIO);
			return true;
		}
		memcpy(server->buffer + HEADROOM + size, iov[i].iov_base, iov[i].iov_len);
		size += iov[i].iov_len;
	}
	answer(server, &header, size);
	return true;
}

/* What came, as it would from the device; `out_len` 0: it makes no sense. */
static uint8_t *
assemble(Server *server, size_t *out_len)
{
	struct fuse_in_header in;
	size_t payload = server->headers->entry.payload_size;
	size_t argument;
	uint8_t *request;

	memcpy(&in, server->headers->in_out, sizeof in);
	server->unique = in.unique;
	*out_len = 0;
	if (payload > server->ring->payload_size || in.len < sizeof in + payload ||
	    in.len - sizeof in - payload > sizeof server->headers->op_in)
		return NULL;
	argument = in.len - sizeof in - payload;
	request = server->buffer + HEADROOM - argument - sizeof in;
	memcpy(request, &in, sizeof in);
	memcpy(request + sizeof in, server->headers->op_in, argument);
	*out_len = in.len;
	return request;
}

static void
serve_request(Server *server)
{
	uint64_t commit_id = server->headers->entry.commit_id;
	struct fuse_buf buf = { .fd = -1 };

	buf.mem = assemble(server, &buf.size);
	if (buf.mem != NULL) {
		firn_caller_set(buf.mem, buf.size);
		fuse_session_process_buf(server->ring->driver->fuse, &buf);
	}
	if (server->unique != 0) {
		firn_daemon_log("a request was not answered");
		answer_error(server, EIO);
	}
	__atomic_add_fetch(&server->n_served, 1, __ATOMIC_RELAXED);
	prepare_command(server, CMD_COMMIT_AND_FETCH, commit_id);
}

/* ---- a thread ---- */

/* Returns where the mount has ended, which is how a thread does. */
static void
end_at(const Server *server, int errnum)
{
	if (server->op != CMD_REGISTER || errnum == ENOTCONN || errnum == ECANCELED)
		return;
	/* It asks nobody before all processors have a thread: better no mount than one that hangs. */
	firn_daemon_log("the kernel refuses io_uring for processor %u: %s; mount with io_uring=off",
			server->queue, g_strerror(errnum));
	_exit(EXIT_FAILURE);
}

/* False: the thread is to end. */
static bool
take_completions(Server *server)
{
	struct io_uring_cqe *cqe;
	bool requested = false, again = false, go_on = true;

	while (io_uring_peek_cqe(&server->uring, &cqe) == 0) {
		if (io_uring_cqe_get_data(cqe) == STOPPING) {
			go_on = false;
		} else if (cqe->res == 0) {
			requested = true;
		} else if (cqe->res == -EINTR || cqe->res == -EAGAIN) {
			again = true;
		} else {
			end_at(server, -cqe->res);
			go_on = false;
		}
		io_uring_cqe_seen(&server->uring, cqe);
	}
	if (requested)
		serve_request(server);
	else if (again && go_on)
		prepare_command(server, server->op, server->commit_id);
	return go_on;
}

/* Those that a thread cannot be moved to, as they are not there or not ours, have no clients. */
static void
move_to_processor(unsigned processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (processor < CPU_SETSIZE)
		CPU_SET(processor, &set);
	(void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* False: it came to nothing. */
static bool
wait_for_start(const FirnRing *ring)
{
	struct pollfd fds[] = { { .fd = ring->starting, .events = POLLIN },
				{ .fd = ring->stopping, .events = POLLIN } };

	while (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno == EINTR)
		;
	return fds[1].revents == 0;
}

static void *
serve(void *data)
{
	Server *server = data;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&server->uring);
	int result;

	/* The kernel refuses what comes before INIT was answered. */
	if (!wait_for_start(server->ring))
		return NULL;
	current = server;
	move_to_processor(server->queue);
	io_uring_prep_poll_add(sqe, server->ring->stopping, POLLIN);
	io_uring_sqe_set_data(sqe, STOPPING);
	prepare_command(server, CMD_REGISTER, 0);
	do
		result = io_uring_submit_and_wait(&server->uring, 1);
	while (result == -EINTR || (result >= 0 && take_completions(server)));
	if (result < 0) {
		/* Who asked on this processor would wait for ever. */
		firn_daemon_log("io_uring: %s", g_strerror(-result));
		_exit(EXIT_FAILURE);
	}
	/* What was answered last. */
	(void)io_uring_submit(&server->uring);
	return NULL;
}

/* ---- all of them ---- */

static bool
set_up(Server *server, GError **error)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQE128 };
	int result = io_uring_queue_init_params(4, &server->uring, &params);
	size_t size = HEADROOM + server->ring->payload_size;
	void *memory;

	if (result < 0) {
		firn_error_set_errno(error, -result, "io_uring cannot be used");
		return false;
	}
	server->is_set_up = true;
	/* Taken up as far as requests need it. */
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		firn_error_set_errno(error, errno, "no memory for io_uring");
		return false;
	}
	server->buffer = memory;
	server->headers = g_new0(Headers, 1);
	server->memory[0] = (struct iovec){ server->headers, sizeof *server->headers };
	server->memory[1] = (struct iovec){ server->buffer + HEADROOM, server->ring->payload_size };
	return true;
}

static void
end_server(Server *server)
{
	if (server->started)
		pthread_join(server->thread, NULL);
	if (server->is_set_up)
		io_uring_queue_exit(&server->uring);
	if (server->buffer != NULL)
		munmap(server->buffer, HEADROOM + server->ring->payload_size);
	g_free(server->headers);
}

static bool
start_server(Server *server, GError **error)
{
	sigset_t all, before;
	int failed;

	if (!set_up(server, error))
		return false;
	/* Signals are for the threads of the session. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	failed = pthread_create(&server->thread, NULL, serve, server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	server->started = failed == 0;
	if (failed != 0)
		firn_error_set_errno(error, failed, "cannot start a thread");
	return server->started;
}

/*
 * The kernel wants a thread for each processor that may ever be there; no client is on one that is
 * not there now.
 */
static unsigned
n_possible(void)
{
	g_autofree char *text = NULL;
	unsigned n_configured = (unsigned)MAX(sysconf(_SC_NPROCESSORS_CONF), 1);
	const char *last;

	/* "0-3", "0,2-7". */
	if (!g_file_get_contents("/sys/devices/system/cpu/possible", &text, NULL, NULL))
		return n_configured;
	last = text + strcspn(text, "\n");
	while (last > text && g_ascii_isdigit(last[-1]))
		last--;
	return MAX((unsigned)g_ascii_strtoull(last, NULL, 10) + 1, n_configured);
}

static bool
add_servers(FirnRing *ring, unsigned queue, unsigned n, GError **error)
{
	for (unsigned i = 0; i < n; i++) {
		Server *server = &ring->servers[ring->n_servers++];

		server->ring = ring;
		server->queue = queue;
		if (!start_server(server, error))
			return false;
	}
	return true;
}

FirnRing *
firn_ring_new(FirnDriver *driver, size_t payload_size, GError **error)
{
	FirnRing *ring = g_new0(FirnRing, 1);
	unsigned n_queues = n_possible();
	unsigned n_present = (unsigned)MAX(sysconf(_SC_NPROCESSORS_CONF), 1);
	unsigned each = CLAMP(MAX_IN_ALL / n_present, MIN_PER_QUEUE, MAX_PER_QUEUE);
	bool ok;

	G_STATIC_ASSERT(MAX_IN_FRONT <= HEADROOM);
	ring->driver = driver;
	ring->payload_size = payload_size;
	ring->servers = g_new0(Server, (gsize)n_queues * each);
	ring->starting = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->stopping = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ok = ring->starting >= 0 && ring->stopping >= 0;
	if (!ok)
		firn_error_set_errno(error, errno, "cannot make an event");
	for (unsigned queue = 0; ok && queue < n_queues; queue++)
		ok = add_servers(ring, queue, queue < n_present ? each : 1, error);
	if (ok)
		return ring;
	firn_ring_stop(ring);
	return NULL;
}

void
firn_ring_start(FirnRing *ring, bool consent)
{
	if (!consent)
		(void)eventfd_write(ring->stopping, 1);
	(void)eventfd_write(ring->starting, 1);
}

void
firn_ring_stop(FirnRing *ring)
{
	if (ring == NULL)
		return;
	if (ring->stopping >= 0)
		(void)eventfd_write(ring->stopping, 1);
	/* Those that had not begun. */
	if (ring->starting >= 0)
		(void)eventfd_write(ring->starting, 1);
	for (unsigned i = 0; i < ring->n_servers; i++)
		end_server(&ring->servers[i]);
	if (ring->stopping >= 0)
		close(ring->stopping);
	if (ring->starting >= 0)
		close(ring->starting);
	g_free(ring->servers);
	g_free(ring);
}

uint64_t
firn_ring_count(const FirnRing *ring)
{
	uint64_t n = 0;

	for (unsigned i = 0; ring != NULL && i < ring->n_servers; i++)
		n += __atomic_load_n(&ring->servers[i].n_served, __ATOMIC_RELAXED);
	return n;
}
