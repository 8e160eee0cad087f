#include "core/view/internal.h"

#include <sys/stat.h>

static void
set_time(struct stat *out, int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	out->st_mtim = t;
	out->st_ctim = t;
	out->st_atim = t;
}

/* What the C library makes its buffer for listings from: at 24 bytes a name the fewer requests the better. */
#define LISTING_SIZE (256 << 10)

static void
set_common(FirnView *view, uint64_t ino, mode_t mode, uint64_t size, struct stat *out)
{
	*out = (struct stat){ 0 };
	out->st_ino = ino;
	out->st_mode = mode;
	out->st_nlink = 1;
	out->st_uid = view->uid;
	out->st_gid = view->gid;
	out->st_size = (off_t)size;
	out->st_blksize = S_ISDIR(mode) ? LISTING_SIZE : 4096;
	out->st_blocks = (blkcnt_t)((size + 511) / 512);
}

void
firn_attr_of_inode(FirnView *view, FirnInode *inode, struct stat *out)
{
	FirnLeaf *leaf = (FirnLeaf *)inode;

	set_common(view, inode->ino, (inode->directory ? S_IFDIR : S_IFREG) | inode->mode,
		   inode->directory ? 0 : leaf->size, out);
	if (inode->directory)
		out->st_nlink = 2;
	if (inode->dead)
		out->st_nlink = 0;
	set_time(out, inode->mtime_ns);
}

void
firn_attr_of_base(FirnView *view, FirnTree *tree, uint64_t ino, bool directory, uint64_t size,
		  struct stat *out)
{
	set_common(view, ino, directory ? S_IFDIR | 0755 : S_IFREG | 0644, size, out);
	if (directory)
		out->st_nlink = 2;
	set_time(out, (int64_t)(firn_snapshot_flushed_at(tree->base) * 1000));
}
