#ifndef FIRN_CORE_REPO_JOURNAL_RECORD_H
#define FIRN_CORE_REPO_JOURNAL_RECORD_H

#include "core/repo/journal.h"

/*
 * The bytes of a journal: section headers and records (layout in
 * core/JOURNAL.md).  Pure functions, no I/O.  For the journal's own files only.
 */
#define FIRN_JOURNAL_VERSION    1u
#define FIRN_JOURNAL_MAX_RECORD (1u << 28) /* bytes of a record's body: a longer one is no record */
#define FIRN_JOURNAL_MAX_HEADER (1u << 24)
/* What an array that is encoded to may hold: its length is an unsigned int. */
#define FIRN_JOURNAL_MAX_ARRAY (1u << 31)

typedef enum {
	FIRN_JOURNAL_LOG = 0, /* every record, in the order it happened      */
	FIRN_JOURNAL_NET = 1, /* one record for each thing changed, sorted   */
} FirnJournalForm;

typedef enum {
	FIRN_RECORD_NODE_PUT = 1,
	FIRN_RECORD_NODE_DELETE = 2,
	FIRN_RECORD_NODE_MOVE = 3,
	FIRN_RECORD_CHUNK = 4,
	FIRN_RECORD_PENDING = 5,
	FIRN_RECORD_INTENT = 6,
	FIRN_RECORD_SEAL = 7,
	FIRN_RECORD_DURABLE = 8,
} FirnRecordKind;

/* One record; which fields it has depends on its kind.  Spans are borrowed. */
typedef struct {
	FirnRecordKind kind;
	bool has_path; /* chunk: whether it names its node */
	bool has_keep; /* node put */
	bool created;  /* node put, node delete */
	uint64_t seq;
	uint64_t created_seq; /* if created */
	uint64_t number;      /* intent, durable: up to which seq; seal: records in the section */
	FirnId8 id;           /* node put, delete, move, chunk */
	FirnId12 snapshot;    /* intent */
	FirnSpan path;        /* node put, delete, move (to), pending; chunk if has_path */
	FirnSpan document;    /* node put */
	FirnRef ref;          /* chunk, pending */
	uint32_t rank;        /* chunk: items of numbers; node put with has_keep: too */
	uint32_t numbers[FIRN_MAX_RANK]; /* coordinates, or keep */
} FirnRecord;

/* What records of a section are hashed with, so that bytes of another section are never taken for its own. */
uint64_t firn_journal_record_seed(const FirnId12 *session);

/* Append a record to `out`.  False, nothing appended, if it is above FIRN_JOURNAL_MAX_RECORD, or
 * `out` would be above FIRN_JOURNAL_MAX_ARRAY. */
bool firn_journal_record_encode(const FirnRecord *record, uint64_t seed, GByteArray *out)
	FIRN_MUST_USE;
/* Whether `data` starts with a whole record; `*out_body` is what firn_journal_record_decode() takes,
 * `*out_size` the bytes it takes up. */
bool firn_journal_record_open(FirnSpan data, uint64_t seed, FirnSpan *out_body, size_t *out_size);
/* NULL, or what is wrong with the body. */
const char *firn_journal_record_decode(FirnSpan body, FirnRecord *out_record);

/* Append a section header to `out`. */
void firn_journal_record_add_header(const FirnJournalHeader *header, FirnJournalForm form,
				    GByteArray *out);
/* Whether `data` starts with the first bytes of a section header. */
bool firn_journal_record_is_header(FirnSpan data);
/* The section header `data` starts with; NULL with FORMAT or UNSUPPORTED.  Caller owns. */
FirnJournalHeader *firn_journal_record_open_header(FirnSpan data, FirnJournalForm *out_form,
						   size_t *out_size, GError **error) FIRN_MUST_USE;

/* Whether `path` is absolute, with valid components ("/" is the root itself). */
bool firn_journal_record_path_valid(FirnSpan path);

#endif
