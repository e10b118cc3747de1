/* The tree against a model: a sorted universe of keys, and for each the value it should have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "batch.h"
#include "mem.h"
#include "page.h"
#include "space.h"
#include "tree.h"

enum { KEYS = 3000, KEY_MAX = 200, VALUE_MAX = 70000, PATCHES = 8 };

/* ---- vocabulary ------------------------------------------------------------------------- */

static uint64_t seed;

static uint32_t pick(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

/* The machine, whose writes are counted; when so many more went well, one fails. */
static uint64_t writes, writes_until_failure = UINT64_MAX;

static int counted_write(struct os_file *file, const void *bytes, size_t size, uint64_t offset)
{
	writes++;
	return writes_until_failure-- ? os_posix()->write(file, bytes, size, offset) : -EIO;
}

static struct os *machine(void)
{
	static struct os table;

	table = *os_posix();
	table.write = counted_write;
	return &table;
}

struct key {
	uint8_t bytes[KEY_MAX];
	uint32_t size;
	bool there;
	uint32_t stamp, value_size;	/* what its value is made of ... */
	uint32_t patch_count;		/* ... and what was laid over it */
	struct {
		uint32_t stamp, offset, size;
	} patches[PATCHES];
};

struct bench {
	char path[64];
	struct os_dir *dir;
	struct pages *pages;
	struct space *space;
	struct tree *tree;
	struct super super;
	struct key keys[KEYS];		/* in order */
	uint32_t stamp;
	uint64_t there;
	uint64_t cache;
	struct space_reader *reader;
};

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;

	return slice_compare(slice_of(x->bytes, x->size), slice_of(y->bytes, y->size));
}

static struct slice key_of(const struct key *key)
{
	return slice_of(key->bytes, key->size);
}

/* Keys share long beginnings, so that separators matter. */
static void make_universe(struct bench *b)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		struct key *k = &b->keys[i];
		const uint32_t shared = pick(4) == 0 ? 100 + pick(60) : 4;

		memset(k, 0, sizeof(*k));
		memset(k->bytes, 'k', shared);
		k->size =
			shared + (uint32_t)sprintf((char *)k->bytes + shared, "%u.%u", pick(10), i);
	}
	qsort(b->keys, KEYS, sizeof(b->keys[0]), by_key);
}

static void fill(uint8_t *value, uint32_t stamp, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		value[i] = (uint8_t)(stamp * 31 + i * 7 + (i >> 8));
}

static void reopen(struct bench *b)
{
	struct err err;

	tree_close(b->tree);
	space_close(b->space);
	pages_close(b->pages);
	assert_int_equal(pages_open(machine(), b->dir, &b->super, NULL, &b->pages, &err), 0);
	assert_int_equal(space_open(b->pages, &b->super, &b->space, &err), 0);
	assert_int_equal(tree_open(b->pages, b->space, &b->super, b->cache, &b->tree), 0);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	const char *given = getenv("SEED");
	struct super *s = &b->super;

	seed = given ? strtoull(given, NULL, 10) : 20261121;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	strcpy(b->path, "/tmp/cubby-tree-XXXXXX");
	assert_non_null(mkdtemp(b->path));
	assert_int_equal(os_posix()->open_dir(os_posix(), b->path, 0, &b->dir), 0);
	assert_int_equal(pages_create(os_posix(), b->dir, &b->pages, NULL), 0);
	s->generation = 1;
	s->units = SUPER_UNITS;
	assert_int_equal(pages_write_super(b->pages, s), 0);
	make_universe(b);
	reopen(b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	tree_close(b->tree);
	space_close(b->space);
	pages_close(b->pages);
	os_posix()->remove(b->dir, FILE_PAGES);
	os_posix()->close_dir(b->dir);
	rmdir(b->path);
	free(b);
	return 0;
}

static int yes(void *arg, uint64_t units)
{
	(void)arg;
	(void)units;
	return 0;
}

static int no_mark(void *arg)
{
	struct bench *b = arg;

	space_freeze(b->space);
	return 0;
}

static void begin_checkpoint(struct bench *b, struct frozen *f)
{
	assert_int_equal(tree_freeze(b->tree, no_mark, b, f), 0);
}

static bool now_and_then(void *arg)
{
	(void)arg;
	return pick(2) == 0;
}

static void end_checkpoint(struct bench *b, struct frozen *f)
{
	struct space_stats stats;

	assert_int_equal(tree_write(b->tree, f, now_and_then, NULL), 0);
	assert_int_equal(space_store(b->space, f->generation, &b->super.space), 0);
	space_stats(b->space, &stats);
	b->super.generation = f->generation;
	b->super.root = f->ref;
	b->super.entries = f->entries;
	b->super.units = stats.units;
	assert_int_equal(pages_write_super(b->pages, &b->super), 0);
	space_durable(b->space, b->super.units);
	tree_release(b->tree, f);
}

static void checkpoint(struct bench *b)
{
	struct frozen f;

	begin_checkpoint(b, &f);
	end_checkpoint(b, &f);
}

static uint32_t some_size(void)
{
	switch (pick(20)) {
	case 0:
		return 16000 + pick(800);	/* about what a node holds */
	case 1:
		return pick(40) == 0 ? 20000 + pick(VALUE_MAX - 20000) : 3000 + pick(9000);
	default:
		return pick(300);
	}
}

static uint32_t whole_size(const struct key *k)
{
	uint32_t size = k->value_size;

	for (uint32_t i = 0; i < k->patch_count; i++)
		if (k->patches[i].offset + k->patches[i].size > size)
			size = k->patches[i].offset + k->patches[i].size;
	return size;
}

/* Adds a patch to the batch, and to the model: something inside, or more of it. */
static void patch(struct bench *b, struct batch *batch, struct key *k, uint32_t size)
{
	static uint8_t bytes[VALUE_MAX];
	const uint32_t whole = whole_size(k), stamp = ++b->stamp;
	const uint32_t offset = pick(2) ? whole : pick(whole + 1);

	if (size > VALUE_MAX - offset)
		size = VALUE_MAX - offset;
	k->patches[k->patch_count].stamp = stamp;
	k->patches[k->patch_count].offset = offset;
	k->patches[k->patch_count++].size = size;
	fill(bytes, stamp, size);
	batch_patch(batch, key_of(k), offset, slice_of(bytes, size));
}

/* Adds a put, a patch or a delete of some key to the batch, and to the model. */
static void change(struct bench *b, struct batch *batch, struct key *k, bool put)
{
	static uint8_t value[VALUE_MAX];

	if (put && k->there && k->patch_count < PATCHES && pick(3) > 0) {
		patch(b, batch, k, some_size());
		return;
	}
	k->patch_count = 0;
	b->there += (uint64_t)put - (uint64_t)k->there;
	k->there = put;
	if (!put) {
		batch_delete(batch, key_of(k));
		return;
	}
	k->stamp = ++b->stamp;
	k->value_size = some_size();
	fill(value, k->stamp, k->value_size);
	batch_put(batch, key_of(k), slice_of(value, k->value_size));
}

static void commit(struct bench *b, struct batch *batch)
{
	assert_int_equal(batch->failed, 0);
	assert_int_equal(batch_check(buffer_slice(&batch->bytes)), 0);
	assert_int_equal(tree_apply(b->tree, buffer_slice(&batch->bytes), yes, NULL, NULL), 0);
	batch_clear(batch);
}

static void random_batch(struct bench *b, uint32_t count, uint32_t puts_in_ten)
{
	struct batch batch = { 0 };

	for (uint32_t i = 0; i < count; i++)
		change(b, &batch, &b->keys[pick(KEYS)], pick(10) < puts_in_ten);
	commit(b, &batch);
	batch_done(&batch);
}

static void is_value(const struct key *k, struct slice value)
{
	static uint8_t wanted[VALUE_MAX];

	assert_true(k->there);
	fill(wanted, k->stamp, k->value_size);
	for (uint32_t i = 0; i < k->patch_count; i++)
		fill(wanted + k->patches[i].offset, k->patches[i].stamp, k->patches[i].size);
	assert_true(slice_equal(value, slice_of(wanted, whole_size(k))));
}

struct comparing {
	struct bench *b;
	uint32_t next;
	uint64_t seen;
};

static int compare(void *arg, const struct leaf_entry *entry)
{
	struct comparing *c = arg;

	while (c->next < KEYS && !c->b->keys[c->next].there)
		c->next++;
	assert_true(c->next < KEYS);
	assert_true(slice_equal(entry->key, key_of(&c->b->keys[c->next])));
	is_value(&c->b->keys[c->next], entry->value);
	c->next++;
	c->seen++;
	return 0;
}

static void holds_the_model(struct bench *b)
{
	struct comparing c = { .b = b };
	struct tree_stats stats;

	assert_int_equal(tree_scan(b->tree, slice_of("", 0), compare, &c, NULL), 0);
	assert_int_equal(c.seen, b->there);
	tree_stats(b->tree, &stats);
	assert_int_equal(stats.entries, b->there);
}

static int compare_one(void *arg, const struct leaf_entry *entry)
{
	is_value(arg, entry->value);
	return 0;
}

static void every_get_agrees(struct bench *b)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		struct key *k = &b->keys[i];

		assert_int_equal(tree_get(b->tree, key_of(k), compare_one, k, NULL),
				 k->there ? 0 : -ENOENT);
	}
}

/* ---- stories ---------------------------------------------------------------------------- */

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

/* Deletes all, and looks for what has not come back. */
static void all_space_comes_back(struct bench *b)
{
	struct batch batch = { 0 };
	struct space_stats stats;

	for (uint32_t i = 0; i < KEYS; i++) {
		change(b, &batch, &b->keys[i], false);
		commit(b, &batch);
	}
	holds_the_model(b);
	checkpoint(b);
	checkpoint(b);
	space_stats(b->space, &stats);
	/* Superblocks, the directory, and the map of each region. */
	assert_int_equal(stats.units - stats.free_units,
			 SUPER_UNITS + 1 + (stats.units + REGION_UNITS - 1) / REGION_UNITS);
	batch_done(&batch);
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

/* ---- a tree of three levels in no memory at all ------------------------------------------- */

enum { DEEP_KEY = 200, DEEP_VALUE = 3000, DEEP_READS = 40 };

/* Reads that are still answered; then none is. */
static int64_t reads_left;
static ssize_t (*real_read)(struct os_file *file, void *bytes, size_t size, uint64_t offset);

static ssize_t counted_read(struct os_file *file, void *bytes, size_t size, uint64_t offset)
{
	return reads_left-- > 0 ? real_read(file, bytes, size, offset) : -EIO;
}

static struct slice deep_key(uint32_t number)
{
	static char key[DEEP_KEY + 1];

	memset(key, 'd', DEEP_KEY - 8);
	sprintf(key + DEEP_KEY - 8, "%08u", number);
	return slice_of(key, DEEP_KEY);
}

static void put_deep(struct bench *b, uint32_t from, uint32_t to)
{
	static const uint8_t value[DEEP_VALUE];
	struct batch batch = { 0 };

	for (uint32_t i = from; i < to; i++) {
		batch_put(&batch, deep_key(i), slice_of(value, sizeof(value)));
		if (i % 16 == 15 || i + 1 == to)
			commit(b, &batch);
	}
	batch_done(&batch);
}

static int is_there(void *arg, const struct leaf_entry *entry)
{
	(void)arg;
	return entry->value.size == DEEP_VALUE ? 0 : -EINVAL;
}

/* Each key is found with a few reads: what was read on the way is not forgotten before the search
 * has come by again. */
static void finds_deep(struct bench *b, struct tree_view *view, uint32_t count)
{
	struct os *os = os_posix();

	real_read = os->read;
	os->read = counted_read;
	for (uint32_t i = 0; i < count; i += 37) {
		int rc;

		reads_left = DEEP_READS;
		rc = view ? tree_view_get(b->tree, view, deep_key(i), is_there, NULL, NULL) :
			    tree_get(b->tree, deep_key(i), is_there, NULL, NULL);
		os->read = rc == 0 ? os->read : real_read;
		assert_int_equal(rc, 0);
	}
	os->read = real_read;
}

static void in_no_memory_a_search_comes_to_its_end(void **state)
{
	struct bench *b = *state;

	b->cache = 1;
	reopen(b);
	put_deep(b, 0, 2000);
	checkpoint(b);
	finds_deep(b, NULL, 2000);
	reopen(b);
	finds_deep(b, NULL, 2000);
}

static int read_from(void *arg, uint64_t generation)
{
	struct bench *b = arg;

	return space_reader_open(b->space, generation, &b->reader);
}

/* The hand goes round a small view more often than round the tree. */
static void nor_is_a_view_read_without_end(void **state)
{
	struct bench *b = *state;
	struct tree_view *view;

	b->cache = 1;
	reopen(b);
	put_deep(b, 0, 1000);
	checkpoint(b);
	assert_int_equal(tree_view_open(b->tree, read_from, b, &view), 0);
	put_deep(b, 1000, 6000);
	checkpoint(b);
	finds_deep(b, view, 1000);
	tree_view_close(b->tree, view);
	space_reader_close(b->space, b->reader);
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
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
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
		STORY(leaves_may_be_written_early),
		STORY(without_memory_a_batch_changes_nothing),
		STORY(in_no_memory_a_search_comes_to_its_end),
		STORY(nor_is_a_view_read_without_end),
		STORY(in_a_hurry_gaps_are_written_over),
		STORY(what_was_held_to_be_written_over_comes_back),
		STORY(a_scattered_run_is_found_where_its_pieces_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
