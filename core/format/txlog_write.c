#include "core/base/error.h"
#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"
#include "core/format/payload.h"
#include "core/format/txlog_private.h"

#include <string.h>

/* One table a chunk: what the official reader takes. */
#define MAX_CHUNKS 50000000u

/*
 * The chunks of a log are a table each, all alike: vtable, soffset, offset of the
 * vector right behind it, its count, the coordinates.  With a vtable for each
 * they differ in nothing but coordinates, and zstd needs half the time.  Where
 * everything lies is known beforehand, so they are made a block at a time, on
 * their way to zstd: a log of ten million chunks would take 280 MB otherwise.
 */
#define VTABLE_SIZE 8u
#define HEAD_SIZE   12u
#define BLOCK_SIZE  ((size_t)256 * 1024)

typedef struct {
	FirnEnvelopeStream *stream;
	uint8_t *block;
	size_t len;
} Output;

static void
assert_sorted(const FirnTxlogContent *c)
{
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		g_assert(firn_log_ids_ascend(c->ids[list], c->n_ids[list]));
	for (size_t i = 0; i < c->n_arrays; i++) {
		const FirnTxlogArray *a = &c->arrays[i];

		g_assert(a->rank <= FIRN_MAX_RANK);
		g_assert(i == 0 || firn_id8_compare(&a[-1].node, &a->node) < 0);
		for (size_t k = 1; k < a->n_chunks; k++)
			g_assert(firn_coords_compare(a->coords + (k - 1) * a->rank,
						     a->coords + k * a->rank, a->rank) < 0);
	}
}

/* ---- chunks ---- */

static size_t
row_size(const FirnTxlogArray *array)
{
	return VTABLE_SIZE + HEAD_SIZE + sizeof(uint32_t) * (size_t)array->rank;
}

/* The vector of offsets and the tables. */
static uint64_t
chunks_size(const FirnTxlogArray *array)
{
	return 4 + (uint64_t)array->n_chunks * (4 + row_size(array));
}

/* Room for `size` bytes, at most BLOCK_SIZE, that go out next. */
static uint8_t *
put(Output *out, size_t size)
{
	uint8_t *at;

	if (out->len + size > BLOCK_SIZE) {
		firn_envelope_stream_add(out->stream, (FirnSpan){ out->block, out->len });
		out->len = 0;
	}
	at = out->block + out->len;
	out->len += size;
	return at;
}

static void
put32(Output *out, uint64_t value)
{
	uint32_t v = (uint32_t)value;

	memcpy(put(out, sizeof v), &v, sizeof v);
}

static void
put_chunks(Output *out, const FirnTxlogArray *array)
{
	static const uint16_t vtable[VTABLE_SIZE / 2] = { 6, 8, 4, 0 };
	const uint32_t head[HEAD_SIZE / 4] = { VTABLE_SIZE, 4, array->rank };
	size_t row = row_size(array), bytes = row - VTABLE_SIZE - HEAD_SIZE;
	/* From the first offset to the first table. */
	uint64_t to_first = (uint64_t)array->n_chunks * 4 + VTABLE_SIZE;

	put32(out, array->n_chunks);
	for (size_t i = 0; i < array->n_chunks; i++)
		put32(out, to_first + i * (row - 4));
	for (size_t i = 0; i < array->n_chunks; i++) {
		uint8_t *at = put(out, row);

		memcpy(at, vtable, sizeof vtable);
		memcpy(at + sizeof vtable, head, sizeof head);
		if (bytes > 0)
			memcpy(at + sizeof vtable + sizeof head, array->coords + i * array->rank,
			       bytes);
	}
}

/* ---- what comes before them ---- */

static size_t
build_moves(FirnFlatBuilder *b, const FirnTxlogContent *c)
{
	size_t vector = firn_flat_build_offsets(b, c->n_moves);

	for (size_t i = 0; i < c->n_moves; i++) {
		const FirnMove *move = &c->moves[i];
		FirnFlatRow row = { 0 };
		size_t table;

		firn_flat_row_child(&row, FIRN_LOG_MOVE_FROM);
		firn_flat_row_child(&row, FIRN_LOG_MOVE_TO);
		firn_flat_row_id8(&row, FIRN_LOG_MOVE_NODE, &move->node);
		if (move->kind == FIRN_NODE_ARRAY)
			firn_flat_row_u8(&row, FIRN_LOG_MOVE_TYPE, FIRN_LOG_MOVED_ARRAY);
		table = firn_flat_build_table(b, &row);
		firn_flat_link_item(b, vector, i, table);
		firn_flat_link(b, table, FIRN_LOG_MOVE_FROM, firn_flat_build_string(b, move->from));
		firn_flat_link(b, table, FIRN_LOG_MOVE_TO, firn_flat_build_string(b, move->to));
	}
	return vector;
}

/* Let the tables of arrays refer to their chunks, which will lie behind all else. */
static void
link_arrays(FirnFlatBuilder *b, const FirnTxlogContent *c, const size_t *tables)
{
	uint64_t at = firn_flat_builder_len(b);

	for (size_t i = 0; i < c->n_arrays; i++) {
		FirnSpan span = { firn_flat_builder_at(b, 0), firn_flat_builder_len(b) };
		size_t field = tables[i] + firn_flat_slot(span, tables[i], FIRN_LOG_ARRAY_CHUNKS);
		uint32_t offset = (uint32_t)(at - field);

		memcpy(firn_flat_builder_at(b, field), &offset, sizeof offset);
		at += chunks_size(&c->arrays[i]);
	}
}

static size_t
build_arrays(FirnFlatBuilder *b, const FirnTxlogContent *c, size_t *tables)
{
	size_t vector = firn_flat_build_offsets(b, c->n_arrays);

	for (size_t i = 0; i < c->n_arrays && !firn_flat_builder_failed(b); i++) {
		FirnFlatRow row = { 0 };

		firn_flat_row_id8(&row, FIRN_LOG_ARRAY_NODE, &c->arrays[i].node);
		firn_flat_row_child(&row, FIRN_LOG_ARRAY_CHUNKS);
		tables[i] = firn_flat_build_table(b, &row);
		firn_flat_link_item(b, vector, i, tables[i]);
	}
	return vector;
}

/* All but the chunks. */
static GBytes *
build_head(const FirnTxlogContent *c, GError **error)
{
	g_autofree size_t *tables = g_new0(size_t, MAX(c->n_arrays, 1));
	FirnFlatBuilder *b = firn_flat_builder_new(0);
	FirnFlatRow row = { 0 };
	size_t root;

	firn_flat_row_id12(&row, FIRN_LOG_ID, &c->id);
	for (unsigned id = FIRN_LOG_LISTS; id <= FIRN_LOG_MOVES; id++)
		firn_flat_row_child(&row, id);
	root = firn_flat_build_root(b, &row);
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		firn_flat_link(b, root, FIRN_LOG_LISTS + list,
			       firn_flat_build_vector(b, c->ids[list], c->n_ids[list],
						      sizeof(FirnId8), 1));
	firn_flat_link(b, root, FIRN_LOG_MOVES, build_moves(b, c));
	firn_flat_link(b, root, FIRN_LOG_CHUNKS, build_arrays(b, c, tables));
	/* Vectors begin at multiples of four. */
	(void)firn_flat_build_reserve(b, 0, 0, 4);
	if (!firn_flat_builder_failed(b))
		link_arrays(b, c, tables);
	return firn_flat_builder_finish(b, error);
}

/* ---- the whole ---- */

static bool
check_count(const FirnTxlogContent *c, GError **error)
{
	uint64_t tables = 1 + c->n_moves + c->n_arrays;

	for (size_t i = 0; i < c->n_arrays; i++)
		tables += c->arrays[i].n_chunks;
	if (tables <= MAX_CHUNKS)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
		    "one commit cannot change more than %u chunks; this one has %" G_GUINT64_FORMAT
		    ": commit in several steps",
		    MAX_CHUNKS, tables);
	return false;
}

/* Bytes of the payload; 0 with LIMIT: more than the format allows. */
static uint64_t
payload_size(const FirnTxlogContent *c, GBytes *head, GError **error)
{
	uint64_t size = g_bytes_get_size(head);

	for (size_t i = 0; i < c->n_arrays; i++)
		size += chunks_size(&c->arrays[i]);
	if (size <= FIRN_FLAT_MAX_SIZE)
		return size;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
		    "the transaction log would be larger than the %u bytes the format allows: "
		    "commit in several steps",
		    FIRN_FLAT_MAX_SIZE);
	return 0;
}

GBytes *
firn_txlog_encode(const FirnTxlogContent *c, int level, GError **error)
{
	static const FirnEnvelope envelope = { 2, FIRN_KIND_TXLOG };
	g_autofree uint8_t *block = NULL;
	g_autoptr(GBytes) head = NULL;
	Output out = { .len = 0 };
	uint64_t size;

	if (!check_count(c, error))
		return NULL;
	assert_sorted(c);
	head = build_head(c, error);
	if (head == NULL) {
		g_prefix_error(error, "transaction log: ");
		return NULL;
	}
	size = payload_size(c, head, error);
	if (size == 0)
		return NULL;
	block = g_malloc(BLOCK_SIZE);
	out.block = block;
	out.stream = firn_envelope_stream_new(&envelope, (size_t)size, level);
	firn_envelope_stream_add(out.stream, firn_payload_span(head));
	for (size_t i = 0; i < c->n_arrays; i++)
		put_chunks(&out, &c->arrays[i]);
	firn_envelope_stream_add(out.stream, (FirnSpan){ out.block, out.len });
	return firn_envelope_stream_finish(out.stream);
}
