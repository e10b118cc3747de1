/* patches.h - a list of changes to a chunk: bytes to be laid over it, and ends to be cut off.
 *
 * The bytes of a list are exactly what lies in a chunk's record (FORMAT.md, "Chunks"), oldest
 * first. Offsets are within the chunk. Pure: no I/O, no locks.
 */
#ifndef CUBBY_PATCHES_H
#define CUBBY_PATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"

enum {
	PATCH_HEADER = 4,
	/* In a list, and its bytes: beyond that a chunk is written whole. */
	PATCHES_COUNT = 256,
	PATCHES_MAX = 32 * 1024 + PATCHES_COUNT * PATCH_HEADER,
};

struct patch {
	uint32_t offset;
	uint32_t size;			/* 0: the chunk is cut off at `offset` */
	uint32_t at;			/* where the bytes lie in the list */
	const uint8_t *bytes;		/* lent */
};

/* Reads the patch at *at (start with 0) and moves on. 1: there was one; 0: the end; -EUCLEAN: none,
 * or one that leads out of the chunk. */
int patches_next(struct slice list, size_t *at, struct patch *out);

/* What a list makes of a chunk that had `used` bytes, and what it has itself. */
struct patches_sum {
	uint32_t count;
	uint32_t used;			/* bytes that the chunk then has; zeros follow */
	uint32_t bytes;			/* of all patches */
	bool cuts;			/* there is a cut, or a patch that leaves a gap of zeros */
};

/* -EUCLEAN: not a list, or longer than it may be. */
int patches_sum(struct slice list, uint32_t used, struct patches_sum *out);

/* Lays a good list over `size` bytes of a chunk from `start` on; beyond the chunk's end there must
 * be zeros. */
void patches_lay(struct slice list, uint8_t *to, uint32_t start, uint32_t size);

/* Where in a good list all of these bytes can be overwritten, because they lie in one patch, and
 * no later one touches them. */
bool patches_find(struct slice list, uint32_t offset, uint32_t size, uint32_t *at);

/* Does any of a good list change one of these bytes? */
bool patches_touch(struct slice list, uint32_t offset, uint32_t size);

/* Room that patches_add and patches_cut may need, at most. */
static inline size_t patches_need(size_t size)
{
	return PATCH_HEADER + size;
}

/* Adds a patch of 1 to PATCHES_MAX - PATCH_HEADER bytes, for which there is room: where an earlier
 * one has them already, or at the end of the latest, or as a new one. Returns how many new ones. */
uint32_t patches_add(struct buffer *list, uint32_t offset, struct slice bytes);

/* Adds that the chunk is cut off at `offset`; there is room. */
void patches_cut(struct buffer *list, uint32_t offset);

#endif
