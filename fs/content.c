#include "fs/content.h"

#include "core/base/clock.h"
#include "core/repo/text.h"
#include "fs/driver.h"
#include "fs/ring.h"

#include <string.h>
#include <unistd.h>

static GBytes *
take_text(char *text)
{
	return g_bytes_new_take(text, strlen(text));
}

char *
firn_content_json(JsonObject *object)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;

	json_node_take_object(node, object);
	text = json_to_string(node, TRUE);
	return g_strconcat(text, "\n", NULL);
}

static void
set_string(JsonObject *object, const char *name, const char *value)
{
	if (value)
		json_object_set_string_member(object, name, value);
	else
		json_object_set_null_member(object, name);
}

JsonObject *
firn_control_session(FirnDriver *driver)
{
	JsonObject *object = json_object_new();
	g_autofree char *started = firn_clock_format_us(driver->started_us);
	char base[FIRN_ID12_TEXT + 1];
	FirnId12 base_id;

	firn_view_base(driver->view, &base_id);
	firn_id12_format(&base_id, base);
	set_string(object, "id", driver->session_id);
	set_string(object, "repository", firn_repo_url(driver->repo));
	set_string(object, "branch", driver->branch);
	set_string(object, "base", base);
	set_string(object, "mode", firn_driver_is_read_only(driver) ? "ro" : "rw");
	set_string(object, "fork_of", driver->fork_of);
	json_object_set_int_member(object, "pid", firn_driver_pid(driver));
	json_object_set_int_member(object, "worker", getpid());
	json_object_set_int_member(object, "restarts", driver->succession.n_restarts);
	set_string(object, "state_dir", driver->session->directory);
	set_string(object, "started", started);
	set_string(object, "version", FIRN_VERSION);
	set_string(object, "name", driver->name);
	set_string(object, "mountpoint", driver->options->mountpoint);
	return object;
}

GBytes *
firn_content_session(FirnDriver *driver, GError **error)
{
	(void)error;
	return take_text(firn_content_json(firn_control_session(driver)));
}

static GBytes *
check_image(GBytes *image, GError **error)
{
	if (!image)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, FIRN_CONTENT_TOO_MUCH);
	return image;
}

GBytes *
firn_content_journal(FirnDriver *driver, GError **error)
{
	return check_image(firn_view_image(driver->view), error);
}

GBytes *
firn_content_journal_peek(FirnDriver *driver, GError **error)
{
	return check_image(firn_view_peek_image(driver->view), error);
}

GBytes *
firn_content_status(FirnDriver *driver, GError **error)
{
	g_autoptr(FirnViewStatus) status = firn_view_status(driver->view);
	FirnTextStatus text = {
		.repository = firn_repo_url(driver->repo),
		.branch = driver->branch,
		.session = driver->session_id,
		.fork_of = driver->fork_of,
		.n_changed_chunks = status->n_changed_chunks,
		.nodes = status->nodes,
		.pending = status->pending,
		.scratch = status->scratch,
		.writers = status->writers,
		.restarts = driver->succession.n_restarts,
	};

	(void)error;
	firn_view_base(driver->view, &text.base);
	return take_text(firn_text_status(&text));
}

GBytes *
firn_content_diff(FirnDriver *driver, GError **error)
{
	g_autoptr(GBytes) image = NULL;
	g_autoptr(GPtrArray) sections = NULL;
	g_autoptr(FirnSnapshot) base = NULL;
	g_autoptr(FirnDiff) diff = NULL;
	FirnId12 base_id;

	if (firn_driver_is_read_only(driver))
		return take_text(g_strdup(""));
	firn_view_base(driver->view, &base_id);
	image = firn_content_journal_peek(driver, error);
	if (!image)
		return NULL;
	sections = firn_journal_decode(image, "the session's journal", NULL, error);
	if (!sections)
		return NULL;
	base = firn_repo_get_snapshot(driver->repo, &base_id, error);
	if (!base)
		return NULL;
	/* A live session's journal has one section. */
	for (guint i = 0; i < sections->len && !diff; i++) {
		const FirnSection *section = g_ptr_array_index(sections, i);

		diff = firn_text_diff_of_changes(section->changes, base);
	}
	return take_text(diff ? firn_text_diff(diff, FIRN_TEXT_DIFF_CHUNKS) : g_strdup(""));
}

GBytes *
firn_content_log(FirnDriver *driver, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(driver->repo, error);
	FirnId12 base;

	if (!info)
		return NULL;
	firn_view_base(driver->view, &base);
	return take_text(firn_text_log(info, &base, 0));
}

GBytes *
firn_content_errors(FirnDriver *driver, GError **error)
{
	(void)error;
	return take_text(firn_view_errors(driver->view));
}

GBytes *
firn_content_stats(FirnDriver *driver, GError **error)
{
	FirnViewStats stats;
	uint64_t decompressed, shared;
	GString *out = g_string_new(NULL);

	(void)error;
	firn_view_get_stats(driver->view, &stats);
	firn_repo_count_manifests(driver->repo, &decompressed, &shared);
	const struct {
		const char *name;
		const char *type;
		const char *help;
		uint64_t value;
	} rows[] = {
		{ "firn_lookups_total", "counter", "Names looked up", stats.lookups },
		{ "firn_reads_total", "counter", "Read requests", stats.reads },
		{ "firn_read_bytes_total", "counter", "Bytes read", stats.read_bytes },
		{ "firn_writes_total", "counter", "Write requests", stats.writes },
		{ "firn_written_bytes_total", "counter", "Bytes written", stats.written_bytes },
		{ "firn_published_total", "counter", "Chunks and documents recorded in the journal",
		  stats.published },
		{ "firn_errors_total", "counter", "Requests refused or failed", stats.errors },
		{ "firn_inodes", "gauge", "Inodes kept in memory", stats.inodes },
		{ "firn_open_files", "gauge", "Files open", stats.open_files },
		{ "firn_passthrough_opens_total", "counter",
		  "Files opened that the kernel reads by itself",
		  driver->passthrough ? firn_passthrough_count(driver->passthrough) : 0 },
		{ "firn_prefills_total", "counter", "Small files given to the kernel when opened",
		  firn_prefill_count(driver->prefill) },
		{ "firn_ring_requests_total", "counter", "Requests answered through io_uring",
		  firn_ring_count(__atomic_load_n(&driver->ring, __ATOMIC_ACQUIRE)) },
		{ "firn_manifests_read_total", "counter", "Manifests read and decompressed",
		  decompressed },
		{ "firn_manifests_shared_total", "counter",
		  "Manifests other mounts of this host had in memory", shared },
		{ "firn_restarts_total", "counter", "Times the driver died and was replaced",
		  driver->succession.n_restarts },
		{ "firn_changed_chunks", "gauge", "Chunks changed and not committed",
		  stats.changed_chunks },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		g_string_append_printf(out,
				       "# HELP %s %s.\n# TYPE %s %s\n%s %" G_GUINT64_FORMAT "\n",
				       rows[i].name, rows[i].help, rows[i].name, rows[i].type,
				       rows[i].name, rows[i].value);
	return take_text(g_string_free(out, FALSE));
}
