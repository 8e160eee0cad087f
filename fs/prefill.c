#include "fs/prefill.h"

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
#include <sched.h>
#include <stdatomic.h>

/*
 * The kernel holds a page that it asks for until it is answered, and putting something there waits
 * for that without heeding signals; a driver killed then would never end.  So nothing is put where
 * a READ can be under way: an inode is filled once, before its first OPEN is answered, and who
 * opens it at the same time waits until that is done.
 */
enum {
	UNTOUCHED,
	UNDER_WAY,
	DONE,
};

/* Inodes that share a slot: all but the first opened are left to READ. */
#define N_SLOTS (UINT32_C(1) << 20)

struct FirnPrefill {
	atomic_uint_least64_t n_filled;
	atomic_uchar slots[N_SLOTS];
};

FirnPrefill *
firn_prefill_new(void)
{
	/* Pages of slots that are never used take no memory. */
	return g_new0(FirnPrefill, 1);
}

void
firn_prefill_free(FirnPrefill *prefill)
{
	g_free(prefill);
}

uint64_t
firn_prefill_count(const FirnPrefill *prefill)
{
	return prefill ? atomic_load(&prefill->n_filled) : 0;
}

/* True: the caller is the first, and must end with DONE. */
static bool
begin(atomic_uchar *slot)
{
	unsigned char found = UNTOUCHED;

	if (atomic_compare_exchange_strong(slot, &found, UNDER_WAY))
		return true;
	while (found == UNDER_WAY) {
		sched_yield();
		found = atomic_load(slot);
	}
	return false;
}

static bool
fill(struct fuse_session *fuse, FirnView *view, uint64_t ino, FirnFile *file, size_t limit)
{
	struct fuse_bufvec content = FUSE_BUFVEC_INIT(0);
	g_autofree char *buffer = NULL;
	struct stat attr;
	size_t len;

	if (firn_view_getattr(view, ino, file, &attr) || attr.st_size <= 0 ||
	    (uint64_t)attr.st_size >= limit)
		return false;
	buffer = g_try_malloc((size_t)attr.st_size);
	/* What is short or damaged is for READ to say. */
	if (!buffer || firn_view_read(view, file, buffer, (size_t)attr.st_size, 0, &len) ||
	    len != (size_t)attr.st_size)
		return false;
	content.buf[0].mem = buffer;
	content.buf[0].size = len;
	return fuse_lowlevel_notify_store(fuse, ino, 0, &content, (enum fuse_buf_copy_flags)0) == 0;
}

void
firn_prefill(FirnPrefill *prefill, struct fuse_session *fuse, FirnView *view, uint64_t ino,
	     FirnFile *file, size_t limit)
{
	/* Numbers that follow each other have different slots, and so have those of other arrays. */
	uint64_t hash = ino ^ (ino >> 20) * UINT64_C(0x9E3779B97F4A7C15);
	atomic_uchar *slot = &prefill->slots[hash % N_SLOTS];

	if (!begin(slot))
		return;
	if (fill(fuse, view, ino, file, limit))
		atomic_fetch_add(&prefill->n_filled, 1);
	atomic_store(slot, DONE);
}
