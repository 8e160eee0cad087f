#ifndef FIRN_CORE_VIEW_KEPT_H
#define FIRN_CORE_VIEW_KEPT_H

/* What a view leaves for a successor: keep.c writes it, restore*.c reads it. */

/* Kinds of records, and what they are found by. */
enum {
	FIRN_KEPT_VIEW = 1, /* 0 */
	FIRN_KEPT_TREE,     /* its number */
	FIRN_KEPT_SLOT,     /* its number */
	FIRN_KEPT_INODE,    /* inode number */
	FIRN_KEPT_CONTENT,  /* key of a leaf */
	FIRN_KEPT_SPOOL,    /* key of a leaf */
	FIRN_KEPT_MTIME,    /* key of a leaf */
	FIRN_KEPT_CHANGE,   /* sequence number of the record of a changed chunk */
	FIRN_KEPT_ERROR,    /* count, modulo how many are kept */
	FIRN_KEPT_STALE,    /* count */
	FIRN_KEPT_REMOVED,  /* its number */
};

typedef enum {
	FIRN_KEPT_TREE_CURRENT,
	FIRN_KEPT_TREE_OLD,
	FIRN_KEPT_TREE_SNAPSHOT,
} FirnKeptTree;

/* In place of a FirnContentKind. */
#define FIRN_KEPT_NO_CONTENT 100u

/* What holds of an inode. */
#define FIRN_KEPT_IS_DIR       1u
#define FIRN_KEPT_IS_DEAD      2u
#define FIRN_KEPT_IS_KNOWN     4u
#define FIRN_KEPT_IS_LINKED    8u
#define FIRN_KEPT_HAS_NODE     16u
#define FIRN_KEPT_DOC_MISSING  32u
#define FIRN_KEPT_IN_BASE      64u
#define FIRN_KEPT_IS_LOCK      128u
#define FIRN_KEPT_IS_TRANSIENT 256u
#define FIRN_KEPT_IS_DOC       512u

#endif
