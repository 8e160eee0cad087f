#include "core/flat/build.h"
#include "core/format/manifest_private.h"
#include "tests/unit/harness.h"
#include "tests/unit/walk.h"

/* Manifests that take over the rows of another one. */

#define N 1500u

static const FirnId8 node = { { 1, 2, 3, 4, 5, 6, 7, 8 } };
static const FirnId12 manifest_id = { { 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 } };

/* What a ref is made of: 0: there is none. */
typedef struct {
	uint32_t versions[2 * N]; /* by coordinate */
	bool files;               /* refs are virtual, mostly */
} Table;

static void
make_ref(const Table *table, uint32_t i, char text[64], FirnRef *ref)
{
	uint32_t version = table->versions[i];
	unsigned kind = table->files && i % 40 != 0 ? 2 : (i + version) % 3;

	*ref = (FirnRef){ .length = 1 + i };
	if (kind == 0) {
		ref->kind = FIRN_REF_NATIVE;
		memset(ref->id.bytes, (int)version, sizeof ref->id.bytes);
		ref->offset = i % 2 ? 4096 : 0;
	} else if (kind == 1) {
		g_snprintf(text, 64, "inline %u of version %u", i, version);
		ref->kind = FIRN_REF_INLINE;
		ref->bytes = (FirnSpan){ (const uint8_t *)text, strlen(text) };
		ref->length = ref->bytes.len;
	} else {
		g_snprintf(text, 64, "s3://bucket/v%u/file-%u.nc", version, i / 10);
		ref->kind = FIRN_REF_VIRTUAL;
		ref->location = (FirnSpan){ (const uint8_t *)text, strlen(text) };
		ref->offset = i;
		ref->last_modified = i % 7 == 0 ? 1700000000 : 0;
	}
}

static uint32_t
count_refs(const Table *table)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < 2 * N; i++)
		n += table->versions[i] != 0;
	return n;
}

static void
add(FirnManifestWriter *writer, const Table *table, uint32_t i)
{
	g_autoptr(GError) error = NULL;
	char text[64];
	FirnRef ref;

	make_ref(table, i, text, &ref);
	ck_assert(firn_manifest_writer_add(writer, &i, &ref, &error));
	ck_assert_no_error(error);
}

static FirnManifest *
finish(FirnManifestWriter *writer)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = firn_manifest_writer_finish(writer, 3, &error);
	FirnManifest *m;

	ck_assert_no_error(error);
	ck_assert(walk_manifest(file) != 0);
	m = firn_manifest_open(file, &error);
	ck_assert_no_error(error);
	return m;
}

static FirnManifest *
write_table(const Table *table)
{
	FirnManifestWriter *writer =
		firn_manifest_writer_new(&manifest_id, &node, 1, count_refs(table));

	for (uint32_t i = 0; i < 2 * N; i++)
		if (table->versions[i] != 0)
			add(writer, table, i);
	return finish(writer);
}

static void
assert_table(const FirnManifest *m, const Table *table)
{
	FirnRefs refs;
	uint32_t at = 0;

	ck_assert(firn_manifest_find(m, &node, &refs));
	ck_assert_uint_eq(refs.count, count_refs(table));
	for (uint32_t i = 0; i < 2 * N; i++) {
		FirnRef wanted, got;
		char text[64];

		if (table->versions[i] == 0)
			continue;
		make_ref(table, i, text, &wanted);
		ck_assert_uint_eq(firn_refs_coords(&refs, at)[0], i);
		firn_refs_get(&refs, at++, &got);
		ck_assert_int_eq(got.kind, wanted.kind);
		ck_assert_uint_eq(got.length, wanted.length);
		if (got.kind == FIRN_REF_INLINE)
			ck_assert_mem_eq(got.bytes.data, text, wanted.length);
		else
			ck_assert_uint_eq(got.offset, wanted.offset);
		if (got.kind == FIRN_REF_NATIVE)
			ck_assert(firn_id12_equal(&got.id, &wanted.id));
		if (got.kind == FIRN_REF_VIRTUAL) {
			g_autofree char *location = firn_manifest_location(m, &got, NULL);

			ck_assert_str_eq(location, text);
			ck_assert_uint_eq(got.last_modified, wanted.last_modified);
		}
	}
}

/* The manifest of `now`, of the rows of `old`, which is that of `before`. */
static FirnManifest *
splice(const FirnManifestBlock *block, const Table *before, const Table *now)
{
	FirnManifestWriter *writer =
		firn_manifest_writer_new(&manifest_id, &node, 1, count_refs(now));
	uint32_t next = 0;
	uint32_t from = 0;

	firn_manifest_writer_splice(writer, block);
	for (uint32_t i = 0; i < 2 * N; i++) {
		bool was = before->versions[i] != 0;

		if (before->versions[i] != now->versions[i]) {
			firn_manifest_writer_take(writer, from, next - from);
			if (now->versions[i] != 0)
				add(writer, now, i);
			from = next + was;
		}
		next += was;
	}
	firn_manifest_writer_take(writer, from, next - from);
	return finish(writer);
}

START_TEST(splice__changes_one_after_the_other__are_all_read_back)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
	g_autoptr(FirnManifest) m = NULL;
	Table table = { .files = _i % 2 == 0 };
	unsigned n_anew = 0;

	for (uint32_t i = 1; i < 2 * N; i += 2)
		table.versions[i] = 1;
	m = write_table(&table);
	for (uint32_t version = 2; version < 80; version++) {
		Table before = table;
		FirnManifestBlock block;
		FirnManifest *next;
		FirnRefs refs;

		for (int n = g_rand_int_range(rand, 0, 12); n > 0; n--)
			table.versions[g_rand_int_range(rand, 0, 2 * N)] =
				g_rand_int_range(rand, 0, 4) == 0 ? 0 : version;
		ck_assert(firn_manifest_find(m, &node, &refs));
		if (firn_manifest_block(&refs, &block)) {
			ck_assert_uint_ge(block.least[0], firn_refs_coords(&refs, 0)[0]);
			ck_assert_uint_eq(block.most[0],
					  firn_refs_coords(&refs, refs.count - 1)[0]);
			next = splice(&block, &before, &table);
		} else {
			next = write_table(&table);
			n_anew++;
		}
		firn_manifest_unref(m);
		m = next;
		assert_table(m, &table);
	}
	/* What is not used any more piles up, but not for ever. */
	ck_assert_uint_ge(n_anew, 1);
	ck_assert_uint_le(n_anew, 8);
}
END_TEST

START_TEST(splice__few_virtual_refs_and_many__are_written_as_they_would_be_anew)
{
	Table table = { .files = true };
	g_autoptr(FirnManifest) few = NULL;
	g_autoptr(FirnManifest) many = NULL;
	FirnManifestBlock block;
	FirnRefs refs;

	for (uint32_t i = 0; i < 400; i++)
		table.versions[i] = 1;
	few = write_table(&table);
	ck_assert(firn_manifest_find(few, &node, &refs));
	ck_assert(firn_manifest_block(&refs, &block));
	ck_assert_ptr_null(few->locator);
	for (uint32_t i = 400; i < N; i++)
		table.versions[i] = 1;
	/* So many locations are worth a dictionary: the plain ones are not taken over. */
	many = write_table(&table);
	ck_assert_ptr_nonnull(many->locator);
	ck_assert(firn_manifest_find(many, &node, &refs));
	ck_assert(firn_manifest_block(&refs, &block));
}
END_TEST

START_TEST(block__too_many_plain_locations__is_declined)
{
	FirnManifestWriter *writer = firn_manifest_writer_new(&manifest_id, &node, 1, 2000);
	g_autoptr(FirnManifest) m = NULL;
	FirnManifestBlock block;
	FirnRefs refs;

	/* Too short for a dictionary. */
	for (uint32_t i = 0; i < 2000; i++) {
		FirnRef ref = { .kind = FIRN_REF_VIRTUAL,
				.length = 1,
				.location = { (const uint8_t *)"s3://b", 6 } };

		ck_assert(firn_manifest_writer_add(writer, &i, &ref, NULL));
	}
	m = finish(writer);
	ck_assert(firn_manifest_find(m, &node, &refs));
	ck_assert(!firn_manifest_block(&refs, &block));
}
END_TEST

/* How a file may be laid out otherwise. */
typedef enum {
	AS_OURS,
	VTABLE_IN_FRONT, /* of the vector of offsets */
	GAP,             /* among the rows */
	TWO_ARRAYS,
	N_LAYOUTS,
} OddLayout;

static size_t
odd_row(FirnFlatBuilder *b, uint32_t i)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_child(&row, FIRN_MANIFEST_REF_INDEX);
	firn_flat_row_id12(&row, FIRN_MANIFEST_REF_CHUNK_ID, &manifest_id);
	firn_flat_row_u64(&row, FIRN_MANIFEST_REF_LENGTH, 1);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, FIRN_MANIFEST_REF_INDEX, firn_flat_build_vector(b, &i, 1, 4, 4));
	return table;
}

static size_t
odd_array(FirnFlatBuilder *b, OddLayout layout, uint8_t number)
{
	FirnId8 id = { { number } };
	FirnFlatRow array = { 0 };
	size_t table, refs;

	firn_flat_row_id8(&array, FIRN_MANIFEST_ARRAY_NODE, &id);
	firn_flat_row_child(&array, FIRN_MANIFEST_ARRAY_REFS);
	table = firn_flat_build_table(b, &array);
	/* A row that nobody refers to leaves its vtable there. */
	if (layout == VTABLE_IN_FRONT)
		(void)odd_row(b, 0);
	refs = firn_flat_build_offsets(b, 50);
	firn_flat_link(b, table, FIRN_MANIFEST_ARRAY_REFS, refs);
	for (uint32_t i = 0; i < 50; i++) {
		if (layout == GAP && i == 25)
			(void)firn_flat_build_reserve(b, 1000, 0, 8);
		firn_flat_link_item(b, refs, i, odd_row(b, i));
	}
	return table;
}

static GBytes *
odd_file(OddLayout layout)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	unsigned n = layout == TWO_ARRAYS ? 2 : 1;
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root, arrays;

	firn_flat_row_id12(&row, FIRN_MANIFEST_ID, &manifest_id);
	firn_flat_row_child(&row, FIRN_MANIFEST_ARRAYS);
	root = firn_flat_build_root(b, &row);
	arrays = firn_flat_build_offsets(b, n);
	firn_flat_link(b, root, FIRN_MANIFEST_ARRAYS, arrays);
	for (unsigned i = 0; i < n; i++)
		firn_flat_link_item(b, arrays, i, odd_array(b, layout, (uint8_t)(i + 1)));
	payload = firn_flat_builder_finish(b, NULL);
	return walk_wrap(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload), 2,
			 FIRN_KIND_MANIFEST);
}

START_TEST(block__other_layouts__are_declined)
{
	g_autoptr(GBytes) file = odd_file((OddLayout)_i);
	g_autoptr(FirnManifest) m = firn_manifest_open(file, NULL);
	FirnManifestBlock block;
	FirnRefs refs;

	ck_assert_ptr_nonnull(m);
	ck_assert(walk_manifest(file) != 0);
	firn_manifest_array(m, 0, NULL, &refs);
	ck_assert(firn_manifest_block(&refs, &block) == (_i == AS_OURS));
}
END_TEST

static Suite *
block_suite(void)
{
	Suite *s = suite_create("manifest_block");
	TCase *tc = tcase_create("manifest_block");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, splice__changes_one_after_the_other__are_all_read_back, 0, 4);
	tcase_add_test(tc, splice__few_virtual_refs_and_many__are_written_as_they_would_be_anew);
	tcase_add_test(tc, block__too_many_plain_locations__is_declined);
	tcase_add_loop_test(tc, block__other_layouts__are_declined, 0, N_LAYOUTS);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(block_suite)
