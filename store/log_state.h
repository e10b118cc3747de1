/* log_state.h - an open log: what log.c, log_sync.c, log_witness.c, log_tail.c and log_open.c
 * share. Private to the log.
 *
 *     append --> gathered --flush--> written --sync--> synced
 *                   \--> kept, in the tail
 *
 * A batch is copied behind the others in the *gather* buffer. Whoever holds the *baton* may take
 * that buffer away, put an empty one in its place, and write it as one group; what is appended
 * meanwhile gathers in the other. So writers combine: a thread that had to wait for the baton
 * often finds that its batch has been written along.
 *
 * A group follows the one before it directly, but the first one after a sync began, or ended,
 * begins a unit: bytes that were vouched for are not written again, and recovery finds what
 * vouches for them at the beginning of a unit.
 *
 * Locks, outermost first: `making`, `baton`, `telling`, `lock`. log_append takes only the last,
 * unless it has to write or to make a segment, and nothing slow happens under that.
 */
#ifndef CUBBY_LOG_STATE_H
#define CUBBY_LOG_STATE_H

#include <stdatomic.h>

#include "locks.h"
#include "log.h"
#include "log_segment.h"

enum {
	SEGMENTS_MIN = 3,			/* one in use, one to turn to, one in the making */
	GATHER_HEAD = UNIT + GROUP_HEADER,	/* room before the batches, for both headers */
	GATHER_MAX = 1 << 20,			/* more than this is written, wanted or not */
};

/* Waiters, first come first served. */
struct queue {
	struct log_waiter *first, **end;
};

struct log {
	struct os *os;			/* the first six are set once */
	struct os_dir *dir;
	struct log_options options;
	uint64_t batch_max;
	struct os_file *witness;	/* NULL: there was no room for one */
	struct os_file *tail;		/* mapped; NULL: there was no room, or it cannot be mapped */

	struct mutex making;		/* of segment files; guards: */
	unsigned next_index;
	bool half_made;			/* a file with that number is there, and of no use */

	struct mutex baton;		/* the right to write; guards: */
	struct buffer out;		/* the group being written; else empty */
	uint64_t chain;			/* sum of the last group; see `flushing` */
	uint32_t salt;			/* for the next segment; 0: not chosen yet */
	uint64_t zeros_end;		/* in `current`: up to here zeros follow the last group */

	struct mutex telling;		/* of the witness; guards: */
	uint64_t told;			/* the group that it names */
	bool unkept;			/* it was told since it was synced */

	struct mutex lock;		/* guards the rest, but for the atomics */
	bool dead;
	struct err failure;

	bool flushing;			/* a group is being written. If not, `chain` may be read */
	struct buffer gather;		/* GATHER_HEAD bytes, then batches; empty without */
	size_t tail_used;		/* of its bytes, how many are in the tail; 0: none */
	size_t tail_at;			/* where the next record goes there */
	bool tail_failed;		/* it is of no use any more */
	uint64_t kept;			/* the last revision that is there, or was until written */
	uint64_t gather_revision;	/* of its first batch */
	uint64_t revision;		/* the last that was appended, or skipped at the opening */
	uint64_t last;			/* the last that a batch has */
	uint64_t written;		/* ... written */
	uint64_t synced;		/* ... synced */
	uint64_t number;		/* of the next group */
	struct witness synced_group;	/* the last one known to be on disk */

	struct segment *live;		/* oldest first; the last one is `current` */
	struct segment *current;	/* the one being written */
	struct segment *spare;		/* those in which nothing matters */
	unsigned spare_count;
	bool cramped;			/* the disk has no room for another segment */
	unsigned files;			/* all segments ... */
	uint64_t total_size;		/* ... and their bytes */
	uint64_t behind;		/* of the live ones before `current` */
	uint64_t sequence;		/* the highest ever used */
	uint64_t position;		/* in `current`, behind the last group */
	bool has_remains;		/* `current` holds what recovery cut off */
	bool rotated;			/* log_rotate turned, and nothing was recycled since */
	bool align;			/* the next group begins a unit */
	struct segment *dirty[2];	/* written, oldest first, by next_dirty; one list is of */
	unsigned collects;		/* the sync under way, the other, of this index, the next */

	bool syncing, open;		/* see log_sync.c */
	bool has_next;
	uint32_t sync;			/* the number of the sync under way, or of the last one */
	uint64_t covered;		/* the last revision that a closed sync vouches for */
	uint64_t barrier;		/* revisions from here need the next sync, for a header */
	uint64_t barrier_syncing;	/* that log_rotate wrote; here: the one under way */
	struct queue joined;		/* wait for the sync under way */
	struct queue waiting;		/* for the next one */
	struct log_stats stats;

	atomic_ullong fill, limit;	/* see log_fill */
	atomic_bool wants_spares;	/* fewer than LOG_SPARES are there, and there may be more */
	atomic_ullong told_ns;		/* when the witness was told */
	atomic_uint handed;		/* the sync whose lead was handed on last */
	atomic_uint done[2];		/* the last sync that has ended, by parity */
	atomic_uint failed_sync;	/* the first that failed; it counts if failed_rc is not 0 */
	atomic_int failed_rc;
};

#define NO_BARRIER UINT64_MAX

/* The log's death: from here on it answers -EROFS. `name` is of the file, or "". Returns rc. */
int log_die(struct log *log, int rc, const char *what, const char *name) WITHOUT(log->lock);

/* Writes what was gathered, as one group. */
int log_flush(struct log *log) NEEDS(log->baton) WITHOUT(log->lock);

/* Returns when everything up to `revision` has been written, by us or by somebody else. */
int log_write(struct log *log, uint64_t revision) WITHOUT(log->baton, log->lock);

/* Makes the tail, unless there is one, and maps it. If that cannot be, the log does without. */
void tail_make(struct log *log);

/* Is everything up to `revision` in the tail, or can it be put there now? If not, it has to be
 * written. */
bool tail_keep(struct log *log, uint64_t revision) NEEDS(log->lock);

/* Opens the witness, if there is one, and says in *found what it tells.
 *   -EUCLEAN  it is another store's */
int witness_open(struct log *log, struct witness *found, struct err *err);

/* Makes one that tells nothing, durably, in the place of what there is. On a full disk the log does
 * without. */
int witness_make(struct log *log);

/* Has it not been told for a while? */
bool witness_is_due(const struct log *log);

/* Tells it of the last group that is on disk; syncs nothing, and needs no sync to be true. */
int witness_tell(struct log *log) WITHOUT(log->telling, log->lock);

void log_add_spare(struct log *log, struct segment *segment) NEEDS(log->lock);

/* Their number has changed, or that of all segments. */
void log_count_spares(struct log *log) NEEDS(log->lock);

/* More is in use, or less. */
void log_count_fill(struct log *log) NEEDS(log->lock);

/* Are there as many segments as there may be? */
bool log_is_capped(const struct log *log) NEEDS(log->lock);

#endif
