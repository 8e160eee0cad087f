#include "core/format/v1.h"

#include "core/base/error.h"
#include "core/base/json_check.h"

#include <json-glib/json-glib.h>
#include <string.h>

/* No ref has a reason to nest at all. */
#define MAX_DEPTH 32u

static const struct {
	const char *prefix;
	const char *suffix;
} layouts[] = {
	[FIRN_V1_BRANCH] = { FIRN_V1_REFS "branch.", "/ref.json" },
	[FIRN_V1_TAG] = { FIRN_V1_REFS "tag.", "/ref.json" },
	[FIRN_V1_TAG_DELETED] = { FIRN_V1_REFS "tag.", "/ref.json.deleted" },
};

static bool
broken(GError **error, const char *what)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "ref.json: %s", what);
	return false;
}

bool
firn_v1_ref_parse(FirnSpan text, FirnId12 *out_snapshot, GError **error)
{
	g_autoptr(JsonParser) parser = NULL;
	JsonNode *root;
	JsonNode *id;
	const char *name;

	if (text.len > FIRN_V1_MAX_REF_SIZE) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT, "ref.json is larger than %u bytes",
			    FIRN_V1_MAX_REF_SIZE);
		return false;
	}
	/* json-glib recurses, and leaks the first of two values. */
	if (firn_json_check(text, MAX_DEPTH, NULL) != NULL)
		return broken(error, "it is not JSON");
	parser = json_parser_new_immutable();
	if (!json_parser_load_from_data(parser, (const char *)text.data, (gssize)text.len, NULL))
		return broken(error, "it is not JSON");
	root = json_parser_get_root(parser);
	if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root))
		return broken(error, "it is not a JSON object");
	id = json_object_get_member(json_node_get_object(root), "snapshot");
	if (id == NULL || !JSON_NODE_HOLDS_VALUE(id) ||
	    json_node_get_value_type(id) != G_TYPE_STRING)
		return broken(error, "it has no \"snapshot\"");
	name = json_node_get_string(id);
	if (!firn_id12_parse(name, strlen(name), out_snapshot))
		return broken(error, "its \"snapshot\" is not an id");
	return true;
}

GBytes *
firn_v1_ref_format(const FirnId12 *snapshot)
{
	char id[FIRN_ID12_TEXT + 1];
	char *text;

	firn_id12_format(snapshot, id);
	text = g_strdup_printf("{\"snapshot\":\"%s\"}", id);
	return g_bytes_new_take(text, strlen(text));
}

bool
firn_v1_ref_name_is_valid(const char *name)
{
	return name[0] != '\0' && strchr(name, '/') == NULL && g_utf8_validate(name, -1, NULL);
}

char *
firn_v1_ref_key(FirnV1RefKind kind, const char *name)
{
	return g_strconcat(layouts[kind].prefix, name, layouts[kind].suffix, NULL);
}

bool
firn_v1_ref_parse_key(const char *key, FirnV1RefKind *out_kind, char **out_name)
{
	for (unsigned kind = 0; kind < G_N_ELEMENTS(layouts); kind++) {
		g_autofree char *name = NULL;
		size_t prefix = strlen(layouts[kind].prefix);
		size_t suffix = strlen(layouts[kind].suffix);

		if (!g_str_has_prefix(key, layouts[kind].prefix) ||
		    !g_str_has_suffix(key, layouts[kind].suffix) || strlen(key) < prefix + suffix)
			continue;
		name = g_strndup(key + prefix, strlen(key) - prefix - suffix);
		if (!firn_v1_ref_name_is_valid(name))
			continue;
		*out_kind = (FirnV1RefKind)kind;
		*out_name = g_steal_pointer(&name);
		return true;
	}
	return false;
}
