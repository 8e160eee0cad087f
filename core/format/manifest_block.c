#include "core/flat/reader.h"
#include "core/format/manifest_private.h"

#include <string.h>

/* Of a block, as much may be unused; then it is time to write it anew. */
#define MAX_UNUSED 8u /* an eighth */

/* What is found out about the rows of a block. */
typedef struct {
	FirnManifestBlock *block;
	FirnSpan b;
	size_t end;  /* of the vector of offsets: all of the rows lies behind it */
	size_t used; /* bytes that refs have */
	size_t strings[FIRN_MANIFEST_REF_N_FIELDS]; /* of the ref before: files come in runs */
	uint32_t n_plain;                           /* locations */
	bool compressed;                            /* some location is */
} Survey;

static void
see_bytes(Survey *s, size_t table, unsigned field)
{
	size_t at = firn_flat_get_child(s->b, table, field);

	if (at == 0)
		return;
	s->n_plain += field == FIRN_MANIFEST_REF_LOCATION;
	s->compressed = s->compressed || field == FIRN_MANIFEST_REF_COMPRESSED;
	if (at == s->strings[field])
		return;
	s->strings[field] = at;
	s->used += 4 + firn_flat_count(s->b, at);
}

static void
see_coords(Survey *s, size_t table)
{
	size_t vector = firn_flat_get_child(s->b, table, FIRN_MANIFEST_REF_INDEX);
	const uint32_t *coords = (const uint32_t *)(const void *)firn_flat_items(s->b, vector);
	uint32_t rank = s->block->refs.rank;

	for (uint32_t i = 0; i < rank; i++) {
		s->block->least[i] = MIN(s->block->least[i], coords[i]);
		s->block->most[i] = MAX(s->block->most[i], coords[i]);
	}
	s->used += 4 + 4 * (size_t)rank;
}

/* False if some of the row lies before the block; what a table refers to lies behind it. */
static bool
see_row(Survey *s, size_t table)
{
	size_t vtable = firn_flat_vtable(s->b, table);
	unsigned size;

	if (table < s->end || vtable < s->end)
		return false;
	size = firn_flat_load16(s->b.data + vtable);
	s->used += firn_flat_load16(s->b.data + vtable + 2);
	/* Its own, or the first row's of those that share it. */
	if (vtable < table && table - vtable <= size + 8u)
		s->used += size;
	see_coords(s, table);
	see_bytes(s, table, FIRN_MANIFEST_REF_INLINE);
	see_bytes(s, table, FIRN_MANIFEST_REF_LOCATION);
	see_bytes(s, table, FIRN_MANIFEST_REF_ETAG);
	see_bytes(s, table, FIRN_MANIFEST_REF_COMPRESSED);
	return true;
}

/* Whether locations are as they would be if all was written anew. */
static bool
locations_are_good(const Survey *s, const FirnManifest *m)
{
	FirnSpan dictionary = firn_flat_get_bytes(m->b, m->root, FIRN_MANIFEST_DICTIONARY);

	if (dictionary.len == 0)
		return !s->compressed && s->n_plain < FIRN_MANIFEST_COMPRESS_FROM;
	return m->locator != NULL && dictionary.len <= FIRN_MANIFEST_MAX_KEPT_DICTIONARY;
}

bool
firn_manifest_block(const FirnRefs *refs, FirnManifestBlock *out_block)
{
	const FirnManifest *m = refs->manifest;
	Survey s = { .block = out_block, .b = m->b };
	size_t size;

	if (refs->count == 0 || firn_manifest_n_arrays(m) != 1)
		return false;
	out_block->refs = *refs;
	s.end = refs->position + 4 + 4 * (size_t)refs->count;
	out_block->begin = s.end / 8 * 8;
	memset(out_block->least, 0xff, sizeof out_block->least);
	memset(out_block->most, 0, sizeof out_block->most);
	for (uint32_t i = 0; i < refs->count; i++)
		if (!see_row(&s, firn_flat_item(m->b, refs->position, i)))
			return false;
	/* Rows that share more than their neighbours' strings are none of ours. */
	size = m->b.len - out_block->begin;
	return s.used <= size && size - s.used <= size / MAX_UNUSED && locations_are_good(&s, m);
}
