#include "core/flat/flex_text.h"

#include <string.h>

static const char shown[] = "\xef\xbf\xbd";

/* The bytes in front of the next NUL, which with it are taken off `rest`; `*out_nul`: there is one. */
static FirnSpan
next_part(FirnSpan *rest, bool *out_nul)
{
	FirnSpan part = *rest;
	const uint8_t *nul = part.len > 0 ? memchr(part.data, 0, part.len) : NULL;

	*out_nul = nul != NULL;
	if (nul != NULL)
		part.len = (size_t)(nul - part.data);
	rest->data += part.len + (nul != NULL ? 1 : 0);
	rest->len -= part.len + (nul != NULL ? 1 : 0);
	return part;
}

size_t
firn_flex_text_length(FirnSpan bytes)
{
	size_t len = bytes.len;
	bool more = bytes.len > 0;

	while (more) {
		(void)next_part(&bytes, &more);
		if (more)
			len += sizeof shown - 2;
	}
	return len;
}

char *
firn_flex_text_read(FirnSpan bytes)
{
	size_t len = firn_flex_text_length(bytes);
	g_autofree char *text = g_malloc(len + 1);
	char *to = text;
	bool more = bytes.len > 0;

	while (more) {
		FirnSpan part = next_part(&bytes, &more);

		if (!g_utf8_validate_len((const char *)part.data, part.len, NULL))
			return NULL;
		memcpy(to, part.data, part.len);
		to += part.len;
		if (more) {
			memcpy(to, shown, sizeof shown - 1);
			to += sizeof shown - 1;
		}
	}
	*to = '\0';
	return g_steal_pointer(&text);
}
