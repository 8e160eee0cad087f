#include "tools/target.h"

#include "tools/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void
firn_target_free(FirnTarget *target)
{
	if (!target)
		return;
	firn_mount_free(target->mount);
	firn_repo_info_free(target->info);
	firn_repo_free(target->repo);
	g_free(target->inner);
	g_free(target);
}

static FirnTarget *
open_target(const char *name, FirnMount *mount, GError **error)
{
	FirnTarget *target = g_new0(FirnTarget, 1);

	target->mount = mount;
	target->repo = mount ? firn_source_open_repo(firn_mount_string(mount, "repository"),
						     mount->root, "instead", error)
			     : firn_repo_open(name, error);
	if (target->repo)
		target->info = firn_repo_read_info(target->repo, error);
	if (!target->info) {
		firn_target_free(target);
		return NULL;
	}
	if (mount && *mount->inner)
		target->inner = firn_mount_node_path(mount);
	return target;
}

FirnTarget *
firn_target_open(FirnCli *cli, int argc, char **argv, int *out_next, int *out_exit)
{
	g_autoptr(GError) error = NULL;
	const char *name = argc > 1 ? argv[1] : NULL;
	/* What cannot be looked at may be another user's mount. */
	bool is_path = name && (strstr(name, "://") || access(name, F_OK) == 0 || errno == EACCES);
	FirnMount *mount = NULL;
	FirnTarget *target;

	if (!is_path || !strstr(name, "://"))
		mount = firn_mount_find(is_path ? name : NULL, &error);
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND))
		g_clear_error(&error);
	if (!mount && !name && !error) {
		*out_exit = firn_cli_usage(cli, "which repository or mount? (the working "
						"directory is not in a mount)");
		return NULL;
	}
	target = error ? NULL : open_target(name, mount, &error);
	if (!target) {
		*out_exit = firn_cli_fail(cli, error);
		return NULL;
	}
	*out_next = is_path || !mount ? 2 : 1;
	return target;
}

bool
firn_target_resolve(const FirnTarget *target, const char *ref, FirnId12 *out_id, GError **error)
{
	const FirnRefInfo *branch;

	if (ref)
		return firn_refs_resolve(target->info, ref, out_id, error);
	if (target->mount) {
		const char *base = firn_mount_string(target->mount, "base");

		if (firn_id12_parse(base, strlen(base), out_id))
			return true;
	}
	branch = firn_repo_info_find_branch(target->info, "main");
	if (!branch && target->info->branches->len == 1)
		branch = g_ptr_array_index(target->info->branches, 0);
	if (!branch) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s has no branch 'main': say which with -b",
			    firn_repo_url(target->repo));
		return false;
	}
	*out_id = branch->snapshot;
	return true;
}

FirnSnapshot *
firn_target_snapshot(const FirnTarget *target, const char *ref, GError **error)
{
	FirnId12 id;

	if (!firn_target_resolve(target, ref, &id, error))
		return NULL;
	return firn_repo_get_snapshot(target->repo, &id, error);
}
