#ifndef FIRN_CORE_REPO_SHARED_H
#define FIRN_CORE_REPO_SHARED_H

#include "core/base/error.h"

/*
 * Decompressed content that the drivers of one user on a host map, each in
 * memory once for all of them: files in a directory that is the user's alone.
 *
 * A file has its name only when it is whole, is never written again, and goes
 * by unlink(2): who maps it keeps it.  Its length and checksum are compared when
 * it is mapped; what it says the caller verifies, as that of any file.  Who may
 * write the user's files can cut one off under those that map it, which
 * kills them (SIGBUS).
 *
 * Nothing needs it: where a call fails, the caller goes on without.  Any thread.
 */
typedef struct FirnShared FirnShared;

/*
 * Use `directory` (made if missing, its parent must be there), in which files may take `max_bytes`
 * in all.  When the last process that uses it has freed it, they are removed.
 * Errors: DENIED (it is a link, or somebody else's, or open to others), STORE...
 */
FirnShared *firn_shared_open(const char *directory, size_t max_bytes, GError **error) FIRN_MUST_USE;
void firn_shared_free(FirnShared *shared); /* NULL is a no-op; what is mapped stays */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnShared, firn_shared_free)

/*
 * The name of what the open file `fd` holds: another one if it is changed or replaced.  `out_size`:
 * bytes of that file.  NULL: errno.  Caller owns.
 */
char *firn_shared_name(int fd, uint64_t *out_size);

/*
 * The right to make the content of a name, which one at a time has.  It ends with the process.
 */
typedef struct FirnSharedTurn FirnSharedTurn;

/*
 * Map the content of `name`, at a multiple of 8.  Caller owns.  NULL: it is not there, and if
 * `*out_turn` is set then (caller owns), nobody else is about to make it; others that want it
 * wait for a tenth of a second.  `out_turn` NULL: only look.
 */
GBytes *firn_shared_find(FirnShared *shared, const char *name, FirnSharedTurn **out_turn);
/*
 * Memory for content of `size` bytes, to be written at `*out_memory`, at a multiple of 8.  Caller
 * owns; it is its own as long as nothing is published.  NULL: there is no room.
 */
GBytes *firn_shared_make(FirnSharedTurn *turn, size_t size, void **out_memory);
/*
 * Let that memory, which is never to be written again, be what others find.  Takes `turn`.  False:
 * it is the caller's alone.
 */
bool firn_shared_publish(FirnSharedTurn *turn, GBytes *content);
void firn_shared_turn_drop(FirnSharedTurn *turn); /* make nothing of it; NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnSharedTurn, firn_shared_turn_drop)

#endif
