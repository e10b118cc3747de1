/* A file whose content has become small is made shorter, when nobody wants anything.
 *
 * A *goal* is found: where the file could end if all that lies behind it lay before it
 * (freemap_goal). Then a search goes through the tree, leaf by leaf, for what is behind the goal:
 *
 *   - a node is *touched*: copied, as for a change that changes nothing, so that the next
 *     checkpoint writes it anew, and before the goal, as all that is handed out meanwhile lies
 *     there if there is room (space_prefer). The log hears nothing of it: there is nothing to
 *     tell.
 *   - a run is copied to a place before the goal, and its entry is put again with the new
 *     reference, by a commit that is refused if the entry is not what it was when the run was
 *     read. That is the engine's own business: whoever reads a run gets its entry again if the run
 *     is gone (engine.h), and nobody puts a reference that he has read.
 *
 * Nodes go first, since inner nodes tell where their children lie. Only if something is left
 * behind the goal then, all leaves are read for the runs that they name. The free map moves its
 * own blocks. When nothing is left there, checkpoints cut the end off.
 *
 *   NONE ---- begin: much to gain ----> NODES ---- all seen ----> RUNS ---- all seen ----> NONE,
 *    ^                                    |                         |       or NODES again with a
 *    '------ nothing behind the goal -----'-------------------------'       farther goal, if a run
 *                                                                           found no place
 *
 * What was born before the newest snapshot, kept or open, stays where it is: the snapshot would
 * keep the old copy, and space would be lost, not won.
 *
 * It ends, and costs little. What lies behind the goal is no more than what the file gets shorter
 * by, so at most a byte is moved for each byte given back, and before that can be given back again
 * somebody must have made the file grow by it. Where it fails (snapshots, large runs in a
 * scattered file), it is tried again only when a sixteenth of the file has died since, or a
 * snapshot is gone. A piece moves 4 MiB and makes a checkpoint, whose own cost is a few units; a
 * run costs the log some 100 bytes, or as much as has been patched of it (34 KB at most).
 *
 * All of it is an ordinary life of blocks and commits, so a crash at any moment finds what it
 * always finds. Nothing says how far it got: the next opening begins again, and
 * finds less to do. */
#include <assert.h>
#include <errno.h>

#include "engine_impl.h"
#include "mem.h"

enum {
	PIECE = 1024,			/* units that are moved, then a checkpoint: 4 MiB */
	GAIN_MIN = 256,			/* units: 1 MiB; less is not worth it, ... */
	GAIN_FRACTION = 8,		/* ... nor is less than this of what remains, ... */
	GAIN_STEPS = 3,			/* ... nor what its end may have free anyway: see space.c */
	DIED_FRACTION = 16,		/* of the file, since it was tried in vain */
	SHIFT_FIRST = 5,		/* a 32th is left free at first, ... */
	SHIFT_LAST = 1,			/* ... a half if large runs find no place otherwise */
	LOOKS = 64,			/* leaves passed between two looks whether somebody came */
	NODE_UNITS = NODE_ALLOCATION / UNIT,
};

/* One piece of work. */
struct piece {
	struct engine *engine;
	struct compaction *c;
	uint64_t left;			/* units that may still be moved */
	struct batch found;		/* entries whose runs are to move, as puts */
	void *bytes;			/* of a run; NULL: none was moved yet */
	bool full;			/* no room in the log, or for the next checkpoint */
};

/* ---- may it, and how far ---------------------------------------------------------------- */

static int newest_kept(void *arg, const struct kept_snapshot *kept)
{
	uint64_t *generation = arg;

	if (!kept->dropped && kept->generation > *generation)
		*generation = kept->generation;
	return 0;
}

/* What was born in this generation or before may be some snapshot's. */
static uint64_t newest_snapshot(struct engine *engine)
{
	struct space_stats space;
	uint64_t generation = 0;

	space_stats(engine->space, &space);
	kept_each(engine->kept, newest_kept, &generation);
	return space.reader > generation ? space.reader : generation;
}

/* Would the file become so much shorter that it is worth it? *goal is where it would end. */
static int is_worth_it(struct engine *engine, unsigned shift, uint64_t *goal, bool *worth)
{
	uint64_t units, gain = GAIN_MIN;
	const int rc = space_goal(engine->space, shift, goal, &units);

	if (rc < 0)
		return rc;
	if (gain < *goal / GAIN_FRACTION)
		gain = *goal / GAIN_FRACTION;
	if (gain < GAIN_STEPS * space_step(engine->space))
		gain = GAIN_STEPS * space_step(engine->space);
	*worth = units >= *goal + gain;
	return 0;
}

/* Something has to have changed since it was tried last. */
static bool may_try(struct engine *engine)
{
	const struct compaction *c = &engine->compaction;
	struct space_stats space;

	space_stats(engine->space, &space);
	return !c->tried || (c->died > GAIN_MIN && c->died > space.units / DIED_FRACTION) ||
	       (c->left_out && newest_snapshot(engine) < c->floor);
}

static void aim(struct engine *engine, uint64_t goal)
{
	struct compaction *c = &engine->compaction;

	c->limit = goal;
	c->floor = newest_snapshot(engine);
	c->stuck = false;
	c->search = (struct tree_search){ .limit = goal * UNIT, .floor = c->floor };
	space_prefer(engine->space, goal);
	atomic_store(&engine->touched, true);	/* a checkpoint moves the free map, too */
}

static int begin(struct engine *engine)
{
	struct compaction *c = &engine->compaction;
	uint64_t goal, used, room;
	bool worth;
	int rc = is_worth_it(engine, SHIFT_FIRST, &goal, &worth);

	if (rc == 0 && worth)
		rc = space_behind(engine->space, goal, &used, &room);
	if (rc < 0 || !worth)
		return rc;
	space_calm(engine->space);
	if (used && may_try(engine)) {
		c->under_way = true;
		c->shift = SHIFT_FIRST;
		c->died = 0;
		c->left_out = false;
		aim(engine, goal);
	}
	return 0;
}

static void end(struct engine *engine)
{
	struct compaction *c = &engine->compaction;

	c->under_way = false;
	c->tried = true;
	space_prefer(engine->space, 0);
	space_calm(engine->space);
}

/* Did anything happen that is not ours? */
static bool is_disturbed(struct engine *engine)
{
	return log_revision(engine->log) != engine->compaction.revision || keeper_hurries(engine);
}

/* ---- nodes ------------------------------------------------------------------------------ */

/* Under the tree's lock: the checkpoint must have room for it. */
static bool has_room(struct piece *p, uint64_t units)
{
	struct space_stats space;

	space_stats(p->engine->space, &space);
	p->full = space.quad_units < engine_admits(p->engine, units, REF_PIECES);
	return !p->full;
}

static int admit_touch(void *arg, uint64_t units)
{
	struct piece *p = arg;

	if (!has_room(p, units))
		return -ENOSPC;
	atomic_store(&p->engine->touched, true);
	return 0;
}

/* Copies the leaf that has this key, and the nodes above it, by a patch of no bytes. If the key is
 * gone somebody has changed the leaf, and done it for us. */
static int touch(struct piece *p, struct slice key)
{
	struct batch batch = { 0 };
	struct err err = { "" };
	int rc;

	batch_patch(&batch, key, 0, slice_of("", 0));
	rc = batch.failed;
	if (rc == 0)
		rc = tree_apply(p->engine->tree, buffer_slice(&batch.bytes), admit_touch, p, &err);
	batch_done(&batch);
	if (rc == 0) {
		atomic_fetch_add(&p->engine->moved, NODE_UNITS * UNIT);
		p->left -= p->left < NODE_UNITS ? p->left : NODE_UNITS;
	}
	if (rc == -ENOSPC)		/* for a large entry, there may be room in no row */
		p->c->stuck = true;
	return rc == -EINVAL || rc == -ENOSPC ? 0 : engine_note(p->engine, rc, &err);
}

/* ---- runs ------------------------------------------------------------------------------- */

/* Under the tree's lock, which also is the log's order: nobody changes the entry between this look
 * and the commit. */
struct move {
	struct piece *piece;
	const struct batch_op *before;	/* the entry as it was */
	struct slice batch;
	uint64_t revision;
};

static int is_as_before(void *arg, const struct leaf_entry *entry)
{
	const struct batch_op *before = arg;

	return ref_equal(&entry->run, &before->run) && slice_equal(entry->value, before->value) ?
		0 : -ESTALE;
}

static int admit_move(void *arg, uint64_t units)
{
	struct move *m = arg;
	struct engine *engine = m->piece->engine;
	struct batch_op before = *m->before;
	int rc = tree_peek(engine->tree, before.key, is_as_before, &before);

	if (rc < 0)
		return -ESTALE;
	if (!has_room(m->piece, units))
		return -ENOSPC;
	rc = log_append(engine->log, m->batch, &m->revision);
	m->piece->full = rc == -EAGAIN;
	return rc;
}

/* Puts the entry with its run at `run`. */
static int commit(struct piece *p, const struct batch_op *before, const struct ref *run)
{
	struct batch batch = { 0 };
	struct err err = { "" };
	struct move m = { .piece = p, .before = before };
	int rc;

	batch_put_run(&batch, before->key, run, before->value);
	m.batch = buffer_slice(&batch.bytes);
	rc = batch.failed;
	if (rc == 0)
		rc = tree_apply(p->engine->tree, m.batch, admit_move, &m, &err);
	batch_done(&batch);
	if (rc == 0 && m.revision == p->c->revision + 1)
		p->c->revision++;	/* else somebody else has committed something, too */
	if (log_wants_spares(p->engine->log))
		filler_wake(p->engine);
	return engine_note(p->engine, rc, &err);
}

/* What cannot be read now may be gone, or damaged, which is for its readers to find. */
static int copy_run(struct piece *p, const struct ref *from, struct ref *to)
{
	struct tree_stats tree;
	int rc = pages_read(p->engine->pages, from, p->bytes, NULL);

	if (rc < 0)
		return -ESTALE;
	tree_stats(p->engine->tree, &tree);
	rc = pages_write(p->engine->pages, to->offset, tree.generation,
			 slice_of(p->bytes, from->length), to);
	atomic_fetch_add(&p->engine->runs_written, 1);
	return engine_note(p->engine, rc, NULL);
}

static int move_run(struct piece *p, const struct batch_op *before)
{
	struct engine *engine = p->engine;
	struct ref to = { .length = before->run.length };
	const uint64_t units = ref_units(&to);
	int rc;

	if (to.length > ENGINE_RUN_MAX)
		return 0;
	if (!p->bytes)
		p->bytes = mem_alloc(ENGINE_RUN_MAX);
	rc = p->bytes ? space_alloc_low(engine->space, units, engine_need(engine), &to.offset)
		      : -ENOMEM;
	if (rc == -ENOSPC) {
		p->c->stuck = true;
		return 0;
	}
	if (rc < 0)
		return rc;
	rc = copy_run(p, &before->run, &to);
	if (rc == 0)
		rc = commit(p, before, &to);
	if (rc < 0)
		space_give_back(engine->space, &to);
	if (rc == 0) {
		atomic_fetch_add(&engine->moved, units * UNIT);
		p->left -= p->left < units ? p->left : units;
	}
	if (rc == -ENOSPC)
		p->c->stuck = true;
	return rc == -ESTALE || rc == -ENOSPC || rc == -EAGAIN ? 0 : rc;
}

static int note_run(void *arg, const struct leaf_entry *entry)
{
	struct piece *p = arg;

	batch_put_run(&p->found, entry->key, &entry->run, entry->value);
	return p->found.failed;
}

/* ---- one piece -------------------------------------------------------------------------- */

static bool goes_on(const struct piece *p)
{
	return p->left > 0 && !p->full && !is_disturbed(p->engine);
}

/* Moves what was found in one leaf. If that has to end before all is done, the search goes back to
 * the leaf. */
static int move_found(struct piece *p, const struct tree_search *before)
{
	struct compaction *c = p->c;
	const struct slice found = buffer_slice(&p->found.bytes);
	size_t offset = BATCH_HEADER;
	struct batch_op op;
	int rc = 0;

	if (c->search.found_size)
		rc = touch(p, slice_of(c->search.found, c->search.found_size));
	while (rc == 0 && p->found.count && goes_on(p) &&
	       (rc = batch_next(found, &offset, &op)) > 0)
		rc = move_run(p, &op);
	if (p->found.count && (p->full || offset < found.size)) {
		c->search.next_size = before->next_size;
		memcpy(c->search.next, before->next, before->next_size);
		c->search.ended = false;
	}
	return rc;
}

static int search(struct piece *p)
{
	struct compaction *c = p->c;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && !c->search.ended; i++) {
		const struct tree_search before = c->search;
		struct err err = { "" };

		if (i % LOOKS == 0 && !goes_on(p))
			break;
		batch_clear(&p->found);
		rc = tree_search(p->engine->tree, &c->search, note_run, p, &err);
		rc = engine_note(p->engine, rc, &err);
		if (rc == 0 && (c->search.found_size || p->found.count)) {
			rc = move_found(p, &before);
			i = LOOKS - 1;
		}
	}
	batch_done(&p->found);
	mem_free(p->bytes);
	return rc;
}

/* Behind the last leaf: once more, for runs; or with a goal that is not so far. */
static int turn(struct engine *engine)
{
	struct compaction *c = &engine->compaction;
	uint64_t goal;
	bool worth = false;
	int rc = 0;

	if (!c->search.runs) {
		c->search = (struct tree_search){
			.limit = c->limit * UNIT, .floor = c->floor, .runs = true,
			.left_out = c->search.left_out,
		};
		return 0;
	}
	c->left_out |= c->search.left_out;
	while (rc == 0 && c->stuck && !worth && c->shift > SHIFT_LAST)
		rc = is_worth_it(engine, --c->shift, &goal, &worth);
	if (rc == 0 && worth)
		aim(engine, goal);
	else
		end(engine);
	return rc;
}

/* A snapshot may have been made since the last piece. */
static void respect_snapshots(struct engine *engine)
{
	struct compaction *c = &engine->compaction;
	const uint64_t newest = newest_snapshot(engine);

	if (newest > c->floor)
		c->floor = c->search.floor = newest;
}

/* Moves a little, unless all is done. */
static int go_on(struct engine *engine)
{
	struct compaction *c = &engine->compaction;
	struct piece p = { .engine = engine, .c = c };
	uint64_t used, room;
	int rc = space_behind(engine->space, c->limit, &used, &room);

	respect_snapshots(engine);
	p.left = room / 2 < PIECE ? room / 2 : PIECE;
	if (rc < 0)
		return rc;
	if (used == 0 || p.left < NODE_UNITS) {
		end(engine);
		return 0;
	}
	if (c->search.ended)
		return turn(engine);
	rc = search(&p);
	if (rc == 0 && p.full && p.left == (room / 2 < PIECE ? room / 2 : PIECE))
		end(engine);		/* not even one: it would be no better the next time */
	return rc;
}

static int step(struct engine *engine, bool *more)
{
	struct compaction *c = &engine->compaction;
	const bool unfinished = checkpoint_unfinished(engine);
	struct space_stats space;
	int rc = 0;

	space_stats(engine->space, &space);
	c->died += space.died_units - c->died_before;
	c->revision = log_revision(engine->log);
	if (!c->under_way && !unfinished)
		rc = begin(engine);
	if (rc == 0 && c->under_way)
		rc = go_on(engine);
	if (rc == 0)
		rc = checkpoint_leisurely(engine);
	if (rc < 0)
		end(engine);
	*more = rc == 0 && (c->under_way || unfinished || checkpoint_unfinished(engine));
	space_stats(engine->space, &space);
	c->died_before = space.died_units;
	return rc;
}

int compact_step(struct engine *engine, bool *more, uint64_t *revision)
{
	int rc;

	mutex_lock(&engine->compacting);
	rc = step(engine, more);
	*revision = engine->compaction.revision;
	mutex_unlock(&engine->compacting);
	return rc;
}

int engine_compact(struct engine *engine, bool *more)
{
	uint64_t revision;

	return compact_step(engine, more, &revision);
}
