#include "core/view/group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The leaf at a name, as a table entry with a reference; or a directory (`*out_dir`). */
static int
find_source(FirnView *view, uint64_t parent, const char *name, FirnInode **out_inode)
{
	FirnPlace place;
	FirnInode *inode;
	struct stat attr;
	FirnLeaf *leaf;
	int failed = firn_place_find(view, parent, &place);

	if (failed == 0)
		failed = firn_place_writable(view, &place);
	if (failed != 0)
		return failed;
	inode = firn_tree_child(view, &place, name);
	if (inode == NULL) {
		firn_view_unlock(view);
		failed = firn_view_lookup(view, parent, name, &attr);
		pthread_mutex_lock(&view->lock);
		if (failed != 0)
			return failed;
		if (S_ISDIR(attr.st_mode))
			return EXDEV;
		failed = firn_chunk_take_leaf(view, attr.st_ino, &leaf);
		if (failed != 0)
			return failed;
		inode = &leaf->inode;
		firn_inode_ref(inode);
		/* The number of its place is not that of another.  But what was changed in place
		 * the kernel knows by it, and must find it while it does. */
		if (firn_view_is_computed(inode->ino) && inode->refs == 1)
			firn_inode_renumber(view, inode);
		else
			inode->stays = firn_view_is_computed(inode->ino);
		/* Look-ups of before the change were answered from the base, and not counted. */
		if (!inode->stays || inode->n_lookup > 1)
			firn_inode_unlook(view, inode);
		*out_inode = inode;
		return 0;
	}
	*out_inode = firn_inode_ref(inode);
	return 0;
}

static int
target_of(FirnView *view, uint64_t parent, const char *name, FirnPlace *out_place,
	  FirnRole *out_role)
{
	FirnInode *there;
	int failed;

	if (parent == FIRN_INO_TOP)
		return EPERM;
	failed = firn_place_find(view, parent, out_place);
	if (failed == 0)
		failed = firn_place_writable(view, out_place);
	if (failed == 0 && out_place->dir != NULL && out_place->dir->inode.dead)
		failed = ENOENT;
	if (failed == 0)
		failed = firn_place_role(view, out_place, name, out_role);
	if (failed != 0)
		return failed;
	there = firn_tree_child(view, out_place, name);
	return there != NULL && there->directory ? EISDIR : 0;
}

/* As target_of, for a leaf that was prepared: without a document, none is put. */
static int
role_of(FirnView *view, uint64_t parent, const char *name, const FirnMeta *meta,
	FirnPlace *out_place, FirnRole *out_role)
{
	int failed = target_of(view, parent, name, out_place, out_role);

	if (failed == 0 && out_role->kind == FIRN_LEAF_DOC && meta == NULL) {
		if (out_place->dir != NULL && out_place->dir->has_node)
			return EINVAL;
		out_role->kind = FIRN_LEAF_PENDING;
	}
	return failed;
}

static bool
exists(FirnView *view, uint64_t parent, const char *name)
{
	struct stat attr;

	if (firn_view_lookup(view, parent, name, &attr) != 0)
		return false;
	firn_view_forget(view, attr.st_ino, 1);
	return true;
}

/* Everything a leaf needs before it can get a name; its lock is held, the view's not. */
static int
prepare(FirnView *view, FirnLeaf *leaf, uint64_t parent, const char *name, FirnMeta **out_meta)
{
	g_autofree char *path = NULL;
	bool node = false;
	FirnPlace place;
	FirnRole role;
	int failed;

	*out_meta = NULL;
	pthread_mutex_lock(&view->lock);
	failed = target_of(view, parent, name, &place, &role);
	if (failed == 0) {
		path = firn_place_path(&place, name);
		node = place.dir != NULL && place.dir->has_node;
	}
	firn_view_unlock(view);
	if (failed == 0)
		failed = firn_leaf_complete(view, leaf, role.kind);
	if (failed != 0)
		return failed;
	if (role.kind == FIRN_LEAF_DOC && (node || !firn_node_is_foreign(leaf->content)))
		return firn_node_parse(view, path, leaf->content, out_meta);
	return role.kind != FIRN_LEAF_SCRATCH ? firn_content_settle(view, &leaf->content) : 0;
}

/* A leaf that was detached, and got no other place, is where it was. */
static void
put_back(FirnLeaf *leaf, FirnDir *parent, bool linked, bool doc)
{
	if (doc && parent->doc == NULL && parent->doc_missing) {
		firn_inode_ref(&leaf->inode);
		parent->doc = leaf;
		parent->doc_missing = false;
	}
	if (linked && g_hash_table_lookup(parent->children, leaf->inode.name) == NULL) {
		firn_inode_ref(&leaf->inode);
		g_hash_table_insert(parent->children, leaf->inode.name, leaf);
	}
	firn_keep_mark(&leaf->inode);
	if (parent != NULL)
		firn_keep_mark(&parent->inode);
}

/* What fails at its new place has not left its old one.  View and leaf lock held. */
static int
move_leaf(FirnView *view, FirnLeaf *leaf, uint64_t new_parent, const char *new_name,
	  const FirnRole *to, FirnMeta *meta)
{
	FirnDir *parent = leaf->inode.parent;
	bool doc = parent != NULL && parent->doc == leaf;
	bool linked =
		parent != NULL && g_hash_table_lookup(parent->children, leaf->inode.name) == leaf;
	/* A document may take I/O; one that is pending leaves its place when it is put. */
	bool group = to->kind != FIRN_LEAF_DOC;
	FirnRole role = *to;
	FirnPlace place;
	int failed = 0;

	if (group)
		firn_group_begin(view);
	if (leaf->kind != FIRN_LEAF_SCRATCH && (group || leaf->kind != FIRN_LEAF_PENDING))
		failed = firn_leaf_detach(view, leaf, false);
	if (failed == 0)
		failed = role_of(view, new_parent, new_name, meta, &place, &role);
	if (failed == 0)
		failed = firn_leaf_attach(view, leaf, &place, new_name, &role, meta);
	if (group)
		(void)firn_group_end(view, failed);
	if (failed != 0)
		put_back(leaf, parent, linked, doc);
	return failed;
}

static int
rename_leaf(FirnView *view, FirnLeaf *leaf, uint64_t new_parent, const char *new_name)
{
	g_autoptr(FirnMeta) meta = NULL;
	FirnPlace place;
	FirnRole role;
	int failed;

	pthread_mutex_lock(&leaf->lock);
	failed = prepare(view, leaf, new_parent, new_name, &meta);
	if (failed == 0) {
		pthread_mutex_lock(&view->lock);
		if (meta != NULL || leaf->kind == FIRN_LEAF_DOC)
			failed = firn_node_wait_killable(view);
		if (failed == 0)
			failed = leaf->inode.dead
					 ? ENOENT
					 : role_of(view, new_parent, new_name, meta, &place, &role);
		if (failed == 0)
			failed = move_leaf(view, leaf, new_parent, new_name, &role, meta);
		firn_view_unlock(view);
	}
	pthread_mutex_unlock(&leaf->lock);
	return failed;
}

/* Records of pending files below a directory that is about to move, or has moved. */
static void
collect_pending(FirnDir *dir, GPtrArray *leaves)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		if (child->directory)
			collect_pending((FirnDir *)child, leaves);
		else if (((FirnLeaf *)child)->kind == FIRN_LEAF_PENDING)
			g_ptr_array_add(leaves, child);
	}
}

static int
rekey_pending(FirnView *view, GPtrArray *leaves, GPtrArray *old_paths)
{
	FirnSession *session = view->session;
	GError *error = NULL;

	for (guint i = 0; i < leaves->len; i++) {
		g_autofree char *path = firn_inode_path(leaves->pdata[i]);
		FirnPending *pending =
			g_hash_table_lookup(session->changes->pending, old_paths->pdata[i]);
		FirnRef none = { .kind = FIRN_REF_NONE };
		FirnRef ref;
		uint64_t seq;

		if (pending == NULL)
			continue;
		firn_chunk_change_get(&pending->content, &ref);
		if (!firn_journal_put_pending(session->journal, path, &ref, &seq, &error))
			return firn_view_fail(view, path, error);
		firn_view_recorded(view);
		firn_group_was_pending(view, path);
		firn_changes_put_pending(session->changes, path, &ref, seq);
		if (!firn_journal_put_pending(session->journal, old_paths->pdata[i], &none, &seq,
					      &error))
			return firn_view_fail(view, path, error);
		firn_group_was_pending(view, old_paths->pdata[i]);
		firn_changes_put_pending(session->changes, old_paths->pdata[i], &none, seq);
	}
	return 0;
}

/* Whether a directory can move there, if nothing is in the way.  View lock held. */
static int
check_dir(FirnView *view, FirnDir *dir, uint64_t new_parent, const char *new_name,
	  FirnPlace *out_place)
{
	FirnPlace self;
	FirnPlace child;
	FirnRole role;
	bool file;
	int failed;

	*out_place = (FirnPlace){ .dir = NULL };
	failed = firn_node_wait_killable(view);
	if (failed == 0)
		failed = firn_place_find(view, dir->inode.ino, &self);
	if (failed == 0 && (self.array != NULL || !firn_node_movable(view, dir))) {
		g_autofree char *path = firn_dir_path(dir);

		firn_view_note(view, path,
			       "only what this session made can be renamed; copy and delete");
		return EXDEV;
	}
	if (failed == 0)
		failed = target_of(view, new_parent, new_name, out_place, &role);
	if (failed != 0 && failed != EISDIR)
		return failed;
	if (out_place->array != NULL || firn_place_child(out_place, new_name, &child, &file))
		return EXDEV;
	for (FirnDir *at = out_place->dir; at != NULL; at = at->inode.parent)
		if (at == dir)
			return EINVAL;
	return failed;
}

static void
move_dir(FirnView *view, FirnDir *dir, FirnDir *parent, const char *name)
{
	FirnDir *old = dir->inode.parent;

	firn_inode_ref(&dir->inode);
	if (old != NULL && g_hash_table_lookup(old->children, dir->inode.name) == dir) {
		g_hash_table_remove(old->children, dir->inode.name);
		firn_inode_unref(view, &dir->inode);
		firn_inode_touch(&old->inode);
	}
	dir->inode.parent = NULL;
	firn_inode_link(parent, name, &dir->inode);
	firn_inode_touch(&parent->inode);
	firn_inode_unref(view, &dir->inode);
	if (old != NULL)
		firn_inode_unref(view, &old->inode);
}

static int
rename_dir(FirnView *view, FirnDir *dir, uint64_t new_parent, const char *new_name)
{
	g_autoptr(GPtrArray) leaves = g_ptr_array_new();
	g_autoptr(GPtrArray) old_paths = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *old_name = NULL;
	FirnDir *old_parent;
	FirnPlace place;
	int failed = check_dir(view, dir, new_parent, new_name, &place);

	if (failed == 0 && (dir->inode.dead || dir->inode.parent == NULL))
		failed = ENOENT;
	if (failed != 0)
		return failed;
	old_parent = dir->inode.parent;
	old_name = g_strdup(dir->inode.name);
	collect_pending(dir, leaves);
	for (guint i = 0; i < leaves->len; i++)
		g_ptr_array_add(old_paths, firn_inode_path(leaves->pdata[i]));
	firn_inode_ref(&old_parent->inode);
	firn_group_begin(view);
	move_dir(view, dir, place.dir, new_name);
	failed = firn_node_move_tree(view, dir);
	if (failed == 0)
		failed = rekey_pending(view, leaves, old_paths);
	(void)firn_group_end(view, failed);
	if (failed != 0)
		move_dir(view, dir, old_parent, old_name);
	firn_inode_unref(view, &old_parent->inode);
	return failed;
}

/* Replacing an empty directory is removing it first, when nothing else is against it. */
static int
replace_dir(FirnView *view, FirnDir *dir, uint64_t new_parent, const char *new_name)
{
	bool replaced = false;
	FirnPlace place;
	struct stat attr;
	int failed = firn_view_lookup(view, new_parent, new_name, &attr);

	if (failed == 0) {
		firn_view_forget(view, attr.st_ino, 1);
		if (!S_ISDIR(attr.st_mode))
			return ENOTDIR;
		pthread_mutex_lock(&view->lock);
		failed = check_dir(view, dir, new_parent, new_name, &place);
		firn_view_unlock(view);
		if (failed == 0 || failed == EISDIR)
			failed = firn_view_rmdir(view, new_parent, new_name);
		replaced = failed == 0;
	} else if (failed == ENOENT) {
		failed = 0;
	}
	if (failed != 0)
		return failed;
	pthread_mutex_lock(&view->lock);
	failed = rename_dir(view, dir, new_parent, new_name);
	firn_view_unlock(view);
	if (failed != 0 && replaced)
		firn_view_invalidate(view, new_parent, new_name);
	return failed;
}

int
firn_view_rename(FirnView *view, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned flags)
{
	FirnInode *inode = NULL;
	int failed;

	if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0)
		return EINVAL;
	if (parent == FIRN_INO_TOP || new_parent == FIRN_INO_TOP)
		return view->read_only ? EROFS : EPERM;
	if ((flags & RENAME_NOREPLACE) != 0 && exists(view, new_parent, new_name))
		return EEXIST;
	if (parent == new_parent && strcmp(name, new_name) == 0)
		return exists(view, parent, name) ? 0 : ENOENT;
	pthread_mutex_lock(&view->lock);
	failed = find_source(view, parent, name, &inode);
	firn_view_unlock(view);
	if (failed != 0)
		return failed;
	if (inode->directory) {
		failed = replace_dir(view, (FirnDir *)inode, new_parent, new_name);
	} else {
		failed = rename_leaf(view, (FirnLeaf *)inode, new_parent, new_name);
	}
	pthread_mutex_lock(&view->lock);
	firn_inode_unref(view, inode);
	firn_view_unlock(view);
	firn_view_sweep(view);
	firn_view_notify(view);
	return failed;
}

static int
link_locked(FirnView *view, FirnLeaf *source, uint64_t new_parent, const char *new_name,
	    FirnMeta *meta, struct stat *out_attr)
{
	FirnLeaf *copy = firn_leaf_new(view, NULL, new_name, FIRN_LEAF_SCRATCH, 0);
	FirnPlace place;
	FirnRole role;
	int failed;

	if (source->content != NULL)
		copy->content = firn_content_ref(source->content);
	/* Two names for an object that has no record: neither decides when it goes. */
	if (source->moved != NULL)
		g_hash_table_add(view->shared, g_steal_pointer(&source->moved));
	copy->size = source->size;
	copy->inode.mtime_ns = source->inode.mtime_ns;
	copy->inode.mode = source->inode.mode;
	failed = role_of(view, new_parent, new_name, meta, &place, &role);
	if (failed == EISDIR)
		failed = EEXIST;
	if (failed == 0)
		failed = firn_leaf_attach(view, copy, &place, new_name, &role, meta);
	if (failed == 0) {
		/* Their content is one object. */
		firn_keep_content_locked(source);
		firn_inode_looked_up(&copy->inode);
		firn_attr_of_inode(view, &copy->inode, out_attr);
	}
	firn_inode_unref(view, &copy->inode);
	return failed;
}

static int
link_leaf(FirnView *view, FirnLeaf *source, uint64_t new_parent, const char *new_name,
	  struct stat *out_attr)
{
	g_autoptr(FirnMeta) meta = NULL;
	int failed;

	pthread_mutex_lock(&source->lock);
	failed = prepare(view, source, new_parent, new_name, &meta);
	if (failed == 0) {
		pthread_mutex_lock(&view->lock);
		if (meta != NULL)
			failed = firn_node_wait_killable(view);
		if (failed == 0)
			failed = link_locked(view, source, new_parent, new_name, meta, out_attr);
		firn_view_unlock(view);
	}
	pthread_mutex_unlock(&source->lock);
	return failed;
}

int
firn_view_link(FirnView *view, uint64_t ino, uint64_t new_parent, const char *new_name,
	       struct stat *out_attr)
{
	FirnLeaf *source = NULL;
	int failed;

	if (view->read_only)
		return EROFS;
	if (new_parent == FIRN_INO_TOP)
		return EPERM;
	if (exists(view, new_parent, new_name))
		return EEXIST;
	pthread_mutex_lock(&view->lock);
	failed = firn_chunk_take_leaf(view, ino, &source);
	if (failed == EISDIR)
		failed = EPERM;
	if (failed == 0)
		firn_inode_ref(&source->inode);
	firn_view_unlock(view);
	if (failed != 0)
		return failed;
	failed = link_leaf(view, source, new_parent, new_name, out_attr);
	pthread_mutex_lock(&view->lock);
	firn_inode_unref(view, &source->inode);
	firn_view_unlock(view);
	firn_view_sweep(view);
	firn_view_notify(view);
	return failed;
}
