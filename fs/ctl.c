#include "fs/ctl.h"

#include "core/base/crash.h"
#include "core/base/deadline.h"
#include "core/repo/request.h"
#include "fs/content.h"
#include "fs/driver.h"
#include "fs/restore.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TELL_MS   10000u
#define SETTLE_MS 200u

struct FirnCtl {
	FirnDriver *driver;
	pthread_mutex_t lock; /* protects all below; held during a request */
	GBytes *reply;
	uint64_t answered; /* the request it is the reply to */
	char *image_path;  /* of the commit begun here; NULL: none */
};

typedef bool (*OpFn)(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error);

FirnCtl *
firn_ctl_new(FirnDriver *driver)
{
	FirnCtl *ctl = g_new0(FirnCtl, 1);

	ctl->driver = driver;
	pthread_mutex_init(&ctl->lock, NULL);
	return ctl;
}

static const char *
code_name(const GError *error)
{
	static const struct {
		FirnError code;
		const char *name;
	} names[] = {
		{ FIRN_ERROR_CONFLICT, "conflict" },   { FIRN_ERROR_BUSY, "busy" },
		{ FIRN_ERROR_NOTHING, "nothing" },     { FIRN_ERROR_INVALID, "invalid" },
		{ FIRN_ERROR_READ_ONLY, "read-only" }, { FIRN_ERROR_NOT_FOUND, "not-found" },
		{ FIRN_ERROR_EXISTS, "exists" },       { FIRN_ERROR_DENIED, "denied" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		if (g_error_matches(error, FIRN_ERROR, (gint)names[i].code))
			return names[i].name;
	return "failed";
}

static bool
refuse(GError **error, FirnError code, const char *message)
{
	g_set_error_literal(error, FIRN_ERROR, (gint)code, message);
	return false;
}

static bool
need_writable(FirnCtl *ctl, GError **error)
{
	if (!firn_driver_is_read_only(ctl->driver))
		return true;
	return refuse(error, FIRN_ERROR_READ_ONLY,
		      "this mount is read-only: it has no session to change");
}

/* ---- requests that only tell ---- */

static bool
do_session(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	(void)request;
	(void)error;
	json_object_set_object_member(reply, "session", firn_control_session(ctl->driver));
	return true;
}

static void
set_list(JsonObject *reply, const char *name, const GPtrArray *list)
{
	JsonArray *array = json_array_new();

	for (guint i = 0; list && i < list->len; i++)
		json_array_add_string_element(array, g_ptr_array_index(list, i));
	json_object_set_array_member(reply, name, array);
}

static bool
do_status(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	g_autoptr(FirnViewStatus) status = NULL;

	(void)request;
	(void)error;
	firn_handles_settle(ctl->driver->handles, ctl->driver->view, SETTLE_MS);
	status = firn_view_status(ctl->driver->view);
	json_object_set_int_member(reply, "last_seq", (gint64)status->last_seq);
	json_object_set_int_member(reply, "changed_chunks", (gint64)status->n_changed_chunks);
	set_list(reply, "nodes", status->nodes);
	set_list(reply, "pending", status->pending);
	set_list(reply, "scratch", status->scratch);
	set_list(reply, "writers", status->writers);
	return true;
}

static bool
do_fork(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	g_autoptr(FirnForkToken) token = NULL;
	g_autofree char *text = NULL;
	JsonNode *node;

	(void)request;
	if (!need_writable(ctl, error))
		return false;
	token = firn_view_fork(ctl->driver->view, error);
	if (!token)
		return false;
	text = firn_fork_token_to_json(token);
	node = json_from_string(text, error);
	if (!node)
		return false;
	json_object_set_member(reply, "token", node);
	return true;
}

/* ---- commit ---- */

static bool
begun_here(FirnCtl *ctl, GError **error)
{
	if (ctl->image_path)
		return true;
	return refuse(error, FIRN_ERROR_INVALID, "no commit was begun on this open file");
}

/* One whose committer was killed may be on its way to its end. */
static bool
claim_commit(FirnCtl *ctl, unsigned wait_ms, GError **error)
{
	struct timespec until = firn_deadline_in(wait_ms);
	FirnDriver *driver = ctl->driver;
	FIRN_LOCK_SCOPE(&driver->lock);

	/* On the same open file it would wait for itself. */
	while (driver->committing && driver->committing != ctl &&
	       !pthread_cond_timedwait(&driver->yielded, &driver->lock, &until))
		;
	if (driver->committing)
		return refuse(error, FIRN_ERROR_BUSY, "another commit of this mount is going on");
	driver->committing = ctl;
	return true;
}

static void
yield_commit(FirnCtl *ctl)
{
	FIRN_LOCK_SCOPE(&ctl->driver->lock);

	ctl->driver->committing = NULL;
	pthread_cond_signal(&ctl->driver->yielded);
}

static void
drop_image(FirnCtl *ctl)
{
	unlink(ctl->image_path);
	g_clear_pointer(&ctl->image_path, g_free);
}

/* What `firn sessions` shows of a session follows its base. */
static void
record_base(FirnDriver *driver, const FirnId12 *base)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnSessionInfo) info = NULL;

	{
		FIRN_LOCK_SCOPE(&driver->lock);

		driver->base = *base;
	}
	info = firn_state_read_info(driver->session->directory, &error);
	if (info && firn_id12_equal(&info->base, base))
		return;
	if (info)
		info->base = *base;
	if (!info || !firn_state_write_info(info, &error))
		firn_view_note(driver->view, NULL, "session.json: %s", error->message);
}

/* The session may have moved by itself: to a commit that was made, though nobody said so. */
static void
follow_base(FirnDriver *driver)
{
	FirnId12 base;
	bool moved;

	firn_view_base(driver->view, &base);
	{
		FIRN_LOCK_SCOPE(&driver->lock);

		moved = firn_id12_compare(&base, &driver->base) != 0;
	}
	if (moved)
		record_base(driver, &base);
}

/* End the commit begun here: nobody says whether it was made. */
static void
abandon_commit(FirnCtl *ctl)
{
	g_autoptr(GError) error = NULL;
	GPtrArray *stale = NULL;

	if (!firn_view_commit_end(ctl->driver->view, NULL, &stale, &error))
		firn_view_note(ctl->driver->view, NULL, "ending a commit: %s", error->message);
	follow_base(ctl->driver);
	firn_notify_push(ctl->driver->notify, stale);
	drop_image(ctl);
	yield_commit(ctl);
}

static bool
write_image(FirnCtl *ctl, GBytes *image, uint64_t seq, GError **error)
{
	g_autofree char *name = g_strdup_printf("commit-%" G_GUINT64_FORMAT ".journal", seq);
	g_autoptr(GError) failure = NULL;
	const char *data;
	size_t len;

	ctl->image_path = g_build_filename(ctl->driver->session->directory, name, NULL);
	if (!image)
		return refuse(error, FIRN_ERROR_LIMIT, FIRN_CONTENT_TOO_MUCH);
	data = g_bytes_get_data(image, &len);
	/* One a killed driver left behind would only be written over, as far as ours goes. */
	(void)unlink(ctl->image_path);
	if (g_file_set_contents_full(ctl->image_path, data, (gssize)len, G_FILE_SET_CONTENTS_NONE,
				     0600, &failure))
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
		    "cannot keep the journal for the commit: %s", failure->message);
	return false;
}

static bool
do_commit_begin(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	g_autoptr(GBytes) image = NULL;
	g_autoptr(FirnViewStatus) status = NULL;
	int64_t wait_ms = firn_request_number(request, "wait_ms", 0, G_MAXINT, 0);
	bool alone = firn_request_flag(request, "alone");
	uint64_t seq = 0;

	if (!need_writable(ctl, error) || !claim_commit(ctl, (unsigned)wait_ms, error))
		return false;
	if (!firn_view_commit_begin(ctl->driver->view, (unsigned)wait_ms, alone, &image, &seq,
				    error)) {
		yield_commit(ctl);
		return false;
	}
	follow_base(ctl->driver);
	if (!write_image(ctl, image, seq, error)) {
		abandon_commit(ctl);
		return false;
	}
	firn_crash_point(FIRN_CRASH_IMAGE_WRITTEN);
	status = firn_view_status(ctl->driver->view);
	json_object_set_string_member(reply, "journal", ctl->image_path);
	json_object_set_int_member(reply, "seq", (gint64)seq);
	set_list(reply, "pending", status->pending);
	set_list(reply, "scratch", status->scratch);
	return true;
}

static bool
do_commit_intent(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	g_autoptr(GError) failure = NULL;
	FirnId12 snapshot;

	(void)reply;
	if (!begun_here(ctl, error))
		return false;
	if (!firn_request_id(request, "snapshot", &snapshot, &failure)) {
		if (failure)
			g_propagate_error(error, g_steal_pointer(&failure));
		else
			refuse(error, FIRN_ERROR_INVALID, "\"snapshot\" is missing");
		return false;
	}
	return firn_view_commit_intent(ctl->driver->view, &snapshot, error);
}

static bool
do_commit_end(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	g_autoptr(GError) failure = NULL;
	GPtrArray *stale = NULL;
	FirnId12 snapshot;
	bool committed;

	(void)reply;
	if (!begun_here(ctl, error))
		return false;
	committed = firn_request_id(request, "snapshot", &snapshot, &failure);
	if (failure) {
		g_propagate_error(error, g_steal_pointer(&failure));
		return false;
	}
	if (!committed) {
		abandon_commit(ctl);
		return true;
	}
	committed = firn_view_commit_end(ctl->driver->view, &snapshot, &stale, error);
	firn_notify_push(ctl->driver->notify, stale);
	if (!committed)
		return false;
	record_base(ctl->driver, &snapshot);
	drop_image(ctl);
	yield_commit(ctl);
	/* Who commits expects to see the commit: give the kernel time to let go of the old. */
	firn_notify_wait(ctl->driver->notify, TELL_MS);
	return true;
}

/* ---- ends ---- */

static bool
do_discard(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	GPtrArray *stale = NULL;
	bool dropped;

	(void)request;
	(void)reply;
	if (!need_writable(ctl, error))
		return false;
	firn_handles_settle(ctl->driver->handles, ctl->driver->view, SETTLE_MS);
	dropped = firn_view_discard(ctl->driver->view, &stale, error);
	firn_notify_push(ctl->driver->notify, stale);
	if (dropped)
		firn_notify_wait(ctl->driver->notify, TELL_MS);
	return dropped;
}

static bool
do_shutdown(FirnCtl *ctl, JsonObject *request, JsonObject *reply, GError **error)
{
	bool discard = firn_request_flag(request, "discard");
	FIRN_LOCK_SCOPE(&ctl->driver->lock);

	(void)reply;
	(void)error;
	ctl->driver->discard = discard;
	if (ctl->driver->succession.keep && discard)
		firn_keep_put_now(ctl->driver->succession.keep, FIRN_KEPT_DISCARD, 0, "", 0);
	else if (ctl->driver->succession.keep)
		firn_keep_drop_now(ctl->driver->succession.keep, FIRN_KEPT_DISCARD, 0);
	return true;
}

static const struct {
	const char *name;
	OpFn run;
} ops[] = {
	{ "session", do_session },
	{ "status", do_status },
	{ "commit-begin", do_commit_begin },
	{ "commit-intent", do_commit_intent },
	{ "commit-end", do_commit_end },
	{ "discard", do_discard },
	{ "fork", do_fork },
	{ "shutdown", do_shutdown },
};

static bool
run_request(FirnCtl *ctl, const char *data, size_t size, JsonObject *reply, GError **error)
{
	const char *op = NULL;
	g_autoptr(JsonObject) request =
		firn_request_parse((FirnSpan){ (const uint8_t *)data, size }, &op, error);

	if (!request)
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(ops); i++)
		if (!strcmp(op, ops[i].name))
			return ops[i].run(ctl, request, reply, error);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "unknown \"op\": %s", op);
	return false;
}

void
firn_ctl_request(FirnCtl *ctl, uint64_t request, const char *data, size_t size)
{
	g_autoptr(GError) error = NULL;
	JsonObject *reply;
	char *text;
	FIRN_LOCK_SCOPE(&ctl->lock);

	if (request && request == ctl->answered)
		return;
	reply = json_object_new();
	json_object_set_boolean_member(reply, "ok", TRUE);
	run_request(ctl, data, size, reply, &error);
	if (error) {
		json_object_set_boolean_member(reply, "ok", FALSE);
		json_object_set_string_member(reply, "error", error->message);
		json_object_set_string_member(reply, "code", code_name(error));
	}
	text = firn_content_json(reply);
	g_bytes_unref(ctl->reply);
	ctl->reply = g_bytes_new_take(text, strlen(text));
	ctl->answered = request;
}

void
firn_ctl_keep(FirnCtl *ctl, GByteArray *out)
{
	FIRN_LOCK_SCOPE(&ctl->lock);
	gsize len = 0;
	const void *data = ctl->reply ? g_bytes_get_data(ctl->reply, &len) : NULL;

	firn_keep_add(out, ctl->answered);
	firn_keep_add_text(out, ctl->image_path);
	firn_keep_add_bytes(out, data, len);
}

FirnCtl *
firn_ctl_restore(FirnDriver *driver, FirnKeepReader *reader)
{
	FirnCtl *ctl = firn_ctl_new(driver);
	FirnSpan reply;

	ctl->answered = firn_keep_take(reader);
	ctl->image_path = firn_keep_take_text(reader);
	reply = firn_keep_take_bytes(reader);
	ctl->reply = g_bytes_new(reply.data, reply.len);
	if (*ctl->image_path)
		driver->committing = ctl;
	else
		g_clear_pointer(&ctl->image_path, g_free);
	return ctl;
}

void
firn_ctl_forget_commit(FirnDriver *driver)
{
	GPtrArray *stale = NULL;
	g_autoptr(GError) error = NULL;

	/* That none was begun is as good. */
	if (!firn_view_commit_end(driver->view, NULL, &stale, &error))
		g_clear_error(&error);
	follow_base(driver);
	firn_notify_push(driver->notify, stale);
}

GBytes *
firn_ctl_read(FirnCtl *ctl, size_t size, uint64_t offset)
{
	FIRN_LOCK_SCOPE(&ctl->lock);
	size_t len = 0;
	const uint8_t *data = ctl->reply ? g_bytes_get_data(ctl->reply, &len) : NULL;

	if (offset >= len)
		return g_bytes_new(NULL, 0);
	return g_bytes_new(data + offset, MIN(size, len - (size_t)offset));
}

void
firn_ctl_free(FirnCtl *ctl)
{
	if (!ctl)
		return;
	if (ctl->image_path)
		abandon_commit(ctl);
	g_bytes_unref(ctl->reply);
	pthread_mutex_destroy(&ctl->lock);
	g_free(ctl);
}
