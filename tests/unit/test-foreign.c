#include "core/base/error.h"
#include "core/store/foreign.h"
#include "tests/unit/harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

START_TEST(redact__user_and_password__are_gone)
{
	static const struct {
		const char *url;
		const char *shown;
	} cases[] = {
		{ "s3://user:secret@bucket/key", "s3://...@bucket/key" },
		{ "s3://us:er@sec@ret@bucket", "s3://...@bucket" },
		{ "https://user@host/a@b?c@d", "https://...@host/a@b?c@d" },
		{ "s3://bucket/a@b", "s3://bucket/a@b" },
		{ "file:///a@b/c", "file:///a@b/c" },
		{ "vcc://name/rest", "vcc://name/rest" },
		{ "no url@all", "no url@all" },
		{ "", "" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *shown = firn_foreign_redact(cases[i].url);

		ck_assert_str_eq(shown, cases[i].shown);
	}
}
END_TEST

/* A directory: in/file, in/out -> ../secret, in/loop -> file, in/pipe, secret, via -> in. */
typedef struct {
	char *root;
	char *prefix; /* file:// of in/ */
} Place;

static char *
below(const Place *place, const char *name)
{
	return g_build_filename(place->root, name, NULL);
}

static Place
place_new(void)
{
	Place place = { .root = g_dir_make_tmp("foreign-XXXXXX", NULL) };
	static const char *const links[][2] = { { "in/out", "../secret" },
						{ "in/loop", "file" },
						{ "via", "in" } };
	g_autofree char *in = below(&place, "in");
	g_autofree char *file = below(&place, "in/file");
	g_autofree char *fifo = below(&place, "in/pipe");
	g_autofree char *secret = below(&place, "secret");

	ck_assert_int_eq(g_mkdir(in, 0700), 0);
	ck_assert(g_file_set_contents(file, "file", -1, NULL));
	ck_assert(g_file_set_contents(secret, "secret", -1, NULL));
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	for (size_t i = 0; i < G_N_ELEMENTS(links); i++) {
		g_autofree char *name = below(&place, links[i][0]);

		ck_assert_int_eq(symlink(links[i][1], name), 0);
	}
	place.prefix = g_strconcat("file://", in, NULL);
	return place;
}

static void
place_free(Place *place)
{
	static const char *const names[] = { "in/file", "in/out", "in/loop", "in/pipe",
					     "secret",  "via",    "in",      "" };

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *name = below(place, names[i]);

		ck_assert_int_eq(g_remove(name), 0);
	}
	g_free(place->root);
	g_free(place->prefix);
}

/* Open ROOT/NAME with the prefix; the first bytes of it, or NULL. */
static char *
try_open(const Place *place, const char *name, const char *prefix, GError **error)
{
	g_autofree char *url = g_strconcat("file://", place->root, "/", name, NULL);
	char *prefixes[] = { (char *)(uintptr_t) "s3://bucket/", g_strdup(prefix) };
	char text[16] = "";
	struct stat st;
	int fd = firn_foreign_open(url, prefixes, 2, &st, error);

	g_free(prefixes[1]);
	if (fd < 0)
		return NULL;
	ck_assert_int_eq(st.st_size, read(fd, text, sizeof text - 1));
	close(fd);
	return g_strdup(text);
}

START_TEST(open__below_the_prefix__is_read)
{
	static const char *const names[] = { "in/file", "in/loop", "in/../in/./file", "in/%66ile" };
	Place place = place_new();

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *text = try_open(&place, names[i], place.prefix, &error);

		ck_assert_msg(text != NULL, "%s: %s", names[i],
			      error != NULL ? error->message : "");
		ck_assert_str_eq(text, "file");
	}
	place_free(&place);
}
END_TEST

START_TEST(open__prefix_that_is_a_link__is_followed)
{
	Place place = place_new();
	g_autofree char *prefix = g_strconcat("file://", place.root, "/via", NULL);
	g_autofree char *text = try_open(&place, "via/file", prefix, NULL);

	ck_assert_pstr_eq(text, "file");
	place_free(&place);
}
END_TEST

START_TEST(open__outside_the_prefix__is_refused)
{
	static const struct {
		const char *name;
		FirnError code;
	} cases[] = {
		{ "in/../secret", FIRN_ERROR_DENIED },
		{ "in/%2e%2e/secret", FIRN_ERROR_DENIED },
		{ "secret", FIRN_ERROR_DENIED },
		{ "in/out", FIRN_ERROR_DENIED },
		{ "inside", FIRN_ERROR_DENIED },
		{ "in/missing", FIRN_ERROR_NOT_FOUND },
		{ "in/pipe", FIRN_ERROR_INVALID },
		{ "in", FIRN_ERROR_INVALID },
		{ "in/../../../etc/hostname", FIRN_ERROR_DENIED },
		{ "in/%zz", FIRN_ERROR_DENIED },
	};
	Place place = place_new();

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		g_autofree char *text = try_open(&place, cases[i].name, place.prefix, &error);

		ck_assert_msg(text == NULL, "%s was read", cases[i].name);
		ck_assert_msg(g_error_matches(error, FIRN_ERROR, (gint)cases[i].code), "%s: %s",
			      cases[i].name, error->message);
	}
	place_free(&place);
}
END_TEST

START_TEST(open__another_scheme__is_refused_without_its_password)
{
	char prefix[] = "s3://user:secret@bucket/";
	char *prefixes[] = { prefix };
	g_autoptr(GError) error = NULL;
	struct stat st;

	ck_assert_int_eq(firn_foreign_open("s3://user:secret@bucket/key", prefixes, 1, &st, &error),
			 -1);
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED);
	ck_assert_ptr_null(strstr(error->message, "secret"));
	ck_assert_ptr_nonnull(strstr(error->message, "bucket/key"));
}
END_TEST

static Suite *
foreign_suite(void)
{
	Suite *s = suite_create("foreign");
	TCase *tc = tcase_create("foreign");

	tcase_add_test(tc, redact__user_and_password__are_gone);
	tcase_add_test(tc, open__below_the_prefix__is_read);
	tcase_add_test(tc, open__prefix_that_is_a_link__is_followed);
	tcase_add_test(tc, open__outside_the_prefix__is_refused);
	tcase_add_test(tc, open__another_scheme__is_refused_without_its_password);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(foreign_suite)
