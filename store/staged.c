#include "staged.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"
#include "store_impl.h"
#include "store.h"

enum { PIECE_MIN = 256 };	/* bytes: what a piece starts with */

size_t staged_index(const struct staged *s, uint32_t number)
{
	size_t low = 0, high = s->count;

	/* whoever writes from front to back looks for the end each time */
	if (high && s->pieces[high - 1]->number < number)
		return high;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (s->pieces[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct piece *staged_find(const struct staged *s, uint32_t number)
{
	const size_t i = staged_index(s, number);

	return i < s->count && s->pieces[i]->number == number ? s->pieces[i] : NULL;
}

int staged_reserve(struct staged *s, size_t more)
{
	size_t capacity = s->capacity ? s->capacity : 4;
	struct piece **pieces;

	while (capacity < s->count + more)
		capacity *= 2;
	if (capacity == s->capacity)
		return 0;
	pieces = mem_realloc(s->pieces, capacity * sizeof(struct piece *));
	if (!pieces)
		return -ENOMEM;
	s->pieces = pieces;
	s->capacity = capacity;
	return 0;
}

static size_t piece_memory(const struct piece *piece)
{
	return piece->capacity + (piece->changes ? piece->changes->list.capacity : 0);
}

void staged_put(struct staged *s, struct piece *piece)
{
	const size_t i = staged_index(s, piece->number);

	if (i < s->count && s->pieces[i]->number == piece->number)
		staged_drop(s, i, i + 1);
	assert(s->count < s->capacity);
	memmove(s->pieces + i + 1, s->pieces + i, (s->count - i) * sizeof(struct piece *));
	s->pieces[i] = piece;
	s->count++;
	s->memory += piece_memory(piece);
}

void staged_drop(struct staged *s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		s->memory -= piece_memory(s->pieces[i]);
		piece_free(s, s->pieces[i]);
	}
	if (from < to)
		memmove(s->pieces + from, s->pieces + to, (s->count - to) * sizeof(struct piece *));
	s->count -= to - from;
}

void staged_forget_runs(struct staged *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->count; i++) {
		if (s->pieces[i]->run.length)
			mem_free(s->pieces[i]);
		else
			s->pieces[kept++] = s->pieces[i];
	}
	s->count = kept;
}

void staged_clear(struct staged *s)
{
	staged_drop(s, 0, s->count);
	mem_free(s->pieces);
	*s = (struct staged){ .store = s->store };
}

int staged_spill_piece(struct staged *s, struct piece *piece)
{
	int rc;

	if (piece->changes || !piece->bytes || piece->used == 0)
		return 0;
	rc = store_run_write(s->store, slice_of(piece->bytes, piece->used), &piece->run);
	if (rc < 0)
		return rc;
	s->memory -= piece->capacity;
	mem_free(piece->bytes);
	piece->bytes = NULL;
	piece->capacity = 0;
	return 0;
}

/* The hand goes round, so that the chunks at the front are not always the ones to go. */
int staged_spill(struct staged *s, size_t target, uint32_t keep, uint32_t keep_last)
{
	int rc = 0;

	for (size_t n = s->count; n > 0 && rc == 0 && s->memory > target; n--) {
		struct piece *piece;

		s->hand = s->hand < s->count ? s->hand : 0;
		piece = s->pieces[s->hand++];
		if (piece->number < keep || piece->number > keep_last)
			rc = staged_spill_piece(s, piece);
	}
	return rc;
}

struct piece *piece_new(uint32_t number)
{
	struct piece *piece = mem_zalloc(sizeof(*piece));

	if (piece)
		piece->number = number;
	return piece;
}

int piece_reserve(struct staged *s, struct piece *piece, uint32_t size)
{
	const bool counted = staged_find(s, piece->number) == piece;
	uint32_t capacity = piece->capacity ? piece->capacity : PIECE_MIN;
	uint8_t *bytes;

	assert(size <= STORE_CHUNK);
	if (size <= piece->capacity)
		return 0;
	while (capacity < size)
		capacity *= 2;
	bytes = mem_realloc(piece->bytes, capacity);
	if (!bytes)
		return -ENOMEM;
	if (counted)
		s->memory += capacity - piece->capacity;
	piece->bytes = bytes;
	piece->capacity = capacity;
	return 0;
}

int piece_reserve_change(struct staged *s, struct piece *piece, uint32_t size)
{
	const bool counted = staged_find(s, piece->number) == piece;
	const size_t before = piece_memory(piece);
	int rc;

	if (!piece->changes)
		piece->changes = mem_zalloc(sizeof(*piece->changes));
	if (!piece->changes)
		return -ENOMEM;
	rc = buffer_reserve(&piece->changes->list, patches_need(size));
	if (counted)
		s->memory += piece_memory(piece) - before;
	return rc;
}

bool piece_changes_full(const struct piece *piece, uint32_t size)
{
	const struct changes *changes = piece->changes;

	return changes && (changes->count >= PATCHES_COUNT ||
			   patches_need(size) > PATCHES_MAX - changes->list.size);
}

static void changes_free(struct changes *changes)
{
	if (changes)
		buffer_done(&changes->list);
	mem_free(changes);
}

void piece_forget_changes(struct staged *s, struct piece *piece)
{
	if (piece->changes && staged_find(s, piece->number) == piece)
		s->memory -= piece->changes->list.capacity;
	changes_free(piece->changes);
	piece->changes = NULL;
}

void piece_clear(struct staged *s, struct piece *piece)
{
	if (piece->run.length)
		engine_run_drop(s->store->engine, &piece->run);
	s->memory -= piece_memory(piece);
	changes_free(piece->changes);
	mem_free(piece->bytes);
	*piece = (struct piece){
		.number = piece->number, .base = piece->base, .base_known = piece->base_known,
	};
}

void piece_free(struct staged *s, struct piece *piece)
{
	if (!piece)
		return;
	if (piece->run.length)
		engine_run_drop(s->store->engine, &piece->run);
	changes_free(piece->changes);
	mem_free(piece->bytes);
	mem_free(piece);
}
