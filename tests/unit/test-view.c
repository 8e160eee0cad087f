#include "tests/unit/view_fixture.h"

/* ---- tests ---- */

START_TEST(rename__temp_to_final__publishes)
{
	ck_assert_int_eq(make_dir("/main/a"), 0);
	ck_assert_int_eq(put_text("/main/a/zarr.0a.partial", ARRAY(4)), 0);
	assert_list("/main/a", "");
	ck_assert_int_eq(move("/main/a/zarr.0a.partial", "/main/a/zarr.json"), 0);
	assert_get("/main/a/zarr.json", ARRAY(4));
	ck_assert_int_eq(make_dir("/main/a/c"), 0);
	ck_assert_int_eq(put_text("/main/a/c/1.0b.partial", "y"), 0);
	ck_assert_int_eq(move("/main/a/c/1.0b.partial", "/main/a/c/1"), 0);
	assert_get("/main/a/c/1", "y");
	assert_list("/main/a", "c zarr.json ");
	assert_list("/main/a/c", "1 ");
	assert_state("1 nodes, 1 chunks, 0 pending, 0 scratch");
}
END_TEST

START_TEST(rename__chunk_to_another_name__keeps_its_object)
{
	g_autofree char *big = g_strnfill(3000, 'b');
	g_autofree char *other = g_strnfill(2000, 'o');
	static const char *const names[] = { "/main/a/c/1", "/main/a/c/note", "/main/a/c/3",
					     "/main/a/c/0" };

	make_array();
	ck_assert_int_eq(put_text("/main/a/c/0", big), 0);
	ck_assert_uint_eq(count_objects(), 1);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		ck_assert_int_eq(move(i == 0 ? "/main/a/c/0" : names[i - 1], names[i]), 0);
		touch_and_forget(names[i]);
		assert_get(names[i], big);
		ck_assert_uint_eq(count_objects(), 1);
	}
	ck_assert_int_eq(move("/main/a/c/0", "/main/a/c/note"), 0);
	ck_assert_int_eq(put_text("/main/a/c/note", other), 0);
	ck_assert_int_eq(move("/main/a/c/note", "/main/a/c/1"), 0);
	touch_and_forget("/main/a/c/1");
	assert_get("/main/a/c/1", other);
	/* A replaced object goes when its replacement is durable. */
	ck_assert_int_eq(firn_view_fsync_all(view), 0);
	ck_assert_uint_eq(count_objects(), 1);
	ck_assert_int_eq(move("/main/a/c/1", "/main/a/c/77"), 0);
	touch_and_forget("/main/a/c/77");
	ck_assert_int_eq(move("/main/a/c/77", "/main/a/c/2"), 0);
	touch_and_forget("/main/a/c/2");
	assert_get("/main/a/c/2", other);
	restart();
	assert_get("/main/a/c/2", other);
}
END_TEST

START_TEST(rename__chunk_after_its_journal_was_given_away__object_stays)
{
	g_autofree char *big = g_strnfill(3000, 'b');

	make_array();
	ck_assert_int_eq(put_text("/main/a/c/0", big), 0);
	ck_assert_int_eq(move("/main/a/c/0", "/main/a/c/1"), 0);
	g_bytes_unref(firn_view_image(view));
	ck_assert_int_eq(put_text("/main/a/c/1", "small"), 0);
	touch_and_forget("/main/a/c/1");
	ck_assert_uint_eq(count_objects(), 1);
}
END_TEST

START_TEST(link__of_a_large_temporary_file__every_name_keeps_the_bytes)
{
	g_autofree char *big = g_strnfill(300000, 'b');
	const char *name;
	struct stat source;
	struct stat attr;
	uint64_t parent;

	make_array();
	ck_assert_int_eq(put_text("/main/a/c/1#1", big), 0);
	ck_assert_int_eq(walk("/main/a/c/1#1", &source), 0);
	parent = parent_of("/main/a/c/1#2", &name);
	ck_assert_int_eq(firn_view_link(view, source.st_ino, parent, name, &attr), 0);
	ck_assert_int_eq(drop("/main/a/c/1#1"), 0);
	firn_view_forget(view, source.st_ino, 1000);
	ck_assert_int_eq(move("/main/a/c/1#2", "/main/a/c/1"), 0);
	touch_and_forget("/main/a/c/1");
	assert_get("/main/a/c/1", big);
	ck_assert_uint_eq(count_objects(), 1);
}
END_TEST

START_TEST(create__chunk_before_document__is_adopted)
{
	ck_assert_int_eq(make_dir("/main/a"), 0);
	ck_assert_int_eq(make_dir("/main/a/c"), 0);
	ck_assert_int_eq(put_text("/main/a/c/1", "y"), 0);
	ck_assert_int_eq(put_text("/main/a/c/9", "far"), 0);
	assert_state("0 nodes, 0 chunks, 2 pending, 0 scratch");
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(4)), 0);
	assert_state("1 nodes, 1 chunks, 1 pending, 0 scratch");
	assert_get("/main/a/c/1", "y");
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(20)), 0);
	assert_state("1 nodes, 2 chunks, 0 pending, 0 scratch");
	assert_list("/main/a/c", "1 9 ");
}
END_TEST

START_TEST(restart__everything_closed_is_there)
{
	make_array();
	ck_assert_int_eq(make_dir("/main/b"), 0);
	ck_assert_int_eq(make_dir("/main/b/c"), 0);
	ck_assert_int_eq(put_text("/main/b/c/0", "pending"), 0);
	ck_assert_int_eq(drop("/main/a/c/2"), 0);
	restart();
	assert_get("/main/a/zarr.json", ARRAY(4));
	assert_get("/main/a/c/0", "x");
	assert_get("/main/a/c/2", "(missing)");
	assert_get("/main/b/c/0", "pending");
	assert_list("/main", "a b ");
	assert_list("/main/a/c", "0 ");
	assert_state("1 nodes, 1 chunks, 1 pending, 0 scratch");
}
END_TEST

START_TEST(remove__whole_tree__root_can_be_made_again)
{
	make_array();
	ck_assert_int_eq(drop_dir("/main"), ENOTEMPTY);
	ck_assert_int_eq(drop("/main/a/zarr.json"), 0);
	assert_get("/main/a/c/0", "x");
	ck_assert_int_eq(drop_dir("/main/a"), ENOTEMPTY);
	ck_assert_int_eq(drop("/main/a/c/0"), 0);
	ck_assert_int_eq(drop("/main/a/c/2"), 0);
	ck_assert_int_eq(drop("/main/a/c/2"), ENOENT);
	ck_assert_int_eq(drop_dir("/main/a/c"), 0);
	ck_assert_int_eq(drop_dir("/main/a"), 0);
	ck_assert_int_eq(drop_dir("/main"), 0);
	assert_list("/", "");
	ck_assert_int_eq(make_dir("/main"), 0);
	assert_list("/main", "");
	assert_state("0 nodes, 0 chunks, 0 pending, 0 scratch");
}
END_TEST

START_TEST(document__malformed__is_refused_and_old_one_stays)
{
	make_array();
	ck_assert_int_eq(put_text("/main/a/zarr.json", "{\"node_type\":"), EINVAL);
	assert_get("/main/a/zarr.json", ARRAY(4));
	ck_assert_int_eq(put_text("/main/a/t", "{}"), 0);
	ck_assert_int_eq(move("/main/a/t", "/main/a/zarr.json"), EINVAL);
	assert_get("/main/a/zarr.json", ARRAY(4));
	ck_assert_int_eq(make_dir("/main/a/sub"), 0);
	ck_assert_int_eq(put_text("/main/a/sub/zarr.json", GROUP), EINVAL);
	ck_assert_int_eq(put_text("/main/a/.zarray", "{}"), EPERM);
	ck_assert_int_eq(put_text("/main/a/zarr.json", GROUP), EINVAL);
	assert_get("/main/a/zarr.json", ARRAY(4));
}
END_TEST

START_TEST(document__shrunk_and_grown__old_chunks_stay_gone)
{
	make_array();
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(1)), 0);
	assert_get("/main/a/c/2", "(missing)");
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(4)), 0);
	assert_get("/main/a/c/2", "(missing)");
	assert_get("/main/a/c/0", "x");
}
END_TEST

START_TEST(write__in_place__copies_and_reads_back)
{
	const size_t len = 600 * 1024;
	g_autofree char *big = g_malloc0(len + 1);
	struct stat attr;
	FirnFile *file;

	make_array();
	memset(big, 'b', len);
	ck_assert_int_eq(put("/main/a/c/1", big, len), 0);
	assert_get("/main/a/c/1", big);
	ck_assert_int_eq(walk("/main/a/c/1", &attr), 0);
	ck_assert_int_eq(firn_view_open(view, attr.st_ino, O_RDWR, 1, &file), 0);
	ck_assert_int_eq(firn_view_write(view, file, "Q", 1, 1000), 0);
	ck_assert_int_eq(firn_view_fsync(view, file), 0);
	firn_view_release(view, file);
	big[1000] = 'Q';
	assert_get("/main/a/c/1", big);
	restart();
	assert_get("/main/a/c/1", big);
}
END_TEST

START_TEST(replace__open_reader__goes_on_reading_old_bytes)
{
	char buffer[8] = "";
	struct stat attr;
	FirnFile *file;
	size_t got;

	make_array();
	ck_assert_int_eq(walk("/main/a/c/0", &attr), 0);
	ck_assert_int_eq(firn_view_open(view, attr.st_ino, O_RDONLY, 1, &file), 0);
	ck_assert_int_eq(put_text("/main/a/c/t", "new"), 0);
	ck_assert_int_eq(move("/main/a/c/t", "/main/a/c/0"), 0);
	ck_assert_int_eq(firn_view_read(view, file, buffer, sizeof buffer, 0, &got), 0);
	ck_assert_uint_eq(got, 1);
	ck_assert_int_eq(buffer[0], 'x');
	firn_view_release(view, file);
	assert_get("/main/a/c/0", "new");
}
END_TEST

START_TEST(link__to_final__copies_and_refuses_existing)
{
	struct stat attr;
	struct stat dir;
	struct stat made;

	ck_assert_int_eq(put_text("/main/zarr.0c.partial", GROUP), 0);
	ck_assert_int_eq(walk("/main/zarr.0c.partial", &attr), 0);
	ck_assert_int_eq(walk("/main", &dir), 0);
	ck_assert_int_eq(firn_view_link(view, attr.st_ino, dir.st_ino, "zarr.json", &made), 0);
	ck_assert_int_eq(firn_view_link(view, attr.st_ino, dir.st_ino, "zarr.json", &made), EEXIST);
	ck_assert_int_eq(drop("/main/zarr.0c.partial"), 0);
	assert_get("/main/zarr.json", GROUP);
	assert_state("1 nodes, 0 chunks, 0 pending, 0 scratch");
}
END_TEST

START_TEST(rename__directory_made_here__moves_nodes)
{
	make_array();
	ck_assert_int_eq(make_dir("/main/g"), 0);
	ck_assert_int_eq(move("/main/a", "/main/g/b"), 0);
	assert_get("/main/g/b/c/2", "z");
	assert_list("/main", "g ");
	ck_assert_int_eq(move("/main/g/b/c", "/main/c"), EXDEV);
	restart();
	assert_get("/main/g/b/zarr.json", ARRAY(4));
	assert_get("/main/g/b/c/0", "x");
}
END_TEST

START_TEST(truncate__to_nothing__becomes_pending)
{
	make_array();
	ck_assert_int_eq(put_text("/main/a/c/0", ""), 0);
	assert_state("1 nodes, 1 chunks, 1 pending, 0 scratch");
	ck_assert_int_eq(put_text("/main/a/c/0", "again"), 0);
	assert_state("1 nodes, 2 chunks, 0 pending, 0 scratch");
	assert_get("/main/a/c/0", "again");
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("view");
	TCase *tcase = tcase_create("view");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, rename__temp_to_final__publishes);
	tcase_add_test(tcase, rename__chunk_to_another_name__keeps_its_object);
	tcase_add_test(tcase, rename__chunk_after_its_journal_was_given_away__object_stays);
	tcase_add_test(tcase, link__of_a_large_temporary_file__every_name_keeps_the_bytes);
	tcase_add_test(tcase, create__chunk_before_document__is_adopted);
	tcase_add_test(tcase, restart__everything_closed_is_there);
	tcase_add_test(tcase, remove__whole_tree__root_can_be_made_again);
	tcase_add_test(tcase, document__malformed__is_refused_and_old_one_stays);
	tcase_add_test(tcase, document__shrunk_and_grown__old_chunks_stay_gone);
	tcase_add_test(tcase, write__in_place__copies_and_reads_back);
	tcase_add_test(tcase, replace__open_reader__goes_on_reading_old_bytes);
	tcase_add_test(tcase, link__to_final__copies_and_refuses_existing);
	tcase_add_test(tcase, rename__directory_made_here__moves_nodes);
	tcase_add_test(tcase, truncate__to_nothing__becomes_pending);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
