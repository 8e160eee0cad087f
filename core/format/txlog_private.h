#ifndef FIRN_CORE_FORMAT_TXLOG_PRIVATE_H
#define FIRN_CORE_FORMAT_TXLOG_PRIVATE_H

#include "core/format/txlog.h"

/* What the two files of transaction logs share. */

/* Field ids, as the schema numbers them. */
enum {
	FIRN_LOG_ID,
	FIRN_LOG_LISTS,
	FIRN_LOG_CHUNKS = FIRN_LOG_LISTS + FIRN_TXLOG_N_LISTS,
	FIRN_LOG_MOVES
};
enum {
	FIRN_LOG_ARRAY_NODE,
	FIRN_LOG_ARRAY_CHUNKS
};
enum {
	FIRN_LOG_CHUNK_COORDS
};
enum {
	FIRN_LOG_MOVE_FROM,
	FIRN_LOG_MOVE_TO,
	FIRN_LOG_MOVE_NODE,
	FIRN_LOG_MOVE_TYPE
};

/* Not the numbers of the snapshot's union. */
enum {
	FIRN_LOG_MOVED_GROUP = 0,
	FIRN_LOG_MOVED_ARRAY = 1
};

/* Whether a list of nodes is as it has to be. */
static inline bool
firn_log_ids_ascend(const FirnId8 *ids, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (firn_id8_compare(&ids[i - 1], &ids[i]) >= 0)
			return false;
	return true;
}

#endif
