#include "core/repo/journal_record.h"

#include <string.h>

typedef struct {
	GByteArray *out;
	uint64_t seed;
	uint64_t n_records;
	uint64_t last_seq;
} Writer;

static void
add(Writer *writer, const FirnRecord *record)
{
	/* Whatever is in a change set went through a journal record, or is smaller. */
	bool fits = firn_journal_record_encode(record, writer->seed, writer->out);

	/* Sealed with less, it could not be read. */
	g_assert(fits && record->seq <= writer->last_seq);
	writer->n_records++;
}

static FirnSpan
span_of(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

static void
add_node(Writer *writer, const FirnNodeChange *node)
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
		record.document.data = g_bytes_get_data(node->meta->raw, &record.document.len);
		if (keep != NULL && !record.created) {
			record.has_keep = true;
			record.rank =
				node->own_keep != NULL ? node->own_keep_rank : node->keep_rank;
			memcpy(record.numbers, keep, record.rank * sizeof *keep);
		}
	}
	add(writer, &record);
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
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		if (change->seq == 0)
			continue;
		record.seq = change->seq;
		record.path = record.has_path ? span_of(node->path) : (FirnSpan){ NULL, 0 };
		memcpy(record.numbers, coords, rank * sizeof *coords);
		firn_chunk_change_get(change, &record.ref);
		add(writer, &record);
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
		add(writer, &record);
	}
}

/* Deletes first, by id; then documents by path: parents before their children; then chunks by id. */
void
firn_journal_encode(const FirnJournalHeader *header, const FirnChanges *changes, uint64_t last_seq,
		    GByteArray *out)
{
	g_autoptr(GPtrArray) by_id = firn_changes_sorted_by_id(changes);
	g_autoptr(GPtrArray) by_path = firn_changes_sorted_by_path(changes);
	Writer writer = { .out = out,
			  .seed = firn_journal_record_seed(&header->session),
			  .last_seq = last_seq };
	FirnRecord seal = { .kind = FIRN_RECORD_SEAL, .seq = last_seq };

	firn_journal_record_add_header(header, FIRN_JOURNAL_NET, out);
	for (guint i = 0; i < by_id->len; i++) {
		const FirnNodeChange *node = by_id->pdata[i];

		if (node->kind == FIRN_CHANGE_DELETE && node->seq != 0)
			add_node(&writer, node);
	}
	for (guint i = 0; i < by_path->len; i++) {
		const FirnNodeChange *node = by_path->pdata[i];

		if (node->kind == FIRN_CHANGE_PUT && node->seq != 0)
			add_node(&writer, node);
	}
	for (guint i = 0; i < by_id->len; i++) {
		const FirnNodeChange *node = by_id->pdata[i];

		if (node->chunks != NULL)
			add_chunks(&writer, node);
	}
	add_pending(&writer, changes);
	seal.number = writer.n_records;
	add(&writer, &seal);
}
