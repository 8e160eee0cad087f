#ifndef FIRN_CORE_STORE_LOCAL_INTERNAL_H
#define FIRN_CORE_STORE_LOCAL_INTERNAL_H

#include "core/store/store.h"

#include <sys/stat.h>

/* Shared by the files of the local backend; nobody else includes this. */
typedef struct {
	FirnStore base;
	int root;   /* descriptor of the root directory; keys are relative to it */
	char *path; /* of the root, absolute */
} FirnLocal;

static inline FirnLocal *
firn_local_of(FirnStore *store)
{
	return (FirnLocal *)store;
}

#define FIRN_LOCAL_LOCK_DIR "firn"
#define FIRN_LOCAL_LOCK     "firn/lock"

/* The error of a failed system call on `key`. */
void firn_local_fail(const FirnLocal *local, GError **error, int errnum, const char *doing,
		     const char *key);

/* The version of a file with these attributes. */
FirnVersion firn_local_version(const struct stat *st);

/* openat(2) that survives EINTR and a stale NFS handle.  Returns -1 with errno set. */
int firn_local_openat(int dir, const char *path, int flags, mode_t mode);
/* As above for a new file, making missing directories above it, durably. */
int firn_local_create(FirnLocal *local, const char *key, int flags, GError **error);

/* All bytes of `key`'s descriptor or an error; EINTR-safe.  Return 0 or an errno. */
int firn_local_write_all(int fd, const void *data, size_t len, uint64_t offset);
int firn_local_read_all(int fd, void *out, size_t len, uint64_t offset, size_t *out_len);

int firn_local_fsync(int fd); /* 0 or an errno */
/* Sync a directory / the one that holds `key`.  0 or an errno. */
int firn_local_sync_dir(FirnLocal *local, const char *dir);
int firn_local_sync_dir_of(FirnLocal *local, const char *key);
/* "a/b" for the key "a/b/c", "." for "c".  Caller owns. */
char *firn_local_dir_of(const char *key);

bool firn_local_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
		    const FirnVersion *expected, FirnVersion *out_version, GError **error);
FirnStaged *firn_local_stage(FirnStore *store, const char *key, GBytes *data, GError **error);
bool firn_local_put_staged(FirnStore *store, FirnStaged *staged, const FirnVersion *expected,
			   FirnVersion *out_version, GError **error);
void firn_local_unstage(FirnStore *store, FirnStaged *staged);
bool firn_local_put_new(FirnStore *store, const char *key, GBytes *data, GError **error);
bool firn_local_publish(FirnStore *store, const char *const *keys, size_t n_keys, GError **error);
bool firn_local_withdraw(FirnStore *store, const char *key, GError **error);
bool firn_local_sync(FirnStore *store, const char *const *keys, size_t n_keys, GError **error);
bool firn_local_copy(FirnStore *store, const char *from, const char *to,
		     const FirnVersion *expected, GError **error);
FirnStoreWriter *firn_local_writer_open(FirnStore *store, const char *key, GError **error);
FirnStoreWriter *firn_local_writer_reopen(FirnStore *store, const char *key, GError **error);

/* Hold the repository's lock; -1 with `error`, else a descriptor for firn_local_unlock(). */
int firn_local_lock(FirnLocal *local, GError **error);
void firn_local_unlock(int lock);

#endif
