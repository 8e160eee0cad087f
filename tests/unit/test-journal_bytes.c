#include "core/repo/journal_bytes.h"
#include "tests/unit/harness.h"

/* Numbers as a journal has them, wherever in what is read they lie. */

#define ROOM 24u

/* Both ends of each length, and what lies between. */
static const uint64_t values[] = {
	0,
	1,
	0x7f,
	0x80,
	0x3fff,
	0x4000,
	0x1fffff,
	0x200000,
	0xfffffff,
	0x10000000,
	UINT32_MAX,
	UINT64_C(0x7ffffffff),
	UINT64_C(0x800000000),
	UINT64_C(0x3ffffffffff),
	UINT64_C(0x40000000000),
	UINT64_C(0x1ffffffffffff),
	UINT64_C(0x2000000000000),
	UINT64_C(0xffffffffffffff),
	UINT64_C(0x100000000000000),
	UINT64_C(0x123456789abcdef0),
	INT64_MAX,
	UINT64_MAX,
};

START_TEST(varint__at_any_distance_from_the_end__is_what_was_written)
{
	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		uint8_t bytes[ROOM];
		uint8_t *pen = bytes;
		size_t len;

		memset(bytes, 0xff, sizeof bytes);
		firn_pen_varint(&pen, values[i]);
		len = (size_t)(pen - bytes);
		ck_assert_uint_le(len, FIRN_VARINT_MAX);
		for (size_t end = len; end <= ROOM; end++) {
			/* As long as it says, so that a sanitizer sees who reads more. */
			g_autofree uint8_t *exact = g_memdup2(bytes, end);
			FirnCursor cursor = { exact, exact + end, false };

			ck_assert_uint_eq(firn_take_varint(&cursor), values[i]);
			ck_assert(!cursor.bad);
			ck_assert_ptr_eq(cursor.at, exact + len);
		}
	}
}
END_TEST

START_TEST(varint__cut_off__is_bad)
{
	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		uint8_t bytes[ROOM];
		uint8_t *pen = bytes;

		firn_pen_varint(&pen, values[i]);
		for (size_t end = 0; end < (size_t)(pen - bytes); end++) {
			g_autofree uint8_t *exact = g_memdup2(bytes, end);
			FirnCursor cursor = { exact, end > 0 ? exact + end : exact, false };

			ck_assert_uint_eq(firn_take_varint(&cursor), 0);
			ck_assert(cursor.bad);
			ck_assert_ptr_eq(cursor.at, cursor.end);
		}
	}
}
END_TEST

START_TEST(varint__of_more_than_64_bits__is_bad)
{
	for (unsigned n = 9; n < ROOM; n++) {
		uint8_t bytes[ROOM] = { 0 };
		FirnCursor cursor = { bytes, bytes + ROOM, false };

		memset(bytes, 0xff, n);
		bytes[n] = 2;
		ck_assert_uint_eq(firn_take_varint(&cursor), 0);
		ck_assert(cursor.bad);
	}
}
END_TEST

START_TEST(varint__longer_than_it_need_be__is_its_value)
{
	uint8_t bytes[ROOM] = { 0x85, 0x80, 0x80, 0x00 };
	FirnCursor cursor = { bytes, bytes + ROOM, false };

	ck_assert_uint_eq(firn_take_varint(&cursor), 5);
	ck_assert(!cursor.bad);
	ck_assert_ptr_eq(cursor.at, bytes + 4);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("journal_bytes");
	TCase *tcase = tcase_create("all");

	tcase_add_test(tcase, varint__at_any_distance_from_the_end__is_what_was_written);
	tcase_add_test(tcase, varint__cut_off__is_bad);
	tcase_add_test(tcase, varint__of_more_than_64_bits__is_bad);
	tcase_add_test(tcase, varint__longer_than_it_need_be__is_its_value);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
