#include "core/repo/journal_record.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/repo/journal_bytes.h"
#include "core/zarr/name.h"

#include <xxhash.h>

#define SUM_SIZE        8u
#define LEN_SIZE        4u
#define BODY_MIN        2u /* kind, seq */

#define FLAG_CREATED    1u
#define FLAG_KEEP       2u
#define FLAG_PATH       4u /* beside the ref's kind */
#define REF_KIND_MASK   3u
#define PATH_MAX_LEN    (1u << 16)
#define FIXED_PARTS_MAX (256u + FIRN_MAX_RANK * 5u)

static void
pen_numbers(uint8_t **pen, const FirnRecord *record)
{
	firn_pen_varint(pen, record->rank);
	for (uint32_t i = 0; i < record->rank; i++)
		firn_pen_varint(pen, record->numbers[i]);
}

static void
take_numbers(FirnCursor *cursor, FirnRecord *record)
{
	record->rank = firn_take_varint32(cursor);
	if (record->rank > FIRN_MAX_RANK) {
		cursor->bad = true;
		record->rank = 0;
	}
	for (uint32_t i = 0; i < record->rank; i++)
		record->numbers[i] = firn_take_varint32(cursor);
}

bool
firn_journal_record_path_valid(FirnSpan path)
{
	g_autofree char *copy = NULL;
	char *name, *next;

	if (path.len == 0 || path.len > PATH_MAX_LEN || path.data[0] != '/' ||
	    memchr(path.data, '\0', path.len) != NULL)
		return false;
	if (path.len == 1)
		return true;
	copy = g_strndup((const char *)path.data + 1, path.len - 1);
	for (name = copy; name != NULL; name = next) {
		next = strchr(name, '/');
		if (next != NULL)
			*next++ = '\0';
		if (!firn_name_is_valid(name))
			return false;
	}
	return true;
}

uint64_t
firn_journal_record_seed(const FirnId12 *session)
{
	uint64_t seed;

	memcpy(&seed, session->bytes, sizeof seed);
	return GUINT64_FROM_LE(seed);
}

static void
pen_ref(uint8_t **pen, const FirnRef *ref)
{
	switch (ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		firn_pen_span(pen, ref->bytes);
		break;
	case FIRN_REF_NATIVE:
		firn_pen_bytes(pen, &ref->id, sizeof ref->id);
		firn_pen_varint(pen, ref->offset);
		firn_pen_varint(pen, ref->length);
		break;
	case FIRN_REF_VIRTUAL:
		firn_pen_varint(pen, ref->offset);
		firn_pen_varint(pen, ref->length);
		firn_pen_span(pen, ref->location);
		firn_pen_span(pen, ref->etag);
		firn_pen_varint(pen, ref->last_modified);
		break;
	}
}

static void
pen_node(uint8_t **pen, const FirnRecord *record)
{
	firn_pen_bytes(pen, &record->id, sizeof record->id);
	*(*pen)++ = (uint8_t)((record->created ? FLAG_CREATED : 0) |
			      (record->has_keep ? FLAG_KEEP : 0));
	if (record->created)
		firn_pen_varint(pen, record->created_seq);
	firn_pen_span(pen, record->path);
	if (record->has_keep)
		pen_numbers(pen, record);
}

static void
pen_body(uint8_t **pen, const FirnRecord *record)
{
	switch (record->kind) {
	case FIRN_RECORD_NODE_PUT:
		pen_node(pen, record);
		firn_pen_span(pen, record->document);
		break;
	case FIRN_RECORD_NODE_DELETE:
		pen_node(pen, record);
		break;
	case FIRN_RECORD_NODE_MOVE:
		firn_pen_bytes(pen, &record->id, sizeof record->id);
		firn_pen_span(pen, record->path);
		break;
	case FIRN_RECORD_CHUNK:
		firn_pen_bytes(pen, &record->id, sizeof record->id);
		*(*pen)++ =
			(uint8_t)((unsigned)record->ref.kind | (record->has_path ? FLAG_PATH : 0));
		if (record->has_path)
			firn_pen_span(pen, record->path);
		pen_numbers(pen, record);
		pen_ref(pen, &record->ref);
		break;
	case FIRN_RECORD_PENDING:
		*(*pen)++ = (uint8_t)record->ref.kind;
		firn_pen_span(pen, record->path);
		pen_ref(pen, &record->ref);
		break;
	case FIRN_RECORD_INTENT:
		firn_pen_varint(pen, record->number);
		firn_pen_bytes(pen, &record->snapshot, sizeof record->snapshot);
		break;
	case FIRN_RECORD_SEAL:
	case FIRN_RECORD_DURABLE:
		firn_pen_varint(pen, record->number);
		break;
	}
}

bool
firn_journal_record_encode(const FirnRecord *record, uint64_t seed, GByteArray *out)
{
	const FirnRef *ref = &record->ref;
	size_t spans = record->path.len + record->document.len + ref->bytes.len +
		       ref->location.len + ref->etag.len;
	guint from = out->len;
	uint8_t *start, *pen;

	if (spans > FIRN_JOURNAL_MAX_RECORD ||
	    FIXED_PARTS_MAX + spans > FIRN_JOURNAL_MAX_ARRAY - MIN(from, FIRN_JOURNAL_MAX_ARRAY))
		return false;
	g_byte_array_set_size(out, from + (guint)(FIXED_PARTS_MAX + spans));
	start = pen = out->data + from;
	pen += LEN_SIZE;
	*pen++ = (uint8_t)record->kind;
	firn_pen_varint(&pen, record->seq);
	pen_body(&pen, record);
	if ((size_t)(pen - start) - LEN_SIZE > FIRN_JOURNAL_MAX_RECORD) {
		g_byte_array_set_size(out, from);
		return false;
	}
	firn_pen_u32(&start, (uint32_t)(pen - start) - LEN_SIZE);
	start -= LEN_SIZE;
	firn_pen_u64(&pen, XXH3_64bits_withSeed(start, (size_t)(pen - start), seed));
	g_byte_array_set_size(out, from + (guint)(pen - start));
	return true;
}

bool
firn_journal_record_open(FirnSpan data, uint64_t seed, FirnSpan *out_body, size_t *out_size)
{
	uint32_t len;
	uint64_t sum;

	if (data.len < LEN_SIZE + BODY_MIN + SUM_SIZE)
		return false;
	memcpy(&len, data.data, sizeof len);
	len = GUINT32_FROM_LE(len);
	if (len < BODY_MIN || len > FIRN_JOURNAL_MAX_RECORD || len > data.len - LEN_SIZE - SUM_SIZE)
		return false;
	memcpy(&sum, data.data + LEN_SIZE + len, sizeof sum);
	if (GUINT64_FROM_LE(sum) != XXH3_64bits_withSeed(data.data, LEN_SIZE + (size_t)len, seed))
		return false;
	*out_body = (FirnSpan){ data.data + LEN_SIZE, len };
	*out_size = LEN_SIZE + (size_t)len + SUM_SIZE;
	return true;
}

static const char *
take_ref(FirnCursor *cursor, FirnRef *ref)
{
	switch (ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		ref->bytes = firn_take_span(cursor);
		ref->length = ref->bytes.len;
		break;
	case FIRN_REF_NATIVE:
		(void)firn_take_bytes(cursor, &ref->id, sizeof ref->id);
		ref->offset = firn_take_varint(cursor);
		ref->length = firn_take_varint(cursor);
		break;
	case FIRN_REF_VIRTUAL:
		ref->offset = firn_take_varint(cursor);
		ref->length = firn_take_varint(cursor);
		ref->location = firn_take_span(cursor);
		ref->etag = firn_take_span(cursor);
		ref->last_modified = firn_take_varint32(cursor);
		if (!cursor->bad && ref->location.len == 0)
			return "a virtual chunk has no location";
		if (!firn_span_is_text(ref->location) || !firn_span_is_text(ref->etag))
			return "a location or etag is not UTF-8";
		break;
	}
	return ref->length > INT64_MAX || ref->offset > INT64_MAX - ref->length
		       ? "a range is out of bounds"
		       : NULL;
}

static const char *
take_node(FirnCursor *cursor, FirnRecord *record)
{
	uint8_t flags;

	(void)firn_take_bytes(cursor, &record->id, sizeof record->id);
	flags = firn_take_u8(cursor);
	if ((flags & ~(FLAG_CREATED | FLAG_KEEP)) != 0)
		return "it has flags that are not known";
	record->created = (flags & FLAG_CREATED) != 0;
	record->has_keep = (flags & FLAG_KEEP) != 0;
	if (record->created)
		record->created_seq = firn_take_varint(cursor);
	record->path = firn_take_span(cursor);
	if (record->has_keep)
		take_numbers(cursor, record);
	if (record->has_keep && (record->created || record->kind != FIRN_RECORD_NODE_PUT))
		return "only a document of an earlier array says what is kept";
	return NULL;
}

static const char *
take_body(FirnCursor *cursor, FirnRecord *record)
{
	const char *reason = NULL;
	uint8_t flags;

	switch (record->kind) {
	case FIRN_RECORD_NODE_PUT:
	case FIRN_RECORD_NODE_DELETE:
		reason = take_node(cursor, record);
		if (record->kind == FIRN_RECORD_NODE_PUT)
			record->document = firn_take_span(cursor);
		return reason;
	case FIRN_RECORD_NODE_MOVE:
		(void)firn_take_bytes(cursor, &record->id, sizeof record->id);
		record->path = firn_take_span(cursor);
		return NULL;
	case FIRN_RECORD_CHUNK:
		(void)firn_take_bytes(cursor, &record->id, sizeof record->id);
		flags = firn_take_u8(cursor);
		if ((flags & ~(FLAG_PATH | REF_KIND_MASK)) != 0)
			return "it has flags that are not known";
		record->has_path = (flags & FLAG_PATH) != 0;
		if (record->has_path)
			record->path = firn_take_span(cursor);
		take_numbers(cursor, record);
		record->ref.kind = (FirnRefKind)(flags & REF_KIND_MASK);
		return take_ref(cursor, &record->ref);
	case FIRN_RECORD_PENDING:
		flags = firn_take_u8(cursor);
		if ((flags & ~REF_KIND_MASK) != 0)
			return "it has flags that are not known";
		record->path = firn_take_span(cursor);
		record->ref.kind = (FirnRefKind)flags;
		return take_ref(cursor, &record->ref);
	case FIRN_RECORD_INTENT:
		record->number = firn_take_varint(cursor);
		(void)firn_take_bytes(cursor, &record->snapshot, sizeof record->snapshot);
		return NULL;
	case FIRN_RECORD_SEAL:
	case FIRN_RECORD_DURABLE:
		record->number = firn_take_varint(cursor);
		return NULL;
	}
	return "its kind is not known";
}

const char *
firn_journal_record_decode(FirnSpan body, FirnRecord *out_record)
{
	FirnCursor cursor = { body.data, body.data + body.len, false };
	FirnRecord *record = out_record;
	const char *reason;

	/* All but the numbers, of which `rank` are set: clearing them costs more than the rest. */
	memset(record, 0, offsetof(FirnRecord, numbers));
	record->kind = (FirnRecordKind)firn_take_u8(&cursor);
	record->seq = firn_take_varint(&cursor);
	reason = take_body(&cursor, record);
	if (cursor.bad)
		return "it is shorter than what it says it holds";
	if (reason != NULL)
		return reason;
	if (cursor.at != cursor.end)
		return "it is longer than what it holds";
	if (record->path.data != NULL && !firn_journal_record_path_valid(record->path))
		return "its path is not valid";
	if (record->kind == FIRN_RECORD_PENDING && record->path.len == 1)
		return "its path is not valid";
	return NULL;
}
