#include "core/base/error.h"
#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/flat/verify.h"
#include "tests/unit/harness.h"

/* A schema with every kind of field. */
static const FirnFlatField leaf_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	FIRN_FLAT_SCALAR_FIELD("size", 8, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable leaf_table = FIRN_FLAT_TABLE("Leaf", leaf_fields);
static const FirnFlatTable empty_table = FIRN_FLAT_EMPTY_TABLE("Empty");
static const FirnFlatTable *const variants[] = { &leaf_table, &empty_table };

static const FirnFlatField root_fields[] = {
	FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	FIRN_FLAT_SCALAR_FIELD("flag", 1, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("time", 8, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_VECTOR_FIELD("numbers", 4, 4, FIRN_FLAT_REQUIRED),
	FIRN_FLAT_STRINGS_FIELD("names", FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_TABLES_FIELD("leaves", &leaf_table, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_CHILD_FIELD("child", &leaf_table, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_UNION_FIELD("either", variants, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SKIP_FIELD,
};
static const FirnFlatTable root_table = FIRN_FLAT_TABLE("Root", root_fields);
static const FirnFlatLimits limits = { .max_depth = 64, .max_tables = 1000, .max_bytes = 100000 };

static FirnSpan
span(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const uint8_t *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static size_t
build_leaf(FirnFlatBuilder *b, const char *name, uint64_t size)
{
	FirnFlatRow row = { 0 };
	size_t at;

	firn_flat_row_child(&row, 0);
	if (size != 0)
		firn_flat_row_u64(&row, 1, size);
	at = firn_flat_build_table(b, &row);
	firn_flat_link(b, at, 0, firn_flat_build_string(b, span(name)));
	return at;
}

static GBytes *
build_all(uint8_t code)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	static const uint32_t numbers[] = { 7, 8, 9 };
	FirnFlatRow row = { 0 };
	FirnId12 id = firn_id_initial_snapshot;
	size_t root, v;

	firn_flat_row_id12(&row, 0, &id);
	firn_flat_row_u8(&row, 1, 3);
	firn_flat_row_u64(&row, 2, 1234567890123);
	for (unsigned i = 3; i <= 6; i++)
		firn_flat_row_child(&row, i);
	firn_flat_row_u8(&row, 7, code);
	firn_flat_row_child(&row, 8);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 3, firn_flat_build_vector(b, numbers, 3, 4, 4));
	v = firn_flat_build_offsets(b, 2);
	firn_flat_link(b, root, 4, v);
	firn_flat_link_item(b, v, 0, firn_flat_build_string(b, span("one")));
	firn_flat_link_item(b, v, 1, firn_flat_build_string(b, span("")));
	v = firn_flat_build_offsets(b, 2);
	firn_flat_link(b, root, 5, v);
	firn_flat_link_item(b, v, 0, build_leaf(b, "a", 11));
	firn_flat_link_item(b, v, 1, build_leaf(b, "b", 0));
	firn_flat_link(b, root, 6, build_leaf(b, "child", 12));
	firn_flat_link(b, root, 8, build_leaf(b, "value", 13));
	return firn_flat_builder_finish(b, NULL);
}

/* Touch everything the verifier has promised. */
static uint64_t
walk(FirnSpan b)
{
	size_t root = firn_flat_root(b);
	size_t names = firn_flat_get_child(b, root, 4);
	size_t leaves = firn_flat_get_child(b, root, 5);
	uint64_t sum = firn_flat_get_id12(b, root, 0)->bytes[11];

	sum += firn_flat_get_u8(b, root, 1, 0) + firn_flat_get_u64(b, root, 2, 0);
	for (uint32_t i = 0; i < firn_flat_count(b, firn_flat_get_child(b, root, 3)); i++)
		sum += firn_flat_load32(firn_flat_items(b, firn_flat_get_child(b, root, 3)) +
					4 * i);
	for (uint32_t i = 0; i < firn_flat_count(b, names); i++)
		for (size_t k = 0; k < firn_flat_bytes(b, firn_flat_item(b, names, i)).len; k++)
			sum += firn_flat_bytes(b, firn_flat_item(b, names, i)).data[k];
	for (uint32_t i = 0; i < firn_flat_count(b, leaves); i++)
		sum += firn_flat_get_u64(b, firn_flat_item(b, leaves, i), 1, 0);
	if (firn_flat_has(b, root, 6))
		sum += firn_flat_get_u64(b, firn_flat_get_child(b, root, 6), 1, 0);
	return sum;
}

START_TEST(verify__built_buffer__is_accepted_and_reads_back)
{
	g_autoptr(GBytes) bytes = build_all(1);
	FirnSpan b = span_of(bytes);
	g_autoptr(GError) error = NULL;
	size_t root, leaves;

	ck_assert(firn_flat_verify(b, &root_table, &limits, &error));
	ck_assert_no_error(error);
	root = firn_flat_root(b);
	ck_assert_mem_eq(firn_flat_get_id12(b, root, 0), &firn_id_initial_snapshot, 12);
	ck_assert_uint_eq(firn_flat_get_u64(b, root, 2, 0), 1234567890123);
	ck_assert_uint_eq(firn_flat_count(b, firn_flat_get_child(b, root, 3)), 3);
	leaves = firn_flat_get_child(b, root, 5);
	ck_assert_uint_eq(firn_flat_get_u64(b, firn_flat_item(b, leaves, 0), 1, 5), 11);
	ck_assert_uint_eq(firn_flat_get_u64(b, firn_flat_item(b, leaves, 1), 1, 5), 5);
	ck_assert_mem_eq(firn_flat_get_bytes(b, firn_flat_get_child(b, root, 8), 0).data, "value",
			 6);
	ck_assert_uint_eq(firn_flat_n_slots(b, root), 9);
	ck_assert_uint_eq(firn_flat_slot(b, root, 9), 0);
	ck_assert_uint_ge(firn_flat_inline_size(b, root), 4 + 12 + 8 + 5 * 4 + 2);
	/* Leaves with the same fields share a vtable. */
	ck_assert_uint_eq(firn_flat_vtable(b, firn_flat_item(b, leaves, 0)),
			  firn_flat_vtable(b, firn_flat_get_child(b, root, 6)));
}
END_TEST

START_TEST(verify__unknown_union_code__is_accepted_as_opaque_table)
{
	g_autoptr(GBytes) bytes = build_all(77);

	ck_assert(firn_flat_verify(span_of(bytes), &root_table, &limits, NULL));
}
END_TEST

START_TEST(verify__every_truncation__is_refused)
{
	g_autoptr(GBytes) bytes = build_all(1);
	FirnSpan b = span_of(bytes);

	/* The last byte is padding or a NUL that readers do without. */
	for (size_t n = 0; n + 1 < b.len; n++) {
		g_autofree uint8_t *copy = g_memdup2(b.data, MAX(n, 1u));
		g_autoptr(GError) error = NULL;

		ck_assert(!firn_flat_verify((FirnSpan){ copy, n }, &root_table, &limits, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	}
}
END_TEST

START_TEST(verify__every_byte_changed__is_refused_or_safe_to_walk)
{
	g_autoptr(GBytes) bytes = build_all(1);
	FirnSpan b = span_of(bytes);
	g_autofree uint8_t *copy = g_memdup2(b.data, b.len);
	static const uint8_t flips[] = { 0x01, 0x02, 0x04, 0x80, 0xff };
	uint64_t sum = 0;

	for (size_t i = 0; i < b.len * G_N_ELEMENTS(flips); i++) {
		size_t at = i / G_N_ELEMENTS(flips);
		g_autoptr(GError) error = NULL;
		bool ok;

		copy[at] ^= flips[i % G_N_ELEMENTS(flips)];
		ok = firn_flat_verify((FirnSpan){ copy, b.len }, &root_table, &limits, &error);
		ck_assert(ok == (error == NULL));
		if (ok)
			sum += walk((FirnSpan){ copy, b.len });
		copy[at] = b.data[at];
	}
	ck_assert_uint_ne(sum, 0);
}
END_TEST

START_TEST(verify__limits__hold_at_n_and_not_at_n_minus_one)
{
	g_autoptr(GBytes) bytes = build_all(1);
	FirnFlatLimits l = limits;
	g_autoptr(GError) e1 = NULL;
	g_autoptr(GError) e2 = NULL;
	g_autoptr(GError) e3 = NULL;

	l.max_tables = 5;
	l.max_depth = 2;
	ck_assert(firn_flat_verify(span_of(bytes), &root_table, &l, NULL));
	l.max_tables = 4;
	ck_assert(!firn_flat_verify(span_of(bytes), &root_table, &l, &e1));
	ck_assert_error(e1, FIRN_ERROR, FIRN_ERROR_LIMIT);
	l.max_tables = 5;
	l.max_depth = 1;
	ck_assert(!firn_flat_verify(span_of(bytes), &root_table, &l, &e2));
	ck_assert_error(e2, FIRN_ERROR, FIRN_ERROR_LIMIT);
	l.max_depth = 2;
	l.max_bytes = 100;
	ck_assert(!firn_flat_verify(span_of(bytes), &root_table, &l, &e3));
	ck_assert_error(e3, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

static void
assert_refused(FirnFlatBuilder *b, const char *what)
{
	g_autoptr(GBytes) bytes = firn_flat_builder_finish(b, NULL);
	g_autoptr(GError) error = NULL;

	ck_assert(!firn_flat_verify(span_of(bytes), &root_table, &limits, &error));
	ck_assert_msg(strstr(error->message, what) != NULL, "%s", error->message);
}

START_TEST(verify__missing_required_field__names_it)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	FirnFlatRow row = { 0 };

	firn_flat_row_id12(&row, 0, &firn_id_initial_snapshot);
	(void)firn_flat_build_root(b, &row);
	assert_refused(b, "Root.numbers");
}
END_TEST

START_TEST(verify__half_a_union__is_refused)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	FirnFlatRow row = { 0 };
	size_t root;

	firn_flat_row_u8(&row, 7, 1);
	firn_flat_row_id12(&row, 0, &firn_id_initial_snapshot);
	firn_flat_row_child(&row, 3);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 3, firn_flat_build_vector(b, NULL, 0, 4, 4));
	assert_refused(b, "half of a union");
}
END_TEST

START_TEST(verify__string_not_utf8__is_refused)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	FirnFlatRow row = { 0 };
	size_t root;

	firn_flat_row_id12(&row, 0, &firn_id_initial_snapshot);
	firn_flat_row_child(&row, 3);
	firn_flat_row_child(&row, 6);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 3, firn_flat_build_vector(b, NULL, 0, 4, 4));
	firn_flat_link(b, root, 6, build_leaf(b, "\xc3(", 1));
	assert_refused(b, "not UTF-8");
}
END_TEST

START_TEST(build__vector_of_u64__is_aligned)
{
	for (size_t pad = 0; pad < 9; pad++) {
		g_autoptr(FirnFlatBuilder) b = firn_flat_builder_new(0);
		static const uint64_t item = 5;

		(void)firn_flat_build_bytes(b, (FirnSpan){ (const uint8_t *)"12345678", pad });
		ck_assert_uint_eq((firn_flat_build_vector(b, &item, 1, 8, 8) + 4) % 8, 0);
	}
}
END_TEST

START_TEST(build__too_large__fails_at_finish)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	g_autoptr(GError) error = NULL;

	ck_assert_uint_eq(firn_flat_build_reserve(b, FIRN_FLAT_MAX_SIZE, 0, 1), 0);
	ck_assert(firn_flat_builder_failed(b));
	ck_assert_uint_eq(build_leaf(b, "later", 1), 0);
	ck_assert_ptr_null(firn_flat_builder_finish(b, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

static Suite *
flat_suite(void)
{
	Suite *s = suite_create("flat");
	TCase *tc = tcase_create("flat");

	tcase_add_test(tc, verify__built_buffer__is_accepted_and_reads_back);
	tcase_add_test(tc, verify__unknown_union_code__is_accepted_as_opaque_table);
	tcase_add_test(tc, verify__every_truncation__is_refused);
	tcase_add_test(tc, verify__every_byte_changed__is_refused_or_safe_to_walk);
	tcase_add_test(tc, verify__limits__hold_at_n_and_not_at_n_minus_one);
	tcase_add_test(tc, verify__missing_required_field__names_it);
	tcase_add_test(tc, verify__half_a_union__is_refused);
	tcase_add_test(tc, verify__string_not_utf8__is_refused);
	tcase_add_test(tc, build__vector_of_u64__is_aligned);
	tcase_add_test(tc, build__too_large__fails_at_finish);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(flat_suite)
