/* ref.h - a reference to a block of the page file: where it lies, and how to know it again.
 *
 * A block that is lost, stale, torn or somebody else's does not match the generation and sum in
 * the reference to it, so it is never taken for the right one. A length of 0 is no block.
 */
#ifndef CUBBY_REF_H
#define CUBBY_REF_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "format.h"

struct ref {
	uint64_t offset;	/* bytes, a multiple of UNIT */
	uint64_t generation;
	uint64_t sum;
	uint32_t length;	/* bytes; the block occupies whole units */
};

static inline uint64_t ref_units(const struct ref *ref)
{
	return ((uint64_t)ref->length + UNIT - 1) / UNIT;
}

static inline bool ref_equal(const struct ref *a, const struct ref *b)
{
	return a->offset == b->offset && a->generation == b->generation && a->sum == b->sum &&
	       a->length == b->length;
}

static inline void ref_encode(const struct ref *ref, void *to)
{
	uint8_t *p = to;

	put64(p + REF_OFFSET, ref->offset);
	put64(p + REF_GENERATION, ref->generation);
	put64(p + REF_SUM, ref->sum);
	put32(p + REF_LENGTH, ref->length);
}

/* Takes any bytes; whether they make sense is for ref_plausible to say. */
static inline struct ref ref_decode(const void *from)
{
	const uint8_t *p = from;

	return (struct ref){
		.offset = get64(p + REF_OFFSET),
		.generation = get64(p + REF_GENERATION),
		.sum = get64(p + REF_SUM),
		.length = get32(p + REF_LENGTH),
	};
}

/* Could this be a block of a page file of `units` units? */
static inline bool ref_plausible(const struct ref *ref, uint64_t units)
{
	return ref->length != 0 && ref->offset % UNIT == 0 &&
	       ref->offset / UNIT >= SUPER_UNITS && ref->offset / UNIT < units &&
	       ref_units(ref) <= units - ref->offset / UNIT;
}

#endif
