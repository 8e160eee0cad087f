#include "core/format/config.h"

#include "core/base/error.h"

#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 64u
#define MAX_SIZE  (1u << 20) /* bytes */

/*
 * YAML to JSON.  A local tag, which is how the official library writes a variant
 * with a value, becomes an object of one member: `!Axis 0` is {"Axis": 0}.
 * Aliases are refused: they can unfold to anything.
 */
struct yaml {
	yaml_parser_t parser;
	unsigned depth_left;
	GError **error;
};

static JsonNode *
broken(struct yaml *y, const char *what)
{
	g_set_error(y->error, FIRN_ERROR, FIRN_ERROR_FORMAT, "config.yaml, line %zu: %s",
		    y->parser.mark.line + 1, what);
	return NULL;
}

static bool
next(struct yaml *y, yaml_event_t *out)
{
	if (yaml_parser_parse(&y->parser, out))
		return true;
	broken(y, y->parser.problem != NULL ? y->parser.problem : "it is no YAML");
	return false;
}

/* ---- scalars ---- */

static bool
is_one_of(const char *text, const char *const *words)
{
	return g_strv_contains(words, text);
}

static JsonNode *
plain_number(const char *text)
{
	const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;
	char *end;
	gint64 whole;
	double value;

	if (!g_ascii_isdigit(digits[0]) && !(digits[0] == '.' && g_ascii_isdigit(digits[1])))
		return NULL;
	if (digits[strspn(digits, "0123456789")] == '\0' &&
	    g_ascii_string_to_signed(text[0] == '+' ? digits : text, 10, INT64_MIN, INT64_MAX,
				     &whole, NULL))
		return json_node_init_int(json_node_alloc(), whole);
	if (digits[strspn(digits, "0123456789.eE+-")] != '\0')
		return NULL;
	value = g_ascii_strtod(text, &end);
	if (*end != '\0')
		return NULL;
	return json_node_init_double(json_node_alloc(), value);
}

static JsonNode *
plain_scalar(const char *text)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", NULL };
	static const char *const falses[] = { "false", "False", "FALSE", NULL };
	JsonNode *number;

	if (is_one_of(text, nulls))
		return json_node_new(JSON_NODE_NULL);
	if (is_one_of(text, trues) || is_one_of(text, falses))
		return json_node_init_boolean(json_node_alloc(), is_one_of(text, trues));
	number = plain_number(text);
	return number != NULL ? number : json_node_init_string(json_node_alloc(), text);
}

static JsonNode *
read_scalar(struct yaml *y, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

	if (strlen(text) != event->data.scalar.length)
		return broken(y, "a text with a NUL in it");
	if (tag != NULL && (strcmp(tag, "!") == 0 || strcmp(tag, YAML_STR_TAG) == 0))
		plain = false;
	return plain ? plain_scalar(text) : json_node_init_string(json_node_alloc(), text);
}

/* ---- containers ---- */

static JsonNode *read_node(struct yaml *y, const yaml_event_t *event);

static JsonNode *
read_sequence(struct yaml *y)
{
	g_autoptr(JsonArray) array = json_array_new();

	for (;;) {
		yaml_event_t event;
		bool ended;
		JsonNode *item;

		if (!next(y, &event))
			return NULL;
		ended = event.type == YAML_SEQUENCE_END_EVENT;
		item = ended ? NULL : read_node(y, &event);
		yaml_event_delete(&event);
		if (ended)
			return json_node_init_array(json_node_alloc(), array);
		if (item == NULL)
			return NULL;
		json_array_add_element(array, item);
	}
}

/* The value behind a key. */
static JsonNode *
read_member(struct yaml *y)
{
	yaml_event_t event;
	JsonNode *value;

	if (!next(y, &event))
		return NULL;
	value = read_node(y, &event);
	yaml_event_delete(&event);
	return value;
}

static JsonNode *
read_mapping(struct yaml *y)
{
	g_autoptr(JsonObject) object = json_object_new();

	for (;;) {
		g_autofree char *key = NULL;
		yaml_event_t event;
		yaml_event_type_t type;
		JsonNode *value;

		if (!next(y, &event))
			return NULL;
		type = event.type;
		if (type == YAML_SCALAR_EVENT)
			key = g_strdup((const char *)event.data.scalar.value);
		yaml_event_delete(&event);
		if (type == YAML_MAPPING_END_EVENT)
			return json_node_init_object(json_node_alloc(), object);
		if (key == NULL)
			return broken(y, "a key that is no text");
		value = read_member(y);
		if (value == NULL)
			return NULL;
		json_object_set_member(object, key, value);
	}
}

static const char *
tag_of(const yaml_event_t *event)
{
	const yaml_char_t *tag = NULL;

	if (event->type == YAML_SCALAR_EVENT)
		tag = event->data.scalar.tag;
	else if (event->type == YAML_SEQUENCE_START_EVENT)
		tag = event->data.sequence_start.tag;
	else if (event->type == YAML_MAPPING_START_EVENT)
		tag = event->data.mapping_start.tag;
	/* "!" alone says "no special type". */
	return tag != NULL && tag[0] == '!' && tag[1] != '\0' ? (const char *)tag + 1 : NULL;
}

static JsonNode *
read_untagged(struct yaml *y, const yaml_event_t *event)
{
	if (event->type == YAML_SCALAR_EVENT)
		return read_scalar(y, event);
	if (event->type == YAML_SEQUENCE_START_EVENT)
		return read_sequence(y);
	if (event->type == YAML_MAPPING_START_EVENT)
		return read_mapping(y);
	return broken(y, event->type == YAML_ALIAS_EVENT ? "an alias" : "a value is missing");
}

static JsonNode *
read_node(struct yaml *y, const yaml_event_t *event)
{
	const char *tag = tag_of(event);
	JsonNode *node;

	if (y->depth_left == 0)
		return broken(y, "it is nested too deeply");
	y->depth_left--;
	node = read_untagged(y, event);
	y->depth_left++;
	if (node != NULL && tag != NULL) {
		g_autoptr(JsonObject) object = json_object_new();

		json_object_set_member(object, tag, node);
		node = json_node_init_object(json_node_alloc(), object);
	}
	return node;
}

/* One document; NULL without an error if there is none. */
static JsonNode *
read_stream(struct yaml *y)
{
	g_autoptr(JsonNode) root = NULL;
	yaml_event_type_t type = YAML_NO_EVENT;

	while (type != YAML_STREAM_END_EVENT) {
		yaml_event_t event;
		bool structure;

		if (!next(y, &event))
			return NULL;
		type = event.type;
		structure = type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT ||
			    type == YAML_DOCUMENT_END_EVENT || type == YAML_STREAM_END_EVENT;
		if (!structure && root == NULL)
			root = read_node(y, &event);
		else if (!structure)
			broken(y, "more than one document");
		yaml_event_delete(&event);
		if (!structure && (root == NULL || (y->error != NULL && *y->error != NULL)))
			return NULL;
	}
	return root != NULL ? g_steal_pointer(&root) : json_node_new(JSON_NODE_NULL);
}

JsonNode *
firn_config_from_yaml(FirnSpan yaml, GError **error)
{
	g_autoptr(GError) why = NULL;
	struct yaml y = { .depth_left = MAX_DEPTH, .error = &why };
	JsonNode *root;

	if (yaml.len > MAX_SIZE) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "config.yaml is larger than %u bytes", MAX_SIZE);
		return NULL;
	}
	if (!yaml_parser_initialize(&y.parser))
		g_error("no memory for a YAML parser");
	yaml_parser_set_input_string(&y.parser, yaml.data, yaml.len);
	root = read_stream(&y);
	yaml_parser_delete(&y.parser);
	if (why != NULL)
		g_propagate_error(error, g_steal_pointer(&why));
	return root;
}
