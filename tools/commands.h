#ifndef FIRN_TOOLS_COMMANDS_H
#define FIRN_TOOLS_COMMANDS_H

#include "tools/output.h"

/* The commands: argv[0] is the command's name, the result the exit code. */
int firn_cmd_init(FirnCli *cli, int argc, char **argv);
int firn_cmd_mount(FirnCli *cli, int argc, char **argv);
int firn_cmd_umount(FirnCli *cli, int argc, char **argv);
int firn_cmd_run(FirnCli *cli, int argc, char **argv);
int firn_cmd_status(FirnCli *cli, int argc, char **argv);
int firn_cmd_diff(FirnCli *cli, int argc, char **argv);
int firn_cmd_discard(FirnCli *cli, int argc, char **argv);
int firn_cmd_fork(FirnCli *cli, int argc, char **argv);
int firn_cmd_merge(FirnCli *cli, int argc, char **argv);
int firn_cmd_commit(FirnCli *cli, int argc, char **argv);
int firn_cmd_journal(FirnCli *cli, int argc, char **argv);
int firn_cmd_sessions(FirnCli *cli, int argc, char **argv);
int firn_cmd_log(FirnCli *cli, int argc, char **argv);
int firn_cmd_show(FirnCli *cli, int argc, char **argv);
int firn_cmd_ls(FirnCli *cli, int argc, char **argv);
int firn_cmd_cat(FirnCli *cli, int argc, char **argv);
int firn_cmd_branch(FirnCli *cli, int argc, char **argv);
int firn_cmd_tag(FirnCli *cli, int argc, char **argv);
int firn_cmd_reset(FirnCli *cli, int argc, char **argv);
int firn_cmd_fsck(FirnCli *cli, int argc, char **argv);
int firn_cmd_doctor(FirnCli *cli, int argc, char **argv);

#endif
