#include "core/format/txlog.h"

#include "core/base/error.h"
#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/format/envelope.h"
#include "core/format/payload.h"

#include <string.h>

/* Field ids, as the schema numbers them. */
enum {
	LOG_ID,
	LOG_LISTS,
	LOG_CHUNKS = LOG_LISTS + FIRN_TXLOG_N_LISTS,
	LOG_MOVES
};
enum {
	ARRAY_NODE,
	ARRAY_CHUNKS
};
enum {
	CHUNK_COORDS
};
enum {
	MOVE_FROM,
	MOVE_TO,
	MOVE_NODE,
	MOVE_TYPE
};

/* Not the numbers of the snapshot's union. */
enum {
	MOVED_GROUP = 0,
	MOVED_ARRAY = 1
};

/* One table a chunk: what the official reader takes. */
#define MAX_CHUNKS 50000000u

static const FirnFlatField chunk_fields[] = {
	[CHUNK_COORDS] = FIRN_FLAT_VECTOR_FIELD("coords", 4, 4, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable chunk_table = FIRN_FLAT_TABLE("ChunkIndices", chunk_fields);

static const FirnFlatField array_fields[] = {
	[ARRAY_NODE] = FIRN_FLAT_STRUCT_FIELD("node_id", 8, FIRN_FLAT_REQUIRED),
	[ARRAY_CHUNKS] = FIRN_FLAT_TABLES_FIELD("chunks", &chunk_table, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable array_table = FIRN_FLAT_TABLE("ArrayUpdatedChunks", array_fields);

static const FirnFlatField move_fields[] = {
	[MOVE_FROM] = FIRN_FLAT_STRING_FIELD("from", FIRN_FLAT_REQUIRED),
	[MOVE_TO] = FIRN_FLAT_STRING_FIELD("to", FIRN_FLAT_REQUIRED),
	[MOVE_NODE] = FIRN_FLAT_STRUCT_FIELD("node_id", 8, FIRN_FLAT_REQUIRED),
	[MOVE_TYPE] = FIRN_FLAT_SCALAR_FIELD("node_type", 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable move_table = FIRN_FLAT_TABLE("MoveOperation", move_fields);

#define IDS_FIELD(name) FIRN_FLAT_VECTOR_FIELD(name, 8, 1, FIRN_FLAT_REQUIRED)
static const FirnFlatField log_fields[] = {
	[LOG_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[LOG_LISTS + FIRN_TXLOG_NEW_GROUPS] = IDS_FIELD("new_groups"),
	[LOG_LISTS + FIRN_TXLOG_NEW_ARRAYS] = IDS_FIELD("new_arrays"),
	[LOG_LISTS + FIRN_TXLOG_DELETED_GROUPS] = IDS_FIELD("deleted_groups"),
	[LOG_LISTS + FIRN_TXLOG_DELETED_ARRAYS] = IDS_FIELD("deleted_arrays"),
	[LOG_LISTS + FIRN_TXLOG_UPDATED_ARRAYS] = IDS_FIELD("updated_arrays"),
	[LOG_LISTS + FIRN_TXLOG_UPDATED_GROUPS] = IDS_FIELD("updated_groups"),
	[LOG_CHUNKS] = FIRN_FLAT_TABLES_FIELD("updated_chunks", &array_table, FIRN_FLAT_REQUIRED),
	[LOG_MOVES] = FIRN_FLAT_TABLES_FIELD("moved_nodes", &move_table, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable log_table = FIRN_FLAT_TABLE("TransactionLog", log_fields);

struct FirnTxlog {
	gint refs;
	GBytes *payload;
	FirnSpan b;
	size_t root;
	size_t arrays;
	size_t moves; /* 0: absent, as in logs of the 1.x library */
};

static bool
bad(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "damaged transaction log: %s", what);
	return false;
}

static bool
ids_ascend(const FirnId8 *ids, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (firn_id8_compare(&ids[i - 1], &ids[i]) >= 0)
			return false;
	return true;
}

/* ---- opening ---- */

static const FirnId8 *
array_node(const FirnTxlog *t, size_t index)
{
	return firn_flat_get_id8(t->b, firn_flat_item(t->b, t->arrays, (uint32_t)index),
				 ARRAY_NODE);
}

static bool
check_arrays(const FirnTxlog *t, GError **error)
{
	for (uint32_t i = 0; i < firn_flat_count(t->b, t->arrays); i++) {
		size_t array = firn_flat_item(t->b, t->arrays, i);
		size_t chunks = firn_flat_get_child(t->b, array, ARRAY_CHUNKS);

		if (i > 0 && firn_id8_compare(array_node(t, i - 1), array_node(t, i)) >= 0)
			return bad(error, "the arrays are out of order");
		for (uint32_t k = 0; k < firn_flat_count(t->b, chunks); k++) {
			size_t chunk = firn_flat_item(t->b, chunks, k);
			size_t coords = firn_flat_get_child(t->b, chunk, CHUNK_COORDS);

			if (firn_flat_count(t->b, coords) > FIRN_MAX_RANK)
				return bad(error, "a chunk has too many dimensions");
		}
	}
	return true;
}

static bool
check_log(const FirnTxlog *t, GError **error)
{
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(t, (FirnTxlogList)list, &n);

		if (!ids_ascend(ids, n))
			return bad(error, "the nodes are out of order");
	}
	for (uint32_t i = 0; i < firn_flat_count(t->b, t->moves); i++) {
		size_t move = firn_flat_item(t->b, t->moves, i);

		if (firn_flat_get_u8(t->b, move, MOVE_TYPE, MOVED_GROUP) > MOVED_ARRAY)
			return bad(error, "a moved node is of an unknown kind");
	}
	return check_arrays(t, error);
}

FirnTxlog *
firn_txlog_open(GBytes *file, GError **error)
{
	g_autoptr(FirnTxlog) t = NULL;
	GBytes *payload = firn_payload_open(file, FIRN_KIND_TXLOG, &log_table,
					    FIRN_PAYLOAD_MAX_TABLES, NULL, error);

	if (payload == NULL)
		return NULL;
	t = g_new0(FirnTxlog, 1);
	t->refs = 1;
	t->payload = payload;
	t->b = firn_payload_span(payload);
	t->root = firn_flat_root(t->b);
	t->arrays = firn_flat_get_child(t->b, t->root, LOG_CHUNKS);
	t->moves = firn_flat_get_child(t->b, t->root, LOG_MOVES);
	return check_log(t, error) ? g_steal_pointer(&t) : NULL;
}

FirnTxlog *
firn_txlog_ref(FirnTxlog *t)
{
	g_atomic_int_inc(&t->refs);
	return t;
}

void
firn_txlog_unref(FirnTxlog *t)
{
	if (t == NULL || !g_atomic_int_dec_and_test(&t->refs))
		return;
	g_bytes_unref(t->payload);
	g_free(t);
}

/* ---- reading ---- */

const FirnId12 *
firn_txlog_id(const FirnTxlog *t)
{
	return firn_flat_get_id12(t->b, t->root, LOG_ID);
}

const FirnId8 *
firn_txlog_ids(const FirnTxlog *t, FirnTxlogList list, size_t *out_count)
{
	size_t vector;

	g_assert(list < FIRN_TXLOG_N_LISTS);
	vector = firn_flat_get_child(t->b, t->root, LOG_LISTS + (unsigned)list);
	*out_count = firn_flat_count(t->b, vector);
	return (const FirnId8 *)firn_flat_items(t->b, vector);
}

bool
firn_txlog_has_id(const FirnTxlog *t, FirnTxlogList list, const FirnId8 *id)
{
	size_t low = 0;
	size_t high;
	const FirnId8 *ids = firn_txlog_ids(t, list, &high);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = firn_id8_compare(&ids[middle], id);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

size_t
firn_txlog_n_arrays(const FirnTxlog *t)
{
	return firn_flat_count(t->b, t->arrays);
}

static size_t
array_chunks(const FirnTxlog *t, size_t index)
{
	size_t array;

	g_assert(index < firn_txlog_n_arrays(t));
	array = firn_flat_item(t->b, t->arrays, (uint32_t)index);
	return firn_flat_get_child(t->b, array, ARRAY_CHUNKS);
}

void
firn_txlog_array(const FirnTxlog *t, size_t index, FirnId8 *out_node, size_t *out_n_chunks)
{
	*out_n_chunks = firn_flat_count(t->b, array_chunks(t, index));
	*out_node = *array_node(t, index);
}

bool
firn_txlog_find_array(const FirnTxlog *t, const FirnId8 *node, size_t *out_index)
{
	size_t low = 0;
	size_t high = firn_txlog_n_arrays(t);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = firn_id8_compare(array_node(t, middle), node);

		if (order == 0) {
			*out_index = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

const uint32_t *
firn_txlog_chunk(const FirnTxlog *t, size_t index, size_t i, uint32_t *out_rank)
{
	size_t chunks = array_chunks(t, index);
	size_t coords;

	g_assert(i < firn_flat_count(t->b, chunks));
	coords = firn_flat_get_child(t->b, firn_flat_item(t->b, chunks, (uint32_t)i), CHUNK_COORDS);
	*out_rank = firn_flat_count(t->b, coords);
	/* Verified to be 4-aligned in a payload that is 8-aligned. */
	return (const uint32_t *)(const void *)firn_flat_items(t->b, coords);
}

size_t
firn_txlog_n_moves(const FirnTxlog *t)
{
	return firn_flat_count(t->b, t->moves);
}

void
firn_txlog_move(const FirnTxlog *t, size_t index, FirnMove *out_move)
{
	size_t move;
	uint8_t type;

	g_assert(index < firn_txlog_n_moves(t));
	move = firn_flat_item(t->b, t->moves, (uint32_t)index);
	type = firn_flat_get_u8(t->b, move, MOVE_TYPE, MOVED_GROUP);
	*out_move = (FirnMove){
		.from = firn_flat_get_bytes(t->b, move, MOVE_FROM),
		.to = firn_flat_get_bytes(t->b, move, MOVE_TO),
		.node = *firn_flat_get_id8(t->b, move, MOVE_NODE),
		.kind = type == MOVED_ARRAY ? FIRN_NODE_ARRAY : FIRN_NODE_GROUP,
	};
}

/* ---- writing ---- */

static void
assert_sorted(const FirnTxlogContent *c)
{
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		g_assert(ids_ascend(c->ids[list], c->n_ids[list]));
	for (size_t i = 0; i < c->n_arrays; i++) {
		const FirnTxlogArray *a = &c->arrays[i];

		g_assert(a->rank <= FIRN_MAX_RANK);
		g_assert(i == 0 || firn_id8_compare(&a[-1].node, &a->node) < 0);
		for (size_t k = 1; k < a->n_chunks; k++)
			g_assert(firn_coords_compare(a->coords + (k - 1) * a->rank,
						     a->coords + k * a->rank, a->rank) < 0);
	}
}

/*
 * Millions of equal tables, laid out by hand: vtable, soffset, offset of the
 * vector right behind it, its count, the coordinates.  With a vtable for each
 * they differ in nothing but coordinates, and zstd needs half the time.
 */
static void
build_chunks(FirnFlatBuilder *b, size_t chunks, const FirnTxlogArray *array)
{
	static const uint16_t vtable[4] = { 6, 8, 4, 0 };
	const uint32_t head[3] = { sizeof vtable, 4, array->rank };
	size_t bytes = sizeof(uint32_t) * array->rank;

	for (size_t i = 0; i < array->n_chunks && !firn_flat_builder_failed(b); i++) {
		size_t row = firn_flat_build_reserve(b, sizeof vtable + sizeof head + bytes, 0, 4);
		uint8_t *at;

		if (row == 0)
			return;
		firn_flat_link_item(b, chunks, i, row + sizeof vtable);
		at = firn_flat_builder_at(b, row);
		memcpy(at, vtable, sizeof vtable);
		memcpy(at + sizeof vtable, head, sizeof head);
		if (bytes > 0)
			memcpy(at + sizeof vtable + sizeof head, array->coords + i * array->rank,
			       bytes);
	}
}

static size_t
build_arrays(FirnFlatBuilder *b, const FirnTxlogContent *c)
{
	size_t vector = firn_flat_build_offsets(b, c->n_arrays);

	for (size_t i = 0; i < c->n_arrays && !firn_flat_builder_failed(b); i++) {
		FirnFlatRow row = { 0 };
		size_t table, chunks;

		firn_flat_row_id8(&row, ARRAY_NODE, &c->arrays[i].node);
		firn_flat_row_child(&row, ARRAY_CHUNKS);
		table = firn_flat_build_table(b, &row);
		firn_flat_link_item(b, vector, i, table);
		chunks = firn_flat_build_offsets(b, c->arrays[i].n_chunks);
		firn_flat_link(b, table, ARRAY_CHUNKS, chunks);
		build_chunks(b, chunks, &c->arrays[i]);
	}
	return vector;
}

static size_t
build_moves(FirnFlatBuilder *b, const FirnTxlogContent *c)
{
	size_t vector = firn_flat_build_offsets(b, c->n_moves);

	for (size_t i = 0; i < c->n_moves; i++) {
		const FirnMove *move = &c->moves[i];
		FirnFlatRow row = { 0 };
		size_t table;

		firn_flat_row_child(&row, MOVE_FROM);
		firn_flat_row_child(&row, MOVE_TO);
		firn_flat_row_id8(&row, MOVE_NODE, &move->node);
		if (move->kind == FIRN_NODE_ARRAY)
			firn_flat_row_u8(&row, MOVE_TYPE, MOVED_ARRAY);
		table = firn_flat_build_table(b, &row);
		firn_flat_link_item(b, vector, i, table);
		firn_flat_link(b, table, MOVE_FROM, firn_flat_build_string(b, move->from));
		firn_flat_link(b, table, MOVE_TO, firn_flat_build_string(b, move->to));
	}
	return vector;
}

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

/* All but what paths and padding take, which is little. */
static size_t
payload_size(const FirnTxlogContent *c)
{
	size_t size = 1024 + 256 * c->n_moves + 64 * c->n_arrays;

	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		size += sizeof(FirnId8) * c->n_ids[list];
	for (size_t i = 0; i < c->n_arrays; i++)
		size += c->arrays[i].n_chunks *
			(4 + 8 + 12 + sizeof(uint32_t) * (size_t)c->arrays[i].rank);
	return size;
}

GBytes *
firn_txlog_encode(const FirnTxlogContent *c, int level, GError **error)
{
	static const FirnEnvelope envelope = { 2, FIRN_KIND_TXLOG };
	g_autoptr(GBytes) payload = NULL;
	FirnFlatBuilder *b;
	FirnFlatRow row = { 0 };
	size_t root;

	if (!check_count(c, error))
		return NULL;
	assert_sorted(c);
	b = firn_flat_builder_new(payload_size(c));
	firn_flat_row_id12(&row, LOG_ID, &c->id);
	for (unsigned id = LOG_LISTS; id <= LOG_MOVES; id++)
		firn_flat_row_child(&row, id);
	root = firn_flat_build_root(b, &row);
	for (unsigned list = 0; list < FIRN_TXLOG_N_LISTS; list++)
		firn_flat_link(b, root, LOG_LISTS + list,
			       firn_flat_build_vector(b, c->ids[list], c->n_ids[list],
						      sizeof(FirnId8), 1));
	firn_flat_link(b, root, LOG_MOVES, build_moves(b, c));
	firn_flat_link(b, root, LOG_CHUNKS, build_arrays(b, c));
	payload = firn_flat_builder_finish(b, error);
	if (payload == NULL) {
		g_prefix_error(error, "transaction log: ");
		return NULL;
	}
	return firn_envelope_seal(&envelope, firn_payload_span(payload), level);
}
