/* A log that leads to more nodes than memory may hold, so that replaying it writes nodes and makes
 * checkpoints. The power goes meanwhile, and again during the replay after that. Nothing that was
 * acknowledged is lost, nor applied twice.
 *
 * N  how many cuts there are between two of the first recovery's; 1: at each operation */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/disk.h"
#include "sim/sanitized.h"

enum {
	KEYS = 200,
	COMMITS = 900,
	VALUE_MAX = 1800,
	RUN_EVERY = 8,		/* every eighth key has runs for values */
	CACHE = 64 * 1024,
	SYNC_EVERY = 50,	/* commits */
};

static const struct engine_options small = {
	.create = true, .segment_size = 64 * 1024, .log_cap = 16 << 20, .cache = CACHE,
};

/* ---- vocabulary ------------------------------------------------------------------------- */

static struct {
	uint8_t bytes[VALUE_MAX];
	size_t size;
	bool there;
} model[KEYS];

static int try_open(struct sim *disk, struct engine **e)
{
	struct err err;
	const int rc = engine_open(sim_os(disk), "/store", &small, e, &err);

	if (rc < 0 && !sim_is_cut(disk))
		fail_msg("open: %s", err.text);
	return rc;
}

static struct slice key_of(char *text, unsigned k)
{
	return slice_of(text, (size_t)sprintf(text, "key %u", k * 7919));
}

static void put(struct engine *e, struct batch *batch, struct slice key, unsigned k, unsigned n)
{
	struct ref run;

	model[k].there = true;
	model[k].size = 100 + n * 37 % (VALUE_MAX - 200);
	for (size_t i = 0; i < model[k].size; i++)
		model[k].bytes[i] = (uint8_t)(n * 31 + k + i * 7);
	if (k % RUN_EVERY == 0) {
		assert_int_equal(engine_run_write(e, slice_of(model[k].bytes, model[k].size), &run),
				 0);
		batch_put_run(batch, key, &run, slice_of("", 0));
	} else {
		batch_put(batch, key, slice_of(model[k].bytes, model[k].size));
	}
}

/* Applied twice, or in another order, it would make another value. */
static void patch(struct batch *batch, struct slice key, unsigned k, unsigned n)
{
	const uint8_t more[8] = { (uint8_t)n, (uint8_t)(n >> 8), 3, 4, 5, 6, 7, 8 };

	batch_patch(batch, key, (uint32_t)model[k].size, slice_of(more, sizeof(more)));
	memcpy(model[k].bytes + model[k].size, more, sizeof(more));
	model[k].size += sizeof(more);
}

static uint64_t commit_one(struct engine *e, unsigned n)
{
	const unsigned k = n * 6151 % KEYS;
	struct batch batch = { 0 };
	uint64_t revision;
	char text[32];
	const struct slice key = key_of(text, k);

	if (n % 11 == 0 && model[k].there) {
		batch_delete(&batch, key);
		model[k].there = false;
	} else if (n % 3 && k % RUN_EVERY && model[k].there && model[k].size < VALUE_MAX - 8) {
		patch(&batch, key, k, n);
	} else {
		put(e, &batch, key, k, n);
	}
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	batch_done(&batch);
	return revision;
}

/* All of it in the log, acknowledged; then the power goes. */
static struct sim *store_with_a_long_log(void)
{
	struct sim *disk = sim_new(1);
	struct engine *e;
	uint64_t revision = 0;

	memset(model, 0, sizeof(model));
	assert_int_equal(try_open(disk, &e), 0);
	for (unsigned n = 0; n < COMMITS; n++) {
		revision = commit_one(e, n);
		if (n % SYNC_EVERY == SYNC_EVERY - 1)
			assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
	}
	assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 0);
	return disk;
}

static void holds_all(struct engine *e)
{
	static uint8_t bytes[VALUE_MAX];
	struct buffer value = { 0 };
	struct err err;
	char text[32];

	for (unsigned k = 0; k < KEYS; k++) {
		struct ref run;
		const int rc = engine_get(e, key_of(text, k), &value, &run);

		assert_int_equal(rc, model[k].there ? 0 : -ENOENT);
		if (rc < 0)
			continue;
		if (run.length)
			assert_int_equal(engine_run_read(e, &run, bytes), 0);
		assert_int_equal(run.length ? run.length : value.size, model[k].size);
		assert_memory_equal(run.length ? bytes : value.data, model[k].bytes, model[k].size);
	}
	buffer_done(&value);
	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

static void comes_back(struct sim *disk)
{
	struct engine *e;

	assert_int_equal(try_open(disk, &e), 0);
	holds_all(e);
	assert_int_equal(engine_close(e), 0);
	assert_int_equal(try_open(disk, &e), 0);
	holds_all(e);
	assert_int_equal(engine_close(e), 0);
}

/* Opens it with the power going after `cut` operations, if it has as many. */
static void open_and_cut(struct sim *disk, int64_t cut, enum sim_fate fate, uint64_t seed)
{
	struct engine *e;

	sim_cut_after(disk, cut);
	if (try_open(disk, &e) == 0) {
		sim_cut_after(disk, 0);
		engine_close(e);
	}
	sim_reboot(disk, fate, seed);
}

static int find_last(void *arg, const char *name)
{
	char *last = arg;

	if (strncmp(name, FILE_LOG_PREFIX, strlen(FILE_LOG_PREFIX)) == 0 && strcmp(name, last) > 0)
		strcpy(last, name);
	return 0;
}

/* And the witness, which would tell of it. */
static void lose_last_file_of_log(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	char last[256] = "";

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->list(dir, find_last, last), 0);
	assert_int_equal(os->remove(dir, last), 0);
	assert_int_equal(os->remove(dir, FILE_WITNESS), 0);
	os->close_dir(dir);
}

/* ---- stories ---------------------------------------------------------------------------- */

static void replay_keeps_to_the_memory_it_may_have(void **state)
{
	struct sim *disk = store_with_a_long_log();
	struct engine_stats stats;
	struct engine *e;
	(void)state;

	assert_int_equal(try_open(disk, &e), 0);
	assert_int_equal(engine_stats(e, &stats), 0);
	assert_true(stats.generation > 8);	/* there were as many checkpoints, of chunks */
	assert_true(stats.memory < 3 * CACHE);
	holds_all(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void a_crash_in_the_recovery_of_a_crash_loses_nothing(void **state)
{
	struct sim *base = store_with_a_long_log(), *whole = sim_clone(base);
	const char *n = getenv("N");
	struct engine *e;
	int64_t operations, step;
	uint64_t states = 0;
	(void)state;

	assert_int_equal(try_open(whole, &e), 0);
	operations = (int64_t)sim_changes(whole);
	sim_cut_after(whole, 0);
	engine_close(e);
	sim_free(whole);
	step = n ? atoi(n) : operations / (SANITIZED ? 10 : 50);
	for (int64_t cut = 0; cut <= operations; cut += step > 0 ? step : 1)
		for (int fate = 0; fate < SIM_FATES; fate++, states++) {
			struct sim *disk = sim_clone(base);

			open_and_cut(disk, cut, fate, (uint64_t)cut);
			open_and_cut(disk, cut * 13 % operations, (fate + 1) % SIM_FATES,
				     (uint64_t)cut + 1);
			comes_back(disk);
			sim_free(disk);
		}
	sim_free(base);
	print_message("%llu states opened and compared, of %lld operations\n",
		      (unsigned long long)states, (long long)operations);
}

/* Cut in the replay, and opened once more: a superblock that the replay wrote has forgotten nothing
 * that the one before it knew, of revisions that were given out and are lost, and of
 * files of the log. */
static void a_checkpoint_of_the_replay_forgets_nothing(void **state)
{
	enum { CUT_EVERY = 7 * SANITIZED_LESS };
	const struct engine_options large = {
		.create = true, .segment_size = 64 * 1024, .log_cap = 16 << 20,
	};
	struct sim *base = store_with_a_long_log(), *whole;
	struct engine *e;
	int64_t operations;
	uint64_t given;
	(void)state;

	/* Opened with memory enough, so that the log is as long as before; then one commit, of
	 * which no trace is left. */
	assert_int_equal(engine_open(sim_os(base), "/store", &large, &e, NULL), 0);
	given = engine_revision(e) + 1;
	sim_cut_after(base, 0);
	engine_close(e);
	sim_reboot(base, SIM_LOSE, 0);

	whole = sim_clone(base);
	assert_int_equal(try_open(whole, &e), 0);
	operations = (int64_t)sim_changes(whole);
	assert_int_equal(engine_close(e), 0);
	sim_free(whole);
	for (int64_t cut = 0; cut < operations; cut += CUT_EVERY) {
		struct sim *disk = sim_clone(base);
		struct err err;

		open_and_cut(disk, cut, SIM_KEEP, 0);
		whole = sim_clone(disk);
		lose_last_file_of_log(whole);
		assert_int_equal(engine_open(sim_os(whole), "/store", &small, &e, &err), -EUCLEAN);
		sim_free(whole);
		assert_int_equal(try_open(disk, &e), 0);
		assert_true(engine_revision(e) >= given);
		holds_all(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
	sim_free(base);
}

/* The log was written and never synced, and the process killed. Until recovery has synced it, a
 * power cut may take it back: no superblock may say then that it had been there. */
static void no_checkpoint_relies_on_a_log_that_nobody_synced(void **state)
{
	struct sim *base = sim_new(1), *whole;
	struct engine *e;
	uint64_t revision = 0, synced;
	int64_t operations;
	(void)state;

	memset(model, 0, sizeof(model));
	assert_int_equal(try_open(base, &e), 0);
	synced = commit_one(e, 0);
	assert_int_equal(engine_wait_blocking(e, synced, LOG_SYNCED), 0);
	for (unsigned n = 1; n < COMMITS; n++)
		revision = commit_one(e, n);
	assert_int_equal(engine_wait_blocking(e, revision, LOG_WRITTEN), 0);
	sim_cut_after(base, 0);
	engine_close(e);
	sim_revive(base, 0);

	whole = sim_clone(base);
	assert_int_equal(try_open(whole, &e), 0);
	holds_all(e);
	operations = (int64_t)sim_changes(whole);
	assert_int_equal(engine_close(e), 0);
	sim_free(whole);
	for (int64_t cut = 0; cut <= operations; cut += SANITIZED_LESS) {
		struct sim *disk = sim_clone(base);
		struct err err;

		open_and_cut(disk, cut, SIM_LOSE, 0);
		assert_int_equal(try_open(disk, &e), 0);
		assert_true(engine_revision(e) >= synced);
		if (engine_verify(e, NULL, NULL, &err) != 0)
			fail_msg("verify: %s", err.text);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
	sim_free(base);
}

/* Without room for checkpoints it takes the memory that it needs. */
static void on_a_full_disk_the_log_is_replayed_all_the_same(void **state)
{
	struct sim *disk = store_with_a_long_log();
	struct engine *e;
	(void)state;

	sim_limit(disk, 1);
	assert_int_equal(try_open(disk, &e), 0);
	holds_all(e);
	sim_limit(disk, UINT64_MAX);
	assert_int_equal(engine_close(e), 0);
	comes_back(disk);
	sim_free(disk);
}

static void a_replay_that_fails_half_way_leaves_the_log_to_the_next(void **state)
{
	static const enum sim_kind kinds[] = { SIM_WRITE, SIM_SYNC, SIM_READ };
	struct sim *base = store_with_a_long_log();
	(void)state;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		int rc = -EIO;

		for (int64_t n = 0; rc != 0; n += 1 + n / 4) {
			struct sim *disk = sim_clone(base);
			struct engine *e;
			struct err err;

			sim_fail(disk, kinds[i], n, -EIO);
			rc = engine_open(sim_os(disk), "/store", &small, &e, &err);
			sim_fail(disk, kinds[i], -1, 0);
			if (rc == 0)
				engine_close(e);
			else
				assert_true(rc == -EIO || rc == -EROFS);
			comes_back(disk);
			sim_free(disk);
		}
	}
	sim_free(base);
}

/* Only a checkpoint may be refused for want of room: what else says so must not
 * pass for applied. */
static void no_error_passes_for_a_full_disk(void **state)
{
	enum { READS = 400 };
	struct sim *base = store_with_a_long_log();
	int refused = 0;
	(void)state;

	for (int64_t n = 0; n < READS; n += SANITIZED_LESS) {
		struct sim *disk = sim_clone(base);
		struct engine *e;
		struct err err;
		int rc;

		sim_fail(disk, SIM_READ, n, -ENOSPC);
		rc = engine_open(sim_os(disk), "/store", &small, &e, &err);
		sim_fail(disk, SIM_READ, -1, 0);
		refused += rc < 0;
		if (rc == 0) {
			holds_all(e);
			engine_close(e);
		}
		sim_free(disk);
	}
	assert_true(refused > 0);
	sim_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replay_keeps_to_the_memory_it_may_have),
		cmocka_unit_test(a_crash_in_the_recovery_of_a_crash_loses_nothing),
		cmocka_unit_test(a_checkpoint_of_the_replay_forgets_nothing),
		cmocka_unit_test(no_checkpoint_relies_on_a_log_that_nobody_synced),
		cmocka_unit_test(on_a_full_disk_the_log_is_replayed_all_the_same),
		cmocka_unit_test(a_replay_that_fails_half_way_leaves_the_log_to_the_next),
		cmocka_unit_test(no_error_passes_for_a_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
