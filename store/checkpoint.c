/* A checkpoint writes the state of one moment to the page file, so that the log before it can be
 * used again: freeze, write nodes, write the free map, sync, wait for the log, superblock, sync.
 * Commits go on meanwhile. The keeper is the thread that does this unasked, and syncs what nobody
 * waits for. */
#include <errno.h>
#include <time.h>

#include "engine_impl.h"

enum {
	MAP_UNITS = 16,			/* of the free map that a checkpoint rewrites, beside ... */
	MAP_REGIONS = REGION_UNITS / 2,	/* ... one for each so many units of the file */
	IDLE_TICKS = 5,			/* commit intervals without a commit, then a checkpoint */
	COMPACT_TICKS = 10,		/* ... and then the file is made shorter */
	INNER_FRACTION = 4,		/* of the cache in inner nodes that are to be written ... */
	INNER_MIN = 8 << 20,		/* ... or so many bytes, if that is more */
	DEAD_FRACTION = 4,		/* of the file dead: a checkpoint makes it free */
	DEAD_MIN = 64 * 1024,		/* units: 256 MiB, below which nobody cares */
	STARVED_MIN = 256,		/* ... or 1 MiB, once somebody found no room */
	REST_MAX_MS = 20,		/* of a checkpoint in no hurry, between two writes */
};

uint64_t checkpoint_overhead(struct engine *engine, uint64_t deaths)
{
	return MAP_UNITS + pages_units(engine->pages) / MAP_REGIONS +
	       kept_units(engine->kept, deaths);
}

struct checkpoint {
	struct engine *engine;
	const struct kept_change *change;	/* NULL: none */
	struct super super;
	struct frozen frozen;
	bool leisurely;			/* nobody waits for it */
	bool replaying;			/* there is no log to append to yet */
	uint64_t rested_ns;		/* when it did so last */
	uint64_t idle_ns;		/* for how long it did so in all */
};

static struct timespec after(uint64_t ns)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns += (uint64_t)t.tv_nsec;
	t.tv_sec += (time_t)(ns / 1000000000);
	t.tv_nsec = (long)(ns % 1000000000);
	return t;
}

/* Does somebody want it over? Whoever waits does, and whoever is slowed for its sake; and soon
 * somebody would have to, when half of what the log had left as it began is used up, or memory
 * is. */
static bool hurried(const struct checkpoint *c, bool owed)
{
	struct tree_stats tree;
	uint64_t fill, limit;

	if (!c->leisurely || owed)
		return true;
	log_fill(c->engine->log, &fill, &limit);
	tree_stats(c->engine->tree, &tree);
	return fill > limit / 2 + atomic_load(&c->engine->fill_began) / 2 ||
	       tree.memory > c->engine->options.cache;
}

/* Leaves the disk to others for as long as it has been ours, unless somebody waits for the
 * checkpoint. Returns whether writers are slowed for its sake. */
static bool rest(void *arg)
{
	struct checkpoint *c = arg;
	struct engine *engine = c->engine;
	const uint64_t now = engine->os->monotonic_ns(engine->os), worked = now - c->rested_ns;
	const uint64_t most = (uint64_t)REST_MAX_MS * 1000000;
	const struct timespec until = after(worked < most ? worked : most);
	const bool owed = pace_owed(engine, now);
	int rc = 0;

	if (hurried(c, owed))
		return owed;
	mutex_lock(&engine->keeper_lock);
	while (rc != ETIMEDOUT && !engine->keeper_stop && !engine->checkpoint_awaited)
		rc = pthread_cond_timedwait(&engine->keeper_wake, &engine->keeper_lock.m, &until);
	mutex_unlock(&engine->keeper_lock);
	c->rested_ns = engine->os->monotonic_ns(engine->os);
	c->idle_ns += c->rested_ns - now;
	return false;
}

/* The moment itself, under the tree's lock: where the log turns to a new segment is where the
 * frozen tree ends. While the log is still being replayed it is where the replay stands. */
static int mark(void *arg)
{
	struct checkpoint *c = arg;
	const int rc = c->replaying ? 0 : log_rotate(c->engine->log, &c->super.mark);

	if (rc == 0) {
		space_freeze(c->engine->space);
		atomic_store(&c->engine->touched, false);	/* later ones are the next one's */
	}
	return rc;
}

/* Everything the superblock will refer to. The file's size is noted before the sync: what others
 * make it grow by later may not be there after a power cut. */
static int write_all(struct checkpoint *c)
{
	struct engine *engine = c->engine;
	struct space_stats space;
	int rc = tree_write(engine->tree, &c->frozen, rest, c);

	c->super.root = c->frozen.ref;
	c->super.entries = c->frozen.entries;
	if (rc == 0)
		rc = kept_store(engine->kept, c->frozen.generation, c->change, &c->super);
	if (rc == 0)
		rc = space_store(engine->space, c->frozen.generation, &c->super.space);
	space_stats(engine->space, &space);
	c->super.units = space.units;
	if (rc == 0)
		rc = pages_sync(engine->pages);
	if (rc == 0 && !c->replaying)
		rc = log_wait_blocking(engine->log, c->super.mark.revision, LOG_SYNCED);
	return rc;
}

/* Checkpoints that failed have used up generations, others a superblock more than generations; and
 * the slot follows from the generation: it must not be that of the superblock that counts now. */
static uint64_t super_generation(const struct checkpoint *c)
{
	const uint64_t last = c->engine->super.generation, next = c->frozen.generation;

	if (next <= last)
		return last + 1;
	return next % SUPER_SLOTS == last % SUPER_SLOTS ? next + 1 : next;
}

static int write_super(struct checkpoint *c)
{
	struct engine *engine = c->engine;

	memcpy(c->super.store, engine->store, STORE_ID_SIZE);
	c->super.generation = super_generation(c);
	return pages_write_super(engine->pages, &c->super);
}

static void finish(struct engine *engine, struct checkpoint *c) NEEDS(engine->checkpoint)
{
	/* First the names, then the space: whoever found a name in time has a reader by now. */
	kept_durable(engine->kept);
	space_durable(engine->space, c->super.units);
	engine->super = c->super;
	if (!c->replaying)		/* first, for writers may be waiting for it */
		log_recycle(engine->log, &c->super.mark);
	atomic_store(&engine->starved, false);
	tree_views_write(engine->tree, &c->frozen);
	space_trim(engine->space);
}

/* From the moment on to the superblock. */
static int carry_out(struct engine *engine, struct checkpoint *c) NEEDS(engine->checkpoint)
{
	bool named;
	int rc = tree_freeze(engine->tree, mark, c, &c->frozen);

	if (rc < 0)
		return rc;
	rc = write_all(c);
	named = rc == 0;
	if (rc == 0)
		rc = write_super(c);
	engine->map_ahead = rc < 0;
	if (rc == 0) {
		finish(engine, c);
	} else {
		kept_undo(engine->kept);
		space_thaw(engine->space, named);
		atomic_store(&engine->touched, true);
	}
	tree_release(engine->tree, &c->frozen);
	tree_shrink(engine->tree);
	return rc;
}

bool checkpoint_unfinished(struct engine *engine)
{
	return kept_pending(engine->kept) || space_untrimmed(engine->space);
}

/* `change`, unless NULL, is what it does to the kept snapshots. */
static int run(struct engine *engine, bool leisurely, const struct kept_change *change)
	NEEDS(engine->checkpoint)
{
	struct checkpoint c = {
		.engine = engine, .leisurely = leisurely, .change = change,
		.rested_ns = engine->os->monotonic_ns(engine->os),
	};
	int rc;

	if (!change && log_last(engine->log) == engine->super.mark.revision &&
	    !atomic_load(&engine->touched) && !checkpoint_unfinished(engine))
		return 0;
	pace_begin(engine);
	rc = carry_out(engine, &c);
	if (rc == 0)
		atomic_fetch_add(&engine->checkpoints, 1);
	pace_end(engine, c.idle_ns);
	return rc;
}

static int ensure_space(struct engine *engine)
{
	struct tree_stats tree;
	struct space_stats space;

	tree_stats(engine->tree, &tree);
	space_stats(engine->space, &space);
	return space_ensure(engine->space, tree.dirty_units +
			    checkpoint_overhead(engine, space.dead_blocks), 0);
}

int checkpoint_replayed(struct engine *engine, const struct log_mark *at)
{
	struct checkpoint c = { .engine = engine, .replaying = true, .super.mark = *at };
	int rc;

	c.super.mark.files = engine->super.mark.files;
	if (c.super.mark.seen < engine->super.mark.seen)
		c.super.mark.seen = engine->super.mark.seen;
	mutex_lock(&engine->checkpoint);
	rc = ensure_space(engine);
	if (rc == 0)
		rc = carry_out(engine, &c);
	mutex_unlock(&engine->checkpoint);
	return rc;
}

static int checkpoint(struct engine *engine, bool leisurely)
{
	int rc;

	mutex_lock(&engine->checkpoint);
	rc = run(engine, leisurely, NULL);
	mutex_unlock(&engine->checkpoint);
	return engine_note(engine, rc, NULL);
}

int checkpoint_leisurely(struct engine *engine)
{
	return checkpoint(engine, true);
}

void checkpoint_await(struct engine *engine, int more)
{
	mutex_lock(&engine->keeper_lock);
	engine->checkpoint_awaited += more;
	pthread_cond_signal(&engine->keeper_wake);
	mutex_unlock(&engine->keeper_lock);
}

int checkpoint_change(struct engine *engine, const struct kept_change *change)
	NEEDS(engine->checkpoint)
{
	return run(engine, false, change);
}

int engine_checkpoint(struct engine *engine)
{
	int rc;

	checkpoint_await(engine, 1);
	rc = checkpoint(engine, false);
	checkpoint_await(engine, -1);
	return rc;
}

static int close_super(struct engine *engine) NEEDS(engine->checkpoint)
{
	struct super super = engine->super;
	int rc = log_rotate(engine->log, &super.mark);

	if (rc == 0)
		rc = log_wait_blocking(engine->log, super.mark.revision, LOG_SYNCED);
	super.generation++;
	super.mark.closed = true;
	if (rc == 0)
		rc = pages_write_super(engine->pages, &super);
	if (rc == 0)
		engine->super = super;
	return rc;
}

int checkpoint_close(struct engine *engine)
{
	int rc;

	mutex_lock(&engine->checkpoint);
	rc = close_super(engine);
	mutex_unlock(&engine->checkpoint);
	return engine_note(engine, rc, NULL);
}

int checkpoint_after(struct engine *engine, unsigned long long seen)
{
	int rc = 0;

	checkpoint_await(engine, 1);
	mutex_lock(&engine->checkpoint);
	if (atomic_load(&engine->checkpoints) == seen)
		rc = run(engine, false, NULL);
	mutex_unlock(&engine->checkpoint);
	checkpoint_await(engine, -1);
	return engine_note(engine, rc, NULL);
}

/* ---- the keeper ------------------------------------------------------------------------- */

static bool checkpoint_due(struct engine *engine)
{
	const uint64_t cache = engine->options.cache / INNER_FRACTION;
	struct space_stats space;
	struct tree_stats tree;

	space_stats(engine->space, &space);
	tree_stats(engine->tree, &tree);
	return tree.dirty_inner > (cache < INNER_MIN ? INNER_MIN : cache) ||
	       /* Leaves are written early, but not those that only snapshots still have. */
	       tree.dirty_memory > engine->options.cache + INNER_MIN ||
	       pace_due(engine) ||
	       (atomic_load(&engine->starved) && space.dead_units > STARVED_MIN) ||
	       (space.dead_units > DEAD_MIN && space.dead_units > space.units / DEAD_FRACTION);
}

static void keeper_call(struct engine *engine)
{
	mutex_lock(&engine->keeper_lock);
	engine->keeper_wanted = true;
	pthread_cond_signal(&engine->keeper_wake);
	mutex_unlock(&engine->keeper_lock);
}

void keeper_committed(struct engine *engine)
{
	if (!engine->keeper_runs ||
	    !(atomic_load(&engine->keeper_idle) ||
	      (!atomic_load(&engine->keeper_told) &&
	       (pace_due(engine) || atomic_load(&engine->starved)))))
		return;
	atomic_store(&engine->keeper_told, true);
	keeper_call(engine);
}

void keeper_wake(struct engine *engine)
{
	if (atomic_load(&engine->keeper_idle))
		keeper_call(engine);
}

bool keeper_hurries(struct engine *engine)
{
	bool hurries;

	mutex_lock(&engine->keeper_lock);
	hurries = engine->keeper_stop || engine->checkpoint_awaited;
	mutex_unlock(&engine->keeper_lock);
	return hurries;
}

/* Sleeps until somebody wants something or so much time is over; if nothing was committed
 * since revision `seen`, for as long as that is so. Returns false when it is time to stop. */
static bool keeper_sleep(struct engine *engine, bool idle, uint64_t seen, uint64_t ns)
{
	const struct timespec until = after(ns);
	bool stop;
	int rc = 0;

	mutex_lock(&engine->keeper_lock);
	/* Whoever commits looks at keeper_idle afterwards; whoever turns idle looks for commits
	 * afterwards: one of the two sees the other. */
	atomic_store(&engine->keeper_idle, idle);
	if (idle && log_revision(engine->log) != seen)
		idle = false;
	while (rc != ETIMEDOUT && !engine->keeper_stop && !engine->keeper_wanted) {
		if (idle)
			mutex_sleep(&engine->keeper_lock, &engine->keeper_wake);
		else
			rc = pthread_cond_timedwait(&engine->keeper_wake, &engine->keeper_lock.m,
						    &until);
	}
	engine->keeper_wanted = false;
	atomic_store(&engine->keeper_idle, false);
	stop = engine->keeper_stop;
	mutex_unlock(&engine->keeper_lock);
	return !stop;
}

/* A piece of engine_compact. Returns how long to rest then: as long as that took, for the disk is
 * others', too. What went wrong is in the trouble, and is for those to meet who want something. */
static uint64_t compact(struct engine *engine, bool *more, uint64_t *seen)
{
	const uint64_t began = engine->os->monotonic_ns(engine->os);
	const uint64_t least = (uint64_t)REST_MAX_MS * 1000000;
	uint64_t took;

	*more = compact_step(engine, more, seen) == 0 && *more;
	took = engine->os->monotonic_ns(engine->os) - began;
	took = took < least ? least : took;
	return *more && took < engine->options.commit_ns ? took : engine->options.commit_ns;
}

static void *keep(void *arg)
{
	struct engine *engine = arg;
	uint64_t seen = 0, rest_ns = engine->options.commit_ns;
	unsigned quiet = 0;
	bool idle = false, more = false;

	while (keeper_sleep(engine, idle, seen, rest_ns)) {
		const uint64_t revision = log_revision(engine->log);
		int rc = 0;

		if (log_wait_blocking(engine->log, revision, LOG_SYNCED) == 0)
			log_keep_witness(engine->log);
		quiet = revision == seen ? quiet + 1 : 0;
		seen = revision;
		if (checkpoint_due(engine) || quiet >= IDLE_TICKS)
			rc = checkpoint(engine, true);
		if (rc == 0)	/* else again when the interval is over, not at each commit */
			atomic_store(&engine->keeper_told, false);
		more = false;
		rest_ns = engine->options.commit_ns;
		if (rc == 0 && quiet >= COMPACT_TICKS)
			rest_ns = compact(engine, &more, &seen);
		idle = quiet >= COMPACT_TICKS && !more && !checkpoint_unfinished(engine);
	}
	return NULL;
}

int keeper_start(struct engine *engine)
{
	engine->keeper_runs = engine->options.background;
	if (!engine->keeper_runs)
		return 0;
	if (pthread_create(&engine->keeper, NULL, keep, engine) == 0)
		return 0;
	engine->keeper_runs = false;
	return -EAGAIN;
}

void keeper_stop(struct engine *engine)
{
	if (!engine->keeper_runs)
		return;
	mutex_lock(&engine->keeper_lock);
	engine->keeper_stop = true;
	pthread_cond_signal(&engine->keeper_wake);
	mutex_unlock(&engine->keeper_lock);
	pthread_join(engine->keeper, NULL);
	engine->keeper_runs = false;
}
