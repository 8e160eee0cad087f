#include "core/base/error.h"
#include "core/repo/merge_priv.h"

#include <string.h>

/*
 * A session of which two copies are given: its journal came along with those
 * that were forked from it, in merged journals, each perhaps when it was not as
 * long as it is in the others.
 */

/* ---- whether one is the other, when that was shorter ---- */

static bool
same_numbers(const uint32_t *a, uint32_t n_a, const uint32_t *b, uint32_t n_b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * sizeof *a) == 0);
}

static bool
same_record(const FirnNodeChange *a, const FirnNodeChange *b)
{
	if (a->kind != b->kind || a->seq != b->seq || a->created != b->created ||
	    strcmp(a->path, b->path) != 0)
		return false;
	return (a->meta == NULL) == (b->meta == NULL) &&
	       (a->meta == NULL || firn_meta_equal(a->meta, b->meta)) &&
	       same_numbers(a->keep, a->keep_rank, b->keep, b->keep_rank);
}

static int
same_chunk(FirnRepo *repo, const FirnChunkChange *a, const FirnChunkChange *b, GError **error)
{
	FirnRef x, y;

	if (a->seq != b->seq)
		return 0;
	firn_chunk_change_get(a, &x);
	firn_chunk_change_get(b, &y);
	return firn_conflict_compare_refs(repo, &x, &y, error);
}

/* Whether all chunks of `a` up to `limit` are in `b`: 1, 0, or -1 with `error`. */
static int
has_chunks(FirnRepo *repo, FirnChunkMap *a, FirnChunkMap *b, uint64_t limit, GError **error)
{
	bool comparable = b != NULL && firn_chunk_map_rank(a) == firn_chunk_map_rank(b);
	const uint32_t *coords, *there = NULL;
	FirnChunkChange *chunk, *other = NULL;
	FirnChunkIter iter, others;
	int same = 1;

	firn_chunk_iter_seek(&iter, a, NULL, 0);
	firn_chunk_iter_seek(&others, comparable ? b : NULL, NULL, 0);
	while (same == 1 && firn_chunk_iter_next(&iter, &coords, &chunk)) {
		int order = there != NULL
				    ? firn_coords_compare(there, coords, firn_chunk_map_rank(a))
				    : -1;

		if (chunk->seq > limit)
			continue;
		while (order < 0 && firn_chunk_iter_next(&others, &there, &other))
			order = firn_coords_compare(there, coords, firn_chunk_map_rank(a));
		same = order == 0 ? same_chunk(repo, chunk, other, error) : 0;
	}
	firn_chunk_iter_clear(&iter);
	firn_chunk_iter_clear(&others);
	return same;
}

static int
has_nodes(FirnRepo *repo, const FirnChanges *a, const FirnChanges *b, uint64_t limit,
	  GError **error)
{
	GHashTableIter iter;
	gpointer value;
	int same = 1;

	g_hash_table_iter_init(&iter, a->by_id);
	while (same == 1 && g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *node = value, *other = firn_changes_find(b, &node->id);

		if (node->kind != FIRN_CHANGE_CHUNKS && node->seq <= limit)
			same = other != NULL && same_record(node, other);
		if (same == 1 && node->chunks != NULL)
			same = has_chunks(repo, node->chunks, other != NULL ? other->chunks : NULL,
					  limit, error);
	}
	return same;
}

static int
has_files(FirnRepo *repo, GHashTable *a, GHashTable *b, uint64_t limit, GError **error)
{
	GHashTableIter iter;
	gpointer key, value;
	int same = 1;

	g_hash_table_iter_init(&iter, a);
	while (same == 1 && g_hash_table_iter_next(&iter, &key, &value)) {
		const FirnPending *file = value, *other = g_hash_table_lookup(b, key);

		if (file->seq > limit)
			continue;
		same = other != NULL && other->seq == file->seq;
		if (same == 1)
			same = same_chunk(repo, &file->content, &other->content, error);
	}
	return same;
}

/* Whether what `a` says of the time up to `limit` is what `b` says: 1, 0, or -1 with `error`. */
static int
has_all(FirnRepo *repo, const FirnSection *a, const FirnSection *b, uint64_t limit, GError **error)
{
	const FirnChanges *x = a->changes, *y = b->changes;
	int same = has_nodes(repo, x, y, limit, error);

	if (same == 1)
		same = has_files(repo, x->pending, y->pending, limit, error);
	if (same == 1)
		same = has_files(repo, x->dropped, y->dropped, limit, error);
	if (same >= 0 && (!firn_changes_check(x, error) || !firn_changes_check(y, error)))
		same = -1;
	return same;
}

static bool
same_start(const FirnJournalHeader *a, const FirnJournalHeader *b)
{
	if (a->ancestors->len != b->ancestors->len)
		return false;
	for (guint i = 0; i < a->ancestors->len; i++) {
		const FirnAncestor *x = &g_array_index(a->ancestors, FirnAncestor, i);
		const FirnAncestor *y = &g_array_index(b->ancestors, FirnAncestor, i);

		if (x->seq != y->seq || !firn_id12_equal(&x->session, &y->session))
			return false;
	}
	return true;
}

/* Whether `shorter` is `longer` as it was, or all of it: 1, 0, or -1 with `error`. */
static int
is_copy(FirnRepo *repo, const FirnSection *longer, const FirnSection *shorter, GError **error)
{
	int same;

	if (!same_start(longer->header, shorter->header))
		return 0;
	same = has_all(repo, longer, shorter, shorter->last_seq, error);
	if (same == 1 && longer->last_seq == shorter->last_seq)
		same = has_all(repo, shorter, longer, UINT64_MAX, error);
	return same;
}

/* ---- which copies are let go ---- */

/* Whether the source of a section has another one that was forked from it. */
static bool
came_along(const FirnMergeParty *party)
{
	const GPtrArray *sections = party->source->sections;

	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = sections->pdata[i];
		const GArray *ancestors = section->header->ancestors;

		for (guint j = 0; j < ancestors->len; j++)
			if (firn_id12_equal(&g_array_index(ancestors, FirnAncestor, j).session,
					    &party->section->header->session))
				return true;
	}
	return false;
}

static bool
fail_twice(const FirnMergeParty *a, const FirnMergeParty *b, const char *advice, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(&a->section->header->session, text);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "session %s is given twice, in %s and in %s: %s", text, a->name, b->name,
		    advice);
	return false;
}

/* Which of two copies is let go, the first or the second: an index of a party; -1 with `error`. */
static int
choose_copy(const FirnMerging *m, guint first, GError **error)
{
	const FirnMergeParty *a = firn_merge_party(m, first), *b = firn_merge_party(m, first + 1);
	bool a_longer = a->section->last_seq >= b->section->last_seq;
	int same;

	if (!a->along && !b->along) {
		(void)fail_twice(a, b, "leave out the older", error);
		return -1;
	}
	same = is_copy(m->repo, a_longer ? a->section : b->section,
		       a_longer ? b->section : a->section, error);
	if (same < 0)
		return -1;
	if (same == 0) {
		(void)fail_twice(a, b,
				 "they differ, as after --favor: give what was merged instead",
				 error);
		return -1;
	}
	return (int)(a_longer ? first + 1 : first);
}

bool
firn_merge_drop_copies(FirnMerging *m, GError **error)
{
	/* What came along with what is let go here came along all the same. */
	for (guint i = 0; i < m->parties->len; i++)
		firn_merge_party(m, i)->along = came_along(firn_merge_party(m, i));
	for (guint i = 1; i < m->parties->len;) {
		const FirnMergeParty *a = firn_merge_party(m, i - 1), *b = firn_merge_party(m, i);
		int copy;

		if (!firn_id12_equal(&a->section->header->session, &b->section->header->session)) {
			i++;
			continue;
		}
		copy = choose_copy(m, i - 1, error);
		if (copy < 0)
			return false;
		a = firn_merge_party(m, (guint)copy);
		g_ptr_array_remove(a->source->sections, a->section);
		g_array_remove_index(m->parties, (guint)copy);
	}
	return true;
}
