#include "core/base/error.h"
#include "core/flat/flex.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FirnSpan
span_of(GBytes *bytes)
{
	gsize len;
	const void *at = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ at, len };
}

/* What can be read can be written, and is then read as the same and written the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(JsonNode) value = firn_flex_read((FirnSpan){ data, size }, NULL);
	g_autoptr(JsonNode) again = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) first = NULL;
	g_autoptr(GBytes) second = NULL;

	if (value == NULL)
		return 0;
	first = firn_flex_build(value);
	again = firn_flex_read(span_of(first), &error);
	/* Shared keys make it so much smaller that they may be too many for its size. */
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_LIMIT))
		return 0;
	if (again == NULL || !json_node_equal(value, again))
		abort();
	second = firn_flex_build(again);
	if (!g_bytes_equal(first, second))
		abort();
	return 0;
}
