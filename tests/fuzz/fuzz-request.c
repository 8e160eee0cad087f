#include "core/base/error.h"
#include "core/base/json_check.h"
#include "core/repo/request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_members(JsonObject *request)
{
	g_autoptr(GError) error = NULL;
	char text[FIRN_ID12_TEXT + 1];
	int64_t wait = firn_request_number(request, "wait_ms", 0, G_MAXINT, -1);
	FirnId12 id, again;

	if (wait < -1 || wait > G_MAXINT)
		abort();
	(void)firn_request_flag(request, "discard");
	if (!firn_request_id(request, "snapshot", &id, &error))
		return;
	firn_id12_format(&id, text);
	if (error != NULL || !firn_id12_parse(text, strlen(text), &again) ||
	    !firn_id12_equal(&id, &again))
		abort();
}

/* What is taken is strict JSON with an op; what is refused says why, in text that is UTF-8. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *op = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonObject) request = firn_request_parse((FirnSpan){ data, size }, &op, &error);

	if ((request == NULL) != (error != NULL) || (request == NULL) != (op == NULL))
		abort();
	if (request == NULL) {
		if (!g_error_matches(error, FIRN_ERROR, FIRN_ERROR_INVALID))
			abort();
		return 0;
	}
	if (size > FIRN_REQUEST_LIMIT ||
	    firn_json_check((FirnSpan){ data, size }, 16, NULL) != NULL)
		abort();
	if (!g_utf8_validate(op, -1, NULL))
		abort();
	check_members(request);
	return 0;
}
