#include "tests/unit/fold_fixture.h"

/* What is known of the packs of chunks that are left in their journal. */

#define PART  100u
#define PARTS (SIDE * SIDE)

static char *
pack_key(const FirnId12 *id)
{
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(id, text);
	return g_strconcat("chunks/", text, NULL);
}

/* `size` bytes where the pack is. */
static void
put_pack(FirnRepo *repo, const FirnId12 *id, size_t size)
{
	g_autofree char *key = pack_key(id);
	g_autofree char *bytes = g_malloc0(size);
	g_autoptr(GBytes) data = g_bytes_new(bytes, size);
	g_autoptr(GError) error = NULL;

	ck_assert(firn_store_remove(firn_repo_store(repo), key, &error));
	put_object(repo, "chunks", id, data);
}

/* Part `k` of a pack begins behind a byte that is nobody's. */
static FirnRef
part_of(const FirnId12 *pack, uint32_t k)
{
	return (FirnRef){ .kind = FIRN_REF_NATIVE,
			  .id = *pack,
			  .offset = 1 + (uint64_t)k * PART,
			  .length = PART };
}

/* All chunks of /a, in the order of their coordinates, so many in one pack.  The packs' ids. */
static GArray *
write_parts(Actor *actor, uint32_t in_pack)
{
	GArray *packs = g_array_new(FALSE, FALSE, sizeof(FirnId12));
	bool made;
	FirnId8 id = actor_node(actor, "/a", &made);

	for (uint32_t i = 0; i < PARTS; i++) {
		uint32_t coords[2] = { i / SIDE, i % SIDE };
		FirnId12 pack;
		FirnRef ref;

		if (i % in_pack == 0) {
			pack = firn_id12_random();
			put_pack(actor->repo, &pack, 1 + (size_t)in_pack * PART);
			g_array_append_val(packs, pack);
		}
		ref = part_of(&g_array_index(packs, FirnId12, i / in_pack), i % in_pack);
		(void)firn_changes_put_chunk(actor->section->changes, &id, "/a", 2, coords, &ref,
					     ++actor->section->last_seq);
	}
	return packs;
}

/* How many leaves of 64 say what their packs are; what they say is checked. */
static unsigned
count_told(FirnChunkMap *map, const GArray *packs, uint32_t in_pack)
{
	FirnChunkIter iter;
	FirnChunkBlock block;
	unsigned n_told = 0;
	uint32_t first = 0;

	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_block(&iter, &block)) {
		uint32_t last = first + block.n - 1;

		for (uint32_t i = 0; i < block.n_packs; i++) {
			uint32_t pack = first / in_pack + i;
			uint32_t end = MIN(last, (pack + 1) * in_pack - 1) % in_pack;
			FirnRef part = part_of(&g_array_index(packs, FirnId12, pack), end);

			ck_assert(firn_id12_equal(&block.packs[i].id, &part.id));
			ck_assert_uint_eq(block.packs[i].end, part.offset + part.length);
		}
		ck_assert(block.n_packs == 0 ||
			  first / in_pack + block.n_packs - 1 == last / in_pack);
		n_told += block.n_packs > 0;
		first += firn_chunk_iter_skip(&iter);
	}
	ck_assert_uint_eq(first, PARTS);
	return n_told;
}

typedef struct {
	uint32_t in_pack;
	unsigned n_told; /* leaves, of PARTS / 64 */
} Packing;

static const Packing packings[] = { { PARTS, 64 }, { 64, 64 }, { 96, 64 }, { 40, 38 }, { 7, 0 } };

START_TEST(folded_parts__know_their_packs)
{
	const Packing *packing = &packings[_i];
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = actor_new(repo, &base, "w");
	g_autoptr(GArray) packs = write_parts(actor, packing->in_pack);
	FirnSource *source = folded(actor, NULL);

	ck_assert_uint_eq(count_told(map_of(section_of(source)->changes), packs, packing->in_pack),
			  packing->n_told);
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

START_TEST(folded_chunks__with_other_objects__do_not)
{
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = actor_new(repo, &base, "w");
	g_autoptr(GArray) packs = write_parts(actor, PARTS);
	FirnSource *source;

	/* An object of its own in the first leaf, and a part without length in the second. */
	actor_do(actor, "native /a 0,5 abc");
	{
		FirnRef empty = part_of(&g_array_index(packs, FirnId12, 0), SIDE);
		uint32_t coords[2] = { 1, 0 };
		bool made;
		FirnId8 id = actor_node(actor, "/a", &made);

		empty.length = 0;
		(void)firn_changes_put_chunk(actor->section->changes, &id, "/a", 2, coords, &empty,
					     ++actor->section->last_seq);
	}
	source = folded(actor, NULL);
	ck_assert_uint_eq(count_told(map_of(section_of(source)->changes), packs, PARTS),
			  PARTS / 64 - 2);
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

/* With NOT_FOUND, the chunk and its object are named. */
static void
commit_refused(FirnRepo *repo, const FirnChanges *changes, const FirnId12 *base, const char *chunk,
	       const FirnId12 *pack, const char *what)
{
	g_autofree char *key = pack_key(pack);
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	FirnId12 tip;

	ck_assert(!commit_changes(repo, changes, NULL, base, &result, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	ck_assert_msg(strstr(error->message, chunk) != NULL, "%s", error->message);
	ck_assert_msg(strstr(error->message, key) != NULL, "%s", error->message);
	ck_assert_msg(strstr(error->message, what) != NULL, "%s", error->message);
	tip = tip_of(repo);
	ck_assert_int_eq(firn_id12_compare(base, &tip), 0);
}

START_TEST(commit_of_folded_parts__without_a_pack__names_it)
{
	uint32_t in_pack = packings[_i].in_pack;
	g_autoptr(FirnRepo) repo = new_repo();
	FirnId12 base = commit_script(repo, ARRAY);
	Actor *actor = actor_new(repo, &base, "w");
	g_autoptr(GArray) packs = write_parts(actor, in_pack);
	guint broken = packs->len / 2;
	uint32_t last = (broken + 1) * in_pack - 1;
	const FirnId12 *pack = &g_array_index(packs, FirnId12, broken);
	g_autofree char *key = pack_key(pack);
	g_autofree char *chunk = g_strdup_printf("/a c/%u/%u:", last / SIDE, last % SIDE);
	FirnSource *source = folded(actor, NULL);
	FirnChanges *changes = section_of(source)->changes;
	g_autofree char *tree = NULL, *wanted = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;

	put_pack(repo, pack, (size_t)in_pack * PART);
	commit_refused(repo, changes, &base, chunk, pack, "is shorter than the journal says");
	ck_assert(firn_store_remove(firn_repo_store(repo), key, &error));
	commit_refused(repo, changes, &base, "/a c/", pack, "is missing");
	put_pack(repo, pack, 1 + (size_t)in_pack * PART);
	ck_assert(commit_changes(repo, changes, NULL, &base, &result, NULL, &error));
	tree = print_tree(repo, &result.snapshot);
	wanted = commit_instead(repo, actor->section->changes, &base);
	ck_assert_str_eq(tree, wanted);
	firn_source_free(source);
	actor_free(actor);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("fold_packs");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, repo_setup, repo_teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, folded_parts__know_their_packs, 0, G_N_ELEMENTS(packings));
	tcase_add_test(tcase, folded_chunks__with_other_objects__do_not);
	tcase_add_loop_test(tcase, commit_of_folded_parts__without_a_pack__names_it, 0,
			    G_N_ELEMENTS(packings));
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
