#include "core/repo/commit_priv.h"

#include <stdlib.h>

static int
compare_ids(const void *a, const void *b)
{
	return firn_id8_compare(a, b);
}

static void
sort_ids(GArray *ids)
{
	guint left = 0;

	if (ids->len == 0)
		return;
	qsort(ids->data, ids->len, sizeof(FirnId8), compare_ids);
	for (guint i = 0; i < ids->len; i++) {
		FirnId8 id = g_array_index(ids, FirnId8, i);

		if (left == 0 || firn_id8_compare(&g_array_index(ids, FirnId8, left - 1), &id) != 0)
			g_array_index(ids, FirnId8, left++) = id;
	}
	g_array_set_size(ids, left);
}

static int
compare_arrays(const void *a, const void *b)
{
	const FirnCommitLogArray *x = a, *y = b;

	return firn_id8_compare(&x->node, &y->node);
}

static void
sort_arrays(GArray *arrays)
{
	if (arrays->len > 1)
		qsort(arrays->data, arrays->len, sizeof(FirnCommitLogArray), compare_arrays);
}

/* ---- what the amended log says too ---- */

/* Ours, to be added to; its place in the list moves as others are added. */
static FirnCommitLogArray *
find_or_add(FirnCommitting *c, guint n_sorted, const FirnId8 *node, uint32_t rank)
{
	FirnCommitLogArray key = { .node = *node, .rank = rank };
	FirnCommitLogArray *found = NULL;

	if (n_sorted > 0)
		found = bsearch(&key, c->log_arrays->data, n_sorted, sizeof key, compare_arrays);
	if (found != NULL)
		return found;
	key.coords = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	g_array_append_val(c->log_arrays, key);
	return &g_array_index(c->log_arrays, FirnCommitLogArray, c->log_arrays->len - 1);
}

static void
add_chunks(FirnCommitting *c, guint n_sorted, const FirnTxlog *log, size_t index)
{
	FirnCommitLogArray *array = NULL;
	FirnId8 node;
	size_t n_chunks;

	firn_txlog_array(log, index, &node, &n_chunks);
	for (size_t i = 0; i < n_chunks; i++) {
		uint32_t rank;
		const uint32_t *coords = firn_txlog_chunk(log, index, i, &rank);

		if (array == NULL)
			array = find_or_add(c, n_sorted, &node, rank);
		/* An array given another rank: what it had before cannot be said beside the new. */
		if (rank != array->rank)
			continue;
		g_array_append_vals(array->coords, coords, rank);
		array->n++;
	}
	if (array != NULL)
		array->n = firn_commit_sort_coords(array->coords, array->rank, array->n);
}

static void
add_log(FirnCommitting *c, const FirnTxlog *log)
{
	guint n_sorted = c->log_arrays->len;

	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(log, (FirnTxlogList)list, &n);

		g_array_append_vals(c->log_ids[list], ids, (guint)n);
	}
	sort_arrays(c->log_arrays);
	for (size_t i = 0; i < firn_txlog_n_arrays(log); i++)
		add_chunks(c, n_sorted, log, i);
}

/* ---- the whole ---- */

GBytes *
firn_commit_encode_log(FirnCommitting *c, const FirnTxlog *amended, GError **error)
{
	FirnTxlogContent content = { .id = c->id };
	g_autofree FirnTxlogArray *arrays = NULL;
	g_autofree FirnMove *moves = NULL;

	if (amended != NULL) {
		add_log(c, amended);
		content.n_moves = firn_txlog_n_moves(amended);
		moves = g_new0(FirnMove, MAX(content.n_moves, 1));
		for (size_t i = 0; i < content.n_moves; i++)
			firn_txlog_move(amended, i, &moves[i]);
		content.moves = moves;
	}
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		sort_ids(c->log_ids[list]);
		content.ids[list] = (const FirnId8 *)(const void *)c->log_ids[list]->data;
		content.n_ids[list] = c->log_ids[list]->len;
	}
	sort_arrays(c->log_arrays);
	arrays = g_new0(FirnTxlogArray, MAX(c->log_arrays->len, 1));
	for (guint i = 0; i < c->log_arrays->len; i++) {
		const FirnCommitLogArray *array =
			&g_array_index(c->log_arrays, FirnCommitLogArray, i);

		arrays[i] = (FirnTxlogArray){
			.node = array->node,
			.rank = array->rank,
			.n_chunks = array->n,
			.coords = (const uint32_t *)(const void *)array->coords->data,
		};
	}
	content.arrays = arrays;
	content.n_arrays = c->log_arrays->len;
	return firn_txlog_encode(&content, c->level, error);
}
