#ifndef FIRN_FS_CONTROL_H
#define FIRN_FS_CONTROL_H

#include "core/base/error.h"
#include "core/base/id.h"

#include <sys/stat.h>

/*
 * The mount's own directory `.firn`: inodes 2 to FIRN_INO_RESERVED.  Reached
 * by name, never listed in the top directory.  Functions return 0 or an errno.
 * Any thread.
 */
typedef struct FirnDriver FirnDriver;
typedef struct FirnControlFile FirnControlFile; /* an open control file */
typedef struct FirnControlDir FirnControlDir;   /* an open control directory */
typedef struct FirnCtl FirnCtl;

#define FIRN_CONTROL_NAME ".firn"
#define FIRN_CONTROL_DIR  2u /* inode */

bool firn_control_owns(uint64_t ino);

/*
 * `parent` is a control directory, or the top with the name `.firn`.  The
 * roots of other versions, which the view owns, count as looked up.
 * `*out_timeout`: how long the entry holds (s).
 */
int firn_control_lookup(FirnDriver *driver, uint64_t parent, const char *name,
			struct stat *out_attr, double *out_timeout);
/* The size of a file is that of its content as of now. */
int firn_control_getattr(FirnDriver *driver, uint64_t ino, struct stat *out_attr);

/* The content is made here and does not change while it is open. */
int firn_control_open(FirnDriver *driver, uint64_t ino, int flags, uid_t uid,
		      FirnControlFile **out_file);
/* Up to `size` bytes, none at the end.  Caller owns. */
GBytes *firn_control_read(FirnControlFile *file, size_t size, uint64_t offset);
/* `id` of its handle; `request`: as for firn_ctl_request(). */
int firn_control_write(FirnDriver *driver, uint64_t id, FirnControlFile *file, uint64_t request,
		       const char *data, size_t size);
/* What a successor needs goes into the keep; and is taken from there. */
void firn_control_keep(FirnDriver *driver, uint64_t id, FirnControlFile *file);
FirnControlFile *firn_control_restore(FirnDriver *driver, GBytes *record);
void firn_control_release(FirnControlFile *file);

int firn_control_opendir(FirnDriver *driver, uint64_t ino, FirnControlDir **out_dir);
/* Entry `index`: its name (borrowed; NULL at the end), inode and type. */
const char *firn_control_readdir(const FirnControlDir *dir, uint64_t index, struct stat *out_attr);
void firn_control_closedir(FirnControlDir *dir);

/* Note an error where the user looks for it (`.firn/errors`); returns its errno. */
int firn_control_fail(FirnDriver *driver, const char *path, GError *error);

/* What `.firn/session` says.  Caller owns. */
struct _JsonObject *firn_control_session(FirnDriver *driver);

#endif
