#include "core/base/error.h"
#include "core/repo/journal_record.h"
#include "tests/unit/journal_work.h"

#include <unistd.h>

/* What came through a sink. */
typedef struct {
	GByteArray *bytes; /* NULL: only counted */
	uint64_t len;
	size_t largest;
	unsigned n;
	unsigned fails_at; /* 0: never */
} Sunk;

static bool
sink(void *data, FirnSpan bytes, GError **error)
{
	Sunk *sunk = data;

	if (++sunk->n == sunk->fails_at) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NO_SPACE, "full");
		return false;
	}
	if (sunk->bytes != NULL)
		g_byte_array_append(sunk->bytes, bytes.data, (guint)bytes.len);
	sunk->len += bytes.len;
	sunk->largest = MAX(sunk->largest, bytes.len);
	return true;
}

static void
add_group(FirnChanges *changes, unsigned n, FirnMeta *meta, uint64_t seq)
{
	g_autofree char *path = g_strdup_printf("/group-%u", n);
	FirnId8 id = { { (uint8_t)n, (uint8_t)(n >> 8), 1 } };

	(void)firn_changes_put_node(changes, &id, path, meta, true, seq);
}

/* A group with a document of about `len` bytes. */
static FirnMeta *
large_group(size_t len)
{
	g_autofree char *fill = g_strnfill(len, 'x');
	char *text = g_strdup_printf(
		"{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"a\":\"%s\"}}", fill);
	g_autoptr(GBytes) raw = g_bytes_new_take(text, strlen(text));
	g_autoptr(GError) error = NULL;
	FirnMeta *meta = firn_meta_parse(raw, &error);

	ck_assert_no_error(error);
	return meta;
}

static FirnRef
inline_ref(GBytes *bytes)
{
	FirnRef ref = { .kind = FIRN_REF_INLINE };

	ref.bytes.data = g_bytes_get_data(bytes, &ref.bytes.len);
	ref.length = ref.bytes.len;
	return ref;
}

START_TEST(encode_to__many_pieces__the_same_bytes)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnMeta) meta = large_group(300000);
	g_autoptr(GByteArray) whole = g_byte_array_new();
	g_autoptr(GByteArray) pieces = g_byte_array_new();
	g_autoptr(GBytes) image = NULL;
	g_autoptr(GError) error = NULL;
	FirnJournalImage out = { NULL, 0, 0 };
	Sunk sunk = { .bytes = pieces };

	for (unsigned i = 0; i < 20; i++)
		add_group(changes, i, meta, i + 1);
	firn_journal_encode(header, changes, 20, whole);
	ck_assert(firn_journal_encode_to(header, changes, 20, sink, &sunk, &error));
	ck_assert_no_error(error);
	ck_assert_uint_gt(sunk.n, 3);
	ck_assert_uint_lt(sunk.largest, 2000000);
	ck_assert_uint_eq(pieces->len, whole->len);
	ck_assert_mem_eq(pieces->data, whole->data, whole->len);
	/* Two sections. */
	ck_assert(firn_journal_image_add(&out, header, changes, 20, &error));
	ck_assert(firn_journal_image_add(&out, header, changes, 20, &error));
	image = firn_journal_image_end(&out);
	ck_assert_uint_eq(g_bytes_get_size(image), 2 * (size_t)whole->len);
	ck_assert_mem_eq((const char *)g_bytes_get_data(image, NULL) + whole->len, whole->data,
			 whole->len);
}
END_TEST

START_TEST(encode_to__sink_fails__its_error_and_no_more_pieces)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnMeta) meta = large_group(300000);
	g_autoptr(GError) error = NULL;
	Sunk sunk = { .fails_at = 2 };

	for (unsigned i = 0; i < 20; i++)
		add_group(changes, i, meta, i + 1);
	ck_assert(!firn_journal_encode_to(header, changes, 20, sink, &sunk, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NO_SPACE);
	ck_assert_uint_eq(sunk.n, 2);
}
END_TEST

/* The lengths of GLib's arrays have 32 bits. */
START_TEST(encode_to__more_than_4_GiB__all_of_it)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnMeta) meta = large_group(32u << 20);
	g_autoptr(GError) error = NULL;
	Sunk sunk = { .n = 0 };

	for (unsigned i = 0; i < 130; i++)
		add_group(changes, i, meta, i + 1);
	ck_assert(firn_journal_encode_to(header, changes, 130, sink, &sunk, &error));
	ck_assert_no_error(error);
	ck_assert_uint_gt(sunk.len, UINT64_C(130) << 25);
	ck_assert_uint_lt(sunk.largest, 34u << 20);
}
END_TEST

START_TEST(record_encode__array_is_full__refused)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autofree char *path = g_strnfill(1000, '/');
	FirnRecord record = { .kind = FIRN_RECORD_NODE_DELETE,
			      .seq = 1,
			      .path = { (const uint8_t *)path, 1000 } };
	static const guint full[] = { FIRN_JOURNAL_MAX_ARRAY - 1000, FIRN_JOURNAL_MAX_ARRAY,
				      FIRN_JOURNAL_MAX_ARRAY + 1, G_MAXUINT - 1000, G_MAXUINT };

	for (size_t i = 0; i < G_N_ELEMENTS(full); i++) {
		out->len = full[i]; /* none of it is there */
		ck_assert(!firn_journal_record_encode(&record, 0, out));
		ck_assert_uint_eq(out->len, full[i]);
	}
	out->len = 0;
	ck_assert(firn_journal_record_encode(&record, 0, out));
}
END_TEST

/* 8 bytes of id, kind, seq, flags, path (1 + 2), rank, one coordinate, 4 of the length. */
#define AROUND (1 + 1 + 8 + 1 + 3 + 1 + 1 + 4)

START_TEST(encode_to__record_at_the_limit__fits_and_can_be_read)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	size_t len = FIRN_JOURNAL_MAX_RECORD - AROUND;
	g_autoptr(GBytes) bytes = g_bytes_new_take(g_malloc0(len), len);
	FirnRef ref = inline_ref(bytes);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) image = NULL;
	g_autoptr(FirnSection) section = NULL;
	FirnJournalImage out = { NULL, 0, 0 };
	FirnId8 id = node_id(1);
	const uint32_t at = 1;

	(void)firn_changes_put_chunk(changes, &id, "/x", 1, &at, &ref, 1);
	ck_assert(firn_journal_image_add(&out, header, changes, 1, &error));
	ck_assert_no_error(error);
	image = firn_journal_image_end(&out);
	section = decode_one(image, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(section->changes->n_chunks, 1);
}
END_TEST

/* In a log a chunk is told without its array's path, if that was named before. */
START_TEST(encode_to__record_above_the_limit__said)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	size_t len = FIRN_JOURNAL_MAX_RECORD - AROUND + 1;
	g_autoptr(GBytes) bytes = g_bytes_new_take(g_malloc0(len), len);
	FirnRef ref = inline_ref(bytes);
	g_autoptr(GError) error = NULL;
	FirnJournalImage out = { NULL, 0, 0 };
	FirnId8 id = node_id(1);
	const uint32_t at = 1;

	(void)firn_changes_put_chunk(changes, &id, "/x", 1, &at, &ref, 1);
	ck_assert(!firn_journal_image_add(&out, header, changes, 1, &error));
	firn_journal_image_clear(&out);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
	ck_assert_ptr_nonnull(strstr(error->message, "/x"));
}
END_TEST

START_TEST(append__near_the_limit__refused)
{
	g_autoptr(Work) work = work_new();
	size_t len = FIRN_JOURNAL_MAX_RECORD - (1u << 17);
	g_autoptr(GBytes) bytes = g_bytes_new_take(g_malloc0(len), len);
	FirnRef ref = inline_ref(bytes);
	g_autoptr(GError) error = NULL;
	FirnId8 id = node_id(1);
	const uint32_t at = 1;
	uint64_t seq;

	ck_assert(!firn_journal_put_chunk(work->journal, &id, "/x", 1, &at, &ref, &seq, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), 0);
}
END_TEST

/* The number the document of an array gets: its geometry is of 3, it was written again as 7, and
 * chunks were written as `first` and `second`. */
static uint64_t
document_number(bool created, uint64_t first, uint64_t second, uint64_t fork)
{
	g_autoptr(FirnJournalHeader) header = make_header(3);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnMeta) meta = meta_of("8");
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) image = NULL;
	g_autoptr(FirnSection) section = NULL;
	FirnJournalImage out = { NULL, 0, 0 };
	FirnRef ref = ref_of(FIRN_REF_INLINE);
	FirnId8 id = node_id(1);
	const uint32_t one = 1, two = 2;

	(void)firn_changes_put_node(changes, &id, "/x", meta, created, 3);
	(void)firn_changes_put_chunk(changes, &id, "/x", 1, &one, &ref, first);
	(void)firn_changes_put_chunk(changes, &id, "/x", 1, &two, &ref, second);
	(void)firn_changes_put_node(changes, &id, "/x", meta, created, 7);
	changes->fork_seq = fork;
	ck_assert(firn_journal_image_add(&out, header, changes, 9, &error));
	image = firn_journal_image_end(&out);
	section = decode_one(image, NULL, &error);
	ck_assert_no_error(error);
	return firn_changes_find(section->changes, &id)->seq;
}

START_TEST(encode__document_written_again__number_of_its_geometry_if_no_fork_knew_it)
{
	ck_assert_uint_eq(document_number(false, 4, 5, 0), 3);
	ck_assert_uint_eq(document_number(false, 1, 5, 0), 3);
	ck_assert_uint_eq(document_number(false, 4, 5, 2), 3);
	/* After the fork still. */
	ck_assert_uint_eq(document_number(false, 4, 6, 4), 5);
	ck_assert_uint_eq(document_number(false, 4, 5, 5), 7);
	ck_assert_uint_eq(document_number(false, 4, 5, 6), 7);
	ck_assert_uint_eq(document_number(false, 4, 5, 7), 7);
	/* Nothing is said by it. */
	ck_assert_uint_eq(document_number(false, 1, 2, 0), 7);
	ck_assert_uint_eq(document_number(false, 8, 9, 0), 7);
	ck_assert_uint_eq(document_number(true, 4, 5, 0), 7);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("journal_encode");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, encode_to__many_pieces__the_same_bytes);
	tcase_add_test(tcase, encode_to__sink_fails__its_error_and_no_more_pieces);
	tcase_add_test(tcase, encode_to__more_than_4_GiB__all_of_it);
	tcase_add_test(tcase, record_encode__array_is_full__refused);
	tcase_add_test(tcase, encode_to__record_at_the_limit__fits_and_can_be_read);
	tcase_add_test(tcase, encode_to__record_above_the_limit__said);
	tcase_add_test(tcase,
		       encode__document_written_again__number_of_its_geometry_if_no_fork_knew_it);
	tcase_add_test(tcase, append__near_the_limit__refused);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
