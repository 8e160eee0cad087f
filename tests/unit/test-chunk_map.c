#include "core/repo/chunk_map.h"
#include "tests/unit/harness.h"

#include <string.h>

#define SIDE 20u /* coordinates of the model are below this, so that operations meet */

/* A naive ordered map to compare with: a flag and a value for every place. */
typedef struct {
	uint32_t rank;
	size_t n_places;
	size_t size;
	uint64_t *values; /* 0: absent */
} Model;

static size_t
place(uint32_t rank, const uint32_t *coords)
{
	size_t at = 0;

	for (uint32_t i = 0; i < rank; i++)
		at = at * SIDE + coords[i];
	return at;
}

static void
unplace(uint32_t rank, size_t at, uint32_t *coords)
{
	for (uint32_t i = rank; i-- > 0;) {
		coords[i] = (uint32_t)(at % SIDE);
		at /= SIDE;
	}
}

static void
model_init(Model *model, uint32_t rank)
{
	*model = (Model){ .rank = rank, .n_places = 1 };
	for (uint32_t i = 0; i < rank; i++)
		model->n_places *= SIDE;
	model->values = g_new0(uint64_t, model->n_places);
}

static void
check_from(FirnChunkMap *map, const Model *model, size_t from, uint32_t n_prefix)
{
	uint32_t coords[3];
	const uint32_t *at;
	FirnChunkChange *change;
	FirnChunkIter iter;
	size_t step = 1;

	for (uint32_t i = n_prefix; i < model->rank; i++)
		step *= SIDE;
	from -= from % step;
	unplace(model->rank, from, coords);
	firn_chunk_iter_seek(&iter, map, coords, n_prefix);
	for (size_t i = from; i < model->n_places; i++) {
		if (model->values[i] == 0)
			continue;
		ck_assert(firn_chunk_iter_next(&iter, &at, &change));
		ck_assert_uint_eq(place(model->rank, at), i);
		ck_assert_uint_eq(change->seq, model->values[i]);
	}
	ck_assert(!firn_chunk_iter_next(&iter, &at, &change));
	ck_assert(!firn_chunk_iter_next(&iter, &at, &change));
}

static void
put(FirnChunkMap *map, Model *model, const uint32_t *coords, uint64_t value)
{
	size_t at = place(model->rank, coords);
	bool made;
	FirnChunkChange *change = firn_chunk_map_insert(map, coords, &made);

	ck_assert_int_eq(made, model->values[at] == 0);
	ck_assert_uint_eq(change->seq, model->values[at]);
	model->size += made;
	model->values[at] = value;
	firn_chunk_change_number(change, value);
}

static void
drop(FirnChunkMap *map, Model *model, const uint32_t *coords)
{
	size_t at = place(model->rank, coords);

	ck_assert_int_eq(firn_chunk_map_remove(map, coords), model->values[at] != 0);
	model->size -= model->values[at] != 0;
	model->values[at] = 0;
}

static void
look(FirnChunkMap *map, const Model *model, const uint32_t *coords)
{
	FirnChunkChange *change = firn_chunk_map_find(map, coords);
	uint64_t wanted = model->values[place(model->rank, coords)];

	ck_assert_int_eq(change != NULL, wanted != 0);
	ck_assert(change == NULL || change->seq == wanted);
}

/* Phases that mostly grow, mostly shrink, and write runs in and against the order. */
static void
step(FirnChunkMap *map, Model *model, GRand *rand, unsigned phase, uint64_t i)
{
	size_t at = (size_t)(g_rand_double(rand) * (double)model->n_places);
	uint32_t coords[3];
	unsigned dice = (unsigned)g_rand_int_range(rand, 0, 10);

	if (phase == 2)
		at = i % model->n_places;
	else if (phase == 3)
		at = model->n_places - 1 - i % model->n_places;
	unplace(model->rank, at, coords);
	if (dice < (phase == 1 ? 2u : 8u))
		put(map, model, coords, i + 1);
	else
		drop(map, model, coords);
	unplace(model->rank, (size_t)(g_rand_double(rand) * (double)model->n_places), coords);
	look(map, model, coords);
}

START_TEST(chunk_map__random_operations__behaves_as_the_model)
{
	FirnChunkMap *map = firn_chunk_map_new((uint32_t)_i);
	GRand *rand = g_rand_new_with_seed(7);
	Model model;

	model_init(&model, (uint32_t)_i);
	for (unsigned round = 0; round < 8; round++) {
		for (uint64_t i = 0; i < MIN(30000, model.n_places * 2); i++)
			step(map, &model, rand, round % 4, i);
		ck_assert_uint_eq(firn_chunk_map_size(map), model.size);
		check_from(map, &model, 0, 0);
		for (uint32_t n = 1; n <= model.rank; n++)
			for (unsigned k = 0; k < 5; k++)
				check_from(map, &model,
					   (size_t)(g_rand_double(rand) * (double)model.n_places),
					   n);
	}
	for (size_t i = 0; i < model.n_places; i++) {
		uint32_t coords[3];

		unplace(model.rank, i, coords);
		drop(map, &model, coords);
	}
	ck_assert_uint_eq(firn_chunk_map_size(map), 0);
	check_from(map, &model, 0, 0);
	firn_chunk_map_free(map);
	g_rand_free(rand);
	g_free(model.values);
}
END_TEST

START_TEST(chunk_map__rank_zero__holds_one_entry)
{
	FirnChunkMap *map = firn_chunk_map_new(0);
	const uint32_t none[1] = { 0 };
	bool made;
	FirnChunkIter iter;

	ck_assert_ptr_null(firn_chunk_map_find(map, none));
	ck_assert(!firn_chunk_map_remove(map, none));
	(void)firn_chunk_map_insert(map, none, &made);
	ck_assert(made);
	(void)firn_chunk_map_insert(map, none, &made);
	ck_assert(!made);
	ck_assert_uint_eq(firn_chunk_map_size(map), 1);
	firn_chunk_iter_seek(&iter, map, NULL, 0);
	ck_assert(firn_chunk_iter_next(&iter, NULL, NULL));
	ck_assert(!firn_chunk_iter_next(&iter, NULL, NULL));
	ck_assert(firn_chunk_map_remove(map, none));
	ck_assert_uint_eq(firn_chunk_map_size(map), 0);
	firn_chunk_map_free(map);
}
END_TEST

START_TEST(chunk_map__largest_rank_and_coordinates__ordered)
{
	FirnChunkMap *map = firn_chunk_map_new(FIRN_MAX_RANK);
	uint32_t coords[FIRN_MAX_RANK];
	const uint32_t *at;
	FirnChunkIter iter;

	memset(coords, 0xff, sizeof coords);
	for (uint32_t i = 0; i < 1000; i++) {
		coords[FIRN_MAX_RANK - 1] = UINT32_MAX - i * 7 % 1000;
		(void)firn_chunk_map_insert(map, coords, NULL);
	}
	ck_assert_uint_eq(firn_chunk_map_size(map), 1000);
	firn_chunk_iter_seek(&iter, map, coords, FIRN_MAX_RANK - 1);
	for (uint32_t i = 0; i < 1000; i++) {
		ck_assert(firn_chunk_iter_next(&iter, &at, NULL));
		ck_assert_uint_eq(at[FIRN_MAX_RANK - 1], UINT32_MAX - 999 + i);
	}
	firn_chunk_map_free(map);
}
END_TEST

START_TEST(chunk_change__each_kind__comes_back)
{
	FirnChunkMap *map = firn_chunk_map_new(1);
	const uint32_t coords[1] = { 3 };
	FirnChunkChange *change = firn_chunk_map_insert(map, coords, NULL);
	const FirnSpan text = { (const uint8_t *)"s3://b/k", 8 };
	FirnRef ref = { .kind = FIRN_REF_VIRTUAL,
			.offset = 5,
			.length = 9,
			.location = text,
			.etag = text,
			.last_modified = 77 };
	FirnRef got;

	firn_chunk_change_number(change, 4);
	firn_chunk_map_set(map, change, &ref);
	firn_chunk_change_get(change, &got);
	ck_assert_int_eq(got.kind, FIRN_REF_VIRTUAL);
	ck_assert_uint_eq(got.offset, 5);
	ck_assert_uint_eq(got.length, 9);
	ck_assert_uint_eq(got.last_modified, 77);
	ck_assert_mem_eq(got.location.data, text.data, 8);
	ck_assert_uint_eq(got.etag.len, 8);
	/* From itself. */
	firn_chunk_map_set(map, change, &got);
	firn_chunk_change_get(change, &got);
	ck_assert_uint_eq(got.location.len, 8);

	ref = (FirnRef){ .kind = FIRN_REF_INLINE, .length = 8, .bytes = text };
	firn_chunk_map_set(map, change, &ref);
	firn_chunk_change_get(change, &got);
	ck_assert_mem_eq(got.bytes.data, text.data, 8);
	ck_assert_uint_eq(got.length, 8);

	ref = (FirnRef){
		.kind = FIRN_REF_NATIVE, .length = 1, .offset = 2, .id = firn_id_initial_snapshot
	};
	firn_chunk_map_set(map, change, &ref);
	firn_chunk_change_get(change, &got);
	ck_assert(firn_id12_equal(&got.id, &ref.id));
	ck_assert_uint_eq(got.offset, 2);

	ref = (FirnRef){ .kind = FIRN_REF_NONE, .length = 12 };
	firn_chunk_map_set(map, change, &ref);
	firn_chunk_change_get(change, &got);
	ck_assert_int_eq(got.kind, FIRN_REF_NONE);
	ck_assert_uint_eq(got.length, 0);
	ck_assert_uint_eq(change->seq, 4);
	firn_chunk_map_free(map);
}
END_TEST

static void
check_sizes(FirnChunkMap *map, FirnRefKind kind, uint64_t offset, uint64_t length)
{
	const FirnSpan text = { (const uint8_t *)"s3://b/k", 8 };
	FirnChunkChange *change = firn_chunk_map_find(map, &(uint32_t){ 3 });
	FirnRef ref = { .kind = kind, .offset = offset, .length = length };
	FirnChunkChange copy;
	FirnRef got;

	if (kind == FIRN_REF_VIRTUAL)
		ref.location = text;
	else
		ref.id = firn_id_initial_snapshot;
	firn_chunk_map_set(map, change, &ref);
	copy = *change;
	firn_chunk_change_get(&copy, &got);
	ck_assert_int_eq(got.kind, kind);
	ck_assert_uint_eq(got.offset, offset);
	ck_assert_uint_eq(got.length, length);
	ck_assert_uint_eq(firn_chunk_change_offset(change), offset);
	ck_assert_uint_eq(firn_chunk_change_length(change), length);
	if (kind == FIRN_REF_VIRTUAL) {
		ck_assert_uint_eq(got.location.len, 8);
		ck_assert_mem_eq(got.location.data, text.data, 8);
	} else {
		ck_assert(firn_id12_equal(&got.id, &ref.id));
		ck_assert(firn_id12_equal(firn_chunk_change_id(change), &ref.id));
	}
	ck_assert_uint_eq(change->seq, FIRN_CHUNK_SEQ_MAX);
	ck_assert_uint_eq(change->ino, 5);
	ck_assert_int_eq(change->mtime_ns, -6);
}

/* Around each power of two an entry may count with. */
START_TEST(chunk_change__sizes_of_any_magnitude__come_back)
{
	FirnChunkMap *map = firn_chunk_map_new(1);
	FirnChunkChange *change = firn_chunk_map_insert(map, &(uint32_t){ 3 }, NULL);
	GArray *sizes = g_array_new(FALSE, FALSE, sizeof(uint64_t));

	change->ino = 5;
	change->mtime_ns = -6;
	firn_chunk_change_number(change, FIRN_CHUNK_SEQ_MAX);
	for (unsigned bits = 0; bits < 63; bits++) {
		uint64_t around[] = { (UINT64_C(1) << bits) - 1, UINT64_C(1) << bits };

		g_array_append_vals(sizes, around, 2);
	}
	for (guint i = 0; i < sizes->len; i++)
		for (guint k = 0; k < sizes->len; k++)
			for (int kind = FIRN_REF_NATIVE; kind <= FIRN_REF_VIRTUAL; kind++)
				check_sizes(map, (FirnRefKind)kind,
					    g_array_index(sizes, uint64_t, i),
					    g_array_index(sizes, uint64_t, k));
	g_array_unref(sizes);
	firn_chunk_map_free(map);
}
END_TEST

/* Two maps with runs of random length in turn, moved to a third, which is changed afterwards. */
START_TEST(chunk_map_take__runs_of_two_maps__are_one_map)
{
	g_autoptr(GRand) random = g_rand_new_with_seed((guint32)_i);
	FirnChunkMap *maps[2] = { firn_chunk_map_new(1), firn_chunk_map_new(1) };
	FirnChunkMap *all = firn_chunk_map_new(1);
	FirnChunkIter iters[2];
	uint32_t n = 0, at = 0;
	const uint32_t *coords[2];
	FirnChunkChange *changes;
	bool more[2];

	for (uint32_t turn = 0; turn < 40; turn++) {
		uint32_t run = (uint32_t)g_rand_int_range(random, 1, _i == 0 ? 3 : 500);

		for (uint32_t end = n + run; n < end; n++) {
			FirnRef ref = { .kind = FIRN_REF_INLINE,
					.bytes = { (const uint8_t *)&n, sizeof n } };
			FirnChunkMap *map = maps[turn % 2];

			firn_chunk_map_set(map, firn_chunk_map_insert(map, &n, NULL), &ref);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		firn_chunk_map_share(all, maps[i]);
		firn_chunk_iter_drain(&iters[i], maps[i]);
		ck_assert_uint_eq(firn_chunk_map_size(maps[i]), 0);
		more[i] = firn_chunk_iter_next(&iters[i], &coords[i], NULL);
	}
	while (more[0] || more[1]) {
		unsigned least = !more[0] || (more[1] && *coords[1] < *coords[0]);
		const uint32_t *rows;
		uint32_t len =
			firn_chunk_iter_run(&iters[least], more[!least] ? coords[!least] : NULL,
					    &rows, &changes);

		ck_assert_ptr_eq(rows, coords[least]);
		ck_assert_uint_ge(len, 1);
		/* One less than there are now and then. */
		len -= len > 1 && g_rand_boolean(random);
		firn_chunk_map_take(all, &iters[least], len);
		more[least] = firn_chunk_iter_next(&iters[least], &coords[least], NULL);
	}
	for (unsigned i = 0; i < 2; i++)
		firn_chunk_map_free(maps[i]);
	ck_assert_uint_eq(firn_chunk_map_size(all), n);
	firn_chunk_iter_seek(&iters[0], all, NULL, 0);
	for (; firn_chunk_iter_next(&iters[0], &coords[0], &changes); at++) {
		FirnRef ref;

		firn_chunk_change_get(changes, &ref);
		ck_assert_uint_eq(*coords[0], at);
		ck_assert_mem_eq(ref.bytes.data, &at, sizeof at);
	}
	ck_assert_uint_eq(at, n);
	for (uint32_t i = 0; i < n; i += 3)
		ck_assert(firn_chunk_map_remove(all, &i));
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(firn_chunk_map_find(all, &i) != NULL, i % 3 != 0);
	firn_chunk_map_free(all);
}
END_TEST

START_TEST(chunk_iter_clear__half_way__frees_the_rest)
{
	FirnChunkMap *map = firn_chunk_map_new(1);
	FirnChunkIter iter;

	for (uint32_t i = 0; i < 10000; i++)
		(void)firn_chunk_map_insert(map, &i, NULL);
	firn_chunk_iter_drain(&iter, map);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert(firn_chunk_iter_next(&iter, NULL, NULL));
	firn_chunk_iter_clear(&iter);
	ck_assert(!firn_chunk_iter_next(&iter, NULL, NULL));
	/* The map can be used again. */
	(void)firn_chunk_map_insert(map, &(uint32_t){ 7 }, NULL);
	ck_assert_uint_eq(firn_chunk_map_size(map), 1);
	firn_chunk_map_free(map);
}
END_TEST

START_TEST(chunk_map_set__many_times_over__does_not_grow)
{
	FirnChunkMap *map = firn_chunk_map_new(1);
	uint8_t content[500];
	FirnRef ref = { .kind = FIRN_REF_INLINE, .bytes = { content, sizeof content } };
	FirnRef got;

	for (uint32_t i = 0; i < 100000; i++) {
		uint32_t at = i % 100;

		memset(content, (int)(at + i / 50000), sizeof content);
		firn_chunk_map_set(map, firn_chunk_map_insert(map, &at, NULL), &ref);
		if (i % 1000 == 999)
			ck_assert(firn_chunk_map_remove(map, &at));
	}
	ck_assert_uint_lt(firn_chunk_map_content_size(map), 1 << 20);
	for (uint32_t at = 0; at < 99; at++) {
		memset(content, (int)(at + 1), sizeof content);
		firn_chunk_change_get(firn_chunk_map_find(map, &at), &got);
		ck_assert_uint_eq(got.bytes.len, sizeof content);
		ck_assert_mem_eq(got.bytes.data, content, sizeof content);
	}
	firn_chunk_map_free(map);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("chunk_map");
	TCase *tcase = tcase_create("all");

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, chunk_map__random_operations__behaves_as_the_model, 0, 4);
	tcase_add_test(tcase, chunk_map__rank_zero__holds_one_entry);
	tcase_add_test(tcase, chunk_map__largest_rank_and_coordinates__ordered);
	tcase_add_test(tcase, chunk_change__each_kind__comes_back);
	tcase_add_test(tcase, chunk_change__sizes_of_any_magnitude__come_back);
	tcase_add_loop_test(tcase, chunk_map_take__runs_of_two_maps__are_one_map, 0, 3);
	tcase_add_test(tcase, chunk_iter_clear__half_way__frees_the_rest);
	tcase_add_test(tcase, chunk_map_set__many_times_over__does_not_grow);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
