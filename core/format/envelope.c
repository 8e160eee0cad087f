#include "core/format/envelope.h"

#include "core/base/error.h"

#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define MAGIC_SIZE       12u
#define WRITER_SIZE      24u
#define VERSION_AT       36u
#define KIND_AT          37u
#define COMPRESSION_AT   38u
#define COMPRESSION_NONE 0u
#define COMPRESSION_ZSTD 1u

/* No zstd block of less than four bytes says more than this. */
#define MAX_BLOCK    ((uint64_t)128 * 1024)
#define FIRST_OUTPUT ((size_t)64 * 1024)
/*
 * Real files unpack to some hundred times their size; a few bytes that unpack
 * to gigabytes were made to exhaust memory.  Small files may do as they like.
 */
#define MAX_EXPANSION  4096u
#define FREE_EXPANSION ((uint64_t)64 << 20)

/* Below this, threads gain less than they cost: a start, and copies of what they get and give. */
#define PARALLEL_FROM ((size_t)12 * 1024 * 1024)
#define MAX_WORKERS   8

/*
 * Rows of refs are like those right before: for those who asked for speed, a window (2^19 bytes)
 * that stays in the cache finds as much in three quarters of the time.
 */
#define FAST_LEVEL  3
#define FAST_WINDOW 19

static const uint8_t envelope_magic[MAGIC_SIZE] = { 'I',  'C', 'E', 0xF0, 0x9F, 0xA7,
						    0x8A, 'C', 'H', 'U',  'N',  'K' };

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_CCtx, ZSTD_freeCCtx)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZSTD_DCtx, ZSTD_freeDCtx)

static bool
format_error(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "%s", what);
	return false;
}

static bool
limit_error(GError **error, size_t max_size)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
		    "the content is larger than %zu bytes, or than the memory there is", max_size);
	return false;
}

static bool
is_kind(uint8_t code)
{
	switch ((FirnKind)code) {
	case FIRN_KIND_SNAPSHOT:
	case FIRN_KIND_MANIFEST:
	case FIRN_KIND_TXLOG:
	case FIRN_KIND_REPO_INFO:
		return true;
	}
	return false;
}

static bool
check_header(FirnSpan file, GError **error)
{
	if (file.len < FIRN_ENVELOPE_SIZE)
		return format_error(error, "the file is shorter than its header");
	if (memcmp(file.data, envelope_magic, MAGIC_SIZE) != 0)
		return format_error(error, "not an Icechunk file: the magic number is wrong");
	if (file.data[VERSION_AT] != 1 && file.data[VERSION_AT] != 2) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			    "the file has format version %u; versions 1 and 2 are supported",
			    file.data[VERSION_AT]);
		return false;
	}
	if (!is_kind(file.data[KIND_AT])) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "unknown kind of file: %u",
			    file.data[KIND_AT]);
		return false;
	}
	if (file.data[COMPRESSION_AT] > COMPRESSION_ZSTD) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_UNSUPPORTED,
			    "unknown compression algorithm: %u", file.data[COMPRESSION_AT]);
		return false;
	}
	return true;
}

/* One frame of known size, in one go. */
static GBytes *
open_sized(FirnSpan frame, size_t size, const FirnRoom *room, GError **error)
{
	void *out = NULL;
	g_autoptr(GBytes) bytes = room != NULL ? room->make(size, &out, room->data) : NULL;
	size_t n;

	if (bytes == NULL) {
		out = g_try_malloc(MAX(size, 1u));
		if (out == NULL) {
			(void)limit_error(error, size);
			return NULL;
		}
		bytes = g_bytes_new_take(out, size);
	}
	n = ZSTD_decompress(out, size, frame.data, frame.len);
	if (ZSTD_isError(n) || n != size) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "damaged zstd frame: %s",
			    ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong size");
		return NULL;
	}
	return g_steal_pointer(&bytes);
}

/* Room for more output, at most `max_size` + 1 bytes so that excess is seen. */
static bool
widen(uint8_t **data, size_t *cap, size_t max_size, GError **error)
{
	size_t wanted = *cap > max_size / 2 ? max_size + 1 : MAX(*cap * 2, FIRST_OUTPUT);
	uint8_t *wider;

	wanted = MIN(wanted, max_size + 1);
	wider = g_try_realloc(*data, wanted);
	if (wider == NULL)
		return limit_error(error, max_size);
	*data = wider;
	*cap = wanted;
	return true;
}

/* One frame that does not say its size: older releases stream. */
static GBytes *
open_streamed(FirnSpan frame, size_t max_size, GError **error)
{
	g_autoptr(ZSTD_DCtx) dctx = ZSTD_createDCtx();
	g_autofree uint8_t *data = NULL;
	ZSTD_inBuffer in = { frame.data, frame.len, 0 };
	ZSTD_outBuffer out = { NULL, 0, 0 };
	size_t left = 1;

	while (dctx != NULL && left != 0) {
		size_t before = in.pos + out.pos;

		if (out.pos == out.size && !widen(&data, &out.size, max_size, error))
			return NULL;
		out.dst = data;
		left = ZSTD_decompressStream(dctx, &out, &in);
		if (ZSTD_isError(left) || (left != 0 && in.pos + out.pos == before)) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "damaged zstd frame: %s",
				    ZSTD_isError(left) ? ZSTD_getErrorName(left) : "cut short");
			return NULL;
		}
		if (out.pos > max_size)
			break;
	}
	if (dctx == NULL || out.pos > max_size) {
		(void)limit_error(error, max_size);
		return NULL;
	}
	/* Give back what doubling took too much. */
	out.dst = g_try_realloc(data, MAX(out.pos, 1u));
	if (out.dst != NULL)
		data = out.dst;
	return g_bytes_new_take(g_steal_pointer(&data), out.pos);
}

/* What a frame of this length may unpack to. */
static size_t
limit_of(size_t len, size_t max_size)
{
	uint64_t limit = MAX(FREE_EXPANSION, (uint64_t)MIN(len, max_size) * MAX_EXPANSION);

	return (size_t)MIN(limit, (uint64_t)max_size);
}

static GBytes *
open_frame(FirnSpan frame, size_t max_size, const FirnRoom *room, GError **error)
{
	static const uint8_t magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };
	unsigned long long size;
	size_t used;

	if (frame.len < sizeof magic || memcmp(frame.data, magic, sizeof magic) != 0) {
		(void)format_error(error, "the content is not a zstd frame");
		return NULL;
	}
	used = ZSTD_findFrameCompressedSize(frame.data, frame.len);
	size = ZSTD_getFrameContentSize(frame.data, frame.len);
	if (ZSTD_isError(used) || size == ZSTD_CONTENTSIZE_ERROR) {
		(void)format_error(error, "damaged zstd frame: cut short");
		return NULL;
	}
	if (used != frame.len) {
		(void)format_error(error, "there are bytes after the zstd frame");
		return NULL;
	}
	if (size == ZSTD_CONTENTSIZE_UNKNOWN)
		return open_streamed(frame, limit_of(frame.len, max_size), error);
	if (size > max_size) {
		(void)limit_error(error, max_size);
		return NULL;
	}
	/* Not worth an allocation: a frame of this length cannot hold as much. */
	if (size > (frame.len / 4 + 1) * MAX_BLOCK) {
		(void)format_error(error, "damaged zstd frame: impossible size");
		return NULL;
	}
	if (size > limit_of(frame.len, max_size)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "%zu bytes that unpack to %llu were made to exhaust memory", frame.len,
			    size);
		return NULL;
	}
	return open_sized(frame, (size_t)size, room, error);
}

GBytes *
firn_envelope_open(GBytes *file, size_t max_size, FirnEnvelope *out_envelope, GError **error)
{
	return firn_envelope_open_in(file, max_size, NULL, out_envelope, error);
}

GBytes *
firn_envelope_open_in(GBytes *file, size_t max_size, const FirnRoom *room,
		      FirnEnvelope *out_envelope, GError **error)
{
	FirnSpan span;
	FirnSpan body;
	GBytes *payload = NULL;

	g_assert(max_size > 0 && max_size < SIZE_MAX);
	span.data = g_bytes_get_data(file, &span.len);
	if (!check_header(span, error))
		return NULL;
	body = (FirnSpan){ span.data + FIRN_ENVELOPE_SIZE, span.len - FIRN_ENVELOPE_SIZE };
	if (span.data[COMPRESSION_AT] == COMPRESSION_ZSTD)
		payload = open_frame(body, max_size, room, error);
	else if (body.len > max_size)
		(void)limit_error(error, max_size);
	else
		payload = g_bytes_new_from_bytes(file, FIRN_ENVELOPE_SIZE, body.len);
	if (payload != NULL && out_envelope != NULL) {
		out_envelope->spec_version = span.data[VERSION_AT];
		out_envelope->kind = (FirnKind)span.data[KIND_AT];
	}
	return payload;
}

static void
fill_header(uint8_t *out, const FirnEnvelope *envelope)
{
	static const char writer[] = "firn-" FIRN_VERSION;

	memcpy(out, envelope_magic, MAGIC_SIZE);
	memset(out + MAGIC_SIZE, ' ', WRITER_SIZE);
	memcpy(out + MAGIC_SIZE, writer, MIN(sizeof writer - 1, WRITER_SIZE));
	out[VERSION_AT] = envelope->spec_version;
	out[KIND_AT] = (uint8_t)envelope->kind;
	out[COMPRESSION_AT] = COMPRESSION_ZSTD;
}

/* Whether it is rows all alike. */
static bool
is_regular(FirnKind kind)
{
	return kind == FIRN_KIND_MANIFEST || kind == FIRN_KIND_TXLOG;
}

/* Compression of a payload of `size` bytes, on several threads where that may be and pays. */
static ZSTD_CCtx *
new_context(FirnKind kind, size_t size, int level, bool parallel)
{
	ZSTD_CCtx *cctx = ZSTD_createCCtx();
	long n_workers = 1;

	g_assert(cctx != NULL);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
	if (is_regular(kind) && level <= FAST_LEVEL)
		ZSTD_CCtx_setParameter(cctx, ZSTD_c_windowLog, FAST_WINDOW);
	if (parallel && size >= PARALLEL_FROM)
		n_workers = sysconf(_SC_NPROCESSORS_ONLN);
	/* Refused by a libzstd without threads, which then does without. */
	if (n_workers > 1)
		ZSTD_CCtx_setParameter(cctx, ZSTD_c_nbWorkers, (int)MIN(n_workers, MAX_WORKERS));
	return cctx;
}

static void
check_envelope(const FirnEnvelope *envelope)
{
	g_assert(envelope->spec_version == 1 || envelope->spec_version == 2);
	g_assert(is_kind((uint8_t)envelope->kind));
}

static GBytes *
seal(const FirnEnvelope *envelope, FirnSpan payload, int level, bool parallel)
{
	g_autoptr(ZSTD_CCtx) cctx = new_context(envelope->kind, payload.len, level, parallel);
	size_t bound = ZSTD_compressBound(payload.len);
	uint8_t *out = g_malloc(FIRN_ENVELOPE_SIZE + bound);
	size_t n;

	g_assert(!ZSTD_isError(bound));
	check_envelope(envelope);
	fill_header(out, envelope);
	n = ZSTD_compress2(cctx, out + FIRN_ENVELOPE_SIZE, bound, payload.data, payload.len);
	g_assert(!ZSTD_isError(n));
	/* What shrinks stays in place or is a small copy. */
	out = g_realloc(out, FIRN_ENVELOPE_SIZE + n);
	return g_bytes_new_take(out, FIRN_ENVELOPE_SIZE + n);
}

GBytes *
firn_envelope_seal(const FirnEnvelope *envelope, FirnSpan payload, int level)
{
	return seal(envelope, payload, level, true);
}

/* ---- in parts ---- */

struct FirnEnvelopeStream {
	ZSTD_CCtx *cctx;
	uint8_t *out;
	size_t size; /* of `out` */
	size_t len;
	size_t left; /* of the payload */
};

static FirnEnvelopeStream *
stream_new(const FirnEnvelope *envelope, size_t size, int level, bool parallel)
{
	FirnEnvelopeStream *s = g_new0(FirnEnvelopeStream, 1);

	check_envelope(envelope);
	s->cctx = new_context(envelope->kind, size, level, parallel);
	ZSTD_CCtx_setPledgedSrcSize(s->cctx, size);
	s->left = size;
	s->size = FIRN_ENVELOPE_SIZE + ZSTD_compressBound(MIN(size, FIRST_OUTPUT));
	s->out = g_malloc(s->size);
	s->len = FIRN_ENVELOPE_SIZE;
	fill_header(s->out, envelope);
	return s;
}

FirnEnvelopeStream *
firn_envelope_stream_new(const FirnEnvelope *envelope, size_t size, int level)
{
	return stream_new(envelope, size, level, true);
}

/* Returns how much zstd still has to give. */
static size_t
compress(FirnEnvelopeStream *s, ZSTD_inBuffer *in, ZSTD_EndDirective directive)
{
	ZSTD_outBuffer out;
	size_t left;

	if (s->size - s->len < ZSTD_CStreamOutSize()) {
		s->size = s->size * 2 + ZSTD_CStreamOutSize();
		s->out = g_realloc(s->out, s->size);
	}
	out = (ZSTD_outBuffer){ s->out, s->size, s->len };
	left = ZSTD_compressStream2(s->cctx, &out, in, directive);
	g_assert(!ZSTD_isError(left));
	s->len = out.pos;
	return left;
}

void
firn_envelope_stream_add(FirnEnvelopeStream *s, FirnSpan part)
{
	ZSTD_inBuffer in = { part.data, part.len, 0 };

	g_assert(part.len <= s->left);
	s->left -= part.len;
	while (in.pos < in.size)
		(void)compress(s, &in, ZSTD_e_continue);
}

GBytes *
firn_envelope_stream_finish(FirnEnvelopeStream *s)
{
	ZSTD_inBuffer in = { NULL, 0, 0 };
	GBytes *file;

	g_assert(s->left == 0);
	while (compress(s, &in, ZSTD_e_end) > 0)
		;
	ZSTD_freeCCtx(s->cctx);
	file = g_bytes_new_take(g_realloc(s->out, s->len), s->len);
	g_free(s);
	return file;
}

GBytes *
firn_envelope_seal_parts(const FirnEnvelope *envelope, const FirnSpan *parts, size_t n_parts,
			 int level, bool alone)
{
	FirnEnvelopeStream *s;
	size_t size = 0;

	if (n_parts == 1)
		return seal(envelope, parts[0], level, !alone);
	for (size_t i = 0; i < n_parts; i++)
		size += parts[i].len;
	s = stream_new(envelope, size, level, !alone);
	for (size_t i = 0; i < n_parts; i++)
		firn_envelope_stream_add(s, parts[i]);
	return firn_envelope_stream_finish(s);
}
