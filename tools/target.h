#ifndef FIRN_TOOLS_TARGET_H
#define FIRN_TOOLS_TARGET_H

#include "core/repo/refs.h"
#include "tools/mountpoint.h"
#include "tools/output.h"

/* What a REPO|MOUNT argument names: a repository, perhaps seen from a mount of it. */
typedef struct {
	FirnRepo *repo;
	FirnRepoInfo *info; /* as of now */
	FirnMount *mount;   /* NULL: the repository itself was named */
	char *inner; /* a node path, if a path inside a mount's hierarchy was named; else NULL */
} FirnTarget;

void firn_target_free(FirnTarget *target); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnTarget, firn_target_free)

/*
 * Open what argv[1] names, or, if that names no repository and no path, the
 * mount the working directory lies in.  `*out_next` is the index of the first
 * argument not used.  On failure the error is reported, `*out_exit` is what to
 * return, and the result NULL.
 */
FirnTarget *firn_target_open(FirnCli *cli, int argc, char **argv, int *out_next, int *out_exit);

/*
 * The snapshot `ref` means; NULL: the base of the mount, else the tip of `main`
 * or of the only branch.  Errors: firn_refs_resolve()'s, INVALID (say which branch).
 */
bool firn_target_resolve(const FirnTarget *target, const char *ref, FirnId12 *out_id,
			 GError **error) FIRN_MUST_USE;
/* The same, opened.  Caller owns. */
FirnSnapshot *firn_target_snapshot(const FirnTarget *target, const char *ref, GError **error)
	FIRN_MUST_USE;

#endif
