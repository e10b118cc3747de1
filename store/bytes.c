#include "bytes.h"

#include <errno.h>

#include "mem.h"

enum { FIRST_CAPACITY = 256 };	/* most records and batches fit */

int buffer_grow(struct buffer *b, size_t more)
{
	size_t capacity = b->capacity ? b->capacity : FIRST_CAPACITY;
	uint8_t *data;

	if (more > SIZE_MAX / 2 - b->size)
		return -ENOMEM;
	while (capacity - b->size < more)
		capacity *= 2;
	data = mem_realloc(b->lent ? NULL : b->data, capacity);
	if (!data)
		return -ENOMEM;
	if (b->lent && b->size)
		memcpy(data, b->data, b->size);
	b->lent = false;
	b->data = data;
	b->capacity = capacity;
	return 0;
}

int buffer_append(struct buffer *b, const void *bytes, size_t size)
{
	const int rc = buffer_reserve(b, size);

	if (rc < 0)
		return rc;
	if (size)
		memcpy(b->data + b->size, bytes, size);
	b->size += size;
	return 0;
}

void buffer_done(struct buffer *b)
{
	if (!b->lent)
		mem_free(b->data);
	*b = (struct buffer){ 0 };
}
