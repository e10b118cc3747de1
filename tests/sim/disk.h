/* disk.h - a disk that lies: a `struct os` in memory that keeps only what os.h promises.
 *
 * Every write, name and size that was not synced is remembered as such. The power can be cut
 * at any operation (sim_cut_after); what the disk then holds is decided by sim_reboot, as cruelly
 * as wished: unsynced sectors and unsynced names are kept, lost, torn or reordered, within a file
 * and across files. From one cut, clones of the disk can be rebooted in many ways; or a clone is
 * had at every operation while the work goes on (sim_watch).
 *
 * A failed sync behaves as Linux does: some of the sectors are on disk, the others never will
 * be, though reads still show them and the next sync succeeds. That does not go for sizes and
 * names: they are in a journal, and if that fails no sync succeeds any more.
 *
 * Nothing depends on time or on addresses: the same seed and the same calls give the same disk.
 * Any thread may call anything. Out of memory, the test is aborted.
 */
#ifndef CUBBY_SIM_DISK_H
#define CUBBY_SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "os.h"

struct sim;

/* Gives an empty disk, for sim_free. The seed also begins os->random. */
struct sim *sim_new(uint64_t seed);

/* Gives a second disk in the same state: contents, names, clocks, what is not synced, whether the
 * power is cut. Nothing is open or locked on it, no fault is planned, nothing has been counted. */
struct sim *sim_clone(struct sim *disk);

/* Accepts NULL. Everything must be closed. */
void sim_free(struct sim *disk);

/* Lent as long as the disk. */
struct os *sim_os(struct sim *disk);

/* ---- crashes --------------------------------------------------------------------------- */

/* After `count` more changing operations (write, sync, sync_dir, create, remove, allocate,
 * truncate) the power goes: the one after them is caught half-way, and it and everything later
 * fails with -EIO. Negative: never. */
void sim_cut_after(struct sim *disk, int64_t count);

bool sim_is_cut(struct sim *disk);

/* Before each changing operation gives `see` a clone of the disk, for sim_free: what a power cut in
 * that moment would meet. NULL: no longer. A cut in the middle of an operation adds no state to
 * those, for the fates know what was written before the next one, whole and in part, and of a
 * sync that was caught they know each part as well.
 *
 * `see` is called from within the operation, one call at a time, and must not touch `disk`. */
void sim_watch(struct sim *disk, void (*see)(void *arg, struct sim *clone), void *arg);

enum sim_fate {
	SIM_KEEP,		/* whatever was written is there */
	SIM_LOSE,		/* whatever was not synced is gone */
	SIM_TEAR,		/* things happened in order, up to some sector of some write */
	SIM_SCATTER,		/* any subset of sectors and names, in any order */
	SIM_FILES,		/* each file is as at a moment of its own; any names are lost */
	SIM_ODD,		/* all is kept but one write or name, or all is lost but one */
	SIM_SHRED,		/* scattered, and sectors of 512 or of 4096 bytes torn inside */
	SIM_FATES
};

/* The machine comes back: the fate of all that was not synced is decided by `fate` and `seed`, and
 * what there is now is durable. What is still open from before only answers -EIO; close it. */
void sim_reboot(struct sim *disk, enum sim_fate fate, uint64_t seed);

/* Only the process had died (kill -9): everything written can be read, and what was not synced
 * still is not. The seed decides how far the operation got that was cut off. */
void sim_revive(struct sim *disk, uint64_t seed);

/* ---- faults ---------------------------------------------------------------------------- */

enum sim_kind {
	SIM_OPEN,		/* of a file that exists */
	SIM_CREATE,
	SIM_REMOVE,
	SIM_READ,
	SIM_WRITE,
	SIM_SYNC,
	SIM_FLUSH,		/* changes nothing */
	SIM_SYNC_DIR,
	SIM_ALLOCATE,
	SIM_TRUNCATE,
	SIM_RANDOM,
	SIM_KINDS
};

/* The operation of that kind after `count` more of them fails once, with `rc`. Negative: none. A
 * failed write has written any part, a failed sync or flush has synced any. */
void sim_fail(struct sim *disk, enum sim_kind kind, int64_t count, int rc);

/* How many operations of that kind have been asked for. */
uint64_t sim_count(struct sim *disk, enum sim_kind kind);

/* How many changing operations have been asked for. */
uint64_t sim_changes(struct sim *disk);

/* Beyond this many bytes of all files together (their sizes, in whole pages) is -ENOSPC. */
void sim_limit(struct sim *disk, uint64_t bytes);

/* Files cannot be mapped, as on some file systems. */
void sim_forbid_maps(struct sim *disk);

/* Flips the bits of `mask` in one byte, durably. -ENOENT, or -EINVAL beyond the end. */
int sim_flip(struct sim *disk, const char *name, uint64_t offset, uint8_t mask);

/* ---- clocks ---------------------------------------------------------------------------- */

/* The clocks stand still but for this: both go on. */
void sim_advance(struct sim *disk, uint64_t ns);

/* Somebody sets the wall clock. */
void sim_set_now(struct sim *disk, uint64_t ns);

#endif
