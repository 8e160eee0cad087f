#include "tests/unit/repo_info_fixture.h"

#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"

#include <string.h>

/* What a later version may add, and what nobody should write. */

/* Fields of every kind, from id `from` on; the children are appended by add_later(). */
static void
declare_later(FirnFlatRow *row, unsigned from)
{
	const FirnId12 id = { "twelve bytes" };

	firn_flat_row_u8(row, from, 7);
	firn_flat_row_u16(row, from + 1, 0x1234);
	firn_flat_row_u32(row, from + 2, 0xdeadbeef);
	firn_flat_row_u64(row, from + 3, 0x0123456789abcdef);
	firn_flat_row_id12(row, from + 4, &id);
	firn_flat_row_child(row, from + 5); /* text */
	firn_flat_row_child(row, from + 6); /* u64 list */
	firn_flat_row_child(row, from + 7); /* table with a list of tables */
}

static void
add_later(FirnFlatBuilder *b, size_t table, unsigned from)
{
	static const uint64_t numbers[] = { 1, UINT64_MAX, 3 };
	FirnFlatRow row = { 0 };
	size_t child;
	size_t list;

	firn_flat_link(b, table, from + 5,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"from later", 10 }));
	firn_flat_link(b, table, from + 6, firn_flat_build_vector(b, numbers, 3, 8, 8));
	firn_flat_row_u32(&row, 0, 77);
	firn_flat_row_child(&row, 2);
	child = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, from + 7, child);
	list = firn_flat_build_offsets(b, 3);
	firn_flat_link(b, child, 2, list);
	for (unsigned i = 0; i < 3; i++) {
		FirnFlatRow item = { 0 };

		firn_flat_row_u64(&item, 1, 1000 + i);
		firn_flat_link_item(b, list, i, firn_flat_build_table(b, &item));
	}
}

static void
check_later(FirnSpan b, size_t table, unsigned from)
{
	size_t numbers = firn_flat_get_child(b, table, from + 6);
	size_t child = firn_flat_get_child(b, table, from + 7);
	size_t list;

	ck_assert_uint_eq(firn_flat_get_u8(b, table, from, 0), 7);
	ck_assert_uint_eq(firn_flat_get_u16(b, table, from + 1, 0), 0x1234);
	ck_assert_uint_eq(firn_flat_get_u32(b, table, from + 2, 0), 0xdeadbeef);
	ck_assert_uint_eq(firn_flat_get_u64(b, table, from + 3, 0), 0x0123456789abcdef);
	ck_assert_uint_eq((firn_flat_field(b, table, from + 3)) % 8, 0);
	ck_assert_mem_eq(firn_flat_get_struct(b, table, from + 4), "twelve bytes", 12);
	ck_assert_uint_eq(firn_flat_get_bytes(b, table, from + 5).len, 10);
	ck_assert_mem_eq(firn_flat_get_bytes(b, table, from + 5).data, "from later", 11);
	ck_assert_uint_eq(firn_flat_count(b, numbers), 3);
	ck_assert_uint_eq((numbers + 4) % 8, 0);
	ck_assert_uint_eq(firn_flat_load64(firn_flat_items(b, numbers) + 8), UINT64_MAX);
	ck_assert_uint_eq(firn_flat_get_u32(b, child, 0, 0), 77);
	list = firn_flat_get_child(b, child, 2);
	ck_assert_uint_eq(firn_flat_count(b, list), 3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(firn_flat_get_u64(b, firn_flat_item(b, list, i), 1, 0), 1000 + i);
}

static size_t
later_ref(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_child(&row, 0);
	firn_flat_row_u32(&row, 1, 0);
	declare_later(&row, 2);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, 0,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"main", 4 }));
	add_later(b, table, 2);
	return table;
}

static size_t
later_snapshot(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_id12(&row, 0, &firn_id_initial_snapshot);
	firn_flat_row_i32(&row, 1, -1);
	firn_flat_row_u64(&row, 2, 5);
	firn_flat_row_child(&row, 3);
	declare_later(&row, 6);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, 3,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"a\0b", 3 }));
	add_later(b, table, 6);
	return table;
}

static size_t
later_status(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	declare_later(&row, 3);
	table = firn_flat_build_table(b, &row);
	add_later(b, table, 3);
	return table;
}

/* An update of a kind that is not known, with fields of its own. */
static size_t
later_update(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	FirnFlatRow variant = { 0 };
	size_t table;
	size_t value;

	firn_flat_row_u8(&row, 0, 99);
	firn_flat_row_child(&row, 1);
	firn_flat_row_u64(&row, 2, 6);
	declare_later(&row, 4);
	table = firn_flat_build_table(b, &row);
	add_later(b, table, 4);
	declare_later(&variant, 0);
	value = firn_flat_build_table(b, &variant);
	firn_flat_link(b, table, 1, value);
	add_later(b, value, 0);
	return table;
}

static size_t
list_of(FirnFlatBuilder *b, size_t (*make)(FirnFlatBuilder *))
{
	size_t vector = firn_flat_build_offsets(b, 1);

	firn_flat_link_item(b, vector, 0, make(b));
	return vector;
}

static GBytes *
later_repo(void)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root;

	firn_flat_row_u8(&row, 0, 2);
	for (unsigned id = 1; id <= 5; id++)
		firn_flat_row_child(&row, id);
	firn_flat_row_child(&row, 7);
	firn_flat_row_child(&row, 12);
	declare_later(&row, 13);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 1, firn_flat_build_offsets(b, 0));
	firn_flat_link(b, root, 2, list_of(b, later_ref));
	firn_flat_link(b, root, 3, firn_flat_build_offsets(b, 0));
	firn_flat_link(b, root, 4, list_of(b, later_snapshot));
	firn_flat_link(b, root, 5, later_status(b));
	firn_flat_link(b, root, 7, list_of(b, later_update));
	firn_flat_link(b, root, 12,
		       firn_flat_build_bytes(b, (FirnSpan){ (const uint8_t *)"xyz", 3 }));
	add_later(b, root, 13);
	payload = firn_flat_builder_finish(b, NULL);
	return firn_envelope_seal(&envelope, span_of(payload), 3);
}

static void
check_later_repo(GBytes *file)
{
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	FirnSpan b = span_of(payload);
	size_t root = firn_flat_root(b);
	size_t updates = firn_flat_get_child(b, root, 7);
	size_t update = firn_flat_item(b, updates, firn_flat_count(b, updates) - 1);
	size_t info = firn_flat_item(b, firn_flat_get_child(b, root, 4), 0);

	check_later(b, root, 13);
	ck_assert_mem_eq(firn_flat_get_bytes(b, root, 12).data, "xyz", 3);
	check_later(b, firn_flat_item(b, firn_flat_get_child(b, root, 2), 0), 2);
	check_later(b, info, 6);
	ck_assert_uint_eq(firn_flat_get_bytes(b, info, 3).len, 3);
	check_later(b, firn_flat_get_child(b, root, 5), 3);
	ck_assert_uint_eq(firn_flat_get_u8(b, update, 0, 0), 99);
	check_later(b, update, 4);
	check_later(b, firn_flat_get_child(b, update, 1), 0);
}

START_TEST(encode__fields_of_a_later_version__kept_through_rewrites)
{
	g_autoptr(GBytes) file = later_repo();
	gsize size = 0;

	check_later_repo(file);
	for (unsigned i = 0; i < 5; i++) {
		g_autoptr(FirnRepoInfo) info = decode(file);

		firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "b", 9, 100);
		g_bytes_unref(file);
		file = encode(info);
		check_later_repo(file);
		/* What is copied to be on the safe side does not pile up. */
		ck_assert(i < 2 || g_bytes_get_size(file) < size + 200);
		size = g_bytes_get_size(file);
	}
}
END_TEST

START_TEST(decode__metadata_json_cannot_hold__kept_unless_changed)
{
	/* 2^64 - 1, which a JSON node rounds. */
	static const uint8_t big[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0b, 0x08 };
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = encode(made);
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	gsize len;
	g_autofree uint8_t *bytes = g_bytes_unref_to_data(g_bytes_ref(payload), &len);
	FirnSpan b = { bytes, len };
	size_t info_at = firn_flat_item(b, firn_flat_get_child(b, firn_flat_root(b), 4), 0);
	size_t item = firn_flat_item(b, firn_flat_get_child(b, info_at, 4), 0);
	size_t value = firn_flat_get_child(b, item, 1);
	const uint32_t n = sizeof big;

	/* The value there is longer, so it can be overwritten in place. */
	ck_assert_uint_gt(firn_flat_count(b, value), n);
	memcpy(bytes + value, &n, 4);
	memcpy(bytes + value + 4, big, n);
	g_bytes_unref(file);
	file = firn_envelope_seal(&envelope, b, 3);
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(FirnRepoInfo) info = decode(file);
		g_autoptr(GBytes) again = NULL;
		FirnSpan c;

		g_bytes_unref(file);
		file = encode(info);
		again = firn_envelope_open(file, 1 << 20, NULL, NULL);
		c = span_of(again);
		info_at = firn_flat_item(c, firn_flat_get_child(c, firn_flat_root(c), 4), 0);
		item = firn_flat_item(c, firn_flat_get_child(c, info_at, 4), 0);
		ck_assert_uint_eq(firn_flat_get_bytes(c, item, 1).len, sizeof big);
		ck_assert_mem_eq(firn_flat_get_bytes(c, item, 1).data, big, sizeof big);
	}
}
END_TEST

START_TEST(decode__every_cut_and_flip__never_crashes)
{
	g_autoptr(GBytes) file = later_repo();
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	FirnSpan all = span_of(payload);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };

	for (size_t i = 0; i < all.len; i++) {
		for (unsigned bit = 0; bit < 8; bit += 1 + (unsigned)i % 3) {
			g_autofree uint8_t *copy = g_memdup2(all.data, all.len);
			g_autoptr(GBytes) bad = NULL;
			g_autoptr(FirnRepoInfo) info = NULL;

			copy[i] = (uint8_t)(copy[i] ^ 1u << bit);
			bad = firn_envelope_seal(&envelope, (FirnSpan){ copy, all.len }, 1);
			info = firn_repo_info_decode(bad, NULL);
			if (info != NULL) {
				g_autoptr(GBytes) again = firn_repo_info_encode(info, 1, NULL);

				/* What we write can be read again. */
				if (again != NULL)
					firn_repo_info_free(decode(again));
			}
		}
		if (i % 4 == 0) {
			g_autoptr(GBytes) cut =
				firn_envelope_seal(&envelope, (FirnSpan){ all.data, i }, 1);

			firn_repo_info_free(firn_repo_info_decode(cut, NULL));
		}
	}
}
END_TEST

/* The second snapshot's parent is itself. */
START_TEST(decode__cycle_or_bad_index__refused)
{
	for (int32_t parent = -2; parent < 4; parent++) {
		g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
		const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
		const FirnId12 id = id_of(1);
		g_autoptr(GBytes) file = NULL;
		g_autoptr(GBytes) payload = NULL;
		g_autoptr(GBytes) bad = NULL;
		g_autoptr(FirnRepoInfo) info = NULL;
		g_autofree uint8_t *bytes = NULL;
		FirnSpan b;
		size_t table;

		ck_assert(firn_repo_info_add_snapshot(made, &id, NULL, 2, "x", NULL));
		file = encode(made);
		payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
		bytes = g_memdup2(span_of(payload).data, span_of(payload).len);
		b = (FirnSpan){ bytes, span_of(payload).len };
		table = firn_flat_item(b, firn_flat_get_child(b, firn_flat_root(b), 4), 1);
		memcpy(bytes + firn_flat_field(b, table, 1), &parent, sizeof parent);
		bad = firn_envelope_seal(&envelope, b, 1);
		info = firn_repo_info_decode(bad, NULL);
		ck_assert((info != NULL) == (parent == -1 || parent == 0));
	}
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("repo_info_later");
	TCase *tc = tcase_create("repo_info_later");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, encode__fields_of_a_later_version__kept_through_rewrites);
	tcase_add_test(tc, decode__metadata_json_cannot_hold__kept_unless_changed);
	tcase_add_test(tc, decode__every_cut_and_flip__never_crashes);
	tcase_add_test(tc, decode__cycle_or_bad_index__refused);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
