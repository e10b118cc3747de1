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

static void what_was_removed_leaves_room_and_no_trace(void **state)
{
	struct node *node = leaf_of(0);
	char text[16];
	uint32_t count = 0;
	(void)state;

	for (uint32_t k = 0; k < 5000; k++) {
		const struct leaf_entry entry = { .key = key_of(text, k % 999), .value = slice_of("v", 1) };
		bool exact;
		const uint32_t index = node_find(node, entry.key, &exact);

		if (exact) {
			node_remove(node, index);
			count--;
		} else if (leaf_entry_size(&entry) + NODE_SLOT <= node_room(node)) {
			leaf_insert(node, index, &entry);
			count++;
		}
		assert_int_equal(node->count, count);
		if (k % 97 == 0 && count)
			is_in_order(node);
	}
	node_free(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leaf_with_any_byte_wrong_is_refused_or_in_order),
		cmocka_unit_test(an_inner_node_with_any_byte_wrong_is_refused_or_in_order),
		cmocka_unit_test(a_block_that_was_cut_is_refused),
		cmocka_unit_test(a_node_of_another_level_or_generation_is_refused),
		cmocka_unit_test(what_was_removed_leaves_room_and_no_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
