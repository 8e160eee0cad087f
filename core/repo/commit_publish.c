#include "core/base/clock.h"
#include "core/base/crash.h"
#include "core/base/error.h"
#include "core/repo/commit_priv.h"

/* Objects published together while others are made: what is left at the end does not take long. */
#define PUBLISH_BATCH 16u

/* ---- objects ---- */

/* Publish what was written, once `n` objects are not. */
static bool
publish_written(FirnCommitting *c, guint n, GError **error)
{
	g_autoptr(GPtrArray) keys = g_ptr_array_new();

	pthread_mutex_lock(&c->lock);
	if (c->written->len - c->n_published >= n) {
		for (guint i = c->n_published; i < c->written->len; i++)
			g_ptr_array_add(keys, c->written->pdata[i]);
		c->n_published = c->written->len;
	}
	pthread_mutex_unlock(&c->lock);
	return firn_store_publish(firn_repo_store(c->repo), (const char *const *)keys->pdata,
				  keys->len, error);
}

bool
firn_commit_put(FirnCommitting *c, const char *prefix, const FirnId12 *id, GBytes *file,
		GError **error)
{
	char text[FIRN_ID12_TEXT + 1];
	char *key;

	firn_id12_format(id, text);
	key = g_strconcat(prefix, text, NULL);
	if (!firn_store_put_new(firn_repo_store(c->repo), key, file, error)) {
		g_free(key);
		return false;
	}
	pthread_mutex_lock(&c->lock);
	g_ptr_array_add(c->written, key);
	pthread_mutex_unlock(&c->lock);
	return publish_written(c, PUBLISH_BATCH, error);
}

void
firn_commit_discard(FirnCommitting *c)
{
	for (guint i = 0; i < c->written->len; i++)
		(void)!firn_store_withdraw(firn_repo_store(c->repo), c->written->pdata[i], NULL);
	g_ptr_array_set_size(c->written, 0);
	c->n_published = 0;
}

/* ---- what is to become of `repo` ---- */

typedef struct {
	FirnCommitting *c;
	FirnId12 tip;    /* what was built on */
	FirnId12 parent; /* of the new snapshot */
	bool moved;
} Update;

static void
update_config(const FirnCommitting *c, FirnRepoInfo *info)
{
	JsonNode *config;

	if (c->splits->len == 0)
		return;
	config = firn_config_with_splits(info->config,
					 (const FirnConfigSplit *)(const void *)c->splits->data,
					 c->splits->len);
	if (info->config != NULL)
		json_node_unref(info->config);
	info->config = config;
}

static bool
add_snapshot(Update *update, FirnRepoInfo *info, GError **error)
{
	FirnCommitting *c = update->c;
	const FirnSnapshotInfo *tip = firn_repo_info_find_snapshot(info, &update->tip);
	FirnSnapshotInfo *added;
	bool amend = c->options->amend;

	if (tip == NULL || (amend && !tip->has_parent)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT,
			    "the repository does not list its branch's snapshot");
		return false;
	}
	update->parent = amend ? tip->parent : update->tip;
	if (!firn_repo_info_add_snapshot(info, &c->id, &update->parent, c->flushed_at,
					 c->options->message != NULL ? c->options->message : "",
					 c->options->metadata)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_EXISTS,
			    "the repository has a snapshot of the new one's id: try again");
		return false;
	}
	added = firn_repo_info_find_snapshot(info, &c->id);
	if (amend && tip->pruned != NULL) {
		added->pruned = g_array_new(FALSE, FALSE, sizeof(FirnId12));
		g_array_append_vals(added->pruned, tip->pruned->data, tip->pruned->len);
	}
	return true;
}

static bool
apply_update(FirnRepoInfo *info, const char *backup_name, void *data, GError **error)
{
	Update *update = data;
	FirnCommitting *c = update->c;
	FirnRefInfo *branch = firn_repo_info_find_branch(info, c->options->branch);
	bool amend = c->options->amend;

	update->moved = false;
	if (branch == NULL) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "there is no branch %s any more", c->options->branch);
		return false;
	}
	if (firn_id12_compare(&branch->snapshot, &update->tip) != 0) {
		update->moved = true;
		return firn_commit_fail_moved(c->options, &branch->snapshot, error);
	}
	if (!add_snapshot(update, info, error))
		return false;
	update_config(c, info);
	branch->snapshot = c->id;
	firn_repo_info_push_update(info,
				   amend ? FIRN_UPDATE_COMMIT_AMENDED : FIRN_UPDATE_NEW_COMMIT,
				   c->options->branch, amend ? &update->tip : NULL, &c->id,
				   backup_name, firn_clock_now_us(),
				   firn_config_ops_log_length(c->config));
	return true;
}

/* ---- all of it ---- */

/* What waits for the disk, each in a thread of its own; a step without a thread is taken first. */
typedef struct {
	Update *update;
	FirnRepoUpdate *prepared;
	bool published;
	GError *publish_error;
	GError *update_error;
} Publishing;

static void *
publish_rest(void *data)
{
	Publishing *p = data;

	p->published = publish_written(p->update->c, 0, &p->publish_error);
	return NULL;
}

static void *
prepare_update(void *data)
{
	Publishing *p = data;

	p->prepared = firn_repo_update_begin(p->update->c->repo, apply_update, p->update,
					     &p->update_error);
	return NULL;
}

static bool
tell_intent(const FirnCommitting *c, GError **error)
{
	return c->options->intent == NULL || c->options->intent(&c->id, c->options->data, error);
}

/*
 * All that `repo` is going to name becomes durable, and what it is going to be itself, while those
 * whose changes it is record what is about to happen: what each waits for is the disk.
 */
static bool
make_ready(Publishing *p, GError **error)
{
	void *(*const steps[])(void *) = { publish_rest, prepare_update };
	pthread_t threads[G_N_ELEMENTS(steps)];
	bool aside[G_N_ELEMENTS(steps)];
	bool told;

	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
		aside[i] = pthread_create(&threads[i], NULL, steps[i], p) == 0;
		if (!aside[i])
			(void)steps[i](p);
	}
	told = tell_intent(p->update->c, error);
	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
		if (aside[i])
			pthread_join(threads[i], NULL);
	if (told && !p->published)
		g_propagate_error(error, g_steal_pointer(&p->publish_error));
	else if (told && p->prepared == NULL)
		g_propagate_error(error, g_steal_pointer(&p->update_error));
	/* Trying again on top of who moved it would help against nothing else. */
	if (!told || !p->published)
		p->update->moved = false;
	g_clear_error(&p->publish_error);
	g_clear_error(&p->update_error);
	return told && p->published && p->prepared != NULL;
}

bool
firn_commit_publish(FirnCommitting *c, const FirnId12 *tip, FirnId12 *out_parent, bool *out_moved,
		    GError **error)
{
	Update update = { .c = c, .tip = *tip };
	Publishing publishing = { .update = &update };
	bool ready = make_ready(&publishing, error);
	bool ok = false;

	if (!ready)
		firn_repo_update_drop(c->repo, publishing.prepared);
	else
		ok = firn_repo_update_end(c->repo, publishing.prepared, apply_update, &update,
					  error);
	/* Of other failures of the put it is not known whether it went through. */
	if (!ready || (!ok && update.moved))
		firn_commit_discard(c);
	*out_moved = update.moved;
	*out_parent = update.parent;
	return ok;
}
