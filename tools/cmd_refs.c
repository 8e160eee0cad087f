#include "core/repo/refs.h"
#include "tools/commands.h"
#include "tools/target.h"

#include <stdio.h>
#include <string.h>

/* What branches and tags do not have in common. */
typedef struct {
	bool tags;
	bool (*create)(FirnRepo *repo, const char *name, const FirnId12 *snapshot, GError **error);
	bool (*remove)(FirnRepo *repo, const char *name, GError **error);
} RefKind;

static void
list(const FirnCli *cli, GPtrArray *refs)
{
	JsonBuilder *builder = json_builder_new();

	json_builder_begin_array(builder);
	for (guint i = 0; i < refs->len; i++) {
		const FirnRefInfo *ref = g_ptr_array_index(refs, i);
		char id[FIRN_ID12_TEXT + 1];

		firn_id12_format(&ref->snapshot, id);
		if (!cli->json && ref->damage)
			printf("%-*s  %s (%s)\n", FIRN_ID12_TEXT, "damaged", ref->name,
			       ref->damage);
		else if (!cli->json)
			printf("%s  %s\n", id, ref->name);
		json_builder_begin_object(builder);
		firn_json_string(builder, "name", ref->name);
		firn_json_string(builder, "snapshot", ref->damage ? NULL : id);
		if (ref->damage)
			firn_json_string(builder, "damage", ref->damage);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
	if (cli->json)
		firn_cli_json_builder(builder);
	else
		g_object_unref(builder);
}

static void
print_ref(const FirnCli *cli, const char *name, const FirnId12 *snapshot)
{
	char id[FIRN_ID12_TEXT + 1];
	JsonBuilder *builder;

	firn_id12_format(snapshot, id);
	if (!cli->json) {
		puts(id);
		return;
	}
	builder = json_builder_new();
	json_builder_begin_object(builder);
	firn_json_string(builder, "name", name);
	firn_json_string(builder, "snapshot", id);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

static int
create(FirnCli *cli, const FirnTarget *target, const RefKind *kind, const char *name,
       const char *ref)
{
	g_autoptr(GError) error = NULL;
	FirnId12 snapshot;

	if (!firn_target_resolve(target, ref, &snapshot, &error) ||
	    !kind->create(target->repo, name, &snapshot, &error))
		return firn_cli_fail(cli, error);
	print_ref(cli, name, &snapshot);
	return FIRN_EXIT_DONE;
}

static int
remove_ref(FirnCli *cli, const FirnTarget *target, const RefKind *kind, const char *name)
{
	g_autoptr(GError) error = NULL;
	const FirnRefInfo *ref = kind->tags ? firn_repo_info_find_tag(target->info, name)
					    : firn_repo_info_find_branch(target->info, name);
	FirnId12 snapshot = ref ? ref->snapshot : (FirnId12){ { 0 } };

	if (!kind->remove(target->repo, name, &error))
		return firn_cli_fail(cli, error);
	/* Where it was: what is needed to make it again. */
	if (ref)
		print_ref(cli, name, &snapshot);
	return FIRN_EXIT_DONE;
}

static int
refs_command(FirnCli *cli, int argc, char **argv, const RefKind *kind)
{
	int result = firn_cli_parse_args(cli, &argc, &argv, NULL, 1, 4);
	g_autoptr(FirnTarget) target = NULL;
	const char *verb, *name;
	bool creates, lists;
	int next, most;

	if (result >= 0)
		return result;
	verb = argv[1];
	lists = !strcmp(verb, "list");
	creates = !strcmp(verb, "create");
	if (!lists && !creates && strcmp(verb, "delete") != 0)
		return firn_cli_usage(cli, "'list', 'create' or 'delete', not '%s'", verb);
	target = firn_target_open(cli, argc - 1, argv + 1, &next, &result);
	if (!target)
		return result;
	next++;
	most = lists ? 0 : creates ? 2 : 1;
	if (argc - next > most)
		return firn_cli_usage(cli, "one argument too many: '%s'", argv[next + most]);
	if (lists) {
		list(cli, kind->tags ? target->info->tags : target->info->branches);
		return FIRN_EXIT_DONE;
	}
	if (argc - next < 1)
		return firn_cli_usage(cli, "a name is missing");
	name = argv[next];
	if (!creates)
		return remove_ref(cli, target, kind, name);
	return create(cli, target, kind, name, argc - next > 1 ? argv[next + 1] : NULL);
}

int
firn_cmd_branch(FirnCli *cli, int argc, char **argv)
{
	static const RefKind kind = { false, firn_refs_create_branch, firn_refs_delete_branch };

	return refs_command(cli, argc, argv, &kind);
}

int
firn_cmd_tag(FirnCli *cli, int argc, char **argv)
{
	static const RefKind kind = { true, firn_refs_create_tag, firn_refs_delete_tag };

	return refs_command(cli, argc, argv, &kind);
}

static int
reset(FirnCli *cli, int argc, char **argv, const char *expect)
{
	g_autoptr(FirnTarget) target = NULL;
	g_autoptr(GError) error = NULL;
	FirnId12 snapshot, expected;
	int next, result;

	target = firn_target_open(cli, argc, argv, &next, &result);
	if (!target)
		return result;
	if (argc - next != 2)
		return firn_cli_usage(cli, "a branch and a snapshot are needed");
	if (!firn_target_resolve(target, argv[next + 1], &snapshot, &error) ||
	    (expect && !firn_target_resolve(target, expect, &expected, &error)) ||
	    !firn_refs_reset_branch(target->repo, argv[next], &snapshot, expect ? &expected : NULL,
				    &error))
		return firn_cli_fail(cli, error);
	print_ref(cli, argv[next], &snapshot);
	return FIRN_EXIT_DONE;
}

int
firn_cmd_reset(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *expect = NULL;
	const GOptionEntry entries[] = {
		{ "expect", 0, 0, G_OPTION_ARG_FILENAME, &expect,
		  "Refuse unless the branch is at this snapshot", "ID" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 2, 3);

	return result >= 0 ? result : reset(cli, argc, argv, expect);
}
