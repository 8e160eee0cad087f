#include "core/repo/taken.h"

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/repo/repo_internal.h"
#include "core/repo/state.h"

#include <string.h>

#define PREFIX "firn/taken/"

static void
taken_free(gpointer data)
{
	FirnTaken *taken = data;

	firn_journal_header_free(taken->header);
	g_free(taken);
}

GPtrArray *
firn_taken_new(void)
{
	return g_ptr_array_new_with_free_func(taken_free);
}

void
firn_taken_add(GPtrArray *taken, const FirnSection *section)
{
	const char *fork = section->header->fork;
	FirnTaken *one;
	FirnId12 id;

	if (fork == NULL || !firn_id12_parse(fork, strlen(fork), &id))
		return;
	one = g_new0(FirnTaken, 1);
	one->header = firn_journal_header_copy(section->header);
	one->last_seq = section->last_seq;
	g_ptr_array_add(taken, one);
}

/* Where it is published.  Caller owns. */
static char *
journal_key(const FirnTaken *taken)
{
	char session[FIRN_ID12_TEXT + 1];

	firn_id12_format(&taken->header->session, session);
	return firn_fork_journal_key(taken->header->fork, session);
}

static char *
note_key(const FirnId12 *snapshot)
{
	char id[FIRN_ID12_TEXT + 1];

	firn_id12_format(snapshot, id);
	return g_strconcat(PREFIX, id, NULL);
}

/* ---- before the commit ---- */

/* Those that are published, as a journal; `*out_image` NULL: there are none. */
static bool
note_image(FirnStore *store, GPtrArray *taken, GBytes **out_image, GError **error)
{
	g_autoptr(FirnChanges) nothing = firn_changes_new();
	FirnJournalImage image = { NULL, 0, 0 };
	bool ok = true, any = false;

	*out_image = NULL;
	for (guint i = 0; ok && i < taken->len; i++) {
		const FirnTaken *one = g_ptr_array_index(taken, i);
		g_autofree char *key = journal_key(one);
		bool exists = false;

		ok = firn_store_stat(store, key, &exists, NULL, NULL, error);
		if (ok && exists)
			ok = any = firn_journal_image_add(&image, one->header, nothing,
							  one->last_seq, error);
	}
	if (ok && any)
		*out_image = firn_journal_image_end(&image);
	firn_journal_image_clear(&image);
	return ok;
}

bool
firn_taken_note(FirnRepo *repo, const FirnId12 *snapshot, GPtrArray *taken, bool *out_noted,
		GError **error)
{
	FirnStore *store = firn_repo_store(repo);
	g_autofree char *key = note_key(snapshot);
	g_autoptr(GBytes) image = NULL;

	*out_noted = false;
	if (!note_image(store, taken, &image, error))
		return false;
	if (image == NULL)
		return true;
	/* A put that fails may have given it its name, only not durably. */
	*out_noted = true;
	return firn_store_put(store, key, image, FIRN_PUT_ANY, NULL, NULL, error);
}

/* ---- after it ---- */

bool
firn_taken_forget(FirnStore *store, const FirnId12 *snapshot, GError **error)
{
	g_autofree char *key = note_key(snapshot);

	return firn_store_remove(store, key, error);
}

bool
firn_taken_remove(FirnStore *store, const FirnTaken *taken, GError **error)
{
	g_autofree char *key = journal_key(taken);
	g_autoptr(GPtrArray) published = NULL;
	const FirnSection *last;
	bool exists = false;

	if (!firn_store_stat(store, key, &exists, NULL, NULL, error))
		return false;
	published = exists ? firn_fork_read(store, key, error) : NULL;
	if (published == NULL || published->len == 0)
		return !exists;
	last = g_ptr_array_index(published, published->len - 1);
	return last->last_seq != taken->last_seq || firn_store_remove(store, key, error);
}

/* ---- what commands that were killed left ---- */

static bool
in_history(const FirnRepoInfo *info, const char *key)
{
	const char *name = key + strlen(PREFIX);
	FirnId12 snapshot;

	return firn_id12_parse(name, strlen(name), &snapshot) &&
	       firn_repo_info_find_snapshot(info, &snapshot) != NULL;
}

/* Whether nobody is about to make its commit, or to do what it says. */
static bool
is_left(FirnStore *store, const FirnRepoInfo *info, const char *key)
{
	int64_t now_us = (int64_t)firn_clock_now_us(), mtime_us;
	bool exists;

	return in_history(info, key) ||
	       (firn_store_stat(store, key, &exists, NULL, &mtime_us, NULL) && exists &&
		mtime_us < now_us - FIRN_ABANDONED_US);
}

GPtrArray *
firn_taken_list(FirnStore *store, const FirnRepoInfo *info, GError **error)
{
	GPtrArray *keys = firn_store_list_keys(store, PREFIX, "", error);

	for (guint i = keys != NULL ? keys->len : 0; i-- > 0;)
		if (!is_left(store, info, g_ptr_array_index(keys, i)))
			g_ptr_array_remove_index(keys, i);
	return keys;
}

/* What a note says (FirnTaken *).  Caller owns. */
static GPtrArray *
decode_note(GBytes *note, const char *key, GError **error)
{
	g_autoptr(GPtrArray) taken = firn_taken_new();
	uint64_t torn = 0;
	g_autoptr(GPtrArray) sections = firn_journal_decode(note, key, &torn, error);

	for (guint i = 0; sections != NULL && i < sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);

		if (torn == 0 && section->sealed) {
			firn_taken_add(taken, section);
			continue;
		}
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s has no end: remove it, and what is published and committed with "
			    "'firn discard --fork'",
			    key);
		return NULL;
	}
	return sections != NULL ? g_steal_pointer(&taken) : NULL;
}

static bool
remove_noted(FirnStore *store, const char *key, GError **error)
{
	g_autoptr(GPtrArray) taken = NULL;
	g_autoptr(GBytes) note = NULL;

	if (!firn_store_get(store, key, 0, UINT64_MAX, &note, NULL, error))
		return false;
	if (note == NULL)
		return true;
	taken = decode_note(note, key, error);
	for (guint i = 0; taken != NULL && i < taken->len; i++)
		if (!firn_taken_remove(store, g_ptr_array_index(taken, i), error))
			return false;
	return taken != NULL;
}

bool
firn_taken_settle(FirnStore *store, const FirnRepoInfo *info, const char *key, GError **error)
{
	if (in_history(info, key) && !remove_noted(store, key, error))
		return false;
	return firn_store_remove(store, key, error);
}

bool
firn_taken_collect(FirnRepo *repo, GError **error)
{
	FirnStore *store = firn_repo_store(repo);
	g_autoptr(GPtrArray) keys = firn_store_list_keys(store, PREFIX, "", error);
	g_autoptr(FirnRepoInfo) info = NULL;

	if (keys == NULL || keys->len == 0)
		return keys != NULL;
	info = firn_repo_read_info(repo, error);
	for (guint i = 0; info != NULL && i < keys->len; i++) {
		const char *key = g_ptr_array_index(keys, i);

		if (is_left(store, info, key) && !firn_taken_settle(store, info, key, error))
			return false;
	}
	return info != NULL;
}
