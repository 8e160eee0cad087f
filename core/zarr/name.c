#include "core/zarr/name.h"

#include <string.h>

#define LOCK_SUFFIX ".__lock"

bool
firn_name_parse_index(const char *name, uint32_t *out_index)
{
	uint64_t value = 0;
	size_t len = strnlen(name, 11);

	/* Ten digits hold every index; leading zeros would give one chunk two names. */
	if (len == 0 || len > 10 || (len > 1 && name[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!g_ascii_isdigit(name[i]))
			return false;
		value = value * 10 + (uint64_t)(name[i] - '0');
	}
	if (value >= UINT32_MAX)
		return false;
	if (out_index != NULL)
		*out_index = (uint32_t)value;
	return true;
}

FirnNameKind
firn_name_classify(const char *name, uint32_t *out_index)
{
	static const char *const v2[] = { ".zarray", ".zgroup", ".zattrs", ".zmetadata" };
	size_t len;

	if (strcmp(name, "zarr.json") == 0)
		return FIRN_NAME_META;
	if (strcmp(name, "c") == 0)
		return FIRN_NAME_CHUNKS;
	if (firn_name_parse_index(name, out_index))
		return FIRN_NAME_INDEX;
	for (size_t i = 0; i < G_N_ELEMENTS(v2); i++)
		if (strcmp(name, v2[i]) == 0)
			return FIRN_NAME_V2;
	len = strlen(name);
	if (len > strlen(LOCK_SUFFIX) && strcmp(name + len - strlen(LOCK_SUFFIX), LOCK_SUFFIX) == 0)
		return FIRN_NAME_LOCK;
	return FIRN_NAME_OTHER;
}

bool
firn_name_is_valid(const char *name)
{
	size_t len = strnlen(name, 256);

	if (len == 0 || len > 255)
		return false;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/') != NULL)
		return false;
	return g_utf8_validate(name, (gssize)len, NULL);
}

void
firn_name_format_index(uint32_t index, char out[FIRN_NAME_INDEX_MAX + 1])
{
	char digits[FIRN_NAME_INDEX_MAX];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + index % 10);
	while ((index /= 10) > 0);
	for (size_t i = 0; i < n; i++)
		out[i] = digits[n - 1 - i];
	out[n] = '\0';
}

char *
firn_name_format_chunk(const uint32_t *coords, uint32_t rank)
{
	GString *text = g_string_sized_new(2 + 11 * (size_t)rank);

	g_string_append_c(text, 'c');
	for (uint32_t i = 0; i < rank; i++)
		g_string_append_printf(text, "/%" G_GUINT32_FORMAT, coords[i]);
	return g_string_free(text, FALSE);
}

/* A '#' and digits at the end: object_store's temporaries. */
static bool
ends_in_number_sign(const char *name)
{
	const char *sign = strrchr(name, '#');

	return sign != NULL && sign != name && sign[1] != '\0' &&
	       strspn(sign + 1, "0123456789") == strlen(sign + 1);
}

/* `prefix` and exactly six letters or digits, as mkstemp(3) makes them. */
static bool
is_mkstemp(const char *name, const char *prefix)
{
	if (!g_str_has_prefix(name, prefix) || strlen(name) != strlen(prefix) + 6)
		return false;
	for (name += strlen(prefix); *name != '\0'; name++)
		if (!g_ascii_isalnum(*name))
			return false;
	return true;
}

bool
firn_name_is_scratch(const char *name)
{
	static const char *const suffixes[] = { ".partial", ".__lock",  "~",     "-wal", "-shm",
						"-journal", ".aux.xml", ".gmac", ".lock" };

	/* rsync's and vim's temporaries, .nfs*, .DS_Store and their like. */
	if (name[0] == '.')
		return true;
	for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++)
		if (g_str_has_suffix(name, suffixes[i]))
			return true;
	return ends_in_number_sign(name) || is_mkstemp(name, "sed") ||
	       is_mkstemp(name, "tmp_obj_") || (name[0] == '#' && g_str_has_suffix(name, "#"));
}
