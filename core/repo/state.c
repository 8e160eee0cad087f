#include "core/repo/state.h"

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/json_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFO_NAME     "session.json"
#define LOCK_NAME     "lock"
#define JOURNAL_NAME  "journal"
#define INFO_MAX      (1u << 20) /* bytes */
#define INFO_DEPTH    16u
#define TREE_DEPTH    8u /* spool folders and such; nothing of ours is deeper */
#define LOCK_TRIES    20u
#define LOCK_PAUSE_US 10000u
/* So long the last calls of a killed driver are waited for: 10 s. */
#define DEATH_TRIES    500u
#define DEATH_PAUSE_US 20000u

void
firn_session_info_free(FirnSessionInfo *info)
{
	if (info == NULL)
		return;
	g_free(info->directory);
	g_free(info->repository);
	g_free(info->branch);
	g_free(info->fork_of);
	g_free(info->mountpoint);
	g_free(info->mode);
	g_free(info);
}

char *
firn_state_root(const char *state_dir)
{
	const char *home = g_getenv("XDG_STATE_HOME");

	/* Absolute: a driver in the background leaves the directory it was started in. */
	if (state_dir != NULL)
		return g_canonicalize_filename(state_dir, NULL);
	if (home != NULL && g_path_is_absolute(home))
		return g_build_filename(home, "firn", "sessions", NULL);
	return g_build_filename(g_get_home_dir(), ".local", "state", "firn", "sessions", NULL);
}

static bool
sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done;
	int errnum;

	if (fd < 0)
		return false;
	done = fsync(fd) == 0 || errno == EINVAL;
	errnum = errno;
	close(fd);
	errno = errnum;
	return done;
}

/* mkdir -p, so that a power cut takes none of the directories away. */
static bool
make_durable(const char *path)
{
	g_autofree char *parent = NULL;
	struct stat st;

	if (stat(path, &st) == 0)
		return true;
	parent = g_path_get_dirname(path);
	if (!make_durable(parent))
		return false;
	return (mkdir(path, 0700) == 0 || errno == EEXIST) && sync_directory(parent);
}

/* ---- the lock ---- */

static int
open_lock(const char *directory, int flags, GError **error)
{
	g_autofree char *path = g_build_filename(directory, LOCK_NAME, NULL);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		firn_error_set_errno(error, errno, "cannot open %s", path);
	return fd;
}

/* Whether `fd` is still the lock: the session may have been removed since it was opened. */
static bool
is_the_lock(int fd, const char *directory)
{
	g_autofree char *path = g_build_filename(directory, LOCK_NAME, NULL);
	struct stat opened, named;

	return fstat(fd, &opened) == 0 && stat(path, &named) == 0 &&
	       opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

static int
lock_state(const char *directory, int how, GError **error)
{
	int flags = how == LOCK_SH ? O_RDONLY : O_RDWR;
	int errnum = EWOULDBLOCK;

	/* Who only looks whether a session is live holds the lock for a moment. */
	for (unsigned i = 0; i < LOCK_TRIES && (errnum == EWOULDBLOCK || errnum == EINTR); i++) {
		int fd = open_lock(directory, flags, error);
		bool locked;

		if (fd < 0)
			return -1;
		locked = flock(fd, how | LOCK_NB) == 0;
		errnum = locked ? EWOULDBLOCK : errno;
		if (locked && is_the_lock(fd, directory))
			return fd;
		close(fd);
		if (!locked)
			g_usleep(LOCK_PAUSE_US);
	}
	if (errnum == EWOULDBLOCK)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "the session in %s is live: unmount it first", directory);
	else
		firn_error_set_errno(error, errnum, "cannot lock %s", directory);
	return -1;
}

int
firn_state_lock(const char *directory, GError **error)
{
	return lock_state(directory, LOCK_EX, error);
}

int
firn_state_lock_reading(const char *directory, GError **error)
{
	return lock_state(directory, LOCK_SH, error);
}

static bool
is_live(const char *directory)
{
	int fd = open_lock(directory, O_RDONLY, NULL);
	bool live;

	if (fd < 0)
		return false;
	live = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	close(fd);
	return live;
}

/* Only here: a lock that is missing says that the session is being removed. */
static bool
make_lock(const char *directory)
{
	int fd = open_lock(directory, O_RDWR | O_CREAT | O_EXCL, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0 && sync_directory(directory);
}

bool
firn_state_create(const char *root, const FirnId12 *id, char **out_directory, GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	g_autofree char *directory = NULL;

	firn_id12_format(id, text);
	directory = g_build_filename(root, text, NULL);
	if (!make_durable(root) || mkdir(directory, 0700) != 0 || !make_lock(directory) ||
	    !sync_directory(root)) {
		firn_error_set_errno(
			error, errno,
			"cannot create the state directory %s (--state-dir names another)",
			directory);
		return false;
	}
	*out_directory = g_steal_pointer(&directory);
	return true;
}

/* ---- session.json ---- */

static void
add_text(JsonBuilder *builder, const char *name, const char *value)
{
	json_builder_set_member_name(builder, name);
	if (value != NULL)
		json_builder_add_string_value(builder, value);
	else
		json_builder_add_null_value(builder);
}

/* Changes when the machine starts; NULL: unknown.  Caller owns. */
static char *
boot_id(void)
{
	char *text = NULL;

	if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
		return NULL;
	return g_strchomp(text);
}

static char *
info_to_json(const FirnSessionInfo *info)
{
	g_autoptr(JsonBuilder) builder = json_builder_new();
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = NULL;
	g_autofree char *started = firn_clock_format_us(info->started_us);
	g_autofree char *boot = boot_id();
	char id[FIRN_ID12_TEXT + 1], base[FIRN_ID12_TEXT + 1];

	firn_id12_format(&info->id, id);
	firn_id12_format(&info->base, base);
	json_builder_begin_object(builder);
	add_text(builder, "id", id);
	add_text(builder, "repository", info->repository);
	add_text(builder, "branch", info->branch);
	add_text(builder, "base", base);
	add_text(builder, "mode", info->mode);
	add_text(builder, "fork_of", info->fork_of);
	json_builder_set_member_name(builder, "pid");
	json_builder_add_int_value(builder, info->pid);
	json_builder_set_member_name(builder, "restarts");
	json_builder_add_int_value(builder, info->restarts);
	add_text(builder, "mountpoint", info->mountpoint);
	add_text(builder, "started", started);
	add_text(builder, "version", FIRN_VERSION);
	add_text(builder, "host", g_get_host_name());
	add_text(builder, "boot", boot);
	json_builder_end_object(builder);
	root = json_builder_get_root(builder);
	json_generator_set_pretty(generator, TRUE);
	json_generator_set_root(generator, root);
	return json_generator_to_data(generator, NULL);
}

bool
firn_state_write(const char *path, const char *text, GError **error)
{
	g_autoptr(GError) reason = NULL;

	if (g_file_set_contents_full(path, text, -1,
				     G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
				     0600, &reason))
		return true;
	g_set_error(error, FIRN_ERROR,
		    g_error_matches(reason, G_FILE_ERROR, G_FILE_ERROR_NOSPC) ? FIRN_ERROR_NO_SPACE
									      : FIRN_ERROR_STORE,
		    "%s", reason->message);
	return false;
}

bool
firn_state_write_info(const FirnSessionInfo *info, GError **error)
{
	g_autofree char *path = g_build_filename(info->directory, INFO_NAME, NULL);
	g_autofree char *json = info_to_json(info);

	return firn_state_write(path, json, error);
}

/* NULL if it is missing, damaged, or not of a kind that could be ours. */
static JsonNode *
load_json(const char *path)
{
	g_autoptr(JsonParser) parser = json_parser_new_immutable();
	g_autofree char *text = NULL;
	gsize len;

	if (!g_file_get_contents(path, &text, &len, NULL) || len > INFO_MAX ||
	    firn_json_check((FirnSpan){ (const uint8_t *)text, len }, INFO_DEPTH, NULL) != NULL ||
	    !json_parser_load_from_data(parser, text, (gssize)len, NULL) ||
	    !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser)))
		return NULL;
	return json_parser_steal_root(parser);
}

static const char *
get_text(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node != NULL && json_node_get_value_type(node) == G_TYPE_STRING
		       ? json_node_get_string(node)
		       : NULL;
}

static void
fill_info(FirnSessionInfo *info, JsonObject *object)
{
	const char *base = get_text(object, "base"), *started = get_text(object, "started");
	const char *host = get_text(object, "host"), *boot = get_text(object, "boot");
	JsonNode *pid = json_object_get_member(object, "pid");
	JsonNode *restarts = json_object_get_member(object, "restarts");
	g_autofree char *now = boot_id();

	info->repository = g_strdup(get_text(object, "repository"));
	info->branch = g_strdup(get_text(object, "branch"));
	info->fork_of = g_strdup(get_text(object, "fork_of"));
	info->mountpoint = g_strdup(get_text(object, "mountpoint"));
	info->mode = g_strdup(get_text(object, "mode"));
	if (base != NULL && !firn_id12_parse(base, strlen(base), &info->base))
		memset(&info->base, 0, sizeof info->base);
	if (started != NULL && !firn_clock_parse_us(started, &info->started_us))
		info->started_us = 0;
	/* Of another machine it is not known. */
	info->stopped = now != NULL && boot != NULL && host != NULL &&
			strcmp(host, g_get_host_name()) == 0 && strcmp(boot, now) != 0;
	if (info->live && pid != NULL && json_node_get_value_type(pid) == G_TYPE_INT64)
		info->pid = json_node_get_int(pid);
	if (info->live && restarts != NULL && json_node_get_value_type(restarts) == G_TYPE_INT64)
		info->restarts = json_node_get_int(restarts);
}

FirnSessionInfo *
firn_state_read_info(const char *directory, GError **error)
{
	g_autoptr(FirnSessionInfo) info = g_new0(FirnSessionInfo, 1);
	g_autofree char *name = g_path_get_basename(directory);
	g_autofree char *path = g_build_filename(directory, INFO_NAME, NULL);
	g_autofree char *journal = g_build_filename(directory, JOURNAL_NAME, NULL);
	g_autoptr(JsonNode) root = NULL;
	struct stat st;

	if (stat(directory, &st) != 0 || !S_ISDIR(st.st_mode) ||
	    !firn_id12_parse(name, strlen(name), &info->id)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is no state directory of a session", directory);
		return NULL;
	}
	info->directory = g_strdup(directory);
	info->live = is_live(directory);
	if (stat(journal, &st) == 0)
		info->journal_bytes = (uint64_t)st.st_size;
	root = load_json(path);
	if (root != NULL)
		fill_info(info, json_node_get_object(root));
	if (info->repository == NULL)
		info->repository = g_strdup("");
	if (info->branch == NULL)
		info->branch = g_strdup("");
	return g_steal_pointer(&info);
}

/* ---- all of them ---- */

static void
info_free(gpointer info)
{
	firn_session_info_free(info);
}

static gint
compare_newest_first(gconstpointer a, gconstpointer b)
{
	const FirnSessionInfo *const *x = a, *const *y = b;

	if ((*x)->started_us != (*y)->started_us)
		return (*x)->started_us > (*y)->started_us ? -1 : 1;
	return firn_id12_compare(&(*x)->id, &(*y)->id);
}

GPtrArray *
firn_state_list(const char *root, GError **error)
{
	g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(info_free);
	struct dirent *entry;
	DIR *dir = opendir(root);

	if (dir == NULL && errno != ENOENT) {
		firn_error_set_errno(error, errno, "cannot read %s", root);
		return NULL;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		g_autofree char *directory = g_build_filename(root, entry->d_name, NULL);
		FirnSessionInfo *info = firn_state_read_info(directory, NULL);

		if (info != NULL)
			g_ptr_array_add(list, info);
	}
	if (dir != NULL)
		closedir(dir);
	g_ptr_array_sort(list, compare_newest_first);
	return g_steal_pointer(&list);
}

/* Whether the driver whose lock it is was killed, and has not come back from its last calls. */
static bool
driver_is_going(const FirnSessionInfo *info)
{
	g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", info->pid);
	g_autofree char *text = NULL;
	const char *state;

	if (!info->live || info->pid <= 0)
		return false;
	if (!g_file_get_contents(path, &text, NULL, NULL))
		return true;
	/* "PID (NAME) STATE": ended, but nobody has asked how. */
	state = strrchr(text, ')');
	return state != NULL && (state[2] == 'Z' || state[2] == 'X');
}

static FirnSessionInfo *
wait_for_end(FirnSessionInfo *info)
{
	for (unsigned i = 0; i < DEATH_TRIES && driver_is_going(info); i++) {
		g_usleep(DEATH_PAUSE_US);
		info->live = is_live(info->directory);
	}
	return info;
}

FirnSessionInfo *
firn_state_find(const char *root, const char *id, GError **error)
{
	g_autoptr(GPtrArray) list = firn_state_list(root, error);
	g_autofree char *wanted = g_ascii_strup(id, -1);
	guint found = 0, n = 0;

	if (list == NULL)
		return NULL;
	for (guint i = 0; i < list->len; i++) {
		const FirnSessionInfo *info = list->pdata[i];
		char text[FIRN_ID12_TEXT + 1];

		firn_id12_format(&info->id, text);
		if (wanted[0] == '\0' || !g_str_has_prefix(text, wanted))
			continue;
		found = i;
		n++;
	}
	if (n == 1)
		return wait_for_end(g_ptr_array_steal_index(list, found));
	if (n == 0)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "no session %s in %s: \"firn sessions\" lists them", id, root);
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%u sessions start with %s: give more of the id", n, id);
	return NULL;
}

/* ---- removing ---- */

/* Empty the directory `fd` (closed) without following links; `but` (may be NULL) stays. */
static bool
empty_directory(int fd, unsigned depth, const char *but)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	bool done = true;

	if (dir == NULL) {
		close(fd);
		return false;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while (done && (entry = readdir(dir)) != NULL) {
		int child;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    g_strcmp0(entry->d_name, but) == 0)
			continue;
		if (unlinkat(fd, entry->d_name, 0) == 0)
			continue;
		child = depth > 0 ? openat(fd, entry->d_name,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
				  : -1;
		done = child >= 0 && empty_directory(child, depth - 1, NULL) &&
		       unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0;
	}
	closedir(dir);
	return done;
}

/* The lock last: as long as there is anything else, whoever takes the session up finds it locked. */
bool
firn_state_remove_locked(const char *directory, GError **error)
{
	g_autofree char *lock = g_build_filename(directory, LOCK_NAME, NULL);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && empty_directory(fd, TREE_DEPTH, LOCK_NAME) &&
		    (unlink(lock) == 0 || errno == ENOENT) && rmdir(directory) == 0;

	if (!done)
		firn_error_set_errno(error, errno, "cannot remove %s", directory);
	return done;
}

bool
firn_state_remove(const FirnSessionInfo *info, GError **error)
{
	g_autoptr(GError) failed = NULL;
	int lock = firn_state_lock(info->directory, &failed);
	bool done = lock >= 0 && firn_state_remove_locked(info->directory, error);

	if (lock >= 0)
		close(lock);
	/* Who was killed between the last two steps left nothing but the directory. */
	else if (g_error_matches(failed, FIRN_ERROR, FIRN_ERROR_NOT_FOUND) &&
		 rmdir(info->directory) == 0)
		done = true;
	else
		g_propagate_error(error, g_steal_pointer(&failed));
	return done;
}
