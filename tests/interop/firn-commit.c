/*
 * What test_commit_library.py needs of the library (scripts: tests/unit/lineage.h):
 *   commit URL BASE POLICY SCRIPT   one session's work on snapshot BASE (or -: the tip of main)
 *   merge URL SCRIPT...             workers that start from the tip of main
 * prints the new snapshot, or the conflicts.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

/* No test runner here: what fails, aborts. */
#define FIRN_TESTS_UNIT_HARNESS_H
#define ck_assert(x)              g_assert(x)
#define ck_assert_msg(x, ...)     g_assert(x)
#define ck_assert_ptr_nonnull(x)  g_assert((x) != NULL)
#define ck_assert_int_eq(a, b)    g_assert((a) == (b))
#define ck_assert_uint_eq(a, b)   g_assert((a) == (b))
#define ck_assert_no_error(error) g_assert_no_error(error)

#include "tests/unit/lineage.h"

static int
put(FirnRepo *repo, const FirnChanges *changes, const FirnId12 *base, FirnRebase policy)
{
	g_autoptr(JsonObject) metadata = json_object_new();
	FirnCommitOptions options = { .rebase = policy,
				      .message = "by firn",
				      .metadata = metadata };
	g_autoptr(GPtrArray) conflicts = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	char text[FIRN_ID12_TEXT + 1];

	json_object_set_string_member(metadata, "who", "us");
	if (!commit_changes(repo, changes, &options, base, &result, &conflicts, &error)) {
		g_autofree char *list = print_conflicts(conflicts);

		fprintf(stderr, "%s: %s\n", error->message, list);
		return 1;
	}
	firn_id12_format(&result.snapshot, text);
	printf("%s\n", text);
	return 0;
}

static int
merge(FirnRepo *repo, char **scripts)
{
	FirnId12 tip = tip_of(repo);
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnMerge) merged = NULL;

	for (int i = 0; scripts[i] != NULL; i++) {
		g_autofree char *name = g_strdup_printf("w%d", i);
		Actor *actor = actor_new(repo, &tip, name);

		actor_do(actor, scripts[i]);
		g_ptr_array_add(sources, source_of(name, &actor, 1));
		actor_free(actor);
	}
	merged = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(merged->n_conflicts, 0);
	return put(repo, merged->changes, &tip, FIRN_REBASE_OFF);
}

int
main(int argc, char **argv)
{
	g_autoptr(FirnRepo) repo = NULL;
	FirnId12 base;
	Actor *actor;
	int status;

	if (argc < 4)
		return 2;
	repo = open_repo(argv[2]);
	if (strcmp(argv[1], "merge") == 0)
		return merge(repo, argv + 3);
	base = tip_of(repo);
	if (strcmp(argv[3], "-") != 0 && !firn_id12_parse(argv[3], strlen(argv[3]), &base))
		return 2;
	actor = actor_new(repo, &base, "script");
	actor_do(actor, argv[5]);
	status = put(repo, actor->section->changes, &base, (FirnRebase)atoi(argv[4]));
	actor_free(actor);
	return status;
}
