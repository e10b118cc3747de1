#include "patches.h"

#include <assert.h>
#include <errno.h>

#include "store.h"

int patches_next(struct slice list, size_t *at, struct patch *out)
{
	const uint8_t *p = (const uint8_t *)list.data + *at;
	const size_t left = list.size - *at;
	uint32_t offset, size;

	if (left == 0)
		return 0;
	if (left < PATCH_HEADER)
		return -EUCLEAN;
	offset = get16(p);
	size = get16(p + 2);
	if (size > left - PATCH_HEADER || size > STORE_CHUNK - offset)
		return -EUCLEAN;
	*out = (struct patch){ offset, size, (uint32_t)*at + PATCH_HEADER, p + PATCH_HEADER };
	*at += PATCH_HEADER + size;
	return 1;
}

int patches_sum(struct slice list, uint32_t used, struct patches_sum *out)
{
	struct patches_sum sum = { .used = used };
	struct patch patch;
	size_t at = 0;
	int rc;

	if (list.size > PATCHES_MAX)
		return -EUCLEAN;
	while ((rc = patches_next(list, &at, &patch)) > 0) {
		const uint32_t end = patch.offset + patch.size;

		sum.count++;
		sum.bytes += patch.size;
		sum.cuts |= patch.size == 0 || patch.offset > sum.used;
		if (patch.size == 0 ? end < sum.used : end > sum.used)
			sum.used = end;
	}
	if (rc < 0 || sum.count > PATCHES_COUNT)
		return -EUCLEAN;
	*out = sum;
	return 0;
}

void patches_lay(struct slice list, uint8_t *to, uint32_t start, uint32_t size)
{
	const uint32_t stop = start + size;
	struct patch patch;

	for (size_t at = 0; patches_next(list, &at, &patch) > 0;) {
		const uint32_t end = patch.size ? patch.offset + patch.size : STORE_CHUNK;
		const uint32_t from = patch.offset > start ? patch.offset : start;
		const uint32_t until = end < stop ? end : stop;

		if (from >= until)
			continue;
		if (patch.size)
			memcpy(to + (from - start), patch.bytes + (from - patch.offset),
			       until - from);
		else
			memset(to + (from - start), 0, until - from);
	}
}

/* The latest patch that changes one of these bytes. */
static bool latest(struct slice list, uint32_t offset, uint32_t size, struct patch *out)
{
	struct patch patch;
	bool found = false;

	for (size_t at = 0; patches_next(list, &at, &patch) > 0;) {
		const uint32_t end = patch.size ? patch.offset + patch.size : STORE_CHUNK;

		if (patch.offset < offset + size && end > offset) {
			*out = patch;
			found = true;
		}
	}
	return found;
}

bool patches_find(struct slice list, uint32_t offset, uint32_t size, uint32_t *at)
{
	struct patch patch;

	if (!latest(list, offset, size, &patch) || patch.offset > offset ||
	    patch.offset + patch.size < offset + size)
		return false;
	*at = patch.at + (offset - patch.offset);
	return true;
}

bool patches_touch(struct slice list, uint32_t offset, uint32_t size)
{
	struct patch patch;

	return latest(list, offset, size, &patch);
}

/* The latest patch, if it ends just before `offset`. */
static bool ends_at(struct slice list, uint32_t offset, struct patch *out)
{
	bool found = false;

	for (size_t at = 0; patches_next(list, &at, out) > 0;)
		found = out->size && out->offset + out->size == offset;
	return found;
}

uint32_t patches_add(struct buffer *list, uint32_t offset, struct slice bytes)
{
	const struct slice present = buffer_slice(list);
	struct patch last;
	uint32_t at;
	bool added;

	assert(bytes.size > 0 && list->size + patches_need(bytes.size) <= list->capacity);
	if (patches_find(present, offset, (uint32_t)bytes.size, &at)) {
		memcpy(list->data + at, bytes.data, bytes.size);
		return 0;
	}
	added = !ends_at(present, offset, &last);
	if (!added) {
		put16(list->data + last.at - 2, (uint16_t)(last.size + bytes.size));
	} else {
		put16(list->data + list->size, (uint16_t)offset);
		put16(list->data + list->size + 2, (uint16_t)bytes.size);
		list->size += PATCH_HEADER;
	}
	memcpy(list->data + list->size, bytes.data, bytes.size);
	list->size += bytes.size;
	return added;
}

void patches_cut(struct buffer *list, uint32_t offset)
{
	assert(list->size + patches_need(0) <= list->capacity);
	put16(list->data + list->size, (uint16_t)offset);
	put16(list->data + list->size + 2, 0);
	list->size += PATCH_HEADER;
}
