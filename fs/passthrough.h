#ifndef FIRN_FS_PASSTHROUGH_H
#define FIRN_FS_PASSTHROUGH_H

#include "core/base/base.h"

/*
 * Which open files the kernel reads by itself from the file of their chunk's
 * object.  All open files of one inode are read the same way, from the same
 * file, or the kernel refuses the later ones; so it is counted here which way
 * each goes.  Only files with computed numbers need be told of: no other can
 * be an unchanged chunk of a base.  Any thread.
 */
typedef struct FirnPassthrough FirnPassthrough;
typedef struct FirnDriver FirnDriver;

typedef enum {
	FIRN_WAY_NONE,        /* not counted */
	FIRN_WAY_REQUESTS,    /* every read is asked for (or cached) */
	FIRN_WAY_PASSTHROUGH, /* the kernel reads the object's file */
	FIRN_WAY_STALE,       /* cannot be opened under this number */
} FirnWay;

/* `driver` is borrowed.  Caller owns. */
FirnPassthrough *firn_passthrough_new(FirnDriver *driver);
/* Nothing may be open.  NULL is a no-op. */
void firn_passthrough_free(FirnPassthrough *pass);
/* The kernel can do it. */
void firn_passthrough_enable(FirnPassthrough *pass);

/*
 * A file is about to be opened for reading (`fd`: the file that holds exactly
 * its bytes and never changes, -1: there is none; borrowed) or for writing
 * (`fd` -1).  FIRN_WAY_PASSTHROUGH sets `*out_backing`.  FIRN_WAY_STALE: the
 * inode is read by the kernel, and this file cannot be; it needs another
 * number.  Anything but NONE and STALE is to be ended with
 * firn_passthrough_leave().
 */
FirnWay firn_passthrough_enter(FirnPassthrough *pass, uint64_t ino, int fd, int32_t *out_backing);
void firn_passthrough_leave(FirnPassthrough *pass, uint64_t ino);
/*
 * In a successor: an open file that was counted, and what the keep has of its
 * inode (NULL: it was read with requests).
 */
void firn_passthrough_restore(FirnPassthrough *pass, uint64_t ino, GBytes *backing);
/* The number open files of the inode are read by; 0: with requests. */
int32_t firn_passthrough_backing(FirnPassthrough *pass, uint64_t ino);
/* Whether the kernel reads open files of the inode by itself. */
bool firn_passthrough_is_read(FirnPassthrough *pass, uint64_t ino);
/* Files opened this way so far. */
uint64_t firn_passthrough_count(FirnPassthrough *pass);

#endif
