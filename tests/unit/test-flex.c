#include "core/base/error.h"
#include "core/flat/flex.h"
#include "tests/unit/harness.h"

#include <pthread.h>
#include <string.h>

/* What tests/oracle/flexenc.py makes of them. */
static const struct {
	const char *json;
	const char *hex;
} known[] = {
	{ "null", "000001" },
	{ "true", "016801" },
	{ "false", "006801" },
	{ "0", "000801" },
	{ "1", "010801" },
	{ "255", "ff0801" },
	{ "256", "00010902" },
	{ "70000", "701101000a04" },
	{ "5000000000", "00f2052a010000000b08" },
	{ "-1", "ff0401" },
	{ "-128", "800401" },
	{ "-129", "7fff0502" },
	{ "-40000", "c063ffff0604" },
	{ "-3000000000", "00a22f4dffffffff0708" },
	{ "1.5", "0000c03f0e04" },
	{ "0.1", "9a9999999999b93f0f08" },
	{ "1e+300", "9c7500883ce4377e0f08" },
	{ "-0.0", "000000800e04" },
	{ "\"\"", "0000011401" },
	{ "\"me\"", "026d6500031401" },
	{ "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
	  "2c0178787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787800002e011502" },
	{ "[]", "00002801" },
	{ "{}", "00000100002401" },
	{ "[1,2]", "0102024401" },
	{ "[1,2,3]", "010203035001" },
	{ "[1,2,3,4]", "01020304045c01" },
	{ "[1,2,3,4,5]", "050102030405053001" },
	{ "[-1,2]", "02ff020408042801" },
	{ "[-1,-2]", "fffe024001" },
	{ "[1.5,2.5]", "0000c03f00002040084a01" },
	{ "[0.1,1.5,2.5]", "9a9999999999b93f000000000000f83f0000000000000440185701" },
	{ "[true,false]", "020100029001" },
	{ "[null,null]", "0200000000042801" },
	{ "[\"a\",\"b\"]", "0161000162000206041414042801" },
	{ "[1,\"a\",null,1.5]", "0161000004000000010000000b000000000000000000c03f0a14020e142a01" },
	{ "[[],{}]", "00000001000205022824042801" },
	{ "[[1],[2]]", "010101020204033030042801" },
	{ "{\"is_root\":true}", "69735f726f6f740001090101010168022401" },
	{ "{\"b\":1,\"a\":[1,2,3],\"c\":{\"a\":\"x\",\"b\":null}}",
	  "610001020362006300017800020d0902010208001400031713120301031b010d500824062401" },
	{ "{\"k000\":0,\"k001\":1,\"k002\":2,\"k003\":3,\"k004\":4,\"k005\":5,\"k006\":6,\"k007\":7,\"k008\":8,\"k009\":9,\"k010\":10,\"k011\":11,\"k012\":12,\"k013\":13,\"k014\":14,\"k015\":15,\"k016\":16,\"k017\":17,\"k018\":18,\"k019\":19,\"k020\":20,\"k021\":21,\"k022\":22,\"k023\":23,\"k024\":24,\"k025\":25,\"k026\":26,\"k027\":27,\"k028\":28,\"k029\":29,\"k030\":30,\"k031\":31,\"k032\":32,\"k033\":33,\"k034\":34,\"k035\":35,\"k036\":36,\"k037\":37,\"k038\":38,\"k039\":39}", "6b303030006b303031006b303032006b303033006b303034006b303035006b303036006b303037006b303038006b303039006b303130006b303131006b303132006b303133006b303134006b303135006b303136006b303137006b303138006b303139006b303230006b303231006b303232006b303233006b303234006b303235006b303236006b303237006b303238006b303239006b303330006b303331006b303332006b303333006b303334006b303335006b303336006b303337006b303338006b3033390028c9c5c1bdb9b5b1ada9a5a19d9995918d8985817d7975716d6965615d5955514d4945413d3935312d280128000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262708080808080808080808080808080808080808080808080808080808080808080808080808080808502401" },
	{ "{\"splitting\":{\"split_sizes\":[[{\"path_matches\":{\"regex\":\".*\"}},[{\"condition\":{\"Axis\":0},\"num_chunks\":4294967295}]]]}}",
	  "73706c697474696e670073706c69745f73697a657300706174685f6d61746368657300726567657800022e2a00010b0101010814011f0101010724636f6e646974696f6e004178697300010601010100086e756d5f6368756e6b730002220d000300000001000000020000001d000000ffffffff240a010b2602410424280105280178010101072801890101010724022401" },
	{ "[{\"a\":0,\"b\":\"v0\"},{\"a\":1,\"b\":\"v1\"},{\"a\":2,\"b\":\"v2\"},{\"a\":3,\"b\":\"v3\"},{\"a\":4,\"b\":\"v4\"},{\"a\":5,\"b\":\"v5\"},{\"a\":6,\"b\":\"v6\"},{\"a\":7,\"b\":\"v7\"},{\"a\":8,\"b\":\"v8\"},{\"a\":9,\"b\":\"v9\"},{\"a\":10,\"b\":\"v10\"},{\"a\":11,\"b\":\"v11\"},{\"a\":12,\"b\":\"v12\"},{\"a\":13,\"b\":\"v13\"},{\"a\":14,\"b\":\"v14\"},{\"a\":15,\"b\":\"v15\"},{\"a\":16,\"b\":\"v16\"},{\"a\":17,\"b\":\"v17\"},{\"a\":18,\"b\":\"v18\"},{\"a\":19,\"b\":\"v19\"},{\"a\":20,\"b\":\"v20\"},{\"a\":21,\"b\":\"v21\"},{\"a\":22,\"b\":\"v22\"},{\"a\":23,\"b\":\"v23\"},{\"a\":24,\"b\":\"v24\"},{\"a\":25,\"b\":\"v25\"},{\"a\":26,\"b\":\"v26\"},{\"a\":27,\"b\":\"v27\"},{\"a\":28,\"b\":\"v28\"},{\"a\":29,\"b\":\"v29\"}]",
	  "6100620002763000020908020102000a081402763100021716020102010a081402763200022524020102020a081402763300023332020102030a081402763400024140020102040a081402763500024f4e020102050a081402763600025d5c020102060a081402763700026b6a020102070a081402763800027978020102080a081402763900028786020102090a081403763130000296950201020a0b0814037631310002a5a40201020b0b0814037631320002b4b30201020c0b0814037631330002c3c20201020d0b0814037631340002d2d10201020e0b0814037631350002e1e00201020f0b0814037631360002f0ef020102100b0814037631370002fffe020102110b0814037631380000020010011001040202120f08140376313900020022012201040202130e08140376323000020034013401040202140e08140376323100020046014601040202150e08140376323200020058015801040202160e0814037632330002006a016a01040202170e0814037632340002007c017c01040202180e0814037632350002008e018e01040202190e081403763236000200a001a0010402021a0e081403763237000200b201b2010402021b0e081403763238000200c401c4010402021c0e081403763239000200d601d6010402021d0e0814001e00d601ca01be01b201a6019a018e01820176016a015d0150014301360129011c010f010201f100e100d100c100b100a1009100810071006100510041002424242424242424242424242424242424242424242424242424242424245a2901" },
	{ "{\"e\u0301\":1,\"z\":2,\"A\":3}", "410065cc81007a0003090805030103030102080808062401" },
	{ "[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"]",
	  "fa7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787800fa7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787800fa78787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878000300f502fb010101141414092901" },
	{ "[1,0.1,-7,70000]",
	  "040000000000000001000000000000009a9999999999b93ff9ffffffffffffff70110100000000000b0f070b242b01" },
};

static GBytes *
from_hex(const char *hex)
{
	size_t n = strlen(hex) / 2;
	GByteArray *out = g_byte_array_sized_new((guint)n);

	for (size_t i = 0; i < n; i++) {
		guint8 byte = (guint8)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
				       g_ascii_xdigit_value(hex[2 * i + 1]));

		g_byte_array_append(out, &byte, 1);
	}
	return g_byte_array_free_to_bytes(out);
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static char *
text_of(JsonNode *node)
{
	return json_to_string(node, FALSE);
}

START_TEST(flex_build__known_values__same_bytes)
{
	g_autoptr(JsonNode) value = json_from_string(known[_i].json, NULL);
	g_autoptr(GBytes) got = firn_flex_build(value);
	g_autoptr(GBytes) want = from_hex(known[_i].hex);

	ck_assert_msg(g_bytes_equal(got, want), "%s", known[_i].json);
}
END_TEST

START_TEST(flex_read__known_values__same_json)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = from_hex(known[_i].hex);
	g_autoptr(JsonNode) want = json_from_string(known[_i].json, NULL);
	g_autoptr(JsonNode) got = firn_flex_read(span_of(bytes), &error);
	g_autoptr(GBytes) again = NULL;

	ck_assert_no_error(error);
	ck_assert_msg(json_node_equal(got, want), "%s", known[_i].json);
	again = firn_flex_build(got);
	ck_assert(g_bytes_equal(again, bytes));
}
END_TEST

START_TEST(flex_read__every_cut_and_flip__never_crashes)
{
	g_autoptr(GBytes) bytes = from_hex(known[_i].hex);
	FirnSpan all = span_of(bytes);

	for (size_t i = 0; i < all.len; i++) {
		JsonNode *node;

		for (unsigned bit = 0; bit < 8; bit++) {
			g_autofree uint8_t *copy = g_memdup2(all.data, all.len);

			copy[i] = (uint8_t)(copy[i] ^ 1u << bit);
			node = firn_flex_read((FirnSpan){ copy, all.len }, NULL);
			if (node != NULL)
				json_node_unref(node);
		}
		g_autofree uint8_t *head = g_memdup2(all.data, i);
		g_autofree uint8_t *rest = g_memdup2(all.data + i, all.len - i);

		node = firn_flex_read((FirnSpan){ head, i }, NULL);
		if (node != NULL)
			json_node_unref(node);
		node = firn_flex_read((FirnSpan){ rest, all.len - i }, NULL);
		if (node != NULL)
			json_node_unref(node);
	}
}
END_TEST

static const struct {
	const char *hex;
	const char *json; /* NULL: refused */
} foreign[] = {
	{ "ffffffffffffffff0b08", "18446744073709551616.0" },
	{ "2a"
	  "011801",
	  "42" }, /* indirect int */
	{ "026869"
	  "026401",
	  "[104,105]" }, /* blob */
	{ "61006200"
	  "020504"
	  "023c01",
	  "[\"a\",\"b\"]" }, /* vector of strings */
	{ "61006200"
	  "020604"
	  "023c01",
	  NULL }, /* the first one out of bounds */
	{ "000028"
	  "01",
	  "[]" },
	{ "016801", "true" },
	{ "0000c07f"
	  "0e04",
	  "null" }, /* NaN */
	{ "0000807f"
	  "0e04",
	  "null" },                 /* infinity */
	{ "00000c02", NULL },       /* float of 2 bytes */
	{ "00fc01", NULL },         /* unknown type */
	{ "006803", NULL },         /* unknown width */
	{ "02ff6d00031401", NULL }, /* not UTF-8 */
	{ "0361006200041401", "\"a\xef\xbf\xbd"
			      "b\"" }, /* NUL */
	{ "0200000003"
	  "1401",
	  "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "0300ff6100041401", NULL }, /* not UTF-8 behind it */
	{ "6d031001", NULL },         /* key out of bounds */
	{ "6d6d011001", NULL },       /* key without an end runs into the root: no NUL */
};

START_TEST(flex_read__other_writers__as_the_format_says)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = from_hex(foreign[_i].hex);
	g_autoptr(JsonNode) got = firn_flex_read(span_of(bytes), &error);

	if (foreign[_i].json == NULL) {
		ck_assert_msg(got == NULL, "%s", foreign[_i].hex);
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	} else {
		g_autoptr(JsonNode) want = json_from_string(foreign[_i].json, NULL);

		ck_assert_no_error(error);
		ck_assert_msg(json_node_equal(got, want), "%s", foreign[_i].hex);
	}
}
END_TEST

/* Each vector holds the one before twice: 2^n values in 4n bytes. */
START_TEST(flex_read__shared_vectors__bounded)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GByteArray) out = g_byte_array_new();
	JsonNode *node;

	g_byte_array_append(out, (const guint8 *)"\x02\x01\x01\x04\x04", 5);
	for (unsigned i = 0; i < 40; i++) {
		/* count 2, two offsets to the items of the vector before, two types */
		const guint8 level[] = { 2, 5, 6, 10 << 2, 10 << 2 };

		g_byte_array_append(out, level, sizeof level);
	}
	g_byte_array_append(out, (const guint8 *)"\x04\x28\x01", 3);
	node = firn_flex_read((FirnSpan){ out->data, out->len }, &error);
	ck_assert_ptr_null(node);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

/* A string of 2000 times `c`, 300 times. */
static JsonNode *
read_shared_string(char c, GError **error)
{
	g_autoptr(GByteArray) out = g_byte_array_new();

	g_byte_array_append(out, (const guint8 *)"\xd0\x07", 2);
	g_byte_array_set_size(out, 2002);
	memset(out->data + 2, c, 2000);
	g_byte_array_append(out, (const guint8 *)"\0\0\x2c\x01", 4);
	for (unsigned i = 0; i < 300; i++) {
		guint16 back = GUINT16_TO_LE((guint16)(out->len - 2));

		g_byte_array_append(out, (const guint8 *)&back, 2);
	}
	for (unsigned i = 0; i < 300; i++)
		g_byte_array_append(out, (const guint8 *)"\x15", 1);
	g_byte_array_append(out, (const guint8 *)"\x84\x03\x29\x02", 4);
	return firn_flex_read((FirnSpan){ out->data, out->len }, error);
}

/* What is shown for a NUL takes more room than the NUL. */
START_TEST(flex_read__shared_text__bounded_as_shown)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) plain = read_shared_string('x', &error);

	ck_assert_no_error(error);
	ck_assert_uint_eq(json_array_get_length(json_node_get_array(plain)), 300);
	ck_assert_ptr_null(read_shared_string('\0', &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

/* The deepest map that is read, through everything that is done with values. */
static void *
turn_around(void *unused)
{
	static const uint8_t level[] = { 0x81, 0xa1, 'k' };
	g_autoptr(GByteArray) deep = g_byte_array_new();
	g_autoptr(JsonNode) value = NULL;
	g_autoptr(JsonNode) again = NULL;
	g_autoptr(JsonNode) parsed = NULL;
	g_autoptr(GBytes) bytes = NULL;
	g_autofree char *text = NULL;

	for (unsigned i = 1; i < FIRN_FLEX_MAX_DEPTH; i++)
		g_byte_array_append(deep, level, sizeof level);
	g_byte_array_append(deep, (const guint8 *)"\xc0", 1);
	value = firn_flex_read_msgpack((FirnSpan){ deep->data, deep->len }, NULL);
	ck_assert_ptr_nonnull(value);
	bytes = firn_flex_build(value);
	again = firn_flex_read(span_of(bytes), NULL);
	ck_assert_ptr_nonnull(again);
	ck_assert(json_node_equal(value, again));
	text = json_to_string(again, TRUE);
	parsed = json_from_string(text, NULL);
	ck_assert(json_node_equal(value, parsed));
	return unused;
}

START_TEST(flex__deepest_value__small_stack_suffices)
{
	pthread_attr_t attr;
	pthread_t thread;

	ck_assert_int_eq(pthread_attr_init(&attr), 0);
	ck_assert_int_eq(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
	ck_assert_int_eq(pthread_create(&thread, &attr, turn_around, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
}
END_TEST

START_TEST(flex_read__too_deep__refused)
{
	for (unsigned depth = 250; depth < 260; depth++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(JsonNode) value = json_from_string("1", NULL);
		g_autoptr(GBytes) bytes = NULL;
		JsonNode *got;

		for (unsigned i = 0; i < depth; i++) {
			g_autoptr(JsonArray) array = json_array_new();

			json_array_add_element(array, g_steal_pointer(&value));
			value = json_node_init_array(json_node_alloc(), array);
		}
		bytes = firn_flex_build(value);
		got = firn_flex_read(span_of(bytes), &error);
		ck_assert((got != NULL) == (depth <= FIRN_FLEX_MAX_DEPTH));
		if (got != NULL)
			json_node_unref(got);
		else
			ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
	}
}
END_TEST

static const struct {
	const char *hex;
	const char *json; /* NULL: refused */
} packed[] = {
	{ "c0", "null" },
	{ "c3", "true" },
	{ "7f", "127" },
	{ "e0", "-32" },
	{ "cc80", "128" },
	{ "cd0100", "256" },
	{ "ce00010000", "65536" },
	{ "cf0000000100000000", "4294967296" },
	{ "d0df", "-33" },
	{ "d1ff00", "-256" },
	{ "d2ffff0000", "-65536" },
	{ "d3ffffffff00000000", "-4294967296" },
	{ "ca3fc00000", "1.5" },
	{ "cb3fb999999999999a", "0.10000000000000001" },
	{ "a6746573746572", "\"tester\"" },
	{ "d90161", "\"a\"" },
	{ "da000161", "\"a\"" },
	{ "db0000000161", "\"a\"" },
	{ "93010203", "[1,2,3]" },
	{ "dc000101", "[1]" },
	{ "dd0000000101", "[1]" },
	{ "a3610062", "\"a\xef\xbf\xbd"
		      "b\"" },
	{ "81a2610001", "{\"a\xef\xbf\xbd\":1}" },
	{ "82a16101a16290", "{\"a\":1,\"b\":[]}" },
	{ "de0001a161c0", "{\"a\":null}" },
	{ "c40201ff", "[1,255]" },
	{ "", NULL },
	{ "c1", NULL },
	{ "d40101", NULL },
	{ "c0c0", NULL },
	{ "8101c0", NULL },
	{ "a1ff", NULL },
	{ "a200ff", NULL },
	{ "dd7fffffff", NULL },
	{ "df7fffffff", NULL },
	{ "dbffffffff61", NULL },
};

START_TEST(read_msgpack__values__as_the_format_says)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) bytes = from_hex(packed[_i].hex);
	g_autoptr(JsonNode) got = firn_flex_read_msgpack(span_of(bytes), &error);

	if (packed[_i].json == NULL) {
		ck_assert_msg(got == NULL, "%s", packed[_i].hex);
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	} else {
		g_autofree char *text = got != NULL ? text_of(got) : NULL;

		ck_assert_no_error(error);
		ck_assert_str_eq(text, packed[_i].json);
		for (size_t i = 0; i < strlen(packed[_i].hex) / 2; i++)
			ck_assert_ptr_null(
				firn_flex_read_msgpack((FirnSpan){ span_of(bytes).data, i }, NULL));
	}
}
END_TEST

START_TEST(read_msgpack__too_deep__refused)
{
	g_autoptr(GError) error = NULL;
	uint8_t deep[FIRN_FLEX_MAX_DEPTH + 2];

	memset(deep, 0x91, sizeof deep);
	deep[sizeof deep - 1] = 0xc0;
	ck_assert_ptr_null(firn_flex_read_msgpack((FirnSpan){ deep, sizeof deep }, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite *suite = suite_create("flex");
	TCase *tc = tcase_create("flex");
	int n = (int)G_N_ELEMENTS(known);

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, flex_build__known_values__same_bytes, 0, n);
	tcase_add_loop_test(tc, flex_read__known_values__same_json, 0, n);
	tcase_add_loop_test(tc, flex_read__every_cut_and_flip__never_crashes, 0, n);
	tcase_add_loop_test(tc, flex_read__other_writers__as_the_format_says, 0,
			    (int)G_N_ELEMENTS(foreign));
	tcase_add_test(tc, flex_read__shared_vectors__bounded);
	tcase_add_test(tc, flex_read__shared_text__bounded_as_shown);
	tcase_add_test(tc, flex__deepest_value__small_stack_suffices);
	tcase_add_test(tc, flex_read__too_deep__refused);
	tcase_add_loop_test(tc, read_msgpack__values__as_the_format_says, 0,
			    (int)G_N_ELEMENTS(packed));
	tcase_add_test(tc, read_msgpack__too_deep__refused);
	suite_add_tcase(suite, tc);
	return suite;
}

TEST_MAIN(make_suite)
