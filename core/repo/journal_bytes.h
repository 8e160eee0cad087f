#ifndef FIRN_CORE_REPO_JOURNAL_BYTES_H
#define FIRN_CORE_REPO_JOURNAL_BYTES_H

#include "core/base/base.h"

#include <string.h>

/*
 * The bytes that headers and records of a journal are made of (core/JOURNAL.md):
 * integers, varints, spans.  For the journal's own files only.
 */
#define FIRN_VARINT_MAX 10u /* bytes */

/*
 * ---- pens: writing into space that was made sure of ----
 *
 * A pen is where the next byte goes, and moves behind what it wrote.
 */

static inline void
firn_pen_u32(uint8_t **pen, uint32_t value)
{
	value = GUINT32_TO_LE(value);
	memcpy(*pen, &value, sizeof value);
	*pen += sizeof value;
}

static inline void
firn_pen_u64(uint8_t **pen, uint64_t value)
{
	value = GUINT64_TO_LE(value);
	memcpy(*pen, &value, sizeof value);
	*pen += sizeof value;
}

static inline void
firn_pen_varint(uint8_t **pen, uint64_t value)
{
	while (value >= 0x80) {
		*(*pen)++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*(*pen)++ = (uint8_t)value;
}

static inline void
firn_pen_bytes(uint8_t **pen, const void *data, size_t len)
{
	if (len > 0)
		memcpy(*pen, data, len);
	*pen += len;
}

static inline void
firn_pen_span(uint8_t **pen, FirnSpan span)
{
	firn_pen_varint(pen, span.len);
	firn_pen_bytes(pen, span.data, span.len);
}

/*
 * ---- cursors: reading ----
 *
 * What is not there makes a cursor bad; a bad one stays bad and yields zeros.
 */

typedef struct {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
} FirnCursor;

/* A varint of more than one byte. */
uint64_t firn_take_long_varint(FirnCursor *cursor);

static inline uint64_t
firn_take_varint(FirnCursor *cursor)
{
	if (cursor->at < cursor->end && *cursor->at < 0x80)
		return *cursor->at++;
	return firn_take_long_varint(cursor);
}

static inline uint32_t
firn_take_varint32(FirnCursor *cursor)
{
	uint64_t value = firn_take_varint(cursor);

	if (value > UINT32_MAX) {
		cursor->bad = true;
		return 0;
	}
	return (uint32_t)value;
}

static inline bool
firn_take_bytes(FirnCursor *cursor, void *out, size_t len)
{
	if ((size_t)(cursor->end - cursor->at) < len) {
		cursor->bad = true;
		memset(out, 0, len);
		return false;
	}
	memcpy(out, cursor->at, len);
	cursor->at += len;
	return true;
}

static inline uint8_t
firn_take_u8(FirnCursor *cursor)
{
	uint8_t value;

	(void)firn_take_bytes(cursor, &value, sizeof value);
	return value;
}

static inline uint64_t
firn_take_u64(FirnCursor *cursor)
{
	uint64_t value;

	(void)firn_take_bytes(cursor, &value, sizeof value);
	return GUINT64_FROM_LE(value);
}

/* Borrowed from what is read. */
static inline FirnSpan
firn_take_span(FirnCursor *cursor)
{
	uint64_t len = firn_take_varint(cursor);
	FirnSpan span = { NULL, 0 };

	if (cursor->bad || len > (uint64_t)(cursor->end - cursor->at)) {
		cursor->bad = true;
		return span;
	}
	span = (FirnSpan){ cursor->at, (size_t)len };
	cursor->at += len;
	return span;
}

/* UTF-8 without NUL; "" if it is none.  Caller owns. */
char *firn_take_text(FirnCursor *cursor);

#endif
