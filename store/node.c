#include "node.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

enum {
	CACHE_LINE = 64,
	/* In the size of a removed entry's key. Its bytes lie there until they are squeezed out. */
	REMOVED = 0x8000,
	HOLES_MAX = NODE_BYTES / (LEAF_ENTRY_HEADER + 1) / 2 + 1,
};
_Static_assert((int)NODE_KEY_MAX < (int)REMOVED, "or keys could seem removed");

struct node *node_new(uint32_t capacity, uint8_t level, uint64_t generation)
{
	struct node *node =
		capacity == NODE_BYTES ? mem_block() : mem_alloc(sizeof(*node) + capacity);

	if (node) {
		node->capacity = capacity;
		node_reset(node, level, generation);
	}
	return node;
}

void node_free(struct node *node)
{
	if (node && node->capacity == NODE_BYTES)
		mem_block_free(node);
	else
		mem_free(node);
}

void node_reset(struct node *node, uint8_t level, uint64_t generation)
{
	const uint32_t capacity = node->capacity;

	*node = (struct node){
		.refs = 1, .capacity = capacity, .level = level, .generation = generation,
	};
}

/* ---- entries and their offsets ---------------------------------------------------------- */

static uint8_t *slot(const struct node *node, uint32_t index)
{
	return (uint8_t *)node->bytes + node->capacity - (index + 1) * NODE_SLOT;
}

static uint32_t slot_offset(const struct node *node, uint32_t index)
{
	uint16_t offset;

	memcpy(&offset, slot(node, index), sizeof(offset));
	return offset;
}

static uint16_t slot_hint(const struct node *node, uint32_t index)
{
	uint16_t hint;

	memcpy(&hint, slot(node, index) + sizeof(hint), sizeof(hint));
	return hint;
}

/* Entries of larger nodes, which are alone, lie at 0. */
static void set_slot(struct node *node, uint32_t index, uint32_t offset, uint16_t hint)
{
	const uint16_t low = (uint16_t)offset;

	assert(offset <= UINT16_MAX);
	memcpy(slot(node, index), &low, sizeof(low));
	memcpy(slot(node, index) + sizeof(low), &hint, sizeof(hint));
}

static uint8_t *entry_at(const struct node *node, uint32_t index)
{
	return (uint8_t *)node->bytes + slot_offset(node, index);
}

static uint32_t entry_size(uint8_t level, const uint8_t *entry)
{
	const uint32_t key_size = get16(entry) & ~(uint32_t)REMOVED;

	if (level)
		return INNER_ENTRY_HEADER + key_size + INNER_ENTRY_TAIL;
	return LEAF_ENTRY_HEADER + key_size + (get32(entry + 2) & ~LEAF_VALUE_RUN);
}

static bool is_removed(const uint8_t *entry)
{
	return get16(entry) & REMOVED;
}

static struct slice entry_key(uint8_t level, const uint8_t *entry)
{
	return slice_of(entry + (level ? INNER_ENTRY_HEADER : LEAF_ENTRY_HEADER), get16(entry));
}

struct slice node_key(const struct node *node, uint32_t index)
{
	return entry_key(node->level, entry_at(node, index));
}

/* The two bytes of a key behind what all keys share; as numbers they are in the keys' order. */
static uint16_t hint_of(const struct node *node, struct slice key)
{
	const uint8_t *bytes = key.data;
	const size_t at = node->shared_size;
	const unsigned first = at < key.size ? bytes[at] : 0;
	const unsigned second = at + 1 < key.size ? bytes[at + 1] : 0;

	return (uint16_t)(first << 8 | second);
}

/* A key is going to be inserted before `index`: are there bytes that it does not share? */
static void share(struct node *node, uint32_t index, struct slice key)
{
	const uint8_t *bytes = key.data;
	const uint32_t unlooked = node->level && node->count;
	size_t size = 0;

	if (node->level && index == 0)
		return;
	if (node->count == unlooked) {		/* the first that counts shares all it has */
		node->shared_size = key.size < sizeof(node->shared) ? (uint8_t)key.size :
				    sizeof(node->shared);
		if (key.size)
			memcpy(node->shared, key.data, node->shared_size);
	}
	while (size < node->shared_size && size < key.size && bytes[size] == node->shared[size])
		size++;
	if (size == node->shared_size)
		return;
	node->shared_size = (uint8_t)size;
	for (uint32_t i = 0; i < node->count; i++)
		set_slot(node, i, slot_offset(node, i), hint_of(node, node_key(node, i)));
}

/* All entries are there: what is before and behind all others has in common, all have. */
static void share_sorted(struct node *node)
{
	const uint32_t first = node->level ? 1 : 0;
	struct slice low, high;
	size_t size = 0;

	if (node->count <= first)
		return;
	low = node_key(node, first);
	high = node_key(node, node->count - 1);
	while (size < sizeof(node->shared) && size < low.size && size < high.size &&
	       ((const uint8_t *)low.data)[size] == ((const uint8_t *)high.data)[size])
		size++;
	node->shared_size = (uint8_t)size;
	memcpy(node->shared, low.data, size);
	for (uint32_t i = 0; i < node->count; i++)
		set_slot(node, i, slot_offset(node, i), hint_of(node, node_key(node, i)));
}

/* Removed entries that lie one behind the other. */
struct hole {
	uint32_t offset;
	uint32_t gone;		/* bytes in this hole and in all before it */
};

/* Where the entries end that begin at `at` and are all removed, or all there. */
static uint32_t stretch_end(const struct node *node, uint32_t at)
{
	const bool removed = is_removed(node->bytes + at);

	while (at < node->used && is_removed(node->bytes + at) == removed)
		at += entry_size(node->level, node->bytes + at);
	return at;
}

/* Moves what is there together, and tells where the holes were. */
static uint32_t close_holes(struct node *node, struct hole *holes)
{
	uint32_t count = 0, gone = 0, end;

	for (uint32_t at = 0; at < node->used; at = end) {
		end = stretch_end(node, at);
		if (is_removed(node->bytes + at)) {
			gone += end - at;
			holes[count++] = (struct hole){ at, gone };
		} else {
			memmove(node->bytes + at - gone, node->bytes + at, end - at);
		}
	}
	return count;
}

/* Bytes of the holes that were before `offset`. */
static uint32_t gone_before(const struct hole *holes, uint32_t count, uint32_t offset)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (holes[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? holes[low - 1].gone : 0;
}

/* Squeezes out what was removed. */
static void compact(struct node *node)
{
	struct hole holes[HOLES_MAX];
	uint32_t count;

	assert(node->capacity <= NODE_BYTES);	/* larger ones hold one entry, nothing removed */
	count = close_holes(node, holes);
	for (uint32_t i = 0; i < node->count; i++) {
		const uint32_t offset = slot_offset(node, i);

		set_slot(node, i, offset - gone_before(holes, count, offset), slot_hint(node, i));
	}
	node->used -= node->removed;
	node->removed = 0;
}

/* Makes room for an entry of `size` bytes before `index`, and returns where to write it. */
static uint8_t *open_gap(struct node *node, uint32_t index, uint32_t size, struct slice key)
{
	assert(size + NODE_SLOT <= node_room(node) && index <= node->count);
	share(node, index, key);
	if (size + NODE_SLOT > node_gap(node))
		compact(node);
	memmove(slot(node, node->count), slot(node, node->count) + NODE_SLOT,
		(node->count - index) * NODE_SLOT);
	set_slot(node, index, node->used, hint_of(node, key));
	node->count++;
	node->used += size;
	return node->bytes + node->used - size;
}

/* How the keys' shared bytes compare with as many of `key`. */
static int compare_shared(const struct node *node, struct slice key)
{
	const size_t size = node->shared_size;

	return slice_compare(slice_of(node->shared, size),
			     slice_of(key.data, key.size < size ? key.size : size));
}

/* How entry `index`'s key compares with one that begins with what all share. */
static int compare(const struct node *node, uint32_t index, struct slice key, uint16_t hint)
{
	const uint16_t its = slot_hint(node, index);

	return its != hint ? (its > hint) - (its < hint) :
		slice_compare(node_key(node, index), key);
}

/* The first of [low, count) whose key is not less than `key`. */
static uint32_t lower_bound(const struct node *node, uint32_t low, struct slice key, bool *exact)
{
	const int shared = compare_shared(node, key);
	const uint16_t hint = hint_of(node, key);
	uint32_t high = node->count;

	*exact = false;
	if (shared != 0)
		return shared < 0 ? high : low;
	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		const int order = compare(node, middle, key, hint);

		if (order < 0) {
			low = middle + 1;
		} else {
			high = middle;
			*exact = order == 0;
		}
	}
	return low;
}

uint32_t node_find(const struct node *leaf, struct slice key, bool *exact)
{
	return lower_bound(leaf, 0, key, exact);
}

uint32_t node_find_child(const struct node *inner, struct slice key)
{
	bool exact;
	const uint32_t index = lower_bound(inner, 1, key, &exact);

	return exact ? index : index - 1;
}

void node_remove(struct node *node, uint32_t index)
{
	uint8_t *entry = entry_at(node, index);

	node->removed += entry_size(node->level, entry);
	put16(entry, get16(entry) | REMOVED);
	node->count--;
	if (index < node->inserted)
		node->inserted--;
	memmove(slot(node, node->count) + NODE_SLOT, slot(node, node->count),
		(node->count - index) * NODE_SLOT);
	if (node->count == 0)
		node->used = node->removed = 0;
}

/* ---- leaves ----------------------------------------------------------------------------- */

void leaf_expect(const struct node *leaf, uint32_t index)
{
	if (index >= leaf->count)
		return;
	__builtin_prefetch(entry_at(leaf, index));
	__builtin_prefetch(entry_at(leaf, index) + CACHE_LINE);
}

struct leaf_entry leaf_entry_at(const struct node *leaf, uint32_t index)
{
	const uint8_t *entry = entry_at(leaf, index);
	const uint32_t size = get32(entry + 2);
	const struct slice key = entry_key(0, entry);
	const uint8_t *value = (const uint8_t *)key.data + key.size;
	struct leaf_entry e = { .key = key, .value = slice_of(value, size & ~LEAF_VALUE_RUN) };

	if (size & LEAF_VALUE_RUN) {
		struct ref run = { 0 };		/* e, were its address taken, would be copied out */
		const bool good = ref_decode_run(value, e.value.size, &run);

		assert(good);		/* entry_fault looked at what is not our own */
		(void)good;
		e.value = slice_of(value + ref_size(&run), e.value.size - ref_size(&run));
		e.run = run;
	}
	return e;
}

static uint32_t value_size(const struct leaf_entry *entry)
{
	const size_t patched = entry->patch.size ? entry->patch_offset + entry->patch.size : 0;
	const size_t size = patched > entry->value.size ? patched : entry->value.size;

	return (uint32_t)size + (entry->run.length ? ref_size(&entry->run) : 0);
}

uint32_t leaf_entry_size(const struct leaf_entry *entry)
{
	return LEAF_ENTRY_HEADER + (uint32_t)entry->key.size + value_size(entry);
}

void leaf_insert(struct node *leaf, uint32_t index, const struct leaf_entry *entry)
{
	uint8_t *at = open_gap(leaf, index, leaf_entry_size(entry), entry->key);

	if (index != leaf->inserted)
		leaf->in_order = 0;
	else if (leaf->in_order < UINT16_MAX)
		leaf->in_order++;
	leaf->inserted = (uint16_t)(index + 1);
	put16(at, (uint16_t)entry->key.size);
	put32(at + 2, value_size(entry) | (entry->run.length ? LEAF_VALUE_RUN : 0));
	at += LEAF_ENTRY_HEADER;
	memcpy(at, entry->key.data, entry->key.size);
	at += entry->key.size;
	if (entry->run.length) {
		ref_encode(&entry->run, at);
		at += ref_size(&entry->run);
	}
	if (entry->value.size)
		memcpy(at, entry->value.data, entry->value.size);
	if (entry->patch.size)
		memcpy(at + entry->patch_offset, entry->patch.data, entry->patch.size);
}

/* Adds `more` bytes to the end of an entry. Only one that lies behind all others grows where it is;
 * a node for a single entry has no other kind. */
static void lengthen(struct node *leaf, uint32_t index, uint32_t more)
{
	uint8_t *entry = entry_at(leaf, index), old[NODE_BYTES];
	const uint32_t size = entry_size(0, entry);

	if (entry + size == leaf->bytes + leaf->used && more <= node_gap(leaf)) {
		leaf->used += more;
	} else {
		assert(size <= sizeof(old));
		memcpy(old, entry, size);
		node_remove(leaf, index);
		entry = open_gap(leaf, index, size + more, entry_key(0, old));
		memcpy(entry, old, size);
	}
	put32(entry + 2, get32(entry + 2) + more);	/* a node's bytes never reach the top bit */
}

bool leaf_patch(struct node *leaf, uint32_t index, uint32_t offset, struct slice bytes)
{
	struct leaf_entry entry = leaf_entry_at(leaf, index);
	const size_t end = offset + bytes.size;
	const uint32_t more = end > entry.value.size ? (uint32_t)(end - entry.value.size) : 0;

	assert(offset <= entry.value.size);
	if (more > node_room(leaf))
		return false;
	if (more)
		lengthen(leaf, index, more);
	entry = leaf_entry_at(leaf, index);
	if (bytes.size)
		memcpy((uint8_t *)entry.value.data + offset, bytes.data, bytes.size);
	return true;
}

/* ---- inner nodes ------------------------------------------------------------------------ */

/* An inner entry in memory: key size, key, reference, and a pointer, which no block has. */
static uint8_t *inner_tail(const struct node *inner, uint32_t index)
{
	uint8_t *entry = entry_at(inner, index);

	return entry + INNER_ENTRY_HEADER + get16(entry);
}

void inner_insert(struct node *inner, uint32_t index, struct slice key, const struct ref *ref,
		  struct node *child)
{
	uint8_t *at = open_gap(inner, index, inner_entry_size(key), key);

	put16(at, (uint16_t)key.size);
	if (key.size)
		memcpy(at + INNER_ENTRY_HEADER, key.data, key.size);
	ref_encode(ref, at + INNER_ENTRY_HEADER + key.size);
	inner_set_child(inner, index, child);
}

struct node *inner_child(const struct node *inner, uint32_t index)
{
	struct node *child;

	memcpy(&child, inner_tail(inner, index) + REF_SIZE, sizeof(child));
	return child;
}

void inner_set_child(struct node *inner, uint32_t index, struct node *child)
{
	memcpy(inner_tail(inner, index) + REF_SIZE, &child, sizeof(child));
}

void inner_forget_child(struct node *inner, uint32_t index)
{
	const struct ref ref = inner_ref(inner, index);

	ref_encode(&ref, inner_tail(inner, index));
	inner_set_child(inner, index, NULL);
}

struct ref inner_ref(const struct node *inner, uint32_t index)
{
	const struct node *child = inner_child(inner, index);

	return child ? child->ref : ref_decode(inner_tail(inner, index));
}

/* ---- moving entries --------------------------------------------------------------------- */

void node_append(struct node *to, const struct node *from, uint32_t index, uint32_t count,
		 const struct slice *first_key)
{
	if (first_key && count) {
		const struct ref ref = inner_ref(from, index);

		inner_insert(to, to->count, *first_key, &ref, inner_child(from, index));
		index++;
		count--;
	}
	for (; count > 0; index++, count--) {
		const uint8_t *entry = entry_at(from, index);
		const uint32_t size = entry_size(from->level, entry);

		memcpy(open_gap(to, to->count, size, entry_key(from->level, entry)), entry, size);
	}
}

void node_cut(struct node *node, uint32_t index)
{
	while (node->count > index)
		node_remove(node, node->count - 1);
}

/* ---- blocks ----------------------------------------------------------------------------- */

static uint32_t body_size(const struct node *node)
{
	const uint32_t memory_only = node->level ? (uint32_t)sizeof(struct node *) : 0;

	return node->used - node->removed - node->count * memory_only;
}

uint32_t node_block_size(const struct node *node)
{
	return NODE_HEADER + body_size(node);
}

void node_encode(const struct node *node, uint8_t *block)
{
	uint8_t *at = block + NODE_HEADER;

	memset(block, 0, NODE_HEADER);
	put32(block + NODE_MAGIC, NODE_MAGIC_VALUE);
	block[NODE_LEVEL] = node->level;
	put64(block + NODE_GENERATION, node->generation);
	put32(block + NODE_COUNT, node->count);
	put32(block + NODE_BODY_SIZE, body_size(node));
	for (uint32_t i = 0; i < node->count; i++) {
		const uint8_t *entry = entry_at(node, i);
		uint32_t size = entry_size(node->level, entry);

		if (node->level)
			size -= (uint32_t)sizeof(struct node *);
		memcpy(at, entry, size);
		if (node->level) {
			const struct ref ref = inner_ref(node, i);

			assert(ref.length != 0);
			ref_encode(&ref, at + size - REF_SIZE);
		}
		at += size;
	}
}

/* Bytes of the entry at `at` in a block, or 0 if `left` does not hold a whole one. */
static uint32_t block_entry_size(uint8_t level, const uint8_t *at, uint32_t left)
{
	const uint32_t header = level ? INNER_ENTRY_HEADER : LEAF_ENTRY_HEADER;
	uint64_t size;

	if (left < header)
		return 0;
	size = (uint64_t)header + get16(at);
	if (level)
		size += REF_SIZE;
	else
		size += get32(at + 2) & ~LEAF_VALUE_RUN;
	return size <= left ? (uint32_t)size : 0;
}

/* Is `at` an entry that this node may hold next? Says why not. */
static const char *entry_fault(const struct node *node, const uint8_t *at)
{
	const struct slice key = entry_key(node->level, at);
	const bool first = node->count == 0;

	if (key.size > NODE_KEY_MAX)
		return "too long a key";
	if (!node->level) {
		const uint32_t size = get32(at + 2);
		struct ref run;

		if (size & LEAF_VALUE_RUN &&
		    (!ref_decode_run((const uint8_t *)key.data + key.size, size & ~LEAF_VALUE_RUN,
				     &run) || run.length == 0))
			return "a run without a reference";
		if (key.size == 0)
			return "an empty key";
	} else if (get32((const uint8_t *)key.data + key.size + REF_LENGTH) == 0) {
		return "a child without a reference";
	}
	if (!first && !(node->level && node->count == 1) &&
	    slice_compare(node_key(node, node->count - 1), key) >= 0)
		return "keys out of order";
	return NULL;
}

static int decode_entries(struct node *node, const uint8_t *at, uint32_t left, uint32_t count,
			  struct err *err)
{
	const char *fault = NULL;

	for (; count > 0 && !fault; count--) {
		const uint32_t size = block_entry_size(node->level, at, left);
		const uint32_t more = node->level ? (uint32_t)sizeof(struct node *) : 0;

		if (size == 0) {
			fault = "an entry beyond its end";
			break;
		}
		fault = entry_fault(node, at);
		memcpy(node->bytes + node->used, at, size);
		memset(node->bytes + node->used + size, 0, more);
		set_slot(node, node->count++, node->used, 0);
		node->used += size + more;
		at += size;
		left -= size;
	}
	if (!fault && left)
		fault = "bytes behind its last entry";
	if (!fault)
		share_sorted(node);
	return fault ? err_set(err, -EUCLEAN, "a tree node has %s", fault) : 0;
}

int node_decode(struct slice block, const struct ref *ref, uint8_t level, struct node **out,
		struct err *err)
{
	const uint8_t *head = block.data;
	struct node *node;
	uint32_t count, body;
	uint64_t need;
	int rc;

	if (block.size < NODE_HEADER || get32(head + NODE_MAGIC) != NODE_MAGIC_VALUE ||
	    head[NODE_LEVEL] != level || get64(head + NODE_GENERATION) != ref->generation)
		return err_set(err, -EUCLEAN, "a block is not the tree node it should be");
	if (head[NODE_CODEC] != 0 || get16(head + NODE_ZERO) != 0)
		return err_set(err, -EUCLEAN, "a tree node is coded in an unknown way");
	count = get32(head + NODE_COUNT);
	body = get32(head + NODE_BODY_SIZE);
	if (body != block.size - NODE_HEADER || body > NODE_BODY_MAX || count == 0 ||
	    count > body / INNER_ENTRY_HEADER)
		return err_set(err, -EUCLEAN, "a tree node has impossible sizes");

	need = body + (uint64_t)count * (NODE_SLOT + (level ? sizeof(struct node *) : 0));
	if (need > NODE_BYTES && (level || count > 1))
		return err_set(err, -EUCLEAN, "a tree node is too full");
	node = node_new(need > NODE_BYTES ? (uint32_t)need : NODE_BYTES, level, ref->generation);
	if (!node)
		return -ENOMEM;
	node->ref = *ref;
	rc = decode_entries(node, head + NODE_HEADER, (uint32_t)body, count, err);
	if (rc == 0) {
		*out = node;
		node = NULL;
	}
	node_free(node);
	return rc;
}
