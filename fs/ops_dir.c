#include "fs/reply.h"
#include "fs/resend.h"
#include "fs/restore.h"

/* Requests about open directories. */

/* A reply being filled. */
typedef struct {
	fuse_req_t req;
	char *buffer;
	size_t size;
	size_t used;
	size_t n;
	bool plus;       /* entries have room for attributes */
	bool attributes; /* and have them */
} Listing;

static bool
is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

static bool
add_entry(const char *name, const struct stat *attr, uint64_t next, void *data)
{
	Listing *listing = data;
	char *at = listing->buffer + listing->used;
	size_t room = listing->size - listing->used;
	struct fuse_entry_param entry;
	size_t needed;

	if (!listing->plus) {
		needed = fuse_add_direntry(listing->req, at, room, name, attr, (off_t)next);
	} else {
		entry = firn_entry(attr, FIRN_FOREVER);
		/* No look-up: the kernel knows where it is; and our own files come and go. */
		if (!listing->attributes || is_dots(name) || firn_control_owns(attr->st_ino))
			entry.ino = 0;
		needed = fuse_add_direntry_plus(listing->req, at, room, name, &entry, (off_t)next);
	}
	if (needed > room)
		return false;
	listing->used += needed;
	listing->n++;
	return true;
}

static void
opendir_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle what = { .ino = ino, .request = firn_resend_id() };
	FirnHandle *handle = firn_opened_before(driver);
	int errnum = 0;

	if (handle)
		what = *handle;
	else if (firn_control_owns(ino))
		errnum = firn_control_opendir(driver, ino, &what.listing);
	else
		errnum = firn_view_opendir(driver->view, ino, &what.dir);
	if (errnum)
		return (void)fuse_reply_err(req, errnum);
	if (!handle)
		handle = firn_handles_add(driver->handles, &what);
	fi->fh = handle->id;
	if (fuse_reply_open(req, fi))
		firn_handle_end(driver, handle);
}

static void
fill_control(const FirnControlDir *dir, uint64_t offset, Listing *listing)
{
	struct stat attr;
	const char *name;

	while ((name = firn_control_readdir(dir, offset, &attr))) {
		offset++;
		if (!add_entry(name, &attr, offset, listing))
			break;
	}
}

static int
fill_from_view(FirnDriver *driver, FirnHandle *handle, uint64_t offset, Listing *listing)
{
	int errnum;

	listing->attributes =
		listing->plus && firn_advice_wants_attributes(&driver->advice, handle->ino);
	errnum = firn_view_readdir(driver->view, handle->dir, offset, listing->attributes,
				   add_entry, listing);
	if (listing->attributes)
		firn_advice_told(&driver->advice, listing->n);
	return errnum;
}

/* So that a successor goes on in the same list. */
static void
keep_names(FirnDriver *driver, FirnHandle *handle)
{
	FirnKeep *keep = driver->succession.keep;
	g_autoptr(GBytes) names = keep ? firn_view_dir_kept(handle->dir) : NULL;
	gsize len;
	const void *data;

	if (!names)
		return;
	data = g_bytes_get_data(names, &len);
	firn_keep_put_now(keep, FIRN_KEPT_NAMES, handle->id, data, len);
}

static void
read_directory(fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	FirnDriver *driver = firn_driver_of(req);
	FirnHandle *handle = firn_handle_of(req, fi);
	Listing listing = { .req = req, .buffer = g_try_malloc(size), .size = size, .plus = plus };
	int errnum = 0;

	if (!handle)
		errnum = EIO;
	else if (!listing.buffer)
		errnum = ENOMEM;
	else if (handle->listing)
		fill_control(handle->listing, (uint64_t)offset, &listing);
	else
		errnum = fill_from_view(driver, handle, (uint64_t)offset, &listing);
	if (!errnum && offset == 0 && handle->dir)
		keep_names(driver, handle);
	/* Entries that were taken were looked up: they must reach the kernel. */
	if (errnum && !listing.used)
		fuse_reply_err(req, errnum);
	else
		fuse_reply_buf(req, listing.buffer, listing.used);
	g_free(listing.buffer);
}

static void
readdir_(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)ino;
	read_directory(req, size, offset, fi, false);
}

static void
readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)ino;
	read_directory(req, size, offset, fi, true);
}

static void
releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	FirnHandle *handle = firn_handle_of(req, fi);

	(void)ino;
	if (handle)
		firn_handle_end(firn_driver_of(req), handle);
	fuse_reply_err(req, 0);
}

static void
fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
	(void)data_only;
	(void)fi;
	fuse_reply_err(req,
		       firn_control_owns(ino) ? 0 : firn_view_fsync_all(firn_driver_of(req)->view));
}

void
firn_ops_dir(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = opendir_;
	ops->readdir = readdir_;
	ops->readdirplus = readdirplus;
	ops->releasedir = releasedir;
	ops->fsyncdir = fsyncdir;
}
