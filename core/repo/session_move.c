#include "core/repo/session_priv.h"

#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/zarr/name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A session moves to another base, or begins again: a new journal takes the place of the old. */

typedef struct {
	FirnSession *session;
	FirnJournal *journal;
	FirnChanges *changes;
	uint64_t seq;
	bool durable;         /* what is durable already, or the rest */
	uint64_t durable_seq; /* in `journal` */
} Carry;

static bool
is_carried(const Carry *carry, uint64_t seq)
{
	return seq > carry->seq && (seq <= carry->session->durable_seq) == carry->durable;
}

/* One node's chunks that came after the commit began. */
static bool
carry_node(Carry *carry, const FirnNodeChange *node, const FirnSnapshot *snapshot, GError **error)
{
	FirnSnapshotNode found;
	FirnChunkChange *change;
	const uint32_t *coords;
	FirnChunkIter iter;
	bool has_place;
	size_t index;
	uint32_t rank;

	if (node->chunks == NULL)
		return true;
	rank = firn_chunk_map_rank(node->chunks);
	has_place = firn_snapshot_find_path(snapshot, node->path, strlen(node->path), &index);
	if (has_place) {
		firn_snapshot_node(snapshot, index, &found);
		has_place = found.kind == FIRN_NODE_ARRAY && found.rank == rank;
	}
	firn_chunk_iter_seek(&iter, node->chunks, NULL, 0);
	while (firn_chunk_iter_next(&iter, &coords, &change)) {
		FirnRef ref;
		uint64_t seq;

		if (!is_carried(carry, change->seq))
			continue;
		firn_chunk_change_get(change, &ref);
		if (has_place) {
			FirnChunkChange *kept;

			if (!firn_journal_put_chunk(carry->journal, &found.id, node->path, rank,
						    coords, &ref, &seq, error))
				return false;
			kept = firn_changes_put_chunk(carry->changes, &found.id, node->path, rank,
						      coords, &ref, seq);
			kept->ino = change->ino;
			kept->mtime_ns = change->mtime_ns;
		} else if (ref.kind != FIRN_REF_NONE) {
			g_autofree char *name = firn_name_format_chunk(coords, rank);
			g_autofree char *path =
				g_strconcat(strcmp(node->path, "/") == 0 ? "" : node->path, "/",
					    name, NULL);

			if (!firn_journal_put_pending(carry->journal, path, &ref, &seq, error))
				return false;
			firn_changes_put_pending(carry->changes, path, &ref, seq);
		}
	}
	return true;
}

static bool
carry_pending(Carry *carry, GError **error)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, carry->session->changes->pending);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnPending *pending = value;
		FirnRef ref;
		uint64_t seq;

		if (!is_carried(carry, pending->seq))
			continue;
		firn_chunk_change_get(&pending->content, &ref);
		if (!firn_journal_put_pending(carry->journal, pending->path, &ref, &seq, error))
			return false;
		firn_changes_put_pending(carry->changes, pending->path, &ref, seq);
	}
	return true;
}

static bool
carry_all(Carry *carry, FirnSnapshot *snapshot, GError **error)
{
	g_autoptr(GPtrArray) nodes = firn_changes_sorted_by_id(carry->session->changes);

	/* What is durable comes first, and the journal says up to where. */
	for (unsigned pass = 0; pass < 2; pass++) {
		carry->durable = pass == 0;
		for (guint i = 0; i < nodes->len; i++)
			if (!carry_node(carry, nodes->pdata[i], snapshot, error))
				return false;
		if (!carry_pending(carry, error))
			return false;
		if (pass == 0)
			carry->durable_seq = firn_journal_last_seq(carry->journal);
		if (pass == 0 && carry->durable_seq > 0 &&
		    !firn_journal_durable(carry->journal, carry->durable_seq, error))
			return false;
	}
	if (!firn_journal_sync(carry->journal, error))
		return false;
	firn_crash_point(FIRN_CRASH_NEXT_WRITTEN);
	return true;
}

/* A journal beside the session's, with another base or id, and nothing of it synced. */
static FirnJournal *
begin_next(const char *path, const FirnJournalHeader *header, GError **error)
{
	/* Of a driver that died. */
	(void)unlink(path);
	return firn_journal_begin(path, header, error);
}

/* Nothing that is recorded from now on is durable before the directory is. */
static void
sync_directory(const FirnSession *session)
{
	int fd = open(session->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

/* Let the next journal, which is synced, take the place of the old. */
static bool
publish_journal(FirnSession *session, GError **error)
{
	g_autofree char *from = firn_session_journal_path(session->directory, ".next");
	g_autofree char *to = firn_session_journal_path(session->directory, "");
	g_autofree char *previous =
		firn_session_journal_path(session->directory, FIRN_SESSION_PREVIOUS);

	/* Who takes over from a driver that dies right now goes on with the old one. */
	(void)unlink(previous);
	(void)(link(to, previous) == 0);
	if (rename(from, to) != 0) {
		firn_error_set_errno(error, errno, "cannot replace %s", to);
		return false;
	}
	return true;
}

bool
firn_session_move(FirnSession *session, FirnSnapshot *snapshot, uint64_t seq, FirnChanges **out_old,
		  GError **error)
{
	g_autofree char *next = firn_session_journal_path(session->directory, ".next");
	g_autofree char *parent = g_strconcat(session->directory, "/parent", NULL);
	g_autofree char *previous = g_strconcat(parent, FIRN_SESSION_PREVIOUS, NULL);
	g_autoptr(FirnJournalHeader) header = firn_journal_header_copy(session->header);
	Carry carry = { .session = session, .seq = seq };

	header->base = *firn_snapshot_id(snapshot);
	g_array_set_size(header->ancestors, 0);
	header->created_us = firn_clock_now_us();
	carry.journal = begin_next(next, header, error);
	if (carry.journal == NULL)
		return false;
	carry.changes = firn_changes_new();
	if (!carry_all(&carry, snapshot, error) || !publish_journal(session, error)) {
		firn_journal_close(carry.journal);
		firn_changes_free(carry.changes);
		(void)unlink(next);
		return false;
	}
	(void)rename(parent, previous);
	firn_crash_point(FIRN_CRASH_NEXT_PUBLISHED);
	firn_journal_close(session->journal);
	session->journal = carry.journal;
	session->durable_seq = carry.durable_seq;
	if (out_old != NULL)
		*out_old = session->changes;
	else
		firn_changes_free(session->changes);
	session->changes = carry.changes;
	firn_journal_header_free(session->header);
	session->header = g_steal_pointer(&header);
	g_ptr_array_set_size(session->parents, 0);
	firn_snapshot_unref(session->base);
	session->base = firn_snapshot_ref(snapshot);
	/*
	 * What session.json says of the base is for people: the journal decides.  Writing it syncs
	 * the directory, and with it the journal's name.
	 */
	if (!firn_session_write_info(session, NULL))
		sync_directory(session);
	firn_crash_point(FIRN_CRASH_MOVED);
	return true;
}

bool
firn_session_reset(FirnSession *session, GError **error)
{
	g_autofree char *next = firn_session_journal_path(session->directory, ".next");
	g_autoptr(FirnJournalHeader) header = firn_journal_header_copy(session->header);
	FirnChanges *old = session->changes;
	FirnJournal *journal;

	header->session = firn_id12_random();
	session->changes = firn_changes_new();
	if (!firn_session_inherit(session, error))
		goto fail;
	journal = begin_next(next, header, error);
	if (journal == NULL)
		goto fail;
	if (!firn_journal_sync(journal, error) || !publish_journal(session, error)) {
		firn_journal_close(journal);
		(void)unlink(next);
		goto fail;
	}
	sync_directory(session);
	firn_journal_close(session->journal);
	session->journal = journal;
	firn_journal_header_free(session->header);
	session->header = g_steal_pointer(&header);
	session->durable_seq = 0;
	firn_changes_free(old);
	return true;
fail:
	firn_changes_free(session->changes);
	session->changes = old;
	return false;
}

void
firn_session_forget_previous(FirnSession *session)
{
	g_autofree char *journal =
		firn_session_journal_path(session->directory, FIRN_SESSION_PREVIOUS);
	g_autofree char *parent =
		g_strconcat(session->directory, "/parent", FIRN_SESSION_PREVIOUS, NULL);

	(void)unlink(journal);
	(void)unlink(parent);
}
