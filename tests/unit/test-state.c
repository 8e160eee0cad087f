#include "core/base/error.h"
#include "core/repo/state.h"
#include "tests/unit/harness.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *root;

static void
setup(void)
{
	root = g_dir_make_tmp("firn-state-XXXXXX", NULL);
}

static void
teardown(void)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);

	ck_assert_int_eq(system(command), 0);
	g_clear_pointer(&root, g_free);
}

static FirnId12
id12(uint8_t n)
{
	return (FirnId12){ { n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 } };
}

/* A state directory as a driver makes it. */
static char *
make_session(uint8_t n, uint64_t started_us)
{
	g_autoptr(GError) error = NULL;
	FirnSessionInfo info = { .id = id12(n),
				 .repository = g_strdup("file:///data/repo"),
				 .branch = g_strdup("main"),
				 .base = firn_id_initial_snapshot,
				 .mode = g_strdup("rw"),
				 .mountpoint = g_strdup("/mnt/\"a\""),
				 .pid = 42,
				 .started_us = started_us };

	ck_assert(firn_state_create(root, &info.id, &info.directory, &error));
	ck_assert(firn_state_write_info(&info, &error));
	ck_assert_no_error(error);
	g_free(info.repository);
	g_free(info.branch);
	g_free(info.mode);
	g_free(info.mountpoint);
	return info.directory;
}

START_TEST(root__default_and_given__absolute)
{
	g_autofree char *from_xdg = NULL;
	g_autofree char *from_home = NULL;
	g_autofree char *given = NULL;

	g_setenv("XDG_STATE_HOME", "/x/state", TRUE);
	from_xdg = firn_state_root(NULL);
	ck_assert_str_eq(from_xdg, "/x/state/firn/sessions");
	g_unsetenv("XDG_STATE_HOME");
	from_home = firn_state_root(NULL);
	ck_assert(g_str_has_suffix(from_home, "/.local/state/firn/sessions"));
	given = firn_state_root("here");
	ck_assert(g_path_is_absolute(given) && g_str_has_suffix(given, "/here"));
}
END_TEST

START_TEST(create__new_and_again__private_then_refused)
{
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *again = NULL;
	g_autoptr(GError) error = NULL;
	FirnId12 id = id12(1);
	struct stat st;

	ck_assert_int_eq(stat(directory, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0700);
	ck_assert(!firn_state_create(root, &id, &again, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
}
END_TEST

START_TEST(read_info__written__comes_back)
{
	g_autofree char *directory = make_session(1, 1700000000123456);
	g_autofree char *journal = g_build_filename(directory, "journal", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = NULL;

	ck_assert(g_file_set_contents(journal, "12345", 5, NULL));
	info = firn_state_read_info(directory, &error);
	ck_assert_no_error(error);
	ck_assert_str_eq(info->repository, "file:///data/repo");
	ck_assert_str_eq(info->branch, "main");
	ck_assert_str_eq(info->mountpoint, "/mnt/\"a\"");
	ck_assert_str_eq(info->mode, "rw");
	ck_assert_ptr_null(info->fork_of);
	ck_assert(firn_id12_equal(&info->base, &firn_id_initial_snapshot));
	ck_assert_uint_eq(info->started_us, 1700000000123456);
	ck_assert_uint_eq(info->journal_bytes, 5);
	ck_assert(!info->live);
	ck_assert_int_eq(info->pid, 0);
}
END_TEST

START_TEST(read_info__damaged_json__still_listed)
{
	static const char *const bad[] = { "", "{", "[]", "{\"repository\": 5, \"pid\": \"x\"}",
					   "\xff" };
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *path = g_build_filename(directory, "session.json", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = NULL;

	ck_assert(g_file_set_contents(path, bad[_i], -1, NULL));
	info = firn_state_read_info(directory, &error);
	ck_assert_no_error(error);
	ck_assert_str_eq(info->repository, "");
	ck_assert_str_eq(info->branch, "");
}
END_TEST

START_TEST(lock__held__busy_and_live)
{
	g_autofree char *directory = make_session(1, 5);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) live = NULL;
	g_autoptr(FirnSessionInfo) dead = NULL;
	int fd = firn_state_lock(directory, &error);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(firn_state_lock(directory, &error), -1);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_BUSY);
	g_clear_error(&error);
	live = firn_state_read_info(directory, &error);
	ck_assert(live->live);
	ck_assert_int_eq(live->pid, 42);
	ck_assert(!firn_state_remove(live, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_BUSY);
	g_clear_error(&error);
	close(fd);
	dead = firn_state_read_info(directory, &error);
	ck_assert(!dead->live);
}
END_TEST

START_TEST(lock__there_is_none__not_made)
{
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *lock = g_build_filename(directory, "lock", NULL);
	g_autoptr(GError) error = NULL;

	ck_assert(g_file_test(lock, G_FILE_TEST_EXISTS));
	ck_assert_int_eq(unlink(lock), 0);
	ck_assert_int_eq(firn_state_lock(directory, &error), -1);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert(!g_file_test(lock, G_FILE_TEST_EXISTS));
}
END_TEST

typedef struct {
	const char *directory;
	GError *error;
	int fd;
} Locking;

static void *
lock_it(void *data)
{
	Locking *locking = data;

	locking->fd = firn_state_lock(locking->directory, &locking->error);
	return NULL;
}

/*
 * Who holds the lock removes the session, or (_i 1) another has begun in its place: at one stroke
 * here, as who looks between the two finds none.
 */
START_TEST(lock__goes_while_waited_for__not_held)
{
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *lock = g_build_filename(directory, "lock", NULL);
	g_autofree char *another = g_build_filename(directory, "another", NULL);
	Locking locking = { .directory = directory, .fd = -2 };
	g_autoptr(GError) error = NULL;
	int held = firn_state_lock(directory, &error);
	struct stat named, locked;
	pthread_t thread;

	ck_assert_no_error(error);
	ck_assert_int_eq(pthread_create(&thread, NULL, lock_it, &locking), 0);
	g_usleep(50000);
	if (_i == 1) {
		ck_assert(g_file_set_contents(another, "", 0, NULL));
		ck_assert_int_eq(rename(another, lock), 0);
	} else {
		ck_assert_int_eq(unlink(lock), 0);
	}
	close(held);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	if (_i == 1) {
		ck_assert_no_error(locking.error);
		ck_assert_int_eq(stat(lock, &named), 0);
		ck_assert_int_eq(fstat(locking.fd, &locked), 0);
		ck_assert_uint_eq(locked.st_ino, named.st_ino);
		close(locking.fd);
		return;
	}
	ck_assert_int_eq(locking.fd, -1);
	ck_assert_error(locking.error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_error_free(locking.error);
}
END_TEST

/* Whatever the order of names in the directory. */
START_TEST(remove__fails_on_its_way__lock_is_still_there)
{
	for (uint8_t i = 1; i < 20; i++) {
		g_autofree char *directory = make_session(i, 5);
		g_autofree char *lock = g_build_filename(directory, "lock", NULL);
		g_autofree char *deep =
			g_strdup_printf("%s/%u/1/2/3/4/5/6/7/8/9/10/11", directory, i);
		g_autoptr(GError) error = NULL;

		ck_assert_int_eq(g_mkdir_with_parents(deep, 0700), 0);
		ck_assert(!firn_state_remove_locked(directory, &error));
		ck_assert(g_file_test(lock, G_FILE_TEST_EXISTS));
	}
}
END_TEST

/* As a removal that was killed leaves it, or who began one. */
START_TEST(remove__empty_without_a_lock__goes)
{
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *command = g_strdup_printf("rm -rf '%s'/*", directory);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = firn_state_read_info(directory, &error);

	ck_assert_int_eq(system(command), 0);
	ck_assert(firn_state_remove(info, &error));
	ck_assert_no_error(error);
	ck_assert(!g_file_test(directory, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(list__several_and_strangers__newest_first)
{
	g_autofree char *one = make_session(1, 5);
	g_autofree char *two = make_session(2, 9);
	g_autofree char *three = make_session(3, 7);
	g_autofree char *stranger = g_build_filename(root, "stranger", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) list = NULL;
	g_autoptr(GPtrArray) none = NULL;

	ck_assert_int_eq(g_mkdir(stranger, 0700), 0);
	list = firn_state_list(root, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(list->len, 3);
	ck_assert_uint_eq(((FirnSessionInfo *)list->pdata[0])->id.bytes[0], 2);
	ck_assert_uint_eq(((FirnSessionInfo *)list->pdata[2])->id.bytes[0], 1);
	none = firn_state_list("/nonexistent", &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(none->len, 0);
}
END_TEST

START_TEST(find__prefix__one_none_many)
{
	g_autofree char *one = make_session(1, 5);
	g_autofree char *two = make_session(2, 9);
	g_autofree char *name = g_path_get_basename(one);
	g_autofree char *lower = g_ascii_strdown(name, 4);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = firn_state_find(root, lower, &error);

	ck_assert_no_error(error);
	ck_assert_str_eq(info->directory, one);
	ck_assert_ptr_null(firn_state_find(root, "0", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_state_find(root, "ZZ", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_state_find(root, "", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(remove__tree_with_a_link__link_not_followed)
{
	g_autofree char *directory = make_session(1, 5);
	g_autofree char *outside = g_build_filename(root, "outside", NULL);
	g_autofree char *spool = g_build_filename(directory, "spool", NULL);
	g_autofree char *link = g_build_filename(spool, "link", NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = firn_state_read_info(directory, &error);

	ck_assert(g_file_set_contents(outside, "x", 1, NULL));
	ck_assert_int_eq(g_mkdir(spool, 0700), 0);
	ck_assert_int_eq(symlink("..", link), 0);
	ck_assert(firn_state_remove(info, &error));
	ck_assert_no_error(error);
	ck_assert(!g_file_test(directory, G_FILE_TEST_EXISTS));
	ck_assert(g_file_test(outside, G_FILE_TEST_EXISTS));
}
END_TEST

/* ---- forks ---- */

static FirnJournalHeader *
make_header(const FirnRepo *repo, uint8_t session)
{
	FirnJournalHeader *header = g_new0(FirnJournalHeader, 1);

	header->repository = g_strdup(firn_repo_url(repo));
	header->identity = firn_repo_identity(repo);
	header->spec_version = 2;
	header->branch = g_strdup("main");
	header->base = firn_id_initial_snapshot;
	header->session = id12(session);
	header->ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	header->created_us = 5;
	return header;
}

static FirnRepo *
make_repo(const char *name)
{
	g_autofree char *path = g_build_filename(root, name, NULL);
	g_autoptr(GError) error = NULL;
	FirnRepo *repo;

	ck_assert(firn_repo_create(path, &error));
	repo = firn_repo_open(path, &error);
	ck_assert_no_error(error);
	return repo;
}

static void
add_chunk(FirnChanges *changes, uint32_t at, uint64_t seq)
{
	const FirnId8 id = { { 1, 2, 3 } };
	const FirnRef ref = { .kind = FIRN_REF_NATIVE, .length = 1 };

	(void)firn_changes_put_chunk(changes, &id, "/a", 1, &at, &ref, seq);
}

START_TEST(fork_token__clean_session__no_parent_object)
{
	g_autoptr(FirnRepo) repo = make_repo("repo");
	g_autoptr(FirnJournalHeader) header = make_header(repo, 1);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnForkToken) token = NULL;
	g_autoptr(GPtrArray) parents = NULL;

	add_chunk(changes, 1, 0); /* inherited only */
	token = firn_fork_token_new(repo, header, 0, changes, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_ptr_null(token->parent_key);
	parents = firn_fork_token_parents(repo, token, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(parents->len, 0);
}
END_TEST

START_TEST(fork_token__two_generations__json_and_parents_come_back)
{
	g_autoptr(FirnRepo) repo = make_repo("repo");
	g_autoptr(FirnJournalHeader) header = make_header(repo, 1);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnChanges) own = firn_changes_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnForkToken) first = NULL;
	g_autoptr(FirnForkToken) second = NULL;
	g_autoptr(FirnForkToken) read = NULL;
	g_autoptr(GPtrArray) parents = NULL;
	g_autoptr(GPtrArray) grand = NULL;
	g_autofree char *json = NULL;
	g_autofree char *again = NULL;
	const FirnSection *section;

	add_chunk(changes, 1, 3);
	first = firn_fork_token_new(repo, header, 4, changes, NULL, &error);
	ck_assert_no_error(error);
	parents = firn_fork_token_parents(repo, first, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(parents->len, 1);
	section = parents->pdata[0];
	ck_assert(section->sealed && section->last_seq == 4 && section->changes->n_chunks == 1);

	/* A session started from it, with nothing of its own, is forked. */
	first->start->session = id12(2);
	second = firn_fork_token_new(repo, first->start, 0, own, parents, &error);
	ck_assert_no_error(error);
	json = firn_fork_token_to_json(second);
	read = firn_fork_token_from_json(json, "fork.json", &error);
	ck_assert_no_error(error);
	again = firn_fork_token_to_json(read);
	ck_assert_str_eq(again, json);
	ck_assert_uint_eq(read->start->ancestors->len, 2);
	grand = firn_fork_token_parents(repo, read, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(grand->len, 2);
}
END_TEST

START_TEST(fork_token__other_repository__conflict)
{
	g_autoptr(FirnRepo) repo = make_repo("repo");
	g_autoptr(FirnRepo) other = NULL;
	g_autoptr(FirnJournalHeader) header = make_header(repo, 1);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnForkToken) token = NULL;

	g_usleep(1000); /* the identity is a time */
	other = make_repo("other");
	add_chunk(changes, 1, 1);
	token = firn_fork_token_new(repo, header, 1, changes, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_ptr_null(firn_fork_token_parents(other, token, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	g_clear_error(&error);
	token->start->base = id12(9);
	ck_assert_ptr_null(firn_fork_token_parents(repo, token, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
}
END_TEST

START_TEST(fork_token_from_json__bad__format_or_unsupported)
{
	static const struct {
		const char *from, *to;
		FirnError code;
	} rows[] = {
		{ "\"firn_fork\":1", "\"firn_fork\":2", FIRN_ERROR_UNSUPPORTED },
		{ "\"firn_fork\":1", "\"x\":1", FIRN_ERROR_FORMAT },
		{ "\"fork\":\"1", "\"fork\":\"../1", FIRN_ERROR_FORMAT },
		{ "\"parent\":null", "\"parent\":\"repo\"", FIRN_ERROR_FORMAT },
		{ "\"parent\":null,", "", FIRN_ERROR_FORMAT },
		{ "\"seq\":3", "\"seq\":\"3\"", FIRN_ERROR_FORMAT },
		{ "[{", "[1,{", FIRN_ERROR_FORMAT },
		{ "\"spec_version\":2", "\"spec_version\":258", FIRN_ERROR_FORMAT },
		{ "\"branch\":\"main\"", "\"branch\":[[[[[[[[1]]]]]]]]", FIRN_ERROR_FORMAT },
		{ "\"created\":\"2", "\"created\":\"x", FIRN_ERROR_FORMAT },
		{ "}", "", FIRN_ERROR_FORMAT },
	};
	const char *good =
		"{\"firn_fork\":1,\"fork\":\"1CECHNKREP0F1RSTCMT0\",\"repository\":\"file:///r\","
		"\"identity\":7,\"spec_version\":2,\"branch\":\"main\",\"base\":\"1CECHNKREP0F1RSTCMT0\","
		"\"ancestors\":[{\"session\":\"1CECHNKREP0F1RSTCMT0\",\"seq\":3}],\"parent\":null,"
		"\"created\":\"2026-01-31T12:00:00Z\"}";
	g_auto(GStrv) parts = g_strsplit(good, rows[_i].from, 2);
	g_autofree char *bad = g_strjoinv(rows[_i].to, parts);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnForkToken) token = firn_fork_token_from_json(good, "good", &error);

	ck_assert_no_error(error);
	ck_assert_uint_eq(token->start->identity, 7);
	ck_assert_str_ne(good, bad);
	ck_assert_ptr_null(firn_fork_token_from_json(bad, "bad.json", &error));
	ck_assert_error(error, FIRN_ERROR, rows[_i].code);
	ck_assert_ptr_nonnull(strstr(error->message, "bad.json"));
}
END_TEST

START_TEST(fork_publish__two_sessions__listed_and_read)
{
	g_autoptr(FirnRepo) repo = make_repo("repo");
	g_autoptr(FirnJournalHeader) header = make_header(repo, 1);
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(GBytes) journal = NULL;
	g_autoptr(GPtrArray) keys = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(GPtrArray) none = NULL;
	g_autoptr(GError) error = NULL;
	GByteArray *out = g_byte_array_new();
	FirnId12 one = id12(1), two = id12(2);

	add_chunk(changes, 1, 1);
	firn_journal_encode(header, changes, 1, out);
	journal = g_byte_array_free_to_bytes(out);
	ck_assert(firn_fork_publish(repo, "1CECHNKREP0F1RSTCMT0", &two, journal, &error));
	ck_assert(firn_fork_publish(repo, "1CECHNKREP0F1RSTCMT0", &one, journal, &error));
	ck_assert(firn_fork_publish(repo, "1CECHNKREP0F1RSTCMT0", &one, journal, &error));
	keys = firn_fork_list(repo, "1CECHNKREP0F1RSTCMT0", &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(keys->len, 2);
	ck_assert_int_lt(strcmp(keys->pdata[0], keys->pdata[1]), 0);
	sections = firn_fork_read(firn_repo_store(repo), keys->pdata[1], &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(sections->len, 1);
	none = firn_fork_list(repo, "ZZZZZZZZZZZZZZZZZZZZ", &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(none->len, 0);
	ck_assert_ptr_null(firn_fork_list(repo, "../..", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ck_assert_ptr_null(
		firn_fork_read(firn_repo_store(repo), "firn/sessions/x/y.journal", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("state");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, root__default_and_given__absolute);
	tcase_add_test(tcase, create__new_and_again__private_then_refused);
	tcase_add_test(tcase, read_info__written__comes_back);
	tcase_add_loop_test(tcase, read_info__damaged_json__still_listed, 0, 5);
	tcase_add_test(tcase, lock__held__busy_and_live);
	tcase_add_test(tcase, lock__there_is_none__not_made);
	tcase_add_loop_test(tcase, lock__goes_while_waited_for__not_held, 0, 2);
	tcase_add_test(tcase, remove__fails_on_its_way__lock_is_still_there);
	tcase_add_test(tcase, remove__empty_without_a_lock__goes);
	tcase_add_test(tcase, list__several_and_strangers__newest_first);
	tcase_add_test(tcase, find__prefix__one_none_many);
	tcase_add_test(tcase, remove__tree_with_a_link__link_not_followed);
	tcase_add_test(tcase, fork_token__clean_session__no_parent_object);
	tcase_add_test(tcase, fork_token__two_generations__json_and_parents_come_back);
	tcase_add_test(tcase, fork_token__other_repository__conflict);
	tcase_add_loop_test(tcase, fork_token_from_json__bad__format_or_unsupported, 0, 11);
	tcase_add_test(tcase, fork_publish__two_sessions__listed_and_read);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
