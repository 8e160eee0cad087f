#ifndef FIRN_CORE_BASE_CRASH_H
#define FIRN_CORE_BASE_CRASH_H

/*
 * Steps after which a process can be made to die, as by SIGKILL: how tests see
 * that each of them leaves something whole.  With FIRN_CRASH_AT=NAME in its
 * environment a process dies when it comes to that step first; there is no
 * other use for it, and without it this costs a look at the environment.
 */
#define FIRN_CRASH_POINTS(X)                                                         \
	/* the command, committing */                                                \
	X(SOURCES_BEGUN, "sources-begun") /* mounts hold still, journals are read */ \
	X(SOURCES_MERGED, "sources-merged")                                          \
	X(CHUNKS_DURABLE, "chunks-durable") /* all objects are there, and synced */  \
	X(MANIFESTS_WRITTEN, "manifests-written")                                    \
	X(SNAPSHOT_WRITTEN, "snapshot-written")                                      \
	X(LOG_WRITTEN, "log-written")                                                \
	X(INTENDED, "intended")           /* every source knows the id */            \
	X(BACKED_UP, "backed-up")         /* `repo` has a second name */             \
	X(UPDATED, "updated")             /* `repo` is the new one */                \
	X(SOURCES_ENDED, "sources-ended") /* mounts moved, nothing said yet */       \
	/* an object getting its name */                                             \
	X(PUT_WRITTEN, "put-written") /* under a temporary name */                   \
	X(PUT_NAMED, "put-named")     /* its directory not synced */

typedef enum {
#define FIRN_CRASH_ENUM(name, text) FIRN_CRASH_##name,
	FIRN_CRASH_POINTS(FIRN_CRASH_ENUM)
#undef FIRN_CRASH_ENUM
} FirnCrashPoint;

/* Return, unless the environment says to die here.  Any thread. */
void firn_crash_point(FirnCrashPoint point);

#endif
