#include "varint.h"

#include <errno.h>

size_t varint_put(uint8_t *to, uint64_t v)
{
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		to[n++] = (uint8_t)(v | 0x80);
	to[n++] = (uint8_t)v;
	return n;
}

int varint_take_long(struct slice *from, uint64_t *v)
{
	const uint8_t *p = from->data;
	uint64_t value = 0;

	for (size_t n = 0; n < from->size && n < VARINT_MAX; n++) {
		if (n == VARINT_MAX - 1 && p[n] > 1)
			return -EUCLEAN;	/* over 64 bits */
		value |= (uint64_t)(p[n] & 0x7f) << (7 * n);
		if (p[n] & 0x80)
			continue;
		if (n > 0 && p[n] == 0)
			return -EUCLEAN;	/* longer than it need be */
		*from = slice_of(p + n + 1, from->size - n - 1);
		*v = value;
		return 0;
	}
	return -EUCLEAN;
}

int varint_take_bytes(struct slice *from, struct slice *bytes)
{
	struct slice rest = *from;
	uint64_t size;
	int rc = varint_take(&rest, &size);

	if (rc < 0)
		return rc;
	if (size > rest.size)
		return -EUCLEAN;
	*bytes = slice_of(rest.data, (size_t)size);
	*from = slice_of((const uint8_t *)rest.data + size, rest.size - (size_t)size);
	return 0;
}
