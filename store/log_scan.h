/* log_scan.h - reading the log: where it ends, whether that end is torn or damaged, and the batches
 * before it. Private to the log.
 *
 * Reads only; nothing on disk is changed here.
 */
#ifndef CUBBY_LOG_SCAN_H
#define CUBBY_LOG_SCAN_H

#include "log.h"
#include "log_segment.h"

/* The end of the log. */
struct log_end {
	struct segment *last;	/* the segment it lies in */
	uint64_t number;	/* of the group that would come next */
	uint64_t chain;		/* the sum of the group before that */
	uint64_t revision;	/* the last one found, or skipped by the writer of the last header */
	uint64_t last_batch;	/* the last that a batch has, or the mark */
	uint64_t synced;	/* the last group that a later one proves to be on disk */
	bool torn;		/* something behind it was cut off */
};

/* Finds the end and replays what lies before it. `live` is the segments from the mark's on, in
 * order (and their `end` is filled in); `others` all the rest, in which proof of damage may lie.
 * Errors are those of log_open. */
int log_scan(struct os *os, struct segment *live, struct segment *others,
	     const struct log_mark *mark, const struct log_reader *reader, struct log_end *out,
	     struct err *err);

#endif
