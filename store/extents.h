/* extents.h - lists of pieces of the page file, in memory.
 *
 * A list grows by pieces of memory that were set aside in a pool before, so that adding cannot
 * fail; two lists are joined without any. Nothing locks. Functions return 0 or -ENOMEM.
 */
#ifndef CUBBY_EXTENTS_H
#define CUBBY_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref.h"

#define EXTENT_UNBORN UINT64_MAX	/* as a birth: no tree ever named it */

struct extent {
	uint64_t first;		/* unit */
	uint64_t birth;		/* generation of the first tree that named it */
	uint32_t count;		/* units */
};

struct extents_piece;

/* All zeros: an empty list. */
struct extents {
	struct extents_piece *first, *last;
	uint64_t count;
};

/* All zeros: nothing set aside. */
struct extents_pool {
	struct extents_piece *first;
	size_t pieces;
};

static inline struct extent extent_of(const struct ref *ref)
{
	return (struct extent){ ref->offset / UNIT, ref->generation, (uint32_t)ref_units(ref) };
}

/* Sets aside enough for `count` more extents, on `lists` lists together; or enough for one more
 * list than before. */
int extents_reserve(struct extents_pool *pool, uint64_t count, size_t lists);
int extents_reserve_one(struct extents_pool *pool);
void extents_pool_free(struct extents_pool *pool);

/* The pool must have what it takes. */
void extents_add(struct extents_pool *pool, struct extents *list, struct extent extent);

/* Puts all of `more` behind `list`. */
void extents_join(struct extents *list, struct extents *more);

/* Drops those for which `keep` answers false. */
void extents_filter(struct extents *list, bool (*keep)(void *arg, struct extent extent),
		    void *arg);

/* Calls visit for each, until one answer is not 0, and returns that. */
int extents_each(const struct extents *list, int (*visit)(void *arg, struct extent extent),
		 void *arg);

void extents_free(struct extents *list);

#endif
