#include "extents.h"

#include <assert.h>
#include <errno.h>

#include "mem.h"

struct extents_piece {
	struct extents_piece *next;
	uint32_t count;
	struct extent items[42];	/* about 1 KiB */
};

enum { PIECE_ITEMS = sizeof(((struct extents_piece *)NULL)->items) / sizeof(struct extent) };

static int fill(struct extents_pool *pool, uint64_t pieces)
{
	while (pool->pieces < pieces) {
		struct extents_piece *piece = mem_alloc(sizeof(*piece));

		if (!piece)
			return -ENOMEM;
		piece->next = pool->first;
		pool->first = piece;
		pool->pieces++;
	}
	return 0;
}

int extents_reserve(struct extents_pool *pool, uint64_t count, size_t lists)
{
	return fill(pool, count / PIECE_ITEMS + lists);
}

int extents_reserve_one(struct extents_pool *pool)
{
	return fill(pool, pool->pieces + 1);
}

static void free_pieces(struct extents_piece *piece)
{
	while (piece) {
		struct extents_piece *next = piece->next;

		mem_free(piece);
		piece = next;
	}
}

void extents_pool_free(struct extents_pool *pool)
{
	free_pieces(pool->first);
	*pool = (struct extents_pool){ 0 };
}

void extents_free(struct extents *list)
{
	free_pieces(list->first);
	*list = (struct extents){ 0 };
}

void extents_add(struct extents_pool *pool, struct extents *list, struct extent extent)
{
	if (!list->last || list->last->count == PIECE_ITEMS) {
		struct extents_piece *piece = pool->first;

		assert(piece);		/* extents_reserve came before */
		pool->first = piece->next;
		pool->pieces--;
		piece->next = NULL;
		piece->count = 0;
		if (list->last)
			list->last->next = piece;
		else
			list->first = piece;
		list->last = piece;
	}
	list->last->items[list->last->count++] = extent;
	list->count++;
}

void extents_join(struct extents *list, struct extents *more)
{
	if (list->last)
		list->last->next = more->first;
	else
		list->first = more->first;
	if (more->last)
		list->last = more->last;
	list->count += more->count;
	*more = (struct extents){ 0 };
}

/* What stays moves up within its own piece; pieces left empty are freed. */
void extents_filter(struct extents *list, bool (*keep)(void *arg, struct extent extent),
		    void *arg)
{
	struct extents_piece **link = &list->first, *piece;

	list->last = NULL;
	list->count = 0;
	while ((piece = *link)) {
		uint32_t kept = 0;

		for (uint32_t i = 0; i < piece->count; i++)
			if (keep(arg, piece->items[i]))
				piece->items[kept++] = piece->items[i];
		piece->count = kept;
		list->count += kept;
		if (kept) {
			list->last = piece;
			link = &piece->next;
		} else {
			*link = piece->next;
			mem_free(piece);
		}
	}
}

int extents_each(const struct extents *list, int (*visit)(void *arg, struct extent extent),
		 void *arg)
{
	int rc = 0;

	for (const struct extents_piece *piece = list->first; piece && rc == 0; piece = piece->next)
		for (uint32_t i = 0; rc == 0 && i < piece->count; i++)
			rc = visit(arg, piece->items[i]);
	return rc;
}
