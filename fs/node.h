/* node.h - what the kernel knows: inode numbers, where each entry is now, who holds it.
 *
 * A node stands for one entry of the store for as long as the kernel has its number (`lookups`)
 * or somebody here holds it (`pins`; every open handle is one). Its number is the entry's id,
 * which is never used twice, so generations are not needed. No file is kept open for it.
 *
 *   nodes_meet --> NAMED --node_gone--> GONE      unlinked, replaced or expired: no place any more;
 *                    |  ^                 |       its draft, if it has one, lives as long as it
 *                    '--' node_move       |       renamed: another place, the same node
 *                    |                    |
 *                    '--> freed <---------'        with the last lookup and the last pin
 *
 * What was only ever shown in a listing needs no node yet: of a million such entries, little is kept
 * but their names. One that something is asked of becomes a node then (nodes_find).
 *
 * A node of a shared entry, one with several names, is at none of them but at place_shared, where
 * the store finds the entry whichever of its names come and go; node_move takes it there when
 * it gets its second name, and there it stays.
 *
 * Locks, outermost first (DESIGN.md): `names`, node.lock, nodes.lock. A place is what `names`
 * guards: it changes only under the write lock, and whoever turns a node into a place keeps the
 * read lock until the store has used it. The way back, from a place to its node, is through the
 * store, which knows the id. nodes.lock guards the table, the counts and the list of drafts;
 * lookup and forget race, so both decide under it.
 */
#ifndef CUBBY_FS_NODE_H
#define CUBBY_FS_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "draft.h"
#include "hash.h"
#include "locks.h"
#include "store.h"

/* How each entry that the kernel knows begins; guarded by nodes.lock. */
struct known {
	struct hash_link by_id;
	uint64_t listed : 1;			/* there is no node */
	uint64_t lookups : 63;
};

struct node {
	struct known known;
	uint64_t id;				/* immutable */
	uint64_t pins;				/* guarded by nodes.lock */
	struct node *prev, *next;		/* of the drafted ones; guarded by nodes.lock */

	uint64_t table;				/* guarded by names */
	uint8_t *name;				/* guarded by names; owned, or `first_name` */
	uint8_t name_size;			/* guarded by names */
	bool gone;				/* guarded by names */

	/* When the oldest byte was staged (os->monotonic_ns), 0 if nothing was since the last
	 * publication. A truncation by open does not count: see handle.h. Atomic. */
	atomic_ullong written_ns;

	/* Set under the lock, and not taken away while a handle is open: who has one may read it
	 * without. */
	_Atomic(struct draft *) draft;
	atomic_ullong revision;			/* of its last publication; set under the lock */

	atomic_bool given;			/* its value to the kernel, since it last changed */

	struct mutex lock;
	/* Guarded by lock. */
	unsigned opens, writers;		/* handles, and those that may write */
	unsigned flushes;			/* since the last of those was opened */
	bool settling;				/* see handle_settle */
	bool renewed;				/* truncated by open since its last publication */
	int failed;				/* first error of a write since then, if renewed */
	struct attr attr;			/* as last seen (if in a listing, without sizes and
						 * times): what is left once it is gone, */
	uint64_t default_ttl_ms;		/* a table's (names.h); TTL_UNKNOWN: not read yet */
	struct buffer xattrs;			/* and its attributes then, a set of xattr_set.h */

	uint8_t first_name[];			/* under which it was met: most never get another */
};

#define TTL_UNKNOWN UINT64_MAX

struct nodes {
	struct mutex lock;
	struct hash by_id;			/* of what is known; guarded by lock */
	struct node *drafted;			/* those with a draft; guarded by lock */
	uint64_t drafts;			/* ever given to nodes; guarded by lock */
	uint64_t made, freed;			/* of what is known, ever; guarded by lock */
};

/* Makes the table with the root in it, which stays. */
int nodes_init(struct nodes *nodes, const struct attr *root);

/* Frees every node, and with it what is staged there. */
void nodes_done(struct nodes *nodes);

/* Gives the node of an entry that the kernel knows; NULL: it does not. -ENOMEM. It stays as long as
 * the kernel holds it, or until who called nodes_with calls nodes_unpin. */
int nodes_find(struct nodes *nodes, uint64_t id, struct node **out);
int nodes_with(struct nodes *nodes, uint64_t id, struct node **out);

/* The node of what was just found at `place`, made if there is none, with one more of the
 * kernel's references. The caller holds `names` since before it looked. */
int nodes_meet(struct nodes *nodes, struct place place, const struct attr *attr,
	       struct node **out);

/* The same for what a listing shows, but *out is NULL if there is no node: nothing else was ever
 * asked of it. */
int nodes_list(struct nodes *nodes, struct place place, const struct attr *attr,
	       struct node **out);

/* The kernel gives back `count` references; to the node of `id`, if there is one. */
void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count);
void nodes_forget_id(struct nodes *nodes, uint64_t id, uint64_t count);

/* How much of what was known was freed, ever, and unless NULL how much was made. */
uint64_t nodes_freed(struct nodes *nodes, uint64_t *made);

/* How many drafts nodes were given, ever, and unless NULL whether any has one now. */
uint64_t nodes_drafts(struct nodes *nodes, bool *any);

void nodes_pin(struct nodes *nodes, struct node *node);
void nodes_unpin(struct nodes *nodes, struct node *node);	/* accepts NULL */

/* Lent while the caller holds `names`. */
struct place node_place(const struct node *node);

static inline bool node_shared(const struct node *node)
{
	return place_is_shared(node_place(node));
}

/* Notes what the entry shows now: it is what the node keeps. */
void node_see(struct node *node, const struct attr *attr);

/* Puts the node at another place, under a name that the caller gives (mem_copy). `names` is held
 * for writing. */
void node_move(struct node *node, uint64_t table, uint8_t *name, uint8_t name_size);

/* Takes the node's place away for good. `names` is held for writing. */
void node_gone(struct node *node);

/* Gives the node a draft, or takes it away and returns it. node->lock is held. */
void node_set_draft(struct nodes *nodes, struct node *node, struct draft *draft);
struct draft *node_take_draft(struct nodes *nodes, struct node *node);

/* A drafted node whose oldest written byte is from `limit_ns` or before, pinned; else NULL, and
 * then *oldest_ns (unless NULL) says when the oldest of all is from, 0 if there is none. */
struct node *nodes_written_before(struct nodes *nodes, uint64_t limit_ns, uint64_t *oldest_ns);

/* Any drafted node, pinned, or NULL. */
struct node *nodes_drafted(struct nodes *nodes);

#endif
