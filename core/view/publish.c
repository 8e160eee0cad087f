#include "core/view/group.h"
#include "core/view/writing.h"

#include <errno.h>
#include <string.h>

char *
firn_leaf_pending_path(const FirnLeaf *leaf)
{
	return firn_inode_path(&leaf->inode);
}

static int
put_pending(FirnView *view, const char *path, const FirnRef *ref)
{
	FirnSession *session = view->session;
	GError *error = NULL;
	uint64_t seq;

	if (!firn_journal_put_pending(session->journal, path, ref, &seq, &error))
		return firn_view_fail(view, path, error);
	firn_group_was_pending(view, path);
	firn_view_recorded(view);
	if (ref->kind == FIRN_REF_NATIVE)
		firn_view_unsynced(view, &ref->id);
	firn_changes_put_pending(session->changes, path, ref, seq);
	return 0;
}

static int
drop_pending(FirnView *view, const char *path)
{
	const FirnRef none = { .kind = FIRN_REF_NONE };

	return g_hash_table_contains(view->session->changes->pending, path)
		       ? put_pending(view, path, &none)
		       : 0;
}

/* `content`: NULL for a file that is empty, which is recorded as such: a commit must not take it for none. */
static int
record_pending(FirnView *view, const char *path, const FirnContent *content)
{
	const FirnPending *there = g_hash_table_lookup(view->session->changes->pending, path);
	FirnRef ref = { .kind = FIRN_REF_INLINE, .bytes.data = (const uint8_t *)"" };

	if (content != NULL)
		firn_content_to_ref(content, &ref);
	else if (there != NULL && firn_chunk_change_length(&there->content) == 0)
		return 0;
	return put_pending(view, path, &ref);
}

static void
leaf_set_role(FirnView *view, FirnLeaf *leaf, const FirnRole *role)
{
	FirnDir *old = leaf->array;

	firn_keep_mark(&leaf->inode);
	firn_writing_remove(view, leaf);
	leaf->kind = role->kind;
	leaf->transient = false;
	leaf->array = NULL;
	g_free(leaf->coords);
	leaf->coords = NULL;
	if (role->kind == FIRN_LEAF_CHUNK) {
		leaf->array = role->array;
		firn_inode_ref(&role->array->inode);
		leaf->coords = g_memdup2(role->coords, MAX(role->rank, 1) * sizeof(uint32_t));
		leaf->rank = role->rank;
	}
	firn_writing_add(view, leaf);
	if (old != NULL)
		firn_inode_unref(view, &old->inode);
}

/* What has no place any more is no pending file: neither what is at a name, nor what gets it. */
static int
drop_displaced(FirnView *view, FirnDir *dir, const char *name, const FirnRole *role,
	       const FirnLeaf *by)
{
	FirnInode *old = g_hash_table_lookup(dir->children, name);
	g_autofree char *path = NULL;

	if (old == NULL || old == &by->inode)
		return 0;
	if (old->directory)
		return EISDIR;
	if (((FirnLeaf *)old)->kind != FIRN_LEAF_PENDING || role->kind == FIRN_LEAF_PENDING)
		return 0;
	path = firn_inode_path(old);
	return drop_pending(view, path);
}

/* The file at a name goes: its inode lives on for those who have it. */
static void
displace(FirnView *view, FirnDir *dir, const char *name, const FirnRole *role,
	 const FirnChunkThere *chunk, const FirnLeaf *by)
{
	FirnInode *old;

	if (role->kind == FIRN_LEAF_CHUNK)
		firn_chunk_mark_dead(chunk, &by->inode);
	old = g_hash_table_lookup(dir->children, name);
	if (old != NULL && old != &by->inode)
		firn_inode_unlink(view, old);
}

/* Give a leaf its name and parent; in the parent's table unless the overlay finds it. */
static void
settle_at(FirnView *view, FirnLeaf *leaf, FirnDir *dir, const char *name, bool linked)
{
	FirnDir *old = leaf->inode.parent;

	firn_inode_ref(&leaf->inode);
	firn_keep_mark(&leaf->inode);
	if (old != NULL && g_hash_table_lookup(old->children, leaf->inode.name) == leaf) {
		g_hash_table_remove(old->children, leaf->inode.name);
		firn_inode_unref(view, &leaf->inode);
	}
	leaf->inode.parent = NULL;
	firn_inode_touch(&dir->inode);
	if (linked) {
		firn_inode_link(dir, name, &leaf->inode);
	} else {
		char *copy = g_strdup(name);

		leaf->inode.parent = dir;
		firn_inode_ref(&dir->inode);
		g_free(leaf->inode.name);
		leaf->inode.name = copy;
		firn_keep_mark(&dir->inode);
	}
	if (old != NULL)
		firn_inode_unref(view, &old->inode);
	firn_inode_unref(view, &leaf->inode);
}

static int
attach_doc(FirnView *view, FirnLeaf *leaf, FirnDir *dir, FirnMeta *meta)
{
	FirnLeaf *old;
	int failed = firn_node_put(view, dir, meta);

	if (failed != 0)
		return failed;
	old = dir->doc;
	if (old == leaf)
		return 0;
	dir->doc = leaf;
	firn_inode_ref(&leaf->inode);
	firn_keep_mark(&leaf->inode);
	if (old != NULL) {
		old->inode.dead = true;
		firn_keep_mark(&old->inode);
		firn_inode_unref(view, &old->inode);
	}
	return 0;
}

/* Record a leaf's content as a chunk. */
static int
attach_chunk(FirnView *view, FirnLeaf *leaf, const FirnRole *role)
{
	const FirnContent *content = leaf->content;
	FirnPart part = firn_content_part(content);
	bool moved = leaf->moved != NULL && content->kind == FIRN_CONTENT_NATIVE &&
		     firn_part_equal(leaf->moved, &part) &&
		     !g_hash_table_contains(view->shared, &part);
	int failed = firn_chunk_record(view, role->array, role->coords, leaf->content,
				       leaf->inode.ino, leaf->inode.mtime_ns);

	/* The object was named once, by the record the rename took back. */
	if (failed == 0 && moved) {
		g_hash_table_remove(view->shared, &part);
		g_clear_pointer(&leaf->moved, g_free);
	}
	return failed;
}

/*
 * All that is recorded when a leaf gets a name.  The chunk comes last: what was there goes with
 * its record, and there is no way back.
 */
static int
record_attached(FirnView *view, FirnLeaf *leaf, const FirnPlace *place, const char *name,
		const FirnRole *role, FirnLeafKind kind)
{
	int failed = drop_displaced(view, place->dir, name, role, leaf);

	if (failed == 0 && leaf->kind == FIRN_LEAF_PENDING && kind != FIRN_LEAF_PENDING &&
	    leaf->inode.parent != NULL) {
		g_autofree char *path = firn_leaf_pending_path(leaf);

		failed = drop_pending(view, path);
	}
	if (failed == 0 && kind == FIRN_LEAF_PENDING) {
		g_autofree char *path = firn_place_path(place, name);

		failed = record_pending(view, path, leaf->content);
	}
	if (failed != 0 || role->kind != FIRN_LEAF_CHUNK)
		return failed;
	if (kind == FIRN_LEAF_CHUNK)
		return attach_chunk(view, leaf, role);
	if (!role->array->in_base && firn_chunk_change(view, role->array, role->coords) == NULL)
		return 0;
	return firn_chunk_record(view, role->array, role->coords, NULL, 0, 0);
}

int
firn_leaf_attach(FirnView *view, FirnLeaf *leaf, const FirnPlace *place, const char *name,
		 const FirnRole *role, FirnMeta *meta)
{
	FirnDir *dir = firn_place_materialise(view, place);
	FirnPlace at = *place;
	bool group = role->kind != FIRN_LEAF_DOC && view->group == NULL;
	FirnChunkThere chunk = { 0 };
	FirnRole actual = *role;
	int failed = 0;

	at.dir = dir;
	if (actual.kind == FIRN_LEAF_CHUNK && leaf->content == NULL)
		actual.kind = FIRN_LEAF_PENDING;
	if (actual.kind == FIRN_LEAF_DOC)
		failed = attach_doc(view, leaf, dir, meta);
	if (group)
		firn_group_begin(view);
	if (role->kind == FIRN_LEAF_CHUNK)
		chunk = firn_chunk_there(view, role->array, role->coords);
	if (failed == 0)
		failed = record_attached(view, leaf, &at, name, role, actual.kind);
	if (group)
		(void)firn_group_end(view, failed);
	if (failed != 0)
		return failed;
	displace(view, dir, name, role, &chunk, leaf);
	leaf_set_role(view, leaf, &actual);
	settle_at(view, leaf, dir, name,
		  actual.kind == FIRN_LEAF_PENDING || actual.kind == FIRN_LEAF_SCRATCH);
	if (actual.kind == FIRN_LEAF_PENDING) {
		if (leaf->content != NULL)
			leaf->content->published = true;
		g_clear_pointer(&leaf->moved, g_free);
	} else if (actual.kind != FIRN_LEAF_SCRATCH) {
		firn_chunk_drop_moved(view, leaf);
	}
	leaf->unpublished = false;
	firn_content_unref(leaf->previous);
	leaf->previous = NULL;
	firn_keep_content_locked(leaf);
	return 0;
}

int
firn_leaf_detach(FirnView *view, FirnLeaf *leaf, bool dead)
{
	FirnDir *parent = leaf->inode.parent;
	g_autofree char *path = NULL;
	int failed = 0;

	switch (leaf->kind) {
	case FIRN_LEAF_DOC:
		if (parent->doc == leaf) {
			firn_node_wait(view);
			firn_inode_ref(&leaf->inode);
			firn_node_doc_gone(view, parent);
			leaf->inode.dead = dead;
			firn_keep_mark(&leaf->inode);
			firn_inode_unref(view, &leaf->inode);
			return 0;
		}
		break;
	case FIRN_LEAF_CHUNK:
		if (leaf->array->inode.dead || leaf->inode.dead)
			break;
		failed = firn_chunk_record(view, leaf->array, leaf->coords, NULL, 0, 0);
		if (failed == 0 && !dead)
			firn_chunk_hold_moved(leaf);
		break;
	case FIRN_LEAF_PENDING:
		path = firn_leaf_pending_path(leaf);
		failed = drop_pending(view, path);
		break;
	case FIRN_LEAF_SCRATCH:
		break;
	}
	if (failed != 0)
		return failed;
	firn_keep_mark(&leaf->inode);
	if (parent != NULL) {
		firn_inode_touch(&parent->inode);
		firn_keep_mark(&parent->inode);
	}
	if (parent != NULL && g_hash_table_lookup(parent->children, leaf->inode.name) == leaf) {
		g_hash_table_remove(parent->children, leaf->inode.name);
		firn_inode_unref(view, &leaf->inode);
	}
	if (dead)
		leaf->inode.dead = true;
	return 0;
}

int
firn_leaf_adopt(FirnView *view, FirnDir *array, const char *path, const uint32_t *coords)
{
	FirnPending *pending = g_hash_table_lookup(view->session->changes->pending, path);
	FirnRole role = { .kind = FIRN_LEAF_CHUNK, .array = array, .rank = array->meta->rank };
	g_autofree char *parent_path = g_path_get_dirname(path);
	g_autofree char *name = g_path_get_basename(path);
	FirnContent *content;
	FirnInode *inode;
	FirnDir *parent;
	FirnPart part;
	int failed;

	/* An empty file has no place among chunks. */
	if (pending == NULL || firn_chunk_change_length(&pending->content) == 0)
		return 0;
	parent = firn_tree_make_path(view, view->tree, parent_path);
	inode = g_hash_table_lookup(parent->children, name);
	if (inode == NULL || inode->directory)
		return 0;
	memcpy(role.coords, coords, role.rank * sizeof *coords);
	content = firn_content_from_change(view, &pending->content);
	failed = firn_chunk_record(view, array, coords, content, inode->ino, inode->mtime_ns);
	/* The object was named once, by the pending record this one replaces. */
	part = firn_content_part(content);
	if (content->kind == FIRN_CONTENT_NATIVE)
		g_hash_table_remove(view->shared, &part);
	firn_content_unref(content);
	if (failed == 0)
		failed = drop_pending(view, path);
	if (failed != 0)
		return failed;
	firn_inode_ref(inode);
	leaf_set_role(view, (FirnLeaf *)inode, &role);
	g_hash_table_remove(parent->children, name);
	firn_inode_unref(view, inode);
	firn_inode_unref(view, inode);
	return 0;
}

/*
 * A refused document gives way to what was there before.  Its bytes are kept
 * aside: what was closed may have been a duplicate of the descriptor, and the
 * writer goes on.
 */
static void
revert_doc(FirnView *view, FirnLeaf *leaf, bool last)
{
	FirnContent *content = NULL;
	FirnDir *dir;

	pthread_mutex_lock(&view->lock);
	dir = leaf->inode.parent;
	if (dir != NULL && dir->doc == leaf) {
		content = firn_content_from_bytes(view, dir->meta->raw);
		content->published = true;
	} else if (last && dir != NULL && !leaf->inode.dead) {
		/* There was nothing before: there is nothing now. */
		firn_view_invalidate(view, dir->inode.ino, leaf->inode.name);
		firn_inode_unlink(view, &leaf->inode);
	}
	firn_view_unlock(view);
	if (content == NULL)
		return;
	firn_leaf_drop_spool(leaf);
	if (leaf->content != NULL) {
		firn_content_unref(leaf->refused);
		leaf->refused = firn_content_ref(leaf->content);
	}
	firn_leaf_set_content(leaf, content);
	leaf->size = content->length;
	leaf->unpublished = false;
	firn_keep_content(leaf);
	firn_view_invalidate(view, leaf->inode.ino, NULL);
}

static int
publish_doc(FirnView *view, FirnLeaf *leaf, bool last)
{
	g_autoptr(FirnMeta) meta = NULL;
	g_autofree char *path = NULL;
	FirnPlace place = { .dir = NULL };
	FirnRole role = { .kind = FIRN_LEAF_DOC };
	bool foreign = firn_node_is_foreign(leaf->content);
	int failed = 0;

	pthread_mutex_lock(&view->lock);
	path = firn_inode_path(&leaf->inode);
	foreign = foreign && leaf->inode.parent != NULL && !leaf->inode.parent->has_node;
	firn_view_unlock(view);
	if (foreign) {
		role.kind = FIRN_LEAF_PENDING;
		failed = firn_content_settle(view, &leaf->content);
	} else {
		failed = firn_node_parse(view, path, leaf->content, &meta);
	}
	if (failed == 0) {
		pthread_mutex_lock(&view->lock);
		/* It is published by its last close then. */
		if (!last && firn_node_wait_killable(view) != 0) {
			firn_view_unlock(view);
			return EINTR;
		}
		place.dir = leaf->inode.parent;
		if (!leaf->inode.dead && place.dir != NULL)
			failed = firn_leaf_attach(view, leaf, &place, "zarr.json", &role, meta);
		firn_view_unlock(view);
	}
	if (failed != 0)
		revert_doc(view, leaf, last);
	return failed;
}

static int
publish_chunk(FirnView *view, FirnLeaf *leaf)
{
	g_autofree char *name = NULL;
	FirnPlace place;
	FirnRole role;
	int failed = firn_content_settle(view, &leaf->content);

	if (failed != 0)
		return failed;
	pthread_mutex_lock(&view->lock);
	if (!leaf->inode.dead && firn_chunk_displaced(view, leaf)) {
		/* Whoever removes or replaces a file says so: this must not happen. */
		g_autofree char *path = firn_inode_path(&leaf->inode);

		firn_view_note(view, path, "what was written is lost: another file is there now");
		leaf->inode.dead = true;
		firn_keep_mark(&leaf->inode);
		failed = EIO;
	}
	if (!leaf->inode.dead && leaf->inode.parent != NULL) {
		name = g_strdup(leaf->inode.name);
		failed = firn_place_find(view, leaf->inode.parent->inode.ino, &place);
		if (failed == 0)
			failed = firn_place_role(view, &place, name, &role);
		if (failed == 0)
			failed = firn_leaf_attach(view, leaf, &place, name, &role, NULL);
	}
	firn_view_unlock(view);
	return failed;
}

/* A file that was made and closed, and nothing written to it. */
static int
publish_empty(FirnView *view, FirnLeaf *leaf)
{
	int failed = 0;

	pthread_mutex_lock(&view->lock);
	if (leaf->kind == FIRN_LEAF_PENDING && !leaf->inode.dead && leaf->inode.parent != NULL) {
		g_autofree char *path = firn_leaf_pending_path(leaf);

		failed = record_pending(view, path, NULL);
	}
	firn_view_unlock(view);
	return failed;
}

int
firn_leaf_publish(FirnView *view, FirnLeaf *leaf, bool last)
{
	FirnLeafKind kind;
	bool dead;
	bool doc;
	int failed = 0;

	if (leaf->lost)
		return EIO;
	/* A duplicate of the descriptor closed before anything was written says nothing. */
	if (!last && (!leaf->touched && leaf->size == 0))
		return 0;
	pthread_mutex_lock(&view->lock);
	kind = leaf->kind;
	dead = leaf->inode.dead;
	doc = kind == FIRN_LEAF_DOC ||
	      (kind == FIRN_LEAF_PENDING && strcmp(leaf->inode.name, "zarr.json") == 0);
	firn_view_unlock(view);
	/* Most are renamed next: what is in memory becomes what it is to be then. */
	if (kind == FIRN_LEAF_SCRATCH && (!last || firn_leaf_is_in_memory(leaf)))
		return 0;
	failed = firn_leaf_complete(view, leaf, kind);
	if (failed == 0 && last && kind == FIRN_LEAF_PENDING && leaf->content == NULL &&
	    !leaf->unpublished)
		return publish_empty(view, leaf);
	if (failed != 0 || dead || !leaf->unpublished || kind == FIRN_LEAF_SCRATCH)
		return failed;
	return doc ? publish_doc(view, leaf, last) : publish_chunk(view, leaf);
}

void
firn_leaf_revert(FirnView *view, FirnLeaf *leaf)
{
	FirnContent *content = leaf->unpublished ? leaf->previous : leaf->content;
	bool other;

	pthread_mutex_lock(&view->lock);
	/* Scratch files are not published, and documents revert on their own. */
	other = leaf->kind == FIRN_LEAF_SCRATCH || leaf->kind == FIRN_LEAF_DOC || leaf->inode.dead;
	firn_view_unlock(view);
	if (!leaf->lost && (other || (!leaf->dirty && !leaf->unpublished)))
		return;
	firn_leaf_drop_spool(leaf);
	leaf->size = content != NULL ? content->length : 0;
	leaf->touched = false;
	leaf->lost = false;
	if (leaf->unpublished) {
		leaf->unpublished = false;
		leaf->previous = NULL;
		firn_leaf_set_content(leaf, content);
	} else {
		firn_keep_content(leaf);
	}
	firn_keep_spool(leaf);
	/* The kernel has pages of what was written. */
	firn_view_invalidate(view, leaf->inode.ino, NULL);
}
