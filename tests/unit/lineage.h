#ifndef FIRN_TESTS_UNIT_LINEAGE_H
#define FIRN_TESTS_UNIT_LINEAGE_H

#include "core/repo/commit.h"
#include "tests/unit/repo_fixture.h"

#include <inttypes.h>

/*
 * Sessions that do what a script says, without a mount.  A script is made of
 * lines (or ';'):
 *
 *   group PATH [ATTRIBUTE [NAME]]     array PATH SHAPE CHUNKS [ATTRIBUTE]   (4x6 2x2)
 *   delete PATH                       chunk PATH COORDS TEXT                (0,1)
 *   native PATH COORDS TEXT           virtual PATH COORDS URL
 *   erase PATH COORDS                 pending PATH [TEXT]
 *   drop PATH                         move PATH TO
 *
 * NAME: of an array that the group's consolidated metadata lists.
 */
typedef struct {
	FirnRepo *repo;
	FirnSnapshot *base;
	FirnSection *section; /* its own changes */
	FirnChanges *overlay; /* with what it started from */
} Actor;

static inline FirnId12
session_id(const char *name)
{
	FirnId12 id = { { 0 } };

	memcpy(id.bytes, name, MIN(strlen(name), sizeof id.bytes));
	return id;
}

static inline Actor *
actor_new(FirnRepo *repo, const FirnId12 *base, const char *name)
{
	g_autoptr(GError) error = NULL;
	Actor *actor = g_new0(Actor, 1);
	FirnJournalHeader *header = g_new0(FirnJournalHeader, 1);

	actor->repo = repo;
	actor->base = firn_repo_get_snapshot(repo, base, &error);
	ck_assert_no_error(error);
	header->repository = g_strdup(firn_repo_url(repo));
	header->identity = firn_repo_identity(repo);
	header->spec_version = 2;
	header->branch = g_strdup("main");
	header->base = *base;
	header->session = session_id(name);
	header->ancestors = g_array_new(FALSE, FALSE, sizeof(FirnAncestor));
	actor->section = g_new0(FirnSection, 1);
	actor->section->header = header;
	actor->section->changes = firn_changes_new();
	actor->overlay = firn_changes_new();
	return actor;
}

static inline Actor *
actor_fork(const Actor *parent, const char *name)
{
	Actor *actor = actor_new(parent->repo, &parent->section->header->base, name);
	const GArray *ancestors = parent->section->header->ancestors;
	FirnAncestor ancestor = { .session = parent->section->header->session,
				  .seq = parent->section->last_seq };

	g_array_append_vals(actor->section->header->ancestors, ancestors->data, ancestors->len);
	g_array_append_val(actor->section->header->ancestors, ancestor);
	ck_assert(firn_changes_apply(actor->overlay, parent->overlay, true));
	actor->section->changes->forked = true;
	return actor;
}

/* Publish what a fork of an actor without parents started from: the actor as it is now. */
static inline void
actor_publish(const Actor *parent, Actor *fork)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autoptr(GBytes) object = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *key = NULL;
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(&fork->section->header->session, id);
	key = g_strdup_printf("firn/sessions/%s/parent", id);
	firn_journal_encode(parent->section->header, parent->section->changes,
			    parent->section->last_seq, bytes);
	object = g_bytes_new(bytes->data, bytes->len);
	if (!firn_store_put(firn_repo_store(parent->repo), key, object, FIRN_PUT_IF_ABSENT, NULL,
			    NULL, &error))
		ck_assert_no_error(error);
	fork->section->header->fork = g_strdup(id);
}

static inline void
actor_free(Actor *actor)
{
	firn_snapshot_unref(actor->base);
	firn_section_free(actor->section);
	firn_changes_free(actor->overlay);
	g_free(actor);
}

static inline uint32_t
parse_numbers(const char *text, const char *separator, uint32_t *out)
{
	g_auto(GStrv) items = g_strsplit(text, separator, -1);
	uint32_t n = 0;

	for (; items[n] != NULL && items[n][0] != '\0'; n++)
		out[n] = (uint32_t)g_ascii_strtoull(items[n], NULL, 10);
	return n;
}

static inline FirnMeta *
make_group(const char *attribute, const char *name)
{
	g_autofree char *consolidated =
		g_strdup_printf("\"consolidated_metadata\":{\"metadata\":{\"%s\":{}}},",
				name != NULL ? name : "");
	g_autofree char *text = g_strdup_printf(
		"{\"zarr_format\":3,%s\"node_type\":\"group\",\"attributes\":{\"v\":\"%s\"}}",
		name != NULL ? consolidated : "", attribute != NULL ? attribute : "");
	g_autoptr(GBytes) raw = g_bytes_new(text, strlen(text));
	FirnMeta *meta = firn_meta_parse(raw, NULL);

	ck_assert_ptr_nonnull(meta);
	return meta;
}

static inline FirnMeta *
make_array(const char *shape, const char *chunks, const char *attribute)
{
	g_autofree char *lengths = g_strdup(shape);
	g_autofree char *sizes = g_strdup(chunks);
	g_autofree char *text = NULL;
	g_autoptr(GBytes) raw = NULL;
	g_autoptr(GError) error = NULL;
	FirnMeta *meta;

	/* "-": the scalar. */
	g_strdelimit(lengths, "x-", ',');
	g_strdelimit(sizes, "x-", ',');
	text = g_strdup_printf(
		"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[%s],\"data_type\":\"uint8\","
		"\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[%s]}},"
		"\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}},"
		"\"fill_value\":0,\"codecs\":[{\"name\":\"bytes\"}],\"attributes\":{\"v\":\"%s\"}}",
		shape[0] == '-' ? "" : lengths, shape[0] == '-' ? "" : sizes,
		attribute != NULL ? attribute : "");
	raw = g_bytes_new(text, strlen(text));
	meta = firn_meta_parse(raw, &error);
	ck_assert_no_error(error);
	return meta;
}

/* The live node at `path` as the actor sees it; else a new one. */
static inline FirnId8
actor_node(const Actor *actor, const char *path, bool *out_new)
{
	const FirnNodeChange *change = firn_changes_find_path(actor->overlay, path);
	FirnSnapshotNode node;
	size_t index;

	*out_new = false;
	if (change != NULL)
		return change->id;
	if (firn_snapshot_find_path(actor->base, path, strlen(path), &index)) {
		firn_snapshot_node(actor->base, index, &node);
		change = firn_changes_find(actor->overlay, &node.id);
		if (change == NULL || change->kind != FIRN_CHANGE_DELETE)
			return node.id;
	}
	*out_new = true;
	return firn_id8_random();
}

static inline void
actor_put(Actor *actor, const char *path, FirnMeta *meta)
{
	bool made;
	FirnId8 id = actor_node(actor, path, &made);
	uint64_t seq = ++actor->section->last_seq;

	(void)firn_changes_put_node(actor->overlay, &id, path, meta, made, seq);
	(void)firn_changes_put_node(actor->section->changes, &id, path, meta, made, seq);
	firn_meta_unref(meta);
}

static inline void
actor_delete(Actor *actor, const char *path)
{
	bool made;
	FirnId8 id = actor_node(actor, path, &made);
	uint64_t seq = ++actor->section->last_seq;

	ck_assert_msg(!made, "there is no %s", path);
	(void)firn_changes_delete_node(actor->overlay, &id, path, false, seq);
	(void)firn_changes_delete_node(actor->section->changes, &id, path, false, seq);
}

/* One node that the actor made; those below it stay. */
static inline void
actor_move(Actor *actor, const char *path, const char *to)
{
	bool made;
	FirnId8 id = actor_node(actor, path, &made);
	uint64_t seq = ++actor->section->last_seq;

	ck_assert_msg(!made, "there is no %s", path);
	firn_changes_move_node(actor->overlay, &id, to, seq);
	firn_changes_move_node(actor->section->changes, &id, to, seq);
}

static inline FirnId12
put_chunk_object(FirnRepo *repo, const char *text)
{
	FirnId12 id = firn_id12_random();
	g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));

	put_object(repo, "chunks", &id, bytes);
	return id;
}

static inline void
actor_chunk(Actor *actor, const char *verb, const char *path, const char *place, const char *text)
{
	uint32_t coords[FIRN_MAX_RANK];
	uint32_t rank = parse_numbers(strcmp(place, "-") == 0 ? "" : place, ",", coords);
	FirnSpan span = { (const uint8_t *)text, text != NULL ? strlen(text) : 0 };
	FirnRef ref = { .kind = FIRN_REF_NONE };
	bool made;
	FirnId8 id = actor_node(actor, path, &made);
	uint64_t seq = ++actor->section->last_seq;

	ck_assert_msg(!made, "there is no %s", path);
	if (strcmp(verb, "chunk") == 0)
		ref = (FirnRef){ .kind = FIRN_REF_INLINE, .length = span.len, .bytes = span };
	if (strcmp(verb, "native") == 0)
		ref = (FirnRef){ .kind = FIRN_REF_NATIVE,
				 .length = span.len,
				 .id = put_chunk_object(actor->repo, text) };
	if (strcmp(verb, "virtual") == 0)
		ref = (FirnRef){ .kind = FIRN_REF_VIRTUAL, .length = 3, .location = span };
	(void)firn_changes_put_chunk(actor->overlay, &id, path, rank, coords, &ref, seq);
	(void)firn_changes_put_chunk(actor->section->changes, &id, path, rank, coords, &ref, seq);
}

static inline void
actor_pending(Actor *actor, const char *path, FirnRefKind kind, const char *text)
{
	FirnRef ref = { .kind = kind,
			.length = strlen(text),
			.bytes = { (const uint8_t *)text, strlen(text) } };

	firn_changes_put_pending(actor->section->changes, path, &ref, ++actor->section->last_seq);
}

static inline void
actor_do_line(Actor *actor, char **w)
{
	guint n = g_strv_length(w);

	if (strcmp(w[0], "group") == 0) {
		actor_put(actor, w[1], make_group(n > 2 ? w[2] : NULL, n > 3 ? w[3] : NULL));
	} else if (strcmp(w[0], "array") == 0) {
		actor_put(actor, w[1], make_array(w[2], w[3], n > 4 ? w[4] : NULL));
	} else if (strcmp(w[0], "delete") == 0) {
		actor_delete(actor, w[1]);
	} else if (strcmp(w[0], "pending") == 0) {
		actor_pending(actor, w[1], FIRN_REF_INLINE, n > 2 ? w[2] : "");
	} else if (strcmp(w[0], "move") == 0) {
		actor_move(actor, w[1], w[2]);
	} else if (strcmp(w[0], "drop") == 0) {
		actor_pending(actor, w[1], FIRN_REF_NONE, "");
	} else {
		actor_chunk(actor, w[0], w[1], w[2], n > 3 ? w[3] : NULL);
	}
}

static inline void
actor_do(Actor *actor, const char *script)
{
	g_auto(GStrv) lines = g_strsplit_set(script, ";\n", -1);

	for (guint i = 0; lines[i] != NULL; i++) {
		g_auto(GStrv) words = g_strsplit(g_strstrip(lines[i]), " ", -1);

		if (words[0] != NULL && words[0][0] != '\0')
			actor_do_line(actor, words);
	}
}

/* ---- giving it to a merge ---- */

static inline void
free_section(gpointer section)
{
	firn_section_free(section);
}

static inline void
free_source(gpointer source)
{
	firn_source_free(source);
}

/* A journal with the sections of `n` actors, through its encoding. */
static inline FirnSource *
source_of(const char *name, Actor *const *actors, size_t n)
{
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autoptr(GBytes) journal = NULL;
	g_autoptr(GError) error = NULL;
	GPtrArray *sections;

	for (size_t i = 0; i < n; i++)
		firn_journal_encode(actors[i]->section->header, actors[i]->section->changes,
				    actors[i]->section->last_seq, bytes);
	journal = g_bytes_new(bytes->data, bytes->len);
	sections = firn_journal_decode(journal, name, NULL, &error);
	ck_assert_no_error(error);
	return firn_source_new(name, sections);
}

static inline FirnMerge *
merge_actors(FirnRepo *repo, Actor *const *actors, const char *const *names, size_t n,
	     FirnFavor favor, GError **error)
{
	g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(free_source);

	for (size_t i = 0; i < n; i++)
		g_ptr_array_add(sources, source_of(names[i], &actors[i], 1));
	return firn_merge_sources(repo, sources, favor, error);
}

/* "chunk /a 0,1; meta /b": kinds, paths and places. */
static inline char *
print_conflicts(const GPtrArray *conflicts)
{
	GString *out = g_string_new(NULL);

	for (guint i = 0; conflicts != NULL && i < conflicts->len; i++) {
		const FirnConflict *conflict = conflicts->pdata[i];

		g_string_append_printf(out, "%s%s %s", i > 0 ? "; " : "",
				       firn_conflict_kind_name(conflict->kind), conflict->path);
		for (uint32_t j = 0; conflict->coords != NULL && j < conflict->rank; j++)
			g_string_append_printf(out, "%c%u", j > 0 ? ',' : ' ', conflict->coords[j]);
	}
	return g_string_free(out, FALSE);
}

/* ---- commits ---- */

static inline bool
commit_changes(FirnRepo *repo, const FirnChanges *changes, const FirnCommitOptions *more,
	       const FirnId12 *base, FirnCommitResult *result, GPtrArray **conflicts,
	       GError **error)
{
	FirnCommitOptions options = { 0 };

	if (more != NULL)
		options = *more;
	options.branch = options.branch != NULL ? options.branch : "main";
	options.message = options.message != NULL ? options.message : "test";
	options.base = *base;
	return firn_commit(repo, changes, &options, result, conflicts, error);
}

static inline FirnId12
tip_of(FirnRepo *repo)
{
	g_autoptr(FirnRepoInfo) info = read_info(repo);

	return firn_repo_info_find_branch(info, "main")->snapshot;
}

/* Commit a script on the tip of main; returns the new tip. */
static inline FirnId12
commit_script(FirnRepo *repo, const char *script)
{
	g_autoptr(GError) error = NULL;
	FirnId12 tip = tip_of(repo);
	Actor *actor = actor_new(repo, &tip, "script");
	FirnCommitResult result;
	bool done;

	actor_do(actor, script);
	done = commit_changes(repo, actor->section->changes, NULL, &tip, &result, NULL, &error);
	ck_assert_no_error(error);
	ck_assert(done);
	actor_free(actor);
	return result.snapshot;
}

static inline void
print_ref(FirnRepo *repo, FirnManifest *manifest, const FirnRef *ref, GString *out)
{
	if (ref->kind == FIRN_REF_INLINE) {
		g_string_append_len(out, (const char *)ref->bytes.data, (gssize)ref->bytes.len);
	} else if (ref->kind == FIRN_REF_NATIVE) {
		char id[FIRN_ID12_TEXT + 1];
		g_autofree char *key = NULL;
		g_autoptr(GBytes) bytes = NULL;

		firn_id12_format(&ref->id, id);
		key = g_strconcat("chunks/", id, NULL);
		ck_assert(firn_store_get(firn_repo_store(repo), key, ref->offset, ref->length,
					 &bytes, NULL, NULL));
		ck_assert_ptr_nonnull(bytes);
		g_string_append_len(out, g_bytes_get_data(bytes, NULL),
				    (gssize)g_bytes_get_size(bytes));
	} else {
		g_autofree char *location = firn_manifest_location(manifest, ref, NULL);

		g_string_append(out, location);
	}
}

/* "/ group; /a array 0=x 1=y" of a snapshot. */
static inline char *
print_tree(FirnRepo *repo, const FirnId12 *id)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot = firn_repo_get_snapshot(repo, id, &error);
	GString *out = g_string_new(NULL);

	ck_assert_no_error(error);
	for (size_t i = 0; i < firn_snapshot_n_nodes(snapshot); i++) {
		g_autoptr(FirnRefIter) iter = NULL;
		FirnManifest *manifest;
		FirnSnapshotNode node;
		const uint32_t *coords;
		FirnRef ref;

		firn_snapshot_node(snapshot, i, &node);
		g_string_append_printf(out, "%s%.*s %s", i > 0 ? "; " : "", (int)node.path.len,
				       (const char *)node.path.data,
				       node.kind == FIRN_NODE_ARRAY ? "array" : "group");
		if (node.kind == FIRN_NODE_GROUP)
			continue;
		iter = firn_ref_iter_new(repo, snapshot, &node, NULL, 0);
		while (firn_ref_iter_next(iter, &coords, &ref, &manifest, &error) == 1) {
			for (uint32_t j = 0; j < node.rank; j++)
				g_string_append_printf(out, "%c%u", j > 0 ? ',' : ' ', coords[j]);
			g_string_append_c(out, '=');
			print_ref(repo, manifest, &ref, out);
		}
		ck_assert_no_error(error);
	}
	return g_string_free(out, FALSE);
}

#endif
