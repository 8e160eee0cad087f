#include "core/base/error.h"
#include "core/base/text.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"
#include "core/format/manifest_rows.h"
#include "core/format/payload.h"

#include <string.h>
#include <zdict.h>
#include <zstd.h>

/* Of compressed locations: the official library's defaults. */
#define MAX_DICTIONARY 2048u
#define SHORT_LOCATION 8u
#define LOCATION_LEVEL 3
/* What a virtual ref mostly takes more than a native one: vtable and offset. */
#define VIRTUAL_ROOM 32u

static const FirnEnvelope envelope = { 2, FIRN_KIND_MANIFEST };

/* Compresses locations. */
typedef struct {
	ZSTD_CCtx *context;
	ZSTD_CDict *dictionary; /* NULL: not needed so far, or refused */
	GBytes *trained;        /* what `dictionary` is made of */
	bool refused;           /* zstd cannot compress with it: new locations stay plain */
	size_t plain_len;
	size_t frame_len; /* 0: none */
	uint8_t plain
		[FIRN_MANIFEST_MAX_LOCATION]; /* that `frame` is of; chunks of one file follow each other */
	uint8_t frame[ZSTD_COMPRESSBOUND(FIRN_MANIFEST_MAX_LOCATION)];
} Squeezer;

struct FirnManifestWriter {
	FirnManifestRows *rows;
	uint32_t rank;
	Squeezer *squeezer;       /* NULL: locations are plain so far */
	const FirnManifest *kept; /* borrowed: that `squeezer` has its dictionary of, or NULL */
	const FirnManifestBlock *block; /* borrowed: of rows taken over, or NULL */
	bool trained;                   /* that is how they stay */
	bool alone;                     /* other threads have work of their own */
	FirnId12 id;
	FirnId8 node;
	uint32_t n_refs;
	uint32_t added;
	FirnManifestSample sample; /* of virtual refs */
	uint32_t previous[FIRN_MAX_RANK];
};

/* ---- compressed locations ---- */

static void
squeezer_free(Squeezer *s)
{
	if (s == NULL)
		return;
	ZSTD_freeCCtx(s->context);
	ZSTD_freeCDict(s->dictionary);
	g_clear_pointer(&s->trained, g_bytes_unref);
	g_free(s);
}

/* The dictionary for sampled locations, NULL if they are better left plain. */
static GBytes *
train(const FirnSpan *samples, unsigned n_samples)
{
	g_autoptr(GByteArray) text = g_byte_array_new();
	g_autoptr(GArray) sizes = g_array_new(FALSE, FALSE, sizeof(size_t));
	uint8_t dictionary[MAX_DICTIONARY];
	unsigned n_short = 0;
	size_t once, copies, n;

	for (unsigned i = 0; i < n_samples; i++) {
		if (samples[i].len > FIRN_MANIFEST_MAX_LOCATION)
			continue;
		n_short += samples[i].len < SHORT_LOCATION;
		g_byte_array_append(text, samples[i].data, (guint)samples[i].len);
		g_array_append_val(sizes, samples[i].len);
	}
	if (sizes->len == 0 || n_short * 2 >= sizes->len)
		return NULL;
	once = text->len;
	n = sizes->len;
	/* Training wants more bytes than a dictionary has. */
	copies = once < MAX_DICTIONARY ? MAX_DICTIONARY / once + 1 : 0;
	for (size_t i = 0; i < copies * n; i++) {
		size_t size = g_array_index(sizes, size_t, i);

		g_array_append_val(sizes, size);
	}
	for (size_t i = 0; i < copies; i++) {
		g_byte_array_set_size(text, (guint)(text->len + once));
		memcpy(text->data + (i + 1) * once, text->data, once);
	}
	n = ZDICT_trainFromBuffer(dictionary, sizeof dictionary, text->data,
				  (const size_t *)(const void *)sizes->data, sizes->len);
	return ZDICT_isError(n) ? NULL : g_bytes_new(dictionary, n);
}

static bool
squeezer_start(Squeezer *s)
{
	FirnSpan bytes = firn_payload_span(s->trained);

	s->context = ZSTD_createCCtx();
	s->dictionary = ZSTD_createCDict(bytes.data, bytes.len, LOCATION_LEVEL);
	s->refused = s->context == NULL || s->dictionary == NULL;
	return !s->refused;
}

/* NULL if locations are better left plain. */
static Squeezer *
squeezer_new(const FirnSpan *samples, unsigned n_samples)
{
	Squeezer *s = g_new0(Squeezer, 1);

	s->trained = train(samples, n_samples);
	if (s->trained != NULL && squeezer_start(s))
		return s;
	squeezer_free(s);
	return NULL;
}

/* Replace the location by its frame, borrowed until the next call. */
static void
squeeze(Squeezer *s, FirnRef *ref)
{
	FirnSpan plain = ref->location;

	if (plain.len > FIRN_MANIFEST_MAX_LOCATION || s->refused ||
	    (s->dictionary == NULL && !squeezer_start(s)))
		return;
	if (s->frame_len == 0 || s->plain_len != plain.len ||
	    memcmp(s->plain, plain.data, plain.len) != 0) {
		size_t n = ZSTD_compress_usingCDict(s->context, s->frame, sizeof s->frame,
						    plain.data, plain.len, s->dictionary);

		/* Plain and compressed locations may stand side by side. */
		s->frame_len = ZSTD_isError(n) ? 0 : n;
		if (s->frame_len == 0)
			return;
		memcpy(s->plain, plain.data, plain.len);
		s->plain_len = plain.len;
	}
	ref->location = (FirnSpan){ s->frame, s->frame_len };
	ref->location_compressed = true;
}

/* ---- the writer ---- */

static void
begin_rows(FirnManifestWriter *w, FirnSpan dictionary, size_t reserve)
{
	firn_manifest_rows_free(w->rows);
	w->rows = firn_manifest_rows_new(&w->id, &w->node, w->rank, w->n_refs, dictionary,
					 4096 + dictionary.len + reserve);
}

static void
writer_begin(FirnManifestWriter *w, FirnSpan dictionary)
{
	/*
	 * A native ref without offset, or a virtual one; what it is not enough for, doubling is,
	 * which copies.  What is too much is never touched.
	 */
	size_t row = (4 + 28 + 4 + 4 * (size_t)w->rank + 7) / 8 * 8 +
		     (dictionary.len > 0 ? VIRTUAL_ROOM : 0);

	begin_rows(w, dictionary, w->n_refs * row);
}

FirnManifestWriter *
firn_manifest_writer_new(const FirnId12 *id, const FirnId8 *node, uint32_t rank, uint32_t n_refs)
{
	FirnManifestWriter *w = g_new0(FirnManifestWriter, 1);

	g_assert(rank <= FIRN_MAX_RANK && n_refs > 0);
	w->id = *id;
	w->node = *node;
	w->n_refs = n_refs;
	w->rank = rank;
	return w;
}

void
firn_manifest_writer_free(FirnManifestWriter *w)
{
	if (w == NULL)
		return;
	firn_manifest_rows_free(w->rows);
	squeezer_free(w->squeezer);
	g_free(w);
}

/* splitmix64: the choice is uniform, and the same for the same refs. */
static uint64_t
next_random(uint64_t *random)
{
	uint64_t z = *random += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void
firn_manifest_sample_add(FirnManifestSample *sample, uint32_t index)
{
	uint64_t at = sample->n;

	/* Reservoir sampling: each has the same chance to stay. */
	if (sample->n >= FIRN_MANIFEST_SAMPLES)
		at = next_random(&sample->random) % ((uint64_t)sample->n + 1);
	if (at < FIRN_MANIFEST_SAMPLES)
		sample->indices[at] = index;
	sample->n++;
}

bool
firn_manifest_sample_is_enough(const FirnManifestSample *sample)
{
	return sample->n >= FIRN_MANIFEST_COMPRESS_FROM;
}

void
firn_manifest_writer_train(FirnManifestWriter *w, const FirnSpan *samples)
{
	g_assert(w->added == 0 && !w->trained);
	w->trained = true;
	w->squeezer = squeezer_new(samples, FIRN_MANIFEST_SAMPLES);
	if (w->squeezer != NULL)
		writer_begin(w, firn_payload_span(w->squeezer->trained));
}

/* Compress with the dictionary of `source`. */
static void
keep_dictionary(FirnManifestWriter *w, const FirnManifest *source, FirnSpan dictionary)
{
	w->kept = source;
	w->squeezer = g_new0(Squeezer, 1);
	w->squeezer->trained = g_bytes_new(dictionary.data, dictionary.len);
}

bool
firn_manifest_writer_keep(FirnManifestWriter *w, const FirnManifest *source)
{
	FirnSpan dictionary =
		firn_flat_get_bytes(source->b, source->root, FIRN_MANIFEST_DICTIONARY);

	g_assert(w->added == 0 && !w->trained);
	if (source->locator == NULL || dictionary.len > FIRN_MANIFEST_MAX_KEPT_DICTIONARY ||
	    w->n_refs < FIRN_MANIFEST_COMPRESS_FROM)
		return false;
	w->trained = true;
	keep_dictionary(w, source, dictionary);
	writer_begin(w, dictionary);
	return true;
}

void
firn_manifest_writer_splice(FirnManifestWriter *w, const FirnManifestBlock *block)
{
	const FirnManifest *source = block->refs.manifest;
	FirnSpan dictionary =
		firn_flat_get_bytes(source->b, source->root, FIRN_MANIFEST_DICTIONARY);

	g_assert(w->added == 0 && !w->trained && block->refs.rank == w->rank);
	w->trained = true;
	w->block = block;
	if (dictionary.len > 0)
		keep_dictionary(w, source, dictionary);
	begin_rows(w, dictionary, 4 * (size_t)w->n_refs);
	firn_manifest_rows_splice(w->rows, block);
}

void
firn_manifest_writer_take(FirnManifestWriter *w, uint32_t from, uint32_t n)
{
	const FirnRefs *refs = &w->block->refs;

	if (n == 0)
		return;
	g_assert(n <= w->n_refs - w->added && from < refs->count && n <= refs->count - from);
	g_assert(w->added == 0 ||
		 firn_coords_compare(w->previous, firn_refs_coords(refs, from), w->rank) < 0);
	firn_manifest_rows_take(w->rows, w->added, from, n);
	memcpy(w->previous, firn_refs_coords(refs, from + n - 1), sizeof(uint32_t) * w->rank);
	w->added += n;
}

void
firn_manifest_writer_alone(FirnManifestWriter *w)
{
	w->alone = true;
}

static bool
check_ref(const FirnManifestWriter *w, const FirnRef *ref, GError **error)
{
	uint64_t length = ref->kind == FIRN_REF_INLINE ? ref->bytes.len : ref->length;

	g_assert(ref->kind != FIRN_REF_NONE && (w->kept != NULL || !ref->location_compressed));
	if (length == 0) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "a chunk of no bytes cannot be stored");
		return false;
	}
	if (ref->kind != FIRN_REF_VIRTUAL)
		return true;
	if (ref->location.len == 0 ||
	    (!ref->location_compressed && !firn_span_is_text(ref->location)) ||
	    !firn_span_is_text(ref->etag)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "the location or checksum of a virtual chunk is not UTF-8 text");
		return false;
	}
	return true;
}

bool
firn_manifest_writer_add(FirnManifestWriter *w, const uint32_t *coords, const FirnRef *ref,
			 GError **error)
{
	FirnRef stored = *ref;

	if (w->rows == NULL)
		writer_begin(w, (FirnSpan){ NULL, 0 });
	g_assert(w->added < w->n_refs);
	g_assert(w->added == 0 || firn_coords_compare(w->previous, coords, w->rank) < 0);
	if (!check_ref(w, ref, error))
		return false;
	if (w->squeezer != NULL && ref->kind == FIRN_REF_VIRTUAL && !ref->location_compressed)
		squeeze(w->squeezer, &stored);
	firn_manifest_rows_add(w->rows, w->added, coords, &stored);
	if (firn_manifest_rows_failed(w->rows)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%u chunk references do not fit in one manifest: split the array's "
			    "manifests",
			    w->n_refs);
		return false;
	}
	if (ref->kind == FIRN_REF_VIRTUAL && !w->trained)
		firn_manifest_sample_add(&w->sample, w->added);
	memcpy(w->previous, coords, sizeof *coords * w->rank);
	w->added++;
	return true;
}

/* The payload again, with locations compressed; NULL if it is better left as it is. */
static GBytes *
compress_locations(FirnManifestWriter *w, GBytes *plain)
{
	FirnManifest m = { .b = firn_payload_span(plain) };
	FirnSpan samples[FIRN_MANIFEST_SAMPLES];
	FirnRefs refs;

	m.root = firn_flat_root(m.b);
	m.arrays = firn_flat_get_child(m.b, m.root, FIRN_MANIFEST_ARRAYS);
	firn_manifest_array(&m, 0, NULL, &refs);
	for (unsigned i = 0; i < FIRN_MANIFEST_SAMPLES; i++) {
		FirnRef ref;

		firn_refs_get(&refs, w->sample.indices[i], &ref);
		samples[i] = ref.location;
	}
	w->squeezer = squeezer_new(samples, FIRN_MANIFEST_SAMPLES);
	if (w->squeezer == NULL)
		return NULL;
	writer_begin(w, firn_payload_span(w->squeezer->trained));
	for (uint32_t i = 0; i < refs.count && !firn_manifest_rows_failed(w->rows); i++) {
		FirnRef ref;

		firn_refs_get(&refs, i, &ref);
		if (ref.kind == FIRN_REF_VIRTUAL)
			squeeze(w->squeezer, &ref);
		firn_manifest_rows_add(w->rows, i, firn_refs_coords(&refs, i), &ref);
	}
	return firn_manifest_rows_finish(g_steal_pointer(&w->rows), NULL);
}

static GBytes *
seal_spliced(FirnManifestWriter *w, int level, GError **error)
{
	FirnSpan parts[FIRN_MANIFEST_PARTS];

	if (firn_manifest_rows_parts(w->rows, parts, error))
		return firn_envelope_seal_parts(&envelope, parts, G_N_ELEMENTS(parts), level,
						w->alone);
	g_prefix_error(error, "manifest: ");
	return NULL;
}

GBytes *
firn_manifest_writer_finish(FirnManifestWriter *writer, int level, GError **error)
{
	g_autoptr(FirnManifestWriter) w = writer;
	g_autoptr(GBytes) payload = NULL;
	FirnSpan span;

	g_assert(w->added == w->n_refs);
	if (w->block != NULL)
		return seal_spliced(w, level, error);
	payload = firn_manifest_rows_finish(g_steal_pointer(&w->rows), error);
	if (payload == NULL) {
		g_prefix_error(error, "manifest: ");
		return NULL;
	}
	if (firn_manifest_sample_is_enough(&w->sample)) {
		g_autoptr(GBytes) compressed = compress_locations(w, payload);

		if (compressed != NULL) {
			g_bytes_unref(payload);
			payload = g_steal_pointer(&compressed);
		}
	}
	span = firn_payload_span(payload);
	return firn_envelope_seal_parts(&envelope, &span, 1, level, w->alone);
}
