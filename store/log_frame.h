/* log_frame.h - segment headers, groups, the witness and the tail of the log <-> bytes. Pure;
 * private to the log.
 *
 * Decoders take any bytes. A group is judged in two steps, because its length stands in its
 * header: group_peek says what the header claims, group_is_whole whether all of it is there.
 */
#ifndef CUBBY_LOG_FRAME_H
#define CUBBY_LOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "format.h"

struct segment_header {
	uint8_t store[STORE_ID_SIZE];
	uint64_t sequence;
	uint64_t number;	/* of its first group */
	uint64_t revision;	/* the last commit before it */
	uint64_t chain;		/* the sum of the group before its first */
	uint32_t salt;
};

/* Fills the UNIT bytes at `to`. */
void segment_encode(const struct segment_header *header, uint8_t *to);

/* Reads the SEGMENT_HEADER bytes at `from`. -ENODATA: there is no whole header; -EPROTONOSUPPORT:
 * one of another format, whose version is then in *version. */
int segment_decode(struct segment_header *header, const uint8_t *from, uint32_t *version);

struct group {
	uint64_t sum;
	uint64_t number;
	uint64_t synced;
	uint64_t chain;
	uint64_t revision;
	uint32_t salt;
	uint32_t size;		/* of the batches, without the header */
};

/* Writes the header in front of the batches, which lie at `at` + GROUP_HEADER already, and returns
 * the sum (group->sum is not looked at). */
uint64_t group_encode(const struct group *group, uint8_t *at);

/* What the GROUP_HEADER bytes at `at` claim. */
struct group group_peek(const uint8_t *at);

/* Is the sum of the group at `at` right? There must be GROUP_HEADER + group->size bytes. */
bool group_is_whole(const struct group *group, const uint8_t *at);

/* How many batches lie in `batches` from first to last byte, or -EUCLEAN. */
int64_t group_count(struct slice batches);

/* Lends the batch at *offset of `batches` (which group_count found good) and moves on; false at
 * the end. */
bool group_next(struct slice batches, size_t *offset, struct slice *batch);

/* A group that is on disk, and the segment file that was written to then. */
struct witness {
	uint64_t number;	/* 0: nothing is told */
	uint64_t chain;		/* its sum */
	unsigned file;
};

/* Fills the WITNESS_SIZE bytes at `to`. */
void witness_encode(const struct witness *witness, const uint8_t *store, uint8_t *to);

/* Reads the WITNESS_SIZE bytes at `from`. -ENODATA: they tell nothing, or are torn; -EUCLEAN: they
 * tell of another store. */
int witness_decode(struct witness *witness, const uint8_t *store, const uint8_t *from);

/* Fills the TAIL_HEADER bytes at `to`, for records of the batches of `group` (of which sum, salt
 * and size are not looked at). */
void tail_encode(const struct group *group, const uint8_t *store, uint8_t *to);

/* Reads the TAIL_HEADER bytes at `from`. -ENODATA: there is no whole header, or another store's. */
int tail_decode(struct group *group, const uint8_t *store, const uint8_t *from);

/* Fills the TAIL_RECORD_HEADER bytes at `to`, for `batches`, of which the first has `revision`. */
void tail_record_encode(struct slice batches, uint64_t revision, uint8_t *to);

/* Lends the batches of the record at *offset of `tail`, if a whole one is there whose first batch
 * has *revision, and moves both on; false if there is none. */
bool tail_record_next(struct slice tail, size_t *offset, uint64_t *revision, struct slice *batches);

static inline uint64_t unit_up(uint64_t offset)
{
	return (offset + UNIT - 1) / UNIT * UNIT;
}

/* Where the next group may begin, if one ends at `offset`. */
static inline uint64_t group_up(uint64_t offset)
{
	return (offset + GROUP_ALIGN - 1) / GROUP_ALIGN * GROUP_ALIGN;
}

#endif
