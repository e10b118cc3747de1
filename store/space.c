#include "space.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "locks.h"
#include "mem.h"

enum {
	WORDS = REGION_UNITS / 64,
	QUAD = PAGES_QUAD,
	GROW_MIN = 256,			/* units: 1 MiB */
	GROW_MAX = 16384,		/* 64 MiB */
	GROW_FRACTION = 16,		/* of the file */
};

/* What a region's units are: `taken` is the map on disk (as the next space_store will write it),
 * `held` is everything else that must not be handed out. */
struct bits {
	uint64_t taken[WORDS];
	uint64_t held[WORDS];
};

struct region {
	struct ref ref;			/* its bits on disk; length 0: nothing is taken */
	uint32_t taken;			/* units, all of them counted */
	uint32_t held;			/* units held and not taken */
	uint32_t broken;		/* quads of which any unit is taken, as on disk */
	uint32_t no_run;		/* no run of so many units is free; 0: not known */
	uint32_t gap_from[2];		/* no broken quad before this unit has room for 1, for 2 */
	bool dirty;			/* `taken` differs from what is on disk */
	struct bits *bits;		/* NULL: not read yet, and nothing held */
};

struct extent {
	uint64_t first;			/* unit */
	uint64_t count;
};

/* Extents in pieces, so that lists can be joined, and grown once reserved, without memory. */
struct piece {
	struct piece *next;
	uint32_t count;
	struct extent items[62];
};

enum { PIECE_ITEMS = sizeof(((struct piece *)NULL)->items) / sizeof(struct extent) };

struct list {
	struct piece *first, *last;
};

struct changes {
	struct list born, dead;
};

struct space {
	struct pages *pages;
	struct mutex lock;		/* guards everything below */
	uint64_t units;			/* of the file; those behind it cannot be handed out */
	struct region **regions;
	size_t region_count;
	uint64_t free;			/* units neither taken nor held */
	uint64_t quads;			/* quads of such units only */
	uint64_t dead;			/* units on the dead lists */
	uint64_t cursor;		/* unit where the next search begins */
	struct changes now, frozen;
	struct piece *spare;		/* empty pieces for `now` */
	size_t spare_count;
	struct ref directory;
	struct err trouble;		/* the sentence about the latest damage met */
};

/* ---- bits ------------------------------------------------------------------------------- */

static bool bit_get(const uint64_t *words, uint32_t bit)
{
	return words[bit / 64] >> (bit % 64) & 1;
}

/* Sets or clears, and returns whether that changed anything. */
static bool bit_put(uint64_t *words, uint32_t bit, bool on)
{
	const uint64_t mask = (uint64_t)1 << (bit % 64);

	if (((words[bit / 64] & mask) != 0) == on)
		return false;
	words[bit / 64] ^= mask;
	return true;
}

static uint32_t quad_get(const uint64_t *words, uint32_t bit)
{
	return words[bit / 64] >> (bit % 64 / QUAD * QUAD) & 15;
}

static void bits_encode(const uint64_t *words, uint8_t *unit)
{
	for (size_t i = 0; i < WORDS; i++)
		put64(unit + i * 8, words[i]);
}

/* Reads the bits, and counts. */
static void bits_decode(uint64_t *words, const uint8_t *unit, uint32_t *taken, uint32_t *broken)
{
	*taken = *broken = 0;
	for (size_t i = 0; i < WORDS; i++) {
		words[i] = get64(unit + i * 8);
		*taken += (uint32_t)__builtin_popcountll(words[i]);
		for (uint32_t bit = 0; bit < 64; bit += QUAD)
			*broken += (words[i] >> bit & 15) != 0;
	}
}

/* Units of region `index` that the file has. */
static uint32_t region_limit(const struct space *space, size_t index)
{
	const uint64_t first = (uint64_t)index * REGION_UNITS;

	if (space->units <= first)
		return 0;
	return space->units - first < REGION_UNITS ? (uint32_t)(space->units - first) : REGION_UNITS;
}

/* Units that may be handed out. All that is taken or held lies within the limit. */
static uint32_t region_free(const struct space *space, size_t index)
{
	const struct region *region = space->regions[index];
	const uint32_t used = region->taken + region->held, limit = region_limit(space, index);

	return used < limit ? limit - used : 0;
}

/* Reads the region's bits, if that has not been done. */
static int load(struct space *space, size_t index)
{
	struct region *region = space->regions[index];
	struct bits *bits;
	uint8_t unit[UNIT];
	uint32_t taken = region->taken, broken = region->broken;
	int rc = 0;

	if (region->bits)
		return 0;
	bits = mem_zalloc(sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	if (region->ref.length)
		rc = pages_read(space->pages, &region->ref, unit, &space->trouble);
	if (rc == 0 && region->ref.length)
		bits_decode(bits->taken, unit, &taken, &broken);
	if (rc == 0 && (taken != region->taken || broken != region->broken))
		rc = err_set(&space->trouble, -EUCLEAN, FILE_PAGES ": the free map at offset %" PRIu64
			     " contradicts its directory", region->ref.offset);
	if (rc == 0 && index == 0)
		for (uint32_t unit_no = 0; unit_no < SUPER_UNITS; unit_no++)
			bit_put(bits->taken, unit_no, true);
	if (rc < 0)
		mem_free(bits);
	else
		region->bits = bits;
	return rc;
}

/* Marks one unit, and keeps count. */
static void mark_unit(struct space *space, struct region *region, uint32_t u, bool taken,
		      bool held)
{
	struct bits *bits = region->bits;
	const bool was_taken = bit_get(bits->taken, u), was_held = bit_get(bits->held, u);
	const bool quad_was_free = !(quad_get(bits->taken, u) | quad_get(bits->held, u));
	const bool quad_was_broken = quad_get(bits->taken, u);

	if (bit_put(bits->taken, u, taken)) {
		region->taken += taken ? 1 : -1;
		region->dirty = true;
	}
	bit_put(bits->held, u, held);
	region->held += (uint32_t)(held && !taken) - (uint32_t)(was_held && !was_taken);
	region->broken += (uint32_t)(quad_get(bits->taken, u) != 0) - (uint32_t)quad_was_broken;
	space->free += (uint64_t)(!held && !taken) - (uint64_t)(!was_held && !was_taken);
	space->quads += (uint64_t)!(quad_get(bits->taken, u) | quad_get(bits->held, u)) -
			(uint64_t)quad_was_free;
}

/* Marks units of one region, whose bits are loaded, as held or taken or neither. */
static void mark(struct space *space, struct extent e, bool taken, bool held)
{
	struct region *region = space->regions[e.first / REGION_UNITS];
	const uint32_t first = (uint32_t)(e.first % REGION_UNITS);

	for (uint32_t u = first; u < first + e.count; u++)
		mark_unit(space, region, u, taken, held);
	for (int i = 0; i < 2; i++)
		if (region->gap_from[i] > first)
			region->gap_from[i] = first / QUAD * QUAD;
	if (!held && !taken)
		region->no_run = 0;
}

/* ---- regions and the file's size -------------------------------------------------------- */

static int add_region(struct space *space)
{
	struct region **regions = mem_realloc(space->regions,
					      (space->region_count + 1) * sizeof(*regions));
	struct region *region;

	if (!regions)
		return -ENOMEM;
	space->regions = regions;
	region = mem_zalloc(sizeof(*region));
	if (!region)
		return -ENOMEM;
	if (space->region_count == 0) {
		region->taken = SUPER_UNITS;
		region->broken = SUPER_UNITS / QUAD;
	}
	regions[space->region_count++] = region;
	return 0;
}

/* Learns of the file's units up to `units`. */
static int extend(struct space *space, uint64_t units)
{
	const size_t last = space->region_count ? space->region_count - 1 : 0;
	int rc = 0;

	while (rc == 0 && space->region_count * (uint64_t)REGION_UNITS < units)
		rc = add_region(space);
	if (rc < 0)
		return rc;
	space->regions[last]->no_run = 0;
	space->free += units - space->units;
	space->quads += (units - space->units) / QUAD;
	space->units = units;
	return 0;
}

static uint64_t round_up(uint64_t units)
{
	return (units + QUAD - 1) / QUAD * QUAD;
}

/* Grows the file by at least `need` units: by a share of its size if the disk has that. */
static int grow(struct space *space, uint64_t need)
{
	uint64_t step = space->units / GROW_FRACTION;
	int rc;

	step = step < GROW_MIN ? GROW_MIN : step > GROW_MAX ? GROW_MAX : step;
	need = round_up(need);
	step = round_up(step < need ? need : step);
	do {
		rc = pages_grow(space->pages, space->units + step);
		if (rc == 0)
			return extend(space, space->units + step);
		step = step / 2 > need ? round_up(step / 2) : step > need ? need : 0;
	} while (rc == -ENOSPC && step);
	return rc;
}

/* ---- finding room ----------------------------------------------------------------------- */

static bool is_free(const struct bits *bits, uint32_t u)
{
	return !bit_get(bits->taken, u) && !bit_get(bits->held, u);
}

/* Free units in a row from `from` on, `count` being enough. */
static uint32_t run_at(const struct bits *bits, uint32_t from, uint32_t count)
{
	uint32_t run = 0;

	while (run < count && is_free(bits, from + run))
		run++;
	return run;
}

/* The first place for `count` units, aligned as they must be. `broken`: in a quad that is in use
 * already. */
static bool find_run(const struct bits *bits, uint32_t from, uint32_t limit, uint32_t count,
		     bool broken, uint32_t *first)
{
	const uint32_t align = count < 3 ? count : QUAD;
	uint32_t u = (from + align - 1) / align * align;

	while (u + count <= limit) {
		const uint64_t used = bits->taken[u / 64] | bits->held[u / 64];
		uint32_t run;

		if (used == UINT64_MAX || (broken && used == 0)) {
			u = u / 64 * 64 + 64;
			continue;
		}
		run = broken && !(quad_get(bits->taken, u) | quad_get(bits->held, u)) ? 0 :
			run_at(bits, u, count);
		if (run == count) {
			*first = u;
			return true;
		}
		u += run / align * align + align;
	}
	return false;
}

/* A place for one or two units in a quad that is in use already, the first there is. */
static bool find_gap(struct region *region, uint32_t limit, uint32_t count, uint32_t *found)
{
	uint32_t *from = &region->gap_from[count - 1];
	const bool any = find_run(region->bits, *from, limit, count, true, found);

	*from = (any ? *found : limit) / QUAD * QUAD;
	return any;
}

/* Looks in region `index` from unit `from` of it on. 0: found; -ENOSPC: not here. */
static int find_in(struct space *space, size_t index, uint32_t from, uint32_t count,
		   uint64_t *first)
{
	struct region *region = space->regions[index];
	uint32_t found;
	int rc;

	if (region_free(space, index) < count || (region->no_run && count >= region->no_run))
		return -ENOSPC;
	rc = load(space, index);
	if (rc < 0)
		return rc;
	if (!(count < 3 && find_gap(region, region_limit(space, index), count, &found)) &&
	    !find_run(region->bits, from, region_limit(space, index), count, false, &found)) {
		if (from == 0)
			region->no_run = count;
		return -ENOSPC;
	}
	*first = (uint64_t)index * REGION_UNITS + found;
	return 0;
}

/* Next fit: on from where the last one was found, so that what is written together lies together.
 *  */
static int find(struct space *space, uint32_t count, uint64_t *first)
{
	const size_t start = space->cursor / REGION_UNITS;
	int rc = -ENOSPC;

	if (start < space->region_count)
		rc = find_in(space, start, (uint32_t)(space->cursor % REGION_UNITS), count, first);
	for (size_t i = 1; rc == -ENOSPC && i <= space->region_count; i++)
		rc = find_in(space, (start + i) % space->region_count, 0, count, first);
	return rc;
}

static int alloc(struct space *space, uint64_t units, uint64_t *first) NEEDS(space->lock)
{
	int rc;

	if (units == 0 || units > REGION_UNITS)
		return -EINVAL;
	rc = find(space, (uint32_t)units, first);
	if (rc != -ENOSPC)
		return rc;
	/* What is new may lie across the end of a region, where no run does. */
	for (int tries = 0; tries < 3 && rc == -ENOSPC; tries++) {
		const int grown = grow(space, units);

		if (grown < 0)
			return grown;
		rc = find(space, (uint32_t)units, first);
	}
	return rc;
}

int space_alloc(struct space *space, uint64_t units, uint64_t *offset)
{
	uint64_t first;
	int rc;

	mutex_lock(&space->lock);
	rc = alloc(space, units, &first);
	if (rc == 0) {
		mark(space, (struct extent){ first, units }, false, true);
		space->cursor = first + units;
		*offset = first * UNIT;
	}
	mutex_unlock(&space->lock);
	return rc;
}

/* Free units from `first` on, up to `units` of them and no further than the region goes. */
static uint64_t free_from(const struct space *space, uint64_t first, uint64_t units)
{
	const size_t index = first / REGION_UNITS;
	const uint32_t from = (uint32_t)(first % REGION_UNITS);
	const uint32_t rest = region_limit(space, index) - from;

	return run_at(space->regions[index]->bits, from, units < rest ? (uint32_t)units : rest);
}

int space_alloc_quads(struct space *space, uint64_t units, uint64_t *offset, uint64_t *got)
{
	uint64_t first, count;
	int rc;

	mutex_lock(&space->lock);
	rc = alloc(space, QUAD, &first);
	if (rc == 0) {
		count = free_from(space, first, units) / QUAD * QUAD;
		mark(space, (struct extent){ first, count }, false, true);
		space->cursor = first + count;
		*offset = first * UNIT;
		*got = count;
	}
	mutex_unlock(&space->lock);
	return rc;
}

static struct extent extent_of(const struct ref *ref)
{
	return (struct extent){ ref->offset / UNIT, ref_units(ref) };
}

/* No block lies across the end of a region. */
static bool in_one_region(struct extent e)
{
	return e.count > 0 && e.count <= REGION_UNITS &&
	       e.first % REGION_UNITS + e.count <= REGION_UNITS;
}

void space_give_back(struct space *space, const struct ref *ref)
{
	const struct extent e = extent_of(ref);

	mutex_lock(&space->lock);
	mark(space, e, false, false);
	if (e.first + e.count == space->cursor)		/* it was handed out last, and is next again */
		space->cursor = e.first;
	mutex_unlock(&space->lock);
}

int space_hold(struct space *space, const struct ref *ref)
{
	const struct extent e = extent_of(ref);
	int rc;

	mutex_lock(&space->lock);
	if (!ref_plausible(ref, space->units) || !in_one_region(e))
		rc = -EUCLEAN;
	else
		rc = load(space, e.first / REGION_UNITS);
	if (rc == 0)
		mark(space, e, false, true);
	mutex_unlock(&space->lock);
	return rc;
}

int space_ensure(struct space *space, uint64_t units)
{
	int rc = 0;

	mutex_lock(&space->lock);
	if (space->quads * QUAD < units)
		rc = grow(space, units - space->quads * QUAD);
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- births and deaths ------------------------------------------------------------------ */

static int reserve(struct space *space, size_t pieces) NEEDS(space->lock)
{
	while (space->spare_count < pieces) {
		struct piece *piece = mem_alloc(sizeof(*piece));

		if (!piece)
			return -ENOMEM;
		piece->next = space->spare;
		space->spare = piece;
		space->spare_count++;
	}
	return 0;
}

static void list_add(struct space *space, struct list *list, const struct ref *ref)
	NEEDS(space->lock)
{
	if (!list->last || list->last->count == PIECE_ITEMS) {
		struct piece *piece = space->spare;

		assert(piece);		/* space_reserve came before */
		space->spare = piece->next;
		space->spare_count--;
		piece->next = NULL;
		piece->count = 0;
		if (list->last)
			list->last->next = piece;
		else
			list->first = piece;
		list->last = piece;
	}
	list->last->items[list->last->count++] = extent_of(ref);
}

/* Puts all of `more` behind `list`. */
static void list_join(struct list *list, struct list *more)
{
	if (list->last)
		list->last->next = more->first;
	else
		list->first = more->first;
	if (more->last)
		list->last = more->last;
	*more = (struct list){ 0 };
}

static void pieces_free(struct piece *piece)
{
	while (piece) {
		struct piece *next = piece->next;

		mem_free(piece);
		piece = next;
	}
}

static void list_free(struct list *list)
{
	pieces_free(list->first);
	*list = (struct list){ 0 };
}

int space_reserve(struct space *space, uint64_t count)
{
	int rc;

	mutex_lock(&space->lock);
	rc = reserve(space, 2 * (count / PIECE_ITEMS + 1));
	mutex_unlock(&space->lock);
	return rc;
}

void space_born(struct space *space, const struct ref *ref)
{
	mutex_lock(&space->lock);
	list_add(space, &space->now.born, ref);
	mutex_unlock(&space->lock);
}

void space_dead(struct space *space, const struct ref *ref)
{
	mutex_lock(&space->lock);
	list_add(space, &space->now.dead, ref);
	space->dead += ref_units(ref);
	mutex_unlock(&space->lock);
}

/* Makes room for one more in a list of a checkpoint. The spare pieces are left to the commit under
 * way that reserved them. */
static int reserve_frozen(struct space *space, const struct list *list) NEEDS(space->lock)
{
	if (list->last && list->last->count < PIECE_ITEMS)
		return 0;
	return reserve(space, space->spare_count + 1);
}

int space_born_frozen(struct space *space, const struct ref *ref)
{
	int rc;

	mutex_lock(&space->lock);
	rc = reserve_frozen(space, &space->frozen.born);
	if (rc == 0)
		list_add(space, &space->frozen.born, ref);
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- checkpoints ------------------------------------------------------------------------ */

void space_freeze(struct space *space)
{
	mutex_lock(&space->lock);
	assert(!space->frozen.born.first && !space->frozen.dead.first);
	space->frozen = space->now;
	space->now = (struct changes){ 0 };
	mutex_unlock(&space->lock);
}

void space_thaw(struct space *space)
{
	struct changes newer;

	mutex_lock(&space->lock);
	newer = space->now;
	space->now = space->frozen;
	space->frozen = (struct changes){ 0 };
	list_join(&space->now.born, &newer.born);
	list_join(&space->now.dead, &newer.dead);
	mutex_unlock(&space->lock);
}

/* Marks all extents of a list. They come from blocks with good checksums, yet are not believed. */
static int mark_list(struct space *space, const struct list *list, bool taken, bool held)
	NEEDS(space->lock)
{
	for (const struct piece *piece = list->first; piece; piece = piece->next)
		for (uint32_t i = 0; i < piece->count; i++) {
			const struct extent e = piece->items[i];
			int rc;

			if (!in_one_region(e) || e.first >= space->units)
				return -EUCLEAN;
			rc = load(space, e.first / REGION_UNITS);
			if (rc < 0)
				return rc;
			mark(space, e, taken, held);
		}
	return 0;
}

/* A block of the map itself moves: the old one dies with this checkpoint, the new one is taken at
 * once. */
static int move_own(struct space *space, struct ref *ref, uint32_t length) NEEDS(space->lock)
{
	uint64_t first;
	int rc = 0;

	if (ref->length) {
		const struct extent old = extent_of(ref);

		rc = load(space, old.first / REGION_UNITS);
		if (rc == 0)
			rc = reserve_frozen(space, &space->frozen.dead);
		if (rc < 0)
			return rc;
		mark(space, old, false, true);
		list_add(space, &space->frozen.dead, ref);
		space->dead += old.count;
		*ref = (struct ref){ 0 };
	}
	*ref = (struct ref){ .length = length };
	rc = alloc(space, ref_units(ref), &first);
	if (rc < 0) {
		*ref = (struct ref){ 0 };
		return rc;
	}
	mark(space, (struct extent){ first, ref_units(ref) }, true, false);
	space->cursor = first + ref_units(ref);
	ref->offset = first * UNIT;
	return 0;
}

static uint32_t directory_size(const struct space *space)
{
	return (uint32_t)(SPACE_HEADER + space->region_count * SPACE_REGION_SIZE);
}

/* Gives every block of the map that has to be written a new place. Each move may change regions
 * that had not changed before, so it goes on until none is left. `moved` has a flag a region. */
static int move_all(struct space *space, bool *moved, size_t count) NEEDS(space->lock)
{
	bool again = true;
	int rc = move_own(space, &space->directory, directory_size(space));

	while (rc == 0 && again) {
		again = false;
		if (space->region_count != count)
			return -EAGAIN;		/* the file grew by a region: the directory is too small */
		for (size_t i = 0; rc == 0 && i < count; i++) {
			if (moved[i] || !space->regions[i]->dirty)
				continue;
			rc = move_own(space, &space->regions[i]->ref, UNIT);
			moved[i] = true;
			again = true;
		}
	}
	return rc == 0 && space->region_count != count ? -EAGAIN : rc;
}

/* Writes the bits of the regions that moved. Only a checkpoint changes `taken`, so that the lock
 * is not needed while the disk works. */
static int write_regions(struct space *space, uint64_t generation, const bool *moved, size_t count)
{
	uint8_t unit[UNIT];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct region *region;
		struct ref ref;

		if (!moved[i])
			continue;
		mutex_lock(&space->lock);
		region = space->regions[i];
		bits_encode(region->bits->taken, unit);
		ref = region->ref;
		mutex_unlock(&space->lock);
		rc = pages_write(space->pages, ref.offset, generation, slice_of(unit, UNIT), &ref);
		mutex_lock(&space->lock);
		region->ref = rc == 0 ? ref : region->ref;
		region->dirty = rc < 0;
		mutex_unlock(&space->lock);
	}
	return rc;
}

static int write_directory(struct space *space, uint64_t generation, struct ref *directory,
			   size_t count)
{
	const uint32_t size = (uint32_t)(SPACE_HEADER + count * SPACE_REGION_SIZE);
	uint8_t *block = mem_zalloc(size), *at = block + SPACE_HEADER;
	int rc;

	if (!block)
		return -ENOMEM;
	mutex_lock(&space->lock);
	put32(block + SPACE_MAGIC, SPACE_MAGIC_VALUE);
	put32(block + SPACE_COUNT, (uint32_t)count);
	put64(block + SPACE_GENERATION, generation);
	for (size_t i = 0; i < count; i++, at += SPACE_REGION_SIZE) {
		ref_encode(&space->regions[i]->ref, at + SPACE_REGION_REF);
		put32(at + SPACE_REGION_TAKEN, space->regions[i]->taken);
		put32(at + SPACE_REGION_BROKEN, space->regions[i]->broken);
	}
	mutex_unlock(&space->lock);
	rc = pages_write(space->pages, space->directory.offset, generation, slice_of(block, size),
			 directory);
	if (rc == 0)
		space->directory = *directory;
	mem_free(block);
	return rc;
}

/* Works the frozen lists into the bits, and finds places for what of the map has changed. Gives
 * *moved, a flag for each of *count regions. */
static int settle(struct space *space, bool **moved, size_t *count) NEEDS(space->lock)
{
	int rc = mark_list(space, &space->frozen.born, true, false);

	if (rc == 0)
		rc = mark_list(space, &space->frozen.dead, false, true);
	*moved = NULL;
	if (rc < 0)
		return rc;
	do {
		mem_free(*moved);
		*count = space->region_count;
		*moved = mem_zalloc(*count);
		rc = *moved ? move_all(space, *moved, *count) : -ENOMEM;
	} while (rc == -EAGAIN);
	return rc;
}

int space_store(struct space *space, uint64_t generation, struct ref *directory)
{
	bool *moved;
	size_t count;
	int rc;

	mutex_lock(&space->lock);
	rc = settle(space, &moved, &count);
	mutex_unlock(&space->lock);
	if (rc == 0)
		rc = write_regions(space, generation, moved, count);
	if (rc == 0)
		rc = write_directory(space, generation, directory, count);
	mem_free(moved);
	return rc;
}

void space_durable(struct space *space)
{
	mutex_lock(&space->lock);
	for (const struct piece *piece = space->frozen.dead.first; piece; piece = piece->next)
		for (uint32_t i = 0; i < piece->count; i++) {
			mark(space, piece->items[i], false, false);
			space->dead -= piece->items[i].count;
		}
	list_free(&space->frozen.born);
	list_free(&space->frozen.dead);
	mutex_unlock(&space->lock);
}

/* ---- opening and looking ---------------------------------------------------------------- */

/* What the directory says of a region: can its counts be, and its bits lie there? */
static bool region_is_plausible(const struct space *space, size_t index)
{
	const struct region *region = space->regions[index];
	const uint32_t limit = region_limit(space, index);

	if (region->taken > limit || region->broken > limit / QUAD ||
	    region->broken > region->taken || region->taken > region->broken * QUAD)
		return false;
	if (!region->ref.length)
		return region->taken <= (index == 0 ? SUPER_UNITS : 0);
	return region->ref.length == UNIT && ref_plausible(&region->ref, space->units);
}

static int decode_directory(struct space *space, const uint8_t *block, uint32_t size,
			    struct err *err)
{
	const uint32_t count = get32(block + SPACE_COUNT);
	const uint8_t *at = block + SPACE_HEADER;

	if (get32(block + SPACE_MAGIC) != SPACE_MAGIC_VALUE ||
	    size != SPACE_HEADER + (uint64_t)count * SPACE_REGION_SIZE ||
	    count > space->region_count)
		return err_set(err, -EUCLEAN, FILE_PAGES ": the free map's directory makes no sense");
	for (size_t i = 0; i < count; i++, at += SPACE_REGION_SIZE) {
		struct region *region = space->regions[i];

		region->ref = ref_decode(at + SPACE_REGION_REF);
		space->free += region->taken;
		space->quads += region->broken;
		region->taken = get32(at + SPACE_REGION_TAKEN);
		region->broken = get32(at + SPACE_REGION_BROKEN);
		if (!region_is_plausible(space, i))
			return err_set(err, -EUCLEAN, FILE_PAGES
				       ": the free map's region %zu makes no sense", i);
		space->free -= region->taken;
		space->quads -= region->broken;
	}
	return 0;
}

static int read_directory(struct space *space, const struct ref *ref, struct err *err)
{
	uint8_t *block;
	int rc;

	if (ref->length < SPACE_HEADER || ref->length > directory_size(space) ||
	    !in_one_region(extent_of(ref)))
		return err_set(err, -EUCLEAN, FILE_PAGES
			       ": the free map's directory cannot be so long, or lie there");
	block = mem_alloc(ref->length);
	if (!block)
		return -ENOMEM;
	rc = pages_read(space->pages, ref, block, err);
	if (rc == 0)
		rc = decode_directory(space, block, ref->length, err);
	mem_free(block);
	return rc;
}

int space_open(struct pages *pages, const struct super *super, struct space **out,
	       struct err *err)
{
	struct space *space = mem_zalloc(sizeof(*space));
	int rc;

	if (!space)
		return -ENOMEM;
	mutex_init(&space->lock);
	space->pages = pages;
	space->directory = super->space;
	rc = extend(space, pages_units(pages));
	space->free -= SUPER_UNITS;
	space->quads -= SUPER_UNITS / QUAD;
	if (rc == 0 && super->space.length)
		rc = read_directory(space, &super->space, err);
	if (rc < 0)
		space_close(space);
	else
		*out = space;
	return rc;
}

void space_close(struct space *space)
{
	if (!space)
		return;
	for (size_t i = 0; i < space->region_count; i++) {
		mem_free(space->regions[i]->bits);
		mem_free(space->regions[i]);
	}
	mem_free(space->regions);
	list_free(&space->now.born);
	list_free(&space->now.dead);
	list_free(&space->frozen.born);
	list_free(&space->frozen.dead);
	pieces_free(space->spare);
	mutex_done(&space->lock);
	mem_free(space);
}

void space_trouble(struct space *space, struct err *err)
{
	mutex_lock(&space->lock);
	*err = space->trouble;
	mutex_unlock(&space->lock);
}

void space_stats(struct space *space, struct space_stats *out)
{
	mutex_lock(&space->lock);
	*out = (struct space_stats){
		.units = space->units, .free_units = space->free,
		.quad_units = space->quads * QUAD, .dead_units = space->dead,
	};
	mutex_unlock(&space->lock);
}

/* Copies region `index`'s map to `words`; *found is false behind the last one. */
static int copy_taken(struct space *space, size_t index, uint64_t *words, bool *found)
{
	int rc = 0;

	mutex_lock(&space->lock);
	*found = index < space->region_count;
	if (*found)
		rc = load(space, index);
	if (*found && rc == 0)
		memcpy(words, space->regions[index]->bits->taken, WORDS * sizeof(*words));
	mutex_unlock(&space->lock);
	return rc;
}

int space_each_taken(struct space *space,
		     int (*visit)(void *arg, uint64_t first_unit, uint64_t count), void *arg)
{
	uint64_t words[WORDS];
	bool found = true;
	int rc = 0;

	for (size_t index = 0; rc == 0 && found; index++) {
		rc = copy_taken(space, index, words, &found);
		for (uint32_t u = 0; rc == 0 && found && u < REGION_UNITS; u++) {
			uint32_t end = u;

			while (end < REGION_UNITS && bit_get(words, end))
				end++;
			if (end > u)
				rc = visit(arg, (uint64_t)index * REGION_UNITS + u, end - u);
			u = end;
		}
	}
	return rc;
}

/* Copies where region `index`'s bits lie; false behind the last one. */
static bool region_ref(struct space *space, size_t index, struct ref *ref)
{
	bool found;

	mutex_lock(&space->lock);	/* a file that grows moves the regions */
	found = index < space->region_count;
	if (found)
		*ref = space->regions[index]->ref;
	mutex_unlock(&space->lock);
	return found;
}

int space_each_own(struct space *space, int (*visit)(void *arg, const struct ref *ref), void *arg)
{
	int rc = space->directory.length ? visit(arg, &space->directory) : 0;
	struct ref ref;

	for (size_t i = 0; rc == 0 && region_ref(space, i, &ref); i++)
		if (ref.length)
			rc = visit(arg, &ref);
	return rc;
}
