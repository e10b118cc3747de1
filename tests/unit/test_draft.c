/* Values: staged, published, read, cut and grown. */
#include <pthread.h>
#include <stdatomic.h>

#include "draft_kit.h"

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

static void a_write_within_the_value_does_not_make_it_longer(void **state)
{
	uint8_t *want = pattern(70000, 1);
	struct draft *d;
	struct kit k;
	(void)state;

	kit_begin(&k);
	put_pattern(&k, 70000, 1, 70000);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_write_within(d, 70000, slice_of("x", 1)), 0);
	assert_int_equal(draft_write_within(d, UINT64_MAX, slice_of("x", 1)), 0);
	assert_int_equal(draft_staged_since(d), 0);
	assert_int_equal(draft_write_within(d, 69998, slice_of("abcd", 4)), 2);
	assert_int_equal(draft_write_within(d, 10, slice_of("efgh", 4)), 4);
	memcpy(want + 69998, "ab", 2);
	memcpy(want + 10, "efgh", 4);
	assert_true(same(&k, d, want, 70000));
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_int_equal(draft_write_within(d, 0, slice_of("x", 1)), 0);
	assert_int_equal(draft_size(d), 0);
	draft_close(d);
	free(want);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_every_interesting_size_come_back),
		cmocka_unit_test(what_is_staged_is_seen_through_the_draft_only),
		cmocka_unit_test(reading_ends_where_the_value_does),
		cmocka_unit_test(a_write_within_the_value_does_not_make_it_longer),
		cmocka_unit_test(only_files_have_drafts),
		cmocka_unit_test(a_bare_create_is_published_as_empty_and_then_nothing_is),
		cmocka_unit_test(times_are_those_of_the_last_write),
		cmocka_unit_test(two_drafts_of_one_value_do_not_mix),
		cmocka_unit_test(what_was_cut_off_reads_as_zeros_when_grown_again),
		cmocka_unit_test(a_hole_costs_nothing_and_reads_as_zeros),
		cmocka_unit_test(what_a_value_keeps_is_counted),
		cmocka_unit_test(a_publication_happens_entirely_or_not_at_all),
		cmocka_unit_test(random_changes_agree_with_a_model),
		cmocka_unit_test(a_reader_never_sees_a_mixture),
	};

	return cmocka_run_group_tests_name("draft", tests, NULL, NULL);
}
