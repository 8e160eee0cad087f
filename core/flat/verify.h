#ifndef FIRN_CORE_FLAT_VERIFY_H
#define FIRN_CORE_FLAT_VERIFY_H

#include "core/base/base.h"

/*
 * A verifier for FlatBuffers, driven by schema tables.  Declare one constant
 * table description per table type, children first:
 *
 *   static const FirnFlatField item_fields[] = {
 *           FIRN_FLAT_STRING_FIELD("name", FIRN_FLAT_REQUIRED),
 *           FIRN_FLAT_VECTOR_FIELD("value", 1, 1, FIRN_FLAT_REQUIRED),
 *   };
 *   static const FirnFlatTable item_table = FIRN_FLAT_TABLE("MetadataItem", item_fields);
 *
 * Position in the array is the field id.  A union takes two consecutive ids: a
 * FIRN_FLAT_UNION_FIELD at the id of the type code, and FIRN_FLAT_SKIP_FIELD at
 * the id of the value.  Field ids above the array are ignored.
 */
typedef struct FirnFlatTable FirnFlatTable;

typedef enum {
	FIRN_FLAT_SKIP,    /* not looked at                                        */
	FIRN_FLAT_SCALAR,  /* inline, `size` bytes, at a multiple of `align`       */
	FIRN_FLAT_STRING,  /* UTF-8 (NUL bytes allowed; final NUL not required)    */
	FIRN_FLAT_VECTOR,  /* of scalars or structs, `size` bytes each             */
	FIRN_FLAT_STRINGS, /* vector of strings                                    */
	FIRN_FLAT_CHILD,   /* one table                                            */
	FIRN_FLAT_TABLES,  /* vector of tables                                     */
	FIRN_FLAT_UNION,   /* u8 code at this id, table at the next one            */
} FirnFlatKind;

#define FIRN_FLAT_REQUIRED   true
#define FIRN_FLAT_OPTIONAL   false
#define FIRN_FLAT_MAX_FIELDS 32u

typedef struct {
	const char *name;
	FirnFlatKind kind;
	bool required;
	uint8_t size;               /* scalar, vector: bytes of an item                         */
	uint8_t align;              /* scalar, vector: of an item; 1 for structs                */
	uint8_t n_variants;         /* union: codes 1..n_variants are known */
	const FirnFlatTable *table; /* child, tables                     */
	const FirnFlatTable *const *variants; /* union: [code - 1]                 */
} FirnFlatField;

struct FirnFlatTable {
	const char *name;
	const FirnFlatField *fields;
	unsigned n_fields; /* <= FIRN_FLAT_MAX_FIELDS */
};

#define FIRN_FLAT_TABLE(table_name, field_array)               \
	{                                                      \
		.name = (table_name), .fields = (field_array), \
		.n_fields = G_N_ELEMENTS(field_array)          \
	}
/* A table type without fields of its own. */
#define FIRN_FLAT_EMPTY_TABLE(table_name) \
	{                                 \
		.name = (table_name)      \
	}

#define FIRN_FLAT_SKIP_FIELD           \
	{                              \
		.kind = FIRN_FLAT_SKIP \
	}
/* u8, u16, u32, u64 ...: natural alignment. */
#define FIRN_FLAT_SCALAR_FIELD(n, bytes, req)                                              \
	{                                                                                  \
		.name = (n), .kind = FIRN_FLAT_SCALAR, .required = (req), .size = (bytes), \
		.align = (bytes)                                                           \
	}
/* Structs are read by memcpy: no alignment asked for, as the official reader. */
#define FIRN_FLAT_STRUCT_FIELD(n, bytes, req)                                              \
	{                                                                                  \
		.name = (n), .kind = FIRN_FLAT_SCALAR, .required = (req), .size = (bytes), \
		.align = 1                                                                 \
	}
#define FIRN_FLAT_STRING_FIELD(n, req)                                   \
	{                                                                \
		.name = (n), .kind = FIRN_FLAT_STRING, .required = (req) \
	}
#define FIRN_FLAT_STRINGS_FIELD(n, req)                                   \
	{                                                                 \
		.name = (n), .kind = FIRN_FLAT_STRINGS, .required = (req) \
	}
#define FIRN_FLAT_VECTOR_FIELD(n, bytes, alignment, req)                                   \
	{                                                                                  \
		.name = (n), .kind = FIRN_FLAT_VECTOR, .required = (req), .size = (bytes), \
		.align = (alignment)                                                       \
	}
#define FIRN_FLAT_CHILD_FIELD(n, t, req)                                              \
	{                                                                             \
		.name = (n), .kind = FIRN_FLAT_CHILD, .required = (req), .table = (t) \
	}
#define FIRN_FLAT_TABLES_FIELD(n, t, req)                                              \
	{                                                                              \
		.name = (n), .kind = FIRN_FLAT_TABLES, .required = (req), .table = (t) \
	}
#define FIRN_FLAT_UNION_FIELD(n, array, req)                             \
	{                                                                \
		.name = (n), .kind = FIRN_FLAT_UNION, .required = (req), \
		.n_variants = G_N_ELEMENTS(array), .variants = (array)   \
	}

/*
 * Limits over one buffer, sharing expanded: a table reached twice counts twice.
 * `max_bytes` bounds what is looked at, so also the time.
 */
typedef struct {
	unsigned max_depth; /* of tables; <= 64 */
	uint64_t max_tables;
	uint64_t max_bytes;
} FirnFlatLimits;

/*
 * Check that `buffer`, whose root is a `root` table, can be read by the getters
 * of reader.h: every offset, every table (its inline part and each known field
 * of it within its inline size), every vector, UTF-8 of strings, required
 * fields, both halves of unions.  The value of a union with an unknown code is
 * checked as a table without known fields.  Alignment is relative to the
 * buffer's start; the file identifier is not looked at (the official reader
 * does not either).
 *
 * Errors: FORMAT (the message names table, field and position), LIMIT.
 * Pure function; any thread.  The depth of recursion is that of the schema.
 */
bool firn_flat_verify(FirnSpan buffer, const FirnFlatTable *root, const FirnFlatLimits *limits,
		      GError **error) FIRN_MUST_USE;

#endif
