#include "core/view/internal.h"

#include "core/zarr/name.h"

#include <errno.h>
#include <string.h>

#define NAME_LENGTH_MAX 255u

bool
firn_dir_is_array(const FirnDir *dir)
{
	return dir->has_node && dir->meta->kind == FIRN_NODE_ARRAY;
}

void
firn_dir_set_node(FirnDir *dir, const FirnId8 *id, FirnMeta *meta)
{
	firn_meta_unref(dir->meta);
	dir->meta = firn_meta_ref(meta);
	dir->id = *id;
	dir->has_node = true;
	dir->doc_missing = false;
	firn_keep_mark(&dir->inode);
}

/* What look-ups need to know comes from the snapshot itself, which is what drives them. */
FirnMeta *
firn_tree_base_meta(FirnSnapshot *base, const FirnSnapshotNode *node)
{
	FirnMeta *meta = g_new0(FirnMeta, 1);

	meta->ref_count = 1;
	meta->raw = g_bytes_new(node->meta.data, node->meta.len);
	meta->kind = node->kind;
	meta->rank = node->rank;
	meta->lengths = g_new0(uint64_t, MAX(node->rank, 1));
	meta->n_chunks = g_new0(uint32_t, MAX(node->rank, 1));
	for (uint32_t axis = 0; axis < node->rank; axis++)
		firn_snapshot_node_shape(base, node, axis, &meta->lengths[axis],
					 &meta->n_chunks[axis]);
	return meta;
}

bool
firn_tree_base_alive(FirnView *view, FirnTree *tree, size_t index, FirnSnapshotNode *out_node)
{
	FirnNodeChange *change;

	firn_snapshot_node(tree->base, index, out_node);
	if (!tree->session)
		return true;
	change = firn_changes_find(view->session->changes, &out_node->id);
	return change == NULL || change->kind != FIRN_CHANGE_DELETE;
}

static bool
starts_with(FirnSpan path, const char *prefix, size_t len)
{
	return path.len >= len && memcmp(path.data, prefix, len) == 0;
}

/* Whether the base has a live node below `path`. */
static bool
base_has_below(FirnView *view, FirnTree *tree, const char *path)
{
	g_autofree char *prefix = g_strconcat(strcmp(path, "/") == 0 ? "" : path, "/", NULL);
	size_t len = strlen(prefix);
	FirnSnapshotNode node;
	size_t at;

	(void)firn_snapshot_find_path(tree->base, prefix, len, &at);
	for (; at < firn_snapshot_n_nodes(tree->base); at++) {
		firn_snapshot_node(tree->base, at, &node);
		if (!starts_with(node.path, prefix, len))
			return false;
		if (node.path.len > len && firn_tree_base_alive(view, tree, at, &node))
			return true;
	}
	return false;
}

static int64_t
base_time(const FirnTree *tree)
{
	return (int64_t)(firn_snapshot_flushed_at(tree->base) * 1000);
}

/* Bind a directory to the node the base has at its path, if it has one that lives. */
void
firn_tree_bind(FirnView *view, FirnDir *dir)
{
	g_autofree char *path = firn_dir_path(dir);
	FirnTree *tree = dir->tree;
	FirnNodeChange *change;
	FirnSnapshotNode node;
	FirnMeta *meta;
	size_t index;

	if (!firn_snapshot_find_path(tree->base, path, strlen(path), &index) ||
	    !firn_tree_base_alive(view, tree, index, &node))
		return;
	change = tree->session ? firn_changes_find(view->session->changes, &node.id) : NULL;
	if (change != NULL && change->meta != NULL)
		meta = firn_meta_ref(change->meta);
	else
		meta = firn_tree_base_meta(tree->base, &node);
	firn_dir_set_node(dir, &node.id, meta);
	firn_meta_unref(meta);
	dir->in_base = true;
	dir->base_index = index;
	firn_keep_mark(&dir->inode);
	dir->inode.mtime_ns = base_time(tree);
}

static FirnDir *
child_from_base(FirnView *view, FirnDir *dir, const char *name)
{
	g_autofree char *parent = firn_dir_path(dir);
	g_autofree char *path =
		g_strconcat(strcmp(parent, "/") == 0 ? "" : parent, "/", name, NULL);
	FirnSnapshotNode node;
	FirnDir *child;
	size_t index;

	if (firn_snapshot_find_path(dir->tree->base, path, strlen(path), &index)) {
		if (!firn_tree_base_alive(view, dir->tree, index, &node) &&
		    !base_has_below(view, dir->tree, path))
			return NULL;
	} else if (!base_has_below(view, dir->tree, path)) {
		return NULL;
	}
	child = firn_dir_new(view, dir->tree, dir, name, 0);
	firn_tree_bind(view, child);
	return child;
}

/* Whether a node's document is as the base has it. */
static bool
is_of_base(FirnView *view, const FirnDir *dir)
{
	const FirnNodeChange *change =
		dir->tree->session ? firn_changes_find(view->session->changes, &dir->id) : NULL;

	return dir->in_base && (change == NULL || change->meta == NULL);
}

FirnLeaf *
firn_tree_doc(FirnView *view, FirnDir *dir)
{
	FirnLeaf *leaf;

	if (!dir->has_node || dir->doc_missing)
		return NULL;
	if (dir->doc != NULL)
		return dir->doc;
	leaf = firn_leaf_new(view, dir, "zarr.json", FIRN_LEAF_DOC, 0);
	leaf->content = firn_content_from_bytes(view, dir->meta->raw);
	leaf->content->published = true;
	leaf->size = g_bytes_get_size(dir->meta->raw);
	leaf->inode.mtime_ns = is_of_base(view, dir) ? base_time(dir->tree) : dir->inode.mtime_ns;
	dir->doc = leaf;
	return leaf;
}

FirnInode *
firn_tree_child(FirnView *view, FirnPlace *place, const char *name)
{
	FirnInode *inode;
	FirnLeaf *doc;
	FirnDir *child;

	if (place->dir == NULL)
		return NULL;
	if (strcmp(name, "zarr.json") == 0) {
		doc = firn_tree_doc(view, place->dir);
		if (doc != NULL)
			return &doc->inode;
	}
	inode = g_hash_table_lookup(place->dir->children, name);
	if (inode != NULL || place->array != NULL || place->dir->inode.dead)
		return inode;
	child = child_from_base(view, place->dir, name);
	return child != NULL ? &child->inode : NULL;
}

/* ---- places ---- */

/* The array, and the coordinates, a materialised directory stands for, if it does. */
static void
place_of_dir(FirnDir *dir, FirnPlace *place)
{
	uint32_t reversed[FIRN_MAX_RANK];
	uint32_t depth = 0;
	FirnDir *at = dir;

	place->dir = dir;
	place->array = NULL;
	place->depth = 0;
	while (at->inode.parent != NULL && !at->has_node && depth < FIRN_MAX_RANK &&
	       firn_name_parse_index(at->inode.name, &reversed[depth])) {
		depth++;
		at = at->inode.parent;
	}
	if (at->inode.parent == NULL || at->has_node || strcmp(at->inode.name, "c") != 0)
		return;
	at = at->inode.parent;
	if (!firn_dir_is_array(at) || depth > at->meta->rank)
		return;
	place->array = at;
	place->depth = depth;
	for (uint32_t i = 0; i < depth; i++)
		place->prefix[i] = reversed[depth - 1 - i];
}

int
firn_place_find(FirnView *view, uint64_t ino, FirnPlace *out_place)
{
	FirnInode *inode = firn_inode_find(view, ino);
	FirnSlot *slot;

	out_place->dir = NULL;
	out_place->array = NULL;
	out_place->depth = 0;
	if (inode != NULL) {
		if (!inode->directory)
			return ENOTDIR;
		place_of_dir((FirnDir *)inode, out_place);
		return 0;
	}
	slot = firn_slot_decode(view, ino, out_place->prefix, &out_place->depth);
	if (slot == NULL)
		return ESTALE;
	if (out_place->depth >= slot->rank)
		return ENOTDIR;
	if (slot->dir->inode.dead || !firn_dir_is_array(slot->dir) ||
	    slot->dir->meta->rank != slot->rank)
		return ESTALE;
	out_place->array = slot->dir;
	return 0;
}

FirnTree *
firn_place_tree(const FirnPlace *place)
{
	return place->dir != NULL ? place->dir->tree : place->array->tree;
}

uint64_t
firn_place_ino(FirnView *view, const FirnPlace *place)
{
	uint64_t ino;

	if (place->dir != NULL)
		return place->dir->inode.ino;
	ino = firn_slot_ino(firn_slot_of_dirs(view, place->array), place->prefix, place->depth);
	return ino != 0 ? ino : firn_place_materialise(view, place)->inode.ino;
}

FirnDir *
firn_place_materialise(FirnView *view, const FirnPlace *place)
{
	FirnDir *dir = place->array;
	char name[16] = "c";

	if (place->dir != NULL)
		return place->dir;
	for (uint32_t depth = 0; depth <= place->depth; depth++) {
		FirnInode *child;

		if (depth > 0)
			(void)g_snprintf(name, sizeof name, "%u", place->prefix[depth - 1]);
		child = g_hash_table_lookup(dir->children, name);
		if (child != NULL && child->directory) {
			dir = (FirnDir *)child;
			continue;
		}
		dir = firn_dir_new(view, place->array->tree, dir, name,
				   firn_slot_ino(firn_slot_of_dirs(view, place->array),
						 place->prefix, depth));
		if (place->array->in_base)
			dir->inode.mtime_ns = base_time(dir->tree);
	}
	return dir;
}

char *
firn_place_path(const FirnPlace *place, const char *name)
{
	GString *path = g_string_new(NULL);
	g_autofree char *dir = NULL;

	if (place->dir != NULL) {
		dir = firn_dir_path(place->dir);
		g_string_append(path, strcmp(dir, "/") == 0 ? "" : dir);
	} else {
		dir = firn_dir_path(place->array);
		g_string_append_printf(path, "%s/c", strcmp(dir, "/") == 0 ? "" : dir);
		for (uint32_t i = 0; i < place->depth; i++)
			g_string_append_printf(path, "/%u", place->prefix[i]);
	}
	if (name != NULL)
		g_string_append_printf(path, "/%s", name);
	if (path->len == 0)
		g_string_append_c(path, '/');
	return g_string_free(path, FALSE);
}

/* Whether `dir` is the "c", or an index directory below one, of what is no array (yet). */
static bool
below_chunk_root(const FirnDir *dir)
{
	uint32_t index;

	for (; dir->inode.parent != NULL && !dir->has_node; dir = dir->inode.parent) {
		if (strcmp(dir->inode.name, "c") == 0)
			return true;
		if (!firn_name_parse_index(dir->inode.name, &index))
			return false;
	}
	return false;
}

/* Inside the directories rsync collects updates in, nothing has its meaning yet. */
static bool
in_scratch_directory(const FirnDir *dir)
{
	for (; dir != NULL && dir->inode.parent != NULL; dir = dir->inode.parent)
		if (strcmp(dir->inode.name, ".~tmp~") == 0 ||
		    strcmp(dir->inode.name, ".rsync-partial") == 0)
			return true;
	return false;
}

int
firn_place_role(FirnView *view, const FirnPlace *place, const char *name, FirnRole *out_role)
{
	uint32_t index = 0;
	FirnNameKind kind;

	if (strlen(name) > NAME_LENGTH_MAX)
		return ENAMETOOLONG;
	if (!firn_name_is_valid(name)) {
		g_autofree char *path = firn_place_path(place, NULL);

		firn_view_note(view, path, "a name that is not valid UTF-8");
		return EINVAL;
	}
	kind = firn_name_classify(name, &index);
	out_role->kind = FIRN_LEAF_SCRATCH;
	out_role->array = NULL;
	out_role->rank = 0;
	if (in_scratch_directory(place->dir))
		return 0;
	switch (kind) {
	case FIRN_NAME_META:
		out_role->kind = FIRN_LEAF_DOC;
		break;
	case FIRN_NAME_V2: {
		g_autofree char *path = firn_place_path(place, name);

		firn_view_note(view, path, "Zarr v2 metadata: the repository holds Zarr v3 only");
		return EPERM;
	}
	case FIRN_NAME_CHUNKS:
		/* Named like the chunk of a scalar. */
		if (place->array != NULL || place->dir == NULL)
			break;
		out_role->kind = FIRN_LEAF_PENDING;
		if (firn_dir_is_array(place->dir) && place->dir->meta->rank == 0) {
			out_role->kind = FIRN_LEAF_CHUNK;
			out_role->array = place->dir;
		}
		break;
	case FIRN_NAME_INDEX:
		if (place->array == NULL) {
			if (place->dir != NULL && below_chunk_root(place->dir))
				out_role->kind = FIRN_LEAF_PENDING;
			break;
		}
		out_role->kind = FIRN_LEAF_PENDING;
		memcpy(out_role->coords, place->prefix, place->depth * sizeof(uint32_t));
		if (place->depth < FIRN_MAX_RANK)
			out_role->coords[place->depth] = index;
		out_role->rank = place->depth + 1;
		if (firn_meta_contains(place->array->meta, out_role->coords, out_role->rank)) {
			out_role->kind = FIRN_LEAF_CHUNK;
			out_role->array = place->array;
		}
		break;
	case FIRN_NAME_LOCK:
	case FIRN_NAME_OTHER:
		break;
	}
	return 0;
}

FirnDir *
firn_tree_make_path(FirnView *view, FirnTree *tree, const char *path)
{
	g_auto(GStrv) parts = g_strsplit(path + 1, "/", -1);
	FirnDir *dir = tree->root;

	if (dir == NULL)
		dir = tree->root = firn_dir_new(view, tree, NULL, NULL, 0);
	for (char **part = parts; *part != NULL; part++) {
		FirnPlace place = { .dir = dir };
		FirnInode *child;

		if (**part == '\0')
			continue;
		child = firn_tree_child(view, &place, *part);
		if (child != NULL && child->directory)
			dir = (FirnDir *)child;
		else
			dir = firn_dir_new(view, tree, dir, *part, 0);
	}
	return dir;
}

bool
firn_tree_has_base_below(FirnView *view, FirnDir *dir)
{
	g_autofree char *path = firn_dir_path(dir);

	return base_has_below(view, dir->tree, path);
}

/* Entries below a chunk directory that lie outside the array's grid now. */
static void
forget_outside(FirnView *view, FirnDir *array, FirnDir *dir, uint32_t depth)
{
	GHashTableIter iter;
	gpointer name;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		FirnInode *child = value;
		uint32_t index;

		if (!firn_name_parse_index(name, &index))
			continue;
		if (depth < array->meta->rank && index >= array->meta->n_chunks[depth])
			firn_view_invalidate(view, dir->inode.ino, name);
		if (child->directory)
			forget_outside(view, array, (FirnDir *)child, depth + 1);
	}
}

void
firn_tree_forget_outside(FirnView *view, FirnDir *array)
{
	FirnInode *root = g_hash_table_lookup(array->children, "c");
	GHashTableIter iter;
	FirnLeaf *leaf;

	if (root != NULL && root->directory)
		forget_outside(view, array, (FirnDir *)root, 0);
	g_hash_table_iter_init(&iter, view->inodes);
	while ((leaf = firn_leaf_next(&iter)) != NULL) {
		if (leaf->kind != FIRN_LEAF_CHUNK || leaf->array != array ||
		    firn_meta_contains(array->meta, leaf->coords, array->meta->rank))
			continue;
		leaf->dropped = leaf->dropped || !leaf->inode.dead;
		leaf->inode.dead = true;
		firn_keep_mark(&leaf->inode);
		if (leaf->inode.parent != NULL)
			firn_view_invalidate(view, leaf->inode.parent->inode.ino, leaf->inode.name);
	}
}

void
firn_tree_end_below(FirnView *view, FirnDir *dir)
{
	g_autoptr(GPtrArray) children = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		if (((FirnInode *)value)->directory)
			g_ptr_array_add(children, firn_inode_ref(value));
	for (guint i = 0; i < children->len; i++) {
		FirnDir *child = children->pdata[i];

		firn_tree_end_below(view, child);
		firn_view_invalidate(view, dir->inode.ino, child->inode.name);
		if (child->doc != NULL)
			child->doc->inode.dead = true;
		if (child->has_node)
			firn_node_doc_gone(view, child);
		child->has_node = false;
		firn_inode_unlink(view, &child->inode);
		firn_inode_unref(view, &child->inode);
	}
	dir->dir_slot = NULL;
	dir->file_slot = NULL;
	firn_dir_forget_removed(dir, UINT64_MAX);
	firn_view_invalidate(view, dir->inode.ino, "c");
}
