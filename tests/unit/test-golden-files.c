/* Every metadata file of the golden repositories, against what the official library reads. */
#include "tests/unit/harness.h"
#include "tests/unit/walk.h"

#include <json-glib/json-glib.h>

#define GOLDEN "tests/golden/"

static const char *const repos[] = {
	GOLDEN "tiny-v1", GOLDEN "tiny-v2",       GOLDEN "v1/repo",
	GOLDEN "v2/repo", GOLDEN "v2-split/repo",
};
static const char *const checked[] = { "v1", "v2", "v2-split" };

static GBytes *
read_file(const char *path)
{
	g_autoptr(GError) error = NULL;
	char *data;
	gsize size;

	g_file_get_contents(path, &data, &size, &error);
	ck_assert_no_error(error);
	return g_bytes_new_take(data, size);
}

/* Names in one directory of a repository, temporary ones left out. */
static GPtrArray *
names_in(const char *repo, const char *kind)
{
	g_autofree char *path = g_build_filename(repo, kind, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	const char *name;

	ck_assert_ptr_nonnull(dir);
	while ((name = g_dir_read_name(dir)) != NULL)
		if (strchr(name, '#') == NULL)
			g_ptr_array_add(names, g_strdup(name));
	return names;
}

static void
walk_all(const char *repo, const char *kind, uint64_t (*walk)(GBytes *))
{
	g_autoptr(GPtrArray) names = names_in(repo, kind);

	ck_assert_uint_gt(names->len, 0);
	for (guint i = 0; i < names->len; i++) {
		g_autofree char *path = g_build_filename(repo, kind, names->pdata[i], NULL);
		g_autoptr(GBytes) file = read_file(path);

		ck_assert_msg(walk(file) != 0, "%s", path);
	}
}

START_TEST(golden__every_metadata_file__opens)
{
	walk_all(repos[_i], "snapshots", walk_snapshot);
	walk_all(repos[_i], "manifests", walk_manifest);
	walk_all(repos[_i], "transactions", walk_txlog);
}
END_TEST

/* `*key` has `size` bytes; `bytes` too, where they are known.  Takes the key. */
static void
expect(JsonObject *contents, char *taken, uint64_t size, FirnSpan bytes)
{
	g_autofree char *key = taken;
	JsonArray *entry;

	ck_assert_msg(json_object_has_member(contents, key), "%s", key);
	entry = json_object_get_array_member(contents, key);
	ck_assert_uint_eq(json_array_get_int_element(entry, 0), size);
	if (bytes.data != NULL) {
		g_autofree char *sum =
			g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes.data, bytes.len);

		ck_assert_str_eq(json_array_get_string_element(entry, 1), sum);
	}
	json_object_remove_member(contents, key);
}

static char *
chunk_key(const FirnSnapshotNode *node, const uint32_t *coords)
{
	g_autoptr(GString) key = g_string_new_len((const char *)node->path.data,
						  node->path.len > 1 ? node->path.len : 0);

	g_string_append(key, "/c");
	for (uint32_t i = 0; i < node->rank; i++)
		g_string_append_printf(key, "/%u", coords[i]);
	return g_strdup(key->str + 1);
}

static void
expect_refs(const char *repo, FirnSnapshot *s, const FirnSnapshotNode *node, uint32_t index,
	    JsonObject *contents)
{
	char name[FIRN_ID12_TEXT + 1];
	g_autofree char *path = NULL;
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnManifest) m = NULL;
	FirnExtent extents[FIRN_MAX_RANK];
	FirnManifestFile info;
	FirnRefs refs;
	FirnId12 id;
	size_t at;

	firn_snapshot_node_manifest(s, node, index, &id, extents);
	firn_id12_format(&id, name);
	path = g_build_filename(repo, "manifests", name, NULL);
	file = read_file(path);
	ck_assert(firn_snapshot_find_manifest_file(s, &id, &at));
	firn_snapshot_manifest_file(s, at, &info);
	ck_assert_uint_eq(info.size_bytes, g_bytes_get_size(file));
	m = firn_manifest_open(file, NULL);
	ck_assert_ptr_nonnull(m);
	ck_assert(firn_id12_equal(firn_manifest_id(m), &id));
	ck_assert(firn_manifest_find(m, &node->id, &refs));
	ck_assert_uint_eq(refs.count, info.n_refs);
	ck_assert_uint_eq(refs.rank, node->rank);
	for (uint32_t i = 0; i < refs.count; i++) {
		const uint32_t *coords = firn_refs_coords(&refs, i);
		FirnRef ref;

		firn_refs_get(&refs, i, &ref);
		for (uint32_t axis = 0; axis < refs.rank; axis++) {
			uint64_t length;
			uint32_t n_chunks;

			firn_snapshot_node_shape(s, node, axis, &length, &n_chunks);
			ck_assert_uint_lt(coords[axis], n_chunks);
			ck_assert(extents[axis].from <= coords[axis] &&
				  coords[axis] < extents[axis].to);
		}
		expect(contents, chunk_key(node, coords), ref.length, ref.bytes);
	}
}

/* Every key of the snapshot is a node's document or a ref, and nothing else is there. */
static void
check_snapshot(const char *repo, const char *id, JsonObject *contents)
{
	g_autofree char *path = g_build_filename(repo, "snapshots", id, NULL);
	g_autoptr(GBytes) file = read_file(path);
	g_autoptr(FirnSnapshot) s = firn_snapshot_open(file, NULL);

	ck_assert_ptr_nonnull(s);
	for (size_t i = 0; i < firn_snapshot_n_nodes(s); i++) {
		FirnSnapshotNode node;
		const char *text;

		firn_snapshot_node(s, i, &node);
		text = (const char *)node.path.data + 1;
		expect(contents,
		       node.path.len == 1
			       ? g_strdup("zarr.json")
			       : g_strdup_printf("%.*s/zarr.json", (int)node.path.len - 1, text),
		       node.meta.len, node.meta);
		for (uint32_t m = 0; m < node.n_manifests; m++)
			expect_refs(repo, s, &node, m, contents);
	}
	ck_assert_uint_eq(json_object_get_size(contents), 0);
}

START_TEST(golden__snapshots__hold_what_the_official_library_reads)
{
	g_autofree char *path = g_build_filename(GOLDEN, checked[_i], "contents.json", NULL);
	g_autofree char *repo = g_build_filename(GOLDEN, checked[_i], "repo", NULL);
	g_autoptr(JsonParser) parser = json_parser_new();
	g_autoptr(GList) members = NULL;
	JsonObject *root;
	unsigned n = 0;

	ck_assert(json_parser_load_from_file(parser, path, NULL));
	root = json_node_get_object(json_parser_get_root(parser));
	members = json_object_get_members(root);
	for (GList *at = members; at != NULL; at = at->next) {
		const char *name = at->data;

		if (!g_str_has_prefix(name, "snapshot/"))
			continue;
		check_snapshot(repo, name + strlen("snapshot/"),
			       json_object_get_object_member(root, name));
		n++;
	}
	ck_assert_uint_gt(n, 1);
}
END_TEST

typedef struct {
	const char *path;
	FirnKind kind;
	uint8_t version;
	uint64_t (*walk)(GBytes *);
} Payload;

static const Payload payloads[] = {
	{ "tiny-v2-payloads/snapshots_ZZV2NCN64WXHHN0TWE1G.bin", FIRN_KIND_SNAPSHOT, 2,
	  walk_snapshot },
	{ "tiny-v2-payloads/manifests_D0CH0BS5F5B9X97PXZ90.bin", FIRN_KIND_MANIFEST, 2,
	  walk_manifest },
	{ "tiny-v2-payloads/transactions_ZZV2NCN64WXHHN0TWE1G.bin", FIRN_KIND_TXLOG, 2,
	  walk_txlog },
	{ "tiny-v1-payloads/snapshots_YHH35D8YRKAVV0B9DX3G.bin", FIRN_KIND_SNAPSHOT, 1,
	  walk_snapshot },
	{ "tiny-v1-payloads/manifests_GKD89QKZF3YQJXD340D0.bin", FIRN_KIND_MANIFEST, 1,
	  walk_manifest },
	{ "tiny-v1-payloads/transactions_YHH35D8YRKAVV0B9DX3G.bin", FIRN_KIND_TXLOG, 1,
	  walk_txlog },
};

START_TEST(golden__payload_cut_anywhere__is_safe)
{
	const Payload *p = &payloads[_i];
	g_autofree char *path = g_strconcat(GOLDEN, p->path, NULL);
	g_autoptr(GBytes) bytes = read_file(path);
	const uint8_t *data = g_bytes_get_data(bytes, NULL);
	size_t size = g_bytes_get_size(bytes);

	for (size_t n = 0; n <= size; n++) {
		g_autoptr(GBytes) file = walk_wrap(data, n, p->version, p->kind);

		/* Only padding may be missing. */
		ck_assert_msg((p->walk(file) != 0) == (n == size) || n + 4 > size, "%zu", n);
	}
}
END_TEST

START_TEST(golden__payload_with_any_byte_changed__is_safe)
{
	static const uint8_t flips[] = { 0x01, 0x04, 0x10, 0x80, 0xff };
	const Payload *p = &payloads[_i];
	g_autofree char *path = g_strconcat(GOLDEN, p->path, NULL);
	g_autoptr(GBytes) bytes = read_file(path);
	size_t size = g_bytes_get_size(bytes);
	g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(bytes, NULL), size);
	size_t accepted = 0;

	for (size_t i = 0; i < size * G_N_ELEMENTS(flips); i++) {
		uint8_t *at = copy + i / G_N_ELEMENTS(flips);
		uint8_t flip = flips[i % G_N_ELEMENTS(flips)];
		g_autoptr(GBytes) file = NULL;

		*at ^= flip;
		file = walk_wrap(copy, size, p->version, p->kind);
		accepted += p->walk(file) != 0;
		*at ^= flip;
	}
	ck_assert_uint_gt(accepted, 0);
}
END_TEST

START_TEST(golden__file_of_another_kind__is_refused)
{
	for (size_t i = 0; i < G_N_ELEMENTS(payloads); i++) {
		const Payload *p = &payloads[i];
		g_autofree char *path = g_strconcat(GOLDEN, p->path, NULL);
		g_autoptr(GBytes) bytes = read_file(path);
		g_autoptr(GBytes) file = walk_wrap(g_bytes_get_data(bytes, NULL),
						   g_bytes_get_size(bytes), 2, FIRN_KIND_REPO_INFO);

		ck_assert_uint_eq(p->walk(file), 0);
	}
}
END_TEST

static Suite *
golden_suite(void)
{
	Suite *s = suite_create("golden-files");
	TCase *tc = tcase_create("golden-files");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, golden__every_metadata_file__opens, 0, G_N_ELEMENTS(repos));
	tcase_add_loop_test(tc, golden__snapshots__hold_what_the_official_library_reads, 0,
			    G_N_ELEMENTS(checked));
	tcase_add_loop_test(tc, golden__payload_cut_anywhere__is_safe, 0, G_N_ELEMENTS(payloads));
	tcase_add_loop_test(tc, golden__payload_with_any_byte_changed__is_safe, 0,
			    G_N_ELEMENTS(payloads));
	tcase_add_test(tc, golden__file_of_another_kind__is_refused);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(golden_suite)
