#include "core/view/internal.h"

#include <string.h>

static gint
compare_text(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
add_nodes(FirnView *view, GPtrArray *nodes)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, view->session->changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnNodeChange *change = value;
		const char *what = "changed";
		const char *kind = "node";

		if (change->kind == FIRN_CHANGE_CHUNKS ||
		    (change->kind == FIRN_CHANGE_DELETE && change->created))
			continue;
		if (change->kind == FIRN_CHANGE_DELETE)
			what = "deleted";
		else if (change->created)
			what = "new";
		if (change->meta != NULL)
			kind = change->meta->kind == FIRN_NODE_ARRAY ? "array" : "group";
		g_ptr_array_add(nodes, g_strdup_printf("%s %s %s", what, kind, change->path));
	}
}

/* Whether a leaf counts among what a commit would leave behind. */
static bool
is_pending(const FirnLeaf *leaf)
{
	if (leaf->kind == FIRN_LEAF_PENDING)
		return true;
	return leaf->kind == FIRN_LEAF_DOC && leaf->inode.parent != NULL &&
	       leaf->inode.parent->doc != leaf;
}

FirnViewStatus *
firn_view_status(FirnView *view)
{
	FirnViewStatus *status = g_new0(FirnViewStatus, 1);
	GHashTableIter iter;
	FirnLeaf *leaf;

	status->nodes = g_ptr_array_new_with_free_func(g_free);
	status->pending = g_ptr_array_new_with_free_func(g_free);
	status->scratch = g_ptr_array_new_with_free_func(g_free);
	status->writers = g_ptr_array_new_with_free_func(g_free);
	pthread_mutex_lock(&view->lock);
	if (view->session->journal != NULL)
		status->last_seq = firn_journal_last_seq(view->session->journal);
	status->n_changed_chunks = view->session->changes->n_chunks;
	add_nodes(view, status->nodes);
	g_hash_table_iter_init(&iter, view->inodes);
	while ((leaf = firn_leaf_next(&iter)) != NULL) {
		g_autofree char *path = firn_inode_path(&leaf->inode);
		char *writer = firn_leaf_writer(leaf);

		if (writer != NULL)
			g_ptr_array_add(status->writers, writer);
		if (is_pending(leaf))
			g_ptr_array_add(status->pending, g_steal_pointer(&path));
		else if (leaf->kind == FIRN_LEAF_SCRATCH)
			g_ptr_array_add(status->scratch, g_steal_pointer(&path));
	}
	firn_view_unlock(view);
	g_ptr_array_sort(status->nodes, compare_text);
	g_ptr_array_sort(status->pending, compare_text);
	g_ptr_array_sort(status->scratch, compare_text);
	g_ptr_array_sort(status->writers, compare_text);
	return status;
}

void
firn_view_status_free(FirnViewStatus *status)
{
	if (status == NULL)
		return;
	g_ptr_array_unref(status->nodes);
	g_ptr_array_unref(status->pending);
	g_ptr_array_unref(status->scratch);
	g_ptr_array_unref(status->writers);
	g_free(status);
}
