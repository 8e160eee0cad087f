#include "core/repo/shared.h"
#include "tests/unit/harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOM ((size_t)64 * 1024)

static char *root, *directory;
static FirnShared *shared;

static FirnShared *
open_shared(void)
{
	g_autoptr(GError) error = NULL;
	FirnShared *opened = firn_shared_open(directory, ROOM, &error);

	ck_assert_no_error(error);
	return opened;
}

static void
setup(void)
{
	root = g_dir_make_tmp("firn-shared-XXXXXX", NULL);
	directory = g_build_filename(root, "cache", NULL);
	shared = open_shared();
}

static void
teardown(void)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);

	g_clear_pointer(&shared, firn_shared_free);
	ck_assert_int_eq(system(command), 0);
	g_clear_pointer(&directory, g_free);
	g_clear_pointer(&root, g_free);
}

static guint
n_files(void)
{
	GDir *dir = g_dir_open(directory, 0, NULL);
	const char *name;
	guint n = 0;

	while ((name = g_dir_read_name(dir)) != NULL)
		n += g_str_has_prefix(name, "content-");
	g_dir_close(dir);
	return n;
}

/* As much of one byte. */
static GBytes *
content_of(uint8_t what, size_t len)
{
	uint8_t *bytes = g_malloc(len);

	memset(bytes, what, len);
	return g_bytes_new_take(bytes, len);
}

static bool
is_content(GBytes *content, uint8_t what, size_t len)
{
	g_autoptr(GBytes) wanted = content_of(what, len);

	return content != NULL && g_bytes_equal(content, wanted);
}

/* Takes `turn`.  NULL: there is no room. */
static GBytes *
put(FirnSharedTurn *turn, uint8_t what, size_t len)
{
	void *memory = NULL;
	g_autoptr(GBytes) made = firn_shared_make(turn, len, &memory);

	if (made == NULL) {
		firn_shared_turn_drop(turn);
		return NULL;
	}
	memset(memory, what, len);
	return firn_shared_publish(turn, made) ? g_steal_pointer(&made) : NULL;
}

/* Content that is not there yet: made, and mapped. */
static GBytes *
make(FirnShared *in, const char *name, uint8_t what, size_t len)
{
	FirnSharedTurn *turn;

	ck_assert_ptr_null(firn_shared_find(in, name, &turn));
	ck_assert_ptr_nonnull(turn);
	return put(turn, what, len);
}

static void
make_only(const char *name, uint8_t what, size_t len)
{
	g_autoptr(GBytes) made = make(shared, name, what, len);

	ck_assert(is_content(made, what, len));
}

static bool
is_found(FirnShared *in, const char *name, uint8_t what, size_t len)
{
	g_autoptr(GBytes) found = firn_shared_find(in, name, NULL);

	return is_content(found, what, len);
}

static char *
path_of(const char *name)
{
	return g_build_filename(directory, name, NULL);
}

START_TEST(put__others_find_the_same_memory)
{
	FirnShared *other = open_shared();
	g_autoptr(GBytes) made = make(shared, "content-1", 7, 5000);
	g_autoptr(GBytes) found = firn_shared_find(other, "content-1", NULL);

	ck_assert(is_content(made, 7, 5000));
	ck_assert(is_content(found, 7, 5000));
	ck_assert_uint_eq((uintptr_t)g_bytes_get_data(found, NULL) % 8, 0);
	ck_assert_ptr_null(firn_shared_find(other, "content-2", NULL));
	firn_shared_free(other);
}
END_TEST

START_TEST(put__name_is_made_of_the_file_as_it_is)
{
	g_autofree char *path = g_build_filename(root, "object", NULL);
	g_autofree char *first = NULL, *same = NULL, *later = NULL;
	uint64_t size = 0;
	int fd;

	ck_assert(g_file_set_contents(path, "one", -1, NULL));
	fd = open(path, O_RDWR | O_CLOEXEC);
	first = firn_shared_name(fd, &size);
	same = firn_shared_name(fd, &size);
	ck_assert_uint_eq(size, 3);
	ck_assert_str_eq(first, same);
	g_usleep(20000);
	ck_assert_int_eq(pwrite(fd, "two", 3, 0), 3);
	later = firn_shared_name(fd, &size);
	ck_assert_str_ne(first, later);
	close(fd);
	ck_assert_ptr_null(firn_shared_name(-1, &size));
}
END_TEST

/* What may have become of a file: cut off, empty, other bytes, another's name, no file. */
START_TEST(find__damaged__made_again)
{
	g_autofree char *path = path_of("content-1");
	g_autofree char *other = path_of("content-2");
	g_autofree char *text = NULL;
	gsize len;

	make_only("content-1", 7, 5000);
	switch (_i) {
	case 0:
		ck_assert_int_eq(truncate(path, 4096), 0);
		break;
	case 1:
		ck_assert_int_eq(truncate(path, 0), 0);
		break;
	case 2:
		ck_assert(g_file_get_contents(path, &text, &len, NULL));
		text[100] ^= 1;
		ck_assert(g_file_set_contents(path, text, (gssize)len, NULL));
		break;
	case 3:
		make_only("content-2", 8, 5000);
		ck_assert_int_eq(g_rename(other, path), 0);
		break;
	case 4:
		ck_assert_int_eq(g_unlink(path), 0);
		ck_assert_int_eq(symlink("users", path), 0);
		break;
	default:
		ck_assert_int_eq(truncate(path, 1 << 20), 0);
		break;
	}
	make_only("content-1", 9, 5000);
	ck_assert(is_found(shared, "content-1", 9, 5000));
}
END_TEST

/* What lies elsewhere is not what others find. */
START_TEST(publish__other_memory__nothing)
{
	g_autoptr(GBytes) elsewhere = content_of(7, 5000);
	FirnSharedTurn *turn;
	void *memory;

	ck_assert_ptr_null(firn_shared_find(shared, "content-1", &turn));
	ck_assert(!firn_shared_publish(turn, elsewhere));
	ck_assert_ptr_null(firn_shared_find(shared, "content-1", &turn));
	{
		g_autoptr(GBytes) made = firn_shared_make(turn, 5000, &memory);

		ck_assert(!firn_shared_publish(turn, elsewhere));
	}
	ck_assert_uint_eq(n_files(), 0);
}
END_TEST

START_TEST(put__no_room__longest_unused_goes)
{
	g_autoptr(GBytes) held = make(shared, "content-1", 1, 20000);

	make_only("content-2", 2, 20000);
	make_only("content-3", 3, 8000);
	ck_assert_uint_eq(n_files(), 3);
	ck_assert(is_found(shared, "content-1", 1, 20000));
	make_only("content-4", 4, 20000);
	ck_assert(!is_found(shared, "content-2", 2, 20000));
	ck_assert(is_found(shared, "content-1", 1, 20000));
	ck_assert(is_found(shared, "content-3", 3, 8000));
	make_only("content-5", 5, 30000);
	make_only("content-6", 6, 30000);
	ck_assert(!is_found(shared, "content-1", 1, 20000));
	/* Who maps it keeps it. */
	ck_assert(is_content(held, 1, 20000));
	/* More than half of the room is nobody's. */
	ck_assert_ptr_null(make(shared, "content-7", 7, ROOM / 2 + 1));
	ck_assert(is_found(shared, "content-6", 6, 30000));
}
END_TEST

START_TEST(turn__one_at_a_time)
{
	FirnShared *other = open_shared();
	FirnSharedTurn *mine, *theirs;
	gint64 began;

	ck_assert_ptr_null(firn_shared_find(shared, "content-1", &mine));
	ck_assert_ptr_nonnull(mine);
	/* Whoever waits in vain does without. */
	began = g_get_monotonic_time();
	ck_assert_ptr_null(firn_shared_find(other, "content-1", &theirs));
	ck_assert_ptr_null(theirs);
	ck_assert_int_ge(g_get_monotonic_time() - began, 90000);
	firn_shared_turn_drop(mine);
	ck_assert_ptr_null(firn_shared_find(other, "content-1", &theirs));
	ck_assert_ptr_nonnull(theirs);
	firn_shared_turn_drop(theirs);
	ck_assert_uint_eq(n_files(), 0);
	firn_shared_free(other);
}
END_TEST

static void *
put_late(void *data)
{
	g_autoptr(GBytes) made = NULL;

	g_usleep(20000);
	made = put(data, 7, 5000);
	return made != NULL ? data : NULL;
}

START_TEST(turn__who_waits_finds)
{
	FirnShared *other = open_shared();
	FirnSharedTurn *mine, *theirs;
	g_autoptr(GBytes) found = NULL;
	pthread_t thread;
	void *done;

	ck_assert_ptr_null(firn_shared_find(shared, "content-1", &mine));
	pthread_create(&thread, NULL, put_late, mine);
	found = firn_shared_find(other, "content-1", &theirs);
	pthread_join(thread, &done);
	ck_assert_ptr_nonnull(done);
	ck_assert(is_content(found, 7, 5000));
	ck_assert_ptr_null(theirs);
	firn_shared_free(other);
}
END_TEST

/* A process that is killed in the middle of its turn. */
static void
die_in_turn(const char *name)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		FirnShared *own = firn_shared_open(directory, ROOM, NULL);
		g_autofree char *unfinished = g_strconcat(directory, "/", name, ".new", NULL);
		FirnSharedTurn *turn;

		if (own != NULL && firn_shared_find(own, name, &turn) == NULL && turn != NULL &&
		    truncate(unfinished, 3000) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

START_TEST(turn__killed__another_one_has_it)
{
	die_in_turn("content-1");
	die_in_turn("content-2");
	ck_assert_uint_eq(n_files(), 2);
	make_only("content-1", 7, 5000);
	ck_assert(is_found(shared, "content-1", 7, 5000));
	/* What the other one left went when there was to be room. */
	ck_assert_uint_eq(n_files(), 1);
}
END_TEST

#define THREADS 8

static void *
hammer(void *data)
{
	FirnShared *own = open_shared();
	size_t *failures = data;

	for (unsigned i = 0; i < 200; i++) {
		uint8_t what = (uint8_t)(i * 7 % 13);
		g_autofree char *name = g_strdup_printf("content-%u", what);
		FirnSharedTurn *turn;
		g_autoptr(GBytes) found = firn_shared_find(own, name, &turn);

		if (turn != NULL)
			found = put(turn, what, 9000);
		/* Who has to wait for too long does without. */
		if (found != NULL && !is_content(found, what, 9000))
			__atomic_add_fetch(failures, 1, __ATOMIC_SEQ_CST);
	}
	firn_shared_free(own);
	return NULL;
}

START_TEST(many_at_once__nobody_has_anything_else)
{
	pthread_t threads[THREADS];
	size_t failures = 0;

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, hammer, &failures);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(failures, 0);
	ck_assert_uint_gt(n_files(), 0);
	ck_assert_uint_le(n_files(), 7);
}
END_TEST

START_TEST(free__last_one__removes_what_is_ours)
{
	FirnShared *other = open_shared();
	g_autofree char *foreign = path_of("thesis.txt");
	g_autoptr(GBytes) held = make(shared, "content-1", 7, 5000);

	ck_assert(g_file_set_contents(foreign, "mine", -1, NULL));
	die_in_turn("content-2");
	g_clear_pointer(&shared, firn_shared_free);
	ck_assert(is_found(other, "content-1", 7, 5000));
	firn_shared_free(other);
	ck_assert_uint_eq(n_files(), 0);
	ck_assert(g_file_test(foreign, G_FILE_TEST_EXISTS));
	ck_assert(is_content(held, 7, 5000));
}
END_TEST

START_TEST(open__not_mine_alone__refused)
{
	g_autofree char *elsewhere = g_build_filename(root, "elsewhere", NULL);
	g_autofree char *link = g_build_filename(root, "link", NULL);
	g_autofree char *deep = g_build_filename(root, "no", "such", NULL);
	g_autoptr(GError) open_to_all = NULL, is_link = NULL, missing = NULL;

	ck_assert_int_eq(g_mkdir(elsewhere, 0700), 0);
	ck_assert_int_eq(symlink("elsewhere", link), 0);
	ck_assert_ptr_null(firn_shared_open(link, ROOM, &is_link));
	ck_assert_ptr_nonnull(is_link);
	ck_assert_int_eq(g_chmod(elsewhere, 0750), 0);
	ck_assert_ptr_null(firn_shared_open(elsewhere, ROOM, &open_to_all));
	ck_assert_error(open_to_all, FIRN_ERROR, FIRN_ERROR_DENIED);
	ck_assert_ptr_null(firn_shared_open(deep, ROOM, &missing));
	ck_assert_ptr_nonnull(missing);
}
END_TEST

static Suite *
shared_suite(void)
{
	Suite *s = suite_create("shared");
	TCase *tc = tcase_create("shared");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, put__others_find_the_same_memory);
	tcase_add_test(tc, put__name_is_made_of_the_file_as_it_is);
	tcase_add_loop_test(tc, find__damaged__made_again, 0, 6);
	tcase_add_test(tc, publish__other_memory__nothing);
	tcase_add_test(tc, put__no_room__longest_unused_goes);
	tcase_add_test(tc, turn__one_at_a_time);
	tcase_add_test(tc, turn__who_waits_finds);
	tcase_add_test(tc, turn__killed__another_one_has_it);
	tcase_add_test(tc, many_at_once__nobody_has_anything_else);
	tcase_add_test(tc, free__last_one__removes_what_is_ours);
	tcase_add_test(tc, open__not_mine_alone__refused);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(shared_suite)
