/* Time of writing, opening and searching one large manifest: bench-manifest [REFS]. */
#include "core/base/clock.h"
#include "core/format/envelope.h"
#include "core/format/manifest.h"

#include <stdio.h>
#include <string.h>

#define AXIS 1000u

static double
seconds(void)
{
	return (double)g_get_monotonic_time() / 1e6;
}

/* Different for every ref, and as incompressible as real ids. */
static void
fill_id(FirnId12 *id, uint64_t i)
{
	for (unsigned k = 0; k < 12; k += 4) {
		uint64_t z = (i * 3 + k) * 0x9e3779b97f4a7c15u;
		uint32_t word;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		word = (uint32_t)(z ^ z >> 31);
		memcpy(id->bytes + k, &word, sizeof word);
	}
}

static void
coords_of(uint32_t i, uint32_t coords[3])
{
	coords[0] = i / (AXIS * AXIS);
	coords[1] = i / AXIS % AXIS;
	coords[2] = i % AXIS;
}

static GBytes *
write_manifest(uint32_t n, FirnRefKind kind)
{
	static const FirnId8 node = { { 9, 8, 7, 6, 5, 4, 3, 2 } };
	FirnManifestWriter *w = firn_manifest_writer_new(&firn_id_initial_snapshot, &node, 3, n);
	char location[64];
	double start = seconds();
	double added;
	GBytes *file;

	for (uint32_t i = 0; i < n; i++) {
		FirnRef ref = { .kind = kind, .length = 100000 + i % 1000 };
		uint32_t coords[3];

		coords_of(i, coords);
		fill_id(&ref.id, i);
		if (kind == FIRN_REF_INLINE)
			ref.bytes = (FirnSpan){ ref.id.bytes, 12 };
		if (kind == FIRN_REF_VIRTUAL) {
			int len = snprintf(location, sizeof location,
					   "s3://some-bucket/run/%08u/temperature.nc", i / 24);

			ref.location = (FirnSpan){ (const uint8_t *)location, (size_t)len };
			ref.offset = (uint64_t)(i % 24) * 100000;
		}
		if (!firn_manifest_writer_add(w, coords, &ref, NULL))
			return NULL;
	}
	added = seconds();
	file = firn_manifest_writer_finish(w, 3, NULL);
	printf("  add    %6.2f s\n  finish %6.2f s (%zu MB)\n", added - start, seconds() - added,
	       g_bytes_get_size(file) >> 20);
	return file;
}

static void
read_manifest(GBytes *file, uint32_t n)
{
	double start = seconds();
	g_autoptr(GBytes) payload = firn_envelope_open(file, 0x7fffffff, NULL, NULL);
	double unpacked = seconds();
	g_autoptr(FirnManifest) m = NULL;
	uint32_t found = 0;
	FirnRefs refs;
	double opened;

	g_assert(payload != NULL);
	g_clear_pointer(&payload, g_bytes_unref);
	printf("  unpack %6.2f s\n", unpacked - start);
	start = seconds();
	m = firn_manifest_open(file, NULL);
	opened = seconds();
	g_assert(m != NULL);
	printf("  open   %6.2f s, unpacking included\n", opened - start);
	firn_manifest_array(m, 0, NULL, &refs);
	start = seconds();
	for (uint32_t i = 0; i < 1000000; i++) {
		uint32_t coords[3], at;
		FirnRef ref;

		coords_of((uint32_t)(i * 2654435761u % n), coords);
		found += firn_refs_find(&refs, coords, &at);
		firn_refs_get(&refs, at, &ref);
	}
	printf("  find   %6.0f ns (%u of 1000000 found)\n", (seconds() - start) * 1000, found);
}

int
main(int argc, char **argv)
{
	static const FirnRefKind kinds[] = { FIRN_REF_NATIVE, FIRN_REF_INLINE, FIRN_REF_VIRTUAL };
	static const char *const names[] = { "native", "inline", "virtual" };
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10000000;

	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		g_autoptr(GBytes) file = NULL;

		printf("manifest of %u %s refs\n", n, names[i]);
		file = write_manifest(n, kinds[i]);
		read_manifest(file, n);
	}
	return 0;
}
