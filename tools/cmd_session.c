#include "core/repo/state.h"
#include "tools/commands.h"
#include "tools/fork_arg.h"
#include "tools/source.h"

#include <stdio.h>
#include <string.h>

/* One request to the mount `path` (NULL: the working directory's).  NULL: reported, `*out_exit`. */
static JsonObject *
ask_mount(FirnCli *cli, const char *path, const char *op, FirnMount **out_mount, int *out_exit)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnMount) mount = firn_mount_find(path, &error);
	g_autoptr(FirnCtl) ctl = mount ? firn_ctl_open(mount, &error) : NULL;
	JsonObject *reply = ctl ? firn_ctl_call(ctl, firn_ctl_request(op), &error) : NULL;

	if (!reply)
		*out_exit = firn_cli_fail(cli, error);
	else
		*out_mount = g_steal_pointer(&mount);
	return reply;
}

static int
print_file(FirnCli *cli, const FirnMount *mount, const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) text = firn_mount_read(mount, name, &error);
	const void *data;
	size_t len;

	if (!text)
		return firn_cli_fail(cli, error);
	data = g_bytes_get_data(text, &len);
	fwrite(data, 1, len, stdout);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_status(FirnCli *cli, int argc, char **argv)
{
	int result = firn_cli_parse_args(cli, &argc, &argv, NULL, 0, 1);
	g_autoptr(FirnMount) mount = NULL;
	g_autoptr(JsonObject) reply = NULL;
	g_autoptr(GError) error = NULL;
	const char *path = argc > 1 ? argv[1] : NULL;

	if (result >= 0)
		return result;
	if (!cli->json) {
		mount = firn_mount_find(path, &error);
		return mount ? print_file(cli, mount, "status") : firn_cli_fail(cli, error);
	}
	reply = ask_mount(cli, path, "status", &mount, &result);
	if (!reply)
		return result;
	json_object_remove_member(reply, "ok");
	json_object_set_object_member(reply, "session", json_object_ref(mount->session));
	json_object_set_string_member(reply, "mountpoint", mount->root);
	firn_cli_json(json_node_init_object(json_node_alloc(), reply));
	return FIRN_EXIT_DONE;
}

static int
discarded(const FirnCli *cli, const char *session)
{
	JsonBuilder *builder;

	if (!cli->json)
		return FIRN_EXIT_DONE;
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "discarded", session);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
	return FIRN_EXIT_DONE;
}

/* Of a session without a driver: all there is of it goes. */
static int
discard_origin(FirnCli *cli, const FirnOrigin *origin)
{
	g_autoptr(GError) error = NULL;
	char id[FIRN_ID12_TEXT + 1];

	if (origin->kind != FIRN_ORIGIN_SESSION) {
		g_set_error(&error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "%s is a journal file: remove it with rm", origin->name);
		return firn_cli_fail(cli, error);
	}
	if (!firn_state_remove(origin->info, &error))
		return firn_cli_fail(cli, error);
	firn_id12_format(&origin->info->id, id);
	return discarded(cli, id);
}

/* What its workers published, and what they start from, so that no more of them can. */
static bool
discard_fork(FirnRepo *repo, const char *fork, GError **error)
{
	FirnStore *store = firn_repo_store(repo);
	g_autoptr(GPtrArray) keys = firn_fork_list(repo, fork, error);
	g_autofree char *parent = firn_fork_parent_key(fork);
	bool exists = false;

	if (!keys || !firn_store_stat(store, parent, &exists, NULL, NULL, error))
		return false;
	if (!exists && !keys->len) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "there is nothing of fork %s in %s", fork, firn_repo_url(repo));
		return false;
	}
	g_ptr_array_insert(keys, 0, g_steal_pointer(&parent));
	for (guint i = 0; i < keys->len; i++)
		if (!firn_store_remove(store, g_ptr_array_index(keys, i), error))
			return false;
	return true;
}

static int
discard_forks(FirnCli *cli, char **given, const char *repo_name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GPtrArray) forks = firn_fork_args(given, &error);
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(GString) ids = g_string_new(NULL);

	if (forks)
		repo = firn_fork_args_open_repo(forks, repo_name, &error);
	for (guint i = 0; repo && i < forks->len; i++) {
		const FirnForkArg *fork = g_ptr_array_index(forks, i);

		if (!discard_fork(repo, fork->id, &error))
			return firn_cli_fail(cli, error);
		g_string_append_printf(ids, "%s%s", i ? ", " : "", fork->id);
	}
	return repo ? discarded(cli, ids->str) : firn_cli_fail(cli, error);
}

int
firn_cmd_discard(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *state_dir = NULL;
	g_autofree char *repo = NULL;
	g_auto(GStrv) forks = NULL;
	const GOptionEntry entries[] = {
		{ "fork", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &forks,
		  "Instead what the workers of a fork published (token file or id)", "FORK" },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &repo,
		  "Of a fork: the repository, if it moved since", "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);
	g_autofree char *root = NULL;
	g_autoptr(FirnOrigin) origin = NULL;
	g_autoptr(FirnMount) mount = NULL;
	g_autoptr(JsonObject) reply = NULL;
	g_autoptr(GError) error = NULL;

	if (result < 0 && forks && argc > 1)
		result = firn_cli_usage(cli, "--fork or a mount or session, one of them");
	if (result < 0 && repo && !forks)
		result = firn_cli_usage(cli, "--repo belongs to --fork");
	if (result >= 0)
		return result;
	if (forks)
		return discard_forks(cli, forks, repo);
	root = firn_state_root(state_dir);
	origin = firn_origin_resolve(argc > 1 ? argv[1] : ".", root, &error);
	if (!origin)
		return firn_cli_fail(cli, error);
	if (origin->kind != FIRN_ORIGIN_MOUNT)
		return discard_origin(cli, origin);
	reply = ask_mount(cli, origin->mount->root, "discard", &mount, &result);
	return reply ? discarded(cli, firn_mount_string(mount, "id")) : result;
}

#define TOKEN_MODE 0644u

/* With a newline, as a text file.  NULL: the reply has no token. */
static GBytes *
token_text(JsonObject *reply)
{
	JsonNode *token = json_object_get_member(reply, "token");
	g_autofree char *text = NULL;
	char *line;

	if (!token || !JSON_NODE_HOLDS_OBJECT(token))
		return NULL;
	text = json_to_string(token, TRUE);
	line = g_strconcat(text, "\n", NULL);
	return g_bytes_new_take(line, strlen(line));
}

int
firn_cmd_fork(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *output = NULL;
	const GOptionEntry entries[] = {
		{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "Write the token to FILE",
		  "FILE" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);
	g_autoptr(FirnMount) mount = NULL;
	g_autoptr(JsonObject) reply = NULL;
	g_autoptr(GBytes) text = NULL;
	g_autoptr(GError) error = NULL;

	if (result >= 0)
		return result;
	reply = ask_mount(cli, argc > 1 ? argv[1] : NULL, "fork", &mount, &result);
	if (!reply)
		return result;
	text = token_text(reply);
	if (!text)
		g_set_error(&error, FIRN_ERROR, FIRN_ERROR_STORE, "%s gave no token", mount->root);
	if (!text || (output && !firn_file_write(output, text, TOKEN_MODE, &error)))
		return firn_cli_fail(cli, error);
	if (!output || cli->json)
		fwrite(g_bytes_get_data(text, NULL), 1, g_bytes_get_size(text), stdout);
	return FIRN_EXIT_DONE;
}
