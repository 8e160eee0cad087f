#ifndef FIRN_TESTS_UNIT_REPO_FIXTURE_H
#define FIRN_TESTS_UNIT_REPO_FIXTURE_H

#include "core/base/error.h"
#include "core/repo/repo.h"
#include "tests/unit/harness.h"

#include <string.h>

/* A directory for one test; repo_setup and repo_teardown make a checked fixture. */
static char *scratch;

static void
run_command(const char *const *argv)
{
	int status;

	ck_assert(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
			       NULL, NULL, NULL, &status, NULL));
	ck_assert_int_eq(status, 0);
}

G_GNUC_UNUSED static void
repo_setup(void)
{
	scratch = g_dir_make_tmp("firn-repo-XXXXXX", NULL);
	ck_assert_ptr_nonnull(scratch);
}

G_GNUC_UNUSED static void
repo_teardown(void)
{
	const char *const argv[] = { "rm", "-rf", scratch, NULL };

	run_command(argv);
	g_clear_pointer(&scratch, g_free);
}

static inline FirnRepo *
open_repo(const char *path)
{
	g_autoptr(GError) error = NULL;
	FirnRepo *repo = firn_repo_open(path, &error);

	ck_assert_no_error(error);
	return repo;
}

static inline FirnRepo *
new_repo(void)
{
	g_autoptr(GError) error = NULL;

	ck_assert_msg(firn_repo_create(scratch, &error), "%s", error != NULL ? error->message : "");
	return open_repo(scratch);
}

/* A writable copy of a golden repository. */
static inline FirnRepo *
copy_golden(const char *name)
{
	g_autofree char *from = g_build_filename("tests/golden", name, "repo", ".", NULL);
	const char *const argv[] = { "cp", "-r", from, scratch, NULL };

	run_command(argv);
	return open_repo(scratch);
}

static inline FirnRepoInfo *
read_info(FirnRepo *repo)
{
	g_autoptr(GError) error = NULL;
	FirnRepoInfo *info = firn_repo_read_info(repo, &error);

	ck_assert_no_error(error);
	return info;
}

static inline void
put_object(FirnRepo *repo, const char *folder, const FirnId12 *id, GBytes *file)
{
	g_autoptr(GError) error = NULL;
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;
	FirnStoreWriter *writer;

	firn_id12_format(id, text);
	key = g_strconcat(folder, "/", text, NULL);
	/* Not durable: tests write many. */
	writer = firn_store_writer_open(firn_repo_store(repo), key, &error);
	ck_assert_no_error(error);
	ck_assert(firn_store_writer_write(writer, 0, g_bytes_get_data(file, NULL),
					  g_bytes_get_size(file), &error));
	ck_assert(firn_store_writer_finish(writer, false, &error));
}

#endif
