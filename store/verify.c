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
	uint64_t units;
	uint64_t blocks, entries;
	void *run;			/* room for the largest */
	int (*progress)(void *arg, uint64_t blocks);
	void *arg;
	struct err *err;
};

/* Each unit belongs to one block only. */
static int reach(struct verify *v, const struct ref *ref)
{
	const uint64_t first = ref->offset / UNIT;

	if (!ref_plausible(ref, v->units))
		return err_set(v->err, -EUCLEAN, FILE_PAGES ": a reference to offset %" PRIu64
			       ", length %" PRIu32 ", leads out of the file", ref->offset, ref->length);
	for (uint64_t u = first; u < first + ref_units(ref); u++) {
		if (v->reached[u / 64] >> (u % 64) & 1)
			return err_set(v->err, -EUCLEAN, FILE_PAGES ": two blocks share offset %"
				       PRIu64, u * UNIT);
		v->reached[u / 64] |= (uint64_t)1 << (u % 64);
	}
	v->blocks++;
	if (v->progress && v->blocks % 256 == 0 && v->progress(v->arg, v->blocks) != 0)
		return -EINTR;
	return 0;
}

static int check_run(struct verify *v, const struct ref *run)
{
	const int rc = run->length > ENGINE_RUN_MAX ?
		err_set(v->err, -EUCLEAN, FILE_PAGES ": a run at offset %" PRIu64 " is too long",
			run->offset) : reach(v, run);

	return rc < 0 ? rc : pages_read(v->engine->pages, run, v->run, v->err);
}

static int read_node(struct verify *v, const struct ref *ref, int level, struct node **out)
{
	struct err why = { "" };
	uint8_t *block;
	int rc = reach(v, ref);

	if (rc < 0)
		return rc;
	if (ref->length < NODE_HEADER || ref->length > NODE_HEADER + NODE_BODY_MAX)
		return err_set(v->err, -EUCLEAN, FILE_PAGES ": the block at offset %" PRIu64
			       " has an impossible length", ref->offset);
	block = mem_alloc(ref->length);
	if (!block)
		return -ENOMEM;
	rc = pages_read(v->engine->pages, ref, block, v->err);
	if (rc == 0) {
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

	if (rc < 0)
		return rc;
	if (node->level == 0)
		rc = check_leaf(v, node, range, ref);
	for (uint32_t i = 0; node->level && rc == 0 && i < node->count; i++) {
		const struct ref child = inner_ref(node, i);
		const struct slice high = i + 1 < node->count ? node_key(node, i + 1) : slice_of("", 0);
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

static int reach_own(void *arg, const struct ref *ref)
{
	return reach(arg, ref);
}

/* What the map has as taken must have been reached; reached bits are cleared, so that what is left
 * is what the map has missed. */
static int compare_taken(void *arg, uint64_t first, uint64_t count)
{
	struct verify *v = arg;

	for (uint64_t u = first; u < first + count; u++) {
		if (u >= v->units || !(v->reached[u / 64] >> (u % 64) & 1))
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
		if (v->reached[u / 64] >> (u % 64) & 1)
			rc = err_set(v->err, -EUCLEAN, FILE_PAGES ": offset %" PRIu64
				     " is in use, but the free map has it as free", u * UNIT);
	return rc;
}

/* Behind a failed checkpoint the map is left out: there is none in memory to compare with. */
static int verify(struct verify *v)
{
	const struct super *super = &v->engine->super;
	int rc = 0;

	v->units = pages_units(v->engine->pages);
	v->reached = mem_zalloc((v->units / 64 + 1) * sizeof(*v->reached));
	v->run = mem_alloc(ENGINE_RUN_MAX);
	if (!v->reached || !v->run)
		return -ENOMEM;
	if (super->root.length)
		rc = check_node(v, &super->root, -1, (struct range){ slice_of("", 0), NULL });
	if (rc == 0 && v->entries != super->entries)
		rc = err_set(v->err, -EUCLEAN, FILE_PAGES ": the tree has %" PRIu64 " entries, the "
			     "superblock says %" PRIu64, v->entries, super->entries);
	return rc == 0 && !v->engine->map_ahead ? check_map(v) : rc;
}

int engine_verify(struct engine *engine, int (*progress)(void *arg, uint64_t blocks), void *arg,
		  struct err *err)
{
	struct err ignored;
	struct verify v = {
		.engine = engine, .progress = progress, .arg = arg, .err = err ? err : &ignored,
	};
	int rc;

	v.err->text[0] = '\0';
	rc = engine_checkpoint(engine);
	if (rc < 0 && rc != -ENOSPC && rc != -EROFS)
		return rc;
	mutex_lock(&engine->checkpoint);
	rc = verify(&v);
	mutex_unlock(&engine->checkpoint);
	mem_free(v.reached);
	mem_free(v.run);
	return rc;
}
