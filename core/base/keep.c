#include "core/base/keep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLACK  ((uint64_t)4 * 1024 * 1024) /* outdated bytes that nobody minds */
#define WINDOW ((uint64_t)256 * 1024)

FirnKeep *
firn_keep_new(GError **error)
{
	FirnKeep *keep = g_new0(FirnKeep, 1);
	void *head = MAP_FAILED;

	keep->fd = memfd_create("firn-keep", MFD_CLOEXEC);
	if (keep->fd >= 0 && ftruncate(keep->fd, (off_t)FIRN_KEEP_LOG_START) == 0)
		head = mmap(NULL, sizeof(FirnKeepHead), PROT_READ | PROT_WRITE, MAP_SHARED,
			    keep->fd, 0);
	if (head == MAP_FAILED) {
		firn_error_set_errno(error, errno, "cannot get memory to keep state in");
		if (keep->fd >= 0)
			close(keep->fd);
		g_free(keep);
		return NULL;
	}
	keep->head = head;
	keep->head->log[0].start = FIRN_KEEP_LOG_START;
	keep->head->log[0].end = FIRN_KEEP_LOG_START;
	pthread_mutex_init(&keep->lock, NULL);
	keep->free_slots = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	return keep;
}

void
firn_keep_free(FirnKeep *keep)
{
	if (keep == NULL)
		return;
	if (keep->window != NULL)
		munmap(keep->window, WINDOW);
	for (size_t i = 0; i < FIRN_KEEP_MAPPED; i++)
		if (keep->maps[i] != NULL)
			munmap(keep->maps[i], FIRN_KEEP_SLOT_SIZE);
	munmap(keep->head, sizeof(FirnKeepHead));
	close(keep->fd);
	g_array_unref(keep->free_slots);
	if (keep->claimed != NULL)
		g_hash_table_unref(keep->claimed);
	pthread_mutex_destroy(&keep->lock);
	g_free(keep);
}

bool
firn_keep_is_broken(const FirnKeep *keep)
{
	return keep->head->broken;
}

/* ---- batches ---- */

static void
add_record(GByteArray *batch, uint16_t what, unsigned kind, uint64_t key, const void *data,
	   size_t len)
{
	FirnKeepRecord record = {
		.len = (uint32_t)len, .kind = (uint16_t)kind, .what = what, .key = key
	};

	g_assert(kind < FIRN_KEEP_KINDS && len <= UINT32_MAX / 2);
	g_byte_array_append(batch, (const guint8 *)&record, sizeof record);
	if (len > 0)
		g_byte_array_append(batch, data, (guint)len);
}

void
firn_keep_put(GByteArray *batch, unsigned kind, uint64_t key, const void *data, size_t len)
{
	add_record(batch, FIRN_KEEP_PUT, kind, key, data, len);
}

void
firn_keep_drop(GByteArray *batch, unsigned kind, uint64_t key)
{
	add_record(batch, FIRN_KEEP_DROP, kind, key, NULL, 0);
}

void
firn_keep_drop_all(GByteArray *batch, unsigned kind)
{
	add_record(batch, FIRN_KEEP_DROP_ALL, kind, 0, NULL, 0);
}

/* Memory is allocated before it is touched: there is no signal when there is none. */
static bool
move_window(FirnKeep *keep, uint64_t offset)
{
	uint64_t start = offset / WINDOW * WINDOW;
	uint64_t page = offset / FIRN_KEEP_LOG_START * FIRN_KEEP_LOG_START;
	void *window;

	if (keep->window != NULL)
		munmap(keep->window, WINDOW);
	keep->window = NULL;
	if (fallocate(keep->fd, 0, (off_t)page, (off_t)(start + WINDOW - page)) != 0)
		return false;
	window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, keep->fd, (off_t)start);
	if (window == MAP_FAILED)
		return false;
	keep->window = window;
	keep->window_start = start;
	return true;
}

void
firn_keep_append(FirnKeep *keep, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	while (len > 0) {
		uint64_t in = offset - keep->window_start;
		size_t n;

		if (keep->window == NULL || offset < keep->window_start || in >= WINDOW) {
			if (!move_window(keep, offset)) {
				keep->head->broken = true;
				return;
			}
			in = offset - keep->window_start;
		}
		n = MIN(len, (size_t)(WINDOW - in));
		memcpy(keep->window + in, at, n);
		at += n;
		len -= n;
		offset += n;
	}
}

void
firn_keep_commit(FirnKeep *keep, GByteArray *batch)
{
	uint32_t current;
	uint64_t end;
	FIRN_LOCK_SCOPE(&keep->lock);

	if (batch->len == 0 || keep->head->broken)
		return;
	current = keep->head->current;
	end = keep->head->log[current].end;
	firn_keep_append(keep, batch->data, batch->len, end);
	if (!keep->head->broken)
		keep->head->log[current].end = end + batch->len;
	g_byte_array_set_size(batch, 0);
	if (end - keep->head->log[current].start > 2 * keep->live + SLACK)
		firn_keep_clean(keep);
}

void
firn_keep_put_now(FirnKeep *keep, unsigned kind, uint64_t key, const void *data, size_t len)
{
	g_autoptr(GByteArray) batch = g_byte_array_sized_new((guint)(sizeof(FirnKeepRecord) + len));

	firn_keep_put(batch, kind, key, data, len);
	firn_keep_commit(keep, batch);
}

void
firn_keep_drop_now(FirnKeep *keep, unsigned kind, uint64_t key)
{
	g_autoptr(GByteArray) batch = g_byte_array_sized_new(sizeof(FirnKeepRecord));

	firn_keep_drop(batch, kind, key);
	firn_keep_commit(keep, batch);
}

/* ---- slots ---- */

uint64_t
firn_keep_slot_take(FirnKeep *keep)
{
	uint64_t slot;
	FIRN_LOCK_SCOPE(&keep->lock);

	if (keep->free_slots->len > 0) {
		slot = g_array_index(keep->free_slots, uint64_t, keep->free_slots->len - 1);
		g_array_set_size(keep->free_slots, keep->free_slots->len - 1);
		return slot;
	}
	do
		slot = keep->n_slots++;
	while (keep->claimed != NULL && g_hash_table_contains(keep->claimed, &slot));
	return slot;
}

void
firn_keep_slot_release(FirnKeep *keep, uint64_t slot)
{
	FIRN_LOCK_SCOPE(&keep->lock);

	g_array_append_val(keep->free_slots, slot);
}

void
firn_keep_slot_claim(FirnKeep *keep, uint64_t slot)
{
	FIRN_LOCK_SCOPE(&keep->lock);

	if (keep->claimed == NULL)
		keep->claimed = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	g_hash_table_add(keep->claimed, g_memdup2(&slot, sizeof slot));
}

static void
write_at(FirnKeep *keep, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = pwrite(keep->fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			keep->head->broken = true;
			return;
		}
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
}

/* Where a slot's first `end` bytes are in memory; NULL: nowhere.  One thread a slot. */
static uint8_t *
slot_map(FirnKeep *keep, uint64_t slot, size_t end)
{
	uint64_t start = FIRN_KEEP_SLOTS_START + slot * FIRN_KEEP_SLOT_SIZE;
	void *map;

	if (slot >= FIRN_KEEP_MAPPED)
		return NULL;
	if (keep->maps[slot] == NULL) {
		map = mmap(NULL, FIRN_KEEP_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, keep->fd,
			   (off_t)start);
		if (map == MAP_FAILED)
			return NULL;
		keep->maps[slot] = map;
	}
	/* As for the log: there is no signal when there is no memory. */
	if (end > keep->ready[slot]) {
		if (fallocate(keep->fd, 0, (off_t)start, (off_t)end) != 0)
			return NULL;
		keep->ready[slot] = (uint32_t)end;
	}
	return keep->maps[slot];
}

void
firn_keep_slot_write(FirnKeep *keep, uint64_t slot, const void *data, size_t len, size_t offset)
{
	uint8_t *map = slot_map(keep, slot, offset + len);

	g_assert(offset + len <= FIRN_KEEP_SLOT_SIZE);
	if (map != NULL)
		memcpy(map + offset, data, len);
	else
		write_at(keep, data, len,
			 FIRN_KEEP_SLOTS_START + slot * FIRN_KEEP_SLOT_SIZE + offset);
}

bool
firn_keep_read_at(FirnKeep *keep, void *data, size_t len, uint64_t offset)
{
	uint8_t *at = data;

	while (len > 0) {
		ssize_t n = pread(keep->fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return true;
}

bool
firn_keep_slot_read(FirnKeep *keep, uint64_t slot, void *data, size_t len)
{
	return len <= FIRN_KEEP_SLOT_SIZE && slot < UINT32_MAX &&
	       firn_keep_read_at(keep, data, len,
				 FIRN_KEEP_SLOTS_START + slot * FIRN_KEEP_SLOT_SIZE);
}
