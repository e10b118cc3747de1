/* Reads every block of a checkpoint and checks every promise that the tree, its runs and the free
 * map make to each other. Sees only what is on disk, through references: it shares no
 * code with the tree that it checks, but for the decoding of nodes. */
#include <errno.h>
#include <inttypes.h>

#include "engine_impl.h"
#include "mem.h"

struct verify {
	struct engine *engine;
	uint64_t *reached;		/* a bit for each unit of the page file */
	/* With kept snapshots only: */
	uint64_t *starts;		/* likewise: the first unit of a block of some tree */
	uint64_t *current;		/* reached, and not from kept snapshots alone */
	uint64_t *dead;			/* on a list of the dead */
	bool shared;			/* the tree under way may share blocks with those before */
	uint64_t generation;		/* of that tree */
	uint64_t units;
	uint64_t blocks, entries;
	void *run;			/* room for the largest */
	int (*progress)(void *arg, uint64_t blocks);
	void *arg;
	struct err *err;
};

static bool bit(const uint64_t *bits, uint64_t u)
{
	return bits[u / 64] >> (u % 64) & 1;
}

static void set_bit(uint64_t *bits, uint64_t u)
{
	bits[u / 64] |= (uint64_t)1 << (u % 64);
}

/* Each unit belongs to one block only. */
static int reach_piece(struct verify *v, const struct ref *ref)
{
	const uint64_t first = ref->offset / UNIT;

	for (uint64_t u = first; u < first + ref_units(ref); u++) {
		if (bit(v->reached, u))
			return err_set(v->err, -EUCLEAN, FILE_PAGES ": two blocks share offset %"
				       PRIu64, u * UNIT);
		set_bit(v->reached, u);
	}
	return 0;
}

static int reach(struct verify *v, const struct ref *ref)
{
	int rc = 0;

	if (!ref_plausible(ref, v->units))
		return err_set(v->err, -EUCLEAN,
			       FILE_PAGES ": a reference to offset %" PRIu64 ", length %" PRIu32
					  ", leads out of the file",
			       ref->offset, ref->length);
	for (uint32_t i = 0; rc == 0 && i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		rc = reach_piece(v, &piece);
	}
	if (rc < 0)
		return rc;
	v->blocks++;
	if (v->progress && v->blocks % 256 == 0 && v->progress(v->arg, v->blocks) != 0)
		return -EINTR;
	return 0;
}

static bool piece_reached_before(const struct verify *v, const struct ref *ref)
{
	const uint64_t first = ref->offset / UNIT, end = first + ref_units(ref);

	if (!bit(v->starts, first))
		return false;
	for (uint64_t u = first; u < end; u++)
		if (!bit(v->reached, u) || (u > first && bit(v->starts, u)))
			return false;
	return end == v->units || !bit(v->reached, end) || bit(v->starts, end);
}

/* Was just this block reached from a younger tree? */
static bool reached_before(const struct verify *v, const struct ref *ref)
{
	bool before = v->shared && ref_plausible(ref, v->units);

	for (uint32_t i = 0; before && i < ref_pieces(ref); i++) {
		const struct ref piece = ref_piece(ref, i);

		before = piece_reached_before(v, &piece);
	}
	return before;
}

/* A block of a tree. *seen: with what is below it, it was checked before; then only its bytes are
 * looked at once more, by the reference that leads there from here. */
static int reach_shared(struct verify *v, const struct ref *ref, bool *seen)
{
	int rc;

	*seen = false;
	if (ref->generation > v->generation)
		return err_set(v->err, -EUCLEAN, FILE_PAGES ": the block at offset %" PRIu64
			       " is younger than the tree that names it", ref->offset);
	*seen = reached_before(v, ref);
	if (*seen)
		return 0;
	rc = reach(v, ref);
	for (uint32_t i = 0; rc == 0 && v->starts && i < ref_pieces(ref); i++)
		set_bit(v->starts, ref_piece(ref, i).offset / UNIT);
	return rc;
}

static int check_run(struct verify *v, const struct ref *run)
{
	bool seen;
	const int rc = run->length > ENGINE_RUN_MAX ?
		err_set(v->err, -EUCLEAN, FILE_PAGES ": a run at offset %" PRIu64 " is too long",
			run->offset) : reach_shared(v, run, &seen);

	return rc < 0 ? rc : pages_read(v->engine->pages, run, v->run, v->err);
}

/* Gives *out, or NULL if it and all below it was checked before. */
static int read_node(struct verify *v, const struct ref *ref, int level, struct node **out)
{
	struct err why = { "" };
	uint8_t *block;
	bool seen;
	int rc = reach_shared(v, ref, &seen);

	*out = NULL;
	if (rc < 0)
		return rc;
	if (ref->length < NODE_HEADER || ref->length > NODE_HEADER + NODE_BODY_MAX)
		return err_set(v->err, -EUCLEAN, FILE_PAGES ": the block at offset %" PRIu64
			       " has an impossible length", ref->offset);
	block = mem_alloc(ref->length);
	if (!block)
		return -ENOMEM;
	rc = pages_read(v->engine->pages, ref, block, v->err);
	if (rc == 0 && !seen) {
		rc = node_decode(slice_of(block, ref->length), ref,
				 level < 0 ? block[NODE_LEVEL] : (uint8_t)level, out, &why);
		if (rc == -EUCLEAN)
			err_set(v->err, rc, FILE_PAGES ": at offset %" PRIu64 ": %s", ref->offset,
				why.text);
	}
	mem_free(block);
	return rc;
}

/* Keys from `low` on, and below `high` unless that is NULL. */
struct range {
	struct slice low;
	const struct slice *high;
};

static int check_leaf(struct verify *v, const struct node *leaf, struct range range,
		      const struct ref *ref)
{
	int rc = 0;

	if (slice_compare(node_key(leaf, 0), range.low) < 0 ||
	    (range.high && slice_compare(node_key(leaf, leaf->count - 1), *range.high) >= 0))
		return err_set(v->err, -EUCLEAN, FILE_PAGES ": the leaf at offset %" PRIu64
			       " has keys that belong elsewhere", ref->offset);
	for (uint32_t i = 0; rc == 0 && i < leaf->count; i++) {
		const struct leaf_entry entry = leaf_entry_at(leaf, i);

		if (entry.run.length)
			rc = check_run(v, &entry.run);
	}
	v->entries += leaf->count;
	return rc;
}

static int check_node(struct verify *v, const struct ref *ref, int level, struct range range)
{
	struct node *node;
	int rc = read_node(v, ref, level, &node);

	if (rc < 0 || !node)
		return rc;
	if (node->level == 0)
		rc = check_leaf(v, node, range, ref);
	for (uint32_t i = 0; node->level && rc == 0 && i < node->count; i++) {
		const struct ref child = inner_ref(node, i);
		const struct slice high =
			i + 1 < node->count ? node_key(node, i + 1) : slice_of("", 0);
		const struct range below = {
			.low = i > 0 ? node_key(node, i) : range.low,
			.high = i + 1 < node->count ? &high : range.high,
		};

		if ((i > 0 && slice_compare(below.low, range.low) < 0) ||
		    (i + 1 < node->count && range.high && slice_compare(high, *range.high) > 0))
			rc = err_set(v->err, -EUCLEAN, FILE_PAGES ": the node at offset %" PRIu64
				     " has separators that belong elsewhere", ref->offset);
		else
			rc = check_node(v, &child, node->level - 1, below);
	}
	node_free(node);
	return rc;
}

/* A block of the map or of a list: nobody else's. */
static int reach_own(void *arg, const struct ref *ref)
{
	struct verify *v = arg;
	const int rc = reach(v, ref);

	for (uint64_t u = 0; rc == 0 && v->current && u < ref_units(ref); u++)
		set_bit(v->current, ref->offset / UNIT + u);
	return rc;
}

/* ---- kept snapshots --------------------------------------------------------------------- */

/* What is on a list is in no younger tree and on no other list; and it is in the tree of its
 * snapshot, or in an older one, unless that is gone. */
static int check_dead(void *arg, const struct kept_snapshot *snapshot, struct extent e)
{
	struct verify *v = arg;
	const char *wrong = NULL;

	if (e.count == 0 || e.first >= v->units || e.count > v->units - e.first)
		return err_set(v->err, -EUCLEAN,
			       FILE_PAGES ": on a list of the dead is unit %" PRIu64
					  ", which cannot be",
			       e.first);
	if (!snapshot->dropped && (e.birth > snapshot->generation || !bit(v->starts, e.first)))
		wrong = "is kept for a snapshot that never had it";
	for (uint64_t u = e.first; u < e.first + e.count; u++) {
		if (bit(v->dead, u))
			wrong = "is on two lists of the dead";
		if (bit(v->current, u))
			wrong = "is in use, and on a list of the dead";
		if (!snapshot->dropped && !bit(v->reached, u))
			wrong = "is kept for a snapshot that does not have it";
		set_bit(v->dead, u);
		set_bit(v->reached, u);
	}
	return wrong ? err_set(v->err, -EUCLEAN, FILE_PAGES ": offset %" PRIu64 " %s",
			       e.first * UNIT, wrong) : 0;
}

struct collected {
	struct kept_snapshot *items;
	size_t count;
};

static int collect(void *arg, const struct kept_snapshot *snapshot)
{
	struct collected *c = arg;
	struct kept_snapshot *more = mem_realloc(c->items, (c->count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	c->items = more;
	c->items[c->count++] = *snapshot;
	return 0;
}

static int check_tree(struct verify *v, const struct ref *root, uint64_t generation,
		      uint64_t entries);

/* The trees, youngest first, then the lists. A tree that shares blocks with a younger one is walked
 * as far as it differs, so that its entries are not counted. */
static int check_kept(struct verify *v, const struct collected *all)
{
	int rc = 0;

	v->shared = true;
	for (size_t i = all->count; rc == 0 && i-- > 0;)
		if (!all->items[i].dropped)
			rc = check_tree(v, &all->items[i].root, all->items[i].generation,
					UINT64_MAX);
	if (rc == 0)
		rc = kept_walk(v->engine->kept, reach_own, check_dead, v, v->err);
	for (uint64_t u = 0; rc == 0 && u < v->units; u++)
		if (bit(v->reached, u) && !bit(v->current, u) && !bit(v->dead, u))
			rc = err_set(v->err, -EUCLEAN,
				     FILE_PAGES ": offset %" PRIu64 " is in a kept "
						"snapshot only, and on no list of the dead",
				     u * UNIT);
	return rc;
}

/* ---- the free map ----------------------------------------------------------------------- */

/* What the map has as taken must have been reached; reached bits are cleared, so that what is left
 * is what the map has missed. */
static int compare_taken(void *arg, uint64_t first, uint64_t count)
{
	struct verify *v = arg;

	for (uint64_t u = first; u < first + count; u++) {
		if (u >= v->units || !(bit(v->reached, u)))
			return err_set(v->err, -EUCLEAN, FILE_PAGES ": offset %" PRIu64
				       " is taken, but nothing lies there", u * UNIT);
		v->reached[u / 64] &= ~((uint64_t)1 << (u % 64));
	}
	return 0;
}

static int check_map(struct verify *v)
{
	int rc = space_each_own(v->engine->space, reach_own, v);

	v->reached[0] |= ((uint64_t)1 << SUPER_UNITS) - 1;
	if (rc == 0)
		rc = space_each_taken(v->engine->space, compare_taken, v);
	for (uint64_t u = 0; rc == 0 && u < v->units; u++)
		if (bit(v->reached, u))
			rc = err_set(v->err, -EUCLEAN, FILE_PAGES ": offset %" PRIu64
				     " is in use, but the free map has it as free", u * UNIT);
	return rc;
}

static int check_tree(struct verify *v, const struct ref *root, uint64_t generation,
		      uint64_t entries)
{
	int rc = 0;

	v->entries = 0;
	v->generation = generation;
	if (root->length)
		rc = check_node(v, root, -1, (struct range){ slice_of("", 0), NULL });
	if (rc == 0 && v->entries != entries && entries != UINT64_MAX)
		rc = err_set(v->err, -EUCLEAN, FILE_PAGES ": the tree has %" PRIu64 " entries, the "
			     "superblock says %" PRIu64, v->entries, entries);
	return rc;
}

static uint64_t *new_bits(const struct verify *v)
{
	return mem_zalloc((v->units / 64 + 1) * sizeof(uint64_t));
}

/* Behind a failed checkpoint the map is left out: there is none in memory to compare with. */
static int verify(struct verify *v, const struct collected *all)
{
	const struct super *super = &v->engine->super;
	int rc;

	v->units = pages_units(v->engine->pages);
	v->reached = new_bits(v);
	v->run = mem_alloc(ENGINE_RUN_MAX);
	if (all->count) {
		v->starts = new_bits(v);
		v->current = new_bits(v);
		v->dead = new_bits(v);
	}
	if (!v->reached || !v->run || (all->count && !(v->starts && v->current && v->dead)))
		return -ENOMEM;
	rc = check_tree(v, &super->root, super->generation, super->entries);
	if (rc == 0 && all->count) {
		memcpy(v->current, v->reached, (v->units / 64 + 1) * sizeof(uint64_t));
		rc = check_kept(v, all);
	}
	return rc == 0 && !v->engine->map_ahead ? check_map(v) : rc;
}

int engine_verify(struct engine *engine, int (*progress)(void *arg, uint64_t blocks), void *arg,
		  struct err *err)
{
	struct err ignored;
	struct verify v = {
		.engine = engine, .progress = progress, .arg = arg, .err = err ? err : &ignored,
	};
	struct collected all = { 0 };
	int rc;

	v.err->text[0] = '\0';
	rc = engine_checkpoint(engine);
	if (rc < 0 && rc != -ENOSPC && rc != -EROFS)
		return rc;
	mutex_lock(&engine->checkpoint);
	rc = kept_each(engine->kept, collect, &all);
	if (rc == 0)
		rc = verify(&v, &all);
	mutex_unlock(&engine->checkpoint);
	mem_free(all.items);
	mem_free(v.starts);
	mem_free(v.current);
	mem_free(v.dead);
	mem_free(v.reached);
	mem_free(v.run);
	return rc;
}
