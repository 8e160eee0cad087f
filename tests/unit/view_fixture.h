#ifndef FIRN_TESTS_UNIT_VIEW_FIXTURE_H
#define FIRN_TESTS_UNIT_VIEW_FIXTURE_H

/* A repository and a session for one test, and the calls that tools make of its files. */
#include "core/base/error.h"
#include "core/repo/session.h"
#include "core/view/view.h"
#include "tests/unit/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ARRAY(n)                                                                             \
	"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[" #n "],\"data_type\":"       \
	"\"uint8\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":" \
	"[1]}},\"chunk_key_encoding\":{\"name\":\"default\"},\"fill_value\":0,\"codecs\":["  \
	"{\"name\":\"bytes\"}],\"attributes\":{}}"
#define GROUP "{\"zarr_format\":3,\"node_type\":\"group\"}"

static char *root;
static FirnRepo *repo;
static FirnView *view;

G_GNUC_UNUSED static void
open_view(FirnSession *session)
{
	FirnViewOptions options = { .name = "main", .uid = getuid(), .gid = getgid() };

	view = firn_view_new(session, &options);
}

G_GNUC_UNUSED static void
setup(void)
{
	GError *error = NULL;
	g_autofree char *url = NULL;
	g_autofree char *state = NULL;
	FirnSession *session;

	root = g_dir_make_tmp("firn-view-XXXXXX", NULL);
	url = g_strconcat(root, "/repo", NULL);
	state = g_strconcat(root, "/state", NULL);
	ck_assert(firn_repo_create(url, &error));
	repo = firn_repo_open(url, &error);
	ck_assert_no_error(error);
	session = firn_session_start(repo, "main", state, &error);
	ck_assert_no_error(error);
	open_view(session);
}

G_GNUC_UNUSED static void
teardown(void)
{
	g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);

	firn_view_free(view);
	firn_repo_free(repo);
	ck_assert_int_eq(system(command), 0);
	g_free(root);
}

/* Resume what is there, as after a crash. */
G_GNUC_UNUSED static void
restart(void)
{
	g_autofree char *state = g_strconcat(root, "/state", NULL);
	g_autoptr(GPtrArray) sessions = NULL;
	FirnSession *session;
	GError *error = NULL;

	firn_view_free(view);
	sessions = firn_state_list(state, &error);
	ck_assert_no_error(error);
	ck_assert_uint_eq(sessions->len, 1);
	session = firn_session_resume(repo, sessions->pdata[0], &error);
	ck_assert_no_error(error);
	open_view(session);
}

/* ---- paths ---- */

G_GNUC_UNUSED static int
walk(const char *path, struct stat *out)
{
	g_auto(GStrv) parts = g_strsplit(path, "/", -1);
	uint64_t at = FIRN_INO_TOP;
	int failed = firn_view_getattr(view, at, NULL, out);

	for (char **part = parts; *part != NULL && failed == 0; part++) {
		if (**part == '\0')
			continue;
		failed = firn_view_lookup(view, at, *part, out);
		at = out->st_ino;
	}
	return failed;
}

G_GNUC_UNUSED static uint64_t
parent_of(const char *path, const char **out_name)
{
	g_autofree char *parent = g_path_get_dirname(path);
	struct stat attr;

	*out_name = strrchr(path, '/') + 1;
	ck_assert_int_eq(walk(parent, &attr), 0);
	return attr.st_ino;
}

G_GNUC_UNUSED static int
make_dir(const char *path)
{
	const char *name;
	struct stat attr;
	uint64_t parent = parent_of(path, &name);

	return firn_view_mkdir(view, parent, name, 0755, &attr);
}

/* Create or truncate, write, close; the error of whichever failed. */
G_GNUC_UNUSED static int
put(const char *path, const void *data, size_t len)
{
	const char *name;
	struct stat attr;
	FirnFile *file;
	uint64_t parent = parent_of(path, &name);
	int failed = firn_view_create(view, parent, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, 1,
				      &attr, &file);

	if (failed != 0)
		return failed;
	for (size_t at = 0; at < len && failed == 0; at += 65536)
		failed = firn_view_write(view, file, (const char *)data + at, MIN(65536, len - at),
					 at);
	if (failed == 0)
		failed = firn_view_flush(view, file);
	firn_view_release(view, file);
	return failed;
}

G_GNUC_UNUSED static int
put_text(const char *path, const char *text)
{
	return put(path, text, strlen(text));
}

G_GNUC_UNUSED static int
move(const char *from, const char *to)
{
	const char *from_name;
	const char *to_name;
	uint64_t from_parent = parent_of(from, &from_name);
	uint64_t to_parent = parent_of(to, &to_name);

	return firn_view_rename(view, from_parent, from_name, to_parent, to_name, 0);
}

G_GNUC_UNUSED static int
drop(const char *path)
{
	const char *name;
	uint64_t parent = parent_of(path, &name);

	return firn_view_unlink(view, parent, name);
}

G_GNUC_UNUSED static int
drop_dir(const char *path)
{
	const char *name;
	uint64_t parent = parent_of(path, &name);

	return firn_view_rmdir(view, parent, name);
}

G_GNUC_UNUSED static char *
get(const char *path)
{
	struct stat attr;
	FirnFile *file;
	char *buffer;
	size_t got;

	if (walk(path, &attr) != 0)
		return g_strdup("(missing)");
	ck_assert_int_eq(firn_view_open(view, attr.st_ino, O_RDONLY, 1, &file), 0);
	buffer = g_malloc0((size_t)attr.st_size + 1);
	ck_assert_int_eq(firn_view_read(view, file, buffer, (size_t)attr.st_size, 0, &got), 0);
	ck_assert_uint_eq(got, (size_t)attr.st_size);
	firn_view_release(view, file);
	return buffer;
}

G_GNUC_UNUSED static bool
add_name(const char *name, const struct stat *attr, uint64_t next, void *data)
{
	(void)attr;
	(void)next;
	if (name[0] != '.')
		g_string_append_printf(data, "%s ", name);
	return true;
}

G_GNUC_UNUSED static char *
list(const char *path)
{
	GString *names = g_string_new(NULL);
	FirnDirStream *dir;
	struct stat attr;

	ck_assert_int_eq(walk(path, &attr), 0);
	ck_assert_int_eq(firn_view_opendir(view, attr.st_ino, &dir), 0);
	ck_assert_int_eq(firn_view_readdir(view, dir, 0, false, add_name, names), 0);
	firn_view_closedir(view, dir);
	return g_string_free(names, FALSE);
}

#define assert_get(path, text)                     \
	do {                                       \
		g_autofree char *got_ = get(path); \
		ck_assert_str_eq(got_, text);      \
	} while (0)
#define assert_list(path, text)                     \
	do {                                        \
		g_autofree char *got_ = list(path); \
		ck_assert_str_eq(got_, text);       \
	} while (0)
#define assert_state(text)                                                                        \
	do {                                                                                      \
		g_autoptr(FirnViewStatus) status_ = firn_view_status(view);                       \
		g_autofree char *got_ =                                                           \
			g_strdup_printf("%u nodes, %u chunks, %u pending, %u scratch",            \
					status_->nodes->len, (unsigned)status_->n_changed_chunks, \
					status_->pending->len, status_->scratch->len);            \
		ck_assert_str_eq(got_, text);                                                     \
	} while (0)

G_GNUC_UNUSED static void
make_array(void)
{
	ck_assert_int_eq(make_dir("/main/a"), 0);
	ck_assert_int_eq(put_text("/main/a/zarr.json", ARRAY(4)), 0);
	ck_assert_int_eq(make_dir("/main/a/c"), 0);
	ck_assert_int_eq(put_text("/main/a/c/0", "x"), 0);
	ck_assert_int_eq(put_text("/main/a/c/2", "z"), 0);
}

/* Files in the repository's folder of objects. */
G_GNUC_UNUSED static unsigned
count_objects(void)
{
	g_autofree char *path = g_strconcat(root, "/repo/chunks", NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	unsigned n = 0;

	while (dir != NULL && g_dir_read_name(dir) != NULL)
		n++;
	return n;
}

/* Open, close, and let the kernel forget: what was held back for readers goes. */
G_GNUC_UNUSED static void
touch_and_forget(const char *path)
{
	struct stat attr;
	g_autofree char *text = get(path);

	ck_assert_int_eq(walk(path, &attr), 0);
	firn_view_forget(view, attr.st_ino, 1000);
	ck_assert_ptr_nonnull(text);
}

#endif
