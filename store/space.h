/* space.h - which units of the page file are free.
 *
 * The map on disk belongs to a checkpoint: it says exactly which units that checkpoint's tree
 * reaches (and the map itself). Between checkpoints, units move like this:
 *
 *            space_alloc           space_born             checkpoint durable
 *     FREE ---------------> HELD ---------------> BORN ------------------------> TAKEN
 *      ^                     |                                                     |
 *      '---space_give_back---'                                          space_dead |
 *      ^                                                                           v
 *      '------------------- the next checkpoint is durable ---------------------- DEAD
 *
 * HELD units were written but nothing durable names them: a crash frees them. What is DEAD is
 * still named by the last superblock or by the log behind it, so it keeps its bytes until a newer
 * superblock is on disk. Born and dead are lists: the next checkpoint takes them over with
 * space_freeze, works them into the map with space_store, and ends with space_durable, or, having
 * failed, with space_thaw, after which a later one does it again.
 *
 * So that a checkpoint does not fail for want of units in a row, blocks lie aligned: one of 3 or 4
 * units, as tree nodes are at most, fills a *quad* of 4; smaller ones share quads; larger ones
 * begin with a quad. As long as there is a free quad for each node to be written, there is room.
 * Only blocks of more than 4 units (entries over 16 KiB, runs) may find the free quads scattered.
 *
 * The map is read region by region when it is needed; opening reads the directory only.
 *
 * Any thread may call anything, but checkpoints come one at a time. Functions return 0 or a
 * negative errno. Bytes: FORMAT.md, "The free map".
 */
#ifndef CUBBY_SPACE_H
#define CUBBY_SPACE_H

#include <stdint.h>

#include "err.h"
#include "page.h"
#include "ref.h"

struct space;

/* Opens the map that `super` names. `pages` is lent for as long as the map lives. Gives *out. */
int space_open(struct pages *pages, const struct super *super, struct space **out,
	       struct err *err);

/* Accepts NULL. */
void space_close(struct space *space);

/* Finds `units` free units in a row, and holds them; *offset is in bytes. Grows the page file if
 * it must. -ENOSPC: neither free space nor room for more. */
int space_alloc(struct space *space, uint64_t units, uint64_t *offset);

/* The same for several blocks of up to 4 units: finds a free quad, and as many more behind it as
 * are free and wanted, up to `units` in all; holds them. *got is how many, a multiple of 4. */
int space_alloc_quads(struct space *space, uint64_t units, uint64_t *offset, uint64_t *got);

/* Gives back what was only held. */
void space_give_back(struct space *space, const struct ref *ref);

/* Sees to it that at least `units` units are free in whole quads, growing the file if need be.
 * -ENOSPC. */
int space_ensure(struct space *space, uint64_t units);

/* Makes room on the lists for `count` births and `count` deaths, which then cannot fail. */
int space_reserve(struct space *space, uint64_t count);

/* The block is now named by a tree that the next checkpoint will contain; or no longer. */
void space_born(struct space *space, const struct ref *ref);
void space_dead(struct space *space, const struct ref *ref);

/* As space_born, for a block of the tree that is being checkpointed; reserves by itself. */
int space_born_frozen(struct space *space, const struct ref *ref);

/* Holds units that were not handed out by space_alloc: a run that the log names, written before
 * the crash. */
int space_hold(struct space *space, const struct ref *ref);

/* A checkpoint begins: births and deaths so far are its own. */
void space_freeze(struct space *space);

/* Writes the map of the frozen moment. Everything else that the checkpoint writes must be
 * written and born by now. */
int space_store(struct space *space, uint64_t generation, struct ref *directory);

/* The superblock with that map is on disk: what was dead then is free. */
void space_durable(struct space *space);

/* The checkpoint failed: its births and deaths become the next one's. */
void space_thaw(struct space *space);

/* Copies the sentence about the latest damage that any call met in the map; empty if none did. */
void space_trouble(struct space *space, struct err *err);

struct space_stats {
	uint64_t units;		/* of the page file */
	uint64_t free_units;
	uint64_t quad_units;	/* of those, in whole quads */
	uint64_t dead_units;	/* free after the next checkpoint */
};

void space_stats(struct space *space, struct space_stats *out);

/* For verification, after a checkpoint and before the next: calls visit for each run of units the
 * durable map has as taken. Reads the whole map. */
int space_each_taken(struct space *space,
		     int (*visit)(void *arg, uint64_t first_unit, uint64_t count), void *arg);

/* For verification: the blocks the map itself lies in. */
int space_each_own(struct space *space, int (*visit)(void *arg, const struct ref *ref), void *arg);

#endif
