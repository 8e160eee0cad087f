#ifndef FIRN_TOOLS_FORK_ARG_H
#define FIRN_TOOLS_FORK_ARG_H

#include "tools/source.h"

/* A fork that was named on the command line, by its token's file or by its id. */
typedef struct {
	char *id;
	char *token;      /* the token's file; NULL: its id was given */
	char *repository; /* of the token; NULL: not known */
} FirnForkArg;

/* All that were named (FirnForkArg *); NULL is none.  Errors: FORMAT, DENIED...  Caller owns. */
GPtrArray *firn_fork_args(char **given, GError **error) FIRN_MUST_USE;
/*
 * The repository they are of: `given` (NULL: not said), or what a token says.  Errors: INVALID
 * (neither says it), NOT_FOUND...  Caller owns.
 */
FirnRepo *firn_fork_args_open_repo(GPtrArray *forks, const char *given, GError **error)
	FIRN_MUST_USE;

#endif
