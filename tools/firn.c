#include "tools/commands.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const FirnCommand commands[] = {
	{ "init", firn_cmd_init, "REPO", "Create a repository." },
	{ "mount", firn_cmd_mount,
	  "REPO MOUNTPOINT | --fork TOKEN MOUNTPOINT | --resume ID MOUNTPOINT",
	  "Mount a repository; returns when the mount is usable." },
	{ "umount", firn_cmd_umount, "[MOUNTPOINT]", "Unmount; uncommitted work stays resumable." },
	{ "run", firn_cmd_run, "REPO -m MSG -- COMMAND...",
	  "Mount, run a command with the mount's path in $FIRN_MOUNT and for {}, commit if it "
	  "exits 0, unmount." },
	{ "status", firn_cmd_status, "[MOUNT]", "Show what is uncommitted." },
	{ "diff", firn_cmd_diff, "[MOUNT] | REPO|MOUNT A B",
	  "Show the uncommitted changes, or what changed from snapshot A to B." },
	{ "discard", firn_cmd_discard, "[MOUNT|SESSION]", "Drop uncommitted changes." },
	{ "fork", firn_cmd_fork, "[MOUNT]", "Print a token that workers mount with." },
	{ "merge", firn_cmd_merge, "-o OUT SOURCE...", "Merge journals into one." },
	{ "commit", firn_cmd_commit, "[SOURCE...] -m MSG",
	  "Merge mounts, journals and sessions, and commit them as one snapshot." },
	{ "journal", firn_cmd_journal, "show|verify|export SOURCE", "Read a journal." },
	{ "sessions", firn_cmd_sessions, "[REPO]",
	  "List live and resumable sessions, and what forks published." },
	{ "log", firn_cmd_log, "[REPO|MOUNT]", "Show the history." },
	{ "show", firn_cmd_show, "[REPO|MOUNT] [REF]", "Show one snapshot." },
	{ "ls", firn_cmd_ls, "[REPO|MOUNT] [PATH]", "List the nodes of a snapshot." },
	{ "cat", firn_cmd_cat, "[REPO|MOUNT] PATH", "Print a zarr.json or a chunk of a snapshot." },
	{ "branch", firn_cmd_branch, "list REPO | create REPO NAME [REF] | delete REPO NAME",
	  "List, create and delete branches." },
	{ "tag", firn_cmd_tag, "list REPO | create REPO NAME [REF] | delete REPO NAME",
	  "List, create and delete tags." },
	{ "reset", firn_cmd_reset, "REPO BRANCH REF", "Move a branch to another snapshot." },
	{ "fsck", firn_cmd_fsck, "REPO|MOUNT", "Check every object of a repository." },
	{ "doctor", firn_cmd_doctor, "[REPO]", "Check that this machine and this store are fit." },
};

static void
print_help(void)
{
	puts("Usage: firn COMMAND [OPTION...] [ARGUMENT...]\n\n"
	     "Work on Icechunk repositories as directories.\n\nCommands:");
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
		/* Without the period, and without what follows a semicolon. */
		int len = (int)MIN(strcspn(commands[i].summary, ";"),
				   strlen(commands[i].summary) - 1);

		printf("  %-10s %.*s\n", commands[i].name, len, commands[i].summary);
	}
	puts("\n'firn COMMAND --help' says more.  Exit codes: 0 done, 1 failed, 2 usage,\n"
	     "3 conflict, 4 nothing to commit.");
}

static const FirnCommand *
find_command(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* What is wrong with the options is told as JSON too. */
static bool
seems_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

static int
run(int argc, char **argv)
{
	FirnCli cli = { .json = seems_json(argc, argv) };
	char help[] = "--help";

	if (argc < 2)
		return firn_cli_usage(&cli, "which command?");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_help();
		return FIRN_EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("firn " FIRN_VERSION);
		return FIRN_EXIT_DONE;
	}
	if (!strcmp(argv[1], "help")) {
		cli.command = argc > 2 ? find_command(argv[2]) : NULL;
		if (!cli.command && argc <= 2)
			print_help();
		if (!cli.command)
			return argc > 2 ? firn_cli_usage(&cli, "there is no command '%s'", argv[2])
					: FIRN_EXIT_DONE;
		return cli.command->run(&cli, 2, (char *[]){ argv[2], help, NULL });
	}
	cli.command = find_command(argv[1]);
	if (!cli.command)
		return firn_cli_usage(&cli, "there is no command '%s'", argv[1]);
	return cli.command->run(&cli, argc - 1, argv + 1);
}

/*
 * A merge fills and drops many buffers of some megabytes.  Giving each back to
 * the kernel costs a fault a page when the next is filled.
 */
static void
keep_memory(void)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): there is one thread yet */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	mallopt(M_TOP_PAD, 4 << 20);
	/* NOLINTEND(concurrency-mt-unsafe) */
}

int
main(int argc, char **argv)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	int result;

	keep_memory();
	/* A reader of our output that goes away must not end a commit half way. */
	sigaction(SIGPIPE, &ignore, NULL);
	result = run(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (errno != EPIPE)
			fprintf(stderr, "firn: cannot write the result: %s%s\n", g_strerror(errno),
				result ? "" : "; what it would tell of is done");
		return result ? result : FIRN_EXIT_FAILED;
	}
	return result;
}
