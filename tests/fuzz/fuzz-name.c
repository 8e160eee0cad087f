#include "core/format/types.h"
#include "core/zarr/name.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
need(bool holds)
{
	if (!holds)
		abort();
}

static void
check_component(const char *name)
{
	uint32_t index = UINT32_MAX, again = UINT32_MAX;
	FirnNameKind kind = firn_name_classify(name, &index);
	bool parses = firn_name_parse_index(name, &again);

	need((kind == FIRN_NAME_INDEX) == parses && index == again);
	need(kind != FIRN_NAME_INDEX || index < UINT32_MAX);
	need(kind != FIRN_NAME_INDEX || !firn_name_is_scratch(name));
	if (!firn_name_is_valid(name))
		return;
	need(name[0] != '\0' && strlen(name) <= 255 && strchr(name, '/') == NULL);
	need(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	need(g_utf8_validate(name, -1, NULL));
}

/* A chunk key has one spelling only: what is read as coordinates is written the same. */
static void
check_key(char **parts, unsigned n)
{
	uint32_t coords[FIRN_MAX_RANK];
	g_autofree char *joined = NULL;
	g_autofree char *key = NULL;

	if (n == 0 || n - 1 > FIRN_MAX_RANK ||
	    firn_name_classify(parts[0], NULL) != FIRN_NAME_CHUNKS)
		return;
	for (unsigned i = 1; i < n; i++)
		if (firn_name_classify(parts[i], &coords[i - 1]) != FIRN_NAME_INDEX)
			return;
	joined = g_strjoinv("/", parts);
	key = firn_name_format_chunk(coords, n - 1);
	need(strcmp(key, joined) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size);
	g_auto(GStrv) parts = g_strsplit(text, "/", -1);
	unsigned n = g_strv_length(parts);

	check_component(text);
	for (unsigned i = 0; i < n; i++)
		check_component(parts[i]);
	check_key(parts, n);
	return 0;
}
