#include "core/store/foreign.h"
#include "core/view/internal.h"

#include <errno.h>
#include <string.h>

static const char *const names[] = { "user.firn.node", "user.firn.ref", "user.firn.state" };

static char *
format_ref(const FirnContent *content)
{
	g_autofree char *location = NULL;
	char text[FIRN_ID12_TEXT + 1];

	switch (content->kind) {
	case FIRN_CONTENT_BYTES:
		return g_strdup("inline");
	case FIRN_CONTENT_NATIVE:
		firn_id12_format(&content->id, text);
		if (content->offset == 0)
			return g_strdup_printf("native %s", text);
		return g_strdup_printf("native %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, text,
				       content->offset, content->length);
	case FIRN_CONTENT_VIRTUAL:
		location = firn_foreign_redact(content->location);
		return g_strdup_printf("virtual %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
				       location, content->offset, content->length);
	}
	return NULL;
}

static FirnDir *
node_of(FirnInode *inode)
{
	FirnLeaf *leaf = (FirnLeaf *)inode;

	if (inode->directory)
		return ((FirnDir *)inode)->has_node ? (FirnDir *)inode : NULL;
	if (leaf->kind == FIRN_LEAF_CHUNK)
		return leaf->array;
	return leaf->kind == FIRN_LEAF_DOC && inode->parent != NULL && inode->parent->has_node
		       ? inode->parent
		       : NULL;
}

static const char *
state_of_node(FirnView *view, const FirnDir *node)
{
	FirnNodeChange *change;

	if (!node->tree->session)
		return "base";
	change = firn_changes_find(view->session->changes, &node->id);
	if (change == NULL || change->kind == FIRN_CHANGE_CHUNKS)
		return "base";
	return change->created ? "new" : "changed";
}

/* Drops the view lock to ask the base. */
static const char *
state_of_chunk(FirnView *view, const FirnLeaf *leaf)
{
	FirnChunkLookup found = { 0 };

	if (firn_chunk_change(view, leaf->array, leaf->coords) == NULL)
		return "base";
	if (leaf->array->in_base &&
	    firn_chunk_find_base(view, leaf->array, leaf->coords, leaf->array->meta->rank, false,
				 &found) == 0 &&
	    found.found)
		return "changed";
	return "new";
}

static const char *
state_of_leaf(FirnView *view, const FirnLeaf *leaf)
{
	switch (leaf->kind) {
	case FIRN_LEAF_SCRATCH:
		return "scratch";
	case FIRN_LEAF_PENDING:
		return "pending";
	case FIRN_LEAF_DOC:
		if (leaf->inode.parent == NULL || leaf->inode.parent->doc != leaf)
			return "pending";
		return state_of_node(view, leaf->inode.parent);
	case FIRN_LEAF_CHUNK:
		break;
	}
	return state_of_chunk(view, leaf);
}

static char *
value_of_inode(FirnView *view, FirnInode *inode, const char *name)
{
	char text[FIRN_ID8_TEXT + 1];
	FirnLeaf *leaf = (FirnLeaf *)inode;
	FirnDir *node = node_of(inode);

	if (strcmp(name, names[0]) == 0) {
		if (node == NULL)
			return NULL;
		firn_id8_format(&node->id, text);
		return g_strdup(text);
	}
	if (strcmp(name, names[1]) == 0) {
		FirnChunkChange *change;
		FirnContent *content;
		char *value;

		if (inode->directory || leaf->kind != FIRN_LEAF_CHUNK)
			return NULL;
		change = firn_chunk_change(view, leaf->array, leaf->coords);
		if (change == NULL || change->kind == FIRN_REF_NONE)
			return NULL;
		content = firn_content_from_change(view, change);
		value = format_ref(content);
		firn_content_unref(content);
		return value;
	}
	if (inode->directory)
		return g_strdup(node != NULL ? state_of_node(view, node) : "base");
	return g_strdup(state_of_leaf(view, leaf));
}

static int
value_of_base(FirnView *view, uint64_t ino, const char *name, char **out_value)
{
	uint32_t coords[FIRN_MAX_RANK];
	char text[FIRN_ID8_TEXT + 1];
	FirnContent *content = NULL;
	uint32_t depth;
	FirnSlot *slot = firn_slot_decode(view, ino, coords, &depth);
	int failed;

	if (slot == NULL)
		return ESTALE;
	if (strcmp(name, names[0]) == 0) {
		g_autoptr(GError) error = NULL;
		g_autoptr(FirnSnapshot) snapshot = firn_slot_snapshot(view, slot, &error);
		FirnSnapshotNode node;

		if (snapshot == NULL)
			return ESTALE;
		firn_snapshot_node(snapshot, slot->node_index, &node);
		firn_id8_format(&node.id, text);
		*out_value = g_strdup(text);
		return 0;
	}
	if (strcmp(name, names[2]) == 0) {
		*out_value = g_strdup("base");
		return 0;
	}
	if (depth < slot->rank)
		return 0;
	failed = firn_chunk_peek_base(view, ino, &content);
	if (failed == 0)
		*out_value = format_ref(content);
	firn_content_unref(content);
	return failed;
}

static bool
ours(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

int
firn_view_getxattr(FirnView *view, uint64_t ino, const char *name, char **out_value)
{
	FirnInode *inode;
	FirnLeaf *leaf;
	int failed = 0;

	if (!ours(name))
		return ENOTSUP;
	*out_value = NULL;
	if (ino == FIRN_INO_TOP)
		return ENODATA;
	pthread_mutex_lock(&view->lock);
	inode = firn_inode_find(view, ino);
	if (inode == NULL && firn_chunk_is_changed(view, ino) &&
	    firn_chunk_take_leaf(view, ino, &leaf) == 0)
		inode = &leaf->inode;
	if (inode != NULL) {
		firn_inode_ref(inode);
		*out_value = value_of_inode(view, inode, name);
		/* A base chunk that is in the table only for its number. */
		leaf = (FirnLeaf *)inode;
		if (*out_value == NULL && strcmp(name, names[1]) == 0 && !inode->directory &&
		    leaf->kind == FIRN_LEAF_CHUNK && leaf->content != NULL)
			*out_value = format_ref(leaf->content);
		firn_inode_unref(view, inode);
	} else {
		failed = value_of_base(view, ino, name, out_value);
	}
	firn_view_unlock(view);
	if (failed == 0 && *out_value == NULL)
		failed = ENODATA;
	return failed;
}

int
firn_view_listxattr(FirnView *view, uint64_t ino, GByteArray **out_names)
{
	*out_names = g_byte_array_new();
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *value = NULL;

		if (firn_view_getxattr(view, ino, names[i], &value) == 0)
			g_byte_array_append(*out_names, (const guint8 *)names[i],
					    (guint)strlen(names[i]) + 1);
	}
	return 0;
}
