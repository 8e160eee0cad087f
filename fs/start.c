#include "fs/start.h"

#include "core/base/clock.h"
#include "core/repo/refs.h"
#include "fs/restore.h"

#include <string.h>
#include <unistd.h>

#define SHARED_MEMORY "/dev/shm"

/* Where this user's drivers share manifests. */
static bool
share_manifests(FirnDriver *driver, GError **error)
{
	const FirnOptions *options = driver->options;
	g_autofree char *directory = NULL;
	GError *failed = NULL;
	FirnShared *shared;

	if (options->cache_dir && !strcmp(options->cache_dir, "off"))
		return true;
	directory = g_strdup_printf("%s/firn-%u",
				    options->cache_dir ? options->cache_dir : SHARED_MEMORY,
				    (unsigned)geteuid());
	shared = firn_shared_open(directory,
				  options->cache_bytes ? options->cache_bytes
						       : FIRN_REPO_CACHE_BYTES,
				  &failed);
	if (shared) {
		firn_repo_share_manifests(driver->repo, shared);
		return true;
	}
	if (options->cache_dir) {
		g_propagate_prefixed_error(error, failed, "cache_dir=%s: ", options->cache_dir);
		return false;
	}
	/* Nobody asked for it: each has its own then. */
	g_info("%s", failed->message);
	g_error_free(failed);
	return true;
}

static bool
open_repository(FirnDriver *driver, const char *url, GError **error)
{
	driver->repo = firn_repo_open(url, error);
	if (!driver->repo)
		return false;
	if (driver->options->cache_bytes)
		firn_repo_set_cache_size(driver->repo, driver->options->cache_bytes);
	return share_manifests(driver, error);
}

/* The repository that `who` names, unless another place was given. */
static bool
open_repository_of(FirnDriver *driver, const char *who, const char *url, GError **error)
{
	GError *failed = NULL;

	if (driver->options->repository)
		return open_repository(driver, driver->options->repository, error);
	if (open_repository(driver, url, &failed))
		return true;
	if (!g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND)) {
		g_propagate_error(error, failed);
		return false;
	}
	g_error_free(failed);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "%s is of the repository %s, and there is none (any more): if it was moved, "
		    "name its new place before the mount point",
		    who, url);
	return false;
}

static bool
start_fork(FirnDriver *driver, const char *state_root, GError **error)
{
	const FirnOptions *options = driver->options;
	g_autofree char *json = NULL;
	g_autoptr(GError) failure = NULL;
	g_autoptr(FirnForkToken) token = NULL;

	if (!g_file_get_contents(options->fork, &json, NULL, &failure)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND, "cannot read the token: %s",
			    failure->message);
		return false;
	}
	token = firn_fork_token_from_json(json, options->fork, error);
	if (!token)
		return false;
	if (!open_repository_of(driver, options->fork, token->start->repository, error))
		return false;
	driver->session = firn_session_start_fork(driver->repo, token, state_root, error);
	return driver->session != NULL;
}

static bool
start_resume(FirnDriver *driver, const char *state_root, GError **error)
{
	const FirnOptions *options = driver->options;
	g_autoptr(FirnSessionInfo) info = firn_state_find(state_root, options->resume, error);

	if (!info)
		return false;
	if (!options->repository && (!info->repository || !*info->repository)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "session %s does not say which repository it belongs to: "
			    "name the repository as well",
			    options->resume);
		return false;
	}
	if (!open_repository_of(driver, options->resume, info->repository, error))
		return false;
	driver->session = firn_session_resume(driver->repo, info, error);
	return driver->session != NULL;
}

static bool
start_branch(FirnDriver *driver, const char *state_root, GError **error)
{
	const FirnOptions *options = driver->options;

	if (!open_repository(driver, options->repository, error))
		return false;
	driver->session =
		firn_session_start(driver->repo, options->branch ? options->branch : "main",
				   state_root, error);
	return driver->session != NULL;
}

/* ---- read-only ---- */

/* The snapshot asked for; `*out_name`: of the hierarchy (caller owns). */
static bool
resolve(FirnDriver *driver, FirnId12 *out_id, char **out_name, GError **error)
{
	const FirnOptions *options = driver->options;
	const char *branch = options->branch ? options->branch : "main";
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(driver->repo, error);
	g_autofree char *ref = NULL;
	char id[FIRN_ID12_TEXT + 1];

	if (!info)
		return false;
	if (options->as_of) {
		if (!firn_refs_resolve_as_of(info, branch, options->as_of_us, out_id, error))
			return false;
		firn_id12_format(out_id, id);
		*out_name = g_strdup(id);
		return true;
	}
	ref = options->tag        ? g_strconcat("tag:", options->tag, NULL)
	      : options->snapshot ? g_strconcat("snapshot:", options->snapshot, NULL)
				  : g_strconcat("branch:", branch, NULL);
	if (!firn_refs_resolve(info, ref, out_id, error))
		return false;
	firn_id12_format(out_id, id);
	*out_name = g_strdup(options->tag ? options->tag : options->snapshot ? id : branch);
	if (!options->tag && !options->snapshot)
		driver->branch = g_strdup(branch);
	return true;
}

static bool
start_read_only(FirnDriver *driver, char **out_name, GError **error)
{
	g_autoptr(FirnSnapshot) snapshot = NULL;
	FirnId12 id;

	if (!open_repository(driver, driver->options->repository, error) ||
	    !resolve(driver, &id, out_name, error))
		return false;
	snapshot = firn_repo_get_snapshot(driver->repo, &id, error);
	if (!snapshot)
		return false;
	driver->base = id;
	driver->session = firn_session_read_only(driver->repo, snapshot);
	return true;
}

/* ---- all ---- */

static bool
start_writable(FirnDriver *driver, GError **error)
{
	const FirnOptions *options = driver->options;
	g_autofree char *state_root = firn_state_root(options->state_dir);
	const FirnJournalHeader *header;
	char id[FIRN_ID12_TEXT + 1];
	bool ok;

	if (options->fork)
		ok = start_fork(driver, state_root, error);
	else if (options->resume)
		ok = start_resume(driver, state_root, error);
	else
		ok = start_branch(driver, state_root, error);
	if (!ok)
		return false;
	header = driver->session->header;
	firn_id12_format(&driver->session->id, id);
	driver->session_id = g_strdup(id);
	driver->branch = *header->branch ? g_strdup(header->branch) : NULL;
	driver->fork_of = g_strdup(header->fork);
	driver->base = header->base;
	return true;
}

static bool
record_start(FirnDriver *driver, GError **error)
{
	g_autoptr(FirnSessionInfo) info = firn_state_read_info(driver->session->directory, error);

	if (!info)
		return false;
	g_free(info->mountpoint);
	info->mountpoint = g_strdup(driver->options->mountpoint);
	g_free(info->mode);
	info->mode = g_strdup("rw");
	info->pid = firn_driver_pid(driver);
	info->restarts = 0;
	return firn_state_write_info(info, error);
}

static char *
hierarchy_name(const FirnDriver *driver, const char *from)
{
	if (driver->options->name)
		return g_strdup(driver->options->name);
	return g_strdelimit(g_strdup(from ? from : "main"), "/", '_');
}

bool
firn_start_open(FirnDriver *driver, GError **error)
{
	const FirnOptions *options = driver->options;
	bool read_only = firn_options_are_read_only(options);
	g_autofree char *named_after = NULL;
	FirnViewOptions view_options = { .virtual_prefixes = options->virtual_prefixes,
					 .keep = driver->succession.keep,
					 .max_known = options->max_inodes };

	driver->uid = view_options.uid = getuid();
	driver->gid = view_options.gid = getgid();
	driver->started_us = firn_clock_now_us();
	if (read_only ? !start_read_only(driver, &named_after, error)
		      : !start_writable(driver, error) || !record_start(driver, error))
		return false;
	driver->name = hierarchy_name(driver, named_after ? named_after : driver->branch);
	view_options.name = driver->name;
	driver->view = firn_view_new(driver->session, &view_options);
	firn_restore_keep_driver(driver);
	return true;
}
