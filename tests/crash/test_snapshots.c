/* The power goes at every single operation of a workload that keeps and drops snapshots, holds some
 * in memory, fills the page file and gives its end back. What comes back must be the store as it
 * was after some commit, with just the snapshots that were kept, each as it was then, and nothing
 * lost or taken twice.
 *
 * CUTS=n checks n cut points spread over each workload; SEED=n changes everything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"
#include "mem.h"
#include "sim/disk.h"
#include "sim/sanitized.h"

enum {
	KEYS = 30,
	NAMES = 6,
	STEPS = 400,
	BULK = 8,		/* runs of a megabyte, there for a while */
	RUN_MAX = 9000,
	CUTS = 700 / SANITIZED_LESS,	/* of a workload, unless told otherwise */
};

static uint64_t base_seed = 1;
static uint64_t states;			/* opened and compared */

/* ---- what should be there --------------------------------------------------------------- */

/* After step i, key k has the value made of stamp history[i][k] (0: no such key), and name n is
 * that of the moment after step kept[i][n] (0: no such snapshot). */
static uint32_t history[STEPS + 1][KEYS], kept[STEPS + 1][NAMES];

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
	return stamp % 5 == 0;
}

static uint32_t size_of(uint32_t stamp)
{
	return has_run(stamp) ? 1 + stamp * 7919 % RUN_MAX : 100 + stamp % 900;
}

static void fill(uint8_t *bytes, uint32_t stamp)
{
	for (uint32_t i = 0; i < size_of(stamp); i++)
		bytes[i] = (uint8_t)(stamp * 131 + i * 3 + (i >> 9));
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %u", k));
}

static struct slice name_of(char *text, uint32_t n)
{
	return slice_of(text, (size_t)sprintf(text, "snapshot %u", n));
}

/* ---- the workload ----------------------------------------------------------------------- */

struct progress {
	uint32_t tried, acknowledged;	/* steps */
	uint32_t named_tried, named;	/* the last step that changed names: begun, and done */
};

static int put_key(struct engine *engine, struct batch *batch, uint32_t k, uint32_t stamp)
{
	static uint8_t bytes[RUN_MAX];
	struct ref run;
	char text[32];
	int rc = 0;

	fill(bytes, stamp);
	if (!has_run(stamp)) {
		batch_put(batch, key_of(text, k), slice_of(bytes, size_of(stamp)));
		return 0;
	}
	rc = engine_run_write(engine, slice_of(bytes, size_of(stamp)), &run);
	if (rc == 0)
		batch_put_run(batch, key_of(text, k), &run, slice_str("run"));
	return rc;
}

static int bulk(struct engine *engine, struct batch *batch, bool put)
{
	static uint8_t bytes[ENGINE_RUN_MAX];
	int rc = 0;

	for (uint32_t i = 0; i < BULK && rc == 0; i++) {
		struct ref run;
		char text[32];
		const struct slice key = slice_of(text, (size_t)sprintf(text, "bulk %u", i));

		if (put)
			rc = engine_run_write(engine, slice_of(bytes, sizeof(bytes)), &run);
		if (put && rc == 0)
			batch_put_run(batch, key, &run, slice_str(""));
		else
			batch_delete(batch, key);
	}
	return rc;
}

/* Step i: one commit, which says i in the key "now". */
static int commit(struct engine *engine, uint32_t i, uint64_t *revision)
{
	struct dice d = dice(base_seed * 100000 + i);
	struct batch batch = { 0 };
	char text[32];
	uint8_t now[4];
	int rc = 0;

	memcpy(history[i], history[i - 1], sizeof(history[i]));
	for (uint32_t n = 1 + pick(&d, 4); n > 0 && rc == 0; n--) {
		const uint32_t k = pick(&d, KEYS), stamp = i * 8 + n;

		history[i][k] = pick(&d, 3) ? stamp : 0;
		if (history[i][k])
			rc = put_key(engine, &batch, k, stamp);
		else
			batch_delete(&batch, key_of(text, k));
	}
	if (rc == 0 && (i == 40 || i == 90))
		rc = bulk(engine, &batch, i == 40);
	put32(now, i);
	batch_put(&batch, slice_str("now"), slice_of(now, 4));
	if (rc == 0)
		rc = engine_commit(engine, &batch, false, revision);
	batch_done(&batch);
	return rc;
}

/* Some steps keep a snapshot, or drop one. */
static int change_names(struct engine *engine, uint32_t i, struct progress *p)
{
	struct dice d = dice(base_seed * 777 + i);
	const uint32_t n = pick(&d, NAMES);
	char text[32];
	int rc;

	memcpy(kept[i], kept[i - 1], sizeof(kept[i]));
	if (pick(&d, 9))
		return 0;
	p->named_tried = i;
	kept[i][n] = kept[i][n] ? 0 : i;
	rc = kept[i][n] ? engine_snapshot_create(engine, name_of(text, n)) :
			  engine_snapshot_delete(engine, name_of(text, n));
	if (rc == 0) {
		p->named = i;
		p->acknowledged = i;	/* a checkpoint has it */
	}
	return rc;
}

static int open_engine(struct sim *disk, struct engine **engine, struct err *err)
{
	const struct engine_options options = {
		.create = true, .segment_size = 48 * 1024, .log_cap = 192 * 1024,
		.cache = 64 * 1024,
	};

	return engine_open(sim_os(disk), "/store", &options, engine, err);
}

/* Runs until the end or the cut. A moment is held in memory for some steps. */
static void work(struct sim *disk, struct progress *p)
{
	struct engine *engine;
	struct engine_snapshot *reader = NULL;
	struct dice d = dice(base_seed);
	uint64_t revision;
	int rc = open_engine(disk, &engine, NULL);

	if (rc < 0)
		return;
	for (uint32_t i = 1; i <= STEPS && rc == 0; i++) {
		p->tried = i;
		rc = commit(engine, i, &revision);
		if (rc == 0 && pick(&d, 4) == 0) {
			rc = engine_wait_blocking(engine, revision, LOG_SYNCED);
			p->acknowledged = rc == 0 ? i : p->acknowledged;
		}
		if (rc == 0)
			rc = change_names(engine, i, p);
		if (rc == 0 && pick(&d, 20) == 0)
			rc = engine_checkpoint(engine);
		if (i % 30 == 0) {
			engine_snapshot_close(reader);
			reader = NULL;
			if (rc == 0 && i % 60)
				rc = engine_snapshot_open(engine, &reader);
		}
	}
	engine_snapshot_close(reader);
	if (engine_close(engine) == 0 && rc == 0)
		p->acknowledged = STEPS;
}

/* ---- what is there ---------------------------------------------------------------------- */

static void check_key(struct engine *engine, struct engine_snapshot *snapshot, uint32_t k,
		      uint32_t stamp)
{
	static uint8_t bytes[RUN_MAX], wanted[RUN_MAX];
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	const int rc = snapshot ? engine_snapshot_get(snapshot, key_of(text, k), &value, &run) :
				  engine_get(engine, key_of(text, k), &value, &run);

	assert_int_equal(rc, stamp ? 0 : -ENOENT);
	if (!stamp)
		return;
	fill(wanted, stamp);
	if (has_run(stamp)) {
		assert_int_equal(run.length, size_of(stamp));
		assert_int_equal(engine_run_read(engine, &run, bytes), 0);
		assert_memory_equal(bytes, wanted, run.length);
	} else {
		assert_true(slice_equal(buffer_slice(&value), slice_of(wanted, size_of(stamp))));
	}
	buffer_done(&value);
}

static uint32_t last_step(struct engine *engine, struct engine_snapshot *snapshot)
{
	struct buffer value = { 0 };
	const int rc = snapshot ? engine_snapshot_get(snapshot, slice_str("now"), &value, NULL) :
				  engine_get(engine, slice_str("now"), &value, NULL);
	uint32_t i;

	assert_true(rc == 0 || rc == -ENOENT);
	i = rc == 0 ? get32(value.data) : 0;
	buffer_done(&value);
	return i;
}

static void verify(struct engine *engine)
{
	struct err err;

	if (engine_verify(engine, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

/* The snapshots are those after step i: each shows its moment. */
static bool has_names(struct engine *engine, uint32_t i)
{
	for (uint32_t n = 0; n < NAMES; n++) {
		struct engine_snapshot *s;
		char text[32];
		const int rc = engine_snapshot_open_kept(engine, name_of(text, n), &s);

		if (rc == 0) {
			const uint32_t moment = last_step(engine, s);

			for (uint32_t k = 0; k < KEYS; k++)
				check_key(engine, s, k, history[moment][k]);
			engine_snapshot_close(s);
			if (moment != kept[i][n])
				return false;
		}
		assert_true(rc == 0 || rc == -ENOENT);
		if ((rc == 0) != (kept[i][n] != 0))
			return false;
	}
	return true;
}

static uint32_t holds_a_moment(struct engine *engine, const struct progress *p)
{
	const uint32_t i = last_step(engine, NULL);

	assert_in_range(i, p->acknowledged, p->tried);
	for (uint32_t k = 0; k < KEYS; k++)
		check_key(engine, NULL, k, history[i][k]);
	assert_true(has_names(engine, p->named) || has_names(engine, p->named_tried));
	verify(engine);
	states++;
	return i;
}

static void drop_all(struct engine *engine)
{
	char text[32];

	for (uint32_t n = 0; n < NAMES; n++) {
		const int rc = engine_snapshot_delete(engine, name_of(text, (n * 5 + 2) % NAMES));

		assert_true(rc == 0 || rc == -ENOENT);
	}
	verify(engine);
}

/* Opens what is left, compares, goes on, opens again, and drops all snapshots. */
static void comes_back(struct sim *disk, const struct progress *p)
{
	struct engine *engine;
	struct err err;
	struct progress then = *p;
	uint64_t revision;
	uint32_t i;

	if (open_engine(disk, &engine, &err) != 0)
		fail_msg("open: %s", err.text);
	i = holds_a_moment(engine, p);
	if (i < STEPS) {
		assert_int_equal(commit(engine, i + 1, &revision), 0);
		assert_int_equal(engine_wait_blocking(engine, revision, LOG_SYNCED), 0);
		i++;
	}
	assert_int_equal(engine_close(engine), 0);
	then.tried = then.acknowledged = i;
	assert_int_equal(open_engine(disk, &engine, &err), 0);
	holds_a_moment(engine, &then);
	drop_all(engine);
	assert_int_equal(engine_close(engine), 0);
}

/* ---- stories ---------------------------------------------------------------------------- */

static int64_t count_operations(void)
{
	struct sim *disk = sim_new(base_seed);
	struct progress p = { 0 };
	int64_t count;

	work(disk, &p);
	assert_int_equal(p.acknowledged, STEPS);
	count = (int64_t)sim_changes(disk);
	assert_true(sim_count(disk, SIM_TRUNCATE) > 0);	/* the end of the file was given back */
	sim_free(disk);
	return count;
}

static int64_t cut_points(int64_t operations)
{
	const char *given = getenv("CUTS");
	const int64_t cuts = given ? atoll(given) : CUTS;

	return cuts < 1 || cuts > operations ? operations : cuts;
}

static void after_a_power_cut_every_kept_snapshot_is_there_and_no_other(void **state)
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

/* Dropping is done by several checkpoints: a cut while it is resumed. */
static void the_second_cut_may_come_while_they_are_dropped(void **state)
{
	const int64_t operations = count_operations();
	const int64_t cuts = cut_points(operations) / 10 + 1;
	(void)state;

	for (int64_t n = 0; n < cuts; n++) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };

		sim_cut_after(disk, operations - 1 - n * operations / cuts);
		work(disk, &p);
		for (int64_t second = 0; second < 90; second += 9) {
			struct sim *copy = sim_clone(disk);
			struct engine *engine;
			char text[32];

			sim_reboot(copy, SIM_SCATTER, (uint64_t)n);
			sim_cut_after(copy, second + n % 9);
			if (open_engine(copy, &engine, NULL) == 0) {
				for (uint32_t i = 0; i < NAMES; i++)
					engine_snapshot_delete(engine, name_of(text, i));
				engine_close(engine);
			}
			sim_reboot(copy, (enum sim_fate)(second % SIM_FATES), (uint64_t)second);
			assert_int_equal(open_engine(copy, &engine, NULL), 0);
			verify(engine);
			drop_all(engine);
			assert_int_equal(engine_close(engine), 0);
			sim_free(copy);
		}
		sim_free(disk);
	}
}

/* ---- failures --------------------------------------------------------------------------- */

/* The nth operation of a kind fails once. Whatever was said to be done is there afterwards. */
static void whatever_fails_once_nothing_acknowledged_is_lost(void **state)
{
	const enum sim_kind kinds[] = {
		SIM_READ, SIM_WRITE, SIM_SYNC, SIM_ALLOCATE, SIM_TRUNCATE, SIM_CREATE, SIM_SYNC_DIR,
	};
	(void)state;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };
		int64_t count, step;

		work(disk, &p);
		count = (int64_t)sim_count(disk, kinds[k]);
		sim_free(disk);
		step = getenv("CUTS") ? 1 : count / (SANITIZED ? 8 : 60) + 1;
		for (int64_t n = 0; n < count; n += step) {
			disk = sim_new(base_seed);
			p = (struct progress){ 0 };
			sim_fail(disk, kinds[k], n, kinds[k] == SIM_ALLOCATE ? -ENOSPC : -EIO);
			work(disk, &p);
			sim_fail(disk, kinds[k], -1, 0);
			sim_reboot(disk, SIM_KEEP, (uint64_t)n);
			if (p.tried)
				comes_back(disk, &p);
			sim_free(disk);
		}
	}
}

static void without_memory_nothing_acknowledged_is_lost(void **state)
{
	const int64_t step = getenv("CUTS") ? 7 : 97 * SANITIZED_LESS;
	bool finished = false;
	(void)state;

	for (int64_t n = 200; !finished; n += step) {
		struct sim *disk = sim_new(base_seed);
		struct progress p = { 0 };

		mem_fail_after(n, false);
		work(disk, &p);
		finished = mem_count() <= n;
		mem_fail_after(-1, false);
		sim_reboot(disk, SIM_KEEP, (uint64_t)n);
		if (p.tried)
			comes_back(disk, &p);
		sim_free(disk);
		if (!finished && n > 20000)
			n += 20 * step;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_power_cut_every_kept_snapshot_is_there_and_no_other),
		cmocka_unit_test(the_second_cut_may_come_while_they_are_dropped),
		cmocka_unit_test(whatever_fails_once_nothing_acknowledged_is_lost),
		cmocka_unit_test(without_memory_nothing_acknowledged_is_lost),
	};
	const char *seed = getenv("SEED");

	if (seed)
		base_seed = strtoull(seed, NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
