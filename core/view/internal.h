#ifndef FIRN_CORE_VIEW_INTERNAL_H
#define FIRN_CORE_VIEW_INTERNAL_H

#include "core/base/error.h"
#include "core/base/keep.h"
#include "core/view/kept.h"
#include "core/view/pack.h"

/*
 * What the files of this folder share.
 *
 * Locks, in the order they are taken: a leaf's `lock` (its bytes), or the view's
 * `flush_lock` (one flush at a time), then the view's `lock` (the tree, the inode table, the session's overlay and
 * journal).  Store I/O happens under a leaf's lock at most, manifest I/O under
 * none.
 */
typedef struct FirnInode FirnInode;
typedef struct FirnDir FirnDir;
typedef struct FirnLeaf FirnLeaf;
typedef struct FirnTree FirnTree;
typedef struct FirnSlot FirnSlot;
typedef struct FirnSpool FirnSpool;

/* A table entry: counted by its place in the tree, the kernel, open handles, children. */
struct FirnInode {
	FirnView *view;
	uint64_t ino;
	uint64_t n_lookup; /* held by the kernel; > 0 counts as one reference */
	int refs;          /* view lock */
	bool directory;
	bool dead;       /* no longer in the tree */
	bool marked;     /* in the view's `marked` */
	bool queued;     /* in the view's `known` */
	bool stays;      /* the kernel has more look-ups of it than were counted: never forgotten */
	bool restored;   /* `n_lookup` is one for all of before the driver died */
	FirnDir *parent; /* referenced; NULL for roots */
	char *name;
	mode_t mode; /* permission bits */
	_Atomic int64_t mtime_ns;
};

struct FirnDir {
	FirnInode inode;
	FirnTree *tree;
	GHashTable *children; /* name -> FirnInode *, linked ones, each holding a reference */
	bool has_node;        /* the directory is a node of the hierarchy */
	bool doc_missing;     /* its zarr.json was removed and not yet written again */
	FirnId8 id;
	FirnMeta *meta; /* with has_node */
	FirnLeaf *doc;  /* its zarr.json, once looked up; referenced */
	bool in_base;   /* the node's id is in the tree's base, as base_index */
	size_t base_index;
	FirnSlot *
		dir_slot; /* arrays in a base: numbers of chunk directories, for the life of this */
	FirnSlot *file_slot; /* ... of chunk files, renewed when a commit changed chunks */
	GHashTable *removed; /* removed.c: "c/0" -> its number (uint64_t *); NULL: none */
	uint64_t n_changes; /* grows with every change of a chunk: look-ups that did I/O check it */
};

typedef enum {
	FIRN_LEAF_DOC,
	FIRN_LEAF_CHUNK,
	FIRN_LEAF_PENDING,
	FIRN_LEAF_SCRATCH,
} FirnLeafKind;

struct FirnLeaf {
	FirnInode inode;
	FirnLeafKind kind; /* view lock */
	FirnDir *array;    /* CHUNK: referenced */
	uint32_t *coords;  /* CHUNK */
	uint32_t rank;     /* CHUNK: number of `coords` */
	uint64_t key; /* what the keep finds its content by: its first number, or one of its own */
	bool kept;    /* its content was put into the keep once */
	bool dropped; /* by a smaller grid: dead, though its name may be known for a moment */
	bool lost;    /* what was written is gone: EIO until it is truncated */
	bool is_lock; /* "*.__lock": goes with its last handle */
	bool transient;  /* a base chunk with no number of its own: in `children` while known */
	uint32_t n_open; /* view lock */
	GArray *retired; /* view lock; FirnPart: what was replaced and may still be read; NULL: none */
	FirnPart *moved;       /* view lock; of the record a rename took back; NULL: none */
	uint32_t n_writers;    /* view lock */
	pid_t writer;          /* the last that opened for writing */
	_Atomic uint64_t size; /* as stat(2) shows it */

	pthread_mutex_t lock;  /* protects all below */
	FirnContent *content;  /* complete bytes; NULL: empty */
	FirnSpool *spool;      /* bytes being written; NULL: `content` is all */
	bool dirty;            /* the spool differs from `content` */
	bool unpublished;      /* `content` is not recorded under the present name */
	FirnContent *previous; /* what `content` replaces, while it is not recorded; NULL: none */
	FirnContent
		*refused; /* a document that was refused: what a writer that goes on had written */
	bool touched;     /* something was written since it was opened or truncated */
};

/* The session's hierarchy, or that of one snapshot. */
struct FirnTree {
	uint64_t number;
	bool session;
	FirnSnapshot *base;
	FirnDir *root; /* NULL while removed */
};

/* A number space for the chunks of one array in one snapshot. */
struct FirnSlot {
	uint32_t number;
	FirnId12 snapshot; /* not held: there is a slot for each commit that changed the array */
	uint64_t flushed_at;
	size_t node_index;
	FirnDir *dir; /* referenced */
	uint32_t rank;
	uint32_t *n_chunks;
	bool retired; /* files have other numbers by now, whatever is in them */
};

typedef enum {
	FIRN_CONTENT_BYTES,
	FIRN_CONTENT_NATIVE,
	FIRN_CONTENT_VIRTUAL
} FirnContentKind;

/* Complete, immutable bytes. */
struct FirnContent {
	int refs; /* atomic */
	FirnView *view;
	FirnContentKind kind;
	uint64_t length;
	GBytes *bytes;
	FirnId12 id;
	uint64_t offset;
	char *location; /* VIRTUAL */
	char *etag;
	uint32_t last_modified;
	bool published;  /* a journal record names the object */
	bool disposable; /* remove the object with the last reference */
	bool used;       /* pack.c knows that it refers to a part of a pack */
};

/* An open file. */
struct FirnFile {
	FirnLeaf *
		leaf; /* NULL: a base chunk with a computed number; set (atomically) if it is edited */
	FirnContent *content;      /* without leaf */
	FirnFile *next, *previous; /* view lock; without leaf: writing.c */
	uint64_t ino;
	pid_t pid; /* who opened it */
	bool writable;
	bool append;
	pthread_mutex_t lock; /* protects all below */
	int fd;               /* of native content that is all of an object; -1: not open */
	FirnId12 fd_id;
	FirnPackFd *pack; /* of native content that is not; NULL: not open */
};

struct FirnView {
	FirnSession *session;
	FirnRepo *repo;
	char *name;
	uid_t uid;
	gid_t gid;
	GPtrArray *virtual_prefixes;
	bool read_only;
	uint32_t inline_threshold;
	FirnPacks *packs;      /* has locks of its own */
	FirnPackFds *pack_fds; /* as above */

	pthread_mutex_t flush_lock; /* held during a flush */
	pthread_mutex_t lock;       /* protects all below */
	pthread_t flusher;
	pthread_cond_t flusher_wake;
	bool flusher_runs;
	bool flusher_stop;
	uint64_t n_journals;    /* grows when the session's journal is replaced */
	_Atomic bool dirty;     /* not all that is recorded is durable; set with the lock held */
	pthread_cond_t changed; /* commit ended, a writer closed */
	GHashTable *inodes;     /* &ino -> FirnInode * */
	GHashTable *writing;    /* FirnLeaf *, by their place: chunks open for writing */
	GHashTable *readers;    /* &ino -> FirnFile *: open files without leaf */
	uint64_t next_ino;
	guint max_known; /* constant; 0: default */
	guint n_known;   /* files the kernel knows */
	GArray *known;   /* prune.c: uint64_t, files the kernel came to know, oldest first */
	FirnTree *tree;  /* the session's */
	GPtrArray
		*old_trees; /* FirnTree *: of before a discard; the kernel may know their inodes */
	GHashTable *snapshots; /* FirnId12 * -> FirnTree * */
	GPtrArray *slots;      /* FirnSlot *; index = number - 1 */
	GArray *group;         /* group.c; NULL: none */
	GHashTable *shared;    /* FirnPart *: named by more than one record */
	uint64_t exported_seq; /* records up to here may be known to others */
	bool committing;
	uint64_t commit_seq;
	uint64_t commit_ino; /* `next_ino` then; 0: before a restart */
	bool intended;       /* records up to intent_seq may have become `intent` */
	FirnId12 intent;
	uint64_t intent_seq;
	uint32_t n_open_files;
	uint64_t n_edited; /* base chunks that were opened for writing, ever */
	FirnViewStats stats;
	FirnKeep *keep;        /* borrowed, constant; NULL: nobody would go on for us */
	GPtrArray *marked;     /* FirnInode *: changed since the last checkpoint */
	GByteArray *batch;     /* other records of the checkpoint to come */
	GByteArray *record;    /* scratch space */
	GByteArray *kept_view; /* what the keep has of the view itself */
	uint64_t next_tree;
	GPtrArray *held; /* FirnInode *: all that were restored, until firn_view_restored() */
	GHashTable *held_leaves; /* &key -> FirnLeaf *: those of them */

	pthread_mutex_t side_lock; /* protects all below; innermost */
	GQueue errors;             /* char * */
	GArray *garbage;           /* FirnPart: to remove */
	GHashTable *unsynced;      /* FirnId12 *: objects recorded since the last sync of all */
	GPtrArray *stale;          /* FirnInvalidation *: not yet handed to the listener */
	FirnViewNotifyFn notify;
	void *notify_data;
	FirnViewKilledFn killed;
	uint64_t n_notes; /* ever */
	uint64_t n_stale; /* ever */
};

/* ---- inode.c: the table and computed numbers ---- */

#define FIRN_INO_COMPUTED (UINT64_C(1) << 63)

uint64_t firn_inode_next(FirnView *view);
void firn_inode_init(FirnView *view, FirnInode *inode, uint64_t ino, bool directory);
FirnInode *firn_inode_ref(FirnInode *inode);
void firn_inode_unref(FirnView *view, FirnInode *inode);
/* The end of the view: everything goes, whoever refers to it. */
void firn_inode_dispose_all(FirnView *view);
FirnInode *firn_inode_find(FirnView *view, uint64_t ino); /* NULL: none; borrowed */
void firn_inode_looked_up(FirnInode *inode);
/* A number of its own, which the kernel does not know yet. */
void firn_inode_renumber(FirnView *view, FirnInode *inode);
/* A look-up that was ours. */
void firn_inode_unlook(FirnView *view, FirnInode *inode);
void firn_inode_link(FirnDir *parent, const char *name, FirnInode *inode);
void firn_inode_unlink(FirnView *view, FirnInode *inode); /* from its parent; marks it dead */
void firn_inode_touch(FirnInode *inode);

FirnDir *firn_dir_new(FirnView *view, FirnTree *tree, FirnDir *parent, const char *name,
		      uint64_t ino);
FirnLeaf *firn_leaf_new(FirnView *view, FirnDir *parent, const char *name, FirnLeafKind kind,
			uint64_t ino);
/* The next file of the table (an iterator of `inodes`) that is not gone; NULL: the end. */
FirnLeaf *firn_leaf_next(GHashTableIter *iter);
/* Who writes it: "/a/c/0 (pid 12)"; NULL: nobody whom a commit waits for.  Caller owns. */
char *firn_leaf_writer(const FirnLeaf *leaf);
/* Path from the hierarchy's root: "/", "/a/b".  Caller owns. */
char *firn_dir_path(const FirnDir *dir);
char *firn_inode_path(const FirnInode *inode);

/* The slots of an array in a base, made on first use; NULL if it has none. */
FirnSlot *firn_slot_of_dirs(FirnView *view, FirnDir *array);
FirnSlot *firn_slot_of_files(FirnView *view, FirnDir *array);
/* The next slot, of a node of `snapshot`. */
FirnSlot *firn_slot_add(FirnView *view, FirnSnapshot *snapshot, size_t node_index, FirnDir *dir);
/* One whose snapshot is gone: its numbers are nobody's. */
FirnSlot *firn_slot_add_lost(FirnView *view, const FirnId12 *snapshot, size_t node_index,
			     FirnDir *dir);
/* The snapshot of a slot.  View lock held; dropped if it must be read.  NULL with `error`; caller owns. */
FirnSnapshot *firn_slot_snapshot(FirnView *view, const FirnSlot *slot, GError **error);
/* 0 if the coordinates have no number in the slot. */
uint64_t firn_slot_ino(const FirnSlot *slot, const uint32_t *coords, uint32_t depth);
/* The slot of a computed number and the coordinates in it; NULL: not one. */
FirnSlot *firn_slot_decode(FirnView *view, uint64_t ino, uint32_t *coords, uint32_t *out_depth);

/* ---- prune.c: how many changed files the kernel remembers ---- */

/* It came to know `inode`: others, that it knew first, may be too many.  View lock held. */
void firn_prune_known(FirnView *view, FirnInode *inode);

/* ---- keep.c: what a successor needs ---- */

/* All of these do nothing without a keep.  View lock held, but for the next two. */
/* The content of a leaf changed.  Leaf lock held. */
void firn_keep_content(FirnLeaf *leaf);
/* Only what is being written to it did. */
void firn_keep_spool(FirnLeaf *leaf);
/* The content changed, and the view's lock is held as well: at the next checkpoint. */
void firn_keep_content_locked(FirnLeaf *leaf);
/* Something of an inode but its content changed. */
void firn_keep_mark(FirnInode *inode);
/* It is about to be freed. */
void firn_keep_gone(FirnInode *inode);
/* Its time was set. */
void firn_keep_mtime(FirnInode *inode);
void firn_keep_change(FirnView *view, const FirnChunkChange *change);
void firn_keep_change_gone(FirnView *view, uint64_t seq);
/* A removed chunk directory (removed.c). */
void firn_keep_removed(FirnView *view, uint64_t number, const FirnDir *array, const char *key);
void firn_keep_removed_gone(FirnView *view, uint64_t number);
/* The overlay is another one. */
void firn_keep_all_changes(FirnView *view);
void firn_keep_slot(FirnView *view, const FirnSlot *slot);
void firn_keep_tree(FirnView *view, const FirnTree *tree, FirnKeptTree role);
/* Commit all that changed. */
void firn_view_checkpoint(FirnView *view);
/* How the view's lock is let go. */
void firn_view_unlock(FirnView *view);

/* ---- tree.c: where things are ---- */

/* A directory, materialised or not. */
typedef struct {
	FirnDir *dir;   /* NULL: a chunk directory nobody touched */
	FirnDir *array; /* set if it lies in the chunk tree of an array */
	uint32_t depth; /* coordinates in `prefix`; 0: the directory "c" */
	uint32_t prefix[FIRN_MAX_RANK];
} FirnPlace;

int firn_place_find(FirnView *view, uint64_t ino, FirnPlace *out_place);
/* The materialised directory of a place (made if need be; borrowed). */
FirnDir *firn_place_materialise(FirnView *view, const FirnPlace *place);
uint64_t firn_place_ino(FirnView *view, const FirnPlace *place);
FirnTree *firn_place_tree(const FirnPlace *place);
/* Path of a place / of a name in it.  Caller owns. */
char *firn_place_path(const FirnPlace *place, const char *name);

/* What a name in a place stands for as a file. */
typedef struct {
	FirnLeafKind kind;
	FirnDir *array; /* CHUNK */
	uint32_t rank;
	uint32_t coords[FIRN_MAX_RANK];
} FirnRole;
/* 0, or EPERM (a Zarr v2 name), ENAMETOOLONG, EINVAL. */
int firn_place_role(FirnView *view, const FirnPlace *place, const char *name, FirnRole *out_role);

/* The child directory or leaf that is a table entry (of a named directory: also from the base). */
FirnInode *firn_tree_child(FirnView *view, FirnPlace *place, const char *name);
/* The leaf of an array's zarr.json, made on first use; NULL: it has none.  Borrowed. */
FirnLeaf *firn_tree_doc(FirnView *view, FirnDir *dir);
/* Whether a base node is still there. */
bool firn_tree_base_alive(FirnView *view, FirnTree *tree, size_t index, FirnSnapshotNode *out_node);
/* Whether the base has a live node below the directory. */
bool firn_tree_has_base_below(FirnView *view, FirnDir *dir);
/* The grid of `array` shrank: what the kernel may know of chunks outside it is stale. */
void firn_tree_forget_outside(FirnView *view, FirnDir *array);
/*
 * A node is replaced by one of another kind or shape: directories below it, nodes and those of chunks, end,
 * and the kernel forgets them.
 */
void firn_tree_end_below(FirnView *view, FirnDir *dir);
/* Bind a directory to the node the base has at its path, if it has one that lives. */
void firn_tree_bind(FirnView *view, FirnDir *dir);
/* Make the directory chain of `path` (absolute) and return its last.  Borrowed. */
FirnDir *firn_tree_make_path(FirnView *view, FirnTree *tree, const char *path);
FirnMeta *firn_tree_base_meta(FirnSnapshot *base, const FirnSnapshotNode *node);
void firn_dir_set_node(FirnDir *dir, const FirnId8 *id, FirnMeta *meta);
bool firn_dir_is_array(const FirnDir *dir); /* also while its document is missing */

/* ---- chunk.c: chunks of an array, changed or of the base ---- */

/* What one look-up found. */
typedef struct {
	bool found;
	bool directory;
	uint64_t length;
	FirnContent *content; /* of a base chunk, if asked for; caller owns */
} FirnChunkLookup;

/* The change recorded for a chunk, or NULL.  View lock held. */
FirnChunkChange *firn_chunk_change(FirnView *view, FirnDir *array, const uint32_t *coords);
/* Whether the start state's chunk at `coords` (n leading ones) is still visible: not shrunk away. */
bool firn_chunk_base_visible(FirnView *view, FirnDir *array, const uint32_t *coords, uint32_t n);
/* One step of a walk over the refs of the node at `index` of a snapshot.  No lock held. */
int firn_chunk_look_up(FirnView *view, FirnSnapshot *base, size_t index, const uint32_t *coords,
		       uint32_t depth, bool want_content, FirnChunkLookup *out);
/*
 * Look up coordinates (`depth` < rank: a directory) of `array` in the base.  View lock held; it is
 * dropped for I/O and taken again, and EAGAIN says the array changed meanwhile.
 */
int firn_chunk_find_base(FirnView *view, FirnDir *array, const uint32_t *coords, uint32_t depth,
			 bool want_content, FirnChunkLookup *out);
/* Whether a live chunk lies below the prefix (view lock dropped for I/O).  0/1, or -errno. */
int firn_chunk_any_below(FirnView *view, FirnDir *array, const uint32_t *prefix, uint32_t depth);
/* Whether a changed, live chunk lies below the prefix.  View lock held. */
bool firn_chunk_any_changed(FirnView *view, FirnDir *array, const uint32_t *prefix, uint32_t depth);
/* The leaf of a changed chunk, made if the table has none.  Borrowed. */
FirnLeaf *firn_chunk_leaf(FirnView *view, FirnDir *array, const uint32_t *coords,
			  FirnChunkChange *change);
/* A leaf for a chunk file, with this number or (0) one of its own.  View lock held. */
FirnLeaf *firn_chunk_leaf_new(FirnView *view, FirnDir *array, const uint32_t *coords, uint64_t ino);
/* Whether another file, or none, has taken the place of a chunk's leaf.  View lock held. */
bool firn_chunk_displaced(FirnView *view, const FirnLeaf *leaf);
/* The replaced objects a leaf held back can go.  View lock held. */
void firn_chunk_release_retired(FirnView *view, FirnLeaf *leaf);
/* Every chunk change of the session, array by array.  View lock held. */
void firn_chunk_each_change(FirnView *view,
			    void (*each)(FirnView *view, FirnChunkChange *change, void *data),
			    void *data);
/* An object the session wrote, and the record and the file it is of. */
typedef struct {
	FirnPart part;
	uint64_t seq;
	uint64_t ino;
} FirnOwnObject;
/* The session's chunks and pending files that are objects (FirnOwnObject, caller owns), and the
 * end of those objects among them that nobody else can know, when the session has dropped them. */
GArray *firn_chunk_own_objects(FirnView *view);
void firn_chunk_retire_objects(FirnView *view, const GArray *own);
/* A leaf's content lost its record, but not the leaf: the object stays.  Leaf and view lock held. */
void firn_chunk_hold_moved(FirnLeaf *leaf);
/* It has its record again. */
void firn_chunk_unretire(FirnLeaf *leaf, const FirnPart *part);
/* An object held that way is not the content of what is recorded now: it can go.  View lock held. */
void firn_chunk_drop_moved(FirnView *view, FirnLeaf *leaf);
/* Record a chunk (content NULL: deleted); journal and overlay.  View lock held. */
int firn_chunk_record(FirnView *view, FirnDir *array, const uint32_t *coords, FirnContent *content,
		      uint64_t ino, int64_t mtime_ns);

/* ---- number.c: what the number of a chunk file stands for ---- */

/* The leaf behind any chunk file's number (computed ones become table entries).  Borrowed. */
int firn_chunk_take_leaf(FirnView *view, uint64_t ino, FirnLeaf **out_leaf);
/* Whether a computed number is that of a chunk that was changed in place. */
bool firn_chunk_is_changed(FirnView *view, uint64_t ino);
/*
 * Whether a computed number still stands for what its name shows: the kernel may
 * ask under the number of before a commit, a rename or a removal.  ESTALE: no.
 * Who is going to write needs the number that the name has now.  View lock held; dropped for I/O.
 */
int firn_chunk_check_number(FirnView *view, uint64_t ino, bool to_write);
/* The content of a base chunk by its computed number (view lock dropped for I/O).  Caller owns. */
int firn_chunk_peek_base(FirnView *view, uint64_t ino, FirnContent **out_content);
/* Whether a number belongs to a read-only hierarchy. */
bool firn_inode_is_snapshot(FirnView *view, uint64_t ino);

/* ---- content.c: bytes ---- */

FirnContent *firn_content_from_ref(FirnView *view, const FirnRef *ref, FirnManifest *manifest,
				   GError **error);
FirnContent *firn_content_from_change(FirnView *view, const FirnChunkChange *change);
FirnContent *firn_content_from_bytes(FirnView *view, GBytes *bytes);
FirnContent *firn_content_ref(FirnContent *content);
void firn_content_unref(FirnContent *content); /* NULL is a no-op */
/* Make what will be a chunk's content an object if it is too long to be inline. */
int firn_content_settle(FirnView *view, FirnContent **content);
void firn_content_to_ref(const FirnContent *content, FirnRef *out_ref);
/* Read up to the end; `file` caches a descriptor (may be NULL). */
int firn_content_read(FirnContent *content, FirnFile *file, void *buffer, size_t size,
		      uint64_t offset, size_t *out_size);
/* Cache it now, so that what is replaced stays readable.  NULL content is a no-op. */
void firn_content_open(FirnContent *content, FirnFile *file);

FirnContent *firn_content_new(FirnView *view, FirnContentKind kind, uint64_t length);
/* The key of a chunk object.  Caller owns. */
char *firn_content_key(const FirnId12 *id);
/* Replace `content` of a leaf, whose lock is held (takes the reference). */
void firn_leaf_set_content(FirnLeaf *leaf, FirnContent *content);

/* ---- spool.c: bytes being written; leaf lock held for all of these ---- */

int firn_leaf_read(FirnView *view, FirnLeaf *leaf, FirnFile *file, void *buffer, size_t size,
		   uint64_t offset, size_t *out_size);
int firn_leaf_write(FirnView *view, FirnLeaf *leaf, const void *data, size_t size, uint64_t offset);
int firn_leaf_truncate(FirnView *view, FirnLeaf *leaf, uint64_t size);
/* Turn what was spooled into `content` (NULL if empty), for a file that is to be of this kind. */
int firn_leaf_complete(FirnView *view, FirnLeaf *leaf, FirnLeafKind kind);
void firn_leaf_drop_spool(FirnLeaf *leaf);
bool firn_leaf_is_in_memory(const FirnLeaf *leaf); /* what is being written */
/* What the keep has of a spool (NULL: none). */
void firn_spool_keep(const FirnSpool *spool, GByteArray *out);
/* What that says, taken up again (NULL: there was none).  False: it is gone. */
bool firn_spool_restore(FirnView *view, FirnKeepReader *reader, FirnSpool **out_spool);
/* What the keep has of a content; NULL: none.  Caller owns. */
FirnContent *firn_content_restore(FirnView *view, FirnKeepReader *reader);

/* ---- commit.c ---- */

/*
 * A commit whose end the mount was not told, or could not follow: follow it if it was made.
 * No lock held but a leaf's.
 */
bool firn_view_settle_intent(FirnView *view, GError **error);

/* ---- move.c: onto a new snapshot ---- */

/* Records up to `seq` are in `to`; `log`: of the one commit between, NULL if there are more.
 * What the kernel must forget is queued.  View lock held. */
bool firn_view_move_to(FirnView *view, FirnSnapshot *to, uint64_t seq, FirnTxlog *log,
		       GError **error);

/* ---- flush.c: durability ---- */

/* A new object that a record names.  View lock held or not. */
void firn_view_unsynced(FirnView *view, const FirnId12 *object);
/* The journal was replaced by an empty one: nothing needs syncing.  View lock held. */
void firn_view_forget_unsynced(FirnView *view);
/* Something was appended to the journal: within about a second it is durable.  View lock held. */
void firn_view_recorded(FirnView *view);
void firn_view_flusher_init(FirnView *view);
void firn_view_flusher_end(FirnView *view);
/* What a driver that died had not made durable yet. */
void firn_view_find_unsynced(FirnView *view);

/* ---- node.c: documents ---- */

/* Parse a document; notes and returns EINVAL if it is refused.  No lock needed.  Caller owns. */
int firn_node_parse(FirnView *view, const char *path, FirnContent *content, FirnMeta **out_meta);
/*
 * Whether bytes are not even an attempt at a document (no object, or nothing):
 * where there is no node yet, they are kept as a pending file, as any store keeps
 * any bytes, and a commit refuses them.
 */
bool firn_node_is_foreign(const FirnContent *content);
/*
 * Make `meta` the document of `dir`: journal, overlay, pending files adopted.  View lock held; it is
 * dropped while a commit holds documents back, and for I/O.  EINVAL with a note if refused.
 */
int firn_node_put(FirnView *view, FirnDir *dir, FirnMeta *meta);
/* The zarr.json of `dir` is gone; the node waits for another, or for the directory's end. */
void firn_node_doc_gone(FirnView *view, FirnDir *dir);
/* The directory is gone: so is its node.  EINTR if the caller was killed meanwhile. */
int firn_node_delete(FirnView *view, FirnDir *dir);
/* Wait while a commit holds documents back.  View lock held; it is dropped meanwhile. */
void firn_node_wait(FirnView *view);
/* The same before anything is done for a caller: EINTR if that was killed meanwhile. */
int firn_node_wait_killable(FirnView *view) FIRN_MUST_USE;
/* Whether every node of the tree below `dir` was made by this session alone. */
bool firn_node_movable(FirnView *view, FirnDir *dir);
/* Record the new paths of everything below `dir`, which was moved there. */
int firn_node_move_tree(FirnView *view, FirnDir *dir);
/* Record documents that were removed and not written again as deletions.  View lock held. */
int firn_node_settle(FirnView *view, GPtrArray *homeless);

/* ---- publish.c: where a leaf's bytes belong ---- */

/* Publish what was written to a leaf under its present name.  Leaf lock held, view lock not. */
int firn_leaf_publish(FirnView *view, FirnLeaf *leaf, bool last);
/*
 * The last writer is gone, and what it wrote could not be published: what was there before is
 * there again.  Leaf lock held, view lock not.
 */
void firn_leaf_revert(FirnView *view, FirnLeaf *leaf);
/*
 * Put `leaf` (complete, its lock held) at a name, record it, and take what was
 * there away.  View lock held.  `meta`: the parsed document if the role is DOC.
 */
int firn_leaf_attach(FirnView *view, FirnLeaf *leaf, const FirnPlace *place, const char *name,
		     const FirnRole *role, FirnMeta *meta);
/* Take a leaf from where it is, and record that; `dead`: for good.  View lock held. */
int firn_leaf_detach(FirnView *view, FirnLeaf *leaf, bool dead);
/* The path of a pending leaf's record.  Caller owns. */
char *firn_leaf_pending_path(const FirnLeaf *leaf);
/* Make a pending leaf (NULL: not in the table) the chunk its recorded content now is. */
int firn_leaf_adopt(FirnView *view, FirnDir *array, const char *path, const uint32_t *coords);

/* ---- removed.c: chunk directories of the base that were removed.  View lock held ---- */

bool firn_place_removed(const FirnPlace *child);
void firn_place_set_removed(const FirnPlace *child, bool removed);
/* Those removed before the number `before` was given are there again, or gone with the base they were in. */
void firn_dir_forget_removed(FirnDir *array, uint64_t before);
/* One a predecessor knew, by its number in what is kept (takes `key`). */
void firn_dir_restore_removed(FirnDir *array, uint64_t number, char *key);

/* ---- name.c ---- */

/* The chunk directory, or the chunk (`out_file`), a name in a place stands for; false: neither. */
bool firn_place_child(const FirnPlace *place, const char *name, FirnPlace *out_child,
		      bool *out_file);
int firn_place_writable(FirnView *view, const FirnPlace *place);
/* Whether a table entry appears in listings, and keeps its directory from being removed. */
bool firn_leaf_is_listed(const FirnInode *inode);
/* Drop the scratch files of a directory that is removed. */
void firn_dir_drop_scratch(FirnView *view, FirnDir *dir);

/* ---- file.c ---- */

/* Open a leaf that is there / a chunk as the base has it.  No lock held. */
int firn_view_open_leaf(FirnView *view, FirnLeaf *leaf, int flags, pid_t pid, FirnFile **out_file);
int firn_view_open_base(FirnView *view, uint64_t ino, FirnFile **out_file);

/* ---- attr.c ---- */

void firn_attr_of_inode(FirnView *view, FirnInode *inode, struct stat *out);
void firn_attr_of_base(FirnView *view, FirnTree *tree, uint64_t ino, bool directory, uint64_t size,
		       struct stat *out);

/* ---- view.c ---- */

/* Queue something the kernel must forget (`name` NULL: the inode).  View lock held or not. */
void firn_view_invalidate(FirnView *view, uint64_t ino, const char *name);
/* What is queued (caller owns). */
GPtrArray *firn_view_take_stale(FirnView *view);
/* A view without a tree. */
FirnView *firn_view_alloc(FirnSession *session, const FirnViewOptions *options);
/* Build the session's tree from its base and overlay. */
void firn_view_build(FirnView *view);
/* Hand what was queued to the listener.  No lock held. */
void firn_view_notify(FirnView *view);
/* Note `error` and free it; its errno. */
int firn_view_fail(FirnView *view, const char *path, GError *error); /* note; frees; errno */

#endif
