#ifndef FIRN_CORE_FORMAT_TXLOG_H
#define FIRN_CORE_FORMAT_TXLOG_H

#include "core/format/types.h"

/*
 * Transaction log (file type 4): what one commit changed, by node id.
 * Immutable view, reference counted; any thread.
 */
typedef struct FirnTxlog FirnTxlog;

/* The id vectors, in the order of the format's field ids 1..6. */
typedef enum {
	FIRN_TXLOG_NEW_GROUPS,
	FIRN_TXLOG_NEW_ARRAYS,
	FIRN_TXLOG_DELETED_GROUPS,
	FIRN_TXLOG_DELETED_ARRAYS,
	FIRN_TXLOG_UPDATED_ARRAYS,
	FIRN_TXLOG_UPDATED_GROUPS,
	FIRN_TXLOG_N_LISTS,
} FirnTxlogList;

/* Errors: FORMAT, UNSUPPORTED, LIMIT.  Caller owns (firn_txlog_unref). */
FirnTxlog *firn_txlog_open(GBytes *file, GError **error) FIRN_MUST_USE;
FirnTxlog *firn_txlog_ref(FirnTxlog *txlog);
void firn_txlog_unref(FirnTxlog *txlog); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnTxlog, firn_txlog_unref)

const FirnId12 *firn_txlog_id(const FirnTxlog *txlog);
/* Ids of one list: `*out_count` packed ids, borrowed. */
const FirnId8 *firn_txlog_ids(const FirnTxlog *txlog, FirnTxlogList list, size_t *out_count);
bool firn_txlog_has_id(const FirnTxlog *txlog, FirnTxlogList list, const FirnId8 *id);

/* Arrays with changed chunks. */
size_t firn_txlog_n_arrays(const FirnTxlog *txlog);
void firn_txlog_array(const FirnTxlog *txlog, size_t index, FirnId8 *out_node,
		      size_t *out_n_chunks);
bool firn_txlog_find_array(const FirnTxlog *txlog, const FirnId8 *node, size_t *out_index);
/* Coordinates of changed chunk `i` of array `index`; 1.x logs may be unsorted.  Borrowed. */
const uint32_t *firn_txlog_chunk(const FirnTxlog *txlog, size_t index, size_t i,
				 uint32_t *out_rank);

typedef struct {
	FirnSpan from;
	FirnSpan to;
	FirnId8 node;
	FirnNodeKind kind;
} FirnMove;
size_t firn_txlog_n_moves(const FirnTxlog *txlog);
void firn_txlog_move(const FirnTxlog *txlog, size_t index, FirnMove *out_move);

/* ---- writing ---- */

typedef struct {
	FirnId8 node;
	uint32_t rank;
	size_t n_chunks;
	const uint32_t *coords; /* n_chunks * rank, strictly ascending (asserted) */
} FirnTxlogArray;

typedef struct {
	FirnId12 id;
	const FirnId8 *ids[FIRN_TXLOG_N_LISTS]; /* each strictly ascending (asserted) */
	size_t n_ids[FIRN_TXLOG_N_LISTS];
	const FirnTxlogArray *arrays; /* strictly ascending by node (asserted) */
	size_t n_arrays;
	const FirnMove *moves; /* by path components of `to`; used when logs are merged (amend) */
	size_t n_moves;
} FirnTxlogContent;

/* File bytes (envelope + zstd at `level`).  Errors: LIMIT (2^31 bytes, 50 million chunks). */
GBytes *firn_txlog_encode(const FirnTxlogContent *content, int level, GError **error) FIRN_MUST_USE;

#endif
