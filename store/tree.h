/* tree.h - a copy-on-write B+tree of bytes to bytes, in memory as far as it was touched.
 *
 * The tree has a generation. A node of an older generation is never changed: it is copied first.
 * So freezing the tree is one step, and what is frozen can be written to disk while the tree goes
 * on changing. A leaf's value may carry a run (see engine.h), which the tree reports born when it
 * is put and dead when it is deleted or replaced, as it does with its own blocks (space.h).
 *
 * One lock guards the tree, held for microseconds; disk reads happen outside it. Any thread may
 * call anything; tree_freeze, tree_write and tree_thaw come from one thread at a time.
 * Errors are those of engine.h; *err (which may be NULL) gets the sentence.
 */
#ifndef CUBBY_TREE_H
#define CUBBY_TREE_H

#include <stdint.h>

#include "batch.h"
#include "bytes.h"
#include "err.h"
#include "node.h"
#include "page.h"
#include "space.h"

struct tree;

/* Opens the tree that `super` names; reads nothing. `pages` and `space` are lent for as long as
 * it lives. `cache` is how many bytes of nodes it keeps in memory, 0: as many as there are. If
 * they are more, what is on disk is forgotten, and leaves that are not are written early, to free
 * space. Inner nodes wait for a checkpoint: whoever lets dirty_inner (below) grow lets memory grow.
 * Gives *out. */
int tree_open(struct pages *pages, struct space *space, const struct super *super,
	      uint64_t cache, struct tree **out);

/* Accepts NULL. Frozen roots must have been released. */
void tree_close(struct tree *tree);

/* Calls visit (under the tree's read lock) with the entry at `key`, and returns what it says.
 * -ENOENT: there is none. */
int tree_get(struct tree *tree, struct slice key,
	     int (*visit)(void *arg, const struct leaf_entry *entry), void *arg, struct err *err);

/* Calls visit (likewise) for each entry from `from` on, in order, until the end or a non-zero
 * answer, which it returns. Between leaves the lock is given up. */
int tree_scan(struct tree *tree, struct slice from,
	      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
	      struct err *err);

/* Recovery is over: from now on tree_apply keeps its promise about large entries. (Before, what was
 * admitted once is applied in any case.) */
void tree_replayed(struct tree *tree);

/* Applies a batch, whole or not at all. -EINVAL: a patch of what is not there, or that begins
 * behind a value's end. Once the memory is at hand and nothing can fail any more,
 * `admit` is asked, under the lock: the answer 0 means go, and whatever it did (appending to the
 * log) is in the order in which batches are applied. `units` is what the next tree_write may
 * need, at most, beside the places of entries over 16 KiB: they need many units in a row, which
 * are held from here on. -ENOSPC, without asking: there is none for one of them. */
int tree_apply(struct tree *tree, struct slice batch, int (*admit)(void *arg, uint64_t units),
	       void *arg, struct err *err);

/* For `admit` only, and for a key of the batch: calls visit with the entry that the tree has there
 * before the batch, and returns what it says. -ENOENT: there is none. */
int tree_peek(struct tree *tree, struct slice key,
	      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg);

/* Looks for what lies behind some place in the page file, leaf by leaf. All zeros but for the first
 * three: it begins at the first leaf. */
struct tree_search {
	uint64_t limit;		/* what lies wholly before this offset is not looked for, ... */
	uint64_t floor;		/* ... nor what was born in this generation or before */
	bool runs;		/* runs are looked for, too: then every leaf is read */
	bool left_out;		/* set if something was born too early */
	bool ended;		/* set behind the last leaf */
	uint32_t next_size, found_size;
	uint8_t next[NODE_KEY_MAX];	/* it goes on with the leaf where this key belongs */
	uint8_t found[NODE_KEY_MAX];	/* the first key of the leaf just looked at; size 0: it, and
					 * the nodes above it, lie before the limit */
};

/* Looks at the next leaf, or passes it by: visits each of its entries whose run lies behind the
 * limit, under the tree's read lock, until an answer is not 0, and returns that; then the search
 * does not go on. */
int tree_search(struct tree *tree, struct tree_search *search,
		int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		struct err *err);

/* A moment of the tree. */
struct frozen {
	struct node *root;	/* NULL: empty, or only on disk */
	struct ref ref;		/* after tree_write: where the root lies; length 0: empty */
	uint64_t generation;
	uint64_t entries;
};

/* Freezes the tree, to be released. `mark` is asked under the lock, between the last change in and
 * the first change after that moment; if it fails, nothing was frozen. */
int tree_freeze(struct tree *tree, int (*mark)(void *arg), void *arg, struct frozen *out);

/* Writes what is not on disk yet of a frozen tree, in key order. A failure leaves
 * what was written good for the next time. `pace`, unless NULL, is called at first and every few
 * MiB, under no lock: it may take its time. Where it says that time is short, the gaps between
 * blocks are written over: a quarter more bytes, but in a few writes instead of one a block. */
int tree_write(struct tree *tree, struct frozen *frozen, bool (*pace)(void *arg), void *arg);

void tree_release(struct tree *tree, struct frozen *frozen);

/* Forgets nodes that are on disk and were not used lately, until the cache is as small as it
 * should be or nothing more can go. (Whoever reads nodes in or commits
 * does a little of it, if it is needed.) */
void tree_shrink(struct tree *tree);

/* A moment of the tree for as long as somebody reads it. Nodes that are only its own are written by
 * tree_views_write, and forgotten like all others. */
struct tree_view;

/* Opens a view of the present moment, in constant time. `mark` is asked as by tree_freeze, with the
 * generation that is frozen. Gives *out, for tree_view_close. */
int tree_view_open(struct tree *tree, int (*mark)(void *arg, uint64_t generation), void *arg,
		   struct tree_view **out);

/* Opens a view of a tree that is on disk; reads nothing. */
int tree_view_open_at(struct tree *tree, const struct ref *root, uint64_t generation,
		      uint64_t entries, struct tree_view **out);

/* Accepts NULL. */
void tree_view_close(struct tree *tree, struct tree_view *view);

uint64_t tree_view_entries(const struct tree_view *view);

/* As tree_get and tree_scan. */
int tree_view_get(struct tree *tree, struct tree_view *view, struct slice key,
		  int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		  struct err *err);
int tree_view_scan(struct tree *tree, struct tree_view *view, struct slice from,
		   int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		   struct err *err);

/* Writes the nodes that only views have, of moments before the one that was frozen and written;
 * then memory can forget them. No superblock names them, and they are free when the views are
 * closed. What cannot be written stays in memory. */
void tree_views_write(struct tree *tree, const struct frozen *frozen);

struct tree_stats {
	uint64_t generation;
	uint64_t entries;
	uint64_t memory;	/* bytes of nodes in memory */
	uint64_t dirty_memory;	/* of those, not on disk yet */
	uint64_t dirty_inner;	/* of those, inner nodes */
	uint64_t dirty_units;	/* that tree_write would write, at most */
	uint64_t early;		/* leaves written early since it was opened */
};

void tree_stats(struct tree *tree, struct tree_stats *out);

/* Of dirty_units, those that will not be written, as the nodes are not all full; the rest whole
 * quads, but for blocks of one or two units. Looks at all nodes that are not on disk. */
uint64_t tree_spare_units(struct tree *tree);

#endif
