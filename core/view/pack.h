#ifndef FIRN_CORE_VIEW_PACK_H
#define FIRN_CORE_VIEW_PACK_H

#include "core/view/view.h"

/*
 * Chunks of some KiB share an object, a pack: making, syncing and removing a
 * file of its own costs more than the bytes of such a chunk.  What is in a pack
 * begins behind its start, what has an object to itself begins at the start:
 * the offset tells the two apart.  Nothing in a pack is ever moved, and nothing
 * is added to one that others may know, or that somebody else began.
 */
typedef struct FirnPacks FirnPacks;
typedef struct FirnPackFd FirnPackFd;
typedef struct FirnContent FirnContent;

/* The bytes of one chunk in a chunk object. */
typedef struct {
	FirnId12 id;
	uint64_t offset; /* 0: the object is this chunk's alone */
	uint64_t length;
} FirnPart;

/* By object and offset. */
guint firn_part_hash(gconstpointer data);
gboolean firn_part_equal(gconstpointer a, gconstpointer b);
FirnPart *firn_part_copy(const FirnPart *part); /* caller owns */

/* ---- pack.c ---- */

FirnPacks *firn_packs_new(void);
void firn_packs_free(FirnPacks *packs);
/* Whether so many bytes go into a pack, if they are no inline chunk. */
bool firn_pack_takes(size_t len);
/* Add bytes to the current pack; 0, or an errno and a note.  No lock needed, any thread. */
int firn_pack_append(FirnView *view, const void *data, size_t len, FirnPart *out_part);
/* Others may know the packs made so far: none is added to or removed.  View lock held or not. */
void firn_packs_give_away(FirnView *view);
/* The current pack has got all it will get. */
void firn_packs_close(FirnView *view);
/* A content refers to the part, of a pack / no longer; true: it is garbage, and its turn has come. */
void firn_pack_use(FirnView *view, const FirnPart *part);
bool firn_pack_unuse(FirnView *view, const FirnPart *part);

typedef enum {
	FIRN_PACK_IN_USE, /* a content still refers to it: firn_pack_unuse() will tell */
	FIRN_PACK_HOLE,   /* its bytes can go */
	FIRN_PACK_EMPTY,  /* they were the last: the pack can go */
} FirnPackRest;

/* No record names the part any more, durably. */
FirnPackRest firn_pack_drop(FirnView *view, const FirnPart *part);
/* Where a chunk of `len` bytes may begin, from `offset` on. */
uint64_t firn_pack_align(uint64_t offset, uint64_t len);

/* ---- content.c ---- */

FirnContent *firn_content_new_native(FirnView *view, const FirnPart *part);
/* Where content is, and the chunk of a change, if they are NATIVE. */
FirnPart firn_content_part(const FirnContent *content);
FirnPart firn_change_part(const FirnChunkChange *change);
/* Store bytes as a new chunk, as a part of a pack or as an object; 0, or an errno and a note. */
int firn_content_store(FirnView *view, const void *data, size_t len, FirnContent **out_content);

/* ---- pack_fd.c: descriptors of the packs that are being read ---- */

typedef struct FirnPackFds FirnPackFds;

FirnPackFds *firn_pack_fds_new(void);
void firn_pack_fds_free(FirnPackFds *fds);
/* One on the object, for reading (caller owns); NULL without `error`: the store has none. */
FirnPackFd *firn_pack_fd_take(FirnView *view, const FirnId12 *id, GError **error);
FirnPackFd *firn_pack_fd_ref(FirnPackFd *fd);
void firn_pack_fd_unref(FirnPackFd *fd); /* NULL is a no-op */
bool firn_pack_fd_is_of(const FirnPackFd *fd, const FirnId12 *id);
int firn_pack_fd_get(const FirnPackFd *fd); /* borrowed */
/* The object is gone: nobody asks for it again. */
void firn_pack_fd_forget(FirnView *view, const FirnId12 *id);

/* ---- garbage.c: the end of what was replaced ---- */

/* No record names the part any more.  View lock held or not. */
void firn_view_discard_part(FirnView *view, const FirnPart *part);
/* Remove what nobody needs any more, if that is durable.  No lock held. */
void firn_view_sweep(FirnView *view);
void firn_view_remove_parts(FirnView *view, GArray *parts);

#endif
