#ifndef FIRN_TOOLS_NODEPATH_H
#define FIRN_TOOLS_NODEPATH_H

#include "core/base/base.h"

/* Join two pieces (either may be NULL) to an absolute node path without doubled or final '/'.
 * Caller owns. */
char *firn_node_path(const char *above, const char *below);

#endif
