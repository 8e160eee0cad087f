#ifndef FIRN_CORE_FLAT_FLEX_TEXT_H
#define FIRN_CORE_FLAT_FLEX_TEXT_H

#include "core/base/base.h"

/* Texts of values: a NUL, which a C string cannot hold, is read as U+FFFD.  Pure; any thread. */

/* How many bytes the text has when it is read. */
size_t firn_flex_text_length(FirnSpan bytes);

/* NULL if it is not UTF-8.  Caller owns. */
char *firn_flex_text_read(FirnSpan bytes);

#endif
