/*
 * Rewrites repo infos, and shows values, for the interoperability tests.
 *
 *   repo_tool recode IN OUT               decode, encode again
 *   repo_tool new OUT                     a new repository, with a splitting rule for /a
 *   repo_tool tag IN OUT NAME BACKUP MAX  add a tag to main's snapshot; BACKUP is IN's copy
 *   repo_tool flex                        lines of JSON to lines of FlexBuffers in hex
 *   repo_tool reflex                      lines of FlexBuffers in hex, read and written again
 *   repo_tool yaml                        config.yaml to JSON
 */
#include "core/base/clock.h"
#include "core/flat/flex.h"
#include "core/format/config.h"
#include "core/format/repo_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
die(const GError *error)
{
	fprintf(stderr, "%s\n", error != NULL ? error->message : "failed");
	exit(1);
}

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

static FirnRepoInfo *
load(const char *path)
{
	GError *error = NULL;
	g_autoptr(GBytes) file = NULL;
	FirnRepoInfo *info;
	char *data;
	gsize len;

	if (!g_file_get_contents(path, &data, &len, &error))
		die(error);
	file = g_bytes_new_take(data, len);
	info = firn_repo_info_decode(file, &error);
	if (info == NULL)
		die(error);
	return info;
}

static void
save(const FirnRepoInfo *info, const char *path)
{
	GError *error = NULL;
	g_autoptr(GBytes) file = firn_repo_info_encode(info, 3, &error);

	if (file == NULL || !g_file_set_contents(path, (const char *)span_of(file).data,
						 (gssize)span_of(file).len, &error))
		die(error);
}

static void
make_new(const char *path)
{
	g_autoptr(JsonNode) initial = firn_config_initial();
	g_autoptr(JsonNode) config = firn_config_with_split(initial, "/a", 0, 2);
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(firn_clock_now_us(), config);

	save(info, path);
}

static void
tag(char **args)
{
	g_autoptr(FirnRepoInfo) info = load(args[0]);
	const FirnRefInfo *branch = firn_repo_info_find_branch(info, "main");

	if (branch == NULL || !firn_repo_info_add_tag(info, args[2], &branch->snapshot))
		die(NULL);
	firn_repo_info_push_update(info, FIRN_UPDATE_TAG_CREATED, args[2], NULL, NULL, args[3],
				   firn_clock_now_us(), (uint32_t)atoi(args[4]));
	save(info, args[1]);
}

static void
print_flex(JsonNode *node)
{
	g_autoptr(GBytes) bytes = firn_flex_build(node);

	for (size_t i = 0; i < span_of(bytes).len; i++)
		printf("%02x", span_of(bytes).data[i]);
	printf("\n");
}

static void
flex_line(const char *line)
{
	g_autoptr(JsonNode) node = json_from_string(line, NULL);

	if (node == NULL)
		die(NULL);
	print_flex(node);
}

static void
reflex_line(const char *line)
{
	GError *error = NULL;
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autoptr(JsonNode) node = NULL;

	for (; g_ascii_isxdigit(line[0]) && g_ascii_isxdigit(line[1]); line += 2) {
		guint8 byte = (guint8)(g_ascii_xdigit_value(line[0]) << 4 |
				       g_ascii_xdigit_value(line[1]));

		g_byte_array_append(bytes, &byte, 1);
	}
	node = firn_flex_read((FirnSpan){ bytes->data, bytes->len }, &error);
	if (node == NULL)
		die(error);
	print_flex(node);
}

static void
each_line(void (*use)(const char *line))
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0)
		use(line);
	free(line);
}

static void
show_yaml(void)
{
	g_autoptr(GString) all = g_string_new(NULL);
	g_autoptr(JsonNode) node = NULL;
	g_autofree char *text = NULL;
	GError *error = NULL;
	char buffer[4096];
	size_t n;

	while ((n = fread(buffer, 1, sizeof buffer, stdin)) > 0)
		g_string_append_len(all, buffer, (gssize)n);
	node = firn_config_from_yaml((FirnSpan){ (uint8_t *)all->str, all->len }, &error);
	if (node == NULL)
		die(error);
	text = json_to_string(node, FALSE);
	printf("%s\n", text);
}

int
main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "recode") == 0) {
		g_autoptr(FirnRepoInfo) info = load(argv[2]);

		save(info, argv[3]);
	} else if (argc == 3 && strcmp(argv[1], "new") == 0) {
		make_new(argv[2]);
	} else if (argc == 7 && strcmp(argv[1], "tag") == 0) {
		tag(argv + 2);
	} else if (argc == 2 && strcmp(argv[1], "flex") == 0) {
		each_line(flex_line);
	} else if (argc == 2 && strcmp(argv[1], "reflex") == 0) {
		each_line(reflex_line);
	} else if (argc == 2 && strcmp(argv[1], "yaml") == 0) {
		show_yaml();
	} else {
		return 2;
	}
	return 0;
}
