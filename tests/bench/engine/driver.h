/* driver.h - what the bench asks of an engine: one small table of functions for each.
 *
 * A bench has no use for half a result: a driver that fails says so with err(3) and ends the
 * process, which measures nothing but this one engine.
 */
#ifndef CUBBY_BENCH_DRIVER_H
#define CUBBY_BENCH_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"

struct settings {
	uint64_t cache;		/* bytes the engine may cache in memory of its own */
	bool keep_log;		/* no checkpoint before it is closed: all stays in the log */
};

/* A put, or a deletion if value.data is NULL. */
struct op {
	struct slice key, value;
};

/* Called back, on any thread, when an operation is durable. */
struct ticket {
	void (*done)(struct ticket *ticket);
	void *internal;		/* the driver's, from submit to done */
};

struct driver {
	const char *name;

	/* Opens or creates what lies in the folder `path`, which is there. */
	void *(*open)(const char *path, const struct settings *settings);
	void (*close)(void *db);

	/* What one thread needs for the functions below; NULL: `db` itself. */
	void *(*session)(void *db);
	void (*session_done)(void *session);

	/* Commits the operations as one. Returns when they are durable, if that is asked for. */
	void (*write)(void *session, const struct op *ops, size_t count, bool durable);

	/* Commits one and returns; the ticket is called back once it is durable. NULL: cannot. May
	 * do the writing and syncing for others. */
	void (*submit)(void *db, const struct op *op, struct ticket *ticket);

	/* NULL for what only keeps a log. */
	bool (*get)(void *session, struct slice key, struct buffer *value);

	/* Looks at `limit` entries from `from` on, in order; returns how many there were. */
	uint64_t (*scan)(void *session, struct slice from, uint64_t limit);
};

/* What a scan does with each value: whoever only hands out pointers must fetch the bytes too. */
static inline void look_at(const void *bytes, size_t size)
{
	if (size)
		(void)*(const volatile uint8_t *)bytes;
}

/* Those whose library is missing are not linked, and their address is NULL. */
extern const struct driver driver_floor, driver_cubby, driver_cubby_small;
extern const struct driver driver_lmdb __attribute__((weak));
extern const struct driver driver_rocksdb __attribute__((weak));
extern const struct driver driver_leveldb __attribute__((weak));
extern const struct driver driver_sqlite __attribute__((weak));
extern const struct driver driver_bdb __attribute__((weak));

#endif
