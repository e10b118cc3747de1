/* extent.h - parts of an open file as a whole: allocating, punching, finding and copying them.
 *
 * Nothing is reserved: a value takes room when it is written. fallocate(2) grows the value, and
 * says -ENOSPC if what it asks for is not free now; it is no promise that a later write will fit.
 * Ranges cannot be collapsed or inserted: -EOPNOTSUPP.
 *
 * A hole is a whole chunk of 64 KiB of which nothing is kept (store_seek). Data that a program put
 * there through a shared mapping and that the kernel has not written back yet is not known here.
 */
#ifndef CUBBY_FS_EXTENT_H
#define CUBBY_FS_EXTENT_H

#include "fs.h"

/* `mode` as of fallocate(2). */
int extent_allocate(struct fs *fs, struct node *node, int mode, uint64_t offset, uint64_t size);

/* `whence` is SEEK_DATA or SEEK_HOLE. -ENXIO as of lseek(2). */
int extent_seek(struct fs *fs, struct node *node, uint64_t offset, int whence, uint64_t *found);

/* Copies up to `size` bytes from one file to another, or within one; the two parts do not overlap.
 * Returns how many: fewer at the end of `from`, or when it was enough for one request. */
ssize_t extent_copy(struct fs *fs, struct node *from, uint64_t from_offset, struct node *to,
		    uint64_t to_offset, uint64_t size);

#endif
