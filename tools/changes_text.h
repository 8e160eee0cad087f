#ifndef FIRN_TOOLS_CHANGES_TEXT_H
#define FIRN_TOOLS_CHANGES_TEXT_H

#include "core/repo/changes.h"
#include "tools/output.h"

/* A change set for people, and for programs. */

/* Print one line a node, pending file and (`chunks`) chunk, each after `indent`. */
void firn_changes_print(const FirnChanges *changes, bool chunks, const char *indent);

/* Members "nodes", "pending" and "dropped" of the object being built. */
void firn_changes_to_json(const FirnChanges *changes, JsonBuilder *builder);

/* Member "coords": a list of `rank` numbers. */
void firn_json_coords(JsonBuilder *builder, const uint32_t *coords, uint32_t rank);

/* "inline", "native", "virtual", "deleted". */
const char *firn_ref_kind_name(FirnRefKind kind);

#endif
