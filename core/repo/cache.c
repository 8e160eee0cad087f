#include "core/repo/cache.h"

/* Objects, most recently used first. */
typedef struct {
	GQueue queue;
	size_t bytes;
} Row;

typedef struct {
	FirnId12 id;
	gpointer object; /* NULL while it is fetched, and if that failed */
	GError *error;
	size_t bytes;
	bool done;
	unsigned users; /* threads that hold a pointer to this entry */
	bool listed;    /* in the table */
	Row *row;       /* once done */
	GList link;     /* in it */
} Entry;

struct FirnCache {
	FirnCacheType type;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	GHashTable *entries; /* Entry by its id; under mutex, as all below */
	Row kept;
	Row scanned;
	size_t max_bytes;
};

FirnCache *
firn_cache_new(const FirnCacheType *type, size_t max_bytes)
{
	FirnCache *cache = g_new0(FirnCache, 1);

	cache->type = *type;
	cache->max_bytes = max_bytes;
	cache->entries = g_hash_table_new(firn_id12_hash, firn_id12_equal);
	pthread_mutex_init(&cache->mutex, NULL);
	pthread_cond_init(&cache->changed, NULL);
	return cache;
}

static void
entry_free(FirnCache *cache, Entry *entry)
{
	if (entry->object != NULL)
		cache->type.unref(entry->object);
	g_clear_error(&entry->error);
	g_free(entry);
}

/* Take `entry` out of the table; freed now or by its last user. */
static void
drop(FirnCache *cache, Entry *entry)
{
	g_hash_table_remove(cache->entries, &entry->id);
	entry->listed = false;
	if (entry->object != NULL) {
		g_queue_unlink(&entry->row->queue, &entry->link);
		entry->row->bytes -= entry->bytes;
	}
	if (entry->users == 0)
		entry_free(cache, entry);
}

/* The newest always stays, or an object over the bound would be fetched for each use. */
static void
shrink_row(FirnCache *cache, Row *row, size_t max_bytes)
{
	while (row->bytes > max_bytes && row->queue.length > 1)
		drop(cache, row->queue.tail->data);
}

static void
shrink(FirnCache *cache)
{
	shrink_row(cache, &cache->scanned, cache->max_bytes / 8);
	shrink_row(cache, &cache->kept,
		   cache->max_bytes - MIN(cache->scanned.bytes, cache->max_bytes));
}

/* Put an entry in front of its row, or into another one. */
static void
place(Entry *entry, Row *row)
{
	if (entry->row != NULL) {
		g_queue_unlink(&entry->row->queue, &entry->link);
		entry->row->bytes -= entry->bytes;
	}
	entry->row = row;
	g_queue_push_head_link(&row->queue, &entry->link);
	row->bytes += entry->bytes;
}

void
firn_cache_free(FirnCache *cache)
{
	if (cache == NULL)
		return;
	while (cache->scanned.queue.length > 0)
		drop(cache, cache->scanned.queue.tail->data);
	while (cache->kept.queue.length > 0)
		drop(cache, cache->kept.queue.tail->data);
	g_assert(g_hash_table_size(cache->entries) == 0);
	g_hash_table_unref(cache->entries);
	pthread_cond_destroy(&cache->changed);
	pthread_mutex_destroy(&cache->mutex);
	g_free(cache);
}

void
firn_cache_set_max_bytes(FirnCache *cache, size_t max_bytes)
{
	FIRN_LOCK_SCOPE(&cache->mutex);

	cache->max_bytes = max_bytes;
	shrink(cache);
}

/* Fetch for everybody; called and returns with the mutex held. */
static void
fill(FirnCache *cache, Entry *entry, FirnCacheUse use, void *data)
{
	GError *error = NULL;
	size_t bytes = 0;
	gpointer object;

	pthread_mutex_unlock(&cache->mutex);
	object = cache->type.fetch(&entry->id, data, &bytes, &error);
	pthread_mutex_lock(&cache->mutex);
	entry->done = true;
	entry->object = object;
	entry->error = error;
	entry->bytes = bytes;
	if (object != NULL) {
		place(entry, use == FIRN_CACHE_SCAN ? &cache->scanned : &cache->kept);
		shrink(cache);
	} else {
		drop(cache, entry);
	}
	pthread_cond_broadcast(&cache->changed);
}

gpointer
firn_cache_get(FirnCache *cache, const FirnId12 *id, FirnCacheUse use, void *data, GError **error)
{
	FIRN_LOCK_SCOPE(&cache->mutex);
	Entry *entry = g_hash_table_lookup(cache->entries, id);
	gpointer object = NULL;

	if (entry != NULL) {
		entry->users++;
		while (!entry->done)
			pthread_cond_wait(&cache->changed, &cache->mutex);
	} else {
		entry = g_new0(Entry, 1);
		entry->id = *id;
		entry->link.data = entry;
		entry->users = 1;
		entry->listed = true;
		g_hash_table_insert(cache->entries, &entry->id, entry);
		fill(cache, entry, use, data);
	}
	if (entry->object != NULL) {
		object = cache->type.ref(entry->object);
		/* Who looks through many does not make one of them wanted. */
		if (entry->listed && use == FIRN_CACHE_KEEP) {
			place(entry, &cache->kept);
			shrink(cache);
		}
	} else {
		g_propagate_error(error, g_error_copy(entry->error));
	}
	if (--entry->users == 0 && !entry->listed)
		entry_free(cache, entry);
	return object;
}
