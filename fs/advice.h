#ifndef FIRN_FS_ADVICE_H
#define FIRN_FS_ADVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/*
 * Whether listings tell attributes beside names.  Who looks at each file (`du`, `ls -l`, `rsync`)
 * is spared a LOOKUP for it; who wants names only (`find -name`, a glob) pays for inodes the kernel sets
 * up in vain, several times what the names take.  Both ask the same, so names are told until
 * files of the directory listed last are looked up one by one; each such look-up earns attributes for some
 * names to come, in whatever directory.  Zeroed is the state of a new mount.  Any thread, without
 * locks: what is lost between threads is a little of the estimate.
 */
typedef struct {
	_Atomic uint64_t
		listed; /* the directory whose names were told last without attributes; 0: none */
	_Atomic uint32_t earned; /* names to be told with attributes */
} FirnAdvice;

/* Whether a reply about the directory `ino` is to tell attributes. */
bool firn_advice_wants_attributes(FirnAdvice *advice, uint64_t ino);
/* `n` names were told with attributes. */
void firn_advice_told(FirnAdvice *advice, size_t n);
/* Something with the mode `mode` was looked up in `parent`. */
void firn_advice_looked_up(FirnAdvice *advice, uint64_t parent, mode_t mode);

#endif
