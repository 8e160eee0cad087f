#ifndef FIRN_CORE_VIEW_VIEW_H
#define FIRN_CORE_VIEW_VIEW_H

#include "core/base/keep.h"
#include "core/repo/session.h"

#include <sys/stat.h>

/*
 * The view: a session's hierarchy as a tree of inodes, with POSIX semantics
 * and no FUSE in it.  Everything a mount shows but its control files.
 *
 * Inode 1 is the top: a directory that holds one name, the session's
 * hierarchy.  Inodes of base chunk files and directories are computed and need
 * no forget; all others are table entries with a look-up count.  Numbers up to
 * FIRN_INO_RESERVED are never given out (the driver's own files).
 *
 * Functions return 0 or an errno; why is in the error log (firn_view_errors).
 * Any thread.  No lock is held over I/O on the store, but for the journal's
 * own append.
 */
typedef struct FirnView FirnView;
typedef struct FirnFile FirnFile;           /* an open file */
typedef struct FirnDirStream FirnDirStream; /* an open directory */

#define FIRN_INO_TOP      1u
#define FIRN_INO_RESERVED 0xffffu

typedef struct {
	const char *name; /* of the hierarchy in the top directory, "main" */
	uid_t uid;        /* owner of everything */
	gid_t gid;
	GPtrArray
		*virtual_prefixes; /* char *: URL prefixes reading is authorised for; may be NULL */
	FirnKeep *keep;            /* borrowed: what a successor needs goes there; NULL: nowhere */
	uint32_t
		max_known; /* changed chunks that keep an inode while nobody has them open; 0: 131072 */
} FirnViewOptions;

/* Takes ownership of `session` (read-only if it has no journal); the repo is borrowed. */
FirnView *firn_view_new(FirnSession *session, const FirnViewOptions *options);
void firn_view_free(FirnView *view); /* no file may be open; frees the session too */

/*
 * What a driver that died left of its view, with the keep it had in its
 * options: made again as it was when anybody was last answered, with the same
 * inode numbers, names, open files' bytes.  Then the files that were open are
 * opened again, then firn_view_restored(): what nobody needs any more goes.
 * Takes `session` on success only, taken over as firn_view_kept() says.
 */
typedef struct {
	FirnId12 base;
	uint64_t journal_file; /* its inode; 0: read-only */
	uint64_t journal_end;  /* bytes of it that count */
	bool committing;
	uint64_t commit_seq, next_ino, next_tree, root; /* private */
	bool intended;
	FirnId12 intent;
	uint64_t intent_seq;
} FirnViewKept;
bool firn_view_kept(const FirnKept *kept, FirnViewKept *out, GError **error) FIRN_MUST_USE;
FirnView *firn_view_restore(FirnSession *session, const FirnViewOptions *options,
			    const FirnKept *kept, GError **error) FIRN_MUST_USE;
void firn_view_restored(FirnView *view);
/* Records of this kind and above are not the view's. */
#define FIRN_VIEW_KINDS 16u

/* What must be known of an open file to open it again. */
typedef struct {
	bool base; /* a chunk as the base has it, whatever became of its inode since */
	bool writable;
	pid_t pid;
	uint64_t key; /* private */
} FirnFileKept;
void firn_view_file_kept(const FirnFile *file, FirnFileKept *out);
/* Before firn_view_restored(). */
int firn_view_reopen(FirnView *view, uint64_t ino, const FirnFileKept *kept, FirnFile **out_file);

/* The session, for its constant parts (repo, directory, ids in the header). */
const FirnSession *firn_view_session(const FirnView *view);

/*
 * The read-only hierarchy of `snapshot`: attributes of its root directory (same
 * snapshot, same inode; counts as a look-up).
 */
int firn_view_snapshot_root(FirnView *view, const FirnId12 *snapshot, struct stat *out_attr);

/* ---- names ---- */

/* Counts as a look-up of the inode found; so do mkdir, create and link. */
int firn_view_lookup(FirnView *view, uint64_t parent, const char *name, struct stat *out_attr);
void firn_view_forget(FirnView *view, uint64_t ino, uint64_t n);
int firn_view_getattr(FirnView *view, uint64_t ino, FirnFile *file, struct stat *out_attr);

/* What setattr is to change. */
#define FIRN_SET_SIZE  1u
#define FIRN_SET_MTIME 2u
#define FIRN_SET_MODE  4u
#define FIRN_SET_OWNER 8u
int firn_view_setattr(FirnView *view, uint64_t ino, FirnFile *file, unsigned what,
		      const struct stat *values, struct stat *out_attr);

int firn_view_mkdir(FirnView *view, uint64_t parent, const char *name, mode_t mode,
		    struct stat *out_attr);
int firn_view_unlink(FirnView *view, uint64_t parent, const char *name);
int firn_view_rmdir(FirnView *view, uint64_t parent, const char *name);
/* `flags`: RENAME_NOREPLACE or 0; others EINVAL. */
int firn_view_rename(FirnView *view, uint64_t parent, const char *name, uint64_t new_parent,
		     const char *new_name, unsigned flags);
/* An independent copy under another inode. */
int firn_view_link(FirnView *view, uint64_t ino, uint64_t new_parent, const char *new_name,
		   struct stat *out_attr);

/* ---- files ---- */

/* `flags` as of open(2) (O_EXCL, O_TRUNC, access mode); `pid` of the caller names it in messages. */
int firn_view_create(FirnView *view, uint64_t parent, const char *name, int flags, mode_t mode,
		     pid_t pid, struct stat *out_attr, FirnFile **out_file);
int firn_view_open(FirnView *view, uint64_t ino, int flags, pid_t pid, FirnFile **out_file);
/* Never short inside the file. */
int firn_view_read(FirnView *view, FirnFile *file, void *buffer, size_t size, uint64_t offset,
		   size_t *out_size);
int firn_view_write(FirnView *view, FirnFile *file, const void *data, size_t size, uint64_t offset);
/* close(2): publish what was written. */
int firn_view_flush(FirnView *view, FirnFile *file);
/* Durable when it returns: chunk data and journal record, and all that was recorded before. */
int firn_view_fsync(FirnView *view, FirnFile *file);
/* All chunk data and the journal: fsync of a directory. */
int firn_view_fsync_all(FirnView *view);
/*
 * Without fsync, a thread does the same about a second after something changed.  Stop it for
 * good: before the session is taken from under the view.
 */
void firn_view_stop_flushing(FirnView *view);
/* Whether it is no file of the hierarchy, as those with the temporary names of tools. */
bool firn_view_file_is_scratch(FirnView *view, const FirnFile *file);
/* The handle's end; publishes what flush did not see. */
void firn_view_release(FirnView *view, FirnFile *file);
/* A descriptor whose bytes [0, size) are the file's, for passthrough; -1 if there is none.  Borrowed. */
int firn_view_file_fd(FirnFile *file);
/*
 * From its next look-up on, the chunk behind a computed number has another one;
 * what is open under the old one goes on as it was.
 */
void firn_view_renumber(FirnView *view, uint64_t ino);
/* Whether a number is a computed one: of a chunk or a chunk directory of a base. */
bool firn_view_is_computed(uint64_t ino);

/* ---- directories ---- */

int firn_view_opendir(FirnView *view, uint64_t ino, FirnDirStream **out_dir);
/*
 * Call `fn` for each entry after `offset` (0: from the start) until it returns
 * false; `next` continues after the entry.  "." and ".." included.  `attr` has
 * st_ino and st_mode's type only, unless `plus`, which makes it complete and
 * counts as a look-up of every entry `fn` took but "." and "..".
 */
typedef bool (*FirnDirFn)(const char *name, const struct stat *attr, uint64_t next, void *data);
int firn_view_readdir(FirnView *view, FirnDirStream *dir, uint64_t offset, bool plus, FirnDirFn fn,
		      void *data);
void firn_view_closedir(FirnView *view, FirnDirStream *dir);
/* What a listing that was begun needs to go on where it was (caller owns); NULL: nothing. */
GBytes *firn_view_dir_kept(FirnDirStream *dir);
void firn_view_dir_restore(FirnView *view, FirnDirStream *dir, GBytes *kept);

/* ---- extended attributes: user.firn.node, user.firn.ref, user.firn.state ---- */

/* The value (caller owns); ENODATA for a name of ours that does not apply, ENOTSUP for others. */
int firn_view_getxattr(FirnView *view, uint64_t ino, const char *name, char **out_value);
/* The names that apply, NUL-terminated one after another (caller owns). */
int firn_view_listxattr(FirnView *view, uint64_t ino, GByteArray **out_names);

/* ---- what happens to the session ---- */

/* Something the kernel must forget: an entry (name set), or an inode's attributes and pages. */
typedef struct {
	uint64_t ino;    /* parent directory, or the inode */
	char *name;      /* NULL: the inode */
	uint64_t number; /* of the view's */
} FirnInvalidation;
void firn_invalidation_free(FirnInvalidation *invalidation);
/* The kernel was told. */
void firn_view_told(FirnView *view, const FirnInvalidation *invalidation);

/* What the kernel has of a file's content is not what is in it: who is told below hears of that. */
void firn_view_forget_pages(FirnView *view, uint64_t ino);

/*
 * Who is told, outside all locks and from any thread, what the kernel must
 * forget because of something a request did (a shrink, a refused document).  Takes the array.
 */
typedef void (*FirnViewNotifyFn)(GPtrArray *invalidations, void *data);
void firn_view_set_notify(FirnView *view, FirnViewNotifyFn fn, void *data);

/*
 * Whether nobody waits any more for what this thread does, asked now and then
 * while it waits for a commit to end: such a call fails with EINTR, having done
 * nothing.  Set it before the first call; without, all are waited for.
 */
typedef bool (*FirnViewKilledFn)(void);
void firn_view_set_killed(FirnView *view, FirnViewKilledFn killed);

typedef struct {
	uint64_t last_seq;
	uint64_t n_changed_chunks; /* written or deleted */
	GPtrArray
		*nodes; /* char *: "new array /a", "changed group /g", "deleted array /b"; sorted */
	GPtrArray *pending; /* char *: paths below the hierarchy */
	GPtrArray *scratch; /* char * */
	GPtrArray *writers; /* char *: "PATH (pid N)": open for writing */
} FirnViewStatus;
FirnViewStatus *firn_view_status(FirnView *view); /* caller owns */
void firn_view_status_free(FirnViewStatus *status);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnViewStatus, firn_view_status_free)

/*
 * Begin a commit: wait up to `wait_ms` for files open for writing, then
 * refuse (BUSY, names them).  From here to _end, changes of documents wait and
 * chunks belong to the next commit.  `*out_image`: the journal to merge (caller
 * owns), `*out_seq`: up to where.  `alone`: no fork of the session is merged with it.  One at a time
 * (BUSY).
 */
bool firn_view_commit_begin(FirnView *view, unsigned wait_ms, bool alone, GBytes **out_image,
			    uint64_t *out_seq, GError **error) FIRN_MUST_USE;
/* Record, durably, that all up to the begun seq is about to become `snapshot`. */
bool firn_view_commit_intent(FirnView *view, const FirnId12 *snapshot, GError **error)
	FIRN_MUST_USE;
/*
 * `snapshot` is committed: move to it.  NULL `snapshot`: nobody says so; move if what was intended
 * is in the repository, else go on as before.  When moving fails, the next _begin does it.
 * `*out_invalidations`: what the kernel must forget, also when it fails (caller owns).
 */
bool firn_view_commit_end(FirnView *view, const FirnId12 *snapshot, GPtrArray **out_invalidations,
			  GError **error) FIRN_MUST_USE;
/* The snapshot the session is based on. */
void firn_view_base(FirnView *view, FirnId12 *out_base);
/* Drop all uncommitted changes.  BUSY while files are open for writing.  `*out_invalidations` as above. */
bool firn_view_discard(FirnView *view, GPtrArray **out_invalidations, GError **error) FIRN_MUST_USE;
/* A token for workers that start from here (caller owns). */
FirnForkToken *firn_view_fork(FirnView *view, GError **error) FIRN_MUST_USE;
/* The session's journal as of now (caller owns).  It counts as exported. */
GBytes *firn_view_image(FirnView *view);
/* The same without counting as exported, and without making anything durable: to look at. */
GBytes *firn_view_peek_image(FirnView *view);
/* Text of the last errors, newest last: "time path: reason".  Caller owns. */
char *firn_view_errors(FirnView *view);
/* Append to it; `path` may be NULL. */
void firn_view_note(FirnView *view, const char *path, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Counters since the start, for the stats file. */
typedef struct {
	uint64_t lookups, reads, read_bytes, writes, written_bytes, published, errors;
	uint64_t inodes;         /* table entries now */
	uint64_t open_files;     /* now */
	uint64_t changed_chunks; /* now */
} FirnViewStats;
void firn_view_get_stats(FirnView *view, FirnViewStats *out_stats);

#endif
