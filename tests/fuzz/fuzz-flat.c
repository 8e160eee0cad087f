#include "core/flat/build.h"
#include "core/flat/reader.h"
#include "core/flat/verify.h"
#include "core/format/unknown.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every kind of field there is, nested as deep as the limits let it. */
static const FirnFlatField leaf_fields[] = {
	FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
	FIRN_FLAT_VECTOR_FIELD("bytes", 1, 1, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("number", 8, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable leaf = FIRN_FLAT_TABLE("Leaf", leaf_fields);
static const FirnFlatTable empty = FIRN_FLAT_EMPTY_TABLE("Empty");
static const FirnFlatTable *const variants[] = { &leaf, &empty };

static const FirnFlatField twig_fields[] = {
	FIRN_FLAT_TABLES_FIELD("leaves", &leaf, FIRN_FLAT_REQUIRED),
	FIRN_FLAT_UNION_FIELD("either", variants, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SKIP_FIELD,
	FIRN_FLAT_STRUCT_FIELD("id", 12, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_STRINGS_FIELD("words", FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable twig = FIRN_FLAT_TABLE("Twig", twig_fields);

static const FirnFlatField root_fields[] = {
	FIRN_FLAT_TABLES_FIELD("twigs", &twig, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_CHILD_FIELD("twig", &twig, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_VECTOR_FIELD("numbers", 4, 4, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("flag", 1, FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_STRING_FIELD("title", FIRN_FLAT_OPTIONAL),
	FIRN_FLAT_SCALAR_FIELD("small", 2, FIRN_FLAT_OPTIONAL),
};
static const FirnFlatTable root = FIRN_FLAT_TABLE("Root", root_fields);

static const FirnFlatLimits limits = { .max_depth = 8, .max_tables = 1000, .max_bytes = 1u << 20 };

static void
need(bool holds)
{
	if (!holds)
		abort();
}

static void walk(FirnSpan b, size_t table, const FirnFlatTable *type);

static void
walk_inside(FirnSpan b, size_t at, size_t len)
{
	need(at <= b.len && len <= b.len - at);
}

static void
walk_vector(FirnSpan b, size_t vector, const FirnFlatField *field)
{
	uint32_t n = firn_flat_count(b, vector);

	walk_inside(b, vector, 4);
	walk_inside(b, vector + 4, (size_t)n * field->size);
	need((vector + 4) % field->align == 0 || n == 0);
}

static void
walk_string(FirnSpan b, size_t string)
{
	FirnSpan text = firn_flat_bytes(b, string);

	walk_inside(b, string + 4, text.len);
	need(g_utf8_validate_len((const char *)text.data, text.len, NULL) ||
	     memchr(text.data, 0, text.len) != NULL);
}

static void
walk_items(FirnSpan b, size_t vector, const FirnFlatTable *type)
{
	for (uint32_t i = 0; i < firn_flat_count(b, vector); i++) {
		size_t item = firn_flat_item(b, vector, i);

		if (type != NULL)
			walk(b, item, type);
		else
			walk_string(b, item);
	}
}

static void
walk_union(FirnSpan b, size_t table, unsigned id, const FirnFlatField *field)
{
	uint8_t code = firn_flat_get_u8(b, table, id, 0);
	size_t value = firn_flat_get_child(b, table, id + 1);

	need((code != 0) == (value != 0));
	if (code > 0 && code <= field->n_variants)
		walk(b, value, field->variants[code - 1]);
}

static void
walk_field(FirnSpan b, size_t table, unsigned id, const FirnFlatField *field)
{
	size_t child;

	if (field->kind == FIRN_FLAT_SKIP)
		return;
	need(!field->required || firn_flat_has(b, table, id));
	if (!firn_flat_has(b, table, id) && field->kind != FIRN_FLAT_UNION)
		return;
	if (field->kind == FIRN_FLAT_SCALAR) {
		walk_inside(b, firn_flat_field(b, table, id), field->size);
		need(firn_flat_field(b, table, id) % field->align == 0);
		return;
	}
	if (field->kind == FIRN_FLAT_UNION) {
		walk_union(b, table, id, field);
		return;
	}
	child = firn_flat_get_child(b, table, id);
	if (field->kind == FIRN_FLAT_STRING)
		walk_string(b, child);
	else if (field->kind == FIRN_FLAT_VECTOR)
		walk_vector(b, child, field);
	else if (field->kind == FIRN_FLAT_CHILD)
		walk(b, child, field->table);
	else
		walk_items(b, child, field->kind == FIRN_FLAT_TABLES ? field->table : NULL);
}

static void
walk(FirnSpan b, size_t table, const FirnFlatTable *type)
{
	walk_inside(b, table, firn_flat_inline_size(b, table));
	for (unsigned id = 0; id < type->n_fields; id++)
		walk_field(b, table, id, &type->fields[id]);
}

/* What the verifier accepts, every getter reads within the buffer; and carrying a table over
 * without its schema reads within it too. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The getters ask for a buffer at a multiple of 8, of exactly this size. */
	g_autofree uint8_t *copy = g_malloc(MAX(size, 1u));
	FirnSpan b = { copy, size };
	g_autoptr(GError) error = NULL;
	FirnUnknown unknown = { .bytes_left = 1u << 16 };
	FirnFlatBuilder *builder;

	if (size > 0)
		memcpy(copy, data, size);
	if (!firn_flat_verify(b, &root, &limits, &error)) {
		need(error != NULL);
		return 0;
	}
	need(error == NULL);
	walk(b, firn_flat_root(b), &root);
	builder = firn_flat_builder_new(0);
	(void)firn_unknown_copy_table(&unknown, builder, b, firn_flat_root(b));
	g_clear_error(&unknown.error);
	firn_flat_builder_free(builder);
	return 0;
}
