/* bytes.h - borrowed byte strings, growable buffers, and little- and big-endian integers.
 *
 * A `slice` is lent: whoever hands one out says until when it is valid. A `buffer` owns what it
 * holds. Integers are put and got one byte at a time, so nothing depends on the machine's
 * alignment or byte order. Nothing here locks; share a buffer and you must.
 */
#ifndef CUBBY_BYTES_H
#define CUBBY_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const void *data;
	size_t size;
};

static inline struct slice slice_of(const void *data, size_t size)
{
	return (struct slice){ data, size };
}

static inline struct slice slice_str(const char *text)
{
	return (struct slice){ text, strlen(text) };
}

/* Orders as memcmp does, a prefix before what it begins. */
static inline int slice_compare(struct slice a, struct slice b)
{
	const size_t shared = a.size < b.size ? a.size : b.size;
	const int order = shared ? memcmp(a.data, b.data, shared) : 0;

	return order ? order : (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
	return s.size >= prefix.size &&
	       (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

/* Owns `data`, unless that is lent. All zeros is an empty one. */
struct buffer {
	uint8_t *data;
	size_t size;
	size_t capacity;
	bool lent;
};

/* An empty one that asks for memory only when it outgrows `room`, which the caller has on his stack:
 * it must not outlive it, nor be handed on. */
static inline struct buffer buffer_on(uint8_t *room, size_t size)
{
	return (struct buffer){ .data = room, .capacity = size, .lent = true };
}

/* buffer_reserve where there is not enough room. */
int buffer_grow(struct buffer *b, size_t more);

/* Makes room for `more` bytes behind what is there, or answers -ENOMEM and changes nothing. */
static inline int buffer_reserve(struct buffer *b, size_t more)
{
	return more <= b->capacity - b->size ? 0 : buffer_grow(b, more);
}

/* Copies `bytes` to the end, or answers -ENOMEM and changes nothing. */
int buffer_append(struct buffer *b, const void *bytes, size_t size);

static inline void buffer_clear(struct buffer *b)
{
	b->size = 0;
}

/* Frees what it holds and leaves it empty, fit for use. */
void buffer_done(struct buffer *b);

static inline struct slice buffer_slice(const struct buffer *b)
{
	return (struct slice){ b->data, b->size };
}

/* memcpy for what is mostly short: 4 to 16 bytes are copied as two words, which may overlap. */
static inline void copy_short(void *to, const void *from, size_t size)
{
	uint64_t first, last;
	uint32_t begin, end;

	if (size < sizeof(begin) || size > 2 * sizeof(first)) {
		memcpy(to, from, size);
	} else if (size >= sizeof(first)) {
		memcpy(&first, from, sizeof(first));
		memcpy(&last, (const uint8_t *)from + size - sizeof(last), sizeof(last));
		memcpy(to, &first, sizeof(first));
		memcpy((uint8_t *)to + size - sizeof(last), &last, sizeof(last));
	} else {
		memcpy(&begin, from, sizeof(begin));
		memcpy(&end, (const uint8_t *)from + size - sizeof(end), sizeof(end));
		memcpy(to, &begin, sizeof(begin));
		memcpy((uint8_t *)to + size - sizeof(end), &end, sizeof(end));
	}
}

/* Copies `bytes` to `to`, and returns where they end there. */
static inline uint8_t *put_slice(uint8_t *to, struct slice bytes)
{
	if (bytes.size)
		memcpy(to, bytes.data, bytes.size);
	return to + bytes.size;
}

static inline void put16(void *to, uint16_t v)
{
	uint8_t *p = to;

	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void put32(void *to, uint32_t v)
{
	put16(to, (uint16_t)v);
	put16((uint8_t *)to + 2, (uint16_t)(v >> 16));
}

static inline void put64(void *to, uint64_t v)
{
	put32(to, (uint32_t)v);
	put32((uint8_t *)to + 4, (uint32_t)(v >> 32));
}

static inline uint16_t get16(const void *from)
{
	const uint8_t *p = from;

	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const void *from)
{
	return get16(from) | (uint32_t)get16((const uint8_t *)from + 2) << 16;
}

static inline uint64_t get64(const void *from)
{
	return get32(from) | (uint64_t)get32((const uint8_t *)from + 4) << 32;
}

/* Big-endian, for keys: as bytes they sort as the numbers do. */
static inline void put32be(void *to, uint32_t v)
{
	put32(to, __builtin_bswap32(v));
}

static inline void put64be(void *to, uint64_t v)
{
	put64(to, __builtin_bswap64(v));
}

static inline uint32_t get32be(const void *from)
{
	return __builtin_bswap32(get32(from));
}

static inline uint64_t get64be(const void *from)
{
	return __builtin_bswap64(get64(from));
}

#endif
