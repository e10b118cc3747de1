/* log_tail.h - commits that were promised to outlive this process, and are in no segment yet.
 * Private to the log.
 *
 * What must survive kill -9, but not a power cut, need not be written to the log at once: the
 * system call would cost more than the rest of a small commit. It is copied to a mapped file, the
 * *tail*, and the kernel keeps that whatever becomes of us. The batches lie there as records
 * behind a header, which names the group that they are to become. Sooner or later they are written
 * to a segment as that group, with all others that were gathered; from then on the tail means
 * nothing, for the group of that number is in the log, and it is begun anew with the next one.
 *
 * Recovery takes what is whole in the tail for one more group, if it is the one that must follow
 * the last one in the log, and nothing says that this one ever was there. It does not matter what
 * a power cut makes of a tail: a record either is as it was, and follows what was there before it,
 * or it is not one.
 */
#ifndef CUBBY_LOG_TAIL_H
#define CUBBY_LOG_TAIL_H

#include "err.h"
#include "log_frame.h"
#include "os.h"

struct log;

/* The group that a tail holds. */
struct tail {
	struct group group;	/* size 0: there is none; sum and salt are its future segment's */
	struct buffer bytes;	/* its header's place, its batches, and zeros to fill a unit more */
};

/* Opens the tail, if there is one, and unless `closed` says that nothing can be in it, reads it.
 * An unusable one is as good as none. Gives *file, for os->close, and `found`, for tail_done; on
 * failure too. */
int tail_open(struct os *os, struct os_dir *dir, const uint8_t *store, bool closed,
	      struct os_file **file, struct tail *found, struct err *err);

void tail_done(struct tail *found);

/* Has it hold nothing, durably: what was not taken from it now must not be the next time, when a
 * power cut has brought back what it was before. */
int tail_clear(struct os *os, struct os_file *file);

#endif
