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
 * Only blocks of more than 4 units (entries over 16 KiB, runs) may find the free quads scattered;
 * runs are scattered then, too (ref.h).
 *
 * Snapshots keep the dead from being free. What a *kept* one needs (snapshot.h) stays TAKEN, and
 * is dropped by the checkpoint that finds that none needs it any more. What a *reader* needs, a
 * moment that lives only as long as this process, stays HELD until the reader is closed: 32 bytes
 * of memory for each block that was replaced under an open reader.
 *
 * A file with a long free end is cut: a checkpoint leaves the end out of the map, and the file is
 * truncated when no superblock counts it any more.
 *
 * The map is read region by region when it is needed; opening reads the directory only.
 *
 * Any thread may call anything, but checkpoints come one at a time. Functions return 0 or a
 * negative errno. Bytes: FORMAT.md, "The free map".
 */
#ifndef CUBBY_SPACE_H
#define CUBBY_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "extents.h"
#include "page.h"
#include "ref.h"

struct space;

/* Opens the map that `super` names. `pages` is lent for as long as the map lives. Gives *out. */
int space_open(struct pages *pages, const struct super *super, struct space **out,
	       struct err *err);

/* Accepts NULL. Readers must be closed. */
void space_close(struct space *space);

/* Finds `units` free units in a row, and holds them; *offset is in bytes. Grows the page file if
 * it must. -ENOSPC: neither free space nor room for more. */
int space_alloc(struct space *space, uint64_t units, uint64_t *offset);

/* Holds a place for a run of `length` bytes, if at least `leave` units in whole quads are free
 * then. Fills in *place but for sum and generation. If there are not enough units in a row, and no
 * more than 16 are wanted, the place is scattered; `tight`: also if the last unit or two then share
 * a quad with others. */
int space_alloc_run(struct space *space, uint32_t length, uint64_t leave, bool tight,
		    struct ref *place);

/* As space_alloc, but never grows the file: quick. */
int space_place(struct space *space, uint64_t units, uint64_t *offset);
/* The same for several blocks of up to 4 units: finds a free quad, and as many more behind it as
 * are free and wanted, up to `units` in all; holds them. *got is how many, a multiple of 4. */
int space_alloc_quads(struct space *space, uint64_t units, uint64_t *offset, uint64_t *got);

/* Gives back what was only held. */
void space_give_back(struct space *space, const struct ref *ref);

/* Are at least `units` units free in whole quads? */
bool space_has(struct space *space, uint64_t units);

/* Sees to it that they are, growing the file if need be; and that so many are in a row, at least
 * once, unless `row` is 0. -ENOSPC. */
int space_ensure(struct space *space, uint64_t units, uint64_t row);

/* Makes room on the lists for `count` births and `count` deaths of pieces, which
 * then cannot fail. */
int space_reserve(struct space *space, uint64_t count);

/* The block is now named by a tree that the next checkpoint will contain; or no longer. The
 * generation in the reference is that of the first tree that named it. */
void space_born(struct space *space, const struct ref *ref);
void space_dead(struct space *space, const struct ref *ref);

/* As space_born, for a block of the tree that is being checkpointed; reserves by itself. */
int space_born_frozen(struct space *space, const struct ref *ref);

/* Holds units that were not handed out by space_alloc: a run that the log names, written before
 * the crash. */
int space_hold(struct space *space, const struct ref *ref);

/* ---- checkpoints ---- */

/* A checkpoint begins: births and deaths so far are its own. */
void space_freeze(struct space *space);

/* Of those deaths, the ones born in `generation` or before stay taken. Calls visit for each; if
 * that fails, the checkpoint must too. */
int space_keep(struct space *space, uint64_t generation,
	       int (*visit)(void *arg, struct extent extent), void *arg);

/* Units that were taken are not needed any more, or units that were held are taken, beside the
 * frozen births and deaths. All of it is undone by space_thaw. */
int space_drop(struct space *space, struct extent extent);
int space_take(struct space *space, const struct ref *ref);

/* Writes the map of the frozen moment, of that generation. Everything else that the checkpoint
 * writes must be written, and born or taken, by now. */
int space_store(struct space *space, uint64_t generation, struct ref *directory);

/* The superblock with that map, of a file of `units` units, is on disk: what was dead then is
 * free. */
void space_durable(struct space *space, uint64_t units);

/* The checkpoint failed: its births and deaths become the next one's. `named`: a superblock that
 * names what it wrote may be on disk all the same; then nothing of that is handed out again. */
void space_thaw(struct space *space, bool named);

/* Gives the end of the file back to the file system, as far as nothing on disk counts it. For
 * after a checkpoint. */
void space_trim(struct space *space);

/* Would another checkpoint, though nothing has changed, let space_trim give back more? */
bool space_untrimmed(struct space *space);

/* ---- making the file shorter ----
 *
 * Whoever moves blocks from the end of the file to the front of it asks here for how far that goes
 * (compact.c). Nothing here grows the file, or has it keep room for later. */

/* How long the file need be, in *goal units, if what lies behind moves before that; and how long
 * it is, in *units. A share of 1/2^`shift` is left free, so that large blocks find places. */
int space_goal(struct space *space, unsigned shift, uint64_t *goal, uint64_t *units);

/* Units by which the file grows at once; its end may be free by some of these. */
uint64_t space_step(struct space *space);

/* Units in use behind unit `limit`, and units free in whole quads before it. */
int space_behind(struct space *space, uint64_t limit, uint64_t *used, uint64_t *room);

/* From now on whatever is handed out lies before unit `limit`, if there is room; 0: wherever. */
void space_prefer(struct space *space, uint64_t limit);

/* As space_alloc, before that unit only, and if `leave` units in whole quads are left free. */
int space_alloc_low(struct space *space, uint64_t units, uint64_t leave, uint64_t *offset);

/* Nobody wants room just now: the end of the file may be cut as short as it can be. */
void space_calm(struct space *space);

/* ---- readers ---- */

struct space_reader;

/* From now on nothing that the tree of that generation names is handed out. Gives *out, for
 * space_reader_close. -ENOMEM. */
int space_reader_open(struct space *space, uint64_t generation, struct space_reader **out);

/* Accepts NULL. */
void space_reader_close(struct space *space, struct space_reader *reader);

/* A held block was written that only readers of `generation` or before can reach; if they
 * are closed already, it is free. -ENOMEM: it is the caller's, as before. */
int space_reader_hold(struct space *space, uint64_t generation, const struct ref *ref);

/* ---- looking ---- */

/* Copies the sentence about the latest damage that any call met in the map; empty if none did. */
void space_trouble(struct space *space, struct err *err);

struct space_stats {
	uint64_t units;		/* of the page file, as far as the map describes it */
	uint64_t free_units;
	uint64_t quad_units;	/* of those, in whole quads */
	uint64_t dead_units;	/* free after the next checkpoint, if no snapshot needs them */
	uint64_t dead_blocks;	/* as many blocks that no checkpoint has worked in yet */
	uint64_t reader_units;	/* held for readers only */
	uint64_t readers;
	uint64_t reader;	/* generation of the newest reader; 0: there is none */
	uint64_t died_units;	/* so many died since the map was opened */
};

void space_stats(struct space *space, struct space_stats *out);

/* What checkpoints will free of what is dead now: units, and by how many more units in whole quads
 * there will be. What was born in `generation` or before, or what a reader may need, is not
 * counted, nor what there is no memory to count. Looks at all the lists. */
struct space_coming {
	uint64_t units;
	uint64_t quad_units;
};
void space_coming(struct space *space, uint64_t generation, struct space_coming *out);

/* For verification, after a checkpoint and before the next: calls visit for each run of units the
 * durable map has as taken. Reads the whole map. */
int space_each_taken(struct space *space,
		     int (*visit)(void *arg, uint64_t first_unit, uint64_t count), void *arg);

/* For verification: the blocks the map itself lies in. */
int space_each_own(struct space *space, int (*visit)(void *arg, const struct ref *ref), void *arg);

#endif
