/* handle.h - an open file: what is written is staged, then published at flush, fsync or release.
 *
 * All handles of a node share one draft, opened by the first change. While there is a draft every
 * reader reads through it, so staged bytes are seen by all at once. It is closed with the last
 * handle.
 *
 * A shell's `echo hi > k` sends CREATE or OPEN with O_TRUNC, FLUSH with nothing written (the shell
 * moves the descriptor), WRITE, FLUSH, RELEASE (MEASURED 1). So handle_flush publishes only once
 * something was *written*: a bare creation, or the truncation by open, waits for a write's flush or
 * for the release of the last handle that may write. Otherwise the key would have an empty version
 * for a moment, and after a crash perhaps for good.
 *
 * A value that was truncated by open and could then not be written (the disk is full) is not
 * published at all: the old one stays. Whoever only adds to a value, or changes it in place, keeps
 * what could be written.
 *
 * A node that is gone (unlinked, replaced, expired) is read and written on in its draft, and
 * never published: that is no error.
 */
#ifndef CUBBY_FS_HANDLE_H
#define CUBBY_FS_HANDLE_H

#include "fs.h"

/* Opens a handle: `flags` as of open(2); pins the node until handle_release. A small value that will
 * be read is given to the kernel with that (DESIGN.md, "What the kernel may keep"). -ESTALE: the
 * entry is gone, and its value too: the kernel is to look the name up again. */
int handle_open(struct fs *fs, struct node *node, int flags);

/* A handle on what was just created: cannot fail. */
void handle_created(struct fs *fs, struct node *node, int flags);

/* As store_read and draft_read. */
ssize_t handle_read(struct fs *fs, struct node *node, uint64_t offset, void *bytes, size_t size);

/* Stages all of it or nothing. */
int handle_write(struct fs *fs, struct node *node, uint64_t offset, struct slice bytes);

/* The same for what the kernel writes back from its pages, which a mapping has changed: what is no longer
 * within the file's size was cut off since, and is passed over (DESIGN.md, "Written back"). */
int handle_write_back(struct fs *fs, struct node *node, uint64_t offset, struct slice bytes);

/* Stages a new size that somebody asked for: counts as written. */
int handle_truncate(struct fs *fs, struct node *node, uint64_t size);

/* As draft_punch and draft_grow: they count as written. */
int handle_punch(struct fs *fs, struct node *node, uint64_t offset, uint64_t size);
int handle_grow(struct fs *fs, struct node *node, uint64_t size);

/* As store_seek, of what a reader sees now. */
int handle_seek(struct fs *fs, struct node *node, uint64_t offset, bool hole, uint64_t *found);

/* Publishes what was written, if anything was. *revision: of the node's last publication. */
int handle_flush(struct fs *fs, struct node *node, uint64_t *revision);

/* A bare creation or truncation is published by release, which the kernel asks for after close(2)
 * has returned. If all who may write have flushed and written nothing, that is what comes next;
 * who asks for the version wants to see it, and who empties the file again makes another version
 * of it. So this waits for it, though not for long, for a descriptor may have been closed that was
 * not the last. */
void handle_settle(struct node *node);

/* Publishes whatever is staged, truncations and bare creations too. */
int handle_publish(struct fs *fs, struct node *node, uint64_t *revision);

/* Publishes what flush left, if this is the last handle that may write; with the last of all
 * handles gone, drops the draft. The node is unpinned. */
int handle_release(struct fs *fs, struct node *node, int flags, uint64_t *revision);

/* Truncation by name: publishes at once. */
int handle_truncate_now(struct fs *fs, struct node *node, uint64_t size, uint64_t *revision);

/* Gives a regular file that is about to lose its entry a draft, so that its value lives on: if
 * somebody has it open, or if it is `replaced`, for then whoever just looked the name up and is
 * about to open it must get the old value or the new one, and not an error. */
int handle_keep(struct fs *fs, struct node *node, bool replaced) NEEDS(fs->names);

/* handle_publish for one who holds `names` for writing. */
int handle_publish_held(struct fs *fs, struct node *node) NEEDS(fs->names);

/* At the end of the mount, when no request can come any more: publishes what was written, or, if
 * `all`, everything staged; closes every draft. Returns the first error. */
int handle_close_all(struct fs *fs, bool all);

#endif
