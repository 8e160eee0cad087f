#include "core/view/internal.h"

#include "core/zarr/name.h"

/*
 * Chunk directories of the base that were removed.  No journal has them, as
 * snapshots have no directories; a successor of the driver finds each in a
 * record of its own, or taking away many would write ever longer ones.
 */

static char *
key_of(const FirnPlace *child)
{
	return firn_name_format_chunk(child->prefix, child->depth);
}

bool
firn_place_removed(const FirnPlace *child)
{
	g_autofree char *key = NULL;

	if (child->array->removed == NULL)
		return false;
	key = key_of(child);
	return g_hash_table_contains(child->array->removed, key);
}

static GHashTable *
table_of(FirnDir *array)
{
	if (array->removed == NULL)
		array->removed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return array->removed;
}

static void
add(FirnDir *array, char *key)
{
	FirnView *view = array->inode.view;
	uint64_t number;

	if (g_hash_table_contains(table_of(array), key)) {
		g_free(key);
		return;
	}
	number = firn_inode_next(view);
	firn_keep_removed(view, number, array, key);
	g_hash_table_insert(array->removed, key, g_memdup2(&number, sizeof number));
}

void
firn_place_set_removed(const FirnPlace *child, bool removed)
{
	FirnDir *array = child->array;
	g_autofree char *key = NULL;
	const uint64_t *number;

	if (removed) {
		add(array, key_of(child));
		return;
	}
	if (array->removed == NULL)
		return;
	key = key_of(child);
	number = g_hash_table_lookup(array->removed, key);
	if (number != NULL)
		firn_keep_removed_gone(array->inode.view, *number);
	g_hash_table_remove(array->removed, key);
}

void
firn_dir_forget_removed(FirnDir *array, uint64_t before)
{
	GHashTableIter iter;
	gpointer number;

	if (array->removed == NULL)
		return;
	g_hash_table_iter_init(&iter, array->removed);
	while (g_hash_table_iter_next(&iter, NULL, &number)) {
		if (*(uint64_t *)number >= before)
			continue;
		firn_keep_removed_gone(array->inode.view, *(uint64_t *)number);
		g_hash_table_iter_remove(&iter);
	}
	if (g_hash_table_size(array->removed) == 0)
		g_clear_pointer(&array->removed, g_hash_table_unref);
}

void
firn_dir_restore_removed(FirnDir *array, uint64_t number, char *key)
{
	g_hash_table_replace(table_of(array), key, g_memdup2(&number, sizeof number));
}
