#include "core/repo/pool.h"
#include "tests/unit/fold_fixture.h"

/* Chunks left in their journal, against the same ones read into memory. */

static void
print_entry(GString *out, uint32_t rank, const uint32_t *coords, const FirnChunkChange *change)
{
	FirnRef ref;

	for (uint32_t i = 0; i < rank; i++)
		g_string_append_printf(out, "%u,", coords[i]);
	firn_chunk_change_get(change, &ref);
	g_string_append_printf(out, "%d %" PRIu64 " %" PRIu64 " ", ref.kind, ref.length,
			       (uint64_t)change->seq);
	if (ref.kind == FIRN_REF_INLINE)
		g_string_append_len(out, (const char *)ref.bytes.data, (gssize)ref.bytes.len);
	if (ref.kind == FIRN_REF_VIRTUAL)
		g_string_append_len(out, (const char *)ref.location.data, (gssize)ref.location.len);
	g_string_append_c(out, '\n');
}

static char *
print_map(FirnChunkMap *map)
{
	GString *out = g_string_new(NULL);
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;

	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change))
		print_entry(out, firn_chunk_map_rank(map), coords, change);
	return g_string_free(out, FALSE);
}

/* A worker of `repo` with about `n` chunks of all kinds where `mine` says so. */
typedef bool (*Mine)(GRand *random, uint32_t x, uint32_t y);

static Actor *
worker(FirnRepo *repo, const FirnId12 *base, const char *name, Mine mine, GRand *random)
{
	Actor *actor = actor_new(repo, base, name);

	for (uint32_t x = 0; x < SIDE; x++) {
		for (uint32_t y = 0; y < SIDE; y++) {
			static const char *const verbs[] = { "chunk", "virtual", "erase", "chunk" };
			g_autofree char *place = g_strdup_printf("%u,%u", x, y);
			g_autofree char *text = g_strdup_printf("s3://%u/%u", x, y);

			if (mine(random, x, y))
				actor_chunk(actor, verbs[(x + y) % 4], "/a", place, text);
		}
	}
	return actor;
}

static bool
any(GRand *random, uint32_t x, uint32_t y)
{
	(void)x;
	(void)y;
	return g_rand_int_range(random, 0, 3) > 0;
}

static bool
left_half(GRand *random, uint32_t x, uint32_t y)
{
	(void)random;
	(void)y;
	return x < SIDE / 2;
}

static bool
right_half(GRand *random, uint32_t x, uint32_t y)
{
	return !left_half(random, x, y);
}

static bool
even(GRand *random, uint32_t x, uint32_t y)
{
	(void)random;
	return (x * SIDE + y) % 2 == 0;
}

static bool
odd(GRand *random, uint32_t x, uint32_t y)
{
	return !even(random, x, y);
}

START_TEST(decode_folded__all_kinds__says_the_same)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed((guint32)_i);
	FirnId12 base = commit_script(repo, ARRAY ";chunk /a 1,1 old");
	Actor *actor = worker(repo, &base, "w", any, random);
	FirnSource *source = folded(actor, NULL);
	g_autofree char *wanted = print_map(map_of(actor->section->changes));
	g_autofree char *got = print_map(map_of(section_of(source)->changes));
	g_autofree char *again = print_map(map_of(section_of(source)->changes));
	g_autoptr(GError) error = NULL;

	ck_assert_str_eq(got, wanted);
	ck_assert_str_eq(again, wanted);
	ck_assert_uint_eq(section_of(source)->changes->n_chunks, actor->section->changes->n_chunks);
	ck_assert(firn_changes_check(section_of(source)->changes, &error));
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

static void
change_both(FirnChunkMap *a, FirnChunkMap *b, GRand *random)
{
	uint32_t coords[2] = { (uint32_t)g_rand_int_range(random, 0, SIDE),
			       (uint32_t)g_rand_int_range(random, 0, SIDE) };
	FirnRef ref = { .kind = FIRN_REF_NATIVE, .length = g_rand_int(random) };
	FirnChunkChange *x = firn_chunk_map_find(a, coords), *y = firn_chunk_map_find(b, coords);

	ck_assert_int_eq(x != NULL, y != NULL);
	if (g_rand_int_range(random, 0, 2) == 0) {
		ck_assert_int_eq(firn_chunk_map_remove(a, coords),
				 firn_chunk_map_remove(b, coords));
		return;
	}
	firn_chunk_map_set(a, firn_chunk_map_insert(a, coords, NULL), &ref);
	firn_chunk_map_set(b, firn_chunk_map_insert(b, coords, NULL), &ref);
}

START_TEST(folded_map__changed_at_random__behaves_as_another)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed((guint32)_i);
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = worker(repo, &base, "w", any, random);
	FirnSource *source = folded(actor, NULL);
	FirnChunkMap *a = map_of(section_of(source)->changes);
	FirnChunkMap *b = map_of(actor->section->changes);

	for (unsigned round = 0; round < 20; round++) {
		g_autofree char *got = NULL, *wanted = NULL;

		for (unsigned i = 0; i < 1u << round / 2; i++)
			change_both(a, b, random);
		got = print_map(a);
		wanted = print_map(b);
		ck_assert_str_eq(got, wanted);
		ck_assert_uint_eq(firn_chunk_map_size(a), firn_chunk_map_size(b));
	}
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

static FirnMerge *
merge_both(FirnRepo *repo, FirnSource *a, FirnSource *b, FirnFavor favor)
{
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GError) error = NULL;
	FirnMerge *merge;

	g_ptr_array_add(sources, a);
	g_ptr_array_add(sources, b);
	merge = firn_merge_sources(repo, sources, favor, &error);
	ck_assert_no_error(error);
	return merge;
}

typedef struct {
	Mine a, b;
	FirnFavor favor;
} Pair;

static const Pair pairs[] = {
	{ left_half, right_half, FIRN_FAVOR_NONE },
	{ right_half, left_half, FIRN_FAVOR_NONE },
	{ even, odd, FIRN_FAVOR_NONE },
	{ any, left_half, FIRN_FAVOR_NONE },
	{ any, any, FIRN_FAVOR_LAST },
	{ any, any, FIRN_FAVOR_NONE },
};

START_TEST(merge_of_folded__is_the_merge)
{
	const Pair *pair = &pairs[_i];
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed((guint32)_i);
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *a = worker(repo, &base, "a", pair->a, random);
	Actor *b = worker(repo, &base, "b", pair->b, random);
	g_autoptr(FirnMerge) wanted = NULL;
	g_autoptr(FirnMerge) got = NULL;
	g_autofree char *wanted_text = NULL, *got_text = NULL, *wanted_tree = NULL;
	g_autofree char *got_tree = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	/* What both wrote is the same, but for some. */
	actor_do(a, "chunk /a 7,7 one;chunk /a 9,9 same");
	actor_do(b, pair->favor != FIRN_FAVOR_NONE ? "chunk /a 7,7 two" : "chunk /a 9,9 same");
	wanted = merge_both(repo, source_of("folded", &a, 1), source_of("folded", &b, 1),
			    pair->favor);
	got = merge_both(repo, folded(a, NULL), folded(b, NULL), pair->favor);
	ck_assert_uint_eq(got->n_conflicts, wanted->n_conflicts);
	ck_assert_uint_eq(got->n_collisions_settled, wanted->n_collisions_settled);
	if (wanted->n_conflicts == 0) {
		wanted_text = print_map(map_of(wanted->changes));
		got_text = print_map(map_of(got->changes));
		ck_assert_str_eq(got_text, wanted_text);
		ck_assert(commit_changes(repo, got->changes, NULL, &base, &result, NULL, &error));
		got_tree = print_tree(repo, &result.snapshot);
		/* The other one instead of it. */
		wanted_tree = commit_instead(repo, wanted->changes, &base);
		ck_assert_str_eq(got_tree, wanted_tree);
	}
	actor_free(a);
	actor_free(b);
}
END_TEST

START_TEST(folded_journal__cut_while_it_is_merged__stops_the_commit)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed(1);
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = worker(repo, &base, "w", any, random);
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(FirnMerge) merge = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	FirnId12 tip;
	int fd;

	g_ptr_array_add(sources, folded(actor, &fd));
	merge = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
	ck_assert_no_error(error);
	ck_assert_int_eq(ftruncate(fd, 20000), 0);
	ck_assert(!commit_changes(repo, merge->changes, NULL, &base, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, "journal folded changed"));
	tip = tip_of(repo);
	ck_assert_int_eq(firn_id12_compare(&base, &tip), 0);
	close(fd);
	actor_free(actor);
}
END_TEST

START_TEST(folded_journal__cut_before_it_is_merged__stops_the_merge)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed(1);
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *a = worker(repo, &base, "a", even, random);
	Actor *b = worker(repo, &base, "b", odd, random);
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GError) error = NULL;
	int fd;

	g_ptr_array_add(sources, folded(a, &fd));
	g_ptr_array_add(sources, folded(b, NULL));
	ck_assert_int_eq(ftruncate(fd, 20000), 0);
	ck_assert_ptr_null(firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	close(fd);
	actor_free(a);
	actor_free(b);
}
END_TEST

/* Two rows of chunks each, of which the second ones are the same. */
static Actor *
row_writer(FirnRepo *repo, const FirnId12 *base, const char *name, unsigned first)
{
	Actor *actor = actor_new(repo, base, name);

	for (unsigned i = 0; i < 2 * SIDE; i++) {
		g_autofree char *script =
			g_strdup_printf("chunk /a %u,%u same", i < SIDE ? first : 2, i % SIDE);

		actor_do(actor, script);
	}
	return actor;
}

/* Spoil the first chunks of a journal. */
static void
spoil(int fd)
{
	uint8_t header[16];
	off_t end;

	ck_assert_int_eq(pread(fd, header, sizeof header, 0), sizeof header);
	end = 16 + (header[12] | header[13] << 8) + 8;
	ck_assert_int_eq(pwrite(fd, "\0\0\0\0\0\0\0\0", 8, end + 200), 8);
}

/* Its first leaf is in the outcome when a chunk that both wrote is to go behind that. */
START_TEST(folded_journal__spoilt_before_it_is_merged__stops_the_merge)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *a = row_writer(repo, &base, "a", 1);
	Actor *b = row_writer(repo, &base, "b", 0);
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);
	g_autoptr(GError) error = NULL;
	int fd;

	g_ptr_array_add(sources, folded(a, &fd));
	g_ptr_array_add(sources, folded(b, NULL));
	spoil(fd);
	ck_assert_ptr_null(firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	ck_assert_ptr_nonnull(strstr(error->message, "journal folded changed"));
	close(fd);
	actor_free(a);
	actor_free(b);
}
END_TEST

START_TEST(folded_map__that_cannot_be_read__takes_entries_and_says_so)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = row_writer(repo, &base, "a", 0);
	g_autoptr(GError) error = NULL;
	FirnSource *source;
	FirnChunkMap *map;
	bool made;
	int fd;

	source = folded(actor, &fd);
	map = map_of(section_of(source)->changes);
	ck_assert(firn_chunk_map_check(map, &error));
	spoil(fd);
	ck_assert_ptr_nonnull(firn_chunk_map_insert(map, (uint32_t[]){ 0, 7 }, &made));
	ck_assert(made);
	ck_assert_ptr_nonnull(firn_chunk_map_find(map, (uint32_t[]){ 0, 7 }));
	ck_assert_ptr_nonnull(firn_chunk_map_find(map, (uint32_t[]){ 2, 7 }));
	ck_assert_uint_eq(firn_chunk_map_size(map), SIDE + 1);
	ck_assert(!firn_chunk_map_check(map, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	close(fd);
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

typedef struct {
	FirnChunkMap *map;
	const char *wanted;
} Reading;

static bool
read_map(size_t index, void *data, GError **error)
{
	const Reading *reading = data;
	g_autofree char *got = print_map(reading->map);

	(void)index;
	(void)error;
	ck_assert_str_eq(got, reading->wanted);
	return true;
}

START_TEST(folded_map__read_by_several_threads__says_the_same_to_each)
{
	g_autoptr(FirnRepo) repo = new_repo();
	g_autoptr(GRand) random = g_rand_new_with_seed(1);
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = worker(repo, &base, "w", any, random);
	FirnSource *source = folded(actor, NULL);
	g_autofree char *wanted = print_map(map_of(actor->section->changes));
	Reading reading = { map_of(section_of(source)->changes), wanted };
	g_autoptr(GError) error = NULL;

	ck_assert(firn_pool_run(32, SIZE_MAX, read_map, &reading, NULL, NULL, &error));
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

START_TEST(decode_folded__chunks_out_of_order__is_left_to_others)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = actor_new(repo, &base, "w");
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	FirnRecord record = { .kind = FIRN_RECORD_CHUNK, .has_path = true, .rank = 2, .seq = 1 };
	FirnRecord seal = { .kind = FIRN_RECORD_SEAL, .seq = 2, .number = 2 };
	uint64_t seed = firn_journal_record_seed(&actor->section->header->session);
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(GBytes) whole = NULL;
	int fd = memfd_create("journal", MFD_CLOEXEC);

	firn_journal_record_add_header(actor->section->header, FIRN_JOURNAL_NET, bytes);
	record.path = (FirnSpan){ (const uint8_t *)"/a", 2 };
	record.numbers[0] = 5;
	ck_assert(firn_journal_record_encode(&record, seed, bytes));
	record.has_path = false;
	record.path = (FirnSpan){ NULL, 0 };
	record.numbers[0] = 4;
	record.seq = 2;
	ck_assert(firn_journal_record_encode(&record, seed, bytes));
	ck_assert(firn_journal_record_encode(&seal, seed, bytes));
	ck_assert_int_eq(write(fd, bytes->data, bytes->len), (ssize_t)bytes->len);
	ck_assert_ptr_null(firn_journal_decode_folded(fd, "j"));
	whole = g_bytes_new(bytes->data, bytes->len);
	sections = firn_journal_decode(whole, "j", NULL, NULL);
	ck_assert_ptr_nonnull(sections);
	actor_free(actor);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("chunk_fold");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, repo_setup, repo_teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, decode_folded__all_kinds__says_the_same, 0, 4);
	tcase_add_loop_test(tcase, folded_map__changed_at_random__behaves_as_another, 0, 4);
	tcase_add_loop_test(tcase, merge_of_folded__is_the_merge, 0, G_N_ELEMENTS(pairs));
	tcase_add_test(tcase, folded_journal__cut_while_it_is_merged__stops_the_commit);
	tcase_add_test(tcase, folded_journal__cut_before_it_is_merged__stops_the_merge);
	tcase_add_test(tcase, folded_journal__spoilt_before_it_is_merged__stops_the_merge);
	tcase_add_test(tcase, folded_map__that_cannot_be_read__takes_entries_and_says_so);
	tcase_add_test(tcase, folded_map__read_by_several_threads__says_the_same_to_each);
	tcase_add_test(tcase, decode_folded__chunks_out_of_order__is_left_to_others);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
