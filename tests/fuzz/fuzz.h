/* fuzz.h - what the fuzz targets share. Each is a program of libFuzzer's that gives any bytes to
 * one decoder; it sets magic numbers and checksums right, unless the input says otherwise, so that
 * it gets beyond them. What decodes is encoded again: it must be what it was.
 */
#ifndef CUBBY_FUZZ_H
#define CUBBY_FUZZ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise of ours, kept in every build. */
#define CHECK(what) ((what) ? (void)0 : abort())

/* Takes the first `size` bytes off the input; zeros stand for what it does not have. */
static inline void take(const uint8_t **data, size_t *size, void *to, size_t wanted)
{
	const size_t got = *size < wanted ? *size : wanted;

	memset(to, 0, wanted);
	if (got)
		memcpy(to, *data, got);
	*data += got;
	*size -= got;
}

static inline uint8_t take_byte(const uint8_t **data, size_t *size)
{
	uint8_t byte;

	take(data, size, &byte, 1);
	return byte;
}

#endif
