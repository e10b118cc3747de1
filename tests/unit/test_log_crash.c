/* The log through power cuts, kills and faults, at every operation: what was waited for is there,
 * and what is there is a prefix of what was appended.
 */
#include "sim/log_bench.h"

#include <errno.h>

#include "mem.h"
#include "sim/sanitized.h"

enum {
	FEW_SEEDS = SANITIZED ? 2 : 20,
	STEP = SANITIZED ? 5 : 1,	/* from one operation that is cut, or fails, to the next */
};

/* ---- power cuts ------------------------------------------------------------------------ */

static int wait_written(struct bench *b)
{
	const uint64_t n = b->appended;
	const int rc = log_wait_blocking(b->log, b->revision, LOG_WRITTEN);

	if (rc == 0)
		b->written = n;
	return rc;
}

/* A story with everything in it: `wide` gives it large batches, so that it needs many segments. */
static int story(struct bench *b, bool wide)
{
	int rc = 0;

	for (unsigned i = 0; i < 40 && rc == 0; i++) {
		const size_t size = SMALL + (wide ? i * 977 % LARGE : i * 13);

		rc = insist(b, size);
		if (rc == 0 && i % 5 == 4)
			rc = sync_all(b);
		else if (rc == 0 && i % 2)
			rc = wait_written(b);
		if (rc == 0 && i % 7 == 6)
			rc = log_keep_witness(b->log);
		if (rc == 0 && i % 11 == 10)
			rc = checkpoint(b);
	}
	return rc;
}

/* The power goes during recovery as well, and then once more during the work after it. */
static void crash_again(struct bench *b, enum sim_fate fate, uint64_t seed)
{
	bool finished = false;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench t = twin(b);

		sim_cut_after(t.disk, cut);
		if (reopen(&t) == 0) {
			assert_history(&t);
			t.appended = t.acked = t.found;
			finished = insist(&t, SMALL) == 0 && insist(&t, LARGE) == 0 &&
				   sync_all(&t) == 0;
			assert_true(finished || sim_is_cut(t.disk));
		} else {
			assert_int_equal(t.rc, -EIO);
		}
		reboot(&t, fate, seed);
		assert_opens(&t);
		drop(&t);
	}
}

static void cut_everywhere(bool wide, bool maps, uint64_t seeds)
{
	bool finished = false;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = {
			.disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT, .maps = maps,
		};

		assert_int_equal(create(&b), 0);
		sim_cut_after(b.disk, cut);
		finished = story(&b, wide) == 0;
		assert_true(finished || sim_is_cut(b.disk));
		shut(&b);
		for (uint64_t i = 0; i < SIM_FATES * seeds; i++) {
			const enum sim_fate fate = i % SIM_FATES;
			struct bench t = twin(&b);

			if (fate < SIM_TEAR && i >= SIM_FATES) {	/* these know no chance */
				drop(&t);
				continue;
			}
			sim_reboot(t.disk, fate, i);
			if (i % 5 == 0)
				crash_again(&t, fate, i);
			assert_opens(&t);
			assert_int_equal(insist(&t, LARGE), 0);
			assert_int_equal(sync_all(&t), 0);
			reboot(&t, SIM_LOSE, i);
			assert_opens(&t);
			drop(&t);
		}
		drop(&b);
	}
}

static void no_power_cut_loses_what_was_waited_for(void **state)
{
	(void)state;
	cut_everywhere(false, false, FEW_SEEDS);
	cut_everywhere(false, true, FEW_SEEDS);
}

static void no_power_cut_among_many_segments_does_either(void **state)
{
	(void)state;
	cut_everywhere(true, false, 2 * FEW_SEEDS);
	cut_everywhere(true, true, 2 * FEW_SEEDS);
}

/* The process is killed at every operation; the next one takes over what it left half made, and
 * then the power goes.
 */
static void kill_everywhere(bool wide, bool maps)
{
	bool finished = false;

	for (int64_t cut = 0; !finished; cut += STEP) {
		struct bench b = {
			.disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT, .maps = maps,
		}, t;

		assert_int_equal(create(&b), 0);
		sim_cut_after(b.disk, cut);
		finished = story(&b, wide) == 0;
		assert_true(finished || sim_is_cut(b.disk));
		shut(&b);
		sim_revive(b.disk, (uint64_t)cut);
		assert_opens(&b);
		assert_true(b.found >= b.written);
		for (int i = 0; i < 12; i++) {
			t = twin(&b);
			sim_reboot(t.disk, SIM_LOSE, 0);
			assert_opens(&t);
			assert_int_equal(t.found, b.appended);
			drop(&t);
			assert_int_equal(insist(&b, LARGE), 0);
			assert_int_equal(i % 4 ? sync_all(&b) : checkpoint(&b), 0);
		}
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
}

static void no_kill_loses_what_was_written(void **state)
{
	(void)state;
	kill_everywhere(true, false);
}

static void no_kill_loses_what_is_in_the_tail(void **state)
{
	(void)state;
	kill_everywhere(false, true);
	kill_everywhere(true, true);
}

/* A kill loses nothing while the tail of before it is being taken over, either. */
static void no_second_kill_loses_what_is_in_the_tail(void **state)
{
	bool finished = false;
	(void)state;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = { .disk = sim_new(1), .cap = 4 * SEGMENT, .maps = true };

		assert_int_equal(create(&b), 0);
		assert_int_equal(append_synced(&b, LARGE), 0);
		for (int i = 0; i < 7; i++)
			assert_int_equal(append_written(&b, SMALL), 0);
		sim_cut_after(b.disk, 0);
		shut(&b);
		sim_revive(b.disk, (uint64_t)cut);
		sim_cut_after(b.disk, cut);
		finished = reopen(&b) == 0;
		sim_cut_after(b.disk, 0);
		shut(&b);
		sim_revive(b.disk, (uint64_t)cut);
		assert_int_equal(reopen(&b), 0);
		assert_int_equal(b.found, 8);
		drop(&b);
	}
}

static void a_creation_that_was_cut_off_can_be_done_again(void **state)
{
	bool finished = false;
	(void)state;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = {
			.disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT, .maps = true,
		};

		sim_cut_after(b.disk, cut);
		finished = create(&b) == 0;
		reboot(&b, SIM_SCATTER, (uint64_t)cut);
		assert_int_equal(create(&b), 0);
		assert_int_equal(append_synced(&b, SMALL), 0);
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
}

/* ---- faults ---------------------------------------------------------------------------- */

/* Fails the nth operation of a kind, for all n: whoever was told 0 was told the truth, and after a
 * failed write or sync of a segment in use nothing succeeds any more. */
static void fail_everywhere(enum sim_kind kind, int error)
{
	bool finished = false;

	for (int64_t n = 0; !finished; n++) {
		struct bench b = { .disk = sim_new((uint64_t)n), .cap = 4 * SEGMENT };
		int rc;

		assert_int_equal(create(&b), 0);
		sim_fail(b.disk, kind, n, error);
		rc = story(&b, true);
		finished = rc == 0;
		assert_true(rc == 0 || rc == error);
		if (*log_failure(b.log)) {
			assert_int_equal(append(&b, SMALL), -EROFS);
			assert_int_equal(log_rotate(b.log, &b.mark), -EROFS);
			assert_int_equal(log_prepare(b.log, LOG_SPARES), -EROFS);
		}
		sim_fail(b.disk, kind, -1, 0);
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
}

static void after_a_failed_write_the_log_is_dead(void **state)
{
	(void)state;
	fail_everywhere(SIM_WRITE, -EIO);
}

/* If it was the tail that could not be written, the log goes on without it. */
static void a_failed_write_takes_nothing_with_it_that_is_in_the_tail(void **state)
{
	bool finished = false;
	(void)state;

	for (int64_t n = 0; !finished; n += STEP) {
		struct bench b = { .disk = sim_new((uint64_t)n), .cap = 4 * SEGMENT, .maps = true };
		uint64_t writes;
		int rc;

		assert_int_equal(create(&b), 0);
		writes = sim_count(b.disk, SIM_WRITE);
		sim_fail(b.disk, SIM_WRITE, n, -EIO);
		rc = story(&b, true);
		finished = sim_count(b.disk, SIM_WRITE) - writes <= (uint64_t)n;
		assert_true(rc == (*log_failure(b.log) ? -EIO : 0));
		sim_fail(b.disk, SIM_WRITE, -1, 0);
		sim_cut_after(b.disk, 0);
		shut(&b);
		sim_revive(b.disk, (uint64_t)n);
		assert_opens(&b);
		assert_true(b.found >= b.written);
		drop(&b);
	}
}

static void after_a_failed_sync_the_log_is_dead(void **state)
{
	(void)state;
	fail_everywhere(SIM_SYNC, -EIO);
}

/* What a sync has failed on is shown to whoever comes next, and never written by itself: `synced`
 * small batches and then some large ones, in several segments, of which the sync of
 * the nth failed. */
static struct bench log_whose_sync_failed(unsigned synced, int64_t nth, uint64_t seed)
{
	enum { DOUBTFUL = 9 };
	struct bench b = { .disk = sim_new(seed), .cap = 16 * SEGMENT };

	assert_int_equal(create(&b), 0);
	for (unsigned i = 0; i < synced; i++)
		assert_int_equal(append_synced(&b, LARGE), 0);
	for (unsigned i = 0; i < DOUBTFUL; i++)
		assert_int_equal(append_written(&b, LARGE), 0);
	sim_fail(b.disk, SIM_SYNC, nth, -EIO);
	assert_int_equal(sync_all(&b), -EIO);
	shut(&b);
	return b;
}

/* An opening that was not cut has made durable what it found. */
static void open_and_lose_the_rest(struct bench *b)
{
	struct bench t;

	assert_opens(b);
	t = twin(b);		/* before it is closed, which syncs */
	sim_reboot(t.disk, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, b->found);
	drop(&t);
}

static void what_a_failed_sync_left_is_durable_once_the_log_is_open(void **state)
{
	(void)state;
	for (unsigned synced = 0; synced < 6; synced++)
		for (int64_t nth = 0; nth < 2; nth++)
			for (uint64_t seed = 0; seed < 4; seed++) {
				struct bench b = log_whose_sync_failed(synced, nth, seed);

				open_and_lose_the_rest(&b);
				assert_int_equal(b.found, b.appended);
				drop(&b);
			}
}

/* Cut while it does that, again and again: by a kill, which takes nothing of it, or
 * of the power. */
static void cut_at_each_operation_it_is_done_at_last(void **state)
{
	enum { AGAIN = 5 };
	(void)state;

	for (unsigned synced = 0; synced < 6; synced++) {
		struct bench b = log_whose_sync_failed(synced, synced % 2, synced);
		bool finished = false;

		for (int64_t cut = 0; !finished; cut++)
			for (int fate = 0; fate <= SIM_FATES; fate++) {
				struct bench t = twin(&b);

				for (int64_t i = 0; i < AGAIN; i++) {
					sim_cut_after(t.disk, cut * (i + 2) / 2 % (cut + 1));
					finished = reopen(&t) == 0;
					sim_cut_after(t.disk, -1);
					shut(&t);
					if (fate == SIM_FATES)
						sim_revive(t.disk, (uint64_t)(cut * AGAIN + i));
					else
						sim_reboot(t.disk, (enum sim_fate)fate,
							   (uint64_t)(cut * AGAIN + i));
				}
				open_and_lose_the_rest(&t);
				if (fate == SIM_FATES)
					assert_int_equal(t.found, b.appended);
				drop(&t);
			}
		drop(&b);
	}
}

/* The header of a segment that nothing else was written to. */
static void a_header_that_a_failed_sync_left_is_durable_before_it_is_named(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct bench b = { .disk = sim_new(seed), .cap = 4 * SEGMENT }, t;
		struct log_mark mark;

		assert_int_equal(create(&b), 0);
		assert_int_equal(append_synced(&b, SMALL), 0);
		assert_int_equal(log_rotate(b.log, &mark), 0);
		sim_fail(b.disk, SIM_SYNC, 0, -EIO);
		assert_int_equal(log_wait_blocking(b.log, mark.revision, LOG_SYNCED), -EIO);
		shut(&b);
		assert_opens(&b);
		assert_int_equal(checkpoint(&b), 0);
		t = twin(&b);		/* before it is closed, which syncs */
		sim_reboot(t.disk, SIM_LOSE, 0);
		assert_opens(&t);
		drop(&t);
		drop(&b);
	}
}

static void no_other_fault_makes_it_lie(void **state)
{
	(void)state;
	fail_everywhere(SIM_CREATE, -ENOSPC);
	fail_everywhere(SIM_ALLOCATE, -ENOSPC);
	fail_everywhere(SIM_SYNC_DIR, -EIO);
	fail_everywhere(SIM_RANDOM, -EIO);
}

static void a_dead_log_says_why(void **state)
{
	struct bench *b = *state;

	append(b, SMALL);
	sim_fail(b->disk, SIM_SYNC, 0, -EIO);
	assert_int_equal(sync_all(b), -EIO);
	assert_string_equal(log_failure(b->log), "syncing log.00000000: Input/output error");
	assert_int_equal(sync_all(b), -EROFS);
}

/* Opening fails, or finds everything; and the next opening finds everything. */
static void an_opening_that_could_not_read_changes_nothing(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	append_written(b, SMALL);
	for (int kind = SIM_OPEN; kind < SIM_KINDS; kind++) {
		int rc = -EIO;

		for (int64_t n = 0; rc != 0; n++) {
			struct bench t = twin(b);

			sim_fail(t.disk, (enum sim_kind)kind, n, -EIO);
			rc = reopen(&t);
			assert_true(rc == 0 || rc == -EIO);
			shut(&t);
			sim_fail(t.disk, (enum sim_kind)kind, -1, 0);
			assert_opens(&t);
			assert_int_equal(t.found, 8);
			drop(&t);
		}
	}
}

static int everything(struct bench *b)
{
	int rc = create(b);

	if (rc == 0)
		rc = story(b, true);
	shut(b);
	return rc ? rc : reopen(b);
}

static void no_failed_allocation_does_harm(void **state)
{
	int rc = -ENOMEM;
	(void)state;

	for (int64_t n = 0; rc != 0; n++) {
		struct bench b = { .disk = sim_new(1), .cap = 4 * SEGMENT };

		mem_fail_after(n, 0);
		rc = everything(&b);
		mem_fail_after(-1, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		shut(&b);
		if (b.mark.segment)
			assert_opens(&b);
		drop(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_power_cut_loses_what_was_waited_for),
		cmocka_unit_test(no_power_cut_among_many_segments_does_either),
		cmocka_unit_test(no_kill_loses_what_was_written),
		cmocka_unit_test(no_kill_loses_what_is_in_the_tail),
		cmocka_unit_test(no_second_kill_loses_what_is_in_the_tail),
		cmocka_unit_test(a_creation_that_was_cut_off_can_be_done_again),
		cmocka_unit_test(after_a_failed_write_the_log_is_dead),
		cmocka_unit_test(a_failed_write_takes_nothing_with_it_that_is_in_the_tail),
		cmocka_unit_test(after_a_failed_sync_the_log_is_dead),
		cmocka_unit_test(what_a_failed_sync_left_is_durable_once_the_log_is_open),
		cmocka_unit_test(cut_at_each_operation_it_is_done_at_last),
		cmocka_unit_test(a_header_that_a_failed_sync_left_is_durable_before_it_is_named),
		cmocka_unit_test(no_other_fault_makes_it_lie),
		BENCH_TEST(a_dead_log_says_why),
		BENCH_TEST(an_opening_that_could_not_read_changes_nothing),
		cmocka_unit_test(no_failed_allocation_does_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
