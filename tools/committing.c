#include "tools/committing.h"

#include "core/base/crash.h"
#include "core/repo/pool.h"
#include "tools/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define WAIT_FOR_WRITERS_MS 5000u
#define NAMES_SHOWN         10u

typedef struct {
	FirnRepo *repo;
	GPtrArray *origins;
	FirnProgress progress;
	FirnId12 snapshot; /* about to be made */
	bool noted;        /* there is a note of what it takes */
} Work;

bool
firn_favor_parse(const char *text, FirnFavor *out_favor)
{
	*out_favor = FIRN_FAVOR_NONE;
	if (!text)
		return true;
	if (!strcmp(text, "first"))
		*out_favor = FIRN_FAVOR_FIRST;
	else if (!strcmp(text, "last"))
		*out_favor = FIRN_FAVOR_LAST;
	return *out_favor != FIRN_FAVOR_NONE;
}

bool
firn_rebase_parse(const char *text, FirnRebase *out_rebase)
{
	static const struct {
		const char *name;
		FirnRebase rebase;
	} policies[] = {
		{ "fail", FIRN_REBASE_FAIL },
		{ "ours", FIRN_REBASE_OURS },
		{ "theirs", FIRN_REBASE_THEIRS },
	};

	*out_rebase = FIRN_REBASE_OFF;
	for (size_t i = 0; text && i < G_N_ELEMENTS(policies); i++)
		if (!strcmp(text, policies[i].name))
			*out_rebase = policies[i].rebase;
	return !text || *out_rebase != FIRN_REBASE_OFF;
}

void
firn_rebase_prepare(int argc, char **argv)
{
	static char rebase[] = "--rebase=fail";

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--rebase"))
			argv[i] = rebase;
}

/* `first` did what the kind names first. */
static void
conflict_to_json(JsonBuilder *builder, const FirnConflict *conflict)
{
	g_autofree char *line = firn_conflict_format(conflict);

	json_builder_begin_object(builder);
	firn_json_string(builder, "kind", firn_conflict_kind_name(conflict->kind));
	firn_json_string(builder, "path", conflict->path);
	json_builder_set_member_name(builder, "coords");
	if (conflict->coords) {
		json_builder_begin_array(builder);
		for (uint32_t i = 0; i < conflict->rank; i++)
			json_builder_add_int_value(builder, conflict->coords[i]);
		json_builder_end_array(builder);
	} else {
		json_builder_add_null_value(builder);
	}
	firn_json_string(builder, "first", conflict->swapped ? conflict->second : conflict->first);
	firn_json_string(builder, "second", conflict->swapped ? conflict->first : conflict->second);
	firn_json_string(builder, "text", line);
	json_builder_end_object(builder);
}

int
firn_committing_conflicts(FirnCli *cli, GPtrArray *conflicts, const GError *error)
{
	JsonBuilder *builder;

	for (guint i = 0; i < conflicts->len; i++) {
		g_autofree char *line = firn_conflict_format(g_ptr_array_index(conflicts, i));

		fprintf(stderr, "%s\n", line);
	}
	fprintf(stderr, "firn: %s\n", error->message);
	if (!cli->json)
		return FIRN_EXIT_CONFLICT;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "error", error->message);
	firn_json_string(builder, "code", "conflict");
	json_builder_set_member_name(builder, "conflicts");
	json_builder_begin_array(builder);
	for (guint i = 0; i < conflicts->len; i++)
		conflict_to_json(builder, g_ptr_array_index(conflicts, i));
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_CONFLICT;
}

GPtrArray *
firn_committing_sources(GPtrArray *origins)
{
	GPtrArray *sources = g_ptr_array_new_with_free_func((GDestroyNotify)firn_source_free);

	for (guint i = 0; i < origins->len; i++) {
		FirnOrigin *origin = g_ptr_array_index(origins, i);

		g_ptr_array_add(sources,
				firn_source_new(origin->name, g_steal_pointer(&origin->sections)));
	}
	return sources;
}

/* What two spellings of one source have in common. */
static char *
identity_of(const FirnOrigin *origin)
{
	char id[FIRN_ID12_TEXT + 1];

	switch (origin->kind) {
	case FIRN_ORIGIN_MOUNT:
		return g_strdup(firn_mount_string(origin->mount, "id"));
	case FIRN_ORIGIN_SESSION:
		firn_id12_format(&origin->info->id, id);
		return g_strdup(id);
	case FIRN_ORIGIN_FILE:
		return g_canonicalize_filename(origin->path, NULL);
	case FIRN_ORIGIN_PUBLISHED:
		break;
	}
	return g_strdup(origin->path);
}

bool
firn_committing_check_distinct(GPtrArray *origins, GError **error)
{
	g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	for (guint i = 0; i < origins->len; i++) {
		FirnOrigin *origin = g_ptr_array_index(origins, i);
		char *identity = identity_of(origin);

		if (!g_hash_table_add(seen, identity)) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
				    "%s is given twice as a source: name it once", origin->name);
			return false;
		}
	}
	return true;
}

static void
note_scratch(const FirnOrigin *origin)
{
	g_autofree char *names = NULL;

	if (!origin->scratch || !origin->scratch->len)
		return;
	names = firn_text_list(origin->scratch, NAMES_SHOWN);
	firn_cli_note("%s: not part of the commit (no Zarr names): %s", origin->name, names);
}

typedef struct {
	FirnRepo *repo;
	GPtrArray *origins;
} Reading;

/* What is wrong with a journal is said by firn_origin_begin(). */
static bool
read_file(size_t index, void *data, GError **error)
{
	const Reading *reading = data;
	FirnOrigin *origin = g_ptr_array_index(reading->origins, index);

	(void)error;
	if (origin->kind == FIRN_ORIGIN_FILE || origin->kind == FIRN_ORIGIN_PUBLISHED)
		(void)!firn_origin_read(origin, reading->repo, NULL);
	return true;
}

/* Chunks are left in journal files, which are open until the commit is done. */
static void
have_descriptors(guint n)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || n < limit.rlim_cur / 4)
		return;
	limit.rlim_cur = limit.rlim_max;
	/* Where that is refused, chunks are read into memory. */
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool
begin_all(FirnRepo *repo, GPtrArray *origins, GError **error)
{
	Reading reading = { .repo = repo, .origins = origins };

	have_descriptors(origins->len);
	/* Journal files are read by all processors. */
	if (!firn_pool_run(origins->len, SIZE_MAX, read_file, &reading, NULL, NULL, error))
		return false;
	for (guint i = 0; i < origins->len; i++) {
		FirnOrigin *origin = g_ptr_array_index(origins, i);

		origin->alone = origins->len == 1;
		if (!firn_origin_begin(origin, repo, WAIT_FOR_WRITERS_MS, error))
			return false;
		note_scratch(origin);
	}
	return true;
}

/* What is taken of published journals, of all origins (FirnTaken *, borrowed).  Caller owns. */
static GPtrArray *
taken_of_all(GPtrArray *origins)
{
	GPtrArray *all = g_ptr_array_new();

	for (guint i = 0; i < origins->len; i++) {
		const FirnOrigin *origin = g_ptr_array_index(origins, i);

		g_ptr_array_extend(all, origin->taken, NULL, NULL);
	}
	return all;
}

/* Also when a commit that did not come to pass is tried again as another snapshot. */
static bool
note_taken(Work *work, const FirnId12 *snapshot, GError **error)
{
	g_autoptr(GPtrArray) taken = taken_of_all(work->origins);

	if (work->noted && !firn_taken_forget(firn_repo_store(work->repo), &work->snapshot, error))
		return false;
	work->snapshot = *snapshot;
	return firn_taken_note(work->repo, snapshot, taken, &work->noted, error);
}

static bool
intent_all(const FirnId12 *snapshot, void *data, GError **error)
{
	Work *work = data;

	if (!note_taken(work, snapshot, error))
		return false;
	for (guint i = 0; i < work->origins->len; i++)
		if (!firn_origin_intent(g_ptr_array_index(work->origins, i), snapshot, error))
			return false;
	firn_crash_point(FIRN_CRASH_INTENDED);
	return true;
}

static void
progress(const char *what, uint64_t done, uint64_t total, void *data)
{
	Work *work = data;

	firn_progress_step(what, done, total, &work->progress);
}

/* The commit stands: what goes wrong from here on is worth a warning, not a failure. */
static void
end_all(const Work *work)
{
	g_autoptr(GError) failed = NULL;
	bool all = true;

	for (guint i = 0; i < work->origins->len; i++) {
		FirnOrigin *origin = g_ptr_array_index(work->origins, i);
		g_autoptr(GError) error = NULL;

		if (firn_origin_end(origin, work->repo, &work->snapshot, &error))
			continue;
		firn_cli_warn("committed, but %s did not follow: %s", origin->name, error->message);
		all = false;
	}
	/* What is still published stays noted, for the next commit. */
	if (!all)
		return;
	if ((work->noted &&
	     !firn_taken_forget(firn_repo_store(work->repo), &work->snapshot, &failed)) ||
	    !firn_taken_collect(work->repo, &failed))
		firn_cli_warn("committed, but journals that commits took may still be published "
			      "(the next commit tries again): %s",
			      failed->message);
}

/* Nothing was committed, unless it failed in a way that does not tell. */
static void
give_up_note(const Work *work)
{
	g_autoptr(FirnRepoInfo) info = NULL;

	if (!work->noted)
		return;
	info = firn_repo_read_info(work->repo, NULL);
	if (info && !firn_repo_info_find_snapshot(info, &work->snapshot))
		(void)!firn_taken_forget(firn_repo_store(work->repo), &work->snapshot, NULL);
}

static void
print_result(const FirnCli *cli, GPtrArray *origins, const FirnMerge *merge,
	     const FirnCommitRequest *request, const FirnCommitResult *result)
{
	char id[FIRN_ID12_TEXT + 1], parent[FIRN_ID12_TEXT + 1];
	g_autoptr(JsonBuilder) builder = NULL;
	JsonNode *node;

	firn_id12_format(&result->snapshot, id);
	firn_id12_format(&result->parent, parent);
	if (merge->n_collisions_settled)
		firn_cli_note("%" G_GUINT64_FORMAT " chunks written by more than one source were "
			      "settled by --favor",
			      merge->n_collisions_settled);
	if (result->n_settled)
		firn_cli_note("%" G_GUINT64_FORMAT " chunks written here and on the branch were "
			      "settled by --rebase=%s",
			      result->n_settled,
			      request->rebase == FIRN_REBASE_OURS ? "ours" : "theirs");
	if (!cli->json) {
		puts(id);
		return;
	}
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "snapshot", id);
	firn_json_string(builder, "parent", parent);
	firn_json_string(builder, "branch", merge->header->branch);
	firn_json_int(builder, "chunks", (int64_t)result->n_chunks);
	firn_json_int(builder, "nodes", (int64_t)result->n_nodes);
	firn_json_int(builder, "manifests_written", result->n_manifests_written);
	firn_json_int(builder, "settled",
		      (int64_t)(merge->n_collisions_settled + result->n_settled));
	firn_origins_torn_to_json(builder, origins);
	json_builder_end_object(builder);
	node = json_builder_get_root(builder);
	if (!request->out_result) {
		firn_cli_json(node);
		return;
	}
	*request->out_result = json_node_dup_object(node);
	json_node_unref(node);
}

/* Mounts whose changes come to nothing on top of the branch: nothing keeps them from showing it. */
static void
follow_branch(FirnRepo *repo, GPtrArray *origins, const FirnId12 *tip)
{
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(tip, id);
	for (guint i = 0; i < origins->len; i++) {
		FirnOrigin *origin = g_ptr_array_index(origins, i);
		g_autoptr(GError) error = NULL;

		if (origin->kind != FIRN_ORIGIN_MOUNT)
			continue;
		if (firn_origin_end(origin, repo, tip, &error))
			firn_cli_note("%s shows snapshot %s now", origin->name, id);
		else
			firn_cli_warn("%s did not follow the branch: %s", origin->name,
				      error->message);
	}
}

static int
commit_merged(FirnCli *cli, FirnRepo *repo, GPtrArray *origins, const FirnMerge *merge,
	      const FirnCommitRequest *request)
{
	Work work = { .repo = repo, .origins = origins, .progress = firn_progress_new() };
	FirnCommitOptions options = {
		.branch = merge->header->branch,
		.base = merge->header->base,
		.message = request->message,
		.metadata = request->metadata,
		.rebase = request->rebase,
		.amend = request->amend,
		.allow_empty = request->allow_empty,
		.force = request->force,
		.intent = intent_all,
		.progress = progress,
		.data = &work,
	};
	g_autoptr(GPtrArray) conflicts = NULL;
	g_autoptr(GError) error = NULL;
	FirnCommitResult result = { .parent = merge->header->base };
	bool ok = firn_commit(repo, merge->changes, &options, &result, &conflicts, &error);

	firn_progress_end(&work.progress);
	if (!ok)
		give_up_note(&work);
	if (!ok && conflicts && conflicts->len)
		return firn_committing_conflicts(cli, conflicts, error);
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOTHING) &&
	    request->rebase != FIRN_REBASE_OFF &&
	    firn_id12_compare(&result.parent, &options.base) != 0)
		follow_branch(repo, origins, &result.parent);
	if (!ok)
		return firn_cli_fail(cli, error);
	work.snapshot = result.snapshot;
	end_all(&work);
	firn_crash_point(FIRN_CRASH_SOURCES_ENDED);
	print_result(cli, origins, merge, request, &result);
	return FIRN_EXIT_DONE;
}

int
firn_committing_run(FirnCli *cli, FirnRepo *repo, GPtrArray *origins,
		    const FirnCommitRequest *request)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) sources = NULL;
	g_autoptr(FirnMerge) merge = NULL;

	if (!firn_committing_check_distinct(origins, &error) || !begin_all(repo, origins, &error))
		return firn_cli_fail(cli, error);
	firn_crash_point(FIRN_CRASH_SOURCES_BEGUN);
	sources = firn_committing_sources(origins);
	merge = firn_merge_sources(repo, sources, request->favor, &error);
	if (!merge)
		return firn_cli_fail(cli, error);
	if (merge->conflicts->len) {
		g_set_error(&error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "%u conflicts between the sources; nothing was committed",
			    merge->conflicts->len);
		return firn_committing_conflicts(cli, merge->conflicts, error);
	}
	firn_crash_point(FIRN_CRASH_SOURCES_MERGED);
	return commit_merged(cli, repo, origins, merge, request);
}
