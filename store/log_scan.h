/* log_scan.h - reading the log: where it ends, whether that end is torn or damaged, and the batches
 * before it. Private to the log.
 *
 * Reads only; nothing on disk is changed here.
 */
#ifndef CUBBY_LOG_SCAN_H
#define CUBBY_LOG_SCAN_H

#include "log.h"
#include "log_segment.h"
#include "log_tail.h"

/* The end of the log. */
struct log_end {
	struct segment *last;	/* the segment it lies in */
	uint64_t number;	/* of the group that would come next */
	uint64_t chain;		/* the sum of the group before that */
	uint64_t revision;	/* the last one found, or skipped by the last header's writer */
	uint64_t last_batch;	/* the last that a batch has, or the mark */
	uint64_t synced;	/* the last group that a later one proves to be on disk */
	struct segment *doubt;	/* where the first group lies that nothing proves to be on disk, */
	uint64_t doubt_offset;	/* or NULL. From here on; the segment's header too if it is 0 */
	struct segment *tail;	/* where the tail's group belongs, and has to be written, ... */
	uint64_t tail_offset;	/* ... from here on; NULL: it is there, or of no use */
	bool torn;		/* something behind it was cut off */
};

/* What is scanned: `live` is the segments from the mark's on, in order; `others` all the rest, in
 * which proof of damage may lie. */
struct log_found {
	struct segment *live;
	struct segment *others;
	struct witness witness;
	struct tail tail;
};

/* Finds the end, and tells torn from damaged. Errors are those of log_open. */
int log_find_end(struct os *os, const struct log_found *found, const struct log_mark *mark,
		 const struct log_reader *reader, struct log_end *end, struct err *err);

/* Replays what lies before *end, which log_find_end found; moves it forward if `check` says so.
 * Fills in end->last_batch, and the `end` of each segment. */
int log_replay(struct os *os, const struct log_found *found, const struct log_mark *mark,
	       const struct log_reader *reader, struct log_end *end, struct err *err);

#endif
