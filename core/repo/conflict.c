#include "core/repo/conflict.h"

#include "core/base/error.h"
#include "core/zarr/name.h"

#include <string.h>

void
firn_conflict_free(FirnConflict *conflict)
{
	if (conflict == NULL)
		return;
	g_free(conflict->path);
	g_free(conflict->coords);
	g_free(conflict->first);
	g_free(conflict->second);
	g_free(conflict);
}

const char *
firn_conflict_kind_name(FirnConflictKind kind)
{
	switch (kind) {
	case FIRN_CONFLICT_CHUNK:
		return "chunk";
	case FIRN_CONFLICT_CHUNK_DELETED:
		return "chunk-deleted";
	case FIRN_CONFLICT_CHUNK_NO_ARRAY:
		return "chunk-no-array";
	case FIRN_CONFLICT_CHUNK_OUTSIDE:
		return "chunk-outside";
	case FIRN_CONFLICT_CHUNK_GEOMETRY:
		return "chunk-geometry";
	case FIRN_CONFLICT_META:
		return "meta";
	case FIRN_CONFLICT_META_DELETED:
		return "meta-deleted";
	case FIRN_CONFLICT_KIND:
		return "kind";
	case FIRN_CONFLICT_CREATED:
		return "created";
	case FIRN_CONFLICT_PARENT:
		return "parent";
	case FIRN_CONFLICT_MOVED:
		return "moved";
	}
	return "unknown";
}

static char *
describe(FirnConflictKind kind, const char *a, const char *b)
{
	switch (kind) {
	case FIRN_CONFLICT_CHUNK:
		return g_strdup_printf("written by %s and %s with different content", a, b);
	case FIRN_CONFLICT_CHUNK_DELETED:
		return g_strdup_printf("written by %s, erased by %s", a, b);
	case FIRN_CONFLICT_CHUNK_NO_ARRAY:
		return g_strdup_printf("changed by %s, its array deleted by %s", a, b);
	case FIRN_CONFLICT_CHUNK_OUTSIDE:
		return g_strdup_printf("written by %s, its array shrunk past it by %s", a, b);
	case FIRN_CONFLICT_CHUNK_GEOMETRY:
		return g_strdup_printf(
			"written by %s, its array given another grid, type or codecs by %s", a, b);
	case FIRN_CONFLICT_META:
		return g_strdup_printf("zarr.json changed differently by %s and %s", a, b);
	case FIRN_CONFLICT_META_DELETED:
		return g_strdup_printf("zarr.json written by %s, deleted by %s", a, b);
	case FIRN_CONFLICT_KIND:
		return g_strdup_printf("an array for one of %s and %s, a group for the other", a,
				       b);
	case FIRN_CONFLICT_CREATED:
		return g_strdup_printf("created by %s and %s with different zarr.json", a, b);
	case FIRN_CONFLICT_PARENT:
		return g_strdup_printf(
			"created by %s below what %s deleted, renamed or made an array", a, b);
	case FIRN_CONFLICT_MOVED:
		return g_strdup_printf("moved by %s: %s cannot be put on top of moves", b, a);
	}
	return g_strdup_printf("%s and %s disagree", a, b);
}

char *
firn_conflict_format(const FirnConflict *conflict)
{
	g_autofree char *chunk = NULL;
	g_autofree char *what =
		conflict->swapped ? describe(conflict->kind, conflict->second, conflict->first)
				  : describe(conflict->kind, conflict->first, conflict->second);

	if (conflict->coords == NULL)
		return g_strdup_printf("%s: %s", conflict->path, what);
	chunk = firn_name_format_chunk(conflict->coords, conflict->rank);
	return g_strdup_printf("%s %s: %s", conflict->path, chunk, what);
}

/* ---- collecting ---- */

static void
free_conflict(gpointer conflict)
{
	firn_conflict_free(conflict);
}

void
firn_conflicts_init(FirnConflicts *conflicts)
{
	conflicts->list = g_ptr_array_new_with_free_func(free_conflict);
	conflicts->n = 0;
}

void
firn_conflicts_clear(FirnConflicts *conflicts)
{
	g_clear_pointer(&conflicts->list, g_ptr_array_unref);
}

void
firn_conflicts_add(FirnConflicts *conflicts, const FirnClash *clash)
{
	FirnConflict *conflict;

	if (conflicts->n++ >= FIRN_CONFLICTS_LISTED)
		return;
	conflict = g_new0(FirnConflict, 1);
	conflict->kind = clash->kind;
	conflict->path = g_strdup(clash->path);
	conflict->first = g_strdup(clash->first);
	conflict->second = g_strdup(clash->second);
	conflict->swapped = clash->swapped;
	if (clash->coords != NULL) {
		/* Never NULL, not even for the chunk of a scalar. */
		conflict->coords = g_new0(uint32_t, MAX(clash->rank, 1));
		memcpy(conflict->coords, clash->coords, clash->rank * sizeof *clash->coords);
		conflict->rank = clash->rank;
	}
	g_ptr_array_add(conflicts->list, conflict);
}

static gint
compare_conflicts(gconstpointer a, gconstpointer b)
{
	const FirnConflict *x = *(const FirnConflict *const *)a;
	const FirnConflict *y = *(const FirnConflict *const *)b;
	int order = strcmp(x->path, y->path);

	if (order == 0)
		order = (x->coords != NULL) - (y->coords != NULL);
	if (order == 0 && x->coords != NULL)
		order = firn_coords_compare(x->coords, y->coords, MIN(x->rank, y->rank));
	if (order == 0)
		order = (int)x->kind - (int)y->kind;
	if (order == 0)
		order = strcmp(x->first, y->first);
	return order != 0 ? order : strcmp(x->second, y->second);
}

GPtrArray *
firn_conflicts_steal(FirnConflicts *conflicts)
{
	g_ptr_array_sort(conflicts->list, compare_conflicts);
	return g_steal_pointer(&conflicts->list);
}

/* ---- content ---- */

static bool
span_equal(FirnSpan a, FirnSpan b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static GBytes *
read_ref(FirnRepo *repo, const FirnRef *ref, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;
	GBytes *bytes = NULL;

	if (ref->kind == FIRN_REF_INLINE)
		return g_bytes_new(ref->bytes.data, ref->bytes.len);
	firn_id12_format(&ref->id, text);
	key = g_strconcat("chunks/", text, NULL);
	if (!firn_store_get(firn_repo_store(repo), key, ref->offset, ref->length, &bytes, NULL,
			    error))
		return NULL;
	if (bytes == NULL || g_bytes_get_size(bytes) != ref->length) {
		g_clear_pointer(&bytes, g_bytes_unref);
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "the chunk object %s is missing or too short", key);
	}
	return bytes;
}

static int
compare_bytes(FirnRepo *repo, const FirnRef *a, const FirnRef *b, GError **error)
{
	g_autoptr(GBytes) x = NULL;
	g_autoptr(GBytes) y = NULL;

	if (a->length != b->length)
		return 0;
	if (a->kind == FIRN_REF_INLINE && b->kind == FIRN_REF_INLINE)
		return span_equal(a->bytes, b->bytes);
	if (a->kind == FIRN_REF_NATIVE && b->kind == FIRN_REF_NATIVE && a->offset == b->offset &&
	    firn_id12_compare(&a->id, &b->id) == 0)
		return 1;
	x = read_ref(repo, a, error);
	y = x != NULL ? read_ref(repo, b, error) : NULL;
	if (y == NULL)
		return -1;
	return g_bytes_equal(x, y);
}

int
firn_conflict_compare_refs(FirnRepo *repo, const FirnRef *a, const FirnRef *b, GError **error)
{
	bool bytes_a = a->kind == FIRN_REF_INLINE || a->kind == FIRN_REF_NATIVE;
	bool bytes_b = b->kind == FIRN_REF_INLINE || b->kind == FIRN_REF_NATIVE;

	if (bytes_a && bytes_b)
		return compare_bytes(repo, a, b, error);
	if (a->kind != b->kind)
		return 0;
	if (a->kind == FIRN_REF_NONE)
		return 1;
	return a->offset == b->offset && a->length == b->length &&
	       a->last_modified == b->last_modified && span_equal(a->location, b->location) &&
	       span_equal(a->etag, b->etag);
}

bool
firn_conflict_parent_path(const char *path, size_t *len)
{
	size_t n = *len;

	if (n <= 1)
		return false;
	while (n > 0 && path[n - 1] != '/')
		n--;
	/* `n` is now behind the last slash: keep it for the root only. */
	*len = n <= 1 ? 1 : n - 1;
	return true;
}
