#ifndef FIRN_CORE_BASE_ID_H
#define FIRN_CORE_BASE_ID_H

#include "core/base/base.h"

#include <string.h>

/*
 * Object ids: 12 random bytes name snapshots, manifests, chunks, sessions;
 * 8 random bytes name nodes.  Their text is Crockford base32, upper case, bits
 * most significant first, no padding: 20 and 13 characters.  Order is that of
 * the bytes (memcmp), which is also that of the text.
 */
#define FIRN_ID12_TEXT 20
#define FIRN_ID8_TEXT  13

typedef struct {
	uint8_t bytes[12];
} FirnId12;

typedef struct {
	uint8_t bytes[8];
} FirnId8;

/* The fixed id of the initial snapshot of every repository. */
extern const FirnId12 firn_id_initial_snapshot; /* 1CECHNKREP0F1RSTCMT0 */

/* Write the text and a NUL into `out`. */
void firn_id12_format(const FirnId12 *id, char out[FIRN_ID12_TEXT + 1]);
void firn_id8_format(const FirnId8 *id, char out[FIRN_ID8_TEXT + 1]);

/*
 * Parse `len` characters; lower case and O, I, L are accepted as the official
 * library does, surplus bits are ignored.  False (and `*out` untouched) for a
 * wrong length or character.
 */
bool firn_id12_parse(const char *text, size_t len, FirnId12 *out) FIRN_MUST_USE;
bool firn_id8_parse(const char *text, size_t len, FirnId8 *out) FIRN_MUST_USE;

/* A fresh id from the kernel's random generator. */
FirnId12 firn_id12_random(void);
FirnId8 firn_id8_random(void);

/* The first eight bytes: greater where the id is. */
static inline uint64_t
firn_id12_leading(const FirnId12 *id)
{
	uint64_t value;

	memcpy(&value, id->bytes, sizeof value);
	return GUINT64_FROM_BE(value);
}

/* Below zero, zero, above zero. */
static inline int
firn_id12_compare(const FirnId12 *a, const FirnId12 *b)
{
	uint64_t x = firn_id12_leading(a), y = firn_id12_leading(b);

	if (x != y)
		return x < y ? -1 : 1;
	return memcmp(a->bytes + 8, b->bytes + 8, 4);
}

int firn_id8_compare(const FirnId8 *a, const FirnId8 *b);

/* GHashFunc / GEqualFunc over FirnId12 / FirnId8 keys. */
guint firn_id12_hash(gconstpointer id);
gboolean firn_id12_equal(gconstpointer a, gconstpointer b);
guint firn_id8_hash(gconstpointer id);
gboolean firn_id8_equal(gconstpointer a, gconstpointer b);

#endif
