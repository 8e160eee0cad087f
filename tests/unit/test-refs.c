#include "core/base/clock.h"
#include "core/repo/refs.h"
#include "tests/unit/repo_fixture.h"

static void
assert_resolves(const FirnRepoInfo *info, const char *ref, const char *wanted)
{
	g_autoptr(GError) error = NULL;
	char text[FIRN_ID12_TEXT + 1];
	FirnId12 id;

	ck_assert_msg(firn_refs_resolve(info, ref, &id, &error), "%s: %s", ref,
		      error != NULL ? error->message : "");
	firn_id12_format(&id, text);
	ck_assert_str_eq(text, wanted);
}

static void
assert_refused(const FirnRepoInfo *info, const char *ref, FirnError code)
{
	g_autoptr(GError) error = NULL;
	FirnId12 id;

	ck_assert_msg(!firn_refs_resolve(info, ref, &id, &error), "%s", ref);
	ck_assert_error(error, FIRN_ERROR, code);
}

#define THIRD  "T7V0FWDJMQJ5KHEE7JY0"
#define SECOND "FX9TPSSHTSHFD2EZTQG0"
#define FIRST  "4F78HANTDHGXTRPR4HJG"
#define ROOT   "1CECHNKREP0F1RSTCMT0"

START_TEST(resolve__all_spellings__name_the_snapshot)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(FirnRepoInfo) info = read_info(repo);

	assert_resolves(info, "main", THIRD);
	assert_resolves(info, "branch:main", THIRD);
	assert_resolves(info, "v1", FIRST);
	assert_resolves(info, "tag:v1", FIRST);
	assert_resolves(info, FIRST, FIRST);
	assert_resolves(info, "snapshot:" SECOND, SECOND);
	assert_resolves(info, "fx9t", SECOND);
	assert_resolves(info, "snapshot:FX9T", SECOND);
	assert_resolves(info, "icech", ROOT);
	assert_resolves(info, "main~0", THIRD);
	assert_resolves(info, "main~1", SECOND);
	assert_resolves(info, "main~1~1", FIRST);
	assert_resolves(info, "branch:main~3", ROOT);
	assert_resolves(info, "T7V0~2", FIRST);
}
END_TEST

START_TEST(resolve__unknown__is_refused)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(FirnRepoInfo) info = read_info(repo);

	assert_refused(info, "nothing", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "fx9", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "snapshot:FX9", FIRN_ERROR_INVALID);
	assert_refused(info, "tag:main", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "branch:v1", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "tag:gone", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "main~4", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "main~1000000000~1000000000", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "main~-1", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "main~", FIRN_ERROR_NOT_FOUND);
	assert_refused(info, "~1", FIRN_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(resolve__name_with_tilde__comes_first)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnId12 first;

	ck_assert(firn_id12_parse(FIRST, 20, &first));
	ck_assert(firn_refs_create_branch(repo, "main~1", &first, NULL));
	info = read_info(repo);
	assert_resolves(info, "main~1", FIRST);
	assert_resolves(info, "main~1~1", ROOT);
}
END_TEST

START_TEST(resolve__ambiguous_id__is_said)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	FirnId12 a = { { 1, 2, 3, 4 } };
	FirnId12 b = { { 1, 2, 3, 5 } };

	ck_assert(firn_repo_info_add_snapshot(info, &a, NULL, 1, "", NULL));
	ck_assert(firn_repo_info_add_snapshot(info, &b, NULL, 1, "", NULL));
	assert_refused(info, "0410", FIRN_ERROR_INVALID);
	assert_refused(info, "snapshot:0410", FIRN_ERROR_INVALID);
	assert_resolves(info, "0410610", "04106100000000000000");
}
END_TEST

START_TEST(resolve__parents_in_a_circle__end)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	FirnSnapshotInfo *root = info->snapshots->pdata[0];
	FirnId12 id;

	root->has_parent = true;
	root->parent = root->id;
	assert_refused(info, "main~1", FIRN_ERROR_NOT_FOUND);
	ck_assert(!firn_refs_resolve_as_of(info, "main", 0, &id, NULL));
}
END_TEST

START_TEST(resolve_as_of__times__pick_the_newest_before)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(GError) error = NULL;
	FirnId12 id, second;
	const FirnSnapshotInfo *row;
	uint64_t at;

	ck_assert(firn_id12_parse(SECOND, 20, &second));
	row = firn_repo_info_find_snapshot(info, &second);
	at = row->flushed_at;
	ck_assert(firn_refs_resolve_as_of(info, "main", at, &id, NULL));
	ck_assert(firn_id12_equal(&id, &second));
	ck_assert(firn_refs_resolve_as_of(info, "main", at + 1, &id, NULL));
	ck_assert(firn_id12_equal(&id, &second));
	ck_assert(firn_refs_resolve_as_of(info, "main", at - 1, &id, NULL));
	ck_assert(firn_id12_equal(&id, &row->parent));
	ck_assert(!firn_refs_resolve_as_of(info, "main", 0, &id, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(!firn_refs_resolve_as_of(info, "none", at, &id, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

/* ---- changes ---- */

static void
assert_newest(FirnRepo *repo, FirnUpdateKind kind, const char *name, const FirnId12 *previous)
{
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	const FirnUpdateInfo *update = info->updates->pdata[0];

	ck_assert_int_eq(update->kind, kind);
	ck_assert_str_eq(update->name, name);
	if (previous != NULL)
		ck_assert(firn_id12_equal(&update->previous, previous));
}

START_TEST(branch__life__is_logged)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(GError) error = NULL;
	FirnId12 first, second, none = { { 9 } };

	ck_assert(firn_id12_parse(FIRST, 20, &first));
	ck_assert(firn_id12_parse(SECOND, 20, &second));
	ck_assert(firn_refs_create_branch(repo, "a/b", &first, NULL));
	assert_newest(repo, FIRN_UPDATE_BRANCH_CREATED, "a/b", NULL);
	ck_assert(!firn_refs_create_branch(repo, "a/b", &first, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	g_clear_error(&error);
	ck_assert(!firn_refs_create_branch(repo, "c", &none, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(!firn_refs_reset_branch(repo, "a/b", &second, &second, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	g_clear_error(&error);
	ck_assert(firn_refs_reset_branch(repo, "a/b", &second, &first, NULL));
	assert_newest(repo, FIRN_UPDATE_BRANCH_RESET, "a/b", &first);
	ck_assert(firn_refs_reset_branch(repo, "a/b", &first, NULL, NULL));
	ck_assert(!firn_refs_reset_branch(repo, "a/b", &none, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(firn_refs_delete_branch(repo, "a/b", NULL));
	assert_newest(repo, FIRN_UPDATE_BRANCH_DELETED, "a/b", &first);
	ck_assert(!firn_refs_delete_branch(repo, "a/b", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert(firn_refs_create_branch(repo, "a/b", &first, NULL));
}
END_TEST

START_TEST(branch__main__cannot_be_deleted)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GError) error = NULL;

	ck_assert(!firn_refs_delete_branch(repo, "main", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(tag__deleted__name_is_used_up)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GError) error = NULL;

	ck_assert(firn_refs_create_tag(repo, "t", &firn_id_initial_snapshot, NULL));
	assert_newest(repo, FIRN_UPDATE_TAG_CREATED, "t", NULL);
	ck_assert(!firn_refs_create_tag(repo, "t", &firn_id_initial_snapshot, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	g_clear_error(&error);
	ck_assert(firn_refs_delete_tag(repo, "t", NULL));
	assert_newest(repo, FIRN_UPDATE_TAG_DELETED, "t", &firn_id_initial_snapshot);
	ck_assert(!firn_refs_delete_tag(repo, "t", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(!firn_refs_create_tag(repo, "t", &firn_id_initial_snapshot, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	ck_assert_ptr_nonnull(strstr(error->message, "deleted"));
	ck_assert(firn_refs_create_tag(repo, "main", &firn_id_initial_snapshot, NULL));
}
END_TEST

static bool
disable_flags(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	uint16_t flags[] = { FIRN_FLAG_CREATE_TAG, FIRN_FLAG_DELETE_TAG };

	(void)data;
	(void)error;
	g_assert(info->disabled_flags == NULL);
	info->disabled_flags = g_array_new(FALSE, FALSE, sizeof(uint16_t));
	g_array_append_vals(info->disabled_flags, flags, G_N_ELEMENTS(flags));
	firn_repo_info_push_update(info, FIRN_UPDATE_CONFIG_CHANGED, NULL, NULL, NULL, backup_name,
				   firn_clock_now_us(), 1000);
	return true;
}

START_TEST(tag__flags_off__is_denied)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(GError) error = NULL;

	ck_assert(firn_repo_update(repo, disable_flags, NULL, NULL));
	ck_assert(!firn_refs_create_tag(repo, "t", &firn_id_initial_snapshot, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_DENIED);
	g_clear_error(&error);
	ck_assert(!firn_refs_delete_tag(repo, "v1", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_DENIED);
}
END_TEST

START_TEST(create__bad_names__are_refused)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autofree char *longest = g_strnfill(255, 'x');
	g_autofree char *longer = g_strnfill(256, 'x');
	const char *const bad[] = { "",       "/a",       "a/",  "a//b", ".",    "..",
				    "a/../b", "./a",      "a\n", "\x7f", "\xff", "a\tb",
				    longer,   "\xc2\x85", "a/.", "/" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		ck_assert(
			!firn_refs_create_branch(repo, bad[i], &firn_id_initial_snapshot, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
		ck_assert(!firn_refs_create_tag(repo, bad[i], &firn_id_initial_snapshot, NULL));
	}
	ck_assert(firn_refs_create_branch(repo, longest, &firn_id_initial_snapshot, NULL));
	ck_assert(firn_refs_create_tag(repo, "v 1.0/žluť…", &firn_id_initial_snapshot, NULL));
}
END_TEST

/* ---- diff ---- */

static char *
diff_text(FirnRepo *repo, const char *from, const char *to)
{
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnDiff) diff = NULL;
	GString *text = g_string_new(NULL);
	FirnId12 a, b;

	ck_assert(firn_refs_resolve(info, from, &a, NULL));
	ck_assert(firn_refs_resolve(info, to, &b, NULL));
	diff = firn_refs_diff(repo, &a, &b, &error);
	ck_assert_no_error(error);
	for (guint i = 0; i < diff->lines->len; i++) {
		const FirnDiffEntry *entry = diff->lines->pdata[i];

		g_string_append_printf(text, "%c%s%s", "+-~"[entry->change], entry -> path,
				       entry -> meta_changed ? "!" : "");
		if (entry->chunks != NULL && entry->rank > 0)
			g_string_append_printf(text, "(%u)", entry->chunks->len / entry->rank);
		else if (entry->chunks != NULL)
			g_string_append(text, "(1)");
		g_string_append_c(text, ' ');
	}
	return g_string_free(text, FALSE);
}

START_TEST(diff__golden__tells_what_each_commit_did)
{
	static const char *const names[] = { "v1", "v2", "v2-split" };
	g_autoptr(FirnRepo) repo = copy_golden(names[_i]);
	g_autofree char *third = diff_text(repo, "main~1", "main");
	g_autofree char *second = diff_text(repo, "v1", "main~1");
	g_autofree char *both = diff_text(repo, "v1", "main");
	g_autofree char *none = diff_text(repo, "main", "main");
	g_autofree char *first = diff_text(repo, "main~3", "v1");
	g_autofree char *dev = diff_text(repo, "v1", "dev");

	ck_assert_str_eq(third, "+/g! +/g/b!(2000) ");
	ck_assert_str_eq(second, "~/! -/deep/er/inline ~/native!(6) ");
	ck_assert_str_eq(both, "~/! -/deep/er/inline +/g! +/g/b!(2000) ~/native!(6) ");
	ck_assert_str_eq(none, "");
	ck_assert_str_eq(first,
			 "+/! +/deep! +/deep/er! +/deep/er/inline!(13) +/empty! +/native!(9) "
			 "+/never_written! +/scalar!(1) +/sharded!(4) ");
	ck_assert_str_eq(dev, "+/only_dev!(2) ");
}
END_TEST

START_TEST(diff__no_ancestor__is_refused)
{
	g_autoptr(FirnRepo) repo = copy_golden("v2");
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(GError) error = NULL;
	FirnId12 main, dev, unknown = { { 1 } };

	ck_assert(firn_refs_resolve(info, "main", &main, NULL));
	ck_assert(firn_refs_resolve(info, "dev", &dev, NULL));
	ck_assert_ptr_null(firn_refs_diff(repo, &dev, &main, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_refs_diff(repo, &main, &unknown, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("refs");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, resolve__all_spellings__name_the_snapshot);
	tcase_add_test(tc, resolve__unknown__is_refused);
	tcase_add_test(tc, resolve__name_with_tilde__comes_first);
	tcase_add_test(tc, resolve__ambiguous_id__is_said);
	tcase_add_test(tc, resolve__parents_in_a_circle__end);
	tcase_add_test(tc, resolve_as_of__times__pick_the_newest_before);
	tcase_add_test(tc, branch__life__is_logged);
	tcase_add_test(tc, branch__main__cannot_be_deleted);
	tcase_add_test(tc, tag__deleted__name_is_used_up);
	tcase_add_test(tc, tag__flags_off__is_denied);
	tcase_add_test(tc, create__bad_names__are_refused);
	tcase_add_loop_test(tc, diff__golden__tells_what_each_commit_did, 0, 3);
	tcase_add_test(tc, diff__no_ancestor__is_refused);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(make_suite)
