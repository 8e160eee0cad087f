#include "core/view/internal.h"
#include "core/view/pack.h"

#include <unistd.h>

/* So many packs stay open when no file in them is. */
#define KEPT 32u

struct FirnPackFd {
	FirnId12 id;
	int fd;
	int refs;        /* atomic */
	uint64_t use_no; /* lock of the descriptors */
};

struct FirnPackFds {
	pthread_mutex_t lock;
	FirnPackFd *kept[KEPT]; /* each holds a reference */
	unsigned n;
	uint64_t n_uses;
};

FirnPackFds *
firn_pack_fds_new(void)
{
	FirnPackFds *fds = g_new0(FirnPackFds, 1);

	pthread_mutex_init(&fds->lock, NULL);
	return fds;
}

void
firn_pack_fds_free(FirnPackFds *fds)
{
	for (unsigned i = 0; i < fds->n; i++)
		firn_pack_fd_unref(fds->kept[i]);
	pthread_mutex_destroy(&fds->lock);
	g_free(fds);
}

FirnPackFd *
firn_pack_fd_ref(FirnPackFd *fd)
{
	__atomic_add_fetch(&fd->refs, 1, __ATOMIC_RELAXED);
	return fd;
}

void
firn_pack_fd_unref(FirnPackFd *fd)
{
	if (fd == NULL || __atomic_sub_fetch(&fd->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	close(fd->fd);
	g_free(fd);
}

bool
firn_pack_fd_is_of(const FirnPackFd *fd, const FirnId12 *id)
{
	return firn_id12_compare(&fd->id, id) == 0;
}

int
firn_pack_fd_get(const FirnPackFd *fd)
{
	return fd->fd;
}

/* The one that is kept, with a reference for the caller; NULL: none.  Lock held. */
static FirnPackFd *
find(FirnPackFds *fds, const FirnId12 *id)
{
	for (unsigned i = 0; i < fds->n; i++) {
		FirnPackFd *fd = fds->kept[i];

		if (!firn_pack_fd_is_of(fd, id))
			continue;
		fd->use_no = fds->n_uses++;
		return firn_pack_fd_ref(fd);
	}
	return NULL;
}

/* In place of the one that was not used for longest.  Lock held. */
static void
keep(FirnPackFds *fds, FirnPackFd *fd)
{
	unsigned at = fds->n;

	if (fds->n < KEPT) {
		fds->n++;
	} else {
		at = 0;
		for (unsigned i = 1; i < KEPT; i++)
			if (fds->kept[i]->use_no < fds->kept[at]->use_no)
				at = i;
		firn_pack_fd_unref(fds->kept[at]);
	}
	fd->use_no = fds->n_uses++;
	fds->kept[at] = firn_pack_fd_ref(fd);
}

FirnPackFd *
firn_pack_fd_take(FirnView *view, const FirnId12 *id, GError **error)
{
	FirnPackFds *fds = view->pack_fds;
	g_autofree char *key = NULL;
	FirnPackFd *other;
	FirnPackFd *fd;
	int opened;

	pthread_mutex_lock(&fds->lock);
	fd = find(fds, id);
	pthread_mutex_unlock(&fds->lock);
	if (fd != NULL)
		return fd;
	key = firn_content_key(id);
	opened = firn_store_open_fd(firn_repo_store(view->repo), key, error);
	if (opened < 0)
		return NULL;
	fd = g_new0(FirnPackFd, 1);
	fd->id = *id;
	fd->fd = opened;
	fd->refs = 1;
	pthread_mutex_lock(&fds->lock);
	other = find(fds, id);
	if (other == NULL)
		keep(fds, fd);
	pthread_mutex_unlock(&fds->lock);
	if (other == NULL)
		return fd;
	firn_pack_fd_unref(fd);
	return other;
}

void
firn_pack_fd_forget(FirnView *view, const FirnId12 *id)
{
	FirnPackFds *fds = view->pack_fds;
	FIRN_LOCK_SCOPE(&fds->lock);

	for (unsigned i = 0; i < fds->n; i++) {
		if (!firn_pack_fd_is_of(fds->kept[i], id))
			continue;
		firn_pack_fd_unref(fds->kept[i]);
		fds->kept[i] = fds->kept[--fds->n];
		return;
	}
}
