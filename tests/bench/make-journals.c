#include "core/base/error.h"
#include "core/repo/journal.h"
#include "core/repo/repo.h"
#include "core/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Journals as workers would have handed them in, without the workers:
 * make-journals REPO N_JOURNALS N_CHUNKS virtual|inline|native OUT_DIRECTORY.
 * Journal w holds the chunks [w * N_CHUNKS, (w + 1) * N_CHUNKS) of the array /a.
 * Native chunks are there, of 600 bytes each, in packs as the driver makes them.
 */
#define NATIVE    600u
#define PACK_HEAD 16u
#define PACK_SIZE (4u << 20)

/* The pack that is being filled. */
typedef struct {
	FirnStoreWriter *writer; /* NULL: none */
	FirnId12 id;
	uint64_t len;
} Pack;

static void
check(const GError *error)
{
	if (error == NULL)
		return;
	fprintf(stderr, "make-journals: %s\n", error->message);
	exit(1);
}

static void
end_pack(Pack *pack)
{
	g_autoptr(GError) error = NULL;

	if (pack->writer != NULL)
		(void)!firn_store_writer_finish(pack->writer, false, &error);
	pack->writer = NULL;
	check(error);
}

static void
begin_pack(FirnRepo *repo, Pack *pack)
{
	g_autoptr(GError) error = NULL;
	char name[FIRN_ID12_TEXT + 1];
	g_autofree char *key = NULL;

	pack->id = firn_id12_random();
	pack->len = PACK_HEAD;
	firn_id12_format(&pack->id, name);
	key = g_strconcat("chunks/", name, NULL);
	pack->writer = firn_store_writer_open(firn_repo_store(repo), key, &error);
	check(error);
}

static void
append(FirnRepo *repo, Pack *pack, uint32_t i, FirnRef *out_ref)
{
	g_autoptr(GError) error = NULL;
	char bytes[NATIVE + 1];

	if (pack->writer != NULL && pack->len + NATIVE > PACK_SIZE)
		end_pack(pack);
	if (pack->writer == NULL)
		begin_pack(repo, pack);
	memset(bytes, 'x', NATIVE);
	g_snprintf(bytes, 9, "%08u", i);
	bytes[8] = 'x';
	(void)!firn_store_writer_write(pack->writer, pack->len, bytes, NATIVE, &error);
	check(error);
	out_ref->kind = FIRN_REF_NATIVE;
	out_ref->id = pack->id;
	out_ref->offset = pack->len;
	out_ref->length = NATIVE;
	pack->len += NATIVE;
}

static FirnRef
ref_of(FirnRepo *repo, Pack *pack, const char *kind, uint32_t i, char *text, size_t size)
{
	FirnRef ref = { .length = 100000 };

	if (strcmp(kind, "inline") == 0) {
		g_snprintf(text, size, "%08u", i);
		ref.kind = FIRN_REF_INLINE;
		ref.length = 8;
		ref.bytes = (FirnSpan){ (const uint8_t *)text, 8 };
	} else if (strcmp(kind, "virtual") == 0) {
		g_snprintf(text, size, "s3://bucket/file_%06u.nc", i / 1000);
		ref.kind = FIRN_REF_VIRTUAL;
		ref.offset = i % 1000 * UINT64_C(100000);
		ref.location = (FirnSpan){ (const uint8_t *)text, strlen(text) };
	} else {
		append(repo, pack, i, &ref);
	}
	return ref;
}

static FirnSection *
make(FirnRepo *repo, const FirnId12 *base, const FirnId8 *id, uint32_t w, uint32_t n,
     const char *kind)
{
	FirnSection *section = g_new0(FirnSection, 1);
	FirnJournalHeader *header = g_new0(FirnJournalHeader, 1);
	Pack pack = { 0 };

	header->repository = g_strdup(firn_repo_url(repo));
	header->identity = firn_repo_identity(repo);
	header->spec_version = 2;
	header->branch = g_strdup("main");
	header->base = *base;
	header->session = firn_id12_random();
	header->ancestors = g_array_new(FALSE, FALSE, sizeof(FirnAncestor));
	section->header = header;
	section->changes = firn_changes_new();
	section->sealed = true;
	for (uint32_t i = w * n; i < (w + 1) * n; i++) {
		char text[64];
		FirnRef ref = ref_of(repo, &pack, kind, i, text, sizeof text);

		(void)firn_changes_put_chunk(section->changes, id, "/a", 1, &i, &ref,
					     ++section->last_seq);
	}
	end_pack(&pack);
	return section;
}

int
main(int argc, char **argv)
{
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(FirnRepoInfo) info = NULL;
	g_autoptr(FirnSnapshot) snapshot = NULL;
	g_autoptr(GError) error = NULL;
	FirnSnapshotNode node;
	FirnId12 base;
	size_t index;

	if (argc != 6) {
		fprintf(stderr, "usage: make-journals REPO N_JOURNALS N_CHUNKS KIND DIRECTORY\n");
		return 2;
	}
	repo = firn_repo_open(argv[1], &error);
	check(error);
	info = firn_repo_read_info(repo, &error);
	check(error);
	base = firn_repo_info_find_branch(info, "main")->snapshot;
	snapshot = firn_repo_get_snapshot(repo, &base, &error);
	check(error);
	if (!firn_snapshot_find_path(snapshot, "/a", 2, &index)) {
		fprintf(stderr, "make-journals: there is no array /a\n");
		return 1;
	}
	firn_snapshot_node(snapshot, index, &node);
	for (uint32_t w = 0; w < (uint32_t)strtoul(argv[2], NULL, 10); w++) {
		g_autofree char *path = g_strdup_printf("%s/w%u.journal", argv[5], w);
		g_autoptr(GPtrArray) sections =
			g_ptr_array_new_with_free_func((GDestroyNotify)firn_section_free);

		g_ptr_array_add(sections, make(repo, &base, &node.id, w,
					       (uint32_t)strtoul(argv[3], NULL, 10), argv[4]));
		(void)!firn_journal_write(path, sections, &error);
		check(error);
	}
	return 0;
}
