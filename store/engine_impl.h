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
	bool map_ahead;			/* guarded by checkpoint; the latest failed, and the free map in
					 * memory is no longer the one that goes with `super` */

	atomic_ullong runs_written;	/* since opening ... */
	atomic_ullong runs_synced;	/* ... and how many of those are on disk, at least */

	atomic_ullong checkpoints;
	atomic_ullong logged;		/* bytes appended to the log since the last checkpoint began */
	atomic_ullong unprepared;	/* ... since the keeper last saw to the spare segment */

	struct mutex keeper_lock;	/* guards the next three */
	pthread_cond_t keeper_wake;
	bool keeper_stop;
	bool keeper_wanted;
	pthread_t keeper;
	bool keeper_runs;		/* immutable after opening */
	atomic_bool keeper_idle;

	struct mutex trouble_lock;	/* guards the next two; innermost */
	struct err trouble;
	bool troubled;
};

/* Keeps the sentence for engine_trouble, if `rc` is one that has one. Returns rc. */
int engine_note(struct engine *engine, int rc, const struct err *err);

/* Units that must be free for the next checkpoint and for deletes before it. */
uint64_t engine_need(struct engine *engine);

/* engine_get and engine_scan of a view, or, if that is NULL, of the present. */
int engine_view_get(struct engine *engine, struct tree_view *view, struct slice key,
		    struct buffer *value, struct ref *run);
int engine_view_scan(struct engine *engine, struct tree_view *view, struct slice from,
		     int (*visit)(void *arg, const struct engine_entry *entry), void *arg);

/* ---- checkpoint.c ---- */

/* Units that a checkpoint may need beyond those of the tree, if so many blocks have died: the free
 * map, and the lists of snapshots. */
uint64_t checkpoint_overhead(struct engine *engine, uint64_t deaths);

/* One checkpoint; NULL: nothing changes about snapshots, and it may not even be needed. */
int checkpoint_run(struct engine *engine, const struct kept_change *change)
	NEEDS(engine->checkpoint);

int keeper_start(struct engine *engine);
void keeper_stop(struct engine *engine);

/* `bytes` have been committed: wakes the keeper if there is something to do for it. */
void keeper_committed(struct engine *engine, uint64_t bytes);

/* ---- recovery.c ---- */

/* Fills in pages, space, tree and log, from what is on disk or by making it. */
int recovery_open(struct engine *engine, struct err *err);
int recovery_create(struct engine *engine, struct err *err);

#endif
