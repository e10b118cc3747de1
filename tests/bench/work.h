/* work.h - what the bench does: each piece of work is something a user of a file system does.
 *
 * Work runs in the folder of a place. Pieces build on each other: what `create` makes in a round,
 * the others rewrite, read, rename, and `unlink` removes.
 */
#ifndef CUBBY_BENCH_WORK_H
#define CUBBY_BENCH_WORK_H

#include <stdbool.h>
#include <stdint.h>

/* Where the work is done, and in this order; each is a bit in what a piece of work asks for. */
enum where { PLAIN, NULLFS, PASSTHROUGH, STANDARD, CLOSE, PLACES };

/* A folder to work in, and what is true of it. */
struct place {
	const char *name; /* column of the table */
	const char *path; /* NULL: there is none, and nothing is done */
	bool close_is_durable; /* a value is on disk when close returns */
	bool put_is_atomic;    /* rewriting a file leaves the old or the new after a crash */
	int folder;            /* open on path */
	int round;             /* counted from 0 */
};

struct work {
	const char *name;
	const char *unit;                   /* of a count: "/s" or "MB/s" */
	double (*run)(struct place *place); /* does it; the count, for what was timed */
	unsigned places;                    /* where it is done: bits 1 << enum where */
};

/* In the order in which they have to run; ends with a NULL name. Those that nobody can wait for are
 * left out of a quick run, and the others are smaller. */
extern const struct work works[];
bool work_wanted(const struct work *work, bool quick);

/* "small", "durable" or "big": each part runs without the others. */
const char *work_part(const struct work *work);

/* Once for each place, before anything else. */
void work_prepare(struct place *place, unsigned places, bool quick);

/* The time that the last work's timed part took, in seconds. */
double work_seconds(void);

#endif
