#include "core/base/error.h"
#include "tests/unit/journal_work.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN_LOG "tests/golden/journal/v1-log.journal"
#define GOLDEN_NET "tests/golden/journal/v1-net.journal"

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
	work->journal = firn_journal_resume(work->path, false, &section, &torn, &error);
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
	ck_assert_ptr_null(firn_journal_resume(work->path, false, &section, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ck_assert_ptr_null(
		firn_journal_resume("/nonexistent/journal", false, &section, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(create__exists__is_refused)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sections = NULL;

	work_all(work);
	ck_assert_ptr_null(firn_journal_create(work->path, work->header, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_journal_begin(work->path, work->header, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	g_clear_error(&error);
	/* And what is there stays. */
	sections = firn_journal_read(work->path, NULL, &error);
	ck_assert_no_error(error);
	ck_assert(!firn_changes_is_empty(((FirnSection *)sections->pdata[0])->changes));
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

START_TEST(unmark__back__as_it_was)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSection) whole = NULL;
	g_autoptr(GBytes) before = NULL;
	g_autoptr(GBytes) after = NULL;
	g_autofree char *text = NULL;
	const FirnRef none = { .kind = FIRN_REF_NONE };
	FirnId8 id = { { 77 } };
	uint32_t at = 0;
	uint64_t seq;

	work_all(work);
	before = file_bytes(work->path);
	seq = firn_journal_last_seq(work->journal);
	firn_journal_mark(work->journal);
	for (int i = 0; i < 2; i++)
		ck_assert(firn_journal_put_chunk(work->journal, &id, "/x", 1, &at, &none,
						 &(uint64_t){ 0 }, &error));
	firn_journal_unmark(work->journal, true);
	after = file_bytes(work->path);
	ck_assert(g_bytes_equal(before, after));
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), seq);
	/* The array is named by the next record of it, as the first one is gone. */
	firn_journal_mark(work->journal);
	ck_assert(firn_journal_put_chunk(work->journal, &id, "/x", 1, &at, &none, &seq, &error));
	firn_journal_unmark(work->journal, false);
	g_clear_pointer(&after, g_bytes_unref);
	after = file_bytes(work->path);
	whole = decode_one(after, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(whole->last_seq, seq);
	ck_assert_ptr_nonnull(firn_changes_find_path(whole->changes, "/x"));
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

START_TEST(append__unreadable_content__refused)
{
	g_autoptr(Work) work = work_new();
	g_autoptr(GError) error = NULL;
	FirnRef ref = ref_of(FIRN_REF_INLINE);
	const uint32_t at = 1;
	FirnId8 id = node_id(1);
	uint64_t seq = 0;

	ck_assert(!firn_journal_put_pending(work->journal, "/a/\xff", &ref, &seq, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ref = (FirnRef){ .kind = FIRN_REF_NATIVE, .length = UINT64_MAX };
	ck_assert(!firn_journal_put_chunk(work->journal, &id, "/a", 1, &at, &ref, &seq, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert_uint_eq(firn_journal_last_seq(work->journal), 0);
	work_chunk(work, 1, "/a", 1, 1, FIRN_REF_INLINE);
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
	tcase_add_test(tcase, encode__inherited_entries__left_out);
	tcase_add_test(tcase, resume__torn_tail__cut_and_continued);
	tcase_add_test(tcase, resume__sealed_or_missing__refused);
	tcase_add_test(tcase, create__exists__is_refused);
	tcase_add_test(tcase, append__file_cannot_grow__nothing_appended_and_usable_after);
	tcase_add_test(tcase, unmark__back__as_it_was);
	tcase_add_test(tcase, move_node__not_made_here__refused);
	tcase_add_test(tcase, append__unreadable_content__refused);
	tcase_add_test(tcase, append__native_chunk__is_compact);
	tcase_add_test(tcase, journal__golden_files__bytes_and_meaning_stay);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
