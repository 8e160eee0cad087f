#include "core/view/group.h"
#include "core/view/writing.h"

#include "core/base/clock.h"
#include "core/base/crash.h"

#include <errno.h>
#include <string.h>

FirnChunkChange *
firn_chunk_change(FirnView *view, FirnDir *array, const uint32_t *coords)
{
	FirnNodeChange *node;

	if (!array->tree->session)
		return NULL;
	node = firn_changes_find(view->session->changes, &array->id);
	if (node == NULL || node->chunks == NULL)
		return NULL;
	return firn_chunk_map_find(node->chunks, coords);
}

bool
firn_chunk_base_visible(FirnView *view, FirnDir *array, const uint32_t *coords, uint32_t n)
{
	FirnNodeChange *node;

	if (!array->in_base)
		return false;
	if (!array->tree->session)
		return true;
	node = firn_changes_find(view->session->changes, &array->id);
	for (uint32_t i = 0; i < n; i++) {
		if (i >= array->meta->rank || coords[i] >= MAX(array->meta->n_chunks[i], 1))
			return false;
		if (node != NULL && node->keep != NULL &&
		    (i >= node->keep_rank || coords[i] >= node->keep[i]))
			return false;
	}
	/* A scalar has one chunk; an axis shrunk to nothing has none. */
	for (uint32_t i = n; node != NULL && node->keep != NULL && i < node->keep_rank; i++)
		if (node->keep[i] == 0)
			return false;
	return true;
}

int
firn_chunk_look_up(FirnView *view, FirnSnapshot *base, size_t index, const uint32_t *coords,
		   uint32_t depth, bool want_content, FirnChunkLookup *out)
{
	g_autoptr(FirnManifest) manifest = NULL;
	GError *error = NULL;
	FirnSnapshotNode node;
	FirnRef ref;
	bool found;

	firn_snapshot_node(base, index, &node);
	out->directory = depth < node.rank;
	/* Nobody waits for a manifest that only says that there is something. */
	if (out->directory && firn_repo_implies_chunk(base, &node, coords, depth)) {
		out->found = true;
		return 0;
	}
	if (out->directory) {
		g_autoptr(FirnRefIter) iter =
			firn_ref_iter_new(view->repo, base, &node, coords, depth);
		const uint32_t *at;
		int more = firn_ref_iter_next(iter, &at, &ref, NULL, &error);

		if (more < 0)
			return firn_view_fail(view, "manifest", error), EIO;
		out->found = more > 0;
		return 0;
	}
	found = firn_repo_find_chunk(view->repo, base, &node, coords, &ref, &manifest, &error);
	if (error != NULL)
		return firn_view_fail(view, "manifest", error), EIO;
	out->found = found;
	out->length = found ? ref.length : 0;
	if (found && want_content) {
		out->content = firn_content_from_ref(view, &ref, manifest, &error);
		if (out->content == NULL)
			return firn_view_fail(view, "manifest", error), EIO;
	}
	return 0;
}

int
firn_chunk_find_base(FirnView *view, FirnDir *array, const uint32_t *coords, uint32_t depth,
		     bool want_content, FirnChunkLookup *out)
{
	uint64_t n_changes = array->n_changes;
	g_autoptr(FirnSnapshot) base = NULL;
	size_t index = array->base_index;
	int failed;

	*out = (FirnChunkLookup){ .directory = depth < array->meta->rank };
	if (!firn_chunk_base_visible(view, array, coords, depth))
		return 0;
	base = firn_snapshot_ref(array->tree->base);
	firn_inode_ref(&array->inode);
	firn_view_unlock(view);
	failed = firn_chunk_look_up(view, base, index, coords, depth, want_content, out);
	pthread_mutex_lock(&view->lock);
	if (failed == 0 && array->n_changes != n_changes) {
		firn_content_unref(out->content);
		out->content = NULL;
		failed = EAGAIN;
	}
	firn_inode_unref(view, &array->inode);
	return failed;
}

bool
firn_chunk_any_changed(FirnView *view, FirnDir *array, const uint32_t *prefix, uint32_t depth)
{
	FirnNodeChange *node;
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;

	if (!array->tree->session)
		return false;
	node = firn_changes_find(view->session->changes, &array->id);
	if (node == NULL || node->chunks == NULL)
		return false;
	firn_chunk_iter_seek(&iter, node->chunks, prefix, depth);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		if (depth > 0 && memcmp(coords, prefix, depth * sizeof *coords) != 0)
			return false;
		if (change->kind != FIRN_REF_NONE)
			return true;
	}
	return false;
}

int
firn_chunk_any_below(FirnView *view, FirnDir *array, const uint32_t *prefix, uint32_t depth)
{
	g_autoptr(FirnRefIter) iter = NULL;
	g_autoptr(FirnSnapshot) base = NULL;
	FirnSnapshotNode node;
	GError *error = NULL;
	int result = 0;

	if (firn_chunk_any_changed(view, array, prefix, depth))
		return 1;
	if (!firn_chunk_base_visible(view, array, prefix, depth))
		return 0;
	base = firn_snapshot_ref(array->tree->base);
	firn_snapshot_node(base, array->base_index, &node);
	firn_inode_ref(&array->inode);
	iter = firn_ref_iter_new(view->repo, base, &node, prefix, depth);
	for (;;) {
		FirnChunkChange *change;
		const uint32_t *coords;
		FirnRef ref;
		int more;

		firn_view_unlock(view);
		more = firn_ref_iter_next(iter, &coords, &ref, NULL, &error);
		pthread_mutex_lock(&view->lock);
		if (more < 0) {
			result = -EIO;
			(void)firn_view_fail(view, "manifest", error);
			break;
		}
		if (more == 0)
			break;
		if (!firn_chunk_base_visible(view, array, coords, node.rank))
			continue;
		change = firn_chunk_change(view, array, coords);
		if (change == NULL || change->kind != FIRN_REF_NONE) {
			result = 1;
			break;
		}
	}
	firn_inode_unref(view, &array->inode);
	return result;
}

static char *
chunk_name(const uint32_t *coords, uint32_t rank)
{
	return rank == 0 ? g_strdup("c") : g_strdup_printf("%u", coords[rank - 1]);
}

FirnLeaf *
firn_chunk_leaf_new(FirnView *view, FirnDir *array, const uint32_t *coords, uint64_t ino)
{
	uint32_t rank = array->meta->rank;
	g_autofree char *name = chunk_name(coords, rank);
	FirnPlace place = { .array = array, .depth = rank > 0 ? rank - 1 : 0 };
	FirnDir *parent = array;
	FirnLeaf *leaf;

	if (rank > 0) {
		memcpy(place.prefix, coords, place.depth * sizeof *coords);
		parent = firn_place_materialise(view, &place);
	}
	leaf = firn_leaf_new(view, parent, name, FIRN_LEAF_CHUNK, ino);
	leaf->array = array;
	firn_inode_ref(&array->inode);
	leaf->coords = g_memdup2(coords, MAX(rank, 1) * sizeof *coords);
	leaf->rank = rank;
	return leaf;
}

FirnLeaf *
firn_chunk_leaf(FirnView *view, FirnDir *array, const uint32_t *coords, FirnChunkChange *change)
{
	FirnInode *inode = change->ino != 0 ? firn_inode_find(view, change->ino) : NULL;
	FirnLeaf *leaf;

	if (inode != NULL && !inode->directory)
		return (FirnLeaf *)inode;
	leaf = firn_chunk_leaf_new(view, array, coords, change->ino);
	change->ino = leaf->inode.ino;
	leaf->content = firn_content_from_change(view, change);
	leaf->size = firn_chunk_change_length(change);
	if (change->mtime_ns != 0)
		leaf->inode.mtime_ns = change->mtime_ns;
	else
		change->mtime_ns = leaf->inode.mtime_ns;
	firn_keep_change(view, change);
	/* Nothing links it but the overlay: it lives while somebody knows it. */
	leaf->inode.refs = 0;
	return leaf;
}

FirnChunkThere
firn_chunk_there(FirnView *view, FirnDir *array, const uint32_t *coords)
{
	FirnChunkChange *change = firn_chunk_change(view, array, coords);
	FirnChunkThere there = { .writing = firn_writing_find(view, array, coords) };
	FirnInode *inode = NULL;
	uint64_t ino = 0;

	if (change != NULL)
		ino = change->ino;
	else if (array->file_slot != NULL)
		ino = firn_slot_ino(array->file_slot, coords, array->file_slot->rank);
	if (ino != 0)
		inode = firn_inode_find(view, ino);
	if (inode != NULL && !inode->directory)
		there.recorded = inode;
	return there;
}

static void
mark_dead(FirnInode *inode, const FirnInode *but)
{
	if (inode == NULL || inode == but)
		return;
	inode->dead = true;
	firn_keep_mark(inode);
}

void
firn_chunk_mark_dead(const FirnChunkThere *there, const FirnInode *but)
{
	mark_dead(there->recorded, but);
	mark_dead(there->writing != NULL ? &there->writing->inode : NULL, but);
}

bool
firn_chunk_displaced(FirnView *view, const FirnLeaf *leaf)
{
	FirnChunkChange *change;

	if (leaf->kind != FIRN_LEAF_CHUNK || leaf->array->inode.dead ||
	    leaf->array->meta->rank != leaf->rank)
		return false;
	change = firn_chunk_change(view, leaf->array, leaf->coords);
	/* Without a change it is the base's file.  The number is unknown after a restart. */
	return change != NULL && (change->kind == FIRN_REF_NONE ||
				  (change->ino != 0 && change->ino != leaf->inode.ino));
}

void
firn_chunk_release_retired(FirnView *view, FirnLeaf *leaf)
{
	for (guint i = 0; leaf->retired != NULL && i < leaf->retired->len; i++)
		firn_view_discard_part(view, &g_array_index(leaf->retired, FirnPart, i));
	if (leaf->retired == NULL)
		return;
	g_array_unref(leaf->retired);
	leaf->retired = NULL;
	firn_keep_mark(&leaf->inode);
}

/* Whether it was among the replaced objects that a leaf holds back; it is not any more. */
static bool
take_retired(FirnLeaf *leaf, const FirnPart *part)
{
	for (guint i = 0; leaf->retired != NULL && i < leaf->retired->len; i++)
		if (firn_part_equal(&g_array_index(leaf->retired, FirnPart, i), part)) {
			g_array_remove_index_fast(leaf->retired, i);
			return true;
		}
	return false;
}

void
firn_chunk_hold_moved(FirnLeaf *leaf)
{
	const FirnContent *content = leaf->content;
	FirnPart part;

	if (content == NULL || content->kind != FIRN_CONTENT_NATIVE)
		return;
	part = firn_content_part(content);
	if (!take_retired(leaf, &part))
		return;
	g_free(leaf->moved);
	leaf->moved = firn_part_copy(&part);
}

void
firn_chunk_unretire(FirnLeaf *leaf, const FirnPart *part)
{
	(void)take_retired(leaf, part);
	if (leaf->moved != NULL && firn_part_equal(leaf->moved, part))
		g_clear_pointer(&leaf->moved, g_free);
	firn_keep_mark(&leaf->inode);
}

void
firn_chunk_drop_moved(FirnView *view, FirnLeaf *leaf)
{
	if (leaf->moved != NULL && !g_hash_table_contains(view->shared, leaf->moved))
		firn_view_discard_part(view, leaf->moved);
	g_free(leaf->moved);
	leaf->moved = NULL;
}

/*
 * What a replaced object of ours is good for is over, unless somebody else may
 * know it.  While the kernel knows the inode it was read through, an open may
 * be on its way: the object stays as long as that.
 */
static void
retire(FirnView *view, const FirnOwnObject *old)
{
	FirnInode *inode;
	FirnLeaf *leaf;

	if (old->seq <= view->exported_seq || g_hash_table_contains(view->shared, &old->part))
		return;
	inode = old->ino != 0 ? firn_inode_find(view, old->ino) : NULL;
	if (inode == NULL || inode->directory) {
		firn_view_discard_part(view, &old->part);
		return;
	}
	leaf = (FirnLeaf *)inode;
	if (leaf->retired == NULL)
		leaf->retired = g_array_new(FALSE, FALSE, sizeof(FirnPart));
	g_array_append_val(leaf->retired, old->part);
	firn_keep_mark(&leaf->inode);
}

void
firn_chunk_each_change(FirnView *view,
		       void (*each)(FirnView *view, FirnChunkChange *change, void *data),
		       void *data)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, view->session->changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnNodeChange *node = value;
		const uint32_t *coords;
		FirnChunkChange *change;
		FirnChunkIter chunks;

		if (node->chunks == NULL)
			continue;
		firn_chunk_iter_seek(&chunks, node->chunks, NULL, 0);
		while (firn_chunk_iter_next(&chunks, &coords, &change))
			each(view, change, data);
	}
}

static FirnOwnObject
own_object(const FirnChunkChange *change)
{
	return (FirnOwnObject){ .part = firn_change_part(change),
				.seq = change->seq,
				.ino = change->ino };
}

static void
add_object(FirnView *view, FirnChunkChange *change, void *data)
{
	FirnOwnObject object = own_object(change);
	GArray *own = data;

	(void)view;
	if (change->kind == FIRN_REF_NATIVE)
		g_array_append_val(own, object);
}

GArray *
firn_chunk_own_objects(FirnView *view)
{
	GArray *own = g_array_new(FALSE, FALSE, sizeof(FirnOwnObject));
	FirnChanges *changes = view->session->changes;
	GHashTableIter iter;
	gpointer value;

	firn_chunk_each_change(view, add_object, own);
	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		add_object(view, &((FirnPending *)value)->content, own);
	return own;
}

void
firn_chunk_retire_objects(FirnView *view, const GArray *own)
{
	for (guint i = 0; i < own->len; i++)
		retire(view, &g_array_index(own, FirnOwnObject, i));
}

static void
share(FirnView *view, FirnContent *content)
{
	FirnPart part = firn_content_part(content);

	if (content->kind == FIRN_CONTENT_NATIVE && content->published &&
	    !g_hash_table_contains(view->shared, &part))
		g_hash_table_add(view->shared, firn_part_copy(&part));
	if (content->kind == FIRN_CONTENT_NATIVE && !content->published)
		firn_view_unsynced(view, &content->id);
	content->published = true;
}

static bool
is_same(const FirnChunkChange *old, const FirnContent *content)
{
	FirnPart was = firn_change_part(old);
	FirnPart is = firn_content_part(content);

	return old->kind == FIRN_REF_NATIVE && content->kind == FIRN_CONTENT_NATIVE &&
	       firn_part_equal(&was, &is);
}

int
firn_chunk_record(FirnView *view, FirnDir *array, const uint32_t *coords, FirnContent *content,
		  uint64_t ino, int64_t mtime_ns)
{
	FirnSession *session = view->session;
	g_autofree char *path = firn_dir_path(array);
	uint32_t rank = array->meta->rank;
	FirnRef ref = { .kind = FIRN_REF_NONE };
	FirnChunkChange *change = firn_chunk_change(view, array, coords);
	FirnChunkChange old = { 0 };
	FirnNodeChange *node;
	GError *error = NULL;
	uint64_t seq;

	if (change != NULL)
		old = *change;
	if (content != NULL)
		firn_content_to_ref(content, &ref);
	if (!firn_journal_put_chunk(session->journal, &array->id, path, rank, coords, &ref, &seq,
				    &error))
		return firn_view_fail(view, path, error);
	firn_crash_point(FIRN_CRASH_RECORD_APPENDED);
	firn_view_recorded(view);
	firn_group_was_chunk(view, array, coords, change);
	array->n_changes++;
	view->stats.published++;
	if (old.kind == FIRN_REF_NATIVE && (content == NULL || !is_same(&old, content))) {
		FirnOwnObject object = own_object(&old);

		retire(view, &object);
	}
	if (content != NULL)
		share(view, content);
	change =
		firn_changes_put_chunk(session->changes, &array->id, path, rank, coords, &ref, seq);
	change->ino = ino;
	change->mtime_ns = mtime_ns;
	firn_keep_change_gone(view, old.seq);
	firn_keep_change(view, change);
	node = firn_changes_find(session->changes, &array->id);
	/*
	 * What is being committed may have the chunk: then that it went is news to the next one.
	 * So may a fork that knows the array.
	 */
	if (content == NULL && node->created_seq > session->changes->fork_seq &&
	    !view->committing && !view->intended) {
		firn_keep_change_gone(view, seq);
		firn_changes_forget_chunk(session->changes, node, coords);
	}
	return 0;
}
