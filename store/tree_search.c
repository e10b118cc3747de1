/* Which nodes and runs lie at the end of the page file? Inner nodes know where their children lie,
 * so a leaf is read only if it lies there itself, or for the runs that its entries refer to. */
#include "tree_impl.h"

#include <errno.h>

int tree_peek(struct tree *tree, struct slice key,
	      int (*visit)(void *arg, const struct leaf_entry *entry), void *arg)
{
	struct leaf_entry entry;
	struct node *leaf;
	struct miss miss;
	uint32_t index = 0;
	bool exact = false;

	if (tree_find_leaf(&tree->root, key, &leaf, NULL, &miss) == 0 && leaf)
		index = node_find(leaf, key, &exact);
	if (!exact)
		return -ENOENT;
	entry = leaf_entry_at(leaf, index);
	return visit(arg, &entry);
}

/* Does any piece of it? */
static bool lies_behind(const struct ref *ref, uint64_t limit)
{
	bool behind = false;

	for (uint32_t i = 0; ref->length && i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		behind |= piece.offset + ref_units(&piece) * UNIT > limit;
	}
	return behind;
}

static bool is_sought(struct tree_search *s, const struct ref *ref)
{
	if (!lies_behind(ref, s->limit))
		return false;
	s->left_out |= ref->generation <= s->floor;
	return ref->generation > s->floor;
}

static void go_on(struct tree_search *s, const struct bound *next)
{
	s->ended = next->none;
	if (next->none)
		return;
	s->next_size = next->size;
	memcpy(s->next, next->key, next->size);
}

/* The way to the next leaf. */
struct way {
	struct node *leaf;		/* NULL: it is of no interest */
	struct bound next;		/* where the one behind it begins */
	bool sought;			/* it, or a node above it */
};

/* -EAGAIN: *miss has to be read first. */
static int find(struct tree *tree, struct tree_search *s, struct way *w, struct miss *miss)
{
	const struct slice at = slice_of(s->next, s->next_size);
	struct node *node = tree->root.node;

	*w = (struct way){ .next.none = true };
	if (!node)
		return tree_find_leaf(&tree->root, at, &w->leaf, NULL, miss);
	while (node->level) {
		const uint32_t index = node_find_child(node, at);
		const struct ref ref = inner_ref(node, index);	/* where the child lies */

		w->sought |= is_sought(s, &node->ref);
		tree_set_bound(&w->next, node, index);
		if (!inner_child(node, index)) {
			const bool wanted = node->level > 1 || s->runs || w->sought ||
					    is_sought(s, &ref);

			return wanted ? tree_find_leaf(&tree->root, at, &w->leaf, NULL, miss) : 0;
		}
		node = inner_child(node, index);
	}
	w->sought |= is_sought(s, &node->ref);
	w->leaf = node;
	return 0;
}

static int look(struct tree_search *s, const struct way *w,
		int (*visit)(void *arg, const struct leaf_entry *entry), void *arg)
{
	int rc = 0;

	s->found_size = 0;
	if (w->sought && w->leaf->count) {
		const struct slice key = node_key(w->leaf, 0);

		s->found_size = (uint32_t)key.size;
		memcpy(s->found, key.data, key.size);
	}
	for (uint32_t i = 0; s->runs && rc == 0 && i < w->leaf->count; i++) {
		const struct leaf_entry entry = leaf_entry_at(w->leaf, i);

		if (is_sought(s, &entry.run))
			rc = visit(arg, &entry);
	}
	return rc;
}

int tree_search(struct tree *tree, struct tree_search *s,
		int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		struct err *err)
{
	struct miss miss;
	struct way w;
	bool missed;
	int rc;

	do {
		rwlock_read(&tree->lock);
		rc = find(tree, s, &w, &miss);
		missed = rc == -EAGAIN;
		s->found_size = 0;
		if (rc == 0 && w.leaf)
			rc = look(s, &w, visit, arg);
		rwlock_read_done(&tree->lock);
		if (missed)
			rc = tree_fetch(tree, &tree->root, slice_of(s->next, s->next_size), &miss,
					err);
	} while (missed && rc == 0);
	if (rc == 0)
		go_on(s, &w.next);
	return rc;
}
