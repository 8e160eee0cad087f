#ifndef FIRN_FS_PREFILL_H
#define FIRN_FS_PREFILL_H

#include "core/view/view.h"

struct fuse_session;

/*
 * What OPEN brings along: the content of a small file is in the page cache before the caller has its
 * descriptor, and no READ follows.  For files that never change only (read-only mounts): what is
 * put there would hide what somebody wrote meanwhile.
 */
typedef struct FirnPrefill FirnPrefill;

FirnPrefill *firn_prefill_new(void);
void firn_prefill_free(FirnPrefill *prefill); /* NULL is a no-op */
/*
 * `file` of the inode `ino` is about to be reported open: the first time it is, put its content into
 * the page cache, if it has fewer than `limit` bytes.  What fails is left to READ.  Any thread,
 * without locks.
 */
void firn_prefill(FirnPrefill *prefill, struct fuse_session *fuse, FirnView *view, uint64_t ino,
		  FirnFile *file, size_t limit);
uint64_t firn_prefill_count(const FirnPrefill *prefill); /* files so far; NULL: 0 */

#endif
