/* Files of a store that are missing, cut short, of another store, or of another time: an older
 * copy put back, as a careless restore does. The store must be refused, with a sentence that
 * names the file, or be as it was; and never be taken for something that it is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log_frame.h"
#include "sim/medium.h"
#include "sim/play.h"

/* No checkpoint but those that a story asks for, so that the log has several segments. */
static const struct mix mix = {
	.name = "long logs", .keys = 60, .value_max = 6000, .run_max = 20000,
	.weights = {
		[STEP_PUT] = 200, [STEP_RUN] = 6, [STEP_PATCH] = 40, [STEP_DELETE] = 70,
		[STEP_COMMIT] = 140, [STEP_WRITTEN] = 20, [STEP_SYNCED] = 60,
	},
	.options = { .create = true, .segment_size = 48 * 1024, .log_cap = 16 << 20 },
};

/* ---- vocabulary ------------------------------------------------------------------------- */

static void begin(struct play *p, uint64_t seed)
{
	play_begin(p, &mix, seed);
}

/* Each with one commit: so it is known what the last one covers. */
static const struct step two_syncs[] = {
	{ .kind = STEP_PUT, .key = 1, .size = 100, .stamp = 1000001 }, { .kind = STEP_COMMIT },
	{ .kind = STEP_SYNCED },
	{ .kind = STEP_PUT, .key = 2, .size = 100, .stamp = 1000002 }, { .kind = STEP_COMMIT },
	{ .kind = STEP_SYNCED },
};

static void told(struct play *p, uint64_t seed, size_t steps)
{
	struct story story = story_draw(&mix, seed, steps);

	if (!play(p, &story))
		fail_msg("%s", p->wrong);
	story_done(&story);
	story = (struct story){ (struct step *)two_syncs,
				sizeof(two_syncs) / sizeof(two_syncs[0]) };
	if (!play(p, &story))
		fail_msg("%s", p->wrong);
}

static void checkpoint(struct play *p)
{
	assert_int_equal(engine_checkpoint(p->engine), 0);
}

/* The process dies with everything on disk: the log must be read to know it. */
static void die(struct play *p)
{
	sim_cut_after(p->disk, 0);
	play_abandon(p);
	sim_reboot(p->disk, SIM_KEEP, 0);
}

struct files {
	char names[64][32];
	int count;
};

static int add_name(void *arg, const char *name)
{
	struct files *f = arg;

	if (strncmp(name, FILE_LOG_PREFIX, strlen(FILE_LOG_PREFIX)) == 0)
		snprintf(f->names[f->count++], sizeof(f->names[0]), "%s", name);
	return 0;
}

static struct os_dir *dir_of(struct sim *disk)
{
	struct os_dir *dir;

	assert_int_equal(sim_os(disk)->open_dir(sim_os(disk), "/store", 0, &dir), 0);
	return dir;
}

static struct files files_of_log(struct sim *disk)
{
	struct os_dir *dir = dir_of(disk);
	struct files f = { .count = 0 };

	assert_int_equal(sim_os(disk)->list(dir, add_name, &f), 0);
	sim_os(disk)->close_dir(dir);
	return f;
}

/* What its header says; 0: it has none. */
static uint64_t sequence_of(struct sim *disk, const char *name)
{
	struct os_dir *dir = dir_of(disk);
	struct segment_header header = { .sequence = 0 };
	uint8_t bytes[SEGMENT_HEADER] = { 0 };	/* half-made ones have less */
	struct os_file *file;
	uint32_t version;

	assert_int_equal(sim_os(disk)->open(dir, name, 0, &file), 0);
	assert_true(sim_os(disk)->read(file, bytes, sizeof(bytes), 0) >= 0);
	sim_os(disk)->close(file);
	sim_os(disk)->close_dir(dir);
	return segment_decode(&header, bytes, &version) == 0 ? header.sequence : 0;
}

static void remove_file(struct sim *disk, const char *name)
{
	struct os_dir *dir = dir_of(disk);

	assert_int_equal(sim_os(disk)->remove(dir, name), 0);
	assert_int_equal(sim_os(disk)->sync_dir(dir), 0);
	sim_os(disk)->close_dir(dir);
}

/* Cuts the file to `size` bytes. */
static void cut_file(struct sim *disk, const char *name, uint64_t size)
{
	struct os_dir *dir = dir_of(disk);
	struct os_file *file;

	assert_int_equal(sim_os(disk)->open(dir, name, 0, &file), 0);
	assert_int_equal(sim_os(disk)->truncate(file, size), 0);
	assert_int_equal(sim_os(disk)->sync(file), 0);
	sim_os(disk)->close(file);
	sim_os(disk)->close_dir(dir);
}

/* Replaces (or makes) a file of `to` by what `from` has under that name. */
static void put_back(struct sim *to, struct sim *from, const char *name)
{
	struct os_dir *from_dir = dir_of(from), *to_dir = dir_of(to);
	struct os_file *file;
	uint64_t size;
	uint8_t *bytes;

	assert_int_equal(sim_os(from)->open(from_dir, name, 0, &file), 0);
	assert_int_equal(sim_os(from)->size(file, &size), 0);
	bytes = sim_alloc(size);
	assert_int_equal(sim_os(from)->read(file, bytes, size, 0), (ssize_t)size);
	sim_os(from)->close(file);
	assert_int_equal(sim_os(to)->open(to_dir, name, OS_CREATE, &file), 0);
	assert_int_equal(sim_os(to)->truncate(file, 0), 0);
	assert_int_equal(sim_os(to)->write(file, bytes, size, 0), 0);
	assert_int_equal(sim_os(to)->sync(file), 0);
	sim_os(to)->close(file);
	assert_int_equal(sim_os(to)->sync_dir(to_dir), 0);
	free(bytes);
	sim_os(from)->close_dir(from_dir);
	sim_os(to)->close_dir(to_dir);
}

struct tally {
	unsigned right, refused, unreadable, older;
};

static bool is_damage(int rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -EINVAL;
}

/* What was found does not compare: then it must be because some of it cannot be read, which is
 * said. */
static void must_be_unreadable(struct engine *e, const char *wrong)
{
	struct err err;

	if (!strstr(wrong, "-74") && !strstr(wrong, "-117"))
		fail_msg("taken for what it is not: %s", wrong);
	if (strncmp(wrong, "run ", 4) != 0)	/* of a run who needs it says so */
		assert_true(engine_trouble(e, &err) && strstr(err.text, FILE_PAGES));
}

/* Opens the tampered store, which is given up afterwards. It may be as after any commit from `from`
 * on. `name`: of the file, or what it begins with. */
static void look_back(struct sim *disk, const struct play *p, uint32_t from, const char *name,
		      struct tally *t)
{
	char wrong[PLAY_WRONG_SIZE] = "";
	struct engine *e;
	struct seen seen;
	struct err err;
	const int rc = engine_open(sim_os(disk), "/store", &mix.options, &e, &err);

	if (rc < 0) {
		if (!is_damage(rc) || !strstr(err.text, name))
			fail_msg("%s: refused with %d: %s", name, rc, err.text);
		t->refused++;
	} else if (look_compare(e, &p->moments, from, p->progress.tried, &seen, wrong)) {
		if (engine_verify(e, NULL, NULL, &err) != 0)
			fail_msg("%s: verify: %s", name, err.text);
		t->right += seen.commit == p->progress.tried;
		t->older += seen.commit < p->progress.tried;
	} else {
		must_be_unreadable(e, wrong);
		t->unreadable++;
	}
	if (rc == 0)
		engine_close(e);
	sim_free(disk);
}

static void look(struct sim *disk, const struct play *p, const char *name, struct tally *t)
{
	look_back(disk, p, p->progress.acknowledged, name, t);
}

static void report(const char *what, const struct tally *t)
{
	print_message("%s: %u right, %u refused, %u with unreadable keys, %u older\n", what,
		      t->right, t->refused, t->unreadable, t->older);
}

/* A checkpoint, then several segments of log; not closed. */
static void tell_long_log(struct play *p, uint64_t seed)
{
	begin(p, seed);
	told(p, seed, 400);
	checkpoint(p);
	told(p, seed + 1, 1500);
	die(p);
}

/* ---- superblocks ------------------------------------------------------------------------ */

static void spoil_units(struct sim *disk, unsigned units)
{
	for (unsigned unit = 0; unit < SUPER_UNITS; unit++)
		if (units >> unit & 1)
			assert_int_equal(sim_flip(disk, FILE_PAGES, unit * UNIT + 100, 0x10), 0);
}

/* Any set of the four; only if both copies of both slots are gone must it be refused. */
static void damaged_superblocks_are_made_up_for_or_refused(void **state)
{
	struct play p;
	(void)state;

	for (int clean = 0; clean < 2; clean++) {
		struct tally t = { 0 };

		begin(&p, 3);
		told(&p, 3, 400);
		checkpoint(&p);
		told(&p, 4, 400);
		if (clean)
			assert_true(play_close(&p));
		else
			die(&p);
		for (unsigned units = 0; units < 1u << SUPER_UNITS; units++) {
			struct tally one = { 0 };
			struct sim *disk = sim_clone(p.disk);
			const bool slots[] = { (units & 5) == 5, (units & 10) == 10 };

			spoil_units(disk, units);
			look(disk, &p, FILE_PAGES, &one);
			assert_int_equal(one.unreadable, 0);
			if (!slots[0] && !slots[1])
				assert_int_equal(one.right, 1);
			if (slots[0] && slots[1])
				assert_int_equal(one.refused, 1);
			t.right += one.right;
			t.refused += one.refused;
		}
		report(clean ? "superblocks after closing" : "superblocks after a crash", &t);
		play_end(&p);
	}
}

/* ---- the log ---------------------------------------------------------------------------- */

static void a_missing_segment_is_noticed(void **state)
{
	struct tally t = { 0 };
	struct files f;
	struct play p;
	(void)state;

	tell_long_log(&p, 5);
	f = files_of_log(p.disk);
	assert_true(f.count > 4);
	for (int i = 0; i < f.count; i++) {
		struct sim *disk = sim_clone(p.disk);

		remove_file(disk, f.names[i]);
		look(disk, &p, f.names[i], &t);
	}
	for (int i = 0; i < f.count; i++)	/* and all of them at once */
		remove_file(p.disk, f.names[i]);
	look(sim_clone(p.disk), &p, FILE_LOG_PREFIX, &t);
	report("missing", &t);
	assert_int_equal(t.unreadable, 0);
	assert_int_equal(t.older, 0);
	assert_true(t.refused >= (unsigned)f.count - 1);	/* else it was never written to */
	play_end(&p);
}

static void a_segment_that_was_cut_short_is_noticed(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 4095, 4096, 5000, 20480, 45056, 49151 };
	struct tally t = { 0 };
	struct files f;
	struct play p;
	(void)state;

	tell_long_log(&p, 6);
	f = files_of_log(p.disk);
	for (int i = 0; i < f.count; i++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			struct sim *disk = sim_clone(p.disk);

			cut_file(disk, f.names[i], sizes[s]);
			look(disk, &p, FILE_LOG_PREFIX, &t);
		}
	report("cut short", &t);
	assert_int_equal(t.unreadable, 0);
	assert_int_equal(t.older, 0);
	play_end(&p);
}

/* Unless it was never used, so that nothing says whose it is. */
static void a_segment_of_another_store_is_refused(void **state)
{
	struct play p;
	struct files f;
	struct sim *mine;
	int refused = 0;
	(void)state;

	tell_long_log(&p, 7);
	f = files_of_log(p.disk);
	mine = sim_clone(p.disk);
	sim_reboot(mine, SIM_KEEP, 0);
	play_end(&p);
	tell_long_log(&p, 8);
	for (int i = 0; i < f.count && i < files_of_log(p.disk).count; i++) {
		struct sim *disk = sim_clone(mine);
		struct engine *e;
		struct err err;

		put_back(disk, p.disk, f.names[i]);
		if (sequence_of(disk, f.names[i])) {
			assert_int_equal(
				engine_open(sim_os(disk), "/store", &mix.options, &e, &err),
				-EUCLEAN);
			assert_non_null(strstr(err.text, f.names[i]));
			refused++;
		}
		sim_free(disk);
	}
	assert_true(refused > 2);
	sim_free(mine);
	play_end(&p);
}

/* ---- older copies ----------------------------------------------------------------------- */

enum { TIMES = 5 };

struct copy {
	struct sim *disk;
	uint32_t commit;
};

/* A store's life, with a copy of everything at several moments of it. Between the moments come
 * some steps, and a checkpoint or none, so that segments are used again. */
static void live(struct play *p, uint64_t seed, struct copy copies[TIMES])
{
	begin(p, seed);
	for (int i = 0; i < TIMES; i++) {
		told(p, seed * 10 + (uint64_t)i, 300 + 250 * (size_t)(i % 3));
		copies[i] = (struct copy){ sim_clone(p->disk), p->progress.tried };
		sim_reboot(copies[i].disk, SIM_KEEP, 0);
		if (i % 3 != 2)
			checkpoint(p);
	}
	told(p, seed * 10 + TIMES, 500);
	die(p);
}

static void each_older_segment(const struct play *p, const struct copy *copy, struct tally *t)
{
	const struct files f = files_of_log(copy->disk);

	for (int n = 0; n < f.count; n++) {
		struct sim *disk = sim_clone(p->disk);

		put_back(disk, copy->disk, f.names[n]);
		look(disk, p, FILE_LOG_PREFIX, t);
	}
}

static void all_segments_older(const struct play *p, const struct copy *copy, struct tally *t)
{
	const struct files f = files_of_log(copy->disk);
	struct sim *disk = sim_clone(p->disk);

	for (int n = 0; n < f.count; n++)
		put_back(disk, copy->disk, f.names[n]);
	look(disk, p, FILE_LOG_PREFIX, t);
}

/* As if it had been removed, so that the store can be opened with what is left of it. */
static void all_segments_older_and_no_witness(const struct play *p, const struct copy *copy,
					      struct tally *t)
{
	const struct files f = files_of_log(copy->disk);
	struct sim *disk = sim_clone(p->disk);

	for (int n = 0; n < f.count; n++)
		put_back(disk, copy->disk, f.names[n]);
	remove_file(disk, FILE_WITNESS);
	look_back(disk, p, copy->commit, FILE_LOG_PREFIX, t);
}

/* The page file and the log, but not the witness. */
static void the_rest_older(const struct play *p, const struct copy *copy, struct tally *t)
{
	const struct files f = files_of_log(p->disk);
	struct sim *disk = sim_clone(copy->disk);

	put_back(disk, p->disk, FILE_WITNESS);
	for (int n = files_of_log(disk).count; n < f.count; n++)
		put_back(disk, p->disk, f.names[n]);
	look(disk, p, FILE_LOG_PREFIX, t);
}

static void the_page_file_older(const struct play *p, const struct copy *copy, struct tally *t)
{
	struct sim *disk = sim_clone(p->disk);

	put_back(disk, copy->disk, FILE_PAGES);
	look(disk, p, "", t);
}

static struct tally for_each_copy(void (*tamper)(const struct play *p, const struct copy *copy,
						 struct tally *t))
{
	struct tally t = { 0 };

	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct copy copies[TIMES];
		struct play p;

		live(&p, seed, copies);
		for (int i = 0; i < TIMES; i++) {
			tamper(&p, &copies[i], &t);
			sim_free(copies[i].disk);
		}
		play_end(&p);
	}
	return t;
}

static void an_older_copy_of_a_segment_is_not_taken_for_the_log(void **state)
{
	const struct tally t = for_each_copy(each_older_segment);
	(void)state;

	report("one older segment", &t);
	assert_int_equal(t.unreadable, 0);
	assert_int_equal(t.older, 0);
	assert_true(t.refused > 0 && t.right > 0);
}

static void an_older_copy_of_all_segments_is_not_taken_for_the_log(void **state)
{
	const struct tally t = for_each_copy(all_segments_older);
	(void)state;

	report("all segments older", &t);
	assert_int_equal(t.unreadable, 0);
	assert_int_equal(t.older, 0);
	assert_true(t.refused > 0);
}

static void without_a_witness_an_older_copy_of_all_segments_is_no_mixture(void **state)
{
	const struct tally t = for_each_copy(all_segments_older_and_no_witness);
	(void)state;

	report("all segments older, and no witness", &t);
	assert_int_equal(t.unreadable, 0);
	assert_true(t.refused > 0 && t.older > 0);
}

static void an_older_copy_of_all_but_the_witness_is_refused(void **state)
{
	const struct tally t = for_each_copy(the_rest_older);
	(void)state;

	report("all but the witness older", &t);
	assert_int_equal(t.right + t.unreadable + t.older, 0);
}

/* The log may reach back so far that nothing is lost but runs, which lie in the page file. */
static void an_older_copy_of_the_page_file_is_not_taken_for_the_store(void **state)
{
	const struct tally t = for_each_copy(the_page_file_older);
	(void)state;

	report("an older page file", &t);
	assert_true(t.refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damaged_superblocks_are_made_up_for_or_refused),
		cmocka_unit_test(a_missing_segment_is_noticed),
		cmocka_unit_test(a_segment_that_was_cut_short_is_noticed),
		cmocka_unit_test(a_segment_of_another_store_is_refused),
		cmocka_unit_test(an_older_copy_of_a_segment_is_not_taken_for_the_log),
		cmocka_unit_test(an_older_copy_of_all_segments_is_not_taken_for_the_log),
		cmocka_unit_test(without_a_witness_an_older_copy_of_all_segments_is_no_mixture),
		cmocka_unit_test(an_older_copy_of_all_but_the_witness_is_refused),
		cmocka_unit_test(an_older_copy_of_the_page_file_is_not_taken_for_the_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
