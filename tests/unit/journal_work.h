#ifndef FIRN_TESTS_UNIT_JOURNAL_WORK_H
#define FIRN_TESTS_UNIT_JOURNAL_WORK_H

#include "core/repo/journal.h"
#include "tests/unit/harness.h"

#include <glib/gstdio.h>
#include <string.h>

/* A session's work as tests of the journal need it, and change sets as text. */

/* ---- a change set as text ---- */

static inline void
print_numbers(GString *out, const char *what, const uint32_t *numbers, uint32_t rank)
{
	g_string_append_printf(out, " %s", what);
	for (uint32_t i = 0; i < rank; i++)
		g_string_append_printf(out, "/%u", numbers[i]);
}

static inline void
print_change(GString *out, const FirnChunkChange *change)
{
	char id[FIRN_ID12_TEXT + 1];
	FirnRef ref;

	firn_chunk_change_get(change, &ref);
	firn_id12_format(&ref.id, id);
	g_string_append_printf(out, " seq %lu kind %d %lu+%lu %s %.*s [%.*s] [%.*s] %u\n",
			       (uint64_t)change->seq, (int)ref.kind, ref.offset, ref.length, id,
			       (int)ref.bytes.len, (const char *)ref.bytes.data,
			       (int)ref.location.len, (const char *)ref.location.data,
			       (int)ref.etag.len, (const char *)ref.etag.data, ref.last_modified);
}

static inline void
print_node(GString *out, const FirnNodeChange *node)
{
	char id[FIRN_ID8_TEXT + 1];
	const uint32_t *coords;
	FirnChunkChange *change;
	FirnChunkIter iter;

	firn_id8_format(&node->id, id);
	g_string_append_printf(out, "%s %s kind %d created %d seq %lu created_seq %lu", id,
			       node->path, (int)node->kind, node->created, node->seq,
			       node->created_seq);
	if (node->meta != NULL)
		g_string_append_printf(out, " %.*s", (int)g_bytes_get_size(node->meta->raw),
				       (const char *)g_bytes_get_data(node->meta->raw, NULL));
	if (node->keep != NULL)
		print_numbers(out, "keep", node->keep, node->keep_rank);
	g_string_append_c(out, '\n');
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		print_numbers(out, "  c", coords, firn_chunk_map_rank(node->chunks));
		print_change(out, change);
	}
}

static inline gint
compare_strings(gconstpointer a, gconstpointer b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static inline char *
describe(const FirnChanges *changes)
{
	GString *out = g_string_new(NULL);
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(changes);
	g_autoptr(GPtrArray) paths = g_ptr_array_new();
	GHashTableIter iter;
	gpointer key;

	for (guint i = 0; i < nodes->len; i++)
		print_node(out, nodes->pdata[i]);
	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, &key, NULL))
		g_ptr_array_add(paths, key);
	g_ptr_array_sort(paths, compare_strings);
	for (guint i = 0; i < paths->len; i++) {
		const FirnPending *pending = g_hash_table_lookup(changes->pending, paths->pdata[i]);

		g_string_append_printf(out, "pending %s", pending->path);
		print_change(out, &pending->content);
	}
	return g_string_free(out, FALSE);
}

/* ---- a session's work, done to a journal and to a change set ---- */

typedef struct {
	char *directory;
	char *path;
	FirnJournalHeader *header;
	FirnJournal *journal;
	FirnChanges *changes;
	GPtrArray *texts; /* texts[seq]: the change set after record seq */
} Work;

static inline FirnId8
node_id(uint8_t n)
{
	return (FirnId8){ { n, 0, 0, 0, 0, 0, 0, 9 } };
}

static inline FirnId12
id12(uint8_t n)
{
	return (FirnId12){ { n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n } };
}

static inline FirnJournalHeader *
make_header(uint8_t session)
{
	FirnJournalHeader *header = g_new0(FirnJournalHeader, 1);
	FirnAncestor ancestor = { .session = id12(77), .seq = 300 };

	header->repository = g_strdup("file:///data/r\xc3\xa9po");
	header->identity = 1700000000123456;
	header->spec_version = 2;
	header->branch = g_strdup("main");
	header->base = firn_id_initial_snapshot;
	header->session = id12(session);
	header->ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	g_array_append_val(header->ancestors, ancestor);
	header->fork = g_strdup("1CECHNKREP0F1RSTCMT0");
	header->created_us = 1700000000999999;
	return header;
}

static inline FirnMeta *
meta_of(const char *shape)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) raw = NULL;
	char *text;
	FirnMeta *meta;

	if (shape == NULL)
		text = g_strdup(
			"{\"zarr_format\": 3, \"node_type\": \"group\", \"attributes\": {\"a\": 1}}\n");
	else
		text = g_strdup_printf(
			"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[%s],\"data_type\":\"int8\","
			"\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[%s]}},"
			"\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":"
			"\"/\"}},\"fill_value\":0,\"codecs\":[{\"name\":\"bytes\"}]}",
			shape,
			strchr(shape, ',') != NULL ? "1,1"
			: shape[0] != '\0'         ? "1"
						   : "");
	raw = g_bytes_new_take(text, strlen(text));
	meta = firn_meta_parse(raw, &error);
	ck_assert_no_error(error);
	return meta;
}

static inline void
work_note(Work *work, uint64_t seq, GError *error)
{
	ck_assert_no_error(error);
	ck_assert_uint_eq(seq, work->texts->len);
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), seq);
	g_ptr_array_add(work->texts, describe(work->changes));
}

static inline void
work_put(Work *work, uint8_t id, const char *path, const char *shape, bool created)
{
	g_autoptr(FirnMeta) meta = meta_of(shape);
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	uint64_t seq = 0;

	ck_assert(firn_journal_put_node(work->journal, &node, path, meta, created, &seq, &error));
	(void)firn_changes_put_node(work->changes, &node, path, meta, created, seq);
	work_note(work, seq, error);
}

static inline void
work_delete(Work *work, uint8_t id, const char *path, bool created)
{
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	uint64_t seq = 0;

	ck_assert(firn_journal_delete_node(work->journal, &node, path, created, &seq, &error));
	(void)firn_changes_delete_node(work->changes, &node, path, created, seq);
	work_note(work, seq, error);
}

static inline void
work_move(Work *work, uint8_t id, const char *to)
{
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	uint64_t seq = 0;

	ck_assert(firn_journal_move_node(work->journal, &node, to, &seq, &error));
	firn_changes_move_node(work->changes, &node, to, seq);
	work_note(work, seq, error);
}

static inline FirnRef
ref_of(FirnRefKind kind)
{
	static const char location[] = "s3://bucket/k\xc3\xa9y", etag[] = "\"etag\"";
	FirnRef ref = { .kind = kind };

	if (kind == FIRN_REF_INLINE) {
		ref.bytes = (FirnSpan){ (const uint8_t *)"inline bytes", 12 };
		ref.length = 12;
	} else if (kind == FIRN_REF_NATIVE) {
		ref.id = id12(200);
		ref.offset = 70000;
		ref.length = UINT64_C(5000000000);
	} else if (kind == FIRN_REF_VIRTUAL) {
		ref.location = (FirnSpan){ (const uint8_t *)location, strlen(location) };
		ref.etag = (FirnSpan){ (const uint8_t *)etag, strlen(etag) };
		ref.offset = 1;
		ref.length = 2;
		ref.last_modified = UINT32_MAX;
	}
	return ref;
}

static inline void
work_chunk(Work *work, uint8_t id, const char *path, uint32_t rank, uint32_t at, FirnRefKind kind)
{
	const uint32_t coords[2] = { at, at * 1000 };
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	FirnRef ref = ref_of(kind);
	uint64_t seq = 0;

	ck_assert(firn_journal_put_chunk(work->journal, &node, path, rank, coords, &ref, &seq,
					 &error));
	(void)firn_changes_put_chunk(work->changes, &node, path, rank, coords, &ref, seq);
	work_note(work, seq, error);
}

static inline void
work_pending(Work *work, const char *path, FirnRefKind kind)
{
	g_autoptr(GError) error = NULL;
	FirnRef ref = ref_of(kind);
	uint64_t seq = 0;

	ck_assert(firn_journal_put_pending(work->journal, path, &ref, &seq, &error));
	firn_changes_put_pending(work->changes, path, &ref, seq);
	work_note(work, seq, error);
}

static inline Work *
work_new(void)
{
	Work *work = g_new0(Work, 1);
	g_autoptr(GError) error = NULL;

	work->directory = g_dir_make_tmp("firn-journal-XXXXXX", NULL);
	work->path = g_build_filename(work->directory, "journal", NULL);
	work->header = make_header(1);
	work->changes = firn_changes_new();
	work->texts = g_ptr_array_new_with_free_func(g_free);
	work->journal = firn_journal_create(work->path, work->header, &error);
	ck_assert_no_error(error);
	g_ptr_array_add(work->texts, describe(work->changes));
	return work;
}

static inline void
work_free(Work *work)
{
	firn_journal_close(work->journal);
	firn_changes_free(work->changes);
	firn_journal_header_free(work->header);
	g_ptr_array_unref(work->texts);
	g_unlink(work->path);
	ck_assert_int_eq(g_rmdir(work->directory), 0);
	g_free(work->directory);
	g_free(work->path);
	g_free(work);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Work, work_free)

/* Everything a session can do. */
static inline void
work_all(Work *work)
{
	const FirnId12 snapshot = id12(99);
	g_autoptr(GError) error = NULL;

	work_put(work, 1, "/", NULL, false);
	work_put(work, 2, "/new", "9,9000", true);
	work_chunk(work, 2, "/new", 2, 3, FIRN_REF_NATIVE);
	work_chunk(work, 2, "/new", 2, 1, FIRN_REF_INLINE);
	work_chunk(work, 2, "/new", 2, 8, FIRN_REF_VIRTUAL);
	work_chunk(work, 3, "/base/array", 1, 300, FIRN_REF_NATIVE);
	work_chunk(work, 3, "/base/array", 1, 4, FIRN_REF_NONE);
	work_put(work, 3, "/base/array", "200", false);
	ck_assert(firn_journal_intent(work->journal, 7, &snapshot, &error));
	work_put(work, 3, "/base/array", "400", false);
	work_pending(work, "/later/c/0", FIRN_REF_INLINE);
	work_pending(work, "/later/c/1", FIRN_REF_NATIVE);
	work_pending(work, "/later/c/0", FIRN_REF_NONE);
	work_move(work, 2, "/moved");
	work_put(work, 4, "/new", "", true);
	work_chunk(work, 4, "/new", 0, 0, FIRN_REF_INLINE);
	work_delete(work, 5, "/gone", false);
	work_put(work, 6, "/gone", NULL, true);
	work_put(work, 7, "/short", "5", true);
	work_chunk(work, 7, "/short", 1, 1, FIRN_REF_INLINE);
	work_delete(work, 7, "/short", true);
	work_put(work, 2, "/moved", "4,9000", true);
	work_chunk(work, 8, "/other", 2, 2, FIRN_REF_INLINE);
}

static inline GBytes *
file_bytes(const char *path)
{
	char *data = NULL;
	gsize len = 0;

	ck_assert_msg(g_file_get_contents(path, &data, &len, NULL), "cannot read %s", path);
	return g_bytes_new_take(data, len);
}

static inline GBytes *
net_bytes(const Work *work)
{
	GByteArray *out = g_byte_array_new();

	firn_journal_encode(work->header, work->changes, firn_journal_last_seq(work->journal), out);
	return g_byte_array_free_to_bytes(out);
}

static inline FirnSection *
decode_one(GBytes *bytes, uint64_t *out_torn, GError **error)
{
	g_autoptr(GPtrArray) sections = firn_journal_decode(bytes, "j", out_torn, error);

	ck_assert(sections == NULL || sections->len == 1);
	return sections != NULL ? g_ptr_array_steal_index(sections, 0) : NULL;
}

#endif
