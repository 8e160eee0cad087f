#ifndef FIRN_CORE_REPO_JOURNAL_FOLD_H
#define FIRN_CORE_REPO_JOURNAL_FOLD_H

#include "core/repo/chunk_fold.h"
#include "core/repo/journal_record.h"

/*
 * Reading a finished journal without holding it: a window moves over the file,
 * and chunk records that lie in order become folded leaves of the chunk maps
 * (chunk_fold.h).  For the journal's own files only.
 */

/* The part of a file that is looked at. */
typedef struct {
	int fd; /* borrowed */
	uint8_t *bytes;
	size_t size;   /* of `bytes` */
	size_t len;    /* of what is there */
	uint64_t base; /* its place in the file */
} FirnJournalWindow;

/*
 * Let the window begin `at` bytes further, and have at least `want` bytes, or
 * all to the end of the file.  False, with errno: that cannot be read.
 */
bool firn_journal_window_move(FirnJournalWindow *window, size_t at, size_t want) FIRN_MUST_USE;
void firn_journal_window_clear(FirnJournalWindow *window);

/* Chunk records that follow each other, until they are a leaf. */
typedef struct {
	FirnChunkFile *file; /* borrowed */
	FirnNodeChange *node;
	uint32_t rank;
	FirnChunkSpan span; /* n 0: there are none; n_packs above FIRN_CHUNK_FOLD_PACKS: not said */
	FirnChunkPack packs[FIRN_CHUNK_FOLD_PACKS];
	uint32_t first[FIRN_MAX_RANK];
	uint32_t last[FIRN_MAX_RANK];
	uint32_t most[FIRN_MAX_RANK];
} FirnJournalFolder;

/*
 * A chunk record of `node`, an array of its rank, `size` bytes at `offset` of the
 * file.  False: it does not come after those of the node that were there before.
 */
bool firn_journal_folder_add(FirnJournalFolder *folder, FirnChanges *changes, FirnNodeChange *node,
			     const FirnRecord *record, uint64_t offset, size_t size) FIRN_MUST_USE;
/* Append what there is to the map of its node. */
void firn_journal_folder_flush(FirnJournalFolder *folder);

/*
 * As firn_journal_decode() with the whole file, but for chunks in a net journal,
 * which are folded; NULL (no error is said): it cannot be read in this way.
 * Takes over `fd`.  Caller owns the sections.
 */
GPtrArray *firn_journal_decode_folded(int fd, const char *name) FIRN_MUST_USE;

/* The same, where that pays: for a large journal, while descriptors are left for other things.  `fd`
 * stays the caller's. */
GPtrArray *firn_journal_fold(int fd, const char *name) FIRN_MUST_USE;

/* FirnChunkUnfold of chunk records. */
bool firn_journal_unfold(FirnSpan bytes, const FirnChunkSpan *span, uint32_t rank, uint64_t seed,
			 uint32_t *out_coords, FirnChunkChange *out_changes, FirnChunkStore *store);

#endif
