#include "core/format/config.h"
#include "core/format/v1.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(JsonNode) json = firn_config_from_yaml((FirnSpan){ data, size }, NULL);
	g_autoptr(FirnConfig) config = json != NULL ? firn_config_parse(json, NULL) : NULL;
	char name[] = "time";
	char *names[] = { name, NULL };
	uint32_t sizes[2];
	FirnId12 id;

	(void)!firn_v1_ref_parse((FirnSpan){ data, size }, &id, NULL);
	if (config != NULL)
		firn_config_split_sizes(config, "/group/array", 2, names, sizes);
	return 0;
}
