#include "core/base/text.h"

#include <string.h>

/* Eight bytes, each of them in 1 .. 127. */
static bool
is_plain(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof word);
	return (((word - UINT64_C(0x0101010101010101)) | word) & UINT64_C(0x8080808080808080)) == 0;
}

bool
firn_span_is_text(FirnSpan span)
{
	/* Nearly all is ASCII: as far as that goes, eight bytes at a time. */
	while (span.len >= 8 && is_plain(span.data)) {
		span.data += 8;
		span.len -= 8;
	}
	while (span.len > 0 && span.len < 8 && span.data[0] > 0 && span.data[0] < 0x80) {
		span.data++;
		span.len--;
	}
	return span.len == 0 || g_utf8_validate_len((const char *)span.data, span.len, NULL);
}
