#include "sum.h"

#include <xxhash.h>

uint64_t sum64(const void *bytes, size_t size)
{
	return XXH3_64bits(bytes, size);
}
