#include "core/base/error.h"
#include "core/base/sort.h"
#include "core/repo/commit_priv.h"

#include <string.h>

/* What the rows point to. */
typedef struct {
	FirnCommitting *c;
	GPtrArray *blocks; /* g_malloc'ed */
	uint8_t *kept;     /* of the parent's list of manifests */
	GArray *files;     /* FirnManifestFile: the new ones */
} Encode;

static void *
block(Encode *e, size_t n, size_t size)
{
	void *memory = g_malloc0_n(MAX(n, 1), size);

	g_ptr_array_add(e->blocks, memory);
	return memory;
}

static void
set_shape(Encode *e, const FirnCommitRow *from, const FirnSnapshotNode *old, FirnSnapshotRow *row)
{
	const FirnMeta *meta = from->meta;
	uint64_t *lengths;
	uint32_t *n_chunks;
	char **names;

	if (meta != NULL) {
		row->rank = meta->rank;
		row->lengths = meta->lengths;
		row->n_chunks = meta->n_chunks;
		row->has_dimension_names = meta->has_dimension_names;
		row->dimension_names = meta->dimension_names;
		return;
	}
	row->rank = old->rank;
	lengths = block(e, old->rank, sizeof *lengths);
	n_chunks = block(e, old->rank, sizeof *n_chunks);
	for (uint32_t i = 0; i < old->rank; i++)
		firn_snapshot_node_shape(e->c->parent, old, i, &lengths[i], &n_chunks[i]);
	row->lengths = lengths;
	row->n_chunks = n_chunks;
	names = firn_snapshot_node_dimension_names(e->c->parent, old);
	row->dimension_names = names;
	row->has_dimension_names = names != NULL;
	if (names != NULL)
		g_ptr_array_add(e->blocks, names);
}

static bool
keep_file(Encode *e, const char *path, const FirnId12 *id, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	size_t index;

	if (firn_snapshot_find_manifest_file(e->c->parent, id, &index)) {
		e->kept[index] = true;
		return true;
	}
	firn_id12_format(id, text);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
		    "%s: the snapshot has no record of its manifest %s", path, text);
	return false;
}

static bool
set_old_manifests(Encode *e, const FirnSnapshotNode *old, FirnSnapshotRow *row, const char *path,
		  GError **error)
{
	FirnId12 *ids = block(e, old->n_manifests, sizeof *ids);
	FirnExtent *extents = block(e, (size_t)old->n_manifests * old->rank, sizeof *extents);

	for (uint32_t i = 0; i < old->n_manifests; i++) {
		firn_snapshot_node_manifest(e->c->parent, old, i, &ids[i],
					    extents + (size_t)i * old->rank);
		if (!keep_file(e, path, &ids[i], error))
			return false;
	}
	row->n_manifests = old->n_manifests;
	row->manifest_ids = ids;
	row->manifest_extents = extents;
	return true;
}

static void
set_new_manifests(Encode *e, const FirnCommitArray *array, FirnSnapshotRow *row)
{
	guint n = array->manifests->len;
	FirnId12 *ids = block(e, n, sizeof *ids);
	FirnExtent *extents = block(e, (size_t)n * array->rank, sizeof *extents);

	for (guint i = 0; i < n; i++) {
		const FirnCommitManifest *manifest =
			&g_array_index(array->manifests, FirnCommitManifest, i);

		ids[i] = manifest->file.id;
		if (array->rank > 0)
			memcpy(extents + (size_t)i * array->rank, manifest->extents,
			       array->rank * sizeof *extents);
		if (manifest->listed > 0)
			e->kept[manifest->listed - 1] = true;
		else
			g_array_append_val(e->files, manifest->file);
	}
	row->n_manifests = n;
	row->manifest_ids = ids;
	row->manifest_extents = extents;
}

static bool
set_row(Encode *e, const FirnCommitRow *from, FirnSnapshotRow *row, GError **error)
{
	FirnSnapshotNode old = { .rank = 0 };

	if (from->in_parent)
		firn_snapshot_node(e->c->parent, from->index, &old);
	row->id = from->id;
	row->kind = from->kind;
	row->path = (FirnSpan){ (const uint8_t *)from->path, strlen(from->path) };
	row->meta = old.meta;
	if (from->raw != NULL)
		row->meta.data = g_bytes_get_data(from->raw, &row->meta.len);
	if (from->kind == FIRN_NODE_GROUP)
		return true;
	set_shape(e, from, &old, row);
	if (from->array == NULL)
		return set_old_manifests(e, &old, row, from->path, error);
	set_new_manifests(e, from->array, row);
	return true;
}

static int
compare_files(const void *a, const void *b, void *data)
{
	const FirnManifestFile *x = a, *y = b;

	(void)data;
	return firn_id12_compare(&x->id, &y->id);
}

/* The list of the new snapshot, by id: one of the parent's that several arrays share is in it once. */
static GArray *
list_files(Encode *e)
{
	size_t n = firn_snapshot_n_manifest_files(e->c->parent);
	GArray *files = g_array_sized_new(FALSE, FALSE, sizeof(FirnManifestFile), (guint)n);

	for (size_t i = 0; i < n; i++) {
		FirnManifestFile file;

		if (!e->kept[i])
			continue;
		firn_snapshot_manifest_file(e->c->parent, i, &file);
		g_array_append_val(files, file);
	}
	g_array_append_vals(files, e->files->data, e->files->len);
	(void)firn_sort(files->data, files->len, sizeof(FirnManifestFile), compare_files, NULL);
	return files;
}

GBytes *
firn_commit_encode_snapshot(FirnCommitting *c, GError **error)
{
	g_autoptr(GPtrArray) blocks = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GArray) added = g_array_new(FALSE, FALSE, sizeof(FirnManifestFile));
	g_autoptr(GArray) files = NULL;
	g_autofree FirnSnapshotRow *rows = g_new0(FirnSnapshotRow, MAX(c->rows->len, 1));
	Encode e = { .c = c, .blocks = blocks, .files = added };
	FirnSnapshotContent content = {
		.id = c->id,
		.flushed_at = c->flushed_at,
		.message = c->options->message != NULL ? c->options->message : "",
		.metadata = c->options->metadata,
		.rows = rows,
		.n_rows = c->rows->len,
	};

	e.kept = block(&e, firn_snapshot_n_manifest_files(c->parent), 1);
	for (guint i = 0; i < c->rows->len; i++)
		if (!set_row(&e, firn_commit_row(c, i), &rows[i], error))
			return NULL;
	files = list_files(&e);
	content.files = (const FirnManifestFile *)(const void *)files->data;
	content.n_files = files->len;
	return firn_snapshot_encode(&content, c->level, error);
}
