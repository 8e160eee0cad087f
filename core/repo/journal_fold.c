#include "core/repo/journal_fold.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW ((size_t)1 << 20)
/* What is smaller is read as a whole. */
#define FOLD_FROM ((off_t)128 * 1024)
/* A leaf of large inline chunks would take much memory whenever it is read. */
#define MAX_FOLD_BYTES ((size_t)1 << 20)

/* ---- the window ---- */

static bool
make_room(FirnJournalWindow *window, size_t want)
{
	size_t size = MAX(want, WINDOW);
	uint8_t *bigger;

	if (size <= window->size)
		return true;
	bigger = g_try_realloc(window->bytes, size);
	if (bigger == NULL) {
		errno = ENOMEM;
		return false;
	}
	window->bytes = bigger;
	window->size = size;
	return true;
}

bool
firn_journal_window_move(FirnJournalWindow *window, size_t at, size_t want)
{
	g_assert(at <= window->len);
	if (window->len > at && at > 0)
		memmove(window->bytes, window->bytes + at, window->len - at);
	window->len -= at;
	window->base += at;
	if (!make_room(window, want))
		return false;
	while (window->len < window->size) {
		ssize_t n = pread(window->fd, window->bytes + window->len,
				  window->size - window->len, (off_t)(window->base + window->len));

		if (n < 0 && errno != EINTR)
			return false;
		if (n == 0)
			break;
		if (n > 0)
			window->len += (size_t)n;
	}
	return true;
}

void
firn_journal_window_clear(FirnJournalWindow *window)
{
	g_clear_pointer(&window->bytes, g_free);
}

/* ---- the folder ---- */

void
firn_journal_folder_flush(FirnJournalFolder *folder)
{
	uint32_t bounds[3 * FIRN_MAX_RANK];
	size_t row = folder->rank * sizeof *bounds;

	if (folder->span.n == 0)
		return;
	if (row > 0) {
		memcpy(bounds, folder->first, row);
		memcpy(bounds + folder->rank, folder->last, row);
		memcpy(bounds + 2 * (size_t)folder->rank, folder->most, row);
	}
	if (folder->span.n_packs > FIRN_CHUNK_FOLD_PACKS)
		folder->span.n_packs = 0;
	firn_chunk_map_append_folded(folder->node->chunks, folder->file, &folder->span, bounds,
				     folder->packs);
	folder->span = (FirnChunkSpan){ 0 };
}

/* Go on with the chunks of another node. */
static bool
begin_node(FirnJournalFolder *folder, FirnNodeChange *node, uint32_t rank)
{
	firn_journal_folder_flush(folder);
	/* Chunks of one node that lie in two places are no run. */
	if (node->chunks != NULL)
		return false;
	node->chunks = firn_chunk_map_new(rank);
	folder->node = node;
	folder->rank = rank;
	return true;
}

/* What is to be known of the object of one more chunk. */
static void
add_pack(FirnJournalFolder *folder, const FirnRef *ref)
{
	FirnChunkSpan *span = &folder->span;
	uint32_t n = span->n_packs;

	if (n > FIRN_CHUNK_FOLD_PACKS)
		return;
	for (uint32_t i = 0; i < n; i++)
		if (firn_id12_compare(&folder->packs[i].id, &ref->id) == 0) {
			folder->packs[i].end = MAX(folder->packs[i].end, ref->offset + ref->length);
			n = i; /* found */
			break;
		}
	if (ref->offset == 0 || ref->length == 0 || n == FIRN_CHUNK_FOLD_PACKS)
		span->n_packs = FIRN_CHUNK_FOLD_PACKS + 1;
	else if (n == span->n_packs)
		folder->packs[span->n_packs++] =
			(FirnChunkPack){ ref->id, ref->offset + ref->length };
}

bool
firn_journal_folder_add(FirnJournalFolder *folder, FirnChanges *changes, FirnNodeChange *node,
			const FirnRecord *record, uint64_t offset, size_t size)
{
	FirnChunkSpan *span = &folder->span;
	size_t row = record->rank * sizeof(uint32_t);

	if (folder->node != node) {
		if (!begin_node(folder, node, record->rank))
			return false;
	} else if (firn_coords_compare(folder->last, record->numbers, folder->rank) >= 0) {
		return false;
	}
	/* Any other record between two chunks ends a leaf, too. */
	if (span->n == FIRN_CHUNK_FOLD_MAX ||
	    (span->n > 0 &&
	     (span->offset + span->size != offset || span->size + size > MAX_FOLD_BYTES)))
		firn_journal_folder_flush(folder);
	if (span->n == 0) {
		span->offset = offset;
		memcpy(folder->first, record->numbers, row);
		memset(folder->most, 0, row);
	}
	for (uint32_t i = 0; i < record->rank; i++)
		folder->most[i] = MAX(folder->most[i], record->numbers[i]);
	memcpy(folder->last, record->numbers, row);
	span->size += (uint32_t)size;
	span->kinds |= 1u << record->ref.kind;
	if (record->ref.kind == FIRN_REF_NATIVE)
		add_pack(folder, &record->ref);
	span->n++;
	changes->n_chunks++;
	return true;
}

/* ---- back again ---- */

bool
firn_journal_unfold(FirnSpan bytes, const FirnChunkSpan *span, uint32_t rank, uint64_t seed,
		    uint32_t *out_coords, FirnChunkChange *out_changes, FirnChunkStore *store)
{
	for (uint32_t i = 0; i < span->n; i++) {
		FirnRecord record;
		FirnSpan body;
		size_t size;

		if (!firn_journal_record_open(bytes, seed, &body, &size) ||
		    firn_journal_record_decode(body, &record) != NULL ||
		    record.kind != FIRN_RECORD_CHUNK || record.rank != rank ||
		    (span->kinds & 1u << record.ref.kind) == 0)
			return false;
		memcpy(out_coords + (size_t)i * rank, record.numbers, rank * sizeof *out_coords);
		firn_chunk_change_set(&out_changes[i], &record.ref, store);
		firn_chunk_change_number(&out_changes[i], record.seq);
		bytes.data += size;
		bytes.len -= size;
	}
	return bytes.len == 0;
}

/* ---- whole files ---- */

GPtrArray *
firn_journal_fold(int fd, const char *name)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct rlimit limit;
	struct stat st;

	if (own < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && st.st_size >= FOLD_FROM &&
	    getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)own < limit.rlim_cur / 2)
		return firn_journal_decode_folded(own, name);
	close(own);
	return NULL;
}
