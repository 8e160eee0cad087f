#ifndef FIRN_CORE_BASE_CLOCK_H
#define FIRN_CORE_BASE_CLOCK_H

#include "core/base/base.h"

/* Microseconds, nanoseconds since 1970-01-01T00:00:00Z. */
uint64_t firn_clock_now_us(void);
int64_t firn_clock_now_ns(void);

/* "2026-01-31T12:00:00.000000Z"; caller owns (g_free). */
char *firn_clock_format_us(uint64_t us);

/* Parse ISO 8601 ("2026-01-31", "2026-01-31T12:00:00[.frac][Z|+hh:mm]"; no zone means UTC). */
bool firn_clock_parse_us(const char *text, uint64_t *out_us) FIRN_MUST_USE;

/* Fill `out` with `len` bytes from the kernel's random generator. */
void firn_clock_random(void *out, size_t len);

#endif
