#include "core/base/error.h"
#include "core/repo/fsck_priv.h"
#include "core/repo/pool.h"
#include "core/repo/repo_internal.h"
#include "core/zarr/name.h"

#include <stdlib.h>
#include <string.h>

/* Manifests in memory at a time: one may be as large as 2 GiB. */
#define MAX_THREADS 4u

/* Chunks of one array and manifest that are named one by one. */
#define MAX_NAMED 20u

#define REWRITE                                                                           \
	"restore the object from a copy; else write the array's chunks again, or delete " \
	"the array, and commit"

/* ---- what is needed ---- */

static FirnFsckManifest *
manifest_of(FirnFsck *f, const FirnId12 *id)
{
	FirnFsckManifest *manifest = g_hash_table_lookup(f->manifests, id);

	if (manifest != NULL)
		return manifest;
	manifest = g_new0(FirnFsckManifest, 1);
	manifest->id = *id;
	manifest->uses = g_ptr_array_new();
	g_hash_table_insert(f->manifests, &manifest->id, manifest);
	g_ptr_array_add(f->manifest_list, manifest);
	return manifest;
}

void
firn_fsck_manifest_free(FirnFsckManifest *manifest)
{
	g_ptr_array_unref(manifest->uses);
	g_free(manifest);
}

static FirnFsckUse *
use_of(FirnFsck *f, const FirnId12 *manifest, const FirnSnapshotNode *node)
{
	uint8_t key[sizeof(FirnId12) + sizeof(FirnId8)];
	FirnFsckUse *use;

	memcpy(key, manifest, sizeof *manifest);
	memcpy(key + sizeof *manifest, &node->id, sizeof node->id);
	use = g_hash_table_lookup(f->uses, key);
	if (use != NULL)
		return use;
	use = g_new0(FirnFsckUse, 1);
	use->node = node->id;
	use->path = g_strndup((const char *)node->path.data, node->path.len);
	use->rank = node->rank;
	use->grid = g_new(uint32_t, MAX(node->rank, 1u));
	use->extents = g_new(FirnExtent, MAX(node->rank, 1u));
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		use->grid[axis] = UINT32_MAX;
		use->extents[axis] = (FirnExtent){ 0, UINT32_MAX };
	}
	g_hash_table_insert(f->uses, g_memdup2(key, sizeof key), use);
	g_ptr_array_add(manifest_of(f, manifest)->uses, use);
	return use;
}

void
firn_fsck_need(FirnFsck *f, const FirnSnapshot *snapshot, const FirnSnapshotNode *node,
	       const FirnId12 *manifest, const FirnExtent *extents)
{
	FIRN_LOCK_SCOPE(&f->lock);
	FirnFsckUse *use = use_of(f, manifest, node);

	/* An array given another rank has new manifests; then no place is common to both. */
	for (uint32_t axis = 0; axis < MIN(use->rank, node->rank); axis++) {
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(snapshot, node, axis, &length, &n_chunks);
		use->grid[axis] = MIN(use->grid[axis], n_chunks);
		use->extents[axis].from = MAX(use->extents[axis].from, extents[axis].from);
		use->extents[axis].to = MIN(use->extents[axis].to, extents[axis].to);
	}
}

void
firn_fsck_state(FirnFsck *f, const FirnManifestFile *file, const char *label)
{
	g_autofree char *key = firn_repo_key("manifests", &file->id);
	bool differs;

	{
		FIRN_LOCK_SCOPE(&f->lock);
		FirnFsckManifest *manifest = manifest_of(f, &file->id);

		differs = manifest->stated && (manifest->size_bytes != file->size_bytes ||
					       manifest->n_refs != file->n_refs);
		if (!manifest->stated) {
			manifest->stated = true;
			manifest->size_bytes = file->size_bytes;
			manifest->n_refs = file->n_refs;
		}
	}
	if (differs)
		firn_fsck_find(f, &(FirnFsckAbout){ "mismatch", key, label, REWRITE },
			       "this snapshot gives it another size or number of references than "
			       "another snapshot does");
}

/* ---- references ---- */

/* What was wrong with the references of one array in one manifest. */
typedef struct {
	FirnFsck *f;
	const FirnFsckUse *use;
	const char *key;
	uint64_t n_outside_grid, n_outside_extents, n_empty, n_bad_locations, n_bad_chunks;
	char *outside_grid, *outside_extents, *empty, *bad_location, *why;
} Refs;

/* Remember the first. */
static void
note(const uint32_t *coords, uint32_t rank, uint64_t *count, char **first)
{
	if ((*count)++ == 0)
		*first = firn_name_format_chunk(coords, rank);
}

/* Whether a part of the path is "..", percent-encoded or not. */
static bool
climbs(const char *path)
{
	g_autofree char *plain = g_uri_unescape_string(path, NULL);
	g_auto(GStrv) parts = g_strsplit(plain != NULL ? plain : path, "/", -1);

	return plain == NULL || g_strv_contains((const char *const *)parts, "..");
}

/* What is wrong with a location; NULL: nothing.  Caller owns. */
static char *
location_error(const FirnFsck *f, const FirnManifest *manifest, const FirnRef *ref)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *location = firn_manifest_location(manifest, ref, &error);
	g_autofree char *url = NULL;
	g_autofree char *scheme = NULL;

	if (location == NULL)
		return g_strdup(error->message);
	/* Without a configuration the containers are not known. */
	if (f->config == NULL)
		url = g_strdup(location);
	else
		url = firn_config_resolve_location(f->config, location, &error);
	if (url == NULL)
		return g_strdup(error->message);
	scheme = g_uri_parse_scheme(url);
	if (scheme == NULL || strstr(url, "://") != url + strlen(scheme))
		return g_strdup_printf("\"%.200s\" is no URL", url);
	if (strcmp(scheme, "file") == 0 && climbs(url + strlen("file://")))
		return g_strdup_printf("\"%.200s\" has \"..\" in its path", url);
	return NULL;
}

static int
compare_chunk(const void *id, const void *chunk)
{
	return firn_id12_compare(id, &((const FirnFsckChunk *)chunk)->id);
}

static void
check_chunk(Refs *refs, const uint32_t *coords, const FirnRef *ref)
{
	FirnFsck *f = refs->f;
	const FirnFsckChunk *chunk = NULL;
	g_autofree char *key = NULL;
	g_autofree char *name = NULL;
	g_autofree char *path = NULL;
	FirnFsckAbout about = { .remedy = "restore the object from a copy; else write the chunk "
					  "again, or delete it, and commit" };

	if (f->chunks->len > 0)
		chunk = bsearch(&ref->id, f->chunks->data, f->chunks->len, sizeof *chunk,
				compare_chunk);
	if (chunk != NULL && ref->offset <= chunk->size && ref->length <= chunk->size - ref->offset)
		return;
	if (refs->n_bad_chunks++ >= MAX_NAMED)
		return;
	key = firn_repo_key("chunks", &ref->id);
	name = firn_name_format_chunk(coords, refs->use->rank);
	path = g_strconcat(strcmp(refs->use->path, "/") == 0 ? "" : refs->use->path, "/", name,
			   NULL);
	about.object = key;
	about.path = path;
	about.kind = chunk == NULL ? "missing" : "damaged";
	if (chunk == NULL)
		firn_fsck_find(f, &about, "the object is missing");
	else
		firn_fsck_find(f, &about,
			       "the object has %" G_GUINT64_FORMAT " bytes, but %" G_GUINT64_FORMAT
			       " from %" G_GUINT64_FORMAT " on are referred to",
			       chunk->size, ref->length, ref->offset);
}

static bool
is_below(const uint32_t *coords, const uint32_t *grid, uint32_t rank)
{
	for (uint32_t axis = 0; axis < rank; axis++)
		if (coords[axis] >= grid[axis])
			return false;
	return true;
}

static void
check_ref(Refs *refs, const FirnManifest *manifest, const uint32_t *coords, const FirnRef *ref)
{
	const FirnFsckUse *use = refs->use;
	char *wrong = NULL;

	if (!is_below(coords, use->grid, use->rank))
		note(coords, use->rank, &refs->n_outside_grid, &refs->outside_grid);
	else if (!firn_repo_contains(use->extents, coords, use->rank))
		note(coords, use->rank, &refs->n_outside_extents, &refs->outside_extents);
	if (ref->length == 0)
		note(coords, use->rank, &refs->n_empty, &refs->empty);
	if (ref->kind == FIRN_REF_NATIVE && refs->f->chunks != NULL)
		check_chunk(refs, coords, ref);
	if (ref->kind == FIRN_REF_VIRTUAL)
		wrong = location_error(refs->f, manifest, ref);
	if (wrong != NULL) {
		note(coords, use->rank, &refs->n_bad_locations, &refs->bad_location);
		if (refs->why == NULL)
			refs->why = g_steal_pointer(&wrong);
		g_free(wrong);
	}
}

static void
report_refs(Refs *refs)
{
	FirnFsckAbout about = { "range", refs->key, refs->use->path,
				"write the array's chunks again and commit" };

	if (refs->n_outside_grid > 0)
		firn_fsck_find(refs->f, &about,
			       "%" G_GUINT64_FORMAT " references lie outside the array's grid, the "
			       "first is %s",
			       refs->n_outside_grid, refs->outside_grid);
	if (refs->n_outside_extents > 0)
		firn_fsck_find(refs->f, &about,
			       "%" G_GUINT64_FORMAT " references lie outside the extents the "
			       "snapshot gives the manifest, and are never found; the first is %s",
			       refs->n_outside_extents, refs->outside_extents);
	if (refs->n_empty > 0)
		firn_fsck_find(refs->f, &about,
			       "%" G_GUINT64_FORMAT
			       " references have the length 0, the first is %s",
			       refs->n_empty, refs->empty);
	if (refs->n_bad_locations > 0)
		firn_fsck_find(refs->f, &about,
			       "%" G_GUINT64_FORMAT " virtual references cannot be followed, the "
			       "first is %s: %s",
			       refs->n_bad_locations, refs->bad_location, refs->why);
	if (refs->n_bad_chunks > MAX_NAMED) {
		about.kind = "damaged";
		firn_fsck_find(refs->f, &about,
			       "%" G_GUINT64_FORMAT " more chunk objects are missing or too short",
			       refs->n_bad_chunks - MAX_NAMED);
	}
	g_free(refs->outside_grid);
	g_free(refs->outside_extents);
	g_free(refs->empty);
	g_free(refs->bad_location);
	g_free(refs->why);
}

static void
check_use(FirnFsck *f, const char *key, const FirnManifest *manifest, const FirnFsckUse *use)
{
	Refs state = { .f = f, .use = use, .key = key };
	FirnFsckAbout about = { "mismatch", key, use->path, REWRITE };
	FirnRefs refs;

	if (!firn_manifest_find(manifest, &use->node, &refs) || refs.count == 0) {
		firn_fsck_find(f, &about, "it has no references of this array");
		return;
	}
	if (refs.rank != use->rank) {
		firn_fsck_find(f, &about, "its references have %u dimensions, and the array has %u",
			       refs.rank, use->rank);
		return;
	}
	for (uint32_t i = 0; i < refs.count; i++) {
		FirnRef ref;

		firn_refs_get(&refs, i, &ref);
		check_ref(&state, manifest, firn_refs_coords(&refs, i), &ref);
	}
	report_refs(&state);
	firn_fsck_count(f, &f->report->n_refs, refs.count);
}

/* ---- manifests ---- */

/* One finding for each array that needs it. */
static void G_GNUC_PRINTF(5, 6)
	find_for_all(FirnFsck *f, const FirnFsckManifest *needed, const char *kind, const char *key,
		     const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	for (guint i = 0; i < needed->uses->len; i++) {
		const FirnFsckUse *use = needed->uses->pdata[i];

		firn_fsck_find(f, &(FirnFsckAbout){ kind, key, use->path, REWRITE }, "%s", what);
	}
	if (needed->uses->len == 0)
		firn_fsck_find(f, &(FirnFsckAbout){ kind, key, NULL, REWRITE }, "%s", what);
}

static uint64_t
count_refs(const FirnManifest *manifest)
{
	uint64_t n = 0;

	for (size_t i = 0; i < firn_manifest_n_arrays(manifest); i++) {
		FirnRefs refs;

		firn_manifest_array(manifest, i, NULL, &refs);
		n += refs.count;
	}
	return n;
}

static void
check_content(FirnFsck *f, const FirnFsckManifest *needed, const char *key,
	      const FirnManifest *manifest)
{
	uint64_t n_refs = count_refs(manifest);

	if (!firn_id12_equal(firn_manifest_id(manifest), &needed->id))
		find_for_all(f, needed, "mismatch", key,
			     "it holds another manifest than its name says");
	if (needed->stated && needed->n_refs != n_refs)
		find_for_all(f, needed, "mismatch", key,
			     "it has %" G_GUINT64_FORMAT " references, and the snapshot says %u",
			     n_refs, needed->n_refs);
	for (guint i = 0; i < needed->uses->len; i++)
		check_use(f, key, manifest, needed->uses->pdata[i]);
}

/* Always done: damage is a finding. */
static bool
check_manifest(size_t index, void *data, GError **error)
{
	FirnFsck *f = data;
	const FirnFsckManifest *needed = f->manifest_list->pdata[index];
	g_autofree char *key = firn_repo_key("manifests", &needed->id);
	g_autoptr(GError) wrong = NULL;
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnManifest) manifest = NULL;

	(void)error;
	if (!firn_store_get(f->store, key, 0, UINT64_MAX, &file, NULL, &wrong)) {
		find_for_all(f, needed, "unreadable", key, "%s", wrong->message);
		return true;
	}
	if (file == NULL) {
		find_for_all(f, needed, "missing", key, "the object is missing");
		return true;
	}
	firn_fsck_count(f, &f->report->n_manifests, 1);
	if (needed->stated && needed->size_bytes != 0 &&
	    needed->size_bytes != g_bytes_get_size(file))
		find_for_all(f, needed, "mismatch", key,
			     "it has %zu bytes, and the snapshot says %" G_GUINT64_FORMAT,
			     g_bytes_get_size(file), needed->size_bytes);
	manifest = firn_manifest_open(file, &wrong);
	if (manifest == NULL)
		find_for_all(f, needed, "damaged", key, "%s", wrong->message);
	else
		check_content(f, needed, key, manifest);
	return true;
}

static void
step(uint64_t done, void *data)
{
	const FirnFsck *f = data;

	if (f->options->progress != NULL)
		f->options->progress("checking manifests", done, f->manifest_list->len,
				     f->options->data);
}

void
firn_fsck_manifests(FirnFsck *f)
{
	bool done =
		firn_pool_run(f->manifest_list->len, MAX_THREADS, check_manifest, f, step, f, NULL);

	g_assert(done);
}
