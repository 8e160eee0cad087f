#include "core/base/id.h"

#include "core/base/clock.h"

#include <string.h>

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const FirnId12 firn_id_initial_snapshot = { { 0x0b, 0x1c, 0xc8, 0xd6, 0x78, 0x75, 0x80, 0xf0, 0xe3,
					      0x3a, 0x65, 0x34 } };

static void
format(const uint8_t *bytes, size_t n, char *out)
{
	uint32_t held = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < n; i++) {
		held = held << 8 | bytes[i];
		bits += 8;
		while (bits >= 5) {
			bits -= 5;
			*out++ = alphabet[held >> bits & 31];
		}
	}
	if (bits > 0)
		*out++ = alphabet[held << (5 - bits) & 31];
	*out = '\0';
}

static int
digit(char c)
{
	const char *at;

	c = g_ascii_toupper(c);
	if (c == 'O')
		c = '0';
	else if (c == 'I' || c == 'L')
		c = '1';
	at = c != '\0' ? strchr(alphabet, c) : NULL;
	return at != NULL ? (int)(at - alphabet) : -1;
}

static bool
parse(const char *text, size_t len, uint8_t *out, size_t n)
{
	uint32_t held = 0;
	unsigned bits = 0;
	size_t done = 0;
	uint8_t bytes[12];

	g_assert(n <= sizeof bytes);
	if (len != (n * 8 + 4) / 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		int value = digit(text[i]);

		if (value < 0)
			return false;
		held = held << 5 | (uint32_t)value;
		bits += 5;
		if (bits >= 8 && done < n) {
			bits -= 8;
			bytes[done++] = (uint8_t)(held >> bits);
		}
	}
	memcpy(out, bytes, n);
	return true;
}

void
firn_id12_format(const FirnId12 *id, char out[FIRN_ID12_TEXT + 1])
{
	format(id->bytes, sizeof id->bytes, out);
}

void
firn_id8_format(const FirnId8 *id, char out[FIRN_ID8_TEXT + 1])
{
	format(id->bytes, sizeof id->bytes, out);
}

bool
firn_id12_parse(const char *text, size_t len, FirnId12 *out)
{
	return parse(text, len, out->bytes, sizeof out->bytes);
}

bool
firn_id8_parse(const char *text, size_t len, FirnId8 *out)
{
	return parse(text, len, out->bytes, sizeof out->bytes);
}

FirnId12
firn_id12_random(void)
{
	FirnId12 id;

	firn_clock_random(id.bytes, sizeof id.bytes);
	return id;
}

FirnId8
firn_id8_random(void)
{
	FirnId8 id;

	firn_clock_random(id.bytes, sizeof id.bytes);
	return id;
}

int
firn_id8_compare(const FirnId8 *a, const FirnId8 *b)
{
	return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

/* Ids are random (but for the initial snapshot's): any four bytes are a hash. */
static guint
hash(gconstpointer id)
{
	guint value;

	memcpy(&value, id, sizeof value);
	return value;
}

guint
firn_id12_hash(gconstpointer id)
{
	return hash(id);
}

gboolean
firn_id12_equal(gconstpointer a, gconstpointer b)
{
	return firn_id12_compare(a, b) == 0;
}

guint
firn_id8_hash(gconstpointer id)
{
	return hash(id);
}

gboolean
firn_id8_equal(gconstpointer a, gconstpointer b)
{
	return firn_id8_compare(a, b) == 0;
}
