#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/repo/merge_priv.h"

#include <string.h>

const char firn_merge_base_name[] = "the base snapshot";

/* ---- who touched what ---- */

static void
add_touch(FirnMerging *m, unsigned party, FirnNodeChange *change)
{
	FirnMergeNode *node = g_hash_table_lookup(m->nodes, &change->id);
	FirnMergeTouch touch = { .party = party, .change = change };

	if (node == NULL) {
		node = g_new0(FirnMergeNode, 1);
		node->id = change->id;
		node->touches = g_array_new(FALSE, FALSE, sizeof(FirnMergeTouch));
		node->creator = -1;
		node->winner = -1;
		node->in_base = firn_snapshot_find_id(m->base, &node->id, &node->base_index);
		g_hash_table_insert(m->nodes, &node->id, node);
	}
	g_array_append_val(node->touches, touch);
}

static void
collect(FirnMerging *m)
{
	GHashTableIter iter;
	gpointer value;

	for (guint i = 0; i < m->parties->len; i++) {
		g_hash_table_iter_init(&iter, firn_merge_party(m, i)->section->changes->by_id);
		while (g_hash_table_iter_next(&iter, NULL, &value))
			add_touch(m, i, value);
	}
}

/* The first to create the node: a fork that rewrites its parent's new node may claim it too. */
static void
find_creator(const FirnMerging *m, FirnMergeNode *node)
{
	for (guint i = 0; i < node->touches->len && !node->in_base; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(node, i);
		const FirnNodeChange *change = touch->change;

		if (!change->created || change->created_seq == 0)
			continue;
		if (node->creator >= 0 && !firn_merge_before(m, touch->party, change->created_seq,
							     (unsigned)node->creator))
			continue;
		node->creator = (int)touch->party;
		node->created_seq = change->created_seq;
	}
}

bool
firn_merge_knows(const FirnMerging *m, const FirnMergeNode *node, unsigned party)
{
	return node->in_base ||
	       (node->creator >= 0 &&
		node->created_seq <= firn_merge_seen(m, (unsigned)node->creator, party));
}

static bool
check_touch(const FirnMerging *m, const FirnMergeNode *node, const FirnMergeTouch *touch,
	    GError **error)
{
	const char *name = firn_merge_party(m, touch->party)->name;
	char text[FIRN_ID8_TEXT + 1];
	FirnSnapshotNode base;

	firn_id8_format(&node->id, text);
	if (!firn_merge_knows(m, node, touch->party)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "%s changes node %s (%s), which is neither in its base snapshot nor "
			    "made by a journal it was forked from",
			    name, text, touch->change->path);
		return false;
	}
	if (!node->in_base)
		return true;
	firn_snapshot_node(m->base, node->base_index, &base);
	if (strlen(touch->change->path) == base.path.len &&
	    memcmp(touch->change->path, base.path.data, base.path.len) == 0)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s has node %s at %s, the base snapshot at %.*s", name, text,
		    touch->change->path, (int)base.path.len, (const char *)base.path.data);
	return false;
}

static bool
check_touches(const FirnMerging *m, const FirnMergeNode *node, GError **error)
{
	for (guint i = 0; i < node->touches->len; i++)
		if (!check_touch(m, node, firn_merge_touch(node, i), error))
			return false;
	return true;
}

/* ---- which document counts ---- */

static bool
is_record(const FirnMergeTouch *touch)
{
	return touch->change->kind != FIRN_CHANGE_CHUNKS;
}

/* The records (indices of touches) of documents that nobody's record came after. */
static GArray *
latest_records(FirnMerging *m, const FirnMergeNode *node)
{
	GArray *latest = g_array_new(FALSE, FALSE, sizeof(guint));

	for (guint i = 0; i < node->touches->len; i++)
		if (is_record(firn_merge_touch(node, i)))
			m->slots[firn_merge_touch(node, i)->party] = (int)i;
	for (guint i = 0; i < node->touches->len; i++) {
		const FirnMergeTouch *touch = firn_merge_touch(node, i);
		const GArray *seen = firn_merge_party(m, touch->party)->seen;

		for (guint j = 0; is_record(touch) && j < seen->len; j++) {
			const FirnMergeSeen *ancestor = &g_array_index(seen, FirnMergeSeen, j);
			int slot = m->slots[ancestor->party];

			if (slot >= 0 &&
			    firn_merge_touch(node, (guint)slot)->change->seq <= ancestor->seq)
				m->slots[ancestor->party] = -1;
		}
	}
	for (guint i = 0; i < node->touches->len; i++) {
		unsigned party = firn_merge_touch(node, i)->party;

		if (m->slots[party] == (int)i)
			g_array_append_val(latest, i);
		if (is_record(firn_merge_touch(node, i)))
			m->slots[party] = -1;
	}
	return latest;
}

void
firn_merge_clash(FirnMerging *m, FirnConflictKind kind, const char *path, const char *first,
		 const char *second)
{
	firn_conflicts_add(&m->conflicts,
			   &(FirnClash){
				   .kind = kind, .path = path, .first = first, .second = second });
}

static const char *
touch_name(const FirnMerging *m, const FirnMergeTouch *touch)
{
	return firn_merge_party(m, touch->party)->name;
}

/* Consolidated metadata does not count: whoever adds a node writes it, and no commit has it. */
static bool
same_document(const FirnMeta *a, const FirnMeta *b)
{
	g_autoptr(GBytes) x = NULL;
	g_autoptr(GBytes) y = NULL;

	if (firn_meta_equal(a, b))
		return true;
	if (!a->has_consolidated && !b->has_consolidated)
		return false;
	x = firn_meta_strip_consolidated(a->raw);
	y = firn_meta_strip_consolidated(b->raw);
	return g_bytes_equal(x, y);
}

/* Of documents that are the same but for that, always this one. */
static bool
goes_first(const FirnMeta *a, const FirnMeta *b)
{
	return g_bytes_compare(a->raw, b->raw) < 0;
}

/* Report each record that differs from the first, and choose one. */
static void
compare_records(FirnMerging *m, FirnMergeNode *node, const GArray *latest)
{
	const FirnMergeTouch *first = firn_merge_touch(node, g_array_index(latest, guint, 0));
	const FirnMergeTouch *best = first;

	node->winner = (int)g_array_index(latest, guint, 0);
	for (guint i = 1; i < latest->len; i++) {
		guint at = g_array_index(latest, guint, i);
		const FirnMergeTouch *other = firn_merge_touch(node, at);
		bool gone = first->change->kind == FIRN_CHANGE_DELETE;
		bool other_gone = other->change->kind == FIRN_CHANGE_DELETE;

		if (gone != other_gone)
			firn_merge_clash(m, FIRN_CONFLICT_META_DELETED, first->change->path,
					 touch_name(m, gone ? other : first),
					 touch_name(m, gone ? first : other));
		else if (!gone && (strcmp(first->change->path, other->change->path) != 0 ||
				   !same_document(first->change->meta, other->change->meta)))
			firn_merge_clash(m, FIRN_CONFLICT_META, first->change->path,
					 touch_name(m, first), touch_name(m, other));
		else if (!gone && goes_first(other->change->meta, best->change->meta)) {
			best = other;
			node->winner = (int)at;
		}
	}
}

/* Whether a party wrote the document as it was when it began. */
static bool
left_alone(const FirnMerging *m, const FirnMergeNode *node, const FirnMergeTouch *touch)
{
	const FirnNodeChange *change = touch->change, *seen;
	FirnSnapshotNode base;
	bool known;

	if (change->kind != FIRN_CHANGE_PUT || node->creator == (int)touch->party)
		return false;
	seen = firn_merge_seen_document(m, node, touch->party, &known);
	if (!known || (seen == NULL && !node->in_base))
		return false;
	if (seen != NULL)
		return strcmp(seen->path, change->path) == 0 &&
		       same_document(seen->meta, change->meta);
	firn_snapshot_node(m->base, node->base_index, &base);
	return firn_commit_same_document(base.meta, change->meta);
}

/* Take those out of `latest` that did not change the document, but for consolidated metadata, where others did. */
static void
drop_unchanged(const FirnMerging *m, const FirnMergeNode *node, GArray *latest)
{
	g_autoptr(GArray) changed = g_array_new(FALSE, FALSE, sizeof(guint));

	if (latest->len < 2)
		return;
	for (guint i = 0; i < latest->len; i++) {
		guint at = g_array_index(latest, guint, i);
		const FirnMergeTouch *touch = firn_merge_touch(node, at);

		if (touch->change->kind == FIRN_CHANGE_DELETE)
			return;
		if (!left_alone(m, node, touch))
			g_array_append_val(changed, at);
	}
	if (changed->len == 0)
		return;
	g_array_set_size(latest, 0);
	g_array_append_vals(latest, changed->data, changed->len);
}

static void
resolve(FirnMerging *m, FirnMergeNode *node)
{
	g_autoptr(GArray) latest = latest_records(m, node);
	const FirnNodeChange *change = firn_merge_touch(node, 0)->change;

	node->path = change->path;
	node->live = node->in_base;
	if (latest->len == 0)
		return;
	drop_unchanged(m, node, latest);
	compare_records(m, node, latest);
	change = firn_merge_touch(node, (guint)node->winner)->change;
	node->path = change->path;
	node->live = change->kind == FIRN_CHANGE_PUT;
	if (node->live)
		node->meta = firn_meta_ref(change->meta);
}

FirnNodeKind
firn_merge_node_kind(const FirnMerging *m, const FirnMergeNode *node)
{
	FirnSnapshotNode base;

	if (node->meta != NULL)
		return node->meta->kind;
	firn_snapshot_node(m->base, node->base_index, &base);
	return base.kind;
}

static gint
compare_nodes(gconstpointer a, gconstpointer b)
{
	const FirnMergeNode *x = *(const FirnMergeNode *const *)a;
	const FirnMergeNode *y = *(const FirnMergeNode *const *)b;
	int order = strcmp(x->path, y->path);

	return order != 0 ? order : firn_id8_compare(&x->id, &y->id);
}

/* ---- one node a path ---- */

const char *
firn_merge_creator_name(const FirnMerging *m, const FirnMergeNode *node)
{
	return node->creator < 0 ? firn_merge_base_name
				 : firn_merge_party(m, (unsigned)node->creator)->name;
}

/* Of a node of the base: who last wrote its document. */
static const char *
owner_name(const FirnMerging *m, const FirnMergeNode *node)
{
	if (node->creator < 0 && node->winner >= 0)
		return touch_name(m, firn_merge_touch(node, (guint)node->winner));
	return firn_merge_creator_name(m, node);
}

/* A second live node at a path: the same thing, made twice with the same document, or a conflict. */
static void
unify(FirnMerging *m, FirnMergeNode *first, FirnMergeNode *other)
{
	const char *a = owner_name(m, first), *b = owner_name(m, other);

	other->same = first;
	if (firn_merge_node_kind(m, first) != firn_merge_node_kind(m, other)) {
		firn_merge_clash(m, FIRN_CONFLICT_KIND, first->path, a, b);
		/* So that what is below it is reported, whichever came first. */
		if (firn_merge_node_kind(m, other) == FIRN_NODE_ARRAY)
			g_hash_table_replace(m->live, other->path, other);
		return;
	}
	if (first->in_base || other->in_base || !same_document(first->meta, other->meta)) {
		firn_merge_clash(m, FIRN_CONFLICT_CREATED, first->path, a, b);
		return;
	}
	g_array_append_vals(first->touches, other->touches->data, other->touches->len);
	if (goes_first(other->meta, first->meta)) {
		firn_meta_unref(first->meta);
		first->meta = firn_meta_ref(other->meta);
	}
}

/* A node of the base nobody touched can still be in the way of a new one. */
static void
check_base_path(FirnMerging *m, const FirnMergeNode *node)
{
	FirnSnapshotNode base;
	size_t at;

	if (node->in_base || !firn_snapshot_find_path(m->base, node->path, strlen(node->path), &at))
		return;
	firn_snapshot_node(m->base, at, &base);
	if (g_hash_table_lookup(m->nodes, &base.id) == NULL)
		firn_merge_clash(m, FIRN_CONFLICT_CREATED, node->path,
				 firn_merge_creator_name(m, node), firn_merge_base_name);
}

static void
unify_paths(FirnMerging *m)
{
	for (guint i = 0; i < m->order->len; i++) {
		FirnMergeNode *node = m->order->pdata[i];
		FirnMergeNode *there;

		if (!node->live)
			continue;
		check_base_path(m, node);
		there = g_hash_table_lookup(m->live, node->path);
		if (there == NULL)
			g_hash_table_insert(m->live, node->path, node);
		else
			unify(m, there, node);
	}
}

/* ---- the whole ---- */

bool
firn_merge_nodes(FirnMerging *m, GError **error)
{
	GHashTableIter iter;
	gpointer value;

	collect(m);
	g_hash_table_iter_init(&iter, m->nodes);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(m->order, value);
	for (guint i = 0; i < m->order->len; i++)
		find_creator(m, m->order->pdata[i]);
	/* By path as a party has it, so that of several errors always the same one is reported. */
	for (guint i = 0; i < m->order->len; i++) {
		FirnMergeNode *node = m->order->pdata[i];

		node->path = firn_merge_touch(node, 0)->change->path;
	}
	g_ptr_array_sort(m->order, compare_nodes);
	for (guint i = 0; i < m->order->len; i++)
		if (!check_touches(m, m->order->pdata[i], error))
			return false;
	for (guint i = 0; i < m->order->len; i++)
		resolve(m, m->order->pdata[i]);
	g_ptr_array_sort(m->order, compare_nodes);
	unify_paths(m);
	firn_merge_check_above(m);
	return true;
}
