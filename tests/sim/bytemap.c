#include "sim/bytemap.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

struct page {
	atomic_uint shared;	/* how many `struct bytemap` hold it */
	uint8_t bytes[PAGE];
};

void *sim_alloc(size_t size)
{
	return sim_realloc(NULL, size);
}

void *sim_realloc(void *old, size_t size)
{
	void *memory = realloc(old, size ? size : 1);

	if (!memory) {
		fputs("sim: out of memory\n", stderr);
		abort();
	}
	return memory;
}

static void page_drop(struct page *page)
{
	if (page && atomic_fetch_sub(&page->shared, 1) == 1)
		free(page);
}

/* Gives page `index` as our own, fit for writing. */
static struct page *page_own(struct bytemap *map, size_t index)
{
	struct page *old, *new;

	if (index >= map->count) {
		map->at = sim_realloc(map->at, (index + 1) * sizeof(struct page *));
		memset(map->at + map->count, 0,
		       (index + 1 - map->count) * sizeof(struct page *));
		map->count = index + 1;
	}
	old = map->at[index];
	if (old && atomic_load(&old->shared) == 1)
		return old;
	new = sim_alloc(sizeof(*new));
	atomic_init(&new->shared, 1);
	if (old)
		memcpy(new->bytes, old->bytes, PAGE);
	else
		memset(new->bytes, 0, PAGE);
	page_drop(old);
	map->at[index] = new;
	return new;
}

static struct page *page_at(const struct bytemap *map, uint64_t index)
{
	return index < map->count ? map->at[index] : NULL;
}

static size_t part_of(uint64_t offset, size_t size)
{
	const size_t left = PAGE - offset % PAGE;

	return size < left ? size : left;
}

void bytemap_read(const struct bytemap *map, uint64_t offset, void *bytes, size_t size)
{
	uint8_t *to = bytes;

	while (size) {
		const size_t part = part_of(offset, size);
		const struct page *page = page_at(map, offset / PAGE);

		if (page)
			memcpy(to, page->bytes + offset % PAGE, part);
		else
			memset(to, 0, part);
		to += part;
		offset += part;
		size -= part;
	}
}

static void clear(struct bytemap *map, uint64_t offset, size_t part)
{
	if (!page_at(map, offset / PAGE))
		return;
	if (part < PAGE) {
		memset(page_own(map, offset / PAGE)->bytes + offset % PAGE, 0, part);
		return;
	}
	page_drop(map->at[offset / PAGE]);
	map->at[offset / PAGE] = NULL;
}

void bytemap_write(struct bytemap *map, uint64_t offset, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	while (size) {
		const size_t part = part_of(offset, size);

		if (from) {
			memcpy(page_own(map, offset / PAGE)->bytes + offset % PAGE, from, part);
			from += part;
		} else {
			clear(map, offset, part);
		}
		offset += part;
		size -= part;
	}
}

void bytemap_cut(struct bytemap *map, uint64_t size)
{
	const uint64_t end = (uint64_t)map->count * PAGE;

	if (size < end)
		bytemap_write(map, size, NULL, end - size);
}

void bytemap_copy(struct bytemap *to, const struct bytemap *from)
{
	bytemap_done(to);
	if (from->count == 0)
		return;
	to->at = sim_alloc(from->count * sizeof(struct page *));
	to->count = from->count;
	memcpy(to->at, from->at, from->count * sizeof(struct page *));
	for (size_t i = 0; i < to->count; i++)
		if (to->at[i])
			atomic_fetch_add(&to->at[i]->shared, 1);
}

void bytemap_done(struct bytemap *map)
{
	for (size_t i = 0; i < map->count; i++)
		page_drop(map->at[i]);
	free(map->at);
	*map = (struct bytemap){ 0 };
}
