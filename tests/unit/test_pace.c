/* What writers owe while the log fills up: nothing until a checkpoint begins, then more and more,
 * and never so much that anybody would stand still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine_impl.h"
#include "sim/disk.h"

enum {
	LIMIT = 256 << 20,
	HALF = LIMIT / 2,		/* where the checkpoint began */
	SMALL = 4 << 20,
	BATCH = 4096,
	DEBT_MAX_NS = 10 * 1000 * 1000,	/* these two as pace.c has them */
	CREDIT_NS = 2 * 1000 * 1000,
	MS = 1000 * 1000,
};

static const uint64_t second = 1000000000;

/* ---- the price -------------------------------------------------------------------------- */

static void the_log_is_free_until_a_checkpoint_begins(void **state)
{
	(void)state;
	for (uint64_t fill = 0; fill <= LIMIT / 2; fill += LIMIT / 64)
		assert_int_equal(pace_cost(100 * second, HALF, fill, LIMIT, 1 << 24), 0);
	assert_true(pace_cost(second, HALF, LIMIT / 2 + LIMIT / 64, LIMIT, BATCH) > 0);
}

static void from_there_it_costs_more_and_more(void **state)
{
	uint64_t before = 0;
	(void)state;

	for (uint64_t fill = LIMIT / 2 + LIMIT / 64; fill < LIMIT / 16 * 15; fill += LIMIT / 64) {
		const uint64_t cost = pace_cost(second, HALF, fill, LIMIT, BATCH);

		assert_true(cost > before);
		before = cost;
	}
}

/* Half-way between the two ends a byte costs what would let the checkpoint fill the
 * log meanwhile. */
static void in_the_middle_the_checkpoint_and_the_writers_are_as_fast(void **state)
{
	const uint64_t half = LIMIT / 2 - LIMIT / 16, pieces = half / BATCH;
	const uint64_t cost = pace_cost(10 * second, HALF, LIMIT / 2 + half / 2, LIMIT, BATCH);
	(void)state;

	assert_in_range(cost * pieces, 10 * second / 1000 * 999, 10 * second / 1000 * 1001);
}

/* Hours, and batches as large as there are, at the very end. */
static void no_product_is_too_large(void **state)
{
	(void)state;
	for (uint64_t took = second; took < 1000000 * second; took *= 2)
		for (uint64_t bytes = 1; bytes <= LIMIT; bytes *= 2) {
			const uint64_t cost = pace_cost(took, HALF, LIMIT, LIMIT, bytes);

			assert_in_range(cost, 0, DEBT_MAX_NS);
			assert_true(cost >= pace_cost(took / 2, HALF, LIMIT, LIMIT, bytes));
			assert_true(cost >= pace_cost(took, HALF, LIMIT, LIMIT, bytes / 2));
		}
	assert_int_equal(pace_cost(36000 * second, HALF, LIMIT, LIMIT, 1 << 24), DEBT_MAX_NS);
	assert_int_equal(pace_cost(UINT64_MAX, HALF, UINT64_MAX, LIMIT, UINT64_MAX), DEBT_MAX_NS);
}

/* ---- the engine ------------------------------------------------------------------------- */

/* Is the log fuller than a part of it, and so many bytes? */
static bool fuller(struct engine *e, uint64_t quarters, int64_t bytes)
{
	uint64_t fill, limit;

	log_fill(e->log, &fill, &limit);
	return (int64_t)fill > (int64_t)(limit / 4 * quarters) + bytes;
}

static void put(struct engine *e)
{
	static uint8_t bytes[BATCH];
	struct batch batch = { 0 };
	uint64_t revision;

	batch_put(&batch, slice_str("key"), slice_of(bytes, sizeof(bytes)));
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	batch_done(&batch);
}

/* No checkpoint comes through, for we are at it ourselves; and the clock stands still unless we
 * move it. */
static struct engine *open_to_fill(struct sim *disk)
{
	const struct engine_options options = {
		.create = true, .background = true, .segment_size = 256 * 1024, .log_cap = SMALL,
	};
	struct engine *e;

	sim_advance(disk, 1000 * (uint64_t)MS);
	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	mutex_lock(&e->checkpoint);
	return e;
}

static void whoever_commits_when_it_is_due_makes_the_next_one_wait(void **state)
{
	struct sim *disk = sim_new(1);
	uint64_t now, owed = 0;
	struct engine *e;
	(void)state;

	e = open_to_fill(disk);
	while (!fuller(e, 3, -3 * BATCH))
		put(e);
	assert_int_equal(atomic_load(&e->paid_until), 0);
	engine_pace(e);
	now = sim_os(disk)->monotonic_ns(sim_os(disk));
	while (!fuller(e, 3, SMALL / 8)) {
		put(e);
		if (fuller(e, 3, 3 * BATCH)) {
			assert_true(atomic_load(&e->paid_until) > now - CREDIT_NS);
			assert_true(atomic_load(&e->paid_until) >= owed);
		}
		owed = atomic_load(&e->paid_until);
	}
	assert_int_equal(owed, now + DEBT_MAX_NS);	/* nobody has paid, and it is never more */
	engine_pace(e);
	sim_advance(disk, DEBT_MAX_NS);			/* that is paid */
	engine_pace(e);
	put(e);
	assert_true(atomic_load(&e->paid_until) > now + DEBT_MAX_NS);
	mutex_unlock(&e->checkpoint);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Puts, and says what that cost: until when writers have to wait, beyond what they had to. */
static uint64_t put_for(struct engine *e)
{
	const uint64_t before = atomic_load(&e->paid_until);

	put(e);
	return atomic_load(&e->paid_until) - before;
}

static void whoever_sleeps_too_long_has_paid_for_what_comes_next(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_to_fill(disk);
	uint64_t cost, now;
	(void)state;

	while (!fuller(e, 3, SMALL / 8))
		put(e);
	sim_advance(disk, DEBT_MAX_NS);
	cost = put_for(e);
	assert_in_range(cost, 2 * MS, 4 * MS);
	sim_advance(disk, cost + MS);
	assert_in_range(put_for(e), cost, cost + MS / 2);
	sim_advance(disk, 1000 * (uint64_t)MS);		/* but not for ever */
	put(e);
	now = sim_os(disk)->monotonic_ns(sim_os(disk));
	assert_in_range(atomic_load(&e->paid_until), now - CREDIT_NS + cost, now + cost);
	mutex_unlock(&e->checkpoint);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Puts to a log, with so much time in between, until a checkpoint is due; at how much of it that
 * was, in percent. `first`: no checkpoint was there before. */
static unsigned due_at(uint64_t between_ns, bool first)
{
	const struct engine_options options = {
		.create = true, .background = true, .segment_size = 256 * 1024, .log_cap = SMALL,
	};
	struct sim *disk = sim_new(1);
	uint64_t fill, limit;
	struct engine *e;

	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	while (!first && !fuller(e, 1, 0))
		put(e);
	if (!first)
		assert_int_equal(engine_checkpoint(e), 0);
	mutex_lock(&e->checkpoint);
	while (!pace_due(e)) {
		sim_advance(disk, between_ns);
		put(e);
	}
	log_fill(e->log, &fill, &limit);
	mutex_unlock(&e->checkpoint);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
	return (unsigned)(100 * fill / limit);
}

/* A batch each 20 ms adds 75 KiB while a checkpoint may last; one each millisecond twenty times
 * that, and at the fastest it is more than there is. So it may be if nobody knows how long one
 * lasts. */
static void a_checkpoint_begins_the_later_the_slower_writers_are(void **state)
{
	const unsigned slow = due_at(20 * 1000 * 1000, false), fast = due_at(1000 * 1000, false);
	const unsigned fastest = due_at(0, false), unknown = due_at(20 * 1000 * 1000, true);
	(void)state;

	assert_in_range(slow, 75, 77);
	assert_in_range(fast, 51, 74);
	assert_in_range(fastest, 50, 52);
	assert_in_range(unknown, 50, 52);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_is_free_until_a_checkpoint_begins),
		cmocka_unit_test(from_there_it_costs_more_and_more),
		cmocka_unit_test(in_the_middle_the_checkpoint_and_the_writers_are_as_fast),
		cmocka_unit_test(no_product_is_too_large),
		cmocka_unit_test(a_checkpoint_begins_the_later_the_slower_writers_are),
		cmocka_unit_test(whoever_commits_when_it_is_due_makes_the_next_one_wait),
		cmocka_unit_test(whoever_sleeps_too_long_has_paid_for_what_comes_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
