/* staged.h - the chunks of a draft that are staged, by number: whole in memory, *spilled* to a run
 * of the page file, or as *patches* to what is published. Share one and you must lock.
 */
#ifndef CUBBY_STAGED_H
#define CUBBY_STAGED_H

#include "engine.h"
#include "patches.h"
#include "record.h"

/* Changes to a chunk that is not here itself. */
struct changes {
	struct buffer list;	/* patches.h */
	uint32_t count;
};

/* One chunk: `used` bytes, zeros behind them. */
struct piece {
	uint32_t number;
	uint32_t used;
	uint32_t capacity;	/* of `bytes` */
	uint8_t *bytes;		/* owned; NULL if it is not in memory whole, or if there are none */
	struct ref run;		/* length 0: not spilled; owned, until a commit names it */
	struct changes *changes;	/* owned; NULL: it is whole, here or in its run */
	struct chunk_shape base;	/* what is published there, and this replaces or changes */
	bool base_known;	/* else it has not been looked at yet */
};

/* All zeros is an empty one. */
struct staged {
	struct store *store;	/* lent: where runs go, and go back to */
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

/* Spills one that is whole. With no bytes it stays as it is. */
int staged_spill_piece(struct staged *s, struct piece *piece);

/* A new piece without bytes, for staged_put or piece_free. NULL: no memory. */
struct piece *piece_new(uint32_t number);

/* Room for `size` bytes; those it has are kept. It may be in `s` or not yet. */
int piece_reserve(struct staged *s, struct piece *piece, uint32_t size);

/* Makes one without bytes into one that has changes only, with room for a change of `size` bytes;
 * or sees to that room. */
int piece_reserve_change(struct staged *s, struct piece *piece, uint32_t size);

/* Has it changes only, and is a change of `size` bytes more than it may have? */
bool piece_changes_full(const struct piece *piece, uint32_t size);

/* It is whole from here on, in the bytes it has: drops its changes. */
void piece_forget_changes(struct staged *s, struct piece *piece);

/* Takes all bytes away from one that is in `s`: a chunk of zeros. */
void piece_clear(struct staged *s, struct piece *piece);

/* Frees it and gives its run back. Accepts NULL. */
void piece_free(struct staged *s, struct piece *piece);

#endif
