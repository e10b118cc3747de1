/* node.h - one node of the tree: a sorted array of entries, in memory and as a block.
 *
 * A leaf's entries are keys with values, an inner node's are separators with children. Entries
 * lie in the node's bytes much as they do on disk, filled from the front; their slots, in key
 * order, from the back: where the entry is, and the two bytes of its key that follow what all keys
 * share, so that a search rarely looks at an entry that it does not want. Nothing here allocates
 * but node_new, and nothing locks: who may touch a node, and when, is the tree's business
 * (tree.h).
 *
 * Nodes come in one size, NODE_BYTES; only an entry that does not fit one has a larger node, in
 * which it is alone.
 */
#ifndef CUBBY_NODE_H
#define CUBBY_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "err.h"
#include "format.h"
#include "mem.h"
#include "ref.h"

struct node {
	/* Guarded by the tree's lock. */
	uint32_t refs;		/* parents in memory, and roots */
	bool superseded;	/* no longer in the tree that changes, only in one being written */
	bool copied;		/* to be written early, and not changed since */
	uint8_t recent;		/* used since the clock's hand went by; set atomically */
	uint8_t level;		/* immutable; 0 is a leaf */
	struct ref ref;		/* where it lies on disk; length 0: nowhere yet, but space may be
				 * held for it at the offset, if that is not 0 */
	uint64_t visited;	/* by the commit of this number: see tree.c */

	uint64_t generation;	/* immutable; the one that may change the rest */
	uint32_t count;		/* entries */
	uint32_t used;		/* bytes of entries, removed ones included */
	uint32_t removed;	/* bytes of removed ones */
	uint32_t capacity;	/* immutable; of `bytes` */
	uint16_t inserted;	/* what a leaf got last is before this index, ... */
	uint16_t in_order;	/* ... and so many of those before it came behind each other */
	uint8_t shared_size;	/* all keys (but an inner node's first) begin with these: ... */
	uint8_t shared[26];
	uint8_t scanned;	/* a leaf that a scan brought in, and nobody else has used since; set
				 * atomically */
	uint8_t bytes[];	/* entries -> ... <- slots of 4 bytes: offset, two bytes of key */
};

enum {
	NODE_ALLOCATION = MEM_BLOCK,
	NODE_BYTES = NODE_ALLOCATION - sizeof(struct node),
	NODE_SLOT = 4,			/* what an entry costs beyond its own bytes */
	INNER_ENTRY_TAIL = REF_SIZE + sizeof(struct node *),
};

/* Gives an empty node with one reference, for node_free; NULL if there is no memory. */
struct node *node_new(uint32_t capacity, uint8_t level, uint64_t generation);
void node_free(struct node *node);

/* Makes a node that has been in use like new, of the same capacity. */
void node_reset(struct node *node, uint8_t level, uint64_t generation);

/* Bytes of memory it takes. */
static inline size_t node_memory(const struct node *node)
{
	return sizeof(*node) + node->capacity;
}

/* Bytes its entries need, and bytes left for more. */
static inline uint32_t node_filled(const struct node *node)
{
	return node->used - node->removed + node->count * NODE_SLOT;
}

static inline uint32_t node_room(const struct node *node)
{
	return node->capacity - node_filled(node);
}

/* As many of those as can be had without moving what is there. */
static inline uint32_t node_gap(const struct node *node)
{
	return node->capacity - node->used - node->count * NODE_SLOT;
}

/* An entry's key; lent until the node changes. */
struct slice node_key(const struct node *node, uint32_t index);

/* The first entry whose key is not less than `key`; *exact says whether it is equal. */
uint32_t node_find(const struct node *leaf, struct slice key, bool *exact);

/* The child below which `key` belongs. */
uint32_t node_find_child(const struct node *inner, struct slice key);

/* A leaf's entry as its reader sees it, lent until the node changes. */
struct leaf_entry {
	struct slice key;
	struct slice value;	/* without the run's reference */
	struct ref run;		/* length 0: none */
	struct slice patch;	/* unless empty, to be laid over the value at `patch_offset`, which
				 * is within it or its end; one that is read has none */
	uint32_t patch_offset;
};

struct leaf_entry leaf_entry_at(const struct node *leaf, uint32_t index);

/* That one, if there is one, will be looked at soon: the processor may fetch it meanwhile. */
void leaf_expect(const struct node *leaf, uint32_t index);

/* Bytes such an entry takes (without its slot). */
uint32_t leaf_entry_size(const struct leaf_entry *entry);

/* Inserts before `index`; there must be room. */
void leaf_insert(struct node *leaf, uint32_t index, const struct leaf_entry *entry);

/* Lays `bytes` over an entry's value at `offset` (within it, or its end). Where it grows, what is
 * copied is at most a node of the usual size, and nothing if it was the last to grow. False, and
 * nothing is changed, if there is no room. */
bool leaf_patch(struct node *leaf, uint32_t index, uint32_t offset, struct slice bytes);

static inline uint32_t inner_entry_size(struct slice key)
{
	return (uint32_t)(INNER_ENTRY_HEADER + key.size + INNER_ENTRY_TAIL);
}

/* Inserts a child before `index`; there must be room. Moves the caller's reference to `child`,
 * which may be NULL if it is only on disk. */
void inner_insert(struct node *inner, uint32_t index, struct slice key, const struct ref *ref,
		  struct node *child);

/* The child in memory, or NULL; and where it lies on disk (length 0: nowhere). */
struct node *inner_child(const struct node *inner, uint32_t index);
struct ref inner_ref(const struct node *inner, uint32_t index);
void inner_set_child(struct node *inner, uint32_t index, struct node *child);

/* Keeps only the child's place on disk. */
void inner_forget_child(struct node *inner, uint32_t index);

void node_remove(struct node *node, uint32_t index);

/* Appends `count` entries of `from`, beginning with `index`, to `to` (of the same level, with
 * room, its keys all smaller). `first_key`, unless NULL, replaces the key of the first. References
 * to children are copied as they are, and not counted. */
void node_append(struct node *to, const struct node *from, uint32_t index, uint32_t count,
		 const struct slice *first_key);

/* Drops all entries from `index` on. */
void node_cut(struct node *node, uint32_t index);

/* The block: NODE_HEADER and entries. `block` must have node_block_size bytes. Children in
 * memory must lie on disk already. */
uint32_t node_block_size(const struct node *node);
void node_encode(const struct node *node, uint8_t *block);

/* Makes a node of a block read from disk, whose checksum has been found right. Gives *out.
 * -EUCLEAN: the content is impossible, as the sentence in *err says; -ENOMEM. */
int node_decode(struct slice block, const struct ref *ref, uint8_t level, struct node **out,
		struct err *err);

#endif
