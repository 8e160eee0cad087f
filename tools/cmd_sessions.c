#include "core/base/clock.h"
#include "core/repo/state.h"
#include "tools/commands.h"

#include <stdio.h>
#include <string.h>

#define FORKS_PREFIX "firn/sessions/"

/* What is published of one fork. */
typedef struct {
	char *fork;
	GPtrArray *journals; /* char *: session ids */
	uint64_t bytes;
} Published;

static void
published_free(gpointer data)
{
	Published *published = data;

	g_free(published->fork);
	g_ptr_array_unref(published->journals);
	g_free(published);
}

static bool
collect(const char *key, uint64_t size, int64_t mtime_us, void *data)
{
	GHashTable *forks = data;
	const char *rest = key + strlen(FORKS_PREFIX);
	const char *slash = strchr(rest, '/');
	g_autofree char *fork = NULL;
	Published *published;

	(void)mtime_us;
	if (!slash || !g_str_has_suffix(slash, ".journal"))
		return true;
	fork = g_strndup(rest, (gsize)(slash - rest));
	published = g_hash_table_lookup(forks, fork);
	if (!published) {
		published = g_new0(Published, 1);
		published->fork = g_strdup(fork);
		published->journals = g_ptr_array_new_with_free_func(g_free);
		g_hash_table_insert(forks, published->fork, published);
	}
	slash++;
	g_ptr_array_add(published->journals, g_strndup(slash, strlen(slash) - strlen(".journal")));
	published->bytes += size;
	return true;
}

static GHashTable *
list_published(FirnRepo *repo, GError **error)
{
	g_autoptr(GHashTable) forks =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, published_free);

	if (!firn_store_list(firn_repo_store(repo), FORKS_PREFIX, collect, forks, error))
		return NULL;
	return g_steal_pointer(&forks);
}

static void
print_session(const FirnSessionInfo *info)
{
	char id[FIRN_ID12_TEXT + 1];
	g_autofree char *started = firn_clock_format_us(info->started_us);

	firn_id12_format(&info->id, id);
	printf("%s  %-9s  %.19s  %8" G_GUINT64_FORMAT "  %s  %s%s%s%s%s\n", id,
	       info->live ? "live" : "resumable", started, info->journal_bytes,
	       info->repository ? info->repository : "?",
	       info->branch && *info->branch ? info->branch : "-", info->fork_of ? "  fork " : "",
	       info->fork_of ? info->fork_of : "", info->mountpoint ? "  " : "",
	       info->mountpoint ? info->mountpoint : "");
}

static void
session_to_json(JsonBuilder *builder, const FirnSessionInfo *info)
{
	char id[FIRN_ID12_TEXT + 1], base[FIRN_ID12_TEXT + 1];
	g_autofree char *started = firn_clock_format_us(info->started_us);

	firn_id12_format(&info->id, id);
	firn_id12_format(&info->base, base);
	json_builder_begin_object(builder);
	firn_json_string(builder, "id", id);
	firn_json_bool(builder, "live", info->live);
	firn_json_string(builder, "repository", info->repository);
	firn_json_string(builder, "branch", info->branch);
	firn_json_string(builder, "base", base);
	firn_json_string(builder, "fork_of", info->fork_of);
	firn_json_string(builder, "mountpoint", info->mountpoint);
	firn_json_int(builder, "pid", info->pid);
	firn_json_string(builder, "started", started);
	firn_json_int(builder, "journal_bytes", (int64_t)info->journal_bytes);
	firn_json_string(builder, "state_dir", info->directory);
	json_builder_end_object(builder);
}

static void
print_text(GPtrArray *sessions, GHashTable *forks)
{
	GHashTableIter iter;
	gpointer value;

	for (guint i = 0; i < sessions->len; i++)
		print_session(g_ptr_array_index(sessions, i));
	if (!forks)
		return;
	g_hash_table_iter_init(&iter, forks);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const Published *published = value;

		printf("%s  published  %u journal%s, %" G_GUINT64_FORMAT " bytes\n",
		       published->fork, published->journals->len,
		       published->journals->len == 1 ? "" : "s", published->bytes);
	}
}

static void
print_json(GPtrArray *sessions, GHashTable *forks)
{
	JsonBuilder *builder = json_builder_new();
	GHashTableIter iter;
	gpointer value;

	json_builder_begin_object(builder);
	json_builder_set_member_name(builder, "sessions");
	json_builder_begin_array(builder);
	for (guint i = 0; i < sessions->len; i++)
		session_to_json(builder, g_ptr_array_index(sessions, i));
	json_builder_end_array(builder);
	json_builder_set_member_name(builder, "published");
	json_builder_begin_array(builder);
	if (forks)
		g_hash_table_iter_init(&iter, forks);
	while (forks && g_hash_table_iter_next(&iter, NULL, &value)) {
		const Published *published = value;

		json_builder_begin_object(builder);
		firn_json_string(builder, "fork", published->fork);
		firn_json_int(builder, "bytes", (int64_t)published->bytes);
		json_builder_set_member_name(builder, "sessions");
		json_builder_begin_array(builder);
		for (guint i = 0; i < published->journals->len; i++)
			json_builder_add_string_value(builder,
						      g_ptr_array_index(published->journals, i));
		json_builder_end_array(builder);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

static int
sessions_command(FirnCli *cli, const char *repo_name, const char *state_dir)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *root = firn_state_root(state_dir);
	g_autoptr(GPtrArray) sessions = firn_state_list(root, &error);
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(GHashTable) forks = NULL;

	if (sessions && repo_name)
		repo = firn_repo_open(repo_name, &error);
	if (repo)
		forks = list_published(repo, &error);
	if (!sessions || (repo_name && !forks))
		return firn_cli_fail(cli, error);
	for (guint i = sessions->len; repo && i-- > 0;) {
		const FirnSessionInfo *info = g_ptr_array_index(sessions, i);

		if (g_strcmp0(info->repository, firn_repo_url(repo)))
			g_ptr_array_remove_index(sessions, i);
	}
	if (cli->json)
		print_json(sessions, forks);
	else
		print_text(sessions, forks);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_sessions(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *state_dir = NULL;
	const GOptionEntry entries[] = {
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 0, 1);

	return result >= 0 ? result : sessions_command(cli, argc > 1 ? argv[1] : NULL, state_dir);
}
