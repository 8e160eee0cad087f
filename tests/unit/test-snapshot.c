#include "core/flat/build.h"
#include "tests/unit/harness.h"
#include "tests/unit/walk.h"

#define FLUSHED 1795381316562389u

static FirnSpan
span(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

static const FirnId12 snapshot_id = { { 1, 2, 3 } };
static const uint64_t lengths[] = { 100, 0, 7 };
static const uint32_t n_chunks[] = { 10, 0, 4 };
static const FirnId12 manifest_ids[] = { { { 5 } }, { { 9 } } };
static const FirnExtent extents[] = { { 0, 5 }, { 0, 0 }, { 0, 4 }, { 5, 10 }, { 0, 0 }, { 1, 3 } };
static const FirnManifestFile files[] = { { { { 5 } }, 201, 20 }, { { { 9 } }, 999, 21 } };
static char name_x[] = "x";
static char name_z[] = "zeit";
static char *const names[] = { name_x, NULL, name_z };

static const char *const paths[] = { "/", "/g", "/g-b", "/g/c", "/ga", "/z/y" };

static void
make_rows(FirnSnapshotRow rows[6])
{
	for (unsigned i = 0; i < 6; i++) {
		rows[i] = (FirnSnapshotRow){ .kind = FIRN_NODE_GROUP,
					     .path = span(paths[i]),
					     .meta = span("{\"node_type\": \"group\"}") };
		rows[i].id.bytes[0] = (uint8_t)(200 - i);
	}
	rows[3].kind = FIRN_NODE_ARRAY;
	rows[3].rank = 3;
	rows[3].lengths = lengths;
	rows[3].n_chunks = n_chunks;
	rows[3].has_dimension_names = true;
	rows[3].dimension_names = names;
	rows[3].n_manifests = 2;
	rows[3].manifest_ids = manifest_ids;
	rows[3].manifest_extents = extents;
	rows[5].kind = FIRN_NODE_ARRAY;
}

static GBytes *
encode_rows(const FirnSnapshotRow *rows, size_t n, JsonObject *metadata)
{
	const FirnSnapshotContent content = {
		.id = snapshot_id,
		.flushed_at = FLUSHED,
		.message = "a message, \xc3\xa4 too",
		.metadata = metadata,
		.rows = rows,
		.n_rows = n,
		.files = files,
		.n_files = 2,
	};
	g_autoptr(GError) error = NULL;
	GBytes *file = firn_snapshot_encode(&content, 3, &error);

	ck_assert_no_error(error);
	return file;
}

static FirnSnapshot *
open_sample(void)
{
	FirnSnapshotRow rows[6];
	g_autoptr(JsonNode) node =
		json_from_string("{\"who\": \"me\", \"n\": [1, 2.5, null]}", NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(GError) error = NULL;
	FirnSnapshot *s;

	make_rows(rows);
	file = encode_rows(rows, 6, json_node_get_object(node));
	ck_assert(walk_snapshot(file) != 0);
	s = firn_snapshot_open(file, &error);
	ck_assert_no_error(error);
	return s;
}

static bool
find_file(const FirnSnapshot *s, const FirnId12 *id, FirnManifestFile *out_file)
{
	size_t index;

	if (!firn_snapshot_find_manifest_file(s, id, &index))
		return false;
	firn_snapshot_manifest_file(s, index, out_file);
	return true;
}

START_TEST(encode__everything__reads_back)
{
	g_autoptr(FirnSnapshot) s = open_sample();
	g_autoptr(JsonObject) metadata = firn_snapshot_metadata(s, NULL);
	FirnManifestFile f;
	FirnId12 parent;

	ck_assert(firn_id12_equal(firn_snapshot_id(s), &snapshot_id));
	ck_assert_uint_eq(firn_snapshot_spec_version(s), 2);
	ck_assert_uint_eq(firn_snapshot_flushed_at(s), FLUSHED);
	ck_assert_str_eq(firn_snapshot_message(s), "a message, \xc3\xa4 too");
	ck_assert(!firn_snapshot_parent(s, &parent));
	ck_assert_str_eq(json_object_get_string_member(metadata, "who"), "me");
	ck_assert_uint_eq(json_array_get_length(json_object_get_array_member(metadata, "n")), 3);
	ck_assert_uint_eq(firn_snapshot_n_manifest_files(s), 2);
	ck_assert(find_file(s, &manifest_ids[1], &f));
	ck_assert_uint_eq(f.size_bytes, 999);
	ck_assert_uint_eq(f.n_refs, 21);
	ck_assert(!find_file(s, &snapshot_id, &f));
}
END_TEST

#define MANY 3000

/* Ids that are not random: close together, far apart, alike in their first bytes. */
static FirnId12
odd_id(uint32_t i)
{
	FirnId12 id = { { (uint8_t)(i < MANY / 2 ? 0 : 255), 0, 0 } };
	unsigned at = i % 3 == 0 ? 8 : 4;

	id.bytes[1] = (uint8_t)(i % 3);
	id.bytes[at] = (uint8_t)(i >> 8);
	id.bytes[at + 1] = (uint8_t)i;
	return id;
}

static int
compare_files(const void *a, const void *b)
{
	const FirnManifestFile *x = a, *y = b;

	return firn_id12_compare(&x->id, &y->id);
}

START_TEST(find_manifest_file__any_ids__are_found)
{
	g_autofree FirnManifestFile *many = g_new0(FirnManifestFile, MANY);
	FirnSnapshotContent content = { .id = snapshot_id, .message = "", .files = many };
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnSnapshot) s = NULL;
	FirnManifestFile found;
	FirnId12 absent = odd_id(MANY / 4);

	for (uint32_t i = 0; i < MANY; i++)
		many[i] = (FirnManifestFile){ odd_id(i), i + 1, i };
	qsort(many, MANY, sizeof *many, compare_files);
	content.n_files = MANY;
	file = firn_snapshot_encode(&content, 3, NULL);
	s = firn_snapshot_open(file, NULL);
	ck_assert_ptr_nonnull(s);
	for (uint32_t i = 0; i < MANY; i++) {
		size_t index;

		ck_assert(firn_snapshot_find_manifest_file(s, &many[i].id, &index));
		ck_assert_uint_eq(index, i);
		ck_assert(find_file(s, &many[i].id, &found));
		ck_assert_uint_eq(found.n_refs, many[i].n_refs);
	}
	absent.bytes[11] = 1;
	ck_assert(!find_file(s, &absent, &found));
}
END_TEST

START_TEST(encode__array__reads_back)
{
	g_autoptr(FirnSnapshot) s = open_sample();
	g_autofree char **got = NULL;
	FirnExtent e[3];
	FirnSnapshotNode node;
	FirnId12 id;

	firn_snapshot_node(s, 3, &node);
	ck_assert_int_eq(node.kind, FIRN_NODE_ARRAY);
	ck_assert_uint_eq(node.rank, 3);
	ck_assert_uint_eq(node.n_manifests, 2);
	for (uint32_t axis = 0; axis < 3; axis++) {
		uint64_t length;
		uint32_t n;

		firn_snapshot_node_shape(s, &node, axis, &length, &n);
		ck_assert_uint_eq(length, lengths[axis]);
		ck_assert_uint_eq(n, n_chunks[axis]);
	}
	firn_snapshot_node_manifest(s, &node, 1, &id, e);
	ck_assert(firn_id12_equal(&id, &manifest_ids[1]));
	ck_assert_mem_eq(e, extents + 3, sizeof e);
	got = firn_snapshot_node_dimension_names(s, &node);
	ck_assert_str_eq(got[0], "x");
	ck_assert_ptr_null(got[1]);
	ck_assert_str_eq(got[2], "zeit");
	firn_snapshot_node(s, 5, &node);
	ck_assert_uint_eq(node.rank, 0);
	ck_assert_ptr_null(firn_snapshot_node_dimension_names(s, &node));
}
END_TEST

START_TEST(encode__no_nodes__reads_back)
{
	g_autoptr(GBytes) file = encode_rows(NULL, 0, NULL);
	g_autoptr(FirnSnapshot) s = firn_snapshot_open(file, NULL);
	size_t at = 5;

	ck_assert_ptr_nonnull(s);
	ck_assert_uint_eq(firn_snapshot_n_nodes(s), 0);
	ck_assert(!firn_snapshot_find_path(s, "/", 1, &at));
	ck_assert_uint_eq(at, 0);
	ck_assert(!firn_snapshot_find_id(s, &(FirnId8){ { 0 } }, &at));
}
END_TEST

START_TEST(find_path__absent__gives_the_lower_bound)
{
	g_autoptr(FirnSnapshot) s = open_sample();
	size_t at;

	for (size_t i = 0; i < 6; i++) {
		ck_assert(firn_snapshot_find_path(s, paths[i], strlen(paths[i]), &at));
		ck_assert_uint_eq(at, i);
	}
	ck_assert(!firn_snapshot_find_path(s, "/g/", 3, &at));
	ck_assert_uint_eq(at, 3);
	ck_assert(!firn_snapshot_find_path(s, "", 0, &at));
	ck_assert_uint_eq(at, 0);
	ck_assert(!firn_snapshot_find_path(s, "/zz", 3, &at));
	ck_assert_uint_eq(at, 6);
}
END_TEST

static void *
find_all(void *snapshot)
{
	for (unsigned i = 0; i < 6; i++) {
		FirnId8 id = { { (uint8_t)(200 - i) } };
		size_t at = 99;

		if (!firn_snapshot_find_id(snapshot, &id, &at) || at != i)
			return snapshot;
	}
	return NULL;
}

START_TEST(find_id__from_many_threads__finds_all)
{
	g_autoptr(FirnSnapshot) s = open_sample();
	pthread_t threads[8];
	size_t at;

	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, find_all, s), 0);
	for (unsigned i = 0; i < 8; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
	}
	ck_assert(!firn_snapshot_find_id(s, &(FirnId8){ { 7 } }, &at));
}
END_TEST

/* ---- files no writer of ours would make ---- */

typedef struct {
	const char *paths[2];
	uint8_t kind;
	bool v1;              /* version 1 shape and list of manifests */
	uint64_t shape[2][2]; /* version 1: length, chunk length */
	uint32_t n_extents;
	bool files_unsorted;
} Odd;

static size_t
odd_array(FirnFlatBuilder *b, const Odd *odd)
{
	static const FirnExtent e[3] = { { 0, 9 }, { 1, 2 }, { 3, 4 } };
	FirnFlatRow data = { 0 };
	FirnFlatRow ref = { 0 };
	size_t table, refs, at;

	firn_flat_row_child(&data, 0);
	firn_flat_row_child(&data, 2);
	if (!odd->v1)
		firn_flat_row_child(&data, 3);
	table = firn_flat_build_table(b, &data);
	firn_flat_link(b, table, 0, firn_flat_build_vector(b, odd->shape, odd->v1 ? 2 : 0, 16, 8));
	refs = firn_flat_build_offsets(b, 1);
	firn_flat_link(b, table, 2, refs);
	firn_flat_row_id12(&ref, 0, &manifest_ids[0]);
	firn_flat_row_child(&ref, 1);
	at = firn_flat_build_table(b, &ref);
	firn_flat_link_item(b, refs, 0, at);
	firn_flat_link(b, at, 1, firn_flat_build_vector(b, e, odd->n_extents, 8, 4));
	if (!odd->v1)
		firn_flat_link(b, table, 3, firn_flat_build_offsets(b, 0));
	return table;
}

static size_t
odd_node(FirnFlatBuilder *b, const Odd *odd, unsigned i)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_id8(&row, 0, &(FirnId8){ { 1 } });
	firn_flat_row_child(&row, 1);
	firn_flat_row_child(&row, 2);
	firn_flat_row_u8(&row, 3, odd->kind);
	firn_flat_row_child(&row, 4);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, 1, firn_flat_build_string(b, span(odd->paths[i])));
	firn_flat_link(b, table, 2, firn_flat_build_bytes(b, span("{}")));
	firn_flat_link(b, table, 4, odd_array(b, odd));
	return table;
}

static GBytes *
odd_file(const Odd *odd)
{
	static const uint8_t v1_files[2][32] = {
		{ [0] = 9, [16] = 100, [24] = 3 },
		{ [0] = 5, [16] = 200, [17] = 1, [24] = 4 },
	};
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root, nodes;

	firn_flat_row_id12(&row, 0, &snapshot_id);
	firn_flat_row_id12(&row, 1, &firn_id_initial_snapshot);
	firn_flat_row_child(&row, 2);
	for (unsigned i = 4; i <= 6; i++)
		firn_flat_row_child(&row, i);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 4, firn_flat_build_bytes(b, span("no NUL here")));
	firn_flat_link(b, root, 5, firn_flat_build_offsets(b, 0));
	firn_flat_link(b, root, 6,
		       firn_flat_build_vector(b, odd->files_unsorted ? v1_files[0] : v1_files[1],
					      odd->files_unsorted ? 2 : 1, 32, 8));
	nodes = firn_flat_build_offsets(b, 2);
	firn_flat_link(b, root, 2, nodes);
	for (unsigned i = 0; i < 2; i++)
		firn_flat_link_item(b, nodes, i, odd_node(b, odd, i));
	payload = firn_flat_builder_finish(b, NULL);
	return walk_wrap(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload), 1,
			 FIRN_KIND_SNAPSHOT);
}

static void
assert_refused(const Odd *odd, const char *what)
{
	g_autoptr(GBytes) file = odd_file(odd);
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(firn_snapshot_open(file, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_msg(strstr(error->message, what) != NULL, "%s", error->message);
}

static const Odd v1_sample = {
	.paths = { "/a", "/b" },
	.kind = 1,
	.v1 = true,
	.shape = { { 10, 3 }, { 0, 0 } },
	.n_extents = 2,
};

START_TEST(open__version_1_file__is_understood)
{
	Odd odd = v1_sample;
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnSnapshot) s = NULL;
	FirnSnapshotNode node;
	FirnManifestFile f;
	FirnId12 id;
	uint64_t length;
	uint32_t n;

	odd.files_unsorted = true;
	file = odd_file(&odd);
	ck_assert(walk_snapshot(file) != 0);
	s = firn_snapshot_open(file, NULL);
	ck_assert(firn_snapshot_parent(s, &id));
	ck_assert(firn_id12_equal(&id, &firn_id_initial_snapshot));
	ck_assert_str_eq(firn_snapshot_message(s), "no NUL here");
	firn_snapshot_node(s, 0, &node);
	firn_snapshot_node_shape(s, &node, 0, &length, &n);
	ck_assert(length == 10 && n == 4);
	firn_snapshot_node_shape(s, &node, 1, &length, &n);
	ck_assert(length == 0 && n == 0);
	ck_assert(find_file(s, &manifest_ids[0], &f));
	ck_assert(f.size_bytes == 456 && f.n_refs == 4);
	ck_assert(find_file(s, &manifest_ids[1], &f));
	ck_assert(f.size_bytes == 100 && f.n_refs == 3);
}
END_TEST

START_TEST(open__empty_extents__hold_everything)
{
	Odd odd = v1_sample;
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnSnapshot) s = NULL;
	FirnSnapshotNode node;
	FirnExtent e[2];
	FirnId12 id;

	odd.n_extents = 0;
	file = odd_file(&odd);
	s = firn_snapshot_open(file, NULL);
	ck_assert_ptr_nonnull(s);
	firn_snapshot_node(s, 0, &node);
	firn_snapshot_node_manifest(s, &node, 0, &id, e);
	ck_assert(e[1].from == 0 && e[1].to == UINT32_MAX);
}
END_TEST

START_TEST(open__content_that_would_be_misread__is_refused)
{
	static const char *const bad_paths[] = { "",    "b",    "/b/",   "//b",    "/b//c",
						 "/..", "/b/.", "/../b", "/b/../c" };
	Odd odd = v1_sample;

	odd.n_extents = 3;
	assert_refused(&odd, "3 extents");
	odd = v1_sample;
	odd.kind = 3;
	assert_refused(&odd, "unknown kind 3");
	odd = v1_sample;
	odd.paths[0] = "/b";
	assert_refused(&odd, "out of order");
	odd.paths[0] = "/c";
	assert_refused(&odd, "out of order");
	odd = v1_sample;
	odd.shape[0][1] = 0;
	assert_refused(&odd, "impossible shape");
	odd.shape[0][0] = (uint64_t)1 << 33;
	odd.shape[0][1] = 1;
	assert_refused(&odd, "impossible shape");
	for (size_t i = 0; i < G_N_ELEMENTS(bad_paths); i++) {
		odd = v1_sample;
		odd.paths[1] = bad_paths[i];
		assert_refused(&odd, "impossible path");
	}
}
END_TEST

START_TEST(open__cut_or_changed__is_safe)
{
	FirnSnapshotRow rows[6];
	g_autoptr(GBytes) file = NULL;
	g_autoptr(GBytes) payload = NULL;
	g_autofree uint8_t *copy = NULL;
	size_t size;

	make_rows(rows);
	file = encode_rows(rows, 6, NULL);
	payload = firn_envelope_open(file, 10000, NULL, NULL);
	size = g_bytes_get_size(payload);
	copy = g_memdup2(g_bytes_get_data(payload, NULL), size);
	for (size_t i = 0; i < size * 8; i++) {
		g_autoptr(GBytes) changed = NULL;

		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		changed = walk_wrap(copy, size, 2, FIRN_KIND_SNAPSHOT);
		(void)walk_snapshot(changed);
		copy[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t n = 0; n < g_bytes_get_size(file); n++) {
		g_autoptr(GBytes) cut = g_bytes_new_from_bytes(file, 0, n);

		ck_assert_uint_eq(walk_snapshot(cut), 0);
	}
}
END_TEST

static Suite *
snapshot_suite(void)
{
	Suite *s = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, encode__everything__reads_back);
	tcase_add_test(tc, find_manifest_file__any_ids__are_found);
	tcase_add_test(tc, encode__array__reads_back);
	tcase_add_test(tc, encode__no_nodes__reads_back);
	tcase_add_test(tc, find_path__absent__gives_the_lower_bound);
	tcase_add_test(tc, find_id__from_many_threads__finds_all);
	tcase_add_test(tc, open__version_1_file__is_understood);
	tcase_add_test(tc, open__empty_extents__hold_everything);
	tcase_add_test(tc, open__content_that_would_be_misread__is_refused);
	tcase_add_test(tc, open__cut_or_changed__is_safe);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(snapshot_suite)
