#include "core/base/error.h"
#include "core/format/v1.h"
#include "core/repo/repo_internal.h"

#include <string.h>

#define BRANCH_PREFIX "branch."
#define TAG_PREFIX    "tag."
#define REF_FILE      "/ref.json"
#define DELETED_FILE  "/ref.json.deleted"

/* A ref.json holds one id; anything near this size is something else. */
#define MAX_REF_BYTES 4096

typedef struct {
	FirnRepo *repo;
	FirnRepoInfo *info;
	GPtrArray *keys; /* char *, under refs/ */
	bool has_root;   /* the initial snapshot was met */
} Builder;

/* `*out_damage` (caller owns) not NULL: it says nothing.  `*out_there` false: it was deleted since. */
static bool
read_ref(FirnRepo *repo, const char *key, FirnId12 *out_id, char **out_damage, bool *out_there,
	 GError **error)
{
	g_autoptr(GBytes) file = NULL;
	FirnSpan text;

	*out_damage = NULL;
	if (!firn_store_get(repo->store, key, 0, MAX_REF_BYTES, &file, NULL, error))
		return false;
	*out_there = file != NULL;
	if (file == NULL)
		return true;
	text.data = g_bytes_get_data(file, &text.len);
	if (!firn_v1_ref_parse(text, out_id, NULL))
		*out_damage = g_strdup_printf("%s: %s is no {\"snapshot\": \"ID\"} document: "
					      "restore it from a copy",
					      firn_repo_url(repo), key);
	return true;
}

/* Take over one snapshot; `*out_parent` is where to go on, false if it is the root. */
static bool
add_snapshot(Builder *builder, const FirnSnapshot *snapshot, const FirnId12 *id,
	     FirnId12 *out_parent, bool *out_has_parent, GError **error)
{
	JsonObject *metadata = firn_snapshot_metadata(snapshot, error);
	FirnSnapshotInfo *initial;

	if (metadata == NULL)
		return false;
	*out_has_parent = firn_snapshot_parent(snapshot, out_parent);
	if (firn_id12_equal(id, &firn_id_initial_snapshot)) {
		/* A new repo info has it already. */
		initial = firn_repo_info_find_snapshot(builder->info, id);
		builder->has_root = true;
		initial->flushed_at = firn_snapshot_flushed_at(snapshot);
		g_free(initial->message);
		initial->message = g_strdup(firn_snapshot_message(snapshot));
		g_clear_pointer(&initial->metadata, json_object_unref);
		initial->metadata = json_object_ref(metadata);
	} else if (!firn_repo_info_add_snapshot(builder->info, id,
						*out_has_parent ? out_parent : NULL,
						firn_snapshot_flushed_at(snapshot),
						firn_snapshot_message(snapshot), metadata)) {
		*out_has_parent = false;
	}
	json_object_unref(metadata);
	return true;
}

static bool
is_known(const Builder *builder, const FirnId12 *id)
{
	if (firn_id12_equal(id, &firn_id_initial_snapshot))
		return builder->has_root;
	return firn_repo_info_find_snapshot(builder->info, id) != NULL;
}

static bool
is_damage(const GError *error)
{
	return g_error_matches(error, FIRN_ERROR, FIRN_ERROR_FORMAT) ||
	       g_error_matches(error, FIRN_ERROR, FIRN_ERROR_LIMIT) ||
	       g_error_matches(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND);
}

/*
 * A damaged snapshot ends the history it is in, and nothing else: other
 * branches do not need it.  Its message says what is wrong.
 */
static bool
add_damaged(Builder *builder, const FirnId12 *id, GError *damage, GError **error)
{
	if (!is_damage(damage)) {
		g_propagate_error(error, damage);
		return false;
	}
	if (firn_id12_equal(id, &firn_id_initial_snapshot))
		builder->has_root = true;
	else if (!firn_repo_info_add_snapshot(builder->info, id, NULL, 0, damage->message, NULL))
		g_assert_not_reached();
	g_error_free(damage);
	return true;
}

/* Add `tip` and all its ancestors; one that is known ends the walk, so a cycle does, too. */
static bool
add_history(Builder *builder, const FirnId12 *tip, GError **error)
{
	FirnId12 id = *tip;
	bool more = true;

	while (more && !is_known(builder, &id)) {
		GError *damage = NULL;
		g_autoptr(FirnSnapshot) snapshot =
			firn_repo_get_snapshot(builder->repo, &id, &damage);
		FirnId12 parent;

		if (snapshot == NULL ||
		    !add_snapshot(builder, snapshot, &id, &parent, &more, &damage))
			return add_damaged(builder, &id, damage, error);
		id = parent;
	}
	return true;
}

static bool
add_branch(Builder *builder, const char *name, const FirnId12 *id)
{
	FirnRefInfo *main;

	if (strcmp(name, "main") != 0)
		return firn_repo_info_add_branch(builder->info, name, id);
	main = firn_repo_info_find_branch(builder->info, name);
	main->snapshot = *id;
	return true;
}

/* What a ref.json says; false without `error`: the ref is there twice. */
static bool
add_read_ref(Builder *builder, const char *key, const char *name, bool is_tag, GError **error)
{
	FirnId12 id = { { 0 } };
	char *damage;
	bool there;

	if (!read_ref(builder->repo, key, &id, &damage, &there, error))
		return false;
	if (!there)
		return true;
	if (damage == NULL && !add_history(builder, &id, error))
		return false;
	if (!(is_tag ? firn_repo_info_add_tag(builder->info, name, &id)
		     : add_branch(builder, name, &id))) {
		g_free(damage);
		return false;
	}
	(is_tag ? firn_repo_info_find_tag(builder->info, name)
		: firn_repo_info_find_branch(builder->info, name))
		->damage = damage;
	return true;
}

static bool
has_key(const Builder *builder, const char *key)
{
	return g_ptr_array_find_with_equal_func(builder->keys, key, g_str_equal, NULL);
}

/* "refs/branch.x/ref.json" or "refs/tag.x/ref.json"; other keys are skipped. */
static bool
add_ref(Builder *builder, const char *key, GError **error)
{
	const char *rest = key + strlen(FIRN_REPO_V1_PREFIX);
	bool is_tag = g_str_has_prefix(rest, TAG_PREFIX);
	size_t skip = strlen(is_tag ? TAG_PREFIX : BRANCH_PREFIX);
	g_autofree char *name = NULL;
	g_autofree char *deleted = NULL;
	GError *failed = NULL;
	bool added;

	if (!g_str_has_suffix(key, REF_FILE) ||
	    (!is_tag && !g_str_has_prefix(rest, BRANCH_PREFIX)) ||
	    strlen(rest) <= skip + strlen(REF_FILE))
		return true;
	name = g_strndup(rest + skip, strlen(rest) - skip - strlen(REF_FILE));
	deleted = g_strdup_printf("%s.deleted", key);
	if (is_tag && has_key(builder, deleted)) {
		/* The only way to record the name as used up; what it pointed at may be gone. */
		added = firn_repo_info_add_tag(builder->info, name, &firn_id_initial_snapshot) &&
			firn_repo_info_remove_tag(builder->info, name);
	} else {
		added = add_read_ref(builder, key, name, is_tag, &failed);
	}
	if (failed != NULL)
		g_propagate_error(error, failed);
	else if (!added)
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_FORMAT, "%s: %s is there twice",
			    firn_repo_url(builder->repo), key);
	return added;
}

static bool
add_config(Builder *builder, GError **error)
{
	g_autoptr(GBytes) yaml = NULL;
	FirnSpan text;

	if (!firn_store_get(builder->repo->store, FIRN_REPO_V1_CONFIG, 0, UINT64_MAX, &yaml, NULL,
			    error))
		return false;
	if (yaml == NULL)
		return true;
	text.data = g_bytes_get_data(yaml, &text.len);
	builder->info->config = firn_config_from_yaml(text, error);
	return builder->info->config != NULL;
}

static bool
build(Builder *builder, GError **error)
{
	builder->keys = firn_store_list_keys(builder->repo->store, FIRN_REPO_V1_PREFIX, "", error);
	if (builder->keys == NULL)
		return false;
	if (!has_key(builder, FIRN_REPO_V1_MAIN)) {
		g_set_error(error, FIRN_ERROR, FIRN_ERROR_NOT_FOUND,
			    "%s: " FIRN_REPO_V1_MAIN " is gone; if the repository was converted to "
			    "version 2, open it again",
			    firn_repo_url(builder->repo));
		return false;
	}
	for (guint i = 0; i < builder->keys->len; i++)
		if (!add_ref(builder, builder->keys->pdata[i], error))
			return false;
	return add_config(builder, error);
}

FirnRepoInfo *
firn_repo_read_info_v1(FirnRepo *repo, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_info_new(0, NULL);
	Builder builder = { .repo = repo, .info = info };
	bool ok;

	info->spec_version = 1;
	ok = build(&builder, error);
	g_clear_pointer(&builder.keys, g_ptr_array_unref);
	if (!ok)
		return NULL;
	if (!builder.has_root) {
		FirnSnapshotInfo *initial =
			firn_repo_info_find_snapshot(info, &firn_id_initial_snapshot);

		/* Expiration can take it away; nothing refers to it then. */
		g_ptr_array_remove(info->snapshots, initial);
	}
	return g_steal_pointer(&info);
}
