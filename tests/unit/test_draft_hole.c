/* Holes of values: punched, found, published, and costing nothing. */
#include "draft_kit.h"

/* ---- vocabulary ------------------------------------------------------------------------------ */

/* Where the next data or hole is; -1 if there is none. The draft's answer, or the store's. */
static int64_t seek(struct kit *k, struct draft *d, uint64_t offset, bool hole)
{
	uint64_t found = 0;
	const int rc = d ? draft_seek(d, offset, hole, &found) :
			   store_seek(k->store, KEY, offset, hole, &found);

	assert_true(rc == 0 || rc == -ENXIO);
	return rc ? -1 : (int64_t)found;
}

#define DATA(k, d, offset, want) assert_int_equal(seek(k, d, offset, false), want)
#define HOLE(k, d, offset, want) assert_int_equal(seek(k, d, offset, true), want)

static void fill(struct draft *d, uint64_t offset, size_t size, int byte)
{
	uint8_t *bytes = malloc(size);

	memset(bytes, byte, size);
	write_at(d, offset, bytes, size);
	free(bytes);
}

static void punch(struct draft *d, uint64_t offset, uint64_t size)
{
	assert_int_equal(draft_punch(d, offset, size), 0);
}

/* All bytes there are this one. */
static bool all(struct draft *d, uint64_t offset, size_t size, int byte)
{
	uint8_t *bytes = malloc(size);
	bool ok = draft_read(d, offset, bytes, size) == (ssize_t)size;

	for (size_t i = 0; i < size && ok; i++)
		ok = bytes[i] == byte;
	free(bytes);
	return ok;
}

static struct draft *begin(struct kit *k)
{
	kit_begin(k);
	create(k, KEY);
	return draft_of(k, KEY);
}

/* ---- finding --------------------------------------------------------------------------------- */

static void data_and_holes_are_found_staged_and_published(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	(void)state;

	fill(d, 3 * CHUNK + 100, 10, 'a');
	fill(d, 4 * CHUNK, CHUNK, 'b');
	fill(d, 100ull * CHUNK, 7, 'c');
	for (int round = 0; round < 2; round++) {
		for (int who = 0; who <= round; who++) {
			struct draft *asked = who ? NULL : d;

			DATA(&k, asked, 0, 3 * CHUNK);
			HOLE(&k, asked, 0, 0);
			HOLE(&k, asked, 3 * CHUNK + 5, 5 * CHUNK);
			DATA(&k, asked, 4 * CHUNK + 9, 4 * CHUNK + 9);
			DATA(&k, asked, 5 * CHUNK, 100ll * CHUNK);
			HOLE(&k, asked, 100ull * CHUNK + 1, 100ll * CHUNK + 7);
			DATA(&k, asked, 100ull * CHUNK + 7, -1);
			HOLE(&k, asked, 100ull * CHUNK + 7, -1);
		}
		publish(&k, d, KEY);
	}
	assert_int_equal(draft_truncate(d, 200ull * CHUNK), 0);
	DATA(&k, d, 101ull * CHUNK, -1);
	HOLE(&k, d, 101ull * CHUNK, 101ll * CHUNK);
	draft_close(d);
	kit_end(&k);
}

static void a_small_value_is_all_data(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	uint64_t found;
	(void)state;

	fill(d, 0, 100, 'a');
	publish(&k, d, KEY);
	DATA(&k, d, 5, 5);
	HOLE(&k, d, 5, 100);
	DATA(&k, NULL, 5, 5);
	HOLE(&k, NULL, 5, 100);
	DATA(&k, NULL, 100, -1);
	assert_int_equal(store_seek(k.store, PLACE_ROOT, 0, false, &found), -EISDIR);
	assert_int_equal(store_seek(k.store, at(1, "none"), 0, false, &found), -ENOENT);
	draft_close(d);
	kit_end(&k);
}

/* More records than are looked at in one go. */
static void a_hole_behind_a_long_stretch_of_data_is_found(void **state)
{
	enum { CHUNKS = 3000 };
	struct kit k;
	struct draft *d = begin(&k);
	(void)state;

	for (uint64_t i = 0; i < CHUNKS; i++)
		fill(d, i * CHUNK, 10, 'a');
	publish(&k, d, KEY);
	HOLE(&k, NULL, 0, (CHUNKS - 1ll) * CHUNK + 10);
	punch(d, 2500ull * CHUNK, CHUNK);
	HOLE(&k, d, 0, 2500ll * CHUNK);
	DATA(&k, d, 2500ull * CHUNK, 2501ll * CHUNK);
	punch(d, 10, 2990ull * CHUNK);
	DATA(&k, d, CHUNK, 2990ll * CHUNK);
	publish(&k, d, KEY);
	DATA(&k, NULL, CHUNK, 2990ll * CHUNK);
	HOLE(&k, NULL, 0, CHUNK);
	draft_close(d);
	kit_end(&k);
}

/* ---- making ---------------------------------------------------------------------------------- */

static void a_punched_value_reads_as_zeros_there_and_keeps_its_size(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	uint64_t full;
	(void)state;

	fill(d, 0, 10 * CHUNK, 'a');
	publish(&k, d, KEY);
	full = entries(&k);
	punch(d, CHUNK + 1000, 4 * CHUNK);
	assert_true(all(d, 0, CHUNK + 1000, 'a'));
	assert_true(all(d, CHUNK + 1000, 4 * CHUNK, 0));
	assert_true(all(d, 5 * CHUNK + 1000, 5 * CHUNK - 1000, 'a'));
	HOLE(&k, d, 0, 2 * CHUNK);
	DATA(&k, d, 2 * CHUNK, 5 * CHUNK);
	HOLE(&k, NULL, 0, 10 * CHUNK);
	publish(&k, d, KEY);
	assert_int_equal(entries(&k), full - 3);
	kit_sync(&k);
	draft_close(d);
	kit_crash(&k, SIM_LOSE);
	d = draft_of(&k, KEY);
	assert_int_equal(draft_size(d), 10 * CHUNK);
	assert_true(all(d, CHUNK + 1000, 4 * CHUNK, 0));
	DATA(&k, NULL, 2 * CHUNK, 5 * CHUNK);
	draft_close(d);
	kit_end(&k);
}

static void punching_at_and_beyond_the_end_changes_no_size(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	(void)state;

	fill(d, 0, CHUNK + 50, 'a');
	punch(d, CHUNK + 10, 1ull << 40);
	assert_int_equal(draft_size(d), CHUNK + 50);
	assert_true(all(d, CHUNK, 10, 'a'));
	assert_true(all(d, CHUNK + 10, 40, 0));
	punch(d, CHUNK, UINT64_MAX - CHUNK);
	HOLE(&k, d, 0, CHUNK);
	publish(&k, d, KEY);
	punch(d, CHUNK + 50, 5);
	assert_int_equal(draft_staged_since(d), 0);
	punch(d, 0, UINT64_MAX);
	DATA(&k, d, 0, -1);
	publish(&k, d, KEY);
	assert_int_equal(look(&k, KEY).size, CHUNK + 50);
	DATA(&k, NULL, 0, -1);
	draft_close(d);
	kit_end(&k);
}

static void a_small_value_is_punched_in_place(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	(void)state;

	fill(d, 0, 100, 'a');
	publish(&k, d, KEY);
	punch(d, 10, 20);
	publish(&k, d, KEY);
	assert_true(all(d, 0, 10, 'a') && all(d, 10, 20, 0) && all(d, 30, 70, 'a'));
	punch(d, 0, 100);
	publish(&k, d, KEY);
	assert_true(all(d, 0, 100, 0));
	assert_int_equal(look(&k, KEY).version, 3);
	draft_close(d);
	kit_end(&k);
}

static void growing_never_cuts(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	(void)state;

	fill(d, 0, 100, 'a');
	assert_int_equal(draft_grow(d, 50), 0);
	assert_int_equal(draft_size(d), 100);
	assert_int_equal(draft_grow(d, 5 * CHUNK), 0);
	assert_int_equal(draft_size(d), 5 * CHUNK);
	DATA(&k, d, CHUNK, -1);
	draft_close(d);
	kit_end(&k);
}

/* A batch has room for few pieces here. */
static void a_hole_too_large_for_a_batch_is_made_in_several(void **state)
{
	enum { CHUNKS = 9000 };
	struct kit k;
	struct draft *d = begin(&k);
	int rc = 0, rounds = 0;
	(void)state;

	draft_close(d);
	assert_int_equal(store_close(k.store), 0);
	k.options.segment_size = 256 * KIB;
	sim_free(k.disk);
	k.disk = sim_new(2);
	sim_set_now(k.disk, 1700000000ull * 1000000000);
	kit_mount(&k);
	create(&k, KEY);
	d = draft_of(&k, KEY);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		fill(d, i * CHUNK, 10, 'a');
		if (i % 500 == 499)
			publish(&k, d, KEY);
	}
	publish(&k, d, KEY);
	while ((rc = draft_punch(d, 0, (CHUNKS - 1ull) * CHUNK)) == -EFBIG) {
		publish(&k, d, KEY);
		rounds++;
	}
	assert_int_equal(rc, 0);
	assert_true(rounds > 0);
	publish(&k, d, KEY);
	DATA(&k, NULL, 0, (CHUNKS - 1ll) * CHUNK);
	draft_close(d);
	kit_end(&k);
}

/* Punching fails at its n-th allocation, for all n: what it did is a part of what it was to do, and
 * it can be done again. */
static void without_memory_a_hole_is_made_in_part(void **state)
{
	struct kit k;
	struct draft *d = begin(&k);
	int rc = -1;
	(void)state;

	fill(d, 0, 6 * CHUNK, 'a');
	publish(&k, d, KEY);
	for (int n = 0; rc; n++) {
		mem_fail_after(n, 0);
		rc = draft_punch(d, CHUNK / 2, 4 * CHUNK);
		mem_fail_after(-1, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		assert_true(all(d, 0, CHUNK / 2, 'a'));
		assert_true(all(d, 9 * CHUNK / 2, 3 * CHUNK / 2, 'a'));
	}
	assert_true(all(d, CHUNK / 2, 4 * CHUNK, 0));
	publish(&k, d, KEY);
	DATA(&k, NULL, CHUNK, 4 * CHUNK);
	draft_close(d);
	kit_end(&k);
}

/* ---- a model --------------------------------------------------------------------------------- */

enum { MODEL_CHUNKS = 12, MODEL_MAX = MODEL_CHUNKS * CHUNK };

struct model {
	struct kit kit;
	struct draft *draft;
	uint8_t bytes[MODEL_MAX];
	bool data[MODEL_CHUNKS];	/* may have some */
	size_t size;
};

static void model_change(struct model *m)
{
	const size_t offset = pick(MODEL_MAX), left = MODEL_MAX - offset;
	const size_t length = pick(3) ? pick(left) + 1 : pick(left < 5000 ? left : 5000) + 1;
	const size_t end = offset + length, kept = end < m->size ? end : m->size;

	if (pick(2)) {
		const int byte = 1 + (int)pick(255);

		fill(m->draft, offset, length, byte);
		memset(m->bytes + offset, byte, length);
		for (size_t i = offset / CHUNK; i * CHUNK < end; i++)
			m->data[i] = true;
		m->size = end > m->size ? end : m->size;
		return;
	}
	punch(m->draft, offset, length);
	if (offset >= m->size)
		return;
	memset(m->bytes + offset, 0, kept - offset);
	for (size_t i = offset / CHUNK; i * CHUNK < kept; i++)
		if (offset <= i * CHUNK && ((i + 1) * CHUNK <= end || end >= m->size))
			m->data[i] = false;
}

static void model_truncate(struct model *m)
{
	const size_t size = pick(MODEL_MAX);

	assert_int_equal(draft_truncate(m->draft, size), 0);
	if (size < m->size) {
		memset(m->bytes + size, 0, MODEL_MAX - size);
		for (size_t i = (size + CHUNK - 1) / CHUNK; i < MODEL_CHUNKS; i++)
			m->data[i] = false;
	}
	m->size = size;
}

/* What is said to be a hole is one; what was punched is said to be one. */
static void model_agrees(struct model *m, struct draft *d)
{
	for (uint64_t at = 0; at < m->size;) {
		const int64_t data = seek(&m->kit, d, at, false);
		const uint64_t hole_end = data < 0 ? m->size : (uint64_t)data;

		for (; at < hole_end; at++)
			if (m->bytes[at])
				fail_msg("data in a hole at %llu", (unsigned long long)at);
		if (at == m->size)
			break;
		if (m->size > STORE_INLINE_MAX)
			assert_true(m->data[at / CHUNK]);
		at = (uint64_t)seek(&m->kit, d, at, true);
		if (at < m->size)
			assert_int_equal(at % CHUNK, 0);
	}
}

static void random_holes_agree_with_a_model(void **state)
{
	static uint8_t got[MODEL_MAX + 1];
	const char *set = getenv("SEED");
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
	for (int step = 0; step < 1500; step++) {
		const uint64_t what = pick(10);

		if (what < 7)
			model_change(m);
		else if (what < 8)
			model_truncate(m);
		else
			publish(&m->kit, m->draft, KEY);
		assert_int_equal(draft_read(m->draft, 0, got, sizeof(got)), m->size);
		assert_memory_equal(got, m->bytes, m->size);
		model_agrees(m, m->draft);
		if (what < 8)
			continue;
		assert_int_equal(store_read(m->kit.store, KEY, 0, got, sizeof(got)), m->size);
		assert_memory_equal(got, m->bytes, m->size);
		model_agrees(m, NULL);
		if (step % 10 == 0)
			kit_is_clean(&m->kit);
		if (step % 7 == 0) {
			assert_int_equal(store_sync(m->kit.store), 0);
			draft_close(m->draft);
			if (step % 3 == 0)
				kit_crash(&m->kit, (enum sim_fate)pick(SIM_FATES));
			m->draft = draft_of(&m->kit, KEY);
		}
	}
	draft_close(m->draft);
	kit_end(&m->kit);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_and_holes_are_found_staged_and_published),
		cmocka_unit_test(a_small_value_is_all_data),
		cmocka_unit_test(a_hole_behind_a_long_stretch_of_data_is_found),
		cmocka_unit_test(a_punched_value_reads_as_zeros_there_and_keeps_its_size),
		cmocka_unit_test(punching_at_and_beyond_the_end_changes_no_size),
		cmocka_unit_test(a_small_value_is_punched_in_place),
		cmocka_unit_test(growing_never_cuts),
		cmocka_unit_test(a_hole_too_large_for_a_batch_is_made_in_several),
		cmocka_unit_test(without_memory_a_hole_is_made_in_part),
		cmocka_unit_test(random_holes_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
