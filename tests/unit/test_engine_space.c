/* Room on the disk: it may be scattered or used up, and what is deleted gives it back, to what is
 * new or to the disk. */
#include "engine_kit.h"

static int try_delete(struct engine *e, uint32_t k)
{
	struct batch batch = { 0 };
	uint64_t revision;
	char text[32];
	int rc;

	batch_delete(&batch, key_of(text, k));
	rc = engine_commit(e, &batch, true, &revision);
	if (rc == 0)
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

/* Fills the disk with values of `size`; how many there are. */
static uint32_t fill_up(struct engine *e, uint32_t size, bool run)
{
	uint32_t k = 0;
	int rc;

	while ((rc = try_put(e, k, k, size, run)) == 0)
		k++;
	assert_int_equal(rc, -ENOSPC);
	return k;
}

/* Free units lie in single quads all over a disk that is full: what is accepted then, however long,
 * has its place in the checkpoint. */
static void what_is_accepted_on_a_scattered_disk_fits_its_checkpoint(void **state)
{
	(void)state;
	for (uint32_t hole = 2; hole < 5; hole++) {
		struct sim *disk = sim_new(hole);
		uint32_t count, accepted = 0, refused = 0;
		struct engine *e;

		sim_limit(disk, 24 << 20);
		e = open_engine(disk);
		count = fill_up(e, 12000, false);
		for (uint32_t k = 0; k < count; k++)
			if (k % hole)
				assert_int_equal(try_delete(e, k), 0);
		assert_int_equal(engine_checkpoint(e), 0);
		for (uint32_t k = 0; k < 400; k++) {
			const uint32_t size = k % 3 ? 17000 + k * 211 % 38000 : 56000;
			const int rc = try_put(e, 10000 + k % 250, k, size, false);

			assert_true(rc == 0 || rc == -ENOSPC);
			accepted += rc == 0;
			refused += rc != 0;
			if (k % 9 == 0)
				assert_int_equal(engine_checkpoint(e), 0);
		}
		assert_int_equal(engine_checkpoint(e), 0);
		assert_true(accepted > 20 && refused > 20);
		verified(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

static uint64_t file_bytes(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;
	uint64_t size;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, "pages", 0, &file), 0);
	assert_int_equal(os->size(file, &size), 0);
	os->close(file);
	os->close_dir(dir);
	return size;
}

static void checkpoint_often(struct engine *e, int count)
{
	while (count-- > 0) {
		put(e, 1000000, (uint32_t)count, 10);
		assert_int_equal(engine_checkpoint(e), 0);
	}
}

/* Dead blocks are free after one checkpoint, left out of the map by the next, and no superblock
 * counts them after one more. */
static void the_end_of_the_file_is_given_back_when_it_is_free(void **state)
{
	const uint32_t size = 60000, count = 600;
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct engine_stats stats;
	uint64_t full, cut;
	(void)state;

	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(try_put(e, k, k, size, true), 0);
	checkpoint_often(e, 3);
	full = file_bytes(disk);
	assert_true(full > (uint64_t)count * size);
	for (uint32_t k = count / 10; k < count; k++)
		assert_int_equal(try_delete(e, k), 0);
	checkpoint_often(e, 4);
	cut = file_bytes(disk);
	assert_true(cut < full / 4);
	assert_int_equal(engine_stats(e, &stats), 0);
	assert_int_equal(stats.page_bytes, cut);
	for (uint32_t k = 0; k < count / 10; k++)
		assert_int_equal(holds(e, k, k, size), 1);
	verified(e);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	verified(e);
	assert_true(file_bytes(disk) <= cut);
	engine_close(e);
	sim_free(disk);
}

static void what_was_deleted_makes_room_for_what_is_new(void **state)
{
	const uint32_t size = 60000, count = 400;
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t full;
	(void)state;

	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(try_put(e, k, k, size, true), 0);
	checkpoint_often(e, 3);
	full = file_bytes(disk);
	for (int round = 0; round < 3; round++) {
		for (uint32_t k = 0; k < count; k++)
			if (k % 10)
				assert_int_equal(try_delete(e, k), 0);
		checkpoint_often(e, 3);
		for (uint32_t k = 0; k < count; k++)
			if (k % 10)
				assert_int_equal(try_put(e, k, k, size, true), 0);
		checkpoint_often(e, 3);
		assert_true(file_bytes(disk) <= full + (1 << 20));
	}
	verified(e);
	engine_close(e);
	sim_free(disk);
}

/* It grew for a reason, and shrinks only when that is long past. */
static void a_file_does_not_grow_and_shrink_all_the_time(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t grown = 0, cut = 0;
	(void)state;

	for (uint32_t round = 0; round < 30; round++) {
		if (round == 5) {
			grown = sim_count(disk, SIM_ALLOCATE);
			cut = sim_count(disk, SIM_TRUNCATE);
		}
		for (uint32_t k = 0; k < 40; k++)
			assert_int_equal(try_put(e, k, round, 50000, true), 0);
		checkpoint_often(e, 1);
		for (uint32_t k = 0; k < 40; k++)
			assert_int_equal(try_delete(e, k), 0);
		checkpoint_often(e, 1);
	}
	assert_true(sim_count(disk, SIM_ALLOCATE) - grown <= 4);
	assert_true(sim_count(disk, SIM_TRUNCATE) - cut <= 4);
	engine_close(e);
	sim_free(disk);
}

static void full_and_empty_and_full(uint32_t size, bool run)
{
	struct sim *disk = sim_new(1);
	struct engine *e;
	uint32_t count;

	sim_limit(disk, 24 << 20);
	e = open_engine(disk);
	count = fill_up(e, size, run);
	assert_true((uint64_t)count * size > 12 << 20);
	for (int round = 0; round < 4; round++) {
		for (uint32_t k = 0; k < count / 2; k++)
			assert_int_equal(try_delete(e, k), 0);
		/* Not to the last one: leaves are no longer as full, nor free units in
		 * rows as long. */
		for (uint32_t k = 0; k < count * 9 / 20; k++)
			assert_int_equal(try_put(e, k, k, size, run), 0);
		for (uint32_t k = 0; k < count; k++)
			assert_int_equal(holds(e, k, k, size),
					 k < count * 9 / 20 || k >= count / 2);
	}
	verified(e);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(holds(e, k, k, size), k < count * 9 / 20 || k >= count / 2);
	engine_close(e);
	sim_free(disk);
}

static void on_a_full_disk_deleting_makes_room(void **state)
{
	(void)state;
	full_and_empty_and_full(3000, false);
	full_and_empty_and_full(300, false);
	full_and_empty_and_full(36000, false);
}

static void on_a_full_disk_deleting_runs_makes_room(void **state)
{
	(void)state;
	full_and_empty_and_full(64 * 1024, true);
	full_and_empty_and_full(200 * 1024, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_end_of_the_file_is_given_back_when_it_is_free),
		cmocka_unit_test(what_was_deleted_makes_room_for_what_is_new),
		cmocka_unit_test(a_file_does_not_grow_and_shrink_all_the_time),
		cmocka_unit_test(what_is_accepted_on_a_scattered_disk_fits_its_checkpoint),
		cmocka_unit_test(on_a_full_disk_deleting_makes_room),
		cmocka_unit_test(on_a_full_disk_deleting_runs_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
