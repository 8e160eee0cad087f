#include "core/repo/request.h"

#include "core/base/error.h"
#include "core/base/json_check.h"

#include <string.h>

#define MAX_DEPTH 16u

static JsonObject *
refuse(GError **error, const char *message)
{
	g_set_error_literal(error, FIRN_ERROR, FIRN_ERROR_INVALID, message);
	return NULL;
}

/* A member's value if it has the type, else NULL. */
static JsonNode *
member_of_type(JsonObject *request, const char *name, GType type)
{
	JsonNode *node = json_object_get_member(request, name);

	return node != NULL && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type
		       ? node
		       : NULL;
}

JsonObject *
firn_request_parse(FirnSpan text, const char **out_op, GError **error)
{
	g_autoptr(JsonParser) parser = NULL;
	JsonNode *root;
	JsonNode *op;

	if (text.len > FIRN_REQUEST_LIMIT)
		return refuse(error, "the request is too long");
	if (firn_json_check(text, MAX_DEPTH, NULL) != NULL)
		return refuse(error, "the request is not JSON");
	parser = json_parser_new();
	if (!json_parser_load_from_data(parser, (const char *)text.data, (gssize)text.len, NULL))
		return refuse(error, "the request is not JSON");
	root = json_parser_get_root(parser);
	if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root))
		return refuse(error, "the request is no JSON object");
	op = member_of_type(json_node_get_object(root), "op", G_TYPE_STRING);
	if (op == NULL)
		return refuse(error, "the request has no \"op\"");
	*out_op = json_node_get_string(op);
	/* An escaped half of a surrogate pair becomes bytes that no reply can repeat. */
	if (!g_utf8_validate(*out_op, -1, NULL)) {
		*out_op = NULL;
		return refuse(error, "\"op\" is no UTF-8");
	}
	return json_node_dup_object(root);
}

int64_t
firn_request_number(JsonObject *request, const char *name, int64_t min, int64_t max, int64_t absent)
{
	JsonNode *node = member_of_type(request, name, G_TYPE_INT64);
	int64_t value;

	if (node == NULL)
		return absent;
	value = json_node_get_int(node);
	return CLAMP(value, min, max);
}

bool
firn_request_flag(JsonObject *request, const char *name)
{
	JsonNode *node = member_of_type(request, name, G_TYPE_BOOLEAN);

	return node != NULL && json_node_get_boolean(node);
}

bool
firn_request_id(JsonObject *request, const char *name, FirnId12 *out_id, GError **error)
{
	JsonNode *node = member_of_type(request, name, G_TYPE_STRING);
	const char *text = node != NULL ? json_node_get_string(node) : NULL;

	if (text != NULL && firn_id12_parse(text, strlen(text), out_id))
		return true;
	if (text != NULL ||
	    (json_object_has_member(request, name) && !json_object_get_null_member(request, name)))
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "\"%s\" is no snapshot id",
			    name);
	return false;
}
