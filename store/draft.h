/* draft.h - a value being written: bytes staged over what is published, until they are published.
 *
 * A draft belongs to one entry. It is opened on the entry's published value (or on nothing, for
 * one not published yet), read and written like a file, and published any number of times. What
 * is staged is lost with the draft, or with the process; what is published is one new version,
 * whole.
 *
 * A draft *holds* the value it was opened on: even when the entry is removed, replaced or
 * expires, the draft reads and writes on, for as long as it is open; it can then no longer be
 * published.
 *
 * Memory: up to store_options.draft_memory bytes of staged data; beyond that, whole chunks are
 * written to free space of the page file, where they cost a few dozen bytes of memory a chunk,
 * and a value being written anew has even those moved into the tree. So a value may be larger than
 * memory. Only a value changed in place in more than DRAFT_CHUNKS_MAX separate chunks since its
 * last publication is refused more, with -EFBIG: publish, and go on.
 *
 * Any thread may call; a draft locks itself. draft_close must be the last call.
 */
#ifndef CUBBY_DRAFT_H
#define CUBBY_DRAFT_H

#include "store.h"

struct draft;

enum { DRAFT_CHUNKS_MAX = 65536 };	/* 4 GiB changed in place */

/* Opens a draft on the entry (expired or not). Gives *out, for draft_close.
 * -EISDIR, -EINVAL: not a regular file. */
int draft_open(struct store *store, struct place place, struct draft **out);

/* Drops what is staged. Accepts NULL. */
void draft_close(struct draft *draft);

/* Reads what a reader is to see now: staged bytes over published ones, zeros in holes. Returns
 * how many bytes there are, up to `size`; 0 at and beyond the end. */
ssize_t draft_read(struct draft *draft, uint64_t offset, void *bytes, size_t size);

/* Stages. Either all bytes or, with an error, none. Growing leaves a hole of zeros.
 * -EFBIG: beyond STORE_SIZE_MAX, or see above. */
int draft_write(struct draft *draft, uint64_t offset, struct slice bytes);

/* The same, but only what lies within the value's size: it does not grow. Returns how many bytes
 * that are. */
ssize_t draft_write_within(struct draft *draft, uint64_t offset, struct slice bytes);

/* Stages a new size: cut off, or grown by a hole. To 0 begins the value anew: nothing of the old
 * one is read or rewritten. */
int draft_truncate(struct draft *draft, uint64_t size);

/* Stages a new size unless it has that or more. As draft_truncate. */
int draft_grow(struct draft *draft, uint64_t size);

/* Stages zeros where the value has `size` bytes at `offset`: a hole, as far as it covers whole
 * chunks. The value's size stays. With an error, a part of it may be done; -EFBIG
 * as draft_write. */
int draft_punch(struct draft *draft, uint64_t offset, uint64_t size);

/* As store_seek, of what a reader sees now. */
int draft_seek(struct draft *draft, uint64_t offset, bool hole, uint64_t *found);

/* What stat is to show. */
uint64_t draft_size(struct draft *draft);

/* How many of those bytes are kept, holes not counted; while something is staged, about. */
uint64_t draft_stored(struct draft *draft);

/* The moment (os->monotonic_ns) of the oldest thing staged since the last publication, or
 * 0 if there is none: nothing to publish. */
uint64_t draft_staged_since(struct draft *draft);

/* The time of the last staged write or truncation (os->now_ns) since the last publication, which
 * is the mtime stat is to show and publication will set; 0: none, the entry's own counts. After
 * draft_keep_mtime the entry's own counts again, until something more is staged: for an mtime
 * that was set by hand while the file was still open (cp -p). */
int64_t draft_mtime_ns(struct draft *draft);
void draft_keep_mtime(struct draft *draft);

/* Publishes what is staged as the entry's next version: contents, size, mtime (as above) and
 * ctime, in one commit. `place` is where the entry is now; -ENOENT if another one is there, or
 * none. With nothing staged it publishes an entry that never was (version 0) as empty, with the
 * times it has, and otherwise does nothing (*revision is then 0). Describes the result in *out
 * (unless NULL). */
int draft_publish(struct draft *draft, struct place place, struct attr *out, uint64_t *revision);

#endif
