#include "core/base/json_check.h"

#include <string.h>

struct scan {
	const uint8_t *data;
	size_t len;
	size_t at;
	unsigned depth;
	const char *wrong;
};

static bool
fail(struct scan *s, const char *wrong)
{
	if (s->wrong == NULL)
		s->wrong = wrong;
	return false;
}

/* The byte at the cursor; NUL, which no token starts with, at the end. */
static uint8_t
peek(const struct scan *s)
{
	return s->at < s->len ? s->data[s->at] : 0;
}

static void
skip_space(struct scan *s)
{
	while (s->at < s->len) {
		uint8_t c = s->data[s->at];

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return;
		s->at++;
	}
}

/* Four hex digits at `at`. */
static bool
hex4(const uint8_t *at, size_t left, uint32_t *out)
{
	uint32_t value = 0;

	if (left < 4)
		return false;
	for (size_t i = 0; i < 4; i++) {
		int digit = g_ascii_xdigit_value((char)at[i]);

		if (digit < 0)
			return false;
		value = value << 4 | (uint32_t)digit;
	}
	*out = value;
	return true;
}

/* The cursor is behind "\u". */
static bool
check_unicode(struct scan *s)
{
	uint32_t value;

	/* Half a surrogate pair is within the grammar, and zarr-python writes it. */
	if (!hex4(s->data + s->at, s->len - s->at, &value))
		return fail(s, "\\u needs four hexadecimal digits");
	s->at += 4;
	return true;
}

/* The cursor is at the opening quote. */
static bool
check_string(struct scan *s)
{
	size_t from = ++s->at;
	const char *bad;

	for (;;) {
		uint8_t c;

		if (s->at >= s->len)
			return fail(s, "a string without an end");
		c = s->data[s->at];
		if (c == '"')
			break;
		if (c < 0x20)
			return fail(s, "a control character in a string");
		s->at++;
		if (c != '\\')
			continue;
		c = peek(s);
		if (c == 0 || strchr("\"\\/bfnrtu", c) == NULL)
			return fail(s, "an unknown escape in a string");
		s->at++;
		if (c == 'u' && !check_unicode(s))
			return false;
	}
	if (!g_utf8_validate_len((const char *)s->data + from, s->at - from, &bad)) {
		s->at = (size_t)((const uint8_t *)bad - s->data);
		return fail(s, "a string that is not UTF-8");
	}
	s->at++;
	return true;
}

static bool
check_digits(struct scan *s)
{
	if (!g_ascii_isdigit((char)peek(s)))
		return fail(s, "a digit is missing");
	while (g_ascii_isdigit((char)peek(s)))
		s->at++;
	return true;
}

static bool
check_number(struct scan *s)
{
	if (peek(s) == '-')
		s->at++;
	if (peek(s) == '0')
		s->at++;
	else if (!check_digits(s))
		return false;
	if (peek(s) == '.') {
		s->at++;
		if (!check_digits(s))
			return false;
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		if (peek(s) == '+' || peek(s) == '-')
			s->at++;
		return check_digits(s);
	}
	return true;
}

static bool
check_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if (s->len - s->at < n || memcmp(s->data + s->at, word, n) != 0)
		return fail(s, "an unknown word");
	s->at += n;
	return true;
}

static bool check_value(struct scan *s);

/* `"name":`, then the cursor is at the value. */
static bool
check_name(struct scan *s)
{
	if (peek(s) != '"')
		return fail(s, "a member name is missing");
	if (!check_string(s))
		return false;
	skip_space(s);
	if (peek(s) != ':')
		return fail(s, "a ':' is missing");
	s->at++;
	return true;
}

/* An array or object; recursion ends at the depth limit. */
static bool
check_container(struct scan *s, bool object)
{
	uint8_t close = object ? '}' : ']';

	if (s->depth == 0)
		return fail(s, "nested too deeply");
	s->depth--;
	s->at++;
	skip_space(s);
	if (peek(s) != close) {
		for (;;) {
			skip_space(s);
			if (object && !check_name(s))
				return false;
			if (!check_value(s))
				return false;
			skip_space(s);
			if (peek(s) != ',')
				break;
			s->at++;
		}
	}
	if (peek(s) != close)
		return fail(s, object ? "a ',' or '}' is missing" : "a ',' or ']' is missing");
	s->at++;
	s->depth++;
	return true;
}

static bool
check_value(struct scan *s)
{
	skip_space(s);
	switch (peek(s)) {
	case '{':
		return check_container(s, true);
	case '[':
		return check_container(s, false);
	case '"':
		return check_string(s);
	case 't':
		return check_word(s, "true");
	case 'f':
		return check_word(s, "false");
	case 'n':
		return check_word(s, "null");
	case 0:
		return fail(s, s->at < s->len ? "a NUL byte" : "a value is missing");
	default:
		if (peek(s) != '-' && !g_ascii_isdigit((char)peek(s)))
			return fail(s, "not a JSON value");
		return check_number(s);
	}
}

const char *
firn_json_check(FirnSpan text, unsigned max_depth, size_t *out_offset)
{
	struct scan s = { text.data, text.len, 0, max_depth, NULL };

	if (check_value(&s)) {
		skip_space(&s);
		if (s.at != s.len)
			(void)fail(&s, "bytes behind the value");
	}
	if (s.wrong != NULL && out_offset != NULL)
		*out_offset = s.at;
	return s.wrong;
}

/* ---- members of a valid document ---- */

FirnJsonMembers
firn_json_members(FirnSpan text)
{
	return (FirnJsonMembers){ .text = text };
}

/* Behind the string whose opening quote is at the cursor. */
static void
pass_string(struct scan *s)
{
	for (s->at++; s->at < s->len && s->data[s->at] != '"'; s->at++)
		if (s->data[s->at] == '\\')
			s->at++;
	s->at++;
}

/* Behind the value at the cursor: brackets are balanced, as the document is valid. */
static void
pass_value(struct scan *s)
{
	size_t open = 0;

	while (s->at < s->len) {
		uint8_t c = s->data[s->at];

		if (c == '"') {
			pass_string(s);
			if (open == 0)
				return;
			continue;
		}
		if (open == 0 && (c == ',' || c == '}' || c == ']' || g_ascii_isspace((char)c)))
			return;
		s->at++;
		if (c == '{' || c == '[')
			open++;
		if ((c == '}' || c == ']') && --open == 0)
			return;
	}
}

bool
firn_json_members_next(FirnJsonMembers *members)
{
	struct scan s = { members->text.data, members->text.len, members->at, 0, NULL };
	bool first = members->at == 0;
	size_t comma;
	size_t name;

	skip_space(&s);
	comma = s.at;
	if (peek(&s) != (first ? '{' : ','))
		return false;
	s.at++;
	skip_space(&s);
	name = s.at;
	if (peek(&s) != '"')
		return false;
	pass_string(&s);
	members->name = (FirnSpan){ s.data + name + 1, s.at - name - 2 };
	skip_space(&s);
	s.at++;
	skip_space(&s);
	members->value.data = s.data + s.at;
	pass_value(&s);
	members->value.len = (size_t)(s.data + s.at - members->value.data);
	members->at = s.at;
	members->from = first ? name : comma;
	members->to = s.at;
	if (!first)
		return true;
	/* The first member goes with the comma behind it. */
	skip_space(&s);
	if (peek(&s) == ',') {
		s.at++;
		skip_space(&s);
		members->to = s.at;
	}
	return true;
}

/* The character at `*at` of a valid string, escapes resolved; `*at` moves on. */
static uint32_t
next_char(FirnSpan string, size_t *at)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	uint32_t high = 0;
	uint32_t low = 0;
	uint8_t c;

	if (string.data[*at] != '\\') {
		const char *from = (const char *)string.data + *at;

		*at += (size_t)g_utf8_skip[string.data[*at]];
		return g_utf8_get_char(from);
	}
	c = string.data[*at + 1];
	*at += 2;
	if (c != 'u')
		return (uint8_t)meant[strchr(letters, c) - letters];
	(void)hex4(string.data + *at, string.len - *at, &high);
	*at += 4;
	if (high < 0xd800 || high > 0xdbff)
		return high;
	(void)hex4(string.data + *at + 2, string.len - *at - 2, &low);
	*at += 6;
	return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

bool
firn_json_members_named(const FirnJsonMembers *members, const char *name)
{
	FirnSpan string = members->name;
	size_t at = 0;

	if (memchr(string.data, '\\', string.len) == NULL)
		return strlen(name) == string.len && memcmp(name, string.data, string.len) == 0;
	while (at < string.len) {
		uint32_t c = next_char(string, &at);

		if (*name == '\0' || c != g_utf8_get_char(name))
			return false;
		name += g_utf8_skip[(uint8_t)*name];
	}
	return *name == '\0';
}

bool
firn_json_find_member(FirnSpan text, const char *name, size_t *out_member_from,
		      size_t *out_member_to)
{
	FirnJsonMembers members = firn_json_members(text);

	while (firn_json_members_next(&members)) {
		if (!firn_json_members_named(&members, name))
			continue;
		*out_member_from = members.from;
		*out_member_to = members.to;
		return true;
	}
	return false;
}
