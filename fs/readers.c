#include "fs/readers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* So long may others wait behind a request that was thought to be short. */
#define PATIENCE_NS 2000000

/* So many short requests in a row that were there before they were looked for are work for two. */
#define QUEUE_MAX 64u

/* A client that opens and closes a file now and then makes every second one come soon. */
#define MOST_OF_16 11

/* Another thread takes a twentieth of it to wake up, but then shares the processors with this one. */
#define QUICK_NS 1000000

/* So many waits after it was looked how busy the processors are, it is looked again. */
#define LOOK_EVERY 64u

/* Threads of one client that take turns at a lock are no crowd. */
#define CROWD_PER_PROCESSOR 4u

/* More bytes are worth a thread of their own. */
#define SMALL (64u * 1024)

/* What this thread took last. */
static _Thread_local struct {
	unsigned kind;
	int64_t at_ns;
} taken;

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The part of a request behind its header; zeros if it is shorter. */
static void
get_args(const void *request, size_t len, void *out, size_t size)
{
	size_t start = sizeof(struct fuse_in_header);

	memset(out, 0, size);
	memcpy(out, (const uint8_t *)request + start, MIN(len - start, size));
}

/* Requests of one kind take about the same time.  0: nobody knows how long. */
static unsigned
kind_of(const void *request, size_t len)
{
	struct fuse_in_header header;
	struct fuse_write_in write;
	struct fuse_read_in read;

	if (len < sizeof header)
		return 0;
	memcpy(&header, request, sizeof header);
	switch (header.opcode) {
	case FUSE_READ:
		get_args(request, len, &read, sizeof read);
		return read.size <= SMALL ? FUSE_READ : 0;
	case FUSE_WRITE:
		get_args(request, len, &write, sizeof write);
		return write.size <= SMALL ? FUSE_WRITE : 0;
	/* They differ, or are long. */
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_INIT:
	case FUSE_DESTROY:
		return 0;
	default:
		return header.opcode < FIRN_READERS_KINDS ? header.opcode : 0;
	}
}

/* Whether most of this kind were answered sooner than another thread would have woken up. */
static bool
is_short(const FirnReaders *readers, unsigned kind)
{
	return kind && __builtin_popcount(readers->quick[kind]) >= MOST_OF_16;
}

static void
arm(FirnReaders *readers)
{
	const struct itimerspec patience = { .it_value.tv_nsec = PATIENCE_NS };

	if (readers->armed)
		return;
	readers->armed = timerfd_settime(readers->timer, 0, &patience, NULL) == 0;
	readers->armed_at = readers->n_taken;
}

/* Nobody waits for a request behind one that takes longer than was thought. */
static void *
watch(void *data)
{
	FirnReaders *readers = data;
	uint64_t n_expired;

	while (read(readers->timer, &n_expired, sizeof n_expired) > 0 || errno == EINTR) {
		pthread_mutex_lock(&readers->lock);
		readers->armed = false;
		if (!readers->reading && readers->n_taken != readers->armed_at)
			arm(readers);
		else if (!readers->reading && readers->n_waiting > 0)
			pthread_cond_signal(&readers->needed);
		pthread_mutex_unlock(&readers->lock);
	}
	return NULL;
}

bool
firn_readers_start(FirnReaders *readers, unsigned spin_us, GError **error)
{
	int errnum;

	*readers = (FirnReaders){ .spin_max_ns = (int64_t)spin_us * 1000 };
	memset(readers->quick, 0xff, sizeof readers->quick);
	pthread_mutex_init(&readers->lock, NULL);
	pthread_cond_init(&readers->needed, NULL);
	readers->load_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	readers->crowd = CROWD_PER_PROCESSOR * (uint64_t)g_get_num_processors();
	readers->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	errnum = readers->timer < 0 ? errno
				    : pthread_create(&readers->watcher, NULL, watch, readers);
	readers->watching = errnum == 0;
	if (errnum)
		firn_error_set_errno(error, errnum, "cannot start a thread");
	return readers->watching;
}

void
firn_readers_stop(FirnReaders *readers)
{
	if (!readers->watching)
		return;
	/* It waits for the timer, and holds no lock there. */
	pthread_cancel(readers->watcher);
	pthread_join(readers->watcher, NULL);
	close(readers->timer);
	if (readers->load_fd >= 0)
		close(readers->load_fd);
	readers->watching = false;
}

/* libfuse cancels its threads where they wait. */
static void
unlock(void *lock)
{
	pthread_mutex_unlock(lock);
}

static void
add(uint16_t *history, bool yes)
{
	*history = (uint16_t)(*history << 1 | yes);
}

static void
enter(FirnReaders *readers)
{
	pthread_mutex_lock(&readers->lock);
	pthread_cleanup_push(unlock, &readers->lock);
	if (taken.kind)
		add(&readers->quick[taken.kind], now_ns() - taken.at_ns < QUICK_NS);
	readers->n_waiting++;
	while (readers->reading)
		pthread_cond_wait(&readers->needed, &readers->lock);
	readers->n_waiting--;
	readers->reading = true;
	pthread_cleanup_pop(1);
}

static void
leave(FirnReaders *readers, const void *request, ssize_t len, bool at_once)
{
	bool alone;

	taken.kind = len > 0 ? kind_of(request, (size_t)len) : 0;
	taken.at_ns = now_ns();
	pthread_mutex_lock(&readers->lock);
	alone = is_short(readers, taken.kind);
	/* Two or three at once are done before another thread is awake. */
	readers->n_queued = alone && at_once ? readers->n_queued + 1 : 0;
	if (readers->n_queued > QUEUE_MAX)
		alone = false;
	readers->reading = false;
	readers->n_taken++;
	if (alone)
		arm(readers);
	else if (readers->n_waiting > 0)
		pthread_cond_signal(&readers->needed);
	pthread_mutex_unlock(&readers->lock);
}

/* Looking is worth it while most requests come soon after the one before. */
static void
learn(FirnReaders *readers, int64_t waited_ns)
{
	add(&readers->soon, waited_ns < readers->spin_max_ns);
	readers->spin_ns =
		__builtin_popcount(readers->soon) >= MOST_OF_16 ? readers->spin_max_ns : 0;
}

/*
 * Whether many more threads have something to do than there are processors.  Giving way is not
 * enough then: a thread that slept before is owed time, and the scheduler gives it back to who does
 * not want it.
 */
static bool
is_crowded(FirnReaders *readers)
{
	char text[128];
	const char *at;
	ssize_t n;

	if (readers->n_looked++ % LOOK_EVERY != 0)
		return readers->crowded;
	n = readers->load_fd >= 0 ? pread(readers->load_fd, text, sizeof text - 1, 0) : -1;
	text[MAX(n, 0)] = '\0';
	/* Three averages, then "RUNNING/ALL". */
	at = strchr(text, '/');
	while (at && at > text && g_ascii_isdigit(at[-1]))
		at--;
	readers->crowded = at && g_ascii_strtoull(at, NULL, 10) > readers->crowd;
	return readers->crowded;
}

static ssize_t
wait_for_request(FirnReaders *readers, int fd, void *buffer, size_t size, bool *out_at_once)
{
	int64_t spin_ns = readers->spin_ns > 0 && !is_crowded(readers) ? readers->spin_ns : 0;
	int64_t begin = now_ns();
	ssize_t n;

	*out_at_once = true;
	while ((n = read(fd, buffer, size)) < 0 && errno == EAGAIN) {
		struct pollfd fds = { .fd = fd, .events = POLLIN };

		*out_at_once = false;
		/* Who has something to do goes first. */
		if (spin_ns > 0 && now_ns() - begin < spin_ns)
			sched_yield();
		else if (poll(&fds, 1, -1) < 0)
			return -1;
	}
	if (n > 0)
		learn(readers, now_ns() - begin);
	return n;
}

ssize_t
firn_readers_take(FirnReaders *readers, int fd, void *buffer, size_t size)
{
	bool at_once;
	ssize_t n;
	int errnum;

	enter(readers);
	n = wait_for_request(readers, fd, buffer, size, &at_once);
	errnum = errno;
	leave(readers, buffer, n, at_once);
	errno = errnum;
	return n;
}
