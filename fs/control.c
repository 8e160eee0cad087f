#include "fs/control.h"

#include "fs/content.h"
#include "fs/ctl.h"
#include "fs/driver.h"
#include "fs/restore.h"
#include "fs/versions.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/*
 * Inode numbers of a mount's own files:
 *
 *   2        .firn
 *   3..5     branches, tags, snapshots (FIRN_VERSIONS_FIRST + kind)
 *   16..     the files, in the order of the table
 *   0xffff   stands for any other version's root in listings
 */
#define FIRST_FILE   16u
#define LISTED_ENTRY FIRN_INO_RESERVED

typedef enum {
	IN_ALL,      /* every mount has it */
	IN_WRITABLE, /* only writable ones do */
} Presence;

static const struct {
	const char *name;
	mode_t mode;
	Presence presence;
	GBytes *(*make)(FirnDriver *driver, GError **error);    /* NULL: ctl */
	GBytes *(*size_of)(FirnDriver *driver, GError **error); /* something of the same size */
} files[] = {
	{ "session", 0400, IN_ALL, firn_content_session, firn_content_session },
	{ "journal", 0400, IN_WRITABLE, firn_content_journal, firn_content_journal_peek },
	{ "status", 0400, IN_ALL, firn_content_status, firn_content_status },
	{ "diff", 0400, IN_ALL, firn_content_diff, firn_content_diff },
	{ "log", 0400, IN_ALL, firn_content_log, firn_content_log },
	{ "errors", 0400, IN_ALL, firn_content_errors, firn_content_errors },
	{ "stats", 0400, IN_ALL, firn_content_stats, firn_content_stats },
	{ "ctl", 0600, IN_ALL, NULL, NULL },
};

struct FirnControlFile {
	GBytes *content; /* NULL with ctl */
	FirnCtl *ctl;
};

struct FirnControlDir {
	uint64_t ino;
	GPtrArray *names; /* char * */
};

bool
firn_control_owns(uint64_t ino)
{
	return ino > FIRN_INO_TOP && ino <= FIRN_INO_RESERVED;
}

int
firn_control_fail(FirnDriver *driver, const char *path, GError *error)
{
	int errnum = firn_error_to_errno(error);

	firn_view_note(driver->view, path, "%s", error->message);
	return errnum;
}

static bool
is_version_dir(uint64_t ino)
{
	return ino >= FIRN_VERSIONS_FIRST && ino < FIRN_VERSIONS_FIRST + FIRN_N_VERSIONS;
}

static bool
is_directory(uint64_t ino)
{
	return ino == FIRN_CONTROL_DIR || is_version_dir(ino);
}

static bool
is_present(const FirnDriver *driver, size_t index)
{
	return files[index].presence == IN_ALL || !firn_driver_is_read_only(driver);
}

/* Index into `files`; false if the inode is none of them. */
static bool
file_index(const FirnDriver *driver, uint64_t ino, size_t *out_index)
{
	if (ino < FIRST_FILE || ino - FIRST_FILE >= G_N_ELEMENTS(files) ||
	    !is_present(driver, ino - FIRST_FILE))
		return false;
	*out_index = ino - FIRST_FILE;
	return true;
}

/* Attributes without the size, which nobody can rely on for longer than it takes to ask again. */
static int
basic_attr(FirnDriver *driver, uint64_t ino, struct stat *out_attr)
{
	size_t index;
	time_t started = (time_t)(driver->started_us / G_USEC_PER_SEC);

	memset(out_attr, 0, sizeof(*out_attr));
	out_attr->st_ino = ino;
	out_attr->st_uid = driver->uid;
	out_attr->st_gid = driver->gid;
	out_attr->st_blksize = 4096;
	out_attr->st_mtim.tv_sec = out_attr->st_ctim.tv_sec = out_attr->st_atim.tv_sec = started;
	if (is_directory(ino)) {
		out_attr->st_mode = S_IFDIR | 0555;
		out_attr->st_nlink = 2;
		return 0;
	}
	if (!file_index(driver, ino, &index))
		return ENOENT;
	out_attr->st_mode = S_IFREG | files[index].mode;
	out_attr->st_nlink = 1;
	return 0;
}

int
firn_control_getattr(FirnDriver *driver, uint64_t ino, struct stat *out_attr)
{
	g_autoptr(GBytes) content = NULL;
	int errnum = basic_attr(driver, ino, out_attr);
	size_t index;

	/* rsync, tar and others copy as many bytes as this says. */
	if (!errnum && file_index(driver, ino, &index) && files[index].size_of)
		content = files[index].size_of(driver, NULL);
	if (content)
		out_attr->st_size = (off_t)g_bytes_get_size(content);
	return errnum;
}

static int
lookup_ino(const FirnDriver *driver, const char *name, uint64_t *out_ino)
{
	for (unsigned kind = 0; kind < FIRN_N_VERSIONS; kind++)
		if (!strcmp(name, firn_versions_directory(kind))) {
			*out_ino = FIRN_VERSIONS_FIRST + kind;
			return 0;
		}
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
		if (!strcmp(name, files[i].name) && is_present(driver, i)) {
			*out_ino = FIRST_FILE + i;
			return 0;
		}
	return ENOENT;
}

int
firn_control_lookup(FirnDriver *driver, uint64_t parent, const char *name, struct stat *out_attr,
		    double *out_timeout)
{
	uint64_t ino = FIRN_CONTROL_DIR;
	int errnum = 0;

	*out_timeout = 0;
	if (is_version_dir(parent))
		return firn_versions_lookup(driver, (unsigned)(parent - FIRN_VERSIONS_FIRST), name,
					    out_attr);
	if (parent == FIRN_CONTROL_DIR)
		errnum = lookup_ino(driver, name, &ino);
	else if (parent != FIRN_INO_TOP)
		errnum = ENOTDIR;
	return errnum ? errnum : basic_attr(driver, ino, out_attr);
}

int
firn_control_open(FirnDriver *driver, uint64_t ino, int flags, uid_t uid,
		  FirnControlFile **out_file)
{
	GError *error = NULL;
	GBytes *content = NULL;
	FirnCtl *ctl = NULL;
	size_t index;

	if (!file_index(driver, ino, &index))
		return is_directory(ino) ? EISDIR : ENOENT;
	if (uid != driver->uid && uid != 0)
		return EACCES;
	if (!files[index].make) {
		ctl = firn_ctl_new(driver);
	} else {
		if ((flags & O_ACCMODE) != O_RDONLY)
			return EACCES;
		content = files[index].make(driver, &error);
		if (!content) {
			int errnum = firn_control_fail(driver, files[index].name, error);

			g_error_free(error);
			return errnum;
		}
	}
	*out_file = g_new0(FirnControlFile, 1);
	(*out_file)->content = content;
	(*out_file)->ctl = ctl;
	return 0;
}

GBytes *
firn_control_read(FirnControlFile *file, size_t size, uint64_t offset)
{
	size_t len;

	if (file->ctl)
		return firn_ctl_read(file->ctl, size, offset);
	len = g_bytes_get_size(file->content);
	if (offset >= len)
		return g_bytes_new(NULL, 0);
	return g_bytes_new_from_bytes(file->content, (gsize)offset,
				      MIN(size, len - (size_t)offset));
}

int
firn_control_write(FirnDriver *driver, uint64_t id, FirnControlFile *file, uint64_t request,
		   const char *data, size_t size)
{
	if (!file->ctl)
		return EBADF;
	firn_ctl_request(file->ctl, request, data, size);
	firn_control_keep(driver, id, file);
	return 0;
}

void
firn_control_keep(FirnDriver *driver, uint64_t id, FirnControlFile *file)
{
	g_autoptr(GByteArray) out = NULL;
	gsize len;
	const void *data;

	if (!driver->succession.keep)
		return;
	out = g_byte_array_new();
	firn_keep_add(out, file->ctl != NULL);
	if (file->ctl) {
		firn_ctl_keep(file->ctl, out);
	} else {
		data = g_bytes_get_data(file->content, &len);
		firn_keep_add_bytes(out, data, len);
	}
	firn_keep_put_now(driver->succession.keep, FIRN_KEPT_CONTROL, id, out->data, out->len);
}

FirnControlFile *
firn_control_restore(FirnDriver *driver, GBytes *record)
{
	FirnKeepReader reader = firn_keep_reader(record);
	FirnControlFile *file = g_new0(FirnControlFile, 1);
	FirnSpan content;

	if (firn_keep_take(&reader) != 0) {
		file->ctl = firn_ctl_restore(driver, &reader);
		return file;
	}
	content = firn_keep_take_bytes(&reader);
	file->content = g_bytes_new(content.data, content.len);
	return file;
}

void
firn_control_release(FirnControlFile *file)
{
	g_bytes_unref(file->content);
	firn_ctl_free(file->ctl);
	g_free(file);
}

int
firn_control_opendir(FirnDriver *driver, uint64_t ino, FirnControlDir **out_dir)
{
	GPtrArray *names = NULL;
	int errnum;

	if (!is_directory(ino))
		return ENOTDIR;
	if (is_version_dir(ino)) {
		errnum = firn_versions_list(driver, (unsigned)(ino - FIRN_VERSIONS_FIRST), &names);
		if (errnum)
			return errnum;
	} else {
		names = g_ptr_array_new_with_free_func(g_free);
		for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
			if (is_present(driver, i))
				g_ptr_array_add(names, g_strdup(files[i].name));
		for (unsigned kind = 0; kind < FIRN_N_VERSIONS; kind++)
			g_ptr_array_add(names, g_strdup(firn_versions_directory(kind)));
	}
	g_ptr_array_insert(names, 0, g_strdup("."));
	g_ptr_array_insert(names, 1, g_strdup(".."));
	*out_dir = g_new0(FirnControlDir, 1);
	(*out_dir)->ino = ino;
	(*out_dir)->names = names;
	return 0;
}

static uint64_t
listed_ino(const FirnControlDir *dir, const char *name)
{
	uint64_t parent = dir->ino == FIRN_CONTROL_DIR ? FIRN_INO_TOP : FIRN_CONTROL_DIR;

	if (!strcmp(name, "."))
		return dir->ino;
	if (!strcmp(name, ".."))
		return parent;
	if (dir->ino != FIRN_CONTROL_DIR)
		return LISTED_ENTRY;
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++)
		if (!strcmp(name, files[i].name))
			return FIRST_FILE + i;
	for (unsigned kind = 0; kind < FIRN_N_VERSIONS; kind++)
		if (!strcmp(name, firn_versions_directory(kind)))
			return FIRN_VERSIONS_FIRST + kind;
	return LISTED_ENTRY;
}

const char *
firn_control_readdir(const FirnControlDir *dir, uint64_t index, struct stat *out_attr)
{
	const char *name;

	if (index >= dir->names->len)
		return NULL;
	name = g_ptr_array_index(dir->names, index);
	memset(out_attr, 0, sizeof(*out_attr));
	out_attr->st_ino = listed_ino(dir, name);
	out_attr->st_mode = out_attr->st_ino >= FIRST_FILE && out_attr->st_ino < LISTED_ENTRY
				    ? S_IFREG
				    : S_IFDIR;
	return name;
}

void
firn_control_closedir(FirnControlDir *dir)
{
	g_ptr_array_unref(dir->names);
	g_free(dir);
}
