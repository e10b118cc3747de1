/* A full disk whose free space lies in single quads: what is promised there can be had, in runs
 * that are scattered, and the power may go at any moment.
 *
 * SEED=n changes the fates. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/disk.h"

enum {
	DISK = 9 << 20,
	SMALL = 12000,			/* bytes: a leaf, and so a quad, for each */
	LARGE = 65536,
	LARGE_KEYS = 100000,
	STEPS = 14,
};

static const struct engine_options options = {
	.create = true, .segment_size = 64 * 1024, .log_cap = 256 * 1024,
};

static uint64_t base_seed = 1;

/* ---- vocabulary ------------------------------------------------------------------------- */

static struct engine *open_engine(struct sim *disk)
{
	struct engine *e;
	struct err err;

	if (engine_open(sim_os(disk), "/store", &options, &e, &err) != 0)
		fail_msg("open: %s", err.text);
	return e;
}

static void verified(struct engine *e)
{
	struct err err;

	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %06u", k));
}

static const uint8_t *fill(uint32_t stamp)
{
	static uint8_t bytes[LARGE];

	for (uint32_t i = 0; i < LARGE; i++)
		bytes[i] = (uint8_t)(stamp * 37 + i * 11 + (i >> 8));
	return bytes;
}

static int commit(struct engine *e, struct batch *batch, bool reclaim)
{
	uint64_t revision;
	int rc = engine_commit(e, batch, reclaim, &revision);

	if (rc == 0)
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(batch);
	return rc;
}

static int put_small(struct engine *e, uint32_t k)
{
	struct batch batch = { 0 };
	char text[32];

	batch_put(&batch, key_of(text, k), slice_of(fill(k), SMALL));
	return commit(e, &batch, false);
}

static int put_large(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size, bool *scattered)
{
	struct batch batch = { 0 };
	struct ref run;
	char text[32];
	uint64_t revision;
	int rc = engine_run_write(e, slice_of(fill(stamp), size), &run);

	if (rc < 0)
		return rc;
	*scattered |= ref_scattered(&run);
	batch_put_run(&batch, key_of(text, k), &run, slice_of(&stamp, 4));
	rc = engine_commit(e, &batch, false, &revision);
	if (rc < 0)
		engine_run_drop(e, &run);
	else
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

static int delete(struct engine *e, uint32_t k)
{
	struct batch batch = { 0 };
	char text[32];

	batch_delete(&batch, key_of(text, k));
	return commit(e, &batch, true);
}

/* The stamp of what lies there, which is whole; 0: nothing does. */
static uint32_t stamp_at(struct engine *e, uint32_t k)
{
	static uint8_t bytes[LARGE];
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	uint32_t stamp = 0;
	const int rc = engine_get(e, key_of(text, k), &value, &run);

	if (rc == 0) {
		assert_int_equal(value.size, 4);
		memcpy(&stamp, value.data, 4);
		assert_int_equal(engine_run_read(e, &run, bytes), 0);
		assert_memory_equal(bytes, fill(stamp), run.length);
	} else {
		assert_int_equal(rc, -ENOENT);
	}
	buffer_done(&value);
	return stamp;
}

static void assert_small(struct engine *e, uint32_t count)
{
	struct buffer value = { 0 };
	char text[32];

	for (uint32_t k = 0; k < count; k += 2) {
		assert_int_equal(engine_get(e, key_of(text, k), &value, NULL), 0);
		assert_memory_equal(value.data, fill(k), SMALL);
	}
	buffer_done(&value);
}

static uint64_t room(struct engine *e)
{
	struct engine_stats stats;

	assert_int_equal(engine_stats(e, &stats), 0);
	return stats.room_bytes;
}

/* Gives a full disk on which every second small value was deleted; *count is how
 * many there were. */
static struct sim *scattered_disk(uint64_t bytes, uint32_t *count)
{
	struct sim *disk = sim_new(base_seed);
	struct engine *e;

	sim_limit(disk, bytes);
	e = open_engine(disk);
	for (*count = 0; put_small(e, *count) == 0; ++*count)
		continue;
	for (uint32_t k = 1; k < *count; k += 2)
		assert_int_equal(delete(e, k), 0);
	assert_int_equal(engine_close(e), 0);
	return disk;
}

/* Uses up what is in a row. */
static void scatter_all(struct sim *disk)
{
	struct engine *e = open_engine(disk);
	bool scattered = false;

	for (uint32_t i = 0; !scattered; i++)
		assert_int_equal(put_large(e, 2 * LARGE_KEYS + i, i + 1, LARGE, &scattered), 0);
	assert_int_equal(engine_close(e), 0);
}

/* ---- stories ---------------------------------------------------------------------------- */

/* Several times over: what was deleted counts at once, with no checkpoint between. */
static void what_is_promised_on_a_scattered_disk_can_be_had(void **state)
{
	const uint32_t sizes[] = { LARGE, LARGE, 40000, 20000, LARGE };
	uint32_t count;
	struct sim *disk = scattered_disk(4 * DISK, &count);
	struct engine *e = open_engine(disk);
	(void)state;

	for (uint32_t s = 0; s < 5; s++) {
		const uint64_t promised = room(e), taken = (sizes[s] + 16383) / 16384 * 16384;
		uint64_t written = 0;
		bool scattered = false;
		uint32_t i;
		int rc;

		assert_true(promised > DISK);
		for (i = 0; (rc = put_large(e, LARGE_KEYS + i, i + 1, sizes[s], &scattered)) == 0;
		     i++)
			written += taken;
		assert_int_equal(rc, -ENOSPC);
		assert_true(scattered);
		if (written < promised)
			fail_msg("%llu of %llu bytes", (unsigned long long)written,
				 (unsigned long long)promised);
		if (s % 2 == 0) {
			assert_int_equal(engine_close(e), 0);
			e = open_engine(disk);
		}
		verified(e);
		while (i-- > 0) {
			assert_int_equal(stamp_at(e, LARGE_KEYS + i), i + 1);
			assert_int_equal(delete(e, LARGE_KEYS + i), 0);
		}
		assert_small(e, count);
	}
	verified(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Step i of a story: values come, are replaced and go, with a snapshot and checkpoints between. */
static int step(struct engine *e, uint32_t i, bool *scattered)
{
	switch (i % 7) {
	case 3:
		return delete(e, LARGE_KEYS + 1);
	case 5:
		return engine_checkpoint(e);
	case 6:
		return i == 6 ? engine_snapshot_create(e, slice_str("kept")) : 0;
	default:
		return put_large(e, LARGE_KEYS + i % 3, i + 1, i % 2 ? LARGE : 50000, scattered);
	}
}

/* What lies at large key `k` after `done` steps. */
static uint32_t expected(uint32_t k, uint32_t done)
{
	uint32_t stamp = 0;

	for (uint32_t i = 0; i < done; i++)
		if (i % 7 == 3 && k == 1)
			stamp = 0;
		else if (i % 7 != 3 && i % 7 < 5 && i % 3 == k)
			stamp = i + 1;
	return stamp;
}

static void look_after(struct sim *disk, uint32_t done, uint32_t count)
{
	struct engine *e = open_engine(disk);

	for (uint32_t k = 0; k < 3; k++) {
		const uint32_t stamp = stamp_at(e, LARGE_KEYS + k);

		if (stamp != expected(k, done) && stamp != expected(k, done + 1))
			fail_msg("key %u has stamp %u after %u steps", k, stamp, done);
	}
	verified(e);
	assert_small(e, count);
	assert_int_equal(engine_close(e), 0);
}

static void scattered_runs_survive_a_power_cut_at_any_moment(void **state)
{
	uint32_t count;
	struct sim *base = scattered_disk(DISK, &count);
	bool cut = true, scattered = false;
	(void)state;

	scatter_all(base);
	for (int64_t n = 0; cut; n++) {
		struct sim *disk = sim_clone(base);
		struct engine *e;
		struct err err;
		uint32_t done = 0;

		sim_limit(disk, DISK);
		sim_cut_after(disk, n);
		if (engine_open(sim_os(disk), "/store", &options, &e, &err) == 0) {
			while (done < STEPS && step(e, done, &scattered) == 0)
				done++;
			cut = engine_close(e) < 0 || done < STEPS;
		}
		assert_true(!cut || sim_is_cut(disk));	/* there was room */
		for (uint64_t fate = 0; cut && fate < 2; fate++) {
			struct sim *clone = sim_clone(disk);

			sim_limit(clone, DISK);
			sim_reboot(clone,
				   (enum sim_fate)((base_seed + (uint64_t)n + fate) % SIM_FATES),
				   base_seed + (uint64_t)n);
			look_after(clone, done, count);
			sim_free(clone);
		}
		sim_free(disk);
	}
	assert_true(scattered);
	sim_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_promised_on_a_scattered_disk_can_be_had),
		cmocka_unit_test(scattered_runs_survive_a_power_cut_at_any_moment),
	};

	if (getenv("SEED"))
		base_seed = strtoull(getenv("SEED"), NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
