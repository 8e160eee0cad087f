#ifndef FIRN_TESTS_UNIT_STORE_FIXTURE_H
#define FIRN_TESTS_UNIT_STORE_FIXTURE_H

#include "core/base/error.h"
#include "core/store/fault.h"
#include "core/store/store.h"
#include "tests/unit/harness.h"

#include <inttypes.h>
#include <string.h>

/* A directory for one test, and the store in it; setup and teardown make a checked fixture. */
static char *root;

G_GNUC_UNUSED static void
setup(void)
{
	root = g_dir_make_tmp("firn-store-XXXXXX", NULL);
	ck_assert_ptr_nonnull(root);
}

G_GNUC_UNUSED static void
teardown(void)
{
	const char *argv[] = { "rm", "-rf", root, NULL };

	g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
		     NULL, NULL, NULL);
	g_clear_pointer(&root, g_free);
}

/* Variant 0 is the local store, variant 1 the same behind an idle fault store. */
G_GNUC_UNUSED static FirnStore *
open_variant(int variant)
{
	g_autoptr(GError) error = NULL;
	FirnStore *store = firn_store_open(root, false, &error);

	ck_assert_no_error(error);
	return variant == 0 ? store : firn_fault_new(store);
}

G_GNUC_UNUSED static GBytes *
text(const char *value)
{
	return g_bytes_new(value, strlen(value));
}

G_GNUC_UNUSED static void
put(FirnStore *store, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = text(value);

	ck_assert_msg(firn_store_put(store, key, data, FIRN_PUT_ANY, NULL, NULL, &error), "%s",
		      error ? error->message : "");
}

G_GNUC_UNUSED static void
assert_content(FirnStore *store, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) data = NULL;
	g_autoptr(GBytes) wanted = value != NULL ? text(value) : NULL;

	ck_assert(firn_store_get(store, key, 0, UINT64_MAX, &data, NULL, &error));
	if (value == NULL)
		ck_assert_ptr_null(data);
	else
		ck_assert(data != NULL && g_bytes_equal(data, wanted));
}

G_GNUC_UNUSED static bool
count(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	GPtrArray *keys = data;

	ck_assert_int_gt(mtime_us, 0);
	g_ptr_array_add(keys, g_strdup_printf("%s:%" PRIu64, key, size));
	return keys->len < 100;
}

G_GNUC_UNUSED static gint
by_text(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

G_GNUC_UNUSED static char *
listing(FirnStore *store, const char *prefix)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) error = NULL;

	ck_assert(firn_store_list(store, prefix, count, keys, &error));
	g_ptr_array_sort(keys, by_text);
	g_ptr_array_add(keys, NULL);
	return g_strjoinv(" ", (char **)keys->pdata);
}

#endif
