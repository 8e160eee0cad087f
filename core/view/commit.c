#include "core/view/internal.h"

#include "core/base/crash.h"
#include "core/base/deadline.h"

#include <errno.h>

/*
 * A commit seen from the mount: a journal image is taken, documents are held
 * back, somebody else commits, and the mount moves to the new snapshot.
 */

static GPtrArray *
open_writers(FirnView *view)
{
	GPtrArray *writers = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	FirnLeaf *leaf;

	g_hash_table_iter_init(&iter, view->inodes);
	while ((leaf = firn_leaf_next(&iter)) != NULL) {
		char *writer = firn_leaf_writer(leaf);

		if (writer != NULL)
			g_ptr_array_add(writers, writer);
	}
	return writers;
}

static bool
wait_for_writers(FirnView *view, unsigned wait_ms, GError **error)
{
	g_autoptr(GPtrArray) writers = NULL;
	g_autofree char *list = NULL;
	struct timespec until = firn_deadline_in(wait_ms);
	int waited = 0;

	for (;;) {
		if (writers != NULL)
			g_ptr_array_unref(writers);
		writers = open_writers(view);
		if (writers->len == 0)
			return true;
		if (waited == ETIMEDOUT)
			break;
		firn_view_checkpoint(view);
		waited = pthread_cond_timedwait(&view->changed, &view->lock, &until);
	}
	g_ptr_array_add(writers, NULL);
	list = g_strjoinv(", ", (char **)writers->pdata);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
		    "files are open for writing: %s; close them first", list);
	return false;
}

static bool
settle_documents(FirnView *view, GError **error)
{
	g_autoptr(GPtrArray) homeless = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *list = NULL;
	int failed = firn_node_settle(view, homeless);

	if (failed != 0) {
		firn_error_set_errno(error, failed, "cannot settle removed documents");
		return false;
	}
	if (homeless->len == 0)
		return true;
	g_ptr_array_add(homeless, NULL);
	list = g_strjoinv(", ", (char **)homeless->pdata);
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID,
		    "arrays with chunks but without zarr.json: %s; write the document again, or "
		    "remove the chunks",
		    list);
	return false;
}

static bool
check_session(FirnView *view, GError **error)
{
	if (view->read_only) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_READ_ONLY, "the mount is read-only");
		return false;
	}
	if (view->committing) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_BUSY,
			    "another commit of this mount is under way");
		return false;
	}
	return true;
}

static bool
make_durable(FirnView *view, GError **error)
{
	if (firn_view_fsync_all(view) == 0)
		return true;
	g_set_error(error, FIRN_ERROR, FIRN_ERROR_STORE,
		    "written data cannot be made durable: see .firn/errors");
	return false;
}

bool
firn_view_commit_intent(FirnView *view, const FirnId12 *snapshot, GError **error)
{
	bool ok = false;

	/* Records came after the sync that the commit began with. */
	if (!make_durable(view, error))
		return false;
	pthread_mutex_lock(&view->lock);
	if (!view->committing)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "no commit was begun");
	else
		ok = firn_journal_intent(view->session->journal, view->commit_seq, snapshot, error);
	if (ok) {
		view->intended = true;
		view->intent = *snapshot;
		view->intent_seq = view->commit_seq;
	}
	firn_view_unlock(view);
	if (ok)
		firn_crash_point(FIRN_CRASH_INTENT_RECORDED);
	return ok;
}

/* The log between two snapshots, if exactly one commit lies between. */
static FirnTxlog *
log_between(FirnView *view, FirnSnapshot *from, FirnSnapshot *to)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(view->repo, NULL);
	FirnSnapshotInfo *found;

	if (info == NULL)
		return NULL;
	found = firn_repo_info_find_snapshot(info, firn_snapshot_id(to));
	if (found == NULL || !found->has_parent ||
	    firn_id12_compare(&found->parent, firn_snapshot_id(from)) != 0)
		return NULL;
	return firn_repo_get_txlog(view->repo, firn_snapshot_id(to), NULL);
}

/* Whether what was intended is in the repository; `*out_known` false: that could not be found out. */
static bool
was_committed(FirnView *view, FirnId12 *out_snapshot, bool *out_known, GError **error)
{
	g_autoptr(FirnRepoInfo) info = NULL;
	bool intended;

	pthread_mutex_lock(&view->lock);
	intended = view->intended;
	*out_snapshot = view->intent;
	firn_view_unlock(view);
	*out_known = true;
	if (!intended)
		return false;
	info = firn_repo_read_info(view->repo, error);
	*out_known = info != NULL;
	return info != NULL && firn_repo_info_find_snapshot(info, out_snapshot) != NULL;
}

/* `asked`: by who commits.  View lock held. */
static bool
move_on(FirnView *view, FirnSnapshot *to, FirnTxlog *log, bool asked, GError **error)
{
	const FirnId12 *id = firn_snapshot_id(to);
	bool intended = view->intended && firn_id12_compare(&view->intent, id) == 0;
	bool ok = true;

	if (firn_id12_compare(firn_snapshot_id(view->tree->base), id) == 0) {
		/* Asked again because nobody had heard the answer: it is done. */
	} else if (view->committing && asked) {
		ok = firn_view_move_to(view, to, view->commit_seq, log, error);
	} else if (intended && !view->committing) {
		if (firn_session_can_move(view->session, view->intent_seq))
			ok = firn_view_move_to(view, to, view->intent_seq, log, error);
	} else if (asked) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "no commit was begun");
		ok = false;
	}
	if (ok && intended)
		view->intended = false;
	return ok;
}

static bool
follow(FirnView *view, const FirnId12 *snapshot, bool asked, GError **error)
{
	g_autoptr(FirnSnapshot) to = firn_repo_get_snapshot(view->repo, snapshot, error);
	g_autoptr(FirnSnapshot) from = NULL;
	g_autoptr(FirnTxlog) log = NULL;
	bool ok;

	if (to == NULL)
		return false;
	pthread_mutex_lock(&view->lock);
	from = firn_snapshot_ref(view->tree->base);
	firn_view_unlock(view);
	log = log_between(view, from, to);
	/* Chunks of the next commit are carried over as durable as they are. */
	(void)firn_view_fsync_all(view);
	pthread_mutex_lock(&view->lock);
	ok = move_on(view, to, log, asked, error);
	firn_view_unlock(view);
	if (ok)
		firn_session_forget_previous(view->session);
	return ok;
}

bool
firn_view_settle_intent(FirnView *view, GError **error)
{
	FirnId12 snapshot;
	bool known;

	if (was_committed(view, &snapshot, &known, error))
		return follow(view, &snapshot, false, error);
	pthread_mutex_lock(&view->lock);
	if (known && !view->committing)
		view->intended = false;
	firn_view_unlock(view);
	return known;
}

bool
firn_view_commit_end(FirnView *view, const FirnId12 *snapshot, GPtrArray **out_invalidations,
		     GError **error)
{
	FirnId12 intended;
	bool known = true;
	bool ok = true;

	if (snapshot == NULL && was_committed(view, &intended, &known, error))
		snapshot = &intended;
	if (snapshot != NULL)
		ok = follow(view, snapshot, true, error);
	pthread_mutex_lock(&view->lock);
	if (snapshot == NULL) {
		ok = known && view->committing;
		if (known && !ok)
			g_set_error(error, FIRN_ERROR, FIRN_ERROR_INVALID, "no commit was begun");
		if (known)
			view->intended = false;
	}
	view->committing = false;
	pthread_cond_broadcast(&view->changed);
	firn_view_unlock(view);
	*out_invalidations = firn_view_take_stale(view);
	firn_view_sweep(view);
	return ok;
}

/* What no fork is merged with: nobody asks it what forks knew. */
static GBytes *
image_for_no_fork(FirnSession *session)
{
	uint64_t fork_seq = session->changes->fork_seq;
	GBytes *image;

	session->changes->fork_seq = 0;
	image = firn_session_image(session);
	session->changes->fork_seq = fork_seq;
	return image;
}

bool
firn_view_commit_begin(FirnView *view, unsigned wait_ms, bool alone, GBytes **out_image,
		       uint64_t *out_seq, GError **error)
{
	bool ok;

	if (!firn_view_settle_intent(view, error))
		return false;
	if (!make_durable(view, error))
		return false;
	pthread_mutex_lock(&view->lock);
	ok = check_session(view, error) && wait_for_writers(view, wait_ms, error) &&
	     check_session(view, error) && settle_documents(view, error);
	if (ok) {
		view->committing = true;
		view->intended = false;
		view->commit_seq = firn_journal_last_seq(view->session->journal);
		view->commit_ino = view->next_ino;
		view->exported_seq = view->commit_seq;
		firn_packs_give_away(view);
		*out_seq = view->commit_seq;
		*out_image = alone ? image_for_no_fork(view->session)
				   : firn_session_image(view->session);
	}
	firn_view_unlock(view);
	firn_view_notify(view);
	return ok;
}

void
firn_view_base(FirnView *view, FirnId12 *out_base)
{
	FIRN_LOCK_SCOPE(&view->lock);

	*out_base = view->session->header->base;
}

static void
kill_tree(FirnDir *dir)
{
	GHashTableIter iter;
	gpointer value;

	dir->inode.dead = true;
	firn_keep_mark(&dir->inode);
	g_hash_table_iter_init(&iter, dir->children);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		FirnInode *child = value;

		child->dead = true;
		firn_keep_mark(child);
		if (child->directory)
			kill_tree((FirnDir *)child);
	}
}

bool
firn_view_discard(FirnView *view, GPtrArray **out_invalidations, GError **error)
{
	g_autoptr(GArray) own = NULL;
	FirnTree *old;
	bool ok;

	pthread_mutex_lock(&view->lock);
	ok = check_session(view, error) && wait_for_writers(view, 0, error);
	if (ok) {
		own = firn_chunk_own_objects(view);
		ok = firn_session_reset(view->session, error);
	}
	if (ok) {
		firn_chunk_retire_objects(view, own);
		firn_packs_close(view);
		old = view->tree;
		view->exported_seq = 0;
		view->intended = false;
		firn_view_forget_unsynced(view);
		firn_view_build(view);
		if (old->root != NULL) {
			kill_tree(old->root);
			firn_inode_unref(view, &old->root->inode);
		}
		old->root = NULL;
		firn_keep_tree(view, old, FIRN_KEPT_TREE_OLD);
		firn_keep_all_changes(view);
		g_ptr_array_add(view->old_trees, old);
		firn_view_invalidate(view, FIRN_INO_TOP, view->name);
	}
	firn_view_unlock(view);
	if (ok)
		firn_session_forget_previous(view->session);
	*out_invalidations = firn_view_take_stale(view);
	firn_view_sweep(view);
	return ok;
}

FirnForkToken *
firn_view_fork(FirnView *view, GError **error)
{
	FirnSession *session = view->session;
	FirnForkToken *token = NULL;

	if (!firn_view_settle_intent(view, error) || !make_durable(view, error))
		return NULL;
	pthread_mutex_lock(&view->lock);
	if (check_session(view, error) && settle_documents(view, error)) {
		view->exported_seq = firn_journal_last_seq(session->journal);
		firn_packs_give_away(view);
		token = firn_session_fork(session, error);
	}
	firn_view_unlock(view);
	/* Also what was recorded since, before the token was made. */
	if (token != NULL && !make_durable(view, error))
		g_clear_pointer(&token, firn_fork_token_free);
	return token;
}

GBytes *
firn_view_image(FirnView *view)
{
	g_autoptr(GPtrArray) homeless = g_ptr_array_new_with_free_func(g_free);
	GError *error = NULL;
	GBytes *image;

	if (!firn_view_settle_intent(view, &error))
		(void)firn_view_fail(view, "commit", error);
	pthread_mutex_lock(&view->lock);
	if (!view->read_only) {
		if (!view->committing)
			(void)firn_node_settle(view, homeless);
		view->exported_seq = firn_journal_last_seq(view->session->journal);
		firn_packs_give_away(view);
	}
	image = firn_session_image(view->session);
	firn_view_unlock(view);
	(void)firn_view_fsync_all(view);
	return image;
}

GBytes *
firn_view_peek_image(FirnView *view)
{
	FIRN_LOCK_SCOPE(&view->lock);

	return firn_session_image(view->session);
}
