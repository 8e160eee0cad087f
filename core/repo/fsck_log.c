#include "core/base/error.h"
#include "core/repo/fsck_priv.h"
#include "core/repo/repo_internal.h"

#define RESTORE_LOG                                                                            \
	"restore the object from a copy; only firn diff and --rebase across this commit need " \
	"it"

typedef struct {
	FirnFsck *f;
	const FirnTxlog *log;
	const FirnSnapshot *snapshot;
	FirnFsckAbout about;
} Check;

/* Deleted again by a later part of an amended commit. */
static bool
is_deleted(const Check *check, const FirnId8 *id)
{
	return firn_txlog_has_id(check->log, FIRN_TXLOG_DELETED_GROUPS, id) ||
	       firn_txlog_has_id(check->log, FIRN_TXLOG_DELETED_ARRAYS, id);
}

static void
find_node(Check *check, const FirnId8 *id, const char *what)
{
	char text[FIRN_ID8_TEXT + 1];

	firn_id8_format(id, text);
	firn_fsck_find(check->f, &check->about, "node %s %s", text, what);
}

static void
check_lists(Check *check)
{
	static const struct {
		FirnTxlogList list;
		FirnNodeKind kind;
		bool there;
	} lists[] = {
		{ FIRN_TXLOG_NEW_GROUPS, FIRN_NODE_GROUP, true },
		{ FIRN_TXLOG_NEW_ARRAYS, FIRN_NODE_ARRAY, true },
		{ FIRN_TXLOG_UPDATED_GROUPS, FIRN_NODE_GROUP, true },
		{ FIRN_TXLOG_UPDATED_ARRAYS, FIRN_NODE_ARRAY, true },
		{ FIRN_TXLOG_DELETED_GROUPS, FIRN_NODE_GROUP, false },
		{ FIRN_TXLOG_DELETED_ARRAYS, FIRN_NODE_ARRAY, false },
	};

	for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
		size_t n;
		const FirnId8 *ids = firn_txlog_ids(check->log, lists[l].list, &n);

		for (size_t i = 0; i < n; i++) {
			FirnSnapshotNode node;
			size_t at;
			bool there = firn_snapshot_find_id(check->snapshot, &ids[i], &at);

			if (there != lists[l].there && (there || !is_deleted(check, &ids[i])))
				find_node(check, &ids[i],
					  there ? "is deleted, but the snapshot has it"
						: "is new or updated, but the snapshot has none");
			if (!there || !lists[l].there)
				continue;
			firn_snapshot_node(check->snapshot, at, &node);
			if (node.kind != lists[l].kind)
				find_node(check, &ids[i], "is of another kind in the snapshot");
		}
	}
}

static void
check_array(Check *check, size_t index)
{
	FirnSnapshotNode node;
	FirnId8 id;
	size_t n, at;

	firn_txlog_array(check->log, index, &id, &n);
	if (!firn_snapshot_find_id(check->snapshot, &id, &at)) {
		if (!is_deleted(check, &id))
			find_node(check, &id,
				  "has changed chunks, but the snapshot has no such node");
		return;
	}
	firn_snapshot_node(check->snapshot, at, &node);
	if (node.kind != FIRN_NODE_ARRAY) {
		find_node(check, &id, "has changed chunks, but is a group");
		return;
	}
	/* Whoever gives an array another rank may have changed chunks before. */
	if (firn_txlog_has_id(check->log, FIRN_TXLOG_UPDATED_ARRAYS, &id))
		return;
	for (size_t i = 0; i < n; i++) {
		uint32_t rank;

		(void)firn_txlog_chunk(check->log, index, i, &rank);
		if (rank != node.rank) {
			find_node(check, &id, "has changed chunks of another rank");
			return;
		}
	}
}

static void
check_content(Check *check)
{
	check_lists(check);
	for (size_t i = 0; i < firn_txlog_n_arrays(check->log); i++)
		check_array(check, i);
	for (size_t i = 0; i < firn_txlog_n_moves(check->log); i++) {
		FirnMove move;
		size_t at;

		firn_txlog_move(check->log, i, &move);
		if (!firn_snapshot_find_id(check->snapshot, &move.node, &at) &&
		    !is_deleted(check, &move.node))
			find_node(check, &move.node, "was moved, but the snapshot has none");
	}
}

/* A repository of version 1 has none for its first snapshot. */
static bool
may_be_absent(const FirnFsck *f, const FirnId12 *id, const FirnSnapshot *snapshot)
{
	return firn_id12_equal(id, &firn_id_initial_snapshot) &&
	       (f->spec_version == 1 || snapshot == NULL ||
		firn_snapshot_spec_version(snapshot) == 1);
}

void
firn_fsck_log(FirnFsck *f, const FirnId12 *id, const FirnSnapshot *snapshot, const char *label)
{
	g_autofree char *key = firn_repo_key("transactions", id);
	Check check = { .f = f,
			.snapshot = snapshot,
			.about = { "damaged", key, label, RESTORE_LOG } };
	g_autoptr(GBytes) file = NULL;
	g_autoptr(FirnTxlog) log = NULL;
	g_autoptr(GError) error = NULL;
	bool exists = true;

	if (may_be_absent(f, id, snapshot) &&
	    firn_store_stat(f->store, key, &exists, NULL, NULL, NULL) && !exists)
		return;
	file = firn_fsck_fetch(f, &check.about);
	if (file == NULL)
		return;
	firn_fsck_count(f, &f->report->n_logs, 1);
	log = firn_txlog_open(file, &error);
	if (log == NULL) {
		firn_fsck_find(f, &check.about, "%s", error->message);
		return;
	}
	check.about.kind = "mismatch";
	check.log = log;
	if (!firn_id12_equal(firn_txlog_id(log), id))
		firn_fsck_find(f, &check.about,
			       "it holds another transaction log than its name says");
	else if (snapshot != NULL)
		check_content(&check);
}
