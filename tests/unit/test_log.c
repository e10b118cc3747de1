/* The log on the lying disk. What was waited for is there, what is there is a prefix of what
 * was appended, and damage is told from a torn tail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "log_frame.h"
#include "mem.h"
#include "sim/disk.h"

enum {
	SEGMENT = 8 * UNIT,
	SMALL = 60,
	LARGE = 5000,		/* five of them fill a segment */
	BATCH_MAX = 3 * SEGMENT,
	LEAP = 1000,
};

static const uint8_t STORE[STORE_ID_SIZE] = "a store";

/* A log on a disk, and what is known of it. Batches are numbered from 1, in their contents. */
struct bench {
	struct sim *disk;
	struct os *os;
	struct os_dir *dir;
	struct log *log;
	struct log_mark mark;	/* as a superblock would have it */
	struct err err;
	uint64_t cap;
	uint64_t at_mark;	/* the last batch that the mark covers */
	uint64_t appended;	/* the last batch that was appended, or found */
	uint64_t acked;		/* the last one that is known to be synced */
	uint64_t found;		/* the last one that was replayed */
	uint64_t revision;	/* of the last one appended or found */
	uint64_t missing_from;	/* `check` says that these batches rely on what is not there; 0: none */
	uint64_t checked;	/* how many it was asked about */
	bool torn;
	int rc;			/* of the last log_open */
};

/* ---- vocabulary ------------------------------------------------------------------------ */

static struct log_options options_of(const struct bench *b)
{
	struct log_options o = { .segment_size = SEGMENT, .cap = b->cap };

	memcpy(o.store, STORE, sizeof(STORE));
	return o;
}

static uint8_t pattern(uint64_t n, size_t i)
{
	return (uint8_t)(n * 31 + i * 7);
}

static struct slice batch_of(uint64_t n, size_t size)
{
	static _Thread_local uint8_t bytes[BATCH_MAX];

	assert_true(size >= BATCH_HEADER + 8 && size <= sizeof(bytes));
	put32(bytes, (uint32_t)(size - BATCH_HEADER));
	put64(bytes + BATCH_HEADER, n);
	for (size_t i = BATCH_HEADER + 8; i < size; i++)
		bytes[i] = pattern(n, i);
	return slice_of(bytes, size);
}

static int check(void *arg, struct slice batch)
{
	struct bench *b = arg;

	b->checked++;
	assert_true(batch.size >= BATCH_HEADER + 8);
	return b->missing_from && get64((const uint8_t *)batch.data + BATCH_HEADER) >= b->missing_from ?
		-ENODATA : 0;
}

/* Every batch must be the one after the last, and as it was appended. */
static int apply(void *arg, uint64_t revision, struct slice batch)
{
	struct bench *b = arg;
	const uint8_t *bytes = batch.data;
	const uint64_t n = get64(bytes + BATCH_HEADER);

	assert_int_equal(n, b->found + 1);
	assert_true(revision > b->revision);
	for (size_t i = BATCH_HEADER + 8; i < batch.size; i++)
		assert_int_equal(bytes[i], pattern(n, i));
	b->found = n;
	b->revision = revision;
	return 0;
}

static int reopen(struct bench *b)
{
	const struct log_options options = options_of(b);
	const struct log_reader reader = { check, apply, b };

	b->found = b->at_mark;
	b->revision = b->mark.revision;
	b->checked = 0;
	b->err.text[0] = '\0';
	b->rc = b->os->open_dir(b->os, "/store", 0, &b->dir);
	if (b->rc == 0)
		b->rc = log_open(b->os, b->dir, &options, &b->mark, LEAP, &reader, &b->log, &b->torn,
				 &b->err);
	return b->rc;
}

static int shut(struct bench *b)
{
	const int rc = log_close(b->log);

	b->log = NULL;
	if (b->dir)
		b->os->close_dir(b->dir);
	b->dir = NULL;
	return rc;
}

static int create(struct bench *b)
{
	const struct log_options options = options_of(b);
	int rc;

	b->os = sim_os(b->disk);
	rc = b->os->open_dir(b->os, "/store", OS_CREATE, &b->dir);
	return rc ? rc : log_create(b->os, b->dir, &options, &b->mark, &b->log, &b->err);
}

/* A second disk in the same state, with no log open on it. */
static struct bench twin(struct bench *b)
{
	struct bench t = *b;

	t.disk = sim_clone(b->disk);
	t.os = sim_os(t.disk);
	t.log = NULL;
	t.dir = NULL;
	return t;
}

static void drop(struct bench *b)
{
	shut(b);
	sim_free(b->disk);
}

static int append(struct bench *b, size_t size)
{
	const int rc = log_append(b->log, batch_of(b->appended + 1, size), &b->revision);

	if (rc == 0)
		b->appended++;
	return rc;
}

static int sync_all(struct bench *b)
{
	const uint64_t n = b->appended;
	const int rc = log_wait_blocking(b->log, b->revision, LOG_SYNCED);

	if (rc == 0)
		b->acked = n;
	return rc;
}

static int append_synced(struct bench *b, size_t size)
{
	const int rc = append(b, size);

	return rc ? rc : sync_all(b);
}

static int append_written(struct bench *b, size_t size)
{
	const int rc = append(b, size);

	return rc ? rc : log_wait_blocking(b->log, b->revision, LOG_WRITTEN);
}

/* A checkpoint, with a superblock that is durable at once. */
static int checkpoint(struct bench *b)
{
	struct log_mark mark;
	int rc = log_rotate(b->log, &mark);

	if (rc == 0)
		rc = log_wait_blocking(b->log, mark.revision, LOG_SYNCED);
	if (rc < 0)
		return rc;
	b->acked = b->at_mark = b->appended;
	b->mark = mark;
	log_recycle(b->log, &mark);
	return 0;
}

/* As the engine does it: if the log is full, a checkpoint makes room. */
static int insist(struct bench *b, size_t size)
{
	int rc = append(b, size);

	if (rc != -EAGAIN)
		return rc;
	rc = checkpoint(b);
	return rc ? rc : append(b, size);
}

static void reboot(struct bench *b, enum sim_fate fate, uint64_t seed)
{
	shut(b);
	sim_reboot(b->disk, fate, seed);
}

/* All that was acknowledged was found, and nothing that never was appended. */
static void assert_history(const struct bench *b)
{
	assert_in_range(b->found, b->acked, b->appended);
}

/* The log opens and holds a good history; it is then where `appended` goes on. */
static void assert_opens(struct bench *b)
{
	if (reopen(b) != 0)
		fail_msg("log_open: %d: %s", b->rc, b->err.text);
	assert_history(b);
	b->appended = b->acked = b->found;
	b->revision = log_revision(b->log);
}

static int setup(void **state)
{
	struct bench *b = test_calloc(1, sizeof(*b));

	b->disk = sim_new(1);
	b->cap = 4 * SEGMENT;
	assert_int_equal(create(b), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	drop(b);
	test_free(b);
	return 0;
}

/* ---- history --------------------------------------------------------------------------- */

static void a_new_log_is_empty_and_opens_again(void **state)
{
	struct bench *b = *state;

	assert_int_equal(log_revision(b->log), 0);
	assert_int_equal(shut(b), 0);
	assert_opens(b);
	assert_int_equal(b->found, 0);
	assert_false(b->torn);
	assert_int_equal(log_revision(b->log), 0);
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

static void revisions_leap_after_an_opening_that_found_something(void **state)
{
	struct bench *b = *state;

	append(b, SMALL);
	shut(b);
	reopen(b);
	assert_int_equal(append(b, SMALL), 0);
	assert_int_equal(b->revision, 1 + LEAP + 1);
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
	const struct log_reader reader = { check, apply, b };

	shut(b);
	options.before_sync = before_sync_asks_for_more;
	options.arg = b;
	assert_int_equal(b->os->open_dir(b->os, "/store", 0, &b->dir), 0);
	assert_int_equal(log_open(b->os, b->dir, &options, &b->mark, 0, &reader, &b->log, NULL, NULL),
			 0);
	told_count = 0;
	append(b, SMALL);
	log_wait(b->log, &first.waiter);
	assert_int_equal(first.order, 1);
	assert_int_equal(told_count, 4);
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
		assert_int_equal(log_prepare(b->log), -EAGAIN);
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
	assert_int_equal(log_prepare(b->log), -ENOSPC);
	assert_string_equal(log_failure(b->log), "");
	assert_int_equal(checkpoint(b), 0);
	assert_int_equal(append_synced(b, LARGE), 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

static void prepared_segments_spare_appends_the_making(void **state)
{
	struct bench *b = *state;
	uint64_t made;

	assert_int_equal(log_prepare(b->log), 0);
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

/* ---- torn or damaged ------------------------------------------------------------------- */

/* What log_open says when a byte of one file is flipped. */
static struct bench flipped(struct bench *b, const char *name, uint64_t offset)
{
	struct bench t = twin(b);

	assert_int_equal(sim_flip(t.disk, name, offset, 0x10), 0);
	reopen(&t);
	return t;
}

static void a_torn_group_ends_the_log(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	append_written(b, SMALL);
	append_written(b, SMALL);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 2 * UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, 0);
	assert_int_equal(t.found, 2);
	assert_true(t.torn);
	t.appended = t.acked = t.found;
	assert_int_equal(append_synced(&t, SMALL), 0);	/* where the cut ones were */
	reboot(&t, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 3);
	drop(&t);
}

static void damage_before_a_synced_group_is_refused_by_name_and_offset(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 4; i++)
		append_synced(b, SMALL);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + UNIT + GROUP_HEADER + 8);
	assert_int_equal(t.rc, -EUCLEAN);
	assert_non_null(strstr(t.err.text, "log.00000000: damaged at byte 8192"));
	drop(&t);
}

static void damage_at_the_end_of_a_segment_is_proved_by_the_next(void **state)
{
	struct bench *b = *state, t;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	t = flipped(b, "log.00000000", SEGMENT_HEADER + 4 * UNIT + 100);
	assert_int_equal(t.rc, -EUCLEAN);
	assert_non_null(strstr(t.err.text, "log.00000000: damaged at byte 20480"));
	drop(&t);
	t = flipped(b, "log.00000001", 3);	/* without its header, too */
	assert_int_equal(t.rc, -EUCLEAN);
	drop(&t);
}

static void a_missing_segment_is_refused(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 7; i++)
		append_synced(b, LARGE);
	assert_int_equal(b->os->remove(b->dir, "log.00000000"), 0);
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_non_null(strstr(b->err.text, "segment 1 of the log"));
}

static void a_segment_of_another_store_is_refused(void **state)
{
	struct bench *b = *state;
	struct segment_header header = { .store = "another", .sequence = 9, .number = 9 };
	uint8_t bytes[SEGMENT_HEADER];
	struct os_file *file;

	shut(b);
	segment_encode(&header, bytes);
	b->os->open_dir(b->os, "/store", 0, &b->dir);
	assert_int_equal(b->os->open(b->dir, "log.00000007", OS_CREATE, &file), 0);
	b->os->write(file, bytes, sizeof(bytes), 0);
	b->os->close(file);
	b->os->close_dir(b->dir);
	assert_int_equal(reopen(b), -EUCLEAN);
	assert_string_equal(b->err.text, "log.00000007: belongs to another store");
}

static void a_segment_cut_short_is_refused_and_a_half_made_one_is_removed(void **state)
{
	struct bench *b = *state;
	struct os_file *file;

	append_synced(b, SMALL);
	assert_int_equal(b->os->open(b->dir, "log.00000009", OS_CREATE, &file), 0);
	assert_int_equal(b->os->write(file, "", 1, 777), 0);
	b->os->close(file);
	shut(b);
	assert_opens(b);
	assert_int_equal(b->os->open(b->dir, "log.00000009", 0, &file), -ENOENT);
	assert_int_equal(b->os->open(b->dir, "log.00000000", 0, &file), 0);
	assert_int_equal(b->os->truncate(file, 3 * UNIT + 5), 0);
	b->os->close(file);
	shut(b);
	assert_int_equal(reopen(b), -EUCLEAN);
}

static void what_relies_on_missing_pages_is_cut_off_unless_it_was_synced(void **state)
{
	struct bench *b = *state, t;

	append_synced(b, SMALL);
	append_synced(b, SMALL);
	append_written(b, SMALL);	/* says that 2 was synced */
	append_written(b, SMALL);
	t = twin(b);
	t.missing_from = 4;
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.checked, 2);
	assert_int_equal(t.found, 3);
	assert_true(t.torn);
	t.appended = t.found;
	t.missing_from = 0;
	assert_int_equal(append_synced(&t, SMALL), 0);
	reboot(&t, SIM_LOSE, 0);
	assert_opens(&t);
	assert_int_equal(t.found, 4);
	drop(&t);
	t = twin(b);
	t.missing_from = 1;
	assert_int_equal(reopen(&t), 0);
	assert_int_equal(t.found, 2);
	drop(&t);
}

/* Every byte of every file of a small log, flipped once. The last sync is all that nothing later
 * vouches for. */
static void no_flipped_byte_goes_unnoticed(void **state)
{
	struct bench *b = *state;
	char name[16];
	unsigned refused = 0, cut = 0;

	for (int i = 0; i < 5; i++)
		assert_int_equal(append_synced(b, i == 2 ? LARGE : SMALL), 0);
	assert_int_equal(append_synced(b, LARGE), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append_synced(b, SMALL), 0);
	for (unsigned file = 0; file < 3; file++) {
		snprintf(name, sizeof(name), "log.%08u", file);
		for (uint64_t offset = 0; offset < SEGMENT; offset++) {
			struct bench t = twin(b);

			if (sim_flip(t.disk, name, offset, (uint8_t)(1u << offset % 8)) != 0)
				offset = SEGMENT;
			reopen(&t);
			if (t.rc == 0)
				assert_in_range(t.found, b->acked - 1, b->appended);
			else
				assert_int_equal(t.rc, -EUCLEAN);
			refused += t.rc != 0;
			cut += t.rc == 0 && t.found < b->acked;
			drop(&t);
		}
	}
	assert_true(refused > 2 * LARGE && cut >= SMALL);
}

/* ---- power cuts ------------------------------------------------------------------------ */

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
			rc = log_wait_blocking(b->log, b->revision, LOG_WRITTEN);
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

static void cut_everywhere(bool wide, uint64_t seeds)
{
	bool finished = false;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = { .disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT };

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
	cut_everywhere(false, 4);
}

static void no_power_cut_among_many_segments_does_either(void **state)
{
	(void)state;
	cut_everywhere(true, 4);
}

/* The process is killed at every operation, and then the power goes after the next one opened. */
static void no_kill_loses_what_was_written(void **state)
{
	bool finished = false;
	(void)state;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = { .disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT };
		uint64_t found;

		assert_int_equal(create(&b), 0);
		sim_cut_after(b.disk, cut);
		finished = story(&b, true) == 0;
		assert_true(finished || sim_is_cut(b.disk));
		shut(&b);
		sim_revive(b.disk, (uint64_t)cut);
		assert_opens(&b);
		found = b.found;
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		assert_int_equal(b.found, found);
		drop(&b);
	}
}

static void a_creation_that_was_cut_off_can_be_done_again(void **state)
{
	bool finished = false;
	(void)state;

	for (int64_t cut = 0; !finished; cut++) {
		struct bench b = { .disk = sim_new((uint64_t)cut), .cap = 4 * SEGMENT };

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
			assert_int_equal(log_prepare(b.log), -EROFS);
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

static void after_a_failed_sync_the_log_is_dead(void **state)
{
	(void)state;
	fail_everywhere(SIM_SYNC, -EIO);
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

/* ---- threads --------------------------------------------------------------------------- */

enum { THREADS = 16, ROUNDS = 60 };

struct crowd {
	struct bench *b;
	pthread_mutex_t order;	/* batch numbers follow revisions */
	atomic_ullong acked;
	atomic_uint outstanding;
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

	for (unsigned i = 0; i < ROUNDS && rc == 0; i++) {
		uint64_t revision, n;

		pthread_mutex_lock(&c->order);
		rc = append(c->b, SMALL + i * 17);
		revision = c->b->revision;
		n = c->b->appended;
		pthread_mutex_unlock(&c->order);
		if (rc == 0)
			wait_somehow(c, n, revision, (unsigned)(n % 3));
	}
	return (void *)(intptr_t)rc;
}

/* Sixteen threads append and wait in every way. Returns what the first to fail was told. */
static int run_crowd(struct bench *b)
{
	struct crowd c = { .b = b, .order = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[THREADS];
	int rc = 0;

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, member, &c), 0);
	for (int i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		if (result && !rc)
			rc = (int)(intptr_t)result;
	}
	assert_int_equal(atomic_load(&c.outstanding), 0);
	b->acked = atomic_load(&c.acked);
	return rc;
}

static void sixteen_threads_lose_nothing(void **state)
{
	struct bench *b = *state;

	b->cap = 1000 * SEGMENT;
	shut(b);
	assert_opens(b);
	assert_int_equal(run_crowd(b), 0);
	assert_int_equal(b->appended, THREADS * ROUNDS);
	sim_cut_after(b->disk, 0);
	reboot(b, SIM_LOSE, 0);
	assert_opens(b);
}

static void sixteen_threads_are_all_told_when_the_log_dies(void **state)
{
	(void)state;

	for (int64_t n = 0; n < 12; n++) {
		const enum sim_kind kind = n % 2 ? SIM_SYNC : SIM_WRITE;
		struct bench b = { .disk = sim_new((uint64_t)n), .cap = 4 * SEGMENT };

		assert_int_equal(create(&b), 0);
		assert_int_equal(log_prepare(b.log), 0);
		sim_fail(b.disk, kind, n, -EIO);
		assert_int_equal(run_crowd(&b), -EROFS);
		reboot(&b, SIM_LOSE, 0);
		assert_opens(&b);
		drop(&b);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_log_is_empty_and_opens_again),
		TEST(what_was_appended_is_replayed_in_order),
		TEST(revisions_leap_after_an_opening_that_found_something),
		TEST(a_log_goes_on_through_many_openings_without_a_checkpoint),
		TEST(written_batches_survive_a_killed_process_but_not_a_power_cut),
		TEST(small_groups_without_a_sync_share_a_unit),
		TEST(a_batch_that_is_too_large_is_refused_and_the_largest_is_not),
		TEST(whoever_comes_during_the_sync_that_covers_him_is_told_in_order),
		TEST(a_callback_comes_at_once_for_what_is_safe_already),
		TEST(a_full_segment_is_followed_by_the_next),
		TEST(recycled_segments_bring_nothing_back),
		TEST(at_the_cap_appends_ask_for_a_checkpoint_which_helps),
		TEST(a_full_disk_refuses_appends_until_a_checkpoint),
		TEST(prepared_segments_spare_appends_the_making),
		TEST(a_checkpoint_of_nothing_new_writes_nothing),
		TEST(the_segment_that_a_mark_names_is_on_disk),
		TEST(a_header_left_by_a_killed_process_is_made_durable),
		TEST(a_torn_group_ends_the_log),
		TEST(damage_before_a_synced_group_is_refused_by_name_and_offset),
		TEST(damage_at_the_end_of_a_segment_is_proved_by_the_next),
		TEST(a_missing_segment_is_refused),
		TEST(a_segment_of_another_store_is_refused),
		TEST(a_segment_cut_short_is_refused_and_a_half_made_one_is_removed),
		TEST(what_relies_on_missing_pages_is_cut_off_unless_it_was_synced),
		TEST(no_flipped_byte_goes_unnoticed),
		cmocka_unit_test(no_power_cut_loses_what_was_waited_for),
		cmocka_unit_test(no_power_cut_among_many_segments_does_either),
		cmocka_unit_test(no_kill_loses_what_was_written),
		cmocka_unit_test(a_creation_that_was_cut_off_can_be_done_again),
		cmocka_unit_test(after_a_failed_write_the_log_is_dead),
		cmocka_unit_test(after_a_failed_sync_the_log_is_dead),
		cmocka_unit_test(no_other_fault_makes_it_lie),
		TEST(a_dead_log_says_why),
		TEST(an_opening_that_could_not_read_changes_nothing),
		cmocka_unit_test(no_failed_allocation_does_harm),
		TEST(sixteen_threads_lose_nothing),
		cmocka_unit_test(sixteen_threads_are_all_told_when_the_log_dies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
