/* A draft is its staged pieces lying on a *floor*: a value in chunks, read where nothing is staged.
 *
 *              built_flush                    published
 *   NO FLOOR ---------------> UNDER WAY ---------------------> IN PLACE, again and again
 *      |                                                          ^
 *      '---------------------- published -------------------------'
 *
 * UNDER WAY the floor is a new value into which pieces move when there are too many; a record dooms
 * it until it is published. IN PLACE it is the entry's published value. From both, truncating to 0
 * and publishing a small value lead back to NO FLOOR.
 *
 * Only what lies in chunks below floor_chunks is seen of a floor; the rest was cut off, and its
 * records (up to floor_high) must go before or when the value grows over them. A value of up
 * to STORE_INLINE_MAX bytes has no floor: it is the first piece, staged or not.
 *
 * A write to a part of a chunk that lies on the floor reads nothing of it: the piece has only the
 * changes, until they are too many to be worth it (or memory is short); then it is made whole. */
#include "draft_impl.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

enum {
	FLUSH_PIECES = 4096,		/* of a value under way, before they move into the tree */
	BATCH_BYTES_PER_PIECE = 128,	/* a piece's record and a cut one's deletion, generously */
};

/* ---- the floor ------------------------------------------------------------------------------- */

void draft_floor_leave(struct draft *d)
{
	if (d->floor) {
		mutex_lock(&d->store->lock);
		if (d->doomed)
			value_doomed(d->store, d->floor, d->floor_stored);
		value_release(d->store, d->floor);
		mutex_unlock(&d->store->lock);
	}
	d->floor = 0;
	d->floor_chunks = d->floor_high = 0;
	d->floor_stored = d->floor_size = 0;
	d->in_place = d->doomed = false;
}

/* Begins a new value. */
int draft_floor_begin(struct draft *d)
{
	uint64_t id;
	int rc;

	mutex_lock(&d->store->lock);
	rc = store_take_id(d->store, &id);
	if (rc == 0)
		rc = value_hold(d->store, id, &d->floor_stamp);
	mutex_unlock(&d->store->lock);
	if (rc == 0)
		d->floor = id;
	return rc;
}

/* Deletes what was cut off a value under way. */
int draft_built_cut(struct draft *d)
{
	int rc = 0;

	while (rc == 0 && d->floor_high > d->floor_chunks) {
		rc = chunks_delete(d->store, d->floor, (uint32_t)d->floor_chunks, 1024, false);
		if (rc == 0)
			d->floor_high = d->floor_chunks;
		rc = rc < 0 ? rc : 0;
	}
	return rc;
}

/* The pieces are in the floor now. */
static void built_flushed(struct draft *d, uint64_t stored) NEEDS(d->lock)
{
	const struct piece *last = d->staged.pieces[d->staged.count - 1];
	const uint64_t end = (uint64_t)last->number * STORE_CHUNK + last->used;

	if (last->number >= d->floor_chunks)
		d->floor_chunks = d->floor_high = (uint64_t)last->number + 1;
	if (end > d->floor_size)
		d->floor_size = end;
	d->floor_stored = stored;
	d->doomed = true;
	d->window_valid = false;
	staged_forget_runs(&d->staged);
	staged_clear(&d->staged);
}

static int built_flush_try(struct draft *d) NEEDS(d->lock)
{
	struct batch batch = { 0 };
	uint64_t revision, stored;
	int rc = draft_settle(d);

	if (rc == 0)
		rc = d->floor ? draft_built_cut(d) : draft_floor_begin(d);
	if (rc < 0)
		goto out;
	if (!d->doomed)
		batch_doom_from(&batch, d->floor, 0);
	stored = draft_batch_pieces(d, &batch);
	store_lock_to_change(d->store);	/* store_verify must not see the half of it */
	rc = store_commit(d->store, &batch, false, &revision);
	mutex_unlock(&d->store->lock);
	if (rc < 0)
		goto out;
	built_flushed(d, stored);
out:
	batch_done(&batch);
	return rc;
}

bool draft_scatter(struct draft *d)
{
	return d->staged.memory > 0 && draft_spill(d, 0, 1, 0) == 0;
}

/* Moves all pieces of a value under way into the tree, where nobody sees them yet. */
static int built_flush(struct draft *d) NEEDS(d->lock)
{
	int rc = built_flush_try(d);

	return rc == -ENOSPC && draft_scatter(d) ? built_flush_try(d) : rc;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_contents(struct draft *d, struct slice contents)
{
	struct piece *piece;
	int rc;

	if (contents.size == 0)
		return 0;
	piece = piece_new(0);
	rc = piece ? staged_reserve(&d->staged, 1) : -ENOMEM;
	if (rc == 0)
		rc = piece_reserve(&d->staged, piece, (uint32_t)contents.size);
	if (rc < 0) {
		piece_free(&d->staged, piece);
		return rc;
	}
	memcpy(piece->bytes, contents.data, contents.size);
	piece->used = (uint32_t)contents.size;
	staged_put(&d->staged, piece);
	return 0;
}

static int open_entry(struct draft *d, const struct entry *e) NEEDS(d->store->lock)
{
	int rc;

	if (entry_is_table(e))
		return -EISDIR;
	if (!S_ISREG(e->mode))
		return -EINVAL;
	d->entry_id = e->id;
	d->size = e->size;
	if (!e->value_id)
		return open_contents(d, e->contents);
	rc = value_hold(d->store, e->value_id, &d->floor_stamp);
	if (rc < 0)
		return rc;
	d->floor = e->value_id;
	d->floor_chunks = d->floor_high = chunk_count(e->size);
	d->floor_stored = e->size - e->holes;
	d->floor_size = e->size;
	d->in_place = true;
	return 0;
}

static size_t pieces_max(struct store *store)
{
	const uint64_t fit = engine_batch_max(store->engine) / BATCH_BYTES_PER_PIECE;

	return fit < DRAFT_CHUNKS_MAX ? (size_t)fit : DRAFT_CHUNKS_MAX;
}

int draft_open(struct store *store, struct place place, struct draft **out)
{
	struct draft *d = mem_zalloc(sizeof(*d));
	struct loaded l = { 0 };
	int rc;

	if (!d)
		return -ENOMEM;
	d->store = store;
	d->staged.store = store;
	d->pieces_max = pieces_max(store);
	mutex_init(&d->lock);
	mutex_lock(&d->store->lock);
	rc = loaded_read(store, place, &l);
	if (rc == 0)
		rc = open_entry(d, &l.entry);
	mutex_unlock(&d->store->lock);
	loaded_done(&l);
	if (rc < 0) {
		draft_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void draft_close(struct draft *d)
{
	if (!d)
		return;
	mutex_lock(&d->lock);
	staged_clear(&d->staged);
	draft_floor_leave(d);
	mutex_unlock(&d->lock);
	mutex_done(&d->lock);
	mem_free(d->window);
	mem_free(d);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Can a chunk be seen without reading anything? */
static bool has(struct draft *d, uint32_t number) NEEDS(d->lock)
{
	const struct piece *piece = staged_find(&d->staged, number);

	if (piece && piece->changes)
		return piece->base_known && !piece->base.kind;
	return piece ? !piece->run.length : number >= d->floor_chunks;
}

/* Reads what lies below a piece's changes, or what a chunk that is not in memory holds; `bytes` has
 * STORE_CHUNK of room. */
static int below_fetch(struct draft *d, uint32_t number, uint8_t *bytes, uint32_t *used)
	NEEDS(d->lock)
{
	const struct piece *piece = staged_find(&d->staged, number);
	int rc;

	if (piece && piece->run.length) {
		*used = piece->used;
		rc = engine_run_read(d->store->engine, &piece->run, bytes);
		if (rc == -EBADMSG)	/* it is ours, so nobody replaced it */
			engine_run_damaged(d->store->engine, &piece->run);
		return rc;
	}
	if ((!piece || piece->changes) && d->floor && number < d->floor_chunks)
		return chunk_read(d->store, d->floor, number, bytes, used);
	*used = 0;
	return 0;
}

/* The same, with the changes. */
static int chunk_fetch(struct draft *d, uint32_t number, uint8_t *bytes, uint32_t *used)
	NEEDS(d->lock)
{
	const struct piece *piece = staged_find(&d->staged, number);
	const int rc = below_fetch(d, number, bytes, used);

	if (rc == 0 && piece && piece->changes) {
		memset(bytes + *used, 0, STORE_CHUNK - *used);
		patches_lay(buffer_slice(&piece->changes->list), bytes, 0, STORE_CHUNK);
		*used = piece->used;
	}
	return rc;
}

static int window_move(struct draft *d, uint32_t number) NEEDS(d->lock)
{
	int rc;

	if (d->window_valid && d->window_number == number)
		return 0;
	if (!d->window)
		d->window = mem_alloc(STORE_CHUNK);
	if (!d->window)
		return -ENOMEM;
	d->window_valid = false;
	rc = below_fetch(d, number, d->window, &d->window_used);
	d->window_valid = rc == 0;
	d->window_number = number;
	return rc;
}

/* Copies a part of a chunk of which `used` bytes are there. */
void chunk_copy(uint8_t *to, size_t size, const uint8_t *chunk, uint32_t used, uint32_t start)
{
	size_t have = used > start ? used - start : 0;

	if (have > size)
		have = size;
	if (have)
		memcpy(to, chunk + start, have);
	memset(to + have, 0, size - have);
}

/* Reads a part of a piece that has changes only. */
static int read_changed(struct draft *d, const struct piece *piece, uint32_t start, uint8_t *to,
			size_t size) NEEDS(d->lock)
{
	const struct slice list = buffer_slice(&piece->changes->list);
	uint32_t at;
	int rc;

	if (patches_find(list, start, (uint32_t)size, &at)) {
		memcpy(to, (const uint8_t *)list.data + at, size);
		return 0;
	}
	if (has(d, piece->number)) {
		memset(to, 0, size);
	} else {
		rc = window_move(d, piece->number);
		if (rc < 0)
			return rc;
		chunk_copy(to, size, d->window, d->window_used, start);
	}
	patches_lay(list, to, start, (uint32_t)size);
	return 0;
}

static int read_part(struct draft *d, uint32_t number, uint32_t start, uint8_t *to, size_t size)
	NEEDS(d->lock)
{
	const struct piece *piece = staged_find(&d->staged, number);
	uint32_t used;
	int rc;

	if (piece && piece->changes)
		return read_changed(d, piece, start, to, size);
	if (has(d, number)) {
		chunk_copy(to, size, piece ? piece->bytes : NULL, piece ? piece->used : 0, start);
		return 0;
	}
	if (size == STORE_CHUNK) {
		rc = chunk_fetch(d, number, to, &used);
		if (rc == 0)
			memset(to + used, 0, size - used);
		return rc;
	}
	rc = window_move(d, number);
	if (rc == 0)
		chunk_copy(to, size, d->window, d->window_used, start);
	return rc;
}

static ssize_t read_locked(struct draft *d, uint64_t offset, uint8_t *bytes, size_t size)
	NEEDS(d->lock)
{
	size_t done = 0;
	int rc = 0;

	if (offset >= d->size)
		return 0;
	if (size > d->size - offset)
		size = (size_t)(d->size - offset);
	while (rc == 0 && done < size) {
		const uint32_t start = (uint32_t)((offset + done) % STORE_CHUNK);
		const size_t left = STORE_CHUNK - start;
		const size_t part = size - done < left ? size - done : left;

		rc = read_part(d, (uint32_t)((offset + done) / STORE_CHUNK), start, bytes + done,
			       part);
		done += part;
	}
	return rc < 0 ? rc : (ssize_t)size;
}

ssize_t draft_read(struct draft *d, uint64_t offset, void *bytes, size_t size)
{
	ssize_t rc;

	mutex_lock(&d->lock);
	rc = read_locked(d, offset, bytes, size);
	mutex_unlock(&d->lock);
	return rc;
}

/* ---- staging --------------------------------------------------------------------------------- */

void draft_touch(struct draft *d)
{
	struct os *os = d->store->os;

	if (!d->since_ns) {
		d->since_ns = os->monotonic_ns(os);
		d->since_ns += d->since_ns == 0;
	}
	d->mtime_ns = store_now(d->store);
	d->window_valid = false;
}

/* Gives a new piece, to be put in place of the present one, if there is one. */
static struct piece *piece_renew(struct draft *d, uint32_t number) NEEDS(d->lock)
{
	const struct piece *present = staged_find(&d->staged, number);
	struct piece *piece = piece_new(number);

	if (piece && present) {
		piece->base = present->base;
		piece->base_known = present->base_known;
	}
	return piece;
}

/* Gives a new piece with the contents of a chunk that is not whole in memory. */
static int piece_fetch(struct draft *d, uint32_t number, struct piece **out) NEEDS(d->lock)
{
	struct piece *piece = piece_renew(d, number);
	int rc = piece ? piece_reserve(&d->staged, piece, STORE_CHUNK) : -ENOMEM;

	if (rc == 0)
		rc = chunk_fetch(d, number, piece->bytes, &piece->used);
	if (rc < 0)
		piece_free(&d->staged, piece);
	else
		*out = piece;
	return rc;
}

int draft_fetch(struct draft *d, uint32_t number)
{
	struct piece *piece = staged_find(&d->staged, number);
	int rc;

	if (piece && piece->changes)
		return draft_make_whole(d, piece);
	if (has(d, number))
		return 0;
	rc = staged_reserve(&d->staged, 1);
	if (rc == 0)
		rc = piece_fetch(d, number, &piece);
	if (rc == 0)
		staged_put(&d->staged, piece);
	return rc;
}

int draft_make_whole(struct draft *d, struct piece *piece)
{
	uint32_t used;
	int rc = piece_reserve(&d->staged, piece, STORE_CHUNK);

	if (rc == 0)
		rc = chunk_fetch(d, piece->number, piece->bytes, &used);
	if (rc == 0) {
		piece_forget_changes(&d->staged, piece);
		d->window_valid = false;
	}
	return rc;
}

int draft_spill(struct draft *d, size_t target, uint32_t keep, uint32_t keep_last)
{
	int rc = staged_spill(&d->staged, target, keep, keep_last);

	for (size_t i = 0; i < d->staged.count && rc == 0 && d->staged.memory > target; i++) {
		struct piece *piece = d->staged.pieces[i];

		if (!piece->changes || (piece->number >= keep && piece->number <= keep_last))
			continue;
		rc = draft_make_whole(d, piece);
		if (rc == 0)
			rc = staged_spill_piece(&d->staged, piece);
	}
	return rc;
}

/* A write, split at the edges of chunks. What can fail is done first, on pieces of its own. */
struct write {
	uint64_t offset;
	struct slice bytes;
	uint32_t first, last;		/* chunks */
	struct piece **fresh;		/* to be put: whole chunks, and those that were fetched */
	size_t fresh_count;
};

/* The part of chunk `number` that is written. */
static void write_part(const struct write *w, uint32_t number, uint32_t *start, uint32_t *stop)
{
	const uint64_t end = w->offset + w->bytes.size, base = (uint64_t)number * STORE_CHUNK;

	*start = number == w->first ? (uint32_t)(w->offset - base) : 0;
	*stop = number == w->last ? (uint32_t)(end - base) : STORE_CHUNK;
}

static const uint8_t *write_bytes(const struct write *w, uint32_t number, uint32_t start)
{
	return (const uint8_t *)w->bytes.data +
	       ((uint64_t)number * STORE_CHUNK + start - w->offset);
}

/* A chunk that is written whole goes to the page file at once. */
static int write_whole(struct draft *d, struct write *w, uint32_t number) NEEDS(d->lock)
{
	const struct slice bytes = slice_of(write_bytes(w, number, 0), STORE_CHUNK);
	struct piece *piece = piece_renew(d, number);
	int rc = piece ? store_run_write(d->store, bytes, &piece->run) : -ENOMEM;

	if (rc < 0) {
		mem_free(piece);
		return rc;
	}
	piece->used = STORE_CHUNK;
	w->fresh[w->fresh_count++] = piece;
	return 0;
}

/* Gives a piece for a chunk of which nothing is staged: for changes, unless the chunk begins here,
 * or is changed too much for that. */
static int piece_begin(struct draft *d, uint32_t number, uint32_t start, uint32_t size,
		       struct piece **out) NEEDS(d->lock)
{
	struct piece *piece = piece_new(number);
	int rc = piece ? draft_base(d, piece) : -ENOMEM;

	if (rc == 0 && (piece->base.kind || start > 0)) {
		if (patches_need(size) <= PATCHES_MAX) {
			piece->used = piece->base.used;
			rc = piece_reserve_change(&d->staged, piece, size);
		} else {
			piece_free(&d->staged, piece);
			return piece_fetch(d, number, out);
		}
	}
	if (rc < 0)
		piece_free(&d->staged, piece);
	else
		*out = piece;
	return rc;
}

static int write_prepare_chunk(struct draft *d, struct write *w, uint32_t number) NEEDS(d->lock)
{
	struct piece *piece = staged_find(&d->staged, number), *fresh = NULL;
	uint32_t start, stop;
	int rc = 0;

	write_part(w, number, &start, &stop);
	if (stop - start == STORE_CHUNK)
		return write_whole(d, w, number);
	if (!piece)
		rc = piece_begin(d, number, start, stop - start, &fresh);
	else if (piece->run.length || piece_changes_full(piece, stop - start))
		rc = piece_fetch(d, number, &fresh);
	if (rc < 0)
		return rc;
	if (fresh) {
		w->fresh[w->fresh_count++] = fresh;
		piece = fresh;
	}
	if (piece->changes)
		return piece_reserve_change(&d->staged, piece, stop - start);
	return piece_reserve(&d->staged, piece, stop);
}

static void write_to_piece(struct piece *piece, uint32_t start, struct slice bytes)
{
	const uint32_t stop = start + (uint32_t)bytes.size;

	if (piece->changes) {
		piece->changes->count += patches_add(&piece->changes->list, start, bytes);
	} else {
		if (start > piece->used)
			memset(piece->bytes + piece->used, 0, start - piece->used);
		memcpy(piece->bytes + start, bytes.data, bytes.size);
	}
	if (stop > piece->used)
		piece->used = stop;
}

static void write_apply_chunk(struct draft *d, const struct write *w, uint32_t number)
	NEEDS(d->lock)
{
	struct piece *piece = staged_find(&d->staged, number);
	uint32_t start, stop;

	write_part(w, number, &start, &stop);
	if (stop - start == STORE_CHUNK)
		return;
	write_to_piece(piece, start, slice_of(write_bytes(w, number, start), stop - start));
	/* A chunk filled from front to back is rarely touched again; if there is no room for it
	 * now, whoever needs the memory will be told. */
	if (stop == STORE_CHUNK && w->offset == d->write_end)
		(void)staged_spill_piece(&d->staged, piece);
}

static int write_run(struct draft *d, struct write *w) NEEDS(d->lock)
{
	const size_t count = (size_t)(w->last - w->first) + 1;
	int rc = staged_reserve(&d->staged, count);

	if (rc < 0)
		return rc;
	w->fresh = mem_alloc(count * sizeof(struct piece *));
	if (!w->fresh)
		return -ENOMEM;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = write_prepare_chunk(d, w, w->first + (uint32_t)i);
	for (size_t i = 0; i < w->fresh_count; i++) {
		if (rc < 0)
			piece_free(&d->staged, w->fresh[i]);
		else
			staged_put(&d->staged, w->fresh[i]);
	}
	for (size_t i = 0; i < count && rc == 0; i++)
		write_apply_chunk(d, w, w->first + (uint32_t)i);
	mem_free(w->fresh);
	return rc;
}

/* May the value reach `end`? What was cut off a published value can be deleted in the batch
 * that publishes, or, if that is too much, after it; then nothing may lie there yet. */
static int check_growth(struct draft *d, uint64_t end) NEEDS(d->lock)
{
	if (end > STORE_SIZE_MAX)
		return -EFBIG;
	if (d->in_place && d->floor_high - d->floor_chunks > d->pieces_max &&
	    chunk_count(end) > d->floor_chunks)
		return -EFBIG;
	return 0;
}

/* How many of the chunks to be written are not staged yet. */
static size_t write_adds(const struct draft *d, const struct write *w) NEEDS(d->lock)
{
	const size_t first = staged_index(&d->staged, w->first);
	size_t behind = staged_index(&d->staged, w->last);

	if (behind < d->staged.count && d->staged.pieces[behind]->number == w->last)
		behind++;
	return (size_t)(w->last - w->first) + 1 - (behind - first);
}

/* Sees to it that what is written can be staged, and published later. */
static int make_room(struct draft *d, const struct write *w) NEEDS(d->lock)
{
	const size_t limit = (size_t)d->store->draft_memory, adds = write_adds(d, w);
	const size_t pieces = d->in_place || d->pieces_max < FLUSH_PIECES ? d->pieces_max :
									    FLUSH_PIECES;
	int rc = 0;

	if (adds > d->pieces_max || (d->in_place && d->staged.count + adds > pieces))
		return -EFBIG;
	if (d->staged.count && d->staged.count + adds > pieces)
		rc = built_flush(d);
	if (rc == 0 && d->staged.memory + 2 * STORE_CHUNK > limit)
		rc = draft_spill(d, limit / 2, w->first, w->last);
	return rc;
}

/* Does the window show what a write changed nothing of? */
static bool window_is_below(struct draft *d) NEEDS(d->lock)
{
	const struct piece *piece = staged_find(&d->staged, d->window_number);

	return !piece || piece->changes;
}

static int write_locked(struct draft *d, uint64_t offset, struct slice bytes) NEEDS(d->lock)
{
	const uint64_t end = offset + bytes.size;
	struct write w = {
		.offset = offset,
		.bytes = bytes,
		.first = (uint32_t)(offset / STORE_CHUNK),
		.last = (uint32_t)((end - 1) / STORE_CHUNK),
	};
	bool keep;
	int rc = check_growth(d, end);

	if (rc == 0)
		rc = make_room(d, &w);
	if (rc == 0)
		rc = write_run(d, &w);
	if (rc < 0)
		return rc;
	d->write_end = end;
	if (end > d->size)
		d->size = end;
	keep = d->window_valid && window_is_below(d);
	draft_touch(d);
	d->window_valid = keep;
	return 0;
}

int draft_write(struct draft *d, uint64_t offset, struct slice bytes)
{
	int rc;

	if (bytes.size == 0)
		return 0;
	if (offset > STORE_SIZE_MAX || bytes.size > STORE_SIZE_MAX - offset)
		return -EFBIG;
	mutex_lock(&d->lock);
	rc = write_locked(d, offset, bytes);
	mutex_unlock(&d->lock);
	return rc;
}

ssize_t draft_write_within(struct draft *d, uint64_t offset, struct slice bytes)
{
	int rc = 0;

	mutex_lock(&d->lock);
	if (offset >= d->size)
		bytes.size = 0;
	else if (bytes.size > d->size - offset)
		bytes.size = (size_t)(d->size - offset);
	if (bytes.size)
		rc = write_locked(d, offset, bytes);
	mutex_unlock(&d->lock);
	return rc < 0 ? rc : (ssize_t)bytes.size;
}

/* Adds to a piece that has changes only that it is cut off; it may have to be put first. */
static int cut_changed(struct draft *d, struct piece *piece, uint32_t end) NEEDS(d->lock)
{
	int rc;

	if (piece_changes_full(piece, 0)) {
		rc = draft_make_whole(d, piece);
	} else {
		rc = piece_reserve_change(&d->staged, piece, 0);
		if (rc == 0) {
			patches_cut(&piece->changes->list, end);
			piece->changes->count++;
		}
	}
	if (rc == 0)
		piece->used = end;
	return rc;
}

/* Cuts a chunk of the floor of which nothing is staged. */
static int cut_floor_chunk(struct draft *d, uint32_t number, uint32_t end) NEEDS(d->lock)
{
	struct piece *piece = piece_new(number);
	int rc = piece ? draft_base(d, piece) : -ENOMEM;

	if (rc == 0 && piece->base.used > end) {
		rc = staged_reserve(&d->staged, 1);
		if (rc == 0)
			rc = cut_changed(d, piece, end);
		if (rc == 0) {
			staged_put(&d->staged, piece);
			piece = NULL;
		}
	}
	piece_free(&d->staged, piece);
	return rc;
}

/* Cuts the chunk in which the value now ends, so that growing again shows zeros there. */
static int cut_last_chunk(struct draft *d, uint64_t size) NEEDS(d->lock)
{
	const uint32_t number = (uint32_t)(size / STORE_CHUNK), end = size % STORE_CHUNK;
	struct piece *piece = staged_find(&d->staged, number);
	int rc = 0;

	if (end == 0 || (piece && piece->used <= end))
		return 0;
	if (!piece)
		return number < d->floor_chunks ? cut_floor_chunk(d, number, end) : 0;
	if (piece->changes)
		return cut_changed(d, piece, end);
	if (piece->run.length)
		rc = draft_fetch(d, number);
	if (rc == 0)
		staged_find(&d->staged, number)->used = end;
	return rc;
}

/* What the floor keeps below chunk `chunks`: if that is none, or it has no holes, that is easy to
 * say. */
static int stored_below(struct draft *d, uint64_t chunks, uint64_t *stored) NEEDS(d->lock)
{
	const uint64_t end = chunks * STORE_CHUNK;
	uint64_t gone = 0;
	int rc = 0;

	if (chunks >= d->floor_chunks) {
		*stored = d->floor_stored;
	} else if (chunks == 0 || d->floor_stored == d->floor_size) {
		*stored = d->floor_size < end ? d->floor_size : end;
	} else {
		rc = chunks_stored(d->store, d->floor, chunks, d->floor_chunks, &gone);
		*stored = d->floor_stored - gone;
	}
	return rc;
}

static int cut(struct draft *d, uint64_t size) NEEDS(d->lock)
{
	const uint64_t chunks = chunk_count(size), end = chunks * STORE_CHUNK;
	uint64_t stored;
	int rc = stored_below(d, chunks, &stored);

	if (rc == 0)
		rc = cut_last_chunk(d, size);
	if (rc < 0)
		return rc;
	if (chunks <= UINT32_MAX)
		staged_drop(&d->staged, staged_index(&d->staged, (uint32_t)chunks),
			    d->staged.count);
	d->floor_stored = stored;
	if (d->floor_size > end)
		d->floor_size = end;
	if (d->floor_chunks > chunks)
		d->floor_chunks = chunks;
	if (size == 0)
		draft_floor_leave(d);
	return 0;
}

int draft_truncate(struct draft *d, uint64_t size)
{
	int rc;

	mutex_lock(&d->lock);
	rc = size < d->size || size == 0 ? cut(d, size) : check_growth(d, size);
	if (rc == 0) {
		d->size = size;
		draft_touch(d);
	}
	mutex_unlock(&d->lock);
	return rc;
}

/* ---- what stat shows ------------------------------------------------------------------------- */

/* How many bytes of a piece's chunk will be kept, or a few more. */
static uint32_t piece_stored(const struct piece *piece)
{
	struct chunk_shape shape = { .kind = CHUNK_INLINE, .used = piece->used };
	struct patches_sum sum;

	if (piece->changes && (piece->base.kind == 0 || piece->base.kind == CHUNK_SPARSE) &&
	    patches_sum(buffer_slice(&piece->changes->list), piece->base.used, &sum) == 0) {
		shape.kind = CHUNK_SPARSE;
		shape.patched = piece->base.patched + sum.bytes;
	}
	return chunk_stored(&shape);
}

static uint64_t stored_locked(struct draft *d) NEEDS(d->lock)
{
	uint64_t stored = d->floor_stored;

	if (!d->floor && d->size <= STORE_INLINE_MAX)
		return d->size;
	for (size_t i = 0; i < d->staged.count; i++) {
		struct piece *piece = d->staged.pieces[i];

		(void)draft_base(d, piece);	/* else it counts in full */
		stored += (uint64_t)piece_stored(piece) - chunk_stored(&piece->base);
	}
	return stored < d->size ? stored : d->size;
}

uint64_t draft_stored(struct draft *d)
{
	uint64_t stored;

	mutex_lock(&d->lock);
	stored = stored_locked(d);
	mutex_unlock(&d->lock);
	return stored;
}

uint64_t draft_size(struct draft *d)
{
	uint64_t size;

	mutex_lock(&d->lock);
	size = d->size;
	mutex_unlock(&d->lock);
	return size;
}

uint64_t draft_staged_since(struct draft *d)
{
	uint64_t since_ns;

	mutex_lock(&d->lock);
	since_ns = d->since_ns;
	mutex_unlock(&d->lock);
	return since_ns;
}

int64_t draft_mtime_ns(struct draft *d)
{
	int64_t mtime_ns;

	mutex_lock(&d->lock);
	mtime_ns = d->mtime_ns;
	mutex_unlock(&d->lock);
	return mtime_ns;
}

void draft_keep_mtime(struct draft *d)
{
	mutex_lock(&d->lock);
	d->mtime_ns = 0;
	mutex_unlock(&d->lock);
}
