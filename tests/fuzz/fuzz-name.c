#include "core/zarr/name.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *name = g_strndup((const char *)data, size);
	g_autofree char *key = NULL;
	uint32_t index = 0;

	(void)firn_name_is_valid(name);
	if (firn_name_classify(name, &index) != FIRN_NAME_INDEX)
		return 0;
	/* An index has one spelling only. */
	key = firn_name_format_chunk(&index, 1);
	if (strcmp(key + 2, name) != 0)
		abort();
	return 0;
}
