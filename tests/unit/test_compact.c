/* A store gives its space back: when most of what was in it is gone, engine_compact makes the page
 * file about as long as that of a new store with the rest, and nothing is lost by that. Faults and
 * cuts meanwhile are in the stories (STEP_COMPACT); here it is cut at each of its changes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine.h"
#include "mem.h"
#include "sim/sweep.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

enum {
	KEEP = 10,		/* one key in so many is not deleted */
	SLACK = 4 << 20,	/* what a file may be longer than a new one, beside a quarter */
	BATCH = 50,
	PIECES = 2000,		/* more than any compaction here should need */
};

/* A kind of store. */
struct kind {
	uint32_t keys;
	uint32_t (*size_of)(uint32_t k);
	bool runs;
	uint64_t cache;
};

static uint32_t small_size(uint32_t k)
{
	return 40 + k * 31 % 700;
}

static uint32_t chunk_size(uint32_t k)
{
	(void)k;
	return 65536;
}

static uint32_t any_size(uint32_t k)
{
	return k % 3 ? 1 + k * 7919 % 100000 : 1 + k * 104729 % ENGINE_RUN_MAX;
}

static const struct kind small_values = { 40000, small_size, false, 0 };
static const struct kind small_memory = { 20000, small_size, false, 256 * 1024 };
static const struct kind chunks = { 500, chunk_size, true, 0 };
static const struct kind large_values = { 160, any_size, true, 128 * 1024 };

static struct engine *open_engine(struct sim *disk, const struct kind *kind)
{
	const struct engine_options options = {
		.create = true, .segment_size = 1 << 20, .log_cap = 8 << 20, .cache = kind->cache,
	};
	struct engine *e = NULL;
	struct err err;

	if (engine_open(sim_os(disk), "/store", &options, &e, &err) != 0)
		fail_msg("open: %s", err.text);
	return e;
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %06u", k));
}

static void fill(uint8_t *bytes, uint32_t stamp, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(stamp * 37 + i * 11 + (i >> 7));
}

static void commit(struct engine *e, struct batch *batch)
{
	uint64_t revision;

	if (batch->count)
		assert_int_equal(engine_commit(e, batch, true, &revision), 0);
	batch_clear(batch);
}

static void add(struct engine *e, struct batch *batch, const struct kind *kind, uint32_t k)
{
	static uint8_t bytes[ENGINE_RUN_MAX];
	struct ref run;
	char text[32];

	fill(bytes, k, kind->size_of(k));
	if (kind->runs) {
		assert_int_equal(engine_run_write(e, slice_of(bytes, kind->size_of(k)), &run), 0);
		batch_put_run(batch, key_of(text, k), &run, slice_str("beside"));
	} else {
		batch_put(batch, key_of(text, k), slice_of(bytes, kind->size_of(k)));
	}
	if (batch->count == BATCH)
		commit(e, batch);
}

/* Every key, or only those that are left in the end. */
static void fill_store(struct engine *e, const struct kind *kind, bool all)
{
	struct batch batch = { 0 };

	for (uint32_t k = 0; k < kind->keys; k++)
		if (all || k % KEEP == 0)
			add(e, &batch, kind, k);
	commit(e, &batch);
	assert_int_equal(engine_checkpoint(e), 0);
	batch_done(&batch);
}

static void delete_most(struct engine *e, const struct kind *kind)
{
	struct batch batch = { 0 };
	char text[32];

	for (uint32_t k = 0; k < kind->keys; k++) {
		if (k % KEEP == 0)
			continue;
		batch_delete(&batch, key_of(text, k));
		if (batch.count == BATCH)
			commit(e, &batch);
	}
	commit(e, &batch);
	batch_done(&batch);
}

static struct engine_stats stats_of(struct engine *e)
{
	struct engine_stats stats;

	assert_int_equal(engine_stats(e, &stats), 0);
	return stats;
}

/* As a background does when nothing happens, to the end. */
static unsigned idle(struct engine *e)
{
	bool more = true;
	unsigned pieces = 0;

	assert_int_equal(engine_checkpoint(e), 0);
	for (; more; pieces++) {
		assert_true(pieces < PIECES);
		assert_int_equal(engine_compact(e, &more), 0);
	}
	return pieces;
}

static void check_value(struct engine *e, const struct kind *kind, uint32_t k, struct slice value,
			const struct ref *run)
{
	static uint8_t bytes[ENGINE_RUN_MAX], wanted[ENGINE_RUN_MAX];
	const uint32_t size = kind->size_of(k);

	fill(wanted, k, size);
	if (kind->runs) {
		assert_int_equal(run->length, size);
		assert_int_equal(engine_run_read(e, run, bytes), 0);
		assert_memory_equal(bytes, wanted, size);
		assert_true(slice_equal(value, slice_str("beside")));
	} else {
		assert_true(slice_equal(value, slice_of(wanted, size)));
	}
}

/* Of the present, or of a moment in which nothing was deleted. */
static void check_content(struct engine *e, const struct kind *kind, struct engine_snapshot *moment)
{
	struct buffer value = { 0 };
	struct ref run;
	char text[32];

	for (uint32_t k = 0; k < kind->keys; k++) {
		const int rc = moment ? engine_snapshot_get(moment, key_of(text, k), &value, &run) :
					engine_get(e, key_of(text, k), &value, &run);

		assert_int_equal(rc, moment || k % KEEP == 0 ? 0 : -ENOENT);
		if (rc == 0)
			check_value(e, kind, k, buffer_slice(&value), &run);
	}
	buffer_done(&value);
}

static void verify(struct engine *e)
{
	struct err err;

	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("%s", err.text);
}

/* How long the file of a store with only the rest in it is. */
static uint64_t fresh_size(const struct kind *kind)
{
	struct sim *disk = sim_new(2);
	struct engine *e = open_engine(disk, kind);
	uint64_t size;

	fill_store(e, kind, false);
	size = stats_of(e).page_bytes;
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
	return size;
}

static void is_about_as_short_as_a_new_one(struct engine *e, const struct kind *kind)
{
	const uint64_t size = stats_of(e).page_bytes, fresh = fresh_size(kind);

	if (size > fresh / 4 * 5 + SLACK)
		fail_msg("%llu bytes, a new one has %llu", (unsigned long long)size,
			 (unsigned long long)fresh);
}

static struct engine *reopen(struct sim *disk, struct engine *e, const struct kind *kind)
{
	assert_int_equal(engine_close(e), 0);
	return open_engine(disk, kind);
}

/* ---- it becomes short ------------------------------------------------------------------- */

static void becomes_short(const struct kind *kind)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk, kind);
	struct engine_stats before, after;

	fill_store(e, kind, true);
	delete_most(e, kind);
	before = stats_of(e);
	idle(e);
	after = stats_of(e);
	print_message("%llu KiB -> %llu KiB (new: %llu), %llu KiB moved, %llu checkpoints, "
		      "log %llu KiB\n",
		      (unsigned long long)before.page_bytes / 1024,
		      (unsigned long long)after.page_bytes / 1024,
		      (unsigned long long)fresh_size(kind) / 1024,
		      (unsigned long long)after.moved_bytes / 1024,
		      (unsigned long long)(after.checkpoints - before.checkpoints),
		      (unsigned long long)(after.log.bytes_written - before.log.bytes_written) /
			      1024);
	assert_true(before.page_bytes > 3 * fresh_size(kind));
	is_about_as_short_as_a_new_one(e, kind);
	/* It moves no more than it gives back. */
	assert_true(after.moved_bytes <= before.page_bytes - after.page_bytes);
	check_content(e, kind, NULL);
	verify(e);
	e = reopen(disk, e, kind);
	check_content(e, kind, NULL);
	verify(e);
	is_about_as_short_as_a_new_one(e, kind);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void a_store_of_small_values_gives_its_space_back(void **state)
{
	(void)state;
	becomes_short(&small_values);
}

static void so_it_does_in_a_small_memory(void **state)
{
	(void)state;
	becomes_short(&small_memory);
}

static void a_store_of_chunks_gives_its_space_back(void **state)
{
	(void)state;
	becomes_short(&chunks);
}

static void a_store_of_values_of_any_size_gives_its_space_back(void **state)
{
	(void)state;
	becomes_short(&large_values);
}

/* ---- what stays where it is ------------------------------------------------------------- */

/* Most of it was deleted under a snapshot that is kept; *before is when it has come to rest. */
static struct engine *keep_and_delete(struct sim *disk, const struct kind *kind,
				      struct engine_stats *before)
{
	struct engine *e = open_engine(disk, kind);

	fill_store(e, kind, true);
	assert_int_equal(engine_snapshot_create(e, slice_str("all")), 0);
	delete_most(e, kind);
	idle(e);
	*before = stats_of(e);
	return e;
}

static void check_kept(struct engine *e, const struct kind *kind)
{
	struct engine_snapshot *moment;

	assert_int_equal(engine_snapshot_open_kept(e, slice_str("all"), &moment), 0);
	check_content(e, kind, moment);
	engine_snapshot_close(moment);
	check_content(e, kind, NULL);
	verify(e);
}

static void stays_while_it_is_kept(const struct kind *kind)
{
	struct sim *disk = sim_new(1);
	struct engine_stats before, after;
	struct engine *e = keep_and_delete(disk, kind, &before);

	check_kept(e, kind);
	assert_in_range(idle(e), 1, 2);		/* it does not try again */
	after = stats_of(e);
	assert_int_equal(after.moved_bytes, before.moved_bytes);
	e = reopen(disk, e, kind);
	idle(e);
	/* Nothing is moved that the snapshot has: that would cost space instead. */
	assert_in_range(stats_of(e).page_bytes, 0, before.page_bytes);
	check_kept(e, kind);
	assert_int_equal(engine_snapshot_delete(e, slice_str("all")), 0);
	idle(e);
	is_about_as_short_as_a_new_one(e, kind);
	check_content(e, kind, NULL);
	verify(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void what_a_kept_snapshot_has_stays_until_that_is_deleted(void **state)
{
	(void)state;
	stays_while_it_is_kept(&small_memory);
	stays_while_it_is_kept(&large_values);
}

static void what_an_open_one_has_stays_until_that_is_closed(void **state)
{
	const struct kind *kinds[] = { &small_memory, &large_values };
	(void)state;

	for (int i = 0; i < 2; i++) {
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk, kinds[i]);
		struct engine_snapshot *moment;

		fill_store(e, kinds[i], true);
		assert_int_equal(engine_snapshot_open(e, &moment), 0);
		delete_most(e, kinds[i]);
		idle(e);
		check_content(e, kinds[i], moment);
		assert_in_range(idle(e), 1, 2);
		engine_snapshot_close(moment);
		idle(e);
		is_about_as_short_as_a_new_one(e, kinds[i]);
		check_content(e, kinds[i], NULL);
		verify(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

/* What is left of a store is scattered, and a snapshot's: to move it would take
 * space, not give it. */
static void what_a_snapshot_has_is_not_doubled(void **state)
{
	const struct kind *kinds[] = { &small_memory, &large_values };
	(void)state;

	for (int i = 0; i < 4; i++) {
		const struct kind *kind = kinds[i % 2];
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk, kind);
		struct engine_snapshot *moment = NULL;
		struct engine_stats before, after;

		fill_store(e, kind, true);
		delete_most(e, kind);
		assert_int_equal(engine_checkpoint(e), 0);
		before = stats_of(e);
		if (i < 2)
			assert_int_equal(engine_snapshot_create(e, slice_str("rest")), 0);
		else
			assert_int_equal(engine_snapshot_open(e, &moment), 0);
		idle(e);
		after = stats_of(e);
		assert_int_equal(after.moved_bytes, 0);
		assert_in_range(idle(e), 1, 2);		/* and it is not tried again */
		assert_true(after.page_bytes - after.page_bytes_free <=
			    before.page_bytes - before.page_bytes_free + SLACK / 16);
		engine_snapshot_close(moment);
		if (i < 2)
			assert_int_equal(engine_snapshot_delete(e, slice_str("rest")), 0);
		idle(e);
		is_about_as_short_as_a_new_one(e, kind);
		check_content(e, kind, NULL);
		verify(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

/* Nor is it when the snapshot comes while the file is being made shorter. */
static void nor_if_it_is_made_between_two_pieces(void **state)
{
	(void)state;

	for (int i = 0; i < 2; i++) {
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk, &chunks);
		struct engine_snapshot *moment = NULL;
		struct engine_stats before;
		bool more = true;

		fill_store(e, &chunks, true);
		delete_most(e, &chunks);
		assert_int_equal(engine_checkpoint(e), 0);
		while (stats_of(e).moved_bytes == 0)
			assert_int_equal(engine_compact(e, &more), 0);
		assert_true(more);
		if (i == 0)
			assert_int_equal(engine_snapshot_create(e, slice_str("rest")), 0);
		else
			assert_int_equal(engine_snapshot_open(e, &moment), 0);
		before = stats_of(e);
		idle(e);
		assert_int_equal(stats_of(e).moved_bytes, before.moved_bytes);
		engine_snapshot_close(moment);
		if (i == 0)
			assert_int_equal(engine_snapshot_delete(e, slice_str("rest")), 0);
		idle(e);
		assert_true(stats_of(e).moved_bytes > before.moved_bytes);
		is_about_as_short_as_a_new_one(e, &chunks);
		check_content(e, &chunks, NULL);
		verify(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

/* ---- while others are at work ----------------------------------------------------------- */

static struct {
	struct sim *disk;
	struct os real;
	struct engine *engine;
	void (*meanwhile)(struct engine *e);
	unsigned reads;			/* after so many, once */
} hook;

static ssize_t hooked_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	const ssize_t rc = hook.real.read(file, bytes, size, offset);

	if (hook.meanwhile && size == 65536 && hook.reads-- == 0) {
		void (*meanwhile)(struct engine *e) = hook.meanwhile;

		hook.meanwhile = NULL;
		meanwhile(hook.engine);
	}
	return rc;
}

/* Every entry, so that it is also the one whose run is being read. */
static void patch_all(struct engine *e)
{
	struct batch batch = { 0 };
	char text[32];

	for (uint32_t k = 0; k < chunks.keys; k += KEEP)
		batch_patch(&batch, key_of(text, k), 6, slice_str("!"));
	commit(e, &batch);
	batch_done(&batch);
}

static void delete_all(struct engine *e)
{
	struct batch batch = { 0 };
	char text[32];

	for (uint32_t k = 0; k < chunks.keys; k += KEEP)
		batch_delete(&batch, key_of(text, k));
	commit(e, &batch);
	batch_done(&batch);
}

static uint64_t put_another(struct engine *e)
{
	struct batch batch = { 0 };
	uint64_t revision;

	batch_put(&batch, slice_str("another"), slice_str("value"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	batch_done(&batch);
	return revision;
}

static void only_put_another(struct engine *e)
{
	put_another(e);
}

static void put_another_and_cut(struct engine *e)
{
	assert_int_equal(engine_wait_blocking(e, put_another(e), LOG_SYNCED), 0);
	sim_cut_after(hook.disk, 0);
}

static struct engine *emptied_with(struct sim *disk, void (*meanwhile)(struct engine *e))
{
	struct engine *e;

	hook.disk = disk;
	hook.real = *sim_os(disk);
	sim_os(disk)->read = hooked_read;
	e = open_engine(disk, &chunks);
	fill_store(e, &chunks, true);
	delete_most(e, &chunks);
	hook.engine = e;
	hook.meanwhile = meanwhile;
	hook.reads = 3;
	return e;
}

static void an_entry_that_is_changed_while_its_run_moves_keeps_the_change(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = emptied_with(disk, patch_all);
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	(void)state;

	idle(e);
	assert_null(hook.meanwhile);
	is_about_as_short_as_a_new_one(e, &chunks);
	verify(e);
	for (uint32_t k = 0; k < chunks.keys; k += KEEP) {
		assert_int_equal(engine_get(e, key_of(text, k), &value, &run), 0);
		assert_true(slice_equal(buffer_slice(&value), slice_str("beside!")));
		check_value(e, &chunks, k, slice_str("beside"), &run);
	}
	buffer_done(&value);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void nor_does_one_that_is_deleted_come_back(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = emptied_with(disk, delete_all);
	(void)state;

	idle(e);
	assert_null(hook.meanwhile);
	assert_int_equal(stats_of(e).entries, 0);
	verify(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void it_ends_at_once_when_somebody_commits(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = emptied_with(disk, only_put_another);
	struct engine_stats before, after;
	bool more = true;
	(void)state;

	assert_int_equal(engine_checkpoint(e), 0);
	before = stats_of(e);
	while (hook.meanwhile)
		assert_int_equal(engine_compact(e, &more), 0);
	after = stats_of(e);
	/* Three were moved before, and that one may be. */
	assert_in_range(after.moved_bytes - before.moved_bytes, 0, 4 * 65536 + 10 * 16384);
	assert_true(more);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Somebody's commit is synced behind those of the moves: so must be the bytes that were moved. */
static void what_was_moved_is_on_disk_before_the_log_says_so(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = emptied_with(disk, put_another_and_cut);
	struct buffer value = { 0 };
	bool more = true;
	(void)state;

	assert_int_equal(engine_checkpoint(e), 0);
	while (more && engine_compact(e, &more) == 0)
		continue;
	assert_null(hook.meanwhile);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 1);
	e = open_engine(disk, &chunks);
	assert_int_equal(engine_get(e, slice_str("another"), &value, NULL), 0);
	check_content(e, &chunks, NULL);
	verify(e);
	buffer_done(&value);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static struct {
	bool kept;
	struct engine_snapshot *moment;	/* NULL: not open */
} snapshot;

static void make_snapshot(struct engine *e)
{
	if (snapshot.kept)
		assert_int_equal(engine_snapshot_create(e, slice_str("rest")), 0);
	else
		assert_int_equal(engine_snapshot_open(e, &snapshot.moment), 0);
}

static void has_the_rest(struct engine_snapshot *moment)
{
	struct buffer value = { 0 };
	struct ref run;
	char text[32];

	for (uint32_t k = 0; k < chunks.keys; k += KEEP) {
		assert_int_equal(engine_snapshot_get(moment, key_of(text, k), &value, &run), 0);
		check_value(hook.engine, &chunks, k, buffer_slice(&value), &run);
	}
	assert_int_equal(engine_snapshot_entries(moment), (chunks.keys + KEEP - 1) / KEEP);
	buffer_done(&value);
}

/* Some of the runs of a piece were moved before it, some behind it; and what it has is overwritten
 * and moved no more. */
static void a_snapshot_that_is_made_amid_a_piece_keeps_what_it_has(void **state)
{
	(void)state;

	for (int kept = 0; kept < 2; kept++) {
		struct sim *disk = sim_new(1);
		struct engine *e = emptied_with(disk, make_snapshot);
		struct engine_stats before;
		bool more = true;

		snapshot.kept = kept;
		assert_int_equal(engine_checkpoint(e), 0);
		while (hook.meanwhile)
			assert_int_equal(engine_compact(e, &more), 0);
		before = stats_of(e);
		verify(e);
		patch_all(e);
		idle(e);
		assert_int_equal(stats_of(e).moved_bytes, before.moved_bytes);
		if (kept) {
			e = hook.engine = reopen(disk, e, &chunks);
			assert_int_equal(engine_snapshot_open_kept(e, slice_str("rest"),
								   &snapshot.moment), 0);
		}
		has_the_rest(snapshot.moment);
		verify(e);
		engine_snapshot_close(snapshot.moment);
		snapshot.moment = NULL;
		if (kept)
			assert_int_equal(engine_snapshot_delete(e, slice_str("rest")), 0);
		idle(e);
		is_about_as_short_as_a_new_one(e, &chunks);
		verify(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

/* The log is full again and again, and each leaf has one run only. */
static void a_full_log_leaves_no_run_behind(void **state)
{
	enum { ENTRIES = 200, BESIDE = 20000 };
	const struct engine_options options = {
		.create = true, .segment_size = 64 * 1024, .log_cap = 256 * 1024,
	};
	static uint8_t bytes[65536];
	struct sim *disk = sim_new(1);
	struct batch batch = { 0 };
	struct engine *e;
	struct ref run;
	uint64_t full;
	char text[32];
	(void)state;

	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	for (uint32_t k = 0; k < ENTRIES; k++) {
		fill(bytes, k, sizeof(bytes));
		assert_int_equal(engine_run_write(e, slice_of(bytes, sizeof(bytes)), &run), 0);
		batch_put_run(&batch, key_of(text, k), &run, slice_of(bytes, BESIDE));
		commit(e, &batch);
	}
	assert_int_equal(engine_checkpoint(e), 0);
	full = stats_of(e).page_bytes;
	for (uint32_t k = 0; k < ENTRIES; k++) {
		if (k % 4)
			batch_delete(&batch, key_of(text, k));
		if (batch.count == BATCH)
			commit(e, &batch);
	}
	commit(e, &batch);
	idle(e);
	print_message("%llu KiB -> %llu KiB\n", (unsigned long long)full / 1024,
		      (unsigned long long)stats_of(e).page_bytes / 1024);
	assert_true(stats_of(e).page_bytes < full / 4 + SLACK);
	verify(e);
	batch_done(&batch);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* A background of its own does it, between the commits of somebody who is rarely there. */
static void the_background_does_it_when_nothing_happens(void **state)
{
	const struct engine_options options = {
		.create = true, .segment_size = 1 << 20, .log_cap = 8 << 20, .background = true,
		.commit_ns = 1000000,
	};
	const uint64_t enough = fresh_size(&chunks) / 4 * 5 + SLACK;
	struct sim *disk = sim_new(1);
	struct batch batch = { 0 };
	struct engine *e;
	(void)state;

	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	fill_store(e, &chunks, true);
	delete_most(e, &chunks);
	for (int i = 0; stats_of(e).page_bytes > enough; i++) {
		assert_true(i < 20000);
		batch_put(&batch, slice_str("now"), slice_of(&i, sizeof(i)));
		commit(e, &batch);
		usleep((useconds_t)(i * 7919 % 40000));
	}
	check_content(e, &chunks, NULL);
	verify(e);
	batch_done(&batch);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* ---- on a full disk --------------------------------------------------------------------- */

static void it_needs_no_room_that_a_full_disk_has_not(void **state)
{
	const struct kind *kinds[] = { &small_values, &large_values };
	(void)state;

	for (int i = 0; i < 2; i++) {
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk, kinds[i]);

		fill_store(e, kinds[i], true);
		sim_limit(disk, 1);		/* nothing can grow any more */
		delete_most(e, kinds[i]);
		idle(e);
		is_about_as_short_as_a_new_one(e, kinds[i]);
		check_content(e, kinds[i], NULL);
		verify(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

/* ---- crashes ---------------------------------------------------------------------------- */

static const struct kind few = { 60, any_size, true, 128 * 1024 };

/* Each change of the disk is the last one before the power goes; then it goes on. */
static void it_may_be_cut_at_any_moment(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk, &few);
	bool finished = false;
	unsigned cuts = 0;
	(void)state;

	fill_store(e, &few, true);
	delete_most(e, &few);
	assert_int_equal(engine_wait_blocking(e, engine_revision(e), LOG_SYNCED), 0);
	for (; !finished; cuts++) {
		struct sim *copy = sim_clone(disk);
		struct engine *c;
		bool more = true;
		int rc = 0;

		sim_reboot(copy, SIM_LOSE, cuts);
		c = open_engine(copy, &few);
		assert_int_equal(engine_checkpoint(c), 0);
		sim_cut_after(copy, cuts);
		while (rc == 0 && more)
			rc = engine_compact(c, &more);
		finished = rc == 0;
		sim_cut_after(copy, 0);
		engine_close(c);
		sim_reboot(copy, (enum sim_fate)(cuts % SIM_FATES), cuts);
		c = open_engine(copy, &few);
		check_content(c, &few, NULL);
		verify(c);
		idle(c);
		is_about_as_short_as_a_new_one(c, &few);
		check_content(c, &few, NULL);
		verify(c);
		assert_int_equal(engine_close(c), 0);
		sim_free(copy);
	}
	print_message("%u cuts\n", cuts);
	engine_close(e);
	sim_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_of_small_values_gives_its_space_back),
		cmocka_unit_test(so_it_does_in_a_small_memory),
		cmocka_unit_test(a_store_of_chunks_gives_its_space_back),
		cmocka_unit_test(a_store_of_values_of_any_size_gives_its_space_back),
		cmocka_unit_test(what_a_kept_snapshot_has_stays_until_that_is_deleted),
		cmocka_unit_test(what_an_open_one_has_stays_until_that_is_closed),
		cmocka_unit_test(what_a_snapshot_has_is_not_doubled),
		cmocka_unit_test(nor_if_it_is_made_between_two_pieces),
		cmocka_unit_test(the_background_does_it_when_nothing_happens),
		cmocka_unit_test(an_entry_that_is_changed_while_its_run_moves_keeps_the_change),
		cmocka_unit_test(nor_does_one_that_is_deleted_come_back),
		cmocka_unit_test(it_ends_at_once_when_somebody_commits),
		cmocka_unit_test(what_was_moved_is_on_disk_before_the_log_says_so),
		cmocka_unit_test(a_snapshot_that_is_made_amid_a_piece_keeps_what_it_has),
		cmocka_unit_test(a_full_log_leaves_no_run_behind),
		cmocka_unit_test(it_needs_no_room_that_a_full_disk_has_not),
		cmocka_unit_test(it_may_be_cut_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
