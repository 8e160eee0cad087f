#include "core/base/error.h"
#include "core/base/id.h"
#include "core/store/fault.h"
#include "core/store/local.h"
#include "core/store/store.h"
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(free_range__bytes_are_zero_and_the_rest_stays)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autofree char *bytes = g_strnfill(3 * 4096, 'x');
	g_autofree char *path = g_build_filename(root, "chunks", "A", NULL);
	FirnStoreWriter *writer = firn_store_writer_open(store, "chunks/A", NULL);
	g_autoptr(GBytes) got = NULL;
	struct stat before, after;

	ck_assert_ptr_nonnull(writer);
	ck_assert(firn_store_writer_write(writer, 0, bytes, 3 * 4096, NULL));
	ck_assert(firn_store_writer_flush(writer, NULL));
	firn_store_writer_leave(writer);
	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert(firn_store_free_range(store, "chunks/A", 4096, 4096, NULL));
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	ck_assert_int_lt(after.st_blocks, before.st_blocks);
	memset(bytes + 4096, 0, 4096);
	ck_assert(firn_store_get(store, "chunks/A", 0, UINT64_MAX, &got, NULL, NULL));
	ck_assert_mem_eq(g_bytes_get_data(got, NULL), bytes, 3 * 4096);
	/* What is not there has nothing to free. */
	ck_assert(firn_store_free_range(store, "chunks/none", 0, 1, NULL));
	ck_assert(firn_store_free_range(store, "chunks/A", 0, 0, NULL));
	ck_assert(firn_store_free_range(store, "chunks/A", UINT64_MAX, 1, NULL));
	ck_assert(!firn_store_free_range(store, "../A", 0, 1, NULL));
}
END_TEST

START_TEST(get__missing_object__is_an_answer)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = NULL;
	FirnVersion version = { "x" };
	bool exists = true;
	uint64_t size = 1;

	ck_assert(firn_store_get(store, "a/b", 0, UINT64_MAX, &data, &version, &error));
	ck_assert_ptr_null(data);
	ck_assert_str_eq(version.tag, "");
	ck_assert(firn_store_stat(store, "a/b", &exists, &size, NULL, &error));
	ck_assert(!exists);
	ck_assert_int_eq(firn_store_open_fd(store, "a/b", &error), -1);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert(firn_store_remove(store, "a/b", NULL));
}
END_TEST

START_TEST(get__directory__is_no_object)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	bool exists = true;

	put(store, "a/b", "1");
	assert_content(store, "a", NULL);
	assert_content(store, "a/b/c", NULL);
	ck_assert(firn_store_stat(store, "a", &exists, NULL, NULL, NULL));
	ck_assert(!exists);
}
END_TEST

START_TEST(put__then_get__ranges_clip)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	static const struct {
		uint64_t offset, len;
		const char *wanted;
	} cases[] = { { 0, UINT64_MAX, "0123456789" },
		      { 2, 3, "234" },
		      { 8, 100, "89" },
		      { 10, 1, "" },
		      { 100, 100, "" },
		      { UINT64_MAX, UINT64_MAX, "" },
		      { 0, 0, "" } };

	put(store, "x/y/z", "0123456789");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GBytes) data = NULL;
		g_autoptr(GBytes) wanted = text(cases[i].wanted);

		ck_assert(firn_store_get(store, "x/y/z", cases[i].offset, cases[i].len, &data, NULL,
					 NULL));
		ck_assert(g_bytes_equal(data, wanted));
	}
}
END_TEST

START_TEST(put__modes__keep_their_promise)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) one = text("one");
	g_autoptr(GBytes) two = text("two");
	FirnVersion first, second, read;
	FirnVersion none = { "" };
	g_autoptr(GBytes) data = NULL;

	ck_assert(firn_store_put(store, "k", one, FIRN_PUT_IF_MATCH, &none, &first, NULL));
	ck_assert(!firn_store_put(store, "k", two, FIRN_PUT_IF_ABSENT, NULL, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	g_clear_error(&error);
	ck_assert(firn_store_put(store, "k", two, FIRN_PUT_IF_MATCH, &first, &second, NULL));
	ck_assert_str_ne(first.tag, second.tag);
	ck_assert(!firn_store_put(store, "k", one, FIRN_PUT_IF_MATCH, &first, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	ck_assert(firn_store_get(store, "k", 0, UINT64_MAX, &data, &read, NULL));
	ck_assert_str_eq(read.tag, second.tag);
	assert_content(store, "k", "two");
	put(store, "k", "three");
	assert_content(store, "k", "three");
}
END_TEST

START_TEST(put__same_size_many_times__versions_never_repeat)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	FirnVersion version = { "" };

	for (int i = 0; i < 60; i++) {
		g_autoptr(GBytes) data = text("same size");

		ck_assert(firn_store_put(store, "k", data, FIRN_PUT_IF_MATCH, &version, &version,
					 NULL));
		ck_assert(g_hash_table_add(seen, g_strdup(version.tag)));
	}
}
END_TEST

START_TEST(copy__expected_version__then_put_still_matches)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) one = text("one");
	g_autoptr(GBytes) two = text("two");
	FirnVersion first, second;

	ck_assert(firn_store_put(store, "repo", one, FIRN_PUT_IF_ABSENT, NULL, &first, NULL));
	ck_assert(firn_store_copy(store, "repo", "old/repo.1", &first, &error));
	ck_assert(firn_store_put(store, "repo", two, FIRN_PUT_IF_MATCH, &first, &second, &error));
	assert_content(store, "old/repo.1", "one");
	assert_content(store, "repo", "two");
	ck_assert(!firn_store_copy(store, "repo", "old/repo.2", &first, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	g_clear_error(&error);
	ck_assert(!firn_store_copy(store, "repo", "old/repo.1", &second, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	g_clear_error(&error);
	ck_assert(!firn_store_copy(store, "nothing", "old/repo.3", &second, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	assert_content(store, "old/repo.2", NULL);
	assert_content(store, "old/repo.1", "one");
}
END_TEST

START_TEST(key__leaving_the_root__is_refused)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	static const char *const bad[] = { "",      "/",      "/etc/passwd",  "..",
					   "../x",  "a/../b", "a/..",         "./a",
					   ".",     "a//b",   "a/",           "/a",
					   "a/./b", "a/b/.",  "a/b/../../..", "//" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(GBytes) data = text("x");
		GBytes *out;

		ck_assert(!firn_store_put(store, bad[i], data, FIRN_PUT_ANY, NULL, NULL, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
		ck_assert(!firn_store_get(store, bad[i], 0, 1, &out, NULL, NULL));
		ck_assert(!firn_store_remove(store, bad[i], NULL));
		ck_assert(!firn_store_stat(store, bad[i], NULL, NULL, NULL, NULL));
		ck_assert(!firn_store_sync(store, &bad[i], 1, NULL));
		ck_assert_int_eq(firn_store_open_fd(store, bad[i], NULL), -1);
		ck_assert_ptr_null(firn_store_writer_open(store, bad[i], NULL));
		if (bad[i][0] != '\0' && strcmp(bad[i], "a/") != 0)
			ck_assert(!firn_store_list(store, bad[i], count, NULL, NULL));
	}
	put(store, "..a/...", "fine");
	assert_content(store, "..a/...", "fine");
}
END_TEST

START_TEST(list__prefixes__leave_temporaries_out)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autofree char *all = NULL, *chunks = NULL, *none = NULL, *stray = NULL;

	put(store, "repo", "12");
	put(store, "chunks/A", "1");
	put(store, "chunks/B", "123");
	stray = g_build_filename(root, "chunks", "C#1", NULL);
	ck_assert(g_file_set_contents(stray, "x", 1, NULL));
	all = listing(store, "");
	ck_assert_str_eq(all, "chunks/A:1 chunks/B:3 repo:2");
	chunks = listing(store, "chunks/");
	ck_assert_str_eq(chunks, "chunks/A:1 chunks/B:3");
	none = listing(store, "nothing/");
	ck_assert_str_eq(none, "");
	ck_assert(!firn_store_list(store, "chunks", count, NULL, NULL));
}
END_TEST

START_TEST(list__loop_of_links__ends)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *loop = g_build_filename(root, "a", "loop", NULL);

	put(store, "a/b", "1");
	ck_assert_int_eq(symlink(".", loop), 0);
	ck_assert(!firn_store_list(store, "", count, keys, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

START_TEST(writer__random_access__publishes)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	FirnStoreWriter *writer = firn_store_writer_open(store, "chunks/A", &error);
	const char *const keys[] = { "chunks/A" };
	char buffer[16];
	size_t n;
	int fd;

	ck_assert_no_error(error);
	ck_assert(firn_store_writer_write(writer, 4, "efgh", 4, NULL));
	ck_assert(firn_store_writer_write(writer, 0, "abcd", 4, NULL));
	ck_assert(firn_store_writer_read(writer, 2, buffer, sizeof buffer, &n, NULL));
	ck_assert_uint_eq(n, 6);
	ck_assert_mem_eq(buffer, "cdefgh", 6);
	ck_assert(firn_store_writer_truncate(writer, 6, NULL));
	ck_assert(!firn_store_writer_write(writer, UINT64_MAX, "x", 1, NULL));
	ck_assert(!firn_store_writer_truncate(writer, UINT64_MAX, NULL));
	ck_assert(firn_store_writer_finish(writer, _i == 0, &error));
	assert_content(store, "chunks/A", "abcdef");
	ck_assert(firn_store_sync(store, keys, 1, NULL));
	fd = firn_store_open_fd(store, "chunks/A", &error);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	ck_assert_ptr_null(firn_store_writer_open(store, "chunks/A", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
}
END_TEST

START_TEST(writer__abort__leaves_nothing)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	FirnStoreWriter *writer = firn_store_writer_open(store, "chunks/A", NULL);

	ck_assert(firn_store_writer_write(writer, 0, "abcd", 4, NULL));
	firn_store_writer_abort(writer);
	firn_store_writer_abort(NULL);
	assert_content(store, "chunks/A", NULL);
}
END_TEST

START_TEST(sync__few_and_many__succeed)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) error = NULL;
	const char *const missing[] = { "chunks/none" };

	for (int i = 0; i < 300; i++) {
		char *key = g_strdup_printf("%s/%d", i % 2 ? "chunks" : "manifests", i);
		FirnStoreWriter *writer = firn_store_writer_open(store, key, NULL);

		ck_assert(firn_store_writer_write(writer, 0, key, strlen(key), NULL));
		ck_assert(firn_store_writer_finish(writer, false, NULL));
		g_ptr_array_add(keys, key);
	}
	ck_assert(firn_store_sync(store, (const char *const *)keys->pdata, 10, NULL));
	ck_assert(firn_store_sync(store, (const char *const *)keys->pdata, keys->len, NULL));
	ck_assert(!firn_store_sync(store, missing, 1, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert(firn_store_sync(store, NULL, 0, NULL));
}
END_TEST

START_TEST(stage__put_while_it_matches__else_nothing_is_left)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GBytes) a = text("a"), b = text("b"), c = text("c");
	g_autoptr(GError) error = NULL;
	FirnVersion first, second;
	FirnStaged *staged, *late;

	ck_assert(firn_store_put(store, "repo", a, FIRN_PUT_ANY, NULL, &first, NULL));
	staged = firn_store_stage(store, "repo", b, NULL);
	late = firn_store_stage(store, "repo", c, NULL);
	ck_assert(staged != NULL && late != NULL);
	assert_content(store, "repo", "a");
	ck_assert(firn_store_put_staged(store, staged, &first, &second, NULL));
	assert_content(store, "repo", "b");
	ck_assert(!firn_store_put_staged(store, late, &first, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	assert_content(store, "repo", "b");
	firn_store_unstage(store, firn_store_stage(store, "repo", c, NULL));
	firn_store_unstage(store, NULL);
	ck_assert(firn_store_put(store, "repo", c, FIRN_PUT_IF_MATCH, &second, NULL, NULL));
	ck_assert(firn_store_list_temporaries(store, count, left, NULL));
	ck_assert_uint_eq(left->len, 0);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_store_stage(store, "a/../b", c, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(put_new__published__has_a_name_then_and_not_before)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	const char *const keys[] = { "manifests/A", "snapshots/B", "snapshots/C" };
	g_autofree char *large = g_strnfill(200000, 'x');
	const char *const values[] = { large, "b", "" };
	g_autoptr(GError) error = NULL;

	for (int i = 0; i < 3; i++) {
		g_autoptr(GBytes) data = text(values[i]);

		ck_assert(firn_store_put_new(store, keys[i], data, &error));
		assert_content(store, keys[i], NULL);
		/* A name that somebody knows after all. */
		ck_assert(!firn_store_put_new(store, keys[i], data, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
		g_clear_error(&error);
	}
	ck_assert(firn_store_publish(store, keys, 2, NULL));
	assert_content(store, keys[0], large);
	assert_content(store, keys[1], "b");
	assert_content(store, keys[2], NULL);
	ck_assert(firn_store_publish(store, NULL, 0, NULL));
	ck_assert(!firn_store_publish(store, keys, 1, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(!firn_store_put_new(store, "a/../b", NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(put_new__withdrawn__leaves_nothing)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
	const char *const keys[] = { "manifests/A", "manifests/B" };
	g_autofree char *listed = NULL;

	for (int i = 0; i < 2; i++) {
		g_autoptr(GBytes) data = text("x");

		ck_assert(firn_store_put_new(store, keys[i], data, NULL));
	}
	ck_assert(firn_store_list_temporaries(store, count, left, NULL));
	ck_assert_uint_eq(left->len, 2);
	ck_assert(firn_store_publish(store, keys, 1, NULL));
	for (int i = 0; i < 2; i++)
		ck_assert(firn_store_withdraw(store, keys[i], NULL));
	ck_assert(firn_store_withdraw(store, keys[0], NULL));
	g_ptr_array_set_size(left, 0);
	ck_assert(firn_store_list_temporaries(store, count, left, NULL));
	ck_assert_uint_eq(left->len, 0);
	listed = listing(store, "");
	ck_assert_str_eq(listed, "");
}
END_TEST

START_TEST(put_new__many__are_published)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

	for (int i = 0; i < 100; i++) {
		char *key = g_strdup_printf("%s/%d", i % 2 ? "snapshots" : "manifests", i);
		g_autoptr(GBytes) data = text(key);

		ck_assert(firn_store_put_new(store, key, data, NULL));
		g_ptr_array_add(keys, key);
	}
	ck_assert(firn_store_publish(store, (const char *const *)keys->pdata, 30, NULL));
	ck_assert(firn_store_publish(store, (const char *const *)keys->pdata + 30, 70, NULL));
	for (guint i = 0; i < keys->len; i++)
		assert_content(store, keys->pdata[i], keys->pdata[i]);
}
END_TEST

START_TEST(open__urls__parse)
{
	g_autofree char *odd = g_build_filename(root, "a b#%c", NULL);
	g_autofree char *url = g_strconcat("file://", root, "/a%20b%23%25c", NULL);
	g_autofree char *host = g_strconcat("file://localhost", root, NULL);
	g_autofree char *deep = g_build_filename(root, "x", "y", "z", NULL);
	g_autoptr(FirnStore) made = firn_store_open(odd, true, NULL);
	g_autoptr(FirnStore) again = firn_store_open(url, false, NULL);
	g_autoptr(FirnStore) same = NULL;
	g_autoptr(FirnStore) local = firn_store_open(host, false, NULL);
	g_autoptr(FirnStore) nested = firn_store_open(deep, true, NULL);

	ck_assert(made != NULL && again != NULL && local != NULL && nested != NULL);
	ck_assert_str_eq(firn_store_url(made), firn_store_url(again));
	same = firn_store_open(firn_store_url(made), false, NULL);
	ck_assert_ptr_nonnull(same);
	ck_assert_str_eq(firn_store_url(made), firn_store_url(same));
	put(made, "k", "v");
	assert_content(again, "k", "v");
}
END_TEST

START_TEST(open__bad_urls__say_why)
{
	g_autofree char *missing = g_build_filename(root, "missing", NULL);
	g_autofree char *file = g_build_filename(root, "file", NULL);
	struct {
		const char *url;
		FirnError code;
		const char *part;
	} cases[] = { { missing, FIRN_ERROR_NOT_FOUND, missing },
		      { file, FIRN_ERROR_INVALID, "no directory" },
		      { "s3://bucket/x", FIRN_ERROR_UNSUPPORTED, "s3://" },
		      { "gs+x://bucket/x", FIRN_ERROR_UNSUPPORTED, "gs+x://" },
		      { "", FIRN_ERROR_INVALID, "empty" },
		      { "file://host/x", FIRN_ERROR_INVALID, "absolute" },
		      { "file:///a%2", FIRN_ERROR_INVALID, "hexadecimal" },
		      { "file:///a%00b", FIRN_ERROR_INVALID, "hexadecimal" } };

	ck_assert(g_file_set_contents(file, "", 0, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;

		ck_assert_ptr_null(firn_store_open(cases[i].url, false, &error));
		ck_assert_error(error, FIRN_ERROR, cases[i].code);
		ck_assert_ptr_nonnull(strstr(error->message, cases[i].part));
	}
}
END_TEST

START_TEST(put__read_only_directory__is_denied)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = text("x");
	g_autofree char *full = NULL;
	uid_t user = geteuid();

	/* Nothing is forbidden to root: be somebody else meanwhile. */
	ck_assert_int_eq(chmod(root, 0555), 0);
	if (user == 0)
		ck_assert_int_eq(seteuid(65534), 0);
	ck_assert(!firn_store_put(store, "k", data, FIRN_PUT_ANY, NULL, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_DENIED);
	if (user == 0)
		ck_assert_int_eq(seteuid(user), 0);
	ck_assert_int_eq(chmod(root, 0755), 0);
	full = listing(store, "");
	ck_assert_str_eq(full, "");
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("store");
	TCase *contract = tcase_create("contract");
	TCase *other = tcase_create("other");

	tcase_add_checked_fixture(contract, setup, teardown);
	tcase_add_loop_test(contract, get__missing_object__is_an_answer, 0, 2);
	tcase_add_loop_test(contract, free_range__bytes_are_zero_and_the_rest_stays, 0, 2);
	tcase_add_loop_test(contract, get__directory__is_no_object, 0, 2);
	tcase_add_loop_test(contract, put__then_get__ranges_clip, 0, 2);
	tcase_add_loop_test(contract, put__modes__keep_their_promise, 0, 2);
	tcase_add_loop_test(contract, put__same_size_many_times__versions_never_repeat, 0, 2);
	tcase_add_loop_test(contract, copy__expected_version__then_put_still_matches, 0, 2);
	tcase_add_loop_test(contract, key__leaving_the_root__is_refused, 0, 2);
	tcase_add_loop_test(contract, list__prefixes__leave_temporaries_out, 0, 2);
	tcase_add_loop_test(contract, list__loop_of_links__ends, 0, 2);
	tcase_add_loop_test(contract, writer__random_access__publishes, 0, 2);
	tcase_add_loop_test(contract, writer__abort__leaves_nothing, 0, 2);
	tcase_add_loop_test(contract, sync__few_and_many__succeed, 0, 2);
	tcase_add_loop_test(contract, stage__put_while_it_matches__else_nothing_is_left, 0, 2);
	tcase_add_loop_test(contract, put_new__published__has_a_name_then_and_not_before, 0, 2);
	tcase_add_loop_test(contract, put_new__withdrawn__leaves_nothing, 0, 2);
	tcase_add_loop_test(contract, put_new__many__are_published, 0, 2);
	tcase_add_loop_test(contract, put__read_only_directory__is_denied, 0, 2);
	suite_add_tcase(s, contract);

	tcase_add_checked_fixture(other, setup, teardown);
	tcase_add_test(other, open__urls__parse);
	tcase_add_test(other, open__bad_urls__say_why);
	suite_add_tcase(s, other);
	return s;
}

TEST_MAIN(make_suite)
