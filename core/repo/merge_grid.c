#include "core/repo/merge_priv.h"
#include "core/repo/state.h"

#include <string.h>

void
firn_merge_clash_chunk(const FirnMergeSettling *s, FirnConflictKind kind, const uint32_t *coords,
		       uint32_t rank, const char *first, const char *second)
{
	firn_conflicts_add(&s->m->conflicts, &(FirnClash){ .kind = kind,
							   .path = s->node->path,
							   .rank = rank,
							   .coords = coords,
							   .first = first,
							   .second = second });
}

static bool
inside(const uint32_t *coords, const uint32_t *grid, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (coords[i] >= grid[i])
			return false;
	return true;
}

/* ---- geometry ---- */

/* The document of the base; NULL without one.  Caller owns. */
static FirnMeta *
base_document(const FirnMergeSettling *s)
{
	g_autoptr(GBytes) raw = NULL;
	FirnSnapshotNode base;

	if (!s->node->in_base)
		return NULL;
	firn_snapshot_node(s->m->base, s->node->base_index, &base);
	raw = g_bytes_new(base.meta.data, base.meta.len);
	return firn_meta_parse(raw, NULL);
}

const GPtrArray *
firn_merge_parents(const FirnMerging *m, FirnMergeParty *party)
{
	const char *fork = party->section->header->fork;
	g_autofree char *key = NULL;
	g_autoptr(GBytes) bytes = NULL;

	if (party->parents != NULL)
		return party->parents;
	if (fork != NULL) {
		key = firn_fork_parent_key(fork);
		if (firn_store_get(firn_repo_store(m->repo), key, 0, UINT64_MAX, &bytes, NULL,
				   NULL) &&
		    bytes != NULL)
			party->parents = firn_journal_decode(bytes, key, NULL, NULL);
	}
	if (party->parents == NULL)
		party->parents = g_ptr_array_new();
	return party->parents;
}

/* What a section says of the node's document. */
static const FirnNodeChange *
find_document(const FirnMergeNode *node, const FirnSection *section)
{
	for (guint i = 0; i < node->touches->len; i++) {
		const FirnNodeChange *touch = firn_merge_touch(node, i)->change;
		const FirnNodeChange *change = firn_changes_find(section->changes, &touch->id);

		if (change != NULL && change->meta != NULL)
			return change;
	}
	return NULL;
}

/* The document as `party`'s fork started with it, from the youngest ancestor that has it. */
static const FirnNodeChange *
inherited_document(const FirnMergeNode *node, const FirnMergeParty *party, const GPtrArray *parents)
{
	const GArray *ancestors = party->section->header->ancestors;

	for (guint i = ancestors->len; i-- > 0;) {
		const FirnId12 *session = &g_array_index(ancestors, FirnAncestor, i).session;

		for (guint j = 0; j < parents->len; j++) {
			const FirnSection *section = parents->pdata[j];
			const FirnNodeChange *change = NULL;

			if (firn_id12_equal(&section->header->session, session))
				change = find_document(node, section);
			if (change != NULL)
				return change;
		}
	}
	return NULL;
}

/*
 * An ancestor's journal says only what its document was last: if it was written again after the
 * fork, what the fork started from is looked up where it was published.
 */
const FirnNodeChange *
firn_merge_seen_document(const FirnMerging *m, const FirnMergeNode *node, unsigned y,
			 bool *out_known)
{
	const FirnMergeTouch *latest = NULL;
	bool rewritten = false;

	*out_known = true;
	for (guint i = 0; i < node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(node, i);
		uint64_t seen = firn_merge_seen(m, touch->party, y);

		if (touch->change->kind != FIRN_CHANGE_PUT || touch->party == y)
			continue;
		if (touch->change->seq > seen)
			rewritten = rewritten || seen > 0;
		else if (latest == NULL ||
			 firn_merge_before(m, latest->party, latest->change->seq, touch->party))
			latest = touch;
	}
	if (rewritten) {
		FirnMergeParty *party = firn_merge_party(m, y);
		const GPtrArray *parents = firn_merge_parents(m, party);
		const FirnNodeChange *change = inherited_document(node, party, parents);

		*out_known = parents->len > 0;
		if (change != NULL)
			return change;
	}
	return latest != NULL ? latest->change : NULL;
}

/* The same, as well as it is known. */
static FirnMeta *
seen_document(const FirnMergeSettling *s, unsigned y)
{
	bool known;
	const FirnNodeChange *change = firn_merge_seen_document(s->m, s->node, y, &known);

	return change != NULL ? change->meta : NULL;
}

/* The document a party wrote under; NULL if there is none.  Caller owns. */
static FirnMeta *
written_under(const FirnMergeSettling *s, const FirnMergeSource *source)
{
	FirnMeta *meta = source->change->meta;

	if (meta == NULL)
		meta = seen_document(s, source->party);
	return meta != NULL ? firn_meta_ref(meta) : base_document(s);
}

static bool
wrote_other_geometry(const FirnMergeSettling *s, const FirnMergeSource *source)
{
	g_autoptr(FirnMeta) meta = NULL;

	if (s->node->winner < 0)
		return false;
	meta = written_under(s, source);
	return meta == NULL || !firn_meta_same_geometry(meta, s->node->meta);
}

/* ---- sources ---- */

static void
clear_source(gpointer data)
{
	FirnMergeSource *source = data;

	firn_chunk_iter_clear(&source->iter);
	g_array_unref(source->shrinks);
}

static void
add_keeps(FirnMergeSettling *s)
{
	for (guint i = 0; i < s->node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(s->node, i);
		const FirnNodeChange *change = touch->change;
		FirnMergeKeep keep = { .party = touch->party,
				       .seq = change->seq,
				       .keep = change->keep,
				       .rank = change->keep_rank,
				       .from = s->base_grid,
				       .from_rank = s->base_rank };
		const FirnMeta *meta;

		if (change->kind != FIRN_CHANGE_PUT || change->keep == NULL)
			continue;
		meta = seen_document(s, touch->party);
		if (meta != NULL) {
			keep.from = meta->n_chunks;
			keep.from_rank = meta->rank;
		}
		g_array_append_val(s->keeps, keep);
	}
}

/* What `shrink` had kept when the other party was forked, if that is in between. */
static void
find_known(const FirnMergeSettling *s, FirnMergeParty *other, FirnMergeShrink *shrink)
{
	const FirnSection *by = firn_merge_party(s->m, shrink->by->party)->section;
	const GPtrArray *parents = firn_merge_parents(s->m, other);

	for (guint i = 0; i < parents->len; i++) {
		const FirnSection *section = parents->pdata[i];
		const FirnNodeChange *change = NULL;

		if (firn_id12_equal(&section->header->session, &by->header->session))
			change = find_document(s->node, section);
		if (change == NULL)
			continue;
		shrink->known = change->keep;
		shrink->known_rank = change->keep_rank;
		return;
	}
}

static void
add_shrinks(const FirnMergeSettling *s, FirnMergeSource *source)
{
	for (guint i = 0; i < s->keeps->len; i++) {
		const FirnMergeKeep *keep = &g_array_index(s->keeps, FirnMergeKeep, i);
		FirnMergeShrink shrink = { .by = keep, .keep = keep->keep, .rank = keep->rank };
		uint64_t known = firn_merge_seen(s->m, keep->party, source->party);

		if (keep->party == source->party)
			continue;
		shrink.seen = firn_merge_seen(s->m, source->party, keep->party);
		if (known >= keep->seq) {
			shrink.known = keep->keep;
			shrink.known_rank = keep->rank;
		} else if (known > 0) {
			find_known(s, firn_merge_party(s->m, source->party), &shrink);
		}
		g_array_append_val(source->shrinks, shrink);
	}
}

/* Where there is an outcome, the entries are moved there. */
static void
start(const FirnMergeSettling *s, FirnMergeSource *source)
{
	FirnChanges *changes = firn_merge_party(s->m, source->party)->section->changes;
	FirnChunkMap *map = source->change->chunks;

	if (s->m->out == NULL) {
		firn_chunk_iter_seek(&source->iter, map, NULL, 0);
		return;
	}
	changes->n_chunks -= firn_chunk_map_size(map);
	firn_chunk_iter_drain(&source->iter, map);
}

void
firn_merge_add_sources(FirnMergeSettling *s)
{
	s->keeps = g_array_new(FALSE, FALSE, sizeof(FirnMergeKeep));
	add_keeps(s);
	s->sources = g_array_new(FALSE, FALSE, sizeof(FirnMergeSource));
	g_array_set_clear_func(s->sources, clear_source);
	for (guint i = 0; i < s->node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(s->node, i);
		FirnMergeSource source = { .party = touch->party, .change = touch->change };

		if (touch->change->chunks == NULL ||
		    firn_chunk_map_size(touch->change->chunks) == 0)
			continue;
		source.own_seq = touch->change->kind == FIRN_CHANGE_PUT ? touch->change->seq : 0;
		source.shrinks = g_array_new(FALSE, FALSE, sizeof(FirnMergeShrink));
		add_shrinks(s, &source);
		source.other_geometry = wrote_other_geometry(s, &source);
		start(s, &source);
		g_array_append_val(s->sources, source);
	}
}

/* A shrink that the writer did not know of, and that took a chunk of what there was away? */
static bool
shrunk_aside(const FirnMergeSettling *s, const FirnMergeSource *source,
	     const FirnMergeShrink *shrink)
{
	const FirnMergeKeep *by = shrink->by;
	bool known = shrink->known != NULL && !(shrink->known_rank == s->rank &&
						inside(source->coords, shrink->known, s->rank));

	return !known && shrink->rank == s->rank && by->from_rank == s->rank &&
	       inside(source->coords, by->from, s->rank);
}

bool
firn_merge_takes_part(const FirnMergeSettling *s, const FirnMergeSource *source)
{
	uint32_t rank = firn_chunk_map_rank(source->change->chunks);
	bool written = source->chunk->kind != FIRN_REF_NONE;
	const FirnMergeShrink *aside = NULL;

	for (guint i = 0; i < source->shrinks->len; i++) {
		const FirnMergeShrink *shrink = &g_array_index(source->shrinks, FirnMergeShrink, i);

		if (shrink->rank == rank && inside(source->coords, shrink->keep, rank))
			continue;
		/* One that knew of the chunk settles it, whatever others did. */
		if (source->chunk->seq <= shrink->seen)
			return false;
		if (aside == NULL && written && shrunk_aside(s, source, shrink))
			aside = shrink;
	}
	if (aside != NULL) {
		firn_merge_clash_chunk(s, FIRN_CONFLICT_CHUNK_OUTSIDE, source->coords, rank,
				       firn_merge_source_name(s, source),
				       firn_merge_party(s->m, aside->by->party)->name);
		return false;
	}
	if (rank == s->rank && inside(source->coords, s->grid, rank) &&
	    !(written && source->other_geometry))
		return true;
	if (written)
		firn_merge_clash_chunk(s,
				       rank == s->rank && !source->other_geometry
					       ? FIRN_CONFLICT_CHUNK_OUTSIDE
					       : FIRN_CONFLICT_CHUNK_GEOMETRY,
				       source->coords, rank, firn_merge_source_name(s, source),
				       s->winner_name);
	return false;
}

/* Whether all entries of a folded leaf take part, which is seen without reading them. */
static bool
block_takes_part(const FirnMergeSettling *s, const FirnMergeSource *source,
		 const FirnChunkBlock *block)
{
	return s->map != NULL && source->shrinks->len == 0 && !source->other_geometry &&
	       firn_chunk_map_rank(source->change->chunks) == s->rank &&
	       inside(block->most, s->grid, s->rank);
}

bool
firn_merge_source_open(FirnMergeSource *source)
{
	return source->chunk != NULL ||
	       firn_chunk_iter_next(&source->iter, &source->coords, &source->chunk);
}

bool
firn_merge_source_next(const FirnMergeSettling *s, FirnMergeSource *source)
{
	FirnChunkBlock block;

	if (firn_chunk_iter_block(&source->iter, &block) && block_takes_part(s, source, &block)) {
		source->coords = block.first;
		source->last = block.last;
		source->chunk = NULL;
		return true;
	}
	while (firn_chunk_iter_next(&source->iter, &source->coords, &source->chunk))
		if (firn_merge_takes_part(s, source))
			return true;
	return false;
}

void
firn_merge_init_grids(FirnMergeSettling *s)
{
	FirnMergeNode *node = s->node;

	if (node->in_base) {
		FirnSnapshotNode base;

		firn_snapshot_node(s->m->base, node->base_index, &base);
		s->base_rank = base.rank;
		for (uint32_t i = 0; i < base.rank; i++)
			firn_snapshot_node_shape(s->m->base, &base, i, &(uint64_t){ 0 },
						 &s->base_grid[i]);
	}
	s->rank = node->meta != NULL ? node->meta->rank : s->base_rank;
	if (s->rank > 0)
		memcpy(s->grid, node->meta != NULL ? node->meta->n_chunks : s->base_grid,
		       s->rank * sizeof s->grid[0]);
}
