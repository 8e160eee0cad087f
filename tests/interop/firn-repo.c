/*
 * What test_repo.py needs of the library, one call per command:
 *   create URL | info URL | branch URL NAME... | tag URL NAME | tree URL REF
 */
#include "core/base/error.h"
#include "core/repo/refs.h"

#include <stdio.h>
#include <string.h>

static bool
print_info(FirnRepo *repo, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(repo, error);

	if (info == NULL)
		return false;
	for (guint i = 0; i < info->branches->len; i++) {
		const FirnRefInfo *ref = info->branches->pdata[i];
		const FirnSnapshotInfo *snapshot =
			firn_repo_info_find_snapshot(info, &ref->snapshot);

		for (; snapshot != NULL;
		     snapshot = snapshot->has_parent
					? firn_repo_info_find_snapshot(info, &snapshot->parent)
					: NULL) {
			char id[FIRN_ID12_TEXT + 1];

			firn_id12_format(&snapshot->id, id);
			printf("%s %s %s\n", ref->name, id, snapshot->message);
		}
	}
	return true;
}

static bool
print_refs(FirnRepo *repo, FirnSnapshot *snapshot, const FirnSnapshotNode *node, GError **error)
{
	g_autoptr(FirnRefIter) iter = firn_ref_iter_new(repo, snapshot, node, NULL, 0);
	const uint32_t *coords;
	FirnRef ref;
	int more;

	while ((more = firn_ref_iter_next(iter, &coords, &ref, NULL, error)) == 1) {
		printf("%.*s", (int)node->path.len, (const char *)node->path.data);
		for (uint32_t i = 0; i < node->rank; i++)
			printf(" %u", coords[i]);
		printf(" = %" G_GUINT64_FORMAT "\n", ref.length);
	}
	return more == 0;
}

static bool
print_tree(FirnRepo *repo, const char *ref, GError **error)
{
	g_autoptr(FirnRepoInfo) info = firn_repo_read_info(repo, error);
	g_autoptr(FirnSnapshot) snapshot = NULL;
	FirnId12 id;

	if (info == NULL || !firn_refs_resolve(info, ref, &id, error))
		return false;
	snapshot = firn_repo_get_snapshot(repo, &id, error);
	for (size_t i = 0; snapshot != NULL && i < firn_snapshot_n_nodes(snapshot); i++) {
		FirnSnapshotNode node;

		firn_snapshot_node(snapshot, i, &node);
		printf("%.*s\n", (int)node.path.len, (const char *)node.path.data);
		if (!print_refs(repo, snapshot, &node, error))
			return false;
	}
	return snapshot != NULL;
}

static bool
run(const char *command, int n, char **names, FirnRepo *repo, GError **error)
{
	bool ok = true;

	if (strcmp(command, "info") == 0)
		return print_info(repo, error);
	if (strcmp(command, "tree") == 0 && n == 1)
		return print_tree(repo, names[0], error);
	for (int i = 0; ok && i < n; i++)
		ok = strcmp(command, "tag") == 0
			     ? firn_refs_create_tag(repo, names[i], &firn_id_initial_snapshot,
						    error)
			     : firn_refs_create_branch(repo, names[i], &firn_id_initial_snapshot,
						       error);
	return ok;
}

int
main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FirnRepo) repo = NULL;
	bool ok = false;

	if (argc < 3)
		return 2;
	if (strcmp(argv[1], "create") == 0) {
		ok = firn_repo_create(argv[2], &error);
	} else {
		repo = firn_repo_open(argv[2], &error);
		if (repo != NULL)
			ok = run(argv[1], argc - 3, argv + 3, repo, &error);
	}
	if (error != NULL)
		fprintf(stderr, "%s\n", error->message);
	return ok ? 0 : 1;
}
