#include "core/format/config.h"

#include <string.h>

JsonNode *
firn_config_initial(void)
{
	/* Storage settings belong to the place, not to the data: they stay null. */
	static const char text[] = "{\"compression\":{\"algorithm\":\"zstd\",\"level\":3},"
				   "\"inline_chunk_threshold_bytes\":512,\"manifest\":null,"
				   "\"storage\":null,\"virtual_chunk_containers\":null}";
	JsonNode *node = json_from_string(text, NULL);

	g_assert(node != NULL);
	return node;
}

/* A new object with the members of the one in `node`, if it holds one. */
static JsonObject *
copy_object(JsonNode *node)
{
	JsonObject *copy = json_object_new();
	g_autoptr(GList) names = NULL;
	JsonObject *from;

	if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node))
		return copy;
	from = json_node_get_object(node);
	names = json_object_get_members(from);
	for (GList *at = names; at != NULL; at = at->next)
		json_object_set_member(copy, at->data,
				       json_node_ref(json_object_get_member(from, at->data)));
	return copy;
}

static JsonNode *
take_object(JsonObject *object)
{
	JsonNode *node = json_node_alloc();

	json_node_init_object(node, object);
	json_object_unref(object);
	return node;
}

/* {"path_matches": {"regex": "^path$"}}, special characters escaped. */
static JsonNode *
condition_for(const char *path)
{
	g_autoptr(GString) regex = g_string_new("^");
	JsonObject *match = json_object_new();
	JsonObject *condition = json_object_new();

	for (const char *at = path; *at != '\0'; at++) {
		if (strchr("\\.+*?()|[]{}^$", *at) != NULL)
			g_string_append_c(regex, '\\');
		g_string_append_c(regex, *at);
	}
	g_string_append_c(regex, '$');
	json_object_set_string_member(match, "regex", regex->str);
	json_object_set_object_member(condition, "path_matches", match);
	return take_object(condition);
}

static JsonNode *
axis_node(uint32_t axis, uint32_t size)
{
	JsonObject *condition = json_object_new();
	JsonObject *dim = json_object_new();

	json_object_set_int_member(condition, "Axis", axis);
	json_object_set_object_member(dim, "condition", condition);
	json_object_set_int_member(dim, "num_chunks", size);
	return take_object(dim);
}

static bool
is_axis(JsonNode *dim, uint32_t axis)
{
	JsonNode *condition;
	JsonNode *number;

	if (!JSON_NODE_HOLDS_OBJECT(dim))
		return false;
	condition = json_object_get_member(json_node_get_object(dim), "condition");
	if (condition == NULL || !JSON_NODE_HOLDS_OBJECT(condition))
		return false;
	number = json_object_get_member(json_node_get_object(condition), "Axis");
	return number != NULL && JSON_NODE_HOLDS_VALUE(number) &&
	       json_node_get_value_type(number) == G_TYPE_INT64 &&
	       json_node_get_int(number) == axis;
}

/* Whether `rule` is [condition, list]. */
static bool
is_rule_for(JsonNode *rule, JsonNode *condition)
{
	JsonArray *pair = JSON_NODE_HOLDS_ARRAY(rule) ? json_node_get_array(rule) : NULL;

	return pair != NULL && json_array_get_length(pair) == 2 &&
	       json_node_equal(json_array_get_element(pair, 0), condition) &&
	       JSON_NODE_HOLDS_ARRAY(json_array_get_element(pair, 1));
}

static void
append_other_axes(JsonArray *dims, JsonNode *rule, uint32_t axis)
{
	JsonArray *old = json_node_get_array(json_array_get_element(json_node_get_array(rule), 1));

	for (guint i = 0; i < json_array_get_length(old); i++)
		if (!is_axis(json_array_get_element(old, i), axis))
			json_array_add_element(dims, json_node_ref(json_array_get_element(old, i)));
}

/* The new rule takes over what an earlier one for the same path says of other axes. */
static JsonArray *
new_rules(JsonNode *before, const char *path, uint32_t axis, uint32_t size)
{
	JsonArray *rules = json_array_new();
	JsonArray *pair = json_array_new();
	JsonArray *dims = json_array_new();
	JsonNode *condition = condition_for(path);
	JsonArray *old = before != NULL && JSON_NODE_HOLDS_ARRAY(before)
				 ? json_node_get_array(before)
				 : NULL;

	json_array_add_element(pair, condition);
	json_array_add_element(dims, axis_node(axis, size));
	json_array_add_array_element(pair, dims);
	json_array_add_array_element(rules, pair);
	for (guint i = 0; old != NULL && i < json_array_get_length(old); i++) {
		JsonNode *rule = json_array_get_element(old, i);

		if (is_rule_for(rule, condition))
			append_other_axes(dims, rule, axis);
		else
			json_array_add_element(rules, json_node_ref(rule));
	}
	return rules;
}

JsonNode *
firn_config_with_split(JsonNode *json, const char *path, uint32_t axis, uint32_t size)
{
	JsonObject *root = copy_object(json);
	JsonObject *manifest = copy_object(json_object_get_member(root, "manifest"));
	JsonObject *splitting = copy_object(json_object_get_member(manifest, "splitting"));
	JsonArray *rules =
		new_rules(json_object_get_member(splitting, "split_sizes"), path, axis, size);

	json_object_set_array_member(splitting, "split_sizes", rules);
	json_object_set_object_member(manifest, "splitting", splitting);
	json_object_set_object_member(root, "manifest", manifest);
	return take_object(root);
}
