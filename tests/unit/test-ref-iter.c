#include "core/store/fault.h"
#include "tests/unit/repo_fixture.h"

/*
 * Arrays with made-up manifests, compared with the rule taken literally: of the
 * manifests of the node, the first whose extents contain a place decides.
 */
#define MAX_RANK      3u
#define MAX_SIDE      6u
#define MAX_MANIFESTS 24u
#define MAX_CELLS     (MAX_SIDE * MAX_SIDE * MAX_SIDE)

typedef struct {
	uint32_t rank;
	uint32_t sides[MAX_RANK];
	uint32_t n_manifests;
	FirnId12 ids[MAX_MANIFESTS];
	FirnExtent extents[MAX_MANIFESTS * MAX_RANK];
	bool present[MAX_MANIFESTS][MAX_CELLS]; /* by linear index in a grid of MAX_SIDE */
} Model;

static const FirnId8 node_id = { { 'n', 'o', 'd', 'e' } };

static uint32_t
linear(const Model *model, const uint32_t *coords)
{
	uint32_t index = 0;

	for (uint32_t i = 0; i < model->rank; i++)
		index = index * MAX_SIDE + coords[i];
	return index;
}

/* Next place of a box of MAX_SIDE, so also places outside of the grid. */
static bool
next_place(const Model *model, uint32_t *coords)
{
	for (uint32_t i = model->rank; i-- > 0;) {
		if (++coords[i] < MAX_SIDE)
			return true;
		coords[i] = 0;
	}
	return false;
}

static bool
is_inside(const Model *model, uint32_t m, const uint32_t *coords)
{
	for (uint32_t i = 0; i < model->rank; i++) {
		const FirnExtent *extent = &model->extents[m * model->rank + i];

		if (coords[i] < extent->from || coords[i] >= extent->to)
			return false;
	}
	return true;
}

/* Which manifest answers for a place, or -1. */
static int
owner(const Model *model, const uint32_t *coords)
{
	for (uint32_t i = 0; i < model->rank; i++)
		if (coords[i] >= model->sides[i])
			return -1;
	for (uint32_t m = 0; m < model->n_manifests; m++)
		if (is_inside(model, m, coords))
			return model->present[m][linear(model, coords)] ? (int)m : -1;
	return -1;
}

static void
write_manifest(FirnRepo *repo, Model *model, uint32_t m)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnManifestWriter *writer;
	uint32_t coords[MAX_RANK] = { 0 };
	uint32_t n_refs = 0;

	for (uint32_t i = 0; i < MAX_CELLS; i++)
		n_refs += model->present[m][i];
	if (n_refs == 0) {
		model->present[m][0] = true;
		n_refs = 1;
	}
	writer = firn_manifest_writer_new(&model->ids[m], &node_id, model->rank, n_refs);
	do {
		uint8_t text[5] = { (uint8_t)('A' + m) };
		FirnRef ref = { .kind = FIRN_REF_INLINE, .length = sizeof text };

		ref.bytes = (FirnSpan){ text, sizeof text };
		for (uint32_t i = 0; i < model->rank; i++)
			text[i + 1] = (uint8_t)coords[i];
		if (model->present[m][linear(model, coords)])
			ck_assert(firn_manifest_writer_add(writer, coords, &ref, &error));
	} while (next_place(model, coords));
	file = firn_manifest_writer_finish(writer, 1, &error);
	ck_assert_no_error(error);
	put_object(repo, "manifests", &model->ids[m], file);
}

static FirnSnapshot *
write_snapshot(FirnRepo *repo, const Model *model)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = NULL;
	uint64_t lengths[MAX_RANK];
	FirnSnapshotRow row = {
		.id = node_id,
		.kind = FIRN_NODE_ARRAY,
		.path = { (const uint8_t *)"/a", 2 },
		.meta = { (const uint8_t *)"{}", 2 },
		.rank = model->rank,
		.lengths = lengths,
		.n_chunks = model->sides,
		.n_manifests = model->n_manifests,
		.manifest_ids = model->ids,
		.manifest_extents = model->extents,
	};
	FirnSnapshotContent content = {
		.id = firn_id12_random(), .flushed_at = 1, .message = "", .rows = &row, .n_rows = 1
	};

	for (uint32_t i = 0; i < model->rank; i++)
		lengths[i] = model->sides[i];
	file = firn_snapshot_encode(&content, 1, &error);
	ck_assert_no_error(error);
	put_object(repo, "snapshots", &content.id, file);
	return firn_repo_get_snapshot(repo, &content.id, NULL);
}

static void
assert_ref(const Model *model, const uint32_t *coords, const FirnRef *ref)
{
	ck_assert_int_eq(ref->kind, FIRN_REF_INLINE);
	ck_assert_int_eq(ref->bytes.data[0], 'A' + owner(model, coords));
	for (uint32_t i = 0; i < model->rank; i++)
		ck_assert_uint_eq(ref->bytes.data[i + 1], coords[i]);
}

/* From here on: the next place, `from` on, with the prefix, that has a ref. */
static bool
model_next(const Model *model, uint32_t *coords, const uint32_t *prefix, uint32_t n_prefix)
{
	do {
		if (firn_coords_compare(coords, prefix, n_prefix) == 0 && owner(model, coords) >= 0)
			return true;
	} while (next_place(model, coords));
	return false;
}

/* Iterate, sometimes skipping, and compare each step. */
static void
check_iteration(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
		const Model *model, GRand *rand, const uint32_t *prefix, uint32_t n_prefix,
		bool skip)
{
	g_autoptr(FirnRefIter) iter = firn_ref_iter_new(repo, snapshot, node, prefix, n_prefix);
	g_autoptr(GError) error = NULL;
	uint32_t expected[MAX_RANK] = { 0 };
	bool more = true;

	while (more) {
		const uint32_t *coords;
		FirnManifest *manifest = NULL;
		FirnRef ref;
		int result;

		if (skip && model->rank > 0 && g_rand_int_range(rand, 0, 3) == 0) {
			uint32_t n = (uint32_t)g_rand_int_range(rand, 0, (gint32)model->rank + 1);
			uint32_t target[MAX_RANK];

			for (uint32_t i = 0; i < n; i++)
				target[i] = (uint32_t)g_rand_int_range(rand, 0, MAX_SIDE);
			firn_ref_iter_seek(iter, target, n);
			while (more && firn_coords_compare(expected, target, n) < 0)
				more = next_place(model, expected);
		}
		more = more && model_next(model, expected, prefix, n_prefix);
		result = firn_ref_iter_next(iter, &coords, &ref, &manifest, &error);
		ck_assert_no_error(error);
		ck_assert_int_eq(result, more ? 1 : 0);
		if (!more)
			break;
		ck_assert_ptr_nonnull(manifest);
		ck_assert_int_eq(firn_coords_compare(coords, expected, model->rank), 0);
		assert_ref(model, coords, &ref);
		more = next_place(model, expected);
		if (!more)
			ck_assert_int_eq(firn_ref_iter_next(iter, &coords, &ref, NULL, NULL), 0);
	}
}

static void
check_lookups(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node,
	      const Model *model)
{
	uint32_t coords[MAX_RANK] = { 0 };

	do {
		g_autoptr(FirnManifest) manifest = NULL;
		g_autoptr(GError) error = NULL;
		FirnRef ref;
		bool found =
			firn_repo_find_chunk(repo, snapshot, node, coords, &ref, &manifest, &error);

		ck_assert_no_error(error);
		ck_assert_int_eq(found, owner(model, coords) >= 0);
		if (found)
			assert_ref(model, coords, &ref);
	} while (next_place(model, coords));
}

/* Whether a manifest has a ref inside its extents, which those of a sound one are made of. */
static bool
is_sound(const Model *model, uint32_t m)
{
	uint32_t coords[MAX_RANK] = { 0 };
	bool sound = false;

	do
		sound = sound ||
			(is_inside(model, m, coords) && model->present[m][linear(model, coords)]);
	while (next_place(model, coords));
	return sound;
}

/* What extents alone tell is so. */
static void
check_implied(FirnSnapshot *snapshot, const FirnSnapshotNode *node, const Model *model,
	      const uint32_t *prefix, uint32_t n_prefix)
{
	uint32_t coords[MAX_RANK] = { 0 };
	bool sound = true;

	for (uint32_t m = 0; m < model->n_manifests; m++)
		sound = sound && is_sound(model, m);
	if (sound && firn_repo_implies_chunk(snapshot, node, prefix, n_prefix))
		ck_assert(model_next(model, coords, prefix, n_prefix));
}

static void
check_model(FirnRepo *repo, Model *model, GRand *rand)
{
	g_autoptr(FirnSnapshot) snapshot = NULL;
	FirnSnapshotNode node;
	uint32_t prefix[MAX_RANK];

	for (uint32_t m = 0; m < model->n_manifests; m++)
		write_manifest(repo, model, m);
	snapshot = write_snapshot(repo, model);
	firn_snapshot_node(snapshot, 0, &node);
	check_lookups(repo, snapshot, &node, model);
	for (int i = 0; i < 12; i++) {
		uint32_t n = (uint32_t)g_rand_int_range(rand, 0, (gint32)model->rank + 1);

		for (uint32_t axis = 0; axis < n; axis++)
			prefix[axis] = (uint32_t)g_rand_int_range(rand, 0, MAX_SIDE);
		check_iteration(repo, snapshot, &node, model, rand, prefix, i < 2 ? 0 : n, i % 2);
		check_implied(snapshot, &node, model, prefix, i < 2 ? 0 : n);
	}
}

static void
random_grid(Model *model, GRand *rand, uint32_t rank)
{
	memset(model, 0, sizeof *model);
	model->rank = rank;
	for (uint32_t i = 0; i < rank; i++)
		model->sides[i] = (uint32_t)g_rand_int_range(rand, 0, MAX_SIDE + 1);
}

static void
fill(Model *model, GRand *rand, uint32_t m)
{
	uint32_t coords[MAX_RANK] = { 0 };

	model->ids[m] = firn_id12_random();
	do
		model->present[m][linear(model, coords)] = g_rand_int_range(rand, 0, 3) > 0;
	while (next_place(model, coords));
}

START_TEST(iterate__random_extents__as_the_rule_says)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
	Model *model = g_new0(Model, 1);

	random_grid(model, rand, (uint32_t)_i % (MAX_RANK + 1));
	model->n_manifests =
		(uint32_t)g_rand_int_range(rand, 0, _i % 5 == 0 ? MAX_MANIFESTS + 1 : 5);
	for (uint32_t m = 0; m < model->n_manifests; m++) {
		fill(model, rand, m);
		for (uint32_t axis = 0; axis < model->rank; axis++) {
			FirnExtent *extent = &model->extents[m * model->rank + axis];

			extent->from = (uint32_t)g_rand_int_range(rand, 0, MAX_SIDE);
			extent->to =
				extent->from + (uint32_t)g_rand_int_range(rand, 0, MAX_SIDE + 3);
		}
	}
	check_model(repo, model, rand);
	g_free(model);
}
END_TEST

START_TEST(iterate__split_grid_in_any_order__as_the_rule_says)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
	Model *model = g_new0(Model, 1);
	uint32_t cuts[MAX_RANK] = { 0 };
	uint32_t n = 1;

	random_grid(model, rand, 1 + (uint32_t)_i % MAX_RANK);
	for (uint32_t axis = 0; axis < model->rank; axis++) {
		cuts[axis] = (uint32_t)g_rand_int_range(rand, 1, 4);
		if (n * cuts[axis] > MAX_MANIFESTS)
			cuts[axis] = 1;
		n *= cuts[axis];
	}
	model->n_manifests = n;
	for (uint32_t m = 0; m < n; m++) {
		/* A stride that is prime to every n here shuffles the list. */
		uint32_t cell = m * 11 % n;

		fill(model, rand, m);
		for (uint32_t axis = 0; axis < model->rank; axis++) {
			uint32_t width = (MAX_SIDE + cuts[axis] - 1) / cuts[axis];
			FirnExtent *extent = &model->extents[m * model->rank + axis];

			extent->from = cell % cuts[axis] * width;
			extent->to = extent->from + width;
			cell /= cuts[axis];
		}
	}
	check_model(repo, model, rand);
	g_free(model);
}
END_TEST

START_TEST(iterate__split_along_the_first_axis__loads_each_manifest_once)
{
	g_autoptr(FirnRepo) plain = new_repo();
	FirnStore *store = firn_fault_new(firn_store_open(scratch, false, NULL));
	g_autoptr(FirnRepo) repo = firn_repo_open_store(store, NULL);
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autoptr(FirnRefIter) all = NULL;
	g_autoptr(FirnRefIter) one = NULL;
	Model *model = g_new0(Model, 1);
	FirnSnapshotNode node;
	const uint32_t *coords;
	const uint32_t prefix = 3;
	FirnRef ref;
	uint64_t before;
	int n = 0;

	model->rank = 2;
	model->sides[0] = model->sides[1] = MAX_SIDE;
	model->n_manifests = MAX_SIDE;
	for (uint32_t m = 0; m < MAX_SIDE; m++) {
		model->ids[m] = firn_id12_random();
		model->extents[2 * m] = (FirnExtent){ m, m + 1 };
		model->extents[2 * m + 1] = (FirnExtent){ 0, UINT32_MAX };
		for (uint32_t i = 0; i < MAX_SIDE; i++)
			model->present[m][m * MAX_SIDE + i] = true;
		write_manifest(plain, model, m);
	}
	snapshot = write_snapshot(plain, model);
	firn_snapshot_node(snapshot, 0, &node);
	/* Room for one manifest only: a second load would go to the store again. */
	firn_repo_set_cache_size(repo, 1);
	before = firn_fault_calls(store);
	one = firn_ref_iter_new(repo, snapshot, &node, &prefix, 1);
	while (firn_ref_iter_next(one, &coords, &ref, NULL, NULL) == 1)
		n++;
	ck_assert_int_eq(n, MAX_SIDE);
	ck_assert_uint_eq(firn_fault_calls(store) - before, 1);
	all = firn_ref_iter_new(repo, snapshot, &node, NULL, 0);
	while (firn_ref_iter_next(all, &coords, &ref, NULL, NULL) == 1)
		n++;
	ck_assert_int_eq(n, MAX_SIDE + MAX_SIDE * MAX_SIDE);
	ck_assert_uint_eq(firn_fault_calls(store) - before, 1 + MAX_SIDE);
	g_free(model);
}
END_TEST

START_TEST(iterate__manifest_missing__fails_then_goes_on)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autoptr(FirnRefIter) iter = NULL;
	g_autoptr(FirnManifest) manifest = NULL;
	g_autoptr(GError) error = NULL;
	Model *model = g_new0(Model, 1);
	FirnSnapshotNode node;
	const uint32_t *coords;
	const uint32_t place = 0;
	FirnRef ref;

	model->rank = 1;
	model->sides[0] = 2;
	model->n_manifests = 1;
	model->ids[0] = firn_id12_random();
	model->extents[0] = (FirnExtent){ 0, 2 };
	model->present[0][0] = true;
	snapshot = write_snapshot(repo, model);
	firn_snapshot_node(snapshot, 0, &node);
	iter = firn_ref_iter_new(repo, snapshot, &node, NULL, 0);
	ck_assert_int_eq(firn_ref_iter_next(iter, &coords, &ref, NULL, &error), -1);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert(!firn_repo_find_chunk(repo, snapshot, &node, &place, &ref, &manifest, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	write_manifest(repo, model, 0);
	ck_assert_int_eq(firn_ref_iter_next(iter, &coords, &ref, NULL, NULL), 1);
	g_free(model);
}
END_TEST

/* Rows of a square, each in a manifest that is not even there. */
static FirnSnapshot *
write_rows(FirnRepo *repo, Model *model, uint32_t side)
{
	model->rank = 2;
	model->sides[0] = model->sides[1] = side;
	model->n_manifests = MAX_SIDE;
	for (uint32_t m = 0; m < MAX_SIDE; m++) {
		model->ids[m] = firn_id12_random();
		model->extents[2 * m] = (FirnExtent){ m, m + 1 };
		model->extents[2 * m + 1] = (FirnExtent){ 2, MAX_SIDE };
	}
	return write_snapshot(repo, model);
}

START_TEST(implies__what_extents_tell__and_no_more)
{
	g_autoptr(FirnRepo) repo = new_repo();
	Model *model = g_new0(Model, 1);
	g_autoptr(FirnSnapshot) snapshot = write_rows(repo, model, MAX_SIDE);
	g_autoptr(FirnSnapshot) cut = write_rows(repo, model, MAX_SIDE - 1);
	const uint32_t row[2] = { MAX_SIDE - 1, 3 }, outside = MAX_SIDE;
	FirnSnapshotNode node;

	firn_snapshot_node(snapshot, 0, &node);
	ck_assert(firn_repo_implies_chunk(snapshot, &node, NULL, 0));
	ck_assert(firn_repo_implies_chunk(snapshot, &node, row, 1));
	ck_assert(!firn_repo_implies_chunk(snapshot, &node, row, 2));
	ck_assert(!firn_repo_implies_chunk(snapshot, &node, &outside, 1));
	ck_assert(!firn_repo_implies_chunk(snapshot, &node, row, 3));
	/* What is there may all be outside of the grid. */
	firn_snapshot_node(cut, 0, &node);
	ck_assert(!firn_repo_implies_chunk(cut, &node, NULL, 0));
	ck_assert(!firn_repo_implies_chunk(cut, &node, row, 1));
	g_free(model);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *s = suite_create("ref-iter");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, repo_setup, repo_teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, iterate__random_extents__as_the_rule_says, 0, 40);
	tcase_add_loop_test(tc, iterate__split_grid_in_any_order__as_the_rule_says, 0, 40);
	tcase_add_test(tc, iterate__split_along_the_first_axis__loads_each_manifest_once);
	tcase_add_test(tc, iterate__manifest_missing__fails_then_goes_on);
	tcase_add_test(tc, implies__what_extents_tell__and_no_more);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(make_suite)
