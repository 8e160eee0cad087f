#include "core/repo/journal_record.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/zarr/name.h"

#include <string.h>
#include <xxhash.h>

#define MAGIC           "FIRNJ\r\n\x1a"
#define MAGIC_SIZE      8u
#define HEAD_SIZE       16u /* magic, version, length of the header's body */
#define SUM_SIZE        8u
#define LEN_SIZE        4u
#define BODY_MIN        2u /* kind, seq */

#define FLAG_CREATED    1u
#define FLAG_KEEP       2u
#define FLAG_PATH       4u /* beside the ref's kind */
#define REF_KIND_MASK   3u
#define PATH_MAX_LEN    (1u << 16)
#define VARINT_MAX      10u
#define FIXED_PARTS_MAX (256u + FIRN_MAX_RANK * 5u)

/* ---- pens: writing into space that was made sure of ---- */

static void
pen_u32(uint8_t **pen, uint32_t value)
{
	value = GUINT32_TO_LE(value);
	memcpy(*pen, &value, sizeof value);
	*pen += sizeof value;
}

static void
pen_u64(uint8_t **pen, uint64_t value)
{
	value = GUINT64_TO_LE(value);
	memcpy(*pen, &value, sizeof value);
	*pen += sizeof value;
}

static void
pen_varint(uint8_t **pen, uint64_t value)
{
	while (value >= 0x80) {
		*(*pen)++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*(*pen)++ = (uint8_t)value;
}

static void
pen_bytes(uint8_t **pen, const void *data, size_t len)
{
	if (len > 0)
		memcpy(*pen, data, len);
	*pen += len;
}

static void
pen_span(uint8_t **pen, FirnSpan span)
{
	pen_varint(pen, span.len);
	pen_bytes(pen, span.data, span.len);
}

static void
pen_numbers(uint8_t **pen, const FirnRecord *record)
{
	pen_varint(pen, record->rank);
	for (uint32_t i = 0; i < record->rank; i++)
		pen_varint(pen, record->numbers[i]);
}

/* ---- cursors: reading; a bad cursor stays bad and yields zeros ---- */

typedef struct {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
} Cursor;

static uint64_t
take_long_varint(Cursor *cursor)
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

static inline uint64_t
take_varint(Cursor *cursor)
{
	if (cursor->at < cursor->end && *cursor->at < 0x80)
		return *cursor->at++;
	return take_long_varint(cursor);
}

static uint32_t
take_varint32(Cursor *cursor)
{
	uint64_t value = take_varint(cursor);

	if (value > UINT32_MAX) {
		cursor->bad = true;
		return 0;
	}
	return (uint32_t)value;
}

static bool
take_bytes(Cursor *cursor, void *out, size_t len)
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

static uint8_t
take_u8(Cursor *cursor)
{
	uint8_t value;

	(void)take_bytes(cursor, &value, sizeof value);
	return value;
}

static uint64_t
take_u64(Cursor *cursor)
{
	uint64_t value;

	(void)take_bytes(cursor, &value, sizeof value);
	return GUINT64_FROM_LE(value);
}

static FirnSpan
take_span(Cursor *cursor)
{
	uint64_t len = take_varint(cursor);
	FirnSpan span = { NULL, 0 };

	if (cursor->bad || len > (uint64_t)(cursor->end - cursor->at)) {
		cursor->bad = true;
		return span;
	}
	span = (FirnSpan){ cursor->at, (size_t)len };
	cursor->at += len;
	return span;
}

static void
take_numbers(Cursor *cursor, FirnRecord *record)
{
	record->rank = take_varint32(cursor);
	if (record->rank > FIRN_MAX_RANK) {
		cursor->bad = true;
		record->rank = 0;
	}
	for (uint32_t i = 0; i < record->rank; i++)
		record->numbers[i] = take_varint32(cursor);
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

/* ---- records ---- */

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
		pen_span(pen, ref->bytes);
		break;
	case FIRN_REF_NATIVE:
		pen_bytes(pen, &ref->id, sizeof ref->id);
		pen_varint(pen, ref->offset);
		pen_varint(pen, ref->length);
		break;
	case FIRN_REF_VIRTUAL:
		pen_varint(pen, ref->offset);
		pen_varint(pen, ref->length);
		pen_span(pen, ref->location);
		pen_span(pen, ref->etag);
		pen_varint(pen, ref->last_modified);
		break;
	}
}

static void
pen_node(uint8_t **pen, const FirnRecord *record)
{
	pen_bytes(pen, &record->id, sizeof record->id);
	*(*pen)++ = (uint8_t)((record->created ? FLAG_CREATED : 0) |
			      (record->has_keep ? FLAG_KEEP : 0));
	if (record->created)
		pen_varint(pen, record->created_seq);
	pen_span(pen, record->path);
	if (record->has_keep)
		pen_numbers(pen, record);
}

static void
pen_body(uint8_t **pen, const FirnRecord *record)
{
	switch (record->kind) {
	case FIRN_RECORD_NODE_PUT:
		pen_node(pen, record);
		pen_span(pen, record->document);
		break;
	case FIRN_RECORD_NODE_DELETE:
		pen_node(pen, record);
		break;
	case FIRN_RECORD_NODE_MOVE:
		pen_bytes(pen, &record->id, sizeof record->id);
		pen_span(pen, record->path);
		break;
	case FIRN_RECORD_CHUNK:
		pen_bytes(pen, &record->id, sizeof record->id);
		*(*pen)++ =
			(uint8_t)((unsigned)record->ref.kind | (record->has_path ? FLAG_PATH : 0));
		if (record->has_path)
			pen_span(pen, record->path);
		pen_numbers(pen, record);
		pen_ref(pen, &record->ref);
		break;
	case FIRN_RECORD_PENDING:
		*(*pen)++ = (uint8_t)record->ref.kind;
		pen_span(pen, record->path);
		pen_ref(pen, &record->ref);
		break;
	case FIRN_RECORD_INTENT:
		pen_varint(pen, record->number);
		pen_bytes(pen, &record->snapshot, sizeof record->snapshot);
		break;
	case FIRN_RECORD_SEAL:
	case FIRN_RECORD_DURABLE:
		pen_varint(pen, record->number);
		break;
	}
}

bool
firn_journal_record_encode(const FirnRecord *record, uint64_t seed, GByteArray *out)
{
	const FirnRef *ref = &record->ref;
	size_t most = FIXED_PARTS_MAX + record->path.len + record->document.len + ref->bytes.len +
		      ref->location.len + ref->etag.len;
	guint from = out->len;
	uint8_t *start, *pen;

	if (most > FIRN_JOURNAL_MAX_RECORD)
		return false;
	g_byte_array_set_size(out, from + (guint)most);
	start = pen = out->data + from;
	pen += LEN_SIZE;
	*pen++ = (uint8_t)record->kind;
	pen_varint(&pen, record->seq);
	pen_body(&pen, record);
	pen_u32(&start, (uint32_t)(pen - start) - LEN_SIZE);
	start -= LEN_SIZE;
	pen_u64(&pen, XXH3_64bits_withSeed(start, (size_t)(pen - start), seed));
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
take_ref(Cursor *cursor, FirnRef *ref)
{
	switch (ref->kind) {
	case FIRN_REF_NONE:
		break;
	case FIRN_REF_INLINE:
		ref->bytes = take_span(cursor);
		ref->length = ref->bytes.len;
		break;
	case FIRN_REF_NATIVE:
		(void)take_bytes(cursor, &ref->id, sizeof ref->id);
		ref->offset = take_varint(cursor);
		ref->length = take_varint(cursor);
		break;
	case FIRN_REF_VIRTUAL:
		ref->offset = take_varint(cursor);
		ref->length = take_varint(cursor);
		ref->location = take_span(cursor);
		ref->etag = take_span(cursor);
		ref->last_modified = take_varint32(cursor);
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
take_node(Cursor *cursor, FirnRecord *record)
{
	uint8_t flags;

	(void)take_bytes(cursor, &record->id, sizeof record->id);
	flags = take_u8(cursor);
	if ((flags & ~(FLAG_CREATED | FLAG_KEEP)) != 0)
		return "it has flags that are not known";
	record->created = (flags & FLAG_CREATED) != 0;
	record->has_keep = (flags & FLAG_KEEP) != 0;
	if (record->created)
		record->created_seq = take_varint(cursor);
	record->path = take_span(cursor);
	if (record->has_keep)
		take_numbers(cursor, record);
	if (record->has_keep && (record->created || record->kind != FIRN_RECORD_NODE_PUT))
		return "only a document of an earlier array says what is kept";
	return NULL;
}

static const char *
take_body(Cursor *cursor, FirnRecord *record)
{
	const char *reason = NULL;
	uint8_t flags;

	switch (record->kind) {
	case FIRN_RECORD_NODE_PUT:
	case FIRN_RECORD_NODE_DELETE:
		reason = take_node(cursor, record);
		if (record->kind == FIRN_RECORD_NODE_PUT)
			record->document = take_span(cursor);
		return reason;
	case FIRN_RECORD_NODE_MOVE:
		(void)take_bytes(cursor, &record->id, sizeof record->id);
		record->path = take_span(cursor);
		return NULL;
	case FIRN_RECORD_CHUNK:
		(void)take_bytes(cursor, &record->id, sizeof record->id);
		flags = take_u8(cursor);
		if ((flags & ~(FLAG_PATH | REF_KIND_MASK)) != 0)
			return "it has flags that are not known";
		record->has_path = (flags & FLAG_PATH) != 0;
		if (record->has_path)
			record->path = take_span(cursor);
		take_numbers(cursor, record);
		record->ref.kind = (FirnRefKind)(flags & REF_KIND_MASK);
		return take_ref(cursor, &record->ref);
	case FIRN_RECORD_PENDING:
		flags = take_u8(cursor);
		if ((flags & ~REF_KIND_MASK) != 0)
			return "it has flags that are not known";
		record->path = take_span(cursor);
		record->ref.kind = (FirnRefKind)flags;
		return take_ref(cursor, &record->ref);
	case FIRN_RECORD_INTENT:
		record->number = take_varint(cursor);
		(void)take_bytes(cursor, &record->snapshot, sizeof record->snapshot);
		return NULL;
	case FIRN_RECORD_SEAL:
	case FIRN_RECORD_DURABLE:
		record->number = take_varint(cursor);
		return NULL;
	}
	return "its kind is not known";
}

const char *
firn_journal_record_decode(FirnSpan body, FirnRecord *out_record)
{
	Cursor cursor = { body.data, body.data + body.len, false };
	FirnRecord *record = out_record;
	const char *reason;

	/* All but the numbers, of which `rank` are set: clearing them costs more than the rest. */
	memset(record, 0, offsetof(FirnRecord, numbers));
	record->kind = (FirnRecordKind)take_u8(&cursor);
	record->seq = take_varint(&cursor);
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

/* ---- section headers ---- */

static FirnSpan
span_of(const char *text)
{
	return (FirnSpan){ (const uint8_t *)text, text != NULL ? strlen(text) : 0 };
}

void
firn_journal_record_add_header(const FirnJournalHeader *header, FirnJournalForm form,
			       GByteArray *out)
{
	FirnSpan url = span_of(header->repository), branch = span_of(header->branch);
	FirnSpan fork = span_of(header->fork);
	size_t most = FIXED_PARTS_MAX + url.len + branch.len + fork.len +
		      header->ancestors->len * (sizeof(FirnId12) + VARINT_MAX);
	guint from = out->len;
	uint8_t *start, *pen, *len_at;

	g_assert(most <= FIRN_JOURNAL_MAX_HEADER);
	g_byte_array_set_size(out, from + (guint)most);
	start = pen = out->data + from;
	pen_bytes(&pen, MAGIC, MAGIC_SIZE);
	pen_u32(&pen, FIRN_JOURNAL_VERSION);
	len_at = pen;
	pen += LEN_SIZE;
	*pen++ = (uint8_t)form;
	*pen++ = header->spec_version;
	pen_u64(&pen, header->identity);
	pen_u64(&pen, header->created_us);
	pen_bytes(&pen, &header->base, sizeof header->base);
	pen_bytes(&pen, &header->session, sizeof header->session);
	pen_span(&pen, url);
	pen_span(&pen, branch);
	pen_span(&pen, fork);
	pen_varint(&pen, header->ancestors->len);
	for (guint i = 0; i < header->ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(header->ancestors, FirnAncestor, i);

		pen_bytes(&pen, &ancestor->session, sizeof ancestor->session);
		pen_varint(&pen, ancestor->seq);
	}
	pen_u32(&len_at, (uint32_t)((size_t)(pen - start) - HEAD_SIZE));
	pen_u64(&pen, XXH3_64bits(start, (size_t)(pen - start)));
	g_byte_array_set_size(out, from + (guint)(pen - start));
}

bool
firn_journal_record_is_header(FirnSpan data)
{
	return data.len >= MAGIC_SIZE && memcmp(data.data, MAGIC, MAGIC_SIZE) == 0;
}

static char *
take_text(Cursor *cursor)
{
	FirnSpan text = take_span(cursor);

	if (!firn_span_is_text(text)) {
		cursor->bad = true;
		text.len = 0;
	}
	return text.len > 0 ? g_strndup((const char *)text.data, text.len) : g_strdup("");
}

static FirnJournalHeader *
take_header(Cursor *cursor, FirnJournalForm *out_form)
{
	g_autoptr(FirnJournalHeader) header = g_new0(FirnJournalHeader, 1);
	uint8_t form = take_u8(cursor);
	uint64_t n;

	header->ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	header->spec_version = take_u8(cursor);
	header->identity = take_u64(cursor);
	header->created_us = take_u64(cursor);
	(void)take_bytes(cursor, &header->base, sizeof header->base);
	(void)take_bytes(cursor, &header->session, sizeof header->session);
	header->repository = take_text(cursor);
	header->branch = take_text(cursor);
	header->fork = take_text(cursor);
	if (header->fork[0] == '\0')
		g_clear_pointer(&header->fork, g_free);
	n = take_varint(cursor);
	for (uint64_t i = 0; i < n && !cursor->bad; i++) {
		FirnAncestor ancestor;

		(void)take_bytes(cursor, &ancestor.session, sizeof ancestor.session);
		ancestor.seq = take_varint(cursor);
		g_array_append_val(header->ancestors, ancestor);
	}
	if (cursor->bad || cursor->at != cursor->end || form > FIRN_JOURNAL_NET)
		return NULL;
	*out_form = (FirnJournalForm)form;
	return g_steal_pointer(&header);
}

FirnJournalHeader *
firn_journal_record_open_header(FirnSpan data, FirnJournalForm *out_form, size_t *out_size,
				GError **error)
{
	Cursor cursor = { data.data, data.data + data.len, false };
	FirnJournalHeader *header = NULL;
	uint32_t version, len;
	uint64_t sum;

	if (data.len < HEAD_SIZE || !firn_journal_record_is_header(data)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "no firn journal starts there");
		return NULL;
	}
	memcpy(&version, data.data + MAGIC_SIZE, sizeof version);
	memcpy(&len, data.data + MAGIC_SIZE + sizeof version, sizeof len);
	version = GUINT32_FROM_LE(version);
	len = GUINT32_FROM_LE(len);
	if (version != FIRN_JOURNAL_VERSION) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			    "journal version %u is not known here: use a newer firn", version);
		return NULL;
	}
	if (len <= FIRN_JOURNAL_MAX_HEADER && data.len - HEAD_SIZE >= (size_t)len + SUM_SIZE) {
		cursor.at = data.data + HEAD_SIZE;
		cursor.end = cursor.at + len;
		memcpy(&sum, cursor.end, sizeof sum);
		if (GUINT64_FROM_LE(sum) == XXH3_64bits(data.data, HEAD_SIZE + (size_t)len))
			header = take_header(&cursor, out_form);
	}
	if (header == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "the section header is damaged");
		return NULL;
	}
	*out_size = HEAD_SIZE + (size_t)len + SUM_SIZE;
	return header;
}
