#include "core/repo/fsck.h"

#include "core/base/error.h"
#include "core/repo/fsck_priv.h"

#include <stdlib.h>
#include <string.h>

/* Whoever has more to read should restore a copy. */
#define MAX_FINDINGS 10000u

static void
finding_free(void *data)
{
	FirnFsckFinding *finding = data;

	g_free(finding->object);
	g_free(finding->path);
	g_free(finding->what);
	g_free(finding->remedy);
	g_free(finding);
}

void
firn_fsck_report_free(FirnFsckReport *report)
{
	if (report == NULL)
		return;
	g_ptr_array_unref(report->findings);
	g_free(report);
}

/* ---- what the parts share ---- */

void
firn_fsck_find(FirnFsck *f, const FirnFsckAbout *about, const char *format, ...)
{
	bool leftover = strcmp(about->kind, "leftover") == 0;
	FirnFsckFinding *finding = g_new0(FirnFsckFinding, 1);
	va_list args;

	va_start(args, format);
	finding->what = g_strdup_vprintf(format, args);
	va_end(args);
	finding->severity = leftover ? FIRN_FSCK_LEFTOVER : FIRN_FSCK_DAMAGE;
	finding->kind = about->kind;
	finding->object = g_strdup(about->object);
	finding->path = g_strdup(about->path);
	finding->remedy = g_strdup(about->remedy);

	FIRN_LOCK_SCOPE(&f->lock);
	f->report->n_damages += !leftover;
	if (f->report->findings->len < MAX_FINDINGS) {
		g_ptr_array_add(f->report->findings, finding);
		return;
	}
	f->report->n_omitted++;
	finding_free(finding);
}

void
firn_fsck_count(FirnFsck *f, uint64_t *counter, uint64_t n)
{
	FIRN_LOCK_SCOPE(&f->lock);

	*counter += n;
}

GBytes *
firn_fsck_fetch(FirnFsck *f, const FirnFsckAbout *about)
{
	g_autoptr(GError) error = NULL;
	FirnFsckAbout wrong = *about;
	GBytes *file = NULL;

	if (!firn_store_get(f->store, about->object, 0, UINT64_MAX, &file, NULL, &error)) {
		wrong.kind = "unreadable";
		firn_fsck_find(f, &wrong, "%s", error->message);
	} else if (file == NULL) {
		wrong.kind = "missing";
		firn_fsck_find(f, &wrong, "the object is missing");
	}
	return file;
}

char *
firn_fsck_label(const FirnFsck *f, const FirnId12 *id)
{
	const char *known = g_hash_table_lookup(f->labels, id);
	char text[FIRN_ID12_TEXT + 1];

	if (known != NULL)
		return g_strdup(known);
	firn_id12_format(id, text);
	return g_strconcat("snapshot ", text, NULL);
}

/* ---- chunk objects ---- */

static bool
add_chunk(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	const char *name = key + strlen("chunks/");
	FirnFsck *f = data;
	FirnFsckChunk chunk = { .size = size };

	(void)mtime_us;
	if (!firn_id12_parse(name, strlen(name), &chunk.id))
		return true;
	g_array_append_val(f->chunks, chunk);
	f->report->n_chunks++;
	if (f->options->progress != NULL && f->chunks->len % 1024 == 0)
		f->options->progress("listing chunks", f->chunks->len, 0, f->options->data);
	return true;
}

static int
compare_chunks(const void *a, const void *b)
{
	return firn_id12_compare(&((const FirnFsckChunk *)a)->id, &((const FirnFsckChunk *)b)->id);
}

static bool
list_chunks(FirnFsck *f, GError **error)
{
	if (!f->options->deep)
		return true;
	f->chunks = g_array_new(FALSE, FALSE, sizeof(FirnFsckChunk));
	if (!firn_store_list(f->store, "chunks/", add_chunk, f, error))
		return false;
	if (f->chunks->len > 1)
		qsort(f->chunks->data, f->chunks->len, sizeof(FirnFsckChunk), compare_chunks);
	return true;
}

/* ---- the whole ---- */

static int
compare_findings(const void *a, const void *b)
{
	const FirnFsckFinding *x = *(FirnFsckFinding *const *)a;
	const FirnFsckFinding *y = *(FirnFsckFinding *const *)b;
	int order = strcmp(x->object, y->object);

	if (order == 0)
		order = g_strcmp0(x->path, y->path);
	return order != 0 ? order : strcmp(x->what, y->what);
}

/* Several snapshots may have found the same. */
static void
put_in_order(FirnFsckReport *report)
{
	GPtrArray *list = report->findings;

	g_ptr_array_sort(list, compare_findings);
	for (guint i = list->len; i-- > 1;) {
		FirnFsckFinding *finding = list->pdata[i];

		if (compare_findings(&list->pdata[i - 1], &list->pdata[i]) != 0)
			continue;
		report->n_damages -= finding->severity == FIRN_FSCK_DAMAGE;
		g_ptr_array_remove_index(list, i);
	}
}

static void
use_free(void *data)
{
	FirnFsckUse *use = data;

	g_free(use->path);
	g_free(use->grid);
	g_free(use->extents);
	g_free(use);
}

static guint
hash_key(gconstpointer key)
{
	return firn_id12_hash(key) ^ firn_id8_hash((const uint8_t *)key + sizeof(FirnId12));
}

static gboolean
equal_keys(gconstpointer a, gconstpointer b)
{
	return memcmp(a, b, sizeof(FirnId12) + sizeof(FirnId8)) == 0;
}

static void
init(FirnFsck *f)
{
	pthread_mutex_init(&f->lock, NULL);
	f->labels = g_hash_table_new_full(firn_id12_hash, firn_id12_equal, g_free, g_free);
	f->manifests = g_hash_table_new(firn_id12_hash, firn_id12_equal);
	f->manifest_list = g_ptr_array_new();
	f->uses = g_hash_table_new_full(hash_key, equal_keys, g_free, use_free);
	f->report = g_new0(FirnFsckReport, 1);
	f->report->findings = g_ptr_array_new_with_free_func(finding_free);
}

static void
clear(FirnFsck *f)
{
	for (guint i = 0; i < f->manifest_list->len; i++)
		firn_fsck_manifest_free(f->manifest_list->pdata[i]);
	g_ptr_array_unref(f->manifest_list);
	g_hash_table_unref(f->manifests);
	g_hash_table_unref(f->uses);
	g_hash_table_unref(f->labels);
	if (f->chunks != NULL)
		g_array_unref(f->chunks);
	firn_config_free(f->config);
	firn_repo_info_free(f->info);
	firn_store_free(f->store);
	firn_fsck_report_free(f->report);
	pthread_mutex_destroy(&f->lock);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FirnFsck, clear)

FirnFsckReport *
firn_fsck(const char *url, const FirnFsckOptions *options, GError **error)
{
	FirnStore *store = firn_store_open(url, false, error);
	g_auto(FirnFsck) f = { .store = store, .options = options };

	/* Also what the cleanup needs. */
	init(&f);
	if (store == NULL)
		return NULL;
	if (firn_fsck_read_info(&f, error)) {
		if (!list_chunks(&f, error))
			return NULL;
		firn_fsck_walk(&f);
		firn_fsck_manifests(&f);
	} else if (error != NULL && *error != NULL) {
		return NULL;
	}
	firn_fsck_leftovers(&f);
	put_in_order(f.report);
	return g_steal_pointer(&f.report);
}
