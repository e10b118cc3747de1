#include "mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool watched;	/* false outside tests, where counting would cost every thread */
static atomic_llong asked;
static atomic_llong fail_at = -1;
static atomic_bool fail_all;

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
