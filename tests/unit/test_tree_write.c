/* Where things lie in the file: a checkpoint in a hurry writes over the gaps between them, and what
 * lies at the end is found. */
#include "tree_kit.h"

/* ---- checkpoints in a hurry -------------------------------------------------------------- */

static bool always(void *arg)
{
	(void)arg;
	return true;
}

static bool at_leisure(void *arg)
{
	(void)arg;
	return false;
}

/* Two values fill a leaf of three units, which has a quad for itself. */
static void put_pairs(struct bench *b)
{
	static uint8_t value[4096];
	struct batch batch = { 0 };
	char key[16];

	for (unsigned step = 0; step < 2; step++) {
		for (unsigned i = step; i < 400; i += 2) {
			sprintf(key, "%04u", i);
			batch_put(&batch, slice_str(key), slice_of(value, sizeof(value)));
		}
		commit(b, &batch);
	}
	batch_done(&batch);
}

static uint64_t writes_of_a_checkpoint(struct bench *b, bool (*pace)(void *arg))
{
	struct frozen f;
	uint64_t before;
	int rc;

	put_pairs(b);
	begin_checkpoint(b, &f);
	before = writes;
	rc = tree_write(b->tree, &f, pace, NULL);
	before = writes - before;
	assert_int_equal(rc, 0);
	end_checkpoint(b, &f);
	return before;
}

static void in_a_hurry_gaps_are_written_over(void **state)
{
	struct bench *b = *state;
	uint64_t leisurely, hurried;

	assert_int_equal(space_ensure(b->space, 8192, 0), 0);	/* so that they go side by side */
	leisurely = writes_of_a_checkpoint(b, at_leisure);
	hurried = writes_of_a_checkpoint(b, always);
	assert_true(leisurely > 100);
	assert_true(hurried < leisurely / 4);
}

/* If a write fails, early or late, all is given back or written by the next checkpoint. */
static void what_was_held_to_be_written_over_comes_back(void **state)
{
	struct bench *b = *state;
	struct frozen f;
	int rc = -EIO;

	for (uint64_t n = 0; rc < 0; n += 1 + n / 2) {
		random_batch(b, 400, 8);
		begin_checkpoint(b, &f);
		writes_until_failure = n;
		rc = tree_write(b->tree, &f, always, NULL);
		writes_until_failure = UINT64_MAX;
		if (rc < 0) {
			assert_int_equal(rc, -EIO);
			space_thaw(b->space, false);
			tree_release(b->tree, &f);
		} else {
			end_checkpoint(b, &f);
		}
		checkpoint(b);
		holds_the_model(b);
	}
	all_space_comes_back(b);
}

/* ---- searching for what lies at the file's end ------------------------------------------- */

enum { LAST_PIECE = (REF_PIECES - 1) * REF_PIECE_UNITS * UNIT };	/* where it begins */

/* A run of four pieces, the second half of which lies so many units behind the first. */
static struct ref put_scattered(struct bench *b, const char *key, uint64_t apart)
{
	struct ref run = { .length = LAST_PIECE + 1 }, gap = { .length = (uint32_t)apart * UNIT };
	struct batch batch = { 0 };
	uint64_t at[REF_PIECES];

	for (uint32_t i = 0; i < REF_PIECES; i++) {
		if (i == REF_PIECES / 2)
			assert_int_equal(space_alloc(b->space, apart, &gap.offset), 0);
		assert_int_equal(space_alloc(b->space, REF_PIECE_UNITS, &at[i]), 0);
	}
	run.offset = at[0];
	memcpy(run.more, &at[1], sizeof(run.more));
	space_give_back(b->space, &(struct ref){ .offset = at[REF_PIECES - 1] + UNIT,
						 .length = (REF_PIECE_UNITS - 1) * UNIT });
	space_give_back(b->space, &gap);
	batch_put_run(&batch, slice_str(key), &run, slice_str(""));
	assert_int_equal(tree_apply(b->tree, buffer_slice(&batch.bytes), yes, NULL, NULL), 0);
	batch_done(&batch);
	return run;
}

static int count_found(void *arg, const struct leaf_entry *entry)
{
	unsigned *found = arg;

	assert_true(ref_scattered(&entry->run));
	++*found;
	return 0;
}

static unsigned runs_behind(struct bench *b, uint64_t limit)
{
	struct tree_search s = { .limit = limit, .runs = true };
	unsigned found = 0;

	while (!s.ended)
		assert_int_equal(tree_search(b->tree, &s, count_found, &found, NULL), 0);
	return found;
}

/* Of each, its last piece counts, not how long it is in all. */
static void a_scattered_run_is_found_where_its_pieces_lie(void **state)
{
	struct bench *b = *state;
	const struct ref run = put_scattered(b, "far", 64);
	const uint64_t last = run.more[REF_PIECES - 2];

	assert_true(last > run.offset + REF_PIECES * REF_PIECE_UNITS * UNIT);
	assert_int_equal(runs_behind(b, run.offset + UNIT), 1);
	assert_int_equal(runs_behind(b, run.more[REF_PIECES - 3] + REF_PIECE_UNITS * UNIT), 1);
	assert_int_equal(runs_behind(b, last), 1);
	assert_int_equal(runs_behind(b, last + UNIT), 0);
	checkpoint(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(in_a_hurry_gaps_are_written_over),
		STORY(what_was_held_to_be_written_over_comes_back),
		STORY(a_scattered_run_is_found_where_its_pieces_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
