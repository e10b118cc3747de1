/* tree_kit.h - the vocabulary of the tree's tests: a tree in a file, and a model of it, which is a
 * sorted universe of keys, and for each the value it should have. */
#ifndef CUBBY_TREE_KIT_H
#define CUBBY_TREE_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "batch.h"
#include "page.h"
#include "space.h"
#include "tree.h"

enum { KEYS = 3000, KEY_MAX = 200, VALUE_MAX = 70000, PATCHES = 8 };

static uint64_t seed;

static inline uint32_t pick(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

/* The machine, whose writes are counted; when so many more went well, one fails. */
static uint64_t writes, writes_until_failure = UINT64_MAX;

static inline int counted_write(struct os_file *file, const void *bytes, size_t size,
				uint64_t offset)
{
	writes++;
	return writes_until_failure-- ? os_posix()->write(file, bytes, size, offset) : -EIO;
}

static inline struct os *machine(void)
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

static inline int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;

	return slice_compare(slice_of(x->bytes, x->size), slice_of(y->bytes, y->size));
}

static inline struct slice key_of(const struct key *key)
{
	return slice_of(key->bytes, key->size);
}

/* Keys share long beginnings, so that separators matter. */
static inline void make_universe(struct bench *b)
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

static inline void fill(uint8_t *value, uint32_t stamp, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		value[i] = (uint8_t)(stamp * 31 + i * 7 + (i >> 8));
}

static inline void reopen(struct bench *b)
{
	struct err err;

	tree_close(b->tree);
	space_close(b->space);
	pages_close(b->pages);
	assert_int_equal(pages_open(machine(), b->dir, &b->super, NULL, &b->pages, &err), 0);
	assert_int_equal(space_open(b->pages, &b->super, &b->space, &err), 0);
	assert_int_equal(tree_open(b->pages, b->space, &b->super, b->cache, &b->tree), 0);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline int yes(void *arg, uint64_t units)
{
	(void)arg;
	(void)units;
	return 0;
}

static inline int no_mark(void *arg)
{
	struct bench *b = arg;

	space_freeze(b->space);
	return 0;
}

static inline void begin_checkpoint(struct bench *b, struct frozen *f)
{
	assert_int_equal(tree_freeze(b->tree, no_mark, b, f), 0);
}

static inline bool now_and_then(void *arg)
{
	(void)arg;
	return pick(2) == 0;
}

static inline void end_checkpoint(struct bench *b, struct frozen *f)
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

static inline void checkpoint(struct bench *b)
{
	struct frozen f;

	begin_checkpoint(b, &f);
	end_checkpoint(b, &f);
}

/* ---- changes ------------------------------------------------------------------------------- */

static inline uint32_t some_size(void)
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

static inline uint32_t whole_size(const struct key *k)
{
	uint32_t size = k->value_size;

	for (uint32_t i = 0; i < k->patch_count; i++)
		if (k->patches[i].offset + k->patches[i].size > size)
			size = k->patches[i].offset + k->patches[i].size;
	return size;
}

/* Adds a patch to the batch, and to the model: something inside, or more of it. */
static inline void patch(struct bench *b, struct batch *batch, struct key *k, uint32_t size)
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
static inline void change(struct bench *b, struct batch *batch, struct key *k, bool put)
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

static inline void commit(struct bench *b, struct batch *batch)
{
	assert_int_equal(batch->failed, 0);
	assert_int_equal(batch_check(buffer_slice(&batch->bytes)), 0);
	assert_int_equal(tree_apply(b->tree, buffer_slice(&batch->bytes), yes, NULL, NULL), 0);
	batch_clear(batch);
}

static inline void random_batch(struct bench *b, uint32_t count, uint32_t puts_in_ten)
{
	struct batch batch = { 0 };

	for (uint32_t i = 0; i < count; i++)
		change(b, &batch, &b->keys[pick(KEYS)], pick(10) < puts_in_ten);
	commit(b, &batch);
	batch_done(&batch);
}

/* ---- looking ------------------------------------------------------------------------------- */

static inline void is_value(const struct key *k, struct slice value)
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

static inline int compare(void *arg, const struct leaf_entry *entry)
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

static inline void holds_the_model(struct bench *b)
{
	struct comparing c = { .b = b };
	struct tree_stats stats;

	assert_int_equal(tree_scan(b->tree, slice_of("", 0), compare, &c, NULL), 0);
	assert_int_equal(c.seen, b->there);
	tree_stats(b->tree, &stats);
	assert_int_equal(stats.entries, b->there);
}

static inline int compare_one(void *arg, const struct leaf_entry *entry)
{
	is_value(arg, entry->value);
	return 0;
}

static inline void every_get_agrees(struct bench *b)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		struct key *k = &b->keys[i];

		assert_int_equal(tree_get(b->tree, key_of(k), compare_one, k, NULL),
				 k->there ? 0 : -ENOENT);
	}
}

/* Deletes all, and looks for what has not come back. */
static inline void all_space_comes_back(struct bench *b)
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

#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
