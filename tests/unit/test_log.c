/* The log as it should be: what was appended is found again, in order, and whoever
 * waits is told. */
#include "sim/log_bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "log_state.h"

/* ---- history --------------------------------------------------------------------------- */

static void a_new_log_is_empty_and_opens_again(void **state)
{
	struct bench *b = *state;

	assert_int_equal(log_revision(b->log), 0);
	assert_int_equal(shut(b), 0);
	assert_opens(b);
	assert_int_equal(b->found, 0);
	assert_false(b->torn);
	assert_int_equal(log_revision(b->log), LEAP);
}

static void what_was_appended_is_replayed_in_order(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 20; i++)
		assert_int_equal(append(b, SMALL + (size_t)i), 0);
	assert_int_equal(b->revision, 20);
	assert_int_equal(shut(b), 0);
	b->acked = 20;
	assert_opens(b);
	assert_int_equal(b->found, 20);
	assert_false(b->torn);
}

/* Whether or not it found anything: what was lost may have left no trace. */
static void revisions_leap_at_every_opening(void **state)
{
	struct bench *b = *state;

	shut(b);
	reopen(b);
	append(b, SMALL);
	assert_int_equal(b->revision, LEAP + 1);
	shut(b);
	reopen(b);
	assert_int_equal(append(b, SMALL), 0);
	assert_int_equal(b->revision, LEAP + 1 + LEAP + 1);
	assert_int_equal(shut(b), 0);
	b->acked = 2;
	assert_opens(b);
}

static void a_log_goes_on_through_many_openings_without_a_checkpoint(void **state)
{
	struct bench *b = *state;

	b->cap = 100 * SEGMENT;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(append_synced(b, SMALL), 0);
		if (i % 3 == 0)
			reboot(b, SIM_LOSE, 0);
		else
			shut(b);
		assert_opens(b);
		assert_int_equal(b->found, i + 1);
	}
}

static void written_batches_survive_a_killed_process_but_not_a_power_cut(void **state)
{
	struct bench *b = *state, t;

	assert_int_equal(append_synced(b, SMALL), 0);
	assert_int_equal(append_written(b, SMALL), 0);
	t = twin(b);
	assert_opens(&t);
	assert_int_equal(t.found, 2);
	shut(&t);
	sim_reboot(t.disk, SIM_LOSE, 0);	/* opening made them durable */
	assert_opens(&t);
	assert_int_equal(t.found, 2);
	drop(&t);
	t = twin(b);
	sim_reboot(t.disk, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 1);
	drop(&t);
}

/* A log with a tail. */
static void map(struct bench *b)
{
	drop(b);
	*b = (struct bench){ .disk = sim_new(1), .cap = 4 * SEGMENT, .maps = true };
	assert_int_equal(create(b), 0);
}

static void what_is_in_the_tail_is_written_with_the_next_sync(void **state)
{
	struct bench *b = *state;
	struct log_stats stats;

	map(b);
	for (int i = 0; i < 10; i++)
		assert_int_equal(append_written(b, SMALL), 0);
	log_stats(b->log, &stats);
	assert_int_equal(stats.groups, 0);
	assert_int_equal(append_synced(b, SMALL), 0);
	log_stats(b->log, &stats);
	assert_int_equal(stats.groups, 1);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
	assert_int_equal(b->found, 11);
}

/* Nobody waits for a sync: what fits no more, in the segment here, is written. */
static void a_tail_that_is_full_is_written_and_begun_anew(void **state)
{
	struct bench *b = *state;
	struct log_stats stats;

	map(b);
	b->cap = 100 * SEGMENT;
	shut(b);
	assert_opens(b);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(append_written(b, SMALL), 0);
	log_stats(b->log, &stats);
	assert_in_range(stats.groups, 2000 * SMALL / SEGMENT, 2000 / 5);
	sim_cut_after(b->disk, 0);
	shut(b);
	sim_revive(b->disk, 1);
	assert_opens(b);
	assert_int_equal(b->found, 2000);
}

static void small_groups_without_a_sync_share_a_unit(void **state)
{
	struct bench *b = *state;
	struct log_stats stats;

	for (int i = 0; i < 10; i++)
		assert_int_equal(append_written(b, SMALL), 0);
	log_stats(b->log, &stats);
	assert_int_equal(stats.groups, 10);
	assert_true(stats.bytes_live < SEGMENT_HEADER + UNIT);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append_synced(b, SMALL), 0);
	log_stats(b->log, &stats);
	assert_true(stats.bytes_live > SEGMENT_HEADER + 2 * UNIT);
	assert_int_equal(stats.syncs, 3);
}

static void a_batch_that_is_too_large_is_refused_and_the_largest_is_not(void **state)
{
	struct bench *b = *state;
	const uint64_t max = log_batch_max(b->log);

	assert_int_equal(append(b, max + 1), -E2BIG);
	assert_int_equal(append(b, SMALL), 0);
	assert_int_equal(append_synced(b, max), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
	assert_int_equal(b->found, 2);
}

/* ---- callbacks ------------------------------------------------------------------------- */

struct told {
	struct log_waiter waiter;	/* first: the callback gets back to us */
	int rc;
	unsigned order;
};

static unsigned told_count;

static void tell(struct log_waiter *w, int rc)
{
	struct told *t = (struct told *)w;

	t->rc = rc;
	t->order = ++told_count;
}

static int before_sync_asks_for_more(void *arg)
{
	struct bench *b = arg;
	static struct told late[3];

	if (told_count == 0 && late[0].order == 0 && b->appended == 1) {
		for (int i = 0; i < 3; i++)
			late[i] = (struct told){ .waiter = { 1, LOG_SYNCED, tell, NULL }, .rc = 1 };
		for (int i = 0; i < 3; i++)
			log_wait(b->log, &late[i].waiter);
		assert_int_equal(late[0].rc, 1);
	}
	return 0;
}

static void whoever_comes_during_the_sync_that_covers_him_is_told_in_order(void **state)
{
	struct bench *b = *state;
	struct told first = { .waiter = { 1, LOG_SYNCED, tell, NULL } };
	struct log_options options = options_of(b);
	const struct log_reader reader = reader_of(b);

	shut(b);
	options.before_sync = before_sync_asks_for_more;
	options.arg = b;
	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &b->dir), 0);
	assert_int_equal(
		log_open(b->os, b->dir, &options, &b->mark, 0, &reader, &b->log, NULL, NULL), 0);
	told_count = 0;
	append(b, SMALL);
	log_wait(b->log, &first.waiter);
	assert_int_equal(first.order, 1);
	assert_int_equal(told_count, 4);
}

/* Somebody else, who does this within the next write or sync of the log. */
static struct {
	struct os real;
	struct bench *b;
	bool appends_in_write, rotates_in_sync, asks_in_sync;
	struct log_mark mark;
	pthread_t waiter;
	bool waits;
	int rc;
	struct log_waiter asker;
	bool told;
} meanwhile;

static int write_meanwhile(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	if (meanwhile.appends_in_write) {
		meanwhile.appends_in_write = false;
		assert_int_equal(append(meanwhile.b, SMALL), 0);
	}
	return meanwhile.real.write(file, bytes, size, offset);
}

static void *wait_for_mark(void *arg)
{
	(void)arg;
	meanwhile.rc = log_wait_blocking(meanwhile.b->log, meanwhile.mark.revision, LOG_SYNCED);
	return NULL;
}

static bool next_has_a_leader(struct log *log)
{
	bool has;

	mutex_lock(&log->lock);
	has = log->has_next;
	mutex_unlock(&log->lock);
	return has;
}

/* The header is written when the disk is done, and the sync has not returned yet. Whoever waits for
 * it must lead the next one. Whoever asks before the disk has begun must not be told yet. */
static int sync_meanwhile(struct os_file *file)
{
	int rc;

	if (meanwhile.asks_in_sync) {
		meanwhile.asks_in_sync = false;
		log_wait(meanwhile.b->log, &meanwhile.asker);
		assert_false(meanwhile.told);
	}
	rc = meanwhile.real.sync(file);
	if (!meanwhile.rotates_in_sync)
		return rc;
	meanwhile.rotates_in_sync = false;
	assert_int_equal(log_rotate(meanwhile.b->log, &meanwhile.mark), 0);
	assert_int_equal(pthread_create(&meanwhile.waiter, NULL, wait_for_mark, NULL), 0);
	meanwhile.waits = true;
	for (int i = 0; i < 10000 && !next_has_a_leader(meanwhile.b->log); i++)
		usleep(1000);
	return rc;
}

static void look_on(struct bench *b)
{
	meanwhile.real = *b->os;
	meanwhile.b = b;
	meanwhile.waits = false;
	b->os->write = write_meanwhile;
	b->os->sync = sync_meanwhile;
}

static void look_away(struct bench *b)
{
	*b->os = meanwhile.real;
}

/* Before it is closed, which syncs. */
static void assert_survives_a_power_cut(const struct bench *b)
{
	struct bench t = twin(b);

	sim_reboot(t.disk, SIM_LOSE, 0);
	assert_opens(&t);
	drop(&t);
}

static void what_is_appended_during_the_write_is_not_synced_by_it(void **state)
{
	struct bench *b = *state;

	assert_int_equal(append(b, SMALL), 0);
	look_on(b);
	meanwhile.appends_in_write = true;
	assert_int_equal(sync_all(b), 0);
	assert_int_equal(b->appended, 2);
	assert_int_equal(sync_all(b), 0);
	look_away(b);
	assert_int_equal(b->acked, 2);
	assert_survives_a_power_cut(b);
}

static void a_header_that_is_written_during_a_sync_is_not_synced_by_it(void **state)
{
	struct bench *b = *state;

	assert_int_equal(append(b, SMALL), 0);
	look_on(b);
	meanwhile.rotates_in_sync = true;
	assert_int_equal(sync_all(b), 0);
	assert_true(meanwhile.waits);
	pthread_join(meanwhile.waiter, NULL);
	look_away(b);
	assert_int_equal(meanwhile.rc, 0);
	b->mark = meanwhile.mark;
	b->at_mark = b->appended;
	assert_survives_a_power_cut(b);
}

static void tell_asker(struct log_waiter *w, int rc)
{
	(void)w;
	assert_int_equal(rc, 0);
	meanwhile.told = true;
}

/* The commits before it were synced long ago. */
static void a_header_that_is_being_synced_is_not_synced_yet(void **state)
{
	struct bench *b = *state;
	struct log_mark mark;

	assert_int_equal(append_synced(b, SMALL), 0);
	assert_int_equal(log_rotate(b->log, &mark), 0);
	look_on(b);
	meanwhile.asks_in_sync = true;
	meanwhile.told = false;
	meanwhile.asker = (struct log_waiter){ mark.revision, LOG_SYNCED, tell_asker, NULL };
	assert_int_equal(log_wait_blocking(b->log, mark.revision, LOG_SYNCED), 0);
	look_away(b);
	assert_true(meanwhile.told);
}

static void a_callback_comes_at_once_for_what_is_safe_already(void **state)
{
	struct bench *b = *state;
	struct told t = { .waiter = { 1, LOG_SYNCED, tell, NULL }, .rc = 1 };
	const uint64_t syncs = sim_count(b->disk, SIM_SYNC);

	append_synced(b, SMALL);
	log_wait(b->log, &t.waiter);
	assert_int_equal(t.rc, 0);
	assert_int_equal(sim_count(b->disk, SIM_SYNC), syncs + 1);
}

/* ---- segments -------------------------------------------------------------------------- */

static void a_full_segment_is_followed_by_the_next(void **state)
{
	struct bench *b = *state;

	b->cap = 100 * SEGMENT;
	shut(b);
	assert_opens(b);
	for (int i = 0; i < 30; i++)
		assert_int_equal(append_synced(b, LARGE), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
	assert_int_equal(b->found, 30);
}

static void recycled_segments_bring_nothing_back(void **state)
{
	struct bench *b = *state;

	b->cap = 6 * SEGMENT;
	shut(b);
	assert_opens(b);
	for (int round = 0; round < 12; round++) {
		for (int i = 0; i < 7; i++)
			assert_int_equal(append_synced(b, LARGE - (size_t)round * 100), 0);
		assert_int_equal(checkpoint(b), 0);
		if (round % 3 == 2) {
			reboot(b, SIM_LOSE, 0);
			assert_opens(b);
			assert_int_equal(b->found, b->at_mark);
		}
	}
}

static void at_the_cap_appends_ask_for_a_checkpoint_which_helps(void **state)
{
	struct bench *b = *state;
	int rc;

	for (int round = 0; round < 3; round++) {
		do
			rc = append_synced(b, LARGE);
		while (rc == 0);
		assert_int_equal(rc, -EAGAIN);
		assert_int_equal(append(b, LARGE), -EAGAIN);
		assert_int_equal(log_prepare(b->log, LOG_SPARES), -EAGAIN);
		assert_int_equal(checkpoint(b), 0);
	}
	assert_int_equal(append_synced(b, LARGE), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

static void a_full_disk_refuses_appends_until_a_checkpoint(void **state)
{
	struct bench *b = *state;
	int rc;

	b->cap = 100 * SEGMENT;
	shut(b);
	assert_opens(b);
	sim_limit(b->disk, 3 * SEGMENT + UNIT);
	do
		rc = append_synced(b, LARGE);
	while (rc == 0);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(log_prepare(b->log, LOG_SPARES), -ENOSPC);
	assert_string_equal(log_failure(b->log), "");
	assert_int_equal(checkpoint(b), 0);
	assert_int_equal(append_synced(b, LARGE), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

/* What is left of the disk is for values then. */
static void a_log_that_could_fill_the_disk_does_not_grow(void **state)
{
	struct bench *b = *state;
	struct log_stats stats;
	uint64_t fill, limit;
	int rc;

	b->cap = 8 * SEGMENT;
	shut(b);
	assert_opens(b);
	sim_limit(b->disk, 7 * SEGMENT + TAIL_SIZE);
	do
		rc = append_synced(b, LARGE);
	while (rc == 0);
	assert_int_equal(rc, -ENOSPC);
	log_stats(b->log, &stats);
	assert_int_equal(stats.bytes, 3 * SEGMENT);
	log_fill(b->log, &fill, &limit);
	assert_int_equal(limit, 3 * SEGMENT);	/* so a checkpoint is due in time */
	assert_int_equal(checkpoint(b), 0);
	sim_limit(b->disk, 9 * SEGMENT + TAIL_SIZE);
	for (int i = 0; i < 20; i++)
		assert_int_equal(append_synced(b, LARGE), 0);
	log_stats(b->log, &stats);
	assert_in_range(stats.bytes, 3 * SEGMENT + 1, 8 * SEGMENT);
	log_fill(b->log, &fill, &limit);
	assert_int_equal(limit, 8 * SEGMENT);
}

static void prepared_segments_spare_appends_the_making(void **state)
{
	struct bench *b = *state;
	uint64_t made;

	assert_int_equal(log_prepare(b->log, LOG_SPARES), 0);
	made = sim_count(b->disk, SIM_CREATE);
	for (int i = 0; i < 6; i++)
		assert_int_equal(append_synced(b, LARGE), 0);
	assert_int_equal(sim_count(b->disk, SIM_CREATE), made);
}

static void a_checkpoint_of_nothing_new_writes_nothing(void **state)
{
	struct bench *b = *state;
	uint64_t changes;

	append(b, SMALL);
	assert_int_equal(checkpoint(b), 0);
	changes = sim_changes(b->disk);
	assert_int_equal(checkpoint(b), 0);
	assert_int_equal(sim_changes(b->disk), changes);
}

/* mark->revision was synced before the rotation; waiting for it must still wait for the header. */
static void the_segment_that_a_mark_names_is_on_disk(void **state)
{
	struct bench *b = *state;

	append_synced(b, SMALL);
	assert_int_equal(checkpoint(b), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

/* The header of the segment that log_rotate turned to is in the page cache only; the next process
 * names that segment in its superblock. */
static void a_header_left_by_a_killed_process_is_made_durable(void **state)
{
	struct bench *b = *state, t;
	struct log_mark mark;

	append_synced(b, SMALL);
	assert_int_equal(log_rotate(b->log, &mark), 0);
	t = twin(b);
	assert_opens(&t);
	assert_int_equal(checkpoint(&t), 0);
	reboot(&t, SIM_LOSE, 0);
	assert_opens(&t);
	drop(&t);
}

/* The second of two checkpoints turns no more, before the first is done; then commits of before it
 * lie in the segment where replay begins. */
static void a_mark_amid_a_segment_covers_what_is_before_it(void **state)
{
	struct bench *b = *state, t;
	struct log_mark first;

	append_synced(b, SMALL);
	assert_int_equal(log_rotate(b->log, &first), 0);
	append_synced(b, SMALL);
	append(b, SMALL);
	assert_int_equal(log_rotate(b->log, &b->mark), 0);
	assert_int_equal(b->mark.segment, first.segment);
	assert_true(b->mark.revision > first.revision);
	b->at_mark = b->appended;
	append_synced(b, SMALL);
	t = twin(b);
	sim_reboot(t.disk, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 4);
	drop(&t);
	log_recycle(b->log, &b->mark);
	assert_int_equal(append_synced(b, LARGE), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
	assert_int_equal(b->found, 5);
}

static void checkpoints_that_fail_use_up_one_spare_at_most(void **state)
{
	struct bench *b = *state;
	struct log_mark mark;
	struct log_stats stats;

	assert_int_equal(log_prepare(b->log, LOG_SPARES), 0);
	for (int i = 0; i < 6; i++) {	/* a unit each: they all fit the second segment */
		assert_int_equal(append_synced(b, SMALL), 0);
		assert_int_equal(log_rotate(b->log, &mark), 0);
		assert_int_equal(log_wait_blocking(b->log, mark.revision, LOG_SYNCED), 0);
	}
	log_stats(b->log, &stats);
	assert_int_equal(mark.segment, 2);
	assert_true(stats.bytes_live <= 2 * SEGMENT_HEADER + 6 * UNIT);
	assert_int_equal(mark.files, 3);
	b->mark = mark;
	b->at_mark = b->appended;
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

/* The removal fails too. What is left behind is in the way of the next attempt, and must go. */
static void a_segment_that_could_be_neither_made_nor_removed_is_made_later(void **state)
{
	static const enum sim_kind kinds[] = { SIM_ALLOCATE, SIM_WRITE, SIM_SYNC, SIM_SYNC_DIR };
	(void)state;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct bench b = { .disk = sim_new(i), .cap = 6 * SEGMENT };

		assert_int_equal(create(&b), 0);
		for (int again = 0; again < 2; again++) {
			sim_fail(b.disk, kinds[i], 0, -EIO);
			sim_fail(b.disk, SIM_REMOVE, again ? 1 : 0, -EIO);
			assert_int_equal(log_prepare(b.log, LOG_SPARES), -EIO);
		}
		sim_fail(b.disk, SIM_REMOVE, 0, -EIO);
		assert_int_equal(log_prepare(b.log, LOG_SPARES), -EIO);
		assert_int_equal(log_prepare(b.log, LOG_SPARES), 0);
		for (int n = 0; n < 10; n++)
			assert_int_equal(append_synced(&b, LARGE), 0);
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
}

static void a_closed_log_is_not_searched(void **state)
{
	struct bench *b = *state;
	uint64_t reads;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	assert_int_equal(checkpoint(b), 0);
	assert_int_equal(checkpoint(b), 0);	/* there was no spare to turn to; now there is */
	b->mark.closed = true;
	shut(b);
	reads = sim_count(b->disk, SIM_READ);
	assert_opens(b);
	/* Listing the folder, size and header of each file, and what is right behind the mark. */
	assert_true(sim_count(b->disk, SIM_READ) - reads <= 2 * b->mark.files + 4);
	assert_int_equal(append_synced(b, SMALL), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);		/* with what was appended since the mark */
}

/* ---- threads --------------------------------------------------------------------------- */

enum { THREADS = 16, ROUNDS = 60 };

struct crowd {
	struct bench *b;
	pthread_mutex_t order;	/* batch numbers follow revisions */
	atomic_ullong acked;
	atomic_uint outstanding;
	atomic_bool over;	/* no more checkpoints are needed */
};

struct promise {
	struct log_waiter waiter;	/* first */
	struct crowd *crowd;
	uint64_t n;
};

static void raise_acked(struct crowd *c, uint64_t n)
{
	unsigned long long old = atomic_load(&c->acked);

	while (old < n && !atomic_compare_exchange_weak(&c->acked, &old, n))
		;
}

static void kept(struct log_waiter *w, int rc)
{
	struct promise *p = (struct promise *)w;

	if (rc == 0)
		raise_acked(p->crowd, p->n);
	atomic_fetch_sub(&p->crowd->outstanding, 1);
	free(p);
}

static void wait_somehow(struct crowd *c, uint64_t n, uint64_t revision, unsigned how)
{
	struct promise *p;

	if (how == 0) {
		log_wait_blocking(c->b->log, revision, LOG_WRITTEN);
	} else if (how == 1) {
		if (log_wait_blocking(c->b->log, revision, LOG_SYNCED) == 0)
			raise_acked(c, n);
	} else {
		p = malloc(sizeof(*p));
		*p = (struct promise){ { revision, LOG_SYNCED, kept, NULL }, c, n };
		atomic_fetch_add(&c->outstanding, 1);
		log_wait(c->b->log, &p->waiter);
	}
}

static void *member(void *arg)
{
	struct crowd *c = arg;
	int rc = 0;

	for (unsigned i = 0; i < ROUNDS && rc == 0;) {
		uint64_t revision, n;

		pthread_mutex_lock(&c->order);
		rc = append(c->b, SMALL + i * 17);
		revision = c->b->revision;
		n = c->b->appended;
		pthread_mutex_unlock(&c->order);
		if (rc == 0) {
			wait_somehow(c, n, revision, (unsigned)(n % 3));
			i++;
		} else if (rc == -EAGAIN || rc == -EIO) {
			sched_yield();		/* the checkpointer will make room */
			rc = 0;
		}
	}
	return (void *)(intptr_t)rc;
}

/* What fails without killing the log (a spare that cannot be made) is tried again. */
static void *checkpointer(void *arg)
{
	struct crowd *c = arg;
	struct log *log = c->b->log;

	while (!atomic_load(&c->over) && !*log_failure(log)) {
		struct log_mark mark;
		uint64_t n;
		int rc;

		pthread_mutex_lock(&c->order);
		rc = log_rotate(log, &mark);
		n = c->b->appended;
		pthread_mutex_unlock(&c->order);
		if (rc < 0 || log_wait_blocking(log, mark.revision, LOG_SYNCED) < 0)
			continue;
		c->b->mark = mark;
		c->b->at_mark = n;
		log_recycle(log, &mark);
		log_prepare(log, LOG_SPARES);
	}
	return NULL;
}

/* Sixteen threads append and wait in every way, and one makes checkpoints. Returns what the first
 * to fail was told. */
static int run_crowd(struct bench *b)
{
	struct crowd c = { .b = b, .order = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[THREADS], checkpoints;
	int rc = 0;

	assert_int_equal(pthread_create(&checkpoints, NULL, checkpointer, &c), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, member, &c), 0);
	for (int i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		if (result && !rc)
			rc = (int)(intptr_t)result;
	}
	atomic_store(&c.over, true);
	pthread_join(checkpoints, NULL);
	assert_int_equal(atomic_load(&c.outstanding), 0);
	b->acked = atomic_load(&c.acked);
	return rc;
}

static void sixteen_threads_lose_nothing(void **state)
{
	struct bench *b = *state;

	assert_int_equal(run_crowd(b), 0);
	assert_int_equal(b->appended, THREADS * ROUNDS);
	sim_cut_after(b->disk, 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

static void sixteen_threads_are_all_told_when_the_log_dies(void **state)
{
	unsigned died = 0;
	(void)state;

	for (int64_t n = 0; n < 24; n++) {
		const enum sim_kind kind = n % 2 ? SIM_SYNC : SIM_WRITE;
		struct bench b = { .disk = sim_new((uint64_t)n), .cap = 4 * SEGMENT };
		int rc;

		assert_int_equal(create(&b), 0);
		assert_int_equal(log_prepare(b.log, LOG_SPARES), 0);
		sim_fail(b.disk, kind, n, -EIO);
		rc = run_crowd(&b);
		if (*log_failure(b.log))	/* else the fault met a spare */
			assert_int_equal(rc, -EROFS);
		died += *log_failure(b.log) != '\0';
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
	assert_true(died > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(a_new_log_is_empty_and_opens_again),
		BENCH_TEST(what_was_appended_is_replayed_in_order),
		BENCH_TEST(revisions_leap_at_every_opening),
		BENCH_TEST(a_log_goes_on_through_many_openings_without_a_checkpoint),
		BENCH_TEST(written_batches_survive_a_killed_process_but_not_a_power_cut),
		BENCH_TEST(what_is_in_the_tail_is_written_with_the_next_sync),
		BENCH_TEST(a_tail_that_is_full_is_written_and_begun_anew),
		BENCH_TEST(small_groups_without_a_sync_share_a_unit),
		BENCH_TEST(a_batch_that_is_too_large_is_refused_and_the_largest_is_not),
		BENCH_TEST(whoever_comes_during_the_sync_that_covers_him_is_told_in_order),
		BENCH_TEST(what_is_appended_during_the_write_is_not_synced_by_it),
		BENCH_TEST(a_header_that_is_written_during_a_sync_is_not_synced_by_it),
		BENCH_TEST(a_header_that_is_being_synced_is_not_synced_yet),
		BENCH_TEST(a_callback_comes_at_once_for_what_is_safe_already),
		BENCH_TEST(a_full_segment_is_followed_by_the_next),
		BENCH_TEST(recycled_segments_bring_nothing_back),
		BENCH_TEST(at_the_cap_appends_ask_for_a_checkpoint_which_helps),
		BENCH_TEST(a_log_that_could_fill_the_disk_does_not_grow),
		BENCH_TEST(a_full_disk_refuses_appends_until_a_checkpoint),
		BENCH_TEST(prepared_segments_spare_appends_the_making),
		BENCH_TEST(a_checkpoint_of_nothing_new_writes_nothing),
		BENCH_TEST(the_segment_that_a_mark_names_is_on_disk),
		BENCH_TEST(a_header_left_by_a_killed_process_is_made_durable),
		BENCH_TEST(a_mark_amid_a_segment_covers_what_is_before_it),
		BENCH_TEST(checkpoints_that_fail_use_up_one_spare_at_most),
		cmocka_unit_test(a_segment_that_could_be_neither_made_nor_removed_is_made_later),
		BENCH_TEST(a_closed_log_is_not_searched),
		BENCH_TEST(sixteen_threads_lose_nothing),
		cmocka_unit_test(sixteen_threads_are_all_told_when_the_log_dies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
