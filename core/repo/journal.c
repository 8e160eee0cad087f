#include "core/repo/journal.h"

#include "core/base/error.h"
#include "core/repo/journal_file.h"
#include "core/repo/journal_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* In net form a record is longer by the path of its array, and some numbers. */
#define MAX_APPENDED (FIRN_JOURNAL_MAX_RECORD - (1u << 17))

/*
 * Kept free on the disk behind the end, for records that say that something is gone: who has
 * filled the disk can then remove what fills it.
 */
#define RESERVE ((uint64_t)64 * 1024)

/* What the live journal knows of a node it named. */
#define NODE_NAMED   1u
#define NODE_CREATED 2u

struct FirnJournal {
	int fd;
	char *path;
	uint64_t end;  /* bytes of whole records; what is behind it is rubbish of a failed append */
	uint64_t file; /* inode number */
	uint64_t room; /* up to here the disk has blocks for it, as far as we know */
	bool no_room;  /* the file system cannot say so */
	uint64_t last_seq;
	uint64_t seed;
	GHashTable *nodes; /* FirnId8 * (owned) -> NODE_* */
	GByteArray *buffer;
	/* With a mark: */
	GArray *noted; /* Noted: what was known of nodes before; NULL: no mark */
	uint64_t mark_end;
	uint64_t mark_seq;
	bool uncut; /* whole records that were taken back could not be cut off */
};

typedef struct {
	FirnId8 id;
	unsigned flags;
} Noted;

/* ---- headers and sections ---- */

FirnJournalHeader *
firn_journal_header_copy(const FirnJournalHeader *header)
{
	FirnJournalHeader *copy = g_memdup2(header, sizeof *header);

	copy->repository = g_strdup(header->repository);
	copy->branch = g_strdup(header->branch);
	copy->fork = g_strdup(header->fork);
	copy->ancestors = g_array_copy(header->ancestors);
	return copy;
}

void
firn_journal_header_free(FirnJournalHeader *header)
{
	if (header == NULL)
		return;
	g_free(header->repository);
	g_free(header->branch);
	g_free(header->fork);
	g_array_unref(header->ancestors);
	g_free(header);
}

void
firn_section_free(FirnSection *section)
{
	if (section == NULL)
		return;
	firn_journal_header_free(section->header);
	firn_changes_free(section->changes);
	g_free(section);
}

/* ---- the live journal ---- */

static bool
write_at(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return true;
}

static FirnJournal *
journal_new(int fd, const char *path, const FirnId12 *session, uint64_t end)
{
	FirnJournal *journal = g_new0(FirnJournal, 1);
	struct stat st;

	journal->fd = fd;
	journal->file = fstat(fd, &st) == 0 ? st.st_ino : 0;
	journal->path = g_strdup(path);
	journal->end = end;
	journal->seed = firn_journal_record_seed(session);
	journal->nodes = g_hash_table_new_full(firn_id8_hash, firn_id8_equal, g_free, NULL);
	journal->buffer = g_byte_array_new();
	return journal;
}

void
firn_journal_close(FirnJournal *journal)
{
	if (journal == NULL)
		return;
	if (journal->room > journal->end)
		(void)(ftruncate(journal->fd, (off_t)journal->end) == 0);
	close(journal->fd);
	g_free(journal->path);
	g_hash_table_unref(journal->nodes);
	g_byte_array_unref(journal->buffer);
	g_free(journal);
}

uint64_t
firn_journal_last_seq(const FirnJournal *journal)
{
	return journal->last_seq;
}

uint64_t
firn_journal_end(const FirnJournal *journal)
{
	return journal->end;
}

uint64_t
firn_journal_file(const FirnJournal *journal)
{
	return journal->file;
}

static unsigned
node_flags(const FirnJournal *journal, const FirnId8 *id)
{
	return GPOINTER_TO_UINT(g_hash_table_lookup(journal->nodes, id));
}

static void
note_node(FirnJournal *journal, const FirnId8 *id, unsigned flags)
{
	gpointer value = GUINT_TO_POINTER(flags);
	Noted noted = { *id, node_flags(journal, id) };

	if (journal->noted != NULL)
		g_array_append_val(journal->noted, noted);
	g_hash_table_replace(journal->nodes, g_memdup2(id, sizeof *id), value);
}

FirnJournal *
firn_journal_create(const char *path, const FirnJournalHeader *header, GError **error)
{
	FirnJournal *journal = firn_journal_begin(path, header, error);

	if (journal == NULL)
		return NULL;
	if (firn_journal_sync(journal, error) && firn_journal_file_sync_directory(path, error))
		return journal;
	firn_journal_close(journal);
	unlink(path);
	return NULL;
}

FirnJournal *
firn_journal_begin(const char *path, const FirnJournalHeader *header, GError **error)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		firn_error_set_errno(error, errno, "cannot create journal %s", path);
		return NULL;
	}
	firn_journal_record_add_header(header, FIRN_JOURNAL_LOG, bytes);
	if (write_at(fd, bytes->data, bytes->len, 0))
		return journal_new(fd, path, &header->session, bytes->len);
	firn_error_set_errno(error, errno, "cannot write journal %s", path);
	unlink(path);
	close(fd);
	return NULL;
}

static void
note_section(FirnJournal *journal, const FirnSection *section)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, section->changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *node = value;

		note_node(journal, &node->id, NODE_NAMED | (node->created ? NODE_CREATED : 0));
	}
	journal->last_seq = section->last_seq;
}

static FirnSection *
take_only_section(GPtrArray *sections, const char *path, GError **error)
{
	const FirnSection *section = sections->pdata[0];

	if (sections->len != 1 || section->sealed) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "journal %s is finished (exported or merged): it can be committed, "
			    "not continued",
			    path);
		return NULL;
	}
	return g_ptr_array_steal_index(sections, 0);
}

/* What no reader would take must not be written: it would make all behind it unreadable. */
static bool
check_readable(const FirnJournal *journal, GError **error)
{
	FirnSpan data = { journal->buffer->data, journal->buffer->len };
	const char *reason = "it is not whole";
	FirnRecord record;
	FirnSpan body;
	size_t size;

	if (firn_journal_record_open(data, journal->seed, &body, &size))
		reason = firn_journal_record_decode(body, &record);
	if (reason == NULL)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "this cannot be journalled: %s", reason);
	return false;
}

static bool
is_removal(const FirnRecord *record)
{
	switch (record->kind) {
	case FIRN_RECORD_CHUNK:
	case FIRN_RECORD_PENDING:
		return record->ref.kind == FIRN_REF_NONE;
	case FIRN_RECORD_NODE_PUT:
	case FIRN_RECORD_NODE_MOVE:
		return false;
	case FIRN_RECORD_NODE_DELETE:
	case FIRN_RECORD_INTENT:
	case FIRN_RECORD_DURABLE:
	case FIRN_RECORD_SEAL:
		break;
	}
	return true;
}

/* Blocks for `len` bytes and, unless it is a removal, for removals to come; false: errno. */
static bool
make_room(FirnJournal *journal, size_t len, bool removal)
{
	uint64_t needed = journal->end + len + (removal ? 0 : RESERVE);
	const uint64_t wanted[] = { needed + RESERVE, needed };
	int errnum = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
		if (journal->no_room || needed <= journal->room)
			return true;
		if (fallocate(journal->fd, FALLOC_FL_KEEP_SIZE, (off_t)journal->end,
			      (off_t)(wanted[i] - journal->end)) == 0) {
			journal->room = wanted[i];
			return true;
		}
		errnum = errno;
		if (errnum != ENOSPC && errnum != EDQUOT)
			break;
	}
	/* Those it is kept for may still have it. */
	if (removal || errnum == EINTR)
		return true;
	journal->no_room = errnum != ENOSPC && errnum != EDQUOT;
	errno = errnum;
	return journal->no_room;
}

/* Cut off what is behind the end, and the blocks with it. */
static bool
cut_behind(FirnJournal *journal)
{
	journal->room = 0;
	return ftruncate(journal->fd, (off_t)journal->end) == 0;
}

/*
 * One record, at the end, by offset: whatever a failed append left behind is
 * cut off, or else written over by the next one.
 */
static bool
append(FirnJournal *journal, const FirnRecord *record, GError **error)
{
	struct stat st;

	g_byte_array_set_size(journal->buffer, 0);
	if (!firn_journal_record_encode(record, journal->seed, journal->buffer) ||
	    journal->buffer->len > MAX_APPENDED) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "a journal record may have %u bytes: store what is larger as a chunk",
			    MAX_APPENDED);
		return false;
	}
	if (!check_readable(journal, error))
		return false;
	/* A reader would take what lies behind this one for what came next. */
	if (journal->uncut)
		journal->uncut = !cut_behind(journal);
	if (journal->uncut || !make_room(journal, journal->buffer->len, is_removal(record)) ||
	    !write_at(journal->fd, journal->buffer->data, journal->buffer->len, journal->end)) {
		int errnum = errno;

		/* If this fails too, a reader finds a torn tail. */
		if (fstat(journal->fd, &st) != 0 || (uint64_t)st.st_size != journal->end)
			(void)cut_behind(journal);
		firn_error_set_errno(error, errnum, "cannot append to journal %s", journal->path);
		return false;
	}
	journal->end += journal->buffer->len;
	journal->last_seq = record->seq;
	return true;
}

void
firn_journal_mark(FirnJournal *journal)
{
	g_assert(journal->noted == NULL);
	journal->noted = g_array_new(FALSE, FALSE, sizeof(Noted));
	journal->mark_end = journal->end;
	journal->mark_seq = journal->last_seq;
}

void
firn_journal_unmark(FirnJournal *journal, bool back)
{
	g_autoptr(GArray) noted = g_steal_pointer(&journal->noted);

	if (!back || journal->end == journal->mark_end)
		return;
	journal->end = journal->mark_end;
	journal->last_seq = journal->mark_seq;
	journal->uncut = !cut_behind(journal);
	/* Nobody else has had the blocks yet. */
	if (!journal->uncut)
		(void)make_room(journal, 0, false);
	for (guint i = noted->len; i > 0; i--) {
		const Noted *was = &g_array_index(noted, Noted, i - 1);

		note_node(journal, &was->id, was->flags);
	}
}

/*
 * Synced, so that after a power cut nothing of the tail is found behind new
 * records.  An intent that lay in the tail is kept.
 */
static bool
cut_tail(FirnJournal *journal, const FirnSection *section, bool stopped, GError **error)
{
	static const FirnId12 none = { { 0 } };
	FirnRecord intent = { .kind = FIRN_RECORD_INTENT,
			      .seq = section->last_seq,
			      .number = section->intent_seq,
			      .snapshot = section->intent };

	if (stopped && !firn_id12_equal(&section->intent, &none) &&
	    !append(journal, &intent, error))
		return false;
	if (cut_behind(journal) && fsync(journal->fd) == 0)
		return true;
	firn_error_set_errno(error, errno, "cannot cut the torn tail of journal %s", journal->path);
	return false;
}

/*
 * A copy of the journal as it is, before what did not survive is cut off: it may
 * still tell of it.  An older copy stays.
 */
static bool
keep_cut(const char *path, GBytes *bytes, GError **error)
{
	g_autofree char *kept = g_strconcat(path, FIRN_JOURNAL_CUT, NULL);
	g_autoptr(GError) reason = NULL;
	size_t len;
	const char *data = g_bytes_get_data(bytes, &len);

	for (unsigned n = 1; g_file_test(kept, G_FILE_TEST_EXISTS); n++) {
		g_free(kept);
		kept = g_strdup_printf("%s" FIRN_JOURNAL_CUT ".%u", path, n);
	}
	if (g_file_set_contents_full(kept, data, (gssize)len,
				     G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
				     0600, &reason))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
		    "cannot keep what is cut off a journal: %s", reason->message);
	return false;
}

FirnJournal *
firn_journal_resume(const char *path, bool stopped, FirnSection **out_section, uint64_t *out_torn,
		    GError **error)
{
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(FirnSection) section = NULL;
	FirnJournal *journal;
	uint64_t torn = 0, end;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		firn_error_set_errno(error, errno, "cannot open journal %s", path);
		return NULL;
	}
	bytes = firn_journal_file_read_all(fd, path, error);
	if (bytes != NULL)
		sections = stopped ? firn_journal_decode_stopped(bytes, path, &torn, error)
				   : firn_journal_decode(bytes, path, &torn, error);
	if (sections != NULL)
		section = take_only_section(sections, path, error);
	if (section == NULL) {
		close(fd);
		return NULL;
	}
	end = g_bytes_get_size(bytes) - torn;
	journal = journal_new(fd, path, &section->header->session, end);
	note_section(journal, section);
	if (torn > 0 && ((stopped && !keep_cut(path, bytes, error)) ||
			 !cut_tail(journal, section, stopped, error))) {
		firn_journal_close(journal);
		return NULL;
	}
	*out_section = g_steal_pointer(&section);
	if (out_torn != NULL)
		*out_torn = torn;
	return journal;
}

/* A record that changes something: it gets the next number. */
static bool
append_change(FirnJournal *journal, FirnRecord *record, unsigned flags, uint64_t *out_seq,
	      GError **error)
{
	record->seq = journal->last_seq + 1;
	if (record->created)
		record->created_seq = record->seq;
	if (!append(journal, record, error))
		return false;
	if (flags != 0 && (node_flags(journal, &record->id) & flags) != flags)
		note_node(journal, &record->id, node_flags(journal, &record->id) | flags);
	*out_seq = record->seq;
	return true;
}

static FirnSpan
span_of(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

bool
firn_journal_put_node(FirnJournal *journal, const FirnId8 *id, const char *path, FirnMeta *meta,
		      bool created, uint64_t *out_seq, GError **error)
{
	FirnRecord record = {
		.kind = FIRN_RECORD_NODE_PUT, .id = *id, .path = span_of(path), .created = created
	};

	record.document.data = g_bytes_get_data(meta->raw, &record.document.len);
	return append_change(journal, &record, NODE_NAMED | (created ? NODE_CREATED : 0), out_seq,
			     error);
}

bool
firn_journal_delete_node(FirnJournal *journal, const FirnId8 *id, const char *path, bool created,
			 uint64_t *out_seq, GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_NODE_DELETE,
			      .id = *id,
			      .path = span_of(path),
			      .created = created };

	return append_change(journal, &record, NODE_NAMED, out_seq, error);
}

bool
firn_journal_move_node(FirnJournal *journal, const FirnId8 *id, const char *to, uint64_t *out_seq,
		       GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_NODE_MOVE, .id = *id, .path = span_of(to) };

	if ((node_flags(journal, id) & NODE_CREATED) == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s: only a node made in this session can be moved there: copy it, and "
			    "remove the original",
			    to);
		return false;
	}
	return append_change(journal, &record, 0, out_seq, error);
}

bool
firn_journal_put_chunk(FirnJournal *journal, const FirnId8 *id, const char *path, uint32_t rank,
		       const uint32_t *coords, const FirnRef *ref, uint64_t *out_seq,
		       GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_CHUNK, .id = *id, .rank = rank, .ref = *ref };

	g_assert(rank <= FIRN_MAX_RANK && !ref->location_compressed);
	if ((node_flags(journal, id) & NODE_NAMED) == 0) {
		record.has_path = true;
		record.path = span_of(path);
	}
	if (rank > 0)
		memcpy(record.numbers, coords, rank * sizeof *coords);
	return append_change(journal, &record, NODE_NAMED, out_seq, error);
}

bool
firn_journal_put_pending(FirnJournal *journal, const char *path, const FirnRef *ref,
			 uint64_t *out_seq, GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_PENDING, .path = span_of(path), .ref = *ref };

	g_assert(!ref->location_compressed);
	return append_change(journal, &record, 0, out_seq, error);
}

bool
firn_journal_intent(FirnJournal *journal, uint64_t seq, const FirnId12 *snapshot, GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_INTENT,
			      .seq = journal->last_seq,
			      .number = seq,
			      .snapshot = *snapshot };

	return append(journal, &record, error) && firn_journal_sync(journal, error);
}

bool
firn_journal_durable(FirnJournal *journal, uint64_t seq, GError **error)
{
	FirnRecord record = { .kind = FIRN_RECORD_DURABLE,
			      .seq = journal->last_seq,
			      .number = seq };

	return append(journal, &record, error);
}

int
firn_journal_dup(const FirnJournal *journal)
{
	return fcntl(journal->fd, F_DUPFD_CLOEXEC, 0);
}

bool
firn_journal_sync(FirnJournal *journal, GError **error)
{
	if (fdatasync(journal->fd) == 0)
		return true;
	firn_error_set_errno(error, errno, "cannot sync journal %s", journal->path);
	return false;
}
