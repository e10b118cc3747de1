/* Replay puts what the log says back into the tree.
 *
 * It goes by chunks of the log. The operations of a chunk are applied in the order of their keys,
 * those of one key in the order of the log: so each leaf is met once a chunk, and the tree can
 * write and forget it when the hand has passed it, should the memory be short. Where a chunk ends
 * the tree is as it was after some commit; if memory is short a checkpoint is made there, so that
 * inner nodes can be forgotten too, the space of what was replaced can be used again, and the next
 * crash need not begin at the beginning.
 *
 * Runs of all the log are held before anything is written, or a node might be written to where a
 * later commit says that a run lies. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine_impl.h"
#include "mem.h"

enum {
	CHUNK_MAX = 16 << 20,		/* bytes of operations; less if the cache is small */
	SLICE_OPS = 64,			/* operations applied at once */
	SLICE = 64 * 1024,		/* bytes; a single one may be larger */
};

/* Where an operation lies in the chunk. */
struct op_at {
	uint64_t prefix[2];		/* of the key, so that few keys have to be looked at */
	uint32_t offset, size;
};

struct replay {
	struct engine *engine;
	struct buffer chunk;		/* operations, as in their batches */
	struct op_at *ops;
	size_t count, capacity;
	struct log_mark mark;		/* of what the chunk and those before it hold */
	struct buffer slice;
	uint64_t chunk_max;		/* bytes */
	uint64_t early;			/* leaves that the tree had written early, lately */
	bool unvouched;			/* it holds what no later group of the log vouches for */
};

/* ---- before anything is applied --------------------------------------------------------- */

static int hold_runs(struct replay *r, struct slice batch)
{
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	int rc;

	while ((rc = batch_next(batch, &offset, &op)) > 0)
		if (op.kind == BATCH_PUT_RUN) {
			rc = space_hold(r->engine->space, &op.run);
			if (rc < 0)
				break;
		}
	return rc;
}

/* A run may be impossible here, if the file lost its size and the batch will not stand. */
static int note(void *arg, uint64_t revision, struct slice batch)
{
	struct replay *r = arg;
	int rc = engine_check_batch(batch);

	if (rc < 0)			/* one of ours would have been refused, not logged */
		return err_set(&r->engine->trouble, -EUCLEAN,
			       "log: commit %" PRIu64 " is none that can be made", revision);
	rc = hold_runs(r, batch);
	return rc == -EUCLEAN ? 0 : rc;
}

/* Did the run reach the disk? Asked of commits that nobody was told are on disk. It is written
 * again, for whoever wrote it may have been told that a sync failed, and what is read be
 * in memory only. */
static int check_run(struct engine *engine, const struct ref *run, void *bytes)
{
	int rc;

	if (run->length > ENGINE_RUN_MAX)
		return -EUCLEAN;
	rc = pages_read(engine->pages, run, bytes, NULL);
	if (rc == 0)
		rc = pages_put_run(engine->pages, run, bytes);
	return rc == -EBADMSG ? -ENODATA : rc;
}

static int check(void *arg, struct slice batch)
{
	struct replay *r = arg;
	struct batch_op op;
	size_t offset = BATCH_HEADER;
	void *bytes = NULL;
	int rc;

	r->unvouched = true;
	while ((rc = batch_next(batch, &offset, &op)) > 0) {
		if (op.kind != BATCH_PUT_RUN)
			continue;
		if (!bytes)
			bytes = mem_alloc(ENGINE_RUN_MAX);
		rc = bytes ? check_run(r->engine, &op.run, bytes) : -ENOMEM;
		if (rc < 0)
			break;
	}
	mem_free(bytes);
	return rc;
}

/* ---- applying --------------------------------------------------------------------------- */

static struct slice key_at(const uint8_t *op)
{
	return slice_of(op + 3, get16(op + 1));
}

static int compare(const void *left, const void *right, void *arg)
{
	const uint8_t *chunk = arg;
	const struct op_at *a = left, *b = right;
	int order;

	for (int i = 0; i < 2; i++)
		if (a->prefix[i] != b->prefix[i])
			return a->prefix[i] < b->prefix[i] ? -1 : 1;
	order = slice_compare(key_at(chunk + a->offset), key_at(chunk + b->offset));
	return order ? order : a->offset < b->offset ? -1 : 1;
}

static int admit_all(void *arg, uint64_t units)
{
	(void)arg;
	(void)units;
	return 0;
}

static int apply_slice(struct replay *r)
{
	struct engine *engine = r->engine;
	int rc;

	put32(r->slice.data, (uint32_t)(r->slice.size - BATCH_HEADER));
	rc = tree_apply(engine->tree, buffer_slice(&r->slice), admit_all, NULL, &engine->trouble);
	if (rc == -EINVAL)
		rc = err_set(&engine->trouble, -EUCLEAN,
			     "log: commit %" PRIu64 ", or one before, "
			     "is none that can be made of what is there before it",
			     r->mark.revision);
	return rc;
}

/* Applies operations from number *next on, as many as go well together. */
static int apply_some(struct replay *r, size_t *next)
{
	static const uint8_t header[BATCH_HEADER];
	int rc;

	buffer_clear(&r->slice);
	rc = buffer_append(&r->slice, header, sizeof(header));
	for (size_t i = 0; rc == 0 && *next < r->count && i < SLICE_OPS; i++, (*next)++) {
		const struct op_at *op = &r->ops[*next];

		if (i > 0 && r->slice.size + op->size > SLICE)
			break;
		rc = buffer_append(&r->slice, r->chunk.data + op->offset, op->size);
	}
	return rc == 0 ? apply_slice(r) : rc;
}

/* Were nodes written since this was asked last? */
static bool memory_is_short(struct replay *r)
{
	struct tree_stats tree;
	bool is;

	tree_stats(r->engine->tree, &tree);
	is = tree.early > r->early;
	r->early = tree.early;
	return is;
}

/* Without room on disk for a checkpoint, it goes on without. */
static int apply_chunk(struct replay *r)
{
	size_t next = 0;
	int rc = 0;

	if (r->count)
		qsort_r(r->ops, r->count, sizeof(*r->ops), compare, r->chunk.data);
	while (rc == 0 && next < r->count)
		rc = apply_some(r, &next);
	if (rc == 0 && !r->unvouched && memory_is_short(r)) {
		rc = checkpoint_replayed(r->engine, &r->mark);
		rc = rc == -ENOSPC ? 0 : rc;
	}
	buffer_clear(&r->chunk);
	r->count = 0;
	return rc;
}

/* ---- gathering -------------------------------------------------------------------------- */

static int room_for_one_more(struct replay *r)
{
	const size_t more = r->capacity ? r->capacity * 2 : 1024;
	struct op_at *grown;

	if (r->count < r->capacity)
		return 0;
	grown = mem_realloc(r->ops, more * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->ops = grown;
	r->capacity = more;
	return 0;
}

static uint64_t prefix(struct slice key, size_t from)
{
	const uint8_t *bytes = key.data;
	uint64_t p = 0;

	for (size_t i = from; i < from + 8; i++)
		p = p << 8 | (i < key.size ? bytes[i] : 0);
	return p;
}

static int gather(struct replay *r, struct slice batch)
{
	const uint32_t base = (uint32_t)r->chunk.size;
	size_t offset = BATCH_HEADER, before = offset;
	struct batch_op op;
	int rc = buffer_append(&r->chunk, batch.data, batch.size);

	while (rc == 0 && (rc = batch_next(batch, &offset, &op)) > 0) {
		rc = room_for_one_more(r);
		if (rc < 0)
			break;
		r->ops[r->count++] = (struct op_at){
			.prefix = { prefix(op.key, 0), prefix(op.key, 8) },
			.offset = base + (uint32_t)before,
			.size = (uint32_t)(offset - before),
		};
		before = offset;
	}
	return rc;
}

static int apply(void *arg, const struct log_mark *mark, struct slice batch)
{
	struct replay *r = arg;
	int rc = 0;

	if (r->count && r->chunk.size + batch.size > r->chunk_max)
		rc = apply_chunk(r);
	if (rc == 0)
		rc = hold_runs(r, batch);	/* now it must be possible */
	if (rc == 0)
		rc = gather(r, batch);
	r->mark = *mark;
	return rc;
}

/* ---- begin and end ---------------------------------------------------------------------- */

int replay_begin(struct engine *engine, struct replay **replay, struct log_reader *reader)
{
	struct replay *r = mem_zalloc(sizeof(*r));

	*replay = r;
	if (!r)
		return -ENOMEM;
	r->engine = engine;
	r->chunk_max =
		engine->options.cache / 4 < CHUNK_MAX ? engine->options.cache / 4 : CHUNK_MAX;
	*reader = (struct log_reader){ note, check, apply, r };
	return 0;
}

int replay_end(struct replay *r, int rc)
{
	if (!r)
		return rc;
	if (rc == 0)
		rc = apply_chunk(r);
	buffer_done(&r->chunk);
	buffer_done(&r->slice);
	mem_free(r->ops);
	mem_free(r);
	return rc;
}
