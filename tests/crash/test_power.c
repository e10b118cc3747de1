/* The power goes at every single operation of a long workload, and whatever was not synced is kept,
 * lost, torn or scattered. What comes back must be the store as it was after some commit, no
 * earlier than the last one that was acknowledged, whole, and fit for use.
 *
 * CUTS=n checks n cut points spread over the workload instead of all; SEED=n changes everything. */
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
	KEYS = 40,
	COMMITS = 1000,
	VALUE_MAX = 6000,
	RUN_MAX = 20000,
};

static uint64_t base_seed = 1;
static uint64_t states;			/* opened and compared */

/* ---- what should be there --------------------------------------------------------------- */

/* After commit i, key k has the value made of stamp history[i][k]; 0: no such key. */
static uint32_t history[COMMITS + 1][KEYS];

struct dice {
	uint64_t state;
};

static uint32_t pick(struct dice *d, uint32_t below)
{
	d->state ^= d->state << 13;
	d->state ^= d->state >> 7;
	d->state ^= d->state << 17;
	return (uint32_t)(d->state >> 20) % below;
}

static struct dice dice(uint64_t seed)
{
	struct dice d = { seed * 0x9e3779b97f4a7c15u + 88172645463325252u };

	for (int i = 0; i < 8; i++)
		pick(&d, 2);
	return d;
}

static bool has_run(uint32_t stamp)
{
	return stamp % 13 == 0;
}

static uint32_t size_of(uint32_t stamp)
{
	if (has_run(stamp))
		return 1 + stamp * 7919 % RUN_MAX;
	return stamp % 11 == 0 ? stamp * 104729 % VALUE_MAX : stamp % 200;
}

static void fill(uint8_t *bytes, uint32_t stamp, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(stamp * 131 + i * 3 + (i >> 9));
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %u", k));
}

/* ---- the workload ----------------------------------------------------------------------- */

/* Commit number i: a few puts and deletes, and the key "now", which says i. */
static int commit(struct engine *engine, uint32_t i, uint64_t *revision)
{
	static uint8_t bytes[RUN_MAX];
	struct dice d = dice(base_seed * 100000 + i);
	struct batch batch = { 0 };
	struct ref runs[8];
	uint32_t run_count = 0;
	char text[32];
	uint8_t now[4];
	int rc = 0;

	memcpy(history[i], history[i - 1], sizeof(history[i]));
	for (uint32_t n = 1 + pick(&d, 5); n > 0 && rc == 0; n--) {
		const uint32_t k = pick(&d, KEYS), stamp = i * 8 + n;

		if (pick(&d, 3) == 0) {
			history[i][k] = 0;
			batch_delete(&batch, key_of(text, k));
			continue;
		}
		history[i][k] = stamp;
		fill(bytes, stamp, size_of(stamp));
		if (!has_run(stamp)) {
			batch_put(&batch, key_of(text, k), slice_of(bytes, size_of(stamp)));
			continue;
		}
		rc = engine_run_write(engine, slice_of(bytes, size_of(stamp)), &runs[run_count]);
		if (rc == 0)
			batch_put_run(&batch, key_of(text, k), &runs[run_count++], slice_of("run", 3));
	}
	put32(now, i);
	batch_put(&batch, slice_str("now"), slice_of(now, 4));
	if (rc == 0)
		rc = engine_commit(engine, &batch, false, revision);
	batch_done(&batch);
	return rc;
}

struct progress {
	uint32_t tried, written, acknowledged;
};

static int open_engine(struct sim *disk, struct engine **engine, struct err *err)
{
	const struct engine_options options = {
		.create = true, .segment_size = 48 * 1024, .log_cap = 192 * 1024,
		.cache = 40 * 1024,	/* so that leaves are written before their checkpoint */
	};

	return engine_open(sim_os(disk), "/store", &options, engine, err);
}

/* Runs until the end or the cut. Every few commits somebody waits for the disk, and every few
 * more there is a checkpoint. */
static void work(struct sim *disk, struct progress *p)
{
	struct engine *engine;
	struct dice d = dice(base_seed);
	uint64_t revision;
	int rc = open_engine(disk, &engine, NULL);

	if (rc < 0)
		return;
	for (uint32_t i = 1; i <= COMMITS && rc == 0; i++) {
		p->tried = i;
		rc = commit(engine, i, &revision);
		if (rc == 0 && pick(&d, 3) > 0) {
			rc = engine_wait_blocking(engine, revision, LOG_WRITTEN);
			if (rc == 0)
				p->written = i;
		}
		if (rc == 0 && pick(&d, 3) == 0) {
			rc = engine_wait_blocking(engine, revision, LOG_SYNCED);
			if (rc == 0)
				p->acknowledged = i;
		}
		if (rc == 0 && pick(&d, 90) == 0)
			rc = engine_checkpoint(engine);
	}
	if (rc == 0 && engine_close(engine) == 0)
		p->acknowledged = COMMITS;
	else if (rc < 0)
		engine_close(engine);
}

/* ---- what is there ---------------------------------------------------------------------- */

static void check_key(struct engine *engine, uint32_t k, uint32_t stamp)
{
	static uint8_t bytes[RUN_MAX], wanted[RUN_MAX];
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	const int rc = engine_get(engine, key_of(text, k), &value, &run);

	assert_int_equal(rc, stamp ? 0 : -ENOENT);
	if (!stamp)
		return;
	fill(wanted, stamp, size_of(stamp));
	if (has_run(stamp)) {
		assert_int_equal(run.length, size_of(stamp));
		assert_int_equal(engine_run_read(engine, &run, bytes), 0);
		assert_memory_equal(bytes, wanted, run.length);
		assert_true(slice_equal(buffer_slice(&value), slice_str("run")));
	} else {
		assert_int_equal(run.length, 0);
		assert_true(slice_equal(buffer_slice(&value), slice_of(wanted, size_of(stamp))));
	}
	buffer_done(&value);
}

/* The last commit that is there; 0 in an empty store. */
static uint32_t last_commit(struct engine *engine)
{
	struct buffer value = { 0 };
	const int rc = engine_get(engine, slice_str("now"), &value, NULL);
	uint32_t i;

	assert_true(rc == 0 || rc == -ENOENT);
	i = rc == 0 ? get32(value.data) : 0;
	buffer_done(&value);
	return i;
}

static uint32_t holds_a_moment(struct engine *engine, const struct progress *p)
{
	const uint32_t i = last_commit(engine);
	struct err err;

	assert_in_range(i, p->acknowledged, p->tried);
	for (uint32_t k = 0; k < KEYS; k++)
		check_key(engine, k, history[i][k]);
	if (engine_verify(engine, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
	states++;
	return i;
}

/* Opens what is left, compares, goes on working a little, and opens again. */
static void comes_back(struct sim *disk, const struct progress *p)
{
	struct engine *engine;
	struct err err;
	struct progress then;
	uint64_t revision;
	uint32_t i;

	if (open_engine(disk, &engine, &err) != 0)
		fail_msg("open: %s", err.text);
	i = holds_a_moment(engine, p);
	if (i < COMMITS) {
		assert_int_equal(commit(engine, i + 1, &revision), 0);
		assert_int_equal(engine_wait_blocking(engine, revision, LOG_SYNCED), 0);
		i++;
	}
	assert_int_equal(engine_close(engine), 0);
	then = (struct progress){ i, i, i };
	assert_int_equal(open_engine(disk, &engine, &err), 0);
	holds_a_moment(engine, &then);
	assert_int_equal(engine_close(engine), 0);
}

/* ---- stories ---------------------------------------------------------------------------- */

static int64_t count_operations(void)
{
	struct sim *disk = sim_new(base_seed);
	struct progress p = { 0 };
	int64_t count;

	work(disk, &p);
	assert_int_equal(p.acknowledged, COMMITS);
	count = (int64_t)sim_changes(disk);
	sim_free(disk);
	return count;
}

static int64_t cut_points(int64_t operations)
{
	const char *given = getenv("CUTS");
	const int64_t cuts = given ? atoll(given) : operations;

	return cuts < 1 || cuts > operations ? operations : cuts;
}

static void after_a_power_cut_the_store_is_as_after_some_commit(void **state)
{
	const int64_t operations = count_operations(), cuts = cut_points(operations);
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		const int64_t cut = n * operations / cuts;
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };

		sim_cut_after(disk, cut);
		work(disk, &p);
		for (int fate = 0; fate < SIM_FATES; fate++) {
			struct sim *copy = sim_clone(disk);

			sim_reboot(copy, fate, (uint64_t)cut * SIM_FATES + (uint64_t)fate);
			comes_back(copy, &p);
			sim_free(copy);
		}
		sim_free(disk);
	}
	print_message("%lld operations, %lld cut points, %llu states opened and compared\n",
		      (long long)operations, (long long)cuts, (unsigned long long)states);
}

/* The second cut comes while the first is being recovered from. */
static void recovery_may_be_cut_as_well(void **state)
{
	const int64_t operations = count_operations();
	const int64_t cuts = cut_points(operations) < 150 ? cut_points(operations) : 150;
	const uint64_t before = states;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		const int64_t cut = n * operations / cuts;
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };

		sim_cut_after(disk, cut);
		work(disk, &p);
		for (int64_t second = 0; second < 12; second++) {
			struct sim *copy = sim_clone(disk);
			struct engine *engine;

			sim_reboot(copy, SIM_SCATTER, (uint64_t)cut);
			sim_cut_after(copy, second);
			if (open_engine(copy, &engine, NULL) == 0) {
				engine_checkpoint(engine);
				engine_close(engine);
			}
			sim_reboot(copy, (enum sim_fate)(second % SIM_FATES), (uint64_t)second);
			comes_back(copy, &p);
			sim_free(copy);
		}
		sim_free(disk);
	}
	print_message("%llu states opened and compared\n", (unsigned long long)(states - before));
}

/* kill -9: what was written is there, waited for or not. */
static void a_killed_process_loses_nothing_it_was_told_is_written(void **state)
{
	const int64_t operations = count_operations();
	const int64_t cuts = cut_points(operations) < 200 ? cut_points(operations) : 200;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };

		sim_cut_after(disk, n * operations / cuts);
		work(disk, &p);
		sim_revive(disk, (uint64_t)n);
		p.acknowledged = p.written;
		comes_back(disk, &p);
		sim_free(disk);
	}
}

/* Whoever asks whether it is synced is told so at once: it must be. */
static void what_is_found_after_a_kill_is_on_disk_once_the_store_is_open(void **state)
{
	const int64_t operations = count_operations();
	const int64_t cuts = cut_points(operations) < 200 ? cut_points(operations) : 200;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };
		struct engine *engine;
		struct err err;

		sim_cut_after(disk, n * operations / cuts);
		work(disk, &p);
		sim_revive(disk, (uint64_t)n);
		if (open_engine(disk, &engine, &err) != 0)
			fail_msg("open: %s", err.text);
		p.acknowledged = last_commit(engine);
		assert_int_equal(engine_wait_blocking(engine, engine_revision(engine), LOG_SYNCED), 0);
		sim_cut_after(disk, 0);
		engine_close(engine);
		sim_reboot(disk, SIM_LOSE, (uint64_t)n);
		comes_back(disk, &p);
		sim_free(disk);
	}
}

/* By then the log has grown past what the first recovery cut off. */
static void the_second_cut_may_come_much_later(void **state)
{
	const int64_t operations = count_operations();
	const int64_t cuts = cut_points(operations) < 300 ? cut_points(operations) : 300;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };
		struct engine *engine;
		struct err err;
		uint64_t revision;
		uint32_t i, end;

		sim_cut_after(disk, n * operations / cuts);
		work(disk, &p);
		sim_reboot(disk, SIM_SCATTER, (uint64_t)n);
		if (open_engine(disk, &engine, &err) != 0)
			fail_msg("open: %s", err.text);
		i = last_commit(engine);
		end = i + 80 < COMMITS ? i + 80 : COMMITS;
		for (; i < end; i++) {
			assert_int_equal(commit(engine, i + 1, &revision), 0);
			assert_int_equal(engine_wait_blocking(engine, revision, LOG_WRITTEN), 0);
		}
		assert_int_equal(engine_wait_blocking(engine, engine_revision(engine), LOG_SYNCED), 0);
		sim_cut_after(disk, 0);
		engine_close(engine);
		sim_reboot(disk, n % 2 ? SIM_LOSE : SIM_KEEP, (uint64_t)n);
		p = (struct progress){ i, i, i };
		comes_back(disk, &p);
		sim_free(disk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_power_cut_the_store_is_as_after_some_commit),
		cmocka_unit_test(recovery_may_be_cut_as_well),
		cmocka_unit_test(a_killed_process_loses_nothing_it_was_told_is_written),
		cmocka_unit_test(what_is_found_after_a_kill_is_on_disk_once_the_store_is_open),
		cmocka_unit_test(the_second_cut_may_come_much_later),
	};
	const char *seed = getenv("SEED");

	if (seed)
		base_seed = strtoull(seed, NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
