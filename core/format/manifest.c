#include "core/format/manifest.h"

#include "core/base/error.h"
#include "core/flat/reader.h"
#include "core/format/manifest_private.h"
#include "core/format/payload.h"

#include <string.h>
#include <zstd.h>

static const FirnFlatField ref_fields[] = {
	[FIRN_MANIFEST_REF_INDEX] = FIRN_FLAT_VECTOR_FIELD("index", 4, 4, FIRN_FLAT_REQUIRED),
	[FIRN_MANIFEST_REF_INLINE] = FIRN_FLAT_VECTOR_FIELD("inline", 1, 1, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_OFFSET] = FIRN_FLAT_SCALAR_FIELD("offset", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_LENGTH] = FIRN_FLAT_SCALAR_FIELD("length", 8, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_CHUNK_ID] = FIRN_FLAT_STRUCT_FIELD("chunk_id", 12, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_LOCATION] = FIRN_FLAT_STRING_FIELD("location", FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_ETAG] = FIRN_FLAT_STRING_FIELD("checksum_etag", FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_LAST_MODIFIED] =
		FIRN_FLAT_SCALAR_FIELD("checksum_last_modified", 4, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_REF_COMPRESSED] =
		FIRN_FLAT_VECTOR_FIELD("compressed_location", 1, 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable ref_table = FIRN_FLAT_TABLE("ChunkRef", ref_fields);

static const FirnFlatField array_fields[] = {
	[FIRN_MANIFEST_ARRAY_NODE] = FIRN_FLAT_STRUCT_FIELD("node_id", 8, FIRN_FLAT_REQUIRED),
	[FIRN_MANIFEST_ARRAY_REFS] = FIRN_FLAT_TABLES_FIELD("refs", &ref_table, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable array_table = FIRN_FLAT_TABLE("ArrayManifest", array_fields);

static const FirnFlatField manifest_fields[] = {
	[FIRN_MANIFEST_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_MANIFEST_ARRAYS] = FIRN_FLAT_TABLES_FIELD("arrays", &array_table, FIRN_FLAT_REQUIRED),
	[FIRN_MANIFEST_DICTIONARY] =
		FIRN_FLAT_VECTOR_FIELD("location_dictionary", 1, 1, FIRN_FLAT_OPTIONAL),
	[FIRN_MANIFEST_ALGORITHM] =
		FIRN_FLAT_SCALAR_FIELD("compression_algorithm", 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable manifest_table = FIRN_FLAT_TABLE("Manifest", manifest_fields);

/* Decompresses locations.  Contexts are large: one, taken in turns, is enough. */
struct FirnManifestLocator {
	ZSTD_DDict *dictionary; /* immutable */
	pthread_mutex_t lock;   /* protects all below */
	ZSTD_DCtx *context;
};

static bool
bad(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "damaged manifest: %s", what);
	return false;
}

/* ---- refs ---- */

static size_t
ref_table_at(const FirnRefs *refs, uint32_t i)
{
	return firn_flat_item(refs->manifest->b, refs->position, i);
}

const uint32_t *
firn_refs_coords(const FirnRefs *refs, uint32_t i)
{
	FirnSpan b = refs->manifest->b;
	size_t index = firn_flat_get_child(b, ref_table_at(refs, i), FIRN_MANIFEST_REF_INDEX);

	/* Verified to be 4-aligned in a payload that is 8-aligned. */
	return (const uint32_t *)(const void *)firn_flat_items(b, index);
}

void
firn_refs_get(const FirnRefs *refs, uint32_t i, FirnRef *out_ref)
{
	FirnSpan b = refs->manifest->b;
	size_t table;
	const FirnId12 *id;

	g_assert(i < refs->count);
	table = ref_table_at(refs, i);
	*out_ref = (FirnRef){ .kind = FIRN_REF_NONE };
	out_ref->bytes = firn_flat_get_bytes(b, table, FIRN_MANIFEST_REF_INLINE);
	if (out_ref->bytes.data != NULL) {
		out_ref->kind = FIRN_REF_INLINE;
		out_ref->length = out_ref->bytes.len;
		return;
	}
	out_ref->offset = firn_flat_get_u64(b, table, FIRN_MANIFEST_REF_OFFSET, 0);
	out_ref->length = firn_flat_get_u64(b, table, FIRN_MANIFEST_REF_LENGTH, 0);
	id = firn_flat_get_id12(b, table, FIRN_MANIFEST_REF_CHUNK_ID);
	if (id != NULL) {
		out_ref->kind = FIRN_REF_NATIVE;
		out_ref->id = *id;
		return;
	}
	out_ref->kind = FIRN_REF_VIRTUAL;
	out_ref->location = firn_flat_get_bytes(b, table, FIRN_MANIFEST_REF_LOCATION);
	if (out_ref->location.data == NULL) {
		out_ref->location = firn_flat_get_bytes(b, table, FIRN_MANIFEST_REF_COMPRESSED);
		out_ref->location_compressed = true;
	}
	out_ref->etag = firn_flat_get_bytes(b, table, FIRN_MANIFEST_REF_ETAG);
	out_ref->last_modified = firn_flat_get_u32(b, table, FIRN_MANIFEST_REF_LAST_MODIFIED, 0);
}

uint32_t
firn_refs_lower_bound(const FirnRefs *refs, const uint32_t *coords, uint32_t n)
{
	uint32_t low = 0;
	uint32_t high = refs->count;

	g_assert(n <= refs->rank || refs->count == 0);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (firn_coords_compare(firn_refs_coords(refs, middle), coords, n) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
firn_refs_find(const FirnRefs *refs, const uint32_t *coords, uint32_t *out_index)
{
	uint32_t at = firn_refs_lower_bound(refs, coords, refs->rank);

	if (at == refs->count ||
	    firn_coords_compare(firn_refs_coords(refs, at), coords, refs->rank) != 0)
		return false;
	*out_index = at;
	return true;
}

/* ---- checks beyond the schema ---- */

static bool
check_ref(FirnSpan b, size_t table, GError **error)
{
	FirnSpan location = firn_flat_get_bytes(b, table, FIRN_MANIFEST_REF_LOCATION);
	uint64_t offset, length;
	unsigned kinds = 0;

	kinds += firn_flat_has(b, table, FIRN_MANIFEST_REF_INLINE);
	kinds += firn_flat_has(b, table, FIRN_MANIFEST_REF_CHUNK_ID);
	kinds += firn_flat_has(b, table, FIRN_MANIFEST_REF_COMPRESSED);
	kinds += location.data != NULL;
	if (kinds != 1)
		return bad(error, "a chunk reference is not of exactly one kind");
	offset = firn_flat_get_u64(b, table, FIRN_MANIFEST_REF_OFFSET, 0);
	length = firn_flat_get_u64(b, table, FIRN_MANIFEST_REF_LENGTH, 0);
	if (offset > INT64_MAX || length > INT64_MAX - offset)
		return bad(error, "a chunk reference has an impossible range");
	if (location.data != NULL && memchr(location.data, '\0', location.len) != NULL)
		return bad(error, "a location has a NUL byte");
	return true;
}

static bool
check_refs(FirnSpan b, size_t refs, GError **error)
{
	uint32_t count = firn_flat_count(b, refs);
	const uint32_t *previous = NULL;
	uint32_t rank = 0;

	for (uint32_t i = 0; i < count; i++) {
		size_t table = firn_flat_item(b, refs, i);
		size_t index = firn_flat_get_child(b, table, FIRN_MANIFEST_REF_INDEX);
		const uint32_t *coords = (const uint32_t *)(const void *)firn_flat_items(b, index);

		if (i == 0)
			rank = firn_flat_count(b, index);
		if (rank > FIRN_MAX_RANK || firn_flat_count(b, index) != rank)
			return bad(error,
				   "the chunk references differ in rank, or it is too large");
		if (previous != NULL && firn_coords_compare(previous, coords, rank) >= 0)
			return bad(error, "the chunk references are out of order");
		previous = coords;
		if (!check_ref(b, table, error))
			return false;
	}
	return true;
}

static const FirnId8 *
array_node(const FirnManifest *m, size_t index)
{
	size_t table = firn_flat_item(m->b, m->arrays, (uint32_t)index);

	return firn_flat_get_id8(m->b, table, FIRN_MANIFEST_ARRAY_NODE);
}

static bool
check_arrays(const FirnManifest *m, GError **error)
{
	for (size_t i = 0; i < firn_manifest_n_arrays(m); i++) {
		size_t table = firn_flat_item(m->b, m->arrays, (uint32_t)i);

		if (i > 0 && firn_id8_compare(array_node(m, i - 1), array_node(m, i)) >= 0)
			return bad(error, "the arrays are out of order");
		if (!check_refs(m->b, firn_flat_get_child(m->b, table, FIRN_MANIFEST_ARRAY_REFS),
				error))
			return false;
	}
	return true;
}

/* ---- locations ---- */

/*
 * A dictionary that zstd refuses is no reason to refuse the file: the official
 * reader gets to it only with the first compressed location, and so do we.
 */
static FirnManifestLocator *
locator_new(FirnSpan dictionary)
{
	FirnManifestLocator *l;
	ZSTD_DDict *ddict = ZSTD_createDDict(dictionary.data, dictionary.len);

	if (ddict == NULL)
		return NULL;
	l = g_new0(FirnManifestLocator, 1);
	l->dictionary = ddict;
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

static void
locator_free(FirnManifestLocator *l)
{
	if (l == NULL)
		return;
	ZSTD_freeDDict(l->dictionary);
	ZSTD_freeDCtx(l->context);
	pthread_mutex_destroy(&l->lock);
	g_free(l);
}

static size_t
expand(FirnManifestLocator *l, FirnSpan frame, char out[FIRN_MANIFEST_MAX_LOCATION])
{
	FIRN_LOCK_SCOPE(&l->lock);
	if (l->context == NULL)
		l->context = ZSTD_createDCtx();
	g_assert(l->context != NULL);
	return ZSTD_decompress_usingDDict(l->context, out, FIRN_MANIFEST_MAX_LOCATION, frame.data,
					  frame.len, l->dictionary);
}

char *
firn_manifest_location(const FirnManifest *m, const FirnRef *ref, GError **error)
{
	char text[FIRN_MANIFEST_MAX_LOCATION];
	size_t len;

	g_assert(ref->kind == FIRN_REF_VIRTUAL);
	if (!ref->location_compressed) {
		char *copy = g_try_malloc(ref->location.len + 1);

		if (copy == NULL) {
			bad(error, "a location is too large");
			return NULL;
		}
		memcpy(copy, ref->location.data, ref->location.len);
		copy[ref->location.len] = '\0';
		return copy;
	}
	if (m->locator == NULL) {
		bad(error, "a location is compressed, but there is no usable dictionary");
		return NULL;
	}
	len = expand(m->locator, ref->location, text);
	if (ZSTD_isError(len)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "damaged manifest: a compressed location: %s", ZSTD_getErrorName(len));
		return NULL;
	}
	if (!g_utf8_validate_len(text, len, NULL)) {
		bad(error, "a compressed location is not UTF-8");
		return NULL;
	}
	return g_strndup(text, len);
}

/* ---- the manifest ---- */

/* Of a payload that is verified; takes it. */
static FirnManifest *
view_of(GBytes *payload, GError **error)
{
	g_autoptr(FirnManifest) m = g_new0(FirnManifest, 1);
	FirnSpan dictionary;

	m->refs = 1;
	m->payload = payload;
	m->b = firn_payload_span(payload);
	m->root = firn_flat_root(m->b);
	m->arrays = firn_flat_get_child(m->b, m->root, FIRN_MANIFEST_ARRAYS);
	if (!check_arrays(m, error))
		return NULL;
	dictionary = firn_flat_get_bytes(m->b, m->root, FIRN_MANIFEST_DICTIONARY);
	if (dictionary.len > 0 &&
	    firn_flat_get_u8(m->b, m->root, FIRN_MANIFEST_ALGORITHM,
			     FIRN_MANIFEST_ALGORITHM_ZSTD) == FIRN_MANIFEST_ALGORITHM_ZSTD)
		m->locator = locator_new(dictionary);
	return g_steal_pointer(&m);
}

FirnManifest *
firn_manifest_open(GBytes *file, GError **error)
{
	return firn_manifest_open_in(file, NULL, error);
}

FirnManifest *
firn_manifest_open_in(GBytes *file, const FirnRoom *room, GError **error)
{
	GBytes *payload = firn_payload_open_in(file, FIRN_KIND_MANIFEST, &manifest_table,
					       FIRN_PAYLOAD_MAX_TABLES_MANIFEST, room, NULL, error);

	return payload != NULL ? view_of(payload, error) : NULL;
}

FirnManifest *
firn_manifest_open_payload(GBytes *payload, GError **error)
{
	if (!firn_payload_verify(firn_payload_span(payload), &manifest_table,
				 FIRN_PAYLOAD_MAX_TABLES_MANIFEST, error))
		return NULL;
	return view_of(g_bytes_ref(payload), error);
}

GBytes *
firn_manifest_payload(const FirnManifest *m)
{
	return m->payload;
}

FirnManifest *
firn_manifest_ref(FirnManifest *m)
{
	g_atomic_int_inc(&m->refs);
	return m;
}

void
firn_manifest_unref(FirnManifest *m)
{
	if (m == NULL || !g_atomic_int_dec_and_test(&m->refs))
		return;
	locator_free(m->locator);
	g_bytes_unref(m->payload);
	g_free(m);
}

const FirnId12 *
firn_manifest_id(const FirnManifest *m)
{
	return firn_flat_get_id12(m->b, m->root, FIRN_MANIFEST_ID);
}

size_t
firn_manifest_size(const FirnManifest *m)
{
	size_t size = sizeof *m + m->b.len;

	if (m->locator != NULL)
		size += sizeof *m->locator + ZSTD_sizeof_DDict(m->locator->dictionary);
	return size;
}

size_t
firn_manifest_n_arrays(const FirnManifest *m)
{
	return firn_flat_count(m->b, m->arrays);
}

void
firn_manifest_array(const FirnManifest *m, size_t index, FirnId8 *out_node, FirnRefs *out_refs)
{
	size_t table;

	g_assert(index < firn_manifest_n_arrays(m));
	table = firn_flat_item(m->b, m->arrays, (uint32_t)index);
	*out_refs = (FirnRefs){ .manifest = m };
	out_refs->position = firn_flat_get_child(m->b, table, FIRN_MANIFEST_ARRAY_REFS);
	out_refs->count = firn_flat_count(m->b, out_refs->position);
	if (out_refs->count > 0)
		out_refs->rank =
			firn_flat_count(m->b, firn_flat_get_child(m->b, ref_table_at(out_refs, 0),
								  FIRN_MANIFEST_REF_INDEX));
	if (out_node != NULL)
		*out_node = *array_node(m, index);
}

bool
firn_manifest_find(const FirnManifest *m, const FirnId8 *node, FirnRefs *out_refs)
{
	size_t low = 0;
	size_t high = firn_manifest_n_arrays(m);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = firn_id8_compare(array_node(m, middle), node);

		if (order == 0) {
			firn_manifest_array(m, middle, NULL, out_refs);
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*out_refs = (FirnRefs){ .manifest = m };
	return false;
}
