/* varint.h - integers that take as many bytes as they need: seven bits a byte, lowest first, the
 * top bit set on all but the last. Pure.
 *
 * Every number has exactly one encoding: a longer one is refused, so that what was decoded and
 * is encoded again gives the same bytes.
 */
#ifndef CUBBY_VARINT_H
#define CUBBY_VARINT_H

#include "bytes.h"

enum { VARINT_MAX = 10 };	/* bytes of the longest one */

/* Writes `v` to `to`, which has VARINT_MAX bytes, and returns how many it took. */
size_t varint_put(uint8_t *to, uint64_t v);

/* varint_take for a number of any length. */
int varint_take_long(struct slice *from, uint64_t *v);

/* Takes a number off the front of `from`, or answers -EUCLEAN and takes nothing. Most
 * are no more than three bytes: there no address is taken, so that all may stay in registers. */
static inline int varint_take(struct slice *from, uint64_t *v)
{
	const uint8_t *p = from->data;
	size_t size;

	if (from->size > 0 && p[0] < 0x80) {
		*v = p[0];
		size = 1;
	} else if (from->size > 1 && p[1] < 0x80 && p[1] > 0) {
		*v = (p[0] & 0x7fu) | (unsigned)p[1] << 7;
		size = 2;
	} else if (from->size > 2 && p[1] >= 0x80 && p[2] < 0x80 && p[2] > 0) {
		*v = (p[0] & 0x7fu) | (p[1] & 0x7fu) << 7 | (unsigned)p[2] << 14;
		size = 3;
	} else {
		struct slice rest = *from;
		uint64_t value = 0;
		const int rc = varint_take_long(&rest, &value);

		*from = rest;
		*v = value;
		return rc;
	}
	*from = slice_of(p + size, from->size - size);
	return 0;
}

/* Takes a number and as many bytes as it says off the front of `from`; they are lent. */
int varint_take_bytes(struct slice *from, struct slice *bytes);

/* Small negative numbers are short too: 0, -1, 1, -2 become 0, 1, 2, 3. */
static inline uint64_t zigzag(int64_t v)
{
	return (uint64_t)v << 1 ^ (uint64_t)(v < 0 ? -1 : 0);
}

static inline int64_t unzigzag(uint64_t v)
{
	return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

#endif
