#include "core/base/error.h"
#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"
#include "core/format/repo_info.h"
#include "tests/unit/harness.h"

#include <string.h>

#define GOLDEN "tests/golden/tiny-v2/repo"

static GBytes *
load(const char *path)
{
	char *data;
	gsize len;

	ck_assert_msg(g_file_get_contents(path, &data, &len, NULL), "%s", path);
	return g_bytes_new_take(data, len);
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static FirnRepoInfo *
decode(GBytes *file)
{
	g_autoptr(GError) error = NULL;
	FirnRepoInfo *info = firn_repo_info_decode(file, &error);

	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(info);
	return info;
}

static GBytes *
encode(const FirnRepoInfo *info)
{
	g_autoptr(GError) error = NULL;
	GBytes *file = firn_repo_info_encode(info, 3, &error);

	ck_assert_no_error(error);
	return file;
}

static FirnId12
id_of(unsigned n)
{
	FirnId12 id = { { 0x80, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n } };

	return id;
}

static void
check_golden(const FirnRepoInfo *info)
{
	const FirnSnapshotInfo *first = info->snapshots->pdata[0];
	const FirnSnapshotInfo *second = info->snapshots->pdata[1];
	const FirnUpdateInfo *update = info->updates->pdata[1];
	char text[FIRN_ID12_TEXT + 1];

	ck_assert_uint_eq(info->snapshots->len, 2);
	ck_assert(!first->has_parent);
	ck_assert_str_eq(first->message, "Repository initialized");
	ck_assert_uint_eq(first->flushed_at, 1795381316462833u);
	ck_assert(second->has_parent);
	ck_assert(firn_id12_equal(&second->parent, &first->id));
	ck_assert_str_eq(json_object_get_string_member(second->metadata, "author"), "tester");
	firn_id12_format(&firn_repo_info_find_branch(info, "main")->snapshot, text);
	ck_assert_str_eq(text, "ZZV2NCN64WXHHN0TWE1G");
	ck_assert(firn_id12_equal(&firn_repo_info_find_tag(info, "v1")->snapshot, &second->id));
	ck_assert_uint_eq(info->updates->len, 3);
	ck_assert_uint_eq(update->kind, FIRN_UPDATE_NEW_COMMIT);
	ck_assert_str_eq(update->name, "main");
	ck_assert(firn_id12_equal(&update->snapshot, &second->id));
	ck_assert_str_eq(update->backup_path, "repo.30708298683436.AMPKZH5QAPTQDHMF3D2G");
	ck_assert_uint_eq(update->updated_at, 1795381316563040u);
	ck_assert_ptr_null(((FirnUpdateInfo *)info->updates->pdata[0])->backup_path);
	ck_assert_uint_eq(info->status_set_at, 1795381316462910u);
	ck_assert_uint_eq(info->availability, 0);
	ck_assert_ptr_null(info->repo_before_updates);
	ck_assert_int_eq(json_object_get_int_member(json_node_get_object(info->config),
						    "inline_chunk_threshold_bytes"),
			 20);
}

START_TEST(decode__golden__as_expected)
{
	g_autoptr(GBytes) file = load(GOLDEN);
	g_autoptr(FirnRepoInfo) info = decode(file);

	check_golden(info);
}
END_TEST

START_TEST(encode__golden__decodes_to_the_same)
{
	g_autoptr(GBytes) file = load(GOLDEN);
	g_autoptr(FirnRepoInfo) info = decode(file);
	g_autoptr(GBytes) once = encode(info);
	g_autoptr(FirnRepoInfo) again = decode(once);
	g_autoptr(GBytes) twice = encode(again);

	check_golden(again);
	ck_assert(g_bytes_equal(once, twice));
}
END_TEST

START_TEST(new__repository__complete)
{
	g_autoptr(JsonNode) config = json_from_string("{\"a\":1}", NULL);
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1000, config);
	g_autoptr(GBytes) file = encode(made);
	g_autoptr(FirnRepoInfo) info = decode(file);
	const FirnSnapshotInfo *root =
		firn_repo_info_find_snapshot(info, &firn_id_initial_snapshot);
	const FirnUpdateInfo *update = info->updates->pdata[0];

	ck_assert(!root->has_parent);
	ck_assert_uint_eq(root->flushed_at, 1000);
	ck_assert(json_object_has_member(root->metadata, "__icechunk"));
	ck_assert(firn_id12_equal(&firn_repo_info_find_branch(info, "main")->snapshot, &root->id));
	ck_assert_uint_eq(info->updates->len, 1);
	ck_assert_uint_eq(update->kind, FIRN_UPDATE_REPO_INITIALIZED);
	ck_assert_uint_eq(update->updated_at, 1000);
	ck_assert(json_node_equal(info->config, config));
}
END_TEST

START_TEST(helpers__refs__sorted_and_unique)
{
	static const char *const names[] = { "b", "a/x", "", "zz", "a" };
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1, NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		ck_assert(firn_repo_info_add_branch(info, names[i], &firn_id_initial_snapshot));
		ck_assert(!firn_repo_info_add_branch(info, names[i], &firn_id_initial_snapshot));
		ck_assert(firn_repo_info_add_tag(info, names[i], &firn_id_initial_snapshot));
	}
	for (guint i = 1; i < info->branches->len; i++)
		ck_assert_int_lt(strcmp(((FirnRefInfo *)info->branches->pdata[i - 1])->name,
					((FirnRefInfo *)info->branches->pdata[i])->name),
				 0);
	ck_assert(firn_repo_info_remove_tag(info, "zz"));
	ck_assert(!firn_repo_info_remove_tag(info, "zz"));
	ck_assert(firn_repo_info_remove_tag(info, "a"));
	ck_assert(firn_repo_info_tag_was_deleted(info, "zz"));
	ck_assert(!firn_repo_info_tag_was_deleted(info, "b"));
	ck_assert_str_eq(info->deleted_tags->pdata[0], "a");
	ck_assert(firn_repo_info_remove_branch(info, "b"));
	ck_assert(!firn_repo_info_remove_branch(info, "b"));
	ck_assert_ptr_null(firn_repo_info_find_branch(info, "b"));
	ck_assert(!firn_repo_info_add_snapshot(info, &firn_id_initial_snapshot, NULL, 1, "", NULL));
}
END_TEST

START_TEST(encode__snapshot_in_front__indices_follow)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	const FirnId12 low = { { 0, 1 } };
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;

	ck_assert(firn_repo_info_add_snapshot(made, &low, &firn_id_initial_snapshot, 2, "x", NULL));
	ck_assert(firn_repo_info_add_tag(made, "t", &low));
	file = encode(made);
	info = decode(file);
	ck_assert(firn_id12_equal(&firn_repo_info_find_snapshot(info, &low)->parent,
				  &firn_id_initial_snapshot));
	ck_assert(firn_id12_equal(&firn_repo_info_find_tag(info, "t")->snapshot, &low));
	ck_assert(firn_id12_equal(&firn_repo_info_find_branch(info, "main")->snapshot,
				  &firn_id_initial_snapshot));
}
END_TEST

START_TEST(encode__ref_to_nothing__refused)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1, NULL);
	g_autoptr(GError) error = NULL;
	const FirnId12 missing = { { 9 } };

	ck_assert(firn_repo_info_add_branch(info, "lost", &missing));
	ck_assert_ptr_null(firn_repo_info_encode(info, 3, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
}
END_TEST

START_TEST(push_update__times_and_backups__as_the_format_says)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1000, NULL);
	const FirnUpdateInfo *newest;

	firn_repo_info_push_update(info, FIRN_UPDATE_TAG_CREATED, "t", NULL, NULL, "repo.1.A", 900,
				   10);
	newest = info->updates->pdata[0];
	ck_assert_uint_eq(newest->updated_at, 1001);
	ck_assert_ptr_null(newest->backup_path);
	ck_assert_str_eq(((FirnUpdateInfo *)info->updates->pdata[1])->backup_path, "repo.1.A");
	ck_assert_ptr_null(info->repo_before_updates);
	firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "repo.2.B", 5000, 2);
	ck_assert_uint_eq(info->updates->len, 2);
	ck_assert_uint_eq(((FirnUpdateInfo *)info->updates->pdata[0])->updated_at, 5000);
	ck_assert_str_eq(info->repo_before_updates, "repo.1.A");
	firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "repo.3.C", 6000, 1);
	ck_assert_uint_eq(info->updates->len, 1);
	ck_assert_str_eq(info->repo_before_updates, "repo.3.C");
}
END_TEST

START_TEST(push_update__no_backups__kept_beyond_the_limit)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(1000, NULL);

	for (unsigned i = 0; i < 5; i++)
		firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, NULL, 0, 2);
	ck_assert_uint_eq(info->updates->len, 6);
	ck_assert_ptr_null(info->repo_before_updates);
}
END_TEST

START_TEST(flags__defaults_and_overrides__as_set)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;

	ck_assert(firn_repo_info_flag_enabled(made, FIRN_FLAG_CREATE_TAG));
	firn_repo_info_set_flag(made, FIRN_FLAG_DELETE_TAG, false, true, "b", 2, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_CREATE_TAG, false, true, "c", 3, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_MOVE_NODE, true, true, "d", 4, 100);
	firn_repo_info_set_flag(made, FIRN_FLAG_DELETE_TAG, false, false, "e", 5, 100);
	made->availability = 1;
	made->status_reason = g_strdup("moving house");
	firn_repo_info_push_update(made, FIRN_UPDATE_REPO_STATUS_CHANGED, NULL, NULL, NULL, "f", 6,
				   100);
	file = encode(made);
	info = decode(file);
	g_clear_pointer(&file, g_bytes_unref);
	file = encode(info);
	g_clear_pointer(&info, firn_repo_info_free);
	info = decode(file);
	ck_assert(!firn_repo_info_flag_enabled(info, FIRN_FLAG_CREATE_TAG));
	ck_assert(firn_repo_info_flag_enabled(info, FIRN_FLAG_DELETE_TAG));
	ck_assert(firn_repo_info_flag_enabled(info, FIRN_FLAG_MOVE_NODE));
	ck_assert_uint_eq(info->disabled_flags->len, 1);
	ck_assert_uint_eq(info->availability, 1);
	ck_assert_str_eq(info->status_reason, "moving house");
	ck_assert_uint_eq(info->updates->len, 6);
}
END_TEST

/* ---- what a later version may add ---- */

/* Fields of every kind, from id `from` on; the children are appended by add_later(). */
static void
declare_later(FirnFlatRow *row, unsigned from)
{
	const FirnId12 id = { "twelve bytes" };

	firn_flat_row_u8(row, from, 7);
	firn_flat_row_u16(row, from + 1, 0x1234);
	firn_flat_row_u32(row, from + 2, 0xdeadbeef);
	firn_flat_row_u64(row, from + 3, 0x0123456789abcdef);
	firn_flat_row_id12(row, from + 4, &id);
	firn_flat_row_child(row, from + 5); /* text */
	firn_flat_row_child(row, from + 6); /* u64 list */
	firn_flat_row_child(row, from + 7); /* table with a list of tables */
}

static void
add_later(FirnFlatBuilder *b, size_t table, unsigned from)
{
	static const uint64_t numbers[] = { 1, UINT64_MAX, 3 };
	FirnFlatRow row = { 0 };
	size_t child;
	size_t list;

	firn_flat_link(b, table, from + 5,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"from later", 10 }));
	firn_flat_link(b, table, from + 6, firn_flat_build_vector(b, numbers, 3, 8, 8));
	firn_flat_row_u32(&row, 0, 77);
	firn_flat_row_child(&row, 2);
	child = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, from + 7, child);
	list = firn_flat_build_offsets(b, 3);
	firn_flat_link(b, child, 2, list);
	for (unsigned i = 0; i < 3; i++) {
		FirnFlatRow item = { 0 };

		firn_flat_row_u64(&item, 1, 1000 + i);
		firn_flat_link_item(b, list, i, firn_flat_build_table(b, &item));
	}
}

static void
check_later(FirnSpan b, size_t table, unsigned from)
{
	size_t numbers = firn_flat_get_child(b, table, from + 6);
	size_t child = firn_flat_get_child(b, table, from + 7);
	size_t list;

	ck_assert_uint_eq(firn_flat_get_u8(b, table, from, 0), 7);
	ck_assert_uint_eq(firn_flat_get_u16(b, table, from + 1, 0), 0x1234);
	ck_assert_uint_eq(firn_flat_get_u32(b, table, from + 2, 0), 0xdeadbeef);
	ck_assert_uint_eq(firn_flat_get_u64(b, table, from + 3, 0), 0x0123456789abcdef);
	ck_assert_uint_eq((firn_flat_field(b, table, from + 3)) % 8, 0);
	ck_assert_mem_eq(firn_flat_get_struct(b, table, from + 4), "twelve bytes", 12);
	ck_assert_uint_eq(firn_flat_get_bytes(b, table, from + 5).len, 10);
	ck_assert_mem_eq(firn_flat_get_bytes(b, table, from + 5).data, "from later", 11);
	ck_assert_uint_eq(firn_flat_count(b, numbers), 3);
	ck_assert_uint_eq((numbers + 4) % 8, 0);
	ck_assert_uint_eq(firn_flat_load64(firn_flat_items(b, numbers) + 8), UINT64_MAX);
	ck_assert_uint_eq(firn_flat_get_u32(b, child, 0, 0), 77);
	list = firn_flat_get_child(b, child, 2);
	ck_assert_uint_eq(firn_flat_count(b, list), 3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(firn_flat_get_u64(b, firn_flat_item(b, list, i), 1, 0), 1000 + i);
}

static size_t
later_ref(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_child(&row, 0);
	firn_flat_row_u32(&row, 1, 0);
	declare_later(&row, 2);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, 0,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"main", 4 }));
	add_later(b, table, 2);
	return table;
}

static size_t
later_snapshot(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	firn_flat_row_id12(&row, 0, &firn_id_initial_snapshot);
	firn_flat_row_i32(&row, 1, -1);
	firn_flat_row_u64(&row, 2, 5);
	firn_flat_row_child(&row, 3);
	declare_later(&row, 6);
	table = firn_flat_build_table(b, &row);
	firn_flat_link(b, table, 3,
		       firn_flat_build_string(b, (FirnSpan){ (const uint8_t *)"a\0b", 3 }));
	add_later(b, table, 6);
	return table;
}

static size_t
later_status(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	size_t table;

	declare_later(&row, 3);
	table = firn_flat_build_table(b, &row);
	add_later(b, table, 3);
	return table;
}

/* An update of a kind that is not known, with fields of its own. */
static size_t
later_update(FirnFlatBuilder *b)
{
	FirnFlatRow row = { 0 };
	FirnFlatRow variant = { 0 };
	size_t table;
	size_t value;

	firn_flat_row_u8(&row, 0, 99);
	firn_flat_row_child(&row, 1);
	firn_flat_row_u64(&row, 2, 6);
	declare_later(&row, 4);
	table = firn_flat_build_table(b, &row);
	add_later(b, table, 4);
	declare_later(&variant, 0);
	value = firn_flat_build_table(b, &variant);
	firn_flat_link(b, table, 1, value);
	add_later(b, value, 0);
	return table;
}

static size_t
list_of(FirnFlatBuilder *b, size_t (*make)(FirnFlatBuilder *))
{
	size_t vector = firn_flat_build_offsets(b, 1);

	firn_flat_link_item(b, vector, 0, make(b));
	return vector;
}

static GBytes *
later_repo(void)
{
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	g_autoptr(GBytes) payload = NULL;
	FirnFlatRow row = { 0 };
	size_t root;

	firn_flat_row_u8(&row, 0, 2);
	for (unsigned id = 1; id <= 5; id++)
		firn_flat_row_child(&row, id);
	firn_flat_row_child(&row, 7);
	firn_flat_row_child(&row, 12);
	declare_later(&row, 13);
	root = firn_flat_build_root(b, &row);
	firn_flat_link(b, root, 1, firn_flat_build_offsets(b, 0));
	firn_flat_link(b, root, 2, list_of(b, later_ref));
	firn_flat_link(b, root, 3, firn_flat_build_offsets(b, 0));
	firn_flat_link(b, root, 4, list_of(b, later_snapshot));
	firn_flat_link(b, root, 5, later_status(b));
	firn_flat_link(b, root, 7, list_of(b, later_update));
	firn_flat_link(b, root, 12,
		       firn_flat_build_bytes(b, (FirnSpan){ (const uint8_t *)"xyz", 3 }));
	add_later(b, root, 13);
	payload = firn_flat_builder_finish(b, NULL);
	return firn_envelope_seal(&envelope, span_of(payload), 3);
}

static void
check_later_repo(GBytes *file)
{
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	FirnSpan b = span_of(payload);
	size_t root = firn_flat_root(b);
	size_t updates = firn_flat_get_child(b, root, 7);
	size_t update = firn_flat_item(b, updates, firn_flat_count(b, updates) - 1);
	size_t info = firn_flat_item(b, firn_flat_get_child(b, root, 4), 0);

	check_later(b, root, 13);
	ck_assert_mem_eq(firn_flat_get_bytes(b, root, 12).data, "xyz", 3);
	check_later(b, firn_flat_item(b, firn_flat_get_child(b, root, 2), 0), 2);
	check_later(b, info, 6);
	ck_assert_uint_eq(firn_flat_get_bytes(b, info, 3).len, 3);
	check_later(b, firn_flat_get_child(b, root, 5), 3);
	ck_assert_uint_eq(firn_flat_get_u8(b, update, 0, 0), 99);
	check_later(b, update, 4);
	check_later(b, firn_flat_get_child(b, update, 1), 0);
}

START_TEST(encode__fields_of_a_later_version__kept_through_rewrites)
{
	g_autoptr(GBytes) file = later_repo();
	gsize size = 0;

	check_later_repo(file);
	for (unsigned i = 0; i < 5; i++) {
		g_autoptr(FirnRepoInfo) info = decode(file);

		firn_repo_info_push_update(info, FIRN_UPDATE_GC_RAN, NULL, NULL, NULL, "b", 9, 100);
		g_bytes_unref(file);
		file = encode(info);
		check_later_repo(file);
		/* What is copied to be on the safe side does not pile up. */
		ck_assert(i < 2 || g_bytes_get_size(file) < size + 200);
		size = g_bytes_get_size(file);
	}
}
END_TEST

START_TEST(decode__metadata_json_cannot_hold__kept_unless_changed)
{
	/* 2^64 - 1, which a JSON node rounds. */
	static const uint8_t big[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0b, 0x08 };
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = encode(made);
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	gsize len;
	g_autofree uint8_t *bytes = g_bytes_unref_to_data(g_bytes_ref(payload), &len);
	FirnSpan b = { bytes, len };
	size_t info_at = firn_flat_item(b, firn_flat_get_child(b, firn_flat_root(b), 4), 0);
	size_t item = firn_flat_item(b, firn_flat_get_child(b, info_at, 4), 0);
	size_t value = firn_flat_get_child(b, item, 1);
	const uint32_t n = sizeof big;

	/* The value there is longer, so it can be overwritten in place. */
	ck_assert_uint_gt(firn_flat_count(b, value), n);
	memcpy(bytes + value, &n, 4);
	memcpy(bytes + value + 4, big, n);
	g_bytes_unref(file);
	file = firn_envelope_seal(&envelope, b, 3);
	for (unsigned i = 0; i < 2; i++) {
		g_autoptr(FirnRepoInfo) info = decode(file);
		g_autoptr(GBytes) again = NULL;
		FirnSpan c;

		g_bytes_unref(file);
		file = encode(info);
		again = firn_envelope_open(file, 1 << 20, NULL, NULL);
		c = span_of(again);
		info_at = firn_flat_item(c, firn_flat_get_child(c, firn_flat_root(c), 4), 0);
		item = firn_flat_item(c, firn_flat_get_child(c, info_at, 4), 0);
		ck_assert_uint_eq(firn_flat_get_bytes(c, item, 1).len, sizeof big);
		ck_assert_mem_eq(firn_flat_get_bytes(c, item, 1).data, big, sizeof big);
	}
}
END_TEST

START_TEST(decode__every_cut_and_flip__never_crashes)
{
	g_autoptr(GBytes) file = later_repo();
	g_autoptr(GBytes) payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
	FirnSpan all = span_of(payload);
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };

	for (size_t i = 0; i < all.len; i++) {
		for (unsigned bit = 0; bit < 8; bit += 1 + (unsigned)i % 3) {
			g_autofree uint8_t *copy = g_memdup2(all.data, all.len);
			g_autoptr(GBytes) bad = NULL;
			g_autoptr(FirnRepoInfo) info = NULL;

			copy[i] = (uint8_t)(copy[i] ^ 1u << bit);
			bad = firn_envelope_seal(&envelope, (FirnSpan){ copy, all.len }, 1);
			info = firn_repo_info_decode(bad, NULL);
			if (info != NULL) {
				g_autoptr(GBytes) again = firn_repo_info_encode(info, 1, NULL);

				/* What we write can be read again. */
				if (again != NULL)
					firn_repo_info_free(decode(again));
			}
		}
		if (i % 4 == 0) {
			g_autoptr(GBytes) cut =
				firn_envelope_seal(&envelope, (FirnSpan){ all.data, i }, 1);

			firn_repo_info_free(firn_repo_info_decode(cut, NULL));
		}
	}
}
END_TEST

/* The second snapshot's parent is itself. */
START_TEST(decode__cycle_or_bad_index__refused)
{
	for (int32_t parent = -2; parent < 4; parent++) {
		g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
		const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
		const FirnId12 id = id_of(1);
		g_autoptr(GBytes) file = NULL;
		g_autoptr(GBytes) payload = NULL;
		g_autoptr(GBytes) bad = NULL;
		g_autoptr(FirnRepoInfo) info = NULL;
		g_autofree uint8_t *bytes = NULL;
		FirnSpan b;
		size_t table;

		ck_assert(firn_repo_info_add_snapshot(made, &id, NULL, 2, "x", NULL));
		file = encode(made);
		payload = firn_envelope_open(file, 1 << 20, NULL, NULL);
		bytes = g_memdup2(span_of(payload).data, span_of(payload).len);
		b = (FirnSpan){ bytes, span_of(payload).len };
		table = firn_flat_item(b, firn_flat_get_child(b, firn_flat_root(b), 4), 1);
		memcpy(bytes + firn_flat_field(b, table, 1), &parent, sizeof parent);
		bad = firn_envelope_seal(&envelope, b, 1);
		info = firn_repo_info_decode(bad, NULL);
		ck_assert((info != NULL) == (parent == -1 || parent == 0));
	}
}
END_TEST

START_TEST(decode_encode__ten_thousand_snapshots__all_there)
{
	g_autoptr(FirnRepoInfo) made = firn_repo_info_new(1, NULL);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	FirnId12 parent = firn_id_initial_snapshot;
	gint64 start;

	for (unsigned i = 0; i < 10000; i++) {
		FirnId12 id = id_of(i * 7919 % 10007);

		ck_assert(
			firn_repo_info_add_snapshot(made, &id, &parent, i + 2, "a message", NULL));
		parent = id;
	}
	file = encode(made);
	start = g_get_monotonic_time();
	info = decode(file);
	g_print("decode %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - start);
	start = g_get_monotonic_time();
	g_bytes_unref(file);
	file = encode(info);
	g_print("encode %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - start);
	ck_assert_uint_eq(info->snapshots->len, 10001);
	for (unsigned i = 0; parent.bytes[0] == 0x80; i++) {
		ck_assert_uint_lt(i, 10000);
		parent = firn_repo_info_find_snapshot(info, &parent)->parent;
	}
	ck_assert(firn_id12_equal(&parent, &firn_id_initial_snapshot));
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("repo_info");
	TCase *tc = tcase_create("repo_info");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, decode__golden__as_expected);
	tcase_add_test(tc, encode__golden__decodes_to_the_same);
	tcase_add_test(tc, new__repository__complete);
	tcase_add_test(tc, helpers__refs__sorted_and_unique);
	tcase_add_test(tc, encode__snapshot_in_front__indices_follow);
	tcase_add_test(tc, encode__ref_to_nothing__refused);
	tcase_add_test(tc, push_update__times_and_backups__as_the_format_says);
	tcase_add_test(tc, push_update__no_backups__kept_beyond_the_limit);
	tcase_add_test(tc, flags__defaults_and_overrides__as_set);
	tcase_add_test(tc, encode__fields_of_a_later_version__kept_through_rewrites);
	tcase_add_test(tc, decode__metadata_json_cannot_hold__kept_unless_changed);
	tcase_add_test(tc, decode__every_cut_and_flip__never_crashes);
	tcase_add_test(tc, decode__cycle_or_bad_index__refused);
	tcase_add_test(tc, decode_encode__ten_thousand_snapshots__all_there);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
