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
firn_content_new_native(FirnView *view, const FirnPart *part)
{
	FirnContent *content = firn_content_new(view, FIRN_CONTENT_NATIVE, part->length);

	content->id = part->id;
	content->offset = part->offset;
	content->used = part->offset > 0 && !view->read_only;
	if (content->used)
		firn_pack_use(view, part);
	return content;
}

FirnPart
firn_content_part(const FirnContent *content)
{
	return (FirnPart){ .id = content->id,
			   .offset = content->offset,
			   .length = content->length };
}

FirnPart
firn_change_part(const FirnChunkChange *change)
{
	FirnPart part = { .offset = firn_chunk_change_offset(change),
			  .length = firn_chunk_change_length(change) };

	if (change->kind == FIRN_REF_NATIVE)
		part.id = *firn_chunk_change_id(change);
	return part;
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
	FirnPart part = { .id = ref->id, .offset = ref->offset, .length = ref->length };
	FirnContent *content;
	char *location;

	switch (ref->kind) {
	case FIRN_REF_INLINE:
		content = firn_content_new(view, FIRN_CONTENT_BYTES, ref->bytes.len);
		content->bytes = g_bytes_new(ref->bytes.data, ref->bytes.len);
		break;
	case FIRN_REF_NATIVE:
		content = firn_content_new_native(view, &part);
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
	FirnPart part;
	bool garbage;

	if (content == NULL || __atomic_sub_fetch(&content->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (content->kind == FIRN_CONTENT_NATIVE) {
		part = firn_content_part(content);
		garbage = content->used && firn_pack_unuse(content->view, &part);
		/* Who let go of it may not have been the last: another name may have been recorded
		 * since. */
		if (garbage || (content->disposable && !content->published))
			firn_view_discard_part(content->view, &part);
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

/* The descriptor of an object that is all one chunk; -1 without `error`: the store has none. */
static int
object_fd(FirnContent *content, FirnFile *file, GError **error)
{
	g_autofree char *key = NULL;
	FIRN_LOCK_SCOPE(&file->lock);

	if (file->fd >= 0 && firn_id12_compare(&file->fd_id, &content->id) != 0) {
		close(file->fd);
		file->fd = -1;
	}
	if (file->fd < 0) {
		key = firn_content_key(&content->id);
		file->fd = firn_store_open_fd(firn_repo_store(content->view->repo), key, error);
		file->fd_id = content->id;
	}
	return file->fd;
}

/* The same for a part of one; with a reference.  `file` may be NULL. */
static FirnPackFd *
pack_fd(FirnContent *content, FirnFile *file, GError **error)
{
	FirnPackFd *fd;

	if (file == NULL)
		return firn_pack_fd_take(content->view, &content->id, error);
	FIRN_LOCK_SCOPE(&file->lock);

	if (file->pack == NULL || !firn_pack_fd_is_of(file->pack, &content->id)) {
		fd = firn_pack_fd_take(content->view, &content->id, error);
		firn_pack_fd_unref(file->pack);
		file->pack = fd;
	}
	return file->pack != NULL ? firn_pack_fd_ref(file->pack) : NULL;
}

void
firn_content_open(FirnContent *content, FirnFile *file)
{
	GError *error = NULL;

	if (content == NULL || content->kind != FIRN_CONTENT_NATIVE)
		return;
	if (content->offset > 0)
		firn_pack_fd_unref(pack_fd(content, file, &error));
	else
		(void)object_fd(content, file, &error);
	/* What is wrong with the object is the business of read(). */
	g_clear_error(&error);
}

/* Where the store has no descriptors, or nobody keeps one. */
static int
read_object(FirnContent *content, void *buffer, size_t size, uint64_t offset, size_t *out_size)
{
	FirnView *view = content->view;
	g_autofree char *key = firn_content_key(&content->id);
	g_autoptr(GBytes) data = NULL;
	GError *error = NULL;
	gsize len;

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
read_native(FirnContent *content, FirnFile *file, void *buffer, size_t size, uint64_t offset,
	    size_t *out_size)
{
	FirnPackFd *pack = NULL;
	g_autofree char *key = NULL;
	GError *error = NULL;
	int failed;
	int fd = -1;

	if (content->offset > 0) {
		pack = pack_fd(content, file, &error);
		fd = pack != NULL ? firn_pack_fd_get(pack) : -1;
	} else if (file != NULL) {
		fd = object_fd(content, file, &error);
	}
	if (fd < 0 && error == NULL)
		return read_object(content, buffer, size, offset, out_size);
	failed = fd >= 0 ? read_fd(fd, buffer, size, content->offset + offset, out_size) : 0;
	firn_pack_fd_unref(pack);
	if (failed == 0 && error == NULL)
		return 0;
	key = firn_content_key(&content->id);
	if (error != NULL)
		(void)firn_view_fail(content->view, key, error);
	else
		firn_view_note(content->view, key, "cannot read the object: %s",
			       g_strerror(failed));
	return EIO;
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

static int
put_object(FirnView *view, const void *data, size_t len, FirnPart *out_part)
{
	FirnId12 id = firn_id12_random();
	g_autofree char *key = firn_content_key(&id);
	FirnStoreWriter *writer;
	GError *error = NULL;

	*out_part = (FirnPart){ .id = id, .length = len };
	writer = firn_store_writer_open(firn_repo_store(view->repo), key, &error);
	if (writer == NULL)
		return firn_view_fail(view, key, error);
	if (!firn_store_writer_write(writer, 0, data, len, &error) ||
	    !firn_store_writer_finish(writer, false, &error)) {
		firn_store_writer_abort(writer);
		return firn_view_fail(view, key, error);
	}
	return 0;
}

int
firn_content_store(FirnView *view, const void *data, size_t len, FirnContent **out_content)
{
	FirnPart part;
	int failed = firn_pack_takes(len) ? firn_pack_append(view, data, len, &part)
					  : put_object(view, data, len, &part);

	if (failed == 0)
		*out_content = firn_content_new_native(view, &part);
	return failed;
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
	gconstpointer data;
	gsize len;
	int failed;

	if (old == NULL || old->kind != FIRN_CONTENT_BYTES || old->length <= view->inline_threshold)
		return 0;
	data = g_bytes_get_data(old->bytes, &len);
	failed = firn_content_store(view, data, len, content);
	if (failed == 0)
		firn_content_unref(old);
	return failed;
}

FirnContent *
firn_content_restore(FirnView *view, FirnKeepReader *reader)
{
	uint64_t kind = firn_keep_take(reader);
	FirnPart part = { 0 };
	FirnContent *content;
	FirnSpan bytes;
	bool published;
	bool has_etag;

	if (kind == FIRN_KEPT_NO_CONTENT || kind > FIRN_CONTENT_VIRTUAL)
		return NULL;
	part.length = firn_keep_take(reader);
	published = firn_keep_take(reader) != 0;
	if (kind == FIRN_CONTENT_NATIVE) {
		firn_keep_take_fixed(reader, &part.id, sizeof part.id);
		part.offset = firn_keep_take(reader);
		content = firn_content_new_native(view, &part);
	} else {
		content = firn_content_new(view, (FirnContentKind)kind, part.length);
	}
	content->published = published;
	if (kind == FIRN_CONTENT_BYTES) {
		bytes = firn_keep_take_bytes(reader);
		content->bytes = g_bytes_new(bytes.data, bytes.len);
		content->length = bytes.len;
	} else if (kind == FIRN_CONTENT_VIRTUAL) {
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
