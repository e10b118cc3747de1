/* While a checkpoint syncs, others go on: they write runs wherever there is room, make the file
 * grow, commit until the log turns. Then the power goes, at each operation in turn. The checkpoint
 * must be there as a whole, or the one before it with all of its log.
 *
 * One thread does it all, by doing what others would from within the sync. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/disk.h"

enum {
	KEYS = 150,
	VALUE = 700,
	RUN = 40000,
	SYNCS = 6,		/* as many as a checkpoint has, and more */
};

/* ---- vocabulary ------------------------------------------------------------------------- */

static const struct engine_options small = {
	.create = true, .segment_size = 64 * 1024, .log_cap = 16 << 20,
};

static struct engine *open_engine(struct sim *disk)
{
	struct engine *e = NULL;
	struct err err;

	if (engine_open(sim_os(disk), "/store", &small, &e, &err) != 0)
		fail_msg("open: %s", err.text);
	return e;
}

/* With so little memory that what is replayed is written at once, until the power goes. Returns how
 * many operations there were, if it does not. */
static int64_t open_in_little_memory(struct sim *disk, int64_t cut)
{
	struct engine_options options = small;
	const uint64_t before = sim_changes(disk);
	struct engine *e;
	int64_t operations;
	int rc;

	options.cache = 1;
	sim_cut_after(disk, cut);
	rc = engine_open(sim_os(disk), "/store", &options, &e, NULL);
	operations = (int64_t)(sim_changes(disk) - before);
	assert_true(rc == 0 || sim_is_cut(disk));
	sim_cut_after(disk, 0);
	if (rc == 0)
		engine_close(e);
	return operations;
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %u", k));
}

static struct slice value_of(uint8_t *bytes, uint32_t k, uint32_t round, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(k * 7 + round * 101 + i);
	return slice_of(bytes, size);
}

/* One commit; not waited for. */
static int put(struct engine *e, uint32_t k, uint32_t round, uint64_t *revision)
{
	static uint8_t bytes[RUN];
	struct batch batch = { 0 };
	struct ref run;
	char text[32];
	int rc = 0;

	if (k % 10 == 0) {
		rc = engine_run_write(e, value_of(bytes, k, round, RUN), &run);
		if (rc == 0)
			batch_put_run(&batch, key_of(text, k), &run, slice_of("", 0));
	} else {
		batch_put(&batch, key_of(text, k), value_of(bytes, k, round, VALUE));
	}
	if (rc == 0)
		rc = engine_commit(e, &batch, false, revision);
	batch_done(&batch);
	return rc;
}

/* All keys, durably. */
static void put_all(struct engine *e, uint32_t round)
{
	uint64_t revision = 0;

	for (uint32_t k = 0; k < KEYS; k++)
		assert_int_equal(put(e, k, round, &revision), 0);
	assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
}

static void holds_all(struct engine *e, uint32_t round)
{
	static uint8_t bytes[RUN], wanted[RUN];
	struct buffer value = { 0 };
	struct ref run;
	struct err err;
	char text[32];

	for (uint32_t k = 0; k < KEYS; k++) {
		assert_int_equal(engine_get(e, key_of(text, k), &value, &run), 0);
		if (run.length) {
			assert_int_equal(engine_run_read(e, &run, bytes), 0);
			value_of(wanted, k, round, RUN);
			assert_memory_equal(bytes, wanted, RUN);
		} else {
			assert_true(slice_equal(buffer_slice(&value),
						value_of(wanted, k, round, VALUE)));
		}
	}
	buffer_done(&value);
	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

/* ---- meanwhile -------------------------------------------------------------------------- */

static struct {
	struct os real;
	struct engine *engine;
	int countdown;		/* syncs until then; negative: never */
	bool late;		/* when the disk is done, and the sync has not returned yet */
	bool making;		/* the next sync is a new segment's, where others would wait */
} meanwhile;

/* 0 once the power is gone. */
static uint64_t file_size(struct engine *e)
{
	struct engine_stats stats;

	return engine_stats(e, &stats) == 0 ? stats.page_bytes : 0;
}

/* More than a segment of commits, and runs until the file has grown, of which nothing but its size
 * tells then. */
static void others_go_on(struct engine *e)
{
	const uint64_t size = file_size(e);
	uint8_t garbage[UNIT];
	uint64_t revision;
	struct ref run;
	int rc = 0;

	for (uint32_t k = KEYS; k < KEYS + 100; k++)
		if (k % 10 && put(e, k, 9, &revision) == 0)
			(void)engine_wait_blocking(e, revision, LOG_WRITTEN);
	while (rc == 0 && file_size(e) == size)
		rc = engine_run_write(e, value_of(garbage, 1, 77, sizeof(garbage)), &run);
}

static int sync_slowly(struct os_file *file)
{
	const bool now = !meanwhile.making && meanwhile.countdown-- == 0;
	int rc;

	meanwhile.making = false;
	if (now && !meanwhile.late)
		others_go_on(meanwhile.engine);
	rc = meanwhile.real.sync(file);
	if (now && meanwhile.late)
		others_go_on(meanwhile.engine);
	return rc;
}

static int allocate(struct os_file *file, uint64_t offset, uint64_t size)
{
	meanwhile.making = offset == 0;
	return meanwhile.real.allocate(file, offset, size);
}

/* A checkpoint, in whose nth sync others go on, on a disk whose power goes after `cut` more
 * operations. Returns how many there were. */
static int64_t checkpoint(struct sim *disk, int nth, bool late, int64_t cut)
{
	struct engine *e = open_engine(disk);
	uint64_t before;

	put_all(e, 2);
	before = sim_changes(disk);
	sim_cut_after(disk, cut);
	meanwhile.real = *sim_os(disk);
	meanwhile.engine = e;
	meanwhile.countdown = nth;
	meanwhile.late = late;
	meanwhile.making = false;
	sim_os(disk)->sync = sync_slowly;
	sim_os(disk)->allocate = allocate;
	(void)engine_checkpoint(e);
	*sim_os(disk) = meanwhile.real;
	before = sim_changes(disk) - before;
	sim_cut_after(disk, 0);
	engine_close(e);
	return (int64_t)before;
}

static void comes_back(struct sim *disk)
{
	struct engine *e = open_engine(disk);

	holds_all(e, 2);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	holds_all(e, 2);
	assert_int_equal(engine_close(e), 0);
}

/* ---- stories ---------------------------------------------------------------------------- */

static struct sim *store_of_two_checkpoints(void)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);

	put_all(e, 0);
	assert_int_equal(engine_checkpoint(e), 0);
	put_all(e, 1);
	assert_int_equal(engine_close(e), 0);
	return disk;
}

static uint64_t others_go_on_in_each_sync(bool late)
{
	struct sim *base = store_of_two_checkpoints();
	uint64_t states = 0;

	for (int nth = 0; nth < SYNCS; nth++) {
		struct sim *whole = sim_clone(base);
		const int64_t operations = checkpoint(whole, nth, late, -1);

		sim_free(whole);
		for (int64_t cut = 0; cut <= operations; cut += cut + 12 < operations ? 4 : 1) {
			const int more = cut + 6 < operations ? 0 : 12;

			/* What is dangerous is the end, and there to lose this and keep that. */
			for (int fate = 0; fate < SIM_FATES + more; fate++, states++) {
				struct sim *disk = sim_clone(base);

				checkpoint(disk, nth, late, cut);
				sim_reboot(disk, fate < SIM_FATES ? fate : SIM_SCATTER,
					   (uint64_t)(cut * 100 + nth * 20 + fate));
				comes_back(disk);
				sim_free(disk);
			}
		}
	}
	sim_free(base);
	return states;
}

static void what_others_do_while_it_syncs_harms_no_checkpoint(void **state)
{
	(void)state;
	print_message("%llu states opened and compared\n",
		      (unsigned long long)others_go_on_in_each_sync(false));
}

/* What they do then no sync vouches for yet, although there has been one. */
static void nor_does_what_they_do_when_the_disk_is_done(void **state)
{
	(void)state;
	print_message("%llu states opened and compared\n",
		      (unsigned long long)others_go_on_in_each_sync(true));
}

/* The process is killed when the superblock is in the page cache only. The next one relies on it:
 * it takes what only the older one names for free, and writes there when memory is short. */
static void a_superblock_is_durable_before_what_it_frees_is_used(void **state)
{
	enum { LAST = 4, FATES = 3 };
	struct sim *base = store_of_two_checkpoints(), *whole = sim_clone(base);
	const int64_t operations = checkpoint(whole, 0, false, -1);
	int64_t replay = 1;
	uint64_t states = 0;
	(void)state;

	sim_free(whole);
	for (int64_t kill = operations - LAST; kill < operations; kill++)
		for (int64_t cut = 0; cut < replay; cut += 1 + cut / 16)
			for (uint64_t seed = 0; seed < FATES; seed++, states++) {
				struct sim *disk = sim_clone(base);

				checkpoint(disk, 0, false, kill);
				sim_revive(disk, seed);
				if (cut == 0) {
					whole = sim_clone(disk);
					replay = open_in_little_memory(whole, -1);
					sim_free(whole);
				}
				open_in_little_memory(disk, cut);
				sim_reboot(disk, SIM_SCATTER, (uint64_t)cut * FATES + seed);
				comes_back(disk);
				sim_free(disk);
			}
	sim_free(base);
	assert_true(replay > 30);	/* something was written */
	print_message("%llu states opened and compared\n", (unsigned long long)states);
}

/* A checkpoint that failed has turned the log to a new segment, and somebody has synced it since:
 * the next one finds nothing to wait for in the log, and must sync its pages all the same. */
static void a_checkpoint_after_one_that_failed_is_no_less_durable(void **state)
{
	struct sim *base = store_of_two_checkpoints();
	int64_t operations = 1;
	(void)state;

	for (int64_t cut = 0; cut <= operations; cut++)
		for (int fate = 0; fate < SIM_FATES; fate++) {
			struct sim *disk = sim_clone(base);
			struct engine *e = open_engine(disk);
			uint64_t before;

			put_all(e, 2);
			sim_fail(disk, SIM_WRITE, 2, -EIO);
			assert_int_equal(engine_checkpoint(e), -EIO);
			assert_int_equal(engine_wait_blocking(e, engine_revision(e), LOG_SYNCED),
					 0);
			before = sim_changes(disk);
			sim_cut_after(disk, cut);
			(void)engine_checkpoint(e);
			if (!sim_is_cut(disk))
				operations = (int64_t)(sim_changes(disk) - before);
			else if (cut == operations)
				operations++;
			sim_cut_after(disk, 0);
			engine_close(e);
			sim_reboot(disk, fate, (uint64_t)cut);
			comes_back(disk);
			sim_free(disk);
		}
	assert_true(operations > 5);
	sim_free(base);
}

/* A store whose newest superblock has all there is, and names a segment of the log that is not at
 * its beginning: it stayed there after a checkpoint that failed. So closing is nothing but a new
 * segment and another superblock, in the other slot, each of which must wait for
 * the one before. */
static struct sim *store_that_needs_only_to_be_closed(struct engine **e)
{
	struct sim *disk = store_of_two_checkpoints();

	*e = open_engine(disk);
	put_all(*e, 1);
	sim_fail(disk, SIM_WRITE, 2, -EIO);
	assert_int_equal(engine_checkpoint(*e), -EIO);
	put_all(*e, 2);
	assert_int_equal(engine_checkpoint(*e), 0);
	return disk;
}

/* Returns how many operations there were. */
static int64_t close_and_cut(struct sim **disk, int64_t cut)
{
	struct engine *e;
	uint64_t before;

	*disk = store_that_needs_only_to_be_closed(&e);
	before = sim_changes(*disk);
	sim_cut_after(*disk, cut);
	(void)engine_close(e);
	return (int64_t)(sim_changes(*disk) - before);
}

static void the_power_may_go_at_any_moment_of_closing(void **state)
{
	enum { FATES = 3 * SIM_FATES };
	struct sim *disk;
	const int64_t operations = close_and_cut(&disk, -1);
	(void)state;

	sim_free(disk);
	assert_in_range(operations, 5, 8);	/* header, sync, two copies, sync: no checkpoint */
	for (int64_t cut = 0; cut <= operations; cut++)
		for (int fate = 0; fate < FATES; fate++) {
			close_and_cut(&disk, cut);
			sim_reboot(disk, fate % SIM_FATES, (uint64_t)(cut * FATES + fate));
			comes_back(disk);
			sim_free(disk);
		}
}

/* Opens; the power goes after so many operations. Returns how many there were. */
static int64_t open_and_cut(struct sim *disk, int64_t cut)
{
	const uint64_t before = sim_changes(disk);
	struct engine *e;
	int64_t operations;
	int rc;

	sim_cut_after(disk, cut);
	rc = engine_open(sim_os(disk), "/store", &small, &e, NULL);
	operations = (int64_t)(sim_changes(disk) - before);
	assert_true(rc == 0 || sim_is_cut(disk));
	sim_cut_after(disk, 0);
	if (rc == 0)
		engine_close(e);
	return operations;
}

/* What says that the store is closed is in the page cache only, since the process was killed, or a
 * sync failed. Whoever opens it writes the next superblock over the one before that, the last
 * that is durable. */
static void what_says_that_it_is_closed_is_durable_before_the_other_superblock_goes(void **state)
{
	enum { LAST = 4, FATES = 2 * SIM_FATES };
	struct sim *disk, *closing;
	const int64_t operations = close_and_cut(&disk, -1);
	(void)state;

	sim_free(disk);
	for (int64_t kill = operations - LAST; kill < operations; kill++) {
		int64_t opening = 1;

		close_and_cut(&closing, kill);
		sim_revive(closing, (uint64_t)kill);
		for (int64_t cut = 0; cut <= opening; cut++)
			for (int fate = 0; fate < FATES; fate++) {
				disk = sim_clone(closing);
				opening = open_and_cut(disk, cut);
				sim_reboot(disk, fate % SIM_FATES, (uint64_t)(cut * FATES + fate));
				comes_back(disk);
				sim_free(disk);
			}
		sim_free(closing);
	}
}

/* ---- runs ------------------------------------------------------------------------------- */

/* Somebody else, who commits a run while the page file is synced for the log, or waits for a commit
 * while the run's bytes are on their way. The disk has not seen the run then. */
static struct {
	struct os real;
	struct engine *engine;
	bool in_sync, in_write;
	uint64_t revision;
} other;

static int sync_and_put(struct os_file *file)
{
	const int rc = other.real.sync(file);

	if (other.in_sync) {
		other.in_sync = false;
		assert_int_equal(put(other.engine, 10, 1, &other.revision), 0);
	}
	return rc;
}

static int wait_and_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	if (other.in_write && size == RUN) {
		other.in_write = false;
		assert_int_equal(engine_wait_blocking(other.engine, other.revision, LOG_SYNCED), 0);
	}
	return other.real.write(file, bytes, size, offset);
}

static void holds_run(struct sim *disk, uint32_t k)
{
	static uint8_t bytes[RUN], wanted[RUN];
	struct engine *e = open_engine(disk);
	struct buffer value = { 0 };
	struct ref run;
	char text[32];

	assert_int_equal(engine_get(e, key_of(text, k), &value, &run), 0);
	assert_int_equal(engine_run_read(e, &run, bytes), 0);
	value_of(wanted, k, 1, RUN);
	assert_memory_equal(bytes, wanted, RUN);
	buffer_done(&value);
	assert_int_equal(engine_close(e), 0);
}

static void no_sync_of_the_log_vouches_for_a_run_that_came_too_late(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk);

		other.real = *sim_os(disk);
		other.engine = e;
		sim_os(disk)->sync = sync_and_put;
		sim_os(disk)->write = wait_and_write;
		assert_int_equal(put(e, 0, 1, &other.revision), 0);
		if (i == 0) {
			other.in_sync = true;
			assert_int_equal(engine_wait_blocking(e, other.revision, LOG_SYNCED), 0);
		} else {
			other.in_write = true;
			assert_int_equal(put(e, 10, 1, &other.revision), 0);
		}
		assert_false(other.in_sync || other.in_write);
		assert_int_equal(engine_wait_blocking(e, other.revision, LOG_SYNCED), 0);
		*sim_os(disk) = other.real;
		sim_cut_after(disk, 0);
		engine_close(e);
		sim_reboot(disk, SIM_LOSE, 0);
		holds_run(disk, 0);
		holds_run(disk, 10);
		sim_free(disk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_others_do_while_it_syncs_harms_no_checkpoint),
		cmocka_unit_test(nor_does_what_they_do_when_the_disk_is_done),
		cmocka_unit_test(a_superblock_is_durable_before_what_it_frees_is_used),
		cmocka_unit_test(a_checkpoint_after_one_that_failed_is_no_less_durable),
		cmocka_unit_test(no_sync_of_the_log_vouches_for_a_run_that_came_too_late),
		cmocka_unit_test(the_power_may_go_at_any_moment_of_closing),
		cmocka_unit_test(
			what_says_that_it_is_closed_is_durable_before_the_other_superblock_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
