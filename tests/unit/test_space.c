/* The free map against a model: a list of blocks, and what has become of each. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "freemap.h"
#include "mem.h"
#include "sim/disk.h"
#include "space.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

enum { BLOCKS = 4000, UNITS = 1 << 16 };

/* DYING: dead since before the checkpoint under way. */
enum fate { GONE, HELD, NAMED, DEAD, DYING };

struct block {
	struct ref ref;
	enum fate fate;
};

struct bench {
	struct sim *disk;
	struct os_dir *dir;
	struct pages *pages;
	struct space *space;
	struct super super;
	struct block blocks[BLOCKS];
	bool taken[UNITS];	/* of the frozen moment */
	uint64_t seed;
};

static uint32_t pick(struct bench *b, uint32_t below)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return (uint32_t)(b->seed >> 20) % below;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct os *os;
	struct err err;

	b->seed = 20261121;
	b->disk = sim_new(1);
	os = sim_os(b->disk);
	b->super = (struct super){ .generation = 1, .units = SUPER_UNITS };
	assert_int_equal(os->open_dir(os, "/store", OS_CREATE, &b->dir), 0);
	assert_int_equal(pages_create(os, b->dir, &b->pages, NULL), 0);
	assert_int_equal(pages_write_super(b->pages, &b->super), 0);
	assert_int_equal(space_open(b->pages, &b->super, &b->space, &err), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	space_close(b->space);
	pages_close(b->pages);
	sim_os(b->disk)->close_dir(b->dir);
	sim_free(b->disk);
	free(b);
	return 0;
}

static void reopen(struct bench *b)
{
	struct err err;

	space_close(b->space);
	pages_close(b->pages);
	assert_int_equal(pages_open(sim_os(b->disk), b->dir, &b->super, NULL, &b->pages, &err), 0);
	assert_int_equal(space_open(b->pages, &b->super, &b->space, &err), 0);
}

static bool overlap(const struct ref *a, const struct ref *b)
{
	return a->offset < b->offset + ref_units(b) * UNIT &&
	       b->offset < a->offset + ref_units(a) * UNIT;
}

/* A block of `units`; the place must be nobody else's. */
static struct block *alloc(struct bench *b, uint32_t units)
{
	struct block *new = b->blocks;

	while (new->fate != GONE)
		assert_true(++new < b->blocks + BLOCKS);
	new->ref = (struct ref){ .length = units * UNIT, .generation = 1 };
	assert_int_equal(space_alloc(b->space, units, &new->ref.offset), 0);
	assert_true(ref_plausible(&new->ref, pages_units(b->pages)));
	for (struct block *other = b->blocks; other < b->blocks + BLOCKS; other++)
		assert_true(other->fate == GONE || !overlap(&other->ref, &new->ref));
	new->fate = HELD;
	return new;
}

static void born(struct bench *b, struct block *block)
{
	assert_int_equal(space_reserve(b->space, 1), 0);
	space_born(b->space, &block->ref);
	block->fate = NAMED;
}

static void dies(struct bench *b, struct block *block)
{
	assert_int_equal(space_reserve(b->space, 1), 0);
	space_dead(b->space, &block->ref);
	block->fate = DEAD;
}

/* Some blocks are made, named, given back, and die. */
static void live(struct bench *b, uint32_t steps)
{
	while (steps-- > 0) {
		struct block *block = &b->blocks[pick(b, BLOCKS / 8)];

		if (block->fate == HELD && pick(b, 3) == 0) {
			space_give_back(b->space, &block->ref);
			block->fate = GONE;
		} else if (block->fate == HELD) {
			born(b, block);
		} else if (block->fate == NAMED && pick(b, 3) == 0) {
			dies(b, block);
		} else if (pick(b, 2) == 0) {
			alloc(b, 1 + pick(b, 9));
		}
	}
}

static void freeze(struct bench *b)
{
	memset(b->taken, 0, sizeof(b->taken));
	memset(b->taken, 1, SUPER_UNITS);
	for (struct block *block = b->blocks; block < b->blocks + BLOCKS; block++) {
		if (block->fate == DEAD)
			block->fate = DYING;
		for (uint64_t u = 0; block->fate == NAMED && u < ref_units(&block->ref); u++)
			b->taken[block->ref.offset / UNIT + u] = true;
	}
	space_freeze(b->space);
}

static void dying_are(struct bench *b, enum fate fate)
{
	for (struct block *block = b->blocks; block < b->blocks + BLOCKS; block++)
		if (block->fate == DYING)
			block->fate = fate;
}

/* The rest of a checkpoint. */
static void store(struct bench *b)
{
	struct space_stats stats;

	b->super.generation++;
	assert_int_equal(space_store(b->space, b->super.generation, &b->super.space), 0);
	space_stats(b->space, &stats);
	b->super.units = stats.units;
	assert_int_equal(pages_write_super(b->pages, &b->super), 0);
	space_durable(b->space, b->super.units);
	dying_are(b, GONE);
}

static int own(void *arg, const struct ref *ref)
{
	struct bench *b = arg;

	for (uint64_t u = 0; u < ref_units(ref); u++) {
		assert_false(b->taken[ref->offset / UNIT + u]);
		b->taken[ref->offset / UNIT + u] = true;
	}
	return 0;
}

static int found(void *arg, uint64_t first, uint64_t count)
{
	struct bench *b = arg;

	for (uint64_t u = first; u < first + count; u++) {
		assert_true(b->taken[u]);
		b->taken[u] = false;
	}
	return 0;
}

/* The map has exactly what was named when it was frozen, and itself. */
static void map_is_right(struct bench *b)
{
	assert_int_equal(space_each_own(b->space, own, b), 0);
	assert_int_equal(space_each_taken(b->space, found, b), 0);
	for (size_t u = 0; u < UNITS; u++)
		assert_false(b->taken[u]);
}

/* ---- stories ---------------------------------------------------------------------------- */

static void the_map_is_that_of_the_moment_it_was_frozen(void **state)
{
	struct bench *b = *state;

	for (int round = 0; round < 40; round++) {
		live(b, 200);
		freeze(b);
		live(b, 50);
		store(b);
		live(b, 50);
		map_is_right(b);
	}
}

static void a_checkpoint_that_failed_leaves_all_to_the_next(void **state)
{
	struct bench *b = *state;
	uint32_t failures = 0;

	for (int round = 0; round < 40; round++) {
		struct ref nowhere;
		const struct ref before = b->super.space;

		live(b, 150);
		freeze(b);
		live(b, 80);
		sim_fail(b->disk, SIM_WRITE, pick(b, 2), -EIO);
		failures += space_store(b->space, b->super.generation + 1, &nowhere) == -EIO;
		sim_fail(b->disk, SIM_WRITE, -1, 0);
		space_thaw(b->space, false);
		dying_are(b, DEAD);
		for (struct block *block = b->blocks; block < b->blocks + BLOCKS; block++)
			assert_true(block->fate == GONE || !before.length ||
				    !overlap(&block->ref, &before));
		live(b, 50);
		freeze(b);
		store(b);
		map_is_right(b);
	}
	assert_int_equal(failures, 40);
}

static void what_is_only_held_is_free_after_a_crash_and_the_named_is_not(void **state)
{
	struct bench *b = *state;
	struct space_stats stats;
	uint64_t named = 0;

	live(b, 1000);
	freeze(b);
	store(b);
	reopen(b);
	for (struct block *block = b->blocks; block < b->blocks + BLOCKS; block++) {
		if (block->fate == NAMED)
			named += ref_units(&block->ref);
		else
			block->fate = GONE;
	}
	space_stats(b->space, &stats);
	assert_int_equal(stats.free_units, stats.units - named - SUPER_UNITS - 2);
	for (int i = 0; i < 200; i++)
		alloc(b, 1 + pick(b, 9));
}

static void the_dead_keep_their_place_until_the_superblock_is_there(void **state)
{
	struct bench *b = *state;
	struct block *block = alloc(b, 4);
	struct space_stats stats;
	uint64_t before;

	born(b, block);
	freeze(b);
	store(b);
	dies(b, block);
	space_stats(b->space, &stats);
	before = stats.free_units;
	freeze(b);
	assert_int_equal(space_store(b->space, 3, &b->super.space), 0);
	space_stats(b->space, &stats);
	assert_true(stats.dead_units >= 4 && stats.free_units <= before);
	space_durable(b->space, b->super.units);
	space_stats(b->space, &stats);
	assert_int_equal(stats.dead_units, 0);
	assert_int_equal(stats.free_units, before + 4);
}

static void a_full_disk_refuses_and_takes_nothing(void **state)
{
	struct bench *b = *state;
	struct space_stats stats, after;
	uint64_t offset;
	int rc;

	sim_limit(b->disk, 4 << 20);
	while ((rc = space_alloc(b->space, 16, &offset)) == 0)
		continue;
	assert_int_equal(rc, -ENOSPC);
	space_stats(b->space, &stats);
	assert_true(stats.free_units < 32 && stats.units > 900);
	assert_int_equal(space_ensure(b->space, stats.quad_units + 64, 0), -ENOSPC);
	assert_int_equal(space_ensure(b->space, stats.quad_units, 0), 0);
	space_stats(b->space, &after);
	assert_int_equal(after.free_units, stats.free_units);
}

/* Some disks take long to say no, and others wait meanwhile. */
static void a_disk_that_refused_is_not_asked_in_vain_again(void **state)
{
	struct bench *b = *state;
	uint64_t asked, offset;

	sim_limit(b->disk, 4 << 20);
	while (space_alloc(b->space, 16, &offset) == 0)
		continue;
	asked = sim_count(b->disk, SIM_ALLOCATE);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(space_alloc(b->space, 16, &offset), -ENOSPC);
		assert_int_equal(sim_count(b->disk, SIM_ALLOCATE), asked + i);
	}
	sim_limit(b->disk, 64 << 20);
	asked = sim_count(b->disk, SIM_ALLOCATE);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(space_alloc(b->space, 16, &offset), 0);
	assert_in_range(sim_count(b->disk, SIM_ALLOCATE), asked + 1, asked + 40);
}

/* Quads that are free, or that are no longer in the map. */
static uint64_t quads_free(struct bench *b)
{
	struct space_stats stats;

	space_stats(b->space, &stats);
	return (stats.quad_units + UNITS - stats.units) / QUAD;
}

/* Blocks that share quads die, some together and some not. */
static void what_is_coming_is_what_a_checkpoint_frees(void **state)
{
	enum { OWN = 8 };	/* quads that the map's own blocks may make free, or use */
	struct bench *b = *state;
	struct space_coming coming;
	uint64_t before;

	for (unsigned i = 0; i < 400; i++)
		born(b, alloc(b, 1 + i % 3));
	freeze(b);
	store(b);
	for (unsigned i = 0; i < 400; i++)
		if (i % 5)
			dies(b, &b->blocks[i]);
	before = quads_free(b);
	space_coming(b->space, 0, &coming);
	assert_in_range(coming.quad_units / QUAD, 100, 200);
	freeze(b);
	store(b);
	map_is_right(b);
	assert_in_range(quads_free(b) + OWN - before, coming.quad_units / QUAD,
			coming.quad_units / QUAD + 2 * OWN);
}

/* A run of 5 units fills a quad, and a quarter of one that others use. */
static void runs_placed_tight_share_quads(void **state)
{
	struct bench *b = *state;
	struct ref place;
	uint64_t before;

	assert_int_equal(space_ensure(b->space, 1000, 0), 0);
	before = quads_free(b);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(space_alloc_run(b->space, 5 * UNIT - 1, 0, true, &place), 0);
		assert_true(ref_plausible(&place, pages_units(b->pages)));
	}
	assert_int_equal(before - quads_free(b), 50);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(space_alloc_run(b->space, 5 * UNIT - 1, 0, false, &place), 0);
	assert_int_equal(before - quads_free(b), 130);
}

/* The file has become shorter than was aimed at, and all of it is in use. */
static void an_aim_behind_the_end_of_the_file_is_no_place(void **state)
{
	struct bench *b = *state;
	struct space_stats stats;
	uint64_t offset;
	int rc;

	sim_limit(b->disk, (uint64_t)REGION_UNITS * UNIT);
	while ((rc = space_alloc(b->space, QUAD, &offset)) == 0)
		continue;
	assert_int_equal(rc, -ENOSPC);
	space_stats(b->space, &stats);
	assert_int_equal(stats.units, REGION_UNITS);
	space_prefer(b->space, REGION_UNITS + 64);
	assert_int_equal(space_alloc(b->space, QUAD, &offset), -ENOSPC);
	assert_int_equal(space_alloc_low(b->space, QUAD, 0, &offset), -ENOSPC);
}

/* A directory with a good checksum; `field` of region 0 is wrong. */
static int open_with(struct bench *b, uint32_t field, uint32_t value)
{
	uint8_t block[SPACE_HEADER + SPACE_REGION_SIZE] = { 0 };
	struct super super = { .generation = 2, .units = pages_units(b->pages) };
	struct space *space;
	struct err err;
	int rc;

	put32(block + SPACE_MAGIC, SPACE_MAGIC_VALUE);
	put32(block + SPACE_COUNT, 1);
	put32(block + SPACE_HEADER + SPACE_REGION_TAKEN, SUPER_UNITS);
	put32(block + SPACE_HEADER + SPACE_REGION_BROKEN, 1);
	put32(block + field, value);
	assert_int_equal(pages_write(b->pages, 8 * UNIT, 2, slice_of(block, sizeof(block)),
				     &super.space), 0);
	rc = space_open(b->pages, &super, &space, &err);
	if (rc == 0)
		space_close(space);
	return rc;
}

static void a_directory_that_makes_no_sense_is_refused(void **state)
{
	enum {
		TAKEN = SPACE_HEADER + SPACE_REGION_TAKEN,
		BROKEN = SPACE_HEADER + SPACE_REGION_BROKEN,
	};
	const uint32_t wrong[][2] = {
		{ SPACE_MAGIC, 0 },
		{ SPACE_COUNT, 0 }, { SPACE_COUNT, 2 }, { SPACE_COUNT, UINT32_MAX },
		{ TAKEN, 0 }, { TAKEN, 5 }, { TAKEN, UINT32_MAX },
		{ BROKEN, 0 }, { BROKEN, 5 }, { BROKEN, UINT32_MAX },
		{ SPACE_HEADER + REF_LENGTH, 1 }, { SPACE_HEADER + REF_LENGTH, UNIT },
	};
	struct bench *b = *state;

	assert_int_equal(space_ensure(b->space, 100, 0), 0);
	assert_int_equal(open_with(b, SPACE_MAGIC, SPACE_MAGIC_VALUE), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(open_with(b, wrong[i][0], wrong[i][1]), -EUCLEAN);
}

/* Both with good checksums: an older copy of the one was put back, say. */
static void bits_that_contradict_the_directory_are_refused_when_they_are_read(void **state)
{
	/* Superblocks, the directory and the bits themselves: a quad each. */
	const uint8_t bits[UNIT] = { (1 << SUPER_UNITS) - 1, 0x11 };
	const uint32_t counts[][2] = { { 6, 3 }, { 5, 3 }, { 7, 3 }, { 6, 2 }, { 6, 4 } };
	struct bench *b = *state;

	assert_int_equal(space_ensure(b->space, 100, 0), 0);
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		uint8_t block[SPACE_HEADER + SPACE_REGION_SIZE] = { 0 };
		struct super super = { .generation = 2, .units = pages_units(b->pages) };
		struct err err = { "" };
		struct space *space;
		struct ref ref;
		uint64_t offset;

		assert_int_equal(pages_write(b->pages, 12 * UNIT, 2, slice_of(bits, UNIT), &ref),
				 0);
		put32(block + SPACE_MAGIC, SPACE_MAGIC_VALUE);
		put32(block + SPACE_COUNT, 1);
		ref_encode(&ref, block + SPACE_HEADER + SPACE_REGION_REF);
		put32(block + SPACE_HEADER + SPACE_REGION_TAKEN, counts[i][0]);
		put32(block + SPACE_HEADER + SPACE_REGION_BROKEN, counts[i][1]);
		assert_int_equal(pages_write(b->pages, 8 * UNIT, 2, slice_of(block, sizeof(block)),
					     &super.space), 0);
		assert_int_equal(space_open(b->pages, &super, &space, &err), 0);
		assert_int_equal(space_alloc(space, 1, &offset), i ? -EUCLEAN : 0);
		space_trouble(space, &err);
		assert_true(!i || strstr(err.text, "offset 49152 contradicts"));
		space_close(space);
	}
}

/* A checkpoint of a million blocks must not take a gigabyte for its lists. */
static void the_lists_of_a_checkpoint_take_what_they_hold(void **state)
{
	enum { COUNT = 2000 };
	struct bench *b = *state;
	struct ref ref = { .offset = (uint64_t)SUPER_UNITS * UNIT, .length = UNIT };

	freeze(b);
	mem_fail_after(-1, 0);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(space_born_frozen(b->space, &ref), 0);
	assert_in_range(mem_count(), 1, COUNT / 32);
}

int main(void)
{
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		STORY(the_map_is_that_of_the_moment_it_was_frozen),
		STORY(a_checkpoint_that_failed_leaves_all_to_the_next),
		STORY(what_is_only_held_is_free_after_a_crash_and_the_named_is_not),
		STORY(the_dead_keep_their_place_until_the_superblock_is_there),
		STORY(a_full_disk_refuses_and_takes_nothing),
		STORY(a_disk_that_refused_is_not_asked_in_vain_again),
		STORY(what_is_coming_is_what_a_checkpoint_frees),
		STORY(runs_placed_tight_share_quads),
		STORY(an_aim_behind_the_end_of_the_file_is_no_place),
		STORY(a_directory_that_makes_no_sense_is_refused),
		STORY(bits_that_contradict_the_directory_are_refused_when_they_are_read),
		STORY(the_lists_of_a_checkpoint_take_what_they_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
