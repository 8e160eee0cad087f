#ifndef FIRN_CORE_BASE_TEXT_H
#define FIRN_CORE_BASE_TEXT_H

#include "core/base/base.h"

/* Whether bytes are UTF-8 without a NUL; no bytes are. */
bool firn_span_is_text(FirnSpan span);

#endif
