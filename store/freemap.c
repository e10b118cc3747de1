#include "freemap.h"

#include <errno.h>
#include <inttypes.h>

#include "mem.h"

enum {
	WORDS = REGION_UNITS / 64,
	GROW_MIN = 256,			/* units: 1 MiB */
	GROW_MAX = 16384,		/* 64 MiB */
	GROW_FRACTION = 16,		/* of the file */
};

struct region_bits {
	uint64_t taken[WORDS];
	uint64_t held[WORDS];
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

void freemap_encode_region(const struct region *region, uint8_t unit[UNIT])
{
	for (size_t i = 0; i < WORDS; i++)
		put64(unit + i * 8, region->bits->taken[i]);
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
static uint32_t region_limit(const struct freemap *map, size_t index)
{
	const uint64_t first = (uint64_t)index * REGION_UNITS;

	if (map->units <= first)
		return 0;
	return map->units - first < REGION_UNITS ? (uint32_t)(map->units - first) : REGION_UNITS;
}

/* Units that may be handed out. All that is taken or held lies within the limit. */
static uint32_t region_free(const struct freemap *map, size_t index)
{
	const struct region *region = map->regions[index];
	const uint32_t used = region->taken + region->held, limit = region_limit(map, index);

	return used < limit ? limit - used : 0;
}

/* Reads the region's bits, if that has not been done. */
static int load(struct freemap *map, size_t index)
{
	struct region *region = map->regions[index];
	struct region_bits *bits;
	uint8_t unit[UNIT];
	uint32_t taken = region->taken, broken = region->broken;
	int rc = 0;

	if (region->bits)
		return 0;
	bits = mem_zalloc(sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	if (region->ref.length)
		rc = pages_read(map->pages, &region->ref, unit, &map->trouble);
	if (rc == 0 && region->ref.length)
		bits_decode(bits->taken, unit, &taken, &broken);
	if (rc == 0 && (taken != region->taken || broken != region->broken))
		rc = err_set(&map->trouble, -EUCLEAN, FILE_PAGES ": the free map at offset %" PRIu64
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
static void mark_unit(struct freemap *map, struct region *region, uint32_t u, bool taken,
		      bool held)
{
	struct region_bits *bits = region->bits;
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
	map->free += (uint64_t)(!held && !taken) - (uint64_t)(!was_held && !was_taken);
	map->quads += (uint64_t)!(quad_get(bits->taken, u) | quad_get(bits->held, u)) -
			(uint64_t)quad_was_free;
}

/* Marks units of one region, whose bits are loaded, as held or taken or neither. */
void freemap_mark(struct freemap *map, struct extent e, bool taken, bool held)
{
	struct region *region = map->regions[e.first / REGION_UNITS];
	const uint32_t first = (uint32_t)(e.first % REGION_UNITS);

	for (uint32_t u = first; u < first + e.count; u++)
		mark_unit(map, region, u, taken, held);
	for (int i = 0; i < 2; i++)
		if (region->gap_from[i] > first)
			region->gap_from[i] = first / QUAD * QUAD;
	if (!held && !taken)
		region->no_run = 0;
}

/* ---- regions and the file's size -------------------------------------------------------- */

static int add_region(struct freemap *map)
{
	struct region **regions = mem_realloc(map->regions,
					      (map->region_count + 1) * sizeof(*regions));
	struct region *region;

	if (!regions)
		return -ENOMEM;
	map->regions = regions;
	region = mem_zalloc(sizeof(*region));
	if (!region)
		return -ENOMEM;
	if (map->region_count == 0) {
		region->taken = SUPER_UNITS;
		region->broken = SUPER_UNITS / QUAD;
	}
	regions[map->region_count++] = region;
	return 0;
}

/* Learns of the file's units up to `units`. */
static int extend(struct freemap *map, uint64_t units)
{
	const size_t last = map->region_count ? map->region_count - 1 : 0;
	int rc = 0;

	while (rc == 0 && map->region_count * (uint64_t)REGION_UNITS < units)
		rc = add_region(map);
	if (rc < 0)
		return rc;
	map->regions[last]->no_run = 0;
	map->free += units - map->units;
	map->quads += (units - map->units) / QUAD;
	map->units = units;
	return 0;
}

static uint64_t round_up(uint64_t units)
{
	return (units + QUAD - 1) / QUAD * QUAD;
}

uint64_t freemap_step(const struct freemap *map)
{
	const uint64_t step = map->units / GROW_FRACTION;

	return round_up(step < GROW_MIN ? GROW_MIN : step > GROW_MAX ? GROW_MAX : step);
}

/* What was refused is not asked for again, for that may take long, but twice as much as was had
 * last. */
int freemap_grow(struct freemap *map, uint64_t need)
{
	uint64_t step = freemap_step(map);
	int rc;

	need = round_up(need);
	if (map->grow_most && step > map->grow_most)
		step = map->grow_most;
	step = round_up(step < need ? need : step);
	do {
		rc = pages_grow(map->pages, map->units + step);
		map->grow_most = rc == 0 ? 2 * step : QUAD;
		if (rc == 0)
			return extend(map, map->units + step);
		step = step / 2 > need ? round_up(step / 2) : step > need ? need : 0;
	} while (rc == -ENOSPC && step);
	return rc;
}

/* ---- finding room ----------------------------------------------------------------------- */

static bool is_free(const struct region_bits *bits, uint32_t u)
{
	return !bit_get(bits->taken, u) && !bit_get(bits->held, u);
}

/* Free units in a row from `from` on, `count` being enough. */
static uint32_t run_at(const struct region_bits *bits, uint32_t from, uint32_t count)
{
	uint32_t run = 0;

	while (run < count && is_free(bits, from + run))
		run++;
	return run;
}

/* The first place for `count` units, aligned as they must be. `broken`: in a quad that is in use
 * already. */
static bool find_run(const struct region_bits *bits, uint32_t from, uint32_t limit, uint32_t count,
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

/* Looks in region `index` from unit `from` of it on, up to unit `limit`. 0: found; -ENOSPC: not
 * here. */
static int find_within(struct freemap *map, size_t index, uint32_t from, uint32_t limit,
		       uint32_t count, uint64_t *first)
{
	struct region *region = map->regions[index];
	uint32_t found;
	int rc;

	if (region_free(map, index) < count || (region->no_run && count >= region->no_run))
		return -ENOSPC;
	rc = load(map, index);
	if (rc < 0)
		return rc;
	if (!(count < 3 && find_gap(region, limit, count, &found)) &&
	    !find_run(region->bits, from, limit, count, false, &found)) {
		if (from == 0 && limit == region_limit(map, index))
			region->no_run = count;
		return -ENOSPC;
	}
	*first = (uint64_t)index * REGION_UNITS + found;
	return 0;
}

static int find_in(struct freemap *map, size_t index, uint32_t from, uint32_t count,
		   uint64_t *first)
{
	return find_within(map, index, from, region_limit(map, index), count, first);
}

/* As find_in, before map->low. */
static int find_low_in(struct freemap *map, size_t index, uint32_t from, uint32_t count,
		       uint64_t *first)
{
	const uint64_t left = map->low - (uint64_t)index * REGION_UNITS;
	const uint32_t limit = region_limit(map, index);

	return find_within(map, index, from, left < limit ? (uint32_t)left : limit, count, first);
}

/* Next fit too, but from the front if there is nothing behind the cursor. */
static int find_low(struct freemap *map, uint32_t count, uint64_t *first)
{
	int rc = -ENOSPC;

	if (map->cursor < map->low && map->cursor < map->units)
		rc = find_low_in(map, map->cursor / REGION_UNITS,
				 (uint32_t)(map->cursor % REGION_UNITS), count, first);
	for (size_t i = 0; rc == -ENOSPC && i < map->region_count &&
	     (uint64_t)i * REGION_UNITS < map->low; i++)
		rc = find_low_in(map, i, 0, count, first);
	return rc;
}

int freemap_find_low(struct freemap *map, uint64_t units, uint64_t *first)
{
	if (units == 0 || units > REGION_UNITS)
		return -EINVAL;
	return find_low(map, (uint32_t)units, first);
}

/* Next fit: on from where the last one was found, so that what is written together
 * lies together. */
static int find(struct freemap *map, uint32_t count, uint64_t *first)
{
	const size_t start = map->cursor / REGION_UNITS;
	int rc = map->low ? find_low(map, count, first) : -ENOSPC;

	if (rc != -ENOSPC)
		return rc;
	if (start < map->region_count)
		rc = find_in(map, start, (uint32_t)(map->cursor % REGION_UNITS), count, first);
	for (size_t i = 1; rc == -ENOSPC && i <= map->region_count; i++)
		rc = find_in(map, (start + i) % map->region_count, 0, count, first);
	return rc;
}

int freemap_find(struct freemap *map, uint64_t units, bool grow, uint64_t *first)
{
	int rc;

	if (units == 0 || units > REGION_UNITS)
		return -EINVAL;
	rc = find(map, (uint32_t)units, first);
	/* What is new may lie across the end of a region, where no run does. */
	for (int tries = 0; tries < 3 && grow && rc == -ENOSPC; tries++) {
		const int grown = freemap_grow(map, units);

		if (grown < 0)
			return grown;
		rc = find(map, (uint32_t)units, first);
	}
	return rc;
}

/* No block lies across the end of a region. */
static bool in_one_region(struct extent e)
{
	return e.count > 0 && e.count <= REGION_UNITS &&
	       e.first % REGION_UNITS + e.count <= REGION_UNITS;
}

int freemap_load(struct freemap *map, struct extent e)
{
	if (!in_one_region(e) || e.first < SUPER_UNITS || e.first >= map->units ||
	    e.count > map->units - e.first)
		return -EUCLEAN;
	return load(map, e.first / REGION_UNITS);
}

uint32_t freemap_row(const struct freemap *map, uint64_t first, uint64_t units)
{
	const size_t index = first / REGION_UNITS;
	const uint32_t from = (uint32_t)(first % REGION_UNITS);
	uint64_t rest = region_limit(map, index) - from;

	if (first < map->low && map->low - first < rest)
		rest = map->low - first;
	return run_at(map->regions[index]->bits, from, (uint32_t)(units < rest ? units : rest));
}

void freemap_claim(struct freemap *map, struct extent e, bool taken)
{
	freemap_mark(map, e, taken, !taken);
	map->cursor = e.first + e.count;
}

/* ---- the end of the file ---------------------------------------------------------------- */

/* Free units at the end of region `index`. */
static int region_tail(struct freemap *map, size_t index, uint32_t *units)
{
	const struct region *region = map->regions[index];
	uint32_t u = region_limit(map, index);
	int rc = 0;

	*units = u;
	if (region->taken + region->held == 0)
		return 0;
	rc = load(map, index);
	while (rc == 0 && u > 0 && is_free(region->bits, u - 1))
		u--;
	*units -= u;
	return rc;
}

int freemap_tail(struct freemap *map, uint64_t *units)
{
	uint64_t tail = 0;

	for (size_t i = map->region_count; i-- > 0;) {
		uint32_t more;
		const int rc = region_tail(map, i, &more);

		if (rc < 0)
			return rc;
		tail += more;
		if (more < region_limit(map, i))
			break;
	}
	*units = tail / QUAD * QUAD;
	return 0;
}

/* Quads of region `index` that are all free. */
static uint32_t region_quads(const struct freemap *map, size_t index)
{
	const struct region *region = map->regions[index];
	const uint32_t quads = region_limit(map, index) / QUAD;
	uint32_t used = 0;

	if (!region->bits)		/* nothing is held there */
		return quads - region->broken;
	for (uint32_t u = 0; u < quads * QUAD; u += QUAD)
		used += (quad_get(region->bits->taken, u) | quad_get(region->bits->held, u)) != 0;
	return quads - used;
}

uint32_t freemap_quads_without(const struct freemap *map, size_t index,
			       const uint64_t dying[WORDS])
{
	const struct region_bits *bits = map->regions[index]->bits;
	uint32_t quads = 0;

	for (uint32_t u = 0; u < REGION_UNITS; u += QUAD) {
		const uint32_t used = quad_get(bits->taken, u) | quad_get(bits->held, u);

		quads += used && !(used & ~quad_get(dying, u));
	}
	return quads;
}

/* A cut that moves towards the front, past free and used quads. */
struct folding {
	uint64_t at;			/* unit */
	uint64_t free_before, used_behind;	/* quads */
	uint64_t reserve;
	unsigned shift;
};

/* Moves the cut, unless what is behind it would not fit before it any more. */
static bool fold(struct folding *f, uint64_t quads, uint64_t free_quads)
{
	const uint64_t at = f->at - quads * QUAD;
	const uint64_t used = f->used_behind + quads - free_quads;

	if (f->free_before - free_quads < used + f->reserve + (at / QUAD >> f->shift))
		return false;
	f->at = at;
	f->free_before -= free_quads;
	f->used_behind = used;
	return true;
}

int freemap_goal(struct freemap *map, uint64_t reserve, unsigned shift, uint64_t *units)
{
	struct folding f = {
		.at = map->units / QUAD * QUAD, .free_before = map->quads, .reserve = reserve,
		.shift = shift,
	};
	size_t i = map->region_count;
	int rc = 0;

	while (i > 0 && fold(&f, region_limit(map, i - 1) / QUAD, region_quads(map, i - 1)))
		i--;
	if (i > 0)
		rc = load(map, i - 1);
	if (rc < 0)
		return rc;
	for (bool more = i > 0; more && f.at > (uint64_t)(i - 1) * REGION_UNITS;) {
		const struct region_bits *bits = map->regions[i - 1]->bits;
		const uint32_t u = (uint32_t)(f.at - QUAD - (uint64_t)(i - 1) * REGION_UNITS);

		more = fold(&f, 1, !(quad_get(bits->taken, u) | quad_get(bits->held, u)));
	}
	*units = f.at;
	return 0;
}

/* As freemap_cut, of region `index`, `from` being the first unit of it that is behind. */
static int region_cut(struct freemap *map, size_t index, uint32_t from, struct freemap_cut *cut)
{
	const struct region *region = map->regions[index];
	const int rc = load(map, index);

	for (uint32_t u = 0; rc == 0 && u < region_limit(map, index); u++)
		if (u >= from)
			cut->used_behind += !is_free(region->bits, u);
		else if (u % QUAD == 0)
			cut->quads_before += !(quad_get(region->bits->taken, u) |
					       quad_get(region->bits->held, u));
	return rc;
}

int freemap_cut(struct freemap *map, uint64_t units, struct freemap_cut *cut)
{
	int rc = 0;

	*cut = (struct freemap_cut){ 0 };
	for (size_t i = 0; rc == 0 && i < map->region_count; i++) {
		const uint64_t first = (uint64_t)i * REGION_UNITS;

		if (first + region_limit(map, i) <= units)
			cut->quads_before += region_quads(map, i);
		else if (first >= units)
			cut->used_behind += map->regions[i]->taken + map->regions[i]->held;
		else
			rc = region_cut(map, i, (uint32_t)(units - first), cut);
	}
	return rc;
}

void freemap_shrink(struct freemap *map, uint64_t units)
{
	map->units -= units;
	map->free -= units;
	map->quads -= units / QUAD;
	while (map->region_count > 1 &&
	       (map->region_count - 1) * (uint64_t)REGION_UNITS >= map->units) {
		struct region *region = map->regions[--map->region_count];

		mem_free(region->bits);
		mem_free(region);
	}
	if (map->cursor >= map->units)
		map->cursor = 0;
}

/* ---- the directory -------------------------------------------------------------------------- */

/* What the directory says of a region: can its counts be, and its bits lie there? */
static bool region_is_plausible(const struct freemap *map, size_t index)
{
	const struct region *region = map->regions[index];
	const uint32_t limit = region_limit(map, index);

	if (region->taken > limit || region->broken > limit / QUAD ||
	    region->broken > region->taken || region->taken > region->broken * QUAD)
		return false;
	if (!region->ref.length)
		return region->taken <= (index == 0 ? SUPER_UNITS : 0);
	return region->ref.length == UNIT && ref_plausible(&region->ref, map->units);
}

static int decode_directory(struct freemap *map, const uint8_t *block, uint32_t size,
			    struct err *err)
{
	const uint32_t count = get32(block + SPACE_COUNT);
	const uint8_t *at = block + SPACE_HEADER;

	if (get32(block + SPACE_MAGIC) != SPACE_MAGIC_VALUE ||
	    size != SPACE_HEADER + (uint64_t)count * SPACE_REGION_SIZE ||
	    count > map->region_count)
		return err_set(err, -EUCLEAN,
			       FILE_PAGES ": the free map's directory makes no sense");
	for (size_t i = 0; i < count; i++, at += SPACE_REGION_SIZE) {
		struct region *region = map->regions[i];

		region->ref = ref_decode(at + SPACE_REGION_REF);
		map->free += region->taken;
		map->quads += region->broken;
		region->taken = get32(at + SPACE_REGION_TAKEN);
		region->broken = get32(at + SPACE_REGION_BROKEN);
		if (!region_is_plausible(map, i))
			return err_set(err, -EUCLEAN, FILE_PAGES
				       ": the free map's region %zu makes no sense", i);
		map->free -= region->taken;
		map->quads -= region->broken;
	}
	return 0;
}

static int read_directory(struct freemap *map, const struct ref *ref, struct err *err)
{
	uint8_t *block;
	int rc;

	if (ref->length < SPACE_HEADER || ref->length > freemap_directory_size(map->region_count) ||
	    !in_one_region(extent_of(ref)))
		return err_set(err, -EUCLEAN, FILE_PAGES
			       ": the free map's directory cannot be so long, or lie there");
	block = mem_alloc(ref->length);
	if (!block)
		return -ENOMEM;
	rc = pages_read(map->pages, ref, block, err);
	if (rc == 0)
		rc = decode_directory(map, block, ref->length, err);
	mem_free(block);
	return rc;
}

uint32_t freemap_directory_size(size_t region_count)
{
	return (uint32_t)(SPACE_HEADER + region_count * SPACE_REGION_SIZE);
}

void freemap_encode_directory(const struct freemap *map, size_t region_count,
			      uint64_t generation, uint8_t *block)
{
	uint8_t *at = block + SPACE_HEADER;

	memset(block, 0, freemap_directory_size(region_count));
	put32(block + SPACE_MAGIC, SPACE_MAGIC_VALUE);
	put32(block + SPACE_COUNT, (uint32_t)region_count);
	put64(block + SPACE_GENERATION, generation);
	for (size_t i = 0; i < region_count; i++, at += SPACE_REGION_SIZE) {
		ref_encode(&map->regions[i]->ref, at + SPACE_REGION_REF);
		put32(at + SPACE_REGION_TAKEN, map->regions[i]->taken);
		put32(at + SPACE_REGION_BROKEN, map->regions[i]->broken);
	}
}

int freemap_load_region(struct freemap *map, size_t index)
{
	return load(map, index);
}

int freemap_copy_taken(struct freemap *map, size_t index, uint64_t words[WORDS])
{
	const int rc = load(map, index);

	if (rc == 0)
		memcpy(words, map->regions[index]->bits->taken, WORDS * sizeof(*words));
	return rc;
}

/* ---- opening ---------------------------------------------------------------------------- */

int freemap_open(struct freemap *map, struct pages *pages, const struct super *super,
		 struct err *err)
{
	int rc;

	map->pages = pages;
	map->directory = super->space;
	rc = extend(map, pages_units(pages));
	map->free -= SUPER_UNITS;
	map->quads -= SUPER_UNITS / QUAD;
	if (rc == 0 && super->space.length)
		rc = read_directory(map, &super->space, err);
	return rc;
}

void freemap_done(struct freemap *map)
{
	for (size_t i = 0; i < map->region_count; i++) {
		mem_free(map->regions[i]->bits);
		mem_free(map->regions[i]);
	}
	mem_free(map->regions);
}
