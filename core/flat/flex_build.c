#include "core/flat/flex.h"

#include <string.h>

enum {
	TYPE_NULL = 0,
	TYPE_INT = 1,
	TYPE_UINT = 2,
	TYPE_FLOAT = 3,
	TYPE_KEY = 4,
	TYPE_STRING = 5,
	TYPE_MAP = 9,
	TYPE_VECTOR = 10,
	TYPE_VECTOR_INT = 11,
	TYPE_VECTOR_KEY = 14,
	TYPE_VECTOR_INT2 = 16,
	TYPE_BOOL = 26,
	TYPE_VECTOR_BOOL = 36,
};

/* A value that waits to be put into its container. */
struct item {
	uint8_t type;
	uint8_t child_width; /* references: of what they point to */
	uint64_t bits;       /* scalars: the value; references: the position */
};

struct build {
	GByteArray *out;
	GHashTable *keys; /* char * -> position + 1: a key is written once */
	GArray *stack;    /* of struct item */
};

static uint8_t
width_of_uint(uint64_t value)
{
	return value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
}

static uint8_t
width_of_int(int64_t value)
{
	if (value >= INT8_MIN && value <= INT8_MAX)
		return 1;
	if (value >= INT16_MIN && value <= INT16_MAX)
		return 2;
	return value >= INT32_MIN && value <= INT32_MAX ? 4 : 8;
}

static double
double_of(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

/* Whether the double survives being a float: compared by bits, as -0.0 == 0.0. */
static uint8_t
width_of_float(uint64_t bits)
{
	double value = double_of(bits);
	double back;
	uint64_t back_bits;

	if (value > 3.4028234663852886e38 || value < -3.4028234663852886e38)
		return 8;
	back = (double)(float)value;
	memcpy(&back_bits, &back, sizeof back_bits);
	return back_bits == bits ? 4 : 8;
}

static bool
is_inline(const struct item *item)
{
	return item->type <= TYPE_FLOAT || item->type == TYPE_BOOL;
}

static uint8_t
own_width(const struct item *item)
{
	switch (item->type) {
	case TYPE_NULL:
	case TYPE_BOOL:
		return 1;
	case TYPE_INT:
		return width_of_int((int64_t)item->bits);
	case TYPE_UINT:
		return width_of_uint(item->bits);
	case TYPE_FLOAT:
		return width_of_float(item->bits);
	default:
		return item->child_width;
	}
}

/* Smallest width for `item` as word `index` of a vector that starts behind `start`. */
static uint8_t
needed_width(const struct item *item, size_t start, size_t index)
{
	if (is_inline(item))
		return own_width(item);
	for (uint8_t width = 1; width < 8; width = (uint8_t)(width * 2)) {
		uint64_t at = (start + width - 1) / width * width + index * width;

		if (width_of_uint(at - item->bits) <= width)
			return width;
	}
	return 8;
}

static void
align(struct build *b, uint8_t width)
{
	static const uint8_t zeros[8];

	g_byte_array_append(b->out, zeros, (width - b->out->len % width) % width);
}

static void
put_word(struct build *b, uint64_t value, uint8_t width)
{
	uint64_t little = GUINT64_TO_LE(value);

	g_byte_array_append(b->out, (const guint8 *)&little, width);
}

static void
put_item(struct build *b, const struct item *item, uint8_t width)
{
	if (item->type == TYPE_FLOAT && width == 4) {
		float narrow = (float)double_of(item->bits);
		uint32_t bits;

		memcpy(&bits, &narrow, sizeof bits);
		put_word(b, bits, width);
	} else if (is_inline(item)) {
		put_word(b, item->bits, width);
	} else {
		put_word(b, b->out->len - item->bits, width);
	}
}

static uint8_t
packed_type(const struct item *item, uint8_t parent_width)
{
	uint8_t width = is_inline(item) ? MAX(parent_width, own_width(item)) : item->child_width;

	return (uint8_t)(item->type << 2 | (width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3));
}

/* The type of a vector of these items; maps are told by their caller. */
static uint8_t
vector_type(const struct item *items, size_t n)
{
	uint8_t type;

	if (n == 0)
		return TYPE_VECTOR;
	type = items[0].type;
	for (size_t i = 1; i < n; i++)
		if (items[i].type != type)
			return TYPE_VECTOR;
	if (type == TYPE_BOOL)
		return TYPE_VECTOR_BOOL;
	if (type == TYPE_KEY)
		return TYPE_VECTOR_KEY;
	if (type < TYPE_INT || type > TYPE_FLOAT)
		return TYPE_VECTOR;
	if (n >= 2 && n <= 4)
		return (uint8_t)(TYPE_VECTOR_INT2 + (n - 2) * 3 + type - TYPE_INT);
	return (uint8_t)(TYPE_VECTOR_INT + type - TYPE_INT);
}

/* Write the items as a vector, or, with `keys`, as the values of a map. */
static struct item
put_vector(struct build *b, const struct item *items, size_t n, const struct item *keys)
{
	uint8_t type = keys != NULL ? TYPE_MAP : vector_type(items, n);
	bool fixed = type >= TYPE_VECTOR_INT2 && type < TYPE_VECTOR_INT2 + 9;
	size_t prefix = keys != NULL ? 3 : fixed ? 0 : 1;
	size_t start = b->out->len;
	uint8_t width = fixed ? 1 : width_of_uint(n);
	size_t at;

	if (keys != NULL)
		width = MAX(width, needed_width(keys, start, 0));
	for (size_t i = 0; i < n; i++)
		width = MAX(width, needed_width(&items[i], start, i + prefix));
	align(b, width);
	if (keys != NULL) {
		put_item(b, keys, width);
		put_word(b, keys->child_width, width);
	}
	if (!fixed)
		put_word(b, n, width);
	at = b->out->len;
	for (size_t i = 0; i < n; i++)
		put_item(b, &items[i], width);
	if (type == TYPE_MAP || type == TYPE_VECTOR)
		for (size_t i = 0; i < n; i++)
			put_word(b, packed_type(&items[i], width), 1);
	return (struct item){ type, width, at };
}

static struct item
put_key(struct build *b, const char *key)
{
	size_t known = GPOINTER_TO_SIZE(g_hash_table_lookup(b->keys, key));

	if (known == 0) {
		known = (size_t)b->out->len + 1;
		g_byte_array_append(b->out, (const guint8 *)key, (guint)strlen(key) + 1);
		g_hash_table_insert(b->keys, g_strdup(key), GSIZE_TO_POINTER(known));
	}
	return (struct item){ TYPE_KEY, 1, known - 1 };
}

static struct item
put_string(struct build *b, const char *text)
{
	size_t len = strlen(text);
	uint8_t width = width_of_uint(len);
	size_t at;

	align(b, width);
	put_word(b, len, width);
	at = b->out->len;
	g_byte_array_append(b->out, (const guint8 *)text, (guint)len + 1);
	return (struct item){ TYPE_STRING, width, at };
}

static struct item put_node(struct build *b, JsonNode *node);

static struct item
put_scalar(struct build *b, JsonNode *node)
{
	GType type = json_node_get_value_type(node);
	struct item item = { TYPE_NULL, 1, 0 };

	if (type == G_TYPE_STRING)
		return put_string(b, json_node_get_string(node));
	if (type == G_TYPE_BOOLEAN) {
		item.type = TYPE_BOOL;
		item.bits = json_node_get_boolean(node) ? 1 : 0;
	} else if (type == G_TYPE_INT64) {
		item.type = json_node_get_int(node) < 0 ? TYPE_INT : TYPE_UINT;
		item.bits = (uint64_t)json_node_get_int(node);
	} else if (type == G_TYPE_DOUBLE) {
		double value = json_node_get_double(node);

		item.type = TYPE_FLOAT;
		memcpy(&item.bits, &value, sizeof value);
	}
	return item;
}

static struct item
put_array(struct build *b, JsonArray *array)
{
	guint n = json_array_get_length(array);
	guint base = b->stack->len;
	struct item item;

	for (guint i = 0; i < n; i++) {
		item = put_node(b, json_array_get_element(array, i));
		g_array_append_val(b->stack, item);
	}
	item = put_vector(b, &g_array_index(b->stack, struct item, base), n, NULL);
	g_array_set_size(b->stack, base);
	return item;
}

/* Keys and values in turn, then the vector of the keys, then that of the values. */
static struct item
put_object(struct build *b, JsonObject *object)
{
	g_autoptr(GList) names = g_list_sort(json_object_get_members(object), (GCompareFunc)strcmp);
	guint n = json_object_get_size(object);
	guint base = b->stack->len;
	guint i = 0;
	struct item keys;
	struct item item;

	g_array_set_size(b->stack, base + 2 * n);
	for (GList *at = names; at != NULL; at = at->next, i++) {
		item = put_key(b, at->data);
		g_array_index(b->stack, struct item, base + i) = item;
		item = put_node(b, json_object_get_member(object, at->data));
		g_array_index(b->stack, struct item, base + n + i) = item;
	}
	keys = put_vector(b, &g_array_index(b->stack, struct item, base), n, NULL);
	item = put_vector(b, &g_array_index(b->stack, struct item, base + n), n, &keys);
	g_array_set_size(b->stack, base);
	return item;
}

static struct item
put_node(struct build *b, JsonNode *node)
{
	switch (JSON_NODE_TYPE(node)) {
	case JSON_NODE_OBJECT:
		return put_object(b, json_node_get_object(node));
	case JSON_NODE_ARRAY:
		return put_array(b, json_node_get_array(node));
	case JSON_NODE_VALUE:
		return put_scalar(b, node);
	case JSON_NODE_NULL:
	default:
		return (struct item){ TYPE_NULL, 1, 0 };
	}
}

GBytes *
firn_flex_build(JsonNode *value)
{
	struct build b = {
		.out = g_byte_array_new(),
		.keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
		.stack = g_array_sized_new(FALSE, FALSE, sizeof(struct item), 16),
	};
	struct item root = put_node(&b, value);
	uint8_t width = needed_width(&root, b.out->len, 0);

	align(&b, width);
	put_item(&b, &root, width);
	put_word(&b, packed_type(&root, width), 1);
	put_word(&b, width, 1);
	g_hash_table_unref(b.keys);
	g_array_unref(b.stack);
	return g_byte_array_free_to_bytes(b.out);
}
