/* The engine over a disk that is tampered with: what is put, patched and read, by many at a time,
 * too. Opening and closing are in test_engine_open.c, room on the disk in test_engine_space.c,
 * faults one by one in test_engine_faults.c, stories drawn by lot in test_engine_model.c, power
 * cuts in tests/crash. */
#include <pthread.h>
#include <stdatomic.h>

#include "engine_kit.h"
#include "sum.h"

/* ---- stories ---------------------------------------------------------------------------- */

static void what_was_put_is_there_after_reopening(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	put(e, 1, 7, 200);
	put(e, 2, 8, 60000);
	assert_int_equal(try_put(e, 3, 9, 70000, true), 0);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	assert_int_equal(holds(e, 2, 8, 60000), 1);
	assert_int_equal(holds(e, 3, 9, 70000), 1);
	assert_int_equal(holds(e, 4, 0, 0), 0);
	verified(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

static void impossible_batches_are_refused(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	static uint8_t bytes[ENGINE_VALUE_MAX + 1];
	struct batch batch = { 0 };
	uint64_t revision;
	(void)state;

	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_put(&batch, slice_of(bytes, ENGINE_KEY_MAX + 1), slice_str("v"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_clear(&batch);
	batch_put(&batch, slice_str("k"), slice_of(bytes, sizeof(bytes)));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_clear(&batch);
	batch_patch(&batch, slice_str("k"), 0, slice_str("nothing is there"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_clear(&batch);
	batch_patch(&batch, slice_str("k"), ENGINE_VALUE_MAX, slice_str("v"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_clear(&batch);
	batch_put(&batch, slice_str("k"), slice_of(bytes, 100));
	batch_patch(&batch, slice_str("k"), 101, slice_str("v"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -EINVAL);
	batch_clear(&batch);
	batch_put(&batch, slice_str("k"), slice_of(bytes, 100));
	batch_patch(&batch, slice_str("k"), 100, slice_str("v"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	batch_clear(&batch);
	while (batch.bytes.size <= engine_batch_max(e))
		batch_put(&batch, slice_str("k"), slice_of(bytes, 30000));
	assert_int_equal(engine_commit(e, &batch, false, &revision), -E2BIG);
	batch_done(&batch);
	engine_close(e);
	sim_free(disk);
}

static void a_patched_value_keeps_its_run(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct batch batch = { 0 };
	struct buffer value = { 0 };
	uint64_t revision;
	char text[32];
	(void)state;

	assert_int_equal(try_put(e, 1, 0x01010101, 5000, true), 0);	/* its value is the stamp */
	for (int i = 0; i < 4; i++) {
		if (i % 2)
			assert_int_equal(engine_checkpoint(e), 0);
		batch_patch(&batch, key_of(text, 1), 3, slice_of(&"abcdefgh"[i], (size_t)i + 1));
		assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
		batch_clear(&batch);
	}
	assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 1);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 0x01010101, 5000), 1);
	assert_int_equal(engine_get(e, key_of(text, 1), &value, NULL), 0);
	assert_true(slice_equal(buffer_slice(&value), slice_str("\1\1\1defg")));
	verified(e);
	buffer_done(&value);
	batch_done(&batch);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Renames a key in the log's last group, which is found by the key, and makes its sum agree. */
static void tamper(struct sim *disk, const char *key, const char *other)
{
	static uint8_t bytes[64 * 1024];
	struct os *os = sim_os(disk);
	struct os_file *file;
	struct os_dir *dir;
	uint8_t *at, *group, *end = bytes + sizeof(bytes);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, "log.00000000", 0, &file), 0);
	assert_int_equal(os->read(file, bytes, sizeof(bytes), 0), sizeof(bytes));
	at = memmem(bytes, sizeof(bytes), key, strlen(key));
	assert_non_null(at);
	for (uint8_t *next = at; next; next = memmem(at + 1, end - at - 1, key, strlen(key)))
		at = next;
	memcpy(at, other, strlen(other));
	group = at - BATCH_HEADER - 3 - GROUP_HEADER;
	put64(group, sum64(group + GROUP_NUMBER, GROUP_HEADER - GROUP_NUMBER +
						 get32(group + GROUP_SIZE)));
	assert_int_equal(os->write(file, bytes, sizeof(bytes), 0), 0);
	assert_int_equal(os->sync(file), 0);
	os->close(file);
	os->close_dir(dir);
}

static void a_patch_in_the_log_of_what_is_not_there_is_damage(void **state)
{
	struct sim *disk = sim_new(1), *copy;
	struct engine *e = open_engine(disk);
	struct batch batch = { 0 };
	struct err err = { "" };
	uint64_t revision;
	char text[32];
	(void)state;

	put(e, 1, 1, 100);
	batch_patch(&batch, key_of(text, 1), 50, slice_str("patch"));
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 1);
	copy = sim_clone(disk);

	tamper(copy, "key 000001", "key 000001");	/* changes nothing: tampering is sound */
	e = open_engine(copy);
	assert_int_equal(engine_close(e), 0);
	tamper(disk, "key 000001", "key 000002");
	assert_int_equal(try_open(disk, &small, &e, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "log: commit"));
	batch_done(&batch);
	sim_free(copy);
	sim_free(disk);
}

/* What was written over it is none of its business; whether that is so only its reader can tell. */
static void a_run_that_was_replaced_meanwhile_is_no_trouble(void **state)
{
	static uint8_t bytes[ENGINE_RUN_MAX];
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct buffer value = { 0 };
	struct err err = { "" };
	struct ref run;
	char text[32];
	int rc = 0;
	(void)state;

	assert_int_equal(try_put(e, 1, 1, 20000, true), 0);
	assert_int_equal(engine_checkpoint(e), 0);
	assert_int_equal(engine_get(e, key_of(text, 1), &value, &run), 0);
	for (uint32_t stamp = 2; stamp < 100 && rc == 0; stamp++) {
		assert_int_equal(try_put(e, 1, stamp, 20000, true), 0);
		assert_int_equal(engine_checkpoint(e), 0);
		rc = engine_run_read(e, &run, bytes);
	}
	assert_int_equal(rc, -EBADMSG);
	assert_false(engine_trouble(e, &err));
	engine_run_damaged(e, &run);
	assert_true(engine_trouble(e, &err));
	assert_non_null(strstr(err.text, "is damaged: wrong checksum"));
	buffer_done(&value);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* Who has seen a revision that was lost must never see it with another meaning. */
static void no_revision_is_used_twice_however_often_the_power_goes(void **state)
{
	struct sim *disk = sim_new(1);
	uint64_t last = 0;
	(void)state;

	for (int i = 0; i < 6; i++) {
		struct engine *e = open_engine(disk);
		struct batch batch = { 0 };
		uint64_t revision;

		assert_true(engine_revision(e) >= last);
		batch_put(&batch, slice_str("key"), slice_str("never synced"));
		assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
		assert_true(revision > last);
		last = revision;
		batch_done(&batch);
		if (i % 3 != 2)		/* the power goes, or the store is closed */
			sim_cut_after(disk, 0);
		engine_close(e);
		if (i % 3 != 2)
			sim_reboot(disk, SIM_LOSE, 1);
	}
	sim_free(disk);
}

static void a_full_log_is_emptied_by_a_checkpoint(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct engine_stats stats;
	(void)state;

	for (uint32_t i = 0; i < 3000; i++)
		put(e, i % 100, i, 1000);
	assert_int_equal(engine_stats(e, &stats), 0);
	assert_true(stats.checkpoints > 3);
	for (uint32_t k = 0; k < 100; k++)
		assert_int_equal(holds(e, k, 2900 + k, 1000), 1);
	verified(e);
	engine_close(e);
	sim_free(disk);
}

/* Each brings in a thousand leaves, far more than the few that are written after a small one. */
static void large_batches_leave_no_more_in_memory_than_small_ones(void **state)
{
	const struct engine_options options = { .create = true, .cache = 1 << 20 };
	struct sim *disk = sim_new(1);
	struct engine *e;
	(void)state;

	assert_int_equal(engine_open(sim_os(disk), "/store", &options, &e, NULL), 0);
	for (uint32_t i = 0; i < 60000;) {
		static const char value[200];
		struct batch batch = { 0 };
		struct engine_stats stats;
		uint64_t revision;

		for (int n = 0; n < 1000; n++, i++) {
			const uint32_t key = i * 2654435761u;	/* in no order, each once */

			batch_put(&batch, slice_of(&key, sizeof(key)), slice_of(value, 200));
		}
		assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
		batch_done(&batch);
		assert_int_equal(engine_stats(e, &stats), 0);
		if (stats.memory > 8 << 20)
			fail_msg("%llu bytes after %u keys", (unsigned long long)stats.memory, i);
		if (i % 10000 == 0)
			assert_int_equal(engine_checkpoint(e), 0);
	}
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* ---- faults ----------------------------------------------------------------------------- */

static void an_unreadable_page_fails_that_reading_only(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	for (uint32_t k = 0; k < 500; k++)
		put(e, k, k, 500);
	engine_close(e);
	e = open_engine(disk);
	sim_fail(disk, SIM_READ, 1, -EIO);
	assert_int_equal(holds(e, 3, 3, 500), -EIO);
	assert_int_equal(holds(e, 3, 3, 500), 1);
	put(e, 3, 4, 100);
	verified(e);
	engine_close(e);
	sim_free(disk);
}

/* The map in memory has moved on, the one on disk is what the tree there goes with. */
static void a_store_whose_checkpoint_failed_is_not_called_damaged(void **state)
{
	(void)state;
	for (int64_t nth = 0; nth < 4; nth++) {
		struct sim *disk = sim_new(1);
		struct engine *e = open_engine(disk);

		for (uint32_t k = 0; k < 100; k++)
			put(e, k, k, 500);
		assert_int_equal(engine_checkpoint(e), 0);
		for (uint32_t k = 0; k < 100; k++)
			put(e, k, k + 1, 500);
		sim_fail(disk, SIM_SYNC, nth, -EIO);
		if (engine_checkpoint(e) < 0)
			verified(e);
		engine_close(e);
		sim_free(disk);
	}
}

/* ---- threads ---------------------------------------------------------------------------- */

enum { THREADS = 4, EACH = 300 };

struct crowd {
	struct engine *e;
	uint32_t number;
	atomic_bool *stop;
};

static void *puts_and_reads(void *arg)
{
	struct crowd *c = arg;

	for (uint32_t i = 0; i < EACH; i++) {
		struct batch batch = { 0 };
		struct buffer value = { 0 };
		uint64_t revision;
		char text[32];
		uint8_t bytes[400];
		int rc;

		fill(bytes, i, 100 + i);
		batch_put(&batch, key_of(text, c->number * 1000 + i % 50),
			  slice_of(bytes, 100 + i));
		rc = engine_commit(c->e, &batch, false, &revision);
		if (rc == 0)
			rc = engine_wait_blocking(c->e, revision, i % 3 ? LOG_WRITTEN : LOG_SYNCED);
		if (rc == 0)
			rc = engine_get(c->e, key_of(text, c->number * 1000 + i % 50), &value,
					NULL);
		if (rc == 0 && !slice_equal(buffer_slice(&value), slice_of(bytes, 100 + i)))
			rc = -EILSEQ;
		batch_done(&batch);
		buffer_done(&value);
		if (rc < 0)
			return (void *)(intptr_t)rc;
	}
	return NULL;
}

static void *checkpoints(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(c->stop)) {
		const int rc = engine_checkpoint(c->e);

		if (rc < 0)
			return (void *)(intptr_t)rc;
	}
	return NULL;
}

static void threads_and_checkpoints_do_not_disturb_each_other(void **state)
{
	const struct engine_options options = {
		.create = true, .background = true, .segment_size = 64 * 1024,
		.log_cap = 256 * 1024, .cache = 32 * 1024, .commit_ns = 1000000,
	};
	struct sim *disk = sim_new(1);
	struct crowd crowd[THREADS + 1];
	pthread_t threads[THREADS + 1];
	atomic_bool stop = false;
	struct engine *e;
	void *result;
	(void)state;

	assert_int_equal(try_open(disk, &options, &e, NULL), 0);
	for (uint32_t t = 0; t <= THREADS; t++) {
		crowd[t] = (struct crowd){ e, t, &stop };
		assert_int_equal(pthread_create(&threads[t], NULL,
						t < THREADS ? puts_and_reads : checkpoints,
						&crowd[t]), 0);
	}
	for (uint32_t t = 0; t <= THREADS; t++) {
		if (t == THREADS)
			atomic_store(&stop, true);
		pthread_join(threads[t], &result);
		assert_null(result);
	}
	verified(e);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	for (uint32_t t = 0; t < THREADS; t++)
		for (uint32_t k = 0; k < 50; k++)
			assert_int_equal(holds(e, t * 1000 + k, EACH - 50 + k, EACH + 50 + k), 1);
	engine_close(e);
	sim_free(disk);
}

/* Reads over a cache that is far too small, so that every miss makes the clock's hand turn. */
static void *reads_what_is_not_in_memory(void *arg)
{
	struct crowd *c = arg;
	uint32_t k = c->number;

	while (!atomic_load(c->stop)) {
		struct buffer value = { 0 };
		char text[32];
		const int rc = engine_get(c->e, key_of(text, k), &value, NULL);

		k = (k + 7919) % 3000;
		buffer_done(&value);
		if (rc < 0)
			return (void *)(intptr_t)rc;
	}
	return NULL;
}

/* An address sanitizer is who sees it fail. */
static void what_readers_have_forgotten_is_no_concern_of_a_checkpoint(void **state)
{
	const struct engine_options options = {
		.create = true, .segment_size = 64 * 1024, .log_cap = 1 << 20, .cache = 40 * 1024,
	};
	struct sim *disk = sim_new(1);
	struct crowd crowd[2];
	pthread_t threads[2];
	atomic_bool stop = false;
	struct engine *e;
	void *result;
	(void)state;

	assert_int_equal(try_open(disk, &options, &e, NULL), 0);
	for (uint32_t k = 0; k < 3000; k++)
		put(e, k, k, 300);
	for (uint32_t t = 0; t < 2; t++) {
		crowd[t] = (struct crowd){ e, t, &stop };
		assert_int_equal(pthread_create(&threads[t], NULL, reads_what_is_not_in_memory,
						&crowd[t]), 0);
	}
	for (uint32_t i = 0; i < 150; i++) {
		put(e, i * 17 % 3000, i, 300);
		assert_int_equal(engine_checkpoint(e), 0);
	}
	atomic_store(&stop, true);
	for (uint32_t t = 0; t < 2; t++) {
		pthread_join(threads[t], &result);
		assert_null(result);
	}
	verified(e);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_there_after_reopening),
		cmocka_unit_test(impossible_batches_are_refused),
		cmocka_unit_test(a_patched_value_keeps_its_run),
		cmocka_unit_test(a_patch_in_the_log_of_what_is_not_there_is_damage),
		cmocka_unit_test(a_run_that_was_replaced_meanwhile_is_no_trouble),
		cmocka_unit_test(no_revision_is_used_twice_however_often_the_power_goes),
		cmocka_unit_test(a_full_log_is_emptied_by_a_checkpoint),
		cmocka_unit_test(an_unreadable_page_fails_that_reading_only),
		cmocka_unit_test(threads_and_checkpoints_do_not_disturb_each_other),
		cmocka_unit_test(what_readers_have_forgotten_is_no_concern_of_a_checkpoint),
		cmocka_unit_test(a_store_whose_checkpoint_failed_is_not_called_damaged),
		cmocka_unit_test(large_batches_leave_no_more_in_memory_than_small_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
