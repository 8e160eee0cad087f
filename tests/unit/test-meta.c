#include "core/base/error.h"
#include "core/base/json_check.h"
#include "core/zarr/meta.h"
#include "tests/unit/harness.h"

#include <string.h>

#define ARRAY(shape, grid, rest)                                         \
	"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":" shape    \
	",\"data_type\":\"int32\",\"fill_value\":0,\"chunk_grid\":" grid \
	",\"codecs\":[{\"name\":\"bytes\"}]" rest "}"
#define REGULAR(shape) "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":" shape "}}"
#define RECTILINEAR(shapes)                                                                         \
	"{\"name\":\"rectilinear\",\"configuration\":{\"kind\":\"inline\",\"chunk_shapes\":" shapes \
	"}}"

static FirnMeta *
parse(const char *text, GError **error)
{
	g_autoptr(GBytes) raw = g_bytes_new(text, strlen(text));

	return firn_meta_parse(raw, error);
}

static FirnMeta *
good(const char *text)
{
	g_autoptr(GError) error = NULL;
	FirnMeta *meta = parse(text, &error);

	ck_assert_no_error(error);
	ck_assert_ptr_nonnull(meta);
	return meta;
}

static void
bad(const char *text, const char *named)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnMeta) meta = parse(text, &error);

	ck_assert_msg(meta == NULL, "accepted: %s", text);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert_msg(strstr(error->message, named) != NULL, "%s lacks %s", error->message, named);
}

static const char *
check(const char *text, unsigned depth)
{
	return firn_json_check((FirnSpan){ (const uint8_t *)text, strlen(text) }, depth, NULL);
}

START_TEST(json_check__valid__null)
{
	static const char *const texts[] = { "null",
					     " true ",
					     "false",
					     "0",
					     "-0",
					     "-1.5e+10",
					     "1E5",
					     "\"\"",
					     "\"a\\u00e9\\ud83d\\ude00\\n\"",
					     "\"\\ud800\"",
					     "\"\\ud800\\u0041\"",
					     "[]",
					     "{}",
					     "[ 1 , [ ] , { } ]",
					     "{\"a\":{\"b\":[1,2]}}\n\t\r " };

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		ck_assert_msg(check(texts[i], 8) == NULL, "%s", texts[i]);
}
END_TEST

START_TEST(json_check__invalid__says_why)
{
	static const char *const texts[] = { "",           " ",
					     "nul",        "NaN",
					     "Infinity",   "-",
					     "01",         "1.",
					     ".5",         "1e",
					     "+1",         "\"",
					     "\"\\",       "\"\\x\"",
					     "\"\\u12\"",  "\"\n\"",
					     "\"\xff\"",   "[",
					     "[1",         "[1,",
					     "[1,]",       "[,]",
					     "{",          "{\"a\"",
					     "{\"a\":",    "{\"a\":1",
					     "{\"a\":1,}", "{a:1}",
					     "{'a':1}",    "1 2",
					     "[] []",      "/* */ 1",
					     "// x\n1",    "\xef\xbb\xbf{}",
					     "[1}",        "{\"a\":1]" };

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		ck_assert_msg(check(texts[i], 8) != NULL, "%s", texts[i]);
}
END_TEST

START_TEST(json_check__depth__bounded)
{
	size_t offset = 0;

	ck_assert_ptr_null(check("[[[]]]", 3));
	ck_assert_ptr_nonnull(check("[[[]]]", 2));
	ck_assert_ptr_nonnull(
		firn_json_check((FirnSpan){ (const uint8_t *)"[1,\0]", 5 }, 8, &offset));
	ck_assert_uint_eq(offset, 3);
}
END_TEST

START_TEST(parse__regular_array__counts_chunks)
{
	g_autoptr(FirnMeta) meta = good(ARRAY("[10,0,7,5]", REGULAR("[3,4,0,5]"),
					      ",\"dimension_names\":[\"t\",null,\"\",\"x\"]"));
	const uint32_t in[] = { 3, 0, 0, 0 };

	ck_assert_int_eq(meta->kind, FIRN_NODE_ARRAY);
	ck_assert_uint_eq(meta->rank, 4);
	ck_assert_uint_eq(meta->lengths[0], 10);
	ck_assert_uint_eq(meta->n_chunks[0], 4);
	ck_assert_uint_eq(meta->n_chunks[1], 0);
	ck_assert_uint_eq(meta->n_chunks[2], 0);
	ck_assert_uint_eq(meta->n_chunks[3], 1);
	ck_assert(meta->has_dimension_names);
	ck_assert_str_eq(meta->dimension_names[0], "t");
	ck_assert_ptr_null(meta->dimension_names[1]);
	ck_assert_str_eq(meta->dimension_names[3], "x");
	ck_assert(!firn_meta_contains(meta, in, 4));
}
END_TEST

START_TEST(parse__scalar__has_one_chunk)
{
	g_autoptr(FirnMeta) meta = good(ARRAY("[]", REGULAR("[]"), ""));

	ck_assert_uint_eq(meta->rank, 0);
	ck_assert(firn_meta_contains(meta, NULL, 0));
	ck_assert(!firn_meta_contains(meta, (const uint32_t[]){ 0 }, 1));
	ck_assert(!meta->has_dimension_names);
}
END_TEST

START_TEST(parse__rectilinear__counts_entries)
{
	g_autoptr(FirnMeta) meta = good(ARRAY("[10,6]", RECTILINEAR("[[2,3,5],[[3,2]]]"), ""));

	ck_assert_uint_eq(meta->n_chunks[0], 3);
	ck_assert_uint_eq(meta->n_chunks[1], 2);
	ck_assert(firn_meta_contains(meta, (const uint32_t[]){ 2, 1 }, 2));
	ck_assert(!firn_meta_contains(meta, (const uint32_t[]){ 3, 1 }, 2));
	firn_meta_unref(g_steal_pointer(&meta));
	meta = good(ARRAY("[10,6]", RECTILINEAR("[3,[[3,2]]]"), ""));
	ck_assert_uint_eq(meta->n_chunks[0], 4);
	bad(ARRAY("[10]", RECTILINEAR("[[[2]]]"), ""), "chunk_shapes");
	bad(ARRAY("[10]", RECTILINEAR("[[[1,4294967295],1]]"), ""), "axis 0");
	bad(ARRAY("[10]", RECTILINEAR("[[[1,9223372036854775807],[1,9223372036854775807]]]"), ""),
	    "axis 0");
}
END_TEST

START_TEST(parse__encodings__only_default_with_slash)
{
	static const char *const fine[] = {
		",\"chunk_key_encoding\":{\"name\":\"default\"}",
		",\"chunk_key_encoding\":\"default\"",
		",\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{}}",
		",\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}}",
	};
	static const char *const wrong[] = {
		",\"chunk_key_encoding\":{\"name\":\"v2\"}",
		",\"chunk_key_encoding\":{\"name\":\"v2\",\"configuration\":{\"separator\":\"/\"}}",
		",\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\".\"}}",
		",\"chunk_key_encoding\":null",
		",\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":null}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(fine); i++) {
		g_autofree char *text =
			g_strdup_printf(ARRAY("[4]", REGULAR("[2]"), "%s"), fine[i]);
		g_autoptr(FirnMeta) meta = good(text);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autofree char *text =
			g_strdup_printf(ARRAY("[4]", REGULAR("[2]"), "%s"), wrong[i]);

		bad(text, "chunk_key_encoding");
	}
}
END_TEST

START_TEST(parse__broken_documents__refused_by_name)
{
	bad("", "JSON");
	bad("[]", "object");
	bad("{}", "zarr_format");
	bad("{\"zarr_format\":2,\"node_type\":\"group\"}", "zarr_format");
	bad("{\"zarr_format\":3.0,\"node_type\":\"group\"}", "zarr_format");
	bad("{\"zarr_format\":3}", "node_type");
	bad("{\"zarr_format\":3,\"node_type\":\"table\"}", "node_type");
	bad("{\"zarr_format\":3,\"node_type\":\"group\",\"a\":NaN}", "JSON");
	bad("{\"zarr_format\":3,\"node_type\":\"array\"}", "shape");
	bad("{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[1]}", "chunk_grid");
	bad(ARRAY("4", REGULAR("[2]"), ""), "shape");
	bad(ARRAY("[-1]", REGULAR("[2]"), ""), "shape");
	bad(ARRAY("[1.5]", REGULAR("[2]"), ""), "shape");
	bad(ARRAY("[18446744073709551616]", REGULAR("[2]"), ""), "shape");
	bad(ARRAY("[4]", REGULAR("[2,2]"), ""), "chunk_shape");
	bad(ARRAY("[4]", REGULAR("[]"), ""), "chunk_shape");
	bad(ARRAY("[4]", REGULAR("[\"2\"]"), ""), "chunk_shape");
	bad(ARRAY("[4]", "\"regular\"", ""), "chunk_grid");
	bad(ARRAY("[4]", "{\"name\":\"hexagonal\"}", ""), "hexagonal");
	bad(ARRAY("[4]", "{\"name\":\"regular\"}", ""), "chunk_grid");
	bad(ARRAY("[4294967296]", REGULAR("[1]"), ""), "axis 0");
	bad(ARRAY("[4]", REGULAR("[2]"), ",\"dimension_names\":[]"), "dimension_names");
	bad(ARRAY("[4]", REGULAR("[2]"), ",\"dimension_names\":[1]"), "dimension_names");
}
END_TEST

#define EDGES(shapes) ARRAY("[10]", RECTILINEAR(shapes), "")
#define AREA(shapes)  ARRAY("[10,10]", RECTILINEAR(shapes), "")

static const struct {
	const char *a;
	const char *b;
	bool same;
} grids[] = {
	/* further edges at the end, either way */
	{ EDGES("[[2,8]]"), ARRAY("[13]", RECTILINEAR("[[2,8,3]]"), ""), true },
	{ EDGES("[[2,8]]"), EDGES("[[2]]"), true },
	{ EDGES("[[2,8]]"), EDGES("[[]]"), true },
	{ AREA("[[2,8],[10]]"), AREA("[[2],[10,4]]"), true },
	/* others */
	{ EDGES("[[2,8]]"), EDGES("[[5,5]]"), false },
	{ EDGES("[[1,2,3,4]]"), EDGES("[[1,3,2,4]]"), false },
	{ EDGES("[[1,2,3,4]]"), EDGES("[[1,9]]"), false },
	{ EDGES("[[10,7]]"), EDGES("[[10,8]]"), false },
	{ AREA("[[2,8],[10]]"), AREA("[[2],[4,10]]"), false },
	{ AREA("[[2],[3,3,4]]"), AREA("[[2,3,3],[4]]"), false },
	{ AREA("[[5,5],[5]]"), AREA("[[5],[5,6]]"), true },
	/* runs */
	{ EDGES("[[[2,5]]]"), EDGES("[[2,2,2,2,2]]"), true },
	{ EDGES("[[[2,5]]]"), EDGES("[[[2,2],2,[2,1],[9,0],[2,1]]]"), true },
	{ EDGES("[[[2,5]]]"), EDGES("[[2,[2,2]]]"), true },
	{ EDGES("[[[2,5],3]]"), EDGES("[[[2,4],3]]"), false },
	{ EDGES("[[[2,5]]]"), EDGES("[[[2,4],3]]"), false },
	{ EDGES("[[[2,4294967295]]]"), EDGES("[[[2,4294967294],2]]"), true },
	{ EDGES("[[[2,4294967295]]]"), EDGES("[[[2,4294967294],3]]"), false },
	/* a length that repeats */
	{ EDGES("[5]"), ARRAY("[90]", RECTILINEAR("[5]"), ""), true },
	{ EDGES("[5]"), EDGES("[4]"), false },
	{ EDGES("[5]"), EDGES("[[5,5]]"), true },
	{ EDGES("[5]"), EDGES("[[5,5,3]]"), true },
	{ EDGES("[5]"), EDGES("[[5,3,2]]"), false },
	{ EDGES("[5]"), EDGES("[[[5,7]]]"), true },
	{ ARRAY("[15]", RECTILINEAR("[5]"), ""), EDGES("[[5,5,3]]"), false },
	{ AREA("[5,[4,6]]"), AREA("[5,[4,3,3]]"), false },
	/* other kinds of grids, and what else counts */
	{ EDGES("[5]"), ARRAY("[10]", REGULAR("[5]"), ""), false },
	{ EDGES("[[2]]"), AREA("[[2],[2]]"), false },
	{ EDGES("[[2]]"), ARRAY("[10]", RECTILINEAR("[[2]]"), ",\"codecs\":[]"), false },
};

START_TEST(geometry__rectilinear__edges_of_one_start_those_of_the_other)
{
	g_autoptr(FirnMeta) a = good(grids[_i].a);
	g_autoptr(FirnMeta) b = good(grids[_i].b);

	ck_assert_msg(firn_meta_same_geometry(a, b) == grids[_i].same, "%s %s", grids[_i].a,
		      grids[_i].b);
	ck_assert_msg(firn_meta_same_geometry(b, a) == grids[_i].same, "%s %s", grids[_i].b,
		      grids[_i].a);
	ck_assert(firn_meta_same_geometry(a, a));
	ck_assert(firn_meta_same_geometry(b, b));
}
END_TEST

/* Runs of one length are one, however they are written. */
START_TEST(geometry__many_equal_edges__take_no_room)
{
	g_autoptr(FirnMeta) a = good(EDGES("[[1,1,1,[1,4294967000],1,2,[2,200]]]"));

	ck_assert_uint_eq(a->edges->len, 2);
}
END_TEST

/* A member that only a rectilinear grid has says nothing in a regular one. */
START_TEST(geometry__regular_with_edges__chunk_shape_counts)
{
#define BOTH(size) \
	"{\"name\":\"regular\",\"configuration\":{\"chunk_shapes\":[[1]],\"chunk_shape\":" size "}}"
	g_autoptr(FirnMeta) a = good(ARRAY("[4]", BOTH("[2]"), ""));
	g_autoptr(FirnMeta) b = good(ARRAY("[4]", BOTH("[3]"), ""));

	ck_assert(!firn_meta_same_geometry(a, b));
}
END_TEST

START_TEST(geometry__spelling__does_not_matter)
{
	g_autoptr(FirnMeta) a = good(ARRAY("[4]", REGULAR("[2]"), ",\"attributes\":{\"a\":1}"));
	g_autoptr(FirnMeta) b =
		good("{ \"codecs\" : [ \"bytes\" ], \"chunk_grid\" : {\"configuration\": "
		     "{\"chunk_shape\" : [ 2 ]}, \"name\" :\"regular\"}, \"node_type\":\"array\", "
		     "\"data_type\": {\"name\":\"int32\",\"configuration\":{}}, \"fill_value\":7, "
		     "\"sh\\u0061pe\":[9], \"zarr_format\":3}");
	g_autoptr(FirnMeta) c = good(ARRAY("[4]", REGULAR("[3]"), ""));
	g_autoptr(FirnMeta) d = good(ARRAY("[4,4]", REGULAR("[2,2]"), ""));

	ck_assert(firn_meta_same_geometry(a, b));
	ck_assert_uint_eq(b->lengths[0], 9);
	ck_assert(!firn_meta_same_geometry(a, c));
	ck_assert(!firn_meta_same_geometry(a, d));
	ck_assert(!firn_meta_equal(a, b));
	ck_assert(firn_meta_equal(a, a));
}
END_TEST

static void
stripped(const char *text, const char *want)
{
	g_autoptr(GBytes) raw = g_bytes_new(text, strlen(text));
	g_autoptr(GBytes) out = firn_meta_strip_consolidated(raw);
	gsize len;
	const char *data = g_bytes_get_data(out, &len);
	g_autofree char *got = g_strndup(data, len);

	ck_assert_str_eq(got, want);
	ck_assert_ptr_null(check(got, 16));
}

START_TEST(strip_consolidated__anywhere__rest_untouched)
{
	stripped("{\"a\":1}", "{\"a\":1}");
	stripped("{\"consolidated_metadata\":null}", "{}");
	stripped("{ \"consolidated_metadata\" : {\"x\":[1,\"}\"]} , \"b\" : 2 }", "{ \"b\" : 2 }");
	stripped("{\n  \"a\": 1,\n  \"consolidated_metadata\": {},\n  \"b\": 2\n}\n",
		 "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
	stripped("{\"a\":1 , \"consolidated_metadata\":12 }", "{\"a\":1  }");
	stripped("{\"attributes\":{\"consolidated_metadata\":1}}",
		 "{\"attributes\":{\"consolidated_metadata\":1}}");
	stripped("{\"consolidated_metadata\":1,\"a\":\"\\\"\",\"consolidated_metad\\u0061ta\":2}",
		 "{\"a\":\"\\\"\"}");
	stripped("{\"\\u0041\\ud83d\\ude00\\n\":1,\"consolidated_metadata\":1}",
		 "{\"\\u0041\\ud83d\\ude00\\n\":1}");
}
END_TEST

START_TEST(has_consolidated__groups__also_when_null)
{
	g_autoptr(FirnMeta) with = good("{\"zarr_format\":3,\"node_type\":\"group\","
					"\"consolidated_metadata\":null}");
	g_autoptr(FirnMeta) without = firn_meta_minimal_group();

	ck_assert(with->has_consolidated);
	ck_assert(!without->has_consolidated);
	ck_assert_int_eq(without->kind, FIRN_NODE_GROUP);
	ck_assert_uint_eq(without->rank, 0);
	ck_assert(!firn_meta_contains(without, NULL, 0));
}
END_TEST

START_TEST(parse__every_cut_and_flip__never_crashes)
{
	static const char text[] = ARRAY("[10,6]", RECTILINEAR("[[2,3,5],[[3,2]]]"),
					 ",\"dimension_names\":[\"\\u0041\",null]");

	for (size_t i = 0; i < sizeof text; i++) {
		g_autoptr(GBytes) cut = g_bytes_new(text, i);
		FirnMeta *meta = firn_meta_parse(cut, NULL);

		ck_assert(i == sizeof text - 1 ? meta != NULL : meta == NULL);
		firn_meta_unref(meta);
		for (unsigned bit = 0; bit < 8 && i < sizeof text - 1; bit++) {
			g_autofree char *copy = g_memdup2(text, sizeof text - 1);
			g_autoptr(GBytes) flipped = NULL;

			copy[i] = (char)(copy[i] ^ 1 << bit);
			flipped = g_bytes_new(copy, sizeof text - 1);
			firn_meta_unref(firn_meta_parse(flipped, NULL));
		}
	}
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("meta");
	TCase *tc = tcase_create("meta");

	tcase_add_test(tc, json_check__valid__null);
	tcase_add_test(tc, json_check__invalid__says_why);
	tcase_add_test(tc, json_check__depth__bounded);
	tcase_add_test(tc, parse__regular_array__counts_chunks);
	tcase_add_test(tc, parse__scalar__has_one_chunk);
	tcase_add_test(tc, parse__rectilinear__counts_entries);
	tcase_add_test(tc, parse__encodings__only_default_with_slash);
	tcase_add_test(tc, parse__broken_documents__refused_by_name);
	tcase_add_test(tc, geometry__spelling__does_not_matter);
	tcase_add_loop_test(tc, geometry__rectilinear__edges_of_one_start_those_of_the_other, 0,
			    (int)G_N_ELEMENTS(grids));
	tcase_add_test(tc, geometry__many_equal_edges__take_no_room);
	tcase_add_test(tc, geometry__regular_with_edges__chunk_shape_counts);
	tcase_add_test(tc, strip_consolidated__anywhere__rest_untouched);
	tcase_add_test(tc, has_consolidated__groups__also_when_null);
	tcase_add_test(tc, parse__every_cut_and_flip__never_crashes);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
