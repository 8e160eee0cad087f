#include "core/store/fault.h"

#include "core/base/error.h"

typedef struct {
	FirnStore base;
	FirnStore *inner;
	pthread_mutex_t mutex;
	uint64_t calls; /* under mutex */
	uint64_t first; /* under mutex: number of the first call that fails */
	uint64_t count; /* under mutex: how many fail */
	int errnum;     /* under mutex */
} FaultStore;

typedef struct {
	FirnStoreWriter base;
	FaultStore *store;
	FirnStoreWriter *inner;
	char *key;
} FaultWriter;

/* Count a call; true if it may go through. */
static bool
pass(FaultStore *fault, const char *doing, const char *key, GError **error)
{
	int errnum = 0;

	pthread_mutex_lock(&fault->mutex);
	if (fault->calls >= fault->first && fault->calls - fault->first < fault->count)
		errnum = fault->errnum;
	fault->calls++;
	pthread_mutex_unlock(&fault->mutex);
	if (errnum == 0)
		return true;
	firn_error_set_errno(error, errnum, "%s: %s fails as told", key, doing);
	return false;
}

static FaultStore *
fault_of(FirnStore *store)
{
	return (FaultStore *)store;
}

static bool
fault_get(FirnStore *store, const char *key, uint64_t offset, uint64_t len, GBytes **out_data,
	  FirnVersion *out_version, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "get", key, error) &&
	       firn_store_get(fault->inner, key, offset, len, out_data, out_version, error);
}

static bool
fault_put(FirnStore *store, const char *key, GBytes *data, FirnPutMode mode,
	  const FirnVersion *expected, FirnVersion *out_version, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "put", key, error) &&
	       firn_store_put(fault->inner, key, data, mode, expected, out_version, error);
}

static FirnStaged *
fault_stage(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	FaultStore *fault = fault_of(store);

	if (!pass(fault, "stage", key, error))
		return NULL;
	return firn_store_stage(fault->inner, key, data, error);
}

static bool
fault_put_staged(FirnStore *store, FirnStaged *staged, const FirnVersion *expected,
		 FirnVersion *out_version, GError **error)
{
	FaultStore *fault = fault_of(store);

	if (pass(fault, "put", "what was staged", error))
		return firn_store_put_staged(fault->inner, staged, expected, out_version, error);
	firn_store_unstage(fault->inner, staged);
	return false;
}

static void
fault_unstage(FirnStore *store, FirnStaged *staged)
{
	firn_store_unstage(fault_of(store)->inner, staged);
}

static bool
fault_put_new(FirnStore *store, const char *key, GBytes *data, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "put", key, error) && firn_store_put_new(fault->inner, key, data, error);
}

static bool
fault_publish(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "publish", n_keys > 0 ? keys[0] : "", error) &&
	       firn_store_publish(fault->inner, keys, n_keys, error);
}

static bool
fault_withdraw(FirnStore *store, const char *key, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "remove", key, error) && firn_store_withdraw(fault->inner, key, error);
}

static bool
fault_copy(FirnStore *store, const char *from, const char *to, const FirnVersion *expected,
	   GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "copy", to, error) &&
	       firn_store_copy(fault->inner, from, to, expected, error);
}

static bool
fault_remove(FirnStore *store, const char *key, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "remove", key, error) && firn_store_remove(fault->inner, key, error);
}

static bool
fault_stat(FirnStore *store, const char *key, bool *out_exists, uint64_t *out_size,
	   int64_t *out_mtime_us, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "stat", key, error) &&
	       firn_store_stat(fault->inner, key, out_exists, out_size, out_mtime_us, error);
}

static bool
fault_list(FirnStore *store, const char *prefix, FirnStoreListFn fn, void *data, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "list", prefix, error) &&
	       firn_store_list(fault->inner, prefix, fn, data, error);
}

static bool
fault_list_temporaries(FirnStore *store, FirnStoreListFn fn, void *data, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "list", "", error) &&
	       firn_store_list_temporaries(fault->inner, fn, data, error);
}

static bool
fault_free_range(FirnStore *store, const char *key, uint64_t offset, uint64_t len, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "free", key, error) &&
	       firn_store_free_range(fault->inner, key, offset, len, error);
}

static bool
fault_sync(FirnStore *store, const char *const *keys, size_t n_keys, GError **error)
{
	FaultStore *fault = fault_of(store);

	return pass(fault, "sync", n_keys > 0 ? keys[0] : "", error) &&
	       firn_store_sync(fault->inner, keys, n_keys, error);
}

static int
fault_open_fd(FirnStore *store, const char *key, GError **error)
{
	FaultStore *fault = fault_of(store);

	if (!pass(fault, "open", key, error))
		return -1;
	return firn_store_open_fd(fault->inner, key, error);
}

static void
writer_release(FaultWriter *writer)
{
	g_free(writer->key);
	g_free(writer);
}

static bool
writer_write(FirnStoreWriter *base, uint64_t offset, const void *data, size_t len, GError **error)
{
	FaultWriter *writer = (FaultWriter *)base;

	return pass(writer->store, "write", writer->key, error) &&
	       firn_store_writer_write(writer->inner, offset, data, len, error);
}

static bool
writer_read(FirnStoreWriter *base, uint64_t offset, void *out, size_t len, size_t *out_len,
	    GError **error)
{
	FaultWriter *writer = (FaultWriter *)base;

	return pass(writer->store, "read", writer->key, error) &&
	       firn_store_writer_read(writer->inner, offset, out, len, out_len, error);
}

static bool
writer_truncate(FirnStoreWriter *base, uint64_t size, GError **error)
{
	FaultWriter *writer = (FaultWriter *)base;

	return pass(writer->store, "truncate", writer->key, error) &&
	       firn_store_writer_truncate(writer->inner, size, error);
}

static bool
writer_flush(FirnStoreWriter *base, GError **error)
{
	FaultWriter *writer = (FaultWriter *)base;

	return pass(writer->store, "flush", writer->key, error) &&
	       firn_store_writer_flush(writer->inner, error);
}

static bool
writer_finish(FirnStoreWriter *base, bool durable, GError **error)
{
	FaultWriter *writer = (FaultWriter *)base;

	if (!pass(writer->store, "finish", writer->key, error) ||
	    !firn_store_writer_finish(writer->inner, durable, error))
		return false;
	writer_release(writer);
	return true;
}

static void
writer_leave(FirnStoreWriter *base)
{
	FaultWriter *writer = (FaultWriter *)base;

	firn_store_writer_leave(writer->inner);
	writer_release(writer);
}

static void
writer_abort(FirnStoreWriter *base)
{
	FaultWriter *writer = (FaultWriter *)base;

	firn_store_writer_abort(writer->inner);
	writer_release(writer);
}

static const FirnStoreWriterOps writer_ops = {
	.write = writer_write,
	.read = writer_read,
	.truncate = writer_truncate,
	.flush = writer_flush,
	.finish = writer_finish,
	.leave = writer_leave,
	.abort = writer_abort,
};

static FirnStoreWriter *
writer_new(FaultStore *fault, const char *key, FirnStoreWriter *inner)
{
	FaultWriter *writer;

	if (inner == NULL)
		return NULL;
	writer = g_new0(FaultWriter, 1);
	writer->base.ops = &writer_ops;
	writer->store = fault;
	writer->inner = inner;
	writer->key = g_strdup(key);
	return &writer->base;
}

static FirnStoreWriter *
fault_writer_open(FirnStore *store, const char *key, GError **error)
{
	FaultStore *fault = fault_of(store);

	if (!pass(fault, "create", key, error))
		return NULL;
	return writer_new(fault, key, firn_store_writer_open(fault->inner, key, error));
}

static FirnStoreWriter *
fault_writer_reopen(FirnStore *store, const char *key, GError **error)
{
	FaultStore *fault = fault_of(store);

	if (!pass(fault, "reopen", key, error))
		return NULL;
	return writer_new(fault, key, firn_store_writer_reopen(fault->inner, key, error));
}

static void
fault_free(FirnStore *store)
{
	FaultStore *fault = fault_of(store);

	firn_store_free(fault->inner);
	pthread_mutex_destroy(&fault->mutex);
	g_free(fault->base.url);
	g_free(fault);
}

static const FirnStoreOps fault_ops = {
	.name = "fault",
	.get = fault_get,
	.put = fault_put,
	.stage = fault_stage,
	.put_staged = fault_put_staged,
	.unstage = fault_unstage,
	.put_new = fault_put_new,
	.publish = fault_publish,
	.withdraw = fault_withdraw,
	.copy = fault_copy,
	.remove = fault_remove,
	.stat = fault_stat,
	.list = fault_list,
	.list_temporaries = fault_list_temporaries,
	.free_range = fault_free_range,
	.sync = fault_sync,
	.open_fd = fault_open_fd,
	.writer_open = fault_writer_open,
	.writer_reopen = fault_writer_reopen,
	.free = fault_free,
};

FirnStore *
firn_fault_new(FirnStore *inner)
{
	FaultStore *fault = g_new0(FaultStore, 1);

	fault->base.ops = &fault_ops;
	fault->base.url = g_strdup(firn_store_url(inner));
	fault->inner = inner;
	pthread_mutex_init(&fault->mutex, NULL);
	return &fault->base;
}

uint64_t
firn_fault_calls(FirnStore *store)
{
	FaultStore *fault = fault_of(store);
	FIRN_LOCK_SCOPE(&fault->mutex);

	return fault->calls;
}

void
firn_fault_arm(FirnStore *store, uint64_t at, uint64_t count, int errnum)
{
	FaultStore *fault = fault_of(store);
	FIRN_LOCK_SCOPE(&fault->mutex);

	fault->first = fault->calls + at;
	fault->count = count;
	fault->errnum = errnum;
}
