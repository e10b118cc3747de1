/* engine_impl.h - what the engine's own files share: engine.c, checkpoint.c, recovery.c, verify.c.
 * Nobody else includes it. */
#ifndef CUBBY_ENGINE_IMPL_H
#define CUBBY_ENGINE_IMPL_H

#include <stdatomic.h>

#include "engine.h"
#include "kept.h"
#include "locks.h"
#include "page.h"
#include "space.h"
#include "tree.h"

/* How far engine_compact has come. Guarded by engine->compacting. */
struct compaction {
	bool under_way;
	struct tree_search search;
	uint64_t limit;		/* unit where the file is to end */
	unsigned shift;		/* a share of 1/2^shift is left free before that */
	bool stuck;		/* something found no place */
	uint64_t revision;	/* the last commit we know of: a later one is somebody else's */

	/* Of the last one: may the next one do better? */
	bool tried;
	bool left_out;		/* something was a snapshot's ... */
	uint64_t floor;		/* ... the newest being this one */
	uint64_t died, died_before;	/* units, since then, but for those that we let die */
};

struct engine {
	struct os *os;
	struct os_dir *dir;
	struct os_file *lock_file;
	struct engine_options options;	/* with the defaults filled in */
	uint8_t store[STORE_ID_SIZE];
	struct pages *pages;
	struct space *space;
	struct tree *tree;
	struct kept *kept;
	struct log *log;

	/* One checkpoint at a time, or one verification. Outermost of the store's locks below
	 * the store's own; held for long, by threads that nobody waits for if all goes well. */
	struct mutex checkpoint;
	struct super super;		/* guarded by checkpoint; the last one that is on disk */
	bool map_ahead;			/* guarded by checkpoint; the latest failed, and the free
					 * map in memory is no longer the one that goes
					 * with `super` */

	struct mutex compacting;	/* outside of `checkpoint` */
	struct compaction compaction;	/* guarded by compacting */
	atomic_bool touched;		/* nodes are to be written though nothing was committed */
	atomic_ullong moved;		/* bytes, by engine_compact */

	atomic_ullong runs_written;	/* since opening ... */
	atomic_ullong runs_synced;	/* ... and how many of those are on disk, at least */

	atomic_ullong runs_unnamed;	/* written, and named by no commit yet */

	atomic_ullong checkpoints;
	atomic_ullong checkpoint_began;	/* of the one under way, monotonic ns; 0: there is none */
	atomic_ullong checkpoint_price;	/* ns for 1 KiB of log, lately; 0: not known yet */
	atomic_ullong fill_began;	/* of the log, bytes, when the one under way began */
	atomic_ullong fill_seen;	/* of the log, by pace_charge */
	atomic_ullong grown;		/* by so many bytes since ... */
	atomic_ullong grown_since;	/* ... then, monotonic ns */
	atomic_ullong growth;		/* bytes a millisecond, lately */
	atomic_ullong paid_until;	/* when writers may go on, monotonic ns; 0: at once */

	struct mutex keeper_lock;	/* guards the next four */
	pthread_cond_t keeper_wake;	/* it sleeps, or rests in the middle of a checkpoint */
	bool keeper_stop;
	bool keeper_wanted;
	int checkpoint_awaited;		/* how many wait for one */
	pthread_t keeper;
	bool keeper_runs;		/* immutable after opening */
	atomic_bool keeper_idle;
	atomic_bool starved;		/* somebody found no room since the last checkpoint */
	atomic_bool keeper_told;	/* that something is due, with which it has yet to deal */

	struct mutex filler_lock;	/* guards the next three */
	pthread_cond_t filler_wake;
	bool filler_stop;
	bool filler_wanted;
	pthread_t filler;
	bool filler_runs;		/* immutable after opening */
	atomic_bool filler_busy;

	struct mutex trouble_lock;	/* guards the next two; innermost */
	struct err trouble;
	bool troubled;
};

/* Keeps the sentence for engine_trouble, if `rc` is one that has one. Returns rc. */
int engine_note(struct engine *engine, int rc, const struct err *err);

/* Units that must be free for the next checkpoint and for deletes before it. */
uint64_t engine_need(struct engine *engine);

/* Units that must be free for what changes the tree unasked, if the next checkpoint may write
 * `units` of the tree then, and so many more blocks die. */
uint64_t engine_admits(struct engine *engine, uint64_t units, uint64_t deaths);

/* engine_get and engine_scan of a view, or, if that is NULL, of the present. */
int engine_view_get(struct engine *engine, struct tree_view *view, struct slice key,
		    struct buffer *value, struct ref *run);
int engine_view_scan(struct engine *engine, struct tree_view *view, struct slice from,
		     int (*visit)(void *arg, const struct engine_entry *entry), void *arg);
/* 0, or -EINVAL for what can be no batch of ours: its form, or the size of something in it. */
int engine_check_batch(struct slice bytes);

/* ---- checkpoint.c ---- */

/* Units that a checkpoint may need beyond those of the tree, if so many blocks have died: the free
 * map, and the lists of snapshots. */
uint64_t checkpoint_overhead(struct engine *engine, uint64_t deaths);

/* One more waits for a checkpoint (so that one under way does not take its time), or one less. */
void checkpoint_await(struct engine *engine, int more);

/* One checkpoint, which keeps or drops a snapshot. */
int checkpoint_change(struct engine *engine, const struct kept_change *change)
	NEEDS(engine->checkpoint);

/* As engine_checkpoint, for whoever has time. */
int checkpoint_leisurely(struct engine *engine);

/* Are there dropped snapshots or a free end of the file, which later checkpoints give back? */
bool checkpoint_unfinished(struct engine *engine);

int keeper_start(struct engine *engine);
void keeper_stop(struct engine *engine);

/* A checkpoint, unless there is one more now than the `seen` that the caller knew of: of many who
 * wait for room, one makes it. */
int checkpoint_after(struct engine *engine, unsigned long long seen);

/* Right behind a checkpoint, with nobody there any more: lets the superblock name a place with
 * nothing behind it, and say so, so that the next opening has nothing to look for. */
int checkpoint_close(struct engine *engine);

/* A checkpoint of what was replayed so far, which is what `at` covers; there is no log yet. */
int checkpoint_replayed(struct engine *engine, const struct log_mark *at);

/* Something was committed: wakes the keeper if there is something to do for it. */
void keeper_committed(struct engine *engine);

/* A snapshot is gone: if it sleeps for good, there may be something to do for it now. */
void keeper_wake(struct engine *engine);

/* Does somebody wait for a checkpoint, or for the keeper's end? */
bool keeper_hurries(struct engine *engine);

/* ---- compact.c ---- */

/* As engine_compact; *revision is the last commit that is its own or was there before. */
int compact_step(struct engine *engine, bool *more, uint64_t *revision);

/* ---- pace.c ---- */

/* What writers owe, in nanoseconds, for that many bytes that made the log as full as `fill` of
 * `limit`, if a checkpoint takes so long that began at `began`: nothing up to there, and more and
 * more towards the end. What nobody would wait for at once is not asked for. */
uint64_t pace_cost(uint64_t took_ns, uint64_t began, uint64_t fill, uint64_t limit, uint64_t bytes);

/* Something was committed: lets the next ones pay for the log that it took. */
void pace_charge(struct engine *engine);

/* Is it time to begin a checkpoint, for the log's sake? */
bool pace_due(struct engine *engine);

/* Are writers slowed, and have yet to pay for what was committed? */
bool pace_owed(struct engine *engine, uint64_t now);

/* A checkpoint begins, and ends, having rested so long in between, because nobody was in a hurry. */
void pace_begin(struct engine *engine);
void pace_end(struct engine *engine, uint64_t rested_ns);

/* ---- filler.c ---- */

void filler_init(struct engine *engine, const pthread_condattr_t *monotonic);
void filler_done(struct engine *engine);
int filler_start(struct engine *engine);
void filler_stop(struct engine *engine);

/* The log wants spare segments. */
void filler_wake(struct engine *engine);

/* ---- replay.c ---- */

struct replay;

/* Gives *replay, for replay_end, and fills in *reader for log_open. */
int replay_begin(struct engine *engine, struct replay **replay, struct log_reader *reader);

/* Does what is left to do, if `rc`, which log_open said, is 0; frees. Accepts NULL. */
int replay_end(struct replay *replay, int rc);

/* ---- recovery.c ---- */

/* Fills in pages, space, tree and log, from what is on disk or by making it. */
int recovery_open(struct engine *engine, struct err *err);
int recovery_create(struct engine *engine, struct err *err);

#endif
