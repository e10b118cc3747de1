/* Publishing a draft: what is staged becomes the entry's next version, in one commit. */
#include <errno.h>

#include "draft_impl.h"

enum { CUT_AT_ONCE = 64 };	/* chunks; more of them are deleted in the background */

struct publication {
	struct place place;
	bool small;			/* the value goes into the entry */
	bool cut_later;			/* what was cut off is left to the reclaimer */
	uint64_t stored;		/* bytes that are kept of a value that is not small */
	uint8_t contents[STORE_INLINE_MAX];
	struct loaded old;
	struct entry fresh;
	struct batch batch;
};

static int prepare_small(struct draft *d, struct publication *p) NEEDS(d->lock)
{
	struct piece *piece;
	int rc;

	if (d->size == 0)
		return 0;
	rc = draft_fetch(d, 0);
	if (rc < 0)
		return rc;
	piece = staged_find(&d->staged, 0);
	chunk_copy(p->contents, (size_t)d->size, piece ? piece->bytes : NULL,
		   piece ? piece->used : 0, 0);
	return 0;
}

static void batch_cut(struct draft *d, struct publication *p) NEEDS(d->lock)
{
	const uint64_t count = d->floor_high - d->floor_chunks;
	const bool grown_again = chunk_count(d->size) > d->floor_chunks;

	p->cut_later = count > (grown_again ? d->pieces_max : CUT_AT_ONCE);
	if (p->cut_later) {
		batch_doom_from(&p->batch, d->floor, (uint32_t)d->floor_chunks);
		return;
	}
	for (uint64_t i = d->floor_chunks; i < d->floor_high; i++) {
		const struct record_key key = record_chunk(d->floor, (uint32_t)i);

		batch_delete(&p->batch, record_slice(&key));
	}
}

static int prepare_large(struct draft *d, struct publication *p) NEEDS(d->lock)
{
	int rc = draft_settle(d);

	if (rc == 0 && !d->floor)
		rc = draft_floor_begin(d);
	if (rc == 0 && !d->in_place)
		rc = draft_built_cut(d);
	if (rc < 0)
		return rc;
	batch_cut(d, p);
	p->stored = draft_batch_pieces(d, &p->batch);
	if (d->doomed) {
		const struct record_key key = record_doomed(d->floor);

		batch_delete(&p->batch, record_slice(&key));
	}
	return 0;
}

/* Is the entry still ours, and its value still the one we changed? */
static int publish_check(struct draft *d, struct publication *p) NEEDS(d->lock, d->store->lock)
{
	int rc = loaded_read_live(d->store, p->place, &p->old);

	if (rc < 0)
		return rc;
	if (p->old.entry.id != d->entry_id)
		return -ENOENT;
	if (!d->in_place || !d->since_ns)
		return 0;
	if (p->old.entry.value_id != d->floor ||
	    value_stamp(d->store, d->floor, false) != d->floor_stamp)
		return -ESTALE;	/* another draft published meanwhile */
	return p->small ? 0 : value_finish_cut(d->store, d->floor, chunk_count(d->size));
}

static struct entry publish_entry(struct draft *d, const struct publication *p) NEEDS(d->lock)
{
	struct entry fresh = p->old.entry;
	const bool keep = fresh.flags & ENTRY_VERSION_NEXT && fresh.version > 0;

	fresh.version += !keep;
	fresh.flags = keep ? ENTRY_VERSION_SET : 0;
	fresh.size = d->size;
	fresh.holes = p->small ? 0 : d->size - p->stored;
	fresh.value_id = p->small ? 0 : d->floor;
	fresh.contents = p->small ? slice_of(p->contents, (size_t)d->size) : slice_of(NULL, 0);
	if (d->since_ns)	/* else nothing has changed since it was made */
		fresh.ctime_ns = store_now(d->store);
	if (d->mtime_ns)
		fresh.mtime_ns = d->mtime_ns;
	return fresh;
}

static int publish_commit(struct draft *d, struct publication *p, uint64_t *revision)
	NEEDS(d->lock, d->store->lock)
{
	const uint64_t old = p->old.entry.value_id;
	int rc;

	p->fresh = publish_entry(d, p);
	batch_entry(&p->batch, p->place, &p->old.entry, &p->fresh);
	if (old != p->fresh.value_id)
		batch_doom(&p->batch, d->store, old, p->old.entry.size);
	rc = store_commit(d->store, &p->batch, false, revision);
	if (rc < 0)
		return rc;
	if (old != p->fresh.value_id)
		value_doomed(d->store, old, p->old.entry.size - p->old.entry.holes);
	if (!p->small)
		d->floor_stamp = value_stamp(d->store, d->floor, true);
	if (p->cut_later)
		reclaim_wake(d->store);
	return 0;
}

/* What it published is its first piece, if any, which lies on nothing from here on. */
static void adopt_small(struct draft *d) NEEDS(d->lock)
{
	draft_floor_leave(d);
	for (size_t i = 0; i < d->staged.count; i++) {
		d->staged.pieces[i]->base = (struct chunk_shape){ 0 };
		d->staged.pieces[i]->base_known = true;
	}
}

/* The draft now lies on what it published. */
static void publish_adopt(struct draft *d, struct publication *p) NEEDS(d->lock)
{
	d->since_ns = 0;
	d->mtime_ns = 0;
	d->window_valid = false;
	if (p->small) {
		adopt_small(d);
		return;
	}
	staged_forget_runs(&d->staged);
	staged_clear(&d->staged);
	d->in_place = true;
	d->doomed = false;
	d->floor_chunks = d->floor_high = chunk_count(d->size);
	d->floor_stored = p->stored;
	d->floor_size = d->size;
}

static int publish_try(struct draft *d, struct publication *p, uint64_t *revision) NEEDS(d->lock)
{
	int rc;

	p->small = d->size <= STORE_INLINE_MAX;
	rc = p->small ? prepare_small(d, p) : prepare_large(d, p);
	if (rc < 0)
		return rc;
	store_lock_to_change(d->store);
	rc = publish_check(d, p);
	if (rc == 0)
		rc = publish_commit(d, p, revision);
	mutex_unlock(&d->store->lock);
	if (rc == 0)
		publish_adopt(d, p);
	return rc;
}

static int publish_staged(struct draft *d, struct publication *p, uint64_t *revision) NEEDS(d->lock)
{
	int rc = publish_try(d, p, revision);

	if (rc == -ENOSPC && !p->small && draft_scatter(d)) {
		batch_clear(&p->batch);
		rc = publish_try(d, p, revision);
	}
	return rc;
}

/* With nothing staged there is something to publish only if the entry never was. */
static int publish_nothing(struct draft *d, struct publication *p, uint64_t *revision)
	NEEDS(d->lock)
{
	int rc;

	mutex_lock(&d->store->lock);
	rc = publish_check(d, p);
	mutex_unlock(&d->store->lock);
	if (rc < 0)
		return rc;
	if (p->old.entry.flags & ENTRY_UNPUBLISHED)
		return publish_staged(d, p, revision);
	p->fresh = p->old.entry;
	*revision = 0;
	return 0;
}

int draft_publish(struct draft *d, struct place place, struct attr *out, uint64_t *revision)
{
	uint8_t record[RECORD_ROOM], batch[BATCH_ROOM];
	struct publication p = {
		.place = place,
		.old.record = buffer_on(record, sizeof(record)),
		.batch.bytes = buffer_on(batch, sizeof(batch)),
	};
	int rc;

	mutex_lock(&d->lock);
	rc = d->since_ns ? publish_staged(d, &p, revision) : publish_nothing(d, &p, revision);
	if (rc == 0 && out)
		attr_describe(&p.fresh, NULL, out);
	mutex_unlock(&d->lock);
	loaded_done(&p.old);
	batch_done(&p.batch);
	return rc;
}
