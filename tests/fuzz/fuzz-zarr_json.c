#include "core/base/json_check.h"
#include "core/zarr/meta.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_stripped(GBytes *raw, bool was_meta)
{
	g_autoptr(GBytes) out = firn_meta_strip_consolidated(raw);
	gsize len;
	const uint8_t *text = g_bytes_get_data(out, &len);
	size_t from;
	size_t to;
	g_autoptr(FirnMeta) again = NULL;

	if (firn_json_check((FirnSpan){ text, len }, 128, NULL) != NULL)
		abort();
	if (firn_json_find_member((FirnSpan){ text, len }, "consolidated_metadata", &from, &to))
		abort();
	again = firn_meta_parse(out, NULL);
	if ((again != NULL) != was_meta || (again != NULL && again->has_consolidated))
		abort();
}

/* Edges of a rectilinear grid may lie beyond the shape: then its chunks outnumber the elements. */
static bool
has_edges(const FirnMeta *meta)
{
	gsize len;
	const char *text = g_bytes_get_data(meta->raw, &len);

	return memchr(text, '\\', len) != NULL || g_strstr_len(text, (gssize)len, "chunk_shapes");
}

/* The grid is where chunks may be, and nowhere else. */
static void
check_grid(const FirnMeta *meta)
{
	uint32_t coords[FIRN_MAX_RANK];
	bool empty = false;

	if (meta->rank > FIRN_MAX_RANK)
		abort();
	for (uint32_t axis = 0; axis < meta->rank; axis++) {
		empty = empty || meta->n_chunks[axis] == 0;
		coords[axis] = meta->n_chunks[axis] > 0 ? meta->n_chunks[axis] - 1 : 0;
		if (meta->n_chunks[axis] > meta->lengths[axis] && meta->lengths[axis] != 0 &&
		    !has_edges(meta))
			abort();
	}
	if (firn_meta_contains(meta, coords, meta->rank) == empty)
		abort();
	for (uint32_t axis = 0; axis < meta->rank; axis++) {
		coords[axis]++;
		if (firn_meta_contains(meta, coords, meta->rank))
			abort();
		coords[axis]--;
	}
	if (firn_meta_contains(meta, coords, meta->rank + 1))
		abort();
}

/* What the document says does not depend on how it is spaced, or on what is stripped. */
static void
check_again(const FirnMeta *meta)
{
	gsize len;
	const uint8_t *text = g_bytes_get_data(meta->raw, &len);
	g_autoptr(GByteArray) spaced = g_byte_array_new();
	g_autoptr(GBytes) raw = NULL;
	g_autoptr(GBytes) stripped = firn_meta_strip_consolidated(meta->raw);
	g_autoptr(FirnMeta) again = NULL;
	g_autoptr(FirnMeta) short_one = firn_meta_parse(stripped, NULL);

	g_byte_array_append(spaced, (const uint8_t *)"\n\t ", 3);
	g_byte_array_append(spaced, text, (guint)len);
	g_byte_array_append(spaced, (const uint8_t *)" \r", 2);
	raw = g_bytes_new_static(spaced->data, spaced->len);
	again = firn_meta_parse(raw, NULL);
	if (again == NULL || short_one == NULL || !firn_meta_equal(meta, meta))
		abort();
	if (again->kind != meta->kind || again->rank != meta->rank ||
	    !firn_meta_same_geometry(again, meta) || !firn_meta_same_geometry(meta, short_one))
		abort();
	for (uint32_t axis = 0; axis < meta->rank; axis++)
		if (again->lengths[axis] != meta->lengths[axis] ||
		    again->n_chunks[axis] != meta->n_chunks[axis] ||
		    short_one->n_chunks[axis] != meta->n_chunks[axis])
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GBytes) raw = g_bytes_new(data, size);
	g_autoptr(FirnMeta) meta = firn_meta_parse(raw, NULL);
	gsize len;
	const uint8_t *text = g_bytes_get_data(raw, &len);
	bool valid = firn_json_check((FirnSpan){ text, len }, 128, NULL) == NULL;

	if (meta != NULL && !valid)
		abort();
	if (meta != NULL && (meta->kind == FIRN_NODE_GROUP) != (meta->lengths == NULL))
		abort();
	if (valid)
		check_stripped(raw, meta != NULL);
	if (meta != NULL && meta->kind == FIRN_NODE_ARRAY)
		check_grid(meta);
	if (meta != NULL)
		check_again(meta);
	return 0;
}
