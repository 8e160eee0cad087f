#include "core/format/config.h"

#include "core/base/error.h"

#include <string.h>

#define DEFAULT_INLINE     512u
#define DEFAULT_LEVEL      3
#define DEFAULT_OPS_LENGTH 1000u

typedef enum {
	COND_NEVER, /* also what we do not know */
	COND_ALWAYS,
	COND_OR,
	COND_AND,
	COND_PATH,
	COND_NAME,
} CondKind;

typedef struct {
	CondKind kind;
	GRegex *regex;       /* path, name */
	GPtrArray *children; /* or, and: of Cond */
} Cond;

typedef enum {
	DIM_NEVER,
	DIM_ANY,
	DIM_AXIS,
	DIM_NAME,
} DimKind;

typedef struct {
	DimKind kind;
	uint64_t axis;
	GRegex *regex;
	uint32_t size;
} Dim;

typedef struct {
	Cond *cond;
	GArray *dims; /* of Dim */
} Rule;

typedef struct {
	char *name; /* may be NULL */
	char *prefix;
} Container;

struct FirnConfig {
	uint32_t inline_threshold;
	int level;
	uint32_t ops_length;
	GPtrArray *rules;      /* of Rule */
	GPtrArray *containers; /* of Container */
};

/* ---- JSON ---- */

/* A member that is there and not null. */
static JsonNode *
member(JsonObject *object, const char *name)
{
	JsonNode *node = object != NULL ? json_object_get_member(object, name) : NULL;

	return node != NULL && !JSON_NODE_HOLDS_NULL(node) ? node : NULL;
}

static bool
wrong_type(const char *name, const char *wanted, GError **error)
{
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "repository config: \"%s\" is not %s",
		    name, wanted);
	return false;
}

/* NULL in `*out` if absent. */
static bool
get_object(JsonObject *object, const char *name, JsonObject **out, GError **error)
{
	JsonNode *node = member(object, name);

	*out = NULL;
	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_OBJECT(node))
		return wrong_type(name, "a map", error);
	*out = json_node_get_object(node);
	return true;
}

static bool
is_int(JsonNode *node)
{
	return node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
	       json_node_get_value_type(node) == G_TYPE_INT64;
}

static bool
get_number(JsonObject *object, const char *name, int64_t max, int64_t *io, GError **error)
{
	JsonNode *node = member(object, name);

	if (node == NULL)
		return true;
	if (!is_int(node) || json_node_get_int(node) < 0 || json_node_get_int(node) > max)
		return wrong_type(name, "a number in its range", error);
	*io = json_node_get_int(node);
	return true;
}

static const char *
string_of(JsonNode *node)
{
	if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return NULL;
	return json_node_get_string(node);
}

/* A variant: "name", or {"name": value}; false if it is neither. */
static bool
get_variant(JsonNode *node, const char **out_name, JsonNode **out_value)
{
	g_autoptr(GList) names = NULL;

	*out_value = NULL;
	*out_name = string_of(node);
	if (*out_name != NULL)
		return true;
	if (!JSON_NODE_HOLDS_OBJECT(node) || json_object_get_size(json_node_get_object(node)) != 1)
		return false;
	names = json_object_get_members(json_node_get_object(node));
	*out_name = names->data;
	*out_value = json_object_get_member(json_node_get_object(node), names->data);
	return true;
}

/* ---- regular expressions ---- */

/* Whether the group that starts at `at` ("(?") is one that Rust's engine has not. */
static bool
is_foreign_group(const char *at)
{
	if (at[2] == '<')
		return at[3] == '=' || at[3] == '!';
	return at[2] != '\0' && strchr("=!>|#(&+0123456789R", at[2]) != NULL;
}

/*
 * The official library's engine has no look-around and no back references: a
 * pattern with them is invalid there, and must match nothing here.
 */
static bool
is_foreign(const char *pattern)
{
	bool in_class = false;

	for (const char *at = pattern; *at != '\0'; at++) {
		if (*at == '\\') {
			at++;
			if (!in_class && (g_ascii_isdigit(*at) || *at == 'k' || *at == 'g' ||
					  *at == 'Z' || *at == 'G' || *at == 'K' || *at == 'Q'))
				return true;
			if (*at == '\0')
				return true;
		} else if (in_class) {
			in_class = *at != ']';
		} else if (*at == '[') {
			in_class = true;
			/* A ']' that comes first is one of the class. */
			at += at[1] == '^' ? 1 : 0;
			at += at[1] == ']' ? 1 : 0;
		} else if (at[0] == '(' &&
			   (at[1] == '*' || (at[1] == '?' && is_foreign_group(at)))) {
			return true;
		}
	}
	return false;
}

/* NULL, which matches nothing, for an invalid pattern. */
static GRegex *
compile(const char *pattern)
{
	if (pattern == NULL || is_foreign(pattern))
		return NULL;
	return g_regex_new(pattern, G_REGEX_DOLLAR_ENDONLY | G_REGEX_NEWLINE_LF, 0, NULL);
}

static bool
matches(const GRegex *regex, const char *text)
{
	return regex != NULL && g_utf8_validate(text, -1, NULL) &&
	       g_regex_match(regex, text, 0, NULL);
}

/* ---- splitting rules ---- */

static void
cond_free(gpointer data)
{
	Cond *cond = data;

	g_clear_pointer(&cond->regex, g_regex_unref);
	g_clear_pointer(&cond->children, g_ptr_array_unref);
	g_free(cond);
}

static void
dim_clear(gpointer data)
{
	g_clear_pointer(&((Dim *)data)->regex, g_regex_unref);
}

static void
rule_free(gpointer data)
{
	Rule *rule = data;

	cond_free(rule->cond);
	g_array_unref(rule->dims);
	g_free(rule);
}

static GRegex *
compile_member(JsonNode *value)
{
	if (value == NULL || !JSON_NODE_HOLDS_OBJECT(value))
		return NULL;
	return compile(string_of(member(json_node_get_object(value), "regex")));
}

/* Nested as deep as its JSON, which has a limit. */
static Cond *
read_cond(JsonNode *node)
{
	Cond *cond = g_new0(Cond, 1);
	const char *name;
	JsonNode *value;

	if (!get_variant(node, &name, &value))
		return cond;
	if (strcmp(name, "any_array") == 0) {
		cond->kind = COND_ALWAYS;
	} else if (strcmp(name, "path_matches") == 0 || strcmp(name, "name_matches") == 0) {
		cond->kind = name[0] == 'p' ? COND_PATH : COND_NAME;
		cond->regex = compile_member(value);
	} else if ((strcmp(name, "or") == 0 || strcmp(name, "and") == 0) && value != NULL &&
		   JSON_NODE_HOLDS_ARRAY(value)) {
		JsonArray *list = json_node_get_array(value);

		cond->kind = name[0] == 'o' ? COND_OR : COND_AND;
		cond->children = g_ptr_array_new_with_free_func(cond_free);
		for (guint i = 0; i < json_array_get_length(list); i++)
			g_ptr_array_add(cond->children, read_cond(json_array_get_element(list, i)));
	}
	return cond;
}

static bool
read_dim(JsonNode *node, Dim *out, GError **error)
{
	JsonObject *object;
	JsonNode *value = NULL;
	const char *name;
	int64_t size = UINT32_MAX;

	*out = (Dim){ .size = UINT32_MAX };
	if (!JSON_NODE_HOLDS_OBJECT(node))
		return wrong_type("split_sizes", "a list of rules", error);
	object = json_node_get_object(node);
	if (!get_number(object, "num_chunks", UINT32_MAX, &size, error))
		return false;
	/* Nothing can be split into pieces of nothing. */
	out->size = size > 0 ? (uint32_t)size : UINT32_MAX;
	if (member(object, "condition") == NULL ||
	    !get_variant(member(object, "condition"), &name, &value))
		return wrong_type("condition", "a condition of an axis", error);
	if (strcmp(name, "Any") == 0) {
		out->kind = DIM_ANY;
	} else if (strcmp(name, "Axis") == 0 && is_int(value) && json_node_get_int(value) >= 0) {
		out->kind = DIM_AXIS;
		out->axis = (uint64_t)json_node_get_int(value);
	} else if (strcmp(name, "DimensionName") == 0) {
		out->kind = DIM_NAME;
		out->regex = compile(string_of(value));
	}
	return true;
}

static bool
read_rule(FirnConfig *config, JsonNode *node, GError **error)
{
	JsonArray *pair = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
	JsonNode *list;
	Rule *rule;

	if (pair == NULL || json_array_get_length(pair) != 2)
		return wrong_type("split_sizes", "a list of rules", error);
	list = json_array_get_element(pair, 1);
	if (!JSON_NODE_HOLDS_ARRAY(list))
		return wrong_type("split_sizes", "a list of rules", error);
	rule = g_new0(Rule, 1);
	rule->cond = read_cond(json_array_get_element(pair, 0));
	rule->dims = g_array_new(FALSE, FALSE, sizeof(Dim));
	g_array_set_clear_func(rule->dims, dim_clear);
	g_ptr_array_add(config->rules, rule);
	for (guint i = 0; i < json_array_get_length(json_node_get_array(list)); i++) {
		Dim dim;

		if (!read_dim(json_array_get_element(json_node_get_array(list), i), &dim, error))
			return false;
		g_array_append_val(rule->dims, dim);
	}
	return true;
}

static bool
read_rules(FirnConfig *config, JsonObject *root, GError **error)
{
	JsonObject *manifest;
	JsonObject *splitting;
	JsonNode *node;
	JsonArray *list;

	if (!get_object(root, "manifest", &manifest, error) ||
	    !get_object(manifest, "splitting", &splitting, error))
		return false;
	node = member(splitting, "split_sizes");
	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return wrong_type("split_sizes", "a list of rules", error);
	list = json_node_get_array(node);
	if (json_array_get_length(list) > FIRN_CONFIG_MAX_RULES) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "repository config: more than %u splitting rules",
			    FIRN_CONFIG_MAX_RULES);
		return false;
	}
	for (guint i = 0; i < json_array_get_length(list); i++)
		if (!read_rule(config, json_array_get_element(list, i), error))
			return false;
	return true;
}

/* ---- virtual chunk containers ---- */

static void
container_free(gpointer data)
{
	Container *container = data;

	g_free(container->name);
	g_free(container->prefix);
	g_free(container);
}

/* Invalid ones are passed over, as the official library does. */
static bool
read_containers(FirnConfig *config, JsonObject *root, GError **error)
{
	g_autoptr(GList) keys = NULL;
	JsonObject *map;

	if (!get_object(root, "virtual_chunk_containers", &map, error))
		return false;
	keys = map != NULL ? json_object_get_members(map) : NULL;
	for (GList *at = keys; at != NULL; at = at->next) {
		JsonNode *node = member(map, at->data);
		JsonObject *object = node != NULL && JSON_NODE_HOLDS_OBJECT(node)
					     ? json_node_get_object(node)
					     : NULL;
		const char *prefix =
			object != NULL ? string_of(member(object, "url_prefix")) : NULL;
		Container *container;

		if (prefix == NULL || strstr(prefix, "://") == NULL)
			continue;
		container = g_new0(Container, 1);
		container->name = g_strdup(string_of(member(object, "name")));
		container->prefix =
			g_strconcat(prefix, g_str_has_suffix(prefix, "/") ? "" : "/", NULL);
		g_ptr_array_add(config->containers, container);
	}
	return true;
}

/* ---- the whole ---- */

void
firn_config_free(FirnConfig *config)
{
	if (config == NULL)
		return;
	g_ptr_array_unref(config->rules);
	g_ptr_array_unref(config->containers);
	g_free(config);
}

FirnConfig *
firn_config_parse(JsonNode *json, GError **error)
{
	g_autoptr(FirnConfig) config = g_new0(FirnConfig, 1);
	int64_t threshold = DEFAULT_INLINE;
	int64_t level = DEFAULT_LEVEL;
	int64_t ops_length = DEFAULT_OPS_LENGTH;
	JsonObject *root = NULL;
	JsonObject *compression;

	config->rules = g_ptr_array_new_with_free_func(rule_free);
	config->containers = g_ptr_array_new_with_free_func(container_free);
	if (json != NULL && !JSON_NODE_HOLDS_NULL(json) && !JSON_NODE_HOLDS_OBJECT(json)) {
		wrong_type("config", "a map", error);
		return NULL;
	}
	if (json != NULL && JSON_NODE_HOLDS_OBJECT(json))
		root = json_node_get_object(json);
	if (!get_number(root, "inline_chunk_threshold_bytes", UINT16_MAX, &threshold, error) ||
	    !get_number(root, "num_updates_per_repo_info_file", UINT16_MAX, &ops_length, error) ||
	    !get_object(root, "compression", &compression, error) ||
	    !get_number(compression, "level", UINT8_MAX, &level, error) ||
	    !read_rules(config, root, error) || !read_containers(config, root, error))
		return NULL;
	config->inline_threshold = (uint32_t)threshold;
	config->ops_length = MAX((uint32_t)ops_length, 1u);
	/* zstd has no more; it would refuse. */
	config->level = (int)MIN(level, 22);
	return g_steal_pointer(&config);
}

uint32_t
firn_config_inline_threshold(const FirnConfig *config)
{
	return config->inline_threshold;
}

int
firn_config_compression_level(const FirnConfig *config)
{
	return config->level;
}

uint32_t
firn_config_ops_log_length(const FirnConfig *config)
{
	return config->ops_length;
}

/* ---- use of the rules ---- */

static bool
cond_holds(const Cond *cond, const char *path)
{
	const char *slash;

	switch (cond->kind) {
	case COND_ALWAYS:
		return true;
	case COND_PATH:
		return matches(cond->regex, path);
	case COND_NAME:
		slash = strrchr(path, '/');
		return matches(cond->regex, slash != NULL ? slash + 1 : path);
	case COND_OR:
	case COND_AND:
		for (guint i = 0; i < cond->children->len; i++)
			if (cond_holds(cond->children->pdata[i], path) == (cond->kind == COND_OR))
				return cond->kind == COND_OR;
		return cond->kind == COND_AND;
	case COND_NEVER:
		return false;
	}
	return false;
}

static bool
dim_holds(const Dim *dim, uint32_t axis, const char *name)
{
	switch (dim->kind) {
	case DIM_ANY:
		return true;
	case DIM_AXIS:
		return dim->axis == axis;
	case DIM_NAME:
		return name != NULL && matches(dim->regex, name);
	case DIM_NEVER:
		return false;
	}
	return false;
}

/* Let a rule decide the axes that none before it has. */
static void
apply(const Rule *rule, uint32_t rank, char *const *names, bool *decided, uint32_t *sizes)
{
	for (uint32_t axis = 0; axis < rank; axis++) {
		for (guint i = 0; i < rule->dims->len && !decided[axis]; i++) {
			const Dim *dim = &g_array_index(rule->dims, Dim, i);

			if (!dim_holds(dim, axis, names != NULL ? names[axis] : NULL))
				continue;
			decided[axis] = true;
			sizes[axis] = dim->size;
		}
	}
}

void
firn_config_split_sizes(const FirnConfig *config, const char *path, uint32_t rank,
			char *const *dimension_names, uint32_t *out_sizes)
{
	bool decided[FIRN_MAX_RANK] = { false };

	g_assert(rank <= FIRN_MAX_RANK);
	for (uint32_t i = 0; i < rank; i++)
		out_sizes[i] = UINT32_MAX;
	for (guint i = 0; i < config->rules->len; i++) {
		const Rule *rule = config->rules->pdata[i];

		if (cond_holds(rule->cond, path))
			apply(rule, rank, dimension_names, decided, out_sizes);
	}
}

/* ---- locations ---- */

/* Whether a part of the path is "..", percent-encoded or not. */
static bool
climbs(const char *path)
{
	g_autofree char *plain = g_uri_unescape_string(path, NULL);
	g_auto(GStrv) parts = g_strsplit(plain != NULL ? plain : path, "/", -1);

	return plain == NULL || g_strv_contains((const char *const *)parts, "..");
}

char *
firn_config_resolve_location(const FirnConfig *config, const char *location, GError **error)
{
	const char *name = location + strlen("vcc://");
	const char *rest;

	if (!g_str_has_prefix(location, "vcc://"))
		return g_strdup(location);
	rest = strchr(name, '/');
	if (rest == NULL || rest == name || climbs(rest + 1)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
			    "virtual chunk location \"%s\" does not name a place in a container",
			    location);
		return NULL;
	}
	for (guint i = 0; i < config->containers->len; i++) {
		const Container *container = config->containers->pdata[i];

		if (container->name != NULL && strlen(container->name) == (size_t)(rest - name) &&
		    strncmp(container->name, name, (size_t)(rest - name)) == 0)
			return g_strconcat(container->prefix, rest + 1, NULL);
	}
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
		    "virtual chunk location \"%s\": the repository's config has no container of "
		    "that name",
		    location);
	return NULL;
}
