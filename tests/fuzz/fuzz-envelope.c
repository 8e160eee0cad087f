/* A whole file, header included. */
#include "tests/unit/walk.h"

#define LIMIT ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autoptr(GBytes) file = g_bytes_new(data, size);
	g_autoptr(GBytes) payload = NULL;
	g_autoptr(GBytes) sealed = NULL;
	g_autoptr(GBytes) again = NULL;
	g_autoptr(GError) error = NULL;
	FirnEnvelope envelope = { 0, (FirnKind)0 };
	FirnEnvelope envelope_again = { 0, (FirnKind)0 };
	FirnSpan span;

	payload = firn_envelope_open(file, LIMIT, &envelope, &error);
	walk_error(payload, error);
	if (payload == NULL) {
		g_assert(envelope.spec_version == 0);
		return 0;
	}
	span.data = g_bytes_get_data(payload, &span.len);
	g_assert(span.len <= LIMIT);
	sealed = firn_envelope_seal(&envelope, span, 1);
	again = firn_envelope_open(sealed, LIMIT, &envelope_again, NULL);
	g_assert(again != NULL && g_bytes_equal(payload, again));
	g_assert(envelope.kind == envelope_again.kind &&
		 envelope.spec_version == envelope_again.spec_version);
	return 0;
}
