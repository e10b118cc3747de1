#include "mem.h"

#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "locks.h"

static atomic_bool watched;	/* false outside tests, where counting would cost every thread */
static atomic_llong asked;
static atomic_llong fail_at = -1;
static atomic_bool fail_all;

enum { TRIM_THRESHOLD = 8 << 20 };	/* free bytes at the heap's end */

static bool fails(void)
{
	long long n, at;

	if (!atomic_load_explicit(&watched, memory_order_relaxed))
		return false;
	n = atomic_fetch_add(&asked, 1);
	at = atomic_load(&fail_at);
	return at >= 0 && (n == at || (n > at && atomic_load(&fail_all)));
}

void *mem_alloc(size_t size)
{
	return fails() ? NULL : malloc(size ? size : 1);
}

void *mem_zalloc(size_t size)
{
	return fails() ? NULL : calloc(1, size ? size : 1);
}

void *mem_realloc(void *old, size_t size)
{
	return fails() ? NULL : realloc(old, size ? size : 1);
}

void *mem_copy(const void *bytes, size_t size)
{
	void *copy = mem_alloc(size);

	if (copy && size)
		memcpy(copy, bytes, size);
	return copy;
}

void mem_free(void *memory)
{
	free(memory);
}

/* One heap for all threads: the others grow by a system call for each few pages. */
void mem_keep(void)
{
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 4 << 20);	/* over what a request is: 1 MiB, and its header */
	mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
	mallopt(M_TOP_PAD, 256 << 10);
#endif
}

void mem_hold(void)
{
#ifdef __GLIBC__
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

void mem_trim(void)
{
#ifdef __GLIBC__
	mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
	malloc_trim(0);
#endif
}

/* ---- blocks ----------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED	/* a heap of our own would hide from it who uses what he has freed */

void *mem_block(void)
{
	return mem_alloc(MEM_BLOCK);
}

void mem_block_free(void *block)
{
	mem_free(block);
}

void mem_blocks_trim(void)
{
}

#else

/* The one system call outside os_posix.c gives memory back.
 *
 * Blocks are cut from slabs, which are aligned to their size and never given back: only the memory
 * of free blocks is. Such a block is *cold*, and its slab's first block has a list of those. One
 * that was freed is *warm* until then: it is in a list that runs through the blocks themselves,
 * and the first to be used again. */
enum {
	SLAB_BLOCKS = 256,
	SLAB_SIZE = SLAB_BLOCKS * MEM_BLOCK,
	WARM_MAX = 256,			/* that a trim leaves */
	TRIM_BLOCKS = 16,		/* that it takes at a time, out of others' reach */
};

struct slab {
	struct slab *next;		/* among those that have cold blocks */
	unsigned count;
	uint16_t cold[SLAB_BLOCKS];	/* the latest last */
};

struct warm {
	struct warm *next;
};

static struct {
	struct mutex lock;		/* guards the rest; what is not atomic */
	struct slab *first;
	struct warm *warm;		/* the latest first */
	atomic_uint warm_count;
} heap = { .lock = { PTHREAD_MUTEX_INITIALIZER } };

static struct slab *slab_new(void)
{
	struct slab *slab = aligned_alloc(SLAB_SIZE, SLAB_SIZE);

	if (!slab)
		return NULL;
	slab->next = NULL;
	slab->count = 0;
	for (uint16_t i = SLAB_BLOCKS - 1; i > 0; i--)
		slab->cold[slab->count++] = i;
	return slab;
}

static void *take_warm(void) NEEDS(heap.lock)
{
	struct warm *block = heap.warm;

	heap.warm = block->next;
	heap.warm_count--;
	return block;
}

static void *take_cold(void) NEEDS(heap.lock)
{
	struct slab *slab = heap.first;
	char *block;

	if (!slab)
		slab = heap.first = slab_new();
	if (!slab)
		return NULL;
	block = (char *)slab + slab->cold[--slab->count] * (size_t)MEM_BLOCK;
	if (slab->count == 0)
		heap.first = slab->next;
	return block;
}

void *mem_block(void)
{
	void *block;

	if (fails())
		return NULL;
	mutex_lock(&heap.lock);
	block = heap.warm ? take_warm() : take_cold();
	mutex_unlock(&heap.lock);
	return block;
}

void mem_block_free(void *block)
{
	struct warm *warm = block;

	if (!block)
		return;
	mutex_lock(&heap.lock);
	warm->next = heap.warm;
	heap.warm = warm;
	heap.warm_count++;
	mutex_unlock(&heap.lock);
}

static void put_cold(void *block) NEEDS(heap.lock)
{
	const uintptr_t at = (uintptr_t)block;
	struct slab *slab = (struct slab *)(at / SLAB_SIZE * SLAB_SIZE);

	if (slab->count == 0) {
		slab->next = heap.first;
		heap.first = slab;
	}
	slab->cold[slab->count++] = (uint16_t)((at - (uintptr_t)slab) / MEM_BLOCK);
}

void mem_blocks_trim(void)
{
	void *blocks[TRIM_BLOCKS];
	unsigned count = 0;

	if (atomic_load_explicit(&heap.warm_count, memory_order_relaxed) <= WARM_MAX)
		return;
	do {
		mutex_lock(&heap.lock);
		while (count > 0)
			put_cold(blocks[--count]);
		while (count < TRIM_BLOCKS && heap.warm_count > WARM_MAX)
			blocks[count++] = take_warm();
		mutex_unlock(&heap.lock);
		for (unsigned i = 0; i < count; i++)
			(void)madvise(blocks[i], MEM_BLOCK, MADV_DONTNEED);
	} while (count > 0);
}

#endif

/* ---- for tests -------------------------------------------------------------------------- */

void mem_fail_after(int64_t count, int all)
{
	atomic_store(&asked, 0);
	atomic_store(&fail_at, count);
	atomic_store(&fail_all, all != 0);
	atomic_store(&watched, true);
}

int64_t mem_count(void)
{
	return atomic_load(&asked);
}
