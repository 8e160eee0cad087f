#include "core/base/clock.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t
firn_clock_now_ns(void)
{
	return now_ns();
}

uint64_t
firn_clock_now_us(void)
{
	return (uint64_t)(now_ns() / 1000);
}

char *
firn_clock_format_us(uint64_t us)
{
	g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc((gint64)(us / 1000000));
	g_autofree char *seconds = NULL;

	if (time == NULL)
		return g_strdup_printf("%" G_GUINT64_FORMAT "us", us);
	seconds = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
	return g_strdup_printf("%s.%06uZ", seconds, (unsigned)(us % 1000000));
}

bool
firn_clock_parse_us(const char *text, uint64_t *out_us)
{
	g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
	g_autoptr(GDateTime) time = NULL;
	g_autofree char *padded = NULL;
	int64_t us;

	/* A date alone means its first moment. */
	if (strlen(text) == 10)
		padded = g_strconcat(text, "T00:00:00", NULL);
	time = g_date_time_new_from_iso8601(padded != NULL ? padded : text, utc);
	if (time == NULL)
		return false;
	us = g_date_time_to_unix(time) * 1000000 + g_date_time_get_microsecond(time);
	if (us < 0)
		return false;
	*out_us = (uint64_t)us;
	return true;
}

void
firn_clock_random(void *out, size_t len)
{
	uint8_t *at = out;

	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);

		/* Nothing but a signal can be wrong with a valid buffer. */
		g_assert(n >= 0 || errno == EINTR);
		at += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
}
