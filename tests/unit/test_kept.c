/* The list of kept snapshots, damaged in every way that a good checksum allows: it is refused or it
 * makes sense, and nothing is read that is not there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kept.h"
#include "sim/disk.h"

enum { UNITS = 64, AT = 8 };

struct bench {
	struct sim *disk;
	struct os_dir *dir;
	struct pages *pages;
	struct space *space;
	struct super super;
	uint8_t block[KEPT_BLOCK];
	uint32_t size;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct os *os;

	b->disk = sim_new(1);
	os = sim_os(b->disk);
	b->super = (struct super){ .generation = 9, .units = UNITS };
	assert_int_equal(os->open_dir(os, "/store", OS_CREATE, &b->dir), 0);
	assert_int_equal(pages_create(os, b->dir, &b->pages, NULL), 0);
	assert_int_equal(pages_grow(b->pages, UNITS), 0);
	assert_int_equal(space_open(b->pages, &b->super, &b->space, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	space_close(b->space);
	pages_close(b->pages);
	sim_os(b->disk)->close_dir(b->dir);
	sim_free(b->disk);
	free(b);
	return 0;
}

/* A list of two: "new" of generation 7, whose dead the superblock has, and "old" of 3. */
static void two(struct bench *b)
{
	const struct ref root = { .offset = 20 * UNIT, .generation = 2, .sum = 1, .length = 5000 };
	const char *names[] = { "new", "old" };

	memset(b->block, 0, sizeof(b->block));
	put32(b->block + KEPT_MAGIC, KEPT_MAGIC_LIST);
	put32(b->block + KEPT_COUNT, 2);
	b->size = KEPT_HEADER;
	for (int i = 0; i < 2; i++) {
		uint8_t *r = b->block + b->size;

		put64(r + KEPT_RECORD_GENERATION, i ? 3 : 7);
		ref_encode(&root, r + KEPT_RECORD_ROOT);
		r[KEPT_RECORD_NAME_SIZE] = 3;
		memcpy(r + KEPT_RECORD_NAME, names[i], 3);
		b->size += KEPT_RECORD_NAME + 3;
	}
}

static int count_one(void *arg, const struct kept_snapshot *s)
{
	assert_true(s->name_size > 0 && s->generation <= 9);
	++*(uint32_t *)arg;
	return 0;
}

/* Opens what `b->block` says; -EUCLEAN, or how many there are. */
static int open_list(struct bench *b)
{
	struct err err = { "" };
	struct kept *kept;
	uint32_t count = 0;
	int rc;

	assert_int_equal(pages_write(b->pages, AT * UNIT, 9, slice_of(b->block, b->size),
				     &b->super.snapshots), 0);
	rc = kept_open(b->pages, b->space, &b->super, &kept, &err);
	if (rc < 0) {
		assert_true(rc == -EUCLEAN || rc == -EBADMSG);
		assert_non_null(strstr(err.text, "offset"));
		return -EUCLEAN;
	}
	assert_int_equal(kept_each(kept, count_one, &count), 0);
	kept_close(kept);
	return (int)count;
}

static void a_good_list_is_read(void **state)
{
	struct bench *b = *state;

	two(b);
	assert_int_equal(open_list(b), 2);
}

static void a_list_that_makes_no_sense_is_refused(void **state)
{
	struct bench *b = *state;
	const struct ref outside = { .offset = 60 * UNIT, .generation = 2, .length = 9 * UNIT };

	two(b);
	put32(b->block + KEPT_COUNT, 0);
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	put32(b->block + KEPT_COUNT, 3);
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	put32(b->block + KEPT_COUNT, UINT32_MAX);
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	put64(b->block + KEPT_HEADER + KEPT_RECORD_GENERATION, 10);	/* above the superblock's */
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	put64(b->block + KEPT_HEADER + KEPT_RECORD_GENERATION, 3);	/* twice the same */
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	ref_encode(&outside, b->block + KEPT_HEADER + KEPT_RECORD_DEAD);
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	b->block[KEPT_HEADER + KEPT_RECORD_NAME_SIZE] = 0;
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	b->size--;
	assert_int_equal(open_list(b), -EUCLEAN);
	two(b);
	b->size = KEPT_HEADER - 1;
	assert_int_equal(open_list(b), -EUCLEAN);
}

/* The last block refers to itself; only its sum cannot be right, so that ends it. */
static void a_list_that_goes_round_ends(void **state)
{
	struct bench *b = *state;

	two(b);
	assert_int_equal(open_list(b), 2);
	ref_encode(&b->super.snapshots, b->block + KEPT_NEXT);
	assert_int_equal(open_list(b), -EUCLEAN);
}

static void any_change_of_any_byte_is_refused_or_makes_sense(void **state)
{
	struct bench *b = *state;
	uint64_t seed = 20261121;

	for (int i = 0; i < 20000; i++) {
		int rc;

		two(b);
		for (int n = 0; n < 1 + i % 3; n++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			b->block[(seed >> 8) % b->size] = (uint8_t)(seed >> 40);
		}
		rc = open_list(b);
		assert_true(rc == -EUCLEAN || rc == 2);
	}
}

int main(void)
{
#define STORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		STORY(a_good_list_is_read),
		STORY(a_list_that_makes_no_sense_is_refused),
		STORY(a_list_that_goes_round_ends),
		STORY(any_change_of_any_byte_is_refused_or_makes_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
