#include "core/repo/commit.h"

#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/repo/commit_priv.h"

#include <string.h>

/* Rebases before giving up: each one means that somebody else's commit went through. */
#define MAX_ATTEMPTS 1000u

/* Objects published together while others are made: what is left at the end does not take long. */
#define PUBLISH_BATCH 16u

/* Pending files named in a message. */
#define PENDING_NAMED 5u

void
firn_commit_progress(const FirnCommitting *c, const char *what, uint64_t done, uint64_t total)
{
	if (c->options->progress != NULL)
		c->options->progress(what, done, total, c->options->data);
}

/* ---- state ---- */

static void
clear_row(gpointer data)
{
	FirnCommitRow *row = data;

	firn_meta_unref(row->meta);
	g_clear_pointer(&row->raw, g_bytes_unref);
	firn_commit_array_free(row->array);
}

static void
clear_log_array(gpointer data)
{
	g_array_unref(((FirnCommitLogArray *)data)->coords);
}

static void
clear_split(gpointer data)
{
	g_free(((FirnCommitSplit *)data)->path);
}

static GArray *
new_array(guint size, GDestroyNotify clear)
{
	GArray *array = g_array_new(FALSE, TRUE, size);

	if (clear != NULL)
		g_array_set_clear_func(array, clear);
	return array;
}

static void
committing_init(FirnCommitting *c, FirnRepo *repo, const FirnChanges *changes,
		const FirnCommitOptions *options)
{
	*c = (FirnCommitting){ .repo = repo, .changes = changes, .options = options };
	pthread_mutex_init(&c->lock, NULL);
	c->id = firn_id12_random();
	c->strings = g_string_chunk_new(4096);
	c->rows = new_array(sizeof(FirnCommitRow), clear_row);
	for (unsigned i = 0; i < FIRN_TXLOG_N_LISTS; i++)
		c->log_ids[i] = new_array(sizeof(FirnId8), NULL);
	c->log_arrays = new_array(sizeof(FirnCommitLogArray), clear_log_array);
	c->splits = new_array(sizeof(FirnCommitSplit), clear_split);
	c->written = g_ptr_array_new_with_free_func(g_free);
}

static void
committing_clear(FirnCommitting *c)
{
	g_array_unref(c->rows);
	for (unsigned i = 0; i < FIRN_TXLOG_N_LISTS; i++)
		g_array_unref(c->log_ids[i]);
	g_array_unref(c->log_arrays);
	g_array_unref(c->splits);
	g_ptr_array_unref(c->written);
	g_clear_pointer(&c->adopted, g_hash_table_unref);
	g_clear_pointer(&c->reverted, g_hash_table_unref);
	g_clear_pointer(&c->aliases, g_hash_table_unref);
	g_clear_pointer(&c->theirs, g_hash_table_unref);
	g_string_chunk_free(c->strings);
	firn_snapshot_unref(c->start);
	firn_snapshot_unref(c->parent);
	firn_config_free(c->config);
	pthread_mutex_destroy(&c->lock);
}

/* Publish what was written, once `n` objects are not. */
static bool
publish_written(FirnCommitting *c, guint n, GError **error)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new();

	pthread_mutex_lock(&c->lock);
	if (c->written->len - c->n_published >= n) {
		for (guint i = c->n_published; i < c->written->len; i++)
			g_ptr_array_add(keys, c->written->pdata[i]);
		c->n_published = c->written->len;
	}
	pthread_mutex_unlock(&c->lock);
	return firn_store_publish(firn_repo_store(c->repo), (const char *const *)keys->pdata,
				  keys->len, error);
}

bool
firn_commit_put(FirnCommitting *c, const char *prefix, const FirnId12 *id, GBytes *file,
		GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	char *key;

	firn_id12_format(id, text);
	key = g_strconcat(prefix, text, NULL);
	if (!firn_store_put_new(firn_repo_store(c->repo), key, file, error)) {
		g_free(key);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	g_ptr_array_add(c->written, key);
	pthread_mutex_unlock(&c->lock);
	return publish_written(c, PUBLISH_BATCH, error);
}

/* Nobody refers to what was written: take it away as far as possible. */
static void
discard(FirnCommitting *c)
{
	for (guint i = 0; i < c->written->len; i++)
		(void)!firn_store_withdraw(firn_repo_store(c->repo), c->written->pdata[i], NULL);
	g_ptr_array_set_size(c->written, 0);
	c->n_published = 0;
}

/* ---- preconditions ---- */

static gint
compare_strings(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
check_pending(const FirnChanges *changes, GError **error)
{
	g_autoptr(GPtrArray) paths = g_ptr_array_new();
	g_autoptr(GString) names = g_string_new(NULL);
	GHashTableIter iter;
	gpointer key;

	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, &key, NULL))
		g_ptr_array_add(paths, key);
	if (paths->len == 0)
		return true;
	g_ptr_array_sort(paths, compare_strings);
	for (guint i = 0; i < MIN(paths->len, PENDING_NAMED); i++)
		g_string_append_printf(names, "%s%s", i > 0 ? ", " : "",
				       (const char *)paths->pdata[i]);
	if (paths->len > PENDING_NAMED)
		g_string_append_printf(names, " and %u more", paths->len - PENDING_NAMED);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "chunk files without a place in any array (no zarr.json, outside its grid, or "
		    "empty): %s; give them one, remove them, or drop them with --force",
		    names->str);
	return false;
}

static bool
fail_moved(const FirnCommitOptions *options, const FirnId12 *tip, GError **error)
{
	char base[FIRN_ID12_TEXT + 1], now[FIRN_ID12_TEXT + 1];

	firn_id12_format(&options->base, base);
	firn_id12_format(tip, now);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "branch %s moved from %s to %s meanwhile%s", options->branch, base, now,
		    options->amend ? ": what would be amended is not its tip any more"
				   : "; commit with --rebase to put these changes on top");
	return false;
}

/* Find what to build on. */
static bool
choose_parent(FirnCommitting *c, const FirnRepoInfo *info, FirnId12 *out_tip,
	      FirnConflicts *conflicts, GError **error)
{
	const FirnCommitOptions *options = c->options;
	const FirnRefInfo *branch = firn_repo_info_find_branch(info, options->branch);

	if (branch == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "there is no branch %s (any more): create it again with firn branch, "
			    "then commit",
			    options->branch);
		return false;
	}
	*out_tip = branch->snapshot;
	c->start = firn_repo_get_snapshot(c->repo, &options->base, error);
	if (c->start == NULL)
		return false;
	if (firn_id12_compare(out_tip, &options->base) == 0) {
		c->parent = firn_snapshot_ref(c->start);
		return true;
	}
	if (options->rebase == FIRN_REBASE_OFF || options->amend)
		return fail_moved(options, out_tip, error);
	return firn_commit_rebase(c, info, out_tip, conflicts, error);
}

static bool
check_amend(const FirnCommitting *c, const FirnRepoInfo *info, GError **error)
{
	const FirnSnapshotInfo *tip = firn_repo_info_find_snapshot(info, &c->options->base);

	if (!c->options->amend || (tip != NULL && tip->has_parent))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "the first snapshot of a repository cannot be amended: commit instead");
	return false;
}

/* ---- writing ---- */

static bool
write_objects(FirnCommitting *c, GError **error)
{
	g_autoptr(FirnTxlog) amended = NULL;
	g_autoptr(GBytes) snapshot = NULL;
	g_autoptr(GBytes) log = NULL;

	c->flushed_at = MAX(firn_clock_now_us(), firn_snapshot_flushed_at(c->parent) + 1);
	if (c->options->amend) {
		amended = firn_repo_get_txlog(c->repo, &c->options->base, error);
		if (amended == NULL)
			return false;
	}
	snapshot = firn_commit_encode_snapshot(c, error);
	if (snapshot == NULL || !firn_commit_put(c, "snapshots/", &c->id, snapshot, error))
		return false;
	firn_crash_point(FIRN_CRASH_SNAPSHOT_WRITTEN);
	firn_commit_progress(c, "snapshot", 1, 2);
	log = firn_commit_encode_log(c, amended, error);
	if (log == NULL || !firn_commit_put(c, "transactions/", &c->id, log, error))
		return false;
	firn_crash_point(FIRN_CRASH_LOG_WRITTEN);
	firn_commit_progress(c, "snapshot", 2, 2);
	return true;
}

static bool
build(FirnCommitting *c, GError **error)
{
	if (!firn_commit_rows(c, error) || !firn_commit_verify(c, error))
		return false;
	firn_crash_point(FIRN_CRASH_CHUNKS_DURABLE);
	if (!firn_commit_manifests(c, error) || !firn_changes_check(c->changes, error))
		return false;
	firn_crash_point(FIRN_CRASH_MANIFESTS_WRITTEN);
	if (c->n_nodes == 0 && c->n_chunks == 0 && !c->options->allow_empty) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOTHING,
			    "there is nothing to commit: nothing differs from the snapshot it is "
			    "based on");
		return false;
	}
	return write_objects(c, error);
}

/* ---- before the update ---- */

typedef struct {
	FirnCommitting *c;
	bool ok;
	GError *error;
} Publishing;

static void *
publish_rest(void *data)
{
	Publishing *publishing = data;

	publishing->ok = publish_written(publishing->c, 0, &publishing->error);
	return NULL;
}

static bool
tell_intent(const FirnCommitting *c, GError **error)
{
	return c->options->intent == NULL || c->options->intent(&c->id, c->options->data, error);
}

/*
 * All that `repo` is going to name becomes durable, while those whose changes it is record what
 * is about to happen: what each waits for is the disk.
 */
static bool
make_ready(FirnCommitting *c, GError **error)
{
	Publishing publishing = { .c = c };
	pthread_t thread;
	bool aside = c->options->intent != NULL &&
		     pthread_create(&thread, NULL, publish_rest, &publishing) == 0;
	bool told;

	if (!aside)
		(void)publish_rest(&publishing);
	told = (aside || publishing.ok) && tell_intent(c, error);
	if (aside)
		pthread_join(thread, NULL);
	if (!publishing.ok && (error == NULL || *error == NULL))
		g_propagate_error(error, g_steal_pointer(&publishing.error));
	g_clear_error(&publishing.error);
	return told && publishing.ok;
}

/* ---- the update ---- */

typedef struct {
	FirnCommitting *c;
	FirnId12 tip;    /* what was built on */
	FirnId12 parent; /* of the new snapshot */
	bool moved;
} Update;

static bool
update_config(const FirnCommitting *c, FirnRepoInfo *info)
{
	for (guint i = 0; i < c->splits->len; i++) {
		const FirnCommitSplit *split = &g_array_index(c->splits, FirnCommitSplit, i);
		JsonNode *config =
			firn_config_with_split(info->config, split->path, split->axis, split->size);

		if (info->config != NULL)
			json_node_unref(info->config);
		info->config = config;
	}
	return true;
}

static bool
add_snapshot(Update *update, FirnRepoInfo *info, GError **error)
{
	FirnCommitting *c = update->c;
	const FirnSnapshotInfo *tip = firn_repo_info_find_snapshot(info, &update->tip);
	FirnSnapshotInfo *added;
	bool amend = c->options->amend;

	if (tip == NULL || (amend && !tip->has_parent)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the repository does not list its branch's snapshot");
		return false;
	}
	update->parent = amend ? tip->parent : update->tip;
	if (!firn_repo_info_add_snapshot(info, &c->id, &update->parent, c->flushed_at,
					 c->options->message != NULL ? c->options->message : "",
					 c->options->metadata)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "the repository has a snapshot of the new one's id: try again");
		return false;
	}
	added = firn_repo_info_find_snapshot(info, &c->id);
	if (amend && tip->pruned != NULL) {
		added->pruned = g_array_new(FALSE, FALSE, sizeof(FirnId12));
		g_array_append_vals(added->pruned, tip->pruned->data, tip->pruned->len);
	}
	return true;
}

static bool
apply_update(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	Update *update = data;
	FirnCommitting *c = update->c;
	FirnRefInfo *branch = firn_repo_info_find_branch(info, c->options->branch);
	bool amend = c->options->amend;

	update->moved = false;
	if (branch == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "there is no branch %s any more", c->options->branch);
		return false;
	}
	if (firn_id12_compare(&branch->snapshot, &update->tip) != 0) {
		update->moved = true;
		return fail_moved(c->options, &branch->snapshot, error);
	}
	if (!add_snapshot(update, info, error) || !update_config(c, info))
		return false;
	branch->snapshot = c->id;
	firn_repo_info_push_update(info,
				   amend ? FIRN_UPDATE_COMMIT_AMENDED : FIRN_UPDATE_NEW_COMMIT,
				   c->options->branch, amend ? &update->tip : NULL, &c->id,
				   backup_name, firn_clock_now_us(),
				   firn_config_ops_log_length(c->config));
	return true;
}

/* ---- the whole ---- */

static bool
attempt(FirnCommitting *c, FirnCommitResult *out_result, FirnConflicts *conflicts, bool *out_moved,
	GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(c->repo, error);
	Update update = { .c = c };

	if (info == NULL || !check_amend(c, info, error))
		return false;
	c->config = firn_config_parse(info->config, error);
	if (c->config == NULL)
		return false;
	c->level = firn_config_compression_level(c->config);
	if (!choose_parent(c, info, &update.tip, conflicts, error))
		return false;
	if (!build(c, error) || !make_ready(c, error)) {
		discard(c);
		return false;
	}
	if (!firn_repo_update(c->repo, apply_update, &update, error)) {
		/* Of other failures it is not known whether the update went through. */
		if (update.moved)
			discard(c);
		*out_moved = update.moved;
		return false;
	}
	if (out_result != NULL)
		*out_result = (FirnCommitResult){ .snapshot = c->id,
						  .parent = update.parent,
						  .n_chunks = c->n_chunks,
						  .n_nodes = c->n_nodes,
						  .n_manifests_written = c->n_written };
	return true;
}

bool
firn_commit(FirnRepo *repo, const FirnChanges *changes, const FirnCommitOptions *options,
	    FirnCommitResult *out_result, GPtrArray **out_conflicts, GError **error)
{
	FirnConflicts conflicts;
	bool rebases = options->rebase != FIRN_REBASE_OFF && !options->amend;
	bool done = false;

	if (out_conflicts != NULL)
		*out_conflicts = NULL;
	if (!firn_repo_check_writable(repo, error) ||
	    (!options->force && !check_pending(changes, error)))
		return false;
	firn_conflicts_init(&conflicts);
	for (unsigned i = 0; i < MAX_ATTEMPTS && !done; i++) {
		GError *failed = NULL;
		bool moved = false;
		FirnCommitting c;

		committing_init(&c, repo, changes, options);
		done = attempt(&c, out_result, &conflicts, &moved, &failed);
		committing_clear(&c);
		if (done || (moved && rebases && i + 1 < MAX_ATTEMPTS)) {
			g_clear_error(&failed);
			continue;
		}
		if (out_conflicts != NULL &&
		    g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT))
			*out_conflicts = firn_conflicts_steal(&conflicts);
		g_propagate_error(error, failed);
		break;
	}
	firn_conflicts_clear(&conflicts);
	return done;
}
