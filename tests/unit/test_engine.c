/* The engine over a disk that fills up and is tampered with. Faults one by one are in
 * test_engine_faults.c, stories drawn by lot in test_engine_model.c, power cuts in tests/crash. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine.h"
#include "mem.h"
#include "page.h"
#include "sim/disk.h"
#include "sum.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

static const struct engine_options small = {
	.create = true, .segment_size = 64 * 1024, .log_cap = 256 * 1024,
};

static int try_open(struct sim *disk, const struct engine_options *options, struct engine **e,
		    struct err *err)
{
	return engine_open(sim_os(disk), "/store", options, e, err);
}

static struct engine *open_engine(struct sim *disk)
{
	struct engine *e;
	struct err err;

	if (try_open(disk, &small, &e, &err) != 0)
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

static int try_put(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size, bool run)
{
	static _Thread_local uint8_t bytes[ENGINE_RUN_MAX];
	struct batch batch = { 0 };
	struct ref ref = { 0 };
	uint64_t revision;
	char text[32];
	int rc = 0;

	fill(bytes, stamp, size);
	if (run)
		rc = engine_run_write(e, slice_of(bytes, size), &ref);
	if (rc == 0) {
		if (run)
			batch_put_run(&batch, key_of(text, k), &ref, slice_of(&stamp, 4));
		else
			batch_put(&batch, key_of(text, k), slice_of(bytes, size));
		rc = engine_commit(e, &batch, false, &revision);
		if (rc < 0 && run)
			engine_run_drop(e, &ref);
	}
	if (rc == 0)
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

static void put(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size)
{
	assert_int_equal(try_put(e, k, stamp, size, false), 0);
}

static int try_delete(struct engine *e, uint32_t k)
{
	struct batch batch = { 0 };
	uint64_t revision;
	char text[32];
	int rc;

	batch_delete(&batch, key_of(text, k));
	rc = engine_commit(e, &batch, true, &revision);
	if (rc == 0)
		rc = engine_wait_blocking(e, revision, LOG_SYNCED);
	batch_done(&batch);
	return rc;
}

/* 1: it holds just that; 0: there is no such key; else an error. */
static int holds(struct engine *e, uint32_t k, uint32_t stamp, uint32_t size)
{
	static uint8_t bytes[ENGINE_RUN_MAX], wanted[ENGINE_RUN_MAX];
	struct buffer value = { 0 };
	struct ref run;
	char text[32];
	int rc = engine_get(e, key_of(text, k), &value, &run);

	fill(wanted, stamp, size);
	if (rc == 0 && run.length) {
		rc = engine_run_read(e, &run, bytes);
		if (rc == 0)
			rc = run.length == size && memcmp(bytes, wanted, size) == 0 ? 1 : -EILSEQ;
	} else if (rc == 0) {
		rc = slice_equal(buffer_slice(&value), slice_of(wanted, size)) ? 1 : -EILSEQ;
	}
	buffer_done(&value);
	return rc == -ENOENT ? 0 : rc;
}

static void verified(struct engine *e)
{
	struct err err;

	if (engine_verify(e, NULL, NULL, &err) != 0)
		fail_msg("verify: %s", err.text);
}

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

static void a_second_opener_is_told_who_has_it(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk), *second = NULL;
	struct err err;
	(void)state;

	assert_int_equal(try_open(disk, &small, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use by process"));
	assert_null(second);
	engine_close(e);
	e = open_engine(disk);
	engine_close(e);
	sim_free(disk);
}

static void what_is_no_store_is_refused_and_left_alone(void **state)
{
	struct sim *disk = sim_new(1);
	struct os *os = sim_os(disk);
	struct engine *e;
	struct os_dir *dir;
	struct os_file *file;
	struct err err;
	(void)state;

	assert_int_equal(os->open_dir(os, "/store", OS_CREATE, &dir), 0);
	assert_int_equal(os->open(dir, "letters", OS_CREATE, &file), 0);
	os->close(file);
	assert_int_equal(try_open(disk, &small, &e, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no cubby store"));
	assert_int_equal(os->open(dir, FILE_PAGES, 0, &file), -ENOENT);
	os->close_dir(dir);
	sim_free(disk);
}

static void leave_creating(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, "creating", OS_CREATE, &file), 0);
	os->close(file);
	os->close_dir(dir);
}

/* A copy of the folder may have brought the file along, or somebody made it by hand. */
static void a_store_with_data_is_never_made_afresh(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct err err;
	(void)state;

	put(e, 1, 7, 200);
	engine_close(e);
	leave_creating(disk);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	put(e, 2, 8, 60000);
	engine_close(e);
	leave_creating(disk);
	e = open_engine(disk);
	assert_int_equal(holds(e, 2, 8, 60000), 1);
	engine_close(e);

	/* and all superblocks rot */
	leave_creating(disk);
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(sim_flip(disk, FILE_PAGES, i * UNIT, 1), 0);
	assert_int_equal(try_open(disk, &small, &e, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "no good superblock"));
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(sim_flip(disk, FILE_PAGES, i * UNIT, 1), 0);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	assert_int_equal(holds(e, 2, 8, 60000), 1);
	engine_close(e);
	sim_free(disk);
}

/* The first commits of a store are in its log only, however it ends. */
static void a_young_store_that_was_killed_is_not_made_afresh_either(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	put(e, 1, 7, 200);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_LOSE, 1);
	leave_creating(disk);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 7, 200), 1);
	engine_close(e);
	sim_free(disk);
}

/* Whatever is left of a creation that was cut, the next one makes the store; and if the first one
 * was through, what was put into it stays. */
static void a_creation_may_be_cut_at_any_moment(void **state)
{
	bool made = false;
	(void)state;

	for (int64_t cut = 0; !made; cut++)
		for (uint64_t n = 0; n < 4 * SIM_FATES; n++) {
			struct sim *disk = sim_new(1);
			struct engine *e = NULL;
			struct err err;

			sim_cut_after(disk, cut);
			made = try_open(disk, &small, &e, &err) == 0;
			sim_cut_after(disk, made ? -1 : 0);
			if (made)
				put(e, 1, 7, 200);
			sim_cut_after(disk, 0);
			engine_close(e);
			sim_reboot(disk, (enum sim_fate)(n % SIM_FATES), n);
			e = open_engine(disk);
			assert_int_equal(holds(e, 1, 7, 200), made);
			put(e, 1, 8, 300);
			sim_cut_after(disk, 0);
			engine_close(e);
			sim_reboot(disk, (enum sim_fate)(n / 4 % SIM_FATES), n);
			e = open_engine(disk);
			assert_int_equal(holds(e, 1, 8, 300), 1);
			verified(e);
			assert_int_equal(engine_close(e), 0);
			sim_free(disk);
		}
}

/* An impossible version, with a good checksum, in both slots. */
static void another_format_is_refused_by_its_number(void **state)
{
	struct sim *disk = sim_new(1);
	struct os *os = sim_os(disk);
	struct engine *e = open_engine(disk);
	struct os_dir *dir;
	struct os_file *file;
	struct err err;
	uint8_t unit[UNIT];
	(void)state;

	engine_close(e);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_PAGES, 0, &file), 0);
	assert_int_equal(os->read(file, unit, UNIT, UNIT), UNIT);
	put32(unit + SUPER_VERSION, 77);
	put64(unit + SUPER_SUM, sum64(unit, SUPER_SUM));
	for (uint64_t i = 0; i < SUPER_UNITS; i++)
		assert_int_equal(os->write(file, unit, UNIT, i * UNIT), 0);
	os->close(file);
	os->close_dir(dir);
	assert_int_equal(try_open(disk, &small, &e, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.text, "77"));
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

static uint64_t reads_to_open(uint32_t keys)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t before;

	for (uint32_t k = 0; k < keys; k++)
		put(e, k, k, 500);
	assert_int_equal(engine_close(e), 0);
	before = sim_count(disk, SIM_READ);
	e = open_engine(disk);
	before = sim_count(disk, SIM_READ) - before;
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
	return before;
}

static void opening_reads_no_more_of_a_large_store(void **state)
{
	(void)state;
	/* Superblocks, and sizes and headers of segments, of which there are two to four. */
	assert_true(reads_to_open(4000) <= reads_to_open(10) + 4);
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

/* Fills the disk with values of `size`; how many there are. */
static uint32_t fill_up(struct engine *e, uint32_t size, bool run)
{
	uint32_t k = 0;
	int rc;

	while ((rc = try_put(e, k, k, size, run)) == 0)
		k++;
	assert_int_equal(rc, -ENOSPC);
	return k;
}

/* Free units lie in single quads all over a disk that is full: what is accepted then, however long,
 * has its place in the checkpoint. */
static void what_is_accepted_on_a_scattered_disk_fits_its_checkpoint(void **state)
{
	(void)state;
	for (uint32_t hole = 2; hole < 5; hole++) {
		struct sim *disk = sim_new(hole);
		uint32_t count, accepted = 0, refused = 0;
		struct engine *e;

		sim_limit(disk, 24 << 20);
		e = open_engine(disk);
		count = fill_up(e, 12000, false);
		for (uint32_t k = 0; k < count; k++)
			if (k % hole)
				assert_int_equal(try_delete(e, k), 0);
		assert_int_equal(engine_checkpoint(e), 0);
		for (uint32_t k = 0; k < 400; k++) {
			const uint32_t size = k % 3 ? 17000 + k * 211 % 38000 : 56000;
			const int rc = try_put(e, 10000 + k % 250, k, size, false);

			assert_true(rc == 0 || rc == -ENOSPC);
			accepted += rc == 0;
			refused += rc != 0;
			if (k % 9 == 0)
				assert_int_equal(engine_checkpoint(e), 0);
		}
		assert_int_equal(engine_checkpoint(e), 0);
		assert_true(accepted > 20 && refused > 20);
		verified(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
}

static uint64_t file_bytes(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;
	uint64_t size;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, "pages", 0, &file), 0);
	assert_int_equal(os->size(file, &size), 0);
	os->close(file);
	os->close_dir(dir);
	return size;
}

static void checkpoint_often(struct engine *e, int count)
{
	while (count-- > 0) {
		put(e, 1000000, (uint32_t)count, 10);
		assert_int_equal(engine_checkpoint(e), 0);
	}
}

/* Dead blocks are free after one checkpoint, left out of the map by the next, and no superblock
 * counts them after one more. */
static void the_end_of_the_file_is_given_back_when_it_is_free(void **state)
{
	const uint32_t size = 60000, count = 600;
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct engine_stats stats;
	uint64_t full, cut;
	(void)state;

	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(try_put(e, k, k, size, true), 0);
	checkpoint_often(e, 3);
	full = file_bytes(disk);
	assert_true(full > (uint64_t)count * size);
	for (uint32_t k = count / 10; k < count; k++)
		assert_int_equal(try_delete(e, k), 0);
	checkpoint_often(e, 4);
	cut = file_bytes(disk);
	assert_true(cut < full / 4);
	assert_int_equal(engine_stats(e, &stats), 0);
	assert_int_equal(stats.page_bytes, cut);
	for (uint32_t k = 0; k < count / 10; k++)
		assert_int_equal(holds(e, k, k, size), 1);
	verified(e);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	verified(e);
	assert_true(file_bytes(disk) <= cut);
	engine_close(e);
	sim_free(disk);
}

static void what_was_deleted_makes_room_for_what_is_new(void **state)
{
	const uint32_t size = 60000, count = 400;
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t full;
	(void)state;

	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(try_put(e, k, k, size, true), 0);
	checkpoint_often(e, 3);
	full = file_bytes(disk);
	for (int round = 0; round < 3; round++) {
		for (uint32_t k = 0; k < count; k++)
			if (k % 10)
				assert_int_equal(try_delete(e, k), 0);
		checkpoint_often(e, 3);
		for (uint32_t k = 0; k < count; k++)
			if (k % 10)
				assert_int_equal(try_put(e, k, k, size, true), 0);
		checkpoint_often(e, 3);
		assert_true(file_bytes(disk) <= full + (1 << 20));
	}
	verified(e);
	engine_close(e);
	sim_free(disk);
}

/* It grew for a reason, and shrinks only when that is long past. */
static void a_file_does_not_grow_and_shrink_all_the_time(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	uint64_t grown = 0, cut = 0;
	(void)state;

	for (uint32_t round = 0; round < 30; round++) {
		if (round == 5) {
			grown = sim_count(disk, SIM_ALLOCATE);
			cut = sim_count(disk, SIM_TRUNCATE);
		}
		for (uint32_t k = 0; k < 40; k++)
			assert_int_equal(try_put(e, k, round, 50000, true), 0);
		checkpoint_often(e, 1);
		for (uint32_t k = 0; k < 40; k++)
			assert_int_equal(try_delete(e, k), 0);
		checkpoint_often(e, 1);
	}
	assert_true(sim_count(disk, SIM_ALLOCATE) - grown <= 4);
	assert_true(sim_count(disk, SIM_TRUNCATE) - cut <= 4);
	engine_close(e);
	sim_free(disk);
}

static void full_and_empty_and_full(uint32_t size, bool run)
{
	struct sim *disk = sim_new(1);
	struct engine *e;
	uint32_t count;

	sim_limit(disk, 24 << 20);
	e = open_engine(disk);
	count = fill_up(e, size, run);
	assert_true((uint64_t)count * size > 12 << 20);
	for (int round = 0; round < 4; round++) {
		for (uint32_t k = 0; k < count / 2; k++)
			assert_int_equal(try_delete(e, k), 0);
		/* Not to the last one: leaves are no longer as full, nor free units in
		 * rows as long. */
		for (uint32_t k = 0; k < count * 9 / 20; k++)
			assert_int_equal(try_put(e, k, k, size, run), 0);
		for (uint32_t k = 0; k < count; k++)
			assert_int_equal(holds(e, k, k, size),
					 k < count * 9 / 20 || k >= count / 2);
	}
	verified(e);
	assert_int_equal(engine_close(e), 0);
	e = open_engine(disk);
	for (uint32_t k = 0; k < count; k++)
		assert_int_equal(holds(e, k, k, size), k < count * 9 / 20 || k >= count / 2);
	engine_close(e);
	sim_free(disk);
}

static void on_a_full_disk_deleting_makes_room(void **state)
{
	(void)state;
	full_and_empty_and_full(3000, false);
	full_and_empty_and_full(300, false);
	full_and_empty_and_full(36000, false);
}

static void on_a_full_disk_deleting_runs_makes_room(void **state)
{
	(void)state;
	full_and_empty_and_full(64 * 1024, true);
	full_and_empty_and_full(200 * 1024, true);
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

/* The kernel shows to whoever opens the store next what it has given up writing. */
static void a_run_that_a_failed_sync_left_is_durable_once_the_store_is_open(void **state)
{
	int found = 0;
	(void)state;

	for (uint64_t seed = 1; seed < 40; seed++) {
		struct sim *disk = sim_new(seed);
		struct engine *e = open_engine(disk);
		bool there;

		put(e, 1, 1, 100);
		sim_fail(disk, SIM_SYNC, (int64_t)(seed % 2), -EIO);
		assert_true(try_put(e, 2, 2, 60000, true) < 0);
		engine_close(e);
		e = open_engine(disk);
		there = holds(e, 2, 2, 60000) == 1;
		found += there;
		put(e, 3, 3, 100);
		sim_cut_after(disk, 0);
		engine_close(e);
		sim_reboot(disk, SIM_LOSE, seed);
		e = open_engine(disk);
		assert_int_equal(holds(e, 2, 2, 60000), there);
		assert_int_equal(holds(e, 3, 3, 100), 1);
		verified(e);
		assert_int_equal(engine_close(e), 0);
		sim_free(disk);
	}
	assert_true(found > 0);
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

/* Would the witness tell something after a crash now? */
static bool witness_tells(struct sim *disk, enum sim_fate fate)
{
	struct sim *copy = sim_clone(disk);
	struct os *os = sim_os(copy);
	uint8_t bytes[WITNESS_SIZE];
	struct os_file *file;
	struct os_dir *dir;

	sim_reboot(copy, fate, 0);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_WITNESS, 0, &file), 0);
	assert_int_equal(os->read(file, bytes, sizeof(bytes), 0), sizeof(bytes));
	os->close(file);
	os->close_dir(dir);
	sim_free(copy);
	return memcmp(bytes + WITNESS_MAGIC, WITNESS_MAGIC_TEXT, 8) == 0;
}

static void the_background_keeps_what_the_witness_tells(void **state)
{
	const struct engine_options options = {
		.create = true, .background = true, .segment_size = 64 * 1024,
		.log_cap = 256 * 1024, .commit_ns = 1000000,
	};
	struct sim *disk = sim_new(1);
	struct engine *e;
	(void)state;

	assert_int_equal(try_open(disk, &options, &e, NULL), 0);
	put(e, 1, 1, 100);
	while (!witness_tells(disk, SIM_LOSE))
		usleep(1000);
	assert_int_equal(engine_close(e), 0);
	sim_free(disk);
}

/* As one of before there were any. */
static void a_store_without_a_witness_gets_one(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	(void)state;

	put(e, 1, 1, 100);
	assert_int_equal(engine_close(e), 0);
	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->remove(dir, FILE_WITNESS), 0);
	os->close_dir(dir);
	e = open_engine(disk);
	assert_int_equal(holds(e, 1, 1, 100), 1);
	put(e, 2, 2, 100);
	assert_true(witness_tells(disk, SIM_KEEP));
	assert_int_equal(engine_close(e), 0);
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

/* Does the newest superblock say that nothing was committed behind it? */
static bool says_closed(struct sim *disk)
{
	struct os *os = sim_os(disk);
	struct super super, newest = { .generation = 0 };
	uint8_t unit[UNIT];
	struct os_dir *dir;
	struct os_file *file;
	uint32_t version;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, FILE_PAGES, 0, &file), 0);
	for (uint64_t i = 0; i < SUPER_UNITS; i++) {
		assert_int_equal(os->read(file, unit, UNIT, i * UNIT), UNIT);
		if (super_decode(unit, &super, &version) == 0 &&
		    super.generation > newest.generation)
			newest = super;
	}
	os->close(file);
	os->close_dir(dir);
	return newest.mark.closed;
}

/* Or a damaged log behind it would be taken for one that ended there. */
static void a_store_says_that_it_is_closed_only_while_it_is(void **state)
{
	struct sim *disk = sim_new(1);
	struct engine *e = open_engine(disk);
	(void)state;

	for (uint32_t i = 0; i < 3; i++) {
		put(e, i, i, 100);
		assert_false(says_closed(disk));
		assert_int_equal(engine_checkpoint(e), 0);
		assert_false(says_closed(disk));
		assert_int_equal(engine_close(e), 0);
		assert_true(says_closed(disk));
		e = open_engine(disk);
		assert_false(says_closed(disk));
	}
	assert_int_equal(engine_close(e), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_end_of_the_file_is_given_back_when_it_is_free),
		cmocka_unit_test(what_was_deleted_makes_room_for_what_is_new),
		cmocka_unit_test(a_file_does_not_grow_and_shrink_all_the_time),
		cmocka_unit_test(what_is_accepted_on_a_scattered_disk_fits_its_checkpoint),
		cmocka_unit_test(what_was_put_is_there_after_reopening),
		cmocka_unit_test(a_second_opener_is_told_who_has_it),
		cmocka_unit_test(what_is_no_store_is_refused_and_left_alone),
		cmocka_unit_test(a_store_with_data_is_never_made_afresh),
		cmocka_unit_test(a_young_store_that_was_killed_is_not_made_afresh_either),
		cmocka_unit_test(a_creation_may_be_cut_at_any_moment),
		cmocka_unit_test(another_format_is_refused_by_its_number),
		cmocka_unit_test(impossible_batches_are_refused),
		cmocka_unit_test(a_patched_value_keeps_its_run),
		cmocka_unit_test(a_patch_in_the_log_of_what_is_not_there_is_damage),
		cmocka_unit_test(a_run_that_was_replaced_meanwhile_is_no_trouble),
		cmocka_unit_test(no_revision_is_used_twice_however_often_the_power_goes),
		cmocka_unit_test(opening_reads_no_more_of_a_large_store),
		cmocka_unit_test(a_full_log_is_emptied_by_a_checkpoint),
		cmocka_unit_test(on_a_full_disk_deleting_makes_room),
		cmocka_unit_test(on_a_full_disk_deleting_runs_makes_room),
		cmocka_unit_test(an_unreadable_page_fails_that_reading_only),
		cmocka_unit_test(the_background_keeps_what_the_witness_tells),
		cmocka_unit_test(a_store_without_a_witness_gets_one),
		cmocka_unit_test(a_run_that_a_failed_sync_left_is_durable_once_the_store_is_open),
		cmocka_unit_test(threads_and_checkpoints_do_not_disturb_each_other),
		cmocka_unit_test(what_readers_have_forgotten_is_no_concern_of_a_checkpoint),
		cmocka_unit_test(a_store_whose_checkpoint_failed_is_not_called_damaged),
		cmocka_unit_test(a_store_says_that_it_is_closed_only_while_it_is),
		cmocka_unit_test(large_batches_leave_no_more_in_memory_than_small_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
