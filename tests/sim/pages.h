/* pages.h - the bytes of a simulated file: sparse, and shared until somebody writes.
 *
 * What was never written reads as zeros and costs nothing. A copy costs one pointer a page, so
 * that a test can keep thousands of states of a disk. One `struct pages` is not for several
 * threads at once; pages shared between two of them may be. Out of memory, the test is aborted.
 */
#ifndef CUBBY_SIM_PAGES_H
#define CUBBY_SIM_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct page;

/* All zeros is one that reads as zeros. */
struct pages {
	struct page **at;
	size_t count;
};

void pages_read(const struct pages *pages, uint64_t offset, void *bytes, size_t size);

/* Copies `bytes` there; NULL means zeros. */
void pages_write(struct pages *pages, uint64_t offset, const void *bytes, size_t size);

/* Everything from `size` on reads as zeros. */
void pages_cut(struct pages *pages, uint64_t size);

/* Makes `to` (which must be initialized) read as `from` does. */
void pages_copy(struct pages *to, const struct pages *from);

/* Frees what it holds and leaves it reading as zeros. */
void pages_done(struct pages *pages);

/* malloc and realloc that abort the test instead of failing: the store's own allocations are the
 * ones that tests let fail. */
void *sim_alloc(size_t size);
void *sim_realloc(void *old, size_t size);

#endif
