#include "core/base/clock.h"
#include "core/repo/repo.h"
#include "core/store/fault.h"
#include "tests/unit/repo_fixture.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static bool
note_config(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	(void)data;
	(void)error;
	firn_repo_info_push_update(info, FIRN_UPDATE_CONFIG_CHANGED, NULL, NULL, NULL, backup_name,
				   firn_clock_now_us(), 1000);
	return true;
}

START_TEST(update__once__backs_up)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autoptr(FirnRepoInfo) old = NULL;
	g_autoptr(GBytes) file = NULL;
	g_autofree char *key = NULL;
	const FirnUpdateInfo *update;

	ck_assert_msg(firn_repo_update(repo, note_config, NULL, &error), "%s",
		      error != NULL ? error->message : "");
	info = read_info(repo);
	ck_assert_uint_eq(info->updates->len, 2);
	update = info->updates->pdata[0];
	ck_assert_ptr_null(update->backup_path);
	update = info->updates->pdata[1];
	ck_assert(g_str_has_prefix(update->backup_path, "repo."));
	ck_assert_uint_eq(strlen(update->backup_path), strlen("repo.") + 14 + 1 + FIRN_ID12_TEXT);
	key = g_strconcat("overwritten/", update->backup_path, NULL);
	ck_assert(firn_store_get(firn_repo_store(repo), key, 0, UINT64_MAX, &file, NULL, NULL));
	old = firn_repo_info_decode(file, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(old->updates->len, 1);
}
END_TEST

static bool
refuse(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	int *calls = data;

	(void)info;
	(void)backup_name;
	(*calls)++;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT, "no");
	return false;
}

START_TEST(update__function_refuses__nothing_changes)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	int calls = 0;

	ck_assert(!firn_repo_update(repo, refuse, &calls, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	ck_assert_int_eq(calls, 1);
	info = read_info(repo);
	ck_assert_uint_eq(info->updates->len, 1);
}
END_TEST

static bool
set_offline(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	info->availability = 1;
	g_free(info->status_reason);
	info->status_reason = g_strdup("moving house");
	return note_config(info, backup_name, data, error);
}

START_TEST(update__read_only_status__says_why)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GError) error = NULL;

	ck_assert(firn_repo_update(repo, set_offline, NULL, NULL));
	ck_assert(!firn_repo_update(repo, note_config, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY);
	ck_assert_ptr_nonnull(strstr(error->message, "moving house"));
}
END_TEST

START_TEST(update__version_1__is_refused)
{
	g_autoptr(FirnRepo) repo = copy_golden("v1");
	g_autoptr(GError) error = NULL;

	ck_assert(!firn_repo_update(repo, note_config, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY);
}
END_TEST

START_TEST(update__each_store_call_fails__before_or_after_holds)
{
	g_autoptr(FirnRepo) plain = new_repo();
	g_autoptr(GError) error = NULL;
	FirnStore *store = firn_fault_new(firn_store_open(scratch, false, NULL));
	g_autoptr(FirnRepo) repo = firn_repo_open_store(store, &error);
	uint64_t before = firn_fault_calls(store);
	uint64_t calls;
	guint updates = 2;

	ck_assert(firn_repo_update(repo, note_config, NULL, NULL));
	calls = firn_fault_calls(store) - before;
	ck_assert_uint_ge(calls, 3);
	for (uint64_t at = 0; at < calls; at++) {
		g_autoptr(FirnRepoInfo) info = NULL;
		g_autoptr(GError) failed = NULL;

		firn_fault_arm(store, at, 1, ENOSPC);
		ck_assert(!firn_repo_update(repo, note_config, NULL, &failed));
		ck_assert_error(failed, FIRN_ERROR, FIRN_ERROR_NO_SPACE);
		info = read_info(plain);
		ck_assert_uint_eq(info->updates->len, updates);
		ck_assert(firn_repo_update(repo, note_config, NULL, NULL));
		updates++;
	}
}
END_TEST

static guint
count(FirnRepo *repo, const char *prefix)
{
	g_autoptr(GPtrArray) keys = firn_store_list_keys(firn_repo_store(repo), prefix, "", NULL);

	return keys->len;
}

START_TEST(update_begin__dropped__leaves_nothing)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnRepoUpdate *update;
	guint n = count(repo, "");

	update = firn_repo_update_begin(repo, note_config, NULL, NULL);
	ck_assert_ptr_nonnull(update);
	info = read_info(repo);
	ck_assert_uint_eq(info->updates->len, 1);
	firn_repo_update_drop(repo, update);
	firn_repo_update_drop(repo, NULL);
	ck_assert_uint_eq(count(repo, ""), n);
	ck_assert_uint_eq(count(repo, "overwritten/"), 0);
}
END_TEST

START_TEST(update_end__another_was_faster__is_done_again_on_top)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepo) other = firn_repo_open(scratch, NULL);
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnRepoUpdate *update = firn_repo_update_begin(repo, note_config, NULL, NULL);

	ck_assert(firn_repo_update(other, note_config, NULL, NULL));
	ck_assert(firn_repo_update_end(repo, update, note_config, NULL, NULL));
	info = read_info(repo);
	ck_assert_uint_eq(info->updates->len, 3);
	/* One backup each; that of the first try is gone. */
	ck_assert_uint_eq(count(repo, "overwritten/"), 2);
}
END_TEST

#define RACERS 4
#define ROUNDS 25

static bool
add_named_branch(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	(void)error;
	g_assert(firn_repo_info_add_branch(info, data, &firn_id_initial_snapshot));
	firn_repo_info_push_update(info, FIRN_UPDATE_BRANCH_CREATED, data, NULL, NULL, backup_name,
				   firn_clock_now_us(), 1000);
	return true;
}

START_TEST(update__racing_processes__all_in_the_log)
{
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autoptr(GHashTable) names = NULL;
	pid_t children[RACERS];

	/* Nothing of ours for them to leak. */
	firn_repo_free(new_repo());
	for (int i = 0; i < RACERS; i++) {
		children[i] = fork();
		if (children[i] != 0)
			continue;
		FirnRepo *own = firn_repo_open(scratch, NULL);

		for (int round = 0; round < ROUNDS; round++) {
			g_autofree char *name = g_strdup_printf("b-%d-%d", i, round);

			if (!firn_repo_update(own, add_named_branch, name, NULL))
				_exit(1);
		}
		firn_repo_free(own);
		_exit(0);
	}
	for (int i = 0; i < RACERS; i++) {
		int status;

		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
	repo = firn_repo_open(scratch, NULL);
	names = g_hash_table_new(g_str_hash, g_str_equal);
	info = read_info(repo);
	ck_assert_uint_eq(info->branches->len, 1 + RACERS * ROUNDS);
	ck_assert_uint_eq(info->updates->len, 1 + RACERS * ROUNDS);
	for (guint i = 0; i < info->updates->len; i++) {
		const FirnUpdateInfo *update = info->updates->pdata[i];

		ck_assert((update->backup_path == NULL) == (i == 0));
		if (update->name != NULL)
			ck_assert(g_hash_table_add(names, update->name));
		if (i > 0)
			ck_assert_uint_lt(
				update->updated_at,
				((FirnUpdateInfo *)info->updates->pdata[i - 1])->updated_at);
	}
	ck_assert_uint_eq(g_hash_table_size(names), RACERS * ROUNDS);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("update");
	TCase *update = tcase_create("all");

	tcase_add_checked_fixture(update, repo_setup, repo_teardown);
	tcase_set_timeout(update, 120);
	tcase_add_test(update, update__once__backs_up);
	tcase_add_test(update, update__function_refuses__nothing_changes);
	tcase_add_test(update, update__read_only_status__says_why);
	tcase_add_test(update, update__version_1__is_refused);
	tcase_add_test(update, update__each_store_call_fails__before_or_after_holds);
	tcase_add_test(update, update_begin__dropped__leaves_nothing);
	tcase_add_test(update, update_end__another_was_faster__is_done_again_on_top);
	tcase_add_test(update, update__racing_processes__all_in_the_log);
	suite_add_tcase(s, update);
	return s;
}

TEST_MAIN(make_suite)
