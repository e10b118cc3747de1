/* page.h - the page file: blocks that prove themselves, and the superblocks that begin it all.
 *
 * A block is written once, to free space that the caller knows of (space.h), and read only
 * through the reference that its writing gave; whatever else is found there is reported, never
 * returned. Superblocks alone are overwritten: generation g lies in slot g % 2, so that the last
 * one stays whole while the next is written, and each slot has two copies, so that one damaged
 * unit loses nothing.
 *
 * Any thread may call anything. Errors:
 *   -EIO, -ENOSPC, ...  from the disk
 *   -EBADMSG            a block that does not match its reference; *err names file and offset
 * Bytes: FORMAT.md, "The page file".
 */
#ifndef CUBBY_PAGE_H
#define CUBBY_PAGE_H

#include <stdint.h>

#include "bytes.h"
#include "err.h"
#include "log.h"
#include "os.h"
#include "ref.h"

struct pages;

enum { PAGES_QUAD = 4 };	/* units in which the file grows, and is given out: see space.h */

struct super {
	uint8_t store[STORE_ID_SIZE];
	uint64_t generation;
	struct log_mark mark;		/* mark.revision is the last commit in the tree */
	struct ref root;		/* length 0: an empty tree */
	uint64_t entries;
	struct ref space;		/* the free map's directory; length 0: nothing is taken */
	uint64_t units;			/* that the free map knows of */
	struct ref snapshots;		/* the list of kept snapshots; length 0: there are none */
	struct ref dead;		/* the dead of the newest of them; length 0: none */
};

/* Makes an empty page file, which must not exist, with room for the superblocks. Writes none. */
int pages_create(struct os *os, struct os_dir *dir, struct pages **out, struct err *err);

/* Does the page file belong to a store whose making was finished? 1: it has a good superblock, the
 * last thing that is made, and the size that was made durable with it. 0: it has not, and never was
 * larger than a new one. -EUCLEAN: it has none, but is larger, so that there may be more than a
 * beginning. */
int pages_finished(struct os *os, struct os_dir *dir, struct err *err);

/* Opens the page file and reads the newest good superblock to *super. `*damaged`, unless NULL,
 * tells whether the slot that may have been newer is unreadable (a crash while it was written, or
 * damage: only the log can tell). -EUCLEAN: no good superblock; -EPROTONOSUPPORT: another
 * format's. */
int pages_open(struct os *os, struct os_dir *dir, struct super *super, bool *damaged,
	       struct pages **out, struct err *err);

/* Accepts NULL. Syncs nothing. */
void pages_close(struct pages *pages);

/* Reads the block `ref` refers to, ref->length bytes. */
int pages_read(struct pages *pages, const struct ref *ref, void *bytes, struct err *err);

/* Says in *err that this block is damaged. Returns -EBADMSG. */
int pages_blame(const struct ref *ref, struct err *err);

/* Fills in *ref and writes the block. `offset` is the caller's to write to. */
int pages_write(struct pages *pages, uint64_t offset, uint64_t generation, struct slice bytes,
		struct ref *ref);

/* The same in two steps, for several blocks that lie one behind the other: what the reference to
 * a block will be, and one write of all of them. */
struct ref page_ref(uint64_t offset, uint64_t generation, struct slice bytes);
int pages_put(struct pages *pages, uint64_t offset, struct slice blocks);

/* A run, which may be scattered: writes run->length bytes to its place, and fills in the rest of
 * *run; or writes again what is there. */
int pages_write_run(struct pages *pages, uint64_t generation, const void *bytes, struct ref *run);
int pages_put_run(struct pages *pages, const struct ref *run, const void *bytes);

/* Has the disk begin with what was written there, or waits until it is done with it, so that the
 * next sync has less to do. A failure is final, as of a sync. */
int pages_flush(struct pages *pages, uint64_t offset, uint64_t size, bool wait);

/* As os.h's syncing. */
bool pages_syncing(const struct pages *pages);

/* Makes everything written durable. Does nothing if nothing was written since the last time. A
 * failed sync is final: this and every later one answers -EROFS. */
int pages_sync(struct pages *pages);

/* Writes the superblock to its slot, and syncs. The caller has synced what it refers to. A
 * failure is final, as of a sync. */
int pages_write_super(struct pages *pages, const struct super *super);

/* The sentence that says what made pages_sync final; false if nothing did. */
bool pages_failure(struct pages *pages, struct err *err);

/* Units of the file that are there to be written to: whole quads, although a power cut may have
 * left a part of one behind them. */
uint64_t pages_units(const struct pages *pages);

/* Grows the file to `units` units of real blocks; -ENOSPC changes nothing. */
int pages_grow(struct pages *pages, uint64_t units);

/* Cuts the file to `units` units, which nothing refers beyond. Durable with the next sync; a
 * failure changes nothing. */
int pages_shrink(struct pages *pages, uint64_t units);

/* Superblock <-> one unit of bytes. Decoding: -ENODATA: none is here; -EPROTONOSUPPORT: another
 * version's (its number is in *version). */
void super_encode(const struct super *super, uint8_t unit[UNIT]);
int super_decode(const uint8_t unit[UNIT], struct super *super, uint32_t *version);

#endif
