#include "core/repo/commit_priv.h"

#include <string.h>

/*
 * Few changes to a manifest of many refs: its rows are taken over as a block, and what changed
 * is put behind them.  The outcome is what writing each ref anew gives, but for where rows lie.
 */

/* One change for so many refs. */
#define FEW 16u

/* A change that makes a difference. */
typedef struct {
	uint32_t at;   /* the ref it is about, or else the first behind it */
	bool replaces; /* there is one: it goes */
	const uint32_t *coords;
	const FirnChunkChange *change;
} Edit;

typedef struct {
	const FirnCommitCell *cell;
	FirnManifestBlock block;
	FirnCommitWalk walk; /* its changes stay until the manifest is written */
	GArray *edits;       /* Edit, by coordinates */
} Splice;

/* Whether all refs of the block are seen, and stay, but for the changes. */
static bool
all_stay(const Splice *s, const FirnCommitOld *old)
{
	const FirnCommitCell *cell = s->cell;
	const FirnCommitArray *array = cell->array;

	for (uint32_t i = 0; i < array->rank; i++) {
		uint32_t least = s->block.least[i], most = s->block.most[i];

		if (least < MAX(cell->from[i], old->extents[i].from) ||
		    most >= MIN(cell->to[i], old->extents[i].to) ||
		    most >= MIN(array->old_grid[i], array->bounds[i]))
			return false;
	}
	return array->keeps;
}

/* Whether extents may be smaller without the ref at `coords`. */
static bool
is_outermost(const Splice *s, const uint32_t *coords)
{
	for (uint32_t i = 0; i < s->block.refs.rank; i++)
		if (coords[i] == s->block.least[i] || coords[i] == s->block.most[i])
			return true;
	return false;
}

static void
add_edit(Splice *s, const FirnCommitWalk *walk, bool *out_good)
{
	const FirnRefs *refs = &s->block.refs;
	Edit edit = { .coords = walk->coords, .change = walk->change };
	bool removes = walk->change->kind == FIRN_REF_NONE;

	edit.at = firn_refs_lower_bound(refs, walk->coords, refs->rank);
	edit.replaces =
		edit.at < refs->count &&
		firn_coords_compare(firn_refs_coords(refs, edit.at), walk->coords, refs->rank) == 0;
	if (removes && !edit.replaces)
		return;
	if (removes && is_outermost(s, walk->coords))
		*out_good = false;
	else if (!edit.replaces || !firn_commit_same_ref(refs, edit.at, walk->change))
		g_array_append_val(s->edits, edit);
}

/* False: what is left had better be gone through. */
static bool
find_edits(Splice *s)
{
	bool good = true;

	/* To the end, or it could not be released. */
	while (firn_commit_walk_next(&s->walk))
		add_edit(s, &s->walk, &good);
	return good;
}

static size_t
count_refs(const Splice *s)
{
	size_t n = s->block.refs.count;

	for (guint i = 0; i < s->edits->len; i++) {
		const Edit *edit = &g_array_index(s->edits, Edit, i);

		n += edit->change->kind != FIRN_REF_NONE;
		n -= edit->replaces;
	}
	return n;
}

static bool
write_refs(const Splice *s, FirnManifestWriter *writer, FirnExtent *extents, GError **error)
{
	const FirnRefs *refs = &s->block.refs;
	uint32_t next = 0;

	firn_manifest_writer_splice(writer, &s->block);
	for (uint32_t i = 0; i < refs->rank; i++)
		extents[i] = (FirnExtent){ s->block.least[i], s->block.most[i] + 1 };
	for (guint i = 0; i < s->edits->len; i++) {
		const Edit *edit = &g_array_index(s->edits, Edit, i);
		FirnRef ref;

		firn_manifest_writer_take(writer, next, edit->at - next);
		next = edit->at + edit->replaces;
		if (edit->change->kind == FIRN_REF_NONE)
			continue;
		firn_chunk_change_get(edit->change, &ref);
		if (!firn_manifest_writer_add(writer, edit->coords, &ref, error)) {
			g_prefix_error(error, "%s: ", s->cell->array->path);
			return false;
		}
		firn_commit_add_extents(extents, edit->coords, refs->rank);
	}
	firn_manifest_writer_take(writer, next, refs->count - next);
	return true;
}

static bool
write_manifest(const Splice *s, FirnCommitPart *part, GError **error)
{
	FirnCommitArray *array = s->cell->array;
	g_autofree FirnExtent *extents = g_new0(FirnExtent, MAX(array->rank, 1));
	g_autoptr(FirnManifestWriter) writer = NULL;
	FirnCommitManifest manifest;
	size_t n = count_refs(s);
	FirnId12 id;

	writer = firn_commit_manifest_writer(array, n, &id, error);
	if (writer == NULL || !write_refs(s, writer, extents, error) ||
	    !firn_commit_put_manifest(array, g_steal_pointer(&writer), &id, n, &manifest, error))
		return false;
	manifest.extents = g_steal_pointer(&extents);
	g_array_append_val(part->manifests, manifest);
	return true;
}

bool
firn_commit_can_splice(const FirnCommitCell *cell, const FirnRefs *refs)
{
	return cell->n_changes <= refs->count / FEW;
}

bool
firn_commit_splice(FirnCommitCell *cell, const FirnCommitOld *old, const FirnRefs *refs,
		   FirnCommitPart *part, bool *out_done, GError **error)
{
	Splice s = { .cell = cell,
		     .walk = { .cell = cell, .holds = true },
		     .edits = g_array_new(FALSE, FALSE, sizeof(Edit)) };
	bool fits = firn_manifest_block(refs, &s.block) && all_stay(&s, old);
	bool ok = true;

	*out_done = fits && find_edits(&s);
	if (*out_done) {
		cell->effective = s.edits->len > 0;
		for (guint i = 0; i < s.edits->len; i++)
			g_array_append_vals(part->coords, g_array_index(s.edits, Edit, i).coords,
					    cell->array->rank);
		part->n_changed += s.edits->len;
		ok = !cell->effective || write_manifest(&s, part, error);
	}
	if (fits)
		firn_commit_walk_release(&s.walk);
	g_array_unref(s.edits);
	return ok;
}
