#include "space_impl.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

enum {
	GOAL_RESERVE = 384,		/* units that a file made shorter has free, for deletes and
					 * the next checkpoint's map */
};

/* ---- handing out ------------------------------------------------------------------------ */

/* So much was wanted free: the end of the file is not cut shorter. */
static void want(struct space *space, uint64_t units) NEEDS(space->lock)
{
	if (units > space->wanted)
		space->wanted = units;
}

static int alloc(struct space *space, uint64_t units, bool grow, uint64_t *offset)
	WITHOUT(space->lock)
{
	struct extent e = { .count = (uint32_t)units };
	int rc;

	mutex_lock(&space->lock);
	rc = freemap_find(&space->map, units, grow, &e.first);
	if (rc == 0) {
		freemap_claim(&space->map, e, false);
		*offset = e.first * UNIT;
	}
	mutex_unlock(&space->lock);
	return rc;
}

int space_alloc_quads(struct space *space, uint64_t units, uint64_t *offset, uint64_t *got)
{
	struct extent e = { .count = QUAD };
	int rc;

	mutex_lock(&space->lock);
	rc = freemap_find(&space->map, QUAD, true, &e.first);
	if (rc == 0) {
		e.count = freemap_row(&space->map, e.first, units) / QUAD * QUAD;
		freemap_claim(&space->map, e, false);
		*offset = e.first * UNIT;
		*got = e.count;
	}
	mutex_unlock(&space->lock);
	return rc;
}

int space_alloc(struct space *space, uint64_t units, uint64_t *offset)
{
	return alloc(space, units, true, offset);
}

/* Holds a place in as many pieces as it takes: each fits in a quad. */
static int scatter(struct space *space, struct ref *place) NEEDS(space->lock)
{
	struct freemap *map = &space->map;
	const uint32_t pieces = (uint32_t)(ref_units(place) + QUAD - 1) / QUAD;
	struct extent e[REF_PIECES] = { 0 };
	uint32_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < pieces; i++) {
		const uint64_t left = ref_units(place) - (uint64_t)i * QUAD;

		e[i].count = left < QUAD ? (uint32_t)left : QUAD;
		rc = freemap_find(map, e[i].count, false, &e[i].first);
		if (rc == 0)
			freemap_claim(map, e[i], false);
	}
	if (rc < 0) {
		for (i--; i-- > 0;)
			freemap_mark(map, e[i], false, false);
		return rc;
	}
	place->offset = e[0].first * UNIT;
	for (i = 1; i < pieces; i++)
		place->more[i - 1] = e[i].first * UNIT;
	return 0;
}

/* Of a run in a row, nobody but blocks of one or two units can use the rest of its last quad. */
static bool leaves_gap(uint64_t units)
{
	return units % QUAD == 1 || units % QUAD == 2;
}

/* In a row, if that can be. */
static int find_place(struct space *space, bool tight, struct ref *place) NEEDS(space->lock)
{
	struct extent e = { .count = (uint32_t)ref_units(place) };
	const bool can_scatter = e.count > QUAD && e.count <= REF_PIECES * QUAD;
	int rc;

	if (can_scatter && tight && leaves_gap(e.count))
		return scatter(space, place);
	rc = freemap_find(&space->map, e.count, true, &e.first);
	if (rc == -ENOSPC && can_scatter)
		return scatter(space, place);
	if (rc == 0) {
		freemap_claim(&space->map, e, false);
		place->offset = e.first * UNIT;
	}
	return rc;
}

int space_alloc_run(struct space *space, uint32_t length, uint64_t leave, bool tight,
		    struct ref *place)
{
	struct freemap *map = &space->map;
	struct ref found = { .length = length };
	const uint64_t units = ref_units(&found) + leave + 2 * QUAD;
	int rc = 0;

	mutex_lock(&space->lock);
	want(space, units);
	/* The place may begin or end within a quad, and so break two more than it fills. */
	if (map->quads * QUAD < units)
		rc = freemap_grow(map, units - map->quads * QUAD);
	if (rc == 0)
		rc = find_place(space, tight, &found);
	mutex_unlock(&space->lock);
	if (rc == 0)
		*place = found;
	return rc;
}

int space_place(struct space *space, uint64_t units, uint64_t *offset)
{
	return alloc(space, units, false, offset);
}

void space_give_back(struct space *space, const struct ref *ref)
{
	mutex_lock(&space->lock);
	for (uint32_t i = ref_pieces(ref); i-- > 0;) {
		const struct ref piece = ref_piece(ref, i);
		const struct extent e = extent_of(&piece);

		freemap_mark(&space->map, e, false, false);
		/* Handed out last, and next again. */
		if (e.first + e.count == space->map.cursor)
			space->map.cursor = e.first;
	}
	mutex_unlock(&space->lock);
}

static int load_pieces(struct space *space, const struct ref *ref) NEEDS(space->lock)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		rc = freemap_load(&space->map, extent_of(&piece));
	}
	return rc;
}

int space_hold(struct space *space, const struct ref *ref)
{
	int rc;

	mutex_lock(&space->lock);
	rc = ref_plausible(ref, space->map.units) ? load_pieces(space, ref) : -EUCLEAN;
	for (uint32_t i = 0; rc == 0 && i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		freemap_mark(&space->map, extent_of(&piece), false, true);
	}
	mutex_unlock(&space->lock);
	return rc;
}

bool space_has(struct space *space, uint64_t units)
{
	bool has;

	mutex_lock(&space->lock);
	want(space, units);
	has = space->map.quads * QUAD >= units;
	mutex_unlock(&space->lock);
	return has;
}

int space_ensure(struct space *space, uint64_t units, uint64_t row)
{
	struct freemap *map = &space->map;
	uint64_t first;
	int rc = 0;

	mutex_lock(&space->lock);
	want(space, units);
	if (map->quads * QUAD < units)
		rc = freemap_grow(map, units - map->quads * QUAD);
	if (rc == 0 && row)
		rc = freemap_find(map, row, true, &first);	/* grows, if there is none */
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- births and deaths ------------------------------------------------------------------ */

int space_reserve(struct space *space, uint64_t count)
{
	int rc;

	mutex_lock(&space->lock);
	rc = extents_reserve(&space->spare, 2 * count, 2);
	mutex_unlock(&space->lock);
	return rc;
}

static void add_pieces(struct space *space, struct extents *list, const struct ref *ref)
	NEEDS(space->lock)
{
	for (uint32_t i = 0; i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		extents_add(&space->spare, list, extent_of(&piece));
	}
}

void space_born(struct space *space, const struct ref *ref)
{
	mutex_lock(&space->lock);
	add_pieces(space, &space->now.born, ref);
	mutex_unlock(&space->lock);
}

void space_dead(struct space *space, const struct ref *ref)
{
	mutex_lock(&space->lock);
	add_pieces(space, &space->now.dead, ref);
	space->dead += ref_units(ref);
	space->died += ref_units(ref);
	mutex_unlock(&space->lock);
}

int space_add_own(struct space *space, struct extents *list, struct extent e)
{
	const int rc = extents_reserve(&space->own, 1, 1);

	if (rc == 0)
		extents_add(&space->own, list, e);
	return rc;
}

int space_born_frozen(struct space *space, const struct ref *ref)
{
	int rc;

	mutex_lock(&space->lock);
	rc = space_add_own(space, &space->frozen.born, extent_of(ref));
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- readers ---------------------------------------------------------------------------- */

/* The newest reader of a generation up to `latest` that may need what was born in `birth`; NULL:
 * none does. */
static struct space_reader *needed_by(const struct space *space, uint64_t birth, uint64_t latest)
{
	struct space_reader *reader = space->newest;

	while (reader && reader->generation > latest)
		reader = reader->older;
	return reader && reader->generation >= birth ? reader : NULL;
}

void space_let_go(struct space *space, struct extent e, uint64_t latest)
{
	struct space_reader *reader = needed_by(space, e.birth, latest);

	if (reader) {
		extents_add(&space->own, &reader->held, e);
		space->reader_units += e.count;
	} else {
		freemap_mark(&space->map, e, false, false);
	}
}

int space_reader_open(struct space *space, uint64_t generation, struct space_reader **out)
{
	struct space_reader *reader = mem_zalloc(sizeof(*reader)), **link;
	int rc;

	if (!reader)
		return -ENOMEM;
	reader->generation = generation;
	mutex_lock(&space->lock);
	/* A checkpoint under way counts on a place for us. */
	rc = extents_reserve_one(&space->own);
	if (rc == 0) {
		for (link = &space->newest; *link && (*link)->generation > generation;
		     link = &(*link)->older)
			reader->newer = *link;
		reader->older = *link;
		if (*link)
			(*link)->newer = reader;
		*link = reader;
		space->reader_count++;
	}
	mutex_unlock(&space->lock);
	if (rc < 0)
		mem_free(reader);
	else
		*out = reader;
	return rc;
}

struct closing {
	struct space *space;
	uint64_t older;			/* generation of the next older reader; 0: there is none */
};

static bool still_needed(void *arg, struct extent e)
{
	struct closing *c = arg;

	if (e.birth <= c->older)
		return true;
	freemap_mark(&c->space->map, e, false, false);
	c->space->reader_units -= e.count;
	return false;
}

void space_reader_close(struct space *space, struct space_reader *reader)
{
	struct closing c = { .space = space };

	if (!reader)
		return;
	mutex_lock(&space->lock);
	if (reader->newer)
		reader->newer->older = reader->older;
	else
		space->newest = reader->older;
	if (reader->older) {
		reader->older->newer = reader->newer;
		c.older = reader->older->generation;
	}
	space->reader_count--;
	extents_filter(&reader->held, still_needed, &c);
	if (reader->older)
		extents_join(&reader->older->held, &reader->held);
	mutex_unlock(&space->lock);
	extents_free(&reader->held);
	mem_free(reader);
}

int space_reader_hold(struct space *space, uint64_t generation, const struct ref *ref)
{
	int rc;

	mutex_lock(&space->lock);
	rc = extents_reserve(&space->own, 1, 1);
	if (rc == 0)
		space_let_go(space, extent_of(ref), generation);
	mutex_unlock(&space->lock);
	return rc;
}

/* ---- making the file shorter ------------------------------------------------------------ */

int space_goal(struct space *space, unsigned shift, uint64_t *goal, uint64_t *units)
{
	int rc;

	mutex_lock(&space->lock);
	rc = freemap_goal(&space->map, GOAL_RESERVE / QUAD, shift, goal);
	*units = pages_units(space->pages);
	mutex_unlock(&space->lock);
	return rc;
}

uint64_t space_step(struct space *space)
{
	uint64_t units;

	mutex_lock(&space->lock);
	units = freemap_step(&space->map);
	mutex_unlock(&space->lock);
	return units;
}

int space_behind(struct space *space, uint64_t limit, uint64_t *used, uint64_t *room)
{
	struct freemap_cut cut;
	int rc;

	mutex_lock(&space->lock);
	rc = freemap_cut(&space->map, limit, &cut);
	mutex_unlock(&space->lock);
	*used = cut.used_behind;
	*room = cut.quads_before * QUAD;
	return rc;
}

void space_prefer(struct space *space, uint64_t limit)
{
	mutex_lock(&space->lock);
	space->map.low = limit;
	mutex_unlock(&space->lock);
}

int space_alloc_low(struct space *space, uint64_t units, uint64_t leave, uint64_t *offset)
{
	struct freemap *map = &space->map;
	struct extent e = { .count = (uint32_t)units };
	int rc = -ENOSPC;

	mutex_lock(&space->lock);
	if (map->quads * QUAD >= units + leave + 2 * QUAD)	/* see space_alloc_run */
		rc = freemap_find_low(map, units, &e.first);
	if (rc == 0) {
		freemap_claim(map, e, false);
		*offset = e.first * UNIT;
	}
	mutex_unlock(&space->lock);
	return rc;
}

void space_calm(struct space *space)
{
	mutex_lock(&space->lock);
	space->wanted = space->wanted_before = 0;
	mutex_unlock(&space->lock);
}

/* ---- opening and looking ---------------------------------------------------------------- */

int space_open(struct pages *pages, const struct super *super, struct space **out,
	       struct err *err)
{
	struct space *space = mem_zalloc(sizeof(*space));
	int rc;

	if (!space)
		return -ENOMEM;
	mutex_init(&space->lock);
	space->pages = pages;
	space->counted[0] = super->units;
	space->counted[1] = pages_units(pages);		/* the other superblock's: unknown */
	rc = freemap_open(&space->map, pages, super, err);
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
	assert(!space->newest);
	freemap_done(&space->map);
	extents_free(&space->now.born);
	extents_free(&space->now.dead);
	extents_free(&space->frozen.born);
	extents_free(&space->frozen.dead);
	extents_free(&space->kept);
	extents_free(&space->took);
	extents_free(&space->dropped);
	extents_pool_free(&space->spare);
	extents_pool_free(&space->own);
	mutex_done(&space->lock);
	mem_free(space);
}

void space_trouble(struct space *space, struct err *err)
{
	mutex_lock(&space->lock);
	*err = space->map.trouble;
	mutex_unlock(&space->lock);
}

void space_stats(struct space *space, struct space_stats *out)
{
	mutex_lock(&space->lock);
	*out = (struct space_stats){
		.units = space->map.units, .free_units = space->map.free,
		.quad_units = space->map.quads * QUAD, .dead_units = space->dead,
		.dead_blocks = space->now.dead.count + space->frozen.dead.count,
		.reader_units = space->reader_units, .readers = space->reader_count,
		.reader = space->newest ? space->newest->generation : 0,
		.died_units = space->died,
	};
	mutex_unlock(&space->lock);
}

struct coming {
	struct space *space;
	uint64_t generation;
	uint64_t **dying;		/* by region, bits of what dies there; NULL: nothing */
	uint64_t units;
};

/* What makes no sense is for the checkpoint to meet. */
static int note_coming(void *arg, struct extent e)
{
	struct coming *c = arg;
	const size_t index = e.first / REGION_UNITS;
	uint64_t *dying;

	if (e.birth <= c->generation || freemap_load(&c->space->map, e) < 0)
		return 0;
	if (!c->dying[index])
		c->dying[index] = mem_zalloc(REGION_UNITS / 8);
	dying = c->dying[index];
	for (uint64_t u = e.first % REGION_UNITS, i = 0; dying && i < e.count; u++, i++)
		dying[u / 64] |= (uint64_t)1 << (u % 64);
	c->units += dying ? e.count : 0;
	return 0;
}

/* Under the lock. */
static void count_coming(struct coming *c, struct space_coming *out)
{
	struct freemap *map = &c->space->map;
	uint64_t quads = 0;

	extents_each(&c->space->frozen.dead, note_coming, c);
	extents_each(&c->space->now.dead, note_coming, c);
	for (size_t i = 0; i < map->region_count; i++) {
		if (c->dying[i])
			quads += freemap_quads_without(map, i, c->dying[i]);
		mem_free(c->dying[i]);
	}
	*out = (struct space_coming){ c->units, quads * QUAD };
}

void space_coming(struct space *space, uint64_t generation, struct space_coming *out)
{
	struct coming c = { .space = space, .generation = generation };

	*out = (struct space_coming){ 0 };
	mutex_lock(&space->lock);
	if (space->newest && space->newest->generation > generation)
		c.generation = space->newest->generation;
	c.dying = mem_zalloc(space->map.region_count * sizeof(*c.dying));
	if (c.dying)
		count_coming(&c, out);
	mutex_unlock(&space->lock);
	mem_free(c.dying);
}

/* Copies region `index`'s map to `words`; *found is false behind the last one. */
static int copy_taken(struct space *space, size_t index, uint64_t *words, bool *found)
{
	int rc = 0;

	mutex_lock(&space->lock);
	*found = index < space->map.region_count;
	if (*found)
		rc = freemap_copy_taken(&space->map, index, words);
	mutex_unlock(&space->lock);
	return rc;
}

static bool bit_get(const uint64_t *words, uint32_t bit)
{
	return words[bit / 64] >> (bit % 64) & 1;
}

int space_each_taken(struct space *space,
		     int (*visit)(void *arg, uint64_t first_unit, uint64_t count), void *arg)
{
	uint64_t words[REGION_UNITS / 64];
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
	found = index < space->map.region_count;
	if (found)
		*ref = space->map.regions[index]->ref;
	mutex_unlock(&space->lock);
	return found;
}

int space_each_own(struct space *space, int (*visit)(void *arg, const struct ref *ref), void *arg)
{
	int rc = space->map.directory.length ? visit(arg, &space->map.directory) : 0;
	struct ref ref;

	for (size_t i = 0; rc == 0 && region_ref(space, i, &ref); i++)
		if (ref.length)
			rc = visit(arg, &ref);
	return rc;
}
