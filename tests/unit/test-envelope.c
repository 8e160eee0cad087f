#include "core/base/error.h"
#include "core/format/envelope.h"
#include "tests/unit/harness.h"

#include <string.h>
#include <zstd.h>

static const FirnEnvelope snapshot_kind = { 2, FIRN_KIND_SNAPSHOT };

static GBytes *
seal_text(const char *text)
{
	return firn_envelope_seal(&snapshot_kind, (FirnSpan){ (const uint8_t *)text, strlen(text) },
				  3);
}

/* A header as written by others, and `body` behind it. */
static GByteArray *
file_of(uint8_t version, uint8_t kind, uint8_t compression, const void *body, size_t len)
{
	GByteArray *file = g_byte_array_new();
	const uint8_t codes[] = { version, kind, compression };

	g_byte_array_append(file,
			    (const uint8_t *)"ICE\xF0\x9F\xA7\x8A"
					     "CHUNK",
			    12);
	g_byte_array_append(file, (const uint8_t *)"ic-2.3.0                ", 24);
	g_byte_array_append(file, codes, 3);
	g_byte_array_append(file, body, (guint)len);
	return file;
}

static GBytes *
open_array(GByteArray *file, size_t max_size, GError **error)
{
	g_autoptr(GBytes) bytes = g_bytes_new_static(file->data, file->len);
	FirnEnvelope envelope = { 77, (FirnKind)77 };
	GBytes *payload = firn_envelope_open(bytes, max_size, &envelope, error);

	ck_assert((payload == NULL) == (envelope.spec_version == 77));
	ck_assert(payload == NULL || error == NULL || *error == NULL);
	/* An uncompressed payload shares memory that ends with this function. */
	if (payload != NULL) {
		GBytes *copy =
			g_bytes_new(g_bytes_get_data(payload, NULL), g_bytes_get_size(payload));

		g_bytes_unref(payload);
		payload = copy;
	}
	return payload;
}

static void
assert_refused(GByteArray *taken, size_t max_size, FirnError code)
{
	g_autoptr(GByteArray) file = taken;
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_null(open_array(file, max_size, &error));
	ck_assert_error(error, FIRN_ERROR, code);
}

START_TEST(seal__text__opens_again)
{
	g_autoptr(GBytes) file = seal_text("hello, hello, hello");
	g_autoptr(GBytes) payload = NULL;
	FirnEnvelope envelope;
	const char *data = g_bytes_get_data(file, NULL);

	payload = firn_envelope_open(file, 19, &envelope, NULL);
	ck_assert_ptr_nonnull(payload);
	ck_assert_uint_eq(g_bytes_get_size(payload), 19);
	ck_assert_mem_eq(g_bytes_get_data(payload, NULL), "hello, hello, hello", 19);
	ck_assert_uint_eq(envelope.spec_version, 2);
	ck_assert_int_eq(envelope.kind, FIRN_KIND_SNAPSHOT);
	ck_assert_mem_eq(data,
			 "ICE\xF0\x9F\xA7\x8A"
			 "CHUNK"
			 "firn-" FIRN_VERSION " ",
			 18 + strlen(FIRN_VERSION));
	ck_assert_mem_eq(data + 35, " \x02\x01\x01\x28\xb5\x2f\xfd", 8);
	ck_assert_uint_eq(ZSTD_getFrameContentSize(data + 39, g_bytes_get_size(file) - 39), 19);
}
END_TEST

START_TEST(seal__large__is_one_frame_with_size)
{
	size_t size = 20u << 20;
	g_autofree uint8_t *data = g_malloc(size);
	g_autoptr(GBytes) file = NULL;
	g_autoptr(GBytes) payload = NULL;
	const uint8_t *frame;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i * i >> 7);
	file = firn_envelope_seal(&snapshot_kind, (FirnSpan){ data, size }, 1);
	frame = (const uint8_t *)g_bytes_get_data(file, NULL) + FIRN_ENVELOPE_SIZE;
	ck_assert_uint_eq(ZSTD_getFrameContentSize(frame, g_bytes_get_size(file) - 39), size);
	ck_assert_uint_eq(ZSTD_findFrameCompressedSize(frame, g_bytes_get_size(file) - 39),
			  g_bytes_get_size(file) - 39);
	payload = firn_envelope_open(file, size, NULL, NULL);
	ck_assert_ptr_nonnull(payload);
	ck_assert_mem_eq(g_bytes_get_data(payload, NULL), data, size);
}
END_TEST

START_TEST(seal__parts__are_one_payload)
{
	static const size_t sizes[] = { 0, 5, 3000000, 1, 0, 14000000, 0 };
	FirnSpan parts[G_N_ELEMENTS(sizes)];
	size_t size = 17000006;
	g_autofree uint8_t *data = g_malloc(size);
	size_t at = 0;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i * i >> 7);
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		parts[i] = (FirnSpan){ data + at, sizes[i] };
		at += sizes[i];
	}
	ck_assert_uint_eq(at, size);
	for (int alone = 0; alone < 2; alone++) {
		g_autoptr(GBytes) file =
			firn_envelope_seal_parts(&snapshot_kind, parts, G_N_ELEMENTS(parts), 3,
						 alone == 1);
		g_autoptr(GBytes) payload = firn_envelope_open(file, size, NULL, NULL);
		const uint8_t *frame =
			(const uint8_t *)g_bytes_get_data(file, NULL) + FIRN_ENVELOPE_SIZE;

		ck_assert_uint_eq(ZSTD_getFrameContentSize(frame, g_bytes_get_size(file) - 39),
				  size);
		ck_assert_ptr_nonnull(payload);
		ck_assert_uint_eq(g_bytes_get_size(payload), size);
		ck_assert_mem_eq(g_bytes_get_data(payload, NULL), data, size);
	}
}
END_TEST

START_TEST(open__every_truncation__is_refused)
{
	g_autoptr(GBytes) file = seal_text("a payload that is cut short somewhere");

	for (size_t n = 0; n < g_bytes_get_size(file); n++) {
		g_autoptr(GBytes) cut = g_bytes_new(g_bytes_get_data(file, NULL), n);
		g_autoptr(GError) error = NULL;

		ck_assert_ptr_null(firn_envelope_open(cut, 1000, NULL, &error));
		ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT);
	}
}
END_TEST

START_TEST(open__every_byte_changed__is_refused_or_within_limit)
{
	g_autoptr(GBytes) file = seal_text("a payload, a payload, a payload of a file");
	size_t size = g_bytes_get_size(file);

	for (size_t i = 0; i < size * 8; i++) {
		g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(file, NULL), size);
		g_autoptr(GBytes) changed = NULL;
		g_autoptr(GBytes) payload = NULL;
		g_autoptr(GError) error = NULL;

		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		changed = g_bytes_new(copy, size);
		payload = firn_envelope_open(changed, 100, NULL, &error);
		ck_assert((payload == NULL) == (error != NULL));
		ck_assert(payload == NULL || g_bytes_get_size(payload) <= 100);
	}
}
END_TEST

START_TEST(open__header_of_another_kind__is_refused)
{
	char frame[64];
	size_t n = ZSTD_compress(frame, sizeof frame, "x", 1, 3);

	assert_refused(file_of(3, 1, 1, frame, n), 100, FIRN_ERROR_UNSUPPORTED);
	assert_refused(file_of(0, 1, 1, frame, n), 100, FIRN_ERROR_UNSUPPORTED);
	assert_refused(file_of(2, 1, 2, frame, n), 100, FIRN_ERROR_UNSUPPORTED);
	assert_refused(file_of(2, 3, 1, frame, n), 100, FIRN_ERROR_FORMAT);
	assert_refused(file_of(2, 0, 1, frame, n), 100, FIRN_ERROR_FORMAT);
}
END_TEST

START_TEST(open__more_than_one_frame__is_refused)
{
	char frames[128];
	size_t n = ZSTD_compress(frames, 64, "x", 1, 3);

	memcpy(frames + n, frames, n);
	assert_refused(file_of(2, 1, 1, frames, 2 * n), 100, FIRN_ERROR_FORMAT);
	frames[n] = 'g';
	assert_refused(file_of(2, 1, 1, frames, n + 1), 100, FIRN_ERROR_FORMAT);
	/* A skippable frame alone is no content either. */
	assert_refused(file_of(2, 1, 1, "\x50\x2a\x4d\x18\x01\0\0\0z", 9), 100, FIRN_ERROR_FORMAT);
}
END_TEST

START_TEST(open__limit__holds_at_size_and_not_below)
{
	g_autoptr(GBytes) file = seal_text("0123456789");
	g_autoptr(GBytes) payload = firn_envelope_open(file, 10, NULL, NULL);
	g_autoptr(GError) error = NULL;

	ck_assert_ptr_nonnull(payload);
	ck_assert_ptr_null(firn_envelope_open(file, 9, NULL, &error));
	ck_assert_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT);
}
END_TEST

START_TEST(open__declared_size_that_cannot_be__is_refused_without_allocation)
{
	/* Single segment, 8-byte content size of 2^30, one empty last block. */
	static const char frame[] = "\x28\xb5\x2f\xfd\xe0\0\0\0\x40\0\0\0\0\x01\0\0";

	assert_refused(file_of(2, 1, 1, frame, 16), 0x7fffffff, FIRN_ERROR_FORMAT);
}
END_TEST

/* What older releases write: a frame that does not tell its size. */
static GByteArray *
streamed(const uint8_t *data, size_t size)
{
	size_t bound = ZSTD_compressBound(size);
	g_autofree uint8_t *frame = g_malloc(bound);
	ZSTD_CCtx *cctx = ZSTD_createCCtx();
	size_t n;

	ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
	n = ZSTD_compress2(cctx, frame, bound, data, size);
	ZSTD_freeCCtx(cctx);
	ck_assert_uint_eq(ZSTD_getFrameContentSize(frame, n), ZSTD_CONTENTSIZE_UNKNOWN);
	return file_of(1, 2, 1, frame, n);
}

START_TEST(open__streamed_frame__is_read_up_to_the_limit)
{
	static const size_t sizes[] = { 0, 1, 1000, 65535, 65536, 65537, 131072, 1000000 };
	size_t size = sizes[_i];
	g_autofree uint8_t *data = g_malloc0(size + 1);
	g_autoptr(GByteArray) file = NULL;
	g_autoptr(GBytes) payload = NULL;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i >> 4);
	file = streamed(data, size);
	payload = open_array(file, MAX(size, 1u), NULL);
	ck_assert_ptr_nonnull(payload);
	ck_assert_uint_eq(g_bytes_get_size(payload), size);
	if (size > 0)
		ck_assert_mem_eq(g_bytes_get_data(payload, NULL), data, size);
	if (size > 1)
		assert_refused(streamed(data, size), size - 1, FIRN_ERROR_LIMIT);
}
END_TEST

/* One block of a repeated byte is four bytes. */
static GByteArray *
bomb(uint64_t size, bool tells)
{
	GByteArray *frame = g_byte_array_new();
	GByteArray *file;

	g_byte_array_append(frame, (const uint8_t *)"\x28\xb5\x2f\xfd", 4);
	if (tells) {
		g_byte_array_append(frame, (const uint8_t *)"\xe0", 1);
		g_byte_array_append(frame, (const uint8_t *)&size, sizeof size);
	} else {
		g_byte_array_append(frame, (const uint8_t *)"\0\x58", 2);
	}
	for (uint64_t left = size; left > 0;) {
		uint32_t n = (uint32_t)MIN(left, (uint64_t)128 * 1024);
		uint32_t head = n << 3 | 1u << 1 | (left == n);

		left -= n;
		g_byte_array_append(frame, (const uint8_t *)&head, 3);
		g_byte_array_append(frame, (const uint8_t *)"", 1);
	}
	file = file_of(2, 2, 1, (const char *)frame->data, frame->len);
	g_byte_array_unref(frame);
	return file;
}

START_TEST(open__bomb__is_refused)
{
	const uint64_t free_size = (uint64_t)64 << 20;
	bool tells = _i == 1;
	g_autoptr(GByteArray) file = bomb(free_size, tells);
	g_autoptr(GBytes) payload = open_array(file, 0x7fffffff, NULL);

	ck_assert_ptr_nonnull(payload);
	ck_assert_uint_eq(g_bytes_get_size(payload), free_size);
	assert_refused(bomb(free_size + 1, tells), 0x7fffffff, FIRN_ERROR_LIMIT);
	assert_refused(bomb((uint64_t)0x7fffffff, tells), 0x7fffffff, FIRN_ERROR_LIMIT);
}
END_TEST

START_TEST(open__uncompressed__shares_memory)
{
	g_autoptr(GByteArray) array = file_of(2, 6, 0, "plain", 5);
	g_autoptr(GBytes) file = g_bytes_new_static(array->data, array->len);
	g_autoptr(GBytes) payload = firn_envelope_open(file, 5, NULL, NULL);

	ck_assert_ptr_nonnull(payload);
	ck_assert_ptr_eq(g_bytes_get_data(payload, NULL), array->data + FIRN_ENVELOPE_SIZE);
	ck_assert_uint_eq(g_bytes_get_size(payload), 5);
	assert_refused(file_of(2, 6, 0, "plain", 5), 4, FIRN_ERROR_LIMIT);
}
END_TEST

static Suite *
envelope_suite(void)
{
	Suite *s = suite_create("envelope");
	TCase *tc = tcase_create("envelope");

	tcase_add_test(tc, seal__text__opens_again);
	tcase_add_test(tc, seal__large__is_one_frame_with_size);
	tcase_add_test(tc, seal__parts__are_one_payload);
	tcase_add_test(tc, open__every_truncation__is_refused);
	tcase_add_test(tc, open__every_byte_changed__is_refused_or_within_limit);
	tcase_add_test(tc, open__header_of_another_kind__is_refused);
	tcase_add_test(tc, open__more_than_one_frame__is_refused);
	tcase_add_test(tc, open__limit__holds_at_size_and_not_below);
	tcase_add_test(tc, open__declared_size_that_cannot_be__is_refused_without_allocation);
	tcase_add_loop_test(tc, open__streamed_frame__is_read_up_to_the_limit, 0, 8);
	tcase_add_loop_test(tc, open__bomb__is_refused, 0, 2);
	tcase_add_test(tc, open__uncompressed__shares_memory);
	suite_add_tcase(s, tc);
	return s;
}

TEST_MAIN(envelope_suite)
