/* How nodes reach the disk. A *pen* gathers blocks, side by side in the page file as far as there
 * is room, and puts many of them there with one write; then their nodes learn where they lie.
 *
 * The free map hears of a block when the node above it has been written, and of the root's at the
 * end: until then no tree that will be on disk names it. */
#include "tree_impl.h"

#include <errno.h>
#include <string.h>

#include "mem.h"

enum {
	PEN_BLOCKS = 64,
	PEN_BYTES = 512 * 1024,
	MANY_BLOCKS = 8,
	SCARCE_FRACTION = 8,		/* of the file: fewer units in free quads are few */
	QUAD_UNITS = 4,			/* blocks up to this size lie within a quad (space.h) */
	LEAVES_AT_ONCE = 8,		/* copied under the lock */
	TURNS = 16,			/* of the clock's hand, under the lock */
	EARLY_WRITES = 4,		/* by one thread, before it lets others do it */
	RELIEF_SLACK = 4 << 20,		/* over the cache by so much, everybody does it first */
	TRY_MIN = 1 << 18,		/* if it was in vain it is tried again when so many bytes */
	TRY_FRACTION = 64,		/* or so much of the cache have been added */
	FLUSH_EARLY_BYTES = 1 << 20,	/* the same, where a writer stands waiting for it; and ... */
	FLUSHES_EARLY = 4,		/* ... so often at a time, to catch up */
	FLUSH_BYTES = 4 << 20,		/* given to the disk at a time; the sync finds little */
};

/* A block, and whose it is. */
struct stroke {
	struct node *node;
	struct node *parent;		/* NULL: it is the root */
	uint32_t index;			/* of the node in its parent */
	uint64_t generation;		/* the node's */
	struct ref ref;
	uint64_t in_buffer;		/* where it begins there */
	uint64_t gap;			/* bytes before its place, held until they are written over */
};

struct pen {
	struct tree *tree;
	bool early;			/* copies of nodes that may change any time */
	uint64_t view;			/* only views of this generation or older reach what is
					 * written; 0: it is the tree that is being checkpointed */
	struct stroke strokes[PEN_BLOCKS];
	uint32_t count;
	uint8_t *buffer;		/* whole units, of PEN_BYTES; one larger block if need be */
	uint64_t capacity, used;
	uint64_t next, end;		/* free space at hand: offsets */
	bool bridges;			/* writes over gaps: more bytes, but in one write */
	struct stretch written;		/* and not given to the disk yet */
	struct stretch flushing;	/* the disk is at it */
	bool (*pace)(void *arg);
	void *arg;
};

static uint64_t whole_units(uint64_t bytes)
{
	return (bytes + UNIT - 1) / UNIT * UNIT;
}

/* ---- where blocks go -------------------------------------------------------------------- */

static uint64_t units_of(const struct stroke *stroke)
{
	return whole_units(stroke->ref.length) / UNIT;
}

/* Behind three units the fourth of the quad stays free. */
static uint64_t units_with_gap(const struct stroke *stroke)
{
	const uint64_t units = units_of(stroke);

	return units == QUAD_UNITS - 1 ? QUAD_UNITS : units;
}

static void give_back(struct pen *pen, uint64_t offset, uint64_t size)
{
	const struct ref ref = { .offset = offset, .length = (uint32_t)size };

	if (size)
		space_give_back(pen->tree->space, &ref);
}

static void drop_quads(struct pen *pen)
{
	give_back(pen, pen->next, pen->end - pen->next);
	pen->next = pen->end = 0;
}

/* Many blocks go side by side, so that they are read as they were written. A few go into the gaps
 * that others left, and all do when quads are getting scarce. */
static bool go_side_by_side(const struct pen *pen)
{
	struct space_stats space;

	space_stats(pen->tree->space, &space);
	return pen->count >= MANY_BLOCKS && space.quad_units > space.units / SCARCE_FRACTION;
}

/* The next offset where a block may begin, aligned as space.h has it. */
static uint64_t aligned(uint64_t offset, uint64_t units)
{
	const uint64_t align = (units < QUAD_UNITS - 1 ? units : QUAD_UNITS) * UNIT;

	return (offset + align - 1) / align * align;
}

/* Finds a place among quads at hand. `more`: units that are wanted if those at hand are not
 * enough. */
static int place_beside(struct pen *pen, struct stroke *stroke, uint64_t more)
{
	const uint64_t units = units_of(stroke);
	uint64_t at = aligned(pen->next, units), got;
	int rc;

	if (at + units * UNIT > pen->end) {
		drop_quads(pen);
		rc = space_alloc_quads(pen->tree->space, more, &at, &got);
		if (rc < 0)
			return rc;
		pen->next = at;
		pen->end = at + got * UNIT;
	}
	if (pen->bridges)
		stroke->gap = at - pen->next;
	else
		give_back(pen, pen->next, at - pen->next);
	pen->next = at + units * UNIT;
	stroke->ref.offset = at;
	return 0;
}

static void drop_gaps(struct pen *pen)
{
	for (uint32_t i = 0; i < pen->count; i++) {
		struct stroke *s = &pen->strokes[i];

		give_back(pen, s->ref.offset - s->gap, s->gap);
		s->gap = 0;
	}
}

/* The offset that has been held for it since its entry was put; 0: none. A copy that is written
 * early keeps off: the node may change, and be written there by a checkpoint meanwhile. */
static uint64_t held_place(const struct pen *pen, const struct stroke *stroke)
{
	return pen->early ? 0 : stroke->node->ref.offset;
}

static int place(struct pen *pen, struct stroke *stroke, bool beside, uint64_t more)
{
	const uint64_t units = units_of(stroke);
	uint64_t *offset = &stroke->ref.offset;

	if (beside && units <= QUAD_UNITS && !held_place(pen, stroke) &&
	    place_beside(pen, stroke, more) == 0)
		return 0;
	drop_quads(pen);		/* they may be in the way */
	*offset = held_place(pen, stroke);
	if (*offset)
		return 0;
	return space_alloc(pen->tree->space, units, offset);
}

/* Nothing was written there; a place that was held before stays so. */
static void lift_one(struct pen *pen, const struct stroke *stroke)
{
	if (!held_place(pen, stroke))
		space_give_back(pen->tree->space, &stroke->ref);
}

static void lift(struct pen *pen, uint32_t count)
{
	while (count-- > 0) {
		lift_one(pen, &pen->strokes[count]);
		pen->strokes[count].ref.offset = 0;
	}
}

static void sum_up(struct pen *pen)
{
	for (uint32_t i = 0; i < pen->count; i++) {
		struct stroke *s = &pen->strokes[i];

		s->ref = page_ref(s->ref.offset, s->generation,
				  slice_of(pen->buffer + s->in_buffer, s->ref.length));
	}
}

/* Finds places for all blocks gathered, or none. */
static int place_all(struct pen *pen)
{
	const bool beside = go_side_by_side(pen);
	uint64_t left = 0;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < pen->count; i++)
		left += units_with_gap(&pen->strokes[i]);
	for (i = 0; rc == 0 && i < pen->count; i++) {
		rc = place(pen, &pen->strokes[i], beside, left + QUAD_UNITS);
		left -= units_with_gap(&pen->strokes[i]);
	}
	drop_quads(pen);
	if (rc < 0) {
		drop_gaps(pen);
		lift(pen, i - 1);
	} else {
		sum_up(pen);
	}
	return rc;
}

/* ---- writing ---------------------------------------------------------------------------- */

static int make_room(struct pen *pen, uint64_t size)
{
	const uint64_t need = pen->used + size < PEN_BYTES ? PEN_BYTES : pen->used + size;
	uint8_t *grown;

	if (pen->used + size <= pen->capacity)
		return 0;
	grown = mem_realloc(pen->buffer, need);
	if (!grown)
		return -ENOMEM;
	pen->buffer = grown;
	pen->capacity = need;
	return 0;
}

static void stretch_add(struct stretch *s, uint64_t offset, uint64_t size)
{
	if (s->bytes == 0 || offset < s->from)
		s->from = offset;
	if (s->bytes == 0 || offset + size > s->to)
		s->to = offset + size;
	s->bytes += size;
}

/* Does it lie as far behind the bytes up to `end`, on disk, as in the buffer? */
static bool goes_on(const struct stroke *s, uint64_t end, uint64_t end_in_buffer)
{
	return s->ref.offset - s->gap == end && s->in_buffer - s->gap == end_in_buffer;
}

/* Writes the blocks: one write for all that lie side by side. */
static int put_blocks(struct pen *pen)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < pen->count;) {
		const uint64_t offset = pen->strokes[i].ref.offset;
		const uint64_t first = pen->strokes[i].in_buffer;
		uint64_t size = 0;

		for (; i < pen->count &&
		       (size == 0 || goes_on(&pen->strokes[i], offset + size, first + size)); i++)
			size += (size ? pen->strokes[i].gap : 0) +
				whole_units(pen->strokes[i].ref.length);
		rc = pages_put(pen->tree->pages, offset, slice_of(pen->buffer + first, size));
		stretch_add(&pen->written, offset, size);
	}
	drop_gaps(pen);
	return rc;
}

/* The free map learns of the blocks below a node that has been written, if it has not. (If this is
 * done twice, because something failed, that does no harm.) */
static int children_born(struct tree *tree, const struct node *node) NEEDS(tree->lock)
{
	int rc = 0;

	for (uint32_t i = 0; node->level && rc == 0 && i < node->count; i++) {
		const struct ref ref = inner_ref(node, i);

		if (ref.generation > tree->born)
			rc = space_born_frozen(tree->space, &ref);
	}
	return rc;
}

/* The node has its block. Of a place that was held for it, the rest is free. */
static void settle(struct tree *tree, const struct stroke *stroke) NEEDS(tree->lock)
{
	struct node *node = stroke->node;
	const uint64_t used = units_of(stroke), held = tree_node_units(node);
	const struct ref rest = {
		.offset = stroke->ref.offset + used * UNIT,
		.length = (uint32_t)((held - used) * UNIT),
	};

	if (node->ref.offset && rest.length)
		space_give_back(tree->space, &rest);
	tree_account_dirty(tree, node, false);
	node->ref = stroke->ref;
}

/* The node lies on disk now. If the tree has replaced it meanwhile, its block is dead, and
 * nobody but the node above it has a use for it. */
static void wrote(struct tree *tree, const struct stroke *stroke) NEEDS(tree->lock)
{
	struct node *node = stroke->node;

	tree->tried = 0;
	settle(tree, stroke);
	if (!node->superseded)
		return;
	space_dead(tree->space, &node->ref);
	if (node->refs == 1 && stroke->parent) {
		inner_forget_child(stroke->parent, stroke->index);
		tree_unref(tree, node);
	}
}

/* No tree that will be on disk names them. What cannot be held is given back. */
static int view_wrote(struct pen *pen)
{
	uint32_t i;
	int rc = 0;

	rwlock_write(&pen->tree->lock);
	for (i = 0; rc == 0 && i < pen->count; i++) {
		const struct stroke *stroke = &pen->strokes[i];

		rc = space_reader_hold(pen->tree->space, pen->view, &stroke->ref);
		if (rc < 0)
			break;
		settle(pen->tree, stroke);
	}
	rwlock_write_done(&pen->tree->lock);
	while (i < pen->count)
		lift_one(pen, &pen->strokes[i++]);
	pen->count = 0;
	return rc;
}

static int all_wrote(struct pen *pen)
{
	struct tree *tree = pen->tree;
	int rc;

	rwlock_write(&tree->lock);
	rc = space_reserve(tree->space, pen->count);
	for (uint32_t i = 0; rc == 0 && i < pen->count; i++)
		rc = children_born(tree, pen->strokes[i].node);
	for (uint32_t i = 0; rc == 0 && i < pen->count; i++)
		wrote(tree, &pen->strokes[i]);
	rwlock_write_done(&tree->lock);
	return rc;
}

/* Gives the disk what was written, once it is done with what it got before. */
static int flush(struct pen *pen)
{
	struct pages *pages = pen->tree->pages;
	const struct stretch before = pen->flushing, now = pen->written;
	int rc = pages_flush(pages, now.from, now.to - now.from, false);

	if (rc == 0 && before.bytes)
		rc = pages_flush(pages, before.from, before.to - before.from, true);
	pen->flushing = now;
	pen->written = (struct stretch){ 0 };
	if (rc == 0 && pen->pace)
		pen->bridges = pen->pace(pen->arg);
	return rc;
}

/* Writes what was gathered. */
static int pen_empty(struct pen *pen)
{
	int rc;

	if (pen->count == 0)
		return 0;
	rc = place_all(pen);
	if (rc == 0) {
		rc = put_blocks(pen);
		if (rc == 0)
			rc = pen->view ? view_wrote(pen) : all_wrote(pen);
		if (rc < 0)
			lift(pen, pen->count);
	}
	pen->count = 0;
	pen->used = 0;
	mem_blocks_trim();
	if (rc == 0 && pen->written.bytes >= FLUSH_BYTES)
		rc = flush(pen);
	return rc;
}

static bool has_room(const struct pen *pen, const struct node *node)
{
	return pen->count < PEN_BLOCKS &&
	       (pen->count == 0 || pen->used + whole_units(node_block_size(node)) <= PEN_BYTES);
}

/* Adds a node whose children are on disk, as it is now. */
static int pen_add(struct pen *pen, const struct stroke *stroke) NEEDS_SHARED(pen->tree->lock)
{
	const uint32_t size = node_block_size(stroke->node);
	const uint64_t room = whole_units(size);
	const uint64_t begin = pen->bridges ? aligned(pen->used, room / UNIT) : pen->used;
	struct stroke *s = &pen->strokes[pen->count];
	const int rc = make_room(pen, begin - pen->used + room);
	uint8_t *block;

	if (rc < 0)
		return rc;
	block = pen->buffer + begin;
	memset(pen->buffer + pen->used, 0, begin - pen->used);
	node_encode(stroke->node, block);
	memset(block + size, 0, room - size);
	*s = *stroke;
	s->generation = stroke->node->generation;
	s->in_buffer = begin;
	s->ref = (struct ref){ .length = size };
	pen->used = begin + room;
	pen->count++;
	return 0;
}

/* ---- a frozen tree ---------------------------------------------------------------------- */

/* The first child from *index on that is not on disk: such a one stays in memory, and does not
 * change, until we have written it. One that is on disk may be forgotten at any moment. */
static struct node *next_unwritten(struct tree *tree, const struct node *node, uint32_t *index)
{
	struct node *found = NULL;

	rwlock_read(&tree->lock);
	for (; *index < node->count; ++*index) {
		found = inner_child(node, *index);
		if (found && !found->ref.length)
			break;
		found = NULL;
	}
	rwlock_read_done(&tree->lock);
	return found;
}

static int write_frozen(struct pen *pen, const struct stroke *stroke)
{
	int rc = 0;

	if (!has_room(pen, stroke->node))
		rc = pen_empty(pen);
	if (rc < 0)
		return rc;
	rwlock_read(&pen->tree->lock);	/* what an inner node points to comes and goes */
	rc = pen_add(pen, stroke);
	rwlock_read_done(&pen->tree->lock);
	return rc;
}

/* Gathers leaves below `node`, from *index on: a few, or commits would wait for too long, but not one
 * at a time, or we and they would wake each other for each. Returns 1 if there is no room. */
static int gather(struct pen *pen, struct node *node, uint32_t *index)
	NEEDS_SHARED(pen->tree->lock)
{
	int rc = 0;

	for (int few = LEAVES_AT_ONCE; rc == 0 && few > 0 && *index < node->count; ++*index) {
		struct node *leaf = inner_child(node, *index);

		if (!leaf || leaf->ref.length)
			continue;
		if (!has_room(pen, leaf))
			return 1;
		rc = pen_add(pen, &(struct stroke){ leaf, node, *index, .gap = 0 });
		few--;
	}
	return rc;
}

static int write_leaves(struct pen *pen, struct node *node)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < node->count;) {
		rwlock_read(&pen->tree->lock);
		rc = gather(pen, node, &i);
		rwlock_read_done(&pen->tree->lock);
		if (rc == 1)
			rc = pen_empty(pen);
	}
	return rc;
}

/* Writes `node`, which is not on disk, and what is below it: first the children, in key order,
 * then, when it is known where they lie, the node. */
static int write_below(struct pen *pen, struct node *node, struct node *parent, uint32_t index)
{
	struct node *child;
	int rc = 0;

	if (node->level == 1)
		rc = write_leaves(pen, node);
	for (uint32_t i = 0; node->level > 1 && rc == 0 &&
	     (child = next_unwritten(pen->tree, node, &i)); i++)
		rc = write_below(pen, child, node, i);
	if (rc == 0 && node->level)
		rc = pen_empty(pen);
	return rc == 0 ? write_frozen(pen, &(struct stroke){ node, parent, index, .gap = 0 })
		       : rc;
}

/* Writes `root` and all below it that is not on disk. */
static int write_root(struct pen *pen, struct node *root)
{
	int rc = 0;

	if (!root->ref.length) {
		rc = write_below(pen, root, NULL, 0);
		if (rc == 0)
			rc = pen_empty(pen);
	}
	mem_free(pen->buffer);
	return rc;
}

int tree_write_view(struct tree *tree, struct node *root, uint64_t generation)
{
	struct pen pen = { .tree = tree, .view = generation };

	return write_root(&pen, root);
}

int tree_write(struct tree *tree, struct frozen *frozen, bool (*pace)(void *arg), void *arg)
{
	struct pen pen = {
		.tree = tree, .bridges = pace && pace(arg), .pace = pace, .arg = arg,
	};
	struct node *root = frozen->root;
	int rc = root ? write_root(&pen, root) : 0;

	if (rc == 0 && root)
		frozen->ref = root->ref;
	if (rc == 0 && frozen->ref.length && frozen->ref.generation > tree->born)
		rc = space_born_frozen(tree->space, &frozen->ref);
	if (rc == 0)
		tree->born = frozen->generation;
	return rc;
}

/* ---- early ------------------------------------------------------------------------------ */

/* Copies cold leaves, which are held meanwhile. Changing one takes the mark away that it gets
 * here. */
static void copy(struct pen *pen, struct node **cold, uint32_t count) NEEDS(pen->tree->lock)
{
	for (uint32_t i = 0; i < count && has_room(pen, cold[i]); i++) {
		if (pen_add(pen, &(struct stroke){ .node = cold[i] }) < 0)
			break;
		cold[i]->copied = true;
		cold[i]->refs++;
	}
}

/* Turns the hand until there is enough to write, or for a while, but not past where it began in
 * the tree. Adds to `rounds` if it got there. */
static int turn(struct pen *pen, int rounds) NEEDS(pen->tree->lock)
{
	struct node *cold[PEN_BLOCKS];
	bool round = false;

	for (int i = 0; i < TURNS && !round && tree_over(pen->tree) &&
	     pen->count < PEN_BLOCKS / 2; i++) {
		copy(pen, cold, tree_turn(pen->tree, cold, PEN_BLOCKS));
		round = pen->tree->hand.size == 0;
	}
	return rounds + round;
}

/* The copy is on disk, or is not (rc). If the leaf is still as it was copied, it can go. */
static void wrote_early(struct tree *tree, const struct stroke *stroke, int rc)
	NEEDS(tree->lock)
{
	struct node *leaf = stroke->node;
	const bool good = rc == 0 && leaf->copied && !leaf->superseded &&
			  leaf->generation == tree->generation;

	leaf->copied = false;
	if (good) {
		tree_account_dirty(tree, leaf, false);
		tree_drop_place(tree, leaf);
		leaf->ref = stroke->ref;
	} else if (stroke->ref.offset) {
		space_give_back(tree->space, &stroke->ref);
	}
	tree_unref(tree, leaf);
	if (good)
		tree_forget_leaf(tree, leaf);
}

/* Gives the disk what was written early, a little at a time. While a sync is under way nothing, for
 * whoever stands here would have to wait until the disk is done with that; unless it is too much
 * already. The caller holds tree->relief. */
static void flush_early(struct tree *tree, struct stretch *written)
{
	uint32_t done = 0;

	if (written->bytes >= FLUSH_EARLY_BYTES && tree->unflushed_count < UNFLUSHED_MAX) {
		tree->unflushed[tree->unflushed_count++] = *written;
		*written = (struct stretch){ 0 };
	}
	while (done < tree->unflushed_count && done < FLUSHES_EARLY &&
	       (tree->unflushed_count == UNFLUSHED_MAX || !pages_syncing(tree->pages))) {
		const struct stretch s = tree->unflushed[done++];

		(void)pages_flush(tree->pages, s.from, s.to - s.from, false);
	}
	tree->unflushed_count -= done;
	memmove(tree->unflushed, tree->unflushed + done,
		tree->unflushed_count * sizeof(*tree->unflushed));
}

/* Writes what was copied; false if that failed. */
static bool write_early(struct pen *pen)
{
	struct tree *tree = pen->tree;
	int rc = place_all(pen);

	if (rc == 0)
		rc = put_blocks(pen);
	rwlock_write(&tree->lock);
	for (uint32_t i = 0; i < pen->count; i++)
		wrote_early(tree, &pen->strokes[i], rc);
	tree->early += rc == 0 ? pen->count : 0;
	rwlock_write_done(&tree->lock);
	pen->count = 0;
	pen->used = 0;
	if (rc == 0)
		flush_early(tree, &pen->written);
	return rc == 0;
}

/* Much more than there should be: a batch, say, of keys that lie in a thousand leaves. */
static bool is_far_over(const struct tree *tree)
{
	return tree->memory > tree->cache + RELIEF_SLACK;
}

/* Turns the hand round a few times, and writes a few times at the most, for whoever commits next can
 * do some of it too; but what is far over goes as long as anything does. */
static void relieve(struct tree *tree, int most_rounds) NEEDS(tree->relief)
{
	struct pen pen = {
		.tree = tree, .early = true, .buffer = tree->relief_buffer,
		.capacity = tree->relief_capacity,
		.written = tree->relief_written,
	};
	uint64_t more;
	bool over = true, far = false;
	int rounds = 0;

	for (int writes = 0; over && rounds < most_rounds && (far || writes < EARLY_WRITES);) {
		rwlock_write(&pen.tree->lock);
		rounds = turn(&pen, rounds);
		over = tree_over(tree);
		far = is_far_over(tree);
		rwlock_write_done(&pen.tree->lock);
		if (pen.count > 0) {
			if (write_early(&pen) && most_rounds > 1)
				rounds = 0;
			writes++;
		}
		mem_blocks_trim();
	}
	more = tree->cache / TRY_FRACTION < TRY_MIN ? TRY_MIN : tree->cache / TRY_FRACTION;
	rwlock_write(&tree->lock);
	if (!over || rounds > 1)
		tree->tried = over ? tree->memory + more : 0;
	rwlock_write_done(&tree->lock);
	tree->relief_buffer = pen.buffer;
	tree->relief_capacity = pen.capacity;
	tree->relief_written = pen.written;
}

void tree_relieve(struct tree *tree, int rounds)
{
	bool far;

	rwlock_read(&tree->lock);
	far = is_far_over(tree);
	rwlock_read_done(&tree->lock);
	if (far)
		mutex_lock(&tree->relief);
	else if (!mutex_try(&tree->relief))
		return;			/* somebody is at it */
	relieve(tree, rounds);
	mutex_unlock(&tree->relief);
}
