#include "core/base/error.h"
#include "core/repo/journal_fold.h"

#include <string.h>

/* Bytes hashed at most in search of a whole record behind a broken one: a few ms, and some for each
 * byte searched.  A tail of some thousand bytes, as a killed writer leaves it, is searched fully. */
#define SEARCH_LEAST  (64u << 20)
#define SEARCH_EFFORT 16u

typedef struct {
	FirnSpan data;             /* the whole journal, or what of it is in the window */
	size_t at;                 /* of the record being read, in `data` */
	FirnJournalWindow *window; /* NULL: there is none */
	FirnJournalFolder *folder; /* with a window: where chunks go */
	const char *name;
	uint64_t seed;
	FirnJournalForm form;
	FirnSection *section;
	FirnNodeChange *last; /* of the last chunk: they come in runs */
	size_t record_size;   /* of the record being read */
	uint64_t n_records;
	bool stopped;
	uint64_t durable_seq; /* if stopped: up to here objects are durable */
	FirnRecord intent;    /* if stopped: the last there is (kind 0: none) */
} Reader;

static bool
fail(const Reader *reader, GError **error, const char *reason)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "journal %s: record at offset %zu: %s",
		    reader->name, reader->at, reason);
	return false;
}

/* ---- one record ---- */

static char *
dup_path(FirnSpan path)
{
	return g_strndup((const char *)path.data, path.len);
}

static bool
same_path(const char *path, FirnSpan span)
{
	return strlen(path) == span.len && memcmp(path, span.data, span.len) == 0;
}

static FirnMeta *
parse_document(const Reader *reader, FirnSpan document, GError **error)
{
	g_autoptr(GBytes) raw = g_bytes_new(document.data, document.len);
	FirnMeta *meta = firn_meta_parse(raw, error);

	if (meta != NULL)
		return meta;
	/* Whoever appended it had parsed it: here it is damage. */
	if (error != NULL && *error != NULL) {
		(*error)->domain = FIRN_ERROR;
		(*error)->code = FIRN_ERROR_FORMAT;
	}
	g_prefix_error(error, "journal %s: record at offset %zu: zarr.json: ", reader->name,
		       reader->at);
	return NULL;
}

static void
set_keep(FirnNodeChange *node, const FirnRecord *record)
{
	g_clear_pointer(&node->keep, g_free);
	node->keep_rank = 0;
	if (!record->has_keep)
		return;
	node->keep = g_new0(uint32_t, MAX(record->rank, 1));
	memcpy(node->keep, record->numbers, record->rank * sizeof node->keep[0]);
	node->keep_rank = record->rank;
}

/* What of `record` contradicts what was before it; NULL: nothing. */
static const char *
check_put(const Reader *reader, const FirnRecord *record, const FirnNodeChange *node,
	  const FirnNodeChange *there, const FirnMeta *meta)
{
	if (there != NULL && there != node)
		return "another node is at its path";
	if (node != NULL && node->meta != NULL && node->meta->kind != meta->kind)
		return "an array and a group have one id";
	if (node != NULL && node->chunks != NULL && meta->kind != FIRN_NODE_ARRAY)
		return "a group has chunks";
	if (reader->form == FIRN_JOURNAL_LOG) {
		if (record->has_keep)
			return "a log does not say what is kept";
		if (node == NULL && record->created && record->created_seq != record->seq)
			return "it was created by another record";
		return NULL;
	}
	if (node != NULL)
		return "the node is recorded twice";
	if (record->created && (record->created_seq == 0 || record->created_seq > record->seq))
		return "it was created after it was changed";
	if (record->has_keep && (meta->kind != FIRN_NODE_ARRAY || meta->rank != record->rank))
		return "what is kept is of another rank";
	return NULL;
}

static bool
apply_put(Reader *reader, const FirnRecord *record, GError **error)
{
	FirnChanges *changes = reader->section->changes;
	g_autofree char *path = dup_path(record->path);
	g_autoptr(FirnMeta) meta = parse_document(reader, record->document, error);
	FirnNodeChange *node = firn_changes_find(changes, &record->id);
	const char *reason;

	if (meta == NULL)
		return false;
	reason = check_put(reader, record, node, firn_changes_find_path(changes, path), meta);
	if (reason != NULL)
		return fail(reader, error, reason);
	node = firn_changes_put_node(changes, &record->id, path, meta, record->created,
				     record->seq);
	if (reader->form == FIRN_JOURNAL_NET) {
		node->created_seq = record->created_seq;
		set_keep(node, record);
	}
	return true;
}

static const char *
apply_delete(Reader *reader, const FirnRecord *record)
{
	FirnChanges *changes = reader->section->changes;
	g_autofree char *path = dup_path(record->path);
	FirnNodeChange *node = firn_changes_find(changes, &record->id);
	bool is_new = node == NULL;

	if (reader->form == FIRN_JOURNAL_NET) {
		if (!is_new)
			return "the node is recorded twice";
		if (record->created &&
		    (record->created_seq == 0 || record->created_seq > record->seq))
			return "it was created after it was deleted";
	}
	node = firn_changes_delete_node(changes, &record->id, path, record->created, record->seq);
	if (reader->form == FIRN_JOURNAL_NET)
		node->created_seq = record->created_seq;
	return NULL;
}

static const char *
apply_move(Reader *reader, const FirnRecord *record)
{
	FirnChanges *changes = reader->section->changes;
	g_autofree char *to = dup_path(record->path);
	const FirnNodeChange *node = firn_changes_find(changes, &record->id);
	const FirnNodeChange *there = firn_changes_find_path(changes, to);

	if (reader->form == FIRN_JOURNAL_NET)
		return "only a log has moves";
	if (node == NULL || node->kind != FIRN_CHANGE_PUT || !node->created)
		return "it moves a node that was not made in this section";
	if (there != NULL && there != node)
		return "another node is at its path";
	firn_changes_move_node(changes, &record->id, to, record->seq);
	return NULL;
}

/* The entry a chunk hangs on, as far as there is one (`*out_node`); NULL, or what is wrong. */
static const char *
find_array(Reader *reader, const FirnRecord *record, FirnNodeChange **out_node)
{
	FirnNodeChange *node = reader->last;

	if (node == NULL || !firn_id8_equal(&node->id, &record->id))
		node = firn_changes_find(reader->section->changes, &record->id);
	*out_node = node;
	if (node == NULL)
		return record->has_path ? NULL : "its node was not named before";
	if (node->kind == FIRN_CHANGE_DELETE)
		return "a chunk of a deleted node";
	if (record->has_path && !same_path(node->path, record->path))
		return "its node has another path";
	if (node->meta != NULL
		    ? node->meta->kind != FIRN_NODE_ARRAY || node->meta->rank != record->rank
		    : node->chunks != NULL && firn_chunk_map_rank(node->chunks) != record->rank)
		return "a chunk has not the rank of its array";
	return NULL;
}

/* Leave the chunk where it is. */
static const char *
fold_chunk(Reader *reader, const FirnRecord *record, FirnNodeChange *node, const char *path)
{
	FirnChanges *changes = reader->section->changes;
	uint64_t offset = reader->window->base + reader->at;

	if (node == NULL)
		node = firn_changes_add_array(changes, &record->id, path);
	reader->last = node;
	return firn_journal_folder_add(reader->folder, changes, node, record, offset,
				       reader->record_size)
		       ? NULL
		       : "the chunks are not in order";
}

static const char *
apply_chunk(Reader *reader, const FirnRecord *record)
{
	FirnChanges *changes = reader->section->changes;
	g_autofree char *path = record->has_path ? dup_path(record->path) : NULL;
	uint64_t before = changes->n_chunks;
	FirnNodeChange *node;
	const char *reason = find_array(reader, record, &node);

	if (reason != NULL)
		return reason;
	if (node == NULL && firn_changes_find_path(changes, path) != NULL)
		return "another node is at its path";
	if (reader->folder != NULL)
		return fold_chunk(reader, record, node, path);
	if (node != NULL)
		(void)firn_changes_put_chunk_of(changes, node, record->rank, record->numbers,
						&record->ref, record->seq);
	else
		(void)firn_changes_put_chunk(changes, &record->id, path, record->rank,
					     record->numbers, &record->ref, record->seq);
	if (reader->form == FIRN_JOURNAL_NET && changes->n_chunks == before)
		return "the chunk is recorded twice";
	if (node == NULL)
		node = firn_changes_find(changes, &record->id);
	reader->last = node;
	return NULL;
}

static const char *
apply_pending(Reader *reader, const FirnRecord *record)
{
	FirnChanges *changes = reader->section->changes;
	g_autofree char *path = dup_path(record->path);

	if (reader->form == FIRN_JOURNAL_NET && (g_hash_table_contains(changes->pending, path) ||
						 g_hash_table_contains(changes->dropped, path)))
		return "the pending file is recorded twice";
	if (reader->form == FIRN_JOURNAL_NET && record->ref.kind == FIRN_REF_NONE &&
	    !changes->forked)
		return "a pending file is deleted that cannot have been there";
	firn_changes_put_pending(changes, path, &record->ref, record->seq);
	return NULL;
}

/* Records that change something are numbered 1, 2, 3 in a log; the others repeat the last number. */
static const char *
check_seq(const Reader *reader, const FirnRecord *record)
{
	uint64_t last = reader->section->last_seq;
	bool change = record->kind < FIRN_RECORD_INTENT;

	if (record->seq > FIRN_CHUNK_SEQ_MAX)
		return "its sequence number is out of range";
	if (reader->form == FIRN_JOURNAL_LOG)
		return record->seq != last + change ? "its sequence number is not the next one"
						    : NULL;
	if (record->kind == FIRN_RECORD_SEAL)
		return record->seq < last ? "it seals less than there is" : NULL;
	return change && record->seq == 0 ? "its sequence number is 0" : NULL;
}

static bool
apply(Reader *reader, const FirnRecord *record, GError **error)
{
	FirnSection *section = reader->section;
	const char *reason = check_seq(reader, record);

	if (reason != NULL)
		return fail(reader, error, reason);
	switch (record->kind) {
	case FIRN_RECORD_NODE_PUT:
		if (!apply_put(reader, record, error))
			return false;
		break;
	case FIRN_RECORD_NODE_DELETE:
		reason = apply_delete(reader, record);
		break;
	case FIRN_RECORD_NODE_MOVE:
		reason = apply_move(reader, record);
		break;
	case FIRN_RECORD_CHUNK:
		reason = apply_chunk(reader, record);
		break;
	case FIRN_RECORD_PENDING:
		reason = apply_pending(reader, record);
		break;
	case FIRN_RECORD_INTENT:
		if (record->number > record->seq)
			reason = "it intends to commit more than there is";
		section->intent = record->snapshot;
		section->intent_seq = record->number;
		break;
	case FIRN_RECORD_DURABLE:
		if (reader->form == FIRN_JOURNAL_NET)
			reason = "only a log says what is durable";
		else if (record->number > record->seq)
			reason = "more is said to be durable than there is";
		section->durable_seq = record->number;
		break;
	case FIRN_RECORD_SEAL:
		if (record->number != reader->n_records)
			reason = "records are missing before the seal";
		section->sealed = true;
		break;
	}
	section->last_seq = MAX(section->last_seq, record->seq);
	/* A log does not say when forks were made. */
	if (reader->form == FIRN_JOURNAL_LOG)
		section->changes->fork_seq = section->last_seq;
	reader->n_records++;
	return reason == NULL || fail(reader, error, reason);
}

/* ---- torn or damaged ---- */

/*
 * No whole record starts at `at`.  A tail that was being written when its
 * writer died has nothing whole behind it; damage further up has.  The search is
 * bounded: what cannot be told apart in time is taken for damage.
 *
 * When the machine stopped, parts of what was not synced yet may be there in any
 * order; but at most one note of durability may be: the one before it was synced
 * when it was written.
 */
static bool
is_torn_tail(const Reader *reader)
{
	size_t left = reader->data.len - reader->at;
	uint64_t budget = (uint64_t)left * SEARCH_EFFORT + SEARCH_LEAST;
	unsigned n_durable = 0;

	for (size_t at = reader->at; at < reader->data.len; at++) {
		FirnSpan rest = { reader->data.data + at, reader->data.len - at };
		FirnSpan body;
		uint32_t len;
		size_t size;

		if (firn_journal_record_is_header(rest))
			return false;
		if (rest.len <= sizeof len || at == reader->at)
			continue;
		memcpy(&len, rest.data, sizeof len);
		len = GUINT32_FROM_LE(len);
		if (len > rest.len || rest.data[sizeof len] == 0 ||
		    rest.data[sizeof len] > FIRN_RECORD_DURABLE)
			continue;
		if (len > budget)
			return false;
		budget -= len;
		if (!firn_journal_record_open(rest, reader->seed, &body, &size))
			continue;
		if (body.data[0] == FIRN_RECORD_DURABLE)
			n_durable++;
		if (!reader->stopped || n_durable > 1)
			return false;
	}
	return true;
}

/* Whether an object is named that may lack its bytes. */
static bool
is_unsure(const Reader *reader, const FirnRecord *record)
{
	return reader->stopped && record->seq > reader->durable_seq &&
	       (record->kind == FIRN_RECORD_CHUNK || record->kind == FIRN_RECORD_PENDING) &&
	       record->ref.kind == FIRN_REF_NATIVE;
}

/* Look ahead for the last note of what is durable, and the last intent. */
static void
look_ahead(Reader *reader)
{
	size_t at = reader->at, size;
	FirnSpan body;

	while (at < reader->data.len) {
		FirnSpan rest = { reader->data.data + at, reader->data.len - at };
		FirnRecord record;

		if (!firn_journal_record_open(rest, reader->seed, &body, &size))
			return;
		if ((body.data[0] == FIRN_RECORD_DURABLE || body.data[0] == FIRN_RECORD_INTENT) &&
		    firn_journal_record_decode(body, &record) == NULL) {
			/* Who intends to commit has made all of it durable. */
			reader->durable_seq = MAX(reader->durable_seq, record.number);
			if (record.kind == FIRN_RECORD_INTENT)
				reader->intent = record;
		}
		at += size;
	}
}

/*
 * What follows is dropped.  But a commit that was intended may have been made
 * while later chunks were written: that must be known.
 */
static bool
cut(Reader *reader, uint64_t *out_torn)
{
	FirnSection *section = reader->section;

	*out_torn = reader->data.len - reader->at;
	reader->at = reader->data.len;
	if (reader->intent.kind == FIRN_RECORD_INTENT &&
	    reader->intent.number <= section->last_seq) {
		section->intent = reader->intent.snapshot;
		section->intent_seq = reader->intent.number;
	}
	return true;
}

/* Have the next record in the window as a whole, if there is one. */
static bool
look_further(Reader *reader)
{
	FirnJournalWindow *window = reader->window;
	size_t left = reader->data.len - reader->at;
	uint32_t len = 0;
	size_t want;

	if (left >= sizeof len)
		memcpy(&len, reader->data.data + reader->at, sizeof len);
	want = sizeof len + (size_t)GUINT32_FROM_LE(len) + sizeof(uint64_t);
	if (left >= want && left >= sizeof len)
		return true;
	if (want > FIRN_JOURNAL_MAX_RECORD || !firn_journal_window_move(window, reader->at, want))
		return false;
	reader->data = (FirnSpan){ window->bytes, window->len };
	reader->at = 0;
	return true;
}

static bool
read_records(Reader *reader, uint64_t *out_torn, GError **error)
{
	while (!reader->section->sealed) {
		FirnSpan rest;
		FirnRecord record;
		FirnSpan body;
		size_t size;
		const char *reason;

		if (reader->window != NULL && !look_further(reader))
			return fail(reader, error, "it cannot be read");
		if (reader->at == reader->data.len)
			break;
		rest = (FirnSpan){ reader->data.data + reader->at, reader->data.len - reader->at };
		if (!firn_journal_record_open(rest, reader->seed, &body, &size)) {
			if (reader->window != NULL || !is_torn_tail(reader))
				return fail(
					reader, error,
					"it is damaged, and what follows is not; get the journal "
					"again from where it was copied");
			return cut(reader, out_torn);
		}
		reason = firn_journal_record_decode(body, &record);
		if (reason != NULL)
			return fail(reader, error, reason);
		if (is_unsure(reader, &record))
			return cut(reader, out_torn);
		reader->record_size = size;
		if (!apply(reader, &record, error))
			return false;
		reader->at += size;
	}
	return true;
}

/* The section at `*at`, which is moved behind it. */
static FirnSection *
read_section(FirnSpan data, size_t *at, const char *name, bool stopped, uint64_t *out_torn,
	     GError **error)
{
	g_autoptr(FirnSection) section = g_new0(FirnSection, 1);
	Reader reader = { .data = data, .name = name, .section = section, .stopped = stopped };
	FirnSpan rest = { data.data + *at, data.len - *at };
	size_t size;

	section->changes = firn_changes_new();
	section->header = firn_journal_record_open_header(rest, &reader.form, &size, error);
	if (section->header == NULL) {
		g_prefix_error(error, "journal %s: offset %zu: ", name, *at);
		return NULL;
	}
	section->changes->forked = section->header->ancestors->len > 0;
	reader.at = *at + size;
	reader.seed = firn_journal_record_seed(&section->header->session);
	if (stopped)
		look_ahead(&reader);
	if (!read_records(&reader, out_torn, error))
		return NULL;
	*at = reader.at;
	return g_steal_pointer(&section);
}

static void
section_free(gpointer section)
{
	firn_section_free(section);
}

static GPtrArray *
decode(GBytes *bytes, const char *name, bool stopped, uint64_t *out_torn, GError **error)
{
	g_autoptr(GPtrArray) sections = g_ptr_array_new_with_free_func(section_free);
	uint64_t torn = 0;
	FirnSpan data;
	size_t at = 0;

	data.data = g_bytes_get_data(bytes, &data.len);
	if (data.len == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "journal %s: it is empty", name);
		return NULL;
	}
	while (at < data.len) {
		FirnSection *section = read_section(data, &at, name, stopped, &torn, error);

		if (section == NULL)
			return NULL;
		g_ptr_array_add(sections, section);
	}
	if (out_torn != NULL)
		*out_torn = torn;
	return g_steal_pointer(&sections);
}

GPtrArray *
firn_journal_decode(GBytes *bytes, const char *name, uint64_t *out_torn, GError **error)
{
	return decode(bytes, name, false, out_torn, error);
}

GPtrArray *
firn_journal_decode_stopped(GBytes *bytes, const char *name, uint64_t *out_torn, GError **error)
{
	return decode(bytes, name, true, out_torn, error);
}

/* ---- through a window ---- */

/* The section at the window's beginning, which is moved behind it. */
static FirnSection *
read_folded(FirnJournalWindow *window, FirnChunkFile *whole, const char *name)
{
	g_autoptr(FirnSection) section = g_new0(FirnSection, 1);
	g_autoptr(FirnChunkFile) file = NULL;
	FirnJournalFolder folder = { .node = NULL };
	Reader reader = { .data = { window->bytes, window->len },
			  .name = name,
			  .section = section,
			  .window = window,
			  .folder = &folder };
	uint64_t torn;

	section->changes = firn_changes_new();
	section->header =
		firn_journal_record_open_header(reader.data, &reader.form, &reader.at, NULL);
	if (section->header == NULL || reader.form != FIRN_JOURNAL_NET)
		return NULL;
	section->changes->forked = section->header->ancestors->len > 0;
	reader.seed = firn_journal_record_seed(&section->header->session);
	file = firn_chunk_file_part(whole, reader.seed);
	folder.file = file;
	if (!read_records(&reader, &torn, NULL) || !section->sealed)
		return NULL;
	firn_journal_folder_flush(&folder);
	return firn_journal_window_move(window, reader.at, 0) ? g_steal_pointer(&section) : NULL;
}

GPtrArray *
firn_journal_decode_folded(int fd, const char *name)
{
	g_autoptr(GPtrArray) sections = g_ptr_array_new_with_free_func(section_free);
	g_autoptr(FirnChunkFile) file = firn_chunk_file_new(fd, name, 0, firn_journal_unfold);
	FirnJournalWindow window = { .fd = fd };
	bool whole = firn_journal_window_move(&window, 0, 0);

	while (whole && window.len > 0) {
		FirnSection *section = read_folded(&window, file, name);

		whole = section != NULL;
		if (whole)
			g_ptr_array_add(sections, section);
	}
	firn_journal_window_clear(&window);
	return whole && sections->len > 0 ? g_steal_pointer(&sections) : NULL;
}
