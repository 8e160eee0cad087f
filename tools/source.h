#ifndef FIRN_TOOLS_SOURCE_H
#define FIRN_TOOLS_SOURCE_H

#include "core/repo/merge.h"
#include "core/repo/session.h"
#include "core/repo/taken.h"
#include "core/store/store.h"
#include "tools/ctl_client.h"

/*
 * A SOURCE argument: a live mount, a journal file, a session whose driver is
 * gone, or the published journal of a fork.
 *
 * Reading one for a commit: begin (the mount holds still, the dead session is
 * locked), read, intent, end.  Freeing one that was begun and not ended gives
 * the commit up.
 */
typedef enum {
	FIRN_ORIGIN_MOUNT,
	FIRN_ORIGIN_FILE,
	FIRN_ORIGIN_SESSION,
	FIRN_ORIGIN_PUBLISHED,
} FirnOriginKind;

typedef struct {
	FirnOriginKind kind;
	char *name;            /* as the user wrote it */
	char *repository;      /* URL; NULL: not known before it is read */
	FirnMount *mount;      /* MOUNT */
	char *path;            /* FILE: the file, PUBLISHED: its key */
	FirnSessionInfo *info; /* SESSION */
	GPtrArray *sections;   /* FirnSection, once read */
	GPtrArray *pending;    /* char *: MOUNT, once begun: files without a place */
	GPtrArray *scratch;    /* char *: MOUNT, once begun */
	uint64_t torn;         /* once read: bytes of a torn tail that were left out */
	char *cut;             /* SESSION, begun: where they are kept; NULL: they are not */
	FirnVersion version;   /* PUBLISHED, once read: of the object */
	GPtrArray *taken;      /* FirnTaken: FILE, PUBLISHED, once begun */
	uint64_t seq;          /* up to where a begun commit goes */
	FirnCtl *ctl;          /* MOUNT, begun */
	bool begun;            /* MOUNT: it holds still until the commit ends or is given up */
	FirnSession *session;  /* SESSION, begun */
	bool alone;            /* no fork of it is among what it is committed with */
} FirnOrigin;

void firn_origin_free(FirnOrigin *origin); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnOrigin, firn_origin_free)

/*
 * What `name` means: a path in a mount, a journal file, a state directory, the
 * id of a session under `state_root` (a unique beginning is enough).  Errors:
 * NOT_FOUND (none of these; says what was tried), BUSY, FORMAT.
 */
FirnOrigin *firn_origin_resolve(const char *name, const char *state_root, GError **error)
	FIRN_MUST_USE;
/* The published journal `key`. */
FirnOrigin *firn_origin_published(const char *key, const char *repository);

/* Read the sections, changing nothing.  `repo` is needed by PUBLISHED only.  What did not survive a
 * power cut is left out, which is said. */
bool firn_origin_read(FirnOrigin *origin, FirnRepo *repo, GError **error) FIRN_MUST_USE;
/* Of one that was read: a FILE must have its end, or changes may be missing.  Errors: FORMAT. */
bool firn_origin_check_whole(const FirnOrigin *origin, GError **error) FIRN_MUST_USE;
/* The URL of the repository it belongs to (reads a FILE); borrowed.  Errors: read's, FORMAT. */
const char *firn_origin_repository(FirnOrigin *origin, GError **error) FIRN_MUST_USE;

/*
 * That repository, or `given` (NULL: none) if it is elsewhere by now.  Errors also: NOT_FOUND
 * (says how to name the place).  Caller owns.
 */
FirnRepo *firn_origin_open_repo(FirnOrigin *origin, const char *given, GError **error)
	FIRN_MUST_USE;
/* The same of `url`, which `who` (a token, a mount) names; `how` another can be given: "with --repo". */
FirnRepo *firn_source_open_repo(const char *url, const char *who, const char *how, GError **error)
	FIRN_MUST_USE;
/* Member "torn": an object for each origin (FirnOrigin *) of which something was left out. */
void firn_origins_torn_to_json(JsonBuilder *builder, GPtrArray *origins);

/* Begin a commit and read.  Errors: BUSY (files open for writing, a live session)... */
bool firn_origin_begin(FirnOrigin *origin, FirnRepo *repo, unsigned wait_ms, GError **error)
	FIRN_MUST_USE;
bool firn_origin_intent(FirnOrigin *origin, const FirnId12 *snapshot, GError **error) FIRN_MUST_USE;
/*
 * It is committed: the mount moves, the dead session's directory and published journals go.  A
 * session of which something was cut off moves, too, and is kept.
 */
bool firn_origin_end(FirnOrigin *origin, FirnRepo *repo, const FirnId12 *snapshot, GError **error)
	FIRN_MUST_USE;

#endif
