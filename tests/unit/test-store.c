#include "core/base/error.h"
#include "core/base/id.h"
#include "core/store/fault.h"
#include "core/store/local.h"
#include "core/store/store.h"
#include "tests/unit/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *root;

static void
setup(void)
{
	root = g_dir_make_tmp("firn-store-XXXXXX", NULL);
	ck_assert_ptr_nonnull(root);
}

static void
teardown(void)
{
	const char *argv[] = { "rm", "-rf", root, NULL };

	g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
		     NULL, NULL, NULL);
	g_clear_pointer(&root, g_free);
}

/* Variant 0 is the local store, variant 1 the same behind an idle fault store. */
static FirnStore *
open_variant(int variant)
{
	g_autoptr(GError) error = NULL;
	FirnStore *store = firn_store_open(root, false, &error);

	ck_assert_no_error(error);
	return variant == 0 ? store : firn_fault_new(store);
}

static GBytes *
text(const char *value)
{
	return g_bytes_new(value, strlen(value));
}

static void
put(FirnStore *store, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = text(value);

	ck_assert_msg(firn_store_put(store, key, data, FIRN_PUT_ANY, NULL, NULL, &error), "%s",
		      error ? error->message : "");
}

static void
assert_content(FirnStore *store, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = NULL;
	g_autoptr(GBytes) wanted = value != NULL ? text(value) : NULL;

	ck_assert(firn_store_get(store, key, 0, UINT64_MAX, &data, NULL, &error));
	if (value == NULL)
		ck_assert_ptr_null(data);
	else
		ck_assert(data != NULL && g_bytes_equal(data, wanted));
}

static bool
count(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	GPtrArray *keys = data;

	ck_assert_int_gt(mtime_us, 0);
	g_ptr_array_add(keys, g_strdup_printf("%s:%" PRIu64, key, size));
	return keys->len < 100;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *
listing(FirnStore *store, const char *prefix)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) error = NULL;

	ck_assert(firn_store_list(store, prefix, count, keys, &error));
	g_ptr_array_sort(keys, by_text);
	g_ptr_array_add(keys, NULL);
	return g_strjoinv(" ", (char **)keys->pdata);
}

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

	for (int i = 0; i < 100; i++) {
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
		      { file, FIRN_ERROR_NOT_FOUND, file },
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

	if (geteuid() != 0) {
		ck_assert_int_eq(chmod(root, 0555), 0);
		ck_assert(!firn_store_put(store, "k", data, FIRN_PUT_ANY, NULL, NULL, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_DENIED);
		ck_assert_int_eq(chmod(root, 0755), 0);
	}
	full = listing(store, "");
	ck_assert_str_eq(full, "");
}
END_TEST

/* ---- races ---- */

#define RACERS 4
#define ROUNDS 25

/* Increment the number in "counter" by compare-and-swap, `ROUNDS` times. */
static void *
increment(void *data)
{
	FirnStore *store = data;
	int done = 0;

	while (done < ROUNDS) {
		g_autoptr(GBytes) old = NULL;
		g_autoptr(GBytes) next = NULL;
		g_autoptr(GError) error = NULL;
		FirnVersion version;
		char number[32] = { 0 };
		gsize len;
		const void *bytes;

		g_assert(firn_store_get(store, "counter", 0, UINT64_MAX, &old, &version, NULL));
		bytes = g_bytes_get_data(old, &len);
		memcpy(number, bytes, len);
		g_snprintf(number, sizeof number, "%06d", atoi(number) + 1);
		next = text(number);
		if (firn_store_put(store, "counter", next, FIRN_PUT_IF_MATCH, &version, NULL,
				   &error))
			done++;
		else
			g_assert(g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT));
	}
	return NULL;
}

START_TEST(put__racing_threads__no_update_lost)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	pthread_t threads[RACERS];
	g_autofree char *wanted = g_strdup_printf("%06d", RACERS * ROUNDS);

	put(store, "counter", "000000");
	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, increment, store), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	assert_content(store, "counter", wanted);
}
END_TEST

START_TEST(put__racing_processes__no_update_lost)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	g_autofree char *wanted = g_strdup_printf("%06d", RACERS * ROUNDS);
	g_autofree char *left = NULL;
	pid_t children[RACERS];

	put(store, "counter", "000000");
	for (int i = 0; i < RACERS; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			FirnStore *own = firn_store_open(root, false, NULL);

			increment(own);
			firn_store_free(own);
			_exit(0);
		}
	}
	for (int i = 0; i < RACERS; i++) {
		int status;

		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
	assert_content(store, "counter", wanted);
	left = listing(store, "");
	ck_assert_str_eq(left, "counter:6 firn/lock:0");
}
END_TEST

static void *
create_once(void *data)
{
	FirnStore *store = data;
	uintptr_t won = 0;

	for (int i = 0; i < 20; i++) {
		g_autofree char *key = g_strdup_printf("deep/er/%d", i);
		g_autoptr(GBytes) bytes = text("x");
		g_autoptr(GError) error = NULL;

		if (firn_store_put(store, key, bytes, FIRN_PUT_IF_ABSENT, NULL, NULL, &error))
			won++;
		else
			g_assert(g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT));
	}
	return (void *)won;
}

START_TEST(put__racing_creators__one_wins_each)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	pthread_t threads[RACERS];
	uintptr_t total = 0;

	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, create_once, store), 0);
	for (int i = 0; i < RACERS; i++) {
		void *won;

		pthread_join(threads[i], &won);
		total += (uintptr_t)won;
	}
	ck_assert_uint_eq(total, 20);
}
END_TEST

/* ---- fault store ---- */

/* One of each call; false at the first failure, with nothing left open. */
static bool
work(FirnStore *store, GError **error)
{
	g_autoptr(GBytes) data = text("abc");
	g_autoptr(GBytes) read = NULL;
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	const char *const synced[] = { "w" };
	FirnStoreWriter *writer;
	FirnVersion version;
	char buffer[4];
	size_t n;
	int fd;

	if (!firn_store_put(store, "k", data, FIRN_PUT_ANY, NULL, &version, error) ||
	    !firn_store_copy(store, "k", "copy", &version, error) ||
	    !firn_store_get(store, "k", 0, 3, &read, NULL, error) ||
	    !firn_store_stat(store, "k", NULL, NULL, NULL, error) ||
	    !firn_store_list(store, "", count, keys, error) ||
	    !firn_store_remove(store, "copy", error))
		return false;
	fd = firn_store_open_fd(store, "k", error);
	if (fd < 0)
		return false;
	close(fd);
	writer = firn_store_writer_open(store, "w", error);
	if (writer == NULL)
		return false;
	if (!firn_store_writer_write(writer, 0, "abc", 3, error) ||
	    !firn_store_writer_read(writer, 0, buffer, 3, &n, error) ||
	    !firn_store_writer_truncate(writer, 2, error) ||
	    !firn_store_writer_finish(writer, false, error)) {
		firn_store_writer_abort(writer);
		return false;
	}
	return firn_store_sync(store, synced, 1, error) && firn_store_remove(store, "w", error);
}

START_TEST(fault__each_call_in_turn__fails_with_its_errno)
{
	static const struct {
		int errnum;
		FirnError code;
	} cases[] = { { ENOSPC, FIRN_ERROR_NO_SPACE },
		      { EDQUOT, FIRN_ERROR_QUOTA },
		      { EROFS, FIRN_ERROR_READ_ONLY },
		      { EACCES, FIRN_ERROR_DENIED },
		      { EIO, FIRN_ERROR_STORE } };
	g_autoptr(FirnStore) store = open_variant(1);
	uint64_t calls;

	ck_assert(work(store, NULL));
	calls = firn_fault_calls(store);
	ck_assert_uint_eq(calls, 14);
	for (uint64_t at = 0; at <= calls; at++) {
		g_autoptr(GError) error = NULL;
		size_t i = at % G_N_ELEMENTS(cases);

		ck_assert(firn_store_remove(store, "copy", NULL));
		firn_fault_arm(store, at, 1, cases[i].errnum);
		if (at == calls) {
			ck_assert(work(store, &error));
			continue;
		}
		ck_assert(!work(store, &error));
		ck_assert_error(error, FIRN_ERROR, cases[i].code);
		ck_assert(firn_store_remove(store, "w", NULL));
	}
}
END_TEST

START_TEST(fault__finish_fails__writer_stays_usable)
{
	g_autoptr(FirnStore) store = open_variant(1);
	FirnStoreWriter *writer = firn_store_writer_open(store, "w", NULL);

	firn_fault_arm(store, 0, 2, ENOSPC);
	ck_assert(!firn_store_writer_finish(writer, true, NULL));
	ck_assert(!firn_store_writer_finish(writer, true, NULL));
	ck_assert(firn_store_writer_write(writer, 0, "abc", 3, NULL));
	ck_assert(firn_store_writer_finish(writer, true, NULL));
	assert_content(store, "w", "abc");
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("store");
	TCase *contract = tcase_create("contract");
	TCase *races = tcase_create("races");
	TCase *other = tcase_create("other");

	tcase_add_checked_fixture(contract, setup, teardown);
	tcase_add_loop_test(contract, get__missing_object__is_an_answer, 0, 2);
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
	tcase_add_loop_test(contract, put__read_only_directory__is_denied, 0, 2);
	suite_add_tcase(s, contract);

	tcase_add_checked_fixture(races, setup, teardown);
	tcase_set_timeout(races, 120);
	tcase_add_loop_test(races, put__racing_threads__no_update_lost, 0, 2);
	tcase_add_test(races, put__racing_processes__no_update_lost);
	tcase_add_test(races, put__racing_creators__one_wins_each);
	suite_add_tcase(s, races);

	tcase_add_checked_fixture(other, setup, teardown);
	tcase_add_test(other, open__urls__parse);
	tcase_add_test(other, open__bad_urls__say_why);
	tcase_add_test(other, fault__each_call_in_turn__fails_with_its_errno);
	tcase_add_test(other, fault__finish_fails__writer_stays_usable);
	suite_add_tcase(s, other);
	return s;
}

TEST_MAIN(make_suite)
