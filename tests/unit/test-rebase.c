#include "core/store/fault.h"
#include "tests/unit/lineage.h"

#include <errno.h>

#define START "group /;group /g;array /g/x 4 1;array /a 10 1;chunk /a 0 old0;chunk /a 1 old1"

/* A commit that meets another: rebase, and what the store refuses on the way. */

/* P is committed first, C then meets it. */
typedef struct {
	const char *p;
	const char *c;
	const char *fail; /* conflicts with FAIL; "": none */
	const char *ours; /* trees with OURS and THEIRS; NULL: as FAIL */
	const char *theirs;
} Rebase;

#define REST "; /g group; /g/x array"

static const Rebase rebases[] = {
	{ "chunk /a 0 P", "chunk /a 0 C", "chunk /a 0", "/ group; /a array 0=C 1=old1" REST,
	  "/ group; /a array 0=P 1=old1" REST },
	{ "chunk /a 0 P", "erase /a 0", "chunk-deleted /a 0", "/ group; /a array 1=old1" REST,
	  "/ group; /a array 0=P 1=old1" REST },
	{ "erase /a 0", "chunk /a 0 C", "chunk-deleted /a 0", "/ group; /a array 0=C 1=old1" REST,
	  "/ group; /a array 1=old1" REST },
	{ "chunk /a 0 S", "chunk /a 0 S;chunk /a 5 C", "", "/ group; /a array 0=S 1=old1 5=C" REST,
	  NULL },
	{ "chunk /a 0 P", "chunk /a 2 C", "", "/ group; /a array 0=P 1=old1 2=C" REST, NULL },
	{ "array /a 10 1 P", "array /a 10 1 C", "meta /a", NULL, NULL },
	{ "array /a 10 1 S", "array /a 10 1 S;chunk /a 2 C", "",
	  "/ group; /a array 0=old0 1=old1 2=C" REST, NULL },
	{ "array /a 10 1 P", "chunk /a 2 C", "", "/ group; /a array 0=old0 1=old1 2=C" REST, NULL },
	{ "chunk /a 2 P", "array /a 10 1 C", "", "/ group; /a array 0=old0 1=old1 2=P" REST, NULL },
	{ "chunk /a 3 P", "array /a 2 1", "chunk-outside /a 3", NULL, NULL },
	{ "chunk /a 1 P", "array /a 2 1", "", "/ group; /a array 0=old0 1=P" REST, NULL },
	{ "chunk /a 3 P", "array /a 2 1;array /a 10 1", "chunk-outside /a 3", NULL, NULL },
	{ "chunk /a 3 P", "erase /a 0;erase /a 1;array /a 10 2", "chunk-geometry /a 3", NULL,
	  NULL },
	{ "array /a 2 1", "chunk /a 3 C", "chunk-outside /a 3", NULL, NULL },
	{ "erase /a 0;erase /a 1;array /a 10 2", "chunk /a 3 C", "chunk-geometry /a 3", NULL,
	  NULL },
	{ "array /a 20 1;chunk /a 15 P", "array /a 20 1;chunk /a 16 C", "",
	  "/ group; /a array 0=old0 1=old1 15=P 16=C" REST, NULL },
	{ "array /a 10 1 x;array /a 20 1;chunk /a 15 P",
	  "array /a 10 1 x;array /a 20 1;chunk /a 16 C", "",
	  "/ group; /a array 0=old0 1=old1 15=P 16=C" REST, NULL },
	{ "delete /a", "chunk /a 2 C", "chunk-no-array /a 2", NULL, NULL },
	{ "delete /a", "array /a 10 1 C", "meta-deleted /a", NULL, NULL },
	{ "chunk /a 2 P", "delete /a", "chunk-no-array /a 2", NULL, NULL },
	{ "array /a 10 1 P", "delete /a", "meta-deleted /a", NULL, NULL },
	{ "delete /a", "delete /a;group /n", "", "/ group; /g group; /g/x array; /n group", NULL },
	{ "delete /g/x;delete /g", "array /g/n 1 1", "parent /g/n", NULL, NULL },
	{ "array /g/n 1 1", "delete /g/x;delete /g", "parent /g/n", NULL, NULL },
	{ "array /n 1 1", "array /n 2 1", "created /n", NULL, NULL },
	{ "array /n 1 1", "group /n", "kind /n", NULL, NULL },
	{ "array /n 4 1;chunk /n 0 P", "array /n 4 1;chunk /n 1 C", "",
	  "/ group; /a array 0=old0 1=old1" REST "; /n array 0=P 1=C", NULL },
	{ "array /n 4 1;chunk /n 0 P", "array /n 4 1;chunk /n 0 C", "chunk /n 0",
	  "/ group; /a array 0=old0 1=old1" REST "; /n array 0=C",
	  "/ group; /a array 0=old0 1=old1" REST "; /n array 0=P" },
	{ "array /n 1 1", "array /n/x 1 1", "parent /n/x", NULL, NULL },
	{ "array /n/x 1 1", "array /n 1 1", "kind /n; parent /n/x", NULL, NULL },
	{ "group /n/x", "array /n/y 1 1", "",
	  "/ group; /a array 0=old0 1=old1" REST "; /n group; /n/x group; /n/y array", NULL },
	{ "delete /a;array /a 5 1", "chunk /a 2 C", "chunk-no-array /a 2", NULL, NULL },
	{ "chunk /a 2 P", "delete /a;array /a 5 1", "chunk-no-array /a 2", NULL, NULL },
	{ "delete /a;array /a 5 1", "delete /a;array /a 6 1", "created /a", NULL, NULL },
	{ "delete /a;array /a 5 1", "delete /a", "meta-deleted /a", NULL, NULL },
	{ "delete /a", "delete /a;array /a 5 1", "meta-deleted /a", NULL, NULL },
	/* written as it was */
	{ "array /a 20 1;chunk /a 15 P", "array /a 10 1 C;array /a 10 1;chunk /a 3 C", "",
	  "/ group; /a array 0=old0 1=old1 3=C 15=P" REST, NULL },
	{ "array /a 2 1 P", "array /a 10 1 C;array /a 10 1;chunk /a 3 C", "chunk-outside /a 3",
	  NULL, NULL },
	{ "array /a 10 1 P", "array /a 1 1;array /a 10 1", "meta /a", NULL, NULL },
	/* gives way under another geometry */
	{ "chunk /a 0 P", "erase /a 0;erase /a 1;array /a 10 2", "chunk-deleted /a 0",
	  "/ group; /a array" REST, NULL },
};

static void
rebase_once(const Rebase *r, FirnRebase policy, const char *conflicts, const char *tree)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), tip;
	Actor *c = actor_new(repo, &base, "c");
	/* All of ours may give way. */
	FirnCommitOptions options = { .rebase = policy,
				      .allow_empty = policy == FIRN_REBASE_THEIRS };
	g_autoptr(GPtrArray) found = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	g_autofree char *got = NULL;
	bool done;

	tip = commit_script(repo, r->p);
	actor_do(c, r->c);
	done = commit_changes(repo, c->section->changes, &options, &base, &result, &found, &error);
	got = done ? print_tree(repo, &result.snapshot) : print_conflicts(found);
	if (done) {
		ck_assert_msg(tree == NULL || strcmp(tree, got) == 0, "%s | %s: %s", r->p, r->c,
			      got);
		ck_assert(firn_id12_equal(&result.parent, &tip));
	} else {
		FirnId12 now = tip_of(repo);

		ck_assert_msg(g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT),
			      "%s | %s: %s", r->p, r->c, error->message);
		ck_assert_msg(strcmp(got, conflicts) == 0, "%s | %s: wanted <%s>, got <%s>", r->p,
			      r->c, conflicts, got);
		ck_assert(firn_id12_equal(&now, &tip));
	}
	ck_assert_msg(done == (conflicts[0] == '\0'), "%s | %s: %s", r->p, r->c, got);
	actor_free(c);
	repo_teardown();
	repo_setup();
}

START_TEST(commit__branch_moved__as_the_table_says)
{
	const Rebase *r = &rebases[_i];

	rebase_once(r, FIRN_REBASE_FAIL, r->fail, r->fail[0] == '\0' ? r->ours : NULL);
	if (r->ours != NULL)
		rebase_once(r, FIRN_REBASE_OURS, "", r->ours);
	else
		rebase_once(r, FIRN_REBASE_OURS, r->fail, NULL);
	if (r->theirs != NULL)
		rebase_once(r, FIRN_REBASE_THEIRS, "", r->theirs);
}
END_TEST

START_TEST(commit__branch_moved_without_rebase__is_a_conflict)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *c = actor_new(repo, &base, "c");
	g_autoptr(GPtrArray) found = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitOptions options = { .branch = "gone" };
	FirnCommitResult result;

	(void)commit_script(repo, "chunk /a 2 P");
	actor_do(c, "chunk /a 3 C");
	ck_assert(!commit_changes(repo, c->section->changes, NULL, &base, &result, &found, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	ck_assert_uint_eq(found->len, 0);
	g_clear_error(&error);
	ck_assert(
		!commit_changes(repo, c->section->changes, &options, &base, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	actor_free(c);
}
END_TEST

/* Another commit goes through between our writing and our update. */
static bool
overtake(const FirnId12 *snapshot, void *data, GError **error)
{
	FirnRepo **repo = data;
	FirnRepo *other = *repo;

	(void)snapshot;
	(void)error;
	*repo = NULL;
	if (other != NULL)
		(void)commit_script(other, "chunk /a 8 P");
	return true;
}

START_TEST(commit__overtaken__rebases_and_goes_through)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *c = actor_new(repo, &base, "c");
	FirnRepo *other = repo;
	FirnCommitOptions options = { .rebase = FIRN_REBASE_FAIL,
				      .intent = overtake,
				      .data = &other };
	g_autoptr(GError) error = NULL;
	g_autofree char *got = NULL;
	FirnCommitResult result;

	actor_do(c, "chunk /a 9 C");
	ck_assert(
		commit_changes(repo, c->section->changes, &options, &base, &result, NULL, &error));
	ck_assert_ptr_null(other);
	got = print_tree(repo, &result.snapshot);
	ck_assert_str_eq(got, "/ group; /a array 0=old0 1=old1 8=P 9=C" REST);
	actor_free(c);
}
END_TEST

/* ---- failures ---- */

START_TEST(commit__store_fails_at_any_call__branch_is_as_before_or_committed)
{
	g_autoptr(GError) error = NULL;
	FirnStore *fault;
	g_autoptr(FirnRepo) repo = NULL;
	FirnId12 base;
	uint64_t n_calls = 0;

	{
		g_autoptr(FirnRepo) plain = new_repo();

		base = commit_script(plain, START);
	}
	fault = firn_fault_new(firn_store_open(scratch, false, &error));
	repo = firn_repo_open_store(fault, &error);
	ck_assert_no_error(error);
	for (uint64_t at = 0; at < 200; at++) {
		Actor *a = actor_new(repo, &base, "a");
		FirnCommitResult result;
		FirnId12 tip;
		bool done;

		actor_do(a, "native /a 5 five;chunk /a 6 six;array /n 2 1");
		n_calls = firn_fault_calls(fault);
		firn_fault_arm(fault, at, 1, EIO);
		done = commit_changes(repo, a->section->changes, NULL, &base, &result, NULL,
				      &error);
		n_calls = firn_fault_calls(fault) - n_calls;
		firn_fault_arm(fault, 0, 0, EIO);
		tip = tip_of(repo);
		if (done)
			ck_assert(firn_id12_equal(&tip, &result.snapshot));
		actor_free(a);
		if (done) {
			ck_assert_uint_ge(at, 5);
			return;
		}
		g_clear_error(&error);
		if (!firn_id12_equal(&tip, &base))
			base = tip;
	}
	ck_abort_msg("never went through");
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("rebase");
	TCase *tc = tcase_create("rebase");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, commit__branch_moved__as_the_table_says, 0, G_N_ELEMENTS(rebases));
	tcase_add_test(tc, commit__branch_moved_without_rebase__is_a_conflict);
	tcase_add_test(tc, commit__overtaken__rebases_and_goes_through);
	tcase_add_test(tc, commit__store_fails_at_any_call__branch_is_as_before_or_committed);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(suite)
