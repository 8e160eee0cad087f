#include "core/base/error.h"
#include "core/format/v1.h"
#include "core/repo/fsck_priv.h"
#include "core/repo/pool.h"
#include "core/repo/repo_internal.h"

#include <string.h>

#define MAX_THREADS 4u

/* Backups are tried from the newest on; a day's damage is not more than this. */
#define MAX_BACKUPS  20u

#define RESTORE_REPO "restore the object from a copy"

/* ---- the object `repo` ---- */

/* The newest backup that can be read; their names sort newest first.  NULL: none. */
static char *
find_backup(FirnFsck *f)
{
	g_autoptr(GPtrArray) keys = firn_store_list_keys(f->store, FIRN_REPO_BACKUPS, "", NULL);

	if (keys == NULL)
		return NULL;
	for (guint i = 0; i < MIN(keys->len, MAX_BACKUPS); i++) {
		g_autoptr(GBytes) file = NULL;
		g_autoptr(FirnRepoInfo) info = NULL;

		if (firn_store_get(f->store, keys->pdata[i], 0, UINT64_MAX, &file, NULL, NULL) &&
		    file != NULL)
			info = firn_repo_info_decode(file, NULL);
		if (info != NULL)
			return g_strdup(keys->pdata[i]);
	}
	return NULL;
}

static void
find_repo(FirnFsck *f, const char *kind, const char *what)
{
	g_autofree char *backup = find_backup(f);
	g_autofree char *remedy =
		backup != NULL
			? g_strdup_printf("%s; else copy %s, the newest backup that can be read, "
					  "to repo: what was committed after it is lost",
					  RESTORE_REPO, backup)
			: g_strdup(RESTORE_REPO);

	firn_fsck_find(f, &(FirnFsckAbout){ kind, FIRN_REPO_KEY, NULL, remedy }, "%s", what);
}

/* Each ancestor of `id` that has no label yet gets one. */
static void
label_history(FirnFsck *f, const char *what, const FirnRefInfo *ref)
{
	const FirnSnapshotInfo *at = firn_repo_info_find_snapshot(f->info, &ref->snapshot);

	for (unsigned n = 0; at != NULL && !g_hash_table_contains(f->labels, &at->id); n++) {
		char *label = n == 0 ? g_strdup_printf("%s %s", what, ref->name)
				     : g_strdup_printf("%s %s~%u", what, ref->name, n);

		g_hash_table_insert(f->labels, g_memdup2(&at->id, sizeof at->id), label);
		at = at->has_parent ? firn_repo_info_find_snapshot(f->info, &at->parent) : NULL;
	}
}

static void
label_all(FirnFsck *f)
{
	const FirnRefInfo *main = firn_repo_info_find_branch(f->info, "main");

	if (main != NULL)
		label_history(f, "branch", main);
	for (guint i = 0; i < f->info->branches->len; i++)
		label_history(f, "branch", f->info->branches->pdata[i]);
	for (guint i = 0; i < f->info->tags->len; i++)
		label_history(f, "tag", f->info->tags->pdata[i]);
}

static void
check_times(FirnFsck *f)
{
	FirnFsckAbout about = { "mismatch", FIRN_REPO_KEY, NULL, RESTORE_REPO };
	const FirnUpdateInfo *newer = NULL;

	/* Also finds a history that runs in a circle. */
	for (guint i = 0; i < f->info->snapshots->len; i++) {
		const FirnSnapshotInfo *snapshot = f->info->snapshots->pdata[i];
		const FirnSnapshotInfo *parent = NULL;
		g_autofree char *label = firn_fsck_label(f, &snapshot->id);

		about.path = label;
		if (snapshot->has_parent)
			parent = firn_repo_info_find_snapshot(f->info, &snapshot->parent);
		if (parent != NULL && parent->flushed_at >= snapshot->flushed_at)
			firn_fsck_find(f, &about, "it is not newer than its parent");
	}
	about.path = NULL;
	for (guint i = 0; i < f->info->updates->len; i++) {
		const FirnUpdateInfo *update = f->info->updates->pdata[i];

		if (newer != NULL && update->updated_at >= newer->updated_at) {
			firn_fsck_find(f, &about, "the operations log is out of order");
			return;
		}
		newer = update;
	}
}

static void
check_info(FirnFsck *f)
{
	FirnFsckAbout about = { "mismatch", FIRN_REPO_KEY, NULL, RESTORE_REPO };
	g_autoptr(GError) error = NULL;

	label_all(f);
	check_times(f);
	if (firn_repo_info_find_branch(f->info, "main") == NULL)
		firn_fsck_find(f, &about, "there is no branch main");
	if (f->info->updates->len == 0)
		firn_fsck_find(f, &about, "the operations log is empty");
	f->config = firn_config_parse(f->info->config, &error);
	if (f->config == NULL)
		firn_fsck_find(f, &about, "the configuration: %s", error->message);
}

static bool
read_info_v2(FirnFsck *f, GBytes *file, GError **error)
{
	GError *wrong = NULL;

	f->spec_version = 2;
	f->info = firn_repo_info_decode(file, &wrong);
	if (f->info != NULL) {
		check_info(f);
		return true;
	}
	/* A later format is no damage. */
	if (g_error_matches(wrong, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED)) {
		g_propagate_prefixed_error(error, wrong, "%s: " FIRN_REPO_KEY ": ",
					   firn_store_url(f->store));
		return false;
	}
	find_repo(f, "damaged", wrong->message);
	g_error_free(wrong);
	return false;
}

/* ---- version 1 ---- */

static void
read_config_v1(FirnFsck *f)
{
	FirnFsckAbout about = { "damaged", FIRN_V1_CONFIG, NULL,
				"restore the object from a copy, or delete it: it holds settings "
				"only" };
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) file = NULL;
	g_autoptr(JsonNode) json = NULL;
	bool exists;

	if (firn_store_stat(f->store, FIRN_V1_CONFIG, &exists, NULL, NULL, NULL) && !exists) {
		f->config = firn_config_parse(NULL, NULL);
		return;
	}
	file = firn_fsck_fetch(f, &about);
	if (file == NULL)
		return;
	json = firn_config_from_yaml(
		(FirnSpan){ g_bytes_get_data(file, NULL), g_bytes_get_size(file) }, &error);
	f->config = json != NULL ? firn_config_parse(json, &error) : NULL;
	if (f->config == NULL)
		firn_fsck_find(f, &about, "%s", error->message);
}

/* The history of one ref, as far as it was not seen before. */
static void
walk_history(FirnFsck *f, const char *what, const char *name, const FirnId12 *tip)
{
	FirnId12 id = *tip;
	bool more = true;
	uint64_t newer = UINT64_MAX;

	for (unsigned n = 0; more && !g_hash_table_contains(f->labels, &id); n++) {
		g_autoptr(FirnSnapshot) snapshot = NULL;
		char *label = n == 0 ? g_strdup_printf("%s %s", what, name)
				     : g_strdup_printf("%s %s~%u", what, name, n);

		g_hash_table_insert(f->labels, g_memdup2(&id, sizeof id), label);
		snapshot = firn_fsck_snapshot(f, &id, label);
		firn_fsck_log(f, &id, snapshot, label);
		if (snapshot == NULL)
			return;
		if (firn_snapshot_flushed_at(snapshot) >= newer) {
			g_autofree char *key = firn_repo_key("snapshots", &id);

			firn_fsck_find(f, &(FirnFsckAbout){ "mismatch", key, label, RESTORE_REPO },
				       "it is not older than its child");
		}
		newer = firn_snapshot_flushed_at(snapshot);
		more = firn_snapshot_parent(snapshot, &id);
	}
}

static void
walk_ref_v1(FirnFsck *f, const char *key, GPtrArray *keys)
{
	FirnFsckAbout about = { "damaged", key, NULL,
				"write {\"snapshot\":\"ID\"} to it, with the id of the snapshot it "
				"is to name" };
	g_autofree char *name = NULL;
	g_autofree char *label = NULL;
	g_autofree char *deleted = g_strconcat(key, ".deleted", NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(GError) error = NULL;
	FirnV1RefKind kind;
	FirnId12 id;

	if (!firn_v1_ref_parse_key(key, &kind, &name) || kind == FIRN_V1_TAG_DELETED ||
	    g_ptr_array_find_with_equal_func(keys, deleted, g_str_equal, NULL))
		return;
	label = g_strdup_printf("%s %s", kind == FIRN_V1_BRANCH ? "branch" : "tag", name);
	about.path = label;
	file = firn_fsck_fetch(f, &about);
	if (file == NULL)
		return;
	if (firn_v1_ref_parse((FirnSpan){ g_bytes_get_data(file, NULL), g_bytes_get_size(file) },
			      &id, &error))
		walk_history(f, kind == FIRN_V1_BRANCH ? "branch" : "tag", name, &id);
	else
		firn_fsck_find(f, &about, "%s", error->message);
}

static void
walk_v1(FirnFsck *f)
{
	g_autoptr(GPtrArray) keys = NULL;
	g_autoptr(GError) error = NULL;

	keys = firn_store_list_keys(f->store, FIRN_V1_REFS, "", &error);
	if (keys == NULL) {
		firn_fsck_find(f,
			       &(FirnFsckAbout){ "unreadable", FIRN_V1_REFS, NULL, RESTORE_REPO },
			       "%s", error->message);
		return;
	}
	for (guint i = 0; i < keys->len; i++) {
		walk_ref_v1(f, keys->pdata[i], keys);
		if (f->options->progress != NULL)
			f->options->progress("checking snapshots", f->report->n_snapshots, 0,
					     f->options->data);
	}
}

/* ---- both ---- */

static bool
find_first(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	(void)key;
	(void)size;
	(void)mtime_us;
	*(bool *)data = true;
	return false;
}

bool
firn_fsck_read_info(FirnFsck *f, GError **error)
{
	const char *url = firn_store_url(f->store);
	g_autoptr(GBytes) file = NULL;
	bool v1 = false, any = false;

	if (!firn_store_get(f->store, FIRN_REPO_KEY, 0, UINT64_MAX, &file, NULL, error))
		return false;
	if (file != NULL)
		return read_info_v2(f, file, error);
	if (!firn_store_list(f->store, FIRN_V1_REFS, find_first, &v1, error) ||
	    !firn_store_list(f->store, "snapshots/", find_first, &any, error))
		return false;
	if (v1) {
		f->spec_version = 1;
		read_config_v1(f);
		return true;
	}
	if (any)
		find_repo(f, "missing", "the object is missing");
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is no Icechunk repository; create one with: firn init %s", url,
			    url);
	return false;
}

static bool
check_listed(size_t index, void *data, GError **error)
{
	FirnFsck *f = data;
	const FirnSnapshotInfo *info = f->info->snapshots->pdata[index];
	g_autofree char *label = firn_fsck_label(f, &info->id);
	g_autoptr(FirnSnapshot) snapshot = firn_fsck_snapshot(f, &info->id, label);

	(void)error;
	firn_fsck_log(f, &info->id, snapshot, label);
	for (guint i = 0; info->pruned != NULL && i < info->pruned->len; i++)
		firn_fsck_log(f, &g_array_index(info->pruned, FirnId12, i), NULL, label);
	return true;
}

static void
step(uint64_t done, void *data)
{
	const FirnFsck *f = data;

	if (f->options->progress != NULL)
		f->options->progress("checking snapshots", done, f->info->snapshots->len,
				     f->options->data);
}

void
firn_fsck_walk(FirnFsck *f)
{
	bool done;

	if (f->spec_version == 1) {
		walk_v1(f);
		return;
	}
	done = firn_pool_run(f->info->snapshots->len, MAX_THREADS, check_listed, f, step, f, NULL);
	g_assert(done);
}
