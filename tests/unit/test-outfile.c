#include "core/base/error.h"
#include "core/base/outfile.h"
#include "tests/unit/harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *root;

static void
setup(void)
{
	root = g_dir_make_tmp("firn-outfile-XXXXXX", NULL);
}

static void
teardown(void)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);

	ck_assert_int_eq(system(command), 0);
	g_clear_pointer(&root, g_free);
}

static bool
write_file(const char *path, const char *text, mode_t mode, bool whole, GError **error)
{
	FirnSpan bytes = { (const uint8_t *)text, strlen(text) };
	FirnOutfile file;

	if (!firn_outfile_open(&file, path, mode, error))
		return false;
	ck_assert(firn_outfile_write(&file, bytes, error));
	ck_assert(firn_outfile_write(&file, bytes, error));
	return firn_outfile_end(&file, whole, error);
}

static void
check_file(const char *path, const char *wanted)
{
	g_autofree char *text = NULL;

	ck_assert(g_file_get_contents(path, &text, NULL, NULL));
	ck_assert_str_eq(text, wanted);
}

static guint
n_files(void)
{
	GDir *dir = g_dir_open(root, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir) != NULL)
		n++;
	g_dir_close(dir);
	return n;
}

START_TEST(new__has_its_mode_and_all_bytes)
{
	g_autofree char *path = g_build_filename(root, "file", NULL);
	const mode_t mode = _i == 0 ? 0600 : 0644;
	g_autoptr(GError) error = NULL;
	struct stat st;

	ck_assert(write_file(path, "ab", mode, true, &error));
	ck_assert_no_error(error);
	check_file(path, "abab");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, mode);
	ck_assert_uint_eq(n_files(), 1);
}
END_TEST

START_TEST(there__replaced_when_whole_only)
{
	g_autofree char *path = g_build_filename(root, "file", NULL);
	g_autoptr(GError) error = NULL;

	ck_assert(g_file_set_contents(path, "old", -1, NULL));
	ck_assert(!write_file(path, "new", 0600, false, &error));
	check_file(path, "old");
	ck_assert_uint_eq(n_files(), 1);
	ck_assert(write_file(path, "new", 0600, true, &error));
	ck_assert_no_error(error);
	check_file(path, "newnew");
	ck_assert_uint_eq(n_files(), 1);
}
END_TEST

START_TEST(link_to_a_file__stays_and_the_file_is_replaced_when_whole_only)
{
	g_autofree char *path = g_build_filename(root, "file", NULL);
	g_autofree char *link = g_build_filename(root, "link", NULL);
	g_autoptr(GError) error = NULL;

	ck_assert(g_file_set_contents(path, "old", -1, NULL));
	ck_assert_int_eq(symlink("file", link), 0);
	ck_assert(!write_file(link, "new", 0600, false, &error));
	check_file(path, "old");
	ck_assert(write_file(link, "new", 0600, true, &error));
	check_file(path, "newnew");
	ck_assert(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
	ck_assert_uint_eq(n_files(), 2);
}
END_TEST

START_TEST(pipe_or_link_to_a_device__written_into)
{
	g_autofree char *path = g_build_filename(root, "there", NULL);
	g_autoptr(GError) error = NULL;
	char text[8] = "";
	struct stat before, after;
	int fd = -1;

	if (_i == 0) {
		ck_assert_int_eq(mkfifo(path, 0600), 0);
		fd = open(path, O_RDWR);
		ck_assert_int_ge(fd, 0);
	} else {
		ck_assert_int_eq(symlink("/dev/null", path), 0);
	}
	ck_assert_int_eq(lstat(path, &before), 0);
	ck_assert(write_file(path, "ab", 0644, true, &error));
	ck_assert_no_error(error);
	ck_assert_int_eq(lstat(path, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert_uint_eq(before.st_mode, after.st_mode);
	ck_assert_uint_eq(n_files(), 1);
	if (fd < 0)
		return;
	ck_assert_int_eq(read(fd, text, 4), 4);
	ck_assert_str_eq(text, "abab");
	close(fd);
}
END_TEST

START_TEST(directory_or_no_place__error)
{
	g_autofree char *path = g_build_filename(root, "no", "where", NULL);
	g_autofree char *link = g_build_filename(root, "link", NULL);
	g_autoptr(GError) error = NULL;

	ck_assert(!write_file(root, "x", 0600, true, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_STORE);
	g_clear_error(&error);
	ck_assert(!write_file(path, "x", 0600, true, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert_int_eq(symlink("nothing", link), 0);
	ck_assert(!write_file(link, "x", 0600, true, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("outfile");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_loop_test(tcase, new__has_its_mode_and_all_bytes, 0, 2);
	tcase_add_test(tcase, there__replaced_when_whole_only);
	tcase_add_test(tcase, link_to_a_file__stays_and_the_file_is_replaced_when_whole_only);
	tcase_add_loop_test(tcase, pipe_or_link_to_a_device__written_into, 0, 2);
	tcase_add_test(tcase, directory_or_no_place__error);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
