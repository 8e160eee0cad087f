#include "core/base/error.h"
#include "core/repo/session.h"
#include "core/view/view.h"
#include "tests/unit/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ARRAY(n)                                                                             \
	"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[" #n "],\"data_type\":"       \
	"\"uint8\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":" \
	"[1]}},\"chunk_key_encoding\":{\"name\":\"default\"},\"fill_value\":0,\"codecs\":["  \
	"{\"name\":\"bytes\"}],\"attributes\":{}}"
#define GROUP "{\"zarr_format\":3,\"node_type\":\"group\"}"

static char *root;
static FirnRepo *repo;
static FirnView *view;

static void
open_view(FirnSession *session)
{
	FirnViewOptions options = { .name = "main", .uid = getuid(), .gid = getgid() };

	view = firn_view_new(session, &options);
}

static void
setup(void)
{
	GError *error = NULL;
	g_autofree char *url = NULL;
	g_autofree char *state = NULL;
	FirnSession *session;

	root = g_dir_make_tmp("firn-view-XXXXXX", NULL);
	url = g_strconcat(root, "/repo", NULL);
	state = g_strconcat(root, "/state", NULL);
	ck_assert(firn_repo_create(url, &error));
	repo = firn_repo_open(url, &error);
	ck_assert_no_error(error);
	session = firn_session_start(repo, "main", state, &error);
	ck_assert_no_error(error);
	open_view(session);
}

static void
teardown(void)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);

	firn_view_free(view);
	firn_repo_free(repo);
	ck_assert_int_eq(system(command), 0);
	g_free(root);
}

/* Resume what is there, as after a crash. */
static void
restart(void)
{
	g_autofree char *state = g_strconcat(root, "/state", NULL);
	g_autoptr(GPtrArray) sessions = NULL;
	FirnSession *session;
	GError *error = NULL;

	firn_view_free(view);
	sessions = firn_state_list(state, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(sessions->len, 1);
	session = firn_session_resume(repo, sessions->pdata[0], &error);
	ck_assert_no_error(error);
	open_view(session);
}

/* ---- paths ---- */

static int
walk(const char *path, struct stat *out)
{
	g_auto(GStrv) parts = g_strsplit(path, "/", -1);
	uint64_t at = FIRN_INO_TOP;
	int failed = firn_view_getattr(view, at, NULL, out);

	for (char **part = parts; *part != NULL && failed == 0; part++) {
		if (**part == '\0')
			continue;
		failed = firn_view_lookup(view, at, *part, out);
		at = out->st_ino;
	}
	return failed;
}

static uint64_t
parent_of(const char *path, const char **out_name)
{
	g_autofree char *parent = g_path_get_dirname(path);
	struct stat attr;

	*out_name = strrchr(path, '/') + 1;
	ck_assert_int_eq(walk(parent, &attr), 0);
	return attr.st_ino;
}

static int
make_dir(const char *path)
{
	const char *name;
	struct stat attr;
	uint64_t parent = parent_of(path, &name);

	return firn_view_mkdir(view, parent, name, 0755, &attr);
}

/* Create or truncate, write, close; the error of whichever failed. */
static int
put(const char *path, const void *data, size_t len)
{
	const char *name;
	struct stat attr;
	FirnFile *file;
	uint64_t parent = parent_of(path, &name);
	int failed = firn_view_create(view, parent, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, 1,
				      &attr, &file);

	if (failed != 0)
		return failed;
	for (size_t at = 0; at < len && failed == 0; at += 65536)
		failed = firn_view_write(view, file, (const char *)data + at, MIN(65536, len - at),
					 at);
	if (failed == 0)
		failed = firn_view_flush(view, file);
	firn_view_release(view, file);
	return failed;
}

static int
put_text(const char *path, const char *text)
{
	return put(path, text, strlen(text));
}

static int
move(const char *from, const char *to)
{
	const char *from_name;
	const char *to_name;
	uint64_t from_parent = parent_of(from, &from_name);
	uint64_t to_parent = parent_of(to, &to_name);

	return firn_view_rename(view, from_parent, from_name, to_parent, to_name, 0);
}

static int
drop(const char *path)
{
	const char *name;
	uint64_t parent = parent_of(path, &name);

	return firn_view_unlink(view, parent, name);
}

static int
drop_dir(const char *path)
{
	const char *name;
	uint64_t parent = parent_of(path, &name);

	return firn_view_rmdir(view, parent, name);
}

static char *
get(const char *path)
{
	struct stat attr;
	FirnFile *file;
	char *buffer;
	size_t got;

	if (walk(path, &attr) != 0)
		return g_strdup("(missing)");
	ck_assert_int_eq(firn_view_open(view, attr.st_ino, O_RDONLY, 1, &file), 0);
	buffer = g_malloc0((size_t)attr.st_size + 1);
	ck_assert_int_eq(firn_view_read(view, file, buffer, (size_t)attr.st_size, 0, &got), 0);
	ck_assert_uint_eq(got, (size_t)attr.st_size);
	firn_view_release(view, file);
	return buffer;
}

static bool
add_name(const char *name, const struct stat *attr, uint64_t next, void *data)
{
	(void)attr;
	(void)next;
	if (name[0] != '.')
		g_string_append_printf(data, "%s ", name);
	return true;
}

static char *
list(const char *path)
{
	GString *names = g_string_new(NULL);
	FirnDirStream *dir;
	struct stat attr;

	ck_assert_int_eq(walk(path, &attr), 0);
	ck_assert_int_eq(firn_view_opendir(view, attr.st_ino, &dir), 0);
	ck_assert_int_eq(firn_view_readdir(view, dir, 0, false, add_name, names), 0);
	firn_view_closedir(view, dir);
	return g_string_free(names, FALSE);
}

#define assert_get(path, text)                     \
	do {                                       \
		g_autofree char *got_ = get(path); \
		ck_assert_str_eq(got_, text);      \
	} while (0)
#define assert_list(path, text)                     \
	do {                                        \
		g_autofree char *got_ = list(path); \
		ck_assert_str_eq(got_, text);       \
	} while (0)
#define assert_state(text)                                                                        \
	do {                                                                                      \
		g_autoptr(FirnViewStatus) status_ = firn_view_status(view);                       \
		g_autofree char *got_ =                                                           \
			g_strdup_printf("%u nodes, %u chunks, %u pending, %u scratch",            \
					status_->nodes->len, (unsigned)status_->n_changed_chunks, \
					status_->pending->len, status_->scratch->len);            \
		ck_assert_str_eq(got_, text);                                                     \
	} while (0)

static void
make_array(void)
{
	ck_assert_int_eq(make_dir("/main/a"), 0);
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(4)), 0);
	ck_assert_int_eq(make_dir("/main/a/c"), 0);
	ck_assert_int_eq(put_text("/main/a/c/0", "x"), 0);
	ck_assert_int_eq(put_text("/main/a/c/2", "z"), 0);
}

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

/* Files in the repository's folder of objects. */
static unsigned
count_objects(void)
{
	g_autofree char *path = g_strconcat(root, "/repo/chunks", NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	unsigned n = 0;

	while (dir != NULL && g_dir_read_name(dir) != NULL)
		n++;
	return n;
}

/* Open, close, and let the kernel forget: what was held back for readers goes. */
static void
touch_and_forget(const char *path)
{
	struct stat attr;
	g_autofree char *text = get(path);

	ck_assert_int_eq(walk(path, &attr), 0);
	firn_view_forget(view, attr.st_ino, 1000);
	ck_assert_ptr_nonnull(text);
}

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
