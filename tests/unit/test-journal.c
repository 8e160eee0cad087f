#include "core/base/error.h"
#include "core/repo/journal_record.h"
#include "tests/unit/harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN_LOG "tests/golden/journal/v1-log.journal"
#define GOLDEN_NET "tests/golden/journal/v1-net.journal"

/* ---- a change set as text ---- */

static void
print_numbers(GString *out, const char *what, const uint32_t *numbers, uint32_t rank)
{
	g_string_append_printf(out, " %s", what);
	for (uint32_t i = 0; i < rank; i++)
		g_string_append_printf(out, "/%u", numbers[i]);
}

static void
print_change(GString *out, const FirnChunkChange *change)
{
	char id[FIRN_ID12_TEXT + 1];
	FirnRef ref;

	firn_chunk_change_get(change, &ref);
	firn_id12_format(&ref.id, id);
	g_string_append_printf(out, " seq %lu kind %d %lu+%lu %s %.*s [%.*s] [%.*s] %u\n",
			       change->seq, (int)ref.kind, ref.offset, ref.length, id,
			       (int)ref.bytes.len, (const char *)ref.bytes.data,
			       (int)ref.location.len, (const char *)ref.location.data,
			       (int)ref.etag.len, (const char *)ref.etag.data, ref.last_modified);
}

static void
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

static gint
compare_strings(gconstpointer a, gconstpointer b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static char *
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

static FirnId8
node_id(uint8_t n)
{
	return (FirnId8){ { n, 0, 0, 0, 0, 0, 0, 9 } };
}

static FirnId12
id12(uint8_t n)
{
	return (FirnId12){ { n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n } };
}

static FirnJournalHeader *
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

static FirnMeta *
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

static void
work_note(Work *work, uint64_t seq, GError *error)
{
	ck_assert_no_error(error);
	ck_assert_uint_eq(seq, work->texts->len);
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), seq);
	g_ptr_array_add(work->texts, describe(work->changes));
}

static void
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

static void
work_delete(Work *work, uint8_t id, const char *path, bool created)
{
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	uint64_t seq = 0;

	ck_assert(firn_journal_delete_node(work->journal, &node, path, created, &seq, &error));
	(void)firn_changes_delete_node(work->changes, &node, path, created, seq);
	work_note(work, seq, error);
}

static void
work_move(Work *work, uint8_t id, const char *to)
{
	g_autoptr(GError) error = NULL;
	FirnId8 node = node_id(id);
	uint64_t seq = 0;

	ck_assert(firn_journal_move_node(work->journal, &node, to, &seq, &error));
	firn_changes_move_node(work->changes, &node, to, seq);
	work_note(work, seq, error);
}

static FirnRef
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

static void
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

static void
work_pending(Work *work, const char *path, FirnRefKind kind)
{
	g_autoptr(GError) error = NULL;
	FirnRef ref = ref_of(kind);
	uint64_t seq = 0;

	ck_assert(firn_journal_put_pending(work->journal, path, &ref, &seq, &error));
	firn_changes_put_pending(work->changes, path, &ref, seq);
	work_note(work, seq, error);
}

static Work *
work_new(void)
{
	Work *work = g_new0(Work, 1);
	g_autoptr(GError) error = NULL;

	work->directory = g_dir_make_tmp("firn-journal-XXXXXX", NULL);
	work->path = g_build_filename(work->directory, "journal", NULL);
	work->header = make_header(1);
	work->changes = firn_changes_new();
	work->texts = g_ptr_array_new_with_free_func(g_free);
	work->journal = firn_journal_create(work->path, work->header, false, &error);
	ck_assert_no_error(error);
	g_ptr_array_add(work->texts, describe(work->changes));
	return work;
}

static void
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
static void
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

static GBytes *
file_bytes(const char *path)
{
	char *data = NULL;
	gsize len = 0;

	ck_assert_msg(g_file_get_contents(path, &data, &len, NULL), "cannot read %s", path);
	return g_bytes_new_take(data, len);
}

static GBytes *
net_bytes(const Work *work)
{
	GByteArray *out = g_byte_array_new();

	firn_journal_encode(work->header, work->changes, firn_journal_last_seq(work->journal), out);
	return g_byte_array_free_to_bytes(out);
}

static FirnSection *
decode_one(GBytes *bytes, uint64_t *out_torn, GError **error)
{
	g_autoptr(GPtrArray) sections = firn_journal_decode(bytes, "j", out_torn, error);

	ck_assert(sections == NULL || sections->len == 1);
	return sections != NULL ? g_ptr_array_steal_index(sections, 0) : NULL;
}

static void
check_header(const FirnJournalHeader *a, const FirnJournalHeader *b)
{
	ck_assert_str_eq(a->repository, b->repository);
	ck_assert_str_eq(a->branch, b->branch);
	ck_assert_str_eq(a->fork, b->fork);
	ck_assert_uint_eq(a->identity, b->identity);
	ck_assert_uint_eq(a->spec_version, b->spec_version);
	ck_assert_uint_eq(a->created_us, b->created_us);
	ck_assert(firn_id12_equal(&a->base, &b->base));
	ck_assert(firn_id12_equal(&a->session, &b->session));
	ck_assert_uint_eq(a->ancestors->len, b->ancestors->len);
	ck_assert_uint_eq(g_array_index(a->ancestors, FirnAncestor, 0).seq, 300);
}

START_TEST(journal__all_kinds_of_records__log_and_net_read_the_same)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) log = NULL;
	g_autoptr(FirnSection) net = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GBytes) again = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autofree char *log_text = NULL;
	g_autofree char *net_text = NULL;
	const char *wanted;
	GByteArray *out = g_byte_array_new();
	uint64_t torn = 9;

	work_all(work);
	wanted = work->texts->pdata[work->texts->len - 1];
	sections = firn_journal_read(work->path, &torn, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(torn, 0);
	log = g_ptr_array_steal_index(sections, 0);
	check_header(log->header, work->header);
	ck_assert(!log->sealed);
	ck_assert_uint_eq(log->last_seq, work->texts->len - 1);
	ck_assert_uint_eq(log->intent_seq, 7);
	ck_assert_uint_eq(log->intent.bytes[0], 99);
	log_text = describe(log->changes);
	ck_assert_str_eq(log_text, wanted);

	bytes = net_bytes(work);
	net = decode_one(bytes, &torn, &error);
	ck_assert_no_error(error);
	check_header(net->header, work->header);
	ck_assert(net->sealed);
	ck_assert_uint_eq(net->last_seq, log->last_seq);
	net_text = describe(net->changes);
	ck_assert_str_eq(net_text, wanted);

	firn_journal_encode(net->header, net->changes, net->last_seq, out);
	again = g_byte_array_free_to_bytes(out);
	ck_assert(g_bytes_equal(again, bytes));
}
END_TEST

START_TEST(decode__log_cut_at_every_byte__recovers_a_prefix)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	uint64_t n_prefixes = 0, last = 0;

	work_all(work);
	all = file_bytes(work->path);
	for (size_t len = 0; len < g_bytes_get_size(all); len++) {
		g_autoptr(GBytes) part = g_bytes_new_from_bytes(all, 0, len);
		g_autoptr(GError) error = NULL;
		uint64_t torn = 0;
		g_autoptr(FirnSection) section = decode_one(part, &torn, &error);
		g_autofree char *text = NULL;

		ck_assert((section == NULL) == (error != NULL));
		if (section == NULL) {
			ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
			ck_assert_uint_eq(n_prefixes, 0);
			continue;
		}
		text = describe(section->changes);
		ck_assert_uint_lt(section->last_seq, work->texts->len);
		ck_assert_str_eq(text, work->texts->pdata[section->last_seq]);
		ck_assert(section->last_seq == last || section->last_seq == last + 1);
		last = section->last_seq;
		n_prefixes++;
	}
	ck_assert_uint_eq(last, work->texts->len - 2);
	ck_assert_uint_gt(n_prefixes, 0);
}
END_TEST

START_TEST(decode__log_byte_flipped__error_or_prefix)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autofree uint8_t *data = NULL;
	size_t len, last_from;

	work_all(work);
	all = file_bytes(work->path);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	last_from = len - 60;
	for (size_t i = 0; i < len * 3; i++) {
		static const uint8_t masks[] = { 0x01, 0x80, 0xff };
		g_autoptr(GError) error = NULL;
		g_autoptr(GBytes) bytes = NULL;
		g_autoptr(FirnSection) section = NULL;
		g_autofree char *text = NULL;

		data[i / 3] ^= masks[i % 3];
		bytes = g_bytes_new(data, len);
		data[i / 3] ^= masks[i % 3];
		section = decode_one(bytes, NULL, &error);
		ck_assert((section == NULL) == (error != NULL));
		if (section == NULL)
			continue;
		/* Only the last record can be taken for a torn one. */
		ck_assert_uint_gt(i / 3, last_from);
		text = describe(section->changes);
		ck_assert_str_eq(text, work->texts->pdata[section->last_seq]);
	}
}
END_TEST

START_TEST(decode__sealed_cut_or_flipped__error_or_not_sealed)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autofree uint8_t *data = NULL;
	size_t len;

	work_all(work);
	all = net_bytes(work);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	for (size_t i = 0; i < len; i++) {
		g_autoptr(GBytes) cut = g_bytes_new_from_bytes(all, 0, i);
		g_autoptr(GError) error = NULL;
		g_autoptr(GBytes) flipped = NULL;
		g_autoptr(FirnSection) section = decode_one(cut, NULL, &error);
		g_autoptr(FirnSection) other = NULL;
		g_autofree char *text = NULL;

		ck_assert((section == NULL) == (error != NULL));
		ck_assert(section == NULL || !section->sealed);
		g_clear_error(&error);
		data[i] ^= 0x10;
		flipped = g_bytes_new(data, len);
		data[i] ^= 0x10;
		other = decode_one(flipped, NULL, &error);
		ck_assert((other == NULL) == (error != NULL));
		if (other == NULL)
			continue;
		ck_assert(!other->sealed);
		text = describe(other->changes);
		ck_assert_str_eq(text, work->texts->pdata[work->texts->len - 1]);
	}
}
END_TEST

START_TEST(decode__damage_before_the_tail__names_journal_and_offset)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) all = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree uint8_t *data = NULL;
	g_autofree char *wanted = NULL;
	size_t len, from;

	all = file_bytes(work->path);
	from = g_bytes_get_size(all);
	g_clear_pointer(&all, g_bytes_unref);
	work_all(work);
	all = file_bytes(work->path);
	len = g_bytes_get_size(all);
	data = g_memdup2(g_bytes_get_data(all, NULL), len);
	data[from + 20] ^= 1;
	bytes = g_bytes_new(data, len);
	ck_assert_ptr_null(firn_journal_decode(bytes, "w7.journal", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	wanted = g_strdup_printf("journal w7.journal: record at offset %zu: ", from);
	ck_assert_msg(strstr(error->message, wanted) != NULL, "%s", error->message);
}
END_TEST

START_TEST(decode__two_sections__both_and_only_after_a_seal)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(FirnJournalHeader) other = make_header(2);
	g_autoptr(FirnChanges) nothing = firn_changes_new();
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GBytes) bad = NULL;
	g_autoptr(GBytes) log = NULL;
	g_autofree char *copy = NULL;
	GByteArray *out = g_byte_array_new();
	gsize len;

	work_all(work);
	firn_journal_encode(work->header, work->changes, firn_journal_last_seq(work->journal), out);
	firn_journal_encode(other, nothing, 0, out);
	bytes = g_byte_array_free_to_bytes(out);
	sections = firn_journal_decode(bytes, "j", NULL, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(sections->len, 2);
	ck_assert_uint_eq(((FirnSection *)sections->pdata[1])->header->session.bytes[0], 2);
	ck_assert(((FirnSection *)sections->pdata[1])->sealed);

	/* The same through a file. */
	copy = g_build_filename(work->directory, "copy", NULL);
	ck_assert(firn_journal_write(copy, sections, &error));
	log = file_bytes(copy);
	ck_assert(g_bytes_equal(log, bytes));
	g_unlink(copy);
	g_clear_pointer(&log, g_bytes_unref);

	log = file_bytes(work->path);
	out = g_byte_array_new();
	g_byte_array_append(out, g_bytes_get_data(log, &len), (guint)g_bytes_get_size(log));
	firn_journal_encode(other, nothing, 0, out);
	bad = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bad, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
}
END_TEST

START_TEST(encode__inherited_entries__left_out)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) parent = firn_changes_new();
	g_autoptr(FirnChanges) overlay = firn_changes_new();
	g_autoptr(FirnMeta) eight = meta_of("8");
	g_autoptr(FirnMeta) four = meta_of("4");
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) section = NULL;
	g_autoptr(GBytes) bytes = NULL;
	FirnId8 a = node_id(1), b = node_id(2), c = node_id(3);
	FirnRef ref = ref_of(FIRN_REF_INLINE);
	GByteArray *out = g_byte_array_new();
	const FirnNodeChange *node;
	const uint32_t at = 1;

	(void)firn_changes_put_node(parent, &a, "/a", eight, true, 1);
	(void)firn_changes_put_chunk(parent, &a, "/a", 1, &at, &ref, 2);
	(void)firn_changes_put_node(parent, &b, "/b", eight, true, 3);
	(void)firn_changes_delete_node(parent, &c, "/c", false, 4);
	ck_assert(firn_changes_apply(overlay, parent, true));
	(void)firn_changes_put_node(overlay, &a, "/a", four, true, 1);
	(void)firn_changes_put_node(overlay, &a, "/a", eight, true, 2);
	(void)firn_changes_put_chunk(overlay, &b, "/b", 1, &at, &ref, 3);
	firn_journal_encode(header, overlay, 3, out);
	bytes = g_byte_array_free_to_bytes(out);
	section = decode_one(bytes, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(g_hash_table_size(section->changes->by_id), 2);
	node = firn_changes_find(section->changes, &a);
	ck_assert(!node->created && node->keep != NULL);
	ck_assert_uint_eq(node->keep[0], 4);
	ck_assert_ptr_null(node->chunks);
	node = firn_changes_find(section->changes, &b);
	ck_assert_int_eq(node->kind, FIRN_CHANGE_CHUNKS);
	ck_assert_str_eq(node->path, "/b");
}
END_TEST

/* ---- the live journal ---- */

START_TEST(resume__torn_tail__cut_and_continued)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) section = NULL;
	g_autoptr(FirnSection) whole = NULL;
	g_autoptr(GBytes) all = NULL;
	g_autofree char *text = NULL;
	uint64_t torn = 0;

	work_all(work);
	firn_journal_close(g_steal_pointer(&work->journal));
	all = file_bytes(work->path);
	ck_assert_int_eq(truncate(work->path, (off_t)g_bytes_get_size(all) - 5), 0);
	work->journal = firn_journal_resume(work->path, &section, &torn, &error);
	ck_assert_no_error(error);
	ck_assert_uint_gt(torn, 0);
	ck_assert_uint_eq(section->last_seq, work->texts->len - 2);
	g_ptr_array_set_size(work->texts, (gint)section->last_seq + 1);
	firn_changes_free(work->changes);
	work->changes = g_steal_pointer(&section->changes);
	/* What was named needs no path, and what was made can be moved. */
	work_chunk(work, 3, "/base/array", 1, 100, FIRN_REF_NATIVE);
	work_move(work, 2, "/again");
	work_chunk(work, 8, "/other", 2, 2, FIRN_REF_INLINE);
	ck_assert(firn_journal_sync(work->journal, &error));
	g_clear_pointer(&all, g_bytes_unref);
	all = file_bytes(work->path);
	whole = decode_one(all, NULL, &error);
	ck_assert_no_error(error);
	text = describe(whole->changes);
	ck_assert_str_eq(text, work->texts->pdata[work->texts->len - 1]);
}
END_TEST

START_TEST(resume__sealed_or_missing__refused)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	FirnSection *section = NULL;

	work_all(work);
	sections = firn_journal_read(work->path, NULL, &error);
	ck_assert(firn_journal_write(work->path, sections, &error));
	ck_assert_ptr_null(firn_journal_resume(work->path, &section, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_journal_resume("/nonexistent/journal", &section, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(create__exists__refused_unless_replaced)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sections = NULL;

	work_all(work);
	ck_assert_ptr_null(firn_journal_create(work->path, work->header, false, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	g_clear_error(&error);
	firn_journal_close(work->journal);
	work->journal = firn_journal_create(work->path, work->header, true, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), 0);
	sections = firn_journal_read(work->path, NULL, &error);
	ck_assert_no_error(error);
	ck_assert(firn_changes_is_empty(((FirnSection *)sections->pdata[0])->changes));
}
END_TEST

START_TEST(append__file_cannot_grow__nothing_appended_and_usable_after)
{
	g_autoptr(Work) work = work_new();
	struct rlimit old, limit;
	struct stat before, after;
	g_autoptr(GError) error = NULL;
	const uint32_t at = 1;
	FirnId8 id = node_id(1);
	g_autofree uint8_t *big = g_malloc0(1 << 20);
	FirnRef ref = { .kind = FIRN_REF_INLINE, .length = 1 << 20, .bytes = { big, 1 << 20 } };
	uint64_t seq = 42;

	work_all(work);
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(stat(work->path, &before), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)before.st_size + 1000;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert(!firn_journal_put_chunk(work->journal, &id, "/x", 1, &at, &ref, &seq, &error));
	ck_assert_ptr_nonnull(error);
	ck_assert_uint_eq(seq, 42);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	ck_assert_int_eq(stat(work->path, &after), 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	work_chunk(work, 9, "/nine", 1, 1, FIRN_REF_INLINE);
	work_chunk(work, 9, "/nine", 1, 2, FIRN_REF_INLINE);
}
END_TEST

START_TEST(move_node__not_made_here__refused)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	FirnId8 id = node_id(1);
	uint64_t seq = 0;

	work_put(work, 1, "/base", NULL, false);
	ck_assert(!firn_journal_move_node(work->journal, &id, "/x", &seq, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(append__native_chunk__is_compact)
{
	g_autoptr(Work) work = work_new();
	struct stat before, after;

	work_put(work, 1, "/a", "9,9000", true);
	ck_assert_int_eq(stat(work->path, &before), 0);
	work_chunk(work, 1, "/a", 2, 3, FIRN_REF_NATIVE);
	ck_assert_int_eq(stat(work->path, &after), 0);
	ck_assert_int_le(after.st_size - before.st_size, 60);
}
END_TEST

/* ---- contents no writer writes ---- */

static const FirnSpan group = { (const uint8_t *)"{\"zarr_format\":3,\"node_type\":\"group\"}",
				37 };

static void
good_put(FirnRecord *record, uint64_t seq)
{
	*record = (FirnRecord){ .kind = FIRN_RECORD_NODE_PUT,
				.seq = seq,
				.id = node_id(1),
				.path = { (const uint8_t *)"/g", 2 },
				.document = group };
}

/* Change one of two good records so that they may not be. */
static void
spoil(int which, FirnRecord *first, FirnRecord *second)
{
	static const char *const paths[] = { "g", "//", "/g/", "/../x", "/g/\xff", "/." };

	if (which < 6) {
		second->path = (FirnSpan){ (const uint8_t *)paths[which], strlen(paths[which]) };
	} else if (which == 6) {
		second->seq = 3;
	} else if (which == 7) {
		second->id = node_id(2); /* two at one path */
	} else if (which == 8) {
		second->document.len--;
	} else if (which == 9) {
		second->kind = FIRN_RECORD_CHUNK; /* a chunk of a group */
		second->ref.kind = FIRN_REF_NATIVE;
	} else if (which == 10) {
		second->kind = FIRN_RECORD_CHUNK; /* of a node without a name */
		second->id = node_id(3);
	} else if (which == 11) {
		second->kind = FIRN_RECORD_NODE_MOVE;
	} else if (which == 12) {
		second->kind = (FirnRecordKind)9;
	} else if (which == 13) {
		second->kind = FIRN_RECORD_SEAL;
		second->seq = 1;
		second->number = 2;
	} else if (which == 14) {
		first->kind = FIRN_RECORD_NODE_DELETE; /* a chunk of a deleted node */
		second->kind = FIRN_RECORD_CHUNK;
	} else if (which == 15) {
		first->kind = second->kind = FIRN_RECORD_CHUNK; /* two ranks */
		first->has_path = true;
		second->rank = 2;
	} else if (which == 16) {
		second->kind = FIRN_RECORD_PENDING;
		second->path = (FirnSpan){ (const uint8_t *)"/", 1 };
	} else if (which == 17) {
		second->kind = FIRN_RECORD_CHUNK;
		second->ref =
			(FirnRef){ .kind = FIRN_REF_NATIVE, .offset = INT64_MAX, .length = 1 };
	} else if (which == 18) {
		second->kind = FIRN_RECORD_INTENT;
		second->seq = 1;
		second->number = 2;
	} else {
		second->has_keep = true;
	}
}

START_TEST(decode__whole_record_with_bad_content__format_error_names_offset)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	uint64_t seed = firn_journal_record_seed(&header->session);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = NULL;
	GByteArray *out = g_byte_array_new();
	FirnRecord first, second;

	firn_journal_record_add_header(header, FIRN_JOURNAL_LOG, out);
	good_put(&first, 1);
	good_put(&second, 2);
	spoil(_i, &first, &second);
	ck_assert(firn_journal_record_encode(&first, seed, out));
	ck_assert(firn_journal_record_encode(&second, seed, out));
	bytes = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, "offset "));
}
END_TEST

START_TEST(decode__net_form_with_repeats__format_error)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	uint64_t seed = firn_journal_record_seed(&header->session);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = NULL;
	GByteArray *out = g_byte_array_new();
	FirnRecord record;

	firn_journal_record_add_header(header, FIRN_JOURNAL_NET, out);
	good_put(&record, 1);
	record.has_path = true;
	record.kind = _i == 0   ? FIRN_RECORD_NODE_PUT
		      : _i == 1 ? FIRN_RECORD_CHUNK
				: FIRN_RECORD_PENDING;
	record.ref = ref_of(FIRN_REF_INLINE);
	ck_assert(firn_journal_record_encode(&record, seed, out));
	record.seq = 2;
	ck_assert(firn_journal_record_encode(&record, seed, out));
	bytes = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, "twice"));
}
END_TEST

START_TEST(decode__newer_version__unsupported)
{
	g_autoptr(FirnJournalHeader) header = make_header(1);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = NULL;
	GByteArray *out = g_byte_array_new();

	firn_journal_record_add_header(header, FIRN_JOURNAL_LOG, out);
	out->data[8] = 2;
	bytes = g_byte_array_free_to_bytes(out);
	ck_assert_ptr_null(firn_journal_decode(bytes, "j", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED);
}
END_TEST

/* FIRN_GOLDEN_WRITE=1 makes the files anew: only for a new journal version. */
START_TEST(journal__golden_files__bytes_and_meaning_stay)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GBytes) log = NULL;
	g_autoptr(GBytes) net = NULL;
	g_autoptr(GBytes) golden_log = NULL;
	g_autoptr(GBytes) golden_net = NULL;
	gsize len;

	work_all(work);
	log = file_bytes(work->path);
	net = net_bytes(work);
	if (g_getenv("FIRN_GOLDEN_WRITE") != NULL) {
		ck_assert(g_file_set_contents(GOLDEN_LOG, g_bytes_get_data(log, &len),
					      (gssize)g_bytes_get_size(log), NULL));
		ck_assert(g_file_set_contents(GOLDEN_NET, g_bytes_get_data(net, &len),
					      (gssize)g_bytes_get_size(net), NULL));
	}
	golden_log = file_bytes(GOLDEN_LOG);
	golden_net = file_bytes(GOLDEN_NET);
	ck_assert(g_bytes_equal(log, golden_log));
	ck_assert(g_bytes_equal(net, golden_net));
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("journal");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, journal__all_kinds_of_records__log_and_net_read_the_same);
	tcase_add_test(tcase, decode__log_cut_at_every_byte__recovers_a_prefix);
	tcase_add_test(tcase, decode__log_byte_flipped__error_or_prefix);
	tcase_add_test(tcase, decode__sealed_cut_or_flipped__error_or_not_sealed);
	tcase_add_test(tcase, decode__damage_before_the_tail__names_journal_and_offset);
	tcase_add_test(tcase, decode__two_sections__both_and_only_after_a_seal);
	tcase_add_test(tcase, encode__inherited_entries__left_out);
	tcase_add_test(tcase, resume__torn_tail__cut_and_continued);
	tcase_add_test(tcase, resume__sealed_or_missing__refused);
	tcase_add_test(tcase, create__exists__refused_unless_replaced);
	tcase_add_test(tcase, append__file_cannot_grow__nothing_appended_and_usable_after);
	tcase_add_test(tcase, move_node__not_made_here__refused);
	tcase_add_test(tcase, append__native_chunk__is_compact);
	tcase_add_loop_test(tcase, decode__whole_record_with_bad_content__format_error_names_offset,
			    0, 20);
	tcase_add_loop_test(tcase, decode__net_form_with_repeats__format_error, 0, 3);
	tcase_add_test(tcase, decode__newer_version__unsupported);
	tcase_add_test(tcase, journal__golden_files__bytes_and_meaning_stay);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
