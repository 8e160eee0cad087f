#ifndef FIRN_CORE_VIEW_GROUP_H
#define FIRN_CORE_VIEW_GROUP_H

#include "core/view/internal.h"

/* Several records, or none.  The view lock is held all along. */

void firn_group_begin(FirnView *view);
/* With `failed`, which it returns, what was recorded since is taken back. */
int firn_group_end(FirnView *view, int failed);
/* Something is about to be recorded over what is there now (`change` NULL: nothing). */
void firn_group_was_chunk(FirnView *view, FirnDir *array, const uint32_t *coords,
			  const FirnChunkChange *change);
void firn_group_was_pending(FirnView *view, const char *path);
void firn_group_was_at(FirnView *view, const FirnId8 *id); /* a node, which moves */

#endif
