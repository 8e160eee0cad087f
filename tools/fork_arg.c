#include "tools/fork_arg.h"

#include "core/base/error.h"
#include "core/repo/state.h"

static void
fork_free(gpointer data)
{
	FirnForkArg *fork = data;

	g_free(fork->id);
	g_free(fork->token);
	g_free(fork->repository);
	g_free(fork);
}

static FirnForkArg *
fork_of(const char *given, GError **error)
{
	g_autoptr(FirnForkToken) token = NULL;
	g_autofree char *text = NULL;
	FirnForkArg *fork;

	if (g_file_test(given, G_FILE_TEST_IS_REGULAR)) {
		if (!g_file_get_contents(given, &text, NULL, error))
			return NULL;
		token = firn_fork_token_from_json(text, given, error);
		if (!token)
			return NULL;
	}
	fork = g_new0(FirnForkArg, 1);
	fork->id = g_strdup(token ? token->fork : given);
	fork->token = token ? g_strdup(given) : NULL;
	fork->repository = token ? g_strdup(token->start->repository) : NULL;
	return fork;
}

GPtrArray *
firn_fork_args(char **given, GError **error)
{
	g_autoptr(GPtrArray) forks = g_ptr_array_new_with_free_func(fork_free);

	for (; given && *given; given++) {
		FirnForkArg *fork = fork_of(*given, error);

		if (!fork)
			return NULL;
		g_ptr_array_add(forks, fork);
	}
	return g_steal_pointer(&forks);
}

FirnRepo *
firn_fork_args_open_repo(GPtrArray *forks, const char *given, GError **error)
{
	if (given)
		return firn_repo_open(given, error);
	for (guint i = 0; i < forks->len; i++) {
		const FirnForkArg *fork = g_ptr_array_index(forks, i);

		if (fork->repository)
			return firn_source_open_repo(fork->repository, fork->token, "with --repo",
						     error);
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "which repository? give the fork's token file, a source, or --repo");
	return NULL;
}
