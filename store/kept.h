/* kept.h - the snapshots that are kept, by name: their list, and the lists of their dead.
 *
 * Every block knows the generation of the first tree that named it: its birth. A block that the
 * tree does not name any more stays taken if it was born before the newest kept snapshot; it joins
 * that snapshot's list of the dead. So each list has what died after its snapshot and before the
 * next younger one. When a snapshot is dropped, what of its list was born after the next older one
 * is free, and the rest joins that one's list. Nothing else is ever looked at, neither trees nor
 * other lists.
 *
 *      created                    kept_store, by a checkpoint
 *         |                                   |
 *        KEPT --------- dropped ----------> DROPPED ---- its list is worked off ----> gone
 *
 * Lists are chains of blocks, the newest first: a checkpoint writes what is new, and a first
 * block that is not full again. A long list of a dropped snapshot is worked off by several
 * checkpoints, a bounded number of blocks each.
 *
 * Only checkpoints change anything, one at a time: kept_store prepares, kept_durable or kept_undo
 * ends it. The others may be called by any thread. Functions return 0 or a negative errno. Bytes:
 * FORMAT.md, "Kept snapshots".
 */
#ifndef CUBBY_KEPT_H
#define CUBBY_KEPT_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "err.h"
#include "page.h"
#include "space.h"

struct kept;

struct kept_snapshot {
	uint64_t generation;	/* of its tree; no two have the same */
	uint64_t revision;
	uint64_t created_ns;	/* since 1970 */
	uint64_t entries;
	struct ref root;	/* length 0: empty */
	struct ref dead;	/* the first block of its list; length 0: nothing died */
	bool dropped;
	uint8_t name_size;
	uint8_t name[SNAPSHOT_NAME_MAX];
};

/* Reads the list that `super` names, from *err file and offset if it is damaged. `pages` and
 * `space` are lent. Gives *out. */
int kept_open(struct pages *pages, struct space *space, const struct super *super,
	      struct kept **out, struct err *err);

/* Accepts NULL. */
void kept_close(struct kept *kept);

/* Calls visit for the kept snapshot of that name, under the lock: it is not worked off meanwhile.
 * Returns what that says; -ENOENT. */
int kept_find(struct kept *kept, struct slice name,
	      int (*visit)(void *arg, const struct kept_snapshot *snapshot), void *arg);

/* Calls visit likewise for each, the oldest first, the dropped ones too; ends with the first answer
 * that is not 0, and returns it. */
int kept_each(struct kept *kept, int (*visit)(void *arg, const struct kept_snapshot *snapshot),
	      void *arg);

/* Is one being worked off? Then checkpoints have something to do though nothing was committed. */
bool kept_pending(struct kept *kept);

/* The generation of the newest that is kept: what was born later, none needs. 0: there is none. */
uint64_t kept_newest(struct kept *kept);

/* Units that the next checkpoint may need for the lists if `deaths` blocks die before it, and how
 * many more if it creates a snapshot. */
uint64_t kept_units(struct kept *kept, uint64_t deaths);
enum { KEPT_CREATE_UNITS = 8 };

struct kept_change {
	const struct kept_snapshot *create;	/* NULL: none; root and entries are filled in */
	struct slice drop;			/* a name that is there; size 0: none */
};

/* The part of a checkpoint between the tree's writing and the map's: decides what of the dead goes,
 * and writes the lists. `change` may be NULL. `super` has the root, the entries and the mark of
 * the frozen tree, and gets the references to the lists. */
int kept_store(struct kept *kept, uint64_t generation, const struct kept_change *change,
	       struct super *super);
void kept_durable(struct kept *kept);
void kept_undo(struct kept *kept);

/* For verification, with checkpoints held off: calls own for each block the lists lie in, and dead
 * for each block on them. *err, on damage, names file and offset. */
int kept_walk(struct kept *kept, int (*own)(void *arg, const struct ref *ref),
	      int (*dead)(void *arg, const struct kept_snapshot *snapshot, struct extent extent),
	      void *arg, struct err *err);

#endif
