/* staged.h - the chunks of a draft that are staged, by number: in memory, or *spilled* to a run of
 * the page file. Share one and you must lock.
 */
#ifndef CUBBY_STAGED_H
#define CUBBY_STAGED_H

#include "engine.h"

/* One chunk: `used` bytes, zeros behind them. */
struct piece {
	uint32_t number;
	uint32_t used;
	uint32_t capacity;	/* of `bytes` */
	uint8_t *bytes;		/* owned; NULL if spilled, or if there are none */
	struct ref run;		/* length 0: not spilled; owned, until a commit names it */
};

/* All zeros is an empty one. */
struct staged {
	struct engine *engine;	/* lent: where runs go back to */
	struct piece **pieces;	/* sorted by number */
	size_t count, capacity;
	size_t memory;		/* bytes of all pieces in memory */
	size_t hand;		/* where staged_spill goes on */
};

/* The piece of this number, or NULL. */
struct piece *staged_find(const struct staged *s, uint32_t number);

/* The index of the first piece not below this number; s->count if there is none. */
size_t staged_index(const struct staged *s, uint32_t number);

/* Makes room for `more` pieces. */
int staged_reserve(struct staged *s, size_t more);

/* Puts a piece in, for which there is room; one with the same number is freed. Takes it over. */
void staged_put(struct staged *s, struct piece *piece);

/* Frees all pieces from index `from` up to `to`. */
void staged_drop(struct staged *s, size_t from, size_t to);

/* Frees all pieces that are spilled, but not their runs: a commit has taken those over. */
void staged_forget_runs(struct staged *s);

/* Frees everything and leaves it empty, fit for use. */
void staged_clear(struct staged *s);

/* Spills pieces but those numbered from `keep` to `keep_last`, until `target` bytes or fewer are
 * in memory, or all that can be spilled is. */
int staged_spill(struct staged *s, size_t target, uint32_t keep, uint32_t keep_last);

/* Spills one. With no bytes it stays as it is. */
int staged_spill_piece(struct staged *s, struct piece *piece);

/* A new piece without bytes, for staged_put or piece_free. NULL: no memory. */
struct piece *piece_new(uint32_t number);

/* Room for `size` bytes; those it has are kept. It may be in `s` or not yet. */
int piece_reserve(struct staged *s, struct piece *piece, uint32_t size);

/* Takes all bytes away from one that is in `s`: a chunk of zeros. */
void piece_clear(struct staged *s, struct piece *piece);

/* Frees it and gives its run back. Accepts NULL. */
void piece_free(struct staged *s, struct piece *piece);

#endif
