#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/repo/repo_internal.h"

#include <string.h>

#define MESSAGE "Repository initialized"

/* Remember the first object that is not ours. */
static bool
note_first(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	char **first = data;

	(void)size;
	(void)mtime_us;
	if (g_str_has_prefix(key, "firn/"))
		return true;
	*first = g_strdup(key);
	return false;
}

static bool
check_empty(FirnStore *store, GError **error)
{
	g_autofree char *first = NULL;
	bool exists = false;

	if (!firn_store_stat(store, FIRN_REPO_KEY, &exists, NULL, NULL, error))
		return false;
	if (!exists && !firn_store_list(store, "", note_first, &first, error))
		return false;
	if (exists)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "%s: there is a repository already", firn_store_url(store));
	else if (first != NULL)
		g_set_error(
			error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			"%s is not empty (it holds '%s'); a repository needs a directory of its "
			"own",
			firn_store_url(store), first);
	return !exists && first == NULL;
}

/* Create-only, so that of two that race nobody harms the other's. */
static bool
put_new(FirnStore *store, const char *key, GBytes *file, GError **error)
{
	GError *failed = NULL;

	if (firn_store_put(store, key, file, FIRN_PUT_IF_ABSENT, NULL, NULL, &failed))
		return true;
	if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT)) {
		g_error_free(failed);
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "%s: somebody else has just created a repository here",
			    firn_store_url(store));
	} else {
		g_propagate_error(error, failed);
	}
	return false;
}

static GBytes *
initial_snapshot(uint64_t now_us, int level, GError **error)
{
	JsonObject *metadata = json_object_new();
	JsonObject *root = json_object_new();
	FirnSnapshotContent content = {
		.id = firn_id_initial_snapshot,
		.flushed_at = now_us,
		.message = MESSAGE,
		.metadata = metadata,
	};
	GBytes *file;

	json_object_set_boolean_member(root, "is_root", TRUE);
	json_object_set_object_member(metadata, "__icechunk", root);
	file = firn_snapshot_encode(&content, level, error);
	json_object_unref(metadata);
	return file;
}

typedef struct {
	GBytes *snapshot;
	GBytes *txlog;
	GBytes *info;
} NewFiles;

static void
new_files_clear(NewFiles *files)
{
	g_clear_pointer(&files->snapshot, g_bytes_unref);
	g_clear_pointer(&files->txlog, g_bytes_unref);
	g_clear_pointer(&files->info, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NewFiles, new_files_clear)

static bool
encode_new(NewFiles *files, GError **error)
{
	JsonNode *json = firn_config_initial();
	g_autoptr(FirnConfig) config = firn_config_parse(json, error);
	FirnTxlogContent log = { .id = firn_id_initial_snapshot };
	uint64_t now_us = firn_clock_now_us();
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(now_us, json);
	int level;

	json_node_unref(json);
	if (config == NULL)
		return false;
	level = firn_config_compression_level(config);
	files->snapshot = initial_snapshot(now_us, level, error);
	if (files->snapshot != NULL)
		files->txlog = firn_txlog_encode(&log, level, error);
	if (files->txlog != NULL)
		files->info = firn_repo_info_encode(info, level, error);
	return files->info != NULL;
}

static bool
write_new(FirnStore *store, const NewFiles *files, GError **error)
{
	g_autofree char *snapshot = firn_repo_key("snapshots", &firn_id_initial_snapshot);
	g_autofree char *txlog = firn_repo_key("transactions", &firn_id_initial_snapshot);
	bool exists = true;

	if (!put_new(store, snapshot, files->snapshot, error))
		return false;
	if (put_new(store, txlog, files->txlog, error) &&
	    put_new(store, FIRN_REPO_KEY, files->info, error))
		return true;
	/* Ours, as the first put succeeded: a second attempt must find the place empty.  But a
	 * failed put may have been carried out, and then needs them. */
	if (firn_store_stat(store, FIRN_REPO_KEY, &exists, NULL, NULL, NULL) && !exists) {
		firn_repo_discard(store, txlog);
		firn_repo_discard(store, snapshot);
	}
	return false;
}

bool
firn_repo_create(const char *url, GError **error)
{
	g_autoptr(FirnStore) store = firn_store_open(url, true, error);
	g_auto(NewFiles) files = { .snapshot = NULL };

	return store != NULL && check_empty(store, error) && encode_new(&files, error) &&
	       write_new(store, &files, error);
}
