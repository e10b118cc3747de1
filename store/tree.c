/* How a batch is applied without failing half way: first a walk, prepare(), which changes nothing,
 * loads every node that will be touched and sets aside as many nodes as could be needed; then the
 * changes, which take from what was set aside. Between the two the lock is held. */
#include "tree.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "locks.h"
#include "mem.h"

enum {
	LEVEL_ANY = 255,		/* of a root that is only on disk */
	SEPARATOR_MAX = INNER_ENTRY_HEADER + NODE_KEY_MAX + INNER_ENTRY_TAIL + NODE_SLOT,
	POOL_KEPT = 64,			/* nodes kept set aside between batches */
};

/* The right-hand bound of a node: no key below it is as great. */
struct bound {
	bool none;			/* it is the last one */
	uint32_t size;
	uint8_t key[NODE_KEY_MAX];
};

struct root {
	struct node *node;		/* NULL: not in memory */
	struct ref ref;			/* counts if node is NULL; length 0: an empty tree */
};

struct tree {
	struct pages *pages;
	struct space *space;
	struct rwlock lock;		/* guards everything below, and the nodes (node.h) */
	struct root root;
	uint64_t generation;
	uint64_t entries;
	uint64_t memory;
	uint64_t dirty_memory;		/* of nodes that are not on disk */
	uint64_t dirty_units;
	uint64_t visit;			/* number of the latest prepare() */
	uint64_t cache;			/* immutable; bytes of memory to keep to, 0: no bound */
	struct bound hand;		/* of the clock: it goes on from here */
	uint32_t warming;		/* batches that need what they brought in to stay */
	struct node **pool;		/* set aside, of NODE_BYTES */
	size_t pool_count, pool_capacity;
	struct node **large;		/* set aside for entries too large for those, in their order */
	size_t large_count, large_capacity, large_taken;
};

/* ---- nodes' lives ----------------------------------------------------------------------- */

static uint64_t units_of(const struct node *node)
{
	return (NODE_HEADER + (uint64_t)node->capacity + UNIT - 1) / UNIT;
}

static void account_dirty(struct tree *tree, const struct node *node, bool dirty)
	NEEDS(tree->lock)
{
	tree->dirty_memory += dirty ? node_memory(node) : -node_memory(node);
	tree->dirty_units += dirty ? units_of(node) : -units_of(node);
}

static void account(struct tree *tree, const struct node *node, bool there) NEEDS(tree->lock)
{
	tree->memory += there ? node_memory(node) : -node_memory(node);
	if (!node->ref.length)
		account_dirty(tree, node, there);
}

static void hold_children(struct node *inner, uint32_t from)
{
	for (uint32_t i = from; inner->level && i < inner->count; i++) {
		struct node *child = inner_child(inner, i);

		if (child)
			child->refs++;
	}
}

static void unref(struct tree *tree, struct node *node) NEEDS(tree->lock)
{
	if (--node->refs > 0)
		return;
	for (uint32_t i = 0; node->level && i < node->count; i++)
		if (inner_child(node, i))
			unref(tree, inner_child(node, i));
	account(tree, node, false);
	node_free(node);
}

/* Takes a node that was set aside. */
static struct node *take(struct tree *tree, uint8_t level) NEEDS(tree->lock)
{
	struct node *node;

	assert(tree->pool_count > 0);	/* prepare() counted too few */
	node = tree->pool[--tree->pool_count];
	node_reset(node, level, tree->generation);
	account(tree, node, true);
	return node;
}

static struct node *take_large(struct tree *tree) NEEDS(tree->lock)
{
	struct node *node;

	assert(tree->large_taken < tree->large_count);
	node = tree->large[tree->large_taken++];
	node_reset(node, 0, tree->generation);
	account(tree, node, true);
	return node;
}

/* The tree lets go of a node. If it is on disk its block dies; if it is about to be written by a
 * checkpoint, its block dies as soon as it has one. */
static void retire(struct tree *tree, struct node *node) NEEDS(tree->lock)
{
	if (node->ref.length)
		space_dead(tree->space, &node->ref);
	else
		node->superseded = true;
	unref(tree, node);
}

/* ---- reading nodes ---------------------------------------------------------------------- */

/* Where a search had to stop: at a node that is only on disk. */
struct miss {
	struct ref ref;
	uint8_t level;
};

static void set_bound(struct bound *bound, const struct node *inner, uint32_t index)
{
	struct slice key;

	if (!bound || index + 1 >= inner->count)
		return;
	key = node_key(inner, index + 1);
	bound->none = false;
	bound->size = (uint32_t)key.size;
	memcpy(bound->key, key.data, key.size);
}

/* Finds the leaf where `key` belongs (*leaf is NULL in an empty tree) and, unless NULL, its
 * bound. -EAGAIN: *miss has to be read first. */
static int find_leaf(const struct root *root, struct slice key, struct node **leaf,
		     struct bound *bound, struct miss *miss)
{
	struct node *node = root->node;

	if (bound)
		bound->none = true;
	if (!node && root->ref.length) {
		*miss = (struct miss){ root->ref, LEVEL_ANY };
		return -EAGAIN;
	}
	while (node && node->level) {
		const uint32_t index = node_find_child(node, key);
		struct node *child = inner_child(node, index);

		set_bound(bound, node, index);
		if (!child) {
			*miss = (struct miss){ inner_ref(node, index), (uint8_t)(node->level - 1) };
			return -EAGAIN;
		}
		node = child;
	}
	if (node && !__atomic_load_n(&node->recent, __ATOMIC_RELAXED))
		__atomic_store_n(&node->recent, 1, __ATOMIC_RELAXED);
	*leaf = node;
	return 0;
}

static int read_node(struct pages *pages, const struct miss *miss, struct node **out,
		     struct err *err)
{
	struct err why = { "" };
	uint8_t *block;
	uint8_t level = miss->level;
	int rc;

	if (miss->ref.length < NODE_HEADER || miss->ref.length > NODE_HEADER + NODE_BODY_MAX)
		return err_set(err, -EUCLEAN, FILE_PAGES ": the block at offset %" PRIu64
			       " has an impossible length", miss->ref.offset);
	block = mem_alloc(miss->ref.length);
	if (!block)
		return -ENOMEM;
	rc = pages_read(pages, &miss->ref, block, err);
	if (rc == 0 && level == LEVEL_ANY)
		level = block[NODE_LEVEL] <= NODE_LEVEL_MAX ? block[NODE_LEVEL] : 0;
	if (rc == 0) {
		rc = node_decode(slice_of(block, miss->ref.length), &miss->ref, level, out, &why);
		if (rc == -EUCLEAN)
			err_set(err, rc, FILE_PAGES ": at offset %" PRIu64 ": %s",
				miss->ref.offset, why.text);
	}
	mem_free(block);
	return rc;
}

/* Puts a node that was read where the search for `key` misses it. Someone may have been faster:
 * then it is not taken. */
static bool install(struct root *root, struct slice key, const struct miss *miss,
		    struct node *node)
{
	struct node *parent = root->node;

	if (!parent) {
		if (!ref_equal(&root->ref, &miss->ref))
			return false;
		root->node = node;
		return true;
	}
	while (parent->level) {
		const uint32_t index = node_find_child(parent, key);
		struct node *child = inner_child(parent, index);

		if (!child) {
			const struct ref ref = inner_ref(parent, index);

			if (!ref_equal(&ref, &miss->ref))
				return false;
			inner_set_child(parent, index, node);
			return true;
		}
		parent = child;
	}
	return false;
}

/* Is this still what a search for `key` misses? If not, a failure to read it means nothing. */
static bool still_missing(struct tree *tree, const struct root *root, struct slice key,
			  const struct miss *miss)
{
	struct node *leaf;
	struct miss now;
	bool missing;

	rwlock_read(&tree->lock);
	missing = find_leaf(root, key, &leaf, NULL, &now) == -EAGAIN &&
		  ref_equal(&now.ref, &miss->ref);
	rwlock_read_done(&tree->lock);
	return missing;
}

/* ---- forgetting nodes ------------------------------------------------------------------- */

static bool over(const struct tree *tree)
{
	const uint64_t clean = tree->memory - tree->dirty_memory;

	return tree->cache && clean > tree->cache && !tree->warming;
}

static bool has_children(const struct node *node)
{
	for (uint32_t i = 0; node->level && i < node->count; i++)
		if (inner_child(node, i))
			return true;
	return false;
}

/* Forgets a child that is on disk, that only this parent refers to, that has nothing below it in
 * memory, and that nobody used since the hand came by last. */
static void forget(struct tree *tree, struct node *parent, uint32_t index) NEEDS(tree->lock)
{
	struct node *child = inner_child(parent, index);

	if (!child || !child->ref.length || child->refs > 1)
		return;
	if (child->recent) {
		child->recent = 0;
		return;
	}
	if (has_children(child))
		return;
	inner_forget_child(parent, index);
	unref(tree, child);
}

/* Turns the clock's hand past the children of one inner node: the lowest one in memory at the
 * hand, and on the way back those above it of which it was the last child. */
static void turn(struct tree *tree) NEEDS(tree->lock)
{
	const struct slice at = slice_of(tree->hand.key, tree->hand.size);
	struct bound next = { .none = true };
	struct node *node = tree->root.node, *path[NODE_LEVEL_MAX + 1];
	uint32_t index[NODE_LEVEL_MAX + 1], depth = 0;

	while (node && node->level && depth <= NODE_LEVEL_MAX) {
		const uint32_t i = node_find_child(node, at);

		path[depth] = node;
		index[depth++] = i;
		if (node->level > 1)
			set_bound(&next, node, i);
		node = inner_child(node, i);
	}
	if (depth > 0)
		for (uint32_t i = 0; i < path[depth - 1]->count; i++)
			forget(tree, path[depth - 1], i);
	while (depth-- > 1)
		forget(tree, path[depth - 1], index[depth - 1]);
	tree->hand = next;
	if (next.none)
		tree->hand.size = 0;
}

void tree_shrink(struct tree *tree)
{
	bool more = true;

	/* From where the hand is to the end, once round to find out what is in use, once to forget. */
	for (int rounds = 0; more && rounds < 3;) {
		rwlock_write(&tree->lock);
		more = over(tree);
		if (more)
			turn(tree);
		rounds += tree->hand.size == 0;
		rwlock_write_done(&tree->lock);
	}
}

/* Brings in the node that a search for `key` missed. 0: search again. */
static int fetch(struct tree *tree, struct root *root, struct slice key, const struct miss *miss,
		 struct err *err) WITHOUT(tree->lock)
{
	struct node *node;
	const int rc = read_node(tree->pages, miss, &node, err);

	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		return still_missing(tree, root, key, miss) ? rc : 0;
	rwlock_write(&tree->lock);
	account(tree, node, true);
	node->recent = 1;
	if (over(tree))			/* before it is in its place: it must be there for its reader */
		turn(tree);
	if (!install(root, key, miss, node))
		unref(tree, node);
	rwlock_write_done(&tree->lock);
	return 0;
}

int tree_get(struct tree *tree, struct slice key,
	     int (*visit)(void *arg, const struct leaf_entry *entry), void *arg, struct err *err)
{
	struct miss miss;
	int rc;

	do {
		struct node *leaf;
		bool missed, exact;

		rwlock_read(&tree->lock);
		rc = find_leaf(&tree->root, key, &leaf, NULL, &miss);
		missed = rc == -EAGAIN;
		if (rc == 0) {
			const uint32_t index = leaf ? node_find(leaf, key, &exact) : 0;

			rc = -ENOENT;
			if (leaf && exact) {
				const struct leaf_entry entry = leaf_entry_at(leaf, index);

				rc = visit(arg, &entry);
			}
		}
		rwlock_read_done(&tree->lock);
		if (!missed)
			return rc;
		rc = fetch(tree, &tree->root, key, &miss, err);
	} while (rc == 0);
	return rc;
}

static int visit_leaf(const struct node *leaf, struct slice from,
		      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg)
{
	bool exact;
	int rc = 0;

	for (uint32_t i = leaf ? node_find(leaf, from, &exact) : 0; leaf && rc == 0 &&
	     i < leaf->count; i++) {
		const struct leaf_entry entry = leaf_entry_at(leaf, i);

		rc = visit(arg, &entry);
	}
	return rc;
}

int tree_scan(struct tree *tree, struct slice from,
	      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
	      struct err *err)
{
	struct bound at = { .size = 0 };
	struct miss miss;
	int rc = 0;

	if (from.size > sizeof(at.key))
		return -EINVAL;
	at.size = (uint32_t)from.size;
	if (from.size)
		memcpy(at.key, from.data, from.size);
	do {
		struct bound next;
		struct node *leaf;
		bool missed;

		rwlock_read(&tree->lock);
		rc = find_leaf(&tree->root, slice_of(at.key, at.size), &leaf, &next, &miss);
		missed = rc == -EAGAIN;
		if (rc == 0)
			rc = visit_leaf(leaf, slice_of(at.key, at.size), visit, arg);
		rwlock_read_done(&tree->lock);
		if (missed)
			rc = fetch(tree, &tree->root, slice_of(at.key, at.size), &miss, err);
		else
			at = next;
	} while (rc == 0 && !at.none);
	return rc;
}

/* ---- preparing a batch ------------------------------------------------------------------ */

/* What a batch may need, at most. */
struct need {
	uint64_t ops, bytes, wide;	/* entries of more than an eighth of a node split unevenly */
	uint64_t copies, leaves, inners, depth;
};

static int set_aside(struct node ***list, size_t *count, size_t *capacity, struct node *node)
{
	if (!node)
		return -ENOMEM;
	if (*count == *capacity) {
		const size_t more = *capacity ? *capacity * 2 : 64;
		struct node **grown = mem_realloc(*list, more * sizeof(**list));

		if (!grown) {
			node_free(node);
			return -ENOMEM;
		}
		*list = grown;
		*capacity = more;
	}
	(*list)[(*count)++] = node;
	return 0;
}

static void drop_large(struct tree *tree) NEEDS(tree->lock)
{
	while (tree->large_count > tree->large_taken)
		node_free(tree->large[--tree->large_count]);
	tree->large_count = tree->large_taken = 0;
}

static struct leaf_entry entry_of(const struct batch_op *op)
{
	return (struct leaf_entry){ .key = op->key, .value = op->value, .run = op->run };
}

static bool is_large(const struct leaf_entry *entry)
{
	return leaf_entry_size(entry) + NODE_SLOT > NODE_BYTES;
}

static void count_node(struct tree *tree, struct node *node, struct need *need)
	NEEDS(tree->lock)
{
	if (node->visited == tree->visit)
		return;
	node->visited = tree->visit;
	if (node->level)
		need->inners++;
	else
		need->leaves++;
	if (node->generation != tree->generation && node->capacity <= NODE_BYTES)
		need->copies++;
}

/* Walks to where the operation will be, and counts. */
static int prepare_op(struct tree *tree, const struct batch_op *op, struct need *need)
	NEEDS(tree->lock)
{
	const struct leaf_entry entry = entry_of(op);
	struct node *node, *leaf;
	struct miss miss;
	uint64_t depth = 0;
	int rc = find_leaf(&tree->root, op->key, &leaf, NULL, &miss);

	if (rc < 0)
		return rc;
	for (node = tree->root.node; node; depth++) {
		count_node(tree, node, need);
		node = node->level ? inner_child(node, node_find_child(node, op->key)) : NULL;
	}
	need->depth = depth;
	need->ops++;
	if (op->kind == BATCH_DELETE)
		return 0;
	need->bytes += leaf_entry_size(&entry) + NODE_SLOT;
	need->wide += leaf_entry_size(&entry) > NODE_BYTES / 8;
	if (is_large(&entry))
		rc = set_aside(&tree->large, &tree->large_count, &tree->large_capacity,
			       node_new(leaf_entry_size(&entry) + NODE_SLOT, 0, tree->generation));
	return rc;
}

/* How many nodes to set aside. A full leaf splits at the first entry it gets (in three, if it has
 * wide ones), and the halves again for each quarter node of entries at the most; a wide entry costs up to
 * two. Inner nodes alike, with a separator for each new node below. */
static uint64_t nodes_needed(const struct need *need)
{
	const uint64_t leaves = 2 * need->leaves + need->bytes / (NODE_BYTES / 4) + 2 * need->wide + 1;
	const uint64_t inners = need->inners + leaves / (NODE_BYTES / 4 / SEPARATOR_MAX) +
				2 * need->depth + 2;

	return need->copies + leaves + inners;
}

/* Sets aside whatever `batch` may need; *units is what may have to be written then. Sets
 * *missed, and returns -EAGAIN, if not all of it is in memory. */
static int prepare(struct tree *tree, struct slice batch, uint64_t *units, bool *missed)
	NEEDS(tree->lock)
{
	struct need need = { 0 };
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	uint64_t nodes;
	int rc;

	tree->visit++;
	drop_large(tree);
	while ((rc = batch_next(batch, &offset, &op)) > 0) {
		rc = prepare_op(tree, &op, &need);
		*missed = rc == -EAGAIN;
		if (rc < 0)
			return rc;
	}
	nodes = nodes_needed(&need);
	while (rc == 0 && tree->pool_count < nodes)
		rc = set_aside(&tree->pool, &tree->pool_count, &tree->pool_capacity,
			       node_new(NODE_BYTES, 0, tree->generation));
	if (rc == 0)
		rc = space_reserve(tree->space, nodes + need.leaves + need.inners + 2 * need.ops);
	*units = tree->dirty_units + nodes * (NODE_ALLOCATION / UNIT + 1) + need.bytes / UNIT;
	return rc;
}

/* Brings in every leaf that `batch` will touch. */
static int warm(struct tree *tree, struct slice batch, struct err *err) WITHOUT(tree->lock)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc = 0;

	while (rc == 0 && batch_next(batch, &offset, &op) > 0) {
		bool missed = true;

		while (rc == 0 && missed) {
			struct node *leaf;
			struct miss miss;

			rwlock_read(&tree->lock);
			missed = find_leaf(&tree->root, op.key, &leaf, NULL, &miss) == -EAGAIN;
			rwlock_read_done(&tree->lock);
			if (missed)
				rc = fetch(tree, &tree->root, op.key, &miss, err);
		}
	}
	return rc;
}

static void trim_pool(struct tree *tree) NEEDS(tree->lock)
{
	while (tree->pool_count > POOL_KEPT)
		node_free(tree->pool[--tree->pool_count]);
	drop_large(tree);
}

/* ---- changing --------------------------------------------------------------------------- */

/* The way from the root to a leaf, through nodes of the present generation. */
struct path {
	uint32_t depth;			/* inner nodes on it */
	struct node *node[NODE_LEVEL_MAX + 2];
	uint32_t index[NODE_LEVEL_MAX + 2];
};

/* Hangs `node` where the path ends: below its last inner node, or as the root. Moves the
 * caller's reference, and gives up that of what hung there. */
static void hang(struct tree *tree, const struct path *path, struct node *node)
	NEEDS(tree->lock)
{
	if (path->depth == 0)
		tree->root.node = node;
	else
		inner_set_child(path->node[path->depth - 1], path->index[path->depth - 1], node);
}

static struct node *hanging(const struct tree *tree, const struct path *path)
{
	if (path->depth == 0)
		return tree->root.node;
	return inner_child(path->node[path->depth - 1], path->index[path->depth - 1]);
}

/* The node where the path ends, as one that may be changed. */
static struct node *own(struct tree *tree, const struct path *path) NEEDS(tree->lock)
{
	struct node *old = hanging(tree, path), *copy;

	if (old->generation == tree->generation)
		return old;
	copy = take(tree, old->level);
	node_append(copy, old, 0, old->count, NULL);
	hold_children(copy, 0);
	hang(tree, path, copy);
	retire(tree, old);
	return copy;
}

static void step(struct path *path, struct node *inner, uint32_t index)
{
	assert(path->depth <= NODE_LEVEL_MAX);
	path->node[path->depth] = inner;
	path->index[path->depth++] = index;
}

/* Inserts `node` behind the child where the path ends, and lets the path end there. The
 * parent has room: descend() saw to it. */
static void insert_behind(struct tree *tree, struct path *path, struct slice key,
			  struct node *node) NEEDS(tree->lock)
{
	const struct ref nowhere = { 0 };

	if (path->depth == 0) {
		struct node *top = take(tree, (uint8_t)(tree->root.node->level + 1));

		inner_insert(top, 0, slice_of("", 0), &nowhere, tree->root.node);
		tree->root.node = top;
		step(path, top, 0);
	}
	path->index[path->depth - 1]++;
	inner_insert(path->node[path->depth - 1], path->index[path->depth - 1], key, &nowhere, node);
}

/* The shortest key that is greater than `left` and not greater than `right`. */
static struct slice separator(struct slice left, struct slice right)
{
	const uint8_t *l = left.data, *r = right.data;
	size_t size = 0;

	while (size < left.size && size < right.size && l[size] == r[size])
		size++;
	return slice_of(right.data, size < right.size ? size + 1 : right.size);
}

static void insert_leaf_behind(struct tree *tree, struct path *path, const struct node *left,
			       struct node *leaf) NEEDS(tree->lock)
{
	insert_behind(tree, path, separator(node_key(left, left->count - 1), node_key(leaf, 0)),
		      leaf);
}

/* Where to cut a node so that both halves are of about the same size. */
static uint32_t middle(const struct node *node)
{
	uint32_t bytes = 0, index = 0;

	while (index + 1 < node->count && bytes < node_filled(node) / 2) {
		if (node->level) {
			bytes += inner_entry_size(node_key(node, index)) + NODE_SLOT;
		} else {
			const struct leaf_entry entry = leaf_entry_at(node, index);

			bytes += leaf_entry_size(&entry) + NODE_SLOT;
		}
		index++;
	}
	return index;
}

/* Moves the entries from `index` on to a new node. */
static struct node *cut_off(struct tree *tree, struct node *node, uint32_t index)
	NEEDS(tree->lock)
{
	struct node *right = take(tree, node->level);

	node_append(right, node, index, node->count - index, NULL);
	node_cut(node, index);
	return right;
}

/* An inner node where two more separators may not fit is split on the way down, so that nothing
 * has to be split on the way up. Returns the half where `key` belongs, and lets the path end there. */
static struct node *split_inner(struct tree *tree, struct path *path, struct node *inner,
				struct slice key) NEEDS(tree->lock)
{
	struct node *right = cut_off(tree, inner, middle(inner));
	const struct slice first = node_key(right, 0);

	insert_behind(tree, path, first, right);
	if (slice_compare(key, first) >= 0)
		return right;
	path->index[path->depth - 1]--;
	return inner;
}

/* Finds the leaf where `key` belongs, and the path there, which may then be changed (the leaf is
 * not copied yet). `growing`: leaves room for two more children in each inner node. */
static struct node *descend(struct tree *tree, struct slice key, bool growing, struct path *path)
	NEEDS(tree->lock)
{
	path->depth = 0;
	while (hanging(tree, path)->level) {
		struct node *inner = own(tree, path);

		if (growing && node_room(inner) < 2 * SEPARATOR_MAX)
			inner = split_inner(tree, path, inner, key);
		step(path, inner, node_find_child(inner, key));
	}
	return hanging(tree, path);
}

/* A leaf of its own for `entry`. */
static struct node *lone_leaf(struct tree *tree, const struct leaf_entry *entry)
	NEEDS(tree->lock)
{
	struct node *leaf = is_large(entry) ? take_large(tree) : take(tree, 0);

	leaf_insert(leaf, 0, entry);
	return leaf;
}

/* Puts an entry that fits nowhere else between the entries before and from `index`. */
static void insert_between(struct tree *tree, struct path *path, struct node *leaf,
			   uint32_t index, const struct leaf_entry *entry) NEEDS(tree->lock)
{
	struct node *alone = lone_leaf(tree, entry);
	struct node *right = NULL;

	if (index > 0 && index < leaf->count)
		right = cut_off(tree, leaf, index);
	if (index > 0) {
		insert_leaf_behind(tree, path, leaf, alone);
	} else {
		hang(tree, path, alone);
		if (leaf->count)
			right = leaf;
		else
			retire(tree, leaf);
	}
	if (right)
		insert_leaf_behind(tree, path, alone, right);
}

/* Puts an entry before `index` of a leaf that may be changed and has no room for it. */
static void insert_splitting(struct tree *tree, struct path *path, struct node *leaf,
			     uint32_t index, const struct leaf_entry *entry) NEEDS(tree->lock)
{
	const uint32_t size = leaf_entry_size(entry) + NODE_SLOT;
	const uint32_t half = middle(leaf);
	struct node *right;
	uint32_t left_filled = 0;
	bool fits_left, fits_right;

	/* In order, as ids and numbers come: the left leaf stays full. */
	if (index == leaf->count || is_large(entry)) {
		insert_between(tree, path, leaf, index, entry);
		return;
	}
	for (uint32_t i = 0; i < half; i++) {
		const struct leaf_entry e = leaf_entry_at(leaf, i);

		left_filled += leaf_entry_size(&e) + NODE_SLOT;
	}
	fits_left = index <= half && left_filled + size <= NODE_BYTES;
	fits_right = index >= half && node_filled(leaf) - left_filled + size <= NODE_BYTES;
	if (!fits_left && !fits_right) {
		insert_between(tree, path, leaf, index, entry);
		return;
	}
	right = cut_off(tree, leaf, half);
	if (fits_left)
		leaf_insert(leaf, index, entry);
	else
		leaf_insert(right, index - half, entry);
	insert_leaf_behind(tree, path, leaf, right);
}

static void put(struct tree *tree, const struct leaf_entry *entry) NEEDS(tree->lock)
{
	struct node *leaf;
	struct path path;
	uint32_t index;
	bool exact;

	if (entry->run.length)
		space_born(tree->space, &entry->run);
	tree->entries++;
	if (!tree->root.node) {
		tree->root.node = lone_leaf(tree, entry);
		return;
	}
	leaf = descend(tree, entry->key, true, &path);
	index = node_find(leaf, entry->key, &exact);
	if (exact) {
		const struct leaf_entry old = leaf_entry_at(leaf, index);

		if (old.run.length)
			space_dead(tree->space, &old.run);
		tree->entries--;
	}
	if (leaf->capacity > NODE_BYTES) {	/* a large leaf is replaced, never changed */
		if (exact) {
			hang(tree, &path, lone_leaf(tree, entry));
			retire(tree, leaf);
		} else {
			insert_between(tree, &path, leaf, index, entry);
		}
		return;
	}
	leaf = own(tree, &path);
	if (exact)
		node_remove(leaf, index);
	if (!is_large(entry) && leaf_entry_size(entry) + NODE_SLOT <= node_room(leaf))
		leaf_insert(leaf, index, entry);
	else
		insert_splitting(tree, &path, leaf, index, entry);
}

/* ---- shrinking -------------------------------------------------------------------------- */

/* Drops a root that has a single child. */
static void lower_root(struct tree *tree) NEEDS(tree->lock)
{
	while (tree->root.node && tree->root.node->level && tree->root.node->count == 1) {
		struct node *top = tree->root.node;

		tree->root.node = inner_child(top, 0);
		tree->root.ref = inner_ref(top, 0);
		if (tree->root.node)
			tree->root.node->refs++;
		retire(tree, top);
	}
}

/* Removes the node where the path ends, and those above it that are left without a child. */
static void remove_node(struct tree *tree, struct path *path) NEEDS(tree->lock)
{
	retire(tree, hanging(tree, path));
	while (path->depth > 0) {
		struct node *parent = path->node[path->depth - 1];

		node_remove(parent, path->index[--path->depth]);
		if (parent->count > 0)
			return;
		retire(tree, parent);
	}
	tree->root = (struct root){ 0 };
}

/* Moves all of `right`, the child behind `left` in `parent`, into `left`, if it fits well. */
static bool merge(struct tree *tree, struct node *parent, uint32_t right_index,
		  struct node *left, struct node *right) NEEDS(tree->lock)
{
	const struct slice key = node_key(parent, right_index);
	const uint32_t before = left->count;

	if (left->generation != tree->generation || right->capacity > NODE_BYTES ||
	    left->capacity > NODE_BYTES ||
	    node_filled(left) + node_filled(right) + SEPARATOR_MAX > NODE_BYTES / 4 * 3)
		return false;
	node_append(left, right, 0, right->count, left->level ? &key : NULL);
	hold_children(left, before);
	node_remove(parent, right_index);
	retire(tree, right);
	return true;
}

/* A node that has become small is merged with a neighbour that is at hand. */
static void join_neighbours(struct tree *tree, const struct path *path, struct node *node)
	NEEDS(tree->lock)
{
	struct node *parent, *other;
	uint32_t index;

	if (path->depth == 0 || node_filled(node) > NODE_BYTES / 4)
		return;
	parent = path->node[path->depth - 1];
	index = path->index[path->depth - 1];
	other = index + 1 < parent->count ? inner_child(parent, index + 1) : NULL;
	if (other && merge(tree, parent, index + 1, node, other))
		return;
	other = index > 0 ? inner_child(parent, index - 1) : NULL;
	if (other)
		merge(tree, parent, index, other, node);
}

/* Deletes, but leaves the leaf where it is, even if it is empty: were it removed at once, a later
 * operation of the batch would belong into its neighbour, which may not be in memory. */
static void delete(struct tree *tree, struct slice key) NEEDS(tree->lock)
{
	struct leaf_entry old;
	struct path path;
	struct node *leaf;
	uint32_t index = 0;
	bool exact = false;

	leaf = tree->root.node ? descend(tree, key, false, &path) : NULL;
	if (leaf)
		index = node_find(leaf, key, &exact);
	if (!exact)
		return;
	old = leaf_entry_at(leaf, index);
	if (old.run.length)
		space_dead(tree->space, &old.run);
	tree->entries--;
	if (leaf->capacity > NODE_BYTES) {	/* it has no other entry, and is never changed */
		hang(tree, &path, take(tree, 0));
		retire(tree, leaf);
	} else {
		node_remove(own(tree, &path), index);
	}
}

/* Behind a batch: removes the leaf where a deleted key was, if it is empty, or joins it with a
 * neighbour, if it is small. */
static void tidy(struct tree *tree, struct slice key) NEEDS(tree->lock)
{
	struct node *leaf;
	struct path path;
	struct miss miss;

	if (find_leaf(&tree->root, key, &leaf, NULL, &miss) < 0 || !leaf ||
	    leaf->generation != tree->generation || node_filled(leaf) > NODE_BYTES / 4)
		return;
	descend(tree, key, false, &path);
	if (leaf->count == 0)
		remove_node(tree, &path);
	for (bool more = tree->root.node != NULL; more; more = path.depth-- > 0)
		join_neighbours(tree, &path, hanging(tree, &path));
	lower_root(tree);
}

static void apply(struct tree *tree, struct slice batch) NEEDS(tree->lock)
{
	struct batch_op op;

	for (size_t at = BATCH_HEADER; batch_next(batch, &at, &op) > 0;) {
		const struct leaf_entry entry = entry_of(&op);

		if (op.kind == BATCH_DELETE)
			delete(tree, op.key);
		else
			put(tree, &entry);
	}
	for (size_t at = BATCH_HEADER; batch_next(batch, &at, &op) > 0;)
		if (op.kind == BATCH_DELETE)
			tidy(tree, op.key);
}

int tree_apply(struct tree *tree, struct slice batch, int (*admit)(void *arg, uint64_t units),
	       void *arg, struct err *err)
{
	bool missed, warmed = false;
	int rc;

	do {
		uint64_t units;

		missed = false;
		rwlock_write(&tree->lock);
		rc = prepare(tree, batch, &units, &missed);
		if (rc == 0)
			rc = admit(arg, units);
		if (rc == 0)
			apply(tree, batch);
		if (missed && !warmed)
			tree->warming++;
		warmed |= missed;
		if (!missed)
			trim_pool(tree);
		rwlock_write_done(&tree->lock);
		if (missed)
			rc = warm(tree, batch, err);
	} while (missed && rc == 0);
	if (warmed) {
		rwlock_write(&tree->lock);
		tree->warming--;
		if (over(tree))
			turn(tree);
		rwlock_write_done(&tree->lock);
	}
	return rc;
}

/* ---- checkpoints ------------------------------------------------------------------------ */

int tree_freeze(struct tree *tree, int (*mark)(void *arg), void *arg, struct frozen *out)
{
	int rc;

	rwlock_write(&tree->lock);
	rc = mark(arg);
	if (rc == 0) {
		*out = (struct frozen){
			.root = tree->root.node,
			.ref = tree->root.node ? tree->root.node->ref : tree->root.ref,
			.generation = tree->generation++,
			.entries = tree->entries,
		};
		if (out->root)
			out->root->refs++;
	}
	rwlock_write_done(&tree->lock);
	return rc;
}

/* The node now lies at `ref`. */
static int wrote(struct tree *tree, struct node *node, const struct ref *ref)
{
	int rc;

	rwlock_write(&tree->lock);
	rc = space_reserve(tree->space, 1);
	if (rc == 0)
		rc = space_born_frozen(tree->space, ref);
	if (rc == 0) {
		account_dirty(tree, node, false);
		node->ref = *ref;
		if (node->superseded)
			space_dead(tree->space, ref);
	}
	rwlock_write_done(&tree->lock);
	return rc;
}

/* Writes one node whose children are on disk. */
static int write_node(struct tree *tree, struct node *node)
{
	const uint32_t size = node_block_size(node);
	uint8_t *block = mem_alloc(size);
	struct ref ref;
	int rc;

	if (!block)
		return -ENOMEM;
	rwlock_read(&tree->lock);
	node_encode(node, block);
	rwlock_read_done(&tree->lock);

	ref = (struct ref){ .length = size };
	rc = space_alloc(tree->space, ref_units(&ref), &ref.offset);
	if (rc < 0)
		goto out;
	rc = pages_write(tree->pages, ref.offset, node->generation, slice_of(block, size), &ref);
	if (rc == 0)
		rc = wrote(tree, node, &ref);
	if (rc < 0)
		space_give_back(tree->space, &ref);
out:
	mem_free(block);
	return rc;
}

/* Writes `node` and what is below it, children first. Only this thread sets node->ref, and
 * entries of a frozen node do not change; but readers hang children in, hence the lock. */
static int write_below(struct tree *tree, struct node *node)
{
	int rc = 0;

	if (node->ref.length)
		return 0;
	for (uint32_t i = 0; node->level && rc == 0 && i < node->count; i++) {
		struct node *child;

		rwlock_read(&tree->lock);
		child = inner_child(node, i);
		rwlock_read_done(&tree->lock);
		if (child)
			rc = write_below(tree, child);
	}
	return rc == 0 ? write_node(tree, node) : rc;
}

int tree_write(struct tree *tree, struct frozen *frozen)
{
	int rc = 0;

	if (frozen->root)
		rc = write_below(tree, frozen->root);
	if (frozen->root && rc == 0)
		frozen->ref = frozen->root->ref;
	return rc;
}

void tree_release(struct tree *tree, struct frozen *frozen)
{
	if (!frozen->root)
		return;
	rwlock_write(&tree->lock);
	unref(tree, frozen->root);
	rwlock_write_done(&tree->lock);
	frozen->root = NULL;
}

/* ---- opening ---------------------------------------------------------------------------- */

int tree_open(struct pages *pages, struct space *space, const struct super *super,
	      uint64_t cache, struct tree **out)
{
	struct tree *tree = mem_zalloc(sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	rwlock_init(&tree->lock);
	tree->pages = pages;
	tree->space = space;
	tree->cache = cache;
	tree->root.ref = super->root;
	tree->generation = super->generation + 1;
	tree->entries = super->entries;
	*out = tree;
	return 0;
}

void tree_close(struct tree *tree)
{
	if (!tree)
		return;
	rwlock_write(&tree->lock);
	drop_large(tree);
	if (tree->root.node)
		unref(tree, tree->root.node);
	assert(tree->memory == 0 && tree->dirty_units == 0);
	while (tree->pool_count > 0)
		node_free(tree->pool[--tree->pool_count]);
	rwlock_write_done(&tree->lock);
	mem_free(tree->pool);
	mem_free(tree->large);
	rwlock_done(&tree->lock);
	mem_free(tree);
}

void tree_stats(struct tree *tree, struct tree_stats *out)
{
	rwlock_read(&tree->lock);
	*out = (struct tree_stats){
		.generation = tree->generation,
		.entries = tree->entries,
		.memory = tree->memory,
		.dirty_units = tree->dirty_units,
		.dirty_memory = tree->dirty_memory,
	};
	rwlock_read_done(&tree->lock);
}
