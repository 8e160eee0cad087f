#include "core/flat/flex.h"

#include "core/base/error.h"
#include "core/flat/flex_text.h"

#include <math.h>
#include <string.h>

#define TEXT_SPARE (1u << 20) /* bytes of keys that any value may unfold to */

enum {
	TYPE_NULL = 0,
	TYPE_INT = 1,
	TYPE_UINT = 2,
	TYPE_FLOAT = 3,
	TYPE_KEY = 4,
	TYPE_STRING = 5,
	TYPE_INDIRECT_INT = 6,
	TYPE_INDIRECT_FLOAT = 8,
	TYPE_MAP = 9,
	TYPE_VECTOR = 10,
	TYPE_VECTOR_INT = 11,
	TYPE_VECTOR_KEY = 14,
	TYPE_VECTOR_STRING = 15, /* deprecated: holds keys */
	TYPE_VECTOR_INT2 = 16,
	TYPE_VECTOR_FLOAT4 = 24,
	TYPE_BLOB = 25,
	TYPE_BOOL = 26,
	TYPE_VECTOR_BOOL = 36,
};

struct reader {
	const uint8_t *data;
	size_t len;
	size_t values_left; /* references may be shared: this bounds what they can unfold to */
	size_t text_left;
	unsigned depth_left;
	GError **error;
};

/* A value in its container. */
struct slot {
	size_t at;
	uint8_t width; /* of the word at `at` */
	uint8_t type;
	uint8_t child_width; /* of what a reference points to */
};

static JsonNode *
broken(struct reader *r, const char *what)
{
	g_set_error(r->error, FIRN_ERROR, FIRN_ERROR_FORMAT, "FlexBuffers value is damaged: %s",
		    what);
	return NULL;
}

static JsonNode *
too_big(struct reader *r)
{
	g_set_error(r->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
		    "FlexBuffers value unfolds to far more than its %zu bytes", r->len);
	return NULL;
}

static bool
fits(const struct reader *r, size_t at, size_t n)
{
	return at <= r->len && n <= r->len - at;
}

/* The word at `at`, which must fit. */
static uint64_t
word(const struct reader *r, size_t at, uint8_t width)
{
	uint64_t value = 0;

	memcpy(&value, r->data + at, width);
	return GUINT64_FROM_LE(value);
}

static int64_t
signed_word(const struct reader *r, size_t at, uint8_t width)
{
	unsigned unused = 64u - 8u * width;

	return (int64_t)(word(r, at, width) << unused) >> unused;
}

/* Where the reference in `slot` points to. */
static bool
follow(struct reader *r, const struct slot *slot, size_t *out)
{
	uint64_t back = word(r, slot->at, slot->width);

	if (back > slot->at)
		return false;
	*out = slot->at - (size_t)back;
	return true;
}

/* The count in front of `at`; `unit` bytes of each item must fit behind it. */
static bool
count_before(const struct reader *r, size_t at, uint8_t width, size_t unit, uint64_t *out)
{
	uint64_t n;

	if (at < width || at > r->len)
		return false;
	n = word(r, at - width, width);
	if (n > (r->len - at) / unit)
		return false;
	*out = n;
	return true;
}

static JsonNode *
node_of_double(double value)
{
	/* JSON has no such numbers; the official library also reads them as null. */
	if (!isfinite(value))
		return json_node_new(JSON_NODE_NULL);
	return json_node_init_double(json_node_alloc(), value);
}

static JsonNode *
read_number(struct reader *r, size_t at, uint8_t width, uint8_t type)
{
	uint64_t bits = word(r, at, width);
	uint32_t half = (uint32_t)bits;
	double value;
	float narrow;

	if (type == TYPE_INT)
		return json_node_init_int(json_node_alloc(), signed_word(r, at, width));
	if (type == TYPE_UINT && bits <= INT64_MAX)
		return json_node_init_int(json_node_alloc(), (gint64)bits);
	if (type == TYPE_UINT)
		return node_of_double((double)bits);
	if (width == 8) {
		memcpy(&value, &bits, sizeof value);
		return node_of_double(value);
	}
	if (width != 4)
		return broken(r, "a float of less than 4 bytes");
	memcpy(&narrow, &half, sizeof narrow);
	return node_of_double((double)narrow);
}

/* `len` bytes at `at`, which fit, as text.  Caller owns. */
static char *
take_text(struct reader *r, size_t at, size_t len)
{
	FirnSpan bytes = { r->data + at, len };
	size_t n = len <= r->text_left ? firn_flex_text_length(bytes) : len;
	char *text;

	if (n > r->text_left) {
		too_big(r);
		return NULL;
	}
	r->text_left -= n;
	text = firn_flex_text_read(bytes);
	if (text == NULL)
		broken(r, "a text that is not UTF-8");
	return text;
}

static char *
take_key(struct reader *r, size_t at)
{
	const uint8_t *nul = at < r->len ? memchr(r->data + at, 0, r->len - at) : NULL;

	if (nul == NULL) {
		broken(r, "a key without an end");
		return NULL;
	}
	return take_text(r, at, (size_t)(nul - r->data) - at);
}

static JsonNode *
node_of_text(char *text)
{
	JsonNode *node;

	if (text == NULL)
		return NULL;
	node = json_node_init_string(json_node_alloc(), text);
	g_free(text);
	return node;
}

static JsonNode *
read_string(struct reader *r, size_t at, uint8_t width)
{
	uint64_t n;

	if (!count_before(r, at, width, 1, &n))
		return broken(r, "a string out of bounds");
	return node_of_text(take_text(r, at, (size_t)n));
}

static JsonNode *read_slot(struct reader *r, const struct slot *slot);

/* `n` items of one type at `at`, without type bytes. */
static JsonNode *
read_typed(struct reader *r, struct slot first, uint64_t n)
{
	g_autoptr(JsonArray) array = json_array_new();

	for (uint64_t i = 0; i < n; i++, first.at += first.width) {
		JsonNode *item = read_slot(r, &first);

		if (item == NULL)
			return NULL;
		json_array_add_element(array, item);
	}
	return json_node_init_array(json_node_alloc(), array);
}

/* The slot of item `i` of an untyped vector or map of `n` items at `at`. */
static struct slot
item_slot(const struct reader *r, size_t at, uint8_t width, uint64_t n, uint64_t i)
{
	uint8_t packed = r->data[at + n * width + i];

	return (struct slot){ at + (size_t)i * width, width, packed >> 2,
			      (uint8_t)(1u << (packed & 3)) };
}

static JsonNode *
read_vector(struct reader *r, size_t at, uint8_t width)
{
	g_autoptr(JsonArray) array = NULL;
	uint64_t n;

	if (!count_before(r, at, width, (size_t)width + 1, &n))
		return broken(r, "a vector out of bounds");
	array = json_array_new();
	for (uint64_t i = 0; i < n; i++) {
		struct slot slot = item_slot(r, at, width, n, i);
		JsonNode *item = read_slot(r, &slot);

		if (item == NULL)
			return NULL;
		json_array_add_element(array, item);
	}
	return json_node_init_array(json_node_alloc(), array);
}

/* The key vector of the map at `at`, which has `n` values. */
static bool
find_keys(struct reader *r, size_t at, uint8_t width, uint64_t n, struct slot *out)
{
	struct slot keys = { .width = width, .type = TYPE_KEY, .child_width = 1 };
	uint64_t key_width;
	uint64_t n_keys;

	if (at < (size_t)3 * width)
		return false;
	keys.at = at - (size_t)3 * width;
	key_width = word(r, at - (size_t)2 * width, width);
	if (key_width != 1 && key_width != 2 && key_width != 4 && key_width != 8)
		return false;
	if (!follow(r, &keys, &keys.at))
		return false;
	keys.width = (uint8_t)key_width;
	if (!count_before(r, keys.at, keys.width, keys.width, &n_keys) || n_keys != n)
		return false;
	*out = keys;
	return true;
}

static JsonNode *
read_map(struct reader *r, size_t at, uint8_t width)
{
	g_autoptr(JsonObject) object = NULL;
	struct slot keys;
	uint64_t n;

	if (!count_before(r, at, width, (size_t)width + 1, &n) ||
	    !find_keys(r, at, width, n, &keys))
		return broken(r, "a map out of bounds");
	object = json_object_new();
	for (uint64_t i = 0; i < n; i++, keys.at += keys.width) {
		struct slot slot = item_slot(r, at, width, n, i);
		g_autofree char *key = NULL;
		JsonNode *value;
		size_t key_at;

		if (!follow(r, &keys, &key_at))
			return broken(r, "a key out of bounds");
		key = take_key(r, key_at);
		value = key != NULL ? read_slot(r, &slot) : NULL;
		if (value == NULL)
			return NULL;
		json_object_set_member(object, key, value);
	}
	return json_node_init_object(json_node_alloc(), object);
}

static JsonNode *
read_typed_vector(struct reader *r, size_t at, const struct slot *slot)
{
	struct slot first = { at, slot->child_width, TYPE_UINT, 1 };
	uint64_t n;

	if (slot->type >= TYPE_VECTOR_INT2 && slot->type <= TYPE_VECTOR_FLOAT4) {
		n = (slot->type - TYPE_VECTOR_INT2) / 3u + 2;
		first.type = (uint8_t)(TYPE_INT + (slot->type - TYPE_VECTOR_INT2) % 3u);
		if (!fits(r, at, (size_t)n * first.width))
			return broken(r, "a vector out of bounds");
		return read_typed(r, first, n);
	}
	if (slot->type == TYPE_VECTOR_BOOL)
		first.type = TYPE_BOOL;
	else if (slot->type == TYPE_VECTOR_STRING)
		first.type = TYPE_KEY;
	else if (slot->type != TYPE_BLOB)
		first.type = (uint8_t)(TYPE_INT + slot->type - TYPE_VECTOR_INT);
	/* A blob's width is that of its length only; its bytes are read as numbers. */
	if (!count_before(r, at, slot->child_width, slot->type == TYPE_BLOB ? 1 : first.width, &n))
		return broken(r, "a vector out of bounds");
	if (slot->type == TYPE_BLOB)
		first.width = 1;
	return read_typed(r, first, n);
}

static JsonNode *
read_reference(struct reader *r, const struct slot *slot)
{
	size_t at;

	if (!follow(r, slot, &at))
		return broken(r, "a reference out of bounds");
	switch (slot->type) {
	case TYPE_KEY:
		return node_of_text(take_key(r, at));
	case TYPE_STRING:
		return read_string(r, at, slot->child_width);
	case TYPE_MAP:
		return read_map(r, at, slot->child_width);
	case TYPE_VECTOR:
		return read_vector(r, at, slot->child_width);
	default:
		break;
	}
	if (slot->type >= TYPE_INDIRECT_INT && slot->type <= TYPE_INDIRECT_FLOAT) {
		if (!fits(r, at, slot->child_width))
			return broken(r, "a number out of bounds");
		return read_number(r, at, slot->child_width,
				   (uint8_t)(slot->type - TYPE_INDIRECT_INT + TYPE_INT));
	}
	if ((slot->type >= TYPE_VECTOR_INT && slot->type <= TYPE_BLOB) ||
	    slot->type == TYPE_VECTOR_BOOL)
		return read_typed_vector(r, at, slot);
	return broken(r, "an unknown type");
}

/* The word of `slot` is inside the buffer: every caller has checked its container. */
static JsonNode *
read_slot(struct reader *r, const struct slot *slot)
{
	JsonNode *node;

	if (r->values_left == 0)
		return too_big(r);
	r->values_left--;
	if (slot->type == TYPE_NULL)
		return json_node_new(JSON_NODE_NULL);
	if (slot->type == TYPE_BOOL)
		return json_node_init_boolean(json_node_alloc(),
					      word(r, slot->at, slot->width) != 0);
	if (slot->type <= TYPE_FLOAT)
		return read_number(r, slot->at, slot->width, slot->type);
	if (r->depth_left == 0) {
		g_set_error(r->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "FlexBuffers value is nested deeper than %u", FIRN_FLEX_MAX_DEPTH);
		return NULL;
	}
	r->depth_left--;
	node = read_reference(r, slot);
	r->depth_left++;
	return node;
}

JsonNode *
firn_flex_read(FirnSpan bytes, GError **error)
{
	/*
	 * Without sharing a value takes a byte or more; only keys are shared in practice,
	 * so that text may unfold to more than there is.
	 */
	struct reader r = {
		.data = bytes.data,
		.len = bytes.len,
		.values_left = bytes.len,
		.text_left = bytes.len * 64 + TEXT_SPARE,
		.depth_left = FIRN_FLEX_MAX_DEPTH,
		.error = error,
	};
	struct slot root;

	if (bytes.len < 3)
		return broken(&r, "it is too short");
	root.width = bytes.data[bytes.len - 1];
	if (root.width != 1 && root.width != 2 && root.width != 4 && root.width != 8)
		return broken(&r, "the root has an unknown width");
	if (bytes.len < 2u + root.width)
		return broken(&r, "it is too short");
	root.at = bytes.len - 2 - root.width;
	root.type = bytes.data[bytes.len - 2] >> 2;
	root.child_width = (uint8_t)(1u << (bytes.data[bytes.len - 2] & 3));
	return read_slot(&r, &root);
}
