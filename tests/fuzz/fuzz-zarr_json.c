#include "core/base/json_check.h"
#include "core/zarr/meta.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_stripped(GBytes *raw, bool was_meta)
{
	g_autoptr(GBytes) out = firn_meta_strip_consolidated(raw);
	gsize len;
	const uint8_t *text = g_bytes_get_data(out, &len);
	size_t from;
	size_t to;
	g_autoptr(FirnMeta) again = NULL;

	if (firn_json_check((FirnSpan){ text, len }, 128, NULL) != NULL)
		abort();
	if (firn_json_find_member((FirnSpan){ text, len }, "consolidated_metadata", &from, &to))
		abort();
	again = firn_meta_parse(out, NULL);
	if ((again != NULL) != was_meta || (again != NULL && again->has_consolidated))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GBytes) raw = g_bytes_new(data, size);
	g_autoptr(FirnMeta) meta = firn_meta_parse(raw, NULL);
	gsize len;
	const uint8_t *text = g_bytes_get_data(raw, &len);
	bool valid = firn_json_check((FirnSpan){ text, len }, 128, NULL) == NULL;

	if (meta != NULL && !valid)
		abort();
	if (meta != NULL && (meta->kind == FIRN_NODE_GROUP) != (meta->lengths == NULL))
		abort();
	if (valid)
		check_stripped(raw, meta != NULL);
	return 0;
}
