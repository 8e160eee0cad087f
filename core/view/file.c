#include "core/view/writing.h"

#include "core/zarr/name.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Another thread's writer may give a reader one at any time. */
static FirnLeaf *
leaf_of(const FirnFile *file)
{
	return __atomic_load_n(&file->leaf, __ATOMIC_ACQUIRE);
}

static FirnFile *
file_new(FirnView *view, FirnLeaf *leaf, uint64_t ino, int flags, pid_t pid)
{
	FirnFile *file = g_new0(FirnFile, 1);

	file->ino = ino;
	file->pid = pid;
	file->fd = -1;
	file->writable = (flags & O_ACCMODE) != O_RDONLY;
	pthread_mutex_init(&file->lock, NULL);
	view->n_open_files++;
	if (leaf != NULL) {
		file->leaf = leaf;
		firn_inode_ref(&leaf->inode);
		leaf->n_open++;
		if (file->writable) {
			leaf->n_writers++;
			leaf->writer = pid;
			firn_writing_add(view, leaf);
		}
	} else {
		firn_readers_add(view, file);
	}
	return file;
}

static int
truncate_leaf(FirnView *view, FirnLeaf *leaf, uint64_t size)
{
	int failed;

	pthread_mutex_lock(&leaf->lock);
	failed = firn_leaf_truncate(view, leaf, size);
	if (failed == 0 && size == 0)
		leaf->touched = false;
	firn_keep_spool(leaf);
	pthread_mutex_unlock(&leaf->lock);
	return failed;
}

/* A new leaf of no content at a name that is free.  View lock held. */
static FirnLeaf *
make_leaf(FirnView *view, const FirnPlace *place, const char *name, const FirnRole *role,
	  mode_t mode)
{
	FirnDir *dir = firn_place_materialise(view, place);
	FirnLeafKind kind = role->kind == FIRN_LEAF_CHUNK ? FIRN_LEAF_PENDING : role->kind;
	FirnLeaf *leaf = firn_leaf_new(view, NULL, name, kind, 0);

	leaf->inode.mode = mode & 07777;
	leaf->is_lock = firn_name_classify(name, NULL) == FIRN_NAME_LOCK;
	firn_inode_link(dir, name, &leaf->inode);
	firn_inode_touch(&dir->inode);
	firn_inode_unref(view, &leaf->inode);
	return leaf;
}

int
firn_view_open_leaf(FirnView *view, FirnLeaf *leaf, int flags, pid_t pid, FirnFile **out_file)
{
	FirnContent *content = NULL;

	pthread_mutex_lock(&view->lock);
	*out_file = file_new(view, leaf, leaf->inode.ino, flags, pid);
	firn_view_unlock(view);
	pthread_mutex_lock(&leaf->lock);
	if (leaf->content != NULL)
		content = firn_content_ref(leaf->content);
	pthread_mutex_unlock(&leaf->lock);
	firn_content_open(content, *out_file);
	firn_content_unref(content);
	return 0;
}

static int
open_leaf(FirnView *view, uint64_t ino, int flags, pid_t pid, FirnFile **out_file)
{
	FirnLeaf *leaf;
	FirnContent *content = NULL;
	FirnFile *file;
	int failed = firn_chunk_take_leaf(view, ino, &leaf);

	if (failed == 0 && (flags & O_ACCMODE) != O_RDONLY && !firn_chunk_is_current(view, leaf)) {
		firn_inode_ref(&leaf->inode);
		firn_inode_unref(view, &leaf->inode);
		failed = ESTALE;
	}
	if (failed != 0)
		return failed;
	file = file_new(view, leaf, ino, flags, pid);
	if (file->writable && firn_view_is_computed(ino)) {
		view->n_edited++;
		firn_readers_follow(view, ino, leaf);
	}
	firn_view_unlock(view);
	pthread_mutex_lock(&leaf->lock);
	if (file->writable && leaf->spool == NULL && leaf->touched != (leaf->content != NULL)) {
		leaf->touched = leaf->content != NULL;
		firn_keep_spool(leaf);
	}
	content = leaf->content != NULL ? firn_content_ref(leaf->content) : NULL;
	pthread_mutex_unlock(&leaf->lock);
	if (file->writable && (flags & O_TRUNC) != 0)
		failed = truncate_leaf(view, leaf, 0);
	else
		firn_content_open(content, file);
	firn_content_unref(content);
	pthread_mutex_lock(&view->lock);
	*out_file = file;
	return failed;
}

int
firn_view_create(FirnView *view, uint64_t parent, const char *name, int flags, mode_t mode,
		 pid_t pid, struct stat *out_attr, FirnFile **out_file)
{
	FirnPlace place;
	FirnRole role;
	FirnLeaf *leaf;
	int failed;

	if (view->read_only)
		return EROFS;
	if (parent == FIRN_INO_TOP)
		return EPERM;
	failed = firn_view_lookup(view, parent, name, out_attr);
	if (failed == 0) {
		/* Somebody was faster. */
		if ((flags & O_EXCL) != 0 || S_ISDIR(out_attr->st_mode)) {
			firn_view_forget(view, out_attr->st_ino, 1);
			return (flags & O_EXCL) != 0 ? EEXIST : EISDIR;
		}
		failed = firn_view_open(view, out_attr->st_ino, flags, pid, out_file);
		if (failed != 0)
			firn_view_forget(view, out_attr->st_ino, 1);
		else if ((flags & O_TRUNC) != 0)
			out_attr->st_size = 0;
		return failed;
	}
	if (failed != ENOENT)
		return failed;
	pthread_mutex_lock(&view->lock);
	failed = firn_place_find(view, parent, &place);
	if (failed == 0)
		failed = firn_place_writable(view, &place);
	if (failed == 0 && place.dir != NULL && place.dir->inode.dead)
		failed = ENOENT;
	if (failed == 0)
		failed = firn_place_role(view, &place, name, &role);
	if (failed == 0) {
		leaf = make_leaf(view, &place, name, &role, mode);
		*out_file = file_new(view, leaf, leaf->inode.ino, flags | O_WRONLY, pid);
		firn_inode_looked_up(&leaf->inode);
		firn_attr_of_inode(view, &leaf->inode, out_attr);
	}
	firn_view_unlock(view);
	return failed;
}

/* A base chunk opened for reading needs no table entry. */
static int
open_base(FirnView *view, uint64_t ino, int flags, pid_t pid, FirnFile **out_file)
{
	FirnContent *content = NULL;
	int failed = firn_chunk_peek_base(view, ino, &content);

	if (failed != 0)
		return failed;
	if (firn_readers_have_leaf(view, ino)) {
		firn_content_unref(content);
		return open_leaf(view, ino, flags, pid, out_file);
	}
	*out_file = file_new(view, NULL, ino, flags, pid);
	(*out_file)->content = content;
	firn_view_unlock(view);
	firn_content_open(content, *out_file);
	pthread_mutex_lock(&view->lock);
	return 0;
}

int
firn_view_open_base(FirnView *view, uint64_t ino, FirnFile **out_file)
{
	int failed;

	pthread_mutex_lock(&view->lock);
	/* What was opened like that has a leaf by now if it was edited meanwhile. */
	failed = firn_readers_have_leaf(view, ino) ? open_leaf(view, ino, O_RDONLY, 0, out_file)
						   : open_base(view, ino, O_RDONLY, 0, out_file);
	firn_view_unlock(view);
	return failed;
}

void
firn_view_file_kept(const FirnFile *file, FirnFileKept *out)
{
	const FirnLeaf *leaf = leaf_of(file);

	out->base = leaf == NULL;
	out->writable = file->writable;
	out->key = leaf != NULL ? leaf->key : 0;
	out->pid = file->pid;
}

int
firn_view_open(FirnView *view, uint64_t ino, int flags, pid_t pid, FirnFile **out_file)
{
	bool writable = (flags & O_ACCMODE) != O_RDONLY;
	FirnFile *file = NULL;
	int failed;

	if (writable && view->read_only)
		return EROFS;
	pthread_mutex_lock(&view->lock);
	failed = firn_chunk_check_number(view, ino, writable);
	if (writable && firn_inode_is_snapshot(view, ino))
		failed = EROFS;
	else if (failed != 0)
		file = NULL;
	else if (!writable && !firn_readers_have_leaf(view, ino))
		failed = open_base(view, ino, flags, pid, &file);
	else
		failed = open_leaf(view, ino, flags, pid, &file);
	firn_view_unlock(view);
	if (failed != 0 && file != NULL)
		firn_view_release(view, file);
	else if (failed == 0)
		*out_file = file;
	return failed;
}

/* The path of an inode, however it is known.  Caller owns. */
static char *
path_of(FirnView *view, uint64_t ino)
{
	uint32_t coords[FIRN_MAX_RANK];
	g_autofree char *chunk = NULL;
	g_autofree char *array = NULL;
	FirnInode *inode;
	FirnSlot *slot;
	uint32_t depth = 0;
	char *path = NULL;

	pthread_mutex_lock(&view->lock);
	inode = firn_inode_find(view, ino);
	slot = inode == NULL ? firn_slot_decode(view, ino, coords, &depth) : NULL;
	if (inode != NULL) {
		path = firn_inode_path(inode);
	} else if (slot != NULL) {
		array = firn_dir_path(slot->dir);
		chunk = firn_name_format_chunk(coords, depth);
		path = g_strconcat(strcmp(array, "/") == 0 ? "" : array, "/", chunk, NULL);
	}
	firn_view_unlock(view);
	return path;
}

int
firn_view_read(FirnView *view, FirnFile *file, void *buffer, size_t size, uint64_t offset,
	       size_t *out_size)
{
	FirnLeaf *leaf = leaf_of(file);
	int failed;

	if (leaf == NULL) {
		failed = firn_content_read(file->content, file, buffer, size, offset, out_size);
	} else {
		FirnContent *content = NULL;

		/* Content is immutable: only what is being written needs the lock. */
		pthread_mutex_lock(&leaf->lock);
		if (leaf->spool == NULL && leaf->content != NULL && !leaf->lost)
			content = firn_content_ref(leaf->content);
		failed = content != NULL
				 ? 0
				 : firn_leaf_read(view, leaf, file, buffer, size, offset, out_size);
		pthread_mutex_unlock(&leaf->lock);
		if (content != NULL)
			failed = firn_content_read(content, file, buffer, size, offset, out_size);
		firn_content_unref(content);
	}
	if (failed != 0) {
		g_autofree char *path = path_of(view, file->ino);

		firn_view_note(view, path, "cannot be read: %s (why: above)", g_strerror(failed));
	}
	__atomic_add_fetch(&view->stats.reads, 1, __ATOMIC_RELAXED);
	if (failed == 0)
		__atomic_add_fetch(&view->stats.read_bytes, *out_size, __ATOMIC_RELAXED);
	return failed;
}

int
firn_view_write(FirnView *view, FirnFile *file, const void *data, size_t size, uint64_t offset)
{
	FirnLeaf *leaf = file->leaf;
	int failed;

	if (leaf == NULL || !file->writable)
		return EBADF;
	pthread_mutex_lock(&leaf->lock);
	failed = firn_leaf_write(view, leaf, data, size, offset);
	pthread_mutex_unlock(&leaf->lock);
	__atomic_add_fetch(&view->stats.writes, 1, __ATOMIC_RELAXED);
	if (failed == 0)
		__atomic_add_fetch(&view->stats.written_bytes, size, __ATOMIC_RELAXED);
	return failed;
}

static int
publish(FirnView *view, FirnLeaf *leaf, bool last)
{
	int failed;

	pthread_mutex_lock(&leaf->lock);
	failed = firn_leaf_publish(view, leaf, last);
	pthread_mutex_unlock(&leaf->lock);
	firn_view_sweep(view);
	firn_view_notify(view);
	return failed;
}

int
firn_view_flush(FirnView *view, FirnFile *file)
{
	return file->writable ? publish(view, file->leaf, false) : 0;
}

int
firn_view_fsync(FirnView *view, FirnFile *file)
{
	FirnLeaf *leaf = leaf_of(file);
	int failed;

	if (leaf == NULL || view->read_only)
		return 0;
	failed = publish(view, leaf, false);
	return failed != 0 ? failed : firn_view_fsync_all(view);
}

/* What a writer leaves: published, or else as it was before. */
static int
end_writing(FirnView *view, FirnLeaf *leaf)
{
	bool last_writer;
	int failed;

	pthread_mutex_lock(&view->lock);
	last_writer = leaf->n_writers == 1;
	firn_view_unlock(view);
	failed = publish(view, leaf, last_writer);
	if (!last_writer)
		return failed;
	pthread_mutex_lock(&leaf->lock);
	if (failed != 0)
		firn_leaf_revert(view, leaf);
	if (leaf->refused != NULL) {
		firn_content_unref(leaf->refused);
		leaf->refused = NULL;
		firn_keep_content(leaf);
	}
	pthread_mutex_unlock(&leaf->lock);
	return failed;
}

/* The end of an open file; what was written and could not be published. */
static int
release(FirnView *view, FirnFile *file)
{
	FirnLeaf *leaf;
	int failed = file->writable && file->leaf != NULL ? end_writing(view, file->leaf) : 0;

	if (file->fd >= 0)
		close(file->fd);
	firn_pack_fd_unref(file->pack);
	firn_content_unref(file->content);
	pthread_mutex_lock(&view->lock);
	view->n_open_files--;
	leaf = file->leaf;
	if (leaf == NULL) {
		firn_readers_remove(view, file);
	} else {
		leaf->n_open--;
		if (file->writable) {
			if (leaf->n_writers == 1)
				firn_writing_remove(view, leaf);
			leaf->n_writers--;
		}
		if (leaf->n_open == 0 && !leaf->inode.dead)
			firn_chunk_release_retired(view, leaf);
		if (leaf->n_open == 0 && leaf->kind == FIRN_LEAF_SCRATCH && leaf->is_lock &&
		    !leaf->inode.dead) {
			if (leaf->inode.parent != NULL)
				firn_view_invalidate(view, leaf->inode.parent->inode.ino,
						     leaf->inode.name);
			firn_inode_unlink(view, &leaf->inode);
		}
		firn_inode_unref(view, &leaf->inode);
	}
	pthread_cond_broadcast(&view->changed);
	firn_view_unlock(view);
	pthread_mutex_destroy(&file->lock);
	g_free(file);
	firn_view_sweep(view);
	firn_view_notify(view);
	return failed;
}

void
firn_view_release(FirnView *view, FirnFile *file)
{
	/* Who closed it has been told by the flush. */
	(void)release(view, file);
}

bool
firn_view_file_is_scratch(FirnView *view, const FirnFile *file)
{
	FIRN_LOCK_SCOPE(&view->lock);

	return file->leaf != NULL && file->leaf->kind == FIRN_LEAF_SCRATCH;
}

int
firn_view_file_fd(FirnFile *file)
{
	FirnContent *content = file->content;

	if (file->writable || leaf_of(file) != NULL || content == NULL || content->offset != 0 ||
	    content->kind != FIRN_CONTENT_NATIVE)
		return -1;
	return file->fd;
}

/* ---- attributes ---- */

static int
attr_of(FirnView *view, uint64_t ino, struct stat *out_attr)
{
	FirnContent *content = NULL;
	FirnLeaf *leaf;
	FirnInode *inode = firn_inode_find(view, ino);
	uint32_t coords[FIRN_MAX_RANK];
	FirnSlot *slot;
	uint32_t depth;
	int failed;

	if (inode != NULL) {
		firn_attr_of_inode(view, inode, out_attr);
		return 0;
	}
	slot = firn_slot_decode(view, ino, coords, &depth);
	if (slot == NULL)
		return ESTALE;
	if (depth < slot->rank) {
		firn_attr_of_base(view, slot->dir->tree, ino, true, 0, out_attr);
		return 0;
	}
	if (firn_chunk_is_changed(view, ino)) {
		failed = firn_chunk_take_leaf(view, ino, &leaf);
		if (failed == 0) {
			firn_inode_ref(&leaf->inode);
			firn_attr_of_inode(view, &leaf->inode, out_attr);
			firn_inode_unref(view, &leaf->inode);
		}
		return failed;
	}
	failed = firn_chunk_peek_base(view, ino, &content);
	if (failed == 0)
		firn_attr_of_base(view, slot->dir->tree, ino, false, content->length, out_attr);
	firn_content_unref(content);
	return failed;
}

int
firn_view_getattr(FirnView *view, uint64_t ino, FirnFile *file, struct stat *out_attr)
{
	int failed = 0;

	pthread_mutex_lock(&view->lock);
	if (ino == FIRN_INO_TOP)
		firn_attr_of_base(view, view->tree, ino, true, 0, out_attr);
	else if (file != NULL && file->leaf != NULL)
		firn_attr_of_inode(view, &file->leaf->inode, out_attr);
	else
		failed = attr_of(view, ino, out_attr);
	firn_view_unlock(view);
	return failed;
}

/* truncate(2): there is no close to publish at. */
static int
truncate_path(FirnView *view, uint64_t ino, uint64_t size)
{
	FirnFile *file;
	int unpublished;
	int failed = firn_view_open(view, ino, O_WRONLY, 0, &file);

	if (failed != 0)
		return failed;
	failed = truncate_leaf(view, file->leaf, size);
	unpublished = release(view, file);
	return failed != 0 ? failed : unpublished;
}

int
firn_view_setattr(FirnView *view, uint64_t ino, FirnFile *file, unsigned what,
		  const struct stat *values, struct stat *out_attr)
{
	FirnInode *inode;
	int failed = 0;

	pthread_mutex_lock(&view->lock);
	failed = view->read_only || firn_inode_is_snapshot(view, ino) ? EROFS : 0;
	if (failed == 0 && (file == NULL || file->leaf == NULL))
		failed = firn_chunk_check_number(view, ino, false);
	firn_view_unlock(view);
	if (failed == 0 && (what & FIRN_SET_SIZE) != 0) {
		if (file != NULL && file->writable && file->leaf != NULL)
			failed = truncate_leaf(view, file->leaf, (uint64_t)values->st_size);
		else
			failed = truncate_path(view, ino, (uint64_t)values->st_size);
	}
	if (failed != 0)
		return failed;
	pthread_mutex_lock(&view->lock);
	inode = file != NULL && file->leaf != NULL ? &file->leaf->inode
						   : firn_inode_find(view, ino);
	/* Base files have the snapshot's time and the mount's owner, whatever is asked. */
	if (inode != NULL && (what & FIRN_SET_MTIME) != 0)
		inode->mtime_ns =
			(int64_t)values->st_mtim.tv_sec * 1000000000 + values->st_mtim.tv_nsec;
	if (inode != NULL && (what & FIRN_SET_MODE) != 0)
		inode->mode = values->st_mode & 07777;
	if (inode != NULL)
		firn_keep_mtime(inode);
	firn_view_unlock(view);
	return firn_view_getattr(view, ino, file, out_attr);
}
