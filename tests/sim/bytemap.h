/* bytemap.h - the bytes of a simulated file: sparse, and shared until somebody writes.
 *
 * What was never written reads as zeros and costs nothing. A copy costs one pointer a page, so
 * that a test can keep thousands of states of a disk. One `struct bytemap` is not for several
 * threads at once; pages shared between two of them may be. Out of memory, the test is aborted.
 */
#ifndef CUBBY_SIM_BYTEMAP_H
#define CUBBY_SIM_BYTEMAP_H

#include <stddef.h>
#include <stdint.h>

struct page;

/* All zeros is one that reads as zeros. */
struct bytemap {
	struct page **at;
	size_t count;
};

void bytemap_read(const struct bytemap *map, uint64_t offset, void *bytes, size_t size);

/* Copies `bytes` there; NULL means zeros. */
void bytemap_write(struct bytemap *map, uint64_t offset, const void *bytes, size_t size);

/* Everything from `size` on reads as zeros. */
void bytemap_cut(struct bytemap *map, uint64_t size);

/* Makes `to` (which must be initialized) read as `from` does. */
void bytemap_copy(struct bytemap *to, const struct bytemap *from);

/* Frees what it holds and leaves it reading as zeros. */
void bytemap_done(struct bytemap *map);

/* malloc and realloc that abort the test instead of failing: the store's own allocations are the
 * ones that tests let fail. */
void *sim_alloc(size_t size);
void *sim_realloc(void *old, size_t size);

#endif
