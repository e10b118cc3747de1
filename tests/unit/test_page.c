/* The page file: superblocks that are damaged one by one, blocks that are not what
 * they should be. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "page.h"
#include "sim/disk.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

static struct os_dir *open_dir(struct sim *disk)
{
	struct os_dir *dir = NULL;

	assert_int_equal(sim_os(disk)->open_dir(sim_os(disk), "/store", OS_CREATE, &dir), 0);
	return dir;
}

/* A page file with superblocks of generations 4 (slot 0) and 5 (slot 1). */
static struct sim *file_of_two(void)
{
	struct sim *disk = sim_new(1);
	struct os_dir *dir = open_dir(disk);
	struct super super = { .units = SUPER_UNITS };
	struct pages *pages;

	assert_int_equal(pages_create(sim_os(disk), dir, &pages, NULL), 0);
	for (super.generation = 4; super.generation <= 5; super.generation++) {
		super.mark.revision = super.generation * 10;
		assert_int_equal(pages_write_super(pages, &super), 0);
	}
	pages_close(pages);
	sim_os(disk)->close_dir(dir);
	return disk;
}

/* What opening says, and if it is 0 the generation found. */
static int try_open(struct sim *disk, uint64_t *generation, bool *damaged)
{
	struct os_dir *dir = open_dir(disk);
	struct pages *pages;
	struct super super;
	const int rc = pages_open(sim_os(disk), dir, &super, damaged, &pages, NULL);

	if (rc == 0) {
		*generation = super.generation;
		assert_int_equal(super.mark.revision, super.generation * 10);
		pages_close(pages);
	}
	sim_os(disk)->close_dir(dir);
	return rc;
}

static void spoil(struct sim *disk, unsigned unit, uint64_t offset)
{
	assert_int_equal(sim_flip(disk, FILE_PAGES, unit * (uint64_t)UNIT + offset, 0x40), 0);
}

/* ---- stories ---------------------------------------------------------------------------- */

/* Bit `u` of `spoilt` says that unit u is damaged, which every set of them is, in turn. */
static void the_newest_superblock_of_which_a_copy_is_good_counts(void **state)
{
	(void)state;
	for (unsigned spoilt = 0; spoilt < 1u << SUPER_UNITS; spoilt++) {
		const bool older = (spoilt & 5) != 5, newer = (spoilt & 10) != 10;
		struct sim *disk = file_of_two();
		uint64_t generation = 0;
		bool damaged = false;
		int rc;

		for (unsigned unit = 0; unit < SUPER_UNITS; unit++)
			if (spoilt >> unit & 1)
				spoil(disk, unit, SUPER_REVISION);
		rc = try_open(disk, &generation, &damaged);
		assert_int_equal(rc, older || newer ? 0 : -EUCLEAN);
		if (rc == 0) {
			assert_int_equal(generation, newer ? 5 : 4);
			assert_int_equal(damaged, !(older && newer));
		}
		sim_free(disk);
	}
}

static void a_superblock_with_any_byte_wrong_is_none(void **state)
{
	struct super super = { .generation = 1, .units = SUPER_UNITS };
	uint8_t unit[UNIT];
	uint32_t version;
	(void)state;

	super_encode(&super, unit);
	assert_int_equal(super_decode(unit, &super, &version), 0);
	for (unsigned at = 0; at < UNIT; at++) {
		unit[at] ^= 1;
		assert_int_equal(super_decode(unit, &super, &version), -ENODATA);
		unit[at] ^= 1;
	}
}

static void a_superblock_that_leads_out_of_the_file_is_none(void **state)
{
	const struct ref bad[] = {
		{ .offset = 0, .length = 1 },				/* a superblock itself */
		{ .offset = 7 * UNIT + 1, .length = 1 },
		{ .offset = 20 * UNIT, .length = 1 },
		{ .offset = 19 * UNIT, .length = UNIT + 1 },
		{ .offset = UINT64_MAX / UNIT * UNIT, .length = UINT32_MAX },
	};
	uint8_t unit[UNIT];
	uint32_t version;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		const struct super root = { .generation = 1, .units = 20, .root = bad[i] };
		const struct super space = { .generation = 1, .units = 20, .space = bad[i] };
		struct super out;

		super_encode(&root, unit);
		assert_int_equal(super_decode(unit, &out, &version), -ENODATA);
		super_encode(&space, unit);
		assert_int_equal(super_decode(unit, &out, &version), -ENODATA);
	}
}

static void a_file_that_was_cut_short_is_refused(void **state)
{
	(void)state;
	for (uint64_t size = 0; size < SUPER_UNITS * (uint64_t)UNIT; size += UNIT / 2) {
		struct sim *disk = file_of_two();
		struct os_dir *dir = open_dir(disk);
		struct os_file *file;
		uint64_t generation;
		bool damaged;

		assert_int_equal(sim_os(disk)->open(dir, FILE_PAGES, 0, &file), 0);
		assert_int_equal(sim_os(disk)->truncate(file, size), 0);
		sim_os(disk)->close(file);
		sim_os(disk)->close_dir(dir);
		assert_int_equal(try_open(disk, &generation, &damaged), -EUCLEAN);
		sim_free(disk);
	}
}

static void a_block_is_read_only_through_its_reference(void **state)
{
	struct sim *disk = sim_new(1);
	struct os_dir *dir = open_dir(disk);
	uint8_t bytes[100] = "what was written", back[101];
	struct pages *pages;
	struct ref ref, wrong;
	(void)state;

	assert_int_equal(pages_create(sim_os(disk), dir, &pages, NULL), 0);
	assert_int_equal(pages_grow(pages, 8), 0);
	assert_int_equal(pages_write(pages, 5 * UNIT, 3, slice_of(bytes, sizeof(bytes)), &ref), 0);
	assert_int_equal(pages_read(pages, &ref, back, NULL), 0);
	assert_memory_equal(back, bytes, sizeof(bytes));

	wrong = ref;
	wrong.sum++;
	assert_int_equal(pages_read(pages, &wrong, back, NULL), -EBADMSG);
	wrong = ref;
	wrong.length++;
	assert_int_equal(pages_read(pages, &wrong, back, NULL), -EBADMSG);
	wrong = ref;
	wrong.offset = 8 * UNIT;
	assert_int_equal(pages_read(pages, &wrong, back, NULL), -EBADMSG);
	for (uint64_t at = 0; at < sizeof(bytes); at++) {
		assert_int_equal(sim_flip(disk, FILE_PAGES, 5 * UNIT + at, 1), 0);
		assert_int_equal(pages_read(pages, &ref, back, NULL), -EBADMSG);
		assert_int_equal(sim_flip(disk, FILE_PAGES, 5 * UNIT + at, 1), 0);
	}
	assert_int_equal(pages_read(pages, &ref, back, NULL), 0);
	pages_close(pages);
	sim_os(disk)->close_dir(dir);
	sim_free(disk);
}

static void after_a_failed_sync_no_superblock_is_trusted(void **state)
{
	(void)state;
	for (int of_super = 0; of_super < 2; of_super++) {
		struct sim *disk = sim_new(1);
		struct os_dir *dir = open_dir(disk);
		const struct super super = { .generation = 1, .units = SUPER_UNITS };
		struct pages *pages;
		struct ref ref;

		assert_int_equal(pages_create(sim_os(disk), dir, &pages, NULL), 0);
		assert_int_equal(pages_grow(pages, 8), 0);
		assert_int_equal(pages_write(pages, 5 * UNIT, 1, slice_of("x", 1), &ref), 0);
		sim_fail(disk, of_super ? SIM_WRITE : SIM_SYNC, 0, -EIO);
		assert_int_equal(of_super ? pages_write_super(pages, &super) : pages_sync(pages),
				 -EIO);
		assert_int_equal(pages_sync(pages), -EROFS);
		assert_int_equal(pages_write_super(pages, &super), -EROFS);
		pages_close(pages);
		sim_os(disk)->close_dir(dir);
		sim_free(disk);
	}
}

/* The kernel tells of a lost page once only, be it to a flush. */
static void after_a_failed_flush_no_superblock_is_trusted(void **state)
{
	struct sim *disk = sim_new(1);
	struct os_dir *dir = open_dir(disk);
	const struct super super = { .generation = 1, .units = SUPER_UNITS };
	struct pages *pages;
	(void)state;

	assert_int_equal(pages_create(sim_os(disk), dir, &pages, NULL), 0);
	assert_int_equal(pages_grow(pages, 8), 0);
	assert_int_equal(pages_put(pages, 5 * UNIT, slice_of("x", 1)), 0);
	assert_int_equal(pages_flush(pages, 5 * UNIT, UNIT, true), 0);
	sim_fail(disk, SIM_FLUSH, 0, -EIO);
	assert_int_equal(pages_flush(pages, 5 * UNIT, UNIT, true), -EIO);
	assert_int_equal(pages_sync(pages), -EROFS);
	assert_int_equal(pages_write_super(pages, &super), -EROFS);
	pages_close(pages);
	sim_os(disk)->close_dir(dir);
	sim_free(disk);
}

/* ---- what a sync vouches for ------------------------------------------------------------ */

/* Others, who are at it while the first write, sync or growth is under way. */
static struct {
	struct os real;
	struct pages *pages;
	bool write_in_sync, sync_in_write, sync_in_growth;
} others;

static int slow_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	if (others.sync_in_write) {
		others.sync_in_write = false;
		assert_int_equal(pages_sync(others.pages), 0);
	}
	return others.real.write(file, bytes, size, offset);
}

static int slow_sync(struct os_file *file)
{
	if (others.write_in_sync) {
		others.write_in_sync = false;
		assert_int_equal(pages_put(others.pages, 5 * UNIT, slice_of("y", 1)), 0);
	}
	return others.real.sync(file);
}

static int slow_allocate(struct os_file *file, uint64_t offset, uint64_t size)
{
	if (others.sync_in_growth) {
		others.sync_in_growth = false;
		assert_int_equal(pages_sync(others.pages), 0);
	}
	return others.real.allocate(file, offset, size);
}

static void a_sync_is_left_out_only_if_all_was_done_when_the_last_one_began(void **state)
{
	struct sim *disk = sim_new(1);
	struct os *os = sim_os(disk);
	struct os_dir *dir = open_dir(disk);
	struct pages *pages;
	uint64_t syncs;
	(void)state;

	assert_int_equal(pages_create(os, dir, &pages, NULL), 0);
	assert_int_equal(pages_grow(pages, 8), 0);
	others.real = *os;
	others.pages = pages;
	os->write = slow_write;
	os->sync = slow_sync;
	os->allocate = slow_allocate;

	assert_int_equal(pages_sync(pages), 0);		/* it has grown, and nothing was written */
	syncs = sim_count(disk, SIM_SYNC);
	assert_int_equal(syncs, 1);
	assert_int_equal(pages_sync(pages), 0);
	assert_int_equal(sim_count(disk, SIM_SYNC), syncs);

	others.sync_in_write = true;
	assert_int_equal(pages_put(pages, 4 * UNIT, slice_of("x", 1)), 0);
	syncs = sim_count(disk, SIM_SYNC);
	assert_int_equal(pages_sync(pages), 0);
	assert_int_equal(sim_count(disk, SIM_SYNC), syncs + 1);

	others.sync_in_growth = true;
	assert_int_equal(pages_grow(pages, 12), 0);
	syncs = sim_count(disk, SIM_SYNC);
	others.write_in_sync = true;
	assert_int_equal(pages_sync(pages), 0);
	assert_int_equal(sim_count(disk, SIM_SYNC), syncs + 1);
	assert_int_equal(pages_sync(pages), 0);
	assert_int_equal(sim_count(disk, SIM_SYNC), syncs + 2);

	*os = others.real;
	pages_close(pages);
	os->close_dir(dir);
	sim_free(disk);
}

/* The bytes of a run may have arrived, and the file's size have been forgotten: then nothing lies
 * where no free map reaches, however good its checksum is. */
static void what_lies_behind_the_last_whole_quad_is_not_there(void **state)
{
	struct sim *disk = file_of_two();
	struct os_dir *dir = open_dir(disk);
	struct super super;
	struct pages *pages;
	uint8_t bytes[2 * UNIT] = "run";
	struct ref ref;
	(void)state;

	assert_int_equal(pages_open(sim_os(disk), dir, &super, NULL, &pages, NULL), 0);
	assert_int_equal(pages_write(pages, 4 * UNIT, 1, slice_of(bytes, sizeof(bytes)), &ref), 0);
	pages_close(pages);
	assert_int_equal(pages_open(sim_os(disk), dir, &super, NULL, &pages, NULL), 0);
	assert_int_equal(pages_units(pages), 4);
	assert_int_equal(pages_read(pages, &ref, bytes, NULL), -EBADMSG);
	assert_int_equal(pages_grow(pages, 8), 0);
	assert_int_equal(pages_read(pages, &ref, bytes, NULL), 0);
	pages_close(pages);
	sim_os(disk)->close_dir(dir);
	sim_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_superblock_of_which_a_copy_is_good_counts),
		cmocka_unit_test(a_superblock_with_any_byte_wrong_is_none),
		cmocka_unit_test(a_superblock_that_leads_out_of_the_file_is_none),
		cmocka_unit_test(a_file_that_was_cut_short_is_refused),
		cmocka_unit_test(a_block_is_read_only_through_its_reference),
		cmocka_unit_test(after_a_failed_sync_no_superblock_is_trusted),
		cmocka_unit_test(after_a_failed_flush_no_superblock_is_trusted),
		cmocka_unit_test(a_sync_is_left_out_only_if_all_was_done_when_the_last_one_began),
		cmocka_unit_test(what_lies_behind_the_last_whole_quad_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
