#include "core/base/error.h"
#include "core/repo/journal_record.h"

#include <string.h>

#define PIECE    (1u << 20)
#define TOO_MUCH "the changes do not fit into memory as a journal: commit them in parts"

typedef struct {
	GByteArray *out;       /* what the sink has not got yet */
	FirnJournalSink *sink; /* NULL: all stays in `out` */
	void *data;            /* the sink's */
	uint64_t seed;
	uint64_t n_records;
	uint64_t last_seq;
	GError *error; /* once it is set, nothing more is done */
} Writer;

static void
flush(Writer *writer)
{
	FirnSpan bytes = { writer->out->data, writer->out->len };

	if (writer->error == NULL && writer->sink(writer->data, bytes, &writer->error))
		g_byte_array_set_size(writer->out, 0);
}

/* A record that a reader took may be above the limit here: it has its array's path now. */
static void
fail(Writer *writer, const FirnRecord *record, const char *path)
{
	if (writer->sink == NULL && writer->out->len > FIRN_JOURNAL_MAX_ARRAY / 2)
		g_set_error(&writer->error, FIRN_ERROR, FIRN_ERROR_LIMIT, TOO_MUCH);
	else
		g_set_error(&writer->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%s: %s does not fit into a journal record of %u bytes: store what "
			    "is so large as a chunk object, or remove it",
			    path, record->kind == FIRN_RECORD_CHUNK ? "a chunk" : "what is there",
			    FIRN_JOURNAL_MAX_RECORD);
}

static void
add(Writer *writer, const FirnRecord *record, const char *path)
{
	if (writer->error != NULL)
		return;
	/* Sealed with less, it could not be read. */
	g_assert(record->seq <= writer->last_seq);
	if (!firn_journal_record_encode(record, writer->seed, writer->out)) {
		fail(writer, record, path);
		return;
	}
	writer->n_records++;
	if (writer->sink != NULL && writer->out->len >= PIECE)
		flush(writer);
}

static FirnSpan
span_of(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

/*
 * The number of a document.  Chunks with a lower one were written before its
 * geometry; but what is recorded is the last change.  If chunks were written
 * between the two, it gets the number of the geometry, as far as no fork was
 * made in between, which would seem to have known the document.
 */
static uint64_t
document_seq(const FirnChanges *changes, const FirnNodeChange *node)
{
	uint64_t least = MAX(node->geometry_seq, changes->fork_seq + 1);
	FirnChunkChange *change;
	FirnChunkIter iter;

	/* Of what was made here no chunk is older. */
	if (node->created || node->geometry_seq == 0 || least >= node->seq)
		return node->seq;
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, NULL, &change))
		if (change->seq >= least && change->seq < node->seq)
			return least;
	return node->seq;
}

static void
add_node(Writer *writer, const FirnChanges *changes, const FirnNodeChange *node)
{
	/* Made here is what these records made: what parents made is there already. */
	FirnRecord record = { .kind = node->kind == FIRN_CHANGE_PUT ? FIRN_RECORD_NODE_PUT
								    : FIRN_RECORD_NODE_DELETE,
			      .seq = node->seq,
			      .created = node->created_seq != 0,
			      .created_seq = node->created_seq,
			      .id = node->id,
			      .path = span_of(node->path) };
	const uint32_t *keep = node->own_keep != NULL ? node->own_keep : node->keep;

	if (node->kind == FIRN_CHANGE_PUT) {
		record.seq = document_seq(changes, node);
		record.document.data = g_bytes_get_data(node->meta->raw, &record.document.len);
		if (keep != NULL && !record.created) {
			record.has_keep = true;
			record.rank =
				node->own_keep != NULL ? node->own_keep_rank : node->keep_rank;
			memcpy(record.numbers, keep, record.rank * sizeof *keep);
		}
	}
	add(writer, &record, node->path);
}

static void
add_chunks(Writer *writer, const FirnNodeChange *node)
{
	uint32_t rank = firn_chunk_map_rank(node->chunks);
	FirnRecord record = { .kind = FIRN_RECORD_CHUNK, .id = node->id, .rank = rank };
	const uint32_t *coords;
	FirnChunkChange *change;
	FirnChunkIter iter;

	record.has_path = node->kind == FIRN_CHANGE_CHUNKS || node->seq == 0;
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (writer->error == NULL && firn_chunk_iter_next(&iter, &coords, &change)) {
		if (change->seq == 0)
			continue;
		record.seq = change->seq;
		record.path = record.has_path ? span_of(node->path) : (FirnSpan){ NULL, 0 };
		memcpy(record.numbers, coords, rank * sizeof *coords);
		firn_chunk_change_get(change, &record.ref);
		add(writer, &record, node->path);
		record.has_path = false;
	}
}

static gint
compare_pending(gconstpointer a, gconstpointer b)
{
	const FirnPending *const *x = a, *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

static void
add_pending(Writer *writer, const FirnChanges *changes)
{
	g_autoptr(GPtrArray) sorted = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(sorted, value);
	g_hash_table_iter_init(&iter, changes->dropped);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(sorted, value);
	g_ptr_array_sort(sorted, compare_pending);
	for (guint i = 0; i < sorted->len; i++) {
		const FirnPending *pending = sorted->pdata[i];
		FirnRecord record = { .kind = FIRN_RECORD_PENDING,
				      .seq = pending->seq,
				      .path = span_of(pending->path) };

		if (pending->seq == 0)
			continue;
		firn_chunk_change_get(&pending->content, &record.ref);
		add(writer, &record, pending->path);
	}
}

/* Deletes first, by id; then documents by path: parents before their children; then chunks by id. */
static void
encode(Writer *writer, const FirnJournalHeader *header, const FirnChanges *changes,
       uint64_t last_seq)
{
	g_autoptr(GPtrArray) by_id = firn_changes_sorted_by_id(changes);
	g_autoptr(GPtrArray) by_path = firn_changes_sorted_by_path(changes);
	FirnRecord seal = { .kind = FIRN_RECORD_SEAL, .seq = last_seq };

	writer->seed = firn_journal_record_seed(&header->session);
	writer->last_seq = last_seq;
	firn_journal_record_add_header(header, FIRN_JOURNAL_NET, writer->out);
	for (guint i = 0; i < by_id->len; i++) {
		const FirnNodeChange *node = by_id->pdata[i];

		if (node->kind == FIRN_CHANGE_DELETE && node->seq != 0)
			add_node(writer, changes, node);
	}
	for (guint i = 0; i < by_path->len; i++) {
		const FirnNodeChange *node = by_path->pdata[i];

		if (node->kind == FIRN_CHANGE_PUT && node->seq != 0)
			add_node(writer, changes, node);
	}
	for (guint i = 0; i < by_id->len; i++) {
		const FirnNodeChange *node = by_id->pdata[i];

		if (node->chunks != NULL)
			add_chunks(writer, node);
	}
	add_pending(writer, changes);
	seal.number = writer->n_records;
	add(writer, &seal, "/");
	if (writer->sink != NULL)
		flush(writer);
}

void
firn_journal_encode(const FirnJournalHeader *header, const FirnChanges *changes, uint64_t last_seq,
		    GByteArray *out)
{
	Writer writer = { .out = out };

	encode(&writer, header, changes, last_seq);
	g_assert_no_error(writer.error);
}

bool
firn_journal_encode_to(const FirnJournalHeader *header, const FirnChanges *changes,
		       uint64_t last_seq, FirnJournalSink *sink, void *data, GError **error)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	Writer writer = { .out = out, .sink = sink, .data = data };

	encode(&writer, header, changes, last_seq);
	if (writer.error == NULL)
		return true;
	g_propagate_error(error, writer.error);
	return false;
}

/* ---- in memory ---- */

static bool
image_take(void *data, FirnSpan bytes, GError **error)
{
	FirnJournalImage *image = data;

	if (image->size - image->len < bytes.len) {
		size_t size = MAX(image->len + bytes.len, image->size + image->size / 2);
		uint8_t *bigger = g_try_realloc(image->data, size);

		if (bigger == NULL) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, TOO_MUCH);
			return false;
		}
		image->data = bigger;
		image->size = size;
	}
	memcpy(image->data + image->len, bytes.data, bytes.len);
	image->len += bytes.len;
	return true;
}

bool
firn_journal_image_add(FirnJournalImage *image, const FirnJournalHeader *header,
		       const FirnChanges *changes, uint64_t last_seq, GError **error)
{
	return firn_journal_encode_to(header, changes, last_seq, image_take, image, error);
}

GBytes *
firn_journal_image_end(FirnJournalImage *image)
{
	GBytes *bytes = g_bytes_new_take(image->data, image->len);

	*image = (FirnJournalImage){ NULL, 0, 0 };
	return bytes;
}

void
firn_journal_image_clear(FirnJournalImage *image)
{
	g_free(image->data);
	*image = (FirnJournalImage){ NULL, 0, 0 };
}
