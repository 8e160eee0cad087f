#include "core/base/json_check.h"
#include "tools/commands.h"
#include "tools/committing.h"

#include <stdio.h>
#include <string.h>

#define JSON_DEPTH 100u

/* What the command line of `commit` says, before it is understood. */
typedef struct {
	char *message, *repo, *favor, *rebase, *fork, *state_dir;
	char **metadata;
	int expect;
	gboolean amend, allow_empty, force;
} Options;

static void
options_clear(Options *options)
{
	g_free(options->message);
	g_free(options->repo);
	g_free(options->favor);
	g_free(options->rebase);
	g_free(options->fork);
	g_free(options->state_dir);
	g_strfreev(options->metadata);
}

/* "K=V": V as JSON if it is JSON, else as text. */
static bool
add_metadata(JsonObject *object, const char *pair, GError **error)
{
	const char *equals = strchr(pair, '=');
	g_autofree char *key = equals ? g_strndup(pair, (gsize)(equals - pair)) : NULL;
	JsonNode *value;

	if (!equals || equals == pair || !g_utf8_validate(pair, -1, NULL)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "--metadata takes KEY=VALUE in UTF-8, not '%s'", pair);
		return false;
	}
	equals++;
	if (!firn_json_check((FirnSpan){ (const uint8_t *)equals, strlen(equals) }, JSON_DEPTH,
			     NULL))
		value = json_from_string(equals, NULL);
	else
		value = json_node_init_string(json_node_alloc(), equals);
	if (!value)
		value = json_node_init_null(json_node_alloc());
	json_object_set_member(object, key, value);
	return true;
}

static bool
parse_metadata(char **pairs, JsonObject *object, GError **error)
{
	for (; pairs && *pairs; pairs++)
		if (!add_metadata(object, *pairs, error))
			return false;
	return true;
}

static GPtrArray *
resolve_sources(int argc, char **argv, const Options *options, GError **error)
{
	g_autoptr(GPtrArray) origins =
		g_ptr_array_new_with_free_func((GDestroyNotify)firn_origin_free);
	g_autofree char *root = firn_state_root(options->state_dir);
	bool here = argc == 1 && !options->fork;

	for (int i = 1; i < argc || here; i++) {
		FirnOrigin *origin = firn_origin_resolve(here ? "." : argv[i], root, error);

		if (!origin)
			return NULL;
		g_ptr_array_add(origins, origin);
		here = false;
	}
	return g_steal_pointer(&origins);
}

/* The id of the fork, and its repository if the token's file was given. */
static char *
fork_id(const char *given, char **out_repository, GError **error)
{
	g_autoptr(FirnForkToken) token = NULL;
	g_autofree char *text = NULL;

	if (!g_file_test(given, G_FILE_TEST_IS_REGULAR))
		return g_strdup(given);
	if (!g_file_get_contents(given, &text, NULL, error))
		return NULL;
	token = firn_fork_token_from_json(text, given, error);
	if (!token)
		return NULL;
	*out_repository = g_strdup(token->start->repository);
	return g_strdup(token->fork);
}

static bool
check_expected(const char *fork, GPtrArray *keys, int expect, GError **error)
{
	g_autoptr(GString) there = g_string_new(NULL);

	if (keys->len >= (guint)MAX(expect, 1))
		return true;
	for (guint i = 0; i < keys->len; i++) {
		g_autofree char *name = g_path_get_basename(g_ptr_array_index(keys, i));

		if (g_str_has_suffix(name, ".journal"))
			name[strlen(name) - strlen(".journal")] = '\0';
		g_string_append_printf(there, "%s%s", i ? ", " : "", name);
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "fork %s: %u of %d journals are published, %d missing (there: %s); "
		    "workers publish theirs with 'firn umount'",
		    fork, keys->len, MAX(expect, 1), MAX(expect, 1) - (int)keys->len,
		    there->len ? there->str : "none");
	return false;
}

static bool
add_fork(FirnRepo *repo, const char *fork, int expect, GPtrArray *origins, GError **error)
{
	g_autoptr(GPtrArray) keys = firn_fork_list(repo, fork, error);

	if (!keys || !check_expected(fork, keys, expect, error))
		return false;
	for (guint i = 0; i < keys->len; i++)
		g_ptr_array_add(origins, firn_origin_published(g_ptr_array_index(keys, i),
							       firn_repo_url(repo)));
	return true;
}

/* A worker's mount shows its part only: whoever made the fork puts the parts together. */
static bool
check_not_only_forks(GPtrArray *origins, GError **error)
{
	const FirnOrigin *first = origins->len ? g_ptr_array_index(origins, 0) : NULL;

	for (guint i = 0; i < origins->len; i++) {
		const FirnOrigin *origin = g_ptr_array_index(origins, i);

		if (origin->kind != FIRN_ORIGIN_MOUNT ||
		    !*firn_mount_string(origin->mount, "fork_of"))
			return true;
	}
	if (!first)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "%s is the mount of a fork, which does not commit by itself: unmount it, then "
		    "'firn commit MOUNT --fork %s -m MSG' with the mount the fork was made from",
		    first->name, firn_mount_string(first->mount, "fork_of"));
	return false;
}

static FirnRepo *
open_repo(const Options *options, GPtrArray *origins, const char *of_token, GError **error)
{
	const char *url = options->repo ? options->repo : NULL;

	if (!url && origins->len)
		url = firn_origin_repository(g_ptr_array_index(origins, 0), error);
	else if (!url)
		url = of_token;
	if (!url) {
		if (error && !*error)
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
				    "which repository? give the fork's token file, a source, or "
				    "--repo");
		return NULL;
	}
	return firn_repo_open(url, error);
}

static int
commit(FirnCli *cli, int argc, char **argv, const Options *options, FirnCommitRequest *request)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonObject) metadata = json_object_new();
	g_autofree char *of_token = NULL;
	g_autofree char *fork = NULL;
	g_autoptr(GPtrArray) origins = NULL;
	g_autoptr(FirnRepo) repo = NULL;

	if (!parse_metadata(options->metadata, metadata, &error))
		return firn_cli_usage(cli, "%s", error->message);
	request->metadata = metadata;
	origins = resolve_sources(argc, argv, options, &error);
	if (!origins || !check_not_only_forks(origins, &error))
		return firn_cli_fail(cli, error);
	if (options->fork && !(fork = fork_id(options->fork, &of_token, &error)))
		return firn_cli_fail(cli, error);
	repo = open_repo(options, origins, of_token, &error);
	if (!repo || (fork && !add_fork(repo, fork, options->expect, origins, &error)))
		return firn_cli_fail(cli, error);
	return firn_committing_run(cli, repo, origins, request);
}

int
firn_cmd_commit(FirnCli *cli, int argc, char **argv)
{
	Options options = { 0 };
	FirnCommitRequest request = { 0 };
	const GOptionEntry entries[] = {
		{ "message", 'm', 0, G_OPTION_ARG_FILENAME, &options.message, "What this commit is",
		  "MSG" },
		{ "metadata", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.metadata,
		  "Add to the snapshot's metadata; VALUE as JSON if it is", "KEY=VALUE" },
		{ "rebase", 0, 0, G_OPTION_ARG_FILENAME, &options.rebase,
		  "If the branch moved: put the commit on top (collisions: fail, ours, theirs)",
		  "[POLICY]" },
		{ "favor", 0, 0, G_OPTION_ARG_FILENAME, &options.favor,
		  "Settle chunks that several sources wrote", "first|last" },
		{ "amend", 0, 0, G_OPTION_ARG_NONE, &options.amend,
		  "Replace the branch's last commit", NULL },
		{ "allow-empty", 0, 0, G_OPTION_ARG_NONE, &options.allow_empty,
		  "Commit even if nothing changed", NULL },
		{ "force", 0, 0, G_OPTION_ARG_NONE, &options.force,
		  "Drop files without a place instead of refusing", NULL },
		{ "fork", 0, 0, G_OPTION_ARG_FILENAME, &options.fork,
		  "Also what the workers of a fork published (token file or id)", "FORK" },
		{ "expect", 0, 0, G_OPTION_ARG_INT, &options.expect,
		  "Fail if fewer workers have published", "N" },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &options.repo,
		  "The repository, if it moved since", "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result;

	firn_rebase_prepare(argc, argv);
	result = firn_cli_parse(cli, &argc, &argv, entries);
	request.message = options.message;
	request.amend = options.amend;
	request.allow_empty = options.allow_empty;
	request.force = options.force;
	if (result < 0 && (!options.message || !g_utf8_validate(options.message, -1, NULL)))
		result = firn_cli_usage(cli, options.message ? "the message is not UTF-8"
							     : "a message is missing: -m MSG");
	if (result < 0 && !firn_rebase_parse(options.rebase, &request.rebase))
		result = firn_cli_usage(cli, "--rebase: 'fail', 'ours' or 'theirs', not '%s'",
					options.rebase);
	if (result < 0 && !firn_favor_parse(options.favor, &request.favor))
		result = firn_cli_usage(cli, "--favor: 'first' or 'last', not '%s'", options.favor);
	if (result < 0 && options.expect && (!options.fork || options.expect < 0))
		result = firn_cli_usage(cli, "--expect takes a number of workers of --fork");
	if (result < 0)
		result = commit(cli, argc, argv, &options, &request);
	options_clear(&options);
	return result;
}
