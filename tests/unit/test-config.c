#include "core/base/error.h"
#include "core/format/config.h"
#include "core/format/v1.h"
#include "tests/unit/harness.h"

#include <string.h>

static FirnConfig *
parse(const char *json)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) node = json_from_string(json, NULL);
	FirnConfig *config = firn_config_parse(node, &error);

	ck_assert_no_error(error);
	return config;
}

static JsonNode *
yaml(const char *text, GError **error)
{
	return firn_config_from_yaml((FirnSpan){ (const uint8_t *)text, strlen(text) }, error);
}

/* "3,*" for sizes of 3 and unsplit. */
static void
splits(const char *rules, const char *path, const char *names, const char *want)
{
	g_autofree char *json =
		g_strdup_printf("{\"manifest\":{\"splitting\":{\"split_sizes\":%s}}}", rules);
	g_autoptr(FirnConfig) config = parse(json);
	g_auto(GStrv) list = g_strsplit(names, ",", -1);
	uint32_t rank = g_strv_length(list);
	uint32_t sizes[8];
	g_autoptr(GString) got = g_string_new(NULL);

	for (uint32_t i = 0; i < rank; i++)
		if (strcmp(list[i], "-") == 0)
			g_clear_pointer(&list[i], g_free);
	firn_config_split_sizes(config, path, rank, list, sizes);
	for (uint32_t i = 0; i < rank; i++) {
		g_string_append(got, i > 0 ? "," : "");
		if (sizes[i] == UINT32_MAX)
			g_string_append_c(got, '*');
		else
			g_string_append_printf(got, "%u", sizes[i]);
	}
	ck_assert_str_eq(got->str, want);
	for (uint32_t i = 0; i < rank; i++)
		if (list[i] == NULL)
			list[i] = g_strdup("");
}

START_TEST(parse__nothing__defaults)
{
	g_autoptr(FirnConfig) config = firn_config_parse(NULL, NULL);
	uint32_t size = 0;

	ck_assert_uint_eq(firn_config_inline_threshold(config), 512);
	ck_assert_int_eq(firn_config_compression_level(config), 3);
	ck_assert_uint_eq(firn_config_ops_log_length(config), 1000);
	firn_config_split_sizes(config, "/a", 1, NULL, &size);
	ck_assert_uint_eq(size, UINT32_MAX);
}
END_TEST

START_TEST(parse__values_and_nulls__taken)
{
	g_autoptr(FirnConfig) config =
		parse("{\"inline_chunk_threshold_bytes\":0,\"new\":[],"
		      "\"compression\":{\"level\":255,\"algorithm\":\"zstd\"},"
		      "\"manifest\":{\"splitting\":null},\"storage\":null,"
		      "\"num_updates_per_repo_info_file\":7}");

	ck_assert_uint_eq(firn_config_inline_threshold(config), 0);
	ck_assert_int_eq(firn_config_compression_level(config), 22);
	ck_assert_uint_eq(firn_config_ops_log_length(config), 7);
}
END_TEST

START_TEST(parse__wrong_types__refused)
{
	static const char *const bad[] = {
		"[]",
		"{\"inline_chunk_threshold_bytes\":\"512\"}",
		"{\"inline_chunk_threshold_bytes\":65536}",
		"{\"inline_chunk_threshold_bytes\":-1}",
		"{\"compression\":3}",
		"{\"manifest\":[]}",
		"{\"manifest\":{\"splitting\":{\"split_sizes\":{}}}}",
		"{\"manifest\":{\"splitting\":{\"split_sizes\":[[\"any_array\"]]}}}",
		"{\"manifest\":{\"splitting\":{\"split_sizes\":[[\"any_array\",[1]]]}}}",
		"{\"virtual_chunk_containers\":[]}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(JsonNode) node = json_from_string(bad[i], NULL);

		ck_assert_ptr_null(firn_config_parse(node, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	}
}
END_TEST

#define ANY(n)     "[{\"condition\":\"Any\",\"num_chunks\":" n "}]"
#define AXIS(a, n) "{\"condition\":{\"Axis\":" a "},\"num_chunks\":" n "}"
#define DIM(r, n)  "{\"condition\":{\"DimensionName\":\"" r "\"},\"num_chunks\":" n "}"
#define PATH(r)    "{\"path_matches\":{\"regex\":\"" r "\"}}"
#define NAME(r)    "{\"name_matches\":{\"regex\":\"" r "\"}}"

START_TEST(split_sizes__rules__first_match_per_axis)
{
	splits("[]", "/a", "x,y", "*,*");
	splits("[[\"any_array\"," ANY("5") "]]", "/a", "x,y", "5,5");
	splits("[[\"any_array\",[" AXIS("1", "3") "]],[\"any_array\"," ANY("9") "]]", "/a", "x,y",
	       "9,3");
	splits("[[\"any_array\",[" DIM("^t", "3") "," AXIS("0", "4") "]]]", "/a", "time,t,lat,-",
	       "3,3,*,*");
	splits("[[\"any_array\",[" AXIS("0", "4") "," DIM("t", "3") "]]]", "/a", "time,lat", "4,3");
	splits("[[" PATH("b/c") "," ANY("2") "]]", "/a/b/c/d", "x", "2");
	splits("[[" PATH("^b") "," ANY("2") "]]", "/a/b", "x", "*");
	splits("[[" NAME("^b$") "," ANY("2") "]]", "/a/b", "x", "2");
	splits("[[" NAME("a") "," ANY("2") "]]", "/a/b", "x", "*");
	splits("[[{\"or\":[" NAME("q") "," NAME("b") "]}," ANY("2") "]]", "/a/b", "x", "2");
	splits("[[{\"and\":[" PATH("a") "," NAME("q") "]}," ANY("2") "]]", "/a/b", "x", "*");
	splits("[[{\"and\":[]}," ANY("2") "],[{\"or\":[]}," ANY("3") "]]", "/a/b", "x", "2");
	splits("[[\"any_array\"," ANY("0") "]]", "/a", "x", "*");
}
END_TEST

START_TEST(split_sizes__patterns_rust_refuses__never_match)
{
	static const char *const bad[] = { "(",        "[", "a(?=b)", "(?!q)",    "(?<=a)b",
					   "(a)\\\\1", "*", "(?>a)",  "(*ACCEPT)" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *rule =
			g_strdup_printf("[[{\"path_matches\":{\"regex\":\"%s\"}}," ANY("2") "]]",
					bad[i]);

		splits(rule, "/ab", "x", "*");
	}
	splits("[[" PATH("(?i)AB") "," ANY("2") "]]", "/ab", "x", "2");
	splits("[[" PATH("(?P<n>a)b") "," ANY("2") "]]", "/ab", "x", "2");
	splits("[[" PATH("[(?=]") "," ANY("2") "]]", "/a=", "x", "2");
	splits("[[" PATH("ab$") "," ANY("2") "]]", "/ab\n", "x", "*");
}
END_TEST

START_TEST(with_split__new_rule__first_and_exact)
{
	g_autoptr(JsonNode) first = firn_config_initial();
	g_autofree char *before = json_to_string(first, FALSE);
	g_autoptr(JsonNode) second = firn_config_with_split(first, "/a/b.c", 0, 10);
	g_autoptr(JsonNode) third = firn_config_with_split(second, "/a/b.c", 1, 20);
	g_autoptr(JsonNode) fourth = firn_config_with_split(third, "/a/b.c", 0, 30);
	g_autoptr(JsonNode) other = firn_config_with_split(fourth, "/x", 0, 7);
	g_autoptr(JsonNode) bare = firn_config_with_split(NULL, "/x", 0, 7);
	g_autoptr(FirnConfig) config = firn_config_parse(other, NULL);
	g_autofree char *after = json_to_string(first, FALSE);
	uint32_t sizes[2];

	ck_assert_str_eq(before, after);
	firn_config_split_sizes(config, "/a/b.c", 2, NULL, sizes);
	ck_assert_uint_eq(sizes[0], 30);
	ck_assert_uint_eq(sizes[1], 20);
	firn_config_split_sizes(config, "/a/bxc", 2, NULL, sizes);
	ck_assert_uint_eq(sizes[0], UINT32_MAX);
	firn_config_split_sizes(config, "/x", 2, NULL, sizes);
	ck_assert_uint_eq(sizes[0], 7);
	ck_assert(JSON_NODE_HOLDS_OBJECT(bare));
	ck_assert_uint_eq(json_array_get_length(json_object_get_array_member(
				  json_object_get_object_member(
					  json_object_get_object_member(json_node_get_object(other),
									"manifest"),
					  "splitting"),
				  "split_sizes")),
			  2);
}
END_TEST

START_TEST(with_splits__several__as_one_after_the_other)
{
	const FirnConfigSplit splits[] = {
		{ "/a", 0, 10 }, { "/a", 1, 20 }, { "/b", 0, 7 }, { "/a", 0, 30 }
	};
	g_autoptr(JsonNode) before = firn_config_with_split(NULL, "/a", 2, 5);
	g_autoptr(JsonNode) all = firn_config_with_splits(before, splits, 4);
	g_autoptr(JsonNode) steps = json_node_ref(before);

	for (size_t i = 0; i < 4; i++) {
		JsonNode *next = firn_config_with_split(steps, splits[i].path, splits[i].axis,
							splits[i].size);

		json_node_unref(steps);
		steps = next;
	}
	ck_assert(json_node_equal(all, steps));
}
END_TEST

START_TEST(with_split__no_room__still_read)
{
	g_autofree FirnConfigSplit *splits = g_new0(FirnConfigSplit, FIRN_CONFIG_MAX_RULES);
	g_autoptr(GStringChunk) paths = g_string_chunk_new(4096);
	g_autoptr(GError) error = NULL;
	uint32_t size;

	for (uint32_t i = 0; i < FIRN_CONFIG_MAX_RULES; i++) {
		char path[32];

		(void)g_snprintf(path, sizeof path, "/a%u", i);
		splits[i] = (FirnConfigSplit){ g_string_chunk_insert(paths, path), 0, i + 1 };
	}
	{
		g_autoptr(JsonNode) full =
			firn_config_with_splits(NULL, splits, FIRN_CONFIG_MAX_RULES);
		g_autoptr(JsonNode) more = firn_config_with_split(full, "/more", 0, 3);
		g_autoptr(FirnConfig) config = firn_config_parse(more, &error);

		ck_assert_no_error(error);
		firn_config_split_sizes(config, "/a9", 1, NULL, &size);
		ck_assert_uint_eq(size, 10);
		firn_config_split_sizes(config, "/more", 1, NULL, &size);
		ck_assert_uint_eq(size, UINT32_MAX);
	}
}
END_TEST

START_TEST(resolve_location__containers__by_name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnConfig) config = parse(
		"{\"virtual_chunk_containers\":{\"s3://b/p/\":{\"name\":\"mine\",\"url_prefix\":\"s3://b/p/\"},"
		"\"bad\":{\"name\":\"bad\"},\"file:///d\":{\"name\":\"d\",\"url_prefix\":\"file:///d\"}}}");
	g_autofree char *plain = firn_config_resolve_location(config, "s3://x/y", &error);
	g_autofree char *mine = firn_config_resolve_location(config, "vcc://mine/a/b", &error);
	g_autofree char *slash = firn_config_resolve_location(config, "vcc://d/a", &error);

	ck_assert_no_error(error);
	ck_assert_str_eq(plain, "s3://x/y");
	ck_assert_str_eq(mine, "s3://b/p/a/b");
	ck_assert_str_eq(slash, "file:///d/a");
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc://bad/a", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
	g_clear_error(&error);
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc://min/a", NULL));
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc://d/../e", &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_INVALID);
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc://d/a/%2e%2e/e", NULL));
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc://d", NULL));
	ck_assert_ptr_null(firn_config_resolve_location(config, "vcc:///d", NULL));
}
END_TEST

START_TEST(from_yaml__official_notation__as_json)
{
	static const char text[] = "inline_chunk_threshold_bytes: 20\ncaching: null\nratio: 1.5\n"
				   "previous_file: '12'\nempty: ~\nflag: true\nminus: -3\n"
				   "manifest:\n  splitting:\n    split_sizes:\n"
				   "    - - !or\n        - !path_matches\n          regex: a.*\n"
				   "        - !name_matches {regex: b}\n"
				   "      - - condition: !Axis 0\n          num_chunks: 3\n"
				   "        - condition: Any\n          num_chunks: 9\n"
				   "store: !local_file_system /path\n";
	static const char want[] =
		"{\"inline_chunk_threshold_bytes\":20,\"caching\":null,\"ratio\":1.5,\"previous_file\":\"12\","
		"\"empty\":null,\"flag\":true,\"minus\":-3,"
		"\"manifest\":{\"splitting\":{\"split_sizes\":[[{\"or\":[{\"path_matches\":{\"regex\":\"a.*\"}},"
		"{\"name_matches\":{\"regex\":\"b\"}}]},[{\"condition\":{\"Axis\":0},\"num_chunks\":3},"
		"{\"condition\":\"Any\",\"num_chunks\":9}]]]}},\"store\":{\"local_file_system\":\"/path\"}}";
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) got = yaml(text, &error);
	g_autoptr(JsonNode) wanted = json_from_string(want, NULL);

	ck_assert_no_error(error);
	ck_assert(json_node_equal(got, wanted));
}
END_TEST

START_TEST(from_yaml__broken__refused)
{
	static const char *const bad[] = { "a: [",       "a: &x 1\nb: *x\n",
					   "[a]: 1",     "--- 1\n--- 2\n",
					   "a: \"\\0\"", "\xff",
					   "{a",         "a: 1\n b: 2" };
	g_autoptr(GString) deep = g_string_new(NULL);
	g_autoptr(JsonNode) none = yaml("", NULL);

	ck_assert(JSON_NODE_HOLDS_NULL(none));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		ck_assert_msg(yaml(bad[i], &error) == NULL, "%s", bad[i]);
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	}
	for (unsigned i = 0; i < 5000; i++)
		g_string_append_c(deep, '[');
	ck_assert_ptr_null(yaml(deep->str, NULL));
}
END_TEST

START_TEST(from_yaml__golden__parses)
{
	g_autofree char *text = NULL;
	g_autoptr(JsonNode) node = NULL;
	g_autoptr(FirnConfig) config = NULL;

	ck_assert(g_file_get_contents("tests/golden/tiny-v1/config.yaml", &text, NULL, NULL));
	node = yaml(text, NULL);
	config = firn_config_parse(node, NULL);
	ck_assert_uint_eq(firn_config_inline_threshold(config), 20);
}
END_TEST

START_TEST(v1_ref__texts__parsed_or_refused)
{
	static const char *const bad[] = { "",
					   "{}",
					   "[]",
					   "{\"snapshot\":1}",
					   "{\"snapshot\":\"x\"}",
					   "{\"snapshot\":\"1CECHNKREP0F1RSTCMT0\"" };
	g_autoptr(GBytes) text = firn_v1_ref_format(&firn_id_initial_snapshot);
	gsize len;
	const uint8_t *data = g_bytes_get_data(text, &len);
	FirnId12 id = { 0 };
	char deep[100];

	ck_assert_uint_eq(len, 35);
	ck_assert(firn_v1_ref_parse((FirnSpan){ data, len }, &id, NULL));
	ck_assert(firn_id12_equal(&id, &firn_id_initial_snapshot));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		FirnSpan span = { (const uint8_t *)bad[i], strlen(bad[i]) };

		ck_assert(!firn_v1_ref_parse(span, &id, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	}
	memset(deep, '[', sizeof deep);
	ck_assert(!firn_v1_ref_parse((FirnSpan){ (uint8_t *)deep, sizeof deep }, &id, NULL));
}
END_TEST

START_TEST(v1_ref_key__kinds__both_ways)
{
	static const struct {
		FirnV1RefKind kind;
		const char *name;
		const char *key;
	} known[] = {
		{ FIRN_V1_BRANCH, "main", "refs/branch.main/ref.json" },
		{ FIRN_V1_TAG, "v1.0", "refs/tag.v1.0/ref.json" },
		{ FIRN_V1_TAG_DELETED, "v1", "refs/tag.v1/ref.json.deleted" },
	};
	static const char *const others[] = { "refs/branch./ref.json",
					      "refs/branch.a/b/ref.json",
					      "refs/branch.main/ref.json.deleted",
					      "refs/x.a/ref.json",
					      "refs/branch.ref.json",
					      "refs/branch.main/ref.json#1" };
	FirnV1RefKind kind;
	char *name = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
		g_autofree char *key = firn_v1_ref_key(known[i].kind, known[i].name);
		g_autofree char *back = NULL;

		ck_assert_str_eq(key, known[i].key);
		ck_assert(firn_v1_ref_parse_key(key, &kind, &back));
		ck_assert_int_eq(kind, known[i].kind);
		ck_assert_str_eq(back, known[i].name);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
		ck_assert_msg(!firn_v1_ref_parse_key(others[i], &kind, &name), "%s", others[i]);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("config");
	TCase *tc = tcase_create("config");

	tcase_add_test(tc, parse__nothing__defaults);
	tcase_add_test(tc, parse__values_and_nulls__taken);
	tcase_add_test(tc, parse__wrong_types__refused);
	tcase_add_test(tc, split_sizes__rules__first_match_per_axis);
	tcase_add_test(tc, split_sizes__patterns_rust_refuses__never_match);
	tcase_add_test(tc, with_split__new_rule__first_and_exact);
	tcase_add_test(tc, with_splits__several__as_one_after_the_other);
	tcase_add_test(tc, with_split__no_room__still_read);
	tcase_add_test(tc, resolve_location__containers__by_name);
	tcase_add_test(tc, from_yaml__official_notation__as_json);
	tcase_add_test(tc, from_yaml__broken__refused);
	tcase_add_test(tc, from_yaml__golden__parses);
	tcase_add_test(tc, v1_ref__texts__parsed_or_refused);
	tcase_add_test(tc, v1_ref_key__kinds__both_ways);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
