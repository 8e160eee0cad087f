#include "core/base/clock.h"
#include "core/repo/refs.h"
#include "core/repo/repo.h"
#include "core/store/fault.h"
#include "core/zarr/name.h"
#include "tests/unit/repo_fixture.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const golden[] = { "v1", "v2", "v2-split" };

/* ---- reading what the official library wrote ---- */

static JsonNode *
load_json(const char *name, const char *file)
{
	g_autofree char *path = g_build_filename("tests/golden", name, file, NULL);
	g_autoptr(JsonParser) parser = json_parser_new();

	ck_assert(json_parser_load_from_file(parser, path, NULL));
	return json_parser_steal_root(parser);
}

static char *
digest(FirnSpan bytes)
{
	return g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes.data, bytes.len);
}

/* `key` must be listed with these bytes; each is taken out once seen. */
static void
expect(JsonObject *wanted, const char *key, FirnSpan bytes)
{
	g_autofree char *sha = digest(bytes);
	JsonArray *entry;

	ck_assert_msg(json_object_has_member(wanted, key), "unexpected key %s", key);
	entry = json_object_get_array_member(wanted, key);
	ck_assert_uint_eq((uint64_t)json_array_get_int_element(entry, 0), bytes.len);
	ck_assert_str_eq(json_array_get_string_element(entry, 1), sha);
	json_object_remove_member(wanted, key);
}

static void
expect_chunk(FirnRepo *repo, JsonObject *wanted, const char *key, const FirnRef *ref)
{
	g_autoptr(GBytes) chunk = NULL;
	g_autofree char *object = NULL;
	char id[FIRN_ID12_TEXT + 1];
	FirnSpan span;

	if (ref->kind == FIRN_REF_INLINE) {
		expect(wanted, key, ref->bytes);
		return;
	}
	ck_assert_int_eq(ref->kind, FIRN_REF_NATIVE);
	firn_id12_format(&ref->id, id);
	object = g_strconcat("chunks/", id, NULL);
	ck_assert(firn_store_get(firn_repo_store(repo), object, ref->offset, ref->length, &chunk,
				 NULL, NULL));
	ck_assert_ptr_nonnull(chunk);
	span.data = g_bytes_get_data(chunk, &span.len);
	expect(wanted, key, span);
}

/* All refs of an array, each also by look-up. */
static void
expect_array(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
	     const char *prefix, JsonObject *wanted)
{
	g_autoptr(FirnRefIter) iter = firn_ref_iter_new(repo, snapshot, node, NULL, 0);
	g_autoptr(GError) error = NULL;
	const uint32_t *coords;
	FirnRef ref;

	while (firn_ref_iter_next(iter, &coords, &ref, NULL, &error) == 1) {
		g_autofree char *name = firn_name_format_chunk(coords, node->rank);
		g_autofree char *key = g_strconcat(prefix, name, NULL);
		g_autoptr(FirnManifest) manifest = NULL;
		FirnRef found;

		ck_assert(firn_repo_find_chunk(repo, snapshot, node, coords, &found, &manifest,
					       &error));
		ck_assert_uint_eq(found.length, ref.length);
		expect_chunk(repo, wanted, key, &ref);
	}
	ck_assert_no_error(error);
}

static void
expect_tree(FirnRepo *repo, const FirnId12 *id, JsonObject *wanted)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot = firn_repo_get_snapshot(repo, id, &error);

	ck_assert_no_error(error);
	for (size_t i = 0; i < firn_snapshot_n_nodes(snapshot); i++) {
		g_autofree char *prefix = NULL;
		g_autofree char *key = NULL;
		FirnSnapshotNode node;

		firn_snapshot_node(snapshot, i, &node);
		prefix = node.path.len == 1 ? g_strdup("")
					    : g_strdup_printf("%.*s/", (int)node.path.len - 1,
							      (const char *)node.path.data + 1);
		key = g_strconcat(prefix, "zarr.json", NULL);
		expect(wanted, key, node.meta);
		if (node.kind == FIRN_NODE_ARRAY)
			expect_array(repo, snapshot, &node, prefix, wanted);
	}
	ck_assert_uint_eq(json_object_get_size(wanted), 0);
}

START_TEST(open__golden__every_ref_has_its_content)
{
	g_autofree char *path = g_build_filename("tests/golden", golden[_i], "repo", NULL);
	g_autoptr(FirnRepo) repo = open_repo(path);
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(JsonNode) contents = load_json(golden[_i], "contents.json");
	g_autoptr(GList) refs = json_object_get_members(json_node_get_object(contents));

	ck_assert_uint_eq(firn_repo_spec_version(repo), _i == 0 ? 1 : 2);
	for (GList *l = refs; l != NULL; l = l->next) {
		g_autofree char *ref = g_strdup(l->data);
		FirnId12 id;

		*strchr(ref, '/') = ':';
		ck_assert(firn_refs_resolve(info, ref, &id, NULL));
		expect_tree(repo, &id,
			    json_object_get_object_member(json_node_get_object(contents), l->data));
	}
	ck_assert(firn_repo_info_tag_was_deleted(info, "gone"));
	ck_assert_ptr_null(firn_repo_info_find_tag(info, "gone"));
	ck_assert_uint_eq(info->branches->len, 2);
	ck_assert_uint_eq(info->tags->len, 1);
}
END_TEST

START_TEST(open__golden__history_is_the_log)
{
	g_autofree char *path = g_build_filename("tests/golden", golden[_i], "repo", NULL);
	g_autoptr(FirnRepo) repo = open_repo(path);
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(JsonNode) log = load_json(golden[_i], "log.json");
	JsonArray *entries = json_node_get_array(log);
	const FirnSnapshotInfo *snapshot =
		firn_repo_info_find_snapshot(info,
					     &firn_repo_info_find_branch(info, "main")->snapshot);

	for (guint i = 0; i < json_array_get_length(entries); i++) {
		JsonObject *entry = json_array_get_object_element(entries, i);
		g_autoptr(JsonNode) metadata = NULL;
		char id[FIRN_ID12_TEXT + 1];
		uint64_t at;

		ck_assert_ptr_nonnull(snapshot);
		firn_id12_format(&snapshot->id, id);
		ck_assert_str_eq(id, json_object_get_string_member(entry, "id"));
		ck_assert_str_eq(snapshot->message,
				 json_object_get_string_member(entry, "message"));
		ck_assert(firn_clock_parse_us(json_object_get_string_member(entry, "written_at"),
					      &at));
		ck_assert_uint_eq(snapshot->flushed_at, at);
		if (snapshot->metadata != NULL)
			metadata = json_node_init_object(json_node_alloc(), snapshot->metadata);
		else
			metadata = json_from_string("{}", NULL);
		ck_assert(json_node_equal(metadata, json_object_get_member(entry, "metadata")));
		if (!snapshot->has_parent)
			ck_assert_uint_eq(firn_repo_identity(repo), at);
		snapshot = snapshot->has_parent
				   ? firn_repo_info_find_snapshot(info, &snapshot->parent)
				   : NULL;
	}
	ck_assert_ptr_null(snapshot);
}
END_TEST

START_TEST(open__no_repository__says_the_way_out)
{
	g_autofree char *missing = g_build_filename(scratch, "missing", NULL);
	const char *const urls[] = { scratch, missing };

	for (size_t i = 0; i < G_N_ELEMENTS(urls); i++) {
		g_autoptr(GError) error = NULL;

		ck_assert_ptr_null(firn_repo_open(urls[i], &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
		ck_assert_ptr_nonnull(strstr(error->message, "no Icechunk repository"));
		ck_assert_ptr_nonnull(strstr(error->message, "firn init"));
	}
}
END_TEST

START_TEST(open__broken_repo_object__is_a_format_error)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GBytes) junk = g_bytes_new_static("junk", 4);
	g_autoptr(GError) error = NULL;

	ck_assert(firn_store_put(firn_repo_store(repo), "repo", junk, FIRN_PUT_ANY, NULL, NULL,
				 NULL));
	ck_assert_ptr_null(firn_repo_open(scratch, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, scratch));
}
END_TEST

START_TEST(get__missing_objects__are_named)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 id = { { 1, 2, 3 } };
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(firn_repo_get_snapshot(repo, &id, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(error->message, "snapshots/0410600"));
	g_clear_error(&error);
	ck_assert_ptr_null(firn_repo_get_manifest(repo, &id, 10, FIRN_CACHE_KEEP, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_repo_get_txlog(repo, &id, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}
END_TEST

START_TEST(get__cut_off_manifest__is_a_format_error)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 id = { { 1 } };
	g_autoptr(GBytes) file = g_bytes_new_static("short", 5);
	g_autoptr(GError) error = NULL;

	put_object(repo, "manifests", &id, file);
	ck_assert_ptr_null(firn_repo_get_manifest(repo, &id, 100, FIRN_CACHE_KEEP, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, "5 of 100"));
}
END_TEST

/* ---- create ---- */

START_TEST(create__empty_place__has_the_initial_snapshot)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepoInfo) info = read_info(repo);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot =
		firn_repo_get_snapshot(repo, &firn_id_initial_snapshot, &error);
	g_autoptr(FirnTxlog) txlog = firn_repo_get_txlog(repo, &firn_id_initial_snapshot, &error);
	g_autoptr(FirnConfig) config = firn_repo_read_config(repo, &error);
	g_autoptr(JsonObject) metadata = NULL;
	const FirnSnapshotInfo *row;

	ck_assert_no_error(error);
	row = firn_repo_info_find_snapshot(info, &firn_id_initial_snapshot);
	ck_assert_uint_eq(firn_snapshot_n_nodes(snapshot), 0);
	ck_assert_uint_eq(firn_snapshot_flushed_at(snapshot), row->flushed_at);
	ck_assert_str_eq(firn_snapshot_message(snapshot), row->message);
	metadata = firn_snapshot_metadata(snapshot, &error);
	ck_assert(json_object_equal(metadata, row->metadata));
	ck_assert_uint_eq(firn_txlog_n_arrays(txlog), 0);
	ck_assert_uint_eq(info->updates->len, 1);
	ck_assert_uint_eq(firn_repo_identity(repo), row->flushed_at);
}
END_TEST

START_TEST(create__something_there__is_refused)
{
	static const char *const files[] = { "notes.txt", "deep/er/file", "repo" };
	g_autofree char *root = g_build_filename(scratch, "r", NULL);
	g_autofree char *file = g_build_filename(root, files[_i], NULL);
	g_autofree char *dir = g_path_get_dirname(file);
	g_autoptr(GError) error = NULL;

	ck_assert_int_eq(g_mkdir_with_parents(dir, 0755), 0);
	ck_assert(g_file_set_contents(file, "x", 1, NULL));
	ck_assert(!firn_repo_create(root, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
}
END_TEST

START_TEST(create__empty_directories_and_our_own__are_fine)
{
	g_autofree char *empty = g_build_filename(scratch, "r", "chunks", NULL);
	g_autofree char *own = g_build_filename(scratch, "r", "firn", NULL);
	g_autofree char *lock = g_build_filename(own, "lock", NULL);
	g_autofree char *root = g_build_filename(scratch, "r", NULL);
	g_autoptr(GError) error = NULL;

	ck_assert_int_eq(g_mkdir_with_parents(empty, 0755), 0);
	ck_assert_int_eq(g_mkdir_with_parents(own, 0755), 0);
	ck_assert(g_file_set_contents(lock, "", 0, NULL));
	ck_assert_msg(firn_repo_create(root, &error), "%s", error != NULL ? error->message : "");
	ck_assert(!firn_repo_create(root, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS);
	ck_assert_ptr_nonnull(strstr(error->message, "repository already"));
}
END_TEST

static void *
create_one(void *data)
{
	g_autoptr(GError) error = NULL;
	bool won = firn_repo_create(data, &error);

	g_assert(won || g_error_matches(error, FIRN_ERROR, FIRN_ERROR_EXISTS));
	return GINT_TO_POINTER(won);
}

START_TEST(create__racing__one_wins)
{
	for (int round = 0; round < 5; round++) {
		g_autofree char *root = g_strdup_printf("%s/race%d", scratch, round);
		pthread_t threads[4];
		int total = 0;

		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
			ck_assert_int_eq(pthread_create(&threads[i], NULL, create_one, root), 0);
		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
			void *won;

			pthread_join(threads[i], &won);
			total += GPOINTER_TO_INT(won);
		}
		ck_assert_int_eq(total, 1);
		firn_repo_free(open_repo(root));
	}
}
END_TEST

/* ---- changed and failing under it ---- */

START_TEST(open__each_store_call_fails__error_and_no_leak)
{
	g_autofree char *path = g_build_filename("tests/golden", golden[_i], "repo", NULL);

	for (uint64_t at = 0; at < 1000; at++) {
		FirnStore *store = firn_fault_new(firn_store_open(path, false, NULL));
		g_autoptr(GError) error = NULL;
		g_autoptr(FirnRepo) repo = NULL;
		g_autoptr(FirnRepoInfo) info = NULL;

		firn_fault_arm(store, at, UINT64_MAX, EIO);
		repo = firn_repo_open_store(store, &error);
		if (repo != NULL)
			info = firn_repo_read_info(repo, &error);
		if (info != NULL)
			return;
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_STORE);
	}
	ck_abort_msg("never succeeded");
}
END_TEST

START_TEST(read_info__changed_by_another__is_seen)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnRepo) other = open_repo(scratch);
	g_autoptr(FirnRepoInfo) before = read_info(repo);
	g_autoptr(FirnRepoInfo) after = NULL;

	ck_assert(firn_refs_create_branch(other, "dev", &firn_id_initial_snapshot, NULL));
	after = read_info(repo);
	ck_assert_uint_eq(before->branches->len, 1);
	ck_assert_uint_eq(after->branches->len, 2);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("repo");
	TCase *read = tcase_create("read");
	TCase *create = tcase_create("create");
	int n = G_N_ELEMENTS(golden);

	tcase_add_checked_fixture(read, repo_setup, repo_teardown);
	tcase_add_loop_test(read, open__golden__every_ref_has_its_content, 0, n);
	tcase_add_loop_test(read, open__golden__history_is_the_log, 0, n);
	tcase_add_test(read, open__no_repository__says_the_way_out);
	tcase_add_test(read, open__broken_repo_object__is_a_format_error);
	tcase_add_test(read, get__missing_objects__are_named);
	tcase_add_test(read, get__cut_off_manifest__is_a_format_error);
	tcase_add_loop_test(read, open__each_store_call_fails__error_and_no_leak, 0, n);
	tcase_add_test(read, read_info__changed_by_another__is_seen);
	suite_add_tcase(s, read);

	tcase_add_checked_fixture(create, repo_setup, repo_teardown);
	tcase_add_test(create, create__empty_place__has_the_initial_snapshot);
	tcase_add_loop_test(create, create__something_there__is_refused, 0, 3);
	tcase_add_test(create, create__empty_directories_and_our_own__are_fine);
	tcase_add_test(create, create__racing__one_wins);
	suite_add_tcase(s, create);
	return s;
}

TEST_MAIN(make_suite)
