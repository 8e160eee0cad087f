#include "core/flat/verify.h"

#include "core/base/error.h"
#include "core/flat/reader.h"

#include <string.h>

#define N_PLANS 16u /* power of two */

/*
 * What a vtable means for a table type, worked out once: files hold millions of
 * tables with a handful of vtables, or as many that are equal.
 */
typedef struct {
	const FirnFlatTable *schema; /* NULL: free */
	size_t vtable;               /* one of those that are equal */
	uint64_t serial;             /* of this plan: another one may take its place */
	uint32_t cost;               /* bytes looked at per table, children aside */
	uint16_t inline_size;
	uint16_t n_fields;
	struct {
		uint16_t offset;
		uint16_t id;
	} fields[FIRN_FLAT_MAX_FIELDS]; /* the present ones the schema knows */
} Plan;

typedef struct {
	FirnSpan b;
	const FirnFlatLimits *limits;
	uint64_t tables;
	uint64_t bytes;
	uint64_t plans_made;
	unsigned depth;
	GError **error;
	Plan plans[N_PLANS];
} Walk;

static const FirnFlatTable opaque_table = FIRN_FLAT_EMPTY_TABLE("(unknown)");

static bool check_table(Walk *w, size_t at, const FirnFlatTable *schema);

static bool
fault(Walk *w, const FirnFlatTable *schema, const FirnFlatField *field, size_t at, const char *what)
{
	g_set_error(w->error, FIRN_ERROR, FIRN_ERROR_FORMAT, "%s%s%s at byte %zu: %s", schema->name,
		    field != NULL ? "." : "", field != NULL ? field->name : "", at, what);
	return false;
}

static bool
charge(Walk *w, uint64_t bytes)
{
	w->bytes += bytes;
	if (w->bytes <= w->limits->max_bytes)
		return true;
	g_set_error(w->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
		    "the file refers to more than %" G_GUINT64_FORMAT " bytes of itself",
		    w->limits->max_bytes);
	return false;
}

static unsigned
inline_size_of(const FirnFlatField *field)
{
	switch (field->kind) {
	case FIRN_FLAT_SCALAR:
		return field->size;
	case FIRN_FLAT_UNION:
		return 1;
	case FIRN_FLAT_SKIP:
		return 0;
	case FIRN_FLAT_STRING:
	case FIRN_FLAT_VECTOR:
	case FIRN_FLAT_STRINGS:
	case FIRN_FLAT_CHILD:
	case FIRN_FLAT_TABLES:
		return 4;
	}
	return 0;
}

/* Offset of field `id`, by a vtable whose bounds are known to be good; 0: absent. */
static unsigned
slot_at(const Walk *w, size_t vtable, unsigned id)
{
	unsigned slot = 4 + 2 * id;

	if (slot + 2 > firn_flat_load16(w->b.data + vtable))
		return 0;
	return firn_flat_load16(w->b.data + vtable + slot);
}

static bool
plan_field(Walk *w, Plan *plan, unsigned id)
{
	const FirnFlatField *field = &plan->schema->fields[id];
	unsigned offset = slot_at(w, plan->vtable, id);
	unsigned size = inline_size_of(field);
	bool is_union = field->kind == FIRN_FLAT_UNION;

	if (field->kind == FIRN_FLAT_SKIP)
		return true;
	if (is_union && (offset == 0) != (slot_at(w, plan->vtable, id + 1) == 0))
		return fault(w, plan->schema, field, plan->vtable, "half of a union is missing");
	if (offset == 0 && field->required)
		return fault(w, plan->schema, field, plan->vtable, "a required field is missing");
	if (offset == 0)
		return true;
	if (offset < 4 || offset + size > plan->inline_size)
		return fault(w, plan->schema, field, plan->vtable,
			     "the field is outside its table");
	if (is_union) {
		unsigned value = slot_at(w, plan->vtable, id + 1);

		if (value < 4 || value + 4 > plan->inline_size)
			return fault(w, plan->schema, field, plan->vtable,
				     "the union's value is outside its table");
		size += 4;
	}
	plan->cost += size;
	plan->fields[plan->n_fields].offset = (uint16_t)offset;
	plan->fields[plan->n_fields++].id = (uint16_t)id;
	return true;
}

/* Where the vtable of the table at `at` is, of which `*out_size` bytes are in the buffer. */
static bool
find_vtable(Walk *w, size_t at, const FirnFlatTable *schema, size_t *out_vtable, unsigned *out_size)
{
	int64_t vtable = (int64_t)at - (int32_t)firn_flat_load32(w->b.data + at);
	size_t v = (size_t)vtable;

	if (vtable < 0 || v % 2 != 0 || v > w->b.len - 4)
		return fault(w, schema, NULL, at, "the vtable is outside the file");
	*out_vtable = v;
	*out_size = firn_flat_load16(w->b.data + v);
	if (*out_size < 4 || *out_size % 2 != 0 || *out_size > w->b.len - v)
		return fault(w, schema, NULL, at, "the vtable has an impossible size");
	return true;
}

static bool
make_plan(Walk *w, Plan *plan, size_t at)
{
	const FirnFlatTable *schema = plan->schema;

	plan->inline_size = firn_flat_load16(w->b.data + plan->vtable + 2);
	if (plan->inline_size < 4)
		return fault(w, schema, NULL, at, "the table has an impossible size");
	g_assert(schema->n_fields <= FIRN_FLAT_MAX_FIELDS);
	for (unsigned id = 0; id < schema->n_fields; id++)
		if (!plan_field(w, plan, id))
			return false;
	return true;
}

/* The plan for the table at `at`; borrowed, valid until the next call. */
static const Plan *
plan_for(Walk *w, size_t at, const FirnFlatTable *schema)
{
	const uint8_t *b = w->b.data;
	unsigned size = 0, last;
	size_t v = 0;
	Plan *plan;

	if (!find_vtable(w, at, schema, &v, &size))
		return NULL;
	last = firn_flat_load16(b + v + size - 2);
	plan = &w->plans[(size >> 1 ^ last ^ (uintptr_t)schema >> 4) % N_PLANS];
	/* A plan's vtable begins with its size. */
	if (plan->schema == schema &&
	    (plan->vtable == v ||
	     (size <= w->b.len - plan->vtable && memcmp(b + plan->vtable, b + v, size) == 0)))
		return plan;
	*plan = (Plan){
		.vtable = v, .cost = 6 + size, .schema = schema, .serial = ++w->plans_made
	};
	if (make_plan(w, plan, at))
		return plan;
	plan->schema = NULL;
	return NULL;
}

/*
 * Follow the offset at `at`, whose four bytes are in the buffer; 0 if it is bad.
 * The target has at least four bytes, and its position is a multiple of four.
 */
static size_t
target_of(const Walk *w, size_t at)
{
	uint32_t offset;
	size_t target;

	if (at % 4 != 0)
		return 0;
	offset = firn_flat_load32(w->b.data + at);
	target = at + offset;
	if (offset == 0 || target % 4 != 0 || target > w->b.len - 4)
		return 0;
	return target;
}

static bool
vector_fits(const Walk *w, size_t vector, size_t item_size)
{
	uint64_t bytes = (uint64_t)firn_flat_load32(w->b.data + vector) * item_size;

	return bytes <= w->b.len - 4 - vector;
}

/* g_utf8_validate_len() takes a NUL for the end; the format does not. */
static bool
is_utf8(const uint8_t *data, size_t len)
{
	const char *end = (const char *)data + len;
	const char *at;

	/* Nearly all is ASCII: eight bytes at a time as far as that goes. */
	while (len >= 8 && (firn_flat_load64(data) & 0x8080808080808080u) == 0) {
		data += 8;
		len -= 8;
	}
	at = (const char *)data;
	while (!g_utf8_validate_len(at, (gsize)(end - at), &at)) {
		if (at == end || *at != '\0')
			return false;
		at++;
	}
	return true;
}

static bool
check_string(Walk *w, size_t at, const FirnFlatTable *schema, const FirnFlatField *field)
{
	size_t vector = target_of(w, at);
	uint32_t len;

	if (vector == 0 || !vector_fits(w, vector, 1))
		return fault(w, schema, field, at, "the string is outside the file");
	len = firn_flat_load32(w->b.data + vector);
	if (!charge(w, 4 + (uint64_t)len))
		return false;
	if (!is_utf8(w->b.data + vector + 4, len))
		return fault(w, schema, field, at, "the string is not UTF-8");
	return true;
}

static bool
check_child(Walk *w, size_t at, const FirnFlatTable *child, const FirnFlatTable *schema,
	    const FirnFlatField *field)
{
	size_t table = target_of(w, at);

	if (table == 0)
		return fault(w, schema, field, at, "the table is outside the file");
	return check_table(w, table, child);
}

/* Vectors of all kinds, at the offset stored at `at`. */
static bool
check_vector(Walk *w, size_t at, const FirnFlatTable *schema, const FirnFlatField *field)
{
	bool plain = field->kind == FIRN_FLAT_VECTOR;
	size_t item_size = plain ? field->size : 4;
	size_t vector = target_of(w, at);
	uint32_t count;

	if (vector == 0 || !vector_fits(w, vector, item_size))
		return fault(w, schema, field, at, "the vector is outside the file");
	count = firn_flat_load32(w->b.data + vector);
	if (!charge(w, 4 + (uint64_t)count * item_size))
		return false;
	if (plain && (vector + 4) % field->align != 0)
		return fault(w, schema, field, at, "the vector is not aligned");
	for (uint32_t i = 0; !plain && i < count; i++) {
		size_t item = vector + 4 + 4 * (size_t)i;

		if (field->kind == FIRN_FLAT_STRINGS && !check_string(w, item, schema, field))
			return false;
		if (field->kind == FIRN_FLAT_TABLES &&
		    !check_child(w, item, field->table, schema, field))
			return false;
	}
	return true;
}

static bool
check_union(Walk *w, size_t table, size_t at, const FirnFlatTable *schema, unsigned id)
{
	const FirnFlatField *field = &schema->fields[id];
	uint8_t code = w->b.data[at];
	const FirnFlatTable *variant = &opaque_table;
	size_t value = table + firn_flat_slot(w->b, table, id + 1);

	if (code == 0)
		return fault(w, schema, field, at, "a union of no type has a value");
	if (code <= field->n_variants)
		variant = field->variants[code - 1];
	return check_child(w, value, variant, schema, field);
}

static bool
check_field(Walk *w, size_t table, unsigned offset, const FirnFlatTable *schema, unsigned id)
{
	const FirnFlatField *field = &schema->fields[id];
	size_t at = table + offset;

	switch (field->kind) {
	case FIRN_FLAT_SCALAR:
		if (at % field->align != 0)
			return fault(w, schema, field, at, "the field is not aligned");
		return true;
	case FIRN_FLAT_STRING:
		return check_string(w, at, schema, field);
	case FIRN_FLAT_VECTOR:
	case FIRN_FLAT_STRINGS:
	case FIRN_FLAT_TABLES:
		return check_vector(w, at, schema, field);
	case FIRN_FLAT_CHILD:
		return check_child(w, at, field->table, schema, field);
	case FIRN_FLAT_UNION:
		return check_union(w, table, at, schema, id);
	case FIRN_FLAT_SKIP:
		return true;
	}
	return true;
}

static bool
enter(Walk *w)
{
	if (w->depth >= w->limits->max_depth) {
		g_set_error(w->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "tables are nested deeper than %u", w->limits->max_depth);
		return false;
	}
	if (w->tables >= w->limits->max_tables) {
		g_set_error(w->error, FIRN_ERROR, FIRN_ERROR_LIMIT,
			    "the file has more than %" G_GUINT64_FORMAT " tables",
			    w->limits->max_tables);
		return false;
	}
	w->tables++;
	w->depth++;
	return true;
}

/* `at` is a multiple of four with four bytes in the buffer, see target_of(). */
static bool
check_table(Walk *w, size_t at, const FirnFlatTable *schema)
{
	const Plan *plan;
	uint64_t serial;

	if (!enter(w))
		return false;
	plan = plan_for(w, at, schema);
	if (plan == NULL || !charge(w, plan->cost))
		return false;
	serial = plan->serial;
	if (plan->inline_size > w->b.len - at)
		return fault(w, schema, NULL, at, "the table is outside the file");
	for (unsigned i = 0; i < plan->n_fields; i++) {
		if (!check_field(w, at, plan->fields[i].offset, schema, plan->fields[i].id))
			return false;
		/* A child's plan may have taken the place of ours. */
		if (plan->serial != serial)
			plan = plan_for(w, at, schema);
		if (plan == NULL)
			return false;
		serial = plan->serial;
	}
	w->depth--;
	return true;
}

bool
firn_flat_verify(FirnSpan buffer, const FirnFlatTable *root, const FirnFlatLimits *limits,
		 GError **error)
{
	Walk w = { .b = buffer, .limits = limits, .error = error };
	size_t table;

	g_assert(limits->max_depth <= 64);
	if (buffer.len < 8)
		return fault(&w, root, NULL, 0, "the file is too short");
	table = target_of(&w, 0);
	if (table == 0)
		return fault(&w, root, NULL, 0, "the table is outside the file");
	return check_table(&w, table, root);
}
