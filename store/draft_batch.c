/* What staged pieces become in the tree, and what that costs.
 *
 *   whole          as many bytes as a chunk has: a run. Fewer: inline, through the log
 *   changes        over an inline chunk: patches of the record, unless they leave gaps or fill it
 *                  over a run, or a hole: behind, or over, the patches that are in the record
 *                  otherwise, or when a list gets too long: the chunk is written whole
 *
 * So a small change costs as much of the log as it has bytes; and a chunk that was filled by small
 * appends becomes a run when it is full, the only time that it is written again. */
#include "draft_impl.h"

#include <assert.h>
#include <errno.h>

enum {
	OPERATION = 64,		/* bytes of the log that one takes beside its own, generously */
};

int draft_base(struct draft *d, struct piece *piece)
{
	int rc = 0;

	if (!piece->base_known && d->floor && piece->number < d->floor_chunks)
		rc = chunk_look(d->store, d->floor, piece->number, &piece->base);
	piece->base_known = rc == 0;
	return rc;
}

static struct slice list_of(const struct piece *piece)
{
	return buffer_slice(&piece->changes->list);
}

/* ---- which form a piece takes ---------------------------------------------------------------- */

/* What of a piece's changes goes behind the patches in its record, which are `present`, to *tail
 * (unless NULL); the others, which overwrite one of those, to *batch (likewise). */
static int split_changes(const struct piece *piece, struct slice present, struct buffer *tail,
			 struct batch *batch, const struct record_key *key)
{
	const struct slice list = list_of(piece);
	struct patch patch;
	int rc = 0;

	buffer_clear(tail);
	for (size_t at = 0; rc == 0 && patches_next(list, &at, &patch) > 0;) {
		const struct slice bytes = slice_of(patch.bytes, patch.size);
		uint32_t there;

		/* The tail lies over what is there, so what lies over the tail goes there too. */
		if (!patch.size || patches_touch(buffer_slice(tail), patch.offset, patch.size) ||
		    !patches_find(present, patch.offset, patch.size, &there))
			rc = buffer_append(tail, (const uint8_t *)patch.bytes - PATCH_HEADER,
					   PATCH_HEADER + patch.size);
		else if (batch)
			batch_patch(batch, record_slice(key), 1 + there, bytes);
	}
	return rc;
}

/* The same, with what is in the record now. */
static int split(struct draft *d, const struct piece *piece, struct buffer *tail,
		 struct batch *batch, const struct record_key *key) NEEDS(d->lock)
{
	struct buffer present = { 0 };
	int rc = 0;

	if (piece->base.list)
		rc = chunk_patches(d->store, d->floor, piece->number, &present);
	if (rc == 0)
		rc = split_changes(piece, buffer_slice(&present), tail, batch, key);
	buffer_done(&present);
	return rc;
}

/* 1: there is room in its record for a piece's changes; 0: there is not. */
static int changes_fit(struct draft *d, const struct piece *piece) NEEDS(d->lock)
{
	const struct chunk_shape *base = &piece->base;
	struct buffer tail = { 0 };
	struct patches_sum sum;
	int rc = patches_sum(list_of(piece), base->used, &sum);

	assert(rc == 0);	/* it is ours */
	if (base->kind == CHUNK_INLINE)
		return !sum.cuts && sum.used < STORE_CHUNK;
	if (base->kind == 0)
		return sum.bytes < sum.used;
	if (base->list + list_of(piece).size <= PATCHES_MAX &&
	    base->count + sum.count <= PATCHES_COUNT)
		return 1;
	rc = split(d, piece, &tail, NULL, NULL);
	if (rc == 0 && patches_sum(buffer_slice(&tail), 0, &sum) == 0)
		rc = base->list + tail.size <= PATCHES_MAX &&
		     base->count + sum.count <= PATCHES_COUNT;
	buffer_done(&tail);
	return rc;
}

static int settle_piece(struct draft *d, struct piece *piece) NEEDS(d->lock)
{
	int rc = draft_base(d, piece);

	if (rc == 0 && piece->changes) {
		rc = changes_fit(d, piece);
		if (rc == 0)
			rc = draft_make_whole(d, piece);
	}
	if (rc >= 0 && !piece->changes && piece->bytes &&
	    (piece->used == STORE_CHUNK ||
	     engine_run_saves(d->store->engine, piece->used)))
		rc = staged_spill_piece(&d->staged, piece);
	return rc < 0 ? rc : 0;
}

static uint64_t cost_of(const struct piece *piece)
{
	if (piece->changes)
		return list_of(piece).size + (uint64_t)piece->changes->count * OPERATION;
	return piece->bytes ? piece->used : 0;
}

int draft_settle(struct draft *d)
{
	const uint64_t share = engine_batch_max(d->store->engine) / 4;
	uint64_t logged = 0;
	int rc = 0;

	for (size_t i = 0; i < d->staged.count && rc == 0; i++) {
		rc = settle_piece(d, d->staged.pieces[i]);
		logged += cost_of(d->staged.pieces[i]);
	}
	return rc == 0 && logged > share ? draft_spill(d, 0, 1, 0) : rc;
}

/* ---- adding them to a batch ------------------------------------------------------------------ */

static int batch_whole(struct batch *batch, const struct record_key *key,
		       const struct piece *piece)
{
	static const uint8_t run = CHUNK_RUN, inlined = CHUNK_INLINE;
	struct buffer record = { 0 };
	int rc;

	if (piece->used == 0) {
		batch_delete(batch, record_slice(key));
		return 0;
	}
	if (piece->run.length) {
		batch_put_run(batch, record_slice(key), &piece->run, slice_of(&run, 1));
		return 0;
	}
	rc = buffer_append(&record, &inlined, 1);
	if (rc == 0)
		rc = buffer_append(&record, piece->bytes, piece->used);
	if (rc == 0)
		batch_put(batch, record_slice(key), buffer_slice(&record));
	buffer_done(&record);
	return rc;
}

static void batch_patch_inline(struct batch *batch, const struct record_key *key,
			       const struct piece *piece)
{
	struct patch patch;

	for (size_t at = 0; patches_next(list_of(piece), &at, &patch) > 0;)
		batch_patch(batch, record_slice(key), 1 + patch.offset,
			    slice_of(patch.bytes, patch.size));
}

/* *patched: how many bytes the patches in the record then lay over the chunk. */
static int batch_changes(struct draft *d, struct batch *batch, const struct record_key *key,
			 const struct piece *piece, uint32_t *patched) NEEDS(d->lock)
{
	static const uint8_t sparse = CHUNK_SPARSE;
	struct buffer tail = { 0 };
	struct patches_sum sum = { 0 };
	int rc;

	if (piece->base.kind == 0)
		rc = buffer_append(&tail, &sparse, 1);
	else
		rc = split(d, piece, &tail, batch, key);
	if (rc == 0 && piece->base.kind == 0) {
		rc = buffer_append(&tail, list_of(piece).data, list_of(piece).size);
		batch_put(batch, record_slice(key), buffer_slice(&tail));
		if (rc == 0)
			rc = patches_sum(list_of(piece), 0, &sum);
	} else if (rc == 0 && tail.size) {
		batch_patch(batch, record_slice(key), 1 + piece->base.list, buffer_slice(&tail));
		rc = patches_sum(buffer_slice(&tail), 0, &sum);
	}
	*patched = piece->base.patched + sum.bytes;
	buffer_done(&tail);
	return rc;
}

/* *shape: what the record is like then, as far as chunk_stored asks. */
static int batch_piece(struct draft *d, struct batch *batch, const struct piece *piece,
		       struct chunk_shape *shape) NEEDS(d->lock)
{
	const struct record_key key = record_chunk(d->floor, piece->number);

	*shape = (struct chunk_shape){ .kind = CHUNK_INLINE, .used = piece->used };
	if (!piece->changes)
		return batch_whole(batch, &key, piece);
	if (piece->base.kind == CHUNK_INLINE) {
		batch_patch_inline(batch, &key, piece);
		return 0;
	}
	shape->kind = piece->base.kind == CHUNK_RUN ? CHUNK_RUN : CHUNK_SPARSE;
	return batch_changes(d, batch, &key, piece, &shape->patched);
}

uint64_t draft_batch_pieces(struct draft *d, struct batch *batch)
{
	uint64_t stored = d->floor_stored;

	for (size_t i = 0; i < d->staged.count; i++) {
		const struct piece *piece = d->staged.pieces[i];
		struct chunk_shape shape;
		const int rc = batch_piece(d, batch, piece, &shape);

		assert(piece->base_known);	/* draft_settle saw to it */
		if (rc < 0 && !batch->failed)
			batch->failed = rc;
		stored += (uint64_t)chunk_stored(&shape) - chunk_stored(&piece->base);
	}
	return stored;
}
