#ifndef FIRN_CORE_REPO_JOURNAL_FILE_H
#define FIRN_CORE_REPO_JOURNAL_FILE_H

#include "core/repo/journal.h"

/* Files of journals as a whole.  For the journal's own files only. */

/* To the end: a journal in a mount's .firn directory may not say its size.  Caller owns. */
GBytes *firn_journal_file_read_all(int fd, const char *path, GError **error) FIRN_MUST_USE;
/* The directory `path` is in. */
bool firn_journal_file_sync_directory(const char *path, GError **error) FIRN_MUST_USE;

#endif
