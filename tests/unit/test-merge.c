#include "tests/unit/lineage.h"

/* What two workers do from one start, and what becomes of it. */
typedef struct {
	const char *a;
	const char *b;
	const char *conflicts; /* "": none */
	const char *tree;      /* what a commit of it has; NULL: not looked at */
} Case;

#define START                                                                            \
	"group /;group /g;array /g/x 4 1;array /a 10 1;chunk /a 0 old0;chunk /a 1 old1;" \
	"chunk /g/x 0 x0"

static const Case cases[] = {
	/* chunks */
	{ "chunk /a 3 same", "chunk /a 4 other", "",
	  "/ group; /a array 0=old0 1=old1 3=same 4=other; /g group; /g/x array 0=x0" },
	{ "chunk /a 3 one", "chunk /a 3 two", "chunk /a 3", NULL },
	{ "chunk /a 3 same", "chunk /a 3 same", "", NULL },
	{ "native /a 3 same", "native /a 3 same", "", NULL },
	{ "native /a 3 same", "chunk /a 3 same", "", NULL },
	{ "native /a 3 samE", "native /a 3 same", "chunk /a 3", NULL },
	{ "virtual /a 3 s3://b/k", "virtual /a 3 s3://b/k", "", NULL },
	{ "virtual /a 3 s3://b/k", "virtual /a 3 s3://b/l", "chunk /a 3", NULL },
	{ "chunk /a 0 new", "erase /a 0", "chunk-deleted /a 0", NULL },
	{ "erase /a 0", "erase /a 0", "", "/ group; /a array 1=old1; /g group; /g/x array 0=x0" },
	{ "erase /a 0;chunk /a 2 n", "erase /a 1;chunk /a 3 m", "",
	  "/ group; /a array 2=n 3=m; /g group; /g/x array 0=x0" },
	/* documents */
	{ "array /a 10 1 one", "array /a 10 1 two", "meta /a", NULL },
	{ "array /a 10 1 one", "array /a 10 1 one", "", NULL },
	{ "group /g one", "group /g two", "meta /g", NULL },
	{ "group /g one", "group /g one", "", NULL },
	{ "group /g one b", "group /g one c", "", NULL },
	{ "group /g one b", "group /g one", "", NULL },
	{ "group /g one b", "group /g two b", "meta /g", NULL },
	{ "group /g one", "group /g  c", "", NULL },
	{ "array /a 10 1 one", "chunk /a 3 c", "",
	  "/ group; /a array 0=old0 1=old1 3=c; /g group; /g/x array 0=x0" },
	/* shapes */
	{ "array /a 2 1", "chunk /a 7 c", "chunk-outside /a 7", NULL },
	{ "array /a 2 1", "chunk /a 1 c", "", NULL },
	{ "array /a 20 1", "chunk /a 1 c", "", NULL },
	{ "array /a 20 1;chunk /a 11 p", "array /a 20 1;chunk /a 12 q", "",
	  "/ group; /a array 0=old0 1=old1 11=p 12=q; /g group; /g/x array 0=x0" },
	{ "array /a 10 1 at;array /a 20 1;chunk /a 11 p",
	  "array /a 10 1 at;array /a 20 1;chunk /a 12 q", "",
	  "/ group; /a array 0=old0 1=old1 11=p 12=q; /g group; /g/x array 0=x0" },
	{ "array /a 10 1 at;array /a 20 1", "chunk /a 9 q", "", NULL },
	{ "array /a 5 1;array /a 10 1", "chunk /a 7 c", "chunk-outside /a 7", NULL },
	{ "array /a 5 1;array /a 10 1", "chunk /a 4 c", "", NULL },
	{ "array /a 5 1;array /a 10 1", "erase /a 7", "", NULL },
	{ "erase /a 0;erase /a 1;array /a 10 2", "chunk /a 3 c", "chunk-geometry /a 3", NULL },
	{ "array /a 10x2 1x1", "chunk /a 3 c", "chunk-geometry /a 3", NULL },
	{ "array /a 10x2 1x1;chunk /a 3,1 c", "chunk /g/x 3 c", "",
	  "/ group; /a array 3,1=c; /g group; /g/x array 0=x0 3=c" },
	/* new nodes */
	{ "array /n 3 1;chunk /n 0 p", "array /n 3 1;chunk /n 1 q", "",
	  "/ group; /a array 0=old0 1=old1; /g group; /g/x array 0=x0; /n array 0=p 1=q" },
	{ "array /n 3 1;chunk /n 0 p", "array /n 3 1;chunk /n 0 q", "chunk /n 0", NULL },
	{ "array /n 3 1", "array /n 4 1", "created /n", NULL },
	{ "group /n", "group /n", "", NULL },
	{ "group /n", "group /n other", "created /n", NULL },
	{ "group /n one b", "group /n one c", "", NULL },
	{ "group /n one b", "group /n two b", "created /n", NULL },
	{ "group /  x;array /x 3 1;chunk /x 0 p", "group /  y;array /y 3 1;chunk /y 0 q", "",
	  "/ group; /a array 0=old0 1=old1; /g group; /g/x array 0=x0; /x array 0=p; "
	  "/y array 0=q" },
	{ "array /n 3 1", "group /n", "kind /n", NULL },
	{ "array /n 3 1", "group /n;array /n/c 3 1", "kind /n; parent /n/c", NULL },
	{ "array /n 3 1", "array /n/c 3 1", "parent /n/c", NULL },
	{ "array /g/y 3 1", "array /g/z 3 1", "", NULL },
	{ "array /new/y 3 1", "array /new/z 3 1", "",
	  "/ group; /a array 0=old0 1=old1; /g group; /g/x array 0=x0; /new group; /new/y array; "
	  "/new/z array" },
	/* deletes */
	{ "delete /a", "chunk /a 3 c", "chunk-no-array /a 3", NULL },
	{ "delete /a", "erase /a 0", "chunk-no-array /a 0", NULL },
	{ "delete /a", "array /a 10 1 at", "meta-deleted /a", NULL },
	{ "delete /a", "delete /a", "", "/ group; /g group; /g/x array 0=x0" },
	{ "delete /a", "delete /a;array /a 5 1", "meta-deleted /a", NULL },
	{ "delete /a", "delete /a;group /a", "meta-deleted /a", NULL },
	{ "delete /a;array /a 5 1", "chunk /a 3 c", "chunk-no-array /a 3", NULL },
	{ "delete /a;group /a", "chunk /a 3 c", "chunk-no-array /a 3", NULL },
	{ "delete /a;array /a 5 1;chunk /a 0 p", "delete /a;array /a 5 1;chunk /a 1 q", "",
	  "/ group; /a array 0=p 1=q; /g group; /g/x array 0=x0" },
	{ "delete /a;array /a 5 1", "delete /a;array /a 6 1", "created /a", NULL },
	{ "delete /g/x;delete /g", "chunk /g/x 1 c", "chunk-no-array /g/x 1", NULL },
	{ "delete /g/x;delete /g", "array /g/x 4 1 at", "meta-deleted /g/x", NULL },
	{ "delete /g", "group /g at", "meta-deleted /g", NULL },
	{ "delete /g/x;delete /g", "array /g/n 4 1", "parent /g/n", NULL },
	{ "delete /g/x;delete /g", "array /g/s/n 4 1", "parent /g/s/n", NULL },
	{ "delete /g/x;delete /g;array /g 3 1", "array /g/n 4 1", "parent /g/n", NULL },
	{ "delete /g/x;delete /g;group /g", "array /g/n 4 1", "parent /g/n", NULL },
	{ "delete /g/x;delete /g;delete /a;delete /", "array /n 4 1", "parent /n", NULL },
	{ "delete /g/x;delete /g;delete /a;delete /;group /;array /p 2 1",
	  "delete /g/x;delete /g;delete /a;delete /;group /;array /q 2 1", "",
	  "/ group; /p array; /q array" },
	{ "delete /g/x", "array /g/n 4 1", "", NULL },
	{ "array /t 3 1;delete /t", "array /t 4 1", "", NULL },
	/* pending files */
	{ "pending /z/c/0 p", "pending /z/c/0 p", "", NULL },
	{ "pending /z/c/0 p", "pending /z/c/0 q", "chunk /z/c/0", NULL },
};

static void
merge_pair(FirnRepo *repo, Actor *a, Actor *b, bool reversed, FirnFavor favor, char **out_conflicts,
	   FirnMerge **out_merge)
{
	Actor *const forward[] = { a, b }, *const backward[] = { b, a };
	static const char *const names[] = { "a", "b" }, *const other_names[] = { "b", "a" };
	g_autoptr(GError) error = NULL;

	*out_merge = merge_actors(repo, reversed ? backward : forward,
				  reversed ? other_names : names, 2, favor, &error);
	ck_assert_no_error(error);
	*out_conflicts = print_conflicts((*out_merge)->conflicts);
}

/* As a merged journal: the same conflicts, and merging that alone gives the same. */
static void
check_journal(FirnRepo *repo, Actor *a, Actor *b, const char *wanted)
{
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GPtrArray) again = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GPtrArray) conflicts = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *got = NULL;
	GPtrArray *sections;

	g_ptr_array_add(sources, source_of("b", &b, 1));
	g_ptr_array_add(sources, source_of("a", &a, 1));
	sections = firn_merge_to_journal(repo, sources, FIRN_FAVOR_NONE, &conflicts, &error);
	ck_assert_no_error(error);
	got = print_conflicts(conflicts);
	ck_assert_str_eq(got, wanted);
	ck_assert(wanted[0] == '\0' ? sections != NULL : sections == NULL);
	if (sections != NULL) {
		g_autoptr(FirnMerge) merge = NULL;

		ck_assert_uint_eq(sections->len, 2);
		g_ptr_array_add(again, firn_source_new("merged", sections));
		merge = firn_merge_sources(repo, again, FIRN_FAVOR_NONE, &error);
		ck_assert_no_error(error);
		ck_assert_uint_eq(merge->n_conflicts, 0);
	}
}

static void
check_commit(FirnRepo *repo, const FirnMerge *merge, const FirnId12 *base, const char *tree)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *got = NULL;
	FirnCommitOptions options = { .allow_empty = true };
	FirnCommitResult result;

	if (!commit_changes(repo, merge->changes, &options, base, &result, NULL, &error))
		ck_assert_no_error(error);
	got = print_tree(repo, &result.snapshot);
	ck_assert_str_eq(got, tree);
}

START_TEST(merge__pairs__as_the_table_says)
{
	const Case *c = &cases[_i];
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a"), *b = actor_new(repo, &base, "b");

	actor_do(a, c->a);
	actor_do(b, c->b);
	for (int reversed = 1; reversed >= 0; reversed--) {
		g_autofree char *got = NULL;
		g_autoptr(FirnMerge) merge = NULL;

		merge_pair(repo, a, b, reversed, FIRN_FAVOR_NONE, &got, &merge);
		ck_assert_msg(strcmp(got, c->conflicts) == 0, "%s | %s: wanted <%s>, got <%s>",
			      c->a, c->b, c->conflicts, got);
		for (guint i = 0; i < merge->conflicts->len; i++) {
			g_autofree char *line = firn_conflict_format(merge->conflicts->pdata[i]);

			ck_assert(strstr(line, " a") != NULL && strstr(line, " b") != NULL);
		}
		if (c->tree != NULL && !reversed)
			check_commit(repo, merge, &base, c->tree);
	}
	check_journal(repo, a, b, c->conflicts);
	actor_free(a);
	actor_free(b);
}
END_TEST

/* ---- favor ---- */

START_TEST(merge__favored__takes_the_first_or_last_given)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a"), *b = actor_new(repo, &base, "b");

	actor_do(a, "chunk /a 0 A;chunk /a 5 A;chunk /a 6 same");
	actor_do(b, "erase /a 0;chunk /a 5 B;chunk /a 6 same;chunk /a 7 B");
	for (int i = 0; i < 4; i++) {
		g_autofree char *none = NULL;
		g_autoptr(FirnMerge) merge = NULL;
		FirnFavor favor = i & 1 ? FIRN_FAVOR_FIRST : FIRN_FAVOR_LAST;
		bool a_wins = (favor == FIRN_FAVOR_FIRST) == !(i & 2);
		const FirnNodeChange *change;
		FirnRef ref;

		merge_pair(repo, a, b, (i & 2) != 0, favor, &none, &merge);
		ck_assert_str_eq(none, "");
		ck_assert_uint_eq(merge->n_collisions_settled, 2);
		change = g_hash_table_lookup(merge->changes->by_path, "/a");
		firn_chunk_change_get(firn_chunk_map_find(change->chunks, (uint32_t[]){ 5 }), &ref);
		ck_assert_int_eq(*ref.bytes.data, a_wins ? 'A' : 'B');
		ck_assert_uint_eq(firn_chunk_map_find(change->chunks, (uint32_t[]){ 0 })->kind,
				  a_wins ? FIRN_REF_INLINE : FIRN_REF_NONE);
	}
	actor_free(a);
	actor_free(b);
}
END_TEST

START_TEST(merge_to_journal__favored__removes_the_losers)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a"), *b = actor_new(repo, &base, "b");
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GPtrArray) again = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GPtrArray) conflicts = NULL;
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	GPtrArray *sections;

	actor_do(a, "chunk /a 0 A;chunk /a 5 A");
	actor_do(b, "chunk /a 0 B;chunk /a 6 B");
	g_ptr_array_add(sources, source_of("a", &a, 1));
	g_ptr_array_add(sources, source_of("b", &b, 1));
	sections = firn_merge_to_journal(repo, sources, FIRN_FAVOR_LAST, &conflicts, &error);
	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(sections);
	g_ptr_array_add(again, firn_source_new("m", sections));
	merge = firn_merge_sources(repo, again, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merge->n_conflicts, 0);
	check_commit(repo, merge, &base,
		     "/ group; /a array 0=B 1=old1 5=A 6=B; /g group; /g/x array 0=x0");
	actor_free(a);
	actor_free(b);
}
END_TEST

/* ---- forks ---- */

/* What a parent does before a fork, the fork, and the parent after it. */
typedef struct {
	const char *before;
	const char *fork;
	const char *after;
	const char *conflicts;
	const char *tree;
} ForkCase;

static const ForkCase fork_cases[] = {
	{ "chunk /a 3 p", "chunk /a 3 f", "", "", "/ group; /a array 0=old0 1=old1 3=f" },
	{ "chunk /a 3 p", "erase /a 3", "", "", "/ group; /a array 0=old0 1=old1" },
	{ "chunk /a 3 p", "chunk /a 3 f", "chunk /a 3 q", "chunk /a 3", NULL },
	{ "chunk /a 3 p", "chunk /a 4 f", "chunk /a 3 q", "",
	  "/ group; /a array 0=old0 1=old1 3=q 4=f" },
	{ "array /n 3 1", "chunk /n 1 f", "", "", "/ group; /a array 0=old0 1=old1; /n array 1=f" },
	{ "array /n 3 1", "array /n 5 1;chunk /n 4 f", "", "",
	  "/ group; /a array 0=old0 1=old1; /n array 4=f" },
	{ "array /n 3 1;chunk /n 2 p", "array /n 1 1;array /n 3 1", "", "",
	  "/ group; /a array 0=old0 1=old1; /n array" },
	{ "array /n 3 1;chunk /n 2 p", "delete /n", "", "", "/ group; /a array 0=old0 1=old1" },
	{ "array /n 3 1", "delete /n;array /n 4 1;chunk /n 3 f", "", "",
	  "/ group; /a array 0=old0 1=old1; /n array 3=f" },
	{ "array /n 3 1", "chunk /n 1 f", "delete /n", "chunk-no-array /n 1", NULL },
	{ "array /n 3 1", "delete /n", "chunk /n 1 f", "chunk-no-array /n 1", NULL },
	{ "array /n 3 1", "array /n 4 1", "array /n 5 1", "meta /n", NULL },
	{ "array /a 10 1 p", "array /a 10 1 f", "", "", "/ group; /a array 0=old0 1=old1" },
	{ "array /a 20 1;chunk /a 15 p", "array /a 20 1 at;chunk /a 16 f", "", "",
	  "/ group; /a array 0=old0 1=old1 15=p 16=f" },
	{ "array /a 20 1;chunk /a 15 p", "array /a 12 1", "chunk /a 14 q", "chunk-outside /a 14",
	  NULL },
	{ "array /a 1 1", "array /a 10 1;chunk /a 1 f", "", "", "/ group; /a array 0=old0 1=f" },
	{ "array /a 10 1 at;array /a 20 1", "chunk /a 15 f", "array /a 20 1 more", "",
	  "/ group; /a array 0=old0 1=old1 15=f" },
	{ "array /n 10 1;chunk /n 1 p", "array /n 10 2", "", "chunk-geometry /n 1", NULL },
	{ "group /g", "array /g/n 3 1", "", "",
	  "/ group; /a array 0=old0 1=old1; /g group; /g/n array" },
	{ "group /g", "array /g/n 3 1", "delete /g", "parent /g/n", NULL },
	{ "pending /z/c/0 p", "pending /z/c/0 f", "", "", NULL },
};

START_TEST(merge__fork_and_parent__knows_what_happened_before)
{
	const ForkCase *c = &fork_cases[_i];
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base =
		commit_script(repo, "group /;array /a 10 1;chunk /a 0 old0;chunk /a 1 old1");
	Actor *a = actor_new(repo, &base, "a"), *b;
	g_autofree char *got = NULL;
	g_autoptr(FirnMerge) merge = NULL;

	actor_do(a, c->before);
	b = actor_fork(a, "b");
	actor_do(b, c->fork);
	actor_do(a, c->after);
	merge_pair(repo, a, b, true, FIRN_FAVOR_NONE, &got, &merge);
	ck_assert_msg(strcmp(got, c->conflicts) == 0, "%s | %s | %s: wanted <%s>, got <%s>",
		      c->before, c->fork, c->after, c->conflicts, got);
	check_journal(repo, a, b, c->conflicts);
	if (c->tree != NULL)
		check_commit(repo, merge, &base, c->tree);
	actor_free(a);
	actor_free(b);
}
END_TEST

/* ---- lineage ---- */

static void
expect_refused(FirnRepo *repo, Actor *const *actors, size_t n, const char *what)
{
	static const char *const names[] = { "one.journal", "two.journal", "three.journal" };
	g_autoptr(GError) error = NULL;
	FirnMerge *merge = merge_actors(repo, actors, names, n, FIRN_FAVOR_NONE, &error);

	ck_assert_ptr_null(merge);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT);
	ck_assert_msg(strstr(error->message, what) != NULL, "%s", error->message);
	ck_assert_msg(strstr(error->message, ".journal") != NULL, "%s", error->message);
}

START_TEST(merge__wrong_lineage__is_refused_by_name)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START), next;
	Actor *a = actor_new(repo, &base, "a"), *b, *c, *old, *other;

	actor_do(a, "chunk /a 3 p");
	old = actor_fork(a, "x");
	/* The same session, when it was shorter. */
	old->section->header->session = session_id("a");
	g_array_set_size(old->section->header->ancestors, 0);
	actor_do(old, "chunk /a 3 p");
	actor_do(a, "chunk /a 4 p");
	expect_refused(repo, (Actor *[]){ a, old }, 2, "given twice");
	b = actor_fork(a, "b");
	actor_do(b, "chunk /a 5 f");
	expect_refused(repo, (Actor *[]){ b }, 1, "was forked from session");
	expect_refused(repo, (Actor *[]){ old, b }, 2, "is older than");
	c = actor_fork(b, "c");
	actor_do(c, "chunk /a 6 g");
	expect_refused(repo, (Actor *[]){ a, c }, 2, "was forked from session");
	next = commit_script(repo, "chunk /a 9 z");
	other = actor_new(repo, &next, "o");
	expect_refused(repo, (Actor *[]){ a, other }, 2, "of one lineage");
	other->section->header->identity++;
	expect_refused(repo, (Actor *[]){ a, other }, 2, "another repository");
	actor_free(a);
	actor_free(b);
	actor_free(c);
	actor_free(old);
	actor_free(other);
}
END_TEST

START_TEST(merge__unknown_node__is_refused)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *a = actor_new(repo, &base, "a"), *b = actor_new(repo, &base, "b");
	const FirnId8 ghost = { { 99 } };
	FirnRef ref = { .kind = FIRN_REF_INLINE,
			.length = 1,
			.bytes = { (const uint8_t *)"x", 1 } };

	actor_do(a, "chunk /a 3 p");
	(void)firn_changes_put_chunk(b->section->changes, &ghost, "/ghost", 1, (uint32_t[]){ 0 },
				     &ref, ++b->section->last_seq);
	expect_refused(repo, (Actor *[]){ a, b }, 2, "/ghost");
	actor_free(a);
	actor_free(b);
}
END_TEST

/* ---- many ---- */

#define N_MANY 24

static char *
describe_merge(const FirnMerge *merge)
{
	GString *out = g_string_new(NULL);
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(merge->changes);

	for (guint i = 0; i < nodes->len; i++) {
		const FirnNodeChange *node = nodes->pdata[i];
		const uint32_t *coords;
		FirnChunkChange *change;
		FirnChunkIter iter;

		g_string_append_printf(out, "%s %d %d\n", node->path, (int)node->kind,
				       node->created);
		firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
		while (firn_chunk_iter_next(&iter, &coords, &change)) {
			FirnRef ref;

			firn_chunk_change_get(change, &ref);
			g_string_append_printf(out, " %u %u %.*s\n", coords[0], change->kind,
					       (int)ref.bytes.len, (const char *)ref.bytes.data);
		}
	}
	return g_string_free(out, FALSE);
}

/* Merge [from, to) of `sources` as a tree of merged journals; returns its sections as one source. */
static FirnSource *
merge_tree(FirnRepo *repo, Actor **actors, size_t n, unsigned fan)
{
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GError) error = NULL;
	GPtrArray *sections;

	if (n == 1)
		return source_of("leaf", actors, 1);
	for (size_t from = 0; from < n; from += MAX(n / fan, 1)) {
		size_t many = MIN(MAX(n / fan, 1), n - from);

		g_ptr_array_add(sources, merge_tree(repo, actors + from, many, fan));
	}
	sections = firn_merge_to_journal(repo, sources, FIRN_FAVOR_NONE, NULL, &error);
	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(sections);
	return firn_source_new("tree", sections);
}

START_TEST(merge__many_journals_in_any_order_and_tree__gives_the_same)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, START);
	Actor *actors[N_MANY];
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	g_autofree char *first = NULL;

	for (int i = 0; i < N_MANY; i++) {
		g_autofree char *name = g_strdup_printf("w%02d", i);
		g_autofree char *script = g_strdup_printf(
			"array /a 200 1;chunk /a %d v%d;chunk /a %d v%d;chunk /a 150 same;"
			"array /n 100 1;chunk /n %d n%d;group /s;array /s/own%d 2 1",
			20 + i, i, 199 - i, i, i, i, i);

		actors[i] = actor_new(repo, &base, name);
		actor_do(actors[i], script);
	}
	for (int round = 0; round < 6; round++) {
		g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
		g_autoptr(FirnMerge) merge = NULL;
		g_autoptr(GError) error = NULL;
		g_autofree char *text = NULL;

		for (int i = N_MANY - 1; i > 0; i--) {
			int j = g_rand_int_range(rand, 0, i + 1);
			Actor *swap = actors[i];

			actors[i] = actors[j];
			actors[j] = swap;
		}
		if (round < 3)
			for (int i = 0; i < N_MANY; i++)
				g_ptr_array_add(sources, source_of("w", &actors[i], 1));
		else
			g_ptr_array_add(sources,
					merge_tree(repo, actors, N_MANY, (unsigned)round - 1));
		merge = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
		ck_assert_no_error(error);
		ck_assert_uint_eq(merge->n_conflicts, 0);
		text = describe_merge(merge);
		if (first == NULL)
			first = g_steal_pointer(&text);
		else
			ck_assert_str_eq(first, text);
	}
	ck_assert_ptr_nonnull(strstr(first, "/s/own23"));
	for (int i = 0; i < N_MANY; i++)
		actor_free(actors[i]);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("merge");
	TCase *tc = tcase_create("merge");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, merge__pairs__as_the_table_says, 0, G_N_ELEMENTS(cases));
	tcase_add_loop_test(tc, merge__fork_and_parent__knows_what_happened_before, 0,
			    G_N_ELEMENTS(fork_cases));
	tcase_add_test(tc, merge__favored__takes_the_first_or_last_given);
	tcase_add_test(tc, merge_to_journal__favored__removes_the_losers);
	tcase_add_test(tc, merge__wrong_lineage__is_refused_by_name);
	tcase_add_test(tc, merge__unknown_node__is_refused);
	tcase_add_test(tc, merge__many_journals_in_any_order_and_tree__gives_the_same);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(suite)
