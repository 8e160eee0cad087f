#include "core/zarr/name.h"
#include "tests/unit/harness.h"

#include <string.h>

START_TEST(parse_index__canonical_decimal__accepted)
{
	uint32_t index = 7;

	ck_assert(firn_name_parse_index("0", &index));
	ck_assert_uint_eq(index, 0);
	ck_assert(firn_name_parse_index("4294967294", &index));
	ck_assert_uint_eq(index, 4294967294u);
	ck_assert(firn_name_parse_index("12", NULL));
}
END_TEST

START_TEST(parse_index__anything_else__refused_and_untouched)
{
	static const char *const bad[] = { "",
					   "00",
					   "01",
					   "+1",
					   "-1",
					   " 1",
					   "1 ",
					   "1.0",
					   "0x1",
					   "1e3",
					   "4294967295",
					   "4294967296",
					   "99999999999",
					   "18446744073709551616",
					   "\xd9\xa1" };
	uint32_t index = 7;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		ck_assert_msg(!firn_name_parse_index(bad[i], &index), "%s", bad[i]);
	ck_assert_uint_eq(index, 7);
}
END_TEST

START_TEST(classify__each_kind__told_apart)
{
	uint32_t index = 0;

	ck_assert_int_eq(firn_name_classify("zarr.json", NULL), FIRN_NAME_META);
	ck_assert_int_eq(firn_name_classify("zarr.json.partial", NULL), FIRN_NAME_OTHER);
	ck_assert_int_eq(firn_name_classify(".zarray", NULL), FIRN_NAME_V2);
	ck_assert_int_eq(firn_name_classify(".zgroup", NULL), FIRN_NAME_V2);
	ck_assert_int_eq(firn_name_classify(".zattrs", NULL), FIRN_NAME_V2);
	ck_assert_int_eq(firn_name_classify(".zmetadata", NULL), FIRN_NAME_V2);
	ck_assert_int_eq(firn_name_classify("c", NULL), FIRN_NAME_CHUNKS);
	ck_assert_int_eq(firn_name_classify("41", &index), FIRN_NAME_INDEX);
	ck_assert_uint_eq(index, 41);
	ck_assert_int_eq(firn_name_classify("041", NULL), FIRN_NAME_OTHER);
	ck_assert_int_eq(firn_name_classify("zarr.json.__lock", NULL), FIRN_NAME_LOCK);
	ck_assert_int_eq(firn_name_classify(".__lock", NULL), FIRN_NAME_OTHER);
	ck_assert_int_eq(firn_name_classify("temperature", NULL), FIRN_NAME_OTHER);
}
END_TEST

START_TEST(is_valid__names__as_a_path_component)
{
	char long_name[300];

	memset(long_name, 'x', sizeof long_name);
	long_name[256] = '\0';
	ck_assert(!firn_name_is_valid(long_name));
	long_name[255] = '\0';
	ck_assert(firn_name_is_valid(long_name));
	ck_assert(firn_name_is_valid("\xc3\xa9t\xc3\xa9 1"));
	ck_assert(firn_name_is_valid("..."));
	ck_assert(!firn_name_is_valid(""));
	ck_assert(!firn_name_is_valid("."));
	ck_assert(!firn_name_is_valid(".."));
	ck_assert(!firn_name_is_valid("a/b"));
	ck_assert(!firn_name_is_valid("\xff"));
}
END_TEST

START_TEST(format_chunk__ranks__key)
{
	const uint32_t coords[] = { 0, 12, 4294967294u };
	g_autofree char *scalar = firn_name_format_chunk(NULL, 0);
	g_autofree char *cube = firn_name_format_chunk(coords, 3);

	ck_assert_str_eq(scalar, "c");
	ck_assert_str_eq(cube, "c/0/12/4294967294");
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("name");
	TCase *tc = tcase_create("name");

	tcase_add_test(tc, parse_index__canonical_decimal__accepted);
	tcase_add_test(tc, parse_index__anything_else__refused_and_untouched);
	tcase_add_test(tc, classify__each_kind__told_apart);
	tcase_add_test(tc, is_valid__names__as_a_path_component);
	tcase_add_test(tc, format_chunk__ranks__key);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
