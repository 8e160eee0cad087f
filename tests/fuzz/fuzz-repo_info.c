#include "core/base/error.h"
#include "core/format/envelope.h"
#include "core/format/repo_info.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_same(const FirnRepoInfo *a, const FirnRepoInfo *b)
{
	if (a->snapshots->len != b->snapshots->len || a->branches->len != b->branches->len ||
	    a->tags->len != b->tags->len || a->updates->len != b->updates->len ||
	    a->status_set_at != b->status_set_at || (a->config == NULL) != (b->config == NULL))
		abort();
	for (guint i = 0; i < a->branches->len; i++) {
		const FirnRefInfo *x = a->branches->pdata[i];
		const FirnRefInfo *y = b->branches->pdata[i];

		if (strcmp(x->name, y->name) != 0 || !firn_id12_equal(&x->snapshot, &y->snapshot))
			abort();
	}
	for (guint i = 0; i < a->snapshots->len; i++) {
		const FirnSnapshotInfo *x = a->snapshots->pdata[i];
		const FirnSnapshotInfo *y = b->snapshots->pdata[i];

		if (x->has_parent != y->has_parent || !firn_id12_equal(&x->parent, &y->parent) ||
		    strcmp(x->message, y->message) != 0)
			abort();
	}
}

/* The input is a payload: what compression hides, a fuzzer does not find. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const FirnEnvelope envelope = { 2, FIRN_KIND_REPO_INFO };
	g_autoptr(GBytes) file = firn_envelope_seal(&envelope, (FirnSpan){ data, size }, 1);
	g_autoptr(FirnRepoInfo) info = firn_repo_info_decode(file, NULL);
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) again = NULL;
	g_autoptr(FirnRepoInfo) back = NULL;

	if (info == NULL)
		return 0;
	again = firn_repo_info_encode(info, 1, &error);
	/* Unknown data may be too much to carry, nothing else may fail. */
	if (again == NULL && !g_error_matches(error, FIRN_ERROR, FIRN_ERROR_LIMIT))
		abort();
	if (again == NULL)
		return 0;
	back = firn_repo_info_decode(again, NULL);
	if (back == NULL)
		abort();
	check_same(info, back);
	return 0;
}
