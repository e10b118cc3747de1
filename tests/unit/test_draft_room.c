/* What values need and give back: memory, batches, room on the disk, and chunks nobody holds. */
#include <pthread.h>
#include <stdatomic.h>

#include "draft_impl.h"
#include "draft_kit.h"

/* ---- what a batch takes ---------------------------------------------------------------------- */

/* A batch has room for few pieces here, so that what does not fit into one is soon met. */
static void kit_begin_narrow(struct kit *k)
{
	kit_begin(k);
	assert_int_equal(store_close(k->store), 0);
	k->options.segment_size = 256 * KIB;
	sim_free(k->disk);
	k->disk = sim_new(2);
	sim_set_now(k->disk, 1700000000ull * 1000000000);
	kit_mount(k);
}

static void a_cut_too_large_for_a_batch_is_finished_behind_it(void **state)
{
	struct draft *d;
	uint64_t few;
	struct kit k;
	(void)state;

	kit_begin_narrow(&k);
	put_pattern(&k, 70000, 1, 70000);
	few = entries(&k);
	d = draft_of(&k, KEY);
	for (uint64_t chunk = 2; chunk < 3000; chunk += 300)
		write_at(d, chunk * CHUNK, "x", 1);
	write_at(d, 100000ull * CHUNK, "x", 1);
	publish(&k, d, KEY);
	assert_in_range(entries(&k), few + 11, few + 13);

	assert_int_equal(draft_truncate(d, 70000), 0);
	assert_int_equal(draft_write(d, 200000, slice_of("x", 1)), -EFBIG);
	assert_int_equal(draft_truncate(d, 200000), -EFBIG);
	assert_int_equal(draft_truncate(d, 69000), 0);
	publish(&k, d, KEY);
	assert_true(published(&k, 69000, 1));
	reclaim_all(&k);
	assert_int_equal(entries(&k), few);
	write_at(d, 200000, "x", 1);
	publish(&k, d, KEY);
	draft_close(d);
	kit_end(&k);
}

static void more_changes_in_place_than_a_batch_takes_are_refused(void **state)
{
	struct draft *d;
	struct kit k;
	uint64_t n = 0;
	int rc = 0;
	(void)state;

	kit_begin_narrow(&k);
	put_pattern(&k, 70000, 1, 70000);
	d = draft_of(&k, KEY);
	while (rc == 0 && n < 100000)
		rc = draft_write(d, n++ * 2 * CHUNK, slice_of("x", 1));
	assert_int_equal(rc, -EFBIG);
	publish(&k, d, KEY);
	assert_int_equal(draft_write(d, n * 2 * CHUNK, slice_of("x", 1)), 0);
	publish(&k, d, KEY);
	draft_close(d);
	kit_end(&k);
}

/* ---- large values and memory ----------------------------------------------------------------- */

static void a_value_larger_than_memory_is_written_within_the_bound(void **state)
{
	const size_t step = 128 * KIB, total = 64u << 20;
	uint8_t *bytes = pattern(step, 1), *got = malloc(step);
	struct draft *d;
	size_t most = 0;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(store_close(k.store), 0);
	k.options.draft_memory = 256 * KIB;
	kit_mount(&k);
	create(&k, KEY);
	d = draft_of(&k, KEY);
	for (size_t i = 0; i < total; i += step) {
		bytes[0] = (uint8_t)(i / step);
		write_at(d, i + 100, bytes, step);
		most = d->staged.memory > most ? d->staged.memory : most;
	}
	assert_in_range(most, 1, 256 * KIB);
	publish(&k, d, KEY);
	for (size_t i = 0; i < total; i += step) {
		bytes[0] = (uint8_t)(i / step);
		assert_int_equal(store_read(k.store, KEY, i + 100, got, step), step);
		assert_memory_equal(got, bytes, step);
	}
	draft_close(d);
	free(bytes);
	free(got);
	kit_end(&k);
}

/* One byte in each of many chunks: pieces spill, and, in a new value, move into the tree. */
static void scatter(struct draft *d, uint64_t chunks, size_t bound)
{
	for (uint64_t i = 0; i < chunks; i++) {
		const uint64_t chunk = i * 7919 % chunks;
		const uint8_t byte = (uint8_t)(chunk % 251 + 1);

		write_at(d, chunk * CHUNK + chunk % 1000, &byte, 1);
		assert_in_range(d->staged.memory, 0, bound);
		assert_in_range(d->staged.count, 1, 5000);
	}
}

static void scattered_is_seen(struct kit *k, struct draft *d, uint64_t chunks)
{
	uint8_t got[2];

	for (uint64_t chunk = 0; chunk < chunks; chunk++) {
		const uint64_t offset = chunk * CHUNK + chunk % 1000;
		const ssize_t n = d ? draft_read(d, offset, got, 2) :
				      store_read(k->store, KEY, offset, got, 2);

		assert_int_equal(n, chunk == chunks - 1 ? 1 : 2);
		assert_int_equal(got[0], chunk % 251 + 1);
		assert_true(n == 1 || got[1] == 0);
	}
}

static void a_value_under_way_moves_into_the_tree_and_is_whole_at_once(void **state)
{
	enum { CHUNKS = 9000 };
	struct draft *d;
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 100000, 1, 100000);
	before = entries(&k);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_truncate(d, 0), 0);
	scatter(d, CHUNKS, 4 << 20);
	assert_true(entries(&k) > before + 4000);
	assert_true(published(&k, 100000, 1));
	scattered_is_seen(&k, d, CHUNKS);
	kit_is_clean(&k);
	assert_int_equal(store_reclaim(k.store, 100), 0);
	publish(&k, d, KEY);
	scattered_is_seen(&k, NULL, CHUNKS);
	draft_close(d);
	reclaim_all(&k);
	scattered_is_seen(&k, NULL, CHUNKS);

	d = draft_of(&k, KEY);	/* cut while under way: nothing of what was cut comes back */
	assert_int_equal(draft_truncate(d, 0), 0);
	scatter(d, CHUNKS, 4 << 20);
	assert_int_equal(draft_truncate(d, 3 * CHUNK), 0);
	assert_int_equal(draft_truncate(d, (uint64_t)CHUNKS * CHUNK), 0);
	publish(&k, d, KEY);
	for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
		uint8_t byte;

		assert_int_equal(draft_read(d, chunk * CHUNK + chunk % 1000, &byte, 1), 1);
		assert_int_equal(byte, chunk < 3 ? chunk % 251 + 1 : 0);
	}
	draft_close(d);
	kit_end(&k);
}

static void a_value_under_way_leaves_nothing_behind(void **state)
{
	enum { CHUNKS = 6000 };
	struct draft *d;
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 100000, 1, 100000);
	before = entries(&k);
	for (int how = 0; how < 3; how++) {
		d = draft_of(&k, KEY);
		assert_int_equal(draft_truncate(d, 0), 0);
		scatter(d, CHUNKS, 4 << 20);
		if (how == 0)
			assert_int_equal(draft_truncate(d, 0), 0);
		if (how == 1) {
			assert_int_equal(store_sync(k.store), 0);
			sim_cut_after(k.disk, 0);
		}
		draft_close(d);
		if (how == 1)
			kit_crash(&k, SIM_LOSE);
		assert_true(entries(&k) > before + 3000);
		reclaim_all(&k);
		assert_int_equal(entries(&k), before);
		assert_true(published(&k, 100000, 1));
	}
	kit_end(&k);
}

/* ---- holding and giving back ----------------------------------------------------------------- */

static void a_draft_reads_on_after_its_entry_is_gone(void **state)
{
	static const size_t sizes[] = { 100, 70000, 1000000 };
	(void)state;

	for (int how = 0; how < 3; how++) {
		for (size_t i = 0; i < 3; i++) {
			uint8_t *want = pattern(sizes[i], 1);
			struct draft *d;
			uint64_t before;
			struct kit k;

			kit_begin(&k);
			before = entries(&k);
			put_pattern(&k, sizes[i], 1, sizes[i]);
			put(&k, at(1, "other"), "other");
			d = draft_of(&k, KEY);
			if (how == 0)
				assert_int_equal(removed(&k, KEY, 0), 0);
			else if (how == 1)
				assert_int_equal(renamed(&k, at(1, "other"), KEY, 0), 0);
			else
				put(&k, KEY, "new");
			reclaim_all(&k);
			assert_true(same(&k, d, want, sizes[i]));
			write_at(d, 10, "more", 4);
			memcpy(want + 10, "more", 4);
			assert_true(same(&k, d, want, sizes[i]));
			if (how < 2)
				assert_int_equal(draft_publish(d, KEY, NULL, &k.revision), -ENOENT);
			draft_close(d);
			reclaim_all(&k);
			assert_int_equal(entries(&k), before + (how == 2 ? 2 : 1));
			free(want);
			kit_end(&k);
		}
	}
}

static void an_expired_value_can_be_read_through_a_draft(void **state)
{
	struct draft *d;
	uint8_t *want = pattern(70000, 1);
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 70000, 1, 70000);
	assert_int_equal(set_expires(&k, KEY, store_now_ms(k.store) + 1), 0);
	sim_advance(k.disk, 1000000);
	assert_false(there(&k, KEY));
	d = draft_of(&k, KEY);
	assert_true(same(&k, d, want, 70000));
	write_at(d, 0, "x", 1);
	assert_int_equal(draft_publish(d, KEY, NULL, &k.revision), -ENOENT);
	draft_close(d);
	free(want);
	kit_end(&k);
}

static void a_huge_value_is_removed_in_one_step_and_given_back_in_many(void **state)
{
	enum { CHUNKS = 2500 };
	struct draft *d;
	uint64_t before;
	struct kit k;
	int given = 0, rc;
	(void)state;

	kit_begin(&k);
	before = entries(&k);
	create(&k, KEY);
	d = draft_of(&k, KEY);
	scatter(d, CHUNKS, 4 << 20);
	publish(&k, d, KEY);
	draft_close(d);
	assert_int_equal(removed(&k, KEY, 0), 0);
	kit_sync(&k);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(entries(&k), before + CHUNKS + 1);
	while ((rc = store_reclaim(k.store, 1000)) > 0) {
		assert_in_range(rc, 1, 1000);
		given += rc;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(given, CHUNKS);
	assert_int_equal(entries(&k), before);
	kit_end(&k);
}

static void the_reclaimer_needs_no_asking(void **state)
{
	struct draft *d;
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(store_close(k.store), 0);
	k.options.background = true;
	kit_mount(&k);
	before = entries(&k);
	put_pattern(&k, 3 << 20, 1, 1 << 20);
	d = draft_of(&k, KEY);
	assert_int_equal(removed(&k, KEY, 0), 0);
	assert_true(entries(&k) >= before + 48);
	draft_close(d);
	while (entries(&k) != before)
		sched_yield();
	kit_end(&k);
}

/* ---- room on the disk ------------------------------------------------------------------------ */

static void a_full_disk_refuses_the_writer_and_keeps_what_was_published(void **state)
{
	uint8_t *bytes = pattern(1 << 20, 3);
	struct draft *d;
	int rc = 0;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 4 << 20, 1, 1 << 20);
	kit_sync(&k);
	assert_int_equal(store_checkpoint(k.store), 0);
	sim_limit(k.disk, 64u << 20);
	create(&k, at(1, "big"));
	d = draft_of(&k, at(1, "big"));
	for (uint64_t i = 0; rc == 0 && i < 200; i++) {
		rc = draft_write(d, i << 20, slice_of(bytes, 1 << 20));
		if (rc == 0)
			rc = draft_publish(d, at(1, "big"), NULL, &k.revision);
	}
	assert_int_equal(rc, -ENOSPC);
	draft_close(d);
	assert_true(published(&k, 4 << 20, 1));
	assert_int_equal(removed(&k, at(1, "big"), 0), 0);
	reclaim_all(&k);
	assert_int_equal(store_checkpoint(k.store), 0);
	put_pattern(&k, 8 << 20, 2, 1 << 20);
	assert_true(published(&k, 8 << 20, 2));
	free(bytes);
	kit_end(&k);
}

/* A store on a small disk. */
static void begin_small(struct kit *k, uint64_t limit)
{
	*k = (struct kit){
		.disk = sim_new(1),
		.options = { .create = true, .segment_size = 512 * KIB,
			     .log_cap = 1536 * KIB },
	};
	sim_limit(k->disk, limit);
	kit_mount(k);
}

static struct place numbered(char *name, unsigned i)
{
	sprintf(name, "k%05u", i);
	return at(1, name);
}

/* Publishes a value of `size` bytes, written at once, in chunks that are not whole if `size` is no
 * multiple of theirs. */
static int try_publish(struct kit *k, struct place place, size_t size, unsigned value)
{
	uint8_t *bytes = pattern(size, value);
	struct draft *d;
	int rc = make(k, place, S_IFREG | 0644, true, NULL);

	if (rc == 0 || rc == -EEXIST) {
		d = draft_of(k, place);
		rc = draft_truncate(d, 0);
		if (rc == 0)
			rc = draft_write(d, 0, slice_of(bytes, size));
		if (rc == 0)
			rc = draft_publish(d, place, NULL, &k->revision);
		draft_close(d);
	}
	free(bytes);
	return rc;
}

static bool holds_pattern(struct kit *k, struct place place, size_t size, unsigned value)
{
	uint8_t *want = pattern(size, value), *got = malloc(size + 1);
	const bool ok = store_read(k->store, place, 0, got, size + 1) == (ssize_t)size &&
			memcmp(got, want, size) == 0;

	free(want);
	free(got);
	return ok;
}

static uint64_t room(struct kit *k)
{
	struct engine_stats stats;

	assert_int_equal(store_stats(k->store, &stats), 0);
	return stats.room_bytes;
}

/* Free space lies in single quads, where neither whole chunks nor records of more than 16 KiB fit
 * in a row; as long as room is promised values of any size fit all the same, and
 * can be changed. */
static void a_scattered_disk_takes_values_of_any_size(void **state)
{
	static const size_t sizes[] = { 64000, 40000, 17000, 300000, 50000, 65536, 34000, 100 };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), SMALL = 12000 };
	unsigned count = 0, i, large = 0;
	char name[16];
	struct kit k;
	(void)state;

	begin_small(&k, 24 << 20);
	while (try_publish(&k, numbered(name, count), SMALL, count) == 0)
		count++;
	for (i = 1; i < count; i += 2)
		assert_int_equal(removed(&k, numbered(name, i), 0), 0);
	while (room(&k) > 700000) {
		const size_t size = sizes[large % SIZES];

		assert_int_equal(try_publish(&k, numbered(name, 50000 + large), size, large), 0);
		if (size > 20000) {	/* the last chunk, which may lie in its record, grows */
			struct draft *d = draft_of(&k, numbered(name, 50000 + large));
			uint8_t *bytes = pattern(size + 500, large);

			write_at(d, size, bytes + size, 500);
			publish(&k, d, numbered(name, 50000 + large));
			draft_close(d);
			free(bytes);
		}
		large++;
	}
	assert_true(large > 20);
	kit_reopen(&k);
	for (i = 0; i < count; i += 2)
		assert_true(holds_pattern(&k, numbered(name, i), SMALL, i));
	for (i = 0; i < large; i++) {
		const size_t size = sizes[i % SIZES];

		assert_true(holds_pattern(&k, numbered(name, 50000 + i),
					  size + (size > 20000) * 500, i));
	}
	kit_end(&k);
}

/* Nobody but the writer is there to do it, and nothing is done twice. */
static void what_was_removed_is_room_for_who_comes_next(void **state)
{
	const size_t size = 4 << 20;
	unsigned count = 0;
	char name[16];
	struct kit k;
	(void)state;

	begin_small(&k, 12 << 20);
	assert_int_equal(try_publish(&k, KEY, size, 1), 0);
	while (try_publish(&k, numbered(name, count), 100000, count) == 0)
		count++;
	for (unsigned i = 0; i < 5; i++) {
		const uint64_t before = room(&k);

		assert_int_equal(removed(&k, KEY, 0), 0);
		assert_true(room(&k) >= before + size / 8 * 7);
		assert_int_equal(try_publish(&k, KEY, size, i), 0);
		assert_true(holds_pattern(&k, KEY, size, i));
		assert_true(room(&k) < size / 8);
	}
	kit_end(&k);
}

/* Puts values until one is refused; how many bytes they were. */
static uint64_t put_all(struct kit *k, const char *letter, size_t size)
{
	uint64_t put = 0;
	char name[16];
	int rc = 0;

	for (unsigned i = 0; rc == 0; i++, put += rc == 0 ? size : 0) {
		snprintf(name, sizeof(name), "%s%u", letter, i);
		rc = try_publish(k, at(1, name), size, i);
	}
	assert_int_equal(rc, -ENOSPC);
	return put;
}

static void what_is_promised_can_be_put(void **state)
{
	static const size_t sizes[] = { 16384, 20000, 32768, 40000, 65536, 100000, 1 << 20 };
	(void)state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t promised, put;
		struct kit k;

		begin_small(&k, 32 << 20);
		promised = room(&k);
		put = put_all(&k, "v", sizes[i]);
		if (put < promised / 100 * 97 || put > promised / 100 * 110)
			fail_msg("of %llu bytes promised %llu could be put, in values of %zu",
				 (unsigned long long)promised, (unsigned long long)put, sizes[i]);
		kit_end(&k);
	}
}

/* Of leaves that have shared quads, or are half empty now. */
static void what_small_values_leave_is_promised_at_once(void **state)
{
	enum { SMALL = 6000 };
	static const size_t sizes[] = { 100, 600, 3000 };
	char name[16];
	(void)state;

	for (unsigned i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t promised, put;
		struct kit k;

		begin_small(&k, 32 << 20);
		for (unsigned n = 0; n < SMALL; n++)
			assert_int_equal(try_publish(&k, numbered(name, n * 4999 % SMALL),
						     sizes[i / 2], n), 0);
		(void)put_all(&k, "v", 65536);
		for (unsigned n = 0; n < SMALL; n += 1 + i % 2)
			assert_int_equal(removed(&k, numbered(name, n), 0), 0);
		kit_sync(&k);
		promised = room(&k);
		put = put_all(&k, "w", 65536);
		if (put + 65536 < promised || put > promised / 10 * 11 + (1 << 20))
			fail_msg("of %llu bytes promised %llu could be put, after values of %zu",
				 (unsigned long long)promised, (unsigned long long)put,
				 sizes[i / 2]);
		kit_end(&k);
	}
}

/* ---- a thread that gives back ---------------------------------------------------------------- */

struct race {
	struct kit *kit;
	atomic_bool done;
};

static void *reclaimer(void *arg)
{
	struct race *r = arg;

	while (!atomic_load(&r->done))
		store_reclaim(r->kit->store, 1 << 20);
	return NULL;
}

/* A value under way is doomed until it is published. The reclaimer sees that, is busy with another
 * one for a while, and when it comes back the value is published and nobody holds it. */
static void a_value_published_under_the_eyes_of_the_reclaimer_stays(void **state)
{
	enum { CHUNKS = 1100 };
	struct race r = { .done = false };
	struct draft *d, *other;
	pthread_t thread;
	struct kit k;
	(void)state;

	kit_begin_narrow(&k);
	r.kit = &k;
	create(&k, KEY);
	assert_int_equal(pthread_create(&thread, NULL, reclaimer, &r), 0);
	for (int i = 0; i < 20; i++) {
		create(&k, at(1, "other"));
		other = draft_of(&k, at(1, "other"));
		scatter(other, 900, 4 << 20);
		publish(&k, other, at(1, "other"));
		draft_close(other);
		d = draft_of(&k, KEY);
		assert_int_equal(draft_truncate(d, 0), 0);
		scatter(d, CHUNKS, 4 << 20);
		assert_int_equal(removed(&k, at(1, "other"), 0), 0);
		publish(&k, d, KEY);
		draft_close(d);
		scattered_is_seen(&k, NULL, CHUNKS);
	}
	atomic_store(&r.done, true);
	pthread_join(thread, NULL);
	kit_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_too_large_for_a_batch_is_finished_behind_it),
		cmocka_unit_test(more_changes_in_place_than_a_batch_takes_are_refused),
		cmocka_unit_test(a_value_larger_than_memory_is_written_within_the_bound),
		cmocka_unit_test(a_value_under_way_moves_into_the_tree_and_is_whole_at_once),
		cmocka_unit_test(a_value_under_way_leaves_nothing_behind),
		cmocka_unit_test(a_draft_reads_on_after_its_entry_is_gone),
		cmocka_unit_test(an_expired_value_can_be_read_through_a_draft),
		cmocka_unit_test(a_huge_value_is_removed_in_one_step_and_given_back_in_many),
		cmocka_unit_test(the_reclaimer_needs_no_asking),
		cmocka_unit_test(a_full_disk_refuses_the_writer_and_keeps_what_was_published),
		cmocka_unit_test(a_scattered_disk_takes_values_of_any_size),
		cmocka_unit_test(what_was_removed_is_room_for_who_comes_next),
		cmocka_unit_test(what_is_promised_can_be_put),
		cmocka_unit_test(what_small_values_leave_is_promised_at_once),
		cmocka_unit_test(a_value_published_under_the_eyes_of_the_reclaimer_stays),
	};

	return cmocka_run_group_tests_name("draft_room", tests, NULL, NULL);
}
