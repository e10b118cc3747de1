/* ref.h - a reference to a block of the page file: where it lies, and how to know it again.
 *
 * A block that is lost, stale, torn or somebody else's does not match the generation and sum in
 * the reference to it, so it is never taken for the right one. A length of 0 is no block.
 *
 * A block lies in one piece, but for a run of 5 to 16 units that found no place in a row: that one
 * is *scattered*, in pieces of 4 units, the last of which may be shorter.
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
	uint64_t more[REF_PIECES - 1];	/* of a scattered block: offsets of its second piece and on,
					 * then zeros */
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

static inline bool ref_scattered(const struct ref *ref)
{
	return ref->more[0] != 0;
}

/* Into how many pieces it is scattered; 1: it is not. */
static inline uint32_t ref_pieces(const struct ref *ref)
{
	const uint64_t pieces = (ref_units(ref) + REF_PIECE_UNITS - 1) / REF_PIECE_UNITS;

	if (!ref_scattered(ref))
		return 1;
	return pieces < REF_PIECES ? (uint32_t)pieces : REF_PIECES;
}

/* Where piece `index` begins in the block. */
static inline uint32_t ref_piece_start(uint32_t index)
{
	return index * REF_PIECE_UNITS * UNIT;
}

/* Piece `index`, as a block without a sum. */
static inline struct ref ref_piece(const struct ref *ref, uint32_t index)
{
	const uint32_t start = ref_piece_start(index), whole = ref_piece_start(1);
	const uint32_t left = ref->length - start;

	if (!ref_scattered(ref))
		return *ref;
	return (struct ref){
		.offset = index ? ref->more[index - 1] : ref->offset,
		.generation = ref->generation,
		.length = left < whole ? left : whole,
	};
}

static inline uint32_t ref_size(const struct ref *ref)
{
	return ref_scattered(ref) ? REF_SCATTERED_SIZE : REF_SIZE;
}

/* Writes ref_size bytes. */
static inline void ref_encode(const struct ref *ref, void *to)
{
	uint8_t *p = to;

	put64(p + REF_OFFSET, ref->offset);
	put64(p + REF_GENERATION, ref->generation);
	put64(p + REF_SUM, ref->sum);
	put32(p + REF_LENGTH, ref->length | (ref_scattered(ref) ? REF_SCATTERED : 0));
	for (uint32_t i = 0; ref_scattered(ref) && i < REF_PIECES - 1; i++)
		put64(p + REF_MORE + i * 8, ref->more[i]);
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

/* The same of a run's, which may be scattered; false if `size` bytes are not enough. */
static inline bool ref_decode_run(const void *from, uint64_t size, struct ref *ref)
{
	const uint8_t *p = from;

	if (size < REF_SIZE)
		return false;
	*ref = ref_decode(p);
	if (!(ref->length & REF_SCATTERED))
		return true;
	if (size < REF_SCATTERED_SIZE)
		return false;
	ref->length &= ~REF_SCATTERED;
	for (uint32_t i = 0; i < REF_PIECES - 1; i++)
		ref->more[i] = get64(p + REF_MORE + i * 8);
	return ref_scattered(ref);
}

static inline bool ref_piece_plausible(uint64_t offset, uint64_t count, uint64_t units)
{
	return offset % UNIT == 0 && offset / UNIT >= SUPER_UNITS && offset / UNIT < units &&
	       count <= units - offset / UNIT;
}

/* Could this be a block of a page file of `units` units? */
static inline bool ref_plausible(const struct ref *ref, uint64_t units)
{
	const uint32_t pieces = ref_pieces(ref);

	if (!ref_scattered(ref))
		return ref->length && ref_piece_plausible(ref->offset, ref_units(ref), units);
	if (ref_units(ref) <= REF_PIECE_UNITS || ref_units(ref) > REF_PIECES * REF_PIECE_UNITS)
		return false;
	for (uint32_t i = 0; i < REF_PIECES; i++) {
		const struct ref piece = ref_piece(ref, i < pieces ? i : 0);

		if (i >= pieces ? ref->more[i - 1] != 0 :
				  !ref_piece_plausible(piece.offset, ref_units(&piece), units))
			return false;
	}
	return true;
}

#endif
