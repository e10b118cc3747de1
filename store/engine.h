/* engine.h - a durable, ordered map of bytes to bytes.
 *
 * Keys are 1 to ENGINE_KEY_MAX bytes and sort as memcmp does. Values are 0 to ENGINE_VALUE_MAX
 * bytes. A value may carry a *run*: up to ENGINE_RUN_MAX bytes that lie in the page file and are
 * not dragged through the log; it lives and dies with the entry.
 *
 * A batch of puts, patches and deletes commits as a whole, or not at all: it is visible to every
 * reader when engine_commit returns, and as safe as engine_wait makes it. After a crash the map is
 * as it was after some commit, and no earlier than the last one that was waited for.
 *
 * This is the seam at which another engine may stand in for ours: the store above knows only
 * what this header says. One process opens an engine at a time; within it any thread may call
 * anything. engine_commit decides no conflicts: who reads before it commits takes a lock of its
 * own for both (the store does).
 *
 * Functions return 0 or a negative errno, and leave out-parameters alone when they fail:
 *   -EIO      the disk could not read or write
 *   -EBADMSG  a block's checksum is wrong; engine_trouble() has file and offset
 *   -EUCLEAN  a block's checksum is right and its content impossible; likewise
 *   -ENOMEM   nothing was changed
 *   -ENOSPC   no room: nothing was changed, and deleting makes room
 *   -EROFS    a write or sync of the log or a superblock failed earlier; reads still work
 */
#ifndef CUBBY_ENGINE_H
#define CUBBY_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"
#include "bytes.h"
#include "err.h"
#include "format.h"
#include "log.h"
#include "os.h"
#include "ref.h"

struct engine;

enum {
	ENGINE_KEY_MAX = NODE_KEY_MAX,
	ENGINE_VALUE_MAX = 80 * 1024,
	ENGINE_RUN_MAX = 1 << 20,
};

struct engine_options {
	bool create;		/* make the store if the folder is missing or empty */
	bool background;	/* checkpoints, spare segments and the commit interval on a thread
				 * of the engine's own; false in tests that count every step */
	uint64_t segment_size;	/* of the log, bytes; 0: a sixteenth of the cap, 1 to 16 MiB */
	uint64_t log_cap;	/* bytes of log, which writers are slowed before they reach; 0: 256
				 * MiB, or an eighth of the disk; three segments at least */
	uint64_t cache;		/* bytes of tree nodes kept in memory, whether they are on disk or
				 * not; 0: 64 MiB */
	uint64_t commit_ns;	/* whatever is committed is on disk after this; 0: 1 second */
};

/* Opens the store in the folder `path`, replaying its log.
 *   -EBUSY    somebody has it open; err names the process
 *   -ENOENT   no such folder, and `create` is false
 *   -ENOTDIR  it is no folder
 *   -EINVAL   there are files, but no store
 *   -EPROTONOSUPPORT  a store of another format; err names both versions
 *   -EUCLEAN  damage; err names file and offset
 * `os` is lent for as long as the engine lives. Gives *out, for engine_close. */
int engine_open(struct os *os, const char *path, const struct engine_options *options,
		struct engine **out, struct err *err);

/* Makes everything durable, checkpoints (so that the next opening is instant), gives back the
 * lock and frees. Accepts NULL. Returns the first error; the engine is closed either way. */
int engine_close(struct engine *engine);

/* What a reader sees of one entry, lent until its callback returns. */
struct engine_entry {
	struct slice key;
	struct slice value;	/* without the reference to the run, if there is one */
	const struct ref *run;	/* lent; length 0: none */
};

/* Copies the value at `key` to `value` (replacing what is in it), and the reference to its run to
 * *run (unless NULL). -ENOENT: no such key. */
int engine_get(struct engine *engine, struct slice key, struct buffer *value, struct ref *run);

/* Calls visit for each entry from `from` on, in order, until the end or a non-zero answer, which
 * is then returned (0: there are no more). Entries committed or deleted meanwhile may or may not
 * be met; all others are met exactly once. `visit` runs under the engine's read lock: it must be
 * quick and must not call the engine. */
int engine_scan(struct engine *engine, struct slice from,
		int (*visit)(void *arg, const struct engine_entry *entry), void *arg);

/* A moment of the map: the commits up to one revision, and none later. */
struct engine_snapshot;

/* Opens the present moment, in constant time; later commits and checkpoints do not change it. It is
 * gone with the process. Any number may be open, and they cost: memory for what is changed until
 * the next checkpoint has written it, 32 bytes for each block replaced since, and the space of
 * those blocks, which come back when the last one that needs them is closed. Gives *out, for
 * engine_snapshot_close, which must come before engine_close. */
int engine_snapshot_open(struct engine *engine, struct engine_snapshot **out);

/* Accepts NULL. */
void engine_snapshot_close(struct engine_snapshot *snapshot);

/* Keeps the present moment under a name, 1 to SNAPSHOT_NAME_MAX bytes: it is on disk when this
 * returns, at the price of a checkpoint, and stays until it is deleted. It keeps the space of what
 * is replaced or deleted later, once, however many snapshots need it.
 *   -EEXIST  there is one of that name
 *   -EMLINK  there are SNAPSHOTS_MAX, counting deleted ones whose space is not back yet */
int engine_snapshot_create(struct engine *engine, struct slice name);

/* Deletes a kept snapshot, for good when this returns, at the price of a checkpoint. What only it
 * needed is free then, or, if that is more than some 100 000 blocks, after some more checkpoints;
 * whoever has it open reads on. -ENOENT. */
int engine_snapshot_delete(struct engine *engine, struct slice name);

struct engine_kept {
	struct slice name;
	uint64_t revision;	/* the last commit in it */
	uint64_t created_ns;	/* since 1970 */
	uint64_t entries;
};

/* Calls visit for each kept snapshot, the oldest first, until the end or a non-zero answer, which
 * it returns. `visit` must not call the engine. */
int engine_snapshot_list(struct engine *engine,
			 int (*visit)(void *arg, const struct engine_kept *kept), void *arg);

/* Opens a kept snapshot for reading, as engine_snapshot_open does the present. -ENOENT. */
int engine_snapshot_open_kept(struct engine *engine, struct slice name,
			      struct engine_snapshot **out);

/* As engine_get and engine_scan, but of that moment. A run found there can be read
 * (engine_run_read) until the snapshot is closed. */
int engine_snapshot_get(struct engine_snapshot *snapshot, struct slice key, struct buffer *value,
			struct ref *run);
int engine_snapshot_scan(struct engine_snapshot *snapshot, struct slice from,
			 int (*visit)(void *arg, const struct engine_entry *entry), void *arg);

/* The last commit in it, and how many entries it has. */
uint64_t engine_snapshot_revision(const struct engine_snapshot *snapshot);
uint64_t engine_snapshot_entries(const struct engine_snapshot *snapshot);

/* Applies the batch and returns its revision. Nothing waits for the disk here, except while
 * a full log waits for a checkpoint. Runs named in the batch belong to their entries from here on.
 * An empty batch is -EINVAL, and so is one with a patch of what is not there, that begins behind a
 * value's end, or that would make it too long; one over engine_batch_max is -E2BIG.
 * `reclaim`: the batch makes room in the end, and may use the space kept back for such. */
int engine_commit(struct engine *engine, const struct batch *batch, bool reclaim,
		  uint64_t *revision);

/* Stands still for a moment if the log fills up faster than checkpoints empty it; who commits calls
 * this before, with no lock held that others want. (Without it commits stop when the
 * log is full.) */
void engine_pace(struct engine *engine);

uint64_t engine_batch_max(const struct engine *engine);

/* As log_wait and log_wait_blocking (see there): a revision is written when it survives kill -9,
 * synced when it survives a power cut. */
void engine_wait(struct engine *engine, struct log_waiter *waiter);
int engine_wait_blocking(struct engine *engine, uint64_t revision, enum log_level level);

/* The last revision committed. */
uint64_t engine_revision(struct engine *engine);

/* Writes `size` (1 to ENGINE_RUN_MAX) bytes to free space of the page file and returns the
 * reference. Until a commit names it (batch_put_run) it belongs to the caller, who may give it
 * back with engine_run_drop; one that is never named is free space after the next opening. */
int engine_run_write(struct engine *engine, struct slice bytes, struct ref *out);
void engine_run_drop(struct engine *engine, const struct ref *run);

/* Is so little room left that `size` bytes, which an entry could hold, had better be a run, because
 * they take less of it so? A run of 5 units or more is quicker to read and write otherwise. */
bool engine_run_saves(struct engine *engine, uint64_t size);

/* Reads a run whole, to `bytes` (run->length of them). The reference stays good while its
 * entry does; -EBADMSG from one whose entry was replaced meanwhile means: get the entry again. Only
 * the caller can know, so it is no trouble until he says that the entry still has this run: */
int engine_run_read(struct engine *engine, const struct ref *run, void *bytes);
void engine_run_damaged(struct engine *engine, const struct ref *run);

/* Writes the whole state to the page file, so that the log can be recycled. One at a time;
 * whoever comes second waits and then does its own. */
int engine_checkpoint(struct engine *engine);

/* Makes the page file shorter if much of it is free: moves what lies at its end to free places
 * before that, and cuts it. Does a bounded piece of that, ends at once if somebody commits
 * meanwhile, and makes a checkpoint; *more says whether there is more to do. What a snapshot has
 * stays where it is. Runs that are moved count as commits. An engine with a background does it by
 * itself when nothing was committed for ten times commit_ns. */
int engine_compact(struct engine *engine, bool *more);

struct engine_stats {
	struct log_stats log;
	uint64_t revision;
	uint64_t generation;
	uint64_t entries;
	uint64_t memory;		/* bytes of nodes kept in memory */
	uint64_t page_bytes;		/* of the page file */
	uint64_t page_bytes_free;	/* of those, free for use */
	uint64_t page_bytes_held;	/* in use for open snapshots only */
	uint64_t page_bytes_coming;	/* of what is deleted: free after the next checkpoint */
	uint64_t disk_bytes_free;	/* of the file system below */
	uint64_t disk_bytes_total;
	uint64_t reserved_bytes;	/* of all that is free: kept for the next checkpoint, and
					 * for deletes on a full disk */
	uint64_t room_bytes;		/* what a writer can have, in runs of 16 KiB or more, before
					 * -ENOSPC; what is coming is counted, for it is waited
					 * for. The reserve is not, nor what the log may still
					 * take, nor pieces of less than 16 KiB */
	bool snapshots;			/* some are kept or open, and may need what is deleted */
	uint64_t checkpoints;		/* since the engine was opened */
	uint64_t moved_bytes;		/* likewise: by engine_compact, at least */
};

int engine_stats(struct engine *engine, struct engine_stats *out);

/* Copies the sentence that describes the latest trouble (damage met, or what made the engine
 * read-only); false if there was none. */
bool engine_trouble(struct engine *engine, struct err *err);

/* Reads every block and checks every promise: checksums, order of keys, balance of the tree, runs,
 * and that the free map agrees. 0, -EBADMSG, -EUCLEAN or -EIO with the first fault in *err.
 * `progress`, unless NULL, is called now and then with blocks done so far; non-zero ends
 * the check with -EINTR. Holds off checkpoints while it runs. */
int engine_verify(struct engine *engine, int (*progress)(void *arg, uint64_t blocks), void *arg,
		  struct err *err);

#endif
