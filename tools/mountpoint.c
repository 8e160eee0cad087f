#include "tools/mountpoint.h"

#include "core/base/outfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SESSION_LIMIT ((size_t)1 << 20)
#define JOURNAL_LIMIT ((size_t)1 << 40)
#define BLOCK         ((size_t)1 << 20)
#define MOUNT_LINE    ((size_t)3 * 4096)

void
firn_mount_free(FirnMount *mount)
{
	if (!mount)
		return;
	g_free(mount->root);
	g_free(mount->inner);
	g_clear_pointer(&mount->session, json_object_unref);
	g_free(mount);
}

GBytes *
firn_file_read(const char *path, size_t limit, GError **error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autofree uint8_t *block = NULL;
	ssize_t n = -1;

	if (fd >= 0) {
		block = g_malloc(BLOCK);
		while ((n = read(fd, block, BLOCK)) > 0 && bytes->len + (size_t)n <= limit &&
		       bytes->len < G_MAXUINT - BLOCK)
			g_byte_array_append(bytes, block, (guint)n);
	}
	if (n < 0)
		firn_error_set_errno(error, errno, "cannot read %s", path);
	else if (n > 0)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "%s is too large", path);
	if (fd >= 0)
		close(fd);
	return n == 0 ? g_byte_array_free_to_bytes(g_steal_pointer(&bytes)) : NULL;
}

bool
firn_file_write(const char *path, GBytes *data, mode_t mode, GError **error)
{
	FirnOutfile file;
	FirnSpan bytes;

	bytes.data = g_bytes_get_data(data, &bytes.len);
	return firn_outfile_open(&file, path, mode, error) &&
	       firn_outfile_end(&file, firn_outfile_write(&file, bytes, error), error);
}

static JsonObject *
parse_session(GBytes *bytes)
{
	size_t len;
	const char *text = g_bytes_get_data(bytes, &len);
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonNode *root;
	JsonObject *object;

	if (!json_parser_load_from_data(parser, text, (gssize)len, NULL))
		return NULL;
	root = json_parser_get_root(parser);
	if (!root || !JSON_NODE_HOLDS_OBJECT(root))
		return NULL;
	object = json_node_get_object(root);
	if (!json_object_has_member(object, "id") || !json_object_has_member(object, "repository"))
		return NULL;
	return json_object_ref(object);
}

bool
firn_mount_is_dead(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) != 0 && errno == ENOTCONN;
}

/* Whether the table of mounts has one of ours there. */
static bool
is_listed(const char *directory)
{
	FILE *table = setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char text[MOUNT_LINE];
	bool found = false;

	while (table && !found && getmntent_r(table, &entry, text, sizeof(text)))
		found = !strcmp(entry.mnt_type, "fuse.firn") && !strcmp(entry.mnt_dir, directory);
	if (table)
		endmntent(table);
	return found;
}

/* 1: it is a mount; 0: it is not; -1: error set. */
static int
try_directory(const char *directory, JsonObject **out_session, GError **error)
{
	g_autofree char *path = g_build_filename(directory, ".firn", "session", NULL);
	g_autoptr(GBytes) bytes = NULL;
	struct stat st;

	/* The kernel knows names of a mount whose driver is gone, and answers stat() from them. */
	if (firn_mount_is_dead(path)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "%s is a mount whose driver is gone: 'firn umount %s' detaches it, "
			    "'firn sessions' lists the work that can be resumed",
			    directory, directory);
		return -1;
	}
	if (stat(path, &st) != 0) {
		if (errno != EACCES || !is_listed(directory))
			return 0;
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_DENIED,
			    "%s is a mount that lets nobody in but the user who made it, not even "
			    "root: ask as that user, or mount with '-o allow_other'",
			    directory);
		return -1;
	}
	bytes = firn_file_read(path, SESSION_LIMIT, error);
	if (!bytes)
		return -1;
	*out_session = parse_session(bytes);
	if (!*out_session) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "%s does not describe a session",
			    path);
		return -1;
	}
	return 1;
}

static char *
absolute(const char *path, GError **error)
{
	g_autofree char *cwd = NULL;
	char *real;

	if (!path) {
		cwd = getcwd(NULL, 0);
		if (!cwd) {
			firn_error_set_errno(error, errno, "cannot tell the working directory");
			return NULL;
		}
		return g_strdup(cwd);
	}
	real = realpath(path, NULL);
	if (real) {
		char *copy = g_strdup(real);

		free(real);
		return copy;
	}
	return g_canonicalize_filename(path, NULL);
}

FirnMount *
firn_mount_find(const char *path, GError **error)
{
	g_autofree char *full = absolute(path, error);
	g_autofree char *directory = g_strdup(full);
	JsonObject *session = NULL;
	FirnMount *mount;

	while (directory) {
		int found = try_directory(directory, &session, error);
		char *parent;

		if (found < 0)
			return NULL;
		if (found > 0)
			break;
		parent = g_path_get_dirname(directory);
		if (!strcmp(parent, directory))
			g_clear_pointer(&directory, g_free);
		else
			g_free(directory), directory = g_strdup(parent);
		g_free(parent);
	}
	if (!directory || !session) {
		if (full)
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
				    "%s is not in a firn mount", full);
		return NULL;
	}
	mount = g_new0(FirnMount, 1);
	mount->inner = g_strdup(full + strlen(directory));
	mount->root = g_steal_pointer(&directory);
	mount->session = session;
	return mount;
}

static FirnMount *
find_at(const char *directory, const char *id)
{
	FirnMount *found = firn_mount_find(directory, NULL);

	if (found && strcmp(firn_mount_string(found, "id"), id) != 0)
		g_clear_pointer(&found, firn_mount_free);
	return found;
}

FirnMount *
firn_mount_find_session(const char *id, const char *mountpoint, const char *repository)
{
	FirnMount *found = mountpoint ? find_at(mountpoint, id) : NULL;
	FILE *table = found ? NULL : setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char text[MOUNT_LINE];

	/* Others' mounts are left alone: the driver of one may not answer. */
	while (table && !found && getmntent_r(table, &entry, text, sizeof(text)))
		if (!strcmp(entry.mnt_type, "fuse.firn") && !strcmp(entry.mnt_fsname, repository) &&
		    g_strcmp0(entry.mnt_dir, mountpoint) != 0)
			found = find_at(entry.mnt_dir, id);
	if (table)
		endmntent(table);
	return found;
}

const char *
firn_mount_string(const FirnMount *mount, const char *member)
{
	const char *text = NULL;
	JsonNode *node = json_object_get_member(mount->session, member);

	if (node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
		text = json_node_get_string(node);
	return text ? text : "";
}

int64_t
firn_mount_int(const FirnMount *mount, const char *member)
{
	JsonNode *node = json_object_get_member(mount->session, member);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
		return 0;
	return json_node_get_int(node);
}

bool
firn_mount_is_read_only(const FirnMount *mount)
{
	const char *mode = firn_mount_string(mount, "mode");

	return !strcmp(mode, "ro") || !strcmp(mode, "read-only");
}

char *
firn_mount_hierarchy(const FirnMount *mount, GError **error)
{
	const char *name = firn_mount_string(mount, "name");
	char *path = NULL;
	struct dirent *entry;
	DIR *dir;

	if (*name)
		return g_build_filename(mount->root, name, NULL);
	dir = opendir(mount->root);
	if (!dir) {
		firn_error_set_errno(error, errno, "cannot list %s", mount->root);
		return NULL;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while (!path && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			path = g_build_filename(mount->root, entry->d_name, NULL);
	closedir(dir);
	if (!path)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s holds no hierarchy: it was removed; make the directory again",
			    mount->root);
	return path;
}

char *
firn_mount_node_path(const FirnMount *mount)
{
	g_autofree char *hierarchy = firn_mount_hierarchy(mount, NULL);
	g_autofree char *full = g_strconcat(mount->root, mount->inner, NULL);
	size_t len;

	if (!*mount->inner)
		return g_strdup("/");
	if (!hierarchy || !g_str_has_prefix(full, hierarchy))
		return NULL;
	len = strlen(hierarchy);
	if (full[len] == '\0')
		return g_strdup("/");
	return full[len] == '/' ? g_strdup(full + len) : NULL;
}

GBytes *
firn_mount_read(const FirnMount *mount, const char *name, GError **error)
{
	g_autofree char *path = g_build_filename(mount->root, ".firn", name, NULL);

	return firn_file_read(path, JOURNAL_LIMIT, error);
}
