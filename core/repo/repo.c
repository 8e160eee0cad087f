#include "core/repo/repo.h"

#include "core/base/error.h"
#include "core/repo/repo_internal.h"

#include <string.h>
#include <unistd.h>

#define SNAPSHOT_CACHE_BYTES ((size_t)64 << 20)
#define INDEX_CACHE_BYTES    ((size_t)16 << 20)

/* What a snapshot's memory is to its compressed file, roughly; only steers the cache. */

char *
firn_repo_key(const char *folder, const FirnId12 *id)
{
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(id, text);
	return g_strconcat(folder, "/", text, NULL);
}

GBytes *
firn_repo_fetch(FirnRepo *repo, const char *key, uint64_t len, GError **error)
{
	GBytes *file = NULL;

	if (!firn_store_get(repo->store, key, 0, len != 0 ? len : UINT64_MAX, &file, NULL, error))
		return NULL;
	if (file == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s: the object %s is missing; if it was removed by hand, restore it, "
			    "else run: firn fsck %s",
			    firn_store_url(repo->store), key, firn_store_url(repo->store));
	} else if (len != 0 && g_bytes_get_size(file) < len) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s: the object %s is cut off: %zu of %" G_GUINT64_FORMAT " bytes",
			    firn_store_url(repo->store), key, g_bytes_get_size(file), len);
		g_clear_pointer(&file, g_bytes_unref);
	}
	return file;
}

void
firn_repo_discard(FirnStore *store, const char *key)
{
	g_autoptr(GError) ignored = NULL;

	if (!firn_store_remove(store, key, &ignored))
		g_debug("%s", ignored->message);
}

/* ---- cached objects ---- */

static gpointer
fetch_snapshot(const FirnId12 *id, void *data, size_t *out_bytes, GError **error)
{
	FirnRepo *repo = data;
	g_autofree char *key = firn_repo_key("snapshots", id);
	g_autoptr(GBytes) file = firn_repo_fetch(repo, key, 0, error);
	FirnSnapshot *snapshot;

	if (file == NULL)
		return NULL;
	snapshot = firn_snapshot_open(file, error);
	if (snapshot == NULL) {
		g_prefix_error(error, "%s: %s: ", firn_store_url(repo->store), key);
	} else if (!firn_id12_equal(firn_snapshot_id(snapshot), id)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s: %s holds another snapshot than its name says",
			    firn_store_url(repo->store), key);
		g_clear_pointer(&snapshot, firn_snapshot_unref);
	}
	*out_bytes = snapshot != NULL ? firn_snapshot_size(snapshot) : 0;
	return snapshot;
}

typedef struct {
	FirnRepo *repo;
	uint64_t size;
	FirnCacheUse use;
} ManifestRequest;

/*
 * What others on this host have in memory, found by what the object's file is now; NULL without:
 * then `*out_turn`, if set, is to be ended by whoever reads the object.
 */
static FirnManifest *
find_shared(const ManifestRequest *request, const char *key, FirnSharedTurn **out_turn)
{
	FirnShared *shared = request->repo->shared;
	int fd = shared != NULL ? firn_store_open_fd(request->repo->store, key, NULL) : -1;
	/* Looked through once, by whoever lists all: not worth pushing out what is wanted. */
	bool keep = request->use == FIRN_CACHE_KEEP;
	g_autofree char *name = NULL;
	g_autoptr(GBytes) payload = NULL;
	FirnManifest *manifest;
	uint64_t size;

	if (fd < 0)
		return NULL;
	name = firn_shared_name(fd, &size);
	close(fd);
	if (name == NULL || (request->size != 0 && request->size != size))
		return NULL;
	payload = firn_shared_find(shared, name, keep ? out_turn : NULL);
	if (payload == NULL)
		return NULL;
	manifest = firn_manifest_open_payload(payload, NULL);
	if (manifest != NULL)
		g_atomic_int_inc(&request->repo->n_shared);
	return manifest;
}

static GBytes *
place_shared(size_t size, void **out_memory, void *turn)
{
	return firn_shared_make(turn, size, out_memory);
}

/* Read, into what is shared if it is our turn (taken). */
static FirnManifest *
read_manifest(GBytes *file, FirnSharedTurn *turn, GError **error)
{
	const FirnRoom room = { place_shared, turn };
	FirnManifest *manifest = firn_manifest_open_in(file, turn != NULL ? &room : NULL, error);

	if (manifest != NULL && turn != NULL)
		(void)firn_shared_publish(turn, firn_manifest_payload(manifest));
	else
		firn_shared_turn_drop(turn);
	return manifest;
}

static gpointer
fetch_manifest(const FirnId12 *id, void *data, size_t *out_bytes, GError **error)
{
	ManifestRequest *request = data;
	g_autofree char *key = firn_repo_key("manifests", id);
	g_autoptr(FirnSharedTurn) turn = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnManifest *manifest = find_shared(request, key, &turn);

	if (manifest == NULL) {
		file = firn_repo_fetch(request->repo, key, request->size, error);
		if (file == NULL)
			return NULL;
		manifest = read_manifest(file, g_steal_pointer(&turn), error);
		if (manifest == NULL) {
			g_prefix_error(error, "%s: %s: ", firn_store_url(request->repo->store),
				       key);
			return NULL;
		}
		g_atomic_int_inc(&request->repo->n_read);
	}
	*out_bytes = firn_manifest_size(manifest);
	return manifest;
}

static gpointer
ref_snapshot(gpointer snapshot)
{
	return firn_snapshot_ref(snapshot);
}

static void
unref_snapshot(gpointer snapshot)
{
	firn_snapshot_unref(snapshot);
}

static gpointer
ref_manifest(gpointer manifest)
{
	return firn_manifest_ref(manifest);
}

static void
unref_manifest(gpointer manifest)
{
	firn_manifest_unref(manifest);
}

FirnSnapshot *
firn_repo_get_snapshot(FirnRepo *repo, const FirnId12 *id, GError **error)
{
	return firn_cache_get(repo->snapshots, id, FIRN_CACHE_KEEP, repo, error);
}

FirnManifest *
firn_repo_get_manifest(FirnRepo *repo, const FirnId12 *id, uint64_t size_bytes, FirnCacheUse use,
		       GError **error)
{
	ManifestRequest request = { .repo = repo, .size = size_bytes, .use = use };

	return firn_cache_get(repo->manifests, id, use, &request, error);
}

FirnTxlog *
firn_repo_get_txlog(FirnRepo *repo, const FirnId12 *id, GError **error)
{
	g_autofree char *key = firn_repo_key("transactions", id);
	g_autoptr(GBytes) file = firn_repo_fetch(repo, key, 0, error);
	FirnTxlog *txlog;

	if (file == NULL)
		return NULL;
	txlog = firn_txlog_open(file, error);
	if (txlog == NULL)
		g_prefix_error(error, "%s: %s: ", firn_store_url(repo->store), key);
	return txlog;
}

void
firn_repo_set_cache_size(FirnRepo *repo, size_t bytes)
{
	firn_cache_set_max_bytes(repo->manifests, bytes);
}

void
firn_repo_share_manifests(FirnRepo *repo, FirnShared *shared)
{
	g_assert(repo->shared == NULL);
	repo->shared = shared;
}

void
firn_repo_count_manifests(FirnRepo *repo, uint64_t *out_read, uint64_t *out_shared)
{
	*out_read = (uint64_t)(guint)g_atomic_int_get(&repo->n_read);
	*out_shared = (uint64_t)(guint)g_atomic_int_get(&repo->n_shared);
}

/* ---- repo info ---- */

/* The file of `repo` as it is now; NULL without `error` if there is none.  Caller owns. */
static GBytes *
read_info_file(FirnRepo *repo, FirnVersion *out_version, GError **error)
{
	g_autoptr(GBytes) probe = NULL;
	g_autoptr(GBytes) known = NULL;
	FirnVersion known_version = { "" };
	GBytes *file = NULL;

	pthread_mutex_lock(&repo->mutex);
	if (repo->info_file != NULL) {
		known = g_bytes_ref(repo->info_file);
		known_version = repo->info_version;
	}
	pthread_mutex_unlock(&repo->mutex);

	if (known != NULL) {
		if (!firn_store_get(repo->store, FIRN_REPO_KEY, 0, 0, &probe, out_version, error))
			return NULL;
		if (probe != NULL && strcmp(known_version.tag, out_version->tag) == 0)
			return g_steal_pointer(&known);
	}
	if (!firn_store_get(repo->store, FIRN_REPO_KEY, 0, UINT64_MAX, &file, out_version, error))
		return NULL;
	if (file == NULL)
		return NULL;
	pthread_mutex_lock(&repo->mutex);
	g_clear_pointer(&repo->info_file, g_bytes_unref);
	repo->info_file = g_bytes_ref(file);
	repo->info_version = *out_version;
	pthread_mutex_unlock(&repo->mutex);
	return file;
}

void
firn_repo_leave_info(FirnRepo *repo, FirnRepoInfo *info, const FirnVersion *version)
{
	FirnRepoInfo *before;

	pthread_mutex_lock(&repo->mutex);
	before = repo->spare;
	repo->spare = info;
	repo->spare_version = *version;
	pthread_mutex_unlock(&repo->mutex);
	firn_repo_info_free(before);
}

/* What somebody left of this version; NULL: nothing.  Caller owns. */
static FirnRepoInfo *
take_spare(FirnRepo *repo, const FirnVersion *version)
{
	FIRN_LOCK_SCOPE(&repo->mutex);

	if (repo->spare == NULL || strcmp(repo->spare_version.tag, version->tag) != 0)
		return NULL;
	return g_steal_pointer(&repo->spare);
}

/* Under the mutex of who replaces it: what was read is ordered before its end, for all to see. */
static void
leave_info_file(FirnRepo *repo, GBytes *file)
{
	FIRN_LOCK_SCOPE(&repo->mutex);

	g_bytes_unref(file);
}

FirnRepoInfo *
firn_repo_read_info_versioned(FirnRepo *repo, FirnVersion *out_version, GError **error)
{
	GError *failed = NULL;
	GBytes *file = read_info_file(repo, out_version, &failed);
	FirnRepoInfo *info;

	if (failed != NULL) {
		g_propagate_error(error, failed);
		return NULL;
	}
	if (file == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s: the object " FIRN_REPO_KEY " is gone; the newest file in "
			    "overwritten/ is its last backup",
			    firn_store_url(repo->store));
		return NULL;
	}
	info = take_spare(repo, out_version);
	if (info == NULL)
		info = firn_repo_info_decode(file, error);
	leave_info_file(repo, file);
	if (info == NULL)
		g_prefix_error(error, "%s: " FIRN_REPO_KEY ": ", firn_store_url(repo->store));
	return info;
}

FirnRepoInfo *
firn_repo_read_info(FirnRepo *repo, GError **error)
{
	FirnVersion version;

	if (repo->spec_version == 1)
		return firn_repo_read_info_v1(repo, error);
	return firn_repo_read_info_versioned(repo, &version, error);
}

static FirnConfig *
read_config_v1(FirnRepo *repo, GError **error)
{
	g_autoptr(GBytes) yaml = NULL;
	g_autoptr(JsonNode) json = NULL;
	FirnConfig *config;
	FirnSpan span;

	if (!firn_store_get(repo->store, FIRN_REPO_V1_CONFIG, 0, UINT64_MAX, &yaml, NULL, error))
		return NULL;
	if (yaml == NULL)
		return firn_config_parse(NULL, error);
	span.data = g_bytes_get_data(yaml, &span.len);
	json = firn_config_from_yaml(span, error);
	config = json != NULL ? firn_config_parse(json, error) : NULL;
	if (config == NULL)
		g_prefix_error(error, "%s: " FIRN_REPO_V1_CONFIG ": ", firn_store_url(repo->store));
	return config;
}

FirnConfig *
firn_repo_read_config(FirnRepo *repo, GError **error)
{
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnConfig *config;

	if (repo->spec_version == 1)
		return read_config_v1(repo, error);
	info = firn_repo_read_info(repo, error);
	if (info == NULL)
		return NULL;
	config = firn_config_parse(info->config, error);
	if (config == NULL)
		g_prefix_error(error, "%s: the configuration: ", firn_store_url(repo->store));
	return config;
}

/* ---- open ---- */

static bool
detect(FirnRepo *repo, GError **error)
{
	const char *url = firn_store_url(repo->store);
	FirnVersion version;
	bool v1 = false;
	GError *failed = NULL;
	g_autoptr(GBytes) file = read_info_file(repo, &version, &failed);

	if (failed != NULL) {
		g_propagate_error(error, failed);
		return false;
	}
	repo->spec_version = file != NULL ? 2 : 1;
	if (file != NULL)
		return true;
	if (!firn_store_stat(repo->store, FIRN_REPO_V1_MAIN, &v1, NULL, NULL, error))
		return false;
	if (!v1)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is no Icechunk repository (it has neither '" FIRN_REPO_KEY
			    "' nor '" FIRN_REPO_V1_MAIN "'); create one with: firn init %s",
			    url, url);
	return v1;
}

/* The time of the oldest snapshot without a parent: the root of the history. */
static uint64_t
root_time(const FirnRepoInfo *info)
{
	const FirnSnapshotInfo *root =
		firn_repo_info_find_snapshot(info, &firn_id_initial_snapshot);

	for (guint i = 0; root == NULL && i < info->snapshots->len; i++) {
		const FirnSnapshotInfo *snapshot = info->snapshots->pdata[i];

		/* One that is damaged has no time. */
		if (!snapshot->has_parent && snapshot->flushed_at != 0)
			root = snapshot;
	}
	return root != NULL ? root->flushed_at : 0;
}

static bool
identify(FirnRepo *repo, GError **error)
{
	FirnRepoInfo *info;
	FirnVersion version;

	info = firn_repo_read_info_versioned(repo, &version, error);
	if (info == NULL)
		return false;
	repo->identity = root_time(info);
	firn_repo_leave_info(repo, info, &version);
	return true;
}

static bool
identify_v1(FirnRepo *repo, GError **error)
{
	g_autoptr(FirnSnapshot) root =
		firn_repo_get_snapshot(repo, &firn_id_initial_snapshot, NULL);
	g_autoptr(FirnRepoInfo) info = NULL;

	/* The usual case, without reading the whole history. */
	if (root != NULL) {
		repo->identity = firn_snapshot_flushed_at(root);
		return true;
	}
	info = firn_repo_read_info(repo, error);
	if (info == NULL)
		return false;
	repo->identity = root_time(info);
	return true;
}

FirnRepo *
firn_repo_open_store(FirnStore *store, GError **error)
{
	static const FirnCacheType snapshots = { fetch_snapshot, ref_snapshot, unref_snapshot };
	static const FirnCacheType manifests = { fetch_manifest, ref_manifest, unref_manifest };
	FirnRepo *repo = g_new0(FirnRepo, 1);

	repo->store = store;
	repo->snapshots = firn_cache_new(&snapshots, SNAPSHOT_CACHE_BYTES);
	repo->manifests = firn_cache_new(&manifests, FIRN_REPO_CACHE_BYTES);
	repo->indexes = firn_cache_new(&firn_repo_index_type, INDEX_CACHE_BYTES);
	pthread_mutex_init(&repo->mutex, NULL);
	if (detect(repo, error) &&
	    (repo->spec_version == 1 ? identify_v1(repo, error) : identify(repo, error)))
		return repo;
	firn_repo_free(repo);
	return NULL;
}

FirnRepo *
firn_repo_open(const char *url, GError **error)
{
	GError *failed = NULL;
	FirnStore *store = firn_store_open(url, false, &failed);

	if (store != NULL)
		return firn_repo_open_store(store, error);
	if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is no Icechunk repository (there is no such directory); create one "
			    "with: firn init %s",
			    url, url);
		g_error_free(failed);
	} else {
		g_propagate_error(error, failed);
	}
	return NULL;
}

void
firn_repo_free(FirnRepo *repo)
{
	if (repo == NULL)
		return;
	firn_cache_free(repo->snapshots);
	firn_cache_free(repo->manifests);
	firn_cache_free(repo->indexes);
	firn_shared_free(repo->shared);
	g_clear_pointer(&repo->info_file, g_bytes_unref);
	firn_repo_info_free(repo->spare);
	pthread_mutex_destroy(&repo->mutex);
	firn_store_free(repo->store);
	g_free(repo);
}

FirnStore *
firn_repo_store(FirnRepo *repo)
{
	return repo->store;
}

const char *
firn_repo_url(const FirnRepo *repo)
{
	return firn_store_url(repo->store);
}

uint8_t
firn_repo_spec_version(const FirnRepo *repo)
{
	return repo->spec_version;
}

bool
firn_repo_check_writable(const FirnRepo *repo, GError **error)
{
	if (repo->spec_version >= 2)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY,
		    "%s is a repository of format 1, which can only be read here: mount it with "
		    "--read-only, or convert it with icechunk.upgrade_icechunk_repository() of the "
		    "official library",
		    firn_repo_url(repo));
	return false;
}

uint64_t
firn_repo_identity(const FirnRepo *repo)
{
	return repo->identity;
}
