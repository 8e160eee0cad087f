#include "core/base/error.h"
#include "core/base/id.h"
#include "core/store/fault.h"
#include "core/store/local.h"
#include "core/store/store.h"
#include "tests/unit/store_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RACERS 4
#define ROUNDS 25

/* Increment the number in "counter" by compare-and-swap, `ROUNDS` times. */
static void *
increment(void *data)
{
	FirnStore *store = data;
	int done = 0;

	while (done < ROUNDS) {
		g_autoptr(GBytes) old = NULL;
		g_autoptr(GBytes) next = NULL;
		g_autoptr(GError) error = NULL;
		FirnVersion version;
		char number[32] = { 0 };
		gsize len;
		const void *bytes;

		g_assert(firn_store_get(store, "counter", 0, UINT64_MAX, &old, &version, NULL));
		bytes = g_bytes_get_data(old, &len);
		memcpy(number, bytes, len);
		g_snprintf(number, sizeof number, "%06d", atoi(number) + 1);
		next = text(number);
		if (firn_store_put(store, "counter", next, FIRN_PUT_IF_MATCH, &version, NULL,
				   &error))
			done++;
		else
			g_assert(g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT));
	}
	return NULL;
}

START_TEST(put__racing_threads__no_update_lost)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	pthread_t threads[RACERS];
	g_autofree char *wanted = g_strdup_printf("%06d", RACERS * ROUNDS);

	put(store, "counter", "000000");
	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, increment, store), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	assert_content(store, "counter", wanted);
}
END_TEST

START_TEST(put__racing_processes__no_update_lost)
{
	FirnStore *before = open_variant(_i);
	g_autoptr(FirnStore) store = NULL;
	g_autofree char *wanted = NULL;
	g_autofree char *left = NULL;
	pid_t children[RACERS];

	put(before, "counter", "000000");
	/* Nothing of ours for them to leak. */
	firn_store_free(before);
	for (int i = 0; i < RACERS; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			FirnStore *own = firn_store_open(root, false, NULL);

			increment(own);
			firn_store_free(own);
			_exit(0);
		}
	}
	for (int i = 0; i < RACERS; i++) {
		int status;

		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
	store = open_variant(_i);
	wanted = g_strdup_printf("%06d", RACERS * ROUNDS);
	assert_content(store, "counter", wanted);
	left = listing(store, "");
	ck_assert_str_eq(left, "counter:6 firn/lock:0");
}
END_TEST

static void *
create_once(void *data)
{
	FirnStore *store = data;
	uintptr_t won = 0;

	for (int i = 0; i < 20; i++) {
		g_autofree char *key = g_strdup_printf("deep/er/%d", i);
		g_autoptr(GBytes) bytes = text("x");
		g_autoptr(GError) error = NULL;

		if (firn_store_put(store, key, bytes, FIRN_PUT_IF_ABSENT, NULL, NULL, &error))
			won++;
		else
			g_assert(g_error_matches(error, FIRN_ERROR, FIRN_ERROR_CONFLICT));
	}
	return (void *)won;
}

START_TEST(put__racing_creators__one_wins_each)
{
	g_autoptr(FirnStore) store = open_variant(_i);
	pthread_t threads[RACERS];
	uintptr_t total = 0;

	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, create_once, store), 0);
	for (int i = 0; i < RACERS; i++) {
		void *won;

		pthread_join(threads[i], &won);
		total += (uintptr_t)won;
	}
	ck_assert_uint_eq(total, 20);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("store_races");
	TCase *t = tcase_create("store_races");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, put__racing_threads__no_update_lost, 0, 2);
	tcase_add_test(t, put__racing_processes__no_update_lost);
	tcase_add_test(t, put__racing_creators__one_wins_each);
	suite_add_tcase(s, t);
	return s;
}

TEST_MAIN(make_suite)
