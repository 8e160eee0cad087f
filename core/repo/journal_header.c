#include "core/base/error.h"
#include "core/repo/journal_bytes.h"
#include "core/repo/journal_record.h"

#include <xxhash.h>

#define MAGIC           "FIRNJ\r\n\x1a"
#define MAGIC_SIZE      8u
#define HEAD_SIZE       16u /* magic, version, length of the header's body */
#define SUM_SIZE        8u
#define LEN_SIZE        4u
#define FIXED_PARTS_MAX 256u

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
		      header->ancestors->len * (sizeof(FirnId12) + FIRN_VARINT_MAX);
	guint from = out->len;
	uint8_t *start, *pen, *len_at;

	g_assert(most <= FIRN_JOURNAL_MAX_HEADER);
	g_byte_array_set_size(out, from + (guint)most);
	start = pen = out->data + from;
	firn_pen_bytes(&pen, MAGIC, MAGIC_SIZE);
	firn_pen_u32(&pen, FIRN_JOURNAL_VERSION);
	len_at = pen;
	pen += LEN_SIZE;
	*pen++ = (uint8_t)form;
	*pen++ = header->spec_version;
	firn_pen_u64(&pen, header->identity);
	firn_pen_u64(&pen, header->created_us);
	firn_pen_bytes(&pen, &header->base, sizeof header->base);
	firn_pen_bytes(&pen, &header->session, sizeof header->session);
	firn_pen_span(&pen, url);
	firn_pen_span(&pen, branch);
	firn_pen_span(&pen, fork);
	firn_pen_varint(&pen, header->ancestors->len);
	for (guint i = 0; i < header->ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(header->ancestors, FirnAncestor, i);

		firn_pen_bytes(&pen, &ancestor->session, sizeof ancestor->session);
		firn_pen_varint(&pen, ancestor->seq);
	}
	firn_pen_u32(&len_at, (uint32_t)((size_t)(pen - start) - HEAD_SIZE));
	firn_pen_u64(&pen, XXH3_64bits(start, (size_t)(pen - start)));
	g_byte_array_set_size(out, from + (guint)(pen - start));
}

bool
firn_journal_record_is_header(FirnSpan data)
{
	return data.len >= MAGIC_SIZE && memcmp(data.data, MAGIC, MAGIC_SIZE) == 0;
}

static FirnJournalHeader *
take_header(FirnCursor *cursor, FirnJournalForm *out_form)
{
	g_autoptr(FirnJournalHeader) header = g_new0(FirnJournalHeader, 1);
	uint8_t form = firn_take_u8(cursor);
	uint64_t n;

	header->ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	header->spec_version = firn_take_u8(cursor);
	header->identity = firn_take_u64(cursor);
	header->created_us = firn_take_u64(cursor);
	(void)firn_take_bytes(cursor, &header->base, sizeof header->base);
	(void)firn_take_bytes(cursor, &header->session, sizeof header->session);
	header->repository = firn_take_text(cursor);
	header->branch = firn_take_text(cursor);
	header->fork = firn_take_text(cursor);
	if (header->fork[0] == '\0')
		g_clear_pointer(&header->fork, g_free);
	n = firn_take_varint(cursor);
	for (uint64_t i = 0; i < n && !cursor->bad; i++) {
		FirnAncestor ancestor;

		(void)firn_take_bytes(cursor, &ancestor.session, sizeof ancestor.session);
		ancestor.seq = firn_take_varint(cursor);
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
	FirnCursor cursor = { data.data, data.data + data.len, false };
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
