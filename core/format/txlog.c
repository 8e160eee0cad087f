#include "core/format/txlog.h"

#include "core/base/error.h"
#include "core/flat/reader.h"
#include "core/format/payload.h"
#include "core/format/txlog_private.h"

#include <string.h>

static const FirnFlatField chunk_fields[] = {
	[FIRN_LOG_CHUNK_COORDS] = FIRN_FLAT_VECTOR_FIELD("coords", 4, 4, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable chunk_table = FIRN_FLAT_TABLE("ChunkIndices", chunk_fields);

static const FirnFlatField array_fields[] = {
	[FIRN_LOG_ARRAY_NODE] = FIRN_FLAT_STRUCT_FIELD("node_id", 8, FIRN_FLAT_REQUIRED),
	[FIRN_LOG_ARRAY_CHUNKS] =
		FIRN_FLAT_TABLES_FIELD("chunks", &chunk_table, FIRN_FLAT_REQUIRED),
};
static const FirnFlatTable array_table = FIRN_FLAT_TABLE("ArrayUpdatedChunks", array_fields);

static const FirnFlatField move_fields[] = {
	[FIRN_LOG_MOVE_FROM] = FIRN_FLAT_STRING_FIELD("from", FIRN_FLAT_REQUIRED),
	[FIRN_LOG_MOVE_TO] = FIRN_FLAT_STRING_FIELD("to", FIRN_FLAT_REQUIRED),
	[FIRN_LOG_MOVE_NODE] = FIRN_FLAT_STRUCT_FIELD("node_id", 8, FIRN_FLAT_REQUIRED),
	[FIRN_LOG_MOVE_TYPE] = FIRN_FLAT_SCALAR_FIELD("node_type", 1, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable move_table = FIRN_FLAT_TABLE("MoveOperation", move_fields);

#define IDS_FIELD(name) FIRN_FLAT_VECTOR_FIELD(name, 8, 1, FIRN_FLAT_REQUIRED)
static const FirnFlatField log_fields[] = {
	[FIRN_LOG_ID] = FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_REQUIRED),
	[FIRN_LOG_LISTS + FIRN_TXLOG_NEW_GROUPS] = IDS_FIELD("new_groups"),
	[FIRN_LOG_LISTS + FIRN_TXLOG_NEW_ARRAYS] = IDS_FIELD("new_arrays"),
	[FIRN_LOG_LISTS + FIRN_TXLOG_DELETED_GROUPS] = IDS_FIELD("deleted_groups"),
	[FIRN_LOG_LISTS + FIRN_TXLOG_DELETED_ARRAYS] = IDS_FIELD("deleted_arrays"),
	[FIRN_LOG_LISTS + FIRN_TXLOG_UPDATED_ARRAYS] = IDS_FIELD("updated_arrays"),
	[FIRN_LOG_LISTS + FIRN_TXLOG_UPDATED_GROUPS] = IDS_FIELD("updated_groups"),
	[FIRN_LOG_CHUNKS] =
		FIRN_FLAT_TABLES_FIELD("updated_chunks", &array_table, FIRN_FLAT_REQUIRED),
	[FIRN_LOG_MOVES] = FIRN_FLAT_TABLES_FIELD("moved_nodes", &move_table, FIRN_FLAT_OPTIONAL),
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

/* ---- opening ---- */

static const FirnId8 *
array_node(const FirnTxlog *t, size_t index)
{
	return firn_flat_get_id8(t->b, firn_flat_item(t->b, t->arrays, (uint32_t)index),
				 FIRN_LOG_ARRAY_NODE);
}

static bool
check_arrays(const FirnTxlog *t, GError **error)
{
	for (uint32_t i = 0; i < firn_flat_count(t->b, t->arrays); i++) {
		size_t array = firn_flat_item(t->b, t->arrays, i);
		size_t chunks = firn_flat_get_child(t->b, array, FIRN_LOG_ARRAY_CHUNKS);

		if (i > 0 && firn_id8_compare(array_node(t, i - 1), array_node(t, i)) >= 0)
			return bad(error, "the arrays are out of order");
		for (uint32_t k = 0; k < firn_flat_count(t->b, chunks); k++) {
			size_t chunk = firn_flat_item(t->b, chunks, k);
			size_t coords = firn_flat_get_child(t->b, chunk, FIRN_LOG_CHUNK_COORDS);

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

		if (!firn_log_ids_ascend(ids, n))
			return bad(error, "the nodes are out of order");
	}
	for (uint32_t i = 0; i < firn_flat_count(t->b, t->moves); i++) {
		size_t move = firn_flat_item(t->b, t->moves, i);

		if (firn_flat_get_u8(t->b, move, FIRN_LOG_MOVE_TYPE, FIRN_LOG_MOVED_GROUP) >
		    FIRN_LOG_MOVED_ARRAY)
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
	t->arrays = firn_flat_get_child(t->b, t->root, FIRN_LOG_CHUNKS);
	t->moves = firn_flat_get_child(t->b, t->root, FIRN_LOG_MOVES);
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
	return firn_flat_get_id12(t->b, t->root, FIRN_LOG_ID);
}

const FirnId8 *
firn_txlog_ids(const FirnTxlog *t, FirnTxlogList list, size_t *out_count)
{
	size_t vector;

	g_assert(list < FIRN_TXLOG_N_LISTS);
	vector = firn_flat_get_child(t->b, t->root, FIRN_LOG_LISTS + (unsigned)list);
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
	return firn_flat_get_child(t->b, array, FIRN_LOG_ARRAY_CHUNKS);
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
	coords = firn_flat_get_child(t->b, firn_flat_item(t->b, chunks, (uint32_t)i),
				     FIRN_LOG_CHUNK_COORDS);
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
	type = firn_flat_get_u8(t->b, move, FIRN_LOG_MOVE_TYPE, FIRN_LOG_MOVED_GROUP);
	*out_move = (FirnMove){
		.from = firn_flat_get_bytes(t->b, move, FIRN_LOG_MOVE_FROM),
		.to = firn_flat_get_bytes(t->b, move, FIRN_LOG_MOVE_TO),
		.node = *firn_flat_get_id8(t->b, move, FIRN_LOG_MOVE_NODE),
		.kind = type == FIRN_LOG_MOVED_ARRAY ? FIRN_NODE_ARRAY : FIRN_NODE_GROUP,
	};
}
