/* draft_impl.h - what draft.c (staging) and publish.c share; nobody else includes it. */
#ifndef CUBBY_DRAFT_IMPL_H
#define CUBBY_DRAFT_IMPL_H

#include "draft.h"
#include "staged.h"
#include "value.h"

struct draft {
	struct store *store;		/* immutable */
	uint64_t entry_id;		/* immutable */
	size_t pieces_max;		/* immutable: as many as one batch can publish */
	struct mutex lock;		/* guards everything below */
	struct staged staged;
	uint64_t size;
	uint64_t floor;			/* value id; 0: there is none. It is held */
	uint64_t floor_stamp;		/* see value_hold */
	uint64_t floor_chunks;		/* those below this number are seen */
	uint64_t floor_high;		/* there are records below this number */
	uint64_t floor_stored;		/* bytes that are kept of the chunks that are seen ... */
	uint64_t floor_size;		/* ... and of which they are, if as many are kept, all */
	bool in_place;			/* the floor is the published value, not one under way */
	bool doomed;			/* under way: a record dooms it until it is published */
	uint64_t since_ns;		/* what draft_staged_since tells */
	int64_t mtime_ns;
	uint64_t write_end;		/* where the last write ended */

	uint8_t *window;		/* the chunk that was read last, for whoever reads in small
					 * steps; without the changes of a piece that has
					 * only those */
	uint32_t window_number;
	uint32_t window_used;
	bool window_valid;
};

/* Gives up the floor, if there is one. */
void draft_floor_leave(struct draft *d) NEEDS(d->lock) WITHOUT(d->store->lock);

/* Begins a new value. */
int draft_floor_begin(struct draft *d) NEEDS(d->lock) WITHOUT(d->store->lock);

/* Deletes what was cut off a value under way. */
int draft_built_cut(struct draft *d) NEEDS(d->lock);

/* ---- draft_batch.c ---- */

/* Looks at what the floor has where the piece is, if that has not been done. A piece may be put
 * without; what it replaces is then counted when it is published. */
int draft_base(struct draft *d, struct piece *piece) NEEDS(d->lock);

/* Gives all pieces the form in which they can be added to a batch. */
int draft_settle(struct draft *d) NEEDS(d->lock);

/* Adds to `batch` that all pieces, settled, are chunks of the floor, and returns how many bytes of
 * it are kept then. */
uint64_t draft_batch_pieces(struct draft *d, struct batch *batch) NEEDS(d->lock);

/* ---- draft.c ---- */

/* There was no room for a batch of the pieces. What is in memory becomes runs, for those can be
 * scattered: a record of more than 16 KiB cannot. True: it may be tried again. */
bool draft_scatter(struct draft *d) NEEDS(d->lock);

/* Notes that something is staged now. */
void draft_touch(struct draft *d) NEEDS(d->lock);

/* Turns a piece that has changes only into a whole one, in memory. */
int draft_make_whole(struct draft *d, struct piece *piece) NEEDS(d->lock);

/* As staged_spill, and spills those that have changes only, too. */
int draft_spill(struct draft *d, size_t target, uint32_t keep, uint32_t keep_last)
	NEEDS(d->lock);

/* Sees to it that a chunk of which there is anything is a piece, whole and in memory. */
int draft_fetch(struct draft *d, uint32_t number) NEEDS(d->lock);

/* Copies a part of a chunk of which `used` bytes are there; zeros follow. */
void chunk_copy(uint8_t *to, size_t size, const uint8_t *chunk, uint32_t used, uint32_t start);

#endif
