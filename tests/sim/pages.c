#include "sim/pages.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

struct page {
	atomic_uint shared;	/* how many `struct pages` hold it */
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
static struct page *page_own(struct pages *pages, size_t index)
{
	struct page *old, *new;

	if (index >= pages->count) {
		pages->at = sim_realloc(pages->at, (index + 1) * sizeof(struct page *));
		memset(pages->at + pages->count, 0,
		       (index + 1 - pages->count) * sizeof(struct page *));
		pages->count = index + 1;
	}
	old = pages->at[index];
	if (old && atomic_load(&old->shared) == 1)
		return old;
	new = sim_alloc(sizeof(*new));
	atomic_init(&new->shared, 1);
	if (old)
		memcpy(new->bytes, old->bytes, PAGE);
	else
		memset(new->bytes, 0, PAGE);
	page_drop(old);
	pages->at[index] = new;
	return new;
}

static struct page *page_at(const struct pages *pages, uint64_t index)
{
	return index < pages->count ? pages->at[index] : NULL;
}

static size_t part_of(uint64_t offset, size_t size)
{
	const size_t left = PAGE - offset % PAGE;

	return size < left ? size : left;
}

void pages_read(const struct pages *pages, uint64_t offset, void *bytes, size_t size)
{
	uint8_t *to = bytes;

	while (size) {
		const size_t part = part_of(offset, size);
		const struct page *page = page_at(pages, offset / PAGE);

		if (page)
			memcpy(to, page->bytes + offset % PAGE, part);
		else
			memset(to, 0, part);
		to += part;
		offset += part;
		size -= part;
	}
}

static void clear(struct pages *pages, uint64_t offset, size_t part)
{
	if (!page_at(pages, offset / PAGE))
		return;
	if (part < PAGE) {
		memset(page_own(pages, offset / PAGE)->bytes + offset % PAGE, 0, part);
		return;
	}
	page_drop(pages->at[offset / PAGE]);
	pages->at[offset / PAGE] = NULL;
}

void pages_write(struct pages *pages, uint64_t offset, const void *bytes, size_t size)
{
	const uint8_t *from = bytes;

	while (size) {
		const size_t part = part_of(offset, size);

		if (from) {
			memcpy(page_own(pages, offset / PAGE)->bytes + offset % PAGE, from, part);
			from += part;
		} else {
			clear(pages, offset, part);
		}
		offset += part;
		size -= part;
	}
}

void pages_cut(struct pages *pages, uint64_t size)
{
	const uint64_t end = (uint64_t)pages->count * PAGE;

	if (size < end)
		pages_write(pages, size, NULL, end - size);
}

void pages_copy(struct pages *to, const struct pages *from)
{
	pages_done(to);
	if (from->count == 0)
		return;
	to->at = sim_alloc(from->count * sizeof(struct page *));
	to->count = from->count;
	memcpy(to->at, from->at, from->count * sizeof(struct page *));
	for (size_t i = 0; i < to->count; i++)
		if (to->at[i])
			atomic_fetch_add(&to->at[i]->shared, 1);
}

void pages_done(struct pages *pages)
{
	for (size_t i = 0; i < pages->count; i++)
		page_drop(pages->at[i]);
	free(pages->at);
	*pages = (struct pages){ 0 };
}
