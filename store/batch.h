/* batch.h - puts, patches and deletes that are to happen together, and their bytes in the log.
 *
 * A batch is built by appending operations in the order in which they take effect. Its bytes are
 * exactly what the log carries (FORMAT.md, "Batches"). Pure: no I/O, no locks.
 */
#ifndef CUBBY_BATCH_H
#define CUBBY_BATCH_H

#include <stdint.h>

#include "bytes.h"
#include "ref.h"

/* All zeros is an empty one. */
struct batch {
	struct buffer bytes;	/* BATCH_HEADER and operations; empty if there are none */
	uint32_t count;
	uint32_t runs;		/* operations that name one */
	int failed;		/* the first error of the functions below: 0, -ENOMEM, or -EINVAL
				 * for a key of impossible size; sticky, so that many puts need one
				 * check, at the end */
};

void batch_put(struct batch *batch, struct slice key, struct slice value);

/* As batch_put, in two steps, so that the value can be made where it will lie: room for `most` bytes,
 * or NULL (see `failed`); then how many of them it takes. Nothing else may be put in between. */
uint8_t *batch_put_room(struct batch *batch, struct slice key, size_t most);
void batch_put_done(struct batch *batch, uint8_t *room, size_t size);

/* The value's run follows the entry from the commit on. */
void batch_put_run(struct batch *batch, struct slice key, const struct ref *run,
		   struct slice value);

/* Deleting what is not there is no error. */
void batch_delete(struct batch *batch, struct slice key);

/* Overwrites what lies at `offset` of the entry's value (which does not include the reference to
 * its run), and extends it if the bytes reach beyond its end; the run stays. A batch that patches
 * what is not there, or begins a patch behind a value's end, cannot be committed. */
void batch_patch(struct batch *batch, struct slice key, uint32_t offset, struct slice bytes);

/* Makes it empty, for use again. */
void batch_clear(struct batch *batch);

/* Frees what it holds. */
void batch_done(struct batch *batch);

/* One operation, lent from the batch it was read from. */
struct batch_op {
	uint8_t kind;		/* BATCH_PUT, BATCH_PUT_RUN, BATCH_DELETE or BATCH_PATCH */
	uint32_t offset;	/* of a patch */
	struct slice key;
	struct slice value;	/* without the reference; a patch's bytes */
	struct ref run;
};

/* Reads the operation at *offset of `bytes` (start with BATCH_HEADER) and moves on. 1: there was
 * one; 0: the end; -EUCLEAN: no batch, or keys or values of impossible size. */
int batch_next(struct slice bytes, size_t *offset, struct batch_op *op);

/* 0 if `bytes` is a whole batch from first to last, else -EUCLEAN. */
int batch_check(struct slice bytes);

#endif
