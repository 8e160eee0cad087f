#include "core/repo/merge.h"

#include "core/base/error.h"
#include "core/repo/merge_priv.h"

#include <string.h>

FirnSource *
firn_source_new(const char *name, GPtrArray *sections)
{
	FirnSource *source = g_new0(FirnSource, 1);

	source->name = g_strdup(name);
	source->sections = sections;
	return source;
}

void
firn_source_free(FirnSource *source)
{
	if (source == NULL)
		return;
	g_free(source->name);
	g_clear_pointer(&source->sections, g_ptr_array_unref);
	g_free(source);
}

void
firn_merge_free(FirnMerge *merge)
{
	if (merge == NULL)
		return;
	firn_journal_header_free(merge->header);
	firn_changes_free(merge->changes);
	g_clear_pointer(&merge->conflicts, g_ptr_array_unref);
	g_free(merge);
}

uint64_t
firn_merge_seen(const FirnMerging *m, unsigned x, unsigned y)
{
	const GArray *seen = firn_merge_party(m, y)->seen;

	if (x == y)
		return UINT64_MAX;
	for (guint i = 0; i < seen->len; i++)
		if (g_array_index(seen, FirnMergeSeen, i).party == x)
			return g_array_index(seen, FirnMergeSeen, i).seq;
	return 0;
}

bool
firn_merge_before(const FirnMerging *m, unsigned x, uint64_t seq, unsigned y)
{
	return x != y && seq <= firn_merge_seen(m, x, y);
}

/* ---- parties ---- */

static void
clear_party(gpointer data)
{
	FirnMergeParty *party = data;

	g_free(party->name);
	g_clear_pointer(&party->seen, g_array_unref);
	g_clear_pointer(&party->parents, g_ptr_array_unref);
}

static void
free_node(gpointer data)
{
	FirnMergeNode *node = data;

	g_array_unref(node->touches);
	firn_meta_unref(node->meta);
	g_free(node);
}

static void
merging_clear(FirnMerging *m)
{
	g_clear_pointer(&m->base, firn_snapshot_unref);
	g_clear_pointer(&m->live, g_hash_table_unref);
	g_clear_pointer(&m->order, g_ptr_array_unref);
	g_clear_pointer(&m->files, g_ptr_array_unref);
	g_clear_pointer(&m->nodes, g_hash_table_unref);
	g_clear_pointer(&m->parties, g_array_unref);
	g_free(m->slots);
	firn_conflicts_clear(&m->conflicts);
	firn_changes_free(m->out);
}

static void
merging_init(FirnMerging *m, FirnRepo *repo, FirnFavor favor)
{
	*m = (FirnMerging){ .repo = repo, .favor = favor };
	m->parties = g_array_new(FALSE, TRUE, sizeof(FirnMergeParty));
	g_array_set_clear_func(m->parties, clear_party);
	m->nodes = g_hash_table_new_full(firn_id8_hash, firn_id8_equal, NULL, free_node);
	m->order = g_ptr_array_new();
	m->files = g_ptr_array_new();
	m->live = g_hash_table_new(g_str_hash, g_str_equal);
	firn_conflicts_init(&m->conflicts);
}

static gint
compare_parties(gconstpointer a, gconstpointer b)
{
	const FirnMergeParty *x = a, *y = b;
	int order = firn_id12_compare(&x->section->header->session, &y->section->header->session);

	return order != 0 ? order : (x->given > y->given) - (x->given < y->given);
}

static char *
party_name(const FirnSource *source, const FirnSection *section)
{
	char text[FIRN_ID12_TEXT + 1];

	if (source->sections->len == 1)
		return g_strdup(source->name);
	firn_id12_format(&section->header->session, text);
	return g_strdup_printf("%s (session %s)", source->name, text);
}

static void
add_parties(FirnMerging *m, GPtrArray *sources)
{
	for (guint i = 0; i < sources->len; i++) {
		FirnSource *source = sources->pdata[i];

		for (guint j = 0; j < source->sections->len; j++) {
			FirnSection *section = source->sections->pdata[j];
			FirnMergeParty party = {
				.section = section,
				.source = source,
				.name = party_name(source, section),
				.given = m->parties->len,
				.seen = g_array_new(FALSE, FALSE, sizeof(FirnMergeSeen)),
			};

			g_array_append_val(m->parties, party);
		}
	}
	g_array_sort(m->parties, compare_parties);
	m->slots = g_new(int, MAX(m->parties->len, 1));
	for (guint i = 0; i < m->parties->len; i++)
		m->slots[i] = -1;
}

/* ---- lineage ---- */

static bool
check_repository(const FirnMerging *m, const FirnMergeParty *party, GError **error)
{
	const FirnJournalHeader *header = party->section->header;

	if (header->identity == firn_repo_identity(m->repo))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s belongs to another repository (%s), not to %s", party->name,
		    header->repository != NULL ? header->repository : "unknown",
		    firn_repo_url(m->repo));
	return false;
}

static bool
was_forked_from(const FirnJournalHeader *header, const FirnJournalHeader *parent)
{
	for (guint i = 0; i < header->ancestors->len; i++)
		if (firn_id12_equal(&g_array_index(header->ancestors, FirnAncestor, i).session,
				    &parent->session))
			return true;
	return false;
}

/* Somebody may have committed both, and not have heard of it. */
static void
fail_gone_on(const FirnMergeParty *child, const FirnMergeParty *parent, GError **error)
{
	const FirnJournalHeader *header = child->section->header;
	bool more = false;
	char base[FIRN_ID12_TEXT + 1];
	g_autofree char *with = NULL;

	for (guint i = 0; i < header->ancestors->len; i++)
		more = more || g_array_index(header->ancestors, FirnAncestor, i).seq > 0;
	if (more && header->fork != NULL)
		with = g_strdup_printf(", but with firn/sessions/%s/parent of the repository",
				       header->fork);
	firn_id12_format(&parent->section->header->base, base);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s was forked from %s, which has gone on to snapshot %s since: what a commit "
		    "took in together is there (a commit may have been done although its command "
		    "was interrupted: see 'firn log'); what is not, commit with --rebase, without "
		    "%s%s",
		    child->name, parent->name, base, parent->name, with != NULL ? with : "");
}

static bool
check_start(const FirnMergeParty *first, const FirnMergeParty *party, GError **error)
{
	const FirnJournalHeader *a = first->section->header, *b = party->section->header;
	char base_a[FIRN_ID12_TEXT + 1], base_b[FIRN_ID12_TEXT + 1];

	if (g_strcmp0(a->branch, b->branch) == 0 && firn_id12_compare(&a->base, &b->base) == 0)
		return true;
	if (g_strcmp0(a->branch, b->branch) == 0 && was_forked_from(b, a)) {
		fail_gone_on(party, first, error);
		return false;
	}
	if (g_strcmp0(a->branch, b->branch) == 0 && was_forked_from(a, b)) {
		fail_gone_on(first, party, error);
		return false;
	}
	firn_id12_format(&a->base, base_a);
	firn_id12_format(&b->base, base_b);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s starts from snapshot %s of branch %s, %s from %s of %s: only journals of "
		    "one lineage can be merged; commit them one by one with --rebase",
		    first->name, base_a, a->branch, party->name, base_b, b->branch);
	return false;
}

static int
find_session(const FirnMerging *m, const FirnId12 *session)
{
	guint from = 0, to = m->parties->len;

	while (from < to) {
		guint middle = from + (to - from) / 2;
		const FirnMergeParty *party = firn_merge_party(m, middle);
		int order = firn_id12_compare(&party->section->header->session, session);

		if (order == 0)
			return (int)middle;
		if (order < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return -1;
}

/* A mount that committed or discarded since has these changes no more: what it published has. */
static bool
fail_missing(const FirnMergeParty *party, const char *ancestor, GError **error)
{
	const char *fork = party->section->header->fork;
	g_autofree char *published =
		fork != NULL ? g_strdup_printf("; if it committed or discarded them since, give "
					       "firn/sessions/%s/parent of the repository",
					       fork)
			     : g_strdup("");

	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s was forked from session %s, which had changes: give its journal (or mount) "
		    "too%s",
		    party->name, ancestor, published);
	return false;
}

/* The ancestors of one party: those it needs are there, and long enough. */
static bool
link_ancestors(FirnMerging *m, FirnMergeParty *party, GError **error)
{
	const GArray *ancestors = party->section->header->ancestors;
	char text[FIRN_ID12_TEXT + 1];

	for (guint i = 0; i < ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(ancestors, FirnAncestor, i);
		int index = find_session(m, &ancestor->session);
		FirnMergeSeen seen = { .seq = ancestor->seq };

		firn_id12_format(&ancestor->session, text);
		if (index < 0 && ancestor->seq > 0)
			return fail_missing(party, text, error);
		if (index < 0 || ancestor->seq == 0)
			continue;
		seen.party = (unsigned)index;
		if (firn_merge_party(m, seen.party)->section->last_seq < ancestor->seq) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
				    "%s is older than %s, which was forked from it later: give the "
				    "whole journal of session %s",
				    firn_merge_party(m, seen.party)->name, party->name, text);
			return false;
		}
		g_array_append_val(party->seen, seen);
	}
	return true;
}

static bool
check_lineage(FirnMerging *m, GError **error)
{
	for (guint i = 0; i < m->parties->len; i++)
		if (!check_repository(m, firn_merge_party(m, i), error))
			return false;
	for (guint i = 1; i < m->parties->len; i++)
		if (!check_start(firn_merge_party(m, 0), firn_merge_party(m, i), error))
			return false;
	if (!firn_merge_drop_copies(m, error))
		return false;
	for (guint i = 0; i < m->parties->len; i++)
		if (!link_ancestors(m, firn_merge_party(m, i), error))
			return false;
	return true;
}

/* ---- the whole ---- */

static bool
run(FirnMerging *m, GPtrArray *sources, GError **error)
{
	add_parties(m, sources);
	if (m->parties->len == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "there is no journal to merge");
		return false;
	}
	if (!check_lineage(m, error))
		return false;
	m->base = firn_repo_get_snapshot(m->repo, &firn_merge_party(m, 0)->section->header->base,
					 error);
	return m->base != NULL && firn_merge_nodes(m, error) && firn_merge_pending(m, error) &&
	       firn_merge_chunks(m, error) && firn_merge_put_pending(m, error);
}

static FirnJournalHeader *
common_header(const FirnMerging *m)
{
	FirnJournalHeader *header =
		firn_journal_header_copy(firn_merge_party(m, 0)->section->header);

	memset(&header->session, 0, sizeof header->session);
	g_array_set_size(header->ancestors, 0);
	g_clear_pointer(&header->fork, g_free);
	return header;
}

FirnMerge *
firn_merge_sources(FirnRepo *repo, GPtrArray *sources, FirnFavor favor, GError **error)
{
	FirnMerge *merge = NULL;
	FirnMerging m;

	merging_init(&m, repo, favor);
	m.out = firn_changes_new();
	if (run(&m, sources, error)) {
		merge = g_new0(FirnMerge, 1);
		merge->header = common_header(&m);
		merge->n_conflicts = m.conflicts.n;
		merge->n_collisions_settled = m.n_settled;
		merge->conflicts = firn_conflicts_steal(&m.conflicts);
		if (merge->n_conflicts == 0)
			merge->changes = g_steal_pointer(&m.out);
		else
			merge->changes = firn_changes_new();
	}
	merging_clear(&m);
	return merge;
}

static void
free_section(gpointer section)
{
	firn_section_free(section);
}

static GPtrArray *
take_sections(FirnMerging *m, GPtrArray *sources)
{
	GPtrArray *sections = g_ptr_array_new_with_free_func(free_section);

	for (guint i = 0; i < m->parties->len; i++)
		g_ptr_array_add(sections, firn_merge_party(m, i)->section);
	for (guint i = 0; i < sources->len; i++) {
		FirnSource *source = sources->pdata[i];

		g_free(g_ptr_array_steal(source->sections, NULL));
	}
	return sections;
}

GPtrArray *
firn_merge_to_journal(FirnRepo *repo, GPtrArray *sources, FirnFavor favor,
		      GPtrArray **out_conflicts, GError **error)
{
	GPtrArray *sections = NULL;
	FirnMerging m;

	merging_init(&m, repo, favor);
	if (run(&m, sources, error)) {
		if (m.conflicts.n == 0)
			sections = take_sections(&m, sources);
		if (out_conflicts != NULL)
			*out_conflicts = firn_conflicts_steal(&m.conflicts);
	}
	merging_clear(&m);
	return sections;
}
