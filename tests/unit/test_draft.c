/* Values: staged, published, read, cut, grown, held, and given back. */
#include <pthread.h>
#include <stdatomic.h>

#include "draft_impl.h"
#include "store_kit.h"

#define KEY ((struct place){ STORE_ROOT, { "key", 3 } })

enum { KIB = 1024, CHUNK = STORE_CHUNK };

/* ---- vocabulary ------------------------------------------------------------------------------ */

static uint64_t seed;

static uint64_t pick(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

/* Bytes that tell where they are, and which value they belong to. */
static uint8_t *pattern(size_t size, unsigned value)
{
	uint8_t *bytes = malloc(size + 1);

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value * 37 + i * 7 + (i >> 8) * 3 + (i >> 16) * 11);
	return bytes;
}

static bool same(struct kit *k, struct draft *d, const uint8_t *want, size_t size)
{
	uint8_t *got = malloc(size + 10);
	const ssize_t n = d ? draft_read(d, 0, got, size + 10) :
			      store_read(k->store, KEY, 0, got, size + 10);
	const bool ok = n == (ssize_t)size && memcmp(got, want, size) == 0;

	free(got);
	return ok;
}

/* The published value is the pattern of this size. */
static bool published(struct kit *k, size_t size, unsigned value)
{
	uint8_t *want = pattern(size, value);
	const bool ok = same(k, NULL, want, size) && look(k, KEY).size == size;

	free(want);
	return ok;
}

/* Writes a whole new value in pieces of `step` bytes, and publishes it. */
static void put_pattern(struct kit *k, size_t size, unsigned value, size_t step)
{
	uint8_t *bytes = pattern(size, value);
	struct draft *d;

	if (!there(k, KEY))
		create(k, KEY);
	d = draft_of(k, KEY);
	assert_int_equal(draft_truncate(d, 0), 0);
	for (size_t i = 0; i < size; i += step)
		write_at(d, i, bytes + i, size - i < step ? size - i : step);
	assert_true(same(k, d, bytes, size));
	publish(k, d, KEY);
	assert_true(same(k, d, bytes, size));
	draft_close(d);
	free(bytes);
}

static uint64_t entries(struct kit *k)
{
	struct engine_stats stats;

	assert_int_equal(store_stats(k->store, &stats), 0);
	return stats.entries;
}

static void reclaim_all(struct kit *k)
{
	int rc;

	do {
		rc = store_reclaim(k->store, 100);
		assert_true(rc >= 0);
	} while (rc > 0);
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void values_of_every_interesting_size_come_back(void **state)
{
	static const size_t sizes[] = {
		0, 1, 200, 1024, 1025, 65535, 65536, 65537, 131072, 200000, 1048577,
	};
	static const size_t steps[] = { 4096, 131072, 777, 1 << 21 };
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			const unsigned value = (unsigned)(s * 100 + i);

			put_pattern(&k, sizes[i], value, steps[s]);
			assert_true(published(&k, sizes[i], value));
			kit_sync(&k);
			kit_crash(&k, SIM_LOSE);
			assert_true(published(&k, sizes[i], value));
			assert_int_equal(version(&k, KEY), value % 100 + 1 + s * 11);
		}
	}
	kit_end(&k);
}

static void what_is_staged_is_seen_through_the_draft_only(void **state)
{
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 100000, 1, 100000);
	d = draft_of(&k, KEY);
	write_at(d, 5, "staged", 6);
	assert_int_equal(draft_truncate(d, 80000), 0);
	assert_true(published(&k, 100000, 1));
	assert_int_equal(draft_size(d), 80000);
	assert_int_equal(look(&k, KEY).size, 100000);
	draft_close(d);
	assert_true(published(&k, 100000, 1));
	assert_int_equal(version(&k, KEY), 1);
	kit_end(&k);
}

static void reading_ends_where_the_value_does(void **state)
{
	uint8_t bytes[100];
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 70000, 1, 70000);
	d = draft_of(&k, KEY);
	assert_int_equal(store_read(k.store, KEY, 69990, bytes, 100), 10);
	assert_int_equal(draft_read(d, 69990, bytes, 100), 10);
	assert_int_equal(store_read(k.store, KEY, 70000, bytes, 100), 0);
	assert_int_equal(draft_read(d, 70000, bytes, 100), 0);
	assert_int_equal(store_read(k.store, KEY, UINT64_MAX, bytes, 100), 0);
	assert_int_equal(draft_read(d, UINT64_MAX, bytes, 100), 0);
	assert_int_equal(draft_write(d, STORE_SIZE_MAX, slice_of(bytes, 1)), -EFBIG);
	assert_int_equal(draft_write(d, UINT64_MAX - 5, slice_of(bytes, 10)), -EFBIG);
	assert_int_equal(draft_truncate(d, STORE_SIZE_MAX + 1), -EFBIG);
	assert_int_equal(draft_staged_since(d), 0);
	draft_close(d);
	kit_end(&k);
}

static void only_files_have_drafts(void **state)
{
	struct draft *d;
	uint8_t byte;
	struct kit k;
	(void)state;

	kit_begin(&k);
	assert_int_equal(make(&k, at(1, "fifo"), S_IFIFO, false, NULL), 0);
	assert_int_equal(draft_open(k.store, PLACE_ROOT, &d), -EISDIR);
	assert_int_equal(draft_open(k.store, at(1, "fifo"), &d), -EINVAL);
	assert_int_equal(draft_open(k.store, at(1, "none"), &d), -ENOENT);
	assert_int_equal(store_read(k.store, PLACE_ROOT, 0, &byte, 1), -EISDIR);
	assert_int_equal(store_read(k.store, at(1, "fifo"), 0, &byte, 1), -EINVAL);
	kit_end(&k);
}

static void a_bare_create_is_published_as_empty_and_then_nothing_is(void **state)
{
	struct draft *d;
	struct attr attr, made;
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, KEY);
	made = look(&k, KEY);
	d = draft_of(&k, KEY);
	sim_advance(k.disk, 1000000000);
	assert_int_equal(draft_publish(d, KEY, &attr, &k.revision), 0);
	assert_true(k.revision > 0 && attr.version == 1 && attr.size == 0 && !attr.unpublished);
	assert_true(attr.mtime_ns == made.mtime_ns && attr.ctime_ns == made.ctime_ns);
	assert_int_equal(draft_publish(d, KEY, &attr, &k.revision), 0);
	assert_true(k.revision == 0 && attr.version == 1);
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_int_equal(draft_publish(d, KEY, &attr, &k.revision), 0);
	assert_true(k.revision > 0 && attr.version == 2);
	draft_close(d);
	kit_end(&k);
}

static void times_are_those_of_the_last_write(void **state)
{
	struct attr before, attr;
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 10, 1, 10);
	before = look(&k, KEY);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_mtime_ns(d), 0);
	assert_int_equal(draft_staged_since(d), 0);
	sim_advance(k.disk, 1000);
	write_at(d, 0, "x", 1);
	sim_advance(k.disk, 1000);
	write_at(d, 0, "y", 1);
	assert_int_equal(draft_mtime_ns(d), before.mtime_ns + 2000);
	assert_int_equal(draft_staged_since(d),
			 sim_os(k.disk)->monotonic_ns(sim_os(k.disk)) - 1000);
	sim_advance(k.disk, 1000);
	assert_int_equal(draft_publish(d, KEY, &attr, &k.revision), 0);
	assert_int_equal(attr.mtime_ns, before.mtime_ns + 2000);
	assert_int_equal(attr.ctime_ns, before.mtime_ns + 3000);
	assert_int_equal(attr.btime_ns, before.btime_ns);
	write_at(d, 0, "z", 1);
	draft_keep_mtime(d);
	assert_int_equal(draft_mtime_ns(d), 0);
	assert_int_equal(draft_publish(d, KEY, &attr, &k.revision), 0);
	assert_int_equal(attr.mtime_ns, before.mtime_ns + 2000);
	draft_close(d);
	kit_end(&k);
}

static void two_drafts_of_one_value_do_not_mix(void **state)
{
	struct draft *a, *b;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 100000, 1, 100000);
	a = draft_of(&k, KEY);
	b = draft_of(&k, KEY);
	write_at(a, 0, "a", 1);
	write_at(b, 90000, "b", 1);
	publish(&k, a, KEY);
	assert_int_equal(draft_publish(b, KEY, NULL, &k.revision), -ESTALE);
	draft_close(b);
	b = draft_of(&k, KEY);
	assert_int_equal(draft_truncate(b, 0), 0);
	write_at(b, 0, "whole", 5);
	publish(&k, b, KEY);
	assert_true(holds(&k, KEY, "whole"));
	write_at(a, 0, "c", 1);
	assert_int_equal(draft_publish(a, KEY, NULL, &k.revision), -ESTALE);
	draft_close(a);
	draft_close(b);
	kit_end(&k);
}

/* ---- cutting and growing --------------------------------------------------------------------- */

static void what_was_cut_off_reads_as_zeros_when_grown_again(void **state)
{
	static const uint64_t cuts[] = { 1, 500, 1024, 1025, 65535, 65536, 65537, 100000, 131072 };
	uint8_t *want = pattern(200000, 1);
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	for (int between = 0; between < 2; between++) {
		for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
			put_pattern(&k, 200000, 1, 200000);
			d = draft_of(&k, KEY);
			assert_int_equal(draft_truncate(d, cuts[i]), 0);
			if (between) {
				publish(&k, d, KEY);
				assert_true(published(&k, cuts[i], 1));
			}
			assert_int_equal(draft_truncate(d, 190000), 0);
			publish(&k, d, KEY);
			free(want);
			want = pattern(200000, 1);
			memset(want + cuts[i], 0, 200000 - cuts[i]);
			assert_true(same(&k, d, want, 190000));
			assert_true(same(&k, NULL, want, 190000));
			kit_is_clean(&k);
			draft_close(d);
		}
	}
	free(want);
	kit_end(&k);
}

static void a_hole_costs_nothing_and_reads_as_zeros(void **state)
{
	const uint64_t far = 1ull << 40;
	uint8_t bytes[20];
	struct draft *d;
	uint64_t before;
	struct kit k;
	(void)state;

	kit_begin(&k);
	create(&k, KEY);
	before = entries(&k);
	d = draft_of(&k, KEY);
	write_at(d, far, "end", 3);
	publish(&k, d, KEY);
	assert_in_range(entries(&k), before, before + 1);
	kit_sync(&k);
	draft_close(d);
	kit_crash(&k, SIM_LOSE);
	assert_int_equal(look(&k, KEY).size, far + 3);
	assert_int_equal(store_read(k.store, KEY, far - 4, bytes, 20), 7);
	assert_memory_equal(bytes, "\0\0\0\0end", 7);
	assert_int_equal(store_read(k.store, KEY, 12345, bytes, 2), 2);
	assert_memory_equal(bytes, "\0\0", 2);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_truncate(d, 10), 0);
	publish(&k, d, KEY);
	draft_close(d);
	reclaim_all(&k);
	assert_int_equal(store_read(k.store, KEY, 0, bytes, 20), 10);
	assert_in_range(entries(&k), before - 1, before);
	kit_end(&k);
}

/* Told while it is staged, and the same once it is published and opened again. */
static void keeps(struct kit *k, struct draft *d, uint64_t stored)
{
	assert_int_equal(draft_stored(d), stored);
	publish(k, d, KEY);
	assert_int_equal(draft_stored(d), stored);
	assert_int_equal(look(k, KEY).stored, stored);
	kit_is_clean(k);
}

static void what_a_value_keeps_is_counted(void **state)
{
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 10 * CHUNK + 100, 1, 1 << 20);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_stored(d), 10 * CHUNK + 100);
	write_at(d, 20ull * CHUNK + 5000, "sparse", 6);		/* in a hole: only itself */
	keeps(&k, d, 10 * CHUNK + 106);
	write_at(d, 20ull * CHUNK + 5002, "over", 4);		/* in its place */
	publish(&k, d, KEY);
	keeps(&k, d, 10 * CHUNK + 106);
	write_at(d, 20ull * CHUNK + 6000, "more", 4);
	write_at(d, 10ull * CHUNK + 150, "append", 6);		/* the gap is filled */
	keeps(&k, d, 10 * CHUNK + 156 + 10);
	assert_int_equal(draft_punch(d, 0, 2 * CHUNK), 0);
	keeps(&k, d, 8 * CHUNK + 166);
	assert_int_equal(draft_truncate(d, 20ull * CHUNK + 5003), 0);
	assert_int_equal(draft_truncate(d, 30ull * CHUNK), 0);
	publish(&k, d, KEY);
	assert_in_range(draft_stored(d), 8 * CHUNK + 156 + 3, 8 * CHUNK + 156 + 10);
	kit_is_clean(&k);
	assert_int_equal(draft_truncate(d, 5 * CHUNK + 7), 0);	/* some holes go, some stay */
	keeps(&k, d, 3 * CHUNK + 7);
	assert_int_equal(draft_truncate(d, 0), 0);
	write_at(d, 0, "small", 5);
	keeps(&k, d, 5);
	draft_close(d);
	kit_end(&k);
}

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

/* ---- trouble --------------------------------------------------------------------------------- */

/* Wherever the power goes while a value is replaced or changed, there is the old or the new one. */
static void a_publication_happens_entirely_or_not_at_all(void **state)
{
	static const size_t sizes[] = { 500, 40000, 200000 };
	bool finished;
	struct kit k;
	(void)state;

	for (size_t old = 0; old < 3; old++) {
		for (size_t new = 0; new < 3; new++) {
			finished = false;
			for (int64_t cut = 0; !finished; cut++) {
				kit_begin(&k);
				put_pattern(&k, sizes[old], 1, sizes[old]);
				kit_sync(&k);
				sim_cut_after(k.disk, cut);
				{
					uint8_t *bytes = pattern(sizes[new], 2);
					struct draft *d = draft_of(&k, KEY);
					int rc = draft_truncate(d, new % 2 ? sizes[new] : 0);

					if (rc == 0)
						rc = draft_write(d, 0, slice_of(bytes, sizes[new]));
					if (rc == 0)
						rc = draft_publish(d, KEY, NULL, &k.revision);
					if (rc == 0)
						rc = store_wait_blocking(k.store, k.revision,
									 LOG_SYNCED);
					finished = rc == 0;
					draft_close(d);
					free(bytes);
				}
				kit_crash(&k, (enum sim_fate)(cut % SIM_FATES));
				if (finished || look(&k, KEY).version == 2)
					assert_true(published(&k, sizes[new], 2));
				else
					assert_true(published(&k, sizes[old], 1));
				kit_end(&k);
			}
		}
	}
}

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

/* ---- a model --------------------------------------------------------------------------------- */

enum { MODEL_MAX = 500000 };

struct model {
	struct kit kit;
	struct draft *draft;
	uint8_t staged[MODEL_MAX], published[MODEL_MAX];
	size_t staged_size, published_size;
	uint64_t version;
};

static void model_write(struct model *m)
{
	const size_t offset = pick(10) ? pick(m->staged_size + 1) : pick(MODEL_MAX);
	size_t size = pick(4) ? pick(3000) + 1 : pick(150000) + 1;
	uint8_t *bytes;

	if (size > MODEL_MAX - offset)
		size = MODEL_MAX - offset;
	if (size == 0)
		return;
	bytes = pattern(size, (unsigned)pick(256));
	write_at(m->draft, offset, bytes, size);
	memcpy(m->staged + offset, bytes, size);
	if (offset + size > m->staged_size)
		m->staged_size = offset + size;
	free(bytes);
}

static void model_truncate(struct model *m)
{
	const size_t size = pick(3) ? pick(m->staged_size + 1) : pick(4) ? pick(MODEL_MAX) : 0;

	assert_int_equal(draft_truncate(m->draft, size), 0);
	if (size < m->staged_size)
		memset(m->staged + size, 0, MODEL_MAX - size);
	m->staged_size = size;
}

static void model_publish(struct model *m)
{
	const bool staged = draft_staged_since(m->draft);

	publish(&m->kit, m->draft, KEY);
	memcpy(m->published, m->staged, MODEL_MAX);
	m->published_size = m->staged_size;
	m->version += staged;
}

/* As a program does that writes to a log and waits each time. */
static void model_append(struct model *m)
{
	for (uint64_t n = pick(20); n > 0; n--) {
		const size_t left = MODEL_MAX - m->staged_size;
		const size_t size = left < 2000 ? left : pick(2000);
		uint8_t *bytes = pattern(size, (unsigned)pick(256));

		write_at(m->draft, m->staged_size, bytes, size);
		memcpy(m->staged + m->staged_size, bytes, size);
		m->staged_size += size;
		model_publish(m);
		free(bytes);
	}
}

/* Small changes in one place: what is patched is patched again. */
static void model_scribble(struct model *m)
{
	const size_t from = m->staged_size > 5000 ? pick(m->staged_size - 5000) : 0;

	for (uint64_t n = pick(30); n > 0 && m->staged_size > 5000; n--) {
		const size_t offset = from + pick(40) * 100, size = pick(4) ? 100 : pick(1000) + 1;
		uint8_t *bytes = pattern(size, (unsigned)pick(256));

		write_at(m->draft, offset, bytes, size);
		memcpy(m->staged + offset, bytes, size);
		free(bytes);
		if (pick(3) == 0)
			model_publish(m);
	}
}

static void model_punch(struct model *m)
{
	const size_t offset = pick(m->staged_size + 1), size = pick(3) ? pick(200000) : MODEL_MAX;
	const size_t left = m->staged_size - offset;

	assert_int_equal(draft_punch(m->draft, offset, size), 0);
	memset(m->staged + offset, 0, size < left ? size : left);
}

/* What is staged is lost with the draft. */
static void model_forget(struct model *m, bool crash)
{
	assert_int_equal(store_sync(m->kit.store), 0);
	draft_close(m->draft);
	if (crash)
		kit_crash(&m->kit, (enum sim_fate)pick(SIM_FATES));
	memcpy(m->staged, m->published, MODEL_MAX);
	m->staged_size = m->published_size;
	m->draft = draft_of(&m->kit, KEY);
}

static void model_read(struct model *m)
{
	static uint8_t got[MODEL_MAX];
	const size_t offset = pick(MODEL_MAX), size = pick(200000);
	const size_t have = offset < m->staged_size ? m->staged_size - offset : 0;
	const size_t want = have < size ? have : size;

	assert_int_equal(draft_read(m->draft, offset, got, size), want);
	assert_memory_equal(got, m->staged + offset, want);
}

static void model_agrees(struct model *m)
{
	assert_true(same(&m->kit, m->draft, m->staged, m->staged_size));
	assert_true(same(&m->kit, NULL, m->published, m->published_size));
	assert_int_equal(version(&m->kit, KEY), m->version);
	assert_int_equal(draft_size(m->draft), m->staged_size);
	assert_in_range(draft_stored(m->draft), 0, m->staged_size);
	if (!draft_staged_since(m->draft))
		assert_int_equal(draft_stored(m->draft), look(&m->kit, KEY).stored);
}

static void random_changes_agree_with_a_model(void **state)
{
	const char *set = getenv("SEED"), *steps = getenv("N");
	struct model *m = calloc(1, sizeof(*m));
	(void)state;

	seed = set ? strtoull(set, NULL, 0) : 88172645463325252u;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	kit_begin(&m->kit);
	assert_int_equal(store_close(m->kit.store), 0);
	m->kit.options.draft_memory = 256 * KIB;
	kit_mount(&m->kit);
	create(&m->kit, KEY);
	m->draft = draft_of(&m->kit, KEY);
	model_publish(m);
	m->version = 1;
	for (int step = 0; step < (steps ? atoi(steps) : 3000); step++) {
		const uint64_t what = pick(100);

		if (what < 40)
			model_write(m);
		else if (what < 43)
			model_append(m);
		else if (what < 48)
			model_scribble(m);
		else if (what < 50)
			model_punch(m);
		else if (what < 60)
			model_truncate(m);
		else if (what < 75)
			model_publish(m);
		else if (what < 79)
			model_forget(m, what == 78);
		else
			model_read(m);
		if (step % 10 == 0)
			model_agrees(m);
		if (step % 100 == 0)
			kit_is_clean(&m->kit);
	}
	draft_close(m->draft);
	reclaim_all(&m->kit);
	assert_true(same(&m->kit, NULL, m->published, m->published_size));
	kit_end(&m->kit);
	free(m);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { SHARED = 200000, ROUNDS = 150 };

struct race {
	struct kit *kit;
	atomic_bool done;
	bool in_place;
};

/* Every version is one byte all over. */
static void *publisher(void *arg)
{
	struct race *r = arg;
	static uint8_t bytes[SHARED];
	struct draft *d;
	uint64_t revision;

	assert_int_equal(draft_open(r->kit->store, KEY, &d), 0);
	for (int i = 0; i < ROUNDS; i++) {
		memset(bytes, 'a' + i % 26, sizeof(bytes));
		if (!r->in_place)
			assert_int_equal(draft_truncate(d, 0), 0);
		assert_int_equal(draft_write(d, 0, slice_of(bytes, sizeof(bytes))), 0);
		assert_int_equal(draft_publish(d, KEY, NULL, &revision), 0);
		if (i % 10 == 0)
			store_reclaim(r->kit->store, 10);
	}
	draft_close(d);
	atomic_store(&r->done, true);
	return NULL;
}

static void a_reader_never_sees_a_mixture(void **state)
{
	uint8_t *got = malloc(SHARED);
	struct kit k;
	(void)state;

	for (int in_place = 0; in_place < 2; in_place++) {
		struct race r = { .kit = &k, .in_place = in_place };
		pthread_t thread;
		uint8_t *first = calloc(1, SHARED);
		struct draft *d;

		kit_begin(&k);
		create(&k, KEY);
		d = draft_of(&k, KEY);
		write_at(d, 0, first, SHARED);
		publish(&k, d, KEY);
		draft_close(d);
		assert_int_equal(pthread_create(&thread, NULL, publisher, &r), 0);
		while (!atomic_load(&r.done)) {
			assert_int_equal(store_read(k.store, KEY, 0, got, SHARED), SHARED);
			for (size_t i = 1; i < SHARED; i++)
				if (got[i] != got[0])
					fail_msg("%c at 0, %c at %zu", got[0], got[i], i);
		}
		pthread_join(thread, NULL);
		assert_int_equal(version(&k, KEY), ROUNDS + 1);
		free(first);
		reclaim_all(&k);
		kit_end(&k);
	}
	free(got);
}

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
		cmocka_unit_test(values_of_every_interesting_size_come_back),
		cmocka_unit_test(what_is_staged_is_seen_through_the_draft_only),
		cmocka_unit_test(reading_ends_where_the_value_does),
		cmocka_unit_test(only_files_have_drafts),
		cmocka_unit_test(a_bare_create_is_published_as_empty_and_then_nothing_is),
		cmocka_unit_test(times_are_those_of_the_last_write),
		cmocka_unit_test(two_drafts_of_one_value_do_not_mix),
		cmocka_unit_test(what_was_cut_off_reads_as_zeros_when_grown_again),
		cmocka_unit_test(a_hole_costs_nothing_and_reads_as_zeros),
		cmocka_unit_test(what_a_value_keeps_is_counted),
		cmocka_unit_test(a_cut_too_large_for_a_batch_is_finished_behind_it),
		cmocka_unit_test(more_changes_in_place_than_a_batch_takes_are_refused),
		cmocka_unit_test(a_value_larger_than_memory_is_written_within_the_bound),
		cmocka_unit_test(a_value_under_way_moves_into_the_tree_and_is_whole_at_once),
		cmocka_unit_test(a_value_under_way_leaves_nothing_behind),
		cmocka_unit_test(a_draft_reads_on_after_its_entry_is_gone),
		cmocka_unit_test(an_expired_value_can_be_read_through_a_draft),
		cmocka_unit_test(a_huge_value_is_removed_in_one_step_and_given_back_in_many),
		cmocka_unit_test(the_reclaimer_needs_no_asking),
		cmocka_unit_test(a_publication_happens_entirely_or_not_at_all),
		cmocka_unit_test(a_full_disk_refuses_the_writer_and_keeps_what_was_published),
		cmocka_unit_test(a_scattered_disk_takes_values_of_any_size),
		cmocka_unit_test(what_was_removed_is_room_for_who_comes_next),
		cmocka_unit_test(random_changes_agree_with_a_model),
		cmocka_unit_test(a_reader_never_sees_a_mixture),
		cmocka_unit_test(a_value_published_under_the_eyes_of_the_reclaimer_stays),
	};

	return cmocka_run_group_tests_name("draft", tests, NULL, NULL);
}
