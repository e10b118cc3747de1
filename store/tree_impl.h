/* tree_impl.h - what the tree's own files share: tree.c (reading, forgetting, freezing),
 * tree_apply.c (changing), tree_write.c (writing), tree_view.c (moments) and tree_search.c (what
 * lies where). Nobody else includes it. */
#ifndef CUBBY_TREE_IMPL_H
#define CUBBY_TREE_IMPL_H

#include "locks.h"
#include "tree.h"

/* The right-hand bound of a node: no key below it is as great. */
struct bound {
	bool none;			/* it is the last one */
	uint32_t size;
	uint8_t key[NODE_KEY_MAX];
};

struct root {
	struct node *node;		/* NULL: not in memory */
	struct ref ref;			/* counts if node is NULL; length 0: an empty tree */
};

struct tree_view {
	struct root root;		/* guarded by tree->lock, as all that follows */
	struct bound hand;		/* of the clock, as the tree's own */
	uint64_t generation;		/* immutable */
	uint64_t entries;		/* immutable */
	struct tree_view *older, *newer;	/* in order of generations */
};

/* Bytes of the page file that were written, somewhere between two offsets. */
struct stretch {
	uint64_t from, to;
	uint64_t bytes;
};

enum {
	UNFLUSHED_MAX = 96,
	SCANNED_MAX = 16,
	MET_MAX = 8,
};

struct tree {
	struct pages *pages;
	struct space *space;
	struct rwlock lock;		/* guards everything below, and the nodes (node.h) */
	struct root root;
	uint64_t generation;
	uint64_t born;			/* only tree_write's; blocks up to this generation are known
					 * to the free map */
	uint64_t entries;
	uint64_t memory;
	uint64_t dirty_memory;		/* of nodes that are not on disk */
	uint64_t dirty_inner;		/* ... of those, inner ones */
	uint64_t dirty_units;
	uint64_t early;			/* leaves written early */
	uint64_t visit;			/* number of the latest prepare() */
	struct node *met[MET_MAX];	/* the leaves that it met for the first operations, ... */
	bool reshaped;			/* ... unless keys may belong elsewhere since */
	uint64_t cache;			/* immutable; bytes of memory to keep to, 0: no bound */
	uint64_t tried;			/* memory up to which nothing is forgotten; 0: not known */
	struct bound hand;		/* of the clock: it goes on from here */
	struct tree_view *newest;
	struct tree_view *turned;	/* where the clock was turned last; NULL: the tree itself */
	struct bound scanned[SCANNED_MAX];	/* keys of leaves that scans brought in; size 0:
						 * none */
	unsigned scanned_next;		/* the oldest of them, which gives way to the next */
	uint32_t warming;		/* batches that need what they brought in to stay */
	bool places;			/* an entry without a place for its leaf is refused */
	struct node **pool;		/* set aside, of NODE_BYTES */
	size_t pool_count, pool_capacity;
	struct node **large;		/* for entries too large for those, in their order */
	size_t large_count, large_capacity, large_taken;

	struct mutex relief;		/* outside of `lock`; guards the rest: */
	uint8_t *relief_buffer;
	uint64_t relief_capacity;
	struct stretch relief_written;	/* early, and not given to the disk yet; so are ... */
	struct stretch unflushed[UNFLUSHED_MAX];	/* ... these, oldest first */
	uint32_t unflushed_count;
};

/* Counts a node's memory, and if it is not on disk its units, as there or no longer there. */
void tree_account(struct tree *tree, const struct node *node, bool there) NEEDS(tree->lock);
void tree_account_dirty(struct tree *tree, const struct node *node, bool dirty) NEEDS(tree->lock);

/* Units that its block needs, at most. */
uint64_t tree_node_units(const struct node *node);

/* Gives back the place on disk that is held for a node that was never written; or frees that node,
 * too. */
void tree_drop_place(struct tree *tree, struct node *node);
void tree_node_free(struct tree *tree, struct node *node);

/* Gives up one reference; the last one frees the node, and those below that nobody else has. */
void tree_unref(struct tree *tree, struct node *node) NEEDS(tree->lock);

/* The clock's hand is told that the node is in use. */
static inline void tree_use(struct node *node)
{
	if (!__atomic_load_n(&node->recent, __ATOMIC_RELAXED))
		__atomic_store_n(&node->recent, 1, __ATOMIC_RELAXED);
}

/* Where a search had to stop: at a node that is only on disk. */
struct miss {
	struct ref ref;
	uint8_t level;
};

/* Narrows the bound of a node to that of its child, unless it is the last. `bound` may be NULL. */
void tree_set_bound(struct bound *bound, const struct node *inner, uint32_t index);

/* Whoever came for the leaf, and not just on his way along all of them. */
static inline void tree_use_leaf(struct node *leaf)
{
	tree_use(leaf);
	if (__atomic_load_n(&leaf->scanned, __ATOMIC_RELAXED))
		__atomic_store_n(&leaf->scanned, 0, __ATOMIC_RELAXED);
}

/* Finds the leaf where `key` belongs (*leaf is NULL in an empty tree) and, unless NULL, its
 * bound. -EAGAIN: *miss has to be read first. */
int tree_find_leaf(const struct root *root, struct slice key, struct node **leaf,
		   struct bound *bound, struct miss *miss);

/* Brings in the node that a search for `key` missed. 0: search again. */
int tree_fetch(struct tree *tree, struct root *root, struct slice key, const struct miss *miss,
	       struct err *err) WITHOUT(tree->lock);

/* tree_get and tree_scan for any root. */
int tree_root_get(struct tree *tree, struct root *root, struct slice key,
		  int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		  struct err *err) WITHOUT(tree->lock);
int tree_root_scan(struct tree *tree, struct root *root, struct slice from,
		   int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		   struct err *err) WITHOUT(tree->lock);

/* Writes what is not on disk yet at `root`, which only views of that generation or older reach. */
int tree_write_view(struct tree *tree, struct node *root, uint64_t generation)
	WITHOUT(tree->lock);

/* Is more in memory than should be? Then the clock's hand may be turned. */
bool tree_over(const struct tree *tree);

/* Turns it a little: forgets what is on disk and was not used since it came by last. Leaves of
 * which that could be said if they were on disk go to `cold`, `max` at most; returns how many. */
uint32_t tree_turn(struct tree *tree, struct node **cold, uint32_t max) NEEDS(tree->lock);

/* Forgets this leaf, if it can be. */
void tree_forget_leaf(struct tree *tree, const struct node *leaf) NEEDS(tree->lock);

/* Writes leaves early, and forgets them, until no more is in memory than should be, or the hand has
 * come to the end of the tree so often: at its first coming it only finds out what is in use. What
 * cannot be written stays: the checkpoint will say why. */
void tree_relieve(struct tree *tree, int rounds) WITHOUT(tree->lock);

/* Frees what was set aside for changes; for tree_close. */
void tree_drop_pool(struct tree *tree) NEEDS(tree->lock);

#endif
