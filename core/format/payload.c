#include "core/format/payload.h"

#include "core/base/error.h"
#include "core/flat/build.h"

#include <string.h>

/* Also bounds the time: shared strings and tables count each time they are met. */
#define MAX_APPARENT_BYTES ((uint64_t)1 << 32)
#define MAX_DEPTH          64u

static const FirnFlatField metadata_item_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	FIRN_FLAT_VECTOR_FIELD("value", 1, 1, FIRN_FLAT_REQUIRED),
};
const FirnFlatTable firn_payload_metadata_item =
	FIRN_FLAT_TABLE("MetadataItem", metadata_item_fields);

FirnSpan
firn_payload_span(GBytes *bytes)
{
	gsize len;
	const uint8_t *data = g_bytes_get_data(bytes, &len);

	return (FirnSpan){ data, len };
}

int
firn_payload_compare(FirnSpan a, FirnSpan b)
{
	size_t common = MIN(a.len, b.len);
	int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

	if (order != 0)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

static const char *
kind_name(FirnKind kind)
{
	switch (kind) {
	case FIRN_KIND_SNAPSHOT:
		return "snapshot";
	case FIRN_KIND_MANIFEST:
		return "manifest";
	case FIRN_KIND_TXLOG:
		return "transaction log";
	case FIRN_KIND_REPO_INFO:
		return "repo info";
	}
	return "unknown file";
}

/* An uncompressed payload lies behind the odd-sized header of its file. */
static GBytes *
align(GBytes *payload, GError **error)
{
	FirnSpan span = firn_payload_span(payload);
	uint8_t *copy;

	if ((uintptr_t)span.data % 8 == 0)
		return g_bytes_ref(payload);
	copy = g_try_malloc(MAX(span.len, 1u));
	if (copy == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "no memory for %zu bytes",
			    span.len);
		return NULL;
	}
	memcpy(copy, span.data, span.len);
	return g_bytes_new_take(copy, span.len);
}

bool
firn_payload_verify(FirnSpan payload, const FirnFlatTable *root, uint64_t max_tables,
		    GError **error)
{
	FirnFlatLimits limits = { .max_depth = MAX_DEPTH,
				  .max_tables = max_tables,
				  .max_bytes = MAX_APPARENT_BYTES };

	return firn_flat_verify(payload, root, &limits, error);
}

GBytes *
firn_payload_open(GBytes *file, FirnKind kind, const FirnFlatTable *root, uint64_t max_tables,
		  uint8_t *out_spec_version, GError **error)
{
	return firn_payload_open_in(file, kind, root, max_tables, NULL, out_spec_version, error);
}

GBytes *
firn_payload_open_in(GBytes *file, FirnKind kind, const FirnFlatTable *root, uint64_t max_tables,
		     const FirnRoom *room, uint8_t *out_spec_version, GError **error)
{
	g_autoptr(GBytes) opened = NULL;
	g_autoptr(GBytes) payload = NULL;
	FirnEnvelope envelope;

	opened = firn_envelope_open_in(file, FIRN_FLAT_MAX_SIZE, room, &envelope, error);
	if (opened == NULL)
		return NULL;
	if (envelope.kind != kind) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the file is a %s where a %s was expected", kind_name(envelope.kind),
			    kind_name(kind));
		return NULL;
	}
	payload = align(opened, error);
	if (payload == NULL ||
	    !firn_payload_verify(firn_payload_span(payload), root, max_tables, error))
		return NULL;
	if (out_spec_version != NULL)
		*out_spec_version = envelope.spec_version;
	return g_steal_pointer(&payload);
}
