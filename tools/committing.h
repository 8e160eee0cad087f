#ifndef FIRN_TOOLS_COMMITTING_H
#define FIRN_TOOLS_COMMITTING_H

#include "core/repo/commit.h"
#include "tools/output.h"
#include "tools/source.h"

/* Merging sources and committing the result: what `commit` and `run` have in common. */
typedef struct {
	const char *message;
	JsonObject *metadata; /* may be NULL */
	FirnRebase rebase;
	FirnFavor favor;
	bool amend;
	bool allow_empty;
	bool force;
	JsonObject **
		out_result; /* with --json: where the result goes (caller owns); NULL: it is printed */
} FirnCommitRequest;

/*
 * Begin on every origin (FirnOrigin *), merge, commit, end; prints the result
 * or what is wrong and returns the exit code.  On any failure every mount goes
 * on as before.
 */
int firn_committing_run(FirnCli *cli, FirnRepo *repo, GPtrArray *origins,
			const FirnCommitRequest *request);

/* Report conflicts (FirnConflict *): one line each, or as JSON.  `error` says what they mean. */
int firn_committing_conflicts(FirnCli *cli, GPtrArray *conflicts, const GError *error);

/* The sources (FirnSource *) of origins that were read; takes their sections.  Caller owns. */
GPtrArray *firn_committing_sources(GPtrArray *origins);

/* --rebase: "fail", "ours" or "theirs" (NULL: off). */
bool firn_rebase_parse(const char *text, FirnRebase *out_rebase) FIRN_MUST_USE;
/* Before the options are parsed: GOption would take the word after an optional value for the value. */
void firn_rebase_prepare(int argc, char **argv);

/* "first" or "last" (NULL: none). */
bool firn_favor_parse(const char *text, FirnFavor *out_favor) FIRN_MUST_USE;

/* Errors: CONFLICT (one source given twice). */
bool firn_committing_check_distinct(GPtrArray *origins, GError **error) FIRN_MUST_USE;

#endif
