#include "core/repo/text.h"

#include "core/base/clock.h"

#include <string.h>

static void
append_escaped(GString *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n')
			g_string_append(out, "\\n");
		else if (c < 0x20 || c == 0x7f)
			g_string_append_printf(out, "\\x%02x", c);
		else
			g_string_append_c(out, (char)c);
	}
}

static void
append_list(GString *out, const char *title, const GPtrArray *names)
{
	if (!names || !names->len)
		return;
	g_string_append_printf(out, "%s:\n", title);
	for (guint i = 0; i < names->len; i++) {
		const char *name = g_ptr_array_index(names, i);

		g_string_append(out, "  ");
		append_escaped(out, name, strlen(name));
		g_string_append_c(out, '\n');
	}
}

static void
append_field(GString *out, const char *title, const char *value)
{
	if (!value || !*value)
		return;
	g_string_append_printf(out, "%-11s ", title);
	append_escaped(out, value, strlen(value));
	g_string_append_c(out, '\n');
}

static bool
is_empty(const GPtrArray *list)
{
	return !list || !list->len;
}

char *
firn_text_status(const FirnTextStatus *status)
{
	GString *out = g_string_new(NULL);
	char base[FIRN_ID12_TEXT + 1];

	firn_id12_format(&status->base, base);
	append_field(out, "repository", status->repository);
	append_field(out, "branch", status->branch);
	append_field(out, "base", base);
	append_field(out, "session", status->session ? status->session : "none (read-only)");
	append_field(out, "fork of", status->fork_of);
	if (status->restarts)
		g_string_append_printf(out, "driver died and was replaced: %u times\n",
				       status->restarts);
	if (!status->n_changed_chunks && is_empty(status->nodes) && is_empty(status->pending) &&
	    is_empty(status->scratch) && is_empty(status->writers)) {
		g_string_append(out, "nothing changed\n");
		return g_string_free(out, FALSE);
	}
	append_list(out, "changed", status->nodes);
	g_string_append_printf(out, "chunks written or deleted: %" G_GUINT64_FORMAT "\n",
			       status->n_changed_chunks);
	append_list(out, "pending (no array has a place for them yet)", status->pending);
	append_list(out, "scratch (no Zarr keys; never committed)", status->scratch);
	append_list(out, "open for writing", status->writers);
	return g_string_free(out, FALSE);
}

/* ---- diff ---- */

static FirnNodeKind
kind_in_base(const FirnSnapshot *base, const char *path)
{
	FirnSnapshotNode node;
	size_t index;

	if (!base || !firn_snapshot_find_path(base, path, strlen(path), &index))
		return FIRN_NODE_GROUP;
	firn_snapshot_node(base, index, &node);
	return node.kind;
}

static void
add_chunks(FirnDiffEntry *entry, FirnChunkMap *map)
{
	FirnChunkIter iter;
	FirnChunkChange *change;
	const uint32_t *coords;

	if (!map || !firn_chunk_map_size(map))
		return;
	entry->rank = firn_chunk_map_rank(map);
	entry->chunks = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	firn_chunk_iter_seek(&iter, map, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		/* A rank of 0 has one chunk and no coordinates: one item says it is there. */
		static const uint32_t scalar = 0;

		g_array_append_vals(entry->chunks, entry->rank ? coords : &scalar,
				    MAX(entry->rank, 1));
	}
}

static int
compare_entries(gconstpointer a, gconstpointer b)
{
	const FirnDiffEntry *first = *(FirnDiffEntry *const *)a;
	const FirnDiffEntry *second = *(FirnDiffEntry *const *)b;
	int order = strcmp(first->path, second->path);

	/* What was deleted at a path comes before what is there now. */
	return order ? order
		     : (second->change == FIRN_DIFF_DELETED) - (first->change == FIRN_DIFF_DELETED);
}

static void
free_entry(gpointer data)
{
	FirnDiffEntry *entry = data;

	g_free(entry->path);
	if (entry->chunks)
		g_array_unref(entry->chunks);
	g_free(entry);
}

FirnDiff *
firn_text_diff_of_changes(const FirnChanges *changes, const FirnSnapshot *base)
{
	FirnDiff *diff = g_new0(FirnDiff, 1);
	GHashTableIter iter;
	gpointer value;

	diff->lines = g_ptr_array_new_with_free_func(free_entry);
	g_hash_table_iter_init(&iter, changes->by_id);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const FirnNodeChange *change = value;
		FirnDiffEntry *entry;

		/* Made and deleted again: nobody outside ever saw it. */
		if (change->kind == FIRN_CHANGE_DELETE && change->created)
			continue;
		entry = g_new0(FirnDiffEntry, 1);
		entry->path = g_strdup(change->path);
		entry->kind = change->meta ? change->meta->kind
			      : change->kind == FIRN_CHANGE_CHUNKS
				      ? FIRN_NODE_ARRAY
				      : kind_in_base(base, change->path);
		entry->change = change->kind == FIRN_CHANGE_DELETE ? FIRN_DIFF_DELETED
				: change->created                  ? FIRN_DIFF_ADDED
								   : FIRN_DIFF_CHANGED;
		entry->meta_changed = change->kind == FIRN_CHANGE_PUT && !change->created;
		add_chunks(entry, change->chunks);
		g_ptr_array_add(diff->lines, entry);
	}
	g_ptr_array_sort(diff->lines, compare_entries);
	return diff;
}

static size_t
chunk_count(const FirnDiffEntry *entry)
{
	return entry->chunks ? entry->chunks->len / MAX(entry->rank, 1) : 0;
}

static const char *
change_name(const FirnDiffEntry *entry)
{
	return entry->change == FIRN_DIFF_ADDED     ? "added"
	       : entry->change == FIRN_DIFF_DELETED ? "deleted"
						    : "changed";
}

static const char *
kind_name(const FirnDiffEntry *entry)
{
	return entry->kind == FIRN_NODE_ARRAY ? "array" : "group";
}

static void
append_chunks(GString *out, const FirnDiffEntry *entry, size_t max_chunks)
{
	size_t n = chunk_count(entry);

	for (size_t i = 0; i < MIN(n, max_chunks); i++) {
		g_string_append(out, "  c");
		for (uint32_t axis = 0; axis < entry->rank; axis++)
			g_string_append_printf(out, "/%u",
					       g_array_index(entry->chunks, uint32_t,
							     i * entry->rank + axis));
		g_string_append_c(out, '\n');
	}
	if (n > max_chunks)
		g_string_append_printf(out, "  and %zu more\n", n - max_chunks);
}

char *
firn_text_diff(const FirnDiff *diff, size_t max_chunks)
{
	GString *out = g_string_new(NULL);

	for (guint i = 0; i < diff->lines->len; i++) {
		const FirnDiffEntry *entry = g_ptr_array_index(diff->lines, i);
		size_t n = chunk_count(entry);

		g_string_append_printf(out, "%-7s %s ", change_name(entry), kind_name(entry));
		append_escaped(out, entry->path, strlen(entry->path));
		if (entry->meta_changed)
			g_string_append(out, n ? ", metadata" : " (metadata)");
		if (n)
			g_string_append_printf(out, ", %zu chunk%s", n, n == 1 ? "" : "s");
		g_string_append_c(out, '\n');
		append_chunks(out, entry, max_chunks);
	}
	return g_string_free(out, FALSE);
}

static JsonArray *
chunks_json(const FirnDiffEntry *entry)
{
	JsonArray *rows = json_array_new();
	size_t n = chunk_count(entry);

	for (size_t i = 0; i < n; i++) {
		JsonArray *row = json_array_new();

		for (uint32_t axis = 0; axis < entry->rank; axis++)
			json_array_add_int_element(row, g_array_index(entry->chunks, uint32_t,
								      i * entry->rank + axis));
		json_array_add_array_element(rows, row);
	}
	return rows;
}

JsonArray *
firn_text_diff_json(const FirnDiff *diff)
{
	JsonArray *array = json_array_new();

	for (guint i = 0; i < diff->lines->len; i++) {
		const FirnDiffEntry *entry = g_ptr_array_index(diff->lines, i);
		JsonObject *object = json_object_new();

		json_object_set_string_member(object, "path", entry->path);
		json_object_set_string_member(object, "kind", kind_name(entry));
		json_object_set_string_member(object, "change", change_name(entry));
		json_object_set_boolean_member(object, "metadata", entry->meta_changed);
		json_object_set_array_member(object, "chunks", chunks_json(entry));
		json_array_add_object_element(array, object);
	}
	return array;
}

/* ---- log ---- */

typedef void (*SnapshotFn)(const FirnRepoInfo *info, const FirnSnapshotInfo *snapshot, void *data);

static void
foreach_ancestor(const FirnRepoInfo *info, const FirnId12 *from, size_t limit, SnapshotFn fn,
		 void *data)
{
	const FirnSnapshotInfo *snapshot = firn_repo_info_find_snapshot(info, from);
	/* A damaged history may be a ring. */
	size_t left = info->snapshots->len;

	if (limit)
		left = MIN(left, limit);
	for (; snapshot && left; left--) {
		fn(info, snapshot, data);
		snapshot = snapshot->has_parent
				   ? firn_repo_info_find_snapshot(info, &snapshot->parent)
				   : NULL;
	}
}

static void
append_refs(GString *out, const GPtrArray *refs, const char *prefix, const FirnId12 *id,
	    bool *first)
{
	for (guint i = 0; i < refs->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(refs, i);

		if (firn_id12_compare(&ref->snapshot, id))
			continue;
		g_string_append(out, *first ? "  (" : ", ");
		g_string_append(out, prefix);
		append_escaped(out, ref->name, strlen(ref->name));
		*first = false;
	}
}

static void
append_message(GString *out, const char *message)
{
	g_auto(GStrv) lines = g_strsplit(message ? message : "", "\n", -1);

	for (size_t i = 0; lines[i]; i++) {
		/* A message that ends with a newline has no empty last line. */
		if (i && !*lines[i] && !lines[i + 1])
			break;
		g_string_append(out, i ? "    " : "  ");
		append_escaped(out, lines[i], strlen(lines[i]));
		g_string_append_c(out, '\n');
	}
	if (!lines[0])
		g_string_append_c(out, '\n');
}

static void
append_snapshot(const FirnRepoInfo *info, const FirnSnapshotInfo *snapshot, void *data)
{
	GString *out = data;
	g_autofree char *date = firn_clock_format_us(snapshot->flushed_at);
	char id[FIRN_ID12_TEXT + 1];
	bool first = true;

	firn_id12_format(&snapshot->id, id);
	g_string_append_printf(out, "%s  %s", id, date);
	append_refs(out, info->branches, "", &snapshot->id, &first);
	append_refs(out, info->tags, "tag: ", &snapshot->id, &first);
	if (!first)
		g_string_append_c(out, ')');
	append_message(out, snapshot->message);
}

char *
firn_text_log(const FirnRepoInfo *info, const FirnId12 *from, size_t limit)
{
	GString *out = g_string_new(NULL);

	foreach_ancestor(info, from, limit, append_snapshot, out);
	return g_string_free(out, FALSE);
}

static JsonArray *
refs_json(const GPtrArray *refs, const FirnId12 *id)
{
	JsonArray *names = json_array_new();

	for (guint i = 0; i < refs->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(refs, i);

		if (!firn_id12_compare(&ref->snapshot, id))
			json_array_add_string_element(names, ref->name);
	}
	return names;
}

static void
add_snapshot(const FirnRepoInfo *info, const FirnSnapshotInfo *snapshot, void *data)
{
	g_autofree char *date = firn_clock_format_us(snapshot->flushed_at);
	JsonObject *object = json_object_new();
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(&snapshot->id, id);
	json_object_set_string_member(object, "id", id);
	if (snapshot->has_parent) {
		firn_id12_format(&snapshot->parent, id);
		json_object_set_string_member(object, "parent", id);
	} else {
		json_object_set_null_member(object, "parent");
	}
	json_object_set_string_member(object, "date", date);
	json_object_set_string_member(object, "message", snapshot->message);
	json_object_set_object_member(object, "metadata",
				      snapshot->metadata ? json_object_ref(snapshot->metadata)
							 : json_object_new());
	json_object_set_array_member(object, "branches", refs_json(info->branches, &snapshot->id));
	json_object_set_array_member(object, "tags", refs_json(info->tags, &snapshot->id));
	json_array_add_object_element(data, object);
}

JsonArray *
firn_text_log_json(const FirnRepoInfo *info, const FirnId12 *from, size_t limit)
{
	JsonArray *array = json_array_new();

	foreach_ancestor(info, from, limit, add_snapshot, array);
	return array;
}
