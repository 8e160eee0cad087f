#include "core/store/fault.h"
#include "tests/unit/view_fixture.h"

#include <sys/stat.h>

/* Chunks of some KiB share an object: core/view/pack.h. */

#define SIZE 8192

static char *
chunk_path(unsigned i)
{
	return g_strdup_printf("/main/a/c/%u", i);
}

/* The bytes of one chunk, no two alike. */
static char *
bytes_of(unsigned i, size_t len)
{
	char *bytes = g_strnfill(len, (char)('a' + i % 26));

	g_snprintf(bytes, len, "%u", i);
	bytes[strlen(bytes)] = '.';
	return bytes;
}

static int
put_chunk(unsigned i, unsigned what, size_t len)
{
	g_autofree char *path = chunk_path(i);
	g_autofree char *bytes = bytes_of(what, len);

	return put(path, bytes, len);
}

static void
assert_chunk(unsigned i, unsigned what, size_t len)
{
	g_autofree char *path = chunk_path(i);
	g_autofree char *want = bytes_of(what, len);
	g_autofree char *got = get(path);

	ck_assert_str_eq(got, want);
}

static void
make_array_of_many(void)
{
	ck_assert_int_eq(make_dir("/main/a"), 0);
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(5000)), 0);
	ck_assert_int_eq(make_dir("/main/a/c"), 0);
}

static uint64_t
blocks_used(void)
{
	g_autofree char *path = g_strconcat(root, "/repo/chunks", NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	uint64_t n = 0;
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *object = g_build_filename(path, name, NULL);
		struct stat st;

		ck_assert_int_eq(stat(object, &st), 0);
		n += (uint64_t)st.st_blocks * 512;
	}
	return n;
}

/* What a chunk's attribute says of its object. */
static char *
ref_of(unsigned i)
{
	g_autofree char *path = chunk_path(i);
	struct stat attr;
	char *value = NULL;

	ck_assert_int_eq(walk(path, &attr), 0);
	ck_assert_int_eq(firn_view_getxattr(view, attr.st_ino, "user.firn.ref", &value), 0);
	return value;
}

/* The kernel knows nothing of it any more. */
static void
forget(unsigned i)
{
	g_autofree char *path = chunk_path(i);
	struct stat attr;

	ck_assert_int_eq(walk(path, &attr), 0);
	firn_view_forget(view, attr.st_ino, 1000);
}

START_TEST(write__chunks_of_some_kib__share_an_object)
{
	static const size_t sizes[] = { 513, 600, 3000, 4095, 4096, 5000, 16384, 65536 };

	make_array_of_many();
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
		ck_assert_int_eq(put_chunk(i, i, sizes[i]), 0);
	ck_assert_uint_eq(count_objects(), 1);
	/* Inline, and too large. */
	ck_assert_int_eq(put_chunk(20, 20, 512), 0);
	ck_assert_uint_eq(count_objects(), 1);
	ck_assert_int_eq(put_chunk(21, 21, 65537), 0);
	ck_assert_uint_eq(count_objects(), 2);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_autofree char *ref = ref_of(i);

		assert_chunk(i, i, sizes[i]);
		/* "native ID OFFSET LENGTH" */
		ck_assert_ptr_nonnull(strchr(ref + strlen("native "), ' '));
	}
	restart();
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
		assert_chunk(i, i, sizes[i]);
}
END_TEST

START_TEST(write__a_full_pack__is_followed_by_another)
{
	make_array_of_many();
	for (unsigned i = 0; i < 300; i++)
		ck_assert_int_eq(put_chunk(i, i, 16384), 0);
	ck_assert_uint_eq(count_objects(), 2);
	for (unsigned i = 0; i < 300; i += 7)
		assert_chunk(i, i, 16384);
}
END_TEST

static void *
write_some(void *data)
{
	unsigned from = GPOINTER_TO_UINT(data);

	for (unsigned i = from; i < from + 100; i++)
		ck_assert_int_eq(put_chunk(i, i, 600 + 37 * (size_t)i), 0);
	return NULL;
}

START_TEST(write__by_many_threads__each_has_its_place)
{
	pthread_t threads[6];

	make_array_of_many();
	for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
		gpointer from = GUINT_TO_POINTER(i * 100);

		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_some, from), 0);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_le(count_objects(), 3);
	for (unsigned i = 0; i < 100 * G_N_ELEMENTS(threads); i++)
		assert_chunk(i, i, 600 + 37 * (size_t)i);
}
END_TEST

START_TEST(replace__part_of_a_pack__only_its_space_is_given_back)
{
	uint64_t used;

	make_array_of_many();
	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(put_chunk(i, i, SIZE), 0);
	used = blocks_used();
	for (unsigned i = 2; i < 6; i++) {
		ck_assert_int_eq(put_chunk(i, 100 + i, 100), 0);
		forget(i);
	}
	/* Not before the records that replaced them are durable. */
	ck_assert_uint_eq(blocks_used(), used);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	ck_assert_uint_eq(blocks_used(), used - 4 * SIZE);
	for (unsigned i = 0; i < 8; i++)
		assert_chunk(i, i >= 2 && i < 6 ? 100 + i : i, i >= 2 && i < 6 ? 100 : SIZE);
}
END_TEST

START_TEST(replace__between_two_that_go__a_small_one_stays)
{
	make_array_of_many();
	/* It begins in the block of the first and ends before that of the last. */
	ck_assert_int_eq(put_chunk(0, 0, 5000), 0);
	ck_assert_int_eq(put_chunk(1, 1, 600), 0);
	ck_assert_int_eq(put_chunk(2, 2, 5000), 0);
	ck_assert_int_eq(put_chunk(0, 10, 10), 0);
	ck_assert_int_eq(put_chunk(2, 12, 10), 0);
	forget(0);
	forget(2);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	assert_chunk(1, 1, 600);
}
END_TEST

START_TEST(replace__with_a_reader__old_bytes_stay_as_long_as_that)
{
	g_autofree char *want = bytes_of(3, SIZE);
	g_autofree char *path = chunk_path(3);
	char buffer[SIZE + 1] = "";
	struct stat attr;
	uint64_t used;
	FirnFile *file;
	size_t got;

	make_array_of_many();
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(put_chunk(i, i, SIZE), 0);
	ck_assert_int_eq(walk(path, &attr), 0);
	ck_assert_int_eq(firn_view_open(view, attr.st_ino, O_RDONLY, 1, &file), 0);
	for (unsigned i = 0; i < 5; i++) {
		g_autofree char *name = chunk_path(i);

		ck_assert_int_eq(put_text("/main/a/c/t", "new"), 0);
		ck_assert_int_eq(move("/main/a/c/t", name), 0);
		if (i != 3)
			forget(i);
	}
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	used = blocks_used();
	ck_assert_int_eq(firn_view_read(view, file, buffer, SIZE, 0, &got), 0);
	ck_assert_uint_eq(got, SIZE);
	ck_assert_str_eq(buffer, want);
	firn_view_release(view, file);
	firn_view_forget(view, attr.st_ino, 1000);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	ck_assert_uint_lt(blocks_used(), used);
	assert_get(path, "new");
}
END_TEST

START_TEST(replace__all_of_a_closed_pack__it_goes)
{
	make_array_of_many();
	for (unsigned i = 0; i < 64; i++)
		ck_assert_int_eq(put_chunk(i, i, 65536), 0);
	ck_assert_uint_eq(count_objects(), 2);
	for (unsigned i = 0; i < 64; i++) {
		ck_assert_int_eq(put_chunk(i, i, 10), 0);
		forget(i);
	}
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	/* The current one is empty, and goes when it is no longer that. */
	ck_assert_uint_eq(count_objects(), 1);
	restart();
	ck_assert_uint_eq(count_objects(), 0);
}
END_TEST

START_TEST(give_away__pack__is_not_added_to_and_stays)
{
	g_autofree char *first = NULL;
	g_autofree char *second = NULL;

	make_array_of_many();
	ck_assert_int_eq(put_chunk(0, 0, SIZE), 0);
	first = ref_of(0);
	g_bytes_unref(firn_view_image(view));
	ck_assert_int_eq(put_chunk(1, 1, SIZE), 0);
	second = ref_of(1);
	ck_assert_uint_eq(count_objects(), 2);
	ck_assert(strncmp(first, second, strlen("native ") + FIRN_ID12_TEXT) != 0);
	/* What others may know stays, all of it. */
	ck_assert_int_eq(put_chunk(0, 2, 10), 0);
	ck_assert_int_eq(put_chunk(1, 3, 10), 0);
	forget(0);
	forget(1);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	ck_assert_uint_ge(blocks_used(), SIZE);
	restart();
	ck_assert_uint_eq(count_objects(), 1);
	ck_assert_uint_ge(blocks_used(), SIZE);
}
END_TEST

START_TEST(resume__old_pack__is_not_added_to)
{
	make_array_of_many();
	ck_assert_int_eq(put_chunk(0, 0, SIZE), 0);
	restart();
	ck_assert_int_eq(put_chunk(1, 1, SIZE), 0);
	ck_assert_uint_eq(count_objects(), 2);
	assert_chunk(0, 0, SIZE);
	assert_chunk(1, 1, SIZE);
}
END_TEST

START_TEST(link__chunk_in_a_pack__either_name_can_go)
{
	const char *name;
	struct stat source;
	struct stat attr;
	uint64_t parent;

	make_array_of_many();
	ck_assert_int_eq(put_chunk(0, 0, SIZE), 0);
	ck_assert_int_eq(put_chunk(1, 1, SIZE), 0);
	ck_assert_int_eq(walk("/main/a/c/0", &source), 0);
	parent = parent_of("/main/a/c/9", &name);
	ck_assert_int_eq(firn_view_link(view, source.st_ino, parent, name, &attr), 0);
	ck_assert_int_eq(put_chunk(0, 5, 10), 0);
	/* Another chunk of the pack is nobody's twin. */
	ck_assert_int_eq(put_chunk(1, 6, 10), 0);
	forget(0);
	forget(1);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	assert_chunk(9, 0, SIZE);
	ck_assert_uint_eq(blocks_used(), SIZE);
}
END_TEST

/* As setup(), on a store that fails when told. */
static FirnStore *
use_fault_store(void)
{
	g_autofree char *state = g_strconcat(root, "/state2", NULL);
	g_autofree char *path = g_strconcat(root, "/repo", NULL);
	GError *error = NULL;
	FirnStore *store = firn_fault_new(firn_store_open(path, false, &error));

	firn_view_free(view);
	firn_repo_free(repo);
	repo = firn_repo_open_store(store, &error);
	ck_assert_no_error(error);
	open_view(firn_session_start(repo, "main", state, &error));
	ck_assert_no_error(error);
	return store;
}

START_TEST(write__that_fails__is_told_and_harms_nobody)
{
	static const int errnums[] = { ENOSPC, EIO, EDQUOT };
	FirnStore *store = use_fault_store();

	make_array_of_many();
	ck_assert_int_eq(put_chunk(0, 0, SIZE), 0);
	/* The write, and what it is told late. */
	for (unsigned at = 0; at < 2; at++)
		for (unsigned i = 0; i < G_N_ELEMENTS(errnums); i++) {
			firn_fault_arm(store, at, 2, errnums[i]);
			ck_assert_int_eq(put_chunk(1, 1, SIZE), errnums[i]);
			firn_fault_arm(store, 0, 0, 0);
			assert_chunk(0, 0, SIZE);
			ck_assert_int_eq(put_chunk(2, 10 * at + i, SIZE), 0);
			assert_chunk(2, 10 * at + i, SIZE);
		}
	/* The pack cannot be made. */
	g_bytes_unref(firn_view_image(view));
	firn_fault_arm(store, 0, 2, ENOSPC);
	ck_assert_int_eq(put_chunk(3, 3, SIZE), ENOSPC);
	firn_fault_arm(store, 0, 0, 0);
	ck_assert_int_eq(put_chunk(3, 3, SIZE), 0);
	assert_chunk(3, 3, SIZE);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
}
END_TEST

START_TEST(sync__chunks_of_a_pack__are_one_object)
{
	FirnStore *store = use_fault_store();
	uint64_t calls;

	make_array_of_many();
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(put_chunk(i, i, SIZE), 0);
	/* Not by the second's thread meanwhile. */
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	calls = firn_fault_calls(store);
	ck_assert_int_eq(put_chunk(0, 7, SIZE), 0);
	ck_assert_int_eq(put_chunk(1, 8, SIZE), 0);
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	/* Two writes and what they are told late, one sync, and at most two that free. */
	ck_assert_uint_le(firn_fault_calls(store) - calls, 7);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("pack");
	TCase *tcase = tcase_create("pack");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, write__chunks_of_some_kib__share_an_object);
	tcase_add_test(tcase, write__a_full_pack__is_followed_by_another);
	tcase_add_test(tcase, write__by_many_threads__each_has_its_place);
	tcase_add_test(tcase, replace__part_of_a_pack__only_its_space_is_given_back);
	tcase_add_test(tcase, replace__between_two_that_go__a_small_one_stays);
	tcase_add_test(tcase, replace__with_a_reader__old_bytes_stay_as_long_as_that);
	tcase_add_test(tcase, replace__all_of_a_closed_pack__it_goes);
	tcase_add_test(tcase, give_away__pack__is_not_added_to_and_stays);
	tcase_add_test(tcase, resume__old_pack__is_not_added_to);
	tcase_add_test(tcase, link__chunk_in_a_pack__either_name_can_go);
	tcase_add_test(tcase, write__that_fails__is_told_and_harms_nobody);
	tcase_add_test(tcase, sync__chunks_of_a_pack__are_one_object);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
