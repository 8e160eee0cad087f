#include "core/base/error.h"
#include "core/store/foreign.h"
#include "core/view/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

char *
firn_content_key(const FirnId12 *id)
{
	char text[FIRN_ID12_TEXT + 1];

	firn_id12_format(id, text);
	return g_strconcat("chunks/", text, NULL);
}

/* ---- complete bytes ---- */

FirnContent *
firn_content_new(FirnView *view, FirnContentKind kind, uint64_t length)
{
	FirnContent *content = g_new0(FirnContent, 1);

	content->refs = 1;
	content->view = view;
	content->kind = kind;
	content->length = length;
	return content;
}

FirnContent *
firn_content_from_bytes(FirnView *view, GBytes *bytes)
{
	FirnContent *content = firn_content_new(view, FIRN_CONTENT_BYTES, g_bytes_get_size(bytes));

	content->bytes = g_bytes_ref(bytes);
	return content;
}

FirnContent *
firn_content_from_ref(FirnView *view, const FirnRef *ref, FirnManifest *manifest, GError **error)
{
	FirnContent *content;
	char *location;

	switch (ref->kind) {
	case FIRN_REF_INLINE:
		content = firn_content_new(view, FIRN_CONTENT_BYTES, ref->bytes.len);
		content->bytes = g_bytes_new(ref->bytes.data, ref->bytes.len);
		break;
	case FIRN_REF_NATIVE:
		content = firn_content_new(view, FIRN_CONTENT_NATIVE, ref->length);
		content->id = ref->id;
		content->offset = ref->offset;
		break;
	case FIRN_REF_VIRTUAL:
		location = manifest != NULL
				   ? firn_manifest_location(manifest, ref, error)
				   : g_strndup((const char *)ref->location.data, ref->location.len);
		if (location == NULL)
			return NULL;
		content = firn_content_new(view, FIRN_CONTENT_VIRTUAL, ref->length);
		content->location = location;
		content->offset = ref->offset;
		content->last_modified = ref->last_modified;
		if (ref->etag.len > 0)
			content->etag = g_strndup((const char *)ref->etag.data, ref->etag.len);
		break;
	case FIRN_REF_NONE:
	default:
		g_assert_not_reached();
	}
	content->published = true;
	return content;
}

FirnContent *
firn_content_from_change(FirnView *view, const FirnChunkChange *change)
{
	FirnRef ref;

	firn_chunk_change_get(change, &ref);
	return firn_content_from_ref(view, &ref, NULL, NULL);
}

FirnContent *
firn_content_ref(FirnContent *content)
{
	__atomic_add_fetch(&content->refs, 1, __ATOMIC_RELAXED);
	return content;
}

void
firn_content_unref(FirnContent *content)
{
	FirnView *view;

	if (content == NULL || __atomic_sub_fetch(&content->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	view = content->view;
	/* Who let go of it may not have been the last: another name may have been recorded since. */
	if (content->disposable && !content->published && content->kind == FIRN_CONTENT_NATIVE) {
		pthread_mutex_lock(&view->side_lock);
		g_array_append_val(view->garbage, content->id);
		pthread_mutex_unlock(&view->side_lock);
	}
	if (content->bytes != NULL)
		g_bytes_unref(content->bytes);
	g_free(content->location);
	g_free(content->etag);
	g_free(content);
}

void
firn_content_to_ref(const FirnContent *content, FirnRef *out_ref)
{
	*out_ref = (FirnRef){ .length = content->length, .offset = content->offset };
	switch (content->kind) {
	case FIRN_CONTENT_BYTES:
		out_ref->kind = FIRN_REF_INLINE;
		out_ref->bytes.data = g_bytes_get_data(content->bytes, &out_ref->bytes.len);
		break;
	case FIRN_CONTENT_NATIVE:
		out_ref->kind = FIRN_REF_NATIVE;
		out_ref->id = content->id;
		break;
	case FIRN_CONTENT_VIRTUAL:
		out_ref->kind = FIRN_REF_VIRTUAL;
		out_ref->location.data = (const uint8_t *)content->location;
		out_ref->location.len = strlen(content->location);
		if (content->etag != NULL) {
			out_ref->etag.data = (const uint8_t *)content->etag;
			out_ref->etag.len = strlen(content->etag);
		}
		out_ref->last_modified = content->last_modified;
		break;
	}
}

static int
read_fd(int fd, void *buffer, size_t size, uint64_t offset, size_t *out_size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*out_size = done;
	return 0;
}

static int
read_native(FirnContent *content, FirnFile *file, void *buffer, size_t size, uint64_t offset,
	    size_t *out_size)
{
	FirnView *view = content->view;
	g_autofree char *key = firn_content_key(&content->id);
	g_autoptr(GBytes) data = NULL;
	GError *error = NULL;
	int fd = -1;
	int failed;
	gsize len;

	if (file != NULL) {
		pthread_mutex_lock(&file->lock);
		if (file->fd >= 0 && firn_id12_compare(&file->fd_id, &content->id) != 0) {
			close(file->fd);
			file->fd = -1;
		}
		if (file->fd < 0) {
			file->fd = firn_store_open_fd(firn_repo_store(view->repo), key, &error);
			file->fd_id = content->id;
		}
		fd = file->fd;
		pthread_mutex_unlock(&file->lock);
		if (error != NULL)
			return firn_view_fail(view, key, error), EIO;
	}
	if (fd >= 0) {
		failed = read_fd(fd, buffer, size, content->offset + offset, out_size);
		if (failed != 0)
			firn_view_note(view, key, "cannot read the object: %s", g_strerror(failed));
		return failed != 0 ? EIO : 0;
	}
	if (!firn_store_get(firn_repo_store(view->repo), key, content->offset + offset, size, &data,
			    NULL, &error))
		return firn_view_fail(view, key, error), EIO;
	if (data == NULL) {
		firn_view_note(view, key, "the object of a chunk is missing from the repository");
		return EIO;
	}
	memcpy(buffer, g_bytes_get_data(data, &len), MIN(g_bytes_get_size(data), size));
	*out_size = MIN(g_bytes_get_size(data), size);
	return 0;
}

static int
read_virtual(FirnContent *content, void *buffer, size_t size, uint64_t offset, size_t *out_size)
{
	FirnView *view = content->view;
	const GPtrArray *prefixes = view->virtual_prefixes;
	g_autofree char *url = NULL;
	g_autofree char *shown = NULL;
	GError *error = NULL;
	struct stat st;
	int failed;
	int fd;

	url = firn_config_resolve_location(view->session->config, content->location, &error);
	shown = firn_foreign_redact(url != NULL ? url : content->location);
	if (url == NULL)
		return firn_view_fail(view, shown, error), EIO;
	fd = firn_foreign_open(url, (char *const *)prefixes->pdata, prefixes->len, &st, &error);
	if (g_error_matches(error, FIRN_ERROR, FIRN_ERROR_DENIED))
		firn_view_note(view, shown, "%s; mount with -o virtual=URL_PREFIX (file:// only)",
			       error->message);
	else if (fd < 0)
		firn_view_note(view, shown, "%s", error->message);
	g_clear_error(&error);
	if (fd < 0)
		return EIO;
	if (content->last_modified != 0 && st.st_mtime > (time_t)content->last_modified) {
		firn_view_note(view, shown, "the file changed since the chunk was recorded");
		failed = EIO;
	} else {
		failed = read_fd(fd, buffer, size, content->offset + offset, out_size);
		if (failed != 0)
			firn_view_note(view, shown, "cannot read: %s", g_strerror(failed));
		failed = failed != 0 ? EIO : 0;
	}
	close(fd);
	return failed;
}

int
firn_content_read(FirnContent *content, FirnFile *file, void *buffer, size_t size, uint64_t offset,
		  size_t *out_size)
{
	int failed = 0;
	size_t got = 0;

	*out_size = 0;
	if (content == NULL || offset >= content->length)
		return 0;
	size = (size_t)MIN((uint64_t)size, content->length - offset);
	switch (content->kind) {
	case FIRN_CONTENT_BYTES:
		memcpy(buffer, (const char *)g_bytes_get_data(content->bytes, NULL) + offset, size);
		*out_size = size;
		return 0;
	case FIRN_CONTENT_NATIVE:
		failed = read_native(content, file, buffer, size, offset, &got);
		break;
	case FIRN_CONTENT_VIRTUAL:
		failed = read_virtual(content, buffer, size, offset, &got);
		break;
	}
	if (failed == 0 && got < size) {
		g_autofree char *object = content->kind == FIRN_CONTENT_NATIVE
						  ? firn_content_key(&content->id)
						  : firn_foreign_redact(content->location);

		/* A short read would be taken for the end of the file. */
		firn_view_note(content->view, object,
			       "a chunk's object is shorter than its recorded length");
		failed = EIO;
	}
	*out_size = got;
	return failed;
}

int
firn_content_put_object(FirnView *view, GByteArray *memory, FirnId12 *out_id)
{
	g_autofree char *key = NULL;
	FirnStoreWriter *writer;
	GError *error = NULL;

	*out_id = firn_id12_random();
	key = firn_content_key(out_id);
	writer = firn_store_writer_open(firn_repo_store(view->repo), key, &error);
	if (writer == NULL)
		return firn_view_fail(view, key, error);
	if (!firn_store_writer_write(writer, 0, memory->data, memory->len, &error) ||
	    !firn_store_writer_finish(writer, false, &error)) {
		firn_store_writer_abort(writer);
		return firn_view_fail(view, key, error);
	}
	return 0;
}

void
firn_leaf_set_content(FirnLeaf *leaf, FirnContent *content)
{
	FirnContent *old = leaf->content;

	if (old != NULL && !old->published)
		old->disposable = true;
	leaf->content = content;
	/* Before the old one's object can go. */
	firn_keep_content(leaf);
	firn_content_unref(old);
}

/* Bytes held in memory that are too many to be inline become an object. */
int
firn_content_settle(FirnView *view, FirnContent **content)
{
	FirnContent *old = *content;
	GByteArray *memory;
	FirnId12 id;
	int failed;

	if (old == NULL || old->kind != FIRN_CONTENT_BYTES || old->length <= view->inline_threshold)
		return 0;
	memory = g_bytes_unref_to_array(g_bytes_ref(old->bytes));
	failed = firn_content_put_object(view, memory, &id);
	g_byte_array_unref(memory);
	if (failed != 0)
		return failed;
	*content = firn_content_new(view, FIRN_CONTENT_NATIVE, old->length);
	(*content)->id = id;
	firn_content_unref(old);
	return 0;
}

FirnContent *
firn_content_restore(FirnView *view, FirnKeepReader *reader)
{
	uint64_t kind = firn_keep_take(reader);
	FirnContent *content;
	FirnSpan bytes;

	if (kind == FIRN_KEPT_NO_CONTENT || kind > FIRN_CONTENT_VIRTUAL)
		return NULL;
	content = firn_content_new(view, (FirnContentKind)kind, firn_keep_take(reader));
	content->published = firn_keep_take(reader) != 0;
	if (kind == FIRN_CONTENT_BYTES) {
		bytes = firn_keep_take_bytes(reader);
		content->bytes = g_bytes_new(bytes.data, bytes.len);
		content->length = bytes.len;
	} else if (kind == FIRN_CONTENT_NATIVE) {
		firn_keep_take_fixed(reader, &content->id, sizeof content->id);
		content->offset = firn_keep_take(reader);
	} else {
		bool has_etag;

		content->location = firn_keep_take_text(reader);
		content->offset = firn_keep_take(reader);
		has_etag = firn_keep_take(reader) != 0;
		content->etag = firn_keep_take_text(reader);
		if (!has_etag)
			g_clear_pointer(&content->etag, g_free);
		content->last_modified = (uint32_t)firn_keep_take(reader);
	}
	return content;
}

void
firn_view_remove_objects(FirnView *view, const GArray *ids)
{
	for (guint i = 0; i < ids->len; i++) {
		g_autofree char *key = firn_content_key(&g_array_index(ids, FirnId12, i));
		GError *error = NULL;

		/* What cannot be removed is unreferenced and left to a collection. */
		if (!firn_store_remove(firn_repo_store(view->repo), key, &error))
			g_error_free(error);
	}
}

void
firn_view_sweep(FirnView *view)
{
	g_autoptr(GArray) garbage = NULL;
	bool any;

	pthread_mutex_lock(&view->side_lock);
	/* While records are not durable, those they replace may be needed again: see flush.c. */
	any = view->garbage->len > 0 && !view->dirty;
	pthread_mutex_unlock(&view->side_lock);
	if (!any)
		return;
	/* What made it garbage must be kept first, or a successor would look for it. */
	pthread_mutex_lock(&view->lock);
	firn_view_checkpoint(view);
	pthread_mutex_lock(&view->side_lock);
	if (!view->dirty) {
		garbage = view->garbage;
		view->garbage = g_array_new(FALSE, FALSE, sizeof(FirnId12));
	}
	pthread_mutex_unlock(&view->side_lock);
	firn_view_unlock(view);
	if (garbage != NULL)
		firn_view_remove_objects(view, garbage);
}
