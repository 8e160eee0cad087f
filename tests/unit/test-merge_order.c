#include "tests/unit/lineage.h"

/*
 * What comes of three journals, whatever their session ids: those of P, of W, and of V.  W and V
 * are forks of P when it had done `before`, or of the base snapshot.
 */
typedef struct {
	const char *before;
	const char *after;
	bool w_forked, v_forked;
	const char *w;
	const char *v;
	const char *conflicts; /* "": none */
	const char *tree;      /* what a commit of it has; NULL: not looked at */
} Case;

#define START "group /;array /a 10 1;chunk /a 0 old0;chunk /a 8 old8"

static const Case cases[] = {
	/* consolidated metadata */
	{ "group /  p", "", false, false, "group /  w;array /w 2 1;chunk /w 0 w",
	  "group /;array /v 2 1;chunk /v 0 v", "",
	  "/ group; /a array 0=old0 8=old8; /v array 0=v; /w array 0=w" },
	{ "group /  p", "", true, false, "group / new w", "group /  v", "",
	  "/ group; /a array 0=old0 8=old8" },
	{ "group / new p", "", true, false, "group /  w", "group / other v", "meta /", NULL },
	/* groups that are elsewhere now */
	{ "group /g;array /g/z 2 1", "move /g /h;move /g/z /h/z", true, false, "array /g/y 2 1",
	  "chunk /a 1 v", "parent /g/y", NULL },
	{ "group /g", "move /g /h;delete /h", true, false, "array /g/s/y 2 1", "chunk /a 1 v",
	  "parent /g/s/y", NULL },
	{ "group /g", "move /g /h", true, false, "array /k/y 2 1", "array /g/v 2 1", "",
	  "/ group; /a array 0=old0 8=old8; /g group; /g/v array; /h group; /k group; "
	  "/k/y array" },
	{ "group /g", "move /g /h;group /g", true, false, "array /g/y 2 1", "chunk /a 1 v", "",
	  "/ group; /a array 0=old0 1=v 8=old8; /g group; /g/y array; /h group" },
	/* shrinks */
	{ "chunk /a 7 p", "", true, false, "array /a 2 1", "array /a 2 1", "",
	  "/ group; /a array 0=old0" },
	{ "chunk /a 7 p", "", true, false, "array /a 2 1;array /a 10 1",
	  "array /a 2 1;array /a 10 1", "", "/ group; /a array 0=old0" },
	{ "chunk /a 7 p", "", true, false, "chunk /a 7 w", "array /a 2 1;array /a 10 1",
	  "chunk-outside /a 7; chunk-outside /a 7", NULL },
	{ "group /  p", "array /a 2 1;array /a 10 1", true, false, "chunk /a 7 w", "chunk /a 1 v",
	  "chunk-outside /a 7", NULL },
	{ "array /a 2 1", "array /a 10 1", true, false, "array /a 10 1;chunk /a 7 w",
	  "chunk /a 1 v", "", "/ group; /a array 0=old0 1=v 7=w" },
	{ "array /a 2 1;array /a 10 1", "array /a 10 1 more", true, false, "chunk /a 7 w",
	  "chunk /a 1 v", "", "/ group; /a array 0=old0 1=v 7=w" },
	{ "array /a 4 1;array /a 10 1", "array /a 2 1;array /a 10 1", true, true,
	  "chunk /a 3 w;chunk /a 7 w", "chunk /a 1 v", "chunk-outside /a 3", NULL },
	{ "array /n 8 1;chunk /n 5 p", "", true, true, "chunk /n 5 w", "array /n 2 1;array /n 8 1",
	  "chunk-outside /n 5", NULL },
	{ "array /n 8 1;chunk /n 5 p", "", true, true, "chunk /n 1 w", "array /n 2 1;array /n 8 1",
	  "", "/ group; /a array 0=old0 8=old8; /n array 1=w" },
	{ "array /n 4 1", "", true, true, "array /n 9 1;chunk /n 7 w", "array /n 6 1;array /n 9 1",
	  "", "/ group; /a array 0=old0 8=old8; /n array 7=w" },
	/* files without a place */
	{ "pending /n/c/0 one", "", false, true, "pending /n/c/0 one", "pending /n/c/0 two",
	  "chunk /n/c/0", NULL },
	{ "pending /n/c/0 one", "", false, true, "pending /n/c/0 one", "drop /n/c/0",
	  "chunk-deleted /n/c/0", NULL },
	{ "pending /n/c/0 one", "", true, true, "drop /n/c/0", "drop /n/c/0", "",
	  "/ group; /a array 0=old0 8=old8" },
	{ "pending /n/c/0 one", "", true, true, "drop /n/c/0;array /n 8 1;chunk /n 0 one",
	  "drop /n/c/0;array /n 8 1;chunk /n 0 one", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=one" },
	{ "pending /n/c/0 one", "", true, true, "drop /n/c/0;pending /n/c/1 w",
	  "pending /n/c/0 two", "chunk-deleted /n/c/0", NULL },
	{ "pending /n/c/0 one", "pending /n/c/0 two", false, true, "array /n 8 1", "array /n 8 1",
	  "", "/ group; /a array 0=old0 8=old8; /n array 0=two" },
	/* files without a place that are another's chunks */
	{ "", "", false, false, "pending /n/c/0 one", "array /n 8 1;chunk /n 0 one", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=one" },
	{ "", "", false, false, "pending /n/c/0 one", "array /n 8 1;chunk /n 0 two", "chunk /n 0",
	  NULL },
	{ "", "", false, false, "pending /n/c/0 one", "array /n 8 1;native /n 0 one", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=one" },
	{ "", "", false, false, "pending /a/c/15 one", "array /a 20 1;chunk /a 15 two",
	  "chunk /a 15", NULL },
	{ "", "", false, false, "pending /a/c/15 one", "array /a 20 1;chunk /a 15 x;erase /a 15",
	  "chunk-deleted /a 15", NULL },
	{ "pending /n/c/0 one", "", true, true, "pending /n/c/1 w",
	  "drop /n/c/0;array /n 8 1;chunk /n 0 two", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=two 1=w" },
	{ "pending /n/c/0 one", "", false, true, "pending /n/c/0 one",
	  "drop /n/c/0;array /n 8 1;chunk /n 0 one", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=one" },
	{ "pending /n/c/0 one", "", false, true, "pending /n/c/0 one",
	  "drop /n/c/0;array /n 8 1;chunk /n 0 two", "chunk /n 0", NULL },
	{ "array /n 8 1;chunk /n 0 one", "", true, false, "chunk /n 0 two", "pending /n/c/0 two",
	  "", "/ group; /a array 0=old0 8=old8; /n array 0=two" },
	{ "array /n 8 1;chunk /n 0 one", "", true, false, "chunk /n 0 two", "pending /n/c/0 one",
	  "chunk /n 0", NULL },
	{ "array /n 8 1;chunk /n 0 p", "", true, false, "pending /n/c/0 w", "array /a 10 1", "",
	  "/ group; /a array 0=old0 8=old8; /n array 0=w" },
	{ "", "", false, false, "array /n 8 1;chunk /n 0 two",
	  "array /n 8 1;chunk /n 0 one;"
	  "pending /n/c/0 three",
	  "chunk /n 0; chunk /n 0", NULL },
};

static const char *const names[][3] = {
	{ "a", "b", "c" }, { "a", "c", "b" }, { "b", "a", "c" },
	{ "b", "c", "a" }, { "c", "a", "b" }, { "c", "b", "a" },
};

static Actor *
make_actor(FirnRepo *repo, const Actor *parent, const FirnId12 *base, const char *name,
	   const char *script)
{
	Actor *actor = parent != NULL ? actor_fork(parent, name) : actor_new(repo, base, name);

	if (parent != NULL)
		actor_publish(parent, actor);
	actor_do(actor, script);
	return actor;
}

static char *
commit_of(FirnRepo *repo, const FirnMerge *merge, const FirnId12 *base)
{
	FirnCommitOptions options = { .allow_empty = true };
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	if (!commit_changes(repo, merge->changes, &options, base, &result, NULL, &error))
		ck_assert_no_error(error);
	return print_tree(repo, &result.snapshot);
}

START_TEST(merge__any_session_ids__gives_the_same)
{
	static const char *const roles[] = { "P", "W", "V" };
	const Case *c = &cases[(size_t)_i / G_N_ELEMENTS(names)];
	const char *const *name = names[(size_t)_i % G_N_ELEMENTS(names)];
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *p = make_actor(repo, NULL, &base, name[0], c->before);
	Actor *w = make_actor(repo, c->w_forked ? p : NULL, &base, name[1], c->w);
	Actor *v = make_actor(repo, c->v_forked ? p : NULL, &base, name[2], c->v);
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *got = NULL;

	actor_do(p, c->after);
	merge = merge_actors(repo, (Actor *[]){ p, w, v }, roles, 3, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	got = print_conflicts(merge->conflicts);
	ck_assert_msg(strcmp(got, c->conflicts) == 0, "%s | %s | %s, as %s, %s, %s: %s", c->before,
		      c->w, c->v, name[0], name[1], name[2], got);
	if (c->tree != NULL) {
		g_autofree char *tree = commit_of(repo, merge, &base);

		ck_assert_str_eq(tree, c->tree);
	}
	actor_free(p);
	actor_free(w);
	actor_free(v);
}
END_TEST

static char *
documents(const FirnChanges *changes)
{
	static const char *const paths[] = { "/", "/n" };
	GString *out = g_string_new(NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		gsize len;
		const char *text =
			g_bytes_get_data(firn_changes_find_path(changes, paths[i])->meta->raw,
					 &len);

		g_string_append_len(out, text, (gssize)len);
	}
	return g_string_free(out, FALSE);
}

/* The document of the group that comes of two, whatever the order of sessions and of node ids. */
START_TEST(merge__groups_consolidated_differently__chooses_by_bytes)
{
	static const char *const scripts[] = { "group /  w;group /n x w",
					       "group /  v;group /n x v" };
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	g_autofree char *first = NULL;

	for (int i = 0; i < 8; i++) {
		Actor *a = make_actor(repo, NULL, &base, "a", scripts[i % 2]);
		Actor *b = make_actor(repo, NULL, &base, "b", scripts[1 - i % 2]);
		g_autoptr(FirnMerge) merge = NULL;
		g_autoptr(GError) error = NULL;
		g_autofree char *both = NULL;

		merge = merge_actors(repo, (Actor *[]){ a, b }, (const char *[]){ "a", "b" }, 2,
				     FIRN_FAVOR_NONE, &error);
		ck_assert_no_error(error);
		ck_assert_uint_eq(merge->n_conflicts, 0);
		both = documents(merge->changes);
		if (first == NULL)
			first = g_steal_pointer(&both);
		else
			ck_assert_str_eq(both, first);
		actor_free(a);
		actor_free(b);
	}
}
END_TEST

/* ---- files without a place that are another's chunks: favored, empty ---- */

static GPtrArray *
sources_of(Actor *const *actors, size_t n)
{
	GPtrArray *sources = g_ptr_array_new_with_free_func(free_source);

	for (size_t i = 0; i < n; i++)
		g_ptr_array_add(sources, source_of("s", &actors[i], 1));
	return sources;
}

START_TEST(merge__file_and_chunk_favored__takes_the_first_or_last_given)
{
	bool first = _i & 1, reversed = _i & 2, journal = _i & 4;
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *w = make_actor(repo, NULL, &base, "w", "pending /n/c/0 w;pending /n/c/1 same");
	Actor *v = make_actor(repo, NULL, &base, "v",
			      "array /n 8 1;chunk /n 0 v;chunk /n 1 same;chunk /n 2 v");
	Actor *x = make_actor(repo, NULL, &base, "x", "pending /n/c/0 x");
	Actor *const forward[] = { w, v, x }, *const backward[] = { x, v, w };
	GPtrArray *sources = sources_of(reversed ? backward : forward, 3);
	FirnFavor favor = first ? FIRN_FAVOR_FIRST : FIRN_FAVOR_LAST;
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *tree = NULL;
	g_autofree char *wanted =
		g_strdup_printf("/ group; /a array 0=old0 8=old8; /n array 0=%c 1=same 2=v",
				first == reversed ? 'x' : 'w');

	if (journal) {
		GPtrArray *sections = firn_merge_to_journal(repo, sources, favor, NULL, &error);

		ck_assert_no_error(error);
		ck_assert_ptr_nonnull(sections);
		g_ptr_array_set_size(sources, 0);
		g_ptr_array_add(sources, firn_source_new("merged", sections));
		favor = FIRN_FAVOR_NONE;
	}
	merge = firn_merge_sources(repo, sources, favor, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	ck_assert(journal || merge->n_collisions_settled > 0);
	tree = commit_of(repo, merge, &base);
	ck_assert_str_eq(tree, wanted);
	g_ptr_array_unref(sources);
	actor_free(w);
	actor_free(v);
	actor_free(x);
}
END_TEST

START_TEST(merge__chunk_favored_over_files__takes_it)
{
	bool journal = _i & 1;
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *w = make_actor(repo, NULL, &base, "w", "pending /n/c/0 w");
	Actor *v = make_actor(repo, NULL, &base, "v", "array /n 8 1;chunk /n 0 v");
	g_autoptr(GPtrArray) sources = sources_of((Actor *[]){ v, w }, 2);
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *tree = NULL;

	if (journal) {
		GPtrArray *sections =
			firn_merge_to_journal(repo, sources, FIRN_FAVOR_FIRST, NULL, &error);

		ck_assert_no_error(error);
		g_ptr_array_set_size(sources, 0);
		g_ptr_array_add(sources, firn_source_new("merged", sections));
	}
	merge = firn_merge_sources(repo, sources, journal ? FIRN_FAVOR_NONE : FIRN_FAVOR_FIRST,
				   &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	tree = commit_of(repo, merge, &base);
	ck_assert_str_eq(tree, "/ group; /a array 0=old0 8=old8; /n array 0=v");
	actor_free(w);
	actor_free(v);
}
END_TEST

/* A chunk that was emptied has no content that could be committed, whatever others did. */
START_TEST(merge__empty_file__stops_the_commit)
{
	static const char *const others[] = { "chunk /a 4 v", "chunk /a 3 v", "array /a 10 1 at",
					      "pending /a/c/3" };
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *w = make_actor(repo, NULL, &base, "w", "pending /a/c/3");
	Actor *v = make_actor(repo, NULL, &base, "v", others[_i]);
	g_autoptr(GPtrArray) sources = sources_of((Actor *[]){ w, v }, 2);
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	merge = firn_merge_sources(repo, sources, FIRN_FAVOR_LAST, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	ck_assert(!commit_changes(repo, merge->changes, NULL, &base, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert_ptr_nonnull(strstr(error->message, "/a/c/3"));
	actor_free(w);
	actor_free(v);
}
END_TEST

/* ---- trees of merges, each with the journal all were forked from ---- */

static FirnSource *
merged_of(FirnRepo *repo, const char *name, Actor *const *actors, size_t n, FirnFavor favor)
{
	g_autoptr(GPtrArray) sources = sources_of(actors, n);
	g_autoptr(GError) error = NULL;
	GPtrArray *sections = firn_merge_to_journal(repo, sources, favor, NULL, &error);

	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(sections);
	return firn_source_new(name, sections);
}

static GPtrArray *
two_sources(FirnSource *a, FirnSource *b)
{
	GPtrArray *sources = g_ptr_array_new_with_free_func(free_source);

	g_ptr_array_add(sources, a);
	g_ptr_array_add(sources, b);
	return sources;
}

START_TEST(merge__parent_in_each_subtree__counts_once)
{
	bool later = _i & 1, reversed = _i & 2, journal = _i & 4;
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *p =
		make_actor(repo, NULL, &base, "p",
			   "array /n 8 1;chunk /n 0 p;chunk /n 1 p;pending /z/c/0 p;pending /y p");
	Actor *w = make_actor(repo, p, &base, "w", "chunk /n 1 w;drop /z/c/0");
	Actor *v = make_actor(repo, p, &base, "v", "chunk /n 2 v;drop /y");
	FirnSource *a, *b;
	g_autoptr(GPtrArray) sources = NULL;
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *tree = NULL;

	a = merged_of(repo, "a", (Actor *[]){ p, w }, 2, FIRN_FAVOR_NONE);
	if (later)
		actor_do(p, "chunk /n 0 later;chunk /n 3 later");
	b = merged_of(repo, "b", (Actor *[]){ v, p }, 2, FIRN_FAVOR_NONE);
	sources = reversed ? two_sources(b, a) : two_sources(a, b);
	if (journal) {
		GPtrArray *sections =
			firn_merge_to_journal(repo, sources, FIRN_FAVOR_NONE, NULL, &error);

		ck_assert_no_error(error);
		ck_assert_uint_eq(sections->len, 3);
		g_ptr_array_unref(sources);
		sources = two_sources(firn_source_new("m", sections), source_of("p", &p, 1));
	}
	merge = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	tree = commit_of(repo, merge, &base);
	ck_assert_str_eq(tree, later ? "/ group; /a array 0=old0 8=old8; /n array 0=later 1=w 2=v "
				       "3=later"
				     : "/ group; /a array 0=old0 8=old8; /n array 0=p 1=w 2=v");
	actor_free(p);
	actor_free(w);
	actor_free(v);
}
END_TEST

/* A worker with forks is in several steps, as what its workers were forked from. */
START_TEST(merge__parents_in_each_subtree__count_once)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *p = make_actor(repo, NULL, &base, "p", "array /n 8 1;chunk /n 0 p");
	Actor *w = make_actor(repo, p, &base, _i < 6 ? "a" : "z", "chunk /n 1 w");
	Actor *v = make_actor(repo, w, &base, "v", "chunk /n 2 v");
	FirnSource *all[] = { source_of("p", &p, 1),
			      merged_of(repo, "a", (Actor *[]){ p, w, v }, 3, FIRN_FAVOR_NONE),
			      merged_of(repo, "b", (Actor *[]){ p, w }, 2, FIRN_FAVOR_NONE) };
	unsigned first = (unsigned)_i % 3, second = (first + 1 + (unsigned)_i / 3 % 2) % 3;
	g_autoptr(GPtrArray) sources = two_sources(all[first], all[second]);
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *tree = NULL;

	g_ptr_array_add(sources, all[3 - first - second]);
	merge = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	tree = commit_of(repo, merge, &base);
	ck_assert_str_eq(tree, "/ group; /a array 0=old0 8=old8; /n array 0=p 1=w 2=v");
	actor_free(p);
	actor_free(w);
	actor_free(v);
}
END_TEST

static void
expect_twice(FirnRepo *repo, FirnSource *a, FirnSource *b)
{
	g_autoptr(GPtrArray) sources = two_sources(a, b);
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	ck_assert_msg(strstr(error->message, "given twice") != NULL, "%s", error->message);
}

/* What nobody was forked from came along with nothing; copies of which one was settled differ. */
START_TEST(merge__other_copies__are_refused)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *p = make_actor(repo, NULL, &base, "p", "chunk /a 3 p");
	Actor *w = make_actor(repo, p, &base, "w", "chunk /a 4 w");
	Actor *v = make_actor(repo, p, &base, "v", "chunk /a 5 v");
	Actor *pw[] = { p, w }, *pv[] = { p, v }, *pvw[] = { p, v, w };
	Actor *again = actor_new(repo, &base, "p");

	expect_twice(repo, source_of("p", &p, 1), source_of("copy", &p, 1));
	expect_twice(repo, source_of("w", &w, 1), merged_of(repo, "pw", pw, 2, FIRN_FAVOR_NONE));
	expect_twice(repo, merged_of(repo, "pvw", pvw, 3, FIRN_FAVOR_NONE),
		     merged_of(repo, "pw", pw, 2, FIRN_FAVOR_NONE));
	/* After the fork the parent wrote what one of them did. */
	actor_do(p, "chunk /a 4 p;chunk /a 9 p");
	expect_twice(repo, merged_of(repo, "pw", pw, 2, FIRN_FAVOR_LAST),
		     merged_of(repo, "pv", pv, 2, FIRN_FAVOR_NONE));
	/* Another session of the same id. */
	actor_do(again, "chunk /a 3 other;chunk /a 4 p;chunk /a 9 p");
	expect_twice(repo, source_of("again", &again, 1),
		     merged_of(repo, "pv", pv, 2, FIRN_FAVOR_NONE));
	actor_free(p);
	actor_free(w);
	actor_free(v);
	actor_free(again);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("merge_order");
	TCase *tc = tcase_create("merge_order");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_add_loop_test(tc, merge__any_session_ids__gives_the_same, 0,
			    (int)(G_N_ELEMENTS(cases) * G_N_ELEMENTS(names)));
	tcase_add_test(tc, merge__groups_consolidated_differently__chooses_by_bytes);
	tcase_add_loop_test(tc, merge__file_and_chunk_favored__takes_the_first_or_last_given, 0, 8);
	tcase_add_loop_test(tc, merge__chunk_favored_over_files__takes_it, 0, 2);
	tcase_add_loop_test(tc, merge__empty_file__stops_the_commit, 0, 4);
	tcase_add_loop_test(tc, merge__parent_in_each_subtree__counts_once, 0, 8);
	tcase_add_loop_test(tc, merge__parents_in_each_subtree__count_once, 0, 12);
	tcase_add_test(tc, merge__other_copies__are_refused);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(suite)
