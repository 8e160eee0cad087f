#include "core/base/clock.h"
#include "core/repo/journal.h"

#include <malloc.h>
#include <stdio.h>

/* One line a case: module/case size value unit. */
#define N    1000000u
#define SIDE 1000u

static double
seconds_since(int64_t from)
{
	return (double)(firn_clock_now_ns() - from) / 1e9;
}

static void
coords_of(uint32_t i, uint32_t *out)
{
	out[0] = i / SIDE;
	out[1] = i % SIDE;
	out[2] = 0;
}

/* 0 .. N - 1, each once, in an order that jumps about. */
static uint32_t
scatter(uint32_t i)
{
	return (uint32_t)((uint64_t)i * 611953u % N);
}

static FirnChanges *
fill(bool in_order, const char *name)
{
	FirnChanges *changes = firn_changes_new();
	const FirnId8 id = { { 1, 2, 3, 4, 5, 6, 7, 8 } };
	FirnRef ref = { .kind = FIRN_REF_NATIVE, .length = 1u << 20 };
	size_t before = mallinfo2().uordblks;
	int64_t from = firn_clock_now_ns();

	for (uint32_t i = 0; i < N; i++) {
		uint32_t coords[3];

		coords_of(in_order ? i : scatter(i), coords);
		ref.id = (FirnId12){ { (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16) } };
		(void)firn_changes_put_chunk(changes, &id, "/a", 3, coords, &ref, i + 1);
	}
	printf("chunk_map/insert-%s %u %.3f s\n", name, N, seconds_since(from));
	printf("chunk_map/memory-%s %u %.1f B/entry\n", name, N,
	       (double)(mallinfo2().uordblks - before) / N);
	return changes;
}

static void
find_all(FirnChanges *changes)
{
	const FirnNodeChange *node = firn_changes_find_path(changes, "/a");
	int64_t from = firn_clock_now_ns();
	FirnChunkIter iter;
	uint64_t sum = 0;
	FirnChunkChange *change;

	for (uint32_t i = 0; i < N; i++) {
		uint32_t coords[3];

		coords_of(scatter(i), coords);
		sum += firn_chunk_change_length(firn_chunk_map_find(node->chunks, coords));
	}
	printf("chunk_map/find-scattered %u %.0f ns\n", N, seconds_since(from) * 1e9 / N);
	from = firn_clock_now_ns();
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, NULL, &change))
		sum += firn_chunk_change_length(change);
	printf("chunk_map/iterate %u %.1f ns\n", N, seconds_since(from) * 1e9 / N);
	g_assert(sum > 0);
}

static void
code(const FirnChanges *changes, const char *name)
{
	FirnJournalHeader header = { .repository = (char[]){ "file:///r" },
				     .branch = (char[]){ "main" },
				     .spec_version = 2 };
	GByteArray *out = g_byte_array_new();
	int64_t from = firn_clock_now_ns();
	g_autoptr(GBytes) bytes = NULL;
	g_autoptr(GPtrArray) sections = NULL;

	header.ancestors = g_array_new(FALSE, TRUE, sizeof(FirnAncestor));
	firn_journal_encode(&header, changes, N, out);
	printf("journal/encode-%s %u %.3f s\n", name, N, seconds_since(from));
	bytes = g_byte_array_free_to_bytes(out);
	printf("journal/size-%s %u %.1f B/record\n", name, N, (double)g_bytes_get_size(bytes) / N);
	from = firn_clock_now_ns();
	sections = firn_journal_decode(bytes, "bench", NULL, NULL);
	g_assert(sections != NULL);
	printf("journal/decode-%s %u %.3f s\n", name, N, seconds_since(from));
	g_array_unref(header.ancestors);
}

int
main(void)
{
	g_autoptr(FirnChanges) ordered = fill(true, "in-order");
	g_autoptr(FirnChanges) scattered = fill(false, "scattered");

	find_all(ordered);
	code(ordered, "net");
	return 0;
}
