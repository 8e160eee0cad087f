#include "fs/versions.h"

#include "fs/driver.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static const char *const directories[FIRN_N_VERSIONS] = { "branches", "tags", "snapshots" };

const char *
firn_versions_directory(unsigned kind)
{
	return directories[kind];
}

static char *
shown_name(const char *name)
{
	GString *out = g_string_new(NULL);

	for (; *name; name++) {
		if (*name == '/' || *name == '%')
			g_string_append_printf(out, "%%%02X", (unsigned)*name);
		else
			g_string_append_c(out, *name);
	}
	return g_string_free(out, FALSE);
}

static const GPtrArray *
refs_of(const FirnRepoInfo *info, unsigned kind)
{
	return kind == FIRN_VERSIONS_TAGS ? info->tags : info->branches;
}

static FirnRepoInfo *
read_info(FirnDriver *driver, unsigned kind, int *out_errnum)
{
	g_autoptr(GError) error = NULL;
	FirnRepoInfo *info = firn_repo_read_info(driver->repo, &error);

	if (!info)
		*out_errnum = firn_control_fail(driver, directories[kind], error);
	return info;
}

static int
find_ref(FirnDriver *driver, unsigned kind, const char *name, FirnId12 *out_id)
{
	int errnum = 0;
	g_autoptr(FirnRepoInfo) info = read_info(driver, kind, &errnum);
	const GPtrArray *refs;

	if (!info)
		return errnum;
	refs = refs_of(info, kind);
	for (guint i = 0; i < refs->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(refs, i);
		g_autofree char *shown = shown_name(ref->name);

		if (strcmp(shown, name) != 0)
			continue;
		if (ref->damage) {
			firn_view_note(driver->view, NULL, "%s/%s: %s", directories[kind], name,
				       ref->damage);
			return EIO;
		}
		*out_id = ref->snapshot;
		return 0;
	}
	return ENOENT;
}

int
firn_versions_lookup(FirnDriver *driver, unsigned kind, const char *name, struct stat *out_attr)
{
	char canonical[FIRN_ID12_TEXT + 1];
	FirnId12 id;
	int errnum;

	if (kind != FIRN_VERSIONS_SNAPSHOTS) {
		errnum = find_ref(driver, kind, name, &id);
		return errnum ? errnum : firn_view_snapshot_root(driver->view, &id, out_attr);
	}
	if (!firn_id12_parse(name, strlen(name), &id))
		return ENOENT;
	/* One name for one directory. */
	firn_id12_format(&id, canonical);
	if (strcmp(canonical, name) != 0)
		return ENOENT;
	return firn_view_snapshot_root(driver->view, &id, out_attr);
}

int
firn_versions_list(FirnDriver *driver, unsigned kind, GPtrArray **out_names)
{
	int errnum = 0;
	g_autoptr(FirnRepoInfo) info = read_info(driver, kind, &errnum);
	GPtrArray *names;
	const GPtrArray *items;

	if (!info)
		return errnum;
	items = kind == FIRN_VERSIONS_SNAPSHOTS ? info->snapshots : refs_of(info, kind);
	names = g_ptr_array_new_with_free_func(g_free);
	for (guint i = 0; i < items->len; i++) {
		if (kind == FIRN_VERSIONS_SNAPSHOTS) {
			const FirnSnapshotInfo *snapshot = g_ptr_array_index(items, i);
			char *text = g_malloc(FIRN_ID12_TEXT + 1);

			firn_id12_format(&snapshot->id, text);
			g_ptr_array_add(names, text);
		} else {
			const FirnRefInfo *ref = g_ptr_array_index(items, i);
			g_autofree char *shown = shown_name(ref->name);

			/* No path could name it. */
			if (strlen(shown) <= NAME_MAX)
				g_ptr_array_add(names, g_steal_pointer(&shown));
		}
	}
	*out_names = names;
	return 0;
}
