#include "core/base/clock.h"
#include "core/repo/state.h"
#include "tools/commands.h"
#include "tools/driver.h"
#include "tools/umounting.h"

#include <string.h>

typedef struct {
	char *branch, *tag, *snapshot, *as_of, *name, *fork, *resume, *state_dir;
	char **options, **virtual_prefixes;
	gboolean read_only, foreground;
} Options;

static void
options_clear(Options *options)
{
	g_free(options->branch);
	g_free(options->tag);
	g_free(options->snapshot);
	g_free(options->as_of);
	g_free(options->name);
	g_free(options->fork);
	g_free(options->resume);
	g_free(options->state_dir);
	g_strfreev(options->options);
	g_strfreev(options->virtual_prefixes);
}

/* For the driver, which leaves the working directory. */
static char *
absolute_url(const char *repo)
{
	return strstr(repo, "://") ? g_strdup(repo) : g_canonicalize_filename(repo, NULL);
}

static char *
repository_of_token(const char *path, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(FirnForkToken) token = NULL;
	g_autoptr(GError) local = NULL;

	if (!g_file_get_contents(path, &text, NULL, &local)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "cannot read the fork token: %s", local->message);
		return NULL;
	}
	token = firn_fork_token_from_json(text, path, error);
	return token ? g_strdup(token->start->repository) : NULL;
}

/* Of a session that is to be resumed; also replaces the beginning of its id by the whole. */
static char *
repository_of_session(Options *options, const char *given, GError **error)
{
	g_autofree char *root = firn_state_root(options->state_dir);
	FirnSessionInfo *info = firn_state_find(root, options->resume, error);
	char *repository = NULL;
	char id[FIRN_ID12_TEXT + 1];

	if (!info)
		return NULL;
	firn_id12_format(&info->id, id);
	if (info->live)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "session %s is live, mounted at %s: nothing to resume", id,
			    info->mountpoint ? info->mountpoint : "an unknown place");
	else if (!given && !*info->repository)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "%s/session.json does not name the repository: give it before the "
			    "mount point",
			    info->directory);
	else
		repository = g_strdup(given ? given : info->repository);
	g_free(options->resume);
	options->resume = g_strdup(id);
	firn_session_info_free(info);
	return repository;
}

static char *
driver_options(const Options *options)
{
	GString *text = g_string_new(NULL);
	g_autofree char *state = NULL;
	g_autofree char *fork = NULL;
	const struct {
		const char *name, *value;
	} values[] = {
		{ "branch", options->branch },     { "tag", options->tag },
		{ "snapshot", options->snapshot }, { "as_of", options->as_of },
		{ "name", options->name },         { "resume", options->resume },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++)
		if (values[i].value)
			firn_driver_option(text, values[i].name, values[i].value);
	if (options->fork) {
		fork = g_canonicalize_filename(options->fork, NULL);
		firn_driver_option(text, "fork", fork);
	}
	if (options->state_dir) {
		state = g_canonicalize_filename(options->state_dir, NULL);
		firn_driver_option(text, "state_dir", state);
	}
	if (options->read_only)
		firn_driver_option(text, "ro", NULL);
	for (char **p = options->virtual_prefixes; p && *p; p++)
		firn_driver_option(text, "virtual", *p);
	for (char **p = options->options; p && *p; p++)
		g_string_append_printf(text, "%s%s", text->len ? "," : "", *p);
	return g_string_free(text, FALSE);
}

/* `repository`: NULL if the token or the session names it. */
static int
start(FirnCli *cli, const Options *options, const char *repository, const char *mountpoint)
{
	g_autofree char *url = repository ? absolute_url(repository) : NULL;
	g_autofree char *text = driver_options(options);
	g_autoptr(FirnMount) mount = NULL;
	g_autoptr(GError) error = NULL;
	bool dead = firn_mount_is_dead(mountpoint);
	JsonNode *node;
	int result;

	if (!firn_driver_check(mountpoint, &error))
		return firn_cli_fail(cli, error);
	result = firn_driver_start(cli, url, mountpoint, text, options->foreground);
	if (!result && dead && !options->foreground) {
		g_autofree char *root = firn_state_root(options->state_dir);

		/* Whoever mounted there may not know. */
		firn_umount_report_others(mountpoint, root);
	}
	if (result || !cli->json)
		return result;
	if (options->foreground) {
		/* It has ended. */
		firn_cli_json(json_node_init_null(json_node_alloc()));
		return result;
	}
	mount = firn_mount_find(mountpoint, &error);
	if (!mount)
		return firn_cli_fail(cli, error);
	node = json_node_init_object(json_node_alloc(), mount->session);
	firn_cli_json(node);
	return FIRN_EXIT_DONE;
}

static int
mount_command(FirnCli *cli, int argc, char **argv, Options *options)
{
	bool without_repo = options->fork || options->resume;
	int versions = (options->branch != NULL) + (options->tag != NULL) +
		       (options->snapshot != NULL) + (options->fork != NULL) +
		       (options->resume != NULL);
	g_autofree char *repository = NULL;
	g_autoptr(GError) error = NULL;
	const char *given;
	uint64_t time_us;

	if (versions > 1 || (options->as_of && versions > (options->branch != NULL)))
		return firn_cli_usage(cli, "one of -b, --tag, --snapshot, --as-of, --fork, "
					   "--resume (--as-of may go with -b)");
	if (options->as_of && !firn_clock_parse_us(options->as_of, &time_us))
		return firn_cli_usage(cli,
				      "--as-of takes a time such as 2026-01-31 or "
				      "2026-01-31T12:00:00Z, not '%s'",
				      options->as_of);
	if (without_repo && options->read_only)
		return firn_cli_usage(cli, "--read-only does not go with --fork and --resume");
	if (argc - 1 < (without_repo ? 1 : 2))
		return firn_cli_usage(cli, "a mount point is missing");
	/* With --fork and --resume, a repository says where it is now. */
	given = argc > 2 ? argv[1] : NULL;
	if (options->resume)
		repository = repository_of_session(options, given, &error);
	else if (options->fork && !given)
		repository = repository_of_token(options->fork, &error);
	else
		repository = g_strdup(given);
	if (!repository)
		return firn_cli_fail(cli, error);
	/* The driver takes it from where we did, and knows what to say if it is not there. */
	return start(cli, options, without_repo ? given : repository, argv[argc - 1]);
}

int
firn_cmd_mount(FirnCli *cli, int argc, char **argv)
{
	Options o = { 0 };
	const GOptionEntry entries[] = {
		{ "branch", 'b', 0, G_OPTION_ARG_FILENAME, &o.branch, "The branch (default main)",
		  "BRANCH" },
		{ "tag", 0, 0, G_OPTION_ARG_FILENAME, &o.tag, "A tag, read-only", "TAG" },
		{ "snapshot", 0, 0, G_OPTION_ARG_FILENAME, &o.snapshot, "A snapshot, read-only",
		  "ID" },
		{ "as-of", 0, 0, G_OPTION_ARG_FILENAME, &o.as_of,
		  "The branch as it was then, read-only", "TIME" },
		{ "read-only", 'r', 0, G_OPTION_ARG_NONE, &o.read_only, "Refuse writes", NULL },
		{ "name", 0, 0, G_OPTION_ARG_FILENAME, &o.name,
		  "Name of the hierarchy's directory (default: the branch)", "NAME" },
		{ "fork", 0, 0, G_OPTION_ARG_FILENAME, &o.fork, "Start from a token of 'firn fork'",
		  "TOKEN" },
		{ "resume", 0, 0, G_OPTION_ARG_FILENAME, &o.resume,
		  "Take up a session whose driver is gone", "ID" },
		{ "virtual", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.virtual_prefixes,
		  "Authorise reading virtual chunks below this URL", "PREFIX" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &o.state_dir,
		  "Where sessions keep their state", "DIR" },
		{ "options", 'o', 0, G_OPTION_ARG_FILENAME_ARRAY, &o.options,
		  "Options for the driver, as mount(8) takes them", "OPTS" },
		{ "foreground", 'f', 0, G_OPTION_ARG_NONE, &o.foreground, "Stay in the foreground",
		  NULL },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 2);

	if (result < 0)
		result = mount_command(cli, argc, argv, &o);
	options_clear(&o);
	return result;
}
