/* A store is made once, opened by one at a time and known by its format; and what superblock and
 * witness tell whoever opens it next is so. */
#include <unistd.h>

#include "engine_kit.h"
#include "page.h"
#include "sum.h"

static void a_second_opener_is_told_who_has_it(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk), *second = NULL;
	struct err err;
	(void)state;

	assert_int_equal(try_open(disk, &small, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use by process"));
	assert_null(second);
	engine_close(e);
	e = open_engine(disk);
	engine_close(e);
	sim_free(disk);
}

static void leave(struct sim *disk, const char *name)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;

	assert_int_equal(os->open_dir(os, "/store", OS_CREATE, &dir), 0);
	assert_int_equal(os->open(dir, name, OS_CREATE, &file), 0);
	os->close(file);
	os->close_dir(dir);
}

static bool has(struct sim *disk, const char *name)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;
	int rc;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	rc = os->open(dir, name, 0, &file);
	if (rc == 0)
		os->close(file);
	os->close_dir(dir);
	return rc == 0;
}

/* Some folders hold what looks a little like a log, as that of cubby's own sources does. */
static void what_is_no_store_is_refused_and_left_alone(void **state)
{
	const char *const theirs[] = { "letters", "log.c", "log.0", "log.2026-11-30" };
	(void)state;

	for (size_t i = 0; i < sizeof(theirs) / sizeof(*theirs); i++) {
		struct sim *disk = sim_new(1);
		struct engine *e;
		struct err err;

		leave(disk, theirs[i]);
		assert_int_equal(try_open(disk, &small, &e, &err), -EINVAL);
		assert_non_null(strstr(err.text, "no cubby store"));
		leave(disk, "creating");
		assert_int_equal(try_open(disk, &small, &e, &err), -EINVAL);
		assert_non_null(strstr(err.text, "no cubby store"));
		assert_true(has(disk, theirs[i]));
		assert_false(has(disk, FILE_PAGES));
		sim_free(disk);
	}
}

/* A copy of the folder may have brought the file along, or somebody made it by hand. */
static void a_store_with_data_is_never_made_afresh(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct err err;
	(void)state;

	put(e, 1, 7, 200);
	engine_close(e);
	leave(disk, "creating");
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	put(e, 2, 8, 60000);
	engine_close(e);
	leave(disk, "creating");
	e = open_engine(disk);
	assert_int_equal(holds(e, 2, 8, 60000), 1);
	engine_close(e);

	/* and all superblocks rot */
	leave(disk, "creating");
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(sim_flip(disk, FILE_PAGES, i * UNIT, 1), 0);
	assert_int_equal(try_open(disk, &small, &e, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "no good superblock"));
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(sim_flip(disk, FILE_PAGES, i * UNIT, 1), 0);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	assert_int_equal(holds(e, 2, 8, 60000), 1);
	engine_close(e);
	sim_free(disk);
}

/* The first commits of a store are in its log only, however it ends. */
static void a_young_store_that_was_killed_is_not_made_afresh_either(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	put(e, 1, 7, 200);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 1);
	leave(disk, "creating");
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	engine_close(e);
	sim_free(disk);
}

/* Whatever is left of a creation that was cut, the next one makes the store; and if the first one
 * was through, what was put into it stays. */
static void a_creation_may_be_cut_at_any_moment(void **state)
{
	bool made = false;
	(void)state;

	for (int64_t cut = 0; !made; cut++)
		for (uint64_t n = 0; n < 4 * SIM_FATES; n++) {
			struct sim *disk = sim_new(1);
			struct engine *e = NULL;
			struct err err;

			sim_cut_after(disk, cut);
			made = try_open(disk, &small, &e, &err) == 0;
			sim_cut_after(disk, made ? -1 : 0);
			if (made)
				put(e, 1, 7, 200);
			sim_cut_after(disk, 0);
			engine_close(e);
			sim_reboot(disk, (enum sim_fate)(n % SIM_FATES), n);
			e = open_engine(disk);
			assert_int_equal(holds(e, 1, 7, 200), made);
			put(e, 1, 8, 300);
			sim_cut_after(disk, 0);
			engine_close(e);
			sim_reboot(disk, (enum sim_fate)(n / 4 % SIM_FATES), n);
			e = open_engine(disk);
			assert_int_equal(holds(e, 1, 8, 300), 1);
			verified(e);
			assert_int_equal(engine_close(e), 0);
			sim_free(disk);
		}
}

/* An impossible version, with a good checksum, in both slots. */
static void another_format_is_refused_by_its_number(void **state)
{
	struct sim *disk = sim_new(1);
	struct os *os = sim_os(disk);
	struct engine *e = open_engine(disk);
	struct os_dir *dir;
	struct os_file *file;
	struct err err;
	uint8_t unit[UNIT];
	(void)state;

	engine_close(e);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_PAGES, 0, &file), 0);
	assert_int_equal(os->read(file, unit, UNIT, UNIT), UNIT);
	put32(unit + SUPER_VERSION, 77);
	put64(unit + SUPER_SUM, sum64(unit, SUPER_SUM));
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(os->write(file, unit, UNIT, i * UNIT), 0);
	os->close(file);
	os->close_dir(dir);
	assert_int_equal(try_open(disk, &small, &e, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.text, "77"));
	sim_free(disk);
}

static uint64_t reads_to_open(uint32_t keys)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t before;

	for (uint32_t k = 0; k < keys; k++)
		put(e, k, k, 500);
	assert_int_equal(engine_close(e), 0);
	before = sim_count(disk, SIM_READ);
	e = open_engine(disk);
	before = sim_count(disk, SIM_READ) - before;
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
	return before;
}

static void opening_reads_no_more_of_a_large_store(void **state)
{
	(void)state;
	/* Superblocks, and sizes and headers of segments, of which there are two to four. */
	assert_true(reads_to_open(4000) <= reads_to_open(10) + 4);
}

/* The kernel shows to whoever opens the store next what it has given up writing. */
static void a_run_that_a_failed_sync_left_is_durable_once_the_store_is_open(void **state)
{
	int found = 0;
	(void)state;

	for (uint64_t seed = 1; seed < 40; seed++) {
		struct sim *disk = sim_new(seed);
		struct engine *e = open_engine(disk);
		bool there;

		put(e, 1, 1, 100);
		sim_fail(disk, SIM_SYNC, (int64_t)(seed % 2), -EIO);
		assert_true(try_put(e, 2, 2, 60000, true) < 0);
		engine_close(e);
		e = open_engine(disk);
		there = holds(e, 2, 2, 60000) == 1;
		found += there;
		put(e, 3, 3, 100);
		sim_cut_after(disk, 0);
		engine_close(e);
		sim_reboot(disk, SIM_LOSE, seed);
		e = open_engine(disk);
		assert_int_equal(holds(e, 2, 2, 60000), there);
		assert_int_equal(holds(e, 3, 3, 100), 1);
		verified(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
	assert_true(found > 0);
}

/* Would the witness tell something after a crash now? */
static bool witness_tells(struct sim *disk, enum sim_fate fate)
{
	struct sim *copy = sim_clone(disk);
	struct os *os = sim_os(copy);
	uint8_t bytes[WITNESS_SIZE];
	struct os_file *file;
	struct os_dir *dir;

	sim_reboot(copy, fate, 0);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_WITNESS, 0, &file), 0);
	assert_int_equal(os->read(file, bytes, sizeof(bytes), 0), sizeof(bytes));
	os->close(file);
	os->close_dir(dir);
	sim_free(copy);
	return memcmp(bytes + WITNESS_MAGIC, WITNESS_MAGIC_TEXT, 8) == 0;
}

static void the_background_keeps_what_the_witness_tells(void **state)
{
	const struct engine_options options = {
		.create = true, .background = true, .segment_size = 64 * 1024,
		.log_cap = 256 * 1024, .commit_ns = 1000000,
	};
	struct sim *disk = sim_new(1);
	struct engine *e;
	(void)state;

	assert_int_equal(try_open(disk, &options, &e, NULL), 0);
	put(e, 1, 1, 100);
	while (!witness_tells(disk, SIM_LOSE))
		usleep(1000);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* As one of before there were any. */
static void a_store_without_a_witness_gets_one(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	(void)state;

	put(e, 1, 1, 100);
	assert_int_equal(engine_close(e), 0);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->remove(dir, FILE_WITNESS), 0);
	os->close_dir(dir);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 1, 100), 1);
	put(e, 2, 2, 100);
	assert_true(witness_tells(disk, SIM_KEEP));
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Does the newest superblock say that nothing was committed behind it? */
static bool says_closed(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct super super, newest = { .generation = 0 };
	uint8_t unit[UNIT];
	struct os_dir *dir;
	struct os_file *file;
	uint32_t version;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_PAGES, 0, &file), 0);
	for (uint64_t i = 0; i < SUPER_UNITS; i++) {
		assert_int_equal(os->read(file, unit, UNIT, i * UNIT), UNIT);
		if (super_decode(unit, &super, &version) == 0 &&
		    super.generation > newest.generation)
			newest = super;
	}
	os->close(file);
	os->close_dir(dir);
	return newest.mark.closed;
}

/* Or a damaged log behind it would be taken for one that ended there. */
static void a_store_says_that_it_is_closed_only_while_it_is(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	for (uint32_t i = 0; i < 3; i++) {
		put(e, i, i, 100);
		assert_false(says_closed(disk));
		assert_int_equal(engine_checkpoint(e), 0);
		assert_false(says_closed(disk));
		assert_int_equal(engine_close(e), 0);
		assert_true(says_closed(disk));
		e = open_engine(disk);
		assert_false(says_closed(disk));
	}
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_opener_is_told_who_has_it),
		cmocka_unit_test(what_is_no_store_is_refused_and_left_alone),
		cmocka_unit_test(a_store_with_data_is_never_made_afresh),
		cmocka_unit_test(a_young_store_that_was_killed_is_not_made_afresh_either),
		cmocka_unit_test(a_creation_may_be_cut_at_any_moment),
		cmocka_unit_test(another_format_is_refused_by_its_number),
		cmocka_unit_test(opening_reads_no_more_of_a_large_store),
		cmocka_unit_test(the_background_keeps_what_the_witness_tells),
		cmocka_unit_test(a_store_without_a_witness_gets_one),
		cmocka_unit_test(a_run_that_a_failed_sync_left_is_durable_once_the_store_is_open),
		cmocka_unit_test(a_store_says_that_it_is_closed_only_while_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
