/* mem.h - where all of the store's memory comes from, so that a test may fail the seventh.
 *
 * NULL means no memory; nothing here aborts. All functions may be called from any thread.
 */
#ifndef CUBBY_MEM_H
#define CUBBY_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Gives `size` bytes, for mem_free. A size of 0 gives a pointer that may only be freed. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);

/* Like realloc: on NULL the old memory is as it was. */
void *mem_realloc(void *old, size_t size);

/* Gives a copy of `size` bytes. */
void *mem_copy(const void *bytes, size_t size);

/* Accepts NULL. */
void mem_free(void *memory);

/* Gives MEM_BLOCK bytes, page-aligned, for mem_block_free. Blocks have a heap of their own: those
 * that were freed are used again before any other, and mem_blocks_trim gives the memory of all but a
 * few MiB of them back to the system, whoever had them and whatever still lies around them, so that
 * a bound on blocks is a bound on memory. */
enum { MEM_BLOCK = 16 * 1024 };
void *mem_block(void);

/* Accepts NULL. Never waits for the system. */
void mem_block_free(void *block);

/* A system call of up to 200 us for each block given back: whoever frees many calls it when he holds
 * no lock any more. */
void mem_blocks_trim(void);

/* For a daemon, before it has threads: what was freed is kept for what comes next, up to 8 MiB at the
 * end of the heap. The system's own way takes memory for every large buffer anew, page by page,
 * and gives it back at once. */
void mem_keep(void);

/* Keeps all that is freed from now on, until mem_trim gives it back to the machine, as far as it
 * can: milliseconds. */
void mem_hold(void);
void mem_trim(void);

/* For tests: the allocation after the next `count` fails, and, if `all`, every later one too.
 * A negative count, as at start, fails none. */
void mem_fail_after(int64_t count, int all);

/* For tests: how many allocations have been asked for since mem_fail_after was last called. */
int64_t mem_count(void);

#endif
