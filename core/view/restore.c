#include "core/view/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A view as one that died had it: the reader of what keep.c writes. */

typedef struct {
	FirnView *view;
	const FirnKept *kept;
	GHashTable *trees;   /* &number -> FirnTree * */
	GHashTable *objects; /* FirnId12 * -> FirnContent *: one object, one content; borrowed */
	GHashTable *owned;   /* FirnId12 *: objects that records name */
	uint64_t root;       /* inode of the session's; 0: removed */
	const char *wrong;   /* what does not fit; NULL: nothing */
} Restore;

static bool
refuse(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
		    "what the driver left does not fit together: %s", what);
	return false;
}

bool
firn_view_kept(const FirnKept *kept, FirnViewKept *out, GError **error)
{
	GBytes *record = firn_kept_find(kept, FIRN_KEPT_VIEW, 0);
	FirnKeepReader reader = firn_keep_reader(record);

	out->next_ino = firn_keep_take(&reader);
	out->next_tree = firn_keep_take(&reader);
	out->journal_file = firn_keep_take(&reader);
	out->journal_end = firn_keep_take(&reader);
	firn_keep_take_fixed(&reader, &out->base, sizeof out->base);
	out->committing = firn_keep_take(&reader) != 0;
	out->commit_seq = firn_keep_take(&reader);
	out->root = firn_keep_take(&reader);
	return !reader.bad || refuse(error, "nothing of the view");
}

/* ---- trees ---- */

static bool
restore_tree(Restore *restore, uint64_t number, GBytes *record, GError **error)
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
		return refuse(error, "two trees");
	}
	return true;
}

static bool
restore_trees(Restore *restore, const FirnId12 *base, GError **error)
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
		return refuse(error, "no tree of the session");
	return true;
}

/* ---- inodes ---- */

/* The inode of a number, which may be none; or NULL and `wrong`. */
static FirnInode *
need(Restore *restore, uint64_t ino, bool directory)
{
	FirnInode *inode = firn_inode_find(restore->view, ino);

	if (inode != NULL && inode->directory == directory)
		return inode;
	restore->wrong = "an inode is missing";
	return NULL;
}

static FirnInode *
make_dir(Restore *restore, uint64_t ino, FirnKeepReader *reader)
{
	FirnDir *dir = g_new0(FirnDir, 1);
	uint64_t number = firn_keep_take(reader);
	uint64_t n_removed;

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
	n_removed = firn_keep_take(reader);
	if (n_removed > 0)
		dir->removed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (uint64_t i = 0; i < n_removed && !reader->bad; i++)
		g_hash_table_add(dir->removed, firn_keep_take_text(reader));
	return &dir->inode;
}

static FirnInode *
make_leaf(Restore *restore, uint64_t ino, const char *name, FirnKeepReader *reader)
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
	if (retired.len >= sizeof(FirnId12)) {
		leaf->retired = g_array_new(FALSE, FALSE, sizeof(FirnId12));
		g_array_append_vals(leaf->retired, retired.data,
				    (guint)(retired.len / sizeof(FirnId12)));
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
make_inode(Restore *restore, uint64_t ino, GBytes *record)
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
link_inode(Restore *restore, FirnInode *inode, GBytes *record)
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
restore_slots(Restore *restore, GError **error)
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
		snapshot = firn_repo_get_snapshot(restore->view->repo, &id, error);
		if (snapshot == NULL)
			return;
		if (index >= firn_snapshot_n_nodes(snapshot)) {
			restore->wrong = "a slot of no node";
			return;
		}
		firn_slot_add(restore->view, snapshot, index, (FirnDir *)dir);
	}
}

static FirnSlot *
slot_of_number(Restore *restore, uint64_t number)
{
	GPtrArray *slots = restore->view->slots;

	if (number == 0 || number > slots->len)
		return NULL;
	return g_ptr_array_index(slots, number - 1);
}

/* The node a directory is, as overlay or base have it. */
static void
bind_node(Restore *restore, FirnDir *dir, uint64_t flags)
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
finish_dir(Restore *restore, FirnDir *dir, GBytes *record)
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

static bool
restore_inodes(Restore *restore, GError **error)
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
	restore_slots(restore, &failure);
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
	return restore->wrong == NULL || refuse(error, restore->wrong);
}

static bool
restore_roots(Restore *restore, GError **error)
{
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_TREE]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		FirnKeepReader reader = firn_keep_reader(value);
		FirnTree *tree = g_hash_table_lookup(restore->trees, key);
		FirnId12 base;
		uint64_t ino;

		(void)firn_keep_take(&reader);
		firn_keep_take_fixed(&reader, &base, sizeof base);
		ino = firn_keep_take(&reader);
		if (tree == restore->view->tree)
			ino = restore->root;
		if (ino != 0 && need(restore, ino, true) != NULL)
			tree->root = (FirnDir *)firn_inode_ref(need(restore, ino, true));
	}
	return restore->wrong == NULL || refuse(error, restore->wrong);
}

/* ---- content ---- */

/* Objects of the overlay; and the numbers of its changes, which no journal has. */
static void
restore_changes(Restore *restore)
{
	FirnView *view = restore->view;
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(view->session->changes);
	GHashTableIter pending;
	gpointer value;

	for (guint i = 0; i < nodes->len; i++) {
		FirnNodeChange *node = nodes->pdata[i];
		FirnChunkChange *change;
		const uint32_t *coords;
		FirnChunkIter iter;

		if (node->chunks == NULL)
			continue;
		firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
		while (firn_chunk_iter_next(&iter, &coords, &change)) {
			GBytes *record =
				firn_kept_find(restore->kept, FIRN_KEPT_CHANGE, change->seq);
			FirnKeepReader reader = firn_keep_reader(record);

			change->ino = firn_keep_take(&reader);
			change->mtime_ns = (int64_t)firn_keep_take(&reader);
			if (change->kind != FIRN_REF_NATIVE)
				continue;
			g_hash_table_add(restore->owned, &change->u.id);
		}
	}
	g_hash_table_iter_init(&pending, view->session->changes->pending);
	while (g_hash_table_iter_next(&pending, NULL, &value))
		if (((FirnPending *)value)->content.kind == FIRN_REF_NATIVE)
			g_hash_table_add(restore->owned, &((FirnPending *)value)->content.u.id);
}

static FirnContent *
take_content(Restore *restore, FirnKeepReader *reader)
{
	FirnContent *content = firn_content_restore(restore->view, reader);
	FirnContent *same;

	if (content == NULL || content->kind != FIRN_CONTENT_NATIVE)
		return content;
	same = g_hash_table_lookup(restore->objects, &content->id);
	if (same != NULL && same->offset == content->offset && same->length == content->length) {
		firn_content_unref(content);
		return firn_content_ref(same);
	}
	if (g_hash_table_contains(restore->owned, &content->id))
		content->published = true;
	g_hash_table_insert(restore->objects, &content->id, content);
	return content;
}

static void
restore_content(Restore *restore, FirnLeaf *leaf)
{
	FirnKeepReader content =
		firn_keep_reader(firn_kept_find(restore->kept, FIRN_KEPT_CONTENT, leaf->key));
	FirnKeepReader spool =
		firn_keep_reader(firn_kept_find(restore->kept, FIRN_KEPT_SPOOL, leaf->key));
	GBytes *mtime = firn_kept_find(restore->kept, FIRN_KEPT_MTIME, leaf->key);
	FirnKeepReader time = firn_keep_reader(mtime);

	leaf->unpublished = firn_keep_take(&content) != 0;
	leaf->content = take_content(restore, &content);
	leaf->refused = take_content(restore, &content);
	leaf->size = firn_keep_take(&spool);
	leaf->touched = firn_keep_take(&spool) != 0;
	leaf->dirty = firn_keep_take(&spool) != 0;
	if (mtime != NULL)
		leaf->inode.mtime_ns = (int64_t)firn_keep_take(&time);
	if (content.bad || spool.bad || !firn_spool_restore(restore->view, &spool, &leaf->spool)) {
		g_autofree char *path = firn_inode_path(&leaf->inode);

		firn_view_note(restore->view, path,
			       "what was being written when the driver died is lost");
		leaf->lost = true;
		leaf->dirty = false;
	} else if (leaf->spool != NULL && !leaf->dirty) {
		/* It had become content already. */
		firn_leaf_drop_spool(leaf);
	}
}

/* ---- what was said ---- */

static gint
compare_texts(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
restore_errors(Restore *restore)
{
	g_autoptr(GPtrArray) lines = g_ptr_array_new();
	FirnView *view = restore->view;
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_ERROR]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		gsize len;
		const char *text = g_bytes_get_data(value, &len);

		g_ptr_array_add(lines, g_strndup(text, len));
	}
	/* They begin with their time. */
	g_ptr_array_sort(lines, compare_texts);
	for (guint i = 0; i < lines->len; i++)
		g_queue_push_tail(&view->errors, lines->pdata[i]);
	view->n_notes = lines->len;
}

static void
restore_stale(Restore *restore)
{
	FirnView *view = restore->view;
	GHashTableIter iter;
	gpointer key;
	gpointer value;

	g_hash_table_iter_init(&iter, restore->kept->kinds[FIRN_KEPT_STALE]);
	while (g_hash_table_iter_next(&iter, &key, &value)) {
		FirnKeepReader reader = firn_keep_reader(value);
		FirnInvalidation *invalidation = g_new0(FirnInvalidation, 1);
		bool named;

		invalidation->number = *(const uint64_t *)key;
		invalidation->ino = firn_keep_take(&reader);
		named = firn_keep_take(&reader) != 0;
		invalidation->name = firn_keep_take_text(&reader);
		if (!named)
			g_clear_pointer(&invalidation->name, g_free);
		view->n_stale = MAX(view->n_stale, invalidation->number + 1);
		g_ptr_array_add(view->stale, invalidation);
	}
}

/* ---- all ---- */

static bool
restore_all(Restore *restore, const FirnViewKept *head, GError **error)
{
	FirnView *view = restore->view;
	FirnKeep *keep = view->keep;
	bool ok;

	/* What is restored is kept already. */
	view->keep = NULL;
	view->next_ino = head->next_ino;
	view->next_tree = head->next_tree;
	view->committing = head->committing;
	view->commit_seq = head->commit_seq;
	restore->root = head->root;
	/* Whether a base chunk was ever edited in place is not known: look. */
	view->n_edited = 1;
	ok = restore_trees(restore, &head->base, error) && restore_inodes(restore, error) &&
	     restore_roots(restore, error);
	view->keep = keep;
	if (!ok)
		return false;
	restore_errors(restore);
	restore_stale(restore);
	restore_changes(restore);
	if (view->session->journal != NULL)
		firn_view_find_unsynced(view);
	for (guint i = 0; i < view->held->len; i++) {
		FirnInode *inode = view->held->pdata[i];

		if (!inode->directory)
			restore_content(restore, (FirnLeaf *)inode);
	}
	return true;
}

FirnView *
firn_view_restore(FirnSession *session, const FirnViewOptions *options, const FirnKept *kept,
		  GError **error)
{
	Restore restore = { .kept = kept };
	FirnViewKept head;
	bool ok;

	if (!firn_view_kept(kept, &head, error))
		return NULL;
	restore.view = firn_view_alloc(session, options);
	restore.view->held = g_ptr_array_new();
	restore.view->held_leaves = g_hash_table_new(g_int64_hash, g_int64_equal);
	restore.trees = g_hash_table_new(g_int64_hash, g_int64_equal);
	restore.objects = g_hash_table_new(firn_id12_hash, firn_id12_equal);
	restore.owned = g_hash_table_new(firn_id12_hash, firn_id12_equal);
	ok = restore_all(&restore, &head, error);
	g_hash_table_unref(restore.trees);
	g_hash_table_unref(restore.objects);
	g_hash_table_unref(restore.owned);
	/* What was read so far is left alone: freeing it would remove objects. */
	return ok ? restore.view : NULL;
}

void
firn_view_restored(FirnView *view)
{
	GPtrArray *held;

	pthread_mutex_lock(&view->lock);
	held = view->held;
	view->held = NULL;
	if (view->held_leaves != NULL)
		g_hash_table_unref(view->held_leaves);
	view->held_leaves = NULL;
	for (guint i = 0; held != NULL && i < held->len; i++)
		firn_inode_unref(view, held->pdata[i]);
	firn_view_unlock(view);
	if (held != NULL)
		g_ptr_array_unref(held);
	firn_view_sweep(view);
	firn_view_notify(view);
}

int
firn_view_reopen(FirnView *view, uint64_t ino, const FirnFileKept *kept, FirnFile **out_file)
{
	FirnLeaf *leaf;

	if (kept->base)
		return firn_view_open_base(view, ino, out_file);
	pthread_mutex_lock(&view->lock);
	leaf = g_hash_table_lookup(view->held_leaves, &kept->key);
	firn_view_unlock(view);
	if (leaf == NULL)
		return ESTALE;
	return firn_view_open_leaf(view, leaf, kept->writable ? O_RDWR : O_RDONLY, kept->pid,
				   out_file);
}
