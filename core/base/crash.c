#include "core/base/crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
firn_crash_point(FirnCrashPoint point)
{
	static const char *const names[] = {
#define FIRN_CRASH_NAME(name, text) [FIRN_CRASH_##name] = text,
		FIRN_CRASH_POINTS(FIRN_CRASH_NAME)
#undef FIRN_CRASH_NAME
	};
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment */
	const char *wanted = secure_getenv("FIRN_CRASH_AT");

	if (wanted == NULL || strcmp(wanted, names[point]) != 0)
		return;
	(void)kill(getpid(), SIGKILL);
	for (;;)
		pause();
}
