/* freemap.h - the bits of the page file: which units are taken, which are held, and where there is
 * room. What becomes of a unit over its life is for space.h to say.
 *
 * `taken` is the map that the next checkpoint writes; `held` is everything else that must not be
 * handed out. Bits are kept by region and read when they are needed; opening reads the directory
 * only. Nothing locks: space.c does. Functions return 0 or a negative errno. Bytes: FORMAT.md,
 * "The free map".
 */
#ifndef CUBBY_FREEMAP_H
#define CUBBY_FREEMAP_H

#include <stddef.h>

#include "err.h"
#include "extents.h"
#include "page.h"
#include "ref.h"

enum { QUAD = PAGES_QUAD };

struct region_bits;

struct region {
	struct ref ref;			/* its bits on disk; length 0: nothing is taken */
	uint32_t taken;			/* units, all of them counted */
	uint32_t held;			/* units held and not taken */
	uint32_t broken;		/* quads of which any unit is taken, as on disk */
	uint32_t no_run;		/* no run of so many units is free; 0: not known */
	uint32_t gap_from[2];		/* no broken quad before this unit has room for 1, for 2 */
	bool dirty;			/* `taken` differs from what is on disk */
	struct region_bits *bits;	/* NULL: not read yet, and nothing held */
};

struct freemap {
	struct pages *pages;
	uint64_t units;			/* of the file; those behind it cannot be handed out */
	struct region **regions;
	size_t region_count;
	uint64_t free;			/* units neither taken nor held */
	uint64_t quads;			/* quads of such units only */
	uint64_t cursor;		/* unit where the next search begins */
	uint64_t low;			/* room before this unit is taken first; 0: any */
	uint64_t grow_most;		/* units the disk may have room for at once; 0: not known */
	struct ref directory;
	struct err trouble;		/* the sentence about the latest damage met */
};

/* Opens the map that `super` names; `map` is all zeros. `pages` is lent for as long as it lives. To
 * be done with freemap_done even if it fails. */
int freemap_open(struct freemap *map, struct pages *pages, const struct super *super,
		 struct err *err);
void freemap_done(struct freemap *map);

/* Grows the file by at least `need` units: by a share of its size if the disk has that. */
int freemap_grow(struct freemap *map, uint64_t need);

/* How much the file grows by at a time, in units, if there is room. */
uint64_t freemap_step(const struct freemap *map);

/* Finds `units` free units in a row, and marks nothing. -ENOSPC: neither free space nor, if it may
 * `grow`, room for more. */
int freemap_find(struct freemap *map, uint64_t units, bool grow, uint64_t *first);

/* The same, but before map->low only, and without growing the file. */
int freemap_find_low(struct freemap *map, uint64_t units, uint64_t *first);

/* Free units from `first` on, which was found just now: up to `units` of them, and no further than
 * its region goes, or the low end of the file if it lies there. */
uint32_t freemap_row(const struct freemap *map, uint64_t first, uint64_t units);

/* Could blocks lie there? If so, their region's bits are read. -EUCLEAN. */
int freemap_load(struct freemap *map, struct extent extent);

/* Marks units, loaded before, as taken or held or neither. */
void freemap_mark(struct freemap *map, struct extent extent, bool taken, bool held);

/* Marks units just found as taken, or else held; the next search begins behind them. */
void freemap_claim(struct freemap *map, struct extent extent, bool taken);

/* Units at the end of the file that are free, in *units; reads what it must. */
int freemap_tail(struct freemap *map, uint64_t *units);

/* How short the file could be if all that is behind its new end found room before it, and left
 * quads free there: `reserve` of them, and one for each 2^`shift`. No quad that is in use counts as
 * room. Gives *units, whole quads; reads one region at most. */
int freemap_goal(struct freemap *map, uint64_t reserve, unsigned shift, uint64_t *units);

/* What a cut of the file to `units` units would part: free quads before it, and units in use behind
 * it. */
struct freemap_cut {
	uint64_t quads_before;
	uint64_t used_behind;
};
int freemap_cut(struct freemap *map, uint64_t units, struct freemap_cut *cut);

/* Quads of region `index`, loaded before, that are in use by nothing but the units in `dying`. */
uint32_t freemap_quads_without(const struct freemap *map, size_t index,
			       const uint64_t dying[REGION_UNITS / 64]);

/* Forgets the last `units` units, all free, in whole quads; the file keeps them. The bits of
 * regions that go with them must not lie anywhere any more. */
void freemap_shrink(struct freemap *map, uint64_t units);

/* Reads the bits of a region, if that has not been done. */
int freemap_load_region(struct freemap *map, size_t index);

/* The taken bits of a region, loaded before, as a unit of bytes; or as words, loading it. */
void freemap_encode_region(const struct region *region, uint8_t unit[UNIT]);
int freemap_copy_taken(struct freemap *map, size_t index, uint64_t words[REGION_UNITS / 64]);

/* The directory, of freemap_directory_size bytes. */
uint32_t freemap_directory_size(size_t region_count);
void freemap_encode_directory(const struct freemap *map, size_t region_count,
			      uint64_t generation, uint8_t *block);

#endif
