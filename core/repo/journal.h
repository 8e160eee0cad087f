#ifndef FIRN_CORE_REPO_JOURNAL_H
#define FIRN_CORE_REPO_JOURNAL_H

#include "core/repo/changes.h"

/*
 * The journal: the durable, checksummed, self-contained record of what sessions
 * changed; the unit that is forked, copied, merged and committed.  Byte layout
 * in core/JOURNAL.md.
 *
 * A journal holds one or more sections, one a session; a live session's
 * journal has one, a merged journal one for each session in it, sorted by
 * session id.  A section's records are either in the order they happened
 * ("log") or one for each thing changed, sorted ("net"); both load to the same
 * FirnChanges.
 */
typedef struct {
	FirnId12 session;
	uint64_t seq; /* the fork was made when the ancestor's journal had this sequence number */
} FirnAncestor;

typedef struct {
	char *repository;  /* canonical URL when the session began; for messages */
	uint64_t identity; /* firn_repo_identity() */
	uint8_t spec_version;
	char *branch;  /* "" for none */
	FirnId12 base; /* snapshot */
	FirnId12 session;
	GArray *ancestors; /* FirnAncestor, oldest first; never NULL */
	char *fork;        /* fork id of a session started from a token; NULL: none */
	uint64_t created_us;
} FirnJournalHeader;

FirnJournalHeader *firn_journal_header_copy(const FirnJournalHeader *header);
void firn_journal_header_free(FirnJournalHeader *header); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnJournalHeader, firn_journal_header_free)

/* What one session changed. */
typedef struct {
	FirnJournalHeader *header;
	FirnChanges *changes; /* entries carry their sequence numbers, all > 0 */
	uint64_t last_seq;    /* of the last record; 0: none */
	bool sealed;          /* ends with a seal: nothing can be missing */
	/* A commit that was begun with all up to intent_seq, as this snapshot (all zero: none). */
	FirnId12 intent;
	uint64_t intent_seq;
	/* A live journal says up to where the objects it names are durable, too. */
	uint64_t durable_seq;
} FirnSection;

void firn_section_free(FirnSection *section);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnSection, firn_section_free)

/*
 * Read a journal from its bytes.  A torn tail of the last, unsealed section is
 * cut at the last whole record (`*out_torn`, may be NULL, says how many bytes
 * were dropped); damage before it is FORMAT and names `name` and the offset.
 * Returns FirnSection *s (caller owns: g_ptr_array_unref).
 */
GPtrArray *firn_journal_decode(GBytes *bytes, const char *name, uint64_t *out_torn, GError **error)
	FIRN_MUST_USE;
/*
 * The same for a live journal after the machine stopped: of what was written last, any part may
 * be missing, and an object may lack its bytes.  Cut at the first record that is not whole, or
 * that names an object of which the journal does not say that it was durable.
 */
GPtrArray *firn_journal_decode_stopped(GBytes *bytes, const char *name, uint64_t *out_torn,
				       GError **error) FIRN_MUST_USE;
/*
 * The same from a file.  Chunks of a large finished journal are left in it (chunk_fold.h): ask
 * firn_changes_check() when they were read.  Errors also: NOT_FOUND, DENIED, STORE.
 */
GPtrArray *firn_journal_read(const char *path, uint64_t *out_torn, GError **error) FIRN_MUST_USE;
/* The same from an open file, which is taken over. */
GPtrArray *firn_journal_read_fd(int fd, const char *name, uint64_t *out_torn, GError **error)
	FIRN_MUST_USE;
/* The same of a live journal after the machine stopped: see firn_journal_decode_stopped(). */
GPtrArray *firn_journal_read_stopped(const char *path, uint64_t *out_torn, GError **error)
	FIRN_MUST_USE;

/*
 * A section in net form, sealed, ready to be concatenated after others: header
 * + sorted records + seal.  Entries with seq 0 (inherited) are left out.
 * Appended to `out`, for what is known to be small: 2 GiB at most.  `last_seq`: what the seal
 * says, no less than any entry's.
 */
void firn_journal_encode(const FirnJournalHeader *header, const FirnChanges *changes,
			 uint64_t last_seq, GByteArray *out);
/*
 * The same of any size, in pieces, which `sink` takes (or says why not).  Errors: LIMIT
 * (a chunk or document too large for a record), the sink's.
 */
typedef bool FirnJournalSink(void *data, FirnSpan bytes, GError **error);
bool firn_journal_encode_to(const FirnJournalHeader *header, const FirnChanges *changes,
			    uint64_t last_seq, FirnJournalSink *sink, void *data, GError **error)
	FIRN_MUST_USE;
/* The same in memory: sections, one after the other.  Errors also: LIMIT (memory). */
typedef struct {
	uint8_t *data;
	size_t len, size;
} FirnJournalImage;
bool firn_journal_image_add(FirnJournalImage *image, const FirnJournalHeader *header,
			    const FirnChanges *changes, uint64_t last_seq, GError **error)
	FIRN_MUST_USE;
GBytes *firn_journal_image_end(FirnJournalImage *image); /* all of it; caller owns */
void firn_journal_image_clear(FirnJournalImage *image);
#define FIRN_JOURNAL_MODE 0600u /* of a file: journals hold data */
/* Write sections (FirnSection *) as a journal file (core/base/outfile.h). */
bool firn_journal_write(const char *path, GPtrArray *sections, GError **error) FIRN_MUST_USE;

/* ---- the live journal of a session: appending ---- */

/* One thread at a time (its owner locks). */
typedef struct FirnJournal FirnJournal;

/* Create `path` with `header` (EXISTS if it is there), durably. */
FirnJournal *firn_journal_create(const char *path, const FirnJournalHeader *header, GError **error)
	FIRN_MUST_USE;
/* The same, but neither what it holds nor its name is durable: for one that gets another name. */
FirnJournal *firn_journal_begin(const char *path, const FirnJournalHeader *header, GError **error)
	FIRN_MUST_USE;
#define FIRN_JOURNAL_CUT ".cut" /* behind the name of a journal: what it was before */
/* Continue an existing one after its last whole record, cutting a torn tail; `*out_section` is
 * what it holds so far (caller owns).  `stopped`: the machine stopped since it was written, see
 * firn_journal_decode_stopped(); the journal as it was is kept beside it, then, if it is cut. */
FirnJournal *firn_journal_resume(const char *path, bool stopped, FirnSection **out_section,
				 uint64_t *out_torn, GError **error) FIRN_MUST_USE;
void firn_journal_close(FirnJournal *journal); /* NULL is a no-op */

/*
 * What is appended from here on can be taken back, up to firn_journal_unmark(): as long as nobody
 * was told of it.
 */
void firn_journal_mark(FirnJournal *journal);
void firn_journal_unmark(FirnJournal *journal, bool back);

uint64_t firn_journal_last_seq(const FirnJournal *journal);
/* Bytes of whole records, and the inode number of the file they are in. */
uint64_t firn_journal_end(const FirnJournal *journal);
uint64_t firn_journal_file(const FirnJournal *journal);

/*
 * Append one record; true means it is in the kernel's hands (a killed process
 * loses nothing).  `*out_seq` is its sequence number.  On failure nothing was
 * appended (the file is cut back) and the journal stays usable.  `created`: made
 * by this session, not inherited from a parent; only such a node can be moved
 * (else INVALID).  LIMIT: a document or inline chunk of about 256 MiB or more.  INVALID too: what a
 * reader would refuse (a path that is no valid path, a range beyond 2^63).
 */
bool firn_journal_put_node(FirnJournal *journal, const FirnId8 *id, const char *path,
			   FirnMeta *meta, bool created, uint64_t *out_seq, GError **error)
	FIRN_MUST_USE;
bool firn_journal_delete_node(FirnJournal *journal, const FirnId8 *id, const char *path,
			      bool created, uint64_t *out_seq, GError **error) FIRN_MUST_USE;
bool firn_journal_move_node(FirnJournal *journal, const FirnId8 *id, const char *to,
			    uint64_t *out_seq, GError **error) FIRN_MUST_USE;
bool firn_journal_put_chunk(FirnJournal *journal, const FirnId8 *id, const char *path,
			    uint32_t rank, const uint32_t *coords, const FirnRef *ref,
			    uint64_t *out_seq, GError **error) FIRN_MUST_USE;
bool firn_journal_put_pending(FirnJournal *journal, const char *path, const FirnRef *ref,
			      uint64_t *out_seq, GError **error) FIRN_MUST_USE; /* NONE: gone */
/* A commit of everything up to `seq` as `snapshot` is about to be made.  Synced. */
bool firn_journal_intent(FirnJournal *journal, uint64_t seq, const FirnId12 *snapshot,
			 GError **error) FIRN_MUST_USE;
bool firn_journal_sync(FirnJournal *journal, GError **error) FIRN_MUST_USE;
/* All objects that records up to `seq` name are durable.  Not synced. */
bool firn_journal_durable(FirnJournal *journal, uint64_t seq, GError **error) FIRN_MUST_USE;
/* A descriptor for fdatasync(2) that outlives the journal (caller closes); -1 with errno. */
int firn_journal_dup(const FirnJournal *journal);

#endif
