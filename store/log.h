/* log.h - the write-ahead log: every commit, in order, before the page file sees it.
 *
 * A batch of bytes (the log does not look inside) is *appended*: it gets the next revision and
 * joins the group being gathered, in memory. It is *written* when it has been handed to the
 * operating system, which survives the death of this process (its group may be written to the log
 * later: log_tail.h), and *synced* when it is on disk, which survives a power cut. Batches that
 * arrive while a sync is under way form the next group: one write and one sync, however many.
 * Whatever is written or synced, everything appended before it is too: history is a prefix.
 *
 * How far the log is on disk is also told by a file beside it, the *witness*, so that the loss of
 * the last group or file, or an older copy of the whole log, is noticed.
 *
 * Segments are files of one size, filled with zeros when they are made and used again and again:
 * the log never grows or truncates a file while somebody waits for it.
 *
 * Threads: any thread may append and wait. Waiting costs no thread: the first one to wait for a
 * sync leads it (writes, syncs, then tells everybody in the group), the next one waits to lead the
 * group being gathered, all others return at once and are called back on the leader's thread, with
 * no lock held. The log locks inside; it never calls back under a lock.
 *
 * Functions return 0 or a negative errno, and leave out-parameters alone when they fail. After a
 * failed write or sync the log is *dead*: every call answers -EROFS until it is opened anew, for
 * the kernel may have dropped the pages, and a second sync that succeeds would prove nothing.
 *
 * Bytes: FORMAT.md, "The log".
 */
#ifndef CUBBY_LOG_H
#define CUBBY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "err.h"
#include "format.h"
#include "os.h"

struct log;

struct log_options {
	uint8_t store[STORE_ID_SIZE];
	uint64_t segment_size;	/* bytes of a segment file, a multiple of UNIT, at least 8 units;
				 * an existing file keeps the size it has */
	uint64_t cap;		/* bytes of all segments together; at least three are kept */

	uint64_t witness_ns;	/* so soon after it was told, the witness is not told again */

	/* Called by whoever leads a sync, after the group was written and before its sync begins;
	 * 0, or a negative errno, which kills the log as a failed sync does. May be NULL. The page
	 * file is synced here, so that the log never vouches for bytes that are not there. */
	int (*before_sync)(void *arg);
	void *arg;
};

/* A place in history, as a superblock keeps it: everything up to `revision` is in the page file,
 * everything later is in segment `segment` (whose first group is `number`, following a group
 * whose sum is `chain`) or a later one. That segment may begin with commits of before. */
struct log_mark {
	uint64_t revision;
	uint64_t segment;
	uint64_t number;
	uint64_t chain;
	uint64_t seen;		/* revisions up to here were given out, although some may be lost */
	unsigned files;		/* that there were, at least */
	bool closed;		/* nothing was appended behind it: that need not be searched for */
};

/* Is a file of this name one of the log's segments? */
bool log_is_segment(const char *name);

/* Makes the first segment and its spare in an empty folder, durably, and opens the log there.
 * Gives *out, for log_close; *mark is where it begins. */
int log_create(struct os *os, struct os_dir *dir, const struct log_options *options,
	       struct log_mark *mark, struct log **out, struct err *err);

/* What log_open tells of each batch after the mark, in order. All of them are shown to `note`
 * first, before it is known which will stand, and before anything else is done. `check` is asked
 * then, for every batch of a group that no later group proves to have been synced: -ENODATA says
 * that what the batch relies on never reached the disk, and the log is cut off before its group.
 * `apply` then gets every batch that stands, and the mark of a checkpoint of just what was
 * applied, this batch included: the reader may write one, for all that the mark covers is on disk
 * by then. Any other negative answer ends the opening with that error. Both arguments are lent
 * until the call returns. */
struct log_reader {
	int (*note)(void *arg, uint64_t revision, struct slice batch);
	int (*check)(void *arg, struct slice batch);
	int (*apply)(void *arg, const struct log_mark *mark, struct slice batch);
	void *arg;
};

/* Opens the log of an existing store and replays what follows `mark`. A torn tail (what was never
 * vouched for as synced) is cut off; everything before it has been replayed and is on disk when
 * this returns. `*torn`, unless NULL, tells whether something was cut. Gives *out.
 *   -EUCLEAN  damage: a group or segment that was synced is broken, missing, or of another store;
 *             err names the file and the offset; nothing was changed, nor was any batch applied
 * The next append has the revision after the last one found, or mark->seen if that is greater,
 * plus `leap`: revisions that somebody may have seen before a power cut, which took every trace of
 * them, are not used again. So that they are not after the next one either, the caller keeps
 * log_revision durably as mark->seen before it appends; and makes what `check` saw durable, for the
 * first group that is appended may vouch for what relies on it. */
int log_open(struct os *os, struct os_dir *dir, const struct log_options *options,
	     const struct log_mark *mark, uint64_t leap, const struct log_reader *reader,
	     struct log **out, bool *torn, struct err *err);

/* Syncs what was appended and frees the log. Accepts NULL. Nobody may be waiting. Returns what
 * the sync said; the log is freed either way. */
int log_close(struct log *log);

/* The largest batch that log_append takes, in bytes. */
uint64_t log_batch_max(const struct log *log);

/* Copies `batch`, gives it the next revision and returns that in *revision.
 *   -E2BIG   larger than log_batch_max
 *   -EAGAIN  no segment is at hand: log_prepare makes one, or says why not
 *   -ENOMEM, -EROFS
 * Cheap: a copy under a mutex, and at most the write of a large group that was gathered.
 * The caller serializes appends if it cares which revision is whose. */
int log_append(struct log *log, struct slice batch, uint64_t *revision);

enum log_level {
	LOG_WRITTEN,		/* survives kill -9 */
	LOG_SYNCED,		/* survives a power cut */
};

/* Lent to the log from log_wait until `done` is called, exactly once. The caller fills the first
 * three; it usually is part of something larger. */
struct log_waiter {
	uint64_t revision;
	enum log_level level;
	void (*done)(struct log_waiter *waiter, int rc);	/* 0, or a negative errno */
	struct log_waiter *next;	/* the log's own */
};

/* Calls waiter->done once everything up to waiter->revision is as safe as asked: possibly
 * before this returns, possibly from another thread. May write and sync on this thread, and
 * call back other waiters from it. */
void log_wait(struct log *log, struct log_waiter *waiter);

/* The same for those who must stand still: returns when it is done. */
int log_wait_blocking(struct log *log, uint64_t revision, enum log_level level);

/* Tells the witness how far the log is on disk, and makes that durable. Without it, that may be
 * lost in a power cut; nothing else is. For a thread that nobody waits for, now and then. */
int log_keep_witness(struct log *log);

/* The last revision appended, or skipped at the opening. */
uint64_t log_revision(struct log *log);

/* The last revision that a batch has, appended or found. */
uint64_t log_last(struct log *log);

/* How many files the log has: as mark->files, to be kept when nothing else of the mark is new. */
unsigned log_files(struct log *log);

enum { LOG_SPARES = 2 };	/* as many segments ahead of need do */

/* Makes spare segments, durably, until there are `spares`. Slow (fills files with zeros): for a
 * thread that nobody waits for, or one that cannot go on without. Appends go on meanwhile.
 *   -EAGAIN  the cap is reached: a checkpoint must recycle segments first
 *   -ENOSPC  the disk has no room; that and any other but -EROFS is no failure of the log */
int log_prepare(struct log *log, unsigned spares);

/* Are there fewer than LOG_SPARES, and may there be more? Costs nothing. */
bool log_wants_spares(const struct log *log);

/* Begins a checkpoint: writes what was gathered, turns to a spare segment, if there is one, and
 * says in *mark where replay will have to begin. No second spare is used before log_recycle, so
 * that checkpoints that fail do not use up the log. The caller holds off appends. Writes
 * at most one group and a header; syncs nothing: before the mark goes into a superblock,
 * log_wait_blocking(mark->revision, LOG_SYNCED) must have returned 0, after which the
 * segment's header too is on disk (even if mark->revision was synced long ago). */
int log_rotate(struct log *log, struct log_mark *mark);

/* Ends a checkpoint: a durable superblock has `mark`, so segments before it may be used again. */
void log_recycle(struct log *log, const struct log_mark *mark);

/* How much of the log is in use, and at how much appends will find no segment. Costs nothing. */
void log_fill(const struct log *log, uint64_t *bytes, uint64_t *limit);

struct log_stats {
	uint64_t batches, groups, syncs;	/* since the log was opened */
	uint64_t bytes_appended, bytes_written;
	uint64_t bytes_live;	/* of segments not yet recycled, as far as they were written */
	uint64_t bytes;		/* of all its files */
	uint64_t cap;
};

void log_stats(struct log *log, struct log_stats *out);

/* The sentence that says what killed the log, or "" while it lives. Lent as long as the log. */
const char *log_failure(struct log *log);

#endif
