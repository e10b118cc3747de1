/* store_impl.h - what the files of the store share; nobody else includes it.
 *
 * A change reads, checks and commits under store->lock, so that changes happen one after the
 * other; looking takes no lock of ours. Nothing waits for the disk under it but reading.
 * Locks, outermost first: draft->lock, store->lock, then whatever the engine has.
 */
#ifndef CUBBY_STORE_IMPL_H
#define CUBBY_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "entry.h"
#include "idmap.h"
#include "locks.h"
#include "record.h"
#include "store.h"

enum {
	TABLES_NOTED = 1024,
	TABLES_KNOWN = 8,
};

/* A table's record, as it was committed last. */
struct known_table {
	uint64_t id;			/* 0: none */
	struct table table;
};

struct store {
	struct os *os;			/* immutable */
	struct engine *engine;		/* immutable */
	uint64_t draft_memory;		/* immutable */
	struct mutex lock;
	uint64_t noted[TABLES_NOTED];	/* guarded by lock; by id, modulo: store_table_revision */
	struct known_table known[TABLES_KNOWN];	/* guarded by lock; by id, modulo */
	uint64_t id_next;		/* guarded by lock: the next id to hand out */
	uint64_t id_leased;		/* guarded by lock: ids below this may be handed out */
	struct idmap held;		/* guarded by lock: values that drafts hold; see value.h */
	pthread_cond_t reclaim_wanted;	/* signalled under lock */
	bool reclaim_pending;		/* guarded by lock */
	bool reclaim_stop;		/* guarded by lock */
	bool reclaim_runs;		/* immutable after opening: there is a thread */
	atomic_ullong doomed;		/* about the bytes of values with chunks still to delete */
	pthread_t reclaimer;
};

/* ---- reading records ---------------------------------------------------------------------- */

/* Most records fit into so many bytes, and what changes an entry into a batch of twice as many: for
 * buffer_on. */
enum { RECORD_ROOM = 512, BATCH_ROOM = 1024 };

/* An entry with the bytes it is lent from. All zeros is an empty one. */
struct loaded {
	struct buffer record;
	struct entry entry;
	struct table table;	/* of a table */
};

/* Reads the entry at `place`, shared or not, expired or not; *l is good for another load. -ENOENT,
 * or what is wrong with the name. */
int loaded_read(struct store *store, struct place place, struct loaded *l);

/* The same, but -ENOENT for one that has expired. */
int loaded_read_live(struct store *store, struct place place, struct loaded *l);

void loaded_done(struct loaded *l);

int table_read(struct store *store, uint64_t id, struct table *table);

/* The same for who is going to change it: of tables that were changed lately it is known. */
int table_recall(struct store *store, uint64_t id, struct table *table) NEEDS(store->lock);

bool entry_expired(struct store *store, const struct entry *entry);

/* `table` may be NULL if the entry is none. */
void attr_describe(const struct entry *entry, const struct table *table, struct attr *out);

/* Adds what a table's own record tells. */
void attr_describe_table(const struct table *table, struct attr *out);

bool place_is_root(struct place place);

/* As engine_scan, but ends where keys no longer begin with `prefix`. */
int records_scan(struct engine *engine, struct slice from, struct slice prefix,
		 int (*visit)(void *arg, const struct engine_entry *entry), void *arg);

/* ---- changing records ---------------------------------------------------------------------- */

/* Replaces an entry by `fresh`, which keeps its names, with what mentions it elsewhere (its
 * expiry, that it is unpublished). `place` is where it was found. Failure is kept in the batch. */
void batch_entry(struct batch *batch, struct place place, const struct entry *old,
		 const struct entry *fresh);

/* Changes what the name `place` says. `old`: the entry it names now, NULL: none; `fresh`: the one
 * it shall name. One that is not shared comes and goes with its name; of a shared one that is for
 * batch_shared to do. */
void batch_name(struct batch *batch, struct place place, const struct entry *old,
		const struct entry *fresh);

/* Puts (`old` is NULL), replaces or deletes (`fresh` is NULL) a shared entry. */
void batch_shared(struct batch *batch, const struct entry *old, const struct entry *fresh);

void batch_table(struct batch *batch, uint64_t id, const struct table *table);

/* Locks the store to change it. May wait before, if the log fills up too fast. */
static inline void store_lock_to_change(struct store *store) ACQUIRES(store->lock)
{
	engine_pace(store->engine);
	mutex_lock(&store->lock);
}

/* Commits what was gathered, unless gathering it failed. If there is no room, what is
 * doomed goes first. */
int store_commit(struct store *store, const struct batch *batch, bool reclaim,
		 uint64_t *revision) NEEDS(store->lock);

/* As engine_run_write; if there is no room, what is doomed goes first. */
int store_run_write(struct store *store, struct slice bytes, struct ref *out) WITHOUT(store->lock);

/* Hands out an id that was never used. */
int store_take_id(struct store *store, uint64_t *id) NEEDS(store->lock);

int64_t store_now(struct store *store);

/* Fails if `id` (a table) has entries: -ENOTEMPTY, or -EKEYEXPIRED if all of them have expired. */
int table_check_empty(struct store *store, uint64_t id, const struct table *table);

/* Takes an entry away whatever it is (a table must be empty), in a batch of its own. */
int entry_remove(struct store *store, struct place place, const struct loaded *l,
		 uint64_t *revision) NEEDS(store->lock);

/* ---- the reclaimer ------------------------------------------------------------------------- */

enum { RECLAIM_STEP = 1024 };	/* chunks: so many go at a time, if somebody waits for their room */

/* As store_reclaim, one step, for whoever has the lock. */
int reclaim_locked(struct store *store) NEEDS(store->lock);

int reclaim_start(struct store *store);
void reclaim_join(struct store *store);
void reclaim_wake(struct store *store) NEEDS(store->lock);

#endif
