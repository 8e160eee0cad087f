#include "fs/caller.h"

#include "core/base/error.h"

#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

/* A thread's id; 0: nobody waits, or it is in a namespace that cannot be seen from here. */
static _Thread_local uint32_t caller;

void
firn_caller_set(const void *request, size_t len)
{
	struct fuse_in_header header;

	caller = 0;
	if (len < sizeof header)
		return;
	memcpy(&header, request, sizeof header);
	/* What was written must be published, whoever is gone. */
	if (header.opcode != FUSE_RELEASE && header.opcode != FUSE_RELEASEDIR)
		caller = header.pid;
}

bool
firn_caller_is_killed(void)
{
	g_autofree char *path = NULL;
	g_autofree char *status = NULL;
	const char *pending;

	if (caller == 0)
		return false;
	path = g_strdup_printf("/proc/%u/status", caller);
	if (!g_file_get_contents(path, &status, NULL, NULL))
		return false;
	/* Whatever ends a process, SIGKILL is what its threads get. */
	pending = strstr(status, "\nSigPnd:");
	return pending && (g_ascii_strtoull(pending + 8, NULL, 16) >> (SIGKILL - 1) & 1);
}
