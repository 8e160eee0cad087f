#include "core/base/keep_priv.h"

#include <string.h>

void
firn_kept_free(FirnKept *kept)
{
	if (kept == NULL)
		return;
	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++)
		g_hash_table_unref(kept->kinds[kind]);
	g_free(kept);
}

bool
firn_keep_next(FirnSpan log, size_t *at, FirnKeepRecord *out_record, bool *out_bad)
{
	size_t left = log.len - *at;

	*out_bad = false;
	if (left == 0)
		return false;
	*out_bad = true;
	if (left < sizeof *out_record)
		return false;
	memcpy(out_record, log.data + *at, sizeof *out_record);
	if (out_record->kind >= FIRN_KEEP_KINDS || out_record->what > FIRN_KEEP_DROP_ALL ||
	    out_record->len > left - sizeof *out_record)
		return false;
	*at += sizeof *out_record + out_record->len;
	*out_bad = false;
	return true;
}

static bool
apply(FirnKept *kept, GBytes *log)
{
	FirnKeepRecord record;
	FirnSpan all;
	size_t at = 0;
	bool bad;

	all.data = g_bytes_get_data(log, &all.len);
	while (firn_keep_next(all, &at, &record, &bad)) {
		GHashTable *kind = kept->kinds[record.kind];

		if (record.what == FIRN_KEEP_PUT)
			g_hash_table_replace(kind, g_memdup2(&record.key, sizeof record.key),
					     g_bytes_new_from_bytes(log, at - record.len,
								    record.len));
		else if (record.what == FIRN_KEEP_DROP)
			g_hash_table_remove(kind, &record.key);
		else
			g_hash_table_remove_all(kind);
	}
	return !bad;
}

FirnKept *
firn_keep_read(FirnKeep *keep, GError **error)
{
	uint32_t current = keep->head->current;
	uint64_t start = keep->head->log[current & 1].start;
	uint64_t end = keep->head->log[current & 1].end;
	size_t len = end > start ? (size_t)(end - start) : 0;
	g_autofree uint8_t *data = g_try_malloc(len);
	g_autoptr(FirnKept) kept = g_new0(FirnKept, 1);
	g_autoptr(GBytes) log = NULL;

	for (unsigned kind = 0; kind < FIRN_KEEP_KINDS; kind++)
		kept->kinds[kind] = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
							  (GDestroyNotify)g_bytes_unref);
	if (len > 0 && (data == NULL || !firn_keep_read_at(keep, data, len, start))) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "what was kept cannot be read");
		return NULL;
	}
	log = g_bytes_new_take(g_steal_pointer(&data), len);
	if (keep->head->broken || !apply(kept, log)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "what was kept is incomplete");
		return NULL;
	}
	return g_steal_pointer(&kept);
}

GBytes *
firn_kept_find(const FirnKept *kept, unsigned kind, uint64_t key)
{
	return g_hash_table_lookup(kept->kinds[kind], &key);
}

/* ---- what is in a record ---- */

void
firn_keep_add(GByteArray *out, uint64_t number)
{
	g_byte_array_append(out, (const guint8 *)&number, sizeof number);
}

void
firn_keep_add_bytes(GByteArray *out, const void *data, size_t len)
{
	firn_keep_add(out, len);
	if (len > 0)
		g_byte_array_append(out, data, (guint)len);
}

void
firn_keep_add_text(GByteArray *out, const char *text)
{
	firn_keep_add_bytes(out, text, text != NULL ? strlen(text) : 0);
}

FirnKeepReader
firn_keep_reader(GBytes *record)
{
	FirnKeepReader reader = { .bad = false };

	if (record != NULL)
		reader.rest.data = g_bytes_get_data(record, &reader.rest.len);
	return reader;
}

static FirnSpan
take(FirnKeepReader *reader, uint64_t len)
{
	FirnSpan span = { reader->rest.data, (size_t)len };

	if (reader->bad || len > reader->rest.len) {
		reader->bad = true;
		return (FirnSpan){ NULL, 0 };
	}
	reader->rest.data += len;
	reader->rest.len -= (size_t)len;
	return span;
}

uint64_t
firn_keep_take(FirnKeepReader *reader)
{
	FirnSpan span = take(reader, sizeof(uint64_t));
	uint64_t number = 0;

	if (span.len > 0)
		memcpy(&number, span.data, sizeof number);
	return number;
}

FirnSpan
firn_keep_take_bytes(FirnKeepReader *reader)
{
	return take(reader, firn_keep_take(reader));
}

char *
firn_keep_take_text(FirnKeepReader *reader)
{
	FirnSpan span = firn_keep_take_bytes(reader);

	return g_strndup(span.len > 0 ? (const char *)span.data : "", span.len);
}

void
firn_keep_take_fixed(FirnKeepReader *reader, void *out, size_t len)
{
	FirnSpan span = firn_keep_take_bytes(reader);

	if (span.len == len && span.data != NULL) {
		memcpy(out, span.data, len);
		return;
	}
	reader->bad = true;
	memset(out, 0, len);
}
