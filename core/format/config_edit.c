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

/* "^path$", special characters escaped. */
static char *
pattern_for(const char *path)
{
	GString *pattern = g_string_new("^");

	for (const char *at = path; *at != '\0'; at++) {
		if (strchr("\\.+*?()|[]{}^$", *at) != NULL)
			g_string_append_c(pattern, '\\');
		g_string_append_c(pattern, *at);
	}
	g_string_append_c(pattern, '$');
	return g_string_free(pattern, FALSE);
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

/* The only member of an object, if it is called `name`; NULL: it is not. */
static JsonNode *
only_member(JsonNode *node, const char *name)
{
	JsonObject *object =
		node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

	return object != NULL && json_object_get_size(object) == 1
		       ? json_object_get_member(object, name)
		       : NULL;
}

/* The axis a part of a rule is about, -1: it says otherwise which. */
static int64_t
axis_of(JsonNode *dim)
{
	JsonNode *condition;
	JsonNode *number;

	if (!JSON_NODE_HOLDS_OBJECT(dim))
		return -1;
	condition = json_object_get_member(json_node_get_object(dim), "condition");
	if (condition == NULL || !JSON_NODE_HOLDS_OBJECT(condition))
		return -1;
	number = json_object_get_member(json_node_get_object(condition), "Axis");
	return number != NULL && JSON_NODE_HOLDS_VALUE(number) &&
			       json_node_get_value_type(number) == G_TYPE_INT64
		       ? json_node_get_int(number)
		       : -1;
}

static bool
has_axis(JsonArray *dims, int64_t axis)
{
	for (guint i = 0; axis >= 0 && i < json_array_get_length(dims); i++)
		if (axis_of(json_array_get_element(dims, i)) == axis)
			return true;
	return false;
}

/* The pattern of a rule [{"path_matches": {"regex": pattern}}, list]; NULL: it is another one. */
static const char *
pattern_of(JsonNode *rule)
{
	JsonArray *pair = JSON_NODE_HOLDS_ARRAY(rule) ? json_node_get_array(rule) : NULL;
	JsonNode *regex;

	if (pair == NULL || json_array_get_length(pair) != 2 ||
	    !JSON_NODE_HOLDS_ARRAY(json_array_get_element(pair, 1)))
		return NULL;
	regex = only_member(only_member(json_array_get_element(pair, 0), "path_matches"), "regex");
	return regex != NULL && JSON_NODE_HOLDS_VALUE(regex) &&
			       json_node_get_value_type(regex) == G_TYPE_STRING
		       ? json_node_get_string(regex)
		       : NULL;
}

/* Add a rule without axes for `pattern`; its list of them is the rule's. */
static JsonArray *
add_rule(JsonArray *rules, const char *pattern)
{
	JsonArray *pair = json_array_new();
	JsonArray *dims = json_array_new();
	JsonObject *match = json_object_new();
	JsonObject *condition = json_object_new();

	json_object_set_string_member(match, "regex", pattern);
	json_object_set_object_member(condition, "path_matches", match);
	json_array_add_element(pair, take_object(condition));
	json_array_add_array_element(pair, dims);
	json_array_add_array_element(rules, pair);
	return dims;
}

/* The new rules, at most `room`, the last one first; `by_pattern` receives their lists of axes. */
static JsonArray *
new_rules(const FirnConfigSplit *splits, size_t n, guint room, GHashTable *by_pattern)
{
	JsonArray *rules = json_array_new();

	for (size_t i = n; i-- > 0;) {
		char *pattern = pattern_for(splits[i].path);
		JsonArray *dims = g_hash_table_lookup(by_pattern, pattern);

		if (dims == NULL && json_array_get_length(rules) < room) {
			dims = add_rule(rules, pattern);
			g_hash_table_insert(by_pattern, g_strdup(pattern), dims);
		}
		if (dims != NULL && !has_axis(dims, splits[i].axis))
			json_array_add_element(dims, axis_node(splits[i].axis, splits[i].size));
		g_free(pattern);
	}
	return rules;
}

/* The rules there are; a new one takes over what an earlier one for its path says of other axes. */
static void
append_old(JsonArray *rules, JsonArray *old, GHashTable *by_pattern)
{
	for (guint i = 0; i < json_array_get_length(old); i++) {
		JsonNode *rule = json_array_get_element(old, i);
		const char *pattern = pattern_of(rule);
		JsonArray *dims = pattern != NULL ? g_hash_table_lookup(by_pattern, pattern) : NULL;
		JsonArray *had;

		if (dims == NULL) {
			json_array_add_element(rules, json_node_ref(rule));
			continue;
		}
		had = json_node_get_array(json_array_get_element(json_node_get_array(rule), 1));
		for (guint j = 0; j < json_array_get_length(had); j++)
			if (!has_axis(dims, axis_of(json_array_get_element(had, j))))
				json_array_add_element(
					dims, json_node_ref(json_array_get_element(had, j)));
	}
}

JsonNode *
firn_config_with_splits(JsonNode *json, const FirnConfigSplit *splits, size_t n)
{
	g_autoptr(GHashTable) by_pattern =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	JsonObject *root = copy_object(json);
	JsonObject *manifest = copy_object(json_object_get_member(root, "manifest"));
	JsonObject *splitting = copy_object(json_object_get_member(manifest, "splitting"));
	JsonNode *before = json_object_get_member(splitting, "split_sizes");
	JsonArray *old = before != NULL && JSON_NODE_HOLDS_ARRAY(before)
				 ? json_node_get_array(before)
				 : NULL;
	guint n_old = old != NULL ? json_array_get_length(old) : 0;
	JsonArray *rules =
		new_rules(splits, n, FIRN_CONFIG_MAX_RULES - MIN(n_old, FIRN_CONFIG_MAX_RULES),
			  by_pattern);

	if (old != NULL)
		append_old(rules, old, by_pattern);
	json_object_set_array_member(splitting, "split_sizes", rules);
	json_object_set_object_member(manifest, "splitting", splitting);
	json_object_set_object_member(root, "manifest", manifest);
	return take_object(root);
}

JsonNode *
firn_config_with_split(JsonNode *json, const char *path, uint32_t axis, uint32_t size)
{
	const FirnConfigSplit split = { .path = path, .axis = axis, .size = size };

	return firn_config_with_splits(json, &split, 1);
}
