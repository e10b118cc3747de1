/* Moments of the tree that somebody reads. A view holds a root; what is below it never changes, and
 * lives as long as some root leads there: the generations see to that, and on disk the readers of
 * space.h. */
#include "tree_impl.h"

#include <errno.h>

#include "mem.h"

/* Links the view in, newest first. */
static void link_in(struct tree *tree, struct tree_view *view) NEEDS(tree->lock)
{
	struct tree_view **link = &tree->newest;

	for (; *link && (*link)->generation > view->generation; link = &(*link)->older)
		view->newer = *link;
	view->older = *link;
	if (*link)
		(*link)->newer = view;
	*link = view;
}

int tree_view_open(struct tree *tree, int (*mark)(void *arg, uint64_t generation), void *arg,
		   struct tree_view **out)
{
	struct tree_view *view = mem_zalloc(sizeof(*view));
	int rc;

	if (!view)
		return -ENOMEM;
	rwlock_write(&tree->lock);
	rc = mark(arg, tree->generation);
	if (rc == 0) {
		view->generation = tree->generation++;
		view->entries = tree->entries;
		view->root = tree->root;
		if (view->root.node)
			view->root.node->refs++;
		link_in(tree, view);
	}
	rwlock_write_done(&tree->lock);
	if (rc < 0)
		mem_free(view);
	else
		*out = view;
	return rc;
}

int tree_view_open_at(struct tree *tree, const struct ref *root, uint64_t generation,
		      uint64_t entries, struct tree_view **out)
{
	struct tree_view *view = mem_zalloc(sizeof(*view));

	if (!view)
		return -ENOMEM;
	view->generation = generation;
	view->entries = entries;
	view->root.ref = *root;
	rwlock_write(&tree->lock);
	link_in(tree, view);
	rwlock_write_done(&tree->lock);
	*out = view;
	return 0;
}

void tree_view_close(struct tree *tree, struct tree_view *view)
{
	if (!view)
		return;
	rwlock_write(&tree->lock);
	if (view->newer)
		view->newer->older = view->older;
	else
		tree->newest = view->older;
	if (view->older)
		view->older->newer = view->newer;
	if (tree->turned == view)
		tree->turned = NULL;
	if (view->root.node)
		tree_unref(tree, view->root.node);
	rwlock_write_done(&tree->lock);
	mem_blocks_trim();
	mem_free(view);
}

uint64_t tree_view_entries(const struct tree_view *view)
{
	return view->entries;
}

int tree_view_get(struct tree *tree, struct tree_view *view, struct slice key,
		  int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		  struct err *err)
{
	return tree_root_get(tree, &view->root, key, visit, arg, err);
}

int tree_view_scan(struct tree *tree, struct tree_view *view, struct slice from,
		   int (*visit)(void *arg, const struct leaf_entry *entry), void *arg,
		   struct err *err)
{
	return tree_root_scan(tree, &view->root, from, visit, arg, err);
}

/* The newest view older than `before` that has a root that is not on disk, with a reference of its
 * own; NULL: there is none. */
static struct node *unwritten_root(struct tree *tree, uint64_t *before)
{
	struct tree_view *view;
	struct node *root = NULL;

	rwlock_write(&tree->lock);
	view = tree->newest;
	while (view && (view->generation >= *before || !view->root.node ||
			view->root.node->ref.length))
		view = view->older;
	if (view) {
		*before = view->generation;
		root = view->root.node;
		root->refs++;
	}
	rwlock_write_done(&tree->lock);
	return root;
}

/* Newest first: what is left for an older one is not reached by a younger one. Those that were
 * opened since the last checkpoint share their nodes with the tree, which may yet write them, so
 * `before` begins with that one's generation. */
void tree_views_write(struct tree *tree, const struct frozen *frozen)
{
	uint64_t before = frozen->generation;
	struct node *root;
	int rc = 0;

	while (rc == 0 && (root = unwritten_root(tree, &before))) {
		rc = tree_write_view(tree, root, before);
		rwlock_write(&tree->lock);
		tree_unref(tree, root);
		rwlock_write_done(&tree->lock);
		mem_blocks_trim();
	}
}
