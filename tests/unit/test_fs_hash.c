/* The hash table finds what is in it and nothing else, at every size it grows through. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hash.h"
#include "mem.h"

enum { THINGS = 5000 };

struct thing {
	struct hash_link link;
	bool in;
};

static struct hash table;
static struct thing things[THINGS];

static int fresh(void **state)
{
	(void)state;
	for (size_t i = 0; i < THINGS; i++)
		things[i].in = false;
	return hash_init(&table);
}

static int done(void **state)
{
	(void)state;
	hash_done(&table);
	return 0;
}

static void insert(size_t i, uint64_t hash)
{
	hash_insert(&table, &things[i].link, hash);
	things[i].in = true;
}

static void take_out(size_t i)
{
	hash_remove(&table, &things[i].link);
	things[i].in = false;
}

/* How often the thing is met among those with its hash: once if it is in, never if not. */
static unsigned met(size_t i, uint64_t hash)
{
	unsigned n = 0;

	for (struct hash_link *l = hash_first(&table, hash); l; l = hash_next(l)) {
		assert_int_equal(l->hash, hash);
		n += l == &things[i].link;
	}
	return n;
}

static uint64_t spread(size_t i)
{
	return i * UINT64_C(0x9e3779b97f4a7c15);
}

static void everything_inserted_is_found_while_it_grows(void **state)
{
	(void)state;
	for (size_t i = 0; i < THINGS; i++) {
		insert(i, spread(i));
		if (i % 97 == 0)
			for (size_t k = 0; k < THINGS; k++)
				assert_int_equal(met(k, spread(k)), things[k].in);
	}
	assert_int_equal(table.count, THINGS);
}

static void what_is_taken_out_is_not_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < THINGS; i++)
		insert(i, spread(i));
	for (size_t i = 0; i < THINGS; i += 3)
		take_out(i);
	for (size_t i = 0; i < THINGS; i++)
		assert_int_equal(met(i, spread(i)), things[i].in);
	for (size_t i = 0; i < THINGS; i += 3)
		insert(i, spread(i));
	for (size_t i = 0; i < THINGS; i++)
		assert_int_equal(met(i, spread(i)), 1);
}

static void things_of_one_hash_are_kept_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < 200; i++)
		insert(i, 7);
	for (size_t i = 0; i < 200; i += 2)
		take_out(i);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(met(i, 7), things[i].in);
	assert_null(hash_first(&table, 8));
}

static void it_shrinks_as_it_grew_and_loses_nothing(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < THINGS; i++)
			insert(i, spread(i));
		for (size_t i = 0; i < THINGS; i++) {
			if (i % 100 == 7)
				continue;
			take_out(i);
			if (i % 97 == 0)
				for (size_t k = 0; k < THINGS; k++)
					assert_int_equal(met(k, spread(k)), things[k].in);
		}
		assert_in_range(table.capacity, 1, THINGS / 4);
		for (size_t i = 7; i < THINGS; i += 100)
			take_out(i);
		assert_int_equal(table.count, 0);
	}
}

static void without_memory_it_finds_everything_all_the_same(void **state)
{
	(void)state;
	mem_fail_after(0, true);
	for (size_t i = 0; i < THINGS; i++)
		insert(i, spread(i));
	mem_fail_after(-1, false);
	for (size_t i = 0; i < THINGS; i++)
		assert_int_equal(met(i, spread(i)), 1);
	for (size_t i = 0; i < THINGS; i++)
		take_out(i);
	assert_int_equal(table.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_inserted_is_found_while_it_grows),
		TEST(what_is_taken_out_is_not_found),
		TEST(things_of_one_hash_are_kept_apart),
		TEST(it_shrinks_as_it_grew_and_loses_nothing),
		TEST(without_memory_it_finds_everything_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
