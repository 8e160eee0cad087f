#include "core/flat/flex.h"

#include "core/base/error.h"
#include "core/flat/flex_text.h"

#include <math.h>
#include <string.h>

struct reader {
	const uint8_t *at;
	const uint8_t *end;
	unsigned depth_left;
	GError **error;
};

static JsonNode *
broken(struct reader *r, const char *what)
{
	g_set_error(r->error, FIRN_ERROR, FIRN_ERROR_FORMAT, "MessagePack value is damaged: %s",
		    what);
	return NULL;
}

static size_t
left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* A big-endian number of `width` bytes. */
static bool
take_word(struct reader *r, size_t width, uint64_t *out)
{
	uint64_t value = 0;

	if (left(r) < width) {
		broken(r, "it is cut short");
		return false;
	}
	for (size_t i = 0; i < width; i++)
		value = value << 8 | r->at[i];
	r->at += width;
	*out = value;
	return true;
}

static JsonNode *
node_of_double(double value)
{
	if (!isfinite(value))
		return json_node_new(JSON_NODE_NULL);
	return json_node_init_double(json_node_alloc(), value);
}

static JsonNode *
read_uint(struct reader *r, size_t width)
{
	uint64_t value;

	if (!take_word(r, width, &value))
		return NULL;
	if (value > INT64_MAX)
		return node_of_double((double)value);
	return json_node_init_int(json_node_alloc(), (gint64)value);
}

static JsonNode *
read_int(struct reader *r, size_t width)
{
	unsigned unused = 64u - 8u * (unsigned)width;
	uint64_t value;

	if (!take_word(r, width, &value))
		return NULL;
	return json_node_init_int(json_node_alloc(), (int64_t)(value << unused) >> unused);
}

static JsonNode *
read_float(struct reader *r, size_t width)
{
	uint64_t bits;
	uint32_t half;
	double value;
	float narrow;

	if (!take_word(r, width, &bits))
		return NULL;
	if (width == 4) {
		half = (uint32_t)bits;
		memcpy(&narrow, &half, sizeof narrow);
		return node_of_double((double)narrow);
	}
	memcpy(&value, &bits, sizeof value);
	return node_of_double(value);
}

static JsonNode *
read_text(struct reader *r, uint64_t len)
{
	g_autofree char *text = NULL;

	if (len > left(r))
		return broken(r, "it is cut short");
	text = firn_flex_text_read((FirnSpan){ r->at, (size_t)len });
	if (text == NULL)
		return broken(r, "a text that is not UTF-8");
	r->at += len;
	return json_node_init_string(json_node_alloc(), text);
}

/* Bytes have no place in JSON: a list of numbers, as the official library shows them. */
static JsonNode *
read_bin(struct reader *r, uint64_t len)
{
	g_autoptr(JsonArray) array = NULL;

	if (len > left(r))
		return broken(r, "it is cut short");
	array = json_array_new();
	for (uint64_t i = 0; i < len; i++)
		json_array_add_int_element(array, *r->at++);
	return json_node_init_array(json_node_alloc(), array);
}

static JsonNode *read_value(struct reader *r);

static JsonNode *
read_array(struct reader *r, uint64_t n)
{
	g_autoptr(JsonArray) array = NULL;

	/* An item takes a byte or more. */
	if (n > left(r))
		return broken(r, "it is cut short");
	array = json_array_new();
	for (uint64_t i = 0; i < n; i++) {
		JsonNode *item = read_value(r);

		if (item == NULL)
			return NULL;
		json_array_add_element(array, item);
	}
	return json_node_init_array(json_node_alloc(), array);
}

static JsonNode *
read_map(struct reader *r, uint64_t n)
{
	g_autoptr(JsonObject) object = NULL;

	if (n > left(r) / 2)
		return broken(r, "it is cut short");
	object = json_object_new();
	for (uint64_t i = 0; i < n; i++) {
		g_autoptr(JsonNode) key = read_value(r);
		JsonNode *value;

		if (key == NULL)
			return NULL;
		if (!JSON_NODE_HOLDS_VALUE(key) || json_node_get_value_type(key) != G_TYPE_STRING)
			return broken(r, "a map key that is no text");
		value = read_value(r);
		if (value == NULL)
			return NULL;
		json_object_set_member(object, json_node_get_string(key), value);
	}
	return json_node_init_object(json_node_alloc(), object);
}

/* Codes 0xc0 to 0xdf. */
static JsonNode *
read_coded(struct reader *r, uint8_t code)
{
	uint64_t n = 0;

	switch (code) {
	case 0xc0:
		return json_node_new(JSON_NODE_NULL);
	case 0xc2:
	case 0xc3:
		return json_node_init_boolean(json_node_alloc(), code == 0xc3);
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return take_word(r, (size_t)1 << (code - 0xc4), &n) ? read_bin(r, n) : NULL;
	case 0xca:
		return read_float(r, 4);
	case 0xcb:
		return read_float(r, 8);
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		return read_uint(r, (size_t)1 << (code - 0xcc));
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return read_int(r, (size_t)1 << (code - 0xd0));
	case 0xd9:
	case 0xda:
	case 0xdb:
		return take_word(r, (size_t)1 << (code - 0xd9), &n) ? read_text(r, n) : NULL;
	case 0xdc:
	case 0xdd:
		return take_word(r, code == 0xdc ? 2 : 4, &n) ? read_array(r, n) : NULL;
	case 0xde:
	case 0xdf:
		return take_word(r, code == 0xde ? 2 : 4, &n) ? read_map(r, n) : NULL;
	default:
		return broken(r, "an unknown type");
	}
}

static JsonNode *
read_value(struct reader *r)
{
	uint64_t code;
	JsonNode *node;

	if (!take_word(r, 1, &code))
		return NULL;
	if (code < 0x80)
		return json_node_init_int(json_node_alloc(), (gint64)code);
	if (code >= 0xe0)
		return json_node_init_int(json_node_alloc(), (gint64)code - 0x100);
	if (r->depth_left == 0) {
		g_set_error(r->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "MessagePack value is nested deeper than %u", FIRN_FLEX_MAX_DEPTH);
		return NULL;
	}
	r->depth_left--;
	if (code < 0x90)
		node = read_map(r, code & 15);
	else if (code < 0xa0)
		node = read_array(r, code & 15);
	else if (code < 0xc0)
		node = read_text(r, code & 31);
	else
		node = read_coded(r, (uint8_t)code);
	r->depth_left++;
	return node;
}

JsonNode *
firn_flex_read_msgpack(FirnSpan bytes, GError **error)
{
	struct reader r = { bytes.data, bytes.data + bytes.len, FIRN_FLEX_MAX_DEPTH, error };
	g_autoptr(JsonNode) node = NULL;

	if (bytes.len == 0)
		return broken(&r, "it is empty");
	node = read_value(&r);
	if (node != NULL && r.at != r.end)
		return broken(&r, "bytes behind the value");
	return g_steal_pointer(&node);
}
