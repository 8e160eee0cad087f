#include "tests/unit/repo_info_fixture.h"

#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"

#include <string.h>

#define GOLDEN "tests/golden/tiny-v2/repo"

static GBytes *
load(const char *path)
{
	char *data;
	gsize len;

	ck_assert_msg(g_file_get_contents(path, &data, &len, NULL), "%s", path);
	return g_bytes_new_take(data, len);
}

static void
check_golden(const FirnRepoInfo *info)
{
	const FirnSnapshotInfo *first = info->snapshots->pdata[0];
	const FirnSnapshotInfo *second = info->snapshots->pdata[1];
	const FirnUpdateInfo *update = info->updates->pdata[1];
	char text[FIRN_ID12_TEXT + 1];

	ck_assert_uint_eq(info->snapshots->len, 2);
	ck_assert(!first->has_parent);
	ck_assert_str_eq(first->message, "Repository initialized");
	ck_assert_uint_eq(first->flushed_at, 1795381316462833u);
	ck_assert(second->has_parent);
	ck_assert(firn_id12_equal(&second->parent, &first->id));
	ck_assert_str_eq(json_object_get_string_member(second->metadata, "author"), "tester");
	firn_id12_format(&firn_repo_info_find_branch(info, "main")->snapshot, text);
	ck_assert_str_eq(text, "ZZV2NCN64WXHHN0TWE1G");
	ck_assert(firn_id12_equal(&firn_repo_info_find_tag(info, "v1")->snapshot, &second->id));
	ck_assert_uint_eq(info->updates->len, 3);
	ck_assert_uint_eq(update->kind, FIRN_UPDATE_NEW_COMMIT);
	ck_assert_str_eq(update->name, "main");
	ck_assert(firn_id12_equal(&update->snapshot, &second->id));
	ck_assert_str_eq(update->backup_path, "repo.30708298683436.AMPKZH5QAPTQDHMF3D2G");
	ck_assert_uint_eq(update->updated_at, 1795381316563040u);
	ck_assert_ptr_null(((FirnUpdateInfo *)info->updates->pdata[0])->backup_path);
	ck_assert_uint_eq(info->status_set_at, 1795381316462910u);
	ck_assert_uint_eq(info->availability, 0);
	ck_assert_ptr_null(info->repo_before_updates);
	ck_assert_int_eq(json_object_get_int_member(json_node_get_object(info->config),
						    "inline_chunk_threshold_bytes"),
			 20);
}

START_TEST(decode__golden__as_expected)
{
	g_autoptr(GBytes) file = load(GOLDEN);
	g_autoptr(FirnRepoInfo) info = decode(file);

	check_golden(info);
}
END_TEST

START_TEST(encode__golden__decodes_to_the_same)
{
	g_autoptr(GBytes) file = load(GOLDEN);
	g_autoptr(FirnRepoInfo) info = decode(file);
	g_autoptr(GBytes) once = encode(info);
	g_autoptr(FirnRepoInfo) again = decode(once);
	g_autoptr(GBytes) twice = encode(again);

	check_golden(again);
	ck_assert(g_bytes_equal(once, twice));
}
END_TEST

START_TEST(new__repository__complete)
{
	g_autoptr(JsonNode) config = json_from_string("{\"a\":1}", NULL);
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1000, config);
	g_autoptr(GBytes) file = encode(made);
	g_autoptr(FirnRepoInfo) info = decode(file);
	const FirnSnapshotInfo *root =
		firn_repo_info_find_snapshot(info, &firn_id_initial_snapshot);
	const FirnUpdateInfo *update = info->updates->pdata[0];

	ck_assert(!root->has_parent);
	ck_assert_uint_eq(root->flushed_at, 1000);
	ck_assert(json_object_has_member(root->metadata, "__icechunk"));
	ck_assert(firn_id12_equal(&firn_repo_info_find_branch(info, "main")->snapshot, &root->id));
	ck_assert_uint_eq(info->updates->len, 1);
	ck_assert_uint_eq(update->kind, FIRN_UPDATE_REPO_INITIALIZED);
	ck_assert_uint_eq(update->updated_at, 1000);
	ck_assert(json_node_equal(info->config, config));
}
END_TEST

START_TEST(helpers__refs__sorted_and_unique)
{
	static const char *const names[] = { "b", "a/x", "", "zz", "a" };
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1, NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		ck_assert(firn_repo_info_add_branch(info, names[i], &firn_id_initial_snapshot));
		ck_assert(!firn_repo_info_add_branch(info, names[i], &firn_id_initial_snapshot));
		ck_assert(firn_repo_info_add_tag(info, names[i], &firn_id_initial_snapshot));
	}
	for (guint i = 1; i < info->branches->len; i++)
		ck_assert_int_lt(strcmp(((FirnRefInfo *)info->branches->pdata[i - 1])->name,
					((FirnRefInfo *)info->branches->pdata[i])->name),
				 0);
	ck_assert(firn_repo_info_remove_tag(info, "zz"));
	ck_assert(!firn_repo_info_remove_tag(info, "zz"));
	ck_assert(firn_repo_info_remove_tag(info, "a"));
	ck_assert(firn_repo_info_tag_was_deleted(info, "zz"));
	ck_assert(!firn_repo_info_tag_was_deleted(info, "b"));
	ck_assert_str_eq(info->deleted_tags->pdata[0], "a");
	ck_assert(firn_repo_info_remove_branch(info, "b"));
	ck_assert(!firn_repo_info_remove_branch(info, "b"));
	ck_assert_ptr_null(firn_repo_info_find_branch(info, "b"));
	ck_assert(!firn_repo_info_add_snapshot(info, &firn_id_initial_snapshot, NULL, 1, "", NULL));
}
END_TEST

START_TEST(encode__snapshot_in_front__indices_follow)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	const FirnId12 low = { { 0, 1 } };
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;

	ck_assert(firn_repo_info_add_snapshot(made, &low, &firn_id_initial_snapshot, 2, "x", NULL));
	ck_assert(firn_repo_info_add_tag(made, "t", &low));
	file = encode(made);
	info = decode(file);
	ck_assert(firn_id12_equal(&firn_repo_info_find_snapshot(info, &low)->parent,
				  &firn_id_initial_snapshot));
	ck_assert(firn_id12_equal(&firn_repo_info_find_tag(info, "t")->snapshot, &low));
	ck_assert(firn_id12_equal(&firn_repo_info_find_branch(info, "main")->snapshot,
				  &firn_id_initial_snapshot));
}
END_TEST

START_TEST(encode__ref_to_nothing__refused)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1, NULL);
	g_autoptr(GError) error = NULL;
	const FirnId12 missing = { { 9 } };

	ck_assert(firn_repo_info_add_branch(info, "lost", &missing));
	ck_assert_ptr_null(firn_repo_info_encode(info, 3, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(push_update__times_and_backups__as_the_format_says)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1000, NULL);
	const FirnUpdateInfo *newest;

	firn_repo_info_push_update(info, FIRN_UPDATE_TAG_CREATED, "t", NULL, NULL, "repo.1.A", 900,
				   10);
	newest = info->updates->pdata[0];
	ck_assert_uint_eq(newest->updated_at, 1001);
	ck_assert_ptr_null(newest->backup_path);
	ck_assert_str_eq(((FirnUpdateInfo *)info->updates->pdata[1])->backup_path, "repo.1.A");
	ck_assert_ptr_null(info->repo_before_updates);
	firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "repo.2.B", 5000, 2);
	ck_assert_uint_eq(info->updates->len, 2);
	ck_assert_uint_eq(((FirnUpdateInfo *)info->updates->pdata[0])->updated_at, 5000);
	ck_assert_str_eq(info->repo_before_updates, "repo.1.A");
	firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "repo.3.C", 6000, 1);
	ck_assert_uint_eq(info->updates->len, 1);
	ck_assert_str_eq(info->repo_before_updates, "repo.3.C");
}
END_TEST

START_TEST(push_update__no_backups__kept_beyond_the_limit)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1000, NULL);

	for (unsigned i = 0; i < 5; i++)
		firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, NULL, 0, 2);
	ck_assert_uint_eq(info->updates->len, 6);
	ck_assert_ptr_null(info->repo_before_updates);
}
END_TEST

START_TEST(flags__defaults_and_overrides__as_set)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;

	ck_assert(firn_repo_info_flag_enabled(made, FIRN_FLAG_CREATE_TAG));
	firn_repo_info_set_flag(made, FIRN_FLAG_DELETE_TAG, false, true, "b", 2, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_CREATE_TAG, false, true, "c", 3, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_MOVE_NODE, true, true, "d", 4, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_DELETE_TAG, false, false, "e", 5, 100);
	made->availability = 1;
	made->status_reason = g_strdup("moving house");
	firn_repo_info_push_update(made, FIRN_UPDATE_REPO_STATUS_CHANGED, NULL, NULL, NULL, "f", 6,
				   100);
	file = encode(made);
	info = decode(file);
	g_clear_pointer(&file, g_bytes_unref);
	file = encode(info);
	g_clear_pointer(&info, firn_repo_info_free);
	info = decode(file);
	ck_assert(!firn_repo_info_flag_enabled(info, FIRN_FLAG_CREATE_TAG));
	ck_assert(firn_repo_info_flag_enabled(info, FIRN_FLAG_DELETE_TAG));
	ck_assert(firn_repo_info_flag_enabled(info, FIRN_FLAG_MOVE_NODE));
	ck_assert_uint_eq(info->disabled_flags->len, 1);
	ck_assert_uint_eq(info->availability, 1);
	ck_assert_str_eq(info->status_reason, "moving house");
	ck_assert_uint_eq(info->updates->len, 6);
}
END_TEST

START_TEST(decode_encode__ten_thousand_snapshots__all_there)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnId12 parent = firn_id_initial_snapshot;
	gint64 start;

	for (unsigned i = 0; i < 10000; i++) {
		FirnId12 id = id_of(i * 7919 % 10007);

		ck_assert(
			firn_repo_info_add_snapshot(made, &id, &parent, i + 2, "a message", NULL));
		parent = id;
	}
	file = encode(made);
	start = g_get_monotonic_time();
	info = decode(file);
	g_print("decode %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - start);
	start = g_get_monotonic_time();
	g_bytes_unref(file);
	file = encode(info);
	g_print("encode %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - start);
	ck_assert_uint_eq(info->snapshots->len, 10001);
	for (unsigned i = 0; parent.bytes[0] == 0x80; i++) {
		ck_assert_uint_lt(i, 10000);
		parent = firn_repo_info_find_snapshot(info, &parent)->parent;
	}
	ck_assert(firn_id12_equal(&parent, &firn_id_initial_snapshot));
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("repo_info");
	TCase *tc = tcase_create("repo_info");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, decode__golden__as_expected);
	tcase_add_test(tc, encode__golden__decodes_to_the_same);
	tcase_add_test(tc, new__repository__complete);
	tcase_add_test(tc, helpers__refs__sorted_and_unique);
	tcase_add_test(tc, encode__snapshot_in_front__indices_follow);
	tcase_add_test(tc, encode__ref_to_nothing__refused);
	tcase_add_test(tc, push_update__times_and_backups__as_the_format_says);
	tcase_add_test(tc, push_update__no_backups__kept_beyond_the_limit);
	tcase_add_test(tc, flags__defaults_and_overrides__as_set);
	tcase_add_test(tc, decode_encode__ten_thousand_snapshots__all_there);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
