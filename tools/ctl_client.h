#ifndef FIRN_TOOLS_CTL_CLIENT_H
#define FIRN_TOOLS_CTL_CLIENT_H

#include "tools/mountpoint.h"

/* A conversation with a live mount through its `.firn/ctl` (fs/CONTROL.md).  One thread. */
typedef struct FirnCtl FirnCtl;

FirnCtl *firn_ctl_open(const FirnMount *mount, GError **error) FIRN_MUST_USE;
/* Ends the conversation; a commit that was begun on it is given up.  NULL is a no-op. */
void firn_ctl_close(FirnCtl *ctl);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnCtl, firn_ctl_close)

/*
 * Send a request and return the reply (caller owns).  `request` is consumed.
 * Errors: what the mount answered, with its code; STORE if there was no answer.
 */
JsonObject *firn_ctl_call(FirnCtl *ctl, JsonObject *request, GError **error) FIRN_MUST_USE;
/* A request with an operation and nothing else: to be added to, then called. */
JsonObject *firn_ctl_request(const char *op);

/* Member of a reply: the strings of a list (caller owns; empty if there is no such list). */
GPtrArray *firn_reply_strings(JsonObject *reply, const char *member);
const char *firn_reply_string(JsonObject *reply, const char *member); /* NULL if absent */
uint64_t firn_reply_uint(JsonObject *reply, const char *member);      /* 0 if absent */

#endif
