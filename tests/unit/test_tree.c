/* The tree against a model, whatever batches it is given: in little memory or none, while a
 * checkpoint runs, and when it is opened again. Where a checkpoint writes is in test_tree_write.c,
 * searching without a cache in test_tree_memory.c. */
#include "mem.h"
#include "tree_kit.h"

static void any_batches_leave_what_the_model_has(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < 3000; i++) {
		random_batch(b, 1 + pick(i % 50 == 0 ? 400 : 8), i / 500 % 2 ? 2 : 8);
		if (i % 100 == 0)
			holds_the_model(b);
	}
	every_get_agrees(b);
}

static void what_a_checkpoint_wrote_is_there_after_reopening(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < 60; i++) {
		for (uint32_t n = pick(40); n > 0; n--)
			random_batch(b, 1 + pick(10), i / 10 % 2 ? 3 : 8);
		checkpoint(b);
		if (pick(2)) {
			reopen(b);
			if (pick(2))
				holds_the_model(b);
		}
	}
	reopen(b);
	every_get_agrees(b);
	holds_the_model(b);
}

static void changes_during_a_checkpoint_are_not_in_it(void **state)
{
	struct bench *b = *state;
	struct key *before = malloc(sizeof(b->keys));

	for (uint32_t i = 0; i < 30; i++) {
		struct frozen f;
		uint64_t there;

		random_batch(b, 200, 7);
		begin_checkpoint(b, &f);
		memcpy(before, b->keys, sizeof(b->keys));
		there = b->there;
		for (uint32_t n = 0; n < 20; n++)
			random_batch(b, 10, 5);
		end_checkpoint(b, &f);
		holds_the_model(b);

		memcpy(b->keys, before, sizeof(b->keys));	/* the power goes: this stays */
		b->there = there;
		reopen(b);
		holds_the_model(b);
	}
	free(before);
}

static void an_emptied_tree_gives_its_space_back(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < 20; i++)
		random_batch(b, 300, 9);
	checkpoint(b);
	all_space_comes_back(b);
}

static void space_is_used_again_and_again(void **state)
{
	struct bench *b = *state;
	struct space_stats stats;
	uint64_t units;

	for (uint32_t i = 0; i < 10; i++) {
		random_batch(b, 500, 8);
		checkpoint(b);
	}
	space_stats(b->space, &stats);
	units = stats.units;
	for (uint32_t i = 0; i < 60; i++) {
		random_batch(b, 500, 8);
		checkpoint(b);
	}
	space_stats(b->space, &stats);
	assert_true(stats.units < units * 3);
}

static void a_scan_begins_at_any_key(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < 20; i++)
		random_batch(b, 200, 8);
	for (uint32_t i = 0; i < 200; i++) {
		struct comparing c = { .b = b, .next = pick(KEYS) };
		uint64_t wanted = 0;

		for (uint32_t k = c.next; k < KEYS; k++)
			wanted += b->keys[k].there;
		assert_int_equal(tree_scan(b->tree, key_of(&b->keys[c.next]), compare, &c, NULL),
				 0);
		assert_int_equal(c.seen, wanted);
	}
}

/* The emptied leaf's neighbours are only on disk, so nothing may be put into them. */
static void a_leaf_may_be_emptied_and_filled_by_one_batch(void **state)
{
	struct bench *b = *state;
	struct batch batch = { 0 };

	for (uint32_t i = 0; i < 20; i++)
		random_batch(b, 300, 10);
	for (uint32_t first = 0; first + 300 < KEYS; first += 150) {
		checkpoint(b);
		reopen(b);
		for (uint32_t i = first; i < first + 300; i++)
			change(b, &batch, &b->keys[i], false);
		for (uint32_t i = first; i < first + 300; i += 3)
			change(b, &batch, &b->keys[i], true);
		commit(b, &batch);
		holds_the_model(b);
	}
	batch_done(&batch);
}

static void a_small_cache_is_kept_to_and_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct tree_stats stats;

	b->cache = 100 * 1024;
	for (uint32_t i = 0; i < 40; i++) {
		checkpoint(b);
		reopen(b);
		for (uint32_t n = 0; n < 10; n++)
			random_batch(b, 1 + pick(20), i / 10 % 2 ? 3 : 9);
		every_get_agrees(b);
		holds_the_model(b);
		checkpoint(b);
		tree_shrink(b->tree);
		tree_stats(b->tree, &stats);
		/* One inner node and its path may be in use beyond the bound. */
		assert_true(stats.memory <= b->cache + 4 * NODE_ALLOCATION + VALUE_MAX);
	}
}

static int never(void *arg, uint64_t units)
{
	(void)arg;
	(void)units;
	fail_msg("a batch that must be refused was to be logged");
	return 0;
}

static void refused(struct bench *b, struct batch *batch)
{
	assert_int_equal(batch->failed, 0);
	assert_int_equal(tree_apply(b->tree, buffer_slice(&batch->bytes), never, NULL, NULL),
			 -EINVAL);
	batch_clear(batch);
	holds_the_model(b);
}

static void a_patch_of_what_is_not_there_is_refused_with_its_batch(void **state)
{
	struct bench *b = *state;
	struct key *k = &b->keys[17], *other = &b->keys[18];
	const struct slice none = slice_str("none"), x = slice_str("x");
	struct batch batch = { 0 };

	batch_patch(&batch, none, 0, x);	/* in an empty tree */
	refused(b, &batch);
	random_batch(b, 2000, 9);
	change(b, &batch, k, false);
	change(b, &batch, k, true);
	change(b, &batch, other, false);
	commit(b, &batch);

	batch_patch(&batch, none, 0, x);
	refused(b, &batch);
	batch_patch(&batch, key_of(k), whole_size(k) + 1, x);
	refused(b, &batch);
	batch_put(&batch, key_of(other), slice_str("other"));
	batch_delete(&batch, key_of(k));
	batch_patch(&batch, key_of(k), 0, x);
	refused(b, &batch);
	batch_put(&batch, key_of(k), slice_str("short"));
	batch_patch(&batch, key_of(k), 6, x);
	refused(b, &batch);
	batch_patch(&batch, key_of(k), whole_size(k), x);
	batch_patch(&batch, key_of(k), whole_size(k) + 2, x);
	refused(b, &batch);

	patch(b, &batch, k, 10);		/* each sees what those before it did */
	patch(b, &batch, k, 20000);
	patch(b, &batch, k, 500);
	patch(b, &batch, k, 40000);
	change(b, &batch, other, true);
	patch(b, &batch, other, 30000);
	commit(b, &batch);
	holds_the_model(b);
	batch_done(&batch);
}

/* The model has no room for as many patches: the value is looked at here. */
static int is_filled(void *arg, const struct leaf_entry *entry)
{
	const uint32_t *size = arg;

	assert_int_equal(entry->value.size, *size);
	for (uint32_t i = 0; i < *size; i++)
		assert_int_equal(((const uint8_t *)entry->value.data)[i], (uint8_t)(i / 10));
	return 0;
}

static int applied(struct bench *b, const struct batch *batch)
{
	return tree_apply(b->tree, buffer_slice(&batch->bytes), yes, NULL, NULL);
}

static void a_value_that_grows_by_small_patches_is_rarely_copied(void **state)
{
	struct bench *b = *state;
	const struct slice key = slice_str("growing");
	struct batch batch = { 0 };
	struct frozen f;
	uint32_t size = 0;
	int64_t allocations = 0;
	uint8_t bytes[10];

	random_batch(b, 200, 9);
	batch_put(&batch, key, slice_of("", 0));
	assert_int_equal(applied(b, &batch), 0);
	batch_clear(&batch);
	while (size < VALUE_MAX) {
		memset(bytes, (uint8_t)(size / 10), sizeof(bytes));
		batch_patch(&batch, key, size, slice_of(bytes, sizeof(bytes)));
		mem_fail_after(-1, 0);
		assert_int_equal(applied(b, &batch), 0);
		allocations += mem_count();
		size += (uint32_t)sizeof(bytes);
		batch_clear(&batch);
		if (size % 20000 == 0) {	/* a frozen leaf is copied, and written as it was */
			begin_checkpoint(b, &f);
			memset(bytes, 0xff, sizeof(bytes));
			batch_patch(&batch, key, 5, slice_of(bytes, 1));
			assert_int_equal(applied(b, &batch), 0);
			end_checkpoint(b, &f);
			reopen(b);
			assert_int_equal(tree_get(b->tree, key, is_filled, &size, NULL), 0);
			batch_clear(&batch);
		}
	}
	assert_int_equal(tree_get(b->tree, key, is_filled, &size, NULL), 0);
	assert_in_range(allocations, 1, 400);
	batch_delete(&batch, key);
	commit(b, &batch);
	holds_the_model(b);
	batch_done(&batch);
}

/* Leaves are written before their checkpoint begins, change again, die, are frozen; while it runs,
 * and when it fails. The free map must come out right, or space would be lost or
 * given out twice. */
static void leaves_may_be_written_early(void **state)
{
	struct bench *b = *state;
	struct tree_stats stats;
	struct frozen f;

	b->cache = 200 * 1024;
	reopen(b);
	for (uint32_t i = 0; i < 60; i++) {
		for (uint32_t n = 0; n < 8; n++) {
			random_batch(b, 1 + pick(30), i / 10 % 2 ? 3 : 8);
			tree_stats(b->tree, &stats);
			assert_true(stats.memory <=
				    b->cache + 60 * NODE_ALLOCATION + 2 * VALUE_MAX);
		}
		begin_checkpoint(b, &f);
		for (uint32_t n = 0; n < 4; n++)
			random_batch(b, 1 + pick(30), 6);
		if (i % 7 == 3) {
			if (i % 2)
				assert_int_equal(tree_write(b->tree, &f, NULL, NULL), 0);
			space_thaw(b->space, false);
			tree_release(b->tree, &f);
		} else {
			end_checkpoint(b, &f);
		}
		if (i % 10 == 9) {
			checkpoint(b);
			reopen(b);
		}
		holds_the_model(b);
	}
	all_space_comes_back(b);
}

static void without_memory_a_batch_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct key *before = malloc(sizeof(b->keys));
	struct batch batch = { 0 };
	int rc = -ENOMEM;

	for (uint32_t i = 0; i < 10; i++)
		random_batch(b, 200, 8);
	checkpoint(b);
	reopen(b);
	memcpy(before, b->keys, sizeof(b->keys));
	for (uint32_t i = 0; i < 60; i++)
		change(b, &batch, &b->keys[pick(KEYS)], pick(3) > 0);
	struct key *after = malloc(sizeof(b->keys));
	const uint64_t there = b->there;

	memcpy(after, b->keys, sizeof(b->keys));
	for (int64_t nth = 0; rc == -ENOMEM; nth++) {
		mem_fail_after(nth, 0);
		rc = tree_apply(b->tree, buffer_slice(&batch.bytes), yes, NULL, NULL);
		mem_fail_after(-1, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		if (rc == 0)
			break;
		if (nth % 7 == 0) {
			memcpy(b->keys, before, sizeof(b->keys));
			every_get_agrees(b);
		}
	}
	memcpy(b->keys, after, sizeof(b->keys));
	b->there = there;
	holds_the_model(b);
	batch_done(&batch);
	free(before);
	free(after);
}

static void put_falling(struct bench *b, const char *large, char from, char to, bool at_once)
{
	static uint8_t value[40000];
	struct batch batch = { 0 };

	batch_put(&batch, slice_str(large), slice_of(value, sizeof(value)));
	if (!at_once) {
		assert_int_equal(tree_apply(b->tree, buffer_slice(&batch.bytes), yes, NULL, NULL),
				 0);
		checkpoint(b);
		reopen(b);
		batch_clear(&batch);
	}
	for (char key = from; key >= to; key--)
		batch_put(&batch, slice_of(&key, 1), slice_str("small"));
	assert_int_equal(tree_apply(b->tree, buffer_slice(&batch.bytes), yes, NULL, NULL), 0);
	batch_done(&batch);
}

/* Each lies between the large entry and the last one that was put behind it, and so in no leaf but
 * the large one's. */
static void falling_keys_behind_a_large_entry_find_a_leaf_each(void **state)
{
	struct bench *b = *state;

	put_falling(b, "a", 'z', 'b', true);
	checkpoint(b);
	put_falling(b, "A", 'Z', 'B', false);
}

/* As files are made, empty, and then written: each entry grows where the latest was put, and one of
 * another kind lies behind all of them. Returns the memory taken for a hundred bytes. */
static uint64_t memory_of_growing(struct bench *b, uint32_t step)
{
	enum { GROWING = 2003, SMALL = 50, GROWN = 250 };
	static const uint8_t value[GROWN];
	struct batch batch = { 0 };
	struct tree_stats stats;
	uint64_t bytes = 0;

	batch_put(&batch, slice_str("z"), slice_of(value, SMALL));
	for (uint32_t i = 0; i < GROWING; i++) {
		char name[16];
		const struct slice key =
			slice_of(name, (size_t)sprintf(name, "%08u", i * step % GROWING));

		batch_put(&batch, key, slice_of(value, SMALL));
		assert_int_equal(applied(b, &batch), 0);
		batch_clear(&batch);
		batch_put(&batch, key, slice_of(value, GROWN));
		assert_int_equal(applied(b, &batch), 0);
		batch_clear(&batch);
		bytes += key.size + GROWN;
	}
	tree_stats(b->tree, &stats);
	batch_done(&batch);
	return stats.memory * 100 / bytes;
}

static void what_grows_in_the_order_of_its_keys_fills_its_leaves(void **state)
{
	assert_in_range(memory_of_growing(*state, 1), 100, 130);
}

/* They are cut in halves then; where the latest was put, it would be 220. */
static void what_grows_in_no_order_does_not_cut_leaves_anywhere(void **state)
{
	assert_in_range(memory_of_growing(*state, 787), 120, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORY(falling_keys_behind_a_large_entry_find_a_leaf_each),
		STORY(any_batches_leave_what_the_model_has),
		STORY(what_a_checkpoint_wrote_is_there_after_reopening),
		STORY(changes_during_a_checkpoint_are_not_in_it),
		STORY(an_emptied_tree_gives_its_space_back),
		STORY(space_is_used_again_and_again),
		STORY(a_scan_begins_at_any_key),
		STORY(a_small_cache_is_kept_to_and_changes_nothing),
		STORY(a_leaf_may_be_emptied_and_filled_by_one_batch),
		STORY(a_patch_of_what_is_not_there_is_refused_with_its_batch),
		STORY(a_value_that_grows_by_small_patches_is_rarely_copied),
		STORY(what_grows_in_the_order_of_its_keys_fills_its_leaves),
		STORY(what_grows_in_no_order_does_not_cut_leaves_anywhere),
		STORY(leaves_may_be_written_early),
		STORY(without_memory_a_batch_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
