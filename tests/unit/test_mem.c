/* Blocks: the heap that tree nodes come from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mem.h"

enum { COUNT = 4096 };		/* 64 MiB */

static void *blocks[COUNT];

static void take_all(void)
{
	for (int i = 0; i < COUNT; i++) {
		blocks[i] = mem_block();
		assert_non_null(blocks[i]);
		memset(blocks[i], i & 255, MEM_BLOCK);
		memcpy(blocks[i], &i, sizeof(i));
	}
}

static void free_every(int nth)
{
	for (int i = 0; i < COUNT; i += nth) {
		mem_block_free(blocks[i]);
		blocks[i] = NULL;
	}
}

/* Pages of memory that this process has now. */
static long resident(void)
{
	long size, pages;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &size, &pages), 2);
	fclose(f);
	return pages;
}

static void no_block_is_given_twice(void **state)
{
	(void)state;
	take_all();
	free_every(3);
	for (int i = 0; i < COUNT; i += 3) {
		blocks[i] = mem_block();
		memset(blocks[i], 255, MEM_BLOCK);
		memcpy(blocks[i], &i, sizeof(i));
	}
	for (int i = 0; i < COUNT; i++) {
		const uint8_t fill = i % 3 ? (uint8_t)i : 255;
		int number;

		memcpy(&number, blocks[i], sizeof(number));
		assert_int_equal(number, i);
		assert_int_equal(((uint8_t *)blocks[i])[MEM_BLOCK - 1], fill);
	}
	free_every(1);
}

/* Some of them warm, some given back, in any order: by now all of them have been both. */
static void a_trimmed_block_is_a_block(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		take_all();
		free_every(2 + round);
		mem_blocks_trim();
		for (int i = 0; i < COUNT; i += 2 + round) {
			blocks[i] = mem_block();
			assert_non_null(blocks[i]);
			memcpy(blocks[i], &i, sizeof(i));
		}
		for (int i = 0; i < COUNT; i++)
			assert_memory_equal(blocks[i], &i, sizeof(i));
		free_every(1);
		mem_blocks_trim();
	}
}

static void without_memory_there_is_no_block(void **state)
{
	(void)state;
	mem_fail_after(0, 0);
	assert_null(mem_block());
	mem_fail_after(-1, 0);
	mem_block_free(NULL);
}

/* Every other one stays: what lies between must go back all the same. */
static void trimmed_blocks_take_no_memory(void **state)
{
	long before;
	(void)state;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip();			/* the sanitizers keep what is freed */
#endif
	take_all();
	before = resident();
	free_every(2);
	mem_blocks_trim();
	assert_true(before - resident() > 4096);	/* of 8192 pages that were freed */
	free_every(1);
	mem_blocks_trim();
	assert_true(before - resident() > 12000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_block_is_given_twice),
		cmocka_unit_test(a_trimmed_block_is_a_block),
		cmocka_unit_test(without_memory_there_is_no_block),
		cmocka_unit_test(trimmed_blocks_take_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
