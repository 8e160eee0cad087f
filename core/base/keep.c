#include "core/base/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The file: a page with a head, from LOG_START a log of records, from
 * SLOTS_START the slots.  The log is written behind its end, then the end is
 * moved.  When too much of it is outdated, what counts is written once more
 * behind the end, which then is the log; what was before is given back.
 */
#define LOG_START   UINT64_C(4096)
#define SLOTS_START (UINT64_C(1) << 44)
#define SLACK       ((uint64_t)4 * 1024 * 1024) /* outdated bytes that nobody minds */

typedef struct {
	struct {
		uint64_t start;
		_Atomic uint64_t end;
	} log[2];
	_Atomic uint32_t current;
	atomic_bool broken;
} Head;

typedef struct {
	uint32_t len; /* of the data */
	uint16_t kind;
	uint16_t what;
	uint64_t key;
} Record;

enum {
	PUT,
	DROP,
	DROP_ALL,
};

struct FirnKeep {
	int fd;
	Head *head;
	pthread_mutex_t lock; /* protects all below, and the log */
	uint64_t live;        /* bytes of the log when it was last cleaned */
	GArray *free_slots;   /* uint64_t */
	GHashTable *claimed;  /* uint64_t *: slots in use by a predecessor; NULL: none */
	uint64_t n_slots;
};

FirnKeep *
firn_keep_new(GError **error)
{
	FirnKeep *keep = g_new0(FirnKeep, 1);
	void *head = MAP_FAILED;

	keep->fd = memfd_create("firn-keep", MFD_CLOEXEC);
	if (keep->fd >= 0 && ftruncate(keep->fd, (off_t)LOG_START) == 0)
		head = mmap(NULL, sizeof(Head), PROT_READ | PROT_WRITE, MAP_SHARED, keep->fd, 0);
	if (head == MAP_FAILED) {
		firn_error_set_errno(error, errno, "cannot get memory to keep state in");
		if (keep->fd >= 0)
			close(keep->fd);
		g_free(keep);
		return NULL;
	}
	keep->head = head;
	keep->head->log[0].start = LOG_START;
	keep->head->log[0].end = LOG_START;
	pthread_mutex_init(&keep->lock, NULL);
	keep->free_slots = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	return keep;
}

void
firn_keep_free(FirnKeep *keep)
{
	if (keep == NULL)
		return;
	munmap(keep->head, sizeof(Head));
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
	Record record = { .len = (uint32_t)len, .kind = (uint16_t)kind, .what = what, .key = key };

	g_assert(kind < FIRN_KEEP_KINDS && len <= UINT32_MAX / 2);
	g_byte_array_append(batch, (const guint8 *)&record, sizeof record);
	if (len > 0)
		g_byte_array_append(batch, data, (guint)len);
}

void
firn_keep_put(GByteArray *batch, unsigned kind, uint64_t key, const void *data, size_t len)
{
	add_record(batch, PUT, kind, key, data, len);
}

void
firn_keep_drop(GByteArray *batch, unsigned kind, uint64_t key)
{
	add_record(batch, DROP, kind, key, NULL, 0);
}

void
firn_keep_drop_all(GByteArray *batch, unsigned kind)
{
	add_record(batch, DROP_ALL, kind, 0, NULL, 0);
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

static void
give_back(FirnKeep *keep, uint64_t start, uint64_t end)
{
	/* The page both ends lie in may hold what counts. */
	uint64_t first = (start + LOG_START - 1) / LOG_START * LOG_START;
	uint64_t last = end / LOG_START * LOG_START;

	if (last > first)
		(void)fallocate(keep->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first,
				(off_t)(last - first));
}

static void
clean(FirnKeep *keep)
{
	uint32_t current = keep->head->current;
	uint64_t start = keep->head->log[current].start;
	uint64_t end = keep->head->log[current].end;
	g_autoptr(FirnKept) kept = firn_keep_read(keep, NULL);
	g_autoptr(GByteArray) log = g_byte_array_new();
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	if (kept == NULL) {
		keep->head->broken = true;
		return;
	}
	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++) {
		g_hash_table_iter_init(&iter, kept->kinds[kind]);
		while (g_hash_table_iter_next(&iter, &key, &value)) {
			gsize len;
			const void *data = g_bytes_get_data(value, &len);

			firn_keep_put(log, kind, *(const uint64_t *)key, data, len);
		}
	}
	write_at(keep, log->data, log->len, end);
	keep->head->log[!current].start = end;
	keep->head->log[!current].end = end + log->len;
	keep->live = log->len;
	keep->head->current = !current;
	give_back(keep, start, end);
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
	write_at(keep, batch->data, batch->len, end);
	if (!keep->head->broken)
		keep->head->log[current].end = end + batch->len;
	g_byte_array_set_size(batch, 0);
	if (end - keep->head->log[current].start > 2 * keep->live + SLACK)
		clean(keep);
}

void
firn_keep_put_now(FirnKeep *keep, unsigned kind, uint64_t key, const void *data, size_t len)
{
	g_autoptr(GByteArray) batch = g_byte_array_sized_new((guint)(sizeof(Record) + len));

	firn_keep_put(batch, kind, key, data, len);
	firn_keep_commit(keep, batch);
}

void
firn_keep_drop_now(FirnKeep *keep, unsigned kind, uint64_t key)
{
	g_autoptr(GByteArray) batch = g_byte_array_sized_new(sizeof(Record));

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

void
firn_keep_slot_write(FirnKeep *keep, uint64_t slot, const void *data, size_t len, size_t offset)
{
	g_assert(offset + len <= FIRN_KEEP_SLOT_SIZE);
	write_at(keep, data, len, SLOTS_START + slot * FIRN_KEEP_SLOT_SIZE + offset);
}

static bool
read_at(FirnKeep *keep, void *data, size_t len, uint64_t offset)
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
	       read_at(keep, data, len, SLOTS_START + slot * FIRN_KEEP_SLOT_SIZE);
}

/* ---- reading ---- */

void
firn_kept_free(FirnKept *kept)
{
	if (kept == NULL)
		return;
	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++)
		g_hash_table_unref(kept->kinds[kind]);
	g_free(kept);
}

static bool
apply(FirnKept *kept, GBytes *log)
{
	gsize len;
	const uint8_t *data = g_bytes_get_data(log, &len);
	size_t at = 0;

	while (at < len) {
		Record record;

		if (len - at < sizeof record)
			return false;
		memcpy(&record, data + at, sizeof record);
		at += sizeof record;
		if (record.kind >= FIRN_KEEP_KINDS || record.what > DROP_ALL ||
		    record.len > len - at)
			return false;
		if (record.what == PUT)
			g_hash_table_replace(kept->kinds[record.kind],
					     g_memdup2(&record.key, sizeof record.key),
					     g_bytes_new_from_bytes(log, at, record.len));
		else if (record.what == DROP)
			g_hash_table_remove(kept->kinds[record.kind], &record.key);
		else
			g_hash_table_remove_all(kept->kinds[record.kind]);
		at += record.len;
	}
	return true;
}

FirnKept *
firn_keep_read(FirnKeep *keep, GError **error)
{
	uint32_t current = keep->head->current;
	uint64_t start = keep->head->log[current & 1].start;
	uint64_t end = keep->head->log[current & 1].end;
	size_t len = end > start ? (size_t)(end - start) : 0;
	g_autofree uint8_t *data = g_try_malloc(len);
	g_autoptr(FirnKept) kept = g_new0(FirnKept, 1);
	g_autoptr(GBytes) log = NULL;

	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++)
		kept->kinds[kind] = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
							  (GDestroyNotify)g_bytes_unref);
	if (len > 0 && (data == NULL || !read_at(keep, data, len, start))) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "what was kept cannot be read");
		return NULL;
	}
	log = g_bytes_new_take(g_steal_pointer(&data), len);
	if (keep->head->broken || !apply(kept, log)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "what was kept is incomplete");
		return NULL;
	}
	return g_steal_pointer(&kept);
}

GBytes *
firn_kept_find(const FirnKept *kept, unsigned kind, uint64_t key)
{
	return g_hash_table_lookup(kept->kinds[kind], &key);
}

/* ---- what is in a record ---- */

void
firn_keep_add(GByteArray *out, uint64_t number)
{
	g_byte_array_append(out, (const guint8 *)&number, sizeof number);
}

void
firn_keep_add_bytes(GByteArray *out, const void *data, size_t len)
{
	firn_keep_add(out, len);
	if (len > 0)
		g_byte_array_append(out, data, (guint)len);
}

void
firn_keep_add_text(GByteArray *out, const char *text)
{
	firn_keep_add_bytes(out, text, text != NULL ? strlen(text) : 0);
}

FirnKeepReader
firn_keep_reader(GBytes *record)
{
	FirnKeepReader reader = { .bad = false };

	if (record != NULL)
		reader.rest.data = g_bytes_get_data(record, &reader.rest.len);
	return reader;
}

static FirnSpan
take(FirnKeepReader *reader, uint64_t len)
{
	FirnSpan span = { reader->rest.data, (size_t)len };

	if (reader->bad || len > reader->rest.len) {
		reader->bad = true;
		return (FirnSpan){ NULL, 0 };
	}
	reader->rest.data += len;
	reader->rest.len -= (size_t)len;
	return span;
}

uint64_t
firn_keep_take(FirnKeepReader *reader)
{
	FirnSpan span = take(reader, sizeof(uint64_t));
	uint64_t number = 0;

	if (span.len > 0)
		memcpy(&number, span.data, sizeof number);
	return number;
}

FirnSpan
firn_keep_take_bytes(FirnKeepReader *reader)
{
	return take(reader, firn_keep_take(reader));
}

char *
firn_keep_take_text(FirnKeepReader *reader)
{
	FirnSpan span = firn_keep_take_bytes(reader);

	return g_strndup(span.len > 0 ? (const char *)span.data : "", span.len);
}

void
firn_keep_take_fixed(FirnKeepReader *reader, void *out, size_t len)
{
	FirnSpan span = firn_keep_take_bytes(reader);

	if (span.len == len && span.data != NULL) {
		memcpy(out, span.data, len);
		return;
	}
	reader->bad = true;
	memset(out, 0, len);
}
