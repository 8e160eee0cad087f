#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/repo/repo_internal.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* 3000-01-01T00:00:00Z: names count down to it, so that the newest backup sorts first. */
#define BACKUP_EPOCH_MS 32503680000000u

#define MAX_TRIES       100
#define IMMEDIATE_TRIES 5
#define FIRST_PAUSE_US  2000u
#define LAST_PAUSE_US   1000000u

/* Caller owns. */
static char *
backup_name(void)
{
	uint64_t now_ms = firn_clock_now_us() / 1000;
	FirnId12 id = firn_id12_random();
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(&id, text);
	return g_strdup_printf("repo.%014" PRIu64 ".%s",
			       now_ms < BACKUP_EPOCH_MS ? BACKUP_EPOCH_MS - now_ms : 0, text);
}

bool
firn_repo_backup_time(const char *name, uint64_t *out_ms)
{
	uint64_t left = 0;
	FirnId12 id;

	if (!g_str_has_prefix(name, "repo.") || strlen(name) != 5 + 14 + 1 + FIRN_ID12_TEXT ||
	    name[19] != '.' || !firn_id12_parse(name + 20, FIRN_ID12_TEXT, &id))
		return false;
	for (const char *at = name + 5; at < name + 19; at++) {
		if (!g_ascii_isdigit(*at))
			return false;
		left = left * 10 + (uint64_t)(*at - '0');
	}
	*out_ms = left < BACKUP_EPOCH_MS ? BACKUP_EPOCH_MS - left : 0;
	return true;
}

/* A random part of a time that doubles: writers that collided once then do not again. */
static void
pause_before(unsigned try)
{
	uint64_t limit = FIRST_PAUSE_US;
	uint64_t random;
	struct timespec pause;

	if (try < IMMEDIATE_TRIES)
		return;
	for (unsigned i = IMMEDIATE_TRIES; i < try && limit < LAST_PAUSE_US; i++)
		limit *= 2;
	firn_clock_random(&random, sizeof random);
	random %= MIN(limit, LAST_PAUSE_US);
	pause.tv_sec = (time_t)(random / 1000000);
	pause.tv_nsec = (long)(random % 1000000) * 1000;
	nanosleep(&pause, NULL);
}

static bool
check_online(FirnRepo *repo, const FirnRepoInfo *info, GError **error)
{
	const char *reason = info->status_reason;

	if (info->availability == 0)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY,
		    "%s: the repository's status is %s%s%s; set it online first",
		    firn_repo_url(repo), info->availability == 1 ? "read-only" : "offline",
		    reason != NULL && reason[0] != '\0' ? ": " : "", reason != NULL ? reason : "");
	return false;
}

static GBytes *
encode(FirnRepo *repo, const FirnRepoInfo *info, GError **error)
{
	g_autoptr(FirnConfig) config = firn_config_parse(info->config, error);
	GBytes *file = NULL;

	if (config != NULL)
		file = firn_repo_info_encode(info, firn_config_compression_level(config), error);
	if (file == NULL)
		g_prefix_error(error, "%s: " FIRN_REPO_KEY ": ", firn_repo_url(repo));
	return file;
}

/* ---- one try ---- */

struct FirnRepoUpdate {
	FirnVersion version; /* of the `repo` it is to replace */
	char *backup;        /* the key that one has, too */
	GBytes *file;
	FirnStaged *staged; /* NULL: it was put, or another writer was faster already */
};

/* `unused`: nothing in `repo` names the backup, and nothing will. */
static void
update_end(FirnRepo *repo, FirnRepoUpdate *update, bool unused)
{
	firn_store_unstage(repo->store, update->staged);
	if (unused && update->backup != NULL)
		firn_repo_discard(repo->store, update->backup);
	g_free(update->backup);
	g_clear_pointer(&update->file, g_bytes_unref);
	g_free(update);
}

void
firn_repo_update_drop(FirnRepo *repo, FirnRepoUpdate *update)
{
	if (update != NULL)
		update_end(repo, update, true);
}

/* The new `repo` in memory.  NULL: failed. */
static GBytes *
make_file(FirnRepo *repo, FirnRepoUpdateFn fn, const char *backup, void *data,
	  FirnVersion *out_version, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info_versioned(repo, out_version, error);

	if (info == NULL || !check_online(repo, info, error) || !fn(info, backup, data, error))
		return NULL;
	return encode(repo, info, error);
}

FirnRepoUpdate *
firn_repo_update_begin(FirnRepo *repo, FirnRepoUpdateFn fn, void *data, GError **error)
{
	FirnRepoUpdate *update = g_new0(FirnRepoUpdate, 1);
	g_autofree char *name = backup_name();
	g_autofree char *backup = g_strconcat(FIRN_REPO_BACKUPS, name, NULL);
	GError *failed = NULL;

	update->file = make_file(repo, fn, name, data, &update->version, &failed);
	if (update->file != NULL &&
	    firn_store_copy(repo->store, FIRN_REPO_KEY, backup, &update->version, &failed)) {
		update->backup = g_steal_pointer(&backup);
		firn_crash_point(FIRN_CRASH_BACKED_UP);
		update->staged =
			firn_store_stage(repo->store, FIRN_REPO_KEY, update->file, &failed);
	} else if (update->file != NULL &&
		   g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT)) {
		g_clear_error(&failed);
	}
	if (failed == NULL)
		return update;
	update_end(repo, update, true);
	g_propagate_error(error, failed);
	return NULL;
}

typedef enum {
	DONE,
	LOST_RACE,
	FAILED,
} Outcome;

/* Replace `repo`, if it is still the one `update` was made from.  Ends `update`. */
static Outcome
put(FirnRepo *repo, FirnRepoUpdate *update, GError **error)
{
	Outcome outcome = LOST_RACE;
	GError *failed = NULL;
	FirnVersion written;

	if (update->staged == NULL) {
		update_end(repo, update, true);
		return LOST_RACE;
	}
	if (firn_store_put_staged(repo->store, g_steal_pointer(&update->staged), &update->version,
				  &written, &failed)) {
		firn_crash_point(FIRN_CRASH_UPDATED);
		pthread_mutex_lock(&repo->mutex);
		g_clear_pointer(&repo->info_file, g_bytes_unref);
		repo->info_file = g_bytes_ref(update->file);
		repo->info_version = written;
		pthread_mutex_unlock(&repo->mutex);
		outcome = DONE;
	} else if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT)) {
		g_error_free(failed);
	} else {
		g_propagate_error(error, failed);
		outcome = FAILED;
	}
	/* Only a lost race is known to have changed nothing: else the backup may be in use. */
	update_end(repo, update, outcome == LOST_RACE);
	return outcome;
}

/* ---- until it is done ---- */

bool
firn_repo_update_end(FirnRepo *repo, FirnRepoUpdate *update, FirnRepoUpdateFn fn, void *data,
		     GError **error)
{
	for (unsigned try = 0; try < MAX_TRIES; try++) {
		Outcome outcome;

		pause_before(try);
		if (update == NULL)
			update = firn_repo_update_begin(repo, fn, data, error);
		if (update == NULL)
			return false;
		outcome = put(repo, g_steal_pointer(&update), error);
		if (outcome != LOST_RACE)
			return outcome == DONE;
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s: other writers were faster %d times in a row; try again",
		    firn_repo_url(repo), MAX_TRIES);
	return false;
}

bool
firn_repo_update(FirnRepo *repo, FirnRepoUpdateFn fn, void *data, GError **error)
{
	return firn_repo_check_writable(repo, error) &&
	       firn_repo_update_end(repo, NULL, fn, data, error);
}
