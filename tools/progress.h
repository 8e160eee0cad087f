#ifndef FIRN_TOOLS_PROGRESS_H
#define FIRN_TOOLS_PROGRESS_H

#include "core/base/base.h"

/*
 * A progress bar on stderr: only if that is a terminal, and only for work that
 * takes more than a second.  One thread.
 */
typedef struct {
	bool terminal;
	bool shown;
	uint64_t started_us;
	uint64_t drawn_us;
} FirnProgress;

FirnProgress firn_progress_new(void);
/* `data`: a FirnProgress.  `total` 0: unknown. */
void firn_progress_step(const char *what, uint64_t done, uint64_t total, void *data);
/* Remove the bar. */
void firn_progress_end(FirnProgress *progress);

#endif
