#ifndef FIRN_CORE_BASE_CRASH_H
#define FIRN_CORE_BASE_CRASH_H

/*
 * Steps after which a process can be made to die, as by SIGKILL: how tests see
 * that each of them leaves something whole.  With FIRN_CRASH_AT=NAME in its
 * environment a process dies when it comes to that step first; there is no
 * other use for it.  Release builds have it, so that what is tested is what is
 * used: a chunk passes two or three steps, each a look at the environment (0.1 us).
 */
#define FIRN_CRASH_POINTS(X)                                                            \
	/* the command, committing */                                                   \
	X(SOURCES_BEGUN, "sources-begun") /* mounts hold still, journals are read */    \
	X(SOURCES_MERGED, "sources-merged")                                             \
	X(CHUNKS_DURABLE, "chunks-durable") /* all objects are there, and synced */     \
	X(MANIFESTS_WRITTEN, "manifests-written")                                       \
	X(SNAPSHOT_WRITTEN, "snapshot-written")                                         \
	X(LOG_WRITTEN, "log-written")                                                   \
	X(INTENDED, "intended")           /* every source knows the id */               \
	X(BACKED_UP, "backed-up")         /* `repo` has a second name */                \
	X(UPDATED, "updated")             /* `repo` is the new one */                   \
	X(SOURCES_ENDED, "sources-ended") /* mounts moved, nothing said yet */          \
	/* an object getting its name */                                                \
	X(PUT_WRITTEN, "put-written") /* under a temporary name */                      \
	X(PUT_NAMED, "put-named")     /* its directory not synced */                    \
	/* the driver */                                                                \
	X(STATE_MADE, "state-made")           /* a state directory without a journal */ \
	X(OBJECT_WRITTEN, "object-written")   /* a chunk's, without a record */         \
	X(RECORD_APPENDED, "record-appended") /* before anybody is told */              \
	X(OBJECTS_SYNCED, "objects-synced")   /* not said in the journal */             \
	X(DURABLE_NOTED, "durable-noted")     /* the journal not synced */              \
	X(IMAGE_WRITTEN, "image-written")     /* a commit was begun */                  \
	X(INTENT_RECORDED, "intent-recorded")                                           \
	X(NEXT_WRITTEN, "next-written")     /* the journal on the new base, beside */   \
	X(NEXT_PUBLISHED, "next-published") /* it is the journal */                     \
	X(MOVED, "moved")                   /* and all else followed */                 \
	X(FORK_PUBLISHED, "fork-published") /* the journal, state still there */

typedef enum {
#define FIRN_CRASH_ENUM(name, text) FIRN_CRASH_##name,
	FIRN_CRASH_POINTS(FIRN_CRASH_ENUM)
#undef FIRN_CRASH_ENUM
} FirnCrashPoint;

/* Return, unless the environment says to die here.  Any thread. */
void firn_crash_point(FirnCrashPoint point);

#endif
