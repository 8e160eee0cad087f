#include "core/view/writing.h"

#include "core/zarr/name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define TRIES 16 /* of a look-up whose array changes under it */

int
firn_place_writable(FirnView *view, const FirnPlace *place)
{
	return view->read_only || !firn_place_tree(place)->session ? EROFS : 0;
}

bool
firn_place_child(const FirnPlace *place, const char *name, FirnPlace *out_child, bool *out_file)
{
	FirnDir *array = place->array;
	uint32_t index;

	*out_file = false;
	*out_child = (FirnPlace){ .dir = NULL };
	if (array == NULL && place->dir != NULL && firn_dir_is_array(place->dir) &&
	    strcmp(name, "c") == 0) {
		out_child->array = place->dir;
		*out_file = place->dir->meta->rank == 0;
		return true;
	}
	if (array == NULL || place->depth >= array->meta->rank ||
	    !firn_name_parse_index(name, &index))
		return false;
	out_child->array = array;
	out_child->depth = place->depth + 1;
	memcpy(out_child->prefix, place->prefix, place->depth * sizeof(uint32_t));
	out_child->prefix[place->depth] = index;
	*out_file = out_child->depth == array->meta->rank;
	return true;
}

static void
found_inode(FirnView *view, FirnInode *inode, struct stat *out_attr)
{
	firn_inode_looked_up(inode);
	firn_attr_of_inode(view, inode, out_attr);
}

/* A base chunk whose coordinates have no number: an entry while the kernel knows it. */
static FirnLeaf *
transient_leaf(FirnView *view, const FirnPlace *child, const char *name, FirnContent *content)
{
	FirnPlace parent = *child;
	FirnDir *dir = child->array;
	FirnLeaf *leaf;

	if (child->depth > 0) {
		parent.depth--;
		dir = firn_place_materialise(view, &parent);
	}
	leaf = firn_leaf_new(view, NULL, name, FIRN_LEAF_CHUNK, 0);
	leaf->array = child->array;
	firn_inode_ref(&child->array->inode);
	leaf->coords = g_memdup2(child->prefix, MAX(child->depth, 1) * sizeof(uint32_t));
	leaf->rank = child->depth;
	leaf->content = firn_content_ref(content);
	leaf->size = content->length;
	leaf->transient = true;
	firn_inode_link(dir, name, &leaf->inode);
	firn_inode_unref(view, &leaf->inode);
	return leaf;
}

static int
lookup_chunk_file(FirnView *view, const FirnPlace *child, const char *name, struct stat *out_attr)
{
	FirnChunkChange *change;
	FirnChunkLookup found;
	FirnInode *entry;
	uint64_t ino;
	int failed;

	for (int i = 0; i < TRIES; i++) {
		change = firn_chunk_change(view, child->array, child->prefix);
		if (change != NULL && change->kind == FIRN_REF_NONE)
			return ENOENT;
		if (change != NULL) {
			found_inode(
				view,
				&firn_chunk_leaf(view, child->array, child->prefix, change)->inode,
				out_attr);
			return 0;
		}
		ino = firn_slot_ino(firn_slot_of_files(view, child->array), child->prefix,
				    child->depth);
		entry = firn_chunk_entry(view, child->array, child->prefix, ino);
		if (entry != NULL) {
			found_inode(view, entry, out_attr);
			return 0;
		}
		failed = firn_chunk_find_base(view, child->array, child->prefix, child->depth,
					      ino == 0, &found);
		if (failed == EAGAIN)
			continue;
		if (failed != 0 || !found.found)
			return failed != 0 ? failed : ENOENT;
		/* Somebody may have begun to write while the base was read. */
		entry = firn_chunk_entry(view, child->array, child->prefix, ino);
		if (entry != NULL)
			found_inode(view, entry, out_attr);
		else if (ino != 0)
			firn_attr_of_base(view, child->array->tree, ino, false, found.length,
					  out_attr);
		else
			found_inode(view, &transient_leaf(view, child, name, found.content)->inode,
				    out_attr);
		firn_content_unref(found.content);
		return 0;
	}
	return EAGAIN;
}

static int
lookup_chunk_dir(FirnView *view, const FirnPlace *child, struct stat *out_attr)
{
	FirnChunkLookup found = { .found = true };
	FirnInode *inode;
	uint64_t ino;
	int failed = 0;

	if (firn_place_removed(child))
		return ENOENT;
	if (!firn_chunk_any_changed(view, child->array, child->prefix, child->depth)) {
		for (int i = 0; i < TRIES; i++) {
			failed = firn_chunk_find_base(view, child->array, child->prefix,
						      child->depth, false, &found);
			if (failed != EAGAIN)
				break;
		}
	}
	if (failed != 0 || !found.found)
		return failed != 0 ? failed : ENOENT;
	ino = firn_place_ino(view, child);
	inode = firn_inode_find(view, ino);
	if (inode != NULL)
		found_inode(view, inode, out_attr);
	else
		firn_attr_of_base(view, child->array->tree, ino, true, 0, out_attr);
	return 0;
}

static int
lookup_in_top(FirnView *view, const char *name, struct stat *out_attr)
{
	if (view->tree->root == NULL || strcmp(name, view->name) != 0)
		return ENOENT;
	found_inode(view, &view->tree->root->inode, out_attr);
	return 0;
}

static int
lookup_locked(FirnView *view, uint64_t parent, const char *name, struct stat *out_attr)
{
	FirnPlace place;
	FirnPlace child;
	FirnInode *inode;
	bool file;
	int failed;

	if (parent == FIRN_INO_TOP)
		return lookup_in_top(view, name, out_attr);
	if (strlen(name) > NAME_MAX)
		return ENAMETOOLONG;
	failed = firn_place_find(view, parent, &place);
	if (failed != 0)
		return failed;
	inode = firn_tree_child(view, &place, name);
	if (inode != NULL) {
		found_inode(view, inode, out_attr);
		return 0;
	}
	if ((place.dir != NULL && place.dir->inode.dead) ||
	    !firn_place_child(&place, name, &child, &file))
		return ENOENT;
	return file ? lookup_chunk_file(view, &child, name, out_attr)
		    : lookup_chunk_dir(view, &child, out_attr);
}

int
firn_view_lookup(FirnView *view, uint64_t parent, const char *name, struct stat *out_attr)
{
	int failed;

	pthread_mutex_lock(&view->lock);
	view->stats.lookups++;
	failed = lookup_locked(view, parent, name, out_attr);
	firn_view_unlock(view);
	firn_view_notify(view);
	return failed;
}

/* EEXIST if there is something at a name already.  View lock held. */
static int
check_free(FirnView *view, uint64_t parent, const char *name)
{
	struct stat attr;
	FirnInode *inode;
	int failed = lookup_locked(view, parent, name, &attr);

	if (failed == ENOENT)
		return 0;
	if (failed != 0)
		return failed;
	inode = firn_inode_find(view, attr.st_ino);
	if (inode != NULL)
		firn_inode_unlook(view, inode);
	return EEXIST;
}

static int
mkdir_locked(FirnView *view, uint64_t parent, const char *name, mode_t mode, struct stat *out_attr)
{
	FirnPlace place;
	FirnPlace child;
	FirnRole role;
	FirnDir *dir;
	bool file;
	int failed;

	if (parent == FIRN_INO_TOP) {
		if (view->read_only)
			return EROFS;
		if (strcmp(name, view->name) != 0)
			return EPERM;
		if (view->tree->root != NULL)
			return EEXIST;
		view->tree->root = firn_dir_new(view, view->tree, NULL, NULL, 0);
		found_inode(view, &view->tree->root->inode, out_attr);
		return 0;
	}
	failed = firn_place_find(view, parent, &place);
	if (failed == 0)
		failed = firn_place_writable(view, &place);
	if (failed == 0 && place.dir != NULL && place.dir->inode.dead)
		failed = ENOENT;
	if (failed == 0)
		failed = firn_place_role(view, &place, name, &role);
	if (failed == 0)
		failed = check_free(view, parent, name);
	if (failed != 0)
		return failed;
	if (firn_place_child(&place, name, &child, &file) && !file) {
		firn_place_set_removed(&child, false);
		dir = firn_place_materialise(view, &child);
	} else {
		dir = firn_dir_new(view, view->tree, firn_place_materialise(view, &place), name, 0);
	}
	dir->inode.mode = mode & 07777;
	firn_inode_touch(&dir->inode);
	firn_keep_mark(&dir->inode);
	firn_inode_touch(&dir->inode.parent->inode);
	firn_keep_mark(&dir->inode.parent->inode);
	found_inode(view, &dir->inode, out_attr);
	return 0;
}

int
firn_view_mkdir(FirnView *view, uint64_t parent, const char *name, mode_t mode,
		struct stat *out_attr)
{
	int failed;

	pthread_mutex_lock(&view->lock);
	failed = mkdir_locked(view, parent, name, mode, out_attr);
	firn_view_unlock(view);
	return failed;
}

/* ---- removing ---- */

static int
unlink_base_chunk(FirnView *view, const FirnPlace *child)
{
	FirnChunkChange *change = firn_chunk_change(view, child->array, child->prefix);
	FirnChunkLookup found = { 0 };
	FirnChunkThere there;
	int failed = EAGAIN;

	if (change != NULL && change->kind == FIRN_REF_NONE)
		return ENOENT;
	if (change == NULL && firn_writing_find(view, child->array, child->prefix) == NULL) {
		for (int i = 0; failed == EAGAIN && i < TRIES; i++)
			failed = firn_chunk_find_base(view, child->array, child->prefix,
						      child->depth, false, &found);
		if (failed != 0 || !found.found)
			return failed != 0 ? failed : ENOENT;
	}
	there = firn_chunk_there(view, child->array, child->prefix);
	failed = firn_chunk_record(view, child->array, child->prefix, NULL, 0, 0);
	if (failed == 0)
		firn_chunk_mark_dead(&there, NULL);
	return failed;
}

static int
unlink_locked(FirnView *view, uint64_t parent, const char *name)
{
	FirnPlace place;
	FirnPlace child;
	FirnInode *inode;
	bool file;
	int failed;

	if (parent == FIRN_INO_TOP)
		return view->tree->root != NULL && strcmp(name, view->name) == 0 ? EISDIR : ENOENT;
	failed = firn_place_find(view, parent, &place);
	if (failed == 0)
		failed = firn_place_writable(view, &place);
	if (failed != 0)
		return failed;
	inode = firn_tree_child(view, &place, name);
	if (inode != NULL && inode->directory)
		return EISDIR;
	if (inode != NULL) {
		firn_inode_ref(inode);
		failed = firn_leaf_detach(view, (FirnLeaf *)inode, true);
		firn_inode_unref(view, inode);
		return failed;
	}
	if (!firn_place_child(&place, name, &child, &file))
		return ENOENT;
	if (!file)
		return EISDIR;
	failed = unlink_base_chunk(view, &child);
	if (failed == 0 && place.dir != NULL) {
		firn_inode_touch(&place.dir->inode);
		firn_keep_mark(&place.dir->inode);
	}
	return failed;
}

int
firn_view_unlink(FirnView *view, uint64_t parent, const char *name)
{
	int failed;

	pthread_mutex_lock(&view->lock);
	failed = strcmp(name, "zarr.json") == 0 ? firn_node_wait_killable(view) : 0;
	if (failed == 0)
		failed = unlink_locked(view, parent, name);
	firn_view_unlock(view);
	firn_view_sweep(view);
	return failed;
}

void
firn_dir_drop_scratch(FirnView *view, FirnDir *dir)
{
	g_autoptr(GPtrArray) scratch = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (!((FirnInode *)value)->directory &&
		    ((FirnLeaf *)value)->kind == FIRN_LEAF_SCRATCH)
			g_ptr_array_add(scratch, value);
	for (guint i = 0; i < scratch->len; i++)
		firn_inode_unlink(view, scratch->pdata[i]);
}

bool
firn_leaf_is_listed(const FirnInode *inode)
{
	const FirnLeaf *leaf = (const FirnLeaf *)inode;

	if (inode->directory)
		return true;
	if (leaf->kind == FIRN_LEAF_SCRATCH)
		return !firn_name_is_scratch(inode->name);
	return !leaf->transient;
}

static bool
has_visible_children(const FirnDir *dir)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (firn_leaf_is_listed(value))
			return true;
	return false;
}

/* 0 if a directory that is no chunk directory holds nothing but scratch. */
static int
check_empty(FirnView *view, FirnDir *dir)
{
	FirnPlace root = { .array = dir };
	struct stat attr;

	if ((dir->has_node && !dir->doc_missing) || has_visible_children(dir) ||
	    firn_tree_has_base_below(view, dir))
		return ENOTEMPTY;
	if (!firn_dir_is_array(dir))
		return 0;
	if (dir->meta->rank == 0)
		return firn_chunk_any_below(view, dir, NULL, 0) != 0 ? ENOTEMPTY : 0;
	return lookup_chunk_dir(view, &root, &attr) == ENOENT ? 0 : ENOTEMPTY;
}

static int
rmdir_chunks(FirnView *view, const FirnPlace *child, FirnInode *inode)
{
	int below;
	int failed;
	struct stat attr;

	if (inode == NULL) {
		failed = lookup_chunk_dir(view, child, &attr);
		if (failed != 0)
			return failed;
		inode = firn_inode_find(view, attr.st_ino);
		if (inode != NULL)
			firn_inode_unlook(view, inode);
		inode = firn_inode_find(view, attr.st_ino);
	}
	below = firn_chunk_any_below(view, child->array, child->prefix, child->depth);
	if (below != 0)
		return below > 0 ? ENOTEMPTY : -below;
	if (inode != NULL && has_visible_children((FirnDir *)inode))
		return ENOTEMPTY;
	firn_place_set_removed(child, true);
	if (inode != NULL) {
		firn_dir_drop_scratch(view, (FirnDir *)inode);
		firn_inode_unlink(view, inode);
	}
	return 0;
}

static int
rmdir_root(FirnView *view, const char *name)
{
	FirnDir *root = view->tree->root;
	int failed;

	if (root == NULL || strcmp(name, view->name) != 0)
		return ENOENT;
	if (view->read_only)
		return EROFS;
	failed = check_empty(view, root);
	if (failed == 0)
		failed = firn_node_delete(view, root);
	if (failed != 0)
		return failed;
	firn_dir_drop_scratch(view, root);
	root->inode.dead = true;
	firn_keep_mark(&root->inode);
	view->tree->root = NULL;
	firn_inode_unref(view, &root->inode);
	return 0;
}

static int
rmdir_locked(FirnView *view, uint64_t parent, const char *name)
{
	FirnPlace place;
	FirnPlace child;
	FirnInode *inode;
	bool file;
	int failed;

	if (parent == FIRN_INO_TOP)
		return rmdir_root(view, name);
	failed = firn_place_find(view, parent, &place);
	if (failed == 0)
		failed = firn_place_writable(view, &place);
	if (failed != 0)
		return failed;
	inode = firn_tree_child(view, &place, name);
	if (inode != NULL && !inode->directory)
		return ENOTDIR;
	if (firn_place_child(&place, name, &child, &file))
		return file && inode == NULL ? ENOTDIR : rmdir_chunks(view, &child, inode);
	if (inode == NULL)
		return ENOENT;
	failed = check_empty(view, (FirnDir *)inode);
	if (failed == 0)
		failed = firn_node_delete(view, (FirnDir *)inode);
	if (failed != 0)
		return failed;
	firn_dir_drop_scratch(view, (FirnDir *)inode);
	firn_inode_unlink(view, inode);
	return 0;
}

int
firn_view_rmdir(FirnView *view, uint64_t parent, const char *name)
{
	int failed;

	pthread_mutex_lock(&view->lock);
	failed = rmdir_locked(view, parent, name);
	firn_view_unlock(view);
	firn_view_sweep(view);
	return failed;
}
