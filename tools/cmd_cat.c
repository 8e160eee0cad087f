#include "core/store/foreign.h"
#include "core/zarr/name.h"
#include "tools/changes_text.h"
#include "tools/commands.h"
#include "tools/nodepath.h"
#include "tools/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536u

/* What a path below the hierarchy's root names. */
typedef struct {
	FirnSnapshotNode node;
	bool is_chunk; /* else its zarr.json */
	uint32_t coords[FIRN_MAX_RANK];
} Key;

/* `text`, after "ARRAY/": "c", "c/0/1"... */
static bool
parse_chunk(const char *text, uint32_t rank, uint32_t *out_coords)
{
	g_auto(GStrv) parts = g_strsplit(text, "/", -1);

	if (g_strv_length(parts) != rank + 1 || strcmp(parts[0], "c") != 0)
		return false;
	for (uint32_t i = 0; i < rank; i++)
		if (!firn_name_parse_index(parts[i + 1], &out_coords[i]))
			return false;
	return true;
}

static bool
find_node(const FirnSnapshot *snapshot, const char *path, size_t len, FirnSnapshotNode *out_node)
{
	size_t index;

	if (!len) {
		path = "/";
		len = 1;
	}
	if (!firn_snapshot_find_path(snapshot, path, len, &index))
		return false;
	firn_snapshot_node(snapshot, index, out_node);
	return true;
}

static bool
find_key(const FirnSnapshot *snapshot, const char *path, Key *out_key, GError **error)
{
	const char *slash = path + strlen(path);

	if (g_str_has_suffix(path, "/zarr.json") &&
	    find_node(snapshot, path, strlen(path) - strlen("/zarr.json"), &out_key->node)) {
		out_key->is_chunk = false;
		return true;
	}
	/* From the end, as "c" may also be the name of a node. */
	while (slash > path) {
		slash = g_strrstr_len(path, slash - path, "/");
		if (!slash)
			break;
		if (find_node(snapshot, path, (size_t)(slash - path), &out_key->node) &&
		    out_key->node.kind == FIRN_NODE_ARRAY &&
		    parse_chunk(slash + 1, out_key->node.rank, out_key->coords)) {
			out_key->is_chunk = true;
			return true;
		}
	}
	if (find_node(snapshot, path, strlen(path), &out_key->node))
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s is a node: its document is %s%szarr.json", path, path,
			    g_str_has_suffix(path, "/") ? "" : "/");
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s is neither the zarr.json of a node nor a chunk of an array", path);
	return false;
}

static bool
copy_range(int fd, uint64_t offset, uint64_t length, const char *name, GError **error)
{
	uint8_t block[BLOCK];

	while (length) {
		ssize_t n = pread(fd, block, (size_t)MIN(length, sizeof(block)), (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			firn_error_set_errno(error, n < 0 ? errno : ENODATA, "cannot read %s",
					     name);
			return false;
		}
		fwrite(block, 1, (size_t)n, stdout);
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return true;
}

static bool
cat_virtual(const FirnTarget *target, const FirnManifest *manifest, const FirnRef *ref,
	    char **prefixes, GError **error)
{
	g_autoptr(FirnConfig) config = firn_repo_read_config(target->repo, error);
	g_autofree char *location = config ? firn_manifest_location(manifest, ref, error) : NULL;
	g_autofree char *url =
		location ? firn_config_resolve_location(config, location, error) : NULL;
	struct stat st;
	bool ok = false;
	int fd;

	if (!url)
		return false;
	fd = firn_foreign_open(url, prefixes, prefixes ? g_strv_length(prefixes) : 0, &st, error);
	if (fd < 0) {
		if (error && g_error_matches(*error, FIRN_ERROR, FIRN_ERROR_DENIED))
			g_prefix_error(error, "%s: ",
				       prefixes ? "it is outside every --virtual given"
						: "authorise it with --virtual PREFIX");
		return false;
	}
	if (ref->last_modified && st.st_mtime > (time_t)ref->last_modified)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
			    "%s was changed after the chunk was recorded", url);
	else
		ok = copy_range(fd, ref->offset, ref->length, url, error);
	close(fd);
	return ok;
}

static bool
cat_native(FirnRepo *repo, const FirnRef *ref, GError **error)
{
	char id[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;
	g_autoptr(GBytes) data = NULL;

	firn_id12_format(&ref->id, id);
	key = g_strconcat("chunks/", id, NULL);
	if (!firn_store_get(firn_repo_store(repo), key, ref->offset, ref->length, &data, NULL,
			    error))
		return false;
	if (!data || g_bytes_get_size(data) != ref->length) {
		g_set_error(error, FIRN_ERROR, data ? FIRN_ERROR_FORMAT : FIRN_ERROR_NOT_FOUND,
			    "%s: the object is %s", key, data ? "too short" : "missing");
		return false;
	}
	fwrite(g_bytes_get_data(data, NULL), 1, g_bytes_get_size(data), stdout);
	return true;
}

static bool
describe(const FirnManifest *manifest, const FirnRef *ref, GError **error)
{
	JsonBuilder *builder;
	g_autofree char *location = NULL;
	char id[FIRN_ID12_TEXT + 1];

	if (ref->kind == FIRN_REF_VIRTUAL &&
	    !(location = firn_manifest_location(manifest, ref, error)))
		return false;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "ref", firn_ref_kind_name(ref->kind));
	firn_json_int(builder, "length", (int64_t)ref->length);
	if (ref->kind == FIRN_REF_INLINE) {
		g_autofree char *data = g_base64_encode(ref->bytes.data, ref->bytes.len);

		firn_json_string(builder, "base64", data);
	} else {
		firn_json_int(builder, "offset", (int64_t)ref->offset);
	}
	if (ref->kind == FIRN_REF_NATIVE) {
		firn_id12_format(&ref->id, id);
		firn_json_string(builder, "id", id);
	}
	if (location)
		firn_json_string(builder, "location", location);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return true;
}

static bool
cat_ref(const FirnTarget *target, const FirnManifest *manifest, const FirnRef *ref, char **prefixes,
	GError **error)
{
	switch (ref->kind) {
	case FIRN_REF_INLINE:
		fwrite(ref->bytes.data, 1, ref->bytes.len, stdout);
		return true;
	case FIRN_REF_NATIVE:
		return cat_native(target->repo, ref, error);
	case FIRN_REF_VIRTUAL:
		return cat_virtual(target, manifest, ref, prefixes, error);
	case FIRN_REF_NONE:
		break;
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "the chunk's ref has no content");
	return false;
}

static bool
cat_chunk(const FirnCli *cli, const FirnTarget *target, FirnSnapshot *snapshot, const Key *key,
	  char **prefixes, GError **error)
{
	g_autoptr(FirnManifest) manifest = NULL;
	g_autoptr(GError) local = NULL;
	FirnRef ref;

	if (firn_repo_find_chunk(target->repo, snapshot, &key->node, key->coords, &ref, &manifest,
				 &local))
		return cli->json ? describe(manifest, &ref, error)
				 : cat_ref(target, manifest, &ref, prefixes, error);
	if (local)
		g_propagate_error(error, g_steal_pointer(&local));
	else
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "this chunk was never written: readers see the fill value");
	return false;
}

static int
cat(FirnCli *cli, const FirnTarget *target, const char *ref, const char *path, char **prefixes)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSnapshot) snapshot = firn_target_snapshot(target, ref, &error);
	Key key;

	if (!snapshot || !find_key(snapshot, path, &key, &error))
		return firn_cli_fail(cli, error);
	if (!key.is_chunk)
		fwrite(key.node.meta.data, 1, key.node.meta.len, stdout);
	else if (!cat_chunk(cli, target, snapshot, &key, prefixes, &error))
		return firn_cli_fail(cli, error);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_cat(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *ref = NULL;
	g_auto(GStrv) prefixes = NULL;
	const GOptionEntry entries[] = {
		{ "ref", 'b', 0, G_OPTION_ARG_FILENAME, &ref, "Of this branch, tag or snapshot",
		  "REF" },
		{ "virtual", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &prefixes,
		  "Authorise reading virtual chunks below this URL", "PREFIX" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 2);
	g_autoptr(FirnTarget) target = NULL;
	g_autofree char *path = NULL;
	g_autoptr(GError) error = NULL;
	int next;

	if (result >= 0)
		return result;
	for (char **p = prefixes; p && *p; p++)
		if (!firn_foreign_check_prefix(*p, &error))
			return firn_cli_usage(cli, "%s", error->message);
	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	if (next >= argc && !target->inner)
		return firn_cli_usage(cli,
				      "which? a path such as a/zarr.json or a/c/0/0 is missing");
	path = firn_node_path(target->inner, next < argc ? argv[next] : NULL);
	return cat(cli, target, ref, path, prefixes);
}
