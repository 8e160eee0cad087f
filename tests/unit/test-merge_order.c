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
	/* shrinks */
	{ "chunk /a 7 p", "", true, false, "array /a 2 1", "array /a 2 1", "",
	  "/ group; /a array 0=old0" },
	{ "chunk /a 7 p", "", true, false, "array /a 2 1;array /a 10 1",
	  "array /a 2 1;array /a 10 1", "", "/ group; /a array 0=old0" },
	{ "chunk /a 7 p", "", true, false, "chunk /a 7 w", "array /a 2 1;array /a 10 1",
	  "chunk-outside /a 7; chunk-outside /a 7", NULL },
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

static Suite *
suite(void)
{
	Suite *s = suite_create("merge_order");
	TCase *tc = tcase_create("merge_order");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_add_loop_test(tc, merge__any_session_ids__gives_the_same, 0,
			    (int)(G_N_ELEMENTS(cases) * G_N_ELEMENTS(names)));
	tcase_add_test(tc, merge__groups_consolidated_differently__chooses_by_bytes);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(suite)
