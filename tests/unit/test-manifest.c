#include "core/flat/build.h"
#include "core/format/manifest_private.h"
#include "tests/unit/harness.h"
#include "tests/unit/walk.h"

static const FirnId8 node = { { 1, 2, 3, 4, 5, 6, 7, 8 } };
static const FirnId12 manifest_id = { { 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 } };

static FirnSpan
span(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

/* A manifest of one row of `n` refs of all kinds by turns. */
static void
make_ref(uint32_t i, FirnRef *ref)
{
	static const char *const bytes[] = { "a", "some inline bytes" };

	*ref = (FirnRef){ .kind = FIRN_REF_NATIVE, .length = 1 + i };
	memset(ref->id.bytes, (int)i, sizeof ref->id.bytes);
	if (i % 4 == 1)
		ref->offset = 4096;
	if (i % 4 == 2) {
		ref->kind = FIRN_REF_INLINE;
		ref->bytes = span(bytes[i / 4 % 2]);
		ref->length = ref->bytes.len;
	}
	if (i % 4 == 3) {
		ref->kind = FIRN_REF_VIRTUAL;
		ref->location = span("s3://bucket/a/key");
		ref->offset = i % 8 == 3 ? 77 : 0;
		ref->etag = i % 16 == 3 ? span("\"tag\"") : (FirnSpan){ NULL, 0 };
		ref->last_modified = i % 16 == 7 ? 1700000000 : 0;
	}
}

static GBytes *
write_mixed(uint32_t rank, uint32_t n)
{
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, rank, n);
	uint32_t coords[FIRN_MAX_RANK] = { 0 };
	g_autoptr(GError) error = NULL;
	GBytes *file;

	for (uint32_t i = 0; i < n; i++) {
		FirnRef ref;

		make_ref(i, &ref);
		if (rank > 0)
			coords[rank - 1] = i * 3;
		ck_assert(firn_manifest_writer_add(w, coords, &ref, &error));
		ck_assert_no_error(error);
	}
	file = firn_manifest_writer_finish(w, 3, &error);
	ck_assert_no_error(error);
	return file;
}

static void
assert_same_ref(const FirnRef *a, const FirnRef *b)
{
	ck_assert_int_eq(a->kind, b->kind);
	ck_assert_uint_eq(a->length, b->length);
	ck_assert_uint_eq(a->bytes.len, b->bytes.len);
	if (a->kind == FIRN_REF_INLINE) {
		ck_assert_mem_eq(a->bytes.data, b->bytes.data, a->bytes.len);
		return;
	}
	ck_assert_uint_eq(a->offset, b->offset);
	if (a->kind == FIRN_REF_NATIVE)
		ck_assert_mem_eq(a->id.bytes, b->id.bytes, 12);
	ck_assert_uint_eq(a->last_modified, b->last_modified);
	ck_assert_uint_eq(a->etag.len, b->etag.len);
	if (a->kind == FIRN_REF_VIRTUAL)
		ck_assert_mem_eq(a->location.data, b->location.data, a->location.len);
}

START_TEST(writer__refs_of_all_kinds__read_back)
{
	uint32_t n = 50;
	g_autoptr(GBytes) file = write_mixed((uint32_t)_i, n);
	g_autoptr(FirnManifest) m = firn_manifest_open(file, NULL);
	FirnRefs refs;

	ck_assert_ptr_nonnull(m);
	ck_assert(walk_manifest(file) != 0);
	ck_assert(firn_id12_equal(firn_manifest_id(m), &manifest_id));
	ck_assert_uint_eq(firn_manifest_n_arrays(m), 1);
	ck_assert(firn_manifest_find(m, &node, &refs));
	ck_assert_uint_eq(refs.count, n);
	ck_assert_uint_eq(refs.rank, (uint32_t)_i);
	for (uint32_t i = 0; i < n; i++) {
		FirnRef wanted, ref;

		make_ref(i, &wanted);
		firn_refs_get(&refs, i, &ref);
		assert_same_ref(&wanted, &ref);
		ck_assert_uint_eq(firn_refs_coords(&refs, i)[_i - 1], i * 3);
	}
}
END_TEST

START_TEST(writer__rank_zero__holds_one_ref)
{
	g_autoptr(GBytes) file = write_mixed(0, 1);
	g_autoptr(FirnManifest) m = firn_manifest_open(file, NULL);
	uint32_t none = 0;
	uint32_t at = 9;
	FirnRefs refs;

	ck_assert(firn_manifest_find(m, &node, &refs));
	ck_assert_uint_eq(refs.rank, 0);
	ck_assert(firn_refs_find(&refs, &none, &at));
	ck_assert_uint_eq(at, 0);
}
END_TEST

START_TEST(lower_bound__prefixes_and_gaps__are_found)
{
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, 2, 6);
	static const uint32_t coords[6][2] = {
		{ 0, 0 }, { 0, 5 }, { 2, 0 }, { 2, 1 }, { 10, 0 }, { 256, 1 },
	};
	g_autoptr(FirnManifest) m = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnRefs refs;
	uint32_t at;

	for (uint32_t i = 0; i < 6; i++) {
		FirnRef ref;

		make_ref(0, &ref);
		ck_assert(firn_manifest_writer_add(w, coords[i], &ref, NULL));
	}
	file = firn_manifest_writer_finish(w, 3, NULL);
	m = firn_manifest_open(file, NULL);
	ck_assert(firn_manifest_find(m, &node, &refs));
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 0 }, 1), 0);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 1 }, 1), 2);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 3 }, 1), 4);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 257 }, 1), 6);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, NULL, 0), 0);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 0, 4 }, 2), 1);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 0, 6 }, 2), 2);
	ck_assert(!firn_refs_find(&refs, (uint32_t[]){ 2, 2 }, &at));
	ck_assert(firn_refs_find(&refs, (uint32_t[]){ 256, 1 }, &at));
	ck_assert_uint_eq(at, 5);
}
END_TEST

START_TEST(find__unknown_node__is_absent)
{
	g_autoptr(GBytes) file = write_mixed(1, 3);
	g_autoptr(FirnManifest) m = firn_manifest_open(file, NULL);
	FirnId8 other = { { 0 } };
	FirnRefs refs;

	ck_assert(!firn_manifest_find(m, &other, &refs));
	ck_assert_uint_eq(refs.count, 0);
	ck_assert_uint_eq(firn_refs_lower_bound(&refs, (uint32_t[]){ 0 }, 1), 0);
}
END_TEST

static void
add_location(FirnManifestWriter *w, uint32_t i, const char *location)
{
	FirnRef ref = { .kind = FIRN_REF_VIRTUAL, .length = 10, .location = span(location) };
	uint32_t coords[] = { i };
	g_autoptr(GError) error = NULL;

	ck_assert(firn_manifest_writer_add(w, coords, &ref, &error));
	ck_assert_no_error(error);
}

static char *
location_at(const FirnRefs *refs, uint32_t i, bool *out_compressed)
{
	FirnRef ref;
	char *location;

	firn_refs_get(refs, i, &ref);
	*out_compressed = ref.location_compressed;
	location = firn_manifest_location(refs->manifest, &ref, NULL);
	ck_assert_ptr_nonnull(location);
	return location;
}

START_TEST(writer__thousand_virtual_refs__compresses_locations_but_not_long_ones)
{
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, 1, 1002);
	g_autofree char *limit = g_strnfill(1024, 'x');
	g_autofree char *beyond = g_strnfill(1025, 'y');
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnManifest) m = NULL;
	FirnRefs refs;
	bool compressed;

	for (uint32_t i = 0; i < 1000; i++) {
		g_autofree char *location = g_strdup_printf("s3://bucket/dir/file-%u.nc", i);

		add_location(w, i, location);
	}
	add_location(w, 1000, limit);
	add_location(w, 1001, beyond);
	file = firn_manifest_writer_finish(w, 3, NULL);
	m = firn_manifest_open(file, NULL);
	ck_assert(firn_manifest_find(m, &node, &refs));
	for (uint32_t i = 0; i < 1000; i++) {
		g_autofree char *wanted = g_strdup_printf("s3://bucket/dir/file-%u.nc", i);
		g_autofree char *location = location_at(&refs, i, &compressed);

		ck_assert_str_eq(location, wanted);
		ck_assert(compressed);
	}
	g_free(beyond);
	beyond = location_at(&refs, 1001, &compressed);
	ck_assert(!compressed && strlen(beyond) == 1025);
	g_free(limit);
	limit = location_at(&refs, 1000, &compressed);
	ck_assert(compressed && strlen(limit) == 1024);
	ck_assert(walk_manifest(file) != 0);
}
END_TEST

START_TEST(writer__locations_unfit_for_a_dictionary__are_left_plain)
{
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, 1, 2000);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnManifest) m = NULL;
	FirnRefs refs;
	bool compressed;

	for (uint32_t i = 0; i < 2000; i++)
		add_location(w, i, "s3://b");
	file = firn_manifest_writer_finish(w, 3, NULL);
	m = firn_manifest_open(file, NULL);
	ck_assert(firn_manifest_find(m, &node, &refs));
	for (uint32_t i = 0; i < 2000; i += 100) {
		g_autofree char *location = location_at(&refs, i, &compressed);

		ck_assert(!compressed);
		ck_assert_str_eq(location, "s3://b");
	}
}
END_TEST

/* A manifest whose `n` locations are those of files 0, 1, 2 ... */
static FirnManifest *
write_files(uint32_t n)
{
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, 1, n);
	g_autoptr(GBytes) file = NULL;

	for (uint32_t i = 0; i < n; i++) {
		g_autofree char *location = g_strdup_printf("s3://bucket/dir/file-%u.nc", i);

		add_location(w, i, location);
	}
	file = firn_manifest_writer_finish(w, 3, NULL);
	return firn_manifest_open(file, NULL);
}

START_TEST(writer_keep__locations_as_they_are_among_new_ones__all_read_back)
{
	g_autoptr(FirnManifest) old = write_files(1200);
	FirnManifestWriter *w = firn_manifest_writer_new(&manifest_id, &node, 1, 1201);
	g_autoptr(FirnManifest) m = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnRefs before, refs;
	bool compressed;

	ck_assert(firn_manifest_writer_keep(w, old));
	ck_assert(firn_manifest_find(old, &node, &before));
	for (uint32_t i = 0; i < 1200; i++) {
		FirnRef ref;

		firn_refs_get(&before, i, &ref);
		ck_assert(ref.location_compressed);
		if (i == 700)
			add_location(w, i, "s3://bucket/dir/file-new.nc");
		else
			ck_assert(firn_manifest_writer_add(w, &i, &ref, NULL));
	}
	add_location(w, 1200, "file:///elsewhere");
	file = firn_manifest_writer_finish(w, 3, NULL);
	g_clear_pointer(&old, firn_manifest_unref);
	m = firn_manifest_open(file, NULL);
	ck_assert(walk_manifest(file) != 0);
	ck_assert(firn_manifest_find(m, &node, &refs));
	for (uint32_t i = 0; i < 1201; i++) {
		g_autofree char *wanted = g_strdup_printf("s3://bucket/dir/file-%u.nc", i);
		g_autofree char *location = location_at(&refs, i, &compressed);

		ck_assert(compressed);
		ck_assert_str_eq(location, i == 700    ? "s3://bucket/dir/file-new.nc"
					   : i == 1200 ? "file:///elsewhere"
						       : wanted);
	}
}
END_TEST

START_TEST(writer_keep__no_dictionary_or_few_refs__is_declined)
{
	g_autoptr(FirnManifest) plain = write_files(500);
	g_autoptr(FirnManifest) compressed = write_files(1000);
	g_autoptr(FirnManifestWriter) many = firn_manifest_writer_new(&manifest_id, &node, 1, 1000);
	g_autoptr(FirnManifestWriter) few = firn_manifest_writer_new(&manifest_id, &node, 1, 999);

	ck_assert(!firn_manifest_writer_keep(many, plain));
	ck_assert(!firn_manifest_writer_keep(few, compressed));
	ck_assert(firn_manifest_writer_keep(many, compressed));
}
END_TEST

START_TEST(writer__same_refs__give_the_same_bytes)
{
	g_autoptr(GBytes) a = write_mixed(3, 3000);
	g_autoptr(GBytes) b = write_mixed(3, 3000);

	ck_assert(g_bytes_equal(a, b));
}
END_TEST

START_TEST(writer__impossible_refs__are_refused)
{
	g_autoptr(FirnManifestWriter) w = firn_manifest_writer_new(&manifest_id, &node, 1, 1);
	FirnRef empty = { .kind = FIRN_REF_NATIVE };
	FirnRef no_text = { .kind = FIRN_REF_VIRTUAL, .length = 1, .location = span("s3://\xff") };
	FirnRef nul = { .kind = FIRN_REF_VIRTUAL, .length = 1 };
	g_autoptr(GError) e1 = NULL;
	g_autoptr(GError) e2 = NULL;
	g_autoptr(GError) e3 = NULL;
	uint32_t coords[] = { 0 };

	nul.location = (FirnSpan){ (const uint8_t *)"s3://a\0b", 8 };
	ck_assert(!firn_manifest_writer_add(w, coords, &empty, &e1));
	ck_assert_error(e1, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert(!firn_manifest_writer_add(w, coords, &no_text, &e2));
	ck_assert_error(e2, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert(!firn_manifest_writer_add(w, coords, &nul, &e3));
	ck_assert_error(e3, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(writer__payload_over_the_limit__is_refused)
{
	g_autoptr(FirnManifestWriter) w =
		firn_manifest_writer_new(&manifest_id, &node, 1, 0x7fffffff);
	FirnRef ref = { .kind = FIRN_REF_NATIVE, .length = 1 };
	g_autoptr(GError) error = NULL;
	uint32_t coords[] = { 0 };

	ck_assert(!firn_manifest_writer_add(w, coords, &ref, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

/* ---- files no writer of ours would make ---- */

typedef struct {
	uint32_t index[4][2];
	uint32_t rank[4];
	bool native[4];
	bool is_inline[4];
	uint64_t offset;
} Odd;

static size_t
odd_ref(FirnFlatBuilder *b, const Odd *odd, unsigned i)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_child(&row, FIRN_MANIFEST_REF_INDEX);
	if (odd->native[i])
		firn_flat_row_id12(&row, FIRN_MANIFEST_REF_CHUNK_ID, &manifest_id);
	if (odd->is_inline[i])
		firn_flat_row_child(&row, FIRN_MANIFEST_REF_INLINE);
	firn_flat_row_u64(&row, FIRN_MANIFEST_REF_OFFSET, odd->offset);
	firn_flat_row_u64(&row, FIRN_MANIFEST_REF_LENGTH, 1);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, FIRN_MANIFEST_REF_INDEX,
		       firn_flat_build_vector(b, odd->index[i], odd->rank[i], 4, 4));
	if (odd->is_inline[i])
		firn_flat_link(b, table, FIRN_MANIFEST_REF_INLINE,
			       firn_flat_build_bytes(b, span("x")));
	return table;
}

/* Two arrays of two refs each. */
static GBytes *
odd_file(const Odd *odd, const FirnId8 nodes[2])
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root, arrays;

	firn_flat_row_id12(&row, FIRN_MANIFEST_ID, &manifest_id);
	firn_flat_row_child(&row, FIRN_MANIFEST_ARRAYS);
	root = firn_flat_build_root(b, &row);
	arrays = firn_flat_build_offsets(b, 2);
	firn_flat_link(b, root, FIRN_MANIFEST_ARRAYS, arrays);
	for (unsigned i = 0; i < 2; i++) {
		FirnFlatRow array = { 0 };
		size_t table, refs;

		firn_flat_row_id8(&array, FIRN_MANIFEST_ARRAY_NODE, &nodes[i]);
		firn_flat_row_child(&array, FIRN_MANIFEST_ARRAY_REFS);
		table = firn_flat_build_table(b, &array);
		firn_flat_link_item(b, arrays, i, table);
		refs = firn_flat_build_offsets(b, 2);
		firn_flat_link(b, table, FIRN_MANIFEST_ARRAY_REFS, refs);
		for (unsigned k = 0; k < 2; k++)
			firn_flat_link_item(b, refs, k, odd_ref(b, odd, 2 * i + k));
	}
	payload = firn_flat_builder_finish(b, NULL);
	return walk_wrap(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload), 2,
			 FIRN_KIND_MANIFEST);
}

static void
assert_opens(const Odd *odd, const FirnId8 nodes[2], const char *refused)
{
	g_autoptr(GBytes) file = odd_file(odd, nodes);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnManifest) m = firn_manifest_open(file, &error);

	ck_assert((m != NULL) == (refused == NULL));
	ck_assert((error != NULL) == (refused != NULL));
	if (refused != NULL) {
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
		ck_assert_msg(strstr(error->message, refused) != NULL, "%s", error->message);
	}
}

START_TEST(open__content_that_would_be_misread__is_refused)
{
	static const Odd good = {
		.index = { { 0, 1 }, { 1, 0 }, { 5, 5 }, { 5, 6 } },
		.rank = { 2, 2, 2, 2 },
		.native = { true, false, true, false },
		.is_inline = { false, true, false, true },
	};
	static const FirnId8 nodes[2] = { { { 1 } }, { { 2 } } };
	static const FirnId8 reversed[2] = { { { 2 } }, { { 1 } } };
	static const FirnId8 equal[2] = { { { 2 } }, { { 2 } } };
	Odd odd = good;

	assert_opens(&good, nodes, NULL);
	assert_opens(&good, reversed, "arrays are out of order");
	assert_opens(&good, equal, "arrays are out of order");
	odd.index[0][0] = 1;
	assert_opens(&odd, nodes, "references are out of order");
	odd = good;
	odd.index[1][0] = 0;
	odd.index[1][1] = 1;
	assert_opens(&odd, nodes, "references are out of order");
	odd = good;
	odd.rank[3] = 1;
	assert_opens(&odd, nodes, "differ in rank");
	odd = good;
	odd.native[1] = true;
	assert_opens(&odd, nodes, "exactly one kind");
	odd = good;
	odd.native[2] = false;
	assert_opens(&odd, nodes, "exactly one kind");
	odd = good;
	odd.offset = UINT64_MAX;
	assert_opens(&odd, nodes, "impossible range");
}
END_TEST

START_TEST(open__compressed_file_cut_or_changed__is_safe)
{
	g_autoptr(GBytes) file = write_mixed(2, 40);
	size_t size = g_bytes_get_size(file);
	g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(file, NULL), size);

	for (size_t n = 0; n < size; n++) {
		g_autoptr(GBytes) cut = g_bytes_new(copy, n);
		g_autoptr(GBytes) changed = NULL;

		ck_assert_uint_eq(walk_manifest(cut), 0);
		copy[n] ^= 0x10;
		changed = g_bytes_new(copy, size);
		(void)walk_manifest(changed);
		copy[n] ^= 0x10;
	}
}
END_TEST

static Suite *
manifest_suite(void)
{
	Suite *s = suite_create("manifest");
	TCase *tc = tcase_create("manifest");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, writer__refs_of_all_kinds__read_back, 1, 5);
	tcase_add_test(tc, writer__rank_zero__holds_one_ref);
	tcase_add_test(tc, lower_bound__prefixes_and_gaps__are_found);
	tcase_add_test(tc, find__unknown_node__is_absent);
	tcase_add_test(tc, writer__thousand_virtual_refs__compresses_locations_but_not_long_ones);
	tcase_add_test(tc, writer__locations_unfit_for_a_dictionary__are_left_plain);
	tcase_add_test(tc, writer_keep__locations_as_they_are_among_new_ones__all_read_back);
	tcase_add_test(tc, writer_keep__no_dictionary_or_few_refs__is_declined);
	tcase_add_test(tc, writer__same_refs__give_the_same_bytes);
	tcase_add_test(tc, writer__impossible_refs__are_refused);
	tcase_add_test(tc, writer__payload_over_the_limit__is_refused);
	tcase_add_test(tc, open__content_that_would_be_misread__is_refused);
	tcase_add_test(tc, open__compressed_file_cut_or_changed__is_safe);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(manifest_suite)
