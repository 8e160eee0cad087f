#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define FILE_SYSTEM_TYPE "fuse.firn"
/* Who mounts at the same place holds it for as long as fusermount3 takes. */
#define CLAIM_TRIES   500u
#define CLAIM_WAIT_US 10000u

/* "\040" and the like stand for characters that separate fields. */
static char *
decode_field(const char *field)
{
	char *out = g_malloc(strlen(field) + 1);
	size_t len = 0;

	while (*field) {
		if (field[0] == '\\' && field[1] >= '0' && field[1] <= '3' && field[2] >= '0' &&
		    field[2] <= '7' && field[3] >= '0' && field[3] <= '7') {
			out[len++] = (char)((field[1] - '0') << 6 | (field[2] - '0') << 3 |
					    (field[3] - '0'));
			field += 4;
		} else {
			out[len++] = *field++;
		}
	}
	out[len] = '\0';
	return out;
}

static bool
is_mounted_at(const char *line, const char *mountpoint)
{
	g_auto(GStrv) fields = g_strsplit(line, " ", 6);
	char *at;
	bool same;

	if (g_strv_length(fields) < 6)
		return false;
	at = decode_field(fields[4]);
	same = strcmp(at, mountpoint) == 0;
	g_free(at);
	return same;
}

static bool
is_ours(const char *line, unsigned *out_minor)
{
	g_auto(GStrv) fields = g_strsplit(line, " ", 4);
	const char *type = strstr(line, " - ");
	const char *minor = g_strv_length(fields) > 2 ? strchr(fields[2], ':') : NULL;

	if (!type || !minor || !g_str_has_prefix(type, " - " FILE_SYSTEM_TYPE " "))
		return false;
	*out_minor = (unsigned)g_ascii_strtoull(minor + 1, NULL, 10);
	return true;
}

/* The last mount at `mountpoint` if it is ours: its device's minor number. */
static bool
find_mount(const char *mountpoint, unsigned *out_minor)
{
	g_autofree char *table = NULL;
	g_auto(GStrv) lines = NULL;
	bool found = false;

	if (!g_file_get_contents("/proc/self/mountinfo", &table, NULL, NULL))
		return false;
	lines = g_strsplit(table, "\n", -1);
	/* The last one is on top. */
	for (size_t i = 0; lines[i]; i++)
		if (is_mounted_at(lines[i], mountpoint))
			found = is_ours(lines[i], out_minor);
	return found;
}

static bool
detach(const char *mountpoint, GError **error)
{
	g_auto(GStrv) argv = g_strsplit("fusermount3\t-u\t-z\t--\t", "\t", -1);
	int status;

	/* The empty last one is the place for it. */
	g_free(argv[4]);
	argv[4] = g_strdup(mountpoint);
	if (geteuid() == 0 && umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return true;
	if (g_spawn_sync(NULL, argv, NULL,
			 G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
				 G_SPAWN_STDERR_TO_DEV_NULL,
			 NULL, NULL, NULL, NULL, &status, NULL) &&
	    status == 0)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "%s is a mount whose driver is gone, and cannot be detached: "
		    "'fusermount3 -u -z %s', as the user who mounted it",
		    mountpoint, mountpoint);
	return false;
}

static bool
check_device(GError **error)
{
	if (access("/dev/fuse", F_OK) == 0)
		return true;
	g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "/dev/fuse is missing: load the module ('modprobe fuse'), or give the "
			    "container the device ('--device /dev/fuse --cap-add SYS_ADMIN')");
	return false;
}

static bool
check_free(const char *mountpoint, GError **error)
{
	unsigned minor;

	if (!find_mount(mountpoint, &minor))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "%s is in use: 'firn umount %s' first, or choose another directory", mountpoint,
		    mountpoint);
	return false;
}

bool
firn_mountpoint_prepare(const char *mountpoint, bool *out_detached, GError **error)
{
	struct statfs fs;
	struct stat st;

	*out_detached = false;
	if (!check_device(error))
		return false;
	/* Attributes can be remembered; this asks the driver. */
	if (statfs(mountpoint, &fs) && (errno == ENOTCONN || errno == ECONNABORTED)) {
		if (!detach(mountpoint, error))
			return false;
		*out_detached = true;
	}
	if (stat(mountpoint, &st)) {
		if (errno == ENOENT)
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
				    "cannot mount on %s: there is no such directory; make it first",
				    mountpoint);
		else
			firn_error_set_errno(error, errno, "cannot mount on %s", mountpoint);
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "cannot mount on %s: it is not a directory", mountpoint);
		return false;
	}
	return check_free(mountpoint, error);
}

bool
firn_mountpoint_claim(const char *mountpoint, int *out_fd, GError **error)
{
	*out_fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Where it cannot be locked, or somebody holds it for another reason, we are as careful as mount(8). */
	for (unsigned i = 0; i < CLAIM_TRIES && *out_fd >= 0; i++) {
		if (flock(*out_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		g_usleep(CLAIM_WAIT_US);
	}
	if (check_free(mountpoint, error))
		return true;
	firn_mountpoint_release(*out_fd);
	return false;
}

void
firn_mountpoint_release(int fd)
{
	if (fd >= 0)
		close(fd);
}

void
firn_mountpoint_unmount(const char *mountpoint, int fuse_fd)
{
	struct pollfd connection = { .fd = fuse_fd };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Somebody else has unmounted it: what is at the mount point now is not ours. */
	bool gone = poll(&connection, 1, 0) == 1 && (connection.revents & POLLERR) != 0;

	/* Unmounting waits for the last descriptor.  libfuse will close this one again. */
	if (null >= 0) {
		dup3(null, fuse_fd, O_CLOEXEC);
		close(null);
	}
	if (!gone && !detach(mountpoint, NULL))
		fprintf(stderr, "firnfs: %s cannot be unmounted\n", mountpoint);
}

void
firn_mountpoint_abort(const char *mountpoint)
{
	g_autofree char *path = NULL;
	unsigned minor;
	int fd;

	if (!find_mount(mountpoint, &minor))
		return;
	path = g_strdup_printf("/sys/fs/fuse/connections/%u/abort", minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		fprintf(stderr, "firnfs: %s: %s\n", path, g_strerror(errno));
	close(fd);
}
