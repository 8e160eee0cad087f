#include "core/view/internal.h"

#include "core/base/crash.h"

#include <errno.h>
#include <string.h>

/* Bytes being written to a leaf, until they are complete. */

/* Spooled in memory up to here, then straight into a new chunk object. */
#define SPOOL_MEMORY_MAX ((size_t)256 * 1024)

struct FirnSpool {
	uint64_t size;
	GByteArray *memory; /* NULL once there is a writer */
	FirnStoreWriter *writer;
	FirnId12 id; /* of the object `writer` makes */
	FirnKeep *keep;
	uint64_t slot; /* of the keep: a copy of `memory`; with `keep` only */
};

void
firn_leaf_drop_spool(FirnLeaf *leaf)
{
	FirnSpool *spool = leaf->spool;

	if (spool == NULL)
		return;
	leaf->spool = NULL;
	leaf->dirty = false;
	firn_keep_spool(leaf);
	if (spool->keep != NULL && leaf->inode.view->keep != NULL)
		firn_keep_slot_release(spool->keep, spool->slot);
	if (spool->memory != NULL)
		g_byte_array_unref(spool->memory);
	firn_store_writer_abort(spool->writer);
	g_free(spool);
}

/* Move a spool that outgrew memory into a chunk object. */
static int
spool_to_store(FirnView *view, FirnSpool *spool)
{
	g_autofree char *key = NULL;
	GError *error = NULL;

	spool->id = firn_id12_random();
	key = firn_content_key(&spool->id);
	spool->writer = firn_store_writer_open(firn_repo_store(view->repo), key, &error);
	if (spool->writer == NULL)
		return firn_view_fail(view, key, error);
	if (spool->memory->len > 0 &&
	    !firn_store_writer_write(spool->writer, 0, spool->memory->data, spool->memory->len,
				     &error)) {
		firn_store_writer_abort(spool->writer);
		spool->writer = NULL;
		return firn_view_fail(view, key, error);
	}
	g_byte_array_unref(spool->memory);
	spool->memory = NULL;
	return 0;
}

static void
copy_to_slot(const FirnSpool *spool, guint from, guint end)
{
	if (spool->keep != NULL && end > from)
		firn_keep_slot_write(spool->keep, spool->slot, spool->memory->data + from,
				     end - from, from);
}

static int
spool_write(FirnView *view, FirnSpool *spool, const void *data, size_t size, uint64_t offset)
{
	GError *error = NULL;
	uint64_t end = offset + size;
	int failed;

	if (spool->writer == NULL && end > SPOOL_MEMORY_MAX) {
		failed = spool_to_store(view, spool);
		if (failed != 0)
			return failed;
	}
	if (spool->writer != NULL) {
		if (!firn_store_writer_write(spool->writer, offset, data, size, &error))
			return firn_view_fail(view, NULL, error);
	} else {
		guint old = spool->memory->len;

		if (end > old) {
			g_byte_array_set_size(spool->memory, (guint)end);
			if (offset > old)
				memset(spool->memory->data + old, 0, (size_t)(offset - old));
		}
		memcpy(spool->memory->data + offset, data, size);
		copy_to_slot(spool, (guint)MIN(offset, old), (guint)end);
	}
	spool->size = MAX(spool->size, end);
	return 0;
}

static int
spool_truncate(FirnView *view, FirnSpool *spool, uint64_t size)
{
	GError *error = NULL;
	int failed;

	if (spool->writer == NULL && size > SPOOL_MEMORY_MAX) {
		failed = spool_to_store(view, spool);
		if (failed != 0)
			return failed;
	}
	if (spool->writer != NULL) {
		if (!firn_store_writer_truncate(spool->writer, size, &error))
			return firn_view_fail(view, NULL, error);
	} else {
		guint old = spool->memory->len;

		g_byte_array_set_size(spool->memory, (guint)size);
		if (size > old) {
			memset(spool->memory->data + old, 0, (size_t)(size - old));
			copy_to_slot(spool, old, (guint)size);
		}
	}
	spool->size = size;
	return 0;
}

/* Copy on write: the first `keep` bytes of what is there. */
static int
spool_begin(FirnView *view, FirnLeaf *leaf, uint64_t keep)
{
	const size_t step = (size_t)1024 * 1024;
	FirnSpool *spool;
	g_autofree char *buffer = NULL;
	int failed = 0;

	if (leaf->spool != NULL)
		return 0;
	spool = g_new0(FirnSpool, 1);
	spool->memory = g_byte_array_new();
	spool->keep = view->keep;
	if (spool->keep != NULL)
		spool->slot = firn_keep_slot_take(spool->keep);
	if (leaf->content != NULL)
		keep = MIN(keep, leaf->content->length);
	else
		keep = 0;
	if (keep > 0)
		buffer = g_malloc(MIN(step, keep));
	for (uint64_t at = 0; at < keep && failed == 0;) {
		size_t got = 0;

		failed = firn_content_read(leaf->content, NULL, buffer,
					   (size_t)MIN(step, keep - at), at, &got);
		if (failed == 0)
			failed = spool_write(view, spool, buffer, got, at);
		at += got;
	}
	leaf->spool = spool;
	if (failed != 0)
		firn_leaf_drop_spool(leaf);
	return failed;
}

int
firn_leaf_read(FirnView *view, FirnLeaf *leaf, FirnFile *file, void *buffer, size_t size,
	       uint64_t offset, size_t *out_size)
{
	FirnSpool *spool = leaf->spool;
	GError *error = NULL;

	*out_size = 0;
	if (leaf->lost)
		return EIO;
	if (spool == NULL)
		return firn_content_read(leaf->content, file, buffer, size, offset, out_size);
	if (offset >= spool->size)
		return 0;
	size = (size_t)MIN((uint64_t)size, spool->size - offset);
	if (spool->writer == NULL) {
		memcpy(buffer, spool->memory->data + offset, size);
		*out_size = size;
		return 0;
	}
	if (!firn_store_writer_read(spool->writer, offset, buffer, size, out_size, &error))
		return firn_view_fail(view, leaf->inode.name, error);
	return 0;
}

static void
leaf_modified(FirnLeaf *leaf)
{
	leaf->dirty = true;
	leaf->size = leaf->spool->size;
	firn_inode_touch(&leaf->inode);
	firn_keep_spool(leaf);
}

/* Some of what failed may be in the copy, which nobody has made use of yet. */
static int
not_modified(FirnLeaf *leaf, int failed)
{
	if (!leaf->dirty)
		firn_leaf_drop_spool(leaf);
	return failed;
}

/* A writer whose document was refused in between goes on with what it had. */
static void
take_up_refused(FirnLeaf *leaf)
{
	FirnContent *refused;

	if (leaf->refused == NULL)
		return;
	firn_leaf_drop_spool(leaf);
	refused = leaf->refused;
	leaf->refused = NULL;
	firn_leaf_set_content(leaf, refused);
}

int
firn_leaf_write(FirnView *view, FirnLeaf *leaf, const void *data, size_t size, uint64_t offset)
{
	int failed;

	if (offset > (uint64_t)INT64_MAX - size)
		return EFBIG;
	take_up_refused(leaf);
	if (leaf->lost)
		return EIO;
	failed = spool_begin(view, leaf, UINT64_MAX);
	if (failed == 0)
		failed = spool_write(view, leaf->spool, data, size, offset);
	if (failed != 0)
		return not_modified(leaf, failed);
	leaf->touched = true;
	leaf_modified(leaf);
	return 0;
}

int
firn_leaf_truncate(FirnView *view, FirnLeaf *leaf, uint64_t size)
{
	int failed;

	if (size > INT64_MAX)
		return EFBIG;
	take_up_refused(leaf);
	if (leaf->lost && size > 0)
		return EIO;
	leaf->lost = false;
	if (leaf->spool == NULL && size == (leaf->content != NULL ? leaf->content->length : 0))
		return 0;
	failed = spool_begin(view, leaf, size);
	if (failed == 0)
		failed = spool_truncate(view, leaf->spool, size);
	if (failed != 0)
		return not_modified(leaf, failed);
	if (size > 0)
		leaf->touched = true;
	leaf_modified(leaf);
	return 0;
}

bool
firn_leaf_is_in_memory(const FirnLeaf *leaf)
{
	return leaf->spool != NULL && leaf->spool->writer == NULL;
}

/* A document, or few enough bytes, stays in memory; everything else is an object. */
int
firn_leaf_complete(FirnView *view, FirnLeaf *leaf, FirnLeafKind kind)
{
	FirnSpool *spool = leaf->spool;
	FirnContent *content = NULL;
	GError *error = NULL;
	int failed;

	if (spool == NULL || !leaf->dirty)
		return 0;
	if (spool->writer != NULL && spool->size > 0) {
		if (!firn_store_writer_finish(spool->writer, false, &error))
			return firn_view_fail(view, leaf->inode.name, error);
		content = firn_content_new_native(view, &(FirnPart){ .id = spool->id,
								     .length = spool->size });
		/* The object never changes again: the next write copies. */
		spool->writer = NULL;
	} else if (spool->writer == NULL && spool->size > 0 &&
		   (spool->size <= view->inline_threshold || kind == FIRN_LEAF_DOC ||
		    kind == FIRN_LEAF_SCRATCH)) {
		g_autoptr(GBytes) bytes = g_bytes_new(spool->memory->data, spool->memory->len);

		content = firn_content_from_bytes(view, bytes);
	} else if (spool->size > 0) {
		failed =
			firn_content_store(view, spool->memory->data, spool->memory->len, &content);
		if (failed != 0)
			return failed;
	}
	if (content != NULL && content->kind == FIRN_CONTENT_NATIVE)
		firn_crash_point(FIRN_CRASH_OBJECT_WRITTEN);
	leaf->dirty = false;
	leaf->unpublished = true;
	if (leaf->previous == NULL && leaf->content != NULL && leaf->content->published)
		leaf->previous = firn_content_ref(leaf->content);
	firn_leaf_set_content(leaf, content);
	firn_leaf_drop_spool(leaf);
	return 0;
}

/* ---- what a successor takes up ---- */

enum {
	NO_SPOOL,
	IN_MEMORY,
	IN_OBJECT,
};

void
firn_spool_keep(const FirnSpool *spool, GByteArray *out)
{
	if (spool == NULL || (spool->memory == NULL && spool->writer == NULL)) {
		firn_keep_add(out, NO_SPOOL);
		return;
	}
	firn_keep_add(out, spool->writer != NULL ? IN_OBJECT : IN_MEMORY);
	firn_keep_add(out, spool->size);
	firn_keep_add(out, spool->slot);
	firn_keep_add_bytes(out, &spool->id, sizeof spool->id);
}

bool
firn_spool_restore(FirnView *view, FirnKeepReader *reader, FirnSpool **out_spool)
{
	uint64_t where = firn_keep_take(reader);
	FirnSpool *spool;
	bool ok;

	*out_spool = NULL;
	if (where == NO_SPOOL)
		return true;
	spool = g_new0(FirnSpool, 1);
	spool->size = firn_keep_take(reader);
	spool->keep = view->keep;
	spool->slot = firn_keep_take(reader);
	firn_keep_take_fixed(reader, &spool->id, sizeof spool->id);
	if (where == IN_OBJECT) {
		g_autofree char *key = firn_content_key(&spool->id);
		GError *error = NULL;

		spool->writer = firn_store_writer_reopen(firn_repo_store(view->repo), key, &error);
		ok = spool->writer != NULL;
		if (!ok)
			(void)firn_view_fail(view, key, error);
	} else {
		spool->memory = g_byte_array_new();
		ok = spool->size <= SPOOL_MEMORY_MAX;
		g_byte_array_set_size(spool->memory, ok ? (guint)spool->size : 0);
		ok = ok && firn_keep_slot_read(view->keep, spool->slot, spool->memory->data,
					       spool->memory->len);
	}
	firn_keep_slot_claim(view->keep, spool->slot);
	if (ok && !reader->bad) {
		*out_spool = spool;
		return true;
	}
	if (spool->memory != NULL)
		g_byte_array_unref(spool->memory);
	firn_store_writer_abort(spool->writer);
	g_free(spool);
	return false;
}
