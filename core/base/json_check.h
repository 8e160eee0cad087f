#ifndef FIRN_CORE_BASE_JSON_CHECK_H
#define FIRN_CORE_BASE_JSON_CHECK_H

#include "core/base/base.h"

/*
 * Whether `text` is exactly one RFC 8259 value (json-glib also accepts
 * comments, several values, and recurses without limit).  `max_depth` bounds
 * nesting.  Strings must be valid UTF-8; escaped surrogates may stand alone.
 * On failure `*out_offset` (may be NULL) is the byte it is seen at, and the
 * result a static text saying what is wrong; NULL means valid.
 */
const char *firn_json_check(FirnSpan text, unsigned max_depth, size_t *out_offset);

/*
 * The extent of the value and of the whole `"name": value` member (with the
 * comma that goes with it) of the top-level object in `text`, which must be
 * valid.  False if there is no such member.
 */
bool firn_json_find_member(FirnSpan text, const char *name, size_t *out_member_from,
			   size_t *out_member_to);

/*
 * Walk the members of the top-level object in `text`, which must be valid.
 * Nothing is copied: names and values are spans of `text`.
 *
 *	FirnJsonMembers members = firn_json_members(text);
 *
 *	while (firn_json_members_next(&members))
 *		if (firn_json_members_named(&members, "shape"))
 *			use(members.value);
 */
typedef struct {
	FirnSpan name;  /* between the quotes, escapes as written */
	FirnSpan value; /* as written */
	FirnSpan text;  /* private */
	size_t at;      /* private */
	size_t from;    /* private: of the whole member, with its comma */
	size_t to;      /* private */
} FirnJsonMembers;

FirnJsonMembers firn_json_members(FirnSpan text);
bool firn_json_members_next(FirnJsonMembers *members); /* also false if `text` is no object */
/* Whether the current member has this name, escapes resolved. */
bool firn_json_members_named(const FirnJsonMembers *members, const char *name);

#endif
