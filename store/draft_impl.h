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
	bool in_place;			/* the floor is the published value, not one under way */
	bool doomed;			/* the floor is under way, and a record dooms it until published */
	uint64_t since_ns;		/* what draft_staged_since tells */
	int64_t mtime_ns;
	uint64_t write_end;		/* where the last write ended */

	uint8_t *window;		/* the chunk that was read last, for whoever reads in small steps */
	uint32_t window_number;
	uint32_t window_used;
	bool window_valid;
};

/* Gives up the floor, if there is one. */
void draft_floor_leave(struct draft *d) NEEDS(d->lock) WITHOUT(d->store->lock);

/* Notes that something is staged now. */
void draft_touch(struct draft *d) NEEDS(d->lock);

/* Begins a new value. */
int draft_floor_begin(struct draft *d) NEEDS(d->lock) WITHOUT(d->store->lock);

/* Deletes what was cut off a value under way. */
int draft_built_cut(struct draft *d) NEEDS(d->lock);

/* Adds to `batch` that all pieces are chunks of `value`. */
void draft_batch_pieces(struct batch *batch, uint64_t value, const struct staged *staged);

/* Can a chunk be seen without reading anything? */
bool draft_has(struct draft *d, uint32_t number) NEEDS(d->lock);

/* Sees to it that it can. */
int draft_fetch(struct draft *d, uint32_t number) NEEDS(d->lock);

/* Copies a part of a chunk of which `used` bytes are there; zeros follow. */
void chunk_copy(uint8_t *to, size_t size, const uint8_t *chunk, uint32_t used, uint32_t start);

#endif
