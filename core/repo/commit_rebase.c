#include "core/base/error.h"
#include "core/repo/commit_priv.h"

#include <string.h>

/* ---- what the branch did ---- */

/* How many logs of expired ancestors of `at` are of `base` and before; 0: it is none of them. */
static guint
expired_until(const FirnSnapshotInfo *at, const FirnId12 *base)
{
	for (guint i = 0; at->pruned != NULL && i < at->pruned->len; i++)
		if (firn_id12_equal(&g_array_index(at->pruned, FirnId12, i), base))
			return i + 1;
	return 0;
}

/* Snapshots after `base` up to `tip`, newest first; `*out_from`: logs of the oldest one's expired
 * ancestors to be left out.  False: `base` is not in the history. */
static bool
chain_between(const FirnRepoInfo *info, const FirnId12 *base, const FirnId12 *tip, GArray *chain,
	      guint *out_from)
{
	FirnSnapshotInfo *at = firn_repo_info_find_snapshot(info, tip);

	*out_from = 0;
	/* A circle of parents would be longer than the list of snapshots. */
	while (at != NULL && chain->len <= info->snapshots->len) {
		if (firn_id12_equal(&at->id, base))
			return true;
		g_array_append_val(chain, at);
		*out_from = expired_until(at, base);
		if (*out_from > 0)
			return true;
		at = at->has_parent ? firn_repo_info_find_snapshot(info, &at->parent) : NULL;
	}
	return false;
}

/* Logs of the commits after `base` up to `tip`, oldest first (FirnId12); NULL with `error`. */
static GArray *
logs_between(const FirnRepoInfo *info, const char *branch, const FirnId12 *base,
	     const FirnId12 *tip, GError **error)
{
	g_autoptr(GArray) chain = g_array_new(FALSE, FALSE, sizeof(FirnSnapshotInfo *));
	g_autoptr(GArray) logs = g_array_new(FALSE, FALSE, sizeof(FirnId12));
	char text[FIRN_ID12_TEXT + 1];
	guint from;

	if (!chain_between(info, base, tip, chain, &from)) {
		firn_id12_format(base, text);
		g_set_error(
			error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			"branch %s was reset or amended: snapshot %s, which these changes start "
			"from, is no longer in its history; mount the branch again and redo "
			"them, or reset the branch",
			branch, text);
		return NULL;
	}
	for (guint i = chain->len; i-- > 0; from = 0) {
		const FirnSnapshotInfo *at = g_array_index(chain, FirnSnapshotInfo *, i);

		if (at->pruned != NULL)
			g_array_append_vals(logs, &g_array_index(at->pruned, FirnId12, from),
					    at->pruned->len - from);
		g_array_append_val(logs, at->id);
	}
	return g_steal_pointer(&logs);
}

static void
free_map(gpointer map)
{
	firn_chunk_map_free(map);
}

/* Add the chunks one log names; of an array given another rank, those of the last one. */
static void
add_chunks(GHashTable *chunks, const FirnTxlog *log, size_t index)
{
	FirnChunkMap *map;
	FirnId8 node;
	size_t n_chunks;

	firn_txlog_array(log, index, &node, &n_chunks);
	map = g_hash_table_lookup(chunks, &node);
	for (size_t i = 0; i < n_chunks; i++) {
		uint32_t rank;
		const uint32_t *coords = firn_txlog_chunk(log, index, i, &rank);

		if (map == NULL || firn_chunk_map_rank(map) != rank) {
			map = firn_chunk_map_new(rank);
			g_hash_table_replace(chunks, g_memdup2(&node, sizeof node), map);
		}
		(void)firn_chunk_map_insert(map, coords, NULL);
	}
}

static bool
read_log(FirnCommitCompare *x, const FirnId12 *id, GError **error)
{
	g_autoptr(FirnTxlog) log = firn_repo_get_txlog(x->c->repo, id, error);

	if (log == NULL) {
		g_prefix_error(error, "cannot tell what the branch changed meanwhile: ");
		return false;
	}
	if (firn_txlog_n_moves(log) > 0) {
		g_autofree char *path = NULL;
		FirnMove move;

		firn_txlog_move(log, 0, &move);
		path = g_strndup((const char *)move.from.data, move.from.len);
		firn_commit_clash(x, FIRN_CONFLICT_MOVED, path, NULL, 0, false);
	}
	for (size_t i = 0; i < firn_txlog_n_arrays(log); i++)
		add_chunks(x->chunks, log, i);
	return true;
}

/* ---- nodes ---- */

static bool
find_node(const FirnSnapshot *snapshot, const FirnId8 *id, FirnSnapshotNode *out_node)
{
	size_t index;

	if (!firn_snapshot_find_id(snapshot, id, &index))
		return false;
	firn_snapshot_node(snapshot, index, out_node);
	return true;
}

static bool
find_path(const FirnSnapshot *snapshot, const char *path, FirnSnapshotNode *out_node)
{
	size_t index;

	if (!firn_snapshot_find_path(snapshot, path, strlen(path), &index))
		return false;
	firn_snapshot_node(snapshot, index, out_node);
	return true;
}

static bool
same_bytes(FirnSpan a, FirnSpan b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
is_deleted(const FirnCommitting *c, const FirnId8 *id)
{
	const FirnNodeChange *change = firn_changes_find(c->changes, id);

	return change != NULL && change->kind == FIRN_CHANGE_DELETE;
}

/* All chunks of a map, as conflicts of one kind. */
static void
clash_all(const FirnCommitCompare *x, FirnConflictKind kind, const char *path, FirnChunkMap *map,
	  bool swapped)
{
	const uint32_t *coords;
	FirnChunkIter iter;

	if (map == NULL)
		return;
	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, NULL))
		firn_commit_clash(x, kind, path, coords, firn_chunk_map_rank(map), swapped);
}

/* A node of the base that we deleted. */
static void
check_deleted(const FirnCommitCompare *x, const FirnNodeChange *change, const FirnSnapshotNode *old)
{
	FirnSnapshotNode node;

	if (!find_node(x->c->parent, &change->id, &node))
		return;
	if (!same_bytes(old->meta, node.meta))
		firn_commit_clash(x, FIRN_CONFLICT_META_DELETED, change->path, NULL, 0, true);
	clash_all(x, FIRN_CONFLICT_CHUNK_NO_ARRAY, change->path,
		  g_hash_table_lookup(x->chunks, &change->id), true);
}

/* Whether a document we wrote dropped chunks of the base. */
static bool
has_dropped(const FirnCommitCompare *x, const FirnNodeChange *change, const FirnSnapshotNode *old)
{
	uint32_t grid[FIRN_MAX_RANK];

	if (change->keep == NULL || old->kind != FIRN_NODE_ARRAY)
		return false;
	if (change->keep_rank != old->rank)
		return true;
	firn_commit_node_grid(x->c->start, old, grid);
	for (uint32_t i = 0; i < old->rank; i++)
		if (change->keep[i] < grid[i])
			return true;
	return false;
}

/*
 * Whether our document and the branch's, which both changed it, collide.  One that
 * was written as it had been is no change, unless chunks were dropped on the way.
 */
static bool
documents_collide(const FirnCommitCompare *x, FirnNodeChange *change, const FirnSnapshotNode *old,
		  const FirnSnapshotNode *node)
{
	if (firn_commit_same_document(node->meta, change->meta))
		return false;
	if (!firn_commit_same_document(old->meta, change->meta) || has_dropped(x, change, old))
		return true;
	g_hash_table_add(x->c->reverted, change);
	return false;
}

/* A node of the base that we changed. */
static bool
check_changed(const FirnCommitCompare *x, FirnNodeChange *change, const FirnSnapshotNode *old,
	      GError **error)
{
	FirnSnapshotNode node;
	bool theirs, written = change->kind == FIRN_CHANGE_PUT;

	if (!find_node(x->c->parent, &change->id, &node)) {
		if (written)
			firn_commit_clash(x, FIRN_CONFLICT_META_DELETED, change->path, NULL, 0,
					  false);
		clash_all(x, FIRN_CONFLICT_CHUNK_NO_ARRAY, change->path, change->chunks, false);
		return true;
	}
	theirs = !same_bytes(old->meta, node.meta);
	if (written && theirs && documents_collide(x, change, old, &node)) {
		firn_commit_clash(x, FIRN_CONFLICT_META, change->path, NULL, 0, false);
		return true;
	}
	written = written && !g_hash_table_contains(x->c->reverted, change);
	if (written && change->meta->kind == FIRN_NODE_ARRAY && node.kind == FIRN_NODE_ARRAY &&
	    !firn_commit_check_theirs(x, change, old, &node, error))
		return false;
	if (theirs && !written)
		firn_commit_check_ours(x, change, old, &node);
	return firn_commit_collide(x, change, &node, false, error);
}

/* A node we made, where the branch has one. */
static bool
check_created(const FirnCommitCompare *x, FirnNodeChange *change, GError **error)
{
	FirnSnapshotNode node;
	size_t index;

	if (!find_path(x->c->parent, change->path, &node) || is_deleted(x->c, &node.id))
		return true;
	if (node.kind != change->meta->kind) {
		firn_commit_clash(x, FIRN_CONFLICT_KIND, change->path, NULL, 0, false);
		return true;
	}
	if (firn_snapshot_find_id(x->c->start, &node.id, &index) ||
	    !firn_commit_same_document(node.meta, change->meta)) {
		firn_commit_clash(x, FIRN_CONFLICT_CREATED, change->path, NULL, 0, false);
		return true;
	}
	g_hash_table_insert(x->c->aliases, g_memdup2(&node.id, sizeof node.id), change);
	g_hash_table_add(x->c->adopted, change);
	return firn_commit_collide(x, change, &node, true, error);
}

static bool
check_change(const FirnCommitCompare *x, FirnNodeChange *change, GError **error)
{
	FirnSnapshotNode old;

	if (find_node(x->c->start, &change->id, &old)) {
		if (change->kind != FIRN_CHANGE_DELETE)
			return check_changed(x, change, &old, error);
		check_deleted(x, change, &old);
		return true;
	}
	return change->kind != FIRN_CHANGE_PUT || check_created(x, change, error);
}

/* ---- what is above new nodes ---- */

/* Whether one of ours, made below `path` (its own if `self`), is in the way of what the branch did. */
static bool
check_above_ours(const FirnCommitCompare *x, const FirnNodeChange *change, const char *path,
		 bool self)
{
	FirnSnapshotNode old, now, kept;
	bool there = find_path(x->c->parent, path, &now);

	if (!self && there && now.kind == FIRN_NODE_ARRAY && !is_deleted(x->c, &now.id)) {
		firn_commit_clash(x, FIRN_CONFLICT_PARENT, change->path, NULL, 0, false);
		return false;
	}
	if (!find_path(x->c->start, path, &old) || find_node(x->c->parent, &old.id, &kept))
		return true;
	/* The branch deleted it: fine if we did too, and it made something new there. */
	if (there && is_deleted(x->c, &old.id))
		return true;
	firn_commit_clash(x, self ? FIRN_CONFLICT_META_DELETED : FIRN_CONFLICT_PARENT, change->path,
			  NULL, 0, false);
	return false;
}

/* The same for one of the branch's, and what we did. */
static bool
check_above_theirs(const FirnCommitCompare *x, const char *node_path, const char *path, bool self)
{
	const FirnNodeChange *mine = firn_changes_find_path(x->c->changes, path);
	FirnSnapshotNode old, kept;
	bool made = mine != NULL && mine->created;

	if (!self && made && mine->meta != NULL && mine->meta->kind == FIRN_NODE_ARRAY) {
		firn_commit_clash(x, FIRN_CONFLICT_PARENT, node_path, NULL, 0, true);
		return false;
	}
	if (!find_path(x->c->start, path, &old) || !is_deleted(x->c, &old.id))
		return true;
	if (made && !find_node(x->c->parent, &old.id, &kept))
		return true;
	firn_commit_clash(x, self ? FIRN_CONFLICT_META_DELETED : FIRN_CONFLICT_PARENT, node_path,
			  NULL, 0, true);
	return false;
}

static void
walk_ours(const FirnCommitCompare *x, const FirnNodeChange *change)
{
	g_autofree char *path = g_strdup(change->path);
	size_t len = strlen(path);
	bool self = true;

	do {
		path[len] = '\0';
		if (!check_above_ours(x, change, path, self))
			return;
		self = false;
	} while (firn_conflict_parent_path(path, &len));
}

static void
walk_theirs(const FirnCommitCompare *x, const FirnSnapshotNode *node)
{
	g_autofree char *whole = g_strndup((const char *)node->path.data, node->path.len);
	g_autofree char *path = g_strdup(whole);
	size_t len = strlen(path);
	bool self = true;

	do {
		path[len] = '\0';
		if (!check_above_theirs(x, whole, path, self))
			return;
		self = false;
	} while (firn_conflict_parent_path(path, &len));
}

static void
check_places(const FirnCommitCompare *x, const GPtrArray *changes)
{
	bool matters = false;
	FirnSnapshotNode node, old;

	for (guint i = 0; i < changes->len; i++) {
		const FirnNodeChange *change = changes->pdata[i];
		bool in_start = find_node(x->c->start, &change->id, &old);

		matters = matters || change->kind == FIRN_CHANGE_DELETE || !in_start;
		if (change->kind == FIRN_CHANGE_PUT && !in_start)
			walk_ours(x, change);
	}
	for (size_t i = 0; matters && i < firn_snapshot_n_nodes(x->c->parent); i++) {
		firn_snapshot_node(x->c->parent, i, &node);
		if (!find_node(x->c->start, &node.id, &old))
			walk_theirs(x, &node);
	}
}

/* ---- the whole ---- */

static bool
compare(FirnCommitCompare *x, const FirnRepoInfo *info, const FirnId12 *tip, GError **error)
{
	FirnCommitting *c = x->c;
	g_autoptr(GPtrArray) changes = firn_changes_sorted_by_id(c->changes);
	g_autoptr(GArray) logs =
		logs_between(info, c->options->branch, &c->options->base, tip, error);

	if (logs == NULL)
		return false;
	/* Nothing is put on top of anything, whatever the branch did. */
	if (changes->len == 0)
		return true;
	for (guint i = 0; i < logs->len; i++)
		if (!read_log(x, &g_array_index(logs, FirnId12, i), error))
			return false;
	/* Paths of before and after a move cannot be compared. */
	if (x->conflicts->n > 0)
		return true;
	for (guint i = 0; i < changes->len; i++)
		if (!check_change(x, changes->pdata[i], error))
			return false;
	check_places(x, changes);
	return true;
}

bool
firn_commit_rebase(FirnCommitting *c, const FirnRepoInfo *info, const FirnId12 *tip,
		   FirnConflicts *conflicts, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	FirnCommitCompare x = { .c = c, .conflicts = conflicts, .snapshot = text };
	bool done;

	firn_id12_format(tip, text);
	c->parent = firn_repo_get_snapshot(c->repo, tip, error);
	if (c->parent == NULL)
		return false;
	x.chunks = g_hash_table_new_full(firn_id8_hash, firn_id8_equal, g_free, free_map);
	c->aliases = g_hash_table_new_full(firn_id8_hash, firn_id8_equal, g_free, NULL);
	c->adopted = g_hash_table_new(NULL, NULL);
	c->reverted = g_hash_table_new(NULL, NULL);
	c->theirs = g_hash_table_new_full(firn_id8_hash, firn_id8_equal, g_free, free_map);
	done = compare(&x, info, tip, error);
	g_hash_table_unref(x.chunks);
	if (!done || conflicts->n == 0)
		return done;
	g_set_error(
		error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		"branch %s has snapshot %s by now, which collides with these changes in %" G_GUINT64_FORMAT
		" places; settle chunks with --rebase=ours or --rebase=theirs, or drop these changes "
		"('firn discard'), go on from there ('firn commit --rebase') and make them again",
		c->options->branch, text, conflicts->n);
	return false;
}
