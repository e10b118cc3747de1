/* Holes of a value: making them, and finding where they are.
 *
 * A chunk has data if a piece with bytes is staged for it, or, where none is staged, if the floor
 * has a record of it. A piece without bytes is a hole over such a record: it takes the record
 * away when it is published. */
#include <errno.h>

#include "draft_impl.h"
#include "mem.h"

enum { SCAN_STEP = 1024 };	/* records that are looked at under one lock of the engine */

/* ---- finding --------------------------------------------------------------------------------- */

/* A look for the first chunk from `next` on that has data, or that has none. `staged` lies over
 * the records of `value` below chunk `stop`. */
struct search {
	const struct staged *staged;	/* NULL: nothing is staged */
	uint64_t value;			/* 0: there is no floor */
	uint64_t stop;
	uint64_t next;			/* all chunks before it are of the other kind */
	uint64_t from;			/* where scanning the records goes on */
	unsigned left;			/* records still to be looked at under this lock */
	bool hole;			/* look for a chunk without data */
	bool found;
};

/* What is staged for a chunk: 1 data, 0 a hole, -1 nothing. */
static int staged_kind(const struct search *s, uint64_t number)
{
	const struct piece *piece = s->staged && number <= UINT32_MAX ?
					    staged_find(s->staged, (uint32_t)number) :
					    NULL;

	return piece ? piece->used > 0 : -1;
}

/* Goes on to chunk `number`, of which there is a record; true if the search is over. */
static bool meet_record(struct search *s, uint64_t number)
{
	if (!s->hole) {
		s->found = staged_kind(s, number) != 0;
		s->next = number;
		return s->found;
	}
	while (s->next < number && staged_kind(s, s->next) == 1)
		s->next++;
	s->found = s->next < number || staged_kind(s, number) == 0;
	s->next += !s->found;
	return s->found;
}

static int visit_record(void *arg, const struct engine_entry *entry)
{
	struct search *s = arg;
	uint64_t value;
	uint32_t number;
	const int rc = record_chunk_parse(entry->key, &value, &number);

	if (rc < 0)
		return rc;
	if (number >= s->stop)
		return 1;
	s->from = (uint64_t)number + 1;
	return meet_record(s, number) || --s->left == 0;
}

static int search_records(struct store *store, struct search *s)
{
	const struct record_key prefix = record_chunks_of(s->value);
	int rc = 1;

	s->from = s->next;
	while (rc == 1 && !s->found && s->from < s->stop) {
		const struct record_key from = record_chunk(s->value, (uint32_t)s->from);

		s->left = SCAN_STEP;
		rc = records_scan(store->engine, record_slice(&from), record_slice(&prefix),
				  visit_record, s);
		if (rc == 1 && s->left)
			break;		/* found, or beyond the end */
	}
	return rc < 0 ? rc : 0;
}

/* The first chunk from `first` on that is staged with bytes; UINT64_MAX: there is none. */
static uint64_t staged_data(const struct staged *staged, uint64_t first)
{
	size_t i = first <= UINT32_MAX ? staged_index(staged, (uint32_t)first) : staged->count;

	while (i < staged->count && staged->pieces[i]->used == 0)
		i++;
	return i < staged->count ? staged->pieces[i]->number : UINT64_MAX;
}

/* The first chunk of the kind that is looked for; UINT64_MAX: there is none with data. */
static int search_run(struct store *store, struct search *s, uint64_t *out)
{
	const uint64_t first = s->next;
	uint64_t staged;
	int rc = s->value && first < s->stop ? search_records(store, s) : 0;

	if (rc < 0)
		return rc;
	if (s->hole) {
		while (!s->found && staged_kind(s, s->next) == 1)
			s->next++;
		*out = s->next;
		return 0;
	}
	staged = s->staged ? staged_data(s->staged, first) : UINT64_MAX;
	*out = s->found && s->next < staged ? s->next : staged;
	return 0;
}

/* From chunks to bytes of a value of `size`. */
static int seek_with(struct store *store, struct search *s, uint64_t offset, uint64_t size,
		     uint64_t *found)
{
	uint64_t number, at;
	int rc;

	if (offset >= size)
		return -ENXIO;
	s->next = offset / STORE_CHUNK;
	rc = search_run(store, s, &number);
	if (rc < 0)
		return rc;
	at = number < chunk_count(size) ? number * STORE_CHUNK : size;
	if (!s->hole && at == size)
		return -ENXIO;
	*found = at > offset ? at : offset;
	return 0;
}

int draft_seek(struct draft *d, uint64_t offset, bool hole, uint64_t *found)
{
	struct search s = { .staged = &d->staged, .hole = hole };
	int rc;

	mutex_lock(&d->lock);
	s.value = d->floor;
	s.stop = d->floor_chunks;
	rc = seek_with(d->store, &s, offset, d->size, found);
	mutex_unlock(&d->lock);
	return rc;
}

/* A small value is all data. */
static int seek_small(uint64_t offset, bool hole, uint64_t size, uint64_t *found)
{
	if (offset >= size)
		return -ENXIO;
	*found = hole ? size : offset;
	return 0;
}

static int seek_begin(struct store *store, struct place place, uint64_t *value, uint64_t *size)
	NEEDS(store->lock)
{
	struct loaded l = { 0 };
	uint64_t stamp;
	int rc = loaded_read_live(store, place, &l);

	if (rc == 0 && entry_is_table(&l.entry))
		rc = -EISDIR;
	else if (rc == 0 && !S_ISREG(l.entry.mode))
		rc = -EINVAL;
	if (rc == 0 && l.entry.value_id)
		rc = value_hold(store, l.entry.value_id, &stamp);
	if (rc == 0) {
		*value = l.entry.value_id;
		*size = l.entry.size;
	}
	loaded_done(&l);
	return rc;
}

int store_seek(struct store *store, struct place place, uint64_t offset, bool hole,
	       uint64_t *found)
{
	struct search s = { .hole = hole };
	uint64_t size = 0;
	int rc;

	mutex_lock(&store->lock);
	rc = seek_begin(store, place, &s.value, &size);
	mutex_unlock(&store->lock);
	if (rc < 0)
		return rc;
	if (!s.value)
		return seek_small(offset, hole, size, found);
	s.stop = chunk_count(size);
	rc = seek_with(store, &s, offset, size, found);
	mutex_lock(&store->lock);
	value_release(store, s.value);
	mutex_unlock(&store->lock);
	return rc;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* Puts a hole over the floor's chunk `number`, for which nothing is staged. */
static int cover(struct draft *d, uint32_t number) NEEDS(d->lock)
{
	struct piece *piece;
	int rc;

	if (d->staged.count >= d->pieces_max)
		return -EFBIG;
	rc = staged_reserve(&d->staged, 1);
	if (rc < 0)
		return rc;
	piece = piece_new(number);
	if (!piece)
		return -ENOMEM;
	staged_put(&d->staged, piece);
	return 0;
}

/* Covers the floor's chunks from `first` up to `stop`. */
static int cover_all(struct draft *d, uint64_t first, uint64_t stop) NEEDS(d->lock)
{
	struct search s = { .staged = &d->staged, .value = d->floor, .stop = stop, .next = first };
	int rc = 0;

	while (rc == 0 && s.next < stop) {
		s.found = false;
		rc = search_records(d->store, &s);
		if (rc < 0 || !s.found)
			break;
		rc = cover(d, (uint32_t)s.next++);
	}
	return rc;
}

/* Takes all data away from the chunks from `first` up to `stop`. */
static int punch_chunks(struct draft *d, uint64_t first, uint64_t stop) NEEDS(d->lock)
{
	const uint64_t seen = stop < d->floor_chunks ? stop : d->floor_chunks;

	if (first >= stop)
		return 0;
	for (size_t i = staged_index(&d->staged, (uint32_t)first);
	     i < d->staged.count && d->staged.pieces[i]->number < stop; i++)
		piece_clear(&d->staged, d->staged.pieces[i]);
	return d->floor ? cover_all(d, first, seen) : 0;
}

/* Writes zeros to a part of one chunk, unless nothing else is there. */
static int punch_part(struct draft *d, uint64_t offset, uint64_t end)
{
	static const uint8_t zeros[STORE_CHUNK];
	uint64_t data;
	const int rc = draft_seek(d, offset, false, &data);

	if (rc < 0 || data >= end)
		return rc == -ENXIO ? 0 : rc;
	return draft_write(d, offset, slice_of(zeros, (size_t)(end - offset)));
}

/* The chunks that lie whole in it lose their data; what is left at both ends is written. A value's
 * last chunk is whole where the value ends. */
int draft_punch(struct draft *d, uint64_t offset, uint64_t size)
{
	const uint64_t total = draft_size(d), left = total > offset ? total - offset : 0;
	const uint64_t end = size < left ? offset + size : total;
	const uint64_t first = chunk_count(offset);
	const uint64_t stop = end == total ? chunk_count(end) : end / STORE_CHUNK;
	int rc = 0;

	if (left == 0 || size == 0)
		return 0;
	if (first > stop)
		return punch_part(d, offset, end);
	if (offset % STORE_CHUNK)
		rc = punch_part(d, offset, first * STORE_CHUNK < end ? first * STORE_CHUNK : end);
	if (rc == 0 && stop * STORE_CHUNK < end)
		rc = punch_part(d, stop * STORE_CHUNK, end);
	if (rc < 0)
		return rc;
	mutex_lock(&d->lock);
	draft_touch(d);
	rc = punch_chunks(d, first, stop);
	mutex_unlock(&d->lock);
	return rc;
}

int draft_grow(struct draft *d, uint64_t size)
{
	return size <= draft_size(d) ? 0 : draft_truncate(d, size);
}
