#include "core/repo/merge_priv.h"

#include <string.h>

/* What one party did to one file. */
typedef struct {
	FirnPending *file;
	unsigned party;
	bool gone;      /* it was its parents', and the party took it away */
	bool forgotten; /* the file is not in its journal any more */
} Record;

/* All that was done to one file. */
typedef struct {
	FirnMerging *m;
	Record *records; /* by party, one each */
	guint n;
	GArray *latest; /* indices of those that nobody's record came after */
	char *array;    /* where it has a place now, NULL: nowhere */
	FirnMergePlace place;
	GArray *rivals; /* Rival: chunks at the place */
} Settling;

/* One party's chunk at the place that a file has now. */
typedef struct {
	unsigned party;
	FirnNodeChange *change;
	FirnChunkChange *chunk;
	bool known; /* to who wrote the file */
} Rival;

static gint
compare_records(gconstpointer a, gconstpointer b)
{
	const Record *x = a, *y = b;
	int order = strcmp(x->file->path, y->file->path);

	return order != 0 ? order : (x->party > y->party) - (x->party < y->party);
}

static void
add_records(GArray *records, GHashTable *files, unsigned party, bool gone)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, files);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		Record record = { .file = value, .party = party, .gone = gone };

		g_array_append_val(records, record);
	}
}

/* By path, so that all of one file are neighbours. */
static GArray *
collect_records(const FirnMerging *m)
{
	GArray *records = g_array_new(FALSE, FALSE, sizeof(Record));

	for (guint i = 0; i < m->parties->len; i++) {
		const FirnChanges *changes = firn_merge_party(m, i)->section->changes;

		add_records(records, changes->pending, i, false);
		add_records(records, changes->dropped, i, true);
	}
	g_array_sort(records, compare_records);
	return records;
}

static const Record *
latest_record(const Settling *s, guint i)
{
	return &s->records[g_array_index(s->latest, guint, i)];
}

static const char *
record_name(const Settling *s, const Record *record)
{
	return firn_merge_party(s->m, record->party)->name;
}

static void
record_ref(const Record *record, FirnRef *out_ref)
{
	*out_ref = (FirnRef){ .kind = FIRN_REF_NONE };
	if (!record->gone)
		firn_chunk_change_get(&record->file->content, out_ref);
}

static void
find_latest(Settling *s)
{
	int *slots = s->m->slots;

	for (guint i = 0; i < s->n; i++)
		slots[s->records[i].party] = (int)i;
	for (guint i = 0; i < s->n; i++) {
		const GArray *seen = firn_merge_party(s->m, s->records[i].party)->seen;

		for (guint j = 0; j < seen->len; j++) {
			const FirnMergeSeen *ancestor = &g_array_index(seen, FirnMergeSeen, j);
			int slot = slots[ancestor->party];

			if (slot >= 0 && s->records[slot].file->seq <= ancestor->seq)
				slots[ancestor->party] = -1;
		}
	}
	g_array_set_size(s->latest, 0);
	for (guint i = 0; i < s->n; i++) {
		if (slots[s->records[i].party] == (int)i)
			g_array_append_val(s->latest, i);
		slots[s->records[i].party] = -1;
	}
}

static void
report(const Settling *s, const Record *a, const Record *b)
{
	const Record *writer = a->gone ? b : a;
	bool placed = s->array != NULL;

	firn_conflicts_add(&s->m->conflicts,
			   &(FirnClash){ .kind = a->gone || b->gone ? FIRN_CONFLICT_CHUNK_DELETED
								    : FIRN_CONFLICT_CHUNK,
					 .path = placed ? s->array : a->file->path,
					 .rank = placed ? s->place.rank : 0,
					 .coords = placed ? s->place.coords : NULL,
					 .first = record_name(s, writer),
					 .second = record_name(s, writer == a ? b : a) });
}

/* Whether those in `latest` did different things: 1, 0, or -1 with `error`; reported unless settled. */
static int
compare_latest(const Settling *s, GError **error)
{
	const Record *first = latest_record(s, 0);
	bool differ = false;
	FirnRef a, b;

	record_ref(first, &a);
	for (guint i = 1; i < s->latest->len; i++) {
		const Record *other = latest_record(s, i);
		int same;

		record_ref(other, &b);
		same = firn_conflict_compare_refs(s->m->repo, &a, &b, error);
		if (same < 0)
			return -1;
		differ = differ || same == 0;
		if (same == 0 && s->m->favor == FIRN_FAVOR_NONE)
			report(s, first, other);
	}
	return differ;
}

/* Take what one party did out of its journal. */
static void
forget_file(const Settling *s, Record *record)
{
	FirnChanges *changes = firn_merge_party(s->m, record->party)->section->changes;

	if (!record->forgotten)
		g_hash_table_remove(record->gone ? changes->dropped : changes->pending,
				    record->file->path);
	record->forgotten = true;
}

/* Take all records that another's did not come after out of the journals, but for one. */
static void
remove_losers(const Settling *s, const Record *winner)
{
	for (guint i = 0; i < s->n; i++) {
		Record *record = &s->records[i];

		if (record != winner &&
		    !firn_merge_before(s->m, record->party, record->file->seq, winner->party))
			forget_file(s, record);
	}
}

/* The one that counts of those in `latest`, which are the same, or differ and are settled. */
static const Record *
choose(const Settling *s, bool differ)
{
	const Record *best = latest_record(s, 0);

	for (guint i = 1; i < s->latest->len; i++) {
		const Record *record = latest_record(s, i);
		unsigned given = firn_merge_party(s->m, record->party)->given;
		unsigned than = firn_merge_party(s->m, best->party)->given;

		if (!differ ? !record->gone && firn_merge_goes_first(&record->file->content,
								     &best->file->content)
			    : (s->m->favor == FIRN_FAVOR_FIRST ? given < than : given > than))
			best = record;
	}
	return best;
}

/* Which of those in `latest` counts; none of them, without an error: there is a conflict. */
static bool
settle_latest(Settling *s, GError **error)
{
	const Record *winner;
	int differ = compare_latest(s, error);

	if (differ < 0)
		return false;
	if (!differ)
		return true;
	if (s->m->favor == FIRN_FAVOR_NONE) {
		g_array_set_size(s->latest, 0);
		return true;
	}
	winner = choose(s, true);
	s->m->n_settled++;
	remove_losers(s, winner);
	g_array_index(s->latest, guint, 0) = (guint)(winner - s->records);
	g_array_set_size(s->latest, 1);
	return true;
}

/* ---- a file and chunks at its place ---- */

/* Whether what one party did, at `seq`, happened before what another did. */
static bool
before(const FirnMerging *m, unsigned x, uint64_t x_seq, unsigned y, uint64_t y_seq)
{
	return x == y ? x_seq < y_seq : firn_merge_before(m, x, x_seq, y);
}

static bool
find_rivals(Settling *s, GError **error)
{
	const FirnMergeNode *node = g_hash_table_lookup(s->m->live, s->array);

	for (guint i = 0; node != NULL && i < node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(node, i);
		FirnChunkMap *map = touch->change->chunks;
		Rival rival = { .party = touch->party, .change = touch->change };

		if (map == NULL || firn_chunk_map_rank(map) != s->place.rank)
			continue;
		rival.chunk = firn_chunk_map_find(map, s->place.coords);
		if (rival.chunk != NULL)
			g_array_append_val(s->rivals, rival);
		else if (!firn_chunk_map_check(map, error))
			return false;
	}
	return true;
}

/* Whoever gave its parents' file a place has a chunk there, and did not just take the file away. */
static void
drop_placed(Settling *s)
{
	for (guint i = s->latest->len; i-- > 0;) {
		const Record *record = latest_record(s, i);
		bool placed = false;

		for (guint j = 0; record->gone && j < s->rivals->len; j++)
			placed =
				placed || g_array_index(s->rivals, Rival, j).party == record->party;
		if (placed)
			g_array_remove_index(s->latest, i);
	}
}

/* Leave those in `latest` that no chunk came after; mark the chunks that came before one of them. */
static void
compare_times(Settling *s)
{
	for (guint i = s->latest->len; i-- > 0;) {
		const Record *record = latest_record(s, i);
		uint64_t seq = record->file->seq;
		bool replaced = false;

		for (guint j = 0; j < s->rivals->len && !replaced; j++) {
			const Rival *rival = &g_array_index(s->rivals, Rival, j);

			replaced =
				before(s->m, record->party, seq, rival->party, rival->chunk->seq);
		}
		if (replaced)
			g_array_remove_index(s->latest, i);
	}
	for (guint i = 0; i < s->latest->len; i++) {
		const Record *record = latest_record(s, i);

		for (guint j = 0; j < s->rivals->len; j++) {
			Rival *rival = &g_array_index(s->rivals, Rival, j);

			rival->known = rival->known || before(s->m, rival->party, rival->chunk->seq,
							      record->party, record->file->seq);
		}
	}
}

static bool
is_replaced(const Settling *s, const Rival *rival)
{
	for (guint i = 0; i < s->rivals->len; i++) {
		const Rival *other = &g_array_index(s->rivals, Rival, i);

		if (firn_merge_before(s->m, rival->party, rival->chunk->seq, other->party))
			return true;
	}
	return false;
}

static void
report_rival(const Settling *s, const Rival *rival)
{
	bool erased = rival->chunk->kind == FIRN_REF_NONE;

	for (guint i = 0; i < s->latest->len; i++)
		firn_conflicts_add(&s->m->conflicts,
				   &(FirnClash){
					   .kind = erased ? FIRN_CONFLICT_CHUNK_DELETED
							  : FIRN_CONFLICT_CHUNK,
					   .path = s->array,
					   .rank = s->place.rank,
					   .coords = s->place.coords,
					   .first = record_name(s, latest_record(s, i)),
					   .second = firn_merge_party(s->m, rival->party)->name });
}

/* Forget chunks in favor of the file: those its writer knew of, or all. */
static void
forget_rivals(const Settling *s, bool all)
{
	for (guint i = 0; i < s->rivals->len; i++) {
		const Rival *rival = &g_array_index(s->rivals, Rival, i);

		if (rival->known ? s->m->out != NULL : all)
			firn_changes_forget_chunk(
				firn_merge_party(s->m, rival->party)->section->changes,
				rival->change, s->place.coords);
	}
}

/* Forget the file in favor of chunks, but what their writers knew of. */
static void
forget_files(const Settling *s)
{
	for (guint i = 0; i < s->n; i++) {
		Record *record = &s->records[i];
		bool known = record->gone || record->forgotten;

		for (guint j = 0; j < s->rivals->len && !known; j++)
			known = firn_merge_before(s->m, record->party, record->file->seq,
						  g_array_index(s->rivals, Rival, j).party);
		if (!known)
			forget_file(s, record);
	}
}

/* Whether the file is favored over the chunks whose writers did not know of it. */
static bool
file_is_favored(const Settling *s)
{
	unsigned file = firn_merge_party(s->m, choose(s, true)->party)->given;
	bool first = s->m->favor == FIRN_FAVOR_FIRST;

	for (guint i = 0; i < s->rivals->len; i++) {
		const Rival *rival = &g_array_index(s->rivals, Rival, i);
		unsigned given = firn_merge_party(s->m, rival->party)->given;

		if (!rival->known && !is_replaced(s, rival) &&
		    (first ? given < file : given > file))
			return false;
	}
	return true;
}

/* Settle a file against chunks; nothing is left in `latest` if it does not count. */
static bool
settle_rivals(Settling *s, GError **error)
{
	bool differ = false, other = false;
	FirnRef file, chunk;

	compare_times(s);
	if (s->latest->len == 0)
		return true;
	record_ref(latest_record(s, 0), &file);
	for (guint i = 0; i < s->rivals->len; i++) {
		const Rival *rival = &g_array_index(s->rivals, Rival, i);
		int same;

		if (rival->known || is_replaced(s, rival))
			continue;
		firn_chunk_change_get(rival->chunk, &chunk);
		same = firn_conflict_compare_refs(s->m->repo, &file, &chunk, error);
		if (same < 0)
			return false;
		other = true;
		differ = differ || same == 0;
		if (same == 0 && s->m->favor == FIRN_FAVOR_NONE)
			report_rival(s, rival);
	}
	if (differ && s->m->favor != FIRN_FAVOR_NONE) {
		s->m->n_settled++;
		if (file_is_favored(s)) {
			forget_rivals(s, true);
			return true;
		}
		forget_files(s);
	}
	if (other)
		g_array_set_size(s->latest, 0);
	else
		forget_rivals(s, false);
	return true;
}

/* What becomes of one file: added to what counts, if anything of it does. */
static bool
settle_file(Settling *s, GError **error)
{
	g_array_set_size(s->rivals, 0);
	find_latest(s);
	s->array = firn_merge_find_place(s->m, s->records->file->path, &s->place);
	if (s->array != NULL && !find_rivals(s, error))
		return false;
	drop_placed(s);
	if (s->latest->len == 0)
		return true;
	if (!settle_latest(s, error))
		return false;
	if (s->latest->len == 0 || latest_record(s, 0)->gone)
		return true;
	/* An empty one is no chunk, whatever its name. */
	if (firn_chunk_change_length(&latest_record(s, 0)->file->content) > 0 &&
	    !settle_rivals(s, error))
		return false;
	if (s->latest->len == 0)
		return true;
	g_ptr_array_add(s->m->files, choose(s, false)->file);
	return true;
}

/* ---- the whole ---- */

bool
firn_merge_put_pending(FirnMerging *m, GError **error)
{
	if (m->out == NULL || m->conflicts.n > 0 || m->files->len == 0)
		return true;
	for (guint i = 0; i < m->files->len; i++) {
		const FirnPending *file = m->files->pdata[i];
		FirnRef ref;

		if (firn_merge_adopt(m, file))
			continue;
		firn_chunk_change_get(&file->content, &ref);
		firn_changes_put_pending(m->out, file->path, &ref, file->seq);
	}
	return firn_changes_check(m->out, error);
}

static bool
settle_all(Settling *s, GArray *records, GError **error)
{
	bool done = true;

	for (guint from = 0; done && from < records->len; from += s->n) {
		s->records = &g_array_index(records, Record, from);
		s->n = 1;
		while (from + s->n < records->len &&
		       strcmp(s->records[s->n].file->path, s->records->file->path) == 0)
			s->n++;
		done = settle_file(s, error);
		g_clear_pointer(&s->array, g_free);
	}
	return done;
}

bool
firn_merge_pending(FirnMerging *m, GError **error)
{
	g_autoptr(GArray) records = collect_records(m);
	Settling s = { .m = m };
	bool done;

	s.latest = g_array_new(FALSE, FALSE, sizeof(guint));
	s.rivals = g_array_new(FALSE, FALSE, sizeof(Rival));
	done = settle_all(&s, records, error);
	g_array_unref(s.rivals);
	g_array_unref(s.latest);
	return done;
}
