#ifndef FIRN_FS_OPTIONS_H
#define FIRN_FS_OPTIONS_H

#include "core/base/error.h"

struct fuse_args;

/* What the command line asked for. */
typedef struct {
	char *repository; /* NULL: as the token or the resumed session says */
	char *mountpoint; /* absolute */
	char *branch;
	char *tag;
	char *snapshot;
	char *as_of;
	uint64_t as_of_us;
	char *name;
	char *state_dir; /* absolute */
	char *fork;      /* token file */
	char *resume;    /* session id, or its beginning */
	char *restart;   /* "on", "off"; NULL: on */
	char *io_uring;  /* "on", "off"; NULL: where nothing is lost by it */
	char *cache_size;
	size_t cache_bytes; /* 0: default */
	char *cache_dir;    /* absolute, or "off"; NULL: default */
	char *inodes;
	uint32_t max_inodes;         /* 0: default */
	GPtrArray *virtual_prefixes; /* char * */
	int read_only;
	int no_xattr;
	int no_passthrough;
	int no_prefill;
	int no_spin; /* readers.h */
	int foreground;
	int debug;
	int help;
	int version;
	int allow_other;
	int default_permissions;
	int auto_unmount;
} FirnOptions;

/*
 * Parse and check the command line.  What libfuse is to have of it is left in
 * `args`.  Errors: INVALID (usage).  Caller owns.
 */
FirnOptions *firn_options_parse(struct fuse_args *args, GError **error) FIRN_MUST_USE;
/* Whether no session is asked for. */
bool firn_options_are_read_only(const FirnOptions *options);
void firn_options_free(FirnOptions *options); /* NULL is a no-op */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FirnOptions, firn_options_free)

extern const char firn_options_usage[];

#endif
