#include "core/base/error.h"
#include "core/store/fault.h"
#include "core/store/store.h"
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* One of each call; false at the first failure, with nothing left open. */
static bool
work(FirnStore *store, GError **error)
{
	g_autoptr(GBytes) data = text("abc");
	g_autoptr(GBytes) read = NULL;
	g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
	const char *const synced[] = { "w" };
	FirnStoreWriter *writer;
	FirnVersion version;
	char buffer[4];
	size_t n;
	int fd;

	if (!firn_store_put(store, "k", data, FIRN_PUT_ANY, NULL, &version, error) ||
	    !firn_store_copy(store, "k", "copy", &version, error) ||
	    !firn_store_get(store, "k", 0, 3, &read, NULL, error) ||
	    !firn_store_stat(store, "k", NULL, NULL, NULL, error) ||
	    !firn_store_list(store, "", count, keys, error) ||
	    !firn_store_remove(store, "copy", error))
		return false;
	fd = firn_store_open_fd(store, "k", error);
	if (fd < 0)
		return false;
	close(fd);
	writer = firn_store_writer_open(store, "w", error);
	if (writer == NULL)
		return false;
	if (!firn_store_writer_write(writer, 0, "abc", 3, error) ||
	    !firn_store_writer_read(writer, 0, buffer, 3, &n, error) ||
	    !firn_store_writer_truncate(writer, 2, error) ||
	    !firn_store_writer_flush(writer, error) ||
	    !firn_store_writer_finish(writer, false, error)) {
		firn_store_writer_abort(writer);
		return false;
	}
	return firn_store_free_range(store, "w", 0, 1, error) &&
	       firn_store_sync(store, synced, 1, error) && firn_store_remove(store, "w", error);
}

START_TEST(fault__each_call_in_turn__fails_with_its_errno)
{
	static const struct {
		int errnum;
		FirnError code;
	} cases[] = { { ENOSPC, FIRN_ERROR_NO_SPACE },
		      { EDQUOT, FIRN_ERROR_QUOTA },
		      { EROFS, FIRN_ERROR_READ_ONLY },
		      { EACCES, FIRN_ERROR_DENIED },
		      { EIO, FIRN_ERROR_STORE } };
	g_autoptr(FirnStore) store = open_variant(1);
	uint64_t calls;

	ck_assert(work(store, NULL));
	calls = firn_fault_calls(store);
	ck_assert_uint_eq(calls, 16);
	for (uint64_t at = 0; at <= calls; at++) {
		g_autoptr(GError) error = NULL;
		size_t i = at % G_N_ELEMENTS(cases);

		ck_assert(firn_store_remove(store, "copy", NULL));
		firn_fault_arm(store, at, 1, cases[i].errnum);
		if (at == calls) {
			ck_assert(work(store, &error));
			continue;
		}
		ck_assert(!work(store, &error));
		ck_assert_error(error, FIRN_ERROR, cases[i].code);
		ck_assert(firn_store_remove(store, "w", NULL));
	}
}
END_TEST

START_TEST(fault__finish_fails__writer_stays_usable)
{
	g_autoptr(FirnStore) store = open_variant(1);
	FirnStoreWriter *writer = firn_store_writer_open(store, "w", NULL);

	firn_fault_arm(store, 0, 2, ENOSPC);
	ck_assert(!firn_store_writer_finish(writer, true, NULL));
	ck_assert(!firn_store_writer_finish(writer, true, NULL));
	ck_assert(firn_store_writer_write(writer, 0, "abc", 3, NULL));
	ck_assert(firn_store_writer_finish(writer, true, NULL));
	assert_content(store, "w", "abc");
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("fault");
	TCase *t = tcase_create("fault");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, fault__each_call_in_turn__fails_with_its_errno);
	tcase_add_test(t, fault__finish_fails__writer_stays_usable);
	suite_add_tcase(s, t);
	return s;
}

TEST_MAIN(make_suite)
