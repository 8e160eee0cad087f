#include "tests/unit/lineage.h"

#define START "group /;group /g;array /g/x 4 1;array /a 10 1;chunk /a 0 old0;chunk /a 1 old1"

/* ---- what cannot be committed ---- */

typedef struct {
	const char *script;
	FirnError code;
	const char *message; /* a part of it */
} Refusal;

static const Refusal refusals[] = {
	{ "", FIRN_ERROR_NOTHING, "nothing to commit" },
	{ "group /g", FIRN_ERROR_NOTHING, "nothing" },
	{ "array /a 10 1", FIRN_ERROR_NOTHING, "nothing" },
	{ "erase /a 7", FIRN_ERROR_NOTHING, "nothing" },
	{ "chunk /a 0 old0", FIRN_ERROR_NOTHING, "nothing" },
	{ "array /n 1 1;delete /n", FIRN_ERROR_NOTHING, "nothing" },
	{ "chunk /a 10 x", FIRN_ERROR_INVALID, "c/10" },
	{ "chunk /a 1,1 x", FIRN_ERROR_INVALID, "c/1/1" },
	{ "array /a 10 2", FIRN_ERROR_INVALID, "c/0" },
	{ "array /a 10 2;chunk /a 0 new", FIRN_ERROR_INVALID, "c/1" },
	{ "chunk /a 0 n;chunk /a 1 n;array /a 10 2", FIRN_ERROR_INVALID, "c/0" },
	{ "array /a/b 1 1", FIRN_ERROR_INVALID, "/a" },
	{ "pending /z/c/0 x", FIRN_ERROR_INVALID, "/z/c/0" },
	{ "group /g//h", FIRN_ERROR_INVALID, "no path" },
	{ "group /g/..", FIRN_ERROR_INVALID, "no path" },
};

START_TEST(commit__what_would_lose_or_break_something__is_refused)
{
	const Refusal *r = &refusals[_i];
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), tip;
	Actor *a = actor_new(repo, &base, "a");
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	actor_do(a, r->script);
	ck_assert(!commit_changes(repo, a->section->changes, NULL, &base, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, r->code);
	ck_assert_msg(strstr(error->message, r->message) != NULL, "%s", error->message);
	tip = tip_of(repo);
	ck_assert(firn_id12_equal(&tip, &base));
	actor_free(a);
}
END_TEST

/* ---- what can ---- */

typedef struct {
	const char *script;
	const char *tree;
} Good;

static const Good goods[] = {
	{ "erase /a 0;erase /a 1;array /a 10 2;chunk /a 4 n",
	  "/ group; /a array 4=n; /g group; /g/x array" },
	{ "array /a 10 2;chunk /a 0 n;chunk /a 1 m",
	  "/ group; /a array 0=n 1=m; /g group; /g/x array" },
	{ "array /a 1 1", "/ group; /a array 0=old0; /g group; /g/x array" },
	{ "array /a 1 1;array /a 10 1", "/ group; /a array 0=old0; /g group; /g/x array" },
	{ "array /a 0 1", "/ group; /a array; /g group; /g/x array" },
	{ "array /a 20 1;chunk /a 19 n",
	  "/ group; /a array 0=old0 1=old1 19=n; /g group; /g/x array" },
	{ "array /a 10x2 1x1;chunk /a 9,1 n", "/ group; /a array 9,1=n; /g group; /g/x array" },
	{ "array /a - -;chunk /a - n", "/ group; /a array=n; /g group; /g/x array" },
	{ "erase /a 0;erase /a 1", "/ group; /a array; /g group; /g/x array" },
	{ "native /a 1 native;virtual /a 3 s3://b/k",
	  "/ group; /a array 0=old0 1=native 3=s3://b/k; /g group; /g/x array" },
	{ "delete /a;array /a 5 1;chunk /a 2 n", "/ group; /a array 2=n; /g group; /g/x array" },
	{ "delete /a;group /a;array /a/b 1 1",
	  "/ group; /a group; /a/b array; /g group; /g/x array" },
	{ "delete /g", "/ group; /a array 0=old0 1=old1; /g group; /g/x array" },
	{ "array /p/q/r 1 1;group /a-b",
	  "/ group; /a array 0=old0 1=old1; /a-b group; /g group; /g/x array; /p group; /p/q group; "
	  "/p/q/r array" },
	{ "delete /g/x;delete /g;delete /a;delete /", "" },
};

START_TEST(commit__good_changes__are_in_the_snapshot)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), next;
	g_autofree char *got = NULL;

	next = commit_script(repo, goods[_i].script);
	got = print_tree(repo, &next);
	ck_assert_str_eq(got, goods[_i].tree);
	g_clear_pointer(&got, g_free);
	got = print_tree(repo, &base);
	ck_assert_str_eq(got, "/ group; /a array 0=old0 1=old1; /g group; /g/x array");
}
END_TEST

START_TEST(commit__first_of_a_repository__makes_the_groups_above)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 id = commit_script(repo, "array /p/a 3 1;chunk /p/a 2 x");
	g_autofree char *got = print_tree(repo, &id);

	ck_assert_str_eq(got, "/ group; /p group; /p/a array 2=x");
}
END_TEST

START_TEST(commit__pending_forced__is_dropped)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a");
	FirnCommitOptions options = { .force = true };
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	actor_do(a, "pending /z/c/0 x;chunk /a 2 n");
	ck_assert(
		commit_changes(repo, a->section->changes, &options, &base, &result, NULL, &error));
	ck_assert_uint_eq(result.n_chunks, 1);
	ck_assert_uint_eq(result.n_nodes, 0);
	ck_assert_uint_eq(result.n_manifests_written, 1);
	actor_free(a);
}
END_TEST

START_TEST(commit__native_chunk_missing_or_short__is_refused_by_name)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);

	for (int i = 0; i < 2; i++) {
		Actor *a = actor_new(repo, &base, "a");
		g_autoptr(GError) error = NULL;
		FirnCommitResult result;
		FirnNodeChange *node;
		FirnChunkChange *change;
		FirnRef ref;

		actor_do(a, "native /a 3 content");
		node = firn_changes_find_path(a->section->changes, "/a");
		change = firn_chunk_map_find(node->chunks, (uint32_t[]){ 3 });
		firn_chunk_change_get(change, &ref);
		if (i == 0)
			ref.length = 100;
		else
			ref.id = firn_id12_random();
		firn_chunk_map_set(node->chunks, change, &ref);
		ck_assert(!commit_changes(repo, a->section->changes, NULL, &base, &result, NULL,
					  &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
		ck_assert_ptr_nonnull(strstr(error->message, "/a c/3"));
		actor_free(a);
	}
}
END_TEST

START_TEST(commit__consolidated_metadata__is_left_out)
{
	static const char text[] =
		"{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":{\"kind\":1},"
		"\"attributes\":{}}";
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a");
	g_autoptr(GBytes) raw = g_bytes_new_static(text, strlen(text));
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	FirnSnapshotNode node;

	actor_put(a, "/g", firn_meta_parse(raw, NULL));
	ck_assert(commit_changes(repo, a->section->changes, NULL, &base, &result, NULL, &error));
	snapshot = firn_repo_get_snapshot(repo, &result.snapshot, &error);
	firn_snapshot_node(snapshot, 2, &node);
	ck_assert_int_eq(node.path.data[1], 'g');
	ck_assert_ptr_null(
		g_strstr_len((const char *)node.meta.data, (gssize)node.meta.len, "consolidated"));
	actor_free(a);
}
END_TEST

/* ---- splits ---- */

static uint32_t
n_manifests(FirnRepo *repo, const FirnId12 *id, const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot = firn_repo_get_snapshot(repo, id, &error);
	FirnSnapshotNode node;
	size_t index;

	ck_assert(firn_snapshot_find_path(snapshot, path, strlen(path), &index));
	firn_snapshot_node(snapshot, index, &node);
	ck_assert_uint_eq(firn_snapshot_n_manifest_files(snapshot), node.n_manifests);
	return node.n_manifests;
}

static bool
add_split(FirnRepoInfo *info, const char *backup, void *data, GError **error)
{
	const uint32_t *rule = data;
	JsonNode *config = firn_config_with_split(info->config, "/a", rule[0], rule[1]);

	(void)error;
	g_clear_pointer(&info->config, json_node_unref);
	info->config = config;
	firn_repo_info_push_update(info, FIRN_UPDATE_CONFIG_CHANGED, NULL, NULL, NULL, backup, 1,
				   1000);
	return true;
}

static void
set_split(FirnRepo *repo, uint32_t axis, uint32_t size)
{
	uint32_t rule[2] = { axis, size };
	g_autoptr(GError) error = NULL;

	ck_assert(firn_repo_update(repo, add_split, rule, &error));
}

/* A grid of chunks, each with its coordinates as text. */
static char *
fill(uint32_t rows, uint32_t columns)
{
	GString *out = g_string_new(NULL);

	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t j = 0; j < columns; j++)
			g_string_append_printf(out, "chunk /a %u,%u v%u.%u;", i, j, i, j);
	return g_string_free(out, FALSE);
}

START_TEST(commit__split_array__rewrites_only_what_is_touched)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autofree char *grid = fill(6, 6);
	g_autofree char *script = g_strconcat("array /a 6x6 1x1;", grid, NULL);
	g_autofree char *all = NULL, *got = NULL;
	FirnId12 id;

	set_split(repo, 0, 2);
	id = commit_script(repo, script);
	all = print_tree(repo, &id);
	ck_assert_uint_eq(n_manifests(repo, &id, "/a"), 3);
	for (int i = 0; i < 3; i++) {
		static const char *const scripts[] = { "chunk /a 3,3 n",
						       "chunk /a 1,0 n;chunk /a 2,0 n",
						       "array /a 6x6 1x1 at" };
		static const uint32_t written[] = { 1, 2, 0 };
		Actor *a = actor_new(repo, &id, "a");
		g_autoptr(GError) error = NULL;
		FirnCommitResult result;

		actor_do(a, scripts[i]);
		ck_assert(commit_changes(repo, a->section->changes, NULL, &id, &result, NULL,
					 &error));
		ck_assert_uint_eq(result.n_manifests_written, written[i]);
		ck_assert_uint_eq(n_manifests(repo, &result.snapshot, "/a"), 3);
		id = result.snapshot;
		actor_free(a);
	}
	/* Another split: what is touched, and what shares a manifest with it, follows. */
	set_split(repo, 1, 3);
	set_split(repo, 0, 3);
	id = commit_script(repo, "chunk /a 3,3 v3.3;chunk /a 1,0 v1.0;chunk /a 2,0 v2.0");
	got = print_tree(repo, &id);
	ck_assert_str_eq(got, all);
	/* Shrunk to one manifest's worth, then erased. */
	id = commit_script(repo, "array /a 1x2 1x1");
	g_clear_pointer(&got, g_free);
	got = print_tree(repo, &id);
	ck_assert_str_eq(got, "/ group; /a array 0,0=v0.0 0,1=v0.1");
	ck_assert_uint_eq(n_manifests(repo, &id, "/a"), 1);
	id = commit_script(repo, "erase /a 0,0;erase /a 0,1");
	ck_assert_uint_eq(n_manifests(repo, &id, "/a"), 0);
}
END_TEST

/* Random commits with random splits against a plain table. */
START_TEST(commit__random_history__is_what_a_table_says)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
	uint32_t table[8][8] = { { 0 } };
	uint32_t rows = 8, columns = 8;

	(void)commit_script(repo, "array /a 8x8 1x1");
	for (uint32_t round = 1; round < 12; round++) {
		g_autoptr(GString) script = g_string_new(NULL);
		g_autoptr(GString) wanted = g_string_new("/ group; /a array");
		g_autofree char *got = NULL;
		FirnId12 id;

		if (g_rand_int_range(rand, 0, 2) == 0)
			set_split(repo, (uint32_t)g_rand_int_range(rand, 0, 2),
				  (uint32_t)g_rand_int_range(rand, 1, 6));
		rows = (uint32_t)g_rand_int_range(rand, 4, 9);
		columns = (uint32_t)g_rand_int_range(rand, 4, 9);
		g_string_append_printf(script, "array /a %ux%u 1x1 %u;", rows, columns, round);
		for (uint32_t i = 0; i < 8; i++)
			for (uint32_t j = 0; j < 8; j++)
				table[i][j] = i < rows && j < columns ? table[i][j] : 0;
		for (uint32_t n = (uint32_t)g_rand_int_range(rand, 0, 20); n > 0; n--) {
			uint32_t i = (uint32_t)g_rand_int_range(rand, 0, (gint32)rows);
			uint32_t j = (uint32_t)g_rand_int_range(rand, 0, (gint32)columns);
			bool erase = g_rand_int_range(rand, 0, 3) == 0;

			table[i][j] = erase ? 0 : round;
			g_string_append_printf(script,
					       erase ? "erase /a %u,%u;" : "chunk /a %u,%u r%u;", i,
					       j, round);
		}
		id = commit_script(repo, script->str);
		for (uint32_t i = 0; i < 64; i++)
			if (table[i / 8][i % 8] != 0)
				g_string_append_printf(wanted, " %u,%u=r%u", i / 8, i % 8,
						       table[i / 8][i % 8]);
		got = print_tree(repo, &id);
		ck_assert_str_eq(got, wanted->str);
	}
}
END_TEST

/* Few changes at a time to one manifest: its rows are taken over. */
START_TEST(commit__few_changes_to_many_refs__are_what_a_table_says)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
	g_autoptr(GString) script = g_string_new("array /a 20x20 1x1;");
	uint32_t table[20][20] = { { 0 } };

	for (uint32_t i = 1; i < 19; i++)
		for (uint32_t j = 1; j < 19; j++) {
			g_string_append_printf(script, "chunk /a %u,%u r1;", i, j);
			table[i][j] = 1;
		}
	(void)commit_script(repo, script->str);
	for (uint32_t round = 2; round < 30; round++) {
		g_autoptr(GString) wanted = g_string_new("/ group; /a array");
		uint32_t limit = round < 20 ? 20 : 15;
		g_autofree char *got = NULL;
		FirnId12 id;

		/* In the middle of it the array shrinks. */
		g_string_printf(script, "array /a %ux20 1x1 %u;", limit, round);
		for (uint32_t n = (uint32_t)g_rand_int_range(rand, 0, 9); n > 0; n--) {
			uint32_t i = (uint32_t)g_rand_int_range(rand, 0, (gint32)limit);
			uint32_t j = (uint32_t)g_rand_int_range(rand, 0, 20);
			bool erase = g_rand_int_range(rand, 0, 3) == 0;

			table[i][j] = erase ? 0 : round;
			g_string_append_printf(script,
					       erase ? "erase /a %u,%u;" : "chunk /a %u,%u r%u;", i,
					       j, round);
		}
		id = commit_script(repo, script->str);
		for (uint32_t i = 0; i < limit * 20; i++)
			if (table[i / 20][i % 20] != 0)
				g_string_append_printf(wanted, " %u,%u=r%u", i / 20, i % 20,
						       table[i / 20][i % 20]);
		got = print_tree(repo, &id);
		ck_assert_str_eq(got, wanted->str);
		ck_assert_uint_eq(n_manifests(repo, &id, "/a"), 1);
	}
}
END_TEST

START_TEST(commit__large_new_array__gets_a_split_that_is_kept)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 id = commit_script(repo, "array /a 300000 1;chunk /a 0 x;chunk /a 299999 y");
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnConfig) config = firn_repo_read_config(repo, &error);
	uint32_t size = 0;

	ck_assert_uint_eq(n_manifests(repo, &id, "/a"), 2);
	ck_assert_no_error(error);
	firn_config_split_sizes(config, "/a", 1, NULL, &size);
	ck_assert_uint_eq(size, 100000);
}
END_TEST

/* ---- the log ---- */

typedef struct {
	const char *script;
	const char *log;
} LogCase;

static const LogCase logs[] = {
	{ "chunk /a 0 n;erase /a 1;erase /a 5", "chunks /a 0 1" },
	{ "array /a 1 1", "changed-array /a; chunks /a 1" },
	{ "group /g at;array /n 2 1;chunk /n 1 x", "new-array /n; changed-group /g; chunks /n 1" },
	{ "delete /g/x;delete /g", "deleted-group /g; deleted-array /g/x" },
	{ "delete /a;array /a 10 1", "new-array /a; deleted-array /a" },
	{ "array /p/n 2 1;array /t 1 1;delete /t", "new-group /p; new-array /p/n" },
};

static const char *const list_names[] = { "new-group",     "new-array",     "deleted-group",
					  "deleted-array", "changed-array", "changed-group" };

static void
print_id(GString *out, FirnSnapshot *const *snapshots, const char *what, const FirnId8 *id)
{
	for (int i = 0; i < 2; i++) {
		FirnSnapshotNode node;
		size_t index;

		if (!firn_snapshot_find_id(snapshots[i], id, &index))
			continue;
		firn_snapshot_node(snapshots[i], index, &node);
		g_string_append_printf(out, "%s%s %.*s", out->len > 0 ? "; " : "", what,
				       (int)node.path.len, (const char *)node.path.data);
		return;
	}
	ck_abort_msg("an unknown id in the log");
}

static char *
print_log(FirnRepo *repo, const FirnId12 *before, const FirnId12 *after)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnTxlog) log = firn_repo_get_txlog(repo, after, &error);
	g_autoptr(FirnSnapshot) a = firn_repo_get_snapshot(repo, before, &error);
	g_autoptr(FirnSnapshot) b = firn_repo_get_snapshot(repo, after, &error);
	FirnSnapshot *const snapshots[] = { b, a };
	GString *out = g_string_new(NULL);

	ck_assert_no_error(error);
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(log, (FirnTxlogList)list, &n);

		for (size_t i = 0; i < n; i++)
			print_id(out, snapshots, list_names[list], &ids[i]);
	}
	for (size_t i = 0; i < firn_txlog_n_arrays(log); i++) {
		FirnId8 node;
		size_t n;

		firn_txlog_array(log, i, &node, &n);
		print_id(out, snapshots, "chunks", &node);
		for (size_t j = 0; j < n; j++) {
			uint32_t rank;

			g_string_append_printf(out, " %u", *firn_txlog_chunk(log, i, j, &rank));
		}
	}
	return g_string_free(out, FALSE);
}

START_TEST(commit__log__says_what_changed)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), next;
	g_autofree char *got = NULL;

	next = commit_script(repo, logs[_i].script);
	got = print_log(repo, &base, &next);
	ck_assert_str_eq(got, logs[_i].log);
}
END_TEST

START_TEST(commit__amend__takes_the_place_of_the_tip)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), tip;
	FirnCommitOptions options = { .amend = true, .message = "better" };
	Actor *a;
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *got = NULL, *log = NULL;
	FirnCommitResult result;
	const FirnUpdateInfo *newest;

	tip = commit_script(repo, "chunk /a 2 two;array /n 2 1");
	a = actor_new(repo, &tip, "a");
	actor_do(a, "chunk /a 3 three;chunk /a 2 zwei");
	ck_assert(commit_changes(repo, a->section->changes, &options, &tip, &result, NULL, &error));
	ck_assert(firn_id12_equal(&result.parent, &base));
	got = print_tree(repo, &result.snapshot);
	ck_assert_str_eq(got,
			 "/ group; /a array 0=old0 1=old1 2=zwei 3=three; /g group; /g/x array; "
			 "/n array");
	log = print_log(repo, &base, &result.snapshot);
	ck_assert_str_eq(log, "new-array /n; chunks /a 2 3");
	info = read_info(repo);
	newest = info->updates->pdata[0];
	ck_assert_uint_eq(newest->kind, FIRN_UPDATE_COMMIT_AMENDED);
	ck_assert_ptr_nonnull(firn_repo_info_find_snapshot(info, &tip));
	/* The first snapshot cannot be. */
	actor_free(a);
}
END_TEST

START_TEST(commit__amend_initial_snapshot__is_refused)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnCommitOptions options = { .amend = true };
	FirnId12 tip = tip_of(repo);
	Actor *a = actor_new(repo, &tip, "a");
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	actor_do(a, "group /");
	ck_assert(
		!commit_changes(repo, a->section->changes, &options, &tip, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	actor_free(a);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("commit");
	TCase *tc = tcase_create("commit");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, commit__what_would_lose_or_break_something__is_refused, 0,
			    G_N_ELEMENTS(refusals));
	tcase_add_loop_test(tc, commit__good_changes__are_in_the_snapshot, 0, G_N_ELEMENTS(goods));
	tcase_add_test(tc, commit__first_of_a_repository__makes_the_groups_above);
	tcase_add_test(tc, commit__pending_forced__is_dropped);
	tcase_add_test(tc, commit__native_chunk_missing_or_short__is_refused_by_name);
	tcase_add_test(tc, commit__consolidated_metadata__is_left_out);
	tcase_add_test(tc, commit__split_array__rewrites_only_what_is_touched);
	tcase_add_loop_test(tc, commit__random_history__is_what_a_table_says, 0, 8);
	tcase_add_loop_test(tc, commit__few_changes_to_many_refs__are_what_a_table_says, 0, 5);
	tcase_add_test(tc, commit__large_new_array__gets_a_split_that_is_kept);
	tcase_add_loop_test(tc, commit__log__says_what_changed, 0, G_N_ELEMENTS(logs));
	tcase_add_test(tc, commit__amend__takes_the_place_of_the_tip);
	tcase_add_test(tc, commit__amend_initial_snapshot__is_refused);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(suite)
