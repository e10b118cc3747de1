#include "value.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"
#include "patches.h"

enum {
	DELETE_AT_ONCE = 8,	/* chunks that a removal deletes itself rather than dooming them */
	DELETE_STEP = 1024,	/* chunks to a batch otherwise */
	READ_TRIES = 4,		/* before a reader holds the writers off */
};

/* In a held value's slot, `a` counts its holders and `b` is its stamp. */
#define HELD_DOOMED (1ull << 63)	/* in `a`: its holders are all that keeps it */

/* ---- reading -------------------------------------------------------------------------------- */

static int chunk_get(struct store *store, uint64_t value, uint32_t chunk, struct buffer *record,
		     struct ref *run)
{
	const struct record_key key = record_chunk(value, chunk);

	*run = (struct ref){ 0 };
	return engine_get(store->engine, record_slice(&key), record, run);
}

/* A run that fails its checksum may just have been replaced, so that something else lies there
 * now; then the chunk's record has another one. */
static int chunk_read_try(struct store *store, uint64_t value, uint32_t chunk, uint8_t *bytes,
			  uint32_t *used, struct buffer *record, struct ref *seen)
{
	struct chunk c;
	struct ref run;
	int rc = chunk_get(store, value, chunk, record, &run);

	if (rc == -ENOENT) {
		*used = 0;
		return 0;
	}
	if (rc == 0)
		rc = chunk_parse(buffer_slice(record), run.length, &c);
	if (rc < 0)
		return rc;
	*used = c.shape.used;
	if (c.shape.kind == CHUNK_INLINE) {
		memcpy(bytes, c.bytes.data, c.bytes.size);
		return 0;
	}
	rc = run.length ? engine_run_read(store->engine, &run, bytes) : 0;
	if (rc == -EBADMSG && !ref_equal(&run, seen)) {
		*seen = run;
		return -EAGAIN;
	}
	if (rc == -EBADMSG)
		engine_run_damaged(store->engine, &run);
	if (rc == 0 && c.patches.size) {
		memset(bytes + run.length, 0, STORE_CHUNK - run.length);
		patches_lay(c.patches, bytes, 0, STORE_CHUNK);
	}
	return rc;
}

int chunk_read(struct store *store, uint64_t value, uint32_t chunk, uint8_t *bytes, uint32_t *used)
{
	struct buffer record = { 0 };
	struct ref seen = { 0 };
	int rc;

	do
		rc = chunk_read_try(store, value, chunk, bytes, used, &record, &seen);
	while (rc == -EAGAIN);
	buffer_done(&record);
	return rc;
}

int chunk_patches(struct store *store, uint64_t value, uint32_t chunk, struct buffer *out)
{
	struct buffer record = { 0 };
	struct chunk c;
	struct ref run;
	int rc = chunk_get(store, value, chunk, &record, &run);

	if (rc == 0)
		rc = chunk_parse(buffer_slice(&record), run.length, &c);
	if (rc == 0) {
		buffer_clear(out);
		rc = buffer_append(out, c.patches.data, c.patches.size);
	}
	buffer_done(&record);
	return rc;
}

/* A look at the records of a value's chunks. */
struct look {
	uint64_t stop;
	struct chunk_shape shape;	/* of the last one met */
	uint64_t stored;
};

static int visit_shape(void *arg, const struct engine_entry *entry)
{
	struct look *look = arg;
	struct chunk c;
	uint64_t value;
	uint32_t number;
	int rc = record_chunk_parse(entry->key, &value, &number);

	if (rc == 0 && number >= look->stop)
		return 1;
	if (rc == 0)
		rc = chunk_parse(entry->value, entry->run->length, &c);
	if (rc < 0)
		return rc;
	look->shape = c.shape;
	look->stored += chunk_stored(&c.shape);
	return (uint64_t)number + 1 == look->stop;
}

static int look_at(struct store *store, uint64_t value, uint64_t first, struct look *look)
{
	const struct record_key from = record_chunk(value, (uint32_t)first);
	const struct record_key prefix = record_chunks_of(value);
	int rc = 0;

	if (first < look->stop)
		rc = records_scan(store->engine, record_slice(&from), record_slice(&prefix),
				  visit_shape, look);
	return rc < 0 ? rc : 0;
}

int chunk_look(struct store *store, uint64_t value, uint32_t chunk, struct chunk_shape *out)
{
	struct look look = { .stop = (uint64_t)chunk + 1 };
	const int rc = look_at(store, value, chunk, &look);

	if (rc == 0)
		*out = look.shape;
	return rc;
}

int chunks_stored(struct store *store, uint64_t value, uint64_t first, uint64_t stop,
		  uint64_t *stored)
{
	struct look look = { .stop = stop };
	const int rc = look_at(store, value, first, &look);

	if (rc == 0)
		*stored = look.stored;
	return rc;
}

/* Reads a part of one chunk; `scratch` has room for a whole one. */
static int chunk_read_part(struct store *store, uint64_t value, uint32_t chunk, uint32_t offset,
			   uint8_t *bytes, size_t size, uint8_t *scratch)
{
	uint8_t *whole = size == STORE_CHUNK ? bytes : scratch;
	uint32_t used;
	size_t have;
	int rc = chunk_read(store, value, chunk, whole, &used);

	if (rc < 0)
		return rc;
	have = used > offset ? used - offset : 0;
	if (have > size)
		have = size;
	if (whole != bytes)
		memcpy(bytes, scratch + offset, have);
	memset(bytes + have, 0, size - have);
	return 0;
}

int value_read(struct store *store, uint64_t value, uint64_t offset, uint8_t *bytes, size_t size)
{
	uint8_t *scratch = mem_alloc(STORE_CHUNK);
	size_t done = 0;
	int rc = scratch ? 0 : -ENOMEM;

	while (rc == 0 && done < size) {
		const uint32_t start = (uint32_t)((offset + done) % STORE_CHUNK);
		const size_t left = STORE_CHUNK - start;
		const size_t part = size - done < left ? size - done : left;

		rc = chunk_read_part(store, value, (uint32_t)((offset + done) / STORE_CHUNK), start,
				     bytes + done, part, scratch);
		done += part;
	}
	mem_free(scratch);
	return rc;
}

/* What of `size` bytes at `offset` lies within a value of `total`. */
static size_t clip(uint64_t total, uint64_t offset, size_t size)
{
	if (offset >= total)
		return 0;
	return total - offset < size ? (size_t)(total - offset) : size;
}

static int read_loaded(struct store *store, const struct entry *e, uint64_t offset, uint8_t *bytes,
		       size_t size)
{
	if (entry_is_table(e))
		return -EISDIR;
	if (!S_ISREG(e->mode))
		return -EINVAL;
	if (e->value_id)
		return value_read(store, e->value_id, offset, bytes, size);
	if (size)
		memcpy(bytes, (const uint8_t *)e->contents.data + offset, size);
	return 0;
}

/* -EAGAIN: the value was changed while it was being read. */
static ssize_t read_try(struct store *store, struct place place, uint64_t offset, void *bytes,
			size_t size)
{
	uint8_t room[RECORD_ROOM];
	struct loaded before = { .record = buffer_on(room, sizeof(room)) }, after = { 0 };
	ssize_t rc = loaded_read_live(store, place, &before);

	if (rc < 0)
		goto out;
	size = clip(before.entry.size, offset, size);
	rc = read_loaded(store, &before.entry, offset, bytes, size);
	if (before.entry.value_id && size) {
		const int again = loaded_read(store, place, &after);

		if (again == -ENOENT || (again == 0 && !slice_equal(buffer_slice(&before.record),
								    buffer_slice(&after.record))))
			rc = -EAGAIN;
		else if (again < 0)
			rc = again;
	}
	if (rc == 0)
		rc = (ssize_t)size;
out:
	loaded_done(&before);
	loaded_done(&after);
	return rc;
}

ssize_t store_read(struct store *store, struct place place, uint64_t offset, void *bytes,
		   size_t size)
{
	ssize_t rc = -EAGAIN;

	for (int tries = 0; tries < READ_TRIES && rc == -EAGAIN; tries++)
		rc = read_try(store, place, offset, bytes, size);
	if (rc == -EAGAIN) {
		store_lock_to_change(store);
		rc = read_try(store, place, offset, bytes, size);
		mutex_unlock(&store->lock);
	}
	return rc;
}

/* ---- holding -------------------------------------------------------------------------------- */

int value_hold(struct store *store, uint64_t value, uint64_t *stamp)
{
	struct idmap_slot *slot = idmap_add(&store->held, value);

	if (!slot)
		return -ENOMEM;
	slot->a++;
	*stamp = slot->b;
	return 0;
}

void value_release(struct store *store, uint64_t value)
{
	struct idmap_slot *slot = idmap_find(&store->held, value);

	assert(slot && (slot->a & ~HELD_DOOMED) > 0);
	slot->a--;
	if (slot->a & ~HELD_DOOMED)
		return;
	if (slot->a & HELD_DOOMED)
		reclaim_wake(store);
	idmap_remove(&store->held, slot);
}

bool value_held(struct store *store, uint64_t value)
{
	return idmap_find(&store->held, value) != NULL;
}

uint64_t value_stamp(struct store *store, uint64_t value, bool raise)
{
	struct idmap_slot *slot = idmap_find(&store->held, value);

	assert(slot);
	if (raise)
		slot->b++;
	return slot->b;
}

/* ---- letting go ----------------------------------------------------------------------------- */

void batch_doom_from(struct batch *batch, uint64_t value, uint32_t first)
{
	const struct record_key key = record_doomed(value);
	uint8_t record[DOOMED_SIZE];

	put32(record, first);
	batch_put(batch, record_slice(&key), slice_of(record, sizeof(record)));
}

void batch_doom(struct batch *batch, struct store *store, uint64_t value, uint64_t size)
{
	if (!value)
		return;
	if (chunk_count(size) > DELETE_AT_ONCE || value_held(store, value)) {
		batch_doom_from(batch, value, 0);
		return;
	}
	for (uint32_t i = 0; i < chunk_count(size); i++) {
		const struct record_key key = record_chunk(value, i);

		batch_delete(batch, record_slice(&key));
	}
}

void value_doomed(struct store *store, uint64_t value, uint64_t stored)
{
	struct idmap_slot *slot = value ? idmap_find(&store->held, value) : NULL;

	if (slot) {
		slot->a |= HELD_DOOMED;
	} else if (value) {
		if (stored > (uint64_t)DELETE_AT_ONCE * STORE_CHUNK)
			atomic_fetch_add(&store->doomed, stored);
		reclaim_wake(store);
	}
}

struct collect {
	uint32_t numbers[DELETE_STEP];
	int count, max;
};

static int visit_collect(void *arg, const struct engine_entry *entry)
{
	struct collect *c = arg;
	uint64_t value;
	int rc;

	if (c->count == c->max)
		return 1;
	rc = record_chunk_parse(entry->key, &value, &c->numbers[c->count]);
	if (rc == 0)
		c->count++;
	return rc;
}

static int delete_collected(struct store *store, uint64_t value, const struct collect *c,
			    bool undoom)
{
	const struct record_key doomed = record_doomed(value);
	struct batch batch = { 0 };
	uint64_t revision;
	int rc = 0;

	for (int i = 0; i < c->count; i++) {
		const struct record_key key = record_chunk(value, c->numbers[i]);

		batch_delete(&batch, record_slice(&key));
	}
	if (undoom)
		batch_delete(&batch, record_slice(&doomed));
	if (batch.count || batch.failed)
		rc = engine_commit(store->engine, &batch, true, &revision);
	batch_done(&batch);
	return rc;
}

int chunks_delete(struct store *store, uint64_t value, uint32_t first, int max, bool undoom)
{
	const struct record_key from = record_chunk(value, first);
	const struct record_key prefix = record_chunks_of(value);
	struct collect *c = mem_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->count = 0;
	c->max = max < DELETE_STEP ? max : DELETE_STEP;
	rc = records_scan(store->engine, record_slice(&from), record_slice(&prefix), visit_collect,
			  c);
	if (rc >= 0)
		rc = delete_collected(store, value, c, undoom && c->count < c->max);
	if (rc == 0)
		rc = c->count;
	mem_free(c);
	return rc;
}

int doomed_read(struct store *store, uint64_t value, uint32_t *first)
{
	const struct record_key key = record_doomed(value);
	struct buffer record = { 0 };
	int rc = engine_get(store->engine, record_slice(&key), &record, NULL);

	if (rc == 0)
		rc = doomed_parse(buffer_slice(&record), first);
	buffer_done(&record);
	return rc;
}

int value_cut_step(struct store *store, uint64_t value, int max)
{
	uint32_t first;
	const int rc = doomed_read(store, value, &first);

	if (rc < 0 || first == 0)
		return rc == -ENOENT ? 0 : rc;
	return chunks_delete(store, value, first, max, true);
}

int value_finish_cut(struct store *store, uint64_t value, uint64_t chunks)
{
	uint32_t first;
	int rc = doomed_read(store, value, &first);

	if (rc < 0 || first == 0 || chunks <= first)
		return rc == -ENOENT ? 0 : rc;
	do
		rc = value_cut_step(store, value, DELETE_STEP);
	while (rc == DELETE_STEP);
	return rc < 0 ? rc : 0;
}
