#include "core/repo/merge_priv.h"

#include <string.h>

/* Sequence numbers of an outcome: only their order is read (was the chunk written before the document?). */
enum {
	SEQ_OLD_CHUNK = 1,
	SEQ_NODE = 2,
	SEQ_CHUNK = 3
};

/* ---- in order of coordinates ---- */

static bool
heap_less(const FirnMergeSettling *s, guint a, guint b)
{
	int order = firn_coords_compare(firn_merge_source(s, s->heap[a])->coords,
					firn_merge_source(s, s->heap[b])->coords, s->rank);

	return order != 0 ? order < 0 : s->heap[a] < s->heap[b];
}

static void
heap_sink(FirnMergeSettling *s, guint at)
{
	for (;;) {
		guint least = at;
		guint swap;

		for (guint child = 2 * at + 1; child <= 2 * at + 2 && child < s->n_heap; child++)
			if (heap_less(s, child, least))
				least = child;
		if (least == at)
			return;
		swap = s->heap[at];
		s->heap[at] = s->heap[least];
		s->heap[least] = swap;
		at = least;
	}
}

static void
heap_build(FirnMergeSettling *s)
{
	s->heap = g_new0(guint, s->sources->len);
	for (guint i = 0; i < s->sources->len; i++)
		if (firn_merge_source_next(s, firn_merge_source(s, i)))
			s->heap[s->n_heap++] = i;
	for (guint i = s->n_heap / 2; i-- > 0;)
		heap_sink(s, i);
}

/* Take all sources at the least coordinates off the heap. */
static void
heap_pop(FirnMergeSettling *s)
{
	g_array_set_size(s->touchers, 0);
	do {
		guint top = s->heap[0];

		g_array_append_val(s->touchers, top);
		s->heap[0] = s->heap[--s->n_heap];
		heap_sink(s, 0);
	} while (s->n_heap > 0 &&
		 firn_coords_compare(
			 firn_merge_source(s, s->heap[0])->coords,
			 firn_merge_source(s, g_array_index(s->touchers, guint, 0))->coords,
			 s->rank) == 0);
}

static void
heap_push(FirnMergeSettling *s, guint source)
{
	guint at = s->n_heap++;

	s->heap[at] = source;
	while (at > 0 && heap_less(s, at, (at - 1) / 2)) {
		guint swap = s->heap[at];

		s->heap[at] = s->heap[(at - 1) / 2];
		s->heap[(at - 1) / 2] = swap;
		at = (at - 1) / 2;
	}
}

/* ---- one chunk ---- */

static FirnMergeSource *
toucher(const FirnMergeSettling *s, guint i)
{
	return firn_merge_source(s, g_array_index(s->touchers, guint, i));
}

/* Leave those of `touchers` that nobody else's came after; true if one is left. */
static void
mark_latest(FirnMergeSettling *s)
{
	int *slots = s->m->slots;

	for (guint i = 0; i < s->touchers->len; i++)
		slots[toucher(s, i)->party] = (int)i;
	for (guint i = 0; i < s->touchers->len; i++) {
		const GArray *seen = firn_merge_party(s->m, toucher(s, i)->party)->seen;

		for (guint j = 0; j < seen->len; j++) {
			const FirnMergeSeen *ancestor = &g_array_index(seen, FirnMergeSeen, j);
			int slot = slots[ancestor->party];

			if (slot >= 0 && toucher(s, (guint)slot)->chunk->seq <= ancestor->seq)
				slots[ancestor->party] = -1;
		}
	}
}

/* The touchers left, in the order of `touchers`; clears the marks. */
static GArray *
latest_touchers(FirnMergeSettling *s)
{
	GArray *latest = g_array_new(FALSE, FALSE, sizeof(guint));

	mark_latest(s);
	for (guint i = 0; i < s->touchers->len; i++) {
		unsigned party = toucher(s, i)->party;

		if (s->m->slots[party] == (int)i)
			g_array_append_val(latest, g_array_index(s->touchers, guint, i));
	}
	for (guint i = 0; i < s->touchers->len; i++)
		s->m->slots[toucher(s, i)->party] = -1;
	return latest;
}

static int
compare_sources(const FirnMergeSettling *s, const FirnMergeSource *a, const FirnMergeSource *b,
		GError **error)
{
	FirnRef x, y;

	firn_chunk_change_get(a->chunk, &x);
	firn_chunk_change_get(b->chunk, &y);
	return firn_conflict_compare_refs(s->m->repo, &x, &y, error);
}

static void
report(const FirnMergeSettling *s, const FirnMergeSource *a, const FirnMergeSource *b)
{
	bool erased = a->chunk->kind == FIRN_REF_NONE || b->chunk->kind == FIRN_REF_NONE;
	const FirnMergeSource *writer = a->chunk->kind == FIRN_REF_NONE ? b : a;
	const FirnMergeSource *other = writer == a ? b : a;

	firn_merge_clash_chunk(s, erased ? FIRN_CONFLICT_CHUNK_DELETED : FIRN_CONFLICT_CHUNK,
			       a->coords, s->rank, firn_merge_source_name(s, writer),
			       firn_merge_source_name(s, other));
}

static int
compare_places(const FirnChunkChange *a, const FirnChunkChange *b)
{
	int order = firn_id12_compare(firn_chunk_change_id(a), firn_chunk_change_id(b));
	uint64_t x = firn_chunk_change_offset(a), y = firn_chunk_change_offset(b);

	return order != 0 ? order : (x > y) - (x < y);
}

bool
firn_merge_goes_first(const FirnChunkChange *a, const FirnChunkChange *b)
{
	return a->kind < b->kind || (a->kind == FIRN_REF_NATIVE && b->kind == FIRN_REF_NATIVE &&
				     compare_places(a, b) < 0);
}

static FirnMergeSource *
least_ref(const FirnMergeSettling *s, const GArray *latest)
{
	FirnMergeSource *least = firn_merge_source(s, g_array_index(latest, guint, 0));

	for (guint i = 1; i < latest->len; i++) {
		FirnMergeSource *source = firn_merge_source(s, g_array_index(latest, guint, i));

		if (firn_merge_goes_first(source->chunk, least->chunk))
			least = source;
	}
	return least;
}

static FirnMergeSource *
favored(const FirnMergeSettling *s, const GArray *latest)
{
	FirnMergeSource *best = NULL;

	for (guint i = 0; i < latest->len; i++) {
		FirnMergeSource *source = firn_merge_source(s, g_array_index(latest, guint, i));
		unsigned given = firn_merge_party(s->m, source->party)->given;
		unsigned than = best != NULL ? firn_merge_party(s->m, best->party)->given : 0;

		if (best == NULL || (s->m->favor == FIRN_FAVOR_FIRST ? given < than : given > than))
			best = source;
	}
	return best;
}

/* The one that counts; NULL without `error`: a conflict, reported. */
static FirnMergeSource *
choose(FirnMergeSettling *s, bool *out_settled, GError **error)
{
	g_autoptr(GArray) latest = latest_touchers(s);
	FirnMergeSource *first = firn_merge_source(s, g_array_index(latest, guint, 0));
	bool differ = false;

	for (guint i = 1; i < latest->len; i++) {
		FirnMergeSource *other = firn_merge_source(s, g_array_index(latest, guint, i));
		int same = compare_sources(s, first, other, error);

		if (same < 0)
			return NULL;
		differ = differ || same == 0;
		if (same == 0 && s->m->favor == FIRN_FAVOR_NONE)
			report(s, first, other);
	}
	if (!differ)
		return least_ref(s, latest);
	if (s->m->favor == FIRN_FAVOR_NONE)
		return NULL;
	s->m->n_settled++;
	*out_settled = true;
	return favored(s, latest);
}

/* Of an entry's numbers, only what the outcome says with them. */
static void
relabel(FirnChunkChange *change, const FirnMergeSource *source)
{
	firn_chunk_change_number(change, change->seq < source->own_seq ? SEQ_OLD_CHUNK : SEQ_CHUNK);
	change->ino = 0;
}

static void
emit(FirnMergeSettling *s, FirnMergeSource *source)
{
	FirnChunkChange *change;

	if (s->map == NULL || s->m->conflicts.n > 0)
		return;
	firn_chunk_iter_share(&source->iter, s->map);
	change = firn_chunk_map_insert(s->map, source->coords, NULL);
	*change = *source->chunk;
	relabel(change, source);
}

/* A chunk several parties changed. */
static bool
settle_chunk(FirnMergeSettling *s, GArray *losers, GError **error)
{
	g_autoptr(GError) failed = NULL;
	bool settled = false;
	FirnMergeSource *winner = choose(s, &settled, &failed);

	if (failed != NULL) {
		g_propagate_error(error, g_steal_pointer(&failed));
		return false;
	}
	if (winner == NULL)
		return true;
	emit(s, winner);
	for (guint i = 0; settled && s->map == NULL && i < s->touchers->len; i++) {
		const FirnMergeSource *loser = toucher(s, i);

		if (loser == winner ||
		    firn_merge_before(s->m, loser->party, loser->chunk->seq, winner->party))
			continue;
		g_array_append_val(losers, g_array_index(s->touchers, guint, i));
		g_array_append_vals(losers, loser->coords, s->rank);
	}
	return true;
}

static void
remove_losers(const FirnMergeSettling *s, const GArray *losers)
{
	for (guint i = 0; i < losers->len; i += 1 + s->rank) {
		const uint32_t *row = &g_array_index(losers, uint32_t, i);
		const FirnMergeSource *source = firn_merge_source(s, row[0]);

		firn_changes_forget_chunk(firn_merge_party(s->m, source->party)->section->changes,
					  source->change, row + 1);
	}
}

/* Whether no other source is at the least coordinates. */
static bool
top_is_alone(const FirnMergeSettling *s)
{
	const uint32_t *coords = firn_merge_source(s, s->heap[0])->coords;

	for (guint child = 1; child <= 2 && child < s->n_heap; child++)
		if (firn_coords_compare(firn_merge_source(s, s->heap[child])->coords, coords,
					s->rank) == 0)
			return false;
	return true;
}

/* The least coordinates of all sources but the first; NULL: there is no other. */
static const uint32_t *
others_coords(const FirnMergeSettling *s)
{
	guint least = 1;

	if (s->n_heap < 2)
		return NULL;
	if (s->n_heap > 2 && heap_less(s, 2, 1))
		least = 2;
	return firn_merge_source(s, s->heap[least])->coords;
}

/* Move a folded leaf that comes before all others as it is; false: it does not. */
static bool
emit_folded(FirnMergeSettling *s, FirnMergeSource *source)
{
	const uint32_t *others = others_coords(s);

	if (source->chunk != NULL ||
	    (others != NULL && firn_coords_compare(source->last, others, s->rank) >= 0))
		return false;
	firn_chunk_map_take_folded(s->map, &source->iter, source->own_seq, SEQ_OLD_CHUNK,
				   SEQ_CHUNK);
	return true;
}

/* Move what the source has before all others, as far as it lies together. */
static void
emit_run(FirnMergeSettling *s, FirnMergeSource *source)
{
	const uint32_t *coords;
	FirnChunkChange *changes;
	uint32_t n, i = 1;

	if (emit_folded(s, source) || !firn_merge_source_open(source))
		return;
	n = firn_chunk_iter_run(&source->iter, others_coords(s), &coords, &changes);
	relabel(changes, source);
	for (; i < n; i++) {
		source->coords = coords + (size_t)i * s->rank;
		source->chunk = &changes[i];
		if (!firn_merge_takes_part(s, source))
			break;
		relabel(source->chunk, source);
	}
	firn_chunk_map_take(s->map, &source->iter, i);
	if (i < n)
		(void)firn_chunk_iter_next(&source->iter, &source->coords, &source->chunk);
}

static bool
open_touchers(const FirnMergeSettling *s)
{
	for (guint i = 0; i < s->touchers->len; i++)
		if (!firn_merge_source_open(toucher(s, i)))
			return false;
	return true;
}

/* That all there was to read was read. */
static bool
check_sources(const FirnMergeSettling *s, GError **error)
{
	for (guint i = 0; i < s->sources->len; i++)
		if (!firn_chunk_map_check(firn_merge_source(s, i)->change->chunks, error))
			return false;
	return true;
}

static bool
settle_all(FirnMergeSettling *s, GError **error)
{
	/* Rows of a source's index and coordinates: removing has to wait for the iterators. */
	g_autoptr(GArray) losers = g_array_new(FALSE, FALSE, sizeof(uint32_t));

	heap_build(s);
	while (s->n_heap > 0) {
		/* Nearly always: what one wrote, the others did not. */
		if (top_is_alone(s)) {
			FirnMergeSource *source = firn_merge_source(s, s->heap[0]);

			if (s->map != NULL)
				emit_run(s, source);
			if (!firn_merge_source_next(s, source))
				s->heap[0] = s->heap[--s->n_heap];
			heap_sink(s, 0);
			continue;
		}
		heap_pop(s);
		if (!open_touchers(s))
			break;
		if (!settle_chunk(s, losers, error))
			return false;
		for (guint i = 0; i < s->touchers->len; i++)
			if (firn_merge_source_next(s, toucher(s, i)))
				heap_push(s, g_array_index(s->touchers, guint, i));
	}
	remove_losers(s, losers);
	return check_sources(s, error);
}

/* ---- one node ---- */

/* Chunks of an array that is gone: a conflict unless whoever deleted it had seen them. */
static void
report_orphans(FirnMergeSettling *s, const FirnMergeTouch *touch)
{
	const uint32_t *coords;
	FirnChunkChange *chunk;
	FirnChunkIter iter;

	firn_chunk_iter_seek(&iter, touch->change->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &chunk)) {
		bool seen = false;

		for (guint i = 0; i < s->node->touches->len && !seen; i++) {
			const FirnMergeTouch *other = firn_merge_touch(s->node, i);

			seen = other->change->kind == FIRN_CHANGE_DELETE &&
			       firn_merge_before(s->m, touch->party, chunk->seq, other->party);
		}
		if (!seen)
			firn_merge_clash_chunk(s, FIRN_CONFLICT_CHUNK_NO_ARRAY, coords,
					       firn_chunk_map_rank(touch->change->chunks),
					       firn_merge_party(s->m, touch->party)->name,
					       s->winner_name);
	}
}

/* What is kept of the base's refs: what every document that was written kept. */
static void
put_keep(const FirnMergeSettling *s, FirnNodeChange *entry)
{
	for (guint i = 0; i < s->node->touches->len; i++) {
		const FirnNodeChange *change = firn_merge_touch(s->node, i)->change;
		bool same_rank = change->keep_rank == s->base_rank;

		if (change->kind != FIRN_CHANGE_PUT || change->keep == NULL)
			continue;
		if (entry->keep == NULL) {
			entry->keep = g_new0(uint32_t, MAX(s->base_rank, 1));
			entry->keep_rank = s->base_rank;
			if (s->base_rank > 0)
				memcpy(entry->keep, s->base_grid,
				       s->base_rank * sizeof *entry->keep);
		}
		/* Not even the chunk of a scalar, which has no axis to say so, is kept then. */
		if (!same_rank)
			entry->keep_rank = MAX(s->base_rank, 1);
		for (uint32_t j = 0; j < s->base_rank; j++)
			entry->keep[j] = same_rank ? MIN(entry->keep[j], change->keep[j]) : 0;
	}
}

/* Take the outcome over; `map` may be NULL. */
static void
put_outcome(const FirnMergeSettling *s, FirnChunkMap *map)
{
	FirnMergeNode *node = s->node;
	FirnNodeChange *entry = g_new0(FirnNodeChange, 1);
	bool alone = node->touches->len == 1;

	entry->id = node->id;
	entry->path = g_strdup(node->path);
	entry->created = !node->in_base;
	entry->created_seq = entry->created ? SEQ_OLD_CHUNK : 0;
	entry->kind = FIRN_CHANGE_CHUNKS;
	if (node->winner >= 0)
		entry->kind = node->live ? FIRN_CHANGE_PUT : FIRN_CHANGE_DELETE;
	if (node->live && node->meta != NULL)
		entry->meta = firn_meta_ref(node->meta);
	entry->seq = SEQ_NODE;
	if (alone)
		entry->seq = firn_merge_touch(node, 0)->change->seq;
	if (node->in_base && node->live)
		put_keep(s, entry);
	entry->chunks = map;
	s->m->out->n_chunks += map != NULL ? firn_chunk_map_size(map) : 0;
	g_hash_table_insert(s->m->out->by_id, &entry->id, entry);
	if (node->live)
		g_hash_table_insert(s->m->out->by_path, entry->path, entry);
}

/* The whole map of the only party that touched the node. */
static FirnChunkMap *
take_map(const FirnMergeSettling *s)
{
	const FirnMergeTouch *touch = firn_merge_touch(s->node, 0);
	FirnChanges *changes = firn_merge_party(s->m, touch->party)->section->changes;

	if (touch->change->chunks != NULL)
		changes->n_chunks -= firn_chunk_map_size(touch->change->chunks);
	return g_steal_pointer(&touch->change->chunks);
}

static bool
settle_sources(FirnMergeSettling *s, FirnChunkMap **out_map, GError **error)
{
	bool done;

	s->touchers = g_array_new(FALSE, FALSE, sizeof(guint));
	firn_merge_add_sources(s);
	if (s->m->out != NULL && s->sources->len > 0)
		s->map = firn_chunk_map_new(s->rank);
	for (guint i = 0; s->map != NULL && i < s->sources->len; i++)
		firn_chunk_map_share(s->map, firn_merge_source(s, i)->change->chunks);
	done = settle_all(s, error);
	*out_map = g_steal_pointer(&s->map);
	g_free(s->heap);
	g_array_unref(s->touchers);
	g_array_unref(s->sources);
	g_array_unref(s->keeps);
	return done;
}

static bool
settle_node(FirnMerging *m, FirnMergeNode *node, GError **error)
{
	FirnMergeSettling s = { .m = m, .node = node, .winner_name = firn_merge_base_name };
	bool array = node->live && firn_merge_node_kind(m, node) == FIRN_NODE_ARRAY;
	FirnChunkMap *map = NULL;

	if (node->winner >= 0)
		s.winner_name =
			firn_merge_party(m, firn_merge_touch(node, (guint)node->winner)->party)
				->name;
	firn_merge_init_grids(&s);
	for (guint i = 0; !array && i < node->touches->len; i++)
		if (firn_merge_touch(node, i)->change->chunks != NULL)
			report_orphans(&s, firn_merge_touch(node, i));
	if (array && node->touches->len > 1) {
		if (!settle_sources(&s, &map, error)) {
			firn_chunk_map_free(map);
			return false;
		}
	} else if (array && m->out != NULL) {
		map = take_map(&s);
	}
	/* What was made and deleted again leaves no trace. */
	if (m->out == NULL || m->conflicts.n > 0 || (!node->live && !node->in_base))
		firn_chunk_map_free(map);
	else
		put_outcome(&s, map);
	return true;
}

bool
firn_merge_chunks(FirnMerging *m, GError **error)
{
	for (guint i = 0; i < m->order->len; i++) {
		FirnMergeNode *node = m->order->pdata[i];

		if (node->same == NULL && !settle_node(m, node, error))
			return false;
	}
	return true;
}
