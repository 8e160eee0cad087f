#include "core/base/error.h"
#include "core/repo/refs.h"

#include <string.h>

/* Bounds memory, to 4 GiB. */
#define MAX_COORDS ((size_t)1 << 30)

/* What the logs in between say of one node. */
typedef struct {
	uint32_t rank;
	GArray *chunks; /* uint32_t, rank each, unsorted; NULL: none */
} Touched;

typedef struct {
	FirnRepo *repo;
	FirnSnapshot *from;
	FirnSnapshot *to;
	GHashTable *touched; /* FirnId8 -> Touched */
	size_t n_coords;     /* in all chunk lists */
	FirnDiff *diff;
} Diffing;

static void
touched_free(gpointer data)
{
	Touched *touched = data;

	g_clear_pointer(&touched->chunks, g_array_unref);
	g_free(touched);
}

static Touched *
touch(Diffing *diffing, const FirnId8 *id)
{
	Touched *touched = g_hash_table_lookup(diffing->touched, id);

	if (touched == NULL) {
		touched = g_new0(Touched, 1);
		g_hash_table_insert(diffing->touched, g_memdup2(id, sizeof *id), touched);
	}
	return touched;
}

static bool
add_chunks(Diffing *diffing, const FirnTxlog *txlog, size_t index, GError **error)
{
	FirnId8 node;
	size_t n_chunks;
	Touched *touched;

	firn_txlog_array(txlog, index, &node, &n_chunks);
	touched = touch(diffing, &node);
	for (size_t i = 0; i < n_chunks; i++) {
		/* Of rank 0 there are no coordinates: one item says that it is there. */
		static const uint32_t scalar = 0;
		uint32_t rank;
		const uint32_t *coords = firn_txlog_chunk(txlog, index, i, &rank);

		if (touched->chunks == NULL) {
			touched->rank = rank;
			touched->chunks = g_array_new(FALSE, FALSE, sizeof(uint32_t));
		}
		diffing->n_coords += rank;
		if (diffing->n_coords > MAX_COORDS) {
			g_set_error(
				error, FIRN_ERROR, FIRN_ERROR_LIMIT,
				"too many chunks changed in between; compare snapshots that are "
				"closer to each other");
			return false;
		}
		if (rank == touched->rank)
			g_array_append_vals(touched->chunks, rank > 0 ? coords : &scalar,
					    MAX(rank, 1));
	}
	return true;
}

static bool
add_log(Diffing *diffing, const FirnTxlog *txlog, GError **error)
{
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(txlog, (FirnTxlogList)list, &n);

		for (size_t i = 0; i < n; i++)
			(void)touch(diffing, &ids[i]);
	}
	for (size_t i = 0; i < firn_txlog_n_arrays(txlog); i++)
		if (!add_chunks(diffing, txlog, i, error))
			return false;
	for (size_t i = 0; i < firn_txlog_n_moves(txlog); i++) {
		FirnMove move;

		firn_txlog_move(txlog, i, &move);
		(void)touch(diffing, &move.node);
	}
	return true;
}

/* The logs of one commit: of the ancestors expired into it, then its own. */
static bool
add_commit(Diffing *diffing, const FirnSnapshotInfo *snapshot, GError **error)
{
	g_autoptr(FirnTxlog) own = NULL;

	for (guint i = 0; snapshot->pruned != NULL && i < snapshot->pruned->len; i++) {
		const FirnId12 *id = &g_array_index(snapshot->pruned, FirnId12, i);
		GError *failed = NULL;
		g_autoptr(FirnTxlog) txlog = firn_repo_get_txlog(diffing->repo, id, &failed);

		/* Older libraries collect these; what is left still tells most. */
		if (failed != NULL && !g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
			g_propagate_error(error, failed);
			return false;
		}
		g_clear_error(&failed);
		if (txlog != NULL && !add_log(diffing, txlog, error))
			return false;
	}
	own = firn_repo_get_txlog(diffing->repo, &snapshot->id, error);
	return own != NULL && add_log(diffing, own, error);
}

static bool
add_history(Diffing *diffing, const FirnRepoInfo *info, const FirnId12 *from, const FirnId12 *to,
	    GError **error)
{
	const FirnSnapshotInfo *snapshot = firn_repo_info_find_snapshot(info, to);
	guint left = info->snapshots->len;

	/* First make sure that `from` is an ancestor: reading logs costs. */
	for (; snapshot != NULL && left > 0; left--) {
		if (firn_id12_equal(&snapshot->id, from))
			break;
		snapshot = snapshot->has_parent
				   ? firn_repo_info_find_snapshot(info, &snapshot->parent)
				   : NULL;
	}
	if (snapshot == NULL || left == 0) {
		char texts[2][FIRN_ID12_TEXT + 1];

		firn_id12_format(from, texts[0]);
		firn_id12_format(to, texts[1]);
		g_set_error(
			error, FIRN_ERROR, FIRN_ERROR_INVALID,
			"%s is no ancestor of %s; a diff goes from an older snapshot to a newer "
			"one of the same line",
			texts[0], texts[1]);
		return false;
	}
	snapshot = firn_repo_info_find_snapshot(info, to);
	while (!firn_id12_equal(&snapshot->id, from)) {
		if (!add_commit(diffing, snapshot, error))
			return false;
		snapshot = firn_repo_info_find_snapshot(info, &snapshot->parent);
	}
	return true;
}

/* ---- from ids to paths ---- */

static bool
find_node(FirnSnapshot *snapshot, const FirnId8 *id, FirnSnapshotNode *out_node)
{
	size_t index;

	if (!firn_snapshot_find_id(snapshot, id, &index))
		return false;
	firn_snapshot_node(snapshot, index, out_node);
	return true;
}

static int
compare_chunks(gconstpointer a, gconstpointer b, gpointer rank)
{
	return firn_coords_compare(a, b, GPOINTER_TO_UINT(rank));
}

/* Sorted, each once.  Caller owns. */
static GArray *
sorted_chunks(const Touched *touched)
{
	size_t size = touched->rank * sizeof(uint32_t);
	GArray *sorted = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	const uint32_t *coords = (const uint32_t *)(const void *)touched->chunks->data;
	guint n = touched->rank > 0 ? touched->chunks->len / touched->rank : 0;
	const uint32_t *last = NULL;

	if (touched->rank == 0 && touched->chunks->len > 0) {
		g_array_append_vals(sorted, coords, 1);
		return sorted;
	}
	g_qsort_with_data(touched->chunks->data, (gint)n, size, compare_chunks,
			  GUINT_TO_POINTER(touched->rank));
	for (guint i = 0; i < n; i++, coords += touched->rank) {
		if (last == NULL || firn_coords_compare(last, coords, touched->rank) != 0)
			g_array_append_vals(sorted, coords, touched->rank);
		last = coords;
	}
	return sorted;
}

static void
add_entry(Diffing *diffing, const FirnSnapshotNode *node, int change, bool meta_changed,
	  const Touched *touched)
{
	FirnDiffEntry *entry = g_new0(FirnDiffEntry, 1);

	entry->path = g_strndup((const char *)node->path.data, node->path.len);
	entry->kind = node->kind;
	entry->change = change;
	entry->meta_changed = meta_changed;
	entry->rank = node->rank;
	if (touched->chunks != NULL && change != FIRN_DIFF_DELETED && touched->rank == node->rank)
		entry->chunks = sorted_chunks(touched);
	g_ptr_array_add(diffing->diff->lines, entry);
}

static bool
spans_equal(FirnSpan a, FirnSpan b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static void
describe(Diffing *diffing, const FirnId8 *id, const Touched *touched)
{
	FirnSnapshotNode old, new;
	bool was = find_node(diffing->from, id, &old);
	bool is = find_node(diffing->to, id, &new);

	if (was && is && spans_equal(old.path, new.path)) {
		bool meta_changed = !spans_equal(old.meta, new.meta);

		if (meta_changed || touched->chunks != NULL)
			add_entry(diffing, &new, FIRN_DIFF_CHANGED, meta_changed, touched);
		return;
	}
	if (was)
		add_entry(diffing, &old, FIRN_DIFF_DELETED, false, touched);
	if (is)
		add_entry(diffing, &new, FIRN_DIFF_ADDED, true, touched);
}

static void
entry_free(gpointer data)
{
	FirnDiffEntry *entry = data;

	g_free(entry->path);
	g_clear_pointer(&entry->chunks, g_array_unref);
	g_free(entry);
}

/* A path that was deleted and made again has two entries: the deletion comes first. */
static gint
compare_entries(gconstpointer a, gconstpointer b)
{
	const FirnDiffEntry *first = *(FirnDiffEntry *const *)a;
	const FirnDiffEntry *second = *(FirnDiffEntry *const *)b;
	int order = strcmp(first->path, second->path);

	if (order != 0)
		return order;
	return (second->change == FIRN_DIFF_DELETED) - (first->change == FIRN_DIFF_DELETED);
}

static bool
run(Diffing *diffing, const FirnId12 *from, const FirnId12 *to, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(diffing->repo, error);
	GHashTableIter iter;
	gpointer id, touched;

	if (info == NULL || !add_history(diffing, info, from, to, error))
		return false;
	diffing->from = firn_repo_get_snapshot(diffing->repo, from, error);
	if (diffing->from == NULL)
		return false;
	diffing->to = firn_repo_get_snapshot(diffing->repo, to, error);
	if (diffing->to == NULL)
		return false;
	g_hash_table_iter_init(&iter, diffing->touched);
	while (g_hash_table_iter_next(&iter, &id, &touched))
		describe(diffing, id, touched);
	g_ptr_array_sort(diffing->diff->lines, compare_entries);
	return true;
}

FirnDiff *
firn_refs_diff(FirnRepo *repo, const FirnId12 *from, const FirnId12 *to, GError **error)
{
	Diffing diffing = { .repo = repo };
	bool ok;

	diffing.diff = g_new0(FirnDiff, 1);
	diffing.diff->lines = g_ptr_array_new_with_free_func(entry_free);
	diffing.touched =
		g_hash_table_new_full(firn_id8_hash, firn_id8_equal, g_free, touched_free);
	ok = run(&diffing, from, to, error);
	g_hash_table_unref(diffing.touched);
	firn_snapshot_unref(diffing.from);
	firn_snapshot_unref(diffing.to);
	if (ok)
		return diffing.diff;
	firn_diff_free(diffing.diff);
	return NULL;
}

void
firn_diff_free(FirnDiff *diff)
{
	if (diff == NULL)
		return;
	g_ptr_array_unref(diff->lines);
	g_free(diff);
}
