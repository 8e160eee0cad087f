#include "core/base/keep.h"
#include "tests/unit/harness.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
put_text(FirnKeep *keep, unsigned kind, uint64_t key, const char *text)
{
	firn_keep_put_now(keep, kind, key, text, strlen(text));
}

static void
assert_text(const FirnKept *kept, unsigned kind, uint64_t key, const char *text)
{
	GBytes *found = firn_kept_find(kept, kind, key);
	gsize len;
	const void *data;

	if (text == NULL) {
		ck_assert_ptr_null(found);
		return;
	}
	ck_assert_ptr_nonnull(found);
	data = g_bytes_get_data(found, &len);
	ck_assert_uint_eq(len, strlen(text));
	ck_assert_mem_eq(data, text, len);
}

START_TEST(read__of_puts_and_drops__is_the_last_of_each)
{
	FirnKeep *keep = firn_keep_new(NULL);
	g_autoptr(FirnKept) kept = NULL;

	put_text(keep, 1, 7, "old");
	put_text(keep, 1, 7, "new");
	put_text(keep, 1, 8, "gone");
	put_text(keep, 2, 7, "other kind");
	put_text(keep, 3, 1, "x");
	put_text(keep, 3, 2, "");
	firn_keep_drop_now(keep, 1, 8);
	kept = firn_keep_read(keep, NULL);
	ck_assert_ptr_nonnull(kept);
	assert_text(kept, 1, 7, "new");
	assert_text(kept, 1, 8, NULL);
	assert_text(kept, 2, 7, "other kind");
	assert_text(kept, 3, 2, "");
	firn_keep_free(keep);
}
END_TEST

START_TEST(commit__of_a_batch__comes_as_one_and_clears_kinds)
{
	FirnKeep *keep = firn_keep_new(NULL);
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autoptr(FirnKept) before = NULL;
	g_autoptr(FirnKept) after = NULL;

	put_text(keep, 4, 1, "a");
	put_text(keep, 5, 1, "stays");
	firn_keep_drop_all(batch, 4);
	firn_keep_put(batch, 4, 2, "b", 1);
	before = firn_keep_read(keep, NULL);
	assert_text(before, 4, 1, "a");
	assert_text(before, 4, 2, NULL);
	firn_keep_commit(keep, batch);
	ck_assert_uint_eq(batch->len, 0);
	after = firn_keep_read(keep, NULL);
	assert_text(after, 4, 1, NULL);
	assert_text(after, 4, 2, "b");
	assert_text(after, 5, 1, "stays");
	firn_keep_free(keep);
}
END_TEST

START_TEST(commit__many_times_over__is_cleaned_and_loses_nothing)
{
	FirnKeep *keep = firn_keep_new(NULL);
	g_autoptr(FirnKept) kept = NULL;
	char text[1000];

	memset(text, 'z', sizeof text);
	for (uint64_t round = 0; round < 400; round++)
		for (uint64_t key = 0; key < 100; key++) {
			memcpy(text, &round, sizeof round);
			firn_keep_put_now(keep, 1, key, text, sizeof text);
		}
	put_text(keep, 2, 1, "end");
	kept = firn_keep_read(keep, NULL);
	ck_assert_ptr_nonnull(kept);
	ck_assert_uint_eq(g_hash_table_size(kept->kinds[1]), 100);
	for (uint64_t key = 0; key < 100; key++) {
		uint64_t round = 0;
		GBytes *found = firn_kept_find(kept, 1, key);

		memcpy(&round, g_bytes_get_data(found, NULL), sizeof round);
		ck_assert_uint_eq(round, 399);
	}
	assert_text(kept, 2, 1, "end");
	ck_assert(!firn_keep_is_broken(keep));
	firn_keep_free(keep);
}
END_TEST

/* Tens of thousands of records, put, replaced and dropped one by one and all of a kind. */
START_TEST(commit__random_batches__are_what_a_table_says)
{
	FirnKeep *keep = firn_keep_new(NULL);
	g_autoptr(GHashTable) model =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	g_autoptr(GByteArray) batch = g_byte_array_new();
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	g_autoptr(FirnKept) kept = NULL;
	GHashTableIter iter;
	gpointer name, value;
	char text[300] = "";
	guint n = 0;

	for (uint32_t i = 1; i <= 150000; i++) {
		uint32_t what = (uint32_t)g_rand_int_range(rand, 0, 100);
		unsigned kind = (unsigned)g_rand_int_range(rand, 0, 4);
		uint64_t key = (uint64_t)g_rand_int_range(rand, 0, 15000) << (kind * 9);
		uint64_t both = key << 2 | kind;

		if (i % 40000 == 0) {
			firn_keep_drop_all(batch, 0);
			g_hash_table_iter_init(&iter, model);
			while (g_hash_table_iter_next(&iter, &name, NULL))
				if ((*(uint64_t *)name & 3) == 0)
					g_hash_table_iter_remove(&iter);
		} else if (what < 70) {
			memcpy(text, &i, sizeof i);
			firn_keep_put(batch, kind, key, text, sizeof i + what * 3);
			g_hash_table_replace(model, g_memdup2(&both, sizeof both),
					     GUINT_TO_POINTER(i));
		} else {
			firn_keep_drop(batch, kind, key);
			g_hash_table_remove(model, &both);
		}
		if (what % 3 == 0)
			firn_keep_commit(keep, batch);
	}
	firn_keep_commit(keep, batch);
	kept = firn_keep_read(keep, NULL);
	ck_assert_ptr_nonnull(kept);
	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++)
		n += g_hash_table_size(kept->kinds[kind]);
	ck_assert_uint_eq(n, g_hash_table_size(model));
	ck_assert_uint_gt(n, 20000);
	g_hash_table_iter_init(&iter, model);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		uint64_t both = *(uint64_t *)name;
		GBytes *found = firn_kept_find(kept, both & 3, both >> 2);
		uint32_t i = 0;

		ck_assert_ptr_nonnull(found);
		memcpy(&i, g_bytes_get_data(found, NULL), sizeof i);
		ck_assert_uint_eq(i, GPOINTER_TO_UINT(value));
	}
	firn_keep_free(keep);
}
END_TEST

START_TEST(read__after_the_writer_was_killed__has_what_was_committed)
{
	FirnKeep *keep = firn_keep_new(NULL);
	g_autoptr(FirnKept) kept = NULL;
	uint64_t slot = 0;
	char data[5] = "";
	pid_t child = fork();

	if (child == 0) {
		uint64_t mine = firn_keep_slot_take(keep);

		firn_keep_slot_write(keep, mine, "hello", 5, 3);
		firn_keep_put_now(keep, 1, 1, &mine, sizeof mine);
		/* Never committed. */
		firn_keep_put(g_byte_array_new(), 1, 2, "x", 1);
		(void)kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	kept = firn_keep_read(keep, NULL);
	assert_text(kept, 1, 2, NULL);
	memcpy(&slot, g_bytes_get_data(firn_kept_find(kept, 1, 1), NULL), sizeof slot);
	firn_keep_slot_claim(keep, slot);
	ck_assert_uint_ne(firn_keep_slot_take(keep), slot);
	ck_assert(firn_keep_slot_read(keep, slot, data, 3));
	ck_assert_mem_eq(data, "\0\0\0", 3);
	firn_keep_free(keep);
}
END_TEST

START_TEST(reader__of_what_was_added__gives_it_back)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	g_autoptr(GBytes) record = NULL;
	g_autofree char *text = NULL;
	FirnKeepReader reader;
	uint32_t fixed = 0;
	uint32_t four = 4;

	firn_keep_add(out, UINT64_MAX);
	firn_keep_add_text(out, "text");
	firn_keep_add_text(out, NULL);
	firn_keep_add_bytes(out, &four, sizeof four);
	record = g_bytes_new(out->data, out->len);
	reader = firn_keep_reader(record);
	ck_assert_uint_eq(firn_keep_take(&reader), UINT64_MAX);
	text = firn_keep_take_text(&reader);
	ck_assert_str_eq(text, "text");
	ck_assert_uint_eq(firn_keep_take_bytes(&reader).len, 0);
	firn_keep_take_fixed(&reader, &fixed, sizeof fixed);
	ck_assert_uint_eq(fixed, 4);
	ck_assert(!reader.bad);
	ck_assert_uint_eq(firn_keep_take(&reader), 0);
	ck_assert(reader.bad);
}
END_TEST

START_TEST(reader__of_a_length_beyond_the_end__is_bad)
{
	uint64_t len = 1000;
	g_autoptr(GBytes) record = g_bytes_new(&len, sizeof len);
	FirnKeepReader reader = firn_keep_reader(record);

	ck_assert_uint_eq(firn_keep_take_bytes(&reader).len, 0);
	ck_assert(reader.bad);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("keep");
	TCase *tc = tcase_create("keep");

	tcase_add_test(tc, read__of_puts_and_drops__is_the_last_of_each);
	tcase_add_test(tc, commit__of_a_batch__comes_as_one_and_clears_kinds);
	tcase_add_test(tc, commit__many_times_over__is_cleaned_and_loses_nothing);
	tcase_add_test(tc, commit__random_batches__are_what_a_table_says);
	tcase_add_test(tc, read__after_the_writer_was_killed__has_what_was_committed);
	tcase_add_test(tc, reader__of_what_was_added__gives_it_back);
	tcase_add_test(tc, reader__of_a_length_beyond_the_end__is_bad);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
