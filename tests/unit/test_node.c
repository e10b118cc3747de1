/* A node as a block: what was in it comes back, and whatever byte of it is wrong, it is refused
 * or it is a node in order. (The checksum is the business of page.c; here it would be right.) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "node.h"
#include "sim/medium.h"

/* ---- vocabulary ------------------------------------------------------------------------- */

enum { GENERATION = 3 };

static const struct ref somewhere = {
	.offset = 9 * UNIT, .generation = GENERATION, .sum = 1, .length = 1,
};

static struct slice key_of(char *text, uint32_t k)
{
	return slice_of(text, (size_t)sprintf(text, "key %03u", k));
}

static struct node *leaf_of(uint32_t count)
{
	struct node *leaf = node_new(NODE_BYTES, 0, GENERATION);
	char text[16];

	for (uint32_t i = 0; i < count; i++) {
		const struct leaf_entry entry = {
			.key = key_of(text, i), .value = slice_of("value", i % 6),
			.run = i % 3 == 0 ? somewhere : (struct ref){ 0 },
		};

		leaf_insert(leaf, i, &entry);
	}
	return leaf;
}

static struct node *inner_of(uint32_t count)
{
	struct node *inner = node_new(NODE_BYTES, 1, GENERATION);
	char text[16];

	for (uint32_t i = 0; i < count; i++)
		inner_insert(inner, i, i ? key_of(text, i) : slice_of("", 0), &somewhere, NULL);
	return inner;
}

/* Its block, in memory that ends where it does, so that a sanitizer sees who reads on. */
static uint8_t *block_of(const struct node *node, uint32_t *size)
{
	uint8_t *block;

	*size = node_block_size(node);
	block = malloc(*size);
	node_encode(node, block);
	return block;
}

/* Every entry can be looked at, and the keys are in order. */
static void is_in_order(const struct node *node)
{
	assert_true(node->count > 0);
	for (uint32_t i = 0; i < node->count; i++) {
		const struct slice key = node_key(node, i);

		assert_in_range(key.size, node->level ? 0 : 1, NODE_KEY_MAX);
		if (i > (node->level ? 1 : 0))
			assert_true(slice_compare(node_key(node, i - 1), key) < 0);
		if (node->level) {
			assert_null(inner_child(node, i));
			assert_true(inner_ref(node, i).length > 0);
		} else {
			const struct leaf_entry entry = leaf_entry_at(node, i);

			assert_true(leaf_entry_size(&entry) <= node->capacity);
		}
	}
}

/* Refused, or in order; and then just as long as it was. True if it was taken. */
static bool survives(const uint8_t *block, uint32_t size, uint8_t level)
{
	struct node *node = NULL;
	struct err err = { "" };
	const int rc = node_decode(slice_of(block, size), &somewhere, level, &node, &err);

	if (rc < 0) {
		assert_int_equal(rc, -EUCLEAN);
		assert_true(err.text[0] != '\0');
		return false;
	}
	is_in_order(node);
	assert_int_equal(node_block_size(node), size);
	node_free(node);
	return true;
}

static void every_byte_wrong(struct node *node)
{
	uint32_t size, taken = 0;
	uint8_t *block = block_of(node, &size);

	assert_true(survives(block, size, node->level));
	for (uint32_t at = 0; at < size; at++)
		for (unsigned mask = 1; mask < 256; mask++) {
			block[at] ^= (uint8_t)mask;
			taken += survives(block, size, node->level);
			block[at] ^= (uint8_t)mask;
		}
	assert_in_range(taken, 1, size * 255 - 1);	/* values may be anything; headers not */
	free(block);
	node_free(node);
}

/* ---- stories ---------------------------------------------------------------------------- */

static void a_leaf_with_any_byte_wrong_is_refused_or_in_order(void **state)
{
	(void)state;
	every_byte_wrong(leaf_of(12));
}

static void an_inner_node_with_any_byte_wrong_is_refused_or_in_order(void **state)
{
	(void)state;
	every_byte_wrong(inner_of(9));
}

static void a_block_that_was_cut_is_refused(void **state)
{
	struct node *const nodes[] = { leaf_of(5), inner_of(5) };
	(void)state;

	for (int i = 0; i < 2; i++) {
		uint32_t size;
		uint8_t *block = block_of(nodes[i], &size);

		for (uint32_t less = 0; less < size; less++) {
			uint8_t *copy = malloc(less + !less);

			memcpy(copy, block, less);
			if (less >= NODE_HEADER)
				put32(copy + NODE_BODY_SIZE, less - NODE_HEADER);
			assert_false(survives(copy, less, nodes[i]->level));
			free(copy);
		}
		free(block);
		node_free(nodes[i]);
	}
}

static void a_node_of_another_level_or_generation_is_refused(void **state)
{
	struct node *node = leaf_of(3), *out;
	const struct ref other = { .generation = GENERATION + 1 };
	uint32_t size;
	uint8_t *block = block_of(node, &size);
	(void)state;

	assert_int_equal(node_decode(slice_of(block, size), &somewhere, 1, &out, NULL), -EUCLEAN);
	assert_int_equal(node_decode(slice_of(block, size), &other, 0, &out, NULL), -EUCLEAN);
	free(block);
	node_free(node);
}

/* Values whose size and bytes follow from their keys. */
static struct slice value_of(uint8_t *bytes, struct slice key)
{
	const uint8_t *k = key.data;
	const size_t size = k[key.size - 1] % 10 * 9u;

	memset(bytes, k[key.size - 2], size);
	return slice_of(bytes, size);
}

static void has_its_values(const struct node *node)
{
	uint8_t bytes[100];

	for (uint32_t i = 0; i < node->count; i++)
		assert_true(slice_equal(leaf_entry_at(node, i).value,
					value_of(bytes, node_key(node, i))));
}

static void what_was_removed_leaves_room_and_no_trace(void **state)
{
	struct node *node = leaf_of(0);
	uint8_t bytes[100];
	char text[16];
	uint32_t count = 0;
	(void)state;

	for (uint32_t k = 0; k < 5000; k++) {
		const struct slice key = key_of(text, k * 787 % 999);
		const struct leaf_entry entry = { .key = key, .value = value_of(bytes, key) };
		bool exact;
		const uint32_t index = node_find(node, key, &exact);

		if (exact) {
			node_remove(node, index);
			count--;
		} else if (leaf_entry_size(&entry) + NODE_SLOT <= node_room(node)) {
			leaf_insert(node, index, &entry);
			count++;
		}
		assert_int_equal(node->count, count);
		if (k % 97 == 0 && count) {
			is_in_order(node);
			has_its_values(node);
		}
	}
	node_free(node);
}

/* Short alphabets, long beginnings, zeros and prefixes of others: whatever might confuse a search
 * that looks at two bytes of a key first. */
static struct slice odd_key(uint8_t *bytes, uint64_t *random)
{
	const size_t shared = (size_t)(chance(random) % 24), more = (size_t)(chance(random) % 4);

	memset(bytes, 'k', shared);
	for (size_t i = 0; i < more; i++)
		bytes[shared + i] = (uint8_t)("\0kz\xff"[chance(random) % 4]);
	if (shared + more == 0)
		bytes[0] = 'k';
	return slice_of(bytes, shared + more ? shared + more : 1);
}

/* The first from `from` on that is not less, the slow way. */
static uint32_t look_for(const struct node *node, uint32_t from, struct slice key)
{
	while (from < node->count && slice_compare(node_key(node, from), key) < 0)
		from++;
	return from;
}

static void insert_at(struct node *node, uint32_t index, struct slice key)
{
	const struct leaf_entry entry = { .key = key, .value = slice_of("v", 1) };

	if (node->level)
		inner_insert(node, index, key, &somewhere, NULL);
	else
		leaf_insert(node, index, &entry);
}

static bool has(const struct node *node, uint32_t index, struct slice key)
{
	return index < node->count && slice_equal(node_key(node, index), key);
}

/* Where a search ends, in a leaf (level 0) or an inner node, whose first key counts for nothing. */
static void is_found_rightly(const struct node *node, struct slice key)
{
	const uint32_t right = look_for(node, node->level, key);
	bool exact = false;

	if (node->level) {
		assert_int_equal(node_find_child(node, key),
				 has(node, right, key) ? right : right - 1);
	} else {
		assert_int_equal(node_find(node, key, &exact), right);
		assert_int_equal(exact, has(node, right, key));
	}
}

static void a_search_ends_where_a_slow_one_does(void **state)
{
	uint64_t random = 1;
	uint8_t bytes[32];
	(void)state;

	for (uint32_t round = 0; round < 400; round++) {
		const uint8_t level = (uint8_t)(round % 2);
		struct node *node = node_new(NODE_BYTES, level, GENERATION);

		if (level)
			insert_at(node, 0, slice_of("", 0));
		for (uint32_t i = 0; i < 80; i++) {
			const struct slice key = odd_key(bytes, &random);
			const uint32_t at = look_for(node, level, key);

			is_found_rightly(node, key);
			if (has(node, at, key) && at >= level)
				node_remove(node, at);
			else
				insert_at(node, at, key);
			is_found_rightly(node, odd_key(bytes, &random));
		}
		node_free(node);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leaf_with_any_byte_wrong_is_refused_or_in_order),
		cmocka_unit_test(an_inner_node_with_any_byte_wrong_is_refused_or_in_order),
		cmocka_unit_test(a_block_that_was_cut_is_refused),
		cmocka_unit_test(a_node_of_another_level_or_generation_is_refused),
		cmocka_unit_test(what_was_removed_leaves_room_and_no_trace),
		cmocka_unit_test(a_search_ends_where_a_slow_one_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
