/* Tree nodes: blocks of the page file. The input is the level and the block. */
#include "fuzz.h"

#include "node.h"
#include "sum.h"

static void read_all(const struct node *node)
{
	bool exact;

	for (uint32_t i = 0; i < node->count; i++) {
		const struct slice key = node_key(node, i);

		if (node->level == 0) {
			const struct leaf_entry entry = leaf_entry_at(node, i);

			CHECK(node_find(node, key, &exact) == i && exact);
			CHECK(sum64(entry.value.data, entry.value.size) | 1);
		} else {
			CHECK(i == 0 || node_find_child(node, key) == i);
			CHECK(!inner_child(node, i));
			CHECK(inner_ref(node, i).length);
		}
	}
}

/* What was read is written, and read again. */
static void write_and_read(const struct node *node)
{
	const uint32_t size = node_block_size(node);
	uint8_t *block = malloc(size);
	struct ref ref = { .offset = 4 * UNIT, .generation = node->generation, .length = size };
	struct node *again;

	node_encode(node, block);
	ref.sum = sum64(block, size);
	CHECK(node_decode(slice_of(block, size), &ref, node->level, &again, NULL) == 0);
	CHECK(again->count == node->count);
	for (uint32_t i = 0; i < node->count; i++)
		CHECK(slice_equal(node_key(node, i), node_key(again, i)));
	node_free(again);
	free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t level = take_byte(&data, &size);
	uint8_t *block = malloc(size ? size : 1);
	struct ref ref = { .offset = 4 * UNIT, .length = (uint32_t)size };
	struct err err;
	struct node *node;

	if (size)
		memcpy(block, data, size);
	if (size >= NODE_HEADER && !(level & 0x80)) {
		put32(block + NODE_MAGIC, NODE_MAGIC_VALUE);
		block[NODE_LEVEL] = level;
		put32(block + NODE_BODY_SIZE, (uint32_t)size - NODE_HEADER);
		ref.generation = get64(block + NODE_GENERATION);
	}
	if (node_decode(slice_of(block, size), &ref, level & 0x7f, &node, &err) == 0) {
		read_all(node);
		write_and_read(node);
		node_free(node);
	}
	free(block);
	return 0;
}
