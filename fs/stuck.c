#include "fs/stuck.h"

#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* Fields of /proc/PID/stat behind the name (proc(5)). */
#define STATE     0u
#define EXIT_CODE 49u

/* The process itself, its main thread, is gone: how it ended. */
static bool
is_zombie(pid_t process, int *out_status)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)process);
	g_autofree char *text = NULL;
	g_auto(GStrv) fields = NULL;
	const char *rest;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	/* The name may hold anything. */
	rest = strrchr(text, ')');
	fields = g_strsplit(rest != NULL && rest[1] != '\0' ? rest + 2 : "", " ", -1);
	if (fields[STATE] == NULL || strcmp(fields[STATE], "Z") != 0)
		return false;
	*out_status = SIGKILL;
	if (g_strv_length(fields) > EXIT_CODE) {
		int status = (int)g_ascii_strtoll(fields[EXIT_CODE], NULL, 10);

		if (WIFSIGNALED(status))
			*out_status = status;
	}
	return true;
}

bool
firn_stuck_is(pid_t process, pid_t tid, int *out_status)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)process);
	g_autoptr(GDir) tasks = NULL;
	const char *name;
	bool found = false;

	if (!is_zombie(process, out_status))
		return false;
	tasks = g_dir_open(path, 0, NULL);
	while (tasks != NULL && (name = g_dir_read_name(tasks)) != NULL) {
		gint64 task = g_ascii_strtoll(name, NULL, 10);

		/* Another one may be about to write something. */
		if (task != process && task != tid)
			return false;
		found = found || task == tid;
	}
	return found;
}
