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

/* Back `repo` up and replace it, if it still has `version`. */
static bool
replace(FirnRepo *repo, const FirnVersion *version, const char *backup, GBytes *file,
	GError **error)
{
	g_autofree char *key = g_strconcat(FIRN_REPO_BACKUPS, backup, NULL);
	GError *failed = NULL;
	FirnVersion written;

	if (!firn_store_copy(repo->store, FIRN_REPO_KEY, key, version, error))
		return false;
	firn_crash_point(FIRN_CRASH_BACKED_UP);
	if (firn_store_put(repo->store, FIRN_REPO_KEY, file, FIRN_PUT_IF_MATCH, version, &written,
			   &failed)) {
		firn_crash_point(FIRN_CRASH_UPDATED);
		FIRN_LOCK_SCOPE(&repo->mutex);

		g_clear_pointer(&repo->info_file, g_bytes_unref);
		repo->info_file = g_bytes_ref(file);
		repo->info_version = written;
		return true;
	}
	/* Only a lost race is known to have changed nothing: else the backup may be in use. */
	if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT))
		firn_repo_discard(repo->store, key);
	g_propagate_error(error, failed);
	return false;
}

typedef enum {
	DONE,
	LOST_RACE,
	FAILED,
} Outcome;

static Outcome
try_update(FirnRepo *repo, FirnRepoUpdateFn fn, void *data, GError **error)
{
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autofree char *backup = backup_name();
	g_autoptr(GBytes) file = NULL;
	GError *failed = NULL;
	FirnVersion version;

	info = firn_repo_read_info_versioned(repo, &version, error);
	if (info == NULL || !check_online(repo, info, error) || !fn(info, backup, data, error))
		return FAILED;
	file = encode(repo, info, error);
	if (file == NULL)
		return FAILED;
	if (replace(repo, &version, backup, file, &failed))
		return DONE;
	if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_CONFLICT)) {
		g_error_free(failed);
		return LOST_RACE;
	}
	g_propagate_error(error, failed);
	return FAILED;
}

bool
firn_repo_update(FirnRepo *repo, FirnRepoUpdateFn fn, void *data, GError **error)
{
	if (!firn_repo_check_writable(repo, error))
		return false;
	for (unsigned try = 0; try < MAX_TRIES; try++) {
		Outcome outcome;

		pause_before(try);
		outcome = try_update(repo, fn, data, error);
		if (outcome != LOST_RACE)
			return outcome == DONE;
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
		    "%s: other writers were faster %d times in a row; try again",
		    firn_repo_url(repo), MAX_TRIES);
	return false;
}
