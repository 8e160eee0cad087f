#include "core/base/keep_priv.h"

#include <fcntl.h>
#include <sys/mman.h>

/*
 * The last record of each kind and key, found in one pass over the log.  The
 * table is mapped memory, so that all of it is given back afterwards: there can
 * be millions of records, and a moment later nobody needs it.
 */
#define FIRST_SLOTS ((size_t)4096)
#define OFFSET_BITS 48u
#define MAP_ALIGN   UINT64_C(65536) /* the largest page there is */

typedef struct {
	uint64_t key;
	uint64_t at; /* kind + 1 above OFFSET_BITS, offset of the record + 1 below (0: dropped) */
} Entry;

typedef struct {
	Entry *entries;
	size_t n_slots; /* power of 2 */
	size_t n_used;
} Live;

static bool
live_alloc(Live *live, size_t n_slots)
{
	void *entries = mmap(NULL, n_slots * sizeof(Entry), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (entries == MAP_FAILED)
		return false;
	*live = (Live){ .entries = entries, .n_slots = n_slots };
	return true;
}

static void
live_free(Live *live)
{
	if (live->entries != NULL)
		munmap(live->entries, live->n_slots * sizeof(Entry));
	live->entries = NULL;
}

static Entry *
live_find(const Live *live, unsigned kind, uint64_t key)
{
	uint64_t hash = (key + kind) * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(hash >> 20) & (live->n_slots - 1);

	while (live->entries[i].at != 0 &&
	       (live->entries[i].key != key || live->entries[i].at >> OFFSET_BITS != kind + 1))
		i = (i + 1) & (live->n_slots - 1);
	return &live->entries[i];
}

static bool
live_grow(Live *live)
{
	Live larger;

	if (!live_alloc(&larger, 2 * live->n_slots))
		return false;
	for (size_t i = 0; i < live->n_slots; i++) {
		const Entry *entry = &live->entries[i];
		unsigned kind = (unsigned)(entry->at >> OFFSET_BITS) - 1;

		if (entry->at == 0)
			continue;
		*live_find(&larger, kind, entry->key) = *entry;
		larger.n_used++;
	}
	live_free(live);
	*live = larger;
	return true;
}

static bool
live_set(Live *live, unsigned kind, uint64_t key, uint64_t offset)
{
	Entry *entry = live_find(live, kind, key);

	if (entry->at == 0 && 3 * ++live->n_used > 2 * live->n_slots) {
		if (!live_grow(live))
			return false;
		live->n_used++;
		entry = live_find(live, kind, key);
	}
	*entry = (Entry){ key, ((uint64_t)kind + 1) << OFFSET_BITS | offset };
	return true;
}

static uint64_t
offset_of(const Entry *entry)
{
	return entry->at & ((UINT64_C(1) << OFFSET_BITS) - 1);
}

static void
drop_kind(Live *live, unsigned kind)
{
	for (size_t i = 0; i < live->n_slots; i++)
		if (live->entries[i].at >> OFFSET_BITS == kind + 1)
			live->entries[i].at = ((uint64_t)kind + 1) << OFFSET_BITS;
}

static bool
collect(Live *live, FirnSpan log)
{
	FirnKeepRecord record;
	size_t at = 0;
	size_t start = 0;
	bool bad;

	for (; firn_keep_next(log, &at, &record, &bad); start = at)
		if (record.what == FIRN_KEEP_DROP_ALL)
			drop_kind(live, record.kind);
		else if (!live_set(live, record.kind, record.key,
				   record.what == FIRN_KEEP_PUT ? start + 1 : 0))
			return false;
	return !bad;
}

/* Behind the log; its length. */
static uint64_t
write_live(FirnKeep *keep, const Live *live, FirnSpan log, uint64_t end)
{
	uint64_t at = end;

	for (size_t i = 0; i < live->n_slots; i++) {
		uint64_t offset = offset_of(&live->entries[i]);
		FirnKeepRecord record;
		size_t next;
		bool bad;

		if (offset == 0)
			continue;
		next = (size_t)offset - 1;
		(void)firn_keep_next(log, &next, &record, &bad);
		firn_keep_append(keep, log.data + offset - 1, sizeof record + record.len, at);
		at += sizeof record + record.len;
	}
	return at - end;
}

static void
give_back(FirnKeep *keep, uint64_t start, uint64_t end)
{
	/* The page both ends lie in may hold what counts. */
	uint64_t first =
		(start + FIRN_KEEP_LOG_START - 1) / FIRN_KEEP_LOG_START * FIRN_KEEP_LOG_START;
	uint64_t last = end / FIRN_KEEP_LOG_START * FIRN_KEEP_LOG_START;

	if (last > first)
		(void)fallocate(keep->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first,
				(off_t)(last - first));
}

void
firn_keep_clean(FirnKeep *keep)
{
	uint32_t current = keep->head->current;
	uint64_t start = keep->head->log[current].start;
	uint64_t end = keep->head->log[current].end;
	uint64_t page = start / MAP_ALIGN * MAP_ALIGN;
	const uint8_t *map =
		mmap(NULL, (size_t)(end - page), PROT_READ, MAP_SHARED, keep->fd, (off_t)page);
	FirnSpan log = { map + (start - page), (size_t)(end - start) };
	Live live = { .entries = NULL };
	uint64_t len = 0;
	bool ok = map != MAP_FAILED && live_alloc(&live, FIRST_SLOTS) && collect(&live, log);

	if (ok)
		len = write_live(keep, &live, log, end);
	else
		keep->head->broken = true;
	live_free(&live);
	if (map != MAP_FAILED)
		munmap((void *)(uintptr_t)map, (size_t)(end - page));
	if (keep->head->broken)
		return;
	keep->head->log[!current].start = end;
	keep->head->log[!current].end = end + len;
	keep->live = len;
	keep->head->current = !current;
	give_back(keep, start, end);
}
