/* Bytes of a small store's files are flipped, one at a time: all of the first of each unit, where
 * headers are, and every seventh behind them; which ones, the seed says. EVERY=1 flips them all.
 * What comes of it must be right data, a clear error that names the file, or, in the log's torn
 * tail only and if there is no witness, the state before; never a crash, a hang or wrong data.
 *
 * Units that hold nothing are flipped whole, so that a mostly empty file does not take all day. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"
#include "sim/disk.h"
#include "sim/sanitized.h"
#include "sim/tell.h"

enum { KEYS = 60, LATER = 12, HEADERS = 64, EVERY = 7 * SANITIZED_LESS };

static uint64_t base_seed = 1;

/* ---- vocabulary ------------------------------------------------------------------------- */

static uint32_t size_of(uint32_t k)
{
	return k % 9 == 0 ? 5000 : 100 + k;
}

static void fill(uint8_t *bytes, uint32_t k, uint32_t round)
{
	for (uint32_t i = 0; i < size_of(k); i++)
		bytes[i] = (uint8_t)(k * 59 + round * 101 + i * 13);
}

static int open_engine(struct sim *disk, struct engine **e, struct err *err)
{
	const struct engine_options options = {
		.create = true, .segment_size = 32 * 1024, .log_cap = 128 * 1024,
		.commit_ns = 1,		/* the witness is told of every sync */
	};

	err->text[0] = '\0';
	return engine_open(sim_os(disk), "/store", &options, e, err);
}

static void put(struct engine *e, uint32_t k, uint32_t round)
{
	uint8_t bytes[5000];
	struct batch batch = { 0 };
	struct ref run;
	uint64_t revision;
	char key[16];
	const struct slice name = slice_of(key, (size_t)sprintf(key, "key%u", k));

	fill(bytes, k, round);
	if (k % 9 == 0) {
		assert_int_equal(engine_run_write(e, slice_of(bytes, size_of(k)), &run), 0);
		batch_put_run(&batch, name, &run, slice_str(""));
	} else {
		batch_put(&batch, name, slice_of(bytes, size_of(k)));
	}
	assert_int_equal(engine_commit(e, &batch, false, &revision), 0);
	assert_int_equal(engine_wait_blocking(e, revision, LOG_SYNCED), 0);
	batch_done(&batch);
}

/* Keys of round 1 in the page file, the first LATER of them again, in round 2, in the log. Then the
 * power goes: the log must be read to know them. */
static struct sim *make_store(void)
{
	struct sim *disk = sim_new(base_seed);
	struct engine *e;
	struct err err;

	assert_int_equal(open_engine(disk, &e, &err), 0);
	for (uint32_t k = 0; k < KEYS; k++)
		put(e, k, 1);
	assert_int_equal(engine_checkpoint(e), 0);
	for (uint32_t k = 0; k < LATER; k++)
		put(e, k, 2);
	sim_cut_after(disk, 0);
	engine_close(e);
	sim_reboot(disk, SIM_KEEP, 0);
	return disk;
}

static bool is_damage(int rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -EPROTONOSUPPORT || rc == -EINVAL;
}

/* The round that key k is of; 0 if it cannot be read, with an error that says so. */
static uint32_t round_of(struct engine *e, uint32_t k)
{
	uint8_t wanted[5000], bytes[5000];
	struct buffer value = { 0 };
	struct ref run = { 0 };
	uint32_t round = 0;
	char key[16];
	int rc = engine_get(e, slice_of(key, (size_t)sprintf(key, "key%u", k)), &value, &run);

	if (rc == 0 && run.length) {
		assert_int_equal(run.length, size_of(k));
		rc = engine_run_read(e, &run, bytes);
		if (rc == -EBADMSG)	/* nobody replaced it meanwhile */
			engine_run_damaged(e, &run);
	} else if (rc == 0) {
		assert_int_equal(value.size, size_of(k));
		memcpy(bytes, value.data, value.size);
	}
	buffer_done(&value);
	if (rc < 0) {
		struct err err;

		assert_true(is_damage(rc));
		assert_true(engine_trouble(e, &err) && strstr(err.text, FILE_PAGES));
		return 0;
	}
	for (uint32_t r = 1; r <= 2 && round == 0; r++) {
		fill(wanted, k, r);
		if (memcmp(bytes, wanted, size_of(k)) == 0)
			round = r;
	}
	assert_true(round > 0);		/* else it is wrong data */
	return round;
}

struct tally {
	uint64_t right, refused, unreadable, previous;
};

/* `in_log`: only then the last commit may be gone. */
static void look(struct engine *e, bool in_log, struct tally *t)
{
	bool unreadable = false, previous = false;
	struct err err;

	for (uint32_t k = 0; k < KEYS; k++) {
		const uint32_t round = round_of(e, k);

		unreadable |= round == 0;
		if (round > 0 && round != (k < LATER ? 2 : 1)) {
			assert_true(in_log && k == LATER - 1);
			previous = true;
		}
	}
	if (engine_verify(e, NULL, NULL, &err) != 0) {
		assert_non_null(strstr(err.text, FILE_PAGES));
		unreadable = true;
	}
	t->unreadable += unreadable;
	t->previous += previous && !unreadable;
	t->right += !previous && !unreadable;
}

static void open_damaged(struct sim *disk, const char *name, struct tally *t)
{
	struct engine *e;
	struct err err;
	const int rc = open_engine(disk, &e, &err);

	if (rc < 0) {
		assert_true(is_damage(rc));
		if (!strstr(err.text, strncmp(name, "log", 3) == 0 ? FILE_LOG_PREFIX : FILE_PAGES))
			fail_msg("%s is not named: %s", name, err.text);
		t->refused++;
		return;
	}
	look(e, strncmp(name, "log", 3) == 0, t);
	engine_close(e);
}

/* `at` lies in the unit that begins at `unit`. */
static bool is_chosen(uint64_t unit, uint64_t at)
{
	return at - unit < HEADERS || (at + base_seed) % tell_given("EVERY", EVERY) == 0;
}

/* Flips chosen ones of bytes [from, to), each in a state of its own, or all in one. */
static void flip(struct sim *disk, const char *name, uint64_t from, uint64_t to, bool together,
		 struct tally *t)
{
	for (uint64_t at = from; at < to; at += together ? to - from : 1) {
		struct sim *copy;

		if (!together && !is_chosen(from, at))
			continue;
		copy = sim_clone(disk);
		for (uint64_t i = at; i < (together ? to : at + 1); i++)
			assert_int_equal(
				sim_flip(copy, name, i, (uint8_t)(1 << ((i * 5 + i / 8) % 8))), 0);
		open_damaged(copy, name, t);
		sim_free(copy);
	}
}

static bool is_empty(const uint8_t *unit)
{
	for (size_t i = 0; i < UNIT; i++)
		if (unit[i])
			return false;
	return true;
}

static void flip_file(struct sim *disk, const char *name, struct tally *t)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;
	struct os_file *file;
	uint64_t size;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->open(dir, name, 0, &file), 0);
	assert_int_equal(os->size(file, &size), 0);
	for (uint64_t at = 0; at < size; at += UNIT) {
		uint8_t unit[UNIT];

		assert_int_equal(os->read(file, unit, UNIT, at), UNIT);
		flip(disk, name, at, at + UNIT, is_empty(unit), t);
	}
	os->close(file);
	os->close_dir(dir);
}

static void report(const char *name, const struct tally *t)
{
	print_message("%s: %llu right, %llu refused, %llu with unreadable keys, %llu without the "
		      "last commit\n", name, (unsigned long long)t->right,
		      (unsigned long long)t->refused, (unsigned long long)t->unreadable,
		      (unsigned long long)t->previous);
}

/* ---- stories ---------------------------------------------------------------------------- */

static void a_flipped_byte_of_the_page_file_is_found_or_harmless(void **state)
{
	struct sim *disk = make_store();
	struct tally t = { 0 };
	(void)state;

	flip_file(disk, FILE_PAGES, &t);
	report(FILE_PAGES, &t);
	assert_int_equal(t.previous, 0);
	assert_true(t.unreadable > 0 && t.right > 0);
	sim_free(disk);
}

static int collect(void *arg, const char *name)
{
	char (*names)[32] = arg;

	if (strncmp(name, FILE_LOG_PREFIX, strlen(FILE_LOG_PREFIX)) != 0)
		return 0;
	while ((*names)[0])
		names++;
	snprintf(*names, sizeof(*names), "%s", name);
	return 0;
}

static void find_log(struct sim *disk, char names[8][32])
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->list(dir, collect, names), 0);
	os->close_dir(dir);
}

static void flip_log(struct sim *disk, struct tally *t)
{
	char names[8][32] = { "" };

	find_log(disk, names);
	for (int i = 0; names[i][0]; i++)
		flip_file(disk, names[i], t);
}

static void remove_file(struct sim *disk, const char *name)
{
	struct os *os = sim_os(disk);
	struct os_dir *dir;

	assert_int_equal(os->open_dir(os, "/store", 0, &dir), 0);
	assert_int_equal(os->remove(dir, name), 0);
	os->close_dir(dir);
}

static void a_flipped_byte_of_the_log_is_found_or_harmless(void **state)
{
	struct sim *disk = make_store();
	struct tally t = { 0 };
	(void)state;

	flip_log(disk, &t);
	report("log", &t);
	assert_int_equal(t.unreadable + t.previous, 0);
	assert_true(t.refused > 0 && t.right > 0);
	sim_free(disk);
}

static void without_a_witness_it_cuts_off_the_last_commit_at_worst(void **state)
{
	struct sim *disk = make_store();
	struct tally t = { 0 };
	(void)state;

	remove_file(disk, FILE_WITNESS);
	flip_log(disk, &t);
	report("log without a witness", &t);
	assert_int_equal(t.unreadable, 0);
	assert_true(t.refused > 0 && t.previous > 0 && t.right > 0);
	sim_free(disk);
}

static void a_flipped_byte_of_the_witness_is_harmless(void **state)
{
	struct sim *disk = make_store();
	struct tally t = { 0 };
	(void)state;

	flip_file(disk, FILE_WITNESS, &t);
	report(FILE_WITNESS, &t);
	assert_int_equal(t.refused + t.unreadable + t.previous, 0);
	sim_free(disk);
}

static void a_missing_log_segment_is_noticed(void **state)
{
	struct sim *disk = make_store();
	char names[8][32] = { "" };
	struct tally t = { 0 };
	uint64_t files = 0;
	(void)state;

	find_log(disk, names);
	for (; names[files][0]; files++) {
		struct sim *copy = sim_clone(disk);

		remove_file(copy, names[files]);
		open_damaged(copy, "log", &t);
		sim_free(copy);
	}
	assert_true(files > 2);
	assert_int_equal(t.refused, files);
	sim_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flipped_byte_of_the_page_file_is_found_or_harmless),
		cmocka_unit_test(a_flipped_byte_of_the_log_is_found_or_harmless),
		cmocka_unit_test(without_a_witness_it_cuts_off_the_last_commit_at_worst),
		cmocka_unit_test(a_flipped_byte_of_the_witness_is_harmless),
		cmocka_unit_test(a_missing_log_segment_is_noticed),
	};
	const char *seed = getenv("SEED");

	if (seed)
		base_seed = strtoull(seed, NULL, 10);
	print_message("SEED=%llu\n", (unsigned long long)base_seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
