#include "tools/progress.h"

#include "core/base/clock.h"

#include <stdio.h>
#include <unistd.h>

#define DELAY_US    1000000u
#define INTERVAL_US 100000u
#define WIDTH       30u

FirnProgress
firn_progress_new(void)
{
	return (FirnProgress){ .terminal = isatty(STDERR_FILENO) != 0,
			       .started_us = firn_clock_now_us() };
}

static void
draw(const char *what, uint64_t done, uint64_t total)
{
	char bar[WIDTH + 1];
	uint64_t filled = total ? MIN(done, total) * WIDTH / total : 0;

	for (unsigned i = 0; i < WIDTH; i++)
		bar[i] = i < filled ? '#' : '.';
	bar[WIDTH] = '\0';
	if (total)
		fprintf(stderr, "\r\033[K%s [%s] %" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, what,
			bar, done, total);
	else
		fprintf(stderr, "\r\033[K%s %" G_GUINT64_FORMAT, what, done);
	fflush(stderr);
}

void
firn_progress_step(const char *what, uint64_t done, uint64_t total, void *data)
{
	FirnProgress *progress = data;
	uint64_t now;

	if (!progress->terminal)
		return;
	now = firn_clock_now_us();
	if (now - progress->started_us < DELAY_US || now - progress->drawn_us < INTERVAL_US)
		return;
	progress->drawn_us = now;
	progress->shown = true;
	draw(what, done, total);
}

void
firn_progress_end(FirnProgress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}
