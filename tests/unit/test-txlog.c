#include "tests/unit/harness.h"
#include "tests/unit/walk.h"

static FirnSpan
span(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, strlen(text) };
}

static const FirnId8 ids[] = { { { 1 } }, { { 2 } }, { { 3 } }, { { 3, 0, 1 } } };
static const uint32_t coords2[] = { 0, 0, 0, 7, 1, 0 };
static const uint32_t coords1[] = { 9 };

static GBytes *
encode_sample(void)
{
	const FirnTxlogArray arrays[] = {
		{ ids[0], 2, 3, coords2 },
		{ ids[1], 1, 1, coords1 },
		{ ids[2], 0, 1, NULL },
		{ ids[3], 3, 0, NULL },
	};
	const FirnMove moves[] = {
		{ span("/a"), span("/b"), ids[0], FIRN_NODE_GROUP },
		{ span("/a/x"), span("/b/x"), ids[1], FIRN_NODE_ARRAY },
	};
	FirnTxlogContent content = {
		.id = firn_id_initial_snapshot,
		.arrays = arrays,
		.n_arrays = G_N_ELEMENTS(arrays),
		.moves = moves,
		.n_moves = G_N_ELEMENTS(moves),
	};
	g_autoptr(GError) error = NULL;
	GBytes *file;

	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		content.ids[list] = ids + list % 3;
		content.n_ids[list] = list % 3;
	}
	file = firn_txlog_encode(&content, 3, &error);
	ck_assert_no_error(error);
	return file;
}

START_TEST(encode__everything__reads_back)
{
	g_autoptr(GBytes) file = encode_sample();
	g_autoptr(FirnTxlog) t = firn_txlog_open(file, NULL);
	FirnMove move;
	FirnId8 node;
	uint32_t rank;
	size_t n, at;

	ck_assert_ptr_nonnull(t);
	ck_assert(walk_txlog(file) != 0);
	ck_assert(firn_id12_equal(firn_txlog_id(t), &firn_id_initial_snapshot));
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		const FirnId8 *got = firn_txlog_ids(t, (FirnTxlogList)list, &n);

		ck_assert_uint_eq(n, list % 3);
		if (n > 0)
			ck_assert_mem_eq(got, ids + list % 3, n * sizeof *got);
		ck_assert(!firn_txlog_has_id(t, (FirnTxlogList)list, &(FirnId8){ { 77 } }));
	}
	ck_assert_uint_eq(firn_txlog_n_arrays(t), 4);
	ck_assert(firn_txlog_find_array(t, &ids[0], &at));
	firn_txlog_array(t, at, &node, &n);
	ck_assert_uint_eq(n, 3);
	ck_assert_mem_eq(firn_txlog_chunk(t, at, 2, &rank), coords2 + 4, 8);
	ck_assert_uint_eq(rank, 2);
	ck_assert(!firn_txlog_find_array(t, &(FirnId8){ { 2, 1 } }, &at));
	ck_assert_uint_eq(firn_txlog_n_moves(t), 2);
	firn_txlog_move(t, 1, &move);
	ck_assert_int_eq(move.kind, FIRN_NODE_ARRAY);
	ck_assert_mem_eq(move.from.data, "/a/x", 5);
	ck_assert_mem_eq(move.to.data, "/b/x", 5);
	firn_txlog_move(t, 0, &move);
	ck_assert_int_eq(move.kind, FIRN_NODE_GROUP);
}
END_TEST

START_TEST(encode__nothing__reads_back)
{
	FirnTxlogContent content = { .id = firn_id_initial_snapshot };
	g_autoptr(GBytes) file = firn_txlog_encode(&content, 3, NULL);
	g_autoptr(FirnTxlog) t = firn_txlog_open(file, NULL);

	ck_assert_ptr_nonnull(t);
	ck_assert_uint_eq(firn_txlog_n_arrays(t), 0);
	ck_assert_uint_eq(firn_txlog_n_moves(t), 0);
}
END_TEST

START_TEST(encode__too_many_chunks__is_refused)
{
	/* Counted before anything is read. */
	FirnTxlogArray array = { .node = ids[0], .rank = 1, .n_chunks = 50000000 };
	FirnTxlogContent content = { .arrays = &array, .n_arrays = 1 };
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(firn_txlog_encode(&content, 3, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

START_TEST(open__cut_or_changed__is_safe)
{
	g_autoptr(GBytes) file = encode_sample();
	g_autoptr(GBytes) payload = firn_envelope_open(file, 10000, NULL, NULL);
	size_t size = g_bytes_get_size(payload);
	g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(payload, NULL), size);

	for (size_t i = 0; i < size * 8; i++) {
		g_autoptr(GBytes) changed = NULL;

		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		changed = walk_wrap(copy, size, 2, FIRN_KIND_TXLOG);
		(void)walk_txlog(changed);
		copy[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t n = 0; n < g_bytes_get_size(file); n++) {
		g_autoptr(GBytes) cut = g_bytes_new_from_bytes(file, 0, n);

		ck_assert_uint_eq(walk_txlog(cut), 0);
	}
}
END_TEST

static Suite *
txlog_suite(void)
{
	Suite *s = suite_create("txlog");
	TCase *tc = tcase_create("txlog");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, encode__everything__reads_back);
	tcase_add_test(tc, encode__nothing__reads_back);
	tcase_add_test(tc, encode__too_many_chunks__is_refused);
	tcase_add_test(tc, open__cut_or_changed__is_safe);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(txlog_suite)
