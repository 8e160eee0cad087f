#ifndef FIRN_CORE_REPO_MERGE_PRIV_H
#define FIRN_CORE_REPO_MERGE_PRIV_H

#include "core/repo/conflict.h"

/*
 * The parts of a merge, shared by its files only:
 *
 *   merge.c         what is given, lineage, the outcome
 *   merge_copies.c  sessions that are given more than once
 *   merge_nodes.c   what becomes of each node
 *   merge_above.c   whether what is above a new node is what its maker saw
 *   merge_chunks.c  what becomes of its chunks
 *   merge_grid.c    whether a chunk has a place in what its array became
 *   merge_pending.c files without a place, and those that get one from another party
 *   merge_place.c   which place that is
 *
 * A party is one section taking part.  Parties are sorted by session, so that
 * nothing depends on the order in which they were given.
 */
typedef struct {
	unsigned party; /* an ancestor's index */
	uint64_t seq;   /* it saw this one's records up to here */
} FirnMergeSeen;

typedef struct {
	FirnSection *section; /* borrowed from its source */
	FirnSource *source;   /* borrowed */
	char *name;           /* for messages */
	unsigned given;       /* position among all sections as given, for `favor` */
	bool along;           /* its source has another one that was forked from it */
	GArray *seen;         /* FirnMergeSeen: ancestors that are parties */
	GPtrArray *parents;   /* FirnSection *: what its fork started from; NULL: not read */
} FirnMergeParty;

/* What one party did to one node. */
typedef struct {
	unsigned party;
	FirnNodeChange *change; /* borrowed from the party's section */
} FirnMergeTouch;

typedef struct FirnMergeNode {
	FirnId8 id;
	GArray *touches; /* FirnMergeTouch, by party (and then id, where nodes were unified) */
	bool in_base;
	size_t base_index;
	int creator; /* party, -1: in the base */
	uint64_t created_seq;
	/* What becomes of it. */
	int winner; /* touch whose document (or delete) counts, -1: the base's */
	bool live;
	char *path;                 /* borrowed from a touch */
	FirnMeta *meta;             /* live: its document, owned; NULL: the base's, not parsed */
	struct FirnMergeNode *same; /* unified with this one; NULL: it stands for itself */
} FirnMergeNode;

typedef struct {
	FirnRepo *repo;
	FirnSnapshot *base;
	FirnFavor favor;
	GArray *parties;   /* FirnMergeParty */
	GHashTable *nodes; /* id -> FirnMergeNode, owned */
	GPtrArray *order;  /* FirnMergeNode *, by path, then id */
	GHashTable *live;  /* path -> FirnMergeNode */
	int *slots;        /* scratch, one a party, -1 when not in use */
	GPtrArray *files;  /* FirnPending *: that count, borrowed */
	FirnConflicts conflicts;
	uint64_t n_settled;
	/* Where chunks go: the outcome, or NULL: losers are taken out of their sections. */
	FirnChanges *out;
} FirnMerging;

static inline FirnMergeParty *
firn_merge_party(const FirnMerging *m, unsigned party)
{
	return &g_array_index(m->parties, FirnMergeParty, party);
}

static inline FirnMergeTouch *
firn_merge_touch(const FirnMergeNode *node, guint i)
{
	return &g_array_index(node->touches, FirnMergeTouch, i);
}

/* How much of `x` party `y` saw: 0 if nothing; everything of itself. */
uint64_t firn_merge_seen(const FirnMerging *m, unsigned x, unsigned y);
/* Whether record `seq` of `x` happened before all that `y` did. */
bool firn_merge_before(const FirnMerging *m, unsigned x, uint64_t seq, unsigned y);

extern const char firn_merge_base_name[];
/* Report what is not about a chunk. */
void firn_merge_clash(FirnMerging *m, FirnConflictKind kind, const char *path, const char *first,
		      const char *second);
/* Who made a node. */
const char *firn_merge_creator_name(const FirnMerging *m, const FirnMergeNode *node);
/* Whether a party can have seen a node. */
bool firn_merge_knows(const FirnMerging *m, const FirnMergeNode *node, unsigned party);
/* What a fork started from (FirnSection *); an empty array if that cannot be read. */
const GPtrArray *firn_merge_parents(const FirnMerging *m, FirnMergeParty *party);
/* What a party began with as the node's document; NULL: the base's.  `*out_known` false: that may be older. */
const FirnNodeChange *firn_merge_seen_document(const FirnMerging *m, const FirnMergeNode *node,
					       unsigned y, bool *out_known);
/* The kind of a live node. */
FirnNodeKind firn_merge_node_kind(const FirnMerging *m, const FirnMergeNode *node);

/* What one party kept of an array when it shrank it, whatever it became then. */
typedef struct {
	unsigned party;
	uint64_t seq; /* of its document */
	const uint32_t *keep;
	uint32_t rank;
	const uint32_t *from; /* the array's grid when the party began */
	uint32_t from_rank;
} FirnMergeKeep;

/* To the chunks of another party: those that `by` saw, up to `seen`, outside of `keep` are gone. */
typedef struct {
	const FirnMergeKeep *by;
	uint64_t seen;
	const uint32_t *keep;
	uint32_t rank;
	uint32_t known_rank;
	const uint32_t *known; /* what the other party knew to be kept when it began; NULL: all */
} FirnMergeShrink;

/* The chunks one party changed. */
typedef struct {
	unsigned party;
	FirnNodeChange *change;
	uint64_t own_seq;    /* of its own document, 0: none */
	bool other_geometry; /* written under another geometry than the final one */
	GArray *shrinks;     /* FirnMergeShrink, by others */
	FirnChunkIter iter;
	const uint32_t *coords; /* the one in turn */
	FirnChunkChange *chunk; /* NULL: it is the first of a folded leaf of which all take part */
	const uint32_t *last;   /* then: of that leaf */
} FirnMergeSource;

/* One node being settled. */
typedef struct {
	FirnMerging *m;
	FirnMergeNode *node;
	uint32_t rank;
	uint32_t grid[FIRN_MAX_RANK]; /* final chunks along each axis */
	uint32_t base_rank;
	uint32_t base_grid[FIRN_MAX_RANK]; /* all 0 if the node is new */
	const char *winner_name;
	GArray *keeps;   /* FirnMergeKeep */
	GArray *sources; /* FirnMergeSource */
	guint *heap;     /* indices of sources, the least coordinates first */
	guint n_heap;
	GArray *touchers;  /* indices of sources */
	FirnChunkMap *map; /* outcome; NULL: none wanted */
} FirnMergeSettling;

static inline FirnMergeSource *
firn_merge_source(const FirnMergeSettling *s, guint i)
{
	return &g_array_index(s->sources, FirnMergeSource, i);
}

static inline const char *
firn_merge_source_name(const FirnMergeSettling *s, const FirnMergeSource *source)
{
	return firn_merge_party(s->m, source->party)->name;
}

/* Of equal content, always the same ref, whatever order the sources have. */
bool firn_merge_goes_first(const FirnChunkChange *a, const FirnChunkChange *b);
/* Report a chunk of the node. */
void firn_merge_clash_chunk(const FirnMergeSettling *s, FirnConflictKind kind,
			    const uint32_t *coords, uint32_t rank, const char *first,
			    const char *second);
/* Fill the grids of `s`. */
void firn_merge_init_grids(FirnMergeSettling *s);
/* Make `s->keeps` and `s->sources` (caller owns): the parties that changed chunks of the node, which give them
 * up if there is an outcome. */
void firn_merge_add_sources(FirnMergeSettling *s);
/* Whether the chunk in turn takes part; if not, it is gone with a shrink, or was reported. */
bool firn_merge_takes_part(const FirnMergeSettling *s, const FirnMergeSource *source);
/* Step to the next chunk that takes part; false at the end. */
bool firn_merge_source_next(const FirnMergeSettling *s, FirnMergeSource *source);
/* Read the chunk in turn, if it is folded; false: that cannot be done, there is none any more. */
bool firn_merge_source_open(FirnMergeSource *source) FIRN_MUST_USE;

/* A place in an array of the outcome. */
typedef struct {
	FirnId8 id;
	uint32_t rank;
	uint32_t grid[FIRN_MAX_RANK];
	uint32_t coords[FIRN_MAX_RANK];
} FirnMergePlace;
/* The place a file's name says, if it is in the grid of an array of the outcome; returns the array's
 * path (caller owns), NULL: there is none. */
char *firn_merge_find_place(const FirnMerging *m, const char *path, FirnMergePlace *out_place);
/* Put a file to the outcome as the chunk at its place; false: it has none, or is empty, or there is
 * another one already. */
bool firn_merge_adopt(FirnMerging *m, const FirnPending *pending);

/* Let go of copies of sessions that came along with others, from their sources too.  False with
 * `error`: a session is given twice otherwise, or differently. */
bool firn_merge_drop_copies(FirnMerging *m, GError **error) FIRN_MUST_USE;
/* Fill `nodes`, `order` and `live`.  False with `error`: a journal that cannot be. */
bool firn_merge_nodes(FirnMerging *m, GError **error) FIRN_MUST_USE;
/* Report new nodes below what another party took away, or made an array. */
void firn_merge_check_above(FirnMerging *m);
/* Settle pending files, among themselves and with chunks, which are in the sections still. */
bool firn_merge_pending(FirnMerging *m, GError **error) FIRN_MUST_USE;
/* Settle the chunks of all nodes. */
bool firn_merge_chunks(FirnMerging *m, GError **error) FIRN_MUST_USE;
/* Put the pending files that count to the outcome, if there is one: as chunks, where they have a place. */
bool firn_merge_put_pending(FirnMerging *m, GError **error) FIRN_MUST_USE;

#endif
