#include "core/view/internal.h"

#include "core/zarr/name.h"

#include <errno.h>
#include <string.h>

/*
 * A listing has two parts.  Names that are table entries, and nodes of the
 * base, are taken down when the listing starts (offset 0) and go first; chunks
 * and chunk directories follow in coordinate order, straight from the refs, and
 * their offsets are their indices, so a listing goes on where it was whatever
 * was added or removed.
 */
#define INDEX_OFFSET (UINT64_C(1) << 40)
#define DOT_ENTRIES  2u

struct FirnDirStream {
	uint64_t ino;
	pthread_mutex_t lock; /* one reader at a time */
	GPtrArray *names;     /* char *: the first part */
	FirnPlace chunks;     /* the second part, if it has one */
	bool has_chunks;
	FirnDir *held;     /* referenced: `chunks`' array */
	FirnRefIter *iter; /* over the base; NULL: none, or not begun */
	FirnSnapshot *base;
	bool iter_begun;
	bool base_pending; /* base_index holds a value not yet used */
	uint32_t base_index;
	uint64_t base_length;
};

int
firn_view_opendir(FirnView *view, uint64_t ino, FirnDirStream **out_dir)
{
	FirnDirStream *dir;
	FirnPlace place;
	int failed = 0;

	pthread_mutex_lock(&view->lock);
	if (ino != FIRN_INO_TOP)
		failed = firn_place_find(view, ino, &place);
	firn_view_unlock(view);
	if (failed != 0)
		return failed;
	dir = g_new0(FirnDirStream, 1);
	dir->ino = ino;
	pthread_mutex_init(&dir->lock, NULL);
	*out_dir = dir;
	return 0;
}

static void
stream_reset(FirnView *view, FirnDirStream *dir)
{
	if (dir->names != NULL)
		g_ptr_array_unref(dir->names);
	dir->names = NULL;
	firn_ref_iter_free(dir->iter);
	dir->iter = NULL;
	firn_snapshot_unref(dir->base);
	dir->base = NULL;
	dir->iter_begun = false;
	dir->base_pending = false;
	dir->has_chunks = false;
	if (dir->held != NULL)
		firn_inode_unref(view, &dir->held->inode);
	dir->held = NULL;
}

void
firn_view_closedir(FirnView *view, FirnDirStream *dir)
{
	pthread_mutex_lock(&view->lock);
	stream_reset(view, dir);
	firn_view_unlock(view);
	pthread_mutex_destroy(&dir->lock);
	g_free(dir);
}

/* Names of the base's nodes right below `dir`, each once. */
static void
add_base_children(FirnView *view, FirnDir *dir, GHashTable *seen, GPtrArray *names)
{
	g_autofree char *path = firn_dir_path(dir);
	g_autofree char *prefix = g_strconcat(strcmp(path, "/") == 0 ? "" : path, "/", NULL);
	size_t len = strlen(prefix);
	FirnTree *tree = dir->tree;
	FirnSnapshotNode node;
	size_t at;

	(void)firn_snapshot_find_path(tree->base, prefix, len, &at);
	for (; at < firn_snapshot_n_nodes(tree->base); at++) {
		const char *rest;
		size_t rest_len;

		firn_snapshot_node(tree->base, at, &node);
		if (node.path.len < len || memcmp(node.path.data, prefix, len) != 0)
			return;
		if (node.path.len == len)
			continue;
		rest = (const char *)node.path.data + len;
		rest_len = node.path.len - len;
		if (memchr(rest, '/', rest_len) != NULL)
			rest_len = (size_t)((const char *)memchr(rest, '/', rest_len) - rest);
		if (firn_tree_base_alive(view, tree, at, &node)) {
			g_autofree char *name = g_strndup(rest, rest_len);

			if (g_hash_table_contains(seen, name))
				continue;
			g_hash_table_add(seen, name);
			g_ptr_array_add(names, g_steal_pointer(&name));
		}
	}
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Take down the first part, and find the second.  View lock held. */
static int
stream_begin(FirnView *view, FirnDirStream *dir)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
	GHashTableIter iter;
	FirnPlace place;
	gpointer name;
	gpointer value;
	int failed;

	stream_reset(view, dir);
	dir->names = g_ptr_array_new_with_free_func(g_free);
	if (dir->ino == FIRN_INO_TOP) {
		if (view->tree->root != NULL)
			g_ptr_array_add(dir->names, g_strdup(view->name));
		return 0;
	}
	failed = firn_place_find(view, dir->ino, &place);
	if (failed != 0)
		return failed == ENOENT ? 0 : failed;
	if (place.dir != NULL && !place.dir->inode.dead) {
		g_hash_table_iter_init(&iter, place.dir->children);
		while (g_hash_table_iter_next(&iter, &name, &value)) {
			char *copy;
			uint32_t index;

			/* Indices of a chunk directory come in the second part. */
			if (!firn_leaf_is_listed(value) ||
			    (place.array != NULL && firn_name_parse_index(name, &index)))
				continue;
			copy = g_strdup(name);
			g_hash_table_add(seen, copy);
			g_ptr_array_add(dir->names, copy);
		}
		if (place.dir->has_node && !place.dir->doc_missing &&
		    !g_hash_table_contains(seen, "zarr.json"))
			g_ptr_array_add(dir->names, g_strdup("zarr.json"));
		if (place.array == NULL)
			add_base_children(view, place.dir, seen, dir->names);
		if (firn_dir_is_array(place.dir) && !g_hash_table_contains(seen, "c"))
			g_ptr_array_add(dir->names, g_strdup("c"));
		g_ptr_array_sort(dir->names, compare_names);
	}
	if (place.array != NULL && place.depth < place.array->meta->rank) {
		dir->has_chunks = true;
		dir->chunks = place;
		dir->held = place.array;
		firn_inode_ref(&dir->held->inode);
	}
	return 0;
}

GBytes *
firn_view_dir_kept(FirnDirStream *dir)
{
	GByteArray *out;
	FIRN_LOCK_SCOPE(&dir->lock);

	if (dir->names == NULL)
		return NULL;
	out = g_byte_array_new();
	firn_keep_add(out, dir->names->len);
	for (guint i = 0; i < dir->names->len; i++)
		firn_keep_add_text(out, dir->names->pdata[i]);
	return g_byte_array_free_to_bytes(out);
}

void
firn_view_dir_restore(FirnView *view, FirnDirStream *dir, GBytes *kept)
{
	FirnKeepReader reader = firn_keep_reader(kept);
	uint64_t n = firn_keep_take(&reader);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	for (uint64_t i = 0; i < n && !reader.bad; i++)
		g_ptr_array_add(names, firn_keep_take_text(&reader));
	pthread_mutex_lock(&dir->lock);
	pthread_mutex_lock(&view->lock);
	if (!reader.bad && stream_begin(view, dir) == 0) {
		g_ptr_array_unref(dir->names);
		dir->names = g_steal_pointer(&names);
	}
	firn_view_unlock(view);
	pthread_mutex_unlock(&dir->lock);
}

/* ---- the second part ---- */

/* The smallest index >= from among changed chunks that live below.  View lock held. */
static bool
next_changed(FirnView *view, const FirnPlace *place, uint64_t from, uint32_t *out_index)
{
	FirnNodeChange *node =
		place->array->tree->session
			? firn_changes_find(view->session->changes, &place->array->id)
			: NULL;
	uint32_t seek[FIRN_MAX_RANK];
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;

	if (node == NULL || node->chunks == NULL || from > UINT32_MAX)
		return false;
	memcpy(seek, place->prefix, place->depth * sizeof *seek);
	seek[place->depth] = (uint32_t)from;
	firn_chunk_iter_seek(&iter, node->chunks, seek, place->depth + 1);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		if (memcmp(coords, place->prefix, place->depth * sizeof *coords) != 0)
			return false;
		if (change->kind != FIRN_REF_NONE) {
			*out_index = coords[place->depth];
			return true;
		}
	}
	return false;
}

/* The smallest index >= from among table entries of the directory. */
static bool
next_child(const FirnPlace *place, uint64_t from, uint32_t *out_index)
{
	GHashTableIter iter;
	gpointer name;
	gpointer value;
	bool found = false;
	uint32_t index;

	if (place->dir == NULL)
		return false;
	g_hash_table_iter_init(&iter, place->dir->children);
	while (g_hash_table_iter_next(&iter, &name, &value)) {
		if (!firn_leaf_is_listed(value) || !firn_name_parse_index(name, &index) ||
		    index < from || (found && index >= *out_index))
			continue;
		*out_index = index;
		found = true;
	}
	return found;
}

/* Load the next index of the base into the stream.  View lock held; dropped for I/O. */
static int
next_base(FirnView *view, FirnDirStream *dir, uint64_t from)
{
	FirnPlace *place = &dir->chunks;
	uint32_t seek[FIRN_MAX_RANK];
	GError *error = NULL;

	if (dir->base_pending && dir->base_index >= from)
		return 0;
	dir->base_pending = false;
	if (from > UINT32_MAX || !place->array->in_base ||
	    !firn_chunk_base_visible(view, place->array, place->prefix, place->depth))
		return 0;
	if (!dir->iter_begun) {
		FirnSnapshotNode node;

		dir->iter_begun = true;
		dir->base = firn_snapshot_ref(place->array->tree->base);
		firn_snapshot_node(dir->base, place->array->base_index, &node);
		dir->iter = firn_ref_iter_new(view->repo, dir->base, &node, place->prefix,
					      place->depth);
	}
	memcpy(seek, place->prefix, place->depth * sizeof *seek);
	seek[place->depth] = (uint32_t)from;
	firn_ref_iter_seek(dir->iter, seek, place->depth + 1);
	for (;;) {
		bool leaf = place->depth + 1 == place->array->meta->rank;
		FirnChunkChange *change = NULL;
		const uint32_t *coords;
		FirnRef ref;
		int more;

		firn_view_unlock(view);
		more = firn_ref_iter_next(dir->iter, &coords, &ref, NULL, &error);
		pthread_mutex_lock(&view->lock);
		if (more < 0)
			return firn_view_fail(view, "manifest", error), EIO;
		if (more == 0)
			return 0;
		if (!firn_chunk_base_visible(view, place->array, coords, place->depth + 1))
			continue;
		/* A directory of the base stays, even empty, until it is removed. */
		if (leaf)
			change = firn_chunk_change(view, place->array, coords);
		if (change != NULL)
			continue;
		if (!leaf) {
			FirnPlace child = *place;

			child.dir = NULL;
			child.depth++;
			memcpy(child.prefix, coords, child.depth * sizeof *coords);
			if (firn_place_removed(&child)) {
				memcpy(seek, coords, child.depth * sizeof *coords);
				if (seek[place->depth]++ == UINT32_MAX)
					return 0;
				firn_ref_iter_seek(dir->iter, seek, child.depth);
				continue;
			}
		}
		dir->base_pending = true;
		dir->base_index = coords[place->depth];
		dir->base_length = ref.length;
		return 0;
	}
}

static int
next_index(FirnView *view, FirnDirStream *dir, uint64_t from, bool *out_found, uint32_t *out_index,
	   bool *out_base)
{
	uint32_t candidate = 0;
	int failed = next_base(view, dir, from);

	*out_found = false;
	*out_base = false;
	if (failed != 0)
		return failed;
	if (dir->base_pending) {
		*out_found = true;
		*out_base = true;
		*out_index = dir->base_index;
	}
	if (next_changed(view, &dir->chunks, from, &candidate) &&
	    (!*out_found || candidate <= *out_index)) {
		*out_base = false;
		*out_found = true;
		*out_index = candidate;
	}
	if (next_child(&dir->chunks, from, &candidate) &&
	    (!*out_found || candidate <= *out_index)) {
		*out_base = false;
		*out_found = true;
		*out_index = candidate;
	}
	return 0;
}

/* ---- entries ---- */

typedef struct {
	FirnView *view;
	bool plus;
	FirnDirFn fn;
	void *data;
} Sink;

/* Hand one entry on; false: the reader is full.  View lock held. */
static bool
emit(Sink *sink, uint64_t parent, const char *name, uint64_t next)
{
	struct stat attr;
	bool taken;

	firn_view_unlock(sink->view);
	if (firn_view_lookup(sink->view, parent, name, &attr) != 0) {
		/* Gone since it was listed. */
		pthread_mutex_lock(&sink->view->lock);
		return true;
	}
	taken = sink->fn(name, &attr, next, sink->data);
	if (!taken || !sink->plus)
		firn_view_forget(sink->view, attr.st_ino, 1);
	pthread_mutex_lock(&sink->view->lock);
	return taken;
}

/* Without attributes, a base chunk needs no look-up at all. */
static bool
emit_base(Sink *sink, FirnDirStream *dir, uint32_t index, const char *name, uint64_t next)
{
	FirnPlace child = dir->chunks;
	bool leaf = child.depth + 1 == child.array->meta->rank;
	struct stat attr = { 0 };
	FirnSlot *slot;

	slot = leaf ? firn_slot_of_files(sink->view, child.array)
		    : firn_slot_of_dirs(sink->view, child.array);
	child.prefix[child.depth] = index;
	attr.st_ino = firn_slot_ino(slot, child.prefix, child.depth + 1);
	if (attr.st_ino == 0 || (!leaf && firn_inode_find(sink->view, attr.st_ino) != NULL))
		return emit(sink, dir->ino, name, next);
	firn_attr_of_base(sink->view, child.array->tree, attr.st_ino, !leaf,
			  leaf ? dir->base_length : 0, &attr);
	return sink->fn(name, &attr, next, sink->data);
}

static int
list_chunks(FirnView *view, FirnDirStream *dir, uint64_t offset, Sink *sink)
{
	uint64_t from = offset > INDEX_OFFSET ? offset - INDEX_OFFSET : 0;
	int failed = 0;

	while (failed == 0 && dir->has_chunks && firn_dir_is_array(dir->chunks.array) &&
	       dir->chunks.depth < dir->chunks.array->meta->rank) {
		uint32_t index = 0;
		char name[16];
		bool found;
		bool base;

		failed = next_index(view, dir, from, &found, &index, &base);
		if (failed != 0 || !found)
			break;
		(void)g_snprintf(name, sizeof name, "%u", index);
		from = (uint64_t)index + 1;
		if (base) {
			if (!emit_base(sink, dir, index, name, INDEX_OFFSET + from))
				break;
		} else if (!emit(sink, dir->ino, name, INDEX_OFFSET + from)) {
			break;
		}
	}
	return failed;
}

int
firn_view_readdir(FirnView *view, FirnDirStream *dir, uint64_t offset, bool plus, FirnDirFn fn,
		  void *data)
{
	Sink sink = { .view = view, .plus = plus, .fn = fn, .data = data };
	struct stat dot = { .st_ino = dir->ino, .st_mode = S_IFDIR };
	static const char *const dots[DOT_ENTRIES] = { ".", ".." };
	bool more = true;
	int failed = 0;

	pthread_mutex_lock(&dir->lock);
	pthread_mutex_lock(&view->lock);
	if (offset == 0 || dir->names == NULL)
		failed = stream_begin(view, dir);
	for (; more && failed == 0 && offset < DOT_ENTRIES; offset += more)
		more = fn(dots[offset], &dot, offset + 1, data);
	for (;
	     more && failed == 0 && offset < INDEX_OFFSET && offset - DOT_ENTRIES < dir->names->len;
	     offset += more)
		more = emit(&sink, dir->ino, dir->names->pdata[offset - DOT_ENTRIES], offset + 1);
	if (more && failed == 0)
		failed = list_chunks(view, dir, offset, &sink);
	firn_view_unlock(view);
	pthread_mutex_unlock(&dir->lock);
	return failed;
}
