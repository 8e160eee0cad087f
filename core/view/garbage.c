#include "core/view/internal.h"
#include "core/view/pack.h"

/* Objects, and parts of packs, that no record names any more. */

void
firn_view_discard_part(FirnView *view, const FirnPart *part)
{
	FIRN_LOCK_SCOPE(&view->side_lock);

	g_array_append_vals(view->garbage, part, 1);
}

/* What cannot be removed is unreferenced and left to a collection. */
static void
remove_object(FirnView *view, const FirnId12 *id)
{
	g_autofree char *key = firn_content_key(id);
	GError *error = NULL;

	if (!firn_store_remove(firn_repo_store(view->repo), key, &error))
		g_error_free(error);
}

static int
compare_parts(const void *a, const void *b)
{
	const FirnPart *x = a;
	const FirnPart *y = b;
	int order = firn_id12_compare(&x->id, &y->id);

	return order != 0 ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

/* What follows without a gap that another chunk could be in is freed with it. */
static guint
free_run(FirnView *view, const GArray *holes, guint first)
{
	const FirnPart *run = &g_array_index(holes, FirnPart, first);
	g_autofree char *key = firn_content_key(&run->id);
	uint64_t end = run->offset + run->length;
	GError *error = NULL;
	guint next = first + 1;

	for (; next < holes->len; next++) {
		const FirnPart *part = &g_array_index(holes, FirnPart, next);

		if (firn_id12_compare(&part->id, &run->id) != 0 ||
		    part->offset != firn_pack_align(end, 1))
			break;
		end = part->offset + part->length;
	}
	if (!firn_store_free_range(firn_repo_store(view->repo), key, run->offset, end - run->offset,
				   &error))
		g_error_free(error);
	return next;
}

void
firn_view_remove_parts(FirnView *view, GArray *parts)
{
	g_autoptr(GArray) holes = g_array_new(FALSE, FALSE, sizeof(FirnPart));
	g_autoptr(GHashTable) empty = g_hash_table_new(firn_id12_hash, firn_id12_equal);

	for (guint i = 0; i < parts->len; i++) {
		const FirnPart *part = &g_array_index(parts, FirnPart, i);
		FirnPackRest rest = part->offset > 0 ? firn_pack_drop(view, part) : FIRN_PACK_EMPTY;

		if (rest == FIRN_PACK_HOLE)
			g_array_append_vals(holes, part, 1);
		if (rest != FIRN_PACK_EMPTY)
			continue;
		remove_object(view, &part->id);
		firn_pack_fd_forget(view, &part->id);
		if (part->offset > 0)
			g_hash_table_add(empty, &g_array_index(parts, FirnPart, i).id);
	}
	g_array_sort(holes, compare_parts);
	for (guint i = 0; i < holes->len;)
		if (g_hash_table_contains(empty, &g_array_index(holes, FirnPart, i).id))
			i++;
		else
			i = free_run(view, holes, i);
}

void
firn_view_sweep(FirnView *view)
{
	g_autoptr(GArray) garbage = NULL;
	bool any;

	pthread_mutex_lock(&view->side_lock);
	/* While records are not durable, those they replace may be needed again: see flush.c. */
	any = view->garbage->len > 0 && !view->dirty;
	pthread_mutex_unlock(&view->side_lock);
	if (!any)
		return;
	/* What made it garbage must be kept first, or a successor would look for it. */
	pthread_mutex_lock(&view->lock);
	firn_view_checkpoint(view);
	pthread_mutex_lock(&view->side_lock);
	if (!view->dirty) {
		garbage = view->garbage;
		view->garbage = g_array_new(FALSE, FALSE, sizeof(FirnPart));
	}
	pthread_mutex_unlock(&view->side_lock);
	firn_view_unlock(view);
	if (garbage != NULL)
		firn_view_remove_parts(view, garbage);
}
