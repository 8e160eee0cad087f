#include "core/base/error.h"
#include "core/repo/cache.h"
#include "tests/unit/harness.h"

#include <string.h>
#include <time.h>

/* A counted object; `alive` watches that each is freed exactly once. */
typedef struct {
	int refs;
	uint8_t name;
} Thing;

static int fetches, alive;

static gpointer
thing_ref(gpointer object)
{
	Thing *thing = object;

	__atomic_add_fetch(&thing->refs, 1, __ATOMIC_SEQ_CST);
	return object;
}

static void
thing_unref(gpointer object)
{
	Thing *thing = object;

	if (__atomic_sub_fetch(&thing->refs, 1, __ATOMIC_SEQ_CST) > 0)
		return;
	__atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST);
	g_free(thing);
}

/* `data` is the size; 0 makes the fetch fail. */
static gpointer
thing_fetch(const FirnId12 *id, void *data, size_t *out_bytes, GError **error)
{
	size_t bytes = *(size_t *)data;
	struct timespec pause = { .tv_nsec = 2000000 };
	Thing *thing = NULL;

	nanosleep(&pause, NULL);
	__atomic_add_fetch(&fetches, 1, __ATOMIC_SEQ_CST);
	if (bytes == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "cannot fetch %d", id->bytes[0]);
		return NULL;
	}
	__atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST);
	thing = g_new0(Thing, 1);
	thing->refs = 1;
	thing->name = id->bytes[0];
	*out_bytes = bytes;
	return thing;
}

static const FirnCacheType type = { thing_fetch, thing_ref, thing_unref };

static void
get_for(FirnCache *cache, FirnCacheUse use, uint8_t name, size_t bytes)
{
	FirnId12 id = { { name } };
	Thing *thing = firn_cache_get(cache, &id, use, &bytes, NULL);

	ck_assert_ptr_nonnull(thing);
	ck_assert_uint_eq(thing->name, name);
	thing_unref(thing);
}

static void
get(FirnCache *cache, uint8_t name, size_t bytes)
{
	get_for(cache, FIRN_CACHE_KEEP, name, bytes);
}

START_TEST(get__more_than_fits__least_recently_used_goes)
{
	FirnCache *cache = firn_cache_new(&type, 30);

	get(cache, 1, 10);
	get(cache, 2, 10);
	get(cache, 3, 10);
	get(cache, 1, 10);
	ck_assert_int_eq(fetches, 3);
	get(cache, 4, 10);
	ck_assert_int_eq(alive, 3);
	get(cache, 1, 10);
	get(cache, 3, 10);
	get(cache, 4, 10);
	ck_assert_int_eq(fetches, 4);
	get(cache, 2, 10);
	ck_assert_int_eq(fetches, 5);
	firn_cache_set_max_bytes(cache, 15);
	ck_assert_int_eq(alive, 1);
	firn_cache_free(cache);
	ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(get__scan__leaves_room_for_what_is_kept)
{
	FirnCache *cache = firn_cache_new(&type, 80);

	for (uint8_t i = 1; i <= 7; i++)
		get(cache, i, 10);
	for (uint8_t i = 10; i < 100; i++)
		get_for(cache, FIRN_CACHE_SCAN, i, 10);
	ck_assert_int_eq(alive, 8);
	ck_assert_int_eq(fetches, 97);
	for (uint8_t i = 1; i <= 7; i++)
		get_for(cache, FIRN_CACHE_SCAN, i, 10);
	get_for(cache, FIRN_CACHE_SCAN, 99, 10);
	ck_assert_int_eq(fetches, 97);
	/* Wanted by itself, it is one of those that are kept. */
	get(cache, 99, 10);
	get_for(cache, FIRN_CACHE_SCAN, 100, 10);
	get(cache, 99, 10);
	ck_assert_int_eq(fetches, 98);
	firn_cache_free(cache);
	ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(get__bigger_than_bound__stays_until_next)
{
	FirnCache *cache = firn_cache_new(&type, 5);

	get(cache, 1, 100);
	get(cache, 1, 100);
	ck_assert_int_eq(fetches, 1);
	get(cache, 2, 100);
	ck_assert_int_eq(alive, 1);
	firn_cache_free(cache);
	ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(get__evicted_while_held__lives_on)
{
	FirnCache *cache = firn_cache_new(&type, 5);
	FirnId12 id = { { 1 } };
	size_t bytes = 100;
	Thing *held = firn_cache_get(cache, &id, FIRN_CACHE_KEEP, &bytes, NULL);

	get(cache, 2, 100);
	ck_assert_int_eq(alive, 2);
	ck_assert_uint_eq(held->name, 1);
	thing_unref(held);
	ck_assert_int_eq(alive, 1);
	firn_cache_free(cache);
}
END_TEST

START_TEST(get__failure__is_not_remembered)
{
	FirnCache *cache = firn_cache_new(&type, 100);
	g_autoptr(GError) error = NULL;
	FirnId12 id = { { 1 } };
	size_t none = 0;

	ck_assert_ptr_null(firn_cache_get(cache, &id, FIRN_CACHE_KEEP, &none, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_STORE);
	get(cache, 1, 10);
	ck_assert_int_eq(fetches, 2);
	firn_cache_free(cache);
	ck_assert_int_eq(alive, 0);
}
END_TEST

#define THREADS 8

static FirnCache *shared;
static int failures;

static void *
hammer(void *data)
{
	size_t bytes = *(size_t *)data;

	for (uint8_t name = 0; name < 20; name++) {
		FirnId12 id = { { name } };
		g_autoptr(GError) error = NULL;
		Thing *thing = firn_cache_get(shared, &id, FIRN_CACHE_KEEP, &bytes, &error);

		if (thing == NULL) {
			g_assert(error != NULL);
			__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
		} else {
			g_assert(thing->name == name);
			thing_unref(thing);
		}
	}
	return NULL;
}

static void
hammer_all(size_t bytes)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &bytes), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

START_TEST(get__many_threads__one_fetch_per_id)
{
	shared = firn_cache_new(&type, 1000);
	hammer_all(10);
	ck_assert_int_eq(fetches, 20);
	ck_assert_int_eq(alive, 20);
	firn_cache_free(shared);
	ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(get__many_threads_small_cache__nothing_leaks)
{
	shared = firn_cache_new(&type, 15);
	hammer_all(10);
	firn_cache_free(shared);
	ck_assert_int_eq(alive, 0);
}
END_TEST

START_TEST(get__many_threads_all_fail__each_gets_the_error)
{
	shared = firn_cache_new(&type, 1000);
	hammer_all(0);
	ck_assert_int_eq(failures, 20 * THREADS);
	firn_cache_free(shared);
	ck_assert_int_eq(alive, 0);
}
END_TEST

static void
reset(void)
{
	fetches = alive = failures = 0;
}

static Suite *
make_suite(void)
{
	Suite *s = suite_create("cache");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, reset, NULL);
	tcase_add_test(tc, get__more_than_fits__least_recently_used_goes);
	tcase_add_test(tc, get__bigger_than_bound__stays_until_next);
	tcase_add_test(tc, get__scan__leaves_room_for_what_is_kept);
	tcase_add_test(tc, get__evicted_while_held__lives_on);
	tcase_add_test(tc, get__failure__is_not_remembered);
	tcase_add_test(tc, get__many_threads__one_fetch_per_id);
	tcase_add_test(tc, get__many_threads_small_cache__nothing_leaks);
	tcase_add_test(tc, get__many_threads_all_fail__each_gets_the_error);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(make_suite)
