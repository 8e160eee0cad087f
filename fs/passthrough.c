#include "fs/passthrough.h"

#include "fs/channel.h"
#include "fs/restore.h"

#include <errno.h>

typedef struct {
	uint64_t ino;
	unsigned n_open;
	int32_t backing; /* 0: read with requests */
} Inode;

struct FirnPassthrough {
	FirnDriver *driver;
	pthread_mutex_t lock; /* protects all below */
	bool enabled;
	uint64_t n_opened;
	GHashTable *inodes; /* &ino -> Inode *, open ones */
};

FirnPassthrough *
firn_passthrough_new(FirnDriver *driver)
{
	FirnPassthrough *pass = g_new0(FirnPassthrough, 1);

	pass->driver = driver;
	pthread_mutex_init(&pass->lock, NULL);
	pass->inodes = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
	return pass;
}

void
firn_passthrough_free(FirnPassthrough *pass)
{
	if (pass == NULL)
		return;
	g_hash_table_unref(pass->inodes);
	pthread_mutex_destroy(&pass->lock);
	g_free(pass);
}

void
firn_passthrough_enable(FirnPassthrough *pass)
{
	FIRN_LOCK_SCOPE(&pass->lock);

	pass->enabled = true;
}

static Inode *
add(FirnPassthrough *pass, uint64_t ino, int32_t backing)
{
	Inode *inode = g_new0(Inode, 1);

	inode->ino = ino;
	inode->backing = backing;
	g_hash_table_insert(pass->inodes, &inode->ino, inode);
	return inode;
}

/* The kernel refuses an open by another number, so a successor must know this one. */
static void
keep_backing(const FirnPassthrough *pass, const Inode *inode)
{
	FirnKeep *keep = pass->driver->succession.keep;
	uint64_t number = (uint64_t)inode->backing;

	if (keep != NULL && inode->backing > 0)
		firn_keep_put_now(keep, FIRN_KEPT_BACKING, inode->ino, &number, sizeof number);
}

void
firn_passthrough_restore(FirnPassthrough *pass, uint64_t ino, GBytes *backing)
{
	FirnKeepReader reader = firn_keep_reader(backing);
	FIRN_LOCK_SCOPE(&pass->lock);
	Inode *inode = g_hash_table_lookup(pass->inodes, &ino);

	if (inode == NULL)
		inode = add(pass, ino, (int32_t)firn_keep_take(&reader));
	inode->n_open++;
}

int32_t
firn_passthrough_backing(FirnPassthrough *pass, uint64_t ino)
{
	FIRN_LOCK_SCOPE(&pass->lock);
	const Inode *inode = g_hash_table_lookup(pass->inodes, &ino);

	return inode != NULL ? inode->backing : 0;
}

FirnWay
firn_passthrough_enter(FirnPassthrough *pass, uint64_t ino, int fd, int32_t *out_backing)
{
	FIRN_LOCK_SCOPE(&pass->lock);
	Inode *inode = g_hash_table_lookup(pass->inodes, &ino);
	int32_t backing = 0;

	if (inode == NULL && fd >= 0 && pass->enabled) {
		backing = firn_channel_add_backing(pass->driver, fd);
		/* No CAP_SYS_ADMIN, or a file system the kernel does not do it on. */
		if (backing == -EPERM || backing == -ELOOP || backing == -EOPNOTSUPP)
			pass->enabled = false;
		backing = MAX(backing, 0);
	}
	if (inode == NULL) {
		inode = add(pass, ino, backing);
		keep_backing(pass, inode);
	}
	if (inode->backing > 0 && fd < 0) {
		/* Who changes what others read meanwhile may do so again: keep out of the way. */
		pass->enabled = false;
		return FIRN_WAY_STALE;
	}
	inode->n_open++;
	pass->n_opened += inode->backing > 0;
	*out_backing = inode->backing;
	return inode->backing > 0 ? FIRN_WAY_PASSTHROUGH : FIRN_WAY_REQUESTS;
}

void
firn_passthrough_leave(FirnPassthrough *pass, uint64_t ino)
{
	FIRN_LOCK_SCOPE(&pass->lock);
	Inode *inode = g_hash_table_lookup(pass->inodes, &ino);

	g_assert(inode != NULL && inode->n_open > 0);
	if (--inode->n_open > 0)
		return;
	if (inode->backing > 0 && pass->driver->succession.keep != NULL)
		firn_keep_drop_now(pass->driver->succession.keep, FIRN_KEPT_BACKING, ino);
	if (inode->backing > 0)
		firn_channel_remove_backing(pass->driver, inode->backing);
	g_hash_table_remove(pass->inodes, &ino);
}

bool
firn_passthrough_is_read(FirnPassthrough *pass, uint64_t ino)
{
	FIRN_LOCK_SCOPE(&pass->lock);
	const Inode *inode = g_hash_table_lookup(pass->inodes, &ino);

	return inode != NULL && inode->backing > 0;
}

uint64_t
firn_passthrough_count(FirnPassthrough *pass)
{
	FIRN_LOCK_SCOPE(&pass->lock);

	return pass->n_opened;
}
