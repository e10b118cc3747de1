/* How a batch is applied without failing half way: first a walk, prepare(), which changes nothing,
 * loads every node that will be touched and sets aside as many nodes as could be needed; then the
 * changes, which take from what was set aside. Between the two the lock is held. */
#include "tree_impl.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"
#include "sum.h"

enum {
	SEPARATOR_MAX = INNER_ENTRY_HEADER + NODE_KEY_MAX + INNER_ENTRY_TAIL + NODE_SLOT,
	IN_ORDER = 3,			/* insertions, each behind the one before */
	POOL_KEPT = 64,			/* nodes kept set aside between batches */
};

/* ---- preparing a batch ------------------------------------------------------------------ */

/* What a batch has done to an entry before a patch of the same batch comes to it. */
struct touched {
	struct slice key;		/* size 0: a free slot */
	bool there;
	uint64_t size;			/* of the value */
};

/* What a batch may need, at most. */
struct need {
	uint64_t ops, bytes, wide;	/* wide: over an eighth of a node, split unevenly */
	uint64_t large_units;		/* of nodes for one entry, set aside as they are met */
	uint64_t copies, leaves, inners, depth;
	struct touched *touched;	/* a hash table, if the batch has a patch and more */
	uint64_t slots;			/* of it; a power of two, at most half of them in use */
	uint64_t again_units;		/* of leaves that were written early, and will be again */
	struct slice greatest;		/* key put so far, and ... */
	const struct node *behind;	/* ... the large leaf the latest put came behind, or NULL */
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
		tree_node_free(tree, tree->large[--tree->large_count]);
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
	if (node->generation == tree->generation)
		need->again_units += node->ref.length ? node_memory(node) / UNIT + 1 : 0;
	else if (node->capacity <= NODE_BYTES)
		need->copies++;
}

/* The slot where `key` is or may be put. */
static struct touched *touched_slot(const struct need *need, struct slice key)
{
	uint64_t i = sum64(key.data, key.size) & (need->slots - 1);

	while (need->touched[i].key.size && !slice_equal(need->touched[i].key, key))
		i = (i + 1) & (need->slots - 1);
	return &need->touched[i];
}

static void touch(struct need *need, struct slice key, bool there, uint64_t size)
{
	if (need->touched)
		*touched_slot(need, key) = (struct touched){ key, there, size };
}

/* For a batch of more than one operation. */
static int prepare_touched(struct need *need, struct slice batch)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	uint64_t ops = 0, patches = 0;
	int rc;

	while ((rc = batch_next(batch, &offset, &op)) > 0) {
		patches += op.kind == BATCH_PATCH;
		ops++;
	}
	if (rc < 0 || patches == 0)
		return rc;
	for (need->slots = 4; need->slots < 2 * ops;)
		need->slots *= 2;
	need->touched = mem_zalloc(need->slots * sizeof(*need->touched));
	return need->touched ? 0 : -ENOMEM;
}

/* Holds the units in a row that a large node will need, so that its checkpoint has them. */
static int find_place(struct tree *tree, struct node *node, struct need *need)
	NEEDS(tree->lock)
{
	const uint64_t units = tree_node_units(node);
	const int rc = space_place(tree->space, units, &node->ref.offset);

	if (rc != -ENOSPC || tree->places)
		return rc;
	need->large_units += units;
	return 0;
}

/* An entry of `size` bytes will be put somewhere, to grow by half if `growing`. */
static int prepare_entry(struct tree *tree, uint64_t size, bool growing, struct need *need)
	NEEDS(tree->lock)
{
	const uint64_t capacity = size + NODE_SLOT + (growing ? size / 2 : 0);
	int rc;

	need->wide += size > NODE_BYTES / 8;
	if (size + NODE_SLOT <= NODE_BYTES) {
		need->bytes += size + NODE_SLOT;
		return 0;
	}
	rc = set_aside(&tree->large, &tree->large_count, &tree->large_capacity,
		       node_new((uint32_t)capacity, 0, tree->generation));
	return rc == 0 ? find_place(tree, tree->large[tree->large_count - 1], need) : rc;
}

/* A patch that extends nothing, or a large leaf's entry by no more than there is room for, is made
 * in place. For the others the entry is put anew. */
static int prepare_patch(struct tree *tree, const struct batch_op *op, const struct node *leaf,
			 struct need *need) NEEDS(tree->lock)
{
	const uint64_t end = (uint64_t)op->offset + op->value.size;
	const struct touched *before = need->touched ? touched_slot(need, op->key) : NULL;
	const bool first = !before || !before->key.size;
	bool there = false, ours;
	uint64_t size = 0, more;

	if (first) {
		const uint32_t index = leaf ? node_find(leaf, op->key, &there) : 0;

		size = there ? leaf_entry_at(leaf, index).value.size : 0;
	} else {
		there = before->there;
		size = before->size;
	}
	if (!there || op->offset > size)
		return -EINVAL;
	more = end > size ? end - size : 0;
	touch(need, op->key, true, size + more);
	ours = leaf && leaf->generation == tree->generation && !leaf->ref.length;
	if (leaf && leaf->capacity <= NODE_BYTES ? more == 0 :
						   first && ours && more <= node_room(leaf))
		return 0;
	return prepare_entry(tree,
			     LEAF_ENTRY_HEADER + op->key.size + REF_SCATTERED_SIZE + size + more,
			     more > 0, need);
}

/* Walks to the leaf where `key` belongs, and counts what is on the way. -EAGAIN: not all of it is
 * in memory. */
static int walk(struct tree *tree, struct slice key, struct need *need, struct node **leaf)
	NEEDS(tree->lock)
{
	struct node *node = tree->root.node;

	need->depth = 0;
	if (!node && tree->root.ref.length)
		return -EAGAIN;
	for (; node && node->level; need->depth++) {
		struct node *child = inner_child(node, node_find_child(node, key));

		count_node(tree, node, need);
		if (!child)
			return -EAGAIN;
		node = child;
	}
	if (node) {
		count_node(tree, node, need);
		need->depth++;
		tree_use(node);
	}
	*leaf = node;
	return 0;
}

/* May `key` come behind a large leaf, there already or made by this batch, and get a leaf of its
 * own there? Not if it follows one that did; so keys that rise need a leaf, keys that
 * fall one each. */
static bool opens_leaf(const struct tree *tree, struct slice key, const struct node *leaf,
		       struct need *need) NEEDS(tree->lock)
{
	const struct node *behind = leaf && leaf->capacity > NODE_BYTES ? leaf : NULL;
	const bool falls = need->greatest.size && slice_compare(key, need->greatest) < 0;
	const bool first = behind && behind != need->behind;

	need->behind = behind;
	if (!falls)
		need->greatest = key;
	return first || (falls && (behind || tree->large_count > 0));
}

static int prepare_op(struct tree *tree, const struct batch_op *op, struct need *need)
	NEEDS(tree->lock)
{
	const struct leaf_entry entry = entry_of(op);
	struct node *leaf;
	const int rc = walk(tree, op->key, need, &leaf);

	if (rc < 0)
		return rc;
	if (need->ops < MET_MAX)
		tree->met[need->ops] = leaf;
	need->ops++;
	if (op->kind == BATCH_PATCH)
		return prepare_patch(tree, op, leaf, need);
	touch(need, op->key, op->kind != BATCH_DELETE, op->value.size);
	if (op->kind == BATCH_DELETE)
		return 0;
	need->wide += opens_leaf(tree, op->key, leaf, need);
	return prepare_entry(tree, leaf_entry_size(&entry), false, need);
}

/* How many nodes to set aside. A full leaf splits at the first entry it gets (in three, if it has
 * wide ones), and the halves again for each quarter node of entries at the most; a wide entry
 * costs up to two. Inner nodes alike, with a separator for each new node below. */
static uint64_t nodes_needed(const struct need *need)
{
	const uint64_t leaves =
		2 * need->leaves + need->bytes / (NODE_BYTES / 4) + 2 * need->wide + 1;
	const uint64_t inners = need->inners + leaves / (NODE_BYTES / 4 / SEPARATOR_MAX) +
				2 * need->depth + 2;

	return need->copies + leaves + inners;
}

static int prepare_ops(struct tree *tree, struct slice batch, struct need *need)
	NEEDS(tree->lock)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc = 0;

	tree->visit++;
	tree->reshaped = false;
	drop_large(tree);
	while (rc == 0 && (rc = batch_next(batch, &offset, &op)) > 0) {
		const bool several = need->ops == 0 && offset < batch.size;

		rc = several ? prepare_touched(need, batch) : 0;
		if (rc == 0)
			rc = prepare_op(tree, &op, need);
	}
	mem_free(need->touched);
	return rc;
}

/* Sets aside whatever `batch` may need; *units is what may have to be written then. Sets
 * *missed, and returns -EAGAIN, if not all of it is in memory. */
static int prepare(struct tree *tree, struct slice batch, uint64_t *units, bool *missed)
	NEEDS(tree->lock)
{
	struct need need = { 0 };
	uint64_t nodes;
	int rc = prepare_ops(tree, batch, &need);

	*missed = rc == -EAGAIN;
	nodes = nodes_needed(&need);
	while (rc == 0 && tree->pool_count < nodes)
		rc = set_aside(&tree->pool, &tree->pool_count, &tree->pool_capacity,
			       node_new(NODE_BYTES, 0, tree->generation));
	if (rc == 0)
		rc = space_reserve(tree->space, nodes + need.leaves + need.inners +
				   2 * REF_PIECES * need.ops);
	*units = tree->dirty_units + nodes * (NODE_ALLOCATION / UNIT + 1) + need.bytes / UNIT +
		 need.large_units + need.again_units;
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
			missed = tree_find_leaf(&tree->root, op.key, &leaf, NULL, &miss) == -EAGAIN;
			rwlock_read_done(&tree->lock);
			if (missed)
				rc = tree_fetch(tree, &tree->root, op.key, &miss, err);
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

void tree_drop_pool(struct tree *tree)
{
	drop_large(tree);
	while (tree->pool_count > 0)
		node_free(tree->pool[--tree->pool_count]);
	mem_free(tree->pool);
	mem_free(tree->large);
}

/* ---- nodes that were set aside, and nodes let go ------------------------------------ */

/* Takes a node that was set aside. */
static struct node *take(struct tree *tree, uint8_t level) NEEDS(tree->lock)
{
	struct node *node;

	assert(tree->pool_count > 0);	/* prepare() counted too few */
	node = tree->pool[--tree->pool_count];
	node_reset(node, level, tree->generation);
	tree_account(tree, node, true);
	return node;
}

/* The first that is large enough. Some are set aside that then are not needed, but never is one
 * taken that was set aside for a later entry while that of this one, or of an earlier one, is
 * left: so each finds its own or an earlier one. */
static struct node *take_large(struct tree *tree, const struct leaf_entry *entry)
	NEEDS(tree->lock)
{
	size_t index = tree->large_taken;
	struct node *node;
	struct ref place;

	while (index < tree->large_count &&
	       tree->large[index]->capacity < leaf_entry_size(entry) + NODE_SLOT)
		index++;
	assert(index < tree->large_count);
	node = tree->large[index];
	tree->large[index] = tree->large[tree->large_taken];
	tree->large[tree->large_taken++] = node;
	place = node->ref;
	node_reset(node, 0, tree->generation);
	node->ref = place;
	tree_account(tree, node, true);
	return node;
}

/* The tree lets go of a node. If it is on disk its block dies; if it was written early, only we
 * knew of the block; if it is about to be written, its block dies as soon as it has one. */
static void retire(struct tree *tree, struct node *node) NEEDS(tree->lock)
{
	if (node->ref.length && node->generation == tree->generation)
		space_give_back(tree->space, &node->ref);
	else if (node->ref.length)
		space_dead(tree->space, &node->ref);
	node->superseded = true;
	tree_unref(tree, node);
}

/* A node of the present generation is going to change: what was written of it early is of no use
 * any more. */
static void changes(struct tree *tree, struct node *node) NEEDS(tree->lock)
{
	node->copied = false;
	if (!node->ref.length)
		return;
	space_give_back(tree->space, &node->ref);
	node->ref = (struct ref){ 0 };
	tree_account_dirty(tree, node, true);
}

static void hold_children(struct node *inner, uint32_t from)
{
	for (uint32_t i = from; inner->level && i < inner->count; i++) {
		struct node *child = inner_child(inner, i);

		if (child)
			child->refs++;
	}
}

/* ---- changing --------------------------------------------------------------------------- */

/* The way from the root to a leaf, through nodes of the present generation. *Untold*: only the leaf is known,
 * one of the present generation that prepare() has met. It may be changed, but before anything is hung
 * elsewhere, descend() must tell the way. */
struct path {
	bool untold;
	uint32_t depth;			/* inner nodes on it */
	struct node *node[NODE_LEVEL_MAX + 2];
	uint32_t index[NODE_LEVEL_MAX + 2];
};

/* Hangs `node` where the path ends: below its last inner node, or as the root. Moves the
 * caller's reference, and gives up that of what hung there. */
static void hang(struct tree *tree, const struct path *path, struct node *node)
	NEEDS(tree->lock)
{
	tree->reshaped = true;
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

	if (old->generation == tree->generation) {
		changes(tree, old);
		return old;
	}
	copy = take(tree, old->level);
	node_append(copy, old, 0, old->count, NULL);
	copy->inserted = old->inserted;
	copy->in_order = old->in_order;
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

	tree->reshaped = true;
	if (path->depth == 0) {
		struct node *top = take(tree, (uint8_t)(tree->root.node->level + 1));

		inner_insert(top, 0, slice_of("", 0), &nowhere, tree->root.node);
		tree->root.node = top;
		step(path, top, 0);
	}
	path->index[path->depth - 1]++;
	inner_insert(path->node[path->depth - 1], path->index[path->depth - 1], key, &nowhere,
		     node);
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
 * has to be split on the way up. Returns the half where `key` belongs, and lets the path end
 * there. */
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
	path->untold = false;
	path->depth = 0;
	while (hanging(tree, path)->level) {
		struct node *inner = own(tree, path);

		if (growing && node_room(inner) < 2 * SEPARATOR_MAX)
			inner = split_inner(tree, path, inner, key);
		step(path, inner, node_find_child(inner, key));
	}
	return hanging(tree, path);
}

/* The same, for the operation of this number. */
static struct node *reach(struct tree *tree, uint64_t op, struct slice key, bool growing,
			  struct path *path) NEEDS(tree->lock)
{
	struct node *met = op < MET_MAX && !tree->reshaped ? tree->met[op] : NULL;

	if (!met || met->generation != tree->generation || met->capacity > NODE_BYTES)
		return descend(tree, key, growing, path);
	path->untold = true;
	return met;
}

/* The leaf that was reached, as one that may be changed. */
static struct node *own_leaf(struct tree *tree, const struct path *path, struct node *leaf)
	NEEDS(tree->lock)
{
	if (!path->untold)
		return own(tree, path);
	changes(tree, leaf);
	return leaf;
}

/* A leaf of its own for `entry`. */
static struct node *lone_leaf(struct tree *tree, const struct leaf_entry *entry)
	NEEDS(tree->lock)
{
	struct node *leaf = is_large(entry) ? take_large(tree, entry) : take(tree, 0);

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
	/* Whoever inserts in order goes on behind this entry: what is before it stays together. That
	 * one entry grows, again at its place, is no order yet. */
	const bool in_order = index == leaf->inserted && leaf->in_order >= IN_ORDER;
	const uint32_t half = in_order && index > 0 ? index : middle(leaf);
	struct node *right;
	uint32_t left_filled = 0;
	bool fits_left, fits_right;

	if (path->untold)
		descend(tree, entry->key, true, path);
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

/* A value that takes the place of one as long, as a table's record does at each change
 * of its names. */
static bool fits_over(const struct leaf_entry *old, const struct leaf_entry *entry)
{
	return old->value.size == entry->value.size && !old->run.length && !entry->run.length;
}

/* A leaf that is nearly full is split before what was removed from it is squeezed out over and
 * over, each time for a single entry. */
static bool takes(const struct node *leaf, const struct leaf_entry *entry)
{
	const uint32_t need = leaf_entry_size(entry) + NODE_SLOT;

	return !is_large(entry) && need <= node_room(leaf) &&
	       (need <= node_gap(leaf) || leaf->removed >= NODE_BYTES / 8);
}

static void put(struct tree *tree, uint64_t op, struct leaf_entry *entry) NEEDS(tree->lock)
{
	struct node *leaf;
	struct path path;
	uint32_t index;
	bool exact, over = false;

	/* A run may be older than the tree that names it first, or, after a crash, seem younger:
	 * snapshots go by when it was born. */
	entry->run.generation = entry->run.length ? tree->generation : 0;
	if (entry->run.length)
		space_born(tree->space, &entry->run);
	tree->entries++;
	if (!tree->root.node) {
		tree->root.node = lone_leaf(tree, entry);
		return;
	}
	leaf = reach(tree, op, entry->key, true, &path);
	index = node_find(leaf, entry->key, &exact);
	if (exact) {
		const struct leaf_entry old = leaf_entry_at(leaf, index);

		over = fits_over(&old, entry);
		if (old.run.length)
			space_dead(tree->space, &old.run);
		tree->entries--;
	}
	if (leaf->capacity > NODE_BYTES) {	/* a large leaf has one entry, and is replaced */
		if (exact) {
			hang(tree, &path, lone_leaf(tree, entry));
			retire(tree, leaf);
		} else {
			insert_between(tree, &path, leaf, index, entry);
		}
		return;
	}
	leaf = own_leaf(tree, &path, leaf);
	if (over) {
		leaf_patch(leaf, index, 0, entry->value);
		return;
	}
	if (exact)
		node_remove(leaf, index);
	if (takes(leaf, entry))
		leaf_insert(leaf, index, entry);
	else
		insert_splitting(tree, &path, leaf, index, entry);
}

/* Puts an entry of a usual leaf anew, with what extends it. */
static void patch_elsewhere(struct tree *tree, struct path *path, struct node *leaf,
			    uint32_t index, const struct batch_op *op) NEEDS(tree->lock)
{
	struct leaf_entry entry = leaf_entry_at(leaf, index);
	uint8_t value[NODE_BYTES];

	memcpy(value, entry.value.data, entry.value.size);
	entry.key = op->key;
	entry.value = slice_of(value, entry.value.size);
	entry.patch = op->value;
	entry.patch_offset = op->offset;
	node_remove(leaf, index);
	insert_splitting(tree, path, leaf, index, &entry);
}

/* Patches a large leaf's entry where it is, if it is ours and there is room; and if it was not
 * written early, or its place on disk would be gone. */
static bool patch_large(struct tree *tree, struct node *leaf, const struct batch_op *op)
	NEEDS(tree->lock)
{
	if (leaf->generation != tree->generation || leaf->ref.length)
		return false;
	changes(tree, leaf);
	return leaf_patch(leaf, 0, op->offset, op->value);
}

static void patch(struct tree *tree, uint64_t number, const struct batch_op *op)
	NEEDS(tree->lock)
{
	struct leaf_entry entry;
	struct path path;
	struct node *leaf = reach(tree, number, op->key, true, &path);
	bool exact;
	const uint32_t index = node_find(leaf, op->key, &exact);

	assert(exact);		/* prepare() saw it */
	if (leaf->capacity <= NODE_BYTES) {
		leaf = own_leaf(tree, &path, leaf);
		if (!leaf_patch(leaf, index, op->offset, op->value))
			patch_elsewhere(tree, &path, leaf, index, op);
	} else if (!patch_large(tree, leaf, op)) {
		entry = leaf_entry_at(leaf, index);
		entry.patch = op->value;
		entry.patch_offset = op->offset;
		hang(tree, &path, lone_leaf(tree, &entry));
		retire(tree, leaf);
	}
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
	changes(tree, left);
	node_append(left, right, 0, right->count, left->level ? &key : NULL);
	hold_children(left, before);
	node_remove(parent, right_index);
	retire(tree, right);
	return true;
}

static bool is_small(const struct node *node)
{
	return node_filled(node) <= NODE_BYTES / 4;
}

/* A node that has become small is merged with a neighbour that is at hand. */
static void join_neighbours(struct tree *tree, const struct path *path, struct node *node)
	NEEDS(tree->lock)
{
	struct node *parent, *other;
	uint32_t index;

	if (path->depth == 0 || !is_small(node))
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
 * operation of the batch would belong into its neighbour, which may not be in memory. Has the leaf
 * become small? */
static bool delete(struct tree *tree, uint64_t op, struct slice key) NEEDS(tree->lock)
{
	struct leaf_entry old;
	struct path path;
	struct node *leaf;
	uint32_t index = 0;
	bool exact = false;

	leaf = tree->root.node ? reach(tree, op, key, false, &path) : NULL;
	if (leaf)
		index = node_find(leaf, key, &exact);
	if (!exact)
		return false;
	old = leaf_entry_at(leaf, index);
	if (old.run.length)
		space_dead(tree->space, &old.run);
	tree->entries--;
	if (leaf->capacity > NODE_BYTES) {	/* it has no other entry, and is never changed */
		hang(tree, &path, take(tree, 0));
		retire(tree, leaf);
		return true;
	}
	leaf = own_leaf(tree, &path, leaf);
	node_remove(leaf, index);
	return is_small(leaf);
}

/* Behind a batch: removes the leaf where a deleted key was, if it is empty, or joins it with a
 * neighbour, if it is small. */
static void tidy(struct tree *tree, struct slice key) NEEDS(tree->lock)
{
	struct node *leaf;
	struct path path;
	struct miss miss;

	if (tree_find_leaf(&tree->root, key, &leaf, NULL, &miss) < 0 || !leaf ||
	    leaf->generation != tree->generation || !is_small(leaf))
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
	uint64_t number = 0;
	bool small = false;

	for (size_t at = BATCH_HEADER; batch_next(batch, &at, &op) > 0; number++) {
		struct leaf_entry entry = entry_of(&op);

		if (op.kind == BATCH_DELETE)
			small |= delete(tree, number, op.key);
		else if (op.kind == BATCH_PATCH)
			patch(tree, number, &op);
		else
			put(tree, number, &entry);
	}
	for (size_t at = BATCH_HEADER; small && batch_next(batch, &at, &op) > 0;)
		if (op.kind == BATCH_DELETE)
			tidy(tree, op.key);
}

int tree_apply(struct tree *tree, struct slice batch, int (*admit)(void *arg, uint64_t units),
	       void *arg, struct err *err)
{
	bool missed, over, warmed = false;
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
		if (!missed && warmed)
			tree->warming--;
		over = tree_over(tree);
		rwlock_write_done(&tree->lock);
		if (missed)
			rc = warm(tree, batch, err);
	} while (missed && rc == 0);
	if (missed) {
		rwlock_write(&tree->lock);
		tree->warming--;
		rwlock_write_done(&tree->lock);
	}
	if (over)
		tree_relieve(tree, 3);
	return rc;
}
