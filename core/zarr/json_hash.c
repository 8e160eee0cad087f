#include "core/zarr/json_hash.h"

#include <string.h>

void
firn_json_hash_text(XXH3_state_t *state, char tag, const char *text)
{
	XXH3_64bits_update(state, &tag, 1);
	XXH3_64bits_update(state, text, strlen(text) + 1);
}

/* {"name": N} with nothing to configure is the long spelling of "N". */
static const char *
bare_name(JsonObject *object)
{
	JsonNode *name = json_object_get_member(object, "name");
	JsonNode *config = json_object_get_member(object, "configuration");

	if (name == NULL || !JSON_NODE_HOLDS_VALUE(name) ||
	    json_node_get_value_type(name) != G_TYPE_STRING ||
	    json_object_get_size(object) != (config != NULL ? 2 : 1))
		return NULL;
	if (config != NULL && (!JSON_NODE_HOLDS_OBJECT(config) ||
			       json_object_get_size(json_node_get_object(config)) != 0))
		return NULL;
	return json_node_get_string(name);
}

static void
hash_object(XXH3_state_t *state, JsonObject *object)
{
	const char *name = bare_name(object);
	g_autoptr(GList) names = NULL;

	if (name != NULL) {
		firn_json_hash_text(state, 's', name);
		return;
	}
	names = g_list_sort(json_object_get_members(object), (GCompareFunc)strcmp);
	XXH3_64bits_update(state, "{", 1);
	for (GList *at = names; at != NULL; at = at->next) {
		firn_json_hash_text(state, 'k', at->data);
		firn_json_hash(state, json_object_get_member(object, at->data));
	}
	XXH3_64bits_update(state, "}", 1);
}

static void
hash_value(XXH3_state_t *state, JsonNode *node)
{
	GType type = json_node_get_value_type(node);

	if (type == G_TYPE_STRING) {
		firn_json_hash_text(state, 's', json_node_get_string(node));
	} else if (type == G_TYPE_BOOLEAN) {
		XXH3_64bits_update(state, json_node_get_boolean(node) ? "t" : "f", 1);
	} else if (type == G_TYPE_INT64) {
		gint64 value = json_node_get_int(node);

		XXH3_64bits_update(state, "i", 1);
		XXH3_64bits_update(state, &value, sizeof value);
	} else {
		double value = json_node_get_double(node);

		XXH3_64bits_update(state, "d", 1);
		XXH3_64bits_update(state, &value, sizeof value);
	}
}

/* Members in the order of their names; recursion is bounded by the checked depth. */
void
firn_json_hash(XXH3_state_t *state, JsonNode *node)
{
	switch (JSON_NODE_TYPE(node)) {
	case JSON_NODE_OBJECT:
		hash_object(state, json_node_get_object(node));
		break;
	case JSON_NODE_ARRAY: {
		JsonArray *array = json_node_get_array(node);

		XXH3_64bits_update(state, "[", 1);
		for (guint i = 0; i < json_array_get_length(array); i++)
			firn_json_hash(state, json_array_get_element(array, i));
		XXH3_64bits_update(state, "]", 1);
		break;
	}
	case JSON_NODE_VALUE:
		hash_value(state, node);
		break;
	case JSON_NODE_NULL:
	default:
		XXH3_64bits_update(state, "n", 1);
		break;
	}
}
