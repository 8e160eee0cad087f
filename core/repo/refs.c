#include "core/repo/refs.h"

#include "core/base/clock.h"
#include "core/base/error.h"

#include <string.h>

#define MAX_NAME       255
#define MIN_ID_PREFIX  4
#define MAX_ANCESTOR_N 1000000000u

/* ---- names ---- */

static const char *
name_fault(const char *name)
{
	size_t len = strlen(name);
	g_auto(GStrv) parts = NULL;

	if (len == 0 || len > MAX_NAME)
		return "it must have 1 to 255 bytes";
	if (!g_utf8_validate(name, (gssize)len, NULL))
		return "it is not valid UTF-8";
	for (const uint8_t *at = (const uint8_t *)name; *at != '\0'; at++)
		/* U+0080 to U+009F are control characters as well. */
		if (*at < 0x20 || *at == 0x7f || (*at == 0xc2 && at[1] < 0xa0))
			return "it has a control character";
	parts = g_strsplit(name, "/", -1);
	for (char **part = parts; *part != NULL; part++)
		if (**part == '\0' || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0)
			return "between '/' there must be something other than '.' and '..'";
	return NULL;
}

static bool
check_name(const char *what, const char *name, GError **error)
{
	const char *fault = name_fault(name);

	if (fault != NULL)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "'%s' cannot name a %s: %s",
			    name, what, fault);
	return fault == NULL;
}

/* ---- resolve ---- */

/* Upper case, and the look-alikes the official library takes for digits. */
static char *
canonical_id_text(const char *text)
{
	char *canonical = g_ascii_strup(text, -1);

	for (char *at = canonical; *at != '\0'; at++) {
		if (*at == 'O')
			*at = '0';
		else if (*at == 'I' || *at == 'L')
			*at = '1';
	}
	return canonical;
}

static bool
not_found(const char *what, const char *name, GError **error)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND, "there is no %s '%s'", what, name);
	return false;
}

static bool
resolve_snapshot(const FirnRepoInfo *info, const char *text, FirnId12 *out_id, GError **error)
{
	g_autofree char *wanted = canonical_id_text(text);
	const FirnSnapshotInfo *match = NULL;

	if (strlen(text) < MIN_ID_PREFIX) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "'%s' is too short for a snapshot id; give at least %d characters",
			    text, MIN_ID_PREFIX);
		return false;
	}
	for (guint i = 0; i < info->snapshots->len; i++) {
		const FirnSnapshotInfo *snapshot = info->snapshots->pdata[i];
		char id[FIRN_ID12_TEXT + 1];

		firn_id12_format(&snapshot->id, id);
		if (!g_str_has_prefix(id, wanted))
			continue;
		if (match != NULL) {
			g_set_error(
				error, FIRN_ERROR, FIRN_ERROR_INVALID,
				"'%s' begins the ids of several snapshots; give more characters",
				text);
			return false;
		}
		match = snapshot;
	}
	if (match == NULL)
		return not_found("snapshot", text, error);
	*out_id = match->id;
	return true;
}

static bool
resolve_ref(const FirnRefInfo *ref, const char *what, const char *name, FirnId12 *out_id,
	    GError **error)
{
	if (ref == NULL)
		return not_found(what, name, error);
	if (ref->damage != NULL) {
		g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_FORMAT, ref->damage);
		return false;
	}
	*out_id = ref->snapshot;
	return true;
}

/* Without "~N". */
static bool
resolve_plain(const FirnRepoInfo *info, const char *ref, FirnId12 *out_id, GError **error)
{
	const FirnRefInfo *found;
	GError *failed = NULL;

	if (g_str_has_prefix(ref, "branch:"))
		return resolve_ref(firn_repo_info_find_branch(info, ref + 7), "branch", ref + 7,
				   out_id, error);
	if (g_str_has_prefix(ref, "tag:"))
		return resolve_ref(firn_repo_info_find_tag(info, ref + 4), "tag", ref + 4, out_id,
				   error);
	if (g_str_has_prefix(ref, "snapshot:"))
		return resolve_snapshot(info, ref + 9, out_id, error);

	found = firn_repo_info_find_branch(info, ref);
	if (found == NULL)
		found = firn_repo_info_find_tag(info, ref);
	if (found != NULL)
		return resolve_ref(found, "ref", ref, out_id, error);
	if (strlen(ref) >= MIN_ID_PREFIX && resolve_snapshot(info, ref, out_id, &failed))
		return true;
	/* An ambiguous id is worth saying; an unknown one is as likely a mistyped branch. */
	if (failed != NULL && !g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_propagate_error(error, failed);
		return false;
	}
	g_clear_error(&failed);
	return not_found("branch, tag or snapshot", ref, error);
}

/* The parent of `id`, as far as the repo info tells. */
static const FirnSnapshotInfo *
parent_of(const FirnRepoInfo *info, const FirnSnapshotInfo *snapshot)
{
	return snapshot->has_parent ? firn_repo_info_find_snapshot(info, &snapshot->parent) : NULL;
}

static bool
walk_back(const FirnRepoInfo *info, const char *ref, uint32_t steps, FirnId12 *id, GError **error)
{
	const FirnSnapshotInfo *snapshot = firn_repo_info_find_snapshot(info, id);

	/* A history has no more steps than there are snapshots: longer ones run in a circle. */
	if (steps >= info->snapshots->len)
		snapshot = NULL;
	for (uint32_t i = 0; i < steps && snapshot != NULL; i++)
		snapshot = parent_of(info, snapshot);
	if (snapshot == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "'%s' goes back further than the history", ref);
		return false;
	}
	*id = snapshot->id;
	return true;
}

/* Cut "~N" off the end of `text`. */
static bool
cut_ancestor(char *text, uint32_t *out_steps)
{
	char *tilde = strrchr(text, '~');
	guint64 steps;

	if (tilde == NULL || tilde == text ||
	    !g_ascii_string_to_unsigned(tilde + 1, 10, 0, MAX_ANCESTOR_N, &steps, NULL))
		return false;
	*out_steps = (uint32_t)steps;
	*tilde = '\0';
	return true;
}

bool
firn_refs_resolve(const FirnRepoInfo *info, const char *ref, FirnId12 *out_id, GError **error)
{
	g_autofree char *text = g_strdup(ref);
	uint32_t total = 0;
	uint32_t steps;
	FirnId12 id;

	/* A name may itself end in "~1": as it stands comes first. */
	while (!resolve_plain(info, text, &id, NULL) && cut_ancestor(text, &steps))
		total = steps <= MAX_ANCESTOR_N - total ? total + steps : MAX_ANCESTOR_N;
	if (!resolve_plain(info, text, &id, error))
		return false;
	if (total > 0 && !walk_back(info, ref, total, &id, error))
		return false;
	*out_id = id;
	return true;
}

bool
firn_refs_resolve_as_of(const FirnRepoInfo *info, const char *branch, uint64_t time_us,
			FirnId12 *out_id, GError **error)
{
	const FirnRefInfo *ref = firn_repo_info_find_branch(info, branch);
	const FirnSnapshotInfo *snapshot;
	const FirnSnapshotInfo *oldest = NULL;
	guint left = info->snapshots->len;
	FirnId12 tip;

	if (!resolve_ref(ref, "branch", branch, &tip, error))
		return false;
	snapshot = firn_repo_info_find_snapshot(info, &tip);
	for (; snapshot != NULL && left > 0; left--) {
		if (snapshot->flushed_at <= time_us) {
			*out_id = snapshot->id;
			return true;
		}
		oldest = snapshot;
		snapshot = parent_of(info, snapshot);
	}
	g_autofree char *asked = firn_clock_format_us(time_us);
	g_autofree char *first = firn_clock_format_us(oldest != NULL ? oldest->flushed_at : 0);

	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "the branch '%s' had no snapshot at %s; its first one is of %s", branch, asked,
		    first);
	return false;
}

/* ---- changes ---- */

typedef struct {
	const char *name;
	const FirnId12 *snapshot;
	const FirnId12 *expected;
} Change;

static bool
record(FirnRepoInfo *info, FirnUpdateKind kind, const Change *change, const FirnId12 *previous,
       const char *backup_name, GError **error)
{
	g_autoptr(FirnConfig) config = firn_config_parse(info->config, error);

	if (config == NULL)
		return false;
	firn_repo_info_push_update(info, kind, change->name, previous, NULL, backup_name,
				   firn_clock_now_us(), firn_config_ops_log_length(config));
	return true;
}

static bool
check_snapshot(const FirnRepoInfo *info, const FirnId12 *id, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];

	if (firn_repo_info_find_snapshot(info, id) != NULL)
		return true;
	firn_id12_format(id, text);
	return not_found("snapshot", text, error);
}

static bool
check_flag(const FirnRepoInfo *info, uint16_t flag, const char *doing, GError **error)
{
	if (firn_repo_info_flag_enabled(info, flag))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_DENIED,
		    "%s tags is switched off in this repository (feature flag %s_tag)", doing,
		    flag == FIRN_FLAG_CREATE_TAG ? "create" : "delete");
	return false;
}

static bool
create_branch(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	const Change *change = data;

	if (!check_snapshot(info, change->snapshot, error))
		return false;
	if (!firn_repo_info_add_branch(info, change->name, change->snapshot)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "there is a branch '%s' already; move it with: firn reset",
			    change->name);
		return false;
	}
	return record(info, FIRN_UPDATE_BRANCH_CREATED, change, NULL, backup_name, error);
}

static bool
delete_branch(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	const Change *change = data;
	const FirnRefInfo *ref = firn_repo_info_find_branch(info, change->name);
	FirnId12 previous;

	if (ref == NULL)
		return not_found("branch", change->name, error);
	previous = ref->snapshot;
	return firn_repo_info_remove_branch(info, change->name) &&
	       record(info, FIRN_UPDATE_BRANCH_DELETED, change, &previous, backup_name, error);
}

static bool
reset_branch(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	const Change *change = data;
	FirnRefInfo *ref = firn_repo_info_find_branch(info, change->name);
	FirnId12 previous;
	char now[FIRN_ID12_TEXT + 1];

	if (ref == NULL)
		return not_found("branch", change->name, error);
	if (!check_snapshot(info, change->snapshot, error))
		return false;
	previous = ref->snapshot;
	if (change->expected != NULL && !firn_id12_equal(&previous, change->expected)) {
		firn_id12_format(&previous, now);
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "the branch '%s' has moved to %s meanwhile; look at its log and try "
			    "again",
			    change->name, now);
		return false;
	}
	ref->snapshot = *change->snapshot;
	return record(info, FIRN_UPDATE_BRANCH_RESET, change, &previous, backup_name, error);
}

static bool
create_tag(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	const Change *change = data;

	if (!check_flag(info, FIRN_FLAG_CREATE_TAG, "creating", error) ||
	    !check_snapshot(info, change->snapshot, error))
		return false;
	if (firn_repo_info_tag_was_deleted(info, change->name)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "a tag '%s' was deleted, and the name of a tag is never used again; "
			    "choose another",
			    change->name);
		return false;
	}
	if (!firn_repo_info_add_tag(info, change->name, change->snapshot)) {
		g_set_error(
			error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			"there is a tag '%s' already, and tags do not move; choose another name",
			change->name);
		return false;
	}
	return record(info, FIRN_UPDATE_TAG_CREATED, change, NULL, backup_name, error);
}

static bool
delete_tag(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	const Change *change = data;
	const FirnRefInfo *ref = firn_repo_info_find_tag(info, change->name);
	FirnId12 previous;

	if (!check_flag(info, FIRN_FLAG_DELETE_TAG, "deleting", error))
		return false;
	if (ref == NULL)
		return not_found("tag", change->name, error);
	previous = ref->snapshot;
	return firn_repo_info_remove_tag(info, change->name) &&
	       record(info, FIRN_UPDATE_TAG_DELETED, change, &previous, backup_name, error);
}

bool
firn_refs_create_branch(FirnRepo *repo, const char *name, const FirnId12 *snapshot, GError **error)
{
	Change change = { .name = name, .snapshot = snapshot };

	return check_name("branch", name, error) &&
	       firn_repo_update(repo, create_branch, &change, error);
}

bool
firn_refs_delete_branch(FirnRepo *repo, const char *name, GError **error)
{
	Change change = { .name = name };

	if (strcmp(name, "main") == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "the branch 'main' cannot be deleted: every repository has one");
		return false;
	}
	return firn_repo_update(repo, delete_branch, &change, error);
}

bool
firn_refs_reset_branch(FirnRepo *repo, const char *name, const FirnId12 *snapshot,
		       const FirnId12 *expected, GError **error)
{
	Change change = { .name = name, .snapshot = snapshot, .expected = expected };

	return firn_repo_update(repo, reset_branch, &change, error);
}

bool
firn_refs_create_tag(FirnRepo *repo, const char *name, const FirnId12 *snapshot, GError **error)
{
	Change change = { .name = name, .snapshot = snapshot };

	return check_name("tag", name, error) && firn_repo_update(repo, create_tag, &change, error);
}

bool
firn_refs_delete_tag(FirnRepo *repo, const char *name, GError **error)
{
	Change change = { .name = name };

	return firn_repo_update(repo, delete_tag, &change, error);
}
