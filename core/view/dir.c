#include "core/view/writing.h"

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

/* Indices of the base read at once, the view unlocked. */
#define AHEAD          1024u
#define END_OF_INDICES (UINT64_C(1) << 32)

typedef struct {
	uint32_t index;
	uint64_t length; /* of a chunk */
} Ahead;

struct FirnDirStream {
	uint64_t ino;
	pthread_mutex_t lock; /* one reader at a time */
	GPtrArray *names;     /* char *: the first part */
	FirnPlace chunks;     /* the second part, if it has one */
	bool has_chunks;
	FirnDir *held; /* referenced: `chunks`' array */
	/* Of the base: */
	FirnSnapshot *base; /* NULL: not begun */
	uint32_t base_rank;
	FirnRefIter *iter; /* at `ahead_to` */
	GArray *ahead;     /* Ahead: all from `ahead_from` to before `ahead_to` */
	guint ahead_at;
	uint64_t ahead_from;
	uint64_t ahead_to;
	/* Of the overlay: */
	bool changed_known;     /* the rest holds while the array's `n_changes` is the same */
	uint64_t changed_as_of; /* that */
	uint64_t changed_from;
	bool changed_found;
	uint32_t changed_index; /* the smallest one from `changed_from` on */
	/* Of the table, for one call: */
	GArray *children; /* uint32_t, in order */
	guint child_at;
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
	dir->ahead = g_array_new(FALSE, FALSE, sizeof(Ahead));
	dir->children = g_array_new(FALSE, FALSE, sizeof(uint32_t));
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
	dir->changed_known = false;
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
	g_array_unref(dir->ahead);
	g_array_unref(dir->children);
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

/* What a directory deeper than the array has axes holds are names like any other. */
static bool
has_indices(const FirnPlace *place)
{
	return place->array != NULL && place->depth < place->array->meta->rank;
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
			    (has_indices(&place) && firn_name_parse_index(name, &index)))
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
	if (has_indices(&place)) {
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

static void
start_ahead(FirnDirStream *dir, uint64_t from)
{
	g_array_set_size(dir->ahead, 0);
	dir->ahead_at = 0;
	dir->ahead_from = from;
	dir->ahead_to = from;
}

/* Begin with the base as it is now; a commit in between gives the array another one. */
static void
begin_base(FirnView *view, FirnDirStream *dir)
{
	FirnPlace *place = &dir->chunks;
	FirnSnapshotNode node;

	firn_ref_iter_free(dir->iter);
	firn_snapshot_unref(dir->base);
	dir->base = firn_snapshot_ref(place->array->tree->base);
	firn_snapshot_node(dir->base, place->array->base_index, &node);
	dir->base_rank = node.rank;
	dir->iter = firn_ref_iter_new(view->repo, dir->base, &node, place->prefix, place->depth);
	start_ahead(dir, 0);
}

/* An iterator only goes forward: `from` is not before `ahead_to`. */
static void
skip_base(FirnDirStream *dir, uint64_t from)
{
	const FirnPlace *place = &dir->chunks;
	uint32_t seek[FIRN_MAX_RANK];

	memcpy(seek, place->prefix, place->depth * sizeof *seek);
	seek[place->depth] = (uint32_t)from;
	firn_ref_iter_seek(dir->iter, seek, place->depth + 1);
	start_ahead(dir, from);
}

/* Read on in the base, where the iterator is.  View lock held; dropped for I/O. */
static int
read_ahead(FirnView *view, FirnDirStream *dir)
{
	uint32_t depth = dir->chunks.depth;
	bool leaf = depth + 1 == dir->base_rank;
	GError *error = NULL;
	int more = 1;

	start_ahead(dir, dir->ahead_to);
	firn_view_unlock(view);
	while (more > 0 && dir->ahead->len < AHEAD && dir->ahead_to <= UINT32_MAX) {
		Ahead next = { 0 };
		const uint32_t *coords;
		FirnRef ref;

		more = firn_ref_iter_next(dir->iter, &coords, &ref, NULL, &error);
		if (more <= 0)
			break;
		next.index = coords[depth];
		next.length = ref.length;
		g_array_append_val(dir->ahead, next);
		dir->ahead_to = (uint64_t)next.index + 1;
		if (!leaf && dir->ahead_to <= UINT32_MAX) {
			uint32_t seek[FIRN_MAX_RANK];

			memcpy(seek, coords, depth * sizeof *seek);
			seek[depth] = (uint32_t)dir->ahead_to;
			firn_ref_iter_seek(dir->iter, seek, depth + 1);
		}
	}
	pthread_mutex_lock(&view->lock);
	if (more < 0)
		return firn_view_fail(view, "manifest", error), EIO;
	if (more == 0)
		dir->ahead_to = END_OF_INDICES;
	return 0;
}

/* Whether an index of the base is still there.  View lock held. */
static bool
is_base_shown(FirnView *view, const FirnDirStream *dir, uint32_t index)
{
	FirnPlace child = dir->chunks;

	child.dir = NULL;
	child.prefix[child.depth++] = index;
	if (!firn_chunk_base_visible(view, child.array, child.prefix, child.depth))
		return false;
	/* A directory of the base stays, even empty, until it is removed. */
	return child.depth < dir->base_rank
		       ? !firn_place_removed(&child)
		       : firn_chunk_change(view, child.array, child.prefix) == NULL;
}

/* The smallest index >= from of the base; NULL: none.  View lock held; dropped for I/O. */
static int
next_base(FirnView *view, FirnDirStream *dir, uint64_t from, const Ahead **out_next)
{
	const FirnPlace *place = &dir->chunks;

	*out_next = NULL;
	while (from <= UINT32_MAX && place->array->in_base) {
		int failed = 0;

		if (dir->base != place->array->tree->base || from < dir->ahead_from)
			begin_base(view, dir);
		if (place->depth >= dir->base_rank)
			return 0;
		if (from > dir->ahead_to)
			skip_base(dir, from);
		while (dir->ahead_at > 0 &&
		       g_array_index(dir->ahead, Ahead, dir->ahead_at - 1).index >= from)
			dir->ahead_at--;
		while (dir->ahead_at < dir->ahead->len &&
		       g_array_index(dir->ahead, Ahead, dir->ahead_at).index < from)
			dir->ahead_at++;
		if (dir->ahead_at < dir->ahead->len) {
			const Ahead *next = &g_array_index(dir->ahead, Ahead, dir->ahead_at);

			if (is_base_shown(view, dir, next->index)) {
				*out_next = next;
				return 0;
			}
			from = (uint64_t)next->index + 1;
			continue;
		}
		if (dir->ahead_to == END_OF_INDICES)
			return 0;
		failed = read_ahead(view, dir);
		if (failed != 0)
			return failed;
	}
	return 0;
}

/* The smallest index >= from among changed chunks that live below.  View lock held. */
static bool
find_changed(FirnView *view, const FirnPlace *place, uint64_t from, uint32_t *out_index)
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

/* The same, remembered: there may be many deleted ones on the way. */
static bool
next_changed(FirnView *view, FirnDirStream *dir, uint64_t from, uint32_t *out_index)
{
	const FirnDir *array = dir->chunks.array;

	if (!dir->changed_known || dir->changed_as_of != array->n_changes ||
	    from < dir->changed_from || (dir->changed_found && from > dir->changed_index)) {
		dir->changed_known = true;
		dir->changed_as_of = array->n_changes;
		dir->changed_from = from;
		dir->changed_found = find_changed(view, &dir->chunks, from, &dir->changed_index);
	}
	*out_index = dir->changed_index;
	return dir->changed_found;
}

static gint
compare_indices(gconstpointer a, gconstpointer b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Take down the indices >= from among table entries of the directory.  View lock held. */
static void
take_children(FirnView *view, FirnDirStream *dir, uint64_t from)
{
	GHashTableIter iter;
	FirnPlace place;
	gpointer name;
	gpointer value;
	uint32_t index;

	g_array_set_size(dir->children, 0);
	dir->child_at = 0;
	/* It may have become a table entry since. */
	if (firn_place_find(view, dir->ino, &place) != 0 || place.dir == NULL ||
	    place.array != dir->chunks.array)
		return;
	g_hash_table_iter_init(&iter, place.dir->children);
	while (g_hash_table_iter_next(&iter, &name, &value))
		if (firn_leaf_is_listed(value) && firn_name_parse_index(name, &index) &&
		    index >= from)
			g_array_append_val(dir->children, index);
	g_array_sort(dir->children, compare_indices);
}

static bool
next_child(FirnDirStream *dir, uint64_t from, uint32_t *out_index)
{
	while (dir->child_at < dir->children->len &&
	       g_array_index(dir->children, uint32_t, dir->child_at) < from)
		dir->child_at++;
	if (dir->child_at == dir->children->len)
		return false;
	*out_index = g_array_index(dir->children, uint32_t, dir->child_at);
	return true;
}

/* `*out_base`: it is the base's; NULL: the table's or the overlay's. */
static int
next_index(FirnView *view, FirnDirStream *dir, uint64_t from, bool *out_found, uint32_t *out_index,
	   const Ahead **out_base)
{
	uint32_t candidate = 0;
	int failed = next_base(view, dir, from, out_base);

	*out_found = failed == 0 && *out_base != NULL;
	if (failed != 0)
		return failed;
	if (*out_found)
		*out_index = (*out_base)->index;
	if (next_changed(view, dir, from, &candidate) && (!*out_found || candidate <= *out_index)) {
		*out_base = NULL;
		*out_found = true;
		*out_index = candidate;
	}
	if (next_child(dir, from, &candidate) && (!*out_found || candidate <= *out_index)) {
		*out_base = NULL;
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
emit_base(Sink *sink, FirnDirStream *dir, const Ahead *base, const char *name, uint64_t next)
{
	FirnPlace child = dir->chunks;
	bool leaf = child.depth + 1 == child.array->meta->rank;
	struct stat attr = { 0 };
	FirnSlot *slot;

	slot = leaf ? firn_slot_of_files(sink->view, child.array)
		    : firn_slot_of_dirs(sink->view, child.array);
	child.prefix[child.depth] = base->index;
	attr.st_ino = firn_slot_ino(slot, child.prefix, child.depth + 1);
	if (attr.st_ino == 0 ||
	    (leaf ? firn_chunk_entry(sink->view, child.array, child.prefix, attr.st_ino)
		  : firn_inode_find(sink->view, attr.st_ino)) != NULL)
		return emit(sink, dir->ino, name, next);
	firn_attr_of_base(sink->view, child.array->tree, attr.st_ino, !leaf,
			  leaf ? base->length : 0, &attr);
	return sink->fn(name, &attr, next, sink->data);
}

static int
list_chunks(FirnView *view, FirnDirStream *dir, uint64_t offset, Sink *sink)
{
	uint64_t from = offset > INDEX_OFFSET ? offset - INDEX_OFFSET : 0;
	int failed = 0;

	if (dir->has_chunks)
		take_children(view, dir, from);
	while (failed == 0 && dir->has_chunks && firn_dir_is_array(dir->chunks.array) &&
	       dir->chunks.depth < dir->chunks.array->meta->rank) {
		uint32_t index = 0;
		char name[FIRN_NAME_INDEX_MAX + 1];
		const Ahead *base;
		bool found;

		failed = next_index(view, dir, from, &found, &index, &base);
		if (failed != 0 || !found)
			break;
		firn_name_format_index(index, name);
		from = (uint64_t)index + 1;
		if (base != NULL) {
			if (!emit_base(sink, dir, base, name, INDEX_OFFSET + from))
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
