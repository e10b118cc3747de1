/* value.h - values in chunks: reading them, holding them, and letting them go.
 *
 * A value's chunks are filed under its *value id*. A value that nothing names any more is
 * *doomed*: a record says so, in the commit that took its name away, and its chunks are deleted
 * later, a bounded number at a time. Until then, and while somebody *holds* it, it can be read.
 */
#ifndef CUBBY_VALUE_H
#define CUBBY_VALUE_H

#include "store_impl.h"

/* How many chunks a value of `size` bytes has. */
static inline uint64_t chunk_count(uint64_t size)
{
	return size / STORE_CHUNK + (size % STORE_CHUNK != 0);
}

/* Reads a chunk: its bytes to `bytes` (STORE_CHUNK of them), how many it has to *used; zeros
 * follow, and a chunk that is not there has none. */
int chunk_read(struct store *store, uint64_t value, uint32_t chunk, uint8_t *bytes,
	       uint32_t *used);

/* What a chunk's record is like, without copying it; all zeros if there is none. */
int chunk_look(struct store *store, uint64_t value, uint32_t chunk, struct chunk_shape *out);

/* The list of patches in a chunk's record, to *out (replacing what is in it). */
int chunk_patches(struct store *store, uint64_t value, uint32_t chunk, struct buffer *out);

/* How many bytes of the chunks from `first` up to `stop` are kept. */
int chunks_stored(struct store *store, uint64_t value, uint64_t first, uint64_t stop,
		  uint64_t *stored);

/* Deletes up to `max` chunks from `first` on, which the caller knows nobody can see, and returns
 * how many there were; fewer than `max`: these were all. `undoom`: with the last of them goes the
 * record that the value is doomed. */
int chunks_delete(struct store *store, uint64_t value, uint32_t first, int max, bool undoom);

/* Reads `size` bytes at `offset`, all of which lie in the value. */
int value_read(struct store *store, uint64_t value, uint64_t offset, uint8_t *bytes, size_t size);

/* ---- holding ------------------------------------------------------------------------------- */

/* Keeps the chunks of a value, until it has been released as often. Gives its *stamp*, which
 * value_stamp raises: so one who changes a value in place can see that another did, too. */
int value_hold(struct store *store, uint64_t value, uint64_t *stamp) NEEDS(store->lock);
void value_release(struct store *store, uint64_t value) NEEDS(store->lock);
uint64_t value_stamp(struct store *store, uint64_t value, bool raise) NEEDS(store->lock);
bool value_held(struct store *store, uint64_t value) NEEDS(store->lock);

/* ---- letting go ---------------------------------------------------------------------------- */

/* Adds to `batch` that nothing names this value any more. 0 as its id stands for none. */
void batch_doom(struct batch *batch, struct store *store, uint64_t value, uint64_t size)
	NEEDS(store->lock);

/* Adds to `batch` that the chunks from `first` on are to go. */
void batch_doom_from(struct batch *batch, uint64_t value, uint32_t first);

/* Tells what batch_doom said to those who hold the value, once the batch is committed; it keeps
 * `stored` bytes. */
void value_doomed(struct store *store, uint64_t value, uint64_t stored) NEEDS(store->lock);

/* The first chunk of a doomed value that is to go. -ENOENT: it is not doomed. Only under the lock
 * does the answer last: a value under way is doomed until it is published. */
int doomed_read(struct store *store, uint64_t value, uint32_t *first);

/* Goes on with what batch_doom_from began, by up to `max` chunks; returns how many they were. The
 * last ones of all take its record with them. */
int value_cut_step(struct store *store, uint64_t value, int max) NEEDS(store->lock);

/* Ends it, if the value is to have chunks where there are some to be deleted. */
int value_finish_cut(struct store *store, uint64_t value, uint64_t chunks) NEEDS(store->lock);

#endif
