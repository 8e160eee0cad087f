#ifndef FIRN_CORE_REPO_TAKEN_H
#define FIRN_CORE_REPO_TAKEN_H

#include "core/format/repo_info.h"
#include "core/repo/journal.h"
#include "core/repo/repo.h"

/*
 * What a commit takes of the journals that workers published is removed when
 * the commit is made.  Its command may be killed between the two: so it says
 * beforehand, in a note "firn/taken/SNAPSHOT", which journals are taken once
 * SNAPSHOT is in the history, and the next commit does what is left to do.  A
 * note is a journal: a section without changes for each that is taken.
 */
typedef struct {
	FirnJournalHeader *header;
	uint64_t last_seq; /* up to where it is taken */
} FirnTaken;

/* FirnTaken *, empty.  Caller owns. */
GPtrArray *firn_taken_new(void);
/* Add `section` (borrowed), if it is of a fork: a worker may have published it. */
void firn_taken_add(GPtrArray *taken, const FirnSection *section);

/*
 * Note durably what `snapshot`, which is about to be made, takes; `*out_noted`
 * false: nothing of it is published, so that there is no note; on failure, true:
 * there may be one, which the caller forgets.  Errors: as firn_store_put().
 */
bool firn_taken_note(FirnRepo *repo, const FirnId12 *snapshot, GPtrArray *taken, bool *out_noted,
		     GError **error) FIRN_MUST_USE;
/* Remove the note: what it says is done, or is not going to be. */
bool firn_taken_forget(FirnStore *store, const FirnId12 *snapshot, GError **error) FIRN_MUST_USE;
/*
 * Remove the published journal, unless it goes on behind what was taken, which
 * is nowhere else then.  No error if there is none.
 */
bool firn_taken_remove(FirnStore *store, const FirnTaken *taken, GError **error) FIRN_MUST_USE;

/*
 * Keys (char *, sorted) of the notes of commands that are gone: their snapshot
 * is in `info`, the history, or they are older than a day.  A command that is
 * just about to remove one minds nobody who does so too.  Caller owns.
 */
GPtrArray *firn_taken_list(FirnStore *store, const FirnRepoInfo *info, GError **error)
	FIRN_MUST_USE;
/* Do what is left to do of one of them. */
bool firn_taken_settle(FirnStore *store, const FirnRepoInfo *info, const char *key, GError **error)
	FIRN_MUST_USE;
/* All of them. */
bool firn_taken_collect(FirnRepo *repo, GError **error) FIRN_MUST_USE;

#endif
