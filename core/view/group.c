#include "core/view/group.h"

/*
 * Several records, or none: a rename takes a file from one place and puts it at another.  What was
 * there is taken down before anything is recorded over it; if a record fails, the journal is cut
 * back to where it was, and the overlay is as it was.
 */
typedef struct {
	FirnDir *array; /* of a chunk, referenced; NULL: a pending file */
	uint32_t *coords;
	char *path;           /* of a pending file, or of a node that moves */
	bool node;            /* the latter */
	FirnId8 id;           /* of that */
	bool there;           /* there was an entry */
	FirnContent *content; /* of that; NULL: deleted */
	uint64_t seq;
	uint64_t ino;
	int64_t mtime_ns;
	bool inherited;
	uint64_t dropped; /* the pending file was known as gone, since then; 0: not */
} Was;

static void
was_clear(gpointer data)
{
	Was *was = data;

	if (was->array != NULL)
		firn_inode_unref(was->array->inode.view, &was->array->inode);
	firn_content_unref(was->content);
	g_free(was->coords);
	g_free(was->path);
}

void
firn_group_begin(FirnView *view)
{
	g_assert(view->group == NULL);
	view->group = g_array_new(FALSE, TRUE, sizeof(Was));
	g_array_set_clear_func(view->group, was_clear);
	firn_journal_mark(view->session->journal);
}

static void
take_down(FirnView *view, Was *was, const FirnChunkChange *change)
{
	was->there = true;
	was->seq = change->seq;
	was->ino = change->ino;
	was->mtime_ns = change->mtime_ns;
	if (change->kind != FIRN_REF_NONE)
		was->content = firn_content_from_change(view, change);
}

void
firn_group_was_chunk(FirnView *view, FirnDir *array, const uint32_t *coords,
		     const FirnChunkChange *change)
{
	Was was = { .array = array };

	if (view->group == NULL)
		return;
	firn_inode_ref(&array->inode);
	was.coords = g_memdup2(coords, MAX(array->meta->rank, 1) * sizeof *coords);
	if (change != NULL)
		take_down(view, &was, change);
	g_array_append_val(view->group, was);
}

void
firn_group_was_pending(FirnView *view, const char *path)
{
	FirnChanges *changes = view->session->changes;
	const FirnPending *pending = g_hash_table_lookup(changes->pending, path);
	const FirnPending *dropped = g_hash_table_lookup(changes->dropped, path);
	Was was = { .dropped = dropped != NULL ? dropped->seq : 0 };

	if (view->group == NULL)
		return;
	was.path = g_strdup(path);
	if (pending != NULL) {
		take_down(view, &was, &pending->content);
		was.seq = pending->seq;
		was.inherited = pending->inherited;
	}
	g_array_append_val(view->group, was);
}

void
firn_group_was_at(FirnView *view, const FirnId8 *id)
{
	const FirnNodeChange *node = firn_changes_find(view->session->changes, id);
	Was was = { .node = true, .id = *id };

	if (view->group == NULL)
		return;
	was.path = g_strdup(node->path);
	was.seq = node->seq;
	g_array_append_val(view->group, was);
}

static FirnRef
ref_of(const Was *was)
{
	FirnRef ref = { .kind = FIRN_REF_NONE };

	if (was->content != NULL)
		firn_content_to_ref(was->content, &ref);
	return ref;
}

/* The object of a record that is there again is not to go with its file. */
static void
unretire(FirnView *view, const Was *was)
{
	FirnInode *inode = was->ino != 0 ? firn_inode_find(view, was->ino) : NULL;
	FirnPart part;

	if (inode == NULL || inode->directory || was->content == NULL ||
	    was->content->kind != FIRN_CONTENT_NATIVE)
		return;
	part = firn_content_part(was->content);
	firn_chunk_unretire((FirnLeaf *)inode, &part);
}

static void
restore_chunk(FirnView *view, const Was *was)
{
	FirnChanges *changes = view->session->changes;
	FirnChunkChange *change = firn_chunk_change(view, was->array, was->coords);
	FirnNodeChange *node = firn_changes_find(changes, &was->array->id);
	FirnRef ref = ref_of(was);

	if (change != NULL)
		firn_keep_change_gone(view, change->seq);
	was->array->n_changes++;
	if (!was->there) {
		firn_changes_forget_chunk(changes, node, was->coords);
		return;
	}
	change = firn_changes_put_chunk_of(changes, node, was->array->meta->rank, was->coords, &ref,
					   was->seq);
	change->ino = was->ino;
	change->mtime_ns = was->mtime_ns;
	firn_keep_change(view, change);
	unretire(view, was);
}

static void
restore_pending(FirnView *view, const Was *was)
{
	const FirnRef none = { .kind = FIRN_REF_NONE };
	FirnChanges *changes = view->session->changes;
	FirnPending *pending;
	FirnRef ref = ref_of(was);

	if (was->there) {
		firn_changes_put_pending(changes, was->path, &ref, was->seq);
		pending = g_hash_table_lookup(changes->pending, was->path);
		pending->inherited = was->inherited;
	} else if (was->dropped != 0) {
		firn_changes_put_pending(changes, was->path, &none, was->dropped);
	} else {
		g_hash_table_remove(changes->pending, was->path);
	}
}

int
firn_group_end(FirnView *view, int failed)
{
	for (guint i = view->group->len; failed != 0 && i > 0; i--) {
		const Was *was = &g_array_index(view->group, Was, i - 1);

		if (was->node)
			firn_changes_move_node(view->session->changes, &was->id, was->path,
					       was->seq);
		else if (was->array != NULL)
			restore_chunk(view, was);
		else
			restore_pending(view, was);
	}
	firn_journal_unmark(view->session->journal, failed != 0);
	g_array_unref(view->group);
	view->group = NULL;
	return failed;
}
