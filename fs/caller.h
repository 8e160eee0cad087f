#ifndef FIRN_FS_CALLER_H
#define FIRN_FS_CALLER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Who waits for the answer to the request that this thread serves.
 *
 * The kernel holds a process that was killed until its request is answered.  It
 * tells of signals (INTERRUPT), but not which: most do not end their process,
 * which would then see a rename fail that no other file system lets fail.
 */

/* This thread serves `request`, of `len` bytes as the kernel sent them. */
void firn_caller_set(const void *request, size_t len);
/* Whether the caller has been killed.  False if nobody knows, or if the work must be done all the same. */
bool firn_caller_is_killed(void);

#endif
