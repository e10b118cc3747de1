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

/* Puts together the seven bits of each byte. */
static uint64_t gather(uint64_t word)
{
	word = (word & 0x7f007f007f007f00) >> 1 | (word & 0x007f007f007f007f);
	word = (word & 0x3fff00003fff0000) >> 2 | (word & 0x00003fff00003fff);
	return (word & 0x0fffffff00000000) >> 4 | (word & 0x000000000fffffff);
}

/* Bytes of the number at the front, if it ends within eight that are there; else 0. */
static size_t take_word(struct slice from, uint64_t *v)
{
	uint64_t word, ends;
	size_t size;

	if (from.size < sizeof(word))
		return 0;
	word = get64(from.data);
	ends = ~word & 0x8080808080808080;
	if (!ends)
		return 0;
	size = (unsigned)__builtin_ctzll(ends) / 8 + 1;
	*v = gather(word & UINT64_MAX >> (64 - 8 * size));
	return size;
}

int varint_take_long(struct slice *from, uint64_t *v)
{
	const uint8_t *p = from->data;
	uint64_t value = 0;
	const size_t size = take_word(*from, &value);

	if (size > 1 && p[size - 1] == 0)
		return -EUCLEAN;
	if (size > 0) {
		*from = slice_of(p + size, from->size - size);
		*v = value;
		return 0;
	}
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
