#include "core/base/clock.h"
#include "core/repo/fsck_priv.h"
#include "core/repo/repo_internal.h"
#include "core/repo/taken.h"

#include <string.h>

/*
 * What killed writers leave that no collection of objects looks at: temporary
 * files, a second name of `repo` whose update never came, and journals of workers
 * that a commit took and did not remove.
 */

typedef struct {
	int64_t now_us;
	GPtrArray *old; /* char *: keys */
} Leftovers;

static bool
repair(FirnFsck *f, const char *key)
{
	return f->options->repair && firn_store_remove(f->store, key, NULL);
}

static void
report(FirnFsck *f, const char *key, const char *what, bool removed)
{
	FirnFsckAbout about = { .kind = "leftover",
				.object = key,
				.remedy = "firn fsck --repair removes it" };
	GPtrArray *findings = f->report->findings;
	guint before = findings->len;

	firn_fsck_find(f, &about, "%s", what);
	if (findings->len > before)
		((FirnFsckFinding *)findings->pdata[before])->repaired = removed;
}

static void
unlistable(FirnFsck *f, const char *directory, const GError *error)
{
	FirnFsckAbout about = { "unreadable", directory, NULL,
				"see to it that the directory can be listed" };

	firn_fsck_find(f, &about, "%s", error->message);
}

/* ---- temporary files ---- */

static bool
note_old(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	Leftovers *leftovers = data;

	(void)size;
	if (mtime_us < leftovers->now_us - FIRN_ABANDONED_US)
		g_ptr_array_add(leftovers->old, g_strdup(key));
	return true;
}

static void
find_temporaries(FirnFsck *f)
{
	g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func(g_free);
	Leftovers leftovers = { (int64_t)firn_clock_now_us(), old };
	g_autoptr(GError) error = NULL;

	if (!firn_store_list_temporaries(f->store, note_old, &leftovers, &error))
		return unlistable(f, "", error);
	for (guint i = 0; i < old->len; i++)
		report(f, old->pdata[i], "a writer died before the file was whole",
		       repair(f, old->pdata[i]));
}

/* ---- backups of `repo` ---- */

static FirnRepoInfo *
read_backup(FirnFsck *f, const char *name)
{
	g_autofree char *key = g_strconcat(FIRN_REPO_BACKUPS, name, NULL);
	g_autoptr(GBytes) file = NULL;

	if (!firn_store_get(f->store, key, 0, UINT64_MAX, &file, NULL, NULL) || file == NULL)
		return NULL;
	return firn_repo_info_decode(file, NULL);
}

/* The names the operations log has, to its beginning; NULL: it cannot be read so far.  Caller owns. */
static GHashTable *
logged_backups(FirnFsck *f)
{
	g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(FirnRepoInfo) earlier = NULL;
	const FirnRepoInfo *info = f->info;

	for (;;) {
		const char *before = info->repo_before_updates;
		FirnRepoInfo *next;

		for (guint i = 0; i < info->updates->len; i++) {
			const FirnUpdateInfo *update = info->updates->pdata[i];

			if (update->backup_path != NULL)
				g_hash_table_add(names, g_strdup(update->backup_path));
		}
		if (before == NULL)
			return g_steal_pointer(&names);
		/* A log that runs in a circle is not known either. */
		if (!g_hash_table_add(names, g_strdup(before)))
			return NULL;
		next = read_backup(f, before);
		if (next == NULL)
			return NULL;
		firn_repo_info_free(earlier);
		info = earlier = next;
	}
}

static bool
is_same(FirnFsck *f, const char *key, const char *other)
{
	g_autoptr(GBytes) a = NULL;
	g_autoptr(GBytes) b = NULL;

	return firn_store_get(f->store, key, 0, UINT64_MAX, &a, NULL, NULL) && a != NULL &&
	       firn_store_get(f->store, other, 0, UINT64_MAX, &b, NULL, NULL) && b != NULL &&
	       g_bytes_equal(a, b);
}

/*
 * A backup nobody names is one too many only if the update that came next made
 * the same one again: after a restoration from a copy, it may be all there is.
 */
static void
find_backups(FirnFsck *f)
{
	uint64_t now_ms = firn_clock_now_us() / 1000;
	g_autoptr(GHashTable) logged = logged_backups(f);
	g_autoptr(GPtrArray) keys = NULL;
	const char *newer = FIRN_REPO_KEY;

	if (logged == NULL)
		return;
	keys = firn_store_list_keys(f->store, FIRN_REPO_BACKUPS, "", NULL);
	/* Newest first. */
	for (guint i = 0; keys != NULL && i < keys->len; i++) {
		const char *key = keys->pdata[i];
		const char *name = key + strlen(FIRN_REPO_BACKUPS);
		uint64_t at_ms;

		if (g_hash_table_contains(logged, name))
			newer = key;
		else if (firn_repo_backup_time(name, &at_ms) &&
			 at_ms + FIRN_ABANDONED_US / 1000 < now_ms && is_same(f, key, newer))
			report(f, key,
			       "a second name of repo, whose writer died before it replaced it",
			       repair(f, key));
	}
}

/* ---- published journals ---- */

static void
find_taken(FirnFsck *f)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) keys = firn_taken_list(f->store, f->info, &error);

	if (keys == NULL)
		return unlistable(f, "firn/taken", error);
	for (guint i = 0; i < keys->len; i++) {
		const char *key = keys->pdata[i];
		FirnFsckAbout about = { "unreadable", key, NULL, "see what it says there" };
		bool done = f->options->repair && firn_taken_settle(f->store, f->info, key, &error);

		report(f, key, "a commit died before it removed journals that it had taken", done);
		if (error != NULL)
			firn_fsck_find(f, &about, "%s", error->message);
		g_clear_error(&error);
	}
}

void
firn_fsck_leftovers(FirnFsck *f)
{
	find_temporaries(f);
	if (f->spec_version < 2 || f->info == NULL)
		return;
	find_backups(f);
	find_taken(f);
}
