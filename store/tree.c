#include "tree_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "mem.h"

enum {
	LEVEL_ANY = 255,		/* of a root that is only on disk */
	INNER_FREE = 8 << 20,		/* so many bytes of inner nodes that are not on disk, which
					 * only a checkpoint writes, do not count */
	RETRY_ROOM = 1 << 18,		/* for a search that came in vain to find its way ... */
	RETRY_MOST = 4 << 20,		/* ... while so much at most is in memory over the cache */
	SCAN_AHEAD = 6,			/* entries that are on their way from memory during a scan */
	DIRTY_SHARE = 4,		/* leaves are written early when so much of the cache is
					 * still clean: a checkpoint needs room for copies */
};

/* ---- nodes' lives ----------------------------------------------------------------------- */

uint64_t tree_node_units(const struct node *node)
{
	return (NODE_HEADER + (uint64_t)node->capacity + UNIT - 1) / UNIT;
}

static bool has_place(const struct node *node)
{
	return !node->ref.length && node->ref.offset;
}

void tree_drop_place(struct tree *tree, struct node *node)
{
	const struct ref place = {
		.offset = node->ref.offset, .length = (uint32_t)tree_node_units(node) * UNIT,
	};

	if (has_place(node))
		space_give_back(tree->space, &place);
}

void tree_node_free(struct tree *tree, struct node *node)
{
	tree_drop_place(tree, node);
	node_free(node);
}

void tree_account_dirty(struct tree *tree, const struct node *node, bool dirty)
{
	const uint64_t units = has_place(node) ? 0 : tree_node_units(node);

	tree->dirty_memory += dirty ? node_memory(node) : -node_memory(node);
	if (node->level)
		tree->dirty_inner += dirty ? node_memory(node) : -node_memory(node);
	tree->dirty_units += dirty ? units : -units;
}

void tree_account(struct tree *tree, const struct node *node, bool there) NEEDS(tree->lock)
{
	tree->memory += there ? node_memory(node) : -node_memory(node);
	if (!node->ref.length)
		tree_account_dirty(tree, node, there);
}

void tree_unref(struct tree *tree, struct node *node) NEEDS(tree->lock)
{
	if (--node->refs > 0)
		return;
	for (uint32_t i = 0; node->level && i < node->count; i++)
		if (inner_child(node, i))
			tree_unref(tree, inner_child(node, i));
	tree_account(tree, node, false);
	tree_node_free(tree, node);
}

/* ---- reading nodes ---------------------------------------------------------------------- */

void tree_set_bound(struct bound *bound, const struct node *inner, uint32_t index)
{
	struct slice key;

	if (!bound || index + 1 >= inner->count)
		return;
	key = node_key(inner, index + 1);
	bound->none = false;
	bound->size = (uint32_t)key.size;
	memcpy(bound->key, key.data, key.size);
}

int tree_find_leaf(const struct root *root, struct slice key, struct node **leaf,
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

		tree_set_bound(bound, node, index);
		if (!child) {
			tree_use(node);	/* it must be there when the child comes */
			*miss = (struct miss){ inner_ref(node, index), (uint8_t)(node->level - 1) };
			return -EAGAIN;
		}
		node = child;
	}
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
	missing = tree_find_leaf(root, key, &leaf, NULL, &now) == -EAGAIN &&
		  ref_equal(&now.ref, &miss->ref);
	rwlock_read_done(&tree->lock);
	return missing;
}

/* ---- forgetting nodes ------------------------------------------------------------------- */

bool tree_over(const struct tree *tree)
{
	const uint64_t inner = tree->dirty_inner < INNER_FREE ? tree->dirty_inner : INNER_FREE;
	const uint64_t limit = tree->cache + inner;

	return tree->cache && !tree->warming && tree->memory > tree->tried &&
	       (tree->memory > limit || tree->dirty_memory > limit - tree->cache / DIRTY_SHARE);
}

static bool has_children(const struct node *node)
{
	for (uint32_t i = 0; node->level && i < node->count; i++)
		if (inner_child(node, i))
			return true;
	return false;
}

/* Was nobody at it since the hand came by last? */
static bool is_cold(struct node *node)
{
	const bool cold = !node->recent;

	node->recent = 0;
	return cold && !has_children(node);
}

/* If other parents, of other moments, refer to it, it goes with the last. */
static void forget(struct tree *tree, struct node *parent, uint32_t index) NEEDS(tree->lock)
{
	struct node *child = inner_child(parent, index);

	inner_forget_child(parent, index);
	tree_unref(tree, child);
}

/* Forgets the child, if it is cold and on disk; returns it, if it is a cold leaf that could be
 * written. */
static struct node *pass(struct tree *tree, struct node *parent, uint32_t index)
	NEEDS(tree->lock)
{
	struct node *child = inner_child(parent, index);

	if (!child || !is_cold(child))
		return NULL;
	if (!child->ref.length)
		return child->level == 0 && child->count > 0 && child->refs == 1 &&
		       child->generation == tree->generation ? child : NULL;
	forget(tree, parent, index);
	return NULL;
}

/* Turns the hand of one root past the lowest inner node in memory where it stands: past its leaves,
 * and then those nodes above of which that was the last. A node is passed once a round, or what
 * somebody has just brought in would be gone before he looks again. */
static uint32_t turn(struct tree *tree, const struct root *root, struct bound *hand,
		     struct node **cold, uint32_t max) NEEDS(tree->lock)
{
	const struct slice at = slice_of(hand->key, hand->size);
	struct bound next = { .none = true };
	struct node *node = root->node, *path[NODE_LEVEL_MAX + 1];
	uint32_t index[NODE_LEVEL_MAX + 1], depth = 0, count = 0;
	bool last = true;

	while (node && node->level && depth <= NODE_LEVEL_MAX) {
		const uint32_t i = node_find_child(node, at);

		path[depth] = node;
		index[depth++] = i;
		if (node->level > 1)
			tree_set_bound(&next, node, i);
		last = node->level == 1 || i + 1 == node->count;
		node = inner_child(node, i);
	}
	for (uint32_t i = 0; depth > 0 && path[depth - 1]->level == 1 &&
	     i < path[depth - 1]->count; i++) {
		struct node *leaf = pass(tree, path[depth - 1], i);

		if (leaf && count < max)
			cold[count++] = leaf;
	}
	while (last && depth-- > 1) {
		pass(tree, path[depth - 1], index[depth - 1]);
		last = index[depth - 1] + 1 == path[depth - 1]->count;
	}
	*hand = next;
	if (next.none)
		hand->size = 0;
	return count;
}

/* Every root has a hand: that of the tree, and then those of the views, by turns. */
uint32_t tree_turn(struct tree *tree, struct node **cold, uint32_t max) NEEDS(tree->lock)
{
	struct tree_view *view;

	view = tree->turned && tree->turned->older ? tree->turned->older : tree->newest;
	if (view)
		turn(tree, &view->root, &view->hand, NULL, 0);
	tree->turned = view;
	return turn(tree, &tree->root, &tree->hand, cold, max);
}

/* Where the leaf hangs where `key` belongs: the lowest inner node, and which of its children; NULL: it
 * hangs nowhere, or not all that leads there is in memory. */
static struct node *leaf_parent(struct tree *tree, struct slice key, uint32_t *index)
	NEEDS(tree->lock)
{
	struct node *node = tree->root.node;

	while (node && node->level > 1)
		node = inner_child(node, node_find_child(node, key));
	if (!node || node->level == 0)
		return NULL;
	*index = node_find_child(node, key);
	return node;
}

static bool can_go(const struct node *leaf)
{
	return leaf->ref.length && leaf->refs == 1 && !leaf->recent;
}

void tree_forget_leaf(struct tree *tree, const struct node *leaf)
{
	uint32_t index = 0;
	struct node *parent = leaf_parent(tree, node_key(leaf, 0), &index);

	if (parent && inner_child(parent, index) == leaf && can_go(leaf))
		forget(tree, parent, index);
}

/* Forgets the leaf where `key` belongs, if only scans have used it. */
static void forget_scanned_leaf(struct tree *tree, struct slice key) NEEDS(tree->lock)
{
	uint32_t index = 0;
	struct node *parent = leaf_parent(tree, key, &index);
	const struct node *leaf = parent ? inner_child(parent, index) : NULL;

	if (leaf && leaf->scanned && can_go(leaf))
		forget(tree, parent, index);
}

/* Forgets leaves that scans brought in, the oldest first, while there is more in memory than should
 * be. Is there still? */
static bool forget_scanned(struct tree *tree) WITHOUT(tree->lock)
{
	bool over;

	rwlock_write(&tree->lock);
	for (unsigned i = 0; i < SCANNED_MAX && tree_over(tree); i++) {
		struct bound *oldest = &tree->scanned[(tree->scanned_next + i) % SCANNED_MAX];

		if (oldest->size)
			forget_scanned_leaf(tree, slice_of(oldest->key, oldest->size));
		oldest->size = 0;
	}
	over = tree_over(tree);
	rwlock_write_done(&tree->lock);
	return over;
}

static void remember_scanned(struct tree *tree, struct slice key) NEEDS(tree->lock)
{
	struct bound *next = &tree->scanned[tree->scanned_next];

	next->size = (uint32_t)key.size;
	if (key.size)
		memcpy(next->key, key.data, key.size);
	tree->scanned_next = (tree->scanned_next + 1) % SCANNED_MAX;
}

void tree_shrink(struct tree *tree)
{
	bool more = true;

	/* From where the hand is to the end, once round to find out what is in use, once to
	 * forget. */
	for (int rounds = 0; more && rounds < 3;) {
		rwlock_write(&tree->lock);
		tree->tried = 0;
		more = tree_over(tree);
		if (more)
			tree_turn(tree, NULL, 0);
		rounds += tree->hand.size == 0;
		rwlock_write_done(&tree->lock);
		mem_blocks_trim();
	}
}

/* If it came in vain, since what leads there was forgotten meanwhile, nobody forgets anything until
 * the next try is through: the hand may go round a view, or be turned by others, faster
 * than we come. */
static void undisturbed(struct tree *tree, const struct root *root, struct slice key,
			const struct miss *miss) NEEDS(tree->lock)
{
	struct node *leaf;
	struct miss now;

	if (tree_find_leaf(root, key, &leaf, NULL, &now) == -EAGAIN && now.level > miss->level &&
	    tree->memory < tree->cache + RETRY_MOST)
		tree->tried = tree->memory + RETRY_ROOM;
}

/* tree_fetch, and if it `scans`, for a scan of the tree: a leaf is wanted once then, and if there is no
 * room for it, one that an earlier call brought in gives way, so that no scan, however long, drives
 * out what others use; nor, when it comes again, all that it is going to meet. */
static int fetch(struct tree *tree, struct root *root, struct slice key, const struct miss *miss,
		 bool scans, struct err *err) WITHOUT(tree->lock)
{
	struct node *node;
	bool over;
	int rc;

	rwlock_read(&tree->lock);
	over = tree_over(tree);
	rwlock_read_done(&tree->lock);
	if (over && scans)
		over = forget_scanned(tree);
	if (over)	/* before, not after, and once round: the node, and that above it, must
			 * still be there when their reader looks again */
		tree_relieve(tree, 1);
	rc = read_node(tree->pages, miss, &node, err);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		return still_missing(tree, root, key, miss) ? rc : 0;
	rwlock_write(&tree->lock);
	tree_account(tree, node, true);
	node->recent = 1;
	node->scanned = scans && node->level == 0;
	if (!install(root, key, miss, node)) {
		tree_unref(tree, node);
		undisturbed(tree, root, key, miss);
	} else if (node->scanned) {
		remember_scanned(tree, key);
	}
	rwlock_write_done(&tree->lock);
	return 0;
}

int tree_fetch(struct tree *tree, struct root *root, struct slice key, const struct miss *miss,
	       struct err *err)
{
	return fetch(tree, root, key, miss, false, err);
}

int tree_root_get(struct tree *tree, struct root *root, struct slice key,
		  int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		  struct err *err) WITHOUT(tree->lock)
{
	struct miss miss;
	int rc;

	do {
		struct node *leaf;
		bool missed, exact;

		rwlock_read(&tree->lock);
		rc = tree_find_leaf(root, key, &leaf, NULL, &miss);
		missed = rc == -EAGAIN;
		if (rc == 0) {
			const uint32_t index = leaf ? node_find(leaf, key, &exact) : 0;

			rc = -ENOENT;
			if (leaf)
				tree_use_leaf(leaf);
			if (leaf && exact) {
				const struct leaf_entry entry = leaf_entry_at(leaf, index);

				rc = visit(arg, &entry);
			}
		}
		rwlock_read_done(&tree->lock);
		if (!missed)
			return rc;
		rc = tree_fetch(tree, root, key, &miss, err);
	} while (rc == 0);
	return rc;
}

int tree_get(struct tree *tree, struct slice key,
	     int (*visit)(void *arg, const struct leaf_entry *entry), void *arg, struct err *err)
{
	return tree_root_get(tree, &tree->root, key, visit, arg, err);
}

static int visit_leaf(const struct node *leaf, struct slice from,
		      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg)
{
	bool exact;
	int rc = 0;

	for (uint32_t i = leaf ? node_find(leaf, from, &exact) : 0; leaf && rc == 0 &&
	     i < leaf->count; i++) {
		const struct leaf_entry entry = leaf_entry_at(leaf, i);

		leaf_expect(leaf, i + SCAN_AHEAD);
		rc = visit(arg, &entry);
	}
	return rc;
}

/* A leaf that only scans come to is in use until the first of them has been there. */
static void use_scanned(struct node *leaf)
{
	if (!__atomic_load_n(&leaf->scanned, __ATOMIC_RELAXED))
		tree_use(leaf);
	else if (__atomic_load_n(&leaf->recent, __ATOMIC_RELAXED))
		__atomic_store_n(&leaf->recent, 0, __ATOMIC_RELAXED);
}

int tree_root_scan(struct tree *tree, struct root *root, struct slice from,
		   int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		   struct err *err) WITHOUT(tree->lock)
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
		rc = tree_find_leaf(root, slice_of(at.key, at.size), &leaf, &next, &miss);
		missed = rc == -EAGAIN;
		if (rc == 0)
			rc = visit_leaf(leaf, slice_of(at.key, at.size), visit, arg);
		if (!missed && leaf)
			use_scanned(leaf);
		rwlock_read_done(&tree->lock);
		if (missed)
			rc = fetch(tree, root, slice_of(at.key, at.size), &miss,
				   root == &tree->root, err);
		else
			at = next;
	} while (rc == 0 && !at.none);
	return rc;
}

int tree_scan(struct tree *tree, struct slice from,
	      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
	      struct err *err)
{
	return tree_root_scan(tree, &tree->root, from, visit, arg, err);
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

void tree_release(struct tree *tree, struct frozen *frozen)
{
	if (!frozen->root)
		return;
	rwlock_write(&tree->lock);
	tree_unref(tree, frozen->root);
	rwlock_write_done(&tree->lock);
	mem_blocks_trim();
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
	mutex_init(&tree->relief);
	tree->pages = pages;
	tree->space = space;
	tree->cache = cache;
	tree->root.ref = super->root;
	tree->generation = super->generation + 1;
	tree->born = super->generation;
	tree->entries = super->entries;
	*out = tree;
	return 0;
}

void tree_replayed(struct tree *tree)
{
	rwlock_write(&tree->lock);
	tree->places = true;
	rwlock_write_done(&tree->lock);
}

void tree_close(struct tree *tree)
{
	if (!tree)
		return;
	rwlock_write(&tree->lock);
	assert(!tree->newest);
	tree_drop_pool(tree);
	if (tree->root.node)
		tree_unref(tree, tree->root.node);
	assert(tree->memory == 0 && tree->dirty_units == 0);
	rwlock_write_done(&tree->lock);
	mem_blocks_trim();
	rwlock_done(&tree->lock);
	mutex_done(&tree->relief);
	mem_free(tree->relief_buffer);
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
		.dirty_inner = tree->dirty_inner,
		.early = tree->early,
	};
	rwlock_read_done(&tree->lock);
}

static uint64_t spare_units(const struct node *node)
{
	const uint64_t written = (node_block_size(node) + UNIT - 1) / UNIT;
	const uint64_t most = has_place(node) ? 0 : tree_node_units(node);
	const uint64_t takes = written < PAGES_QUAD - 1 ? written :
			       (written + PAGES_QUAD - 1) / PAGES_QUAD * PAGES_QUAD;
	uint64_t spare = most > takes ? most - takes : 0;

	for (uint32_t i = 0; node->level && i < node->count; i++) {
		const struct node *child = inner_child(node, i);

		if (child && !child->ref.length)
			spare += spare_units(child);
	}
	return spare;
}

uint64_t tree_spare_units(struct tree *tree)
{
	const struct node *root;
	uint64_t spare;

	rwlock_read(&tree->lock);
	root = tree->root.node;
	spare = root && !root->ref.length ? spare_units(root) : 0;
	rwlock_read_done(&tree->lock);
	return spare;
}
