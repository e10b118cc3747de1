/* sum.h - the checksum of everything on disk: XXH3-64 of libxxhash, seed 0.
 *
 * It finds accidents (rot, torn and misdirected writes), not forgery.
 */
#ifndef CUBBY_SUM_H
#define CUBBY_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t sum64(const void *bytes, size_t size);

#endif
