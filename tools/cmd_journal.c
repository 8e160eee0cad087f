#include "core/base/clock.h"
#include "core/zarr/name.h"
#include "tools/changes_text.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/source.h"

#include <stdio.h>
#include <string.h>

static void
print_header(const FirnSection *section)
{
	const FirnJournalHeader *header = section->header;
	char session[FIRN_ID12_TEXT + 1], base[FIRN_ID12_TEXT + 1];
	g_autofree char *created = firn_clock_format_us(header->created_us);

	firn_id12_format(&header->session, session);
	firn_id12_format(&header->base, base);
	printf("session     %s\n", session);
	printf("repository  %s\n", header->repository);
	printf("branch      %s\n", *header->branch ? header->branch : "-");
	printf("base        %s\n", base);
	printf("started     %s\n", created);
	if (header->fork)
		printf("fork        %s\n", header->fork);
	for (guint i = 0; i < header->ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(header->ancestors, FirnAncestor, i);

		firn_id12_format(&ancestor->session, session);
		printf("forked from %s at %" G_GUINT64_FORMAT "\n", session, ancestor->seq);
	}
	printf("records     %" G_GUINT64_FORMAT "%s\n", section->last_seq,
	       section->sealed ? ", sealed" : "");
}

static void
section_to_json(JsonBuilder *builder, const FirnSection *section)
{
	const FirnJournalHeader *header = section->header;
	char id[FIRN_ID12_TEXT + 1];
	g_autofree char *created = firn_clock_format_us(header->created_us);

	json_builder_begin_object(builder);
	firn_id12_format(&header->session, id);
	firn_json_string(builder, "session", id);
	firn_json_string(builder, "repository", header->repository);
	firn_json_int(builder, "spec_version", header->spec_version);
	firn_json_string(builder, "branch", header->branch);
	firn_id12_format(&header->base, id);
	firn_json_string(builder, "base", id);
	firn_json_string(builder, "created", created);
	firn_json_string(builder, "fork", header->fork);
	json_builder_set_member_name(builder, "ancestors");
	json_builder_begin_array(builder);
	for (guint i = 0; i < header->ancestors->len; i++) {
		const FirnAncestor *ancestor = &g_array_index(header->ancestors, FirnAncestor, i);

		json_builder_begin_object(builder);
		firn_id12_format(&ancestor->session, id);
		firn_json_string(builder, "session", id);
		firn_json_int(builder, "seq", (int64_t)ancestor->seq);
		json_builder_end_object(builder);
	}
	json_builder_end_array(builder);
	firn_json_int(builder, "last_seq", (int64_t)section->last_seq);
	firn_json_bool(builder, "sealed", section->sealed);
	firn_changes_to_json(section->changes, builder);
	json_builder_end_object(builder);
}

/* Whether all chunks that were left in a file could be read. */
static bool
check_read(GPtrArray *sections, GError **error)
{
	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);

		if (!firn_changes_check(section->changes, error))
			return false;
	}
	return true;
}

static int
show(FirnCli *cli, FirnOrigin *origin)
{
	g_autoptr(GError) error = NULL;
	JsonBuilder *builder = cli->json ? json_builder_new() : NULL;

	if (builder)
		json_builder_begin_array(builder);
	for (guint i = 0; i < origin->sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(origin->sections, i);

		if (builder) {
			section_to_json(builder, section);
			continue;
		}
		if (i)
			putchar('\n');
		print_header(section);
		firn_changes_print(section->changes, true, "  ");
	}
	/* Chunks were read from the file just now. */
	if (!check_read(origin->sections, &error)) {
		g_clear_object(&builder);
		return firn_cli_fail(cli, error);
	}
	if (builder) {
		json_builder_end_array(builder);
		firn_cli_json_builder(builder);
	}
	return FIRN_EXIT_DONE;
}

typedef struct {
	FirnStore *store;
	GPtrArray *problems;                          /* char * */
	char key[sizeof("chunks/") + FIRN_ID12_TEXT]; /* of the object looked at last; "": none */
	bool exists;
	uint64_t size;
	uint64_t checked;
	uint64_t total;
	FirnProgress progress;
} Verify;

/* What a chunk or a pending file names: `*out_problem`, if it is not there (caller owns).  False only
 * if the store fails. */
static bool
verify_content(Verify *verify, const FirnChunkChange *change, char **out_problem, GError **error)
{
	char id[FIRN_ID12_TEXT + 1];
	char key[sizeof("chunks/") + FIRN_ID12_TEXT];
	uint64_t offset = firn_chunk_change_offset(change);
	uint64_t length = firn_chunk_change_length(change);

	*out_problem = NULL;
	if (change->kind != FIRN_REF_NATIVE)
		return true;
	firn_id12_format(firn_chunk_change_id(change), id);
	g_snprintf(key, sizeof(key), "chunks/%s", id);
	/* Chunks that follow each other often share an object. */
	if (strcmp(key, verify->key) != 0) {
		if (!firn_store_stat(verify->store, key, &verify->exists, &verify->size, NULL,
				     error))
			return false;
		g_strlcpy(verify->key, key, sizeof(verify->key));
	}
	firn_progress_step("verifying", ++verify->checked, verify->total, &verify->progress);
	if (verify->exists && offset <= verify->size && length <= verify->size - offset)
		return true;
	if (!verify->exists)
		*out_problem = g_strdup_printf("%s is missing", key);
	else
		*out_problem = g_strdup_printf("%s has %" G_GUINT64_FORMAT
					       " bytes, %" G_GUINT64_FORMAT " are needed",
					       key, verify->size, offset + length);
	return true;
}

static bool
verify_chunk(Verify *verify, const FirnNodeChange *node, const uint32_t *coords,
	     const FirnChunkChange *change, GError **error)
{
	g_autofree char *problem = NULL;
	g_autofree char *name = NULL;

	if (!verify_content(verify, change, &problem, error))
		return false;
	if (!problem)
		return true;
	name = firn_name_format_chunk(coords, firn_chunk_map_rank(node->chunks));
	g_ptr_array_add(verify->problems, g_strdup_printf("%s/%s: %s", node->path, name, problem));
	return true;
}

static gint
compare_pending(gconstpointer a, gconstpointer b)
{
	const FirnPending *const *x = a, *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

static bool
verify_pending(Verify *verify, const FirnChanges *changes, GError **error)
{
	g_autoptr(GPtrArray) sorted = g_ptr_array_new();
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value))
		g_ptr_array_add(sorted, value);
	g_ptr_array_sort(sorted, compare_pending);
	for (guint i = 0; i < sorted->len; i++) {
		const FirnPending *pending = g_ptr_array_index(sorted, i);
		g_autofree char *problem = NULL;

		if (!verify_content(verify, &pending->content, &problem, error))
			return false;
		if (problem)
			g_ptr_array_add(verify->problems,
					g_strdup_printf("%s: %s", pending->path, problem));
	}
	return true;
}

static bool
verify_section(Verify *verify, const FirnSection *section, GError **error)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(section->changes);

	for (guint i = 0; i < nodes->len; i++) {
		const FirnNodeChange *node = g_ptr_array_index(nodes, i);
		FirnChunkIter iter;
		FirnChunkChange *change;
		const uint32_t *coords;

		if (!node->chunks)
			continue;
		firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
		while (firn_chunk_iter_next(&iter, &coords, &change))
			if (!verify_chunk(verify, node, coords, change, error))
				return false;
	}
	/* The end of the chunks may be that of what could be read. */
	return firn_changes_check(section->changes, error) &&
	       verify_pending(verify, section->changes, error);
}

static bool
verify_all(Verify *verify, FirnRepo *repo, GPtrArray *sections, GError **error)
{
	for (guint i = 0; i < sections->len; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);

		if (section->header->identity != firn_repo_identity(repo)) {
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_CONFLICT,
				    "the journal belongs to another repository (once %s) than %s",
				    section->header->repository, firn_repo_url(repo));
			return false;
		}
		verify->total +=
			section->changes->n_chunks + g_hash_table_size(section->changes->pending);
	}
	for (guint i = 0; i < sections->len; i++)
		if (!verify_section(verify, g_ptr_array_index(sections, i), error))
			return false;
	return true;
}

static void
verify_to_json(const Verify *verify)
{
	JsonBuilder *builder = json_builder_new();

	json_builder_begin_object(builder);
	firn_json_bool(builder, "ok", !verify->problems->len);
	firn_json_int(builder, "chunks_checked", (int64_t)verify->checked);
	json_builder_set_member_name(builder, "problems");
	json_builder_begin_array(builder);
	for (guint i = 0; i < verify->problems->len; i++) {
		g_autofree char *valid =
			g_utf8_make_valid(g_ptr_array_index(verify->problems, i), -1);

		json_builder_add_string_value(builder, valid);
	}
	json_builder_end_array(builder);
	json_builder_end_object(builder);
	firn_cli_json_builder(builder);
}

static int
verify(FirnCli *cli, FirnOrigin *origin, const char *repo_name)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
	Verify work = { .problems = problems, .progress = firn_progress_new() };
	bool ok;

	if (firn_origin_check_whole(origin, &error))
		repo = firn_origin_open_repo(origin, repo_name, &error);
	if (!repo)
		return firn_cli_fail(cli, error);
	work.store = firn_repo_store(repo);
	ok = verify_all(&work, repo, origin->sections, &error);
	firn_progress_end(&work.progress);
	if (!ok)
		return firn_cli_fail(cli, error);
	if (cli->json)
		verify_to_json(&work);
	for (guint i = 0; !cli->json && i < problems->len; i++)
		puts(g_ptr_array_index(problems, i));
	if (problems->len) {
		fprintf(stderr,
			"firn: %s: %u of %" G_GUINT64_FORMAT " chunk objects are not in %s: %s%s\n",
			origin->name, problems->len, work.checked, firn_repo_url(repo),
			(const char *)g_ptr_array_index(problems, 0),
			problems->len > 1 ? "..." : "");
		return FIRN_EXIT_FAILED;
	}
	if (!cli->json)
		printf("%s is whole: %u session%s, %" G_GUINT64_FORMAT " chunk objects checked\n",
		       origin->name, origin->sections->len, origin->sections->len == 1 ? "" : "s",
		       work.checked);
	return FIRN_EXIT_DONE;
}

static int
export_journal(FirnCli *cli, FirnOrigin *origin, const char *output)
{
	g_autoptr(GError) error = NULL;

	if (!firn_journal_write(output, origin->sections, &error))
		return firn_cli_fail(cli, error);
	if (cli->json) {
		JsonBuilder *builder = json_builder_new();
		g_autoptr(GPtrArray) origins = g_ptr_array_new();

		g_ptr_array_add(origins, origin);
		json_builder_begin_object(builder);
		firn_json_string(builder, "journal", output);
		firn_json_int(builder, "sessions", origin->sections->len);
		firn_origins_torn_to_json(builder, origins);
		json_builder_end_object(builder);
		firn_cli_json_builder(builder);
	}
	return FIRN_EXIT_DONE;
}

static int
journal(FirnCli *cli, int argc, char **argv, const char *state_dir, const char *repo,
	const char *output)
{
	g_autofree char *root = firn_state_root(state_dir);
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnOrigin) origin = NULL;
	bool exports = !strcmp(argv[1], "export");

	if (!exports && strcmp(argv[1], "show") != 0 && strcmp(argv[1], "verify") != 0)
		return firn_cli_usage(cli, "'show', 'verify' or 'export', not '%s'", argv[1]);
	if (exports != (output != NULL))
		return firn_cli_usage(cli, exports ? "where to? -o FILE" : "-o is for 'export'");
	origin = firn_origin_resolve(argc > 2 ? argv[2] : ".", root, &error);
	if (!origin || !firn_origin_read(origin, NULL, &error))
		return firn_cli_fail(cli, error);
	if (origin->torn && origin->kind != FIRN_ORIGIN_SESSION && strcmp(argv[1], "verify") != 0)
		firn_cli_warn("%s ends in the middle of a record: %" G_GUINT64_FORMAT
			      " bytes are left out",
			      origin->name, origin->torn);
	if (exports)
		return export_journal(cli, origin, output);
	return !strcmp(argv[1], "show") ? show(cli, origin) : verify(cli, origin, repo);
}

int
firn_cmd_journal(FirnCli *cli, int argc, char **argv)
{
	g_autofree char *output = NULL;
	g_autofree char *state_dir = NULL;
	g_autofree char *repo = NULL;
	const GOptionEntry entries[] = {
		{ "output", 'o', 0, G_OPTION_ARG_FILENAME, &output,
		  "export: write the journal to FILE", "FILE" },
		{ "repo", 0, 0, G_OPTION_ARG_FILENAME, &repo,
		  "verify: the repository, if it moved since", "REPO" },
		{ "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &state_dir,
		  "Where sessions keep their state", "DIR" },
		{ NULL, 0, 0, 0, NULL, NULL, NULL },
	};
	int result = firn_cli_parse_args(cli, &argc, &argv, entries, 1, 2);

	return result >= 0 ? result : journal(cli, argc, argv, state_dir, repo, output);
}
