#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/repo/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line a case: module/case size value unit. */
#define N_WORKERS 16u
#define N_CHUNKS  100000u

static double
seconds_since(int64_t from)
{
	return (double)(firn_clock_now_ns() - from) / 1e9;
}

static void
check(const GError *error)
{
	if (error == NULL)
		return;
	fprintf(stderr, "%s\n", error->message);
	exit(1);
}

static FirnMeta *
array_meta(uint32_t rows, uint32_t columns)
{
	g_autofree char *text = g_strdup_printf(
		"{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[%u,%u],\"data_type\":"
		"\"uint8\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":"
		"[1,1]}},\"chunk_key_encoding\":{\"name\":\"default\"},\"fill_value\":0,"
		"\"codecs\":[{\"name\":\"bytes\"}]}",
		rows, columns);
	g_autoptr(GBytes) raw = g_bytes_new(text, strlen(text));
	g_autoptr(GError) error = NULL;
	FirnMeta *meta = firn_meta_parse(raw, &error);

	check(error);
	return meta;
}

static FirnId12
tip_of(FirnRepo *repo)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(repo, &error);

	check(error);
	return firn_repo_info_find_branch(info, "main")->snapshot;
}

static void
commit(FirnRepo *repo, const FirnChanges *changes, const char *name)
{
	FirnCommitOptions options = { .branch = "main", .message = name, .base = tip_of(repo) };
	g_autoptr(GError) error = NULL;
	FirnCommitResult result;
	int64_t from = firn_clock_now_ns();

	(void)!firn_commit(repo, changes, &options, &result, NULL, &error);
	check(error);
	printf("commit/%s %" G_GUINT64_FORMAT " %.3f s\n", name, result.n_chunks,
	       seconds_since(from));
}

/* Worker `w` writes every N_WORKERSth row (`apart`: a run of rows) of virtual chunks. */
static FirnSource *
work(FirnRepo *repo, const FirnId8 *id, uint32_t w, bool apart)
{
	FirnSection *section = g_new0(FirnSection, 1);
	GPtrArray *sections = g_ptr_array_new();
	FirnJournalHeader *header = g_new0(FirnJournalHeader, 1);
	g_autofree char *name = g_strdup_printf("w%u", w);

	header->identity = firn_repo_identity(repo);
	header->branch = g_strdup("main");
	header->base = tip_of(repo);
	header->session.bytes[0] = (uint8_t)w;
	header->ancestors = g_array_new(FALSE, FALSE, sizeof(FirnAncestor));
	section->header = header;
	section->changes = firn_changes_new();
	for (uint32_t i = 0; i < N_CHUNKS; i++) {
		uint32_t row = i / 1000;
		uint32_t coords[2] = { apart ? w * 100 + row : row * N_WORKERS + w, i % 1000 };
		char url[64];
		FirnRef ref = { .kind = FIRN_REF_VIRTUAL, .length = 1000, .offset = i * 1000ull };

		g_snprintf(url, sizeof url, "s3://bucket/data/file-%05u.nc", coords[0]);
		ref.location = (FirnSpan){ (const uint8_t *)url, strlen(url) };
		(void)firn_changes_put_chunk(section->changes, id, "/a", 2, coords, &ref,
					     ++section->last_seq);
	}
	g_ptr_array_add(sections, section);
	return firn_source_new(name, sections);
}

static FirnMerge *
merge(FirnRepo *repo, const FirnId8 *id, bool apart)
{
	g_autoptr(GPtrArray) sources = g_ptr_array_new();
	g_autoptr(GError) error = NULL;
	FirnMerge *merged;
	int64_t from;

	for (uint32_t w = 0; w < N_WORKERS; w++)
		g_ptr_array_add(sources, work(repo, id, w, apart));
	from = firn_clock_now_ns();
	merged = firn_merge_sources(repo, sources, FIRN_FAVOR_NONE, &error);
	check(error);
	printf("merge/%s %u %.3f s\n", apart ? "apart" : "interleaved", N_WORKERS * N_CHUNKS,
	       seconds_since(from));
	return merged;
}

int
main(void)
{
	const FirnId8 id = { { 1 } };
	g_autofree char *directory = g_dir_make_tmp("firn-bench-XXXXXX", NULL);
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(FirnChanges) first = firn_changes_new();
	g_autoptr(FirnMerge) merged = NULL;
	g_autoptr(FirnMeta) meta = array_meta(N_WORKERS * 100, 1000);
	g_autoptr(GError) error = NULL;

	(void)!firn_repo_create(directory, &error);
	check(error);
	repo = firn_repo_open(directory, &error);
	check(error);
	(void)firn_changes_put_node(first, &id, "/a", meta, true, 1);
	commit(repo, first, "array");
	for (int apart = 1; apart >= 0; apart--) {
		g_clear_pointer(&merged, firn_merge_free);
		merged = merge(repo, &id, apart);
	}
	commit(repo, merged->changes, "virtual-refs");
	firn_changes_free(g_steal_pointer(&merged->changes));
	merged->changes = firn_changes_new();
	(void)firn_changes_put_chunk(merged->changes, &id, "/a", 2, (uint32_t[]){ 5, 5 },
				     &(FirnRef){ .kind = FIRN_REF_INLINE,
						 .length = 1,
						 .bytes = { (const uint8_t *)"x", 1 } },
				     1);
	commit(repo, merged->changes, "one-chunk-on-top");
	(void)!g_spawn_sync(NULL,
			    (char **)(uintptr_t)(const char *[]){ "rm", "-rf", directory, NULL },
			    NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
	return 0;
}
