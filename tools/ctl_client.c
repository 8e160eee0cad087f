#include "tools/ctl_client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)1 << 30)
#define BLOCK       ((size_t)1 << 16)

struct FirnCtl {
	int fd;
	char *path;
};

FirnCtl *
firn_ctl_open(const FirnMount *mount, GError **error)
{
	g_autofree char *path = g_build_filename(mount->root, ".firn", "ctl", NULL);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	FirnCtl *ctl;

	if (fd < 0) {
		firn_error_set_errno(error, errno, "cannot talk to the mount: %s", path);
		return NULL;
	}
	ctl = g_new0(FirnCtl, 1);
	ctl->fd = fd;
	ctl->path = g_steal_pointer(&path);
	return ctl;
}

void
firn_ctl_close(FirnCtl *ctl)
{
	if (!ctl)
		return;
	close(ctl->fd);
	g_free(ctl->path);
	g_free(ctl);
}

JsonObject *
firn_ctl_request(const char *op)
{
	JsonObject *request = json_object_new();

	json_object_set_string_member(request, "op", op);
	return request;
}

static bool
send_request(FirnCtl *ctl, JsonObject *request, GError **error)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;
	size_t len;
	ssize_t n;

	json_node_take_object(node, request);
	text = json_to_string(node, FALSE);
	len = strlen(text);
	do
		n = pwrite(ctl->fd, text, len, 0);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return true;
	firn_error_set_errno(error, n < 0 ? errno : EIO, "cannot talk to the mount: %s", ctl->path);
	return false;
}

static GByteArray *
receive(FirnCtl *ctl, GError **error)
{
	g_autoptr(GByteArray) reply = g_byte_array_new();
	char block[BLOCK];
	ssize_t n;

	for (;;) {
		n = pread(ctl->fd, block, sizeof(block), (off_t)reply->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || reply->len > REPLY_LIMIT)
			break;
		g_byte_array_append(reply, (const uint8_t *)block, (guint)n);
	}
	if (n == 0)
		return g_steal_pointer(&reply);
	firn_error_set_errno(error, n < 0 ? errno : EFBIG, "no answer from the mount: %s",
			     ctl->path);
	return NULL;
}

static FirnError
code_of(const char *word)
{
	static const struct {
		const char *word;
		FirnError code;
	} codes[] = {
		{ "conflict", FIRN_ERROR_CONFLICT },   { "busy", FIRN_ERROR_BUSY },
		{ "nothing", FIRN_ERROR_NOTHING },     { "invalid", FIRN_ERROR_INVALID },
		{ "read-only", FIRN_ERROR_READ_ONLY }, { "not-found", FIRN_ERROR_NOT_FOUND },
		{ "exists", FIRN_ERROR_EXISTS },       { "denied", FIRN_ERROR_DENIED },
	};

	for (size_t i = 0; word && i < G_N_ELEMENTS(codes); i++)
		if (!strcmp(word, codes[i].word))
			return codes[i].code;
	return FIRN_ERROR_STORE;
}

JsonObject *
firn_ctl_call(FirnCtl *ctl, JsonObject *request, GError **error)
{
	g_autoptr(GByteArray) text = NULL;
	g_autoptr(JsonParser) parser = json_parser_new();
	JsonNode *root;
	JsonObject *reply;
	const char *reason;

	if (!send_request(ctl, request, error))
		return NULL;
	text = receive(ctl, error);
	if (!text)
		return NULL;
	if (!json_parser_load_from_data(parser, (const char *)text->data, (gssize)text->len,
					NULL) ||
	    !(root = json_parser_get_root(parser)) || !JSON_NODE_HOLDS_OBJECT(root)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE, "%s: the answer is not JSON",
			    ctl->path);
		return NULL;
	}
	reply = json_node_get_object(root);
	if (json_object_get_boolean_member_with_default(reply, "ok", FALSE))
		return json_object_ref(reply);
	reason = firn_reply_string(reply, "error");
	g_set_error_literal(error, FIRN_ERROR, (gint)code_of(firn_reply_string(reply, "code")),
			    reason ? reason : "the mount refused without saying why");
	return NULL;
}

const char *
firn_reply_string(JsonObject *reply, const char *member)
{
	JsonNode *node = json_object_get_member(reply, member);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

uint64_t
firn_reply_uint(JsonObject *reply, const char *member)
{
	JsonNode *node = json_object_get_member(reply, member);

	if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
		return 0;
	return (uint64_t)MAX(json_node_get_int(node), 0);
}

GPtrArray *
firn_reply_strings(JsonObject *reply, const char *member)
{
	GPtrArray *strings = g_ptr_array_new_with_free_func(g_free);
	JsonNode *node = json_object_get_member(reply, member);
	JsonArray *list = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

	for (guint i = 0; list && i < json_array_get_length(list); i++) {
		JsonNode *item = json_array_get_element(list, i);

		if (JSON_NODE_HOLDS_VALUE(item) && json_node_get_value_type(item) == G_TYPE_STRING)
			g_ptr_array_add(strings, json_node_dup_string(item));
	}
	return strings;
}
