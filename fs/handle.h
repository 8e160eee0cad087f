#ifndef FIRN_FS_HANDLE_H
#define FIRN_FS_HANDLE_H

#include "core/view/view.h"
#include "fs/control.h"

/*
 * What the kernel has open.  Kept in a list, so that a driver that is told to
 * end while files are open can end them properly.  Any thread.
 */
typedef struct FirnHandles FirnHandles;

typedef enum {
	FIRN_HANDLE_FILE,
	FIRN_HANDLE_DIR,
	FIRN_HANDLE_CONTROL,
	FIRN_HANDLE_LISTING,
} FirnHandleKind;

typedef struct FirnHandle {
	/* Exactly one of these is set. */
	FirnFile *file;
	FirnDirStream *dir;
	FirnControlFile *control;
	FirnControlDir *listing;

	uint64_t id; /* what the kernel knows it by; never used again */
	uint64_t ino;
	bool counted;     /* by passthrough.h */
	uint64_t request; /* that opened it (firn_resend_id()) */
	bool direct; /* written past the page cache, as far as we know: who opens it must read past it */
	bool bypass; /* what the kernel does with it, until its end.  Set by firn_handles_add() */
	bool unflushed; /* the kernel says nothing of its closes */
	bool closing;   /* closed once: its end is on the way, unless it was duplicated or mapped */
	struct FirnHandle *previous, *next; /* private */
} FirnHandle;

/*
 * `keep` (NULL: none) gets what a successor needs to open them again.  No number
 * of one `generation` of drivers is one of another: the end of a handle can be
 * told twice.
 */
FirnHandles *firn_handles_new(FirnKeep *keep, unsigned generation);
/* Nothing may be open. */
void firn_handles_free(FirnHandles *handles);

/* Note a handle, copied from `what`, whose `id` is 0 unless it had one; its id goes into fuse_file_info.fh. */
FirnHandle *firn_handles_add(FirnHandles *handles, const FirnHandle *what);
/* Forget it, which frees it (not what it holds). */
void firn_handles_remove(FirnHandles *handles, FirnHandle *handle);
/* Any open one, NULL when there is none left. */
FirnHandle *firn_handles_any(FirnHandles *handles);
/* Close what it holds, and forget it. */
void firn_handle_end(FirnDriver *driver, FirnHandle *handle);

/*
 * Files written past the page cache must be read past it as well, or the
 * reader leaves pages there that the writer does not see.  Counted from
 * firn_handles_add() of a direct handle, which makes others direct that are added
 * then, to its first close or its end.
 */
bool firn_handles_is_direct(FirnHandles *handles, uint64_t ino);
/* close(2) of a file open for writing. */
void firn_handles_closed_once(FirnHandles *handles, FirnHandle *handle);
/*
 * It is about to be written to.  If what was closed was a duplicate, it is direct again; true: others
 * opened the file in between, and what they have in the page cache must go before the writer is answered.
 */
bool firn_handles_writes(FirnHandles *handles, FirnHandle *handle) FIRN_MUST_USE;
/*
 * Of files whose closes nobody hears of, made under temporary names, those that
 * were given another name since are taken for closed once.
 */
void firn_handles_find_renamed(FirnHandles *handles, FirnView *view);

/*
 * The kernel tells the end of a handle some time after close(2) returned: wait
 * for those that are on the way, up to `timeout_ms`, so that nobody is told of
 * writers that have closed their files.
 */
void firn_handles_settle(FirnHandles *handles, FirnView *view, unsigned timeout_ms);

/* By its id; NULL: there is none (it could not be opened again, or its end comes twice). */
FirnHandle *firn_handles_find(FirnHandles *handles, uint64_t id);
/* The one a request opened that is asked again; NULL: it did not get that far. */
FirnHandle *firn_handles_of_request(FirnHandles *handles, uint64_t request);

#endif
