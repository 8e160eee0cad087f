#include "core/base/sort.h"
#include "harness.h"

#define MOST 300

typedef struct {
	int key;
	char name[7];
} Item;

static int
compare(const void *a, const void *b, void *data)
{
	const Item *x = a, *y = b;
	unsigned *n_compared = data;

	++*n_compared;
	return (x->key > y->key) - (x->key < y->key);
}

static int
compare_plainly(const void *a, const void *b)
{
	unsigned ignored = 0;

	return compare(a, b, &ignored);
}

/* Sort, hold it against qsort(3), and return how often was compared. */
static unsigned
sort(const int *keys, size_t n, bool *out_strict)
{
	unsigned n_compared = 0;
	Item items[MOST], wanted[MOST];

	for (size_t i = 0; i < n; i++) {
		items[i] = (Item){ .key = keys[i] };
		g_snprintf(items[i].name, sizeof items[i].name, "%d", keys[i]);
		wanted[i] = items[i];
	}
	*out_strict = firn_sort(items, n, sizeof *items, compare, &n_compared);
	qsort(wanted, n, sizeof *wanted, compare_plainly);
	for (size_t i = 0; i < n; i++) {
		ck_assert_int_eq(items[i].key, wanted[i].key);
		ck_assert_str_eq(items[i].name, wanted[i].name);
	}
	return n_compared;
}

START_TEST(sort__in_order__is_one_look)
{
	int keys[MOST];
	bool strict;

	for (int i = 0; i < MOST; i++)
		keys[i] = i;
	ck_assert_uint_eq(sort(keys, MOST, &strict), MOST - 1);
	ck_assert(strict);
	keys[7] = keys[6];
	ck_assert_uint_eq(sort(keys, MOST, &strict), MOST - 1);
	ck_assert(!strict);
	ck_assert_uint_eq(sort(keys, 0, &strict), 0);
	ck_assert(strict);
	ck_assert_uint_eq(sort(keys, 1, &strict), 0);
	ck_assert(strict);
}
END_TEST

START_TEST(sort__few_at_the_end__are_merged)
{
	int keys[MOST];
	bool strict;

	for (int i = 0; i < MOST; i++)
		keys[i] = 2 * i;
	for (int last = -1; last <= 2 * MOST; last++) {
		keys[MOST - 1] = last;
		ck_assert_uint_le(sort(keys, MOST, &strict), 2 * MOST);
		ck_assert(!strict || last > keys[MOST - 2]);
	}
	keys[MOST - 2] = 0;
	keys[MOST - 1] = -1;
	(void)sort(keys, MOST, &strict);
}
END_TEST

START_TEST(sort__any_order__is_that_of_qsort)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	int keys[MOST];
	bool strict;

	for (int round = 0; round < 500; round++) {
		size_t n = (size_t)g_rand_int_range(rand, 0, MOST);
		/* From all alike to all different; sorted up to somewhere. */
		int range = 1 << g_rand_int_range(rand, 0, 12);
		size_t sorted = n > 0 ? (size_t)g_rand_int_range(rand, 0, (int)n) : 0;

		for (size_t i = 0; i < n; i++)
			keys[i] = i < sorted ? (int)i : g_rand_int_range(rand, 0, range);
		(void)sort(keys, n, &strict);
	}
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("sort");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, sort__in_order__is_one_look);
	tcase_add_test(tc, sort__few_at_the_end__are_merged);
	tcase_add_test(tc, sort__any_order__is_that_of_qsort);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(make_suite)
