#include "core/repo/changes.h"
#include "tests/unit/harness.h"

#include <string.h>

static FirnId8
node_id(uint8_t n)
{
	return (FirnId8){ { n, 1, 2, 3, 4, 5, 6, 7 } };
}

/* An array document with chunks of one element: the grid is the shape. */
static FirnMeta *
array(const char *shape, const char *chunks)
{
	g_autofree char *text = g_strdup_printf(
		"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":%s,\"data_type\":\"int8\","
		"\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":%s}},"
		"\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}},"
		"\"fill_value\":0,\"codecs\":[{\"name\":\"bytes\"}]}",
		shape, chunks);
	g_autoptr(GBytes) raw = g_bytes_new(text, strlen(text));
	g_autoptr(GError) error = NULL;
	FirnMeta *meta = firn_meta_parse(raw, &error);

	ck_assert_no_error(error);
	return meta;
}

static FirnNodeChange *
put(FirnChanges *changes, uint8_t id, const char *path, const char *shape, bool created,
    uint64_t seq)
{
	g_autoptr(FirnMeta) meta =
		strchr(shape, ',') != NULL ? array(shape, "[1,1]") : array(shape, "[1]");
	FirnId8 node = node_id(id);

	return firn_changes_put_node(changes, &node, path, meta, created, seq);
}

static void
chunk(FirnChanges *changes, uint8_t id, const char *path, uint32_t at, uint64_t seq)
{
	const FirnRef ref = { .kind = FIRN_REF_NATIVE, .length = 1 };
	FirnId8 node = node_id(id);

	(void)firn_changes_put_chunk(changes, &node, path, 1, &at, &ref, seq);
}

static size_t
n_chunks(const FirnNodeChange *node)
{
	return node->chunks != NULL ? firn_chunk_map_size(node->chunks) : 0;
}

START_TEST(put_node__again__keeps_created)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node;

	ck_assert(firn_changes_is_empty(changes));
	(void)put(changes, 1, "/a", "[4]", true, 3);
	node = put(changes, 1, "/a", "[5]", false, 9);
	ck_assert(node->created);
	ck_assert_uint_eq(node->created_seq, 3);
	ck_assert_uint_eq(node->seq, 9);
	ck_assert_ptr_null(node->keep);
	ck_assert_ptr_eq(firn_changes_find_path(changes, "/a"), node);
	ck_assert(!firn_changes_is_empty(changes));
}
END_TEST

static FirnNodeChange *
put_chunked(FirnChanges *changes, const char *chunks, uint64_t seq)
{
	g_autoptr(FirnMeta) meta = array("[8]", chunks);
	FirnId8 node = node_id(1);

	return firn_changes_put_node(changes, &node, "/a", meta, false, seq);
}

START_TEST(put_node__geometry_changes__numbered)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(FirnChanges) overlay = firn_changes_new();
	FirnNodeChange *node;
	FirnId8 id = node_id(1);

	/* What it was before is not known. */
	ck_assert_uint_eq(put_chunked(changes, "[1]", 2)->geometry_seq, 2);
	ck_assert_uint_eq(put_chunked(changes, "[1]", 3)->geometry_seq, 2);
	ck_assert_uint_eq(put_chunked(changes, "[2]", 4)->geometry_seq, 4);
	ck_assert_uint_eq(put_chunked(changes, "[1]", 5)->geometry_seq, 5);
	node = put_chunked(changes, "[1]", 6);
	ck_assert_uint_eq(node->geometry_seq, 5);
	ck_assert_uint_eq(node->seq, 6);
	/* There and back, seen from a start that had the document. */
	(void)put_chunked(overlay, "[1]", 0);
	ck_assert(firn_changes_apply(overlay, changes, false));
	node = firn_changes_find(overlay, &id);
	ck_assert_uint_eq(node->geometry_seq, 5);
	/* Of an inherited one, the first document counts. */
	firn_changes_free(overlay);
	overlay = firn_changes_new();
	ck_assert(firn_changes_apply(overlay, changes, true));
	ck_assert_uint_eq(firn_changes_find(overlay, &id)->geometry_seq, 0);
	ck_assert_uint_eq(put_chunked(overlay, "[1]", 1)->geometry_seq, 1);
	/* Deleted meanwhile. */
	(void)firn_changes_delete_node(changes, &id, "/a", false, 7);
	ck_assert_uint_eq(put_chunked(changes, "[1]", 8)->geometry_seq, 8);
}
END_TEST

START_TEST(delete_node__then_new_id_at_path__tombstone_and_live)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	g_autoptr(GPtrArray) by_id = NULL;
	g_autoptr(GPtrArray) by_path = NULL;
	const FirnId8 first = node_id(1);

	chunk(changes, 1, "/a", 0, 1);
	(void)firn_changes_delete_node(changes, &first, "/a", false, 2);
	ck_assert_uint_eq(changes->n_chunks, 0);
	ck_assert_ptr_null(firn_changes_find_path(changes, "/a"));
	(void)put(changes, 2, "/a", "[4]", true, 3);
	ck_assert_int_eq(firn_changes_find(changes, &first)->kind, FIRN_CHANGE_DELETE);
	by_id = firn_changes_sorted_by_id(changes);
	by_path = firn_changes_sorted_by_path(changes);
	ck_assert_uint_eq(by_id->len, 2);
	ck_assert_uint_eq(by_path->len, 1);
	ck_assert_uint_eq(((FirnNodeChange *)by_path->pdata[0])->id.bytes[0], 2);
}
END_TEST

START_TEST(put_node__smaller_then_larger_grid__drops_and_remembers)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node;

	for (uint32_t i = 0; i < 8; i++)
		chunk(changes, 1, "/a", i, i + 1);
	node = put(changes, 1, "/a", "[5]", false, 20);
	ck_assert_uint_eq(n_chunks(node), 5);
	ck_assert_uint_eq(changes->n_chunks, 5);
	ck_assert_uint_eq(node->keep[0], 5);
	(void)put(changes, 1, "/a", "[3]", false, 21);
	(void)put(changes, 1, "/a", "[9]", false, 22);
	ck_assert_uint_eq(n_chunks(node), 3);
	ck_assert_uint_eq(node->keep_rank, 1);
	ck_assert_uint_eq(node->keep[0], 3);
	chunk(changes, 1, "/a", 8, 23);
	ck_assert_uint_eq(changes->n_chunks, 4);
}
END_TEST

START_TEST(put_node__other_rank__drops_everything)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node;

	chunk(changes, 1, "/a", 0, 1);
	node = put(changes, 1, "/a", "[5,6]", false, 2);
	ck_assert_uint_eq(n_chunks(node), 0);
	ck_assert_uint_eq(node->keep_rank, 2);
	ck_assert_uint_eq(node->keep[0] + node->keep[1], 0);
	(void)put(changes, 1, "/a", "[5]", false, 3);
	ck_assert_uint_eq(node->keep_rank, 1);
	ck_assert_uint_eq(node->keep[0], 0);
}
END_TEST

START_TEST(put_node__created__keep_stays_null)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node = put(changes, 1, "/a", "[5]", true, 1);

	chunk(changes, 1, "/a", 4, 2);
	(void)put(changes, 1, "/a", "[2]", true, 3);
	ck_assert_ptr_null(node->keep);
	ck_assert_ptr_null(node->own_keep);
	ck_assert_uint_eq(changes->n_chunks, 0);
}
END_TEST

START_TEST(put_node__deleted_id__comes_back_empty)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	const FirnId8 id = node_id(1);
	FirnNodeChange *node;

	(void)firn_changes_delete_node(changes, &id, "/a", false, 1);
	node = put(changes, 1, "/a", "[5]", false, 2);
	ck_assert_ptr_eq(firn_changes_find_path(changes, "/a"), node);
	ck_assert_uint_eq(node->keep[0], 0);
}
END_TEST

START_TEST(move_node__made_here__found_at_new_path_only)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node = put(changes, 1, "/a", "[5]", true, 1);

	firn_changes_move_node(changes, &node->id, "/b", 2);
	ck_assert_ptr_null(firn_changes_find_path(changes, "/a"));
	ck_assert_ptr_eq(firn_changes_find_path(changes, "/b"), node);
	ck_assert_uint_eq(node->seq, 2);
	ck_assert_uint_eq(node->created_seq, 1);
	firn_changes_move_node(changes, &node->id, node->path, 3);
	ck_assert_str_eq(node->path, "/b");
}
END_TEST

START_TEST(forget_chunk__there_and_not__counted)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnNodeChange *node = put(changes, 1, "/a", "[5]", true, 1);
	const uint32_t at = 3;

	firn_changes_forget_chunk(changes, node, &at);
	chunk(changes, 1, "/a", 3, 2);
	chunk(changes, 1, "/a", 3, 3);
	ck_assert_uint_eq(changes->n_chunks, 1);
	firn_changes_forget_chunk(changes, node, &at);
	firn_changes_forget_chunk(changes, node, &at);
	ck_assert_uint_eq(changes->n_chunks, 0);
}
END_TEST

START_TEST(put_pending__replaced_and_dropped__one_entry)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	FirnRef ref = { .kind = FIRN_REF_INLINE,
			.length = 1,
			.bytes = { (const uint8_t *)"x", 1 } };

	firn_changes_put_pending(changes, "/a/c/0", &ref, 1);
	firn_changes_put_pending(changes, "/a/c/0", &ref, 2);
	ck_assert_uint_eq(g_hash_table_size(changes->pending), 1);
	ck_assert(!firn_changes_is_empty(changes));
	ref.kind = FIRN_REF_NONE;
	firn_changes_put_pending(changes, "/a/c/0", &ref, 3);
	firn_changes_put_pending(changes, "/b", &(FirnRef){ .kind = FIRN_REF_NONE }, 9);
	ck_assert(firn_changes_is_empty(changes));
}
END_TEST

START_TEST(put_pending__inherited_and_gone__remembered)
{
	g_autoptr(FirnChanges) changes = firn_changes_new();
	const FirnRef none = { .kind = FIRN_REF_NONE };
	const FirnRef ref = { .kind = FIRN_REF_INLINE,
			      .length = 1,
			      .bytes = { (const uint8_t *)"x", 1 } };

	firn_changes_put_pending(changes, "/a/c/0", &ref, 0);
	firn_changes_put_pending(changes, "/a/c/0", &none, 1);
	ck_assert_uint_eq(g_hash_table_size(changes->pending), 0);
	ck_assert(g_hash_table_contains(changes->dropped, "/a/c/0"));
	firn_changes_put_pending(changes, "/a/c/0", &ref, 2);
	ck_assert_uint_eq(g_hash_table_size(changes->dropped), 0);
	firn_changes_put_pending(changes, "/a/c/0", &none, 3);
	ck_assert(g_hash_table_contains(changes->dropped, "/a/c/0"));
	ck_assert(!firn_changes_is_empty(changes));
}
END_TEST

/* A parent created /a with 8 chunks and shrank base array /b; a fork shrinks and grows /a, deletes /b. */
START_TEST(apply__parent_then_own__inherited_and_own_are_told_apart)
{
	g_autoptr(FirnChanges) parent = firn_changes_new();
	g_autoptr(FirnChanges) overlay = firn_changes_new();
	FirnNodeChange *a, *b;

	(void)put(parent, 1, "/a", "[8]", true, 1);
	for (uint32_t i = 0; i < 8; i++)
		chunk(parent, 1, "/a", i, i + 2);
	(void)put(parent, 2, "/b", "[3]", false, 20);
	(void)put(parent, 2, "/b", "[9]", false, 21);
	chunk(parent, 2, "/b", 7, 22);
	ck_assert(firn_changes_apply(overlay, parent, true));
	a = firn_changes_find_path(overlay, "/a");
	b = firn_changes_find_path(overlay, "/b");
	ck_assert_uint_eq(overlay->n_chunks, 9);
	ck_assert(a->created && a->seq == 0 && a->created_seq == 0);
	ck_assert_uint_eq(b->keep[0], 3);

	(void)put(overlay, 1, "/a", "[4]", false, 1);
	(void)put(overlay, 1, "/a", "[8]", false, 2);
	(void)put(overlay, 2, "/b", "[9]", false, 3);
	ck_assert_ptr_null(a->keep);
	ck_assert_uint_eq(a->own_keep[0], 4);
	ck_assert_uint_eq(n_chunks(a), 4);
	/* Relative to the base 3 are kept, relative to the parent all. */
	ck_assert_uint_eq(b->keep[0], 3);
	ck_assert_uint_eq(b->own_keep[0], 9);
	ck_assert_uint_eq(n_chunks(b), 1);
}
END_TEST

START_TEST(apply__shrunk_and_grown_later__earlier_chunks_are_gone)
{
	g_autoptr(FirnChanges) first = firn_changes_new();
	g_autoptr(FirnChanges) later = firn_changes_new();
	FirnNodeChange *node;

	(void)put(first, 1, "/a", "[8]", true, 1);
	for (uint32_t i = 0; i < 8; i++)
		chunk(first, 1, "/a", i, i + 2);
	(void)put(later, 1, "/a", "[2]", false, 1);
	(void)put(later, 1, "/a", "[8]", false, 2);
	chunk(later, 1, "/a", 7, 3);
	ck_assert(firn_changes_apply(first, later, false));
	node = firn_changes_find_path(first, "/a");
	ck_assert_uint_eq(n_chunks(node), 3);
	ck_assert_uint_eq(node->seq, 2);
	ck_assert_uint_eq(node->created_seq, 1);
}
END_TEST

START_TEST(apply__contradiction__refused)
{
	g_autoptr(FirnChanges) first = firn_changes_new();
	g_autoptr(FirnChanges) taken = firn_changes_new();
	g_autoptr(FirnChanges) dead = firn_changes_new();
	const FirnId8 id = node_id(1);

	(void)put(first, 1, "/a", "[8]", true, 1);
	(void)put(taken, 2, "/a", "[8]", true, 1);
	ck_assert(!firn_changes_apply(first, taken, false));
	(void)firn_changes_delete_node(first, &id, "/a", true, 2);
	ck_assert(firn_changes_apply(first, taken, false));
	chunk(dead, 1, "/a", 0, 1);
	ck_assert(!firn_changes_apply(first, dead, false));
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("changes");
	TCase *tcase = tcase_create("all");

	tcase_add_test(tcase, put_node__again__keeps_created);
	tcase_add_test(tcase, put_node__geometry_changes__numbered);
	tcase_add_test(tcase, delete_node__then_new_id_at_path__tombstone_and_live);
	tcase_add_test(tcase, put_node__smaller_then_larger_grid__drops_and_remembers);
	tcase_add_test(tcase, put_node__other_rank__drops_everything);
	tcase_add_test(tcase, put_node__created__keep_stays_null);
	tcase_add_test(tcase, put_node__deleted_id__comes_back_empty);
	tcase_add_test(tcase, move_node__made_here__found_at_new_path_only);
	tcase_add_test(tcase, forget_chunk__there_and_not__counted);
	tcase_add_test(tcase, put_pending__replaced_and_dropped__one_entry);
	tcase_add_test(tcase, put_pending__inherited_and_gone__remembered);
	tcase_add_test(tcase, apply__parent_then_own__inherited_and_own_are_told_apart);
	tcase_add_test(tcase, apply__shrunk_and_grown_later__earlier_chunks_are_gone);
	tcase_add_test(tcase, apply__contradiction__refused);
	suite_add_tcase(suite, tcase);
	return suite;
}

TEST_MAIN(make_suite)
