/* What a checkpoint does to the free map: takes over the lists of births and deaths, works them
 * into the bits, writes what has changed of those, and cuts the end of the file. */
#include "space_impl.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

enum { TRIM_STEP = 16384 };		/* units the file is cut by at a time: 64 MiB */

/* ---- a checkpoint's changes ------------------------------------------------------------- */

void space_freeze(struct space *space)
{
	mutex_lock(&space->lock);
	assert(!space->frozen.born.first && !space->frozen.dead.first);
	space->frozen = space->now;
	space->now = (struct changes){ 0 };
	mutex_unlock(&space->lock);
}

struct keeping {
	struct space *space;
	uint64_t generation;
};

static bool stays_dead(void *arg, struct extent e)
{
	struct keeping *k = arg;

	if (e.birth > k->generation)
		return true;
	extents_add(&k->space->own, &k->space->kept, e);
	k->space->dead -= e.count;
	return false;
}

int space_keep(struct space *space, uint64_t generation,
	       int (*visit)(void *arg, struct extent extent), void *arg)
{
	struct keeping k = { space, generation };
	int rc;

	mutex_lock(&space->lock);
	rc = extents_reserve(&space->own, space->frozen.dead.count, 1);
	if (rc == 0)
		extents_filter(&space->frozen.dead, stays_dead, &k);
	mutex_unlock(&space->lock);
	/* Only checkpoints touch that list: `visit` may write meanwhile. */
	return rc == 0 ? extents_each(&space->kept, visit, arg) : rc;
}

/* Loaded at once, so that space_thaw cannot fail. */
int space_drop(struct space *space, struct extent e)
{
	int rc;

	mutex_lock(&space->lock);
	rc = freemap_load(&space->map, e);
	if (rc == 0)
		rc = space_add_own(space, &space->dropped, e);
	if (rc == 0)
		space->dead += e.count;
	mutex_unlock(&space->lock);
	return rc;
}

int space_take(struct space *space, const struct ref *ref)
{
	int rc;

	mutex_lock(&space->lock);
	rc = space_add_own(space, &space->took, extent_of(ref));
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- writing the map -------------------------------------------------------------------- */

struct marking {
	struct space *space;
	bool taken, held;
};

/* Extents come from blocks with good checksums, yet are not believed. */
static int mark_one(void *arg, struct extent e)
{
	const struct marking *m = arg;
	const int rc = freemap_load(&m->space->map, e);

	if (rc == 0)
		freemap_mark(&m->space->map, e, m->taken, m->held);
	return rc;
}

static int mark_list(struct space *space, const struct extents *list, bool taken, bool held)
	NEEDS(space->lock)
{
	struct marking m = { space, taken, held };

	return extents_each(list, mark_one, &m);
}

/* A block of the map itself that is not needed any more: it dies with this checkpoint. */
static int retire_own(struct space *space, struct ref *ref) NEEDS(space->lock)
{
	struct extent old = extent_of(ref);
	int rc;

	if (!ref->length)
		return 0;
	old.birth = EXTENT_UNBORN;	/* no snapshot ever needs it */
	rc = freemap_load(&space->map, old);
	if (rc == 0)
		rc = space_add_own(space, &space->frozen.dead, old);
	if (rc < 0)
		return rc;
	freemap_mark(&space->map, old, false, true);
	space->dead += old.count;
	*ref = (struct ref){ 0 };
	return 0;
}

/* A block of the map itself moves: the old one dies, the new one is taken at once. */
static int move_own(struct space *space, struct ref *ref, uint32_t length) NEEDS(space->lock)
{
	struct ref new = { .length = length };
	struct extent e = extent_of(&new);
	int rc = retire_own(space, ref);

	if (rc == 0)
		rc = freemap_find(&space->map, e.count, true, &e.first);
	if (rc < 0)
		return rc;
	freemap_claim(&space->map, e, true);
	new.offset = e.first * UNIT;
	*ref = new;
	return 0;
}

/* Must region `index` be written? Also if its bits lie where the file is to end. */
static bool region_moves(const struct freemap *map, size_t index)
{
	const struct region *region = map->regions[index];

	return region->dirty ||
	       (map->low && region->ref.length && region->ref.offset / UNIT >= map->low);
}

/* Gives every block of the map that has to be written a new place. Each move may change regions
 * that had not changed before, so it goes on until none is left. `moved` has a flag a region. */
static int move_all(struct space *space, bool *moved, size_t count) NEEDS(space->lock)
{
	struct freemap *map = &space->map;
	bool again = true;
	int rc = move_own(space, &map->directory, freemap_directory_size(count));

	while (rc == 0 && again) {
		again = false;
		if (map->region_count != count)
			return -EAGAIN;		/* the file grew: the directory is too small */
		for (size_t i = 0; rc == 0 && i < count; i++) {
			if (moved[i] || !region_moves(map, i))
				continue;
			rc = freemap_load_region(map, i);
			if (rc == 0)
				rc = move_own(space, &map->regions[i]->ref, UNIT);
			moved[i] = true;
			again = true;
		}
	}
	return rc == 0 && map->region_count != count ? -EAGAIN : rc;
}

/* Writes the bits of the regions that moved. Only a checkpoint changes what is taken, so that the
 * lock is not needed while the disk works. */
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
		region = space->map.regions[i];
		freemap_encode_region(region, unit);
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
	const uint32_t size = freemap_directory_size(count);
	uint8_t *block = mem_alloc(size);
	int rc;

	if (!block)
		return -ENOMEM;
	mutex_lock(&space->lock);
	freemap_encode_directory(&space->map, count, generation, block);
	mutex_unlock(&space->lock);
	rc = pages_write(space->pages, space->map.directory.offset, generation,
			 slice_of(block, size), directory);
	if (rc == 0)
		space->map.directory = *directory;
	mem_free(block);
	return rc;
}

/* How long the free end of the file may be: what was wanted lately, and what the file grows by at
 * once; as much again before it is cut, or it would grow and shrink all the time. */
static uint64_t tail_excess(struct space *space, uint64_t tail) NEEDS(space->lock)
{
	const uint64_t wanted = space->wanted > space->wanted_before ? space->wanted :
									space->wanted_before;
	const uint64_t step = freemap_step(&space->map), leave = (wanted + step) / QUAD * QUAD;

	return tail >= leave + step ? tail - leave : 0;
}

/* Leaves the free end of the file out of the map. */
static int shrink(struct space *space) NEEDS(space->lock)
{
	struct freemap *map = &space->map;
	uint64_t tail, excess;
	int rc = freemap_tail(map, &tail);

	if (rc < 0)
		return rc;
	excess = tail_excess(space, tail);
	for (size_t i = 1; excess && rc == 0 && i < map->region_count; i++)
		if ((uint64_t)i * REGION_UNITS >= map->units - excess)
			rc = retire_own(space, &map->regions[i]->ref);
	if (rc == 0 && excess)
		freemap_shrink(map, excess);
	space->wanted_before = space->wanted;
	space->wanted = 0;
	return rc;
}

/* Works the checkpoint's lists into the bits, and finds places for what of the map has changed.
 * Gives *moved, a flag for each of *count regions. */
static int settle(struct space *space, bool **moved, size_t *count) NEEDS(space->lock)
{
	int rc = mark_list(space, &space->frozen.born, true, false);

	*moved = NULL;
	if (rc == 0)
		rc = mark_list(space, &space->frozen.dead, false, true);
	if (rc == 0)
		rc = mark_list(space, &space->kept, true, false);
	if (rc == 0)
		rc = mark_list(space, &space->took, true, false);
	if (rc == 0)
		rc = mark_list(space, &space->dropped, false, true);
	if (rc == 0)
		rc = shrink(space);
	if (rc < 0)
		return rc;
	do {
		mem_free(*moved);
		*count = space->map.region_count;
		*moved = mem_zalloc(*count);
		rc = *moved ? move_all(space, *moved, *count) : -ENOMEM;
	} while (rc == -EAGAIN);
	/* A place for each of the dead on some reader's list: see space_let_go. */
	if (rc == 0)
		rc = extents_reserve(&space->own, space->frozen.dead.count + space->dropped.count,
				     space->reader_count + 1);
	return rc;
}

int space_store(struct space *space, uint64_t generation, struct ref *directory)
{
	bool *moved;
	size_t count;
	int rc;

	mutex_lock(&space->lock);
	space->generation = generation;
	rc = settle(space, &moved, &count);
	mutex_unlock(&space->lock);
	if (rc == 0)
		rc = write_regions(space, generation, moved, count);
	if (rc == 0)
		rc = write_directory(space, generation, directory, count);
	mem_free(moved);
	return rc;
}

/* ---- its end ---------------------------------------------------------------------------- */

static int free_one(void *arg, struct extent e)
{
	struct space *space = arg;

	space->dead -= e.count;
	space_let_go(space, e, space->generation);	/* younger readers never saw it */
	return 0;
}

void space_durable(struct space *space, uint64_t units)
{
	struct freemap *map = &space->map;

	mutex_lock(&space->lock);
	extents_each(&space->frozen.dead, free_one, space);
	extents_each(&space->dropped, free_one, space);
	extents_free(&space->frozen.born);
	extents_free(&space->frozen.dead);
	extents_free(&space->kept);
	extents_free(&space->took);
	extents_free(&space->dropped);
	extents_pool_free(&space->own);
	space->counted[1] = space->counted[0];
	space->counted[0] = units;
	if (map->free > map->units / 2)
		map->cursor = 0;	/* so that the end of the file empties */
	mutex_unlock(&space->lock);
}

static int count_dead(void *arg, struct extent e)
{
	struct space *space = arg;

	space->dead += e.count;
	return 0;
}

static int count_undropped(void *arg, struct extent e)
{
	struct space *space = arg;

	space->dead -= e.count;
	return 0;
}

void space_thaw(struct space *space, bool named)
{
	struct changes newer;

	mutex_lock(&space->lock);
	/* What was taken or dropped for the checkpoint alone is as it was; all of it is loaded. */
	mark_list(space, &space->took, named, false);
	mark_list(space, &space->dropped, true, false);
	extents_each(&space->dropped, count_undropped, space);
	extents_free(&space->took);
	extents_free(&space->dropped);
	extents_each(&space->kept, count_dead, space);
	newer = space->now;
	space->now = space->frozen;
	space->frozen = (struct changes){ 0 };
	extents_join(&space->now.dead, &space->kept);
	extents_join(&space->now.born, &newer.born);
	extents_join(&space->now.dead, &newer.dead);
	mutex_unlock(&space->lock);
}

/* ---- giving back ------------------------------------------------------------------------ */

/* Units that the file must keep. */
static uint64_t needed_units(const struct space *space)
{
	uint64_t units = space->map.units;

	for (size_t i = 0; i < SUPER_SLOTS; i++)
		if (space->counted[i] > units)
			units = space->counted[i];
	return units;
}

void space_trim(struct space *space)
{
	bool more = true;

	/* Step by step: commits wait for the lock. */
	while (more) {
		uint64_t units, needed;

		mutex_lock(&space->lock);
		units = pages_units(space->pages);
		needed = needed_units(space);
		more = units > needed;
		if (more) {
			units = units - needed > TRIM_STEP ? units - TRIM_STEP : needed;
			more = pages_shrink(space->pages, units) == 0;
			space->untrimmable = !more;
		}
		mutex_unlock(&space->lock);
	}
}

bool space_untrimmed(struct space *space)
{
	uint64_t tail;
	bool untrimmed;

	mutex_lock(&space->lock);
	untrimmed = !space->untrimmable &&
		    (pages_units(space->pages) > space->map.units ||
		     (freemap_tail(&space->map, &tail) == 0 && tail_excess(space, tail)));
	mutex_unlock(&space->lock);
	return untrimmed;
}
