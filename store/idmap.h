/* idmap.h - a hash table from ids (never 0) to two numbers. Pure; share one and you must lock. */
#ifndef CUBBY_IDMAP_H
#define CUBBY_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
	uint64_t id;		/* 0: free */
	uint64_t a, b;		/* the user's; 0 when added */
};

/* All zeros is an empty one. */
struct idmap {
	struct idmap_slot *slots;
	size_t count;
	size_t capacity;	/* a power of two, or 0 */
};

/* NULL: it is not there. Valid until the next add or remove. */
struct idmap_slot *idmap_find(const struct idmap *map, uint64_t id);

/* Finds or adds. NULL: no memory. Valid until the next add or remove. */
struct idmap_slot *idmap_add(struct idmap *map, uint64_t id);

/* Removes a slot that was found. */
void idmap_remove(struct idmap *map, struct idmap_slot *slot);

/* Frees what it holds and leaves it empty, fit for use. */
void idmap_done(struct idmap *map);

#endif
