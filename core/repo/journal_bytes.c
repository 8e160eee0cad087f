#include "core/repo/journal_bytes.h"

#include "core/base/text.h"

/* The lower 7 bits of each of 8 bytes, one behind the other. */
static uint64_t
pack_sevens(uint64_t bytes)
{
	bytes &= UINT64_C(0x7f7f7f7f7f7f7f7f);
	bytes = (bytes & UINT64_C(0x007f007f007f007f)) |
		(bytes & UINT64_C(0x7f007f007f007f00)) >> 1;
	bytes = (bytes & UINT64_C(0x00003fff00003fff)) |
		(bytes & UINT64_C(0x3fff00003fff0000)) >> 2;
	return (bytes & UINT64_C(0x0fffffff)) | (bytes & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* Near the end of what there is, or of more than 56 bits. */
static uint64_t
take_any_varint(FirnCursor *cursor)
{
	uint64_t value = 0;

	for (unsigned shift = 0; cursor->at < cursor->end && shift < 64; shift += 7) {
		uint8_t byte = *cursor->at++;

		if (shift == 63 && byte > 1)
			break;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return value;
	}
	cursor->bad = true;
	cursor->at = cursor->end;
	return 0;
}

/* Most have two to four bytes, and how many is nothing a processor can foresee: no branch a byte. */
uint64_t
firn_take_long_varint(FirnCursor *cursor)
{
	uint64_t bytes, last;

	if (cursor->end - cursor->at < (ptrdiff_t)sizeof bytes)
		return take_any_varint(cursor);
	memcpy(&bytes, cursor->at, sizeof bytes);
	bytes = GUINT64_FROM_LE(bytes);
	last = ~bytes & UINT64_C(0x8080808080808080);
	if (last == 0)
		return take_any_varint(cursor);
	cursor->at += (__builtin_ctzll(last) >> 3) + 1;
	return pack_sevens(bytes & (last ^ (last - 1)));
}

char *
firn_take_text(FirnCursor *cursor)
{
	FirnSpan text = firn_take_span(cursor);

	if (!firn_span_is_text(text)) {
		cursor->bad = true;
		text.len = 0;
	}
	return text.len > 0 ? g_strndup((const char *)text.data, text.len) : g_strdup("");
}
