#include "core/base/error.h"
#include "core/repo/fsck_priv.h"
#include "core/repo/repo_internal.h"
#include "core/zarr/meta.h"

#include <stdlib.h>
#include <string.h>

/* Sound ones need a few per manifest; those made to be slow are given up. */
#define MAX_COMPARISONS 100000000u

#define RESET                                                                               \
	"restore the object from a copy; else move the branches that lead to it with firn " \
	"reset, or delete the tags"
#define REWRITE_NODE "write the node's zarr.json again and commit"

typedef struct {
	FirnFsck *f;
	FirnSnapshot *snapshot;
	const char *key;
	const char *label;
} Check;

/* ---- manifests that hold the same places ---- */

typedef struct {
	const FirnExtent *extents;
	uint32_t rank;
	uint32_t axis;
} Order;

static int
compare_from(const void *a, const void *b, void *data)
{
	const Order *order = data;
	uint32_t x =
		order->extents[(size_t) * (const uint32_t *)a * order->rank + order->axis].from;
	uint32_t y =
		order->extents[(size_t) * (const uint32_t *)b * order->rank + order->axis].from;

	return (x > y) - (x < y);
}

/* The numbers of the manifests in order along `axis`; how many begin at different places. */
static uint32_t
sort_along(uint32_t *list, uint32_t n, Order *order, uint32_t axis)
{
	uint32_t distinct = 1;

	order->axis = axis;
	for (uint32_t i = 0; i < n; i++)
		list[i] = i;
	qsort_r(list, n, sizeof *list, compare_from, order);
	for (uint32_t i = 1; i < n; i++)
		distinct += compare_from(&list[i - 1], &list[i], order) != 0;
	return distinct;
}

static bool
meet(const FirnExtent *a, const FirnExtent *b, uint32_t rank)
{
	for (uint32_t axis = 0; axis < rank; axis++)
		if (a[axis].from >= b[axis].to || b[axis].from >= a[axis].to)
			return false;
	return true;
}

/* Each against those behind it that begin before it ends. */
static bool
sweep(const uint32_t *list, uint32_t n, const Order *order)
{
	uint32_t left = MAX_COMPARISONS;

	for (uint32_t i = 0; i < n; i++) {
		const FirnExtent *a = order->extents + (size_t)list[i] * order->rank;

		for (uint32_t k = i + 1; k < n && left > 0; k++, left--) {
			const FirnExtent *b = order->extents + (size_t)list[k] * order->rank;

			if (b[order->axis].from >= a[order->axis].to)
				break;
			if (meet(a, b, order->rank))
				return true;
		}
	}
	return false;
}

bool
firn_fsck_overlap(const FirnSnapshot *snapshot, const FirnSnapshotNode *node)
{
	uint32_t n = node->n_manifests, rank = node->rank, best = 0, best_axis = 0;
	g_autofree FirnExtent *extents = NULL;
	g_autofree uint32_t *list = NULL;
	Order order;

	if (n < 2 || rank == 0)
		return n > 1;
	extents = g_new(FirnExtent, (gsize)n * rank);
	list = g_new(uint32_t, n);
	order = (Order){ .extents = extents, .rank = rank };
	for (uint32_t i = 0; i < n; i++) {
		FirnId12 id;

		firn_snapshot_node_manifest(snapshot, node, i, &id, extents + (size_t)i * rank);
	}
	for (uint32_t axis = 0; axis < rank; axis++) {
		uint32_t distinct = sort_along(list, n, &order, axis);

		if (distinct > best) {
			best = distinct;
			best_axis = axis;
		}
	}
	(void)sort_along(list, n, &order, best_axis);
	return sweep(list, n, &order);
}

/* ---- nodes ---- */

static bool
same_shape(const FirnSnapshot *snapshot, const FirnSnapshotNode *node, const FirnMeta *meta)
{
	if (meta->rank != node->rank)
		return false;
	for (uint32_t axis = 0; axis < node->rank; axis++) {
		uint64_t length;
		uint32_t n_chunks;

		firn_snapshot_node_shape(snapshot, node, axis, &length, &n_chunks);
		if (length != meta->lengths[axis] || n_chunks != meta->n_chunks[axis])
			return false;
	}
	return true;
}

static void
check_document(Check *check, const FirnSnapshotNode *node, const FirnFsckAbout *about)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) raw = g_bytes_new_static(node->meta.data, node->meta.len);
	g_autoptr(FirnMeta) meta = firn_meta_parse(raw, &error);

	if (meta == NULL)
		firn_fsck_find(check->f, about, "its zarr.json: %s", error->message);
	else if (meta->kind != node->kind)
		firn_fsck_find(check->f, about, "its zarr.json is that of %s",
			       meta->kind == FIRN_NODE_ARRAY ? "an array" : "a group");
	else if (node->kind == FIRN_NODE_ARRAY && !same_shape(check->snapshot, node, meta))
		firn_fsck_find(check->f, about, "the shape in its zarr.json is not the snapshot's");
}

/* An array has no children. */
static void
check_parents(Check *check, const FirnSnapshotNode *node, const FirnFsckAbout *about)
{
	for (size_t len = 0; node->path.len > 1 && len < node->path.len; len++) {
		FirnSnapshotNode above;
		size_t at;

		if (node->path.data[len] != '/' ||
		    !firn_snapshot_find_path(check->snapshot, (const char *)node->path.data,
					     MAX(len, 1u), &at))
			continue;
		firn_snapshot_node(check->snapshot, at, &above);
		if (above.kind == FIRN_NODE_ARRAY)
			firn_fsck_find(check->f, about, "it lies below the array %.*s",
				       (int)MIN(above.path.len, 4096),
				       (const char *)above.path.data);
	}
}

static void
check_manifests(Check *check, const FirnSnapshotNode *node, const FirnFsckAbout *about)
{
	FirnExtent extents[FIRN_MAX_RANK];

	for (uint32_t i = 0; i < node->n_manifests; i++) {
		size_t index;
		char text[FIRN_ID12_TEXT + 1];
		bool empty = false;
		FirnId12 id;

		firn_snapshot_node_manifest(check->snapshot, node, i, &id, extents);
		firn_id12_format(&id, text);
		if (!firn_snapshot_find_manifest_file(check->snapshot, &id, &index))
			firn_fsck_find(check->f, about,
				       "manifests/%s is not among the snapshot's manifests", text);
		for (uint32_t axis = 0; axis < node->rank; axis++)
			empty = empty || extents[axis].from >= extents[axis].to;
		if (empty)
			firn_fsck_find(check->f, about, "the extents of manifests/%s are empty",
				       text);
		firn_fsck_need(check->f, check->snapshot, node, &id, extents);
	}
	if (firn_fsck_overlap(check->snapshot, node))
		firn_fsck_find(check->f, about, "two of its manifests hold the same chunks");
}

static void
check_node(Check *check, size_t index)
{
	FirnSnapshotNode node;
	g_autofree char *path = NULL;
	FirnFsckAbout about = { "mismatch", check->key, NULL, REWRITE_NODE };
	size_t first = index;

	firn_snapshot_node(check->snapshot, index, &node);
	path = g_strndup((const char *)node.path.data, node.path.len);
	about.path = path;
	if (firn_snapshot_find_id(check->snapshot, &node.id, &first) && first != index)
		firn_fsck_find(check->f, &about, "another node has the same id");
	check_document(check, &node, &about);
	check_parents(check, &node, &about);
	if (node.kind == FIRN_NODE_ARRAY)
		check_manifests(check, &node, &about);
}

/* ---- the snapshot ---- */

static void
check_files(Check *check)
{
	size_t n = firn_snapshot_n_manifest_files(check->snapshot);

	for (size_t i = 0; i < n; i++) {
		FirnManifestFile file;

		firn_snapshot_manifest_file(check->snapshot, i, &file);
		firn_fsck_state(check->f, &file, check->label);
	}
}

/* What the repo info repeats of the snapshot. */
static void
check_copy(Check *check)
{
	FirnFsckAbout about = { "mismatch", check->key, check->label,
				"restore the object, or the object repo, from a copy" };
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonObject) metadata = firn_snapshot_metadata(check->snapshot, &error);
	g_autoptr(JsonNode) ours = json_node_new(JSON_NODE_OBJECT);
	g_autoptr(JsonNode) theirs = json_node_new(JSON_NODE_OBJECT);
	const FirnSnapshotInfo *info = NULL;

	if (metadata == NULL)
		firn_fsck_find(check->f, &about, "%s", error->message);
	if (check->f->info != NULL)
		info = firn_repo_info_find_snapshot(check->f->info,
						    firn_snapshot_id(check->snapshot));
	if (info == NULL || metadata == NULL)
		return;
	json_node_set_object(ours, metadata);
	if (info->metadata != NULL)
		json_node_set_object(theirs, info->metadata);
	else
		json_node_take_object(theirs, json_object_new());
	if (info->flushed_at != firn_snapshot_flushed_at(check->snapshot))
		firn_fsck_find(check->f, &about, "its time is not the one in repo");
	if (strcmp(info->message, firn_snapshot_message(check->snapshot)) != 0)
		firn_fsck_find(check->f, &about, "its message is not the one in repo");
	if (!json_node_equal(ours, theirs))
		firn_fsck_find(check->f, &about, "its metadata is not what repo says");
}

FirnSnapshot *
firn_fsck_snapshot(FirnFsck *f, const FirnId12 *id, const char *label)
{
	g_autofree char *key = firn_repo_key("snapshots", id);
	FirnFsckAbout about = { "damaged", key, label, RESET };
	g_autoptr(GBytes) file = firn_fsck_fetch(f, &about);
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autoptr(GError) error = NULL;
	Check check = { .f = f, .key = key, .label = label };

	if (file == NULL)
		return NULL;
	firn_fsck_count(f, &f->report->n_snapshots, 1);
	snapshot = firn_snapshot_open(file, &error);
	if (snapshot == NULL) {
		firn_fsck_find(f, &about, "%s", error->message);
		return NULL;
	}
	if (!firn_id12_equal(firn_snapshot_id(snapshot), id)) {
		about.kind = "mismatch";
		firn_fsck_find(f, &about, "it holds another snapshot than its name says");
		return NULL;
	}
	check.snapshot = snapshot;
	check_copy(&check);
	check_files(&check);
	for (size_t i = 0; i < firn_snapshot_n_nodes(snapshot); i++)
		check_node(&check, i);
	return g_steal_pointer(&snapshot);
}
