#include "core/repo/journal_fold.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 16u
#define SUM  8u
#define LEN  4u

static uint32_t
length_at(const uint8_t *data)
{
	uint32_t len;

	memcpy(&len, data, sizeof len);
	return GUINT32_FROM_LE(len);
}

static void
put_sum(uint8_t *at, uint64_t sum)
{
	sum = GUINT64_TO_LE(sum);
	memcpy(at, &sum, sizeof sum);
}

/* Make the checksums right, else no mutation gets past them.  Every second input stays as it is. */
static void
repair(uint8_t *data, size_t size)
{
	FirnJournalHeader *header = NULL;
	FirnJournalForm form;
	uint64_t seed = 0;
	size_t at = 0, used;

	while (size - at >= HEAD + SUM) {
		FirnSpan rest = { data + at, size - at };
		bool is_header = firn_journal_record_is_header(rest);
		size_t len = length_at(data + at + (is_header ? HEAD - LEN : 0)) +
			     (is_header ? HEAD : LEN);

		if (len > rest.len - SUM)
			return;
		put_sum(data + at + len, is_header ? XXH3_64bits(data + at, len)
						   : XXH3_64bits_withSeed(data + at, len, seed));
		at += len + SUM;
		if (!is_header)
			continue;
		header = firn_journal_record_open_header(rest, &form, &used, NULL);
		if (header == NULL)
			return;
		seed = firn_journal_record_seed(&header->session);
		firn_journal_header_free(header);
	}
}

static GBytes *
encode(GPtrArray *sections)
{
	GByteArray *out = g_byte_array_new();

	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = sections->pdata[i];

		firn_journal_encode(section->header, section->changes, section->last_seq, out);
	}
	return g_byte_array_free_to_bytes(out);
}

/* Read from a file, with the chunks left there: the same, or not at all. */
static void
check_folded(GBytes *bytes, GPtrArray *sections, GBytes *wanted)
{
	static int file = -1;
	g_autoptr(GPtrArray) folded = NULL;
	g_autoptr(GBytes) got = NULL;
	gsize len;
	const void *data = g_bytes_get_data(bytes, &len);

	if (file < 0)
		file = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(file, 0) != 0 || pwrite(file, data, len, 0) != (ssize_t)len)
		abort();
	folded = firn_journal_decode_folded(dup(file), "folded");
	if (folded == NULL)
		return;
	if (sections == NULL || folded->len != sections->len)
		abort();
	got = encode(folded);
	for (guint i = 0; i < folded->len; i++)
		if (!firn_changes_check(((FirnSection *)folded->pdata[i])->changes, NULL))
			abort();
	if (!g_bytes_equal(got, wanted))
		abort();
}

/* What can be read can be written in net form, and is then read as the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree uint8_t *copy = g_memdup2(data, size);
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GBytes) first = NULL;
	g_autoptr(GBytes) second = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(GPtrArray) again = NULL;
	g_autoptr(GError) error = NULL;
	uint64_t torn = 0;

	if (size > 0 && data[size - 1] % 2 == 0)
		repair(copy, size);
	bytes = g_bytes_new(copy, size);
	sections = firn_journal_decode(bytes, "fuzz", &torn, &error);
	if ((sections == NULL) != (error != NULL) || torn > size)
		abort();
	if (sections == NULL) {
		check_folded(bytes, NULL, NULL);
		return 0;
	}
	first = encode(sections);
	check_folded(bytes, sections, first);
	again = firn_journal_decode(first, "again", &torn, &error);
	if (again == NULL || torn != 0 || again->len != sections->len)
		abort();
	for (guint i = 0; i < again->len; i++)
		if (!((FirnSection *)again->pdata[i])->sealed)
			abort();
	second = encode(again);
	if (!g_bytes_equal(first, second))
		abort();
	check_folded(first, sections, first);
	return 0;
}
