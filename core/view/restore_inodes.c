#include "core/view/restore_priv.h"

#include <string.h>

/* ---- trees ---- */

static bool
restore_tree(FirnRestore *restore, uint64_t number, GBytes *record, GError **error)
{
	FirnKeepReader reader = firn_keep_reader(record);
	uint64_t role = firn_keep_take(&reader);
	FirnView *view = restore->view;
	FirnTree *tree;
	FirnId12 base;

	firn_keep_take_fixed(&reader, &base, sizeof base);
	tree = g_new0(FirnTree, 1);
	tree->number = number;
	tree->session = role != FIRN_KEPT_TREE_SNAPSHOT;
	tree->base = firn_repo_get_snapshot(view->repo, &base, error);
	if (tree->base == NULL) {
		g_free(tree);
		return false;
	}
	g_hash_table_insert(restore->trees, &tree->number, tree);
	if (role == FIRN_KEPT_TREE_OLD) {
		g_ptr_array_add(view->old_trees, tree);
	} else if (role == FIRN_KEPT_TREE_SNAPSHOT) {
		g_hash_table_insert(view->snapshots, g_memdup2(&base, sizeof base), tree);
	} else if (view->tree == NULL) {
		view->tree = tree;
	} else {
		g_ptr_array_add(view->old_trees, tree);
		return firn_restore_refuse(error, "two trees");
	}
	return true;
}

bool
firn_restore_trees(FirnRestore *restore, const FirnId12 *base, GError **error)
{
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_TREE]);
	while (g_hash_table_iter_next(&iter, &key, &value))
		if (!restore_tree(restore, *(const uint64_t *)key, value, error))
			return false;
	if (restore->view->tree == NULL ||
	    firn_id12_compare(firn_snapshot_id(restore->view->tree->base), base) != 0)
		return firn_restore_refuse(error, "no tree of the session");
	return true;
}

/* ---- inodes ---- */

/* The inode of a number, which may be none; or NULL and `wrong`. */
static FirnInode *
need(FirnRestore *restore, uint64_t ino, bool directory)
{
	FirnInode *inode = firn_inode_find(restore->view, ino);

	if (inode != NULL && inode->directory == directory)
		return inode;
	restore->wrong = "an inode is missing";
	return NULL;
}

static FirnInode *
make_dir(FirnRestore *restore, uint64_t ino, FirnKeepReader *reader)
{
	FirnDir *dir = g_new0(FirnDir, 1);
	uint64_t number = firn_keep_take(reader);

	firn_inode_init(restore->view, &dir->inode, ino, true);
	dir->children = g_hash_table_new(g_str_hash, g_str_equal);
	dir->tree = g_hash_table_lookup(restore->trees, &number);
	if (dir->tree == NULL) {
		dir->tree = restore->view->tree;
		restore->wrong = "a tree is missing";
	}
	firn_keep_take_fixed(reader, &dir->id, sizeof dir->id);
	dir->base_index = (size_t)firn_keep_take(reader);
	/* Which slots are its own is found out when there are some. */
	(void)firn_keep_take(reader);
	(void)firn_keep_take(reader);
	return &dir->inode;
}

static FirnInode *
make_leaf(FirnRestore *restore, uint64_t ino, const char *name, FirnKeepReader *reader)
{
	uint64_t kind = firn_keep_take(reader);
	FirnLeaf *leaf = firn_leaf_new(restore->view, NULL, name,
				       (FirnLeafKind)MIN(kind, FIRN_LEAF_SCRATCH), ino);
	FirnSpan coords;
	FirnSpan retired;

	leaf->kept = true;
	leaf->key = firn_keep_take(reader);
	g_hash_table_insert(restore->view->held_leaves, &leaf->key, leaf);
	/* The array is looked for when all are there. */
	(void)firn_keep_take(reader);
	coords = firn_keep_take_bytes(reader);
	leaf->rank = (uint32_t)MIN(coords.len / sizeof(uint32_t), FIRN_MAX_RANK);
	leaf->coords = g_new0(uint32_t, MAX(leaf->rank, 1));
	if (leaf->rank > 0)
		memcpy(leaf->coords, coords.data, leaf->rank * sizeof(uint32_t));
	retired = firn_keep_take_bytes(reader);
	if (retired.len >= sizeof(FirnPart)) {
		leaf->retired = g_array_new(FALSE, FALSE, sizeof(FirnPart));
		g_array_append_vals(leaf->retired, retired.data,
				    (guint)(retired.len / sizeof(FirnPart)));
	}
	return &leaf->inode;
}

/* The part of a record all inodes have. */
typedef struct {
	uint64_t flags;
	uint64_t parent;
	char *name;
	mode_t mode;
	int64_t mtime_ns;
} Common;

static Common
take_common(FirnKeepReader *reader)
{
	Common common;

	common.flags = firn_keep_take(reader);
	common.parent = firn_keep_take(reader);
	common.name = firn_keep_take_text(reader);
	common.mode = (mode_t)firn_keep_take(reader);
	common.mtime_ns = (int64_t)firn_keep_take(reader);
	return common;
}

static void
make_inode(FirnRestore *restore, uint64_t ino, GBytes *record)
{
	FirnKeepReader reader = firn_keep_reader(record);
	Common common = take_common(&reader);
	FirnInode *inode = (common.flags & FIRN_KEPT_IS_DIR) != 0
				   ? make_dir(restore, ino, &reader)
				   : make_leaf(restore, ino, common.name, &reader);
	FirnLeaf *leaf = inode->directory ? NULL : (FirnLeaf *)inode;

	/* The first reference is ours, until everything that needs it is there. */
	g_ptr_array_add(restore->view->held, inode);
	inode->dead = (common.flags & FIRN_KEPT_IS_DEAD) != 0;
	inode->mode = common.mode;
	inode->mtime_ns = common.mtime_ns;
	if ((common.flags & FIRN_KEPT_IS_KNOWN) != 0) {
		firn_inode_looked_up(inode);
		inode->restored = true;
	}
	if (leaf != NULL) {
		leaf->is_lock = (common.flags & FIRN_KEPT_IS_LOCK) != 0;
		leaf->transient = (common.flags & FIRN_KEPT_IS_TRANSIENT) != 0;
	}
	g_free(common.name);
	if (reader.bad)
		restore->wrong = "a record is short";
}

/* Its parent, and what else it refers to. */
static void
link_inode(FirnRestore *restore, FirnInode *inode, GBytes *record)
{
	FirnKeepReader reader = firn_keep_reader(record);
	Common common = take_common(&reader);
	FirnInode *parent = common.parent != 0 ? need(restore, common.parent, true) : NULL;
	FirnLeaf *leaf = inode->directory ? NULL : (FirnLeaf *)inode;
	FirnInode *array;
	uint64_t ino;

	g_free(inode->name);
	inode->name = common.name;
	if (parent != NULL) {
		inode->parent = (FirnDir *)firn_inode_ref(parent);
		if ((common.flags & FIRN_KEPT_IS_LINKED) != 0)
			g_hash_table_insert(inode->parent->children, inode->name,
					    firn_inode_ref(inode));
	}
	if (leaf == NULL)
		return;
	if (parent != NULL && (common.flags & FIRN_KEPT_IS_DOC) != 0)
		inode->parent->doc = (FirnLeaf *)firn_inode_ref(inode);
	/* Its kind and key. */
	(void)firn_keep_take(&reader);
	(void)firn_keep_take(&reader);
	ino = firn_keep_take(&reader);
	array = ino != 0 ? need(restore, ino, true) : NULL;
	if (array != NULL)
		leaf->array = (FirnDir *)firn_inode_ref(array);
}

static void
restore_slots(FirnRestore *restore)
{
	GHashTable *slots = restore->kept->kinds[FIRN_KEPT_SLOT];

	for (uint64_t number = 1; number <= g_hash_table_size(slots); number++) {
		GBytes *record = firn_kept_find(restore->kept, FIRN_KEPT_SLOT, number);
		FirnKeepReader reader = firn_keep_reader(record);
		g_autoptr(FirnSnapshot) snapshot = NULL;
		FirnInode *dir;
		FirnId12 id;
		size_t index;

		firn_keep_take_fixed(&reader, &id, sizeof id);
		index = (size_t)firn_keep_take(&reader);
		dir = need(restore, firn_keep_take(&reader), true);
		if (reader.bad || dir == NULL) {
			restore->wrong = "a slot is missing";
			return;
		}
		/* An old one may have been expired. */
		snapshot = firn_repo_get_snapshot(restore->view->repo, &id, NULL);
		if (snapshot == NULL) {
			firn_slot_add_lost(restore->view, &id, index, (FirnDir *)dir);
			continue;
		}
		if (index >= firn_snapshot_n_nodes(snapshot)) {
			restore->wrong = "a slot of no node";
			return;
		}
		firn_slot_add(restore->view, snapshot, index, (FirnDir *)dir);
	}
}

static FirnSlot *
slot_of_number(FirnRestore *restore, uint64_t number)
{
	GPtrArray *slots = restore->view->slots;

	FirnSlot *slot;

	if (number == 0 || number > slots->len)
		return NULL;
	slot = g_ptr_array_index(slots, number - 1);
	return slot->n_chunks != NULL ? slot : NULL;
}

/* The node a directory is, as overlay or base have it. */
static void
bind_node(FirnRestore *restore, FirnDir *dir, uint64_t flags)
{
	FirnNodeChange *change =
		dir->tree->session ? firn_changes_find(restore->view->session->changes, &dir->id)
				   : NULL;
	FirnId8 id = dir->id;
	FirnSnapshotNode node;
	FirnMeta *meta;

	if (change != NULL && change->meta != NULL) {
		firn_dir_set_node(dir, &id, change->meta);
	} else if ((flags & FIRN_KEPT_IN_BASE) != 0 &&
		   dir->base_index < firn_snapshot_n_nodes(dir->tree->base)) {
		firn_snapshot_node(dir->tree->base, dir->base_index, &node);
		meta = firn_tree_base_meta(dir->tree->base, &node);
		firn_dir_set_node(dir, &id, meta);
		firn_meta_unref(meta);
	} else {
		restore->wrong = "a node is missing";
		return;
	}
	dir->in_base = (flags & FIRN_KEPT_IN_BASE) != 0;
	dir->doc_missing = (flags & FIRN_KEPT_DOC_MISSING) != 0;
}

static void
finish_dir(FirnRestore *restore, FirnDir *dir, GBytes *record)
{
	FirnKeepReader reader = firn_keep_reader(record);
	Common common = take_common(&reader);
	FirnId8 id;

	(void)firn_keep_take(&reader);
	firn_keep_take_fixed(&reader, &id, sizeof id);
	(void)firn_keep_take(&reader);
	dir->dir_slot = slot_of_number(restore, firn_keep_take(&reader));
	dir->file_slot = slot_of_number(restore, firn_keep_take(&reader));
	/* Nothing is looked for in a directory that is gone. */
	if ((common.flags & FIRN_KEPT_HAS_NODE) != 0 && !dir->inode.dead)
		bind_node(restore, dir, common.flags);
	g_free(common.name);
}

bool
firn_restore_inodes(FirnRestore *restore, GError **error)
{
	GHashTable *records = restore->kept->kinds[FIRN_KEPT_INODE];
	GPtrArray *held = restore->view->held;
	GError *failure = NULL;
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, records);
	while (g_hash_table_iter_next(&iter, &key, &value))
		make_inode(restore, *(const uint64_t *)key, value);
	for (guint i = 0; i < held->len; i++) {
		FirnInode *inode = held->pdata[i];

		link_inode(restore, inode, g_hash_table_lookup(records, &inode->ino));
	}
	restore_slots(restore);
	if (failure != NULL) {
		g_propagate_error(error, failure);
		return false;
	}
	for (guint i = 0; i < held->len; i++) {
		FirnInode *inode = held->pdata[i];

		if (inode->directory)
			finish_dir(restore, (FirnDir *)inode,
				   g_hash_table_lookup(records, &inode->ino));
	}
	return restore->wrong == NULL || firn_restore_refuse(error, restore->wrong);
}

bool
firn_restore_removed(FirnRestore *restore, GError **error)
{
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_REMOVED]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		FirnKeepReader reader = firn_keep_reader(value);
		FirnInode *array = need(restore, firn_keep_take(&reader), true);

		if (array != NULL)
			firn_dir_restore_removed((FirnDir *)array, *(uint64_t *)key,
						 firn_keep_take_text(&reader));
	}
	return restore->wrong == NULL || firn_restore_refuse(error, restore->wrong);
}

bool
firn_restore_roots(FirnRestore *restore, GError **error)
{
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_TREE]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		FirnKeepReader reader = firn_keep_reader(value);
		FirnTree *tree = g_hash_table_lookup(restore->trees, key);
		FirnInode *root;
		FirnId12 base;
		uint64_t ino;

		(void)firn_keep_take(&reader);
		firn_keep_take_fixed(&reader, &base, sizeof base);
		ino = firn_keep_take(&reader);
		if (tree == restore->view->tree)
			ino = restore->root;
		root = ino != 0 ? need(restore, ino, true) : NULL;
		if (root != NULL)
			tree->root = (FirnDir *)firn_inode_ref(root);
	}
	return restore->wrong == NULL || firn_restore_refuse(error, restore->wrong);
}
