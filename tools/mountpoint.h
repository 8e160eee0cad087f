#ifndef FIRN_TOOLS_MOUNTPOINT_H
#define FIRN_TOOLS_MOUNTPOINT_H

#include "core/base/error.h"

#include <json-glib/json-glib.h>
#include <sys/types.h>

/* A live mount, found by its `.firn/session`. */
typedef struct {
	char *root;          /* absolute path of the mount point */
	char *inner;         /* the path it was found by, below the root; "" for the root itself */
	JsonObject *session; /* what `.firn/session` says */
} FirnMount;

void firn_mount_free(FirnMount *mount); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnMount, firn_mount_free)

/*
 * The mount `path` (NULL: the working directory) lies in: the nearest directory
 * upwards that has `.firn/session`.  Errors: NOT_FOUND (no mount there), BUSY
 * (a mount whose driver is gone; says what to do), FORMAT.  Caller owns.
 */
FirnMount *firn_mount_find(const char *path, GError **error) FIRN_MUST_USE;

/*
 * The mount of session `id`: at `mountpoint` (where it was last; NULL: unknown),
 * or moved since, among the mounts of `repository`.  NULL: none.  Caller owns.
 */
FirnMount *firn_mount_find_session(const char *id, const char *mountpoint, const char *repository);

/* Whether `path` is a mount point whose driver is gone. */
bool firn_mount_is_dead(const char *path);

/* A member of the session; "" (0) if it has none of that name and type. */
const char *firn_mount_string(const FirnMount *mount, const char *member);
int64_t firn_mount_int(const FirnMount *mount, const char *member);
bool firn_mount_is_read_only(const FirnMount *mount);

/* Path of the session's hierarchy: "MOUNT/main".  Caller owns. */
char *firn_mount_hierarchy(const FirnMount *mount, GError **error) FIRN_MUST_USE;
/* `mount->inner` below the hierarchy, "/" for its root; NULL if it is outside.  Caller owns. */
char *firn_mount_node_path(const FirnMount *mount);

/* The whole of a control file.  Caller owns. */
GBytes *firn_mount_read(const FirnMount *mount, const char *name, GError **error) FIRN_MUST_USE;

/* The whole of `path`, at most `limit` bytes.  Errors: errno's, LIMIT.  Caller owns. */
GBytes *firn_file_read(const char *path, size_t limit, GError **error) FIRN_MUST_USE;
/* Write `data` as `path` (core/base/outfile.h). */
bool firn_file_write(const char *path, GBytes *data, mode_t mode, GError **error) FIRN_MUST_USE;

#endif
