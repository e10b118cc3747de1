/* space_impl.h - what space's own files share: space.c (handing out, readers, looking) and
 * space_checkpoint.c (what a checkpoint does to the map). Nobody else includes it. */
#ifndef CUBBY_SPACE_IMPL_H
#define CUBBY_SPACE_IMPL_H

#include "freemap.h"
#include "locks.h"
#include "space.h"

struct changes {
	struct extents born, dead;
};

struct space_reader {
	struct space_reader *older, *newer;
	uint64_t generation;
	struct extents held;		/* born in it or before, in no older reader we know of */
};

struct space {
	struct pages *pages;
	struct mutex lock;		/* guards everything below */
	struct freemap map;
	uint64_t dead;			/* units on the dead lists and on `dropped` */
	struct changes now, frozen;
	struct extents kept;		/* of the frozen deaths: those that stay taken */
	struct extents dropped, took;	/* by the checkpoint under way, beside the frozen ones */
	uint64_t generation;		/* of the checkpoint under way, once its map is settled */
	struct extents_pool spare;	/* for `now` */
	struct extents_pool own;	/* for everything else */
	struct space_reader *newest;
	size_t reader_count;
	uint64_t reader_units;
	uint64_t wanted, wanted_before;	/* units that had to be free: since the last checkpoint's
					 * map was settled, and between that and the one before */
	bool untrimmable;		/* it was tried, and failed */
	uint64_t died;			/* units, since opening */
	uint64_t counted[SUPER_SLOTS];	/* units that the superblocks on disk count, at most */
};

/* Adds to a list of the checkpoint's own. -ENOMEM. */
int space_add_own(struct space *space, struct extents *list, struct extent e) NEEDS(space->lock);

/* Under the lock. What was held is free, unless a reader of a generation up to `latest` needs it.
 * The pool has a place on that one's list. */
void space_let_go(struct space *space, struct extent e, uint64_t latest);

#endif
