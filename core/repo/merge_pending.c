#include "core/repo/merge_priv.h"
#include "core/zarr/name.h"

#include <string.h>

/* Sequence number of a chunk in an outcome that was written under its array's document. */
#define SEQ_CHUNK 3u

/* What one party did to one file. */
typedef struct {
	const FirnPending *file;
	unsigned party;
	bool gone; /* it was its parents', and the party took it away */
} Record;

/* All that was done to one file. */
typedef struct {
	FirnMerging *m;
	const Record *records; /* by party, one each */
	guint n;
	GArray *latest; /* indices of those that nobody's record came after */
} Settling;

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

	firn_conflicts_add(&s->m->conflicts,
			   &(FirnClash){ .kind = a->gone || b->gone ? FIRN_CONFLICT_CHUNK_DELETED
								    : FIRN_CONFLICT_CHUNK,
					 .path = a->file->path,
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

/* Take all records that another's did not come after out of the journals, but for one. */
static void
remove_losers(const Settling *s, const Record *winner)
{
	for (guint i = 0; i < s->n; i++) {
		const Record *record = &s->records[i];
		FirnChanges *changes = firn_merge_party(s->m, record->party)->section->changes;

		if (record != winner &&
		    !firn_merge_before(s->m, record->party, record->file->seq, winner->party))
			g_hash_table_remove(record->gone ? changes->dropped : changes->pending,
					    record->file->path);
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

/* What becomes of one file; `*out_file`: what counts, NULL: nothing, or there is a conflict. */
static bool
settle_file(Settling *s, const FirnPending **out_file, GError **error)
{
	const Record *winner;
	int differ;

	*out_file = NULL;
	find_latest(s);
	differ = compare_latest(s, error);
	if (differ < 0)
		return false;
	if (differ && s->m->favor == FIRN_FAVOR_NONE)
		return true;
	winner = choose(s, differ);
	if (differ) {
		s->m->n_settled++;
		remove_losers(s, winner);
	}
	*out_file = winner->gone ? NULL : winner->file;
	return true;
}

/* ---- files that have a place now ---- */

typedef struct {
	FirnId8 id;
	uint32_t rank;
	uint32_t grid[FIRN_MAX_RANK];
	uint32_t coords[FIRN_MAX_RANK];
} Place;

static void
base_array(const FirnMerging *m, size_t index, Place *out_place)
{
	FirnSnapshotNode base;

	firn_snapshot_node(m->base, index, &base);
	out_place->id = base.id;
	out_place->rank = base.rank;
	for (uint32_t i = 0; i < base.rank; i++)
		firn_snapshot_node_shape(m->base, &base, i, &(uint64_t){ 0 }, &out_place->grid[i]);
}

/* The array of the outcome at `path`. */
static bool
find_array(const FirnMerging *m, const char *path, Place *out_place)
{
	const FirnMergeNode *node = g_hash_table_lookup(m->live, path);
	FirnSnapshotNode base;
	size_t index;

	if (node == NULL) {
		if (!firn_snapshot_find_path(m->base, path, strlen(path), &index))
			return false;
		firn_snapshot_node(m->base, index, &base);
		if (base.kind != FIRN_NODE_ARRAY || g_hash_table_contains(m->nodes, &base.id))
			return false;
		base_array(m, index, out_place);
		return true;
	}
	if (firn_merge_node_kind(m, node) != FIRN_NODE_ARRAY)
		return false;
	if (node->meta == NULL)
		base_array(m, node->base_index, out_place);
	out_place->id = node->id;
	if (node->meta == NULL)
		return true;
	out_place->rank = node->meta->rank;
	if (node->meta->rank > 0)
		memcpy(out_place->grid, node->meta->n_chunks,
		       node->meta->rank * sizeof out_place->grid[0]);
	return true;
}

/* The place a file's name says, if it is in the grid of an array of the outcome; and the array's path. */
static char *
find_place(const FirnMerging *m, const char *path, Place *out_place)
{
	g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
	guint n = g_strv_length(names), at = n;
	g_autofree char *above = NULL;
	g_autofree char *array = NULL;

	while (at > 0 && n - at <= FIRN_MAX_RANK && firn_name_parse_index(names[at - 1], NULL))
		at--;
	if (at == 0 || n - at > FIRN_MAX_RANK || strcmp(names[at - 1], "c") != 0)
		return NULL;
	for (guint i = at; i < n; i++)
		(void)!firn_name_parse_index(names[i], &out_place->coords[i - at]);
	g_clear_pointer(&names[at - 1], g_free);
	above = g_strjoinv("/", names);
	/* The vector's own end is at the cut now: what is behind it is freed here. */
	for (guint i = at; i < n; i++)
		g_clear_pointer(&names[i], g_free);
	array = g_strconcat("/", above, NULL);
	if (!find_array(m, array, out_place) || out_place->rank != n - at)
		return NULL;
	for (uint32_t i = 0; i < out_place->rank; i++)
		if (out_place->coords[i] >= out_place->grid[i])
			return NULL;
	return g_steal_pointer(&array);
}

/* One journal's file is another's chunk, if that one made the array. */
static bool
adopt(FirnMerging *m, const FirnPending *pending)
{
	const FirnNodeChange *entry;
	g_autofree char *array = NULL;
	Place place = { .rank = 0 };
	FirnRef ref;

	firn_chunk_change_get(&pending->content, &ref);
	if (ref.length == 0)
		return false;
	array = find_place(m, pending->path, &place);
	if (array == NULL)
		return false;
	entry = firn_changes_find(m->out, &place.id);
	if (entry != NULL && entry->chunks != NULL &&
	    firn_chunk_map_find(entry->chunks, place.coords) != NULL)
		return false;
	(void)firn_changes_put_chunk(m->out, &place.id, array, place.rank, place.coords, &ref,
				     SEQ_CHUNK);
	return true;
}

/* ---- the whole ---- */

static void
put_outcome(FirnMerging *m, const FirnPending *file)
{
	FirnRef ref;

	if (adopt(m, file))
		return;
	firn_chunk_change_get(&file->content, &ref);
	firn_changes_put_pending(m->out, file->path, &ref, file->seq);
}

static bool
settle_files(Settling *s, GArray *records, GError **error)
{
	for (guint from = 0; from < records->len; from += s->n) {
		const FirnPending *file;

		s->records = &g_array_index(records, Record, from);
		s->n = 1;
		while (from + s->n < records->len &&
		       strcmp(s->records[s->n].file->path, s->records->file->path) == 0)
			s->n++;
		if (!settle_file(s, &file, error))
			return false;
		if (file != NULL && s->m->out != NULL && s->m->conflicts.n == 0)
			put_outcome(s->m, file);
	}
	return true;
}

/* Before the others' documents are known they have no place: only files of the same name can collide. */
bool
firn_merge_pending(FirnMerging *m, GError **error)
{
	g_autoptr(GArray) records = collect_records(m);
	Settling s = { .m = m, .latest = g_array_new(FALSE, FALSE, sizeof(guint)) };
	bool done = settle_files(&s, records, error);

	g_array_unref(s.latest);
	return done;
}
