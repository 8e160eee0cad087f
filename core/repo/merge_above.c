#include "core/repo/merge_priv.h"

#include <string.h>

/* A delete by one party. */
typedef struct {
	const FirnMergeNode *node;
	FirnMergeTouch touch;
} Tombstone;

static void
free_tombstones(gpointer array)
{
	g_array_unref(array);
}

static GHashTable *
tombstones_by_path(const FirnMerging *m)
{
	GHashTable *table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_tombstones);

	for (guint i = 0; i < m->order->len; i++) {
		const FirnMergeNode *node = m->order->pdata[i];

		for (guint j = 0; j < node->touches->len; j++) {
			Tombstone stone = { .node = node, .touch = *firn_merge_touch(node, j) };
			GArray *array;

			if (stone.touch.change->kind != FIRN_CHANGE_DELETE)
				continue;
			array = g_hash_table_lookup(table, stone.touch.change->path);
			if (array == NULL) {
				array = g_array_new(FALSE, FALSE, sizeof stone);
				g_hash_table_insert(table, stone.touch.change->path, array);
			}
			g_array_append_val(array, stone);
		}
	}
	return table;
}

/* Whether `party`, or an ancestor where it forked off, deleted `node` too. */
static bool
deleted_by(const FirnMerging *m, const FirnMergeNode *node, unsigned party)
{
	for (guint i = 0; i < node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(node, i);

		if (touch->change->kind == FIRN_CHANGE_DELETE &&
		    touch->change->seq <= firn_merge_seen(m, touch->party, party))
			return true;
	}
	return false;
}

/* Whether `party` put a live node of its own at `path`. */
static bool
recreated_by(const FirnMerging *m, const char *path, unsigned party)
{
	const FirnNodeChange *change =
		firn_changes_find_path(firn_merge_party(m, party)->section->changes, path);

	return change != NULL && change->created;
}

/*
 * A node made by one party, at or below a path at which another one, not
 * knowing of it, deleted something it saw: a conflict, unless both
 * deleted that and the other put something new there.
 */
static void
check_tombstone(FirnMerging *m, const FirnMergeNode *node, const Tombstone *stone)
{
	unsigned y = (unsigned)node->creator, x = stone->touch.party;
	const FirnNodeChange *deleted = stone->touch.change;
	bool self = strcmp(deleted->path, node->path) == 0;

	if (x == y || stone->node == node || !firn_merge_knows(m, stone->node, y))
		return;
	if (firn_merge_before(m, x, deleted->seq, y) ||
	    firn_merge_before(m, y, node->created_seq, x))
		return;
	if (deleted_by(m, stone->node, y) && recreated_by(m, deleted->path, x))
		return;
	firn_merge_clash(m, self ? FIRN_CONFLICT_META_DELETED : FIRN_CONFLICT_PARENT, node->path,
			 firn_merge_creator_name(m, node), firn_merge_party(m, x)->name);
}

/* The party to name for the array (live, or untouched in the base) at `path`; NULL: there is none. */
static const char *
array_owner(const FirnMerging *m, const char *path)
{
	const FirnMergeNode *node = g_hash_table_lookup(m->live, path);
	FirnSnapshotNode base;
	size_t at;

	if (node != NULL)
		return firn_merge_node_kind(m, node) == FIRN_NODE_ARRAY
			       ? firn_merge_creator_name(m, node)
			       : NULL;
	if (!firn_snapshot_find_path(m->base, path, strlen(path), &at))
		return NULL;
	firn_snapshot_node(m->base, at, &base);
	if (g_hash_table_lookup(m->nodes, &base.id) != NULL)
		return NULL;
	return base.kind == FIRN_NODE_ARRAY ? firn_merge_base_name : NULL;
}

static bool
is_missing(const FirnMerging *m, const char *path)
{
	size_t at;

	return g_hash_table_lookup(m->live, path) == NULL &&
	       !firn_snapshot_find_path(m->base, path, strlen(path), &at);
}

/* Whether an ancestor of `party` went on after the fork. */
static bool
parents_went_on(const FirnMerging *m, const FirnMergeParty *party)
{
	for (guint i = 0; i < party->seen->len; i++) {
		const FirnMergeSeen *seen = &g_array_index(party->seen, FirnMergeSeen, i);

		if (firn_merge_party(m, seen->party)->section->last_seq > seen->seq)
			return true;
	}
	return false;
}

/* Who took a node away of which `party` did not know that it is not at `path` any more; NULL: nobody. */
static const char *
remover_name(const FirnMerging *m, const FirnMergeNode *node, const char *path, unsigned party)
{
	const FirnMergeTouch *touch;

	if (node == NULL || node->winner < 0 || (node->live && strcmp(node->path, path) == 0))
		return NULL;
	for (guint i = 0; i < node->touches->len; i++)
		if (firn_merge_touch(node, i)->party == party)
			return NULL;
	touch = firn_merge_touch(node, (guint)node->winner);
	if (firn_merge_before(m, touch->party, touch->change->seq, party))
		return NULL;
	return firn_merge_party(m, touch->party)->name;
}

/*
 * The party to name for what `y` saw at `path` when it was forked, and what is elsewhere now, as a
 * journal only says where its nodes are in the end; NULL: there is none.
 */
static const char *
mover_name(const FirnMerging *m, const char *path, unsigned y)
{
	FirnMergeParty *party = firn_merge_party(m, y);
	const GPtrArray *parents;
	const char *name = NULL;

	if (!is_missing(m, path) || !parents_went_on(m, party))
		return NULL;
	parents = firn_merge_parents(m, party);
	for (guint i = 0; i < parents->len && name == NULL; i++) {
		const FirnSection *section = parents->pdata[i];
		const FirnNodeChange *change = firn_changes_find_path(section->changes, path);

		if (change != NULL)
			name = remover_name(m, g_hash_table_lookup(m->nodes, &change->id), path, y);
	}
	return name;
}

static void
check_place(FirnMerging *m, const FirnMergeNode *node, GHashTable *tombstones)
{
	g_autofree char *path = g_strdup(node->path);
	uint64_t before = m->conflicts.n;
	size_t len = strlen(path);

	/* Of a deleted subtree, the lowest directory is enough to report. */
	do {
		const GArray *stones;
		const char *owner;

		path[len] = '\0';
		stones = g_hash_table_lookup(tombstones, path);
		for (guint i = 0; stones != NULL && i < stones->len; i++)
			check_tombstone(m, node, &g_array_index(stones, Tombstone, i));
		owner = strcmp(path, node->path) != 0 ? array_owner(m, path) : NULL;
		if (owner == NULL && strcmp(path, node->path) != 0)
			owner = mover_name(m, path, (unsigned)node->creator);
		if (owner != NULL && m->conflicts.n == before)
			firn_merge_clash(m, FIRN_CONFLICT_PARENT, node->path,
					 firn_merge_creator_name(m, node), owner);
	} while (m->conflicts.n == before && firn_conflict_parent_path(path, &len));
}

void
firn_merge_check_above(FirnMerging *m)
{
	g_autoptr(GHashTable) tombstones = tombstones_by_path(m);

	for (guint i = 0; i < m->order->len; i++) {
		const FirnMergeNode *node = m->order->pdata[i];

		if (node->live && node->creator >= 0)
			check_place(m, node, tombstones);
	}
}
