#include "core/repo/fsck.h"
#include "tools/commands.h"
#include "tools/mountpoint.h"
#include "tools/progress.h"

#include <stdio.h>
#include <string.h>

static void
print_finding(const FirnFsckFinding *finding)
{
	g_autofree char *object = firn_text_escape(finding->object, strlen(finding->object));
	g_autofree char *what = firn_text_escape(finding->what, strlen(finding->what));
	g_autofree char *path =
		finding->path ? firn_text_escape(finding->path, strlen(finding->path)) : NULL;

	printf("%s: %s%s%s%s: %s; %s\n", finding->kind, object, path ? " (" : "", path ? path : "",
	       path ? ")" : "", what, finding->repaired ? "removed" : finding->remedy);
}

static void
print_report(const FirnFsckReport *report, bool deep)
{
	for (guint i = 0; i < report->findings->len; i++)
		print_finding(report->findings->pdata[i]);
	printf("%" G_GUINT64_FORMAT " snapshots, %" G_GUINT64_FORMAT
	       " transaction logs, %" G_GUINT64_FORMAT " manifests, %" G_GUINT64_FORMAT
	       " references",
	       report->n_snapshots, report->n_logs, report->n_manifests, report->n_refs);
	if (deep)
		printf(", %" G_GUINT64_FORMAT " chunk objects", report->n_chunks);
	if (report->n_damages == 0)
		puts(": no damage found");
	else
		printf(": %" G_GUINT64_FORMAT " damages found\n", report->n_damages);
	if (report->n_omitted > 0)
		firn_cli_note("%" G_GUINT64_FORMAT " more findings are not shown",
			      report->n_omitted);
}

static void
finding_to_json(JsonBuilder *builder, const FirnFsckFinding *finding)
{
	json_builder_begin_object(builder);
	firn_json_string(builder, "severity",
			 finding->severity == FIRN_FSCK_DAMAGE ? "damage" : "leftover");
	firn_json_string(builder, "kind", finding->kind);
	firn_json_string(builder, "object", finding->object);
	firn_json_string(builder, "path", finding->path);
	firn_json_string(builder, "what", finding->what);
	firn_json_string(builder, "remedy", finding->remedy);
	firn_json_bool(builder, "repaired", finding->repaired);
	json_builder_end_object(builder);
}

static void
print_json(const FirnFsckReport *report)
{
	JsonBuilder *builder = json_builder_new();

	json_builder_begin_object(builder);
	firn_json_bool(builder, "clean", report->n_damages == 0);
	firn_json_int(builder, "damages", (int64_t)report->n_damages);
	firn_json_int(builder, "omitted", (int64_t)report->n_omitted);
	firn_json_int(builder, "snapshots", (int64_t)report->n_snapshots);
	firn_json_int(builder, "transaction_logs", (int64_t)report->n_logs);
	firn_json_int(builder, "manifests", (int64_t)report->n_manifests);
	firn_json_int(builder, "references", (int64_t)report->n_refs);
	firn_json_int(builder, "chunk_objects", (int64_t)report->n_chunks);
	json_builder_set_member_name(builder, "findings");
	json_builder_begin_array(builder);
	for (guint i = 0; i < report->findings->len; i++)
		finding_to_json(builder, report->findings->pdata[i]);
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

int
firn_cmd_fsck(FirnCli *cli, int argc, char **argv)
{
	gboolean deep = FALSE, repair = FALSE;
	const GOptionEntry entries[] = {
		{ "deep", 0, 0, G_OPTION_ARG_NONE, &deep,
		  "Also look whether every chunk's object is there, and long enough", NULL },
		{ "repair", 0, 0, G_OPTION_ARG_NONE, &repair,
		  "Remove what dead writers left, and nothing else needs", NULL },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 1);
	FirnProgress progress = firn_progress_new();
	FirnFsckOptions options = { .progress = firn_progress_step, .data = &progress };
	g_autoptr(FirnMount) mount = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnFsckReport) report = NULL;

	if (result >= 0)
		return result;
	options.deep = deep;
	options.repair = repair;
	/* A mount means its repository; what else is wrong with the name is said below. */
	if (!strstr(argv[1], "://"))
		mount = firn_mount_find(argv[1], NULL);
	report = firn_fsck(mount ? firn_mount_string(mount, "repository") : argv[1], &options,
			   &error);
	firn_progress_end(&progress);
	if (!report)
		return firn_cli_fail(cli, error);
	if (cli->json)
		print_json(report);
	else
		print_report(report, deep);
	return report->n_damages > 0 ? FIRN_EXIT_FAILED : FIRN_EXIT_DONE;
}
