#ifndef FIRN_CORE_BASE_KEEP_PRIV_H
#define FIRN_CORE_BASE_KEEP_PRIV_H

#include "core/base/keep.h"

#include <stdatomic.h>

/*
 * The file: a page with a head, from LOG_START a log of records, from
 * SLOTS_START the slots.  The log is written behind its end, then the end is
 * moved.  When too much of it is outdated, what counts is written once more
 * behind the end, which then is the log; what was before is given back.
 */
#define FIRN_KEEP_LOG_START   UINT64_C(4096)
#define FIRN_KEEP_SLOTS_START (UINT64_C(1) << 44)

/* So many files that are written at once cost no system call a write. */
#define FIRN_KEEP_MAPPED 16u

typedef struct {
	struct {
		uint64_t start;
		_Atomic uint64_t end;
	} log[2];
	_Atomic uint32_t current;
	atomic_bool broken;
} FirnKeepHead;

typedef struct {
	uint32_t len; /* of the data */
	uint16_t kind;
	uint16_t what;
	uint64_t key;
} FirnKeepRecord;

enum {
	FIRN_KEEP_PUT,
	FIRN_KEEP_DROP,
	FIRN_KEEP_DROP_ALL,
};

struct FirnKeep {
	int fd;
	FirnKeepHead *head;
	pthread_mutex_t lock; /* protects all below, and the log */
	uint64_t live;        /* bytes of the log when it was last cleaned */
	uint8_t *window;      /* a piece of the log, mapped; NULL: none */
	uint64_t window_start;
	GArray *free_slots;               /* uint64_t */
	uint8_t *maps[FIRN_KEEP_MAPPED];  /* of the first slots, by their users; NULL: not mapped */
	uint32_t ready[FIRN_KEEP_MAPPED]; /* bytes of them that can be touched */
	GHashTable *claimed; /* uint64_t *: slots in use by a predecessor; NULL: none */
	uint64_t n_slots;
};

/* Write to the log's file; a failure breaks the keep.  Lock held. */
void firn_keep_append(FirnKeep *keep, const void *data, size_t len, uint64_t offset);
/* Write what counts once more, and let go of the rest.  Lock held. */
void firn_keep_clean(FirnKeep *keep);
bool firn_keep_read_at(FirnKeep *keep, void *data, size_t len, uint64_t offset);
/* The record at `*at` of a log, and `*at` behind it; false: it ends, or is `bad`. */
bool firn_keep_next(FirnSpan log, size_t *at, FirnKeepRecord *out_record, bool *out_bad);

#endif
