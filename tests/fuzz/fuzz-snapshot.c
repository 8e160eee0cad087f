/* The payload of a snapshot file, as both format versions. */
#include "tests/unit/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (uint8_t version = 1; version <= 2; version++) {
		g_autoptr(GBytes) file = walk_wrap(data, size, version, FIRN_KIND_SNAPSHOT);

		(void)walk_snapshot(file);
	}
	return 0;
}
