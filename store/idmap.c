/* Open addressing with linear probing, at most half full. Removal moves later ones back instead of
 * leaving tombstones, so a table that is used for years stays as fast as a new one. */
#include "idmap.h"

#include "mem.h"

enum { CAPACITY_MIN = 16 };

static size_t home(const struct idmap *map, uint64_t id)
{
	return (size_t)((id * 0x9e3779b97f4a7c15u) >> 20) & (map->capacity - 1);
}

/* The slot of `id`, or the free one where it would go. */
static struct idmap_slot *probe(const struct idmap *map, uint64_t id)
{
	size_t i = home(map, id);

	while (map->slots[i].id && map->slots[i].id != id)
		i = (i + 1) & (map->capacity - 1);
	return &map->slots[i];
}

struct idmap_slot *idmap_find(const struct idmap *map, uint64_t id)
{
	struct idmap_slot *slot = map->capacity ? probe(map, id) : NULL;

	return slot && slot->id ? slot : NULL;
}

static int grow(struct idmap *map)
{
	struct idmap bigger = {
		.capacity = map->capacity ? map->capacity * 2 : CAPACITY_MIN,
		.count = map->count,
	};

	bigger.slots = mem_zalloc(bigger.capacity * sizeof(*bigger.slots));
	if (!bigger.slots)
		return -1;
	for (size_t i = 0; i < map->capacity; i++)
		if (map->slots[i].id)
			*probe(&bigger, map->slots[i].id) = map->slots[i];
	mem_free(map->slots);
	*map = bigger;
	return 0;
}

struct idmap_slot *idmap_add(struct idmap *map, uint64_t id)
{
	struct idmap_slot *slot = idmap_find(map, id);

	if (slot)
		return slot;
	if (map->count >= map->capacity / 2 && grow(map) < 0)
		return NULL;
	slot = probe(map, id);
	*slot = (struct idmap_slot){ .id = id };
	map->count++;
	return slot;
}

void idmap_remove(struct idmap *map, struct idmap_slot *slot)
{
	const size_t mask = map->capacity - 1;
	size_t hole = (size_t)(slot - map->slots);

	for (size_t i = (hole + 1) & mask; map->slots[i].id; i = (i + 1) & mask) {
		const size_t wanted = home(map, map->slots[i].id);

		if (((i - wanted) & mask) < ((i - hole) & mask))
			continue;	/* it lies between its home and the hole: fine there */
		map->slots[hole] = map->slots[i];
		hole = i;
	}
	map->slots[hole] = (struct idmap_slot){ 0 };
	map->count--;
}

void idmap_done(struct idmap *map)
{
	mem_free(map->slots);
	*map = (struct idmap){ 0 };
}
