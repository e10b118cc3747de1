/* Snapshots against a model that remembers everything: moments are opened, kept, dropped and closed
 * in any order, and each must go on showing what was there then. SEED=n changes everything. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"
#include "mem.h"
#include "sim/disk.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

enum {
	KEYS = 300,
	MOMENTS = 12,
	RUN_MAX = 30000,
};

/* Key k has the value made of stamps[k]; 0: there is none. */
struct moment {
	struct engine_snapshot *open;
	uint32_t stamps[KEYS];
	uint64_t revision;
};

/* A moment that has a name on disk. */
struct named {
	bool there;
	struct moment m;
};

struct bench {
	struct sim *disk;
	struct engine *engine;
	struct moment now, moments[MOMENTS];
	struct named named[MOMENTS];
	uint32_t stamp;
	uint64_t seed;
};

static uint32_t pick(struct bench *b, uint32_t below)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return (uint32_t)(b->seed >> 20) % below;
}

static void open_engine(struct bench *b)
{
	/* A cache of a few nodes: everything is read again and again. */
	const struct engine_options options = {
		.create = true, .segment_size = 256 * 1024, .log_cap = 1 << 20, .cache = 128 * 1024,
	};
	struct err err;

	if (engine_open(sim_os(b->disk), "/store", &options, &b->engine, &err) != 0)
		fail_msg("open: %s", err.text);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	const char *seed = getenv("SEED");

	b->seed = seed ? strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u + 1 : 20261121;
	b->disk = sim_new(1);
	open_engine(b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	assert_int_equal(engine_close(b->engine), 0);
	sim_free(b->disk);
	free(b);
	return 0;
}

static bool has_run(uint32_t stamp)
{
	return stamp % 7 == 0;
}

static uint32_t size_of(uint32_t stamp)
{
	if (has_run(stamp))
		return 1 + stamp * 7919 % RUN_MAX;
	return stamp % 31 == 0 ? 20000 + stamp * 104729 % 60000 : stamp * 31 % 900;
}

static void fill(uint8_t *bytes, uint32_t stamp)
{
	for (uint32_t i = 0; i < size_of(stamp); i++)
		bytes[i] = (uint8_t)(stamp * 37 + i * 11 + (i >> 7));
}

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %06u", k));
}

/* One commit of a few puts and deletes. */
static void commit(struct bench *b)
{
	static uint8_t bytes[ENGINE_VALUE_MAX];
	struct batch batch = { 0 };
	struct ref run;
	char text[32];

	for (uint32_t n = 1 + pick(b, 6); n > 0; n--) {
		const uint32_t k = pick(b, KEYS), stamp = ++b->stamp;

		if (pick(b, 4) == 0) {
			b->now.stamps[k] = 0;
			batch_delete(&batch, key_of(text, k));
			continue;
		}
		b->now.stamps[k] = stamp;
		fill(bytes, stamp);
		if (has_run(stamp)) {
			assert_int_equal(
				engine_run_write(b->engine, slice_of(bytes, size_of(stamp)), &run),
				0);
			batch_put_run(&batch, key_of(text, k), &run, slice_str("run"));
		} else {
			batch_put(&batch, key_of(text, k), slice_of(bytes, size_of(stamp)));
		}
	}
	assert_int_equal(engine_commit(b->engine, &batch, false, &b->now.revision), 0);
	batch_done(&batch);
}

static void check_value(struct bench *b, uint32_t stamp, struct slice value, const struct ref *run)
{
	static uint8_t bytes[RUN_MAX], wanted[ENGINE_VALUE_MAX];

	fill(wanted, stamp);
	if (!has_run(stamp)) {
		assert_true(slice_equal(value, slice_of(wanted, size_of(stamp))));
		return;
	}
	assert_int_equal(run->length, size_of(stamp));
	assert_int_equal(engine_run_read(b->engine, run, bytes), 0);
	assert_memory_equal(bytes, wanted, run->length);
}

static void check_key(struct bench *b, const struct moment *m, uint32_t k)
{
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	const int rc = m->open ? engine_snapshot_get(m->open, key_of(text, k), &value, &run) :
				 engine_get(b->engine, key_of(text, k), &value, &run);

	assert_int_equal(rc, m->stamps[k] ? 0 : -ENOENT);
	if (rc == 0)
		check_value(b, m->stamps[k], buffer_slice(&value), &run);
	buffer_done(&value);
}

struct scanned {
	const struct moment *m;
	uint32_t next;
};

static int scan_one(void *arg, const struct engine_entry *entry)
{
	struct scanned *s = arg;
	char text[32];

	while (s->next < KEYS && !s->m->stamps[s->next])
		s->next++;
	assert_true(s->next < KEYS);
	assert_true(slice_equal(entry->key, key_of(text, s->next)));
	if (!has_run(s->m->stamps[s->next]))
		assert_int_equal(entry->value.size, size_of(s->m->stamps[s->next]));
	s->next++;
	return 0;
}

static void check_all(struct bench *b, const struct moment *m)
{
	struct scanned s = { m, 0 };
	uint32_t entries = 0;

	for (uint32_t k = 0; k < KEYS; k++) {
		check_key(b, m, k);
		entries += m->stamps[k] != 0;
	}
	assert_int_equal(m->open ? engine_snapshot_scan(m->open, slice_str("key"), scan_one, &s) :
				   engine_scan(b->engine, slice_str("key"), scan_one, &s), 0);
	while (s.next < KEYS && !m->stamps[s.next])
		s.next++;
	assert_int_equal(s.next, KEYS);
	if (m->open) {
		assert_int_equal(engine_snapshot_entries(m->open), entries);
		assert_int_equal(engine_snapshot_revision(m->open), m->revision);
	}
}

static void open_moment(struct bench *b, struct moment *m)
{
	*m = b->now;
	assert_int_equal(engine_snapshot_open(b->engine, &m->open), 0);
}

static void close_moment(struct moment *m)
{
	engine_snapshot_close(m->open);
	m->open = NULL;
}

static void verify(struct bench *b)
{
	struct err err;

	if (engine_verify(b->engine, NULL, NULL, &err) != 0)
		fail_msg("%s", err.text);
}

static uint64_t held(struct bench *b)
{
	struct engine_stats stats;

	assert_int_equal(engine_stats(b->engine, &stats), 0);
	return stats.page_bytes_held;
}

/* ---- readers ---------------------------------------------------------------------------- */

static void a_reader_sees_its_moment_whatever_is_committed_later(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 2000; i++) {
		struct moment *m = &b->moments[pick(b, MOMENTS)];

		commit(b);
		if (pick(b, 10) == 0 && !m->open)
			open_moment(b, m);
		else if (pick(b, 14) == 0 && m->open)
			close_moment(m);
		if (m->open)
			check_key(b, m, pick(b, KEYS));
		if (pick(b, 40) == 0)
			assert_int_equal(engine_checkpoint(b->engine), 0);
		if (pick(b, 100) == 0) {
			check_all(b, m->open ? m : &b->now);
			verify(b);
		}
	}
	for (uint32_t i = 0; i < MOMENTS; i++)
		close_moment(&b->moments[i]);
	assert_int_equal(held(b), 0);
	verify(b);
	check_all(b, &b->now);
}

static void what_readers_held_is_free_when_the_last_one_closes(void **state)
{
	struct bench *b = *state;
	uint64_t before;

	for (int i = 0; i < 100; i++)
		commit(b);
	assert_int_equal(engine_checkpoint(b->engine), 0);
	open_moment(b, &b->moments[0]);
	for (int i = 0; i < 100; i++)
		commit(b);
	open_moment(b, &b->moments[1]);
	for (int i = 0; i < 100; i++)
		commit(b);
	assert_int_equal(engine_checkpoint(b->engine), 0);
	before = held(b);
	assert_true(before > 0);
	close_moment(&b->moments[1]);
	assert_true(held(b) > 0 && held(b) < before);
	check_all(b, &b->moments[0]);
	close_moment(&b->moments[0]);
	assert_int_equal(held(b), 0);
}

static void a_reader_in_memory_only_dies_with_the_process(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 100; i++)
		commit(b);
	open_moment(b, &b->moments[0]);
	for (int i = 0; i < 100; i++)
		commit(b);
	assert_int_equal(engine_checkpoint(b->engine), 0);
	assert_int_equal(engine_wait_blocking(b->engine, b->now.revision, LOG_SYNCED), 0);
	sim_cut_after(b->disk, 0);
	close_moment(&b->moments[0]);
	engine_close(b->engine);
	sim_reboot(b->disk, SIM_LOSE, 1);
	open_engine(b);
	check_all(b, &b->now);
	verify(b);
}

/* A run may be older than the moment that its first commit missed, and after a crash its bytes say
 * that they are younger than they can be. */
static void a_run_is_born_when_a_commit_names_it(void **state)
{
	struct bench *b = *state;
	struct batch batch = { 0 };
	struct ref run;

	for (int i = 0; i < 20; i++) {	/* generations that no superblock will have seen */
		open_moment(b, &b->moments[0]);
		close_moment(&b->moments[0]);
	}
	assert_int_equal(engine_run_write(b->engine, slice_of("bytes of a run", 14), &run), 0);
	batch_put_run(&batch, slice_str("a run"), &run, slice_str("run"));
	assert_int_equal(engine_commit(b->engine, &batch, false, &b->now.revision), 0);
	assert_int_equal(engine_wait_blocking(b->engine, b->now.revision, LOG_SYNCED), 0);
	sim_cut_after(b->disk, 0);
	engine_close(b->engine);
	sim_reboot(b->disk, SIM_LOSE, 1);
	open_engine(b);
	assert_int_equal(engine_snapshot_create(b->engine, slice_str("kept")), 0);
	batch_clear(&batch);
	batch_delete(&batch, slice_str("a run"));
	assert_int_equal(engine_commit(b->engine, &batch, false, &b->now.revision), 0);
	batch_done(&batch);
	verify(b);
	for (int i = 0; i < 50; i++)
		commit(b);
	verify(b);
}

static void a_reader_that_looks_at_everything_takes_no_more_memory_than_the_cache(void **state)
{
	struct bench *b = *state;
	struct engine_stats stats;

	for (int i = 0; i < 2000; i++)
		commit(b);
	open_moment(b, &b->moments[0]);
	for (int i = 0; i < 2000; i++) {
		commit(b);
		if (i % 100 == 0)
			assert_int_equal(engine_checkpoint(b->engine), 0);
	}
	assert_int_equal(engine_checkpoint(b->engine), 0);
	for (int i = 0; i < 3; i++) {
		check_all(b, &b->moments[0]);
		check_all(b, &b->now);
	}
	assert_int_equal(engine_stats(b->engine, &stats), 0);
	/* The cache, and what one step of the clock's hand cannot see. */
	assert_true(stats.memory < 128 * 1024 + 512 * 1024);
	close_moment(&b->moments[0]);
}

/* ---- kept ones -------------------------------------------------------------------------- */

static struct slice name_of(char *text, uint32_t i)
{
	return slice_of(text, (size_t)sprintf(text, "moment %u", i));
}

static void create(struct bench *b, uint32_t i)
{
	char text[32];

	assert_int_equal(engine_snapshot_create(b->engine, name_of(text, i)), 0);
	b->named[i] = (struct named){ true, b->now };
}

static void drop(struct bench *b, uint32_t i)
{
	char text[32];

	assert_int_equal(engine_snapshot_delete(b->engine, name_of(text, i)), 0);
	b->named[i].there = false;
}

static void open_named(struct bench *b, struct moment *m, uint32_t i)
{
	char text[32];

	*m = b->named[i].m;
	assert_int_equal(engine_snapshot_open_kept(b->engine, name_of(text, i), &m->open), 0);
}

static void check_named(struct bench *b, uint32_t i)
{
	struct moment m;

	open_named(b, &m, i);
	check_all(b, &m);
	close_moment(&m);
}

struct listed {
	struct bench *b;
	uint32_t count;
	uint64_t revision;
};

static int list_one(void *arg, const struct engine_kept *kept)
{
	struct listed *l = arg;
	uint32_t i, entries = 0;
	char text[32];

	for (i = 0; i < MOMENTS; i++)
		if (slice_equal(kept->name, name_of(text, i)))
			break;
	assert_true(i < MOMENTS && l->b->named[i].there);
	for (uint32_t k = 0; k < KEYS; k++)
		entries += l->b->named[i].m.stamps[k] != 0;
	assert_int_equal(kept->revision, l->b->named[i].m.revision);
	assert_int_equal(kept->entries, entries);
	assert_true(kept->revision >= l->revision);
	l->revision = kept->revision;
	l->count++;
	return 0;
}

static void list_is_right(struct bench *b)
{
	struct listed l = { .b = b };
	uint32_t there = 0;

	for (uint32_t i = 0; i < MOMENTS; i++)
		there += b->named[i].there;
	assert_int_equal(engine_snapshot_list(b->engine, list_one, &l), 0);
	assert_int_equal(l.count, there);
}

static void reopen(struct bench *b)
{
	for (uint32_t i = 0; i < MOMENTS; i++)
		close_moment(&b->moments[i]);
	assert_int_equal(engine_close(b->engine), 0);
	open_engine(b);
	b->now.revision = engine_revision(b->engine);	/* they leap */
}

static uint64_t used(struct bench *b)
{
	struct engine_stats stats;

	/* What died is free behind the next superblock, and what a dropped one
	 * needed behind that. */
	for (int i = 0; i < 3; i++) {
		commit(b);
		assert_int_equal(engine_checkpoint(b->engine), 0);
	}
	assert_int_equal(engine_stats(b->engine, &stats), 0);
	return stats.page_bytes - stats.page_bytes_free;
}

/* What verify walks, trees and all, is the brute force that the lists of the dead
 * must agree with. */
static void many_come_and_go_in_any_order(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 3000; i++) {
		const uint32_t n = pick(b, MOMENTS);
		struct moment *m = &b->moments[pick(b, MOMENTS)];

		if (pick(b, 3))
			commit(b);
		switch (pick(b, 24)) {
		case 0:
		case 1:
			if (!b->named[n].there)
				create(b, n);
			break;
		case 2:
			if (b->named[n].there)
				drop(b, n);
			break;
		case 3:
			if (!m->open && b->named[n].there)
				open_named(b, m, n);
			else if (!m->open)
				open_moment(b, m);
			break;
		case 4:
		case 5:
			close_moment(m);
			break;
		case 6:
			assert_int_equal(engine_checkpoint(b->engine), 0);
			break;
		case 7:
			if (pick(b, 8) == 0)
				reopen(b);
			break;
		}
		if (m->open)
			check_key(b, m, pick(b, KEYS));
		if (pick(b, 30) == 0)
			verify(b);
		if (pick(b, 60) == 0) {
			if (b->named[n].there)
				check_named(b, n);
			check_all(b, m->open ? m : &b->now);
			list_is_right(b);
		}
	}
	for (uint32_t i = 0; i < MOMENTS; i++)
		if (b->named[i].there)
			drop(b, i);
	reopen(b);
	verify(b);
	list_is_right(b);
}

static void space_comes_back_when_the_last_one_that_needs_it_goes(void **state)
{
	struct bench *b = *state;
	uint64_t alone, all;

	for (int i = 0; i < 300; i++)
		commit(b);
	alone = used(b);
	for (uint32_t n = 0; n < 6; n++) {
		create(b, n);
		for (int i = 0; i < 200; i++)
			commit(b);
	}
	all = used(b);
	assert_true(all > 3 * alone);
	drop(b, 2);
	drop(b, 3);
	assert_true(used(b) < all);
	for (uint32_t n = 0; n < 6; n++)
		if (b->named[n].there)
			check_named(b, n);
	drop(b, 0);
	drop(b, 5);
	drop(b, 4);
	drop(b, 1);
	assert_true(used(b) < all * 2 / 3);
	verify(b);
}

static void one_that_is_read_can_be_dropped(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 200; i++)
		commit(b);
	create(b, 0);
	open_named(b, &b->moments[0], 0);
	for (int i = 0; i < 200; i++)
		commit(b);
	drop(b, 0);
	for (int i = 0; i < 200; i++)
		commit(b);
	assert_int_equal(engine_checkpoint(b->engine), 0);
	check_all(b, &b->moments[0]);
	assert_true(held(b) > 0);
	close_moment(&b->moments[0]);
	assert_int_equal(held(b), 0);
	verify(b);
}

static void names_are_checked(void **state)
{
	struct bench *b = *state;
	struct engine_snapshot *s;
	char text[SNAPSHOT_NAME_MAX + 1];
	const struct slice longest = slice_of(text, SNAPSHOT_NAME_MAX);

	memset(text, 'n', sizeof(text));
	create(b, 0);
	assert_int_equal(engine_snapshot_create(b->engine, name_of(text, 0)), -EEXIST);
	assert_int_equal(engine_snapshot_create(b->engine, slice_of("", 0)), -EINVAL);
	memset(text, 'n', sizeof(text));
	assert_int_equal(engine_snapshot_create(b->engine, slice_of(text, sizeof(text))), -EINVAL);
	assert_int_equal(engine_snapshot_delete(b->engine, longest), -ENOENT);
	assert_int_equal(engine_snapshot_open_kept(b->engine, longest, &s), -ENOENT);
	assert_int_equal(engine_snapshot_create(b->engine, longest), 0);
	assert_int_equal(engine_snapshot_open_kept(b->engine, longest, &s), 0);
	engine_snapshot_close(s);
	assert_int_equal(engine_snapshot_delete(b->engine, longest), 0);
	assert_int_equal(engine_snapshot_delete(b->engine, longest), -ENOENT);
	reopen(b);
	list_is_right(b);
}

static void there_may_be_a_thousand(void **state)
{
	struct bench *b = *state;
	char text[32];

	for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
		if (i % 16 == 0)
			commit(b);
		assert_int_equal(engine_snapshot_create(b->engine, name_of(text, i)), 0);
	}
	assert_int_equal(engine_snapshot_create(b->engine, slice_str("one more")), -EMLINK);
	verify(b);
	reopen(b);
	for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++)
		assert_int_equal(
			engine_snapshot_delete(b->engine, name_of(text, i * 7 % SNAPSHOTS_MAX)), 0);
	reopen(b);
	list_is_right(b);
	verify(b);
}

static uint64_t bytes_in_use(struct bench *b)
{
	struct engine_stats stats;

	assert_int_equal(engine_stats(b->engine, &stats), 0);
	return stats.page_bytes - stats.page_bytes_free;
}

/* The blocks of the list itself, for one thing. */
static void what_comes_and_goes_beside_a_kept_one_leaves_nothing(void **state)
{
	struct bench *b = *state;
	uint64_t before = 0;
	char text[32];

	for (int i = 0; i < 20; i++)
		commit(b);
	assert_int_equal(engine_snapshot_create(b->engine, name_of(text, 0)), 0);
	for (int i = 0; i < 120; i++) {
		assert_int_equal(engine_snapshot_create(b->engine, name_of(text, 1)), 0);
		assert_int_equal(engine_snapshot_delete(b->engine, name_of(text, 1)), 0);
		assert_int_equal(engine_checkpoint(b->engine), 0);
		if (i == 20)
			before = bytes_in_use(b);
	}
	assert_in_range(bytes_in_use(b), 0, before + 8 * UNIT);
	verify(b);
}

/* ---- all at once ------------------------------------------------------------------------ */

struct crowd {
	struct bench *b;
	atomic_bool stop;
	atomic_uint failures;
};

/* Every commit of the writer sets all keys of a range to the same stamp: a moment has one only. */
enum { CROWD_KEYS = 40 };

static int same_stamp(void *arg, const struct engine_entry *entry)
{
	uint32_t *stamp = arg;
	const uint32_t found = get32(entry->value.data);

	if (*stamp && found != *stamp)
		return 1;
	*stamp = found;
	return 0;
}

static void *read_moments(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop)) {
		struct engine_snapshot *s;
		uint32_t stamp = 0;

		if (engine_snapshot_open(c->b->engine, &s) != 0) {
			atomic_fetch_add(&c->failures, 1);
			continue;
		}
		for (int i = 0; i < 3; i++)
			if (engine_snapshot_scan(s, slice_str("crowd"), same_stamp, &stamp) != 0)
				atomic_fetch_add(&c->failures, 1);
		engine_snapshot_close(s);
	}
	return NULL;
}

static void *checkpoints(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop))
		if (engine_checkpoint(c->b->engine) != 0)
			atomic_fetch_add(&c->failures, 1);
	return NULL;
}

static void write_crowd(struct bench *b, uint32_t stamp)
{
	uint8_t bytes[2000] = { 0 };
	struct batch batch = { 0 };
	uint64_t revision;
	char text[32];

	put32(bytes, stamp);
	for (uint32_t k = 0; k < CROWD_KEYS; k++)
		batch_put(&batch, slice_of(text, (size_t)sprintf(text, "crowd %u", k)),
			  slice_of(bytes, sizeof(bytes)));
	assert_int_equal(engine_commit(b->engine, &batch, false, &revision), 0);
	batch_done(&batch);
}

static void readers_writers_and_checkpoints_do_not_disturb_each_other(void **state)
{
	struct crowd c = { .b = *state };
	pthread_t threads[4];

	write_crowd(c.b, 1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, i ? read_moments : checkpoints, &c), 0);
	for (uint32_t stamp = 2; stamp < 400; stamp++)
		write_crowd(c.b, stamp);
	atomic_store(&c.stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&c.failures), 0);
	assert_int_equal(held(c.b), 0);
	verify(c.b);
}

int main(void)
{
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		STORY(a_reader_sees_its_moment_whatever_is_committed_later),
		STORY(what_readers_held_is_free_when_the_last_one_closes),
		STORY(a_reader_in_memory_only_dies_with_the_process),
		STORY(a_run_is_born_when_a_commit_names_it),
		STORY(a_reader_that_looks_at_everything_takes_no_more_memory_than_the_cache),
		STORY(many_come_and_go_in_any_order),
		STORY(space_comes_back_when_the_last_one_that_needs_it_goes),
		STORY(one_that_is_read_can_be_dropped),
		STORY(names_are_checked),
		STORY(what_comes_and_goes_beside_a_kept_one_leaves_nothing),
		STORY(there_may_be_a_thousand),
		STORY(readers_writers_and_checkpoints_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
