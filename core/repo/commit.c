#include "core/repo/commit.h"

#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/repo/commit_priv.h"
#include "core/repo/repo_internal.h"

#include <string.h>

/* Rebases before giving up: each one means that somebody else's commit went through. */
#define MAX_ATTEMPTS 1000u

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
	c->splits = new_array(sizeof(FirnConfigSplit), NULL);
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

bool
firn_commit_fail_moved(const FirnCommitOptions *options, const FirnId12 *tip, GError **error)
{
	char base[FIRN_ID12_TEXT + 1], now[FIRN_ID12_TEXT + 1];

	firn_id12_format(&options->base, base);
	firn_id12_format(tip, now);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "branch %s moved from %s to %s meanwhile%s", options->branch, base, now,
		    options->amend ? ": what would be amended is not its tip any more"
				   : "; commit with --rebase to put these changes on top (or, if "
				     "there are none, to have the mount show what it is now)");
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
		return firn_commit_fail_moved(options, out_tip, error);
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
			    "based on%s",
			    c->options->amend ? "; with --allow-empty, its message alone is amended"
					      : "");
		return false;
	}
	return write_objects(c, error);
}

/* ---- the whole ---- */

/* What there is, and what is built on. */
static bool
begin(FirnCommitting *c, FirnId12 *out_tip, FirnConflicts *conflicts, GError **error)
{
	FirnVersion version;
	FirnRepoInfo *info = firn_repo_read_info_versioned(c->repo, &version, error);
	bool ok;

	if (info == NULL)
		return false;
	ok = check_amend(c, info, error);
	if (ok) {
		c->config = firn_config_parse(info->config, error);
		ok = c->config != NULL && choose_parent(c, info, out_tip, conflicts, error);
	}
	firn_repo_leave_info(c->repo, info, &version);
	return ok;
}

static bool
attempt(FirnCommitting *c, FirnCommitResult *out_result, FirnConflicts *conflicts, bool *out_moved,
	GError **error)
{
	FirnId12 tip, parent;

	if (!begin(c, &tip, conflicts, error))
		return false;
	c->level = firn_config_compression_level(c->config);
	if (!build(c, error)) {
		firn_commit_discard(c);
		if (out_result != NULL)
			out_result->parent = tip;
		return false;
	}
	if (!firn_commit_publish(c, &tip, &parent, out_moved, error))
		return false;
	if (out_result != NULL)
		*out_result = (FirnCommitResult){ .snapshot = c->id,
						  .parent = parent,
						  .n_chunks = c->n_chunks,
						  .n_nodes = c->n_nodes,
						  .n_settled = c->n_settled,
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
